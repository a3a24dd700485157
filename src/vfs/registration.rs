// SPDX-License-Identifier: GPL-2.0

//! The registration of a filesystem type, with what all its super blocks share: the caches of inodes and of what is kept with
//! open files, the list of claims, the group that watches directories.

use super::{
    callback::c_callback,
    calls,
    claim::Claims,
    context::{self, NewContext},
    file_ops::{DirectoryData, RegularData},
    fs::{Exactly, FileSystem},
    own::{InodeBox, OwnSuper},
    slab::SlabCache,
    super_block::NewSuper,
    to_result,
    watch::Watching,
};
use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::rcu::rcu_barrier,
    time::{delay::fsleep, Delta},
    types::Opaque,
    ThisModule,
};

/// A registered filesystem type with what all its super blocks share; unregistered when dropped, which waits for them.
///
/// It is a field of the module's own value, which is static memory: lockdep wants that for the keys in it.
///
/// # Invariants
///
/// All that C does with `fs_type` it does under locks of its own.
///
/// # Examples
///
/// ```ignore
/// #[pin_data]
/// struct Module {
///     #[pin]
///     _registration: Registration<Overlay>,
/// }
///
/// impl InPlaceModule for Module {
///     fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
///         try_pin_init!(Self { _registration <- Registration::new(module) })
///     }
/// }
/// ```
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<F: FileSystem> {
    inodes: SlabCache<InodeBox<F>>,
    files: SlabCache<RegularData<F>>,
    directories: SlabCache<DirectoryData<F>>,
    claims: Claims,
    _watching: Watching,
    _fs: Exactly<F>,
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
    /// `ENOMEM`; `EBUSY` where the name is taken, or another type of the module watches directories already; `EINVAL` for a name
    /// with a dot, for a magic number that others believe, and for inodes that are too large.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            inodes: inode_cache::<F>()?,
            files: SlabCache::new(F::FILE_CACHE)?,
            directories: SlabCache::new(F::DIRECTORY_CACHE)?,
            claims: Claims::new()?,
            _watching: Watching::start()?,
            _fs: PhantomData,
            // Last: from then on there may be mounts.
            fs_type <- Opaque::try_ffi_init(|slot: *mut bindings::file_system_type| {
                // A dot is a `BUG()`: it would be a subtype.
                if F::NAME.to_bytes().contains(&b'.') || is_believed(F::MAGIC) {
                    return Err(EINVAL);
                }
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

    /// The inode cache of the type of `sb`.
    ///
    /// # Safety
    ///
    /// As for [`of`](Self::of).
    #[inline]
    pub(super) unsafe fn inodes<'a>(
        sb: *const bindings::super_block,
    ) -> &'a SlabCache<InodeBox<F>> {
        // SAFETY: by the contract.
        unsafe { &Self::of(sb).inodes }
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
        let fs_type = self.fs_type.get();
        // SAFETY: `new` registered the type.
        unsafe { bindings::unregister_filesystem(fs_type) };
        // SAFETY: `new` set the field, which is constant.
        wait_for_mounts(unsafe { (*fs_type).owner });
        // Inodes and data of super blocks that are freed after their grace period. Nothing else runs without a mount.
        rcu_barrier();
        // But for a task that has just put its file (`rovl_before_return()`).
        calls::rovl_leave_text();
    }
}

/// Whether the kernel takes a super block with this magic number for that of another filesystem, whose data it then looks for in
/// ours: `xfs_find_handle()`, `devpts_acquire()`, autofs's ioctls, binder's devices, Smack's sockets.
pub(super) fn is_believed(magic: u32) -> bool {
    matches!(
        magic,
        bindings::XFS_SUPER_MAGIC
            | bindings::DEVPTS_SUPER_MAGIC
            | bindings::AUTOFS_SUPER_MAGIC
            | bindings::BINDERFS_SUPER_MAGIC
            | bindings::SOCKFS_MAGIC
    )
}

/// Waits until no mount uses an unregistered type of module `owner`: mounts, contexts and super blocks hold the module.
///
/// There is nothing to wait for where the module goes. Whoever drops a registration earlier may wait for long, as for a
/// lock that is not given up: for ever, where nobody counts who holds a module.
fn wait_for_mounts(owner: *mut bindings::module) {
    #[cfg(CONFIG_MODULE_UNLOAD)]
    if let Some(owner) = NonNull::new(owner) {
        // SAFETY: a module outlives the calls of its text; the state changes before or after this call.
        let state = unsafe { (*owner.as_ptr()).state };
        // Its initialisation holds it, too.
        let own = i32::from(state == bindings::module_state_MODULE_STATE_COMING);
        // SAFETY: a module outlives the calls of its text.
        while unsafe { bindings::module_refcount(owner.as_ptr()) } > own {
            fsleep(Delta::from_millis(10));
        }
        return;
    }
    #[cfg(not(CONFIG_MODULE_UNLOAD))]
    let _ = owner;
    loop {
        fsleep(Delta::from_millis(1000));
    }
}

/// # Safety
///
/// `object` is memory for an `InodeBox`.
unsafe extern "C" fn inode_init_once(object: *mut kernel::ffi::c_void) {
    // SAFETY: by the contract; the inode is the first field.
    unsafe { bindings::inode_init_once(object.cast()) }
}

/// A cache for inodes of `F`.
fn inode_cache<F: FileSystem>() -> Result<SlabCache<InodeBox<F>>> {
    let mut args: bindings::kmem_cache_args = pin_init::zeroed();
    args.ctor = Some(inode_init_once);
    // Else it would be behind the box, and fewer boxes in a page.
    args.use_freeptr_offset = true;
    args.freeptr_offset = InodeBox::<F>::FREE as u32;
    // SAFETY: the constructor is the VFS's, which frees an inode as it was; the word is one that each new box initialises.
    unsafe { SlabCache::with(F::INODE_CACHE, args, bindings::ROVL_SLAB_FLAGS_INODE) }
}

impl<F: FileSystem> OwnSuper<F> {
    /// The cache of what is kept with open regular files.
    #[inline]
    pub(crate) fn files(&self) -> &SlabCache<RegularData<F>> {
        // SAFETY: a super block of `F`, which is borrowed.
        unsafe { &Registration::<F>::of(self.as_ptr()).files }
    }

    /// The cache of what is kept with open directories.
    #[inline]
    pub(crate) fn directories(&self) -> &SlabCache<DirectoryData<F>> {
        // SAFETY: a super block of `F`, which is borrowed.
        unsafe { &Registration::<F>::of(self.as_ptr()).directories }
    }
}

impl<'a, F: FileSystem> NewSuper<'a, F> {
    /// Who uses which directory exclusively, among the mounts of the type.
    pub(crate) fn claims(&self) -> &'a Claims {
        // SAFETY: the super block is one of `F`, and lives for `'a`.
        unsafe { &Registration::<F>::of(self.sb().as_ptr()).claims }
    }
}
