// SPDX-License-Identifier: GPL-2.0

//! Mounting: options, layers, the work directory, the root; what is shown of a mount.

pub(super) mod capability;
pub(super) mod fill;
pub(super) mod given;
mod index;
pub(super) mod layers;
pub(super) mod messages;
pub(super) mod options;
pub(super) mod params;
pub(super) mod resolve;
pub(super) mod show;
pub(super) mod workdir;
