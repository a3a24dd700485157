#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
mkdir upper work
# shellcheck disable=SC2016 # the inner shell's
observe 'overlay' env PATH=/bin /usr/bin/mkosi-sandbox --ro-bind "$TREE" / --proc /proc --overlay-lowerdir "$TREE/data" \
	--overlay-upperdir "$PWD/upper" --overlay-workdir "$PWD/work" --overlay /data sh -c 'change && view && grep " /data " /proc/mounts'
keep_upper upper
done_testing
