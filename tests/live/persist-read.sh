#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' rovl "$FSTYPE"
is 'the new file' kept "$(cat /root/kept)"
is 'the changed file' changed "$(tail -n 1 /etc/issue)"
check 'the removed file' [ ! -e /etc/issue.net ]
is 'the installed package' installed "$(dpkg-query -W -f '${db:Status-Status}' rovl-test)"
check 'its files' dpkg --verify rovl-test
check 'the removed package' [ ! -e /usr/share/bash-completion/bash_completion ]
is 'no unit failed' '' "$(systemctl --failed --plain --no-legend)"
done_testing
