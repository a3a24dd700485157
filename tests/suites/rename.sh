#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# renameat2 with every flag, between upper, lower, merged and whited-out names.
. "${0%/*}/lib.sh"

# One process makes all the renames: starting one for each takes half of the time.
coproc RENAMES { sys renames; }
to=${RENAMES[1]}
exec 8>&"$to" 9<&"${RENAMES[0]}" {to}>&-
ren() { # OLD NEW [FLAGS]
	local answer
	echo "${3:-0}|$PWD/$1|$PWD/$2" >&8
	read -r answer <&9
	[ "$answer" = ok ] || { echo "$answer" && false; }
}
NOREPLACE=1 EXCHANGE=2 WHITEOUT=4

files() {
	layers 2
	for f in a b c d e g h; do put lower1/$f "lower $f"; done
	for f in u1 u2 u3 u4 u5 u6; do put upper/$f "upper $f"; done
	mkdir lower1/dir lower1/other upper/udir
	put lower1/dir/x x
	ln -s to lower1/link
	mkfifo lower1/fifo
	chmod 604 lower1/a
	touch -d '2001-02-03 04:05:06.789' lower1/a
	mnt
	check 'upper to a new name' ren mnt/u1 mnt/u1new
	is 'leaves nothing behind' 'absent upper u1' "$(absent upper/u1 && echo absent) $(cat upper/u1new)"
	check 'lower to a new name' ren mnt/a mnt/anew
	check 'leaves a whiteout' is_whiteout upper/a
	prints 'and a copy' 'lower a' cat upper/anew
	prints 'with mode and time' '604 2001-02-03 04:05:06.789000000 +0000' stat -c '%a %y' upper/anew
	fails 'the old name is gone' ENOENT stat mnt/a
	check 'upper over lower' ren mnt/u2 mnt/b
	is 'upper over lower: no whiteout is left' 'upper u2' "$(cat upper/b)$(absent upper/u2 || echo u2)"
	check 'lower over lower' ren mnt/c mnt/d
	is 'lower over lower' 'lower c' "$(cat mnt/d)"
	check 'lower over lower: whiteout' is_whiteout upper/c
	check 'upper over upper' ren mnt/u3 mnt/u4
	prints 'upper over upper: content' 'upper u3' cat mnt/u4
	check 'lower over upper' ren mnt/e mnt/u4
	is 'lower over upper' 'lower e' "$(cat mnt/u4)"
	check 'lower over upper: whiteout' is_whiteout upper/e
	check 'upper over a whiteout' ren mnt/u5 mnt/e
	is 'upper over a whiteout' 'upper u5' "$(cat upper/e)$(absent upper/u5 || echo u5)"
	check 'back again' ren mnt/e mnt/u5
	check 'leaves the whiteout' is_whiteout upper/e
	check 'lower over a whiteout' ren mnt/g mnt/e
	check 'lower over a whiteout: another whiteout' is_whiteout upper/g
	prints 'lower over a whiteout: content' 'lower g' cat upper/e
	check 'into a lower directory' ren mnt/h mnt/dir/h
	is 'into a lower directory: listing' 'h x ' "$(listing mnt/dir)"
	is 'which is marked impure' y "$(xattr upper/dir trusted.overlay.impure)"
	check 'a copy into an upper directory' ren mnt/dir/h mnt/udir/h
	is 'which is marked impure' y "$(xattr upper/udir trusted.overlay.impure)"
	check 'out of a lower directory' ren mnt/dir/x mnt/x
	is 'out of a lower directory: it is empty' '' "$(listing mnt/dir)"
	check 'a lower symlink' ren mnt/link mnt/link2
	prints 'a lower symlink: target' to readlink upper/link2
	check 'a lower fifo' ren mnt/fifo mnt/fifo2
	check 'a lower fifo: type' test -p upper/fifo2

	fails 'no source' ENOENT ren mnt/none mnt/x
	fails 'a whited-out source' ENOENT ren mnt/a mnt/x
	fails 'no target folder' ENOENT ren mnt/x mnt/none/x
	fails 'a file over a directory' EISDIR ren mnt/x mnt/other
	fails 'a directory over a file' ENOTDIR ren mnt/udir mnt/x
	fails 'out of the mount' EXDEV ren mnt/x upper/x2
	fails 'into the mount' EXDEV ren lower1/b mnt/b2
	fails 'a mount point' EBUSY ren mnt upper/m

	fails 'NOREPLACE: upper' EEXIST ren mnt/x mnt/u5 $NOREPLACE
	fails 'NOREPLACE: lower' EEXIST ren mnt/x mnt/dir $NOREPLACE
	check 'NOREPLACE: free' ren mnt/x mnt/x2 $NOREPLACE
	check 'NOREPLACE: over a whiteout' ren mnt/x2 mnt/a $NOREPLACE
	prints 'NOREPLACE: content' x cat mnt/a
	fails 'WHITEOUT' EINVAL ren mnt/a mnt/a2 $WHITEOUT
	fails 'NOREPLACE and EXCHANGE' EINVAL ren mnt/a mnt/b $((NOREPLACE | EXCHANGE))
	fails 'an unknown flag' EINVAL ren mnt/a mnt/b 8

	ln mnt/u6 mnt/u6link
	check 'onto a link of itself' ren mnt/u6 mnt/u6link
	check 'does nothing' test mnt/u6 -ef mnt/u6link
	check 'onto itself' ren mnt/u6 mnt/u6
	is 'onto itself: nothing' 'upper u6' "$(cat mnt/u6)"
	is 'work holds whiteouts only' '' "$(leftovers)"
	before=$(listing mnt)
	again
	is 'a new mount shows the same' "$before" "$(listing mnt)"
	fails 'and whiteouts' ENOENT stat mnt/g
	is 'the lower layer is as it was' "a b c d dir e fifo g h link other " "$(listing lower1)"
	umnt
}

exchange() {
	layers 2
	put lower1/l1 'lower 1'
	put lower1/l2 'lower 2'
	put upper/u1 'upper 1'
	put upper/u2 'upper 2'
	put upper/over u && put lower1/over l
	mkdir -p lower1/ld lower1/md upper/md upper/ud upper/ud2 lower1/gone
	put upper/ud/f f
	put upper/ud2/g g
	mnt
	check 'upper and upper' ren mnt/u1 mnt/u2 $EXCHANGE
	is 'upper and upper: content' 'upper 2 upper 1' "$(cat mnt/u1 mnt/u2 | xargs)"
	check 'lower and lower' ren mnt/l1 mnt/l2 $EXCHANGE
	is 'lower and lower: content' 'lower 2 lower 1' "$(cat mnt/l1 mnt/l2 | xargs)"
	check 'lower and upper' ren mnt/l1 mnt/u1 $EXCHANGE
	is 'lower and upper: content' 'upper 2 lower 2' "$(cat mnt/l1 mnt/u1 | xargs)"
	check 'a file and an upper directory' ren mnt/u2 mnt/ud $EXCHANGE
	is 'a file and a directory: types' 'regular file|directory' "$(stat -c %F mnt/ud)|$(stat -c %F mnt/u2)"
	check 'two upper directories' ren mnt/u2 mnt/ud2 $EXCHANGE
	is 'two upper directories: content' 'g | f ' "$(listing mnt/u2)| $(listing mnt/ud2)"
	fails 'nothing there' ENOENT ren mnt/u1 mnt/none $EXCHANGE
	fails 'a lower directory' EXDEV ren mnt/u1 mnt/ld $EXCHANGE
	fails 'a merged directory' EXDEV ren mnt/md mnt/ud2 $EXCHANGE
	rmdir mnt/gone
	fails 'a whiteout' ENOENT ren mnt/u1 mnt/gone $EXCHANGE
	is 'no mark of work is left' '' "$(leftovers)"
	again
	is 'after a new mount' 'upper 2 lower 2 g f' "$(cat mnt/l1 mnt/u1 | xargs) $(listing mnt/u2)$(ls mnt/ud2)"
	umnt
}

directories() {
	layers 2
	mkdir -p lower1/{low/sub,merged,empty,full,emptym,target,m2} lower2/{merged,emptym}
	mkdir -p upper/{merged,pure/sub,pure2,pure3,pure4,pure5,m2/pure6,wh}
	put lower1/low/f f
	put lower1/full/f f
	put lower1/emptym/f f
	put upper/pure/p p
	put upper/pure2/p2 p2
	whiteout upper/emptym
	rm upper/emptym
	mkdir upper/emptym
	whiteout upper/emptym/f
	put lower1/wh x
	rmdir upper/wh
	mnt
	fails 'a lower directory' EXDEV ren mnt/low mnt/low2
	fails 'a directory below it' EXDEV ren mnt/low/sub mnt/sub
	fails 'a merged directory' EXDEV ren mnt/merged mnt/merged2
	fails 'a lower directory over an empty one' EXDEV ren mnt/low mnt/empty
	check 'which copies nothing up' absent upper/low
	check 'mv makes a copy' mv mnt/low mnt/low2
	is 'the copy' 'f sub ' "$(listing mnt/low2)"
	check 'the old name is whited out' is_whiteout upper/low
	check 'an upper directory' ren mnt/pure mnt/pure-new
	is 'an upper directory: content' 'p sub ' "$(listing mnt/pure-new)"
	check 'an upper directory: nothing is left' absent upper/pure
	fails 'into itself' EINVAL ren mnt/pure-new mnt/pure-new/sub/x
	fails 'over its parent' ENOTEMPTY ren mnt/pure-new/sub mnt/pure-new
	fails 'over a full lower directory' ENOTEMPTY ren mnt/pure-new mnt/full
	check 'over an empty lower directory' ren mnt/pure-new mnt/empty
	is 'over an empty lower directory: content' 'p sub ' "$(listing mnt/empty)"
	check 'it is opaque' is_opaque upper/empty
	check 'over a merged directory of whiteouts' ren mnt/pure2 mnt/emptym
	is 'over a merged directory: content' 'p2 ' "$(listing mnt/emptym)"
	check 'over a merged directory: opaque' is_opaque upper/emptym
	check 'over an empty upper directory' ren mnt/pure3 mnt/pure4
	check 'over an empty upper directory: gone' absent upper/pure3
	rmdir mnt/target
	check 'over a whiteout' ren mnt/pure4 mnt/target
	is 'over a whiteout: empty' '' "$(listing mnt/target)"
	check 'over a whiteout: opaque' is_opaque upper/target
	check 'over a whiteout: nothing is left' absent upper/pure4
	check 'into another directory' ren mnt/m2/pure6 mnt/pure5/moved
	check 'and to the root' ren mnt/pure5/moved mnt/moved
	mkdir mnt/low2/up
	check 'a new directory within a copied one' ren mnt/low2/up mnt/low2/up2
	fails 'NOREPLACE: a lower directory' EEXIST ren mnt/moved mnt/full $NOREPLACE
	fails 'NOREPLACE: a directory over itself' EEXIST ren mnt/moved mnt/moved $NOREPLACE
	rm mnt/wh
	check 'a directory over a whited-out file' ren mnt/moved mnt/wh
	check 'a directory over a whited-out file: opaque' is_opaque upper/wh
	check 'away again' ren mnt/wh mnt/away
	fails 'the whiteout is back' ENOENT stat mnt/wh
	is 'no mark of work is left' '' "$(leftovers)"
	before=$(cd mnt && find . | sort)
	again
	is 'a new mount shows the same' "$before" "$(cd mnt && find . | sort)"
	umnt
}

# Hard links in a lower layer are broken by copy-up, so their names are not one
# object: renaming one over the other does rename.
lower_links() {
	layers
	put lower1/a x
	ln lower1/a lower1/b
	mnt
	check 'a lower file over its own link' ren mnt/a mnt/b
	is 'a lower file over its own link: names' 'b ' "$(listing mnt)"
	umnt
}

on_each_upper files
UPPERFS='tmpfs ext4' on_each_upper exchange
UPPERFS='tmpfs ext4' on_each_upper directories
lower_links
exec 8>&-
wait "$RENAMES_PID"
done_testing
