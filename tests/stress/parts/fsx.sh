#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# fsx: reads, writes, mappings, truncation and more at random on one file, each read compared with what
# must be there.
. "${0%/*}/../lib.sh"

ALL='[opsize]
max = 65536
[weights]
close_open = 2
invalidate = 2
read = 10
write = 10
mapread = 10
mapwrite = 10
fsync = 1
fdatasync = 1
sendfile = 5
posix_fadvise = 1
copy_file_range = 3
punch_hole = 2'

fsx() { # NAME FILE CONFIG: with one seed after the other until the time is up
	local name=$1 seed=$SEED start=$SECONDS ops=500
	printf '%s\n' "$3" >fsx.toml
	mkdir -p artifacts
	while :; do
		if ! "$TOOLS/fsx" -N $ops -S "$seed" -f fsx.toml -P artifacts "$2" >"$SEEN" 2>&1; then
			not_ok "$name" "fsx -N $ops -S $seed -f fsx.toml $2" "$(cat fsx.toml)" "$(tail -n 20 "$SEEN")"
			return
		fi
		seed=$((seed + 1))
		[ $((SECONDS - start)) -lt "$DURATION" ] || break
	done
	ok "$name"
	echo "# $name$ON: $(((seed - SEED) * ops)) operations, seeds $SEED to $((seed - 1))"
}

part() {
	layers
	head -c 262144 /dev/urandom >lower1/whole
	head -c 100000 /dev/urandom >lower1/cut
	sums=$(checksum lower1)
	mnt
	# fsx reopens no file whose size it may not change.
	local grows=$'flen = 262144\n'$ALL$'\ntruncate = 5\nposix_fallocate = 2' fixed=$'blockmode = true\n'${ALL/close_open = 2/close_open = 0}$'\ntruncate = 0'
	fsx 'a new file' mnt/new "$grows"
	fsx 'a lower file, truncated at open' mnt/cut "$grows"
	# Copied up by the first write or mapping of a descriptor that stays open.
	fsx 'a lower file, never truncated' mnt/whole "$fixed"
	ends "$sums"
}
on_each part
done_testing
