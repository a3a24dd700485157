#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Open files: descriptors across a copy-up, execution, truncation, allocation,
# positions, paths in /proc, locks and leases as the command line reaches them.
. "${0%/*}/lib.sh"

# ---- descriptors across a copy-up
layers
put lower1/f old
put lower1/seek 0123456789
put lower1/app start
put lower1/gone 'still here'
mnt
exec 5<mnt/f 6<mnt/f
add mnt/f new
prints 'opened read-only before the copy-up: reads the new data' 'old new' xargs <&5
add mnt/f newer
prints 'another one: also' 'old new newer' xargs <&6
exec 5<&- 6<&-
exec 5<mnt/seek
read -rN 3 head <&5
poke mnt/seek ABCDEFGHIJ
read -rN 3 tail <&5
is 'the position is kept' '012 DEF' "$head $tail"
is 'and shown in fdinfo' 'pos: 6' "$(grep pos: "/proc/$$/fdinfo/5" | xargs)"
exec 5<&-
exec 5>>mnt/app
exec 6<>mnt/app
printf 'one ' >&5
read -r line <&6
printf 'two ' >&5
printf 'three' >>mnt/app
is 'appending through two descriptors' 'start one two three' "$(xargs <mnt/app)"
is 'and a reader between them' start "$line"
exec 5>&- 6>&-
exec 5<mnt/gone
rm mnt/gone
put mnt/gone 'another file'
prints 'unlinked, a new file in its place: the old data' 'still here' cat <&5
exec 5<&-
exec 5>mnt/new
put mnt/new2 x
sys rename 0 mnt/new2 mnt/new
printf over >&5
is 'replaced while open' 'x 0' "$(cat mnt/new) $(stat -Lc %h /proc/$$/fd/5)"
exec 5>&-
umnt

# ---- truncation and allocation
allocation() { # TYPE
	layers
	head -c 100000 /dev/zero | tr '\0' x >lower1/f
	cp lower1/f lower1/g
	cp lower1/f lower1/h
	mnt
	truncate -s 10 mnt/f
	is 'truncate to 10' 'xxxxxxxxxx' "$(<mnt/f)"
	truncate -s 20 mnt/f
	is 'and to 20' '20 10' "$(stat -c %s mnt/f) $(tr -d '\0' <mnt/f | wc -c)"
	check 'fallocate' fallocate -l 200000 mnt/g
	is 'fallocate: size' 200000 "$(stat -c %s mnt/g)"
	check 'fallocate, keeping the size' fallocate -n -o 200000 -l 100000 mnt/g
	is 'fallocate: the size is kept' 200000 "$(stat -c %s mnt/g)"
	check 'punch a hole' fallocate -p -o 8192 -l 65536 mnt/h
	is 'punch: zeros' "$((100000 - 65536))" "$(tr -d '\0' <mnt/h | wc -c)"
	check 'punch: the lower file is as it was' bash -c "! grep -q $'x\\n' <(tr -d x <lower1/h)"
	is 'punch: the hole in upper' "$(stat -c %b upper/h)" "$(stat -c %b mnt/h)"
	truncate -s 3M mnt/sparse
	printf end >>mnt/sparse
	is 'a sparse file' "$(stat -c '%s %b' upper/sparse)" "$(stat -c '%s %b' mnt/sparse)"
	is 'cp --sparse by SEEK_HOLE' "$(cksum <mnt/sparse)" "$(cp --sparse=auto mnt/sparse mnt/sparse2 && cksum <mnt/sparse2)"
	check 'cp by copy_file_range' cmp lower1/g <(cp --reflink=auto mnt/g mnt/g2 && head -c 100000 mnt/g2)
	if [ "$1" = btrfs ] || [ "$1" = xfs ]; then
		check 'clone: upper to upper' cp --reflink=always mnt/g mnt/g3
		check 'clone: same' cmp mnt/g mnt/g3
	else
		fails 'clone: not supported' EOPNOTSUPP cp --reflink=always mnt/g mnt/g3
	fi
	check 'dd, direct' dd if=/dev/zero of=mnt/direct bs=4096 count=4 oflag=direct status=none
	check 'dd, synchronous' dd if=/dev/zero of=mnt/sync bs=4096 count=4 oflag=sync,dsync conv=fsync status=none
	check 'sync of a file' sync mnt/g
	check 'sync of a directory' sync mnt
	umnt
}
on_each_upper allocation

# ---- execution
layers
cp /bin/sleep lower1/sleep
printf '#!/bin/sh\necho script "$0"\n' >lower1/script
chmod 755 lower1/script
cp lower1/sleep upper/upsleep
mnt
prints 'a script' 'script mnt/script' mnt/script
chmod 711 mnt/script
prints 'a script, copied up' 'script mnt/script' mnt/script
check 'a lower program' mnt/sleep 0
chmod 644 mnt/upsleep
fails 'without x' EACCES mnt/upsleep 0
chmod 755 mnt/upsleep
mnt/upsleep 30 &
pid=$!
mnt/sleep 30 &
pid2=$!
sleep 0.2
fails 'writing to a running upper program' ETXTBSY add mnt/upsleep x
fails 'writing to a running lower program' ETXTBSY add mnt/sleep x
check 'chmod of it copies it up' chmod 755 mnt/sleep
is '/proc/PID/exe' "$D/mnt/upsleep $D/mnt/sleep" "$(readlink /proc/$pid/exe /proc/$pid2/exe | xargs)"
is '/proc/PID/maps: path in the mount' "$D/mnt/upsleep" "$(awk '$6 ~ /sleep$/ {print $6}' /proc/$pid/maps | sort -u)"
is '/proc/PID/maps: inode number' "$(stat -c %i mnt/upsleep)" "$(awk '$6 ~ /sleep$/ {print $5}' /proc/$pid/maps | sort -u)"
is '/proc/PID/maps after copy-up' "$D/mnt/sleep" "$(awk '$6 ~ /sleep$/ {print $6}' /proc/$pid2/maps | sort -u)"
rm mnt/upsleep
is '/proc/PID/exe: deleted' "$D/mnt/upsleep (deleted)" "$(readlink /proc/$pid/exe)"
kill $pid $pid2
wait $pid $pid2 2>/dev/null
check 'a program is free after its end' add mnt/sleep x
umnt

# ---- paths
layers
put lower1/f x
mkdir lower1/d
mnt
exec 5<mnt/f 6<mnt/d
is 'a descriptor shows the path in the mount' "$D/mnt/f $D/mnt/d" "$(readlink /proc/$$/fd/5 /proc/$$/fd/6 | xargs)"
chmod 600 mnt/f
is 'after copy-up too' "$D/mnt/f" "$(readlink /proc/$$/fd/5)"
mv mnt/f mnt/f2
is 'after a rename' "$D/mnt/f2" "$(readlink /proc/$$/fd/5)"
if command -v lsof >/dev/null; then
	is 'lsof' "$D/mnt/f2" "$(lsof -p $$ -a -d 5 -Fn 2>/dev/null | sed -n 's/^n//p')"
else
	skip lsof 'there is no lsof'
fi
exec 5<&- 6<&-

# ---- locks
put mnt/lock x
exec 5<>mnt/lock
flock -n 5
check 'flock: held' bash -c '! flock -n mnt/lock true'
flock -u 5
check 'flock: free' flock -n mnt/lock true
exec 5<&-
umnt

done_testing
