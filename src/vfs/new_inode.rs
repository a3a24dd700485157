// SPDX-License-Identifier: GPL-2.0

//! Inodes of our own filesystem that are being made.

use super::{
    backing::{Backing, Lowers},
    calls,
    fs::{tables, FileSystem, Kind},
    mount::IdMap,
    own::{InodeBox, OwnInode, OwnSuper},
    refs::Ref,
    Dentry, Inode, Mode,
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{prelude::*, types::NotThreadSafe};

/// What [`NewInode::get`] found.
pub(crate) enum Found<'a, F: FileSystem> {
    /// Nobody had an inode of that key.
    New(NewInode<'a, F>),
    /// It was there.
    Old(Ref<'a, OwnInode<F>>),
}

/// An inode that nobody else can use yet: hashed but locked, or not hashed at all.
///
/// # Invariants
///
/// Owns a reference, and nobody else uses the inode; where `locked`, the inode has `I_NEW`.
///
/// # Examples
///
/// ```ignore
/// let inode = match NewInode::get(sb, key)? {
///     Found::Old(inode) => inode,
///     Found::New(mut new) => {
///         new.set_kind(mode, rdev);
///         new.set_backing(Some(upper), Lowers::Empty)?;
///         new.publish()
///     }
/// };
/// ```
pub(crate) struct NewInode<'a, F: FileSystem> {
    inode: Ref<'a, OwnInode<F>>,
    locked: bool,
    _own: NotThreadSafe,
}

/// # Safety
///
/// The inode hash passes a valid `inode`.
unsafe extern "C" fn test_key(
    inode: *mut bindings::inode,
    key: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    // SAFETY: the inode hash passes a live inode of ours, whose `i_private` is its key.
    unsafe { ((*inode).i_private == key).into() }
}

/// # Safety
///
/// The inode hash passes a valid `inode`.
unsafe extern "C" fn set_key(
    inode: *mut bindings::inode,
    key: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    // SAFETY: the inode hash passes an inode that nobody else sees yet.
    unsafe { (*inode).i_private = key };
    0
}

/// Sets a field of a [`NewInode`].
macro_rules! set {
    ($self:ident, $($name:ident).+ = $value:expr) => {{
        let (inode, value) = ($self.raw(), $value);
        // SAFETY: charter 3, and by the type invariant nobody else uses the inode yet.
        unsafe { (*inode).$($name).+ = value }
    }};
}

impl<'a, F: FileSystem> NewInode<'a, F> {
    /// Allocates an inode without a place in the inode hash; `ENOMEM`.
    pub(crate) fn unhashed(sb: &'a OwnSuper<F>) -> Result<Self> {
        // SAFETY: charter 1: the super block is live and one of `F`, whose `alloc_inode` makes an `InodeBox<F>`.
        let inode = NonNull::new(unsafe { bindings::new_inode(sb.as_ptr()) }).ok_or(ENOMEM)?;
        Ok(Self {
            // SAFETY: the call returned a reference, to an inode of `sb` (charter 3).
            inode: unsafe { Ref::from_raw(inode.cast()) },
            locked: false,
            _own: NotThreadSafe,
        })
    }

    /// Finds or allocates the inode with key `key`; `ENOMEM`. The key is not referenced: whoever hashes by it
    /// keeps it alive with the inode.
    pub(crate) fn get(sb: &'a OwnSuper<F>, key: &Inode) -> Result<Found<'a, F>> {
        let data = key.as_ptr().cast();
        // SAFETY: charter 1 for the super block; both functions take what the hash passes them.
        let inode = unsafe {
            bindings::iget5_locked(
                sb.as_ptr(),
                data as u64,
                Some(test_key),
                Some(set_key),
                data,
            )
        };
        // SAFETY: the call returned a reference, or null.
        unsafe { Self::found(inode) }.ok_or(ENOMEM)
    }

    /// The inode with key `key`, if there is one; waits for one that is being made.
    pub(crate) fn known(sb: &'a OwnSuper<F>, key: &Inode) -> Option<Ref<'a, OwnInode<F>>> {
        let data = key.as_ptr().cast();
        // SAFETY: charter 1 for the super block; the function takes what the hash passes it.
        let inode = unsafe { bindings::ilookup5(sb.as_ptr(), data as u64, Some(test_key), data) };
        // SAFETY: the call returned a reference, to an inode of `sb` (charter 3), or null.
        Some(unsafe { Ref::from_raw(NonNull::new(inode)?.cast()) })
    }

    /// Hashes this inode by `key` unless another has that key.
    ///
    /// # Errors
    ///
    /// `EINVAL` where it has a key already; `EEXIST` where one of that key is being created.
    pub(crate) fn insert(self, key: &Inode) -> Result<Found<'a, F>> {
        if self.locked {
            // The call would put it on a second chain, or wait for the caller to unlock it.
            return Err(EINVAL);
        }
        let data = key.as_ptr().cast();
        // SAFETY: charter 1; by the type invariant nobody else hashes the inode, and we did not, as was just seen.
        let inode = unsafe {
            bindings::inode_insert5(
                self.inode.as_ptr(),
                data as u64,
                Some(test_key),
                Some(set_key),
                data,
            )
        };
        if inode == self.inode.as_ptr() {
            // The reference returned is the one that `self` owns.
            core::mem::forget(self);
        }
        // SAFETY: the call returned our inode, with our reference and `I_NEW`, or another with one of its own, or null.
        unsafe { Self::found(inode) }.ok_or(EEXIST)
    }

    /// # Safety
    ///
    /// `inode` is null or a referenced inode of a super block of `F` that lives for `'a`; with `I_NEW` it is locked by the
    /// caller.
    unsafe fn found(inode: *mut bindings::inode) -> Option<Found<'a, F>> {
        let ptr = NonNull::new(inode)?;
        // SAFETY: by the contract.
        let inode: Ref<'a, OwnInode<F>> = unsafe { Ref::from_raw(ptr.cast()) };
        Some(if calls::rovl_inode_is_new(&inode) {
            Found::New(Self {
                inode,
                locked: true,
                _own: NotThreadSafe,
            })
        } else {
            Found::Old(inode)
        })
    }

    /// The inode as it is so far; no counted reference to it is to be had before [`publish`](Self::publish).
    fn raw(&self) -> *mut bindings::inode {
        self.inode.as_ptr()
    }

    /// Type and permissions so far.
    pub(crate) fn mode(&self) -> Mode {
        self.inode.mode()
    }

    /// The owner so far, to make others the owner's.
    pub(crate) fn owner(&self) -> super::cred::Owner {
        super::cred::Owner::of(&self.inode)
    }

    /// Sets what stands behind the inode.
    ///
    /// # Errors
    ///
    /// `EXDEV` where an object is not on the mount of its layer.
    pub(crate) fn set_backing(
        &mut self,
        upper: Option<Ref<'_, Dentry>>,
        lowers: Lowers<'_>,
    ) -> Result {
        let mounts = self.inode.own_sb().mounts();
        // SAFETY: charter 3: the inode was allocated for a super block of `F`.
        let backing = unsafe { InodeBox::<F>::backing_at(self.raw()) };
        // SAFETY: charter 4: the mounts are kept until the last inode of the super block was evicted. By the type invariant
        // nobody else uses the box, but for the upper object.
        unsafe { Backing::set_lowers(backing, lowers, mounts)? };
        match upper {
            // SAFETY: charter 4: the mounts are kept until the last inode of the super block was evicted.
            Some(dentry) => unsafe { (*backing).set_upper(dentry, mounts) },
            None => Ok(()),
        }
    }

    /// Sets the filesystem's own data.
    pub(crate) fn set_data(&mut self, data: F::Inode) {
        // SAFETY: charter 3, and by the type invariant nobody else uses the box.
        unsafe { InodeBox::<F>::set_data(self.raw(), data) }
    }

    /// See [`OwnInode::copy_attr`].
    pub(crate) fn copy_attr(&mut self, from: &Inode, idmap: &IdMap) {
        self.inode.copy_attr(from, idmap)
    }

    /// Replaces the `S_*` flags in `mask` by those in `flags`.
    pub(crate) fn set_flags(&mut self, flags: u32, mask: u32) {
        self.inode.set_flags(flags, mask)
    }

    /// Sets type, permissions and device number, and installs the operation tables of that type.
    pub(crate) fn set_kind(&mut self, mode: Mode, rdev: u32) {
        let ptr = self.raw();
        let depth = self.inode.sb().stack_depth();
        self.inode.container().lock().set_depth(depth);
        let tables = tables::<F>(Kind::of(mode));
        calls::rovl_inode_lockdep(&self.inode, mode.is_dir(), depth);
        set!(self, i_mode = mode.0);
        set!(self, i_flags = self.inode.flags() | bindings::S_NOCMTIME);
        // ACLs are asked from the layer each time: `ACL_DONT_CACHE`.
        set!(self, i_acl = (-3isize) as *mut bindings::posix_acl);
        set!(self, i_default_acl = (-3isize) as *mut bindings::posix_acl);
        set!(self, i_op = tables.inode);
        match tables.file {
            Some(fops) => set!(self, __bindgen_anon_3.i_fop = fops),
            // SAFETY: charter 3, and by the type invariant nobody else uses the inode yet.
            None if mode.is_special() => unsafe { bindings::init_special_inode(ptr, mode.0, rdev) },
            None => {}
        }
    }

    /// Sets the inode number.
    pub(crate) fn set_ino(&mut self, ino: u64) {
        set!(self, i_ino = ino)
    }

    /// Sets the link count.
    pub(crate) fn set_nlink(&mut self, nlink: u32) {
        calls::set_nlink(&self.inode, nlink)
    }

    /// `inode_init_owner()`: owner, permissions and set-group-id inheritance of a new entry of `dir`; the type stays.
    pub(crate) fn init_owner(&mut self, idmap: &IdMap, dir: &Inode, permissions: Mode) {
        let mode = permissions.of_type(self.mode());
        // SAFETY: charter 1; by the type invariant nobody else uses the inode, whose type, which its tables are for, stays.
        unsafe { calls::inode_init_owner(idmap, &self.inode, dir, mode.0) }
    }

    /// Marks the inode as one that is being created, so that a lookup by key does not wait for it.
    pub(crate) fn set_creating(&mut self) {
        calls::rovl_inode_set_creating(&self.inode)
    }

    /// Lets others use the inode.
    pub(crate) fn publish(mut self) -> Ref<'a, OwnInode<F>> {
        if core::mem::take(&mut self.locked) {
            // SAFETY: by the type invariant the inode has `I_NEW`.
            unsafe { bindings::unlock_new_inode(self.raw()) }
        }
        self.inode.clone()
    }
}

impl<F: FileSystem> Drop for NewInode<'_, F> {
    fn drop(&mut self) {
        if core::mem::take(&mut self.locked) {
            // Unhashes it too, so that whoever waits for it looks again instead of using it. The
            // call gives one reference back, the field's own drop the other.
            let inode = self.inode.clone().into_raw();
            // SAFETY: by the type invariant the inode has `I_NEW`; the reference is given away.
            unsafe { bindings::iget_failed(inode.as_ptr().cast()) }
        }
    }
}
