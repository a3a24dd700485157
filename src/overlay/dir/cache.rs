// SPDX-License-Identifier: GPL-2.0

//! What a directory remembers of its layers, so that it need not ask them again: which lower layers
//! hold which names, and its listing.
//!
//! Both are learnt when that has paid for itself, and hold while the layers' directories, which are
//! [watched](Watch), stay as they were. All directory caches of a mount are counted and given back, oldest
//! first, when memory is short.

use super::{books::Books, listing::Listing, names::Names, transcript::Transcript};
use crate::vfs::{
    self,
    folding::LazySalt,
    published::{Published, Shared},
    watch::Watch,
};
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

/// A listing and what it depends on.
pub(super) struct Kept {
    pub(super) listing: Arc<Listing>,
    /// The upper directory, watched for changes that others make.
    pub(super) upper: Option<Watch>,
    /// It depends on the lower directories.
    pub(super) merged: bool,
}

/// What is known at the moment, beside the names.
#[derive(Default)]
pub(super) struct Known {
    /// Watches the lower directories.
    pub(super) lowers: Option<Arc<Watch>>,
    pub(super) listing: Option<Kept>,
    /// What its one layer lists.
    pub(super) transcript: Option<Arc<Transcript>>,
}

impl Known {
    pub(super) fn changed(&self) -> bool {
        self.lowers.as_ref().is_some_and(|watch| watch.changed())
    }

    /// How many names its listings have.
    fn listed(&self) -> usize {
        let listing = self.listing.as_ref().map_or(0, |kept| kept.listing.len());
        listing + self.transcript.as_ref().map_or(0, |all| all.len())
    }
}

/// What one directory remembers.
#[pin_data]
pub(crate) struct DirCache {
    /// Its place in [`DirCaches`].
    pub(super) age: u64,
    pub(super) all: Arc<DirCaches>,
    /// What lookups in vain cost, in layers asked, when it is thought of learning next; or that a task does, or has learnt them.
    pub(super) asked: Atomic<u32>,
    /// What of it is in the books of the mount.
    pub(super) booked: Atomic<u32>,
    /// For how many lookups what is spared, now that names are known, is entered in the books next; none while a task does.
    pub(super) lookups: Atomic<u32>,
    /// So many names a task found that learnt them, or so many there may be, as it found that wanted to learn fewer.
    pub(super) seen: Atomic<u32>,
    /// Which lower directories hold which names: changed with `known` locked, read without.
    pub(super) names: Published<Names>,
    /// Somebody notes down what the directory's one layer lists.
    pub(super) recorded: Atomic<bool>,
    #[pin]
    pub(super) known: SpinLock<Known>,
}

/// The directory caches of a mount that hold anything.
#[pin_data]
pub(crate) struct DirCaches {
    #[pin]
    by_age: SpinLock<RBTree<u64, Arc<DirCache>>>,
    /// Names that they hold.
    pub(super) names: Atomic<usize>,
    last: Atomic<u64>,
    /// Whether more names are worth learning.
    pub(super) books: Books,
    /// Keys the hashes of names in listings.
    pub(super) salt: LazySalt,
}

impl DirCaches {
    /// None yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                by_age <- new_spinlock!(RBTree::new(), "rovl_dir_caches"),
                names: Atomic::new(0),
                last: Atomic::new(0),
                books: Books::new(),
                salt: LazySalt::new(),
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
    /// Nothing is remembered of a directory that is thought of when `first` layers were asked in vain.
    pub(super) fn new(all: &Arc<DirCaches>, first: u32) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                age: all.last.fetch_add(1u64, Relaxed),
                all: all.clone(),
                asked: Atomic::new(first),
                booked: Atomic::new(0),
                lookups: Atomic::new(1),
                seen: Atomic::new(0),
                names: Published::new(),
                recorded: Atomic::new(false),
                known <- new_spinlock!(Known::default(), "rovl_dir_cache"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Which lower directories hold which names, if that is known and still holds.
    #[inline]
    pub(super) fn known_names(&self) -> Option<Shared<Names>> {
        self.names.get().filter(|names| names.hold())
    }

    /// How many names all that is.
    fn count(&self, known: &Known) -> usize {
        let names = self.names.get().map_or(0, |names| names.rows.len());
        names + known.listed()
    }

    /// Changes what is known and keeps the books; what `change` takes out is dropped without the lock.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut Known) -> R) -> R {
        let (result, gone) = {
            let mut known = self.known.lock();
            let before = self.count(&known);
            let result = change(&mut known);
            let after = self.count(&known);
            // Before others can take them out again: the sum never falls below zero.
            self.all.names.add(after.saturating_sub(before), Relaxed);
            (result, before.saturating_sub(after))
        };
        let _ = self.all.names.fetch_sub(gone, Relaxed);
        result
    }

    /// Takes all out of what is `known`.
    fn take(&self, known: &mut Known) -> (Known, Option<Shared<Names>>) {
        (core::mem::take(known), self.names.replace(None))
    }

    /// Forgets all; returns how many names that were.
    fn forget(&self) -> usize {
        let (count, _old) = self.update(|known| (self.count(known), self.take(known)));
        count
    }

    /// Forgets all for good: the directory's inode is torn down.
    pub(crate) fn retire(&self) {
        let node = self.all.by_age.lock().remove_node(&self.age);
        drop(node);
        self.forget();
    }

    /// Forgets the listing alone, of all layers or of one.
    pub(crate) fn forget_listing(&self) {
        let old = {
            let mut known = self.known.lock();
            Known {
                lowers: None,
                listing: known.listing.take(),
                transcript: known.transcript.take(),
            }
        };
        let count = old.listed();
        if count != 0 {
            let _ = self.all.names.fetch_sub(count, Relaxed);
        }
    }

    /// Forgets what is out of date; whether anything is left to go by.
    fn check(&self) {
        let old = self.update(|known| known.changed().then(|| self.take(known)));
        drop(old);
    }

    /// Has the cache found when the system is short of memory; where that fails, nothing is remembered.
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

    /// Remembers which layers hold which names, which was learnt under `watch`.
    pub(super) fn remember_names(
        self: ArcBorrow<'_, Self>,
        watch: Arc<Watch>,
        mut names: Names,
    ) -> Result {
        names.sort()?;
        names.watch = Some(watch.clone());
        let names = Shared::new(names, GFP_KERNEL_ACCOUNT)?;
        self.remember(&watch, names, |_, names| self.names.replace(Some(names)))
    }

    /// Ends a watch that nothing depends on.
    pub(super) fn unwatch(&self) {
        let old = self.update(|known| match (self.names.get(), &known.listing) {
            (None, None) => known.lowers.take(),
            _ => None,
        });
        drop(old);
    }

    /// The watch over the lower directories `lowers`, which fold case if `folds`; a new one where there is none that holds.
    pub(super) fn watch<'a>(
        &self,
        lowers: impl Iterator<Item = Result<&'a vfs::Dentry>>,
        folds: bool,
    ) -> Result<Arc<Watch>> {
        self.check();
        if let Some(watch) = &self.known.lock().lowers {
            return Ok(watch.clone());
        }
        let watch = Watch::new(lowers.map(|dentry| {
            let dentry = dentry?;
            if dentry.is_watchable(folds) {
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
