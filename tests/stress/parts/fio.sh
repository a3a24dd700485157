#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# fio: what is read is what was written, by every way of doing I/O, on new files and on lower ones.
. "${0%/*}/../lib.sh"

SIZE=4M
[ -n "$SHORT" ] || SIZE=16M

# The blocks carry checksums; where fio finds one wrong it says so and ends with an error.
job() { # NAME ARGUMENT...
	local name=$1
	shift
	check "$name" fio --name=job --size=$SIZE --bsrange=4k-64k --verify=crc32c --verify_fatal=1 \
		--randseed="$SEED" --allow_mounted_write=1 --fallocate=none --eta=never "$@"
}

part() {
	local engine engines=(psync mmap libaio io_uring)
	layers
	# Every block of the lower files has its checksum.
	for engine in "${engines[@]}"; do
		fio --name=job --size=$SIZE --bs=4k --verify=crc32c --do_verify=0 --rw=write --ioengine=psync \
			--filename="$PWD/lower1/$engine" --eta=never >"$SEEN" 2>&1 || not_ok 'a file in the lower layer' "$(<"$SEEN")"
	done
	sums=$(checksum lower1)
	mnt
	for engine in "${engines[@]}"; do
		job "$engine, a lower file is verified" --rw=read --bs=4k --bsrange=4k-4k --ioengine="$engine" --filename="mnt/$engine"
		check "$engine, which copies nothing up" absent "upper/$engine"
		job "$engine, a lower file is written" --rw=randwrite --bs=4k --bsrange=4k-4k --ioengine="$engine" --iodepth=8 \
			--filename="mnt/$engine"
		job "$engine, a new file" --rw=randwrite --ioengine="$engine" --iodepth=8 --filename="mnt/$engine.new"
		[ -z "$SHORT" ] || continue
		job "$engine, read and written" --rw=randrw --ioengine="$engine" --iodepth=8 --numjobs=2 --directory="$PWD/mnt" \
			--filename_format="$engine.\$jobnum"
		job "$engine, with fsync" --rw=write --fsync=16 --ioengine="$engine" --filename="mnt/$engine.fsync"
	done
	if [ "$1" = tmpfs ]; then
		skip 'O_DIRECT' 'tmpfs passes it to the page cache'
	else
		job 'O_DIRECT' --rw=randwrite --direct=1 --ioengine=libaio --iodepth=8 --filename=mnt/direct
	fi
	again
	for engine in "${engines[@]}"; do
		job "$engine, after a new mount" --rw=read --bs=4k --bsrange=4k-4k --ioengine=psync --filename="mnt/$engine"
	done
	ends "$sums"
}
on_each part
done_testing
