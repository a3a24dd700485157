#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Renaming directories that have a lower part: redirects, made and followed.
. "${0%/*}/lib.sh"

WITH=redirect_dir=on
redirect_of() { xattr "$1" trusted.overlay.redirect 2>/dev/null; }
move() { sys rename 0 "$1" "$2"; }
exchange() { sys rename 2 "$1" "$2"; }
# Mounted anew with redirects, so that nothing is answered from memory.
once_more() { umnt; mnt $WITH; }
number() { stat -c %i "$1"; }
# What readdir says of a name's inode number: ls -i makes no stat.
listed() { (cd "$1" && ls -Uia) | awk -v name="$2" '$2 == name { print $1 }'; }

in_place() {
	layers 2
	mkdir -p lower1/d/sub lower2/d/low lower1/e upper/d
	put lower1/d/one 1
	put lower2/d/two 2
	put upper/d/up up
	put lower1/d/sub/x x
	put lower1/e/in-e e
	mnt $WITH
	local ino
	ino=$(number mnt/d)
	check 'a merged directory' move mnt/d mnt/moved
	is 'its redirect is its name' d "$(redirect_of upper/moved)"
	check 'its old name is a whiteout' is_whiteout upper/d
	prints 'it has everything' 'low one sub two up ' listing mnt/moved
	is 'it keeps its number' "$ino" "$(number mnt/moved)"
	once_more
	prints 'it has everything after a new mount' 'low one sub two up ' listing mnt/moved
	is 'it keeps its number after a new mount' "$ino" "$(number mnt/moved)"
	prints 'a file of the lower layer' 2 cat mnt/moved/two
	fails 'the old name is gone' ENOENT stat mnt/d
	check 'once more' move mnt/moved mnt/again
	is 'the redirect stays' d "$(redirect_of upper/again)"
	check 'no whiteout where the layers have nothing' absent upper/moved
	check 'back to its own name' move mnt/again mnt/d
	prints 'it is what it was' 'low one sub two up ' listing mnt/d
	check 'a purely lower directory' move mnt/e mnt/e2
	is 'it was copied up, with a redirect' e "$(redirect_of upper/e2)"
	check 'a new one at the old name' mkdir mnt/e
	prints 'the new one is empty' '' listing mnt/e
	check 'the new one is opaque' is_opaque upper/e
	once_more
	prints 'the new one is empty after a new mount' '' listing mnt/e
	prints 'the moved one is not' in-e listing_of_one mnt/e2
	check 'a file of it can be changed' add mnt/e2/in-e more
	prints 'and is' 'e more ' words mnt/e2/in-e
	check 'its files can be removed' rm mnt/e2/in-e
	check 'and itself' rmdir mnt/e2
	check 'which leaves no whiteout' absent upper/e2
	umnt
}
listing_of_one() { names "$1"; }
words() { tr '\n' ' ' <"$1"; }

to_another_place() {
	layers 2
	mkdir -p lower1/a/b/c lower2/a/b/c/deep lower1/t/u lower1/m lower1/n upper/pure
	put lower1/a/b/c/f1 1
	put lower2/a/b/c/f2 2
	put lower2/a/b/c/deep/f3 3
	put lower1/m/in-m m
	put lower1/n/in-n n
	mnt $WITH
	check 'to another directory' move mnt/a/b mnt/t/b2
	is 'its redirect is a path' /a/b "$(redirect_of upper/t/b2)"
	prints 'what is below is there' 'deep f1 f2 ' listing mnt/t/b2/c
	check 'a directory in it' move mnt/t/b2/c mnt/c2
	is 'its redirect is where the layers have it' /a/b/c "$(redirect_of upper/c2)"
	check 'into a pure upper directory' move mnt/c2/deep mnt/pure/deep
	is 'the path goes by the redirect above' /a/b/c/deep "$(redirect_of upper/pure/deep)"
	check 'within its directory first' move mnt/m mnt/m2
	check 'and to another one then' move mnt/m2 mnt/pure/m3
	is 'the name becomes a path' /m "$(redirect_of upper/pure/m3)"
	check 'the directory above it' move mnt/pure mnt/purer
	once_more
	prints 'after a new mount: f3' 3 cat mnt/purer/deep/f3
	prints 'after a new mount: m' m cat mnt/purer/m3/in-m
	prints 'after a new mount: c' 'f1 f2 ' listing mnt/c2
	prints 'after a new mount: b' '' listing mnt/t/b2
	check 'two directories exchanged' exchange mnt/purer/m3 mnt/n
	is 'each has its redirect' '/m /n' "$(redirect_of upper/n) $(redirect_of upper/purer/m3)"
	check 'a directory and a file exchanged' exchange mnt/c2 mnt/t/b2
	once_more
	prints 'exchanged: one' m cat mnt/n/in-m
	prints 'exchanged: the other' n cat mnt/purer/m3/in-n
	prints 'exchanged: the third' 'f1 f2 ' listing mnt/t/b2
	check 'everything can be removed' rm -r mnt/t mnt/n mnt/purer mnt/c2 mnt/a
	prints 'and is' '' listing mnt
	umnt
}

over_others() {
	layers 1
	mkdir -p lower1/from lower1/empty lower1/full lower1/emptied upper/pure
	put lower1/from/f f
	put lower1/full/x x
	put lower1/emptied/x x
	put lower1/file x
	mnt $WITH
	rm mnt/emptied/x
	fails 'over a directory with entries' ENOTEMPTY move mnt/from mnt/full
	fails 'over a file' ENOTDIR move mnt/from mnt/file
	check 'over an empty lower directory' move mnt/from mnt/empty
	prints 'over an empty lower directory: content' f cat mnt/empty/f
	check 'over one that holds whiteouts' move mnt/empty mnt/emptied
	prints 'over one that holds whiteouts: listing' 'f ' listing mnt/emptied
	check 'over an empty upper directory' move mnt/emptied mnt/pure
	once_more
	prints 'over an empty upper directory: content' f cat mnt/pure/f
	prints 'no other name is left' 'file full pure ' listing mnt
	umnt
}

# Directories that hold and are told about moved ones.
inside() {
	layers 2
	mkdir -p lower1/p/q lower2/p/q lower1/o
	put lower1/p/q/one 1
	put lower2/p/q/two 2
	put lower1/p/f f
	mnt $WITH
	exec 7<mnt/p/q/one
	cd mnt/p/q || exit 1
	check 'while it is a working directory' move ../../p ../../moved
	prints 'relative names go on' 2 cat two
	check 'a copy-up from there' put one changed
	cd ../../.. || exit 1
	is 'an open file goes on' changed "$(cat <&7)"
	exec 7<&-
	is 'the copy is at the new place' changed "$(cat upper/moved/q/one)"
	is 'listed and seen numbers agree' "$(number mnt/moved)" "$(listed mnt moved)"
	is 'listed and seen numbers agree below' "$(number mnt/moved/q)" "$(listed mnt/moved q)"
	listed mnt/moved/q .. >/dev/null
	listed mnt/moved/q .. >/dev/null
	check 'a directory that was listed' move mnt/moved/q mnt/o/q
	is 'its parent is listed' "$(number mnt/o)" "$(listed mnt/o/q ..)"
	listed mnt/o/q .. >/dev/null
	check 'and again' exchange mnt/o/q mnt/moved
	is 'its parent is listed again' "$(number mnt)" "$(listed mnt/moved ..)"
	is 'and that of what it was exchanged with' "$(number mnt/o)" "$(listed mnt/o/q ..)"
	check 'back' exchange mnt/o/q mnt/moved
	check 'and home' move mnt/o/q mnt/moved/q
	for ((i = 0; i < 300; i++)); do : <mnt/moved/q/no$i; done 2>/dev/null
	check 'after many misses in it' move mnt/moved/q mnt/moved/r
	prints 'the layers are asked for the old name' 'one two ' listing mnt/moved/r
	once_more
	for ((i = 0; i < 300; i++)); do : <mnt/moved/no$i; done 2>/dev/null
	prints 'the same after a new mount' 'one two ' listing mnt/moved/r
	umnt
}

too_long() {
	layers 1
	local long
	long=$(printf '%0200d' 0)
	mkdir -p "lower1/$long/$long/d" lower1/t
	put "lower1/$long/$long/d/f" f
	mnt $WITH
	fails 'a path of more than 256 bytes' EXDEV move "mnt/$long/$long/d" mnt/t/d
	check 'within its directory' move "mnt/$long/$long/d" "mnt/$long/$long/e"
	check 'mv copies' mv "mnt/$long/$long/e" mnt/t/e
	prints 'and has it all' f cat mnt/t/e/f
	is 'without a redirect' '' "$(redirect_of upper/t/e)"
	umnt
}

# Redirects in lower layers: two uppers of earlier mounts over one another.
stacked() {
	layers 1
	mkdir -p lower1/a/s lower1/b lower1/x/y
	put lower1/a/f a
	put lower1/a/s/g g
	put lower1/x/y/h h
	mnt $WITH
	check 'the first time' move mnt/a mnt/a1
	check 'the first time, a path' move mnt/x/y mnt/b/y1
	umnt
	mkdir upper2 work2
	LAYERS=lowerdir=upper:lower1,upperdir=upper2,workdir=work2
	mnt $WITH
	check 'the second time' move mnt/a1 mnt/a2
	is 'names the first' a1 "$(redirect_of upper2/a2)"
	check 'the second time, a path' move mnt/b/y1 mnt/y2
	is 'names the first path' /b/y1 "$(redirect_of upper2/y2)"
	check 'out of a moved one' move mnt/a2/s mnt/s2
	is 'names the way in the layer' /a1/s "$(redirect_of upper2/s2)"
	umnt
	mnt $WITH
	prints 'through two redirects' a cat mnt/a2/f
	prints 'through two paths' h cat mnt/y2/h
	prints 'through a path that is redirected on the way' g cat mnt/s2/g
	umnt
	LAYERS=lowerdir=upper2:upper:lower1
	mnt redirect_dir=follow
	prints 'read-only: through two redirects' a cat mnt/a2/f
	prints 'read-only: through two paths' h cat mnt/y2/h
	prints 'read-only: through a path that is redirected on the way' g cat mnt/s2/g
	umnt
	[ -z "$OTHER" ] || {
		FSTYPE=$OTHER mnt redirect_dir=follow
		prints "what $OTHER shows of it" 'a h g' cat_all mnt/a2/f mnt/y2/h mnt/s2/g
		umnt
	}
}
cat_all() { cat "$@" | paste -sd' '; }

# What is on the way of a path in a layer that is not the last.
on_the_way() {
	layers 4
	mkdir -p upper/{opaque,jump,hole,file,miss} lower1/o/p lower2/o/p lower3/o/p
	mkdir -p lower1/j/k lower2/far lower1/{h,m} lower2/{h,f,m}/n lower3/{h,f,m}/n
	put lower1/o/p/one 1
	put lower2/o/p/two 2
	put lower3/o/p/three 3
	opaque lower2/o
	redirect upper/opaque /o/p
	# An absolute redirect below an opaque directory goes on.
	mkdir -p lower1/oj/k
	opaque lower1/oj
	redirect lower1/oj/k /far
	redirect upper/jump /oj/k
	put lower1/oj/k/near near
	put lower2/far/far far
	# A whiteout and a file on the way end it, a missing name does not.
	whiteout lower1/h/n
	redirect upper/hole /h/n/x
	mkdir lower2/{h,f,m}/n/x
	put lower2/h/n/x/below hidden
	put lower1/f file
	redirect upper/file /f/n/x
	put lower2/f/n/x/below hidden
	redirect upper/miss /m/n/x
	put lower2/m/n/x/below shown
	# What a layer says on the way counts for those below.
	mkdir -p lower1/r/s lower2/r2/s lower3/r3/s lower2/r/s upper/way
	redirect lower1/r r2
	redirect lower2/r2 r3
	redirect upper/way /r/s
	put lower1/r/s/one 1
	put lower2/r2/s/two 2
	put lower3/r3/s/three 3
	put lower2/r/s/wrong wrong
	mnt redirect_dir=follow
	prints 'below an opaque directory' 'one two ' listing mnt/opaque
	prints 'an absolute redirect below an opaque directory' 'far near ' listing mnt/jump
	prints 'a whiteout on the way' '' listing mnt/hole
	prints 'a file on the way' '' listing mnt/file
	prints 'a layer without the path' 'below ' listing mnt/miss
	prints 'redirects on the way' 'one three two ' listing mnt/way
	umnt
}

modes() {
	layers 2
	mkdir -p lower1/d lower1/e lower2/e lower1/a-long-name upper/to upper/none upper/sub
	put lower1/d/f f
	redirect upper/to d
	redirect upper/none nothing-there
	mnt $WITH
	check 'on: it is shown' grep -q ' [^ ]*/mnt .*redirect_dir=on' /proc/mounts
	umnt
	mnt redirect_dir=follow
	prints 'follow: followed' f cat mnt/to/f
	fails 'follow: none is made' EXDEV move mnt/e mnt/e2
	check 'follow: it is shown' grep -q ' [^ ]*/mnt .*redirect_dir=follow' /proc/mounts
	umnt
	mnt redirect_dir=nofollow
	fails 'nofollow: refused' EPERM ls mnt/to
	fails 'nofollow: a redirect to nothing' EPERM ls mnt/none
	fails 'nofollow: none is made' EXDEV move mnt/e mnt/e2
	umnt
	mnt redirect_dir=off
	fails 'off: none is made' EXDEV move mnt/e mnt/e2
	umnt
	LAYERS=lowerdir=$LOWER mnt redirect_dir=follow
	check 'without upper: shown as on' grep -q ' [^ ]*/mnt .*redirect_dir=on' /proc/mounts
	umnt
	local p=/sys/module/$FSTYPE/parameters
	echo Y >$p/redirect_dir
	mnt
	check 'the parameter is the default' move mnt/e mnt/e2
	check 'which is not shown' sh -c '! grep " [^ ]*/mnt .*redirect_dir" /proc/mounts'
	umnt
	echo N >$p/redirect_dir
	local follow
	follow=$(cat $p/redirect_always_follow)
	echo Y >$p/redirect_always_follow
	mnt redirect_dir=off
	prints 'off with redirect_always_follow' f cat mnt/to/f
	fails 'which makes none' EXDEV move mnt/e2 mnt/e3
	umnt
	echo "$follow" >$p/redirect_always_follow
	echo 10 >$p/redirect_max
	mnt $WITH
	fails 'redirect_max is the longest path' EXDEV move mnt/a-long-name mnt/sub/d3
	umnt
	echo 256 >$p/redirect_max
}

# Values that are no redirect are refused where they are read.
wrong() {
	layers 2
	mkdir lower2/secret
	put lower2/secret/s secret
	local bad=(a/b ../secret /secret/.. //secret /secret/ / . .. '' /../secret) i
	for i in "${!bad[@]}"; do
		mkdir upper/r$i lower2/r$i
		redirect upper/r$i "${bad[i]}"
	done
	mkdir upper/long upper/loop lower1/loop
	redirect upper/long "$(printf '%0256d' 0)"
	redirect upper/loop loop
	redirect lower1/loop loop
	mnt $WITH
	for i in "${!bad[@]}"; do
		check "'${bad[i]}' is none" bash -c "! ls mnt/r$i"
	done
	for ((i = 0; i < 300; i++)); do : <mnt/no$i; done 2>/dev/null
	forget
	for i in "${!bad[@]}"; do
		check "'${bad[i]}' is none after many misses" bash -c "! ls mnt/r$i"
	done
	prints 'a name that no directory can have' '' listing mnt/long
	prints 'to itself' '' listing mnt/loop
	umnt
}

switching() {
	[ -n "$OTHER" ] || { skip 'both types' "there is no $FSTYPE beside it" && return; }
	layers 1
	mkdir -p lower1/a/b lower1/c
	put lower1/a/b/f f
	mnt $WITH
	move mnt/a mnt/a2
	move mnt/a2/b mnt/c/b2
	umnt
	FSTYPE=$OTHER mnt $WITH
	prints "$OTHER shows it" f cat mnt/c/b2/f
	check "$OTHER moves it" move mnt/c/b2 mnt/b3
	check "$OTHER moves another" move mnt/a2 mnt/c/a3
	umnt
	mnt $WITH
	prints 'back again' f cat mnt/b3/f
	prints 'back again: the other' '' listing mnt/c/a3
	umnt
}

on_each_upper in_place
to_another_place
over_others
inside
too_long
stacked
on_the_way
modes
wrong
switching
done_testing
