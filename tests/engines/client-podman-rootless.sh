#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/client-podman.sh
. "${HERE:?}/client-podman.sh"
