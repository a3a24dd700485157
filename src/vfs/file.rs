// SPDX-License-Identifier: GPL-2.0

//! Open files of layers, and data moved between them.
//!
//! Functions that a user's file may be given to take a [`LocalFile`]: the VFS calls us for one whose position another
//! call of the same task may use without its lock (`fdget_pos()`).
//!
//! C headers: `include/linux/fs.h`, `include/linux/backing-file.h`.

use super::{
    calls,
    cred::with_current,
    inode::{read_field, InodeGuard, Mode},
    mount::{task_has_fs, PathRef, PositivePath, WritePath},
    to_len, to_off, to_result, Inode,
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::{code::ERESTARTSYS, from_err_ptr},
    fs::{File, LocalFile},
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{atomic_load, atomic_store, Relaxed},
    },
};

/// `O_*` flags that the kernel crate does not name.
pub(crate) mod flags {
    use crate::bindings;
    pub(crate) const O_APPEND: u32 = bindings::O_APPEND;
    pub(crate) const O_NOATIME: u32 = bindings::O_NOATIME;
    pub(crate) const O_TRUNC: u32 = bindings::O_TRUNC;
    pub(crate) const O_DIRECT: u32 = bindings::O_DIRECT;
    /// `O_SYNC` and `O_DSYNC`.
    pub(crate) const SYNC: u32 = bindings::__O_SYNC | bindings::O_DSYNC;
}

/// `SEEK_*` origins.
pub(crate) mod whence {
    use crate::bindings;
    pub(crate) const SET: i32 = bindings::SEEK_SET as i32;
    pub(crate) const CUR: i32 = bindings::SEEK_CUR as i32;
}

/// `MAY_*` access masks.
pub(crate) mod may {
    use crate::bindings;
    pub(crate) const READ: u32 = bindings::MAY_READ;
    pub(crate) const WRITE: u32 = bindings::MAY_WRITE;
    pub(crate) const APPEND: u32 = bindings::MAY_APPEND;
    pub(crate) const OPEN: u32 = bindings::MAY_OPEN;
    pub(crate) const EXEC: u32 = bindings::MAY_EXEC;
}

/// A file of a layer that is held by an open file of ours, or by whoever moves data for one.
///
/// Unlike that of a [`File`], its last reference is given up at once, as in `close(2)`, and not by a task
/// work: it is dropped in process context, where no lock is held but that of an inode of ours.
#[repr(transparent)]
pub(crate) struct LayerFile(File);

// SAFETY: `f_ref` counts references: `inc_ref` takes one, and as long as one is held the file is not freed.
unsafe impl AlwaysRefCounted for LayerFile {
    fn inc_ref(&self) {
        self.0.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: the caller gives a reference up, which the call takes over; the type is transparent over `struct file`.
        unsafe { bindings::__fput_sync(obj.as_ptr().cast()) }
    }
}

impl core::ops::Deref for LayerFile {
    type Target = File;
    #[inline]
    fn deref(&self) -> &File {
        &self.0
    }
}

/// What a C function returned that opens files: an errno, or a new file that no descriptor leads to, with its one reference.
#[must_use]
#[repr(transparent)]
pub(super) struct NewFile(*mut bindings::file);

impl NewFile {
    /// The file.
    pub(super) fn get(self) -> Result<ARef<LayerFile>> {
        let file = NonNull::new(from_err_ptr(self.0)?).ok_or(EINVAL)?;
        // SAFETY: the reference moves to the `ARef`. Without a descriptor there is no `fdget_pos()`, which is what `File`
        // asks for.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }
}

/// `file`, with its last reference given up as that of a [`File`] is: when the task goes back to user space.
pub(super) fn closed_later(file: ARef<LayerFile>) -> ARef<File> {
    // SAFETY: the reference is passed on; the type is transparent.
    unsafe { ARef::from_raw(ARef::into_raw(file).cast()) }
}

/// `path` as one that can be opened with `flags`, and these as they can be passed on, which the VFS leaves to who calls it.
///
/// # Errors
///
/// `ESTALE` where there is no object, `EISDIR` where a directory would be written to.
#[inline]
fn to_open(path: PathRef<'_>, flags: u32) -> Result<(PositivePath<'_>, i32)> {
    if path.positive()?.mode().is_dir() && open_writes(flags) {
        return Err(EISDIR);
    }
    Ok((path.as_positive()?, openable(flags)))
}

/// `flags` without `O_PATH`: a file that is not really opened forgets what kind of memory it is in.
#[inline]
fn openable(flags: u32) -> i32 {
    (flags & !bindings::O_PATH) as i32
}

/// Opens `path` with the current credentials; no permission check.
///
/// # Errors
///
/// `ESTALE` for a negative dentry, `EISDIR` for a directory that is to be written to; what the filesystem or a security module
/// returns.
pub(crate) fn open(path: PathRef<'_>, flags: u32) -> Result<ARef<LayerFile>> {
    let (path, flags) = to_open(path, flags)?;
    with_current(|cred| calls::kernel_file_open(&path, flags, cred)).get()
}

/// Opens `path` for reading or (`write`) writing after a permission check with the current
/// credentials; without access time updates where that is allowed. What is written is no change of the file that
/// users should see: its times are left alone, by a filesystem that asks the VFS. What is read is no event for who does not
/// watch it when it is opened: a [`Watch`](super::watch::Watch) of ours, on whatever directory, would have the VFS look for
/// listeners at each read.
pub(crate) fn open_checked(path: PathRef<'_>, write: bool) -> Result<ARef<LayerFile>> {
    let (mut flags, mask) = if write {
        (bindings::O_WRONLY, may::WRITE)
    } else {
        (bindings::O_RDONLY, may::READ)
    };
    let inode = path.dentry().positive()?;
    inode.permission(path.idmap(), mask | may::OPEN)?;
    if inode.owner_or_capable(path.idmap()) {
        flags |= bindings::O_NOATIME;
    }
    let file = open(path, flags | bindings::O_LARGEFILE)?;
    if write {
        add_mode(&file, bindings::ROVL_FMODE_NOCMTIME);
    } else if !calls::rovl_is_reading_watched(&file) {
        set_mode(
            &file,
            bindings::ROVL_FMODE_FSNOTIFY_MASK,
            bindings::ROVL_FMODE_NONOTIFY,
        );
    }
    Ok(file)
}

/// Checks as [`open_checked`] does that the directory at `path` may be opened for reading with the current credentials; whether it
/// makes no difference to others if it isn't: nobody listens for its being opened, read or closed.
///
/// # Errors
///
/// `EACCES`, `ESTALE`; what a security module returns.
pub(crate) fn may_stay_closed(path: PathRef<'_>) -> Result<bool> {
    let inode = path.positive()?;
    inode.permission(path.idmap(), may::READ | may::OPEN)?;
    Ok(!path.dentry().is_listing_watched(inode))
}

/// The inode of an open file.
#[inline]
pub(crate) fn inode_of(file: &LocalFile) -> &Inode {
    let inode = read_field!(file, f_inode);
    // SAFETY: charter 1: `f_inode` is set before the VFS shows a file to us, and the file's path, which does not change, keeps
    // it.
    unsafe { Inode::from_raw(inode) }
}

/// Opens the file at `path` of a layer on behalf of `user`, whose path it shows to users; checked
/// and opened with the current credentials.
///
/// # Errors
///
/// As [`open`].
pub(crate) fn open_backing(
    user: &LocalFile,
    path: PathRef<'_>,
    flags: u32,
) -> Result<ARef<LayerFile>> {
    let (path, flags) = to_open(path, flags)?;
    with_current(|cred| calls::backing_file_open(user, flags, &path, cred)).get()
}

/// [`open_backing`] on behalf of a `user` who had opened the file before the layer had it: `fsync(2)` reports
/// all writeback errors of the layer's file, those that others were told of before, too
/// (Documentation/core-api/errseq.rst).
pub(crate) fn open_late(
    user: &LocalFile,
    path: PathRef<'_>,
    flags: u32,
) -> Result<ARef<LayerFile>> {
    let file = open_backing(user, path, flags)?;
    // SAFETY: charter 1: the file is ours, and nobody else knows it yet, so that its sample needs no lock.
    unsafe { (*file.as_ptr()).f_wb_err = 0 };
    Ok(file)
}

/// Opens an unnamed file in the layer directory `parent` on behalf of `user`.
///
/// # Errors
///
/// `ENOTDIR`; what the filesystem or a security module returns; `ESRCH` in a task that is exiting, which has no umask.
pub(super) fn open_backing_tmpfile(
    user: &LocalFile,
    parent: WritePath<'_>,
    flags: u32,
    mode: Mode,
) -> Result<ARef<LayerFile>> {
    parent.dentry().as_dir()?;
    let parent = parent.as_positive()?;
    task_has_fs()?;
    // `vfs_tmpfile()` makes whatever type it is told.
    let (mode, flags) = (mode.of_regular(), openable(flags));
    with_current(|cred| {
        // SAFETY: charter 1: all are borrowed; the dentry is that of a directory, the type that of a regular file, and the task
        // has a umask.
        unsafe { calls::backing_tmpfile_open(user, flags, &parent, mode, cred) }.get()
    })
}

/// The access mask that opening with `flags` asks for.
pub(crate) fn open_mask(flags: u32) -> u32 {
    let mask = match flags & bindings::O_ACCMODE {
        bindings::O_RDONLY => may::READ,
        bindings::O_WRONLY => may::WRITE,
        _ => may::READ | may::WRITE,
    };
    // Of a file that only stands in for the one that is appended to nobody asks that.
    let append = if mask & may::WRITE != 0 && flags & bindings::O_APPEND != 0 {
        may::APPEND
    } else {
        0
    };
    mask | append | may::OPEN
}

/// Whether opening with `flags` writes or truncates. The fourth access mode, for ioctls alone, does not.
pub(crate) fn open_writes(flags: u32) -> bool {
    matches!(
        flags & bindings::O_ACCMODE,
        bindings::O_WRONLY | bindings::O_RDWR
    ) || flags & bindings::O_TRUNC != 0
}

/// `flags` with the access mode of reading, and without what matters to writing alone.
pub(crate) fn for_reading(flags: u32) -> u32 {
    (flags & !(bindings::O_ACCMODE | bindings::O_APPEND)) | bindings::O_RDONLY
}

/// Whether one of the `FMODE_*` bits in `mask` is set; bits that `open` alone decides.
#[inline]
fn has_mode(file: &LocalFile, mask: u32) -> bool {
    // While the file is being opened its opener is the caller, later the bits that are asked for here do not change.
    read_field!(file, f_mode) & mask != 0
}

/// Adds bits to the mode of `file`, which the caller is opening or has just opened, so that nobody else knows it.
pub(super) fn add_mode(file: &LocalFile, bits: u32) {
    set_mode(file, 0, bits);
}

/// As [`add_mode`], with the bits `clear` cleared before.
fn set_mode(file: &LocalFile, clear: u32, bits: u32) {
    let mode = read_field!(file, f_mode) & !clear | bits;
    // SAFETY: charter 1: the file is referenced; nobody but its opener reads or writes the mode.
    unsafe { (*file.as_ptr()).f_mode = mode };
}

/// Whether `file` is open for writing.
pub(crate) fn is_writable(file: &LocalFile) -> bool {
    has_mode(file, bindings::ROVL_FMODE_WRITE)
}

/// Whether `file` was opened by `backing_file_open()`: for another file of the kernel's.
pub(crate) fn is_backing(file: &LocalFile) -> bool {
    has_mode(file, bindings::ROVL_FMODE_BACKING)
}

/// Whether direct I/O on `file` is possible.
pub(crate) fn can_direct_io(file: &LocalFile) -> bool {
    has_mode(file, bindings::ROVL_FMODE_CAN_ODIRECT)
}

/// Whether the filesystem serves requests on `file` that must not wait.
#[inline]
pub(super) fn serves_nowait(file: &LocalFile) -> bool {
    has_mode(file, bindings::ROVL_FMODE_NOWAIT)
}

/// Whether the file can be sought.
pub(crate) fn can_seek(file: &LocalFile) -> bool {
    has_mode(file, bindings::ROVL_FMODE_LSEEK)
}

/// The operations of an open file's filesystem.
#[inline]
fn operations(file: &File) -> &bindings::file_operations {
    let ops = read_field!(file, f_op);
    // SAFETY: `f_op` is set while a file is opened, which keeps the module that its operations are a constant of.
    unsafe { &*ops }
}

/// The flags that `fcntl(F_SETFL)` changes, but for `O_APPEND`: each request says whether it appends.
const SETFL: u32 = bindings::O_NONBLOCK | bindings::O_NDELAY | bindings::O_DIRECT;

/// Whether `fcntl(2)` changed none of the status flags of `user` since `real` has them.
#[inline]
pub(crate) fn same_flags(user: &LocalFile, real: &File) -> bool {
    (user.flags() ^ real.flags()) & SETFL == 0
}

/// Whether `file` has none of the status flags that `fcntl(2)` changes: any range of it can be read.
pub(crate) fn is_plain(file: &LocalFile) -> bool {
    file.flags() & SETFL == 0
}

/// Makes the status flags of `real` those of `user`.
///
/// # Errors
///
/// `EINVAL` for an impossible `O_DIRECT`.
pub(crate) fn take_flags(user: &LocalFile, real: &File) -> Result {
    let want = user.flags() & SETFL;
    if want & bindings::O_DIRECT != 0 && !can_direct_io(real) {
        return Err(EINVAL);
    }
    if let Some(check) = operations(real).check_flags {
        // SAFETY: `check_flags` takes a number and has no precondition.
        to_result(unsafe { check(want as i32) })?;
    }
    calls::rovl_file_set_flags(real, SETFL, want);
    Ok(())
}

/// `lseek()`; `whence` is `SEEK_*`. Of a directory the call waits for others that list or seek by the same file.
pub(crate) fn seek(file: &File, offset: i64, whence: i32) -> Result<i64> {
    to_off(calls::rovl_llseek(file, offset, whence))
}

/// Seeks to the next data at or after `offset`; `ENXIO` where there is none.
pub(crate) fn seek_data(file: &File, offset: i64) -> Result<i64> {
    seek(file, offset, bindings::SEEK_DATA as i32)
}

/// Whether `err` of [`seek_data`] says that only a hole is left.
pub(crate) fn is_no_data(err: Error) -> bool {
    err == ENXIO
}

/// The file's position; meaningful to whoever serialises its users.
pub(crate) fn pos(file: &LocalFile) -> i64 {
    // SAFETY: charter 1: the file is referenced; the VFS, too, reads and writes the position as one word.
    unsafe { atomic_load(&raw mut (*file.as_ptr()).f_pos, Relaxed) }
}

/// Sets the file's position; `EINVAL` where it is negative, which no filesystem counts on.
pub(super) fn set_pos(file: &LocalFile, pos: i64) -> Result {
    if pos < 0 {
        return Err(EINVAL);
    }
    // SAFETY: charter 1: the file is referenced; the VFS, too, reads and writes the position as one word.
    unsafe { atomic_store(&raw mut (*file.as_ptr()).f_pos, pos, Relaxed) };
    Ok(())
}

/// Writes the file's data (and with `!datasync` all its metadata) back.
pub(crate) fn fsync(file: &File, start: i64, end: i64, datasync: bool) -> Result {
    to_result(calls::vfs_fsync_range(file, start, end, datasync.into()))
}

/// Shares the first `len` bytes of `from` with `to`; returns how many were shared.
pub(crate) fn clone_range(from: &File, to: &File, len: i64) -> Result<i64> {
    to_off(calls::vfs_clone_file_range(from, 0, to, 0, len, 0))
}

/// Bytes of the buffer that data is copied through where it can't be spliced.
const BUFFER: usize = 64 << 10;

/// Copies up to `len` bytes from `from` to `to`, both at `pos`, inside the kernel; returns how many,
/// 0 at the end of `from`. Only a fatal signal ends it.
///
/// # Errors
///
/// `EINVAL` for a range that no file has; what the filesystems or a security module return.
pub(crate) fn copy(from: &File, to: &File, pos: i64, len: usize) -> Result<usize> {
    // `do_splice_direct()` leaves it to its caller.
    let end = i64::try_from(len).ok().and_then(|len| pos.checked_add(len));
    if pos < 0 || end.is_none() {
        return Err(EINVAL);
    }
    let (mut in_pos, mut out_pos) = (pos, pos);
    if calls::rovl_can_splice() {
        let ret = to_len(calls::do_splice_direct(
            from,
            &mut in_pos,
            to,
            &mut out_pos,
            len,
            bindings::SPLICE_F_MOVE,
        ));
        match ret {
            Err(e) if e == ERESTARTSYS && !fatal_signal_pending() => {}
            other => return other,
        }
    }
    let (read, write) = (operations(from), operations(to));
    if read.read_iter.is_none() || read.read.is_some() || write.write_iter.is_none() {
        return Err(EINTR);
    }
    let len = len.min(BUFFER);
    let mut buf: KVVec<u8> = KVVec::with_capacity(len, GFP_KERNEL)?;
    let at: *mut kernel::ffi::c_void = buf.as_mut_ptr().cast();
    let (mut in_pos, mut out_pos) = (pos, pos);
    // SAFETY: charter 1 and 10: the file is referenced, the position ours; the buffer has room for `len` bytes.
    let read = to_len(unsafe { bindings::kernel_read(from.as_ptr(), at, len, &mut in_pos) })?;
    if read == 0 {
        return Ok(0);
    }
    // SAFETY: charter 1 and 10: the file is referenced, the position ours; the first `read` bytes were filled just now.
    to_len(unsafe { bindings::kernel_write(to.as_ptr(), at, read, &mut out_pos) })
}

/// Checks locks and security for a transfer of `len` bytes at `pos`; `write` for the target's side.
pub(crate) fn verify_area(file: &File, write: bool, pos: i64, len: i64) -> Result {
    let rw = if write {
        bindings::WRITE
    } else {
        bindings::READ
    };
    to_result(calls::rw_verify_area(rw as i32, file, &pos, len as usize))
}

/// Whether a fatal signal waits for the current task.
pub(crate) fn fatal_signal_pending() -> bool {
    calls::rovl_fatal_signal_pending()
}

/// Whether the current task is in `execve(2)`, which cannot be made again.
pub(crate) fn in_exec() -> bool {
    calls::rovl_in_execve()
}

/// Strips set-id bits and file capabilities before a write to `file`, whose inode `lock` holds.
///
/// # Errors
///
/// `EINVAL` for the lock of another inode; what changing the attributes returns.
pub(crate) fn remove_privs(file: &LocalFile, lock: &InodeGuard<'_>) -> Result {
    if inode_of(file) != lock.inode() {
        return Err(EINVAL);
    }
    // SAFETY: charter 1: the file is referenced, its inode's lock held.
    to_result(unsafe { bindings::file_remove_privs(file.as_ptr()) })
}

/// `fallocate()`.
pub(crate) fn fallocate(file: &File, mode: i32, offset: i64, len: i64) -> Result {
    to_result(calls::vfs_fallocate(file, mode, offset, len))
}

/// Frees the first `len` bytes of `file`, whose size stays.
pub(crate) fn punch(file: &File, len: i64) -> Result {
    fallocate(file, bindings::ROVL_FALLOC_PUNCH as i32, 0, len)
}

/// `posix_fadvise()`.
pub(crate) fn fadvise(file: &File, offset: i64, len: i64, advice: i32) -> Result {
    to_result(calls::vfs_fadvise(file, offset, len, advice))
}

/// How [`transfer`] moves data between two files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// `copy_file_range()`.
    Copy,
    /// Sharing of extents (`FICLONE`).
    Clone,
    /// Sharing of equal extents (`FIDEDUPERANGE`).
    Dedupe,
}

/// A range to be moved between two files.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    /// Offset in the source.
    pub(crate) from: i64,
    /// Offset in the target.
    pub(crate) to: i64,
    /// Bytes.
    pub(crate) len: i64,
    /// Flags of the call.
    pub(crate) flags: u32,
}

/// Moves a range between two files of layers; returns the bytes moved.
pub(crate) fn transfer(how: Transfer, from: &File, to: &File, range: Range) -> Result<i64> {
    let Range {
        from: from_pos,
        to: to_pos,
        len,
        flags,
    } = range;
    to_off(match how {
        Transfer::Copy => {
            calls::vfs_copy_file_range(from, from_pos, to, to_pos, len as usize, flags) as i64
        }
        Transfer::Clone => calls::vfs_clone_file_range(from, from_pos, to, to_pos, len, flags),
        Transfer::Dedupe => {
            calls::vfs_dedupe_file_range_one(from, from_pos, to, to_pos, len, flags)
        }
    })
}

/// Has the filesystem store the inode's generation at the address `to` of the current task (`FS_IOC_GETVERSION`).
///
/// # Errors
///
/// `ENOTTY` where it does not tell, `EFAULT`, or what a security module returns.
pub(super) fn generation(real: &File, to: usize) -> Result {
    let command = bindings::ROVL_FS_IOC_GETVERSION;
    to_result(calls::rovl_security_file_ioctl(real, command))?;
    let ioctl = operations(real).unlocked_ioctl.ok_or(ENOTTY)?;
    // SAFETY: charter 1: the file is referenced. The argument of this command is an address that the filesystem stores
    // a number at, one of the current task's, which asks: any value may be passed.
    match to_result(unsafe { ioctl(real.as_ptr(), command, to) } as i32) {
        Err(e) if e.to_errno() == -(bindings::ENOIOCTLCMD as i32) => Err(ENOTTY),
        other => other,
    }
}

/// Calls the filesystem's `flush` for a descriptor that is being closed by the task whose locks have `owner`.
pub(super) fn flush(real: &File, owner: bindings::fl_owner_t) -> Result {
    match operations(real).flush {
        // SAFETY: charter 1: the file is referenced; `owner` is a name that is compared, never followed.
        Some(flush) => to_result(unsafe { flush(real.as_ptr(), owner) }),
        None => Ok(()),
    }
}

#[kernel::macros::kunit_tests(rovl_file)]
mod tests {
    use super::*;
    use crate::vfs::mount::Path;

    #[test]
    fn directories_are_not_written_to() -> Result {
        let root = Path::resolve(c"/")?;
        let dir = root.as_ref();
        for flags in [bindings::O_WRONLY, bindings::O_RDWR, flags::O_TRUNC] {
            assert_eq!(open(dir, flags).err(), Some(EISDIR));
        }
        open(dir, bindings::O_RDONLY).map(drop)
    }
}
