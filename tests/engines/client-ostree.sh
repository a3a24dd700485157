#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
# What a mount holds is committed, and a checkout is a lower layer. The id of a commit says what is in it.
mkdir upper work mnt
check 'a repository' ostree init --repo=repo --mode=bare-user
check 'a mount' mount -t overlay -o "lowerdir=$TREE,upperdir=upper,workdir=work" none mnt
change_in mnt/data
rm mnt/data/fifo
observe 'commit' ostree commit --repo=repo --branch=one --timestamp=@0 mnt
observe 'ls' ostree ls --repo=repo -RC one
umount mnt
check 'checkout' ostree checkout --repo=repo -U one tree
mkdir upper2 work2
check 'a mount of it' mount -t overlay -o lowerdir=tree,upperdir=upper2,workdir=work2 none mnt
check 'changed' sh -c 'echo more >>mnt/data/there && rm -r mnt/data/dir-there'
observe 'view' view_of mnt/data
check 'fsck' ostree fsck --repo=repo
observe 'diff' ostree diff --repo=repo one "$PWD/mnt"
umount mnt
done_testing
