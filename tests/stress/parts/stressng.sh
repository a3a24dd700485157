#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# stress-ng's filesystem class, one stressor after the other, each verifying what it can. What fails is
# tried on the other type of union: where that fails as well it is no matter of ours.
. "${0%/*}/../lib.sh"

# Of the class; without those that measure a device, mount, or need a filesystem of their own.
STRESSORS=(dentry rename getdent link symlink unlink copy-file dirmany filerace access acl chattr chdir chmod chown
	dir dirdeep dup fallocate fanotify fcntl fd-fork fiemap file-ioctl filename flock fpunch fsize fstat fsync handle
	hdd inode-flags inotify io iomix lease locka lockf lockmix lockofd metamix mmap mmapfiles mmaprandom mknod msync
	open rdwr readahead seal seek sendfile splice statmount sync-file tee touch truncate utime verity xattr)
SECONDS_EACH=$((DURATION / 4 > 2 ? DURATION / 4 : 2))
COUNT_EACH=2
[ -z "$SHORT" ] || STRESSORS=(dentry rename getdent link unlink copy-file dirmany filerace)

# one STRESSOR: 0 passed, 1 failed, 2 skipped; what it said is in $SEEN
one() {
	mkdir mnt/stress
	stress-ng "--$1" $COUNT_EACH --timeout "$SECONDS_EACH" --verify --temp-path mnt/stress --seed "$SEED" >"$SEEN" 2>&1
	local rc=$?
	# A stressor that was killed leaves files.
	rm -rf mnt/stress
	case $rc in
	0) ! grep -q 'skipped: *[1-9]' "$SEEN" || return 2 ;;
	3 | 4) return 2 ;;
	*) ! grep -qiE 'unrecognized option|unknown option' "$SEEN" || return 2 ;;
	esac
	return $((rc != 0))
}
reason() { sed -n 's/^stress-ng: [a-z]*: *\[[0-9]*\] //p' "$SEEN" | grep -vE 'dispatching|setting to|metrics|stressor +bogo' | head -n 1; }

# on_other STRESSOR: the same on the other type.
on_other() {
	local rc
	NEW=$((NEW + 1)) # the subshell's layers, and those before
	(
		layers
		fill
		mount -t "$OTHER" -o "$LAYERS" other mnt && rmdir mnt/stress || exit 0
		one "$1"
		rc=$?
		umount mnt
		exit $rc
	)
}
fill() {
	mkdir lower1/stress lower1/other
	for i in {1..20}; do put "lower1/other/$i" "$i"; done
}

part() {
	local stressor said passed=0
	layers
	fill
	# The directory is merged, and one that was removed and made again.
	sums=$(checksum lower1)
	mnt
	rmdir mnt/stress
	for stressor in "${STRESSORS[@]}"; do
		one "$stressor"
		case $? in
		0) ok "$stressor" && passed=$((passed + 1)) ;;
		2) skip "$stressor" "$(reason)" ;;
		*)
			said=$(tail -n 12 "$SEEN")
			if [ -n "$OTHER" ] && ! on_other "$stressor"; then
				skip "$stressor" "fails on $OTHER as well: $(reason)"
			else
				not_ok "$stressor" "$said"
			fi
			;;
		esac
	done
	ends "$sums"
	check 'half of them or more can do their work here' test $((passed * 2)) -ge ${#STRESSORS[@]}
	echo "# $passed stressors$ON, $SECONDS_EACH s each"
}
on_each part
done_testing
