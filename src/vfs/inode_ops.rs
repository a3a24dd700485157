// SPDX-License-Identifier: GPL-2.0

//! The table of inode operations of a kind of inode.
//!
//! Contracts and locks of each operation: `Documentation/filesystems/{vfs,locking}.rst`.

use super::{
    acl::{Acl, AclRef, AclType, RcuAcl},
    attr::{FileAttr, Iattr, Stat},
    callback::{c_table, FromC, IntoC, RawAcl, RawDentry, RawFile, RawIdmap, RawInode, Seen},
    file_ops::{Instantiated, OpenTmpfile},
    fs::FileSystem,
    inode::Mode,
    mount::IdMap,
    outbuf::OutBuf,
    rcu::{RcuError, RcuInode, RcuLayerInode},
    refs::Ref,
    Child, Dentry, OwnDentry, OwnInode,
};
use crate::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{error::VTABLE_DEFAULT_ERROR, ffi::c_char, prelude::*};

/// What lookup found.
pub(crate) enum LookedUp<'a, F: FileSystem> {
    /// No such name.
    Negative,
    /// This inode.
    Inode(Ref<'a, OwnInode<F>>),
}

/// A request for the extents of a file, to be passed on.
pub(crate) struct FiemapRequest<'a> {
    raw: RawFiemap,
    _callback: PhantomData<&'a ()>,
}

impl FiemapRequest<'_> {
    /// # Safety
    ///
    /// The arguments of `fiemap`, used during the callback alone.
    pub(super) unsafe fn from_raw(raw: RawFiemap) -> Self {
        Self {
            raw,
            _callback: PhantomData,
        }
    }

    /// Passes the request on to an inode of a layer.
    pub(crate) fn pass(self, real: &super::Inode) -> Result {
        let (info, start, len) = self.raw;
        real.fiemap(info, start, len)
    }
}

/// Operations on one kind of inode. `dir` arguments are locked by the VFS, exclusively but for
/// `lookup`; what a [`Child`] stands for is charter 5.
#[vtable]
pub(crate) trait InodeOperations<F: FileSystem>: 'static {
    /// Looks a name up.
    fn lookup(_child: Child<'_, F>) -> Result<LookedUp<'_, F>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Checks access (`MAY_*`); may sleep.
    fn permission(_idmap: &IdMap, _inode: &OwnInode<F>, _mask: u32) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Checks access in RCU-walk.
    fn permission_rcu(_idmap: &IdMap, _inode: RcuInode<'_, F>, _mask: u32) -> Result<(), RcuError> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Reads a symlink; the real dentry whose link is the answer.
    fn link_source(_dentry: &OwnDentry<F>) -> Result<&Dentry> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// As [`link_source`](Self::link_source), in RCU-walk and with the credentials that layers are used with.
    fn link_source_rcu(_inode: RcuInode<'_, F>) -> Result<RcuLayerInode<'_>, RcuError> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Creates a regular file, as the others here that make a name: ends with [`Child::instantiate`].
    fn create(_idmap: &IdMap, _child: Child<'_, F>, _mode: Mode) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Creates a directory.
    fn mkdir(_idmap: &IdMap, _child: Child<'_, F>, _mode: Mode) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Creates a device, FIFO or socket.
    fn mknod(_idmap: &IdMap, _child: Child<'_, F>, _mode: Mode, _rdev: u32) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Creates a symlink.
    fn symlink(_idmap: &IdMap, _child: Child<'_, F>, _target: &CStr) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Creates a hard link to `old`.
    fn link(_old: &OwnDentry<F>, _new: Child<'_, F>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Removes a name that is not a directory.
    fn unlink(_child: Child<'_, F>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Removes an empty directory.
    fn rmdir(_child: Child<'_, F>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Renames; `flags` of `RENAME_*`.
    fn rename(_old: Child<'_, F>, _new: Child<'_, F>, _flags: u32) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Opens an unnamed file: ends with [`OpenTmpfile::instantiate`].
    fn tmpfile<'a>(
        _idmap: &IdMap,
        _dir: &OwnInode<F>,
        _file: OpenTmpfile<'a, F>,
        _mode: Mode,
    ) -> Result<Instantiated<'a, F>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Changes attributes; the inode is locked.
    fn setattr(_idmap: &IdMap, _dentry: &OwnDentry<F>, _attr: &mut Iattr) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Reads attributes.
    fn getattr(
        _idmap: &IdMap,
        _dentry: &OwnDentry<F>,
        _stat: &mut Stat,
        _mask: u32,
        _flags: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Lists extended attributes.
    fn listxattr(_dentry: &OwnDentry<F>, _out: &mut OutBuf<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// The ACL for a permission check.
    fn inode_acl(_inode: &OwnInode<F>, _kind: AclType) -> Result<Option<Acl>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// The cached ACL in RCU-walk.
    fn inode_acl_rcu(_inode: RcuInode<'_, F>, _kind: AclType) -> Result<RcuAcl<'_>, RcuError> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// The ACL for a reader.
    fn acl(_dentry: &OwnDentry<F>, _kind: AclType) -> Result<Option<Acl>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Sets or (`None`) removes an ACL; the inode is locked.
    fn set_acl(
        _idmap: &IdMap,
        _dentry: &OwnDentry<F>,
        _acl: Option<AclRef<'_>>,
        _kind: AclType,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Updates the access time; `Err(EAGAIN)` with `nowait` where it would sleep.
    fn update_atime(_inode: &OwnInode<F>, _nowait: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Reports extents.
    fn fiemap(_inode: &OwnInode<F>, _request: FiemapRequest<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Reads `chattr` flags.
    fn fileattr_get(_dentry: &OwnDentry<F>, _fa: &mut FileAttr) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// Changes `chattr` flags; the inode is locked.
    fn fileattr_set(_dentry: &OwnDentry<F>, _fa: &mut FileAttr) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Where `get_link` leaves how what it returned is freed.
pub(super) struct LinkCall<'a>(*mut bindings::delayed_call, PhantomData<&'a ()>);

impl LinkCall<'_> {
    /// # Safety
    ///
    /// The argument of `get_link`, used during the callback alone.
    pub(super) unsafe fn from_raw(call: *mut bindings::delayed_call) -> Self {
        Self(call, PhantomData)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::delayed_call {
        self.0
    }
}

/// A symlink as `get_link` sees it.
pub(super) enum Link<'a, F: FileSystem> {
    Referenced(&'a OwnDentry<F>),
    Rcu(RcuInode<'a, F>),
}

// SAFETY: charter 3, and 1 or, without a dentry, 6.
unsafe impl<'a, F: FileSystem> FromC<(RawDentry, RawInode)> for Link<'a, F> {
    #[inline]
    unsafe fn from_c((dentry, inode): (RawDentry, RawInode)) -> Self {
        if dentry.is_null() {
            // SAFETY: without a dentry the caller is in RCU-walk, so `rcu_read_lock` is held (charter 6).
            Self::Rcu(unsafe { RcuInode::from_raw(inode) })
        } else {
            // SAFETY: outside RCU-walk the caller references the dentry (charter 1).
            Self::Referenced(unsafe { OwnDentry::from_raw(dentry) })
        }
    }
}

/// That a name that was made has an inode, which callers (IMA) look at; `EIO`.
fn made<F: FileSystem>(child: Child<'_, F>) -> Result {
    match child.inode() {
        Some(_) => Ok(()),
        None => Err(EIO),
    }
}

/// The table of the operations `T`.
pub(super) struct Table<F, T>(PhantomData<(F, T)>);

/// A request for extents as the VFS passes it: where they go, and the range.
pub(super) type RawFiemap = (*mut bindings::fiemap_extent_info, u64, u64);

impl<F: FileSystem, T: InodeOperations<F>> Table<F, T> {
    c_table! {
        /// The operations that `T` has.
        pub(super) const OPS: bindings::inode_operations = {};

        if T::HAS_LOOKUP fn lookup(_dir: RawInode, d: RawDentry, _flags: u32) -> RawDentry
            => Self::look_up(d);
        if T::HAS_PERMISSION fn permission(idmap: RawIdmap, inode: RawInode, mask: i32) -> i32
            => Self::check(idmap, (inode, mask), mask);
        if T::HAS_LINK_SOURCE fn get_link(
            d: RawDentry,
            inode: RawInode,
            call: *mut bindings::delayed_call,
        ) -> *const c_char
            => Self::follow((d, inode), call);
        if T::HAS_CREATE fn create(idmap: RawIdmap, _dir: RawInode, d: RawDentry, mode: u16) -> i32
            => Self::create_file(idmap, d, mode);
        if T::HAS_MKDIR fn mkdir(idmap: RawIdmap, _dir: RawInode, d: RawDentry, mode: u16) -> RawDentry
            => Self::make_dir(idmap, d, mode);
        if T::HAS_MKNOD fn mknod(
            idmap: RawIdmap,
            _dir: RawInode,
            d: RawDentry,
            mode: u16,
            rdev: u32,
        ) -> i32
            => Self::make_node(idmap, d, mode, rdev);
        if T::HAS_SYMLINK fn symlink(
            idmap: RawIdmap,
            _dir: RawInode,
            d: RawDentry,
            target: *const c_char,
        ) -> i32
            => Self::make_symlink(idmap, d, target);
        if T::HAS_LINK fn link(old: RawDentry, _dir: RawInode, new: RawDentry) -> i32
            => Self::make_link(old, new);
        if T::HAS_UNLINK fn unlink(_dir: RawInode, d: RawDentry) -> i32
            => T::unlink(d);
        if T::HAS_RMDIR fn rmdir(_dir: RawInode, d: RawDentry) -> i32
            => T::rmdir(d);
        if T::HAS_RENAME fn rename(
            _idmap: RawIdmap,
            _old_dir: RawInode,
            old: RawDentry,
            _new_dir: RawInode,
            new: RawDentry,
            flags: u32,
        ) -> i32
            => T::rename(old, new, flags);
        if T::HAS_TMPFILE fn tmpfile(idmap: RawIdmap, dir: RawInode, file: RawFile, mode: u16) -> i32
            => Self::open_tmpfile(idmap, dir, file, mode);
        if T::HAS_SETATTR fn setattr(idmap: RawIdmap, d: RawDentry, attr: *mut bindings::iattr) -> i32
            => T::setattr(idmap, d, attr);
        if T::HAS_GETATTR fn getattr(
            idmap: RawIdmap,
            path: *const bindings::path,
            stat: *mut bindings::kstat,
            mask: u32,
            flags: u32,
        ) -> i32
            => T::getattr(idmap, path, stat, mask, flags);
        if T::HAS_LISTXATTR fn listxattr(d: RawDentry, list: *mut c_char, len: usize) -> isize
            => Self::list_xattrs(d, (list, len));
        if T::HAS_INODE_ACL fn get_inode_acl(inode: RawInode, kind: i32, rcu: bool) -> RawAcl
            => Self::inode_acl((inode, rcu), kind);
        if T::HAS_ACL fn get_acl(_idmap: RawIdmap, d: RawDentry, kind: i32) -> RawAcl
            => T::acl(d, kind);
        if T::HAS_SET_ACL fn set_acl(idmap: RawIdmap, d: RawDentry, acl: RawAcl, kind: i32) -> i32
            => T::set_acl(idmap, d, acl, kind);
        if T::HAS_UPDATE_ATIME fn update_time(
            inode: RawInode,
            kind: bindings::fs_update_time,
            flags: u32,
        ) -> i32
            => Self::update_time_of(inode, kind, flags);
        if T::HAS_FIEMAP fn fiemap(
            inode: RawInode,
            info: *mut bindings::fiemap_extent_info,
            start: u64,
            len: u64,
        ) -> i32
            => T::fiemap(inode, (info, start, len));
        if T::HAS_FILEATTR_GET fn fileattr_get(
            d: RawDentry,
            fa: *mut kernel::bindings::file_kattr,
        ) -> i32
            => T::fileattr_get(d, fa);
        if T::HAS_FILEATTR_SET fn fileattr_set(
            _idmap: RawIdmap,
            d: RawDentry,
            fa: *mut kernel::bindings::file_kattr,
        ) -> i32
            => T::fileattr_set(d, fa);
    }

    #[inline]
    fn look_up(child: Child<'_, F>) -> RawDentry {
        let found = T::lookup(child);
        let inode = match found {
            // Before names are made the VFS looks them up with a dentry that is not marked as in lookup.
            _ if child.inode().is_some() => return EIO.to_ptr(),
            Err(e) => return e.to_ptr(),
            Ok(LookedUp::Negative) => ptr::null_mut(),
            Ok(LookedUp::Inode(inode)) if inode.sb() != child.sb() => return EIO.to_ptr(),
            Ok(LookedUp::Inode(inode)) => inode.into_raw().as_ptr().cast(),
        };
        // SAFETY: charter 1: `lookup` gets a referenced dentry that is not hashed yet, and still negative, as was just seen; the
        // call takes over the reference of `inode`, given up just now, which is one of the dentry's super block.
        unsafe { bindings::d_splice_alias(inode, child.dentry().as_ptr()) }
    }

    fn create_file(idmap: &IdMap, child: Child<'_, F>, mode: Mode) -> Result {
        T::create(idmap, child, mode)?;
        made(child)
    }

    fn make_dir(idmap: &IdMap, child: Child<'_, F>, mode: Mode) -> Result {
        T::mkdir(idmap, child, mode)?;
        made(child)
    }

    fn make_node(idmap: &IdMap, child: Child<'_, F>, mode: Mode, rdev: u32) -> Result {
        T::mknod(idmap, child, mode, rdev)?;
        made(child)
    }

    fn make_symlink(idmap: &IdMap, child: Child<'_, F>, target: &CStr) -> Result {
        T::symlink(idmap, child, target)?;
        made(child)
    }

    fn make_link(old: &OwnDentry<F>, new: Child<'_, F>) -> Result {
        T::link(old, new)?;
        made(new)
    }

    #[inline]
    fn check(idmap: &IdMap, inode: Seen<'_, F>, mask: u32) -> i32 {
        match inode {
            Seen::Referenced(inode) => T::permission(idmap, inode, mask).into_c(),
            Seen::Rcu(inode) => {
                T::permission_rcu(idmap, inode, mask & !bindings::MAY_NOT_BLOCK).into_c()
            }
        }
    }

    #[inline]
    fn follow(link: Link<'_, F>, call: LinkCall<'_>) -> *const c_char {
        let dentry = match link {
            Link::Referenced(dentry) => dentry,
            Link::Rcu(inode) => {
                let target = inode.creds().and_then(|creds| {
                    super::cred::scope(creds, |_| T::link_source_rcu(inode)?.get_link(call))
                });
                return target.unwrap_or_else(|e| Error::from_errno(e.to_errno()).to_ptr());
            }
        };
        match T::link_source(dentry).and_then(Dentry::as_plain_link) {
            // SAFETY: charter 1: `real`, a plain link, is borrowed from `dentry`, which the callback keeps; where the link goes
            // is freed by `call`, an argument of the callback.
            Ok(real) => super::cred::scope(dentry.fs().creds(), |_| unsafe {
                bindings::vfs_get_link(real.as_ptr(), call.0)
            }),
            Err(e) => e.to_ptr::<c_char>(),
        }
    }

    fn open_tmpfile(
        idmap: &IdMap,
        dir: &OwnInode<F>,
        file: OpenTmpfile<'_, F>,
        mode: Mode,
    ) -> Result {
        T::tmpfile(idmap, dir, file, mode)?.finish()
    }

    fn list_xattrs(dentry: &OwnDentry<F>, mut out: OutBuf<'_>) -> Result<usize> {
        T::listxattr(dentry, &mut out)?;
        Ok(out.len())
    }

    #[inline]
    fn inode_acl(inode: Seen<'_, F>, kind: AclType) -> RawAcl {
        match inode {
            Seen::Referenced(inode) => T::inode_acl(inode, kind).into_c(),
            Seen::Rcu(inode) => T::inode_acl_rcu(inode, kind).into_c(),
        }
    }

    fn update_time_of(inode: &OwnInode<F>, kind: bindings::fs_update_time, flags: u32) -> Result {
        if kind != bindings::ROVL_FS_UPD_ATIME {
            return Ok(());
        }
        T::update_atime(inode, flags & bindings::ROVL_IOCB_NOWAIT != 0)
    }
}
