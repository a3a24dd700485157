#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
# shellcheck disable=SC2317 # observe calls it
over() { PATH=/bin timeout 300 /usr/bin/bwrap --ro-bind "$TREE" / --proc /proc --overlay-src "$TREE/data" "$@"; }
export -f over
mkdir upper work
# shellcheck disable=SC2016 # the inner shell's
job='change && view && grep " /data " /proc/mounts'
observe 'overlay' over --overlay upper work /data sh -c "$job"
observe 'tmp-overlay' over --tmp-overlay /data sh -c "$job"
observe 'ro-overlay' over --overlay-src "$TREE/etc" --ro-overlay /data sh -c 'view && ! touch /data/new && grep " /data " /proc/mounts'
keep_upper upper
done_testing
