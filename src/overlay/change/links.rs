// SPDX-License-Identifier: GPL-2.0

//! The names of objects that have an entry of the index: how many the union shows is recorded before one comes or goes, and the
//! entry goes with the last.
//!
//! The count of an inode changes only if an operation on upper succeeds, and with upper's count. So what is recorded before is
//! relative to that, and right whether the operation comes to be or not. A copy-up that links a copy to one name more changes
//! upper's count alone: while it runs what is recorded is relative to the lower object.

use super::copy_up;
use crate::{
    overlay::{
        layer::index::{self, Side},
        union::{Dentry, Overlay},
    },
    vfs::{
        log::warn_limited,
        mount::{WritePath, Writing},
        OpGuard,
    },
};
use kernel::prelude::*;

/// Before `dentry` is removed or replaced: what has names in lower layers that stay is copied up, for the copy alone can tell that
/// this one is gone; so is what has handles, for an entry of the index tells that there is nothing any more to be opened.
///
/// # Errors
///
/// Those of a copy-up.
pub(super) fn before_covering(dentry: &Dentry) -> Result {
    let inode = dentry.own_positive()?;
    match inode.is_indexed() || inode.will_be_indexed() {
        true => copy_up::copy_up(dentry),
        false => Ok(()),
    }
}

/// Records how many names the object has whose operation lock is held, before upper's count of them changes.
///
/// # Errors
///
/// Those of setting an attribute.
pub(super) fn record(held: &OpGuard<'_, Overlay>, writing: Writing<'_>) -> Result {
    let inode = held.inode();
    if !inode.is_indexed() || inode.mode().is_dir() {
        return Ok(());
    }
    let upper = writing.path(inode.expect_upper()?.dentry())?;
    let links = upper.positive()?.nlink();
    index::record_names(inode.fs(), upper, inode.nlink(), (Side::Upper, links))
}

/// As [`record`], on `upper`, which is or will be the copy, before it gets a name that a lower layer has.
pub(super) fn record_stable(held: &OpGuard<'_, Overlay>, upper: WritePath<'_>) -> Result {
    let inode = held.inode();
    let lower = inode.lower_path().ok_or(ESTALE)?.dentry().positive()?;
    let names = (Side::Lower, lower.nlink());
    index::record_names(inode.fs(), upper, inode.nlink(), names)
}

/// After a name was removed: with the last one the entry of the index goes, or what says so takes its place. Best effort: what
/// is left is cleaned at the next mount.
#[inline]
pub(super) fn removed(held: &OpGuard<'_, Overlay>, writing: Writing<'_>) {
    let inode = held.inode();
    if inode.is_indexed() && inode.nlink() == 0 {
        removed_last(held, writing);
    }
}

fn removed_last(held: &OpGuard<'_, Overlay>, writing: Writing<'_>) {
    let inode = held.inode();
    if let Err(e) = remove_entry(held, writing) {
        let errno = e.to_errno();
        let upper = inode.upper().map(|upper| upper.get());
        match upper {
            Some(upper) => warn_limited!("cleanup of the index of '{}' failed ({errno})\n", *upper),
            None => warn_limited!("cleanup of an index failed ({errno})\n"),
        }
    }
}

fn remove_entry(held: &OpGuard<'_, Overlay>, writing: Writing<'_>) -> Result {
    let inode = held.inode();
    let upper = inode.expect_upper()?.dentry();
    let links = upper.positive()?.nlink();
    if links > 1 && !inode.mode().is_dir() {
        // A lower layer has got names since. Those that are in upper are there still.
        warn_limited!("cleanup linked index ({upper}, nlink={links})\n");
        held.set_nlink(links - 1);
        return record(held, writing);
    }
    let lower = inode.lower_path().ok_or(ESTALE)?;
    index::remove(inode.fs(), writing, lower.dentry().positive()?, upper)
}
