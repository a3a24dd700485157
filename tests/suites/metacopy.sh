#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# metacopy=on: attributes are copied up without data, which is found below until it is changed.
. "${0%/*}/lib.sh"

WITH=metacopy=on
ov=trusted.overlay
redirect_of() { xattr "$1" $ov.redirect 2>/dev/null; }
move() { sys rename 0 "$1" "$2"; }
number() { stat -c %i "$1"; }
blocks() { stat -c %b "$1"; }
once_more() { umnt; mnt $WITH; }

# What changes no data brings none.
attributes() { # TYPE
	layers 2
	local n=0 t words f size ino room
	local -a commands=(
		'chmod 600 F' 'chown 1:2 F' 'chgrp 3 F' 'touch -h F' 'touch -ha F' 'touch -hd 2001-01-01 F'
		'setfattr -n trusted.x -v y F' 'setfacl -m u:9:rw F' 'setcap cap_chown+ep F' 'ln F F.link' 'mv F F.moved'
		'chattr +d F'
	)
	for t in "${!commands[@]}"; do content "$((t % 10))" >"lower2/f$t"; done
	mnt $WITH
	for t in "${commands[@]}"; do
		f=f$n size=$(stat -c %s mnt/f$n) ino=$(number mnt/f$n) room=$(blocks mnt/f$n)
		read -ra words <<<"${t//F/mnt/f$n}"
		if ! "${words[@]}" >"$SEEN" 2>&1; then
			if [[ $t == chattr* || $t == setcap* ]] && grep -q 'not supported' "$SEEN"; then
				skip "$t" "$1 does not support it"
			else
				not_ok "$t" "$(cat "$SEEN")"
			fi
		else
			case $t in mv*) f=f$n.moved ;; esac
			check "$t copies attributes" has_mark "upper/$f"
			is "$t: no data is in upper" 0 "$(tr -d '\0' <"upper/$f" | wc -c)"
			is "$t: size, number, room" "$size $ino $room" "$(stat -c '%s %i %b' "mnt/$f")"
			check "$t: the data is seen" cmp "mnt/$f" "lower2/f$n"
		fi
		n=$((n + 1))
	done
	once_more
	n=0
	for t in "${commands[@]}"; do
		f=f$n
		case $t in mv*) f=f$n.moved ;; esac
		check "$t: after a new mount" cmp "mnt/$f" "lower2/f$n"
		n=$((n + 1))
	done
	is 'no mark of work is left' '' "$(leftovers)"
	umnt
}

# What changes data brings it, into the inode that is there.
data() { # TYPE
	layers 2
	local n=0 t words f ino up size
	local -a commands=(
		'add F more' 'put F new' 'poke F new' 'sys open RDONLY|TRUNC F' 'sys open WRONLY|TRUNC F' 'truncate -s 1 F'
		'truncate -s 300000 F' 'truncate -s 200000 F' 'fallocate -l 4096 F' 'fallocate -p -l 4096 F'
		'dd if=/dev/zero of=F bs=1 count=1 conv=notrunc status=none' 'sys map F'
	)
	for t in "${commands[@]}"; do
		content "$((n % 10))" >"lower2/f$n"
		cp "lower2/f$n" "want$n"
		n=$((n + 1))
	done
	mnt $WITH
	chmod 640 mnt/f*
	check 'all are marked' has_mark upper/f1
	n=0
	for t in "${commands[@]}"; do
		f=f$n ino=$(number mnt/f$n) up=$(number upper/f$n)
		read -ra words <<<"${t//F/want$n}"
		"${words[@]}"
		read -ra words <<<"${t//F/mnt/f$n}"
		exec 7<mnt/f$n
		if ! "${words[@]}" >"$SEEN" 2>&1; then
			not_ok "$t" "$(cat "$SEEN")"
		else
			check "$t takes the mark away" lacks_mark "upper/$f"
			is "$t: the same inode" "$ino $up" "$(number mnt/$f) $(number upper/$f)"
			is "$t: the mode" 640 "$(stat -c %a upper/$f)"
			check "$t: the data" cmp "mnt/$f" "want$n"
			check "$t: the data in upper" cmp "upper/$f" "want$n"
			check "$t: a descriptor from before follows" cmp - "want$n" <&7
		fi
		exec 7<&-
		n=$((n + 1))
	done
	once_more
	n=0
	for t in "${commands[@]}"; do
		check "$t: after a new mount" cmp "mnt/f$n" "want$n"
		n=$((n + 1))
	done
	is 'no mark of work is left' '' "$(leftovers)"
	umnt
}

# The data is brought without a change of anything else.
unchanged() { # TYPE
	layers 1
	content a >lower1/f
	content b >lower1/g
	mnt $WITH
	chown 5:6 mnt/f mnt/g
	chmod 6755 mnt/f
	chmod 2755 mnt/g
	touch -hd 2003-03-03 mnt/f mnt/g
	check 'file capabilities' setcap cap_chown+ep mnt/f
	local f before caps form='%a %u:%g %y %s %i'
	# With overlayfs it is a write.
	[ "$FSTYPE" = rovl ] || form='%a %u:%g %s %i'
	for f in f g; do
		before=$(stat -c "$form" mnt/$f) caps=$(getcap mnt/$f)
		check "$f is marked" has_mark upper/$f
		check "$f is mapped" sys map mnt/$f
		check "$f is whole" lacks_mark upper/$f
		is "$f: attributes" "$before" "$(stat -c "$form" mnt/$f)"
		is "$f: capabilities" "$caps" "$(getcap mnt/$f)"
		check "$f: the data" cmp upper/$f lower1/$f
	done
	check 'there are some' test -n "$(getcap mnt/f)"
	umnt
}

renames() {
	layers 2
	mkdir -p lower1/d lower2/e/deep upper/pure
	for f in a b c h m o x1 x2; do content $f >lower2/$f; done
	content e >lower2/e/deep/file
	ln lower2/h lower2/h2
	mnt $WITH
	check 'within its directory' move mnt/a mnt/a2
	is 'its redirect is its name' a "$(redirect_of upper/a2)"
	check 'the old name is a whiteout' is_whiteout upper/a
	check 'once more' move mnt/a2 mnt/a3
	is 'the redirect stays' a "$(redirect_of upper/a3)"
	check 'to another directory' move mnt/b mnt/d/b2
	is 'its redirect is a path' /b "$(redirect_of upper/d/b2)"
	check 'from within to another directory' move mnt/a3 mnt/pure/a4
	is 'the name becomes a path' /a "$(redirect_of upper/pure/a4)"
	check 'a link' ln mnt/c mnt/c2
	is 'has a path' /c "$(redirect_of upper/c2)"
	check 'a hard link of the lower layer, within' move mnt/h mnt/h3
	is 'has a path, too' /h "$(redirect_of upper/h3)"
	check 'its directory is renamed' move mnt/e mnt/e2
	check 'a file in it' move mnt/e2/deep/file mnt/file
	is 'has the path of the layers' /e/deep/file "$(redirect_of upper/file)"
	check 'two are exchanged' sys rename 2 mnt/x1 mnt/d/b2
	is 'both have a path' '/x1 /b' "$(redirect_of upper/d/b2) $(redirect_of upper/x1)"
	check 'over another' move mnt/m mnt/o
	local pass
	for pass in '' ' after a new mount'; do
		check "within$pass" cmp mnt/pure/a4 lower2/a
		check "exchanged$pass" cmp mnt/x1 lower2/b
		check "exchanged, the other$pass" cmp mnt/d/b2 lower2/x1
		check "linked$pass" cmp mnt/c2 lower2/c
		check "linked, the other$pass" cmp mnt/c lower2/c
		check "a lower link$pass" cmp mnt/h3 lower2/h
		check "the other lower link$pass" cmp mnt/h2 lower2/h
		check "out of a renamed directory$pass" cmp mnt/file lower2/e/deep/file
		check "over another$pass" cmp mnt/o lower2/m
		once_more
	done
	is 'the links are one file' "$(number mnt/c)" "$(number mnt/c2)"
	check 'a link is changed' add mnt/c2 more
	check 'which the other shows' cmp mnt/c upper/c2
	check 'a moved one is changed' add mnt/pure/a4 more
	is 'and has it all' 200005 "$(stat -c %s upper/pure/a4)"
	once_more
	is 'a moved one after a new mount' 200005 "$(wc -c <mnt/pure/a4)"
	is 'a link after a new mount' 200005 "$(wc -c <mnt/c)"
	check 'all can be removed' rm -r mnt/c mnt/c2 mnt/pure mnt/x1 mnt/d mnt/h2 mnt/h3 mnt/file mnt/o
	umnt
	local long
	long=$(printf '%0150d' 0)
	mkdir -p "lower1/$long/$long"
	content l >"lower1/$long/$long/f"
	mnt $WITH
	fails 'a path of more than 256 bytes' EXDEV move "mnt/$long/$long/f" mnt/f
	check 'mv copies' mv "mnt/$long/$long/f" mnt/f
	check 'and has it' cmp mnt/f "lower1/$long/$long/f"
	check 'with its data' lacks_mark upper/f
	umnt
}

# Uppers of earlier mounts over one another: copies without data in the middle.
middle() {
	layers 1
	mkdir lower1/d
	for f in a b c; do content $f >lower1/d/$f; done
	mnt $WITH
	chmod 600 mnt/d/a
	move mnt/d/b mnt/b1
	chmod 600 mnt/d/c
	umnt
	mkdir upper2 work2
	LAYERS=lowerdir=upper:lower1,upperdir=upper2,workdir=work2
	mnt $WITH
	check 'a middle copy' cmp mnt/d/a lower1/d/a
	is 'its attributes' 600 "$(stat -c %a mnt/d/a)"
	is 'its room' "$(blocks lower1/d/a)" "$(blocks mnt/d/a)"
	check 'one with a redirect' cmp mnt/b1 lower1/d/b
	check 'another copy of it' chmod 640 mnt/d/a mnt/b1
	check 'is marked' has_mark upper2/b1
	check 'through two' cmp mnt/b1 lower1/d/b
	is 'the room through two' "$(blocks lower1/d/b)" "$(blocks mnt/b1)"
	check 'is moved' move mnt/b1 mnt/d/b2
	is 'by the name that the middle has' /b1 "$(redirect_of upper2/d/b2)"
	check 'a middle one is written' add mnt/d/c more
	is 'it is whole' 200005 "$(stat -c %s upper2/d/c)"
	check 'without a mark' lacks_mark upper2/d/c
	umnt
	mnt $WITH
	check 'through two redirects' cmp mnt/d/b2 lower1/d/b
	check 'and written' add mnt/d/b2 more
	is 'it has it all' "$(content b | cat - <(echo more) | cksum)" "$(cksum <upper2/d/b2)"
	umnt
	LAYERS=lowerdir=upper2:upper:lower1
	mnt $WITH
	check 'read-only' cmp mnt/d/a lower1/d/a
	is 'read-only: its attributes' 640 "$(stat -c %a mnt/d/a)"
	is 'read-only: its room' "$(blocks lower1/d/a)" "$(blocks mnt/d/a)"
	umnt
}

# Layers that no kernel wrote.
crafted() {
	layers 3
	local digest f
	digest=00240001$(printf '%064d' 0)
	mkdir -p lower3/there lower2/dir lower1/odir lower3/odir upper/o lower1/way
	put lower3/plain plain
	put lower3/there/data data
	bare upper/plain 6
	bare upper/digest 6 "$digest"
	put lower3/digest digest
	bare upper/header 6 00040000
	put lower3/header header
	bare upper/byname 6
	redirect upper/byname plain2
	put lower3/plain2 plain
	bare upper/bypath 5
	redirect upper/bypath /there/data
	bare upper/deep 5
	bare lower1/deep 5 "$digest"
	bare lower2/deep 5
	redirect lower2/deep /there/data
	bare lower1/lower 6
	redirect lower1/lower plain
	# Names change from layer to layer.
	bare upper/one 6
	redirect upper/one two
	bare lower1/two 6
	redirect lower1/two /plain
	# An opaque directory on the way of a path hides nothing of a file without data.
	opaque lower1/odir
	bare lower1/odir/f 6
	put lower3/odir/f opaque
	bare upper/through 7
	redirect upper/through /odir/f
	# What leads to no regular file.
	for f in none dir link hole device loop file/x short; do bare "upper/${f%/*}" 6; done
	ln -s plain lower2/link
	whiteout lower2/hole
	put lower3/hole hidden
	mknod lower2/device c 1 3
	put lower3/device hidden
	mkdir lower2/loop
	put lower3/loop hidden
	redirect upper/file /plain/x
	setfattr -n $ov.metacopy -v 0x00 upper/short
	bare upper/wrong 6
	redirect upper/wrong a/b
	bare upper/up 6
	redirect upper/up /../plain
	bare lower3/last 6
	bare lower3/last2 6
	redirect lower3/last2 a/b
	mnt $WITH
	prints 'by its own name' plain cat mnt/plain
	prints 'with a digest' digest cat mnt/digest
	prints 'with a header alone' header cat mnt/header
	prints 'by another name' plain cat mnt/byname
	prints 'by a path' data cat mnt/bypath
	prints 'through two others' data cat mnt/deep
	prints 'in a lower layer' plain cat mnt/lower
	prints 'by one name after another' plain cat mnt/one
	prints 'through an opaque directory' opaque cat mnt/through
	dmesg -C
	for f in none dir link hole device loop file last last2; do
		fails "no data: $f" EIO cat mnt/$f
	done
	check 'the log says so' grep -q 'metacopy with no lower data found' <(dmesg)
	fails 'a mark that is too short' EIO cat mnt/short
	fails 'a redirect that is none' EINVAL cat mnt/wrong
	fails 'a path that leads up' EACCES cat mnt/up
	fails 'writing to what has no data' EIO add mnt/none x
	check 'their names are listed' grep -qw none <(names mnt)
	for f in digest deep one lower; do
		check "writing: $f" add mnt/$f more
		check "writing: $f: no mark" lacks_mark upper/$f
	done
	prints 'what was written' $'data\nmore' cat mnt/deep
	umnt
	mnt redirect_dir=on
	for f in plain byname bypath none last; do
		fails "without metacopy: $f" EPERM cat mnt/$f
	done
	umnt
}

# Descriptors and names.
opened() {
	layers 1
	for f in a b c d; do content $f >lower1/$f; done
	cp /bin/true lower1/true
	mnt $WITH
	exec 5<mnt/a
	chmod 600 mnt/a
	is 'a reader goes on without data in upper' aaa "$(head -c 3 <&5)"
	check 'is marked' has_mark upper/a
	sync -d mnt/a
	sync mnt/a
	check 'syncing it brings no data' has_mark upper/a
	is 'a reader that was synced' aaa "$(head -c 3 <&5)"
	poke mnt/a XXX
	is 'a reader follows' XXX "$(head -c 3 mnt/a)"
	exec 5<&-
	exec 5<>mnt/b
	rm mnt/b
	chmod 600 /proc/self/fd/5
	is 'a removed one is read' bbb "$(head -c 3 /proc/self/fd/5)"
	printf XXX >&5
	is 'a removed one is written' XXXbb "$(head -c 5 /proc/self/fd/5)"
	exec 5<&-
	chmod 600 mnt/c
	exec 5<>mnt/c
	rm mnt/c
	is 'one without data is removed and read' ccc "$(head -c 3 /proc/self/fd/5)"
	printf XXX >&5
	is 'one without data is removed and written' XXXcc "$(head -c 5 /proc/self/fd/5)"
	is 'its size' 200000 "$(stat -Lc %s /proc/self/fd/5)"
	exec 5<&-
	check 'no name of them is left' absent mnt/c
	chmod 700 mnt/true
	check 'a program runs' mnt/true
	check 'which brings no data' has_mark upper/true
	: >lower1/empty
	chmod 600 mnt/empty
	add mnt/empty x
	is 'an empty one' x "$(cat upper/empty)"
	umnt
}

# No room for the data: the file is as it was.
no_room() {
	layers 1
	content x >lower1/f
	head -c 8000000 /dev/urandom >lower1/big
	make_fs tmpfs small 1M || exit 1
	mkdir small/u small/w
	LAYERS=lowerdir=lower1,upperdir=small/u,workdir=small/w
	mnt $WITH
	check 'attributes need no room' chmod 755 mnt/big
	check 'nor do capabilities' setcap cap_chown+ep mnt/big
	touch -hd 2003-03-03 mnt/big
	local form='%a %u:%g %y %s %i' before
	# Times and capabilities are lost with overlayfs.
	[ "$FSTYPE" = rovl ] || form='%a %u:%g %s %i'
	before=$(stat -c "$form" mnt/big)
	fails 'the first write' ENOSPC add mnt/big more
	is 'attributes after it' "$before" "$(stat -c "$form" mnt/big)"
	[ "$FSTYPE" = overlay ] || check 'capabilities after it' test -n "$(getcap mnt/big)"
	check 'the mark stays' has_mark small/u/big
	check 'the data is seen' cmp mnt/big lower1/big
	# It takes the room of what could be written with overlayfs.
	[ "$FSTYPE" = overlay ] || check 'it takes no room' add mnt/f more
	check 'and to nothing at once' sys open 'WRONLY|TRUNC' mnt/big
	is 'which is seen' 0 "$(stat -c %s mnt/big)"
	check 'without a mark' lacks_mark small/u/big
	umnt
}

modes() {
	layers 2
	put lower2/f f
	SHOWN='metacopy|redirect_dir'
	mnt $WITH
	is 'it is shown, with redirects' 'redirect_dir=on metacopy=on ' "$(shown)"
	umnt
	local -a basic=("lowerdir=$LOWER" upperdir=upper workdir=work)
	local o
	for o in off nofollow follow; do
		fails "with redirect_dir=$o" EINVAL sys mount "$FSTYPE" mnt "${basic[@]}" $WITH redirect_dir=$o
	done
	fails 'with userxattr' EINVAL sys mount "$FSTYPE" mnt "${basic[@]}" $WITH userxattr
	mnt $WITH metacopy=off
	is 'the last counts' '' "$(shown)"
	umnt
	LAYERS=lowerdir=$LOWER mnt $WITH redirect_dir=follow
	is 'without upper' 'redirect_dir=on metacopy=on ' "$(shown)"
	umnt
	local p=/sys/module/$FSTYPE/parameters/metacopy default
	default=$(cat "$p")
	echo Y >"$p"
	mnt
	is 'the parameter is the default' 'redirect_dir=on ' "$(shown)"
	chmod 600 mnt/f
	check 'which is in effect' has_mark upper/f
	umnt
	mnt metacopy=off
	is 'off is shown then' 'metacopy=off ' "$(shown)"
	fails 'off: refused' EPERM cat mnt/f
	umnt
	dmesg -C
	mnt redirect_dir=nofollow
	is 'redirect_dir turns it off' 'metacopy=off ' "$(shown)"
	check 'and the log names both' grep -q 'metacopy.*redirect_dir=nofollow' <(dmesg)
	umnt
	mkdir ram
	mount -t ramfs ram ram && mkdir ram/u ram/w
	dmesg -C
	LAYERS=lowerdir=$LOWER,upperdir=ram/u,workdir=ram/w mnt
	is 'an upper without attributes turns it off' 'metacopy=off ' "$(shown)"
	check 'and the log says so' grep -q 'falling back to metacopy=off' <(dmesg)
	umnt
	umount ram
	echo "$default" >"$p"
	check 'an unprivileged mounter' refused_in_userns
}
refused_in_userns() {
	setpriv --reuid 1000 --regid 1000 --clear-groups -- unshare -Urm bash -c "
		mount -t tmpfs t /mnt && cd /mnt && mkdir l u w m &&
			! mount -t $FSTYPE -o lowerdir=l,upperdir=u,workdir=w,metacopy=on o m 2>/dev/null &&
			mount -t $FSTYPE -o lowerdir=l,upperdir=u,workdir=w,metacopy=off o m"
}

# What one type wrote the other one reads and goes on with.
switching() {
	[ -n "$OTHER" ] || { skip 'both types' "there is no $FSTYPE beside it" && return; }
	layers 1
	local f
	mkdir lower1/d
	for f in a b c d/e g h; do content "${f##*/}" >lower1/$f; done
	mnt $WITH
	chmod 600 mnt/a
	move mnt/b mnt/d/b2
	ln mnt/c mnt/c2
	move mnt/d mnt/d2
	chown 4:5 mnt/d2/e
	chmod 600 mnt/g mnt/h
	umnt
	FSTYPE=$OTHER mnt $WITH
	check "$OTHER reads it" cmp mnt/a lower1/a
	is "$OTHER: its room" "$(blocks lower1/a)" "$(blocks mnt/a)"
	check "$OTHER: a moved one" cmp mnt/d2/b2 lower1/b
	check "$OTHER: a linked one" cmp mnt/c2 lower1/c
	check "$OTHER: in a moved directory" cmp mnt/d2/e lower1/d/e
	check "$OTHER moves it" move mnt/d2/b2 mnt/b3
	check "$OTHER moves another" move mnt/a mnt/a2
	check "$OTHER writes it" add mnt/c more
	check "$OTHER truncates it" truncate -s 5 mnt/g
	check "$OTHER changes it" touch -d 2001-01-01 mnt/h
	umnt
	mnt $WITH
	check 'back: moved' cmp mnt/b3 lower1/b
	check 'back: the other' cmp mnt/a2 lower1/a
	is 'back: written' 200005 "$(wc -c <mnt/c2)"
	is 'back: truncated' ggggg "$(cat mnt/g)"
	check 'back: changed' cmp mnt/h lower1/h
	check 'back: all are written' add_all mnt/a2 mnt/b3 mnt/d2/e mnt/h
	umnt
	FSTYPE=$OTHER mnt $WITH
	for f in a2 b3 d2/e h; do is "$OTHER: $f" 200005 "$(wc -c <mnt/$f)"; done
	umnt
}
add_all() {
	local f
	for f; do add "$f" more || return; done
}

on_each_upper attributes
on_each_upper data
on_each_upper unchanged
renames
middle
crafted
opened
no_room
modes
switching
done_testing
