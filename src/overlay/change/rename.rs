// SPDX-License-Identifier: GPL-2.0

//! Renaming, in all flags.

use crate::overlay::{
    change::{
        copy_up, links,
        remove::{clear_empty, is_upper_of, lost_dir, lost_name},
    },
    dir::merge,
    layer::{
        redirect::{self, How},
        temp, whiteout,
    },
    object::{inode::NameMark, lookup},
    union::{Child, Inode, Overlay},
};
use crate::vfs::{
    cred,
    dirop::{rename_flags, Renaming},
    mount::{WritePath, Writing},
    CBuf, OpGuard,
};
use kernel::prelude::*;

/// A rename, once its flags on upper are known.
struct Plan<'a> {
    old: Child<'a>,
    new: Child<'a>,
    /// Flags of the rename in upper.
    flags: u32,
    /// The new name is replaced, not exchanged.
    overwrite: bool,
    /// The whiteout that the exchange leaves at the old name covers nothing.
    drop_whiteout: bool,
    /// Whiteouts in the upper directory that is replaced.
    whiteouts: KVec<CBuf>,
}

/// Whether an object can be moved: without a redirect a directory with a lower part would leave that behind.
fn can_move(inode: &Inode) -> bool {
    let is_pure = || inode.upper().is_some() && !inode.reals().is_merged();
    !inode.mode().is_dir() || is_pure() || inode.fs().makes_redirects()
}

/// Makes `child` in upper ready for its move to `to`, which is where it is if `within`: what a directory is merged with, and
/// the data of a file that has none in upper, goes with it, and nothing else comes to it. Other objects need nothing.
fn keep_lower_part(
    child: Child<'_>,
    inode: &Inode,
    upper: WritePath<'_>,
    to: &Inode,
    within: bool,
) -> Result {
    if inode.reals().is_merged() || inode.is_bare() {
        // The links of a file may be in several directories.
        let is_link = !inode.mode().is_dir() && inode.has_lower_links();
        let how = match within && !is_link {
            true => How::Name(child.name()),
            false => How::Path,
        };
        return redirect::record(child.dentry(), upper, how);
    }
    if !inode.mode().is_dir() {
        return Ok(());
    }
    if !child.marks().test(NameMark::Opaque) && to.reals().is_merged() {
        whiteout::set_opaque(child.dentry(), upper, EXDEV)?;
    }
    Ok(())
}

/// The `rename` operation.
pub(crate) fn rename(old: Child<'_>, new: Child<'_>, flags: u32) -> Result {
    if flags & !(rename_flags::EXCHANGE | rename_flags::NOREPLACE) != 0 {
        return Err(EINVAL);
    }
    let fs = old.fs();
    let overwrite = flags & rename_flags::EXCHANGE == 0;
    let old_inode = old.dentry().own_positive()?;
    let new_inode = new.dentry().own_inode();
    if !can_move(old_inode) || (!overwrite && !new_inode.is_some_and(can_move)) {
        return Err(EXDEV);
    }
    let mut plan = Plan {
        old,
        new,
        flags: flags & !rename_flags::NOREPLACE,
        overwrite,
        drop_whiteout: false,
        whiteouts: KVec::new(),
    };
    if overwrite {
        if let Some(dir) = new_inode.and_then(Inode::as_dir) {
            if !dir.is_pure_upper() {
                plan.whiteouts = merge::check_empty(new.dentry(), dir)?;
            }
        }
        let over_whiteout = whiteout::is_covered(new.dentry());
        if lookup::lower_shows(old) {
            // The old name needs a whiteout: a new one, or that at the new name.
            plan.flags |= if over_whiteout {
                rename_flags::EXCHANGE
            } else {
                rename_flags::WHITEOUT
            };
        } else if old_inode.mode().is_dir() && over_whiteout {
            // A directory cannot replace a whiteout: exchanged, and the whiteout removed.
            plan.flags |= rename_flags::EXCHANGE;
            plan.drop_whiteout = true;
        }
    }
    copy_up::copy_up(old.dentry())?;
    copy_up::copy_up(new.parent())?;
    let mut replaced = None;
    match new_inode {
        Some(_) if !overwrite => copy_up::copy_up(new.dentry())?,
        Some(inode) => {
            links::before_covering(new.dentry())?;
            replaced = Some(inode.lock_op_killable()?);
        }
        None => {}
    }
    let write = fs.want_write()?;
    cred::scope(fs.creds(), |_| plan.run(write.writing(), replaced.as_ref()))
}

impl Plan<'_> {
    /// Renames in upper; `held` is the operation lock of the inode that is replaced.
    fn run(&self, writing: Writing<'_>, held: Option<&OpGuard<'_, Overlay>>) -> Result {
        let (old, new) = (self.old, self.new);
        let old_inode = old.dentry().own_positive()?;
        let new_inode = new.dentry().own_inode();
        let (old_dir, new_dir) = (old.parent_dir()?, new.parent_dir()?);
        let old_upper = old_dir.expect_upper()?.dentry();
        let new_upper = new_dir.expect_upper()?.dentry();
        let same_dir = *old.parent() == *new.parent();

        if let Some(held) = held {
            links::record(held, writing)?;
        }
        let replaced = if self.whiteouts.is_empty() {
            None
        } else {
            Some(clear_empty(writing, new, &self.whiteouts)?)
        };
        let origin = Inode::has_origin;
        let (old_origin, new_origin) = (origin(old_inode), new_inode.is_some_and(origin));
        if !same_dir {
            if old_origin {
                new_dir.set_impure(writing)?;
            }
            if !self.overwrite && new_origin {
                old_dir.set_impure(writing)?;
            }
        }

        let renaming = Renaming::start(
            writing,
            (old_upper, old.name()),
            (new_upper, new.name()),
            self.flags,
        )?;
        // What is there must be what the dentries stand for: others may have changed upper.
        if !is_upper_of(old_inode, renaming.old()) {
            return Err(ESTALE);
        }
        let target = writing.path(renaming.new())?;
        let as_expected = match (
            new_inode.filter(|_| new.marks().test(NameMark::UpperAlias)),
            &replaced,
        ) {
            (Some(_), Some(replaced)) => *target.dentry() == **replaced,
            (Some(inode), None) => is_upper_of(inode, target.dentry()),
            (None, _) if target.dentry().is_negative() => self.flags & rename_flags::EXCHANGE == 0,
            (None, _) => {
                new.marks().test(NameMark::Whiteout)
                    && whiteout::is_whiteout(new.fs().namespace(), *target, true)
            }
        };
        if !as_expected || renaming.old().inode() == target.dentry().inode() {
            return Err(ESTALE);
        }
        let exchanged = new_inode.filter(|_| !self.overwrite);
        keep_lower_part(
            old,
            old_inode,
            writing.path(renaming.old())?,
            &new_dir,
            same_dir,
        )?;
        if let Some(inode) = exchanged {
            keep_lower_part(new, inode, target, &old_dir, same_dir)?;
        }
        let whiteout = self.drop_whiteout.then(|| target.get());
        renaming.rename()?;

        if let Some(whiteout) = whiteout {
            temp::discard(writing, old_upper, whiteout.as_ref().dentry());
        }
        if let Some(held) = held {
            if held.inode().mode().is_dir() {
                lost_dir(held, writing);
            } else {
                lost_name(new.dentry(), held, writing);
            }
        }
        if !same_dir {
            // They have another `..` now.
            let moved = [Some(old_inode), exchanged].into_iter().flatten();
            moved
                .filter_map(Inode::as_dir)
                .for_each(|dir| dir.forget_listing());
        }
        old_dir.entries_changed(old_origin || (!self.overwrite && new_origin));
        new_dir.entries_changed(old_origin || new_origin);
        old_inode.refresh();
        if let Some(inode) = new_inode.filter(|inode| inode.upper().is_some()) {
            inode.refresh();
        }
        Ok(())
    }
}
