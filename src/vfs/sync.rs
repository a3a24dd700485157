// SPDX-License-Identifier: GPL-2.0

//! Flag words, set-once references, errors of a task and the per-inode operation lock.

use super::{calls, to_result};
use crate::bindings;
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    ffi::c_void,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed},
    types::{ForeignOwnable, Opaque},
};

/// A word of independent flags, a set of the type `S` (see [`kernel::impl_flags!`]), read and changed without a lock.
#[repr(transparent)]
pub(crate) struct Flags<S>(Atomic<u32>, PhantomData<fn(S)>);

impl<S: Into<u32>> Flags<S> {
    /// No flag set.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0), PhantomData)
    }

    /// Whether one of `flags` is set; what was written before it was set is visible then.
    #[inline]
    pub(crate) fn test(&self, flags: impl Into<S>) -> bool {
        self.0.load(Acquire) & flags.into().into() != 0
    }

    /// Sets `flags`.
    pub(crate) fn set(&self, flags: impl Into<S>) {
        let flags = flags.into().into();
        self.update(|word| word | flags);
    }

    /// Clears `flags`.
    pub(crate) fn clear(&self, flags: impl Into<S>) {
        let flags = flags.into().into();
        self.update(|word| word & !flags);
    }

    fn update(&self, f: impl Fn(u32) -> u32) {
        let mut old = self.0.load(Relaxed);
        while let Err(seen) = self.0.cmpxchg(old, f(old), Full) {
            old = seen;
        }
    }

    /// A flag word at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` is valid for `'a` and the word there is only accessed as flags of the set `S`.
    pub(super) unsafe fn at<'a>(ptr: *mut *mut kernel::ffi::c_void) -> &'a Self {
        // SAFETY: by the contract; a pointer has room for an atomic `u32` and is aligned for it; the type is transparent.
        unsafe { &*ptr.cast() }
    }
}

/// An error that a task leaves for a later call of its own. There is room for one: where several tasks leave one, the
/// last is kept.
pub(crate) struct OwnError(Atomic<u64>);

impl OwnError {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    fn task() -> u64 {
        // No task that makes calls has the number 0.
        u64::from(kernel::current!().pid().unsigned_abs()) << 32
    }

    /// Leaves `error` to the current task.
    pub(crate) fn leave(&self, error: Error) {
        let errno = u64::from(error.to_errno().unsigned_abs());
        self.0.store(Self::task() | errno, Relaxed);
    }

    /// The error that the current task left, once.
    pub(crate) fn take(&self) -> Result {
        let left = self.0.load(Relaxed);
        if left & !u64::from(u32::MAX) != Self::task() {
            return Ok(());
        }
        // Where that fails another task has left its own.
        let _ = self.0.cmpxchg(left, 0, Relaxed);
        Err(Error::from_errno((left as u32 as i32).wrapping_neg()))
    }
}

/// A counted reference that is set at most once and owned from then on; a word.
///
/// Not the kernel crate's `SetOnce`: whoever comes second finds the first one's value at once.
///
/// # Invariants
///
/// Null, or what `P::into_foreign()` returned for a value that this one owns.
///
/// # Examples
///
/// ```ignore
/// let file: Once<ARef<LayerFile>> = Once::new();
/// if file.get().is_none() {
///     // Where another task was quicker its file is used, and this one closed.
///     drop(file.set(open()?));
/// }
/// let file = file.get().ok_or(EIO)?;
/// ```
pub(crate) struct Once<P: ForeignOwnable>(Atomic<*mut c_void>, PhantomData<UnsafeCell<P>>);

// SAFETY: the value owns a `P` that is set once, atomically.
unsafe impl<P: ForeignOwnable + Send + Sync> Send for Once<P> {}
// SAFETY: as for `Send`; a `&Once` gives out what a `&P` does, and takes a `P`: of no other type than `P`, as an `UnsafeCell` does.
unsafe impl<P: ForeignOwnable + Send + Sync> Sync for Once<P> {}

impl<P: ForeignOwnable> Once<P> {
    /// Unset.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(ptr::null_mut()), PhantomData)
    }

    /// What is referenced, if set.
    #[inline]
    pub(crate) fn get(&self) -> Option<P::Borrowed<'_>> {
        let value = NonNull::new(self.0.load(Acquire))?;
        // SAFETY: by the type invariant the reference is ours until `self` is dropped.
        Some(unsafe { P::borrow(value.as_ptr()) })
    }

    /// Sets the reference.
    ///
    /// # Errors
    ///
    /// Gives `value` back where one was set before.
    pub(crate) fn set(&self, value: P) -> Result<(), P> {
        let new = value.into_foreign();
        match self.0.cmpxchg(ptr::null_mut(), new, Full) {
            Ok(_) => Ok(()),
            // SAFETY: the reference was not stored.
            Err(_) => Err(unsafe { P::from_foreign(new) }),
        }
    }
}

impl<P: ForeignOwnable> Drop for Once<P> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant the reference is ours; nobody else reads the value any more.
        drop(unsafe { P::try_from_foreign(self.0.load(Relaxed)) });
    }
}

/// The lock that serialises copy-up and link-count changes of one inode; lockdep knows it by the
/// stacking depth of its super block.
#[pin_data]
#[repr(transparent)]
pub(super) struct OpLock {
    #[pin]
    mutex: Opaque<bindings::mutex>,
}

// SAFETY: a mutex may be used from any thread.
unsafe impl Send for OpLock {}
// SAFETY: a mutex may be used from any thread.
unsafe impl Sync for OpLock {}

impl OpLock {
    /// An unlocked lock.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            mutex <- Opaque::ffi_init(|slot: *mut bindings::mutex| {
                // SAFETY: `slot` is valid, uninitialised memory for a mutex.
                unsafe { bindings::rovl_oplock_init(slot) }
            }),
        })
    }

    /// Puts the lock into the lockdep class of stacking depth `depth`; before its first use.
    pub(super) fn set_depth(&self, depth: i32) {
        calls::rovl_oplock_class(self, depth)
    }

    /// Takes the lock, which [`unlock`](Self::unlock) gives back; `EINTR` where a fatal signal came first.
    pub(super) fn lock_killable(&self) -> Result {
        to_result(calls::rovl_oplock_killable(self))
    }

    /// Takes the lock.
    pub(super) fn lock(&self) {
        calls::rovl_oplock_lock(self)
    }

    /// Gives the lock back.
    ///
    /// # Safety
    ///
    /// The current task holds it.
    pub(super) unsafe fn unlock(&self) {
        // SAFETY: by the contract.
        unsafe { bindings::mutex_unlock(self.mutex.get()) }
    }
}
