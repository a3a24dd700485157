# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by the scripts beside it: where things lie, how to talk to the user.

set -euo pipefail

# The caller's make is not the one that builds the kernel or the module.
unset MAKEFLAGS MFLAGS MAKELEVEL

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${ROVL_CACHE:-${HOME:?}/.cache/rovl}
BUILD=$TOP/build
# Where the kernel's source is, with its package's version; another than the usual one has a place of its own.
SOURCES=$CACHE/src${KERNEL_SOURCE:+/of/$(tr -c 'a-z0-9.\n' - <<<"$KERNEL_SOURCE")}
# shellcheck disable=SC2034 # read by the scripts that source this file
{
	KERNEL=${KERNEL:-base}
	JOBS=${JOBS:-$(nproc)}
}

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# step TEXT CMD...: runs CMD with a line before it and the time it took after it.
step() {
	local text=$1 start=$SECONDS
	shift
	say "$text"
	"$@"
	say "$text: done in $((SECONDS - start)) s"
}

# quiet LOG CMD...: CMD's output goes to LOG; it is shown only if CMD fails.
quiet() {
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" >"$log" 2>&1; then
		tail -n 40 "$log" >&2
		die "'$*' failed; the whole log is $log"
	fi
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# The distribution's toolchain. A rustup toolchain may come first in PATH, but
# it can't read what the distribution's compiler wrote, so every path is absolute.
RUSTC=/usr/bin/rustc
BINDGEN=$CACHE/bindgen/bin/bindgen
llvm_major() { "$RUSTC" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'; }

# The arguments that every kernel make call takes.
kmake_args() {
	printf '%s\n' "LLVM=-$(llvm_major)" RUSTC=$RUSTC RUSTDOC=/usr/bin/rustdoc \
		RUSTFMT=/usr/bin/rustfmt CLIPPY_DRIVER=/usr/bin/clippy-driver "BINDGEN=$BINDGEN"
}

# plugin FILE: builds tests/bench/plugin.c. QEMU refuses a plugin of a version that it
# does not know, and knows 2 and more since its release 9, 3 since 9.1.
plugin() {
	local release version=3
	release=$(qemu-system-x86_64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
	[ "$release" -ge 9 ] || version=1
	"clang-$(llvm_major)" -shared -fPIC -O2 -Wall -Werror -fvisibility=hidden -DPLUGIN_VERSION=$version \
		"$TOP/tests/bench/plugin.c" -o "$1"
}

# The kernel source that set-up unpacked, and the version of its package.
have_source() { [ -e "$SOURCES/current/Makefile" ] && [ -e "$SOURCES/version" ]; }
need_source() { have_source || die "no kernel source in $SOURCES: run 'make setup'"; }
kernel_source() {
	need_source
	readlink -f "$SOURCES/current"
}
kernel_version() {
	need_source
	cat "$SOURCES/version"
}

# The mirror that the machine's apt uses for Debian's main archive.
debian_mirror() {
	local uri
	# shellcheck disable=SC2016 # apt expands these
	uri=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' |
		awk '$2 == "Debian" { print $1; exit }')
	[ -n "$uri" ] || die "apt knows no Debian archive: check its sources and run 'apt-get update'"
	printf '%s\n' "$uri"
}

debian_keyring() {
	local k=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -e $k ] || die "no $k: install debian-archive-keyring"
	printf '%s\n' $k
}

# cargo with its downloads in the cache, but with the user's registry settings,
# and with the distribution's compiler.
with_cargo() {
	local home=$CACHE/cargo from=${CARGO_HOME:-$HOME/.cargo}
	mkdir -p "$home"
	[ ! -e "$from/config.toml" ] || ln -sf "$from/config.toml" "$home/config.toml"
	CARGO_HOME=$home CARGO_TARGET_DIR=$BUILD/cargo RUSTC=$RUSTC RUSTDOC=/usr/bin/rustdoc \
		RUSTFMT=/usr/bin/rustfmt cargo "$@"
}

# static_program FOLDER NAME: builds the program of that crate, statically, since the guest has another C library;
# it is build/tests/NAME.
static_program() {
	quiet "$BUILD/log/${1##*/}.log" with_cargo build --release --locked --manifest-path "$TOP/$1/Cargo.toml" \
		--config "$TOP/$1/.cargo/config.toml"
	mkdir -p "$BUILD/tests"
	cp "$BUILD/cargo/x86_64-unknown-linux-gnu/release/$2" "$BUILD/tests/"
}

# chosen NAME GLOBS: whether one of the globs, with blanks between, is that of the name.
chosen() {
	local glob globs
	read -ra globs <<<"$2"
	for glob in "${globs[@]}"; do
		# shellcheck disable=SC2254
		case $1 in $glob) return 0 ;; esac
	done
	return 1
}

# The versions in scripts/kernels, a line each.
kernels_seen() { sed -n 's/^\([0-9][^[:space:]]*\).*/\1/p' "$TOP/scripts/kernels"; }

# cfsctl [FEATURE]: the command of composefs, from the crates' registry. It mounts by what Linux 6.15 brought, with the feature
# rhel9 by what was there before, and images by loop devices. It is build/tests/cfsctl or build/tests/cfsctl-FEATURE.
COMPOSEFS=0.9.4 COMPOSEFS_RUST=1.88
cfsctl() {
	local name=cfsctl${1:+-$1} root
	root=$CACHE/composefs/$COMPOSEFS${1:+-$1}
	[ -x "$root/bin/cfsctl" ] || step "building cfsctl $COMPOSEFS" quiet "$BUILD/log/$name.log" build_cfsctl "$root" "$@"
	mkdir -p "$BUILD/tests"
	cp "$root/bin/cfsctl" "$BUILD/tests/$name"
}

# It wants a newer compiler than the distribution's: the first one in PATH.
can_build_cfsctl() { printf '%s\n' $COMPOSEFS_RUST "$(rustc --version | cut -d' ' -f2)" | sort -CV; }
build_cfsctl() { # FOLDER [FEATURE]
	local RUSTC=rustc
	with_cargo install composefs-ctl --version "$COMPOSEFS" --locked --root "$1" --no-default-features ${2:+--features "$2"}
}

# guest_program CRATE: that of tests/CRATE, build/tests/rovl-CRATE.
guest_program() { static_program "tests/$1" "rovl-$1"; }

# tool: the command `rovl`, build/tests/rovl.
tool() { static_program tools rovl; }

# beside OVERLAY.KO OUT: the drop-in as a file that lies beside the kernel's own overlay.ko: a module that depmod does not
# list for the filesystem type, so that the kernel loads it where it was chosen alone.
beside() {
	local info
	info=$(mktemp)
	objcopy -O binary --only-section=.modinfo "$1" "$info"
	grep -zvxF alias=fs-overlay "$info" >"$info.new"
	objcopy --update-section ".modinfo=$info.new" "$1" "$2"
	rm "$info" "$info.new"
}
