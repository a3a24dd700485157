// SPDX-License-Identifier: GPL-2.0

//! The control of `splice_hooks_of_other`.

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{IoHooks, Splice},
        fs::FileSystem,
    },
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn control<B: FileSystem, H: IoHooks<Overlay>>(
    request: Splice<'_, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result<usize> {
    request.pass::<H>(real, cred, None)
}
