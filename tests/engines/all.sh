# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by overlayfs.sh and drop-in.sh in the guest: each client's script, with its results nested in theirs, as root, or as a user
# where it is called NAME-rootless.sh. What they observed goes to the third disk as a tar.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"

work=/var/tmp/engines
export OBSERVED_ALL=$work/observed TREE=$work/tree IMAGE=$work/image.tar

overlay_taint() {
	modprobe overlay
	tr -dc O </sys/module/overlay/taint
}

# A small root, old enough to tell what was changed from what was not.
make_tree() {
	local d
	mkdir -p "$TREE"/{bin,etc,tmp,proc,sys,dev,run,usr/lib,root,var,vol,data/deep/er}
	cp /bin/busybox "$TREE/bin/"
	for d in $("$TREE/bin/busybox" --list); do ln -s busybox "$TREE/bin/$d"; done
	rm -f "$TREE/bin/init"
	install "$HERE/change" "$HERE/view" "$TREE/bin/"
	echo 'root:x:0:0::/root:/bin/sh' >"$TREE/etc/passwd"
	echo 'root:x:0:' >"$TREE/etc/group"
	printf 'ID=rovl-test\nVERSION_ID=1\n' >"$TREE/usr/lib/os-release"
	ln -s ../usr/lib/os-release "$TREE/etc/os-release"
	for d in append mode owner gone moved linked truncated; do echo "$d" >"$TREE/data/$d"; done
	for d in dir-gone dir-new dir-moved; do mkdir "$TREE/data/$d" && echo "$d" >"$TREE/data/$d/file"; done
	ln "$TREE/data/linked" "$TREE/data/linked-too"
	chmod 4755 "$TREE/data/mode"
	find "$TREE" -exec touch -h -d 2001-01-01 {} +
}

# The same as an image that docker saved: two layers, the second with a whiteout and an opaque directory.
make_image() {
	local work=$work/image id layers=() ids=()
	mkdir -p "$work/top/data/dir-gone" "$work/image"
	: >"$work/top/data/.wh.gone"
	: >"$work/top/data/dir-gone/.wh..wh..opq"
	echo instead >"$work/top/data/dir-gone/instead"
	find "$work/top" -exec touch -h -d 2001-01-01 {} +
	tar --sort=name -C "$TREE" -cf "$work/image/0.tar" .
	tar -C "$work/top" -cf "$work/image/1.tar" data
	for id in 0 1; do
		layers+=("\"$id.tar\"")
		ids+=("\"sha256:$(sha256sum "$work/image/$id.tar" | cut -c1-64)\"")
	done
	printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[%s,%s]}}' \
		"${ids[@]}" >"$work/image/config.json"
	printf '[{"Config":"config.json","RepoTags":["localhost/base:latest"],"Layers":[%s,%s]}]' "${layers[@]}" >"$work/image/manifest.json"
	tar -C "$work/image" -cf "$IMAGE" manifest.json config.json 0.tar 1.tar
	rm -r "$work"
}

# The lines of the kernel's log that speak of overlays, after the first $1 ones.
overlay_log() { dmesg --notime | tail -n "+$(($1 + 1))" | grep -E '^(overlay|rovl)'; }

one_client() { # NAME
	local name=$1 start=$SECONDS scratch=$work/scratch/$1 TREE=$TREE variable lines run rc=0
	export OBSERVED=$OBSERVED_ALL/$name
	mkdir -p "$OBSERVED"
	lines=$(dmesg | wc -l)
	run=(env "SCRATCH=$scratch")
	mkdir -p "$scratch"
	case $name in *-rootless)
		# What is another's can't be changed there.
		cp -a "$TREE" "$TREE-user"
		TREE+=-user
		chown -R user: "$OBSERVED" "$scratch" "$TREE"
		run=(systemd-run --user -M user@ --pipe --wait -q --collect -p Delegate=yes -E "SCRATCH=$scratch")
		for variable in HERE OBSERVED TREE IMAGE FSTYPE; do run+=(-E "$variable=${!variable}"); done
		;;
	esac
	timeout "${CLIENT_TIMEOUT:-1200}" "${run[@]}" bash "$HERE/client-$name.sh" >"$OBSERVED.ktap" 2>&1 </dev/null || rc=$?
	rm -rf "$scratch" "$work/tree-user"
	sed 's/^/    /' "$OBSERVED.ktap"
	overlay_log "$lines" >"$OBSERVED/kernel-log"
	echo "# $name took $((SECONDS - start)) s"
	if [ $rc = 0 ]; then ok "$name"; else not_ok "$name" "status $rc" "$(tail -n 5 "$OBSERVED.ktap")"; fi
}

all_clients() {
	local file name glob globs
	read -ra globs <"$HERE/clients"
	mkdir -p "$OBSERVED_ALL"
	check 'a tree' make_tree
	check 'an image of it' make_image
	dpkg-query -W >"$OBSERVED_ALL/versions"
	for file in "$HERE"/client-*.sh; do
		name=${file##*/client-}
		name=${name%.sh}
		for glob in "${globs[@]}"; do
			# shellcheck disable=SC2254
			case $name in $glob) one_client "$name" && break ;; esac
		done
	done
	tar -C "$OBSERVED_ALL" -cf /dev/vdc . || not_ok 'what was observed is kept' "$?"
	done_testing
}
