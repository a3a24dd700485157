// SPDX-License-Identifier: GPL-2.0

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

fn correct(path: PathRef<'_>, lock: &InodeGuard<'_>, new: &OpenTmpfile<'_, Overlay>) -> Result {
    let write = path.mnt().want_write()?;
    let to = write.writing().path(path.dentry())?;
    xattr::set(to, c"user.a", b"1", xattr::SetFlags::ANY)?;
    xattr::remove(to, c"user.a")?;
    if let Some(acl) = Acl::read(path, AclType::Access)? {
        acl.write(to, AclType::Access)?;
    }
    Acl::remove(to, AclType::Access)?;
    FileAttr::common().write(to)?;
    new.open_backing(to, 0, Mode(0))?;
    Iattr::mode(Mode(0)).apply(to, lock)
}
