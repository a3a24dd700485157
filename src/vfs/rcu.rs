// SPDX-License-Identifier: GPL-2.0

//! What RCU-walk may touch (charter 6): values without references, and the one way out.

use super::{
    fs::{FileSystem, SuperBox},
    inode::Mode,
    mount::IdMap,
    sync::OnceRef,
    Dentry, OwnInode,
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{cred::Credential, prelude::*};

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

/// An inode of ours, seen in RCU-walk.
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
    /// Charter 3 and 6 hold for `ptr` and `'a`.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::inode) -> Self {
        Self(ptr, PhantomData)
    }

    /// The filesystem's own data; set-once references in it are read by [`RcuDentry::of`].
    #[inline]
    pub(crate) fn data(self) -> &'a F::Inode {
        // SAFETY: charter 6 and 3: the memory lives, and `F::Inode` is `Sync`.
        unsafe { OwnInode::<F>::from_raw(self.0).data() }
    }

    /// The credentials that layers are used with: all that RCU-walk sees of the super block's data.
    #[inline]
    pub(crate) fn creds(self) -> Result<&'a Credential, RcuError> {
        // SAFETY: charter 4 and 6: the box is freed after a grace period, and its credentials with it; they
        // were set before the first inode was made.
        unsafe {
            let sb = (*self.0).i_sb;
            let data = (*sb).s_fs_info.cast::<SuperBox<F>>();
            (*data).creds.as_deref().ok_or(RcuError::WouldBlock)
        }
    }

    /// The mode and ACL check of the inode itself.
    #[inline]
    pub(crate) fn generic_permission(self, idmap: &IdMap, mask: u32) -> Result<(), RcuError> {
        // SAFETY: charter 6: `MAY_NOT_BLOCK` keeps the check from sleeping.
        from_rcu(unsafe { bindings::generic_permission(idmap.as_ptr(), self.0, not_block(mask)) })
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

/// A dentry of a layer, seen in RCU-walk.
#[derive(Clone, Copy)]
pub(crate) struct RcuDentry<'a>(*mut Dentry, PhantomData<&'a ()>);

impl<'a> RcuDentry<'a> {
    /// The dentry of a set-once reference, `None` where unset.
    #[inline]
    pub(crate) fn of(reference: &'a OnceRef<Dentry>) -> Option<Self> {
        let ptr = reference.get_rcu();
        (!ptr.is_null()).then_some(Self(ptr, PhantomData))
    }

    /// Its inode as of now.
    #[inline]
    pub(crate) fn inode(self) -> Result<RcuLayerInode<'a>, RcuError> {
        // SAFETY: charter 6: the dentry's memory lives.
        let inode =
            unsafe { (&raw const (*self.0.cast::<bindings::dentry>()).d_inode).read_volatile() };
        if inode.is_null() {
            return Err(RcuError::WouldBlock);
        }
        Ok(RcuLayerInode(inode, PhantomData))
    }
}

/// An inode of a layer, seen in RCU-walk.
#[derive(Clone, Copy)]
pub(crate) struct RcuLayerInode<'a>(*mut bindings::inode, PhantomData<&'a ()>);

impl RcuLayerInode<'_> {
    pub(crate) fn mode(self) -> Mode {
        // SAFETY: charter 6.
        Mode(unsafe { (&raw const (*self.0).i_mode).read_volatile() })
    }

    /// `inode_permission()` in RCU-walk.
    #[inline]
    pub(crate) fn permission(self, idmap: &IdMap, mask: u32) -> Result<(), RcuError> {
        // SAFETY: charter 6.
        from_rcu(unsafe { bindings::inode_permission(idmap.as_ptr(), self.0, not_block(mask)) })
    }

    pub(super) fn as_ptr(self) -> *mut bindings::inode {
        self.0
    }
}
