// SPDX-License-Identifier: GPL-2.0

//! Layers, paths in layers, and the stack of lower paths of an inode.

pub(super) mod handle;
pub(super) mod index;
pub(super) mod marks;
pub(super) mod numbering;
pub(super) mod opened;
pub(super) mod redirect;
pub(super) mod temp;
pub(super) mod whiteout;
pub(super) mod xattr_names;

use crate::vfs::{mount::PathRef, Dentry, Mount};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
    },
};

/// The most lower layers that a mount may have: what an index can tell apart, so that memory sets the
/// limit in practice; in the drop-in the limit of overlayfs.
pub(crate) const MAX_LOWER: usize = if cfg!(drop_in) {
    500
} else {
    u16::MAX as usize - 1
};

pub(crate) use crate::vfs::backing::UPPER;

/// One layer of a mount.
pub(crate) struct Layer {
    mnt: ARef<Mount>,
    /// Which of the mount's distinct filesystems it is on; 0 is upper's.
    pub(crate) fsid: u16,
    /// Its filesystem lists all extended attributes.
    ordinary: bool,
    /// An `x` opaque mark was seen, so files may be xattr whiteouts.
    xwhiteouts: Atomic<bool>,
}

impl Layer {
    /// A layer shown by `mnt`.
    pub(crate) fn new(mnt: &Mount, fsid: u16) -> Self {
        Self {
            ordinary: mnt.sb().is_ordinary(),
            mnt: mnt.into(),
            fsid,
            xwhiteouts: Atomic::new(false),
        }
    }

    /// The private mount of the layer.
    #[inline]
    pub(crate) fn mnt(&self) -> &Mount {
        &self.mnt
    }

    /// The path of `dentry` in this layer; `EXDEV` where it is in none of its filesystem.
    #[inline]
    pub(crate) fn path<'a>(&'a self, dentry: &'a Dentry) -> Result<PathRef<'a>> {
        self.mnt().path(dentry)
    }

    /// Whether an attribute that a file's list does not name is not there.
    pub(crate) fn lists_xattrs(&self) -> bool {
        self.ordinary
    }

    /// Remembers that a directory marked `x` was seen.
    pub(crate) fn set_xwhiteouts(&self) {
        self.xwhiteouts.store(true, Relaxed);
    }

    /// Whether a directory marked `x` was seen.
    pub(crate) fn has_xwhiteouts(&self) -> bool {
        self.xwhiteouts.load(Relaxed)
    }
}
