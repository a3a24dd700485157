// SPDX-License-Identifier: GPL-2.0

//! The real objects behind an inode.
//!
//! Three questions are asked of an inode, and each has its answer by name: which real object answers for its
//! [attributes](Reals::attributes), which one has its [content](Reals::content), and which one gives its
//! [number](Reals::number).

use super::lowerdata::{DataFound, InDataLayer};
use crate::{
    overlay::layer::UPPER,
    vfs::{
        backing::{LowerPath, LowerPaths},
        mount::PathRef,
        sync::Flags,
    },
};
use kernel::{impl_flags, prelude::*};

/// By which real object the inode hash knows an inode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The lower one: the inode, and its number, stay the same over copy-up.
    Lower,
    /// The upper one.
    Upper,
    /// None: a link of a lower file is an inode of its own until it is copied up; the root.
    None,
}

impl_flags!(
    /// States of anything but a directory.
    #[derive(Clone, Copy)]
    pub(crate) struct LeafFlags(u32);

    /// A state of anything but a directory.
    #[derive(Clone, Copy)]
    pub(crate) enum LeafFlag {
        /// Upper, if it has the file, has it without its data, which is that of the lowest of the lower objects.
        Bare = 1,
        /// What answers for the attributes has a digest of the data, which is elsewhere.
        Digest = 2,
        /// The data, which is elsewhere, was compared with that, or need not be.
        Verified = 4,
        /// The object in upper is an entry of the index, too.
        Indexed = 8,
    }
);

/// What anything but a directory has.
pub(crate) struct Leaf {
    identity: Identity,
    /// Changed while the operation lock is held: set before the object in upper is, if at all, and cleared once, or never; but
    /// for [`LeafFlag::Verified`].
    flags: Flags<LeafFlags>,
    /// Where its data is, if that is a data-only layer: none of the lower objects has it then.
    data: Option<KBox<InDataLayer>>,
}

impl Leaf {
    /// What is hashed by `identity`, with the data that was found; `is_indexed` where upper has it as an entry of the index.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(identity: Identity, found: DataFound, is_indexed: bool) -> Result<Self> {
        let flags = Flags::new();
        if is_indexed {
            flags.set(LeafFlag::Indexed);
        }
        if found.is_bare {
            flags.set(LeafFlag::Bare);
        }
        if found.has_digest {
            flags.set(LeafFlag::Digest);
        }
        let data = found.in_data_layer.map(InDataLayer::new);
        Ok(Self {
            identity,
            flags,
            data: data.transpose()?,
        })
    }

    /// Nothing yet.
    pub(super) fn empty() -> Self {
        Self {
            identity: Identity::None,
            flags: Flags::new(),
            data: None,
        }
    }

    /// By what the inode is hashed.
    #[inline]
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether upper, if it has the object, has all of it; once it has, it has for good.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        !self.flags.test(LeafFlag::Bare)
    }

    /// Notes that what upper will have lacks its data, of which it says what digest that has if `has_digest`. The
    /// operation lock is held.
    pub(super) fn set_bare(&self, has_digest: bool) {
        match has_digest {
            true => self.flags.set(LeafFlag::Digest),
            false => self.flags.clear(LeafFlag::Digest),
        }
        self.flags.clear(LeafFlag::Verified);
        self.flags.set(LeafFlag::Bare);
    }

    /// Whether the object in upper is an entry of the index, too.
    #[inline]
    pub(super) fn is_indexed(&self) -> bool {
        self.flags.test(LeafFlag::Indexed)
    }

    /// Notes that what upper will have is one. The operation lock is held.
    pub(super) fn set_indexed(&self) {
        self.flags.set(LeafFlag::Indexed);
    }

    /// Whether the data, which is elsewhere, has a recorded digest.
    pub(super) fn has_digest(&self) -> bool {
        self.flags.test(LeafFlag::Digest)
    }

    /// Whether it was compared with that.
    pub(super) fn is_verified(&self) -> bool {
        self.flags.test(LeafFlag::Verified)
    }

    /// Notes that it was.
    pub(super) fn set_verified(&self) {
        self.flags.set(LeafFlag::Verified);
    }

    /// Notes that what upper has, or will have, has its data. The operation lock is held.
    pub(super) fn set_whole(&self) {
        if !self.is_whole() {
            self.flags.clear(LeafFlag::Bare);
        }
    }
}

/// Where the data of a file is.
#[derive(Clone, Copy)]
pub(crate) enum DataAt<'a> {
    /// Where its attributes are.
    Here,
    /// In a layer below that.
    There(Real<'a>),
    /// In a data-only layer, in which nobody has looked for it yet.
    NotLookedUp(&'a InDataLayer),
}

/// A real object and the layer that it is in.
#[derive(Clone, Copy)]
pub(crate) struct Real<'a> {
    /// Its path.
    pub(crate) path: PathRef<'a>,
    /// The layer's index; [`UPPER`] for upper.
    pub(crate) layer: u16,
}

impl<'a> Real<'a> {
    fn of_lower(lower: LowerPath<'a>) -> Self {
        Self {
            path: lower.path(),
            layer: lower.layer(),
        }
    }

    /// Whether it is in upper.
    #[inline]
    pub(crate) fn is_upper(self) -> bool {
        self.layer == UPPER
    }
}

/// The real objects behind an inode, looked at once: a copy-up may set the upper one meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Reals<'a> {
    upper: Option<PathRef<'a>>,
    lowers: LowerPaths<'a>,
    identity: Identity,
    /// None of a directory.
    leaf: Option<&'a Leaf>,
}

impl<'a> Reals<'a> {
    /// What is behind an inode that is hashed by `identity`; `leaf` of anything but a directory.
    #[inline]
    pub(super) fn new(
        upper: Option<PathRef<'a>>,
        lowers: LowerPaths<'a>,
        identity: Identity,
        leaf: Option<&'a Leaf>,
    ) -> Self {
        Self {
            upper,
            lowers,
            identity,
            leaf,
        }
    }

    fn topmost_lower(self) -> Option<Real<'a>> {
        self.lowers.first().map(Real::of_lower)
    }

    fn is_dir(self) -> bool {
        self.leaf.is_none()
    }

    /// The one that answers for the attributes: upper, else the topmost lower one; `ESTALE` where there is none.
    #[inline]
    pub(crate) fn attributes(self) -> Result<Real<'a>> {
        match self.upper {
            Some(path) => Ok(Real { path, layer: UPPER }),
            None => self.topmost_lower().ok_or(ESTALE),
        }
    }

    /// The one that has the content: of a file the data, of a directory the entries of the topmost layer, of a symlink the
    /// target; `ESTALE` where there is none. Of a file that upper, or the topmost lower layer, has without its data it is
    /// the lowest, or one of a data-only layer once [`lowerdata::content`](super::lowerdata::content) has found that.
    #[inline]
    pub(crate) fn content(self) -> Result<Real<'a>> {
        match self.upper {
            Some(path) if self.leaf.is_none_or(Leaf::is_whole) => Ok(Real { path, layer: UPPER }),
            _ => self.lower_content().ok_or(ESTALE),
        }
    }

    /// Whether there is but one, which answers all questions.
    #[inline]
    pub(crate) fn are_one(self) -> bool {
        let has_all = self.leaf.is_none_or(|leaf| leaf.data.is_none());
        has_all && self.lowers.len() == usize::from(self.upper.is_none())
    }

    /// Where the data of a file is.
    #[inline]
    pub(crate) fn data(self) -> DataAt<'a> {
        let Some(leaf) = self.leaf else {
            return DataAt::Here;
        };
        match (self.upper, &leaf.data) {
            (Some(_), _) if leaf.is_whole() => DataAt::Here,
            (_, Some(data)) => data
                .found()
                .map_or(DataAt::NotLookedUp(data), DataAt::There),
            (None, None) if self.lowers.len() == 1 => DataAt::Here,
            (_, None) => self
                .lowers
                .last()
                .map_or(DataAt::Here, |lower| DataAt::There(Real::of_lower(lower))),
        }
    }

    /// The lower one that has the content, or had it before it was copied up.
    #[inline]
    pub(super) fn lower_content(self) -> Option<Real<'a>> {
        match self.leaf {
            None => self.topmost_lower(),
            Some(Leaf { data: None, .. }) => self.lowers.last().map(Real::of_lower),
            Some(Leaf {
                data: Some(data), ..
            }) => data.found(),
        }
    }

    /// The lower one that a copied-up object came from, where the inode number is its.
    pub(crate) fn origin(self) -> Option<Real<'a>> {
        match self.upper {
            Some(_) if self.identity == Identity::Lower => self.topmost_lower(),
            _ => None,
        }
    }

    /// The one whose number is shown.
    pub(crate) fn number(self) -> Result<Real<'a>> {
        match self.origin() {
            Some(origin) => Ok(origin),
            None => self.attributes(),
        }
    }

    /// Whether it is a directory of several layers.
    pub(crate) fn is_merged(self) -> bool {
        self.is_dir() && self.lowers.len() > usize::from(self.upper.is_none())
    }
}
