// SPDX-License-Identifier: GPL-2.0

//! Whiteouts and opaque directories: told, made, shared, put in place.

use super::{
    marks,
    temp::{self, Temp},
    xattr_names::own,
};
use crate::{
    overlay::{
        object::inode::OPAQUE,
        union::{Dentry, Overlay},
    },
    vfs::{
        self,
        dirop::{rename_flags, New, Renaming},
        mount::PathRef,
        xattr, Mode,
    },
};
use kernel::prelude::*;

/// Whether an entry is a whiteout: a character device 0:0, or an empty file with the attribute, where it
/// may be `marked` so.
pub(crate) fn is_whiteout(path: PathRef<'_>, marked: bool) -> bool {
    path.dentry.inode().is_some_and(|inode| {
        inode.is_whiteout_device()
            || (marked
                && path.dentry.is_reg()
                && inode.size() == 0
                && xattr::get(path, own::WHITEOUT, &mut []).is_ok())
    })
}

/// Whether a negative dentry stands for a whiteout in upper.
pub(crate) fn is_covered(dentry: &Dentry) -> bool {
    dentry.is_negative() && dentry.marks().test(OPAQUE)
}

/// Marks an upper directory (and its dentry) as one that hides the lower layers; `missing` where
/// upper has no attributes.
pub(crate) fn set_opaque(dentry: &Dentry, upper: PathRef<'_>, missing: Error) -> Result {
    marks::set_own(dentry.fs(), upper, own::OPAQUE, b"y", Err(missing))?;
    dentry.marks().set(OPAQUE);
    Ok(())
}

/// A fresh whiteout in the work directory, a link of a shared one where the filesystem can do that.
fn whiteout(fs: &Overlay) -> Result<Temp<'_>> {
    let (mnt, work) = fs.work()?;
    let mut shared = fs.whiteout.lock();
    let source = match shared.take() {
        Some(source) => source,
        None => Temp::create(mnt, work, New::Node(Mode(Mode::CHR), 0))?.publish(),
    };
    if fs.shares_whiteouts() {
        match Temp::create(mnt, work, New::Link(&source)) {
            Ok(link) => {
                *shared = Some(source);
                return Ok(link);
            }
            Err(e) if e == EMLINK => {}
            Err(e) => {
                pr_warn!(
                    "Failed to link whiteout - disabling whiteout inode sharing (err={})\n",
                    e.to_errno()
                );
                fs.stop_sharing_whiteouts();
            }
        }
    }
    Ok(Temp::of(mnt, work, source))
}

/// Replaces `dentry` in the upper directory `dir` (or nothing, where it is negative) by a whiteout; a
/// directory is removed afterwards. The caller holds write access.
pub(crate) fn cover(fs: &Overlay, dir: &vfs::Dentry, dentry: &vfs::Dentry) -> Result {
    let (mnt, work) = fs.work()?;
    let temp = whiteout(fs)?;
    let is_dir = dentry.is_dir();
    let flags = if is_dir { rename_flags::EXCHANGE } else { 0 };
    Renaming::start_two(mnt, (work, temp.dentry()), (dir, dentry), flags)?.rename()?;
    temp.publish();
    if is_dir {
        temp::discard(mnt, work, dentry);
    }
    Ok(())
}
