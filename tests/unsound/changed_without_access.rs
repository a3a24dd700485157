// SPDX-License-Identifier: GPL-2.0

//! Attributes are changed on a mount that may be read-only or frozen.
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::{
        acl::{Acl, AclType},
        attr::{FileAttr, Iattr},
        file_ops::OpenTmpfile,
        inode::InodeGuard,
        mount::PathRef,
        xattr, Mode,
    },
};
use kernel::prelude::*;

fn misuse(path: PathRef<'_>, lock: &InodeGuard<'_>, new: &OpenTmpfile<'_, Overlay>) -> Result {
    xattr::set(path, c"user.a", b"1", xattr::SetFlags::ANY)?;
    xattr::remove(path, c"user.a")?;
    if let Some(acl) = Acl::read(path, AclType::Access)? {
        acl.write(path, AclType::Access)?;
    }
    Acl::remove(path, AclType::Access)?;
    FileAttr::common().write(path)?;
    new.open_backing(path, 0, Mode(0))?;
    Iattr::mode(Mode(0)).apply(path, lock)
}
