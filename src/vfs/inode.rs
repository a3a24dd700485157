// SPDX-License-Identifier: GPL-2.0

//! An inode of any filesystem.
//!
//! C header: `include/linux/fs.h`.

use super::{calls, mount::IdMap, refs::Counted, to_result, SuperBlock};
use crate::bindings;
use core::{mem::ManuallyDrop, ptr::NonNull};
use kernel::{
    prelude::*,
    types::{NotThreadSafe, Opaque},
};

/// The identity of an inode that somebody keeps referenced, to be compared.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeId(usize);

impl InodeId {
    /// The least that is greater.
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// A word with one bit set: identities that differ in it differ.
    #[inline]
    pub(crate) fn bit(self) -> u64 {
        // The golden ratio spreads addresses, of which the lower bits are alike.
        1 << ((self.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
    }
}

/// A file type and permission bits (`umode_t`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u16);

impl Mode {
    pub(crate) const REG: u16 = bindings::S_IFREG as u16;
    pub(crate) const DIR: u16 = bindings::S_IFDIR as u16;
    pub(crate) const LNK: u16 = bindings::S_IFLNK as u16;
    pub(crate) const CHR: u16 = bindings::S_IFCHR as u16;
    pub(crate) const BLK: u16 = bindings::S_IFBLK as u16;
    pub(crate) const FIFO: u16 = bindings::S_IFIFO as u16;
    pub(crate) const SOCK: u16 = bindings::S_IFSOCK as u16;
    pub(crate) const SGID: u16 = bindings::S_ISGID as u16;

    /// The file type alone.
    pub(crate) const fn file_type(self) -> u16 {
        self.0 & bindings::S_IFMT as u16
    }

    /// The permission bits alone, set-id and sticky included.
    pub(crate) const fn perm(self) -> u16 {
        self.0 & 0o7777
    }

    /// These permissions with the file type of `other`.
    pub(super) const fn of_type(self, other: Self) -> Self {
        Self(self.perm() | other.file_type())
    }

    /// The mode of a regular file with these permissions.
    pub(super) const fn of_regular(self) -> u16 {
        self.of_type(Self(Self::REG)).0
    }

    pub(crate) const fn is_dir(self) -> bool {
        self.file_type() == Self::DIR
    }

    pub(crate) const fn is_reg(self) -> bool {
        self.file_type() == Self::REG
    }

    pub(crate) const fn is_lnk(self) -> bool {
        self.file_type() == Self::LNK
    }

    /// Character and block devices, FIFOs, sockets.
    pub(crate) const fn is_special(self) -> bool {
        matches!(
            self.file_type(),
            Self::CHR | Self::BLK | Self::FIFO | Self::SOCK
        )
    }
}

/// `S_*` inode flags.
pub(crate) mod flags {
    use crate::bindings;
    pub(crate) const SYNC: u32 = bindings::S_SYNC;
    pub(crate) const NOATIME: u32 = bindings::S_NOATIME;
    pub(crate) const APPEND: u32 = bindings::S_APPEND;
    pub(crate) const IMMUTABLE: u32 = bindings::S_IMMUTABLE;
    pub(crate) const CASEFOLD: u32 = bindings::S_CASEFOLD;
}

/// An inode of any filesystem.
#[repr(transparent)]
pub(crate) struct Inode(Opaque<bindings::inode>);

// SAFETY: inodes may be used and given back from any thread.
unsafe impl Send for Inode {}
// SAFETY: all fields are read and changed as the VFS rules demand, from any thread.
unsafe impl Sync for Inode {}

// SAFETY: `ihold`/`iput` count references in `i_count`.
unsafe impl Counted for Inode {
    fn inc(&self) {
        calls::ihold(self)
    }

    unsafe fn dec(obj: NonNull<Self>) {
        // SAFETY: the caller gives its reference up.
        unsafe { bindings::iput(obj.as_ptr().cast()) }
    }
}

impl PartialEq for Inode {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

/// Reads a field that the VFS changes under locks we do not hold; the value may be old.
macro_rules! read_field {
    ($self:expr, $($field:tt)+) => {
        // SAFETY: charter 1; the field is a machine word or less.
        unsafe { (&raw const (*$self.as_ptr()).$($field)+).read_volatile() }
    };
}
pub(super) use read_field;

impl Inode {
    /// # Safety
    ///
    /// Charter 1 holds for `ptr` and `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::inode) -> &'a Self {
        // SAFETY: by the contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// Type and permissions.
    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        Mode(read_field!(self, i_mode))
    }

    pub(crate) fn ino(&self) -> u64 {
        read_field!(self, i_ino)
    }

    pub(crate) fn nlink(&self) -> u32 {
        read_field!(self, __bindgen_anon_1.i_nlink)
    }

    /// Whether it has a dentry, with a name or without, at this moment.
    pub(super) fn has_dentry(&self) -> bool {
        calls::rovl_has_dentry(self)
    }

    /// The device number of a device node.
    pub(crate) fn rdev(&self) -> u32 {
        read_field!(self, i_rdev)
    }

    pub(crate) fn size(&self) -> i64 {
        calls::rovl_i_size_read(self)
    }

    /// The `S_*` flags.
    pub(crate) fn flags(&self) -> u32 {
        read_field!(self, i_flags)
    }

    /// The super block that the inode is on.
    #[inline]
    pub(crate) fn sb(&self) -> &SuperBlock {
        // SAFETY: `i_sb` never changes and outlives its inodes.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// Whether the inode is a whiteout device: a character device 0:0.
    pub(crate) fn is_whiteout_device(&self) -> bool {
        calls::rovl_is_whiteout(self)
    }

    /// The operations of its filesystem.
    fn operations(&self) -> &bindings::inode_operations {
        let ops = read_field!(self, i_op);
        // SAFETY: charter 1: `i_op` is never null, and the super block keeps the module that the table is a constant of.
        unsafe { &*ops }
    }

    /// Whether the filesystem lists extended attributes of this inode.
    pub(crate) fn has_listxattr(&self) -> bool {
        self.operations().listxattr.is_some()
    }

    /// Whether ACLs of this inode can be set.
    pub(crate) fn has_set_acl(&self) -> bool {
        self.operations().set_acl.is_some()
    }

    /// Whether `chattr` flags of this inode can be set.
    pub(crate) fn has_set_fileattr(&self) -> bool {
        self.operations().fileattr_set.is_some()
    }

    /// Whether somebody has it open for writing, or truncates it.
    #[inline]
    pub(crate) fn is_open_for_write(&self) -> bool {
        read_field!(self, i_writecount).counter > 0
    }

    /// Takes `i_rwsem` exclusively.
    pub(crate) fn lock(&self) -> InodeGuard<'_> {
        // SAFETY: charter 1: the inode is referenced, and its lock initialised.
        unsafe { bindings::down_write(&raw mut (*self.as_ptr()).i_rwsem) };
        InodeGuard(self, NotThreadSafe)
    }

    /// `inode_trylock()`: as [`lock`](Self::lock), where nobody has to be waited for.
    pub(crate) fn try_lock(&self) -> Option<InodeGuard<'_>> {
        // SAFETY: charter 1: the inode is referenced, and its lock initialised.
        let locked = unsafe { bindings::down_write_trylock(&raw mut (*self.as_ptr()).i_rwsem) };
        // A guard that is made gives the lock back: none is made for `then_some` to drop.
        match locked {
            0 => None,
            _ => Some(InodeGuard(self, NotThreadSafe)),
        }
    }

    /// `inode_permission()`: checks `mask` (`MAY_*`) with the current credentials; may sleep.
    #[inline]
    pub(crate) fn permission(&self, idmap: &IdMap, mask: u32) -> Result {
        // With this bit ACLs are read as under `rcu_read_lock`, which is not held.
        let mask = mask & !bindings::MAY_NOT_BLOCK;
        to_result(calls::inode_permission(idmap, self, mask as i32))
    }

    /// Whether owner and group, as `idmap` shows them, and mode are those of `other`.
    #[inline]
    pub(crate) fn has_mode_of(&self, idmap: &IdMap, other: &Inode) -> bool {
        read_field!(self, i_mode) == read_field!(other, i_mode)
            && idmap.show_uid(self, read_field!(self, i_uid)).val == read_field!(other, i_uid).val
            && idmap.show_gid(self, read_field!(self, i_gid)).val == read_field!(other, i_gid).val
    }

    /// Its identity.
    #[inline]
    pub(crate) fn id(&self) -> InodeId {
        InodeId(self.as_ptr() as usize)
    }

    /// Whether names in it, or its data, are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        calls::rovl_is_encrypted(self)
    }

    /// `generic_permission()`: the mode and ACL check alone, of an inode whose ACLs are those of `behind` and
    /// whose mode was `mode` before that was found.
    #[inline]
    pub(crate) fn generic_permission(
        &self,
        idmap: &IdMap,
        mask: u32,
        mode: Mode,
        behind: &Self,
    ) -> Result {
        let mask = mask & !bindings::MAY_NOT_BLOCK;
        // SAFETY: charter 1: the inodes and the mapping are referenced. Without the bit the call takes a reference to the
        // ACL that it reads.
        to_result(unsafe {
            bindings::rovl_permission(
                idmap.as_ptr(),
                self.as_ptr(),
                mask as i32,
                mode.0,
                behind.as_ptr(),
            )
        })
    }

    /// Whether the current credentials own the inode or may act as its owner.
    pub(crate) fn owner_or_capable(&self, idmap: &IdMap) -> bool {
        calls::inode_owner_or_capable(idmap, self)
    }

    /// Whether the current credentials are in the inode's group or may act so.
    pub(crate) fn in_group_or_capable(&self, idmap: &IdMap) -> bool {
        let gid = bindings::vfsgid_t {
            val: idmap.show_gid(self, read_field!(self, i_gid)).val,
        };
        calls::in_group_or_capable(idmap, self, gid)
    }

    /// Keeps writers of the inode away from exec and the other way round; `ETXTBSY`.
    pub(crate) fn write_access(&self) -> Result<WriteAccess<'_>> {
        to_result(calls::rovl_get_write_access(self))?;
        Ok(WriteAccess(self, NotThreadSafe))
    }

    /// Marks the inode as used by a union mount as upper or work directory; `None` where it is.
    pub(super) fn try_inuse(&self) -> bool {
        calls::rovl_inuse_trylock(self)
    }

    /// Takes the mark of [`try_inuse`](Self::try_inuse) away again.
    pub(super) fn clear_inuse(&self) {
        calls::rovl_inuse_unlock(self)
    }

    /// Whether a union mount uses the inode as upper or work directory.
    pub(crate) fn is_inuse(&self) -> bool {
        calls::rovl_is_inuse(self)
    }

    /// Asks the filesystem for the extents (`fiemap`).
    pub(super) fn fiemap(
        &self,
        info: *mut bindings::fiemap_extent_info,
        start: u64,
        len: u64,
    ) -> Result {
        match self.operations().fiemap {
            // SAFETY: `info` is what the VFS gave our own callback.
            Some(fiemap) => to_result(unsafe { fiemap(self.as_ptr(), info, start, len) }),
            None => Err(EOPNOTSUPP),
        }
    }
}

/// `i_rwsem` of an inode, held exclusively.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct InodeGuard<'a>(&'a Inode, NotThreadSafe);

impl InodeGuard<'_> {
    /// The locked inode.
    pub(crate) fn inode(&self) -> &Inode {
        self.0
    }

    /// The lock of `inode`, which somebody else gives back.
    ///
    /// # Safety
    ///
    /// The current task holds it as long as the guard is used.
    pub(super) unsafe fn borrowed(inode: &Inode) -> ManuallyDrop<InodeGuard<'_>> {
        ManuallyDrop::new(InodeGuard(inode, NotThreadSafe))
    }
}

impl Drop for InodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: the guard holds the lock.
        unsafe { bindings::up_write(&raw mut (*self.0.as_ptr()).i_rwsem) }
    }
}

/// A count of writers, held.
#[must_use = "the access ends when the guard is dropped"]
pub(crate) struct WriteAccess<'a>(&'a Inode, NotThreadSafe);

impl Drop for WriteAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: the guard holds one count.
        unsafe { bindings::rovl_put_write_access(self.0.as_ptr()) }
    }
}
