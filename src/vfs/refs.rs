// SPDX-License-Identifier: GPL-2.0

//! Counted references to inodes and dentries.
//!
//! A reference to an inode or a dentry does not keep its super block: whoever holds one must know that
//! somebody else does. [`Ref`] has that knowledge as its lifetime; [`Path`](super::Path), which outlives any, owns its mount.

use core::{marker::PhantomData, mem::ManuallyDrop, ops::Deref, ptr::NonNull};

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
///
/// # Examples
///
/// ```ignore
/// let found: Ref<'_, Dentry> = dir.lookup(&mnt, b"etc")?; // no longer than `mnt`
/// let parent = found.up();
/// ```
#[repr(transparent)]
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

    /// The reference, for as long as somebody else keeps the super block.
    ///
    /// # Safety
    ///
    /// The object's super block lives for `'b`.
    #[inline]
    pub(super) unsafe fn kept_for<'b>(self) -> Ref<'b, T> {
        // SAFETY: the reference is passed on; the rest is the contract.
        unsafe { Ref::from_raw(self.into_raw()) }
    }

    /// Where the object is.
    #[inline]
    pub(super) fn address(&self) -> NonNull<T> {
        self.0
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
