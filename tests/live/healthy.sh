#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' rovl "$FSTYPE"
is 'the system is up' running "$(timeout 900 systemctl is-system-running --wait)"
is 'no unit failed' '' "$(systemctl --failed --plain --no-legend)"
# What each way of booting makes different.
# shellcheck disable=SC2013 # words are wanted
for word in $(cat /proc/cmdline); do
	case $word in
	toram)
		is 'no medium is mounted' '' "$(awk '$2 ~ "^/run/rovl/medium" || $3 == "iso9660"' /proc/mounts)"
		check 'the image lies in RAM' [ -s /run/rovl/ram/1 ]
		check 'the medium can be taken out' dd if=/dev/zero of=/dev/null count=1
		;;
	rovl.upper=none)
		fails 'the root is read-only' EROFS touch /etc/rovl-live-test
		check 'it has no upper layer' grep -qvw upperdir <(grep ' / ' /proc/mounts)
		;;
	rovl.upper=ram:*)
		is 'upper is as large as asked for' 300 "$(findmnt -n -b -o SIZE /run/rovl/rw | awk '{ print int($1 / 1048576) }')"
		;;
	esac
done
done_testing
