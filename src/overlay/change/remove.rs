// SPDX-License-Identifier: GPL-2.0

//! Removing names: whiteouts where a lower layer has the name.

use super::copy_up;
use crate::{
    overlay::{
        dir::merge,
        layer::{
            temp::{self, Temp},
            whiteout,
        },
        object::{
            inode::{REMOVED, UPPER_ALIAS, WHITEOUTS},
            lookup,
        },
        union::{Child, Dentry, Inode},
    },
    vfs::{
        self,
        attr::{statx, Stat},
        cred,
        dirop::{rename_flags, New, Removing, Renaming},
        CBuf,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Whether nothing but upper makes a directory up, whiteouts included.
pub(crate) fn is_pure_upper(inode: &Inode) -> bool {
    inode.data().lower.is_empty() && !inode.data().flags.test(WHITEOUTS)
}

/// Whether an upper dentry is that of `inode`.
pub(crate) fn is_upper_of(inode: &Inode, upper: &vfs::Dentry) -> bool {
    match (inode.upper().and_then(vfs::Dentry::inode), upper.inode()) {
        (Some(known), Some(found)) => known == found,
        _ => false,
    }
}

/// Takes a name off an inode's link count, as far as the names in the dcache allow: the count of a
/// layer that was changed underneath may be too low.
pub(crate) fn drop_link(dentry: &Dentry, inode: &Inode) {
    if inode.nlink() > u32::from(dentry.has_hashed_alias()) {
        inode.drop_nlink();
    }
}

/// Removes a name.
pub(crate) fn remove(child: Child<'_>, is_dir: bool) -> Result {
    let fs = child.fs();
    let inode = child.dentry().own_positive()?;
    let lower = lookup::lower_shows(child);
    let whiteouts = if is_dir && (lower || !is_pure_upper(inode)) {
        merge::check_empty(child.dentry())?
    } else {
        KVec::new()
    };
    copy_up::copy_up(child.parent())?;
    {
        let _lock = inode.op_lock().lock_killable()?;
        let _write = fs.work()?.0.want_write()?;
        cred::scope(fs.creds(), |_| {
            remove_from_upper(child, inode, lower, &whiteouts)
        })?;
        if is_dir {
            inode.clear_nlink();
        } else {
            child.marks().set(REMOVED);
            drop_link(child.dentry(), inode);
        }
    }
    if inode.upper().is_some() {
        inode.refresh();
    }
    Ok(())
}

/// Removes the name's entry in upper; where `lower` has one too, a whiteout takes its place.
fn remove_from_upper(child: Child<'_>, inode: &Inode, lower: bool, whiteouts: &[CBuf]) -> Result {
    let fs = child.fs();
    let (mnt, _) = fs.work()?;
    let dir = child.dir().expect_upper()?;
    let replaced = if whiteouts.is_empty() {
        None
    } else {
        Some(clear_empty(child, whiteouts)?)
    };
    // What is there must be what the dentry stands for: others may have changed upper.
    let expected = |found: &vfs::Dentry| match &replaced {
        Some(replaced) => *found == **replaced,
        None => is_upper_of(inode, found),
    };
    if lower {
        let found = dir.lookup(mnt, child.name())?;
        if (replaced.is_some() || child.marks().test(UPPER_ALIAS)) && !expected(&found) {
            return Err(ESTALE);
        }
        let covered = whiteout::cover(fs, dir, &found);
        if covered.is_ok() {
            child.dir().entries_changed(true);
            child.unhash();
        }
        return covered;
    }
    let removing = Removing::start(mnt, dir, child.name())?;
    if !expected(removing.dentry()) {
        return Err(ESTALE);
    }
    let removed = removing.remove();
    child.dir().entries_changed(inode.parts().origin);
    if removed.is_ok() {
        child.unhash();
    }
    removed
}

/// Exchanges an upper directory that holds whiteouts alone for an empty, opaque one, so that it can
/// be removed or replaced in one step. Returns the new upper directory.
pub(crate) fn clear_empty(child: Child<'_>, whiteouts: &[CBuf]) -> Result<ARef<vfs::Dentry>> {
    let fs = child.fs();
    let (mnt, work) = fs.work()?;
    let dir = child.dir().expect_upper()?;
    let inode = child.dentry().own_positive()?;
    let upper = inode.upper_path().ok_or(ESTALE)?;
    let mut stat = Stat::zeroed();
    upper.stat(&mut stat, statx::BASIC)?;
    if !stat.mode().is_dir() {
        return Err(ESTALE);
    }
    let temp = Temp::create(mnt, work, New::Node(stat.mode(), 0))?;
    let renaming = Renaming::start_two(
        mnt,
        (work, temp.dentry()),
        (dir, upper.dentry),
        rename_flags::EXCHANGE,
    )?;
    copy_up::copy_xattrs(upper, temp.path())?;
    whiteout::set_opaque(child.dentry(), temp.path(), EIO)?;
    {
        let lock = temp.dentry().positive()?.lock();
        copy_up::set_attributes(temp.path(), &stat, &lock)?;
    }
    renaming.rename()?;
    let empty = temp.publish();
    for name in whiteouts {
        // Past the point of no return: what cannot be removed is left to the next mount.
        if let Ok(Some(whiteout)) = upper.dentry.lookup_positive(mnt, name.as_bytes(), false) {
            temp::discard(mnt, upper.dentry, &whiteout);
        }
    }
    temp::discard(mnt, work, upper.dentry);
    // The inode's upper directory is another one now.
    child.unhash();
    Ok(empty)
}
