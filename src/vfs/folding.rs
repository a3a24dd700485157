// SPDX-License-Identifier: GPL-2.0

//! Which names of a directory are one: the same bytes, or what a filesystem folds to the same text.

use super::{calls, SuperBlock};
use crate::bindings;
use kernel::sync::atomic::{Atomic, Relaxed};

/// How names are compared: by their bytes, or folded as a filesystem folds them.
///
/// # Invariants
///
/// The super block has an encoding.
#[derive(Clone, Copy)]
pub(crate) struct Folding<'a>(Option<&'a SuperBlock>);

impl Folding<'_> {
    /// By their bytes.
    pub(crate) const NONE: Self = Folding(None);

    /// Whether they are folded.
    #[inline]
    pub(crate) fn folds(self) -> bool {
        self.0.is_some()
    }

    /// Whether two names are one.
    #[inline]
    pub(crate) fn is_same(self, a: &[u8], b: &[u8]) -> bool {
        a == b || self.0.is_some_and(|sb| folded_same(sb, a, b))
    }
}

#[cold]
fn folded_same(sb: &SuperBlock, a: &[u8], b: &[u8]) -> bool {
    let (a_len, b_len) = (a.len() as u32, b.len() as u32);
    // SAFETY: charter 1: a mounted filesystem keeps its encoding, which by the type invariant of [`Folding`], the one caller,
    // there is; the names have the given lengths.
    unsafe {
        bindings::rovl_folded_same(
            sb.as_ptr(),
            a.as_ptr().cast(),
            a_len,
            b.as_ptr().cast(),
            b_len,
        )
    }
}

impl SuperBlock {
    /// Whether directories of the filesystem can fold case.
    pub(crate) fn can_fold_case(&self) -> bool {
        calls::rovl_can_fold_case(self)
    }

    /// How names are compared in directories of the filesystem that fold case.
    #[inline]
    pub(crate) fn folding(&self) -> Folding<'_> {
        // INVARIANT: as was looked at.
        Folding(self.can_fold_case().then_some(self))
    }

    /// Whether directories that fold case take no names but valid text.
    pub(crate) fn folds_strictly(&self) -> bool {
        calls::rovl_folds_strictly(self)
    }

    /// Whether directories of both filesystems that fold case have the same names, and the same are one.
    pub(crate) fn folds_alike(&self, other: &Self) -> bool {
        calls::rovl_folds_alike(self, other)
    }
}

/// A random key for hashes of names that is made when it is first used.
pub(crate) struct LazySalt(Atomic<u64>);

impl LazySalt {
    /// Not made yet.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// The key.
    #[inline]
    pub(crate) fn get(&self) -> NameSalt {
        match self.0.load(Relaxed) {
            0 => self.make(),
            salt => NameSalt(salt as usize),
        }
    }

    #[cold]
    fn make(&self) -> NameSalt {
        let new = calls::get_random_u64() | 1;
        let salt = match self.0.cmpxchg(0, new, Relaxed) {
            Ok(_) => new,
            Err(quicker) => quicker,
        };
        NameSalt(salt as usize)
    }
}

/// A random key for hashes of names.
#[derive(Clone, Copy)]
pub(crate) struct NameSalt(usize);

impl NameSalt {
    /// A new key.
    pub(crate) fn random() -> Self {
        Self(calls::get_random_u64() as usize)
    }

    /// The keyed hash of `name`, the same for names that are one: the dcache's `full_name_hash()`, of the folded name where
    /// names are folded.
    #[inline]
    pub(crate) fn hash(self, name: &[u8], folding: Folding<'_>) -> u32 {
        let salt = self.0 as *const kernel::ffi::c_void;
        let (at, len) = (name.as_ptr().cast(), name.len() as u32);
        match folding.0 {
            // SAFETY: the name has the given length; the salt is hashed as a number, never followed.
            None => unsafe { bindings::full_name_hash(salt, at, len) },
            // SAFETY: name and salt as without folding; charter 1: a mounted filesystem keeps its encoding, which by the type invariant there is.
            Some(sb) => unsafe { bindings::rovl_folded_hash(sb.as_ptr(), salt, at, len) },
        }
    }
}
