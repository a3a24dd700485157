#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Creating and removing: over nothing, over whiteouts, in lower directories; what
# upper holds afterwards, and that the lower layers stay as they were.
. "${0%/*}/lib.sh"

what() { stat -c '%F %a' "$1"; }

creation() {
	layers 2
	umask 027
	mkdir -p lower1/d lower2/d/sub upper/d upper/own
	chmod 755 lower1/d lower2/d upper/d
	put lower1/d/f lower
	put lower1/gone x
	mkdir lower2/gonedir
	put lower2/gonedir/below x
	mnt

	# Where nothing was.
	put mnt/new n
	mkdir mnt/newdir
	ln -s to mnt/newlink
	mkfifo mnt/newfifo
	mknod mnt/newchr c 4 5
	mknod mnt/newblk b 4 5
	sys socket mnt/newsock
	is 'new objects' \
		"$(printf '%s\n' 'regular file 640' 'directory 750' 'symbolic link 777' 'fifo 640' 'character special file 640' 'block special file 640' 'socket 750')" \
		"$(cd mnt && stat -c '%F %a' new newdir newlink newfifo newchr newblk newsock)"
	is 'the same in upper' "$(cd mnt && stat -c '%n %F %a %u %g %t %T' new*)" "$(cd upper && stat -c '%n %F %a %u %g %t %T' new*)"
	prints 'the content in upper' n cat upper/new
	mkdir mnt/own/dir
	is 'a new directory has no marks' '' "$(xattrs upper/newdir)$(xattrs upper/own/dir)"
	is 'a new file has no marks' '' "$(xattrs upper/new)"
	fails 'O_EXCL: upper' EEXIST sys open 'WRONLY|CREAT|EXCL' mnt/new
	fails 'O_EXCL: lower' EEXIST sys open 'WRONLY|CREAT|EXCL' mnt/d/f
	fails 'mkdir: exists in a lower layer' EEXIST mkdir mnt/d
	fails 'mkdir: a lower file' EEXIST mkdir mnt/d/f
	fails 'mknod: exists' EEXIST mkfifo mnt/d/f
	fails 'symlink: exists' EEXIST ln -sT x mnt/d
	fails 'link: exists' EEXIST ln mnt/new mnt/d/f
	fails 'create: no parent' ENOENT put mnt/none/x x
	fails 'create: the parent is a file' ENOTDIR put mnt/new/x x
	fails 'mknod: a whiteout' EPERM mknod mnt/wh c 0 0
	check 'which leaves nothing' absent upper/wh

	# A merged directory and a lower one.
	put mnt/d/new x
	is 'in a merged directory' 'f new sub ' "$(listing mnt/d)"
	put mnt/d/sub/new x
	prints 'in a lower directory: it is copied up' 'directory 750' what upper/d/sub
	is 'with its origin' 1 "$(xattrs upper/d/sub | grep -c trusted.overlay.origin)"
	check 'and not opaque' absent upper/d/sub/none
	is 'upper holds what is new' 'new sub ' "$(listing upper/d)"

	# Hard links.
	ln mnt/new mnt/link1
	ln mnt/new mnt/own/link2
	is 'a link: one inode' '3 3 3' "$(stat -c %h mnt/new mnt/link1 mnt/own/link2 | xargs)"
	check 'a link: the same file' test mnt/new -ef mnt/own/link2
	add mnt/link1 more
	is 'a link: one content' 'n more' "$(xargs <mnt/own/link2)"
	ln mnt/d/f mnt/d/f2
	check 'a link to a lower file copies it up' test upper/d/f -ef upper/d/f2
	is 'a link to a lower file: link counts' '2 2 1' "$(stat -c %h mnt/d/f mnt/d/f2 lower1/d/f | xargs)"
	ln -P mnt/newlink mnt/linklink
	prints 'a link to a symlink' to readlink mnt/linklink
	fails 'a link to a directory' EPERM perl -e 'link "mnt/d", "mnt/dl" or die "$!\n"'

	# O_TMPFILE.
	check 'O_TMPFILE' sys tmpfile mnt 600
	check 'O_TMPFILE, linked' sys tmpfile mnt 644 mnt/tmp
	prints 'O_TMPFILE: content' tmpfile cat mnt/tmp
	prints 'O_TMPFILE: mode, links' '640 1' stat -c '%a %h' mnt/tmp
	check 'O_TMPFILE: in upper' test -f upper/tmp
	check 'O_TMPFILE in a lower directory' sys tmpfile mnt/gonedir 600 mnt/gonedir/tmp
	is 'O_TMPFILE in a lower directory: both' 'below tmp ' "$(listing mnt/gonedir)"

	# Over whiteouts.
	rm -r mnt/gone mnt/gonedir mnt/d/f
	check 'an unlinked lower file is whited out' is_whiteout upper/gone
	check 'a removed lower directory is whited out' is_whiteout upper/gonedir
	check 'a lower file of a merged directory' is_whiteout upper/d/f
	put mnt/gone again
	prints 'a file over a whiteout' 'regular file 640' what upper/gone
	prints 'its content' again cat mnt/gone
	mkdir mnt/gonedir
	is 'a directory over a whiteout is empty' '' "$(listing mnt/gonedir)"
	check 'and opaque' is_opaque upper/gonedir
	prints 'and has its mode' 'directory 750' what upper/gonedir
	fails 'and hides what is below' ENOENT stat mnt/gonedir/below
	ln -s to mnt/d/f
	prints 'a symlink over a whiteout' to readlink upper/d/f
	for make in 'mkfifo mnt/d/f' 'mknod mnt/d/f c 1 3' 'mknod mnt/d/f b 7 0' 'ln mnt/new mnt/d/f' \
		'sys socket mnt/d/f' 'ln -P mnt/newlink mnt/d/f' 'sys tmpfile mnt 644 mnt/d/f'; do
		rm mnt/d/f
		read -ra words <<<"$make"
		check "over a whiteout: ${make%% mnt*}" "${words[@]}"
		check "over a whiteout: it is in upper: ${make%% mnt*}" present upper/d/f
	done
	rm mnt/d/f
	check 'removed again: whited out again' is_whiteout upper/d/f
	rmdir mnt/gonedir
	check 'the opaque directory too' is_whiteout upper/gonedir
	is 'work holds whiteouts only' '' "$(leftovers)"
	again
	fails 'after a new mount: whited out' ENOENT stat mnt/d/f
	prints 'after a new mount: replaced' again cat mnt/gone
	is 'the lower layers are as they were' 'd gone | d gonedir | f | sub ' \
		"$(listing lower1)| $(listing lower2)| $(listing lower1/d)| $(listing lower2/d)"
	prints 'their content too' lower cat lower1/d/f
	umnt
	umask 022
}

removal() {
	layers 2
	mkdir -p lower1/{e,full,m,wh,wh2,deep/er/still} lower2/{m,two} upper/{m,pure/x,wh,wh2}
	put lower1/full/f f
	put lower2/m/l2 x
	put lower1/m/l1 x
	put upper/m/u x
	put lower1/deep/er/still/f x
	put lower1/f lower
	put upper/f upper
	put upper/only upper
	put lower1/lonly lower
	put lower2/lonly lower2
	put lower1/wh/a a
	put lower2/two/t t
	whiteout upper/wh/a
	put lower1/wh2/a a
	whiteout upper/wh2/a
	put upper/wh2/b b
	mnt
	rm mnt/only
	check 'an upper file leaves nothing' absent upper/only
	rm mnt/f
	check 'an upper file over a lower one leaves a whiteout' is_whiteout upper/f
	rm mnt/lonly
	check 'one in two lower layers too' is_whiteout upper/lonly
	fails 'neither is seen' ENOENT stat mnt/lonly
	rmdir mnt/e
	check 'an empty lower directory' is_whiteout upper/e
	fails 'a full lower directory' ENOTEMPTY rmdir mnt/full
	check 'is not touched' absent upper/full
	fails 'a full merged directory' ENOTEMPTY rmdir mnt/m
	rm mnt/m/u mnt/m/l1
	fails 'one name is left in a lower layer' ENOTEMPTY rmdir mnt/m
	rm mnt/m/l2
	check 'a merged directory that holds whiteouts only' rmdir mnt/m
	check 'is whited out' is_whiteout upper/m
	check 'the same, with whiteouts from before' rmdir mnt/wh
	check 'is whited out' is_whiteout upper/wh
	fails 'a whiteout and a file' ENOTEMPTY rmdir mnt/wh2
	check 'which keeps its whiteout' is_whiteout upper/wh2/a
	rmdir mnt/pure/x
	check 'an upper directory leaves nothing' absent upper/pure/x
	rmdir mnt/pure
	check 'nor does its parent' absent upper/pure
	check 'rm -r of a lower tree' rm -r mnt/deep
	check 'leaves one whiteout' is_whiteout upper/deep
	mkdir -p mnt/deep/er
	is 'made again it is empty' '' "$(listing mnt/deep/er)"
	check 'opaque at the top' is_opaque upper/deep
	fails 'rmdir of a file' ENOTDIR rmdir mnt/two/t
	fails 'unlink of a directory' EISDIR perl -e 'unlink "mnt/two" or die "$!\n"'
	fails 'rmdir of nothing' ENOENT rmdir mnt/none
	fails 'unlink of a removed name' ENOENT unlink mnt/f
	fails 'rmdir of the root' EBUSY rmdir mnt
	fails 'rmdir of dot' EINVAL rmdir mnt/two/.

	# An open file lives on after its name.
	put mnt/open x
	exec 5<mnt/open 6<mnt/two/t
	rm mnt/open mnt/two/t
	prints 'an unlinked open upper file' x cat <&5
	prints 'an unlinked open lower file' t cat <&6
	is 'its link count' 0 "$(stat -Lc %h /proc/self/fd/5)"
	exec 5<&- 6<&-

	# A directory that is removed while somebody is in it.
	mkdir mnt/cwd
	cd mnt/cwd || exit 1
	rmdir ../cwd
	fails 'create in a removed directory' ENOENT put ./x x
	cd "$D" || exit 1
	check 'a chain of create and remove' bash -c 'for i in 1 2 3 4 5 6 7 8; do
		>mnt/c && rm mnt/c && mkdir mnt/c && rmdir mnt/c && >mnt/f && rm mnt/f && mkdir mnt/f && rmdir mnt/f || exit; done'
	check 'which leaves nothing' absent upper/c
	check 'or a whiteout' is_whiteout upper/f
	is 'work holds whiteouts only' '' "$(leftovers)"
	again
	is 'after a new mount' 'deep full two wh2 ' "$(listing mnt)"
	umnt
	is 'the lower layers are as they were' 'deep e f full lonly m wh wh2 | lonly m two ' "$(listing lower1)| $(listing lower2)"
}

on_each_upper creation
on_each_upper removal
done_testing
