// SPDX-License-Identifier: GPL-2.0

//! The `chattr` flags that cannot be set on upper itself, where they would stop the union's own later changes:
//! append-only and immutable, kept in an attribute.

use super::inode::{self, PROTECTED_FLAGS};
use crate::{
    overlay::{
        layer::{marks, xattr_names::own},
        union::Inode,
    },
    vfs::{
        attr::{fl, FileAttr},
        log::warn_limited,
        mount::PathRef,
        xattr,
    },
};
use kernel::prelude::*;

/// Adds the flags kept in `protattr` to the inode's.
pub(crate) fn load(inode: &Inode, path: PathRef<'_>) {
    let mut value = [0; 32];
    let Ok(len) = xattr::get(path, own::PROTATTR, &mut value) else {
        return;
    };
    let mut flags = inode.flags() & PROTECTED_FLAGS;
    let value = value.get(..len).unwrap_or_default();
    for byte in value {
        match byte {
            b'a' => flags |= inode::flags::APPEND,
            b'i' => flags |= inode::flags::IMMUTABLE,
            _ => flags = u32::MAX,
        }
        if flags == u32::MAX {
            break;
        }
    }
    if value.is_empty() || flags == u32::MAX {
        warn_limited!("incompatible overlay.protattr format on {}\n", path.dentry);
    } else {
        inode.set_flags(flags, PROTECTED_FLAGS);
    }
}

/// Keeps the append-only and immutable flags of `fa` in the `protattr` attribute of `path`, sets them
/// on the inode and takes them out of `fa`.
///
/// # Errors
///
/// `EPERM` where upper has no attributes.
pub(crate) fn store(inode: &Inode, path: PathRef<'_>, fa: &mut FileAttr) -> Result {
    let mut value: [u8; 2] = [0; 2];
    let (mut len, mut flags) = (0, 0);
    for (flag, letter, bit) in [
        (fl::APPEND, b'a', inode::flags::APPEND),
        (fl::IMMUTABLE, b'i', inode::flags::IMMUTABLE),
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
        marks::set_own(inode.fs(), path, own::PROTATTR, value, Err(EPERM))?;
    } else if inode.flags() & PROTECTED_FLAGS != 0 {
        match xattr::remove(path, own::PROTATTR) {
            Err(e) if e != EOPNOTSUPP && e != ENODATA => return Err(e),
            _ => {}
        }
    }
    inode.set_flags(flags, PROTECTED_FLAGS);
    fa.replace(
        fl::APPEND | fl::IMMUTABLE,
        0,
        fl::X_APPEND | fl::X_IMMUTABLE,
        0,
    );
    Ok(())
}
