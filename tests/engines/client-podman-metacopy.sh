#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
ENGINE=(podman --root /srv/podman-metacopy --runroot /run/podman-metacopy --storage-driver overlay --storage-opt 'overlay.mountopt=nodev,metacopy=on')
# shellcheck source=tests/engines/client-podman.sh
. "${HERE:?}/client-podman.sh"
