// SPDX-License-Identifier: GPL-2.0

//! File handles of layers.
//!
//! C header: `include/linux/exportfs.h`.

use super::{calls, mount::Mount, refs::Ref, Dentry, Inode};
use crate::bindings;
use core::ptr;
use kernel::{
    ffi::{c_int, c_void},
    prelude::*,
};

/// Bytes of the longest handle.
pub(crate) const MAX_BYTES: usize = WORDS * 4;
/// Words of the longest handle.
const WORDS: usize = bindings::ROVL_MAX_HANDLE_SZ as usize / 4;

/// Bytes that lie as those of a handle have to.
#[repr(C, align(4))]
pub(crate) struct Aligned<const N: usize>(pub(crate) [u8; N]);

/// Writes the handle of `inode`, which does not tell its directory, into `room`, and returns its type and length.
///
/// # Errors
///
/// `EIO` where the filesystem cannot; `EINVAL` where the room lies otherwise than [`Aligned`] bytes.
pub(crate) fn encode(inode: &Inode, room: &mut [u8]) -> Result<(u8, usize)> {
    let at = room.as_mut_ptr().cast::<bindings::fid>();
    if !at.cast::<u32>().is_aligned() {
        return Err(EINVAL);
    }
    let words = WORDS.min(room.len() / 4);
    let mut len = words as i32;
    let ptr = inode.as_ptr();
    // SAFETY: charter 1 and 10: the inode is referenced, the room ours, with `len` words.
    let kind = unsafe { bindings::exportfs_encode_inode_fh(ptr, at, &mut len, ptr::null_mut(), 0) };
    let len = usize::try_from(len).map_err(|_| EIO)?;
    match u8::try_from(kind) {
        Ok(kind) if u32::from(kind) != bindings::ROVL_FILEID_INVALID && len <= words => {
            Ok((kind, len * 4))
        }
        _ => Err(EIO),
    }
}

/// A file handle to be looked for, wherever it is kept.
#[derive(Clone, Copy)]
pub(crate) struct HandleRef<'a> {
    kind: u8,
    bytes: &'a [u8],
}

impl<'a> HandleRef<'a> {
    /// A handle from its parts; `EINVAL` where it is too long or not of whole words.
    #[inline]
    pub(crate) fn new(kind: u8, bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() % 4 != 0 || bytes.len() > MAX_BYTES {
            return Err(EINVAL);
        }
        Ok(Self { kind, bytes })
    }

    /// Finds a dentry of the handle's inode on `mnt`; it may be disconnected. `None` for a stale
    /// handle. Needs `CAP_DAC_READ_SEARCH`: the caller checks.
    #[inline]
    pub(crate) fn decode<'m>(self, mnt: &'m Mount) -> Result<Option<Ref<'m, Dentry>>> {
        self.decode_if(mnt, None)
    }

    /// As [`decode`](Self::decode), of a directory that can be reached from the root of `mnt`: connected up to there. `None`
    /// for any other object.
    pub(crate) fn decode_dir<'m>(self, mnt: &'m Mount) -> Result<Option<Ref<'m, Dentry>>> {
        self.decode_if(mnt, Some(is_dir_below))
    }

    #[inline]
    fn decode_if<'m>(
        self,
        mnt: &'m Mount,
        acceptable: Option<calls::Acceptable>,
    ) -> Result<Option<Ref<'m, Dentry>>> {
        let words = self.bytes.as_ptr().cast::<u32>();
        if !words.is_aligned() {
            return self.decode_copied(mnt, acceptable);
        }
        // SAFETY: the words are aligned and within the bytes, which live as long; any four bytes are a word.
        let words = unsafe { core::slice::from_raw_parts(words, self.bytes.len() / 4) };
        self.decode_words(words, mnt, acceptable)
    }

    /// As [`decode_if`](Self::decode_if), of bytes that are not aligned.
    #[inline(never)]
    fn decode_copied<'m>(
        self,
        mnt: &'m Mount,
        acceptable: Option<calls::Acceptable>,
    ) -> Result<Option<Ref<'m, Dentry>>> {
        let mut words = [0u32; WORDS];
        for (word, bytes) in words.iter_mut().zip(self.bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().map_err(|_| EINVAL)?);
        }
        let words = words.get(..self.bytes.len() / 4).unwrap_or_default();
        self.decode_words(words, mnt, acceptable)
    }

    /// `words` are those of the handle.
    #[inline]
    fn decode_words<'m>(
        self,
        words: &[u32],
        mnt: &'m Mount,
        acceptable: Option<calls::Acceptable>,
    ) -> Result<Option<Ref<'m, Dentry>>> {
        // SAFETY: charter 1 and 10: the mount is referenced, the words are there, and no filesystem writes to those of a
        // handle that it decodes; the context is the mount, as `is_dir_below` wants it.
        let found = unsafe {
            calls::exportfs_decode_fh(
                mnt,
                words.as_ptr().cast_mut().cast(),
                words.len() as i32,
                self.kind.into(),
                acceptable,
                mnt.as_ptr().cast(),
            )
        };
        match found.get() {
            Err(e) if e == ESTALE => Ok(None),
            other => other.map(Some),
        }
    }
}

/// Whether `dentry` is a directory that was not removed, in what the mount `mnt` shows.
///
/// # Safety
///
/// Charter 1 holds for `mnt`, a mount, and `dentry` during the call.
unsafe extern "C" fn is_dir_below(mnt: *mut c_void, dentry: *mut bindings::dentry) -> c_int {
    // SAFETY: by the contract.
    let mnt = unsafe { Mount::from_raw(mnt.cast()) };
    // SAFETY: by the contract.
    let dentry = unsafe { Dentry::from_raw(dentry) };
    let root = mnt.root().dentry();
    // The root of a filesystem is not hashed.
    let is_there = !dentry.is_unhashed() || dentry == root;
    (dentry.is_dir() && is_there && dentry.is_subdir_of(root)).into()
}
