#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
mv /etc/containerd/config.toml config.toml
cat >/etc/containerd/config.toml <<-'TOML'
	version = 2
	[plugins."io.containerd.snapshotter.v1.overlayfs"]
	  mount_options = ["volatile"]
TOML
check 'the daemon' systemctl start containerd
ctr_life
check 'the daemon ends' systemctl stop containerd
mv config.toml /etc/containerd/config.toml
done_testing
