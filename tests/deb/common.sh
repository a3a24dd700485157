# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by the scripts beside it, in the guest.

apt_get() { apt-get -y -q -o Dpkg::Use-Pty=0 "$@" </dev/null; }

healthy() {
	is 'the system is up' running "$(timeout 1200 systemctl is-system-running --wait)"
	is 'no unit failed' '' "$(systemctl --failed --plain --no-legend)"
}

fails_with() { # TEXT NAME COMMAND...
	local text=$1 name=$2 said
	shift 2
	if said=$("$@" 2>&1); then not_ok "$name" 'it succeeded'; return; fi
	case $said in *"$text"*) ok "$name" ;; *) not_ok "$name" "$said" ;; esac
}

prints_status() { # NAME EXIT-CODE REGEX...: lines of `rovl status`
	local name=$1 want=$2 said rc=0 regex
	shift 2
	said=$(rovl status 2>&1) || rc=$?
	[ $rc = "$want" ] || { not_ok "$name" "exit code $rc: $said"; return; }
	for regex; do
		grep -qE "^$regex" <<<"$said" || { not_ok "$name" "no line '$regex': $said"; return; }
	done
	ok "$name"
}

# A mount of type overlay works, and is the drop-in's or the kernel's as $drop_in says (yes, no).
overlay_works() {
	local taint
	mkdir -p /srv/overlay/{lower,upper,work,merged}
	echo lower >/srv/overlay/lower/file
	check 'a mount of type overlay' mount -t overlay \
		-o lowerdir=/srv/overlay/lower,upperdir=/srv/overlay/upper,workdir=/srv/overlay/work none /srv/overlay/merged
	check 'it is written to' touch /srv/overlay/merged/file
	is 'it shows the lower file' lower "$(cat /srv/overlay/merged/file)"
	taint=$(cat /sys/module/overlay/taint)
	case ${drop_in:?} in
	yes) is 'overlay is the drop-in' O "${taint//[^O]/}" ;;
	no) is "overlay is the kernel's own" '' "$taint" ;;
	esac
	check 'overlay is unmounted' umount /srv/overlay/merged
}

fstab_mount() {
	is 'the mount of fstab is there' rovl "$(findmnt -no FSTYPE /merged)"
	is 'with what was changed before' changed "$(cat /merged/file)"
}

# The lines of Documentation/install.rst.
switch_on() { sed -i 's/^#install overlay/install overlay/' /etc/modprobe.d/rovl.conf && update-initramfs -u; }
switch_back() { sed -i 's/^install overlay/#install overlay/' /etc/modprobe.d/rovl.conf && update-initramfs -u; }
