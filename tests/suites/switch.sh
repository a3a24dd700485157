#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The format on disk is overlayfs's: an upper written by one type shows the same
# tree under the other, and the other way round.
. "${0%/*}/lib.sh"

if [ -z "$OTHER" ]; then
	skip 'an upper under the other type' "the kernel has $FSTYPE only"
	done_testing
fi

# Everything that can be seen of a tree, one line an object.
state() {
	(
		cd mnt || exit
		find . -printf '%P|%y|%m|%U:%G|%s|%T@|%l\n' | grep -v '|d|' | sort
		find . -type d -printf '%P|%y|%m|%U:%G|%T@\n' | sort
		find . -type f -exec cksum {} + | sort -k3
		find . -print0 | sort -z | xargs -0 getfattr -h -d -m - 2>/dev/null
		find . \( -type f -o -type d \) -print0 | sort -z | xargs -0 getfacl -n 2>/dev/null
	)
}
inos() { (cd mnt && find . -printf '%P %i\n' | sort); }

use() { FSTYPE=$1 mnt; }

populate() { # each lower layer
	mkdir -p lower{1,2}/{keep/sub,drop/x,merged,ren,perm} lower2/{tree/a/b/c,empty}
	for f in f1 f2 f3 f4 f5 f6; do put lower2/$f "$f of lower2"; done
	put lower1/f6 'f6 of lower1'
	put lower1/merged/m1 m1
	put lower2/merged/m2 m2
	put lower2/tree/a/b/c/deep deep
	put lower2/drop/x/y y
	ln lower2/f1 lower2/f1link
	ln -s f1 lower2/sym
	mkfifo lower2/fifo
	mknod lower2/dev c 1 3
	head -c 300000 /dev/urandom >lower2/big
	truncate -s 2M lower2/sparse
	setfattr -n trusted.t -v v lower2/f2
	setfacl -m u:1000:rwx lower2/perm/. lower2/f3
	setfacl -d -m u:1000:rwx lower2/perm
	setcap cap_chown+ep lower2/f4
}

change() { # NAME: a bit of everything; NAME tells the rounds apart
	add mnt/f1 "$1"
	rm -f mnt/f2
	chmod 751 mnt/f3
	chown 12:34 mnt/f5
	sys rename 0 mnt/f4 "mnt/f4.$1" 2>"$SEEN"
	put "mnt/new.$1" "new $1"
	mkdir "mnt/dir.$1"
	put "mnt/dir.$1/in" x
	rm -rf mnt/drop
	mkdir mnt/drop
	put "mnt/drop/after.$1" x
	rm -f mnt/merged/m2
	put "mnt/merged/$1" x
	touch -d 2010-10-10 mnt/tree/a/b/c/deep
	ln "mnt/new.$1" "mnt/link.$1"
	ln mnt/f6 "mnt/f6.$1"
	ln -sf "$1" "mnt/sym.$1"
	mkfifo "mnt/fifo.$1"
	setfattr -n trusted.r -v "$1" mnt/big
	setfattr -n trusted.overlay.opaque -v y mnt/merged
	setfacl -m u:77:r mnt/f6
	put "mnt/perm/$1" x
	truncate -s 100 mnt/sparse
	rmdir mnt/empty 2>"$SEEN" || mkdir mnt/empty
	sys rename 2 mnt/f3 mnt/f5
	sys rename 0 "mnt/dir.$1" "mnt/moved.$1"
}

both_ways() { # TYPE of upper
	local first second
	for first in "$FSTYPE" "$OTHER"; do
		[ "$first" = "$FSTYPE" ] && second=$OTHER || second=$FSTYPE
		layers 2
		populate
		use "$first"
		change one
		before=$(state)
		ids=$(inos)
		umnt
		use "$second"
		is "written by $first, shown by $second" "$before" "$(state)"
		is "written by $first, shown by $second: inode numbers" "$ids" "$(inos)"
		change two
		before=$(state)
		umnt
		use "$first"
		is "changed by $second, shown by $first" "$before" "$(state)"
		umnt
	done

	# The same changes leave the same upper.
	disk() { (cd upper && find . -printf '%P|%y|%m|%U:%G|%s|%l|%n\n' | grep -v '|d|\||c|' | sort
		find . -type d -printf '%P|%m|%U:%G\n' -o -type c -printf '%P|c\n' | sort
		find . -print0 | sort -z | xargs -0 getfattr -h -d -m - 2>/dev/null | grep -v 'overlay.\(origin\|uuid\)=') }
	layers 2
	populate
	use "$FSTYPE"
	change same
	umnt
	one=$(disk)
	rm -rf upper work
	mkdir upper work
	use "$OTHER"
	change same
	umnt
	is 'both leave the same upper' "$(disk)" "$one"
}

UPPERFS='tmpfs ext4' on_each_upper both_ways
done_testing
