#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
mkdir -p /etc/containerd
cat >/etc/containerd/config.toml <<'TOML'
version = 2
[plugins."io.containerd.snapshotter.v1.overlayfs"]
  mount_options = ["volatile"]
TOML
# shellcheck source=tests/engines/client-containerd.sh
. "${HERE:?}/client-containerd.sh"
