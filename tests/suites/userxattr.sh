#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The option userxattr: the union's own attributes are user.overlay.*, for mounters without privilege and for those
# with. Who may write to a layer can set them: what they may say is little.
. "${0%/*}/lib.sh"

ov=user.overlay
mark() { setfattr -h -n "$ov.$2" -v "$3" "$1"; } # FILE NAME VALUE
own() { xattrs "$1" | tr ' ' '\n' | grep '\.overlay\.' | xargs; }
LOGGED=0
log_from() { echo "userxattr $$: log $((++LOGGED))" >/dev/kmsg; }
logged() { dmesg | sed "1,/userxattr $$: log $LOGGED\$/d" | grep -c -- "$1"; }

if ! setfattr -n user.x -v x "$BASE" 2>/dev/null; then
	skip 'userxattr' 'no user attributes on the filesystem of the layers'
	done_testing
fi
setfattr -x user.x "$BASE"

# ---- what goes with it
layers 2
mnt userxattr
is 'it is shown' 1 "$(grep -c " $D/mnt .*,userxattr" /proc/mounts)"
umnt
BASIC=(lowerdir=lower1:lower2 upperdir=upper workdir=work userxattr)
for o in on follow; do
	log_from
	fails "redirect_dir=$o with it" EINVAL sys mount "$FSTYPE" mnt "${BASIC[@]}" redirect_dir=$o
	is "and the reason ($o)" 1 "$(logged "conflicting options: userxattr,redirect_dir=$o")"
	fails "redirect_dir=$o before it" EINVAL sys mount "$FSTYPE" mnt redirect_dir=$o "${BASIC[@]}"
	fails "redirect_dir=$o without upper" EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1:lower2 userxattr redirect_dir=$o
done
log_from
fails 'metacopy=on with it' EINVAL sys mount "$FSTYPE" mnt "${BASIC[@]}" metacopy=on
is 'and the reason' 1 "$(logged 'conflicting options: userxattr,metacopy=on')"
fails 'a value' EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1:lower2 userxattr=on
mnt userxattr redirect_dir=nofollow
umnt
parameter=/sys/module/$FSTYPE/parameters/redirect_dir
if [ -w "$parameter" ]; then
	was=$(<"$parameter")
	echo Y >"$parameter"
	mkdir lower1/dir
	mnt userxattr
	fails 'a default of redirect_dir=on is off' EXDEV sys rename 0 mnt/dir mnt/dir2
	is 'and shown so' 1 "$(grep -c " $D/mnt .*redirect_dir=nofollow.*,userxattr" /proc/mounts)"
	umnt
	echo "$was" >"$parameter"
fi
parameter=/sys/module/$FSTYPE/parameters/metacopy
if [ -w "$parameter" ]; then
	was=$(<"$parameter")
	echo Y >"$parameter"
	put lower1/whole w
	mnt userxattr
	chmod 600 mnt/whole
	is 'a default of metacopy=on is off' w "$(<upper/whole)"
	is 'and is shown so' 1 "$(grep -c " $D/mnt .*userxattr" <(grep metacopy=off /proc/mounts))"
	umnt
	echo "$was" >"$parameter"
fi

# ---- marks that are written
layers 2
mkdir -p lower1/merged lower1/gone lower1/emptied lower2/emptied
put lower1/merged/f f
put lower1/emptied/f f
put lower2/emptied/g g
ln -s f lower1/merged/link
mkfifo lower1/merged/fifo
setfattr -n user.plain -v p lower1/merged/f
mark lower1/merged/f overlay.escaped e
mark lower1/merged/f private p
setfattr -n trusted.overlay.other -v t lower1/merged/f
mnt userxattr
before=$(stat -c %i mnt/merged/f mnt/merged/link mnt/merged/fifo | xargs)
add mnt/merged/f more
chown -h 5 mnt/merged/link mnt/merged/fifo
rm -r mnt/gone mnt/emptied
mkdir mnt/gone
mkdir mnt/merged/new
is 'inode numbers stay' "$before" "$(stat -c %i mnt/merged/f mnt/merged/link mnt/merged/fifo | xargs)"
umnt
is 'a copied directory' "$ov.impure $ov.origin" "$(own upper/merged)"
is 'a copied file: origin; escaped and foreign names, not private ones' \
	"trusted.overlay.other $ov.origin $ov.overlay.escaped" "$(own upper/merged/f)"
is 'no marks on a symlink, nor on a FIFO' '' "$(own upper/merged/link)$(own upper/merged/fifo)"
is 'an opaque directory' y "$(xattr upper/gone $ov.opaque)"
is 'a directory that was emptied' y "$(mkdir -p m && mount -t "$FSTYPE" -o "$LAYERS,userxattr" x mnt && mkdir mnt/emptied && xattr upper/emptied $ov.opaque; umnt)"
check 'the UUID' xattr upper $ov.uuid
is 'nothing in trusted.*' '' "$(own upper | tr ' ' '\n' | grep trusted)"
mnt userxattr
is 'again: the names' 'emptied gone merged ' "$(listing mnt)"
is 'again: what was hidden' '' "$(listing mnt/gone)$(listing mnt/emptied)"
before=$(stat -c %i mnt/merged/f)
forget
is 'again: the number of a copied file' "$before" "$(stat -c %i mnt/merged/f)"
umnt
if [ -n "$OTHER" ]; then
	mount -t "$OTHER" -o "$LAYERS,userxattr" x mnt
	is 'the other type sees the same' 'emptied gone merged  ' "$(listing mnt) $(listing mnt/gone)"
	umnt
fi
mnt
is 'without the option the marks say nothing' 'd ' "$(mkdir -p lower1/gone/d; listing mnt/gone)"
is 'and are names like others' "y" "$(xattr mnt/gone $ov.opaque)"
umnt

# ---- marks that are read
layers 2
mkdir -p lower1/opq lower2/opq upper/opq2 lower1/opq2 lower1/x lower2/x lower1/t lower2/t
put lower2/opq/below b
put lower1/opq2/below b
mark lower1/opq opaque y
mark upper/opq2 opaque y
: >lower1/x/wh
mark lower1/x/wh whiteout y
mark lower1/x opaque x
put lower2/x/wh below
put lower2/x/kept below
setfattr -n trusted.overlay.opaque -v y lower1/t
put lower2/t/below b
: >upper/pin
mark upper/pin protattr i
mnt userxattr
is 'opaque in a lower layer' '' "$(listing mnt/opq)"
is 'opaque in upper' '' "$(listing mnt/opq2)"
is 'an attribute that is a whiteout' 'kept ' "$(listing mnt/x)"
fails 'has no name' ENOENT stat mnt/x/wh
is 'a mark in trusted.* says nothing' 'below ' "$(listing mnt/t)"
is 'and is shown to root' 'trusted.overlay.opaque' "$(own mnt/t)"
is 'an immutable file' '----i-' "$(lsattr mnt/pin 2>/dev/null | cut -c1-6)"
fails 'is one' EPERM add mnt/pin x
chattr -i mnt/pin
check 'until it is none' add mnt/pin x
is 'then without the mark' '' "$(own upper/pin | grep protattr)"
rm mnt/x/kept
check 'a whiteout over an entry there' is_whiteout upper/x/kept
put mnt/x/wh new
prints 'a file over an attribute that is a whiteout' new cat mnt/x/wh
umnt

# ---- names as users see them
layers
put lower1/f f
mark lower1/f opaque y
mark lower1/f overlay.deep d
mark lower1/f overlay.overlay.deeper d
setfattr -n user.overlayed -v y lower1/f
setfattr -n trusted.t -v t lower1/f
chmod 666 lower1/f
mnt userxattr
is 'list: private names hidden, escaped ones with one prefix less' "trusted.t $ov.deep $ov.overlay.deeper user.overlayed" "$(xattrs mnt/f | xargs)"
is 'the same for a user, but trusted.*' "$ov.deep $ov.overlay.deeper user.overlayed" "$(as 1000 getfattr -h -m - mnt/f | grep -v '^#' | xargs)"
prints 'an escaped name' d xattr mnt/f $ov.deep
fails 'a private name' ENODATA xattr mnt/f $ov.opaque
check 'a user sets such a name' as 1000 setfattr -n $ov.opaque -v u mnt/f
prints 'and reads it' u xattr mnt/f $ov.opaque
is 'it is stored escaped' u "$(xattr upper/f $ov.overlay.opaque)"
fails 'and not the real one' ENODATA xattr upper/f $ov.opaque
check 'and removes it' as 1000 setfattr -x $ov.opaque mnt/f
fails 'and then it is gone' ENODATA xattr upper/f $ov.overlay.opaque
fails 'the origin is not to be removed' ENODATA setfattr -x $ov.origin mnt/f
check 'it is there' xattr upper/f $ov.origin
check 'trusted.overlay.* is a name like others' setfattr -n trusted.overlay.opaque -v y mnt/f
is 'stored as it is' y "$(xattr upper/f trusted.overlay.opaque)"
fails 'a name that escaping makes too long' EOPNOTSUPP setfattr -n "$ov.$(printf '%0235d' 0)" -v x mnt/f
check 'one that fits' setfattr -n "$ov.$(printf '%0234d' 0)" -v x mnt/f
umnt

# ---- what others wrote in a layer that they own
layers 2
mkdir -p lower1/his lower2/secret lower2/his lower1/abs
put lower2/secret/s secret
chmod 700 lower2/secret
put lower2/his/below b
put lower2/meta 'lower meta'
chown -R 1000:1000 lower1
as 1000 bash -c "
	setfattr -n $ov.redirect -v secret lower1/his
	setfattr -n $ov.redirect -v /secret lower1/abs
	: >lower1/meta
	setfattr -n $ov.metacopy lower1/meta
	setfattr -n $ov.redirect -v /secret/s lower1/meta
	mkdir lower1/o1 lower1/o2
	setfattr -n $ov.opaque -v yy lower1/o1
	setfattr -n $ov.opaque lower1/o2
	: >lower1/w
	setfattr -n $ov.whiteout -v y lower1/w
	echo full >lower1/w2
	setfattr -n $ov.whiteout -v y lower1/w2
	echo x >lower1/origin
	setfattr -n $ov.origin -v 0x00fbff00 lower1/origin
	echo x >lower1/prot
	setfattr -n $ov.protattr -v zz lower1/prot
"
mkdir lower2/o1 lower2/o2
put lower2/o1/f f
put lower2/o2/f f
put lower2/w below
mnt userxattr
fails 'a redirect of his' EPERM ls mnt/his
fails 'one to a path' EPERM ls mnt/abs
fails 'metacopy of his' EPERM cat mnt/meta
is 'nonsense opaque marks' 'f f ' "$(listing mnt/o1)$(listing mnt/o2)"
fails 'a whiteout where the directory is not marked so' ENOENT cat mnt/w
prints 'a full file is none' full cat mnt/w2
prints 'an origin in a lower layer' x cat mnt/origin
check 'a copy-up of it' add mnt/origin y
check 'a nonsense protattr' add mnt/prot y
umnt
# In upper: an origin that he took from a file elsewhere changes a number, not what is read.
layers 2
put lower1/a a
put lower1/b b
mnt userxattr
add mnt/a a
umnt
put upper/forged mine
setfattr -n $ov.origin -v "0x$(getfattr -h --only-values -n $ov.origin upper/a | hex)" upper/forged
mnt userxattr
prints 'a forged origin: the content' mine cat mnt/forged
is 'the owner and mode are those of upper' "$(stat -c '%u %a %s' upper/forged)" "$(stat -c '%u %a %s' mnt/forged)"
umnt

# ---- unions on unions: marks in both namespaces, one level deeper
for marks in user user.user trusted user.trusted trusted.user; do
	inner=${marks%.*} outer=${marks#*.}
	case $inner in user) i=userxattr ;; *) i=uuid=auto ;; esac
	case $outer in user) o=userxattr ;; *) o=uuid=auto ;; esac
	ON=" [$outer over $inner]"
	layers 2
	mkdir m1 m2 u2 w2 low
	mkdir -p upper/x upper/opq low/x low/opq lower1/d lower2/d
	put lower1/d/f f
	put lower2/d/g g
	put low/x/wh below
	put low/x/kept below
	put low/opq/below below
	mount -t "$FSTYPE" -o "$LAYERS,$i" x m1
	: >m1/x/wh
	# Through the inner union the names are those of the outer one; escaped where both are in one namespace.
	check 'marks of the outer union are set through the inner one' setfattr -n "$outer.overlay.whiteout" -v y m1/x/wh
	setfattr -n "$outer.overlay.opaque" -v x m1/x
	setfattr -n "$outer.overlay.opaque" -v y m1/opq
	escaped=
	[ "$inner" != "$outer" ] || escaped=overlay.
	is 'on the layer' y "$(xattr upper/x/wh "$outer.overlay.${escaped}whiteout")"
	rm m1/d/g
	mount -t "$FSTYPE" -o "lowerdir=m1:low,upperdir=u2,workdir=w2,$o" x m2
	is 'a whiteout of the inner upper' 'f ' "$(listing m2/d)"
	is 'an attribute that is a whiteout' 'kept ' "$(listing m2/x)"
	fails 'has no name' ENOENT stat m2/x/wh
	is 'an opaque directory' '' "$(listing m2/opq)"
	add m2/d/f more
	rm m2/x/kept
	is 'nothing of the inner marks is copied up' "$outer.overlay.impure $outer.overlay.origin" "$(own u2/d)"
	check 'a whiteout in the outer upper' is_whiteout u2/x/kept
	umount m2 m1
	ON=
done

# ---- mounted by a user
in_ns() { as 1000 unshare -Urm bash -c "$1"; }
if ! as 1000 unshare -Urm true 2>"$SEEN"; then
	skip 'mounts in a user namespace' "no user namespaces: $(<"$SEEN")"
	done_testing
fi
layers 2
MOUNT="mount -t $FSTYPE -o $LAYERS,userxattr x mnt"
mkdir lower1/dir lower1/gonedir lower2/gonedir lower1/sticky lower1/hisdir
put lower1/dir/f f
put lower1/gonedir/f f
put lower2/gonedir/g g
put lower1/mode0 m
chown -R 1000:1000 lower1 lower2 upper work
put lower1/roots r
put lower1/secret s
chmod 600 lower1/secret
: >lower1/rootwh
mark lower1/rootwh metacopy ''
chmod 600 lower1/rootwh
mkdir lower1/rootdir
put lower1/rootdir/f f
chmod 1777 lower1/sticky
chmod 0 lower1/mode0
log_from
check 'a user mounts' in_ns "$MOUNT"
is 'without advice' 0 "$(logged "'userxattr'")"
is 'and without a warning' 0 "$(logged 'xattr on upper')"
check 'removes a directory of lower layers' in_ns "$MOUNT && rm -r mnt/gonedir"
check 'leaves a device that is a whiteout' is_whiteout upper/gonedir
check 'and makes it anew' in_ns "$MOUNT && mkdir mnt/gonedir"
is 'it is opaque' y "$(xattr upper/gonedir $ov.opaque)"
is 'and empty' '' "$(in_ns "$MOUNT && ls mnt/gonedir")"
check 'a copy-up' in_ns "$MOUNT && echo x >>mnt/dir/f && chmod 600 mnt/mode0"
is 'has an origin' "$ov.origin" "$(own upper/dir/f)"
is 'in an impure directory' "$ov.impure $ov.origin" "$(own upper/dir)"
is 'as what may not be read or written has' "$ov.origin" "$(own upper/mode0)"
is 'what was copied belongs to the user' '1000 1000 1000' "$(cd upper && stat -c %u dir dir/f mode0 | xargs)"
check 'an emptied directory that was changed' in_ns "$MOUNT && rm -r mnt/dir && mkdir mnt/dir && ! ls mnt/dir | grep ."
fails 'a directory of lower layers is not renamed' EXDEV in_ns "$MOUNT && perl $SUITES/sys.pl rename 0 mnt/hisdir mnt/other"
prints 'a file of root' r in_ns "$MOUNT && cat mnt/roots"
fails 'is not copied up' EOVERFLOW in_ns "$MOUNT && chmod 666 mnt/dir; perl $SUITES/sys.pl rename 0 mnt/roots mnt/moved"
fails 'a private file of root' EACCES in_ns "$MOUNT && cat mnt/secret"
prints 'one with a mark that cannot be read' 0 in_ns "$MOUNT && stat -c %s mnt/rootwh"
prints 'a directory of root' f in_ns "$MOUNT && ls mnt/rootdir"
check 'names of its own' in_ns "$MOUNT && echo x >mnt/n && setfattr -n $ov.opaque -v y mnt/n && setfattr -n user.a -v b mnt/n"
is 'are escaped' "$ov.overlay.opaque" "$(own upper/n)"
fails 'redirect_dir=on' EINVAL in_ns "perl $SUITES/sys.pl mount $FSTYPE mnt lowerdir=lower1:lower2 upperdir=upper workdir=work userxattr redirect_dir=on"
fails 'redirect_dir=on without it' EPERM in_ns "perl $SUITES/sys.pl mount $FSTYPE mnt lowerdir=lower1:lower2 upperdir=upper workdir=work redirect_dir=on"
check 'sticky directories' in_ns "$MOUNT && echo x >mnt/sticky/f && rm mnt/sticky/f"
is 'the device whiteouts are the user'"'"'s' 1000 "$(stat -c %u work/work)"
# A union in the user's union, each with marks of its own.
mkdir m2 u2 w2
chown 1000:1000 m2 u2 w2
check 'a union over it' in_ns "$MOUNT && mount -t $FSTYPE -o lowerdir=mnt:lower2,upperdir=u2,workdir=w2,userxattr x m2 && rm -r m2/gonedir && mkdir m2/gonedir && echo x >>m2/n"
is 'its marks' "y $ov.origin" "$(xattr u2/gonedir $ov.opaque) $(own u2/n | tr ' ' '\n' | grep origin)"
is 'what a user of the inner union stored is a mark for the outer one, and not copied' '' "$(own u2/n | tr ' ' '\n' | grep opaque)"

done_testing
