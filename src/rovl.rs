// SPDX-License-Identifier: GPL-2.0

//! rovl: a union filesystem for Linux, in Rust.
//!
//! `mount -t rovl -o lowerdir=...,upperdir=...,workdir=...` shows one writable tree made of a writable
//! upper layer over read-only lower layers, with the semantics and the on-disk format of overlayfs.
//!
//! Two halves: [`vfs`] has every `unsafe` line and knows nothing about overlays; [`overlay`] has the
//! overlay logic and knows nothing about raw pointers. Imports run from `overlay` to `vfs` to
//! `bindings`, never back.
//!
//! With `--cfg drop_in` the same sources build `overlay.ko`, a replacement for the kernel's own.

mod bindings;
mod overlay;
mod vfs;

use kernel::prelude::*;

#[cfg(not(drop_in))]
module! {
    type: Rovl,
    name: "rovl",
    authors: ["The rovl authors"],
    description: "Union filesystem in Rust",
    license: "GPL",
}

#[cfg(drop_in)]
module! {
    type: Rovl,
    name: "overlay",
    authors: ["The rovl authors"],
    description: "Union filesystem in Rust, in place of overlayfs",
    license: "GPL",
}

#[pin_data]
struct Rovl {
    #[pin]
    _fs: vfs::registration::Registration<overlay::Overlay>,
}

impl kernel::InPlaceModule for Rovl {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _fs <- vfs::registration::Registration::new(module),
        }? Error)
    }
}
