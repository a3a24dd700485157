// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions of the Linux VFS: what a stacked filesystem calls, and what calls it.
//!
//! Every `unsafe` line of the module is in this folder. What is for stacked filesystems alone is named so ([`backing`]);
//! nothing here knows what a union is.
//!
//! # Charter
//!
//! The invariants that every `// SAFETY:` comment below cites by number. They restate
//! `Documentation/filesystems/{vfs,locking,path-lookup}.rst`. No safe function breaks one, whatever safe code does with
//! it; `tests/unsound/` holds attempts.
//!
//! 1. **References.** A `&T` to a VFS object ([`Inode`], [`Dentry`], [`Mount`], [`SuperBlock`], `File`) is made only
//!    from a pointer that the kernel keeps referenced for the lifetime of the `&T`: an argument of a
//!    callback for its duration, a field that holds a reference for as long as its owner is
//!    referenced (`d_inode` of a positive dentry, `d_sb`, `i_sb`, `mnt_root`), or a reference that a
//!    [`Ref`], a [`Path`] or an [`ARef`](kernel::sync::aref::ARef) owns. What keeps the object keeps its super block: the
//!    lifetime of a [`Ref`] is that of a mount or of another such object, and a [`Path`] owns its mount.
//! 2. **Positive stays positive.** A dentry that was seen positive keeps its inode while a reference
//!    that is not the remover's own is held. The remover is a guard of [`dirop`], which the removal consumes: whoever borrows
//!    an `&Inode` by then does so from another reference, and it outlives the removal.
//! 3. **Our objects.** An inode that a callback of the tables built here receives belongs to a super
//!    block of `F`, so it was allocated by [`super_ops`]' `alloc_inode` and is embedded in an
//!    `InodeBox<F>`; what is in the box beside the inode is initialised from allocation to `free_inode`.
//!    A dentry of such a super block has its `d_fsdata` used as a flag word only.
//! 4. **Super block data.** `s_fs_info` is a box with the `F` from the moment `fill_super` stores it until
//!    `put_super` (or the failure of `fill_super`) drops the `F`, after the last inode that the data
//!    itself does not reference was evicted. The box, with the credentials that RCU-walk reads, is
//!    freed one grace period later. An [`OwnSuper`] is made only in between.
//! 5. **Names and parents.** A dentry's name and parent are stable while its parent's `i_rwsem` is
//!    held, shared for a dentry in lookup, exclusive for any other: that is what a [`Child`] stands
//!    for. (Held shared it does not keep a lookup from moving a directory that it met under another
//!    name.) Everywhere else names are copied by a [`NameSnapshot`] and parents are referenced by
//!    [`Dentry::parent`].
//! 6. **RCU-walk.** Values of type `Rcu*` live inside a callback that runs under `rcu_read_lock`.
//!    Inodes, dentries and mounts are freed after a grace period, as is our `InodeBox`: pointers found in it
//!    can be read, but nothing may sleep or take a reference. No method of an `Rcu*` value gives out more than that. That
//!    nothing else that is called in between sleeps no type can ask for, here as for the guards of the `kernel` crate: the
//!    operations whose names end in `_rcu` call what is given to them, and kernels with `CONFIG_DEBUG_ATOMIC_SLEEP` look.
//! 7. **Teardown in two phases.** `destroy_inode` drops the filesystem's own data, gives the references of a [`backing`]
//!    back and may sleep; `free_inode` runs after the grace period and frees memory only. Nobody but RCU-walk knows an inode
//!    then, and of its box the [`backing`] alone: an [`OwnInode`] that is borrowed is referenced, so it is not evicted.
//!    One that is on its super block's list of inodes is not destroyed while the list is locked.
//! 8. **File data.** `private_data` of an open file of ours is a [`SlabBox`](slab::SlabBox) of the table's `Data`, stored
//!    by `open` (or `tmpfile`) and freed by `release`, the last call.
//! 9. **Credentials.** `current->cred` is replaced by [`cred::scope`] only, which puts the old value
//!    back before it returns.
//! 10. **Out-parameters.** A C function that fills a structure gets a pointer to a local value of the
//!     full type that the private bindgen owns; zero is a valid value of each.
//! 11. **Guards.** A lock or an access that a task took is given back by the same task: guards are neither `Send` nor
//!     made by anything but the call that takes the lock.
//! 12. **Nothing is forgotten.** What is never dropped (`mem::forget`) is never given back. Of a counted reference or of
//!     memory that is a leak, which the kernel reports at the unmount. But a lock that is kept names its owner, whose memory
//!     those who wait for it look at when the task is gone; a [`NewInode`] stays in the inode hash when the mount that it was
//!     made for failed; the module waits for a [`watch`] for ever. No type can ask for a drop, here as for the guards of the
//!     `kernel` crate: `make check` refuses in `src/overlay` what forgets.

pub(crate) mod acl;
pub(crate) mod attr;
pub(crate) mod backing;
mod callback;
mod calls;
pub(crate) mod claim;
pub(crate) mod context;
pub(crate) mod cred;
pub(crate) mod dentry;
pub(crate) mod dirop;
pub(crate) mod export;
pub(crate) mod file;
pub(crate) mod file_ops;
pub(crate) mod folding;
pub(crate) mod fs;
pub(crate) mod handle;
mod idmap;
pub(crate) mod inode;
pub(crate) mod inode_ops;
pub(crate) mod io;
pub(crate) mod log;
#[cfg(CONFIG_KUNIT = "y")]
mod misuse;
pub(crate) mod module;
pub(crate) mod mount;
pub(crate) mod new_inode;
pub(crate) mod outbuf;
pub(crate) mod own;
pub(crate) mod published;
pub(crate) mod rcu;
pub(crate) mod readdir;
pub(crate) mod refs;
pub(crate) mod registration;
pub(crate) mod slab;
pub(crate) mod super_block;
mod super_ops;
pub(crate) mod sync;
pub(crate) mod verity;
pub(crate) mod watch;
pub(crate) mod writeback;
pub(crate) mod xattr;

pub(crate) use dentry::{Child, Dentry, NameSnapshot};
pub(crate) use inode::{Inode, Mode};
pub(crate) use mount::{Mount, Path};
pub(crate) use new_inode::NewInode;
pub(crate) use own::{OpGuard, OwnDentry, OwnInode, OwnSuper};
pub(crate) use refs::Ref;
pub(crate) use super_block::SuperBlock;

use kernel::{
    alloc::{allocator::Kmalloc, Allocator, Vec},
    prelude::*,
};

/// The longest path, its NUL included.
const PATH_MAX: usize = crate::bindings::PATH_MAX as usize;

/// Turns a zero-or-errno return value into a `Result`; the kernel crate's is not inlined.
#[inline]
fn to_result(ret: kernel::ffi::c_int) -> Result {
    match ret {
        ..0 => Err(Error::from_errno(ret)),
        _ => Ok(()),
    }
}

/// Turns a length-or-errno return value into a `Result`.
#[inline]
fn to_len(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| Error::from_errno(ret as i32))
}

/// Turns an offset-or-errno return value into a `Result`.
#[inline]
fn to_off(ret: i64) -> Result<i64> {
    if ret < 0 {
        Err(Error::from_errno(ret as i32))
    } else {
        Ok(ret)
    }
}

/// An owned NUL-terminated string of any bytes.
///
/// # Invariants
///
/// The last byte is a NUL, and no other is.
pub(crate) struct CBuf<A: Allocator = Kmalloc>(Vec<u8, A>);

impl CBuf {
    /// Copies `bytes`.
    ///
    /// # Errors
    ///
    /// `EINVAL` where `bytes` holds a NUL, `ENOMEM`.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.contains(&0) {
            return Err(EINVAL);
        }
        let mut buf = KVec::with_capacity(bytes.len() + 1, GFP_KERNEL)?;
        buf.extend_from_slice(bytes, GFP_KERNEL)?;
        buf.push(0, GFP_KERNEL)?;
        // INVARIANT: as was looked at.
        Ok(Self(buf))
    }
}

impl<A: Allocator> CBuf<A> {
    /// What `bytes` has before its first NUL, if there is one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn until_nul(mut bytes: Vec<u8, A>) -> Result<Self> {
        // Mostly there is none, which is seen by the word.
        if bytes.contains(&0) {
            let len = bytes.iter().take_while(|b| **b != 0).count();
            bytes.truncate(len);
        }
        bytes.push(0, GFP_KERNEL)?;
        // INVARIANT: the first NUL is the last byte.
        Ok(Self(bytes))
    }

    /// The string for C.
    #[inline]
    pub(crate) fn as_cstr(&self) -> &CStr {
        // SAFETY: by the type invariant.
        unsafe { CStr::from_bytes_with_nul_unchecked(&self.0) }
    }

    /// The bytes without the NUL.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.split_last().map_or(&[], |(_, bytes)| bytes)
    }
}

impl<A: Allocator> PartialEq for CBuf<A> {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl<A: Allocator> core::fmt::Debug for CBuf<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        log::fmt_bytes(f, self.as_bytes())
    }
}
