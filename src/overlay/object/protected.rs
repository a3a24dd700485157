// SPDX-License-Identifier: GPL-2.0

//! The `chattr` flags that cannot be set on upper itself, where they would stop the union's own later changes:
//! append-only and immutable, kept in an attribute.

use crate::{
    overlay::{
        layer::{
            marks,
            xattr_names::{Mark, Namespace},
        },
        union::Inode,
    },
    vfs::{
        attr::{fl, FileAttr},
        log::warn_limited,
        mount::{PathRef, WritePath},
        xattr,
    },
};
use kernel::prelude::*;

/// `S_*` inode flags.
pub(crate) mod flags {
    pub(crate) use crate::vfs::inode::flags::*;
}

/// Flags of an inode that are copied from the layer's inode.
pub(crate) const COPIED_FLAGS: u32 = KEPT_FLAGS | flags::CASEFOLD;
/// Those of them that a copy of the layer's object is given: a directory folds case as the one that it is made in.
pub(crate) const KEPT_FLAGS: u32 = flags::SYNC | flags::NOATIME | PROTECTED_FLAGS;
/// Flags that are kept in the `protattr` attribute instead of on the upper inode.
pub(crate) const PROTECTED_FLAGS: u32 = flags::APPEND | flags::IMMUTABLE;

/// The `S_*` flags that are kept in the attribute of `path`; none where it makes no sense.
pub(crate) fn load(own: Namespace, path: PathRef<'_>) -> u32 {
    let mut value = [0; 32];
    let Ok(len) = xattr::get(path, own.name(Mark::Protattr), &mut value) else {
        return 0;
    };
    let value = value.get(..len).unwrap_or_default();
    let flags = value.iter().try_fold(0, |flags, byte| match byte {
        b'a' => Some(flags | flags::APPEND),
        b'i' => Some(flags | flags::IMMUTABLE),
        _ => None,
    });
    match flags {
        Some(flags) if !value.is_empty() => flags,
        _ => {
            warn_limited!(
                "incompatible overlay.protattr format on {}\n",
                path.dentry()
            );
            0
        }
    }
}

/// Keeps the append-only and immutable flags of `fa` in the `protattr` attribute of `path` and sets
/// them on the inode.
///
/// # Errors
///
/// `EPERM` where upper has no attributes.
pub(crate) fn store(inode: &Inode, path: WritePath<'_>, fa: &FileAttr) -> Result {
    let mut value: [u8; 2] = [0; 2];
    let (mut len, mut flags) = (0, 0);
    for (flag, letter, bit) in [
        (fl::APPEND, b'a', flags::APPEND),
        (fl::IMMUTABLE, b'i', flags::IMMUTABLE),
    ] {
        if fa.flags() & flag != 0 {
            if let Some(slot) = value.get_mut(len) {
                *slot = letter;
            }
            len += 1;
            flags |= bit;
        }
    }
    if len > 0 {
        let value = value.get(..len).unwrap_or_default();
        marks::set_own(inode.fs(), path, Mark::Protattr, value, Err(EPERM))?;
    } else if inode.flags() & PROTECTED_FLAGS != 0 {
        match xattr::remove(path, inode.fs().namespace().name(Mark::Protattr)) {
            Err(e) if e != EOPNOTSUPP && e != ENODATA => return Err(e),
            _ => {}
        }
    }
    inode.set_flags(flags, PROTECTED_FLAGS);
    Ok(())
}

/// Takes the flags that [`store`] keeps out of `fa`.
pub(crate) fn take_out(fa: &mut FileAttr) {
    fa.replace(
        fl::APPEND | fl::IMMUTABLE,
        0,
        fl::X_APPEND | fl::X_IMMUTABLE,
        0,
    );
}
