// SPDX-License-Identifier: GPL-2.0

//! The union's own attributes on layers.

use super::{
    xattr_names::{Class, Mark, Namespace},
    Layer,
};
use crate::{
    overlay::{mount::capability::OwnMarks, union::Overlay},
    vfs::{
        self,
        log::warn_limited,
        mount::{PathRef, WritePath},
        verity::{Digest, MAX_DIGEST},
        xattr::{self, SetFlags},
        Mode,
    },
};
use kernel::prelude::*;

/// Whether `e` is for want of room (or, from tmpfs, of memory), which says nothing about features.
pub(crate) fn is_full(e: Error) -> bool {
    e == ENOSPC || e == EDQUOT
}

/// The one-byte value of `mark` of a directory.
pub(crate) fn dir_mark(own: Namespace, path: PathRef<'_>, mark: Mark) -> Option<u8> {
    let mut value = [0];
    if !path.dentry().is_dir() {
        return None;
    }
    // Any error, a longer value included, means that the mark is not there.
    match xattr::get(path, own.name(mark), &mut value) {
        Ok(1) => Some(value[0]),
        _ => None,
    }
}

/// Whether objects of type `mode` can have marks: `user.*` attributes are for files and directories.
pub(crate) fn can_be_on(own: Namespace, mode: Mode) -> bool {
    own == Namespace::Trusted || mode.is_reg() || mode.is_dir()
}

/// Whether an object in upper was copied up.
pub(crate) fn has_origin(own: Namespace, path: PathRef<'_>) -> bool {
    xattr::get(path, own.name(Mark::Origin), &mut []).is_ok()
}

/// Whether upper marks a directory as one that may hold copied-up entries.
pub(crate) fn is_impure(own: Namespace, path: PathRef<'_>) -> bool {
    dir_mark(own, path, Mark::Impure) == Some(b'y')
}

/// Whether an object of a layer may have attributes of the union's own: one look at the list of its
/// attributes is cheaper than asking for each.
#[inline]
pub(crate) fn may_have_own(own: Namespace, layer: &Layer, dentry: &vfs::Dentry) -> bool {
    // A long list, or one that is not to be had, may have one.
    !layer.lists_xattrs()
        || xattr::any(dentry, |name| own.classify(name) == Class::Private).unwrap_or(true)
}

/// The mark of a regular file whose data is in a layer below.
#[derive(Clone, Copy)]
pub(crate) struct Metacopy {
    /// It says what digest the data has.
    pub(crate) has_digest: bool,
}

/// The bytes of such a mark before the digest: version, length of the whole, flags, algorithm of the digest. A mark of no
/// byte stands for one without digest.
const METACOPY_HEAD: usize = 4;

/// The mark that the data of a file is in a layer below.
///
/// # Errors
///
/// `EIO` where the value is too short to be one.
pub(crate) fn metacopy(own: Namespace, path: PathRef<'_>) -> Result<Option<Metacopy>> {
    if !path.dentry().is_reg() {
        return Ok(None);
    }
    let len = match xattr::len(path, own.name(Mark::Metacopy)) {
        // The mounter may not read the file, nor so its `user.*` attributes.
        Err(e) if own == Namespace::User && e == EACCES => None,
        other => other?,
    };
    let Some(len) = len else {
        return Ok(None);
    };
    if (1..METACOPY_HEAD).contains(&len) {
        warn_limited!("metacopy file '{}' has too small xattr\n", path.dentry());
        return Err(EIO);
    }
    Ok(Some(Metacopy {
        has_digest: len > METACOPY_HEAD,
    }))
}

/// Whether the mark of a file whose data is in a layer below says that this has `digest`; `None` where it says of none.
///
/// # Errors
///
/// `EIO` where the value is no mark.
pub(crate) fn has_digest(
    own: Namespace,
    path: PathRef<'_>,
    digest: Option<&Digest>,
) -> Result<Option<bool>> {
    let mut value = [0; METACOPY_HEAD + MAX_DIGEST];
    let len = match xattr::get(path, own.name(Mark::Metacopy), &mut value) {
        Err(e) if e == ENODATA => return Ok(None),
        len => len?,
    };
    let value = value.get(..len).unwrap_or_default();
    let (said, algorithm) = match *value {
        [] => return Ok(None),
        [version, ..] if version != 0 => {
            warn_limited!(
                "metacopy file '{}' has unsupported version\n",
                path.dentry()
            );
            return Err(EIO);
        }
        [_, said, _, algorithm, ..] if usize::from(said) == len => {
            (value.get(METACOPY_HEAD..), algorithm)
        }
        _ => {
            warn_limited!("metacopy file '{}' has invalid xattr size\n", path.dentry());
            return Err(EIO);
        }
    };
    if algorithm == 0 {
        return Ok(None);
    }
    Ok(Some(digest.is_some_and(|digest| {
        digest.algorithm() == algorithm && said == Some(digest.as_bytes())
    })))
}

/// Marks a file in upper whose data, with `digest`, is in a layer below.
///
/// # Errors
///
/// `EOPNOTSUPP` where upper has no such attributes any more.
pub(crate) fn set_metacopy(fs: &Overlay, path: WritePath<'_>, digest: Option<&Digest>) -> Result {
    let set = |value: &[u8]| set_own(fs, path, Mark::Metacopy, value, Err(EOPNOTSUPP));
    let Some(digest) = digest else {
        return set(&[]);
    };
    let mut value = [0; METACOPY_HEAD + MAX_DIGEST];
    let bytes = digest.as_bytes();
    let len = METACOPY_HEAD + bytes.len();
    value[1] = u8::try_from(len)?;
    value[3] = digest.algorithm();
    let place = value.get_mut(METACOPY_HEAD..len).ok_or(EINVAL)?;
    place.copy_from_slice(bytes);
    set(value.get(..len).ok_or(EINVAL)?)
}

/// Takes that mark away.
pub(crate) fn clear_metacopy(fs: &Overlay, path: WritePath<'_>) -> Result {
    xattr::remove(path, fs.namespace().name(Mark::Metacopy))
}

/// Finds out whether the union's own attributes can be set on an object in upper.
///
/// # Errors
///
/// `ENOMEM`, which is no answer. A full filesystem is none either: it counts as one that can.
pub(crate) fn probe(own: Namespace, path: WritePath<'_>) -> Result<OwnMarks> {
    let name = own.name(Mark::Opaque);
    match xattr::set(path, name, b"0", SetFlags::ANY) {
        Ok(()) => {
            // What was set a moment ago can be removed; if not, the mark `0` says nothing.
            let _ = xattr::remove(path, name);
            Ok(OwnMarks::Work)
        }
        Err(e) if e == ENOMEM => Err(e),
        Err(e) if is_full(e) => Ok(OwnMarks::Work),
        Err(e) if e == EPERM => Ok(OwnMarks::NotPermitted),
        Err(_) => Ok(OwnMarks::Missing),
    }
}

/// Sets one of the union's own attributes in upper; `missing` where upper has no such attributes.
#[inline]
pub(crate) fn set_own(
    fs: &Overlay,
    path: WritePath<'_>,
    mark: Mark,
    value: &[u8],
    missing: Result,
) -> Result {
    if !fs.upper_has_xattrs() {
        return missing;
    }
    let name = fs.namespace().name(mark);
    match xattr::set(path, name, value, SetFlags::ANY) {
        Err(e) if e == EOPNOTSUPP => {
            note_missing(fs, name);
            missing
        }
        other => other,
    }
}

#[cold]
fn note_missing(fs: &Overlay, name: &CStr) {
    pr_warn!(
        "cannot set {} xattr on upper\n",
        vfs::log::Text(name.to_bytes())
    );
    fs.set_upper_without_xattrs();
}

/// Marks an upper directory as one that may hold copied-up entries.
pub(crate) fn set_impure(fs: &Overlay, path: WritePath<'_>) -> Result {
    set_own(fs, path, Mark::Impure, b"y", Ok(()))
}

/// Takes that mark away; best effort.
pub(crate) fn clear_impure(fs: &Overlay, path: WritePath<'_>) {
    let _ = xattr::remove(path, fs.namespace().name(Mark::Impure));
}
