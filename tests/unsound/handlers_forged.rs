// SPDX-License-Identifier: GPL-2.0

//! A list of handlers is made of any pointers.
// error: E0200

use crate::{overlay::Overlay, vfs::xattr::Handlers};

struct Forged;

impl Handlers<Overlay> for Forged {
    const LIST: &'static [*const kernel::bindings::xattr_handler] = &[1 as *const _];
}
