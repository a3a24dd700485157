// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: of layers, and our own handlers.
//!
//! C header: `include/linux/xattr.h`.

use super::{
    callback::{c_table, RawDentry, RawIdmap, RawInode},
    calls,
    fs::FileSystem,
    mount::{PathRef, WritePath},
    outbuf::OutBuf,
    to_len, to_result, Dentry, OwnDentry, OwnInode,
};
use crate::bindings;
use core::{marker::PhantomData, mem::MaybeUninit, ptr};
use kernel::{
    ffi::{c_char, c_void},
    prelude::*,
};

/// The longest name of an extended attribute.
pub(crate) const NAME_MAX: usize = bindings::XATTR_NAME_MAX as usize;

/// The longest value.
const SIZE_MAX: usize = bindings::XATTR_SIZE_MAX as usize;

/// That the system calls would let name and value through: filesystems count on it.
#[inline]
fn check(name: &CStr, value: &[u8]) -> Result {
    match name.to_bytes().len() {
        1..=NAME_MAX if value.len() <= SIZE_MAX => Ok(()),
        1..=NAME_MAX => Err(E2BIG),
        _ => Err(ERANGE),
    }
}

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
/// `ENODATA`, `ERANGE` where `buf` is too short or `name` is too long or empty, `EOPNOTSUPP`.
pub(crate) fn get(path: PathRef<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    let mut out = OutBuf::over(buf);
    get_into(path, name, &mut out)?;
    Ok(out.len())
}

/// As [`get`], into what a caller of ours lent.
pub(crate) fn get_into(path: PathRef<'_>, name: &CStr, out: &mut OutBuf<'_>) -> Result {
    check(name, &[])?;
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

/// Bytes of a value that is read without a question for its length first: most values are short.
const SHORT: usize = 128;

/// Reads the whole value of `name`, of any length; there is room for one more byte.
///
/// # Errors
///
/// `ENODATA`, `EOPNOTSUPP`, `ENOMEM`; `EIO` where the value keeps changing.
pub(crate) fn get_all(path: PathRef<'_>, name: &CStr) -> Result<KVVec<u8>> {
    let mut buf: KVVec<u8> = KVVec::new();
    let mut short = [0; SHORT];
    match get(path, name, &mut short) {
        Err(e) if e == ERANGE => {}
        len => {
            let value = short.get(..len?).ok_or(EIO)?;
            buf.reserve(value.len() + 1, GFP_KERNEL)?;
            buf.extend_from_slice(value, GFP_KERNEL)?;
            return Ok(buf);
        }
    }
    for _ in 0..3 {
        let len = get(path, name, &mut [])?;
        buf.reserve(len + 1 - buf.len().min(len), GFP_KERNEL)?;
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
///
/// # Errors
///
/// `ERANGE` for a name that is too long or empty, `E2BIG` for a value that is too long; what the filesystem or a security
/// module returns.
pub(crate) fn set(path: WritePath<'_>, name: &CStr, value: &[u8], flags: SetFlags) -> Result {
    check(name, value)?;
    path.dentry().positive()?;
    // SAFETY: charter 1 and 2: mount and dentry are referenced, the dentry is positive; the name is a C string, and the
    // value has the given length.
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
///
/// # Errors
///
/// `ENODATA`; as for [`set`].
pub(crate) fn remove(path: WritePath<'_>, name: &CStr) -> Result {
    check(name, &[])?;
    let dentry = path.dentry().as_positive()?;
    to_result(calls::vfs_removexattr(path.idmap(), dentry, name.into()))
}

/// Lists the names, each ended by a NUL, into `buf`; an empty `buf` asks for the length alone.
pub(crate) fn list(dentry: &Dentry, buf: &mut [u8]) -> Result<usize> {
    let mut out = OutBuf::over(buf);
    list_into(dentry, &mut out)?;
    Ok(out.len())
}

/// Whether `test` says so of one of the names.
///
/// # Errors
///
/// `ERANGE` where they take more than 128 bytes; what the filesystem returns.
#[inline]
pub(crate) fn any(dentry: &Dentry, test: impl FnMut(&[u8]) -> bool) -> Result<bool> {
    let mut room = [MaybeUninit::uninit(); 128];
    let mut out = OutBuf::new(&mut room);
    list_into(dentry, &mut out)?;
    let names = out.written();
    // Most objects have none.
    Ok(!names.is_empty() && names.split(|b| *b == 0).any(test))
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
    let wanted = calls::rovl_security_inode_copy_up_xattr(source.as_positive()?, name.into());
    match to_result(wanted) {
        Err(e) if e == ECANCELED => Ok(false),
        Err(e) if e != EOPNOTSUPP => Err(e),
        _ => Ok(true),
    }
}

/// A handler for the names with one prefix.
///
/// # Examples
///
/// ```ignore
/// struct Trusted;
///
/// impl Handler<Overlay> for Trusted {
///     const PREFIX: &'static CStr = c"trusted.";
///     fn get(dentry: &Dentry, inode: &Inode, suffix: &CStr, out: &mut OutBuf<'_>) -> Result { /* … */ }
///     fn set(
///         dentry: &Dentry,
///         inode: &Inode,
///         suffix: &CStr,
///         value: Option<&[u8]>,
///         flags: SetFlags,
///     ) -> Result { /* … */ }
/// }
///
/// // The second gets the names that the first does not take.
/// sb.set_xattrs::<(Trusted, Other)>();
/// ```
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
        mut out: OutBuf<'_>,
    ) -> Result<usize> {
        H::get(dentry, inode, suffix, &mut out)?;
        Ok(out.len())
    }
}

#[kernel::macros::kunit_tests(rovl_xattr)]
mod tests {
    use super::*;
    use crate::vfs::{mount::Path, CBuf};

    /// No more gets through than by the system calls.
    #[test]
    fn limits() -> Result {
        let longest: KVec<u8> = KVec::from_elem(b'a', NAME_MAX, GFP_KERNEL)?;
        let longer: KVec<u8> = KVec::from_elem(b'a', NAME_MAX + 1, GFP_KERNEL)?;
        let (longest, longer) = (CBuf::new(&longest)?, CBuf::new(&longer)?);
        let value: KVVec<u8> = KVVec::zeroed(SIZE_MAX + 1, GFP_KERNEL)?;
        assert_eq!(check(longest.as_cstr(), &[]), Ok(()));
        assert_eq!(check(longer.as_cstr(), &[]), Err(ERANGE));
        assert_eq!(check(c"", &[]), Err(ERANGE));
        assert_eq!(check(c"user.a", &value), Err(E2BIG));
        let largest = value.get(..SIZE_MAX).unwrap_or_default();
        assert_eq!(check(c"user.a", largest), Ok(()));

        let root = Path::resolve(c"/")?;
        assert_eq!(get(root.as_ref(), longer.as_cstr(), &mut []), Err(ERANGE));
        Ok(())
    }
}
