// SPDX-License-Identifier: GPL-2.0

//! The control of `handlers_of_other`.

use crate::{
    overlay::Overlay,
    vfs::{fs::FileSystem, xattr::Handlers},
};

fn handlers<F: FileSystem, H: Handlers<F>>() {}

fn control<H: Handlers<Overlay>>() {
    handlers::<Overlay, H>();
}
