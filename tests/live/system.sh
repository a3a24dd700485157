#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A Debian on rovl is used as one uses a Debian.

# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

# shellcheck disable=SC2317 # check calls it
installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -x installed; }

# ---- what was mounted -----------------------------------------------------------

is 'the type of /' rovl "$FSTYPE"
is 'one root' 1 "$(awk '$2 == "/"' /proc/mounts | wc -l)"
is 'layers in /run/rovl' 'lower/1 medium/sr0 rw' \
	"$(awk '$2 ~ "^/run/rovl/" { print substr($2, 11) }' /proc/mounts | sort | xargs)"
is 'nothing else is left of the initramfs' '' \
	"$(awk '$2 ~ "^/root" || $2 ~ "^/(tmp|run)/(init|mnt)" && $2 != "/run/initramfs"' /proc/mounts)"
check 'a lower layer can be looked at' [ -x /run/rovl/lower/1/usr/bin/dpkg ]
echo here >/etc/rovl-live-test
is 'a change is seen in upper' here "$(cat /run/rovl/rw/upper/etc/rovl-live-test)"
check 'it is not seen in lower' [ ! -e /run/rovl/lower/1/etc/rovl-live-test ]
fails 'the layers are for root only' EACCES runuser -u nobody -- ls /run/rovl/rw

# ---- systemd ----------------------------------------------------------------------

is 'the system is up' running "$(timeout 900 systemctl is-system-running --wait)"
is 'no unit failed' '' "$(systemctl --failed --plain --no-legend)"
logger -t rovl-test 'a line for the journal'
journalctl --sync
check 'the journal has it' journalctl -q -t rovl-test --grep 'a line for the journal'
echo 'd /var/lib/rovl-tmpfiles 0750 daemon daemon' >/etc/tmpfiles.d/rovl-test.conf
check 'tmpfiles' systemd-tmpfiles --create rovl-test.conf
is 'what it made' '750 daemon' "$(stat -c '%a %U' /var/lib/rovl-tmpfiles)"

# ---- packages ---------------------------------------------------------------------

check 'apt install' apt-get -qq install "$HERE/rovl-test.deb"
check 'dpkg has it' installed rovl-test
check 'its files are whole' dpkg --verify rovl-test
check 'its service runs' systemctl is-active rovl-test.service
# systemd makes the directory when it starts the program, which "active" does not wait for.
for _ in $(seq 60); do [ -e /var/lib/rovl-test ] || sleep 1; done
is 'its user' rovl-test "$(stat -c %U /var/lib/rovl-test)"
check 'apt purge' apt-get -qq purge rovl-test
check 'its program is gone' [ ! -e /usr/bin/rovl-test ]
check 'its configuration is gone' [ ! -e /etc/rovl-test.conf ]
check 'a package of the image' installed bash-completion
check 'dpkg removes it' dpkg --purge bash-completion
check 'it is gone' [ ! -e /usr/share/bash-completion/bash_completion ]
check 'the image still has it' [ -e /run/rovl/lower/1/usr/share/bash-completion/bash_completion ]
is 'dpkg finds nothing wrong' '' "$(dpkg --audit)"

# ---- users and locales --------------------------------------------------------------

check 'useradd' useradd -m -s /bin/bash rovltest
is 'a user writes' rovltest "$(runuser -u rovltest -- sh -c 'echo x >~/file && stat -c %U ~/file')"
check 'userdel' userdel -r rovltest
check 'the home is gone' [ ! -e /home/rovltest ]
is 'a locale of the image' 'Friday 02 January 1970' "$(LC_ALL=en_US.UTF-8 date -u -d @86400 '+%A %d %B %Y')"
echo 'de_DE.UTF-8 UTF-8' >>/etc/locale.gen
check 'locale-gen' locale-gen
is 'a new locale' Freitag "$(LC_ALL=de_DE.UTF-8 date -u -d @86400 +%A)"

done_testing
