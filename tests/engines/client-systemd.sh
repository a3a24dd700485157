#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Services whose root or state is a union and comes by an idmapped mount. The unions are mounted by units.
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
units=/run/systemd/system made=()
root=$SCRATCH/root shifted=$SCRATCH/shifted layered=$SCRATCH/layered state=/var/lib/private/rovl-state
mount='grep " / " /proc/mounts'

# unit NAME: with what it reads.
unit() {
	cat >"$units/$1"
	made+=("$1")
}

unit_of() { systemd-escape -p --suffix=mount "$1"; } # FOLDER

# mount_unit FOLDER TYPE OPTIONS WHAT
mount_unit() {
	unit "$(unit_of "$1")" <<-UNIT
		[Unit]
		RequiresMountsFor=$4
		[Mount]
		Where=$1
		Type=$2
		Options=$3
		What=$4
	UNIT
}

# union FOLDER LOWER [OPTION]: upper and work are beside the folder.
union() {
	mkdir -p "$1".{upper,work}
	mount_unit "$1" overlay "lowerdir=$2,upperdir=$1.upper,workdir=$1.work${3:+,$3}" "$2"
}

# service NAME COMMANDS: with the settings that it reads.
service() {
	unit "rovl-$1.service" <<-UNIT
		[Service]
		Type=oneshot
		Environment=PATH=/srv/bin:/bin
		StandardOutput=truncate:$SCRATCH/$1.out
		ExecStart=/bin/busybox sh -c '$2'
		$(cat)
	UNIT
}

# run NAME: the service runs, and what it says is compared.
run() {
	check "$1: the service" bash -c "systemctl start rovl-$1.service || { journalctl -n 10 -u rovl-$1.service; exit 1; }"
	observe "$1" cat "$SCRATCH/$1.out"
}

# shellcheck disable=SC2317 # observe calls it
mounted() { grep " $1 " /proc/mounts; }
export -f mounted

mkdir -p $units
check 'a group' groupadd -g 100000 mapped
check 'its user' useradd --system -u 100000 -g mapped -M mapped
# What root owns in the tree is the service's user's: the union's mount is mapped.
union "$root" "$TREE" X-mount.idmap=0:100000:65536
service mapped "change && chown 100001:100002 /data/there && view && $mount" <<-UNIT
	User=mapped
	AmbientCapabilities=CAP_CHOWN
	RootDirectory=$root
	MountAPIVFS=yes
UNIT
# An extension of that root is a union over the mapped mount of another one.
mkdir -p ext/usr/lib/extension-release.d ext/usr/rovl-ext
printf 'ID=rovl-test\nVERSION_ID=1\n' >ext/usr/lib/extension-release.d/extension-release.ext
echo 'from the extension' >ext/usr/rovl-ext/file
service extended 'cat /usr/rovl-ext/file && view /usr && grep " /usr " /proc/mounts' <<-UNIT
	User=mapped
	RootDirectory=$root
	ExtensionDirectories=$SCRATCH/ext
	MountAPIVFS=yes
UNIT
# The lower layer's mount is mapped; the service has users of its own.
mount_unit "$shifted" none bind,X-mount.idmap=0:100000:65536 "$TREE"
union "$layered" "$shifted"
chown 100000:100000 "$layered.upper"
service layered "change && view && $mount" <<-UNIT
	User=mapped
	PrivateUsers=yes
	RootDirectory=$layered
	MountAPIVFS=yes
UNIT
# A user for once: systemd maps the mount of the state, which is nobody's.
install -d -m 700 /var/lib/private
union $state "$TREE/data"
service state "change \$STATE_DIRECTORY && view \$STATE_DIRECTORY && grep rovl-state /proc/mounts" <<-UNIT
	DynamicUser=yes
	StateDirectory=rovl-state
	BindReadOnlyPaths=$TREE:/srv
UNIT
check 'the units are read' systemctl daemon-reload

run mapped
observe 'mapped-mount' mounted "$root"
observe 'mapped-outside' view_of "$root/data"
fails 'root has no place there' EOVERFLOW touch "$root/data/root"
run extended
check 'its mount stops' systemctl stop "$(unit_of "$root")"
is 'what it wrote is of root and others' '0:0 1:2 ' "$(stat -c %u:%g "$root.upper/data/append" "$root.upper/data/there" | tr '\n' ' ')"
check 'and starts' systemctl start "$(unit_of "$root")"
observe 'mapped-again' view_of "$root/data"
keep_upper "$root.upper" mapped-upper

run layered
observe 'layered-mount' mounted "$layered"
is 'what it wrote is its own' 100000:100000 "$(stat -c %u:%g "$layered.upper/data/append")"
keep_upper "$layered.upper" layered-upper

check 'state: its mount' systemctl start "$(unit_of $state)"
run state
observe 'state-outside' view_of $state
is 'what it wrote is of nobody' nobody:nogroup "$(stat -c %U:%G $state.upper/append)"
keep_upper $state.upper state-upper

for folder in $state "$layered" "$shifted" "$root"; do
	check "${folder##*/}: it stops" systemctl stop "$(unit_of "$folder")"
	check "${folder##*/}: it is unmounted" bash -c "! mountpoint -q $folder"
done
(cd $units && rm "${made[@]}")
systemctl daemon-reload
userdel mapped
rm -rf /var/lib/rovl-state $state*
done_testing
