#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Where rovl promises more than overlayfs, or less: refusals that name the option
# and the reason in the mount context's log, conflicting options (overlayfs lets the last win), layers in use, more than 500
# layers.
. "${0%/*}/lib.sh"

if [ "$FSTYPE" != rovl ]; then
	skip 'rovl only' "the type under test is $FSTYPE"
	done_testing
fi

# says NAME ERRNO PATTERN OPTION...: refused with that errno and a line that matches, whatever its case,
# in the context's log and in the kernel log, where mount(8) sends people.
says() {
	local name=$1 want=${STRERROR[$2]} pattern=$3 out
	shift 3
	echo "rovl_only: $name" >/dev/kmsg
	if out=$(sys mount rovl mnt "$@" 2>&1); then
		umount mnt
		not_ok "$name" "expected: refused" "seen: mounted"
	elif [[ $out == *"$want"* ]] && tail -n +2 <<<"$out" | grep -qiE "$pattern"; then
		case $pattern in
		nonsense) ok "$name" ;; # the VFS says that
		*) check "$name" grep -qiE "rovl: .*($pattern)" <<<"$(dmesg | tac | sed '/rovl_only: /q')" ;;
		esac
	else
		not_ok "$name" "expected: $want, log matching /$pattern/" "seen: $out"
	fi
}

layers 2
put lower1/file x
put upper/file x
mkdir upper/sub work/sub lower1/in otherfs ro
BASIC=(lowerdir=lower1 upperdir=upper workdir=work)

# ---- options without such a value: refused by name
for o in redirect_dir=nonsense index= metacopy= xino=2 copy_up=never copy_up= copy_up=Open copy_up; do
	says "refused: $o" EINVAL "${o%%=*}" "${BASIC[@]}" "$o"
done

# ---- every refusal has its line
says 'an unknown option' EINVAL nonsense "${BASIC[@]}" nonsense=1
says 'an unknown flag' EINVAL nonsense "${BASIC[@]}" nonsense
says 'no lowerdir' EINVAL lowerdir upperdir=upper workdir=work
says 'no workdir' EINVAL workdir lowerdir=lower1 upperdir=upper
says 'one lower and no upper' EINVAL 'lower|upper' lowerdir=lower1
says 'lowerdir doubled' EINVAL 'lowerdir' lowerdir=lower1 lowerdir=lower2 upperdir=upper workdir=work
says 'upperdir doubled' EINVAL 'upperdir' "${BASIC[@]}" upperdir=upper
says 'workdir doubled' EINVAL 'workdir' "${BASIC[@]}" workdir=work
says 'lowerdir+ after lowerdir' EINVAL 'lowerdir' "${BASIC[@]}" lowerdir+=lower2
says 'data-only layers alone' EINVAL 'non-data lowerdir' datadir+=lower1 upperdir=upper workdir=work
says 'a merged layer below a data-only one' EINVAL 'regular lower layers cannot follow' \
	lowerdir=lower1::lower2:in upperdir=upper workdir=work
says 'an empty lowerdir' EINVAL 'lowerdir' lowerdir= upperdir=upper workdir=work
says 'an empty lowerdir+' EINVAL 'lowerdir.*empty|empty.*lowerdir' lowerdir+= upperdir=upper workdir=work
says 'an empty upperdir' EINVAL 'upperdir.*empty|empty.*upperdir' lowerdir=lower1 upperdir= workdir=work
says 'a leading colon' EINVAL 'lowerdir' lowerdir=:lower1 upperdir=upper workdir=work
says 'a trailing colon' EINVAL 'lowerdir' lowerdir=lower1: upperdir=upper workdir=work
says 'a trailing backslash' EINVAL 'lowerdir' 'lowerdir=lower1\' upperdir=upper workdir=work
says 'a missing lowerdir' ENOENT 'none' lowerdir=none upperdir=upper workdir=work
says 'a missing upperdir' ENOENT 'none' lowerdir=lower1 upperdir=none workdir=work
says 'a file as lowerdir' EINVAL 'lower1/file.*directory|directory.*lower1/file' lowerdir=lower1/file upperdir=upper workdir=work
says 'a file as upperdir' EINVAL 'upper/file.*directory|directory.*upper/file' lowerdir=lower1 upperdir=upper/file workdir=work
says 'workdir = upperdir' EINVAL 'workdir|upperdir' lowerdir=lower1 upperdir=upper workdir=upper
says 'workdir inside upperdir' EINVAL 'workdir|upperdir' lowerdir=lower1 upperdir=upper workdir=upper/sub
says 'upperdir inside workdir' EINVAL 'workdir|upperdir' lowerdir=lower1 upperdir=work/sub workdir=work
mount -t tmpfs other otherfs
mkdir otherfs/work
says 'workdir on another filesystem' EINVAL 'workdir' lowerdir=lower1 upperdir=upper workdir=otherfs/work
umount otherfs
mount -t tmpfs -o ro ro ro
says 'upper read-only' EINVAL 'read-only' lowerdir=lower1 upperdir=ro workdir=work
umount ro
says 'lowerdir = upperdir' ELOOP 'overlap|conflict|twice|same' lowerdir=upper upperdir=upper workdir=work
says 'lower inside upper' ELOOP 'overlap|conflict|inside' lowerdir=upper/sub upperdir=upper workdir=work
says 'lower inside lower' ELOOP 'overlap|conflict|inside' lowerdir=lower1:lower1/in upperdir=upper workdir=work
mkdir -p work/work/incompat/thing
says 'an incompat feature' EINVAL 'incompat.*thing|thing.*incompat' "${BASIC[@]}"
rm -r work/work
mkdir m1 m2
sys mount rovl m1 lowerdir=lower1:lower2
sys mount rovl m2 lowerdir=m1:upper
says 'stacked too deep' EINVAL 'stack|deep|depth' lowerdir=m2:lower2
umount m2
sys mount rovl m2 lowerdir=lower1 upperdir=upper workdir=work
mkdir m2/u m2/w upper2 work2
says 'an upper on rovl' EINVAL 'upper' lowerdir=lower2 upperdir=m2/u workdir=m2/w

# ---- layers in use: EBUSY, with the mount that uses them
says 'upper in use' EBUSY "upper.*(use|busy).*" lowerdir=lower1 upperdir=upper workdir=work2
says 'work in use' EBUSY "work.*(use|busy).*" lowerdir=lower1 upperdir=upper2 workdir=work
says 'an upper inside an upper in use' EBUSY "upper.*(use|busy).*" lowerdir=lower2 upperdir=upper/u workdir=upper/w
is 'the first mount still works' 0 "$(put m2/x y; echo $?)"
umount m2
check 'free after umount' sys mount rovl mnt "${BASIC[@]}"
umnt

# ---- the options that are shown are no change: mount(8) 2.41 hands them over for remount,ro
# repeats NAME OPTION...: a mount with these options is changed by all that is shown of it, and back.
repeats() {
	local name=$1 line option shown=() decoded
	shift
	check "$name" sys mount rovl mnt "$@"
	line=$(grep " $D/mnt " /proc/self/mountinfo)
	IFS=, read -ra shown <<<"${line##* }"
	for ((option = 1; option < ${#shown[@]}; option++)); do
		printf -v decoded %b "${shown[option]//\\/\\0}"
		shown[option]=$decoded
	done
	check "$name: ro, and all that is shown" sys reconfigure mnt ro "${shown[@]:1}"
	fails "$name: it is read-only" EROFS put mnt/new x
	check "$name: rw, and all that is shown" sys reconfigure mnt "${shown[@]:1}" rw
	check "$name: it is not" put mnt/new x
	check "$name: what was asked for" sys reconfigure mnt ro "${@/#fd:*/ro}"
	umnt
}
layers 2
mkdir 'l:1' 'l,2'
repeats 'shown again: lowerdir' lowerdir=lower1:lower2 upperdir=upper workdir=work redirect_dir=on uuid=auto \
	copy_up=open default_permissions override_creds xino=off
repeats 'shown again: what fell back' lowerdir=lower1:lower2 upperdir=upper workdir=work uuid=auto redirect_dir=off
repeats 'shown again: lowerdir+' lowerdir+=lower1 lowerdir+=l:1 upperdir=upper workdir=work uuid=null
repeats 'shown again: escapes' 'lowerdir=l\:1:l\,2' upperdir=upper workdir=work
repeats 'shown again: descriptors' fd:lowerdir+=lower1 fd:lowerdir+=lower2 fd:upperdir=upper fd:workdir=work
sys mount rovl mnt lowerdir+=lower1 lowerdir+=lower2 upperdir=upper workdir=work
fails 'some of the lower layers are a change' EINVAL sys reconfigure mnt lowerdir+=lower1
fails 'so is another order' EINVAL sys reconfigure mnt lowerdir+=lower2 lowerdir+=lower1
fails 'so is one more' EINVAL sys reconfigure mnt lowerdir+=lower1 lowerdir+=lower2 lowerdir+=lower1
is 'which the log says' 1 "$(sys reconfigure mnt uuid=null 2>&1 | grep -c "No changes allowed in reconfigure.*'uuid'")"
check 'mount -o remount,ro' mount -o remount,ro mnt
fails 'it is read-only' EROFS put mnt/new x
check 'mount -o remount,rw' mount -o remount,rw mnt
check 'it is not' put mnt/new x
umnt

# ---- more than 500 layers
layers 600
many=()
for ((i = 1; i <= 600; i++)); do
	: >"lower$i/f$i"
	many+=("lowerdir+=lower$i")
done
check '600 lower layers' sys mount rovl mnt "${many[@]}" upperdir=upper workdir=work
is '600 layers: listing' 600 "$(names mnt | wc -l)"
check '600 layers: the last' test -f mnt/f600
! mountpoint -q mnt || umnt

# ---- copy-up at open, as overlayfs does it, or at the first write
layers
put lower1/f x
shown() { grep " $D/mnt " /proc/mounts | grep -o ',copy_up=[^,]*' | grep -o '[a-z].*[a-z]'; }
mnt copy_up=open
is 'copy_up=open is shown' copy_up=open "$(shown)"
check 'and survives a remount' sys reconfigure mnt
is 'as it was' copy_up=open "$(shown)"
sys open RDWR mnt/f
check 'opening copies up' test -f upper/f
umnt
rm upper/f
for o in copy_up=write ''; do
	mnt ${o:+"$o"}
	is "${o:-the default} is not shown" '' "$(shown)"
	sys open RDWR mnt/f
	check "${o:-the default}: opening does not copy up" absent upper/f
	umnt
done
mnt copy_up=open copy_up=write
is 'the last one counts' '' "$(shown)"
umnt

# ---- a directory that was asked for 60 missing names, as those of the suite memory
# are, asks no layer for another one: ext4 keeps a dentry for every name it lacks.
layers 20
if make_fs ext4 lower; then
	mkdir lower/{1..20} lower/{1..20}/d
	LAYERS=lowerdir=$(echo lower/{1..20} | tr ' ' :),upperdir=upper,workdir=work
	mnt
	misses=0
	# The dentries that asking DIR for COUNT missing names has made.
	ask() {
		local i before after
		read -r before _ </proc/sys/fs/dentry-state
		for ((i = 0; i < $2; i++)); do [ ! -e "$1/miss$((++misses))" ] || not_ok 'a missing name' 'is there'; done
		read -r after _ </proc/sys/fs/dentry-state
		made=$((after - before))
	}
	ask mnt/d 10
	check "at first every layer is asked ($made dentries)" test $made -ge 200
	ask mnt/d 50
	ask mnt/d 100
	check "then none ($made dentries)" test $made -lt 150
	put lower/7/d/new x
	ask mnt/d 10
	check "after a change all of them are, again ($made dentries)" test $made -ge 200
	umnt
	umount lower
else
	skip 'directories learn' "$WHY"
fi

is 'the module has an alias for mount -t' fs-rovl "$(modinfo -F alias "${ROVL_KO:-rovl}" | grep fs-)"

# ---- the number of a directory that has another topmost layer than the one in it
layers 3
mkdir -p lower1/a lower2/a/b lower3/a/b
mnt
is 'dot-dot is the parent, whichever layer that is of' "$(stat -c %i mnt/a)" "$(ls -Uia mnt/a/b | awk '$2 == ".." {print $1}')"
umnt
done_testing
