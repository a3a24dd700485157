// SPDX-License-Identifier: GPL-2.0

//! Data is written, and set-id bits are stripped, while the inode is not locked.
// error: E0061

use crate::{
    overlay::Overlay,
    vfs::file_ops::{Io, IoHooks, Moved},
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn misuse<'a, H: IoHooks<Overlay>>(
    request: Io<'a, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result<Moved<'a>> {
    request.pass::<H>(real, cred)
}
