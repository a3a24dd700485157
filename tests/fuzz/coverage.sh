#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Prints the blocks of the module that were reached since the last call, for
# scripts/coverage; nothing if the module is not built for that.
file=/sys/module/rovl/parameters/coverage
[ -e $file ] || exit 0
while blocks=$(cat $file) && [ -n "$blocks" ]; do
	printf '%s\n' "$blocks"
done
