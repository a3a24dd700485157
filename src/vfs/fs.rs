// SPDX-License-Identifier: GPL-2.0

//! The filesystem type: its inode cache, super block operations and registration.

use super::{
    callback::{c_callback, c_table, FromC, RawDentry, RawInode, RawSuper},
    claim::Claims,
    context::{self, Context, FsContext, NewContext, Private},
    file_ops::{self, DirectoryOperations, RegularOperations},
    inode_ops::{InodeOperations, Table as InodeTable},
    own::{InodeBox, OwnDentry},
    rcu::RcuError,
    super_block::{NewSuper, Rooted, StatFs, SuperBlock},
    watch::Watching,
    xattr, Mode,
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::{
    cred::Credential,
    error::to_result,
    ffi::c_long,
    prelude::*,
    seq_file::SeqFile,
    sync::{aref::ARef, rcu::rcu_barrier},
    types::Opaque,
    ThisModule,
};

/// The kinds of inode that have tables of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Symlink,
    Special,
}

impl Kind {
    /// The kind of a file of type `mode`.
    pub(crate) fn of(mode: Mode) -> Self {
        match mode.file_type() {
            Mode::REG => Self::Regular,
            Mode::DIR => Self::Directory,
            Mode::LNK => Self::Symlink,
            _ => Self::Special,
        }
    }
}

/// The operation tables of a kind of inode.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    pub(super) inode: &'static bindings::inode_operations,
    pub(super) file: Option<&'static bindings::file_operations>,
}

/// The tables of `F` for inodes of `kind`: constants.
pub(super) fn tables<F: FileSystem>(kind: Kind) -> Tables {
    let (inode, file): (_, Option<&'static _>) = match kind {
        Kind::Regular => (
            &InodeTable::<F, F::Regular>::OPS,
            Some(&file_ops::Regular::<F, F::RegularFile>::OPS),
        ),
        Kind::Directory => (
            &InodeTable::<F, F::Directory>::OPS,
            Some(&file_ops::Directory::<F, F::DirectoryFile>::OPS),
        ),
        Kind::Symlink => (&InodeTable::<F, F::Symlink>::OPS, None),
        Kind::Special => (&InodeTable::<F, F::Special>::OPS, None),
    };
    Tables { inode, file }
}

/// What a filesystem keeps with an inode, beside the objects of layers behind it.
pub(crate) trait InodeData: Send + Sync + Sized {
    /// The data of an inode that was just allocated; no allocation.
    fn empty() -> Self;
    /// The inode is being evicted: the last time that the data may sleep. The value is dropped in a callback after
    /// the RCU grace period, which frees memory only (charter 7).
    fn evicted(&self);
}

/// What the VFS does with a filesystem.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    /// Who is root in a user namespace other than the initial one may mount it, too.
    pub(crate) userns_mount: bool,
    /// Files have POSIX ACLs.
    pub(crate) posix_acl: bool,
    /// `sync(2)` leaves it out: it has nothing of its own to be written back.
    pub(crate) skip_sync: bool,
    /// The umask is not applied to new files: whoever makes them below does it.
    pub(crate) no_umask: bool,
    /// EVM makes no HMAC over attributes of its files.
    pub(crate) no_evm_hmac: bool,
}

impl Policy {
    fn type_flags(self) -> i32 {
        if self.userns_mount {
            bindings::FS_USERNS_MOUNT as i32
        } else {
            0
        }
    }

    fn flags(self) -> usize {
        flag(self.posix_acl, bindings::ROVL_SB_POSIXACL)
    }

    fn iflags(self) -> usize {
        flag(self.skip_sync, bindings::ROVL_SB_I_SKIP_SYNC)
            | flag(self.no_umask, bindings::ROVL_SB_I_NOUMASK)
            | flag(self.no_evm_hmac, bindings::ROVL_SB_I_EVM_HMAC_UNSUPPORTED)
    }
}

fn flag(set: bool, flag: u32) -> usize {
    if set {
        flag as usize
    } else {
        0
    }
}

/// A filesystem; a value of the type is the super block's own data.
pub(crate) trait FileSystem: Send + Sync + Sized + 'static {
    /// Name of the type.
    const NAME: &'static CStr;
    /// Name of the inode cache.
    const INODE_CACHE: &'static CStr;
    /// The number that tells its super blocks from those of other types (`s_magic`).
    const MAGIC: u32;
    /// What the VFS does with it.
    const POLICY: Policy;
    /// What it keeps with an inode.
    type Inode: InodeData;
    /// The set of flags that it keeps with a dentry.
    type NameMarks: Into<usize>;
    /// A mount in preparation.
    type Context: Context<Self>;

    /// Operations on inodes of regular files.
    type Regular: InodeOperations<Self>;
    /// Operations on inodes of directories.
    type Directory: InodeOperations<Self>;
    /// Operations on symlinks.
    type Symlink: InodeOperations<Self>;
    /// Operations on devices, FIFOs and sockets.
    type Special: InodeOperations<Self>;
    /// Operations on open regular files.
    type RegularFile: RegularOperations<Self>;
    /// Operations on open directories.
    type DirectoryFile: DirectoryOperations<Self>;
    /// The extended-attribute handlers.
    type Xattrs: xattr::Handlers<Self>;

    /// The credentials that layers are used with.
    fn creds(&self) -> &Credential;

    /// Fills a super block as `context` says; ends with
    /// [`FilledSuper::set_root`](super::super_block::FilledSuper::set_root).
    fn fill_super<'a>(
        sb: NewSuper<'a, Self>,
        fc: &FsContext,
        context: &mut Self::Context,
    ) -> Result<Rooted<'a, Self>>;
    /// Sizes, for `statfs(2)`.
    fn statfs(dentry: &OwnDentry<Self>) -> Result<StatFs>;
    /// Writes everything back, for `syncfs(2)` of `sb`; `s_umount` is held.
    fn sync(&self, sb: &SuperBlock) -> Result;
    /// Prints the mount options.
    fn show_options(&self, out: &SeqFile);

    /// How many objects the filesystem could free under memory pressure, beside its inodes and dentries
    /// (`nr_cached_objects`). Must not sleep.
    fn cached_objects(&self) -> usize;
    /// Frees about `wanted` of them, not many; returns how many. Called in reclaim: must not allocate.
    fn free_cached_objects(&self, wanted: usize) -> usize;

    /// Revalidates a dentry whose layers asked for it; `Ok(false)` drops the dentry. `weak` for a
    /// path that was reached without a name.
    fn revalidate(dentry: &OwnDentry<Self>, flags: u32, weak: bool) -> Result<bool>;
    /// The dentry of the layer that answers for `dentry`.
    fn real(dentry: &OwnDentry<Self>, metadata: bool) -> Option<&super::Dentry>;
}

/// A registered filesystem type with what all its super blocks share; unregistered when dropped.
///
/// It is a field of the module's own value, which is static memory: lockdep wants that for the keys in it.
///
/// # Invariants
///
/// All that C does with `fs_type` it does under locks of its own.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<F: FileSystem> {
    cache: InodeCache,
    claims: Claims,
    _watching: Watching,
    _fs: PhantomData<fn() -> F>,
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
}

// SAFETY: by the type invariant; all other fields may be used from any thread.
unsafe impl<F: FileSystem> Send for Registration<F> {}
// SAFETY: as for `Send`.
unsafe impl<F: FileSystem> Sync for Registration<F> {}

impl<F: FileSystem> Registration<F> {
    /// Creates what super blocks share, then registers the type.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` where the name is taken, or another type of the module watches directories already.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cache: InodeCache::new::<F>()?,
            claims: Claims::new()?,
            _watching: Watching::start()?,
            _fs: PhantomData,
            // Last: from then on there may be mounts.
            fs_type <- Opaque::try_ffi_init(|slot: *mut bindings::file_system_type| {
                let mut fs_type: bindings::file_system_type = pin_init::zeroed();
                fs_type.name = F::NAME.as_char_ptr();
                fs_type.owner = module.as_ptr();
                fs_type.fs_flags = F::POLICY.type_flags();
                fs_type.init_fs_context = Some(Self::init_fs_context);
                fs_type.kill_sb = Some(bindings::kill_anon_super);
                // SAFETY: the memory of the field, which does not move from now on.
                unsafe { slot.write(fs_type) };
                // SAFETY: the structure was filled just now, and stays until it is unregistered by `drop`.
                to_result(unsafe { bindings::register_filesystem(slot) })
            }),
        }? Error)
    }

    /// That of the type of `sb`.
    ///
    /// # Safety
    ///
    /// `sb` is a super block of `F` that lives for `'a`.
    #[inline]
    unsafe fn of<'a>(sb: *const bindings::super_block) -> &'a Self {
        // SAFETY: by the contract; the type of a super block is constant.
        let fs_type = unsafe { (*sb).s_type };
        // SAFETY: a type whose super blocks are of `F` is one that `new` registered. It is unregistered when the module
        // goes, which a mount keeps.
        unsafe { &*kernel::container_of!(Opaque::cast_from(fs_type), Self, fs_type) }
    }

    c_callback! {
        fn init_fs_context(fc: *mut kernel::bindings::fs_context) -> i32
            => Self::init_context(fc);
    }

    fn init_context(fc: NewContext<'_>) -> Result {
        context::init::<F>(fc)
    }
}

#[pinned_drop]
impl<F: FileSystem> PinnedDrop for Registration<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: `new` registered the type. No mount of it is left, as mounts hold the module.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
        // Inodes and data of super blocks that are freed after their grace period. Nothing else runs without a mount: a
        // task work jumps out of the module's text with its file (`rovl_before_return()`).
        rcu_barrier();
    }
}

/// A cache for inodes with their data, of which nothing is allocated when it is dropped.
///
/// # Invariants
///
/// Owns the cache.
struct InodeCache(NonNull<bindings::kmem_cache>);

/// # Safety
///
/// `object` is memory for an `InodeBox`.
unsafe extern "C" fn inode_init_once(object: *mut kernel::ffi::c_void) {
    // SAFETY: by the contract; the inode is the first field.
    unsafe { bindings::inode_init_once(object.cast()) }
}

impl InodeCache {
    /// A cache for inodes of `F`; `ENOMEM`.
    fn new<F: FileSystem>() -> Result<Self> {
        let mut args: bindings::kmem_cache_args = pin_init::zeroed();
        args.ctor = Some(inode_init_once);
        args.align = core::mem::align_of::<InodeBox<F>>() as u32;
        // SAFETY: name and arguments are valid for the call, which copies them; the constructor's text goes after the
        // cache.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                F::INODE_CACHE.as_char_ptr(),
                core::mem::size_of::<InodeBox<F>>() as u32,
                &mut args,
                bindings::ROVL_SLAB_FLAGS_INODE,
            )
        };
        NonNull::new(cache).map(Self).ok_or(ENOMEM)
    }

    /// Memory for an inode of `sb` whose VFS part is initialised; null where there is none.
    ///
    /// # Safety
    ///
    /// `sb` is a super block.
    #[inline]
    unsafe fn alloc(&self, sb: RawSuper) -> *mut kernel::ffi::c_void {
        // SAFETY: by the contract the super block lives; only the field's address is taken.
        let lru = unsafe { &raw mut (*sb).s_inode_lru };
        let flags = bindings::ROVL_GFP_KERNEL;
        // SAFETY: by the type invariant; the list is that of the super block, as for all inodes.
        unsafe { bindings::kmem_cache_alloc_lru_noprof(self.0.as_ptr(), lru, flags) }
    }
}

impl Drop for InodeCache {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; whoever drops it has waited until all objects were freed.
        unsafe { bindings::kmem_cache_destroy(self.0.as_ptr()) }
    }
}

impl<'a, F: FileSystem> NewSuper<'a, F> {
    /// Who uses which directory exclusively, among the mounts of the type.
    pub(crate) fn claims(&self) -> &'a Claims {
        // SAFETY: the super block is one of `F`, and lives for `'a`.
        unsafe { &Registration::<F>::of(self.sb().as_ptr()).claims }
    }
}

/// The super block operations of `F`.
pub(super) struct SuperTable<F>(PhantomData<F>);

impl<F: FileSystem> SuperTable<F> {
    c_table! {
        pub(super) const TABLE: bindings::super_operations = {
            alloc_inode: Some(Self::alloc_inode),
            destroy_inode: Some(Self::destroy_inode),
            free_inode: Some(Self::free_inode),
            drop_inode: Some(bindings::inode_just_drop),
            put_super: Some(Self::put_super),
        };

        fn sync_fs(sb: RawSuper, wait: i32) -> i32
            => Self::sync(sb, sb, wait);
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
            _name: *const bindings::qstr,
            d: RawDentry,
            flags: u32,
        ) -> i32
            => Self::revalidate(d, flags);
        fn d_weak_revalidate(d: RawDentry, flags: u32) -> i32
            => Self::weak_revalidate(d, flags);
    }

    /// # Safety
    ///
    /// `sb` is a super block of `F`.
    unsafe extern "C" fn alloc_inode(sb: RawSuper) -> RawInode {
        // SAFETY: the super block is one of `F`, and the VFS keeps it for the call.
        let cache = unsafe { &Registration::<F>::of(sb).cache };
        // SAFETY: the VFS keeps the super block for the call.
        let object = unsafe { cache.alloc(sb) };
        let Some(object) = NonNull::new(object.cast::<InodeBox<F>>()) else {
            return ptr::null_mut();
        };
        // SAFETY: the object is memory for an `InodeBox`, whose inode the cache's constructor initialised.
        unsafe { InodeBox::init(object) }
    }

    /// # Safety
    ///
    /// `inode` is one of `F` that is being evicted.
    unsafe extern "C" fn destroy_inode(inode: RawInode) {
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

    fn sync(fs: &F, sb: &SuperBlock, wait: bool) -> Result {
        if !wait {
            return Ok(());
        }
        fs.sync(sb)
    }

    fn sizes(dentry: &OwnDentry<F>, buf: Out<'_, bindings::kstatfs>) -> Result {
        buf.put(F::statfs(dentry)?.into_raw());
        Ok(())
    }

    fn options(root: &OwnDentry<F>, out: &SeqFile) {
        root.fs().show_options(out);
    }

    fn count_objects(fs: &F, shrink: Shrink<'_>) -> usize {
        if shrink.is_global() {
            fs.cached_objects()
        } else {
            0
        }
    }

    fn free_objects(fs: &F, shrink: Shrink<'_>) -> usize {
        /// So many at once, so that others are not kept waiting.
        const BATCH: usize = 128;

        let wanted = if shrink.is_global() {
            shrink.wanted()
        } else {
            0
        };
        let mut freed = 0;
        while freed < wanted {
            match fs.free_cached_objects(BATCH.min(wanted - freed)) {
                0 => break,
                some => freed = some.saturating_add(freed),
            }
            // SAFETY: shrinkers run where one may sleep; the super block's lock that is held is a sleeping one.
            unsafe { bindings::rovl_cond_resched() };
        }
        freed
    }

    fn real(dentry: &OwnDentry<F>, kind: bindings::d_real_type) -> RawDentry {
        if !dentry.is_reg() {
            return dentry.as_ptr();
        }
        let Some(real) = F::real(dentry, kind == bindings::d_real_type_D_REAL_METADATA) else {
            return dentry.as_ptr();
        };
        let op = if real.is_union() {
            // SAFETY: charter 1; a dentry with the flag has the operations, and those are constant.
            unsafe { (*(*real.as_ptr()).d_op).d_real }
        } else {
            None
        };
        match op {
            // SAFETY: charter 1: `real` is referenced as long as `dentry` is; the kind is one that the VFS passed.
            Some(op) => unsafe { op(real.as_ptr(), kind) },
            None => real.as_ptr(),
        }
    }

    fn revalidate(dentry: &OwnDentry<F>, flags: u32) -> Result<bool, RcuError> {
        Self::do_revalidate(dentry, flags, false)
    }

    fn weak_revalidate(dentry: &OwnDentry<F>, flags: u32) -> Result<bool, RcuError> {
        Self::do_revalidate(dentry, flags, true)
    }

    fn do_revalidate(dentry: &OwnDentry<F>, flags: u32, weak: bool) -> Result<bool, RcuError> {
        if flags & bindings::ROVL_LOOKUP_RCU != 0 {
            // Layers that revalidate (remote ones) may have to ask a server.
            return Err(RcuError::WouldBlock);
        }
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
pub(super) struct Shrink<'a>(*mut bindings::shrink_control, PhantomData<&'a ()>);

impl Shrink<'_> {
    /// # Safety
    ///
    /// The argument of a callback, used during the callback alone.
    pub(super) unsafe fn from_raw(control: *mut bindings::shrink_control) -> Self {
        Self(control, PhantomData)
    }

    /// Whether the whole machine is short of memory. What a filesystem caches is not counted by cgroup: one that is
    /// at its limit would have that of others freed, over and over, and gain nothing.
    fn is_global(&self) -> bool {
        // SAFETY: the request is the callback's for its duration.
        unsafe { bindings::rovl_shrink_is_global(self.0) }
    }

    /// How many objects are to be freed.
    fn wanted(&self) -> usize {
        // SAFETY: the request is the callback's for its duration.
        unsafe { (*self.0).nr_to_scan }
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
    rcu: bindings::callback_head,
}

impl<F: FileSystem> SuperBox<F> {
    /// A box around `data`, without credentials yet.
    pub(super) fn new(data: impl PinInit<F>) -> impl PinInit<Self> {
        pin_init!(Self {
            data <- data,
            creds: None,
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

    /// The credentials that layers are used with, in RCU-walk.
    ///
    /// # Safety
    ///
    /// Charter 6: `sb` is a super block of `F` with data, seen in RCU-walk, which lasts for `'a`.
    #[inline]
    pub(super) unsafe fn creds_rcu<'a>(sb: *const bindings::super_block) -> Option<&'a Credential> {
        // SAFETY: charter 4 and 6: the box is freed after a grace period.
        let this = unsafe { (*sb).s_fs_info.cast::<Self>() };
        // SAFETY: as above; the field was set before the first inode was made.
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
        // SAFETY: others may have found the super block, and wait for it to be filled (`s_umount`); they do not look at
        // these fields. So for all that follow.
        unsafe { (*sb).s_op = &SuperTable::<F>::TABLE };
        // SAFETY: as for `s_op`.
        unsafe { (*sb).s_magic = F::MAGIC as usize };
        // SAFETY: as for `s_op`.
        unsafe { (*sb).s_xattr = <F::Xattrs as xattr::Handlers<F>>::LIST.as_ptr() };
        // SAFETY: as for `s_op`.
        unsafe { (*sb).s_maxbytes = i64::MAX };
        // SAFETY: as for `s_op`.
        unsafe { (*sb).s_flags |= F::POLICY.flags() };
        // SAFETY: as for `s_op`.
        unsafe { (*sb).s_iflags |= F::POLICY.iflags() };
        // SAFETY: charter 1; the super block has no dentry yet.
        unsafe { bindings::set_default_d_op(sb, &SuperTable::<F>::DENTRY) };
    }

    fn new_super(&self) -> Result<NewSuper<'_, F>> {
        // SAFETY: it is the super block that `fill_super` of `F` got.
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
        // SAFETY: as for the other fields.
        unsafe { (*sb).s_fs_info = ptr::null_mut() };
    }
}
