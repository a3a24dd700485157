// SPDX-License-Identifier: GPL-2.0

//! The table of inode operations of a kind of inode.
//!
//! Contracts and locks of each operation: `Documentation/filesystems/{vfs,locking}.rst`.

use super::{
    acl::{Acl, AclRef, AclType, RcuAcl},
    attr::{FileAttr, Iattr, Stat},
    file_ops::OpenTmpfile,
    fs::FileSystem,
    inode::Mode,
    mount::IdMap,
    rcu::{RcuError, RcuInode, RcuLayerInode},
    refs::Ref,
    Child, Dentry, OwnDentry, OwnInode,
};
use crate::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{error::VTABLE_DEFAULT_ERROR, prelude::*};

/// A built table.
#[derive(Clone, Copy)]
pub(crate) struct InodeTable(pub(super) &'static bindings::inode_operations);

impl InodeTable {
    /// The table of `T`.
    pub(crate) const fn of<F: FileSystem, T: InodeOperations<F>>() -> Self {
        Self(&Table::<F, T>::OPS)
    }
}

/// Address space operations of a file whose pages are all in the layers; allows `O_DIRECT` opens.
pub(super) static DIRECT_IO_AOPS: bindings::address_space_operations =
    bindings::address_space_operations {
        direct_IO: Some(bindings::noop_direct_IO),
        ..pin_init::zeroed()
    };

/// What lookup found.
pub(crate) enum LookedUp<'a, F: FileSystem> {
    /// No such name.
    Negative,
    /// This inode.
    Inode(Ref<'a, OwnInode<F>>),
}

/// A request for the extents of a file, to be passed on.
pub(crate) struct FiemapRequest {
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    len: u64,
}

impl FiemapRequest {
    /// Passes the request on to an inode of a layer.
    pub(crate) fn pass(self, real: &super::Inode) -> Result {
        real.fiemap(self.info, self.start, self.len)
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
    /// Creates a regular file.
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
    /// Opens an unnamed file.
    fn tmpfile(
        _idmap: &IdMap,
        _dir: &OwnInode<F>,
        _file: &mut OpenTmpfile<'_, F>,
        _mode: Mode,
    ) -> Result {
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
    /// Lists extended attributes into `buf`, or (empty) counts.
    fn listxattr(_dentry: &OwnDentry<F>, _buf: &mut [u8]) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// The ACL for a permission check.
    fn inode_acl(_inode: &OwnInode<F>, _kind: AclType) -> Result<Option<Acl>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
    /// The cached ACL in RCU-walk.
    fn inode_acl_rcu(_inode: RcuInode<'_, F>, _kind: AclType) -> Result<RcuAcl, RcuError> {
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
    fn fiemap(_inode: &OwnInode<F>, _request: FiemapRequest) -> Result {
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

struct Table<F, T>(PhantomData<(F, T)>);

type RawInode = *mut bindings::inode;
type RawDentry = *mut bindings::dentry;
type RawIdmap = *mut bindings::mnt_idmap;
type RawAcl = *mut bindings::posix_acl;

fn done(result: Result) -> i32 {
    match result {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

macro_rules! op {
    ($has:ident => $f:ident) => {
        if T::$has {
            Some(Self::$f)
        } else {
            None
        }
    };
}

#[allow(
    clippy::missing_safety_doc,
    reason = "called by the VFS alone, through the table, under charter 1, 3 and 5"
)]
impl<F: FileSystem, T: InodeOperations<F>> Table<F, T> {
    const OPS: bindings::inode_operations = bindings::inode_operations {
        lookup: op!(HAS_LOOKUP => lookup),
        permission: op!(HAS_PERMISSION => permission),
        get_link: op!(HAS_LINK_SOURCE => get_link),
        create: op!(HAS_CREATE => create),
        mkdir: op!(HAS_MKDIR => mkdir),
        mknod: op!(HAS_MKNOD => mknod),
        symlink: op!(HAS_SYMLINK => symlink),
        link: op!(HAS_LINK => link),
        unlink: op!(HAS_UNLINK => unlink),
        rmdir: op!(HAS_RMDIR => rmdir),
        rename: op!(HAS_RENAME => rename),
        tmpfile: op!(HAS_TMPFILE => tmpfile),
        setattr: op!(HAS_SETATTR => setattr),
        getattr: op!(HAS_GETATTR => getattr),
        listxattr: op!(HAS_LISTXATTR => listxattr),
        get_inode_acl: op!(HAS_INODE_ACL => get_inode_acl),
        get_acl: op!(HAS_ACL => get_acl),
        set_acl: op!(HAS_SET_ACL => set_acl),
        update_time: op!(HAS_UPDATE_ATIME => update_time),
        fiemap: op!(HAS_FIEMAP => fiemap),
        fileattr_get: op!(HAS_FILEATTR_GET => fileattr_get),
        fileattr_set: op!(HAS_FILEATTR_SET => fileattr_set),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn lookup(_dir: RawInode, dentry: RawDentry, _flags: u32) -> RawDentry {
        // SAFETY: charter 1, 3 and 5.
        match T::lookup(unsafe { Child::from_raw(dentry) }) {
            Err(e) => e.to_ptr(),
            Ok(found) => {
                let inode = match found {
                    LookedUp::Negative => ptr::null_mut(),
                    LookedUp::Inode(inode) => inode.into_raw().as_ptr().cast(),
                };
                // SAFETY: charter 1; the call takes the reference of `inode` over.
                unsafe { bindings::d_splice_alias(inode, dentry) }
            }
        }
    }

    unsafe extern "C" fn permission(idmap: RawIdmap, inode: RawInode, mask: i32) -> i32 {
        let mask = mask as u32;
        // SAFETY: charter 1 and 3, under `MAY_NOT_BLOCK` 3 and 6; the mapping is valid for the call.
        unsafe {
            let idmap = IdMap::from_raw(idmap);
            if mask & bindings::MAY_NOT_BLOCK != 0 {
                let mask = mask & !bindings::MAY_NOT_BLOCK;
                match T::permission_rcu(idmap, RcuInode::from_raw(inode), mask) {
                    Ok(()) => 0,
                    Err(e) => e.to_errno(),
                }
            } else {
                done(T::permission(idmap, OwnInode::from_raw(inode), mask))
            }
        }
    }

    unsafe extern "C" fn get_link(
        dentry: RawDentry,
        inode: RawInode,
        call: *mut bindings::delayed_call,
    ) -> *const kernel::ffi::c_char {
        if dentry.is_null() {
            // SAFETY: charter 3 and 6: without a dentry the callback is one of RCU-walk.
            let this = unsafe { RcuInode::<F>::from_raw(inode) };
            let target = this.creds().and_then(|creds| {
                super::cred::scope(creds, |_| {
                    // SAFETY: `call` is the argument of the callback, and the result is its.
                    T::link_source_rcu(this).map(|real| unsafe { real.get_link(call) })
                })
            });
            return target.unwrap_or_else(|e| Error::from_errno(e.to_errno()).to_ptr());
        }
        // SAFETY: charter 1 and 3.
        let this = unsafe { OwnDentry::<F>::from_raw(dentry) };
        match T::link_source(this) {
            // SAFETY: charter 1; `call` is the argument of the callback.
            Ok(real) => super::cred::scope(this.fs().creds(), |_| unsafe {
                bindings::vfs_get_link(real.as_ptr(), call)
            }),
            Err(e) => e.to_ptr::<kernel::ffi::c_char>(),
        }
    }

    unsafe extern "C" fn create(idmap: RawIdmap, _dir: RawInode, d: RawDentry, mode: u16) -> i32 {
        // SAFETY: charter 1, 3 and 5.
        done(unsafe { T::create(IdMap::from_raw(idmap), Child::from_raw(d), Mode(mode)) })
    }

    unsafe extern "C" fn mkdir(
        idmap: RawIdmap,
        _dir: RawInode,
        d: RawDentry,
        mode: u16,
    ) -> RawDentry {
        // SAFETY: charter 1, 3 and 5.
        match unsafe { T::mkdir(IdMap::from_raw(idmap), Child::from_raw(d), Mode(mode)) } {
            Ok(()) => ptr::null_mut(),
            Err(e) => e.to_ptr(),
        }
    }

    unsafe extern "C" fn mknod(
        idmap: RawIdmap,
        _dir: RawInode,
        d: RawDentry,
        mode: u16,
        rdev: u32,
    ) -> i32 {
        // SAFETY: charter 1, 3 and 5.
        done(unsafe { T::mknod(IdMap::from_raw(idmap), Child::from_raw(d), Mode(mode), rdev) })
    }

    unsafe extern "C" fn symlink(
        idmap: RawIdmap,
        _dir: RawInode,
        d: RawDentry,
        target: *const kernel::ffi::c_char,
    ) -> i32 {
        // SAFETY: charter 1, 3 and 5; the VFS passes a C string.
        done(unsafe {
            T::symlink(
                IdMap::from_raw(idmap),
                Child::from_raw(d),
                CStr::from_char_ptr(target),
            )
        })
    }

    unsafe extern "C" fn link(old: RawDentry, _dir: RawInode, new: RawDentry) -> i32 {
        // SAFETY: charter 1, 3 and 5.
        done(unsafe { T::link(OwnDentry::from_raw(old), Child::from_raw(new)) })
    }

    unsafe extern "C" fn unlink(_dir: RawInode, d: RawDentry) -> i32 {
        // SAFETY: charter 1, 3 and 5.
        done(T::unlink(unsafe { Child::from_raw(d) }))
    }

    unsafe extern "C" fn rmdir(_dir: RawInode, d: RawDentry) -> i32 {
        // SAFETY: charter 1, 3 and 5.
        done(T::rmdir(unsafe { Child::from_raw(d) }))
    }

    unsafe extern "C" fn rename(
        _idmap: RawIdmap,
        _old_dir: RawInode,
        old: RawDentry,
        _new_dir: RawInode,
        new: RawDentry,
        flags: u32,
    ) -> i32 {
        // SAFETY: charter 1, 3 and 5.
        done(unsafe { T::rename(Child::from_raw(old), Child::from_raw(new), flags) })
    }

    unsafe extern "C" fn tmpfile(
        idmap: RawIdmap,
        dir: RawInode,
        file: *mut bindings::file,
        mode: u16,
    ) -> i32 {
        // SAFETY: charter 1 and 3; `file` is the one being opened.
        unsafe {
            let mut open = OpenTmpfile::from_raw(file);
            let result = T::tmpfile(
                IdMap::from_raw(idmap),
                OwnInode::from_raw(dir),
                &mut open,
                Mode(mode),
            );
            done(open.finish(result))
        }
    }

    unsafe extern "C" fn setattr(idmap: RawIdmap, d: RawDentry, attr: *mut bindings::iattr) -> i32 {
        // SAFETY: charter 1 and 3; the structure is the callback's alone during the call.
        done(unsafe {
            T::setattr(
                IdMap::from_raw(idmap),
                OwnDentry::from_raw(d),
                Iattr::from_raw(attr),
            )
        })
    }

    unsafe extern "C" fn getattr(
        idmap: RawIdmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        mask: u32,
        flags: u32,
    ) -> i32 {
        // SAFETY: charter 1 and 3; the structure is the callback's alone during the call.
        done(unsafe {
            T::getattr(
                IdMap::from_raw(idmap),
                OwnDentry::from_raw((*path).dentry),
                Stat::from_raw(stat),
                mask,
                flags,
            )
        })
    }

    unsafe extern "C" fn listxattr(
        d: RawDentry,
        list: *mut kernel::ffi::c_char,
        len: usize,
    ) -> isize {
        let buf = if list.is_null() {
            &mut []
        } else {
            // SAFETY: the VFS passes a buffer of `len` bytes.
            unsafe { core::slice::from_raw_parts_mut(list.cast::<u8>(), len) }
        };
        // SAFETY: charter 1 and 3.
        match T::listxattr(unsafe { OwnDentry::from_raw(d) }, buf) {
            Ok(len) => len as isize,
            Err(e) => e.to_errno() as isize,
        }
    }

    unsafe extern "C" fn get_inode_acl(inode: RawInode, kind: i32, rcu: bool) -> RawAcl {
        let kind = AclType::from_raw(kind);
        if rcu {
            // SAFETY: charter 3 and 6.
            return match T::inode_acl_rcu(unsafe { RcuInode::from_raw(inode) }, kind) {
                Ok(acl) => acl.0,
                Err(e) => Error::from_errno(e.to_errno()).to_ptr(),
            };
        }
        // SAFETY: charter 1 and 3.
        match T::inode_acl(unsafe { OwnInode::from_raw(inode) }, kind) {
            Ok(acl) => Acl::into_raw(acl),
            Err(e) => e.to_ptr(),
        }
    }

    unsafe extern "C" fn get_acl(_idmap: RawIdmap, d: RawDentry, kind: i32) -> RawAcl {
        // SAFETY: charter 1 and 3.
        match T::acl(unsafe { OwnDentry::from_raw(d) }, AclType::from_raw(kind)) {
            Ok(acl) => Acl::into_raw(acl),
            Err(e) => e.to_ptr(),
        }
    }

    unsafe extern "C" fn set_acl(idmap: RawIdmap, d: RawDentry, acl: RawAcl, kind: i32) -> i32 {
        // SAFETY: charter 1 and 3; the ACL is null or valid during the call.
        done(unsafe {
            T::set_acl(
                IdMap::from_raw(idmap),
                OwnDentry::from_raw(d),
                AclRef::from_raw(acl),
                AclType::from_raw(kind),
            )
        })
    }

    unsafe extern "C" fn update_time(
        inode: RawInode,
        kind: bindings::fs_update_time,
        flags: u32,
    ) -> i32 {
        if kind != bindings::ROVL_FS_UPD_ATIME {
            return 0;
        }
        let nowait = flags & bindings::ROVL_IOCB_NOWAIT != 0;
        done(T::update_atime(
            // SAFETY: charter 1 and 3.
            unsafe { OwnInode::from_raw(inode) },
            nowait,
        ))
    }

    unsafe extern "C" fn fiemap(
        inode: RawInode,
        info: *mut bindings::fiemap_extent_info,
        start: u64,
        len: u64,
    ) -> i32 {
        let request = FiemapRequest { info, start, len };
        // SAFETY: charter 1 and 3.
        done(T::fiemap(unsafe { OwnInode::from_raw(inode) }, request))
    }

    unsafe extern "C" fn fileattr_get(d: RawDentry, fa: *mut kernel::bindings::file_kattr) -> i32 {
        // SAFETY: charter 1 and 3; the structure is the callback's alone during the call.
        done(unsafe { T::fileattr_get(OwnDentry::from_raw(d), FileAttr::from_raw(fa.cast())) })
    }

    unsafe extern "C" fn fileattr_set(
        _idmap: RawIdmap,
        d: RawDentry,
        fa: *mut kernel::bindings::file_kattr,
    ) -> i32 {
        // SAFETY: charter 1 and 3; the structure is the callback's alone during the call.
        done(unsafe { T::fileattr_set(OwnDentry::from_raw(d), FileAttr::from_raw(fa.cast())) })
    }
}
