# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by client-*.sh, in the guest. What they observe lies in $OBSERVED and is compared by tests/engines/compare.
# shellcheck source=tests/suites/lib.sh
. "${HERE:?}/lib.sh"
cd "$SCRATCH" || exit 1
: "${TREE:?}" "${IMAGE:?}" "${OBSERVED:?}"

# Names that are another each time: digests, layers' folders.
# shellcheck disable=SC2016 # perl's
normal() {
	perl -pe 's{\b[0-9a-f]{64}\b}{ID}g; s{\b[0-9a-f]{12}\b}{ID}g;
		s{((?:lower|upper|work|data)dir\+?)=([^ ,\n]*)}{"$1=" . join ":", map { m{/mapped/} ? "mapped" : length ? "L" : "" } split /:/, $2}ge'
}

# The command succeeds; what it prints is compared.
observe() { # NAME COMMAND...
	local name=$1
	shift
	# shellcheck disable=SC2016 # the inner shell's
	check "$name" bash -o pipefail -c 'name=$1; shift; "$@" >"$OBSERVED/$name"' - "$name" "$@"
	normal <"$OBSERVED/$name" >"$SCRATCH/normal" && cat "$SCRATCH/normal" >"$OBSERVED/$name"
}

# With the tree's own programs, outside of a container.
change_in() { env PATH="$TREE/bin" sh "$TREE/bin/change" "$1"; } # DATA
view_of() { env PATH="$TREE/bin" sh "$TREE/bin/view" "$1"; } # DATA
export -f change_in view_of

# The layer that was written, with its marks.
keep_upper() { tar --xattrs --xattrs-include='*' -C "$1" -cf "$OBSERVED/${2:-upper}.tar" .; } # FOLDER [NAME]

# Beside NAME.tar the layer that `rovl diff` makes of the mount that COMMAND tells, where there is the command; in the namespace that
# INSIDE enters.
INSIDE=()
rovl_layer() { # NAME COMMAND
	! command -v rovl >"$SEEN" ||
		check "rovl diff --tar: $1" "${INSIDE[@]}" bash -c "rovl diff --tar \"\$($2)\" >'$OBSERVED/$1-rovl.tar'"
}

# ---- clients with docker's command line: ENGINE is the command ------------------------------

export DOCKER_BUILDKIT=0
engine() { timeout 300 "${ENGINE[@]}" "$@"; }

# engine_check NAME ARGUMENT..., engine_observe NAME ARGUMENT...
engine_check() { check "$1" timeout 300 "${ENGINE[@]}" "${@:2}"; }
engine_observe() { observe "$1" timeout 300 "${ENGINE[@]}" "${@:2}"; }

engine_image() {
	engine_check 'load an image' load -i "$IMAGE"
	mkdir -p build
	echo note >build/note
	cat >build/Dockerfile <<-'END'
		FROM localhost/base
		RUN view >/build-view && sed -n '/ \/ overlay /{s/\/[^:, ]*/L/g;p}' /proc/mounts >/build-mount
		COPY note /data/deep/note
		RUN echo built >>/data/append && rm -r /data/dir-gone && mkdir /data/dir-gone && chown 3:3 /data/owner
	END
	engine_check 'build' build --network none -t localhost/built build
}

# A container runs, and is committed; with these options of `run`.
engine_run() {
	engine_check 'run' run -d --pull never --name one --network none -v volume:/vol "$@" localhost/built sleep 10000
	engine_observe 'mount' exec one grep ' / ' /proc/mounts
	engine_observe 'build-mount' exec one cat /build-mount
	engine_check 'exec' exec one change
	engine_check 'a volume' exec one sh -c 'echo kept >/vol/file'
	engine_observe 'diff' diff one
	sort -o "$OBSERVED/diff" "$OBSERVED/diff"
	engine_observe 'view' exec one view
	engine_check 'commit' commit one localhost/committed
	engine_check 'save' save -o "$OBSERVED/committed.tar" localhost/committed
}

# What else there is to do with it.
engine_more() {
	engine_check 'cp into' cp build/note one:/data/dir-there/note
	engine_check 'cp out' cp one:/data/dir-there/note note
	is 'the same' note "$(cat note)"
	engine_check 'stop' stop -t 0 one
	engine_check 'start' start one
	engine_observe 'view-again' exec one view
	engine_check 'export' export -o "$OBSERVED/exported.tar" one
	engine_observe 'view-committed' run --rm --pull never --network none localhost/committed view
	engine_observe 'volume' run --rm --pull never --network none -v volume:/vol localhost/committed cat /vol/file
}

engine_end() {
	engine_check 'rm' rm -f one
	engine_check 'volume rm' volume rm volume
	engine_check 'prune' system prune -a -f
	is 'no image is left' '' "$(engine images -q)"
}

PODMAN_DRIVER='{{.Store.GraphDriverName}} {{.Store.GraphStatus}}'
DOCKER_DRIVER='{{.Driver}} {{.DriverStatus}}'

# podman_short [OPTION]...: of ENGINE, with these options of `run`.
podman_short() {
	engine_observe 'driver' info -f "$PODMAN_DRIVER"
	engine_image
	engine_run "$@"
	engine_end
	done_testing
}

# docker_daemon CONFIGURATION: that of no network, and this one.
docker_daemon() {
	mkdir -p /etc/docker
	echo "{\"bridge\":\"none\",\"iptables\":false,\"ip6tables\":false$1}" >/etc/docker/daemon.json
	check 'the daemon' systemctl start docker
	engine_observe 'driver' info -f "$DOCKER_DRIVER"
}

# ---- containerd by ctr ------------------------------------------------------------------

# With the options of `ctr run`.
# shellcheck disable=SC2120
ctr_life() {
	observe 'driver' bash -c 'ctr plugins ls | grep -o "snapshotter.* overlayfs .* ok"'
	check 'load an image' ctr images import "$IMAGE"
	check 'run' ctr run -d "$@" localhost/base:latest one sleep 10000
	observe 'mount' ctr task exec --exec-id e1 one grep ' / ' /proc/mounts
	check 'exec' ctr task exec --exec-id e2 one change
	observe 'view' ctr task exec --exec-id e3 one view
	check 'diff' bash -c "ctr snapshots diff one >'$OBSERVED/diff.tar'"
	[ -z "${ROOTFS-}" ] || rovl_layer diff "echo '$ROOTFS'"
	check 'kill' ctr task kill -s KILL one
	check 'the task ends' timeout 100 bash -c 'while ctr task ls | grep -q RUNNING; do sleep 1; done'
	check 'task rm' ctr task rm one
	check 'commit' ctr snapshots commit committed one
	check 'prepare' ctr snapshots prepare two committed
	mkdir -p mnt
	check 'the mount that it names' bash -c 'ctr snapshots mounts mnt two | sh'
	observe 'view-committed' view_of mnt/data
	umount mnt
	check 'snapshot rm' ctr snapshots rm two committed
	check 'container rm' ctr container rm one
	check 'image rm' ctr images rm --sync localhost/base:latest
	is 'no snapshot is left' KEY "$(ctr snapshots ls | awk '{ print $1 }')"
}
