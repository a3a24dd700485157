#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Data-only layers: files whose data a file of a merged layer names by its path.
. "${0%/*}/lib.sh"

ov=trusted.overlay
blocks() { stat -c %b "$1"; }
# A file of that size without data, which is at PATH.
at() { # FILE SIZE PATH
	bare "$1" "$2"
	redirect "$1" "$3"
}
SHOWN='lowerdir|lowerdir\+|datadir\+'

options() {
	layers 3
	put lower1/f f
	local list
	local -a basic=(upperdir=upper workdir=work)
	for list in lower1::lower2 lower1:lower2::lower3 lower1::lower2::lower3; do
		LAYERS=lowerdir=$list,upperdir=upper,workdir=work
		mnt
		is "$list is shown" "lowerdir=$list " "$(shown)"
		umnt
		LAYERS=lowerdir=$list mnt
		is "$list without upper" f "$(listing mnt | tr -d ' ')"
		umnt
	done
	for list in ::lower1 lower1:: lower1:::lower2 lower1::lower2:lower3 lower1::lower2:; do
		fails "$list" EINVAL sys mount "$FSTYPE" mnt "lowerdir=$list" "${basic[@]}"
	done
	check 'one by one' sys mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower2 datadir+=lower3 "${basic[@]}"
	is 'they are shown' 'lowerdir+=lower1 datadir+=lower2 datadir+=lower3 ' "$(shown)"
	if [ "$FSTYPE" = rovl ]; then
		check 'and said again' sys reconfigure mnt lowerdir+=lower1 datadir+=lower2 datadir+=lower3
		fails 'not all of them' EINVAL sys reconfigure mnt lowerdir+=lower1 datadir+=lower2
		fails 'not in their order' EINVAL sys reconfigure mnt lowerdir+=lower1 datadir+=lower3 datadir+=lower2
	fi
	umnt
	check 'by descriptors' sys mount "$FSTYPE" mnt fd:lowerdir+=lower1 opath:datadir+=lower2 "${basic[@]}"
	umnt
	check 'without upper' sys mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower2
	umnt
	fails 'a merged one below' EINVAL sys mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower2 lowerdir+=lower3 "${basic[@]}"
	fails 'after a list' EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1 datadir+=lower2 "${basic[@]}"
	fails 'no merged one' EINVAL sys mount "$FSTYPE" mnt datadir+=lower1 datadir+=lower2 "${basic[@]}"
	fails 'no folder' EINVAL sys mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower1/f "${basic[@]}"
	fails 'one twice' ELOOP sys mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower1 "${basic[@]}"
	mkdir lower2/in
	fails 'one in another' ELOOP sys mount "$FSTYPE" mnt lowerdir+=lower2 datadir+=lower2/in "${basic[@]}"
	check 'forgotten' sys mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower2 lowerdir= lowerdir+=lower3 "${basic[@]}"
	is 'by an empty list' 'lowerdir+=lower3 ' "$(shown)"
	umnt
	fails 'for no administrator' EPERM unshare -Urm perl "$SUITES/sys.pl" mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower2
	check 'but with userxattr' unshare -Urm perl "$SUITES/sys.pl" mount "$FSTYPE" mnt lowerdir+=lower1 datadir+=lower2 userxattr
}

# What is found, with no option and with all.
lookups() {
	layers 2
	data_layers 2
	local o f
	mkdir -p data1/dir data2/objs/aa lower2/merged lower1/sub
	content 1 >data1/one
	content 2 >data2/objs/aa/two
	content x >data1/both
	content y >data2/both
	content m >lower2/merged/here
	content n >data1/merged.here
	ln -s one data1/link
	ln -s objs data2/linked
	put data1/hidden hidden
	for f in one:/one two:/objs/aa/two both:/both; do at "lower2/${f%:*}" 200000 "${f#*:}"; done
	at lower1/sub/deep 200000 /objs/aa/two
	at lower2/last 200000 /objs/aa/two
	at lower2/none 7 /nothing/there
	at lower2/link 7 /link
	at lower2/through 7 /linked/aa/two
	at lower2/dir 7 /dir
	at lower2/above 7 /../data1/one
	at lower2/within 200000 /objs/../objs/aa/two
	at lower2/relative 7 one
	at lower1/top 200000 /one
	at lower1/merged 7 /merged/here
	for o in redirect_dir=nofollow metacopy=on; do
		mnt $o
		is "$o: their names are not listed" '' "$(names mnt | grep -E 'objs|hidden|both2|linked')"
		fails "$o: nor found" ENOENT stat mnt/hidden
		is "$o: size and guessed room" '200000 392' "$(stat -c '%s %b' mnt/one)"
		check "$o: in the first" cmp mnt/one data1/one
		check "$o: in the second" cmp mnt/two data2/objs/aa/two
		check "$o: the first of two" cmp mnt/both data1/both
		is "$o: its room" "$(blocks data1/one)" "$(blocks mnt/one)"
		is "$o: the number is that of the merged one" "$(stat -c %i lower2/one)" "$(stat -c %i mnt/one)"
		check "$o: with dots" cmp mnt/within data2/objs/aa/two
		dmesg -C
		fails "$o: missing" ENOENT cat mnt/none
		# Later lines may be too many.
		[ $o = metacopy=on ] || check 'the log names it' grep -q 'lazy lowerdata lookup failed (.*none, err=-2)' <(dmesg)
		fails "$o: missing, for writing" ENOENT add mnt/none x
		fails "$o: missing, truncated" ENOENT sys open 'WRONLY|TRUNC' mnt/none
		fails "$o: missing, and its mode" ENOENT chmod 600 mnt/none
		check "$o: nothing was copied" absent upper/none
		is "$o: stat works" 7 "$(stat -c %s mnt/none)"
		fails "$o: a symlink" ENOENT cat mnt/link
		fails "$o: through a symlink" ELOOP cat mnt/through
		fails "$o: a directory" ENOENT cat mnt/dir
		fails "$o: above" EXDEV cat mnt/above
		if [ $o = metacopy=on ]; then
			fails "$o: a name" EIO cat mnt/relative
			check "$o: of the topmost layer" cmp mnt/top data1/one
			check "$o: in its folder" cmp mnt/sub/deep data2/objs/aa/two
		else
			fails "$o: a name" EPERM cat mnt/relative
			fails "$o: of a layer above another" EPERM cat mnt/top
			fails "$o: in a folder of that layer alone" EPERM cat mnt/sub/deep
		fi
		umnt
	done
	rm lower1/top
	LAYERS=lowerdir=lower1::data1::data2 mnt
	check 'without upper' cmp mnt/sub/deep data2/objs/aa/two
	umnt
	# Without data-only layers it is a file that leads nowhere.
	LAYERS=lowerdir=lower2,upperdir=upper,workdir=work
	mnt
	fails 'no layer for data' EPERM cat mnt/one
	umnt
	mnt metacopy=on
	fails 'no layer for data, metacopy' EIO cat mnt/one
	umnt
}

# A merged layer has it, too; uppers and middle layers that lead there.
merged() {
	layers 3
	data_layers 2
	mkdir lower3/objs
	content m >lower3/objs/f
	content d >data1/f
	content d >data1/g
	at lower1/f 200000 /objs/f
	content o >data1/only
	at upper/alone 200000 /only
	at lower1/twice 200000 /via
	at lower2/via 200000 /g
	at upper/high 200000 /low
	at lower3/low 200000 /g
	mnt metacopy=on
	check 'a merged layer comes first' cmp mnt/f lower3/objs/f
	fails 'upper alone is not enough' EIO cat mnt/alone
	check 'one that leads to one' cmp mnt/twice data1/g
	check 'from upper through one' cmp mnt/high data1/g
	check 'which is written' add mnt/high more
	check 'and whole' lacks_mark upper/high
	is 'its size' 200005 "$(wc -c <upper/high)"
	umnt
}

# Copying up.
changes() { # TYPE
	layers 1
	data_layers 2
	local f pass
	mkdir -p data1/objs lower1/d
	for f in a b c e f g h i j k l; do
		content $f >data1/objs/$f
		at lower1/$f 200000 /objs/$f
	done
	cp /bin/true data1/objs/true
	at lower1/true "$(stat -c %s /bin/true)" /objs/true
	chmod 755 lower1/true
	chown 7:8 lower1/a
	for pass in redirect_dir=nofollow metacopy=on; do
		rm -rf upper work
		mkdir upper work
		mnt $pass
		exec 5<mnt/a
		check "$pass: a write" add mnt/a more
		is "$pass: has it all" "$(content a | cat - <(echo more) | cksum)" "$(cksum <mnt/a)"
		is "$pass: owner" 7:8 "$(stat -c %u:%g upper/a)"
		check "$pass: is whole" lacks_mark upper/a
		is "$pass: a reader from before follows" "$(content a | cat - <(echo more) | cksum)" "$(cksum <&5)"
		exec 5<&-
		check "$pass: mode" chmod 600 mnt/b
		if [ $pass = metacopy=on ]; then
			check "$pass: mode: no data" has_mark upper/b
			check "$pass: a name" mv mnt/c mnt/c2
			check "$pass: a name: no data" has_mark upper/c2
			is "$pass: a name: where it was" c "$(xattr upper/c2 $ov.redirect)"
			check "$pass: another folder" mv mnt/d/../i mnt/d/i2
			is "$pass: another folder: where it was" /i "$(xattr upper/d/i2 $ov.redirect)"
			check "$pass: the copy has no path of the data" test -z "$(xattr upper/b $ov.redirect 2>/dev/null)"
		else
			check "$pass: mode: with data" lacks_mark upper/b
			check "$pass: a name" mv mnt/c mnt/c2
			check "$pass: another folder" mv mnt/i mnt/d/i2
		fi
		check "$pass: mode: its data" cmp mnt/b data1/objs/b
		check "$pass: a link" ln mnt/e mnt/e2
		check "$pass: a link: its data" cmp mnt/e2 data1/objs/e
		check "$pass: truncation to nothing" sys open 'WRONLY|TRUNC' mnt/g
		is "$pass: truncation to nothing: size" 0 "$(stat -c %s upper/g)"
		check "$pass: truncation" truncate -s 5 mnt/h
		is "$pass: truncation: data" hhhhh "$(cat upper/h)"
		check "$pass: a mapping" sys map mnt/j
		check "$pass: a mapping: data" cmp upper/j data1/objs/j
		check "$pass: a program" mnt/true
		check "$pass: removal" rm mnt/k
		check "$pass: removal leaves a whiteout" is_whiteout upper/k
		exec 5<>mnt/l
		rm mnt/l
		is "$pass: removed while open" lll "$(head -c 3 /proc/self/fd/5)"
		printf XXX >&5
		is "$pass: removed and written" XXXll "$(head -c 5 /proc/self/fd/5)"
		exec 5<&-
		umnt
		mnt $pass
		check "$pass: mode: after a new mount" cmp mnt/b data1/objs/b
		check "$pass: a name: after a new mount" cmp mnt/c2 data1/objs/c
		check "$pass: another folder: after a new mount" cmp mnt/d/i2 data1/objs/i
		check "$pass: a link: after a new mount" cmp mnt/e2 data1/objs/e
		check "$pass: then written" add mnt/d/i2 more
		is "$pass: then whole" 200005 "$(stat -c %s upper/d/i2)"
		check "$pass: no path of it is left that leads elsewhere" lacks_mark upper/d/i2
		umnt
	done
	is 'no mark of work is left' '' "$(leftovers)"
	for f in a b c e f g h i j k l; do check "the data of $f is as it was" cmp data1/objs/$f <(content $f); done
}

options
lookups
merged
on_each_upper changes
done_testing
