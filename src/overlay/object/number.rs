// SPDX-License-Identifier: GPL-2.0

//! `st_ino` and `st_dev` of the union's files, without `xino`.

use crate::{
    overlay::{layer::Layout, union::Inode},
    vfs::{
        attr::{statx, Stat},
        cred,
        mount::PathRef,
    },
};
use kernel::prelude::*;

/// Which device number goes with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dev {
    /// The union's own.
    Union,
    /// The pseudo device of the layer's filesystem.
    Layer,
}

/// Which inode number goes with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ino {
    /// The real one.
    Real,
    /// One that the union made for as long as it is mounted.
    Made,
}

/// The numbers that `stat` shows.
pub(crate) fn stat_numbers(layout: Layout, is_dir: bool) -> (Dev, Ino) {
    match (layout, is_dir) {
        (Layout::OneFs, _) => (Dev::Union, Ino::Real),
        // One device for all directories, so that `find -xdev` does not stop at a layer's edge.
        (Layout::SeveralFs, true) => (Dev::Union, Ino::Made),
        (Layout::SeveralFs, false) => (Dev::Layer, Ino::Real),
    }
}

/// Whether a copied-up file shows the number of its origin: one that keeps the origin's links, or of the origin's one name;
/// `links` is the origin's link count.
fn shows_origin(layout: Layout, is_dir: bool, keeps_links: bool, links: u32) -> bool {
    if is_dir {
        layout == Layout::OneFs
    } else {
        // The links of one lower file may have been copied up to several upper files.
        keeps_links || links == 1
    }
}

/// The number of `origin`, which `inode` was copied up from, where that is the one to be shown; `flags` of
/// `AT_STATX_*`.
///
/// # Errors
///
/// What the layer's filesystem says.
#[cold]
pub(crate) fn of_origin(inode: &Inode, origin: PathRef<'_>, flags: u32) -> Result<Option<u64>> {
    let fs = inode.fs();
    let is_dir = inode.mode().is_dir();
    let mut stat = Stat::zeroed();
    let wanted = statx::INO | if is_dir { 0 } else { statx::NLINK };
    cred::scope(fs.creds(), |_| origin.stat_into(&mut stat, wanted, flags))?;
    let shown = shows_origin(fs.layout(), is_dir, inode.is_indexed(), stat.nlink());
    Ok(shown.then(|| stat.ino()))
}

/// The number that `stat` shows of `inode`, where all layers are on one filesystem.
///
/// # Errors
///
/// What the layer's filesystem says.
pub(crate) fn of(inode: &Inode) -> Result<u64> {
    let reals = inode.reals();
    if let Some(origin) = reals.origin() {
        if let Some(ino) = of_origin(inode, origin.path, 0)? {
            return Ok(ino);
        }
    }
    let mut stat = Stat::zeroed();
    let real = reals.attributes()?.path;
    cred::scope(inode.fs().creds(), |_| {
        real.stat_into(&mut stat, statx::INO, 0)
    })?;
    Ok(stat.ino())
}

#[kernel::macros::kunit_tests(rovl_ino)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(stat_numbers(Layout::OneFs, true), (Dev::Union, Ino::Real));
        assert_eq!(stat_numbers(Layout::OneFs, false), (Dev::Union, Ino::Real));
        assert_eq!(
            stat_numbers(Layout::SeveralFs, true),
            (Dev::Union, Ino::Made)
        );
        assert_eq!(
            stat_numbers(Layout::SeveralFs, false),
            (Dev::Layer, Ino::Real)
        );
    }

    #[test]
    fn origins() {
        assert!(shows_origin(Layout::OneFs, false, false, 1));
        assert!(!shows_origin(Layout::OneFs, false, false, 2));
        assert!(shows_origin(Layout::OneFs, false, true, 2));
        assert!(shows_origin(Layout::OneFs, true, false, 5));
        assert!(!shows_origin(Layout::SeveralFs, true, false, 5));
        assert!(shows_origin(Layout::SeveralFs, false, false, 1));
        assert!(shows_origin(Layout::SeveralFs, false, true, 2));
    }
}
