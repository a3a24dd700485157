// SPDX-License-Identifier: GPL-2.0

//! A place that is given out for ever is filled with what does not live as long.
// error: E0597

use crate::vfs::sync::Once;
use kernel::prelude::*;

fn put<'a>(once: &Once<KBox<&'a u8>>, value: &'a u8) -> Result {
    let _ = once.set(KBox::new(value, GFP_KERNEL)?);
    Ok(())
}

fn misuse() -> Result {
    let once: Once<KBox<&'static u8>> = Once::new();
    let local = 7;
    put(&once, &local)
}
