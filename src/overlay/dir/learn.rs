// SPDX-License-Identifier: GPL-2.0

//! When a directory learns what its layers hold, keeps its listing, and forgets both.

use super::{
    books,
    cache::{DirCache, Kept},
    listing::Listing,
    names::{Holders, Names},
};
use crate::{
    overlay::object::inode::{Dir, DirFlag},
    vfs::{self, cred, file::may, readdir, watch::Watch, Inode},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Relaxed, Release},
        Arc, ArcBorrow,
    },
};

/// Bytes of a directory's size for each of its names, about, where that is a number of entries.
const SIZE_OF_NAME: i64 = 20;
/// The same where it is one of blocks, of which those behind the first are half full at least.
const SIZE_OF_NAME_IN_BLOCKS: i64 = 32;
/// The same in the first one, which may have few.
const SIZE_OF_NAME_IN_FIRST_BLOCK: i64 = 64;
/// The first one has these bytes, most often.
const FIRST_BLOCK: i64 = 4096;
/// What a short name takes in a block.
const SIZE_OF_SHORT_NAME: i64 = 14;
/// A size that is made of blocks is a multiple of this.
const BLOCK: i64 = 1024;
/// For how many lookups at most what is spared is entered in the books of the mount at once.
const BOOKED_AT_ONCE: u32 = 20;
/// [`DirCache::asked`] while a task thinks of learning.
const BUSY: u32 = u32::MAX;
/// The same since names were learnt.
const LEARNT: u32 = 0;
/// Most names that are learnt of a directory, 8 bytes each.
const MAX_NAMES: usize = 1 << 20;

/// Whether a directory of so many bytes tells how many names it has.
fn tells(size: i64) -> bool {
    size % BLOCK != 0
}

/// How many names a directory of `size` bytes has, about.
fn names_in(size: i64) -> i64 {
    if tells(size) {
        return size / SIZE_OF_NAME;
    }
    let first = size.min(FIRST_BLOCK);
    first / SIZE_OF_NAME_IN_FIRST_BLOCK + (size - first) / SIZE_OF_NAME_IN_BLOCKS
}

/// How many names `inode`, a layer's directory, has, about.
pub(super) fn count_of_names(inode: &Inode) -> usize {
    to_count(names_in(inode.size()))
}

/// How many it has if they are short and its blocks are full.
pub(super) fn most_names(inode: &Inode) -> usize {
    to_count(inode.size() / SIZE_OF_SHORT_NAME)
}

fn to_count(names: i64) -> usize {
    usize::try_from(names).unwrap_or(usize::MAX)
}

impl Dir<'_> {
    #[inline]
    fn cache(&self) -> Option<ArcBorrow<'_, DirCache>> {
        self.data().cache.get()
    }

    /// Whether it remembers anything, or may.
    #[inline]
    pub(super) fn remembers(&self) -> bool {
        self.cache().is_some()
    }

    pub(super) fn make_cache(&self) -> Result<ArcBorrow<'_, DirCache>> {
        if self.cache().is_none() {
            // Where another task is quicker its cache is used, and this one dropped.
            let first = books::patience(self.lowers().len() as u32);
            let new = DirCache::new(self.fs().dir_caches(), first)?;
            drop(self.data().cache.set(new));
        }
        self.cache().ok_or(ENOMEM)
    }

    fn lower_dentries(&self) -> impl Iterator<Item = Result<&vfs::Dentry>> {
        self.lowers().iter().map(|lower| Ok(lower.dentry()))
    }

    /// The lower layers of this directory that may hold `name`.
    #[inline]
    pub(crate) fn holders(&self, name: &[u8]) -> Holders {
        match self.cache() {
            Some(cache) => self.known_holders(cache, name),
            None => Holders::all(self.lowers().len()),
        }
    }

    /// Those that `cache` knows, or all.
    #[inline(never)]
    fn known_holders(&self, cache: ArcBorrow<'_, DirCache>, name: &[u8]) -> Holders {
        let Some(names) = cache.known_names() else {
            return Holders::all(self.lowers().len());
        };
        let range = names.find(name, self.folding());
        Holders::known(names, range)
    }

    /// Notes what came of asking `holders` for a name in this directory, of whom `missed` did not have it; learns which names the
    /// layers hold once that pays. With the mounter's credentials.
    #[inline]
    pub(crate) fn asked(&self, holders: &Holders, missed: usize) {
        let layers = self.lowers().len();
        let count = match holders.are_known() {
            true => holders.spared(layers),
            false if layers > 1 => books::lookup(missed),
            false => 0,
        };
        if self.are_out_of_patience(count) {
            self.out_of_patience(holders.are_known());
        }
    }

    /// Notes that a name was created in this directory which no layer had.
    #[inline]
    pub(crate) fn created(&self) {
        let are_known = || {
            self.cache()
                .is_some_and(|cache| cache.known_names().is_some())
        };
        if self.lowers().len() > 1 && !are_known() && self.are_out_of_patience(books::CREATION) {
            cred::scope(self.fs().creds(), |_| self.out_of_patience(false));
        }
    }

    /// Whether `asks` more layers asked, or spared, are as many as were waited for.
    #[inline]
    fn are_out_of_patience(&self, asks: usize) -> bool {
        let asks = asks as i32;
        asks != 0 && self.data().patience.fetch_sub(asks, Relaxed) <= asks
    }

    #[inline(never)]
    fn out_of_patience(&self, spared: bool) {
        if let Ok(cache) = self.make_cache() {
            let are_known = cache.known_names().is_some();
            match spared {
                true => self.book_spared(cache, are_known),
                false => self.think(cache, are_known),
            }
        }
    }

    /// Whether another task has been out of patience since this one was.
    fn is_late(&self) -> bool {
        self.data().patience.load(Relaxed) > 0
    }

    /// Enters in the books of the mount what was spared.
    fn book_spared(&self, cache: ArcBorrow<'_, DirCache>, are_known: bool) {
        let layers = self.lowers().len() as u32;
        let lookups = cache.lookups.xchg(0, Acquire);
        if lookups == 0 {
            return;
        }
        let mut next = lookups;
        if are_known && !self.is_late() {
            cache.all.books.spared(layers.saturating_mul(lookups));
            next = (lookups * 2).min(BOOKED_AT_ONCE);
            let more = layers.saturating_mul(next);
            self.data().patience.store(more as i32, Relaxed);
        }
        cache.lookups.store(next, Release);
    }

    /// Thinks of learning the names.
    fn think(&self, cache: ArcBorrow<'_, DirCache>, are_known: bool) {
        let asked = cache.asked.xchg(BUSY, Acquire);
        if asked == BUSY {
            return;
        }
        let layers = self.lowers().len() as u32;
        let first = books::patience(layers);
        let (next, more) = match asked {
            _ if self.is_late() => (asked, None),
            _ if are_known => (asked, Some(layers)),
            LEARNT => (first, Some(first)),
            _ => match self.consider(cache, asked) {
                // It was asked so often that it is thought of no more.
                Some(next) if next == asked => (next, Some(u32::MAX)),
                Some(next) => (next, Some((next - asked).max(first))),
                None => (LEARNT, None),
            },
        };
        if let Some(more) = more {
            let more = i32::try_from(more).unwrap_or(i32::MAX);
            self.data().patience.store(more, Relaxed);
        }
        cache.asked.store(next, Release);
    }

    /// Learns the names if that pays, after lookups in vain that cost as much as asking `asked` layers; or returns at how many it is
    /// thought of again.
    fn consider(&self, cache: ArcBorrow<'_, DirCache>, asked: u32) -> Option<u32> {
        let (books, layers) = (&cache.all.books, self.lowers().len());
        books.asked(asked.saturating_sub(cache.booked.xchg(asked, Relaxed)));
        let about = self.names_about().max(cache.seen.load(Relaxed) as usize);
        let least = books::price(layers, about);
        let enough = books::asks(least);
        let after = |more: u32| Some(asked.saturating_add(more.min(asked)).min(BUSY - 1));
        if asked < enough {
            return Some(enough.min(BUSY - 1));
        }
        if about > MAX_NAMES {
            return after(asked);
        }
        let left = books.left();
        let short = books::short(least, left);
        if short != 0 {
            return after(short);
        }
        // What is known of their number is a guess: for that, more than is left may be spent.
        let most = books::price(layers, about + about / 4).max(books::cost(asked));
        let budget = books::names(layers, most.min(left + least / 4));
        let mut names = Names::new();
        let learnt = self.learn(cache, &mut names, budget.min(MAX_NAMES));
        let count = names.rows.len();
        books.pay(books::price(layers, count));
        // Before others use them.
        cache.booked.store(0, Relaxed);
        cache.lookups.store(1, Relaxed);
        self.data().patience.store(layers as i32, Relaxed);
        match learnt.and_then(|watch| cache.remember_names(watch, names)) {
            Ok(()) => {
                cache.seen.store(count as u32, Relaxed);
                None
            }
            Err(e) => {
                cache.unwatch();
                cache.booked.store(asked, Relaxed);
                if e == E2BIG {
                    let most = MAX_NAMES.max(count + 1);
                    cache.seen.store((count * 2).min(most) as u32, Relaxed);
                }
                after(asked)
            }
        }
    }

    /// The sizes of its lower directories.
    fn lower_sizes(&self) -> impl Iterator<Item = i64> + '_ {
        let inodes = self.lowers().iter();
        inodes.filter_map(|lower| lower.dentry().inode().map(Inode::size))
    }

    /// How many names the lower layers have, about.
    fn names_about(&self) -> usize {
        let names = self.lower_sizes().map(names_in);
        to_count(names.fold(0, i64::saturating_add))
    }

    /// How many names there are in those of its lower layers that tell.
    pub(super) fn told_names(&self) -> usize {
        let sizes = self.lower_sizes().filter(|size| tells(*size));
        to_count(sizes.fold(0, i64::saturating_add) / SIZE_OF_NAME)
    }

    /// Reads the names of all lower layers into `names`, `budget` at most; returns what watches them since before.
    fn learn(
        &self,
        cache: ArcBorrow<'_, DirCache>,
        names: &mut Names,
        budget: usize,
    ) -> Result<Arc<Watch>> {
        let watch = cache.watch(self.lower_dentries(), self.fs().folds)?;
        let folding = self.folding();
        for (position, lower) in self.lowers().iter().enumerate() {
            let path = lower.path();
            // A lookup waits for nobody's leave to open a directory.
            if path.mnt().sb().asks_listeners() {
                return Err(EBUSY);
            }
            // Where looking a name up would be refused, it must go on being refused.
            path.positive()?.permission(path.idmap(), may::EXEC)?;
            readdir::read_all(path, |entry| match entry.name {
                b"." | b".." => Ok(()),
                _ if names.rows.len() >= budget => Err(E2BIG),
                name => names.push(name, position, folding),
            })?;
        }
        Ok(watch)
    }

    /// The directory's listing: what is remembered, or else what `read` reads. It is remembered when it
    /// is read a second time without a change in between. The directory is locked, shared at least.
    pub(crate) fn listing(&self, read: impl FnOnce() -> Result<Listing>) -> Result<Arc<Listing>> {
        if let Some(listing) = self.remembered_listing() {
            return Ok(listing);
        }
        let flags = self.flags();
        if !flags.test(DirFlag::Listed) {
            flags.set(DirFlag::Listed);
            return Ok(Arc::new(read()?, GFP_KERNEL)?);
        }
        // Watched first, read then. Where it can't be watched it isn't remembered, that's all.
        let watched = self.watch_all();
        let listing = Arc::new(read()?.trim(), GFP_KERNEL_ACCOUNT)?;
        if let Ok((cache, lowers, upper)) = watched {
            let kept = Kept {
                listing: listing.clone(),
                upper,
                merged: true,
            };
            cache.remember(&lowers, kept, |known, kept| known.listing.replace(kept))?;
        }
        Ok(listing)
    }

    /// Remembers a listing that depends on changes made through the mount alone.
    pub(crate) fn remember_own(&self, listing: Arc<Listing>) -> Result {
        let cache = self.make_cache()?;
        let kept = Kept {
            listing,
            upper: None,
            merged: false,
        };
        let old = cache.update(|known| known.listing.replace(kept));
        drop(old);
        cache.enlist()
    }

    /// The listing that is remembered, if it still holds.
    pub(crate) fn remembered_listing(&self) -> Option<Arc<Listing>> {
        let cache = self.cache()?;
        let known = cache.known.lock();
        let kept = known.listing.as_ref()?;
        let lowers = known.lowers.as_ref().filter(|_| !known.changed());
        let holds = kept.listing.version() == self.version()
            && kept.listing.is_complete()
            && (!kept.merged || lowers.is_some())
            && !kept.upper.as_ref().is_some_and(Watch::changed);
        holds.then(|| kept.listing.clone())
    }

    fn watch_all(&self) -> Result<(ArcBorrow<'_, DirCache>, Arc<Watch>, Option<Watch>)> {
        let cache = self.make_cache()?;
        let lowers = cache.watch(self.lower_dentries(), self.fs().folds)?;
        let upper = match self.upper() {
            Some(dentry) if dentry.is_watchable(self.fs().folds) => {
                Some(Watch::new(core::iter::once(dentry.positive()))?)
            }
            Some(_) => return Err(EOPNOTSUPP),
            None => None,
        };
        Ok((cache, lowers, upper))
    }
}
