# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the parts of `make stress` start with. Beside suites/lib.sh:
#
#   DURATION  seconds for each thing that goes on until it is told to stop
#   SEED      for what is random
#   TASKS     how many at once
#   SHORT     1: less of everything

HERE=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
# shellcheck source=tests/suites/lib.sh
. "$HERE/../suites/lib.sh"

DURATION=${DURATION:-10} SEED=${SEED:-1} TASKS=${TASKS:-8} SHORT=${SHORT:-}
# shellcheck disable=SC2034 # for the parts
TOOLS=$HERE/../../build/tests
UPPERFS=${UPPERFS:-tmpfs ext4}

# on_each FUNCTION: as on_each_upper, with room for what a storm writes.
on_each() {
	UPPER_SIZE=768M on_each_upper "$@"
}

# The end of a part: the mount goes, nothing but the shared whiteout is left in work, the lower layer is
# as it was where its checksum was taken before.
checksum() { (cd "$1" && find . -type f -exec cksum {} + | sort); }
ends() { # [CHECKSUM of lower1]
	check 'unmount' umount mnt
	is 'nothing is left in work' '' "$(cd work/work && for f in *; do [ ! -e "$f" ] || is_whiteout "$f" || echo "$f"; done)"
	[ $# = 0 ] || is 'the lower layer is as it was' "$1" "$(checksum lower1)"
}

# reports NAME COMMAND...: the command succeeds; its last line is shown.
reports() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		ok "$name"
		echo "# $name$ON: ${out##*$'\n'}"
	else
		not_ok "$name" "status $? of: ${*@Q}" "$(tail -n 25 <<<"$out")"
	fi
}
