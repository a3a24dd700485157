#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# stat: inode numbers and devices, on one filesystem and on several; link counts;
# times; setting them.
. "${0%/*}/lib.sh"

ids() { stat -c '%d:%i' "$@" | xargs; }
devs() { stat -c '%d' "$@" | xargs; }

tree() { # DIR
	mkdir -p "$1/d/sub"
	put "$1/f" x
	put "$1/d/g" x
	ln -s f "$1/l"
	mkfifo "$1/p"
	mknod "$1/c" c 1 3
}
ALL=(f d d/g d/sub l p c)

one_fs() {
	layers 2
	tree lower2
	mkdir lower1/d upper/own
	put upper/u x
	mnt
	is 'one device' "$(for _ in . "${ALL[@]}" u own; do stat -c %d mnt; done | xargs)" \
		"$(cd mnt && devs . "${ALL[@]}" u own)"
	is 'it is that of the mount' "$(mountpoint -d mnt)" "$(stat -c '%Hd:%Ld' mnt)"
	check 'and not that of the layers' test "$(stat -c %d mnt)" != "$(stat -c %d lower1)"
	is 'numbers of lower files are those of the layer' "$(cd lower2 && stat -c %i f d/g l p c | xargs)" \
		"$(cd mnt && stat -c %i f d/g l p c | xargs)"
	is 'of upper files also' "$(stat -c %i upper/u upper/own | xargs)" "$(stat -c %i mnt/u mnt/own | xargs)"
	before=$(cd mnt && ids "${ALL[@]}")
	(cd mnt && touch -h "${ALL[@]}" && chmod 700 d d/sub)
	is 'the same after copy-up' "$before" "$(cd mnt && ids "${ALL[@]}")"
	forget
	is 'with caches dropped' "$before" "$(cd mnt && ids "${ALL[@]}")"
	sys rename 0 mnt/f mnt/f2
	is 'the same after a rename' "${before%% *}" "$(ids mnt/f2)"
	forget
	is 'and with caches dropped' "${before%% *}" "$(ids mnt/f2)"
	again
	is 'inode numbers after a new mount' "$(for id in $before; do echo "${id#*:}"; done | xargs)" \
		"$(cd mnt && stat -c %i f2 "${ALL[@]:1}" | xargs)"
	umnt
}

two_fs() {
	layers
	mkdir other
	mount -t tmpfs other other
	tree other
	mkdir lower1/d upper/own
	put lower1/x1 x
	put upper/u x
	LAYERS=lowerdir=lower1:other,upperdir=upper,workdir=work
	mnt
	is 'two filesystems: directories have the device of the mount' "$(devs mnt mnt mnt mnt)" "$(devs mnt mnt/d mnt/d/sub mnt/own)"
	check 'two filesystems: a file has another' test "$(devs mnt/f)" != "$(devs mnt)"
	check 'two filesystems: not that of its layer' test "$(devs mnt/f)" != "$(devs other/f)"
	is 'two filesystems: the number in the layer' "$(stat -c %i other/f other/l other/p)" "$(stat -c %i mnt/f mnt/l mnt/p)"
	is 'two filesystems: a file of upper' "$(stat -c %i upper/u)" "$(stat -c %i mnt/u)"
	check 'two filesystems: two layers, two devices' test "$(devs mnt/u)" != "$(devs mnt/f)"
	is 'two filesystems: one layer, one device' "$(devs mnt/f mnt/f)" "$(devs mnt/l mnt/d/g)"
	before=$(cd mnt && ids f d d/g d/sub l p c)
	(cd mnt && touch -h "${ALL[@]}" && chmod 700 d d/sub)
	is 'two filesystems: the same after copy-up' "$before" "$(cd mnt && ids f d d/g d/sub l p c)"
	is 'two filesystems: no number twice' '' "$(find mnt -printf '%D:%i\n' | sort | uniq -d)"
	umnt
	umount other
}

links() {
	layers 2
	mkdir -p lower1/d/{a,b} lower2/d/c lower1/low/{a,b} upper/up/{a,b,c} lower1/empty
	put lower1/f x
	ln lower1/f lower1/g
	put lower1/single x
	mnt
	is 'a merged directory: one link' 1 "$(stat -c %h mnt/d)"
	is 'the root: one link' 1 "$(stat -c %h mnt)"
	is 'a lower directory' "$(stat -c %h lower1/low)" "$(stat -c %h mnt/low)"
	is 'an upper directory' "$(stat -c %h upper/up)" "$(stat -c %h mnt/up)"
	is 'a lower file with two links' '2 2' "$(stat -c %h mnt/f mnt/g | xargs)"
	ln mnt/single mnt/double
	is 'a new link' '2 2' "$(stat -c %h mnt/single mnt/double | xargs)"
	is 'a new link: one inode' "$(ids mnt/single)" "$(ids mnt/double)"
	rm mnt/single
	is 'one removed' 1 "$(stat -c %h mnt/double)"
	touch mnt/f
	is 'a broken lower link' '1 2' "$(stat -c %h mnt/f mnt/g | xargs)"
	check 'a broken lower link: another inode' test "$(ids mnt/f)" != "$(ids mnt/g)"
	umnt
}

recent() { [ "$(stat -c %Y "$1")" -gt 1200000000 ]; }

times() {
	layers
	put lower1/f x
	mkdir lower1/d
	ln -s f lower1/l
	touch -h -d '2001-01-01 01:01:01.5' lower1/{f,d,l}
	mnt
	is 'times of lower objects' "$(stat -c '%X %Y %Z' lower1/f lower1/d lower1/l)" "$(stat -c '%X %Y %Z' mnt/f mnt/d mnt/l)"
	touch -a -d '2002-02-02 02:02:02.25' mnt/f
	is 'setting atime keeps mtime' '2002-02-02 02:02:02.250000000 2001-01-01 01:01:01.500000000' \
		"$(stat -c '%x %y' mnt/f | sed 's/ +0000//g')"
	touch -m -d '2003-03-03 03:03:03.125' mnt/f
	is 'setting mtime keeps atime' '2002-02-02 02:02:02.250000000 2003-03-03 03:03:03.125000000' \
		"$(stat -c '%x %y' mnt/f | sed 's/ +0000//g')"
	is 'the same in upper' "$(stat -c '%x %y %z' upper/f)" "$(stat -c '%x %y %z' mnt/f)"
	touch -h -d '2004-04-04' mnt/l
	is 'a symlink' '2004-04-04 00:00:00.000000000 +0000' "$(stat -c %y mnt/l)"
	touch -d '2005-05-05' mnt/d
	put mnt/d/new x
	check 'a new name changes the directory' recent mnt/d
	touch -d '2005-05-05' mnt/d
	rm mnt/d/new
	check 'a removed one too' recent mnt/d
	touch -d '2005-05-05' mnt/f
	add mnt/f y
	check 'a write changes mtime' recent mnt/f
	is 'which stat and upper agree on' "$(stat -c '%y %z %s' upper/f)" "$(stat -c '%y %z %s' mnt/f)"
	touch -d '2006-06-06' mnt/f
	cat mnt/f >"$SEEN"
	check 'a read changes atime of an upper file (relatime)' test "$(stat -c %X mnt/f)" -ge "$(stat -c %Y mnt/f)"
	before=$(stat -c %x lower1/d)
	ls mnt/d >"$SEEN"
	is 'and none in the lower layer' "$before" "$(stat -c %x lower1/d)"
	umnt
}

setting() {
	layers
	put lower1/f x
	mkdir lower1/d
	mnt
	chmod 4755 mnt/f
	is 'chmod' 4755 "$(stat -c %a mnt/f)"
	chown 1000:1000 mnt/f
	is 'chown removes set-id bits' '755 1000:1000' "$(stat -c '%a %u:%g' mnt/f)"
	chmod 6777 mnt/f
	as 500 bash -c '>>mnt/f && echo x >>mnt/f'
	is 'a write by another user too' 777 "$(stat -c %a mnt/f)"
	chmod 6777 mnt/f
	as 500 truncate -s 1 mnt/f
	is 'and truncate' 777 "$(stat -c %a mnt/f)"
	chmod 1777 mnt/d
	is 'the sticky bit' 1777 "$(stat -c %a mnt/d)"
	is 'all of it in upper' '777 1000:1000 1 1777' "$(stat -c '%a %u:%g %s' upper/f) $(stat -c %a upper/d)"
	is 'blocks and block size of upper' "$(stat -c '%b %B %o' upper/f)" "$(stat -c '%b %B %o' mnt/f)"
	fails 'chown -h of nothing' ENOENT chown -h 1 mnt/none
	umnt
}

on_each_upper one_fs
on_each_upper two_fs
UPPERFS='tmpfs ext4' on_each_upper links
UPPERFS='ext4 btrfs' on_each_upper times
setting
done_testing
