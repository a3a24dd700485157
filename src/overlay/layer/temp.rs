// SPDX-License-Identifier: GPL-2.0

//! Entries of the work directory, which nobody sees and which clean up after themselves.

use crate::vfs::{
    dirop::{Creating, New, Removing},
    log::warn_limited,
    mount::{MountAccess, Path, PathRef, WritePath, Writing},
    Dentry, Ref,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
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

/// Removes an entry of an upper or work directory.
pub(crate) fn remove(writing: Writing<'_>, parent: &Dentry, dentry: &Dentry) -> Result {
    Removing::start_dentry(writing, parent, dentry)?.remove()
}

/// As [`remove`], best effort: what is left is cleaned at the next mount.
#[inline(never)]
pub(crate) fn discard(writing: Writing<'_>, parent: &Dentry, dentry: &Dentry) {
    if let Err(e) = remove(writing, parent, dentry) {
        warn_limited!("cleanup of '{dentry}' failed ({})\n", e.to_errno());
    }
}

/// An entry of the work directory that is removed when dropped, unless it was published.
pub(crate) struct Temp<'a> {
    writing: Writing<'a>,
    work: &'a Dentry,
    dentry: Option<Ref<'a, Dentry>>,
}

impl<'a> Temp<'a> {
    /// Creates an entry with a name of its own.
    pub(crate) fn create(writing: Writing<'a>, work: &'a Dentry, new: New<'_>) -> Result<Self> {
        let name = TempName::new();
        let dentry = Creating::start(writing, work, name.as_bytes())?.create(new)?;
        Ok(Self::of(writing, work, dentry))
    }

    /// An entry that is there.
    pub(crate) fn of(writing: Writing<'a>, work: &'a Dentry, dentry: Ref<'a, Dentry>) -> Self {
        Self {
            writing,
            work,
            dentry: Some(dentry),
        }
    }

    /// Its path; `EIO` where it was published.
    pub(crate) fn path(&self) -> Result<WritePath<'_>> {
        self.writing.path(self.dentry.as_ref().ok_or(EIO)?)
    }

    /// The entry was moved to its place, or somebody else removes it: it stays.
    pub(crate) fn keep(mut self) -> Result<Ref<'a, Dentry>> {
        self.dentry.take().ok_or(EIO)
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if let Some(dentry) = self.dentry.take() {
            discard(self.writing, self.work, &dentry);
        }
    }
}

/// An entry of the work directory in the hands of who does not hold off a freeze; removed when dropped.
pub(crate) struct Parked<'a> {
    access: &'a MountAccess<'a>,
    work: &'a Dentry,
    path: Option<Path>,
}

impl<'a> Parked<'a> {
    /// Creates an entry with a name of its own.
    pub(crate) fn create(
        access: &'a MountAccess<'a>,
        work: &'a Dentry,
        new: New<'_>,
    ) -> Result<Self> {
        let section = access.start_write();
        let writing = section.writing();
        let made = Temp::create(writing, work, new)?.keep()?;
        let path = Some(Path::new(writing.mnt(), made)?);
        Ok(Self { access, work, path })
    }

    /// Its path; `EIO` once it was taken up.
    pub(crate) fn path(&self) -> Result<PathRef<'_>> {
        Ok(self.path.as_ref().ok_or(EIO)?.as_ref())
    }

    /// The entry, in the hands of who may write.
    pub(crate) fn take_up<'b>(mut self, writing: Writing<'b>) -> Result<Temp<'b>>
    where
        'a: 'b,
    {
        let path = self.path.take().ok_or(EIO)?;
        Ok(Temp::of(writing, self.work, path.held_by(writing.mnt())?))
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            let section = self.access.start_write();
            discard(section.writing(), self.work, path.as_ref().dentry());
        }
    }
}
