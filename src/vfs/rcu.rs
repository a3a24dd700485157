// SPDX-License-Identifier: GPL-2.0

//! What RCU-walk may touch (charter 6): values without references, and the one way out.

use super::{
    backing::{Backing, LayerMounts},
    fs::FileSystem,
    inode::Mode,
    inode_ops::LinkCall,
    mount::IdMap,
    own::InodeBox,
    super_ops::SuperBox,
    Mount, OwnInode,
};
use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{cred::Credential, error::from_err_ptr, ffi::c_char, prelude::*};

/// Why an operation in RCU-walk did not succeed.
pub(crate) enum RcuError {
    /// It would have to sleep or to take a reference: the walk is repeated with references.
    WouldBlock,
    /// It failed for good.
    Failed(Error),
}

impl From<Error> for RcuError {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl RcuError {
    pub(super) fn to_errno(&self) -> i32 {
        match self {
            Self::WouldBlock => -(bindings::ECHILD as i32),
            Self::Failed(e) => e.to_errno(),
        }
    }
}

/// An inode of ours, seen in RCU-walk: it may be evicted, so neither its references nor the filesystem's data are to be had.
///
/// # Invariants
///
/// Charter 3 and 6 hold for the inode during `'a`.
///
/// # Examples
///
/// ```ignore
/// fn permission_rcu(idmap: &IdMap, inode: RcuInode<'_, Overlay>, mask: u32) -> Result<(), RcuError> {
///     let mode = inode.mode();
///     let upper = inode.upper().ok_or(RcuError::WouldBlock)?;
///     let real = upper.inode()?;
///     inode.generic_permission(idmap, mask, mode, real)?;
///     cred::scope(inode.creds()?, |_| real.permission(upper.idmap(), mask))
/// }
/// ```
pub(crate) struct RcuInode<'a, F: FileSystem>(*mut bindings::inode, PhantomData<&'a OwnInode<F>>);

impl<F: FileSystem> Clone for RcuInode<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: FileSystem> Copy for RcuInode<'_, F> {}

impl<'a, F: FileSystem> RcuInode<'a, F> {
    /// # Safety
    ///
    /// Charter 3 and 6 hold for `ptr` and `'a`, which ends with the callback.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::inode) -> Self {
        // INVARIANT: by the contract.
        Self(ptr, PhantomData)
    }

    #[inline]
    fn backing(self) -> &'a Backing {
        // SAFETY: by the type invariant.
        unsafe { InodeBox::<F>::backing_rcu(self.0) }
    }

    /// The object behind it in the layer that can be written, `None` where there is none.
    #[inline]
    pub(crate) fn upper(self) -> Option<RcuPath<'a>> {
        let dentry = self.backing().upper_rcu()?;
        Some(self.path(self.mounts().upper_address()?, dentry))
    }

    /// The mounts of the layers; their addresses can be read.
    #[inline]
    fn mounts(self) -> &'a LayerMounts {
        // SAFETY: charter 6: the super block of an inode in RCU-walk is freed after a grace period.
        let sb = unsafe { (*self.0).i_sb };
        // SAFETY: charter 4 and 6: so is its box, with the addresses of the mounts.
        unsafe { SuperBox::<F>::mounts_of(sb) }
    }

    /// `dentry`, which is behind the inode in the layer that is mounted at `mnt`.
    #[inline]
    fn path(
        self,
        mnt: NonNull<bindings::vfsmount>,
        dentry: NonNull<bindings::dentry>,
    ) -> RcuPath<'a> {
        // INVARIANT: by that of the inode; a mount is freed a grace period after it was given back, and that is after the
        // last inode was evicted.
        RcuPath {
            mnt,
            dentry,
            _section: PhantomData,
        }
    }

    /// The topmost object behind it in a lower layer.
    #[inline]
    pub(crate) fn lower(self) -> Option<RcuPath<'a>> {
        let (dentry, layer) = self.backing().lower_rcu()?;
        Some(self.path(self.mounts().address(layer)?, dentry))
    }

    /// The credentials that layers are used with: all that RCU-walk sees of the super block's data.
    #[inline]
    pub(crate) fn creds(self) -> Result<&'a Credential, RcuError> {
        // SAFETY: charter 6: the super block of an inode in RCU-walk is freed after a grace period, as is its box
        // (charter 4); the credentials in it were set before the first inode was made.
        unsafe { SuperBox::<F>::creds_rcu((*self.0).i_sb) }.ok_or(RcuError::WouldBlock)
    }

    /// As [`RcuLayerInode::mode`].
    #[inline]
    pub(crate) fn mode(self) -> Mode {
        RcuLayerInode(self.0, PhantomData).mode()
    }

    /// The mode and ACL check of the inode itself, whose ACLs are those of `behind` and whose mode was `mode` before that was found.
    #[inline]
    pub(crate) fn generic_permission(
        self,
        idmap: &IdMap,
        mask: u32,
        mode: Mode,
        behind: RcuLayerInode<'_>,
    ) -> Result<(), RcuError> {
        // SAFETY: charter 6: `MAY_NOT_BLOCK` keeps the check from sleeping and from taking references.
        from_rcu(unsafe {
            bindings::rovl_permission(idmap.as_ptr(), self.0, not_block(mask), mode.0, behind.0)
        })
    }
}

fn not_block(mask: u32) -> i32 {
    (mask | bindings::MAY_NOT_BLOCK) as i32
}

fn from_rcu(ret: i32) -> Result<(), RcuError> {
    match ret {
        0 => Ok(()),
        e if e == -(bindings::ECHILD as i32) => Err(RcuError::WouldBlock),
        e => Err(RcuError::Failed(Error::from_errno(e))),
    }
}

/// An object of a layer, seen in RCU-walk.
///
/// # Invariants
///
/// Charter 6 holds for the mount and the dentry during `'a`.
#[derive(Clone, Copy)]
pub(crate) struct RcuPath<'a> {
    mnt: NonNull<bindings::vfsmount>,
    dentry: NonNull<bindings::dentry>,
    _section: PhantomData<&'a ()>,
}

impl<'a> RcuPath<'a> {
    /// The id mapping of its mount.
    #[inline]
    pub(crate) fn idmap(self) -> &'a IdMap {
        // SAFETY: by the type invariant the mount's memory lives during the RCU section, whoever gave it back since.
        unsafe { Mount::idmap_of(self.mnt.as_ptr()) }
    }

    /// Its inode as of now.
    #[inline]
    pub(crate) fn inode(self) -> Result<RcuLayerInode<'a>, RcuError> {
        // SAFETY: charter 6: the dentry's memory lives; the field is a word.
        let inode = unsafe { (&raw const (*self.dentry.as_ptr()).d_inode).read_volatile() };
        if inode.is_null() {
            return Err(RcuError::WouldBlock);
        }
        Ok(RcuLayerInode(inode, PhantomData))
    }
}

/// An inode of a layer, seen in RCU-walk.
///
/// # Invariants
///
/// Charter 6 holds for the inode during `'a`.
#[derive(Clone, Copy)]
pub(crate) struct RcuLayerInode<'a>(*mut bindings::inode, PhantomData<&'a ()>);

impl RcuLayerInode<'_> {
    #[inline]
    pub(crate) fn mode(self) -> Mode {
        // SAFETY: charter 6: the inode's memory lives; the field is less than a word.
        Mode(unsafe { (&raw const (*self.0).i_mode).read_volatile() })
    }

    /// `inode_permission()` in RCU-walk.
    #[inline]
    pub(crate) fn permission(self, idmap: &IdMap, mask: u32) -> Result<(), RcuError> {
        // SAFETY: charter 6: `MAY_NOT_BLOCK` keeps the check from sleeping and from taking references.
        from_rcu(unsafe { bindings::inode_permission(idmap.as_ptr(), self.0, not_block(mask)) })
    }

    /// The target of the symlink that it is, as a walk on its own filesystem gets it, or why not: whatever is the
    /// matter, the walk with references says so. `call` frees the target, or what it is in.
    pub(super) fn get_link(self, call: LinkCall<'_>) -> Result<*const c_char, RcuError> {
        if self.mode().file_type() != Mode::LNK {
            return Err(RcuError::WouldBlock);
        }
        // SAFETY: charter 6: the inode's memory lives. The field is a symlink's own, and a word that stays, with what it
        // points to, as long as the inode does: the VFS reads it in RCU-walk, too.
        let target = unsafe { (&raw const (*self.0).__bindgen_anon_5.i_link).read_volatile() };
        if !target.is_null() {
            return Ok(target);
        }
        // SAFETY: charter 6: the inode's memory lives; the field is a word.
        let ops = unsafe { (&raw const (*self.0).i_op).read_volatile() };
        // SAFETY: an inode has a table at any time, which is constant.
        let op = unsafe { (*ops).get_link }.ok_or(RcuError::WouldBlock)?;
        // SAFETY: charter 6: without a dentry the operation is one of RCU-walk, which neither sleeps nor takes
        // references but what it leaves to `call`, an argument of the callback that runs.
        let target = unsafe { op(core::ptr::null_mut(), self.0, call.as_ptr()) };
        match from_err_ptr(target.cast_mut()) {
            Ok(target) if !target.is_null() => Ok(target),
            _ => Err(RcuError::WouldBlock),
        }
    }

    pub(super) fn as_ptr(self) -> *mut bindings::inode {
        self.0
    }
}
