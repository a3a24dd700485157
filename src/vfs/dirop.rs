// SPDX-License-Identifier: GPL-2.0

//! Directory operations as guards: the parent locked and the name looked up, then one operation
//! that consumes the guard.
//!
//! Over the `start_creating` / `start_removing` / `start_renaming` family of `fs/namei.c`; the
//! contract is in `Documentation/filesystems/porting.rst`.

use super::{
    dentry::qstr,
    inode::Mode,
    mount::{Mount, PathRef},
    Dentry,
};
use crate::bindings;
use core::{mem::ManuallyDrop, ptr};
use kernel::{error::to_result, prelude::*, sync::aref::ARef};

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

/// A name in a locked directory, about to be created.
///
/// # Invariants
///
/// `child` is referenced by the guard, its parent is locked.
pub(crate) struct Creating<'a> {
    mnt: &'a Mount,
    parent: &'a Dentry,
    child: ManuallyDrop<ARef<Dentry>>,
}

/// Unlocks the parent of `child` and gives the reference of the `start_*` call back.
fn end(child: ARef<Dentry>) {
    // SAFETY: `child` comes from a `start_*` call that was not ended yet.
    unsafe { bindings::end_dirop(ARef::into_raw(child).as_ptr().cast()) }
}

impl<'a> Creating<'a> {
    /// Locks `parent` (exclusively, until the guard ends) and looks `name` up in it.
    ///
    /// # Errors
    ///
    /// Those of a lookup. The caller holds write access to `mnt`.
    pub(crate) fn start(mnt: &'a Mount, parent: &'a Dentry, name: &[u8]) -> Result<Self> {
        parent.must_be_dir()?;
        let mut q = qstr(name);
        // SAFETY: charter 1; the call returns a reference.
        let child = unsafe {
            Dentry::from_ret(bindings::start_creating(
                mnt.idmap().as_ptr(),
                parent.as_ptr(),
                &mut q,
            ))?
        };
        Ok(Self {
            mnt,
            parent,
            child: ManuallyDrop::new(child),
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
    /// `ESTALE` where the name is taken, else what the filesystem returns.
    pub(crate) fn create(self, new: New<'_>) -> Result<ARef<Dentry>> {
        let mut this = ManuallyDrop::new(self);
        let (mnt, parent) = (this.mnt, this.parent);
        // SAFETY: `this` is not used again and not dropped.
        let mut child = unsafe { ManuallyDrop::take(&mut this.child) };
        if !child.is_negative() {
            end(child);
            return Err(ESTALE);
        }
        let idmap = mnt.idmap().as_ptr();
        let dir = match parent.positive() {
            Ok(dir) => dir.as_ptr(),
            Err(e) => {
                end(child);
                return Err(e);
            }
        };
        let at = child.as_ptr();
        // SAFETY: charter 1; the parent is locked, `child` negative, write access held by contract.
        let ret = unsafe {
            match new {
                New::Link(old) => bindings::vfs_link(old.as_ptr(), idmap, dir, at, NO_DELEGATION),
                New::Symlink(to) => {
                    bindings::vfs_symlink(idmap, dir, at, to.as_char_ptr(), NO_DELEGATION)
                }
                New::Node(mode, rdev) => match mode.file_type() {
                    Mode::REG => bindings::vfs_create(idmap, at, mode.0, NO_DELEGATION),
                    Mode::DIR => {
                        // `vfs_mkdir` consumes the dentry and unlocks where it fails.
                        let raw = ARef::into_raw(child).as_ptr().cast();
                        child = Dentry::from_ret(bindings::vfs_mkdir(
                            idmap,
                            dir,
                            raw,
                            mode.0,
                            NO_DELEGATION,
                        ))?;
                        0
                    }
                    Mode::CHR | Mode::BLK | Mode::FIFO | Mode::SOCK => {
                        bindings::vfs_mknod(idmap, dir, at, mode.0, rdev, NO_DELEGATION)
                    }
                    _ => EPERM.to_errno(),
                },
            }
        };
        if let Err(e) = to_result(ret) {
            end(child);
            return Err(e);
        }
        let made = child.clone();
        end(child);
        if made.is_negative() || made.is_unhashed() {
            // A filesystem that leaves the dentry unhashed (kernfs, case folding) is not fit to be
            // written through a stacked filesystem.
            return Err(EIO);
        }
        Ok(made)
    }

    /// Ends the guard and keeps the dentry as it was found.
    pub(crate) fn keep(self) -> ARef<Dentry> {
        ARef::clone(&self.child)
    }
}

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        end(unsafe { ManuallyDrop::take(&mut self.child) });
    }
}

/// A name in a locked directory, about to be removed; positive.
pub(crate) struct Removing<'a> {
    mnt: &'a Mount,
    parent: &'a Dentry,
    child: ManuallyDrop<ARef<Dentry>>,
}

impl<'a> Removing<'a> {
    /// Locks `parent` and looks `name` up in it.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is missing. The caller holds write access to `mnt`.
    pub(crate) fn start(mnt: &'a Mount, parent: &'a Dentry, name: &[u8]) -> Result<Self> {
        parent.must_be_dir()?;
        let mut q = qstr(name);
        // SAFETY: charter 1; the call returns a reference.
        Self::new(mnt, parent, unsafe {
            bindings::start_removing(mnt.idmap().as_ptr(), parent.as_ptr(), &mut q)
        })
    }

    /// Locks `parent` and makes sure that `child` is still in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` where it is no longer.
    pub(crate) fn start_dentry(mnt: &'a Mount, parent: &'a Dentry, child: &Dentry) -> Result<Self> {
        parent.must_be_dir()?;
        // SAFETY: charter 1; the call returns a reference.
        Self::new(mnt, parent, unsafe {
            bindings::start_removing_dentry(parent.as_ptr(), child.as_ptr())
        })
    }

    fn new(mnt: &'a Mount, parent: &'a Dentry, ret: *mut bindings::dentry) -> Result<Self> {
        Ok(Self {
            mnt,
            parent,
            // SAFETY: `ret` comes from a `start_removing*` call.
            child: ManuallyDrop::new(unsafe { Dentry::from_ret(ret)? }),
        })
    }

    /// The dentry to be removed.
    pub(crate) fn dentry(&self) -> &Dentry {
        &self.child
    }

    /// Removes it (`rmdir` for a directory, else `unlink`) and ends the guard.
    pub(crate) fn remove(self) -> Result {
        let dir = self.parent.positive()?.as_ptr();
        let idmap = self.mnt.idmap().as_ptr();
        // Charter 2: one more reference, so that the dentry does not turn negative under others.
        let child = ARef::clone(&self.child);
        // SAFETY: charter 1; the parent is locked, write access held by contract.
        to_result(unsafe {
            if child.is_dir() {
                bindings::vfs_rmdir(idmap, dir, child.as_ptr(), NO_DELEGATION)
            } else {
                bindings::vfs_unlink(idmap, dir, child.as_ptr(), NO_DELEGATION)
            }
        })
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        end(unsafe { ManuallyDrop::take(&mut self.child) });
    }
}

/// Flags of a rename.
pub(crate) mod rename_flags {
    use crate::bindings;
    pub(crate) const NOREPLACE: u32 = bindings::RENAME_NOREPLACE;
    pub(crate) const EXCHANGE: u32 = bindings::RENAME_EXCHANGE;
    pub(crate) const WHITEOUT: u32 = bindings::RENAME_WHITEOUT;
}

/// Two names in locked directories, one about to be renamed to the other.
pub(crate) struct Renaming<'a> {
    rd: bindings::renamedata,
    old_parent: &'a Dentry,
    new_parent: &'a Dentry,
}

impl<'a> Renaming<'a> {
    fn data(mnt: &'a Mount, old_parent: &'a Dentry, new_parent: &'a Dentry, flags: u32) -> Self {
        let mut rd: bindings::renamedata = pin_init::zeroed();
        rd.mnt_idmap = mnt.idmap().as_ptr();
        rd.old_parent = old_parent.as_ptr();
        rd.new_parent = new_parent.as_ptr();
        rd.flags = flags;
        Self {
            rd,
            old_parent,
            new_parent,
        }
    }

    /// Runs a `start_renaming*` call; where it fails there is nothing to end.
    fn started(self, start: impl FnOnce(*mut bindings::renamedata) -> i32) -> Result<Self> {
        let mut this = ManuallyDrop::new(self);
        this.old_parent.must_be_dir()?;
        this.new_parent.must_be_dir()?;
        to_result(start(&mut this.rd))?;
        Ok(ManuallyDrop::into_inner(this))
    }

    /// Locks both directories and looks both names up.
    ///
    /// # Errors
    ///
    /// Those of a lookup; `ENOENT` where the old name is missing, `EEXIST` where the new one exists
    /// and `flags` forbid that. The caller holds write access to `mnt`.
    pub(crate) fn start(
        mnt: &'a Mount,
        (old_parent, old): (&'a Dentry, &[u8]),
        (new_parent, new): (&'a Dentry, &[u8]),
        flags: u32,
    ) -> Result<Self> {
        let (mut old, mut new) = (qstr(old), qstr(new));
        Self::data(mnt, old_parent, new_parent, flags)
            // SAFETY: charter 1.
            .started(|rd| unsafe { bindings::start_renaming(rd, 0, &mut old, &mut new) })
    }

    /// As [`start`](Self::start) with the old dentry in hand; `EINVAL` where it moved. With `free`
    /// the new name must not exist: `EEXIST`.
    pub(crate) fn start_dentry(
        mnt: &'a Mount,
        (old_parent, old): (&'a Dentry, &Dentry),
        (new_parent, new): (&'a Dentry, &[u8]),
        free: bool,
        flags: u32,
    ) -> Result<Self> {
        let mut new = qstr(new);
        let lookup = if free { bindings::ROVL_LOOKUP_EXCL } else { 0 };
        Self::data(mnt, old_parent, new_parent, flags)
            // SAFETY: charter 1.
            .started(|rd| unsafe {
                bindings::start_renaming_dentry(rd, lookup as i32, old.as_ptr(), &mut new)
            })
    }

    /// As [`start`](Self::start) with both dentries in hand; `EINVAL` where one moved.
    pub(crate) fn start_two(
        mnt: &'a Mount,
        (old_parent, old): (&'a Dentry, &Dentry),
        (new_parent, new): (&'a Dentry, &Dentry),
        flags: u32,
    ) -> Result<Self> {
        Self::data(mnt, old_parent, new_parent, flags)
            // SAFETY: charter 1.
            .started(|rd| unsafe {
                bindings::start_renaming_two_dentries(rd, old.as_ptr(), new.as_ptr())
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
        // SAFETY: as above.
        unsafe { Dentry::from_raw(self.rd.new_dentry) }
    }

    /// Renames and ends the guard.
    pub(crate) fn rename(mut self) -> Result {
        // SAFETY: the locks are held and both dentries looked up; write access held by contract.
        to_result(unsafe { bindings::vfs_rename(&mut self.rd) })
    }
}

impl Drop for Renaming<'_> {
    fn drop(&mut self) {
        // SAFETY: the guard stands for one successful start.
        unsafe { bindings::end_renaming(&mut self.rd) }
    }
}

/// Opens an unnamed file in the directory `parent` (`O_TMPFILE`), for writing.
///
/// # Errors
///
/// `EOPNOTSUPP` where the filesystem cannot; the caller holds write access.
pub(crate) fn tmpfile(parent: PathRef<'_>, mode: Mode) -> Result<ARef<super::file::LayerFile>> {
    parent.dentry.must_be_dir()?;
    let path = parent.raw();
    let cred = super::cred::current();
    // SAFETY: charter 1; the call returns a reference.
    let file = unsafe {
        bindings::kernel_tmpfile_open(
            parent.idmap().as_ptr(),
            &path,
            mode.0,
            (bindings::O_LARGEFILE | bindings::O_WRONLY) as i32,
            cred.as_ptr(),
        )
    };
    // SAFETY: `kernel_tmpfile_open()` returns a new file or an error.
    unsafe { super::file::take(file) }
}
