#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
[ -n "${ENGINE-}" ] || ENGINE=(podman)
engine_observe 'driver' info -f '{{.Store.GraphDriverName}} {{.Store.GraphStatus}}'
engine_image
engine_life "$@"
engine_observe 'volume-overlay' run --rm --pull never --network none -v "$TREE/data:/over:O" localhost/built \
	sh -c 'change /over && view /over && grep " /over " /proc/mounts'
engine_end
is 'no layer is left' '' "$(find "$(engine info -f '{{.Store.GraphRoot}}')/overlay" -mindepth 1 -maxdepth 1 ! -name l ! -name '.has-mount-program')"
done_testing
