// SPDX-License-Identifier: GPL-2.0

//! Inodes and dentries of our own filesystem: they carry data.

use super::{
    fs::{is_ours, tables, FileSystem, Kind},
    inode_ops,
    sync::{Flags, OpLock},
    Dentry, Inode, Mode,
};
use crate::bindings;
use core::{marker::PhantomData, ops::Deref, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
};

/// What the inode cache allocates: the VFS inode, the operation lock and the filesystem's own data.
#[repr(C)]
pub(super) struct InodeBox<F: FileSystem> {
    pub(super) inode: bindings::inode,
    pub(super) lock: OpLock,
    pub(super) data: F::Inode,
}

/// An inode of a super block of `F` (charter 3).
#[repr(transparent)]
pub(crate) struct OwnInode<F: FileSystem>(Inode, PhantomData<F>);

// SAFETY: as for `Inode`; `F::Inode` is `Send + Sync`.
unsafe impl<F: FileSystem> Send for OwnInode<F> {}
// SAFETY: as above.
unsafe impl<F: FileSystem> Sync for OwnInode<F> {}

// SAFETY: as for `Inode`.
unsafe impl<F: FileSystem> AlwaysRefCounted for OwnInode<F> {
    fn inc_ref(&self) {
        self.0.inc_ref()
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: by the contract; the type is transparent.
        unsafe { Inode::dec_ref(obj.cast()) }
    }
}

impl<F: FileSystem> Deref for OwnInode<F> {
    type Target = Inode;
    #[inline]
    fn deref(&self) -> &Inode {
        &self.0
    }
}

impl<F: FileSystem> OwnInode<F> {
    /// # Safety
    ///
    /// Charter 1 and 3 hold for `ptr` and `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::inode) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    fn container(&self) -> &InodeBox<F> {
        // SAFETY: charter 3: the inode is the first field of a live `InodeBox`.
        unsafe { &*self.as_ptr().cast_const().cast() }
    }

    /// The filesystem's own data of the inode.
    #[inline]
    pub(crate) fn data(&self) -> &F::Inode {
        &self.container().data
    }

    /// The inode's operation lock.
    pub(crate) fn op_lock(&self) -> &OpLock {
        &self.container().lock
    }

    /// The filesystem's own data of the super block.
    #[inline]
    pub(crate) fn fs(&self) -> &F {
        // SAFETY: charter 4: the inode's callbacks run between `fill_super` and `put_super`.
        unsafe { &*(*self.sb().as_ptr()).s_fs_info.cast() }
    }

    /// Copies owner, mode, times and size from an inode of a layer (its ids mapped by `idmap`).
    pub(crate) fn copy_attr(&self, from: &Inode, idmap: &super::mount::IdMap) {
        // SAFETY: charter 1; the helper takes `i_lock`.
        unsafe { bindings::rovl_copyattr(self.as_ptr(), from.as_ptr(), idmap.as_ptr()) }
    }

    /// Copies modification and change time.
    pub(crate) fn copy_mctime(&self, from: &Inode) {
        // SAFETY: charter 1.
        unsafe { bindings::rovl_copy_mctime(self.as_ptr(), from.as_ptr()) }
    }

    /// Copies the access time.
    pub(crate) fn copy_atime(&self, from: &Inode) {
        // SAFETY: charter 1.
        unsafe { bindings::rovl_copy_atime(self.as_ptr(), from.as_ptr()) }
    }

    /// `remove_inode_hash()`: no lookup finds the inode by its key any more.
    pub(crate) fn unhash(&self) {
        // SAFETY: charter 1; it takes the locks it needs.
        unsafe { bindings::rovl_remove_inode_hash(self.as_ptr()) }
    }

    /// Hashes an inode that was not hashed so far by `key`.
    pub(crate) fn rehash(&self, key: &Inode) {
        // SAFETY: charter 1.
        unsafe { bindings::rovl_inode_rehash(self.as_ptr(), key.as_ptr()) }
    }
}

/// A dentry of a super block of `F` (charter 3).
#[repr(transparent)]
pub(crate) struct OwnDentry<F: FileSystem>(Dentry, PhantomData<F>);

// SAFETY: as for `Dentry`.
unsafe impl<F: FileSystem> Send for OwnDentry<F> {}
// SAFETY: as for `Dentry`.
unsafe impl<F: FileSystem> Sync for OwnDentry<F> {}

// SAFETY: as for `Dentry`.
unsafe impl<F: FileSystem> AlwaysRefCounted for OwnDentry<F> {
    fn inc_ref(&self) {
        self.0.inc_ref()
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: by the contract; the type is transparent.
        unsafe { Dentry::dec_ref(obj.cast()) }
    }
}

impl<F: FileSystem> Deref for OwnDentry<F> {
    type Target = Dentry;
    #[inline]
    fn deref(&self) -> &Dentry {
        &self.0
    }
}

impl<F: FileSystem> kernel::fmt::Display for OwnDentry<F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

impl<F: FileSystem> PartialEq for OwnDentry<F> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl<F: FileSystem> OwnDentry<F> {
    /// # Safety
    ///
    /// Charter 1 and 3 hold for `ptr` and `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::dentry) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    /// The dentry's flag word.
    #[inline]
    pub(crate) fn marks(&self) -> &Flags {
        // SAFETY: charter 3: `d_fsdata` is a flag word.
        unsafe { Flags::at(&raw mut (*self.as_ptr()).d_fsdata) }
    }

    /// The inode of a positive dentry.
    #[inline]
    pub(crate) fn own_inode(&self) -> Option<&OwnInode<F>> {
        let inode = self.inode()?;
        // SAFETY: charter 3: dentry and inode are on one super block.
        Some(unsafe { OwnInode::from_raw(inode.as_ptr()) })
    }

    /// The inode of a dentry that a callback got as a positive one.
    #[inline]
    pub(crate) fn own_positive(&self) -> Result<&OwnInode<F>> {
        self.own_inode().ok_or(ENOENT)
    }

    /// The parent as of now, referenced.
    pub(crate) fn own_parent(&self) -> ARef<Self> {
        let parent = ARef::into_raw(self.parent());
        // SAFETY: charter 3: the parent is on the same super block.
        unsafe { ARef::from_raw(parent.cast()) }
    }

    /// The filesystem's own data of the super block.
    #[inline]
    pub(crate) fn fs(&self) -> &F {
        // SAFETY: charter 4.
        unsafe { &*(*self.sb().as_ptr()).s_fs_info.cast() }
    }

    /// A dentry of this super block that a lookup in this directory returned.
    pub(crate) fn own(&self, dentry: ARef<Dentry>) -> Result<ARef<Self>> {
        if !core::ptr::eq(self.sb(), dentry.sb()) {
            return Err(EXDEV);
        }
        // SAFETY: charter 3: it is on our super block.
        Ok(unsafe { ARef::from_raw(ARef::into_raw(dentry).cast()) })
    }

    /// Makes a negative dentry positive with `inode`.
    pub(crate) fn instantiate(&self, inode: ARef<OwnInode<F>>) {
        // SAFETY: charter 1; the dentry takes the reference over.
        unsafe { bindings::d_instantiate(self.as_ptr(), ARef::into_raw(inode).as_ptr().cast()) }
    }
}

/// What [`NewInode::get`] found.
pub(crate) enum Found<F: FileSystem> {
    /// Nobody had an inode of that key.
    New(NewInode<F>),
    /// It was there.
    Old(ARef<OwnInode<F>>),
}

/// An inode that nobody else can use yet: hashed but locked, or not hashed at all.
///
/// # Invariants
///
/// Owns a reference; where `locked`, the inode has `I_NEW`.
pub(crate) struct NewInode<F: FileSystem> {
    inode: ARef<OwnInode<F>>,
    locked: bool,
}

/// # Safety
///
/// The inode hash passes a valid `inode`.
unsafe extern "C" fn test_key(
    inode: *mut bindings::inode,
    key: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    // SAFETY: the inode hash passes a live inode.
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

impl<F: FileSystem> NewInode<F> {
    /// Allocates an inode without a place in the inode hash.
    pub(crate) fn unhashed(sb: &super::SuperBlock) -> Result<Self> {
        if !is_ours::<F>(sb) {
            return Err(EINVAL);
        }
        // SAFETY: charter 1; the call returns a reference.
        let inode = NonNull::new(unsafe { bindings::new_inode(sb.as_ptr()) }).ok_or(ENOMEM)?;
        Ok(Self {
            // SAFETY: as above; charter 3.
            inode: unsafe { ARef::from_raw(inode.cast()) },
            locked: false,
        })
    }

    /// Finds or allocates the inode with key `key`. The key is not referenced: whoever hashes by it
    /// keeps it alive with the inode.
    pub(crate) fn get(sb: &super::SuperBlock, key: &Inode) -> Result<Found<F>> {
        if !is_ours::<F>(sb) {
            return Err(EINVAL);
        }
        let data = key.as_ptr().cast();
        // SAFETY: charter 1; the call returns a reference.
        let inode = unsafe {
            bindings::iget5_locked(
                sb.as_ptr(),
                data as u64,
                Some(test_key),
                Some(set_key),
                data,
            )
        };
        Self::found(inode).ok_or(ENOMEM)
    }

    /// Hashes this inode by `key` unless another has that key.
    pub(crate) fn insert(self, key: &Inode) -> Result<Found<F>> {
        let data = key.as_ptr().cast();
        // SAFETY: charter 1; where it returns our inode that has `I_NEW` now, and the reference is
        // the one that `self` owns; another inode is returned with a reference of its own.
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
            core::mem::forget(self);
        }
        Self::found(inode).ok_or(EEXIST)
    }

    fn found(inode: *mut bindings::inode) -> Option<Found<F>> {
        let ptr = NonNull::new(inode)?;
        // SAFETY: the callers pass a referenced inode of ours.
        let inode: ARef<OwnInode<F>> = unsafe { ARef::from_raw(ptr.cast()) };
        // SAFETY: charter 1.
        Some(if unsafe { bindings::rovl_inode_is_new(ptr.as_ptr()) } {
            Found::New(Self {
                inode,
                locked: true,
            })
        } else {
            Found::Old(inode)
        })
    }

    /// The inode.
    pub(crate) fn inode(&self) -> &OwnInode<F> {
        &self.inode
    }

    /// The filesystem's own data, exclusively.
    pub(crate) fn data_mut(&mut self) -> &mut F::Inode {
        // SAFETY: charter 3, and by the type invariant nobody else uses the data yet.
        unsafe { &mut (*self.inode.as_ptr().cast::<InodeBox<F>>()).data }
    }

    /// Sets type, permissions and device number, and installs the operation tables of that type.
    pub(crate) fn set_kind(&mut self, mode: Mode, rdev: u32) {
        let ptr = self.inode.as_ptr();
        let depth = self.inode.sb().stack_depth();
        self.inode.op_lock().set_depth(depth);
        let tables = tables::<F>(Kind::of(mode));
        // SAFETY: charter 3, and by the type invariant nobody else uses the inode yet.
        unsafe {
            bindings::rovl_inode_lockdep(ptr, mode.is_dir(), depth);
            (*ptr).i_mode = mode.0;
            (*ptr).i_flags |= bindings::S_NOCMTIME;
            // ACLs are asked from the layer each time: `ACL_DONT_CACHE`.
            (*ptr).i_acl = (-3isize) as *mut bindings::posix_acl;
            (*ptr).i_default_acl = (-3isize) as *mut bindings::posix_acl;
            (*ptr).i_op = tables.inode;
            match tables.file {
                Some(fops) => {
                    (*ptr).__bindgen_anon_3.i_fop = fops;
                    if mode.is_reg() {
                        (*(*ptr).i_mapping).a_ops = &inode_ops::DIRECT_IO_AOPS;
                    }
                }
                None if mode.is_special() => bindings::init_special_inode(ptr, mode.0, rdev),
                None => {}
            }
        }
    }

    /// Sets the inode number.
    pub(crate) fn set_ino(&mut self, ino: u64) {
        // SAFETY: by the type invariant nobody else uses the inode yet.
        unsafe { (*self.inode.as_ptr()).i_ino = ino }
    }

    /// Sets the link count.
    pub(crate) fn set_nlink(&mut self, nlink: u32) {
        // SAFETY: as above.
        unsafe { bindings::set_nlink(self.inode.as_ptr(), nlink) }
    }

    /// `inode_init_owner()`: owner, group and set-group-id inheritance of a new entry of `dir`.
    pub(crate) fn init_owner(&mut self, idmap: &super::mount::IdMap, dir: &Inode, mode: Mode) {
        // SAFETY: as above; charter 1 for `dir`.
        unsafe {
            bindings::inode_init_owner(idmap.as_ptr(), self.inode.as_ptr(), dir.as_ptr(), mode.0)
        }
    }

    /// Marks the inode as one that is being created, so that a lookup by key does not wait for it.
    pub(crate) fn set_creating(&mut self) {
        // SAFETY: charter 1.
        unsafe { bindings::rovl_inode_set_creating(self.inode.as_ptr()) }
    }

    fn unlock(&mut self) {
        if core::mem::take(&mut self.locked) {
            // SAFETY: by the type invariant the inode has `I_NEW`.
            unsafe { bindings::unlock_new_inode(self.inode.as_ptr()) }
        }
    }

    /// Lets others use the inode.
    pub(crate) fn publish(mut self) -> ARef<OwnInode<F>> {
        self.unlock();
        self.inode.clone()
    }
}

impl<F: FileSystem> Drop for NewInode<F> {
    fn drop(&mut self) {
        if core::mem::take(&mut self.locked) {
            // Unhashes it too, so that whoever waits for it looks again instead of using it. The
            // call gives one reference back, the field's own drop the other.
            // SAFETY: by the type invariant the inode has `I_NEW`.
            unsafe { bindings::iget_failed(self.inode.clone_raw()) }
        }
    }
}

impl<F: FileSystem> OwnInode<F> {
    /// One more reference, for a C function that takes it over.
    fn clone_raw(&self) -> *mut bindings::inode {
        self.inc_ref();
        self.as_ptr()
    }
}
