// SPDX-License-Identifier: GPL-2.0

//! The filesystem type: its inode cache, super block operations and registration.

use super::{
    context::{self, Context, FsContext},
    file_ops::FileTable,
    inode_ops::InodeTable,
    own::{InodeBox, OwnDentry},
    super_block::{NewSuper, StatFs, SuperBlock},
    Mode,
};
use crate::bindings;
use core::{
    cell::UnsafeCell,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};
use kernel::{
    cred::Credential,
    error::{from_result, to_result},
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
pub(crate) struct Tables {
    pub(super) inode: &'static bindings::inode_operations,
    pub(super) file: Option<&'static bindings::file_operations>,
}

impl Tables {
    /// Inode operations alone.
    pub(crate) const fn new(inode: InodeTable) -> Self {
        Self {
            inode: inode.0,
            file: None,
        }
    }

    /// Inode and file operations.
    pub(crate) const fn with_file(inode: InodeTable, file: FileTable) -> Self {
        Self {
            inode: inode.0,
            file: Some(file.0),
        }
    }
}

/// What a filesystem keeps with an inode, beside the objects of layers behind it.
pub(crate) trait InodeData: Send + Sync + Sized {
    /// The data of an inode that was just allocated; no allocation.
    fn empty() -> Self;
    /// The inode is being evicted: the last time that the data may sleep. The value is dropped in a callback after
    /// the RCU grace period, which frees memory only (charter 7).
    fn evicted(&self);
}

/// A filesystem; a value of the type is the super block's own data.
pub(crate) trait FileSystem: Send + Sync + Sized + 'static {
    /// Name of the type.
    const NAME: &'static CStr;
    /// Name of the inode cache.
    const INODE_CACHE: &'static CStr;
    /// What it keeps with an inode.
    type Inode: InodeData;
    /// The set of flags that it keeps with a dentry.
    type NameMarks: Into<usize>;
    /// A mount in preparation.
    type Context: Context<Self>;

    /// The operation tables of a kind of inode.
    fn tables(kind: Kind) -> Tables;
    /// The extended-attribute handlers.
    fn xattr_handlers() -> super::xattr::Handlers;

    /// The credentials that layers are used with.
    fn creds(&self) -> &Credential;

    /// Fills a super block as `context` says; ends with [`NewSuper::set_root`].
    fn fill_super(sb: NewSuper<'_, Self>, fc: &FsContext, context: &mut Self::Context) -> Result;
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
    _fs: core::marker::PhantomData<fn() -> F>,
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
        Ok(Self {
            _fs: core::marker::PhantomData,
        })
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
pub(super) struct SuperTable<F>(core::marker::PhantomData<F>);

#[allow(
    clippy::missing_safety_doc,
    reason = "called by the VFS alone, through the table, under charter 1, 3 and 4"
)]
impl<F: FileSystem> SuperTable<F> {
    pub(super) const TABLE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(Self::alloc_inode),
        destroy_inode: Some(Self::destroy_inode),
        free_inode: Some(Self::free_inode),
        drop_inode: Some(bindings::inode_just_drop),
        put_super: Some(Self::put_super),
        sync_fs: Some(Self::sync_fs),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        nr_cached_objects: Some(Self::nr_cached_objects),
        free_cached_objects: Some(Self::free_cached_objects),
        ..pin_init::zeroed()
    };

    pub(super) const DENTRY: bindings::dentry_operations = bindings::dentry_operations {
        d_real: Some(Self::d_real),
        d_revalidate: Some(Self::d_revalidate),
        d_weak_revalidate: Some(Self::d_weak_revalidate),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn alloc_inode(sb: *mut bindings::super_block) -> *mut bindings::inode {
        // SAFETY: the cache exists while the type is registered.
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
        // SAFETY: the object is memory for an `InodeBox` whose inode the constructor initialised.
        unsafe { InodeBox::init(object) }
    }

    unsafe extern "C" fn destroy_inode(inode: *mut bindings::inode) {
        // SAFETY: charter 3 and 7: the inode is being evicted, nobody but RCU-walk reads it.
        unsafe { InodeBox::<F>::release(inode) };
    }

    unsafe extern "C" fn free_inode(inode: *mut bindings::inode) {
        // SAFETY: charter 7: the grace period is over, nobody uses the inode.
        let object = unsafe { InodeBox::<F>::free(inode) };
        // SAFETY: the object came from this cache and is not used any more.
        unsafe { bindings::kmem_cache_free(CACHE.load(Ordering::Acquire), object) };
    }

    unsafe extern "C" fn put_super(sb: *mut bindings::super_block) {
        // SAFETY: charter 4: all inodes but those that the data itself references are gone.
        unsafe { drop_data::<F>(sb) }
    }

    unsafe extern "C" fn sync_fs(sb: *mut bindings::super_block, wait: i32) -> i32 {
        if wait == 0 {
            return 0;
        }
        // SAFETY: charter 1 and 4.
        let (fs, sb) = unsafe { (&*(*sb).s_fs_info.cast::<F>(), SuperBlock::from_raw(sb)) };
        from_result(|| fs.sync(sb).map(|()| 0))
    }

    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut kernel::bindings::kstatfs,
    ) -> i32 {
        from_result(|| {
            // SAFETY: charter 1 and 3.
            let stat = F::statfs(unsafe { OwnDentry::from_raw(dentry) })?;
            // SAFETY: the VFS passes a valid buffer of the full type.
            unsafe { buf.cast::<bindings::kstatfs>().write(stat.into_raw()) };
            Ok(0)
        })
    }

    unsafe extern "C" fn show_options(
        out: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> i32 {
        // SAFETY: charter 1, 3 and 4.
        unsafe {
            OwnDentry::<F>::from_raw(root)
                .fs()
                .show_options(SeqFile::from_raw(out))
        };
        0
    }

    unsafe extern "C" fn nr_cached_objects(
        sb: *mut bindings::super_block,
        _control: *mut bindings::shrink_control,
    ) -> kernel::ffi::c_long {
        // SAFETY: charter 4: shrinkers run from the end of `fill_super` to before `put_super`.
        let count = unsafe { &*(*sb).s_fs_info.cast::<F>() }.cached_objects();
        count.try_into().unwrap_or(kernel::ffi::c_long::MAX)
    }

    unsafe extern "C" fn free_cached_objects(
        sb: *mut bindings::super_block,
        control: *mut bindings::shrink_control,
    ) -> kernel::ffi::c_long {
        // SAFETY: as above; the caller's request is valid.
        let (fs, wanted) = unsafe { (&*(*sb).s_fs_info.cast::<F>(), (*control).nr_to_scan) };
        let freed = fs.free_cached_objects(wanted);
        freed.try_into().unwrap_or(kernel::ffi::c_long::MAX)
    }

    unsafe extern "C" fn d_real(
        dentry: *mut bindings::dentry,
        kind: bindings::d_real_type,
    ) -> *mut bindings::dentry {
        // SAFETY: charter 1 and 3.
        let this = unsafe { OwnDentry::<F>::from_raw(dentry) };
        if !this.is_reg() {
            return dentry;
        }
        match F::real(this, kind == bindings::d_real_type_D_REAL_METADATA) {
            Some(real) => {
                let ops = if real.is_union() {
                    // SAFETY: charter 1; a dentry with the flag has the operation.
                    unsafe { (*(*real.as_ptr()).d_op).d_real }
                } else {
                    None
                };
                match ops {
                    // SAFETY: as above.
                    Some(op) => unsafe { op(real.as_ptr(), kind) },
                    None => real.as_ptr(),
                }
            }
            None => dentry,
        }
    }

    unsafe fn do_revalidate(dentry: *mut bindings::dentry, flags: u32, weak: bool) -> i32 {
        if flags & bindings::ROVL_LOOKUP_RCU != 0 {
            // Layers that revalidate (remote ones) may have to ask a server.
            return -(bindings::ECHILD as i32);
        }
        from_result(|| {
            // SAFETY: charter 1 and 3.
            F::revalidate(unsafe { OwnDentry::from_raw(dentry) }, flags, weak).map(i32::from)
        })
    }

    unsafe extern "C" fn d_revalidate(
        _dir: *mut bindings::inode,
        _name: *const bindings::qstr,
        dentry: *mut bindings::dentry,
        flags: u32,
    ) -> i32 {
        // SAFETY: charter 1 and 3.
        unsafe { Self::do_revalidate(dentry, flags, false) }
    }

    unsafe extern "C" fn d_weak_revalidate(dentry: *mut bindings::dentry, flags: u32) -> i32 {
        // SAFETY: charter 1 and 3.
        unsafe { Self::do_revalidate(dentry, flags, true) }
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
            (*sb).s_xattr = F::xattr_handlers().0;
            (*sb).s_maxbytes = i64::MAX;
            (*sb).s_flags |= bindings::ROVL_SB_POSIXACL as usize;
            // Writing back is upper's; the umask is applied by upper; no EVM HMAC over ours.
            (*sb).s_iflags |= (bindings::ROVL_SB_I_SKIP_SYNC
                | bindings::ROVL_SB_I_NOUMASK
                | bindings::ROVL_SB_I_EVM_HMAC_UNSUPPORTED) as usize;
            bindings::set_default_d_op(sb, &SuperTable::<F>::DENTRY);
            let result = F::fill_super(
                NewSuper::from_raw(sb),
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
