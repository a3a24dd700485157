// SPDX-License-Identifier: GPL-2.0

//! Counted references to inodes and dentries, and the set-once cell that holds a path.
//!
//! A reference to an inode or a dentry does not keep its super block: whoever holds one must know that
//! somebody else does. [`Ref`] has that knowledge as its lifetime; [`Path`](super::Path), which outlives any, owns its mount.

use super::{
    mount::{Mount, Path, PathRef},
    Dentry,
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic},
};

/// An object that counts references.
///
/// # Safety
///
/// `inc` adds a reference, `dec` gives one back; both may be called from any task.
pub(crate) unsafe trait Counted {
    /// Adds a reference; there is one already.
    fn inc(&self);

    /// Gives a reference back; may sleep.
    ///
    /// # Safety
    ///
    /// The caller owns a reference, and the object's super block lives.
    unsafe fn dec(obj: NonNull<Self>);
}

/// A counted reference to an object whose super block lives for `'a` at least.
///
/// # Invariants
///
/// Owns a reference; the object's super block is kept for `'a` by somebody else.
pub(crate) struct Ref<'a, T: Counted>(NonNull<T>, PhantomData<&'a T>);

// SAFETY: references may be given back by any task, and `T` is shared by all holders.
unsafe impl<T: Counted + Send + Sync> Send for Ref<'_, T> {}
// SAFETY: a `&Ref` gives out `&T` and further references alone.
unsafe impl<T: Counted + Send + Sync> Sync for Ref<'_, T> {}

impl<'a, T: Counted> Ref<'a, T> {
    /// Takes a reference over.
    ///
    /// # Safety
    ///
    /// The caller gives a reference to `ptr` away, and the object's super block lives for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw(ptr: NonNull<T>) -> Self {
        // INVARIANT: by the contract.
        Self(ptr, PhantomData)
    }

    /// The reference that `f` takes from the object, for as long as this one's super block lives.
    ///
    /// # Safety
    ///
    /// What `f` returns is on the same super block.
    pub(super) unsafe fn related<U: Counted>(
        &self,
        f: impl for<'x> FnOnce(&'x T) -> Ref<'x, U>,
    ) -> Ref<'a, U> {
        // SAFETY: the reference is passed on; by the contract its super block is ours.
        unsafe { Ref::from_raw(f(self).into_raw()) }
    }

    /// Gives the reference to a C function that takes it over.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).0
    }
}

impl<'a, T: Counted> From<&'a T> for Ref<'a, T> {
    #[inline]
    fn from(obj: &'a T) -> Self {
        obj.inc();
        // INVARIANT: the reference was just taken; charter 1: what keeps `obj` for `'a` keeps its super block.
        Self(NonNull::from(obj), PhantomData)
    }
}

impl<T: Counted> Clone for Ref<'_, T> {
    fn clone(&self) -> Self {
        (**self).inc();
        // INVARIANT: the reference was just taken, and the lifetime is that of `self`.
        Self(self.0, PhantomData)
    }
}

impl<T: Counted> Deref for Ref<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by the type invariant the object is referenced while `self` is borrowed.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Counted> Drop for Ref<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by the type invariant the reference is ours and the super block lives.
        unsafe { T::dec(self.0) }
    }
}

/// A [`Path`] that is set at most once and can be read at any time.
///
/// # Invariants
///
/// Both words are null; or the mount is that of a path which is being set; or both are those of a path that was given to
/// [`set`](Self::set), whose references this value owns.
pub(super) struct OncePath {
    mnt: Atomic<*mut bindings::vfsmount>,
    dentry: Atomic<*mut bindings::dentry>,
}

impl OncePath {
    /// Unset.
    pub(super) const fn new() -> Self {
        Self {
            mnt: Atomic::new(ptr::null_mut()),
            dentry: Atomic::new(ptr::null_mut()),
        }
    }

    /// The dentry of the path, as an address to be read in RCU-walk; null where unset.
    #[inline]
    pub(super) fn dentry_rcu(&self) -> *mut bindings::dentry {
        self.dentry.load(ordering::Acquire)
    }

    /// The path.
    ///
    /// # Safety
    ///
    /// The references are not given back during `'a`.
    #[inline]
    pub(super) unsafe fn get<'a>(&self) -> Option<PathRef<'a>> {
        let dentry = self.dentry_rcu();
        if dentry.is_null() {
            return None;
        }
        let mnt = self.mnt.load(ordering::Relaxed);
        // SAFETY: by the type invariant and the contract the dentry is referenced for `'a`.
        let dentry = unsafe { Dentry::from_raw(dentry) };
        // SAFETY: by the type invariant the mount was stored before the dentry, which was seen; it is referenced, too.
        let mnt = unsafe { Mount::from_raw(mnt) };
        Some(PathRef::new(mnt, dentry))
    }

    /// Sets the path.
    ///
    /// # Errors
    ///
    /// Gives `path` back where one was set before.
    pub(super) fn set(&self, path: Path) -> Result<(), Path> {
        let (mnt, dentry) = path.into_raw();
        if self
            .mnt
            .cmpxchg(ptr::null_mut(), mnt.as_ptr(), ordering::Relaxed)
            .is_err()
        {
            // SAFETY: both references were just taken out of `path` and were not stored.
            return Err(unsafe { Path::from_raw(mnt, dentry) });
        }
        // INVARIANT: the mount was unset, so this is the one call that gets here.
        self.dentry.store(dentry.as_ptr(), ordering::Release);
        Ok(())
    }

    /// Takes the path out of a value that is not read any more but by RCU-walk: the words stay.
    ///
    /// # Safety
    ///
    /// Called once; nobody calls [`get`](Self::get) afterwards.
    pub(super) unsafe fn take(&self) -> Option<Path> {
        let dentry = NonNull::new(self.dentry_rcu())?;
        let mnt = NonNull::new(self.mnt.load(ordering::Relaxed))?;
        // SAFETY: by the type invariant the references are ours, and by the contract they are given up once.
        Some(unsafe { Path::from_raw(mnt, dentry) })
    }
}
