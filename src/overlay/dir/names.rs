// SPDX-License-Identifier: GPL-2.0

//! Which lower layers of a directory hold which names.
//!
//! What it answers: a lower layer that it does not give for a name has nothing of that name, since (1) the
//! layer's directory was watched before it was read, (2) nothing was reported of it up to now, and (3) its
//! filesystem lists every name that it can look up ([`is_watchable`](crate::vfs::Dentry::is_watchable); a forged one
//! may not). A layer that it gives is asked: two names may share a hash.

use crate::vfs::folding::{Folding, NameSalt};
use core::ops::Range;
use kernel::{prelude::*, sync::Arc};

/// Which lower layers hold which names.
pub(super) struct Names {
    pub(super) salt: NameSalt,
    /// A name's hash, then 16 bits for the position of a layer that holds it; sorted.
    pub(super) rows: KVVec<u64>,
}

impl Names {
    /// None yet.
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

    fn key(&self, name: &[u8], folding: Folding<'_>) -> u64 {
        u64::from(self.salt.hash(name, folding)) << 16
    }

    /// Adds `name`, which the layer at `position` holds.
    pub(super) fn push(&mut self, name: &[u8], position: usize, folding: Folding<'_>) -> Result {
        let row = self.key(name, folding) | u64::from(u16::try_from(position)?);
        Ok(self.rows.push(row, GFP_KERNEL_ACCOUNT)?)
    }

    /// The rows of `name`.
    pub(super) fn find(&self, name: &[u8], folding: Folding<'_>) -> Range<usize> {
        let key = self.key(name, folding);
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
    pub(super) names: Option<Arc<Names>>,
    /// Positions in the lower stack, or rows of `names`.
    pub(super) range: Range<usize>,
}

impl Holders {
    /// Without those above position `start`.
    pub(crate) fn below(mut self, start: usize) -> Self {
        self.range.start = match &self.names {
            None => start,
            Some(names) => {
                let rows = names.rows.get(self.range.clone()).unwrap_or_default();
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
        match &self.names {
            None => Some(at),
            Some(names) => Some((names.rows.get(at)? & 0xffff) as usize),
        }
    }
}

#[kernel::macros::kunit_tests(rovl_dir_names)]
mod tests {
    use super::*;

    fn holders(names: &Arc<Names>, name: &[u8]) -> Holders {
        Holders {
            range: names.find(name, Folding::NONE),
            names: Some(names.clone()),
        }
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
        names.sort();
        // What can't be given back stays.
        let _ = names.rows.shrink_to(0, GFP_KERNEL_ACCOUNT);
        let names = Arc::new(names, GFP_KERNEL)?;
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
        let mut below = holders(&names, &1u32.to_ne_bytes()).below(3);
        assert!(below.all(|at| at >= 3));
        let all = Holders {
            names: None,
            range: 0..5,
        };
        assert_eq!(all.below(3).next(), Some(3));
        Ok(())
    }

    #[test]
    fn absent_names() -> Result {
        let mut names = Names::new();
        for i in 0..1000u32 {
            names.push(&i.to_ne_bytes(), 0, Folding::NONE)?;
        }
        names.sort();
        // What can't be given back stays.
        let _ = names.rows.shrink_to(0, GFP_KERNEL_ACCOUNT);
        let names = Arc::new(names, GFP_KERNEL)?;
        // A thousand names in 32 bits: a few shared hashes at the very most.
        let asked: usize = (1000..2000u32)
            .map(|i| holders(&names, &i.to_ne_bytes()).count())
            .sum();
        assert!(asked < 10);
        assert_eq!(
            holders(&Arc::new(Names::new(), GFP_KERNEL)?, b"a").count(),
            0
        );
        Ok(())
    }
}
