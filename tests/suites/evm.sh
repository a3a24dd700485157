#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# HMACs of EVM: the filesystems of layers have them, the union does not ask for any. Nothing that is done through the union
# leaves a file of upper with one that is wrong.
#
# Boot: ima_appraise=enforce
# Kernel: lsm
. "${0%/*}/lib.sh"

SECURITY=/sys/kernel/security
mount -t securityfs securityfs $SECURITY 2>"$SEEN"

# A key of this boot; it is EVM's from here on.
hmac_key() {
	keyctl link @u @s && keyctl add user kmk "$(od -An -N16 -v -tx1 /dev/urandom | tr -d ' \n')" @u &&
		keyctl add encrypted evm-key 'new user:kmk 32' @u && echo 1 >$SECURITY/evm &&
		echo 'appraise func=FILE_CHECK fowner=1001' >$SECURITY/ima/policy
}

evm() { getfattr -h -e hex --only-values -n security.evm "$1" 2>&1 | od -An -v -tx1 | tr -d ' \n'; } # FILE
# What a value is: 02 for an HMAC.
kind() { evm "$1" | cut -c1-2; } # FILE
# Stores its hash, as IMA does (4), made by SHA-256 (4).
set_ima() { setfattr -n security.ima -v "0x0404$(sha256sum <"$1" | cut -d' ' -f1)" "$1"; } # FILE

hmacs() {
	layers
	local n
	for n in kept copied forged written; do
		put lower1/$n "$n"
		set_ima lower1/$n
		chown 1001 lower1/$n
	done
	is 'a file of a layer has an HMAC' 02 "$(kind lower1/kept)"
	setfattr -n security.evm -v 0x02abababababababababababababababababababab lower1/forged
	drop
	fails 'which is looked at' EACCES cat lower1/forged
	mnt
	for n in kept copied written; do prints "$n can be read through the union" "$n" cat mnt/$n; done
	prints 'which looks at no HMAC' forged cat mnt/forged
	is 'and shows them' "$(evm lower1/kept)" "$(evm mnt/kept)"
	fails 'nor can one be set through it' EPERM setfattr -n security.evm -v "0x$(evm lower1/kept)" mnt/kept
	check 'copied up' chmod 640 mnt/copied
	is 'the copy has an HMAC' 02 "$(kind upper/copied)"
	check 'of its own' test "$(evm lower1/copied)" != "$(evm upper/copied)"
	check 'written' add mnt/written more
	put mnt/new new
	check 'a new file gets its hash' set_ima mnt/new
	chown 1001 mnt/new
	check 'a file is renamed' mv mnt/new mnt/renamed
	check 'and changed in mode' chmod 600 mnt/renamed
	again
	prints 'the next mount' $'copied\nwritten\nmore\nnew' cat mnt/copied mnt/written mnt/renamed
	umnt
	drop
	for n in copied written renamed; do
		is "upper's $n has an HMAC" 02 "$(kind upper/$n)"
		check "upper's $n can be read: it is right" cat upper/$n
	done
}
drop() { sync && echo 3 >/proc/sys/vm/drop_caches; }

if hmac_key >"$SEEN" 2>&1; then
	on_each_upper hmacs
else
	not_ok 'EVM has a key' "$(cat "$SEEN")"
fi
umount $SECURITY
done_testing
