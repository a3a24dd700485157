#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The clients on the kernel's own overlay.
# shellcheck source=tests/engines/all.sh
. "${HERE:?}/all.sh"

is "overlay is the kernel's own" '' "$(overlay_taint)"
all_clients
