#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What the boot has cost so far. With QEMU's icount a nanosecond of the guest is an instruction, or idle.
read -r up idle </proc/uptime
awk -v up="$up" -v idle="$idle" -v fs="${FSTYPE:?}" '
	{ kib[$1] = $2 }
	END {
		print "filesystem", fs
		printf "instructions %.2f G\n", up - idle
		printf "memory %.1f MiB\n", (kib["MemTotal:"] - kib["MemAvailable:"]) / 1024
		printf "slab %.1f MiB\n", kib["Slab:"] / 1024
	}' /proc/meminfo
echo "module $(du -k "$(modinfo -n "$FSTYPE")" | cut -f1) KiB on disk, $(awk -v m="$FSTYPE" '$1 == m { print int($2 / 1024) }' /proc/modules) KiB loaded"
echo '1..0 # bench'
