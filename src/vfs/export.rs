// SPDX-License-Identifier: GPL-2.0

//! File handles of our own files, made for others: `name_to_handle_at(2)`, fanotify, `fdinfo`.
//!
//! Handles of layers are in [`handle`](super::handle).
//!
//! C header: `struct export_operations` in `include/linux/exportfs.h`;
//! Documentation: `Documentation/filesystems/nfs/exporting.rst`.

use super::{fs::FileSystem, OwnInode};
use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// How a filesystem makes file handles.
pub(crate) trait Encode<F: FileSystem>: 'static {
    /// The type of its handles (`enum fid_type`): what user space gets with them.
    const KIND: u8;
    /// A handle: bytes that are a whole number of words.
    type Handle: AsRef<[u8]>;

    /// The handle of `inode`, which may have lost its last name; the same for as long as it is the same object.
    ///
    /// Called with locks of fsnotify held, as well as with none: must not allocate where that reclaims from
    /// filesystems.
    ///
    /// # Errors
    ///
    /// Whatever it is, callers see that there is no handle (`EOVERFLOW`).
    fn encode(inode: &OwnInode<F>) -> Result<Self::Handle>;
}

/// Export operations of `F`.
pub(crate) struct ExportTable<F: FileSystem>(
    pub(super) &'static bindings::export_operations,
    PhantomData<fn() -> F>,
);

impl<F: FileSystem> ExportTable<F> {
    /// Handles that can be compared and not be opened: identifiers.
    pub(crate) const fn identifiers<T: Encode<F>>() -> Self {
        Self(&Table::<F, T>::IDENTIFIERS, PhantomData)
    }
}

struct Table<F, T>(PhantomData<(F, T)>);

impl<F: FileSystem, T: Encode<F>> Table<F, T> {
    const IDENTIFIERS: bindings::export_operations = bindings::export_operations {
        encode_fh: Some(Self::encode_fh),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by exportfs alone, with an inode of `F` and room for `*max_len` words at `fid`, which may be null where that
    /// is none.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        fid: *mut u32,
        max_len: *mut i32,
        parent: *mut bindings::inode,
    ) -> i32 {
        const NONE: i32 = bindings::ROVL_FILEID_INVALID as i32;
        // A handle that tells the directory is for who opens it.
        if !parent.is_null() {
            return NONE;
        }
        // SAFETY: charter 1 and 3: the caller references the inode, and the table is on super blocks of `F` alone.
        let inode = unsafe { OwnInode::<F>::from_raw(inode) };
        let Ok(handle) = T::encode(inode) else {
            return NONE;
        };
        let bytes = handle.as_ref();
        let Ok(words) = i32::try_from(bytes.len().div_ceil(4)) else {
            return NONE;
        };
        // SAFETY: the caller passes how many words there is room for, and takes how many it needs.
        let room = unsafe { max_len.replace(words) };
        if words == 0 || words > room {
            return NONE;
        }
        // SAFETY: by the contract there is room for `words` words, and it is no memory of `handle`.
        unsafe {
            bytes
                .as_ptr()
                .copy_to_nonoverlapping(fid.cast(), bytes.len())
        };
        T::KIND.into()
    }
}
