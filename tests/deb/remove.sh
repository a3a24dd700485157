#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Switched back, and upgraded. The packages go while the drop-in is chosen once more: a forgotten line must not harm.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"
# shellcheck source=tests/deb/common.sh
. "$HERE/common.sh"

healthy
fstab_mount
# shellcheck disable=SC2034 # overlay_works reads it
drop_in=no
overlay_works
prints_status 'the next version says so' 0 'rovl +loaded, 1 mount' "overlay +the kernel's own" "chosen +the kernel's own"
umount /merged
sed -i '/ rovl /d' /etc/fstab
check 'the drop-in is chosen' switch_on
check 'apt removes the packages' apt_get remove 'rovl-*'
check 'the configuration is kept' grep -q '^install overlay' /etc/modprobe.d/rovl.conf
is 'no module is left' '' "$(find /lib/modules/ -name '*rovl*')"
is 'nor a line of depmod' '' "$(grep -r rovl "/lib/modules/$(uname -r)/modules.alias" "/lib/modules/$(uname -r)/modules.dep")"
check 'overlay is unloaded' modprobe -r overlay
overlay_works
check 'rovl is unloaded' rmmod rovl
fails_with 'unknown filesystem type' 'rovl is gone' mount -t rovl -o lowerdir=/etc:/usr none /mnt
done_testing
