// SPDX-License-Identifier: GPL-2.0

//! The control of `registration_moved`.

use crate::{overlay::Overlay, vfs::registration::Registration};
use core::pin::Pin;

fn control(registration: Pin<&mut Registration<Overlay>>) -> &Registration<Overlay> {
    registration.into_ref().get_ref()
}
