// SPDX-License-Identifier: GPL-2.0

//! Listing directories: reading those of layers, filling the caller's buffer.
//!
//! C header: `struct dir_context` in `include/linux/fs.h`.

use crate::bindings;
use core::ops::ControlFlow;
use kernel::{error::to_result, fs::File, prelude::*};

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

/// A random key for hashes of names.
#[derive(Clone, Copy)]
pub(crate) struct NameSalt(usize);

impl NameSalt {
    /// A new key.
    pub(crate) fn random() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { bindings::get_random_u64() } as usize)
    }

    /// The keyed hash of `name`: the dcache's `full_name_hash()`.
    pub(crate) fn hash(self, name: &[u8]) -> usize {
        // SAFETY: the name has the given length; the salt is hashed as a number, never followed.
        unsafe {
            bindings::full_name_hash(
                self.0 as *const kernel::ffi::c_void,
                name.as_ptr().cast(),
                name.len() as u32,
            ) as usize
        }
    }
}

/// The caller's listing: where it is, and room for entries.
pub(crate) struct DirContext<'a>(&'a mut bindings::dir_context);

impl DirContext<'_> {
    /// # Safety
    ///
    /// `ctx` is valid and exclusive during `'a`.
    pub(super) unsafe fn from_raw<'a>(ctx: *mut bindings::dir_context) -> DirContext<'a> {
        // SAFETY: by the contract.
        DirContext(unsafe { &mut *ctx })
    }

    /// The position.
    pub(crate) fn pos(&self) -> i64 {
        self.0.pos
    }

    /// Moves the position.
    pub(crate) fn set_pos(&mut self, pos: i64) {
        self.0.pos = pos;
    }

    /// Emits an entry at the current position; `false` where there is no room for it.
    pub(crate) fn emit(&mut self, name: &[u8], ino: u64, kind: u32) -> bool {
        let pos = self.0.pos;
        self.emit_at(Entry {
            name,
            offset: pos,
            ino,
            kind,
        })
    }

    #[inline]
    fn emit_at(&mut self, entry: Entry<'_>) -> bool {
        let Some(actor) = self.0.actor else {
            return false;
        };
        // SAFETY: the actor belongs to the context.
        unsafe {
            actor(
                self.0,
                entry.name.as_ptr().cast(),
                entry.name.len() as i32,
                entry.offset,
                entry.ino,
                entry.kind,
            )
        }
    }

    /// Lets the filesystem of `real` fill the caller's buffer itself.
    pub(crate) fn pass_through(&mut self, real: &File) -> Result {
        // SAFETY: charter 1; the context is exclusive.
        to_result(unsafe { bindings::iterate_dir(real.as_ptr(), self.0) })
    }

    /// As [`pass_through`](Self::pass_through), with the inode number of each entry replaced by what
    /// `ino` says.
    pub(crate) fn pass_mapped(
        &mut self,
        real: &File,
        mut ino: impl FnMut(&Entry<'_>) -> u64,
    ) -> Result {
        let (pos, count) = (self.0.pos, self.0.count);
        let mut emit = |mut entry: Entry<'_>| {
            entry.ino = ino(&entry);
            if self.emit_at(entry) {
                ControlFlow::Continue(self.0.count)
            } else {
                ControlFlow::Break(())
            }
        };
        let (ret, pos) = iterate(real, pos, count, &mut emit);
        self.0.pos = pos;
        ret
    }
}

#[repr(C)]
struct Closure<'a, E> {
    ctx: bindings::dir_context,
    emit: &'a mut E,
}

/// # Safety
///
/// `ctx` is in a `Closure` of type `E` that nobody else uses; `name` has `len` bytes.
unsafe extern "C" fn actor<E: FnMut(Entry<'_>) -> ControlFlow<(), i32>>(
    ctx: *mut bindings::dir_context,
    name: *const kernel::ffi::c_char,
    len: kernel::ffi::c_int,
    offset: i64,
    ino: u64,
    kind: kernel::ffi::c_uint,
) -> bool {
    // SAFETY: `iterate` passes the context inside a `Closure` that is not used meanwhile, and the
    // filesystem a name of `len` bytes.
    let (this, name) = unsafe {
        (
            &mut *ctx.cast::<Closure<'_, E>>(),
            core::slice::from_raw_parts(name.cast(), len as usize),
        )
    };
    match (this.emit)(Entry {
        name,
        offset,
        ino,
        kind,
    }) {
        ControlFlow::Continue(count) => {
            this.ctx.count = count;
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
    // SAFETY: charter 1; the closure outlives the call.
    let ret = to_result(unsafe { bindings::iterate_dir(file.as_ptr(), (&raw mut closure).cast()) });
    (ret, closure.ctx.pos)
}

/// Reads the directory `file`, newly opened or sought to its start, to its end; passes each entry to
/// `each`.
///
/// # Errors
///
/// What the filesystem or `each` returns; `EINTR` and the like.
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
