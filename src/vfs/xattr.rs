// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: of layers, and our own handlers.
//!
//! C header: `include/linux/xattr.h`.

use super::{fs::FileSystem, mount::PathRef, outbuf::OutBuf, to_len, Dentry, OwnDentry, OwnInode};
use crate::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{error::to_result, prelude::*};

/// The longest name of an extended attribute.
pub(crate) const NAME_MAX: usize = bindings::XATTR_NAME_MAX as usize;

/// Attributes that are created only, or replaced only.
#[derive(Clone, Copy)]
pub(crate) struct SetFlags(pub(super) i32);

impl SetFlags {
    /// Create or replace.
    pub(crate) const ANY: Self = Self(0);
}

/// Reads `name` into `buf` with the current credentials; an empty `buf` asks for the length alone.
///
/// # Errors
///
/// `ENODATA`, `ERANGE` where `buf` is too short, `EOPNOTSUPP`.
pub(crate) fn get(path: PathRef<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    let mut out = OutBuf::over(buf);
    get_into(path, name, &mut out)?;
    Ok(out.len())
}

/// As [`get`], into what a caller of ours lent.
pub(crate) fn get_into(path: PathRef<'_>, name: &CStr, out: &mut OutBuf<'_>) -> Result {
    path.dentry().positive()?;
    let (idmap, dentry) = (path.idmap().as_ptr(), path.dentry().as_ptr());
    let read = |at, size| {
        // SAFETY: charter 1 and 2: mount and dentry are referenced, the dentry is positive; the name is a C string, and the
        // room has the given size.
        to_len(unsafe { bindings::vfs_getxattr(idmap, dentry, name.as_char_ptr(), at, size) })
    };
    // SAFETY: `vfs_getxattr()` returns how much it wrote.
    unsafe { out.fill(read) }
}

/// The length of `name`'s value, `None` where there is no such attribute or no attributes at all.
pub(crate) fn len(path: PathRef<'_>, name: &CStr) -> Result<Option<usize>> {
    match get(path, name, &mut []) {
        Ok(len) => Ok(Some(len)),
        Err(e) if e == ENODATA || e == EOPNOTSUPP => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads the whole value of `name`, of any length.
///
/// # Errors
///
/// `ENODATA`, `EOPNOTSUPP`, `ENOMEM`; `EIO` where the value keeps changing.
pub(crate) fn get_all(path: PathRef<'_>, name: &CStr) -> Result<KVVec<u8>> {
    let mut buf: KVVec<u8> = KVVec::new();
    for _ in 0..3 {
        let len = get(path, name, &mut [])?;
        buf.resize(len, 0, GFP_KERNEL)?;
        if len == 0 {
            return Ok(buf);
        }
        match get(path, name, &mut buf) {
            Err(e) if e == ERANGE => {}
            Err(e) => return Err(e),
            Ok(len) => {
                buf.truncate(len);
                return Ok(buf);
            }
        }
    }
    Err(EIO)
}

/// Sets `name`, through the VFS with the current credentials.
pub(crate) fn set(path: PathRef<'_>, name: &CStr, value: &[u8], flags: SetFlags) -> Result {
    path.dentry().positive()?;
    // SAFETY: charter 1; the value has the given length.
    to_result(unsafe {
        bindings::vfs_setxattr(
            path.idmap().as_ptr(),
            path.dentry().as_ptr(),
            name.as_char_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags.0,
        )
    })
}

/// Removes `name`.
pub(crate) fn remove(path: PathRef<'_>, name: &CStr) -> Result {
    path.dentry().positive()?;
    // SAFETY: charter 1.
    to_result(unsafe {
        bindings::vfs_removexattr(
            path.idmap().as_ptr(),
            path.dentry().as_ptr(),
            name.as_char_ptr(),
        )
    })
}

/// Lists the names, each ended by a NUL, into `buf`; an empty `buf` asks for the length alone.
pub(crate) fn list(dentry: &Dentry, buf: &mut [u8]) -> Result<usize> {
    let mut out = OutBuf::over(buf);
    list_into(dentry, &mut out)?;
    Ok(out.len())
}

/// As [`list`], into what a caller of ours lent.
pub(crate) fn list_into(dentry: &Dentry, out: &mut OutBuf<'_>) -> Result {
    dentry.positive()?;
    let read = |at: *mut kernel::ffi::c_void, size| {
        // SAFETY: charter 1 and 2: the dentry is referenced and positive; the room has the given size.
        to_len(unsafe { bindings::vfs_listxattr(dentry.as_ptr(), at.cast(), size) })
    };
    // SAFETY: `vfs_listxattr()` returns how much it wrote.
    unsafe { out.fill(read) }
}

/// Asks the security modules whether copying `name` up is wanted; `Ok(false)` where it is not.
pub(crate) fn copy_up_wanted(source: &Dentry, name: &CStr) -> Result<bool> {
    // SAFETY: charter 1.
    match to_result(unsafe {
        bindings::rovl_security_inode_copy_up_xattr(source.as_ptr(), name.as_char_ptr())
    }) {
        Err(e) if e == ECANCELED => Ok(false),
        Err(e) if e != EOPNOTSUPP => Err(e),
        _ => Ok(true),
    }
}

/// A handler for the names with one prefix.
pub(crate) trait Handler<F: FileSystem>: 'static {
    /// The prefix, with its dot; empty for all names that no earlier handler takes.
    const PREFIX: &'static CStr;
    /// Reads the attribute with `suffix` after the prefix.
    fn get(
        dentry: &OwnDentry<F>,
        inode: &OwnInode<F>,
        suffix: &CStr,
        out: &mut OutBuf<'_>,
    ) -> Result;
    /// Sets it, or removes it where `value` is `None`.
    fn set(
        dentry: &OwnDentry<F>,
        inode: &OwnInode<F>,
        suffix: &CStr,
        value: Option<&[u8]>,
        flags: SetFlags,
    ) -> Result;
}

/// A super block's handlers.
pub(crate) struct Handlers(pub(super) *const *const bindings::xattr_handler);

impl Handlers {
    /// `A` first, `B` for the names that `A` does not take.
    pub(crate) fn pair<F: FileSystem, A: Handler<F>, B: Handler<F>>() -> Self {
        Self(Pair::<F, A, B>::LIST.as_ptr())
    }
}

struct Pair<F, A, B>(PhantomData<(F, A, B)>);

impl<F: FileSystem, A: Handler<F>, B: Handler<F>> Pair<F, A, B> {
    const LIST: &'static [*const bindings::xattr_handler; 3] = &[
        &Table::<F, A>::HANDLER,
        &Table::<F, B>::HANDLER,
        ptr::null(),
    ];
}

struct Table<F, H>(PhantomData<(F, H)>);

#[allow(
    clippy::missing_safety_doc,
    reason = "called by the VFS alone, through the table, under charter 1 and 3"
)]
impl<F: FileSystem, H: Handler<F>> Table<F, H> {
    const HANDLER: bindings::xattr_handler = bindings::xattr_handler {
        prefix: H::PREFIX.to_bytes_with_nul().as_ptr(),
        get: Some(Self::get),
        set: Some(Self::set),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn get(
        _handler: *const bindings::xattr_handler,
        dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const kernel::ffi::c_char,
        buffer: *mut kernel::ffi::c_void,
        size: usize,
    ) -> i32 {
        kernel::error::from_result(|| {
            // SAFETY: the VFS lends a buffer of `size` bytes for the call.
            let mut out = unsafe { OutBuf::from_raw(buffer, size) };
            // SAFETY: charter 1 and 3; the VFS passes a C string.
            unsafe {
                H::get(
                    OwnDentry::from_raw(dentry),
                    OwnInode::from_raw(inode),
                    CStr::from_char_ptr(name),
                    &mut out,
                )?;
            }
            i32::try_from(out.len()).map_err(|_| ERANGE)
        })
    }

    unsafe extern "C" fn set(
        _handler: *const bindings::xattr_handler,
        _idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const kernel::ffi::c_char,
        buffer: *const kernel::ffi::c_void,
        size: usize,
        flags: i32,
    ) -> i32 {
        kernel::error::from_result(|| {
            // SAFETY: charter 1 and 3; the VFS passes a C string and a buffer of `size` bytes, or
            // null to remove.
            unsafe {
                let value = (!buffer.is_null())
                    .then(|| core::slice::from_raw_parts(buffer.cast::<u8>(), size));
                H::set(
                    OwnDentry::from_raw(dentry),
                    OwnInode::from_raw(inode),
                    CStr::from_char_ptr(name),
                    value,
                    SetFlags(flags),
                )?;
            }
            Ok(0)
        })
    }
}
