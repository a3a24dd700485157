// SPDX-License-Identifier: GPL-2.0

//! The table of file operations of a kind of inode.
//!
//! Contracts and locks: `Documentation/filesystems/{vfs,locking}.rst`.

pub(crate) use super::io::{Flush, Io, IoHooks, Mapping, Splice};
use super::{
    file, fs::FileSystem, mount::PathRef, readdir::DirContext, refs::Ref, OwnDentry, OwnInode,
};
use crate::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{
    error::{from_result, to_result},
    fs::LocalFile,
    prelude::*,
    sync::aref::ARef,
};

/// A built table.
#[derive(Clone, Copy)]
pub(crate) struct FileTable(pub(super) &'static bindings::file_operations);

impl FileTable {
    /// The table for regular files of `T`.
    pub(crate) const fn regular<F: FileSystem, T: RegularOperations<F>>() -> Self {
        Self(&Regular::<F, T>::OPS)
    }

    /// The table for directories of `T`.
    pub(crate) const fn directory<F: FileSystem, T: DirectoryOperations<F>>() -> Self {
        Self(&Directory::<F, T>::OPS)
    }
}

/// A file of ours in a callback: opened, or being opened.
pub(crate) struct OpenFile<'a, F: FileSystem>(&'a LocalFile, PhantomData<F>);

impl<F: FileSystem> Clone for OpenFile<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: FileSystem> Copy for OpenFile<'_, F> {}

impl<'a, F: FileSystem> OpenFile<'a, F> {
    /// # Safety
    ///
    /// `file` is a file of ours, valid during `'a` (charter 1, 3).
    pub(super) unsafe fn from_raw(file: *mut bindings::file) -> Self {
        // SAFETY: by the contract. A `fdget_pos()` without the lock is one of the task that the VFS calls us for: the type
        // stays on its thread.
        Self(unsafe { LocalFile::from_raw_file(file) }, PhantomData)
    }

    /// The file.
    pub(crate) fn file(self) -> &'a LocalFile {
        self.0
    }

    /// The dentry that it was opened by.
    pub(crate) fn dentry(self) -> &'a OwnDentry<F> {
        // SAFETY: charter 1 and 3: the file references its path.
        unsafe { OwnDentry::from_raw(PathRef::of_file(self.0).dentry().as_ptr()) }
    }

    /// The path that it was opened by.
    pub(crate) fn path(self) -> PathRef<'a> {
        PathRef::of_file(self.0)
    }

    /// Its inode.
    pub(crate) fn inode(self) -> &'a OwnInode<F> {
        // SAFETY: charter 1 and 3.
        unsafe { OwnInode::from_raw(file::inode_of(self.0).as_ptr()) }
    }

    /// Its `O_*` flags.
    pub(crate) fn flags(self) -> u32 {
        self.0.flags()
    }

    /// Drops flags that matter to the opening alone: `O_CREAT`, `O_EXCL`, `O_NOCTTY`, `O_TRUNC`.
    pub(crate) fn drop_open_flags(self) {
        let mask = bindings::O_CREAT | bindings::O_EXCL | bindings::O_NOCTTY | bindings::O_TRUNC;
        // SAFETY: the file is being opened: nobody else uses it.
        unsafe { (*self.0.as_ptr()).f_flags &= !mask }
    }

    /// What `open` stored.
    ///
    /// # Safety
    ///
    /// `D` is the table's data type (charter 8).
    unsafe fn data<D>(self) -> &'a D {
        // SAFETY: by the contract.
        unsafe { &*(*self.0.as_ptr()).private_data.cast() }
    }
}

/// An unnamed file being opened by `tmpfile`.
pub(crate) struct OpenTmpfile<'a, F: FileSystem> {
    open: OpenFile<'a, F>,
    free: Option<unsafe fn(*mut kernel::ffi::c_void)>,
}

/// # Safety
///
/// `data` is a `KBox<D>` that was turned into a pointer, given up here.
unsafe fn free_box<D>(data: *mut kernel::ffi::c_void) {
    // SAFETY: the caller passes the box that it stored.
    drop(unsafe { KBox::from_raw(data.cast::<D>()) });
}

/// # Safety
///
/// None.
unsafe extern "C" fn nothing_to_open(
    _inode: *mut bindings::inode,
    _file: *mut bindings::file,
) -> i32 {
    0
}

impl<'a, F: FileSystem> OpenTmpfile<'a, F> {
    /// # Safety
    ///
    /// `file` is the one that the `tmpfile` operation got.
    pub(super) unsafe fn from_raw(file: *mut bindings::file) -> Self {
        Self {
            // SAFETY: by the contract.
            open: unsafe { OpenFile::from_raw(file) },
            free: None,
        }
    }

    /// The file.
    pub(crate) fn open(&self) -> OpenFile<'a, F> {
        self.open
    }

    /// Marks the dentry as that of an unnamed file and makes it positive; stores the file's data for
    /// the regular file operations of `T`.
    pub(crate) fn instantiate<T: RegularOperations<F>>(
        &mut self,
        inode: Ref<'_, OwnInode<F>>,
        data: KBox<T::Data>,
    ) {
        let file = self.open.0.as_ptr();
        // SAFETY: the file is being opened; the dentry is negative and ours.
        unsafe {
            bindings::d_mark_tmpfile(file, inode.as_ptr());
            self.open.dentry().instantiate(inode);
            (*file).private_data = KBox::into_raw(data).cast();
        }
        self.free = Some(free_box::<T::Data>);
    }

    /// Ends the opening.
    pub(super) fn finish(&mut self, result: Result) -> Result {
        let file = self.open.0.as_ptr();
        // SAFETY: the file is being opened. Where it does not become open, `release` is not called
        // and the data is still ours.
        unsafe {
            let result = result.and_then(|()| {
                if self.free.is_none() {
                    // `tmpfile` made nothing: the dentry has no inode to open.
                    return Err(EIO);
                }
                to_result(bindings::finish_open(
                    file,
                    self.open.dentry().as_ptr(),
                    Some(nothing_to_open),
                ))
            });
            if (*file).f_mode & bindings::ROVL_FMODE_OPENED == 0 {
                if let Some(free) = self.free.take() {
                    free((*file).private_data);
                    (*file).private_data = ptr::null_mut();
                }
            }
            result
        }
    }
}

/// Operations on open regular files.
pub(crate) trait RegularOperations<F: FileSystem>: Sized + 'static {
    /// What is kept with an open file.
    type Data: Send + Sync;

    /// Opens.
    fn open(open: OpenFile<'_, F>) -> Result<KBox<Self::Data>>;
    /// Reads or writes.
    fn io(open: OpenFile<'_, F>, data: &Self::Data, io: Io, write: bool) -> Result<usize>;
    /// Splices from or to a pipe.
    fn splice(open: OpenFile<'_, F>, data: &Self::Data, io: Splice, write: bool) -> Result<usize>;
    /// Whether the file can be mapped, `shared` and writable or otherwise: called before a mapping is
    /// begun, with the address space locked, so nothing else may be locked. Where it can't,
    /// `make_mappable` is called once the system call has let all locks go, and the call is restarted.
    fn is_mappable(open: OpenFile<'_, F>, data: &Self::Data, shared: bool) -> Result<bool>;
    /// Makes [`is_mappable`](Self::is_mappable) succeed or fail; may sleep.
    fn make_mappable(open: OpenFile<'_, F>, data: &Self::Data, shared: bool);
    /// Maps.
    fn mmap(open: OpenFile<'_, F>, data: &Self::Data, mapping: Mapping) -> Result;
    /// Moves the position; returns it.
    fn seek(open: OpenFile<'_, F>, data: &Self::Data, offset: i64, whence: i32) -> Result<i64>;
    /// Writes back.
    fn fsync(
        open: OpenFile<'_, F>,
        data: &Self::Data,
        start: i64,
        end: i64,
        datasync: bool,
    ) -> Result;
    /// Allocates or frees space.
    fn fallocate(open: OpenFile<'_, F>, data: &Self::Data, mode: i32, off: i64, len: i64)
        -> Result;
    /// Takes advice on the access pattern.
    fn fadvise(open: OpenFile<'_, F>, data: &Self::Data, off: i64, len: i64, advice: i32)
        -> Result;
    /// Closes a descriptor.
    fn flush(open: OpenFile<'_, F>, data: &Self::Data, flush: Flush) -> Result;
    /// Moves a range between two files of ours.
    fn transfer(
        how: file::Transfer,
        from: (OpenFile<'_, F>, &Self::Data),
        to: (OpenFile<'_, F>, &Self::Data),
        range: file::Range,
    ) -> Result<i64>;
}

/// Operations on open directories.
pub(crate) trait DirectoryOperations<F: FileSystem>: Sized + 'static {
    /// What is kept with an open directory.
    type Data: Send + Sync;

    /// Opens.
    fn open(open: OpenFile<'_, F>) -> Result<Pin<KBox<Self::Data>>>;
    /// Lists; the inode is locked, shared.
    fn iterate(open: OpenFile<'_, F>, data: &Self::Data, ctx: &mut DirContext<'_>) -> Result;
    /// Moves the position; returns it.
    fn seek(open: OpenFile<'_, F>, data: &Self::Data, offset: i64, whence: i32) -> Result<i64>;
    /// Writes back.
    fn fsync(
        open: OpenFile<'_, F>,
        data: &Self::Data,
        start: i64,
        end: i64,
        datasync: bool,
    ) -> Result;
}

fn done(result: Result) -> i32 {
    match result {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

fn ret_len(result: Result<usize>) -> isize {
    match result {
        Ok(len) => len as isize,
        Err(e) => e.to_errno() as isize,
    }
}

fn ret_off(result: Result<i64>) -> i64 {
    match result {
        Ok(off) => off,
        Err(e) => e.to_errno().into(),
    }
}

type RawFile = *mut bindings::file;
type RawInode = *mut bindings::inode;
type RawPipe = *mut bindings::pipe_inode_info;

/// # Safety
///
/// `file` is an open file of the table with data `D` (charter 1, 3, 8).
unsafe fn opened<'a, F: FileSystem, D>(file: RawFile) -> (OpenFile<'a, F>, &'a D) {
    // SAFETY: by the contract.
    unsafe {
        let open = OpenFile::from_raw(file);
        (open, open.data())
    }
}

/// A call of [`RegularOperations::make_mappable`] before the task returns to user space.
#[repr(C)]
struct BeforeReturn {
    work: bindings::callback_head,
    file: ARef<LocalFile>,
    shared: bool,
}

struct Regular<F, T>(PhantomData<(F, T)>);

#[allow(
    clippy::missing_safety_doc,
    reason = "called by the VFS alone, through the table, under charter 1, 3 and 8"
)]
impl<F: FileSystem, T: RegularOperations<F>> Regular<F, T> {
    const OPS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        write_iter: Some(Self::write_iter),
        splice_read: Some(Self::splice_read),
        splice_write: Some(Self::splice_write),
        get_unmapped_area: Some(Self::get_unmapped_area),
        mmap: Some(Self::mmap),
        fsync: Some(Self::fsync),
        fallocate: Some(Self::fallocate),
        fadvise: Some(Self::fadvise),
        flush: Some(Self::flush),
        copy_file_range: Some(Self::copy_file_range),
        remap_file_range: Some(Self::remap_file_range),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn open(_inode: RawInode, file: RawFile) -> i32 {
        // SAFETY: charter 1, 3 and 8: `file` is being opened, its data is stored here.
        from_result(|| unsafe {
            let data = T::open(OpenFile::from_raw(file))?;
            (*file).private_data = KBox::into_raw(data).cast();
            Ok(0)
        })
    }

    unsafe extern "C" fn release(_inode: RawInode, file: RawFile) -> i32 {
        // SAFETY: charter 8: the last call for `file`.
        unsafe { free_box::<T::Data>((*file).private_data) };
        0
    }

    unsafe extern "C" fn llseek(file: RawFile, offset: i64, whence: i32) -> i64 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        ret_off(T::seek(open, data, offset, whence))
    }

    unsafe fn io(iocb: *mut bindings::kiocb, iter: *mut bindings::iov_iter, write: bool) -> isize {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened((*iocb).ki_filp) };
        let io = Io {
            keep: !0,
            iocb,
            iter,
            write,
        };
        ret_len(T::io(open, data, io, write))
    }

    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: arguments of the callback, passed on.
        unsafe { Self::io(iocb, iter, false) }
    }

    unsafe extern "C" fn write_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: arguments of the callback, passed on.
        unsafe { Self::io(iocb, iter, true) }
    }

    unsafe extern "C" fn splice_read(
        file: RawFile,
        pos: *mut i64,
        pipe: RawPipe,
        len: usize,
        flags: u32,
    ) -> isize {
        // SAFETY: arguments of the callback, passed on.
        unsafe { Self::splice(file, pos, pipe, len, flags, false) }
    }

    unsafe extern "C" fn splice_write(
        pipe: RawPipe,
        file: RawFile,
        pos: *mut i64,
        len: usize,
        flags: u32,
    ) -> isize {
        // SAFETY: arguments of the callback, passed on.
        unsafe { Self::splice(file, pos, pipe, len, flags, true) }
    }

    unsafe fn splice(
        file: RawFile,
        pos: *mut i64,
        pipe: RawPipe,
        len: usize,
        flags: u32,
        write: bool,
    ) -> isize {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        let io = Splice {
            file,
            pipe,
            pos,
            len,
            flags,
            write,
        };
        ret_len(T::splice(open, data, io, write))
    }

    /// The one operation that a mapping asks before it takes anything apart, `MAP_FIXED` or not.
    unsafe extern "C" fn get_unmapped_area(
        file: RawFile,
        addr: usize,
        len: usize,
        pgoff: usize,
        flags: usize,
    ) -> usize {
        let shared = matches!(
            flags as u32 & bindings::MAP_TYPE,
            bindings::MAP_SHARED | bindings::MAP_SHARED_VALIDATE
        );
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened::<F, T::Data>(file) };
        let shared = shared && file::is_writable(open.file());
        let ready = T::is_mappable(open, data, shared).and_then(|ready| match ready {
            true => Ok(()),
            false => Self::before_return(open.file(), shared),
        });
        if let Err(e) = ready {
            return e.to_errno() as usize;
        }
        // SAFETY: arguments of the callback, passed on.
        unsafe { bindings::mm_get_unmapped_area(file, addr, len, pgoff, flags) }
    }

    /// Has `make_mappable` called; returns the error that restarts the system call.
    fn before_return(file: &LocalFile, shared: bool) -> Result {
        let call = BeforeReturn {
            work: bindings::callback_head::default(),
            file: file.into(),
            shared,
        };
        let call = KBox::into_raw(KBox::new(call, GFP_KERNEL)?);
        // SAFETY: the work is the first field of the box, which the call back takes back; where it is
        // not queued it is still ours.
        unsafe {
            let queued = bindings::rovl_run_before_return(call.cast(), Some(Self::make_mappable));
            if let Err(e) = to_result(queued) {
                drop(KBox::from_raw(call));
                return Err(e);
            }
        }
        Err(kernel::error::code::ERESTARTNOINTR)
    }

    unsafe extern "C" fn make_mappable(work: *mut bindings::callback_head) {
        // SAFETY: `before_return` gave the box away.
        let call = unsafe { KBox::from_raw(work.cast::<BeforeReturn>()) };
        // SAFETY: charter 1, 3 and 8: a file of this table, which the box references.
        let (open, data) = unsafe { opened::<F, T::Data>(call.file.as_ptr()) };
        T::make_mappable(open, data, call.shared);
    }

    unsafe extern "C" fn mmap(file: RawFile, vma: *mut bindings::vm_area_struct) -> i32 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        done(T::mmap(open, data, Mapping(vma)))
    }

    unsafe extern "C" fn fsync(file: RawFile, start: i64, end: i64, datasync: i32) -> i32 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        done(T::fsync(open, data, start, end, datasync != 0))
    }

    unsafe extern "C" fn fallocate(file: RawFile, mode: i32, off: i64, len: i64) -> isize {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        done(T::fallocate(open, data, mode, off, len)) as isize
    }

    unsafe extern "C" fn fadvise(file: RawFile, off: i64, len: i64, advice: i32) -> i32 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        done(T::fadvise(open, data, off, len, advice))
    }

    unsafe extern "C" fn flush(file: RawFile, owner: bindings::fl_owner_t) -> i32 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        done(T::flush(open, data, Flush(owner)))
    }

    unsafe extern "C" fn copy_file_range(
        from_file: RawFile,
        from: i64,
        to_file: RawFile,
        to: i64,
        len: usize,
        flags: u32,
    ) -> isize {
        let range = file::Range {
            from,
            to,
            len: i64::try_from(len).unwrap_or(i64::MAX),
            flags,
        };
        // SAFETY: charter 1, 3 and 8: the VFS calls this for two files of one operation only.
        let (from, to) = unsafe { (opened(from_file), opened(to_file)) };
        ret_off(T::transfer(file::Transfer::Copy, from, to, range)) as isize
    }

    unsafe extern "C" fn remap_file_range(
        from_file: RawFile,
        from: i64,
        to_file: RawFile,
        to: i64,
        len: i64,
        flags: u32,
    ) -> i64 {
        if flags & !(bindings::ROVL_REMAP_FILE_DEDUP | bindings::ROVL_REMAP_FILE_ADVISORY) != 0 {
            return EINVAL.to_errno().into();
        }
        let how = if flags & bindings::ROVL_REMAP_FILE_DEDUP != 0 {
            file::Transfer::Dedupe
        } else {
            file::Transfer::Clone
        };
        let range = file::Range {
            from,
            to,
            len,
            flags,
        };
        // SAFETY: charter 1, 3 and 8: the VFS calls this for two files of one operation only.
        let (from, to) = unsafe { (opened(from_file), opened(to_file)) };
        ret_off(T::transfer(how, from, to, range))
    }
}

struct Directory<F, T>(PhantomData<(F, T)>);

#[allow(
    clippy::missing_safety_doc,
    reason = "called by the VFS alone, through the table, under charter 1, 3 and 8"
)]
impl<F: FileSystem, T: DirectoryOperations<F>> Directory<F, T> {
    const OPS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(Self::llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate),
        fsync: Some(Self::fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn open(_inode: RawInode, file: RawFile) -> i32 {
        // SAFETY: charter 1, 3 and 8: `file` is being opened, its data is stored here and does not
        // move until `release`.
        from_result(|| unsafe {
            let data = Pin::into_inner_unchecked(T::open(OpenFile::from_raw(file))?);
            (*file).private_data = KBox::into_raw(data).cast();
            Ok(0)
        })
    }

    unsafe extern "C" fn release(_inode: RawInode, file: RawFile) -> i32 {
        // SAFETY: charter 8: the last call for `file`; the data did not move.
        unsafe { free_box::<T::Data>((*file).private_data) };
        0
    }

    unsafe extern "C" fn llseek(file: RawFile, offset: i64, whence: i32) -> i64 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        ret_off(T::seek(open, data, offset, whence))
    }

    unsafe extern "C" fn iterate(file: RawFile, ctx: *mut bindings::dir_context) -> i32 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        // SAFETY: the context is the callback's alone during the call.
        done(T::iterate(open, data, &mut unsafe {
            DirContext::from_raw(ctx)
        }))
    }

    unsafe extern "C" fn fsync(file: RawFile, start: i64, end: i64, datasync: i32) -> i32 {
        // SAFETY: charter 1, 3 and 8.
        let (open, data) = unsafe { opened(file) };
        done(T::fsync(open, data, start, end, datasync != 0))
    }
}
