// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: of layers, and our own handlers.
//!
//! C header: `include/linux/xattr.h`.

use super::{
    callback::{c_table, RawDentry, RawIdmap, RawInode},
    fs::FileSystem,
    mount::PathRef,
    to_len, Dentry, OwnDentry, OwnInode,
};
use crate::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{
    error::to_result,
    ffi::{c_char, c_void},
    prelude::*,
};

/// The longest name of an extended attribute.
pub(crate) const NAME_MAX: usize = bindings::XATTR_NAME_MAX as usize;

/// Attributes that are created only, or replaced only.
#[derive(Clone, Copy)]
pub(crate) struct SetFlags(pub(super) i32);

impl SetFlags {
    /// Create or replace.
    pub(crate) const ANY: Self = Self(0);
}

/// A buffer that is filled from its start, or (with no room) the question how much there is.
///
/// # Invariants
///
/// `at` is null, or has room for `room` bytes for `'a`, for this value alone, of which the first `len.min(room)` are
/// initialised.
pub(crate) struct Buffer<'a> {
    at: *mut u8,
    room: usize,
    len: usize,
    _bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> Buffer<'a> {
    /// # Safety
    ///
    /// `at` is null, or has room for `room` bytes, initialised or not, for `'a` and for this value alone.
    pub(super) unsafe fn from_raw((at, room): (*mut c_char, usize)) -> Self {
        Self {
            at: at.cast(),
            room: if at.is_null() { 0 } else { room },
            len: 0,
            _bytes: PhantomData,
        }
    }

    /// Whether nothing is filled in: only how much there is, is asked.
    pub(crate) fn is_question(&self) -> bool {
        self.room == 0
    }

    /// How many bytes were filled in, or there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What was filled in.
    pub(crate) fn filled(&mut self) -> &mut [u8] {
        if self.is_question() {
            return &mut [];
        }
        // SAFETY: by the type invariant.
        unsafe { core::slice::from_raw_parts_mut(self.at, self.len) }
    }

    /// Keeps the first `len` bytes of what was filled in.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Has `read` fill all of it; `read` gets the start (null to ask) and the room, and returns a length or an errno.
    ///
    /// # Errors
    ///
    /// That of `read`; `ERANGE` where what it returned does not fit.
    ///
    /// # Safety
    ///
    /// Where `read` returns a length that fits into the room it has initialised as many bytes.
    unsafe fn fill(&mut self, read: impl FnOnce(*mut u8, usize) -> isize) -> Result {
        let at = if self.is_question() {
            ptr::null_mut()
        } else {
            self.at
        };
        let len = to_len(read(at, self.room))?;
        if len > self.room && !self.is_question() {
            return Err(ERANGE);
        }
        // INVARIANT: by the contract.
        self.len = len;
        Ok(())
    }
}

impl<'a> From<&'a mut [u8]> for Buffer<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        // INVARIANT: a slice is all initialised.
        Self {
            at: bytes.as_mut_ptr(),
            room: bytes.len(),
            len: 0,
            _bytes: PhantomData,
        }
    }
}

/// Reads `name` into `buf` with the current credentials.
///
/// # Errors
///
/// `ENODATA`, `ERANGE` where `buf` is too short, `EOPNOTSUPP`.
pub(crate) fn read(path: PathRef<'_>, name: &CStr, buf: &mut Buffer<'_>) -> Result {
    path.dentry.positive()?;
    let get = |at: *mut u8, room| {
        // SAFETY: charter 1: `path` borrows mount and dentry, which is positive and stays so (2); there is room for
        // `room` bytes at `at`, or it is null.
        unsafe {
            bindings::vfs_getxattr(
                path.idmap().as_ptr(),
                path.dentry.as_ptr(),
                name.as_char_ptr(),
                at.cast(),
                room,
            )
        }
    };
    // SAFETY: what `vfs_getxattr` returns it has written, unless it is asked for the length alone.
    unsafe { buf.fill(get) }
}

/// As [`read`] into initialised bytes; an empty `buf` asks for the length alone. Returns the length.
pub(crate) fn get(path: PathRef<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    let mut buf = Buffer::from(buf);
    read(path, name, &mut buf)?;
    Ok(buf.len())
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
    path.dentry.positive()?;
    // SAFETY: charter 1; the value has the given length.
    to_result(unsafe {
        bindings::vfs_setxattr(
            path.idmap().as_ptr(),
            path.dentry.as_ptr(),
            name.as_char_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags.0,
        )
    })
}

/// Removes `name`.
pub(crate) fn remove(path: PathRef<'_>, name: &CStr) -> Result {
    path.dentry.positive()?;
    // SAFETY: charter 1.
    to_result(unsafe {
        bindings::vfs_removexattr(
            path.idmap().as_ptr(),
            path.dentry.as_ptr(),
            name.as_char_ptr(),
        )
    })
}

/// Lists the names, each ended by a NUL, into `buf`.
pub(crate) fn read_list(dentry: &Dentry, buf: &mut Buffer<'_>) -> Result {
    dentry.positive()?;
    let list = |at: *mut u8, room| {
        // SAFETY: charter 1 and 2: the dentry is positive and stays so; there is room for `room` bytes at `at`, or it is
        // null.
        unsafe { bindings::vfs_listxattr(dentry.as_ptr(), at.cast(), room) }
    };
    // SAFETY: what `vfs_listxattr` returns it has written, unless it is asked for the length alone.
    unsafe { buf.fill(list) }
}

/// As [`read_list`] into initialised bytes; an empty `buf` asks for the length alone. Returns the length.
pub(crate) fn list(dentry: &Dentry, buf: &mut [u8]) -> Result<usize> {
    let mut buf = Buffer::from(buf);
    read_list(dentry, &mut buf)?;
    Ok(buf.len())
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
        buf: &mut Buffer<'_>,
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

/// Handlers of `F`: a tuple of two, the second for the names that the first does not take.
///
/// # Safety
///
/// The list is one of handlers of `F` and ends with a null pointer.
pub(crate) unsafe trait Handlers<F: FileSystem> {
    /// The list for C.
    const LIST: &'static [*const bindings::xattr_handler];
}

// SAFETY: two handlers of `F`, then null.
unsafe impl<F: FileSystem, A: Handler<F>, B: Handler<F>> Handlers<F> for (A, B) {
    const LIST: &'static [*const bindings::xattr_handler] = &[
        &Table::<F, A>::HANDLER,
        &Table::<F, B>::HANDLER,
        ptr::null(),
    ];
}

struct Table<F, H>(PhantomData<(F, H)>);

impl<F: FileSystem, H: Handler<F>> Table<F, H> {
    c_table! {
        const HANDLER: bindings::xattr_handler = {
            prefix: H::PREFIX.to_bytes_with_nul().as_ptr(),
        };

        fn get(
            _handler: *const bindings::xattr_handler,
            d: RawDentry,
            inode: RawInode,
            name: *const c_char,
            buffer: *mut c_void,
            size: usize,
        ) -> i32
            => Self::read(d, inode, name, (buffer, size));
        fn set(
            _handler: *const bindings::xattr_handler,
            _idmap: RawIdmap,
            d: RawDentry,
            inode: RawInode,
            name: *const c_char,
            buffer: *const c_void,
            size: usize,
            flags: i32,
        ) -> i32
            => H::set(d, inode, name, (buffer, size), flags);
    }

    fn read(
        dentry: &OwnDentry<F>,
        inode: &OwnInode<F>,
        suffix: &CStr,
        mut buf: Buffer<'_>,
    ) -> Result<usize> {
        H::get(dentry, inode, suffix, &mut buf)?;
        Ok(buf.len())
    }
}
