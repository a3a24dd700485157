// SPDX-License-Identifier: GPL-2.0

//! Requests on an open file of ours, passed on to a file of a layer.
//!
//! C header: `include/linux/backing-file.h`.

use super::{file, file_ops::OpenFile, fs::FileSystem, to_len};
use crate::bindings;
use kernel::{cred::Credential, error::to_result, fs::File, prelude::*};

/// A read or write request on a regular file, to be passed on to a file of a layer.
pub(crate) struct Io {
    /// The flags of the request that are passed on.
    pub(super) keep: i32,
    pub(super) iocb: *mut bindings::kiocb,
    pub(super) iter: *mut bindings::iov_iter,
    pub(super) write: bool,
}

impl Io {
    /// Whether nothing is to be moved.
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: the VFS passes valid requests.
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
        // SAFETY: the VFS passes valid requests.
        unsafe { (*self.iocb).ki_flags & bindings::ROVL_IOCB_NOWAIT as i32 != 0 }
    }

    /// Passes the request on to `real` with `cred`; afterwards (for asynchronous requests: on
    /// completion) `H` hears of it. Returns the bytes moved; `EIOCBQUEUED` for a queued request.
    pub(crate) fn pass<F: FileSystem, H: IoHooks<F>>(
        self,
        real: &File,
        cred: &Credential,
    ) -> Result<usize> {
        let mut ctx = hooks::<F, H>(cred);
        // SAFETY: charter 1; the request is the VFS's; the context is copied where it is needed
        // after the call.
        to_len(unsafe {
            let flags = (*self.iocb).ki_flags & self.keep;
            if self.write {
                bindings::backing_file_write_iter(
                    real.as_ptr(),
                    self.iter,
                    self.iocb,
                    flags,
                    &mut ctx,
                )
            } else {
                bindings::backing_file_read_iter(
                    real.as_ptr(),
                    self.iter,
                    self.iocb,
                    flags,
                    &mut ctx,
                )
            }
        })
    }
}

/// A splice between a pipe and a regular file, to be passed on.
pub(crate) struct Splice {
    pub(super) file: *mut bindings::file,
    pub(super) pipe: *mut bindings::pipe_inode_info,
    pub(super) pos: *mut i64,
    pub(super) len: usize,
    pub(super) flags: u32,
    pub(super) write: bool,
}

impl Splice {
    /// Passes the splice on to `real`; as [`Io::pass`].
    pub(crate) fn pass<F: FileSystem, H: IoHooks<F>>(
        self,
        real: &File,
        cred: &Credential,
    ) -> Result<usize> {
        let mut ctx = hooks::<F, H>(cred);
        let mut iocb = core::mem::MaybeUninit::<bindings::kiocb>::zeroed();
        let iocb = iocb.as_mut_ptr();
        // SAFETY: charter 1 and 10; the pipe and position are the VFS's.
        unsafe {
            bindings::rovl_init_sync_kiocb(iocb, self.file);
            (*iocb).ki_pos = *self.pos;
            let ret = if self.write {
                bindings::backing_file_splice_write(
                    self.pipe,
                    real.as_ptr(),
                    iocb,
                    self.len,
                    self.flags,
                    &mut ctx,
                )
            } else {
                bindings::backing_file_splice_read(
                    real.as_ptr(),
                    iocb,
                    self.pipe,
                    self.len,
                    self.flags,
                    &mut ctx,
                )
            };
            *self.pos = (*iocb).ki_pos;
            to_len(ret)
        }
    }
}

/// A mapping being set up, to be passed on.
pub(crate) struct Mapping(pub(super) *mut bindings::vm_area_struct);

impl Mapping {
    /// Whether it is shared and writable, or can be made writable.
    pub(crate) fn is_shared_writable(&self) -> bool {
        // SAFETY: charter 1; the vma is the VFS's.
        let flags = unsafe { (*self.0).__bindgen_anon_2.vm_flags };
        let wanted = (bindings::ROVL_VM_SHARED | bindings::ROVL_VM_MAYWRITE) as usize;
        flags & wanted == wanted
    }

    /// Maps `real` instead, keeping the user's path visible. Where it fails the vma may have `real` already:
    /// the caller, `mmap_region()`, puts the file that it finds there.
    pub(crate) fn pass<F: FileSystem, H: IoHooks<F>>(
        self,
        real: &File,
        cred: &Credential,
    ) -> Result {
        let mut ctx = hooks::<F, H>(cred);
        // SAFETY: charter 1; the vma is the VFS's.
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
    // SAFETY: the file that the request was made on.
    H::accessed(unsafe { OpenFile::from_raw(file) })
}

/// # Safety
///
/// Called by a `backing_file_*` function for a request on a file of `F`.
unsafe extern "C" fn end_write<F: FileSystem, H: IoHooks<F>>(
    iocb: *mut bindings::kiocb,
    _ret: isize,
) {
    // SAFETY: as above.
    H::wrote(unsafe { OpenFile::from_raw((*iocb).ki_filp) })
}

fn hooks<F: FileSystem, H: IoHooks<F>>(cred: &Credential) -> bindings::backing_file_ctx {
    bindings::backing_file_ctx {
        cred: cred.as_ptr(),
        accessed: Some(accessed::<F, H>),
        end_write: Some(end_write::<F, H>),
    }
}

/// The owner token of a `flush`, to be passed on.
pub(crate) struct Flush(pub(super) *mut kernel::ffi::c_void);

impl Flush {
    /// Passes the flush on to `real`.
    pub(crate) fn pass(self, real: &File) -> Result {
        file::flush(real, self.0)
    }
}
