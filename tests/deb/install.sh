#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The three commands of the README but the first, and what else an installation brings.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"
# shellcheck source=tests/deb/common.sh
. "$HERE/common.sh"

healthy
fails_with 'unknown filesystem type' 'there is no rovl yet' mount -t rovl -o lowerdir=/etc:/usr none /mnt
check 'apt installs the packages' apt_get install "$HERE"/rovl-*.deb
is 'the command' /usr/bin/rovl "$(command -v rovl)"
prints_status 'nothing is loaded' 0 'rovl +not loaded: /lib/modules/' 'overlay +not loaded' "chosen +the kernel's own"

mkdir -p /srv/rovl/{lower,upper,work} /merged
echo lower >/srv/rovl/lower/file
check 'mount' mount -t rovl -o lowerdir=/srv/rovl/lower,upperdir=/srv/rovl/upper,workdir=/srv/rovl/work none /merged
is 'by mount.rovl: layers by descriptor' 1 "$(grep -c 'lowerdir+=/srv/rovl/lower' /proc/mounts)"
echo changed >/merged/file
is 'it is a union' 'changed lower' "$(cat /merged/file /srv/rovl/lower/file | tr '\n' ' ' | sed 's/ $//')"
prints_status 'the module was loaded for it' 0 'rovl +loaded, 1 mount'
check 'unmount' umount /merged
cat >/etc/systemd/system/merged.mount <<-UNIT
	[Mount]
	What=union
	Where=/merged
	Type=rovl
	Options=lowerdir=/srv/rovl/lower,upperdir=/srv/rovl/upper,workdir=/srv/rovl/work
UNIT
check 'systemd takes a mount unit of ours' systemctl daemon-reload
check 'which is started' systemctl start merged.mount
is 'and mounts' 'rovl changed' "$(findmnt -no FSTYPE /merged) $(cat /merged/file)"
check 'and is stopped' systemctl stop merged.mount
fails_with '' 'and unmounts' mountpoint -q /merged
rm /etc/systemd/system/merged.mount
drop_in=no
overlay_works
is 'the parts of the initramfs stay away' '' "$(lsinitramfs "/boot/initrd.img-$(uname -r)" | grep rovl | grep -v 'modprobe.d/rovl.conf')"

# What the next boots find.
echo 'union /merged rovl lowerdir=/srv/rovl/lower,upperdir=/srv/rovl/upper,workdir=/srv/rovl/work 0 0' >>/etc/fstab
done_testing
