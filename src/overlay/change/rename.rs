// SPDX-License-Identifier: GPL-2.0

//! Renaming, in all flags.

use crate::overlay::{
    change::{
        copy_up,
        remove::{clear_empty, drop_link, is_pure_upper, is_upper_of},
    },
    dir::merge,
    layer::{redirect, temp, whiteout},
    object::{
        inode::{OPAQUE, REMOVED, UPPER_ALIAS},
        lookup,
    },
    union::{Child, Inode},
};
use crate::vfs::{
    cred,
    dirop::{rename_flags, Renaming},
    mount::PathRef,
    CBuf,
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
    let parts = inode.parts();
    !inode.mode().is_dir() || (parts.upper && !parts.merged) || inode.fs().makes_redirects()
}

/// Makes the directory `child` in upper ready for its move to `to`, which is where it is if `within`: what it is merged
/// with goes with it, and nothing else comes to it. Other objects need nothing.
fn keep_lower_part(
    child: Child<'_>,
    inode: &Inode,
    upper: PathRef<'_>,
    to: &Inode,
    within: bool,
) -> Result {
    if !inode.mode().is_dir() {
        return Ok(());
    }
    if inode.parts().merged {
        return redirect::record(child, upper, within);
    }
    if !child.marks().test(OPAQUE) && to.parts().merged {
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
        if let Some(inode) = new_inode.filter(|inode| inode.mode().is_dir()) {
            if !is_pure_upper(inode) {
                plan.whiteouts = merge::check_empty(new.dentry())?;
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
    let mut lock = None;
    match new_inode {
        Some(_) if !overwrite => copy_up::copy_up(new.dentry())?,
        Some(inode) => lock = Some(inode.op_lock().lock_killable()?),
        None => {}
    }
    let _lock = lock;
    let _write = fs.work()?.0.want_write()?;
    cred::scope(fs.creds(), |_| plan.run())
}

impl Plan<'_> {
    fn run(&self) -> Result {
        let (old, new) = (self.old, self.new);
        let (mnt, _) = old.fs().work()?;
        let old_inode = old.dentry().own_positive()?;
        let new_inode = new.dentry().own_inode();
        let (old_dir, new_dir) = (old.dir(), new.dir());
        let (old_upper, new_upper) = (old_dir.expect_upper()?, new_dir.expect_upper()?);
        let same_dir = *old.parent() == *new.parent();

        let replaced = if self.whiteouts.is_empty() {
            None
        } else {
            Some(clear_empty(new, &self.whiteouts)?)
        };
        let origin = |inode: &Inode| inode.parts().origin;
        let (old_origin, new_origin) = (origin(old_inode), new_inode.is_some_and(origin));
        if !same_dir {
            if old_origin {
                new_dir.set_impure()?;
            }
            if !self.overwrite && new_origin {
                old_dir.set_impure()?;
            }
        }

        let renaming = Renaming::start(
            mnt,
            (old_upper, old.name()),
            (new_upper, new.name()),
            self.flags,
        )?;
        // What is there must be what the dentries stand for: others may have changed upper.
        if !is_upper_of(old_inode, renaming.old()) {
            return Err(ESTALE);
        }
        let layer = old.fs().upper().ok_or(EROFS)?;
        let target = renaming.new();
        let as_expected = match (
            new_inode.filter(|_| new.marks().test(UPPER_ALIAS)),
            &replaced,
        ) {
            (Some(_), Some(replaced)) => *target == **replaced,
            (Some(inode), None) => is_upper_of(inode, target),
            (None, _) if target.is_negative() => self.flags & rename_flags::EXCHANGE == 0,
            (None, _) => {
                new.marks().test(OPAQUE) && whiteout::is_whiteout(layer.path(target), true)
            }
        };
        if !as_expected || renaming.old().inode() == target.inode() {
            return Err(ESTALE);
        }
        let exchanged = new_inode.filter(|_| !self.overwrite);
        keep_lower_part(
            old,
            old_inode,
            layer.path(renaming.old()),
            new_dir,
            same_dir,
        )?;
        if let Some(inode) = exchanged {
            keep_lower_part(new, inode, layer.path(target), old_dir, same_dir)?;
        }
        let whiteout = self.drop_whiteout.then(|| target.get());
        renaming.rename()?;

        if let Some(whiteout) = whiteout {
            temp::discard(mnt, old_upper, &whiteout);
        }
        if let Some(inode) = new_inode.filter(|_| self.overwrite) {
            if inode.mode().is_dir() {
                inode.clear_nlink();
            } else {
                new.marks().set(REMOVED);
                drop_link(new.dentry(), inode);
            }
        }
        if !same_dir {
            // They have another `..` now.
            for inode in [Some(old_inode), exchanged].into_iter().flatten() {
                if inode.mode().is_dir() {
                    inode.forget_listing();
                }
            }
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
