// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs.
//!
//! C header: `include/linux/posix_acl.h`.

use super::{
    calls,
    inode::Mode,
    mount::{task_has_fs, PathRef, WritePath},
    rcu::{RcuError, RcuPath},
    to_result, Inode,
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::{error::from_err_ptr, prelude::*};

/// Which of a file's ACLs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AclType {
    /// The one that access is checked with.
    Access,
    /// The one that new entries of a directory inherit.
    Default,
}

impl AclType {
    pub(super) fn from_raw(kind: i32) -> Self {
        if kind as u32 == bindings::ACL_TYPE_DEFAULT {
            Self::Default
        } else {
            Self::Access
        }
    }

    fn raw(self) -> i32 {
        (match self {
            Self::Access => bindings::ACL_TYPE_ACCESS,
            Self::Default => bindings::ACL_TYPE_DEFAULT,
        }) as i32
    }

    /// The name as an extended attribute.
    pub(crate) fn xattr_name(self) -> &'static CStr {
        match self {
            Self::Access => c"system.posix_acl_access",
            Self::Default => c"system.posix_acl_default",
        }
    }

    /// The type whose attribute name is `name`.
    pub(crate) fn of_xattr(name: &CStr) -> Option<Self> {
        [Self::Access, Self::Default]
            .into_iter()
            .find(|kind| kind.xattr_name() == name)
    }
}

/// What a C function returned that looked for an ACL: an errno, nothing, or one with a reference to give away.
#[must_use]
#[repr(transparent)]
pub(super) struct FoundAcl(*mut bindings::posix_acl);

impl FoundAcl {
    fn get(self) -> Result<Option<Acl>> {
        // INVARIANT: by the type's meaning.
        Ok(NonNull::new(from_err_ptr(self.0)?).map(Acl))
    }
}

/// An ACL. Others may have it, too: nobody changes it.
///
/// # Invariants
///
/// Owns a reference.
pub(crate) struct Acl(NonNull<bindings::posix_acl>);

impl Acl {
    pub(super) fn into_raw(this: Option<Self>) -> *mut bindings::posix_acl {
        this.map_or(ptr::null_mut(), |acl| ManuallyDrop::new(acl).0.as_ptr())
    }

    /// The ACL of `path` as the current credentials may read it, its ids as the mount shows them.
    ///
    /// # Errors
    ///
    /// `ENODATA` or `None` where there is none, `EOPNOTSUPP` where the filesystem has no ACLs, `ENOMEM`.
    pub(crate) fn read(path: PathRef<'_>, kind: AclType) -> Result<Option<Self>> {
        let dentry = path.dentry().as_positive()?;
        let acl = calls::vfs_get_acl(path.idmap(), dentry, kind.xattr_name().into()).get()?;
        acl.map(|acl| acl.shown_by(path)).transpose()
    }

    /// The ACL of `path` for a permission check, its ids as the mount shows them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what the filesystem returns.
    pub(crate) fn of_object(path: PathRef<'_>, kind: AclType) -> Result<Option<Self>> {
        let acl = calls::get_inode_acl(path.positive()?, kind.raw()).get()?;
        acl.map(|acl| acl.shown_by(path)).transpose()
    }

    /// A copy that nobody else has seen; `ENOMEM`.
    fn copy(&self) -> Result<Self> {
        // SAFETY: by the type invariant the value is there, and nobody changes it.
        let copy = unsafe { bindings::posix_acl_clone(self.0.as_ptr(), bindings::ROVL_GFP_KERNEL) };
        // INVARIANT: the reference to a copy is its maker's.
        NonNull::new(copy).map(Self).ok_or(ENOMEM)
    }

    /// The ACL, one of `path`, with its ids as the mount shows them; `ENOMEM`.
    fn shown_by(self, path: PathRef<'_>) -> Result<Self> {
        if path.idmap().is_nop() {
            return Ok(self);
        }
        // The filesystem keeps what it gave us.
        let copy = self.copy()?;
        // SAFETY: charter 1: the mount is referenced; nobody else has seen the copy.
        unsafe { bindings::rovl_acl_show(copy.0.as_ptr(), path.mnt().as_ptr()) };
        Ok(copy)
    }

    /// Sets the ACL of `path`, its ids those that the mount shows.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what the filesystem or a security module returns.
    pub(crate) fn write(&self, path: WritePath<'_>, kind: AclType) -> Result {
        path.dentry().positive()?;
        // The VFS writes into what it is given.
        let copy = self.copy()?;
        // SAFETY: charter 1 and 2: mount and dentry are referenced, the dentry is positive; the name is a C string; nobody
        // else has seen the copy, and we do not look at it afterwards.
        to_result(unsafe {
            bindings::vfs_set_acl(
                path.idmap().as_ptr(),
                path.dentry().as_ptr(),
                kind.xattr_name().as_char_ptr(),
                copy.0.as_ptr(),
            )
        })
    }

    /// Removes the ACL of `path`.
    pub(crate) fn remove(path: WritePath<'_>, kind: AclType) -> Result {
        let (dentry, name) = (path.dentry().as_positive()?, kind.xattr_name());
        to_result(calls::vfs_remove_acl(path.idmap(), dentry, name.into()))
    }

    /// `posix_acl_create()`: what a new entry of `dir` with `mode` inherits: its mode, default ACL and
    /// access ACL.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what the filesystem returns; `ESRCH` in a task that is exiting, which has no umask.
    pub(crate) fn inherit(dir: &Inode, mode: Mode) -> Result<(Mode, Option<Self>, Option<Self>)> {
        task_has_fs()?;
        let (mut mode, mut default, mut access) = (mode.0, ptr::null_mut(), ptr::null_mut());
        // SAFETY: charter 1 and 10: the inode is referenced, the three values are ours; the task has a umask, as was just seen.
        to_result(unsafe {
            bindings::posix_acl_create(dir.as_ptr(), &mut mode, &mut default, &mut access)
        })?;
        // INVARIANT: those that the call set come with a reference.
        Ok((
            Mode(mode),
            NonNull::new(default).map(Self),
            NonNull::new(access).map(Self),
        ))
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: by the type invariant the reference is ours; it is given up here.
        unsafe { bindings::rovl_posix_acl_release(self.0.as_ptr()) }
    }
}

/// An ACL that a caller of ours passed in, borrowed.
pub(crate) struct AclRef<'a>(ManuallyDrop<Acl>, PhantomData<&'a Acl>);

impl AclRef<'_> {
    /// # Safety
    ///
    /// `acl` is null, or an ACL that is referenced during `'a`.
    pub(super) unsafe fn from_raw<'a>(acl: *mut bindings::posix_acl) -> Option<AclRef<'a>> {
        // INVARIANT: the reference is the caller's; ours is never given back, nor used after `'a`.
        let acl = Acl(NonNull::new(acl)?);
        Some(AclRef(ManuallyDrop::new(acl), PhantomData))
    }
}

impl core::ops::Deref for AclRef<'_> {
    type Target = Acl;
    fn deref(&self) -> &Acl {
        &self.0
    }
}

/// The answer of a layer's ACL cache in RCU-walk, passed on untouched.
pub(crate) struct RcuAcl<'a>(*mut bindings::posix_acl, PhantomData<&'a Acl>);

impl RcuAcl<'_> {
    /// For the VFS, which asked in RCU-walk.
    pub(super) fn into_raw(self) -> *mut bindings::posix_acl {
        self.0
    }
}

/// Looks into the ACL cache of an inode of a layer.
///
/// # Errors
///
/// [`WouldBlock`](RcuError::WouldBlock) where the mount shows other ids than those in the cache.
pub(crate) fn cached_rcu(path: RcuPath<'_>, kind: AclType) -> Result<RcuAcl<'_>, RcuError> {
    if !path.idmap().is_nop() {
        return Err(RcuError::WouldBlock);
    }
    let inode = path.inode()?;
    // SAFETY: charter 6: the inode can be read, and its super block outlives it.
    let flags = unsafe { (*(*inode.as_ptr()).i_sb).s_flags };
    let acl = if flags & bindings::ROVL_SB_POSIXACL as usize != 0 {
        // SAFETY: charter 6: the inode can be read.
        unsafe { bindings::get_cached_acl_rcu(inode.as_ptr(), kind.raw()) }
    } else {
        ptr::null_mut()
    };
    Ok(RcuAcl(acl, PhantomData))
}
