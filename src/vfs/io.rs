// SPDX-License-Identifier: GPL-2.0

//! Requests on an open file of ours, passed on to a file of a layer.
//!
//! C header: `include/linux/backing-file.h`.

use super::{
    callback::IntoC, file, file_ops::OpenFile, fs::FileSystem, inode::InodeGuard, to_len, to_result,
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    cred::Credential, error::code::EIOCBQUEUED, fs::File, prelude::*, types::NotThreadSafe,
};

/// A read or write request as the VFS passes it, and whether it writes.
pub(super) type RawIo = (*mut bindings::kiocb, *mut bindings::iov_iter, bool);

/// A read or write request on a regular file of `F`, to be passed on to a file of a layer.
///
/// # Examples
///
/// ```ignore
/// fn write<'a>(open: OpenFile<'_, Overlay>, io: Io<'a, Overlay>, real: &File) -> Result<Moved<'a>> {
///     let lock = open.inode().lock();
///     io.pass::<Hooks>(real, open.inode().fs().creds(), Some(&lock))
/// }
/// ```
pub(crate) struct Io<'a, F: FileSystem> {
    iocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
    write: bool,
    _callback: PhantomData<OpenFile<'a, F>>,
}

impl<'a, F: FileSystem> Io<'a, F> {
    /// # Safety
    ///
    /// The arguments of `read_iter` or `write_iter` of `F`, used during the callback alone.
    #[inline]
    pub(super) unsafe fn from_raw((iocb, iter, write): RawIo) -> Self {
        Self {
            iocb,
            iter,
            write,
            _callback: PhantomData,
        }
    }

    /// Whether nothing is to be moved.
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: the request is the callback's for its duration.
        unsafe {
            (*self.iter)
                .__bindgen_anon_1
                .__bindgen_anon_1
                .as_ref()
                .count
                == 0
        }
    }

    /// Whether the request must not wait.
    pub(crate) fn is_nowait(&self) -> bool {
        self.flags() & bindings::ROVL_IOCB_NOWAIT as i32 != 0
    }

    /// The file that it was made on.
    fn open(&self) -> OpenFile<'_, F> {
        // SAFETY: the request is the callback's for its duration.
        let file = unsafe { (*self.iocb).ki_filp };
        // SAFETY: charter 1 and 3: the request references its file, one of `F`.
        unsafe { OpenFile::from_raw(file) }
    }

    fn flags(&self) -> i32 {
        // SAFETY: the request is the callback's for its duration.
        unsafe { (*self.iocb).ki_flags }
    }

    /// Moves nothing.
    pub(crate) fn leave(self) -> Moved<'a> {
        Moved(0, PhantomData)
    }

    /// Makes the request one that does not ask for its data to be written back.
    pub(crate) fn forget_sync(&self) {
        // SAFETY: the request is the callback's for its duration.
        unsafe { (*self.iocb).ki_flags &= !(bindings::ROVL_IOCB_SYNC as i32) };
    }

    /// Passes the request on to `real` with `cred`; afterwards (for asynchronous requests: on
    /// completion) `H` hears of it. A request to write needs the `lock` of the inode that it was made on, whose set-id bits are
    /// stripped.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for a request that must not wait where `real` serves none, `EINVAL` for one to write without the lock;
    /// what the layer's filesystem returns.
    pub(crate) fn pass<H: IoHooks<F>>(
        self,
        real: &File,
        cred: &Credential,
        lock: Option<&InodeGuard<'_>>,
    ) -> Result<Moved<'a>> {
        let mut ctx = hooks::<F, H>(cred);
        if self.write && !holds(lock, self.open()) {
            return Err(EINVAL);
        }
        if self.is_nowait() && !file::serves_nowait(real) {
            return Err(EOPNOTSUPP);
        }
        let flags = self.flags();
        let (real, iocb, iter) = (real.as_ptr(), self.iocb, self.iter);
        Moved::from_raw(if self.write {
            // SAFETY: charter 1 for `real`, of which an asynchronous request takes a reference of its own; the request
            // is one on a file of `F`, whose hooks are in `ctx`, which is copied where it is needed after the call, and whose
            // inode is locked, as was just seen.
            unsafe { bindings::backing_file_write_iter(real, iter, iocb, flags, &mut ctx) }
        } else {
            // SAFETY: as for writing: charter 1 for `real`, the request is one on a file of `F`, and `ctx` is copied.
            unsafe { bindings::backing_file_read_iter(real, iter, iocb, flags, &mut ctx) }
        })
    }
}

/// What became of a request: how many bytes were moved, or that it is queued.
///
/// Whoever made the request counts on both, as on pages that are full by then: who serves it has this of it alone.
#[must_use]
pub(crate) struct Moved<'a>(isize, PhantomData<&'a ()>);

impl Moved<'_> {
    #[inline]
    fn from_raw(ret: isize) -> Result<Self> {
        match to_len(ret) {
            Err(e) if e != EIOCBQUEUED => Err(e),
            _ => Ok(Self(ret, PhantomData)),
        }
    }
}

impl IntoC<isize> for Result<Moved<'_>> {
    #[inline]
    fn into_c(self) -> isize {
        match self {
            Ok(moved) => moved.0,
            // Nobody would ever complete it, and who waits for the answer takes it for a bug.
            Err(e) if e == EIOCBQUEUED => EIO.to_errno() as isize,
            Err(e) => e.to_errno() as isize,
        }
    }
}

/// A splice as the VFS passes it: file, pipe, position, length, flags, and whether it writes to the file.
pub(super) type RawSplice = (
    *mut bindings::file,
    *mut bindings::pipe_inode_info,
    *mut i64,
    usize,
    u32,
    bool,
);

/// A splice between a pipe and a regular file of `F`, to be passed on.
pub(crate) struct Splice<'a, F: FileSystem>(RawSplice, PhantomData<OpenFile<'a, F>>);

impl<'a, F: FileSystem> Splice<'a, F> {
    /// # Safety
    ///
    /// The arguments of `splice_read` or `splice_write` of `F`, used during the callback alone.
    pub(super) unsafe fn from_raw(raw: RawSplice) -> Self {
        Self(raw, PhantomData)
    }

    /// Passes the splice on to `real`; as [`Io::pass`].
    ///
    /// # Errors
    ///
    /// As there; `EBADF` for one to write where `real` is not open for that.
    pub(crate) fn pass<H: IoHooks<F>>(
        self,
        real: &File,
        cred: &Credential,
        lock: Option<&InodeGuard<'_>>,
    ) -> Result<Moved<'a>> {
        let mut ctx = hooks::<F, H>(cred);
        let (file, pipe, pos, len, flags, write) = self.0;
        if write {
            // SAFETY: charter 1 and 3: the file is the callback's, one of `F`.
            if !holds(lock, unsafe { OpenFile::<F>::from_raw(file) }) {
                return Err(EINVAL);
            }
            // The splice operation is called as it is.
            if !file::is_writable(real) {
                return Err(EBADF);
            }
        }
        let real = real.as_ptr();
        let mut iocb: bindings::kiocb = pin_init::zeroed();
        // SAFETY: charter 1 and 10; `file` is the callback's.
        unsafe { bindings::rovl_init_sync_kiocb(&mut iocb, file) };
        // SAFETY: the position is the callback's.
        iocb.ki_pos = unsafe { *pos };
        let ret = if write {
            // SAFETY: charter 1 for `real` and the pipe, an argument of the callback; the request is synchronous, on a
            // file of `F`, whose hooks are in `ctx`, and whose inode is locked, as was just seen.
            unsafe {
                bindings::backing_file_splice_write(pipe, real, &mut iocb, len, flags, &mut ctx)
            }
        } else {
            // SAFETY: as for writing: charter 1 for `real` and the pipe, a synchronous request on a file of `F`.
            unsafe {
                bindings::backing_file_splice_read(real, &mut iocb, pipe, len, flags, &mut ctx)
            }
        };
        // SAFETY: the position is the callback's.
        unsafe { *pos = iocb.ki_pos };
        Moved::from_raw(ret)
    }
}

/// A mapping being set up, to be passed on.
pub(crate) struct Mapping<'a, F: FileSystem>(
    *mut bindings::vm_area_struct,
    PhantomData<OpenFile<'a, F>>,
);

impl<F: FileSystem> Mapping<'_, F> {
    /// # Safety
    ///
    /// The argument of `mmap` of `F`, used during the callback alone.
    pub(super) unsafe fn from_raw(vma: *mut bindings::vm_area_struct) -> Self {
        Self(vma, PhantomData)
    }

    /// Whether it is shared and writable, or can be made writable.
    fn is_shared_writable(&self) -> bool {
        // SAFETY: the vma is being set up for the callback, which is the only one to read or write it.
        let flags = unsafe { (*self.0).__bindgen_anon_2.vm_flags };
        let wanted = (bindings::ROVL_VM_SHARED | bindings::ROVL_VM_MAYWRITE) as usize;
        flags & wanted == wanted
    }

    /// Maps `real` instead, keeping the user's path visible. Where it fails the vma may have `real` already:
    /// the caller, `mmap_region()`, puts the file that it finds there.
    ///
    /// # Errors
    ///
    /// `EACCES` where `real` is not open for the writing that the mapping may do; what its filesystem returns.
    pub(crate) fn pass<H: IoHooks<F>>(self, real: &File, cred: &Credential) -> Result {
        // As `mmap(2)` asks of the user's file.
        if self.is_shared_writable() && !file::is_writable(real) {
            return Err(EACCES);
        }
        let mut ctx = hooks::<F, H>(cred);
        // SAFETY: charter 1; the vma is the callback's, of a file of `F`, whose hooks are in `ctx`, which is used during
        // the call alone.
        to_result(unsafe { bindings::backing_file_mmap(real.as_ptr(), self.0, &mut ctx) })
    }
}

/// What a filesystem wants to hear about passed-on requests.
pub(crate) trait IoHooks<F: FileSystem> {
    /// Data of `file` was read.
    fn accessed(file: OpenFile<'_, F>);
    /// A write to `file` ended.
    fn wrote(file: OpenFile<'_, F>);
}

/// # Safety
///
/// Called by a `backing_file_*` function for a request on a file of `F`.
unsafe extern "C" fn accessed<F: FileSystem, H: IoHooks<F>>(file: *mut bindings::file) {
    // SAFETY: charter 1 and 3: the file that the request was made on, of `F` as `Io`, `Splice` and `Mapping` are.
    H::accessed(unsafe { OpenFile::from_raw(file) })
}

/// # Safety
///
/// Called by a `backing_file_*` function for a request on a file of `F`.
unsafe extern "C" fn end_write<F: FileSystem, H: IoHooks<F>>(
    iocb: *mut bindings::kiocb,
    _ret: isize,
) {
    // SAFETY: the request lives until this, its last call.
    let file = unsafe { (*iocb).ki_filp };
    // SAFETY: charter 1 and 3: the file that the request was made on, of `F` as `Io` and `Splice` are; the request
    // references it.
    H::wrote(unsafe { OpenFile::from_raw(file) })
}

/// Whether `lock` is that of the inode of `open`.
#[inline]
fn holds<F: FileSystem>(lock: Option<&InodeGuard<'_>>, open: OpenFile<'_, F>) -> bool {
    lock.is_some_and(|lock| *lock.inode() == **open.inode())
}

fn hooks<F: FileSystem, H: IoHooks<F>>(cred: &Credential) -> bindings::backing_file_ctx {
    bindings::backing_file_ctx {
        cred: cred.as_ptr(),
        accessed: Some(accessed::<F, H>),
        end_write: Some(end_write::<F, H>),
    }
}

/// The question for an inode's generation, to be passed on.
///
/// The address that it is stored at is one of the task that asks, which is waited for by the callback.
pub(crate) struct Generation<'a>(usize, PhantomData<&'a ()>, NotThreadSafe);

impl Generation<'_> {
    /// The question that an ioctl of a user is; `None` where it is another.
    pub(super) fn asked(command: u32, arg: usize) -> Option<Self> {
        let native = bindings::ROVL_FS_IOC_GETVERSION;
        // All store 32 bits, whatever the command says of itself.
        let known = [native, bindings::ROVL_FS_IOC32_GETVERSION];
        let asked = known.contains(&command);
        asked.then_some(Self(arg, PhantomData, NotThreadSafe))
    }

    /// Passes the question on to the filesystem of `real`.
    ///
    /// # Errors
    ///
    /// `ENOTTY` where it does not tell.
    pub(crate) fn pass(self, real: &File) -> Result {
        file::generation(real, self.0)
    }
}

/// The owner token of a `flush`, to be passed on.
pub(crate) struct Flush<'a>(bindings::fl_owner_t, PhantomData<&'a ()>);

impl Flush<'_> {
    /// # Safety
    ///
    /// The argument of `flush`, used during the callback alone.
    pub(super) unsafe fn from_raw(owner: bindings::fl_owner_t) -> Self {
        Self(owner, PhantomData)
    }

    /// Passes the flush on to `real`.
    pub(crate) fn pass(self, real: &File) -> Result {
        file::flush(real, self.0)
    }
}
