#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
mkdir -p /etc/schroot/rovl
touch /etc/schroot/rovl/{copyfiles,nssdatabases}
echo 'proc /proc proc rw 0 0' >/etc/schroot/rovl/fstab
cat >/etc/schroot/chroot.d/rovl <<-CONF
	[rovl]
	type=directory
	directory=$TREE
	union-type=overlay
	profile=rovl
	root-users=root
	shell=/bin/sh
CONF
# shellcheck disable=SC2317 # observe calls it
in_schroot() { timeout 300 schroot -d / "$@"; }
export -f in_schroot
observe 'once' in_schroot -c rovl -- sh -c 'change && view && grep " / " /proc/mounts'
check 'begin' in_schroot -b -c rovl -n session
check 'run' in_schroot -r -c session -- change
observe 'view' in_schroot -r -c session -- view
keep_upper /var/lib/schroot/union/overlay/session/upper
check 'end' in_schroot -e -c session
done_testing
