// SPDX-License-Identifier: GPL-2.0

//! The end of a request on a file of one filesystem is told to another, which takes the file for its own.
// error: E0277

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{IoHooks, Moved, Splice},
        fs::FileSystem,
    },
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn misuse<'a, B: FileSystem, H: IoHooks<B>>(
    request: Splice<'a, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result<Moved<'a>> {
    request.pass::<H>(real, cred, None)
}
