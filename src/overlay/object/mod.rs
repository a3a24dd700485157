// SPDX-License-Identifier: GPL-2.0

//! What stands under a name: the overlay inode, its number, how it is looked up.

mod ask;
pub(super) mod decode;
pub(super) mod export;
pub(super) mod fold;
pub(super) mod found;
pub(super) mod inode;
pub(super) mod lookup;
pub(super) mod lowerdata;
pub(super) mod number;
pub(super) mod protected;
pub(super) mod reals;
