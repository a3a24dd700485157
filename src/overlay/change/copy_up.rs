// SPDX-License-Identifier: GPL-2.0

//! Copy-up: an object of a lower layer gets its copy in upper, whole or not at all; with metacopy a file may get it in two
//! steps, its attributes first and its data later.
//!
//! Here is who wants what, and where it goes; what is done then is in [`pipeline`](super::pipeline).

use super::{
    pipeline::{Files, Index, Place, Planned},
    source::{Source, Want},
};
use crate::{
    overlay::{
        object::{inode::NameMark, lowerdata},
        union::{Dentry, OpenFile},
    },
    vfs::{cred, file, sync::Once, Ref},
};
use core::mem::MaybeUninit;
use kernel::{fs::File, prelude::*};

/// Copies `dentry` up, its parents first, so that its attributes can be changed.
#[inline]
pub(crate) fn copy_up(dentry: &Dentry) -> Result {
    copy_up_want(dentry, Want::Attributes, None)
}

/// As [`copy_up`], so that its data can be changed, too.
pub(crate) fn copy_up_data(dentry: &Dentry) -> Result {
    copy_up_want(dentry, Want::Data, None)
}

/// As [`copy_up_data`], of what is `opened`, a file of a layer: it is not opened again where it is the one that has the data.
pub(crate) fn copy_up_data_of(dentry: &Dentry, opened: &File) -> Result {
    copy_up_want(dentry, Want::Data, Some(opened))
}

/// Prepares opening a file: where that truncates it is copied up, where it may write it is copied up
/// later, by the first write, if it could be copied up now.
///
/// # Errors
///
/// `EROFS` where upper can't be written, so that nobody learns it only after the work is done.
pub(crate) fn copy_up_for_open(open: OpenFile<'_>) -> Result {
    let (dentry, flags) = (open.dentry(), open.flags());
    if !file::open_writes(flags) || has_data(dentry) {
        return Ok(());
    }
    let fs = dentry.fs();
    if flags & file::flags::O_TRUNC != 0 {
        return copy_up_want(dentry, Want::Nothing, None);
    }
    // Whether direct I/O is possible is a question to the file that will be written. A driver that opens
    // the file for a file of its own maps it without asking where. What shows another number afterwards, or is in upper
    // under another name alone, must not change so while it is open.
    if fs.copies_up_at_open()
        || flags & file::flags::O_DIRECT != 0
        || file::is_backing(open.file())
        || dentry.is_unhashed()
        || match open.inode().upper_path() {
            Some(_) => !is_done(dentry, Want::Attributes),
            None => !open.inode().keeps_number(),
        }
    {
        return copy_up_data(dentry);
    }
    let _write = fs.work()?.0.want_write()?;
    Ok(())
}

/// Whether nothing is left to do before data is changed: the object is in upper, under this dentry's name too, and has its
/// data.
#[inline]
pub(crate) fn has_data(dentry: &Dentry) -> bool {
    is_done(dentry, Want::Data)
}

/// Whether what is wanted of the object is in upper, under this dentry's name too.
#[inline]
fn is_done(dentry: &Dentry, want: Want) -> bool {
    dentry.own_inode().is_some_and(|inode| {
        let upper = match want {
            Want::Attributes => inode.upper(),
            Want::Data | Want::Nothing => inode.content_in_upper(),
        };
        upper.is_some()
    }) && (dentry.marks().test(NameMark::UpperAlias) || dentry.is_disconnected())
}

#[inline(always)]
fn copy_up_want(dentry: &Dentry, want: Want, opened: Option<&File>) -> Result {
    match is_done(dentry, want) {
        true => Ok(()),
        false => copy_up_now(dentry, want, opened),
    }
}

fn copy_up_now(dentry: &Dentry, want: Want, opened: Option<&File>) -> Result {
    lowerdata::ensure(dentry)?;
    loop {
        if dentry.marks().test(NameMark::Removed) {
            copy_up_alias(dentry, want, opened)?;
        }
        copy_up_hashed(dentry, want, opened)?;
        if is_done(dentry, want) {
            return Ok(());
        }
    }
}

/// What is still seen under another name than the removed `dentry` is copied up under that.
#[cold]
fn copy_up_alias(dentry: &Dentry, want: Want, opened: Option<&File>) -> Result {
    match dentry.hashed_alias() {
        Some(other) if !is_done(&other, want) => copy_up_hashed(&other, want, opened),
        _ => Ok(()),
    }
}

/// Whether `dentry` was found by a handle, and has no name.
fn is_unnamed(dentry: &Dentry) -> bool {
    dentry.is_disconnected() && !dentry.is_dir()
}

/// Copies up `dentry`, and before it the directories above that are not in upper yet.
#[inline(always)]
fn copy_up_hashed(dentry: &Dentry, want: Want, opened: Option<&File>) -> Result {
    cred::scope(dentry.fs().creds(), |_| {
        if is_unnamed(dentry) {
            let root = dentry.own_sb().root()?;
            return copy_up_one(root, dentry, want, opened);
        }
        loop {
            let parent = dentry.own_parent();
            if parent.own_positive()?.upper().is_some() {
                return copy_up_one(&parent, dentry, want, opened);
            }
            copy_up_dirs(&parent)?;
        }
    })
}

/// The directories that are remembered on the way up.
const DEPTH: usize = 8;

/// Copies up the directory `dir`, and before it those above that are not in upper yet, the topmost first.
#[cold]
fn copy_up_dirs(dir: &Dentry) -> Result {
    while dir.own_positive()?.upper().is_none() {
        let mut below: [Option<Ref<'_, Dentry>>; DEPTH] = Default::default();
        let mut next: Ref<'_, Dentry> = dir.into();
        let mut parent = next.up();
        let mut height = 0;
        while parent.own_positive()?.upper().is_none() {
            if *parent == *next {
                return Err(EROFS);
            }
            // Of more the lowest are forgotten, and found by the next round.
            if let Some(place) = below.get_mut(height % DEPTH) {
                *place = Some(core::mem::replace(&mut next, parent));
            }
            height += 1;
            parent = next.up();
        }
        copy_up_one(&parent, &next, Want::Data, None)?;
        for height in (0..height).rev().take(DEPTH) {
            let Some(next) = below.get_mut(height % DEPTH).and_then(Option::take) else {
                break;
            };
            let parent = next.own_parent();
            // It was moved meanwhile.
            if parent.own_positive()?.upper().is_none() {
                break;
            }
            copy_up_one(&parent, &next, Want::Data, None)?;
        }
    }
    Ok(())
}

fn copy_up_one(parent: &Dentry, dentry: &Dentry, want: Want, opened: Option<&File>) -> Result {
    let fs = dentry.fs();
    let inode = dentry.own_positive()?;
    let parent = parent.own_positive()?.dir()?;
    let (_, work) = fs.work()?;
    let mut room = MaybeUninit::uninit();
    let source = Source::read(inode, parent, want, &mut room)?;
    let files = Files {
        opened,
        from: Once::new(),
        to: Once::new(),
    };

    let index = match fs.index() {
        // A box, as it is too large to be moved, and rarely there.
        Some(dir) if inode.will_be_indexed() => {
            Some(KBox::new(Index::of(fs, dir, source.lower)?, GFP_KERNEL)?)
        }
        _ => None,
    };
    // One copy-up of an object at a time; others wait and find it done.
    let held = inode.lock_op_killable()?;
    if is_done(dentry, want) {
        return Ok(());
    }
    let place = if is_done(dentry, Want::Attributes) {
        Place::There
    } else if is_unnamed(dentry) {
        Place::Index
    } else if !dentry.marks().test(NameMark::Removed) {
        if dentry.is_unhashed() {
            // Not the dentry of its name any more.
            return Err(ENOENT);
        }
        Place::Name(parent)
    } else {
        if inode.upper().is_none() && dentry.hashed_alias().is_some() {
            // There is another name since the caller looked.
            return Ok(());
        }
        Place::Nowhere
    };
    let want = match place {
        // What leads from the one name of two to the data below does not from the other.
        Place::Name(_) if want == Want::Attributes && inode.is_bare() && !inode.is_indexed() => {
            Want::Data
        }
        _ => want,
    };
    let access = fs.write_access()?;
    let plan = Planned {
        fs,
        dentry,
        want,
        is_bare: source.leaves_data(want),
        source: &source,
        files: &files,
        held: &held,
        access: &access,
        work,
        place,
        // What has lost all its names without has no need of one.
        index: match (index, place) {
            (Some(index), Place::Name(_) | Place::Index) if inode.will_be_indexed() => Some(index),
            _ => None,
        },
    };
    if matches!(place, Place::Index) && plan.index.is_none() {
        return Err(EIO);
    }
    plan.run()?;
    if !matches!(place, Place::Index) {
        dentry.marks().set(NameMark::UpperAlias);
    }
    if let Some(upper) = inode.upper() {
        dentry.change_revalidate(0, upper.revalidate_flags());
    }
    Ok(())
}
