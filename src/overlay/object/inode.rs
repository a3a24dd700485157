// SPDX-License-Identifier: GPL-2.0

//! The overlay inode: what stands behind it, what it keeps by its kind, how it is hashed.

use super::{
    protected,
    reals::{Identity, Leaf, Real, Reals},
};
use crate::{
    overlay::{
        dir::cache::DirCache,
        layer::marks,
        union::{Child, Dentry, Inode, Overlay},
    },
    vfs::{
        self,
        dentry::REVALIDATE,
        folding::Folding,
        fs::InodeData,
        mount::{PathRef, Writing},
        sync::{Flags, Once},
        OpGuard, Ref,
    },
};
use core::ops::Deref;
use kernel::{
    impl_flags,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
    },
};

impl_flags!(
    /// What is known of a name, kept with its dentry.
    #[derive(Clone, Copy)]
    pub(crate) struct NameMarks(u32);

    /// One thing that is known of a name.
    #[derive(Clone, Copy)]
    pub(crate) enum NameMark {
        /// The name exists in upper.
        UpperAlias = 1,
        /// A directory that hides what the lower layers have.
        Opaque = 2,
        /// Of a negative dentry: upper has a whiteout.
        Whiteout = 4,
        /// A directory whose layers may hold xattr whiteouts.
        XWhiteouts = 8,
        /// The name was removed; who still has the file open goes on with it.
        Removed = 16,
        /// A directory whose handle, that of its lower one, leads back to it.
        Connected = 32,
    }
);

impl_flags!(
    /// States of a directory.
    #[derive(Clone, Copy)]
    pub(crate) struct DirFlags(u32);

    /// A state of a directory.
    #[derive(Clone, Copy)]
    pub(crate) enum DirFlag {
        /// Upper marks it as one that may hold copied-up entries.
        Impure = 1,
        /// It may hold whiteouts (it is or was merged).
        Whiteouts = 2,
        /// It was listed since its entries last changed.
        Listed = 4,
        /// An entry of the index stands for its directory in upper.
        Indexed = 8,
    }
);

/// What the union keeps with an inode.
pub(crate) enum Data {
    /// With a directory.
    Directory(Directory),
    /// With anything else.
    Other(Leaf),
}

/// What a directory has.
pub(crate) struct Directory {
    pub(super) identity: Identity,
    pub(super) flags: Flags<DirFlags>,
    /// Counts changes that a kept listing must not miss.
    pub(super) version: Atomic<u32>,
    /// What lookups in vain have to cost, in lower layers asked, before it is thought of learning its names; once they are learnt, how
    /// many have to be spared before that is in the books of the mount.
    pub(crate) patience: Atomic<i32>,
    /// What it remembers of its layers.
    pub(crate) cache: Once<Arc<DirCache>>,
}

impl Data {
    #[inline]
    fn identity(&self) -> Identity {
        match self {
            Self::Directory(dir) => dir.identity,
            Self::Other(leaf) => leaf.identity(),
        }
    }

    #[inline]
    fn leaf(&self) -> Option<&Leaf> {
        match self {
            Self::Directory(_) => None,
            Self::Other(leaf) => Some(leaf),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.get() {
            cache.retire();
        }
    }
}

impl InodeData for Data {
    fn empty() -> Self {
        Self::Other(Leaf::empty())
    }
}

impl Inode {
    /// The real objects behind it now.
    #[inline]
    pub(crate) fn reals(&self) -> Reals<'_> {
        // In this order: what is known of the object in upper was known before it was there.
        let (upper, data) = (self.upper_path(), self.data());
        Reals::new(upper, self.lowers(), data.identity(), data.leaf())
    }

    /// Whether it was copied up from a lower object whose number is shown.
    #[inline]
    pub(crate) fn has_origin(&self) -> bool {
        // A lower object is there by which it is hashed.
        self.data().identity() == Identity::Lower && self.upper().is_some()
    }

    /// What it has as anything but a directory.
    pub(super) fn leaf(&self) -> Option<&Leaf> {
        self.data().leaf()
    }

    /// The path of the real object that answers for its attributes; `ESTALE` where there is none.
    #[inline]
    pub(crate) fn attributes(&self) -> Result<PathRef<'_>> {
        Ok(self.reals().attributes()?.path)
    }

    /// The real object that has its content.
    #[inline]
    pub(crate) fn content(&self) -> Result<Real<'_>> {
        self.reals().content()
    }

    /// The one of its lower objects that has its content, or had it before it was copied up.
    pub(crate) fn lower_content(&self) -> Option<PathRef<'_>> {
        Some(self.reals().lower_content()?.path)
    }

    /// Its dentry in upper, where upper has its content.
    #[inline]
    pub(crate) fn content_in_upper(&self) -> Option<&vfs::Dentry> {
        self.upper().filter(|_| self.is_whole())
    }

    /// Whether upper has it without its data.
    pub(crate) fn is_bare(&self) -> bool {
        self.upper().is_some() && !self.is_whole()
    }

    /// Whether upper, if it has it, has all of it.
    #[inline]
    fn is_whole(&self) -> bool {
        match self.data() {
            Data::Directory(_) => true,
            Data::Other(leaf) => leaf.is_whole(),
        }
    }

    /// Its path in upper, which a caller made sure of; `EROFS` otherwise.
    pub(crate) fn expect_upper(&self) -> Result<PathRef<'_>> {
        self.upper_path().ok_or(EROFS)
    }

    /// The topmost of its lower objects.
    #[inline]
    pub(crate) fn lower_path(&self) -> Option<PathRef<'_>> {
        Some(self.lowers().first()?.path())
    }

    /// Whether its object in upper is an entry of the index, too, or a directory that one stands for.
    #[inline]
    pub(crate) fn is_indexed(&self) -> bool {
        match self.data() {
            Data::Directory(dir) => dir.flags.test(DirFlag::Indexed),
            Data::Other(leaf) => leaf.is_indexed(),
        }
    }

    /// Whether it gets an entry of the index when it is copied up; a directory has its name before that, and may be left so.
    #[inline]
    pub(crate) fn will_be_indexed(&self) -> bool {
        self.fs().index().is_some() && self.lacks_index()
    }

    fn lacks_index(&self) -> bool {
        let lower = self.lower_path().and_then(|path| path.dentry().inode());
        let can_be = self.upper().is_none() || (self.mode().is_dir() && !self.is_indexed());
        can_be && lower.is_some_and(|lower| self.fs().indexes(lower))
    }

    /// Whether the topmost of its lower objects has several names.
    pub(crate) fn has_lower_links(&self) -> bool {
        let lower = self.lower_path().and_then(|path| path.dentry().inode());
        lower.is_some_and(|lower| lower.nlink() > 1)
    }

    /// It as a directory.
    #[inline]
    pub(crate) fn as_dir(&self) -> Option<Dir<'_>> {
        match self.data() {
            Data::Directory(data) => Some(Dir { inode: self, data }),
            Data::Other(_) => None,
        }
    }

    /// It as a directory; `ENOTDIR`.
    #[inline]
    pub(crate) fn dir(&self) -> Result<Dir<'_>> {
        self.as_dir().ok_or(ENOTDIR)
    }

    /// Copies owner, mode, times and size from the real object.
    pub(crate) fn refresh(&self) {
        if let Ok(path) = self.attributes() {
            if let Some(real) = path.dentry().inode() {
                self.copy_attr(real, path.idmap());
            }
        }
    }

    /// As [`refresh`](Self::refresh), where owner or mode, all that set-id bits depend on, are not up to date.
    #[inline]
    pub(crate) fn refresh_mode(&self) {
        let Some(path) = self.upper_path() else {
            return;
        };
        let upper = path.dentry().inode();
        if upper.is_some_and(|upper| !upper.has_mode_of(path.idmap(), self)) {
            self.refresh();
        }
    }

    /// Whether a copy-up leaves its number as it is.
    pub(crate) fn keeps_number(&self) -> bool {
        self.data().identity() == Identity::Lower
    }

    /// The revalidation flags of its real dentries.
    pub(crate) fn revalidate_flags(&self) -> u32 {
        let upper = self.upper().map_or(0, vfs::Dentry::revalidate_flags);
        let lowers = self.lowers().as_slice().iter();
        lowers.fold(upper, |flags, lower| {
            flags | lower.dentry().revalidate_flags()
        }) & REVALIDATE
    }
}

/// An inode that is a directory.
#[derive(Clone, Copy)]
pub(crate) struct Dir<'a> {
    inode: &'a Inode,
    data: &'a Directory,
}

impl Deref for Dir<'_> {
    type Target = Inode;
    #[inline]
    fn deref(&self) -> &Inode {
        self.inode
    }
}

impl<'a> Child<'a> {
    /// The directory that the name is in.
    #[inline]
    pub(crate) fn parent_dir(self) -> Result<Dir<'a>> {
        self.dir().dir()
    }
}

impl<'a> Dir<'a> {
    /// What it has as a directory.
    #[inline]
    pub(crate) fn data(self) -> &'a Directory {
        self.data
    }

    /// Its states.
    #[inline]
    pub(crate) fn flags(self) -> &'a Flags<DirFlags> {
        &self.data.flags
    }

    /// Whether listing it means merging: several layers, or whiteouts to hide.
    pub(crate) fn lists_merged(self) -> bool {
        // Nearly all that are merged have the flag.
        self.data.flags.test(DirFlag::Whiteouts) || self.reals().is_merged()
    }

    /// Which names in it are one.
    pub(crate) fn folding(&self) -> Folding<'_> {
        self.sb().folding()
    }

    /// Whether nothing but upper makes it up, whiteouts included.
    pub(crate) fn is_pure_upper(self) -> bool {
        self.lowers().is_empty() && !self.data.flags.test(DirFlag::Whiteouts)
    }

    /// Notes a change of its entries in upper; `copied_up` where an entry with an origin is concerned. It is locked.
    pub(crate) fn entries_changed(self, copied_up: bool) {
        self.refresh();
        if self.lists_merged() || copied_up || self.data.flags.test(DirFlag::Listed) {
            self.forget_listing();
        }
    }

    /// Makes all listings out of date: its entries changed, or it is in upper now.
    pub(crate) fn forget_listing(self) {
        self.data.version.fetch_add(1, Full);
        if self.data.flags.test(DirFlag::Listed) {
            self.data.flags.clear(DirFlag::Listed);
        }
        if let Some(cache) = self.data.cache.get() {
            cache.forget_listing();
        }
    }

    /// The version of its entries.
    pub(crate) fn version(self) -> u32 {
        self.data.version.load(Relaxed)
    }

    /// Whether upper marks it as one that may hold copied-up entries.
    #[inline]
    pub(crate) fn is_impure(self) -> bool {
        self.data.flags.test(DirFlag::Impure)
    }

    /// Marks its upper directory as one that may hold copied-up entries.
    pub(crate) fn set_impure(self, writing: Writing<'_>) -> Result {
        let flags = &self.data.flags;
        if flags.test(DirFlag::Impure) {
            return Ok(());
        }
        let upper = writing.path(self.expect_upper()?.dentry())?;
        // The flag comes first: `clear_impure` leaves the attribute of a flag that it sees.
        flags.set(DirFlag::Impure);
        marks::set_impure(self.fs(), upper).inspect_err(|_| flags.clear(DirFlag::Impure))
    }

    /// Notes that an entry of its upper directory has got an origin with the directory locked shared: what others
    /// have listed does not count, nor does a mark that one of them takes away.
    pub(crate) fn entry_got_origin(self, writing: Writing<'_>) -> Result {
        self.forget_listing();
        self.set_impure(writing)
    }

    /// Takes the mark away from a directory that had no such entries at `version`; best effort: a mark costs the next
    /// listing time, nothing else. Who adds an entry otherwise than by [`entry_got_origin`](Self::entry_got_origin)
    /// has locked the directory, or it is merged.
    pub(crate) fn clear_impure(self, version: u32) {
        let flags = &self.data.flags;
        flags.clear(DirFlag::Impure);
        // Whoever added one since has changed the version before looking at the flag.
        if self.version() != version {
            flags.set(DirFlag::Impure);
            return;
        }
        let Ok(upper) = self.expect_upper() else {
            return;
        };
        let Ok(write) = self.fs().want_write() else {
            return;
        };
        if let Ok(upper) = write.writing().path(upper.dentry()) {
            marks::clear_impure(self.fs(), upper);
            // Set again since: its attribute may be the one that was just removed.
            if flags.test(DirFlag::Impure) {
                let _ = marks::set_impure(self.fs(), upper);
            }
        }
    }
}

/// What a copy-up made of the data of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// The copy has it.
    Whole,
    /// The copy of a file is without, and marked so; with its digest or without.
    Bare { has_digest: bool },
}

/// Sets what a copy-up made as the object in upper of the inode whose operation lock is held.
///
/// # Errors
///
/// `EIO` where it has one, `ESTALE` where `upper` is negative.
#[inline]
pub(crate) fn set_upper(
    held: &OpGuard<'_, Overlay>,
    upper: Ref<'_, vfs::Dentry>,
    copy: Copy,
) -> Result {
    // Before the object: who sees that sees this.
    match (held.inode().data(), copy) {
        (Data::Other(leaf), Copy::Bare { has_digest }) => leaf.set_bare(has_digest),
        _ => set_whole(held),
    }
    let (is_reg, flags) = {
        let real = upper.positive()?;
        (real.mode().is_reg(), real.flags())
    };
    if !is_reg {
        held.inode().set_flags(flags, protected::flags::NOATIME);
    }
    held.set_upper(upper)?;
    if let Some(dir) = held.inode().as_dir() {
        dir.forget_listing();
    }
    Ok(())
}

/// Notes that the object that will be set as that in upper of the inode whose operation lock is held is an entry of the index,
/// or that one stands for the directory that was set.
pub(crate) fn set_indexed(held: &OpGuard<'_, Overlay>) {
    match held.inode().data() {
        Data::Directory(dir) => dir.flags.set(DirFlag::Indexed),
        Data::Other(leaf) => leaf.set_indexed(),
    }
}

/// Notes that the object in upper of the inode whose operation lock is held has its data now.
pub(crate) fn set_whole(held: &OpGuard<'_, Overlay>) {
    if let Data::Other(leaf) = held.inode().data() {
        leaf.set_whole();
    }
}

/// The revalidation flags of the real dentries behind `dentry`.
pub(crate) fn revalidate_flags(dentry: &Dentry) -> u32 {
    dentry.own_inode().map_or(0, Inode::revalidate_flags)
}
