#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Mounts made in a user namespace by an ordinary user: what works, and that
# nothing privileged comes of it. The numbers are those of the CVEs.
. "${0%/*}/lib.sh"

# in_ns SCRIPT: as uid 1000, root of a new user namespace with its own mounts.
in_ns() { as 1000 unshare -Urm bash -c "$1"; }
if ! as 1000 unshare -Urm true 2>"$SEEN"; then
	skip 'mounts in a user namespace' "no user namespaces: $(<"$SEEN")"
	done_testing
fi
MOUNT="mount -t $FSTYPE -o lowerdir=lower1,upperdir=upper,workdir=work x mnt"

# ---- an upper that belongs to the user
layers
put lower1/root-owned r
chmod 666 lower1/root-owned
put lower1/mine m
chown 1000:1000 lower1/mine
mkdir lower1/dir lower1/priv lower1/mydir lower1/gonedir
chown 1000:1000 lower1/mydir lower1 lower1/gonedir
put lower1/mydir/f f
chown 1000:1000 lower1/mydir/f
put lower1/priv/f secret
chmod 700 lower1/priv
put lower1/priv-file secret
chmod 600 lower1/priv-file
cp /bin/id lower1/suid
chmod 4755 lower1/suid
chown 1000:1000 upper work

check 'an ordinary user mounts' in_ns "$MOUNT"
prints 'and reads' r in_ns "$MOUNT && cat mnt/root-owned"
check 'creates' in_ns "$MOUNT && echo x >mnt/new && mkdir mnt/newdir && ln -s x mnt/newlink"
is 'new objects belong to the user (2015-1328)' '1000 1000 1000' "$(cd upper && stat -c %u new newdir newlink | xargs)"
check 'copies up what it owns' in_ns "$MOUNT && echo x >>mnt/mine"
is 'the copy belongs to the user' '1000 m x' "$(stat -c %u upper/mine) $(xargs <upper/mine)"
fails 'a lower file of an unmapped owner is not copied up (2023-0386)' EOVERFLOW in_ns "$MOUNT && echo x >>mnt/root-owned"
fails 'nor by chmod: the caller does not own it' EPERM in_ns "$MOUNT && chmod 777 mnt/root-owned"
fails 'nor is a set-uid program of root' EPERM in_ns "$MOUNT && chmod 4777 mnt/suid"
fails 'nor by a link' EOVERFLOW in_ns "$MOUNT && ln mnt/root-owned mnt/link"
fails 'nor by a rename' EOVERFLOW in_ns "$MOUNT && perl $SUITES/sys.pl rename 0 mnt/root-owned mnt/moved"
fails 'a new name in a lower directory of root' EACCES in_ns "$MOUNT && touch mnt/dir/new"
is 'nothing was copied (2016-1576)' 'mine new newdir newlink ' "$(listing upper)"
fails 'a private file of root' EACCES in_ns "$MOUNT && cat mnt/priv-file"
fails 'a private directory of root (2020-16120)' EACCES in_ns "$MOUNT && ls mnt/priv"
fails 'what is in it' EACCES in_ns "$MOUNT && cat mnt/priv/f"
prints 'a set-uid program of root gives nothing' 0 in_ns "$MOUNT && mnt/suid -u"
fails 'device nodes' EPERM in_ns "$MOUNT && mknod mnt/null c 1 3"
fails 'chown to an unmapped user' EINVAL in_ns "$MOUNT && chown 5 mnt/mine"
check 'unlink of what it owns' in_ns "$MOUNT && rm -f mnt/mine mnt/new"
check 'leaves a whiteout' is_whiteout upper/mine
fails 'which hides in the next mount' ENOENT in_ns "$MOUNT && cat mnt/mine"
check 'a new file over it' in_ns "$MOUNT && echo again >mnt/mine"
is 'upper then' again "$(cat upper/mine)"

# trusted.* cannot be set there, so directories cannot be made opaque.
echo 'userns: mount' >/dev/kmsg
in_ns "$MOUNT"
is 'the log names what would help' 1 "$(dmesg | sed '1,/userns: mount$/d' | grep -c "'userxattr'")"
check 'rmdir of a lower directory' in_ns "$MOUNT && rmdir mnt/gonedir"
fails 'a directory over a whiteout' EIO in_ns "$MOUNT && mkdir mnt/gonedir"
check 'the whiteout stays' is_whiteout upper/gonedir
check 'a copy-up without an origin' in_ns "$MOUNT && echo x >>mnt/mydir/f"
is 'leaves no xattrs' '' "$(xattrs upper/mydir)$(xattrs upper/mydir/f)"
is 'work belongs to the user' 1000 "$(stat -c %u work/work)"

# File capabilities are those of the namespace (2021-3493, 2023-2640, 2023-32629).
put upper/cap x
cp /bin/id upper/cap
chown 1000:1000 upper/cap
check 'setcap' in_ns "$MOUNT && setcap cap_sys_admin+ep mnt/cap"
is 'is worth nothing outside' '[rootid=1000]' "$(getcap -n upper/cap | grep -o '\[.*\]')"
check 'a copy-up of a file with a capability' in_ns "$MOUNT && cp /bin/id mnt/cap2 && setcap cap_sys_admin+ep mnt/cap2 && chmod 700 mnt/cap2"
is 'also there' '[rootid=1000]' "$(getcap -n upper/cap2 | grep -o '\[.*\]')"

# ---- layers that do not belong to the user
rm -rf upper work
mkdir upper work
fails 'an upper and a work of root: mounted read-only' EROFS in_ns "$MOUNT && echo x >mnt/new"
is 'holds nothing' '' "$(listing upper)$(listing work)"
fails 'a mount in the namespace of another' EPERM as 1000 perl "$SUITES/sys.pl" oldmount "$FSTYPE" mnt 0 lowerdir=lower1:upper

# A mount that root made over a folder of the layer is not lifted off (2021-3732).
mkdir lower1/dir/covered upper2 work2
chown 1000:1000 upper2 work2
put lower1/dir/covered/secret s
mount -t tmpfs cover lower1/dir/covered
fails 'a layer that holds a locked mount (2021-3732)' EINVAL in_ns "perl $SUITES/sys.pl mount $FSTYPE mnt lowerdir=lower1 upperdir=upper2 workdir=work2"
umount lower1/dir/covered
mkdir unb
mount -t tmpfs unb unb
mount --make-unbindable unb
fails 'an unbindable layer' EINVAL sys mount "$FSTYPE" mnt lowerdir=unb upperdir=upper2 workdir=work2
umount unb

# A context opened in another user namespace cannot be used to mount: the layers are ours, the context is theirs.
fails 'a context of another user namespace' EINVAL perl -e '
	my ($type, $layers) = @ARGV;
	my ($key, $null) = ("lowerdir", 0);
	pipe my $r, my $w; pipe my $r2, my $w2;
	my $pid = fork // die;
	if (!$pid) {
		syscall(272, 0x10020000) == 0 or die "unshare: $!\n";
		my $fd = syscall(430, $type, 0);
		die "fsopen: $!\n" if $fd < 0;
		syswrite $w, "$fd\n"; close $w;
		close $w2; sysread $r2, my $x, 1;
		exit;
	}
	close $w; close $r2;
	my $theirs = <$r> // die "the child failed\n";
	my $pidfd = syscall(434, $pid, 0);
	my $fd = syscall(438, $pidfd, 0 + $theirs, 0);
	die "pidfd_getfd: $!\n" if $fd < 0;
	my $set = syscall(431, $fd, 1, $key, $layers, 0) == 0;
	my $err = "lowerdir: $!";
	my $ok = $set && syscall(431, $fd, 6, $null, $null, 0) == 0;
	$err = "$!" if $set;
	close $w2; wait;
	print "$err\n" unless $ok;
	exit !$ok;
' "$FSTYPE" lower1:upper2

done_testing
