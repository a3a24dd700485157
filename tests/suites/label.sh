#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Labels of a security module: those of layers are shown and enforced, a copy keeps the one that the
# union shows, and a new object has the one it would have had in upper. The module is Smack, which
# needs no policy.
#
# Boot: lsm=smack
. "${0%/*}/lib.sh"

mount -t smackfs smackfs /sys/fs/smackfs 2>"$SEEN"
if [ ! -e /sys/fs/smackfs/load2 ]; then
	not_ok 'Smack is on' "$(cat "$SEEN")"
	done_testing
fi

label() { setfattr -h -n security.SMACK64 -v "$2" "$1"; } # FILE LABEL
of() { getfattr -h --only-values -n security.SMACK64 "$1" 2>&1; }
rule() { printf '%s %s %s' "$1" "$2" "$3" >/sys/fs/smackfs/load2; } # SUBJECT OBJECT ACCESS
# task LABEL COMMAND...: as root with that label; what it makes has it.
# shellcheck disable=SC2016
task() { bash -c 'echo "$0" >/proc/self/attr/current && "$@"' "$@"; }

# Of each kind one, with the label `Of-NAME`.
of_each_kind() {
	local n
	each_kind
	for n in $KINDS deep deep/er; do label "lower1/$n" "Of-${n//\//-}"; done
}

copies() {
	layers
	of_each_kind
	put lower1/bare x
	mnt
	local n
	for n in $KINDS; do is "$n shows its label" "Of-${n//\//-}" "$(of mnt/$n)"; done
	for n in $KINDS; do
		check "$n is copied up by another" task Task touch -h -d 2001-01-01 "mnt/$n"
		is "$n: the copy's label" "Of-${n//\//-}" "$(of upper/$n)"
		is "$n: still shown" "Of-${n//\//-}" "$(of mnt/$n)"
	done
	is 'so for directories on the way' 'Of-deep Of-deep-er' "$(of upper/deep) $(of upper/deep/er)"
	check 'a copy-up by a first write' task Task bash -c 'echo more >>mnt/bare'
	is 'a file without a label has the default' "$(of lower1/bare)" "$(of upper/bare)"
	again
	for n in $KINDS; do is "$n: shown by the next mount" "Of-${n//\//-}" "$(of mnt/$n)"; done
	label mnt/deep/er/file Changed
	is 'a label that is set' 'Changed Changed' "$(of mnt/deep/er/file) $(of upper/deep/er/file)"
	is 'lower keeps its own' Of-deep-er-file "$(of lower1/deep/er/file)"
	umnt
	# The copy has the label that is enforced, which is that of when the file was first seen.
	rm -r upper work && mkdir upper work
	label lower1/bare Shown
	mnt
	is 'a label' Shown "$(of mnt/bare)"
	label lower1/bare Changed
	is 'changed below' Shown "$(of mnt/bare)"
	check 'its copy-up' task Task chmod 600 mnt/bare
	is 'the label of the copy is the one shown' Shown "$(of upper/bare)"
	check 'a copy-up by rename' task Task mv mnt/dir mnt/fifo mnt/deep
	umnt
}

new_objects() {
	layers
	put lower1/gone x
	put lower1/gonedir x
	mkdir lower1/in
	mnt
	rm mnt/gone mnt/gonedir
	local n made=()
	make() { # NAME COMMAND...
		check "new: $1" task Task "${@:2}"
		made+=("$1")
	}
	make f bash -c 'echo x >mnt/f'
	make d mkdir mnt/d
	make l ln -s f mnt/l
	make p mkfifo mnt/p
	make c mknod mnt/c c 1 3
	make gone bash -c 'echo x >mnt/gone'
	make gonedir mkdir mnt/gonedir
	make in/f bash -c 'echo x >mnt/in/f'
	make t perl "$SUITES/sys.pl" tmpfile mnt 644 mnt/t
	for n in "${made[@]}"; do
		is "new: $n has the caller's label" Task "$(of mnt/$n)"
		is "new: $n has it in upper" Task "$(of upper/$n)"
	done
	is 'and its directory kept its own' "$(of lower1/in)" "$(of upper/in)"
	check 'a link' task Other ln mnt/f mnt/f2
	is 'has the label of the file' Task "$(of mnt/f2)"
	again
	for n in "${made[@]}"; do is "new: $n, the next mount" Task "$(of mnt/$n)"; done
	umnt
}

# A directory that gives its own label to what is made in it.
transmuting() {
	layers
	mkdir lower1/shared
	label lower1/shared Shared
	setfattr -n security.SMACK64TRANSMUTE -v TRUE lower1/shared
	rule Giver Shared rwxat
	rule Taker Shared rwxa
	mnt
	check 'in a transmuting directory' task Giver bash -c 'echo x >mnt/shared/f; mkdir mnt/shared/d'
	is 'a file has its label' 'Shared Shared' "$(of mnt/shared/f) $(of upper/shared/f)"
	is 'so has a directory' 'Shared Shared' "$(of mnt/shared/d) $(of upper/shared/d)"
	is 'which hands it on' TRUE "$(xattr upper/shared/d security.SMACK64TRANSMUTE 2>&1)"
	check 'by one whose rule does not say so' task Taker bash -c 'echo x >mnt/shared/own'
	is 'it has the label of that one' 'Taker Taker' "$(of mnt/shared/own) $(of upper/shared/own)"
	umnt
}

# The caller on what the union shows, the mounter on the layers.
enforced() {
	layers
	mkdir -m 777 lower1/dir
	put lower1/secret s
	put lower1/free f
	put upper/secret2 s
	chmod 666 lower1/* upper/*
	chmod 777 lower1/dir
	for n in lower1/secret lower1/dir upper/secret2; do label $n Secret; done
	mnt
	for n in secret secret2; do
		fails "$n: reading without a rule" EACCES user Nobody cat mnt/$n
		fails "$n: writing without a rule" EACCES user Nobody bash -c "echo x >>mnt/$n"
	done
	fails 'listing' EACCES user Nobody ls mnt/dir
	fails 'making an entry' EACCES user Nobody mkdir mnt/dir/new
	is 'nothing was copied up' secret2 "$(names upper)"
	check 'what has no label of its own can be read' user Nobody cat mnt/free
	rule Reader Secret rx
	rule Writer Secret rwxa
	prints 'reading by a rule' s user Reader cat mnt/secret
	fails 'which is not one for writing' EACCES user Reader bash -c 'echo x >>mnt/secret'
	check 'writing by a rule' user Writer bash -c 'echo x >>mnt/secret'
	is 'the copy' Secret "$(of upper/secret)"
	check 'making an entry by a rule' user Writer mkdir mnt/dir/new
	is 'its label' Writer "$(of upper/dir/new)"
	fails 'setting a label' EPERM user Writer setfattr -n security.SMACK64 -v Free mnt/secret
	umnt
}

for part in copies new_objects transmuting enforced; do on_each_upper $part; done
umount /sys/fs/smackfs
done_testing
