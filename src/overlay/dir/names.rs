// SPDX-License-Identifier: GPL-2.0

//! Which lower layers of a directory hold which names.
//!
//! What it answers: a lower layer that it does not give for a name has nothing of that name, since (1) the
//! layer's directory was watched before it was read, (2) nothing was reported of it up to now, and (3) its
//! filesystem lists every name that it can look up ([`is_watchable`](crate::vfs::Dentry::is_watchable); a forged one
//! may not). A layer that it gives is asked: two names may share a hash.

use crate::vfs::{
    folding::{Folding, NameSalt},
    published::Shared,
    watch::Watch,
};
use core::ops::Range;
use kernel::{prelude::*, sync::Arc};

/// Rows that a bucket has, about.
const BUCKET: usize = 8;

/// Which lower layers hold which names.
pub(super) struct Names {
    pub(super) salt: NameSalt,
    /// A name's hash, then 16 bits for the position of a layer that holds it; sorted.
    pub(super) rows: KVVec<u64>,
    /// Where the rows of each bucket end. Each bucket has the rows of as many hashes as the next.
    ends: KVVec<u32>,
    /// What watches the layers' directories since before they were read, once all were.
    pub(super) watch: Option<Arc<Watch>>,
}

impl Names {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            salt: NameSalt::random(),
            rows: KVVec::new(),
            ends: KVVec::new(),
            watch: None,
        }
    }

    /// Whether they are what the layers hold now.
    #[inline]
    pub(super) fn hold(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.changed())
    }

    /// Ends the adding of names: puts them in order.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn sort(&mut self) -> Result {
        let rows = core::mem::replace(&mut self.rows, KVVec::new());
        let buckets = rows.len() / BUCKET + 1;
        // How many rows each bucket has, then where its next one goes, and so in the end where it ends.
        let mut ends = KVVec::<u32>::zeroed(buckets, GFP_KERNEL_ACCOUNT)?;
        for row in &rows {
            *ends.get_mut(bucket(*row, buckets)).ok_or(EIO)? += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += core::mem::replace(end, sum);
        }
        let mut sorted = KVVec::<u64>::zeroed(rows.len(), GFP_KERNEL_ACCOUNT)?;
        for row in &rows {
            let end = ends.get_mut(bucket(*row, buckets)).ok_or(EIO)?;
            *sorted.get_mut(*end as usize).ok_or(EIO)? = *row;
            *end += 1;
        }
        let mut start = 0;
        for end in ends.iter().map(|end| *end as usize) {
            sorted.get_mut(start..end).ok_or(EIO)?.sort_unstable();
            start = end;
        }
        (self.rows, self.ends) = (sorted, ends);
        Ok(())
    }

    fn key(&self, name: &[u8], folding: Folding<'_>) -> u64 {
        u64::from(self.salt.hash(name, folding)) << 16
    }

    /// Adds `name`, which the layer at `position` holds.
    pub(super) fn push(&mut self, name: &[u8], position: usize, folding: Folding<'_>) -> Result {
        let row = self.key(name, folding) | u64::from(u16::try_from(position)?);
        Ok(self.rows.push(row, GFP_KERNEL_ACCOUNT)?)
    }

    /// The position that a row tells of.
    #[inline]
    fn position(&self, row: u32) -> Option<usize> {
        let row = self.rows.get(row as usize)?;
        Some((row & 0xffff) as usize)
    }

    /// The rows of `name`.
    pub(super) fn find(&self, name: &[u8], folding: Folding<'_>) -> Range<u32> {
        let key = self.key(name, folding);
        let at = bucket(key, self.ends.len());
        let end = self.ends.get(at).copied().unwrap_or_default();
        let before = at.checked_sub(1).and_then(|at| self.ends.get(at));
        let start = before.copied().unwrap_or_default();
        let rows = self.rows.get(start as usize..end as usize);
        let rows = rows.unwrap_or_default();
        let smaller = rows.partition_point(|row| *row < key);
        let same = |row: &&u64| **row >> 16 == key >> 16;
        let count = rows.iter().skip(smaller).take_while(same).count();
        // There are `MAX_NAMES` rows at most.
        let start = start + smaller as u32;
        start..start + count as u32
    }
}

/// The bucket of `row`, of so many.
#[inline]
fn bucket(row: u64, buckets: usize) -> usize {
    // The hash is less than 2^32.
    ((row >> 16) * buckets as u64 >> 32) as usize
}

/// The lower layers of a directory that may hold a name, topmost first.
pub(crate) struct Holders {
    names: Option<Shared<Names>>,
    /// Positions in the lower stack, or rows of `names`.
    range: Range<u32>,
    /// Where `range` began.
    first: u32,
    /// The topmost position that counts.
    top: u32,
}

impl Holders {
    /// All of so many layers: nothing is known.
    #[inline]
    pub(super) fn all(layers: usize) -> Self {
        Self {
            names: None,
            range: 0..layers as u32,
            first: 0,
            top: 0,
        }
    }

    /// Those that the rows `range` of `names` tell of.
    #[inline]
    pub(super) fn known(names: Shared<Names>, range: Range<u32>) -> Self {
        Self {
            names: Some(names),
            first: range.start,
            range,
            top: 0,
        }
    }

    /// Leaves out those above position `start`; before any was given.
    pub(crate) fn skip_to(&mut self, start: usize) {
        self.top = start as u32;
        match &self.names {
            None => self.range.start = self.top,
            Some(names) => {
                let is_above = |row: &u32| names.position(*row).is_some_and(|at| at < start);
                self.range.start += self.range.clone().take_while(is_above).count() as u32;
            }
        }
        self.first = self.range.start;
    }

    /// Whether none is left to be given.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Whether all that are not given are known not to have the name.
    #[inline]
    pub(super) fn are_known(&self) -> bool {
        self.names.is_some()
    }

    /// How many of `layers` layers were not asked since they are known not to have the name: those above the last that was given,
    /// or all if none was.
    pub(super) fn spared(&self, layers: usize) -> usize {
        let given = self.range.start - self.first;
        let reached = match (given, &self.names) {
            (0, Some(_)) => layers,
            (_, Some(names)) => names.position(self.range.start - 1).map_or(0, |at| at + 1),
            (_, None) => 0,
        };
        reached.saturating_sub((self.top + given) as usize)
    }
}

impl Iterator for Holders {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let Some(names) = &self.names else {
            return self.range.next().map(|at| at as usize);
        };
        loop {
            let at = self.range.next()?;
            let position = names.position(at);
            // Two names of a layer may share a hash.
            if at == self.first || names.position(at - 1) != position {
                return position;
            }
        }
    }
}

#[kernel::macros::kunit_tests(rovl_dir_names)]
mod tests {
    use super::*;

    fn holders(names: &Shared<Names>, name: &[u8]) -> Holders {
        let range = names.find(name, Folding::NONE);
        Holders::known(names.clone(), range)
    }

    #[test]
    fn layers_of_a_name() -> Result {
        let mut names = Names::new();
        for position in [4usize, 0, 2, 2] {
            for i in 0..500u32 {
                names.push(&i.to_ne_bytes(), position, Folding::NONE)?;
            }
        }
        names.push(b"everywhere but in 3", 7, Folding::NONE)?;
        names.sort()?;
        let names = Shared::new(names, GFP_KERNEL)?;
        for i in 0..500u32 {
            // Each layer once, topmost first; others at most where a hash is shared.
            let found = holders(&names, &i.to_ne_bytes());
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
        assert!(holders(&names, b"everywhere but in 3").any(|at| at == 7));
        let below = |position| {
            let mut found = holders(&names, &1u32.to_ne_bytes());
            found.skip_to(position);
            found
        };
        assert!(below(3).all(|at| at >= 3));
        let mut all = Holders::all(5);
        all.skip_to(3);
        assert_eq!(all.next(), Some(3));
        // 0, 2 and 4 have it; who takes the first passes nothing over.
        let mut some = holders(&names, &1u32.to_ne_bytes());
        assert!(some.next() == Some(0) && some.spared(8) == 0);
        assert!(some.next().is_some() && some.spared(8) <= 1);
        let mut some = below(3);
        assert!(some.next().is_some() && some.spared(8) <= 1);
        let mut all = Holders::all(5);
        all.by_ref().for_each(drop);
        assert_eq!(all.spared(5), 0);
        let mut none = Holders::known(names, 0..0);
        none.skip_to(3);
        assert_eq!(none.spared(8), 5);
        Ok(())
    }

    #[test]
    fn absent_names() -> Result {
        let mut names = Names::new();
        for i in 0..1000u32 {
            names.push(&i.to_ne_bytes(), 0, Folding::NONE)?;
        }
        names.sort()?;
        let names = Shared::new(names, GFP_KERNEL)?;
        // A thousand names in 32 bits: a few shared hashes at the very most.
        let asked: usize = (1000..2000u32)
            .map(|i| holders(&names, &i.to_ne_bytes()).count())
            .sum();
        assert!(asked < 10);
        assert_eq!(
            holders(&Shared::new(Names::new(), GFP_KERNEL)?, b"a").count(),
            0
        );
        Ok(())
    }
}
