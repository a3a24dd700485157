#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Two names that are one lower file though it has one link: a deleted name is shown again behind the back of a copy
# that was renamed, or a directory is met twice. What is done by one name is seen by the other, and stays.
. "${0%/*}/lib.sh"

# One file at mnt/one and mnt/two, in upper as `two`.
renamed() {
	layers
	put lower1/one text
	setfattr -n user.colour -v red lower1/one
	mnt
	mv mnt/one mnt/two
	umnt
	rm upper/one
	mnt
	cat mnt/two mnt/one >/dev/null
}

# One file at mnt/one/f and mnt/two/f, in no upper.
redirected() {
	layers 2
	mkdir lower1/two lower2/one
	setfattr -n trusted.overlay.redirect -v /one lower1/two
	put lower2/one/f text
	mnt redirect_dir=follow
	cat mnt/one/f mnt/two/f >/dev/null
}

inode() { stat -c %i "$1"; }

# same PLACE: both names are one file, with the content of the second.
same() {
	is "$1: still one inode" "$(inode mnt/two)" "$(inode mnt/one)"
	is "$1: the same content" "$(<mnt/two)" "$(<mnt/one)"
}

# one WHAT COMMAND...: done by the name that is in no layer's upper entry; seen by both, now and at the next mount.
one() {
	renamed
	is "$1: one inode" "$(inode mnt/two)" "$(inode mnt/one)"
	check "$1" "${@:2}"
}
kept() { # WHAT CONTENT MODE
	same "$1"
	again
	same "$1, the next mount"
	is "$1: content" "$2" "$(<mnt/one)"
	is "$1: mode" "$3" "$(stat -c %a mnt/one)"
	umnt
}
one chmod chmod 600 mnt/one
kept chmod text 600
one 'a write' add mnt/one more
kept 'a write' $'text\nmore' 644
one truncation put mnt/one new
kept truncation new 644
one 'a write in place' poke mnt/one T
kept 'a write in place' Text 644
one 'a link' ln mnt/one mnt/three
is 'a link: another name' text "$(<mnt/three)"
kept 'a link' text 644
one rename mv mnt/one mnt/three
fails 'rename: the old name' ENOENT stat mnt/one
again
is 'rename: the new name' text "$(<mnt/three)"
is 'rename: one inode at the next mount' "$(inode mnt/two)" "$(inode mnt/three)"
umnt
one 'unlink of the other' rm mnt/two
again
is 'unlink of the other: what is left' 'one text' "$(listing mnt)$(<mnt/one)"
umnt
if [ "$FSTYPE" = rovl ]; then # overlayfs: ESTALE, twice; the attribute of one name is lost
	one unlink rm mnt/one
	again
	is 'unlink: what is left' 'two text' "$(listing mnt)$(<mnt/two)"
	umnt
	one 'rename over it' bash -c 'echo new >mnt/new && mv -f mnt/new mnt/one'
	is 'rename over it: the other is as it was' 'text new' "$(<mnt/two) $(<mnt/one)"
	umnt
	one setxattr setfattr -n user.size -v big mnt/one
	again
	prints 'setxattr: kept' big xattr mnt/one user.size
	umnt
fi

# both WHAT COMMAND...: on a name of one lower file; `two` follows in upper.
both() {
	redirected
	is "$1: one inode" "$(inode mnt/two/f)" "$(inode mnt/one/f)"
	check "$1" "${@:2}"
}
follows() { # WHAT CONTENT [NAME]
	check "$1: a change by the other name" chmod 600 mnt/two/f
	is "$1: content" "$2" "$(<mnt/two/f)"
	umnt
	mnt redirect_dir=follow
	is "$1: content at the next mount" "$2" "$(<mnt/two/f)"
	is "$1: mode at the next mount" 600 "$(stat -c %a mnt/two/f)"
	[ $# = 2 ] || is "$1: one inode at the next mount" "$(inode mnt/two/f)" "$(inode "mnt/$3")"
	umnt
}
both 'first by one' add mnt/one/f more
follows 'first by one' $'text\nmore' one/f
both 'first a rename' mv mnt/one/f mnt/three
follows 'first a rename' text three
both 'first a link' ln mnt/one/f mnt/three
follows 'first a link' text three
both 'first unlink' rm mnt/one/f
follows 'first unlink' text
# shellcheck disable=SC2016
both 'both open' bash -c 'exec 5<>mnt/one/f 6<>mnt/two/f; printf XX >&6; printf YYY >&5; [ "$(<mnt/two/f)" = YYYt ]'
is 'both open: the other sees it' YYYt "$(<mnt/one/f)"
follows 'both open' YYYt one/f
if [ "$FSTYPE" = rovl ]; then # overlayfs: the name that is left can't be copied up, and is as before at the next mount
	both 'removed while open' bash -c 'exec 5<>mnt/one/f; rm mnt/one/f; printf XX >&5'
	follows 'removed while open' XXxt
fi

# The name that is left is not in the dcache when the removed one is written.
redirected
exec 5<>mnt/one/f
rm mnt/one/f
forget
echo 2 >/proc/sys/vm/drop_caches
printf XX >&5
is 'removed, the other unknown: the descriptor' XXxt "$(</proc/self/fd/5)"
[ "$FSTYPE" != rovl ] || is 'removed, the other unknown: it is as it was' text "$(<mnt/two/f)"
exec 5<&-
umnt
done_testing
