#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
check 'the daemon' systemctl start containerd
ROOTFS=/run/containerd/io.containerd.runtime.v2.task/default/one/rootfs
ctr_life
check 'the daemon ends' systemctl stop containerd
done_testing
