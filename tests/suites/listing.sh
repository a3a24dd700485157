#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A directory that is listed again and again: its listing may be kept, as rovl
# does from the second time on, but a listing that is begun anew is never out of
# date, whoever changed what.
. "${0%/*}/lib.sh"

# What a new listing says, in NAMES: "a b ". Everything here is the shell's own, as
# a process costs the guest more than what it is started for.
shopt -s nullglob dotglob
GLOBIGNORE=.:..
list() {
	local all=("$1"/*)
	NAMES="${all[*]##*/}"
}
kept() { list "$1" && list "$1" && list "$1"; } # DIR: often enough to be kept
noted() { # DIR: so often that what its one layer lists is noted down
	local _
	for _ in {1..14}; do list "$1" || return; done
}
lists() { # NAME EXPECTED DIR
	list "$3"
	is "$1" "$2" "$NAMES"
}
# The inode numbers of the listing (ls -i makes no stat) are those of stat.
numbers() { # NAME DIR
	local ino name bad=''
	local -A listed=()
	while read -r ino name; do listed[$name]=$ino; done <<<"$(cd "$2" && ls -Uia)"
	while read -r ino name; do
		[ "${listed[$name]:-}" = "$ino" ] || bad+=" $name: ${listed[$name]:-none} for $ino"
	done <<<"$(cd "$2" && stat -c '%i %n' -- . *)"
	is "$1" '' "$bad"
}

# The directory's listing before a change, the change, and what it made of it.
CHANGES=(
	'a new file|put mnt/d/new x|+new'
	'a new directory|mkdir mnt/d/new|+new'
	'a new symlink|ln -s to mnt/d/new|+new'
	'a new fifo|mkfifo mnt/d/new|+new'
	'a link to a lower file|ln mnt/d/a mnt/d/new|+new'
	'an unnamed file gets a name|sys tmpfile mnt/d 600 mnt/d/new|+new'
	'an upper file is removed|put mnt/d/new x; kept mnt/d; rm mnt/d/new|'
	'a lower file is removed|rm mnt/d/a|-a'
	'a lower file is renamed|mv mnt/d/a mnt/d/new|-a +new'
	'a lower file is moved out|mv mnt/d/b mnt/b.out|-b'
	'a file is moved in|put mnt/side x; mv mnt/side mnt/d/new|+new'
	'a file is replaced|put mnt/side x; mv mnt/side mnt/d/a|'
	'two are exchanged|put mnt/side x; sys rename 2 mnt/side mnt/d/a|'
	'a directory is removed|rmdir mnt/d/dir|-dir'
	'a directory is made again|rmdir mnt/d/dir; kept mnt/d; mkdir mnt/d/dir|'
	'a removed name is made again|rm mnt/d/a; kept mnt/d; put mnt/d/a x|'
	'all is removed|rm -r mnt/d/*|-a -b -both -dir'
	'a file is copied up|chmod 600 mnt/d/a|'
	'the directory itself is copied up|chmod 700 mnt/d|'
	'in the upper layer: a new name|put upper/d/new x|+new'
	'in the upper layer: a new directory|mkdir upper/d/new|+new'
	'in the upper layer: a whiteout|whiteout upper/d/a|-a'
	'in the upper layer: moved in|put upper/side x; mv upper/side upper/d/new|+new'
	'in the upper layer: removed|put mnt/d/new x; kept mnt/d; rm upper/d/new|'
	'in the upper layer: a whiteout is removed|rm mnt/d/a; kept mnt/d; rm upper/d/a|'
	'in a lower layer: a new name|put lower2/d/new x|+new'
	'in a lower layer: a new directory|mkdir lower2/d/new|+new'
	'in a lower layer: removed|rm lower2/d/b|-b'
	'in a lower layer: renamed|mv lower2/d/b lower2/d/new|-b +new'
	'in a lower layer: moved out|mv lower2/d/b lower2/out|-b'
	'in a lower layer: moved in|put lower2/side x; mv lower2/side lower2/d/new|+new'
	'in a lower layer: a whiteout|whiteout lower1/d/b|-b'
	'in a lower layer: a whiteout is removed|rm lower1/d/wh|+wh'
	'in a lower layer: a name that another hides|put lower2/d/a x|'
	'in a lower layer: a name uncovered|rm lower1/d/both|'
	'in the first lower layer: a new name|put lower1/d/new x|+new'
	'by way of a bind mount|mkdir bound; mount --bind lower2/d bound; put bound/new x; umount bound|+new'
)

# tree: what the changes start from. Without UPPER, upper has no such directory.
tree() {
	layers 2
	mkdir -p lower{1,2}/d lower2/d/dir ${UPPER:+upper/d}
	put lower1/d/a a
	put lower2/d/b b
	put lower1/d/both 1
	put lower2/d/both 2
	put lower2/d/wh hidden
	whiteout lower1/d/wh
	mnt
}

# What $how does to the listing of DIR, which KEEP remembers: $made.
one_change() { # KEEP DIR
	local n want
	local -a all=()
	$1 "$2"
	for n in $NAMES; do case " $made " in *" -$n "*) ;; *) all+=("$n") ;; esac done
	for n in $made; do [[ $n == -* ]] || all+=("${n#+}"); done
	want=$(printf '%s\n' "${all[@]}" | sort | xargs)
	eval "$how"
	lists "$what" "$want" "$2"
	$1 "$2"
	is "$what: again" "$want" "$NAMES"
	numbers "$what: inode numbers" "$2"
	umnt
}

each_change() {
	local change what how made
	ON=" [${UPPER:-no upper directory}]"
	for change in "${CHANGES[@]}"; do
		IFS='|' read -r what how made <<<"$change"
		case $how in *upper/*) [ -n "$UPPER" ] || continue ;; esac
		tree
		one_change kept mnt/d
	done
	ON=
}

# The same of directories that one layer makes up.
ONE_LAYER=(
	'a new file|put mnt/$d/new x|+new'
	'a link|ln mnt/$d/a mnt/$d/new|+new'
	'a file is removed|rm mnt/$d/a|-a'
	'a file is renamed|mv mnt/$d/a mnt/$d/new|-a +new'
	'a file is moved out|mv mnt/$d/b mnt/b.out|-b'
	'a file is moved in|put mnt/side x; mv mnt/side mnt/$d/new|+new'
	'a lower file is moved in|mv mnt/d/a mnt/$d/new|+new'
	'a file is replaced|put mnt/side x; mv mnt/side mnt/$d/a|'
	'two are exchanged|put mnt/side x; sys rename 2 mnt/side mnt/$d/a|'
	'a directory is removed|rmdir mnt/$d/dir|-dir'
	'a removed name is made again|rm mnt/$d/a; noted mnt/$d; put mnt/$d/a x|'
	'all is removed|rm -r mnt/$d/*|-a -b -dir'
	'a file is copied up|chmod 600 mnt/$d/a|'
	'the directory itself is copied up|chmod 711 mnt/$d|'
	'in the layer: a new name|put $layer/$d/new x|+new'
	'in the layer: a new directory|mkdir $layer/$d/new|+new'
	'in the layer: removed|rm $layer/$d/b|-b'
	'in the layer: renamed|mv $layer/$d/b $layer/$d/new|-b +new'
	'in the layer: moved in|put $layer/side x; mv $layer/side $layer/$d/new|+new'
	'in the layer: at once, twice|put $layer/$d/new x; list mnt/$d; rm $layer/$d/new|'
)
each_change_of_one_layer() {
	local change what how made d layer
	for d in low up; do
		case $d in low) layer=lower1 ;; up) layer=upper ;; esac
		ON=" [$layer alone]"
		for change in "${ONE_LAYER[@]}"; do
			IFS='|' read -r what how made <<<"$change"
			layers 2
			mkdir -p "$layer/$d/dir" lower{1,2}/d
			put lower2/d/a x
			put "$layer/$d/a" a
			put "$layer/$d/b" b
			mnt
			one_change noted "mnt/$d"
		done
	done
	ON=
}

# After the directory was copied up, upper counts as well.
copied_up_since() {
	tree
	kept mnt/d
	chmod 711 mnt/d
	kept mnt/d
	put upper/d/new x
	lists 'copied up, then a new name in upper' 'a b both dir new' mnt/d
	umnt

	tree
	kept mnt/d
	chmod 711 mnt/d
	put upper/d/new x
	lists 'the same, not listed in between' 'a b both dir new' mnt/d
	umnt

	tree
	kept mnt/d
	chmod 600 mnt/d/a
	whiteout upper/d/b
	lists 'copied up by way of an entry, then a whiteout in upper' 'a both dir' mnt/d
	umnt
}

# The number of a lower file with several links changes when it is copied up.
broken_link() {
	tree
	ln lower1/d/a lower1/d/a2
	kept mnt/d
	add mnt/d/a more
	numbers 'a broken link: inode numbers' mnt/d
	add mnt/d/a2 more
	numbers 'the other one: inode numbers' mnt/d
	umnt
}

# What could not be looked up, or was not there, when the listing was read.
looked_up_later() {
	UPPER=upper tree
	rm mnt/d/both # an impure directory: its numbers are looked up
	mv mnt/d/a mnt/d/a.moved
	mkdir mnt/d/sub
	again
	setfattr -n trusted.overlay.redirect -v else upper/d/sub
	kept mnt/d 2>"$SEEN"
	setfattr -x trusted.overlay.redirect upper/d/sub
	lists 'an entry that could not be looked up before' 'a.moved b dir sub' mnt/d
	umnt

	UPPER=upper tree
	mv mnt/d/a mnt/d/a.moved
	exec 9<mnt/d # keeps the directory itself when dentries are dropped
	is 'a missing name' gone "$(present mnt/d/late || echo gone)"
	put upper/d/late x
	kept mnt/d
	forget
	is 'its dentry is dropped' x "$(<mnt/d/late)"
	lists 'and it is listed' 'a.moved b both dir late' mnt/d
	exec 9<&-
	umnt
}

# Other kinds of directories.
other_directories() {
	tree
	kept mnt
	put mnt/root x
	lists 'the root: a new name' 'd root' mnt
	kept mnt
	mkdir lower2/e
	lists 'the root: in a lower layer' 'd e root' mnt
	kept mnt
	put upper/up x
	lists 'the root: in the upper layer' 'd e root up' mnt
	noted mnt/d/dir
	put lower2/d/dir/new x
	lists 'a directory of one lower layer' 'new' mnt/d/dir
	mkdir mnt/pure
	put mnt/pure/a x
	noted mnt/pure
	put upper/pure/b x
	lists 'an upper directory' 'a b' mnt/pure
	mv mnt/d/a mnt/pure/moved
	noted mnt/pure
	put upper/pure/c x
	lists 'an impure one' 'a b c moved' mnt/pure
	numbers 'an impure one: inode numbers' mnt/pure
	mv mnt/pure/moved mnt/d/back
	mv mnt/d/b mnt/pure/b
	numbers 'an impure one: changed' mnt/pure
	rm -r lower1/d/both lower2/d/dir
	is 'types' 'back f both f' "$(find mnt/d -mindepth 1 -printf '%f %y\n' | sort | xargs)"
	umnt
	mnt_ro
	kept mnt/d
	put lower1/d/new x
	lists 'without upper: in a lower layer' 'a b both new' mnt/d
	umnt
}

# Marks that hide names without a change of the directory itself.
marks() {
	layers 2
	mkdir lower{1,2}/d
	setfattr -n trusted.overlay.opaque -v x lower1/d
	: >lower1/d/x1
	put lower2/d/x1 below
	put lower2/d/x2 below
	: >lower1/d/x2
	setfattr -n trusted.overlay.whiteout -v y lower1/d/x1
	mnt
	kept mnt/d
	lists 'an xattr whiteout' 'x2' mnt/d
	put lower1/d/more x
	lists 'beside a new name' 'more x2' mnt/d
	: >lower1/d/x3
	setfattr -n trusted.overlay.whiteout -v y lower1/d/x3
	lists 'a new xattr whiteout' 'more x2' mnt/d
	kept mnt/d
	rm lower1/d/x1
	lists 'removed' 'more x1 x2' mnt/d
	umnt
}

# One process that keeps directories open: each line is a check.
positions() {
	local verdict name seen
	layers 3
	mkdir lower{1,2,3}/d upper/d
	touch lower1/d/a{1..150} lower2/d/b{1..150} lower3/d/c{1..150} upper/d/u{1..50}
	mnt
	kept mnt/d
	while IFS='|' read -r verdict name seen; do
		if [ "$verdict" = ok ]; then ok "$name"; else not_ok "$name" "seen: $seen"; fi
	done < <(perl -e '
		use strict; use warnings;
		sub result { my ($ok, $name, $seen) = @_; print(($ok ? "ok" : "no"), "|$name|", $seen // "", "\n") }
		sub rest { my ($d) = @_; my @n; while (defined(my $n = readdir $d)) { push @n, $n } @n }
		sub open_dir { opendir my $d, "mnt/d" or die; $d }
		sub make { open my $f, ">", "mnt/d/$_[0]" or die "$_[0]: $!" }

		my $d = open_dir();
		my (@at, @all);
		while (1) {
			my $at = telldir $d;
			defined(my $n = readdir $d) or last;
			push @at, $at;
			push @all, $n;
		}
		result(@all == 502, "all names", scalar @all);
		my $bad = 0;
		for my $i (map { $_ * 37 % @all } 1 .. 200) {
			seekdir $d, $at[$i];
			$bad++ if readdir $d ne $all[$i];
		}
		result(!$bad, "every position leads back to its name", $bad);
		my $e = open_dir();
		seekdir $e, $at[300];
		result(readdir $e eq $all[300], "and does so in another listing");

		my ($r1, $r2) = (open_dir(), open_dir());
		my (@n1, @n2);
		while (@n1 < @all) {
			push @n1, scalar readdir $r1;
			push @n2, scalar readdir $r2;
			push @n2, scalar readdir $r2 if @n2 < @all;
			pop @n2 if !defined $n2[-1];
		}
		result("@n1" eq "@all" && "@n2" eq "@all", "two readers, one faster than the other");

		my $old = open_dir();
		readdir $old for 1 .. 100;
		make("created");
		unlink "mnt/d/a1", "mnt/d/u1" or die;
		my $new = open_dir();
		my %new = map { $_ => 1 } rest($new);
		result($new{created} && !$new{a1} && !$new{u1}, "a reader that came after a change");
		my %old; $old{$_}++ for rest($old);
		result(!grep({ $_ > 1 } values %old), "a reader from before: no name twice");
		rewinddir $old;
		my @again = rest($old);
		result(join(" ", sort @again) eq join(" ", sort keys %new), "and after rewinddir as the other", scalar @again);

		opendir my $gone, "mnt/d" or die;
		readdir $gone for 1 .. 3;
		make("more$_") for 1 .. 50;
		unlink map { "mnt/d/b$_" } 1 .. 50;
		rewinddir $gone;
		my %g; $g{$_}++ for rest($gone);
		result($g{more50} && !$g{b50} && !grep({ $_ > 1 } values %g), "rewinddir after many changes");

		my @pids;
		for my $p (1 .. 2) {
			my $pid = fork // die;
			push @pids, $pid and next if $pid;
			make("c$p-$_") for 1 .. 200;
			unlink map { "mnt/d/c$p-$_" } 1 .. 100;
			exit;
		}
		my ($twice, $lost, $rounds) = (0, 0, 0);
		while (1) {
			my %n; $n{$_}++ for rest(open_dir());
			$twice += grep { $_ > 1 } values %n;
			$lost++ if grep { !$n{"a$_"} } 2 .. 150;
			last if $rounds++ > 20 && waitpid($pids[-1], 1) > 0;
		}
		waitpid $pids[0], 0;
		result(!$twice, "listed while names are made and removed: none twice", $twice);
		result(!$lost, "none of the others lost", $lost);
		my @c = grep { /^c\d+-/ } rest(open_dir());
		result(@c == 200, "and all that stay are there afterwards", scalar @c);
	')
	umnt
}

UPPER=
each_change
UPPER=upper
each_change
each_change_of_one_layer
UPPER=
copied_up_since
broken_link
looked_up_later
other_directories
marks
positions
pressed() {
	tree
	kept mnt/d
	echo 2 >/proc/sys/vm/drop_caches
	put lower2/d/new x
	lists 'caches dropped, then a change' 'a b both dir new' mnt/d
	umnt
}
pressed
done_testing
