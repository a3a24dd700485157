// SPDX-License-Identifier: GPL-2.0

//! What a directory remembers of its layers, so that it need not ask them again: which lower layers
//! hold which names, and its listing.
//!
//! Both are learnt when that has paid for itself, and hold while the layers' directories, which are
//! [watched](Watch), stay as they were. All memories of a mount are counted and given back, oldest
//! first, when memory is short.
//!
//! What the index answers: a lower layer that it does not name for a name has nothing of that name,
//! since (1) the layer's directory was watched before it was read, (2) nothing was reported of it
//! up to now, and (3) its filesystem lists every name that it can look up
//! ([`is_watchable`](vfs::Dentry::is_watchable); a forged one may not). A layer that it names is asked:
//! two names may share a hash.

use super::{inode::LISTED, readdir::Listing, Inode};
use crate::vfs::{
    file::{self, may},
    readdir::{self, NameSalt},
    watch::Watch,
};
use core::ops::Range;
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, ArcBorrow, SpinLock,
    },
};

/// Layers asked in vain, for each layer of a directory, before its names are learnt: opening, watching
/// and closing a directory costs about as much as so many lookups of a missing name.
const PATIENCE: u32 = 24;
/// Names that are read for each layer that was asked in vain: what one such question costs.
const NAMES_PER_MISS: usize = 3;
/// Bytes of a directory's size for each of its names, about, and rather too many.
const SIZE_OF_NAME: i64 = 64;
/// Most names of an index, 8 bytes each.
const MAX_NAMES: usize = 1 << 20;
/// Names that count as one object for the shrinker, whose other objects are inodes and dentries.
const NAMES_PER_OBJECT: usize = 64;

/// Which lower layers hold which names.
struct Index {
    salt: NameSalt,
    /// A name's hash, then 16 bits for the position of a layer that holds it; sorted.
    rows: KVVec<u64>,
}

impl Index {
    fn new() -> Self {
        Self {
            salt: NameSalt::random(),
            rows: KVVec::new(),
        }
    }

    /// Ends the adding of names.
    fn sort(&mut self) {
        self.rows.sort_unstable();
        // Names of one layer that share a hash.
        let mut last = None;
        self.rows.retain(|row| last.replace(*row) != Some(*row));
    }

    fn key(&self, name: &[u8]) -> u64 {
        ((self.salt.hash(name) as u64) & 0xffff_ffff) << 16
    }

    fn push(&mut self, name: &[u8], position: usize) -> Result {
        let row = self.key(name) | u64::from(u16::try_from(position)?);
        Ok(self.rows.push(row, GFP_KERNEL_ACCOUNT)?)
    }

    fn find(&self, name: &[u8]) -> Range<usize> {
        let key = self.key(name);
        let start = self.rows.partition_point(|row| *row < key);
        let rest = self.rows.get(start..).unwrap_or_default();
        start
            ..start
                + rest
                    .iter()
                    .take_while(|row| **row >> 16 == key >> 16)
                    .count()
    }
}

/// The lower layers of a directory that may hold a name, topmost first.
pub(crate) struct Holders {
    index: Option<Arc<Index>>,
    /// Positions in the lower stack, or rows of the index.
    range: Range<usize>,
}

impl Holders {
    /// Without those above position `start`.
    pub(crate) fn below(mut self, start: usize) -> Self {
        self.range.start = match &self.index {
            None => start,
            Some(index) => {
                let rows = index.rows.get(self.range.clone()).unwrap_or_default();
                self.range.start + rows.partition_point(|row| ((row & 0xffff) as usize) < start)
            }
        };
        self
    }
}

impl Iterator for Holders {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let at = self.range.next()?;
        match &self.index {
            None => Some(at),
            Some(index) => Some((index.rows.get(at)? & 0xffff) as usize),
        }
    }
}

/// A listing and what it depends on.
struct Kept {
    listing: Arc<Listing>,
    /// The upper directory, watched for changes that others make.
    upper: Option<Watch>,
    /// It depends on the lower directories.
    merged: bool,
}

/// What is known at the moment.
#[derive(Default)]
struct Known {
    /// Watches the lower directories.
    lowers: Option<Arc<Watch>>,
    index: Option<Arc<Index>>,
    listing: Option<Kept>,
}

impl Known {
    fn names(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.rows.len());
        index + self.listing.as_ref().map_or(0, |kept| kept.listing.len())
    }

    fn changed(&self) -> bool {
        self.lowers.as_ref().is_some_and(|watch| watch.changed())
    }
}

/// What one directory remembers.
#[pin_data]
pub(crate) struct Memory {
    /// Its place in [`Memories`].
    age: u64,
    all: Arc<Memories>,
    /// Layers to be asked in vain before names are learnt, since learning failed; or 0.
    learn_at: Atomic<u32>,
    #[pin]
    known: SpinLock<Known>,
}

/// All memories of a mount that hold anything.
#[pin_data]
pub(crate) struct Memories {
    #[pin]
    by_age: SpinLock<RBTree<u64, Arc<Memory>>>,
    /// Names that they hold.
    names: Atomic<usize>,
    last: Atomic<u64>,
}

impl Memories {
    /// None yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                by_age <- new_spinlock!(RBTree::new(), "rovl_memories"),
                names: Atomic::new(0),
                last: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// How many objects could be freed.
    pub(crate) fn objects(&self) -> usize {
        self.names.load(Relaxed) / NAMES_PER_OBJECT
    }

    /// Frees about `wanted` objects; returns how many.
    pub(crate) fn shrink(&self, wanted: usize) -> usize {
        let mut freed = 0;
        while freed < wanted {
            let oldest = {
                let mut tree = self.by_age.lock();
                tree.cursor_front_mut()
                    .map(|cursor| cursor.remove_current().1)
            };
            let Some(oldest) = oldest else {
                break;
            };
            freed += oldest.to_key_value().1.forget() / NAMES_PER_OBJECT + 1;
        }
        freed
    }
}

impl Memory {
    fn new(all: &Arc<Memories>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                age: all.last.fetch_add(1u64, Relaxed),
                all: all.clone(),
                learn_at: Atomic::new(0),
                known <- new_spinlock!(Known::default(), "rovl_memory"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Changes what is known and keeps the books; what `change` takes out is dropped without the lock.
    fn update<R>(&self, change: impl FnOnce(&mut Known) -> R) -> R {
        let (result, gone) = {
            let mut known = self.known.lock();
            let before = known.names();
            let result = change(&mut known);
            let after = known.names();
            // Before others can take them out again: the sum never falls below zero.
            self.all.names.add(after.saturating_sub(before), Relaxed);
            (result, before.saturating_sub(after))
        };
        let _ = self.all.names.fetch_sub(gone, Relaxed);
        result
    }

    /// Forgets all; returns how many names that were.
    fn forget(&self) -> usize {
        self.update(core::mem::take).names()
    }

    /// Forgets all for good: the directory's inode is torn down.
    pub(crate) fn retire(&self) {
        let node = self.all.by_age.lock().remove_node(&self.age);
        drop(node);
        self.forget();
    }

    /// Forgets what is out of date; whether anything is left to go by.
    fn check(&self) {
        let old = self.update(|known| {
            if known.changed() {
                core::mem::take(known)
            } else {
                Known::default()
            }
        });
        drop(old);
    }

    /// Has the memory found when the system is short of it; where that fails, nothing is remembered.
    fn enlist(self: ArcBorrow<'_, Self>) -> Result {
        let Ok(room) = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT) else {
            self.forget();
            return Err(ENOMEM);
        };
        let old = {
            let mut tree = self.all.by_age.lock();
            tree.insert(room.into_node(self.age, self.into()))
        };
        drop(old);
        Ok(())
    }

    /// Remembers `value`, which was learnt under `watch`, unless a change was seen meanwhile. `store`
    /// returns what it replaces.
    fn remember<T>(
        self: ArcBorrow<'_, Self>,
        watch: &Arc<Watch>,
        value: T,
        store: impl FnOnce(&mut Known, T) -> Option<T>,
    ) -> Result {
        let old = self.update(|known| match &known.lowers {
            Some(current) if Arc::ptr_eq(current, watch) => store(known, value),
            // Not dropped here, with the lock held.
            _ => Some(value),
        });
        drop(old);
        self.enlist()
    }

    /// Ends a watch that nothing depends on.
    fn unwatch(&self) {
        let old = self.update(|known| match (&known.index, &known.listing) {
            (None, None) => known.lowers.take(),
            _ => None,
        });
        drop(old);
    }

    /// The watch over the lower directories; a new one where there is none that holds.
    fn watch(&self, dir: &Inode) -> Result<Arc<Watch>> {
        self.check();
        if let Some(watch) = &self.known.lock().lowers {
            return Ok(watch.clone());
        }
        let watch = Watch::new(dir.data().lower.as_slice().iter().map(|path| {
            let dentry = path.dentry()?;
            if dentry.is_watchable() {
                dentry.positive()
            } else {
                Err(EOPNOTSUPP)
            }
        }))?;
        let watch = Arc::new(watch, GFP_KERNEL_ACCOUNT)?;
        let mut known = self.known.lock();
        match &known.lowers {
            // Another task was quicker.
            Some(watch) => Ok(watch.clone()),
            None => {
                known.lowers = Some(watch.clone());
                Ok(watch)
            }
        }
    }
}

impl Inode {
    fn memory(&self) -> Option<ArcBorrow<'_, Memory>> {
        self.data().memory.get()
    }

    fn make_memory(&self) -> Result<ArcBorrow<'_, Memory>> {
        if self.memory().is_none() {
            // Where another task is quicker its memory is used, and this one dropped.
            self.data().memory.set(Memory::new(self.fs().memories())?);
        }
        self.memory().ok_or(ENOMEM)
    }

    /// The lower layers of this directory that may hold `name`.
    pub(crate) fn holders(&self, name: &[u8]) -> Holders {
        let index = self.memory().and_then(|memory| {
            let known = memory.known.lock();
            known.index.clone().filter(|_| !known.changed())
        });
        let range = match &index {
            Some(index) => index.find(name),
            None => 0..self.data().lower.len(),
        };
        Holders { index, range }
    }

    /// Notes that `layers` lower layers were asked in vain for a name in this directory; learns which
    /// names they hold once that has cost as much. With the mounter's credentials.
    pub(crate) fn missed(&self, layers: usize) {
        let data = self.data();
        if data.lower.len() < 2 || layers == 0 {
            return;
        }
        let layers = u32::try_from(layers).unwrap_or(u32::MAX);
        let asked = data.asked.fetch_add(layers, Relaxed).saturating_add(layers);
        let enough = PATIENCE.saturating_mul(data.lower.len() as u32);
        if asked < enough {
            return;
        }
        let Ok(memory) = self.make_memory() else {
            return;
        };
        // One task learns at a time.
        if asked < memory.learn_at.load(Relaxed) || data.asked.xchg(0, Relaxed) < enough {
            return;
        }
        let budget = (asked as usize)
            .saturating_mul(NAMES_PER_MISS)
            .min(MAX_NAMES);
        if self.learn(memory, budget).is_err() {
            // Too many names, or they can't be had: it is tried again when it has cost more.
            memory.learn_at.store(asked.saturating_mul(4), Relaxed);
            memory.unwatch();
        }
    }

    /// Reads the names of all lower layers.
    fn learn(&self, memory: ArcBorrow<'_, Memory>, budget: usize) -> Result {
        let lowers = self.data().lower.as_slice().iter();
        let inodes = lowers.filter_map(|path| path.dentry.get()?.inode());
        let about: i64 = inodes.map(|inode| inode.size() / SIZE_OF_NAME).sum();
        if about > i64::try_from(budget)? {
            return Err(E2BIG);
        }
        let watch = memory.watch(self)?;
        let mut index = Index::new();
        let fs = self.fs();
        for (position, path) in self.data().lower.as_slice().iter().enumerate() {
            let path = fs.lower_path(path)?;
            // A lookup waits for nobody's leave to open a directory.
            if path.mnt.sb().asks_listeners() {
                return Err(EBUSY);
            }
            // Where looking a name up would be refused, it must go on being refused.
            path.dentry
                .positive()?
                .permission(path.idmap(), may::EXEC)?;
            readdir::read_all(&*file::open_checked(path, false)?, |entry| {
                if index.rows.len() >= budget {
                    return Err(E2BIG);
                }
                match entry.name {
                    b"." | b".." => Ok(()),
                    name => index.push(name, position),
                }
            })?;
        }
        index.sort();
        // What can't be given back stays.
        let _ = index.rows.shrink_to(0, GFP_KERNEL_ACCOUNT);
        let index = Arc::new(index, GFP_KERNEL_ACCOUNT)?;
        memory.remember(&watch, index, |known, index| known.index.replace(index))
    }

    /// The directory's listing: what is remembered, or else what `read` reads. It is remembered when it
    /// is read a second time without a change in between. The directory is locked, shared at least.
    pub(crate) fn listing(&self, read: impl FnOnce() -> Result<Listing>) -> Result<Arc<Listing>> {
        if let Some(listing) = self.remembered_listing() {
            return Ok(listing);
        }
        let flags = &self.data().flags;
        if !flags.test(LISTED) {
            flags.set(LISTED);
            return Ok(Arc::new(read()?, GFP_KERNEL)?);
        }
        // Watched first, read then. Where it can't be watched it isn't remembered, that's all.
        let watched = self.watch_all();
        let listing = Arc::new(read()?.trim(), GFP_KERNEL_ACCOUNT)?;
        if let Ok((memory, lowers, upper)) = watched {
            let kept = Kept {
                listing: listing.clone(),
                upper,
                merged: true,
            };
            memory.remember(&lowers, kept, |known, kept| known.listing.replace(kept))?;
        }
        Ok(listing)
    }

    /// Remembers a listing that depends on changes made through the mount alone.
    pub(crate) fn remember_own(&self, listing: Arc<Listing>) -> Result {
        let memory = self.make_memory()?;
        let kept = Kept {
            listing,
            upper: None,
            merged: false,
        };
        let old = memory.update(|known| known.listing.replace(kept));
        drop(old);
        memory.enlist()
    }

    /// The listing that is remembered, if it still holds.
    pub(crate) fn remembered_listing(&self) -> Option<Arc<Listing>> {
        let memory = self.memory()?;
        let known = memory.known.lock();
        let kept = known.listing.as_ref()?;
        let lowers = known.lowers.as_ref().filter(|_| !known.changed());
        let holds = kept.listing.version() == self.version()
            && kept.listing.is_complete()
            && (!kept.merged || lowers.is_some())
            && !kept.upper.as_ref().is_some_and(Watch::changed);
        holds.then(|| kept.listing.clone())
    }

    fn watch_all(&self) -> Result<(ArcBorrow<'_, Memory>, Arc<Watch>, Option<Watch>)> {
        let memory = self.make_memory()?;
        let lowers = memory.watch(self)?;
        let upper = match self.upper() {
            Some(dentry) if dentry.is_watchable() => {
                Some(Watch::new(core::iter::once(dentry.positive()))?)
            }
            Some(_) => return Err(EOPNOTSUPP),
            None => None,
        };
        Ok((memory, lowers, upper))
    }

    /// Makes all listings out of date: the directory's entries changed, or it is in upper now.
    pub(crate) fn forget_listing(&self) {
        self.data().version.add(1, Relaxed);
        self.data().flags.clear(LISTED);
        if let Some(memory) = self.memory() {
            let old = memory.update(|known| known.listing.take());
            drop(old);
        }
    }
}

#[kernel::macros::kunit_tests(rovl_memory)]
mod tests {
    use super::*;

    fn holders(index: &Arc<Index>, name: &[u8]) -> Holders {
        Holders {
            range: index.find(name),
            index: Some(index.clone()),
        }
    }

    #[test]
    fn layers_of_a_name() -> Result {
        let mut index = Index::new();
        for position in [4usize, 0, 2, 2] {
            for i in 0..500u32 {
                index.push(&i.to_ne_bytes(), position)?;
            }
        }
        index.push(b"everywhere but in 3", 7)?;
        index.sort();
        // What can't be given back stays.
        let _ = index.rows.shrink_to(0, GFP_KERNEL_ACCOUNT);
        let index = Arc::new(index, GFP_KERNEL)?;
        for i in 0..500u32 {
            // Each layer once, topmost first; others at most where a hash is shared.
            let found = holders(&index, &i.to_ne_bytes());
            let mut wanted = [0, 2, 4].into_iter().peekable();
            let mut last = None;
            for position in found {
                assert!(last.replace(position) < Some(position));
                if wanted.peek() == Some(&position) {
                    wanted.next();
                }
            }
            assert!(wanted.next().is_none());
        }
        assert!(holders(&index, b"everywhere but in 3").any(|at| at == 7));
        let mut below = holders(&index, &1u32.to_ne_bytes()).below(3);
        assert!(below.all(|at| at >= 3));
        let all = Holders {
            index: None,
            range: 0..5,
        };
        assert_eq!(all.below(3).next(), Some(3));
        Ok(())
    }

    #[test]
    fn absent_names() -> Result {
        let mut index = Index::new();
        for i in 0..1000u32 {
            index.push(&i.to_ne_bytes(), 0)?;
        }
        index.sort();
        // What can't be given back stays.
        let _ = index.rows.shrink_to(0, GFP_KERNEL_ACCOUNT);
        let index = Arc::new(index, GFP_KERNEL)?;
        // A thousand names in 32 bits: a few shared hashes at the very most.
        let asked: usize = (1000..2000u32)
            .map(|i| holders(&index, &i.to_ne_bytes()).count())
            .sum();
        assert!(asked < 10);
        assert_eq!(
            holders(&Arc::new(Index::new(), GFP_KERNEL)?, b"a").count(),
            0
        );
        Ok(())
    }
}
