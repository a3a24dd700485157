#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/client-mkosi.sh
. "${HERE:?}/client-mkosi.sh"
