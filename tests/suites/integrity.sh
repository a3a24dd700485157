#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# IMA measures and appraises files of the union, before and after they are copied up, and EVM verifies the signatures of
# their metadata; HMACs it makes none there. The attributes are made here, the rules are those below.
#
# Boot: ima_appraise=enforce
# Kernel: lsm
. "${0%/*}/lib.sh"

SECURITY=/sys/kernel/security
mount -t securityfs securityfs $SECURITY 2>"$SEEN"
# Every file of the union that is read or run is measured, every file of user 1001 is appraised wherever it is.
if ! printf '%s\n' "measure func=FILE_CHECK mask=MAY_READ fsname=$FSTYPE" "measure func=BPRM_CHECK fsname=$FSTYPE" \
	'appraise func=FILE_CHECK fowner=1001' 2>>"$SEEN" >$SECURITY/ima/policy; then
	not_ok 'IMA takes a policy' "$(cat "$SEEN")"
	done_testing
fi

hash_of() { sha256sum <"$1" | cut -d' ' -f1; }
# measured FILE: the hashes under which a file of the union was measured, on one line.
measured() {
	awk -v path="$PWD/$1" '$NF == path { sub("sha256:", "", $4); printf "%s ", $4 }' \
		$SECURITY/ima/ascii_runtime_measurements
}
ima() { xattr_hex "$1" security.ima; } # FILE
# What IMA stores for contents with that hash: a digest (4) made by SHA-256 (4).
digest() { echo "0404$1"; }
set_ima() { setfattr -n security.ima -v "0x$(digest "$2")" "$1"; } # FILE HASH

measuring() {
	layers
	local a b n
	for n in appended touched fd gone untouched; do put lower1/$n "$n"; done
	put upper/own own
	cp /usr/bin/true lower1/prog
	mnt
	for n in appended touched untouched own; do
		check "$n is read" cat mnt/$n
		is "$n is measured" "$(printf '%s\n' "$n" | sha256sum | cut -d' ' -f1) " "$(measured mnt/$n)"
	done
	a=$(hash_of lower1/appended)
	add mnt/appended more
	b=$(hash_of upper/appended)
	check 'read after a write' cat mnt/appended
	is 'the copy is measured, too' "$a $b " "$(measured mnt/appended)"
	add mnt/appended again
	check 'read after another' cat mnt/appended
	is 'and what it became' "$a $b $(hash_of upper/appended) " "$(measured mnt/appended)"
	touch -d 2001-01-01 mnt/touched
	check 'read after a copy-up that changes no data' cat mnt/touched
	is 'the same is measured once' "$(hash_of lower1/touched) " "$(measured mnt/touched)"
	a=$(hash_of lower1/fd)
	exec 3<>mnt/fd
	cat mnt/fd >"$SEEN"
	is 'one that is open for writing' "$a $(printf '%064d' 0) " "$(measured mnt/fd | xargs -n1 | sort -r | tr '\n' ' ')"
	echo changed >&3
	exec 3>&-
	check 'read when it is closed' cat mnt/fd
	is 'is measured as it is then' 1 "$(measured mnt/fd | grep -c "$(hash_of upper/fd)")"
	add upper/own below
	check 'read after a change below' cat mnt/own
	is 'is measured as it is then' 1 "$(measured mnt/own | grep -c "$(hash_of upper/own)")"
	check 'a program is run' mnt/prog
	is 'it is measured' "$(hash_of lower1/prog) " "$(measured mnt/prog)"
	put mnt/new new
	check 'a new file is read' cat mnt/new
	is 'it is measured' "$(hash_of upper/new) " "$(measured mnt/new)"
	again
	check 'the next mount' cat mnt/appended
	is 'measures what it has' 1 "$(measured mnt/appended | grep -c "$(hash_of upper/appended)")"
	umnt
}

appraising() {
	layers
	local n stale=''
	# Filesystems count the changes of a file, and IMA goes by the count: that of a copy may be the lower file's.
	changes() { perl -e 'chmod 0644 | ($_ & 1), $ARGV[1] for 1..$ARGV[0]' -- "$1" "$2"; } # COUNT FILE
	for n in {-9..9}; do
		put lower1/changed$n "$n"
		set_ima lower1/changed$n "$(hash_of lower1/changed$n)"
		changes "$n" lower1/changed$n
	done
	for n in right wrong bare written truncated opened touched; do put lower1/$n "$n"; done
	put upper/own own
	for n in right written truncated opened touched; do set_ima lower1/$n "$(hash_of lower1/$n)"; done
	set_ima upper/own "$(hash_of upper/own)"
	set_ima lower1/wrong "$(hash_of lower1/right)"
	chown 1001 lower1/* upper/own
	chmod 666 lower1/*
	mkdir -m 777 lower1/in
	mnt
	for n in right own touched; do prints "$n: a file with its hash" "$n" cat mnt/$n; done
	for n in wrong bare; do
		fails "$n: a file without" EACCES cat mnt/$n
		fails "$n: nor can it be written" EACCES add mnt/$n x
	done
	touch -d 2001-01-01 mnt/touched
	check 'the hash is copied up' test "$(ima upper/touched)" = "$(digest "$(hash_of upper/touched)")"
	prints 'the copy is accepted' touched cat mnt/touched
	check 'mode of a file with its hash' chmod 640 mnt/right
	prints 'the copy is accepted' right cat mnt/right
	check 'writing one with its hash' add mnt/written more
	is 'the hash is that of the new contents' "$(digest "$(hash_of upper/written)")" "$(ima mnt/written)"
	is 'in upper, too' "$(digest "$(hash_of upper/written)")" "$(ima upper/written)"
	is 'lower keeps its own' "$(digest "$(hash_of lower1/written)")" "$(ima lower1/written)"
	prints 'it can be read' $'written\nmore' cat mnt/written
	for n in {-9..9}; do
		exec 3>>mnt/changed$n
		echo more >&3
		changes $((-n)) mnt/changed$n
		exec 3>&-
		[ "$(ima mnt/changed$n)" = "$(digest "$(hash_of upper/changed$n)")" ] || stale+=" $n"
	done
	is 'the hash follows, however often lower and the copy were changed' '' "$stale"
	check 'truncating one' truncate -s 4 mnt/truncated
	is 'its hash' "$(digest "$(hash_of upper/truncated)")" "$(ima mnt/truncated)"
	prints 'it can be read' trun cat mnt/truncated
	# It is copied, without the data that are not wanted, before IMA looks.
	fails 'truncating one that is opened' EACCES put mnt/opened new
	exec 3<>mnt/own
	echo more >&3
	exec 3>&-
	is 'an upper file that was written' "$(digest "$(hash_of upper/own)")" "$(ima upper/own)"
	check 'a new file of that user' as 1001 bash -c 'echo new >mnt/in/new'
	is 'has its hash' "$(digest "$(hash_of upper/in/new)")" "$(ima mnt/in/new)"
	prints 'it can be read' new cat mnt/in/new
	set_ima upper/touched "$(hash_of lower1/right)"
	fails 'a copy whose hash is changed below' EACCES cat mnt/touched
	again
	prints 'the next mount: the copies are accepted' $'right\nwritten\nmore' cat mnt/right mnt/written
	fails 'and those without a hash are not' EACCES cat mnt/wrong
	umnt
}

# A key pair, of which EVM gets the public half, and is told that there will be no key for HMACs.
evm_key() {
	local ring
	openssl req -x509 -new -newkey rsa:2048 -nodes -subj /CN=rovl -days 3650 -addext subjectKeyIdentifier=hash \
		-outform DER -out "$SCRATCH/cert.der" -keyout "$SCRATCH/key.pem" &&
		ring=$(keyctl newring _evm @u) && keyctl padd asymmetric '' "$ring" <"$SCRATCH/cert.der" &&
		echo 0x80000002 >$SECURITY/evm
}
evm() { xattr_hex "$1" security.evm; } # FILE
# For user 1001. The generation of an inode, which tmpfs cannot tell, is no part of it; evmctl asks all the same.
sign() { evmctl sign --portable --imahash -a sha256 --uid 1001 --generation 0 --key "$SCRATCH/key.pem" "$1"; }

signatures() {
	layers
	local n sig
	for n in signed broken moved; do put lower1/$n "$n"; done
	for n in signed broken moved; do check "$n is signed" sign lower1/$n; done
	chown 1001 lower1/*
	mnt
	for n in signed broken; do prints "$n can be read" "$n" cat mnt/$n; done
	sig=$(evm lower1/signed)
	is 'the union shows the signature' "$sig" "$(evm mnt/signed)"
	fails 'what is signed cannot be changed' EPERM chmod 600 mnt/signed
	fails 'nor its owner' EPERM chown 1002 mnt/signed
	fails 'nor can a signature be set in a union' EPERM setfattr -n security.evm -v "0x$sig" mnt/broken
	fails 'nor removed' EPERM setfattr -x security.evm mnt/broken
	fails 'nor its hash' EPERM set_ima mnt/signed "$(hash_of lower1/broken)"
	check 'times are not signed' touch -d 2001-01-01 mnt/signed
	is 'the copy has the signature' "$sig" "$(evm upper/signed)"
	prints 'and is accepted' signed cat mnt/signed
	fails 'and as fixed as it was' EPERM chmod 600 mnt/signed
	check 'a copy-up by rename' mv mnt/moved mnt/elsewhere
	prints 'which keeps the signature good' moved cat mnt/elsewhere
	again
	prints 'the next mount' $'signed\nmoved' cat mnt/signed mnt/elsewhere
	umnt
	# Something that the signature is about changes while nobody looks.
	rm lower1/broken
	put lower1/broken signed
	chmod 600 lower1/broken
	set_ima lower1/broken "$(hash_of lower1/signed)"
	setfattr -n security.evm -v "0x$sig" lower1/broken
	chown 1001 lower1/broken
	mnt
	fails 'a signature of another mode' EACCES cat mnt/broken
	umnt
}

# What is signed for one inode is of no use to a copy.
not_copied() {
	layers
	local n pad
	pad=$(printf 'ab%.0s' {1..20})
	# The first byte says what it is.
	local -A value=([bound]=0302$pad [portable]=0502$pad)
	for n in bound portable; do
		put lower1/$n $n
		check "$n is set" setfattr -n security.evm -v "0x${value[$n]}" lower1/$n
	done
	mnt
	for n in bound portable; do check "$n: copy-up" touch -d 2001-01-01 mnt/$n; done
	fails 'a signature that is bound to an inode is not copied' ENODATA xattr upper/bound security.evm
	is 'a portable one is' "${value[portable]}" "$(evm upper/portable)"
	umnt
}

for part in measuring appraising; do on_each_upper $part; done
if evm_key >"$SEEN" 2>&1; then
	for part in signatures not_copied; do on_each_upper $part; done
else
	not_ok 'EVM has a key' "$(cat "$SEEN")"
fi
umount $SECURITY
done_testing
