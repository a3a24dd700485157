// SPDX-License-Identifier: GPL-2.0

//! What a directory remembers of its layers, so that it need not ask them again: which lower layers
//! hold which names, and its listing.
//!
//! Both are learnt when that has paid for itself, and hold while the layers' directories, which are
//! [watched](Watch), stay as they were. All dir_caches of a mount are counted and given back, oldest
//! first, when memory is short.
//!
//! What the index answers: a lower layer that it does not name for a name has nothing of that name,
//! since (1) the layer's directory was watched before it was read, (2) nothing was reported of it
//! up to now, and (3) its filesystem lists every name that it can look up
//! ([`is_watchable`](vfs::Dentry::is_watchable); a forged one may not). A layer that it names is asked:
//! two names may share a hash.

use super::listing::Listing;
use crate::vfs::{self, readdir::NameSalt, watch::Watch};
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

/// Names that count as one object for the shrinker, whose other objects are inodes and dentries.
const NAMES_PER_OBJECT: usize = 64;

/// Which lower layers hold which names.
pub(super) struct Index {
    pub(super) salt: NameSalt,
    /// A name's hash, then 16 bits for the position of a layer that holds it; sorted.
    pub(super) rows: KVVec<u64>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            salt: NameSalt::random(),
            rows: KVVec::new(),
        }
    }

    /// Ends the adding of names.
    pub(super) fn sort(&mut self) {
        self.rows.sort_unstable();
        // Names of one layer that share a hash.
        let mut last = None;
        self.rows.retain(|row| last.replace(*row) != Some(*row));
    }

    fn key(&self, name: &[u8]) -> u64 {
        ((self.salt.hash(name) as u64) & 0xffff_ffff) << 16
    }

    pub(super) fn push(&mut self, name: &[u8], position: usize) -> Result {
        let row = self.key(name) | u64::from(u16::try_from(position)?);
        Ok(self.rows.push(row, GFP_KERNEL_ACCOUNT)?)
    }

    pub(super) fn find(&self, name: &[u8]) -> Range<usize> {
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
    pub(super) index: Option<Arc<Index>>,
    /// Positions in the lower stack, or rows of the index.
    pub(super) range: Range<usize>,
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
pub(super) struct Kept {
    pub(super) listing: Arc<Listing>,
    /// The upper directory, watched for changes that others make.
    pub(super) upper: Option<Watch>,
    /// It depends on the lower directories.
    pub(super) merged: bool,
}

/// What is known at the moment.
#[derive(Default)]
pub(super) struct Known {
    /// Watches the lower directories.
    pub(super) lowers: Option<Arc<Watch>>,
    pub(super) index: Option<Arc<Index>>,
    pub(super) listing: Option<Kept>,
}

impl Known {
    fn names(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.rows.len());
        index + self.listing.as_ref().map_or(0, |kept| kept.listing.len())
    }

    pub(super) fn changed(&self) -> bool {
        self.lowers.as_ref().is_some_and(|watch| watch.changed())
    }
}

/// What one directory remembers.
#[pin_data]
pub(crate) struct DirCache {
    /// Its place in [`DirCaches`].
    pub(super) age: u64,
    pub(super) all: Arc<DirCaches>,
    /// Layers to be asked in vain before names are learnt, since learning failed; or 0.
    pub(super) learn_at: Atomic<u32>,
    #[pin]
    pub(super) known: SpinLock<Known>,
}

/// All dir_caches of a mount that hold anything.
#[pin_data]
pub(crate) struct DirCaches {
    #[pin]
    by_age: SpinLock<RBTree<u64, Arc<DirCache>>>,
    /// Names that they hold.
    pub(super) names: Atomic<usize>,
    last: Atomic<u64>,
}

impl DirCaches {
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

impl DirCache {
    pub(super) fn new(all: &Arc<DirCaches>) -> Result<Arc<Self>> {
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
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut Known) -> R) -> R {
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

    /// Forgets the listing alone.
    pub(crate) fn forget_listing(&self) {
        let old = self.update(|known| known.listing.take());
        drop(old);
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
    pub(super) fn enlist(self: ArcBorrow<'_, Self>) -> Result {
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
    pub(super) fn remember<T>(
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
    pub(super) fn unwatch(&self) {
        let old = self.update(|known| match (&known.index, &known.listing) {
            (None, None) => known.lowers.take(),
            _ => None,
        });
        drop(old);
    }

    /// The watch over the lower directories `lowers`; a new one where there is none that holds.
    pub(super) fn watch<'a>(
        &self,
        lowers: impl Iterator<Item = Result<&'a vfs::Dentry>>,
    ) -> Result<Arc<Watch>> {
        self.check();
        if let Some(watch) = &self.known.lock().lowers {
            return Ok(watch.clone());
        }
        let watch = Watch::new(lowers.map(|dentry| {
            let dentry = dentry?;
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
