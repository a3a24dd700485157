#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# pjdfstest, what POSIX says of a filesystem: each of its tests has the same result on both types of union.
. "${0%/*}/../lib.sh"

CONFIG='[features]
posix_fallocate = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}
rename_ctime = {}
[settings]
naptime = 0.2
[dummy_auth]
entries = [["user1", "user1"], ["user2", "user2"]]'

# results TYPE: "NAME RESULT" of each test, sorted.
results() {
	(
		layers
		mount -t "$1" -o "$LAYERS" pjdfstest mnt || exit 1
		chmod 755 .
		"$TOOLS/pjdfstest" -c "$CONFIG_FILE" -p "$PWD/mnt" >said 2>err
		umount mnt || echo "umount failed"
		# A reason and a backtrace follow indented; colours may be in it.
		sed 's/\x1b\[[0-9;]*m//g' said | sed -nE 's/^([a-z_0-9:]+) +(ok|FAILED|skipped)$/\1 \2/p' | sort
	)
}

part() {
	local name ours theirs
	CONFIG_FILE=$BASE/pjdfstest.toml
	printf '%s\n' "$CONFIG" >"$CONFIG_FILE"
	chmod 755 "$BASE"
	results "$FSTYPE" >"$SCRATCH/ours"
	NEW=$((NEW + 1)) # the subshell's layers
	cp "$BASE"/t*/said "$SCRATCH/said"
	results "$OTHER" >"$SCRATCH/theirs"
	while read -r name ours theirs; do
		case $ours/$theirs in
		ok/ok) ok "$name" ;;
		FAILED/FAILED) skip "$name" "fails on $OTHER, too" ;;
		skipped/skipped) skip "$name" 'pjdfstest skips it on both' ;;
		*) not_ok "$name" "$FSTYPE: $ours, $OTHER: $theirs" "$(grep -A 3 "^[^a-z]*$name " "$SCRATCH/said" | tail -n +2)" ;;
		esac
	done < <(join -a 1 -a 2 -e missing -o 0,1.2,2.2 "$SCRATCH/ours" "$SCRATCH/theirs")
	check 'there were at least 300 tests' test "$(wc -l <"$SCRATCH/ours")" -ge 300
}

if [ -z "$OTHER" ]; then
	skip 'pjdfstest on both' "the kernel has $FSTYPE only"
	done_testing
fi
UPPERFS=${UPPERFS%% *} # The upper filesystem does not matter to what is compared.
on_each part
done_testing
