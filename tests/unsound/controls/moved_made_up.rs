// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::file_ops::{Io, Moved},
};
use kernel::prelude::*;

fn control<'a>(request: Io<'a, Overlay>) -> Result<Moved<'a>> {
    Ok(request.leave())
}
