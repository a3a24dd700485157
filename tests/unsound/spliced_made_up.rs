// SPDX-License-Identifier: GPL-2.0

//! A splice is said to have moved what it did not: the pages of the rest are never given back.
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::file_ops::{IoHooks, Moved, Splice},
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn misuse<'a, H: IoHooks<Overlay>>(
    io: Splice<'a, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result<Moved<'a>> {
    io.pass::<H>(real, cred, None)?;
    Ok(1)
}
