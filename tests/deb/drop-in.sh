#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# With the drop-in chosen: it is overlay. The next version is installed, which keeps the choice; then back.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"
# shellcheck source=tests/deb/common.sh
. "$HERE/common.sh"

healthy
fstab_mount
# shellcheck disable=SC2034 # overlay_works reads it
drop_in=yes
overlay_works
prints_status 'status says so' 0 'overlay +the drop-in' 'chosen +the drop-in'
check 'modprobe removes it' modprobe -r overlay
check 'modprobe loads it, with parameters' modprobe overlay redirect_dir=Y
is 'which it has' Y "$(cat /sys/module/overlay/parameters/redirect_dir)"

before=$(dpkg-query -W -f '${Version}' rovl-tools)
check 'apt installs the next version' apt_get install "$HERE"/next/rovl-*.deb
check 'it is a newer one' dpkg --compare-versions "$(dpkg-query -W -f '${Version}' rovl-tools)" gt "$before"
check 'the initramfs has what boots on a rovl root' grep -q usr/lib/rovl/rovl-root <(lsinitramfs "/boot/initrd.img-$(uname -r)")
prints_status 'the drop-in is chosen still' 0 'overlay +the drop-in' 'chosen +the drop-in'
check 'the choice is undone' switch_back
prints_status 'it is for the next boot' 1 'overlay +the drop-in' "chosen +the kernel's own, from the next boot on"
is 'the initramfs is without it' '' "$(lsinitramfs "/boot/initrd.img-$(uname -r)" | grep rovl-overlay)"
done_testing
