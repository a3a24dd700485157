#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
ENGINE=(podman --root /srv/podman-volatile --runroot /run/podman-volatile --storage-driver overlay --storage-opt 'overlay.mountopt=nodev,volatile')
podman_short "$@"
