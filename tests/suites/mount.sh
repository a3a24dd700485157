#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Mounting: options and their escapes, refusals, read-only, remount, what
# /proc/mounts and statfs say, the work directory.
. "${0%/*}/lib.sh"

new() { sys mount "$FSTYPE" mnt "$@"; }                       # fsconfig, option by option
old() { sys oldmount "$FSTYPE" mnt 0 "$1"; }                  # mount(2)
refused() { fails "$1" "$2" new "${@:3}" && umnt_if_mounted; } # NAME ERRNO OPTION...
umnt_if_mounted() { ! mountpoint -q mnt || umount mnt; }
# The options of the superblock at mnt, as mountinfo shows them, rw or ro first;
# without uuid=, which depends on what upper was before.
super_options() {
	local at line
	while read -r line; do
		read -r _ _ _ _ at _ <<<"$line"
		line=${line##* }
		[ "$at" = "$D/mnt" ] && printf '%s\n' "${line%,uuid=*}"
	done </proc/self/mountinfo
}

# ---- the usual mounts
layers 2
put lower1/a one
put lower2/a two
put lower2/b two
put upper/c up
mnt
is 'all layers are seen' 'a b c ' "$(listing mnt)"
prints 'the top lower layer wins' one cat mnt/a
prints 'type in /proc/mounts' "$FSTYPE" findmnt -no FSTYPE mnt
is 'options in mountinfo' "rw,$LAYERS" "$(super_options)"
is 'statfs: the type' overlayfs "$(stat -f -c %T mnt)"
is 'statfs: size and block size of upper' "$(stat -f -c '%b %S %s' upper)" "$(stat -f -c '%b %S %s' mnt)"
check 'sync -f' sync -f mnt
exec 5<mnt/a
fails 'umount with an open file' EBUSY sys umount mnt
exec 5<&-
check 'umount' umount mnt
is 'upper holds nothing new' c "$(names upper)"

check 'any order of options' new workdir=work lowerdir=lower1:lower2 upperdir=upper
check 'any order: it works' put mnt/d x
umnt
check 'lowerdir+ twice' new lowerdir+=lower1 lowerdir+=lower2 upperdir=upper workdir=work
is 'lowerdir+ in mountinfo' 'rw,lowerdir+=lower1,lowerdir+=lower2,upperdir=upper,workdir=work' "$(super_options)"
prints 'lowerdir+: the first is the top' one cat mnt/a
umnt
check 'lowerdir replaces earlier lower layers' new lowerdir+=lower1 lowerdir=lower2 upperdir=upper workdir=work
prints 'replaced' two cat mnt/a
umnt_if_mounted
check 'default_permissions' new lowerdir=lower1 upperdir=upper workdir=work default_permissions
is 'default_permissions in mountinfo' 'rw,lowerdir=lower1,upperdir=upper,workdir=work,default_permissions' "$(super_options)"
umnt_if_mounted
check 'override_creds' new lowerdir=lower1 upperdir=upper workdir=work override_creds
umnt_if_mounted
check 'nooverride_creds' new nooverride_creds lowerdir=lower1 upperdir=upper workdir=work
umnt_if_mounted
ln -s lower1 link
check 'a symlink to a layer' new lowerdir=link upperdir=upper workdir=work
umnt
check 'absolute paths' new "lowerdir=$D/lower1" "upperdir=$D/upper" "workdir=$D/work"
umnt
check 'mount(2)' old "$LAYERS"
umnt

# ---- file descriptors
check 'layers as file descriptors' new fd:lowerdir+=lower1 fd:lowerdir+=lower2 fd:upperdir=upper fd:workdir=work
prints 'descriptors: content' one cat mnt/a
check 'descriptors: writing' put mnt/e x
is 'descriptors in mountinfo' "rw,lowerdir+=$D/lower1,lowerdir+=$D/lower2,upperdir=$D/upper,workdir=$D/work" "$(super_options)"
umnt
check 'O_PATH descriptors' new opath:workdir=work opath:upperdir=upper opath:lowerdir+=lower1
check 'O_PATH descriptors: writing' put mnt/f x
umnt
refused 'a descriptor of a file as lowerdir+' EINVAL fd:lowerdir+=lower1/a upperdir=upper workdir=work
refused 'a descriptor of a file as upperdir' EINVAL lowerdir=lower1 fd:upperdir=upper/c workdir=work
refused 'a descriptor for lowerdir' EINVAL fd:lowerdir=lower1 upperdir=upper workdir=work

# ---- refusals
refused 'no layers' EINVAL
refused 'no lowerdir' EINVAL upperdir=upper workdir=work
refused 'no workdir' EINVAL lowerdir=lower1 upperdir=upper
refused 'one lower and no upper' EINVAL lowerdir=lower1
refused 'an unknown option' EINVAL lowerdir=lower1 upperdir=upper workdir=work nonsense=1
refused 'an unknown flag' EINVAL lowerdir=lower1 upperdir=upper workdir=work nonsense
refused 'an empty lowerdir' EINVAL lowerdir= upperdir=upper workdir=work
refused 'an empty lowerdir+' EINVAL lowerdir+= upperdir=upper workdir=work
refused 'an empty upperdir' EINVAL lowerdir=lower1 upperdir= workdir=work
refused 'an empty workdir' EINVAL lowerdir=lower1 upperdir=upper workdir=
refused 'upperdir without a value' EINVAL lowerdir=lower1 upperdir workdir=work
refused 'a leading colon' EINVAL lowerdir=:lower1 upperdir=upper workdir=work
refused 'a trailing colon' EINVAL lowerdir=lower1: upperdir=upper workdir=work
refused 'two trailing colons' EINVAL lowerdir=lower1:: upperdir=upper workdir=work
refused 'three colons' EINVAL lowerdir=lower1:::lower2 upperdir=upper workdir=work
refused 'lowerdir+ after lowerdir' EINVAL lowerdir=lower1 lowerdir+=lower2 upperdir=upper workdir=work
refused 'a missing lowerdir' ENOENT lowerdir=none upperdir=upper workdir=work
refused 'a missing second lowerdir' ENOENT lowerdir=lower1:none upperdir=upper workdir=work
refused 'a missing lowerdir+' ENOENT lowerdir+=none upperdir=upper workdir=work
refused 'a missing upperdir' ENOENT lowerdir=lower1 upperdir=none workdir=work
refused 'a missing workdir' ENOENT lowerdir=lower1 upperdir=upper workdir=none
refused 'a file as lowerdir' EINVAL lowerdir=lower1/a upperdir=upper workdir=work
refused 'a file as upperdir' EINVAL lowerdir=lower1 upperdir=upper/c workdir=work
refused 'a file as workdir' EINVAL lowerdir=lower1 upperdir=upper workdir=upper/c
refused 'a file on the way' ENOTDIR lowerdir=lower1/a/b upperdir=upper workdir=work
fails 'a component of 256 bytes' ENAMETOOLONG old "lowerdir=$(printf '%0256d' 0),upperdir=upper,workdir=work"
is 'refusals left nothing in work' '' "$(names work | grep -v '^work$')"

mkdir upper/sub work/sub
refused 'workdir = upperdir' EINVAL lowerdir=lower1 upperdir=upper workdir=upper
refused 'workdir inside upperdir' EINVAL lowerdir=lower1 upperdir=upper workdir=upper/sub
refused 'upperdir inside workdir' EINVAL lowerdir=lower1 upperdir=work/sub workdir=work
mkdir otherfs
mount -t tmpfs other otherfs
mkdir otherfs/work
refused 'workdir on another filesystem' EINVAL lowerdir=lower1 upperdir=upper workdir=otherfs/work
mkdir bound
mount --bind . bound
refused 'workdir under another mount of the same filesystem' EINVAL lowerdir=lower1 upperdir=upper workdir=bound/work
mount -o remount,bind,ro bound
refused 'upper and work on a read-only mount' EINVAL lowerdir=lower1 upperdir=bound/upper workdir=bound/work
umount bound otherfs

# ---- layers that overlap
mkdir lower1/in
refused 'lowerdir = upperdir' ELOOP lowerdir=upper upperdir=upper workdir=work
refused 'lowerdir = workdir' ELOOP lowerdir=work upperdir=upper workdir=work
refused 'one lowerdir twice' ELOOP lowerdir=lower1:lower1 upperdir=upper workdir=work
refused 'lowerdir inside upperdir' ELOOP lowerdir=upper/sub upperdir=upper workdir=work
refused 'lowerdir inside workdir' ELOOP lowerdir=work/sub upperdir=upper workdir=work
refused 'a lower layer inside another' ELOOP lowerdir=lower1:lower1/in upperdir=upper workdir=work
refused 'a lower layer inside another, no upper' ELOOP lowerdir=lower1/in:lower1
check 'upper inside lower is mounted' new lowerdir=. upperdir=upper workdir=work
fails 'and met again at lookup' ELOOP stat mnt/upper
fails 'the work directory too' ELOOP stat mnt/work
prints 'its siblings are seen' one cat mnt/lower1/a
umnt

# ---- without upper
layers 2
put lower1/a one
put lower2/b two
mnt_ro
is 'two lower layers' 'a b ' "$(listing mnt)"
is 'no upper: ro' "ro,lowerdir=lower1:lower2" "$(super_options)"
fails 'no upper: create' EROFS put mnt/c x
fails 'no upper: write' EROFS add mnt/a x
fails 'no upper: mkdir' EROFS mkdir mnt/d
fails 'no upper: unlink' EROFS rm -f mnt/a
fails 'no upper: chmod' EROFS chmod 700 mnt/a
fails 'no upper: remount,rw' EROFS sys reconfigure mnt rw
is 'no upper: no filesystem id' 0 "$(stat -f -c %i mnt)"
is 'no upper: statfs of the top lower' "$(stat -f -c '%b %S' lower1)" "$(stat -f -c '%b %S' mnt)"
umnt
check 'workdir without upperdir is ignored' new lowerdir=lower1:lower2 workdir=work
is 'and not shown' "ro,lowerdir=lower1:lower2" "$(super_options)"
is 'and not touched' '' "$(names work)"
umnt

# ---- ro, remount
layers
put lower1/a one
mnt ro
fails 'mount -o ro: create' EROFS put mnt/b x
umnt
check 'ro in the context' new lowerdir=lower1 upperdir=upper workdir=work ro
fails 'ro in the context: create' EROFS put mnt/b x
check 'remount,rw' sys reconfigure mnt rw
check 'remount,rw: create' put mnt/b x
check 'remount,ro' sys reconfigure mnt ro
fails 'remount,ro: create' EROFS put mnt/c x
fails 'remount,ro: write to a lower file' EROFS add mnt/a x
prints 'remount,ro: read' one cat mnt/a
check 'reconfigure rw' sys reconfigure mnt rw
for o in lowerdir=lower2 lowerdir+=lower1 upperdir=lower1 workdir=upper redirect_dir=follow default_permissions \
	lowerdir=lower1:lower1 uuid=off lowerdir upperdir= nonsense=1 fd:upperdir=upper; do
	fails "reconfigure with $o" EINVAL sys reconfigure mnt "$o"
done
check 'mount(2) remount ignores options' sys oldmount "$FSTYPE" mnt 32 upperdir=none,nonsense
check 'and the mount is the same' put mnt/c x
exec 5>mnt/open
fails 'remount,ro with a file open for writing' EBUSY sys reconfigure mnt ro
exec 5>&-
umnt

# ---- the UUID of the union
layers
shown_uuid() { grep " $D/mnt " /proc/mounts | grep -o 'uuid=[a-z]*'; }
mnt
is 'the first mount of an upper makes its UUID' uuid=on "$(shown_uuid)"
id=$(stat -f -c %i mnt)
check 'it has an id' test "$id" != 0
mkdir mnt/d
again
is 'the next one finds it' '' "$(shown_uuid)"
is 'it is the same' "$id" "$(stat -f -c %i mnt)"
umnt
mnt uuid=on
is 'uuid=on is shown' uuid=on "$(shown_uuid)"
is 'uuid=on: the same' "$id" "$(stat -f -c %i mnt)"
umnt
mnt uuid=null
is 'uuid=null is shown' uuid=null "$(shown_uuid)"
is 'uuid=null: the id is that of upper' "$(stat -f -c %i upper)" "$(stat -f -c %i mnt)"
umnt
layers 2
mkdir lower1/d
mnt uuid=null
put mnt/d/f x
again
is 'an upper that was used without goes on so' uuid=null "$(shown_uuid)"
is 'without: none is made' '' "$(xattr upper trusted.overlay.uuid 2>/dev/null | od -An -tx1)"
umnt
mnt uuid=on
is 'unless uuid=on is asked for' uuid=on "$(shown_uuid)"
again
is 'which it then has' '' "$(shown_uuid)"
umnt
LAYERS=lowerdir=$LOWER mnt uuid=on
is 'uuid=on without upper: none' uuid=null "$(shown_uuid)"
umnt

# ---- escapes
layers
mkdir 'l:1' 'l\2' 'l,3' 'l 4' 'u,p:\ x' 'w o'
put 'l:1/colon' 1
put 'l\2/backslash' 2
put 'l,3/comma' 3
put 'l 4/space' 4
every='backslash colon comma space '
check 'escapes with mount(2)' old 'lowerdir=l\:1:l\\2:l\,3:l 4,upperdir=u\,p:\\ x,workdir=w o'
is 'escapes: content' "$every" "$(listing mnt)"
check 'escapes: writing' put mnt/new x
check 'escapes: upper' test -f 'u,p:\ x/new'
rm mnt/new
# Split at the commas first: those inside values are shown in octal.
IFS=, read -ra shown <<<"$(super_options)"
umnt
is 'escapes in mountinfo' 'rw lowerdir=l\134:1:l\134\1342:l\134\0543:l\0404 upperdir=u\134\054p:\134\134\040x workdir=w\040o' \
	"${shown[*]}"
for i in "${!shown[@]}"; do printf -v "shown[i]" %b "${shown[i]//\\/\\0}"; done
check 'what mountinfo shows mounts again' new "${shown[@]:1}"
is 'mounted again: content' "$every" "$(listing mnt)"
umnt
check 'lowerdir+ takes the bytes as they are' new 'lowerdir+=l:1' 'lowerdir+=l\2' 'lowerdir+=l,3' 'lowerdir+=l 4'
is 'lowerdir+: content' "$every" "$(listing mnt)"
umnt
fails 'a trailing backslash' EINVAL new 'lowerdir=lower1\' upperdir=upper workdir=work
check 'an escaped plain byte is that byte' new 'lowerdir=lo\wer1' upperdir=upper workdir=work
umnt_if_mounted

# ---- the work directory
layers
mkdir -p work/work/dir
touch work/work/file work/work/dir/file
setfacl -d -m u:7:rwx,g:8:rwx work
mnt
is 'leftovers are removed' '' "$(names work/work)"
is 'work/work has mode 0' 0 "$(stat -c %a work/work)"
is 'no inherited default ACL' '' "$(getfacl -cd work/work 2>/dev/null | grep .)"
again
check 'and again' put mnt/x y
umnt
touch work/work/file
rm -r work/work
put work/work 'not a directory'
mnt
check 'a file in the place of work/work is replaced' test -d work/work
umnt
mkdir -p work/work/incompat/feature
refused 'an incompat feature' EINVAL lowerdir=lower1 upperdir=upper workdir=work
check 'which stays there' test -d work/work/incompat/feature
rm -r work/work/incompat/feature
check 'an empty incompat directory is no feature' new lowerdir=lower1 upperdir=upper workdir=work
umnt_if_mounted

# ---- in use
layers
mkdir mnt2
mnt
mount -t "$FSTYPE" -o lowerdir=upper:lower1 x mnt2 2>/dev/null && umount mnt2
check 'the first mount still works' put mnt/x 1
umnt
check 'upper and work are free again' new lowerdir=lower1 upperdir=upper workdir=work
umnt
mkdir upper2 work2
mnt
check 'one lower, two mounts' mount -t "$FSTYPE" -o lowerdir=lower1,upperdir=upper2,workdir=work2 x mnt2
umount mnt2
umnt

# ---- stacking depth
layers
mkdir m1 m2 m3 o
put lower1/a deep
mount -t tmpfs o o
mkdir o/{u1,w1,u2,w2}
check 'one on a plain filesystem' mount -t "$FSTYPE" -o lowerdir=lower1:upper x m1
check 'one on another' mount -t "$FSTYPE" -o lowerdir=m1,upperdir=o/u1,workdir=o/w1 x m2
prints 'two deep: content' deep cat m2/a
fails 'three deep' EINVAL sys mount "$FSTYPE" m3 lowerdir=m2 upperdir=o/u2 workdir=o/w2
mkdir o/{u3,w3} m4
check 'one with an upper' mount -t "$FSTYPE" -o lowerdir=lower1,upperdir=o/u3,workdir=o/w3 x m4
mkdir m4/u m4/w
fails 'an upper on a union filesystem' EINVAL sys mount "$FSTYPE" m3 lowerdir=lower1 upperdir=m4/u workdir=m4/w
umount m4 m2 m1 o

# ---- many layers
layers 500
for ((i = 1; i <= 500; i++)); do : >"lower$i/f$i"; done
put lower500/x last
put lower1/x first
many=()
for ((i = 1; i <= 500; i++)); do many+=("lowerdir+=lower$i"); done
check '500 lower layers' new "${many[@]}" upperdir=upper workdir=work
is '500 layers: listing' 501 "$(names mnt | wc -l)"
prints '500 layers: the first wins' first cat mnt/x
check '500 layers: the last is seen' test -f mnt/f500
check '500 layers: writing' put mnt/f500 x
umnt_if_mounted

# ---- freezing upper
layers
if make_fs ext4 fs; then
	mkdir fs/upper fs/work
	check 'upper on ext4' new lowerdir=lower1 upperdir=fs/upper workdir=fs/work
	fsfreeze -f fs
	put mnt/frozen x &
	sleep 0.3
	check 'a write waits while upper is frozen' kill -0 $!
	is 'and has made nothing' '' "$(names fs/upper)"
	fsfreeze -u fs
	check 'and goes on after the thaw' wait $!
	prints 'frozen: content' x cat mnt/frozen
	umnt
else
	skip 'freezing upper' "$WHY"
fi

done_testing
