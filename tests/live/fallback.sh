#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' overlay "$FSTYPE"
check 'the reason can be read' [ -s /run/rovl/fallback ]
sed 's/^/# /' /run/rovl/fallback
is 'upper is in RAM' tmpfs "$(findmnt -n -o FSTYPE /run/rovl/rw)"
check 'the system is up' timeout 900 systemctl is-system-running --wait
done_testing
