# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034,SC2317 # scripts/deb-test sources this file and has the rest
# What scripts/deb-test looks at: each function boots_NAME is a suite.

# What needs no guest.
boots_packages() {
	local file tree=$out/packages/tree release ko
	for file in "$deb"/*.deb; do
		check "unpack ${file##*/}" dpkg-deb -x "$file" "$tree"
		check "what it is" test -n "$(dpkg-deb -f "$file" Maintainer Section Description)"
	done
	check 'lintian' lintian --allow-root --fail-on error,warning "$deb"/*.changes
	check 'the command runs, with nothing but itself' env -i "$tree/usr/bin/rovl" --version
	check 'mount(8) finds its helper' [ "$(readlink -f "$tree/usr/sbin/mount.rovl")" = "$(readlink -f "$tree/usr/bin/rovl")" ]
	check 'completion' bash -nc "$(cat "$tree/usr/share/bash-completion/completions/rovl")"
	for file in man1/rovl.1 man1/rovl-status.1 man8/mount.rovl.8 man7/rovl-boot.7; do
		check "manual page ${file##*/}" gzip -t "$tree/usr/share/man/$file.gz"
	done
	check 'the drop-in is not chosen' grep -q '^#install overlay ' "$tree/etc/modprobe.d/rovl.conf"
	for file in "$tree"/usr/src/rovl-*; do
		check 'the source has a version' grep -qx "PACKAGE_VERSION=\"${file##*/rovl-}\"" "$file/dkms.conf"
		check 'all of the source' diff -r "$TOP/src" "$file/src"
	done
	release=$(cd "$tree/usr/lib/modules" 2>/dev/null && echo *) || { echo "ok $((++count)) modules # SKIP no rovl-modules: made without"; return; }
	ko=$tree/usr/lib/modules/$release/updates/rovl
	check "rovl is for $release" test "$(modinfo -F vermagic "$ko/rovl.ko" | cut -d' ' -f1)" = "$release"
	check 'rovl is found by its type' test "$(modinfo -F alias "$ko/rovl.ko")" = fs-rovl
	check 'the drop-in is the module overlay' test "$(modinfo -F name "$ko/rovl-overlay.ko")" = overlay
	check 'the drop-in is not found by its type' test -z "$(modinfo -F alias "$ko/rovl-overlay.ko")"
	check 'depmod takes both' depmod -b "$tree/usr" "$release"
}

# The source, where there are complete headers, and where there are none.
boots_dkms() {
	local rc=0
	"$TOP/live/kernel" --dkms /bin/bash /rovl/tests/deb/dkms.sh >"$out/dkms/ktap" 2>"$out/dkms/errors" || rc=$?
	sed 's/^/    /' "$out/dkms/ktap"
	result 'in a Debian with dkms' $rc "$(cat "$out/dkms/errors")"
}

# From the installation to its end, over reboots. The kernel and the initramfs are the system's own of the moment.
boots_system() {
	local system=$out/system/system.ext4 release script
	check 'the next version of the packages' env VERSION="$(dpkg-deb -f "$deb"/rovl-tools_*.deb Version)+next" "$TOP/scripts/deb" "$out/next"
	check 'the disk of the test' test_disk
	cp --sparse=always "$(system_image deb busybox)" "$system"
	release=$(dpkg-deb -f "$deb"/rovl-modules*.deb Package)
	release=${release#rovl-modules-}
	for script in install switch drop-in remove removed; do
		boot_system "$system" cache=unsafe "$release" $script
		check 'its filesystem is clean' e2fsck -fn "$system"
	done
}
