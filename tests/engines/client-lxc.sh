#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
lxc=/var/lib/lxc
mkdir -p $lxc/base
cp -a "$TREE" $lxc/base/rootfs
mkdir $lxc/base/rootfs/out
cat >$lxc/base/rootfs/bin/job <<-'JOB'
	#!/bin/sh
	change
	view >/out/view
	grep ' / ' /proc/mounts >/out/mount
JOB
chmod 755 $lxc/base/rootfs/bin/job
cat >$lxc/base/config <<-CONF
	lxc.uts.name = base
	lxc.rootfs.path = dir:$lxc/base/rootfs
	lxc.net.0.type = empty
	lxc.init.cmd = /bin/job
	lxc.apparmor.profile = unconfined
	lxc.mount.auto = proc sys
CONF
check 'a snapshot' lxc-copy -s -B overlay -n base -N snap
check 'it runs' timeout 300 lxc-start -F -n snap -o "$SCRATCH/log"
delta=$(find $lxc/snap -type d -name delta0 -o -type d -name delta | head -n 1)
observe 'view' cat "$delta/out/view"
observe 'mount' cat "$delta/out/mount"
keep_upper "$delta/data"
check 'destroy' lxc-destroy -n snap
done_testing
