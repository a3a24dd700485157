#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# fsync= and volatile: what is shown, what is written back and when, the mark that refuses the next
# mount of either type, writeback errors.
. "${0%/*}/lib.sh"

# The fsync= in the options of the superblock at mnt.
shown() { grep " $D/mnt " /proc/self/mountinfo | grep -o 'fsync=[a-z]*'; }
fresh() { rm -rf upper work && mkdir upper work; }
MARK=work/work/incompat/volatile/dirty
MINE=$FSTYPE

# ---- what is shown, and a remount
layers 2
put lower1/f lower
for o in fsync=auto fsync=strict fsync=volatile volatile fsync=strict,volatile volatile,fsync=auto; do
	case $o in *auto) want='' ;; *strict) want=fsync=strict ;; *) want=fsync=volatile ;; esac
	fresh
	mnt "$o"
	is "$o: is shown" "$want" "$(shown)"
	is "$o: the mark" "${want%fsync=strict}" "$([ ! -e $MARK ] || echo fsync=volatile)"
	put mnt/f upper
	prints "$o: written" upper cat upper/f
	umnt
done
fresh
refused() { fails "refused: $1" EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1 upperdir=upper workdir=work "$1"; }
for o in fsync fsync= fsync=never fsync=Auto volatile=on volatile=; do refused "$o"; done
is 'which leaves no mark' '' "$(find work -name volatile)"
mnt volatile
check 'remount,ro' sys reconfigure mnt ro
is 'remount,ro: is shown' fsync=volatile "$(shown)"
check 'remount,rw' sys reconfigure mnt rw
fails 'a remount with fsync=strict' EINVAL sys reconfigure mnt fsync=strict
fails 'a remount with fsync=auto' EINVAL sys reconfigure mnt fsync=auto
check 'mount(2) ignores it' sys oldmount "$FSTYPE" mnt 32 fsync=auto
is 'which changes nothing' fsync=volatile "$(shown)"
if [ "$FSTYPE" = rovl ]; then
	check 'a remount that says it again' sys reconfigure mnt volatile
	check 'in either way' sys reconfigure mnt fsync=volatile
fi
umnt
fresh
mnt
fails 'a remount with volatile' EINVAL sys reconfigure mnt volatile
umnt
LAYERS=lowerdir=$LOWER mnt volatile
is 'without upper: ignored' '' "$(shown)"
umnt
LAYERS=lowerdir=$LOWER mnt fsync=strict
is 'without upper: strict is shown' fsync=strict "$(shown)"
umnt

# ---- the mark
each_way() { # FIRST SECOND: types
	local first=$1 second=$2 o
	layers
	put lower1/f lower
	FSTYPE=$first mnt volatile
	is "$first: the mark's folders" d:0:d:0:-:0 "$(stat -c '%A %a' work/work/incompat work/work/incompat/volatile $MARK |
		sed 's/^\(.\)[^ ]* /\1:/' | paste -sd:)"
	add mnt/f upper
	umnt
	for o in '' ,volatile ,fsync=strict; do
		fails "$first, volatile, then $second${o:+ with ${o#,}}: refused" EINVAL sys oldmount "$second" mnt 0 "$LAYERS$o"
	done
	check "$first: the mark is still there" test -f $MARK
	prints "$first: and what was written" $'lower\nupper' cat upper/f
	rm -r work/work/incompat/volatile
	FSTYPE=$second mnt
	prints "$first, then $second: without the mark" $'lower\nupper' cat mnt/f
	umnt
	check "$second: it makes none" absent work/work/incompat
	FSTYPE=$second mnt fsync=strict
	umnt
	FSTYPE=$first mnt fsync=auto
	prints "$first: after strict" $'lower\nupper' cat mnt/f
	umnt
}
each_way "$MINE" "$MINE"
if [ -n "$OTHER" ]; then
	each_way "$MINE" "$OTHER"
	each_way "$OTHER" "$MINE"
fi

layers
put work/file x
rm work/file
mkdir -p work/work/incompat
mnt volatile
check 'an empty incompat' test -f $MARK
umnt
layers
mkdir -p work/work
put work/work/incompat x
mnt volatile
check 'a file in the place of incompat is replaced' test -f $MARK
umnt
layers
mkdir -p work/work/incompat
put work/work/incompat/volatile x
fails 'a file in the place of the mark is one' EINVAL sys oldmount "$FSTYPE" mnt 0 "$LAYERS,volatile"
if [ "$FSTYPE" = rovl ]; then
	out=$(sys mount rovl mnt lowerdir=lower1 upperdir=upper workdir=work 2>&1)
	check 'the refusal says how to go on' grep -q "incompat feature 'volatile'.*fresh upper.*remove work/incompat/volatile" <<<"$out"
	rm -r work/work
	fails 'a mount that is refused for its layers' ELOOP sys mount rovl mnt lowerdir=upper upperdir=upper workdir=work volatile
	check 'leaves no mark' absent $MARK
fi

# When the folder of work is listed, a listener puts a file where the mark's folder is to be.
layers
perl - "$D/work" <<'PERL' &
my ($dir) = @ARGV;
my $fan = syscall 300, 4, 0;
$fan >= 0 or die "fanotify_init: $!\n";
syscall(301, $fan, 1, 0x40010000, -100, $dir) == 0 or die "fanotify_mark: $!\n";
open my $ready, '>', "$dir/ready" or die;
close $ready;
open my $events, '+<&=', $fan or die;
while (sysread $events, my $event, 24) {
	my $fd = (unpack 'LCCSQll', $event)[5];
	if (-d "$dir/work" && ! -e "$dir/work/incompat") {
		open my $f, '>', "$dir/work/incompat" or die;
		close $f;
	}
	syswrite $events, pack 'lL', $fd, 1;
	syscall 3, $fd;
}
PERL
listener=$!
for ((i = 0; i < 100; i++)); do [ -e work/ready ] && break; sleep 0.1; done
if [ -e work/ready ]; then
	fails 'a file comes where the mark leads' ENOTDIR sys oldmount "$FSTYPE" mnt 0 "$LAYERS,volatile"
	umount mnt 2>/dev/null
	check 'it was there' test -f work/work/incompat
else
	skip 'a file comes where the mark leads' 'no fanotify permission events'
fi
kill $listener
wait $listener 2>/dev/null

# ---- what is written back
# Of ext4 on a device that counts, with nothing that writes by itself.
quiet=$(cat /proc/sys/vm/dirty_writeback_centisecs)
counting() { # DIR
	make_fs ext4 "$1" && mount -o remount,commit=3000,noatime "$1" || return
	STAT=/sys/block/$(basename "$(findmnt -no SOURCE "$1")")/stat
	echo 0 >/proc/sys/vm/dirty_writeback_centisecs
}
flushes() { awk '{ print $16 }' "$STAT"; }
# quietly NAME COMMAND...: the command succeeds, and the device has flushed nothing.
quietly() {
	local name=$1 before
	shift
	before=$(flushes)
	check "$name" "$@"
	is "$name: no flush" "$before" "$(flushes)"
}
# flushing NAME COMMAND...: it has.
flushing() {
	local name=$1 before
	shift
	before=$(flushes)
	check "$name" "$@"
	check "$name: flushed" test "$before" -lt "$(flushes)"
}
write() { dd if=/dev/zero of="$1" bs=4k count=1 "${@:2}" 2>"$SEEN"; } # FILE OPERAND...
rwf() { xfs_io -c "pwrite -V 1 $1 0 4096" "$2" >"$SEEN" 2>&1; }       # -D or nothing, FILE

if counting fs; then
	mkdir fs/{upper,work}
	LAYERS=lowerdir=lower1,upperdir=fs/upper,workdir=fs/work
	mkdir -p lower1/{dir,other}
	for f in a b c d e; do head -c 50000 /dev/urandom >lower1/$f; done
	: >lower1/empty
	ln -s a lower1/link

	mnt
	put mnt/new x
	sync -f fs
	flushing 'auto: copy-up of a file' touch mnt/a
	sync -f fs
	quietly 'auto: copy-up of an empty file' touch mnt/empty
	quietly 'auto: copy-up of a folder' touch mnt/dir
	put mnt/new y
	flushing 'auto: fsync' sync mnt/new
	put mnt/new z
	flushing 'auto: fdatasync' sync -d mnt/new
	put mnt/new2 z
	flushing 'auto: fsync of a folder' sync mnt
	put mnt/new3 z
	flushing 'auto: syncfs' sync -f mnt
	flushing 'auto: O_SYNC' write mnt/new oflag=sync conv=notrunc
	put mnt/new4 z
	flushing 'auto: remount,ro' sys reconfigure mnt ro
	umnt

	rm -rf fs/upper fs/work && mkdir fs/{upper,work}
	mnt fsync=strict
	sync -f fs
	flushing 'strict: copy-up of a file' touch mnt/a
	flushing 'strict: copy-up of an empty file' touch mnt/empty
	flushing 'strict: copy-up of a folder' touch mnt/dir
	quietly 'strict: copy-up of a symlink' touch -h mnt/link
	umnt

	rm -rf fs/upper fs/work && mkdir fs/{upper,work}
	mnt volatile
	sync -f fs
	quietly 'volatile: copy-up of a file' touch mnt/a
	quietly 'volatile: copy-up by a write' add mnt/b x
	quietly 'volatile: copy-up of a folder' touch mnt/dir
	put mnt/new x
	quietly 'volatile: fsync' sync mnt/new
	quietly 'volatile: fdatasync' sync -d mnt/new
	quietly 'volatile: fsync of a copy' sync mnt/a
	quietly 'volatile: fsync of a lower file' sync mnt/c
	quietly 'volatile: fsync of a folder' sync mnt/dir
	quietly 'volatile: fsync of the root' sync mnt
	quietly 'volatile: syncfs' sync -f mnt
	if [ "$FSTYPE" = rovl ]; then
		# overlayfs opens the file of upper with O_SYNC.
		quietly 'volatile: O_SYNC' write mnt/new oflag=sync conv=notrunc
		quietly 'volatile: O_DSYNC' write mnt/new oflag=dsync conv=notrunc
		quietly 'volatile: O_SYNC, a lower file' write mnt/d oflag=sync conv=notrunc
		quietly 'volatile: O_SYNC, a new file' write mnt/made oflag=sync
	fi
	quietly 'volatile: RWF_DSYNC' rwf -D mnt/new
	quietly 'volatile: remount,ro' sys reconfigure mnt ro
	quietly 'volatile: remount,rw' sys reconfigure mnt rw
	put mnt/last x
	quietly 'volatile: umount' umount mnt
	prints 'volatile: it is all there' x cat fs/upper/last
	umount fs
else
	skip 'what is written back' "$WHY"
fi
echo "$quiet" >/proc/sys/vm/dirty_writeback_centisecs

# ---- writeback errors
# A device whose writes can be made to fail, with ext4 that does not give up then.
export DM_DISABLE_UDEV=1
device() { dmsetup suspend --nolockfs vol && dmsetup load vol --table "0 $SECTORS $1" && dmsetup resume vol; }
works() { device "linear $LOOP 0"; }
breaks() { device "flakey $LOOP 0 0 3600 1 error_writes"; }
layers
put lower1/f lower
truncate -s 64M "$IMAGES/vol.img"
mkfs.ext4 -q -F -O ^has_journal "$IMAGES/vol.img"
LOOP=$(losetup -f --show "$IMAGES/vol.img")
rm "$IMAGES/vol.img"
SECTORS=$(blockdev --getsz "$LOOP")
mkdir fs
if dmsetup create vol --table "0 $SECTORS linear $LOOP 0" >"$SEEN" 2>&1 && mount /dev/mapper/vol fs; then
	mkdir fs/{upper,work}
	LAYERS=lowerdir=lower1,upperdir=fs/upper,workdir=fs/work
	mnt volatile
	put mnt/new x
	check 'no error yet: fsync' sync mnt/new
	check 'no error yet: syncfs' sync -f mnt
	breaks
	put mnt/new y
	fails 'upper fails' EIO sync -f fs
	works
	sync -f fs 2>"$SEEN"
	check 'and works again' sync -f fs
	for i in 1 2; do
		fails "fsync, $i" EIO sync mnt/new
		fails "fdatasync, $i" EIO sync -d mnt/new
		fails "fsync of a lower file, $i" EIO sync mnt/f
		fails "fsync of a folder, $i" EIO sync mnt
		fails "syncfs, $i" EIO sync -f mnt
	done
	check 'reading and writing go on' put mnt/new z
	prints 'with the data' z cat mnt/new
	check 'a copy-up, too' add mnt/f more
	check 'remount,ro' sys reconfigure mnt ro
	check 'umount' umount mnt

	rm -rf fs/upper fs/work
	mkdir fs/{upper,work}
	mnt volatile
	check 'a mount after it knows nothing of the error' sync -f mnt
	umnt
	rm -rf fs/upper fs/work
	mkdir fs/{upper,work}
	put fs/other x
	sync -f fs
	breaks
	put fs/other y
	sync
	works
	fails 'an error that nobody was told of: no volatile mount' EIO sys oldmount "$FSTYPE" mnt 0 "$LAYERS,volatile"
	mnt
	check 'another mount is made' mountpoint -q mnt
	umnt
	sync -f fs 2>/dev/null
	mnt volatile
	check 'and a volatile one once somebody was told' sync -f mnt
	umnt
	umount fs
	dmsetup remove vol
else
	skip 'writeback errors' 'there is no device mapper'
fi
losetup -d "$LOOP"

done_testing
