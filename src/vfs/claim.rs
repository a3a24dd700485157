// SPDX-License-Identifier: GPL-2.0

//! Exclusive use of a directory by a mount, as upper or work directory.
//!
//! The mark on the inode (`I_OVL_INUSE`) is one that all stacked filesystems of the kernel share; beside it, which of our
//! own mounts holds a claim is remembered, for messages.

use super::{
    mount::{Path, PathRef},
    Dentry,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// The directories that mounts of a filesystem type claim: the inode's identity, the mount's device number.
#[derive(Clone)]
pub(crate) struct Claims(Arc<Mutex<KVec<(usize, u32)>>>);

fn key(dentry: &Dentry) -> usize {
    dentry.inode().map_or(0, |inode| inode.as_ptr() as usize)
}

impl Claims {
    /// None; `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Arc::pin_init(
            new_mutex!(KVec::new(), "rovl_claims"),
            GFP_KERNEL,
        )?))
    }

    /// Claims a directory for the mount with device number `dev`; see [`Claim::is_held`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOENT` for a negative dentry.
    pub(crate) fn claim(&self, path: PathRef<'_>, dev: u32) -> Result<Claim> {
        let dentry = path.dentry();
        let mut list = self.0.lock();
        list.reserve(1, GFP_KERNEL)?;
        let held = dentry.positive()?.try_inuse();
        if held {
            list.push((key(dentry), dev), GFP_KERNEL)?;
        }
        Ok(Claim {
            claims: self.clone(),
            path: path.get(),
            held,
        })
    }

    /// The device number of the mount of ours that holds a claim on the directory, if it is one of ours.
    pub(crate) fn holder(&self, dentry: &Dentry) -> Option<u32> {
        let key = key(dentry);
        self.0
            .lock()
            .iter()
            .find(|(held, _)| *held == key)
            .map(|(_, dev)| *dev)
    }
}

/// A claim on a directory; given up when dropped.
pub(crate) struct Claim {
    claims: Claims,
    path: Path,
    held: bool,
}

impl Claim {
    /// Whether the claim succeeded: no other mount has one.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let dentry = self.path.as_ref().dentry();
        let key = key(dentry);
        let mut list = self.claims.0.lock();
        list.retain(|(held, _)| *held != key);
        if let Some(inode) = dentry.inode() {
            inode.clear_inuse();
        }
    }
}
