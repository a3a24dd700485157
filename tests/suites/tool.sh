#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The command rovl, and mount.rovl as mount(8) calls it; for overlayfs as mount.overlay.

# Its mounts are its own: one is over /usr/sbin, where mount(8) looks for helpers.
[ -n "${TOOL_NAMESPACE:-}" ] || TOOL_NAMESPACE=1 exec unshare --mount bash "$0"
. "${0%/*}/lib.sh"

ROVL=$SUITES/../../build/tests/rovl
HELPER=/usr/sbin/mount.$FSTYPE
mkdir -p "$SCRATCH/sbin/upper" "$SCRATCH/sbin/work"
cp "$ROVL" "$SCRATCH/sbin/upper/mount.$FSTYPE" || exit 1
rovl() { (exec -a rovl "$HELPER" "$@"); }
mount -t "$FSTYPE" -o "lowerdir=/usr/sbin,upperdir=$SCRATCH/sbin/upper,workdir=$SCRATCH/sbin/work" sbin /usr/sbin || exit 1

shown() { findmnt -no OPTIONS --mountpoint "$D/mnt"; }
flags() { findmnt -no VFS-OPTIONS --mountpoint "$D/mnt"; }
status() { # WANTED COMMAND...: its exit code
	local want=$1 rc=0
	shift
	"$@" >"$SEEN" 2>&1 || rc=$?
	[ "$rc" = "$want" ] || { echo "status $rc" && cat "$SEEN" && return 1; }
}
says() { # TEXT COMMAND...: it fails and says so
	local want=$1 out
	shift
	if ! out=$("$@" 2>&1) && [[ $out == *"$want"* ]]; then return; fi
	echo "${out@Q}"
	return 1
}

by_mount() {
	layers 2
	put lower1/f one
	put lower2/g two
	check 'mount(8) calls the helper' mount -v -t "$FSTYPE" -o "$LAYERS" name mnt
	is 'the helper did it' 1 "$(grep -c 'mount\.[a-z]*: upperdir' "$SEEN")"
	prints 'the layers are there' 'f g ' listing mnt
	is 'its name' name "$(findmnt -no SOURCE --mountpoint "$D/mnt")"
	is 'a layer is shown by its path' 1 "$(shown | grep -c "lowerdir+=$D/lower1,lowerdir+=$D/lower2,upperdir=$D/upper")"
	check 'remounted read-only' mount -o remount,ro mnt
	fails 'nothing can be written' EROFS touch mnt/new
	check 'remounted read-write, nosuid' mount -o remount,rw,nosuid mnt
	is 'both are so' 'rw nosuid' "$(flags | tr , '\n' | grep -x 'rw\|nosuid' | xargs)"
	check 'something can be written' touch mnt/new
	check 'remounted by the helper alone' "$HELPER" name mnt -o remount,noexec
	is 'other flags stay' 'rw nosuid noexec' "$(flags | tr , '\n' | grep -x 'rw\|nosuid\|noexec' | xargs)"
	check 'the layers said again' "$HELPER" name mnt -o "remount,$LAYERS"
	check 'other layers are refused' says 'the layers of a mount cannot be changed' \
		"$HELPER" name mnt -o remount,lowerdir=lower2,upperdir=upper,workdir=work
	umnt
	check 'flags of the mount' mount -t "$FSTYPE" -o "$LAYERS,nodev,noexec,noatime" name mnt
	is 'are set' 'rw nodev noexec noatime' "$(flags | tr , '\n' | grep -x 'rw\|nodev\|noexec\|noatime' | xargs)"
	umnt
	check 'read-only' mount -r -t "$FSTYPE" -o "$LAYERS" name mnt
	is 'mount and filesystem are' 'ro ro' "$(flags | cut -d, -f1) $(findmnt -no FS-OPTIONS --mountpoint "$D/mnt" | cut -d, -f1)"
	umnt
	check 'nothing is mounted with -f' "$HELPER" -f name mnt -o "$LAYERS"
	check 'and it is not' absent mnt/f
	check 'what is for others is ignored' "$HELPER" name mnt -n -o "defaults,noauto,x-systemd.automount,_netdev,$LAYERS"
	umnt
	mkdir lower1/sub
	touch lower1/sub/inside
	check 'what mount(8) would leave out is refused' says "'mount -i' does without" \
		mount -t "$FSTYPE" -o "$LAYERS,X-mount.idmap=b:0:10000:1000" name mnt
	check 'without the helper' mount -i -t "$FSTYPE" -o "$LAYERS,X-mount.idmap=b:0:10000:1000" name mnt
	is 'it does that' 10000 "$(stat -c %u mnt/f)"
	umnt
	check 'what it does itself' mount -t "$FSTYPE" -o "$LAYERS,X-mount.mkdir" name "$D/made"
	umount made
	check 'a part of it' mount -t "$FSTYPE" -o "$LAYERS,X-mount.subdir=sub" name mnt
	prints 'is a part' inside names mnt
	umnt
}

names_of_layers() {
	layers
	mkdir 'a:b' 'c,d' 'e\f' 'g h' data
	touch 'a:b/1' 'c,d/2' 'e\f/3' 'g h/4' data/5
	check 'colons, commas, backslashes, spaces' mount -t "$FSTYPE" -o 'lowerdir=a\:b:c\,d:e\\f:g h,upperdir=upper,workdir=work' n mnt
	prints 'are names of layers' '1 2 3 4 ' listing mnt
	umnt
	check 'lowerdir+' "$HELPER" n mnt -o 'lowerdir+=a:b,lowerdir+=c\,d,lowerdir+=e\f,upperdir=upper,workdir=work'
	prints 'takes names as they are' '1 2 3 ' listing mnt
	umnt
	printf '%s\n' "$D/a:b" '# not a layer' '' "$D/c,d" 'g h' >list
	check 'layers=' mount -t "$FSTYPE" -o layers=list,upperdir=upper,workdir=work n mnt
	prints 'has one a line' '1 2 4 ' listing mnt
	check 'and can be remounted' mount -o remount,ro mnt
	umnt
	check 'data-only layers' "$HELPER" n mnt -o 'lowerdir=a\:b:c\,d::data,metacopy=on'
	prints 'show no names' '1 2 ' listing mnt
	is 'they are such' 1 "$(shown | grep -c "datadir+=$D/data")"
	umnt
	check 'datadir+' "$HELPER" n mnt -o 'lowerdir+=g h,datadir+=data,metacopy=on'
	umnt
	printf '%s\n' "$D/a:b" "::$D/data" >list
	check 'and in a file' "$HELPER" n mnt -o layers=list,metacopy=on
	is 'too' 1 "$(shown | grep -c "datadir+=$D/data")"
	umnt
}

# Longer than a page in all, longer than 255 bytes each.
long_lists() {
	layers
	local i long list=
	long=$(printf 'n%.0s' {1..250})
	for i in {1..100}; do list+=:$long/$long/l$i; done
	mkdir -p "$long/$long" && (cd "$long/$long" && mkdir l{1..100} && for i in {1..100}; do : >"l$i/f$i"; done)
	check '100 layers of 500 bytes' mount -t "$FSTYPE" -o "lowerdir=${list#:},upperdir=upper,workdir=work" n mnt
	is 'all are there' 100 "$(names mnt | wc -l)"
	umnt
	check 'and without an upper one' "$HELPER" n mnt -o "lowerdir=${list#:}"
	fails 'which is read-only' EROFS touch mnt/x
	umnt
	if [ "$FSTYPE" = rovl ]; then
		mkdir many{1..1500}
		printf 'many%d\n' {1..1500} >list
		touch many1500/last
		check '1500 layers from a file' mount -t rovl -o layers=list,upperdir=upper,workdir=work n mnt
		prints 'the last one is there' last names mnt
		umnt
	fi
}

in_fstab() {
	layers 2
	touch lower1/f
	mkdir other 'm nt' up2 work2
	cat >fstab <<-END
		# what a distribution has
		union $D/mnt $FSTYPE lowerdir=$D/lower1:$D/lower2,upperdir=$D/upper,workdir=$D/work,nosuid 0 0
		union $D/m\040nt $FSTYPE noauto,lowerdir=$D/lower1,upperdir=$D/up2,workdir=$D/work2 0 0
		tmpfs $D/other tmpfs defaults 0 0
	END
	check 'mount -a' mount -a -T fstab
	prints 'mounts it' f names mnt
	is 'with its flags' 1 "$(flags | grep -c nosuid)"
	check 'but not what is noauto' absent 'm nt/f'
	check 'which mount DIR does' mount -T fstab "$D/m nt"
	prints 'and is there' f names 'm nt'
	check 'again mount -a' mount -a -T fstab
	is 'mounts nothing twice' 1 "$(grep -c " $D/mnt " /proc/mounts)"
	check 'remounted as fstab has it' mount -T fstab -o remount,ro "$D/mnt"
	fails 'it is read-only' EROFS touch mnt/x
	umount 'm nt' other
	umnt
}

refusals() {
	layers
	check 'a layer that is not there' status 32 mount -t "$FSTYPE" -o lowerdir=none,upperdir=upper,workdir=work n mnt
	is 'is named' 1 "$(grep -c 'lower directory none: No such file' "$SEEN")"
	check 'an option that is none' status 32 "$HELPER" n mnt -o "$LAYERS,nonsense"
	is 'too' 1 "$(grep -c nonsense "$SEEN")"
	check 'which -s leaves out' "$HELPER" -s n mnt -o "$LAYERS,nonsense,nonsense=1"
	check 'a mount point that is none' status 32 "$HELPER" n none -o lowerdir=lower1,upperdir=upper,workdir=work,index=off
	umnt
	check 'wrong arguments' status 1 "$HELPER" n
	check 'an empty name' says 'it ends with a colon' "$HELPER" n mnt -o lowerdir=lower1:
	check 'a list that is not there' says 'layers=none: No such file' "$HELPER" n mnt -o layers=none
	: >empty
	check 'an empty list' says 'names no directory' "$HELPER" n mnt -o layers=empty
	check 'no mount to remount' says 'not rovl or overlay' "$HELPER" n mnt -o remount,ro
	check 'a directory of one' mount -t "$FSTYPE" -o "$LAYERS" n mnt
	mkdir mnt/d
	check 'is none, either' says 'not a mount point' "$HELPER" n mnt/d -o remount,ro
	umnt
	check 'a type that is none' says 'no filesystem type nonsense' "$HELPER" n mnt -t nonsense -o "$LAYERS"
	check 'not as root' says 'only root can mount' as 1001 "$HELPER" n mnt -o "$LAYERS"
	if [ "$FSTYPE" = rovl ]; then
		check "the kernel's reason" says "conflicting options: nfs_export=on,index=off" mount -t rovl -o "$LAYERS,nfs_export=on,index=off" n mnt
	fi
	check 'help' "$HELPER" --help
}

in_namespace() {
	layers
	touch lower1/f
	unshare --mount sleep 60 &
	local pid=$!
	until [ "$(readlink "/proc/$pid/ns/mnt" 2>/dev/null)" != "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.1; done
	check 'in the mount namespace of a process' "$HELPER" -N "$pid" n "$D/mnt" \
		-o "lowerdir=$D/lower1,upperdir=$D/upper,workdir=$D/work"
	check 'not in this one' absent mnt/f
	prints 'but there' f nsenter -t "$pid" -m ls "$D/mnt"
	kill "$pid"
	wait "$pid" 2>/dev/null
}

# Renamed, copied without data, replaced, removed: made by the filesystem itself.
changed() { # [OPTION]...
	layers 2
	mkdir -p lower1/d lower2/d/low lower2/moved/in lower1/new
	put lower1/d/one 1
	put lower2/d/two 2
	put lower2/d/both 2
	put lower1/d/both 1
	put lower2/d/low/x x
	put lower2/moved/in/file m
	put lower2/renamed renamed
	put lower1/touched same
	put lower1/data lower
	put lower1/gone gone
	put lower1/kind kind
	ln -s one lower1/link
	put lower1/same same
	LAYERS=$LAYERS mnt_by_helper "$@"
	add mnt/data more
	chmod 600 mnt/touched
	rm -r mnt/gone mnt/d/low mnt/kind mnt/new
	mkdir mnt/kind mnt/new mnt/d/low mnt/added
	put mnt/d/low/y y
	put mnt/added/file added
	ln mnt/added/file mnt/added/link
	poke mnt/same same
}
mnt_by_helper() {
	local o=$LAYERS
	[ $# -eq 0 ] || o+=,$(IFS=,; echo "$*")
	"$HELPER" union mnt -o "$o" || exit 1
}

# By mount(8) itself, which does not make names of layers absolute.
mnt_by_name() { mount -i -t "$FSTYPE" -o "$LAYERS" union mnt || exit 1; }

showing() {
	layers 2
	mnt_by_helper redirect_dir=on
	rovl show mnt >out
	is 'the mount point' "$D/mnt: $FSTYPE 'union'" "$(head -n 1 out | cut -d, -f1)"
	is 'layers, the topmost first' "upper $D/upper work $D/work lower 1 $D/lower1 lower 2 $D/lower2" \
		"$(sed -nE 's/^  (upper|work|lower [0-9]) +([^ ]*) .*/\1 \2/p' out | xargs)"
	is 'what upper is on' "tmpfs scratch on $SCRATCH, device $(stat -c '%Hd:%Ld' upper), inode $(stat -c %i upper)" \
		"$(sed -n "s|^  upper *$D/upper *||p" out)"
	is 'an option' '  redirect_dir  on' "$(grep redirect_dir out)"
	is 'a default' '  fsync         auto (default)' "$(grep fsync out)"
	echo "u $D/mnt $FSTYPE lowerdir=x,redirect_dir=nofollow 0 0" >fstab
	rovl show --fstab fstab mnt >out
	is 'what fstab has instead' 1 "$(grep -c 'redirect_dir  on  fstab asks for nofollow; it was mounted otherwise' out)"
	rovl show --json --fstab fstab mnt >out
	is 'JSON: the mount' "$D/mnt $FSTYPE union / rw" "$(jq -r '[.mount, .type, .source, .root, .flags[0]] | join(" ")' out)"
	is 'JSON: the layers' "upper $D/upper work $D/work lower 1 $D/lower1 lower 2 $D/lower2" \
		"$(jq -r '.layers[] | .layer + " " + .path' out | xargs)"
	is 'JSON: what upper is on' "tmpfs $SCRATCH false $(stat -c '%Hd:%Ld %i' upper)" \
		"$(jq -r '.layers[0] | "\(.type) \(.mount) \(.read_only) \(.device) \(.inode)"' out)"
	is 'JSON: options' 'on false nofollow auto true' \
		"$(jq -r '.options | "\(.redirect_dir | "\(.value) \(.default) \(.asked)") \(.fsync | "\(.value) \(.default)")"' out)"
	rovl status >out
	is 'status: the kernel' "kernel    $(uname -r)" "$(head -n 1 out)"
	is 'status: the mounts of the type' "$(grep -c " $FSTYPE " /proc/mounts)" \
		"$(sed -nE "s/^$FSTYPE +.*, ([0-9]+) mounts?\$/\1/p" out)"
	is 'no colours in a file' 0 "$(grep -c $'\033' out)"
	umnt
	mnt_by_name
	rovl show mnt >out
	is 'relative names are said to be such' 2 "$(grep -c 'lower [12].*a relative name' out)"
	is 'in JSON, too' 2 "$(rovl show --json mnt | jq '.layers[2:][].unknown' | grep -c 'a relative name')"
	rovl show --base "$D" mnt >out
	is 'and found from where they start' 2 "$(grep -c "lower [12].*tmpfs scratch" out)"
	umnt
	check 'no union' says 'is on a mount of type tmpfs' rovl show "$D"
	check 'nothing' says 'No such file' rovl show none
	check 'help' rovl --help
}

which_says() { # NAME WANTED PATH: layer and role of each line
	rovl which "$3" >out 2>&1
	is "which: $1" "$2" "$(sed -nE 's/^  (upper|lower [0-9]|data [0-9]) +[^ ]+ +/\1: /p' out)"
}
which_json() { # NAME WANTED PATH: type, and what each layer is to it
	is "which --json: $1" "$2" "$(rovl which --json "$3" | jq -r '"\(.type): " + ([.layers[] | .layer + " " + .type
		+ (if .opaque then " opaque" else "" end) + (if .redirect then " -> " + .redirect else "" end)
		+ (if .attributes then " attributes" else "" end) + (if .data then " data" else "" end)
		+ (if .entries then " entries" else "" end)
		+ (if .hidden then " by \(.hidden.by) \(.hidden.layer) \(.hidden.path)" else "" end)] | join("; "))')"
}
whence() {
	changed redirect_dir=on metacopy=on
	sys rename 0 mnt/moved mnt/elsewhere
	mv mnt/renamed mnt/d/renamed
	put mnt/moved again
	which_says 'a lower file' $'lower 1: attributes and data\nlower 2: hidden by what lower 1 has' mnt/d/both
	which_says 'a changed file' $'upper: attributes and data\nlower 1: hidden by what upper has' mnt/data
	which_says 'a merged directory' $'upper: attributes, entries\nlower 1: entries (merged)\nlower 2: entries (merged)' mnt/d
	which_says 'metacopy' $'upper: attributes (metacopy: the data is below)\nlower 1: data' mnt/touched
	which_says 'metacopy and a redirect' \
		$'upper: attributes (metacopy: the data is below); redirect: the layers below have it as \'/renamed\'\nlower 2: data' \
		mnt/d/renamed
	which_says 'a redirect' \
		$'upper: attributes, entries; redirect: the layers below have it as \'moved\'\nlower 2: entries (merged)' mnt/elsewhere
	which_says 'a file below it' 'lower 2: attributes and data' mnt/elsewhere/in/file
	is 'by its place in the layer' 1 "$(grep -c "$D/lower2/moved/in/file" out)"
	which_says 'the old name' $'upper: attributes and data\nlower 2: hidden by what upper has' mnt/moved
	which_says 'an opaque directory' $'upper: attributes, entries; opaque: hides the layers below\nlower 2: hidden by the opaque directory /d/low in upper' mnt/d/low
	which_says 'what it hides' 'lower 2: hidden by the opaque directory /d/low in upper' mnt/d/low/x
	which_says 'a whiteout' $'upper: whiteout: hides the name in the layers below\nlower 1: hidden by the whiteout /gone in upper' mnt/gone
	which_json 'a changed file' 'regular file: upper regular file attributes data; lower 1 regular file by covered upper null' mnt/data
	which_json 'metacopy and a redirect' \
		'regular file: upper regular file -> /renamed attributes; lower 2 regular file data' mnt/d/renamed
	which_json 'an opaque directory' \
		'directory: upper directory opaque attributes entries; lower 2 directory by opaque upper /d/low' mnt/d/low
	which_json 'a whiteout' 'null: upper whiteout; lower 1 regular file by whiteout upper /gone' mnt/gone
	check 'which exits with 1 there' status 1 rovl which mnt/gone
	check 'and without any layer that has it' status 1 rovl which mnt/none
	check 'and with 0 else' status 0 rovl which mnt/d/one
	which_says 'a symlink itself' 'lower 1: attributes and data' mnt/link
	which_says 'the root' $'upper: attributes, entries\nlower 1: entries (merged)\nlower 2: entries (merged)' mnt
	mkdir bound
	mount --bind mnt/d bound
	which_says 'through another mount of a part' 'lower 1: attributes and data' bound/one
	umount bound
	umnt
	whiteout lower1/d/two
	setfattr -n trusted.overlay.opaque -v x lower1/d
	: >lower1/d/low2
	mkdir lower2/d/low2
	setfattr -n trusted.overlay.whiteout -v y lower1/d/low2
	mnt_by_helper redirect_dir=on metacopy=on
	which_says 'a whiteout of a lower layer' $'lower 1: whiteout: hides the name in the layers below\nlower 2: hidden by the whiteout /d/two in lower 1' mnt/d/two
	which_says 'an xattr whiteout' $'lower 1: whiteout: hides the name in the layers below\nlower 2: hidden by the whiteout /d/low2 in lower 1' mnt/d/low2
	umnt
	mnt_by_name
	check 'relative names are refused' says 'with --base DIR' rovl which mnt/data
	check 'without --base' rovl which --base "$D" mnt/data
	umnt
}

# Data that lies in a layer which shows no names.
data_only() {
	layers
	mkdir -p data/deep lower1/d
	put data/deep/blob data
	ln -s deep data/alias
	ln -s blob data/deep/symlink
	local f
	for f in good:/deep/blob alias:/alias/blob link:/deep/symlink out:/../data/deep/blob; do
		truncate -s 5 "lower1/${f%%:*}"
		setfattr -n trusted.overlay.metacopy lower1/"${f%%:*}"
		setfattr -n trusted.overlay.redirect -v "${f#*:}" lower1/"${f%%:*}"
	done
	mkdir lower2
	LAYERS=lowerdir=lower1:lower2::data,upperdir=upper,workdir=work mnt_by_helper metacopy=on
	prints 'data-only: it is read' data cat mnt/good
	which_says 'data-only' \
		$'lower 1: attributes (metacopy: the data is below); redirect: the layers below have it as \'/deep/blob\'\ndata 1: data' \
		mnt/good
	chmod 600 mnt/good
	prints 'data-only: its attributes alone' 'attributes /good (mode)' rovl diff mnt
	for f in alias link out; do
		if cat "mnt/$f" >"$SEEN" 2>&1; then not_ok "data-only: no $f" "$(cat "$SEEN")"; fi
		rovl which "mnt/$f" >out
		is "data-only: no $f" 'reading fails' "$(grep -o 'reading fails' out)"
	done
	umnt
	rovl diff --tar --upper upper --lower lower1 lower2 --data data >layer.tar
	is 'data-only: an archive has the data' data "$(tar xOf layer.tar good)"
	prints 'data-only: nothing wrong' 'nothing wrong was found' rovl check upper --lower lower1 lower2 --data data
	check 'data-only: but without it' says 'metacopy without data below' rovl check upper --lower lower1 lower2
}

differing() {
	local want
	changed redirect_dir=on metacopy=on
	sys rename 0 mnt/moved mnt/elsewhere
	put mnt/elsewhere/in/more more
	mv mnt/renamed mnt/d/renamed
	want="added      /added
added      /added/file
added      /added/link
replaced   /d/low
added      /d/low/y
renamed    /d/renamed from /renamed
modified   /data (mtime)
renamed    /elsewhere from /moved
added      /elsewhere/in/more
removed    /gone
replaced   /kind
removed    /moved
replaced   /new
removed    /renamed
attributes /same (mtime)
attributes /touched (mode)"
	prints 'diff of a mount' "$want" rovl diff mnt
	rovl diff --tar mnt >layer.tar
	rovl diff --json mnt >out
	is 'JSON' "$want" "$(jq -r '.[] | .change + "          "[.change | length:] + " " + .path + (if .from then " from " + .from else "" end)
		+ (if .attributes then " (" + (.attributes | join(", ")) + ")" else "" end)' out)"
	umnt
	prints 'diff of layers that are not mounted' "$want" rovl diff --upper upper --lower lower1 lower2
	rovl diff --tar --upper upper --lower lower1 --lower lower2 >layer2.tar
	check 'an archive is the same again' cmp layer.tar layer2.tar
	check 'not for a terminal' says 'not for a terminal' script -qec "bash -c 'exec -a rovl $HELPER diff --tar --upper upper --lower lower1'" /dev/null
	check 'layers that are none' says 'lower 1 none: No such file' rovl diff --upper upper --lower none
	check 'not as root' says 'can be read by root alone' as 1001 bash -c "exec -a rovl $HELPER diff --upper upper --lower lower1"
	is 'an upper that changes nothing' '[]' "$(mkdir empty && rovl diff --json --upper empty --lower lower1)"
	layer_applied
	is 'hard links are such' 2 "$(stat -c %h tree/added/file)"
}

# A file that is as it was, and one with a new name.
linked() {
	local o
	for o in metacopy=off metacopy=on; do
		layers 2
		mkdir lower1/d
		put lower1/d/file same
		mnt_by_helper $o
		ln mnt/d/file mnt/d/earlier
		ln mnt/d/file mnt/later
		is "$o: the file is no change" "" "$(rovl diff mnt | grep -E "^[a-z]+ +.d.file( \(|$)")"
		rovl diff --tar mnt >layer.tar
		umnt
		layer_applied
		is "$o: in an archive it is one with its new names" 3 "$(stat -c %h tree/d/file)"
	done
}

# What is below, with the archive applied as a container engine does it, is what the union shows.
layer_applied() {
	mkdir tree seen
	LAYERS=lowerdir=$LOWER mnt_by_helper redirect_dir=follow metacopy=on
	cp -a mnt/. tree/
	umnt
	local f dir
	while IFS= read -r f; do
		dir=tree/$(dirname "$f") f=$(basename "$f")
		case $f in .wh..wh..opq) rm -rf "${dir:?}"/* ;; .wh.*) rm -rf "${dir:?}/${f#.wh.}" ;; esac
	done < <(tar tf layer.tar)
	tar xf layer.tar -C tree --xattrs --xattrs-include='*' --exclude='.wh.*'
	mnt_by_helper redirect_dir=on metacopy=on
	cp -a mnt/. seen/
	umnt
	is 'the archive applied is the union' "$(summary seen)" "$(summary tree)"
	is 'with its data' '' "$(diff -r --no-dereference seen tree 2>&1)"
	is 'no mark is in it' 0 "$(grep -ac 'SCHILY.xattr.trusted.overlay' layer.tar)"
	is 'it is in order' "$(tar tf layer.tar | grep -c .)" "$(tar tf layer.tar | sort -u | grep -c .)"
}
summary() { (cd "$1" && find . -mindepth 1 \( -type d -printf '%p %y %m %U:%G\n' \) -o -printf '%p %y %m %U:%G %s %l %T@\n' | sort); }

# Uppers that became lower layers, with redirects in each: the tool finds what the kernel finds.
generations() {
	layers 3
	local f seen where wrong='' n=0
	mkdir -p work1 work2 lower3/a/b/c/deep lower3/d/e lower3/h/i
	for f in a/1 a/b/2 a/b/c/3 a/b/c/deep/4 d/5 d/e/6 h/i/7 8; do put "lower3/$f" "$f"; done
	"$HELPER" union mnt -o lowerdir=lower3,upperdir=lower2,workdir=work2,redirect_dir=on,metacopy=on || exit 1
	sys rename 0 mnt/a mnt/x
	sys rename 0 mnt/x/b/c mnt/d/c2
	mv mnt/8 mnt/d/eight
	mkdir mnt/a && put mnt/a/new new
	rm -r mnt/h/i && mkdir mnt/h/i && put mnt/h/i/9 9
	umnt
	"$HELPER" union mnt -o lowerdir=lower2:lower3,upperdir=lower1,workdir=work1,redirect_dir=on,metacopy=on || exit 1
	sys rename 0 mnt/x/b mnt/d/b2
	sys rename 0 mnt/d mnt/dd
	chmod 600 mnt/dd/5
	put mnt/dd/b2/more more
	umnt
	mnt_by_helper redirect_dir=on metacopy=on
	sys rename 0 mnt/dd/c2/deep mnt/top
	sys rename 0 mnt/dd/b2 mnt/x/back
	chmod 640 mnt/dd/eight mnt/dd/e/6
	mv mnt/top/4 mnt/four
	rm mnt/x/1
	umnt
	mnt_by_helper redirect_dir=on metacopy=on
	while IFS= read -r f; do
		n=$((n + 1)) seen=absent
		if [ -e "mnt/$f" ]; then seen=there; fi
		if rovl which "mnt/$f" >out; then where=there; else where=absent; fi
		[ $where = $seen ] || wrong+="$f is $seen; "
		[ -f "mnt/$f" ] || continue
		where=$(sed -nE 's/^  (upper|lower [0-9]) +([^ ]+) +(attributes and )?data$/\2/p' out)
		cmp -s "mnt/$f" "$where" || wrong+="$f is not $where; "
	done < <((for f in mnt lower1 lower2 lower3 upper; do (cd $f && find . -mindepth 1 -printf '%P\n'); done) | sort -u |
		while IFS= read -r f; do [ ! -e "mnt/$(dirname "$f")" ] || echo "$f"; done)
	is 'each path and its data are where the kernel finds them' '' "$wrong"
	check 'they are some' test $n -gt 25
	rovl diff mnt >out
	is 'a rename of a rename' 1 "$(grep -c '^renamed    /x/back from /' out)"
	rovl diff --tar mnt >layer.tar
	umnt
	layer_applied
}

# Attributes of users, names that are odd, the other namespace.
odd_ones() {
	layers
	mkdir lower1/d
	put lower1/d/f 1
	mnt_by_helper userxattr
	setfattr -n trusted.x -v "$(printf 'a\tb')" mnt/d/f
	put $'mnt/new\nline \\' x
	rm -r mnt/d
	mkdir mnt/d
	mknod mnt/dev c 5 6
	mkfifo mnt/pipe
	ln -s "$(printf 'n%.0s' {1..150})" mnt/link
	setfattr -n trusted.y -v z mnt/pipe
	touch -d '1960-01-01 00:00:00.25 UTC' mnt/old
	umnt
	want='replaced   /d
added      /dev
added      /link
added      /new\012line \134
added      /old
added      /pipe'
	prints 'userxattr, odd names' "$want" rovl diff --userxattr --upper upper --lower lower1
	rovl diff --tar --userxattr --upper upper --lower lower1 >layer.tar
	mkdir tree
	tar xf layer.tar -C tree --xattrs --xattrs-include='*' --exclude='.wh.*'
	is 'their archive' "$(summary upper)" "$(summary tree)"
	is 'has attributes' z "$(xattr tree/pipe trusted.y)"
	is 'none of the union' '' "$(xattrs tree/d)"
	is 'an opaque directory is one' 1 "$(tar tf layer.tar | grep -c '^d/.wh..wh..opq$')"
}

mark() { setfattr -h -n "trusted.overlay.$2" -v "$3" "$1"; } # FILE NAME VALUE
checked() { rovl check upper --work work --lower lower1 lower2 "$@" | sed "s|^$D/||"; }

# By somebody who has no privilege outside.
in_user_namespace() {
	layers
	mkdir -p lower1/d
	put lower1/d/f 1
	put lower1/g 1
	cat >script <<-END
		set -e
		rovl() { (exec -a rovl "$HELPER" "\$@"); }
		"$HELPER" union mnt -o "$LAYERS,userxattr"
		rm -r mnt/d mnt/g
		mkdir mnt/d
		rovl diff mnt
		rovl which mnt/d/f | tail -n 1 | grep -o 'hidden by.*'
	END
	prints 'in a user namespace' $'replaced   /d\nremoved    /g\nhidden by the opaque directory /d in upper' \
		unshare --user --map-root-user --mount bash script
	check 'which has no trusted attributes' says 'can be read by root alone' \
		unshare --user --map-root-user bash -c "exec -a rovl $HELPER diff --upper upper --lower lower1"
}

# What is found in an upper of the filesystem's own, in one that was damaged, and what is mended.
sound() {
	changed redirect_dir=on metacopy=on
	sys rename 0 mnt/moved mnt/elsewhere
	mv mnt/renamed mnt/d/renamed
	check 'a mounted upper is looked at' rovl check "$D/upper"
	check 'but not mended' says "is mounted at $D/mnt" rovl check "$D/upper" --repair
	umnt
	prints 'nothing is wrong' 'nothing wrong was found' checked
	whiteout upper/nothing
	mkdir upper/nowhere upper/slashes work/work/left
	touch work/work/left/over upper/lost upper/damaged
	truncate -s 100 upper/lost upper/damaged
	mark upper/nowhere redirect /is/not
	mark upper/slashes redirect /is//not
	mark upper/lost metacopy ''
	mark upper/lost redirect /not
	setfattr -n trusted.overlay.metacopy -v 0x0003 upper/damaged
	mark upper/added opaque maybe
	mark upper/added impure y
	mark upper/data origin short
	mark upper/data other x
	local wrong="upper/added: trusted.overlay.opaque: the value is damaged
upper/damaged: trusted.overlay.metacopy: the value is damaged; nothing says where its data is; restore it from elsewhere, or remove it
upper/data: trusted.overlay.origin: the value is damaged
upper/data: trusted.overlay.other: no mark of that name is known
upper/lost: metacopy without data below; it cannot be looked up (EIO); restore the lower layer that has its data, or remove it
upper/nothing: a whiteout that hides nothing
upper/nowhere: a redirect that leads nowhere
upper/slashes: trusted.overlay.redirect: the value is damaged
work/work/left: left over from a mount that did not end well"
	prints 'what is wrong' "$wrong
9 found; --repair mends what can be" checked
	check 'is told by the exit code' status 1 rovl check upper --work work --lower lower1 lower2
	is 'nothing was changed' maybe "$(xattr upper/added trusted.overlay.opaque)"
	is 'mended' '9 found, 7 mended' "$(checked --repair | tail -n 1)"
	prints 'what is left' "$(grep -e /lost -e /damaged <<<"$wrong")
2 found; --repair mends what can be" checked
	rm upper/lost upper/damaged
	prints 'and then nothing' 'nothing wrong was found' checked
	is 'a directory shows what it did' 'y y' "$(xattr upper/nowhere trusted.overlay.opaque) $(xattr upper/slashes trusted.overlay.opaque)"
	check 'marks that are sound are as they were' test "$(xattr upper/elsewhere trusted.overlay.redirect)" = moved
	check 'it can be mounted' mnt_by_helper redirect_dir=on metacopy=on
	prints 'with what it had' m cat mnt/elsewhere/in/file
	umnt
	mnt_by_helper volatile
	umnt
	is 'a volatile mount is told of' 1 "$(checked | grep -c 'was mounted volatile')"
}

by_mount
names_of_layers
long_lists
in_fstab
refusals
in_namespace
showing
whence
data_only
differing
linked
generations
odd_ones
in_user_namespace
sound
done_testing
