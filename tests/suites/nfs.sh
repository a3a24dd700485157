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
	# Tells who may have something to reclaim.
	mkdir -p /run/rpc_pipefs /var/lib/nfs/nfsdcld
	mount -t rpc_pipefs rpc_pipefs /run/rpc_pipefs
	nfsdcld
	rpcbind -w
	rpc.statd --no-notify
	rpc.mountd
	# So long it waits for clients that could have something to reclaim.
	echo 10 >/proc/fs/nfsd/nfsv4leasetime
	echo 10 >/proc/fs/nfsd/nfsv4gracetime
	echo 10 >/proc/sys/fs/nfs/nlm_grace_period
	rpc.nfsd 4
}
stop_server() {
	rpc.nfsd 0
	local name pid
	for name in rpc.mountd rpc.statd rpcbind nfsdcld; do
		for pid in $(pidof $name); do kill "$pid"; done
	done
	umount /run/rpc_pipefs
}

# A client of that version of the protocol.
client() { mount -t nfs -o "vers=$1" "127.0.0.1:$D/mnt" client; }

# What was not asked for anew is not taken for the answer.
restart_server() {
	rpc.nfsd 0
	unexport_it
	umount "$D/mnt" || not_ok 'unmounted below the server' 'expected: umount succeeds'
	(cd "$D" && mnt && export_it)
	rpc.nfsd 4
}

ended() {
	umount client
	rpc.nfsd 0
	unexport_it
	umnt
	rpc.nfsd 4
}

# Three bytes of what is open; and a line into it.
piece() { dd bs=3 count=1 status=none; }
write_line() { printf '%s\n' "$2" | dd conv=fsync status=none >&"$1"; } # DESCRIPTOR TEXT
locked() { ! flock -n "$1" true; }

through() { # VERSION
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
	check 'mounted' client "$1"
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
	exec 5<>client/file 6<>client/newdir/dir/sub/file
	cd client/newdir/dir/sub || exit 1
	check 'a lock that is held' flock -n 6
	check 'excludes another client' locked file
	fails 'excludes who uses the union' EAGAIN sys lock "$D/mnt/newdir/dir/sub/file"
	# The server of version 3 has its locks for as long as this kernel is a client that may have some.
	[ "$1" != 3 ] || flock -u 6
	drop
	prints 'a file that is open, evicted' low piece <&5
	prints 'the current directory, evicted' changed cat file
	restart_server
	prints 'the current directory, in a new mount' changed cat file
	put more more
	prints 'a lower file that is open, in a new mount' er piece <&5
	check 'is written' write_line 5 late
	check 'an upper file that is open, in a new mount' write_line 6 CHANGED
	[ "$1" = 3 ] || fails 'a lock that was held before' EAGAIN sys lock "$D/mnt/newdir/dir/sub/file"
	exec 5<&- 6<&-
	cd "$D" || exit 1
	prints 'written into a new mount' more cat mnt/newdir/dir/sub/more
	prints 'a lower file, written' $'lower\nlate' cat mnt/file
	prints 'an upper file, written' CHANGED cat mnt/newdir/dir/sub/file
	check 'its lock is gone' sys lock mnt/newdir/dir/sub/file
	tar -C client -cf all.tar . && mkdir client/copy && tar -C client/copy -xf all.tar
	rm all.tar
	check 'a tar round trip' diff -r --exclude copy client client/copy
	rm -r client/copy client/newdir
	is "all removed" "below file link other " "$(listing mnt)"
	ended
}

# A repository with some hundred files: our own.
GIT=(git -c user.name=u -c user.email=u@v -c safe.directory='*' -c init.defaultBranch=b -c gc.auto=0)
repository() { # DIR
	local top=${SUITES%/*/*} of
	for of in src tests/mutants tests/suites; do
		mkdir -p "$1/$of"
		cp -r "$top/$of/." "$1/$of"
	done
	"${GIT[@]}" init -q "$1"
	"${GIT[@]}" -C "$1" add .
	"${GIT[@]}" -C "$1" commit -qm first
}

# Programs that hold what they are told of identity, links and times for true.
programs() { # VERSION REPOSITORY
	local files
	layers 1
	mkdir -p lower1/tree/sub client
	put lower1/tree/a one
	ln lower1/tree/a lower1/tree/sub/b
	ln -s a lower1/tree/l
	put lower1/tree/c two
	cp -a "$2" lower1/repo
	files=$("${GIT[@]}" -C "$2" ls-files | wc -l)
	LAYERS=$LAYERS,nfs_export=on,redirect_dir=on
	mnt
	export_it
	check 'mounted for programs' client "$1"
	mountpoint -q client || return
	is 'git: nothing changed in a lower repository' '' "$("${GIT[@]}" -C client/repo status --porcelain)"
	check "git clone of $files files" "${GIT[@]}" clone -q client/repo client/clone
	is 'git clone: all files' "$files" "$("${GIT[@]}" -C client/clone ls-files | wc -l)"
	check 'git mv' "${GIT[@]}" -C client/clone mv src/overlay tests/moved
	put client/clone/src/rovl.rs changed
	check 'git commit' "${GIT[@]}" -C client/clone commit -qam second
	check 'git push' "${GIT[@]}" -C client/clone push -q origin HEAD:refs/heads/other
	check 'rsync -H' rsync -aH client/tree/ client/copy
	is 'rsync: links are links' "$(stat -c %i client/copy/a) 2" "$(stat -c '%i %h' client/copy/sub/b)"
	put client/tree/sub/b more
	check 'rsync -H again' rsync -aH client/tree/ client/copy
	prints 'rsync: changed by its other name' more cat client/copy/a
	drop
	restart_server
	check 'git fsck after a new mount' "${GIT[@]}" -C client/clone fsck --strict --no-progress
	is 'git: nothing changed by it' '' "$("${GIT[@]}" -C client/clone status --porcelain)"
	is 'git: pushed' "$("${GIT[@]}" -C client/clone rev-parse HEAD)" "$("${GIT[@]}" -C mnt/repo rev-parse other)"
	# Times that a client of v4.2 has from a delegation end with the server.
	is 'rsync: nothing to do after a new mount' '' "$(rsync -aHinc --no-times client/tree/ client/copy)"
	if [ "$1" = 4.2 ]; then
		check 'fallocate of a lower file' fallocate -l 100000 client/tree/c
		is 'is seen below' 100000 "$(stat -c %s upper/tree/c)"
		check 'a hole' fallocate -p -o 0 -l 4096 client/tree/c
		is 'reads as zeros' 0 "$(head -c 4096 client/tree/c | tr -d '\0' | wc -c)"
		check 'copied by the server' cp --reflink=never client/tree/sub/b client/tree/d
		prints 'as it was' more cat mnt/tree/d
	fi
	ended
}

if start_server; then
	repository "$BASE/repository"
	for version in 3 4.2; do
		ON=" [v$version]"
		through $version
		programs $version "$BASE/repository"
	done
	ON=
	stop_server
else
	skip 'through NFS' "$WHY"
fi
done_testing
