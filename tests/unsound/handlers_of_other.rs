// SPDX-License-Identifier: GPL-2.0

//! A filesystem has another one's handlers of extended attributes, which take its inodes for their own.
// error: E0277

use crate::{
    overlay::Overlay,
    vfs::{fs::FileSystem, xattr::Handlers},
};

fn handlers<F: FileSystem, H: Handlers<F>>() {}

fn misuse<B: FileSystem, H: Handlers<Overlay>>() {
    handlers::<B, H>();
}
