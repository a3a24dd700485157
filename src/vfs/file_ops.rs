// SPDX-License-Identifier: GPL-2.0

//! The table of file operations of a kind of inode.
//!
//! Contracts and locks: `Documentation/filesystems/{vfs,locking}.rst`.

pub(crate) use super::io::{Flush, Generation, Io, IoHooks, Mapping, Moved, Splice};
use super::{
    callback::{c_table, FromC, RawFile, RawInode, RawPipe},
    calls, file,
    fs::{Exactly, FileSystem},
    inode::read_field,
    mount::{IdMap, PathRef, WritePath},
    readdir::DirContext,
    refs::Ref,
    slab::SlabBox,
    to_result, Mode, OwnDentry, OwnInode,
};
use crate::bindings;
use core::{marker::PhantomData, ops::Deref, ptr};
use kernel::{
    fs::{File, LocalFile},
    prelude::*,
    sync::aref::ARef,
};

/// A file of ours in a callback: opened, or being opened.
pub(crate) struct OpenFile<'a, F: FileSystem>(&'a LocalFile, Exactly<F>);

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
    pub(super) unsafe fn from_raw(file: RawFile) -> Self {
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
        // SAFETY: charter 1 and 3: the file references its path, and by that its inode, both of a super block of `F`.
        unsafe { OwnInode::from_raw(file::inode_of(self.0).as_ptr()) }
    }

    /// Its `O_*` flags.
    pub(crate) fn flags(self) -> u32 {
        self.0.flags()
    }

    /// Its position; of meaning to whoever serialises its users.
    pub(crate) fn pos(self) -> i64 {
        file::pos(self.0)
    }

    /// Sets its position.
    ///
    /// # Errors
    ///
    /// `EINVAL` for one below zero.
    pub(crate) fn set_pos(self, pos: i64) -> Result {
        file::set_pos(self.0, pos)
    }

    /// Has the filesystem of `real` say where the position goes by `offset` and `whence` (`SEEK_*`); it is `real`'s, too, then.
    /// Whoever calls serialises the users of both.
    ///
    /// # Errors
    ///
    /// What the filesystem returns.
    pub(crate) fn seek_as(self, real: &File, offset: i64, whence: i32) -> Result<i64> {
        file::set_pos(real, self.pos())?;
        let result = file::seek(real, offset, whence);
        self.set_pos(file::pos(real))?;
        result
    }
}

/// An open directory of ours that is being listed: its inode is locked, shared at least.
pub(crate) struct Listed<'a, F: FileSystem>(OpenFile<'a, F>);

impl<F: FileSystem> Clone for Listed<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: FileSystem> Copy for Listed<'_, F> {}

impl<'a, F: FileSystem> Deref for Listed<'a, F> {
    type Target = OpenFile<'a, F>;
    fn deref(&self) -> &OpenFile<'a, F> {
        &self.0
    }
}

impl<'a, F: FileSystem> Listed<'a, F> {
    /// Looks `name` up in the directory.
    ///
    /// # Errors
    ///
    /// What the lookup returns; `ENOTDIR`.
    pub(crate) fn lookup(self, idmap: &IdMap, name: &[u8]) -> Result<Ref<'a, OwnDentry<F>>> {
        self.dentry().lookup_locked(idmap, name)
    }
}

/// A file of ours that is being opened by its operation `open`: nobody else uses it yet.
pub(crate) struct Opening<'a, F: FileSystem>(OpenFile<'a, F>);

impl<'a, F: FileSystem> Opening<'a, F> {
    /// # Safety
    ///
    /// `file` is the one that `open` got, valid during `'a` (charter 1, 3).
    pub(super) unsafe fn from_raw(file: RawFile) -> Self {
        // SAFETY: the contract of both is the same but for what is not open yet.
        Self(unsafe { OpenFile::from_raw(file) })
    }

    /// Drops flags that matter to the opening alone: `O_CREAT`, `O_EXCL`, `O_NOCTTY`, `O_TRUNC`.
    pub(crate) fn drop_open_flags(&mut self) {
        let mask = bindings::O_CREAT | bindings::O_EXCL | bindings::O_NOCTTY | bindings::O_TRUNC;
        // SAFETY: by the type's meaning nobody else reads or writes the flags.
        unsafe { (*self.file().as_ptr()).f_flags &= !mask }
    }

    /// Says whether direct I/O is possible: what the VFS sees when it has opened the file, and `F_SETFL` later.
    pub(crate) fn set_direct_io(&mut self, possible: bool) {
        set_direct_io(self.file(), possible);
    }

    /// Has the VFS pass requests on that must not wait (`RWF_NOWAIT`, io_uring), where the file `real` of a layer serves
    /// such.
    pub(crate) fn serve_nowait_as(&mut self, real: &File) {
        if file::serves_nowait(real) {
            file::add_mode(self.file(), bindings::ROVL_FMODE_NOWAIT)
        }
    }

    /// Stores what `make` makes of it, for the later operations and for `release`.
    #[inline]
    fn store<D>(self, make: impl FnOnce(Self) -> Result<SlabBox<D>>) -> Result {
        let file = self.file().as_ptr();
        let data = make(self)?.into_raw();
        // SAFETY: by the type's meaning nobody else reads or writes the pointer. Charter 8: the callers are the
        // tables, which pass the data of their own type.
        unsafe { (*file).private_data = data.cast() };
        Ok(())
    }
}

impl<'a, F: FileSystem> Deref for Opening<'a, F> {
    type Target = OpenFile<'a, F>;
    fn deref(&self) -> &OpenFile<'a, F> {
        &self.0
    }
}

/// Sets the mode bit of `file`, which is being opened by the caller.
fn set_direct_io(file: &LocalFile, possible: bool) {
    if possible {
        file::add_mode(file, bindings::ROVL_FMODE_CAN_ODIRECT);
    }
}

/// Frees the data of an open file: its last callback.
///
/// # Safety
///
/// `file` is the argument of `release`, of a table with data `D`.
unsafe extern "C" fn release<D>(_inode: RawInode, file: RawFile) -> i32 {
    // SAFETY: charter 8: `open` or `tmpfile` stored the box; there is no callback for the file after this one.
    drop(unsafe { SlabBox::from_raw((*file).private_data.cast::<D>()) });
    0
}

/// What the filesystem keeps with an open regular file.
pub(crate) type RegularData<F> = <<F as FileSystem>::RegularFile as RegularOperations<F>>::Data;

/// What the filesystem keeps with an open directory.
pub(crate) type DirectoryData<F> =
    <<F as FileSystem>::DirectoryFile as DirectoryOperations<F>>::Data;

/// An unnamed file being opened by `tmpfile`.
///
/// It has a path, whose dentry is negative, and no inode yet: it is no [`OpenFile`].
pub(crate) struct OpenTmpfile<'a, F: FileSystem>(&'a LocalFile, Exactly<F>);

impl<'a, F: FileSystem> OpenTmpfile<'a, F> {
    /// # Safety
    ///
    /// `file` is the one that the `tmpfile` operation got.
    pub(super) unsafe fn from_raw(file: RawFile) -> Self {
        // SAFETY: by the contract; the file is used for its path and its flags alone. The type stays on its thread.
        Self(unsafe { LocalFile::from_raw_file(file) }, PhantomData)
    }

    /// The dentry that is to be the file's.
    pub(crate) fn dentry(&self) -> &'a OwnDentry<F> {
        // SAFETY: charter 1 and 3: the file references its path, that of a new dentry of a super block of `F`.
        unsafe { OwnDentry::from_raw(PathRef::of_file(self.0).dentry().as_ptr()) }
    }

    /// Its `O_*` flags.
    pub(crate) fn flags(&self) -> u32 {
        self.0.flags()
    }

    /// Opens an unnamed file in the layer directory `parent` on its behalf.
    ///
    /// # Errors
    ///
    /// `ENOTDIR`; what the filesystem or a security module returns.
    pub(crate) fn open_backing(
        &self,
        parent: WritePath<'_>,
        flags: u32,
        mode: Mode,
    ) -> Result<ARef<file::LayerFile>> {
        file::open_backing_tmpfile(self.0, parent, flags, mode)
    }

    /// As [`Opening::set_direct_io`].
    pub(crate) fn set_direct_io(&mut self, possible: bool) {
        set_direct_io(self.0, possible);
    }

    /// Marks the dentry as that of an unnamed file and makes it positive; stores the file's data.
    ///
    /// # Errors
    ///
    /// `EIO` where `inode` is no regular file of the same super block, or the dentry is not negative any more.
    pub(crate) fn instantiate(
        self,
        inode: Ref<'_, OwnInode<F>>,
        data: SlabBox<RegularData<F>>,
    ) -> Result<Instantiated<'a, F>> {
        let (file, dentry) = (self.0.as_ptr(), self.dentry());
        let fits = inode.mode().is_reg() && core::ptr::eq(inode.sb(), dentry.sb());
        if !fits || dentry.inode().is_some() {
            return Err(EIO);
        }
        // SAFETY: charter 1; the file is being opened, its dentry is new: unhashed, with a name of its own, and
        // negative, as seen just now; nobody else can make it positive.
        unsafe { bindings::d_mark_tmpfile(file, inode.as_ptr()) };
        // SAFETY: as for the mark: the dentry is new and unhashed, so that no lookup has it, and still negative.
        unsafe { dentry.instantiate(inode) };
        // SAFETY: the file is being opened: nobody else reads or writes the pointer. Charter 8: the inode is a
        // regular file, whose table has data of this type.
        unsafe { (*file).private_data = data.into_raw().cast() };
        Ok(Instantiated(self))
    }
}

/// An unnamed file that has an inode and its data: what `tmpfile` returns.
pub(crate) struct Instantiated<'a, F: FileSystem>(OpenTmpfile<'a, F>);

/// # Safety
///
/// None.
unsafe extern "C" fn nothing_to_open(_inode: RawInode, _file: RawFile) -> i32 {
    0
}

impl<F: FileSystem> Instantiated<'_, F> {
    /// Ends the opening.
    pub(super) fn finish(self) -> Result {
        let (file, dentry) = (self.0 .0.as_ptr(), self.0.dentry());
        // SAFETY: charter 1; `file` is the argument of the `tmpfile` that runs, and not open yet.
        to_result(unsafe { bindings::finish_open(file, dentry.as_ptr(), Some(nothing_to_open)) })
    }
}

impl<F: FileSystem> Drop for Instantiated<'_, F> {
    fn drop(&mut self) {
        let file = self.0 .0.as_ptr();
        if read_field!(self.0 .0, f_mode) & bindings::ROVL_FMODE_OPENED != 0 {
            return;
        }
        // SAFETY: the file did not become open, so `release` is not called: the box that `instantiate` stored is
        // still ours.
        drop(unsafe { SlabBox::from_raw((*file).private_data.cast::<RegularData<F>>()) });
        // SAFETY: the file did not become open: nobody else uses it.
        unsafe { (*file).private_data = ptr::null_mut() };
    }
}

/// Operations on open regular files.
pub(crate) trait RegularOperations<F: FileSystem>: Sized + 'static {
    /// What is kept with an open file.
    type Data: Send + Sync;

    /// Opens.
    fn open(open: Opening<'_, F>) -> Result<SlabBox<Self::Data>>;
    /// Reads or writes.
    fn io<'a>(
        open: OpenFile<'_, F>,
        data: &Self::Data,
        io: Io<'a, F>,
        write: bool,
    ) -> Result<Moved<'a>>;
    /// Splices from or to a pipe.
    fn splice<'a>(
        open: OpenFile<'_, F>,
        data: &Self::Data,
        io: Splice<'a, F>,
        write: bool,
    ) -> Result<Moved<'a>>;
    /// Whether the file can be mapped, `shared` and writable or otherwise: called before a mapping is
    /// begun, with the address space locked, so nothing else may be locked. Where it can't,
    /// `make_mappable` is called once the system call has let all locks go, and the call is restarted.
    fn is_mappable(open: OpenFile<'_, F>, data: &Self::Data, shared: bool) -> Result<bool>;
    /// Makes [`is_mappable`](Self::is_mappable) succeed or fail; may sleep.
    fn make_mappable(open: OpenFile<'_, F>, data: &Self::Data, shared: bool);
    /// Maps.
    fn mmap(open: OpenFile<'_, F>, data: &Self::Data, mapping: Mapping<'_, F>) -> Result;
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
    /// Tells the inode's generation.
    fn generation(open: OpenFile<'_, F>, asked: Generation<'_>) -> Result;
    /// Closes a descriptor.
    fn flush(open: OpenFile<'_, F>, data: &Self::Data, flush: Flush<'_>) -> Result;
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
    fn open(open: Opening<'_, F>) -> Result<SlabBox<Self::Data>>;
    /// Lists; the inode is locked, shared.
    fn iterate(open: Listed<'_, F>, data: &Self::Data, ctx: &mut DirContext<'_>) -> Result;
    /// Moves the position; returns it.
    fn seek(open: OpenFile<'_, F>, data: &Self::Data, offset: i64, whence: i32) -> Result<i64>;
    /// Tells the inode's generation.
    fn generation(open: OpenFile<'_, F>, asked: Generation<'_>) -> Result;
    /// Writes back.
    fn fsync(
        open: OpenFile<'_, F>,
        data: &Self::Data,
        start: i64,
        end: i64,
        datasync: bool,
    ) -> Result;
}

/// A call of [`RegularOperations::make_mappable`] before the task returns to user space.
#[repr(C)]
struct BeforeReturn {
    work: bindings::rovl_before_return,
    shared: bool,
}

/// The table of the operations `T` on regular files.
pub(super) struct Regular<F, T>(PhantomData<(F, T)>);

impl<F: FileSystem, T: RegularOperations<F>> Regular<F, T> {
    c_table! {
        /// The operations.
        pub(super) const OPS: bindings::file_operations = {
            release: Some(release::<T::Data>),
            setlease: Some(bindings::generic_setlease),
        };

        fn open(_inode: RawInode, file: RawFile) -> i32
            => Self::open_file(file);
        fn llseek(file: RawFile, offset: i64, whence: i32) -> i64
            => T::seek(file, file, offset, whence);
        fn read_iter(iocb: *mut bindings::kiocb, iter: *mut bindings::iov_iter) -> isize
            => T::io(iocb, iocb, (iocb, iter, false), false);
        fn write_iter(iocb: *mut bindings::kiocb, iter: *mut bindings::iov_iter) -> isize
            => T::io(iocb, iocb, (iocb, iter, true), true);
        fn splice_read(file: RawFile, pos: *mut i64, pipe: RawPipe, len: usize, flags: u32) -> isize
            => T::splice(file, file, (file, pipe, pos, len, flags, false), false);
        fn splice_write(pipe: RawPipe, file: RawFile, pos: *mut i64, len: usize, flags: u32) -> isize
            => T::splice(file, file, (file, pipe, pos, len, flags, true), true);
        /// The one operation that a mapping asks before it takes anything apart, `MAP_FIXED` or not.
        fn get_unmapped_area(
            file: RawFile,
            addr: usize,
            len: usize,
            pgoff: usize,
            flags: usize,
        ) -> usize
            => Self::find_place(file, file, addr, len, pgoff, flags);
        fn mmap(file: RawFile, vma: *mut bindings::vm_area_struct) -> i32
            => T::mmap(file, file, vma);
        fn unlocked_ioctl(file: RawFile, command: u32, arg: usize) -> isize
            => Self::ioctl(file, command, arg);
        fn compat_ioctl(file: RawFile, command: u32, arg: usize) -> isize
            => Self::ioctl(file, command, arg);
        fn fsync(file: RawFile, start: i64, end: i64, datasync: i32) -> i32
            => T::fsync(file, file, start, end, datasync);
        fn fallocate(file: RawFile, mode: i32, off: i64, len: i64) -> isize
            => T::fallocate(file, file, mode, off, len);
        fn fadvise(file: RawFile, off: i64, len: i64, advice: i32) -> i32
            => T::fadvise(file, file, off, len, advice);
        fn flush(file: RawFile, owner: bindings::fl_owner_t) -> i32
            => T::flush(file, file, owner);
        /// The VFS passes two files that have this very function, so both are of `F` and have the data of its one
        /// table of regular files: no other type of the module is registered meanwhile that could share it.
        fn copy_file_range(
            from_file: RawFile,
            from: i64,
            to_file: RawFile,
            to: i64,
            len: usize,
            flags: u32,
        ) -> isize
            => Self::copy(from_file, to_file, (from, to, len, flags));
        /// The VFS passes two regular files of one super block.
        fn remap_file_range(
            from_file: RawFile,
            from: i64,
            to_file: RawFile,
            to: i64,
            len: i64,
            flags: u32,
        ) -> i64
            => Self::remap(from_file, to_file, (from, to, len, flags));
    }

    fn ioctl(open: OpenFile<'_, F>, command: u32, arg: usize) -> Result {
        T::generation(open, Generation::asked(command, arg).ok_or(ENOTTY)?)
    }

    fn open_file(file: Opening<'_, F>) -> Result {
        file.store(T::open)
    }

    fn find_place(
        open: OpenFile<'_, F>,
        data: &T::Data,
        addr: usize,
        len: usize,
        pgoff: usize,
        flags: usize,
    ) -> Result<usize> {
        let shared = matches!(
            flags as u32 & bindings::MAP_TYPE,
            bindings::MAP_SHARED | bindings::MAP_SHARED_VALIDATE
        );
        let shared = shared && file::is_writable(open.file());
        if !T::is_mappable(open, data, shared)? {
            Self::before_return(open.file(), shared)?;
        }
        Ok(calls::mm_get_unmapped_area(
            open.file(),
            addr,
            len,
            pgoff,
            flags,
        ))
    }

    /// Has `make_mappable` called; returns the error that restarts the system call.
    fn before_return(file: &LocalFile, shared: bool) -> Result {
        let call = BeforeReturn {
            work: bindings::rovl_before_return {
                head: bindings::callback_head::default(),
                file: ptr::null_mut(),
                call: Some(Self::make_mappable),
            },
            shared,
        };
        let call = KBox::into_raw(KBox::new(call, GFP_KERNEL)?);
        // SAFETY: charter 1 for the file; the work is the first field of a box that nobody else has.
        let queued = unsafe { bindings::rovl_run_before_return(call.cast(), file.as_ptr()) };
        if let Err(e) = to_result(queued) {
            // SAFETY: it was not queued, so nobody takes the box but we.
            drop(unsafe { KBox::from_raw(call) });
            return Err(e);
        }
        Err(kernel::error::code::ERESTARTNOINTR)
    }

    /// # Safety
    ///
    /// `work` is that of a call that `before_return` queued for a file of this table, which is referenced.
    unsafe extern "C" fn make_mappable(work: *mut bindings::rovl_before_return) {
        // SAFETY: `before_return` gave the box away, of which the work is the first field; it runs once.
        let call = unsafe { KBox::from_raw(work.cast::<BeforeReturn>()) };
        let file = call.work.file;
        // SAFETY: charter 1 and 3: a file of this table, which the caller keeps.
        let open = unsafe { OpenFile::from_raw(file) };
        // SAFETY: charter 8: it is open, as a mapping of it was asked for, and not released, for the same reference.
        let data = unsafe { FromC::from_c(file) };
        T::make_mappable(open, data, call.shared);
    }

    fn copy(
        from: (OpenFile<'_, F>, &T::Data),
        to: (OpenFile<'_, F>, &T::Data),
        range: file::Range,
    ) -> Result<i64> {
        T::transfer(file::Transfer::Copy, from, to, range)
    }

    fn remap(
        from: (OpenFile<'_, F>, &T::Data),
        to: (OpenFile<'_, F>, &T::Data),
        range: file::Range,
    ) -> Result<i64> {
        let known = bindings::ROVL_REMAP_FILE_DEDUP | bindings::ROVL_REMAP_FILE_ADVISORY;
        if range.flags & !known != 0 {
            return Err(EINVAL);
        }
        let how = match range.flags & bindings::ROVL_REMAP_FILE_DEDUP {
            0 => file::Transfer::Clone,
            _ => file::Transfer::Dedupe,
        };
        T::transfer(how, from, to, range)
    }
}

/// The table of the operations `T` on directories.
pub(super) struct Directory<F, T>(PhantomData<(F, T)>);

impl<F: FileSystem, T: DirectoryOperations<F>> Directory<F, T> {
    c_table! {
        /// The operations.
        pub(super) const OPS: bindings::file_operations = {
            release: Some(release::<T::Data>),
            read: Some(bindings::generic_read_dir),
            setlease: Some(bindings::generic_setlease),
        };

        fn open(_inode: RawInode, file: RawFile) -> i32
            => Self::open_file(file);
        fn llseek(file: RawFile, offset: i64, whence: i32) -> i64
            => T::seek(file, file, offset, whence);
        fn iterate_shared(file: RawFile, ctx: *mut bindings::dir_context) -> i32
            => Self::iterate(file, file, ctx);
        fn unlocked_ioctl(file: RawFile, command: u32, arg: usize) -> isize
            => Self::ioctl(file, command, arg);
        fn compat_ioctl(file: RawFile, command: u32, arg: usize) -> isize
            => Self::ioctl(file, command, arg);
        fn fsync(file: RawFile, start: i64, end: i64, datasync: i32) -> i32
            => T::fsync(file, file, start, end, datasync);
    }

    fn ioctl(open: OpenFile<'_, F>, command: u32, arg: usize) -> Result {
        T::generation(open, Generation::asked(command, arg).ok_or(ENOTTY)?)
    }

    fn open_file(file: Opening<'_, F>) -> Result {
        file.store(T::open)
    }

    fn iterate(open: OpenFile<'_, F>, data: &T::Data, mut ctx: DirContext<'_>) -> Result {
        // The VFS has locked it for this callback.
        T::iterate(Listed(open), data, &mut ctx)
    }
}
