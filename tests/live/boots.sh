# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034,SC2317,SC2153 # live/test sources this file and has the rest
# The ways that live/test boots in: each function boots_NAME is one.

# disk NAME SIZE [FOLDER]: an ext4 disk with that label, and the folder's files; prints its path.
disk() {
	mke2fs -q -F -t ext4 -L "$1" ${3:+-d "$3"} "$out/$suite/$1.img" "$2" >/dev/null && printf '%s\n' "$out/$suite/$1.img"
}

# image FILE TEXT: a small lower layer.
image() {
	local tree
	tree=$(mktemp -d)
	chmod 755 "$tree"
	mkdir "$tree/etc"
	echo "$2" >"$tree/etc/issue"
	echo image >"$tree/etc/rovl-both"
	rm -f "$1"
	mkfs.erofs --all-root "$1" "$tree" >/dev/null
	rm -r "$tree"
}

# The filesystem of a kept upper layer was unmounted: no journal to replay, no error.
clean() { # NAME DISK
	# shellcheck disable=SC2016 # the inner shell's
	check "$1: unmounted cleanly" bash -c '! dumpe2fs -h "$1" 2>/dev/null | grep -E "^Filesystem (features:.*needs_recovery|state: *not clean)"' - "$2"
	check "$1: no error" e2fsck -fn "$2"
}

went_down() {
	console 'reboot: (Power down|Restarting system)|rovl: good bye'
	console_lacks 'rovl: still mounted'
}

# As a person does: the disc in a machine with a BIOS, and in one with UEFI.
boots_bios() {
	boot system "$iso"
	went_down
}

boots_uefi() {
	boot healthy --uefi "$iso"
	went_down
}

boots_toram() {
	boot healthy --append "$WORDS $LOWER toram rovl.verify rovl.upper=ram:300m" "$iso"
	console 'rovl: verifying root'
	went_down
}

boots_dracut() {
	local initrd
	initrd=$("$TOP/live/build" --dracut 2>"$out/$suite/build.log" | tail -n 1)
	check 'the initramfs' [ -s "$initrd" ]
	boot healthy --initrd "$initrd" --append "$WORDS $LOWER" "$iso"
	went_down
}

boots_readonly() { boot healthy --append "$WORDS $LOWER rovl.upper=none" "$iso"; }

boots_layers() {
	local tree=$out/$suite/tree layers
	mkdir -p "$tree/over/etc" "$tree/changes"
	echo directory >"$tree/over/etc/rovl-both"
	image "$tree/extra.erofs" 'a layer'
	layers=$(disk LAYERS 256m "$tree")
	boot layers --disk "$layers" --append "$WORDS rovl.lower=LABEL=LAYERS:over,UUID=$(blkid -o value -s UUID "$layers"):extra.erofs \
$LOWER rovl.upper=/dev/vdb:changes" "$iso"
	clean 'the disk of layers and changes' "$layers"
}

# Changes on a disk, over a reboot and a power-off.
boots_persist() {
	local upper
	upper=$(disk ROVL_UPPER 1g)
	set -- --disk "$upper" --append "$WORDS $LOWER rovl.upper=LABEL=ROVL_UPPER" "$iso"
	boot persist-write "$@"
	went_down
	clean 'after the reboot' "$upper"
	boot persist-read "$@"
	clean 'after the power-off' "$upper"
}

# Changes on a disk, over a power cut: what was synced is there.
boots_powercut() {
	local upper
	upper=$(disk ROVL_UPPER 1g)
	set -- --disk "$upper" --append "$WORDS $LOWER rovl.upper=LABEL=ROVL_UPPER" "$iso"
	boot '' --run persist-cut --until 'rovl-test: all that was' "$@"
	boot persist-after "$@"
	clean 'after the power cut and a boot' "$upper"
}

# A lower image that was made anew, under an upper layer that was kept.
boots_upgrade() {
	local tree=$out/$suite/tree upper one two words
	mkdir -p "$tree"
	image "$tree/extra.erofs" 'a layer'
	one=$(disk LAYERS 64m "$tree")
	cp "$one" "$one.old"
	upper=$(disk ROVL_UPPER 512m)
	words="$WORDS rovl.lower=LABEL=LAYERS:extra.erofs $LOWER rovl.upper=LABEL=ROVL_UPPER"
	boot healthy --disk "$one" --disk "$upper" --append "$words" "$iso"
	image "$tree/extra.erofs" 'a layer, upgraded'
	two=$(disk LAYERS 64m "$tree")
	boot '' --disk "$two" --disk "$upper" --append "$words" --until '\(initramfs\)' "$iso"
	console 'rovl: the upper layer on LABEL=ROVL_UPPER was made over other lower images'
	clean 'the refused upper layer' "$upper"
	boot healthy --disk "$two" --disk "$upper" --append "$words rovl.accept-new-lower" "$iso"
	console 'going on, as rovl.accept-new-lower says'
	boot healthy --disk "$two" --disk "$upper" --append "$words" "$iso"
}

# What can be wrong with the lower images: a message that names it, and a shell.
boots_badlower() {
	local tree=$out/$suite/tree bad
	mkdir -p "$tree"
	image "$tree/extra.erofs" 'a layer'
	(cd "$tree" && sha256sum extra.erofs >SHA256SUMS)
	printf 'x' | dd of="$tree/extra.erofs" bs=1 seek=5000 conv=notrunc status=none
	head -c 65536 /dev/zero >"$tree/zero.erofs"
	bad=$(disk BAD 64m "$tree")
	stops() { # MESSAGE LOWER
		boot '' --disk "$bad" --append "$WORDS rovl.wait=5 rovl.fallback=overlay $2" --until '\(initramfs\)' "$iso"
		console "$1"
	}
	stops 'rovl: no device LABEL=NOWHERE' rovl.lower=LABEL=NOWHERE:live/root.erofs
	stops 'rovl: no /none.erofs on LABEL=BAD' rovl.lower=LABEL=BAD:none.erofs
	stops 'rovl: the image /zero.erofs on LABEL=BAD is damaged' "rovl.lower=LABEL=BAD:zero.erofs $LOWER"
	stops 'rovl: the image extra.erofs on LABEL=BAD is damaged' "rovl.verify rovl.lower=LABEL=BAD:extra.erofs $LOWER"
	stops 'rovl: the images hold no /sbin/init' rovl.lower=LABEL=BAD:extra.erofs
}

# What can be wrong with the upper layer: the shell, or overlayfs with changes in RAM.
boots_badupper() {
	local full upper
	full=$(disk FULL 8m)
	# 20 blocks of 1 KiB stay free. debugfs makes holes of zeros.
	head -c $(($(dumpe2fs -h "$full" 2>/dev/null | sed -n 's/^Free blocks: *//p') - 20))K /dev/urandom >"$out/$suite/ballast"
	debugfs -w -R "write $out/$suite/ballast ballast" "$full" 2>/dev/null
	upper=$(disk ROVL_UPPER 64m)
	boot '' --disk "$upper,readonly=on" --append "$WORDS $LOWER rovl.upper=LABEL=ROVL_UPPER" --until '\(initramfs\)' "$iso"
	console 'rovl: persistence on LABEL=ROVL_UPPER: .*(read-only|write-protected)'
	boot '' --append "$WORDS $LOWER rovl.wait=5 rovl.upper=LABEL=ROVL_UPPER" --until '\(initramfs\)' "$iso"
	console 'rovl: no device LABEL=ROVL_UPPER'
	boot fallback --disk "$full" --append "$WORDS $LOWER rovl.upper=LABEL=FULL rovl.fallback=overlay" "$iso"
	console 'rovl: the upper layer on LABEL=FULL is full'
	console 'rovl: going on with overlay and an upper layer in RAM'
}

# in_initrd PATH FILE: the initramfs with that file in the place of its own; prints its path.
in_initrd() {
	local tree
	tree=$(mktemp -d)
	mkdir -p "$tree/${1%/*}"
	cp "$2" "$tree/$1"
	# The kernel finds a plain archive at multiples of four only.
	{ cat "$live/initrd.img"; head -c $((-$(stat -c %s "$live/initrd.img") & 3)) /dev/zero; (cd "$tree" && find usr | cpio -o -H newc --quiet -R 0:0); } >"$out/$suite/initrd.img"
	rm -r "$tree"
	printf '%s\n' "$out/$suite/initrd.img"
}

# No rovl.ko: overlayfs has it all.
boots_nomodule() {
	local initrd
	initrd=$(in_initrd "usr/lib/modules/$(cat "$BUILD/live/module/release")/updates/rovl.ko" /dev/null)
	boot '' --initrd "$initrd" --append "$WORDS $LOWER" --until '\(initramfs\)' "$iso"
	console 'rovl: no module rovl for kernel'
	boot fallback --initrd "$initrd" --append "$WORDS $LOWER rovl.fallback=overlay" "$iso"
	console 'rovl: going on with overlay'
}

# Software that knows nothing but overlayfs, with the drop-in.
boots_containers() { boot containers --append "$WORDS $LOWER" "$iso"; }

# The ISO with a squashfs, the only kind of image that live-boot knows; prints its path.
squashfs_iso() { LIVE_IMAGE=squashfs "$TOP/live/build" 2>"$out/$suite/build.log" | tail -n 1; }

boots_squashfs() {
	local squashfs
	squashfs=$(squashfs_iso)
	boot healthy --append "$WORDS rovl.lower=LABEL=ROVL_LIVE:live/root.squashfs" "$squashfs"
	went_down
}

boots_liveboot() {
	local initrd squashfs
	squashfs=$(squashfs_iso)
	# The kernel reads no other checksum.
	xz --check=crc32 -c "$BUILD/live/module/overlay.ko" >"$out/$suite/overlay.ko.xz"
	initrd=$(in_initrd "usr/lib/modules/$(cat "$BUILD/live/module/release")/kernel/fs/overlayfs/overlay.ko.xz" "$out/$suite/overlay.ko.xz")
	boot liveboot --initrd "$initrd" --append "boot=live ${WORDS#* }" "$squashfs"
}

# A device's firmware: tests/live/firmware-init is its own init, its results are on the console.
boots_firmware() {
	local upper n rc
	check 'the module' "$TOP/scripts/module" module
	check 'the squashfs' "$TOP/live/firmware/make-root" "$out/$suite/root.img" "$BUILD/module/rovl.ko" "$TOP/tests/live/firmware-init"
	[ -e "$out/$suite/root.img" ] || return 0
	upper=$(disk FIRMWARE 64m)
	for n in 1 2; do
		rc=0
		mkdir -p "$out/$suite/$n"
		"$TOP/live/guest" --out "$out/$suite/$n" --disk "$out/$suite/root.img,readonly=on" --disk "$upper" --kernel "$("$TOP/scripts/kernel" base)/arch/x86/boot/bzImage" \
			--append "console=ttyS0 root=/dev/vda rootfstype=squashfs ro init=/init UPPER=/dev/vdb panic=-1" >"$out/$suite/$n/err" 2>&1 || rc=$?
		tr -d '\r' <"$out/$suite/$n/console.log" | grep -E '^(not )?ok |^1\.\.' | sed 's/^/    /'
		dir=$out/$suite/$n
		result "boot $n" $rc "$(cat "$out/$suite/$n/err")"
		console '#STATUS 0 boots=\+{'$n'}'
		clean "boot $n" "$upper"
	done
}
