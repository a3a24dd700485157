// SPDX-License-Identifier: GPL-2.0

//! What `syncfs(2)` and unmounting make durable: what was changed through the mount, and not what others have written to
//! upper's filesystem.

use crate::vfs::{file, fs::FileSystem, Mount, OwnSuper};
use core::ops::Deref;
use kernel::{
    fs::File,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Mutex,
    },
};

/// Whether anything was changed since it was last made durable.
#[pin_data]
pub(crate) struct Written {
    /// Upper's filesystem can write back some files and leave others. Where it cannot, `changed` is never cleared.
    may_be_apart: bool,
    /// Set when a change is complete, or anything can be written without a further call; cleared before what was changed is
    /// looked for.
    changed: Atomic<bool>,
    /// It can, and has not failed. Once it has, an error that one caller
    /// was told of may have been that of others' changes, too: they hear of it from what is left in its caches.
    is_apart: Atomic<bool>,
    /// Whoever finds nothing to do has waited for whom has found it.
    #[pin]
    syncing: Mutex<()>,
}

impl Written {
    /// Nothing yet. `is_apart` where upper's filesystem [commits apart](crate::vfs::SuperBlock::commits_apart).
    pub(crate) fn new(is_apart: bool) -> impl PinInit<Self> {
        pin_init!(Self {
            may_be_apart: is_apart,
            changed: Atomic::new(false),
            is_apart: Atomic::new(is_apart),
            syncing <- new_mutex!((), "rovl_syncing"),
        })
    }

    /// Notes that something was changed, or can be from now on by whom has a file open.
    #[inline]
    pub(crate) fn note(&self) {
        // Mostly it is so: then nobody's cache loses the line.
        if !self.changed.load(Relaxed) {
            self.changed.store(true, Relaxed);
        }
    }

    /// Makes durable in `upper` what was changed through `sb`.
    ///
    /// # Errors
    ///
    /// Those of upper's filesystem.
    #[inline]
    pub(crate) fn sync<F: FileSystem>(&self, sb: &OwnSuper<F>, upper: &Mount) -> Result {
        match (self.may_be_apart, self.changed.load(Relaxed)) {
            (true, _) => self.sync_apart(sb, upper),
            (false, true) => upper.sync(),
            (false, false) => Ok(()),
        }
    }

    #[inline(never)]
    fn sync_apart<F: FileSystem>(&self, sb: &OwnSuper<F>, upper: &Mount) -> Result {
        let _one = self.syncing.lock();
        if !self.changed.load(Relaxed) {
            return Ok(());
        }
        // Times of files that nobody looks at may be in memory alone.
        if !self.is_apart.load(Relaxed) || upper.sb().is_lazytime() {
            return upper.sync();
        }
        self.changed.xchg(false, Full);
        let more = sb.sync_layer().inspect_err(|_| self.fail());
        if !matches!(more, Ok(false)) {
            self.note();
        }
        more.map(drop)
    }

    fn fail(&self) {
        self.is_apart.store(false, Relaxed);
    }

    /// Writes bytes `start` to `end` of `file`, which is in upper, back; with `datasync` without attributes that say nothing of
    /// its data.
    ///
    /// # Errors
    ///
    /// Those of upper's filesystem.
    pub(crate) fn fsync(&self, file: &File, start: i64, end: i64, datasync: bool) -> Result {
        file::fsync(file, start, end, datasync).inspect_err(|_| self.fail())
    }
}

/// Access to upper for a change, which is noted when it is over.
pub(crate) struct Changing<'a, Access> {
    access: Access,
    written: &'a Written,
}

impl<'a, Access> Changing<'a, Access> {
    /// `access`, as one for changes.
    pub(crate) fn new(access: Access, written: &'a Written) -> Self {
        Self { access, written }
    }
}

impl<Access> Deref for Changing<'_, Access> {
    type Target = Access;
    #[inline]
    fn deref(&self) -> &Access {
        &self.access
    }
}

impl<Access> Drop for Changing<'_, Access> {
    #[inline]
    fn drop(&mut self) {
        self.written.note();
    }
}
