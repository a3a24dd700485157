#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An upper layer without extended attributes and RENAME_WHITEOUT: ramfs, the root of an initramfs.
. "${0%/*}/lib.sh"

BASE=$SCRATCH/ram
mkdir "$BASE"
mount -t ramfs -o mode=755 ram "$BASE" || exit 1
low=$SCRATCH/low # on tmpfs, which has what ramfs lacks
mkdir "$low"
log() { dmesg | sed "1,/poorupper: $1\$/d" | grep -ciE "$2"; }

mkdir -p "$low/dir/sub" "$low/empty" "$low/gone"
put "$low/file" lower
put "$low/dir/f" below
put "$low/dir/sub/g" deep
put "$low/xattr" attributes
setfattr -n user.colour -v red "$low/xattr"
put "$low/acl" acl
setfacl -m u:1000:rw "$low/acl"
put "$low/cap" cap
setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= "$low/cap"
put "$low/flags" flags
chattr +d "$low/flags"
ln -s file "$low/link"
layers
LAYERS=lowerdir=$low,upperdir=upper,workdir=work

echo 'poorupper: mount' >/dev/kmsg
mnt redirect_dir=on
is 'mounted, for writing' rw "$(awk '$2 == "'"$D"'/mnt" { print substr($4, 1, 2) }' /proc/mounts)"
is 'the log has what upper lacks' 2 "$(log mount 'upper fs does not support RENAME_WHITEOUT|failed to set xattr on upper')"
is 'the log has what that costs' 1 "$(log mount 'falling back to redirect_dir=nofollow')"
is 'so have the options' '' "$(grep -o redirect_dir=on /proc/mounts)"

stat --printf '%a %u %g %s %y\n' mnt/file >before
check 'a copy-up' chmod 600 mnt/file
chmod 644 mnt/file
prints 'it is the file that it was' "$(cat before)" stat --printf '%a %u %g %s %y\n' mnt/file
prints 'with its content' lower cat upper/file
check 'a write' add mnt/dir/f more
prints 'what was written' $'below\nmore' cat mnt/dir/f
check 'a write in a new file' put mnt/dir/new new
check 'an unnamed file' sys tmpfile mnt 644 mnt/unnamed
check 'a copy-up of a symlink' touch -h -d 2001-01-01 mnt/link
check 'a hard link' ln mnt/dir/sub/g mnt/linked
prints 'has its content' deep cat mnt/linked
is 'names of a merged directory' 'f new sub ' "$(listing mnt/dir)"

check 'unlink' rm mnt/file
check 'it is covered' is_whiteout upper/file
fails 'it is gone' ENOENT stat mnt/file
check 'and made anew' put mnt/file anew
prints 'its content' anew cat mnt/file
check 'rmdir' rmdir mnt/gone
fails 'a directory over a whiteout needs a mark' EIO mkdir mnt/gone
fails 'the name stays covered' ENOENT stat mnt/gone
is 'nothing is left in work' '' "$(leftovers)"

fails 'rename of a lower file' EINVAL sys rename 0 mnt/xattr mnt/renamed
prints 'it is where it was' attributes cat mnt/xattr
fails 'under no other name' ENOENT stat mnt/renamed
check 'mv of it' mv mnt/dir/new mnt/dir/newer
check 'rename onto a lower file' mv mnt/dir/newer mnt/dir/f
prints 'what is there' new cat mnt/dir/f
fails 'rename of a directory' EXDEV sys rename 0 mnt/dir mnt/other

check 'a copy-up of a file with attributes' put mnt/xattr changed
check 'with a capability' put mnt/cap changed
check 'with an ACL' put mnt/acl changed
check 'with flags' put mnt/flags changed
is 'they are lost' '' "$(xattrs mnt/xattr)$(xattrs mnt/cap)$(xattrs mnt/acl)"
fails 'setting one' EOPNOTSUPP setfattr -n user.colour -v blue mnt/xattr
is 'nothing is left in work after that' '' "$(leftovers)"
again
prints 'the next mount: content' anew cat mnt/file
is 'the next mount: names' 'acl cap dir empty file flags link linked unnamed xattr ' "$(listing mnt)"
fails 'the next mount: still covered' ENOENT stat mnt/gone
umnt
cd /
umount "$BASE"
done_testing
