// SPDX-License-Identifier: GPL-2.0

//! The control of `splice_hooks_of_other`.

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{IoHooks, Moved, Splice},
        fs::FileSystem,
    },
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn control<'a, B: FileSystem, H: IoHooks<Overlay>>(
    request: Splice<'a, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result<Moved<'a>> {
    request.pass::<H>(real, cred, None)
}
