// SPDX-License-Identifier: GPL-2.0

//! Which inode and device numbers the union shows for those of the layers' filesystems. Pure.

/// Where the numbers of a mount come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbering {
    /// All layers are on one filesystem: real numbers are unique, and the union's device goes with them.
    OneFs,
    /// They are on several, each of which has a device for all but directories.
    Apart,
    /// They are on several; so many high bits of a number say which one it is of, and the union's device goes with all. The
    /// lowest of these bits is that of numbers that the union makes.
    Tagged(u32),
}

impl Numbering {
    /// Whether all numbers are of the union's device; but for those that [have no room](Numbers::shown) for a tag.
    #[inline]
    pub(crate) fn has_one_device(self) -> bool {
        self != Self::Apart
    }

    /// What is shown for the numbers of the filesystem that `fsid` finds out, which some need not know.
    #[inline]
    pub(crate) fn of(self, fsid: impl FnOnce() -> u16) -> Numbers {
        match self {
            Self::OneFs => Numbers::REAL,
            Self::Apart => Numbers::NONE,
            Self::Tagged(bits) => Numbers::tagged(bits, fsid()),
        }
    }

    /// The number of the `count`th directory that has none which could be shown.
    pub(crate) fn made(self, count: u64) -> u64 {
        match self {
            Self::OneFs | Self::Apart => count,
            Self::Tagged(bits) => count & (u64::MAX >> bits) | 1 << (u64::BITS - bits),
        }
    }
}

/// How many bits tell filesystems with the numbers up to `last` apart, and those from numbers that are made.
pub(crate) fn bits_up_to(last: usize) -> u32 {
    last.checked_ilog2().unwrap_or(0) + 2
}

/// Which device number goes with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dev {
    /// The union's own.
    Union,
    /// The pseudo device of the layer's filesystem.
    Layer,
}

/// What is shown for the numbers of one filesystem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Numbers {
    /// Bits that are used otherwise.
    taken: u64,
    tag: u64,
}

impl Numbers {
    /// They themselves.
    const REAL: Self = Self { taken: 0, tag: 0 };
    /// None.
    const NONE: Self = Self {
        taken: u64::MAX,
        tag: 0,
    };

    fn tagged(bits: u32, fsid: u16) -> Self {
        let shift = u64::BITS - bits;
        Self {
            taken: u64::MAX << shift,
            tag: u64::from(fsid) << 1 << shift,
        }
    }

    /// The number that is shown on the union's device for `ino`; `None` where there is none.
    #[inline]
    pub(crate) fn shown(self, ino: u64) -> Option<u64> {
        (ino & self.taken == 0).then_some(ino | self.tag)
    }

    /// What a listing shows for `ino`.
    #[inline]
    pub(crate) fn listed(self, ino: u64) -> u64 {
        self.shown(ino).unwrap_or(ino)
    }

    /// Whether that is the same for all.
    pub(crate) fn lists_real(self) -> bool {
        self.tag == 0
    }

    /// What `stat` shows for `ino`; of a directory, the union has `made` a number.
    #[inline]
    pub(crate) fn stat(self, ino: u64, made: Option<u64>) -> (Dev, u64) {
        match (self.shown(ino), made) {
            (Some(ino), _) => (Dev::Union, ino),
            // One device for all directories, so that `find -xdev` does not stop at a layer's edge.
            (None, Some(made)) => (Dev::Union, made),
            (None, None) => (Dev::Layer, ino),
        }
    }
}

#[kernel::macros::kunit_tests(rovl_numbering)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let one = Numbering::OneFs.of(|| 1);
        assert_eq!(one.stat(7, None), (Dev::Union, 7));
        assert_eq!(one.stat(u64::MAX, Some(3)), (Dev::Union, u64::MAX));
        assert_eq!(one.listed(u64::MAX), u64::MAX);
        let apart = Numbering::Apart.of(|| 1);
        assert_eq!(apart.stat(7, None), (Dev::Layer, 7));
        assert_eq!(apart.stat(7, Some(3)), (Dev::Union, 3));
        assert_eq!(Numbering::Apart.made(3), 3);
        // One bit for upper and one lower filesystem, one for what is made.
        let two = Numbering::Tagged(bits_up_to(1));
        let (upper, lower) = (two.of(|| 0), two.of(|| 1));
        assert_eq!(upper.stat(7, None), (Dev::Union, 7));
        assert_eq!(lower.stat(7, None), (Dev::Union, 7 | 1 << 63));
        assert_eq!(lower.stat(7, Some(3)), (Dev::Union, 7 | 1 << 63));
        assert!(upper.lists_real() && !lower.lists_real());
        for numbers in [upper, lower] {
            for ino in [1 << 62, 1 << 63, u64::MAX] {
                assert_eq!(numbers.stat(ino, None), (Dev::Layer, ino));
                assert_eq!(numbers.stat(ino, Some(3)), (Dev::Union, 3));
                assert_eq!(numbers.listed(ino), ino);
            }
        }
        assert_eq!(two.made(3), 3 | 1 << 62);
        assert_eq!(two.made(u64::MAX), u64::MAX >> 1);
    }

    /// Filesystems, and what is made, have no number in common.
    #[test]
    fn apart() {
        for (last, bits) in [(1, 2), (2, 3), (3, 3), (4, 4), (19, 6), (65534, 17)] {
            assert_eq!(bits_up_to(last), bits);
            for bits in [bits, 32] {
                let all = Numbering::Tagged(bits);
                let most = u64::MAX >> bits;
                let range = |fsid: usize| {
                    let numbers = all.of(|| fsid as u16);
                    (numbers.shown(0), numbers.shown(most))
                };
                for fsid in 1..=last.min(20) {
                    assert!(range(fsid - 1).1 < range(fsid).0);
                }
                assert!(range(last).0 < range(last).1);
                assert!(range(0).1 < Some(all.made(0)));
                assert!(Some(all.made(u64::MAX)) < range(1).0);
            }
        }
    }
}
