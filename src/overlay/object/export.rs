// SPDX-License-Identifier: GPL-2.0

//! The union's own file handles: the layer's handle of the object whose number is shown, so that a copy-up changes
//! neither.

use crate::{
    overlay::{
        layer::handle::{self, Value},
        union::{Inode, Overlay},
    },
    vfs::export::{Encode, ExportTable},
};
use kernel::prelude::*;

/// Handles that can be compared, not opened.
pub(crate) const IDENTIFIERS: ExportTable<Overlay> = ExportTable::identifiers::<Handles>();

struct Handles;

impl Encode<Overlay> for Handles {
    /// `OVL_FILEID_V1`.
    const KIND: u8 = 0xf8;
    type Handle = Value;

    fn encode(inode: &Inode) -> Result<Value> {
        let real = inode.reals().number()?;
        handle::encode(real.path.positive()?, real.is_upper())
    }
}
