// SPDX-License-Identifier: GPL-2.0

//! Exclusive use of a directory by a mount, as upper or work directory.
//!
//! The mark on the inode (`I_OVL_INUSE`) is the one that overlayfs uses too; beside it, which of our
//! own mounts holds a claim is remembered, for messages.

use super::{
    mount::{Path, PathRef},
    Dentry,
};
use kernel::{prelude::*, sync::global_lock};

global_lock! {
    // SAFETY: `init` is called before the filesystem type is registered, so before any mount.
    unsafe(uninit) static HELD: Mutex<KVec<(usize, u32)>> = KVec::new();
}

/// Prepares the list of claims.
///
/// # Safety
///
/// Called once, before the first mount.
pub(super) unsafe fn init() {
    // SAFETY: by the contract.
    unsafe { HELD.init() }
}

/// Gives the list's memory back, which no module's unloading does for a static.
pub(super) fn exit() {
    *HELD.lock() = KVec::new();
}

/// A claim on a directory; given up when dropped.
pub(crate) struct Claim {
    path: Path,
    held: bool,
}

fn key(dentry: &Dentry) -> usize {
    dentry.inode().map_or(0, |inode| inode.as_ptr() as usize)
}

impl Claim {
    /// Claims the directory for the mount with device number `dev`; see [`is_held`](Self::is_held).
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ESTALE` for a negative dentry.
    pub(crate) fn new(path: PathRef<'_>, dev: u32) -> Result<Self> {
        let dentry = path.dentry();
        let mut list = HELD.lock();
        list.reserve(1, GFP_KERNEL)?;
        let held = dentry.positive()?.try_inuse();
        if held {
            list.push((key(dentry), dev), GFP_KERNEL)?;
        }
        Ok(Self {
            path: path.get(),
            held,
        })
    }

    /// Whether the claim succeeded: no other mount has one.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// The device number of the mount of ours that holds a claim on the directory, if it is one of
    /// ours.
    pub(crate) fn holder(dentry: &Dentry) -> Option<u32> {
        let key = key(dentry);
        HELD.lock()
            .iter()
            .find(|(held, _)| *held == key)
            .map(|(_, dev)| *dev)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let dentry = self.path.as_ref().dentry();
        let key = key(dentry);
        let mut list = HELD.lock();
        list.retain(|(held, _)| *held != key);
        if let Some(inode) = dentry.inode() {
            inode.clear_inuse();
        }
    }
}
