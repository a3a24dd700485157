// SPDX-License-Identifier: GPL-2.0

//! What is copied up: how much of an object, and all that has to be known of it before the copy is begun.

use super::metadata::file_flags;
use crate::{
    overlay::{
        mount::options::Verity,
        object::{inode::Dir, lowerdata, protected::KEPT_FLAGS},
        union::{Inode, Overlay},
    },
    vfs::{
        attr::{statx, FileAttr, Stat, Times},
        mount::PathRef,
        verity::Digest,
        CBuf, Mode,
    },
};
use core::mem::MaybeUninit;
use kernel::prelude::*;

/// How much of an object is wanted in upper.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Its attributes; with metacopy the data of a file stays where it is.
    Attributes,
    /// All of it.
    Data,
    /// All but the data, which is no more: it will be truncated to nothing at once.
    Nothing,
}

impl Want {
    /// Whether the data of an object of `mode` stays where it is.
    pub(super) fn leaves_data(self, fs: &Overlay, mode: Mode) -> bool {
        self == Self::Attributes && fs.has_metacopy() && mode.is_reg()
    }
}

/// What is known of the lower objects.
pub(super) struct Source<'a> {
    pub(super) inode: &'a Inode,
    /// That which has the attributes.
    pub(super) lower: PathRef<'a>,
    pub(super) stat: &'a Stat,
    /// Times of the parent, which creating an entry in it changes.
    pub(super) parent_times: Times,
    /// The target of a symlink.
    pub(super) link: Option<CBuf>,
    /// The `chattr` flags of a file or directory that has any.
    pub(super) flags: Option<FileAttr>,
    /// What is recorded of data that stays where it is.
    pub(super) digest: Option<KBox<Digest>>,
}

impl<'a> Source<'a> {
    /// Looks at the lower object behind `inode`, in the directory `parent`. Its attributes stay in the caller's `room`: they are
    /// too large to be moved.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` where its owner has no place in the lower layer's mount, in the user namespace of whoever mounted the
    /// union (CVE-2023-0386), or in the upper layer's mount.
    pub(super) fn read(
        inode: &'a Inode,
        parent: Dir<'_>,
        want: Want,
        room: &'a mut MaybeUninit<Stat>,
    ) -> Result<Self> {
        let lower = inode.lower_path().ok_or(ESTALE)?;
        let stat = lower.stat(room, statx::BASIC)?;
        if !stat.ids_mapped() {
            return Err(EOVERFLOW);
        }
        let parent_path = parent.expect_upper()?;
        if !stat.ids_fit(parent_path) {
            return Err(EOVERFLOW);
        }
        let parent_times = Times::of(parent_path)?;
        if want == Want::Nothing {
            stat.set_size(0);
        }
        let link = if stat.mode().is_lnk() {
            let dentry = lower.dentry();
            Some(dentry.with_link(|target| CBuf::new(target.to_bytes()))?)
        } else {
            None
        };
        let mode = stat.mode();
        let kept = lower.positive()?.flags() & KEPT_FLAGS;
        let flags = if kept != 0 && (mode.is_reg() || mode.is_dir()) {
            file_flags(lower)?
        } else {
            None
        };
        let fs = inode.fs();
        let digest = match want.leaves_data(fs, mode) && fs.verity() != Verity::Off {
            true => lowerdata::digest(fs, inode.lower_content().ok_or(ESTALE)?)?,
            false => None,
        };
        Ok(Self {
            inode,
            lower,
            stat,
            parent_times,
            link,
            flags,
            digest,
        })
    }

    /// The lower object that has the data.
    ///
    /// # Errors
    ///
    /// `ESTALE`.
    pub(super) fn data(&self) -> Result<PathRef<'a>> {
        self.inode.lower_content().ok_or(ESTALE)
    }

    /// Whether the copy that is wanted is one without data.
    pub(super) fn leaves_data(&self, want: Want) -> bool {
        let fs = self.inode.fs();
        // Where a digest is required, data without one must not be left.
        let can_be = fs.verity() != Verity::Require || self.digest.is_some();
        can_be && want.leaves_data(fs, self.stat.mode())
    }
}
