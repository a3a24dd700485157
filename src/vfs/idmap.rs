// SPDX-License-Identifier: GPL-2.0

//! How mounts map owner ids.
//!
//! C header: `include/linux/mnt_idmapping.h`.

use super::{calls, Inode};
use crate::bindings;
use kernel::types::Opaque;

/// How a mount maps owner ids.
#[repr(transparent)]
pub(crate) struct IdMap(Opaque<bindings::mnt_idmap>);

impl IdMap {
    /// # Safety
    ///
    /// `ptr` is a valid id mapping for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::mnt_idmap) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    /// The mapping that leaves all ids as they are.
    #[inline]
    pub(crate) fn nop() -> &'static Self {
        // SAFETY: a static of the kernel; only its address is taken.
        unsafe { Self::from_raw(&raw mut bindings::nop_mnt_idmap) }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::mnt_idmap {
        self.0.get()
    }

    /// Whether all ids stay as they are: what nearly every mount has, so it is asked before a call is made.
    #[inline]
    pub(super) fn is_nop(&self) -> bool {
        core::ptr::eq(self, Self::nop())
    }

    /// As whom the mount shows the user `uid` of `inode`'s filesystem; no user (`-1`) where it has no place for it.
    #[inline]
    pub(super) fn show_uid(&self, inode: &Inode, uid: bindings::kuid_t) -> bindings::kuid_t {
        if self.is_nop() {
            return uid;
        }
        let shown = calls::make_vfsuid(self, inode.sb().user_ns(), uid);
        bindings::kuid_t { val: shown.val }
    }

    /// As [`show_uid`](Self::show_uid), of a group.
    #[inline]
    pub(super) fn show_gid(&self, inode: &Inode, gid: bindings::kgid_t) -> bindings::kgid_t {
        if self.is_nop() {
            return gid;
        }
        let shown = calls::make_vfsgid(self, inode.sb().user_ns(), gid);
        bindings::kgid_t { val: shown.val }
    }

    /// Who on `inode`'s filesystem the user `uid` is that the mount shows; no user where there is none.
    pub(super) fn stored_uid(&self, inode: &Inode, uid: bindings::vfsuid_t) -> bindings::kuid_t {
        calls::from_vfsuid(self, inode.sb().user_ns(), uid)
    }

    /// As [`stored_uid`](Self::stored_uid), of a group.
    pub(super) fn stored_gid(&self, inode: &Inode, gid: bindings::vfsgid_t) -> bindings::kgid_t {
        calls::from_vfsgid(self, inode.sb().user_ns(), gid)
    }
}
