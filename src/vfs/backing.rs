// SPDX-License-Identifier: GPL-2.0

//! The objects of other filesystems that stand behind an inode of a stacked filesystem, and the mounts that they are seen
//! through.
//!
//! They live beside the filesystem's own data in what the inode cache allocates. Their references are given back when
//! the inode is evicted, by this layer: no code of the filesystem can do so too early, twice, or too late.
//! RCU-walk, which may still read an evicted inode, sees them through
//! [`RcuInode`](super::rcu::RcuInode) alone (charter 6 and 7).
//!
//! A reference to a dentry does not keep its super block. Here the mounts do, which are kept beside the data of the super
//! block and given back after the last inode was evicted: an inode is given objects of these mounts alone.

use super::{
    mount::{Mount, PathRef, PrivateMount},
    refs::Ref,
    Dentry, SuperBlock,
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

/// The number of the layer that can be written; the lower ones count from 1, topmost first.
pub(crate) const UPPER: u16 = 0;

/// The private mounts of the layers; unmounted together when dropped.
#[derive(Default)]
pub(crate) struct LayerMounts {
    /// By the numbers of their layers: the first is upper's, if there is one.
    mounts: KVec<Option<PrivateMount>>,
    /// Upper's, which is asked for most.
    upper: Option<NonNull<bindings::vfsmount>>,
}

// SAFETY: the address is that of one of the mounts, which may be sent.
unsafe impl Send for LayerMounts {}
// SAFETY: the address is read alone, and stands for a `&Mount`.
unsafe impl Sync for LayerMounts {}

impl LayerMounts {
    /// Makes room for `more`; `ENOMEM`.
    pub(crate) fn reserve(&mut self, more: usize) -> Result {
        Ok(self.mounts.reserve(more + 1, GFP_KERNEL)?)
    }

    /// Adds a lower layer below those that are there; `EINVAL` where the kernel stacks no filesystem on it, `ENOMEM`.
    pub(crate) fn push_lower(&mut self, mnt: PrivateMount) -> Result<&Mount> {
        if self.mounts.is_empty() {
            self.mounts.push(None, GFP_KERNEL)?;
        }
        self.push(mnt)
    }

    /// Adds the layer that can be written, before any other; `EINVAL` after one; as [`push_lower`](Self::push_lower).
    pub(crate) fn push_upper(&mut self, mnt: PrivateMount) -> Result<&Mount> {
        if !self.mounts.is_empty() {
            return Err(EINVAL);
        }
        let address = mnt.address();
        self.push(mnt)?;
        self.upper = Some(address);
        self.upper().ok_or(ENOMEM)
    }

    /// How many stacked filesystems are in the layers, one below the other.
    pub(super) fn stack_depth(&self) -> i32 {
        let mounts = self.mounts.iter().flatten();
        let depths = mounts.map(|mnt| mnt.sb().stack_depth());
        depths.max().unwrap_or(0)
    }

    fn push(&mut self, mnt: PrivateMount) -> Result<&Mount> {
        if SuperBlock::too_deep(mnt.sb().stack_depth() + 1) {
            return Err(EINVAL);
        }
        self.mounts.push(Some(mnt), GFP_KERNEL)?;
        let last = self.mounts.last().and_then(Option::as_deref);
        last.ok_or(ENOMEM)
    }

    /// The mount of the layer that can be written.
    #[inline]
    pub(crate) fn upper(&self) -> Option<&Mount> {
        // SAFETY: it is one of the mounts, which stay as long as they are borrowed.
        Some(unsafe { Mount::from_raw(self.upper?.as_ptr()) })
    }

    /// As [`upper`](Self::upper), an address to be read in RCU-walk.
    #[inline]
    pub(super) fn upper_address(&self) -> Option<NonNull<bindings::vfsmount>> {
        self.upper
    }

    /// The mount of layer `layer`.
    #[inline]
    pub(crate) fn get(&self, layer: u16) -> Option<&Mount> {
        self.mounts.get(usize::from(layer))?.as_deref()
    }

    /// As [`get`](Self::get), an address to be read in RCU-walk.
    #[inline]
    pub(super) fn address(&self, layer: u16) -> Option<NonNull<bindings::vfsmount>> {
        let mnt = self.mounts.get(usize::from(layer))?.as_ref()?;
        Some(mnt.address())
    }

    /// Unmounts all, but leaves the memory, which RCU-walk may read.
    ///
    /// # Safety
    ///
    /// Called once; nobody but RCU-walk reads any more, and the value is not dropped but given to
    /// [`free`](Self::free).
    pub(super) unsafe fn unmount(&self) {
        // SAFETY: by the contract the mounts, which are owned, are given up once.
        unsafe { PrivateMount::unmount_array(&self.mounts) }
    }

    /// Frees the memory of unmounted layers.
    pub(super) fn free(this: Self) {
        // There is nothing to unmount: a call of `drop`, which would wait, is left out.
        let mut mounts = core::mem::take(&mut ManuallyDrop::new(this).mounts);
        while let Some(mnt) = mounts.pop() {
            core::mem::forget(mnt);
        }
    }
}

impl Drop for LayerMounts {
    fn drop(&mut self) {
        let mounts = core::mem::take(&mut self.mounts);
        if !mounts.is_empty() {
            PrivateMount::unmount_all(mounts);
        }
    }
}

/// An object of a layer: its dentry, and the number of the layer.
pub(crate) struct InLayer<'a> {
    dentry: Ref<'a, Dentry>,
    layer: u16,
}

impl<'a> InLayer<'a> {
    /// `dentry`, which is in layer `layer`.
    pub(crate) fn new(dentry: Ref<'a, Dentry>, layer: u16) -> Self {
        Self { dentry, layer }
    }

    /// It, as an object of layer `layer`.
    pub(crate) fn seen_in(self, layer: u16) -> Self {
        Self { layer, ..self }
    }

    /// The dentry.
    #[inline]
    pub(crate) fn dentry(&self) -> &Dentry {
        &self.dentry
    }

    /// The number of the layer.
    #[inline]
    pub(crate) fn layer(&self) -> u16 {
        self.layer
    }
}

/// Objects of lower layers, topmost first. One, the common case, needs no allocation.
#[derive(Default)]
pub(crate) enum Lowers<'a> {
    /// None.
    #[default]
    Empty,
    /// In one lower layer.
    One(InLayer<'a>),
    /// A directory merged from several; boxed, for most inodes are not.
    Many(KBox<KVec<InLayer<'a>>>),
}

impl<'a> Lowers<'a> {
    /// Adds one below those that are there; `more` may follow.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(crate) fn push(&mut self, one: InLayer<'a>, more: usize) -> Result {
        match self {
            Self::Empty => *self = Self::One(one),
            Self::One(_) => self.push_second(one, more)?,
            Self::Many(all) => all.push(one, GFP_KERNEL)?,
        }
        Ok(())
    }

    fn push_second(&mut self, second: InLayer<'a>, more: usize) -> Result {
        // Of many layers few have a directory.
        let mut all = KVec::with_capacity(2 + more.min(2), GFP_KERNEL)?;
        if let Self::One(first) = core::mem::take(self) {
            all.push(first, GFP_KERNEL)?;
        }
        all.push(second, GFP_KERNEL)?;
        *self = Self::Many(KBox::new(all, GFP_KERNEL_ACCOUNT)?);
        Ok(())
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The objects.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[InLayer<'a>] {
        match self {
            Self::Empty => &[],
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

/// What stands behind an inode: one object in the layer that can be written, set at most once, and those of lower
/// layers, which are fixed before others see the inode.
///
/// # Invariants
///
/// `upper` is null or a dentry whose reference is ours; so are those of `lower`, until [`release`](Self::release). All are on
/// the super blocks of the mounts that the inode's super block keeps.
pub(super) struct Backing {
    upper: Atomic<*mut Dentry>,
    lower: ManuallyDrop<Lowers<'static>>,
}

impl Backing {
    /// Nothing.
    pub(super) const fn new() -> Self {
        Self {
            upper: Atomic::new(ptr::null_mut()),
            lower: ManuallyDrop::new(Lowers::Empty),
        }
    }

    /// The upper object.
    ///
    /// # Safety
    ///
    /// The inode is not evicted while `self` is borrowed.
    #[inline]
    pub(super) unsafe fn upper(&self) -> Option<&Dentry> {
        // SAFETY: by the type invariant and the contract it is null or referenced.
        unsafe { self.upper.load(ordering::Acquire).as_ref() }
    }

    /// The lower objects.
    ///
    /// # Safety
    ///
    /// As for [`upper`](Self::upper).
    #[inline]
    pub(super) unsafe fn lowers(&self) -> &[InLayer<'_>] {
        self.lower.as_slice()
    }

    /// The dentry of the upper object, as an address to be read in RCU-walk.
    #[inline]
    pub(super) fn upper_rcu(&self) -> Option<NonNull<bindings::dentry>> {
        NonNull::new(self.upper.load(ordering::Acquire).cast())
    }

    /// The dentry of the upper object, of an inode that may still be in the making.
    ///
    /// # Safety
    ///
    /// `this` is the backing of an inode that is not destroyed before the call returns.
    pub(super) unsafe fn upper_of(this: *const Self) -> Option<NonNull<bindings::dentry>> {
        // SAFETY: by the contract the memory lives; whoever makes the inode has the other field for himself alone.
        let upper = unsafe { &(*this).upper };
        NonNull::new(upper.load(ordering::Acquire).cast())
    }

    /// The dentry of the topmost lower object, as an address to be read in RCU-walk, and its layer.
    #[inline]
    pub(super) fn lower_rcu(&self) -> Option<(NonNull<bindings::dentry>, u16)> {
        let lower = self.lower.as_slice().first()?;
        Some((lower.dentry.address().cast(), lower.layer))
    }

    /// Sets the upper object.
    ///
    /// # Errors
    ///
    /// `EXDEV` where it is not on the mount of the layer that `mounts` has, `EIO` where one is set.
    ///
    /// # Safety
    ///
    /// `mounts` are those that the inode's super block keeps until the inode was evicted.
    pub(super) unsafe fn set_upper(&self, dentry: Ref<'_, Dentry>, mounts: &LayerMounts) -> Result {
        mounts.upper().ok_or(EXDEV)?.path(&dentry)?;
        let raw = dentry.into_raw();
        let set = self
            .upper
            .cmpxchg(ptr::null_mut(), raw.as_ptr(), ordering::Full);
        if set.is_err() {
            // SAFETY: the reference was not stored; the mounts keep the super block.
            drop(unsafe { Ref::from_raw(raw) });
            return Err(EIO);
        }
        // INVARIANT: the reference was given to us; the super block was looked at.
        Ok(())
    }

    /// Sets the lower objects of an inode that has none yet.
    ///
    /// # Errors
    ///
    /// `EXDEV` where one is not on the mount of its layer that `mounts` has.
    ///
    /// # Safety
    ///
    /// As for [`set_upper`](Self::set_upper); `this` is that of an inode that nobody else uses.
    pub(super) unsafe fn set_lowers(
        this: *mut Self,
        lowers: Lowers<'_>,
        mounts: &LayerMounts,
    ) -> Result {
        for lower in lowers.as_slice() {
            check(mounts, lower.layer, &lower.dentry)?;
        }
        // SAFETY: two lifetimes of one type. By the contract the mounts keep the super blocks of the dentries, which were
        // looked at, until the references are given back.
        let lowers = unsafe { core::mem::transmute::<Lowers<'_>, Lowers<'static>>(lowers) };
        // SAFETY: by the contract nobody else uses the field.
        let all = unsafe { &mut (*this).lower };
        // INVARIANT: the references are ours by now.
        let old = core::mem::replace(all, ManuallyDrop::new(lowers));
        drop(ManuallyDrop::into_inner(old));
        Ok(())
    }

    /// Gives all references back; may sleep. RCU-walk may still read the addresses.
    ///
    /// # Safety
    ///
    /// The inode is being evicted: called once, and nobody but RCU-walk reads any more.
    pub(super) unsafe fn release(&self) {
        if let Some(upper) = NonNull::new(self.upper.load(ordering::Relaxed)) {
            // SAFETY: by the type invariant the reference is ours, and given back once.
            drop(unsafe { Ref::from_raw(upper) });
        }
        for lower in self.lower.as_slice() {
            // SAFETY: a bitwise copy of the one owner, which `free` does not drop: the reference is given back once.
            drop(unsafe { ptr::read(&lower.dentry) });
        }
    }

    /// Frees the memory, but gives no reference back.
    ///
    /// # Safety
    ///
    /// Called once, after [`release`](Self::release) and a grace period.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: the field is not used again.
        match unsafe { ManuallyDrop::take(&mut self.lower) } {
            Lowers::Empty => {}
            Lowers::One(one) => core::mem::forget(one),
            Lowers::Many(mut all) => {
                while let Some(one) = all.pop() {
                    core::mem::forget(one);
                }
            }
        }
    }
}

/// That `dentry` is on the mount of layer `layer`.
fn check(mounts: &LayerMounts, layer: u16, dentry: &Dentry) -> Result {
    mounts.get(layer).ok_or(EXDEV)?.path(dentry).map(|_| ())
}

/// An object behind an inode in a lower layer.
#[derive(Clone, Copy)]
pub(crate) struct LowerPath<'a> {
    path: PathRef<'a>,
    layer: u16,
}

impl<'a> LowerPath<'a> {
    /// Its path.
    #[inline]
    pub(crate) fn path(self) -> PathRef<'a> {
        self.path
    }

    /// Its dentry.
    #[inline]
    pub(crate) fn dentry(self) -> &'a Dentry {
        self.path.dentry()
    }

    /// The number of its layer.
    #[inline]
    pub(crate) fn layer(self) -> u16 {
        self.layer
    }
}

/// The objects behind an inode in lower layers, topmost first.
///
/// # Invariants
///
/// Each is on the super block of its layer's mount.
#[derive(Clone, Copy)]
pub(crate) struct LowerPaths<'a> {
    all: &'a [InLayer<'a>],
    mounts: &'a LayerMounts,
}

impl<'a> LowerPaths<'a> {
    /// # Safety
    ///
    /// Each dentry is on the super block of the mount that `mounts` has for its layer.
    #[inline]
    pub(super) unsafe fn new(all: &'a [InLayer<'a>], mounts: &'a LayerMounts) -> Self {
        // INVARIANT: by the contract.
        Self { all, mounts }
    }

    #[inline]
    fn path(self, one: &'a InLayer<'a>) -> Option<LowerPath<'a>> {
        let mnt = self.mounts.get(one.layer)?;
        Some(LowerPath {
            // SAFETY: by the type invariant.
            path: unsafe { PathRef::new(mnt, &one.dentry) },
            layer: one.layer,
        })
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.all.is_empty()
    }

    /// That at position `index`.
    #[inline]
    pub(crate) fn get(self, index: usize) -> Option<LowerPath<'a>> {
        self.path(self.all.get(index)?)
    }

    /// The topmost.
    #[inline]
    pub(crate) fn first(self) -> Option<LowerPath<'a>> {
        self.path(self.all.first()?)
    }

    /// The lowest.
    #[inline]
    pub(crate) fn last(self) -> Option<LowerPath<'a>> {
        self.path(self.all.last()?)
    }

    /// How many are not below layer `layer`.
    #[inline]
    pub(crate) fn down_to(self, layer: u16) -> usize {
        match layer {
            UPPER => 0,
            _ => self.all.partition_point(|one| one.layer <= layer),
        }
    }

    /// All, for those that need no mounts.
    #[inline]
    pub(crate) fn as_slice(self) -> &'a [InLayer<'a>] {
        self.all
    }

    /// All.
    #[inline]
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = LowerPath<'a>> {
        self.all.iter().filter_map(move |one| self.path(one))
    }
}
