#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Each container has ids of its own, and its layers come by idmapped mounts.
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
ENGINE=(podman)
podman_short --userns=auto
