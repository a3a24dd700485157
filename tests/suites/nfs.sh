#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The kernel's NFS server exports the union, a client mounts it over the loopback.
. "${0%/*}/lib.sh"

EXPORT="rw,no_root_squash,no_subtree_check,fsid=42"
export_it() { exportfs -i -o "$EXPORT" "127.0.0.1:$D/mnt"; }
# The server lets go of the mount.
unexport_it() {
	exportfs -u "127.0.0.1:$D/mnt"
	exportfs -f
}
drop() { sync && echo 3 >/proc/sys/vm/drop_caches; }

start_server() {
	WHY="the kernel has no NFS"
	if ! has_fs nfsd || ! has_fs nfs4; then return 1; fi
	command -v rpc.nfsd >/dev/null || { WHY="there is no rpc.nfsd"; return 1; }
	mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
	rpcbind -w
	rpc.statd --no-notify
	rpc.mountd
	# So long it waits for clients that could have something to reclaim.
	echo 10 >/proc/fs/nfsd/nfsv4leasetime
	echo 10 >/proc/fs/nfsd/nfsv4gracetime
	rpc.nfsd 4
}
stop_server() {
	rpc.nfsd 0
	local name pid
	for name in rpc.mountd rpc.statd rpcbind; do
		for pid in $(pidof $name); do kill "$pid"; done
	done
}

through() {
	layers 2
	mkdir -p lower1/dir lower2/dir/sub lower2/below client
	put lower1/file lower
	put lower2/dir/sub/file deep
	put lower2/two names
	ln lower2/two lower2/other
	put upper/up upper
	LAYERS=$LAYERS,nfs_export=on,redirect_dir=on
	mnt
	check 'exported' export_it
	check 'mounted' mount -t nfs -o vers=4.1 "127.0.0.1:$D/mnt" client
	mountpoint -q client || return
	is 'the same tree' "$(cd mnt && find . | sort)" "$(cd client && find . | sort)"
	prints 'a lower file' deep cat client/dir/sub/file
	prints 'an upper file' upper cat client/up
	put client/dir/sub/file changed
	prints 'a lower file changed' changed cat upper/dir/sub/file
	put client/new new
	mkdir client/newdir
	mv client/new client/newdir/moved
	mv client/dir client/newdir/dir
	prints 'renamed' changed cat mnt/newdir/dir/sub/file
	ln client/newdir/moved client/link
	is 'links' 2 "$(stat -c %h client/link)"
	rm client/two
	prints 'the other name of a removed one' names cat client/other
	rm client/up
	check 'removed' absent mnt/up
	check 'a lock' flock -n client/file true

	# What is open goes on when neither the server nor the union remembers anything.
	exec 5<>client/file
	cd client/newdir/dir/sub || exit 1
	drop
	prints 'a file that is open, evicted' lower head -c 5 /proc/self/fd/5
	prints 'the current directory, evicted' changed cat file
	exec 5<&-
	rpc.nfsd 0
	unexport_it
	umount "$D/mnt" || not_ok 'unmounted below the server' 'expected: umount succeeds'
	(cd "$D" && mnt && export_it)
	rpc.nfsd 4
	prints 'the current directory, in a new mount' changed cat file
	put more more
	poke "$D/client/file" LOWER
	cd "$D" || exit 1
	prints 'written into a new mount' more cat mnt/newdir/dir/sub/more
	prints 'a lower file, written' LOWER cat mnt/file
	tar -C client -cf all.tar . && mkdir client/copy && tar -C client/copy -xf all.tar
	rm all.tar
	check 'a tar round trip' diff -r --exclude copy client client/copy
	rm -r client/copy client/newdir
	is "all removed" "below file link other " "$(listing mnt)"
	umount client
	rpc.nfsd 0
	unexport_it
	umnt
}

if start_server; then
	through
	stop_server
else
	skip 'through NFS' "$WHY"
fi
done_testing
