#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Copy-up: what causes it and what does not, what is copied, parents, failures
# that leave nothing behind.
. "${0%/*}/lib.sh"

copied() { # NAME FILE: it is in upper, the lower file is untouched
	if [ -e "upper/$2" ] || [ -L "upper/$2" ]; then ok "$1 copies up"; else not_ok "$1 copies up" "upper has no $2"; fi
}
not_copied() { check "$1 does not copy up" absent "upper/$2"; }

triggers() {
	layers 2
	local n=0 t words
	local -a commands=(
		'add F more' 'put F new' 'poke F new' 'sys open RDONLY|TRUNC F' 'sys open WRONLY|TRUNC F'
		'truncate -s 1 F' 'truncate -s 9999 F' 'chmod 600 F' 'chmod 644 F' 'chown 1:2 F' 'chown 0:0 F' 'chgrp 3 F'
		'touch F' 'touch -a F' 'touch -d 2001-01-01 F' 'setfattr -n trusted.x -v y F' 'setfacl -m u:9:rw F'
		'ln F F.link' 'mv F F.moved' 'setcap cap_chown+ep F' 'fallocate -l 4096 F' 'dd if=/dev/zero of=F bs=1 count=1 conv=notrunc status=none'
		'chattr +d F'
	)
	[ "$1" = tmpfs ] || commands+=('setfattr -n user.x -v y F')
	for t in "${commands[@]}"; do put "lower1/f$((n++))" content; done
	mkdir lower1/d1 lower1/d2 lower1/d3 lower1/d4 lower1/e
	for t in l1 l2 l3; do ln -s to lower1/$t; done
	mkfifo lower1/p1 lower1/p2
	mknod lower1/c1 c 1 3
	touch -d 2002-02-02 lower1/*
	before=$(cd lower1 && stat -c '%n %s %a %u %g %y %h' -- *)
	mnt
	n=0
	for t in "${commands[@]}"; do
		read -ra words <<<"${t//F/mnt/f$n}"
		if ! command -v "${words[0]}" >/dev/null; then
			skip "${t// F/}" "no ${words[0]}"
		elif "${words[@]}" >"$SEEN" 2>&1; then
			case $t in mv*) copied "$t" "f$n.moved" ;; *) copied "$t" "f$n" ;; esac
		elif [[ $t == chattr* || $t == setcap* ]] && grep -q 'not supported' "$SEEN"; then
			skip "$t" "$1 does not support it"
		else
			not_ok "$t" "$(cat "$SEEN")"
		fi
		n=$((n + 1))
	done
	chmod 700 mnt/d1 && copied 'chmod of a directory' d1
	chown 4:4 mnt/d2 && copied 'chown of a directory' d2
	setfattr -n trusted.a -v b mnt/d3 && copied 'setxattr of a directory' d3
	touch mnt/d4/new && copied 'a new name in a directory' d4
	rmdir mnt/e && copied 'rmdir leaves a whiteout and so' e
	chown -h 4:4 mnt/l1 && copied 'chown of a symlink' l1
	touch -h mnt/l2 && copied 'utimes of a symlink' l2
	ln -P mnt/l3 mnt/l3.link && copied 'a link to a symlink' l3
	prints 'a copied symlink' to readlink upper/l1
	chmod 600 mnt/p1 && copied 'chmod of a fifo' p1
	chmod 600 mnt/c1 && copied 'chmod of a device' c1
	prints 'a copied device' 'character special file 1:3 600' stat -c '%F %t:%T %a' upper/c1
	is 'the lower layer is as it was' "$before" "$(cd lower1 && stat -c '%n %s %a %u %g %y %h' -- *)"
	is 'no mark of work is left' '' "$(leftovers)"
	umnt
}

# Opening for writing: overlayfs copies up then, rovl at the first write unless it
# is told to do as overlayfs does.
opening() { # TYPE [OPTION]
	local expect=copied t
	[ "$FSTYPE" = overlay ] || [ $# -gt 1 ] || expect=not_copied
	layers
	local -a flags=(WRONLY RDWR 'WRONLY|APPEND' 'RDWR|CREAT' 'RDWR|NOATIME')
	for t in "${!flags[@]}"; do put "lower1/f$t" content; done
	put lower1/first content
	mnt "${@:2}"
	ON+="${2:+ [$2]}"
	for t in "${!flags[@]}"; do
		check "open(${flags[t]})" sys open "${flags[t]}" "mnt/f$t"
		$expect "open(${flags[t]})" "f$t"
	done
	exec 5<>mnt/first
	read -r -n 3 line <&5
	is 'reading through a writer' con "$line"
	$expect 'opening and reading' first
	printf X >&5
	copied 'the first write' first
	is 'it goes where the reading ended' conXent "$(<mnt/first)"
	exec 5<&-
	add mnt/f0 more
	is 'a write after open and close' $'content\nmore' "$(<upper/f0)"
	is 'no mark of work is left' '' "$(leftovers)"
	umnt
	ON=" [$1]"
}
as_overlayfs() { opening "$1" copy_up=open; }

# What must not copy up.
reading() {
	layers 2
	mkdir lower1/d
	put lower1/d/f content
	put lower1/f content
	ln -s f lower1/l
	mkfifo lower1/p
	setfattr -n trusted.x -v y lower1/f
	chown 500:500 lower1/f
	chmod 666 lower1/d/f
	mnt
	cat mnt/f >"$SEEN" && not_copied 'reading' f
	stat mnt/f >"$SEEN" && not_copied 'stat' f
	getfattr -d -m - mnt/f >"$SEEN" 2>&1 && not_copied 'getxattr' f
	getfacl mnt/f >"$SEEN" 2>&1 && not_copied 'getfacl' f
	ls -lR mnt >"$SEEN" && not_copied 'listing' d
	[ -w mnt/f ] && not_copied 'access(W_OK)' f
	readlink mnt/l >"$SEEN" && not_copied 'readlink' l
	sys open 'RDONLY|CREAT' mnt/f && not_copied 'open(O_RDONLY | O_CREAT)' f
	{ timeout 5 bash -c 'echo x >mnt/p' & } && read -r line <mnt/p && wait $! && is 'a fifo works' x "$line"
	not_copied 'writing to a fifo' p
	fails 'chmod by another user' EPERM as 1000 chmod 600 mnt/f
	not_copied 'a refused chmod' f
	fails 'chown by another user' EPERM as 1000 chown 1000 mnt/f
	not_copied 'a refused chown' f
	fails 'write by another user' EACCES as 1000 dd if=/dev/zero of=mnt/f count=1
	not_copied 'a refused open' f
	fails 'setxattr by another user' EPERM as 1000 setfattr -n trusted.x -v z mnt/f
	not_copied 'a refused setxattr' f
	fails 'unlink by another user' EACCES as 1000 rm -f mnt/d/f
	fails 'rename by another user' EACCES as 1000 mv -f mnt/d/f mnt/g
	fails 'create by another user' EACCES as 1000 touch mnt/d/new
	not_copied 'a refused unlink' d
	fails 'removing an xattr that is not there' ENODATA setfattr -x trusted.none mnt/f
	not_copied 'a failed removexattr' f
	fails 'O_EXCL' EEXIST sys open 'WRONLY|CREAT|EXCL' mnt/f
	not_copied 'a failed O_EXCL' f
	fails 'a directory opened for writing' EISDIR sys open WRONLY mnt/d
	not_copied 'a failed open' d
	is 'upper is empty' '' "$(listing upper)"
	umnt
}

metadata() {
	layers 2
	mkdir -p lower1/a/b/c
	put lower1/a/b/c/f content
	chown 1001:1002 lower1/a/b/c/f
	chmod 4751 lower1/a/b/c/f
	setfattr -n trusted.some -v thing lower1/a/b/c/f
	setfattr -n security.other -v x lower1/a/b/c/f
	[ "$1" = tmpfs ] || setfattr -n user.u -v "$(printf '%0200d' 0)" lower1/a/b/c/f
	setfacl -m u:33:rw,g:44:r lower1/a/b/c/f
	chown 7:8 lower1/a && chmod 1770 lower1/a
	chown 9:10 lower1/a/b && chmod 2755 lower1/a/b
	setfattr -n trusted.dir -v d lower1/a/b
	setfacl -m u:55:rwx -d -m g:66:rx lower1/a/b
	touch -d '1999-12-31 23:59:58.123456789' lower1/a/b/c/f
	touch -d '1999-11-11 11:11:11.111111111' lower1/a/b/c lower1/a/b lower1/a
	state() { (cd "$1/a" && stat -c '%n %s %f %u %g %Y.%y' b/c/f b/c b . && getfacl -cnR . && getfattr -hRd -m '^(user|trusted\.[^o]|security)' . 2>/dev/null); }
	before=$(state lower1)
	mnt
	is 'before copy-up the mount shows the lower layer' "$before" "$(state mnt)"
	# A new time for the access alone: everything else must stay.
	touch -a mnt/a/b/c/f
	is 'after it as well' "$before" "$(state mnt)"
	is 'and upper holds the same' "$before" "$(state upper)"
	is 'the lower layer is as it was' "$before" "$(state lower1)"
	is 'the origin is recorded' 'a b c f ' "$(for f in a a/b a/b/c a/b/c/f; do
		xattrs upper/$f | grep -q trusted.overlay.origin && echo "${f##*/}"
	done | tr '\n' ' ')"
	is 'parents are impure' 'y y y' "$(for f in a a/b a/b/c; do xattr upper/$f trusted.overlay.impure; echo; done | xargs)"
	check 'no opaque mark' bash -c '! getfattr -R -n trusted.overlay.opaque upper 2>/dev/null | grep opaque'
	is 'the root of upper is impure' y "$(xattr upper trusted.overlay.impure)"
	again
	is 'a new mount shows the same' "$before" "$(state mnt)"
	umnt
}

data() {
	layers 2
	head -c 3000000 /dev/urandom >lower1/big
	: >lower1/empty
	truncate -s 8M lower1/holes
	printf start | dd of=lower1/holes conv=notrunc status=none
	printf middle | dd of=lower1/holes bs=1 seek=5000000 conv=notrunc status=none
	truncate -s 5M lower1/allhole
	cp lower1/big lower1/cut
	put lower1/ln1 shared
	ln lower1/ln1 lower1/ln2
	sum=$(cksum <lower1/holes)
	mnt
	chmod 600 mnt/big mnt/empty mnt/holes mnt/allhole
	check '3 MB, byte by byte' cmp lower1/big upper/big
	is 'an empty file' '0 0' "$(stat -c '%s %b' upper/empty)"
	is 'a file with holes' "$sum" "$(cksum <upper/holes)"
	check 'its holes are kept' test "$(stat -c %b upper/holes)" -le 4096
	is 'a file that is one hole' '5242880' "$(stat -c %s upper/allhole)"
	check 'takes no space' test "$(stat -c %b upper/allhole)" -lt 256
	truncate -s 1000 mnt/cut
	is 'truncated: size' 1000 "$(stat -c %s upper/cut)"
	check 'truncated: content' cmp -n 1000 lower1/big upper/cut
	add mnt/ln1 more
	is 'a lower hard link is broken' 'shared' "$(cat mnt/ln2)"
	is 'link counts then' '1 2' "$(stat -c %h mnt/ln1 mnt/ln2 | xargs)"
	is 'a broken link has no origin' 0 "$(xattrs upper/ln1 | grep -c overlay.origin)"
	umnt
}

flags() {
	layers
	put lower1/imm x
	put lower1/app x
	put lower1/plain x
	put lower1/noatime x
	if ! chattr +i lower1/imm 2>"$SEEN"; then
		skip 'inode flags' "$1: $(cat "$SEEN")"
		return
	fi
	chattr +a lower1/app
	chattr +A lower1/noatime
	mnt
	fails 'an immutable lower file: write' EPERM add mnt/imm y
	fails 'an immutable lower file: chmod' EPERM chmod 600 mnt/imm
	fails 'an immutable lower file: unlink' EPERM rm -f mnt/imm
	fails 'an append-only lower file: truncate' EPERM put mnt/app y
	flag() { lsattr -d "$1" | cut -d' ' -f1 | tr -d -- -e; }
	is 'lsattr shows the lower flags' 'i a A' "$(flag mnt/imm) $(flag mnt/app) $(flag mnt/noatime)"
	check 'an append-only lower file: append' add mnt/app y
	is 'it is still append-only' a "$(flag mnt/app)"
	fails 'append-only after copy-up: truncate' EPERM put mnt/app y
	is 'upper itself is not' '' "$(flag upper/app | tr -d A)"
	is 'the flag is kept as an xattr' a "$(xattr upper/app trusted.overlay.protattr)"
	chmod 600 mnt/noatime
	is 'noatime is copied' A "$(flag upper/noatime)"
	check 'chattr +i' chattr +i mnt/plain
	fails 'then immutable' EPERM add mnt/plain y
	is 'chattr +i: the xattr' i "$(xattr upper/plain trusted.overlay.protattr)"
	check 'a name beside it can be made' put mnt/other x
	again
	is 'flags after a new mount' 'i a' "$(flag mnt/plain) $(flag mnt/app)"
	check 'chattr -i' chattr -i mnt/plain
	check 'then it can be written' add mnt/plain y
	is 'chattr -i: the xattr is gone' 0 "$(xattrs upper/plain | grep -c protattr)"
	check 'chattr -a' chattr -a mnt/app
	check 'then it can be removed' rm mnt/app
	umnt
	chattr -i lower1/imm
	chattr -a lower1/app
}

# Many at once: one copy.
together() {
	layers
	head -c 400000 /dev/urandom >lower1/f
	mkdir -p lower1/d/e
	put lower1/d/e/f x
	mnt
	for i in 1 2 3 4 5 6 7 8; do printf "line %s\n" "$i" >>mnt/f & done
	wait
	is 'eight writers: nothing is lost' 400056 "$(stat -c %s mnt/f)"
	check 'eight writers: the old part' cmp -n 400000 lower1/f upper/f
	for i in 1 2 3 4 5 6 7 8; do : >"mnt/d/e/n$i" & done
	wait
	is 'eight creators: one parent' 'f n1 n2 n3 n4 n5 n6 n7 n8 ' "$(listing mnt/d/e)"
	is 'no mark of work is left' '' "$(leftovers)"
	umnt
}

# No space: the errno, the old content, and nothing left.
no_space() { # TYPE SIZE
	layers
	mkdir small
	if ! make_fs "$1" small "$2"; then
		skip "ENOSPC on a small $1" "$WHY"
		return
	fi
	mkdir small/upper small/work lower1/sub
	head -c 20M /dev/urandom >lower1/sub/big
	put lower1/small x
	LAYERS=lowerdir=lower1,upperdir=small/upper,workdir=small/work
	mnt
	fails "a small $1: append" ENOSPC add mnt/sub/big more
	fails "a small $1: chmod" ENOSPC chmod 600 mnt/sub/big
	fails "a small $1: rename" ENOSPC sys rename 0 mnt/sub/big mnt/moved
	fails "a small $1: link" ENOSPC ln mnt/sub/big mnt/linked
	check "a small $1: the content is as before" cmp lower1/sub/big mnt/sub/big
	is "a small $1: upper holds no part of it" '' "$(find small/upper -type f)"
	is "a small $1: neither does work" '' "$(find small/work -type f)"
	is "a small $1: no name appeared" 'small sub big' "$(listing mnt)$(names mnt/sub)"
	check "a small $1: other files can be changed" add mnt/small y
	check "a small $1: open(O_TRUNC) needs no space" sys open 'WRONLY|TRUNC' mnt/sub/big
	umnt
	umount small
}

# The mounter's right to pass quotas is not used.
no_quota() {
	layers
	mkdir small
	if ! mount -t tmpfs -o usrquota,usrquota_block_hardlimit=1M,mode=755 small small 2>"$SEEN"; then
		skip 'EDQUOT' "no tmpfs with quota: $(head -n 1 "$SEEN")"
		return
	fi
	mkdir small/upper small/work
	head -c 4M /dev/urandom >lower1/big
	LAYERS=lowerdir=lower1,upperdir=small/upper,workdir=small/work
	mnt
	fails 'a quota: copy-up' EDQUOT add mnt/big more
	fails 'a quota: a new file' EDQUOT cp lower1/big mnt/new
	rm mnt/new
	is 'a quota: upper holds no part of it' '' "$(find small/upper small/work -type f)"
	check 'a quota: the content is as before' cmp lower1/big mnt/big
	umnt
	umount small
}

on_each_upper triggers
on_each_upper opening
[ "$FSTYPE" = overlay ] || on_each_upper as_overlayfs
reading
on_each_upper metadata
on_each_upper data
on_each_upper flags
together
no_space tmpfs 2M
no_space ext4 8M
no_quota
done_testing
