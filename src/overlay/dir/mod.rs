// SPDX-License-Identifier: GPL-2.0

//! Directories: listings, and what they remember of their layers.

pub(super) mod books;
pub(super) mod cache;
pub(super) mod learn;
pub(super) mod listing;
pub(super) mod merge;
pub(super) mod names;
pub(super) mod open;
pub(super) mod transcript;
