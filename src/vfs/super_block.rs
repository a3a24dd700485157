// SPDX-License-Identifier: GPL-2.0

//! A super block of any filesystem, and one of ours being filled.

use super::{
    backing::LayerMounts,
    calls,
    export::ExportTable,
    fs::{Exactly, FileSystem},
    inode::read_field,
    mount::PathRef,
    new_inode::NewInode,
    own::{OwnDentry, OwnSuper},
    super_ops::{SuperBox, SuperTable},
    to_result,
    xattr::Handlers,
};
use crate::bindings;
use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque,
};

/// A super block of any filesystem.
#[repr(transparent)]
pub(crate) struct SuperBlock(Opaque<bindings::super_block>);

impl PartialEq for SuperBlock {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

/// A user namespace.
#[repr(transparent)]
pub(super) struct UserNs(Opaque<bindings::user_namespace>);

/// The identity of a super block, to be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SbId(usize);

impl SbId {
    /// That of no super block.
    pub(crate) const NONE: Self = Self(0);
}

/// Up to which one the writeback errors of a super block are known (an `errseq_t`).
pub(crate) struct KnownErrors(Atomic<u32>);

/// How a filesystem encodes file handles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandleKind {
    /// They cannot be decoded (by the current credentials).
    None,
    /// The default encoding by a 32 bit inode number.
    Ino32,
    /// Another encoding.
    Other,
}

/// Flags that a stacked filesystem sets on its super block.
#[derive(Clone, Copy)]
pub(crate) enum SbFlag {
    /// Read-only.
    ReadOnly,
    /// No file has security attributes that writes must strip, unless marked.
    NoSec,
}

impl SuperBlock {
    /// # Safety
    ///
    /// Charter 1 holds for `ptr` and `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::super_block) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// The user namespace that its ids are of, which it references.
    #[inline]
    pub(super) fn user_ns(&self) -> &UserNs {
        // SAFETY: charter 1: the field is constant, and the super block references what is there.
        unsafe { &*(*self.as_ptr()).s_user_ns.cast() }
    }

    /// Its identity.
    pub(crate) fn id(&self) -> SbId {
        SbId(self.as_ptr() as usize)
    }

    fn flags(&self) -> usize {
        read_field!(self, s_flags)
    }

    pub(crate) fn is_readonly(&self) -> bool {
        self.flags() & bindings::ROVL_SB_RDONLY as usize != 0
    }

    pub(crate) fn is_nosec(&self) -> bool {
        self.flags() & bindings::ROVL_SB_NOSEC as usize != 0
    }

    /// Whether times that changed wait in memory for another reason to write their inode.
    pub(crate) fn is_lazytime(&self) -> bool {
        self.flags() & bindings::ROVL_SB_LAZYTIME as usize != 0
    }

    /// Whether [`Mount::commit`](super::Mount::commit) makes data durable that was written back, and all names and attributes:
    /// so it is known of ext4 with a journal, XFS and btrfs.
    pub(crate) fn commits_apart(&self) -> bool {
        calls::rovl_commits_apart(self)
    }

    pub(crate) fn has_posix_acl(&self) -> bool {
        self.flags() & bindings::ROVL_SB_POSIXACL as usize != 0
    }

    /// Whether some program may have to be asked before a file of the filesystem is opened: fanotify's
    /// permission events.
    pub(crate) fn asks_listeners(&self) -> bool {
        calls::rovl_sb_asks_listeners(self)
    }

    /// Whether it is a local filesystem of a kind that is known to list all names of files and of extended
    /// attributes that it has, and whose changes fsnotify sees.
    pub(crate) fn is_ordinary(&self) -> bool {
        calls::rovl_is_ordinary(self)
    }

    /// How many stacked filesystems are below, itself included.
    pub(crate) fn stack_depth(&self) -> i32 {
        read_field!(self, s_stack_depth)
    }

    /// The smallest step of timestamps, in nanoseconds.
    pub(crate) fn time_gran(&self) -> u32 {
        read_field!(self, s_time_gran)
    }

    /// The anonymous device number of the super block.
    pub(crate) fn dev(&self) -> u32 {
        read_field!(self, s_dev)
    }

    /// The filesystem's UUID; all zero where it has none.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        // SAFETY: charter 1; set at mount.
        unsafe { (*self.as_ptr()).s_uuid.b }
    }

    /// How file handles are encoded.
    pub(crate) fn handle_kind(&self) -> HandleKind {
        match calls::rovl_fh_kind(self) {
            0 => HandleKind::None,
            1 => HandleKind::Ino32,
            _ => HandleKind::Other,
        }
    }

    /// The counter of writeback errors.
    fn wb_err(&self) -> &Atomic<u32> {
        // SAFETY: charter 1: the field is read and written atomically alone.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).s_wb_err) }
    }

    /// Those that a file that is opened now is not told of: all, or none where the last was not reported to anybody yet
    /// (`errseq_sample`).
    pub(crate) fn known_errors(&self) -> KnownErrors {
        KnownErrors(Atomic::new(calls::errseq_sample(self.wb_err())))
    }

    /// Checks that there was no writeback error since `known`, which stays as it is.
    ///
    /// # Errors
    ///
    /// The last one.
    pub(crate) fn no_error_since(&self, known: &KnownErrors) -> Result {
        to_result(calls::errseq_check(self.wb_err(), known.0.load(Relaxed)))
    }

    /// Records a writeback error of `from` that is newer than `known` here, too: `syncfs(2)` reports it once to
    /// each file that is open (Documentation/core-api/errseq.rst). Two callers at a time may both record it. Does
    /// nothing at the last unmount, where nobody is left to hear of it here.
    #[inline]
    pub(crate) fn pass_on_errors(&self, from: &Self, known: &KnownErrors) {
        if from.wb_err().load(Relaxed) != known.0.load(Relaxed) {
            self.pass_on_newer(from, known);
        }
    }

    #[inline(never)]
    fn pass_on_newer(&self, from: &Self, known: &KnownErrors) {
        if read_field!(self, s_active.counter) == 0 {
            return;
        }
        let mut seen = known.0.load(Relaxed);
        let err = calls::errseq_check_and_advance(from.wb_err(), &mut seen);
        if err != 0 {
            calls::errseq_set(self.wb_err(), err);
        }
        known.0.store(seen, Relaxed);
    }

    /// Whether new mounts of stacked filesystems on top of `depth` others are refused.
    pub(crate) fn too_deep(depth: i32) -> bool {
        depth > bindings::FILESYSTEM_MAX_STACK_DEPTH as i32
    }
}

/// Sizes of a filesystem (`struct kstatfs`).
#[repr(transparent)]
pub(crate) struct StatFs(bindings::kstatfs);

impl StatFs {
    /// Asks the filesystem at `path`.
    ///
    /// # Errors
    ///
    /// `ESTALE` for a negative dentry, of which some filesystems would read the inode; what the filesystem returns.
    pub(crate) fn read(path: PathRef<'_>) -> Result<Self> {
        let mut buf = Self(pin_init::zeroed());
        to_result(calls::vfs_statfs(&path.as_positive()?, &mut buf))?;
        Ok(buf)
    }

    /// The longest name.
    pub(crate) fn name_len(&self) -> i64 {
        self.0.f_namelen as i64
    }

    pub(crate) fn set_name_len(&mut self, len: i64) {
        self.0.f_namelen = len as isize;
    }

    /// Sets the magic number of `F`.
    pub(crate) fn set_magic<F: FileSystem>(&mut self) {
        self.0.f_type = F::MAGIC as isize;
    }

    /// Sets the filesystem id from the UUID of `sb`.
    pub(crate) fn set_fsid(&mut self, sb: &SuperBlock) {
        calls::rovl_uuid_to_fsid(sb, self)
    }

    pub(super) fn into_raw(self) -> bindings::kstatfs {
        self.0
    }
}

/// A device number for files of one layer filesystem, given back when dropped.
pub(crate) struct AnonDev(u32);

impl AnonDev {
    /// Allocates one; `ENOMEM`, `EMFILE`.
    pub(crate) fn new() -> Result<Self> {
        let mut dev = 0;
        to_result(calls::get_anon_bdev(&mut dev))?;
        Ok(Self(dev))
    }

    pub(crate) fn dev(&self) -> u32 {
        self.0
    }
}

impl Drop for AnonDev {
    fn drop(&mut self) {
        // SAFETY: the number is ours.
        unsafe { bindings::free_anon_bdev(self.0) }
    }
}

/// A random UUID.
pub(crate) fn random_uuid() -> [u8; 16] {
    let mut uuid = bindings::uuid_t::default();
    calls::uuid_gen(&mut uuid);
    uuid.b
}

/// Changes a field of the super block `sb`, by `=` or `|=`. For the types below alone, each the only one of its super block.
macro_rules! field {
    ($sb:expr, $name:ident $op:tt $value:expr) => {{
        let (sb, value) = ($sb.as_ptr(), $value);
        // SAFETY: charter 1; a super block that is being filled is changed by nobody else, though others may look, and has
        // nothing yet that its fields are the operations of.
        unsafe { (*sb).$name $op value }
    }};
}

/// A super block of ours that is being filled: without data yet, but with memory for it.
pub(crate) struct NewSuper<'a, F: FileSystem> {
    sb: &'a SuperBlock,
    room: KBox<MaybeUninit<SuperBox<F>>>,
    _fs: Exactly<F>,
}

impl<'a, F: FileSystem> NewSuper<'a, F> {
    /// # Safety
    ///
    /// `ptr` is the super block that `fill_super` of `F` got, for whose duration `'a` is.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::super_block) -> Result<Self> {
        Ok(Self {
            // SAFETY: charter 1: by the contract the caller of `fill_super` keeps it.
            sb: unsafe { SuperBlock::from_raw(ptr) },
            room: KBox::new_uninit(GFP_KERNEL)?,
            _fs: PhantomData,
        })
    }

    /// The super block.
    pub(crate) fn sb(&self) -> &'a SuperBlock {
        self.sb
    }

    /// Sets a flag.
    pub(crate) fn set_flag(&mut self, flag: SbFlag) {
        let flag = match flag {
            SbFlag::ReadOnly => bindings::ROVL_SB_RDONLY as usize,
            SbFlag::NoSec => bindings::ROVL_SB_NOSEC as usize,
        };
        field!(self.sb, s_flags |= flag)
    }

    /// Shows the block size of `sb`.
    pub(crate) fn set_block_size_of(&mut self, sb: &SuperBlock) {
        field!(self.sb, s_blocksize = read_field!(sb, s_blocksize));
        field!(
            self.sb,
            s_blocksize_bits = read_field!(sb, s_blocksize_bits)
        );
    }

    pub(crate) fn set_time_gran(&mut self, gran: u32) {
        field!(self.sb, s_time_gran = gran)
    }

    /// Sets the UUID.
    pub(crate) fn set_uuid(&mut self, uuid: &[u8; 16]) {
        calls::rovl_sb_set_uuid(self.sb, uuid)
    }

    /// Sets who answers for extended attributes; without, there are none.
    pub(crate) fn set_xattrs<H: Handlers<F>>(&mut self) {
        field!(self.sb, s_xattr = H::LIST.as_ptr())
    }

    /// Sets how file handles are made; without, an identifier is number and generation of the inode.
    pub(crate) fn set_export(&mut self, table: ExportTable<F>) {
        // The kernel crate knows the type of the table as a stub alone.
        field!(self.sb, s_export_op = core::ptr::from_ref(table.0).cast())
    }

    /// Installs the filesystem's data, and the mounts of its layers, which outlive it and all inodes. Nothing can fail here,
    /// so that what the data holds is dropped in the order of its fields, whenever it is. `writes_back_apart` where
    /// [`OwnSuper::sync_layer`] will be asked to write back.
    pub(crate) fn set_data(
        self,
        data: impl PinInit<F>,
        mounts: LayerMounts,
        writes_back_apart: bool,
    ) -> FilledSuper<'a, F> {
        field!(self.sb, s_stack_depth = mounts.stack_depth() + 1);
        let data = SuperBox::new(data, mounts, writes_back_apart);
        let Ok(data) = self.room.write_pin_init(data);
        // SAFETY: the super block has no data yet, and nobody reads it.
        unsafe { SuperBox::install(data, self.sb.as_ptr()) };
        // SAFETY: charter 4: the data was set, and stays at least as long as the super block is being filled.
        FilledSuper(unsafe { OwnSuper::from_raw(self.sb.as_ptr()) })
    }
}

/// A super block of ours that is being filled and has its data: without a root yet.
pub(crate) struct FilledSuper<'a, F: FileSystem>(&'a OwnSuper<F>);

impl<'a, F: FileSystem> FilledSuper<'a, F> {
    /// The super block.
    pub(crate) fn sb(&self) -> &'a OwnSuper<F> {
        self.0
    }

    /// Has directories that fold case do so as in layer `layer`, whose mount outlives ours. `EINVAL` where there is no such
    /// layer, or none that can: whoever was told that we do counts on it; and where they do so already.
    pub(crate) fn fold_case_as(&mut self, layer: u16) -> Result {
        let (sb, mnt) = (self.0.as_ptr(), self.0.mounts().get(layer).ok_or(EINVAL)?);
        if self.0.can_fold_case() || !mnt.sb().can_fold_case() {
            return Err(EINVAL);
        }
        // SAFETY: charter 1; a super block that is being filled is changed by nobody else. Our names are compared as long as
        // there are dentries of ours, while the mount keeps the encoding, and by walks that began before: a filesystem frees
        // its encoding a grace period after it has gone (`utf8_unload()`).
        unsafe { bindings::rovl_fold_case_as(sb, mnt.sb().as_ptr()) };
        // SAFETY: charter 1; a super block that is being filled is changed by nobody else. A dentry that it has by then goes on
        // with the operations that it has.
        unsafe { bindings::set_default_d_op(sb, &SuperTable::<F>::FOLDING) };
        Ok(())
    }

    /// Makes `root` the root directory: what filling ends with.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` where `root` is no directory of this super block.
    pub(crate) fn set_root(self, root: NewInode<'a, F>) -> Result<Rooted<'a, F>> {
        if !root.mode().is_dir() {
            return Err(EINVAL);
        }
        let inode = root.publish();
        if inode.sb() != &**self.0 {
            return Err(EINVAL);
        }
        let inode = inode.into_raw();
        // SAFETY: charter 1; the call takes the reference over, also where it fails.
        let dentry = unsafe { bindings::d_make_root(inode.as_ptr().cast()) };
        let dentry = NonNull::new(dentry).ok_or(ENOMEM)?;
        field!(self.0, s_root = dentry.as_ptr());
        // SAFETY: charter 1 and 3: the super block references its root, which was made of one of its inodes.
        Ok(Rooted(unsafe { OwnDentry::from_raw(dentry.as_ptr()) }))
    }
}

/// A super block of ours that was filled: the VFS has a `BUG()` for one without a root.
pub(crate) struct Rooted<'a, F: FileSystem>(&'a OwnDentry<F>);

impl<'a, F: FileSystem> Rooted<'a, F> {
    /// The root.
    pub(crate) fn root(&self) -> &'a OwnDentry<F> {
        self.0
    }
}
