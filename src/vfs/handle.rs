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

/// A file handle that was made: its type and up to 128 bytes.
pub(crate) struct Handle {
    kind: u8,
    words: [u32; WORDS],
    len: usize,
}

impl Handle {
    /// The handle of `inode`, which does not tell its directory.
    ///
    /// # Errors
    ///
    /// `EIO` where the filesystem cannot.
    // In line: it is too large to be moved.
    #[inline]
    pub(crate) fn encode(inode: &Inode) -> Result<Self> {
        let mut words = [0u32; WORDS];
        let mut len = WORDS as i32;
        // SAFETY: charter 1 and 10: the inode is referenced, the buffer ours, with `len` words.
        let kind = unsafe {
            bindings::exportfs_encode_inode_fh(
                inode.as_ptr(),
                words.as_mut_ptr().cast(),
                &mut len,
                ptr::null_mut(),
                0,
            )
        };
        let len = usize::try_from(len).map_err(|_| EIO)?;
        match u8::try_from(kind) {
            Ok(kind) if u32::from(kind) != bindings::ROVL_FILEID_INVALID && len <= WORDS => {
                Ok(Self { kind, words, len })
            }
            _ => Err(EIO),
        }
    }

    /// The type.
    pub(crate) fn kind(&self) -> u8 {
        self.kind
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let words = self.words.get(..self.len).unwrap_or_default();
        // SAFETY: the bytes of initialised words are initialised, and live as long.
        unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
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
        match words.is_aligned() {
            true => self.decode_words(words, mnt, acceptable),
            false => self.decode_copied(mnt, acceptable),
        }
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
        self.decode_words(words.as_ptr(), mnt, acceptable)
    }

    /// `words` are those of the handle.
    #[inline]
    fn decode_words<'m>(
        self,
        words: *const u32,
        mnt: &'m Mount,
        acceptable: Option<calls::Acceptable>,
    ) -> Result<Option<Ref<'m, Dentry>>> {
        // SAFETY: charter 1 and 10: the mount is referenced, the words are there and aligned, and no filesystem writes to
        // those of a handle that it decodes; the context is the mount, as `is_dir_below` wants it.
        let found = unsafe {
            calls::exportfs_decode_fh(
                mnt,
                words.cast_mut().cast(),
                (self.bytes.len() / 4) as i32,
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
