#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
#
# System calls that no command line tool makes as they are; x86_64. On failure:
# one line with the errno's text, the mount context's log below it, status 1.
#
#   sys.pl mount TYPE DIR OPTION...   fsopen, fsconfig, fsmount, move_mount
#       OPTION: key=value, key, ro; fd:key=path and opath:key=path pass an
#       open folder
#   sys.pl oldmount TYPE DIR FLAGS DATA   mount(2), nothing rewritten
#   sys.pl reconfigure DIR OPTION...  fspick, fsconfig
#   sys.pl umount DIR                umount2, no flags
#   sys.pl rename FLAGS OLD NEW       renameat2; FLAGS a number
#   sys.pl renames                    the same for each line "FLAGS|OLD|NEW" of
#       standard input; answers each with "ok" or the error
#   sys.pl tmpfile DIR MODE [NAME]    open(O_TMPFILE), write "tmpfile\n", link
#   sys.pl socket PATH                bind an AF_UNIX socket
#   sys.pl open FLAGS PATH            open with the named flags, e.g. WRONLY|TRUNC
#   sys.pl map PATH                   mmap for writing, shared; nothing is written
#   sys.pl lock PATH                  a POSIX lock of the whole file for writing, or none
use strict; # and nothing else: each module costs the guest a tenth of a second

sub OPEN() { 2 } sub MMAP() { 9 } sub LINKAT() { 265 } sub MOUNT() { 165 } sub UMOUNT2() { 166 }
sub RENAMEAT2() { 316 } sub MOVE_MOUNT() { 429 } sub FSOPEN() { 430 }
sub FSCONFIG() { 431 } sub FSMOUNT() { 432 } sub FSPICK() { 433 }

sub SET_FLAG() { 0 } sub SET_STRING() { 1 } sub SET_FD() { 5 }
sub CREATE() { 6 } sub RECONFIGURE() { 7 }

sub O_PATH() { 010000000 } sub O_TMPFILE() { 020200000 } sub O_RDWR() { 2 }
sub AT_FDCWD() { -100 } sub AT_SYMLINK_FOLLOW() { 0x400 }
my %open_flag = (RDONLY => 0, WRONLY => 1, RDWR => 2, CREAT => 0100, EXCL => 0200,
	TRUNC => 01000, APPEND => 02000, NONBLOCK => 04000, DIRECT => 040000,
	DIRECTORY => 0200000, NOATIME => 01000000);

my $fsfd;

sub fail {
	my ($what) = @_;
	print STDERR "$what: $!\n";
	if (defined $fsfd) {
		open my $log, '<&=', $fsfd or die;
		while (sysread $log, my $line, 4096) { print STDERR $line }
	}
	exit 1;
}

sub call {
	my ($what, @args) = @_;
	my $r = syscall shift @args, @args;
	fail($what) if $r < 0;
	return $r;
}

sub set {
	my ($option) = @_;
	my ($how, $key, $value) = $option =~ /^(?:(fd|opath):)?([^=]+)(?:=(.*))?$/s;
	my $null = 0;
	if (defined $how) {
		my $flags = $how eq 'opath' ? O_PATH : 0;
		my $fd = call($value, OPEN, $value, $flags, 0);
		call($option, FSCONFIG, $fsfd, SET_FD, $key, $null, $fd);
	} elsif (defined $value) {
		call($option, FSCONFIG, $fsfd, SET_STRING, $key, $value, 0);
	} else {
		call($option, FSCONFIG, $fsfd, SET_FLAG, $key, $null, 0);
	}
}

my ($command, @a) = @ARGV;
my ($null, $empty) = (0, '');

if ($command eq 'mount') {
	my ($type, $dir, @options) = @a;
	$fsfd = call('fsopen', FSOPEN, $type, 0);
	set($_) for @options;
	call('create', FSCONFIG, $fsfd, CREATE, $null, $null, 0);
	my $mnt = call('fsmount', FSMOUNT, $fsfd, 0, 0);
	call('move_mount', MOVE_MOUNT, $mnt, $empty, AT_FDCWD, $dir, 4);
} elsif ($command eq 'oldmount') {
	my ($type, $dir, $flags, $data) = @a;
	call('mount', MOUNT, $type, $dir, $type, 0 + $flags, $data);
} elsif ($command eq 'reconfigure') {
	my ($dir, @options) = @a;
	$fsfd = call('fspick', FSPICK, AT_FDCWD, $dir, 0);
	set($_) for @options;
	call('reconfigure', FSCONFIG, $fsfd, RECONFIGURE, $null, $null, 0);
} elsif ($command eq 'umount') {
	my ($dir) = @a;
	call('umount', UMOUNT2, $dir, 0);
} elsif ($command eq 'rename') {
	my ($flags, $old, $new) = @a;
	call('rename', RENAMEAT2, AT_FDCWD, $old, AT_FDCWD, $new, 0 + $flags);
} elsif ($command eq 'renames') {
	$| = 1;
	while (my $line = <STDIN>) {
		chomp $line;
		my ($flags, $old, $new) = split /\|/, $line;
		my $r = syscall RENAMEAT2, AT_FDCWD, $old, AT_FDCWD, $new, 0 + $flags;
		print $r < 0 ? "rename: $!\n" : "ok\n";
	}
} elsif ($command eq 'tmpfile') {
	my ($dir, $mode, $name) = @a;
	my $fd = call('tmpfile', OPEN, $dir, O_RDWR | O_TMPFILE, oct $mode);
	open my $file, '+<&=', $fd or fail('fdopen');
	syswrite $file, "tmpfile\n" or fail('write');
	if (defined $name) {
		my $path = "/proc/self/fd/$fd";
		call('link', LINKAT, AT_FDCWD, $path, AT_FDCWD, $name, AT_SYMLINK_FOLLOW);
	}
} elsif ($command eq 'socket') {
	my ($path) = @a;
	socket my $s, 1, 1, 0 or fail('socket');
	bind $s, pack 'S Z*', 1, $path or fail('bind');
} elsif ($command eq 'open') {
	my ($flags, $path) = @a;
	my $n = 0;
	$n |= $open_flag{$_} // die "no flag $_" for split /\|/, $flags;
	call('open', OPEN, $path, $n, 0666);
} elsif ($command eq 'map') {
	my ($path) = @a;
	my $fd = call('open', OPEN, $path, O_RDWR, 0);
	call('mmap', MMAP, 0, 4096, 3, 1, $fd, 0); # PROT_READ | PROT_WRITE, MAP_SHARED
} elsif ($command eq 'lock') {
	my ($path) = @a;
	open my $file, '+<', $path or fail('open');
	my $lock = pack 's s x4 q q i x4', 1, 0, 0, 0, 0; # F_WRLCK
	fcntl $file, 6, $lock or fail('lock'); # F_SETLK
} else {
	die "unknown command: $command\n";
}
