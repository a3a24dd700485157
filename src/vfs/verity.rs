// SPDX-License-Identifier: GPL-2.0

//! fs-verity: what a filesystem vouches for of the data of a file.
//!
//! C header: `include/linux/fsverity.h`.

use super::{calls, file, mount::PathRef};
use crate::bindings;
use kernel::prelude::*;

/// The most bytes that a digest has.
pub(crate) const MAX_DIGEST: usize = 64;

/// The digest of a file, and the number of its algorithm (`FS_VERITY_HASH_ALG_*`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest {
    bytes: [u8; MAX_DIGEST],
    len: usize,
    algorithm: u8,
}

impl Digest {
    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Its algorithm.
    pub(crate) fn algorithm(&self) -> u8 {
        self.algorithm
    }

    /// The digest of the file at `path`, whose data its filesystem checks; `None` where it does not. A file that nobody has
    /// opened yet is opened for that, with the current credentials.
    ///
    /// # Errors
    ///
    /// As [`file::open`].
    pub(crate) fn of(path: PathRef<'_>) -> Result<Option<Self>> {
        let inode = path.positive()?;
        if calls::rovl_verity_is_unread(inode) {
            drop(file::open(
                path,
                bindings::O_RDONLY | bindings::O_LARGEFILE,
            )?);
        }
        let mut digest = Self {
            bytes: [0; MAX_DIGEST],
            len: 0,
            algorithm: 0,
        };
        let len = calls::rovl_verity_digest(inode, &mut digest.bytes, &mut digest.algorithm);
        digest.len = usize::try_from(len)?;
        Ok((len != 0).then_some(digest))
    }
}
