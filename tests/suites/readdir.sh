#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Listing directories: merging, whiteouts, types and inode numbers, positions,
# changes while a listing is read.
. "${0%/*}/lib.sh"

# The type of every name.
types() { (cd "$1" && find . -mindepth 1 -maxdepth 1 -printf '%f=%y\n' | sort | tr '\n' ' '); }
# The inode numbers of the listing (ls -i makes no stat) and those of stat.
d_inos() { (cd "$1" && ls -Ui | awk '{print $2, $1}' | sort); }
st_inos() { (cd "$1" && stat -c '%n %i' -- * | sort); }

layers 3
mkdir -p lower{1,2,3}/d upper/d
for l in lower3 lower2 lower1 upper; do put $l/d/in-all x; put $l/d/$l x; done
mkdir lower3/d/dir && ln -s x lower2/d/link && mkfifo lower1/d/fifo && mknod lower3/d/chr c 1 3
put lower3/d/gone x && whiteout upper/d/gone
put lower3/d/gone1 x && whiteout lower1/d/gone1
put upper/d/back x && whiteout lower1/d/back && put lower3/d/back y
mkdir lower3/lower-only upper/upper-only lower1/merged upper/merged
put lower3/lower-only/a x
put upper/upper-only/b x
mnt
is 'a merged listing' 'back chr dir fifo in-all link lower1 lower2 lower3 upper ' "$(listing mnt/d)"
is 'dot and dot-dot, once' '. .. ' "$(ls -a mnt/d | grep '^\.' | tr '\n' ' ')"
is 'types' 'back=f chr=c dir=d fifo=p in-all=f link=l lower1=f lower2=f lower3=f upper=f ' "$(types mnt/d)"
is 'inode numbers: merged, one filesystem' "$(st_inos mnt/d)" "$(d_inos mnt/d)"
is 'inode numbers: the root' "$(st_inos mnt)" "$(d_inos mnt)"
is 'inode number of dot' "$(stat -c %i mnt/d)" "$(ls -Uia mnt/d | awk '$2 == "." {print $1}')"
is 'inode number of dot-dot' "$(stat -c %i mnt)" "$(ls -Uia mnt/d | awk '$2 == ".." {print $1}')"
is 'dot-dot of a directory of one layer' "$(stat -c %i mnt)" "$(ls -Uia mnt/lower-only | awk '$2 == ".." {print $1}')"
is 'a lower directory' 'a ' "$(listing mnt/lower-only)"
is 'an upper directory' 'b ' "$(listing mnt/upper-only)"
is 'an empty merged directory' '' "$(listing mnt/merged)"
is 'a tree' 14 "$(find mnt -type f -o -type d | wc -l)"
put mnt/lower-only/c x
is 'a lower directory with a new name' 'a c ' "$(listing mnt/lower-only)"
rm mnt/lower-only/a
is 'without its lower name' 'c ' "$(listing mnt/lower-only)"
rm mnt/lower-only/c
is 'without any' '' "$(listing mnt/lower-only)"
put mnt/lower-only/a again
is 'with the lower name again' 'a ' "$(listing mnt/lower-only)"
mv mnt/d/lower3 mnt/upper-only/moved
put mnt/d/in-all changed
is 'inode numbers after copy-up' "$(st_inos mnt/d)" "$(d_inos mnt/d)"
is 'inode numbers in a directory that was pure upper' "$(st_inos mnt/upper-only)" "$(d_inos mnt/upper-only)"
is 'and it is marked impure' y "$(xattr upper/upper-only trusted.overlay.impure)"
again
is 'inode numbers after a new mount' "$(st_inos mnt/upper-only)" "$(d_inos mnt/upper-only)"
is 'merged, after a new mount' "$(st_inos mnt/d)" "$(d_inos mnt/d)"
umnt
mnt_ro
is 'without upper' 'chr dir fifo gone in-all link lower1 lower2 lower3 ' "$(listing mnt/d)"
umnt

# ---- several filesystems
layers 2
mkdir other
mount -t tmpfs other other
mkdir -p other/d lower1/d upper/d
put other/d/o x && put lower1/d/l x && put upper/d/u x
mkdir other/d/od lower1/d/ld
LAYERS=lowerdir=lower1:other,upperdir=upper,workdir=work
mnt
is 'two filesystems: the listing' 'l ld o od u ' "$(listing mnt/d)"
is 'two filesystems: numbers of what is no directory' "$(st_inos mnt/d | grep -v d)" "$(d_inos mnt/d | grep -v d)"
umnt
umount other

# ---- many names
layers 2
mkdir lower1/big lower2/big upper/big
touch lower2/big/n{1..700}
touch lower1/big/n{301..900}
touch upper/big/n{801..1000}
whiteout upper/big/n1
for i in {2..50}; do ln upper/big/n1 "upper/big/n$i"; done
mnt
is 'a thousand names' 950 "$(names mnt/big | wc -l)"
is 'none of them twice' '' "$(names mnt/big | sort | uniq -d)"
check 'rm -r of a merged directory' rm -r mnt/big
fails 'is gone' ENOENT stat mnt/big
check 'and whited out' is_whiteout upper/big
umnt

# ---- positions, and changes while reading. One process: each line is a check.
layers 2
mkdir lower1/d lower2/d lower2/plain upper/pure
touch lower1/d/a{1..20} lower2/d/b{1..20} lower2/plain/p{1..20} upper/pure/u{1..20}
mnt
while IFS='|' read -r verdict name seen; do
	if [ "$verdict" = ok ]; then ok "$name"; else not_ok "$name" "seen: $seen"; fi
done < <(perl -e '
	use strict; use warnings;
	sub result { my ($ok, $name, $seen) = @_; print(($ok ? "ok" : "no"), "|$name|", $seen // "", "\n") }
	sub rest { my ($d) = @_; my @n; while (defined(my $n = readdir $d)) { push @n, $n } @n }
	for my $dir ("mnt/d", "mnt/plain", "mnt/pure") {
		opendir my $d, $dir or die;
		my @all = rest($d);
		result(!defined readdir $d, "$dir: the end stays the end");
		rewinddir $d;
		result("@all" eq join(" ", rest($d)), "$dir: rewinddir reads the same again");
		rewinddir $d;
		readdir $d for 1 .. 7;
		my $at = telldir $d;
		my $next = readdir $d;
		my @after = rest($d);
		seekdir $d, $at;
		my $again = readdir $d;
		result($next eq $again, "$dir: seekdir comes back", "$next, then $again");
		result("@after" eq join(" ", rest($d)), "$dir: and reads on the same");

		rewinddir $d;
		readdir $d for 1 .. 3;
		open my $f, ">", "$dir/created" or die;
		close $f;
		rest($d);
		rewinddir $d;
		result(scalar(grep { $_ eq "created" } rest($d)), "$dir: rewinddir sees a new name");
		rewinddir $d;
		readdir $d;
		unlink "$dir/created" or die;
		rest($d);
		rewinddir $d;
		result(!grep({ $_ eq "created" } rest($d)), "$dir: rewinddir does not see a removed one");

		rewinddir $d;
		my @before = rest($d);
		rewinddir $d;
		my @seen;
		while (defined(my $n = readdir $d)) {
			push @seen, $n;
			next if $n =~ /^\./;
			unlink "$dir/$n" or result(0, "$dir: unlink while reading", "$n: $!");
		}
		my %once; $once{$_}++ for @seen;
		result(join(" ", sort @before) eq join(" ", sort @seen), "$dir: all names are read while each is unlinked", "@seen");
		rewinddir $d;
		result(rest($d) == 2, "$dir: then it is empty");
		rmdir $dir or result(0, "$dir: rmdir", "$!");
		my @n = rest($d);
		result(1, "$dir: reading a removed directory returns");
	}
')
umnt

done_testing
