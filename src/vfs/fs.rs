// SPDX-License-Identifier: GPL-2.0

//! The filesystem type: its inode cache, super block operations and registration.

use super::{
    callback::{c_table, RawDentry, RawInode, RawSuper},
    context::{self, Context, FsContext},
    file_ops::{self, DirectoryOperations, RegularOperations},
    inode_ops::{InodeOperations, Table as InodeTable},
    own::{InodeBox, OwnDentry, OwnInode},
    rcu::RcuError,
    super_block::{NewSuper, StatFs, SuperBlock},
    sync::OpLock,
    xattr, Mode,
};
use crate::bindings;
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};
use kernel::{
    cred::Credential,
    error::{from_result, to_result},
    ffi::c_long,
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef,
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

/// What a filesystem keeps with an inode.
///
/// Teardown has two phases (charter 7): [`release`](Self::release) gives references back and may
/// sleep; dropping the value afterwards, in a callback after the RCU grace period, frees memory.
pub(crate) trait InodeData: Send + Sync + Sized {
    /// The data of an inode that was just allocated; no allocation.
    fn init() -> impl PinInit<Self>;
    /// Gives all references back.
    fn release(&self);
}

/// A filesystem; a value of the type is the super block's own data.
pub(crate) trait FileSystem: Send + Sync + Sized + 'static {
    /// Name of the type.
    const NAME: &'static CStr;
    /// Name of the inode cache.
    const INODE_CACHE: &'static CStr;
    /// What it keeps with an inode.
    type Inode: InodeData;
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

    /// Fills a super block as `context` says; ends with [`NewSuper::set_root`].
    fn fill_super(
        sb: &mut NewSuper<'_, Self>,
        fc: &FsContext,
        context: &mut Self::Context,
    ) -> Result;
    /// Sizes, for `statfs(2)`.
    fn statfs(dentry: &OwnDentry<Self>) -> Result<StatFs>;
    /// Writes everything back, for `syncfs(2)` of `sb`; `s_umount` is held.
    fn sync(&self, sb: &SuperBlock) -> Result;
    /// Prints the mount options.
    fn show_options(&self, out: &SeqFile);

    /// How many objects the filesystem could free under memory pressure, beside its inodes and dentries
    /// (`nr_cached_objects`). Must not sleep.
    fn cached_objects(&self) -> usize;
    /// Frees about `wanted` of them; returns how many. Called in reclaim: must not allocate.
    fn free_cached_objects(&self, wanted: usize) -> usize;

    /// Revalidates a dentry whose layers asked for it; `Ok(false)` drops the dentry. `weak` for a
    /// path that was reached without a name.
    fn revalidate(dentry: &OwnDentry<Self>, flags: u32, weak: bool) -> Result<bool>;
    /// The dentry of the layer that answers for `dentry`.
    fn real(dentry: &OwnDentry<Self>, metadata: bool) -> Option<&super::Dentry>;
}

/// The registered type; unregistered when dropped.
pub(crate) struct Registration<F: FileSystem> {
    _fs: PhantomData<fn() -> F>,
}

/// Memory for the module's one filesystem type. Static, as the structure holds lockdep's keys.
struct TypeSlot(UnsafeCell<bindings::file_system_type>);

// SAFETY: filled by `Registration::new` alone, then used by the VFS under its own locks.
unsafe impl Sync for TypeSlot {}

static TYPE: TypeSlot = TypeSlot(UnsafeCell::new(pin_init::zeroed()));
/// Whether [`TYPE`] is taken.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The inode cache of the module's one filesystem type.
static CACHE: AtomicPtr<bindings::kmem_cache> = AtomicPtr::new(ptr::null_mut());

/// Whether `sb` is a super block of the module's filesystem type.
pub(super) fn is_ours(sb: &super::SuperBlock) -> bool {
    // SAFETY: charter 1; `s_type` is constant.
    unsafe { (*sb.as_ptr()).s_type == TYPE.0.get() }
}

/// # Safety
///
/// `object` is memory for an `InodeBox`.
unsafe extern "C" fn inode_init_once(object: *mut kernel::ffi::c_void) {
    // SAFETY: the slab passes memory for an `InodeBox`, which starts with the inode.
    unsafe { bindings::inode_init_once(object.cast()) }
}

impl<F: FileSystem> Registration<F> {
    /// Creates the inode cache and registers the type.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` where the name is taken, or the module has a registered type already.
    pub(crate) fn new(module: &'static ThisModule) -> Result<Self> {
        let mut fs_type: bindings::file_system_type = pin_init::zeroed();
        fs_type.name = F::NAME.as_char_ptr();
        fs_type.owner = module.as_ptr();
        fs_type.fs_flags = bindings::FS_USERNS_MOUNT as i32;
        fs_type.init_fs_context = Some(Self::init_fs_context);
        fs_type.kill_sb = Some(bindings::kill_anon_super);
        // Charter 3 names inodes of one `F`: there is one registration at a time.
        if REGISTERED.swap(true, Ordering::AcqRel) {
            return Err(EBUSY);
        }
        // SAFETY: the slot was free: nobody uses it.
        unsafe { TYPE.0.get().write(fs_type) };

        // SAFETY: no mount exists before the type is registered, and a second registration was refused.
        unsafe { super::claim::init() };
        super::watch::start();

        let mut args: bindings::kmem_cache_args = pin_init::zeroed();
        args.ctor = Some(inode_init_once);
        args.align = core::mem::align_of::<InodeBox<F>>() as u32;
        // SAFETY: name and arguments are valid for the call.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                F::INODE_CACHE.as_char_ptr(),
                core::mem::size_of::<InodeBox<F>>() as u32,
                &mut args,
                bindings::ROVL_SLAB_FLAGS_INODE,
            )
        };
        if cache.is_null() {
            super::watch::stop();
            REGISTERED.store(false, Ordering::Release);
            return Err(ENOMEM);
        }
        CACHE.store(cache, Ordering::Release);
        // SAFETY: the structure is static and filled.
        if let Err(e) = to_result(unsafe { bindings::register_filesystem(TYPE.0.get()) }) {
            // SAFETY: nobody used the cache.
            unsafe { bindings::kmem_cache_destroy(cache) };
            super::watch::stop();
            REGISTERED.store(false, Ordering::Release);
            return Err(e);
        }
        Ok(Self { _fs: PhantomData })
    }

    /// # Safety
    ///
    /// `fc` is a new context.
    unsafe extern "C" fn init_fs_context(fc: *mut kernel::bindings::fs_context) -> i32 {
        // SAFETY: the VFS passes a new context; the kernel crate knows the type as a stub alone.
        from_result(|| unsafe { context::init::<F>(fc.cast()) }.map(|()| 0))
    }
}

impl<F: FileSystem> Drop for Registration<F> {
    fn drop(&mut self) {
        // SAFETY: the type was registered; no mount of it is left, as mounts hold the module. The
        // barrier waits for inodes that are freed after their grace period.
        unsafe {
            bindings::unregister_filesystem(TYPE.0.get());
            bindings::rcu_barrier();
            bindings::kmem_cache_destroy(CACHE.load(Ordering::Acquire));
        }
        super::watch::stop();
        super::claim::exit();
        REGISTERED.store(false, Ordering::Release);
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
        // SAFETY: the cache exists while the type is registered, so while there is a super block of it.
        let object = unsafe {
            bindings::kmem_cache_alloc_lru_noprof(
                CACHE.load(Ordering::Acquire),
                &raw mut (*sb).s_inode_lru,
                bindings::ROVL_GFP_KERNEL,
            )
        };
        let Some(object) = NonNull::new(object.cast::<InodeBox<F>>()) else {
            return ptr::null_mut();
        };
        let object = object.as_ptr();
        // SAFETY: the object is memory for an `InodeBox` that does not move; the initialiser is infallible.
        unsafe { pin_init::raw_init(&raw mut (*object).lock, OpLock::new()) };
        // SAFETY: as for the lock.
        unsafe { pin_init::raw_init(&raw mut (*object).data, F::Inode::init()) };
        // SAFETY: the object is memory for an `InodeBox`, whose inode the cache's constructor initialised.
        unsafe { &raw mut (*object).inode }
    }

    /// # Safety
    ///
    /// `inode` is one of `F` that is being evicted.
    unsafe extern "C" fn destroy_inode(inode: RawInode) {
        // SAFETY: charter 3 and 7: the inode's data lives until `free_inode`, and nobody but RCU-walk reads it.
        unsafe { OwnInode::<F>::from_raw(inode) }.data().release();
    }

    /// # Safety
    ///
    /// `inode` is one of `F` that was destroyed, a grace period ago.
    unsafe extern "C" fn free_inode(inode: RawInode) {
        let object = inode.cast::<InodeBox<F>>();
        // SAFETY: charter 7: the grace period is over, so not even RCU-walk uses the data, which `alloc_inode` made.
        unsafe { ptr::drop_in_place(&raw mut (*object).data) };
        // SAFETY: it came from the cache; nobody uses the inode.
        unsafe { bindings::kmem_cache_free(CACHE.load(Ordering::Acquire), object.cast()) };
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
        if shrink.is_global() {
            fs.free_cached_objects(shrink.wanted())
        } else {
            0
        }
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
    pub(super) fn new(data: impl PinInit<F, Error>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            data <- data,
            creds: None,
            rcu: bindings::callback_head::default(),
        }? Error)
    }
}

/// # Safety
///
/// `head` is that of a `SuperBox<F>` whose `data` was dropped, a grace period ago.
unsafe extern "C" fn free_super_box<F>(head: *mut bindings::callback_head) {
    // SAFETY: by the contract.
    unsafe {
        let data = kernel::container_of!(head, SuperBox<F>, rcu);
        (*data).creds = None;
        drop(KBox::from_raw(
            data.cast::<core::mem::ManuallyDrop<SuperBox<F>>>(),
        ));
    }
}

/// Drops the super block's data.
///
/// # Safety
///
/// `sb` is a super block of `F` whose data nobody but RCU-walk uses any more; called once.
unsafe fn drop_data<F: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: by the contract and charter 4. A walk that came in before a lazy unmount may still read the
    // credentials and the pointer (charter 6), so the box is freed after a grace period.
    unsafe {
        if let Some(data) = NonNull::new((*sb).s_fs_info.cast::<SuperBox<F>>()) {
            ptr::drop_in_place(&raw mut (*data.as_ptr()).data);
            bindings::call_rcu(&raw mut (*data.as_ptr()).rcu, Some(free_super_box::<F>));
        }
    }
}

/// `fill_super` of `F`.
///
/// # Safety
///
/// `sb` is a new super block of `F`, `fc` the context that it is made from.
pub(super) unsafe extern "C" fn fill_super<F: FileSystem>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> i32 {
    from_result(|| {
        // SAFETY: the VFS passes a new super block that nobody else uses, and the context whose
        // private data `context::init` stored.
        unsafe {
            (*sb).s_op = &SuperTable::<F>::TABLE;
            (*sb).s_magic = bindings::OVERLAYFS_SUPER_MAGIC as usize;
            (*sb).s_xattr = <F::Xattrs as xattr::Handlers<F>>::LIST.as_ptr();
            (*sb).s_maxbytes = i64::MAX;
            (*sb).s_flags |= bindings::ROVL_SB_POSIXACL as usize;
            // Writing back is upper's; the umask is applied by upper; no EVM HMAC over ours.
            (*sb).s_iflags |= (bindings::ROVL_SB_I_SKIP_SYNC
                | bindings::ROVL_SB_I_NOUMASK
                | bindings::ROVL_SB_I_EVM_HMAC_UNSUPPORTED) as usize;
            bindings::set_default_d_op(sb, &SuperTable::<F>::DENTRY);
            let result = F::fill_super(
                &mut NewSuper::from_raw(sb),
                &FsContext::from_raw(fc),
                &mut *(*fc).fs_private.cast::<F::Context>(),
            );
            if result.is_err() && (*sb).s_root.is_null() {
                drop_data::<F>(sb);
                (*sb).s_fs_info = ptr::null_mut();
            }
            result.map(|()| 0)
        }
    })
}
