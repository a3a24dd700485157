#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The part of rovl for dracut: see rovl-boot(7). Not in an image by itself: dracut --add rovl.

check() { return 255; }

depends() { echo base shutdown; }

installkernel() {
	hostonly='' instmods rovl overlay loop erofs squashfs isofs udf vfat nls_cp437 nls_ascii nls_iso8859-1 \
		nls_utf8 ext4 xfs btrfs sr_mod =drivers/ata =drivers/usb/storage =drivers/nvme =drivers/virtio =drivers/block
}

install() {
	inst_multiple awk blkid blockdev cat cp cut dd df dmesg du grep losetup mkdir modprobe mount rm sed sha256sum \
		sleep sync tr umount uname
	inst_multiple -o e2fsck
	inst_simple /usr/lib/rovl/rovl-root
	# shellcheck disable=SC2154 # dracut's
	inst_hook cmdline 90 "$moddir/parse-rovl.sh"
	inst_hook mount 90 "$moddir/mount-rovl.sh"
}
