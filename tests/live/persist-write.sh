#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' rovl "$FSTYPE"
is 'upper is on the disk' ext4 "$(findmnt -n -o FSTYPE /run/rovl/rw)"
check 'a new file' sh -c 'echo kept >/root/kept'
check 'a changed file' sh -c 'echo changed >>/etc/issue'
check 'a removed file' rm /etc/issue.net
check 'an installed package' apt-get -qq install "$HERE/rovl-test.deb"
check 'a removed package' dpkg --purge bash-completion
# Without a sync: the shutdown has to do it.
echo reboot >"${AT_END:?}"
done_testing
