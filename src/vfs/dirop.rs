// SPDX-License-Identifier: GPL-2.0

//! Directory operations as guards: the parent locked and the name looked up, then one operation
//! that consumes the guard.
//!
//! Over the `start_creating` / `start_removing` / `start_renaming` family of `fs/namei.c`; the
//! contract is in `Documentation/filesystems/porting.rst`.

use super::{
    calls,
    cred::with_current,
    dentry::{LookupDir, QStr},
    file::LayerFile,
    inode::{InodeGuard, Mode},
    mount::{task_has_fs, Writing},
    refs::Ref,
    to_result, Dentry, Inode, NameSnapshot, PATH_MAX,
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::{error::from_err_ptr, prelude::*, sync::aref::ARef, types::NotThreadSafe};

const NO_DELEGATION: *mut bindings::delegated_inode = ptr::null_mut();

/// What is to be created.
#[derive(Clone, Copy)]
pub(crate) enum New<'a> {
    /// A regular file, directory, device, FIFO or socket: type and permissions, device number.
    Node(Mode, u32),
    /// A symlink to this target.
    Symlink(&'a CStr),
    /// A further link of this dentry's inode.
    Link(&'a Dentry),
}

/// What a `start_*` call returned: an errno, or what it started.
///
/// # Invariants
///
/// It is an error pointer or null, or a dentry as for [`Started`].
#[must_use]
#[repr(transparent)]
pub(super) struct MayStart<'a>(*mut bindings::dentry, PhantomData<&'a Dentry>);

impl<'a> MayStart<'a> {
    fn get(self) -> Result<Started<'a>> {
        let child = NonNull::new(from_err_ptr(self.0)?).ok_or(ENOENT)?;
        // INVARIANT: by that of the type.
        Ok(Started(child.cast(), PhantomData, NotThreadSafe))
    }
}

/// What a `start_*` call started: a name in a directory; ended when dropped.
///
/// # Invariants
///
/// The dentry is referenced, and its parent locked, by a call of this task that was not ended yet; its super block lives for
/// `'a`.
struct Started<'a>(NonNull<Dentry>, PhantomData<&'a Dentry>, NotThreadSafe);

impl core::ops::Deref for Started<'_> {
    type Target = Dentry;
    fn deref(&self) -> &Dentry {
        // SAFETY: by the type invariant.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; the lock and the reference are given back.
        unsafe { bindings::end_dirop(self.as_ptr()) }
    }
}

impl<'a> Started<'a> {
    /// The dentry, which the guard that is about to end does not keep.
    fn child(&self) -> Ref<'a, Dentry> {
        // SAFETY: by the type invariant.
        unsafe { Dentry::get(self).kept_for() }
    }
}

/// A name in a locked directory, about to be created.
///
/// # Invariants
///
/// `parent` is the parent of `child`, and `dir` its inode.
///
/// # Examples
///
/// ```ignore
/// let write = mnt.want_write()?;
/// let creating = Creating::start(write.writing(), dir, b"log")?;
/// if creating.dentry().is_negative() {
///     let made = creating.create(New::Node(Mode(Mode::DIR | 0o755), 0))?;
///     Acl::remove(write.writing().path(&made)?, AclType::Default)?;
/// }
/// ```
pub(crate) struct Creating<'a> {
    writing: Writing<'a>,
    parent: &'a LookupDir,
    dir: &'a Inode,
    child: Started<'a>,
}

/// `parent` as a directory on the mount that is written to, and its inode.
fn dir_of<'a>(writing: Writing<'a>, parent: &'a Dentry) -> Result<(&'a LookupDir, &'a Inode)> {
    Ok((parent.as_dir()?, writing.path(parent)?.positive()?))
}

impl<'a> Creating<'a> {
    /// Locks `parent` (exclusively, until the guard ends) and looks `name` up in it.
    ///
    /// # Errors
    ///
    /// Those of a lookup; `EXDEV` where `parent` is not on the mount that is written to, `ESRCH` in a task that is exiting,
    /// which has no umask.
    pub(crate) fn start(writing: Writing<'a>, parent: &'a Dentry, name: &[u8]) -> Result<Self> {
        let (parent, dir) = dir_of(writing, parent)?;
        task_has_fs()?;
        let idmap = writing.mnt().idmap();
        let child = calls::start_creating(idmap, parent, &mut QStr::new(name)).get()?;
        // INVARIANT: the call looked in `parent`.
        Ok(Self {
            writing,
            parent,
            dir,
            child,
        })
    }

    /// The name's dentry as it was found.
    pub(crate) fn dentry(&self) -> &Dentry {
        &self.child
    }

    /// Creates it and ends the guard; returns the positive, hashed dentry.
    ///
    /// # Errors
    ///
    /// `ENOENT` for an empty symlink, `ENAMETOOLONG` for one that is no path; `ESTALE` where the name is taken, `EIO` where the filesystem leaves the new dentry unhashed or negative, else what
    /// the filesystem returns.
    pub(crate) fn create(self, new: New<'_>) -> Result<Ref<'a, Dentry>> {
        self.create_then(new, |_| ())
    }

    /// As [`create`](Self::create), and calls `then` with the lock of the directory before the guard ends.
    #[inline]
    pub(crate) fn create_then(
        mut self,
        new: New<'_>,
        then: impl FnOnce(&InodeGuard<'_>),
    ) -> Result<Ref<'a, Dentry>> {
        if !self.child.is_negative() {
            return Err(ESTALE);
        }
        let idmap = self.writing.mnt().idmap().as_ptr();
        let (dir, at) = (self.dir.as_ptr(), self.child.as_ptr());
        let ret = match new {
            New::Node(mode, _) if mode.is_dir() => {
                self = self.mkdir(mode)?;
                0
            }
            New::Link(old) => {
                old.positive()?;
                // SAFETY: charter 1: `old` is positive; by the invariants the parent, of which `dir` is the inode, is locked.
                unsafe { bindings::vfs_link(old.as_ptr(), idmap, dir, at, NO_DELEGATION) }
            }
            New::Symlink(to) => {
                is_path(to)?;
                // SAFETY: charter 1; by the invariants the parent is locked; `to` is a path, as long as one can be.
                unsafe { bindings::vfs_symlink(idmap, dir, at, to.as_char_ptr(), NO_DELEGATION) }
            }
            New::Node(mode, rdev) if mode.is_special() => {
                // SAFETY: charter 1; by the invariants the parent is locked.
                unsafe { bindings::vfs_mknod(idmap, dir, at, mode.0, rdev, NO_DELEGATION) }
            }
            New::Node(mode, _) if mode.is_reg() => {
                // SAFETY: charter 1; by the invariants the parent is locked.
                unsafe { bindings::vfs_create(idmap, at, mode.0, NO_DELEGATION) }
            }
            New::Node(..) => EPERM.to_errno(),
        };
        to_result(ret)?;
        let mut made = self.child.child();
        if made.is_unhashed() {
            made = self.find_again(made)?;
        }
        if made.is_negative() {
            return Err(EIO);
        }
        // SAFETY: by the invariants this task holds the lock of the parent's inode until the guard ends.
        let lock = unsafe { InodeGuard::borrowed(self.dir) };
        then(&lock);
        Ok(made)
    }

    /// The hashed dentry of what was made with the dentry `made`, which is none: where case is folded a name that is missing
    /// is not cached. Another filesystem that leaves it unhashed (kernfs) is not fit to be written through a stacked one.
    #[cold]
    fn find_again(&self, made: Ref<'a, Dentry>) -> Result<Ref<'a, Dentry>> {
        let name = NameSnapshot::take(&made);
        let idmap = self.writing.mnt().idmap();
        let found = self.parent.lookup_locked(idmap, name.as_bytes())?;
        if found.is_unhashed() || found.inode() != made.inode() {
            return Err(EIO);
        }
        Ok(found)
    }

    /// `vfs_mkdir()`, which consumes the dentry, returns the one to go on with, and ends the guard where it fails.
    fn mkdir(self, mode: Mode) -> Result<Self> {
        let Self {
            writing,
            parent,
            dir,
            child,
        } = self;
        let idmap = writing.mnt().idmap().as_ptr();
        let child = ManuallyDrop::new(child).as_ptr();
        // SAFETY: charter 1; by the invariants the parent is locked; the guard is given away.
        let made =
            unsafe { bindings::vfs_mkdir(idmap, dir.as_ptr(), child, mode.0, NO_DELEGATION) };
        // INVARIANT: where it succeeds `vfs_mkdir()` leaves the parent locked, and a reference; else it has ended the guard.
        let child = MayStart(made, PhantomData).get()?;
        Ok(Self {
            writing,
            parent,
            dir,
            child,
        })
    }

    /// Ends the guard and keeps the dentry as it was found.
    pub(crate) fn keep(self) -> Ref<'a, Dentry> {
        self.child.child()
    }
}

/// A name in a locked directory, about to be removed.
///
/// # Invariants
///
/// As for [`Creating`].
pub(crate) struct Removing<'a> {
    writing: Writing<'a>,
    dir: &'a Inode,
    child: Started<'a>,
}

impl<'a> Removing<'a> {
    /// Locks `parent` and looks `name` up in it.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is missing; `EXDEV` where `parent` is not on the mount that is written to.
    pub(crate) fn start(writing: Writing<'a>, parent: &'a Dentry, name: &[u8]) -> Result<Self> {
        let (parent, dir) = dir_of(writing, parent)?;
        let idmap = writing.mnt().idmap();
        let child = calls::start_removing(idmap, parent, &mut QStr::new(name)).get()?;
        // INVARIANT: the call looked in `parent`.
        Ok(Self {
            writing,
            dir,
            child,
        })
    }

    /// Locks `parent` and makes sure that `child` is still in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` where it is no longer; `EXDEV` where `parent` is not on the mount that is written to.
    pub(crate) fn start_dentry(
        writing: Writing<'a>,
        parent: &'a Dentry,
        child: &Dentry,
    ) -> Result<Self> {
        let (parent, dir) = dir_of(writing, parent)?;
        let child = calls::start_removing_dentry(parent, child).get()?;
        // INVARIANT: the call found it in `parent`.
        Ok(Self {
            writing,
            dir,
            child,
        })
    }

    /// The dentry to be removed.
    pub(crate) fn dentry(&self) -> &Dentry {
        &self.child
    }

    /// Removes it (`rmdir` for a directory, else `unlink`) and ends the guard.
    pub(crate) fn remove(self) -> Result {
        let idmap = self.writing.mnt().idmap().as_ptr();
        let dir = self.dir.as_ptr();
        let (child, is_dir) = (self.child.as_ptr(), self.child.is_dir());
        // Charter 2: the guard's reference is the remover's, and nobody borrows from the guard, which is consumed.
        to_result(if is_dir {
            // SAFETY: charter 1; by the invariants the parent is locked.
            unsafe { bindings::vfs_rmdir(idmap, dir, child, NO_DELEGATION) }
        } else {
            // SAFETY: charter 1; by the invariants the parent is locked.
            unsafe { bindings::vfs_unlink(idmap, dir, child, NO_DELEGATION) }
        })
    }
}

/// That a symlink may lead to `to`: filesystems that keep it in a page count on its length.
///
/// # Errors
///
/// `ENOENT` for an empty one, `ENAMETOOLONG`.
pub(super) fn is_path(to: &CStr) -> Result {
    match to.to_bytes_with_nul().len() {
        0..=1 => Err(ENOENT),
        2..=PATH_MAX => Ok(()),
        _ => Err(ENAMETOOLONG),
    }
}

/// Flags of a rename.
pub(crate) mod rename_flags {
    use crate::bindings;
    pub(crate) const NOREPLACE: u32 = bindings::RENAME_NOREPLACE;
    pub(crate) const EXCHANGE: u32 = bindings::RENAME_EXCHANGE;
    pub(crate) const WHITEOUT: u32 = bindings::RENAME_WHITEOUT;
    pub(super) const ALL: u32 = NOREPLACE | EXCHANGE | WHITEOUT;
}

/// Two names in locked directories, one about to be renamed to the other.
///
/// # Invariants
///
/// The `start_renaming*` call of this task that filled `rd` was not ended yet.
///
/// # Examples
///
/// ```ignore
/// Renaming::start(writing, (from, b"a"), (to, b"b"), rename_flags::NOREPLACE)?.rename()?;
/// ```
pub(crate) struct Renaming<'a> {
    rd: bindings::renamedata,
    _dirs: PhantomData<&'a Dentry>,
    _task: NotThreadSafe,
}

impl<'a> Renaming<'a> {
    /// Runs a `start_renaming*` call for two directories of the mount that is written to; where it fails there is
    /// nothing to end.
    fn started(
        writing: Writing<'a>,
        (old_parent, new_parent): (&'a Dentry, &'a Dentry),
        flags: u32,
        start: impl FnOnce(*mut bindings::renamedata) -> i32,
    ) -> Result<Self> {
        if flags & !rename_flags::ALL != 0 {
            return Err(EINVAL);
        }
        dir_of(writing, old_parent)?;
        dir_of(writing, new_parent)?;
        let mut rd: bindings::renamedata = pin_init::zeroed();
        rd.mnt_idmap = writing.mnt().idmap().as_ptr();
        rd.old_parent = old_parent.as_ptr();
        rd.new_parent = new_parent.as_ptr();
        rd.flags = flags;
        to_result(start(&mut rd))?;
        // INVARIANT: the call succeeded.
        Ok(Self {
            rd,
            _dirs: PhantomData,
            _task: NotThreadSafe,
        })
    }

    /// Locks both directories and looks both names up.
    ///
    /// # Errors
    ///
    /// Those of a lookup; `ENOENT` where the old name is missing, `EEXIST` where the new one exists
    /// and `flags` forbid that; `EXDEV` where a directory is not on the mount that is written to.
    pub(crate) fn start(
        writing: Writing<'a>,
        (old_parent, old): (&'a Dentry, &[u8]),
        (new_parent, new): (&'a Dentry, &[u8]),
        flags: u32,
    ) -> Result<Self> {
        let (mut old, mut new) = (QStr::new(old), QStr::new(new));
        Self::started(writing, (old_parent, new_parent), flags, |rd| {
            // SAFETY: charter 1: `rd` has two directories; the names outlive the call.
            unsafe { bindings::start_renaming(rd, 0, old.as_ptr(), new.as_ptr()) }
        })
    }

    /// As [`start`](Self::start) with the old dentry in hand; `EINVAL` where it moved. With `free`
    /// the new name must not exist: `EEXIST`.
    pub(crate) fn start_dentry(
        writing: Writing<'a>,
        (old_parent, old): (&'a Dentry, &Dentry),
        (new_parent, new): (&'a Dentry, &[u8]),
        free: bool,
        flags: u32,
    ) -> Result<Self> {
        let mut new = QStr::new(new);
        let lookup = if free { bindings::ROVL_LOOKUP_EXCL } else { 0 };
        Self::started(writing, (old_parent, new_parent), flags, |rd| {
            // SAFETY: charter 1: `rd` has two directories, `old` is referenced; the name outlives the call.
            unsafe {
                bindings::start_renaming_dentry(rd, lookup as i32, old.as_ptr(), new.as_ptr())
            }
        })
    }

    /// As [`start`](Self::start) with both dentries in hand; `EINVAL` where one moved.
    pub(crate) fn start_two(
        writing: Writing<'a>,
        (old_parent, old): (&'a Dentry, &Dentry),
        (new_parent, new): (&'a Dentry, &Dentry),
        flags: u32,
    ) -> Result<Self> {
        Self::started(writing, (old_parent, new_parent), flags, |rd| {
            // SAFETY: charter 1: `rd` has two directories, both dentries are referenced.
            unsafe { bindings::start_renaming_two_dentries(rd, old.as_ptr(), new.as_ptr()) }
        })
    }

    /// The dentry to be renamed.
    pub(crate) fn old(&self) -> &Dentry {
        // SAFETY: the started rename references both dentries.
        unsafe { Dentry::from_raw(self.rd.old_dentry) }
    }

    /// The dentry at the new name; may be negative.
    #[allow(
        clippy::new_ret_no_self,
        clippy::wrong_self_convention,
        reason = "not a constructor"
    )]
    pub(crate) fn new(&self) -> &Dentry {
        // SAFETY: the started rename references both dentries.
        unsafe { Dentry::from_raw(self.rd.new_dentry) }
    }

    /// Renames and ends the guard.
    ///
    /// # Errors
    ///
    /// `ENOENT` for an exchange with a name that is missing, whose inode filesystems would read; what the filesystem returns.
    pub(crate) fn rename(mut self) -> Result {
        if self.rd.flags & rename_flags::EXCHANGE != 0 && self.new().is_negative() {
            return Err(ENOENT);
        }
        // SAFETY: by the type invariant both directories are locked and both names were looked up.
        to_result(unsafe { bindings::vfs_rename(&mut self.rd) })
    }
}

impl Drop for Renaming<'_> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant there is one successful start to end.
        unsafe { bindings::end_renaming(&mut self.rd) }
    }
}

/// Opens an unnamed file in the directory `parent` (`O_TMPFILE`), for writing.
///
/// # Errors
///
/// `EOPNOTSUPP` where the filesystem cannot; as for [`Creating::start`].
pub(crate) fn tmpfile(
    writing: Writing<'_>,
    parent: &Dentry,
    mode: Mode,
) -> Result<ARef<LayerFile>> {
    parent.as_dir()?;
    task_has_fs()?;
    let path = writing.path(parent)?;
    let parent = path.as_positive()?;
    let flags = (bindings::O_LARGEFILE | bindings::O_WRONLY) as i32;
    let (idmap, mode) = (path.idmap(), mode.of_regular());
    with_current(|cred| {
        // SAFETY: charter 1: the path is that of a directory, the type that of a regular file, and the task has a umask.
        unsafe { calls::kernel_tmpfile_open(idmap, &parent, mode, flags, cred) }.get()
    })
}
