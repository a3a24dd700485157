// SPDX-License-Identifier: GPL-2.0

//! What the mounter and the layers can do, as far as options depend on it. Pure.

use kernel::error::Error;

/// Whether the union's own attributes can be set in upper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnMarks {
    /// They can.
    Work,
    /// The filesystem has none.
    Missing,
    /// The mounter may not.
    NotPermitted,
}

/// What the filesystem of upper can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Features {
    /// Listings tell the type of entries.
    pub(crate) types: bool,
    /// Unnamed files.
    pub(crate) tmpfile: bool,
    /// Direct I/O.
    pub(crate) direct_io: bool,
    /// A rename leaves a whiteout behind.
    pub(crate) whiteouts: bool,
    pub(crate) marks: OwnMarks,
    /// It is a network filesystem, of which all of the above is wanted.
    pub(crate) remote: bool,
}

/// Where the UUID of an upper stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Identity {
    /// It has one.
    Known,
    /// It has got one now.
    Made,
    /// It was used by a union without, and is to go on so.
    Without,
    /// It has one that cannot be read.
    Unreadable(Error),
    /// It has none and cannot be given one.
    Unwritable(Error),
}

/// An upper layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Upper {
    /// None where the work directory cannot be made: the mount is read-only.
    pub(crate) features: Option<Features>,
    pub(crate) identity: Identity,
    /// Its objects have file handles, which the mounter can open.
    pub(crate) handles: bool,
}

/// What file handles of lower objects are good for: to find them again in another mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handles {
    /// Each object has one, which the mounter can open.
    All,
    /// So it is; the filesystem of the lower layer with this number is the one without a UUID, as another one may be that takes
    /// its place.
    Nameless(u16),
    /// Those in the lower layer with this number have none; the topmost one has 1.
    NotOfLower(u16),
    /// The filesystem of the lower layer with this number has the UUID of that of another one, or none like that.
    Ambiguous(u16),
}

/// Which filesystems the layers are on that are merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filesystems {
    /// One.
    One,
    /// Several, which so many high bits of an inode number can tell apart.
    Several(u32),
}

/// What the mounter and the layers can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capabilities {
    /// The mounter may use `trusted.*` attributes.
    pub(crate) sysadmin: bool,
    pub(crate) upper: Option<Upper>,
    pub(crate) handles: Handles,
    pub(crate) filesystems: Filesystems,
}

impl Capabilities {
    /// Those of layers that can do everything. What [`resolve`](super::resolve::resolve) refuses with these it always refuses;
    /// what it agrees to is the most that can come to be.
    pub(crate) fn best(sysadmin: bool, has_upper: bool) -> Self {
        Self {
            sysadmin,
            upper: has_upper.then_some(Upper {
                features: Some(Features {
                    types: true,
                    tmpfile: true,
                    direct_io: true,
                    whiteouts: true,
                    marks: OwnMarks::Work,
                    remote: false,
                }),
                identity: Identity::Known,
                handles: true,
            }),
            handles: Handles::All,
            filesystems: Filesystems::One,
        }
    }
}
