// SPDX-License-Identifier: GPL-2.0

//! Open regular files: every request is passed on to a file of the layer that has the data now.

use crate::overlay::{
    attr,
    change::copy_up,
    layer::opened::{self, Opened},
    object::lowerdata,
    union::{Inode, OpenFile, Overlay},
};
use crate::vfs::{
    cred,
    file::{self, whence, LayerFile, Range, Transfer},
    file_ops::{
        Flush, Generation, Io, IoHooks, Mapping, Moved, OpenTmpfile, Opening, RegularOperations,
        Splice,
    },
    inode::InodeGuard,
    mount::{Path, PathRef, WritePath},
    slab::SlabBox,
    Dentry, Mode, OwnSuper,
};
use kernel::{cred::Credential, fs::File, prelude::*, sync::aref::ARef};

/// An open regular file.
pub(crate) struct RegularFile {
    files: Opened,
}

impl RegularFile {
    #[inline]
    fn new(sb: &OwnSuper<Overlay>, real: ARef<LayerFile>) -> Result<SlabBox<Self>> {
        let init = init!(Self {
            files: Opened::new(real),
        });
        sb.files().make(init)
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
        match open.inode().content_in_upper() {
            Some(upper) => self.in_upper(open, upper),
            None => Ok(self.files.first()),
        }
    }

    /// The file of `upper`, the dentry in upper.
    #[inline]
    fn in_upper(&self, open: OpenFile<'_>, upper: &Dentry) -> Result<&File> {
        self.files.follow(upper.positive()?, || {
            let path = open.inode().expect_upper()?;
            opened::for_user(open, path, open.flags(), file::open_late)
        })
    }

    /// What is open of the data; it may be elsewhere by now.
    #[inline]
    fn opened(&self, inode: &Inode) -> &File {
        match inode.content_in_upper() {
            Some(_) => self.files.last(),
            None => self.files.first(),
        }
    }

    /// The first write to a file whose data is not in upper copies it up; from what is open, if that is where its data is.
    #[inline]
    fn copy_up_for_write(&self, open: OpenFile<'_>) -> Result {
        if copy_up::has_data(open.dentry()) {
            return Ok(());
        }
        copy_up::copy_up_data_of(open.dentry(), self.files.first())
    }

    /// Runs `f` on the real file as the mounter, with the inode copied up if it is to be `written`, locked and up to date
    /// before and after: for requests that change the file.
    fn modify<R>(
        &self,
        open: OpenFile<'_>,
        written: bool,
        f: impl FnOnce(&InodeGuard<'_>) -> Result<R>,
    ) -> Result<R> {
        if written {
            self.copy_up_for_write(open)?;
        }
        let inode = open.inode();
        let lock = inode.lock();
        inode.refresh();
        let result = f(&lock);
        inode.refresh();
        result
    }

    /// Gives the file of the layer the flags that `fcntl(2)` gave the descriptor.
    #[cold]
    fn take_flags(&self, open: OpenFile<'_>) -> Result<&File> {
        // Whether and how direct I/O is possible is a question to the file that will be written.
        if open.flags() & file::flags::O_DIRECT != 0 && file::is_writable(open.file()) {
            self.copy_up_for_write(open)?;
        }
        let real = self.current(open)?;
        file::take_flags(open.file(), real)?;
        Ok(real)
    }

    /// Whether a request needs no copy-up, and no file to be opened or changed first.
    fn is_ready(&self, open: OpenFile<'_>, write: bool) -> bool {
        let upper = open.inode().content_in_upper();
        let real = self.opened(open.inode());
        upper
            .and_then(Dentry::inode)
            .is_none_or(|upper| file::inode_of(real) == upper)
            && file::same_flags(open.file(), real)
            && (!write || copy_up::has_data(open.dentry()))
    }

    /// Passes a request on to the real file; for a write with the inode locked, by the guard that `pass` gets, and its mode
    /// up to date, as the layer's filesystem strips set-id bits by it.
    ///
    /// # Errors
    ///
    /// `EAGAIN` where it would have to `wait` and must not.
    #[inline(always)]
    fn pass<R>(
        &self,
        open: OpenFile<'_>,
        write: bool,
        wait: bool,
        pass: impl FnOnce(&File, &Credential, Option<&InodeGuard<'_>>) -> Result<R>,
    ) -> Result<R> {
        let inode = open.inode();
        let creds = inode.fs().creds();
        if !wait && !self.is_ready(open, write) {
            return Err(EAGAIN);
        }
        if !write {
            return pass(self.real(open)?, creds, None);
        }
        self.copy_up_for_write(open)?;
        let lock = if wait {
            inode.lock()
        } else {
            inode.try_lock().ok_or(EAGAIN)?
        };
        inode.refresh_mode();
        pass(self.real(open)?, creds, Some(&lock))
    }

    /// Opens an unnamed file in the upper directory `parent`, with the current credentials; returns
    /// its dentry too.
    pub(crate) fn open_unnamed(
        new: &mut OpenTmpfile<'_, Overlay>,
        parent: WritePath<'_>,
        mode: Mode,
    ) -> Result<(SlabBox<Self>, Path)> {
        let mut flags = (new.flags() | file::flags::O_NOATIME) & !file::flags::O_APPEND;
        if new.dentry().fs().is_volatile() {
            flags &= !file::flags::SYNC;
        }
        let real = new.open_backing(parent, flags, mode)?;
        new.set_direct_io(file::can_direct_io(&real));
        let path = PathRef::of_file(&real).get();
        Ok((Self::new(new.dentry().own_sb(), real)?, path))
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

impl RegularOperations<Overlay> for RegularFile {
    type Data = Self;

    fn open(mut open: Opening<'_, Overlay>) -> Result<SlabBox<Self>> {
        copy_up::copy_up_for_open(*open)?;
        open.drop_open_flags();
        let inode = open.inode();
        let content = lowerdata::content(open.dentry())?;
        let flags = if content.is_upper() {
            open.flags()
        } else {
            file::for_reading(open.flags())
        };
        let real = opened::for_user(*open, content.path, flags, file::open_backing)?;
        let is_final = content.is_upper() || !file::is_writable(open.file());
        open.set_direct_io(match is_final {
            true => file::can_direct_io(&real),
            false => inode.fs().upper_has_direct_io(),
        });
        open.serve_nowait_as(&real);
        Self::new(open.dentry().own_sb(), real)
    }

    // Twice in line: that it reads, or writes, is known where it is called.
    #[inline(always)]
    fn io<'a>(
        open: OpenFile<'_>,
        data: &Self,
        io: Io<'a, Overlay>,
        write: bool,
    ) -> Result<Moved<'a>> {
        if io.is_empty() {
            return Ok(io.leave());
        }
        let wait = !io.is_nowait();
        if write && open.inode().fs().is_volatile() {
            io.forget_sync();
        }
        data.pass(open, write, wait, |real, creds, lock| {
            io.pass::<Hooks>(real, creds, lock)
        })
    }

    fn splice<'a>(
        open: OpenFile<'_>,
        data: &Self,
        io: Splice<'a, Overlay>,
        write: bool,
    ) -> Result<Moved<'a>> {
        data.pass(open, write, true, |real, creds, lock| {
            io.pass::<Hooks>(real, creds, lock)
        })
    }

    fn is_mappable(open: OpenFile<'_>, data: &Self, shared: bool) -> Result<bool> {
        let inode = open.inode();
        let upper = inode.content_in_upper();
        let upper = upper.and_then(Dentry::inode);
        let ready = match upper {
            Some(upper) => {
                file::inode_of(data.files.last()) == upper
                    && (!shared || copy_up::has_data(open.dentry()))
            }
            // A mapping is of one file for good: where somebody may write it is that of upper.
            None => !inode.is_open_for_write(),
        };
        // An exec maps what it has opened: it can't be made again.
        if ready || file::in_exec() {
            return Ok(true);
        }
        // Where it can't be copied up `make_mappable` leaves the error here.
        match data.files.own_error()?.take() {
            // What can't be copied up can't be written either, so what only reads needs no copy.
            Err(_) if upper.is_none() && !shared => Ok(true),
            left => left.map(|()| false),
        }
    }

    fn make_mappable(open: OpenFile<'_>, data: &Self, shared: bool) {
        let ready = || {
            if shared || open.inode().content_in_upper().is_none() {
                data.copy_up_for_write(open)?;
            }
            data.current(open)
        };
        // A task that is killed maps nothing any more.
        if let (Err(e), Ok(own)) = (ready(), data.files.own_error()) {
            if !file::fatal_signal_pending() {
                own.leave(e);
            }
        }
    }

    fn mmap(open: OpenFile<'_>, data: &Self, mapping: Mapping<'_, Overlay>) -> Result {
        let real = data.opened(open.inode());
        mapping.pass::<Hooks>(real, open.inode().fs().creds())
    }

    fn seek(open: OpenFile<'_>, data: &Self, offset: i64, how: i32) -> Result<i64> {
        if offset == 0 && how == whence::CUR {
            return Ok(open.pos());
        }
        if offset == 0 && how == whence::SET {
            open.set_pos(0)?;
            return Ok(0);
        }
        // The user's file has the position; the layer's filesystem knows holes and limits.
        let inode = open.inode();
        let real = data.real(open)?;
        let _lock = inode.lock_op();
        cred::scope(inode.fs().creds(), |_| open.seek_as(real, offset, how))
    }

    fn fsync(open: OpenFile<'_>, data: &Self, start: i64, end: i64, datasync: bool) -> Result {
        if let Some(result) = open.inode().fs().instead_of_sync() {
            return result;
        }
        // Lower layers have nothing to be written back, and may refuse.
        let Some(upper) = open.inode().upper() else {
            return Ok(());
        };
        // Without its data upper has attributes alone.
        let is_bare = open.inode().content_in_upper().is_none();
        if is_bare && datasync {
            return Ok(());
        }
        let real = match is_bare {
            true => data.in_upper(open, upper)?,
            false => data.real(open)?,
        };
        let fs = open.inode().fs();
        cred::scope(fs.creds(), |_| fs.written.fsync(real, start, end, datasync))
    }

    fn fallocate(open: OpenFile<'_>, data: &Self, mode: i32, off: i64, len: i64) -> Result {
        let inode = open.inode();
        data.modify(open, true, |lock| {
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
        cred::scope(open.inode().fs().creds(), |_| flush.pass(data.files.last()))
    }

    fn generation(open: OpenFile<'_>, asked: Generation<'_>) -> Result {
        attr::generation(open.inode(), asked)
    }

    fn transfer(
        how: Transfer,
        (from, from_data): (OpenFile<'_>, &Self),
        (to, to_data): (OpenFile<'_>, &Self),
        range: Range,
    ) -> Result<i64> {
        let (source, target) = (from.inode(), to.inode());
        // Copying up to share extents would do the opposite. No other request changes what is open for reading alone: where upper
        // has that without its data, the file that has it answers.
        let writable = file::is_writable(to.file());
        if how == Transfer::Dedupe
            && (source.upper().is_none() || (target.upper().is_none() && !writable))
        {
            return Err(EPERM);
        }
        to_data.modify(to, writable, |lock| {
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
