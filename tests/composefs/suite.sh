#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An image of composefs by its own command and by hand, where FSTYPE says.
# shellcheck source=tests/suites/lib.sh
. "${0%/*}/../suites/lib.sh"
# shellcheck source=tests/composefs/image.sh
. "$SUITES/../composefs/image.sh"

BASE=$SCRATCH/composefs
composefs_image
if [ "$FSTYPE" = overlay ]; then
	composefs_mounted
	rm -r upper work
fi
composefs_by_hand
composefs_exchanged
if [ "$FSTYPE" = overlay ]; then composefs_refused; fi
composefs_end
done_testing
