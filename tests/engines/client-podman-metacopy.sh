#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
ENGINE=(podman --root /srv/podman-metacopy --runroot /run/podman-metacopy --storage-driver overlay --storage-opt 'overlay.mountopt=nodev,metacopy=on')
podman_short "$@"
