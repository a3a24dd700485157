// SPDX-License-Identifier: GPL-2.0

//! A dentry of any filesystem, and names.
//!
//! C header: `include/linux/dcache.h`.

use super::{
    attr::FileAttr,
    calls,
    fs::FileSystem,
    inode::{read_field, Inode},
    mount::{IdMap, Mount},
    own::{OwnDentry, OwnInode},
    refs::{Counted, Ref},
    SuperBlock,
};
use crate::bindings;
use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::{
    error::{code::ELOOP, from_err_ptr},
    prelude::*,
    types::{NotThreadSafe, Opaque},
};

/// A dentry of any filesystem.
#[repr(transparent)]
pub(crate) struct Dentry(Opaque<bindings::dentry>);

// SAFETY: dentries may be used and given back from any thread.
unsafe impl Send for Dentry {}
// SAFETY: all fields are read as the dcache rules demand, from any thread.
unsafe impl Sync for Dentry {}

// SAFETY: `dget`/`dput` count references in `d_lockref`.
unsafe impl Counted for Dentry {
    fn inc(&self) {
        calls::rovl_dget(self);
    }

    unsafe fn dec(obj: NonNull<Self>) {
        // SAFETY: the caller gives its reference up.
        unsafe { bindings::dput(obj.as_ptr().cast()) }
    }
}

impl PartialEq for Dentry {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

/// A `struct qstr` for a name of any bytes, for those that hash it or go by the bytes.
///
/// # Invariants
///
/// Pointer and length are those of a name that is borrowed for `'a`.
#[repr(transparent)]
pub(super) struct QStr<'a>(bindings::qstr, PhantomData<&'a [u8]>);

impl<'a> QStr<'a> {
    pub(super) fn new(name: &'a [u8]) -> Self {
        let qstr = bindings::qstr {
            __bindgen_anon_1: bindings::qstr__bindgen_ty_1 {
                __bindgen_anon_1: bindings::qstr__bindgen_ty_1__bindgen_ty_1 {
                    hash: 0,
                    len: name.len() as u32,
                },
            },
            name: name.as_ptr(),
        };
        // INVARIANT: as was just set.
        Self(qstr, PhantomData)
    }

    pub(super) fn as_ptr(&mut self) -> *mut bindings::qstr {
        &mut self.0
    }
}

/// What a C function returned that looked for a dentry: null, an errno, or one with a reference to give away.
///
/// # Invariants
///
/// The super block of a dentry lives for `'a`.
#[must_use]
#[repr(transparent)]
pub(super) struct FoundDentry<'a>(*mut bindings::dentry, PhantomData<&'a Dentry>);

impl<'a> FoundDentry<'a> {
    /// The dentry; `ENOENT` for null.
    #[inline]
    pub(super) fn get(self) -> Result<Ref<'a, Dentry>> {
        let ptr = NonNull::new(from_err_ptr(self.0)?).ok_or(ENOENT)?;
        // SAFETY: by the type invariant; the reference is taken over.
        Ok(unsafe { Ref::from_raw(ptr.cast()) })
    }
}

/// A dentry that has an inode (charter 2): what most C functions that take a dentry ask for.
#[repr(transparent)]
pub(super) struct PositiveDentry(Dentry);

/// The dentry of a symlink that is no more than its target: a link of `/proc`, say, moves the walk that it is met in, and there
/// has to be one.
#[repr(transparent)]
pub(super) struct PlainLink(Dentry);

impl PlainLink {
    pub(super) fn as_ptr(&self) -> *mut bindings::dentry {
        self.0.as_ptr()
    }
}

/// A dentry that names can be looked up in: a directory with the operation.
#[repr(transparent)]
pub(super) struct LookupDir(Dentry);

impl core::ops::Deref for LookupDir {
    type Target = Dentry;
    #[inline]
    fn deref(&self) -> &Dentry {
        &self.0
    }
}

/// The name that the VFS looks up.
pub(super) struct LookupName<'a>(&'a [u8]);

impl<'a> LookupName<'a> {
    /// # Safety
    ///
    /// `name` and its bytes are constant during `'a`.
    pub(super) unsafe fn from_raw(name: *const bindings::qstr) -> Self {
        // SAFETY: by the contract.
        let (at, len) = unsafe { ((*name).name, (*name).__bindgen_anon_1.__bindgen_anon_1.len) };
        // SAFETY: by the contract: a name has as many bytes as it says.
        Self(unsafe { core::slice::from_raw_parts(at, len as usize) })
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl Dentry {
    /// # Safety
    ///
    /// Charter 1 holds for `ptr` and `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::dentry) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::dentry {
        self.0.get()
    }

    /// The inode of a positive dentry (charter 2).
    #[inline]
    pub(crate) fn inode(&self) -> Option<&Inode> {
        let inode = read_field!(self, d_inode).cast::<Inode>();
        // SAFETY: charter 1 and 2: the inode stays while `self` is borrowed.
        unsafe { inode.as_ref() }
    }

    /// The inode of a dentry that must be positive; `ESTALE` where a layer changed underneath.
    #[inline]
    pub(crate) fn positive(&self) -> Result<&Inode> {
        self.inode().ok_or(ESTALE)
    }

    /// The dentry as one that has an inode; `ESTALE` where it has none.
    #[inline]
    pub(super) fn as_positive(&self) -> Result<&PositiveDentry> {
        self.positive()?;
        // SAFETY: as was just seen; charter 2: it stays positive. The type is transparent.
        Ok(unsafe { &*core::ptr::from_ref(self).cast() })
    }

    /// The dentry as one of a plain symlink; `ESTALE` where it has no inode, `EINVAL` where that is of another type, `ELOOP`
    /// where it is a link of the kernel's own making.
    pub(super) fn as_plain_link(&self) -> Result<&PlainLink> {
        let inode = self.positive()?;
        if !inode.mode().is_lnk() {
            return Err(EINVAL);
        }
        if calls::rovl_is_magic_link(inode) {
            return Err(ELOOP);
        }
        // SAFETY: as was just seen; charter 2: it stays positive. The type is transparent.
        Ok(unsafe { &*core::ptr::from_ref(self).cast() })
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.inode().is_none()
    }

    /// As [`is_negative`](Self::is_negative), by the flags alone, which may be looked at in RCU-walk.
    pub(super) fn is_missing(&self) -> bool {
        calls::rovl_d_negative_acquire(self)
    }

    #[inline]
    pub(super) fn flags(&self) -> u32 {
        read_field!(self, d_flags)
    }

    fn entry_type(&self) -> u32 {
        self.flags() & bindings::ROVL_DCACHE_ENTRY_TYPE
    }

    /// Whether names can be looked up in it.
    pub(crate) fn can_lookup(&self) -> bool {
        self.entry_type() == bindings::ROVL_DCACHE_DIRECTORY_TYPE
    }

    /// Whether it is a directory of any sort.
    pub(crate) fn is_dir(&self) -> bool {
        matches!(
            self.entry_type(),
            bindings::ROVL_DCACHE_DIRECTORY_TYPE | bindings::ROVL_DCACHE_AUTODIR_TYPE
        )
    }

    pub(crate) fn is_reg(&self) -> bool {
        self.entry_type() == bindings::ROVL_DCACHE_REGULAR_TYPE
    }

    /// Whether the dentry is one that a union cannot handle: neither a directory with lookup nor a
    /// file, a symlink or a device; an automount point; names with their own hash or comparison, but for
    /// filesystems of which only directories that say so fold case ([`is_casefolded`](Self::is_casefolded)).
    pub(crate) fn is_weird(&self) -> bool {
        let known = matches!(
            self.entry_type(),
            bindings::ROVL_DCACHE_DIRECTORY_TYPE
                | bindings::ROVL_DCACHE_REGULAR_TYPE
                | bindings::ROVL_DCACHE_SPECIAL_TYPE
                | bindings::ROVL_DCACHE_SYMLINK_TYPE
        );
        let has = |flags| self.flags() & flags != 0;
        !known
            || has(bindings::ROVL_DCACHE_NEED_AUTOMOUNT | bindings::ROVL_DCACHE_MANAGE_TRANSIT)
            || has(bindings::ROVL_DCACHE_OP_HASH | bindings::ROVL_DCACHE_OP_COMPARE)
                && !self.sb().can_fold_case()
    }

    /// Whether the dentry belongs to a union filesystem (it has a `d_real` operation).
    pub(crate) fn is_union(&self) -> bool {
        self.flags() & bindings::ROVL_DCACHE_OP_REAL != 0
    }

    /// Whether [`Watch`](super::watch::Watch) sees all changes of the names in this directory, and a listing
    /// shows them all to who `folds` case, or does not. Not so for a union: what changes below it is no event of its own.
    pub(crate) fn is_watchable(&self, folds: bool) -> bool {
        self.revalidate_flags() == 0
            && !self.is_union()
            && self.sb().is_ordinary()
            && FileAttr::ignores_case(self) == folds
            && self.inode().is_some_and(|inode| !inode.is_encrypted())
    }

    /// Whether somebody listens for this directory, whose inode is `inode`, being opened, read or closed.
    pub(crate) fn is_listing_watched(&self, inode: &Inode) -> bool {
        calls::rovl_is_listing_watched(self, inode)
    }

    /// Whether the directory folds case.
    pub(crate) fn is_casefolded(&self) -> bool {
        calls::rovl_casefolded(self)
    }

    /// Which of the revalidation operations the dentry has, as a mask.
    #[inline]
    pub(crate) fn revalidate_flags(&self) -> u32 {
        self.flags() & REVALIDATE
    }

    pub(crate) fn is_disconnected(&self) -> bool {
        self.flags() & bindings::ROVL_DCACHE_DISCONNECTED != 0
    }

    pub(crate) fn is_unhashed(&self) -> bool {
        calls::rovl_d_unhashed(self)
    }

    /// Makes the next lookup of the name ask the filesystem again.
    pub(crate) fn unhash(&self) {
        calls::d_drop(self)
    }

    /// Whether another hashed dentry of the inode exists.
    pub(crate) fn has_hashed_alias(&self) -> bool {
        self.inode()
            .is_some_and(|inode| calls::rovl_has_hashed_alias(inode, self))
    }

    /// The parent as of now, referenced.
    pub(crate) fn parent(&self) -> Ref<'_, Self> {
        calls::dget_parent(self)
    }

    /// Whether it is the root of its filesystem (or of no tree yet).
    pub(crate) fn is_root(&self) -> bool {
        *self.parent() == *self
    }

    /// Whether `self` is `ancestor` or below it.
    pub(crate) fn is_subdir_of(&self, ancestor: &Dentry) -> bool {
        calls::is_subdir(self, ancestor)
    }

    /// The super block.
    #[inline]
    pub(crate) fn sb(&self) -> &SuperBlock {
        // SAFETY: `d_sb` never changes and outlives its dentries.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).d_sb) }
    }

    /// The operations of its filesystem, where it has any.
    pub(super) fn operations(&self) -> Option<&bindings::dentry_operations> {
        let ops = read_field!(self, d_op);
        // SAFETY: charter 1: null or a table, which does not change and is a constant of a module that the super block keeps.
        unsafe { ops.as_ref() }
    }

    /// One more reference.
    pub(crate) fn get(&self) -> Ref<'_, Self> {
        self.into()
    }

    /// `ENOTDIR` where names cannot be looked up: the VFS would call an operation that is not there.
    pub(super) fn as_dir(&self) -> Result<&LookupDir> {
        if !self.can_lookup() {
            return Err(ENOTDIR);
        }
        // SAFETY: as was just seen; a dentry of a directory keeps its inode, and so its kind (charter 2). The type is transparent.
        Ok(unsafe { &*core::ptr::from_ref(self).cast() })
    }

    /// Looks `name` up in this directory of `mnt`, by `look_up`.
    #[inline]
    fn lookup_by<'m>(
        &self,
        mnt: &'m Mount,
        name: &[u8],
        look_up: impl for<'x> FnOnce(&IdMap, &mut QStr<'_>, &'x LookupDir) -> FoundDentry<'x>,
    ) -> Result<Ref<'m, Dentry>> {
        let dir = self.as_dir()?;
        if self.sb() != mnt.sb() {
            return Err(EXDEV);
        }
        let found = look_up(mnt.idmap(), &mut QStr::new(name), dir).get()?;
        // SAFETY: the dentry is on the super block of the directory, which `mnt` keeps, as was just seen.
        Ok(unsafe { found.kept_for() })
    }

    /// Looks `name` up in this directory of `mnt`, which keeps what is found, with the current credentials; may sleep,
    /// takes the directory's lock where the name is not cached.
    ///
    /// # Errors
    ///
    /// What the filesystem returns, `EACCES` where the directory cannot be searched, `EXDEV` where it is not one of
    /// `mnt`.
    pub(crate) fn lookup<'m>(&self, mnt: &'m Mount, name: &[u8]) -> Result<Ref<'m, Dentry>> {
        self.lookup_by(mnt, name, |idmap, name, dir| {
            calls::lookup_one_unlocked(idmap, name, dir)
        })
    }

    /// As [`lookup`](Self::lookup), but a missing name is `None`. With `forget` the negative dentry
    /// is not kept in the dcache where nobody else uses it.
    pub(crate) fn lookup_positive<'m>(
        &self,
        mnt: &'m Mount,
        name: &[u8],
        forget: bool,
    ) -> Result<Option<Ref<'m, Dentry>>> {
        let found = match self.lookup(mnt, name) {
            Err(e) if e == ENOENT || e == ENAMETOOLONG => return Ok(None),
            other => other?,
        };
        if !found.is_missing() {
            return Ok(Some(found));
        }
        if forget {
            // SAFETY: the reference is given away.
            unsafe { bindings::rovl_dput_unused_negative(found.into_raw().as_ptr().cast()) };
        }
        Ok(None)
    }

    /// As [`lookup`](Self::lookup), interrupted by a fatal signal; `ENOENT` where the name is missing.
    pub(crate) fn lookup_killable<'m>(
        &self,
        mnt: &'m Mount,
        name: &[u8],
    ) -> Result<Ref<'m, Dentry>> {
        self.lookup_by(mnt, name, |idmap, name, dir| {
            calls::lookup_one_positive_killable(idmap, name, dir)
        })
    }

    /// As [`lookup`](Self::lookup), by a caller that holds this directory's lock.
    pub(super) fn lookup_locked(&self, idmap: &IdMap, name: &[u8]) -> Result<Ref<'_, Dentry>> {
        calls::lookup_one(idmap, &mut QStr::new(name), self.as_dir()?).get()
    }

    /// Asks the filesystem whether the dentry is still what its name stands for (`weak`: whether its
    /// inode is still there); `Ok(true)` where it has no opinion.
    pub(crate) fn revalidate(&self, flags: WalkFlags, weak: bool) -> Result<bool> {
        let wanted = if weak {
            bindings::ROVL_DCACHE_OP_WEAK_REVALIDATE
        } else {
            bindings::ROVL_DCACHE_OP_REVALIDATE
        };
        if self.flags() & wanted == 0 {
            return Ok(true);
        }
        let ops = self.operations().ok_or(EIO)?;
        let ret = if weak {
            let op = ops.d_weak_revalidate.ok_or(EIO)?;
            // SAFETY: charter 1: the dentry is referenced, and the flags are those of a walk with references.
            unsafe { op(self.as_ptr(), flags.0) }
        } else {
            let op = ops.d_revalidate.ok_or(EIO)?;
            let parent = self.parent();
            let dir = parent.positive()?;
            let snapshot = NameSnapshot::take(self);
            let mut q = QStr::new(snapshot.as_bytes());
            // SAFETY: charter 1: dentry and directory are referenced, the name is a copy, and the flags are those of a walk
            // with references.
            unsafe { op(dir.as_ptr(), q.as_ptr(), self.as_ptr(), flags.0) }
        };
        if ret < 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(ret > 0)
    }

    /// Drops the dentry and what is below it from the dcache.
    pub(crate) fn invalidate(&self) {
        calls::d_invalidate(self)
    }

    /// Reads a symlink's target and passes it to `f`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what is no symlink, `ELOOP` for one of the kernel's own making; what the filesystem or `f` returns.
    pub(crate) fn with_link<R>(&self, f: impl FnOnce(&CStr) -> Result<R>) -> Result<R> {
        let mut done = bindings::delayed_call::default();
        let link = calls::vfs_get_link(self.as_plain_link()?, &mut done);
        let link = from_err_ptr(link.cast_mut())?;
        if link.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: the link is a C string until the delayed call is made.
        let ret = f(unsafe { CStr::from_char_ptr(link) });
        if let Some(call) = done.fn_ {
            // SAFETY: the filesystem asked for this call once the link is no longer used.
            unsafe { call(done.arg) };
        }
        ret
    }
}

impl<'a> Ref<'a, Dentry> {
    /// The parent as of now, for as long as this reference could be held.
    pub(crate) fn up(&self) -> Self {
        // SAFETY: a parent is on the same super block.
        unsafe { self.related(Dentry::parent) }
    }
}

/// How a path is walked (`LOOKUP_*`), with references: not in RCU-walk, where operations expect the lock of it.
#[derive(Clone, Copy)]
pub(crate) struct WalkFlags(u32);

impl WalkFlags {
    /// What an operation of ours was told; `None` in RCU-walk.
    pub(super) fn with_references(flags: u32) -> Option<Self> {
        (flags & bindings::ROVL_LOOKUP_RCU == 0).then_some(Self(flags))
    }
}

/// Both revalidation flags.
pub(crate) const REVALIDATE: u32 =
    bindings::ROVL_DCACHE_OP_REVALIDATE | bindings::ROVL_DCACHE_OP_WEAK_REVALIDATE;
/// `d_revalidate` alone.
pub(crate) const STRONG_REVALIDATE: u32 = bindings::ROVL_DCACHE_OP_REVALIDATE;
/// `d_weak_revalidate` alone.
pub(crate) const WEAK_REVALIDATE: u32 = bindings::ROVL_DCACHE_OP_WEAK_REVALIDATE;

impl Dentry {
    /// Runs `f` with the name as of now, which renames meanwhile do not change: a [`NameSnapshot`] that stays where it is.
    #[inline]
    pub(crate) fn with_name<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let mut snapshot = MaybeUninit::<bindings::name_snapshot>::uninit();
        let at = snapshot.as_mut_ptr();
        // SAFETY: charter 1 and 10: the dentry is referenced, the structure ours.
        unsafe { bindings::take_dentry_name_snapshot(at, self.as_ptr()) };
        // SAFETY: the call filled the structure, which stays as it is until the name is released.
        let result = f(unsafe {
            let len = (*at).name.__bindgen_anon_1.__bindgen_anon_1.len as usize;
            core::slice::from_raw_parts((*at).name.name, len)
        });
        // SAFETY: the structure was filled above, and is not used again.
        unsafe { bindings::release_dentry_name_snapshot(at) }
        result
    }
}

/// A copy of a dentry's name that renames do not change.
pub(crate) struct NameSnapshot {
    // A short name lies inside the structure, which moves: its address is taken anew on each access.
    inner: MaybeUninit<bindings::name_snapshot>,
    inline: bool,
    len: usize,
}

impl NameSnapshot {
    /// Copies the name as of now.
    pub(crate) fn take(dentry: &Dentry) -> Self {
        let mut inner = MaybeUninit::<bindings::name_snapshot>::uninit();
        let at = inner.as_mut_ptr();
        // SAFETY: charter 1 and 10: the dentry is referenced, the structure ours.
        unsafe { bindings::take_dentry_name_snapshot(at, dentry.as_ptr()) };
        // SAFETY: the call filled the structure.
        let (inline, len) = unsafe {
            (
                (*at).name.name == (&raw const (*at).inline_name).cast(),
                (*at).name.__bindgen_anon_1.__bindgen_anon_1.len as usize,
            )
        };
        Self { inner, inline, len }
    }

    /// The name's bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let at = self.inner.as_ptr();
        // SAFETY: the structure was filled by `take`; a short name is read where the structure lies
        // now, a long one where the referenced external name lies.
        unsafe {
            let name = if self.inline {
                (&raw const (*at).inline_name).cast()
            } else {
                (*at).name.name
            };
            core::slice::from_raw_parts(name, self.len)
        }
    }
}

impl Drop for NameSnapshot {
    fn drop(&mut self) {
        let at = self.inner.as_mut_ptr();
        // SAFETY: the structure was filled by `take`; the inline pointer is put right first, because
        // the release compares it.
        unsafe {
            if self.inline {
                (*at).name.name = (&raw const (*at).inline_name).cast();
            }
            bindings::release_dentry_name_snapshot(at)
        }
    }
}

/// A dentry of ours whose name and parent are stable (charter 5), in the task that sees to it.
pub(crate) struct Child<'a, F: FileSystem>(&'a OwnDentry<F>, NotThreadSafe);

impl<F: FileSystem> Clone for Child<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: FileSystem> Copy for Child<'_, F> {}

impl<'a, F: FileSystem> Child<'a, F> {
    /// # Safety
    ///
    /// Charter 1, 3 and 5 hold for `ptr` and `'a`.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::dentry) -> Self {
        // SAFETY: by the contract.
        Self(unsafe { OwnDentry::from_raw(ptr) }, NotThreadSafe)
    }

    /// The dentry.
    pub(crate) fn dentry(self) -> &'a OwnDentry<F> {
        self.0
    }

    /// The last component of its path.
    pub(crate) fn name(self) -> &'a [u8] {
        // SAFETY: charter 5: the name does not change during `'a`.
        unsafe {
            let q = &(*self.0.as_ptr()).__bindgen_anon_1.d_name;
            core::slice::from_raw_parts(q.name, q.__bindgen_anon_1.__bindgen_anon_1.len as usize)
        }
    }

    /// Makes a negative dentry positive with `inode`. Nothing where it is positive already, where `inode` is on another
    /// super block or a directory with a name, and in a lookup, which says what it found by its result: one that does this
    /// fails.
    pub(crate) fn instantiate(self, inode: Ref<'_, OwnInode<F>>) {
        if !calls::rovl_d_in_lookup(self.0) {
            // SAFETY: as was just seen it is not in lookup; charter 5: its parent's lock is held exclusively then, by the
            // task that the callback runs in, so nobody else makes it positive.
            unsafe { self.0.instantiate(inode) }
        }
    }

    /// The directory it is in.
    pub(crate) fn parent(self) -> &'a OwnDentry<F> {
        // SAFETY: charter 5 and 3: the parent is stable, referenced by the child and of our type.
        unsafe { OwnDentry::from_raw((*self.0.as_ptr()).d_parent) }
    }

    /// The directory's inode.
    pub(crate) fn dir(self) -> &'a OwnInode<F> {
        // SAFETY: charter 5: a parent is positive.
        unsafe { OwnInode::from_raw((*self.parent().as_ptr()).d_inode) }
    }
}

impl<F: FileSystem> core::ops::Deref for Child<'_, F> {
    type Target = OwnDentry<F>;
    fn deref(&self) -> &OwnDentry<F> {
        self.0
    }
}
