// SPDX-License-Identifier: GPL-2.0

//! Files of layers that are open on behalf of a user's file, or of the union itself.

use crate::overlay::union::{OpenFile, Overlay};
use crate::vfs::{
    self, cred,
    file::{self, LayerFile},
    inode::flags,
    mount::PathRef,
    sync::{Once, OwnError},
};
use kernel::{
    fs::{File, LocalFile},
    prelude::*,
    sync::aref::ARef,
};

/// The files behind an open file: one that was opened with it, and that of upper where it followed a copy-up.
pub(crate) struct Opened {
    first: ARef<LayerFile>,
    late: Once<KBox<Late>>,
}

/// What few open files have.
struct Late {
    upper: Once<ARef<LayerFile>>,
    error: OwnError,
}

impl Opened {
    /// What was opened with the user's file.
    pub(crate) fn new(first: ARef<LayerFile>) -> Self {
        Self {
            first,
            late: Once::new(),
        }
    }

    fn late(&self) -> Result<&Late> {
        if self.late.get().is_none() {
            let new = Late {
                upper: Once::new(),
                error: OwnError::new(),
            };
            drop(self.late.set(KBox::new(new, GFP_KERNEL)?));
        }
        self.late.get().ok_or(ENOMEM)
    }

    /// Where a task leaves itself an error of this file; its memory is there from now on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn own_error(&self) -> Result<&OwnError> {
        Ok(&self.late()?.error)
    }

    /// What was opened with the user's file, whatever was copied up since.
    #[inline]
    pub(crate) fn first(&self) -> &File {
        &self.first
    }

    /// What is open now; nothing is opened for that.
    #[inline]
    pub(crate) fn last(&self) -> &File {
        let late = self.late.get();
        late.and_then(|late| late.upper.get())
            .unwrap_or(&self.first)
    }

    /// The file of `upper`, which is the user's file's inode in upper; opened by `open` unless it is open already.
    ///
    /// # Errors
    ///
    /// Those of `open`; `ENOMEM`; `EIO` where somebody else changed upper.
    #[inline]
    pub(crate) fn follow(
        &self,
        upper: &vfs::Inode,
        open: impl FnOnce() -> Result<ARef<LayerFile>>,
    ) -> Result<&File> {
        if file::inode_of(&self.first) == upper {
            return Ok(&self.first);
        }
        self.follow_to(upper, open)
    }

    #[cold]
    fn follow_to(
        &self,
        upper: &vfs::Inode,
        open: impl FnOnce() -> Result<ARef<LayerFile>>,
    ) -> Result<&File> {
        opened_as(&self.late()?.upper, upper, open)
    }
}

/// The file in `place`; opened by `open` unless it is there already.
///
/// # Errors
///
/// Those of `open`.
pub(crate) fn opened(
    place: &Once<ARef<LayerFile>>,
    open: impl FnOnce() -> Result<ARef<LayerFile>>,
) -> Result<&File> {
    if place.get().is_none() {
        // Where another task was quicker its file is used, and this one closed.
        drop(place.set(open()?));
    }
    Ok(place.get().ok_or(EIO)?)
}

/// The same of `inode`.
///
/// # Errors
///
/// Those of `open`; `EIO` where it is the file of another.
pub(crate) fn opened_as<'a>(
    place: &'a Once<ARef<LayerFile>>,
    inode: &vfs::Inode,
    open: impl FnOnce() -> Result<ARef<LayerFile>>,
) -> Result<&'a File> {
    let file = opened(place, open)?;
    match file::inode_of(file) == inode {
        true => Ok(file),
        false => Err(EIO),
    }
}

/// Opens `path` for `open` with `flags` by `open_backing`, checked with the mounter's credentials.
#[inline]
pub(crate) fn for_user(
    open: OpenFile<'_>,
    path: PathRef<'_>,
    flags: u32,
    open_backing: impl FnOnce(&LocalFile, PathRef<'_>, u32) -> Result<ARef<LayerFile>>,
) -> Result<ARef<LayerFile>> {
    let inode = path.positive()?;
    let mask = file::open_mask(flags);
    let mut flags = flags | file::flags::O_NOATIME;
    // Each request says whether it appends. But an append-only file is opened by nobody who doesn't.
    if inode.flags() & flags::APPEND == 0 {
        flags &= !file::flags::O_APPEND;
    }
    let fs = open.inode().fs();
    if fs.is_volatile() {
        flags &= !file::flags::SYNC;
    }
    cred::scope(fs.creds(), |_| {
        inode.permission(path.idmap(), mask)?;
        if !inode.owner_or_capable(path.idmap()) {
            flags &= !file::flags::O_NOATIME;
        }
        open_backing(open.file(), path, flags)
    })
    .inspect(|real| {
        // What is written to it takes no further access.
        if file::is_writable(real) {
            fs.written.note();
        }
    })
}

/// Opens `path` for reading, checked with the mounter's credentials.
pub(crate) fn for_reading(fs: &Overlay, path: PathRef<'_>) -> Result<ARef<LayerFile>> {
    cred::scope(fs.creds(), |_| file::open_checked(path, false))
}
