// SPDX-License-Identifier: GPL-2.0

//! The union's own file handles: the layer's handle of the object whose number is shown, so that a copy-up changes
//! neither.

use super::decode;
use crate::{
    overlay::{
        layer::handle::{self, Value},
        union::{Dentry, Inode, Overlay, Super},
    },
    vfs::{
        export::{Decode, Encode, ExportTable},
        log::warn_limited,
        Ref,
    },
};
use kernel::prelude::*;

/// Handles that can be compared, not opened.
pub(crate) const IDENTIFIERS: ExportTable<Overlay> = ExportTable::identifiers::<Identifiers>();
/// Handles that can be opened, with `nfs_export=on`.
pub(crate) const HANDLES: ExportTable<Overlay> = ExportTable::handles::<Handles>();

struct Identifiers;

impl Encode<Overlay> for Identifiers {
    const KIND: u8 = handle::KIND;
    type Handle = Value;

    fn encode(inode: &Inode) -> Result<Value> {
        let real = inode.reals().number()?;
        handle::encode(real.path.positive()?, real.is_upper())
    }
}

struct Handles;

impl Encode<Overlay> for Handles {
    const KIND: u8 = handle::KIND;
    type Handle = Value;

    fn encode(inode: &Inode) -> Result<Value> {
        Identifiers::encode(inode)
    }
}

impl Decode<Overlay> for Handles {
    fn decode<'a>(sb: &'a Super, kind: i32, handle: &[u8]) -> Result<Option<Ref<'a, Dentry>>> {
        decode::decode(sb, kind, handle).inspect_err(|e| {
            if *e != ESTALE {
                let (len, errno) = (handle.len(), e.to_errno());
                warn_limited!(
                    "failed to decode file handle (len={len}, type={kind}, err={errno})\n"
                );
            }
        })
    }

    fn decode_parent<'a>(_: &'a Super, _: i32, _: &[u8]) -> Result<Option<Ref<'a, Dentry>>> {
        warn_limited!(
            "connectable file handles not supported; use 'no_subtree_check' exportfs option.\n"
        );
        Err(EACCES)
    }
}
