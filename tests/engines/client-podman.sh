#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
ENGINE=(podman)
engine_observe 'driver' info -f "$PODMAN_DRIVER"
engine_image
engine_run
# A user's mounts are in a namespace of podman's.
[ "$(id -u)" = 0 ] || INSIDE=(podman unshare)
rovl_layer committed 'podman mount one'
engine_check 'umount' umount one
engine_more
engine_observe 'volume-overlay' run --rm --pull never --network none -v "$TREE/data:/over:O" localhost/built \
	sh -c 'change /over && view /over && grep " /over " /proc/mounts'
sed -i 's/overlay.[0-9]*.merge/overlay\/N\/merge/' "$OBSERVED/volume-overlay"
engine_end
is 'no layer is left' '' "$(find "$(engine info -f '{{.Store.GraphRoot}}')/overlay" -mindepth 1 -maxdepth 1 ! -name l ! -name '.has-mount-program')"
done_testing
