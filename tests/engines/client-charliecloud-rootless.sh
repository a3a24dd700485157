#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
observe 'write-fake' env PATH=/bin /usr/bin/ch-run -W "$TREE" -- sh -c 'change && view && grep " / " /proc/mounts'
done_testing
