#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' rovl "$FSTYPE"
is 'what was synced' "$(for n in $(seq 2 20); do echo "synced $n"; done)" \
	"$(for n in $(seq 2 20); do cat "/root/cut/new-$n"; done)"
is 'what was renamed and synced' 'synced 1' "$(cat /root/cut/renamed)"
check 'the old name is gone' [ ! -e /root/cut/new-1 ]
is 'the synced copy of a lower file' "$(cat /run/rovl/lower/1/etc/profile; echo synced)" "$(cat /etc/profile)"
is 'the first that was synced' kept "$(cat /root/kept)"
is 'nothing is half there' '' "$(cat /root/cut/late-* 2>/dev/null | grep -avE '^not synced [0-9]+$')"
is 'no unit failed' '' "$(systemctl --failed --plain --no-legend)"
done_testing
