// SPDX-License-Identifier: GPL-2.0

//! When a directory learns what its layers hold, keeps its listing, and forgets both.

use super::{
    cache::{DirCache, Kept},
    listing::Listing,
    names::{Holders, Names},
};
use crate::{
    overlay::object::inode::{Dir, DirFlag},
    vfs::{self, file::may, readdir, watch::Watch},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc, ArcBorrow},
};

/// Layers asked in vain, for each layer of a directory, before its names are learnt: opening, watching
/// and closing a directory costs about as much as so many lookups of a missing name.
const PATIENCE: u32 = 24;
/// Names that are read for each layer that was asked in vain: what one such question costs.
const NAMES_PER_MISS: usize = 3;
/// Bytes of a directory's size for each of its names, about, and rather too many.
const SIZE_OF_NAME: i64 = 64;
/// Most names that are learnt of a directory, 8 bytes each.
const MAX_NAMES: usize = 1 << 20;

impl Dir<'_> {
    #[inline]
    fn cache(&self) -> Option<ArcBorrow<'_, DirCache>> {
        self.data().cache.get()
    }

    fn make_cache(&self) -> Result<ArcBorrow<'_, DirCache>> {
        if self.cache().is_none() {
            // Where another task is quicker its cache is used, and this one dropped.
            let new = DirCache::new(self.fs().dir_caches())?;
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
        let known = self
            .cache()
            .and_then(|cache| self.known_holders(cache, name));
        known.unwrap_or_else(|| Holders {
            names: None,
            range: 0..self.lowers().len(),
        })
    }

    /// Those that `cache` knows.
    #[inline(never)]
    fn known_holders(&self, cache: ArcBorrow<'_, DirCache>, name: &[u8]) -> Option<Holders> {
        let known = cache.known.lock();
        let names = known.names.clone().filter(|_| !known.changed())?;
        drop(known);
        Some(Holders {
            range: names.find(name, self.folding()),
            names: Some(names),
        })
    }

    /// Notes that `layers` lower layers were asked in vain for a name in this directory; learns which
    /// names they hold once that has cost as much. With the mounter's credentials.
    #[inline]
    pub(crate) fn missed(&self, layers: usize) {
        if layers != 0 && self.lowers().len() > 1 {
            self.asked_in_vain(layers);
        }
    }

    fn asked_in_vain(&self, layers: usize) {
        let data = self.data();
        let layers = u32::try_from(layers).unwrap_or(u32::MAX);
        let asked = data.asked.fetch_add(layers, Relaxed).saturating_add(layers);
        let enough = PATIENCE.saturating_mul(self.lowers().len() as u32);
        if asked < enough {
            return;
        }
        let Ok(cache) = self.make_cache() else {
            return;
        };
        // One task learns at a time.
        if asked < cache.learn_at.load(Relaxed) || data.asked.xchg(0, Relaxed) < enough {
            return;
        }
        let budget = (asked as usize)
            .saturating_mul(NAMES_PER_MISS)
            .min(MAX_NAMES);
        if self.learn(cache, budget).is_err() {
            // Too many names, or they can't be had: it is tried again when it has cost more.
            cache.learn_at.store(asked.saturating_mul(4), Relaxed);
            cache.unwatch();
        }
    }

    /// Reads the names of all lower layers.
    fn learn(&self, cache: ArcBorrow<'_, DirCache>, budget: usize) -> Result {
        let lowers = self.lowers().iter();
        let inodes = lowers.filter_map(|lower| lower.dentry().inode());
        let about: i64 = inodes.map(|inode| inode.size() / SIZE_OF_NAME).sum();
        if about > i64::try_from(budget)? {
            return Err(E2BIG);
        }
        let watch = cache.watch(self.lower_dentries(), self.fs().folds)?;
        let (mut names, folding) = (Names::new(), self.folding());
        for (position, lower) in self.lowers().iter().enumerate() {
            let path = lower.path();
            // A lookup waits for nobody's leave to open a directory.
            if path.mnt().sb().asks_listeners() {
                return Err(EBUSY);
            }
            // Where looking a name up would be refused, it must go on being refused.
            path.positive()?.permission(path.idmap(), may::EXEC)?;
            readdir::read_all(path, |entry| {
                if names.rows.len() >= budget {
                    return Err(E2BIG);
                }
                match entry.name {
                    b"." | b".." => Ok(()),
                    name => names.push(name, position, folding),
                }
            })?;
        }
        names.sort();
        // What can't be given back stays.
        let _ = names.rows.shrink_to(0, GFP_KERNEL_ACCOUNT);
        let names = Arc::new(names, GFP_KERNEL_ACCOUNT)?;
        cache.remember(&watch, names, |known, names| known.names.replace(names))
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
