// SPDX-License-Identifier: GPL-2.0

//! Caches of memory for one type, which takes as much as the type needs: `kmalloc()` rounds up.
//!
//! C header: `include/linux/slab.h`.

use super::callback::RawSuper;
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::{align_of, size_of, ManuallyDrop},
    ptr::NonNull,
};
use kernel::{ffi::c_void, prelude::*};

/// A cache of memory for values of type `T`.
///
/// Whoever drops it has waited until all that was allocated is freed.
///
/// # Invariants
///
/// Owns the cache, whose objects have room for a `T`.
pub(crate) struct SlabCache<T>(NonNull<bindings::kmem_cache>, PhantomData<fn(T) -> T>);

// SAFETY: C's cache has locks of its own.
unsafe impl<T> Send for SlabCache<T> {}
// SAFETY: as for `Send`.
unsafe impl<T> Sync for SlabCache<T> {}

impl<T> SlabCache<T> {
    /// A cache that is called `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: there is no constructor.
        unsafe { Self::with(name, pin_init::zeroed(), 0) }
    }

    /// The same with `flags` (`SLAB_*`), and with a constructor where `args` has one.
    ///
    /// # Safety
    ///
    /// The constructor can be called with memory for a `T`. What it makes of that is the same whenever the memory is freed, but for the
    /// word that `args` leaves to the cache then.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(super) unsafe fn with(
        name: &'static CStr,
        mut args: bindings::kmem_cache_args,
        flags: u32,
    ) -> Result<Self> {
        // Of nothing there is no cache.
        let size = u32::try_from(size_of::<T>().max(size_of::<usize>()))?;
        args.align = align_of::<T>() as u32;
        // SAFETY: name and arguments are valid for the call, which copies them; the constructor's text goes after the
        // cache.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(name.as_char_ptr(), size, &mut args, flags)
        };
        NonNull::new(cache)
            .map(|cache| Self(cache, PhantomData))
            .ok_or(ENOMEM)
    }

    /// Memory for an inode of `sb`; null where there is none.
    ///
    /// # Safety
    ///
    /// `sb` is a super block.
    #[inline]
    pub(super) unsafe fn alloc_inode(&self, sb: RawSuper) -> *mut c_void {
        // SAFETY: by the contract the super block lives; only the field's address is taken.
        let lru = unsafe { &raw mut (*sb).s_inode_lru };
        let flags = bindings::ROVL_GFP_KERNEL;
        // SAFETY: by the type invariant; the list is that of the super block, as for all inodes.
        unsafe { bindings::kmem_cache_alloc_lru_noprof(self.0.as_ptr(), lru, flags) }
    }

    /// A value that `init` makes in memory of the cache.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of `init`.
    #[inline]
    pub(crate) fn make<E>(&self, init: impl PinInit<T, E>) -> Result<SlabBox<T>>
    where
        Error: From<E>,
    {
        let flags = bindings::ROVL_GFP_KERNEL;
        // SAFETY: by the type invariant.
        let memory = unsafe { bindings::kmem_cache_alloc_noprof(self.0.as_ptr(), flags) };
        let memory = NonNull::new(memory.cast::<T>()).ok_or(ENOMEM)?;
        // SAFETY: by the type invariant there is room for the value, which stays where it is until it is dropped there.
        match unsafe { pin_init::raw_try_init(memory.as_ptr(), init) } {
            // INVARIANT: there is a value now.
            Ok(()) => Ok(SlabBox(memory)),
            Err(e) => {
                // SAFETY: the memory is ours, without a value.
                unsafe { bindings::kfree(memory.as_ptr().cast()) };
                Err(e.into())
            }
        }
    }
}

impl<T> Drop for SlabCache<T> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; whoever drops it has waited until all objects were freed.
        unsafe { bindings::kmem_cache_destroy(self.0.as_ptr()) }
    }
}

/// A value in memory of a [`SlabCache`], which it does not leave.
///
/// # Invariants
///
/// Owns the value and the memory that it is in.
pub(crate) struct SlabBox<T>(NonNull<T>);

// SAFETY: it is the value's owner.
unsafe impl<T: Send> Send for SlabBox<T> {}

impl<T> SlabBox<T> {
    /// Gives the value away.
    #[inline]
    pub(super) fn into_raw(self) -> *mut T {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// Takes it back.
    ///
    /// # Safety
    ///
    /// `ptr` is of [`into_raw`](Self::into_raw), and nobody uses the value but the caller.
    #[inline]
    pub(super) unsafe fn from_raw(ptr: *mut T) -> Self {
        // SAFETY: what was given away was not null.
        // INVARIANT: by the contract.
        Self(unsafe { NonNull::new_unchecked(ptr) })
    }
}

impl<T> Drop for SlabBox<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by the type invariant.
        unsafe { self.0.as_ptr().drop_in_place() };
        // SAFETY: by the type invariant; `kfree()` takes memory of any cache (Documentation/core-api/memory-allocation.rst).
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

#[kernel::macros::kunit_tests(rovl_slab)]
mod tests {
    use super::*;
    use kernel::sync::atomic::{Atomic, Relaxed};

    static DROPPED: Atomic<u32> = Atomic::new(0);

    struct Value([u8; 3]);

    impl Drop for Value {
        fn drop(&mut self) {
            let _ = DROPPED.fetch_add(u32::from(self.0[0]), Relaxed);
        }
    }

    /// Values are dropped once, and their memory given back: the end of a cache that lacks some is a warning.
    #[test]
    fn given_back() -> Result {
        let cache = SlabCache::<Value>::new(c"rovl_slab_test")?;
        let make = |number| cache.make(Ok::<_, Error>(Value([number, 0, 0])));
        let kept = make(1)?;
        drop(make(10)?);
        assert_eq!(DROPPED.load(Relaxed), 10);
        let kept = kept.into_raw();
        // SAFETY: it was given away just now.
        drop(unsafe { SlabBox::from_raw(kept) });
        assert_eq!(DROPPED.load(Relaxed), 11);
        let failed = cache.make(Err::<Value, _>(EIO));
        assert!(matches!(failed, Err(e) if e == EIO));
        assert_eq!(DROPPED.load(Relaxed), 11);
        Ok(())
    }
}
