// SPDX-License-Identifier: GPL-2.0

//! The data of a file whose attributes are in another layer: found in a data-only layer by whoever wants it first, and compared
//! with the digest that was recorded of it.

use super::reals::{DataAt, Leaf, Real};
use crate::{
    overlay::{
        layer::{marks, redirect::Redirect},
        mount::options::Verity,
        union::{Dentry, Overlay},
    },
    vfs::{
        cred,
        log::{warn_limited, Text},
        mount::{Path, PathRef},
        sync::Once,
        verity::Digest,
        Mount,
    },
};
use kernel::prelude::*;

/// What a lookup found of the data of a file.
#[derive(Default)]
pub(crate) struct DataFound {
    /// The file in upper is without.
    pub(crate) is_bare: bool,
    /// What answers for the attributes has a digest of it.
    pub(crate) has_digest: bool,
    /// It is in a data-only layer, at this path.
    pub(crate) in_data_layer: Option<Redirect>,
}

/// A file of a data-only layer, looked up by whoever wants its data first.
pub(crate) struct InDataLayer {
    path: Redirect,
    found: Once<KBox<(Path, u16)>>,
}

impl InDataLayer {
    /// The file at the absolute `path`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(path: Redirect) -> Result<KBox<Self>> {
        let this = Self {
            path,
            found: Once::new(),
        };
        Ok(KBox::new(this, GFP_KERNEL_ACCOUNT)?)
    }

    /// The file, once somebody has looked it up.
    #[inline]
    pub(super) fn found(&self) -> Option<Real<'_>> {
        let (path, layer) = self.found.get()?;
        Some(Real {
            path: path.as_ref(),
            layer: *layer,
        })
    }

    /// Looks the file up, for `dentry`.
    ///
    /// # Errors
    ///
    /// That of the lowest layer: `ENOENT` where no layer has such a regular file.
    fn look_up(&self, dentry: &Dentry) -> Result {
        let fs = dentry.fs();
        let mut last = ENOENT;
        for (index, mnt) in fs.data_layers().iter().enumerate() {
            match self.look_up_in(mnt) {
                Ok(path) => {
                    let layer = u16::try_from(fs.lower_layers().len() + 1 + index)?;
                    // Where another task was quicker, its path is used.
                    drop(
                        self.found
                            .set(KBox::new((path, layer), GFP_KERNEL_ACCOUNT)?),
                    );
                    return Ok(());
                }
                Err(e) => last = e,
            }
        }
        warn_limited!(
            "lazy lowerdata lookup failed ({dentry}, err={}): '{}' in {} data-only layers\n",
            last.to_errno(),
            Text(self.path.as_bytes()),
            fs.data_layers().len()
        );
        Err(last)
    }

    fn look_up_in(&self, mnt: &Mount) -> Result<Path> {
        let path = Path::resolve_beneath(mnt.root(), self.path.as_cstr())?;
        if path.as_ref().dentry().is_weird() {
            return Err(EREMOTE);
        }
        match path.as_ref().dentry().is_reg() {
            true => Ok(path),
            false => Err(ENOENT),
        }
    }
}

/// The real object that has the content of `dentry`; data of a file that is elsewhere is found, and what the mount asks
/// it to be.
///
/// # Errors
///
/// Those of a lookup in data-only layers; `EIO` where the data is not that of the digest; `ESTALE`.
#[inline(always)]
pub(crate) fn content(dentry: &Dentry) -> Result<Real<'_>> {
    let reals = dentry.own_positive()?.reals();
    match reals.data() {
        DataAt::Here => reals.content(),
        _ => found_content(dentry),
    }
}

/// The real object that has the content, which is elsewhere than the attributes.
#[cold]
fn found_content(dentry: &Dentry) -> Result<Real<'_>> {
    find(dentry)?;
    dentry.own_positive()?.content()
}

/// Makes sure of what [`content`] makes sure of.
#[inline]
pub(crate) fn ensure(dentry: &Dentry) -> Result {
    match dentry.own_positive()?.reals().data() {
        DataAt::Here => Ok(()),
        _ => find(dentry),
    }
}

#[cold]
fn find(dentry: &Dentry) -> Result {
    let inode = dentry.own_positive()?;
    let Some(leaf) = inode.leaf() else {
        return Ok(());
    };
    match inode.reals().data() {
        DataAt::Here => return Ok(()),
        DataAt::There(_) => {}
        DataAt::NotLookedUp(file) => {
            cred::scope(dentry.fs().creds(), |_| file.look_up(dentry))?;
        }
    }
    verify(dentry, leaf)
}

/// Compares the data of a file with its digest, once.
fn verify(dentry: &Dentry, leaf: &Leaf) -> Result {
    let (fs, inode) = (dentry.fs(), dentry.own_positive()?);
    if fs.verity() == Verity::Off || leaf.is_verified() {
        return Ok(());
    }
    let reals = inode.reals();
    let (attributes, data) = (reals.attributes()?.path, reals.content()?.path);
    match leaf.has_digest() {
        true => cred::scope(fs.creds(), |_| compare(fs, attributes, data))?,
        false => without_digest(fs, attributes)?,
    }
    leaf.set_verified();
    Ok(())
}

fn without_digest(fs: &Overlay, attributes: PathRef<'_>) -> Result {
    if fs.verity() == Verity::Require {
        warn_limited!(
            "metacopy file '{}' has no digest specified\n",
            attributes.dentry()
        );
        return Err(EIO);
    }
    Ok(())
}

fn compare(fs: &Overlay, attributes: PathRef<'_>, data: PathRef<'_>) -> Result {
    let refuse = |why: &str| {
        warn_limited!("lower file '{}' {why}\n", data.dentry());
        Err(EIO)
    };
    let digest = Digest::of(data);
    let seen = digest.as_ref().ok().and_then(Option::as_ref);
    match marks::has_digest(fs.namespace(), attributes, seen)? {
        None => without_digest(fs, attributes),
        Some(true) => Ok(()),
        Some(false) => match &digest {
            Err(_) => refuse("failed to load fs-verity info"),
            Ok(None) => refuse("has no fs-verity digest"),
            Ok(Some(_)) => refuse("has the wrong fs-verity digest"),
        },
    }
}

/// The digest that a mount which records them records of a file whose attributes are copied up while its data stays at `data`;
/// `None` where the file has none.
///
/// # Errors
///
/// `EIO` where its filesystem cannot tell.
pub(crate) fn digest(fs: &Overlay, data: PathRef<'_>) -> Result<Option<KBox<Digest>>> {
    match Digest::of(data) {
        Ok(digest) => Ok(digest
            .map(|digest| KBox::new(digest, GFP_KERNEL))
            .transpose()?),
        // The data is copied, too, then.
        Err(_) if fs.verity() == Verity::Require => Ok(None),
        Err(_) => {
            warn_limited!(
                "lower file '{}' failed to load fs-verity info\n",
                data.dentry()
            );
            Err(EIO)
        }
    }
}
