#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Who may do what: the caller on the overlay inode, the mounter on the layers.
# The CVE numbers are those of the rule that a check is about.
. "${0%/*}/lib.sh"

u() { as 1000 "$@"; }

# ---- a mounter without the right to set set-group-ID bits of foreign groups: a copy has them
layers
mkdir lower1/d
put lower1/f x
chown 0:1000 lower1/d lower1/f
chmod 2775 lower1/d lower1/f
check 'a mounter without CAP_FSETID' \
	setpriv --bounding-set=-fsetid --inh-caps=-fsetid mount -t "$FSTYPE" -o "$LAYERS" "$FSTYPE" mnt
check 'a copy-up of a directory' touch mnt/d/x
is 'its set-group-ID bit' '2775 1000' "$(stat -c '%a %g' upper/d)"
check 'a copy-up of a file' touch -d 2001-01-01 mnt/f
is 'its set-group-ID bit, too' '2775 1000' "$(stat -c '%a %g' upper/f)"
umnt

# ---- the caller
layers 2
mkdir -m 755 lower1/pub
mkdir -m 700 lower1/priv
mkdir -m 777 lower1/open
mkdir -m 311 lower1/nolist
mkdir -m 644 lower1/nosearch
for f in r w x none own; do put lower1/pub/$f secret; done
chmod 644 lower1/pub/r
chmod 622 lower1/pub/w
chmod 600 lower1/pub/none
chown 1000 lower1/pub/own && chmod 600 lower1/pub/own
put lower1/priv/f x
put lower1/nolist/f x
put lower1/nosearch/f x
put lower1/open/root x
chmod 666 lower1/priv/f
mkdir -m 755 lower1/open/dir
mnt
check 'read what all may read' u cat mnt/pub/r
fails 'read what only root may' EACCES u cat mnt/pub/none
fails 'read what all may write' EACCES u cat mnt/pub/w
check 'write what all may write' u bash -c 'echo x >>mnt/pub/w'
fails 'write what all may read (2015-8660)' EACCES u bash -c 'echo x >>mnt/pub/r'
fails 'truncate it' EACCES u truncate -s 0 mnt/pub/r
fails 'open it with O_TRUNC' EACCES u bash -c '>mnt/pub/r'
fails 'execute it' EACCES u mnt/pub/r
fails 'chmod it' EPERM u chmod 777 mnt/pub/r
fails 'chown it' EPERM u chown 1000 mnt/pub/r
fails 'set its times' EPERM u touch -h -d 2001-01-01 mnt/pub/r
fails 'touch it' EACCES u touch -m mnt/pub/r
check 'touch what one may write' u touch mnt/pub/w
fails 'chmod what one may write (2015-8660)' EPERM u chmod 777 mnt/pub/w
fails 'setxattr on it' EPERM u setfattr -n security.x -v y mnt/pub/w
fails 'set an ACL on it (2016-1575)' EPERM u setfacl -m u:1000:rwx mnt/pub/w
check 'chmod of what one owns' u chmod 640 mnt/pub/own
fails 'giving it away' EPERM u chown 0 mnt/pub/own
fails 'a group one is not in' EPERM u chgrp 5 mnt/pub/own
is 'refused operations copied nothing up (2016-1576)' 'own w ' "$(listing upper/pub)"
fails 'a directory without search' EACCES u cat mnt/priv/f
fails 'listing it' EACCES u ls mnt/priv
check 'a directory without list: a known name' u cat mnt/nolist/f
fails 'a directory without list: listing' EACCES u ls mnt/nolist
check 'a directory without search: listing' u bash -c 'ls mnt/nosearch 2>/dev/null | grep -q f'
fails 'a directory without search: a name' EACCES u stat mnt/nosearch/f
fails 'create where one may not' EACCES u touch mnt/pub/new
fails 'mkdir where one may not' EACCES u mkdir mnt/pub/newd
fails 'unlink where one may not' EACCES u rm -f mnt/pub/r
fails 'rename where one may not' EACCES u mv mnt/pub/r mnt/open/r
fails 'rename out of where one may not' EACCES u mv mnt/open/root mnt/pub/root
fails 'link where one may not' EACCES u ln mnt/pub/own mnt/pub/own2
fails 'mknod' EPERM u mknod mnt/open/null c 1 3
fails 'mknod of a whiteout' EPERM u mknod mnt/open/wh c 0 0
is 'nothing of it was done' '' "$(listing upper/open 2>/dev/null)"
check 'unlink where one may' u rm -f mnt/open/root
check 'it is whited out' is_whiteout upper/open/root
is 'whiteouts belong to the mounter' 0 "$(stat -c %u upper/open/root)"
check 'create there' u bash -c 'echo x >mnt/open/mine'
check 'create over a whiteout' u bash -c 'echo x >mnt/open/root'
u mkdir mnt/open/minedir
u ln -s x mnt/open/minelink
u perl "$SUITES/sys.pl" tmpfile mnt/open 600 mnt/open/minetmp
is 'new objects belong to the caller' '1000:1000 1000:1000 1000:1000 1000:1000 1000:1000' \
	"$(cd upper/open && stat -c %u:%g mine minedir minelink minetmp root | xargs)"
u bash -c 'echo x >>mnt/open/mine && cp mnt/pub/r mnt/open/copy'
is 'a directory that was copied up keeps its owner' '0:0 777' "$(stat -c '%u:%g %a' upper/open)"
umnt

# The same answers before and after copy-up: rule 1 of the permission model.
layers
cases=()
for mode in 000 400 040 004 200 020 002 440 444 600 666 755; do
	put lower1/m$mode x
	chmod $mode lower1/m$mode
	chown 1:1000 lower1/m$mode
	cases+=("m$mode")
done
access() { u bash -c 'for f; do r=-; [ -r $f ] && r=r; [ -w $f ] && r+=w; [ -x $f ] && r+=x; cat $f >/dev/null 2>&1 && r+=R; { : >>$f; } 2>/dev/null && r+=W; echo "$f $r"; done' - "${cases[@]}"; }
want=$(cd lower1 && access)
mnt
is 'access to a lower file is as on the layer' "$want" "$(cd mnt && access)"
again
(cd mnt && touch -- *)
is 'and after copy-up' "$want" "$(cd mnt && access)"
umnt

# ---- set-id bits and capabilities
layers
cp /bin/id lower1/suid
chmod 4755 lower1/suid
cp lower1/suid lower1/cap
chmod 755 lower1/cap
setcap cap_chown+ep lower1/cap
cp lower1/suid lower1/written && chmod 4777 lower1/written
cp lower1/cap lower1/capw && chmod 777 lower1/capw && setcap cap_chown+ep lower1/capw
mnt
is 'a set-uid program' 0 "$(u mnt/suid -u)"
is 'a file capability' 'mnt/cap cap_chown=ep' "$(getcap mnt/cap)"
touch mnt/suid mnt/cap
is 'both are copied up' '4755 upper/cap cap_chown=ep' "$(stat -c %a upper/suid) $(getcap upper/cap)"
is 'a set-uid program after copy-up' 0 "$(u mnt/suid -u)"
u bash -c 'echo x >>mnt/written; echo x >>mnt/capw'
is 'a write by another user clears them' '777 ' "$(stat -c %a mnt/written) $(getcap mnt/capw)"
chmod 777 mnt/cap
u bash -c 'echo x >>mnt/cap'
is 'also once copied up' '' "$(getcap mnt/cap)"
fails 'setcap by another user' EPERM u setfattr -n security.capability -v 0sAQAAAgEAAAAAAAAAAAAAAAAAAAA= mnt/capw
umount mnt
mount -t "$FSTYPE" -o "$LAYERS,nosuid" x mnt
is 'nosuid on the mount' 1000 "$(u mnt/suid -u)"
umnt

# A lower mount's nosuid ends at the copy-up, as with overlayfs (2021-3847).
layers
mkdir nosuid
mount -t tmpfs -o nosuid,mode=755 nosuid nosuid
cp /bin/id nosuid/id && chmod 4755 nosuid/id
LAYERS=lowerdir=nosuid,upperdir=upper,workdir=work
mnt
is 'a set-uid program of a nosuid lower mount' "$(stat -c %a nosuid/id)" "$(stat -c %a mnt/id)"
touch mnt/id
is 'keeps its mode when it is copied up' 4755 "$(stat -c %a upper/id)"
umnt
umount nosuid

# ---- mounted by somebody whose rights are fewer: uid 1000 with CAP_SYS_ADMIN,
# who may not pass by modes. (With an upper there is no such mount: the work
# directory has mode 0.)
layers 2
mkdir -m 700 lower1/d
put lower1/d/f x
chmod 755 lower1/d/f
put lower1/secret s
chmod 600 lower1/secret
mkdir -m 311 lower1/nolist
put lower1/nolist/f x
put lower1/readable r
check 'mount without CAP_DAC_OVERRIDE' setpriv --reuid 1000 --clear-groups --inh-caps=+sys_admin \
	--ambient-caps=+sys_admin --bounding-set=-all,+sys_admin -- \
	perl "$SUITES/sys.pl" oldmount "$FSTYPE" mnt 0 "lowerdir=$LOWER"
check 'root may read what the mounter may' cat mnt/readable
fails 'not what the mounter may not (2018-16597)' EACCES cat mnt/secret
fails 'nor list a directory (2020-16120)' EACCES ls mnt/nolist
check 'a name in it can be read' cat mnt/nolist/f
fails 'nor pass a directory' EACCES cat mnt/d/f
fails 'nor search one' EACCES stat mnt/d/f
umnt

done_testing
