// SPDX-License-Identifier: GPL-2.0

//! The semantics of lookup on one page: what each layer answered, folded into what the union shows.
//! Pure.

/// What one layer has under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing.
    Miss,
    /// A whiteout.
    Whiteout,
    /// A directory that hides those below it.
    Opaque,
    /// A directory.
    Dir,
    /// A regular file without its data, which is that of a regular file below it.
    Bare,
    /// A regular file with its data.
    File,
    /// Anything else.
    Leaf,
}

/// What the fold says of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Take {
    /// The entry is part of the union.
    Yes,
    /// It is hidden.
    No,
}

/// The lookup so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Merge {
    /// A directory was taken: only directories can follow.
    is_dir: bool,
    /// No further layer counts.
    stop: bool,
    /// Upper hides the lower layers: a whiteout or an opaque directory.
    opaque: bool,
    /// The data of a file is still to be found.
    wants_data: bool,
}

impl Merge {
    /// Adds the answer of the next lower layer.
    pub(crate) fn push(&mut self, step: Step) -> Take {
        match step {
            Step::Miss => return Take::No,
            Step::Whiteout => {
                (self.stop, self.opaque) = (true, true);
                return Take::No;
            }
            Step::Bare | Step::File | Step::Leaf if self.is_dir => {
                self.stop = true;
                return Take::No;
            }
            Step::Opaque | Step::Dir | Step::Leaf if self.wants_data => {
                self.stop = true;
                return Take::No;
            }
            Step::Bare => self.wants_data = true,
            Step::File => (self.stop, self.wants_data) = (true, false),
            Step::Leaf => self.stop = true,
            Step::Opaque => (self.is_dir, self.stop, self.opaque) = (true, true, true),
            Step::Dir => self.is_dir = true,
        }
        Take::Yes
    }

    /// Whether no further layer counts.
    pub(crate) fn is_done(&self) -> bool {
        self.stop
    }

    /// Whether a directory was taken.
    pub(crate) fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// Whether a file was taken whose data was not found so far.
    pub(crate) fn wants_data(&self) -> bool {
        self.wants_data
    }

    /// Whether what was folded so far hides what is below.
    pub(crate) fn is_opaque(&self) -> bool {
        self.opaque
    }
}

#[kernel::macros::kunit_tests(rovl_lookup)]
mod tests {
    use super::{Merge, Step, Step::*, Take};

    fn fold(steps: &[Step]) -> (usize, Merge) {
        let mut merge = Merge::default();
        let mut taken = 0;
        for step in steps {
            if merge.is_done() {
                break;
            }
            if merge.push(*step) == Take::Yes {
                taken += 1;
            }
        }
        (taken, merge)
    }

    #[test]
    fn table() {
        let cases: [(&[Step], usize, bool, bool); 16] = [
            // steps, entries taken, opaque, directory
            (&[], 0, false, false),
            (&[Miss, Miss], 0, false, false),
            (&[Leaf, Leaf], 1, false, false),
            (&[Miss, Leaf, Dir], 1, false, false),
            (&[Dir, Dir, Dir], 3, false, true),
            (&[Dir, Miss, Dir], 2, false, true),
            (&[Dir, Leaf, Dir], 1, false, true),
            (&[Dir, Whiteout, Dir], 1, true, true),
            (&[Dir, Opaque, Dir], 2, true, true),
            (&[Opaque, Dir], 1, true, true),
            (&[Whiteout, Leaf], 0, true, false),
            (&[Leaf, Dir], 1, false, false),
            (&[File, File], 1, false, false),
            (&[Dir, File, Dir], 1, false, true),
            (&[Dir, Bare, File], 1, false, true),
            (&[Dir, Bare, Dir], 1, false, true),
        ];
        for (steps, taken, opaque, dir) in cases {
            let (n, merge) = fold(steps);
            assert_eq!(n, taken);
            assert_eq!(merge.is_opaque(), opaque);
            assert_eq!(merge.is_dir, dir);
        }
    }

    #[test]
    fn data() {
        let cases: [(&[Step], usize, bool); 10] = [
            // steps, entries taken, data still wanted
            (&[File], 1, false),
            (&[Bare], 1, true),
            (&[Bare, File, File], 2, false),
            (&[Bare, Miss, File], 2, false),
            (&[Bare, Bare, File], 3, false),
            (&[Bare, Bare], 2, true),
            (&[Bare, Whiteout, File], 1, true),
            (&[Bare, Leaf, File], 1, true),
            (&[Bare, Dir, File], 1, true),
            (&[Bare, Opaque, File], 1, true),
        ];
        for (steps, taken, wanted) in cases {
            let (n, merge) = fold(steps);
            assert_eq!(n, taken);
            assert_eq!(merge.wants_data(), wanted);
            assert!(!merge.is_dir());
        }
    }
}
