// SPDX-License-Identifier: GPL-2.0
//! Contents that prove themselves: a file is one record, whole, or it is wrong.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bytes before the body.
pub const HEAD: usize = 16;

/// The record `id` with a body of `len` bytes.
pub fn make(id: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + len);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&(len as u64).to_le_bytes());
    let mut body = vec![0; len];
    ChaCha8Rng::seed_from_u64(id).fill_bytes(&mut body);
    out.append(&mut body);
    out
}

/// Whether `data` is a record, whole.
pub fn is_whole(data: &[u8]) -> bool {
    let word = |at: usize| {
        let bytes = data.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    match (word(0), word(8)) {
        (Some(id), Some(len)) if len as usize == data.len() - HEAD => {
            data == make(id, len as usize)
        }
        _ => false,
    }
}
