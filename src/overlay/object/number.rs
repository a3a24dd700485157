// SPDX-License-Identifier: GPL-2.0

//! `st_ino` and `st_dev` of the union's files, without `xino`. Pure.

/// Whether inode numbers of all layers come from one filesystem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// Yes: real numbers are unique, and the union's device goes with them.
    OneFs,
    /// No.
    SeveralFs,
}

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

/// Whether a copied-up file shows the number of its origin; `links` is the origin's link count.
pub(crate) fn shows_origin(layout: Layout, is_dir: bool, links: u32) -> bool {
    if is_dir {
        layout == Layout::OneFs
    } else {
        // The links of one lower file may have been copied up to several upper files.
        links == 1
    }
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
        assert!(shows_origin(Layout::OneFs, false, 1));
        assert!(!shows_origin(Layout::OneFs, false, 2));
        assert!(shows_origin(Layout::OneFs, true, 5));
        assert!(!shows_origin(Layout::SeveralFs, true, 5));
        assert!(shows_origin(Layout::SeveralFs, false, 1));
    }
}
