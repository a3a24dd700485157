#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What syncfs and umount make durable: all that was changed through the mount. rovl leaves alone what others have written
# to upper's filesystem, which overlayfs writes back; where nothing was changed it does nothing.
. "${0%/*}/lib.sh"

# ---- what the device gets
# Nothing is written back but what is asked for, so that the counters of the device tell of one command alone.
vm() { # NAME VALUE: of /proc/sys/vm
	put "/proc/sys/vm/$1" "$2"
}
for name in dirty_writeback_centisecs dirty_background_ratio dirty_ratio; do
	eval "OLD_$name=$(cat /proc/sys/vm/$name)"
done
vm dirty_writeback_centisecs 0
vm dirty_ratio 90
vm dirty_background_ratio 80

MIB=$((1 << 20))
FOREIGN=24
# The loop device that the filesystem at BASE is on.
on_loop() { awk -v at="$BASE" '$2 == at { sub("/dev/", "", $1); print $1 }' /proc/mounts; }
written() { awk '{ print $7 * 512 }' "/sys/block/$(on_loop)/stat"; }
# gets COMMAND...: runs it; GOT is what the device got, in bytes.
gets() {
	local before
	before=$(written)
	check "${*@Q}" "$@"
	GOT=$(($(written) - before))
}
at_least() { check "$1: written" test "$GOT" -ge "$2"; } # NAME BYTES
at_most() { is "$1: at most $2 bytes are written" yes "$([ "$GOT" -le "$2" ] && echo yes || echo "$GOT")"; }
foreign() { dd if=/dev/urandom of="$BASE/foreign" bs=1M count=$FOREIGN conv=notrunc 2>"$SEEN"; }
own() { dd if=/dev/urandom of="$1" bs=1M count="${2:-4}" conv=notrunc 2>"$SEEN"; } # FILE [MIB]
others() { # NAME: what others have written was left alone by rovl
	if [ "$FSTYPE" = rovl ] && [ "$APART" = 1 ]; then
		at_most "$1: others'" $((FOREIGN * MIB / 2))
	else
		at_least "$1: others'" $((FOREIGN * MIB))
	fi
}
nothing() { # NAME: rovl does nothing
	[ "$FSTYPE" != rovl ] || is "$1: nothing is written" 0 "$GOT"
}

bytes() { # FILESYSTEM
	APART=1
	# Nor does a journal by itself, which would after five seconds.
	[ "$1" != ext4 ] || mount -o remount,commit=1000 "$BASE"
	layers
	put lower1/low lower
	put lower1/other other
	mkdir upper/dir
	own upper/old
	sync -f .
	mnt
	foreign
	[ "$FSTYPE" != rovl ] || {
		gets sync -f mnt
		nothing 'nothing was changed'
	}
	foreign
	own mnt/new 4
	gets sync -f mnt
	at_least 'syncfs' $((4 * MIB))
	others 'syncfs'
	foreign
	gets sync -f mnt
	nothing 'again'

	for change in 'chmod 0600 mnt/old' 'mkdir mnt/made' 'mv mnt/made mnt/renamed' 'rm -d mnt/renamed' 'setfattr -n user.a -v b mnt/dir'; do
		sync -f .
		$change
		gets sync -f mnt
		at_least "$change" 512
	done

	# Files that nobody has open any more, whose inodes the mount has forgotten.
	foreign
	own mnt/left
	own mnt/old
	add mnt/low more
	check 'the mount forgets' forget
	gets sync -f mnt
	at_least 'after it has forgotten' $((8 * MIB))
	others 'after it has forgotten'

	# A file that stays open, and one that stays mapped.
	foreign
	exec {fd}<>mnt/open
	dd if=/dev/urandom bs=1M count=2 1>&"$fd" 2>"$SEEN"
	gets sync -f mnt
	at_least 'an open file' $((2 * MIB))
	others 'an open file'
	dd if=/dev/urandom bs=1M count=2 1>&"$fd" 2>"$SEEN"
	gets sync -f mnt
	at_least 'and again' $((2 * MIB))
	exec {fd}>&-
	coproc xfs_io mnt/old >"$SEEN.map" 2>&1
	local pid=$COPROC_PID to=${COPROC[1]}
	echo 'mmap -rw 0 2m' >&"$to"
	sleep 1
	gets sync -f mnt
	for i in 1 2; do
		foreign
		echo "mwrite -S $i 0 2m" >&"$to"
		sleep 2
		gets sync -f mnt
		at_least "a mapping, $i" $((2 * MIB))
		others "a mapping, $i"
	done
	echo quit >&"$to"
	wait "$pid"

	# What is removed takes no room.
	sync -f .
	own mnt/gone 16
	forget
	own mnt/gone 16
	forget
	local free
	sync -f mnt
	free=$(stat -f -c %a .)
	own mnt/gone2 16
	forget
	check 'a file that was left is removed' rm mnt/gone2
	sync -f .
	is 'its room is free' yes "$([ "$(stat -f -c %a .)" -ge $((free - 1024)) ] && echo yes)"

	# Unmounting.
	own mnt/last 4
	foreign
	gets umount mnt
	at_least 'umount' $((4 * MIB))
	others 'umount'
	sync -f .
	mnt
	foreign
	prints 'a mount that reads' other cat mnt/other
	gets umount mnt
	nothing 'umount'
	mnt
	own mnt/last 4
	foreign
	gets sys reconfigure mnt ro
	at_least 'remount,ro' $((4 * MIB))
	others 'remount,ro'
	umnt
	cd /
	check 'the filesystem below can be unmounted' umount "$BASE"
}

# Filesystems whose names are not durable by a commit: all is written back as ever.
whole() { # MKFS-OPTION MOUNT-OPTION
	local where=$SCRATCH/whole
	APART=0 ON=" [ext4 $1 $2]" BASE=$where
	# shellcheck disable=SC2086
	make_fs ext4 "$where" 96M ${1:+-O $1} || { skip 'the old way' "$WHY"; return; }
	[ -z "$2" ] || mount -o "remount,$2" "$where"
	layers
	sync -f .
	mnt
	foreign
	own mnt/new
	gets sync -f mnt
	at_least 'syncfs' $((4 * MIB))
	others 'syncfs'
	foreign
	umnt
	cd /
	umount_below "$where"
}

# ---- what is there after a cut
# cut: what the device has now, mounted at cut.
cut() {
	local image=$IMAGES/cut.$((++NEW)).img options=loop
	dd if="/dev/$(on_loop)" of="$image" bs=1M iflag=direct conv=sparse 2>"$SEEN" || return
	[ "$1" != xfs ] || options+=,nouuid
	mkdir -p "$SCRATCH/cut"
	mount -t "$1" -o "$options" "$image" "$SCRATCH/cut" || return
	rm "$image"
}
uncut() { umount "$SCRATCH/cut"; }

changes() { # of the tree in mnt
	put mnt/new new
	put mnt/low copied
	add mnt/far/file more
	chmod 0711 mnt/mode
	setfattr -n user.colour -v blue mnt/attr
	rm mnt/gone
	mkdir mnt/dir
	ln mnt/new mnt/dir/link
	ln -s new mnt/symlink
	mv mnt/upper mnt/moved
	truncate -s 100 mnt/short
	sys tmpfile mnt/dir 0600 mnt/dir/tmpfile
	xfs_io -c 'pwrite -q -S 97 0 5000' mnt/block
	xfs_io -c 'mmap -rw 0 4k' -c 'mwrite -S 98 0 4096' mnt/mapped
}
tree() { # DIR: what the union shows of it
	(cd "$1" && find . -printf '%p %y %m %l\n' | sort && find . -type f | sort | xargs md5sum && getfattr -h -n user.colour attr)
}
survives() { # TYPE NAME
	local want
	want=$(tree "$KEPT")
	if ! cut "$1" >"$SEEN" 2>&1; then
		skip "$2: after a cut" "the copy of the device is not mounted: $(tail -n1 "$SEEN")"
		return
	fi
	mkdir -p seen
	if mount -t "$FSTYPE" -o "lowerdir=$D/lower1,upperdir=$SCRATCH/cut/t$T/upper,workdir=$SCRATCH/cut/t$T/work" union seen; then
		is "$2: after a cut" "$want" "$(tree seen)"
		umount seen
	else
		not_ok "$2: after a cut" 'expected: a mount'
	fi
	uncut
}
cuts() {
	local way
	KEPT=$SCRATCH/kept
	for way in 'sync -f mnt' 'forget; sync -f mnt' 'umount mnt' 'sys reconfigure mnt ro'; do
		layers
		T=$NEW
		mkdir lower1/far
		for name in low far/file mode attr gone mapped; do put "lower1/$name" "lower $name"; done
		head -c 9000 /dev/urandom >lower1/block
		head -c 9000 /dev/urandom >lower1/short
		put upper/upper upper
		sync -f .
		mnt
		changes
		rm -rf "$KEPT"
		cp -a mnt "$KEPT"
		eval "$way" || not_ok "$way" 'expected: success'
		survives "$1" "$way"
		! mountpoint -q mnt || umnt
	done
}

# tmpfs is on no device.
TYPES=${UPPERFS:-ext4 xfs btrfs}
TYPES=${TYPES/tmpfs/}
for type in ${TYPES:-ext4}; do
	case $type in ext4) size=128M ;; xfs) size=320M ;; *) size=192M ;; esac
	UPPERFS=$type UPPER_SIZE=$size on_each_upper bytes
	UPPERFS=$type UPPER_SIZE=$size on_each_upper cuts
done
whole ^has_journal ''
whole '' lazytime

for name in dirty_writeback_centisecs dirty_background_ratio dirty_ratio; do
	old=OLD_$name
	vm $name "${!old}"
done
done_testing
