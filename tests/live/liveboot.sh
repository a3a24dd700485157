#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Debian's live-boot, with the drop-in in the place of the kernel's overlay.ko.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' overlay "$FSTYPE"
check 'the module is the drop-in' grep -q 'rovl.*\[overlay\]' /proc/kallsyms
is 'the system is up' running "$(timeout 900 systemctl is-system-running --wait)"
is 'no unit failed' '' "$(systemctl --failed --plain --no-legend)"
check 'apt install' apt-get -qq install "$HERE/rovl-test.deb"
check 'its service runs' systemctl is-active rovl-test.service
done_testing
