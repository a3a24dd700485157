// SPDX-License-Identifier: GPL-2.0

//! What the one layer of a directory lists, as it listed it: entries, positions and all.
//!
//! It is noted down when the directory is listed a second time without a change in between, and stands for the layer's directory,
//! which need not be opened then, as long as that has not changed since before the first entry was read. Since its positions
//! are the filesystem's own, a reader may go on there at any of them.

use super::{books, cache::DirCache, learn, open::Shown};
use crate::{
    overlay::{
        object::inode::{Dir, DirFlag},
        union::{Inode, Listed, Overlay},
    },
    vfs::{self, attr::ChangeMark, mount::PathRef, readdir, readdir::DirContext},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc,
    },
};

/// Most entries that are noted down of a directory.
const MAX_ENTRIES: usize = 1 << 17;

#[derive(Clone, Copy)]
struct Entry {
    /// Its position, in the filesystem's own terms.
    pos: i64,
    ino: u64,
    /// Where its name is.
    start: u32,
    len: u16,
    /// `d_type`.
    kind: u8,
}

/// What a layer lists of a directory.
pub(crate) struct Transcript {
    entries: KVVec<Entry>,
    names: KVVec<u8>,
    /// The position behind the last entry.
    end: i64,
    /// The layer is upper.
    pub(super) in_upper: bool,
    /// The layer's directory had it before it was read.
    mark: ChangeMark,
    /// How often it was begun to be shown.
    uses: Atomic<u32>,
}

impl Transcript {
    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is what `inode`, which one layer makes up, would list.
    #[inline]
    pub(super) fn holds(&self, inode: &Inode) -> bool {
        let real = match self.in_upper {
            true => inode.upper(),
            false if inode.upper().is_some() => return false,
            false => inode.lowers().first().map(|lower| lower.dentry()),
        };
        real.and_then(vfs::Dentry::inode)
            .is_some_and(|real| self.mark.holds(real))
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        self.names
            .get(start..start + usize::from(entry.len))
            .unwrap_or_default()
    }

    /// The position of the entry at `index`, or behind the last.
    fn pos(&self, index: usize) -> Option<i64> {
        match self.entries.get(index) {
            Some(entry) => Some(entry.pos),
            None => (index == self.len()).then_some(self.end),
        }
    }

    /// The entry at the position `pos` for a reader whose next entry is that at `next`; `None` if it came there otherwise.
    pub(super) fn index(&self, pos: i64, next: usize) -> Option<usize> {
        match pos {
            0 => Some(0),
            _ => (self.pos(next) == Some(pos)).then_some(next),
        }
    }

    /// Lists the entries from `index` on, as far as there is room; returns where it went on.
    pub(super) fn replay(
        &self,
        open: Listed<'_>,
        ctx: &mut DirContext<'_>,
        index: usize,
    ) -> Result<usize> {
        if index == self.len() {
            return Ok(index);
        }
        if index == 0 {
            self.book(open.inode().fs());
        }
        let shown = Shown::of(open, self.in_upper)?;
        for (index, entry) in self.entries.iter().enumerate().skip(index) {
            let real = readdir::Entry {
                name: self.name(entry),
                offset: entry.pos,
                ino: entry.ino,
                kind: u32::from(entry.kind),
            };
            let ino = shown.number(&real);
            if !ctx.emit_from(readdir::Entry { ino, ..real }) {
                return Ok(index);
            }
        }
        ctx.set_pos(self.end);
        Ok(self.len())
    }

    /// Enters in the books of the mount what it spares, more and more seldom: they are all CPUs'.
    fn book(&self, fs: &Overlay) {
        let uses = self.uses.fetch_add(1u32, Relaxed).wrapping_add(1);
        if uses.is_power_of_two() {
            let since = (uses / 2).max(1) as usize;
            fs.dir_caches().books.replayed(since, self.len());
        }
    }
}

/// The turn of who notes a directory down: nobody else does at the same time.
struct Turn(Arc<DirCache>);

impl Turn {
    fn take(cache: Arc<DirCache>) -> Option<Self> {
        (!cache.recorded.xchg(true, Acquire)).then_some(Self(cache))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.recorded.store(false, Release);
    }
}

/// A transcript that is being made.
pub(super) struct Recording {
    all: Transcript,
    /// That of the directory when it began.
    version: u32,
    /// How many entries were paid for.
    paid: usize,
    turn: Turn,
}

impl Recording {
    /// Nothing yet of a directory that has the mark `mark` and the version `version`.
    fn new(mark: ChangeMark, in_upper: bool, version: u32, turn: Turn) -> Result<KBox<Self>> {
        let all = Transcript {
            entries: KVVec::new(),
            names: KVVec::new(),
            end: 0,
            in_upper,
            mark,
            uses: Atomic::new(0),
        };
        let new = Self {
            all,
            version,
            paid: 0,
            turn,
        };
        Ok(KBox::new(new, GFP_KERNEL_ACCOUNT)?)
    }

    /// Pays for about `most` names, and makes room for them; whether there was enough to pay with.
    fn pay(&mut self, most: usize) -> Result<bool> {
        let books = &self.turn.0.all.books;
        let price = books::noting(most);
        if books.left() < price {
            return Ok(false);
        }
        books.pay(price);
        self.paid = most;
        let room = most.min(MAX_ENTRIES);
        self.all.entries.reserve(room, GFP_KERNEL_ACCOUNT)?;
        self.all.names.reserve(room * 8, GFP_KERNEL_ACCOUNT)?;
        Ok(true)
    }

    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// `E2BIG`, `ENOMEM`.
    #[inline]
    pub(super) fn add(&mut self, entry: &readdir::Entry<'_>) -> Result {
        let all = &mut self.all;
        if all.len() >= self.paid.min(MAX_ENTRIES) {
            // More is paid for next time, if it may be so many.
            let twice = (self.paid * 2).min(MAX_ENTRIES.max(all.len() + 1));
            self.turn.0.seen.store(twice as u32, Relaxed);
            return Err(E2BIG);
        }
        let new = Entry {
            pos: entry.offset,
            ino: entry.ino,
            start: u32::try_from(all.names.len())?,
            len: u16::try_from(entry.name.len())?,
            kind: (entry.kind & 0xff) as u8,
        };
        all.names
            .extend_from_slice(entry.name, GFP_KERNEL_ACCOUNT)?;
        Ok(all.entries.push(new, GFP_KERNEL_ACCOUNT)?)
    }

    /// The transcript of a directory that ends at the position `end`.
    fn finish(self, end: i64) -> Result<Transcript> {
        let all = self.all;
        let rest = books::noting(self.paid).saturating_sub(books::noting(all.len()));
        self.turn.0.all.books.refund(rest);
        Ok(Transcript {
            entries: fitting(all.entries)?,
            names: fitting(all.names)?,
            end,
            ..all
        })
    }
}

/// `all` in about as much memory as it takes.
fn fitting<T: Clone>(all: KVVec<T>) -> Result<KVVec<T>> {
    if all.capacity() <= all.len() * 2 {
        return Ok(all);
    }
    let mut copy = KVVec::with_capacity(all.len(), GFP_KERNEL_ACCOUNT)?;
    copy.extend_from_slice(&all, GFP_KERNEL_ACCOUNT)?;
    Ok(copy)
}

impl Dir<'_> {
    /// Whether what its one layer lists, in `path`, may be noted down and be shown in its place.
    fn is_replayable(&self, path: PathRef<'_>) -> bool {
        let dentry = path.dentry();
        let is_heard = |inode| dentry.is_listing_watched(inode);
        !readdir::has_short_positions() && !dentry.inode().is_none_or(is_heard)
    }

    /// What its one layer lists, if that is known and still holds.
    #[inline]
    pub(super) fn transcript(&self) -> Option<Arc<Transcript>> {
        let cache = self.data().cache.get()?;
        self.known_transcript(&cache)
    }

    #[inline(never)]
    fn known_transcript(&self, cache: &DirCache) -> Option<Arc<Transcript>> {
        let found = cache.known.lock().transcript.clone()?;
        if !found.holds(self) {
            let is_it = |known: &mut Arc<Transcript>| Arc::ptr_eq(known, &found);
            let old = cache.update(|known| known.transcript.take_if(is_it));
            drop(old);
            return None;
        }
        let path = self.content().ok()?.path;
        self.is_replayable(path).then_some(found)
    }

    /// Begins to note down what its one layer lists, if it was listed before without a change since. With the mounter's
    /// credentials.
    pub(super) fn record(&self) -> Option<KBox<Recording>> {
        let flags = self.flags();
        if !flags.test(DirFlag::Listed) {
            flags.set(DirFlag::Listed);
            return None;
        }
        let (path, version) = (self.content().ok()?.path, self.version());
        let most = self.most_names(path.positive().ok()?)?;
        if self.fs().dir_caches().books.left() < books::noting(most) {
            return None;
        }
        let watchable = path.dentry().is_watchable(self.fs().folds);
        if !watchable || !self.is_replayable(path) {
            return None;
        }
        // Without it the directory is listed all the same.
        let turn = Turn::take(self.make_cache().ok()?.into())?;
        let mark = ChangeMark::unique(path).ok()??;
        let new = Recording::new(mark, self.upper().is_some(), version, turn);
        let mut recording = new.ok()?;
        recording.pay(most).ok()?.then_some(recording)
    }

    /// How many names it has in its one layer, whose directory is `real`, most likely at most; `None` for too many.
    fn most_names(&self, real: &vfs::Inode) -> Option<usize> {
        let cache = self.data().cache.get();
        let seen = cache.map_or(0, |cache| cache.seen.load(Relaxed)) as usize;
        let least = learn::count_of_names(real).max(seen);
        (least <= MAX_ENTRIES).then(|| (learn::most_names(real) + 4).max(seen))
    }

    /// Notes that a layer's filesystem listed it, the directory `real`, from its start to its end.
    pub(super) fn was_listed(&self, real: &vfs::Inode) {
        let names = learn::count_of_names(real);
        self.fs().dir_caches().books.listed(names);
    }

    /// Remembers what was noted down of it, whose end is the position `end`, for those who list it next.
    pub(super) fn remember_transcript(&self, recording: KBox<Recording>, end: i64) -> Result {
        let recording = KBox::into_inner(recording);
        let (version, real) = (recording.version, self.content()?.path.positive()?);
        let is_whole = readdir::is_end(real, end) && version == self.version();
        let transcript = recording.finish(end)?;
        if !is_whole || !transcript.holds(self) {
            return Ok(());
        }
        let cache = self.make_cache()?;
        let new = Some(Arc::new(transcript, GFP_KERNEL_ACCOUNT)?);
        let old = cache.update(|known| core::mem::replace(&mut known.transcript, new));
        drop(old);
        cache.enlist()
    }
}

#[kernel::macros::kunit_tests(rovl_transcript)]
mod tests {
    use super::*;
    use crate::{overlay::dir::cache::DirCaches, vfs::mount::Path};

    #[test]
    fn positions() -> Result {
        let root = Path::resolve(c"/")?;
        let mark = ChangeMark::of(root.as_ref().positive()?);
        let cache = DirCache::new(&DirCaches::new()?, 0)?;
        let turn = Turn::take(cache.clone()).ok_or(EBUSY)?;
        assert!(Turn::take(cache.clone()).is_none());
        let mut recording = KBox::into_inner(Recording::new(mark, false, 0, turn)?);
        assert!(!recording.pay(4)?);
        cache.all.books.replayed(100, 100);
        assert!(recording.pay(4)?);
        // Two names with one hash have one position.
        for (name, offset) in [(&b"."[..], 0), (b"a", 70), (b"b", 70), (b"c", 30)] {
            recording.add(&readdir::Entry {
                name,
                offset,
                ino: 7,
                kind: readdir::dt::REG,
            })?;
        }
        let all = recording.finish(90)?;
        assert!(Turn::take(cache).is_some());
        assert_eq!(all.len(), 4);
        for (pos, next, index) in [
            (0, 3, Some(0)),
            (70, 1, Some(1)),
            (70, 2, Some(2)),
            (70, 3, None),
            (90, 4, Some(4)),
            (90, 5, None),
            (-1, 9, None),
        ] {
            assert_eq!(all.index(pos, next), index);
        }
        let c = all.entries.get(3).ok_or(EIO)?;
        assert_eq!(all.name(c), b"c");
        Ok(())
    }
}
