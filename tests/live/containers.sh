#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Software that knows nothing but overlayfs, with the drop-in in its place.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' rovl "$FSTYPE"
check 'the drop-in is loaded' insmod "$HERE/overlay.ko"
check 'it is rovl' grep -q 'rovl.*\[overlay\]' /proc/kallsyms

# shellcheck disable=SC2016 # the container's shell's
is 'systemd-nspawn --volatile=overlay' 'overlay written' "$(systemd-nspawn -q --volatile=overlay -D /run/rovl/lower/1 --register=no \
	sh -c 'echo written >/etc/written && echo $(awk "\$2 == \"/\" { print \$3 }" /proc/mounts) $(cat /etc/written)' | tr -d '\r')"
check 'what it wrote is gone' [ ! -e /run/rovl/lower/1/etc/written ]

ext=/run/extensions/rovl-ext
mkdir -p $ext/usr/lib/extension-release.d $ext/usr/bin
echo 'ID=_any' >$ext/usr/lib/extension-release.d/extension-release.rovl-ext
printf '#!/bin/sh\necho from the extension\n' >$ext/usr/bin/rovl-ext
chmod 755 $ext/usr/bin/rovl-ext
check 'systemd-sysext merge' systemd-sysext merge
is 'the type of /usr' overlay "$(findmnt -n -o FSTYPE /usr)"
is 'a program of the extension' 'from the extension' "$(rovl-ext)"
check 'a program of the image' dpkg --version
is 'systemd-sysext status' rovl-ext "$(systemd-sysext status --json=short | tr , '\n' | grep -o rovl-ext | sort -u)"
check 'systemd-sysext unmerge' systemd-sysext unmerge
check 'the program is gone' [ ! -e /usr/bin/rovl-ext ]
done_testing
