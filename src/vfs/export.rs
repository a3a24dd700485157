// SPDX-License-Identifier: GPL-2.0

//! File handles of our own files, made for others and taken back: `name_to_handle_at(2)`, `open_by_handle_at(2)`, fanotify,
//! `fdinfo`, the NFS server.
//!
//! Handles of layers are in [`handle`](super::handle).
//!
//! C header: `struct export_operations` in `include/linux/exportfs.h`;
//! Documentation: `Documentation/filesystems/nfs/exporting.rst`.

use super::{
    callback::{c_table, RawDentry, RawInode, RawSuper},
    fs::{Exactly, FileSystem},
    handle::MAX_BYTES,
    refs::Ref,
    OwnDentry, OwnInode, OwnSuper,
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

/// How a filesystem finds what its file handles name.
pub(crate) trait Decode<F: FileSystem>: Encode<F> {
    /// A dentry of the object that `handle` of the type `kind` names; `None` where there is no such object any more. That of
    /// anything but a directory need not have a name.
    ///
    /// Nobody has looked at the bytes: a client may have made them up.
    ///
    /// # Errors
    ///
    /// Whatever it is, but for `ENOMEM`, callers see that there is no such object (`ESTALE`).
    fn decode<'a>(
        sb: &'a OwnSuper<F>,
        kind: i32,
        handle: &[u8],
    ) -> Result<Option<Ref<'a, OwnDentry<F>>>>;

    /// The directory that such a handle tells beside its object, for exports of a part of the filesystem.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    fn decode_parent<'a>(
        sb: &'a OwnSuper<F>,
        kind: i32,
        handle: &[u8],
    ) -> Result<Option<Ref<'a, OwnDentry<F>>>>;
}

/// Export operations of `F`.
pub(crate) struct ExportTable<F: FileSystem>(
    pub(super) &'static bindings::export_operations,
    Exactly<F>,
);

impl<F: FileSystem> ExportTable<F> {
    /// Handles that can be compared and not be opened: identifiers.
    pub(crate) const fn identifiers<T: Encode<F>>() -> Self {
        Self(&Table::<F, T>::IDENTIFIERS, PhantomData)
    }

    /// Handles that can be opened.
    pub(crate) const fn handles<T: Decode<F>>() -> Self {
        Self(&Decoding::<F, T>::HANDLES, PhantomData)
    }
}

/// A handle as exportfs passes it: words, and how many.
pub(super) type RawHandle = (*mut bindings::fid, i32);

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
    /// where it is not of whole words, of which the last would keep what was in the caller's memory, or longer than any.
    fn put(self, handle: &[u8]) -> Result {
        if handle.len() % 4 != 0 || handle.len() > MAX_BYTES {
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

/// The operations of handles that can be opened.
struct Decoding<F, T>(PhantomData<(F, T)>);

impl<F: FileSystem, T: Decode<F>> Decoding<F, T> {
    c_table! {
        /// Without `get_parent` and `get_name`, which connect a directory that is not.
        const HANDLES: bindings::export_operations = {
            encode_fh: Some(Table::<F, T>::encode_fh),
        };

        fn fh_to_dentry(sb: RawSuper, fid: *mut bindings::fid, len: i32, kind: i32) -> RawDentry
            => Self::decode(sb, (fid, len), kind);
        fn fh_to_parent(sb: RawSuper, fid: *mut bindings::fid, len: i32, kind: i32) -> RawDentry
            => Self::decode_parent(sb, (fid, len), kind);
    }

    fn decode<'a>(
        sb: &'a OwnSuper<F>,
        handle: &'a [u8],
        kind: i32,
    ) -> Result<Option<Ref<'a, OwnDentry<F>>>> {
        Self::usable(sb, T::decode(sb, kind, handle)?)
    }

    fn decode_parent<'a>(
        sb: &'a OwnSuper<F>,
        handle: &'a [u8],
        kind: i32,
    ) -> Result<Option<Ref<'a, OwnDentry<F>>>> {
        Self::usable(sb, T::decode_parent(sb, kind, handle)?)
    }

    /// What was found as exportfs may get it: it looks at the inode, and sees the dentry through a mount of the super block
    /// that it asked.
    fn usable<'a>(
        sb: &OwnSuper<F>,
        found: Option<Ref<'a, OwnDentry<F>>>,
    ) -> Result<Option<Ref<'a, OwnDentry<F>>>> {
        Ok(found.filter(|dentry| dentry.sb() == &**sb && dentry.own_inode().is_some()))
    }
}
