// SPDX-License-Identifier: GPL-2.0

//! The work directory: made and cleaned at mount; what its filesystem can do.

use crate::{
    overlay::{
        layer::{
            marks::{self, is_full},
            temp::{self, Temp, TempName},
            whiteout,
            xattr_names::Namespace,
        },
        mount::{
            capability::Features,
            messages::{refuse, say, Level},
        },
    },
    vfs::{
        acl::{Acl, AclType},
        attr::Iattr,
        context::FsContext,
        dirop::{self, rename_flags, Creating, New, Renaming},
        file,
        log::Text,
        mount::{Path, PathRef, Writing},
        readdir::{self, dt},
        CBuf, Dentry, Mode, NameSnapshot, Ref,
    },
};
use kernel::prelude::*;

/// Name of the directory below `workdir=`.
const WORK: &[u8] = b"work";
/// Directory in [`WORK`] whose entries name features that a mount must know.
const INCOMPAT: &[u8] = b"incompat";
/// The entry of [`INCOMPAT`] that says that upper was mounted volatile.
const VOLATILE: &[u8] = b"volatile";
/// The file in [`VOLATILE`].
const DIRTY: &[u8] = b"dirty";
/// Depth of [`INCOMPAT`] below the base.
const INCOMPAT_LEVEL: u32 = 2;

/// The names in a directory, without `.` and `..`.
pub(super) fn names(path: PathRef<'_>) -> Result<KVec<CBuf>> {
    let mut names = KVec::new();
    readdir::read_all(path, |entry| {
        if entry.name != b"." && entry.name != b".." {
            names.push(CBuf::new(entry.name)?, GFP_KERNEL)?;
        }
        Ok(())
    })?;
    Ok(names)
}

/// Removes what an earlier mount left, two levels deep: nothing deeper was made by a union.
pub(super) fn clean(
    fc: &FsContext,
    writing: Writing<'_>,
    parent: &Dentry,
    dentry: &Dentry,
    level: u32,
) -> Result {
    let removed = temp::remove(writing, parent, dentry);
    if removed.is_ok() || !dentry.is_dir() || level > 1 {
        return removed;
    }
    let level = level + 1;
    let incompat = level == INCOMPAT_LEVEL && NameSnapshot::take(dentry).as_bytes() == INCOMPAT;
    for name in &names(writing.mnt().path(dentry)?)? {
        if incompat {
            let feature = name.as_bytes();
            let advice = if feature == VOLATILE {
                ": upper was mounted volatile and may have lost what was not written back. Start from a fresh upper; or \
                 remove work/incompat/volatile in workdir, if no crash came in between and upper is known to be good"
            } else {
                ""
            };
            return refuse(
                fc,
                EINVAL,
                fmt!(
                    "overlay with incompat feature '{}' cannot be mounted{advice}",
                    Text(feature)
                ),
            );
        }
        if let Some(child) = dentry.lookup_positive(writing.mnt(), name.as_bytes(), false)? {
            clean(fc, writing, dentry, &child, level)?;
        }
    }
    temp::remove(writing, parent, dentry)
}

/// Why there is no work directory.
enum NoWork {
    /// The old one is of a mount with features unknown here (`EINVAL`), or memory is short now and
    /// may be there the next time.
    Refuse(Error),
    /// It could not be made; a mount is possible without.
    Failed(Error),
}

impl From<Error> for NoWork {
    fn from(e: Error) -> Self {
        if e == ENOMEM {
            Self::Refuse(e)
        } else {
            Self::Failed(e)
        }
    }
}

/// Makes a directory without inherited mode bits or ACLs.
pub(super) fn make_in(writing: Writing<'_>, creating: Creating<'_>) -> Result<Path> {
    let made = creating.create(New::Node(Mode(Mode::DIR), 0))?;
    let made = Path::new(writing.mnt(), made)?;
    let path = writing.path(made.as_ref().dentry())?;
    for kind in [AclType::Default, AclType::Access] {
        match Acl::remove(path, kind) {
            Err(e) if e != ENODATA && e != EOPNOTSUPP => return Err(e),
            _ => {}
        }
    }
    {
        let lock = path.positive()?.lock();
        Iattr::mode(Mode(Mode::DIR)).apply(path, &lock)?;
    }
    Ok(made)
}

/// Makes an empty work directory in `base`.
fn make(fc: &FsContext, writing: Writing<'_>, base: &Dentry) -> Result<Path, NoWork> {
    for retried in [false, true] {
        let creating = Creating::start(writing, base, WORK)?;
        if creating.dentry().is_negative() {
            return Ok(make_in(writing, creating)?);
        }
        if retried {
            break;
        }
        let old = creating.keep();
        match clean(fc, writing, base, &old, 0) {
            Err(e) if e == EINVAL => return Err(NoWork::Refuse(e)),
            other => other?,
        }
    }
    Err(EEXIST.into())
}

/// Whether listings of the filesystem tell the type of entries.
fn tells_types(base: PathRef<'_>) -> Result<bool> {
    let mut known = false;
    readdir::read_all(base, |entry| {
        if entry.name != b"." && entry.name != b".." && entry.kind != dt::UNKNOWN {
            known = true;
        }
        Ok(())
    })?;
    Ok(known)
}

/// Whether the filesystem can leave a whiteout behind a rename.
fn renames_with_whiteout(own: Namespace, writing: Writing<'_>, work: &Dentry) -> Result<bool> {
    let mnt = writing.mnt();
    let temp = Temp::create(writing, work, New::Node(Mode(Mode::REG), 0))?;
    let entry = temp.path()?.dentry();
    let old = NameSnapshot::take(entry);
    let to = TempName::new();
    let renaming = Renaming::start_dentry(
        writing,
        (work, entry),
        (work, to.as_bytes()),
        false,
        rename_flags::WHITEOUT,
    )?;
    match renaming.rename() {
        Err(e) if e == EINVAL => return Ok(false),
        other => other?,
    }
    let Some(whiteout) = work.lookup_positive(mnt, old.as_bytes(), false)? else {
        return Ok(false);
    };
    let found = whiteout::is_whiteout(own, mnt.path(&whiteout)?, true);
    if found {
        temp::remove(writing, work, &whiteout)?;
    }
    Ok(found)
}

/// Finds out what the filesystem of the work directory `work` in `base` can do.
fn probe(
    own: Namespace,
    writing: Writing<'_>,
    base: PathRef<'_>,
    work: PathRef<'_>,
) -> Result<Features> {
    let (tmpfile, direct_io) = match dirop::tmpfile(writing, work.dentry(), Mode(Mode::REG)) {
        Err(e) if e == ENOMEM => return Err(e),
        // Nothing tells of direct I/O: whether it is possible is seen when it is used.
        Err(e) => (is_full(e), true),
        Ok(file) => (true, file::can_direct_io(&file)),
    };
    Ok(Features {
        // By the path that the mounter gave: security modules that go by paths know no other.
        types: tells_types(base)?,
        tmpfile,
        direct_io,
        whiteouts: renames_with_whiteout(own, writing, work.dentry())?,
        marks: marks::probe(own, writing.path(work.dentry())?)?,
        remote: base.dentry().revalidate_flags() != 0,
    })
}

/// Makes the work directory in `base`, as the mounter named it, and finds out what the filesystem can do. `None`, with a
/// message, where the directory cannot be made: the mount is read-only then.
///
/// # Errors
///
/// `EINVAL` where the old one is of a mount with features unknown here; `ENOMEM`, which says nothing
/// about what the filesystem can do.
pub(crate) fn prepare(
    fc: &FsContext,
    own: Namespace,
    writing: Writing<'_>,
    base: PathRef<'_>,
    name: &[u8],
) -> Result<Option<(Path, Features)>> {
    let work = match make(fc, writing, base.dentry()) {
        Ok(work) => work,
        Err(NoWork::Refuse(e)) => return Err(e),
        Err(NoWork::Failed(e)) => {
            let (name, errno) = (Text(name), e.to_errno().wrapping_neg());
            say(
                Level::Warning,
                fmt!("failed to create directory {name}/work (errno: {errno}); mounting read-only"),
            );
            return Ok(None);
        }
    };
    let features = probe(own, writing, base, work.as_ref()).or_else(|e| {
        let (name, errno) = (Text(name), e.to_errno().wrapping_neg());
        refuse(
            fc,
            e,
            fmt!("directory {name}/work cannot be used (errno: {errno})"),
        )
    })?;
    Ok(Some((work, features)))
}

/// The entry `name` of `parent`, made with type `kind` where it is not there: somebody else may be quicker.
///
/// # Errors
///
/// `ENOTDIR` where `parent` is no directory; else what the filesystem returns.
fn find_or_make<'a>(
    writing: Writing<'a>,
    parent: &'a Dentry,
    name: &[u8],
    kind: u16,
) -> Result<Ref<'a, Dentry>> {
    let creating = Creating::start(writing, parent, name)?;
    match creating.dentry().is_negative() {
        true => creating.create(New::Node(Mode(kind), 0)),
        false => Ok(creating.keep()),
    }
}

/// Leaves a mark in the work directory `work`, `incompat/volatile/dirty`, by which the next mount is refused: of rovl and
/// of overlayfs.
///
/// # Errors
///
/// `ENOTDIR` where what leads to the mark is no directory; else what the filesystem returns.
pub(crate) fn mark_volatile(writing: Writing<'_>, work: &Dentry) -> Result {
    let incompat = find_or_make(writing, work, INCOMPAT, Mode::DIR)?;
    let volatile = find_or_make(writing, &incompat, VOLATILE, Mode::DIR)?;
    find_or_make(writing, &volatile, DIRTY, Mode::REG)?;
    Ok(())
}
