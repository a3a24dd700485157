// SPDX-License-Identifier: GPL-2.0

//! Values that are read by many without a lock and replaced as a whole.
//!
//! C header: `include/linux/rcupdate.h`. See `Documentation/RCU/rcuref.rst`: a reader finds the value and takes a reference
//! to it within an RCU section; memory whose last reference is gone is freed after a grace period.

use crate::bindings;
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        rcu, Refcount,
    },
    types::Opaque,
};

/// A value with what its memory needs to be freed.
struct Node<T> {
    /// The references; the value is dropped with the last of them.
    count: Refcount,
    rcu: Opaque<bindings::callback_head>,
    value: ManuallyDrop<T>,
}

/// A counted reference to a value that is or was [`Published`].
///
/// Not the kernel crate's `Arc`, of which no reference can be taken that might be the first after the last.
///
/// # Invariants
///
/// The pointer is to a node of `KBox`, of whose count one is ours.
pub(crate) struct Shared<T>(NonNull<Node<T>>);

// SAFETY: a reference gives out `&T`, and the last one drops the `T`, on any thread.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as for `Send`: a `&Shared<T>` gives out `&T`.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Moves `value` to the heap.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `value` is dropped then.
    pub(crate) fn new(value: T, flags: Flags) -> Result<Self> {
        let node = Node {
            count: Refcount::new(1),
            rcu: Opaque::uninit(),
            value: ManuallyDrop::new(value),
        };
        // INVARIANT: the count's one is ours.
        Ok(Self(NonNull::from(KBox::leak(KBox::new(node, flags)?))))
    }

    fn into_raw(self) -> *mut Node<T> {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    ///
    /// `node` is null or meets the type invariant, and the reference is passed on.
    unsafe fn from_raw(node: *mut Node<T>) -> Option<Self> {
        // INVARIANT: by the contract.
        NonNull::new(node).map(Self)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // SAFETY: by the type invariant the node lives.
        unsafe { &(*self.0.as_ptr()).count }.inc();
        // INVARIANT: that one is ours.
        Self(self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by the type invariant the value is not dropped as long as `self` lives.
        unsafe { &(*self.0.as_ptr()).value }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let node = self.0.as_ptr();
        // SAFETY: by the type invariant the node lives.
        if !unsafe { &(*node).count }.dec_and_test() {
            return;
        }
        // SAFETY: that was the last reference, and none is made from a count of zero: nobody else uses the value.
        unsafe { ManuallyDrop::drop(&mut (*node).value) };
        // SAFETY: the node was allocated by `kmalloc()` and nobody writes to it any more; those who read its count do so in
        // RCU sections.
        unsafe { bindings::kvfree_call_rcu((&raw mut (*node).rcu).cast(), node.cast()) };
    }
}

/// A place for a value, which may be empty; a word.
///
/// # Invariants
///
/// Null, or a pointer that meets the invariant of [`Shared`], whose reference is the place's.
///
/// # Examples
///
/// ```ignore
/// let names: Published<Names> = Published::new();
/// drop(names.replace(Some(Shared::new(learn()?, GFP_KERNEL)?)));
/// // Elsewhere, at the same time; `known` stays as it is whatever is published meanwhile.
/// let known = names.get();
/// ```
pub(crate) struct Published<T>(Atomic<*mut Node<T>>);

// SAFETY: the place is a `Shared<T>`, read and replaced atomically.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T> Published<T> {
    /// Empty.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(ptr::null_mut()))
    }

    /// The value that is there now.
    pub(crate) fn get(&self) -> Option<Shared<T>> {
        let _section = rcu::read_lock();
        let node = NonNull::new(self.0.load(Acquire))?;
        // SAFETY: by the type invariant the node was alive when it was found: it is freed a grace period after its last
        // reference is gone, and that of this place was there in this section.
        let count = unsafe { &(*node.as_ptr()).count }.as_atomic();
        let mut seen = count.load(Relaxed);
        // Neither from zero nor once it is saturated.
        while seen > 0 && seen < i32::MAX {
            match count.cmpxchg(seen, seen + 1, Relaxed) {
                // INVARIANT: that one is ours.
                Ok(_) => return Some(Shared(node)),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Puts `new` there; returns what was there.
    pub(crate) fn replace(&self, new: Option<Shared<T>>) -> Option<Shared<T>> {
        let new = new.map_or(ptr::null_mut(), Shared::into_raw);
        // SAFETY: by the type invariant, the reference of what was there is passed on.
        unsafe { Shared::from_raw(self.0.xchg(new, Full)) }
    }

    /// Puts `new` there where nothing is; gives it back where something is.
    pub(crate) fn set(&self, new: Shared<T>) -> Result<(), Shared<T>> {
        let new = ManuallyDrop::new(new);
        match self.0.cmpxchg(ptr::null_mut(), new.0.as_ptr(), Full) {
            // INVARIANT: the reference, which is not dropped, is the place's.
            Ok(_) => Ok(()),
            Err(_) => Err(ManuallyDrop::into_inner(new)),
        }
    }

    /// Takes `value` out; whether that was what is there. Of several who try, one does.
    pub(crate) fn take_if(&self, value: &Shared<T>) -> bool {
        match self.0.cmpxchg(value.0.as_ptr(), ptr::null_mut(), Full) {
            Ok(old) => {
                // SAFETY: by the type invariant, the reference of what was there is passed on.
                drop(unsafe { Shared::from_raw(old) });
                true
            }
            Err(_) => false,
        }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        drop(self.replace(None));
    }
}

#[kernel::macros::kunit_tests(rovl_published)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    struct Counting(Arc<Atomic<i32>>);

    impl Drop for Counting {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn value(drops: &Arc<Atomic<i32>>) -> Result<Shared<Counting>> {
        Shared::new(Counting(drops.clone()), GFP_KERNEL)
    }

    #[test]
    fn dropped_once_by_the_last() -> Result {
        let drops = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let place = Published::new();
        assert!(place.get().is_none());
        assert!(place.replace(Some(value(&drops)?)).is_none());
        let held = place.get().ok_or(EIO)?;
        // What is replaced stays with those who hold it.
        drop(place.replace(Some(value(&drops)?)));
        assert_eq!(drops.load(Relaxed), 0);
        assert!(Arc::ptr_eq(&(*held).0, &drops));
        drop(held);
        assert_eq!(drops.load(Relaxed), 1);
        drop(place);
        assert_eq!(drops.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn one_sets_and_one_takes() -> Result {
        let drops = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let place = Published::new();
        assert!(place.set(value(&drops)?).is_ok());
        assert!(place.set(value(&drops)?).is_err());
        assert_eq!(drops.load(Relaxed), 1);
        let held = place.get().ok_or(EIO)?;
        assert!(place.take_if(&held));
        assert!(!place.take_if(&held) && place.get().is_none());
        // Another one is there by now.
        assert!(place.set(value(&drops)?).is_ok());
        assert!(!place.take_if(&held) && place.get().is_some());
        drop(held);
        assert_eq!(drops.load(Relaxed), 2);
        drop(place);
        assert_eq!(drops.load(Relaxed), 3);
        Ok(())
    }
}
