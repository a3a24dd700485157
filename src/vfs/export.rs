// SPDX-License-Identifier: GPL-2.0

//! File handles of our own files, made for others: `name_to_handle_at(2)`, fanotify, `fdinfo`.
//!
//! Handles of layers are in [`handle`](super::handle).
//!
//! C header: `struct export_operations` in `include/linux/exportfs.h`;
//! Documentation: `Documentation/filesystems/nfs/exporting.rst`.

use super::{
    callback::{c_table, RawInode},
    fs::FileSystem,
    OwnInode,
};
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

/// Room for a handle as exportfs passes it: words, and how many, which may be none at null.
pub(super) type RawRoom = (*mut u32, *mut i32);

/// Room for a handle.
pub(super) struct Room<'a>(RawRoom, PhantomData<&'a ()>);

impl Room<'_> {
    /// # Safety
    ///
    /// The arguments of `encode_fh`, used during the callback alone.
    pub(super) unsafe fn from_raw(raw: RawRoom) -> Self {
        Self(raw, PhantomData)
    }

    /// Stores `handle`; `EOVERFLOW` where it is too long, or none: the caller is told how much room it needs. `EINVAL`
    /// where it is not of whole words, of which the last would keep what was in the caller's memory.
    fn put(self, handle: &[u8]) -> Result {
        if handle.len() % 4 != 0 {
            return Err(EINVAL);
        }
        let words = i32::try_from(handle.len() / 4)?;
        let (to, len) = self.0;
        // SAFETY: the caller of `encode_fh` has the length in a variable of its own, and waits for the callback.
        let room = unsafe { len.replace(words) };
        if words == 0 || words > room {
            return Err(EOVERFLOW);
        }
        // SAFETY: there is room for as many words as the caller said, in memory of the caller's.
        unsafe {
            handle
                .as_ptr()
                .copy_to_nonoverlapping(to.cast(), handle.len())
        };
        Ok(())
    }
}

struct Table<F, T>(PhantomData<(F, T)>);

impl<F: FileSystem, T: Encode<F>> Table<F, T> {
    c_table! {
        /// What encodes, and nothing that decodes.
        const IDENTIFIERS: bindings::export_operations = {};

        fn encode_fh(inode: RawInode, fid: *mut u32, len: *mut i32, parent: RawInode) -> i32
            => Self::encode(inode, (fid, len), parent);
    }

    #[inline]
    fn encode(inode: &OwnInode<F>, room: Room<'_>, parent: Option<&OwnInode<F>>) -> i32 {
        // A handle that tells the directory is for who opens it.
        let handle = match parent {
            None => T::encode(inode),
            Some(_) => Err(EOPNOTSUPP),
        };
        match handle.and_then(|handle| room.put(handle.as_ref())) {
            Ok(()) => T::KIND.into(),
            Err(_) => bindings::ROVL_FILEID_INVALID as i32,
        }
    }
}
