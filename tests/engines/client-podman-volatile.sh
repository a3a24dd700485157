#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
ENGINE=(podman --root /srv/podman-volatile --runroot /run/podman-volatile --storage-driver overlay --storage-opt 'overlay.mountopt=nodev,volatile')
# shellcheck source=tests/engines/client-podman.sh
. "${HERE:?}/client-podman.sh"
