// SPDX-License-Identifier: GPL-2.0

//! The overlay inode: which real object answers for it, its states, how it is hashed.

use crate::overlay::{
    dir::cache::DirCache,
    layer::{marks, xattr_names::own, LowerPath, LowerStack},
    object::{number::Layout, protected},
    union::{Inode, NewInode, Overlay},
};
use crate::vfs::{
    self,
    dentry::REVALIDATE,
    fs::InodeData,
    log::warn_limited,
    mount::PathRef,
    own::Found,
    sync::{Flags, OnceArc, OnceRef},
    Dentry, Mode, SuperBlock,
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
    },
};

/// Inode flag: upper marks the directory as one that may hold copied-up entries.
pub(crate) const IMPURE: usize = 1;
/// Inode flag: the directory may hold whiteouts (it is or was merged).
pub(crate) const WHITEOUTS: usize = 2;
/// Inode flag: the inode number stays the same over copy-up.
pub(crate) const CONST_INO: usize = 4;

/// Inode flag: the directory was listed since its entries last changed.
pub(crate) const LISTED: usize = 8;

/// Dentry mark: the name exists in upper.
pub(crate) const UPPER_ALIAS: usize = 1;
/// Dentry mark: upper hides what the lower layers have (a whiteout where negative).
pub(crate) const OPAQUE: usize = 2;
/// Dentry mark: the name was removed; who still has the file open goes on with it.
pub(crate) const REMOVED: usize = 8;
/// Dentry mark: the directory's layers may hold xattr whiteouts.
pub(crate) const XWHITEOUTS: usize = 4;

/// Flags of an inode that are copied from the layer's inode.
pub(crate) const COPIED_FLAGS: u32 = flags::SYNC | flags::NOATIME | PROTECTED_FLAGS;
/// Flags that are kept in the `protattr` attribute instead of on the upper inode.
pub(crate) const PROTECTED_FLAGS: u32 = flags::APPEND | flags::IMMUTABLE;

/// `S_*` inode flags.
pub(crate) mod flags {
    pub(crate) use crate::vfs::inode::flags::*;
}

/// What the union keeps with an inode.
#[pin_data]
pub(crate) struct Data {
    /// The object in upper; set at creation or by copy-up, once.
    pub(crate) upper: OnceRef<Dentry>,
    /// The objects in lower layers; fixed when the inode is published. For a copied-up file: its
    /// origin, which gives the inode number.
    pub(crate) lower: LowerStack,
    /// [`IMPURE`], [`WHITEOUTS`], [`CONST_INO`], [`LISTED`].
    pub(crate) flags: Flags,
    /// Of a directory: counts changes that a kept listing must not miss.
    pub(crate) version: Atomic<u32>,
    /// Of a directory: lower layers asked in vain since its names were last learnt.
    pub(crate) asked: Atomic<u32>,
    /// Of a directory: what it remembers of its layers.
    pub(crate) cache: OnceArc<DirCache>,
}

impl InodeData for Data {
    fn init() -> impl PinInit<Self> {
        pin_init!(Self {
            upper: OnceRef::new(),
            lower: LowerStack::Empty,
            flags: Flags::new(),
            version: Atomic::new(0),
            asked: Atomic::new(0),
            cache: OnceArc::new(),
        })
    }

    fn release(&self) {
        self.upper.release();
        self.lower.release();
        if let Some(cache) = self.cache.get() {
            cache.retire();
        }
    }
}

/// Which parts an inode has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    /// It is in upper.
    pub(crate) upper: bool,
    /// A directory of several layers.
    pub(crate) merged: bool,
    /// In upper, copied up from a known lower object.
    pub(crate) origin: bool,
}

impl Inode {
    /// Which parts it has now.
    #[inline]
    pub(crate) fn parts(&self) -> Parts {
        let data = self.data();
        if data.upper.get().is_none() {
            return Parts {
                upper: false,
                merged: data.lower.len() > 1,
                origin: false,
            };
        }
        let lower = !data.lower.is_empty();
        Parts {
            upper: true,
            merged: lower && self.mode().is_dir(),
            origin: lower && data.flags.test(CONST_INO),
        }
    }

    /// Its dentry in upper.
    #[inline]
    pub(crate) fn upper(&self) -> Option<&Dentry> {
        self.data().upper.get()
    }

    /// Its dentry in upper, which a caller made sure of; `EROFS` otherwise.
    pub(crate) fn expect_upper(&self) -> Result<&Dentry> {
        self.upper().ok_or(EROFS)
    }

    /// Its path in upper.
    #[inline]
    pub(crate) fn upper_path(&self) -> Option<PathRef<'_>> {
        let layer = self.fs().upper()?;
        self.upper().map(|dentry| layer.path(dentry))
    }

    /// Its topmost path in the lower layers.
    #[inline]
    pub(crate) fn lower_path(&self) -> Option<PathRef<'_>> {
        self.fs().lower_path(self.data().lower.first()?).ok()
    }

    /// The path of the real object that answers for it; `ESTALE` during teardown.
    #[inline]
    pub(crate) fn real_path(&self) -> Result<PathRef<'_>> {
        match self.upper_path() {
            Some(path) => Ok(path),
            None => self.lower_path().ok_or(ESTALE),
        }
    }

    /// Whether listing it means merging: several layers, or whiteouts to hide.
    pub(crate) fn lists_merged(&self) -> bool {
        self.parts().merged || self.data().flags.test(WHITEOUTS)
    }

    /// Copies owner, mode, times and size from the real object.
    pub(crate) fn refresh(&self) {
        if let Ok(path) = self.real_path() {
            if let Some(real) = path.dentry.inode() {
                self.copy_attr(real, path.idmap());
            }
        }
    }

    /// As [`refresh`](Self::refresh), where owner or mode, all that set-id bits depend on, are not up to date.
    #[inline]
    pub(crate) fn refresh_mode(&self) {
        let upper = self.upper().and_then(Dentry::inode);
        if upper.is_some_and(|upper| !upper.has_mode_of(self)) {
            self.refresh();
        }
    }

    /// Notes a change of a directory's entries in upper; `copied_up` where an entry with an origin
    /// is concerned. The directory is locked.
    pub(crate) fn entries_changed(&self, copied_up: bool) {
        self.refresh();
        if self.lists_merged() || copied_up {
            self.forget_listing();
        }
    }

    /// Makes all listings out of date: the directory's entries changed, or it is in upper now.
    pub(crate) fn forget_listing(&self) {
        self.data().version.add(1, Relaxed);
        self.data().flags.clear(LISTED);
        if let Some(cache) = self.data().cache.get() {
            cache.forget_listing();
        }
    }

    /// Marks its upper directory as one that may hold copied-up entries.
    pub(crate) fn set_impure(&self) -> Result {
        if self.data().flags.test(IMPURE) {
            return Ok(());
        }
        let path = self.upper_path().ok_or(EROFS)?;
        marks::set_own(self.fs(), path, own::IMPURE, b"y", Ok(()))?;
        self.data().flags.set(IMPURE);
        Ok(())
    }

    /// The version of a directory's entries.
    pub(crate) fn version(&self) -> u32 {
        self.data().version.load(Relaxed)
    }

    /// Publishes `upper` as the inode's object there.
    pub(crate) fn set_upper(&self, upper: ARef<Dentry>) -> Result {
        let real = upper.positive()?.get();
        self.data().upper.set(upper).map_err(|_| EIO)?;
        self.rehash(&real);
        if self.mode().is_dir() {
            self.forget_listing();
        }
        Ok(())
    }
}

/// What a looked-up or created inode is made of.
pub(crate) struct Parameters {
    /// Its dentry in upper.
    pub(crate) upper: Option<ARef<Dentry>>,
    /// Its paths in the lower layers.
    pub(crate) lower: LowerStack,
    /// An inode that was allocated for it.
    pub(crate) prepared: Option<NewInode>,
}

/// Whether `found`, which the inode hash has under our key, is made of the same real objects.
fn matches(found: &Inode, lower: Option<&vfs::Inode>, upper: Option<&vfs::Inode>) -> bool {
    let real_lower = found
        .data()
        .lower
        .first()
        .and_then(|path| path.dentry.get())
        .and_then(Dentry::inode);
    let real_upper = found.upper().and_then(Dentry::inode);
    if found.mode().is_dir() {
        // A lower directory that was moved into upper underneath us, or an uncovered one.
        if (lower.is_none() && real_lower.is_some()) || (upper.is_none() && real_upper.is_some()) {
            return false;
        }
    }
    // A file may be found by its upper link alone, or by a lower link of a copied-up file.
    let same = |wanted: Option<&vfs::Inode>, have: Option<&vfs::Inode>| {
        wanted.is_none_or(|w| have.is_some_and(|h| w == h))
    };
    same(lower, real_lower) && same(upper, real_upper)
}

/// Whether an inode is hashed by its lower object, so that it stays the same over copy-up.
fn hashed_by_lower(fs: &Overlay, lower: Option<&vfs::Inode>) -> bool {
    // Without upper nothing is copied up. The links of a lower file are copied up one by one, so
    // they must not share an inode.
    lower.is_some_and(|lower| fs.upper().is_none() || lower.mode().is_dir() || lower.nlink() <= 1)
}

impl Parameters {
    /// Finds or makes the inode of these real objects.
    ///
    /// # Errors
    ///
    /// `ESTALE` where the hash has an inode of other objects under the same key: a layer was changed
    /// underneath, or two layers overlap; `ENOMEM`.
    pub(crate) fn inode(self, sb: &SuperBlock, fs: &Overlay) -> Result<ARef<Inode>> {
        let created = self.prepared.is_some();
        self.find_or_make(sb, fs).inspect_err(|e| {
            warn_limited!(
                "failed to get inode ({}){}\n",
                e.to_errno(),
                if created { " for a new entry" } else { "" }
            );
        })
    }

    fn find_or_make(self, sb: &SuperBlock, fs: &Overlay) -> Result<ARef<Inode>> {
        let Self {
            upper,
            lower,
            prepared,
        } = self;
        let upper_inode = match &upper {
            Some(dentry) => Some(dentry.positive()?),
            None => None,
        };
        let lower_inode = match lower.first() {
            Some(path) => Some(path.dentry()?.positive()?),
            None => None,
        };
        let real = upper_inode.or(lower_inode).ok_or(ENOENT)?;
        let by_lower = hashed_by_lower(fs, lower_inode);
        let key = if by_lower { lower_inode } else { upper_inode };

        let new = match key {
            None => NewInode::unhashed(sb)?,
            Some(key) => {
                let found = match prepared {
                    Some(prepared) => prepared.insert(key)?,
                    None => NewInode::get(sb, key)?,
                };
                match found {
                    Found::New(new) => new,
                    Found::Old(inode) => {
                        return if matches(&inode, lower_inode, upper_inode) {
                            Ok(inode)
                        } else {
                            Err(ESTALE)
                        };
                    }
                }
            }
        };
        let ino = key.unwrap_or(real).ino();
        // A link of a lower file that has an inode of its own counts for itself.
        let nlink = if real.mode().is_dir() || key.is_none() {
            1
        } else {
            real.nlink()
        };
        let (mode, rdev) = (real.mode(), real.rdev());
        fill(
            new,
            fs,
            Fill {
                upper,
                lower,
                by_lower,
                ino,
                nlink,
                mode,
                rdev,
            },
        )
        .map(NewInode::publish)
    }
}

/// The values of a new inode.
struct Fill {
    upper: Option<ARef<Dentry>>,
    lower: LowerStack,
    by_lower: bool,
    ino: u64,
    nlink: u32,
    mode: Mode,
    rdev: u32,
}

fn fill(mut new: NewInode, fs: &Overlay, with: Fill) -> Result<NewInode> {
    new.set_kind(with.mode, with.rdev);
    new.set_nlink(with.nlink);
    new.set_ino(if with.mode.is_dir() && fs.layout() == Layout::SeveralFs {
        fs.next_ino()
    } else {
        with.ino
    });
    let data = new.data_mut();
    if let Some(upper) = with.upper {
        data.upper.set(upper).map_err(|_| EIO)?;
    }
    data.lower = with.lower;
    if with.by_lower {
        data.flags.set(CONST_INO);
    }
    let inode = new.inode();
    let real = inode.real_path_in(fs)?;
    let real_inode = real.dentry.positive()?;
    inode.copy_attr(real_inode, real.idmap());
    inode.set_flags(real_inode.flags(), COPIED_FLAGS);
    let flags = &inode.data().flags;
    if with.mode.is_dir() {
        if inode.parts().merged || marks::has_origin(real) {
            flags.set(WHITEOUTS);
        }
        if inode.upper().is_some() && marks::is_impure(real) {
            flags.set(IMPURE);
        }
    }
    if inode.upper().is_some() {
        protected::load(inode, real);
    }
    Ok(new)
}

impl Inode {
    /// [`real_path`](Self::real_path) while the super block has no data of ours yet.
    fn real_path_in<'a>(&'a self, fs: &'a Overlay) -> Result<PathRef<'a>> {
        match (fs.upper(), self.upper()) {
            (Some(layer), Some(dentry)) => Ok(layer.path(dentry)),
            _ => fs.lower_path(self.data().lower.first().ok_or(ESTALE)?),
        }
    }
}

/// Makes the root directory's inode from the roots of the layers.
pub(crate) fn root(
    sb: &SuperBlock,
    fs: &Overlay,
    upper: Option<ARef<Dentry>>,
    lower: KVec<LowerPath>,
) -> Result<NewInode> {
    let real = match (&upper, lower.first()) {
        (Some(dentry), _) => dentry.positive()?,
        (None, Some(path)) => path.dentry()?.positive()?,
        (None, None) => return Err(EINVAL),
    };
    let with = Fill {
        ino: real.ino(),
        nlink: 1,
        mode: Mode(Mode::DIR | real.mode().perm()),
        rdev: 0,
        by_lower: false,
        upper,
        lower: LowerStack::from_vec(lower)?,
    };
    let new = fill(NewInode::unhashed(sb)?, fs, with)?;
    new.inode().data().flags.set(WHITEOUTS);
    Ok(new)
}

/// The revalidation flags of an inode's real dentries.
pub(crate) fn revalidate_flags(inode: Option<&Inode>) -> u32 {
    let Some(inode) = inode else {
        return 0;
    };
    let upper = inode.upper().map_or(0, Dentry::revalidate_flags);
    let lower = inode.data().lower.as_slice().iter();
    lower
        .filter_map(|path| path.dentry.get())
        .fold(upper, |flags, dentry| flags | dentry.revalidate_flags())
        & REVALIDATE
}
