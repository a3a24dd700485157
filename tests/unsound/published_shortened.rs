// SPDX-License-Identifier: GPL-2.0

//! What is published for ever does not live as long.
// error: E0597

use crate::vfs::published::{Published, Shared};
use kernel::prelude::*;

fn put<'a>(place: &Published<&'a u8>, value: &'a u8) -> Result {
    drop(place.replace(Some(Shared::new(value, GFP_KERNEL)?)));
    Ok(())
}

fn misuse() -> Result {
    let place: Published<&'static u8> = Published::new();
    let local = 7;
    put(&place, &local)
}
