// SPDX-License-Identifier: GPL-2.0

//! Whiteouts and opaque directories: told, made, shared, put in place.

use super::{
    marks,
    temp::{self, Temp},
    xattr_names::{Mark, Namespace},
};
use crate::{
    overlay::{
        object::inode::NameMark,
        union::{Dentry, Overlay},
    },
    vfs::{
        self,
        dirop::{rename_flags, New, Renaming},
        mount::{Path, PathRef, WritePath, Writing},
        published::Shared,
        xattr, Mode, NameSnapshot,
    },
};
use kernel::prelude::*;

/// Whether an entry is a whiteout: a character device 0:0, or an empty file with the attribute, where it
/// may be `marked` so.
#[inline]
pub(crate) fn is_whiteout(own: Namespace, path: PathRef<'_>, marked: bool) -> bool {
    path.dentry().inode().is_some_and(|inode| {
        inode.is_whiteout_device()
            || (marked
                && path.dentry().is_reg()
                && inode.size() == 0
                && xattr::get(path, own.name(Mark::Whiteout), &mut []).is_ok())
    })
}

/// Whether a negative dentry stands for a whiteout in upper.
pub(crate) fn is_covered(dentry: &Dentry) -> bool {
    dentry.is_negative() && dentry.marks().test(NameMark::Whiteout)
}

/// Marks an upper directory (and its dentry) as one that hides the lower layers; `missing` where
/// upper has no attributes.
pub(crate) fn set_opaque(dentry: &Dentry, upper: WritePath<'_>, missing: Error) -> Result {
    marks::set_own(dentry.fs(), upper, Mark::Opaque, b"y", Err(missing))?;
    dentry.marks().set(NameMark::Opaque);
    Ok(())
}

/// A fresh whiteout in the work directory, which has one name.
fn create<'a>(writing: Writing<'a>, work: &'a vfs::Dentry) -> Result<Temp<'a>> {
    Temp::create(writing, work, New::Node(Mode(Mode::CHR), 0))
}

/// A whiteout in the work directory, a link of a shared one where the filesystem can do that.
fn make<'a>(fs: &'a Overlay, writing: Writing<'a>) -> Result<Temp<'a>> {
    let (_, work) = fs.work()?;
    while fs.shares_whiteouts() {
        let Some(shared) = fs.whiteout.get() else {
            let made = create(writing, work)?;
            let Ok(source) = Shared::new(made.path()?.get(), GFP_KERNEL) else {
                return Ok(made);
            };
            if fs.whiteout.set(source).is_err() {
                // Another task was quicker.
                return Ok(made);
            }
            made.keep()?;
            continue;
        };
        let link = Temp::create(writing, work, New::Link(shared.as_ref().dentry()));
        let Err(e) = link else {
            return link;
        };
        // Whoever takes it out uses it up. The others, who may have found it used up, go on with the next.
        if !fs.whiteout.take_if(&shared) {
            continue;
        }
        if e != EMLINK {
            pr_warn!(
                "Failed to link whiteout - disabling whiteout inode sharing (err={})\n",
                e.to_errno()
            );
            fs.stop_sharing_whiteouts();
        }
        let source = Path::clone(&shared).held_by(writing.mnt())?;
        return Ok(Temp::of(writing, work, source));
    }
    create(writing, work)
}

/// Replaces `dentry` in the upper directory `dir` (or nothing, where it is negative) by a whiteout; a
/// directory is removed afterwards.
pub(crate) fn cover(
    fs: &Overlay,
    writing: Writing<'_>,
    dir: &vfs::Dentry,
    dentry: &vfs::Dentry,
) -> Result {
    let (_, work) = fs.work()?;
    put(writing, work, make(fs, writing)?, (dir, dentry))
}

/// As [`cover`], with a whiteout that is no link of others, while a mount with the work directory `work` is being made.
pub(crate) fn cover_unshared(
    writing: Writing<'_>,
    work: &vfs::Dentry,
    dir: &vfs::Dentry,
    dentry: &vfs::Dentry,
) -> Result {
    put(writing, work, create(writing, work)?, (dir, dentry))
}

/// Puts the whiteout `temp` of the work directory `work` in the place of `dentry` in `dir`.
fn put(
    writing: Writing<'_>,
    work: &vfs::Dentry,
    temp: Temp<'_>,
    (dir, dentry): (&vfs::Dentry, &vfs::Dentry),
) -> Result {
    let is_dir = dentry.is_dir();
    let flags = if is_dir { rename_flags::EXCHANGE } else { 0 };
    let whiteout = temp.path()?.dentry();
    let renaming = if dentry.is_unhashed() {
        // Where case is folded a name that is missing is not cached.
        let name = NameSnapshot::take(dentry);
        Renaming::start_dentry(
            writing,
            (work, whiteout),
            (dir, name.as_bytes()),
            true,
            flags,
        )?
    } else {
        Renaming::start_two(writing, (work, whiteout), (dir, dentry), flags)?
    };
    renaming.rename()?;
    temp.keep()?;
    if is_dir {
        temp::discard(writing, work, dentry);
    }
    Ok(())
}
