// SPDX-License-Identifier: GPL-2.0

//! Callbacks: the functions that the kernel's tables of operations point to, made of operations in Rust.
//!
//! [`c_table`] makes them; how an argument becomes what the operation gets is a [`FromC`], how its result
//! becomes what C wants an [`IntoC`].

use super::{
    acl::{Acl, AclRef, AclType, RcuAcl},
    attr::{FileAttr, Iattr, Stat},
    context::{FsContext, NewContext},
    dentry::LookupName,
    export::{RawHandle, RawRoom, Room},
    file,
    file_ops::{OpenFile, OpenTmpfile, Opening},
    fs::FileSystem,
    inode::Mode,
    inode_ops::{FiemapRequest, LinkCall, RawFiemap},
    io::{Flush, Io, Mapping, RawIo, RawSplice, Splice},
    mount::IdMap,
    outbuf::OutBuf,
    rcu::{RcuError, RcuInode},
    readdir::DirContext,
    super_ops::{Out, Shrink},
    xattr::SetFlags,
    Child, OwnDentry, OwnInode, OwnSuper, Ref,
};
use crate::bindings;
use kernel::{
    ffi::{c_char, c_long, c_void},
    prelude::*,
    seq_file::SeqFile,
};

pub(super) type RawAcl = *mut bindings::posix_acl;
pub(super) type RawDentry = *mut bindings::dentry;
pub(super) type RawFile = *mut bindings::file;
pub(super) type RawIdmap = *mut bindings::mnt_idmap;
pub(super) type RawInode = *mut bindings::inode;
pub(super) type RawPipe = *mut bindings::pipe_inode_info;
pub(super) type RawSuper = *mut bindings::super_block;

/// What an operation in Rust gets for an argument of a C callback, or for several of them (a tuple).
///
/// # Safety
///
/// The invariants of what [`from_c`](Self::from_c) returns hold until the callback returns, by what the
/// charter says of such arguments.
pub(super) unsafe trait FromC<C>: Sized {
    /// Converts.
    ///
    /// # Safety
    ///
    /// `raw` is what the kernel passed to a callback of a table of the filesystem (and the data of open files)
    /// that `Self` names, and the value is not used after that callback returned.
    unsafe fn from_c(raw: C) -> Self;
}

/// What becomes the return value of a C callback.
pub(super) trait IntoC<C> {
    /// Converts.
    fn into_c(self) -> C;
}

/// Makes a table of operations and the callbacks in it, inside the `impl` of a type with the parameters that they
/// need.
///
/// ```ignore
/// c_table! {
///     /// What the table is.
///     const OPS: bindings::file_operations = {
///         // Fields with a value of their own.
///         setlease: Some(bindings::generic_setlease),
///     };
///     // A field with a callback: its C signature, then the operation with the arguments that it gets.
///     fn fsync(file: RawFile, start: i64, end: i64, datasync: i32) -> i32
///         => T::fsync(file, file, start, end, datasync);
///     // Null unless the constant is true; two C arguments that make one.
///     if T::HAS_LISTXATTR fn listxattr(d: RawDentry, list: *mut c_char, len: usize) -> isize
///         => Self::list(d, (list, len));
/// }
/// ```
///
/// The type of each parameter of the operation selects the conversion of the argument, a [`FromC`], and the type of
/// its result an [`IntoC`]. The operation is any function of one or no type parameter; it must leave the lifetimes
/// of its parameters to the caller, as all do whose lifetimes are elided, so that nothing outlives the callback.
/// All is inlined: a callback is what one would write by hand.
macro_rules! c_table {
    (
        $(#[$meta:meta])*
        $vis:vis const $table:ident: $bindings:ident::$type:ident = { $($field:ident: $value:expr,)* };
        $(
            $(#[$fn_meta:meta])*
            $(if $trait:ident::$has:ident)?
            fn $name:ident($($param:ident: $raw:ty),* $(,)?) $(-> $ret:ty)?
                => $of:ident::$op:ident($($arg:tt),* $(,)?);
        )*
    ) => {
        $(#[$meta])*
        $vis const $table: $bindings::$type = $bindings::$type {
            $($field: $value,)*
            $($name: $crate::vfs::callback::c_table!(@field $($trait::$has)?, Self::$name),)*
            ..pin_init::zeroed()
        };

        $(
            $crate::vfs::callback::c_callback! {
                $(#[$fn_meta])*
                fn $name($($param: $raw),*) $(-> $ret)? => $of::$op($($arg),*);
            }
        )*
    };
    (@field , $callback:expr) => { Some($callback) };
    (@field $trait:ident::$has:ident, $callback:expr) => {
        if $trait::$has { Some($callback) } else { None }
    };
}
pub(super) use c_table;

/// Makes a single callback; see [`c_table`].
macro_rules! c_callback {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($param:ident: $raw:ty),* $(,)?) $(-> $ret:ty)?
            => $of:ident::$op:ident($($arg:tt),* $(,)?);
    ) => {
        $(#[$meta])*
        ///
        /// # Safety
        ///
        /// Called by the kernel through the table, with arguments as its documentation has them.
        $vis unsafe extern "C" fn $name($($param: $raw),*) $(-> $ret)? {
            let result = $of::$op($({
                let raw = $arg;
                // SAFETY: the kernel calls this through a table of `F` only, so that the argument is what the charter
                // says: rule 1 (referenced during the callback), 3 (of a super block of `F`), 5 (names and locks as
                // documented for the operation), 8 (data of the table's type). The operation is generic over the
                // lifetime of what it gets, so it keeps nothing beyond this call.
                unsafe { $crate::vfs::callback::FromC::from_c(raw) }
            }),*);
            $crate::vfs::callback::IntoC::into_c(result)
        }
    };
}
pub(super) use c_callback;

/// Arguments that a constructor takes over, with what it demands.
macro_rules! by_constructor {
    ($([$($gen:tt)*] $from:ty => $to:ty = $make:path;)*) => {$(
        // SAFETY: the constructor demands for its argument what the charter says of that of a callback, and nothing
        // else. Its result is good for as long as that holds.
        unsafe impl<$($gen)*> FromC<$from> for $to {
            #[inline]
            unsafe fn from_c(raw: $from) -> Self {
                // SAFETY: `raw` is an argument of the callback that runs (the contract), of which the charter says
                // what the constructor demands: referenced (1), of a super block of `F` (3), stable names where
                // the operation takes a `Child` (5), for the callback alone where it is written to.
                unsafe { $make(raw) }
            }
        }
    )*};
}

by_constructor! {
    ['a] *const c_char => &'a CStr = CStr::from_char_ptr;
    ['a] *mut bindings::seq_file => &'a SeqFile = SeqFile::from_raw;
    ['a] *mut bindings::kstat => &'a mut Stat = Stat::from_raw;
    ['a] *mut bindings::iattr => &'a mut Iattr = Iattr::from_raw;
    ['a] *mut bindings::dir_context => DirContext<'a> = DirContext::from_raw;
    [] *mut bindings::fs_context => FsContext = FsContext::from_raw;
    ['a] *const bindings::qstr => LookupName<'a> = LookupName::from_raw;
    ['a] *mut bindings::shrink_control => Shrink<'a> = Shrink::from_raw;
    ['a] RawIdmap => &'a IdMap = IdMap::from_raw;
    ['a] RawAcl => Option<AclRef<'a>> = AclRef::from_raw;
    ['a, F: FileSystem] RawSuper => &'a OwnSuper<F> = OwnSuper::from_raw;
    ['a, F: FileSystem] RawInode => &'a OwnInode<F> = OwnInode::from_raw;
    ['a, F: FileSystem] RawDentry => &'a OwnDentry<F> = OwnDentry::from_raw;
    ['a, F: FileSystem] RawDentry => Child<'a, F> = Child::from_raw;
    ['a, F: FileSystem] RawFile => OpenFile<'a, F> = OpenFile::from_raw;
    ['a, F: FileSystem] RawFile => Opening<'a, F> = Opening::from_raw;
    ['a, F: FileSystem] RawFile => OpenTmpfile<'a, F> = OpenTmpfile::from_raw;
    ['a, F: FileSystem] RawIo => Io<'a, F> = Io::from_raw;
    ['a, F: FileSystem] RawSplice => Splice<'a, F> = Splice::from_raw;
    ['a, F: FileSystem] *mut bindings::vm_area_struct => Mapping<'a, F> = Mapping::from_raw;
    ['a] bindings::fl_owner_t => Flush<'a> = Flush::from_raw;
    ['a] *mut bindings::delayed_call => LinkCall<'a> = LinkCall::from_raw;
    ['a] RawFiemap => FiemapRequest<'a> = FiemapRequest::from_raw;
    ['a] RawRoom => Room<'a> = Room::from_raw;
}

/// Arguments that are values.
macro_rules! by_value {
    ($($from:ty => $to:ty = $make:expr;)*) => {$(
        // SAFETY: nothing depends on where the value comes from.
        unsafe impl FromC<$from> for $to {
            #[inline]
            unsafe fn from_c(raw: $from) -> Self {
                $make(raw)
            }
        }
    )*};
}

by_value! {
    bool => bool = core::convert::identity;
    i32 => i32 = core::convert::identity;
    u32 => u32 = core::convert::identity;
    i64 => i64 = core::convert::identity;
    usize => usize = core::convert::identity;
    i32 => bool = |raw| raw != 0;
    i32 => u32 = |raw| raw as u32;
    usize => i64 = |raw| i64::try_from(raw).unwrap_or(i64::MAX);
    u16 => Mode = Mode;
    i32 => AclType = AclType::from_raw;
    i32 => SetFlags = SetFlags;
}

// SAFETY: charter 1 and 3: the path that a callback gets is on a super block of `F`, and referenced.
unsafe impl<'a, F: FileSystem> FromC<*const bindings::path> for &'a OwnDentry<F> {
    #[inline]
    unsafe fn from_c(raw: *const bindings::path) -> Self {
        // SAFETY: the caller of `getattr` and the like keeps the path, so that it can be read.
        let dentry = unsafe { (*raw).dentry };
        // SAFETY: the path references its dentry, which is one of `F` as the operation is (charter 1 and 3).
        unsafe { OwnDentry::from_raw(dentry) }
    }
}

// SAFETY: charter 1 and 3, unless it is null: an argument that there need not be.
unsafe impl<'a, F: FileSystem> FromC<RawInode> for Option<&'a OwnInode<F>> {
    #[inline]
    unsafe fn from_c(raw: RawInode) -> Self {
        // SAFETY: not null, so an inode that the caller references (charter 1), of `F` as the operation is (3).
        (!raw.is_null()).then(|| unsafe { OwnInode::from_raw(raw) })
    }
}

// SAFETY: the structure is the callback's alone, as for the other constructors; the kernel crate knows it as a stub.
unsafe impl<'a> FromC<*mut kernel::bindings::file_kattr> for &'a mut FileAttr {
    #[inline]
    unsafe fn from_c(raw: *mut kernel::bindings::file_kattr) -> Self {
        // SAFETY: the caller has the structure on its stack and waits for the callback.
        unsafe { FileAttr::from_raw(raw.cast()) }
    }
}

// SAFETY: the caller has room for the full type, which the kernel crate knows as a stub.
unsafe impl<'a> FromC<*mut kernel::bindings::kstatfs> for Out<'a, bindings::kstatfs> {
    #[inline]
    unsafe fn from_c(raw: *mut kernel::bindings::kstatfs) -> Self {
        // SAFETY: the caller has the structure on its stack and waits for the callback.
        unsafe { Out::from_raw(raw.cast()) }
    }
}

// SAFETY: the context is the callback's for its duration, and new to us.
unsafe impl<'a> FromC<*mut kernel::bindings::fs_context> for NewContext<'a> {
    #[inline]
    unsafe fn from_c(raw: *mut kernel::bindings::fs_context) -> Self {
        // SAFETY: the caller made the context just now; the kernel crate knows the type as a stub.
        unsafe { NewContext::from_raw(raw.cast()) }
    }
}

// SAFETY: charter 8: the data of an open file is a box of the table's type, freed by the last callback.
unsafe impl<'a, D: Send + Sync> FromC<RawFile> for &'a D {
    #[inline]
    unsafe fn from_c(raw: RawFile) -> Self {
        // SAFETY: `open` or `tmpfile` stored a box of the type that the table's operations take, as the contract
        // says of `Self`; the VFS makes the calls of a file between `open` and `release`.
        unsafe { &*(*raw).private_data.cast() }
    }
}

// SAFETY: charter 1, 3 and 8 for the file, of which both parts are.
unsafe impl<'a, F: FileSystem, D: Send + Sync> FromC<RawFile> for (OpenFile<'a, F>, &'a D) {
    #[inline]
    unsafe fn from_c(raw: RawFile) -> Self {
        // SAFETY: by the contract, which is that of the part.
        let open = unsafe { FromC::from_c(raw) };
        // SAFETY: by the contract, which is that of the part.
        let data = unsafe { FromC::from_c(raw) };
        (open, data)
    }
}

// SAFETY: numbers, which may have any value.
unsafe impl<L> FromC<(i64, i64, L, u32)> for file::Range
where
    i64: FromC<L>,
{
    #[inline]
    unsafe fn from_c((from, to, len, flags): (i64, i64, L, u32)) -> Self {
        Self {
            from,
            to,
            // SAFETY: a number, which may have any value.
            len: unsafe { FromC::from_c(len) },
            flags,
        }
    }
}

// SAFETY: charter 8: the request references its file until its completion, and so the data.
unsafe impl<'a, D: Send + Sync> FromC<*mut bindings::kiocb> for &'a D {
    #[inline]
    unsafe fn from_c(raw: *mut bindings::kiocb) -> Self {
        // SAFETY: the request is the callback's for its duration, and has a file of the table.
        unsafe { FromC::from_c((*raw).ki_filp) }
    }
}

// SAFETY: charter 1 and 3: the request references its file until its completion.
unsafe impl<'a, F: FileSystem> FromC<*mut bindings::kiocb> for OpenFile<'a, F> {
    #[inline]
    unsafe fn from_c(raw: *mut bindings::kiocb) -> Self {
        // SAFETY: the request is the callback's for its duration, and has a file of the table.
        unsafe { OpenFile::from_raw((*raw).ki_filp) }
    }
}

/// An inode of ours as a callback sees it that the VFS makes with references and in RCU-walk.
pub(super) enum Seen<'a, F: FileSystem> {
    Referenced(&'a OwnInode<F>),
    Rcu(RcuInode<'a, F>),
}

// SAFETY: charter 3, and 1 or, where the flag says RCU-walk, 6.
unsafe impl<'a, F: FileSystem> FromC<(RawInode, bool)> for Seen<'a, F> {
    #[inline]
    unsafe fn from_c((inode, rcu): (RawInode, bool)) -> Self {
        if rcu {
            // SAFETY: the flag says that the caller is in RCU-walk, so `rcu_read_lock` is held (charter 6).
            Self::Rcu(unsafe { RcuInode::from_raw(inode) })
        } else {
            // SAFETY: outside RCU-walk the caller references the inode (charter 1).
            Self::Referenced(unsafe { OwnInode::from_raw(inode) })
        }
    }
}

// SAFETY: charter 3, and 1 or, where the mask says RCU-walk, 6.
unsafe impl<'a, F: FileSystem> FromC<(RawInode, i32)> for Seen<'a, F> {
    #[inline]
    unsafe fn from_c((inode, mask): (RawInode, i32)) -> Self {
        // SAFETY: `MAY_NOT_BLOCK` is how `permission` is told that the caller is in RCU-walk.
        unsafe { FromC::from_c((inode, mask as u32 & bindings::MAY_NOT_BLOCK != 0)) }
    }
}

// SAFETY: the VFS lends room of the length, or none.
unsafe impl<'a, B> FromC<(*mut B, usize)> for OutBuf<'a> {
    #[inline]
    unsafe fn from_c((at, size): (*mut B, usize)) -> Self {
        // SAFETY: the caller allocated room of that size, and waits for the callback with it.
        unsafe { OutBuf::from_raw(at.cast(), size) }
    }
}

// SAFETY: the VFS passes a value of the length, or null.
unsafe impl<'a> FromC<(*const c_void, usize)> for Option<&'a [u8]> {
    #[inline]
    unsafe fn from_c((at, len): (*const c_void, usize)) -> Self {
        // SAFETY: not null, so the value that the caller copied from the user, which nobody changes during the call.
        (!at.is_null()).then(|| unsafe { core::slice::from_raw_parts(at.cast(), len) })
    }
}

// SAFETY: exportfs, whose callers have read the whole handle, passes as many words as it says.
unsafe impl<'a> FromC<RawHandle> for &'a [u8] {
    #[inline]
    unsafe fn from_c((fid, words): RawHandle) -> Self {
        let len = usize::try_from(words).unwrap_or(0) * size_of::<u32>();
        // SAFETY: as many bytes are there, which nobody changes during the call.
        unsafe { core::slice::from_raw_parts(fid.cast(), len) }
    }
}

impl<C> IntoC<C> for C {
    #[inline]
    fn into_c(self) -> C {
        self
    }
}

impl IntoC<i32> for () {
    #[inline]
    fn into_c(self) -> i32 {
        0
    }
}

/// Results whose error is an errno of the type that C returns.
macro_rules! result_into_c {
    ($($from:ty => $to:ty = $ok:expr;)*) => {$(
        impl IntoC<$to> for $from {
            #[inline]
            #[allow(clippy::cast_lossless, reason = "`isize` has no such conversion")]
            fn into_c(self) -> $to {
                match self {
                    Ok(value) => $ok(value),
                    Err(e) => e.to_errno() as $to,
                }
            }
        }
    )*};
}

result_into_c! {
    Result => i32 = |()| 0;
    Result => isize = |()| 0;
    Result<i32> => i32 = core::convert::identity;
    Result<i64> => i64 = core::convert::identity;
    Result<i64> => isize = |offset| offset as isize;
    Result<usize> => isize = |len| len as isize;
    Result<usize> => i32 = |len| i32::try_from(len).unwrap_or(ERANGE.to_errno());
    Result<usize> => usize = core::convert::identity;
    Result<(), RcuError> => i32 = |()| 0;
    Result<bool, RcuError> => i32 = i32::from;
}

impl IntoC<RawDentry> for Result {
    #[inline]
    fn into_c(self) -> RawDentry {
        match self {
            Ok(()) => core::ptr::null_mut(),
            Err(e) => e.to_ptr(),
        }
    }
}

/// The caller takes the reference over.
impl<F: FileSystem> IntoC<RawDentry> for Result<Option<Ref<'_, OwnDentry<F>>>> {
    #[inline]
    fn into_c(self) -> RawDentry {
        match self {
            Ok(Some(dentry)) => dentry.into_raw().as_ptr().cast(),
            Ok(None) => core::ptr::null_mut(),
            Err(e) => e.to_ptr(),
        }
    }
}

impl IntoC<RawAcl> for Result<Option<Acl>> {
    #[inline]
    fn into_c(self) -> RawAcl {
        match self {
            Ok(acl) => Acl::into_raw(acl),
            Err(e) => e.to_ptr(),
        }
    }
}

impl IntoC<RawAcl> for Result<RcuAcl<'_>, RcuError> {
    #[inline]
    fn into_c(self) -> RawAcl {
        match self {
            Ok(acl) => acl.into_raw(),
            Err(e) => Error::from_errno(e.to_errno()).to_ptr(),
        }
    }
}

/// How many objects there are.
impl IntoC<c_long> for usize {
    #[inline]
    fn into_c(self) -> c_long {
        self.try_into().unwrap_or(c_long::MAX)
    }
}
