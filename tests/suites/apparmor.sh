#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# AppArmor: profiles go by the path that a program uses. One that knows the union's paths lets it do there what they
# say, whichever layer a file is on and whether it is copied up; one that knows a layer's paths does not reach
# into the union. Those who mount are confined by theirs when the union uses the layers.
#
# Boot: lsm=apparmor
# Kernel: lsm
. "${0%/*}/lib.sh"

mount -t securityfs securityfs /sys/kernel/security 2>"$SEEN"
if [ "$(cat /sys/module/apparmor/parameters/enabled 2>>"$SEEN")" != Y ]; then
	not_ok 'AppArmor is on' "$(cat "$SEEN")"
	done_testing
fi

# profile NAME [FLAGS]: loads one from standard input, on top of what every program needs.
profile() {
	{
		echo "profile $1 flags=(${2:-enforce}) {"
		echo 'capability, signal, file rw /dev/**, file r /proc/**, file rw /proc/*/attr/**, file r /etc/**,'
		echo 'file mrix /usr/**, file rw "'"$SEEN"'",'
		cat
		echo '}'
	} | apparmor_parser -r -K 2>"$SEEN" || not_ok "the profile $1" "$(cat "$SEEN")"
}
confined() { aa-exec -p "$1" -- "${@:2}"; } # PROFILE COMMAND...

# Everything of the union may be read below `open`, changed below `changed`, nothing is allowed elsewhere.
programs() {
	layers
	local n d
	for d in open changed closed; do
		mkdir lower1/$d
		for n in file other gone; do put lower1/$d/$n lower; done
		mkdir -p upper/$d
		put upper/$d/upper upper
	done
	mnt
	profile rovl_union <<-END
		file r "$PWD/mnt/{,open/**,changed/}",
		file rwl "$PWD/mnt/changed/**",
	END
	for n in open/file open/upper changed/file changed/upper; do
		prints "reading $n" "$(cat mnt/$n)" confined rovl_union cat mnt/$n
	done
	for n in closed/file closed/upper; do fails "reading $n" EACCES confined rovl_union cat mnt/$n; done
	fails 'listing' EACCES confined rovl_union ls mnt/closed
	for d in open closed; do
		for n in file upper; do
			fails "$d: appending to $n" EACCES confined rovl_union bash -c "echo x >>mnt/$d/$n"
			fails "$d: truncating $n" EACCES confined rovl_union truncate -s 0 mnt/$d/$n
			fails "$d: chmod of $n" EACCES confined rovl_union chmod 600 mnt/$d/$n
			fails "$d: removing $n" EACCES confined rovl_union rm -f mnt/$d/$n
			fails "$d: moving $n" EACCES confined rovl_union mv mnt/$d/$n mnt/$d/moved
			fails "$d: linking $n" EACCES confined rovl_union ln mnt/$d/$n mnt/changed/$d-$n
		done
		fails "$d: a new file" EACCES confined rovl_union bash -c "echo x >mnt/$d/new"
		fails "$d: a new directory" EACCES confined rovl_union mkdir mnt/$d/new
		is "$d: nothing was copied up" upper "$(listing upper/$d | tr -d ' ')"
	done
	check 'appending' confined rovl_union bash -c 'echo x >>mnt/changed/file'
	check 'truncating' confined rovl_union bash -c ': >mnt/changed/other'
	check 'chmod' confined rovl_union chmod 600 mnt/changed/file
	check 'moving' confined rovl_union mv mnt/changed/file mnt/changed/moved
	check 'removing' confined rovl_union rm mnt/changed/gone
	check 'a new file over it' confined rovl_union bash -c 'echo x >mnt/changed/gone'
	check 'a new directory' confined rovl_union mkdir mnt/changed/dir
	prints 'what was copied up can be read' 'lower x' confined rovl_union bash -c 'echo $(<mnt/changed/moved)'
	check 'copied up by another' touch -d 2001-01-01 mnt/open/file mnt/closed/file
	prints 'what may be read still may' lower confined rovl_union cat mnt/open/file
	fails 'what may not may not' EACCES confined rovl_union cat mnt/closed/file
	fails 'the layers are not the union' EACCES confined rovl_union cat lower1/open/file
	umnt
}

# A profile for the paths of a layer.
of_layers() {
	layers
	put lower1/file lower
	put upper/own upper
	mnt
	profile rovl_layer <<-END
		file r "$PWD/{lower1,upper}/**",
	END
	prints 'a lower layer' lower confined rovl_layer cat lower1/file
	prints 'upper' upper confined rovl_layer cat upper/own
	fails 'not what the union shows of lower' EACCES confined rovl_layer cat mnt/file
	fails 'nor of upper' EACCES confined rovl_layer cat mnt/own
	umnt
}

# A program gets the profile of the path by which it is run.
attached() {
	layers
	cp /usr/bin/cat lower1/prog
	put lower1/file lower
	put lower1/other lower
	mnt
	echo "file mr \"$PWD/mnt/{prog,file}\"," | profile "rovl_prog \"$PWD/mnt/prog\""
	prints 'a program of the lower layer' 'rovl_prog (enforce)' mnt/prog /proc/self/attr/current
	prints 'by its path there' unconfined lower1/prog /proc/self/attr/current
	prints 'what its profile says' lower mnt/prog mnt/file
	fails 'what it does not' EACCES mnt/prog mnt/other
	check 'copied up' touch -d 2001-01-01 mnt/prog mnt/other
	prints 'the copy' 'rovl_prog (enforce)' mnt/prog /proc/self/attr/current
	prints 'what its profile says' lower mnt/prog mnt/file
	fails 'what it does not' EACCES mnt/prog mnt/other
	umnt
}

# Who mounts is confined, too, when the union uses the layers; their paths begin at the root of the layer's filesystem,
# which is mounted at $BASE, and lead to no mount that AppArmor knows.
mounter() {
	layers
	local n here=${PWD#"$BASE"}
	for n in open changed closed; do
		mkdir lower1/$n
		put lower1/$n/file lower
	done
	profile rovl_mounter attach_disconnected <<-END
		mount, umount,
		file r /,
		file r "$PWD/{,**}",
		file rw "$PWD/{upper,work}/**",
		file r "$here/{,upper/,work/,lower1/}",
		file r "$here/lower1/{open,changed}/{,**}",
		file rw "$here/{upper,work}/**",
	END
	check 'a mount by a confined one' confined rovl_mounter mount -t "$FSTYPE" -o "$LAYERS" "$FSTYPE" mnt
	prints 'reading what it may' lower cat mnt/open/file
	fails 'reading what it may not' EACCES cat mnt/closed/file
	check 'writing' add mnt/changed/file more
	prints 'what was written' $'lower\nmore' cat mnt/changed/file
	fails 'what may not be read is not copied up' EACCES touch -d 2001-01-01 mnt/closed/file
	umnt
}

# AppArmor's link to the policy of the namespace moves the walk that it is met in: for readlink() and a copy-up there is none.
moving_links() {
	if [ "$FSTYPE" = overlay ]; then
		skip 'a link that moves the walk' 'overlayfs: null pointer dereference in nd_jump_link()'
		return
	fi
	layers
	LAYERS=lowerdir=/sys/kernel/security/apparmor:lower1,upperdir=upper,workdir=work mnt
	check 'it is there' test -L mnt/policy
	fails 'reading where it leads' ELOOP readlink -v mnt/policy
	fails 'going there' ELOOP ls mnt/policy/
	fails 'copying it up' ELOOP chown -h 5 mnt/policy
	is 'nothing was copied up' '' "$(ls -A upper)$(ls -A work/work)"
	umnt
}

for part in programs of_layers attached mounter moving_links; do on_each_upper $part; done
umount /sys/kernel/security
done_testing
