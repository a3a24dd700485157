// SPDX-License-Identifier: GPL-2.0

//! The control of `published_shortened`.

use crate::vfs::published::{Published, Shared};
use kernel::prelude::*;

fn put<'a>(place: &Published<&'a u8>, value: &'a u8) -> Result {
    drop(place.replace(Some(Shared::new(value, GFP_KERNEL)?)));
    Ok(())
}

fn control() -> Result {
    static VALUE: u8 = 7;
    let place: Published<&'static u8> = Published::new();
    put(&place, &VALUE)
}
