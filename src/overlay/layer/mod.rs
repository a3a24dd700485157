// SPDX-License-Identifier: GPL-2.0

//! Layers, paths in layers, and the stack of lower paths of an inode.

pub(super) mod handle;
pub(super) mod marks;
pub(super) mod redirect;
pub(super) mod temp;
pub(super) mod whiteout;
pub(super) mod xattr_names;

use crate::vfs::{
    mount::{IdMap, PathRef, PrivateMount},
    sync::{Flags, OnceRef},
    Dentry, Mount,
};
use kernel::{prelude::*, sync::aref::ARef};

/// The most lower layers that a mount may have: what an index can tell apart, so that memory sets the
/// limit in practice; in the drop-in the limit of overlayfs.
pub(crate) const MAX_LOWER: usize = if cfg!(drop_in) {
    500
} else {
    u16::MAX as usize - 1
};

/// Index of the upper layer.
pub(crate) const UPPER: u16 = 0;

/// Layer flag: an `x` opaque mark was seen, so files may be xattr whiteouts.
const XWHITEOUTS: usize = 1;

/// One layer of a mount.
pub(crate) struct Layer {
    mnt: PrivateMount,
    /// Which of the mount's distinct filesystems it is on; 0 is upper's.
    pub(crate) fsid: u16,
    /// Its filesystem lists all extended attributes.
    ordinary: bool,
    marks: Flags,
}

impl Layer {
    /// A layer shown by `mnt`.
    pub(crate) fn new(mnt: PrivateMount, fsid: u16) -> Self {
        Self {
            ordinary: mnt.sb().is_ordinary(),
            mnt,
            fsid,
            marks: Flags::new(),
        }
    }

    /// The private mount of the layer.
    #[inline]
    pub(crate) fn mnt(&self) -> &Mount {
        &self.mnt
    }

    /// The id mapping of every layer: mapped ones are refused.
    pub(crate) fn idmap() -> &'static IdMap {
        IdMap::nop()
    }

    /// The path of `dentry` in this layer.
    #[inline]
    pub(crate) fn path<'a>(&'a self, dentry: &'a Dentry) -> PathRef<'a> {
        PathRef {
            mnt: self.mnt(),
            dentry,
        }
    }

    /// Whether an attribute that a file's list does not name is not there.
    pub(crate) fn lists_xattrs(&self) -> bool {
        self.ordinary
    }

    /// Remembers that a directory marked `x` was seen.
    pub(crate) fn set_xwhiteouts(&self) {
        self.marks.set(XWHITEOUTS);
    }

    /// Whether a directory marked `x` was seen.
    pub(crate) fn has_xwhiteouts(&self) -> bool {
        self.marks.test(XWHITEOUTS)
    }

    /// Gives the mount up.
    pub(crate) fn into_mount(self) -> PrivateMount {
        self.mnt
    }
}

/// A dentry in a lower layer, referenced until its inode is torn down.
pub(crate) struct LowerPath {
    /// The dentry.
    pub(crate) dentry: OnceRef<Dentry>,
    /// Index of the layer, from 1.
    pub(crate) layer: u16,
}

impl LowerPath {
    /// `dentry` in layer `layer`.
    pub(crate) fn new(dentry: ARef<Dentry>, layer: u16) -> Self {
        Self {
            dentry: OnceRef::from_ref(dentry),
            layer,
        }
    }

    /// The dentry; `ESTALE` where the inode is being torn down.
    #[inline]
    pub(crate) fn dentry(&self) -> Result<&Dentry> {
        self.dentry.get().ok_or(ESTALE)
    }
}

/// The lower paths of an inode, topmost first. One path, the common case, needs no allocation.
pub(crate) enum LowerStack {
    /// Upper only.
    Empty,
    /// In one lower layer.
    One(LowerPath),
    /// A directory merged from several; boxed, for most inodes are not.
    Many(KBox<KVec<LowerPath>>),
}

impl LowerStack {
    /// Takes the paths of `paths`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn from_vec(mut paths: KVec<LowerPath>) -> Result<Self> {
        if paths.len() > 1 {
            return Ok(Self::Many(KBox::new(paths, GFP_KERNEL_ACCOUNT)?));
        }
        Ok(match paths.pop() {
            Some(path) => Self::One(path),
            None => Self::Empty,
        })
    }

    /// The paths.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[LowerPath] {
        match self {
            Self::Empty => &[],
            Self::One(path) => core::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    /// The topmost path.
    #[inline]
    pub(crate) fn first(&self) -> Option<&LowerPath> {
        self.as_slice().first()
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Gives all references back.
    pub(crate) fn release(&self) {
        for path in self.as_slice() {
            path.dentry.release();
        }
    }
}
