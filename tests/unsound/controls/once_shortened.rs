// SPDX-License-Identifier: GPL-2.0

//! The control of `once_shortened`.

use crate::vfs::sync::Once;
use kernel::prelude::*;

fn put<'a>(once: &Once<KBox<&'a u8>>, value: &'a u8) -> Result {
    let _ = once.set(KBox::new(value, GFP_KERNEL)?);
    Ok(())
}

fn control() -> Result {
    static VALUE: u8 = 7;
    let once: Once<KBox<&'static u8>> = Once::new();
    put(&once, &VALUE)
}
