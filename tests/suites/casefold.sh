#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Layers whose directories fold case (chattr +F): all or none; what lookups, listings and changes make of names that
# differ in case alone.
. "${0%/*}/lib.sh"

# fold_fs TYPE DIR [strict]: a new filesystem on which directories can fold case; WHY there is none.
fold_fs() {
	local type=$1 dir=$2 strict=${3:-} image=$IMAGES/fold.$((++NEW)).img
	mkdir -p "$dir"
	case $type in
	ext4)
		truncate -s 32M "$image"
		mkfs.ext4 -q -F -O casefold ${strict:+-E encoding_flags=strict} "$image" && mount -o loop "$image" "$dir"
		;;
	tmpfs) mount -t tmpfs -o "mode=755,casefold=utf8-12.1.0${strict:+,strict_encoding}" tmpfs "$dir" ;;
	esac >"$SEEN" 2>&1 || { WHY="no $type that folds case: $(head -n 1 "$SEEN")" && return 1; }
	rm -f "$image"
}

# fold DIR...: new directories that fold case.
fold() { mkdir "$@" && chattr +F "$@"; }

# folding TYPE [N]: as layers, in fs/, and all fold case.
folding() {
	local i lower=()
	layers
	fold_fs "$1" fs || return
	for ((i = 1; i <= ${2:-1}; i++)); do lower+=("fs/lower$i"); done
	fold "${lower[@]}" fs/upper fs/work
	LOWER=$(IFS=:; echo "${lower[*]}")
	LAYERS=lowerdir=$LOWER,upperdir=fs/upper,workdir=fs/work
}

flags() { lsattr -d "$1" | cut -d' ' -f1 | tr -d -c FV; } # FILE: F where it folds case
refused() { # NAME MESSAGE OPTION...
	local name=$1 want=$2 out
	shift 2
	if out=$(sys mount "$FSTYPE" mnt "$@" 2>&1); then
		not_ok "$name" 'expected EINVAL' 'seen: a mount'
		umount mnt
	else
		is "$name" EINVAL "$(grep -q 'Invalid argument' <<<"$out" && echo EINVAL || echo "$out")"
		is "$name: the reason" 1 "$({ echo "$out"; dmesg | tail -n 4; } | grep -c -m 1 -- "$want")"
	fi
}
lower() { names "$1" | tr '[:upper:]' '[:lower:]' | sort | tr '\n' ' '; } # DIR: its names, in lower case
# Of the names in DIR, those that match PATTERN, by the byte.
spelled() { names "$1" | grep -a -- "$2" | tr '\n' ' '; } # DIR PATTERN

e1=$'\303\211' e2=$'\303\251' e3=$'e\314\201' # E acute; e acute; e, and an acute to combine it with
bad=$'bad\377x' BAD=$'BAD\377X'               # no UTF-8

# ---- all or none
mixed() {
	local type=$1
	layers
	fold_fs "$type" fs || { skip 'layers that fold case' "$WHY" && return; }
	fold fs/lower fs/lower2 fs/upper fs/work
	mkdir fs/plain fs/plain2 fs/plainwork
	refused 'folding lower, plain upper' 'case-sensitive directory on upper is inconsistent' lowerdir=fs/lower upperdir=upper workdir=work
	refused 'plain lower, folding upper' 'case-insensitive directory on fs/upper is inconsistent' lowerdir=lower1 upperdir=fs/upper workdir=fs/work
	refused 'a plain one on such a filesystem' 'case-sensitive directory on fs/plain is inconsistent' lowerdir=fs/lower:fs/plain
	refused 'a folding one below a plain one' 'case-insensitive directory on fs/lower2 is inconsistent' lowerdir=fs/plain:fs/lower2
	refused 'upper named first' 'case-insensitive directory on fs/lower is inconsistent' upperdir=fs/plain workdir=fs/plainwork lowerdir=fs/lower
	refused 'a plain work directory' 'case-sensitive directory on fs/plainwork is inconsistent' lowerdir=fs/lower upperdir=fs/upper workdir=fs/plainwork
	refused 'lowerdir+' 'case-sensitive directory on fs/plain is inconsistent' lowerdir+=fs/lower lowerdir+=fs/plain
	check 'all plain' sys mount "$FSTYPE" mnt lowerdir=fs/plain2 upperdir=fs/plain workdir=fs/plainwork
	is 'is plain' 'a A ' "$(touch mnt/a mnt/A; listing mnt | tr ' ' '\n' | sort -r | xargs) "
	umount mnt
	check 'all folding' sys mount "$FSTYPE" mnt lowerdir=fs/lower:fs/lower2 upperdir=fs/upper workdir=fs/work
	is 'folds' 'a ' "$(touch mnt/a mnt/A; listing mnt)"
	is 'and says so' F "$(flags mnt)"
	umount mnt
	check 'lower ones alone' sys mount "$FSTYPE" mnt lowerdir=fs/lower:fs/upper
	check 'fold' stat mnt/A
	umount mnt
	fold_fs "$type" strict strict || { skip 'strict encodings' "$WHY" && return; }
	fold strict/lower strict/lower2 strict/upper strict/work
	refused 'strict encodings' 'strict encoding not supported' lowerdir=strict/lower upperdir=strict/upper workdir=strict/work
	refused 'lower ones alone' 'strict encoding not supported' lowerdir=strict/lower:strict/lower2
	refused 'a strict one below' 'all layers must have the same encoding' lowerdir=fs/lower:strict/lower
	mkdir strict/plain strict/plain2
	check 'plain directories there' sys mount "$FSTYPE" mnt lowerdir=strict/plain:strict/plain2
	umount mnt
}

# ---- names that differ in case alone
lookups() {
	folding "$1" 2 || { skip 'names' "$WHY" && return; }
	put fs/upper/Up u
	put fs/lower1/Both both1
	put fs/lower2/bOTH both2
	put fs/lower2/Low l
	put "fs/lower2/$e1" e
	put fs/lower2/STRASSE s
	put "fs/lower1/$bad" b
	put "fs/lower2/$BAD" B
	ln -s Low fs/lower2/Link
	mkdir -p fs/lower1/Dir fs/lower2/dIR fs/upper/diR
	put fs/upper/diR/U u
	put fs/lower1/Dir/One 1
	put fs/lower2/dIR/one 2
	put fs/lower2/dIR/Two 2
	mnt
	is 'by another case: in upper, lower, both' 'u l both1' "$(cat mnt/uP mnt/lOW mnt/both | xargs)"
	is 'by its own, too' 'u l both1' "$(cat mnt/Up mnt/Low mnt/Both | xargs)"
	prints 'through a symlink' l cat mnt/link
	prints 'in a merged directory' '1' cat mnt/dir/ONE
	prints 'in one that only the lowest has it in' '2' cat mnt/DIR/two
	prints 'not ASCII' e cat "mnt/$e2"
	prints 'decomposed' e cat "mnt/$e3"
	prints 'one letter for two' s cat $'mnt/Stra\303\237e'
	is 'one file' 1 "$(stat -c %i mnt/Both mnt/both mnt/BOTH | sort -u | wc -l)"
	is 'no text: the same bytes alone' 'b B' "$(cat "mnt/$bad" "mnt/$BAD" | xargs)"
	fails 'no text: another case' ENOENT stat $'mnt/Bad\377x'
	fails 'what is not there' ENOENT stat mnt/lowe
	is 'listed once, as the topmost spells it' "Both Link Low STRASSE Up diR " "$(spelled mnt '^[A-Za-z]*$')"
	is 'not ASCII' "$e1 " "$(spelled mnt "^$e1\|^$e2\|^$e3")"
	is 'no text: all' "$BAD $bad " "$(spelled mnt $'\377' | xargs -n 1 | sort | xargs) "
	is 'a merged directory' 'One Two U ' "$(listing mnt/dir)"
	is 'listed again' 'One Two U ' "$(listing mnt/DIR && listing mnt/Dir >/dev/null)"
	forget
	prints 'after a remount' both1 cat mnt/BOTH
	is 'and listed' 'One Two U ' "$(listing mnt/dIr)"
	umnt
	if [ -n "$OTHER" ]; then
		mount -t "$OTHER" -o "$LAYERS" x mnt
		is 'the other type sees the same' "Both Link Low STRASSE Up diR One Two U " "$(spelled mnt '^[A-Za-z]*$')$(listing mnt/dir)"
		umnt
	fi
	mnt_ro
	is 'lower layers alone' "both1 One Two " "$(cat mnt/both) $(listing mnt/DIR)"
	umnt
	# Folded it has more bytes than a name can have.
	local long
	long=$(printf '\316\220%.0s' {1..60}) LONG=$(printf '\316\252\314\201%.0s' {1..60})
	put "fs/lower1/dir/$long" 1
	put "fs/lower2/dir/$LONG" 2
	mnt
	is 'a name that is long when it is folded' '1 1' "$(cat "mnt/dir/$long" "mnt/dir/$LONG" | xargs)"
	if [ "$FSTYPE" = rovl ]; then # overlayfs lists both
		is 'listed once' "$long " "$(spelled mnt/dir $'\316')"
	fi
	umnt
}

# ---- what is made under a name that is there in another case
creating() {
	folding "$1" 2 || { skip 'creating' "$WHY" && return; }
	put fs/lower2/Low l
	put fs/upper/Up u
	whiteout fs/upper/Gone
	put fs/lower1/gONE g
	mkdir fs/lower1/dir
	mnt
	for n in LOW UP; do
		fails "mkdir ($n)" EEXIST mkdir "mnt/$n"
		fails "mkfifo ($n)" EEXIST mkfifo "mnt/$n"
		fails "symlink ($n)" EEXIST ln -s -T x "mnt/$n"
		fails "link ($n)" EEXIST ln -T mnt/dir/../Low "mnt/$n"
		fails "O_EXCL ($n)" EEXIST sys open 'WRONLY|CREAT|EXCL' "mnt/$n"
		check "opened where it is ($n)" sys open 'WRONLY|CREAT' "mnt/$n"
	done
	is 'none is new' 'dir low up ' "$(lower mnt)"
	add mnt/LOW more
	is 'a copy-up under another case' 'l more' "$(xargs <mnt/low)"
	is 'in upper once' 1 "$(names fs/upper | grep -c -i low)"
	is 'listed once' 1 "$(names mnt | grep -c -i low)"
	add mnt/dir/New n
	fails 'a new file in another case' EEXIST mkdir mnt/DIR/nEW
	prints 'is that file' n cat mnt/Dir/NEW
	is 'spelled as it was created' 'New ' "$(listing mnt/dir)"
	fails 'a whiteout hides all cases' ENOENT stat mnt/gone
	mkdir mnt/GONE
	is 'over it a directory' 0 "$(names mnt/gone | wc -l)"
	check 'is opaque' is_opaque fs/upper/gone
	is 'new directories fold' 'F F F' "$(mkdir -p mnt/dir/a/b && echo "$(flags mnt/gone)" "$(flags mnt/dir/A)" "$(flags mnt/dir/A/B)")"
	is 'all the way down' 1 "$(touch mnt/DIR/A/B/c mnt/dir/a/b/C && names mnt/dir/A/b | wc -l)"
	mkfifo mnt/Fifo
	ln -s Up mnt/Sym
	ln mnt/up mnt/Hard
	sys tmpfile mnt 0644 mnt/Tmp >/dev/null
	for n in fifo sym hard tmp; do check "new: $n" stat "mnt/$n"; done
	is 'a link' 2 "$(stat -c %h mnt/HARD)"
	if [ "$FSTYPE" = rovl ]; then # overlayfs spells it as it was last looked for in vain
		fails 'looked for in vain' ENOENT stat mnt/LATER
		touch mnt/later
		fails 'and again' ENOENT stat mnt/SUB
		mkdir mnt/Sub
		fails 'and again, to be renamed to' ENOENT stat mnt/MOVED
		mv mnt/Tmp mnt/Moved
		is 'spelled as its creator has it' 'Moved Sub later ' "$(spelled mnt '^[Ll]ater\|^SUB$\|^Sub$\|^MOVED$\|^Moved$')"
		is 'in upper, too' 'Moved Sub later ' "$(spelled fs/upper '^[Ll]ater\|^SUB$\|^Sub$\|^MOVED$\|^Moved$')"
		mv mnt/Moved mnt/Tmp
	fi
	local open
	open=$(cd mnt && exec 3>Opened && rm oPENED && readlink /proc/self/fd/3)
	is 'an open file that is removed under another case' "$D/mnt/Opened (deleted)" "$open"
	again
	is 'after a mount' 'Fifo Hard Sym Tmp Up dir' "$(spelled mnt '^Fifo$\|^Hard$\|^Sym$\|^Tmp$\|^Up$\|^dir$' | xargs)"
	prints 'names by another case' u cat mnt/SYM
	umnt
}

# ---- removing
removing() {
	folding "$1" 2 || { skip 'removing' "$WHY" && return; }
	put fs/lower2/Low l
	put fs/lower1/lOW l1
	put fs/upper/Up u
	put fs/upper/Over o
	put fs/lower1/oVER o1
	mkdir fs/lower1/Opq fs/upper/oPQ
	put fs/lower1/Opq/f f
	opaque fs/upper/oPQ
	mnt
	check 'of upper alone' rm mnt/UP
	check 'without a whiteout' absent fs/upper/up
	fails 'it is gone' ENOENT stat mnt/Up
	is 'opaque hides all cases' '' "$(listing mnt/OPQ)"
	is 'the rest' 'low opq over ' "$(lower mnt)"
	umnt
	[ "$FSTYPE" = rovl ] || [ "$1" = tmpfs ] || return # overlayfs: EINVAL where ext4 caches no name for the whiteout
	mnt
	check 'of both' rm mnt/over
	check 'with a whiteout' is_whiteout fs/upper/over
	fails 'it is gone' ENOENT stat mnt/Over
	is 'and not listed' 'low opq ' "$(lower mnt)"
	add mnt/LOW more
	check 'a copy' rm mnt/low
	fails 'is gone' ENOENT stat mnt/Low
	put mnt/low new
	is 'a new one' 'new' "$(cat mnt/LOW)"
	is 'is listed once' 'low opq ' "$(lower mnt)"
	check 'and removed' rm mnt/LOW
	check 'with a whiteout' is_whiteout fs/upper/low
	again
	is 'after a mount' 'opq ' "$(lower mnt)"
	umnt
	[ "$FSTYPE" = rovl ] || return # overlayfs: EINVAL where upper has nothing to be replaced
	mkdir -p fs/lower1/Tree/sub fs/lower2/tREE
	put fs/lower1/Tree/a a
	put fs/lower2/tREE/A A
	put fs/lower2/tREE/b b
	put fs/lower2/Pure p
	mnt
	check 'a file of lower layers alone' rm mnt/PURE
	check 'has a whiteout' is_whiteout fs/upper/pure
	check 'a tree' rm -r mnt/TREE
	check 'has one' is_whiteout fs/upper/tree
	mkdir mnt/tree
	is 'made anew it is empty' '' "$(listing mnt/Tree)"
	check 'and folds' touch mnt/tree/x mnt/tree/X
	check 'is removed' rm mnt/TREE/X
	check 'and so is it' rmdir mnt/TREE
	is 'the rest' 'opq ' "$(lower mnt)"
	is 'nothing is left in work' '' "$(find fs/work/work -mindepth 1 ! -type c)"
	again
	is 'after a mount' 'opq ' "$(lower mnt)"
	umnt
}

# ---- renaming
renaming() {
	folding "$1" 2 || { skip 'renaming' "$WHY" && return; }
	put fs/lower2/Low l
	put fs/lower2/tARGET t
	put fs/upper/Up u
	mkdir fs/lower1/Dir fs/lower2/dIR
	put fs/lower1/Dir/a 1
	put fs/lower2/dIR/B 2
	mnt redirect_dir=on
	check 'to its name in another case' sys rename 0 mnt/Low mnt/LOW
	check 'in upper' sys rename 0 mnt/Up mnt/UP
	is 'nothing happens, as on the filesystem itself' 'Dir Low Up tARGET ' "$(listing mnt)"
	fails 'RENAME_NOREPLACE' EEXIST sys rename 1 mnt/Low mnt/LOW
	check 'to another' sys rename 0 mnt/lOW mnt/High
	is 'is there alone' 'Dir High Up tARGET ' "$(listing mnt)"
	fails 'no longer' ENOENT stat mnt/low
	prints 'but there' l cat mnt/hIGH
	check 'over one in another case' sys rename 0 mnt/UP mnt/Target
	is 'replaces it' u "$(cat mnt/target)"
	is 'one name' 1 "$(names mnt | grep -c -i '^target$')"
	check 'a directory' sys rename 0 mnt/DIR mnt/Moved
	is 'with what is below' 'B a 2' "$(listing mnt/mOVED | xargs -n 1 | sort | xargs) $(cat mnt/moved/b)"
	fails 'no longer' ENOENT stat mnt/dir
	add mnt/moved/A more
	mkdir mnt/Other
	check 'exchanged' sys rename 2 mnt/OTHER mnt/HIGH
	is 'for a file' 'l' "$(cat mnt/other)"
	check 'to another directory' sys rename 0 mnt/other mnt/MOVED/In
	umnt
	mnt redirect_dir=on
	is 'after a mount' 'high moved target a b in l 1 more' "$(lower mnt)$(lower mnt/moved)$(cat mnt/moved/IN mnt/MOVED/A | xargs)"
	umnt
	folding "$1" 1
	mkdir fs/lower1/Dir
	mnt redirect_dir=off
	fails 'without redirects' EXDEV sys rename 0 mnt/dIR mnt/other
	check 'but to itself' sys rename 0 mnt/dIR mnt/DIR
	umnt
}

# ---- changed offline, and underneath
changed() {
	folding "$1" 2 || { skip 'changes of +F' "$WHY" && return; }
	mkdir fs/lower1/Plain fs/lower1/Sub fs/upper/UpPlain fs/lower2/Below fs/lower1/Cached
	chattr -F fs/lower1/Plain fs/upper/UpPlain fs/lower2/Below
	mkdir fs/lower1/Below
	put fs/lower1/Plain/f f
	put fs/lower1/Sub/f f
	mnt
	fails 'a plain directory in a lower layer' EREMOTE stat mnt/plain
	fails 'what is in it' EREMOTE cat mnt/Plain/f
	fails 'one in upper' EREMOTE stat mnt/upplain
	fails 'one below a folding one' EREMOTE stat mnt/below
	prints 'others' f cat mnt/SUB/F
	fails 'nothing is made over it' EREMOTE mkdir mnt/plain
	check 'one that is known' stat mnt/cached
	chattr -F fs/lower1/Cached
	fails 'and plain since' ESTALE stat mnt/cached/x
	umnt
	chattr +F fs/upper/UpPlain fs/lower2/Below
	mnt
	check 'when all fold again' stat mnt/upplain mnt/BELOW
	mkdir mnt/Empty
	check 'an empty directory' chattr -F mnt/empty
	fails 'made plain through the mount' ESTALE stat mnt/empty/x
	check 'and folding again' chattr +F mnt/empty
	check 'is good' touch mnt/empty/x
	check 'in both cases' stat mnt/Empty/X
	fails 'a full one' ENOTEMPTY chattr -F mnt/empty
	mkdir mnt/known
	fails 'a name that is not there' ENOENT stat mnt/known/x
	chattr -F fs/upper/known
	fails 'nor made when its directory is plain since' EINVAL mkdir mnt/known/x
	if [ "$FSTYPE" = rovl ]; then # overlayfs leaves it in upper
		is 'nothing is left' '' "$(listing fs/upper/known)"
	fi
	chattr -F fs/work/work
	fails 'a copy of a directory where work is plain since' EINVAL touch mnt/sub/new
	check 'is none' absent fs/upper/sub
	if [ "$FSTYPE" = rovl ]; then # overlayfs leaves it in work
		is 'nor anything left' '' "$(listing fs/work/work)"
	fi
	umnt
	# A plain union on such a filesystem.
	mkdir fs/p fs/pu fs/pw
	mount -t "$FSTYPE" -o lowerdir=fs/p,upperdir=fs/pu,workdir=fs/pw x mnt
	mkdir mnt/d
	check 'a directory of a plain mount' chattr +F mnt/d
	fails 'made to fold' ESTALE stat mnt/d/x
	check 'and plain again' chattr -F mnt/d
	check 'is good' touch mnt/d/x
	fails 'in its case alone' ENOENT stat mnt/d/X
	umnt
}

# ---- what a directory has learnt of its layers, and its listing
learnt() {
	folding "$1" 4 || { skip 'what is learnt' "$WHY" && return; }
	local i
	for i in 1 2 3 4; do mkdir "fs/lower$i/Dir" && put "fs/lower$i/Dir/Name$i" "$i" && put "fs/lower$i/Dir/Café$i" "$i"; done
	put "fs/lower4/Dir/$bad" b
	mnt
	perl -e 'lstat "mnt/dir/none$_" for 1 .. 300'
	is 'names in another case' '1 2 3 4' "$(cat mnt/dir/nAME{1..4} | xargs)"
	is 'not ASCII' '1 2 3 4' "$(cat mnt/dir/CAFÉ{1..4} | xargs)"
	prints 'no text' b cat "mnt/dir/$bad"
	fails 'no text in another case' ENOENT stat "mnt/dir/$BAD"
	fails 'what is not there' ENOENT stat mnt/dir/NAME5
	is 'listed' 9 "$(names mnt/dir | wc -l)"
	is 'again' 9 "$(names mnt/DIR | wc -l)"
	touch mnt/dir/name1 mnt/dir/NAME6
	is 'a copy is no new name' 10 "$(names mnt/dir | wc -l)"
	is 'and again' 10 "$(names mnt/dir | wc -l)"
	is 'each once' 'name1 name2 name3 name4 name6' "$(lower mnt/dir | xargs -n 1 | grep name | xargs)"
	umnt
}

# ---- a union as a layer
nested() {
	folding "$1" 2 || { skip 'nesting' "$WHY" && return; }
	put fs/lower2/Low l
	put fs/upper/lOW u
	put fs/lower1/Other o
	mkdir fs/lower1/Dir fs/lower2/dIR
	mnt
	mkdir outer plain
	fold fs/u2 fs/w2
	refused 'a plain layer with a folding union' 'case-sensitive directory on plain is inconsistent' lowerdir=mnt:plain
	mkdir m2
	mount -t "$FSTYPE" -o lowerdir=mnt,upperdir=fs/u2,workdir=fs/w2 x m2
	is 'one on the other' 'Dir Other lOW u' "$(listing m2)$(cat m2/LOW)"
	add m2/OTHER more
	touch m2/dir/New
	is 'a copy' 'o more' "$(xargs <m2/other)"
	check 'a new file' stat m2/DIR/NEW
	is 'each once' '3 1' "$(names m2 | wc -l) $(names m2/DIR | wc -l)"
	umount m2
	umnt
}

# ---- layers of several filesystems
layers
if fold_fs ext4 one && fold_fs tmpfs two; then
	fold one/upper one/work one/lower two/lower two/lower2
	put one/lower/Both 1
	put two/lower/bOTH 2
	put two/lower/Two 2
	LAYERS=lowerdir=one/lower:two/lower,upperdir=one/upper,workdir=one/work
	mnt
	is 'layers on ext4 and tmpfs' '1 2 Both Two ' "$(cat mnt/both mnt/TWO | xargs) $(listing mnt)"
	add mnt/two more
	is 'a copy from one to the other' '2 more' "$(xargs <mnt/TWO)"
	umnt
	if mkdir three && mount -t tmpfs -o casefold=utf8-11.0.0 tmpfs three 2>"$SEEN"; then
		fold three/lower
		refused 'another version of Unicode' 'all layers must have the same encoding' lowerdir=one/lower:three/lower
	else
		skip 'another version of Unicode' "$(<"$SEEN")"
	fi
else
	skip 'layers on ext4 and tmpfs' "$WHY"
fi

for type in ext4 tmpfs; do
	ON=" [$type]"
	for part in mixed lookups creating removing renaming changed learnt nested; do
		"$part" "$type"
		cd / && umount_below "$BASE" && cd "$BASE" || exit 1
	done
done
ON=''

done_testing
