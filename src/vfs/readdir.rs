// SPDX-License-Identifier: GPL-2.0

//! Listing directories: reading those of layers, filling the caller's buffer.
//!
//! C header: `struct dir_context` in `include/linux/fs.h`.

use super::{calls, to_result};
use crate::bindings;
use core::{marker::PhantomData, ops::ControlFlow};
use kernel::{fs::File, prelude::*};

/// One entry of a directory of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The name; any bytes but `/` and NUL.
    pub(crate) name: &'a [u8],
    /// The position, in the filesystem's own terms.
    pub(crate) offset: i64,
    /// `d_ino`.
    pub(crate) ino: u64,
    /// `d_type` (`DT_*`), with the VFS's own flags in high bits.
    pub(crate) kind: u32,
}

/// `d_type` values.
pub(crate) mod dt {
    use crate::bindings;
    pub(crate) const UNKNOWN: u32 = bindings::DT_UNKNOWN;
    pub(crate) const CHR: u32 = bindings::DT_CHR;
    pub(crate) const REG: u32 = bindings::DT_REG;
}

/// The caller's listing: where it is, and room for entries.
///
/// C code holds the structure inside one of its own and changes it in each call of the actor, so that it is never
/// referenced here.
///
/// # Invariants
///
/// The pointer is valid during `'a`, and nobody else uses the structure but in calls made by the methods.
#[repr(transparent)]
pub(crate) struct DirContext<'a>(*mut bindings::dir_context, PhantomData<&'a mut ()>);

/// Reads a field of a [`DirContext`].
macro_rules! field {
    ($self:ident.$name:ident) => {
        // SAFETY: by the type invariant.
        unsafe { (*$self.0).$name }
    };
}

impl DirContext<'_> {
    /// # Safety
    ///
    /// `ctx` is valid during `'a`, where nobody else uses it.
    pub(super) unsafe fn from_raw<'a>(ctx: *mut bindings::dir_context) -> DirContext<'a> {
        // INVARIANT: by the contract.
        DirContext(ctx, PhantomData)
    }

    /// The position.
    pub(crate) fn pos(&self) -> i64 {
        field!(self.pos)
    }

    /// Moves the position.
    pub(crate) fn set_pos(&mut self, pos: i64) {
        // SAFETY: by the type invariant.
        unsafe { (*self.0).pos = pos }
    }

    /// How much room there is, in what the caller counts.
    fn count(&self) -> i32 {
        field!(self.count)
    }

    /// Emits an entry at the current position; `false` where there is no room for it.
    pub(crate) fn emit(&mut self, name: &[u8], ino: u64, kind: u32) -> bool {
        let offset = self.pos();
        self.emit_at(Entry {
            name,
            offset,
            ino,
            kind,
        })
    }

    #[inline]
    fn emit_at(&mut self, entry: Entry<'_>) -> bool {
        let (Some(actor), Ok(len)) = (field!(self.actor), i32::try_from(entry.name.len())) else {
            return false;
        };
        // SAFETY: the actor belongs to the context, which by the type invariant nobody else uses; the name has `len` bytes.
        unsafe {
            actor(
                self.0,
                entry.name.as_ptr().cast(),
                len,
                entry.offset,
                entry.ino,
                entry.kind,
            )
        }
    }

    /// Lets the filesystem of `real` fill the caller's buffer itself.
    ///
    /// # Errors
    ///
    /// `ENOTDIR`; what the filesystem returns.
    pub(crate) fn pass_through(&mut self, real: &File) -> Result {
        // INVARIANT: as for `self`, which nobody uses during the call.
        to_result(calls::rovl_iterate_dir(
            real,
            DirContext(self.0, PhantomData),
        ))
    }

    /// As [`pass_through`](Self::pass_through), with the inode number of each entry replaced by what
    /// `ino` says.
    pub(crate) fn pass_mapped(
        &mut self,
        real: &File,
        mut ino: impl FnMut(&Entry<'_>) -> u64,
    ) -> Result {
        let (pos, count) = (self.pos(), self.count());
        let mut emit = |mut entry: Entry<'_>| {
            entry.ino = ino(&entry);
            if self.emit_at(entry) {
                ControlFlow::Continue(self.count())
            } else {
                ControlFlow::Break(())
            }
        };
        let (ret, pos) = iterate(real, pos, count, &mut emit);
        self.set_pos(pos);
        ret
    }
}

/// A context with what its actor calls, which finds it behind the context.
#[repr(C)]
struct Closure<'a, E> {
    ctx: bindings::dir_context,
    emit: &'a mut E,
}

/// # Safety
///
/// `ctx` is in a `Closure` of type `E` that is being iterated over; `name` has `len` bytes.
unsafe extern "C" fn actor<E: FnMut(Entry<'_>) -> ControlFlow<(), i32>>(
    ctx: *mut bindings::dir_context,
    name: *const kernel::ffi::c_char,
    len: kernel::ffi::c_int,
    offset: i64,
    ino: u64,
    kind: kernel::ffi::c_uint,
) -> bool {
    let Ok(len) = usize::try_from(len) else {
        return false;
    };
    let this = ctx.cast::<Closure<'_, E>>();
    // SAFETY: by the contract. The field is `iterate`'s for us alone: what C uses is the context.
    let emit = unsafe { &mut *(*this).emit };
    // SAFETY: by the contract; the filesystem keeps the name for the call.
    let name = unsafe { core::slice::from_raw_parts(name.cast(), len) };
    match emit(Entry {
        name,
        offset,
        ino,
        kind,
    }) {
        ControlFlow::Continue(count) => {
            // SAFETY: by the contract; C does not use the context during the call.
            unsafe { (*ctx).count = count };
            true
        }
        ControlFlow::Break(()) => false,
    }
}

fn iterate<E: FnMut(Entry<'_>) -> ControlFlow<(), i32>>(
    file: &File,
    pos: i64,
    count: i32,
    emit: &mut E,
) -> (Result, i64) {
    let mut closure = Closure {
        ctx: bindings::dir_context {
            actor: Some(actor::<E>),
            pos,
            count,
            dt_flags_mask: 0,
        },
        emit,
    };
    let this = &raw mut closure;
    // INVARIANT: the context is the first field of the closure, which is used by the call, and in it, alone.
    let ctx = DirContext(this.cast(), PhantomData);
    let ret = to_result(calls::rovl_iterate_dir(file, ctx));
    (ret, closure.ctx.pos)
}

/// Reads the directory `file`, newly opened or sought to its start, to its end; passes each entry to
/// `each`.
///
/// # Errors
///
/// What the filesystem or `each` returns; `EINTR` and the like.
///
/// # Examples
///
/// ```ignore
/// let mut subdirectories = 0;
/// readdir::read_all(&*file::open_checked(path, false)?, |entry| {
///     subdirectories += usize::from(entry.kind == dt::DIR);
///     Ok(())
/// })?;
/// ```
pub(crate) fn read_all(file: &File, mut each: impl FnMut(Entry<'_>) -> Result) -> Result {
    let mut pos = 0;
    loop {
        let (mut seen, mut failed) = (0usize, Ok(()));
        let mut emit = |entry: Entry<'_>| {
            seen += 1;
            match each(entry) {
                Ok(()) => ControlFlow::Continue(i32::MAX),
                Err(e) => {
                    failed = Err(e);
                    ControlFlow::Break(())
                }
            }
        };
        let (ret, next) = iterate(file, pos, i32::MAX, &mut emit);
        pos = next;
        ret?;
        failed?;
        if seen == 0 {
            return Ok(());
        }
    }
}

#[kernel::macros::kunit_tests(rovl_readdir)]
mod tests {
    use super::*;
    use crate::vfs::{file, mount::Path};

    fn is_in_use(dir: &File) -> bool {
        // SAFETY: charter 1: the file is referenced, and its mutex initialised.
        unsafe { bindings::mutex_is_locked(&raw mut (*dir.as_ptr()).__bindgen_anon_2.f_pos_lock) }
    }

    /// What a filesystem keeps with an open directory is used by one listing at a time.
    #[test]
    fn listed_one_at_a_time() -> Result {
        let root = Path::resolve(c"/")?;
        let dir = file::open_checked(root.as_ref(), false)?;
        let mut seen = false;
        read_all(&dir, |_| {
            seen = true;
            assert!(is_in_use(&dir));
            Ok(())
        })?;
        assert!(seen && !is_in_use(&dir));
        Ok(())
    }
}
