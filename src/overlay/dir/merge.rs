// SPDX-License-Identifier: GPL-2.0

//! Merged listings: read from the layers, resolved to what the union shows.

use super::listing::{Entry, LayerView, Listing, SKIPPED, UNKNOWN_INO};
use crate::{
    overlay::{
        attr,
        layer::{xattr_names::own, Layer},
        object::{
            inode::{IMPURE, XWHITEOUTS},
            number::Layout,
        },
        union::{Dentry, Inode},
    },
    vfs::{cred, file, log::warn_limited, mount::IdMap, readdir, xattr, CBuf},
};
use kernel::{
    prelude::*,
    sync::{aref::ARef, atomic::Relaxed, Arc},
};

/// Reads a merged directory. With the mounter's credentials.
pub(super) fn read_merged(dentry: &Dentry, inode: &Inode, numbers: bool) -> Result<Listing> {
    let fs = dentry.fs();
    let mut listing = Listing::new(inode.version());
    let numbers = numbers && fs.layout() == Layout::OneFs;
    let marked = dentry.marks().test(XWHITEOUTS);
    let view = |layer: &Layer, upper| LayerView {
        upper,
        numbers,
        impure: inode.data().flags.test(IMPURE),
        xwhiteouts: marked && layer.has_xwhiteouts(),
    };
    if let (Some(layer), Some(upper)) = (fs.upper(), inode.upper()) {
        listing.read_layer(layer.path(upper), view(layer, true))?;
    }
    for path in inode.data().lower.as_slice() {
        let layer = fs.layer(path.layer).ok_or(EIO)?;
        listing.read_layer(layer.path(path.dentry()?), view(layer, false))?;
    }
    Ok(listing)
}

/// The entry `name` of `dentry` as the union shows it; `None` where it is not there.
fn look_up(dentry: &Dentry, name: &[u8]) -> Result<Option<ARef<Dentry>>> {
    let found = match name {
        b"." => dentry.into(),
        b".." => dentry.own_parent(),
        _ => dentry.own(dentry.lookup_locked(IdMap::nop(), name)?)?,
    };
    Ok((!found.is_negative()).then_some(found))
}

/// Finds out the inode number of an entry; `None` where it is not there at all.
pub(super) fn resolve(dentry: &Dentry, listing: &Listing, entry: &Entry) -> Result<Option<u64>> {
    let name = listing.name(entry);
    let known = entry.ino.load(Relaxed);
    let found = look_up(dentry, name);
    if !matches!(found, Ok(Some(_))) {
        // This reader goes on behind it. Another one may see it: the layers and what the dcache knows of
        // them disagree, which passes.
        entry.gone.store(true, Relaxed);
        listing.flags.set(SKIPPED);
    }
    let found = found.inspect_err(|e| {
        warn_limited!(
            "failed to look up an entry of {dentry} for ino ({})\n",
            e.to_errno()
        );
    })?;
    let ino = match found {
        None => return Ok(None),
        Some(_) if known != UNKNOWN_INO => known,
        Some(found) if found.own_positive()?.parts().origin => attr::ino(&found)?,
        Some(_) => entry.real_ino,
    };
    entry.ino.store(ino, Relaxed);
    Ok(Some(ino))
}

/// The entries of an impure upper directory whose inode numbers are those of their origins; `None`
/// where there is none, and the directory is impure no longer.
pub(super) fn impure_listing(dentry: &Dentry, inode: &Inode) -> Result<Option<Arc<Listing>>> {
    if let Some(listing) = inode.remembered_listing() {
        return Ok(Some(listing));
    }
    let path = inode.upper_path().ok_or(EIO)?;
    let mut all = Listing::new(inode.version());
    readdir::read_all(&*file::open_checked(path, false)?, |entry| {
        if entry.name != b"." && entry.name != b".." {
            all.add(&entry, true, UNKNOWN_INO)?;
        }
        Ok(())
    })?;
    let mut changed = Listing::new(all.version);
    for entry in &all.entries {
        let ino = resolve(dentry, &all, entry)?;
        if let Some(ino) = ino.filter(|ino| *ino != entry.real_ino) {
            let entry = readdir::Entry {
                name: all.name(entry),
                offset: 0,
                ino: entry.real_ino,
                kind: u32::from(entry.kind),
            };
            changed.add(&entry, true, ino)?;
        }
    }
    if changed.entries.is_empty() {
        // Best effort: the mark costs the next listing time, nothing else.
        if let Ok(_write) = path.mnt.want_write() {
            let _ = xattr::remove(path, own::IMPURE);
        }
        inode.data().flags.clear(IMPURE);
        return Ok(None);
    }
    let changed = Arc::new(changed, GFP_KERNEL_ACCOUNT)?;
    inode.remember_own(changed.clone())?;
    Ok(Some(changed))
}

/// Whether a directory is empty as the union shows it; returns the whiteouts that upper holds in it.
///
/// # Errors
///
/// `ENOTEMPTY`.
pub(crate) fn check_empty(dentry: &Dentry) -> Result<KVec<CBuf>> {
    let inode = dentry.own_positive()?;
    let listing = cred::scope(dentry.fs().creds(), |_| read_merged(dentry, inode, false))?;
    let mut whiteouts = KVec::new();
    for entry in &listing.entries {
        let name = listing.name(entry);
        if entry.whiteout {
            if entry.upper {
                whiteouts.push(CBuf::new(name)?, GFP_KERNEL)?;
            }
        } else if name != b"." && name != b".." {
            return Err(ENOTEMPTY);
        }
    }
    Ok(whiteouts)
}
