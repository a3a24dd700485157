// SPDX-License-Identifier: GPL-2.0

//! Open regular files: every request is passed on to a file of the layer that has the data now.

use crate::overlay::{
    change::copy_up,
    union::{OpenFile, Overlay},
};
use crate::vfs::{
    self, cred,
    file::{self, whence, LayerFile, Range, Transfer},
    file_ops::{Flush, Io, IoHooks, Mapping, Opening, RegularOperations, Splice},
    inode::InodeGuard,
    mount::{Path, PathRef},
    sync::{OnceRef, OwnError},
    Dentry, Mode,
};
use kernel::{
    cred::Credential,
    fs::{File, LocalFile},
    prelude::*,
    sync::aref::ARef,
};

/// An open regular file.
pub(crate) struct RegularFile {
    /// Opened in the layer that had the data then.
    real: ARef<LayerFile>,
    /// Opened in upper since, where the file was copied up.
    upper: OnceRef<LayerFile>,
    /// Why it could not be copied up for a mapping, for the task that tries the mapping again.
    unmappable: OwnError,
}

/// Opens the real file with `flags` by `open_backing`, checked with the mounter's credentials.
fn open_real(
    open: OpenFile<'_>,
    path: PathRef<'_>,
    flags: u32,
    open_backing: fn(&LocalFile, PathRef<'_>, u32) -> Result<ARef<LayerFile>>,
) -> Result<ARef<LayerFile>> {
    let mut flags = flags | file::flags::O_NOATIME;
    let inode = path.dentry().positive()?;
    cred::scope(open.inode().fs().creds(), |_| {
        inode.permission(path.idmap(), file::open_mask(flags))?;
        if !inode.owner_or_capable(path.idmap()) {
            flags &= !file::flags::O_NOATIME;
        }
        open_backing(open.file(), path, flags)
    })
}

impl RegularFile {
    fn new(real: ARef<LayerFile>) -> Result<KBox<Self>> {
        let file = Self {
            real,
            upper: OnceRef::new(),
            unmappable: OwnError::new(),
        };
        Ok(KBox::new(file, GFP_KERNEL)?)
    }

    /// The file of the layer that has the data now. A descriptor that was opened before a copy-up
    /// follows it.
    #[inline]
    fn real(&self, open: OpenFile<'_>) -> Result<&File> {
        let real = self.current(open)?;
        if file::same_flags(open.file(), real) {
            return Ok(real);
        }
        self.take_flags(open)
    }

    /// As [`real`](Self::real), with the flags that it has.
    #[inline]
    fn current(&self, open: OpenFile<'_>) -> Result<&File> {
        match open.inode().upper().and_then(Dentry::inode) {
            Some(upper) if file::inode_of(&self.real) != upper => self.follow(open, upper),
            _ => Ok(&self.real),
        }
    }

    /// Gives the file of the layer the flags that `fcntl(2)` gave the descriptor.
    #[cold]
    fn take_flags(&self, open: OpenFile<'_>) -> Result<&File> {
        // Whether and how direct I/O is possible is a question to the file that will be written.
        if open.flags() & file::flags::O_DIRECT != 0
            && file::is_writable(open.file())
            && open.inode().upper().is_none()
        {
            copy_up::copy_up(open.dentry())?;
        }
        let real = self.current(open)?;
        file::take_flags(open.file(), real)?;
        Ok(real)
    }

    /// The file of upper, opened anew unless it is open already.
    #[cold]
    fn follow(&self, open: OpenFile<'_>, upper: &vfs::Inode) -> Result<&File> {
        if self.upper.get().is_none() {
            let path = open.inode().upper_path().ok_or(EIO)?;
            // Where another task was quicker its file is used, and this one closed.
            let file = open_real(open, path, open.flags(), file::open_late)?;
            drop(self.upper.set(file));
        }
        let file = self.upper.get().ok_or(EIO)?;
        if file::inode_of(file) != upper {
            // Somebody else changed upper.
            return Err(EIO);
        }
        Ok(file)
    }

    /// What is open now. Nothing is opened with the address space's lock held: a descriptor that has not
    /// followed a copy-up yet maps what it had opened.
    fn opened(&self) -> &File {
        self.upper.get().unwrap_or(&self.real)
    }

    /// Whether a request needs no copy-up, and no file to be opened or changed first.
    fn is_ready(&self, open: OpenFile<'_>, write: bool) -> bool {
        let (real, upper) = (self.opened(), open.inode().upper());
        upper
            .and_then(Dentry::inode)
            .is_none_or(|upper| file::inode_of(real) == upper)
            && file::same_flags(open.file(), real)
            && (!write || copy_up::is_done(open.dentry()))
    }

    /// Passes a request on to the real file; for a write with the inode locked and its mode up to date,
    /// as the layer's filesystem strips set-id bits by it.
    ///
    /// # Errors
    ///
    /// `EAGAIN` where it would have to `wait` and must not.
    #[inline]
    fn pass(
        &self,
        open: OpenFile<'_>,
        write: bool,
        wait: bool,
        pass: impl FnOnce(&File, &Credential) -> Result<usize>,
    ) -> Result<usize> {
        let inode = open.inode();
        let creds = inode.fs().creds();
        if !wait && !self.is_ready(open, write) {
            return Err(EAGAIN);
        }
        if !write {
            return pass(self.real(open)?, creds);
        }
        copy_up_for_write(open)?;
        let _lock = if wait {
            inode.lock()
        } else {
            inode.try_lock().ok_or(EAGAIN)?
        };
        inode.refresh_mode();
        pass(self.real(open)?, creds)
    }

    /// Opens an unnamed file in the upper directory `parent`, with the current credentials; returns
    /// its dentry too.
    pub(crate) fn open_unnamed(
        open: OpenFile<'_>,
        parent: PathRef<'_>,
        mode: Mode,
    ) -> Result<(KBox<Self>, Path)> {
        let flags = open.flags() | file::flags::O_NOATIME;
        let real = file::open_backing_tmpfile(open.file(), parent, flags, mode)?;
        let path = PathRef::of_file(&real).get();
        Ok((Self::new(real)?, path))
    }
}

/// Keeps the overlay inode's times and size up to date.
struct Hooks;

impl IoHooks<Overlay> for Hooks {
    fn accessed(open: OpenFile<'_>) {
        if open.flags() & file::flags::O_NOATIME != 0 {
            return;
        }
        let inode = open.inode();
        if let Some(upper) = inode.upper().and_then(Dentry::inode) {
            inode.copy_mctime(upper);
            open.path().touch_atime();
        }
    }

    fn wrote(open: OpenFile<'_>) {
        open.inode().refresh();
    }
}

/// The first write to a file that is not in upper copies it up.
#[inline]
fn copy_up_for_write(open: OpenFile<'_>) -> Result {
    if copy_up::is_done(open.dentry()) {
        return Ok(());
    }
    copy_up::copy_up(open.dentry())
}

/// Runs `f` on the real file as the mounter, with the inode copied up, locked and up to date before and
/// after: for requests that change the file.
fn modify<R>(open: OpenFile<'_>, f: impl FnOnce(&InodeGuard<'_>) -> Result<R>) -> Result<R> {
    copy_up_for_write(open)?;
    let inode = open.inode();
    let lock = inode.lock();
    inode.refresh();
    let result = f(&lock);
    inode.refresh();
    result
}

impl RegularOperations<Overlay> for RegularFile {
    type Data = Self;

    fn open(mut open: Opening<'_, Overlay>) -> Result<KBox<Self>> {
        copy_up::copy_up_for_open(*open)?;
        open.drop_open_flags();
        let inode = open.inode();
        let real = inode.content()?;
        let flags = if real.is_upper() {
            open.flags()
        } else {
            file::for_reading(open.flags())
        };
        let real = open_real(*open, real.path, flags, file::open_backing)?;
        open.serve_nowait_as(&real);
        Self::new(real)
    }

    fn io(open: OpenFile<'_>, data: &Self, io: Io<'_, Overlay>, write: bool) -> Result<usize> {
        if io.is_empty() {
            return Ok(0);
        }
        let wait = !io.is_nowait();
        data.pass(open, write, wait, |real, creds| {
            io.pass::<Hooks>(real, creds)
        })
    }

    fn splice(
        open: OpenFile<'_>,
        data: &Self,
        io: Splice<'_, Overlay>,
        write: bool,
    ) -> Result<usize> {
        data.pass(open, write, true, |real, creds| {
            io.pass::<Hooks>(real, creds)
        })
    }

    fn is_mappable(open: OpenFile<'_>, data: &Self, shared: bool) -> Result<bool> {
        // Others map what they had opened: an exec, which can't be restarted, maps through such a one.
        let ready = !file::is_writable(open.file())
            || match open.inode().upper().and_then(Dentry::inode) {
                Some(upper) => {
                    file::inode_of(data.opened()) == upper
                        && (!shared || copy_up::is_done(open.dentry()))
                }
                None => !shared,
            };
        if ready {
            return Ok(true);
        }
        data.unmappable.take().map(|()| false)
    }

    fn make_mappable(open: OpenFile<'_>, data: &Self, shared: bool) {
        let ready = || {
            if shared {
                copy_up_for_write(open)?;
            }
            data.real(open)
        };
        // A task that is killed maps nothing any more.
        if let Err(e) = ready() {
            if !file::fatal_signal_pending() {
                data.unmappable.leave(e);
            }
        }
    }

    fn mmap(open: OpenFile<'_>, data: &Self, mapping: Mapping<'_, Overlay>) -> Result {
        let real = data.opened();
        // No mapping gets here without `is_mappable`, unless a driver makes it.
        if mapping.is_shared_writable() && !file::is_writable(real) {
            return Err(ENODEV);
        }
        mapping.pass::<Hooks>(real, open.inode().fs().creds())
    }

    fn seek(open: OpenFile<'_>, data: &Self, offset: i64, how: i32) -> Result<i64> {
        let user = open.file();
        if offset == 0 && how == whence::CUR {
            return Ok(file::pos(user));
        }
        if offset == 0 && how == whence::SET {
            file::set_pos(user, 0);
            return Ok(0);
        }
        // The user's file has the position; the layer's filesystem knows holes and limits.
        let inode = open.inode();
        let real = data.real(open)?;
        let _lock = inode.lock_op();
        file::set_pos(real, file::pos(user));
        let result = cred::scope(inode.fs().creds(), |_| file::seek(real, offset, how));
        file::set_pos(user, file::pos(real));
        result
    }

    fn fsync(open: OpenFile<'_>, data: &Self, start: i64, end: i64, datasync: bool) -> Result {
        // Lower layers have nothing to be written back, and may refuse.
        if open.inode().upper().is_none() {
            return Ok(());
        }
        let real = data.real(open)?;
        cred::scope(open.inode().fs().creds(), |_| {
            file::fsync(real, start, end, datasync)
        })
    }

    fn fallocate(open: OpenFile<'_>, data: &Self, mode: i32, off: i64, len: i64) -> Result {
        let inode = open.inode();
        modify(open, |lock| {
            file::remove_privs(open.file(), lock)?;
            let real = data.real(open)?;
            cred::scope(inode.fs().creds(), |_| {
                file::fallocate(real, mode, off, len)
            })
        })
    }

    fn fadvise(open: OpenFile<'_>, data: &Self, off: i64, len: i64, advice: i32) -> Result {
        let real = data.real(open)?;
        cred::scope(open.inode().fs().creds(), |_| {
            file::fadvise(real, off, len, advice)
        })
    }

    fn flush(open: OpenFile<'_>, data: &Self, flush: Flush<'_>) -> Result {
        cred::scope(open.inode().fs().creds(), |_| flush.pass(data.opened()))
    }

    fn transfer(
        how: Transfer,
        (from, from_data): (OpenFile<'_>, &Self),
        (to, to_data): (OpenFile<'_>, &Self),
        range: Range,
    ) -> Result<i64> {
        let (source, target) = (from.inode(), to.inode());
        // Copying up to share extents would do the opposite.
        let writable = file::is_writable(to.file());
        if how == Transfer::Dedupe
            && (source.upper().is_none() || (target.upper().is_none() && !writable))
        {
            return Err(EPERM);
        }
        modify(to, |lock| {
            if how != Transfer::Dedupe {
                file::remove_privs(to.file(), lock)?;
            }
            let real_to = to_data.real(to)?;
            let real_from = from_data.real(from)?;
            // The copy below checks with the credentials of the target's mounter alone.
            if !core::ptr::eq(source.sb(), target.sb()) {
                cred::scope(source.fs().creds(), |_| {
                    file::verify_area(real_from, false, range.from, range.len)
                })?;
            }
            cred::scope(target.fs().creds(), |_| {
                file::transfer(how, real_from, real_to, range)
            })
        })
    }
}
