// SPDX-License-Identifier: GPL-2.0

//! Removing names: whiteouts where a lower layer has the name.

use super::{copy_up, links, metadata};
use crate::{
    overlay::{
        dir::merge,
        layer::{
            temp::{self, Temp},
            whiteout,
        },
        object::{inode::NameMark, lookup},
        union::{Child, Dentry, Inode, Overlay},
    },
    vfs::{
        self,
        attr::statx,
        cred,
        dirop::{rename_flags, New, Removing, Renaming},
        mount::Writing,
        CBuf, OpGuard, Ref,
    },
};
use core::mem::MaybeUninit;
use kernel::prelude::*;

/// Whether an upper dentry is that of `inode`.
pub(crate) fn is_upper_of(inode: &Inode, upper: &vfs::Dentry) -> bool {
    match (inode.upper().and_then(vfs::Dentry::inode), upper.inode()) {
        (Some(known), Some(found)) => known == found,
        _ => false,
    }
}

/// Notes that `dentry` is no name of the inode that is held any more, which is no directory. It comes off the link count as far as
/// the names in the dcache allow: the count of a layer that was changed underneath may be too low.
#[inline]
pub(crate) fn lost_name(dentry: &Dentry, held: &OpGuard<'_, Overlay>, writing: Writing<'_>) {
    dentry.marks().set(NameMark::Removed);
    if held.inode().nlink() > u32::from(dentry.has_hashed_alias()) {
        held.drop_nlink();
    }
    links::removed(held, writing);
}

/// Notes that the directory whose inode is held is removed.
pub(crate) fn lost_dir(held: &OpGuard<'_, Overlay>, writing: Writing<'_>) {
    held.clear_nlink();
    links::removed(held, writing);
}

/// Removes a name.
pub(crate) fn remove(child: Child<'_>, is_dir: bool) -> Result {
    let fs = child.fs();
    let inode = child.dentry().own_positive()?;
    let lower = lookup::lower_shows(child);
    // To drop an empty vector is a call, too.
    let whiteouts = match inode.as_dir() {
        Some(dir) if lower || !dir.is_pure_upper() => {
            Some(merge::check_empty(child.dentry(), dir)?)
        }
        _ => None,
    };
    let whiteouts = whiteouts.as_deref().unwrap_or_default();
    copy_up::copy_up(child.parent())?;
    links::before_covering(child.dentry())?;
    {
        let held = inode.lock_op_killable()?;
        let write = fs.want_write()?;
        cred::scope(fs.creds(), |_| {
            links::record(&held, write.writing())?;
            remove_from_upper(write.writing(), child, inode, lower, whiteouts)?;
            if is_dir {
                lost_dir(&held, write.writing());
            } else {
                lost_name(child.dentry(), &held, write.writing());
            }
            Ok::<_, Error>(())
        })?;
    }
    if inode.upper().is_some() {
        inode.refresh();
    }
    Ok(())
}

/// Removes the name's entry in upper; where `lower` has one too, a whiteout takes its place.
fn remove_from_upper(
    writing: Writing<'_>,
    child: Child<'_>,
    inode: &Inode,
    lower: bool,
    whiteouts: &[CBuf],
) -> Result {
    let parent = child.parent_dir()?;
    let dir = parent.expect_upper()?.dentry();
    let replaced = if whiteouts.is_empty() {
        None
    } else {
        Some(clear_empty(writing, child, whiteouts)?)
    };
    // What is there must be what the dentry stands for: others may have changed upper.
    let expected = |found: &vfs::Dentry| match &replaced {
        Some(replaced) => *found == **replaced,
        None => is_upper_of(inode, found),
    };
    if lower {
        let found = dir.lookup(writing.mnt(), child.name())?;
        if (replaced.is_some() || child.marks().test(NameMark::UpperAlias)) && !expected(&found) {
            return Err(ESTALE);
        }
        let covered = whiteout::cover(child.fs(), writing, dir, &found);
        if covered.is_ok() {
            parent.entries_changed(true);
            child.unhash();
        }
        return covered;
    }
    let removing = Removing::start(writing, dir, child.name())?;
    if !expected(removing.dentry()) {
        return Err(ESTALE);
    }
    let removed = removing.remove();
    parent.entries_changed(inode.has_origin());
    if removed.is_ok() {
        child.unhash();
    }
    removed
}

/// Exchanges an upper directory that holds whiteouts alone for an empty, opaque one, so that it can
/// be removed or replaced in one step. Returns the new upper directory.
pub(crate) fn clear_empty<'a>(
    writing: Writing<'a>,
    child: Child<'a>,
    whiteouts: &[CBuf],
) -> Result<Ref<'a, vfs::Dentry>> {
    let (mnt, work) = child.dentry().fs().work()?;
    let dir = child.dir().expect_upper()?.dentry();
    let inode = child.dentry().own_positive()?;
    let upper = inode.upper_path().ok_or(ESTALE)?;
    let mut stat = MaybeUninit::uninit();
    let stat = upper.stat(&mut stat, statx::BASIC)?;
    if !stat.mode().is_dir() {
        return Err(ESTALE);
    }
    let temp = Temp::create(writing, work, New::Node(stat.mode(), 0))?;
    let made = temp.path()?;
    child.fs().check_folding(made.dentry())?;
    let renaming = Renaming::start_two(
        writing,
        (work, made.dentry()),
        (dir, upper.dentry()),
        rename_flags::EXCHANGE,
    )?;
    metadata::copy_xattrs(child.fs().namespace(), upper, made)?;
    whiteout::set_opaque(child.dentry(), made, EIO)?;
    {
        let lock = made.positive()?.lock();
        metadata::set_attributes(made, stat, &lock)?;
    }
    renaming.rename()?;
    let empty = temp.keep()?;
    for name in whiteouts {
        // Past the point of no return: what cannot be removed is left to the next mount.
        if let Ok(Some(whiteout)) = upper.dentry().lookup_positive(mnt, name.as_bytes(), false) {
            temp::discard(writing, upper.dentry(), &whiteout);
        }
    }
    temp::discard(writing, work, upper.dentry());
    // The inode's upper directory is another one now.
    child.unhash();
    Ok(empty)
}
