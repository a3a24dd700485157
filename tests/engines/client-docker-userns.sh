#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
DOCKER_OPTIONS=',"userns-remap":"user"'
# shellcheck source=tests/engines/client-docker.sh
. "${HERE:?}/client-docker.sh"
