#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Loading and unloading the module: a hundred times without a leak, never while
# something is mounted.
. "${0%/*}/lib.sh"

case $FSTYPE in
rovl) MODULE=rovl KO=${ROVL_KO:-} ;;
*) MODULE=overlay KO=${MODDIR:-}/kernel/overlay.ko ;;
esac
if [ ! -f "$KO" ] || [ ! -d "/sys/module/$MODULE" ]; then
	skip 'load and unload' "$MODULE is not a module loaded from a file known here"
	done_testing
fi

free_kb() { awk '/^MemAvailable/ {print $2}' /proc/meminfo; }
use() { # a mount with every kind of object in it
	layers 2
	mkdir -p lower{1,2}/d
	put lower1/d/f x
	put lower2/d/g x
	mnt
	add mnt/d/f y
	rm mnt/d/g
	ls -lR mnt >"$SEEN"
	sys tmpfile mnt 600
	exec 5<mnt/d/f
}

use
is 'unload while mounted' 'in use' "$(rmmod $MODULE 2>&1 | grep -o 'in use')"
exec 5<&-
umnt
before=$(stat -c %i /sys/module/$MODULE)
check 'unload after umount' rmmod $MODULE
check 'the filesystem type is gone' bash -c "! grep -qw $FSTYPE /proc/filesystems"
fails 'and cannot be mounted' ENODEV sys oldmount "$FSTYPE" mnt 0 "$LAYERS"
check 'load' insmod "$KO"
check 'the filesystem type is back' has_fs "$FSTYPE"
check 'it is another instance' test "$before" != "$(stat -c %i /sys/module/$MODULE)"

# Some rounds first, so that what the kernel keeps for itself is there.
round() { use && exec 5<&- && umnt && rmmod $MODULE && insmod "$KO"; }
for ((i = 0; i < 3; i++)); do round; done
mem=$(free_kb)
check 'load and unload 100 times' bash -c "for i in {1..100}; do rmmod $MODULE && insmod '$KO' || exit; done"
for ((i = 0; i < 5; i++)); do round || break; done
is 'and 5 times with a mount' 5 "$i"
mem=$((mem - $(free_kb)))
if [ -n "${KASAN:-}" ]; then
	skip 'available memory went down by less than 8 MiB' 'KASAN keeps what was freed; the suite kmemleak sees what was not'
else
	check "available memory went down by less than 8 MiB ($mem KiB)" test $mem -lt 8192
fi

# Somebody opens a lower directory and waits for a program's permission, which holds what the mount has put on it.
layers 2
mkdir -p lower{1,2}/d
put lower1/d/f x
put lower2/d/g x
mnt
for i in 1 2 3; do ls mnt/d >"$SEEN"; done
check 'unmount and unload while a permission event waits' timeout 60 perl -e '
	my ($module, $path) = @ARGV;
	my ($mnt, $dir) = ("mnt", "lower1");
	my $fan = syscall(300, 4, 0);
	syscall(301, $fan, 0x11, 0x40010000, -100, $dir) == 0 or die "fanotify: $!\n";
	my $opener = fork // die;
	if (!$opener) { opendir my $d, $path or die "$path: $!\n"; exit }
	open my $events, "+<&=", $fan or die;
	sysread $events, my $event, 24 or die "no event: $!\n";
	my $fd = (unpack "LCCSQll", $event)[5];
	syscall(166, $mnt, 0) == 0 or die "umount: $!\n";
	my $rmmod = fork // die;
	if (!$rmmod) { exec "rmmod", $module }
	sleep 1;
	syswrite $events, pack("lL", $fd, 1) or die "answer: $!\n";
	close $events;
	for ($opener, $rmmod) { waitpid $_, 0; die "status $?\n" if $? }
' $MODULE lower1/d
check 'load after it' insmod "$KO"
# What destroying a cache or a superblock says when something is left in it.
check 'nothing left, says the kernel log' bash -c "! dmesg | grep -v kmemleak | grep -iE 'still has objects|leak|refcount|busy inodes' | grep ."
use
exec 5<&-
umnt
done_testing
