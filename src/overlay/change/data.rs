// SPDX-License-Identifier: GPL-2.0

//! The data of a copy: how it gets there, and what else of a file that is there has to survive it.

use super::metadata;
use crate::{
    overlay::{layer::marks, union::Overlay},
    vfs::{
        attr::{Iattr, Kept},
        file,
        mount::{PathRef, WritePath, Writing},
    },
};
use kernel::{fs::File, prelude::*};

/// Bytes copied between two looks for a fatal signal.
const CHUNK: i64 = 1 << 20;

/// The longest file whose holes are not looked for where nothing says that it has any.
const SMALL: i64 = 16 << 10;

/// How data got into a copy.
pub(super) enum Copying {
    /// It is the other file's.
    Shared,
    /// It was written, and is on its way to the disk.
    Written,
}

/// Copies `len` bytes, of which `occupied` are known to be no holes: by sharing of extents, where the filesystem can.
pub(super) fn copy(from: &File, to: &File, len: i64, occupied: i64) -> Result<Copying> {
    if file::clone_range(from, to, len) == Ok(len) {
        return Ok(Copying::Shared);
    }
    copy_bytes(from, to, len, len <= SMALL && occupied >= len)?;
    Ok(Copying::Written)
}

/// Copies `len` bytes; holes stay some, unless the file is known to be `dense`.
fn copy_bytes(from: &File, to: &File, len: i64, dense: bool) -> Result {
    file::verify_area(from, false, 0, len)?;
    file::verify_area(to, true, 0, len)?;
    let mut seek = !dense && file::can_seek(from);
    let (mut pos, mut data) = (0, -1);
    while pos < len {
        if file::fatal_signal_pending() {
            return Err(EINTR);
        }
        if seek && data < pos {
            match file::seek_data(from, pos) {
                Ok(next) if next > pos => {
                    // The final size is set with the attributes.
                    (pos, data) = (next, next);
                    continue;
                }
                Ok(next) => data = next,
                Err(e) if file::is_no_data(e) => break,
                Err(_) => seek = false,
            }
        }
        let part = usize::try_from((len - pos).min(CHUNK))?;
        match file::copy(from, to, pos, part)? {
            // The lower file was truncated underneath: what is missing stays a hole.
            0 => break,
            copied => pos += i64::try_from(copied)?,
        }
    }
    Ok(())
}

/// A file of upper that is marked to have no data, and what writing that takes away. Nobody changes its attributes
/// while the operation lock is held.
pub(super) struct Bare<'a> {
    upper: PathRef<'a>,
    kept: Kept,
    capability: Option<KVVec<u8>>,
}

impl<'a> Bare<'a> {
    /// `upper`, as it is.
    pub(super) fn read(upper: PathRef<'a>) -> Result<Self> {
        Ok(Self {
            upper,
            kept: Kept::of(upper)?,
            capability: metadata::capability(upper)?,
        })
    }

    /// Its path.
    pub(super) fn path(&self) -> PathRef<'a> {
        self.upper
    }

    /// Gives it back what writing its data took away: mostly nothing, as the mounter may keep set-id bits, and times were left
    /// alone.
    pub(super) fn restore(&self, writing: Writing<'_>) -> Result {
        let upper = writing.path(self.upper.dentry())?;
        let (mode, times) = self.kept.lost(*upper)?;
        if let Some(mut mode) = mode {
            mode.apply(upper, &upper.positive()?.lock())?;
        }
        if let Some(times) = times {
            metadata::set_times(upper, times, &upper.positive()?.lock());
        }
        match &self.capability {
            Some(value) => metadata::set_capability(upper, value),
            None => Ok(()),
        }
    }

    /// Takes the mark away; `truncate` where the data is no more.
    pub(super) fn complete(&self, writing: Writing<'_>, fs: &Overlay, truncate: bool) -> Result {
        let upper = writing.path(self.upper.dentry())?;
        let size = upper.positive()?.size();
        if truncate {
            set_size(upper, 0)?;
        }
        marks::clear_metacopy(fs, upper).inspect_err(|_| {
            if truncate {
                let _ = set_size(upper, size);
            }
        })
    }
}

fn set_size(path: WritePath<'_>, size: i64) -> Result {
    let lock = path.positive()?.lock();
    Iattr::size(size).apply(path, &lock)
}
