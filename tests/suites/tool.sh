#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The command rovl, and mount.rovl as mount(8) calls it; for overlayfs as mount.overlay.

# Its mounts are its own: one is over /usr/sbin, where mount(8) looks for helpers.
[ -n "${TOOL_NAMESPACE:-}" ] || TOOL_NAMESPACE=1 exec unshare --mount bash "$0"
. "${0%/*}/lib.sh"

ROVL=$SUITES/../../build/tests/rovl
HELPER=/usr/sbin/mount.$FSTYPE
mkdir -p "$SCRATCH/sbin/upper" "$SCRATCH/sbin/work"
cp "$ROVL" "$SCRATCH/sbin/upper/mount.$FSTYPE" || exit 1
mount -t "$FSTYPE" -o "lowerdir=/usr/sbin,upperdir=$SCRATCH/sbin/upper,workdir=$SCRATCH/sbin/work" sbin /usr/sbin || exit 1

shown() { findmnt -no OPTIONS --mountpoint "$D/mnt"; }
flags() { findmnt -no VFS-OPTIONS --mountpoint "$D/mnt"; }
status() { # WANTED COMMAND...: its exit code
	local want=$1 rc=0
	shift
	"$@" >"$SEEN" 2>&1 || rc=$?
	[ "$rc" = "$want" ] || { echo "status $rc" && cat "$SEEN" && return 1; }
}
says() { # TEXT COMMAND...: it fails and says so
	local want=$1 out
	shift
	if ! out=$("$@" 2>&1) && [[ $out == *"$want"* ]]; then return; fi
	echo "${out@Q}"
	return 1
}

by_mount() {
	layers 2
	put lower1/f one
	put lower2/g two
	check 'mount(8) calls the helper' mount -v -t "$FSTYPE" -o "$LAYERS" name mnt
	is 'the helper did it' 1 "$(grep -c 'mount\.[a-z]*: upperdir' "$SEEN")"
	prints 'the layers are there' 'f g ' listing mnt
	is 'its name' name "$(findmnt -no SOURCE --mountpoint "$D/mnt")"
	is 'a layer is shown by its path' 1 "$(shown | grep -c "lowerdir+=$D/lower1,lowerdir+=$D/lower2,upperdir=$D/upper")"
	check 'remounted read-only' mount -o remount,ro mnt
	fails 'nothing can be written' EROFS touch mnt/new
	check 'remounted read-write, nosuid' mount -o remount,rw,nosuid mnt
	is 'both are so' 'rw nosuid' "$(flags | tr , '\n' | grep -x 'rw\|nosuid' | xargs)"
	check 'something can be written' touch mnt/new
	check 'remounted by the helper alone' "$HELPER" name mnt -o remount,noexec
	is 'other flags stay' 'rw nosuid noexec' "$(flags | tr , '\n' | grep -x 'rw\|nosuid\|noexec' | xargs)"
	check 'the layers said again' "$HELPER" name mnt -o "remount,$LAYERS"
	check 'other layers are refused' says 'the layers of a mount cannot be changed' \
		"$HELPER" name mnt -o remount,lowerdir=lower2,upperdir=upper,workdir=work
	umnt
	check 'flags of the mount' mount -t "$FSTYPE" -o "$LAYERS,nodev,noexec,noatime" name mnt
	is 'are set' 'rw nodev noexec noatime' "$(flags | tr , '\n' | grep -x 'rw\|nodev\|noexec\|noatime' | xargs)"
	umnt
	check 'read-only' mount -r -t "$FSTYPE" -o "$LAYERS" name mnt
	is 'mount and filesystem are' 'ro ro' "$(flags | cut -d, -f1) $(findmnt -no FS-OPTIONS --mountpoint "$D/mnt" | cut -d, -f1)"
	umnt
	check 'nothing is mounted with -f' "$HELPER" -f name mnt -o "$LAYERS"
	check 'and it is not' absent mnt/f
	check 'what is for others is ignored' "$HELPER" name mnt -n -o "defaults,noauto,x-systemd.automount,_netdev,$LAYERS"
	umnt
}

names_of_layers() {
	layers
	mkdir 'a:b' 'c,d' 'e\f' 'g h' data
	touch 'a:b/1' 'c,d/2' 'e\f/3' 'g h/4' data/5
	check 'colons, commas, backslashes, spaces' mount -t "$FSTYPE" -o 'lowerdir=a\:b:c\,d:e\\f:g h,upperdir=upper,workdir=work' n mnt
	prints 'are names of layers' '1 2 3 4 ' listing mnt
	umnt
	check 'lowerdir+' "$HELPER" n mnt -o 'lowerdir+=a:b,lowerdir+=c\,d,lowerdir+=e\f,upperdir=upper,workdir=work'
	prints 'takes names as they are' '1 2 3 ' listing mnt
	umnt
	printf '%s\n' "$D/a:b" '# not a layer' '' "$D/c,d" 'g h' >list
	check 'layers=' mount -t "$FSTYPE" -o layers=list,upperdir=upper,workdir=work n mnt
	prints 'has one a line' '1 2 4 ' listing mnt
	check 'and can be remounted' mount -o remount,ro mnt
	umnt
	if [ "$FSTYPE" = overlay ]; then
		check 'data-only layers' "$HELPER" n mnt -o 'lowerdir=a\:b:c\,d::data,metacopy=on'
		prints 'show no names' '1 2 ' listing mnt
		is 'they are such' 1 "$(shown | grep -c "datadir+=$D/data")"
		umnt
		check 'datadir+' "$HELPER" n mnt -o 'lowerdir+=g h,datadir+=data,metacopy=on'
		umnt
	else
		check 'data-only layers are refused by the kernel, with its reason' says 'is not supported yet' \
			"$HELPER" n mnt -o 'lowerdir=a\:b:c\,d::data'
	fi
}

# Longer than a page in all, longer than 255 bytes each.
long_lists() {
	layers
	local i long list=
	long=$(printf 'n%.0s' {1..250})
	for i in {1..100}; do list+=:$long/$long/l$i; done
	mkdir -p "$long/$long" && (cd "$long/$long" && mkdir l{1..100} && for i in {1..100}; do : >"l$i/f$i"; done)
	check '100 layers of 500 bytes' mount -t "$FSTYPE" -o "lowerdir=${list#:},upperdir=upper,workdir=work" n mnt
	is 'all are there' 100 "$(names mnt | wc -l)"
	umnt
	check 'and without an upper one' "$HELPER" n mnt -o "lowerdir=${list#:}"
	fails 'which is read-only' EROFS touch mnt/x
	umnt
	if [ "$FSTYPE" = rovl ]; then
		mkdir many{1..1500}
		printf 'many%d\n' {1..1500} >list
		touch many1500/last
		check '1500 layers from a file' mount -t rovl -o layers=list,upperdir=upper,workdir=work n mnt
		prints 'the last one is there' last names mnt
		umnt
	fi
}

in_fstab() {
	layers 2
	touch lower1/f
	mkdir other 'm nt' up2 work2
	cat >fstab <<-END
		# what a distribution has
		union $D/mnt $FSTYPE lowerdir=$D/lower1:$D/lower2,upperdir=$D/upper,workdir=$D/work,nosuid 0 0
		union $D/m\040nt $FSTYPE noauto,lowerdir=$D/lower1,upperdir=$D/up2,workdir=$D/work2 0 0
		tmpfs $D/other tmpfs defaults 0 0
	END
	check 'mount -a' mount -a -T fstab
	prints 'mounts it' f names mnt
	is 'with its flags' 1 "$(flags | grep -c nosuid)"
	check 'but not what is noauto' absent 'm nt/f'
	check 'which mount DIR does' mount -T fstab "$D/m nt"
	prints 'and is there' f names 'm nt'
	check 'again mount -a' mount -a -T fstab
	is 'mounts nothing twice' 1 "$(grep -c " $D/mnt " /proc/mounts)"
	check 'remounted as fstab has it' mount -T fstab -o remount,ro "$D/mnt"
	fails 'it is read-only' EROFS touch mnt/x
	umount 'm nt' other
	umnt
}

refusals() {
	layers
	check 'a layer that is not there' status 32 mount -t "$FSTYPE" -o lowerdir=none,upperdir=upper,workdir=work n mnt
	is 'is named' 1 "$(grep -c 'lower directory none: No such file' "$SEEN")"
	check 'an option that is none' status 32 "$HELPER" n mnt -o "$LAYERS,nonsense"
	is 'too' 1 "$(grep -c nonsense "$SEEN")"
	check 'which -s leaves out' "$HELPER" -s n mnt -o "$LAYERS,nonsense,nonsense=1"
	check 'a mount point that is none' status 32 "$HELPER" n none -o lowerdir=lower1,upperdir=upper,workdir=work,index=off
	umnt
	check 'wrong arguments' status 1 "$HELPER" n
	check 'an empty name' says 'it ends with a colon' "$HELPER" n mnt -o lowerdir=lower1:
	check 'a list that is not there' says 'layers=none: No such file' "$HELPER" n mnt -o layers=none
	: >empty
	check 'an empty list' says 'names no directory' "$HELPER" n mnt -o layers=empty
	check 'no mount to remount' says 'not rovl or overlay' "$HELPER" n mnt -o remount,ro
	check 'a directory of one' mount -t "$FSTYPE" -o "$LAYERS" n mnt
	mkdir mnt/d
	check 'is none, either' says 'not a mount point' "$HELPER" n mnt/d -o remount,ro
	umnt
	check 'a type that is none' says 'no filesystem type nonsense' "$HELPER" n mnt -t nonsense -o "$LAYERS"
	check 'not as root' says 'only root can mount' as 1001 "$HELPER" n mnt -o "$LAYERS"
	if [ "$FSTYPE" = rovl ]; then
		check "the kernel's reason" says "option 'index=on' is not supported yet" mount -t rovl -o "$LAYERS,index=on" n mnt
	fi
	check 'help' "$HELPER" --help
}

in_namespace() {
	layers
	touch lower1/f
	unshare --mount sleep 60 &
	local pid=$!
	until [ "$(readlink "/proc/$pid/ns/mnt" 2>/dev/null)" != "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.1; done
	check 'in the mount namespace of a process' "$HELPER" -N "$pid" n "$D/mnt" \
		-o "lowerdir=$D/lower1,upperdir=$D/upper,workdir=$D/work"
	check 'not in this one' absent mnt/f
	prints 'but there' f nsenter -t "$pid" -m ls "$D/mnt"
	kill "$pid"
	wait "$pid" 2>/dev/null
}

by_mount
names_of_layers
long_lists
in_fstab
refusals
in_namespace
done_testing
