#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# xino=on|auto|off: st_ino, st_dev, d_ino and i_ino as the kernel's table has them (overlayfs.rst, "Inode properties"), with
# layers on one, two and twenty filesystems, nested, and with numbers that are too big. uuid=off.
. "${0%/*}/lib.sh"

SHOWN='xino|uuid|index|nfs_export'
PARAMETERS=/sys/module/$FSTYPE/parameters
mark() { echo "xino: $1" >/dev/kmsg && MARK=$1; }
# What the kernel has said since.
said() { dmesg | sed "1,/xino: $MARK\$/d"; }
numbers() { (cd mnt && find . -printf "$1\n" | sort); } # FORMAT
number() { stat -c %i "$1"; }

# Every layer has these, with the same real numbers on filesystems of one kind.
fill() { # LAYER NUMBER
	mkdir -p "$1/only$2/sub/deep" "$1/both/in$2" "$1/plain$2"
	put "$1/only$2/sub/file" x
	put "$1/only$2/sub/deep/file" x
	put "$1/both/f$2" x
	put "$1/both/same" "$2"
	put "$1/both/in$2/file" x
	put "$1/two$2" x
	ln "$1/two$2" "$1/plain$2/name"
	ln -s nowhere "$1/plain$2/link"
	mkfifo "$1/plain$2/fifo"
}

# spread KIND...: layers, each lower one on a filesystem of its own.
spread() {
	local i=0 kind
	layers $#
	for kind; do
		make_fs "$kind" "lower$((++i))" 8M || return
		rm -rf "lower$i/lost+found"
		fill "lower$i" $i
	done
	fill upper up
}

uniform() { [ "$(numbers %D | uniq | wc -l)" = 1 ]; }
# No two objects have one number, but for the names of a file.
unique() { [ -z "$(cd mnt && find . \( -links 1 -o -type d \) -printf '%D:%i\n' | sort | uniq -d)" ]; }
# What stat says, of all names or those that are of another type; what listings say (ls -i makes no stat).
stated() { (cd mnt && find . ${1:+! -type "$1"} -printf '%p %i\n' | sort); } # [TYPE]
all_listed() { (cd mnt && ls -UiaR) | awk '/:$/ { dir = substr($0, 1, length - 1) } NF == 2 { print dir, $2, $1 }'; }
listed() { # [TYPE]
	all_listed | awk '$2 == "." { print $1, $3 } $2 !~ /^\.\.?$/ { print $1 "/" $2, $3 }' | sort -u |
		awk 'NR == FNR { wanted[$1]; next } $1 in wanted' <(stated "$@") -
}
# Of each directory below the root what is said of the one above it.
parents_listed() { all_listed | awk '$2 == ".." && $1 != "." { print $1, $3 }' | sort; }
parents_stated() {
	(cd mnt && find . -type d -printf '%p %h %i\n') |
		awk '{ ino[$1] = $3; up[$1] = $2 } END { for (d in ino) if (d != ".") print d, ino[up[d]] }' | sort
}
# What inotify's fdinfo says, which is i_ino.
watched() {
	# shellcheck disable=SC2016
	(cd mnt && find . ${1:+! -type "$1"} ! -type l | sort -u | perl -e '
		my ($fd, %path) = syscall(294, 0);
		while (my $p = <STDIN>) { chomp $p; my $w = syscall(254, $fd, $p, 2); $path{$w} .= "$p\n" }
		open my $f, "<", "/proc/self/fdinfo/$fd" or die;
		while (<$f>) {
			my ($w, $ino) = /wd:(\w+) ino:(\w+)/ or next;
			print "$_ ", hex $ino, "\n" for split /\n/, $path{hex $w};
		}' | sort -u)
}
stated_no_links() { (cd mnt && find . ${1:+! -type "$1"} ! -type l -printf '%p %i\n' | sort -u); }
locked() { # FILE: its number in /proc/locks
	flock "$1" awk '{ split($6, at, ":"); print at[3] }' /proc/locks | sort | tr '\n' ' '
}

# The rows of the table where nothing is said to depend on the type.
whole() { # WHEN
	check "$1: one device" uniform
	check "$1: no number twice" unique
	is "$1: d_ino is st_ino" "$(stated)" "$(listed)"
	is "$1: of the parents, too" "$(parents_stated)" "$(parents_listed)"
	is "$1: i_ino is st_ino" "$(stated_no_links)" "$(watched)"
}

# Everything is copied up, in one way or another; what has two names gets a number of its own by that.
change() {
	local f
	for f in mnt/only*/sub/file; do add "$f" more; done
	chmod 600 mnt/both/f* mnt/only*/sub/deep/file
	chmod 700 mnt/plain* mnt/both/in*
	chown -h 1 mnt/plain*/link mnt/plain*/fifo
	touch mnt/both mnt/only*
}

constant() { # WHEN: over copy-up, rename, eviction and mounts; the mount is there
	local before ino when=$1
	shift
	before=$(numbers '%p %i' | grep -v -e /two -e /name)
	change
	is "$when: copied up" "$before" "$(numbers '%p %i' | grep -v -e /two -e /name)"
	forget
	is "$when: forgotten" "$before" "$(numbers '%p %i' | grep -v -e /two -e /name)"
	ino=$(number mnt/only1/sub/file)
	mv mnt/only1/sub/file mnt/moved
	is "$when: renamed" "$ino" "$(number mnt/moved)"
	mv mnt/moved mnt/only1/sub/file
	add mnt/two1 x
	umnt
	mnt "$@"
	is "$when: mounted again" "$before" "$(numbers '%p %i' | grep -v -e /two -e /name)"
}

# ---- one filesystem: there is nothing to tell apart
layers 2
fill lower1 1
fill lower2 2
fill upper up
mark one
mnt xino=on
is 'one filesystem: not shown' 'uuid=on ' "$(shown)"
check 'one filesystem: which is said' grep -q '"xino=on" is useless' <<<"$(said)"
is 'one filesystem: the real number' "$(number lower1/only1)" "$(number mnt/only1)"
constant 'one filesystem' xino=on
whole 'one filesystem'
umnt

# ---- several
several() { # NAME BITS KIND...
	local name=$1 bits=$2 real
	shift 2
	if ! spread "$@"; then
		skip "$name" "$WHY"
		return
	fi
	mnt
	real=$(number mnt/only1/sub/file)
	is "$name, off: the real number" "$(number lower1/only1/sub/file)" "$real"
	check "$name, off: and the filesystem's device" [ "$(stat -c %d mnt)" != "$(stat -c %d mnt/only1/sub/file)" ]
	is "$name, off: one device for directories" 1 "$(cd mnt && find . -type d -printf '%D\n' | sort -u | wc -l)"
	check "$name, off: no number twice" unique
	is "$name, off: d_ino of what is no directory" "$(stated d)" "$(listed d)"
	is "$name, off: i_ino of what is no directory" "$(stated_no_links d)" "$(watched d)"
	is "$name, off: not shown" 'uuid=on ' "$(shown)"
	umnt
	for how in ${HOW:-auto on}; do
		mark "$name $how"
		mnt xino=$how
		is "$name, $how: it is shown" "xino=$how " "$(shown)"
		check "$name, $how: how many bits" grep -q "\"xino\" feature enabled using $bits upper" <<<"$(said)"
		is "$name, $how: the real number is in it" "$real" $(($(number mnt/only1/sub/file) & ((1 << 64 - bits) - 1)))
		is "$name, $how: upper's is as it is" "$(number upper/both/fup)" "$(number mnt/both/fup)"
		whole "$name, $how"
		umnt
	done
	mnt xino=on
	is "$name: /proc/locks" "$(number mnt/both/fup) " "$(locked mnt/both/fup)"
	is "$name: of a lower file, too" "$(number mnt/only1/sub/file) " "$(locked mnt/only1/sub/file)"
	constant "$name" xino=on
	mkdir mnt/only1/new mnt/new
	put mnt/new/file x
	put mnt/only1/new/file x
	rm mnt/plain1/fifo
	forget
	whole "$name, changed"
	umnt
	LAYERS=lowerdir=upper:$LOWER
	mnt xino=on
	whole "$name, without upper"
	umnt
	umount_below "$D"
	cd "$D" || exit 1
}
several 'two filesystems' 2 tmpfs
HOW=auto several 'three filesystems' 3 tmpfs ext4
# shellcheck disable=SC2046
HOW=on several 'twenty filesystems' 6 $(printf 'tmpfs %.0s' {1..16}) ext4 ext4 ext4

# Where all have numbers of 32 bits, the others are free.
all_ext4() {
	local how
	spread ext4 || return
	make_fs ext4 over 16M || return
	mkdir over/upper over/work
	fill over/upper up
	LAYERS=lowerdir=$LOWER,upperdir=over/upper,workdir=over/work
	mark ext4
	mnt xino=auto
	check 'ext4 alone: 32 bits' grep -q 'using 32 upper inode bits' <<<"$(said)"
	constant 'ext4 alone' xino=auto
	whole 'ext4 alone'
	umnt
}
all_ext4 || skip 'ext4 alone' "$WHY"

# ---- auto is for numbers that last
layers 1
make_fs tmpfs low
mkdir ram
mount -t ramfs ram ram
put low/f x
put ram/g x
old=$(<"$PARAMETERS/xino_auto")
falls_back() { # NAME LOWER WHY
	LAYERS=lowerdir=$2,upperdir=upper,workdir=work
	mark "$1"
	mnt xino=auto index=off
	is "$1: auto becomes off" '' "$(shown | grep -o 'xino=[a-z]*')"
	check "$1: the device of a lower file is another" [ "$(stat -c %d mnt)" != "$(stat -c %d mnt/$4)" ]
	check "$1: which is said" grep -qE "$3.*xino=off" <<<"$(said)"
	umnt
	mnt xino=on
	is "$1: on stays on" 'xino=on ' "$(shown | grep -o 'xino=on ')"
	check "$1: the device is the union's" [ "$(stat -c %d mnt)" = "$(stat -c %d mnt/$4)" ]
	umnt
}
falls_back 'no file handles' ram 'does not support file handles' g
LAYERS=lowerdir=low:ram
mnt xino=auto
is 'no file handles, nothing is copied up: it stays' 'xino=auto ' "$(shown)"
umnt
if has_fs squashfs && command -v mksquashfs >"$SEEN"; then
	mkdir sq
	mksquashfs low "$IMAGES/xino.squashfs" -comp zstd -quiet -no-progress -noappend >"$SEEN"
	mount -t squashfs -o loop,ro "$IMAGES/xino.squashfs" sq
	rm "$IMAGES/xino.squashfs"
	falls_back 'no UUID' sq 'null uuid' f
	mnt xino=auto redirect_dir=on
	is 'no UUID, and layers that may not change: it stays' 'xino=auto ' "$(shown)"
	umnt
	umount sq
else
	skip 'no UUID' 'there is no squashfs'
fi

# ---- the parameter
LAYERS=lowerdir=low,upperdir=upper,workdir=work
echo Y >"$PARAMETERS/xino_auto"
mnt
is 'by the parameter: not shown' '' "$(shown)"
is 'by the parameter: in effect' "$(stat -c %d mnt)" "$(stat -c %d mnt/f)"
umnt
mnt xino=off
is 'against the parameter: shown' 'xino=off ' "$(shown)"
check 'against the parameter: off' [ "$(stat -c %d mnt)" != "$(stat -c %d mnt/f)" ]
umnt
mnt xino=auto
is 'as the parameter: not shown' '' "$(shown)"
umnt
echo N >"$PARAMETERS/xino_auto"
mnt xino=auto
is 'against no parameter: shown' 'xino=auto ' "$(shown)"
fails 'it cannot be changed' EINVAL sys reconfigure mnt xino=off
umnt
echo "$old" >"$PARAMETERS/xino_auto"
mark obsolete
check 'an obsolete parameter can be set' sh -c "echo 1 >$PARAMETERS/check_copy_up"
is 'to no effect' N "$(<"$PARAMETERS/check_copy_up")"
check 'which is said' grep -q '"check_copy_up" module option is obsolete' <<<"$(said)"

# ---- numbers that are too big: those of a union that has all the bits
layers 1
make_fs tmpfs a
make_fs tmpfs b
make_fs tmpfs c
fill a 1
fill b 2
fill c 3
mkdir inner
mount -t "$FSTYPE" -o lowerdir=a:b,xino=on x inner
LAYERS=lowerdir=inner:c,upperdir=upper,workdir=work
fill upper up
mark big
mnt xino=on
is 'too big: it is shown' 'xino=on ' "$(shown | grep -o 'xino=on ')"
numbers %i >"$SEEN"
count=$(said | grep -c 'inode number too big')
case $FSTYPE in
rovl) is 'too big: said once' 1 "$count" ;;
*) check 'too big: said' [ "$count" -gt 0 ] ;;
esac
is 'too big: a file has the real number' "$(number inner/only1/sub/file)" "$(number mnt/only1/sub/file)"
check 'too big: and another device' [ "$(stat -c %d mnt)" != "$(stat -c %d mnt/only1/sub/file)" ]
is 'too big: what is not has the device' "$(stat -c %d mnt)" "$(stat -c %d mnt/only3/sub/file)"
is 'too big: so have directories' 1 "$(cd mnt && find . -type d -printf '%D\n' | sort -u | wc -l)"
check 'too big: a directory has another number' [ "$(number inner/only1)" != "$(number mnt/only1)" ]
check 'too big: no number twice' unique
is 'too big: d_ino of what is no directory' "$(stated d)" "$(listed d)"
is 'too big: i_ino of what is no directory' "$(stated_no_links d)" "$(watched d)"
before=$(numbers '%p %D:%i' | grep -v -e /two -e /name)
change
is 'too big: copied up' "$before" "$(numbers '%p %D:%i' | grep -v -e /two -e /name)"
umnt
mark quiet
LAYERS=lowerdir=inner:c
mnt xino=auto
numbers %i >"$SEEN"
is 'too big: auto is silent' 0 "$(said | grep -c 'too big')"
umnt
umount inner
# With fewer of the bits it fits.
make_fs ext4 d 8M && make_fs ext4 e 8M && {
	rm -rf {d,e}/lost+found
	fill d 1
	fill e 2
	mount -t "$FSTYPE" -o lowerdir=d:e,xino=on x inner
	LAYERS=lowerdir=inner:c
	mnt xino=on
	whole 'nested'
	umnt
	umount inner
}

# ---- uuid=off: handles without the filesystem's UUID
uuid_in() { local value; value=$(getfattr -h --only-values -n trusted.overlay.origin "$1" | hex) && echo "${value:10:32}"; }
NONE=00000000000000000000000000000000
uuid_off() {
	local ino
	layers 1
	fill lower1 1
	mnt uuid=off
	is 'uuid=off: it is shown' 'uuid=off ' "$(shown)"
	is 'uuid=off: the id of statfs is that of upper' "$(stat -f -c %i upper)" "$(stat -f -c %i mnt)"
	ino=$(number mnt/both/f1)
	chmod 600 mnt/both/f1
	is 'uuid=off: no UUID' $NONE "$(uuid_in upper/both/f1)"
	check 'uuid=off: no UUID of the union' sh -c '! getfattr -n trusted.overlay.uuid upper 2>/dev/null'
	umnt
	mnt uuid=off
	is 'uuid=off: the number stays' "$ino" "$(number mnt/both/f1)"
	umnt
	mnt
	check 'uuid=auto: a handle without a UUID is of nothing' [ "$ino" != "$(number mnt/both/f1)" ]
	chmod 600 mnt/only1/sub/file
	ino=$(number mnt/only1/sub/file)
	check 'uuid=auto: there is a UUID' [ "$(uuid_in upper/only1/sub/file)" != $NONE ]
	umnt
	mnt uuid=off
	check 'uuid=off: a handle with a UUID is of nothing' [ "$ino" != "$(number mnt/only1/sub/file)" ]
	umnt

	# With an index.
	layers 1
	fill lower1 1
	mnt uuid=off index=on
	is 'uuid=off, index=on: both are shown' 'index=on uuid=off ' "$(shown)"
	ino=$(number mnt/two1)
	add mnt/two1 more
	is 'uuid=off, index=on: the links stay' "$ino more" "$(number mnt/plain1/name) $(tail -n 1 mnt/plain1/name)"
	is 'uuid=off, index=on: no UUID in the name' $NONE "$(names work/index | grep -v '^#' | cut -c 11-42)"
	umnt
	mnt uuid=off index=on nfs_export=on
	is 'uuid=off, nfs_export=on: so is that' 'index=on uuid=off nfs_export=on ' "$(shown)"
	is 'uuid=off, nfs_export=on: the links stay' "$ino more" "$(number mnt/plain1/name) $(tail -n 1 mnt/plain1/name)"
	chmod 700 mnt/only1
	umnt
	fails 'uuid=auto, index=on: made with another one' ESTALE sys oldmount "$FSTYPE" mnt 0 "$LAYERS,index=on"
	mnt
	check 'uuid=auto, index=off: is nobody else' [ "$(number mnt/two1)" != "$(number mnt/plain1/name)" ]
	umnt
}
on_each_upper uuid_off

# One lower filesystem is known without a UUID where layers may not change; two are not.
layers 1
make_fs tmpfs a
make_fs tmpfs b
fill a 1
fill b 2
A=$D/a B=$D/b
LAYERS=lowerdir=a,upperdir=upper,workdir=work
mnt uuid=off index=on xino=on
is 'uuid=off, another filesystem: all is on' 'index=on uuid=off xino=on ' "$(shown)"
ino=$(number mnt/both/f1)
chmod 600 mnt/both/f1
umnt
mnt uuid=off index=on xino=on
is 'uuid=off, another filesystem: the number stays' "$ino" "$(number mnt/both/f1)"
umnt
layers 1
LAYERS=lowerdir=$A:$B,upperdir=upper,workdir=work
mark two
mnt uuid=off index=on
is 'uuid=off, two lower filesystems: no index' 'uuid=off ' "$(shown)"
check 'uuid=off, two lower filesystems: which is said' grep -qE '(null|conflicting) uuid.*index=off' <<<"$(said)"
umnt
done_testing
