// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{Io, IoHooks},
        inode::InodeGuard,
    },
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn correct<H: IoHooks<Overlay>>(
    request: Io<'_, Overlay>,
    real: &File,
    cred: &Credential,
    lock: &InodeGuard<'_>,
) -> Result<usize> {
    request.pass::<H>(real, cred, Some(lock))
}
