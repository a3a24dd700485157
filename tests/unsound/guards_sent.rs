// SPDX-License-Identifier: GPL-2.0

//! A lock is given back by another task than the one that took it.
// error: E0277

use crate::{
    overlay::Overlay,
    vfs::{
        dirop::{Creating, Removing, Renaming},
        inode::{InodeGuard, WriteAccess},
        mount::{MountAccess, WriteGuard, WriteSection},
        OpGuard,
    },
};

fn send<T: Send>(_: T) {}

fn misuse(
    inode: (InodeGuard<'_>, WriteAccess<'_>, OpGuard<'_, Overlay>),
    mount: (MountAccess<'_>, WriteGuard<'_>, WriteSection<'_>),
    names: (Creating<'_>, Removing<'_>, Renaming<'_>),
) {
    send(inode.0);
    send(inode.2);
    send(mount.0);
    send(mount.1);
    send(mount.2);
    send(names.0);
    send(names.1);
    send(names.2);
}
