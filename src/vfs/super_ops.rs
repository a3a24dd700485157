// SPDX-License-Identifier: GPL-2.0

//! The operations of super blocks and dentries of ours, and the data of a super block.

use super::{
    backing::LayerMounts,
    callback::{c_callback, c_table, FromC, RawDentry, RawInode, RawSuper},
    calls,
    context::{FsContext, Private},
    dentry::{LookupName, NameSnapshot, WalkFlags},
    fs::FileSystem,
    own::{InodeBox, OwnDentry, OwnSuper},
    rcu::RcuError,
    registration::Registration,
    super_block::NewSuper,
    writeback::{self, Left},
    Dentry,
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::{cred::Credential, ffi::c_long, prelude::*, seq_file::SeqFile, sync::aref::ARef};

/// The super block operations of `F`.
pub(super) struct SuperTable<F>(PhantomData<F>);

impl<F: FileSystem> SuperTable<F> {
    c_table! {
        pub(super) const TABLE: bindings::super_operations = {
            alloc_inode: Some(Self::alloc_inode),
            destroy_inode: Some(Self::destroy_inode),
            free_inode: Some(Self::free_inode),
            drop_inode: Some(Self::drop_inode),
            put_super: Some(Self::put_super),
        };

        fn sync_fs(sb: RawSuper, wait: i32) -> i32
            => Self::sync(sb, wait);
        fn statfs(d: RawDentry, buf: *mut kernel::bindings::kstatfs) -> i32
            => Self::sizes(d, buf);
        fn show_options(out: *mut bindings::seq_file, root: RawDentry) -> i32
            => Self::options(root, out);
        fn nr_cached_objects(sb: RawSuper, control: *mut bindings::shrink_control) -> c_long
            => Self::count_objects(sb, control);
        fn free_cached_objects(sb: RawSuper, control: *mut bindings::shrink_control) -> c_long
            => Self::free_objects(sb, control);
    }

    c_table! {
        pub(super) const DENTRY: bindings::dentry_operations = {};

        fn d_real(d: RawDentry, kind: bindings::d_real_type) -> RawDentry
            => Self::real(d, kind);
        fn d_revalidate(
            _dir: RawInode,
            name: *const bindings::qstr,
            d: RawDentry,
            flags: u32,
        ) -> i32
            => Self::revalidate(name, d, flags);
        fn d_weak_revalidate(d: RawDentry, flags: u32) -> i32
            => Self::weak_revalidate(d, flags);
    }

    /// As [`DENTRY`](Self::DENTRY), of a super block some of whose directories fold case.
    pub(super) const FOLDING: bindings::dentry_operations = bindings::dentry_operations {
        #[cfg(CONFIG_UNICODE)]
        d_hash: Some(bindings::generic_ci_d_hash),
        #[cfg(CONFIG_UNICODE)]
        d_compare: Some(bindings::generic_ci_d_compare),
        ..Self::DENTRY
    };

    /// # Safety
    ///
    /// `sb` is a super block of `F`.
    unsafe extern "C" fn alloc_inode(sb: RawSuper) -> RawInode {
        // SAFETY: the super block is one of `F`, and the VFS keeps it for the call.
        let cache = unsafe { Registration::<F>::inodes(sb) };
        // SAFETY: the VFS keeps the super block for the call.
        let object = unsafe { cache.alloc_inode(sb) };
        let Some(object) = NonNull::new(object.cast::<InodeBox<F>>()) else {
            return ptr::null_mut();
        };
        // SAFETY: the object is memory for an `InodeBox`, whose inode the cache's constructor initialised.
        unsafe { InodeBox::init(object) }
    }

    /// Nothing is kept that nobody references: what it is made of is in the caches of the layers.
    ///
    /// # Safety
    ///
    /// `inode` is one of `F`, whose `i_lock` is held.
    unsafe extern "C" fn drop_inode(inode: RawInode) -> i32 {
        // SAFETY: charter 3, and by the contract; an inode of a super block without data was never filled.
        unsafe { writeback::dropped::<F>(inode) };
        1
    }

    /// # Safety
    ///
    /// `inode` is one of `F` that is being evicted.
    unsafe extern "C" fn destroy_inode(inode: RawInode) {
        // SAFETY: charter 3, and by the contract; an inode of a super block without data was never filled.
        unsafe { writeback::destroyed::<F>(inode) };
        // SAFETY: charter 3 and 7: by the contract nobody but RCU-walk reads it; this is called once.
        unsafe { InodeBox::<F>::release(inode) };
    }

    /// # Safety
    ///
    /// `inode` is one of `F` that was destroyed, a grace period ago.
    unsafe extern "C" fn free_inode(inode: RawInode) {
        // SAFETY: charter 7: by the contract not even RCU-walk uses the inode, which `alloc_inode` made.
        let object = unsafe { InodeBox::<F>::free(inode) };
        // SAFETY: it came from a slab cache; nobody uses it. (Its super block may be gone, and the way to the cache with it.)
        unsafe { bindings::kfree(object) };
    }

    /// # Safety
    ///
    /// `sb` is a super block of `F` whose inodes are gone, but those that its data references.
    unsafe extern "C" fn put_super(sb: RawSuper) {
        // SAFETY: charter 4: by the contract nobody but RCU-walk uses the data; this is called once.
        unsafe { drop_data::<F>(sb) }
    }

    fn sync(sb: &OwnSuper<F>, wait: bool) -> Result {
        if !wait {
            return Ok(());
        }
        F::sync(sb)
    }

    fn sizes(dentry: &OwnDentry<F>, buf: Out<'_, bindings::kstatfs>) -> Result {
        buf.put(F::statfs(dentry)?.into_raw());
        Ok(())
    }

    fn options(root: &OwnDentry<F>, out: &SeqFile) {
        root.fs().show_options(out);
    }

    fn count_objects(sb: &OwnSuper<F>, shrink: Shrink<'_>) -> usize {
        if shrink.is_global() {
            sb.fs().cached_objects().saturating_add(sb.left().len())
        } else {
            0
        }
    }

    fn free_objects(sb: &OwnSuper<F>, shrink: Shrink<'_>) -> usize {
        /// So many at once, so that others are not kept waiting.
        const BATCH: usize = 128;

        let wanted = if shrink.is_global() {
            shrink.wanted()
        } else {
            0
        };
        let mut freed = sb.left().shrink(wanted);
        while freed < wanted {
            match sb.fs().free_cached_objects(BATCH.min(wanted - freed)) {
                0 => break,
                some => freed = some.saturating_add(freed),
            }
            calls::rovl_cond_resched();
        }
        freed
    }

    fn real(dentry: &OwnDentry<F>, kind: bindings::d_real_type) -> RawDentry {
        if !dentry.is_reg() {
            return dentry.as_ptr();
        }
        let real = F::real(dentry, kind == bindings::d_real_type_D_REAL_METADATA);
        // Callers look at the inode. One of ours would be asked for its own, and so on.
        let fits = |real: &&Dentry| real.inode().is_some() && real.sb() != dentry.sb();
        let Some(real) = real.filter(fits) else {
            return dentry.as_ptr();
        };
        match real.operations().and_then(|ops| ops.d_real) {
            // SAFETY: charter 1: `real` is referenced as long as `dentry` is; the kind is one that the VFS passed.
            Some(op) => unsafe { op(real.as_ptr(), kind) },
            None => real.as_ptr(),
        }
    }

    fn revalidate(
        name: LookupName<'_>,
        dentry: &OwnDentry<F>,
        flags: u32,
    ) -> Result<bool, RcuError> {
        if dentry.is_missing() {
            return Self::revalidate_missing(name, dentry, flags);
        }
        Self::do_revalidate(dentry, flags, false)
    }

    /// A name that was not there. It was looked up in a directory that folds case, or would not be asked about here: what is
    /// created now gets the name that its creator gave it, not that of an earlier lookup.
    fn revalidate_missing(
        name: LookupName<'_>,
        dentry: &OwnDentry<F>,
        flags: u32,
    ) -> Result<bool, RcuError> {
        if flags & (bindings::ROVL_LOOKUP_CREATE | bindings::ROVL_LOOKUP_RENAME_TARGET) == 0 {
            return Ok(true);
        }
        if flags & bindings::ROVL_LOOKUP_RCU != 0 {
            return Err(RcuError::WouldBlock);
        }
        Ok(NameSnapshot::take(dentry).as_bytes() == name.as_bytes())
    }

    fn weak_revalidate(dentry: &OwnDentry<F>, flags: u32) -> Result<bool, RcuError> {
        Self::do_revalidate(dentry, flags, true)
    }

    fn do_revalidate(dentry: &OwnDentry<F>, flags: u32, weak: bool) -> Result<bool, RcuError> {
        // Layers that revalidate (remote ones) may have to ask a server.
        let flags = WalkFlags::with_references(flags).ok_or(RcuError::WouldBlock)?;
        Ok(F::revalidate(dentry, flags, weak)?)
    }
}

/// A structure that a callback fills.
pub(super) struct Out<'a, T>(*mut T, PhantomData<&'a mut T>);

impl<T> Out<'_, T> {
    /// # Safety
    ///
    /// `at` is memory for a `T`, of the callback alone.
    pub(super) unsafe fn from_raw(at: *mut T) -> Self {
        Self(at, PhantomData)
    }

    fn put(self, value: T) {
        // SAFETY: by the contract of `from_raw`.
        unsafe { self.0.write(value) }
    }
}

/// What a shrinker is asked for.
pub(super) struct Shrink<'a>(&'a bindings::shrink_control);

impl Shrink<'_> {
    /// # Safety
    ///
    /// The argument of a callback, used during the callback alone.
    pub(super) unsafe fn from_raw(control: *mut bindings::shrink_control) -> Self {
        // SAFETY: by the contract: the caller waits for the callback, and nobody else knows the structure.
        Self(unsafe { &*control })
    }

    /// Whether the whole machine is short of memory. What a filesystem caches is not counted by cgroup: one that is
    /// at its limit would have that of others freed, over and over, and gain nothing.
    fn is_global(&self) -> bool {
        calls::rovl_shrink_is_global(self.0)
    }

    /// How many objects are to be freed.
    fn wanted(&self) -> usize {
        self.0.nr_to_scan
    }
}

/// The data of a super block (charter 4), and what RCU-walk reads of it.
#[pin_data]
#[repr(C)]
pub(super) struct SuperBox<F> {
    /// First, so that `s_fs_info` points to it.
    #[pin]
    pub(super) data: F,
    /// `F::creds()`, which outlives `data` by a grace period.
    pub(super) creds: Option<ARef<Credential>>,
    /// What inodes that are gone have left; given back after `data` and before the mounts.
    #[pin]
    left: Left,
    /// The mounts that the inodes' references depend on; unmounted after `data`, the memory outlives it by a grace period.
    mounts: ManuallyDrop<LayerMounts>,
    rcu: bindings::callback_head,
}

impl<F: FileSystem> SuperBox<F> {
    /// A box around `data` and the mounts of its layers, without credentials yet.
    pub(super) fn new(
        data: impl PinInit<F>,
        mounts: LayerMounts,
        writes_back_apart: bool,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            data <- data,
            creds: None,
            left <- Left::new(writes_back_apart),
            mounts: ManuallyDrop::new(mounts),
            rcu: bindings::callback_head::default(),
        })
    }

    /// Makes `this` the data of `sb`.
    ///
    /// # Safety
    ///
    /// `sb` is a super block of `F` that is being filled and has no data yet.
    pub(super) unsafe fn install(this: Pin<KBox<Self>>, sb: *mut bindings::super_block) {
        // SAFETY: the box stays where it is until it is freed (charter 4).
        let this = KBox::into_raw(unsafe { Pin::into_inner_unchecked(this) });
        // SAFETY: the box is ours, and nobody else reads it yet.
        let creds = unsafe { (*this).data.creds().into() };
        // SAFETY: the box is ours, and nobody else reads it yet.
        unsafe { (*this).creds = Some(creds) };
        // SAFETY: by the contract nobody reads the field yet.
        unsafe { (*sb).s_fs_info = this.cast() };
    }

    /// The data of `sb`.
    ///
    /// # Safety
    ///
    /// Charter 4: `sb` is a super block of `F` with data, which stays for `'a`.
    #[inline]
    pub(super) unsafe fn data_of<'a>(sb: *const bindings::super_block) -> &'a F {
        // SAFETY: by the contract; the data is the first field of the box.
        unsafe { &*(*sb).s_fs_info.cast() }
    }

    /// What inodes of `sb` that are gone have left.
    ///
    /// # Safety
    ///
    /// As for [`data_of`](Self::data_of).
    #[inline]
    pub(super) unsafe fn left_of<'a>(sb: *const bindings::super_block) -> &'a Left {
        // SAFETY: by the contract the box lives.
        unsafe { &(*(*sb).s_fs_info.cast::<Self>()).left }
    }

    /// The mounts of the layers of `sb`.
    ///
    /// # Safety
    ///
    /// As for [`data_of`](Self::data_of), or charter 6 and RCU-walk that lasts for `'a`.
    #[inline]
    pub(super) unsafe fn mounts_of<'a>(sb: *const bindings::super_block) -> &'a LayerMounts {
        // SAFETY: by the contract the box lives: it is freed after a grace period.
        unsafe { &(*(*sb).s_fs_info.cast::<Self>()).mounts }
    }

    /// The credentials that layers are used with, in RCU-walk.
    ///
    /// # Safety
    ///
    /// Charter 6: `sb` is a super block of `F` with data, seen in RCU-walk, which lasts for `'a`.
    #[inline]
    pub(super) unsafe fn creds_rcu<'a>(sb: *const bindings::super_block) -> Option<&'a Credential> {
        // SAFETY: charter 4 and 6: the box is freed after a grace period.
        let this = unsafe { (*sb).s_fs_info.cast::<Self>() };
        // SAFETY: charter 4 and 6: the box is freed after a grace period; the field was set before the first inode was made.
        unsafe { (*this).creds.as_deref() }
    }
}

/// # Safety
///
/// `head` is that of a `SuperBox<F>` whose `data` was dropped, a grace period ago.
unsafe extern "C" fn free_super_box<F>(head: *mut bindings::callback_head) {
    // SAFETY: by the contract `head` is inside such a box.
    let data = unsafe { kernel::container_of!(head, SuperBox<F>, rcu) };
    // SAFETY: by the contract nobody reads the credentials any more.
    unsafe { (*data).creds = None };
    // SAFETY: by the contract nobody reads the mounts any more, which were unmounted.
    LayerMounts::free(unsafe { ManuallyDrop::take(&mut (*data).mounts) });
    // SAFETY: the box that `set_data` gave away; all in it was dropped.
    drop(unsafe { KBox::from_raw(data.cast::<ManuallyDrop<SuperBox<F>>>()) });
}

/// Drops the super block's data.
///
/// # Safety
///
/// `sb` is a super block of `F` whose data nobody but RCU-walk uses any more; called once.
unsafe fn drop_data<F: FileSystem>(sb: RawSuper) {
    // SAFETY: charter 4: the super block lives, and only `fill_super` and this callback change the pointer.
    let Some(data) = NonNull::new(unsafe { (*sb).s_fs_info.cast::<SuperBox<F>>() }) else {
        return;
    };
    let data = data.as_ptr();
    // SAFETY: by the contract and charter 4: nobody uses it, and nobody drops it again.
    unsafe { ptr::drop_in_place(&raw mut (*data).data) };
    // SAFETY: charter 4: the box lives; no inode is left that could leave anything.
    unsafe { (*data).left.clear() };
    // SAFETY: by the contract the inodes, which the mounts were kept for, are gone; `free_super_box` frees the memory.
    unsafe { (*data).mounts.unmount() };
    // SAFETY: a walk that came in before a lazy unmount may still read the credentials and the pointer (charter 6), so the
    // box is freed after a grace period, by the callback, which `Registration` waits for.
    unsafe { bindings::call_rcu(&raw mut (*data).rcu, Some(free_super_box::<F>)) };
}

/// The callback that fills a super block of `F`.
pub(super) struct Filler<F>(PhantomData<F>);

impl<F: FileSystem> Filler<F> {
    c_callback! {
        /// For `get_tree_nodev()`.
        pub(super) fn fill_super(sb: RawSuper, fc: *mut bindings::fs_context) -> i32
            => Self::fill(sb, fc, fc);
    }

    fn fill(sb: Unfilled<'_, F>, fc: FsContext, context: Private<'_, F>) -> Result {
        sb.set_up();
        let result = sb
            .new_super()
            .and_then(|new| F::fill_super(new, &fc, context.0));
        if result.is_err() {
            sb.abandon();
        }
        result.map(|_| ())
    }
}

/// A new super block of `F`.
struct Unfilled<'a, F>(RawSuper, PhantomData<&'a F>);

// SAFETY: the super block is new: `fill_super` is called once, by whom made it, with `s_umount` held.
unsafe impl<'a, F: FileSystem> FromC<RawSuper> for Unfilled<'a, F> {
    unsafe fn from_c(raw: RawSuper) -> Self {
        Self(raw, PhantomData)
    }
}

impl<F: FileSystem> Unfilled<'_, F> {
    /// Sets what is the same for all super blocks of `F`.
    fn set_up(&self) {
        let sb = self.0;
        /// Changes a field, by `=` or `|=`.
        macro_rules! field {
            ($name:ident $op:tt $value:expr) => {{
                let value = $value;
                // SAFETY: charter 1; others may have found the super block, but wait for it to be filled (`s_umount`)
                // before they look at the fields that are set here.
                unsafe { (*sb).$name $op value }
            }};
        }
        field!(s_op = &SuperTable::<F>::TABLE);
        field!(s_magic = F::MAGIC as usize);
        field!(s_maxbytes = i64::MAX);
        field!(s_flags |= F::POLICY.flags());
        field!(s_iflags |= F::POLICY.iflags());
        // SAFETY: charter 1; the super block has no dentry yet.
        unsafe { bindings::set_default_d_op(sb, &SuperTable::<F>::DENTRY) };
    }

    fn new_super(&self) -> Result<NewSuper<'_, F>> {
        // SAFETY: it is the super block that `fill_super` of `F` got; the value does not outlive `self`, and so the call.
        unsafe { NewSuper::from_raw(self.0) }
    }

    /// Drops the data of a super block that could not be filled, unless it has a root: `put_super` does it then.
    fn abandon(&self) {
        let sb = self.0;
        // SAFETY: charter 1; the root is set by us alone.
        if !unsafe { (*sb).s_root }.is_null() {
            return;
        }
        // SAFETY: no inode but those that were dropped by now had the super block, so nobody uses its data.
        unsafe { drop_data::<F>(sb) };
        // SAFETY: charter 1; `put_super` is not called without a root, and nobody else looks.
        unsafe { (*sb).s_fs_info = ptr::null_mut() };
    }
}
