// SPDX-License-Identifier: GPL-2.0

//! Flag words, set-once references, errors of a task and the per-inode operation lock.

use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc, ArcBorrow,
    },
    types::Opaque,
};

/// A word of independent flags, read and changed without a lock.
pub(crate) struct Flags(Atomic<usize>);

impl Flags {
    /// No flag set.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Whether `flag` (a mask) is set; what was written before it was set is visible then.
    #[inline]
    pub(crate) fn test(&self, flag: usize) -> bool {
        self.0.load(Acquire) & flag != 0
    }

    /// Sets `flag`.
    pub(crate) fn set(&self, flag: usize) {
        self.update(|word| word | flag);
    }

    /// Clears `flag`.
    pub(crate) fn clear(&self, flag: usize) {
        self.update(|word| word & !flag);
    }

    fn update(&self, f: impl Fn(usize) -> usize) {
        let mut old = self.0.load(Relaxed);
        while let Err(seen) = self.0.cmpxchg(old, f(old), Full) {
            old = seen;
        }
    }

    /// A flag word at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` is valid for `'a` and the word there is only accessed as `Flags`.
    pub(super) unsafe fn at<'a>(ptr: *mut *mut kernel::ffi::c_void) -> &'a Self {
        // SAFETY: by the contract; a pointer and an atomic `usize` have one layout.
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

/// A reference that is set at most once and given back once, readable at any time in between.
///
/// After [`release`](Self::release) the pointer stays readable for RCU-walk (charter 6 and 7) but no
/// longer for others.
///
/// # Invariants
///
/// The word is 0, or a pointer whose reference this value owns, or, with bit 0 set, a pointer whose
/// reference was given back.
pub(crate) struct OnceRef<T: AlwaysRefCounted>(Atomic<usize>, PhantomData<ARef<T>>);

const RELEASED: usize = 1;

impl<T: AlwaysRefCounted> OnceRef<T> {
    /// Unset.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0), PhantomData)
    }

    /// Set to `value`.
    pub(crate) fn from_ref(value: ARef<T>) -> Self {
        Self(
            Atomic::new(ARef::into_raw(value).as_ptr() as usize),
            PhantomData,
        )
    }

    /// The referenced object, if set and not yet given back.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        let word = self.0.load(Acquire);
        if word & RELEASED != 0 {
            return None;
        }
        // SAFETY: by the type invariant the reference is ours; it is given back only by `release`,
        // which the owner of `self` calls when nobody but RCU-walk reads any more (charter 7).
        unsafe { (word as *const T).as_ref() }
    }

    /// The raw pointer for RCU-walk; may point to an object whose reference was given back.
    #[inline]
    pub(super) fn get_rcu(&self) -> *mut T {
        (self.0.load(Acquire) & !RELEASED) as *mut T
    }

    /// Sets the reference.
    ///
    /// # Errors
    ///
    /// Gives `value` back where one was set before.
    pub(crate) fn set(&self, value: ARef<T>) -> Result<(), ARef<T>> {
        let ptr = ARef::into_raw(value);
        match self.0.cmpxchg(0, ptr.as_ptr() as usize, Full) {
            Ok(_) => Ok(()),
            // SAFETY: the reference was not stored.
            Err(_) => Err(unsafe { ARef::from_raw(ptr) }),
        }
    }

    /// Gives the reference back; idempotent; may sleep.
    pub(crate) fn release(&self) {
        let word = self.0.load(Relaxed);
        if word & RELEASED != 0 {
            return;
        }
        if self.0.cmpxchg(word, word | RELEASED, Full).is_err() {
            return;
        }
        if let Some(ptr) = NonNull::new(word as *mut T) {
            // SAFETY: by the type invariant we own the reference, and the mark set just now keeps
            // it from being given back again.
            drop(unsafe { ARef::from_raw(ptr) });
        }
    }
}

impl<T: AlwaysRefCounted> Drop for OnceRef<T> {
    fn drop(&mut self) {
        self.release();
    }
}

/// An [`Arc`] that is set at most once; a word.
///
/// # Invariants
///
/// The word is 0 or a pointer that came from `Arc::into_raw`, whose reference this value owns.
pub(crate) struct OnceArc<T>(Atomic<usize>, PhantomData<Arc<T>>);

impl<T: Send + Sync> OnceArc<T> {
    /// Unset.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0), PhantomData)
    }

    /// The value, if set.
    #[inline]
    pub(crate) fn get(&self) -> Option<ArcBorrow<'_, T>> {
        match self.0.load(Acquire) {
            0 => None,
            // SAFETY: by the type invariant; the reference is given back by `drop` alone.
            word => Some(unsafe { ArcBorrow::from_raw(word as *const T) }),
        }
    }

    /// Sets the value, unless one is set.
    pub(crate) fn set(&self, value: Arc<T>) {
        let ptr = Arc::into_raw(value);
        if self.0.cmpxchg(0, ptr as usize, Full).is_err() {
            // SAFETY: the reference was not stored.
            drop(unsafe { Arc::from_raw(ptr) });
        }
    }
}

impl<T> Drop for OnceArc<T> {
    fn drop(&mut self) {
        let word = self.0.load(Relaxed);
        if word != 0 {
            // SAFETY: by the type invariant the reference is ours.
            drop(unsafe { Arc::from_raw(word as *const T) });
        }
    }
}

/// The lock that serialises copy-up and link-count changes of one inode; lockdep knows it by the
/// stacking depth of its super block.
#[pin_data]
pub(crate) struct OpLock {
    #[pin]
    mutex: Opaque<bindings::mutex>,
}

// SAFETY: a mutex may be used from any thread.
unsafe impl Send for OpLock {}
// SAFETY: a mutex may be used from any thread.
unsafe impl Sync for OpLock {}

impl OpLock {
    /// An unlocked lock.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            mutex <- Opaque::ffi_init(|slot: *mut bindings::mutex| {
                // SAFETY: `slot` is valid, uninitialised memory for a mutex.
                unsafe { bindings::rovl_oplock_init(slot) }
            }),
        })
    }

    /// Puts the lock into the lockdep class of stacking depth `depth`; before its first use.
    pub(crate) fn set_depth(&self, depth: i32) {
        // SAFETY: the mutex is initialised.
        unsafe { bindings::rovl_oplock_class(self.mutex.get(), depth) }
    }

    /// Takes the lock; `EINTR` where a fatal signal came first.
    pub(crate) fn lock_killable(&self) -> Result<OpGuard<'_>> {
        // SAFETY: the mutex is initialised.
        to_result(unsafe { bindings::rovl_oplock_killable(self.mutex.get()) })?;
        Ok(OpGuard(self))
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> OpGuard<'_> {
        // SAFETY: the mutex is initialised.
        unsafe { bindings::mutex_lock(self.mutex.get()) };
        OpGuard(self)
    }
}

/// The lock, held.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct OpGuard<'a>(&'a OpLock);

impl Drop for OpGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: the guard holds the mutex.
        unsafe { bindings::mutex_unlock(self.0.mutex.get()) }
    }
}
