// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{Io, IoHooks, Moved},
        inode::InodeGuard,
    },
};
use kernel::{cred::Credential, fs::File, prelude::*};

fn correct<'a, H: IoHooks<Overlay>>(
    request: Io<'a, Overlay>,
    real: &File,
    cred: &Credential,
    lock: &InodeGuard<'_>,
) -> Result<Moved<'a>> {
    request.pass::<H>(real, cred, Some(lock))
}
