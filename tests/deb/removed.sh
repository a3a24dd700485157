#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The boot after the removal: with the forgotten line, and without.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"
# shellcheck source=tests/deb/common.sh
. "$HERE/common.sh"

healthy
# shellcheck disable=SC2034 # overlay_works reads it
drop_in=no
overlay_works
check 'apt purges the packages' apt_get purge 'rovl-*'
check 'no configuration is left' [ ! -e /etc/modprobe.d/rovl.conf ]
check 'overlay is unloaded' modprobe -r overlay
overlay_works
is 'nothing is left' '' "$(find /etc /usr /var/lib/dpkg/info -xdev -name '*rovl*')"
done_testing
