// SPDX-License-Identifier: GPL-2.0

//! The control of `spliced_made_up`.

use crate::{
    overlay::Overlay,
    vfs::file_ops::{IoHooks, Moved, Splice},
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn control<'a, H: IoHooks<Overlay>>(
    io: Splice<'a, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result<Moved<'a>> {
    io.pass::<H>(real, cred, None)
}
