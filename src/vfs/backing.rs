// SPDX-License-Identifier: GPL-2.0

//! The objects of other filesystems that stand behind an inode of a stacked filesystem.
//!
//! They live beside the filesystem's own data in what the inode cache allocates. Their references are given back when
//! the inode is evicted, by this layer: no code of the filesystem can do so too early, twice, or too late.
//! RCU-walk, which may still read an evicted inode, sees them through
//! [`RcuInode`](super::rcu::RcuInode) alone (charter 6 and 7).

use super::{
    mount::{Mount, Path, PathRef},
    Dentry,
};
use crate::bindings;
use core::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::{
    prelude::*,
    sync::atomic::{ordering, Atomic},
};

/// Where mount and dentry of a [`Path`] are.
pub(super) type Addresses = (NonNull<bindings::vfsmount>, NonNull<bindings::dentry>);

/// A [`Path`] that is set at most once and can be read at any time.
///
/// # Invariants
///
/// Both words are null; or the mount is that of a path which is being set; or both are those of a path that was given to
/// [`set`](Self::set), whose references this value owns.
struct OncePath {
    mnt: Atomic<*mut bindings::vfsmount>,
    dentry: Atomic<*mut bindings::dentry>,
}

impl OncePath {
    /// Unset.
    const fn new() -> Self {
        Self {
            mnt: Atomic::new(ptr::null_mut()),
            dentry: Atomic::new(ptr::null_mut()),
        }
    }

    /// The addresses of the path, `None` where unset: what RCU-walk sees of it.
    #[inline]
    fn addresses(&self) -> Option<Addresses> {
        let dentry = NonNull::new(self.dentry.load(ordering::Acquire))?;
        // By the type invariant the mount was stored before the dentry, which was seen.
        let mnt = NonNull::new(self.mnt.load(ordering::Relaxed))?;
        Some((mnt, dentry))
    }

    /// The path.
    ///
    /// # Safety
    ///
    /// The references are not given back during `'a`.
    #[inline]
    unsafe fn get<'a>(&self) -> Option<PathRef<'a>> {
        let (mnt, dentry) = self.addresses()?;
        // SAFETY: by the type invariant and the contract the dentry is referenced for `'a`.
        let dentry = unsafe { Dentry::from_raw(dentry.as_ptr()) };
        // SAFETY: as the dentry, the mount is referenced for `'a`.
        let mnt = unsafe { Mount::from_raw(mnt.as_ptr()) };
        Some(PathRef::new(mnt, dentry))
    }

    /// Sets the path.
    ///
    /// # Errors
    ///
    /// Gives `path` back where one was set before.
    fn set(&self, path: Path) -> Result<(), Path> {
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
    unsafe fn take(&self) -> Option<Path> {
        let (mnt, dentry) = self.addresses()?;
        // SAFETY: by the type invariant the references are ours, and by the contract they are given up once.
        Some(unsafe { Path::from_raw(mnt, dentry) })
    }
}

/// An object of a lower layer, and which layer that is.
///
/// # Invariants
///
/// The references of `path` are given back by `Drop`, or by [`Backing::release`] and then not again.
pub(crate) struct LowerPath {
    path: ManuallyDrop<Path>,
    /// The layer's number; what it means is the filesystem's.
    layer: u16,
}

impl LowerPath {
    /// The object at `path`, which is in layer `layer`.
    pub(crate) fn new(path: Path, layer: u16) -> Self {
        Self {
            path: ManuallyDrop::new(path),
            layer,
        }
    }

    /// Its path.
    #[inline]
    pub(crate) fn path(&self) -> PathRef<'_> {
        self.path.as_ref()
    }

    /// Its dentry.
    #[inline]
    pub(crate) fn dentry(&self) -> &Dentry {
        self.path().dentry()
    }

    /// The number of its layer.
    #[inline]
    pub(crate) fn layer(&self) -> u16 {
        self.layer
    }
}

impl Drop for LowerPath {
    fn drop(&mut self) {
        // SAFETY: by the type invariant the references are ours still; the field is not used again.
        unsafe { ManuallyDrop::drop(&mut self.path) }
    }
}

/// The lower objects of an inode, topmost first. One, the common case, needs no allocation.
pub(crate) enum Lowers {
    /// None.
    Empty,
    /// In one lower layer.
    One(LowerPath),
    /// A directory merged from several; boxed, for most inodes are not.
    Many(KBox<KVec<LowerPath>>),
}

impl Lowers {
    /// Takes the objects of `paths`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn from_vec(mut paths: KVec<LowerPath>) -> Result<Self> {
        if paths.len() > 1 {
            return Ok(Self::Many(KBox::new(paths, GFP_KERNEL_ACCOUNT)?));
        }
        Ok(match paths.pop() {
            Some(path) => Self::One(path),
            None => Self::Empty,
        })
    }

    /// The objects.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[LowerPath] {
        match self {
            Self::Empty => &[],
            Self::One(path) => core::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

/// What stands behind an inode: one object in the layer that can be written, set at most once, and those of lower
/// layers, which are fixed before others see the inode.
///
/// # Invariants
///
/// From [`release`](Self::release) on the references are not ours any more.
pub(super) struct Backing {
    upper: OncePath,
    lower: ManuallyDrop<Lowers>,
}

impl Backing {
    /// Nothing.
    pub(super) const fn new() -> Self {
        Self {
            upper: OncePath::new(),
            lower: ManuallyDrop::new(Lowers::Empty),
        }
    }

    /// The upper object.
    ///
    /// # Safety
    ///
    /// The inode is not evicted while `self` is borrowed.
    #[inline]
    pub(super) unsafe fn upper(&self) -> Option<PathRef<'_>> {
        // SAFETY: the contract is that of `get`.
        unsafe { self.upper.get() }
    }

    /// The lower objects.
    ///
    /// # Safety
    ///
    /// As for [`upper`](Self::upper).
    #[inline]
    pub(super) unsafe fn lowers(&self) -> &[LowerPath] {
        self.lower.as_slice()
    }

    /// The addresses of the upper and of the topmost lower object, to be read in RCU-walk.
    #[inline]
    pub(super) fn upper_rcu(&self) -> Option<Addresses> {
        self.upper.addresses()
    }

    /// See [`upper_rcu`](Self::upper_rcu).
    #[inline]
    pub(super) fn lower_rcu(&self) -> Option<Addresses> {
        Some(self.lower.as_slice().first()?.path.addresses())
    }

    /// Sets the upper object.
    ///
    /// # Errors
    ///
    /// Gives `path` back where one is set.
    pub(super) fn set_upper(&self, path: Path) -> Result<(), Path> {
        self.upper.set(path)
    }

    /// Sets the lower objects of an inode that has none yet.
    pub(super) fn set_lowers(&mut self, lowers: Lowers) {
        let old = core::mem::replace(&mut self.lower, ManuallyDrop::new(lowers));
        drop(ManuallyDrop::into_inner(old));
    }

    /// Gives all references back; may sleep. RCU-walk may still read the addresses.
    ///
    /// # Safety
    ///
    /// The inode is being evicted: called once, and nobody but RCU-walk reads any more.
    pub(super) unsafe fn release(&self) {
        // SAFETY: the contract is that of `take`.
        drop(unsafe { self.upper.take() });
        for lower in self.lower.as_slice() {
            // SAFETY: a bitwise copy of the one owner, which `free` does not drop: the references are given back once.
            drop(unsafe { ptr::read(&*lower.path) });
        }
    }

    /// Frees the memory, but gives no reference back.
    ///
    /// # Safety
    ///
    /// Called once, after [`release`](Self::release) and a grace period.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: the field is not used again.
        let lower = unsafe { ManuallyDrop::take(&mut self.lower) };
        match lower {
            Lowers::Empty => {}
            Lowers::One(path) => core::mem::forget(path),
            Lowers::Many(mut paths) => {
                while let Some(path) = paths.pop() {
                    core::mem::forget(path);
                }
            }
        }
    }
}
