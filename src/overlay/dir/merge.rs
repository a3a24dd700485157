// SPDX-License-Identifier: GPL-2.0

//! Merged listings: read from the layers, resolved to what the union shows.

use super::listing::{Entry, LayerView, Listing, UNKNOWN_INO};
use crate::{
    overlay::{
        layer::{marks, Layer, UPPER},
        object::{
            inode::{Dir, DirFlag, NameMark},
            number,
        },
        union::{Dentry, Listed},
    },
    vfs::{cred, folding::Folding, log::warn_limited, mount::IdMap, readdir, CBuf, Ref},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};

/// Reads a merged directory. With the mounter's credentials.
pub(super) fn read_merged(dentry: &Dentry, dir: Dir<'_>, numbers: bool) -> Result<Listing> {
    let fs = dentry.fs();
    let mut listing = Listing::new(dir.version(), fs.dir_caches().salt.get());
    listing.expect(dir.told_names())?;
    let numbers = numbers && fs.numbering.has_one_device();
    let marked = dentry.marks().test(NameMark::XWhiteouts);
    let view = |layer: &Layer, from| LayerView {
        from,
        numbers: numbers.then(|| fs.numbering.of(|| layer.fsid)),
        impure: dir.flags().test(DirFlag::Impure),
        xwhiteouts: marked && layer.has_xwhiteouts(),
        folding: dir.folding(),
    };
    for (above, lower) in (0..dir.lowers().len()).rev().zip(dir.lowers().iter().rev()) {
        let layer = fs.layer(lower.layer()).ok_or(EIO)?;
        let from = u16::try_from(above + 1)?;
        listing.read_layer(lower.path(), view(layer, from))?;
    }
    let upper = dir.upper_path();
    if let Some((layer, path)) = fs.upper().zip(upper) {
        listing.read_layer(path, view(layer, UPPER))?;
    }
    listing.find_whiteouts(|from| match usize::from(from).checked_sub(1) {
        None => upper.ok_or(EIO),
        Some(above) => Ok(dir.lowers().get(above).ok_or(EIO)?.path()),
    })?;
    Ok(listing)
}

/// The entry `name` of the directory as the union shows it; `None` where it is not there.
fn look_up<'a>(open: Listed<'a>, name: &[u8]) -> Result<Option<Ref<'a, Dentry>>> {
    let dentry = open.dentry();
    let found = match name {
        b"." => dentry.into(),
        b".." => dentry.own_parent(),
        // Names that the mounter listed, who looks for them again, for all mounts of the union at once.
        _ => open.lookup(IdMap::nop(), name)?,
    };
    Ok((!found.is_negative()).then_some(found))
}

/// Finds out the inode number of an entry; `None` where it is not there at all.
pub(super) fn resolve(open: Listed<'_>, listing: &Listing, entry: &Entry) -> Result<Option<u64>> {
    let name = listing.name(entry);
    let known = entry.ino.load(Relaxed);
    let found = look_up(open, name);
    if !matches!(found, Ok(Some(_))) {
        // This reader goes on behind it. Another one may see it: the layers and what the dcache knows of
        // them disagree, which passes.
        entry.gone.store(true, Relaxed);
        listing.skipped.store(true, Relaxed);
    }
    let found = found.inspect_err(|e| {
        warn_limited!(
            "failed to look up an entry of {} for ino ({})\n",
            open.dentry(),
            e.to_errno()
        );
    })?;
    let ino = match found {
        None => return Ok(None),
        Some(_) if known != UNKNOWN_INO => known,
        // Its parent's number may be that of another layer than the topmost one that lists it.
        Some(found) if name == b".." || found.own_positive()?.has_origin() => {
            let inode = found.own_positive()?;
            let number = number::of(inode)?;
            if !marks::can_be_on(inode.fs().namespace(), inode.mode()) {
                // Nothing in upper says where it came from: the number lasts as long as the inode does.
                return Ok(Some(number));
            }
            number
        }
        Some(_) => entry.real_ino,
    };
    entry.ino.store(ino, Relaxed);
    Ok(Some(ino))
}

/// The entries of an impure upper directory whose inode numbers are those of their origins; `None`
/// where there is none, and the directory is impure no longer.
pub(super) fn impure_listing(open: Listed<'_>, dir: Dir<'_>) -> Result<Option<Arc<Listing>>> {
    if let Some(listing) = dir.remembered_listing() {
        return Ok(Some(listing));
    }
    let path = dir.upper_path().ok_or(EIO)?;
    let salt = dir.fs().dir_caches().salt.get();
    let mut all = Listing::new(dir.version(), salt);
    readdir::read_all(path, |entry| {
        if entry.name != b"." && entry.name != b".." {
            all.add(&entry, UPPER, UNKNOWN_INO, Folding::NONE)?;
        }
        Ok(())
    })?;
    let mut changed = Listing::new(all.version, salt);
    for entry in &all.entries {
        let ino = resolve(open, &all, entry)?;
        if let Some(ino) = ino.filter(|ino| *ino != entry.real_ino) {
            let entry = readdir::Entry {
                name: all.name(entry),
                offset: 0,
                ino: entry.real_ino,
                kind: u32::from(entry.kind),
            };
            changed.add(&entry, UPPER, ino, Folding::NONE)?;
        }
    }
    if changed.entries.is_empty() {
        dir.clear_impure(all.version);
        return Ok(None);
    }
    let changed = Arc::new(changed, GFP_KERNEL_ACCOUNT)?;
    dir.remember_own(changed.clone())?;
    Ok(Some(changed))
}

/// Whether a directory is empty as the union shows it; returns the whiteouts that upper holds in it.
///
/// # Errors
///
/// `ENOTEMPTY`.
pub(crate) fn check_empty(dentry: &Dentry, dir: Dir<'_>) -> Result<KVec<CBuf>> {
    let listing = cred::scope(dentry.fs().creds(), |_| read_merged(dentry, dir, false))?;
    let mut whiteouts = KVec::new();
    for entry in &listing.entries {
        let name = listing.name(entry);
        if entry.whiteout {
            if entry.from == UPPER {
                whiteouts.push(CBuf::new(name)?, GFP_KERNEL)?;
            }
        } else if name != b"." && name != b".." {
            return Err(ENOTEMPTY);
        }
    }
    Ok(whiteouts)
}
