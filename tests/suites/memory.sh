#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Lower layers that are changed while they are mounted. A directory that was asked
# for many missing names may know by heart which layer holds which name, as rovl's
# do: what it knows must be true at every moment. No name is looked up before the
# change it is about, so that no dentry answers for it; and nothing drops caches,
# which would drop such knowledge as well.
. "${0%/*}/lib.sh"

# Asks DIR for names that are nowhere; enough of them to pay for learning.
MISSES=0
learn() { # DIR [NUMBER]
	local i
	for ((i = 0; i < ${2:-120}; i++)); do
		[ ! -e "$1/miss$((++MISSES))" ] || not_ok 'a missing name' "$1/miss$MISSES is there"
	done
}
gone() { if present "$1"; then echo there; else echo gone; fi; }
xmark() { setfattr -n trusted.overlay.opaque -v x "$1"; }

# What is done in a layer before learning, the change, a look at it, what is to be
# seen. $n is a new name, $at the directory in the layer as it is reached, $low the
# same directly, $end that of the bottom layer.
CHANGES=(
	'a new file||put $at/$n new|echo $(<mnt/d/$n)|new'
	'a new directory||mkdir $at/$n; put $at/$n/in new|echo $(<mnt/d/$n/in)|new'
	'a new symlink||ln -s to $at/$n|readlink mnt/d/$n|to'
	'a new fifo||mkfifo $at/$n|stat -c %F mnt/d/$n|fifo'
	'a new link||ln $at/own $at/$n|echo $(<mnt/d/$n)|own'
	'an unnamed file gets a name||sys tmpfile $at 600 $at/$n|echo $(<mnt/d/$n)|tmpfile'
	'renamed|put $at/old.$n x|mv $at/old.$n $at/$n|echo $(<mnt/d/$n)|x'
	'moved in|put $at/../side x|mv $at/../side $at/$n|echo $(<mnt/d/$n)|x'
	'a directory moved in|mkdir $at/../side; put $at/../side/in x|mv $at/../side $at/$n|echo $(<mnt/d/$n/in)|x'
	'replaced|put $at/../side new; put $at/$n old|mv $at/../side $at/$n|echo $(<mnt/d/$n)|new'
	'exchanged|put $at/../side.$n new; mkdir $at/$n|sys rename 2 $at/../side.$n $at/$n|echo $(<mnt/d/$n)|new'
	'moved out|put $at/$n x|mv $at/$n $at/../side.$n|gone mnt/d/$n|gone'
	'removed|put $at/$n x|rm $at/$n|gone mnt/d/$n|gone'
	'a directory removed|mkdir $at/$n|rmdir $at/$n|gone mnt/d/$n|gone'
	'removed and made again|put $at/$n x|rm $at/$n; mkdir $at/$n|stat -c %F mnt/d/$n|directory'
)
# The same where there is a layer below.
CHANGES_ABOVE=(
	'a name over another|put $end/$n below|put $at/$n above|echo $(<mnt/d/$n)|above'
	'a name uncovered|put $end/$n below; put $at/$n above|rm $at/$n|echo $(<mnt/d/$n)|below'
	'a directory merged|mkdir $end/$n; put $end/$n/low x|mkdir $at/$n; put $at/$n/high x|listing mnt/d/$n|high low '
	'a directory over a file|put $end/$n below|mkdir $at/$n; put $at/$n/in x|listing mnt/d/$n|in '
	'a file between directories|mkdir $end/$n; put $end/$n/in x|put $at/$n file|echo $(<mnt/d/$n)|file'
	'a whiteout|put $end/$n below|whiteout $low/$n|gone mnt/d/$n|gone'
	'a whiteout removed|put $end/$n below; whiteout $low/$n|rm $low/$n|echo $(<mnt/d/$n)|below'
	'an xattr whiteout|put $end/$n below|: >$low/$n; setfattr -n trusted.overlay.whiteout -v y $low/$n|gone mnt/d/$n|gone'
	'an opaque directory|mkdir $end/$n; put $end/$n/low x|mkdir $low/$n; opaque $low/$n|listing mnt/d/$n|'
	'a directory made opaque|mkdir $end/$n $low/$n; put $end/$n/low x|opaque $low/$n|listing mnt/d/$n|'
)

# each_change LAYER AT CHANGE...: collects what is wrong in BAD, by change.
declare -A BAD
each_change() {
	# shellcheck disable=SC2034 # what is evaluated names them
	local low=lower$1/d at=$2 end=lower$COUNT_LAYERS/d n what before change look want seen
	local layer=$1
	shift 2
	for change; do
		IFS='|' read -r what before change look want <<<"$change"
		n=n$((++NEW))
		eval "$before"
		learn mnt/d
		eval "$change"
		seen=$(eval "$look" 2>&1)
		BAD[$what]+=
		[ "$seen" = "$want" ] || BAD[$what]+=" layer $layer: '$seen'"
	done
}

# Where a layer is changed: directly, through another mount, through a union that
# has it as its upper layer.
way_direct() { AT=lower$1/d; }
way_bound() {
	mkdir "bound$1" && mount --bind "lower$1" "bound$1"
	AT=bound$1/d
}
way_union() {
	mkdir "below$1" "work$1" "over$1"
	mount -t "${2:-$FSTYPE}" -o "lowerdir=below$1,upperdir=lower$1,workdir=work$1" x "over$1"
	AT=over$1/d
}
way_other() { way_union "$1" "$OTHER"; }

changes() { # LAYERS WAY [TYPE]: of a TYPE, the layer in the middle alone
	local i what middle=$((($1 + 1) / 2))
	layers "$1"
	COUNT_LAYERS=$1 BAD=()
	ON=" [$1 layers, $2${3:+, $3}]"
	for ((i = 1; i <= $1; i++)); do
		mkdir "lower$i/d"
		put "lower$i/d/own" own
		put "lower$i/d/of$i" "$i"
		xmark "lower$i/d"
	done
	mnt
	exec 9<mnt/d
	for i in $([ $# = 3 ] || echo 1 "$1") $middle; do
		"way_$2" "$i"
		each_change "$i" "$AT" "${CHANGES[@]}"
		[ "$i" = "$1" ] || each_change "$i" "$AT" "${CHANGES_ABOVE[@]}"
	done
	for what in "${!BAD[@]}"; do is "$what" '' "${BAD[$what]}"; done
	learn mnt/d
	is 'the names of all layers' "$(seq 1 "$1" | xargs)" "$(for ((i = 1; i <= $1; i++)); do echo "$(<mnt/d/of$i)"; done | xargs)"
	exec 9<&-
	for i in over* bound*; do [ ! -d "$i" ] || umount "$i"; done
	umnt
	ON=
}

# The same with the root of the mount, and what its own names come to.
in_the_union() { # LAYERS
	local i end=lower$1/d
	layers "$1"
	ON=" [$1 layers]"
	for ((i = 1; i <= $1; i++)); do
		mkdir -p "lower$i/d/dir" "lower$i/d/dir$i"
		put "lower$i/d/of$i" "$i"
		put "lower$i/d/dir/of$i" "$i"
	done
	mnt
	exec 9<mnt/d
	learn mnt/d
	rm "mnt/d/of$1"
	check 'unlink of a lower name leaves a whiteout' is_whiteout "upper/d/of$1"
	is 'and it is gone' gone "$(gone "mnt/d/of$1")"
	learn mnt/d
	put "mnt/d/of$1" again
	is 'made again' again "$(<"mnt/d/of$1")"
	put mnt/d/own x
	learn mnt/d
	rm mnt/d/own
	check 'unlink of an upper name leaves nothing' absent upper/d/own
	learn mnt/d
	put mnt/d/own x
	put $end/own below
	rm mnt/d/own
	check 'unlink of a name that a layer has got since: a whiteout' is_whiteout upper/d/own
	is 'and it is gone there, too' gone "$(gone mnt/d/own)"
	learn mnt/d
	mv mnt/d/of1 mnt/d/moved
	is 'rename: the new name' 1 "$(<mnt/d/moved)"
	check 'rename: the old one' is_whiteout upper/d/of1
	learn mnt/d
	rmdir "mnt/d/dir$1"
	check 'rmdir of a lower directory leaves a whiteout' is_whiteout "upper/d/dir$1"
	mkdir "mnt/d/dir$1"
	check 'made again, it is opaque' is_opaque "upper/d/dir$1"
	learn mnt/d
	put "lower2/d/dir/new" new
	is 'a merged directory below' "new $(seq -f of%g 1 "$1" | sort | xargs)" "$(names mnt/d/dir | sort | xargs)"
	learn mnt
	put lower2/root new
	is 'the root: a new name' new "$(<mnt/root)"
	mkdir lower2/e "$end/../e"
	put lower2/e/a a
	put "$end/../e/b" b
	is 'the root: a new merged directory' 'a b ' "$(listing mnt/e)"
	learn mnt/e
	put "$end/../e/c" c
	is 'which can be learnt as well' c "$(<mnt/e/c)"
	exec 9<&-
	again
	is 'after a new mount' "again 1 gone gone" "$(<"mnt/d/of$1") $(<mnt/d/moved) $(gone mnt/d/own) $(gone mnt/d/of1)"
	umnt
	ON=
}

names_of_any_bytes() {
	local n bad='' long
	layers 3
	long=$(printf '%0255d' 0)
	local -a odd=($'new\nline' $'\x01\x7f' $'\xff\xfe' $'\xc3\x28' ' lead' '-dash' 'b\slash' '...' '*' $'\xe4\xbd\xa0' "$long" "${long:1}" "x${long:1}")
	mkdir lower{1,2,3}/d
	for n in "${odd[@]}"; do put "lower2/d/$n" before; done
	mnt
	exec 9<mnt/d
	learn mnt/d
	for n in "${odd[@]}"; do
		[ "$(<"mnt/d/$n")" = before ] || bad+=" ${n@Q}"
	done
	is 'names of any bytes' '' "$bad"
	rm -r mnt/d
	exec 9<&-
	umnt
	rm -r upper/d lower2/d
	mkdir lower2/d
	mnt
	exec 9<mnt/d
	bad=
	for n in "${odd[@]}"; do
		learn mnt/d
		put "lower3/d/$n" since
		[ "$(<"mnt/d/$n")" = since ] || bad+=" ${n@Q}"
	done
	is 'names of any bytes, made since' '' "$bad"
	learn mnt/d
	fails 'a name that is too long' ENAMETOOLONG stat "mnt/d/${long}0"
	exec 9<&-
	umnt
}

many_names() {
	local i bad=''
	layers 3
	mkdir lower{1,2,3}/d
	(cd lower1/d && touch a{1..1000})
	(cd lower2/d && touch b{1..1000} a{500..600})
	(cd lower3/d && touch c{1..1000})
	mnt
	exec 9<mnt/d
	for i in 1 2 3; do
		learn mnt/d 20
		put lower3/d/early$i $i
		[ "$(<mnt/d/early$i)" = $i ] || bad+=" early$i"
	done
	for i in 1 2 3; do
		learn mnt/d 700
		put lower$i/d/late$i $i
		[ "$(<mnt/d/late$i)" = $i ] || bad+=" late$i"
	done
	learn mnt/d 700
	for ((i = 1; i <= 1000; i += 7)); do
		[ -e mnt/d/a$i ] && [ -e mnt/d/b$i ] && [ -e mnt/d/c$i ] && [ ! -e mnt/d/d$i ] || bad+=" $i"
	done
	is 'a directory of 3000 names' '' "$bad"
	exec 9<&-
	umnt
}

# ---- layers that are of other filesystems -----------------------------------

# told NAME CHANGE...: what CHANGE makes in the lower layer is seen at once.
told() {
	local name=$1 n bad='' i
	shift
	for i in 1 2 3; do
		learn mnt/d
		n=n$((++NEW))
		"$@" $n
		[ "$(cat mnt/d/$n 2>&1)" = new ] || bad+=" $(cat mnt/d/$n 2>&1)"
	done
	is "$name" '' "$bad"
}
new_in() { put "$1/$2" new; } # DIR NAME

read_only_images() {
	local i
	layers 3
	mkdir src{1,2}/d -p lower1/d lower2 lower3
	for i in 1 2; do
		put src$i/d/of$i $i
		put src$i/d/both $i
		if ! { mkfs.erofs "$IMAGES/memory$i" src$i && mount -t erofs -o loop,ro "$IMAGES/memory$i" lower$((i + 1)); } >"$SEEN" 2>&1; then
			skip 'erofs' "no image: $(<"$SEEN")"
			return
		fi
		rm "$IMAGES/memory$i"
	done
	mnt
	exec 9<mnt/d
	learn mnt/d
	is 'erofs: names of both' '1 2 1' "$(<mnt/d/of1) $(<mnt/d/of2) $(<mnt/d/both)"
	told 'erofs: a layer above it' new_in lower1/d
	exec 9<&-
	umnt
	umount lower2 lower3
}

nested() { # TYPE of the inner mount
	layers 2
	ON=" [$FSTYPE over $1]"
	mkdir -p in{1,2}/d inup inwork lower2/d
	put in2/d/deep deep
	put lower2/d/below below
	check 'the inner mount' mount -t "$1" -o lowerdir=in1:in2,upperdir=inup,workdir=inwork x lower1
	mnt
	exec 9<mnt/d
	told 'a change through the inner mount' new_in lower1/d
	told 'a change in the layer beside it' new_in lower2/d
	told 'a change below the inner mount' new_in in2/d
	told 'and in its upper layer' new_in inup/d
	is 'names of both' 'deep below' "$(<mnt/d/deep) $(<mnt/d/below)"
	exec 9<&-
	umnt
	umount lower1
	ON=
}

fuse() {
	layers 2
	mkdir -p real/d lower2/d
	if ! command -v bindfs >/dev/null || ! bindfs -o attr_timeout=0,entry_timeout=0 real lower1 >"$SEEN" 2>&1; then
		skip 'fuse' "no bindfs: $(<"$SEEN")"
		return
	fi
	mnt
	exec 9<mnt/d
	told 'fuse: a change behind its back' new_in real/d
	told 'fuse: a change through it' new_in lower1/d
	told 'fuse: a layer beside it' new_in lower2/d
	exec 9<&-
	umnt
	umount lower1
}

# ---- permissions --------------------------------------------------------------

# By an ordinary user in a namespace of its own, who may not pass a directory of
# another user any more.
refused() {
	local out
	layers 3
	if ! as 1000 unshare -Urm true 2>"$SEEN"; then
		skip 'a closed directory' "no user namespaces: $(<"$SEEN")"
		return
	fi
	mkdir lower{1,2,3}/d flags
	chown 1000:1000 lower1 lower1/d upper work flags
	out=$(as 1000 unshare -Urm bash -c '
		learn() { local i; for i in {1..100}; do [ ! -e mnt/d/$1$i ] || echo there; done; }
		mount -t "$0" -o "$1" x mnt && exec 9<mnt/d || exit
		learn a
		stat mnt/d/none
		touch flags/learnt
		while [ ! -e flags/closed ]; do sleep 0.1; done
		stat mnt/d/other
		touch flags/seen
		while [ ! -e flags/open ]; do sleep 0.1; done
		stat mnt/d/third
		learn b
		stat mnt/d/fourth
	' "$FSTYPE" "$LAYERS" 2>&1 &
		while [ ! -e flags/learnt ] && kill -0 $!; do sleep 0.1; done
		chmod "$1" lower2/d
		touch flags/closed
		while [ ! -e flags/seen ] && kill -0 $!; do sleep 0.1; done
		chmod 755 lower2/d
		touch flags/open
		wait)
	is "a directory of mode $1, then open again" 'No such file or directory|Permission denied|No such file or directory|No such file or directory|' \
		"$(echo "$out" | sed 's/.*: //' | tr '\n' '|')"
}

# ---- at the same moment ----------------------------------------------------------

# Others ask for missing names, so that the directory is learning all the time; a
# name is there as soon as the call that makes it has returned, and gone likewise.
concurrent() { # LAYERS
	local i
	layers "$1"
	for ((i = 1; i <= $1; i++)); do mkdir "lower$i/d" && put "lower$i/d/of$i" x; done
	mnt
	exec 9<mnt/d
	is "$1 layers: changes while others look" '' "$(perl -e '
		use strict;
		my ($layers) = @ARGV;
		my @pids;
		for my $p (1 .. 2) {
			my $pid = fork // die;
			push @pids, $pid and next if $pid;
			for (my $i = 0; ; $i++) { print "there: $p-$i\n" if -e "mnt/d/look$p-$i" }
		}
		for my $i (1 .. 400) {
			my $l = 1 + $i % $layers;
			if ($i % 3) { open my $f, ">", "lower$l/d/new$i" or die; print $f $i }
			else { mkdir "lower$l/d/new$i" or die }
			print "missing: new$i\n" and last unless -e "mnt/d/new$i";
			open my $f, ">", "lower$l/d/gone$i" or die;
			unlink "lower$l/d/gone$i" or die;
			print "there: gone$i\n" and last if -e "mnt/d/gone$i";
		}
		kill 9, @pids;
		wait for @pids;
	' "$1" 2>&1)"
	exec 9<&-
	umnt
}

# ---- memory that is wanted back ----------------------------------------------

pressure() {
	local i
	layers 3
	mkdir lower{1,2,3}/d{1..20} -p
	for i in {1..20}; do put lower3/d$i/f $i; done
	mnt
	for i in {1..20}; do learn mnt/d$i 20; done
	for i in {1..20}; do put lower2/d$i/before $i; done
	sync
	echo 3 >/proc/sys/vm/drop_caches
	is 'caches dropped' "$(for i in {1..20}; do echo "$i $i"; done)" "$(for i in {1..20}; do echo "$(<mnt/d$i/f) $(<mnt/d$i/before)"; done)"
	for i in {1..20}; do learn mnt/d$i 20; done
	for i in {1..20}; do put lower1/d$i/after $i; done
	is 'and learnt again' "$(seq 1 20 | xargs)" "$(for i in {1..20}; do echo "$(<mnt/d$i/after)"; done | xargs)"
	for i in {1..20}; do learn mnt/d$i 20; done
	umnt
	put lower1/d1/later x
	mnt
	is 'a new mount knows nothing' x "$(<mnt/d1/later)"
	learn mnt/d1
	rm -r lower3/d1
	umount -l mnt
	check 'a layer can be removed afterwards' rm -r lower1
}

# What one group of tasks remembers is not given back for another that has reached its limit: nothing would be gained.
of_another_group() {
	local cg=/sys/fs/cgroup i before lost
	layers 3
	if ! { echo +memory >$cg/cgroup.subtree_control && mkdir $cg/owner $cg/other; } 2>"$SEEN"; then
		skip 'memory of another group' "no memory controller: $(<"$SEEN")"
		return
	fi
	# Bytes of the kernel's that a group pays for.
	paid() { awk '$1 == "slab" || $1 == "vmalloc" { n += $2 } END { print n }' $cg/"$1"/memory.stat; }
	mkdir lower{1,2,3}/d lower1/others
	for i in 1 2 3; do (cd lower$i/d && seq -f "$i-%g" 4000 | xargs touch); done
	(cd lower1/others && seq 2000 | xargs touch)
	mnt
	exec 9<mnt/d
	(
		echo $BASHPID >$cg/owner/cgroup.procs
		perl -e 'for (1 .. 3) { opendir my $d, "mnt/d"; 1 while readdir $d }'
		learn mnt/d 1000
	)
	sleep 3 # what was freed is freed after a grace period, and counted some seconds later
	before=$(paid owner) lost=0
	for i in 1 2 3 4 5; do
		(
			echo $BASHPID >$cg/other/cgroup.procs
			ls -l mnt/others >/dev/null
		)
		lost=$((lost + $(paid other)))
		echo 32M >$cg/other/memory.reclaim 2>/dev/null
		lost=$((lost - $(paid other)))
	done
	check 'a group that reclaims gives back what is its own' test $lost -gt 500000
	lost=$((before - $(paid owner)))
	check 'and nothing of another' test $lost -lt 50000
	if [ "$FSTYPE" = rovl ]; then
		before=$(paid owner)
		echo 2 >/proc/sys/vm/drop_caches
		lost=$((before - $(paid owner)))
		check 'which has much, and gives it back when all are asked' test $lost -gt 300000
	fi
	is 'and the names are right' 4000 "$(find mnt/d -name '2-*' | wc -l)"
	exec 9<&-
	umnt
	rmdir $cg/owner $cg/other
}

unloaded() {
	local module=$FSTYPE ko=${ROVL_KO:-}
	[ "$FSTYPE" = rovl ] || ko=${MODDIR:-}/kernel/overlay.ko
	if [ ! -f "$ko" ] || [ ! -d "/sys/module/$module" ]; then
		skip 'unloading with directories learnt' "$module is not a module loaded from a file known here"
		return
	fi
	layers 3
	mkdir lower{1,2,3}/d
	mnt
	learn mnt/d
	learn mnt
	names mnt/d >"$SEEN"
	names mnt/d >"$SEEN"
	umnt
	check 'unloading with directories learnt' rmmod "$module"
	put lower2/d/new x
	check 'changes afterwards' rm lower2/d/new
	check 'loading' insmod "$ko"
	mnt
	learn mnt/d
	put lower2/d/newer x
	is 'and again' x "$(<mnt/d/newer)"
	umnt
}

for n in 3 20; do
	changes $n direct
	in_the_union $n
	concurrent $n
done
for way in bound union ${OTHER:+other}; do changes 3 $way tmpfs; done
by_type() { changes 3 direct "$1"; }
UPPERFS=$(xargs -n 1 <<<"${UPPERFS:-tmpfs ext4 xfs btrfs}" | grep -v tmpfs | xargs) on_each_upper by_type
names_of_any_bytes
many_names
read_only_images
for type in $FSTYPE $OTHER; do nested "$type"; done
fuse
refused 700
refused 0
refused 744
pressure
of_another_group
unloaded
done_testing
