// SPDX-License-Identifier: GPL-2.0

//! A registered type is moved, and the VFS finds something else where it was.
// error: E0277

use crate::{overlay::Overlay, vfs::registration::Registration};
use core::pin::Pin;

fn misuse(registration: Pin<&mut Registration<Overlay>>) -> &mut Registration<Overlay> {
    Pin::into_inner(registration)
}
