#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Lower layers on read-only filesystems and images, upper on each writable one.
. "${0%/*}/lib.sh"

source_tree() {
	layers
	SRC=$D/src
	mkdir -p src/d/sub src/empty
	put src/f content
	put src/d/g g
	put src/d/sub/h h
	put src/d/gone x
	ln -s f src/link
	chmod 640 src/d/g
	head -c 200000 /dev/urandom >src/big
	for i in {1..10}; do put "src/d/n$i" "$i"; done
}

# image TYPE DIR: DIR is a read-only mount of src as that type. Fails with WHY.
image() {
	local img=$IMAGES/lower.$((++NEW)) make low=$2
	mkdir -p "$low"
	case $1 in
	squashfs) make="mksquashfs src $img -comp zstd -quiet -no-progress -noappend" ;;
	erofs) make="mkfs.erofs $img src" ;;
	iso9660) make="$(command -v xorrisofs || command -v genisoimage || echo xorrisofs) -quiet -R -o $img src" ;;
	*)
		make_fs "$1" "$low" || return
		cp -a src/. "$low"
		rm -rf "$low/lost+found"
		mount -o remount,ro "$low"
		return
		;;
	esac
	WHY="the kernel has no $1"
	has_fs "$1" || return
	WHY="there is no ${make%% *}"
	command -v "${make%% *}" >/dev/null || return
	if ! { $make && mount -t "$1" -o loop,ro "$img" "$low"; } >"$SEEN" 2>&1; then
		not_ok "an image of $1" "$(cat "$SEEN")"
		exit 1
	fi
	rm "$img"
}


above() { # LOWER, as the only lower layer under an upper on the current BASE
	layers
	low=$SCRATCH/low/$1
	ON=" [$1 below $UPPER]"
	mountpoint -q "$low" || { skip "a read-only lower layer" "no $1 here, the reason is above"; return; }
	LAYERS=lowerdir=$low,upperdir=upper,workdir=work
	mnt
	is 'the same tree' "$TREE" "$(cd mnt && find . | sort)"
	check 'the same content' cmp "$SRC/big" mnt/big
	is 'the same metadata' "$(stat -c '%s %a %Y' "$SRC/d/g")" "$(stat -c '%s %a %Y' mnt/d/g)"
	prints 'a symlink' f readlink mnt/link
	ino=$(stat -c %d:%i mnt/big)
	# shellcheck disable=SC2016
	[ "$UPPER" != tmpfs ] || prints 'direct I/O, asked for later' 'content' perl -e '
		open my $f, "+<", "mnt/f" or die; fcntl $f, 4, 040002 or die "F_SETFL: $!";
		sysread $f, my $text, 4096 or die "read: $!"; print $text'
	add mnt/big more
	check 'copy-up' cmp -n 200000 "$SRC/big" upper/big
	is 'copy-up: the number stays' "$ino" "$(stat -c %d:%i mnt/big)"
	add mnt/d/sub/h more
	is 'copy-up of a path' $'h\nmore' "$(<upper/d/sub/h)"
	rm -r mnt/d/gone mnt/empty mnt/d/sub
	check 'a whiteout' is_whiteout upper/d/gone
	mkdir mnt/empty
	check 'a directory over a whiteout' is_opaque upper/empty
	mv mnt/f mnt/f2
	put mnt/d/new x
	is 'the listing after that' 12 "$(names mnt/d | wc -l)"
	before=$(cd mnt && find . -printf '%P %y %s %m\n' | sort)
	again
	is 'a new mount shows the same' "$before" "$(cd mnt && find . -printf '%P %y %s %m\n' | sort)"
	umnt
	check 'without upper' mount -t "$FSTYPE" -o "lowerdir=upper:$low" x mnt
	is 'without upper: the same' "$before" "$(cd mnt && find . -printf '%P %y %s %m\n' | sort)"
	umnt
}

LOWERS=(squashfs erofs iso9660 ext4 xfs btrfs tmpfs)
source_tree
TREE=$(cd src && find . | sort)
for type in "${LOWERS[@]}"; do
	image "$type" "$SCRATCH/low/$type" || echo "# no $type: $WHY"
done

each() {
	UPPER=$1
	for type in "${LOWERS[@]}"; do above "$type"; done
}
UPPERFS='tmpfs ext4' on_each_upper each
LOWERS=(erofs)
UPPERFS='xfs btrfs' on_each_upper each
umount_below "$SCRATCH/low"

# The host's folder, exported read-only: its server refuses to open for appending what is only read here.
remote=/rovl/tests/suites
if grep -q '^[^ ]* /rovl 9p ' /proc/mounts; then
	layers
	LAYERS=lowerdir=$remote,upperdir=upper,workdir=work
	mnt
	check '9p: appending' add mnt/nest.sh more
	check '9p: what was there' cmp -n "$(stat -c %s "$remote/nest.sh")" "$remote/nest.sh" mnt/nest.sh
	prints '9p: what was appended' more tail -n 1 mnt/nest.sh
	umnt
else
	skip '9p: appending' "$remote is not on 9p"
fi

# What statx(2) tells of a file that is protected by fs-verity.
verity=$IMAGES/verity.img
layers
mkdir low
truncate -s 64M "$verity"
mkfs.ext4 -q -F -b 4096 -O verity "$verity" >"$SEEN" 2>&1
check 'verity: a lower layer' mount -o loop "$verity" low
put low/f protected
# shellcheck disable=SC2016
check 'verity: a protected file' perl -e '
	open my $f, "<", "low/f" or die; my $arg = pack "L4 Q L2 Q Q11", 1, 1, 4096, (0) x 16;
	ioctl $f, 0x40806685, $arg or die "FS_IOC_ENABLE_VERITY: $!"'
LAYERS=lowerdir=low,upperdir=upper,workdir=work
mnt
# shellcheck disable=SC2016
prints 'verity: it is told' 1 perl -e '
	my ($st, $name) = (pack("x256"), "mnt/f"); syscall(332, -100, $name, 0, 0x7ff, $st) == 0 or die "statx: $!";
	print unpack("x8 Q", $st) >> 20 & 1'
umnt
umount low
rm "$verity"

# twins UUID UUID: two layers on filesystems with these UUIDs; the number of a copied-up file BEFORE and
# AFTER a new mount.
twins() {
	local i=0 uuid
	layers
	for uuid; do
		mkdir low$((++i))
		mkfs.erofs -U "$uuid" "$IMAGES/twin$i.img" "$SRC" >"$SEEN" 2>&1
		check "UUIDs: layer $i" mount -t erofs -o loop,ro "$IMAGES/twin$i.img" low$i
	done
	LOWER=low1:low2 LAYERS=lowerdir=low1:low2,upperdir=upper,workdir=work
	mnt
	add mnt/big more
	BEFORE=$(stat -c %i mnt/big)
	again
	AFTER=$(stat -c %i mnt/big)
	umnt
	umount low1 low2
	rm "$IMAGES"/twin*.img
}
ONE=11111111-2222-3333-4444-555555555555
twins $ONE 22222222-2222-3333-4444-555555555555
is 'two UUIDs: the number of a copy stays' "$BEFORE" "$AFTER"
twins $ONE $ONE
check 'one UUID for two filesystems: origins are not looked for' [ "$BEFORE" != "$AFTER" ]
done_testing
