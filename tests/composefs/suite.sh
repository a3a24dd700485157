#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An image of composefs: seen by itself through a union of an erofs image, whose files have no data, and a data-only
# layer of objects, which are what their names say.
# shellcheck source=tests/suites/lib.sh
. "${0%/*}/../suites/lib.sh"

BASE=$SCRATCH/composefs
make_fs ext4 "$BASE" 512M -b 4096 -O verity || { skip 'all' "$WHY"; done_testing; }
cd "$BASE" || exit 1
cfs() { "$CFSCTL" --repo repo "$@"; }
drop() { sync; echo 2 >/proc/sys/vm/drop_caches; }
# What is in a tree, but for the times of directories' reading and the numbers of inodes.
described() { (cd "$1" && find . -printf '%P %y %m %U %G %l ' \( -type f -printf '%s %T@' -o -true \) -printf '\n' | sort); }
same_tree() { # NAME
	is "$1: names and attributes" "$(described tree)" "$(described mnt)"
	check "$1: contents" diff -r --no-dereference tree mnt
}

# ---- a tree of Debian's, an image of it
mkdir tree mnt img
packages='base-files bash coreutils grep libc6 libtinfo6 libselinux1 libacl1 libattr1 libcap2 libgmp10 libpcre2-8-0 libssl3t64 sed'
# shellcheck disable=SC2086
dpkg-query -L $packages 2>"$SEEN" | sort -u | while IFS= read -r f; do
	# The guest has no manuals.
	if [ -e "$f" ] || [ -h "$f" ]; then echo "$f"; fi
done | tar -C / -cP --no-recursion -T - | tar -C tree -x
head -c 3000000 /dev/urandom >tree/large
: >tree/empty
ln tree/large tree/twice
check 'there is a tree' test "$(find tree -type f | wc -l)" -gt 300
check 'a repository with fs-verity' cfs init
check 'its image' cfs create-image --no-propagate-usr-to-root tree debian
id=$(cfs images 2>"$SEEN" | head -n 1)
[ -n "$id" ] || not_ok 'the image has a name' "$(cat "$SEEN")"
object=$(readlink -f repo/images/refs/debian)
drop

# ---- mounted by its own command, on whatever has the name overlay
if [ "$FSTYPE" = overlay ]; then
	check 'cfsctl mount' cfs mount refs/debian mnt
	check 'it asks for fs-verity' grep -q ' [^ ]*/mnt overlay .*verity=require' /proc/mounts
	same_tree 'cfsctl'
	prints 'a shell in it' works chroot mnt /bin/bash -c 'grep -q . /etc/debian_version && ls /usr/bin/bash | sed s,.*,works,'
	umount mnt
	mkdir upper work
	check 'cfsctl mount, to be written' cfs mount --upperdir upper --workdir work --read-write refs/debian mnt
	put mnt/etc/new new
	chmod 700 mnt/bin/bash
	add mnt/etc/debian_version more
	check 'a mode alone copies no data' has_mark upper/usr/bin/bash
	check 'and its digest stays' test "$(getfattr -h -e hex --only-values -n trusted.overlay.metacopy upper/usr/bin/bash | wc -c)" -ge 36
	check 'what is written has its data' lacks_mark upper/etc/debian_version
	prints 'a shell in that' works chroot mnt /bin/bash -c 'echo works'
	umount mnt
	rm -r upper work
fi

# ---- by hand
mount -t erofs -o ro "$object" img || mount -t erofs -o ro,loop "$object" img
for verity in off require; do
	drop
	check "by hand, verity=$verity" sys mount "$FSTYPE" mnt lowerdir+=img datadir+=repo/objects metacopy=on redirect_dir=on verity=$verity
	same_tree "by hand, verity=$verity"
	prints "a shell in it, verity=$verity" works chroot mnt /bin/bash -c 'echo works'
	umount mnt
done

# ---- somebody exchanges the data of a file
name=$(getfattr -h --only-values -n trusted.overlay.redirect img/large)
rm "repo/objects$name"
head -c 3000000 /dev/zero >"repo/objects$name"
drop
dmesg -C
sys mount "$FSTYPE" mnt lowerdir+=img datadir+=repo/objects metacopy=on redirect_dir=on verity=require
fails 'exchanged, without a digest' EIO cat mnt/large
check 'the log says it' grep -q 'has no fs-verity digest' <(dmesg)
fails 'by its other name' EIO cat mnt/twice
prints 'others are read' "$(cat tree/etc/debian_version)" cat mnt/etc/debian_version
umount mnt
fsverity enable --hash-alg=sha512 "repo/objects$name"
drop
sys mount "$FSTYPE" mnt lowerdir+=img datadir+=repo/objects metacopy=on redirect_dir=on verity=require
fails 'exchanged, with another one' EIO cat mnt/large
check 'the log says that' grep -q 'has the wrong fs-verity digest' <(dmesg)
umount mnt
if [ "$FSTYPE" = overlay ]; then
	check 'cfsctl mounts it' cfs mount refs/debian mnt
	fails 'and it is refused there' EIO cat mnt/large
	umount mnt
fi
umount img
cd /
umount_below "$BASE"
BASE=$SCRATCH/base
done_testing
