// SPDX-License-Identifier: GPL-2.0

//! Room that a caller of ours lends for an answer in bytes.

use core::mem::MaybeUninit;
use kernel::prelude::*;

/// Room for an answer, lent uninitialised; or none, where the caller asks how long the answer is.
///
/// What was written is all that safe code sees of it, and the length of that is what the caller is told.
///
/// # Invariants
///
/// Where there is room, its first `len` bytes are initialised.
pub(crate) struct OutBuf<'a> {
    room: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl<'a> OutBuf<'a> {
    /// The `size` bytes at `at`; null or a size of 0 ask for the length.
    ///
    /// # Safety
    ///
    /// `at` is null, or `size` bytes there may be written during `'a`, where nobody else uses them.
    pub(super) unsafe fn from_raw(at: *mut kernel::ffi::c_void, size: usize) -> Self {
        let room = if at.is_null() {
            &mut []
        } else {
            // SAFETY: by the contract; bytes that may be uninitialised are all that is said of them.
            unsafe { core::slice::from_raw_parts_mut(at.cast(), size) }
        };
        // INVARIANT: nothing was written.
        Self { room, len: 0 }
    }

    /// The bytes of `room`.
    pub(super) fn new(room: &'a mut [MaybeUninit<u8>]) -> Self {
        // INVARIANT: nothing was written.
        Self { room, len: 0 }
    }

    /// The bytes of `buf`, to be written over.
    pub(super) fn over(buf: &'a mut [u8]) -> Self {
        // SAFETY: the borrow is passed on. No method makes a byte uninitialised.
        unsafe { Self::from_raw(buf.as_mut_ptr().cast(), buf.len()) }
    }

    /// Has `f` write the whole answer: it gets the room (null for none) with its size, and returns the answer's length.
    ///
    /// # Safety
    ///
    /// Where `f` gets room it writes as many bytes as it says.
    pub(super) unsafe fn fill(
        &mut self,
        f: impl FnOnce(*mut kernel::ffi::c_void, usize) -> Result<usize>,
    ) -> Result {
        let at = if self.room.is_empty() {
            core::ptr::null_mut()
        } else {
            self.room.as_mut_ptr().cast()
        };
        let len = f(at, self.room.len())?;
        if !self.room.is_empty() && len > self.room.len() {
            return Err(ERANGE);
        }
        // INVARIANT: by the contract.
        self.len = len;
        Ok(())
    }

    /// The length of the answer so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What was written of the answer; nothing where its length alone is asked for.
    pub(crate) fn written(&mut self) -> &mut [u8] {
        let bytes = self.room.get_mut(..self.len).unwrap_or_default();
        // SAFETY: by the type invariant they are initialised.
        unsafe { &mut *(core::ptr::from_mut(bytes) as *mut [u8]) }
    }

    /// Shortens the answer to `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}
