#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Together with others: one union filesystem on another, bind mounts, mount
# namespaces, chroot, pivot_root.
. "${0%/*}/lib.sh"

on() { mount -t "$1" -o "$2" x "$3"; } # TYPE OPTIONS DIR

nested() { # INNER OUTER: a mount of type OUTER over one of type INNER
	ON=" [$2 over $1]"
	layers 2
	mkdir m1 m2 u2 w2 o
	mkdir -p lower1/d lower2/d lower2/gone lower1/w
	put lower1/d/one 1
	put lower2/d/two 2
	put lower2/d/hidden x
	put lower2/gone/x x
	put lower1/f f
	put lower1/w/x x
	mknod lower1/d/hidden c 0 0
	setfattr -n trusted.plain -v p lower1/f
	# For the outer mount: whiteout and opaque marks, escaped once.
	mkdir -p upper/x
	: >upper/x/wh
	setfattr -n trusted.overlay.overlay.whiteout -v y upper/x/wh
	setfattr -n trusted.overlay.overlay.opaque -v x upper/x
	mkdir upper/opq
	setfattr -n trusted.overlay.overlay.opaque -v y upper/opq
	mkdir -p o/x o/opq
	put o/x/wh below
	put o/x/kept below
	put o/opq/below below
	check 'the inner mount' on "$1" "lowerdir=lower1:lower2,upperdir=upper,workdir=work" m1
	rm -r m1/gone
	put m1/new n
	check 'the outer mount' on "$2" "lowerdir=m1:o,upperdir=u2,workdir=w2" m2
	is 'the listing' 'd f new opq w x ' "$(listing m2)"
	is 'a merged directory of the inner one' 'one two ' "$(listing m2/d)"
	prints 'a file' 1 cat m2/d/one
	prints 'an xattr' p xattr m2/f trusted.plain
	fails 'a whiteout of the inner one' ENOENT stat m2/d/hidden
	fails 'a removed directory' ENOENT stat m2/gone
	fails 'an escaped whiteout' ENOENT stat m2/x/wh
	is 'an escaped whiteout in the listing' 'kept ' "$(listing m2/x)"
	is 'an escaped opaque mark' '' "$(listing m2/opq)"
	is 'the marks as the inner mount shows them' 'y y' "$(xattr m1/opq trusted.overlay.opaque) $(xattr m1/x/wh trusted.overlay.whiteout)"
	before=$(stat -c '%i' m2/d/one)
	add m2/d/one more
	is 'copy-up from the inner mount' '1 more' "$(xargs <u2/d/one)"
	is 'the inner mount is as it was' 1 "$(cat m1/d/one)"
	is 'inode number after copy-up' "$before" "$(stat -c %i m2/d/one)"
	rm -r m2/d
	check 'a whiteout in the outer upper' is_whiteout u2/d
	mkdir m2/d
	is 'a directory made again' '' "$(listing m2/d)"
	fails 'a lower directory cannot be renamed' EXDEV sys rename 0 m2/w m2/w2
	check 'a file can' mv m2/f m2/f2
	ln -s f2 m2/link
	prints 'a symlink' f cat m2/link

	umount m2
	check 'the outer one mounts again' on "$2" "lowerdir=m1:o,upperdir=u2,workdir=w2" m2
	is 'with the same listing' 'd f2 link new opq w x ' "$(listing m2)"
	umount m2 m1
	ON=
}
nested "$FSTYPE" "$FSTYPE"
if [ -n "$OTHER" ]; then
	nested "$FSTYPE" "$OTHER"
	nested "$OTHER" "$FSTYPE"
	# Depth is counted over both types.
	layers 2
	mkdir m1 m2 m3
	on "$FSTYPE" "lowerdir=lower1:lower2" m1
	on "$OTHER" "lowerdir=m1:upper" m2
	fails 'three deep, two types' EINVAL sys mount "$FSTYPE" m3 lowerdir=m2:work
	umount m2
	mkdir o && mount -t tmpfs o o && mkdir o/u o/w m1/x 2>/dev/null
	umount m1
	on "$OTHER" "$LAYERS" m1
	mkdir m1/u m1/w
	fails 'an upper on the other type' EINVAL sys mount "$FSTYPE" m2 lowerdir=lower1 upperdir=m1/u workdir=m1/w
	umount m1 o
else
	skip 'over the other type, and the reverse' "the kernel has $FSTYPE only"
fi

# ---- layers that are parts of one mount, a mount whose layers are below it
layers
mkdir -p lower1/d/e
put lower1/d/e/f x
mnt
mkdir bind m2
mount --bind mnt/d bind
prints 'a bind mount' x cat bind/e/f
add bind/e/f y
is 'a write through it' 'x y' "$(xargs <upper/d/e/f)"
mount -o remount,bind,ro bind
fails 'a read-only bind mount' EROFS add bind/e/f z
check 'the mount itself is still writable' add mnt/d/e/f z
umount bind
: >file
mount --bind mnt/d/e/f file
is 'a bind mount of a file' 'x y z' "$(xargs <file)"
umount file
mount -t tmpfs over mnt/d
is 'another mount on a directory' '' "$(listing mnt/d)"
put mnt/d/x x
umount mnt/d
is 'and away' 'e ' "$(listing mnt/d)"
mount --move mnt m2
is 'moved' 'd ' "$(listing m2)"
mount --move m2 mnt
# A mount inside a layer is not part of the layer.
mount -t tmpfs in lower1/d
put lower1/d/x x
umnt
mnt
is 'a mount inside a layer is not seen' 'e ' "$(listing mnt/d)"
umount lower1/d
umnt

# ---- namespaces
layers
put lower1/f x
unshare -m --propagation private bash -c "mount -t $FSTYPE -o $LAYERS x mnt && cat mnt/f >seen && echo y >>mnt/f; echo \$? >>seen"
is 'a mount in a namespace' 'x 0' "$(xargs <seen)"
is 'is not seen outside' '' "$(listing mnt)"
is 'what it wrote is' 'x y' "$(xargs <upper/f)"
mnt
unshare -m --propagation private bash -c "cat mnt/f >seen; umount mnt; ls mnt >>seen"
is 'a mount seen in a namespace and unmounted there' 'x y' "$(xargs <seen)"
is 'is still there outside' 'f ' "$(listing mnt)"
umnt

# ---- as a root
layers
LAYERS=lowerdir=/,upperdir=upper,workdir=work
mnt
is 'the whole root as a lower layer' "$(stat -c '%s %f %u' /bin/sh)" "$(stat -c '%s %f %u' mnt/bin/sh)"
mkdir -p mnt/tmp mnt/inside
is 'chroot' '/inside' "$(chroot mnt /bin/sh -c 'cd /inside && echo new >new && chown 3:4 new && pwd')"
is 'what it made' '3:4 new' "$(stat -c %u:%g upper/inside/new) $(cat upper/inside/new)"
mkdir -p mnt/old
unshare -m --propagation private bash -c "
	cd mnt && mount --bind . . && cd . && cd $D/mnt && pivot_root . old && exec chroot . /bin/bash -c '
		test -e /old/bin/sh && echo \"\$(stat -f -c %T /) \$(echo /inside/*)\" >/inside/result && rm /inside/new'" >"$SEEN" 2>&1
is 'pivot_root' 'overlayfs /inside/new' "$(cat upper/inside/result "$SEEN" 2>/dev/null)"
check 'a file removed from within' absent upper/inside/new
umnt

done_testing
