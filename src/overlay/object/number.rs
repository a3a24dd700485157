// SPDX-License-Identifier: GPL-2.0

//! Whose inode number the union's files have. As which one it is shown is for
//! [`Numbering`](crate::overlay::layer::numbering::Numbering) to say.

use super::reals::Identity;
use crate::{
    overlay::{
        layer::UPPER,
        union::{Inode, Overlay},
    },
    vfs::{
        attr::{statx, Stat},
        backing::InLayer,
        cred,
        mount::PathRef,
        Dentry,
    },
};
use kernel::prelude::*;

/// Whether a copied-up object shows the number of its origin: a directory, a file that keeps the origin's links or is of the
/// origin's one name; `links` is the origin's link count.
fn shows_origin(is_dir: bool, keeps_links: bool, links: u32) -> bool {
    // The links of one lower file may have been copied up to several upper files.
    is_dir || keeps_links || links == 1
}

/// The real number of `origin`, which `inode` was copied up from, where that is the one to be shown; `flags` of
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
    let shown = shows_origin(is_dir, inode.is_indexed(), stat.nlink());
    Ok(shown.then(|| stat.ino()))
}

/// The number that `stat` shows of `inode`, where all are of one device.
///
/// # Errors
///
/// What the layer's filesystem says.
pub(crate) fn of(inode: &Inode) -> Result<u64> {
    let (fs, reals) = (inode.fs(), inode.reals());
    let made = inode.mode().is_dir().then(|| inode.ino());
    if let Some(origin) = reals.origin() {
        if let Some(ino) = of_origin(inode, origin.path, 0)? {
            return Ok(fs.numbers(origin.layer).stat(ino, made).1);
        }
    }
    let mut stat = Stat::zeroed();
    let real = reals.attributes()?;
    cred::scope(fs.creds(), |_| {
        real.path.stat_into(&mut stat, statx::INO, 0)
    })?;
    Ok(fs.numbers(real.layer).stat(stat.ino(), made).1)
}

/// The number of the inode that is made of these objects and hashed by `identity`: that which `stat` will show.
///
/// # Errors
///
/// `ENOENT` where nothing is behind it.
pub(super) fn of_new(
    fs: &Overlay,
    upper: Option<&Dentry>,
    lower: Option<&InLayer<'_>>,
    identity: Identity,
) -> Result<u64> {
    let (real, layer) = match (upper, lower) {
        (Some(upper), _) if identity != Identity::Lower => (upper, UPPER),
        (_, Some(lower)) => (lower.dentry(), lower.layer()),
        (_, None) => return Err(ENOENT),
    };
    let real = real.positive()?;
    let ino = real.ino();
    Ok(fs.numbers(layer).shown(ino).unwrap_or_else(|| {
        fs.say_overflow(ino);
        match real.mode().is_dir() {
            true => fs.make_ino(),
            false => ino,
        }
    }))
}

#[kernel::macros::kunit_tests(rovl_ino)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert!(shows_origin(false, false, 1));
        assert!(!shows_origin(false, false, 2));
        assert!(shows_origin(false, true, 2));
        assert!(shows_origin(true, false, 5));
    }
}
