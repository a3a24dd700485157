// SPDX-License-Identifier: GPL-2.0

//! The overlay logic: a writable upper layer over read-only lower layers. No unsafe code.
//!
//! This file is wiring only: the filesystem type and its operation tables.
//!
//! | folder | what is in it |
//! |---|---|
//! | `union` | what a mount keeps |
//! | `written` | what `syncfs(2)` and unmounting make durable |
//! | `mount` | options, layers opened and checked, the work directory, the root; what is shown |
//! | `layer` | objects of layers: marks, whiteouts, file handles, redirects, temporary entries |
//! | `object` | the overlay inode, its number, how it is looked up |
//! | `change` | copy-up, creating, linking, removing, renaming |
//! | `dir` | listings, and what directories remember of their layers |
//! | `file` | open regular files |
//! | `attr`, `acl`, `xattr` | attributes, permission, ACLs, extended attributes as users see them |
//!
//! # Locking order
//!
//! `i_rwsem` of the overlay inode, its operation lock, write access to upper, `i_rwsem` of upper
//! directories, locks of the layers' filesystems. A lower inode's lock is never taken while write
//! access to upper is held: in a nested union that would be the reverse order.

#![forbid(unsafe_code)]

mod acl;
mod attr;
mod change;
mod dir;
mod file;
mod layer;
mod mount;
mod object;
mod union;
mod written;
mod xattr;

pub(crate) use union::Overlay;

use change::{create, remove, rename};
use mount::{fill, params, show};
use object::{inode, lookup, lowerdata};
use union::{Child, Dentry, Inode, Super};

use crate::vfs::{
    self,
    acl::{Acl, AclRef, AclType, RcuAcl},
    attr::{FileAttr, Iattr, Stat},
    dentry::WalkFlags,
    file_ops::{Instantiated, OpenTmpfile},
    fs::{FileSystem, Policy},
    inode_ops::{FiemapRequest, InodeOperations, LookedUp},
    mount::IdMap,
    outbuf::OutBuf,
    rcu::{RcuError, RcuInode, RcuLayerInode},
    super_block::{NewSuper, Rooted, StatFs},
    Mode,
};
use kernel::{cred::Credential, prelude::*, seq_file::SeqFile};

impl FileSystem for Overlay {
    #[cfg(not(drop_in))]
    const NAME: &'static CStr = c"rovl";
    #[cfg(drop_in)]
    const NAME: &'static CStr = c"overlay";
    #[cfg(not(drop_in))]
    const INODE_CACHE: &'static CStr = c"rovl_inode";
    #[cfg(drop_in)]
    const INODE_CACHE: &'static CStr = c"ovl_inode";
    #[cfg(not(drop_in))]
    const FILE_CACHE: &'static CStr = c"rovl_file";
    #[cfg(drop_in)]
    const FILE_CACHE: &'static CStr = c"ovl_file";
    #[cfg(not(drop_in))]
    const DIRECTORY_CACHE: &'static CStr = c"rovl_dir_file";
    #[cfg(drop_in)]
    const DIRECTORY_CACHE: &'static CStr = c"ovl_dir_file";
    const MAGIC: u32 = 0x794c_7630;
    // Writing back is upper's; the umask is applied by upper; no EVM HMAC over ours.
    const POLICY: Policy = Policy {
        userns_mount: true,
        allow_idmap: true,
        posix_acl: true,
        skip_sync: true,
        no_umask: true,
        no_evm_hmac: true,
    };
    type Inode = inode::Data;
    type NameMarks = inode::NameMarks;
    type Context = params::Params;
    type Regular = Regular;
    type Directory = Directory;
    type Symlink = Symlink;
    type Special = Special;
    type RegularFile = file::RegularFile;
    type DirectoryFile = dir::open::OpenDir;

    fn creds(&self) -> &Credential {
        self.creds()
    }

    fn fill_super<'a>(
        sb: NewSuper<'a, Self>,
        fc: &vfs::context::FsContext,
        params: &mut params::Params,
    ) -> Result<Rooted<'a, Self>> {
        fill::fill_super(sb, fc, params)
    }

    fn statfs(dentry: &Dentry) -> Result<StatFs> {
        show::statfs(dentry)
    }

    fn sync(sb: &Super) -> Result {
        let fs = sb.fs();
        if let Some(result) = fs.instead_of_sync() {
            return result.map_err(|_| EIO);
        }
        let (Some(upper), Some(known)) = (fs.upper(), &fs.known_errors) else {
            return Ok(());
        };
        let upper = upper.mnt();
        let result = fs.written.sync(sb, upper);
        // What was written through the mount is upper's to write back.
        sb.pass_on_errors(upper.sb(), known);
        result
    }

    fn show_options(&self, out: &SeqFile) {
        show::show_options(self, out)
    }

    fn cached_objects(&self) -> usize {
        self.dir_caches().objects()
    }

    fn free_cached_objects(&self, wanted: usize) -> usize {
        self.dir_caches().shrink(wanted)
    }

    fn revalidate(dentry: &Dentry, flags: WalkFlags, weak: bool) -> Result<bool> {
        lookup::revalidate(dentry, flags, weak)
    }

    fn real<'a>(dentry: &'a Dentry, metadata: bool) -> Option<&'a vfs::Dentry> {
        let real = match metadata {
            true => dentry.own_inode()?.reals().attributes(),
            false => lowerdata::content(dentry),
        };
        Some(real.ok()?.path.dentry())
    }
}

/// The table of a kind of inode: the operations that all kinds share, and `own` ones. `#[vtable]` has
/// to see all functions, so the shared ones cannot be a macro inside the `impl`.
macro_rules! attribute_operations {
    ($kind:ident, { $($own:tt)* }) => {
        #[vtable]
        impl InodeOperations<Overlay> for $kind {
            fn setattr(idmap: &IdMap, dentry: &Dentry, attr: &mut Iattr) -> Result {
                attr::setattr(idmap, dentry, attr)
            }

            fn getattr(
                idmap: &IdMap,
                dentry: &Dentry,
                stat: &mut Stat,
                mask: u32,
                flags: u32,
            ) -> Result {
                attr::getattr(idmap, dentry, stat, mask, flags)
            }

            fn listxattr(dentry: &Dentry, out: &mut OutBuf<'_>) -> Result {
                xattr::list(dentry, out)
            }

            fn update_atime(inode: &Inode, nowait: bool) -> Result {
                attr::update_atime(inode, nowait)
            }

            $($own)*
        }
    };
}

/// As [`attribute_operations`], with access checks and ACLs: all kinds but symlinks.
macro_rules! access_operations {
    ($kind:ident, { $($own:tt)* }) => {
        attribute_operations!($kind, {
            fn permission(idmap: &IdMap, inode: &Inode, mask: u32) -> Result {
                attr::permission(idmap, inode, mask)
            }

            fn permission_rcu(
                idmap: &IdMap,
                inode: RcuInode<'_, Overlay>,
                mask: u32,
            ) -> Result<(), RcuError> {
                attr::permission_rcu(idmap, inode, mask)
            }

            fn inode_acl(inode: &Inode, kind: AclType) -> Result<Option<Acl>> {
                acl::inode_acl(inode, kind)
            }

            fn inode_acl_rcu(
                inode: RcuInode<'_, Overlay>,
                kind: AclType,
            ) -> Result<RcuAcl<'_>, RcuError> {
                acl::inode_acl_rcu(inode, kind)
            }

            fn acl(dentry: &Dentry, kind: AclType) -> Result<Option<Acl>> {
                acl::acl(dentry, kind)
            }

            fn set_acl(
                idmap: &IdMap,
                dentry: &Dentry,
                acl: Option<AclRef<'_>>,
                kind: AclType,
            ) -> Result {
                acl::set_acl(idmap, dentry, acl, kind)
            }

            $($own)*
        });
    };
}

/// As [`access_operations`], with `chattr` flags: regular files and directories.
macro_rules! file_operations {
    ($kind:ident, { $($own:tt)* }) => {
        access_operations!($kind, {
            fn fileattr_get(dentry: &Dentry, fa: &mut FileAttr) -> Result {
                attr::fileattr_get(dentry, fa)
            }

            fn fileattr_set(dentry: &Dentry, fa: &mut FileAttr) -> Result {
                attr::fileattr_set(dentry, fa)
            }

            $($own)*
        });
    };
}

pub(crate) struct Regular;
pub(crate) struct Directory;
pub(crate) struct Symlink;
pub(crate) struct Special;

file_operations!(Regular, {
    fn fiemap(inode: &Inode, request: FiemapRequest<'_>) -> Result {
        attr::fiemap(inode, request)
    }
});

access_operations!(Special, {});

attribute_operations!(Symlink, {
    fn link_source_rcu(inode: RcuInode<'_, Overlay>) -> Result<RcuLayerInode<'_>, RcuError> {
        attr::link_source_rcu(inode)
    }

    fn link_source(dentry: &Dentry) -> Result<&vfs::Dentry> {
        Ok(dentry.own_positive()?.content()?.path.dentry())
    }
});

file_operations!(Directory, {
    fn lookup(child: Child<'_>) -> Result<LookedUp<'_, Overlay>> {
        lookup::lookup(child)
    }

    fn create(idmap: &IdMap, child: Child<'_>, mode: Mode) -> Result {
        create::create(idmap, child, Mode(Mode::REG | mode.perm()), 0)
    }

    fn mkdir(idmap: &IdMap, child: Child<'_>, mode: Mode) -> Result {
        create::create(idmap, child, Mode(Mode::DIR | mode.perm()), 0)
    }

    fn mknod(idmap: &IdMap, child: Child<'_>, mode: Mode, rdev: u32) -> Result {
        // A whiteout is not for users to make.
        if mode.file_type() == Mode::CHR && rdev == 0 {
            return Err(EPERM);
        }
        create::create(idmap, child, mode, rdev)
    }

    fn symlink(idmap: &IdMap, child: Child<'_>, target: &CStr) -> Result {
        create::symlink(idmap, child, target)
    }

    fn link(old: &Dentry, new: Child<'_>) -> Result {
        create::link(old, new)
    }

    fn unlink(child: Child<'_>) -> Result {
        remove::remove(child, false)
    }

    fn rmdir(child: Child<'_>) -> Result {
        remove::remove(child, true)
    }

    fn rename(old: Child<'_>, new: Child<'_>, flags: u32) -> Result {
        rename::rename(old, new, flags)
    }

    fn tmpfile<'a>(
        idmap: &IdMap,
        dir: &Inode,
        file: OpenTmpfile<'a, Overlay>,
        mode: Mode,
    ) -> Result<Instantiated<'a, Overlay>> {
        create::tmpfile(idmap, dir, file, mode)
    }
});
