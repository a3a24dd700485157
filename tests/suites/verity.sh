#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# verity=on|require: data in lower layers is what the digest says that was recorded of it.
. "${0%/*}/lib.sh"

ov=trusted.overlay
# The mark of a file whose data is FILE's, in hexadecimal digits.
mark_of() { # FILE
	local algorithm digest
	IFS=': ' read -r algorithm digest _ < <(fsverity measure "$1")
	case $algorithm in sha256) algorithm=1 ;; sha512) algorithm=2 ;; esac
	printf '00%02x00%02x%s' $((4 + ${#digest} / 2)) "$algorithm" "$digest"
}
mark() { getfattr -h -e hex --only-values -n $ov.metacopy "$1" 2>/dev/null | hex; }
# A file with that mark whose data is at PATH.
at() { # FILE PATH [MARK]
	bare "$1" "$(stat -c %s "data1$2")" "${3:-}"
	redirect "$1" "$2"
}
drop() { sync; echo 2 >/proc/sys/vm/drop_caches; }
SHOWN=verity

options() {
	layers 2
	put lower1/f f
	mnt verity=on
	is 'it is shown' 'verity=on ' "$(shown)"
	umnt
	mnt verity=require
	is 'as required' 'verity=require ' "$(shown)"
	umnt
	mnt verity=require verity=off
	is 'the last counts' '' "$(shown)"
	umnt
	fails 'another value' EINVAL sys mount "$FSTYPE" mnt lowerdir=$LOWER verity=maybe
	fails 'for no administrator' EPERM unshare -Urm perl "$SUITES/sys.pl" mount "$FSTYPE" mnt lowerdir=$LOWER verity=on
	check 'but with userxattr' unshare -Urm perl "$SUITES/sys.pl" mount "$FSTYPE" mnt lowerdir=$LOWER verity=on userxattr
	check 'it needs no metacopy' sys mount "$FSTYPE" mnt lowerdir=$LOWER verity=require metacopy=off
	prints 'nor does a whole file need a digest' f cat mnt/f
	umnt
}

reading() {
	layers 1
	data_layers 1
	local f mark
	for f in sha256 sha512 other plain; do put data1/$f "$f"; done
	if ! fsverity enable data1/sha256 2>"$SEEN"; then
		skip 'all' "no fs-verity: $(cat "$SEEN")"
		return
	fi
	fsverity enable --hash-alg=sha512 data1/sha512
	fsverity enable data1/other
	mark=$(mark_of data1/sha256)
	is 'a mark of SHA-256' 72 ${#mark}
	is 'a mark of SHA-512' 136 "$(mark_of data1/sha512 | tr -d '\n' | wc -c)"
	at lower1/sha256 /sha256 "$mark"
	at lower1/sha512 /sha512 "$(mark_of data1/sha512)"
	at lower1/wrong /other "$mark"
	at lower1/bare /sha256
	at lower1/head /sha256 00040000
	at lower1/unguarded /plain "$mark"
	at lower1/algorithm /sha256 "${mark:0:6}02${mark:8}"
	at lower1/short /sha256 "0023${mark:4:66}"
	at lower1/version /sha256 "01${mark:2}"
	at lower1/length /sha256 "0025${mark:4}"
	at lower1/long /sha256 "${mark}00"
	drop
	mnt
	for f in wrong bare head unguarded algorithm short version length long; do check "off: $f" cat mnt/$f; done
	umnt
	drop
	mnt verity=on
	prints 'on: SHA-256' sha256 cat mnt/sha256
	prints 'on: SHA-512' sha512 cat mnt/sha512
	for f in bare head; do prints "on: $f" sha256 cat mnt/$f; done
	dmesg -C
	for f in wrong unguarded algorithm short version length long; do
		fails "on: $f" EIO cat mnt/$f
		is "on: $f: its size" "$(stat -c %s lower1/$f)" "$(stat -c %s mnt/$f)"
		fails "on: $f: for writing" EIO add mnt/$f x
		check "on: $f: nothing is copied" absent upper/$f
	done
	check 'the log says why: wrong' grep -q "lower file '.*other' has the wrong fs-verity digest" <(dmesg)
	check 'the log says why: unguarded' grep -q "lower file '.*plain' has no fs-verity digest" <(dmesg)
	check 'the log says why: version' grep -q "metacopy file '.*version' has unsupported version" <(dmesg)
	check 'the log says why: length' grep -q "metacopy file '.*length' has invalid xattr size" <(dmesg)
	umnt
	mnt verity=require
	for f in sha256 sha512; do prints "require: $f" $f cat mnt/$f; done
	for f in bare head wrong unguarded; do fails "require: $f" EIO cat mnt/$f; done
	check 'the log says why: bare' grep -q "metacopy file '.*bare' has no digest specified" <(dmesg)
	umnt
	# Somebody exchanges the data.
	mnt verity=on
	exec 5<mnt/sha256
	rm data1/sha256
	put data1/sha256 evil!
	prints 'who has it open reads it' sha256 cat /proc/self/fd/5
	exec 5<&-
	umnt
	drop
	mnt verity=on
	fails 'exchanged without a digest of its own' EIO cat mnt/sha256
	umnt
	fsverity enable data1/sha256
	drop
	mnt verity=on
	fails 'exchanged with one' EIO cat mnt/sha256
	umnt
}

# What is recorded when attributes are copied up.
recording() {
	layers 1
	local f
	for f in a b c d; do put lower1/$f $f; done
	if ! fsverity enable lower1/a 2>"$SEEN"; then
		skip 'recording' "no fs-verity: $(cat "$SEEN")"
		return
	fi
	fsverity enable --hash-alg=sha512 lower1/c
	drop
	mnt metacopy=on verity=on
	chmod 600 mnt/*
	is 'the digest' "$(mark_of lower1/a)" "$(mark upper/a)"
	is 'another one' "$(mark_of lower1/c)" "$(mark upper/c)"
	is 'none' '' "$(mark upper/b)"
	for f in a b c d; do prints "$f is read" $f cat mnt/$f; done
	add mnt/c more
	check 'what is written has no mark' lacks_mark upper/c
	check 'a new name' mv mnt/a mnt/a2
	umnt
	drop
	mnt metacopy=on verity=on
	prints 'after a new mount' a cat mnt/a2
	prints 'one without' b cat mnt/b
	umnt
	mnt metacopy=on verity=require
	prints 'required and there' a cat mnt/a2
	fails 'required and not there' EIO cat mnt/b
	umnt
	rm lower1/a
	put lower1/a A
	drop
	mnt metacopy=on verity=on
	fails 'exchanged' EIO cat mnt/a2
	fails 'exchanged, for writing' EIO add mnt/a2 x
	umnt
	mnt metacopy=on
	prints 'which is no matter without the option' A cat mnt/a2
	umnt
	rm -r upper work
	mkdir upper work
	fsverity enable lower1/d
	mnt metacopy=on verity=require
	chmod 600 mnt/b mnt/d
	check 'required: what has no digest is copied whole' lacks_mark upper/b
	is 'required: what has one is not' "$(mark_of lower1/d)" "$(mark upper/d)"
	umnt
	mnt metacopy=on
	chmod 640 mnt/d
	is 'the mark stays without the option' "$(mark_of lower1/d)" "$(mark upper/d)"
	umnt
}

options
BASE=$SCRATCH/verity
if make_fs ext4 "$BASE" 64M -b 4096 -O verity; then
	reading
	recording
	cd /
	umount_below "$BASE"
else
	skip 'all' "$WHY"
fi
BASE=$SCRATCH/base
done_testing
