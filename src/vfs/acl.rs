// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs.
//!
//! C header: `include/linux/posix_acl.h`.

use super::{inode::Mode, mount::PathRef, Inode};
use crate::bindings;
use core::ptr::{self, NonNull};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
};

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

/// An ACL.
///
/// # Invariants
///
/// Owns a reference.
pub(crate) struct Acl(NonNull<bindings::posix_acl>);

impl Acl {
    fn from_ret(acl: *mut bindings::posix_acl) -> Result<Option<Self>> {
        Ok(NonNull::new(from_err_ptr(acl)?).map(Self))
    }

    pub(super) fn into_raw(this: Option<Self>) -> *mut bindings::posix_acl {
        this.map_or(ptr::null_mut(), |acl| {
            core::mem::ManuallyDrop::new(acl).0.as_ptr()
        })
    }

    /// The ACL of `path` as the current credentials may read it.
    pub(crate) fn read(path: PathRef<'_>, kind: AclType) -> Result<Option<Self>> {
        path.dentry().positive()?;
        // SAFETY: charter 1; the call returns a reference.
        Self::from_ret(unsafe {
            bindings::vfs_get_acl(
                path.idmap().as_ptr(),
                path.dentry().as_ptr(),
                kind.xattr_name().as_char_ptr(),
            )
        })
    }

    /// The ACL of `inode` for a permission check.
    pub(crate) fn of_inode(inode: &Inode, kind: AclType) -> Result<Option<Self>> {
        // SAFETY: charter 1; the call returns a reference.
        Self::from_ret(unsafe { bindings::get_inode_acl(inode.as_ptr(), kind.raw()) })
    }

    /// A copy that nobody else shares.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        // SAFETY: by the type invariant.
        NonNull::new(unsafe {
            bindings::posix_acl_clone(self.0.as_ptr(), bindings::ROVL_GFP_KERNEL)
        })
        .map(Self)
        .ok_or(ENOMEM)
    }

    /// Sets the ACL of `path`; the VFS may change the value, so it is one's own copy.
    pub(crate) fn write(&mut self, path: PathRef<'_>, kind: AclType) -> Result {
        // SAFETY: charter 1 and the type invariant.
        unsafe { set_raw(path, kind, self.0.as_ptr()) }
    }

    /// Removes the ACL of `path`.
    pub(crate) fn remove(path: PathRef<'_>, kind: AclType) -> Result {
        path.dentry().positive()?;
        // SAFETY: charter 1.
        to_result(unsafe {
            bindings::vfs_remove_acl(
                path.idmap().as_ptr(),
                path.dentry().as_ptr(),
                kind.xattr_name().as_char_ptr(),
            )
        })
    }

    /// `posix_acl_create()`: what a new entry of `dir` with `mode` inherits: its mode, default ACL and
    /// access ACL.
    pub(crate) fn inherit(dir: &Inode, mode: Mode) -> Result<(Mode, Option<Self>, Option<Self>)> {
        let (mut mode, mut default, mut access) = (mode.0, ptr::null_mut(), ptr::null_mut());
        // SAFETY: charter 1 and 10; the out-parameters get references.
        to_result(unsafe {
            bindings::posix_acl_create(dir.as_ptr(), &mut mode, &mut default, &mut access)
        })?;
        Ok((
            Mode(mode),
            NonNull::new(default).map(Self),
            NonNull::new(access).map(Self),
        ))
    }
}

/// # Safety
///
/// `acl` is valid.
unsafe fn set_raw(path: PathRef<'_>, kind: AclType, acl: *mut bindings::posix_acl) -> Result {
    path.dentry().positive()?;
    // SAFETY: charter 1; `acl` is valid by the contract.
    to_result(unsafe {
        bindings::vfs_set_acl(
            path.idmap().as_ptr(),
            path.dentry().as_ptr(),
            kind.xattr_name().as_char_ptr(),
            acl,
        )
    })
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: by the type invariant.
        unsafe { bindings::rovl_posix_acl_release(self.0.as_ptr()) }
    }
}

/// An ACL that a caller of ours passed in, borrowed.
pub(crate) struct AclRef<'a>(*mut bindings::posix_acl, core::marker::PhantomData<&'a ()>);

impl AclRef<'_> {
    /// # Safety
    ///
    /// `acl` is null or valid during `'a`.
    pub(super) unsafe fn from_raw<'a>(acl: *mut bindings::posix_acl) -> Option<AclRef<'a>> {
        (!acl.is_null()).then_some(AclRef(acl, core::marker::PhantomData))
    }

    /// Sets the ACL of `path`.
    pub(crate) fn write(&self, path: PathRef<'_>, kind: AclType) -> Result {
        // SAFETY: the pointer is valid during the borrow.
        unsafe { set_raw(path, kind, self.0) }
    }
}

/// The answer of a layer's ACL cache in RCU-walk, passed on untouched.
pub(crate) struct RcuAcl(pub(super) *mut bindings::posix_acl);

/// Looks into the ACL cache of a layer's inode.
pub(crate) fn cached_rcu(inode: super::rcu::RcuLayerInode<'_>, kind: AclType) -> RcuAcl {
    // SAFETY: charter 6; the inode's super block outlives it.
    unsafe {
        let posix = (*(*inode.as_ptr()).i_sb).s_flags & bindings::ROVL_SB_POSIXACL as usize != 0;
        RcuAcl(if posix {
            bindings::get_cached_acl_rcu(inode.as_ptr(), kind.raw())
        } else {
            ptr::null_mut()
        })
    }
}
