# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # out, the folder of the results, is the caller's
# Sourced by what boots systems in QEMU and looks at them, live/test and scripts/deb-test: each function boots_NAME of
# theirs is a suite. What runs in a guest lies on the disk $out/test.img (see tests/live/run).

state=$out/state.json

# ---- results: KTAP, a boot is a suite -----------------------------------------------

result() { # NAME STATUS TEXT
	count=$((count + 1))
	if [ "$2" = 0 ]; then echo "ok $count $1"; return; fi
	failed=1
	echo "not ok $count $1"
	[ -z "${3-}" ] || printf '%s\n' "$3" | sed 's/^/#   /'
}

check() { # NAME COMMAND...
	local name=$1 said rc=0
	shift
	said=$("$@" 2>&1) || rc=$?
	result "$name" $rc "$said"
}

# boot GUEST-SCRIPT ARGS...: one run of QEMU with the test disk; the guest's own results are nested in ours.
boot() {
	local script=$1 rc=0 log
	shift
	dir=$out/$suite/$((++boots))
	mkdir -p "$dir"
	"$TOP/live/guest" --out "$dir" --disk "$out/test.img,readonly=on" ${script:+--run "$script"} "$@" >"$dir/guest.ktap" 2>"$dir/guest.err" || rc=$?
	sed '/^#STATUS/d; s/^/    /' "$dir/guest.ktap"
	log=$(cat "$dir/guest.err")
	if [ -n "$script" ] && ! grep -q '^1\.\.' "$dir/guest.ktap"; then
		rc=1 log="$script.sh did not come to its end; see $dir/console.log
$log"
	elif [ -n "$script" ] && ! grep -qx '#STATUS 0' "$dir/guest.ktap"; then
		rc=1
	fi
	result "boot $boots${script:+: $script}" $rc "$log"
	# The shutdown's part of the log, too.
	grep -aE "$(cat "$TOP/tests/trouble")" "$dir/console.log" | sed 's/^/#KERNEL /' || true
}

console() { check "the console says: $1" grep -aqE -- "$1" "$dir/console.log"; }
# shellcheck disable=SC2016 # the inner shell's
console_lacks() { check "the console does not say: $1" bash -c '! grep -aE -- "$1" "$2"' - "$1" "$dir/console.log"; }

# run_boots TEXT: those that PART chooses; the last line is the totals.
run_boots() {
	local name start=$SECONDS names=()
	for name in $(compgen -A function boots_); do
		name=${name#boots_}
		! chosen "$name" "${PART:-*}" || names+=("$name")
	done
	say "$1"
	suites "${names[@]}" | FSTYPE=rovl "$TOP/scripts/report" live "$state"
	say "done in $((SECONDS - start)) s; logs and junit.xml are in $out"
	"$TOP/scripts/report" close "$state" "$out/junit.xml"
}

suites() {
	local start
	echo "#PLAN $*"
	for suite; do
		count=0 boots=0 failed=0 start=$SECONDS
		mkdir -p "$out/$suite"
		echo "#SUITE $suite"
		"boots_$suite"
		echo "1..$count"
		echo "#END $suite $failed $((SECONDS - start))"
	done
	echo "#DONE"
}
