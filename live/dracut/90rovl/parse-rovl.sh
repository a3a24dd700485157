#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Sourced by dracut: rovl.lower= on the kernel command line says that the root is ours.

if getarg rovl.lower= >/dev/null; then
	# shellcheck disable=SC2034 # dracut reads them
	root=rovl rootok=1
fi
