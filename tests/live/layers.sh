#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Three lower layers: a directory and an image on the disk LAYERS over the live image. Upper is on LAYERS, too.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

is 'the type of /' rovl "$FSTYPE"
is 'the order of the layers' '/run/rovl/lower/1:/run/rovl/lower/2:/run/rovl/lower/3' \
	"$(awk '$2 == "/" { print $4 }' /proc/mounts | tr , '\n' | sed -n 's/^lowerdir=//p')"
is 'the directory is above the image' directory "$(cat /etc/rovl-both)"
is 'the image is above the live image' 'a layer' "$(cat /etc/issue)"
is 'the live image is below' 0 "$(test -x /usr/bin/dpkg; echo $?)"
echo upper >/etc/rovl-both
is 'upper is above all' upper "$(cat /run/rovl/rw/changes/upper/etc/rovl-both)"
is 'no unit failed' '' "$(systemctl --failed --plain --no-legend)"
done_testing
