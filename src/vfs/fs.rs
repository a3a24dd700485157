// SPDX-License-Identifier: GPL-2.0

//! What a filesystem is.

use super::{
    context::{Context, FsContext},
    dentry::WalkFlags,
    file_ops::{self, DirectoryOperations, RegularOperations},
    inode_ops::{InodeOperations, Table as InodeTable},
    own::{OwnDentry, OwnSuper},
    super_block::{NewSuper, Rooted, StatFs},
    Mode,
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{cred::Credential, prelude::*, seq_file::SeqFile};

/// The kinds of inode that have tables of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Symlink,
    Special,
}

impl Kind {
    /// The kind of a file of type `mode`.
    pub(crate) fn of(mode: Mode) -> Self {
        match mode.file_type() {
            Mode::REG => Self::Regular,
            Mode::DIR => Self::Directory,
            Mode::LNK => Self::Symlink,
            _ => Self::Special,
        }
    }
}

/// The operation tables of a kind of inode.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    pub(super) inode: &'static bindings::inode_operations,
    pub(super) file: Option<&'static bindings::file_operations>,
}

/// The tables of `F` for inodes of `kind`: constants.
pub(super) fn tables<F: FileSystem>(kind: Kind) -> Tables {
    let (inode, file): (_, Option<&'static _>) = match kind {
        Kind::Regular => (
            &InodeTable::<F, F::Regular>::OPS,
            Some(&file_ops::Regular::<F, F::RegularFile>::OPS),
        ),
        Kind::Directory => (
            &InodeTable::<F, F::Directory>::OPS,
            Some(&file_ops::Directory::<F, F::DirectoryFile>::OPS),
        ),
        Kind::Symlink => (&InodeTable::<F, F::Symlink>::OPS, None),
        Kind::Special => (&InodeTable::<F, F::Special>::OPS, None),
    };
    Tables { inode, file }
}

/// In a type that stands for something of `F`: of `F` alone. A type that is the same but for lifetimes is another filesystem,
/// which may keep other data.
pub(super) type Exactly<F> = PhantomData<fn(F) -> F>;

/// What a filesystem keeps with an inode, beside the objects of layers behind it. It is dropped when the inode is evicted, in
/// a task that may sleep.
pub(crate) trait InodeData: Send + Sync + Sized {
    /// The data of an inode that was just allocated; no allocation.
    fn empty() -> Self;
}

/// What the VFS does with a filesystem.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    /// Who is root in a user namespace other than the initial one may mount it, too.
    pub(crate) userns_mount: bool,
    /// Its mounts may map owner ids: every operation that gets a mapping honours it.
    pub(crate) allow_idmap: bool,
    /// Files have POSIX ACLs.
    pub(crate) posix_acl: bool,
    /// `sync(2)` leaves it out: it has nothing of its own to be written back.
    pub(crate) skip_sync: bool,
    /// The umask is not applied to new files: whoever makes them below does it.
    pub(crate) no_umask: bool,
    /// EVM makes no HMAC over attributes of its files.
    pub(crate) no_evm_hmac: bool,
}

impl Policy {
    pub(super) fn type_flags(self) -> i32 {
        (flag(self.userns_mount, bindings::FS_USERNS_MOUNT)
            | flag(self.allow_idmap, bindings::FS_ALLOW_IDMAP)) as i32
    }

    pub(super) fn flags(self) -> usize {
        flag(self.posix_acl, bindings::ROVL_SB_POSIXACL)
    }

    pub(super) fn iflags(self) -> usize {
        flag(self.skip_sync, bindings::ROVL_SB_I_SKIP_SYNC)
            | flag(self.no_umask, bindings::ROVL_SB_I_NOUMASK)
            | flag(self.no_evm_hmac, bindings::ROVL_SB_I_EVM_HMAC_UNSUPPORTED)
    }
}

fn flag(set: bool, flag: u32) -> usize {
    if set {
        flag as usize
    } else {
        0
    }
}

/// A filesystem; a value of the type is the super block's own data.
///
/// # Examples
///
/// ```ignore
/// impl FileSystem for Overlay {
///     const NAME: &'static CStr = c"rovl";
///     type Directory = OnDirectory; // operations, by the kind of inode
///     type DirectoryFile = OpenDir; // operations of open files, and what is kept with one
///     // …
///     fn fill_super<'a>(
///         sb: NewSuper<'a, Self>,
///         fc: &FsContext,
///         context: &mut Self::Context,
///     ) -> Result<Rooted<'a, Self>> {
///         let (data, mounts) = context.open_layers(fc)?;
///         let sb = sb.set_data(data, mounts, false);
///         let root = NewInode::unhashed(sb.sb())?;
///         // …
///         sb.set_root(root)
///     }
/// }
/// ```
pub(crate) trait FileSystem: Send + Sync + Sized + 'static {
    /// Name of the type.
    const NAME: &'static CStr;
    /// Name of the inode cache.
    const INODE_CACHE: &'static CStr;
    /// Name of the cache of what is kept with open regular files.
    const FILE_CACHE: &'static CStr;
    /// Name of the cache of what is kept with open directories.
    const DIRECTORY_CACHE: &'static CStr;
    /// The number that tells its super blocks from those of other types (`s_magic`).
    const MAGIC: u32;
    /// What the VFS does with it.
    const POLICY: Policy;
    /// What it keeps with an inode.
    type Inode: InodeData;
    /// The set of flags that it keeps with a dentry.
    type NameMarks: Into<u32>;
    /// A mount in preparation.
    type Context: Context<Self>;

    /// Operations on inodes of regular files.
    type Regular: InodeOperations<Self>;
    /// Operations on inodes of directories.
    type Directory: InodeOperations<Self>;
    /// Operations on symlinks.
    type Symlink: InodeOperations<Self>;
    /// Operations on devices, FIFOs and sockets.
    type Special: InodeOperations<Self>;
    /// Operations on open regular files.
    type RegularFile: RegularOperations<Self>;
    /// Operations on open directories.
    type DirectoryFile: DirectoryOperations<Self>;

    /// The credentials that layers are used with.
    fn creds(&self) -> &Credential;

    /// Fills a super block as `context` says; ends with
    /// [`FilledSuper::set_root`](super::super_block::FilledSuper::set_root).
    fn fill_super<'a>(
        sb: NewSuper<'a, Self>,
        fc: &FsContext,
        context: &mut Self::Context,
    ) -> Result<Rooted<'a, Self>>;
    /// Sizes, for `statfs(2)`.
    fn statfs(dentry: &OwnDentry<Self>) -> Result<StatFs>;
    /// Writes everything back, for `syncfs(2)` of `sb`; `s_umount` is held.
    fn sync(sb: &OwnSuper<Self>) -> Result;
    /// Prints the mount options.
    fn show_options(&self, out: &SeqFile);

    /// How many objects the filesystem could free under memory pressure, beside its inodes and dentries
    /// (`nr_cached_objects`). Must not sleep.
    fn cached_objects(&self) -> usize;
    /// Frees about `wanted` of them, not many; returns how many. Called in reclaim: must not allocate.
    fn free_cached_objects(&self, wanted: usize) -> usize;

    /// Revalidates a dentry whose layers asked for it; `Ok(false)` drops the dentry. `weak` for a
    /// path that was reached without a name.
    fn revalidate(dentry: &OwnDentry<Self>, flags: WalkFlags, weak: bool) -> Result<bool>;
    /// The dentry of the layer that answers for `dentry`.
    fn real(dentry: &OwnDentry<Self>, metadata: bool) -> Option<&super::Dentry>;
}
