#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Each container has ids of its own, and its layers come by idmapped mounts.
set -- --userns=auto
# shellcheck source=tests/engines/client-podman.sh
. "${HERE:?}/client-podman.sh"
