#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Layers that no kernel wrote: an errno, never a crash, never a wrong file. What
# is not in the mount's features is refused, not followed.
. "${0%/*}/lib.sh"

ov=trusted.overlay
hex() { setfattr -h -n "$ov.$2" -v "0x$3" "$1"; } # FILE NAME HEX

# A well-formed file handle is header (21 bytes: version, magic, length, flags,
# type, uuid) and the file identifier.
uuid=00000000000000000000000000000000

# ---- origins: a bad one is no origin
layers
good=
origins=(
	'one byte:00'
	'the magic alone:00fb'
	'a header cut off:00fb150000'
	"no identifier:00fb150001$uuid"
	"a length beyond the value:00fbff0001${uuid}0102030405060708"
	"a length below the header:00fb010001${uuid}0102030405060708"
	"wrong magic:00aa1d0001${uuid}0102030405060708"
	"an unknown version:09fb1d0001${uuid}0102030405060708"
	"unknown flags:00fb1df001${uuid}0102030405060708"
	"an unknown type:00fb1d00ee${uuid}0102030405060708"
	"an unknown filesystem:00fb1d0081aabbccddeeff00112233445566778899${uuid}"
	"zeros:$(printf '%0128d' 0)"
	"200 bytes of ff:$(printf 'f%.0s' {1..400})"
)
for i in "${!origins[@]}"; do
	put upper/f$i "content $i"
	mkdir upper/d$i lower1/d$i
	put lower1/f$i lower
	put lower1/d$i/x x
	hex upper/f$i origin "${origins[i]#*:}" || good+=" $i"
	hex upper/d$i origin "${origins[i]#*:}"
done
put upper/empty e && setfattr -n $ov.origin upper/empty
is 'the crafted origins could be set' '' "$good"
mnt
for i in "${!origins[@]}"; do
	name="origin, ${origins[i]%%:*}"
	prints "$name: the file" "content $i" cat mnt/f$i
	check "$name: stat" stat mnt/f$i
	is "$name: a merged directory" 'x ' "$(listing mnt/d$i)"
done
prints 'an empty origin' e cat mnt/empty
check 'listing with inode numbers' ls -lai mnt
check 'they can be written' add mnt/f3 more
check 'and removed' rm -r mnt/f1 mnt/d2 mnt/empty
umnt

# An origin of another type of file is not believed.
layers
put lower1/f x
mkdir lower1/d
mnt
chmod 600 mnt/f
chmod 700 mnt/d
umnt
of_dir=$(getfattr --only-values -n $ov.origin upper/d | od -An -v -tx1 | tr -d ' \n')
of_file=$(getfattr --only-values -n $ov.origin upper/f | od -An -v -tx1 | tr -d ' \n')
hex upper/f origin "$of_dir"
hex upper/d origin "$of_file"
mnt
prints 'a directory as the origin of a file: the content' x cat mnt/f
is 'a directory as the origin of a file: its own number' "$(stat -c %i upper/f)" "$(stat -c %i mnt/f)"
check 'a file as the origin of a directory' ls mnt/d
umnt

# ---- redirects and metacopy, which this mount does not follow
layers 2
mkdir -p lower2/secret lower2/target upper/byname upper/abs upper/none lower1/l-redirect
put lower2/secret/s secret
put lower2/data 'lower data'
mkdir lower2/byname lower2/abs
put lower2/byname/own own
redirect upper/byname secret
redirect upper/abs /secret
redirect upper/none secret
redirect lower1/l-redirect secret
: >upper/meta
setfattr -n $ov.metacopy upper/meta
: >upper/meta2
setfattr -n $ov.metacopy upper/meta2
redirect upper/meta2 /secret/s
put lower2/meta 'lower meta'
: >lower1/lmeta
setfattr -n $ov.metacopy lower1/lmeta
put lower2/lmeta x
put upper/plain x
redirect upper/plain /secret/s
i=0
bad_redirects=(a/b ../secret /secret/.. //secret /secret/ / '' . .. "$(printf '%0256d' 0)" "/$(printf '%0300d' 0)" "$(printf 'x/%.0s' {1..120})")
for r in "${bad_redirects[@]}"; do
	mkdir upper/r$((i)) lower2/r$((i))
	redirect upper/r$((i++)) "$r"
done
mnt
fails 'a redirect in upper' EPERM ls mnt/byname
fails 'an absolute redirect' EPERM ls mnt/abs
fails 'a redirect over nothing' EPERM ls mnt/none
fails 'a redirect in a lower layer' EPERM ls mnt/l-redirect
fails 'metacopy' EPERM cat mnt/meta
fails 'metacopy with a redirect' EPERM cat mnt/meta2
fails 'metacopy in a lower layer' EPERM cat mnt/lmeta
fails 'writing to a metacopy' EPERM add mnt/meta x
check 'a redirect on a plain file' bash -c '[ "$(cat mnt/plain 2>&1)" = x ] || grep -q "not permitted" <(cat mnt/plain 2>&1)'
for ((i = 0; i < ${#bad_redirects[@]}; i++)); do
	r=${bad_redirects[i]}
	check "a redirect to '${r:0:20}' shows nothing of another name" bash -c "! find mnt/r$i -mindepth 1 2>/dev/null | grep ."
done
prints 'other names work' secret cat mnt/secret/s
check 'the listing of the root' ls -la mnt/secret
umnt

# A mark on a file that a directory hides is nobody's business.
layers 3
mkdir lower1/over upper/over2
put lower1/over/in x
for f in lower2/over lower3/over2; do
	: >$f
	setfattr -n $ov.metacopy $f
done
: >lower1/odd
hex lower1/odd metacopy 0040ffff
: >lower1/short
hex lower1/short metacopy 00
mnt
prints 'a directory over a metacopy' x cat mnt/over/in
check 'a directory of upper over a metacopy' put mnt/over2/f x
fails 'a metacopy of an unknown form' EPERM cat mnt/odd
fails 'a metacopy that is too short' EIO cat mnt/short
umnt

# ---- marks that are nonsense
layers 2
for n in op1 op2 op3 op4 imp1 imp2 nl; do
	mkdir -p lower1/$n upper/$n
	put lower1/$n/below x
done
setfattr -n $ov.opaque upper/op1
setfattr -n $ov.opaque -v yy upper/op2
setfattr -n $ov.opaque -v 1 upper/op3
setfattr -n $ov.opaque -v "$(printf '%0200d' 0)" upper/op4
setfattr -n $ov.impure -v garbage upper/imp1
setfattr -n $ov.impure upper/imp2
put upper/nlink x
setfattr -n $ov.nlink -v L+99999999999 upper/nlink
setfattr -n $ov.protattr -v 'zzzz,,,' upper/nlink
put upper/prot x
setfattr -n $ov.protattr -v "$(printf '%0200d' 0)" upper/prot
put upper/up x
setfattr -n $ov.upper -v nonsense upper/up
setfattr -n $ov.uuid -v short upper
setfattr -n $ov.origin -v nonsense upper
setfattr -n $ov.whiteout -v y upper/prot
mnt
for n in op1 op2 op3 op4 imp1 imp2; do
	is "nonsense marks: $n is merged" 'below ' "$(listing mnt/$n)"
done
is 'a nonsense link count' 1 "$(stat -c %h mnt/nlink)"
check 'nonsense flags: writable' add mnt/nlink y
check 'flags of 200 bytes: writable' add mnt/prot y
check 'an upper mark on a file' add mnt/up y
check 'chattr over nonsense flags' bash -c 'chattr +i mnt/prot 2>&1 | grep -q "not supported" || chattr -i mnt/prot'
umnt

# ---- whiteouts and links
layers
for f in a b c; do put lower1/$f x; done
whiteout upper/a
ln upper/a upper/b
mkdir -p upper/d lower1/d
put lower1/d/e x
ln upper/a upper/d/e
mnt
is 'a whiteout with several links hides every name' 'c d ' "$(listing mnt)"
put mnt/a new
prints 'one is replaced' new cat mnt/a
fails 'the others stay' ENOENT stat mnt/b
check 'in upper too' is_whiteout upper/b
rmdir mnt/d
check 'a directory that holds one can be removed' is_whiteout upper/d
umnt

# ---- the work directory
layers
mkdir -p work/work/{a,incompat}
put work/work/a/f x
mkfifo work/work/p
whiteout work/work/#1
put work/work/incompat/x y && rm work/work/incompat/x && rmdir work/work/incompat && put work/work/incompat 'a file'
ln -s /etc work/work/link
mnt
check 'odd leftovers: mounted' put mnt/x x
umnt
rm -rf work/work
ln -s "$D/lower1" work/work
put lower1/keep x
mnt
check 'a symlink as work/work is replaced' test -d work/work -a ! -L work/work
prints 'and not followed' x cat lower1/keep
umnt

# ---- case-folding directories
layers
truncate -s 32M "$IMAGES/fold.img"
mkdir fold
if mkfs.ext4 -q -F -O casefold "$IMAGES/fold.img" 2>"$SEEN" && mount -o loop "$IMAGES/fold.img" fold 2>"$SEEN"; then
	mkdir fold/lower fold/folded fold/lower/sub
	chattr +F fold/folded fold/lower/sub
	put fold/lower/plain x
	put fold/lower/sub/f x
	fails 'a folding lower and a plain upper' EINVAL sys mount "$FSTYPE" mnt lowerdir=fold/folded upperdir=upper workdir=work
	fails 'a folding lower and a plain one' EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1:fold/folded
	check 'a plain folder on such a filesystem' sys mount "$FSTYPE" mnt lowerdir=fold/lower upperdir=upper workdir=work
	prints 'its files' x cat mnt/plain
	fails 'another case' ENOENT stat mnt/PLAIN
	fails 'a folding directory in it' EREMOTE stat mnt/sub
	fails 'what is in it' EREMOTE cat mnt/sub/f
	umount mnt
	mkdir fold/upper fold/work
	check 'such a filesystem as upper' sys mount "$FSTYPE" mnt lowerdir=fold/lower upperdir=fold/upper workdir=fold/work
	check 'a file is copied up' bash -c 'echo y >>mnt/plain'
	prints 'there' "$(printf 'x\ny')" cat fold/upper/plain
	check 'a new file, and one in another case' touch mnt/new mnt/NEW
	check 'a whiteout' rm mnt/new
	fails 'the name is gone' ENOENT stat mnt/new
	check 'the other is not' stat mnt/NEW
	umount mnt
	umount fold
else
	skip 'case-folding directories' "no ext4 that folds: $(head -n 1 "$SEEN")"
fi
rm "$IMAGES/fold.img"

# ---- upper changed under a mount: undefined, but an errno and no crash
layers
for f in f g h i; do put upper/$f old; done
mkdir upper/d lower1/d
put lower1/low x
mnt
cat mnt/f mnt/g mnt/h mnt/i >"$SEEN"
ls mnt/d >"$SEEN"
for f in f g h i; do mv upper/$f upper/.$f && put upper/$f replaced; done
fails 'replaced in upper: unlink' ESTALE rm -f mnt/f
fails 'replaced in upper: rename' ESTALE sys rename 0 mnt/g mnt/g2
prints 'replaced in upper: what was replaced is still read' old cat mnt/h
rm upper/i
# What these answer is open; the checks below them say that nothing broke.
{ rm -f mnt/i; rmdir upper/d; ls mnt/d; touch mnt/d/x; rmdir mnt/d; } >"$SEEN" 2>&1
check 'removed from upper: the rest still works' add mnt/low y
umnt
mnt
is 'a new mount shows what is there' 'f g h low ' "$(cd mnt && echo [fgl]* h | xargs -n1 | sort | tr '\n' ' ')"
umnt

done_testing
