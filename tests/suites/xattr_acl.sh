#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Extended attributes: what is hidden, what is escaped. POSIX ACLs, umask,
# set-gid and sticky directories.
. "${0%/*}/lib.sh"

own=trusted.overlay
# The names that listxattr gives, one line.
list() { getfattr -h -m - "$1" 2>/dev/null | grep -v '^#' | grep . | sort | tr '\n' ' '; }
set_x() { setfattr -h -n "$2" -v "$3" "$1"; } # FILE NAME VALUE

xattr_tests() {
	layers 2
	mkdir lower1/d upper/d
	put lower1/f x
	put lower1/unused x
	ln -s f lower1/l
	set_x lower1/f trusted.a 1
	set_x lower1/f security.b 2
	set_x lower1/f $own.something private
	set_x lower1/f $own.overlay.escaped 3
	set_x lower1/f $own.overlay.overlay.twice 4
	set_x lower1/f user.overlay.harmless 5 2>"$SEEN" || : # tmpfs may not have user.*
	set_x lower1/d trusted.lower lower
	set_x upper/d trusted.upper upper
	set_x lower1/l trusted.link l
	user=
	list lower1/f | grep -q user && user='user.overlay.harmless '
	mnt
	is 'list: private names hidden, escaped ones with one prefix less' \
		"security.b trusted.a $own.escaped $own.overlay.twice $user" "$(list mnt/f)"
	prints 'get' 1 xattr mnt/f trusted.a
	prints 'get an escaped one' 3 xattr mnt/f $own.escaped
	prints 'get one escaped twice' 4 xattr mnt/f $own.overlay.twice
	fails 'get a private one' ENODATA xattr mnt/f $own.something
	fails 'get the escaped form of a private one' ENODATA xattr mnt/f $own.overlay.something
	[ -z "$user" ] || prints 'user.overlay is not private' 5 xattr mnt/f user.overlay.harmless
	is 'a symlink' 'trusted.link ' "$(list mnt/l)"
	is 'a merged directory: those of upper' 'trusted.upper ' "$(list mnt/d)"
	is 'trusted names are for the administrator' "security.b $user" "$(as 1000 getfattr -h -m - mnt/f | grep -v '^#' | grep . | tr '\n' ' ')"

	check 'set a private-looking one: allowed' set_x mnt/f $own.opaque y
	is 'it is escaped in upper' y "$(xattr upper/f $own.overlay.opaque)"
	fails 'and not the real one' ENODATA xattr upper/f $own.opaque
	prints 'it reads back' y xattr mnt/f $own.opaque
	check 'set one that is escaped already' set_x mnt/f $own.overlay.x y
	is 'it is escaped twice in upper' y "$(xattr upper/f $own.overlay.overlay.x)"
	check 'remove it' setfattr -x $own.overlay.x mnt/f
	fails 'it is gone from upper' ENODATA xattr upper/f $own.overlay.overlay.x
	prints 'escaped ones are copied up as they are' 3 xattr upper/f $own.overlay.escaped
	prints 'and twice escaped ones' 4 xattr upper/f $own.overlay.overlay.twice
	fails 'private ones are not' ENODATA xattr upper/f $own.something
	is 'after copy-up the list is the same' \
		"security.b trusted.a $own.escaped $own.opaque $own.overlay.twice $user" "$(list mnt/f)"
	set_x mnt/d $own.opaque y
	fails 'an escaped opaque does not make opaque' ENODATA xattr upper/d $own.opaque
	fails 'remove a private one: it does not exist' ENODATA setfattr -x $own.origin mnt/f
	is 'the origin is still there' 1 "$(xattrs upper/f | grep -c $own.origin)"
	check 'set' set_x mnt/f trusted.new 6
	prints 'set: upper' 6 xattr upper/f trusted.new
	check 'replace' set_x mnt/f trusted.new 7
	prints 'replace: upper' 7 xattr upper/f trusted.new
	check 'remove' setfattr -x trusted.new mnt/f
	fails 'remove: gone' ENODATA xattr mnt/f trusted.new
	fails 'remove again' ENODATA setfattr -x trusted.new mnt/f
	fails 'remove from a lower file what is not there' ENODATA setfattr -x trusted.none mnt/unused
	fails 'remove one of a namespace that is not there' EOPNOTSUPP setfattr -x nonsense.x mnt/unused
	check 'which copies nothing up' absent upper/unused
	check 'set on a symlink' set_x mnt/l trusted.m n
	prints 'set on a symlink: upper' n xattr upper/l trusted.m
	check 'an empty value' setfattr -n trusted.empty mnt/f
	prints 'an empty value reads back' '' xattr mnt/f trusted.empty
	long=$(printf '%0239d' 0)
	check 'a long name' set_x mnt/f "trusted.$long" v
	fails 'a name too long once it is escaped' EOPNOTSUPP set_x mnt/f "$own.$long" v
	fails 'a namespace that is not there' EOPNOTSUPP set_x mnt/f nonsense.x y
	fails 'trusted.* by another user' EPERM as 1000 setfattr -n trusted.x -v y mnt/f
	fails 'reading it: not there' ENODATA as 1000 getfattr -n trusted.a mnt/f
	is 'security.* is readable by all' 2 "$(as 1000 getfattr --only-values -n security.b mnt/f)"
	put mnt/new x
	check 'on a new file' set_x mnt/new trusted.n v
	prints 'on a new file: upper' v xattr upper/new trusted.n
	is 'on a new directory' v "$(mkdir mnt/nd && set_x mnt/nd trusted.n v && xattr upper/nd trusted.n)"
	is 'the lower file is as it was' 1 "$(xattr lower1/f trusted.a)"
	umnt
}

acls() {
	layers 2
	mkdir lower1/d lower1/def lower1/plain lower1/sgid lower1/sticky
	put lower1/d/f x
	chmod 640 lower1/d/f
	setfacl -m u:1000:rw,g:2000:r lower1/d/f
	setfacl -d -m u:1000:rwx,g:2000:rx,o:- lower1/def
	put lower1/def/gone x
	mkdir lower1/def/gonedir
	chmod 777 lower1/def lower1/plain
	chown 0:3000 lower1/sgid && chmod 2777 lower1/sgid
	chmod 1777 lower1/sticky
	put lower1/sticky/f x
	chown 500 lower1/sticky/f
	put lower1/sgid/gone x
	mnt
	acl() { getfacl -cnp "$1" 2>/dev/null | grep . | tr '\n' ' '; }
	is 'a lower ACL' "$(acl lower1/d/f)" "$(acl mnt/d/f)"
	check 'it lets a named user read' as 1000 cat mnt/d/f
	fails 'and nobody else' EACCES as 1001 cat mnt/d/f
	check 'it lets a named user write' as 1000 bash -c 'echo y >>mnt/d/f'
	is 'it is copied up' "$(acl lower1/d/f)" "$(acl upper/d/f)"
	check 'after that: the named user' as 1000 cat mnt/d/f
	fails 'after that: nobody else' EACCES as 1001 cat mnt/d/f
	check 'set an ACL' setfacl -m u:1001:r mnt/d/f
	check 'which works at once' as 1001 cat mnt/d/f
	is 'and is in upper' "$(acl mnt/d/f)" "$(acl upper/d/f)"
	check 'remove all' setfacl -b mnt/d/f
	fails 'no more' EACCES as 1001 cat mnt/d/f
	fails 'set by another user' EPERM as 1000 setfacl -m u:1000:rw mnt/d/f
	chmod 604 mnt/d/f
	is 'chmod and the mask' '604 user::rw- group::--- other::r-- ' "$(stat -c %a mnt/d/f) $(acl mnt/d/f)"

	# Inheritance: the same as on the filesystem of upper.
	mkdir plainfs
	setfacl -d -m u:1000:rwx,g:2000:rx,o:- plainfs
	chmod 777 plainfs
	umask 027
	for t in mnt/def plainfs; do
		put $t/file x
		mkdir $t/dir $t/dir/sub
		mkfifo $t/fifo
		sys tmpfile $t 666 $t/tmp
	done
	rm mnt/def/gone
	rmdir mnt/def/gonedir
	put mnt/def/gone x
	mkdir mnt/def/gonedir
	umask 022
	for f in file dir dir/sub fifo tmp; do
		is "a default ACL is inherited: $f" "$(stat -c %a plainfs/$f) $(acl plainfs/$f)" "$(stat -c %a mnt/def/$f) $(acl mnt/def/$f)"
		is "and in upper: $f" "$(acl mnt/def/$f)" "$(acl upper/def/$f)"
	done
	is 'over a whiteout: a file' "$(stat -c %a plainfs/file) $(acl plainfs/file)" "$(stat -c %a upper/def/gone) $(acl mnt/def/gone)"
	is 'over a whiteout: a directory' "$(stat -c %a plainfs/dir) $(acl plainfs/dir)" "$(stat -c %a upper/def/gonedir) $(acl mnt/def/gonedir)"

	# umask, without a default ACL.
	for mask in 000 022 077; do
		umask $mask
		mkdir plainfs2.$mask
		put mnt/plain/f$mask x
		mkdir mnt/plain/d$mask
		put plainfs2.$mask/f x
		is "umask $mask" "$(stat -c %a plainfs2.$mask/f plainfs2.$mask | xargs)" "$(stat -c %a mnt/plain/f$mask mnt/plain/d$mask | xargs)"
	done
	umask 022

	# The group of a set-gid directory, the sticky bit.
	as 1000 bash -c 'echo x >mnt/sgid/f; mkdir mnt/sgid/d'
	is 'set-gid: the group of the directory' '1000:3000 1000:3000' "$(stat -c %u:%g mnt/sgid/f mnt/sgid/d | xargs)"
	is 'set-gid: a directory has the bit' 2755 "$(stat -c %a mnt/sgid/d)"
	rm mnt/sgid/gone
	as 1000 mkdir mnt/sgid/gone
	is 'set-gid: a directory over a whiteout' '2755 1000:3000' "$(stat -c '%a %u:%g' mnt/sgid/gone)"
	as 1000 chmod 2755 mnt/sgid/f
	is 'set-gid: chmod by one outside the group' 755 "$(stat -c %a mnt/sgid/f)"
	as 500 bash -c 'echo x >mnt/sticky/own'
	fails 'sticky: unlink by another user' EPERM as 1000 rm -f mnt/sticky/f
	fails 'sticky: rename by another user' EPERM as 1000 mv mnt/sticky/own mnt/sticky/x
	check 'sticky: by the owner' as 500 rm mnt/sticky/f
	check 'sticky: a whiteout' is_whiteout upper/sticky/f
	check 'sticky: replaced by another user' as 1000 bash -c 'echo x >mnt/sticky/f'
	is 'sticky: owned by that user' 1000 "$(stat -c %u upper/sticky/f)"
	umnt
}

UPPERFS='tmpfs ext4' on_each_upper xattr_tests
UPPERFS='tmpfs xfs' on_each_upper acls
done_testing
