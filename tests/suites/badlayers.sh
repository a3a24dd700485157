#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Layers on filesystems that fail or lack features: an errno, nothing left behind, never a hang.
. "${0%/*}/lib.sh"

# Nothing that makes a call wait for ever passes unseen.
limited() { timeout 30 "$@"; }
empty() { [ -z "$(ls -A "$1")" ]; }

# ---- a device that fails under a lower layer
export DM_DISABLE_UDEV=1
device() { # TABLE-TYPE: what /dev/mapper/bad does from now on
	local size
	size=$(blockdev --getsz "$LOOP")
	case $1 in
	linear) echo "0 $size linear $LOOP 0" ;;
	error) echo "0 $size error" ;;
	esac >table
	dmsetup suspend --nolockfs bad && dmsetup load bad table && dmsetup resume bad
}
layers
truncate -s 32M "$IMAGES/bad.img"
mkfs.ext4 -q -F -O ^has_journal "$IMAGES/bad.img"
LOOP=$(losetup -f --show "$IMAGES/bad.img")
mkdir low
echo "0 $(blockdev --getsz "$LOOP") linear $LOOP 0" >table
if [ -n "$LOOP" ] && dmsetup create bad table >"$SEEN" 2>&1 && mount /dev/mapper/bad low; then
	mkdir -p low/l/d/e low/l/known lower1/known
	head -c 2000000 /dev/urandom >low/l/big
	put low/l/d/e/f x
	put low/l/small x
	ln -s "$(printf 'x%.0s' {1..200})" low/l/link
	umount low && mount -o ro /dev/mapper/bad low
	LOWER=low/l LAYERS=lowerdir=low/l,upperdir=upper,workdir=work
	mnt
	ls mnt >"$SEEN"
	stat mnt/big mnt/link >"$SEEN"
	device error
	echo 1 >/proc/sys/vm/drop_caches
	fails 'EIO: reading' EIO limited cat mnt/big
	fails 'EIO: copy-up by writing' EIO limited dd if=/dev/zero of=mnt/big bs=1 count=1 conv=notrunc
	fails 'EIO: copy-up by chmod' EIO limited chmod 600 mnt/big
	fails 'EIO: an entry never seen' EIO limited stat mnt/d/e/f
	fails 'EIO: listing' EIO limited ls mnt/d/e
	check 'EIO: nothing was copied up' absent upper/big
	check 'EIO: no temporary is left' empty work/work
	# A name that lower may have is not absent because it can't be read.
	fails 'EIO: a new file' EIO put mnt/new x
	check 'EIO: it was not made' absent upper/new
	device linear
	echo 2 >/proc/sys/vm/drop_caches
	check 'the device is back: reading' cmp mnt/big low/l/big
	check 'the device is back: copy-up' chmod 600 mnt/big
	check 'the device is back: the copy is whole' cmp upper/big low/l/big
	umnt
	umount low
	dmsetup remove bad
else
	skip 'a device that fails' "no device mapper: $(head -n 1 "$SEEN")"
fi
[ -z "$LOOP" ] || losetup -d "$LOOP"
rm -f "$IMAGES/bad.img"

# ---- an upper that is full, of blocks and of what a user may have
ON=' [full ext4]'
BASE=$SCRATCH/full
if make_fs ext4 "$BASE" 8M; then
	layers
	LAYERS=lowerdir=$SCRATCH/fulllow,upperdir=upper,workdir=work
	mkdir -p "$SCRATCH/fulllow/d"
	head -c 3000000 /dev/urandom >"$SCRATCH/fulllow/f"
	put "$SCRATCH/fulllow/d/x" x
	mnt
	dd if=/dev/zero of="$BASE/fill" bs=64K >"$SEEN" 2>&1
	fails 'ENOSPC: copy-up' ENOSPC limited chmod 600 mnt/f
	check 'ENOSPC: nothing was copied up' absent upper/f
	check 'ENOSPC: no temporary is left' empty work/work
	check 'ENOSPC: the file is as it was' cmp mnt/f "$SCRATCH/fulllow/f"
	rm "$BASE/fill"
	check 'room again: copy-up' chmod 600 mnt/f
	check 'room again: the copy is whole' cmp upper/f "$SCRATCH/fulllow/f"
	umnt
	cd /
	umount_below "$BASE"
else
	skip 'a full upper' "$WHY"
fi
ON=' [quota]'
BASE=$SCRATCH/quota
mkdir -p "$BASE"
if mount -t tmpfs -o mode=755,usrquota,usrquota_block_hardlimit=1M none "$BASE" 2>"$SEEN"; then
	layers
	chmod 777 upper lower1
	head -c 3000000 /dev/urandom >lower1/f
	chown 1001 lower1/f
	mnt
	# overlayfs copies with the mounter's credentials, whose CAP_SYS_RESOURCE it has dropped.
	check 'quota: what the copy of a large file of a user answers' \
		bash -c 'timeout 30 chmod 600 mnt/f 2>err || grep -q "quota exceeded" err'
	check 'quota: the file is whole' cmp mnt/f lower1/f
	check 'quota: no temporary is left' empty work/work
	umnt
	cd /
	umount_below "$BASE"
else
	skip 'a quota' "tmpfs has none: $(head -n 1 "$SEEN")"
fi
ON='' BASE=$SCRATCH/base

# ---- a FUSE server that dies
layers 2
mkdir -p real/d
for f in a b; do put real/$f $f; done
put lower2/other x
if command -v bindfs >/dev/null && bindfs -o attr_timeout=0,entry_timeout=0 real lower1 >"$SEEN" 2>&1; then
	mnt
	prints 'FUSE: it works' a cat mnt/a
	server=$(pgrep -f 'bindfs.*real lower1' | head -n 1)
	kill -KILL "$server"
	for ((i = 0; i < 50; i++)); do stat lower1/a >"$SEEN" 2>&1 || break; sleep 0.1; done
	check 'FUSE, the server is gone: an error, no hang' bash -c 'timeout 30 cat mnt/b; [ $? = 1 ]'
	check 'FUSE, the server is gone: copy-up fails' bash -c 'timeout 30 chmod 600 mnt/b; [ $? = 1 ]'
	check 'FUSE, the server is gone: nothing was copied up' absent upper/b
	check 'FUSE, the server is gone: no temporary is left' empty work/work
	check 'FUSE, the server is gone: listing does not hang' bash -c 'timeout 30 ls mnt >out 2>&1; [ $? != 124 ]'
	fails 'FUSE, the server is gone: a new file' ENOTCONN put mnt/new x
	check 'FUSE, the server is gone: it was not made' absent upper/new
	umnt
	umount -l lower1
else
	skip 'FUSE' "no bindfs: $(<"$SEEN")"
fi

# ---- no xattrs, no types: vfat
layers
truncate -s 16M "$IMAGES/vfat.img"
mkdir fat
if mkfs.vfat "$IMAGES/vfat.img" >"$SEEN" 2>&1 && mount -o loop "$IMAGES/vfat.img" fat 2>"$SEEN"; then
	mkdir -p fat/l/d fat/u fat/w
	put fat/l/File content
	put fat/l/d/x x
	if LAYERS=lowerdir=fat/l,upperdir=upper,workdir=work && mount -t "$FSTYPE" -o "$LAYERS" none mnt 2>"$SEEN"; then
		prints 'vfat below: reading' content cat mnt/File
		check 'vfat below: copy-up' add mnt/File more
		prints 'vfat below: the rest' x cat mnt/d/x
		check 'vfat below: removing' rm -r mnt/d
		umnt
	else
		ok 'vfat below: refused'
	fi
	check 'vfat as upper is refused' bash -c "! mount -t $FSTYPE -o lowerdir=lower1,upperdir=fat/u,workdir=fat/w none mnt 2>err"
	umount mnt 2>"$SEEN"
	umount fat
else
	skip 'vfat' "$(head -n 1 "$SEEN")"
fi
rm -f "$IMAGES/vfat.img"

# ---- lower layers whose filesystem has no UUID
layers
mkdir image sq sq2
put image/f content
put image/g content
if has_fs squashfs && command -v mksquashfs >"$SEEN" && mksquashfs image "$IMAGES/null.sqfs" -comp zstd -quiet -no-progress -noappend >"$SEEN" 2>&1 &&
	mount -o loop,ro "$IMAGES/null.sqfs" sq 2>"$SEEN" && cp "$IMAGES/null.sqfs" "$IMAGES/null2.sqfs" &&
	mount -o loop,ro "$IMAGES/null2.sqfs" sq2 2>"$SEEN"; then
	# keeps LOWERS OPTION: whether a file's number is the same after its copy-up and at the next mount.
	keeps() {
		local LAYERS=lowerdir=$1,upperdir=upper,workdir=work number
		rm -rf upper work
		mkdir upper work
		mnt "$2"
		number=$(stat -c %i mnt/f)
		chmod 600 mnt/f
		umnt
		mnt "$2"
		[ "$number" = "$(stat -c %i mnt/f)" ] && echo yes || echo no
		umnt
	}
	is 'no UUID, redirects: a file keeps its number' yes "$(keeps sq redirect_dir=on)"
	is 'no UUID, no redirects: lower may be replaced, so it does not' no "$(keeps sq redirect_dir=nofollow)"
	is 'two without UUID: nothing tells them apart' no "$(keeps sq:sq2 redirect_dir=on)"
	umount sq sq2
else
	skip 'no UUID' "no squashfs: $(head -n 1 "$SEEN")"
fi
rm -f "$IMAGES"/null*.sqfs

# ---- a lower layer whose filesystem stops where it cannot read on, without a word
names_of() { printf '%s\n' "$1"/* | sed 's,.*/,,' | paste -sd' '; } # DIR
layers
mkdir -p image/d image/alone sq lower1/d
touch image/{d,alone}/name{1..9} lower1/d/above
if has_fs squashfs && command -v mksquashfs >"$SEEN" && mksquashfs image "$IMAGES/cut.sqfs" -comp zstd -noI -quiet -no-progress -noappend >"$SEEN" 2>&1 &&
	# The length of a name is in the two bytes before it.
	perl -0777 -pi -e 's/..(?=name5)/\xff\xff/sg' "$IMAGES/cut.sqfs" && mount -o loop,ro "$IMAGES/cut.sqfs" sq 2>"$SEEN"; then
	LAYERS=lowerdir=lower1:sq,upperdir=upper,workdir=work mnt
	is 'the layer lists some' 'name1 name2 name3 name4' "$(names_of sq/alone)"
	for _ in 1 2 3; do
		is 'a directory of that layer alone is listed as it is there' 'name1 name2 name3 name4' "$(names_of mnt/alone)"
	done
	if [ "$FSTYPE" = rovl ]; then
		for _ in 1 2 3; do
			fails 'a merged directory of which not all is known is not listed' EIO ls mnt/d
		done
		rm mnt/d/above
		fails 'nor taken for an empty one' EIO rmdir mnt/d
	else
		is 'a merged directory lacks names' 'above name1 name2 name3 name4' "$(names_of mnt/d)"
	fi
	umnt
	umount sq
else
	skip 'a layer that is cut' "no squashfs: $(head -n 1 "$SEEN")"
fi
rm -f "$IMAGES/cut.sqfs"

done_testing
