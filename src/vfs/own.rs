// SPDX-License-Identifier: GPL-2.0

//! Inodes, dentries and super blocks of our own filesystem: they carry data.

use super::{
    backing::{Backing, LayerMounts, LowerPaths},
    calls,
    dentry::QStr,
    fs::{Exactly, FileSystem, InodeData},
    inode::{flags, read_field},
    mount::{IdMap, PathRef},
    refs::{Counted, Ref},
    super_ops::SuperBox,
    sync::{Flags, OpLock},
    writeback::Left,
    Dentry, Inode, SuperBlock,
};
use crate::bindings;
use core::{
    mem::{offset_of, ManuallyDrop},
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel::{
    prelude::*,
    types::{NotThreadSafe, Opaque},
};

/// What the inode cache allocates: the VFS inode, the operation lock, the objects of layers behind it and the
/// filesystem's own data.
#[repr(C)]
pub(super) struct InodeBox<F: FileSystem> {
    /// First: the VFS knows the address of the inode alone.
    inode: Opaque<bindings::inode>,
    lock: OpLock,
    backing: Backing,
    /// Until the inode is evicted: RCU-walk, which may look at the box later, does not touch it.
    data: ManuallyDrop<F::Inode>,
}

impl<F: FileSystem> InodeBox<F> {
    /// Where there is a word that [`init`](Self::init) initialises.
    pub(super) const FREE: usize = offset_of!(Self, backing);

    /// Initialises all but the inode, which the cache's constructor did.
    ///
    /// # Safety
    ///
    /// `this` is memory for an `InodeBox` that nobody uses; it stays where it is.
    pub(super) unsafe fn init(this: NonNull<Self>) -> *mut bindings::inode {
        let this = this.as_ptr();
        // SAFETY: the memory is ours by the contract; the initialiser is infallible and the mutex does not move.
        unsafe { pin_init::raw_init(&raw mut (*this).lock, OpLock::new()) };
        // SAFETY: as for the lock: memory of ours, not initialised yet.
        unsafe { (&raw mut (*this).backing).write(Backing::new()) };
        // SAFETY: as for the lock.
        unsafe { (&raw mut (*this).data).write(ManuallyDrop::new(F::Inode::empty())) };
        this.cast()
    }

    /// What stands behind an inode that RCU-walk looks at: that part of the box alone.
    ///
    /// # Safety
    ///
    /// Charter 3 and 6 hold for `inode` and `'a`.
    #[inline]
    pub(super) unsafe fn backing_rcu<'a>(inode: *mut bindings::inode) -> &'a Backing {
        // SAFETY: charter 3 and 6: the box is freed after a grace period, and this part of it changes then at the earliest, but
        // for what is atomic.
        unsafe { &(*inode.cast::<Self>()).backing }
    }

    /// The operation lock.
    pub(super) fn lock(&self) -> &OpLock {
        &self.lock
    }

    /// What stands behind an inode.
    ///
    /// # Safety
    ///
    /// Charter 3 holds for `inode`.
    #[inline]
    pub(super) unsafe fn backing_at(inode: *mut bindings::inode) -> *mut Backing {
        // SAFETY: charter 3: the inode is in an `InodeBox<F>`.
        unsafe { &raw mut (*inode.cast::<Self>()).backing }
    }

    /// The inode in the layer that can be written behind an inode that may still be in the making.
    ///
    /// # Safety
    ///
    /// Charter 3 holds for `inode`, which is not destroyed during `'a`.
    #[inline]
    pub(super) unsafe fn upper_inode<'a>(inode: *mut bindings::inode) -> Option<&'a Inode> {
        // SAFETY: charter 3, and by the contract.
        let upper = unsafe { Backing::upper_of(Self::backing_at(inode)) }?;
        // SAFETY: charter 1 and 7: the reference is given back when the inode is destroyed.
        unsafe { Dentry::from_raw(upper.as_ptr()) }.inode()
    }

    /// Sets the filesystem's own data of an inode that is being made.
    ///
    /// # Safety
    ///
    /// `inode` is one of `F` that nobody else uses.
    pub(super) unsafe fn set_data(inode: *mut bindings::inode, data: F::Inode) {
        // SAFETY: charter 3: the inode is in an `InodeBox<F>`; by the contract nobody else uses it.
        unsafe { *(*inode.cast::<Self>()).data = data }
    }

    /// The first phase of teardown: drops the data and gives all references back; may sleep.
    ///
    /// # Safety
    ///
    /// `destroy_inode` of `F` got `inode`; called once for it.
    pub(super) unsafe fn release(inode: *mut bindings::inode) {
        let this = inode.cast::<Self>();
        // SAFETY: charter 3 and 7: the box is initialised, and shared with RCU-walk alone, which does not know the data; the
        // field is not used again.
        unsafe { ManuallyDrop::drop(&mut (*this).data) };
        // SAFETY: charter 7: the box lives until `free`, and RCU-walk, which shares this part of it, reads only.
        let backing = unsafe { &(*this).backing };
        // SAFETY: charter 7: no `OwnInode` of an inode exists that is being destroyed, and this is called once.
        unsafe { backing.release() };
    }

    /// The second phase: frees memory, but for that of the box itself, which it returns.
    ///
    /// # Safety
    ///
    /// `free_inode` of `F` got `inode`; called once for it.
    pub(super) unsafe fn free(inode: *mut bindings::inode) -> *mut kernel::ffi::c_void {
        let this = inode.cast::<Self>();
        // SAFETY: charter 7: the grace period is over: nobody else uses the box.
        unsafe { (*this).backing.free() };
        this.cast()
    }
}

/// A super block of `F`, from the time that its data is set until it is torn down (charter 4).
#[repr(transparent)]
pub(crate) struct OwnSuper<F: FileSystem>(SuperBlock, Exactly<F>);

impl<F: FileSystem> Deref for OwnSuper<F> {
    type Target = SuperBlock;
    #[inline]
    fn deref(&self) -> &SuperBlock {
        &self.0
    }
}

impl<F: FileSystem> OwnSuper<F> {
    /// # Safety
    ///
    /// Charter 1 and 4 hold for `ptr` and `'a`: a super block of `F` whose data is set.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::super_block) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    /// The filesystem's own data.
    #[inline]
    pub(crate) fn fs(&self) -> &F {
        // SAFETY: charter 4: `s_fs_info` is a `SuperBox<F>`, whose data outlives every `&OwnSuper`.
        unsafe { SuperBox::data_of(self.as_ptr()) }
    }

    /// The mounts of the layers.
    #[inline]
    pub(super) fn mounts(&self) -> &LayerMounts {
        // SAFETY: charter 4: `s_fs_info` is a `SuperBox<F>`, whose mounts outlive every `&OwnSuper`.
        unsafe { SuperBox::<F>::mounts_of(self.as_ptr()) }
    }

    /// What was left behind by inodes that are gone.
    #[inline]
    pub(super) fn left(&self) -> &Left {
        // SAFETY: charter 4: `s_fs_info` is a `SuperBox<F>`, and this part of it outlives every `&OwnSuper`.
        unsafe { SuperBox::<F>::left_of(self.as_ptr()) }
    }

    /// The root directory; `EIO` before there is one.
    pub(crate) fn root(&self) -> Result<&OwnDentry<F>> {
        // Written once, while the super block is filled.
        let root = NonNull::new(read_field!(self, s_root)).ok_or(EIO)?;
        // SAFETY: charter 1 and 3: a super block references its root while it is mounted.
        Ok(unsafe { OwnDentry::from_raw(root.as_ptr()) })
    }
}

/// An inode of a super block of `F` (charter 3).
#[repr(transparent)]
pub(crate) struct OwnInode<F: FileSystem>(Inode, Exactly<F>);

// SAFETY: as for `Inode`; `F::Inode` is `Send + Sync`.
unsafe impl<F: FileSystem> Send for OwnInode<F> {}
// SAFETY: as for `Inode`; `F::Inode` is `Send + Sync`.
unsafe impl<F: FileSystem> Sync for OwnInode<F> {}

// SAFETY: as for `Inode`, which the type is.
unsafe impl<F: FileSystem> Counted for OwnInode<F> {
    fn inc(&self) {
        self.0.inc()
    }

    unsafe fn dec(obj: NonNull<Self>) {
        // SAFETY: by the contract; the type is transparent.
        unsafe { Inode::dec(obj.cast()) }
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
    pub(super) fn container(&self) -> &InodeBox<F> {
        // SAFETY: charter 3: the inode is the first field of a live `InodeBox`, of which C changes the inode alone.
        unsafe { &*self.as_ptr().cast_const().cast() }
    }

    /// The filesystem's own data of the inode.
    #[inline]
    pub(crate) fn data(&self) -> &F::Inode {
        &self.container().data
    }

    /// The super block.
    #[inline]
    pub(crate) fn own_sb(&self) -> &OwnSuper<F> {
        // SAFETY: charter 3 and 4: inodes are made through an `OwnSuper` of `F` and do not outlive it.
        unsafe { OwnSuper::from_raw(self.sb().as_ptr()) }
    }

    /// The filesystem's own data of the super block.
    #[inline]
    pub(crate) fn fs(&self) -> &F {
        self.own_sb().fs()
    }

    /// The dentry of the object behind the inode in the layer that can be written.
    #[inline]
    pub(crate) fn upper(&self) -> Option<&Dentry> {
        // SAFETY: charter 1 and 7: an inode that is borrowed is referenced, so it is not evicted.
        unsafe { self.container().backing.upper() }
    }

    /// The path of that object.
    #[inline]
    pub(crate) fn upper_path(&self) -> Option<PathRef<'_>> {
        let dentry = self.upper()?;
        let mnt = self.own_sb().mounts().upper()?;
        // SAFETY: `set_upper()` has looked whether the dentry is on the super block of this mount.
        Some(unsafe { PathRef::new(mnt, dentry) })
    }

    /// The objects behind the inode in lower layers, topmost first.
    #[inline]
    pub(crate) fn lowers(&self) -> LowerPaths<'_> {
        // SAFETY: charter 1 and 7: an inode that is borrowed is referenced, so it is not evicted.
        let all = unsafe { self.container().backing.lowers() };
        // SAFETY: `set_lowers()` has looked whether each dentry is on the super block of its layer's mount.
        unsafe { LowerPaths::new(all, self.own_sb().mounts()) }
    }

    /// Takes the operation lock, which serialises changes of what stands behind the inode and of its link count.
    pub(crate) fn lock_op(&self) -> OpGuard<'_, F> {
        self.container().lock.lock();
        // INVARIANT: the lock was just taken.
        OpGuard(self, NotThreadSafe)
    }

    /// As [`lock_op`](Self::lock_op); `EINTR` where a fatal signal came first.
    pub(crate) fn lock_op_killable(&self) -> Result<OpGuard<'_, F>> {
        self.container().lock.lock_killable()?;
        // INVARIANT: the lock was just taken.
        Ok(OpGuard(self, NotThreadSafe))
    }

    /// Copies owner, mode, times and size from an inode of a layer (its ids mapped by `idmap`).
    pub(crate) fn copy_attr(&self, from: &Inode, idmap: &IdMap) {
        calls::rovl_copyattr(self, from, idmap)
    }

    /// Replaces the `S_*` flags in `mask` by those in `flags`: of those that [`inode::flags`](flags) names. Others tell the VFS
    /// of what an inode must have (a key). That it folds case says no inode of a filesystem that cannot.
    pub(crate) fn set_flags(&self, flags: u32, mask: u32) {
        let mut known = flags::SYNC | flags::NOATIME | flags::APPEND | flags::IMMUTABLE;
        if self.sb().can_fold_case() {
            known |= flags::CASEFOLD;
        }
        let mask = mask & known;
        calls::inode_set_flags(self, flags & mask, mask)
    }

    /// Copies modification and change time.
    pub(crate) fn copy_mctime(&self, from: &Inode) {
        calls::rovl_copy_mctime(self, from)
    }

    /// Copies the access time; returns whether it is another one.
    pub(crate) fn copy_atime(&self, from: &Inode) -> bool {
        calls::rovl_copy_atime(self, from)
    }
}

impl<'a, F: FileSystem> Ref<'a, OwnInode<F>> {
    /// A dentry of the inode, which need not lead to a name any more.
    pub(crate) fn alias(&self) -> Option<Ref<'a, OwnDentry<F>>> {
        let alias = calls::d_find_any_alias(self)?.into_raw();
        // SAFETY: the reference is passed on; charter 3: dentry and inode are on one super block, which lives for `'a`.
        Some(unsafe { Ref::from_raw(alias.cast()) })
    }

    /// A dentry of the inode: one that there is, or a new one without a name.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn obtain_alias(self) -> Result<Ref<'a, OwnDentry<F>>> {
        // SAFETY: the reference is passed on; an `OwnInode` is an `Inode`.
        let inode: Ref<'a, Inode> = unsafe { Ref::from_raw(self.into_raw().cast()) };
        let alias = calls::d_obtain_alias(inode).get()?.into_raw();
        // SAFETY: the reference is passed on; charter 3: dentry and inode are on one super block, which lives for `'a`.
        Ok(unsafe { Ref::from_raw(alias.cast()) })
    }
}

/// The operation lock of an inode, held.
///
/// # Invariants
///
/// The current task holds the lock.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct OpGuard<'a, F: FileSystem>(&'a OwnInode<F>, NotThreadSafe);

impl<F: FileSystem> OpGuard<'_, F> {
    /// The locked inode.
    pub(crate) fn inode(&self) -> &OwnInode<F> {
        self.0
    }

    /// Sets the object in the layer that can be written, once; an inode that was not hashed is hashed by it.
    ///
    /// # Errors
    ///
    /// `EIO` where one is set, `ESTALE` where `dentry` is negative, `EXDEV` where it is not on the layer's mount.
    pub(crate) fn set_upper(&self, dentry: Ref<'_, Dentry>) -> Result {
        let key = dentry.positive()?.as_ptr();
        let mounts = self.0.own_sb().mounts();
        // SAFETY: charter 4: the mounts are kept until the last inode of the super block was evicted.
        unsafe { self.0.container().backing.set_upper(dentry, mounts)? };
        // SAFETY: charter 1; an inode that others know is hashed here alone, by the type invariant by one task at a time; the
        // key's inode is kept by what was just set.
        unsafe { bindings::rovl_inode_rehash(self.0.as_ptr(), key) };
        Ok(())
    }

    /// `remove_inode_hash()`: no lookup finds the inode by its key any more.
    pub(crate) fn unhash(&self) {
        calls::rovl_remove_inode_hash(self.0)
    }

    /// Counts one link more.
    pub(crate) fn inc_nlink(&self) {
        calls::inc_nlink(self.0)
    }

    /// Counts one link less, where there is one.
    pub(crate) fn drop_nlink(&self) {
        if self.0.nlink() > 0 {
            calls::drop_nlink(self.0)
        }
    }

    /// Sets the link count.
    pub(crate) fn set_nlink(&self, nlink: u32) {
        calls::set_nlink(self.0, nlink)
    }

    /// Counts no link.
    pub(crate) fn clear_nlink(&self) {
        calls::clear_nlink(self.0)
    }
}

impl<F: FileSystem> Drop for OpGuard<'_, F> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant the current task, which the guard cannot leave, holds the lock.
        unsafe { self.0.container().lock.unlock() }
    }
}

/// A dentry of a super block of `F` (charter 3).
#[repr(transparent)]
pub(crate) struct OwnDentry<F: FileSystem>(Dentry, Exactly<F>);

// SAFETY: as for `Dentry`.
unsafe impl<F: FileSystem> Send for OwnDentry<F> {}
// SAFETY: as for `Dentry`.
unsafe impl<F: FileSystem> Sync for OwnDentry<F> {}

// SAFETY: as for `Dentry`, which the type is.
unsafe impl<F: FileSystem> Counted for OwnDentry<F> {
    fn inc(&self) {
        self.0.inc()
    }

    unsafe fn dec(obj: NonNull<Self>) {
        // SAFETY: by the contract; the type is transparent.
        unsafe { Dentry::dec(obj.cast()) }
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
        ptr::eq(self, other)
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
    pub(crate) fn marks(&self) -> &Flags<F::NameMarks> {
        // SAFETY: charter 3: `d_fsdata` is such a flag word and is accessed here alone.
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
    pub(crate) fn own_parent(&self) -> Ref<'_, Self> {
        let parent = self.parent().into_raw();
        // SAFETY: the reference is passed on; charter 3: the parent is on the same super block, which `self` keeps.
        unsafe { Ref::from_raw(parent.cast()) }
    }

    /// The super block.
    #[inline]
    pub(crate) fn own_sb(&self) -> &OwnSuper<F> {
        // SAFETY: charter 3 and 4: the first dentry is made once the data is set, the last is gone before it goes.
        unsafe { OwnSuper::from_raw(self.sb().as_ptr()) }
    }

    /// The filesystem's own data of the super block.
    #[inline]
    pub(crate) fn fs(&self) -> &F {
        self.own_sb().fs()
    }

    /// `dentry`, which a lookup in this directory returned, as one of ours.
    ///
    /// # Errors
    ///
    /// `EXDEV` where it is on another super block.
    pub(crate) fn own<'a>(&'a self, dentry: Ref<'a, Dentry>) -> Result<Ref<'a, Self>> {
        if self.sb() != dentry.sb() {
            return Err(EXDEV);
        }
        // SAFETY: the reference is passed on; charter 3: the dentry is on our super block, which `self` keeps.
        Ok(unsafe { Ref::from_raw(dentry.into_raw().cast()) })
    }

    /// `d_find_alias()`: a dentry of the same inode, which is no directory, that is hashed. This one is not.
    pub(crate) fn hashed_alias(&self) -> Option<Ref<'_, Self>> {
        self.own(calls::d_find_alias(self.inode()?)?).ok()
    }

    /// Looks `name` up in this directory, whose lock the caller holds, shared at least.
    ///
    /// # Errors
    ///
    /// What the lookup returns; `ENOTDIR`.
    pub(super) fn lookup_locked(&self, idmap: &IdMap, name: &[u8]) -> Result<Ref<'_, Self>> {
        self.own(self.0.lookup_locked(idmap, name)?)
    }

    /// Replaces the revalidation flags in `clear` by those in `set`: our dentries have the operations, which ask the layers.
    pub(crate) fn change_revalidate(&self, clear: u32, set: u32) {
        if clear | set == 0 {
            return;
        }
        // SAFETY: charter 1 and 3: `d_op` of our dentries has both operations; the helper takes `d_lock`.
        unsafe {
            bindings::rovl_dentry_change_flags(
                self.as_ptr(),
                clear & super::dentry::REVALIDATE,
                set & super::dentry::REVALIDATE,
            )
        }
    }

    /// Makes a negative dentry positive with `inode`; nothing where it is positive already, or where `inode` is on another
    /// super block or a directory that has a dentry.
    ///
    /// # Safety
    ///
    /// The dentry is not in lookup, and nobody else makes it positive meanwhile.
    pub(super) unsafe fn instantiate(&self, inode: Ref<'_, OwnInode<F>>) {
        let is_named = inode.mode().is_dir() && inode.has_dentry();
        if self.inode().is_none() && inode.sb() == self.sb() && !is_named {
            // SAFETY: charter 1 and 3: both are on one super block, and the dentry, which takes the reference over, is
            // negative, which by the contract it stays until the call.
            unsafe { bindings::d_instantiate(self.as_ptr(), inode.into_raw().as_ptr().cast()) }
        }
    }
}

impl<'a, F: FileSystem> Ref<'a, OwnDentry<F>> {
    /// Looks `name` up in this directory, whoever may search it; takes its lock where the name is not cached.
    ///
    /// # Errors
    ///
    /// What the lookup returns, `ENOTDIR`; `EACCES` where it is no name.
    pub(crate) fn lookup(&self, name: &[u8]) -> Result<Self> {
        let found = calls::lookup_noperm_unlocked(&mut QStr::new(name), self.as_dir()?).get()?;
        let found = self.own(found)?.into_raw();
        // SAFETY: the reference is passed on; the dentry is on the super block of the directory, which lives for `'a`.
        Ok(unsafe { Ref::from_raw(found) })
    }

    /// The parent as of now, for as long as this reference could be held.
    pub(crate) fn up(&self) -> Self {
        // SAFETY: charter 3: the parent is on the same super block.
        unsafe { self.related(OwnDentry::own_parent) }
    }
}
