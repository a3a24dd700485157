# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by what tests on an installed Debian: a system with systemd and its own kernel, as an ext4 image with the label
# ROVL_SYSTEM in the cache.
# shellcheck disable=SC2154 # out and suite are live/harness.sh's

SYSTEM_SUITE=trixie
SYSTEM_KERNEL='~n^linux-image-7\.3[.+deb0-9]*-amd64$'
SYSTEM_PACKAGES="dbus e2fsprogs initramfs-tools kmod linux-base/$SYSTEM_SUITE-backports systemd systemd-sysv udev zstd"

# system_image NAME PACKAGES [FUNCTION]: prints the path of the image; what it is made of is in its name. FUNCTION is called
# with the tree and has no other functions.
system_image() {
	local name=$1 packages="$SYSTEM_PACKAGES $2" function=${3-} image key
	key=$(printf '%s\n' "$SYSTEM_SUITE" "$packages" "$SYSTEM_KERNEL" "$(kernel_version)" \
		"$(declare -f system_hook ${function:+"$function"})" | sha256sum | cut -c1-12)
	image=$CACHE/deb/$name-$key.ext4
	mkdir -p "$CACHE/deb"
	[ -e "$image" ] || step "a Debian to install packages on, $name (5 min)" quiet "$BUILD/log/system-$name.log" \
		make_system "$image" "$packages" "$function"
	printf '%s\n' "$image"
}

make_system() {
	local image=$1 packages=$2 function=$3 mirror
	mirror=$(debian_mirror)
	mmdebstrap --variant=important --format=null --keyring="$(debian_keyring)" --aptopt='APT::Install-Recommends "false"' \
		--include="$(printf '%s' "$packages" | tr -s ' \n\t' ','),$SYSTEM_KERNEL" \
		--customize-hook="$(declare -f system_hook ${function:+"$function"}); system_hook \"\$1\" $function" \
		--customize-hook="download /system.ext4 $image.new" \
		"$SYSTEM_SUITE" /dev/null "deb $mirror $SYSTEM_SUITE main" "deb $mirror $SYSTEM_SUITE-backports main" &&
		fallocate -d "$image.new" && mv "$image.new" "$image"
}

# Runs in mmdebstrap; see scripts/image about that.
system_hook() { # TREE [FUNCTION]
	set -e
	local root=$1
	echo rovl-test >"$root/etc/hostname"
	chroot "$root" passwd -q -d root
	printf 'LABEL=ROVL_SYSTEM / ext4 defaults 0 1\n' >"$root/etc/fstab"
	# What its own devices need alone: each initramfs of the test is made under emulation.
	echo MODULES=list >"$root/etc/initramfs-tools/conf.d/small"
	printf 'virtio_pci\nvirtio_blk\next4\n' >>"$root/etc/initramfs-tools/modules"
	chroot "$root" update-initramfs -u
	: >"$root/etc/machine-id"
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
	# The first boot has nothing to bring up to date.
	touch "$root/etc/.updated" "$root/var/.updated"
	[ -z "${2-}" ] || "$2" "$root"
	# Without what is mounted in the tree.
	mount --bind "$root" "$root/mnt"
	mke2fs -q -t ext4 -L ROVL_SYSTEM -d "$root/mnt" "$root.ext4" 3g
	umount "$root/mnt"
	mv "$root.ext4" "$root/system.ext4"
}

# boot_system IMAGE OPTIONS RELEASE SCRIPT DISK...: boots it with its own kernel and initramfs of the moment; see boot of live/harness.sh.
boot_system() {
	local image=$1 options=$2 release=$3 script=$4 file tree=$out/$suite disks=()
	shift 4
	for file in vmlinuz initrd.img; do
		debugfs -R "dump /boot/$file-$release $tree/$file" "$image" 2>/dev/null
	done
	for file; do disks+=(--disk "$file"); done
	boot "$script" --disk "$image,$options" --kernel "$tree/vmlinuz" --initrd "$tree/initrd.img" "${disks[@]}" \
		--append 'root=LABEL=ROVL_SYSTEM rw console=ttyS0 no_timer_check systemd.default_timeout_start_sec=900'
}
