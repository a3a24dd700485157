#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The command as it is built for this kernel, which gives the image's mount as a layer without a place for it, and for older ones.
# shellcheck disable=SC2034 # lib.sh reads it
FSTYPE=overlay
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
# shellcheck source=tests/composefs/image.sh
. "$HERE/image.sh"

# The mount at mnt with its options; its source says which image it is.
# shellcheck disable=SC2317 # observe calls it
mounted() { sed -n 's,^[^ ]* \([^ ]*/mnt overlay\),composefs \1,p' /proc/mounts; }
export -f mounted described

BASE=$SCRATCH/composefs CFSCTL=$HERE/cfsctl
[ -x "$CFSCTL" ] || { skip 'all' "cfsctl was not built: see the first lines of the test"; done_testing; }
composefs_image
for CFSCTL in "$HERE"/cfsctl*; do
	name=${CFSCTL##*/}
	cfs mount refs/debian mnt
	observe "$name-mount" mounted
	umount mnt
	composefs_mounted
	cfs mount --upperdir upper --workdir work --read-write refs/debian mnt
	observe "$name-mount-writable" mounted
	check 'times are set' touch -d 2001-01-01 mnt/etc/new mnt/etc/debian_version
	observe "$name-described" described mnt
	umount mnt
	keep_upper upper "$name-upper"
	rm -r upper work
done
composefs_by_hand
by_hand off
observe 'by-hand-mount' mounted
umount mnt
composefs_exchanged
for CFSCTL in "$HERE"/cfsctl*; do composefs_refused; done
composefs_end
done_testing
