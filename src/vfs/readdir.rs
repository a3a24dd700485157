// SPDX-License-Identifier: GPL-2.0

//! Listing directories: reading those of layers, filling the caller's buffer.
//!
//! C header: `struct dir_context` in `include/linux/fs.h`.

use super::{calls, file, mount::PathRef, to_result, Inode};
use crate::bindings;
use core::marker::PhantomData;
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

impl Entry<'_> {
    /// The arguments of an actor; `None` for a length that none has.
    ///
    /// # Safety
    ///
    /// `name` has `len` bytes during `'a`.
    #[inline]
    unsafe fn from_raw<'a>(
        name: *const kernel::ffi::c_char,
        len: kernel::ffi::c_int,
        offset: i64,
        ino: u64,
        kind: kernel::ffi::c_uint,
    ) -> Option<Entry<'a>> {
        let len = usize::try_from(len).ok()?;
        Some(Entry {
            // SAFETY: by the contract.
            name: unsafe { core::slice::from_raw_parts(name.cast(), len) },
            offset,
            ino,
            kind,
        })
    }
}

/// `d_type` values.
pub(crate) mod dt {
    use crate::bindings;
    pub(crate) const UNKNOWN: u32 = bindings::DT_UNKNOWN;
    pub(crate) const CHR: u32 = bindings::DT_CHR;
    pub(crate) const REG: u32 = bindings::DT_REG;
}

/// Whether the current task is a 32-bit program, for which filesystems make their positions shorter.
pub(crate) fn has_short_positions() -> bool {
    calls::rovl_in_compat_syscall()
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

    /// Moves the position to the next entry.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.set_pos(self.pos().wrapping_add(1));
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

    /// Emits an entry, at whose position it is then; `false` where there is no room for it.
    #[inline]
    pub(crate) fn emit_from(&mut self, entry: Entry<'_>) -> bool {
        self.set_pos(entry.offset);
        self.emit_at(entry)
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
    /// `ENOTDIR`; `EINVAL` at a position below zero, which no filesystem counts on; what the filesystem returns.
    pub(crate) fn pass_through(&mut self, real: &File) -> Result {
        // INVARIANT: as for `self`, which nobody uses during the call.
        DirContext(self.0, PhantomData).list(real)
    }

    /// Has the filesystem of `real` list, from a position that it can count on.
    fn list(self, real: &File) -> Result {
        if self.pos() < 0 {
            return Err(EINVAL);
        }
        to_result(calls::rovl_iterate_dir(real, self))
    }

    /// As [`pass_through`](Self::pass_through), with the inode number of each entry replaced by what `number` says, until
    /// that is `None`: this entry and those behind it have theirs.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn pass_mapped(
        &mut self,
        real: &File,
        number: impl FnMut(&Entry<'_>) -> Option<u64>,
    ) -> Result {
        self.pass_noted(real, number, |_| ())
    }

    /// As [`pass_mapped`](Self::pass_mapped); each entry that was mapped and that there was room for is passed to `taken`, as the
    /// filesystem has it.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn pass_noted<N, T>(&mut self, real: &File, mut number: N, mut taken: T) -> Result
    where
        N: FnMut(&Entry<'_>) -> Option<u64>,
        T: FnMut(&Entry<'_>),
    {
        let mut mapped = Mapped {
            forward: Forward {
                ctx: bindings::dir_context {
                    actor: Some(map::<N, T>),
                    pos: self.pos(),
                    count: self.count(),
                    dt_flags_mask: field!(self.dt_flags_mask),
                },
                to: self.0,
            },
            number: &mut number,
            taken: &mut taken,
        };
        let this = &raw mut mapped;
        // INVARIANT: the context is the first field of what is used by the call, and in it, alone; so is `self`.
        let ret = DirContext(this.cast(), PhantomData).list(real);
        self.set_pos(mapped.forward.ctx.pos);
        ret
    }
}

/// A context whose entries go to another one.
#[repr(C)]
struct Forward {
    ctx: bindings::dir_context,
    to: *mut bindings::dir_context,
}

/// The same, with what gives the entries their numbers, and what gets those that were taken.
#[repr(C)]
struct Mapped<'a, N, T> {
    forward: Forward,
    number: &'a mut N,
    taken: &'a mut T,
}

/// # Safety
///
/// `ctx` is in a `Forward` that is being iterated over, whose other context nobody else uses; `name` has `len` bytes.
unsafe extern "C" fn forward(
    ctx: *mut bindings::dir_context,
    name: *const kernel::ffi::c_char,
    len: kernel::ffi::c_int,
    offset: i64,
    ino: u64,
    kind: kernel::ffi::c_uint,
) -> bool {
    // SAFETY: by the contract.
    let to = unsafe { (*ctx.cast::<Forward>()).to };
    // SAFETY: by the contract.
    let Some(actor) = (unsafe { (*to).actor }) else {
        return false;
    };
    // SAFETY: the actor belongs to the context; the entry is handed on as it came.
    let more = unsafe { actor(to, name, len, offset, ino, kind) };
    // SAFETY: by the contract; C uses neither context now.
    unsafe { (*ctx).count = (*to).count };
    more
}

/// # Safety
///
/// As for [`forward`], in a `Mapped` of types `N` and `T`.
unsafe extern "C" fn map<N, T>(
    ctx: *mut bindings::dir_context,
    name: *const kernel::ffi::c_char,
    len: kernel::ffi::c_int,
    offset: i64,
    ino: u64,
    kind: kernel::ffi::c_uint,
) -> bool
where
    N: FnMut(&Entry<'_>) -> Option<u64>,
    T: FnMut(&Entry<'_>),
{
    // SAFETY: by the contract; the filesystem keeps the name for the call.
    let Some(entry) = (unsafe { Entry::from_raw(name, len, offset, ino, kind) }) else {
        return false;
    };
    let this = ctx.cast::<Mapped<'_, N, T>>();
    // SAFETY: by the contract. The fields are `pass_noted`'s for us alone: what C uses is the context.
    let (number, taken) = unsafe { (&mut *(*this).number, &mut *(*this).taken) };
    let shown = number(&entry);
    if shown.is_none() {
        // SAFETY: by the contract; C looks for the actor anew at each entry.
        unsafe { (*ctx).actor = Some(forward) };
    }
    // SAFETY: by the contract; a `Mapped` begins with a `Forward`.
    let more = unsafe { forward(ctx, name, len, offset, shown.unwrap_or(ino), kind) };
    if more {
        taken(&entry);
    }
    more
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
unsafe extern "C" fn actor<E: FnMut(Entry<'_>) -> bool>(
    ctx: *mut bindings::dir_context,
    name: *const kernel::ffi::c_char,
    len: kernel::ffi::c_int,
    offset: i64,
    ino: u64,
    kind: kernel::ffi::c_uint,
) -> bool {
    // SAFETY: by the contract; the filesystem keeps the name for the call.
    let Some(entry) = (unsafe { Entry::from_raw(name, len, offset, ino, kind) }) else {
        return false;
    };
    let this = ctx.cast::<Closure<'_, E>>();
    // SAFETY: by the contract. The field is `collect`'s for us alone: what C uses is the context.
    let emit = unsafe { &mut *(*this).emit };
    emit(entry)
}

/// Calls `list` with a context whose entries `emit` gets, until that returns `false`.
fn collect<E: FnMut(Entry<'_>) -> bool>(
    emit: &mut E,
    list: impl FnOnce(DirContext<'_>) -> Result,
) -> Result {
    let mut closure = Closure {
        ctx: bindings::dir_context {
            actor: Some(actor::<E>),
            pos: 0,
            count: i32::MAX,
            dt_flags_mask: 0,
        },
        emit,
    };
    let this = &raw mut closure;
    // INVARIANT: the context is the first field of the closure, which is used by the call, and in it, alone.
    list(DirContext(this.cast(), PhantomData))
}

/// Whether a listing of the directory `dir` of a layer that stopped at the position `pos` has come to its end. squashfs and isofs stop
/// where they cannot read on.
pub(crate) fn is_end(dir: &Inode, pos: i64) -> bool {
    calls::rovl_is_dir_end(dir, pos)
}

/// Reads the directory at `path`, as [`open_checked`](file::open_checked) opens it, to its end; passes each entry to `each`.
///
/// # Errors
///
/// As there; `ENOTDIR`; what the filesystem or `each` returns; `EIO` where it says nothing of what it cannot read; `EINTR` and
/// the like.
///
/// # Examples
///
/// ```ignore
/// let mut subdirectories = 0;
/// readdir::read_all(path, |entry| {
///     subdirectories += usize::from(entry.kind == dt::DIR);
///     Ok(())
/// })?;
/// ```
pub(crate) fn read_all(path: PathRef<'_>, mut each: impl FnMut(Entry<'_>) -> Result) -> Result {
    let dir = file::open_checked(path, false)?;
    loop {
        let (mut seen, mut failed) = (0usize, Ok(()));
        let mut emit = |entry: Entry<'_>| {
            seen += 1;
            failed = each(entry);
            failed.is_ok()
        };
        collect(&mut emit, |ctx| {
            // SAFETY: charter 1: the file is referenced. Nobody else has it, so that its position and what the filesystem keeps
            // with it are used in this call alone, which others have `f_pos_lock` for.
            to_result(unsafe { bindings::iterate_dir(dir.as_ptr(), ctx.0) })
        })?;
        failed?;
        if seen == 0 {
            return match is_end(path.positive()?, file::pos(&dir)) {
                true => Ok(()),
                false => Err(EIO),
            };
        }
    }
}

#[kernel::macros::kunit_tests(rovl_readdir)]
mod tests {
    use super::*;
    use crate::vfs::mount::Path;

    fn is_in_use(dir: &File) -> bool {
        // SAFETY: charter 1: the file is referenced, and its mutex initialised.
        unsafe { bindings::mutex_is_locked(&raw mut (*dir.as_ptr()).__bindgen_anon_2.f_pos_lock) }
    }

    /// What a filesystem keeps with an open directory is used by one listing at a time.
    #[test]
    fn listed_one_at_a_time() -> Result {
        let root = Path::resolve(c"/")?;
        let dir = file::open_checked(root.as_ref(), false)?;
        let mut seen = 0;
        let mut emit = |_: Entry<'_>| {
            seen += 1;
            assert!(is_in_use(&dir));
            true
        };
        collect(&mut emit, |mut ctx| {
            // The first entry as well as the second has its own number.
            ctx.pass_mapped(&dir, |_| None)
        })?;
        assert!(seen > 1);
        assert!(!is_in_use(&dir));
        Ok(())
    }
}
