#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Which layer answers for a name: fall-through, whiteouts of both kinds, opaque
# directories, merged directories, names of any bytes.
. "${0%/*}/lib.sh"

xwhiteout() { # FILE: the other form of a whiteout; its directory needs the mark
	: >"$1" && setfattr -n trusted.overlay.whiteout -v y "$1"
}
xmark() { setfattr -n trusted.overlay.opaque -v x "$1"; }

# ---- files
layers 3
put lower3/bottom 3
put lower2/middle 2
put lower1/top 1
put upper/up u
for l in lower3 lower2 lower1 upper; do put $l/all $l; done
put lower3/two lower3
put lower2/two lower2
ln -s target3 lower3/link
ln -s target2 lower2/link
ln -s nowhere lower3/dangling
mkfifo lower3/fifo
mknod lower3/null c 1 3
mknod lower3/disk b 7 99
sys socket lower3/socket
mnt
is 'every name once' 'all bottom dangling disk fifo link middle null socket top two up ' "$(listing mnt)"
prints 'a file of the bottom layer' 3 cat mnt/bottom
prints 'a file of the middle layer' 2 cat mnt/middle
prints 'a file of the top layer' 1 cat mnt/top
prints 'a file of upper' u cat mnt/up
prints 'upper wins over three lower files' upper cat mnt/all
prints 'the higher of two lower files wins' lower2 cat mnt/two
prints 'the higher of two symlinks wins' target2 readlink mnt/link
prints 'a dangling symlink' nowhere readlink mnt/dangling
fails 'through a dangling symlink' ENOENT cat mnt/dangling
is 'special files' 'fifo 0:0|character special file 1:3|block special file 7:63|socket 0:0|' \
	"$(cd mnt && stat -c '%F %t:%T' fifo null disk socket | tr '\n' '|')"
check 'the null device works' dd if=/dev/zero of=mnt/null bs=1 count=1
fails 'a missing name' ENOENT stat mnt/none
fails 'a name below a file' ENOTDIR stat mnt/all/x
fails 'a name below a symlink to nothing' ENOENT stat mnt/dangling/x
is 'names are case-sensitive' '' "$(ls -d mnt/ALL mnt/All 2>/dev/null)"
umnt

# ---- directories and other things of one name
layers 3
mkdir -p lower3/d/sub lower2/d/sub lower1/d upper/d
put lower3/d/f3 3
put lower2/d/f2 2
put lower1/d/f1 1
put upper/d/fu u
put lower3/d/sub/s3 3
put lower2/d/sub/s2 2
put lower2/d/f3 shadows
chmod 711 upper/d
chown 5:6 upper/d
chmod 750 lower2/d/sub
mkdir lower3/dir-under-file lower2/fd lower3/fd
put lower3/dir-under-file/x x
put lower2/dir-under-file 'a file'
put lower1/fd 'a file'
put lower3/file-under-dir x
mkdir lower2/file-under-dir
put lower2/file-under-dir/y y
mkdir lower3/cut lower1/cut
put lower3/cut/below no
put lower2/cut 'a file between'
put lower1/cut/above yes
mkdir lower3/linked lower3/link-target
put lower3/linked/l3 3
ln -s link-target lower2/linked
put lower3/link-target/t t
mnt
is 'a directory of four layers' 'f1 f2 f3 fu sub ' "$(listing mnt/d)"
prints 'its files: the higher wins' shadows cat mnt/d/f3
is 'a merged directory below it' 's2 s3 ' "$(listing mnt/d/sub)"
is 'metadata of a merged directory are of upper' '711 5:6' "$(stat -c '%a %u:%g' mnt/d)"
is 'or of the highest lower' 750 "$(stat -c %a mnt/d/sub)"
prints 'a file hides a directory' 'a file' cat mnt/dir-under-file
fails 'and what is in it' ENOTDIR stat mnt/dir-under-file/x
prints 'a file hides two directories' 'a file' cat mnt/fd
is 'a directory hides a file' 'y ' "$(listing mnt/file-under-dir)"
is 'a file between directories ends the merge' 'above ' "$(listing mnt/cut)"
fails 'in lookup too' ENOENT stat mnt/cut/below
prints 'a symlink hides a directory' link-target readlink mnt/linked
is 'and is not merged with it' 't ' "$(listing mnt/linked/)"
prints 'dot-dot' "$(stat -c %i mnt)" stat -c %i mnt/d/sub/../..
umnt

# ---- whiteouts
layers 3
for f in a b c; do for l in lower2 lower3; do put $l/$f $l; done; done
mkdir -p lower3/dir/sub lower3/back lower3/tree
put lower3/dir/x x
put lower3/back/old old
put lower3/tree/f f
whiteout upper/a
whiteout lower1/b
whiteout lower2/d && put lower1/d top
put lower3/d bottom
whiteout upper/dir
whiteout lower2/back && mkdir lower1/back && put lower1/back/new new
mkdir upper/tree && whiteout upper/tree/f && whiteout upper/nothing-below
whiteout lower3/lone && whiteout lower3/over && put lower1/over over
mknod upper/c1 c 0 1
mnt
is 'whiteouts hide names' 'back c c1 d over tree ' "$(listing mnt)"
fails 'a whiteout in upper' ENOENT stat mnt/a
fails 'a whiteout in a lower layer' ENOENT stat mnt/b
prints 'no whiteout' lower2 cat mnt/c
prints 'a whiteout hides nothing above it' top cat mnt/d
fails 'a directory whited out' ENOENT stat mnt/dir
fails 'what is in it' ENOENT stat mnt/dir/x
is 'a whiteout ends a merge' 'new ' "$(listing mnt/back)"
is 'a whiteout in a merged directory' '' "$(listing mnt/tree)"
fails 'a whiteout over nothing' ENOENT stat mnt/nothing-below
fails 'a whiteout in the bottom layer' ENOENT stat mnt/lone
prints 'a name above such a whiteout' over cat mnt/over
prints 'another character device is no whiteout' 'character special file 0:1' stat -c '%F %t:%T' mnt/c1
umnt

# ---- whiteouts as xattrs
layers 3
mkdir -p lower{1,2,3}/d
for f in f g h kept; do put lower3/d/$f f; done
mkdir lower3/d/dir
put lower3/d/dir/x x
xwhiteout lower1/d/f
xwhiteout lower2/d/g
xwhiteout lower1/d/dir
put lower1/d/h content && setfattr -n trusted.overlay.whiteout -v y lower1/d/h
xmark lower1/d
xmark lower2/d
put lower3/root bottom
xwhiteout lower1/root
xmark lower1
mnt
is 'xattr whiteouts hide names' 'h kept ' "$(listing mnt/d)"
fails 'an xattr whiteout: a file' ENOENT stat mnt/d/f
fails 'an xattr whiteout of the second layer' ENOENT stat mnt/d/g
fails 'an xattr whiteout: a directory' ENOENT stat mnt/d/dir/x
prints 'only an empty file is one' content cat mnt/d/h
fails 'an xattr whiteout in the root' ENOENT stat mnt/root
is 'hidden in the listing of the root' 'd ' "$(listing mnt)"
check 'create over an xattr whiteout' put mnt/d/f new
prints 'its content' new cat mnt/d/f
prints 'the lower file is as it was' f cat lower3/d/f
umnt

# ---- opaque directories
layers 3
mkdir -p lower{1,2,3}/{y1,y2,x,n,deep} lower{2,3}/{y1,deep}/sub upper/{yu,x,deep/sub} lower3/yu
for l in 1 2 3; do for d in y1 y2 x n deep; do put lower$l/$d/f$l $l; done; done
put lower3/yu/f f
put lower2/y1/sub/s s
put lower3/deep/sub/s3 3
opaque upper/yu
opaque lower1/y1
opaque lower2/y2
opaque upper/deep/sub
xmark lower1/x
setfattr -n trusted.overlay.opaque -v n lower1/n
mnt
is 'opaque in upper' '' "$(listing mnt/yu)"
fails 'in lookup too' ENOENT stat mnt/yu/f
is 'opaque in the first lower layer' 'f1 ' "$(listing mnt/y1)"
fails 'a directory below it' ENOENT stat mnt/y1/sub/s
is 'opaque in the second lower layer' 'f1 f2 ' "$(listing mnt/y2)"
is 'an opaque directory in a merged one' '' "$(listing mnt/deep/sub)"
is 'its parent is merged' 'f1 f2 f3 sub ' "$(listing mnt/deep)"
is 'opaque=x is merged' 'f1 f2 f3 ' "$(listing mnt/x)"
is 'any other value is merged' 'f1 f2 f3 ' "$(listing mnt/n)"
umnt

# ---- names
layers 2
long=$(printf '%0255d' 0)
odd=($'new\nline' $'tab\t' $'\x01\x7f' $'\xff\xfe' $'\xc3\x28' ' lead' '-dash' 'b\slash' '#1' '...' '*' '~' $'\xe4\xbd\xa0' "$long")
for n in "${odd[@]}"; do
	put "lower2/$n" 2
	put "lower1/x$n" 1 2>/dev/null
	mkdir "upper/d${n:0:200}"
done
mnt
bad=
for n in "${odd[@]}"; do
	[ "$(<"mnt/$n")" = 2 ] || bad+=" read:${n@Q}"
	add "mnt/$n" more 2>/dev/null || bad+=" write:${n@Q}"
	[ -f "upper/$n" ] || bad+=" copied:${n@Q}"
	rm -f -- "mnt/$n" && is_whiteout "upper/$n" || bad+=" unlink:${n@Q}"
	rmdir -- "mnt/d${n:0:200}" || bad+=" rmdir:${n@Q}"
done
is 'names of odd bytes' '' "$bad"
fails 'a name of 256 bytes' ENAMETOOLONG stat "mnt/${long}0"
fails 'creating one' ENAMETOOLONG put "mnt/${long}0" x
check 'a path of 40 components' mkdir -p "mnt/$(printf 'dir/%.0s' {1..40})"
umnt

# ---- what is remembered is right after a change
layers 2
put lower1/f 1
mkdir lower1/d
mnt
fails 'a name that is not there' ENOENT stat mnt/later
put mnt/later x
prints 'and then is' x cat mnt/later
rm mnt/f
fails 'a name that is gone' ENOENT stat mnt/f
put mnt/f new
forget
prints 'after the caches are dropped' new cat mnt/f
rmdir mnt/d
forget
fails 'a whiteout after the caches are dropped' ENOENT stat mnt/d
again
prints 'after a new mount' new cat mnt/f
fails 'a whiteout after a new mount' ENOENT stat mnt/d
umnt

done_testing
