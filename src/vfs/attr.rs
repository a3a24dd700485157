// SPDX-License-Identifier: GPL-2.0

//! Attributes: reading, changing, and the file flags of `chattr`.

use super::{
    calls,
    inode::{read_field, Inode, InodeGuard, Mode},
    mount::{IdMap, PathRef, WritePath},
    to_result, Dentry,
};
use crate::bindings;
use core::mem::MaybeUninit;
use kernel::prelude::*;

/// What `stat` knows of a file (`struct kstat`).
#[repr(transparent)]
pub(crate) struct Stat(pub(super) bindings::kstat);

impl Stat {
    /// All fields zero.
    pub(crate) fn zeroed() -> Self {
        Self(pin_init::zeroed())
    }

    /// # Safety
    ///
    /// `ptr` is valid and exclusive for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::kstat) -> &'a mut Self {
        // SAFETY: the caller says so; the type is transparent.
        unsafe { &mut *ptr.cast() }
    }

    pub(crate) fn mode(&self) -> Mode {
        Mode(self.0.mode)
    }
    pub(crate) fn size(&self) -> i64 {
        self.0.size
    }
    /// Bytes that the data occupies.
    pub(crate) fn occupied(&self) -> i64 {
        (self.0.blocks as i64).saturating_mul(512)
    }
    /// Takes the room that the data occupies from `other`.
    pub(crate) fn set_occupied_as(&mut self, other: &Self) {
        self.0.blocks = other.0.blocks;
    }
    /// Takes the room that the data occupies for that of a file of its size without holes.
    pub(crate) fn guess_occupied(&mut self) {
        let block = u64::from(self.0.blksize).max(1);
        let size = u64::try_from(self.0.size).unwrap_or(0);
        self.0.blocks = size.div_ceil(block).saturating_mul(block) / 512;
    }
    pub(crate) fn set_size(&mut self, size: i64) {
        self.0.size = size;
    }
    pub(crate) fn rdev(&self) -> u32 {
        self.0.rdev
    }
    pub(crate) fn ino(&self) -> u64 {
        self.0.ino
    }
    pub(crate) fn set_ino(&mut self, ino: u64) {
        self.0.ino = ino;
    }
    /// Takes back that the answer has a change cookie: it is one of another object than an earlier answer's.
    pub(crate) fn forget_change_cookie(&mut self) {
        self.0.result_mask &= !bindings::STATX_CHANGE_COOKIE;
    }
    pub(crate) fn set_dev(&mut self, dev: u32) {
        self.0.dev = dev;
    }
    /// Access and modification time.
    pub(crate) fn times(&self) -> Times {
        Times {
            atime: self.0.atime,
            mtime: self.0.mtime,
        }
    }
    pub(crate) fn nlink(&self) -> u32 {
        self.0.nlink
    }
    pub(crate) fn set_nlink(&mut self, nlink: u32) {
        self.0.nlink = nlink;
    }

    /// Whether the current user namespace can express owner and group.
    pub(crate) fn ids_mapped(&self) -> bool {
        calls::rovl_ids_mapped(self)
    }

    /// Whether the mount that `path` is on, and its filesystem, have a place for owner and group.
    pub(crate) fn ids_fit(&self, path: PathRef<'_>) -> bool {
        calls::rovl_ids_fit(self, path.mnt())
    }

    /// Maps owner and group of `inode` as a mount with `idmap` shows them.
    #[inline]
    pub(crate) fn map_owner(&mut self, idmap: &IdMap, inode: &Inode) {
        if idmap.is_nop() {
            return;
        }
        self.0.uid = idmap.show_uid(inode, self.0.uid);
        self.0.gid = idmap.show_gid(inode, self.0.gid);
    }

    /// Fills the attribute flags that the VFS enforces from `inode`'s `S_*` flags.
    pub(crate) fn fill_attributes(&mut self, inode: &Inode) {
        calls::generic_fill_statx_attr(inode, self)
    }
}

/// Access and modification time of an object (`struct rovl_times`).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Times {
    atime: bindings::timespec64,
    mtime: bindings::timespec64,
}

const _: () = assert!(size_of::<Times>() == size_of::<bindings::rovl_times>());

impl Times {
    /// Those of the object at `path`: a local filesystem's are in the inode.
    ///
    /// # Errors
    ///
    /// `ESTALE`; what its filesystem returns.
    #[inline]
    pub(crate) fn of(path: PathRef<'_>) -> Result<Self> {
        let inode = path.positive()?;
        match inode.sb().is_ordinary() {
            true => Ok(calls::rovl_inode_times(inode)),
            false => Self::told(path),
        }
    }

    #[cold]
    fn told(path: PathRef<'_>) -> Result<Self> {
        let mut room = MaybeUninit::uninit();
        let stat = path.stat(&mut room, statx::TIMES)?;
        Ok(Self {
            atime: stat.0.atime,
            mtime: stat.0.mtime,
        })
    }
}

impl PartialEq for Times {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &bindings::timespec64, b: &bindings::timespec64| {
            a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec
        };
        same(&self.atime, &other.atime) && same(&self.mtime, &other.mtime)
    }
}

/// What an inode has another of once it has changed; a directory changes with each of its entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangeMark {
    sec: i64,
    /// With the kernel's mark that it was asked for.
    nsec: u32,
    /// `i_version`: tmpfs has no new time for each change, and a time of ext4 may be a whole second.
    count: u64,
}

impl ChangeMark {
    /// That of `inode` now.
    #[inline]
    pub(crate) fn of(inode: &Inode) -> Self {
        Self {
            sec: read_field!(inode, i_ctime_sec),
            nsec: read_field!(inode, i_ctime_nsec),
            count: calls::rovl_change_count(inode),
        }
    }

    /// That of the object at `path` now, which it will not have again once it has changed: its change time is asked for as `stat`
    /// does, so that the next change gets a finer one (Documentation/filesystems/multigrain-ts.rst). `None` where the
    /// filesystem has no such times and can be written to.
    ///
    /// # Errors
    ///
    /// `ESTALE`; what `stat` returns.
    pub(crate) fn unique(path: PathRef<'_>) -> Result<Option<Self>> {
        let inode = path.positive()?;
        if !calls::rovl_tells_changes(inode) {
            return Ok(None);
        }
        path.stat(&mut MaybeUninit::uninit(), bindings::STATX_CTIME)?;
        let mark = Self::of(inode);
        // Another change may have come in between.
        let is_asked = mark.nsec & bindings::ROVL_CTIME_QUERIED != 0;
        Ok((is_asked || inode.sb().is_readonly()).then_some(mark))
    }

    /// Whether `inode`, which had this mark, has not changed since.
    #[inline]
    pub(crate) fn holds(self, inode: &Inode) -> bool {
        Self::of(inode) == self && calls::rovl_tells_changes(inode)
    }
}

/// What writing to a file changes beside its data: set-id bits and times.
pub(crate) struct Kept {
    mode: Mode,
    times: Times,
}

impl Kept {
    /// Those of the object at `path`.
    ///
    /// # Errors
    ///
    /// `ESTALE`; what its filesystem returns.
    pub(crate) fn of(path: PathRef<'_>) -> Result<Self> {
        Ok(Self {
            mode: path.positive()?.mode(),
            times: Times::of(path)?,
        })
    }

    /// The changes that give them back to the object at `path`: of its mode, and of its times.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub(crate) fn lost(&self, path: PathRef<'_>) -> Result<(Option<Iattr>, Option<Iattr>)> {
        let now = Self::of(path)?;
        Ok((
            (self.mode != now.mode).then(|| Iattr::mode(self.mode)),
            (self.times != now.times).then(|| Iattr::times(self.times)),
        ))
    }
}

/// A change of attributes (`struct iattr`).
#[repr(transparent)]
pub(crate) struct Iattr(pub(super) bindings::iattr);

impl Iattr {
    fn new(valid: u32) -> Self {
        let mut attr: bindings::iattr = pin_init::zeroed();
        attr.ia_valid = valid;
        Self(attr)
    }

    /// # Safety
    ///
    /// `ptr` is valid and exclusive for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::iattr) -> &'a mut Self {
        // SAFETY: the caller says so; the type is transparent.
        unsafe { &mut *ptr.cast() }
    }

    /// `chmod`.
    pub(crate) fn mode(mode: Mode) -> Self {
        let mut attr = Self::new(bindings::ATTR_MODE);
        attr.0.ia_mode = mode.0;
        attr
    }

    /// `truncate`.
    pub(crate) fn size(size: i64) -> Self {
        let mut attr = Self::new(bindings::ATTR_SIZE);
        attr.0.ia_size = size;
        attr
    }

    /// `chown` to the owner and group in `stat`.
    pub(crate) fn owner(stat: &Stat) -> Self {
        let mut attr = Self::new(bindings::ATTR_UID | bindings::ATTR_GID);
        attr.0.__bindgen_anon_1.ia_uid = stat.0.uid;
        attr.0.__bindgen_anon_2.ia_gid = stat.0.gid;
        attr
    }

    /// This change and `other` in one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        let both = other.0.ia_valid | self.0.ia_valid;
        if other.0.ia_valid & bindings::ATTR_MODE != 0 {
            self.0.ia_mode = other.0.ia_mode;
        }
        if other.0.ia_valid & bindings::ATTR_SIZE != 0 {
            self.0.ia_size = other.0.ia_size;
        }
        if other.0.ia_valid & bindings::ATTR_UID != 0 {
            self.0.__bindgen_anon_1 = other.0.__bindgen_anon_1;
            self.0.__bindgen_anon_2 = other.0.__bindgen_anon_2;
        }
        if other.0.ia_valid & bindings::ATTR_MTIME != 0 {
            self.0.ia_atime = other.0.ia_atime;
            self.0.ia_mtime = other.0.ia_mtime;
        }
        self.0.ia_valid = both;
        self
    }

    /// Access and modification time.
    pub(crate) fn times(times: Times) -> Self {
        let mut attr = Self::new(
            bindings::ATTR_ATIME
                | bindings::ATTR_MTIME
                | bindings::ATTR_ATIME_SET
                | bindings::ATTR_MTIME_SET
                | bindings::ATTR_CTIME,
        );
        attr.0.ia_atime = times.atime;
        attr.0.ia_mtime = times.mtime;
        attr
    }

    /// Clearing of the set-group-id bit.
    pub(crate) fn kill_sgid() -> Self {
        Self::new(bindings::ATTR_KILL_SGID)
    }

    /// The numbers of the new owner and group, of the filesystem or of a mount of it; of no meaning where they stay.
    fn owner_ids(&self) -> (u32, u32) {
        // SAFETY: both members of the union are one number.
        let uid = unsafe { self.0.__bindgen_anon_1.ia_uid };
        // SAFETY: both members of the union are one number.
        let gid = unsafe { self.0.__bindgen_anon_2.ia_gid };
        (uid.val, gid.val)
    }

    /// Takes out what the inode that `lock` holds has already, as a mount with `idmap` shows it.
    pub(crate) fn without_known(mut self, idmap: &IdMap, lock: &InodeGuard<'_>) -> Self {
        let inode = lock.inode();
        let mode = read_field!(inode, i_mode);
        let uid = idmap.show_uid(inode, read_field!(inode, i_uid)).val;
        let gid = idmap.show_gid(inode, read_field!(inode, i_gid)).val;
        let (new_uid, new_gid) = self.owner_ids();
        if self.0.ia_valid & bindings::ATTR_MODE != 0 && self.0.ia_mode == mode {
            self.0.ia_valid &= !bindings::ATTR_MODE;
        }
        if self.0.ia_valid & bindings::ATTR_UID != 0 && (new_uid, new_gid) == (uid, gid) {
            self.0.ia_valid &= !(bindings::ATTR_UID | bindings::ATTR_GID);
        }
        self
    }

    /// Whether the size changes.
    pub(crate) fn changes_size(&self) -> bool {
        self.0.ia_valid & bindings::ATTR_SIZE != 0
    }

    /// Prepares a caller's request, on `inode` through a mount with `idmap`, to be passed on to another filesystem: its
    /// owners become those of `inode`'s filesystem, and the mode that killing set-id bits asked for is computed anew there.
    pub(crate) fn rebase(&mut self, idmap: &IdMap, inode: &Inode) {
        let (new_uid, new_gid) = self.owner_ids();
        if self.0.ia_valid & bindings::ATTR_UID != 0 {
            let shown = bindings::vfsuid_t { val: new_uid };
            self.0.__bindgen_anon_1.ia_uid = idmap.stored_uid(inode, shown);
        }
        if self.0.ia_valid & bindings::ATTR_GID != 0 {
            let shown = bindings::vfsgid_t { val: new_gid };
            self.0.__bindgen_anon_2.ia_gid = idmap.stored_gid(inode, shown);
        }
        if self.0.ia_valid & (bindings::ATTR_KILL_SUID | bindings::ATTR_KILL_SGID) != 0 {
            self.0.ia_valid &= !bindings::ATTR_MODE;
        }
    }

    /// `setattr_prepare()`: checks the request against `dentry`'s inode with the caller's
    /// credentials.
    pub(crate) fn prepare(&mut self, idmap: &IdMap, dentry: &Dentry) -> Result {
        to_result(calls::setattr_prepare(idmap, dentry.as_positive()?, self))
    }

    /// Makes it a change of an inode that has the mode `mode`: the type in the new one, which filesystems store, stays.
    ///
    /// # Errors
    ///
    /// `EISDIR` or `EINVAL` for the size of what is no regular file.
    pub(super) fn fit(&mut self, mode: Mode) -> Result {
        if self.changes_size() && !mode.is_reg() {
            return Err(if mode.is_dir() { EISDIR } else { EINVAL });
        }
        self.0.ia_mode = Mode(self.0.ia_mode).of_type(mode).0;
        Ok(())
    }

    /// `notify_change()` on a dentry whose inode `lock` holds.
    ///
    /// # Errors
    ///
    /// `EINVAL` for the lock of another inode, or a request both for a mode and to kill set-id bits, which the VFS takes
    /// for a bug (see [`rebase`](Self::rebase)); `EISDIR` or `EINVAL` for the size of what is no regular file; what the
    /// filesystem or a security module returns.
    pub(crate) fn apply(&mut self, path: WritePath<'_>, lock: &InodeGuard<'_>) -> Result {
        let kill = bindings::ATTR_KILL_SUID | bindings::ATTR_KILL_SGID;
        let both = self.0.ia_valid & kill != 0 && self.0.ia_valid & bindings::ATTR_MODE != 0;
        let inode = path.dentry().positive()?;
        if both || inode != lock.inode() {
            return Err(EINVAL);
        }
        self.fit(inode.mode())?;
        // The file of a caller's request is one of ours, and not of the filesystem that is asked now.
        self.0.ia_valid &= !(bindings::ATTR_FILE | bindings::ATTR_OPEN);
        // SAFETY: charter 1, 2 and 10: the dentry is referenced and positive, its inode's lock held, the structure ours; the type
        // in the mode is the inode's, and who has no data has no size set, as system calls see to.
        to_result(unsafe {
            bindings::notify_change(
                path.idmap().as_ptr(),
                path.dentry().as_ptr(),
                &mut self.0,
                core::ptr::null_mut(),
            )
        })
    }
}

/// The flags that `chattr` changes (`struct file_kattr`).
#[repr(transparent)]
pub(crate) struct FileAttr(pub(super) bindings::file_kattr);

/// `STATX_*` masks.
pub(crate) mod statx {
    use crate::bindings;
    pub(crate) const INO: u32 = bindings::STATX_INO;
    pub(crate) const NLINK: u32 = bindings::STATX_NLINK;
    pub(crate) const BLOCKS: u32 = bindings::STATX_BLOCKS;
    pub(crate) const TIMES: u32 = bindings::STATX_ATIME | bindings::STATX_MTIME;
    pub(crate) const BASIC: u32 = bindings::STATX_BASIC_STATS;
}

/// `FS_*_FL` flags.
pub(crate) mod fl {
    use crate::bindings;
    pub(crate) const APPEND: u32 = bindings::FS_APPEND_FL;
    pub(crate) const IMMUTABLE: u32 = bindings::FS_IMMUTABLE_FL;
    pub(crate) const SYNC: u32 = bindings::FS_SYNC_FL;
    pub(crate) const NOATIME: u32 = bindings::FS_NOATIME_FL;
    pub(crate) const X_APPEND: u32 = bindings::FS_XFLAG_APPEND;
    pub(crate) const X_IMMUTABLE: u32 = bindings::FS_XFLAG_IMMUTABLE;
    pub(crate) const X_SYNC: u32 = bindings::FS_XFLAG_SYNC;
    pub(crate) const X_NOATIME: u32 = bindings::FS_XFLAG_NOATIME;
}

impl FileAttr {
    /// A request for the common flags.
    pub(crate) fn common() -> Self {
        let mut fa = bindings::file_kattr::default();
        fa.set_flags_valid(true);
        Self(fa)
    }

    /// # Safety
    ///
    /// `ptr` is valid and exclusive for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::file_kattr) -> &'a mut Self {
        // SAFETY: the caller says so; the type is transparent.
        unsafe { &mut *ptr.cast() }
    }

    /// Whether `dentry` is a directory that finds names whatever their case. A filesystem that has no such flags does not.
    pub(super) fn ignores_case(dentry: &Dentry) -> bool {
        let mut fa = Self::common();
        let Ok(dentry) = dentry.as_positive() else {
            return false;
        };
        match to_result(calls::vfs_fileattr_get(dentry, &mut fa)) {
            Ok(()) => fa.0.fsx_xflags & bindings::FS_XFLAG_CASEFOLD != 0,
            Err(e) => e.to_errno() != -(bindings::ENOIOCTLCMD as i32),
        }
    }

    pub(crate) fn flags(&self) -> u32 {
        self.0.flags
    }
    pub(crate) fn xflags(&self) -> u32 {
        self.0.fsx_xflags
    }

    /// Replaces the flags in `mask` (and the extended ones in `xmask`).
    pub(crate) fn replace(&mut self, mask: u32, flags: u32, xmask: u32, xflags: u32) {
        self.0.flags = (self.0.flags & !mask) | (flags & mask);
        self.0.fsx_xflags = (self.0.fsx_xflags & !xmask) | (xflags & xmask);
    }

    /// The security hook that an ioctl on the file would have passed.
    fn security(&self, path: PathRef<'_>, set: bool) -> Result {
        // The caller may hold locks: it is closed once the task has let them go.
        let file = super::file::open(path, bindings::O_RDONLY | bindings::O_LARGEFILE)?;
        let file = super::file::closed_later(file);
        let cmd = match (set, self.0.fsx_valid()) {
            (true, true) => bindings::ROVL_FS_IOC_FSSETXATTR,
            (true, false) => bindings::ROVL_FS_IOC_SETFLAGS,
            (false, true) => bindings::ROVL_FS_IOC_FSGETXATTR,
            (false, false) => bindings::ROVL_FS_IOC_GETFLAGS,
        };
        to_result(calls::rovl_security_file_ioctl(&file, cmd))
    }

    /// Reads the flags of `path`; `ENOTTY` where the filesystem has none.
    pub(crate) fn read(&mut self, path: PathRef<'_>) -> Result {
        self.security(path, false)?;
        match to_result(calls::vfs_fileattr_get(path.dentry().as_positive()?, self)) {
            Err(e) if e.to_errno() == -(bindings::ENOIOCTLCMD as i32) => Err(ENOTTY),
            other => other,
        }
    }

    /// Writes the flags to `path`.
    pub(crate) fn write(&mut self, path: WritePath<'_>) -> Result {
        self.security(*path, true)?;
        let dentry = path.dentry().as_positive()?;
        to_result(calls::vfs_fileattr_set(path.idmap(), dentry, self))
    }
}
