// SPDX-License-Identifier: GPL-2.0

//! Mounts, paths, write access.
//!
//! C headers: `include/linux/mount.h`, `include/linux/path.h`.

pub(crate) use super::idmap::IdMap;
use super::{attr::Stat, calls, refs::Ref, to_result, Dentry, Inode, SuperBlock};
use crate::bindings;
use core::{
    mem::{offset_of, MaybeUninit},
    ptr::NonNull,
};
use kernel::{
    error::from_err_ptr,
    fs::LocalFile,
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{atomic_load, Acquire},
    },
    types::{NotThreadSafe, Opaque},
};

/// `ESRCH` where the current task has no root directory, umask and mount namespace any more: it is exiting, and closes its
/// files in there.
pub(super) fn task_has_fs() -> Result {
    match calls::rovl_task_has_fs() {
        true => Ok(()),
        false => Err(ESRCH),
    }
}

/// A mount of any filesystem.
#[repr(transparent)]
pub(crate) struct Mount(Opaque<bindings::vfsmount>);

// SAFETY: mounts may be used and given back from any thread.
unsafe impl Send for Mount {}
// SAFETY: mounts may be used from any thread: fields are constant or read atomically.
unsafe impl Sync for Mount {}

// SAFETY: `mntget`/`mntput` count references.
unsafe impl AlwaysRefCounted for Mount {
    fn inc_ref(&self) {
        calls::mntget(self);
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: the caller gives its reference up.
        unsafe { bindings::mntput(obj.as_ptr().cast()) }
    }
}

impl PartialEq for Mount {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl Mount {
    /// # Safety
    ///
    /// Charter 1 holds for `ptr` and `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::vfsmount) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::vfsmount {
        self.0.get()
    }

    /// The mount's id mapping.
    #[inline]
    pub(crate) fn idmap(&self) -> &IdMap {
        // SAFETY: charter 1: the mount is referenced.
        unsafe { Self::idmap_of(self.as_ptr()) }
    }

    /// The id mapping of the mount at `mnt`.
    ///
    /// # Safety
    ///
    /// For `'a` the mount is referenced, or RCU-walk may read it (charter 6).
    #[inline]
    pub(super) unsafe fn idmap_of<'a>(mnt: *mut bindings::vfsmount) -> &'a IdMap {
        // SAFETY: by the contract the memory lives; `do_idmap_mount()` stores the mapping with release semantics.
        let idmap = unsafe { atomic_load(&raw mut (*mnt).mnt_idmap, Acquire) };
        // SAFETY: the mount references its mapping until `free_vfsmnt()`, which runs a grace period after the last
        // reference was given back. `can_idmap_mount()` lets nobody replace one that is not `nop_mnt_idmap`, a static, but
        // `open_tree_attr()`, on a mount that nobody else has seen.
        unsafe { IdMap::from_raw(idmap) }
    }

    /// The directory that the mount shows.
    pub(crate) fn root(&self) -> PathRef<'_> {
        // SAFETY: charter 1: `mnt_root` is constant and referenced by the mount.
        let root = unsafe { Dentry::from_raw((*self.as_ptr()).mnt_root) };
        // INVARIANT: a mount's root is on its super block.
        PathRef {
            mnt: self,
            dentry: root,
        }
    }

    /// The path of `dentry` seen through this mount.
    ///
    /// # Errors
    ///
    /// `EXDEV` where it is on another super block.
    #[inline]
    pub(crate) fn path<'a>(&'a self, dentry: &'a Dentry) -> Result<PathRef<'a>> {
        if dentry.sb() != self.sb() {
            return Err(EXDEV);
        }
        // INVARIANT: as was looked at.
        Ok(PathRef { mnt: self, dentry })
    }

    /// The super block that is mounted.
    pub(crate) fn sb(&self) -> &SuperBlock {
        // SAFETY: charter 1: `mnt_sb` is constant and kept active by the mount.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).mnt_sb) }
    }

    /// Writes all dirty data of the filesystem back and waits; takes its `s_umount`, which nobody holds who has a mount of it
    /// and is not about to give that up.
    pub(crate) fn sync(&self) -> Result {
        to_result(calls::rovl_sync_upper(self.sb()))
    }

    /// Has a filesystem that [commits apart](SuperBlock::commits_apart) commit, and waits; takes its `s_umount` as
    /// [`sync`](Self::sync) does. Dirty data is left alone.
    pub(crate) fn commit(&self) -> Result {
        to_result(calls::rovl_commit(self.sb()))
    }

    /// Whether the mount or its super block is read-only now.
    pub(crate) fn is_readonly(&self) -> bool {
        calls::__mnt_is_readonly(self)
    }

    /// `mnt_want_write()`: the mount stays writable and the super block is not frozen until the
    /// guard is dropped.
    ///
    /// # Errors
    ///
    /// `EROFS`.
    pub(crate) fn want_write(&self) -> Result<WriteGuard<'_>> {
        to_result(calls::mnt_want_write(self))?;
        Ok(WriteGuard(self, NotThreadSafe))
    }

    /// `mnt_get_write_access()`: as [`want_write`](Self::want_write), but does not hold off a freeze;
    /// see [`MountAccess::start_write`].
    pub(crate) fn write_access(&self) -> Result<MountAccess<'_>> {
        to_result(calls::mnt_get_write_access(self))?;
        Ok(MountAccess(self, NotThreadSafe))
    }

    /// A private, detached copy of the mount at `path`; `read_only` makes the copy so, and either
    /// way its own atime rules replace those of the original. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a mount that may not be cloned (unbindable, locked children), `ENOMEM`; `ESTALE` for a negative dentry,
    /// `ESRCH` in a task that is exiting.
    pub(crate) fn clone_private(path: PathRef<'_>, read_only: bool) -> Result<PrivateMount> {
        path.positive()?;
        task_has_fs()?;
        // SAFETY: charter 1 and 2: the path is borrowed and positive; the task has a mount namespace, as was just seen.
        let mnt = from_err_ptr(unsafe { bindings::clone_private_mount(path.as_ptr()) })?;
        // SAFETY: the mount is new, and no path leads to it; who goes over all mounts of its super block reads the flags, a word.
        unsafe {
            (*mnt).mnt_flags &= !(bindings::ROVL_MNT_ATIME_MASK as i32);
            if read_only {
                (*mnt).mnt_flags |=
                    (bindings::ROVL_MNT_READONLY | bindings::ROVL_MNT_NOATIME) as i32;
            }
        }
        NonNull::new(mnt).map(PrivateMount).ok_or(EINVAL)
    }
}

/// A mount that nobody else can see; unmounted when dropped.
///
/// # Invariants
///
/// The pointer owns a mount of `clone_private_mount()`.
#[repr(transparent)]
pub(crate) struct PrivateMount(NonNull<bindings::vfsmount>);

// SAFETY: as for `Mount`.
unsafe impl Send for PrivateMount {}
// SAFETY: as for `Mount`.
unsafe impl Sync for PrivateMount {}

impl core::ops::Deref for PrivateMount {
    type Target = Mount;
    #[inline]
    fn deref(&self) -> &Mount {
        // SAFETY: by the type invariant.
        unsafe { Mount::from_raw(self.0.as_ptr()) }
    }
}

impl PrivateMount {
    /// Where the mount is.
    #[inline]
    pub(super) fn address(&self) -> NonNull<bindings::vfsmount> {
        self.0
    }

    /// Unmounts many, waiting for one RCU grace period instead of one a mount.
    pub(super) fn unmount_all(mut mounts: KVec<Option<PrivateMount>>) {
        // SAFETY: the mounts are owned, and are forgotten below.
        unsafe { Self::unmount_array(&mounts) };
        while let Some(mnt) = mounts.pop() {
            core::mem::forget(mnt);
        }
    }

    /// As [`unmount_all`](Self::unmount_all), but leaves the values.
    ///
    /// # Safety
    ///
    /// The values are neither used nor dropped afterwards.
    pub(super) unsafe fn unmount_array(mounts: &[Option<PrivateMount>]) {
        let len = mounts.len() as u32;
        // SAFETY: the array, which the call reads only, holds owned mounts (the type is one pointer) and nulls, which it passes
        // over; they are given up by the contract.
        unsafe { bindings::kern_unmount_array(mounts.as_ptr().cast_mut().cast(), len) };
    }
}

impl Drop for PrivateMount {
    fn drop(&mut self) {
        // SAFETY: by the type invariant we own the mount.
        unsafe { bindings::kern_unmount(self.0.as_ptr()) }
    }
}

/// Leave to write to a mount: its holder keeps write access to it and its super block from being frozen.
#[derive(Clone, Copy)]
pub(crate) struct Writing<'a>(&'a Mount, NotThreadSafe);

impl<'a> Writing<'a> {
    /// The mount.
    #[inline]
    pub(crate) fn mnt(self) -> &'a Mount {
        self.0
    }

    /// The path of `dentry` seen through the mount.
    ///
    /// # Errors
    ///
    /// `EXDEV` where it is on another super block.
    #[inline]
    pub(crate) fn path(self, dentry: &'a Dentry) -> Result<WritePath<'a>> {
        Ok(WritePath(self.0.path(dentry)?, self.1))
    }
}

/// A path whose object may be changed: it is seen through a mount that its holder has leave to write to.
///
/// # Examples
///
/// ```ignore
/// let write = mnt.want_write()?;
/// let path = write.writing().path(dentry)?;
/// xattr::set(path, c"user.origin", b"rovl", SetFlags::ANY)?;
/// ```
#[derive(Clone, Copy)]
pub(crate) struct WritePath<'a>(PathRef<'a>, NotThreadSafe);

impl<'a> core::ops::Deref for WritePath<'a> {
    type Target = PathRef<'a>;
    #[inline]
    fn deref(&self) -> &PathRef<'a> {
        &self.0
    }
}

/// Write access and freeze protection.
#[must_use = "the access ends when the guard is dropped"]
pub(crate) struct WriteGuard<'a>(&'a Mount, NotThreadSafe);

impl WriteGuard<'_> {
    /// The leave to write that the guard stands for.
    #[inline]
    pub(crate) fn writing(&self) -> Writing<'_> {
        Writing(self.0, NotThreadSafe)
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: the guard stands for one successful `mnt_want_write()` of this task.
        unsafe { bindings::mnt_drop_write(self.0.as_ptr()) }
    }
}

/// Write access alone.
#[must_use = "the access ends when the guard is dropped"]
pub(crate) struct MountAccess<'a>(&'a Mount, NotThreadSafe);

impl MountAccess<'_> {
    /// `sb_start_write()`: waits while the super block is frozen and holds a freeze off.
    pub(crate) fn start_write(&self) -> WriteSection<'_> {
        calls::rovl_sb_start_write(self.0.sb());
        WriteSection(self.0, NotThreadSafe)
    }
}

impl Drop for MountAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: the guard stands for one successful `mnt_get_write_access()`.
        unsafe { bindings::mnt_put_write_access(self.0.as_ptr()) }
    }
}

/// Freeze protection, with the write access that it was started from.
#[must_use = "the section ends when the guard is dropped"]
pub(crate) struct WriteSection<'a>(&'a Mount, NotThreadSafe);

impl WriteSection<'_> {
    /// The leave to write that the guard stands for.
    #[inline]
    pub(crate) fn writing(&self) -> Writing<'_> {
        Writing(self.0, NotThreadSafe)
    }
}

impl Drop for WriteSection<'_> {
    fn drop(&mut self) {
        // SAFETY: the guard stands for one `sb_start_write()` of this task.
        unsafe { bindings::rovl_sb_end_write(self.0.sb().as_ptr()) }
    }
}

/// A dentry seen through a mount, borrowed.
///
/// # Invariants
///
/// The dentry is on the mount's super block.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PathRef<'a> {
    mnt: &'a Mount,
    dentry: &'a Dentry,
}

// C gets it as a `struct path`.
const _: () = {
    assert!(size_of::<PathRef<'_>>() == size_of::<bindings::path>());
    assert!(offset_of!(PathRef<'_>, mnt) == offset_of!(bindings::path, mnt));
    assert!(offset_of!(PathRef<'_>, dentry) == offset_of!(bindings::path, dentry));
};

/// A path whose dentry has an inode (charter 2): what C functions that take a path ask for.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PositivePath<'a>(PathRef<'a>);

impl<'a> PathRef<'a> {
    /// # Safety
    ///
    /// `dentry` is on the super block of `mnt`.
    #[inline]
    pub(super) unsafe fn new(mnt: &'a Mount, dentry: &'a Dentry) -> Self {
        // INVARIANT: by the contract.
        Self { mnt, dentry }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *const bindings::path {
        core::ptr::from_ref(self).cast()
    }

    /// The path as one whose dentry has an inode; `ESTALE` where it has none.
    #[inline]
    pub(super) fn as_positive(self) -> Result<PositivePath<'a>> {
        self.positive()?;
        Ok(PositivePath(self))
    }

    /// # Safety
    ///
    /// Charter 1 holds for both pointers of `path` and `'a`.
    pub(super) unsafe fn from_raw(path: *const bindings::path) -> Self {
        // SAFETY: by the contract.
        let mnt = unsafe { Mount::from_raw((*path).mnt) };
        // SAFETY: by the contract.
        let dentry = unsafe { Dentry::from_raw((*path).dentry) };
        // INVARIANT: so is every path of the VFS.
        Self { mnt, dentry }
    }

    /// The mount.
    #[inline]
    pub(crate) fn mnt(self) -> &'a Mount {
        self.mnt
    }

    /// The dentry.
    #[inline]
    pub(crate) fn dentry(self) -> &'a Dentry {
        self.dentry
    }

    /// The dentry's inode; `ESTALE` where it has none.
    #[inline]
    pub(crate) fn positive(self) -> Result<&'a Inode> {
        self.dentry.positive()
    }

    /// The path, owned.
    pub(crate) fn get(self) -> Path {
        // SAFETY: by the type invariant the two belong together.
        unsafe { Path::join(self.mnt.into(), self.dentry.into()) }
    }

    /// The mount's id mapping.
    #[inline]
    pub(crate) fn idmap(self) -> &'a IdMap {
        self.mnt.idmap()
    }

    /// The path of an open file.
    pub(crate) fn of_file(file: &'a LocalFile) -> Self {
        // SAFETY: charter 1: an open file references its path, which does not change.
        unsafe { Self::from_raw(&raw const (*file.as_ptr()).__bindgen_anon_1.f_path) }
    }

    /// Attributes, with the permission hooks of the current credentials, in `room`: they are too large to be moved; `mask` of
    /// `STATX_*`.
    pub(crate) fn stat<'s>(
        self,
        room: &'s mut MaybeUninit<Stat>,
        mask: u32,
    ) -> Result<&'s mut Stat> {
        let path = self.as_positive()?;
        let (at, flags) = (room.as_mut_ptr().cast(), bindings::AT_STATX_SYNC_AS_STAT);
        // SAFETY: charter 1 and 10: mount and dentry are referenced, the dentry is positive, the room is ours.
        to_result(unsafe { bindings::vfs_getattr(path.0.as_ptr(), at, mask, flags) })?;
        // SAFETY: where it succeeds `vfs_getattr()` has set all of the structure to zero before it filled it.
        Ok(unsafe { room.assume_init_mut() })
    }

    /// Attributes, without the security hook, into what a `getattr` operation was given or into zeros;
    /// `flags` of `AT_STATX_*`.
    #[inline]
    pub(crate) fn stat_into(self, stat: &mut Stat, mask: u32, flags: u32) -> Result {
        to_result(calls::rovl_getattr(&self.as_positive()?, stat, mask, flags))
    }

    /// `touch_atime()`: updates the access time as the mount's atime rules say.
    pub(crate) fn touch_atime(self) {
        if let Ok(path) = self.as_positive() {
            calls::touch_atime(&path)
        }
    }
}

/// A dentry seen through a mount, owned: it keeps the mount, and so the super block.
///
/// # Invariants
///
/// As for [`PathRef`]; the lifetime of `dentry`'s reference is that of `mnt`.
///
/// # Examples
///
/// ```ignore
/// let path = Path::resolve(c"/srv/layer")?;
/// let mnt = Mount::clone_private(path.as_ref(), true)?;
/// drop(path); // `mnt` keeps what it shows.
/// let found = mnt.root().dentry().lookup(&mnt, b"etc")?;
/// ```
pub(crate) struct Path {
    /// First, as it is dropped before the mount, which keeps its super block.
    dentry: Ref<'static, Dentry>,
    mnt: ARef<Mount>,
}

impl Clone for Path {
    fn clone(&self) -> Self {
        self.as_ref().get()
    }
}

impl Path {
    /// Resolves a path name with the current credentials, following symlinks.
    ///
    /// # Errors
    ///
    /// Those of a lookup; `ESRCH` in a task that is exiting.
    pub(crate) fn resolve(name: &CStr) -> Result<Self> {
        task_has_fs()?;
        let mut path = bindings::path::default();
        // SAFETY: charter 10; the name is a C string; the task has a root directory, as was just seen.
        to_result(unsafe {
            bindings::kern_path(name.as_char_ptr(), bindings::ROVL_LOOKUP_FOLLOW, &mut path)
        })?;
        // SAFETY: on success the path is ours.
        unsafe { Self::found(path) }
    }

    /// Resolves `name`, a path from `root`, with the current credentials; no symlink is followed, no mount crossed and nothing
    /// above `root` reached.
    ///
    /// # Errors
    ///
    /// Those of a lookup: `ENOTDIR` where `root` is no directory, `ELOOP` at a symlink, `EXDEV` above `root` and at a mount;
    /// `ESRCH` in a task that is exiting.
    pub(crate) fn resolve_beneath(root: PathRef<'_>, name: &CStr) -> Result<Self> {
        root.dentry().as_dir()?;
        task_has_fs()?;
        let mut path = bindings::path::default();
        // SAFETY: charter 1 and 10: mount and dentry are referenced for the call; the dentry is that of a directory, the name a C
        // string; the task has a root directory, as was just seen.
        to_result(unsafe {
            bindings::vfs_path_lookup(
                root.dentry().as_ptr(),
                root.mnt().as_ptr(),
                name.as_char_ptr(),
                bindings::ROVL_LOOKUP_BENEATH,
                &mut path,
            )
        })?;
        // SAFETY: on success the path is ours.
        unsafe { Self::found(path) }
    }

    /// # Safety
    ///
    /// The VFS found the path, and gave its references to us.
    unsafe fn found(path: bindings::path) -> Result<Self> {
        let mnt = NonNull::new(path.mnt).ok_or(EINVAL)?;
        let dentry = NonNull::new(path.dentry).ok_or(EINVAL)?;
        // SAFETY: by the contract the reference is ours.
        let mnt: ARef<Mount> = unsafe { ARef::from_raw(mnt.cast()) };
        // SAFETY: by the contract the reference is ours; the mount keeps the super block.
        let dentry = unsafe { Ref::from_raw(dentry.cast()) };
        // SAFETY: by the contract it is a path.
        Ok(unsafe { Self::join(mnt, dentry) })
    }

    /// The path of `dentry`, whose reference is taken over, seen through `mnt`.
    ///
    /// # Errors
    ///
    /// `EXDEV` where it is on another super block.
    pub(crate) fn new(mnt: &Mount, dentry: Ref<'_, Dentry>) -> Result<Self> {
        if dentry.sb() != mnt.sb() {
            return Err(EXDEV);
        }
        // SAFETY: both are on one super block, as was looked at.
        Ok(unsafe { Self::join(mnt.into(), dentry) })
    }

    /// The dentry's reference, for as long as `mnt` keeps its super block.
    ///
    /// # Errors
    ///
    /// `EXDEV` where it is on another super block.
    pub(crate) fn held_by(self, mnt: &Mount) -> Result<Ref<'_, Dentry>> {
        if self.dentry.sb() != mnt.sb() {
            return Err(EXDEV);
        }
        Ok(self.dentry)
    }

    /// # Safety
    ///
    /// The dentry is on the mount's super block.
    unsafe fn join(mnt: ARef<Mount>, dentry: Ref<'_, Dentry>) -> Self {
        // INVARIANT: by the contract.
        Self {
            // SAFETY: the mount keeps the super block, and is given back after the dentry.
            dentry: unsafe { dentry.kept_for() },
            mnt,
        }
    }

    /// The path of an open file (`O_PATH` ones too).
    pub(crate) fn of_file(file: &LocalFile) -> Self {
        PathRef::of_file(file).get()
    }

    /// Borrowed.
    #[inline]
    pub(crate) fn as_ref(&self) -> PathRef<'_> {
        PathRef {
            mnt: &self.mnt,
            dentry: &self.dentry,
        }
    }

    /// The path's name as the current task sees it, for messages and mount options.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG`, `ENOMEM`; `ESRCH` in a task that is exiting.
    pub(crate) fn name(&self) -> Result<super::CBuf> {
        task_has_fs()?;
        let mut buf: KVec<u8> = KVec::zeroed(super::PATH_MAX, GFP_KERNEL)?;
        let path = self.as_ref();
        // SAFETY: charter 1; the buffer has the given length; the task has a root directory, as was just seen.
        let name = from_err_ptr(unsafe {
            bindings::d_path(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len() as i32)
        })?;
        // SAFETY: `d_path` returns a C string inside the buffer.
        super::CBuf::new(unsafe { CStr::from_char_ptr(name) }.to_bytes())
    }
}
