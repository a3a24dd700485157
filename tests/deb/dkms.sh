#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# In the Debian of live/kernel with dkms: its headers are Debian's, which lack the metadata; /build has it.
export FSTYPE=tmpfs
# shellcheck source=tests/suites/lib.sh
. /rovl/tests/suites/lib.sh

release=$(cd /usr/src && echo linux-headers-*-amd64)
release=${release#linux-headers-}
deb=$(echo /rovl/build/deb/rovl-dkms_*.deb)
version=$(dpkg-deb -f "$deb" Version)
log=/var/lib/dkms/rovl/$version/build/make.log
kernel=$SCRATCH/kernel

# shellcheck disable=SC2317 # says calls it
dkms_build() { dkms build -m rovl -v "$version" -k "$release" --kernelsourcedir "$1"; }

# says TEXT NAME COMMAND...: it does not fail apt, and says so in one line.
says() {
	local text=$1 name=$2 said rc=0
	shift 2
	said=$("$@" 2>&1) || rc=$?
	case $rc in 0 | 77) ;; *) not_ok "$name" "status $rc" "$said" && return ;; esac
	case $said in *"rovl: not built: "*"$text"*) ok "$name" ;; *) not_ok "$name" "$said" ;; esac
}

# fake SED...: the folder of a kernel, with Debian's configuration changed so; it prints its path.
fake() {
	rm -rf "$kernel"
	mkdir -p "$kernel/include/config" "$kernel/rust"
	sed "$@" "/usr/src/linux-headers-$release/.config" >"$kernel/.config"
	echo "${FAKE_RELEASE:-$release}" >"$kernel/include/config/kernel.release"
	cp "/usr/src/linux-headers-$release/Makefile" "$kernel/"
	printf '%s\n' "$kernel"
}

dpkg --purge rovl-dkms rovl-tools >/dev/null 2>&1
says "as Debian's do: install rovl-modules-$release" 'for headers without metadata, the binary package' \
	dpkg -i /rovl/build/deb/rovl-tools_*.deb "$deb"
is 'the package is installed' 'install ok installed' "$(dpkg-query -W -f '${Status}' rovl-dkms)"
says 'has no Rust support: build it with CONFIG_RUST=y' 'no CONFIG_RUST' dkms_build "$(fake '/^CONFIG_RUST=/d')"
says 'needs Linux 7.3 or newer' 'an older kernel' dkms_build "$(FAKE_RELEASE=6.12.9-amd64 fake '')"
said=$(dkms_build "$(FAKE_RELEASE=7.99.1-amd64 fake '')" 2>&1) || true
case $said in
*'rovl: warning: '*'rovl was seen passing its tests on 7.3'*) ok 'a kernel that it was not seen on' ;;
*) not_ok 'a kernel that it was not seen on' "$said" ;;
esac
says "was built with 'rustc 1.99" 'another rustc' dkms_build "$(fake 's/^CONFIG_RUSTC_VERSION_TEXT=.*/CONFIG_RUSTC_VERSION_TEXT="rustc 1.99"/')"
mv /usr/bin/bindgen /usr/bin/bindgen.away
says 'no bindgen' 'no bindgen' dkms_build /build
mv /usr/bin/bindgen.away /usr/bin/bindgen

check 'dkms builds with complete headers' dkms_build /build
cat "$log" /var/lib/dkms/rovl/"$version"/*/*/log/make.log 2>/dev/null | sed 's/^/# /'
check 'dkms installs' dkms install -m rovl -v "$version" -k "$release"
is 'dkms status' "rovl/$version, $release, x86_64: installed" "$(dkms status)"
for file in rovl rovl-overlay; do
	ko=$(find "/lib/modules/$release/updates/dkms" -name "$file.ko*")
	is "$file is for the kernel" "$release" "$(modinfo -F vermagic "$ko" | cut -d' ' -f1)"
	check "$file is signed with the machine's key" [ -n "$(modinfo -F signer "$ko")" ]
done
is 'the drop-in is not found by its type' '' "$(modinfo -F alias "$ko")"
check 'dkms removes' dpkg --purge rovl-dkms
is 'nothing is left' '' "$(find /lib/modules /usr/src /var/lib/dkms -name '*rovl*')"
dpkg --purge rovl-tools >/dev/null
done_testing
