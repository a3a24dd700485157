#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
ENGINE=(docker)
docker_daemon ''
engine_image
engine_run
engine_more
engine_end
check 'the daemon ends' systemctl stop docker.socket docker containerd
done_testing
