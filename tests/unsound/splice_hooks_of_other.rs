// SPDX-License-Identifier: GPL-2.0

//! The end of a request on a file of one filesystem is told to another, which takes the file for its own.
// error: E0277

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{IoHooks, Splice},
        fs::FileSystem,
    },
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn misuse<B: FileSystem, H: IoHooks<B>>(
    request: Splice<'_, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result<usize> {
    request.pass::<H>(real, cred, None)
}
