#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
# extends PROGRAM FOLDER EXTENSIONS: /usr or /etc with one extension.
extends() {
	local ext=/run/$3/rovl-ext release=$2
	[ "$2" = /etc ] || release=/usr/lib
	mkdir -p "$ext$release/extension-release.d" "$ext$2/rovl-ext"
	echo 'ID=_any' >"$ext$release/extension-release.d/extension-release.rovl-ext"
	echo 'from the extension' >"$ext$2/rovl-ext/file"
	check "$1 merge" "$1" merge
	observe "$1-status" "$1" status --json=short
	observe "$1-mount" grep " $2 " /proc/mounts
	prints 'a file of the extension' 'from the extension' cat "$2/rovl-ext/file"
	check 'a program' dpkg --version
	fails 'it is read-only' EROFS touch "$2/new"
	check "$1 refresh" "$1" refresh
	check "$1 unmerge" "$1" unmerge
	check 'the file is gone' absent "$2/rovl-ext"
	check "$1 merge, what is written goes away" "$1" merge --mutable=ephemeral
	observe "$1-mutable" grep " $2 " /proc/mounts
	check 'it is written to' touch "$2/rovl-ext/new"
	check "$1 unmerge" "$1" unmerge
	sed -i 's/"since":[1-9][0-9]*/"since":1/g' "$OBSERVED/$1-status"
}
extends systemd-sysext /usr extensions
extends systemd-confext /etc confexts
done_testing
