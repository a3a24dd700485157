// SPDX-License-Identifier: GPL-2.0

//! The union's own file handles: the layer's handle of the object whose number is shown, so that a copy-up changes
//! neither.

use super::{decode, inode::NameMark};
use crate::{
    overlay::{
        change::copy_up,
        layer::{
            handle::{self, Value},
            UPPER,
        },
        union::{Dentry, Inode, Overlay, Super},
    },
    vfs::{
        backing::LowerPath,
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
        handle::encode(&inode.fs().layers, real.path.positive()?, real.is_upper())
    }
}

struct Handles;

impl Encode<Overlay> for Handles {
    const KIND: u8 = handle::KIND;
    type Handle = Value;

    #[inline]
    fn encode(inode: &Inode) -> Result<Value> {
        encode(inode).inspect_err(|e| {
            let (ino, errno) = (inode.ino(), e.to_errno());
            warn_limited!("failed to encode file handle (ino={ino}, err={errno})\n");
        })
    }
}

/// The handle of the lower object, where that leads to the union's, and else that of the copy.
#[inline]
fn encode(inode: &Inode) -> Result<Value> {
    let fs = inode.fs();
    let is_root = inode.own_sb().root()?.inode() == Some(&**inode);
    let upper = inode.upper().filter(|_| is_root || !inode.is_indexed());
    let lower = inode.lower_path();
    if let (None, Some(_), Some(_), true) = (upper, lower, fs.upper(), inode.mode().is_dir()) {
        let dentry = Ref::from(inode).alias().ok_or(ENOENT)?;
        connect(&dentry)?;
    }
    let (real, is_upper) = match (upper, lower) {
        (Some(upper), _) => (upper.positive()?, true),
        (None, Some(lower)) => (lower.positive()?, false),
        (None, None) => return Err(ESTALE),
    };
    handle::encode(&fs.layers, real, is_upper)
}

/// Makes the handle of the lower directory behind `dentry`, which is not the root, lead back to it. Whoever opens it goes up
/// from the lower directory to one that the index knows, and down again: each directory on the way must be one of the union's
/// by this layer, for by that the index knows it when it is renamed. The topmost from which on they are is copied up, unless
/// that is the root.
fn connect(dentry: &Dentry) -> Result {
    if dentry.marks().test(NameMark::Connected) {
        return Ok(());
    }
    let root = dentry.own_sb().root()?;
    let layer = topmost_layer(dentry.own_positive()?);
    let mut next: Ref<'_, Dentry> = dentry.into();
    loop {
        let parent = next.up();
        let inode = parent.own_positive()?;
        if *parent == *root {
            break;
        }
        if layer > lowest_leading_here(inode) {
            copy_up::copy_up(&next).inspect_err(|e| {
                let (next, errno) = (&*next, e.to_errno());
                warn_limited!("failed to copy up on encode ({next}, err={errno})\n");
            })?;
            break;
        }
        if parent.marks().test(NameMark::Connected) || inode.is_indexed() {
            break;
        }
        next = parent;
    }
    dentry.marks().set(NameMark::Connected);
    Ok(())
}

/// The number of the topmost of the lower layers that have the directory.
fn topmost_layer(inode: &Inode) -> u16 {
    let lower = inode.lowers().first();
    lower.map_or(UPPER, LowerPath::layer)
}

/// The lowest layer whose directory leads to that of the union, which is not the root, wherever that is renamed to.
fn lowest_leading_here(inode: &Inode) -> u16 {
    match inode.upper() {
        Some(_) if !inode.is_indexed() => UPPER,
        _ => topmost_layer(inode),
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
