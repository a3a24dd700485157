// SPDX-License-Identifier: GPL-2.0

//! What is found under a name, and the inode that it is or becomes.

use super::{
    inode::{Data, DirFlag, Directory},
    lowerdata::DataFound,
    number,
    protected::{self, COPIED_FLAGS},
    reals::{Identity, Leaf},
};
use crate::{
    overlay::{
        dir::books::patience,
        layer::{index, marks},
        union::{Inode, NewInode, Overlay, Super},
    },
    vfs::{
        self,
        backing::Lowers,
        log::warn_limited,
        new_inode::Found,
        sync::{Flags, Once},
        Ref,
    },
};
use kernel::{prelude::*, sync::atomic::Atomic};

/// The real objects under a name: what a lookup finds, what a creation makes, what an inode is made of.
pub(crate) struct Object<'a> {
    /// The one in upper.
    pub(crate) upper: Option<Ref<'a, vfs::Dentry>>,
    /// Those in lower layers. Of a copied-up file, its origin; of one without data, that which has it, too, as the last, unless
    /// that is in a data-only layer.
    pub(crate) lower: Lowers<'a>,
    /// Of a file, where its data is.
    pub(crate) data: DataFound,
    /// The one in upper is an entry of the index, or a directory that one stands for.
    pub(crate) is_indexed: bool,
    /// The one in upper was made just now: it has no marks.
    pub(crate) is_made: bool,
}

impl<'o> Object<'o> {
    /// An object that was made in upper just now.
    pub(crate) fn made(upper: Ref<'o, vfs::Dentry>) -> Self {
        Self {
            upper: Some(upper),
            lower: Lowers::Empty,
            data: DataFound::default(),
            is_indexed: false,
            is_made: true,
        }
    }

    /// Finds or makes the inode of the object; `prepared` was allocated for it by whoever created it.
    ///
    /// # Errors
    ///
    /// `ESTALE` where the hash has an inode of other objects under the same key: a layer was changed
    /// underneath, or two layers overlap; `ENOMEM`.
    pub(crate) fn inode<'a>(
        self,
        sb: &'a Super,
        prepared: Option<NewInode<'a>>,
    ) -> Result<Ref<'a, Inode>> {
        let created = prepared.is_some();
        self.find_or_make(sb, prepared).inspect_err(|e| {
            warn_limited!(
                "failed to get inode ({}){}\n",
                e.to_errno(),
                if created { " for a new entry" } else { "" }
            );
        })
    }

    /// Makes the root directory's inode.
    pub(crate) fn root(self, sb: &Super) -> Result<NewInode<'_>> {
        self.fill(NewInode::unhashed(sb)?, sb.fs(), Identity::None)
    }

    fn upper_inode(&self) -> Result<Option<&vfs::Inode>> {
        let upper = self.upper.as_ref();
        upper.map(|upper| upper.positive()).transpose()
    }

    fn lower_inode(&self) -> Result<Option<&vfs::Inode>> {
        let lower = self.lower.as_slice().first();
        lower.map(|lower| lower.dentry().positive()).transpose()
    }

    /// By which of its objects an inode is hashed.
    fn identity(&self, fs: &Overlay) -> Result<Identity> {
        Ok(match (self.lower_inode()?, self.upper_inode()?) {
            (Some(_), _) if self.is_indexed => Identity::Lower,
            // Its handle is that of the copy.
            (Some(_), Some(_)) if fs.has_export() => Identity::Upper,
            // Without upper nothing is copied up. Without an index the links of a lower file are copied up one by one, so
            // they must not share an inode.
            (Some(lower), upper)
                if fs.upper().is_none()
                    || lower.mode().is_dir()
                    || lower.nlink() <= 1
                    || (upper.is_none() && fs.indexes(lower)) =>
            {
                Identity::Lower
            }
            (_, Some(_)) => Identity::Upper,
            _ => Identity::None,
        })
    }

    fn find_or_make<'a>(
        self,
        sb: &'a Super,
        prepared: Option<NewInode<'a>>,
    ) -> Result<Ref<'a, Inode>> {
        let fs = sb.fs();
        let identity = self.identity(fs)?;
        let key = match identity {
            Identity::Lower => self.lower_inode()?,
            Identity::Upper => self.upper_inode()?,
            Identity::None => None,
        };
        let found = match (key, prepared) {
            (None, _) => Found::New(NewInode::unhashed(sb)?),
            (Some(key), Some(prepared)) => prepared.insert(key)?,
            (Some(key), None) => NewInode::get(sb, key)?,
        };
        match found {
            Found::New(new) => Ok(self.fill(new, fs, identity)?.publish()),
            Found::Old(inode) if self.is_behind(&inode)? => Ok(inode),
            Found::Old(_) => Err(ESTALE),
        }
    }

    /// Whether `inode`, which the inode hash has under our key, is made of the same real objects.
    fn is_behind(&self, inode: &Inode) -> Result<bool> {
        let (lower, upper) = (self.lower_inode()?, self.upper_inode()?);
        let real_lower = inode.lower_path().and_then(|path| path.dentry().inode());
        let real_upper = inode.upper().and_then(vfs::Dentry::inode);
        if inode.mode().is_dir() {
            // A lower directory that was moved into upper underneath us, or an uncovered one.
            if (lower.is_none() && real_lower.is_some())
                || (upper.is_none() && real_upper.is_some())
            {
                return Ok(false);
            }
        }
        // A file may be found by its upper link alone, or by a lower link of a copied-up file.
        let same = |wanted: Option<&vfs::Inode>, have: Option<&vfs::Inode>| {
            wanted.is_none_or(|w| have.is_some_and(|h| w == h))
        };
        Ok(same(lower, real_lower) && same(upper, real_upper))
    }

    /// Makes `new` the inode of the object.
    fn fill<'a>(
        self,
        mut new: NewInode<'a>,
        fs: &Overlay,
        identity: Identity,
    ) -> Result<NewInode<'a>> {
        let (upper, lowers) = (self.upper.as_ref(), self.lower.as_slice());
        let path = match (upper, lowers.first()) {
            (Some(upper), _) => fs.upper().ok_or(EIO)?.path(upper)?,
            (None, Some(lower)) => {
                let layer = fs.layer(lower.layer()).ok_or(EIO)?;
                layer.path(lower.dentry())?
            }
            (None, None) => return Err(ENOENT),
        };
        let own = fs.namespace();
        let real = path.positive()?;
        let mode = real.mode();
        new.set_kind(mode, real.rdev());
        new.set_ino(number::of_new(
            fs,
            self.upper.as_deref(),
            lowers.first(),
            identity,
        )?);
        // A link of a lower file that has an inode of its own counts for itself.
        new.set_nlink(match identity {
            _ if mode.is_dir() => 1,
            Identity::None => 1,
            // The entry of the index is a link that has no name; names that lower layers alone have are none.
            Identity::Lower if self.is_indexed => {
                let lower = self.lower_inode()?.ok_or(EIO)?;
                index::names(own, path, lower)?.unwrap_or(real.nlink())
            }
            Identity::Lower | Identity::Upper => real.nlink(),
        });
        let data = if mode.is_dir() {
            let flags = Flags::new();
            let is_root = identity == Identity::None;
            let is_merged = lowers.len() > usize::from(upper.is_none());
            if is_root || is_merged || (!self.is_made && marks::has_origin(own, path)) {
                flags.set(DirFlag::Whiteouts);
            }
            if upper.is_some() && !self.is_made && marks::is_impure(own, path) {
                flags.set(DirFlag::Impure);
            }
            if self.is_indexed {
                flags.set(DirFlag::Indexed);
            }
            Data::Directory(Directory {
                identity,
                flags,
                version: Atomic::new(0),
                patience: Atomic::new(patience(lowers.len() as u32) as i32),
                cache: Once::new(),
            })
        } else {
            Data::Other(Leaf::new(identity, self.data, self.is_indexed)?)
        };
        new.set_data(data);
        new.copy_attr(real, path.idmap());
        let mut flags = real.flags() & COPIED_FLAGS;
        match upper {
            Some(_) if self.is_made => {}
            Some(_) => flags |= protected::load(own, path),
            // The access time of a lower object is not ours to change: neither a walk nor a listing need try.
            None if !mode.is_reg() => flags |= protected::flags::NOATIME,
            None => {}
        }
        new.set_flags(flags, COPIED_FLAGS);
        new.set_backing(self.upper, self.lower)?;
        Ok(new)
    }
}
