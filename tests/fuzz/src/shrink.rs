// SPDX-License-Identifier: GPL-2.0
//! Makes a failing case as short as it can be.

use crate::case::Case;
use crate::run::{isolated, Failure, Setup};
use anyhow::Result;
use std::time::{Duration, Instant};

struct Shrink<'a> {
    setup: &'a Setup,
    best: Case,
    failure: Failure,
    end: Instant,
    runs: u32,
}

/// The shortest case that was found with the same failure, that failure, and how many runs it took.
pub fn shrink(
    case: &Case,
    failure: &Failure,
    setup: &Setup,
    limit: Duration,
) -> Result<(Case, Failure, u32)> {
    let mut s = Shrink {
        setup,
        best: case.clone(),
        failure: failure.clone(),
        end: Instant::now() + limit,
        runs: 0,
    };
    // Nothing after the failure matters.
    let mut first = case.clone();
    first.steps.truncate(failure.step + 1);
    s.attempt(first)?;
    loop {
        let before = s.size();
        s.list(|c| c.steps.len(), |c, range| drop(c.steps.drain(range)))?;
        s.layers()?;
        s.simplify()?;
        if s.size() == before || s.late() {
            return Ok((s.best, s.failure, s.runs));
        }
    }
}

impl Shrink<'_> {
    fn late(&self) -> bool {
        Instant::now() > self.end
    }

    fn size(&self) -> usize {
        let c = &self.best;
        c.steps.len() + c.upper.len() + c.lowers.iter().map(|l| l.len() + 1).sum::<usize>()
    }

    /// Keeps a case that fails in the same way.
    fn attempt(&mut self, case: Case) -> Result<bool> {
        if self.late() {
            return Ok(false);
        }
        self.runs += 1;
        match isolated(&case, self.setup, false)?.failure {
            Some(f) if f.signature() == self.failure.signature() => {
                self.best = case;
                self.failure = f;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Takes pieces out of a list, large ones first, the last one first.
    fn list(
        &mut self,
        len: impl Fn(&Case) -> usize,
        cut: impl Fn(&mut Case, std::ops::Range<usize>),
    ) -> Result<()> {
        let mut piece = len(&self.best).div_ceil(2).max(1);
        loop {
            let mut end = len(&self.best);
            while end > 0 && !self.late() {
                let start = end.saturating_sub(piece);
                let mut case = self.best.clone();
                cut(&mut case, start..end);
                self.attempt(case)?;
                end = start.min(len(&self.best));
            }
            if piece == 1 || self.late() {
                return Ok(());
            }
            piece = piece.div_ceil(2);
        }
    }

    fn layers(&mut self) -> Result<()> {
        for i in (0..self.best.lowers.len()).rev() {
            if self.best.lowers.len() > 1 {
                let mut case = self.best.clone();
                case.lowers.remove(i);
                if self.attempt(case)? {
                    continue;
                }
            }
            self.list(
                move |c| c.lowers[i].len(),
                move |c, range| drop(c.lowers[i].drain(range)),
            )?;
        }
        self.list(|c| c.upper.len(), |c, range| drop(c.upper.drain(range)))
    }

    fn simplify(&mut self) -> Result<()> {
        let changes: &[fn(&mut Case)] = &[
            |c| c.data.clear(),
            |c| c.verity = false,
            |c| c.verity_required = false,
            |c| {
                for e in c.lowers.iter_mut().chain(&mut c.data).flatten() {
                    (e.guarded, e.digest_of) = (false, None);
                }
            },
            |c| c.split = false,
            |c| c.volatile = false,
            |c| c.nfs_export = false,
            |c| (c.index, c.nfs_export) = (false, false),
            |c| c.xino = false,
            |c| c.xino_auto = false,
            |c| c.uuid_off = false,
            |c| c.metacopy = false,
            |c| (c.redirects, c.metacopy) = (false, false),
            |c| {
                if c.userxattr {
                    c.swap_namespace();
                }
            },
            |c| c.copy_up_open = true,
            |c| c.umask = 0o022,
            |c| c.root_mode = 0o755,
            |c| c.steps.iter_mut().for_each(|s| s.who = 0),
            |c| {
                for e in c.lowers.iter_mut().flatten().chain(&mut c.upper) {
                    (e.flags, e.uid, e.gid, e.time) = (0, 0, 0, 1);
                    e.mode = 0o755;
                    e.xattrs.clear();
                }
            },
        ];
        for change in changes {
            let mut case = self.best.clone();
            change(&mut case);
            if serde_json::to_string(&case)? != serde_json::to_string(&self.best)? {
                self.attempt(case)?;
            }
        }
        for i in 0..self.best.lowers.len() {
            for j in 0..self.best.lowers[i].len() {
                let mut case = self.best.clone();
                let e = &mut case.lowers[i][j];
                if e.flags != 0 || !e.xattrs.is_empty() {
                    (e.flags, e.xattrs) = (0, Vec::new());
                    self.attempt(case)?;
                }
            }
        }
        Ok(())
    }
}
