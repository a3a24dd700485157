#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
ENGINE=(docker)
export DOCKER_HOST=unix://$XDG_RUNTIME_DIR/docker.sock PATH=$PATH:/usr/sbin:/sbin
/usr/share/docker.io/contrib/dockerd-rootless.sh --bridge=none --iptables=false --ip6tables=false >daemon.log 2>&1 &
daemon=$!
check 'the daemon' timeout 300 bash -c 'until docker version >/dev/null 2>&1; do sleep 2; done'
engine_observe 'driver' info -f "$DOCKER_DRIVER"
engine_image
engine_run
engine_end
kill $daemon
wait $daemon
done_testing
