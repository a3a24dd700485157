// SPDX-License-Identifier: GPL-2.0

//! The control of `mapping_hooks_of_other`.

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{IoHooks, Mapping},
        fs::FileSystem,
    },
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn control<B: FileSystem, H: IoHooks<Overlay>>(
    request: Mapping<'_, Overlay>,
    real: &File,
    cred: &Credential,
) -> Result {
    request.pass::<H>(real, cred)
}
