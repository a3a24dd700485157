#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# After the first reboot: the mount of fstab, and the choice of the drop-in.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"
# shellcheck source=tests/deb/common.sh
. "$HERE/common.sh"

healthy
fstab_mount
# shellcheck disable=SC2034 # overlay_works reads it
drop_in=no
overlay_works
check 'the drop-in is chosen' switch_on
check 'the initramfs has it' grep -q 'rovl-overlay\.ko' <(lsinitramfs "/boot/initrd.img-$(uname -r)")
prints_status 'the choice is for the next boot' 1 "overlay +the kernel's own" 'chosen +the drop-in, from the next boot on'
done_testing
