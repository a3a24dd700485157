#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Many processes on few names, with the caches dropped under them. The kernel log
# is the main check (tests/run reads it); afterwards the tree must be sound: every
# name that is listed can be looked up, and a new mount shows the same.
. "${0%/*}/lib.sh"

SECONDS_EACH=5

worker() { # SEED DIR...: random operations for SECONDS_EACH seconds
	perl -e '
		use strict;
		my ($seconds, $seed, @dirs) = @ARGV;
		srand $seed;
		my $end = time + $seconds;
		my $n = 0;
		sub any { $_[rand @_] }
		sub name { any(@dirs) . "/n" . int rand 6 }
		sub content { open my $f, any(qw(< > >> +<)), $_[0] or return; print $f "x" x rand 9000; my @l = <$f>; close $f }
		my @ops = (
			sub { content(name()) }, sub { content(name()) }, sub { unlink name() }, sub { rename name(), name() },
			sub { mkdir name() }, sub { rmdir name() }, sub { link name(), name() }, sub { symlink "n1", name() },
			sub { opendir my $d, any(@dirs) or return; my @n = readdir $d; rewinddir $d; @n = readdir $d },
			sub { my @s = stat name() }, sub { my @s = lstat name() }, sub { chmod 0600 + int rand 64, name() },
			sub { utime undef, undef, name() }, sub { truncate name(), rand 9000 }, sub { readlink name() },
			# renameat2 with NOREPLACE or EXCHANGE
			sub { my ($a, $b) = (name(), name()); syscall 316, -100, $a, -100, $b, 1 + int rand 2 },
			sub { my $d = name(); mkdir $d; content("$d/in"); unlink "$d/in"; rmdir $d },
		);
		while (time < $end) { any(@ops)->(); $n++ }
		print "$n\n";
	' "$SECONDS_EACH" "$@"
}

fill() { # DIR...
	local d i
	for d; do
		mkdir -p "$d"
		for i in 0 1 2; do put "$d/n$i" "content of $d"; done
		mkdir "$d/n3" "$d/n4"
		put "$d/n4/in" x
	done
}

round() { # WORKERS FORGET: with the caches dropped all the time where FORGET is yes
	local i pids=()
	layers 2
	fill lower1/a lower2/a lower2/b upper/c
	mnt
	for ((i = 1; i <= $1; i++)); do
		worker $((i + 100 * NEW)) mnt/a mnt/b mnt/c mnt >"done.$i" 2>"err.$i" &
		pids+=($!)
	done
	if [ "$2" = yes ]; then
		while kill -0 "${pids[0]}" 2>/dev/null; do forget; done
	fi
	wait "${pids[@]}"
	is "$1 workers, caches dropped: $2: all finish" "$1" "$(cat done.* | grep -c '^[1-9]')"
	check 'every listed name can be looked up' bash -c '! find mnt 2>&1 >/dev/null | grep .'
	check 'every file can be read' bash -c '! find mnt -type f -exec cat {} + 2>&1 >/dev/null | grep .'
	before=$(cd mnt && find . -printf '%P %y %m %s %n %l\n' | sed 's/^\(.* d .*\) [0-9]* [0-9]* $/\1/' | sort)
	again
	is 'a new mount shows the same' "$before" \
		"$(cd mnt && find . -printf '%P %y %m %s %n %l\n' | sed 's/^\(.* d .*\) [0-9]* [0-9]* $/\1/' | sort)"
	is 'work holds nothing' '' "$(leftovers)"
	check 'all of it can be removed' bash -c 'rm -rf mnt/* && ! ls -A mnt | grep .'
	umnt
	is 'the lower layers are as they were' "content of lower2/b" "$(cat lower2/b/n0)"
}

stress() {
	round 4 no
	round 3 yes
}
UPPERFS='tmpfs ext4' on_each_upper stress
done_testing
