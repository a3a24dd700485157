#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
# shellcheck disable=SC2317 # observe calls it
spawn() { timeout 300 systemd-nspawn -q --pipe --register=no -D "$TREE" "$@"; }
export -f spawn
# shellcheck disable=SC2016 # the inner shell's
job='change && view && grep " / " /proc/mounts'
mkdir upper
observe 'volatile' spawn --volatile=overlay sh -c "$job"
observe 'overlay' spawn --read-only --overlay="$TREE/data:$PWD/upper:/data" sh -c 'change && view && grep " /data " /proc/mounts'
observe 'overlay-ro' spawn --read-only --overlay-ro="$TREE/data:$TREE/etc:/data" sh -c 'view && ! touch /data/new'
observe 'users' spawn --volatile=overlay --private-users=524288:65536 --private-users-ownership=map sh -c "$job"
keep_upper upper
done_testing
