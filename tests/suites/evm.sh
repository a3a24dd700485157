#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# HMACs of EVM: the filesystems of layers keep and verify them, the union asks for none, and a copy gets its own. IMA stores
# the hashes that they guard; all that is done here is what EVM lets anybody do.
#
# EVM's key cannot be taken from it again: a guest of its own, by an argument that says what is so without it.
#
# Boot: ima_hash=sha256
# Kernel: lsm
. "${0%/*}/lib.sh"

SECURITY=/sys/kernel/security
mount -t securityfs securityfs $SECURITY 2>"$SEEN"

# A key of this boot; it is EVM's from here on, and each file that user 1001 makes gets a hash and an HMAC.
hmac_key() {
	keyctl link @u @s && keyctl add user kmk "$(od -An -N16 -v -tx1 /dev/urandom | tr -d ' \n')" @u &&
		keyctl add encrypted evm-key 'new user:kmk 32' @u && echo 1 >$SECURITY/evm &&
		echo 'appraise func=FILE_CHECK fowner=1001' >$SECURITY/ima/policy
}

# What a value is: 02 for an HMAC.
kind() { xattr_hex "$1" security.evm | cut -c1-2; } # FILE
drop() { sync && echo 3 >/proc/sys/vm/drop_caches; }
by_owner() { as 1001 bash -c "$@"; }

hmacs() { # FILESYSTEM
	local n
	layers
	mkdir -m 777 lower1/in
	for n in kept forged copied written moved; do by_owner "echo $n >lower1/in/$n"; done
	is 'a file of a layer has an HMAC' 02 "$(kind lower1/in/kept)"
	check 'in place of one a signature that is none' setfattr -n security.evm -v "0x0302$(printf 'ab%.0s' {1..20})" lower1/in/forged
	drop
	fails 'the layer says so' EACCES cat lower1/in/forged
	mnt
	for n in kept copied written moved; do prints "$n is read through the union" "$n" cat mnt/in/$n; done
	prints 'which looks at none' forged cat mnt/in/forged
	is 'and shows them' "$(xattr_hex lower1/in/kept security.evm)" "$(xattr_hex mnt/in/kept security.evm)"
	fails 'nor can one be set through it' EPERM setfattr -n security.evm -v "0x$(xattr_hex lower1/in/kept security.evm)" mnt/in/kept
	fails 'nor taken away' EPERM setfattr -x security.evm mnt/in/kept
	check 'a new file' by_owner 'echo new >mnt/in/new'
	"changes_on_$1"
	umnt
}

changes_on_tmpfs() {
	local n
	is 'has a hash' 0404 "$(xattr_hex upper/in/new security.ima | cut -c1-4)"
	is 'and an HMAC' 02 "$(kind upper/in/new)"
	check 'it is renamed' mv mnt/in/new mnt/in/renamed
	check 'and changed in mode' chmod 600 mnt/in/renamed
	check 'a copy-up by mode' chmod 640 mnt/in/copied
	check 'a copy-up by a write' add mnt/in/written more
	check 'a copy-up by rename' mv mnt/in/moved mnt/in/elsewhere
	for n in copied written elsewhere; do
		is "$n: the copy has an HMAC" 02 "$(kind upper/in/$n)"
		check "$n: and a hash" test "$(xattr_hex upper/in/$n security.ima)" = "$(xattr_hex mnt/in/$n security.ima)"
	done
	check 'it is its own' test "$(xattr_hex lower1/in/copied security.evm)" != "$(xattr_hex upper/in/copied security.evm)"
	again
	prints 'the next mount' $'copied\nwritten\nmore\nmoved\nnew' cat mnt/in/{copied,written,elsewhere,renamed}
	drop
	prints 'the HMACs in upper are right' $'copied\nwritten\nmore\nmoved\nnew' cat upper/in/{copied,written,elsewhere,renamed}
}

# EVM lets a file that was not made by mknod(2) have its first attribute from a security module that labels alone, and none is
# on here: what is in upper cannot have a hash.
changes_on_ext4() {
	fails 'has no hash' ENODATA xattr upper/in/new security.ima
	fails 'a copy-up by mode' EPERM chmod 640 mnt/in/copied
	fails 'a copy-up by a write' EPERM add mnt/in/written more
	fails 'a copy-up by rename' EPERM mv mnt/in/moved mnt/in/elsewhere
	is 'nothing is left' '' "$(leftovers)"
	prints 'they are as they were' $'copied\nwritten\nmoved' cat mnt/in/{copied,written,moved}
}

if hmac_key >"$SEEN" 2>&1; then
	on_each_upper hmacs
else
	not_ok 'EVM has a key' "$(cat "$SEEN")"
fi
umount $SECURITY
done_testing
