#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# index=on: the names of a lower file stay links of one file when it is copied up.
. "${0%/*}/lib.sh"

WITH=index=on
ov=trusted.overlay
number() { stat -c %i "$1"; }
links() { stat -c %h "$1"; }
# overlayfs has its temporary objects there, too.
index() { names work/index | grep -v '^#'; }
entries() { index | wc -l; }
STRERROR[ENODATA]='No data available'
once_more() { umnt; mnt $WITH; }
# What overlay.nlink says, as a number of names.
recorded() { # UPPER LOWER
	local value links
	value=$(xattr "$1" $ov.nlink)
	case $value in
	U*) links=$(links "$1") ;;
	L*) links=$(links "$2") ;;
	*) echo "nonsense: $value" && return ;;
	esac
	echo $((links + ${value:1}))
}
three() { # one lower file with three names in lower1
	mkdir -p lower1/d
	put lower1/a data
	ln lower1/a lower1/b
	ln lower1/a lower1/d/c
}
refused() { # NAME ERRNO [OPTION]...
	fails "$1" "$2" sys oldmount "$FSTYPE" mnt 0 "$LAYERS,$(IFS=,; echo "${*:3}")"
	! mountpoint -q mnt || umnt
}
shown() { grep " $D/mnt " /proc/mounts; }

# One file under all its names.
alike() { # WHEN LINKS TEXT NAME...
	local when=$1 count=$2 text=$3 f ino
	shift 3
	ino=$(number "mnt/$1")
	for f; do
		is "$when: $f" "$ino $count $text" "$(number "mnt/$f") $(links "mnt/$f") $(cat "mnt/$f")"
	done
}

kept() {
	layers 1
	three
	put lower1/single one
	mnt $WITH
	local ino
	ino=$(number mnt/a)
	alike 'before a copy-up' 3 data a b d/c
	put mnt/b new
	alike 'after that of one' 3 new a b d/c
	is 'its number stays' "$ino" "$(number mnt/a)"
	is 'upper has one name' 'b ' "$(listing upper)"
	is 'there is one entry' 1 "$(entries)"
	check 'the entry is a link of the copy' [ upper/b -ef "work/index/$(index)" ]
	is 'its name is the origin' "$(getfattr -h --only-values -n $ov.origin upper/b | hex)" "$(index)"
	is 'the names are recorded' 3 "$(recorded upper/b lower1/a)"
	put mnt/d/c newer
	alike 'after that of another' 3 newer a b d/c
	check 'in upper they are one file' [ upper/b -ef upper/d/c ]
	is 'upper counts the entry, too' 3 "$(links upper/b)"
	is 'the names are recorded again' 3 "$(recorded upper/b lower1/a)"
	once_more
	alike 'after a new mount' 3 newer a b d/c
	is 'and its number' "$ino" "$(number mnt/a)"
	forget
	chmod 600 mnt/a
	is 'the mode of all' '600 600 600' "$(stat -c %a mnt/a mnt/b mnt/d/c | xargs)"
	add mnt/single two
	is 'what has one name has no entry' 1 "$(entries)"
	once_more
	is 'the entry stays' 1 "$(entries)"
	is 'nothing is left in work' '' "$(leftovers)"
	umnt
}

# Not only files.
kinds() {
	layers 1
	ln -s target lower1/sym
	mkfifo lower1/fifo
	mknod lower1/dev c 1 3
	local f
	for f in sym fifo dev; do ln -P lower1/$f lower1/$f.2; done
	mnt $WITH
	for f in sym fifo dev; do
		chown -h 7:8 mnt/$f
		is "$f: the other name" '7 8 2' "$(stat -c '%u %g %h' mnt/$f.2)"
		touch -hd 2001-01-01 mnt/$f.2
		check "$f: one in upper" [ "$(number upper/$f)" = "$(number upper/$f.2)" ]
	done
	is 'entries of all' 3 "$(entries)"
	is 'the target' target "$(readlink mnt/sym.2)"
	once_more
	for f in sym fifo dev; do
		is "$f: after a new mount" "$(stat -c '%i %u %h' mnt/$f)" "$(stat -c '%i %u %h' mnt/$f.2)"
		rm mnt/$f mnt/$f.2
	done
	is 'no entries' 0 "$(entries)"
	umnt
}

# Names come and go on both sides.
counted() {
	layers 1
	three
	put lower1/other other
	ln lower1/other lower1/other2
	mnt $WITH
	rm mnt/b
	alike 'a name of lower was removed' 2 data a d/c
	check 'by a whiteout' is_whiteout upper/b
	is 'that is recorded' 2 "$(recorded "work/index/$(index)" lower1/a)"
	ln mnt/a mnt/e
	alike 'one was added' 3 data a d/c e
	is 'that is recorded, too' 3 "$(recorded upper/e lower1/a)"
	once_more
	alike 'after a new mount' 3 data a d/c e
	ln mnt/d/c mnt/b
	alike 'a name comes back' 4 data a d/c e b
	mv mnt/a mnt/f
	alike 'one is renamed' 4 data f d/c e b
	put mnt/g x
	mv mnt/g mnt/b
	alike 'one in upper is replaced' 3 data f d/c e
	mv mnt/f mnt/other
	alike 'a name of another is replaced' 3 data other d/c e
	is 'the other has one name less' '1 other' "$(links mnt/other2) $(cat mnt/other2)"
	once_more
	alike 'after another mount' 3 data other d/c e
	is 'the other after it' '1 other' "$(links mnt/other2) $(cat mnt/other2)"
	is 'both have an entry' 2 "$(entries)"
	rm mnt/other2
	is 'an entry goes with the last name' 1 "$(entries)"
	sys rename 2 mnt/e mnt/d/c
	alike 'names of one file are exchanged' 3 data other d/c e
	rm mnt/d/c mnt/e
	is 'one name is left' 1 "$(links mnt/other)"
	once_more
	is 'and in the next mount' '1 data' "$(links mnt/other) $(cat mnt/other)"
	rm mnt/other
	is 'the last entry goes' 0 "$(entries)"
	once_more
	is 'nothing is left' 'b d ' "$(listing mnt)"
	umnt
}

# mv of one name over another of the same file does nothing.
same() {
	layers 1
	three
	mnt $WITH
	sys rename 0 mnt/a mnt/b
	alike 'a rename to a name of itself' 3 data a b d/c
	put mnt/a new
	sys rename 0 mnt/a mnt/b
	alike 'and when it was copied up' 3 new a b d/c
	umnt
}

# Files that are open while names are copied up and removed.
opened() {
	layers 1
	three
	mnt $WITH
	exec 7<mnt/a 8<>mnt/b
	put mnt/d/c changed
	is 'what was opened under another name' changed "$(cat <&7)"
	printf more >&8
	alike 'is written' 3 moreged a b d/c
	rm mnt/a mnt/b mnt/d/c
	is 'no name is left' 0 "$(stat -L -c %h /proc/self/fd/8)"
	is 'nor an entry' 0 "$(entries)"
	printf end >&8
	is 'but the data' moreend "$(cat /proc/self/fd/8)"
	exec 7<&- 8<&-
	once_more
	is 'nothing is left' 'd ' "$(listing mnt)"
	umnt
	layers 1
	three
	mnt $WITH
	exec 8<>mnt/b
	rm mnt/b
	printf new >&8
	alike 'a name that was removed is written' 2 "newa" a d/c
	exec 8<&-
	once_more
	alike 'and in the next mount' 2 "newa" a d/c
	umnt
}

# A file of which upper has the attributes alone.
bared() {
	layers 2
	mkdir lower2/d lower1/d
	content x >lower2/a
	ln lower2/a lower2/b
	ln lower2/a lower2/d/c
	mnt $WITH,metacopy=on
	chmod 640 mnt/a
	check 'the entry has no data' has_mark "work/index/$(index)"
	local f
	for f in a b d/c; do
		is "$f: mode and links" '640 3' "$(stat -c '%a %h' mnt/$f)"
		check "$f: data" cmp mnt/$f lower2/b
	done
	chmod 600 mnt/d/c
	check 'a second name brings none' lacks_data upper/d/c
	mv mnt/d/c mnt/e
	umnt
	mnt $WITH,metacopy=on
	for f in a b e; do
		is "$f: after a new mount" '600 3' "$(stat -c '%a %h' mnt/$f)"
		check "$f: its data" cmp mnt/$f lower2/b
	done
	add mnt/b more
	for f in a b e; do is "$f: written" 200005 "$(wc -c <mnt/$f)"; done
	check 'the mark is gone' lacks_mark "work/index/$(index)"
	rm mnt/a
	umnt
	mnt $WITH,metacopy=on
	for f in b e; do is "$f: at last" '200005 2' "$(stat -c '%s %h' mnt/$f)"; done
	umnt
	# What must not be followed is not.
	layers 1
	content x >lower1/a
	ln lower1/a lower1/b
	mnt $WITH,metacopy=on
	chmod 640 mnt/a
	umnt
	mnt $WITH,metacopy=off
	fails 'an entry without data' EPERM cat mnt/b
	umnt
}
lacks_data() { has_mark "$1" && [ "$(stat -c %b "$1")" = 0 ]; }

# An entry of the index that was found by the name of another file.
other_origin() {
	layers 1
	content x >lower1/a
	ln lower1/a lower1/b
	content y >lower1/y
	mnt $WITH,metacopy=on
	chmod 640 mnt/a
	umnt
	mv upper/a upper/y
	mnt $WITH,metacopy=on
	fails 'data of another file' ESTALE cat mnt/y
	umnt
}

# What is wrong with an index is seen when it is opened.
cleaned() {
	layers 1
	three
	put lower1/p p
	ln lower1/p lower1/q
	mnt $WITH
	touch mnt/a mnt/p
	umnt
	local name of_p
	name=$(getfattr -h --only-values -n $ov.origin upper/a | hex)
	of_p=$(getfattr -h --only-values -n $ov.origin upper/p | hex)
	mkdir -p 'work/index/#1/x'
	put 'work/index/#2' x
	mnt $WITH
	is 'what was begun goes' "$(printf '%s\n' "$name" "$of_p" | sort | xargs)" "$(index | sort | xargs)"
	umnt
	# All names are gone but that in the index, which lower layers have still.
	rm upper/a
	mnt $WITH
	alike 'names that are lower alone' 2 data a b d/c
	umnt
	# And those, too, as it says.
	setfattr -n $ov.nlink -v L-3 "work/index/$name"
	mnt $WITH
	is 'an orphan goes' "$of_p" "$(index)"
	alike 'so it is that of lower' 3 data a b d/c
	umnt
	# An entry of another origin.
	mv "work/index/$of_p" "work/index/$name"
	mnt $WITH
	is 'a stale one goes' 0 "$(entries)"
	is 'what was of it is a file of its own' p "$(cat mnt/p)"
	umnt
	# One of a lower object that is no more.
	rm -r upper work
	mkdir upper work
	mnt $WITH
	rm mnt/p
	touch mnt/a
	umnt
	rm upper/p lower1/p lower1/q
	mnt $WITH
	is 'one without a lower object goes' "$name" "$(index)"
	umnt
	# Whiteouts and directories are for NFS export.
	whiteout "work/index/$of_p"
	mkdir "work/index/${name:0:-2}77"
	mnt $WITH
	is 'those stay' 3 "$(entries)"
	umnt
	rm "work/index/$of_p"
	rmdir "work/index/${name:0:-2}77"

	local bad
	for bad in short "${name:0:-2}zz" "${name:0:40}" "x${name:1}" "00fa${name:4}" "00fbff${name:6}"; do
		put "work/index/$bad" x
		refused "refused: an entry ${bad:0:20}" EINVAL $WITH
		rm "work/index/$bad"
	done
	for bad in "01${name:2}" "00fb${name:4:2}08${name:8}"; do
		put "work/index/$bad" x
		refused "refused: an entry ${bad:0:20} that others may know" ENODATA $WITH
		rm "work/index/$bad"
	done
	put "work/index/$of_p" x
	refused 'refused: an entry without origin' ENODATA $WITH
	rm "work/index/$of_p"
	mnt $WITH
	alike 'without those' 3 data a b d/c
	umnt
}

# Crafted entries are refused, not followed.
crafted() {
	layers 1
	three
	mnt $WITH
	touch mnt/a
	umnt
	local name value
	name=$(index)
	mv "work/index/$name" kept
	mv upper/a taken
	whiteout "work/index/$name"
	mnt $WITH
	fails 'a whiteout of what is there' EIO cat mnt/b
	umnt
	rm "work/index/$name"
	mkdir "work/index/$name"
	mnt $WITH
	fails 'a directory' EIO cat mnt/b
	umnt
	rmdir "work/index/$name"
	mv kept "work/index/$name"
	# Whoever has the origin and is not the entry is a file of its own.
	cp -a --preserve=all taken upper/b
	mnt $WITH
	add mnt/b x
	is 'a copy that is none' 'data x' "$(xargs <mnt/b)"
	is 'the entry is as it was' data "$(cat mnt/a)"
	check 'they are two' [ "$(number mnt/a)" != "$(number mnt/b)" ]
	is 'its links are its own' 1 "$(links mnt/b)"
	umnt
	rm upper/b
	for value in '' U U+ x 1 U1 U+x L+99999999999 U-9 L-9 L+-1 U+2147483647 UUUUUUUUUUUUUUUUUUUUUUUUU; do
		mv taken upper/a 2>/dev/null
		setfattr -n $ov.nlink -v "$value" "work/index/$name"
		mnt $WITH
		check "nlink '$value' is no harm" [ "$(links mnt/a)" -gt 0 ]
		add mnt/b "$value"
		check "nlink '$value': a file" grep -qx data mnt/a
		umnt
	done
	setfattr -x $ov.nlink "work/index/$name"
	mnt $WITH
	check 'none is no harm' [ "$(links mnt/a)" -gt 0 ]
	rm -f mnt/a mnt/b mnt/d/c
	is 'the names go' 'd ' "$(listing mnt)"
	umnt
}

# The index is for this upper over this lower layer.
verified() {
	layers 1
	three
	cp -a lower1 lower2
	cp -a upper upper2
	mkdir work2
	mnt $WITH
	touch mnt/a
	umnt
	local as=$LAYERS
	check 'upper knows its lower layer' getfattr -h -n $ov.origin upper
	check 'the index knows upper' getfattr -h -n $ov.upper work/index
	LAYERS=lowerdir=lower2,upperdir=upper,workdir=work
	refused 'another lower layer' ESTALE $WITH
	mnt index=off
	is 'not without an index' data "$(cat mnt/a)"
	umnt
	LAYERS=lowerdir=lower1,upperdir=upper2,workdir=work
	refused 'another upper' ESTALE $WITH
	mnt index=off
	umnt
	LAYERS=$as
	mnt $WITH
	alike 'as it was' 3 data a b d/c
	umnt
	# More layers below are no other layer.
	LAYERS=lowerdir=lower1:lower2,upperdir=upper,workdir=work
	mnt $WITH
	alike 'one more below' 3 data a b d/c
	umnt
	LAYERS=$as
	# A new index, for an old upper.
	rm -r work/index
	mnt $WITH
	is 'a file that has none' data "$(cat mnt/a)"
	umnt
	rm -r work/index
	# Marks that are none count as none.
	setfattr -n $ov.origin -v nonsense upper
	mnt $WITH
	check 'a mark that is none is replaced' [ "$(getfattr --only-values -n $ov.origin upper | head -c 2 | hex)" = 00fb ]
	umnt
	rm -r work/index
	put work/index x
	refused 'a file in its place' ENOTDIR $WITH
}

# With an index or without, upper is in use by one.
in_use() {
	layers 1
	mkdir mnt2 upper2 work2
	mnt $WITH
	local both
	for both in upperdir=upper,workdir=work2 upperdir=upper2,workdir=work; do
		fails "in use: $both" EBUSY sys oldmount "$FSTYPE" mnt2 0 "lowerdir=lower1,$both,$WITH"
		! mountpoint -q mnt2 || umount mnt2
	done
	fails 'in use: as a lower layer' EBUSY \
		sys oldmount "$FSTYPE" mnt2 0 "lowerdir=upper,upperdir=upper2,workdir=work2,$WITH"
	! mountpoint -q mnt2 || umount mnt2
	umnt
}

modes() {
	layers 2
	three
	mnt $WITH
	check 'shown' grep -q ,index=on <<<"$(shown)"
	umnt
	mnt
	check 'off by itself' absent work/nothing
	check 'nor shown' [ "$(shown | grep -c index=)" = 0 ]
	umnt
	LAYERS=lowerdir=$LOWER mnt $WITH
	check 'without upper there is none' [ "$(shown | grep -c index=on)" = 0 ]
	umnt
	# A filesystem without file handles.
	mkdir plain
	mount -t ramfs ramfs plain
	put plain/x x
	LAYERS=lowerdir=plain:lower1,upperdir=upper,workdir=work
	mnt $WITH
	check 'nor where a lower layer has no handles' [ "$(shown | grep -c index=on)" = 0 ]
	put mnt/a new
	is 'links are copied up one by one' data "$(cat mnt/b)"
	umnt
	umount plain
	# Layers that are not on upper's filesystem.
	mkdir other
	mount -t tmpfs tmpfs other
	put other/a data
	ln other/a other/b
	local ino
	LAYERS=lowerdir=other,upperdir=upper,workdir=work
	rm -r upper work
	mkdir upper work
	mnt $WITH
	ino=$(stat -c '%d %i' mnt/b)
	put mnt/a new
	alike 'another filesystem' 2 new a b
	is 'device and number stay' "$ino" "$(stat -c '%d %i' mnt/b)"
	umnt
	umount other
	check 'a mount without privileges does without' unshare -Urm sh -c "
		mount -t tmpfs t /mnt && cd /mnt && mkdir l u w m && echo x >l/a && ln l/a l/b &&
			mount -t $FSTYPE -o lowerdir=l,upperdir=u,workdir=w,index=on o m && echo y >m/a && grep -q x m/b"
	# Marks that are user.* ones.
	layers 1
	three
	mnt $WITH,userxattr
	put mnt/a new
	alike 'userxattr' 3 new a b d/c
	rm mnt/b
	umnt
	mnt $WITH,userxattr
	alike 'userxattr, after a new mount' 2 new a d/c
	umnt
}

# A mount without an index over what one with it has left.
without() {
	layers 1
	three
	mnt $WITH
	put mnt/a new
	ln mnt/a mnt/e
	umnt
	mnt index=off
	is 'what was copied up' 'new new' "$(cat mnt/a mnt/e | xargs)"
	is 'and what was not' 'data data' "$(cat mnt/b mnt/d/c | xargs)"
	rm mnt/e
	umnt
	mnt $WITH
	is 'with it again' 'new new new' "$(cat mnt/a mnt/b mnt/d/c | xargs)"
	umnt
}

no_room() {
	layers 1
	content x >lower1/a
	ln lower1/a lower1/b
	mount -t tmpfs -o size=200k tmpfs upper
	mkdir upper/{u,w}
	LAYERS=lowerdir=lower1,upperdir=upper/u,workdir=upper/w
	mnt $WITH
	head -c 150000 /dev/zero >mnt/full
	fails 'no room for a copy' ENOSPC add mnt/a x
	is 'no entry is left' '' "$(names upper/w/index | grep -v '^#')"
	rm mnt/full
	add mnt/a x
	is 'then there is' '200002 2' "$(stat -c '%s %h' mnt/b)"
	umnt
	umount upper
}

# What one type wrote the other one reads and goes on with.
switching() {
	[ -n "$OTHER" ] || { skip 'both types' "there is no $FSTYPE beside it" && return; }
	layers 2
	three
	put lower2/p p
	ln lower2/p lower2/q
	mnt $WITH
	put mnt/a new
	rm mnt/b
	ln mnt/d/c mnt/e
	chmod 600 mnt/q
	local ino
	ino=$(number mnt/a)
	umnt
	FSTYPE=$OTHER mnt $WITH
	alike "$OTHER" 3 new a d/c e
	is "$OTHER: its number" "$ino" "$(number mnt/a)"
	is "$OTHER: another" '600 2' "$(stat -c '%a %h' mnt/p)"
	add mnt/d/c more
	rm mnt/a
	ln mnt/e mnt/f
	mv mnt/p mnt/p2
	umnt
	mnt $WITH
	alike 'back' 3 "$(printf 'new\nmore')" d/c e f
	is 'back: its number' "$ino" "$(number mnt/e)"
	rm mnt/d/c mnt/e mnt/f
	is 'back: another' '600 2' "$(stat -c '%a %h' mnt/p2)"
	is 'back: one entry' 1 "$(entries)"
	umnt
	FSTYPE=$OTHER mnt $WITH
	is "$OTHER: nothing is left" 'd p2 q ' "$(listing mnt)"
	rm mnt/p2 mnt/q
	is "$OTHER: no entry" 0 "$(entries)"
	umnt
}

on_each_upper kept
on_each_upper kinds
on_each_upper counted
same
opened
bared
other_origin
cleaned
crafted
on_each_upper verified
in_use
modes
without
no_room
switching
done_testing
