// SPDX-License-Identifier: GPL-2.0

//! Open directories: merged ones list through a listing of their own, the others pass through to their layer.

use super::{
    listing::{Listing, UNKNOWN_INO},
    merge::{impure_listing, read_merged, resolve},
    transcript::{Recording, Transcript},
};
use crate::{
    overlay::{
        attr,
        layer::{numbering::Numbers, opened, UPPER},
        object::{inode::Dir, number},
        union::{Dentry, Inode, Listed, OpenFile, Overlay},
    },
    vfs::{
        self,
        backing::LowerPath,
        cred,
        file::{self, whence, LayerFile},
        file_ops::{DirectoryOperations, Generation, Opening},
        folding::Folding,
        readdir::{self, DirContext},
        slab::SlabBox,
        sync::Once,
    },
};
use kernel::{
    fs::File,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, SpinLock,
    },
};

/// An open directory.
#[pin_data]
pub(crate) struct OpenDir {
    /// The directory of the layer that passes it through.
    real: Once<ARef<LayerFile>>,
    /// That of upper, if it is another one.
    upper: Once<ARef<LayerFile>>,
    /// The layer's filesystem has what is left shown as it is, unless the directory becomes impure.
    as_it_is: Atomic<bool>,
    /// It has listed all from the start, as far as it came.
    is_whole: Atomic<bool>,
    #[pin]
    way: SpinLock<Way>,
}

/// How the directory is being listed.
enum Way {
    /// Names are merged (or whiteouts hidden), into a listing.
    Merged(Option<Arc<Listing>>),
    /// The layer's filesystem lists, and that is being noted down.
    Passed(Option<KBox<Recording>>),
    /// As the layer's filesystem has listed it; the next entry.
    Replayed(Arc<Transcript>, usize),
}

/// What the next step of listing is.
enum Step {
    /// As in [`Way::Merged`].
    Merged,
    /// The layer's filesystem lists.
    Passed,
    /// That is noted down, or was.
    Noted,
}

impl OpenDir {
    /// The open file of the upper directory, where there is one.
    fn upper_file(&self, open: OpenFile<'_>) -> Result<Option<&File>> {
        let Some(path) = open.inode().upper_path() else {
            return Ok(None);
        };
        let upper = path.positive()?;
        if let Some(real) = self.real.get().filter(|real| file::inode_of(real) == upper) {
            return Ok(Some(real));
        }
        let fs = open.inode().fs();
        opened::opened_as(&self.upper, upper, || opened::for_reading(fs, path)).map(Some)
    }

    /// The open file of the layer that is passed through: of that which makes the directory up, or of which it has a transcript.
    #[inline]
    fn real_file(&self, inode: &Inode, shown: Option<&Transcript>) -> Result<&File> {
        match self.real.get() {
            Some(real) => Ok(real),
            None => self.open_real(inode, shown),
        }
    }

    #[cold]
    fn open_real(&self, inode: &Inode, shown: Option<&Transcript>) -> Result<&File> {
        let path = match shown {
            Some(transcript) if !transcript.in_upper => inode.lower_path().ok_or(ESTALE)?,
            _ => inode.content()?.path,
        };
        opened::opened(&self.real, || opened::for_reading(inode.fs(), path))
    }

    /// The same, at the position `pos`.
    #[inline]
    fn real_at(&self, inode: &Inode, shown: Option<&Transcript>, pos: i64) -> Result<&File> {
        let real = self.real_file(inode, shown)?;
        if file::pos(real) != pos {
            file::seek(real, pos, whence::SET)?;
        }
        Ok(real)
    }

    /// Begins to note down what is listed, where that is wanted; whether it is.
    fn begin_recording(&self, dir: Dir<'_>) -> bool {
        let recording = dir.record();
        let begins = recording.is_some();
        if begins {
            let old = core::mem::replace(&mut *self.way.lock(), Way::Passed(recording));
            drop(old);
        }
        begins
    }

    /// How listing goes on; or begins again, where `is_start`: `None` if what it went by is out of date.
    #[inline]
    fn step(&self, dir: Dir<'_>, is_start: bool) -> Option<Step> {
        let merged = is_start && dir.lists_merged();
        if is_start {
            self.as_it_is.store(false, Relaxed);
            self.is_whole.store(true, Relaxed);
        }
        let mut way = self.way.lock();
        let (goes_on, step) = match &mut *way {
            Way::Merged(listing) => {
                let version = listing.as_ref().map(|listing| listing.version);
                let is_new = || version.is_none_or(|version| version == dir.version());
                (!is_start || merged && is_new(), Step::Merged)
            }
            Way::Passed(None) => (!is_start || !merged && !dir.remembers(), Step::Passed),
            Way::Passed(Some(_)) => (!is_start, Step::Noted),
            Way::Replayed(transcript, next) => {
                if is_start {
                    *next = 0;
                }
                (!is_start || !merged && transcript.holds(&dir), Step::Noted)
            }
        };
        goes_on.then_some(step)
    }

    /// Starts over: forgets what is out of date, sees how the directory is listed now.
    #[inline(never)]
    fn restart(&self, dir: Dir<'_>) {
        let new = match dir.lists_merged() {
            true => Way::Merged(None),
            false => dir.way_of_one_layer(),
        };
        let old = core::mem::replace(&mut *self.way.lock(), new);
        drop(old);
    }

    /// The listing of a merged directory that this file goes through.
    fn listing(&self, dentry: &Dentry, dir: Dir<'_>) -> Result<Arc<Listing>> {
        if let Way::Merged(Some(listing)) = &*self.way.lock() {
            return Ok(listing.clone());
        }
        let listing = dir.listing(|| read_merged(dentry, dir, true))?;
        let new = Way::Merged(Some(listing.clone()));
        let old = core::mem::replace(&mut *self.way.lock(), new);
        drop(old);
        Ok(listing)
    }

    /// Has the layer's filesystem say where a position goes, in a directory of one layer, of which there may be a transcript.
    fn seek_real(
        &self,
        open: OpenFile<'_>,
        transcript: Option<&Transcript>,
        offset: i64,
        how: i32,
    ) -> Result<i64> {
        let real = self.real_file(open.inode(), transcript)?;
        let to = open.seek_as(real, offset, how);
        self.as_it_is.store(false, Relaxed);
        self.is_whole.store(false, Relaxed);
        let old = core::mem::replace(&mut *self.way.lock(), Way::Passed(None));
        drop(old);
        to
    }
}

/// The inode numbers that are shown of a directory of one layer.
pub(super) struct Shown {
    /// Those of copied-up entries.
    impure: Option<Arc<Listing>>,
    /// Those of the others.
    numbers: Option<Numbers>,
    /// That of `..`, if it is not the layer's.
    parent: Option<u64>,
}

impl Shown {
    pub(super) fn of(open: Listed<'_>, in_upper: bool) -> Result<Self> {
        let (inode, dir) = (open.inode(), open.inode().dir()?);
        let fs = inode.fs();
        let mut shown = Self {
            impure: None,
            numbers: None,
            parent: None,
        };
        if !fs.numbering.has_one_device() {
            return Ok(shown);
        }
        if in_upper && dir.is_impure() {
            shown.impure = impure_listing(open, dir)?;
        }
        let lower = inode.lowers().first().filter(|_| !in_upper);
        let numbers = fs.numbers(lower.map_or(UPPER, LowerPath::layer));
        shown.numbers = Some(numbers).filter(|numbers| !numbers.lists_real());
        let parent = open.dentry().own_parent();
        let parent = parent.own_positive()?;
        if parent.reals().is_merged() {
            shown.parent = Some(number::of(parent)?);
        }
        Ok(shown)
    }

    /// Whether all but that of `..` are the layer's.
    fn are_real(&self) -> bool {
        self.impure.is_none() && self.numbers.is_none()
    }

    /// That of `entry`.
    #[inline]
    pub(super) fn number(&self, entry: &readdir::Entry<'_>) -> u64 {
        if let Some(parent) = self.parent.filter(|_| entry.name == b"..") {
            return parent;
        }
        if let Some(impure) = &self.impure {
            let known = impure.find(entry.name, Folding::NONE);
            return known.map_or(entry.ino, |known| known.ino.load(Relaxed));
        }
        match self.numbers {
            Some(numbers) => numbers.listed(entry.ino),
            None => entry.ino,
        }
    }
}

impl OpenDir {
    #[inline(never)]
    fn iterate_merged(&self, open: Listed<'_>, ctx: &mut DirContext<'_>) -> Result {
        let dentry = open.dentry();
        let listing = self.listing(dentry, open.inode().dir()?)?;
        let start = usize::try_from(ctx.pos()).map_err(|_| EINVAL)?;
        for entry in listing.entries.iter().skip(start) {
            if !entry.whiteout && !entry.gone.load(Relaxed) {
                let known = entry.ino.load(Relaxed);
                let ino = if known == UNKNOWN_INO || entry.maybe_xwhiteout {
                    resolve(open, &listing, entry)?
                } else {
                    Some(known)
                };
                let emit = |ino| ctx.emit(listing.name(entry), ino, u32::from(entry.kind));
                if !ino.is_none_or(emit) {
                    break;
                }
            }
            ctx.advance();
        }
        Ok(())
    }

    /// Has the layer's filesystem list.
    fn pass(&self, open: Listed<'_>, ctx: &mut DirContext<'_>) -> Result {
        let (inode, pos) = (open.inode(), ctx.pos());
        let real = self.real_at(inode, None, pos)?;
        if self.as_it_is.load(Relaxed) && !inode.dir()?.is_impure() {
            ctx.pass_through(real)?;
        } else {
            self.pass_shown(open, ctx, real)?;
        }
        // btrfs has another position once it has found the end.
        let is_end = pos != 0 && (ctx.pos() == pos || ctx.pos() == i64::MAX);
        if is_end && self.is_whole.load(Relaxed) {
            self.is_whole.store(false, Relaxed);
            inode.dir()?.was_listed(file::inode_of(real));
        }
        Ok(())
    }

    /// The same, with other numbers where the union has them.
    fn pass_shown(&self, open: Listed<'_>, ctx: &mut DirContext<'_>, real: &File) -> Result {
        let shown = Shown::of(open, is_in_upper(open.inode(), real))?;
        let (are_real, mut is_past_parent) = (shown.are_real(), shown.parent.is_none());
        let result = if are_real && is_past_parent {
            ctx.pass_through(real)
        } else {
            // That `..` was shown is known when the next entry comes.
            let mut seen_parent = false;
            ctx.pass_mapped(real, |entry| {
                is_past_parent |= seen_parent;
                seen_parent |= entry.name == b"..";
                (!are_real || !is_past_parent).then(|| shown.number(entry))
            })
        };
        if are_real && is_past_parent {
            self.as_it_is.store(true, Relaxed);
        }
        result
    }

    /// Lists from what was noted down, or while it is.
    #[inline(never)]
    fn iterate_noted(&self, open: Listed<'_>, ctx: &mut DirContext<'_>) -> Result {
        let mut way = core::mem::replace(&mut *self.way.lock(), Way::Passed(None));
        let result = self.go_on(open, ctx, &mut way);
        let old = core::mem::replace(&mut *self.way.lock(), way);
        drop(old);
        result
    }

    fn go_on(&self, open: Listed<'_>, ctx: &mut DirContext<'_>, way: &mut Way) -> Result {
        match way {
            Way::Passed(recording) => return self.record(open, ctx, recording),
            Way::Replayed(transcript, next) => {
                let index = transcript.index(ctx.pos(), *next);
                if let Some(index) = index.filter(|_| !readdir::has_short_positions()) {
                    *next = transcript.replay(open, ctx, index)?;
                    return Ok(());
                }
                // Where the reader is the filesystem may know.
                self.real_at(open.inode(), Some(transcript), ctx.pos())?;
            }
            Way::Merged(_) => return Err(EIO),
        }
        *way = Way::Passed(None);
        self.pass(open, ctx)
    }

    /// Has the layer's filesystem list while what it lists is noted down.
    fn record(
        &self,
        open: Listed<'_>,
        ctx: &mut DirContext<'_>,
        recording: &mut Option<KBox<Recording>>,
    ) -> Result {
        let inode = open.inode();
        let real = self.real_at(inode, None, ctx.pos())?;
        if ctx.pos() == 0 {
            // btrfs lists what there was when the directory was opened, or has been sought in since.
            file::seek(real, 0, whence::SET)?;
        }
        let shown = Shown::of(open, is_in_upper(inode, real))?;
        // Some filesystems have another position once they have found the end.
        let (end, mut is_at_end) = (ctx.pos(), true);
        let number = |entry: &readdir::Entry<'_>| {
            is_at_end = false;
            Some(shown.number(entry))
        };
        ctx.pass_noted(real, number, |entry| {
            // Without it the directory is listed all the same.
            if recording
                .as_mut()
                .is_some_and(|all| all.add(entry).is_err())
            {
                *recording = None;
            }
        })?;
        if readdir::has_short_positions() {
            *recording = None;
        }
        if let Some(all) = recording.take_if(|_| is_at_end) {
            // Where memory is short it is not remembered, that's all.
            let _ = inode.dir()?.remember_transcript(all, end);
        }
        Ok(())
    }
}

impl Dir<'_> {
    /// How a directory of one layer is listed from the start.
    #[inline]
    fn way_of_one_layer(&self) -> Way {
        match self.transcript() {
            Some(transcript) => Way::Replayed(transcript, 0),
            None => Way::Passed(None),
        }
    }
}

/// Whether `real` is the file of `inode` in upper.
fn is_in_upper(inode: &Inode, real: &File) -> bool {
    inode.upper().and_then(vfs::Dentry::inode) == Some(file::inode_of(real))
}

impl DirectoryOperations<Overlay> for OpenDir {
    type Data = Self;

    fn open(open: Opening<'_, Overlay>) -> Result<SlabBox<Self>> {
        let inode = open.inode();
        let (fs, dir, path) = (inode.fs(), inode.dir()?, inode.content()?.path);
        let way = match dir.lists_merged() {
            true => Way::Merged(dir.remembered_listing()),
            false => dir.way_of_one_layer(),
        };
        let is_known = matches!(way, Way::Merged(Some(_)) | Way::Replayed(..));
        let real = Once::new();
        cred::scope(fs.creds(), |_| -> Result {
            if !is_known || !file::may_stay_closed(path)? {
                drop(real.set(file::open_checked(path, false)?));
            }
            Ok(())
        })?;
        let init = pin_init!(Self {
            real,
            upper: Once::new(),
            as_it_is: Atomic::new(false),
            is_whole: Atomic::new(false),
            way <- new_spinlock!(way, "rovl_open_dir"),
        });
        open.dentry().own_sb().directories().make(init)
    }

    fn iterate(open: Listed<'_>, data: &Self, ctx: &mut DirContext<'_>) -> Result {
        let inode = open.inode();
        let dir = inode.dir()?;
        let is_start = ctx.pos() == 0;
        let step = data.step(dir, is_start).or_else(|| {
            data.restart(dir);
            data.step(dir, false)
        });
        cred::scope(inode.fs().creds(), |_| match step {
            Some(Step::Merged) => data.iterate_merged(open, ctx),
            Some(Step::Passed) if !is_start || !data.begin_recording(dir) => data.pass(open, ctx),
            _ => data.iterate_noted(open, ctx),
        })
    }

    fn seek(open: OpenFile<'_>, data: &Self, offset: i64, how: i32) -> Result<i64> {
        let inode = open.inode();
        let _lock = inode.lock();
        let pos = open.pos();
        let dir = inode.dir()?;
        if pos == 0 && data.step(dir, true).is_none() {
            data.restart(dir);
        }
        let (merged, transcript) = match &*data.way.lock() {
            Way::Merged(_) => (true, None),
            Way::Replayed(transcript, _) => (false, Some(transcript.clone())),
            Way::Passed(_) => (false, None),
        };
        // What needs no filesystem that knows the positions.
        let is_plain = merged || (offset == 0 && transcript.is_some());
        let to = match how {
            whence::SET if is_plain => offset,
            whence::CUR if is_plain => pos.checked_add(offset).ok_or(EOVERFLOW)?,
            _ if merged => return Err(EINVAL),
            _ => return data.seek_real(open, transcript.as_deref(), offset, how),
        };
        open.set_pos(to)?;
        Ok(to)
    }

    fn generation(open: OpenFile<'_>, asked: Generation<'_>) -> Result {
        attr::generation(open.inode(), asked)
    }

    fn fsync(open: OpenFile<'_>, data: &Self, start: i64, end: i64, datasync: bool) -> Result {
        let fs = open.inode().fs();
        if let Some(result) = fs.instead_of_sync() {
            return result;
        }
        // Lower layers have nothing to be written back.
        match data.upper_file(open)? {
            Some(upper) => fs.written.fsync(upper, start, end, datasync),
            None => Ok(()),
        }
    }
}
