#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/client-bwrap.sh
. "${HERE:?}/client-bwrap.sh"
