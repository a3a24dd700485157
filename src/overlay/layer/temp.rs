// SPDX-License-Identifier: GPL-2.0

//! Entries of the work directory, which nobody sees and which clean up after themselves.

use crate::vfs::{
    dirop::{Creating, New, Removing},
    log::warn_limited,
    mount::PathRef,
    Dentry, Mount,
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
    },
};

/// Numbers temporary names; may wrap, the names are short-lived.
static TEMP_ID: Atomic<u32> = Atomic::new(0);

/// A name that nobody uses in a work directory.
pub(crate) struct TempName([u8; 12], usize);

impl TempName {
    /// One more.
    pub(crate) fn new() -> Self {
        let mut id = TEMP_ID.fetch_add(1u32, Relaxed).wrapping_add(1);
        let mut buf = [0; 12];
        let mut at = buf.len();
        loop {
            at -= 1;
            if let Some(slot) = buf.get_mut(at) {
                *slot = b"0123456789abcdef"
                    .get(id as usize & 15)
                    .copied()
                    .unwrap_or(b'0');
            }
            id >>= 4;
            if id == 0 {
                break;
            }
        }
        at -= 1;
        if let Some(slot) = buf.get_mut(at) {
            *slot = b'#';
        }
        Self(buf, at)
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.get(self.1..).unwrap_or_default()
    }
}

/// Removes an entry of an upper or work directory. The caller holds write access.
pub(crate) fn remove(mnt: &Mount, parent: &Dentry, dentry: &Dentry) -> Result {
    Removing::start_dentry(mnt, parent, dentry)?.remove()
}

/// As [`remove`], best effort: what is left is cleaned at the next mount.
pub(crate) fn discard(mnt: &Mount, parent: &Dentry, dentry: &Dentry) {
    if let Err(e) = remove(mnt, parent, dentry) {
        warn_limited!("cleanup of '{dentry}' failed ({})\n", e.to_errno());
    }
}

/// An entry of the work directory that is removed when dropped, unless it was published. The holder
/// has write access when it is made and when it is dropped.
pub(crate) struct Temp<'a> {
    mnt: &'a Mount,
    work: &'a Dentry,
    dentry: ARef<Dentry>,
    published: bool,
}

impl<'a> Temp<'a> {
    /// Creates an entry with a name of its own.
    pub(crate) fn create(mnt: &'a Mount, work: &'a Dentry, new: New<'_>) -> Result<Self> {
        let name = TempName::new();
        let dentry = Creating::start(mnt, work, name.as_bytes())?.create(new)?;
        Ok(Self {
            mnt,
            work,
            dentry,
            published: false,
        })
    }

    /// An entry that is there.
    pub(crate) fn of(mnt: &'a Mount, work: &'a Dentry, dentry: ARef<Dentry>) -> Self {
        Self {
            mnt,
            work,
            dentry,
            published: false,
        }
    }

    /// The entry.
    pub(crate) fn dentry(&self) -> &Dentry {
        &self.dentry
    }

    /// Its path.
    pub(crate) fn path(&self) -> PathRef<'_> {
        PathRef {
            mnt: self.mnt,
            dentry: &self.dentry,
        }
    }

    /// The entry was moved to its place: it stays.
    pub(crate) fn publish(mut self) -> ARef<Dentry> {
        self.published = true;
        self.dentry.clone()
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        discard(self.mnt, self.work, &self.dentry);
    }
}
