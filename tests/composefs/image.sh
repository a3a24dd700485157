# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by the suite beside it and by tests/engines/client-composefs.sh, after lib.sh: an image of composefs is made, mounted and
# damaged. It is a union of an erofs image, whose files have no data, and a data-only layer of objects, which are what their names say.
# CFSCTL is the command.

cfs() { "$CFSCTL" --repo repo "$@"; }
drop() { sync; echo 2 >/proc/sys/vm/drop_caches; }
# What is in a tree, but for the times of directories' reading and the numbers of inodes.
described() { (cd "$1" && find . -printf '%P %y %m %U %G %l ' \( -type f -printf '%s %T@' -o -true \) -printf '\n' | sort); }
same_tree() { # NAME
	is "$1: names and attributes" "$(described tree)" "$(described mnt)"
	check "$1: contents" diff -r --no-dereference tree mnt
}

# In $BASE, a new filesystem with fs-verity: `tree`, which is of Debian's, the repository, and the image of the tree in the file $object.
composefs_image() {
	local id packages='base-files bash coreutils grep libc6 libtinfo6 libselinux1 libacl1 libattr1 libcap2 libgmp10 libpcre2-8-0
		libssl3t64 sed'
	make_fs ext4 "$BASE" 512M -b 4096 -O verity || { skip 'all' "$WHY"; done_testing; }
	cd "$BASE" || exit 1
	mkdir tree mnt img
	# shellcheck disable=SC2086
	dpkg-query -L $packages 2>"$SEEN" | sort -u | while IFS= read -r f; do
		# The guest has no manuals.
		if [ -e "$f" ] || [ -h "$f" ]; then echo "$f"; fi
	done | tar -C / -cP --no-recursion -T - | tar -C tree -x
	head -c 3000000 /dev/urandom >tree/large
	: >tree/empty
	touch -d 2001-01-01 tree/large tree/empty
	ln tree/large tree/twice
	check 'there is a tree' test "$(find tree -type f | wc -l)" -gt 300
	check 'a repository with fs-verity' cfs init
	check 'its image' cfs create-image --no-propagate-usr-to-root tree debian
	id=$(cfs images 2>"$SEEN" | head -n 1)
	[ -n "$id" ] || not_ok 'the image has a name' "$(cat "$SEEN")"
	object=$(readlink -f repo/images/refs/debian)
	drop
}

# Mounted by its own command, on whatever has the name overlay; what was written to it is left in `upper`.
composefs_mounted() {
	local name=${CFSCTL##*/}
	check "$name mount" cfs mount refs/debian mnt
	check 'it asks for fs-verity' grep -q ' [^ ]*/mnt overlay .*verity=require' /proc/mounts
	same_tree "$name"
	prints 'a shell in it' works chroot mnt /bin/bash -c 'grep -q . /etc/debian_version && ls /usr/bin/bash | sed s,.*,works,'
	umount mnt
	mkdir upper work
	check "$name mount, to be written" cfs mount --upperdir upper --workdir work --read-write refs/debian mnt
	put mnt/etc/new new
	chmod 700 mnt/bin/bash
	add mnt/etc/debian_version more
	check 'a mode alone copies no data' has_mark upper/usr/bin/bash
	check 'and its digest stays' test "$(getfattr -h -e hex --only-values -n trusted.overlay.metacopy upper/usr/bin/bash | wc -c)" -ge 36
	check 'what is written has its data' lacks_mark upper/etc/debian_version
	prints 'a shell in that' works chroot mnt /bin/bash -c 'echo works'
	umount mnt
}

by_hand() { sys mount "$FSTYPE" mnt lowerdir+=img datadir+=repo/objects metacopy=on redirect_dir=on verity="$1"; } # VERITY

# Mounted by hand, the image at `img`, where it stays.
composefs_by_hand() {
	local verity
	mount -t erofs -o ro "$object" img || mount -t erofs -o ro,loop "$object" img
	for verity in off require; do
		drop
		check "by hand, verity=$verity" by_hand $verity
		same_tree "by hand, verity=$verity"
		prints "a shell in it, verity=$verity" works chroot mnt /bin/bash -c 'echo works'
		umount mnt
	done
}

# says TEXT: since the kernel's log had $said lines.
says() { dmesg | tail -n "+$((said + 1))" | grep -q "$1"; }

# Somebody exchanges the data of a file.
composefs_exchanged() {
	local name said
	name=$(getfattr -h --only-values -n trusted.overlay.redirect img/large)
	rm "repo/objects$name"
	head -c 3000000 /dev/zero >"repo/objects$name"
	drop
	said=$(dmesg | wc -l)
	by_hand require
	fails 'exchanged, without a digest' EIO cat mnt/large
	check 'the log says it' says 'has no fs-verity digest'
	fails 'by its other name' EIO cat mnt/twice
	prints 'others are read' "$(cat tree/etc/debian_version)" cat mnt/etc/debian_version
	umount mnt
	fsverity enable --hash-alg=sha512 "repo/objects$name"
	drop
	by_hand require
	fails 'exchanged, with another one' EIO cat mnt/large
	check 'the log says that' says 'has the wrong fs-verity digest'
	umount mnt
}

# composefs_refused: the command mounts what was damaged, and the damage is not read.
composefs_refused() {
	check "${CFSCTL##*/} mounts it" cfs mount refs/debian mnt
	fails 'and it is refused there' EIO cat mnt/large
	prints 'others are read there' "$(cat tree/etc/debian_version)" cat mnt/etc/debian_version
	umount mnt
}

composefs_end() {
	umount img
	cd /
	umount_below "$BASE"
	BASE=$SCRATCH/base
}
