# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every shell suite starts with: `. "${0%/*}/lib.sh"`.
#
#   FSTYPE   filesystem type under test: rovl or overlay
#   OTHER    the other one, empty when the kernel does not have it
#   SCRATCH  an empty folder on a tmpfs; one is mounted when unset
#   IMAGES   where loop images may lie
#
# A suite is a list of checks and ends with `done_testing`. A suite that stops
# before that prints no plan and exits 1.

set -u
export LC_ALL=C
umask 022

FSTYPE=${FSTYPE:-overlay}
SUITES=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
COUNT=0 FAILED=0 FINISHED=0 MADE_SCRATCH=0 ON=''

if [ -z "${SCRATCH:-}" ]; then
	SCRATCH=$(mktemp -d)
	mount -t tmpfs -o mode=755 scratch "$SCRATCH" || exit 1
	MADE_SCRATCH=1
fi
IMAGES=${IMAGES:-$SCRATCH}
SEEN=$SCRATCH/.seen
BASE=$SCRATCH/base
mkdir -p "$BASE"
cd "$BASE" || exit 1

has_fs() { grep -qw "$1" /proc/filesystems; }

case $FSTYPE in rovl) OTHER=overlay ;; *) OTHER=rovl ;; esac
if ! has_fs "$FSTYPE"; then
	echo "Bail out! the kernel has no filesystem type '$FSTYPE'"
	exit 1
fi
has_fs "$OTHER" || OTHER=

echo "KTAP version 1"

# umount_below DIR: DIR and everything mounted in it, the newest first.
umount_below() {
	local d
	cd / || return
	while read -r _ d _; do
		case $d/ in "$1"/*) printf '%b\n' "$d" ;; esac
	done </proc/mounts | tac >"$SEEN"
	while IFS= read -r d; do umount "$d" 2>/dev/null || umount -l "$d"; done <"$SEEN"
}

on_exit() {
	local rc=$?
	umount_below "$BASE"
	umount_below "$SCRATCH/base"
	[ "$FINISHED" = 1 ] || echo "# the suite stopped early (status $rc)"
	if [ "$MADE_SCRATCH" = 1 ]; then
		umount "$SCRATCH" || umount -l "$SCRATCH"
		rmdir "$SCRATCH"
	fi
	if [ "$FINISHED" = 1 ] && [ "$FAILED" = 0 ] && [ "$COUNT" != 0 ]; then exit 0; else exit 1; fi
}
trap on_exit EXIT

done_testing() {
	FINISHED=1
	echo "1..$COUNT"
	exit
}

# ---- results ---------------------------------------------------------------

ok() { echo "ok $((++COUNT)) $1$ON"; }

not_ok() { # NAME DIAGNOSTIC...
	local line
	FAILED=$((FAILED + 1))
	echo "not ok $((++COUNT)) $1$ON"
	shift
	printf '%s\n' "$@" | while IFS= read -r line; do printf '#   %s\n' "$line"; done
}

skip() { echo "ok $((++COUNT)) $1$ON # SKIP $2"; } # NAME REASON

# The command succeeds.
check() { # NAME COMMAND...
	local name=$1 rc
	shift
	if "$@" >"$SEEN" 2>&1; then
		ok "$name"
	else
		rc=$?
		not_ok "$name" "expected success: ${*@Q}" "seen status $rc:" "$(cat "$SEEN")"
	fi
}

# Two values are the same.
is() { # NAME EXPECTED SEEN
	if [ "$2" = "$3" ]; then
		ok "$1"
	elif [[ $2 == *$'\n'* ]]; then
		not_ok "$1" "expected (-) and seen (+):" "$(diff -U0 <(echo "$2") <(echo "$3") | tail -n +4)"
	else
		not_ok "$1" "expected: ${2@Q}" "seen:     ${3@Q}"
	fi
}

# The command prints exactly this.
prints() { # NAME EXPECTED COMMAND...
	local name=$1 want=$2
	shift 2
	is "$name" "$want" "$("$@" 2>&1)"
}

declare -A STRERROR=(
	[EPERM]='Operation not permitted' [ENOENT]='No such file or directory'
	[EAGAIN]='Resource temporarily unavailable' [EINTR]='Interrupted system call' [EIO]='Input/output error' [ENOTCONN]='Transport endpoint is not connected'
	[EACCES]='Permission denied' [EBUSY]='Device or resource busy'
	[EEXIST]='File exists' [EXDEV]='Invalid cross-device link'
	[ENODEV]='No such device' [ENOTDIR]='Not a directory'
	[EISDIR]='Is a directory' [EINVAL]='Invalid argument'
	[ETXTBSY]='Text file busy' [ENOSPC]='No space left on device'
	[EROFS]='Read-only file system' [EMLINK]='Too many links'
	[ERANGE]='Numerical result out of range' [ENAMETOOLONG]='File name too long'
	[ENOTEMPTY]='Directory not empty' [ELOOP]='Too many levels of symbolic links'
	[ENODATA]='No such attribute' [EOVERFLOW]='Value too large for defined data type'
	[EOPNOTSUPP]='Operation not supported' [ESTALE]='Stale file handle'
	[EDQUOT]='Disk quota exceeded' [EREMOTE]='Object is remote'
)

# The command fails, and its message is that errno's.
fails() { # NAME ERRNO COMMAND...
	local name=$1 want=$2 text=${STRERROR[$2]} out
	shift 2
	if out=$("$@" 2>&1); then
		not_ok "$name" "expected $want: ${*@Q}" "seen: success"
	elif [[ $out == *"$text"* ]]; then
		ok "$name"
	else
		not_ok "$name" "expected $want ($text): ${*@Q}" "seen: $out"
	fi
}

# ---- small words -----------------------------------------------------------

put() { printf '%s\n' "$2" >"$1"; }     # FILE TEXT: open(O_TRUNC) and write
add() { printf '%s\n' "$2" >>"$1"; }    # FILE TEXT: open(O_APPEND) and write
poke() { printf '%s' "$2" 1<>"$1"; }    # FILE TEXT: open(O_RDWR), write at 0
absent() { [ ! -e "$1" ] && [ ! -L "$1" ]; }
present() { [ -e "$1" ] || [ -L "$1" ]; }
names() { ls -A "$1"; }                 # what readdir says, one line a name
listing() { names "$1" | tr '\n' ' '; } # the same on one line
is_whiteout() { [ "$(stat -c '%F %t:%T' "$1")" = 'character special file 0:0' ]; }
whiteout() { mknod "$1" c 0 0; }
xattr() { getfattr -h --only-values -n "$2" "$1"; }   # FILE NAME
hex() { od -An -v -tx1 | tr -d ' \n'; }              # what it reads, in digits
xattr_hex() { xattr "$@" 2>&1 | hex; }                # FILE NAME
xattrs() { getfattr -h -m - "$1" 2>/dev/null | grep -v '^#' | grep . | tr '\n' ' '; }
opaque() { setfattr -n trusted.overlay.opaque -v y "$1"; }
is_opaque() { [ "$(xattr "$1" trusted.overlay.opaque 2>/dev/null)" = y ]; }
redirect() { setfattr -n trusted.overlay.redirect -v "$2" "$1"; } # FILE WHERE
has_mark() { getfattr -h -n trusted.overlay.metacopy "$1" >"$SEEN" 2>&1; }
lacks_mark() { present "$1" && ! has_mark "$1"; }
# A file of that size without data; VALUE of the mark in hexadecimal digits.
bare() { # FILE SIZE [VALUE]
	truncate -s "$2" "$1"
	setfattr -n trusted.overlay.metacopy ${3:+-v "0x$3"} "$1"
}
content() { head -c 200000 /dev/zero | tr '\0' "$1"; } # BYTE
as() { setpriv --reuid "$1" --regid "$1" --clear-groups --inh-caps=-all -- "${@:2}"; }
# What the suite's `task LABEL` does, without any right to pass rules.
user() { task "$1" setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all -- "${@:2}"; } # LABEL COMMAND...
sys() { perl "$SUITES/sys.pl" "$@"; }
# Makes the mount at mnt forget its dentries and inodes: any remount does.
forget() { sys reconfigure mnt; }

# ---- layers and mounts -----------------------------------------------------

# The options of the mount at mnt whose names the suite has in SHOWN, a regular expression: as /proc/mounts shows them, with a
# space behind each.
shown() { grep ' [^ ]*/mnt ' /proc/mounts | grep -oE "($SHOWN)=[^, ]*" | tr '\n' ' '; }

# layers [N]: a new folder with lower1..lowerN (topmost first), upper, work and
# mnt, and the shell in it. The tests use relative paths from then on.
NEW=0
layers() {
	local i lower=()
	D=$BASE/t$((++NEW))
	for ((i = 1; i <= ${1:-1}; i++)); do lower+=("lower$i"); done
	mkdir "$D" && cd "$D" && mkdir "${lower[@]}" upper work mnt || exit 1
	LOWER=$(IFS=:; echo "${lower[*]}")
	LAYERS=lowerdir=$LOWER,upperdir=upper,workdir=work
}

# data_layers N: after layers, data-only ones below those, data1..dataN.
data_layers() {
	local i
	for ((i = 1; i <= $1; i++)); do
		mkdir "data$i" || exit 1
		LOWER+=::data$i
	done
	LAYERS=lowerdir=$LOWER,upperdir=upper,workdir=work
}

# each_kind: of each kind of object one in lower1, for the suites that label them.
# shellcheck disable=SC2034 # the suites'
KINDS='file dir link fifo twice deep/er/file'
each_kind() {
	mkdir -p lower1/dir lower1/deep/er
	put lower1/file lower
	ln -s file lower1/link
	mkfifo lower1/fifo
	put lower1/twice two
	ln lower1/twice lower1/other
	put lower1/deep/er/file below
}

# mnt [OPTION]...: the layers mounted at mnt; a failure ends the suite, since
# every following check would be about something else.
mnt() {
	local o=$LAYERS
	[ $# -eq 0 ] || o+=,$(IFS=,; echo "$*")
	mount -t "$FSTYPE" -o "$o" "$FSTYPE" mnt 2>"$SEEN" && return
	not_ok "mount $o" "expected: a mount" "seen: $(cat "$SEEN")"
	exit 1
}

# mnt_ro: the lower layers alone.
mnt_ro() { LAYERS=lowerdir=$LOWER mnt; }

umnt() { umount mnt || not_ok "unmount" "expected: umount succeeds"; }

# leftovers: what work holds beside the whiteout that others are linked from.
leftovers() { find work/work -mindepth 1 ! -type c; }

# again: unmounted and mounted with no further options, so that nothing is answered from memory.
again() { umnt; mnt; }

# ---- filesystems for layers ------------------------------------------------

# make_fs TYPE DIR [SIZE [MKFS-OPTION]...]: a new filesystem of that type, mounted at
# DIR. Where the kernel or the mkfs lacks it, it fails with the reason in WHY.
make_fs() {
	local type=$1 dir=$2 size=${3:-} image=$IMAGES/$1.$((++NEW)).img mkfs
	mkdir -p "$dir"
	case $type in
	tmpfs)
		mount -t tmpfs -o "mode=755${size:+,size=$size}" tmpfs "$dir"
		return
		;;
	ext4) mkfs='mkfs.ext4 -q -F' size=${size:-64M} ;;
	xfs) mkfs='mkfs.xfs -q -f' size=${size:-320M} ;;
	btrfs) mkfs='mkfs.btrfs -q -f' size=${size:-128M} ;;
	*) WHY="make_fs does not know $type" && return 1 ;;
	esac
	WHY="the kernel has no $type"
	has_fs "$type" || return
	WHY="there is no ${mkfs%% *}"
	command -v "${mkfs%% *}" >/dev/null || return
	truncate -s "$size" "$image"
	# shellcheck disable=SC2086
	if ! { $mkfs "${@:4}" "$image" && mount -o loop "$image" "$dir"; } >"$SEEN" 2>&1; then
		not_ok "a new $type" "$(cat "$SEEN")"
		exit 1
	fi
	rm "$image" # the loop device keeps it alive
	chmod 755 "$dir"
}

# on_each_upper FUNCTION: once for every type in UPPERFS, with new layers() on
# a filesystem of that type, of UPPER_SIZE where that is set.
on_each_upper() {
	local type
	for type in ${UPPERFS:-tmpfs ext4 xfs btrfs}; do
		ON=" [$type]"
		BASE=$SCRATCH/on-$type
		if make_fs "$type" "$BASE" "${UPPER_SIZE:-}"; then
			"$@" "$type"
			cd /
			umount_below "$BASE"
		else
			skip "$1" "$WHY"
		fi
	done
	ON='' BASE=$SCRATCH/base
}
