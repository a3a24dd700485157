#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# SELinux with Debian's policy and tests/selinux/rovl.cil: which labels copies and new objects have, what
# the mount options for labels do, who is refused, and what callers and mounters are asked for.
# The records of what was asked are lost where more than the usual 64 wait to be written.
#
# Boot: lsm=selinux audit_backlog_limit=8192
# Kernel: lsm
. "${0%/*}/lib.sh"

POLICY=/sys/fs/selinux
if ! load_policy -i >"$SEEN" 2>&1 || [ ! -e $POLICY/enforce ]; then
	not_ok 'the policy is loaded' "$(cat "$SEEN")"
	done_testing
fi
# Nothing that is refused is left out of the kernel's log.
sysctl -qw kernel.printk_ratelimit=0

context() { echo "system_u:object_r:$1:s0"; } # TYPE
label() { setfattr -h -n security.selinux -v "$(context "$2")" "$1"; } # FILE TYPE
of() { stat -c %C "$1" 2>&1; }
# task TYPE COMMAND...: as root in that domain; user: the same without any right to pass rules.
# shellcheck disable=SC2016
task() { bash -c 'echo -n "system_u:system_r:$0:s0" >/proc/self/attr/current && "$@"' "$@"; }
enforcing() { echo "$1" >$POLICY/enforce; }

declare -A TYPE=([file]=etc_t [dir]=usr_t [link]=var_t [fifo]=var_run_t [twice]=shadow_t
	[deep]=lib_t [deep/er]=var_log_t [deep/er/file]=httpd_sys_content_t)
# Of each kind one, with its TYPE.
of_each_kind() {
	local n
	each_kind
	for n in "${!TYPE[@]}"; do label "lower1/$n" "${TYPE[$n]}"; done
}

copies() {
	layers
	of_each_kind
	mnt
	local n
	check 'files have labels' grep -q " $PWD/mnt .*,seclabel" /proc/mounts
	for n in $KINDS; do is "$n shows its label" "$(context "${TYPE[$n]}")" "$(of mnt/$n)"; done
	for n in $KINDS; do
		check "$n is copied up by another" task rovl_user_t touch -h -d 2001-01-01 "mnt/$n"
		is "$n: the copy's label" "$(context "${TYPE[$n]}")" "$(of upper/$n)"
		is "$n: still shown" "$(context "${TYPE[$n]}")" "$(of mnt/$n)"
	done
	is 'so for directories on the way' "$(context lib_t) $(context var_log_t)" "$(of upper/deep) $(of upper/deep/er)"
	again
	for n in $KINDS; do is "$n: shown by the next mount" "$(context "${TYPE[$n]}")" "$(of mnt/$n)"; done
	label mnt/deep/er/file tmp_t
	is 'a label that is set' "$(context tmp_t) $(context tmp_t)" "$(of mnt/deep/er/file) $(of upper/deep/er/file)"
	is 'lower keeps its own' "$(context httpd_sys_content_t)" "$(of lower1/deep/er/file)"
	umnt
	# The copy has the label that is enforced, which is that of when the file was first seen.
	rm -r upper work && mkdir upper work
	mnt
	is 'a label' "$(context etc_t)" "$(of mnt/file)"
	label lower1/file shadow_t
	is 'changed below' "$(context etc_t)" "$(of mnt/file)"
	check 'its copy-up by a first write' task rovl_user_t bash -c 'echo more >>mnt/file'
	is 'the label of the copy is the one shown' "$(context etc_t)" "$(of upper/file)"
	umnt
}

new_objects() {
	layers
	put lower1/gone x
	put lower1/gonedir x
	mkdir lower1/in lower1/etc
	label lower1/in rovl_shared_t
	label lower1/etc etc_t
	mkdir lower1/in/sub
	put lower1/in/away x
	label lower1/in/sub rovl_shared_t
	mnt
	rm mnt/in/away
	local n kinds=(file dir link fifo away named tmpfile sub/file)
	local -A want=([fifo]=rovl_shared_t [named]=rovl_public_t)
	make() { check "new: $1" task rovl_user_t "${@:2}"; } # NAME COMMAND...
	make file bash -c 'echo x >mnt/in/file'
	make dir mkdir mnt/in/dir
	make link ln -s file mnt/in/link
	make fifo mkfifo mnt/in/fifo
	make away bash -c 'echo x >mnt/in/away'
	make named bash -c 'echo x >mnt/in/named'
	make tmpfile perl "$SUITES/sys.pl" tmpfile mnt/in 644 mnt/in/tmpfile
	make sub/file bash -c 'echo x >mnt/in/sub/file'
	for n in "${kinds[@]}"; do
		is "new: $n has the label that the policy gives it" "$(context "${want[$n]-rovl_own_t}")" "$(of "mnt/in/$n")"
		is "new: $n has it in upper" "$(context "${want[$n]-rovl_own_t}")" "$(of "upper/in/$n")"
	done
	is 'and the directory kept its own' "$(context rovl_shared_t)" "$(of upper/in)"
	check 'passwd makes a new shadow' task passwd_t bash -c 'echo x >mnt/etc/shadow; mkdir mnt/etc/dir'
	is 'its label, and that of a directory' "$(context shadow_t) $(context etc_t)" \
		"$(of upper/etc/shadow) $(of upper/etc/dir)"
	check 'by one who says which label' bash -c "echo -n '$(context var_t)' >/proc/self/attr/fscreate; : >mnt/in/said"
	is 'it is the one' "$(context var_t) $(context var_t)" "$(of mnt/in/said) $(of upper/in/said)"
	check 'a link' task rovl_user_t ln mnt/in/fifo mnt/etc/fifo
	is 'has the label of the file' "$(context rovl_shared_t)" "$(of mnt/etc/fifo)"
	again
	for n in "${kinds[@]}"; do
		is "new: $n, the next mount" "$(context "${want[$n]-rovl_own_t}")" "$(of "mnt/in/$n")"
	done
	umnt
}

# shown OPTION: whether /proc/mounts has it.
shown() { awk -v dir="$PWD/mnt" '$2 == dir { print "," $4 "," }' /proc/mounts | grep -qF ",$1,"; }

hidden() { ! shown "$1"; }

options() {
	local etc var opt
	etc=$(context etc_t) var=$(context var_t)
	layers
	of_each_kind
	mnt "context=$etc"
	check 'context= is shown' shown "context=$etc"
	check 'there are no labels to change' hidden seclabel
	for n in $KINDS; do is "context=: the label of $n" "$etc" "$(of mnt/$n)"; done
	check 'context=: a copy' task rovl_user_t touch mnt/twice
	is 'context=: has it, too' "$etc" "$(of upper/twice)"
	check 'context=: a new file' task passwd_t bash -c 'echo x >mnt/shadow'
	is 'context=: has it, too' "$etc $etc" "$(of mnt/shadow) $(of upper/shadow)"
	fails 'context=: a label cannot be set' EOPNOTSUPP setfattr -n security.selinux -v "$var" mnt/twice
	check 'mounted anew with it' sys reconfigure mnt "context=$etc"
	fails 'mounted anew with another' EINVAL sys reconfigure mnt "context=$var"
	umnt
	mnt
	is 'without it the copy has what it was given' "$etc" "$(of mnt/twice)"
	is 'and the others are as before' "$(context var_run_t)" "$(of mnt/fifo)"
	umnt
	mnt "rootcontext=$var,fscontext=$etc,defcontext=$var"
	for opt in "rootcontext=$var" "fscontext=$etc" "defcontext=$var" seclabel; do check "$opt is shown" shown "$opt"; done
	is 'rootcontext=: the label of the root' "$var" "$(of mnt)"
	is 'and of a file' "$(context lib_t)" "$(of mnt/deep)"
	umnt
	local o=lowerdir=lower1,upperdir=upper,workdir=work
	check 'as an old mount(2) has it' sys oldmount "$FSTYPE" mnt 0 "$o,context=$var"
	check 'it is shown' shown "context=$var"
	umnt
	fails 'an unknown context' EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1 context=nonsense
	fails 'context= beside fscontext=' EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1 "context=$etc" "defcontext=$var"
	fails 'the same option twice' EINVAL sys mount "$FSTYPE" mnt lowerdir=lower1 "context=$etc" "context=$var"
}

# The caller on what the union shows, the mounter on the layers.
enforced() {
	layers
	mkdir -m 777 lower1/dir
	local n
	for n in secret public free; do put lower1/$n $n; done
	put upper/secret2 secret
	chmod 666 lower1/s* lower1/p* lower1/free upper/*
	for n in lower1/secret lower1/dir upper/secret2; do label $n rovl_secret_t; done
	label lower1/public rovl_public_t
	mnt
	enforcing 1
	for n in secret secret2; do
		fails "$n: reading" EACCES user rovl_user_t cat mnt/$n
		fails "$n: writing" EACCES user rovl_user_t bash -c "echo x >>mnt/$n"
		fails "$n: its attributes" EACCES user rovl_user_t stat mnt/$n
	done
	fails 'listing' EACCES user rovl_user_t ls mnt/dir
	fails 'making an entry' EACCES user rovl_user_t mkdir mnt/dir/new
	prints 'what the policy lets it read' public user rovl_user_t cat mnt/public
	fails 'it may not write' EACCES user rovl_user_t bash -c 'echo x >>mnt/public'
	fails 'nor change' EACCES task rovl_user_t touch -d 2001-01-01 mnt/public
	fails 'nor remove' EACCES task rovl_user_t rm -f mnt/public
	is 'nothing was copied up' secret2 "$(names upper)"
	check 'what has another label it may' user rovl_user_t bash -c 'echo x >>mnt/free'
	is 'the copy' "$(of lower1/free)" "$(of upper/free)"
	enforcing 0
	umnt
	# Who mounts may read no layer's secret; that the union gives it another label does not help.
	enforcing 1
	check 'a mount by one who may not' task rovl_user_t perl "$SUITES/sys.pl" mount "$FSTYPE" mnt \
		lowerdir=lower1 upperdir=upper workdir=work "context=$(context etc_t)"
	enforcing 0
	is 'its label is innocent' "$(context etc_t)" "$(of mnt/secret)"
	enforcing 1
	fails 'reading it' EACCES cat mnt/secret
	fails 'writing it' EACCES bash -c 'echo x >>mnt/secret'
	prints 'what the mounter may read' public cat mnt/public
	enforcing 0
	umnt
}

# ---- who is asked for what ---------------------------------------------------

# Has what was decided forgotten, which enforcing does, and waits for the thread that writes the log.
settle() {
	local before i permissive='enforcing=0 old_enforcing=1'
	before=$(dmesg | grep -c "$permissive")
	enforcing 1
	enforcing 0
	for ((i = 0; i < 100; i++)); do
		[ "$(dmesg | grep -c "$permissive")" = "$before" ] || return
		sleep 0.1
	done
	not_ok 'the log is written' "$(dmesg | tail -n 3)"
}
# asked COMMAND...: rovl_caller_t, a domain without a single rule, runs the command; what the policy was asked for is one
# line of $SCRATCH/asked for each domain, type, class and permission, all without their "rovl_" and "_t".
asked() {
	local mark=$EPOCHREALTIME
	echo "asked $mark" >/dev/kmsg
	task rovl_caller_t "$@" >"$SEEN" 2>&1
	settle
	# A program may look for a daemon that knows users.
	dmesg | sed "1,/asked $mark\$/d" |
		sed -nE 's/.*avc: +denied +\{ (.*) \} .*:rovl_(.*)_t:.* tcontext=.*:rovl_(.*)_t:.* tclass=([a-z_]*).*/\2 \3 \4 \1/p' |
		grep -v unix_stream_socket | awk '{ for (i = 4; i <= NF; i++) print $1, $2, $3, $4 = $i }' | sort -u >"$SCRATCH/asked"
}
# of_whom DOMAIN: what it was asked for, as TYPE CLASS: PERMISSION...; ...
of_whom() {
	awk -v who="$1" '$1 != who { next }
		{ kind = $2 " " $3; if (kind != last) printf "%s%s:", last ? "; " : "", kind; last = kind; printf " %s", $4 }' \
		"$SCRATCH/asked"
}
# of_more DOMAIN LIST: what it was asked for that a list of that form does not have.
of_more() {
	awk -v who="$1" -v list="$2" 'BEGIN {
		n = split(list, part, "; ")
		for (i = 1; i <= n; i++) { m = split(part[i], w, " "); for (j = 3; j <= m; j++) ok[w[1], w[2], w[j]] = 1 }
	} $1 == who && !(($2, $3 ":", $4) in ok)' "$SCRATCH/asked"
}
# asks NAME CALLER MOUNTER COMMAND...: the caller is asked for just that, the mounter for nothing else.
asks() {
	asked "${@:4}"
	is "$1: the caller is asked for" "$2" "$(of_whom caller)"
	is "$1: the mounter is asked for no more" '' "$(of_more mounter "$3")"
}

# What the mounter is asked for when something is found, read, copied up, made and removed.
FIND='lower dir: search getattr; upper dir: search getattr; mounter capability: sys_admin'
READ="$FIND; lower file: getattr open read"
COPY="$READ; lower file: link setattr write append; mounter capability: dac_override dac_read_search chown"
COPY+='; upper dir: add_name setattr write; work dir: search write'
MAKE="$FIND; upper dir: add_name create write; upper file: create getattr open write; work dir: search write"
HIDE="$FIND; mounter capability: dac_override dac_read_search; upper dir: add_name write; lower file: getattr"
HIDE+='; work chr_file: create link rename; work dir: add_name remove_name search write'

asking() {
	layers
	local n
	for n in read append write open fd trunc chmod chown xattr unlink rename stat link truncate; do put lower1/$n x; done
	cp /usr/bin/true lower1/prog
	mkdir lower1/dir lower1/list lower1/empty
	put lower1/dir/file x
	ln -s read lower1/symlink
	find lower1 | while read -r n; do label "$n" rovl_lower_t; done
	label upper rovl_upper_t
	label work rovl_work_t
	check 'a mount by a domain without rules' task rovl_mounter_t mount -t "$FSTYPE" -o "$LAYERS" "$FSTYPE" mnt
	settle
	asks stat 'lower file: getattr; upper dir: search' "$READ" stat mnt/stat
	asks listing 'lower dir: getattr open read; upper dir: search' "$FIND; lower dir: open read" ls mnt/list
	asks reading 'lower file: getattr open read; upper dir: search' "$READ" cat mnt/read
	asks 'a link' 'lower lnk_file: read; upper dir: search' "$FIND; lower lnk_file: getattr read" readlink mnt/symlink
	asks 'running a program' 'lower file: execute execute_no_trans map open read; upper dir: search' "$READ; lower file: execute map" mnt/prog
	asks appending 'lower file: append getattr open; upper dir: add_name search write; upper file: create' "$COPY" \
		bash -c 'echo >>mnt/append'
	asks writing 'lower file: getattr open read write; upper dir: add_name search write; upper file: create' "$COPY" \
		bash -c 'echo x 1<>mnt/write'
	asks truncating 'lower file: getattr open write; upper dir: add_name search write; upper file: create' "$COPY" \
		bash -c 'echo x >mnt/trunc'
	asks 'opening for writing' 'lower file: open read write; upper dir: add_name search write; upper file: create' "$COPY" \
		bash -c 'exec 3<>mnt/open'
	exec 3<>mnt/fd
	asks "writing to another's file" 'lower file: getattr write' "$COPY" bash -c 'echo x >&3'
	exec 3>&-
	asks chmod 'lower file: getattr setattr; upper dir: search' "$COPY" chmod 600 mnt/chmod
	asks chown 'caller capability: chown; lower file: getattr setattr; upper dir: search' "$COPY" chown 1:1 mnt/chown
	asks 'setting an attribute' 'lower file: setattr write; upper dir: search' "$COPY" setfattr -n user.x -v x mnt/xattr
	asks 'reading an attribute' 'lower file: getattr read; upper dir: search' "$READ" getfattr -n user.x mnt/xattr
	asks linking 'lower file: link read write; upper dir: add_name search write' "$COPY" ln mnt/link mnt/link2
	asks renaming 'lower file: rename; upper dir: add_name remove_name search write' \
		"$COPY; lower file: rename; upper dir: remove_name; $HIDE" mv mnt/rename mnt/renamed
	asks removing 'lower file: getattr unlink; upper dir: remove_name search write' "$HIDE" rm -f mnt/unlink
	asks 'removing a directory' 'lower dir: rmdir; upper dir: remove_name search write' "$HIDE; lower dir: open read" \
		rmdir mnt/empty
	asks 'a new file' 'upper dir: add_name search write; upper file: create getattr open write' "$MAKE" \
		bash -c 'echo x >mnt/new'
	asks 'a new directory' 'upper dir: add_name create search write' "$MAKE" mkdir mnt/newdir
	# It gets a name by way of /proc/self/fd.
	n='caller dir: search; caller lnk_file: read; upper dir: add_name search write'
	asks 'a file without a name' "$n; upper file: getattr ioctl link open read write" \
		"$MAKE; upper file: link read" perl "$SUITES/sys.pl" tmpfile mnt 644 mnt/unnamed
	asks 'removing a new file' 'upper dir: remove_name search write; upper file: getattr unlink' \
		"$FIND; upper dir: remove_name write; upper file: unlink" rm mnt/new
	asks 'a directory on the way' 'lower dir: add_name remove_name search write; lower file: rename; upper dir: search' \
		"$COPY; lower dir: add_name create read remove_name rename reparent setattr write; lower file: rename; $HIDE" \
		mv mnt/dir/file mnt/dir/file2
	umnt
}

for part in copies new_objects options enforced; do on_each_upper $part; done
# One filesystem will do.
UPPERFS=${UPPERFS%% *} on_each_upper asking
umount $POLICY
done_testing
