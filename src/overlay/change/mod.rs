// SPDX-License-Identifier: GPL-2.0

//! Changing the union: copy-up, creating, removing, renaming.

pub(super) mod copy_up;
pub(super) mod create;
mod data;
mod links;
pub(super) mod metadata;
mod pipeline;
pub(super) mod remove;
pub(super) mod rename;
mod source;
