// SPDX-License-Identifier: GPL-2.0

//! Listing directories: merged ones through a listing of their own, the others passed through to their
//! layer.

use super::{
    attr, ino::Layout, inode::IMPURE, layer::Layer, lookup, names::own, Dentry, Inode, OpenFile,
    Overlay,
};
use crate::vfs::{
    self, cred,
    file::{self, whence, LayerFile},
    file_ops::DirectoryOperations,
    log::warn_limited,
    mount::{IdMap, PathRef},
    readdir::{self, dt, DirContext},
    sync::{Flags, OnceRef},
    xattr, CBuf,
};
use kernel::{
    fs::File,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, SpinLock,
    },
};

/// Inode number of an entry: not known yet.
const UNKNOWN_INO: u64 = 0;

/// One name of a listing.
struct Entry {
    /// Where the name is in the listing's bytes.
    start: u32,
    /// Of the name.
    hash: u32,
    len: u16,
    /// `d_type`.
    kind: u8,
    upper: bool,
    whiteout: bool,
    /// A regular file that may be an xattr whiteout.
    maybe_xwhiteout: bool,
    /// It turned out not to be there.
    gone: Atomic<bool>,
    real_ino: u64,
    /// `d_ino`, or [`UNKNOWN_INO`].
    ino: Atomic<u64>,
}

/// The names of a merged directory, each once, in an order that stays while nothing changes; or the
/// names of an impure directory whose inode numbers differ from the real ones.
pub(crate) struct Listing {
    /// The directory's version that it shows.
    version: u32,
    entries: KVVec<Entry>,
    names: KVVec<u8>,
    /// Open-addressing hash table of indexes into `entries`, plus one; a power of two of slots.
    slots: KVVec<u32>,
    /// Keys the hash: names are chosen by users.
    salt: readdir::NameSalt,
    /// [`SKIPPED`].
    flags: Flags,
}

/// Listing flag: an entry was not found when it was looked up, and is not shown to this reader.
const SKIPPED: usize = 1;

impl Listing {
    fn new(version: u32) -> Self {
        Self {
            version,
            entries: KVVec::new(),
            names: KVVec::new(),
            slots: KVVec::new(),
            salt: readdir::NameSalt::random(),
            flags: Flags::new(),
        }
    }

    /// The directory's version that it shows.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Whether it shows all that could be seen.
    pub(crate) fn is_complete(&self) -> bool {
        !self.flags.test(SKIPPED)
    }

    /// How many names it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        self.names
            .get(start..start + usize::from(entry.len))
            .unwrap_or_default()
    }

    /// The slot of `name`: where its index is, or where it would go.
    #[inline]
    fn slot(&self, name: &[u8], hash: u32) -> Option<(usize, Option<usize>)> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            match *self.slots.get(at)? {
                0 => return Some((at, None)),
                index => {
                    let index = index as usize - 1;
                    let same = |e: &Entry| e.hash == hash && self.name(e) == name;
                    if self.entries.get(index).is_some_and(same) {
                        return Some((at, Some(index)));
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn find(&self, name: &[u8]) -> Option<&Entry> {
        let hash = self.salt.hash(name) as u32;
        self.entries.get(self.slot(name, hash)?.1?)
    }

    /// Makes room for more names.
    #[cold]
    fn grow(&mut self) -> Result {
        let size = (self.slots.len() * 4).max(64);
        let mask = size - 1;
        if self.entries.is_empty() {
            self.entries.reserve(size / 2, GFP_KERNEL_ACCOUNT)?;
            self.names.reserve(size * 8, GFP_KERNEL_ACCOUNT)?;
        }
        self.slots = KVVec::from_elem(0, size, GFP_KERNEL_ACCOUNT)?;
        for (index, entry) in (1u32..).zip(&self.entries) {
            let mut at = entry.hash as usize & mask;
            while self.slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = index;
            }
        }
        Ok(())
    }

    /// Adds a name unless it is there; `Ok(None)` then.
    fn add(&mut self, entry: &readdir::Entry<'_>, upper: bool, ino: u64) -> Result<Option<usize>> {
        let index = self.entries.len();
        if (index + 1) * 2 > self.slots.len() {
            self.grow()?;
        }
        let hash = self.salt.hash(entry.name) as u32;
        let Some((at, None)) = self.slot(entry.name, hash) else {
            return Ok(None);
        };
        let start = u32::try_from(self.names.len())?;
        self.names
            .extend_from_slice(entry.name, GFP_KERNEL_ACCOUNT)?;
        self.entries.push(
            Entry {
                start,
                hash,
                len: u16::try_from(entry.name.len())?,
                kind: (entry.kind & 0xff) as u8,
                upper,
                whiteout: false,
                maybe_xwhiteout: false,
                gone: Atomic::new(false),
                real_ino: entry.ino,
                ino: Atomic::new(ino),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = u32::try_from(index + 1)?;
        }
        Ok(Some(index))
    }

    /// Gives back what only the adding of names needs, before the listing is kept. No name can be found
    /// any more.
    pub(crate) fn trim(mut self) -> Self {
        self.slots = KVVec::new();
        // What can't be given back stays.
        let _ = self.entries.shrink_to(0, GFP_KERNEL_ACCOUNT);
        let _ = self.names.shrink_to(0, GFP_KERNEL_ACCOUNT);
        self
    }

    /// Looks whether the character devices from `first` on are whiteouts.
    fn find_whiteouts(&mut self, path: PathRef<'_>, first: usize) -> Result {
        for index in first..self.entries.len() {
            let Some(entry) = self.entries.get(index) else {
                break;
            };
            if u32::from(entry.kind) != dt::CHR {
                continue;
            }
            let whiteout = match path.dentry.lookup_killable(path.mnt, self.name(entry)) {
                Ok(found) => found.inode().is_some_and(vfs::Inode::is_whiteout_device),
                Err(e) if e == EINTR => return Err(e),
                Err(_) => false,
            };
            if let Some(entry) = self.entries.get_mut(index) {
                entry.whiteout = whiteout;
            }
        }
        Ok(())
    }

    /// Adds the names of one layer's directory that no layer above has.
    fn read_layer(&mut self, path: PathRef<'_>, how: LayerView) -> Result {
        let first = self.entries.len();
        let dir = file::open_checked(path, false)?;
        readdir::read_all(&dir, |entry| {
            let ino = if how.number(entry.name) {
                UNKNOWN_INO
            } else {
                entry.ino
            };
            if let Some(index) = self.add(&entry, how.upper, ino)? {
                if how.xwhiteouts && entry.kind & 0xff == dt::REG {
                    if let Some(entry) = self.entries.get_mut(index) {
                        entry.maybe_xwhiteout = true;
                    }
                }
            }
            Ok(())
        })?;
        self.find_whiteouts(path, first)
    }
}

/// How the names of one layer are taken.
#[derive(Clone, Copy)]
struct LayerView {
    upper: bool,
    /// Inode numbers are those of one filesystem and are wanted.
    numbers: bool,
    /// The upper directory may hold copied-up entries.
    impure: bool,
    /// Regular files may be whiteouts.
    xwhiteouts: bool,
}

impl LayerView {
    /// Whether the entry's real inode number may not be the one that the union shows.
    fn number(self, name: &[u8]) -> bool {
        self.numbers && (name == b".." || (self.upper && (self.impure || name == b".")))
    }
}

/// Reads a merged directory. With the mounter's credentials.
fn read_merged(dentry: &Dentry, inode: &Inode, numbers: bool) -> Result<Listing> {
    let fs = dentry.fs();
    let mut listing = Listing::new(inode.version());
    let numbers = numbers && fs.layout() == Layout::OneFs;
    let marked = dentry.marks().test(lookup::XWHITEOUTS);
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
fn resolve(dentry: &Dentry, listing: &Listing, entry: &Entry) -> Result<Option<u64>> {
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

/// An open directory.
#[pin_data]
pub(crate) struct OpenDir {
    /// Opened in the layer that answered for the directory then.
    real: ARef<LayerFile>,
    real_is_upper: bool,
    /// Opened in upper since, where the directory was copied up.
    upper: OnceRef<LayerFile>,
    #[pin]
    state: SpinLock<State>,
}

/// How the directory is being listed.
struct State {
    /// Names are merged (or whiteouts hidden), not passed through.
    merged: bool,
    listing: Option<Arc<Listing>>,
}

fn open_real(path: PathRef<'_>) -> Result<ARef<LayerFile>> {
    file::open_checked(path, false)
}

impl OpenDir {
    /// The open file of the upper directory, where there is one.
    fn upper_file(&self, open: OpenFile<'_>) -> Result<Option<&File>> {
        let Some(path) = open.inode().upper_path() else {
            return Ok(None);
        };
        if self.real_is_upper {
            return Ok(Some(&self.real));
        }
        if self.upper.get().is_none() {
            let file = cred::scope(open.inode().fs().creds(), |_| open_real(path))?;
            // Where another task was quicker its file is used, and this one closed.
            drop(self.upper.set(file));
        }
        Ok(self.upper.get().map(|file| &**file))
    }

    /// Starts over: forgets a listing that is out of date, sees whether names are merged now.
    fn restart(&self, inode: &Inode) {
        let old = {
            let mut state = self.state.lock();
            state.merged = inode.lists_merged();
            match &state.listing {
                Some(listing) if listing.version != inode.version() => state.listing.take(),
                _ => None,
            }
        };
        drop(old);
    }

    /// The listing that this file goes through.
    fn listing(&self, dentry: &Dentry, inode: &Inode) -> Result<Arc<Listing>> {
        if let Some(listing) = &self.state.lock().listing {
            return Ok(listing.clone());
        }
        let listing = inode.listing(|| read_merged(dentry, inode, true))?;
        let old = self.state.lock().listing.replace(listing.clone());
        drop(old);
        Ok(listing)
    }
}

/// The entries of an impure upper directory whose inode numbers are those of their origins; `None`
/// where there is none, and the directory is impure no longer.
fn impure_listing(dentry: &Dentry, inode: &Inode) -> Result<Option<Arc<Listing>>> {
    if let Some(listing) = inode.remembered_listing() {
        return Ok(Some(listing));
    }
    let path = inode.upper_path().ok_or(EIO)?;
    let mut all = Listing::new(inode.version());
    readdir::read_all(&*open_real(path)?, |entry| {
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

impl OpenDir {
    fn iterate_merged(&self, open: OpenFile<'_>, ctx: &mut DirContext<'_>) -> Result {
        let (dentry, inode) = (open.dentry(), open.inode());
        let listing = self.listing(dentry, inode)?;
        let start = usize::try_from(ctx.pos()).map_err(|_| EINVAL)?;
        for entry in listing.entries.iter().skip(start) {
            if !entry.whiteout && !entry.gone.load(Relaxed) {
                let known = entry.ino.load(Relaxed);
                let ino = if known == UNKNOWN_INO || entry.maybe_xwhiteout {
                    resolve(dentry, &listing, entry)?
                } else {
                    Some(known)
                };
                let emit = |ino| ctx.emit(listing.name(entry), ino, u32::from(entry.kind));
                if !ino.is_none_or(emit) {
                    break;
                }
            }
            ctx.set_pos(ctx.pos() + 1);
        }
        Ok(())
    }

    fn iterate_real(&self, open: OpenFile<'_>, ctx: &mut DirContext<'_>) -> Result {
        let (dentry, inode) = (open.dentry(), open.inode());
        if inode.fs().layout() != Layout::OneFs {
            return ctx.pass_through(&self.real);
        }
        let parent = dentry.own_parent();
        let parent_ino = if parent.own_positive()?.parts().merged {
            Some(attr::ino(&parent)?)
        } else {
            None
        };
        let impure = if self.real_is_upper && inode.data().flags.test(IMPURE) {
            impure_listing(dentry, inode)?
        } else {
            None
        };
        if parent_ino.is_none() && impure.is_none() {
            return ctx.pass_through(&self.real);
        }
        let result = ctx.pass_mapped(&self.real, |entry| {
            match (entry.name, parent_ino, &impure) {
                (b"..", Some(ino), _) => ino,
                (name, _, Some(listing)) => listing
                    .find(name)
                    .map_or(entry.ino, |known| known.ino.load(Relaxed)),
                _ => entry.ino,
            }
        });
        result
    }
}

impl DirectoryOperations<Overlay> for OpenDir {
    type Data = Self;

    fn open(open: OpenFile<'_>) -> Result<Pin<KBox<Self>>> {
        let inode = open.inode();
        let path = inode.real_path()?;
        let real = cred::scope(inode.fs().creds(), |_| open_real(path))?;
        let real_is_upper = inode.upper().is_some_and(|upper| *upper == *path.dentry);
        KBox::pin_init(
            pin_init!(Self {
                real,
                real_is_upper,
                upper: OnceRef::new(),
                state <- new_spinlock!(
                    State {
                        merged: inode.lists_merged(),
                        listing: None,
                    },
                    "rovl_open_dir"
                ),
            }),
            GFP_KERNEL,
        )
    }

    fn iterate(open: OpenFile<'_>, data: &Self, ctx: &mut DirContext<'_>) -> Result {
        let inode = open.inode();
        if ctx.pos() == 0 {
            data.restart(inode);
        }
        let merged = data.state.lock().merged;
        cred::scope(inode.fs().creds(), |_| {
            if merged {
                data.iterate_merged(open, ctx)
            } else {
                data.iterate_real(open, ctx)
            }
        })
    }

    fn seek(open: OpenFile<'_>, data: &Self, offset: i64, how: i32) -> Result<i64> {
        let inode = open.inode();
        let _lock = inode.lock();
        let pos = file::pos(open.file());
        if pos == 0 {
            data.restart(inode);
        }
        if !data.state.lock().merged {
            let pos = file::seek(&data.real, offset, how)?;
            file::set_pos(open.file(), file::pos(&data.real));
            return Ok(pos);
        }
        let to = match how {
            whence::SET => offset,
            whence::CUR => pos.checked_add(offset).ok_or(EOVERFLOW)?,
            _ => return Err(EINVAL),
        };
        if to < 0 {
            return Err(EINVAL);
        }
        file::set_pos(open.file(), to);
        Ok(to)
    }

    fn fsync(open: OpenFile<'_>, data: &Self, start: i64, end: i64, datasync: bool) -> Result {
        // Lower layers have nothing to be written back.
        match data.upper_file(open)? {
            Some(upper) => file::fsync(upper, start, end, datasync),
            None => Ok(()),
        }
    }
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

#[kernel::macros::kunit_tests(rovl_listing)]
mod tests {
    use super::*;

    fn entry(name: &[u8]) -> readdir::Entry<'_> {
        readdir::Entry {
            name,
            offset: 0,
            ino: 7,
            kind: dt::REG,
        }
    }

    #[test]
    fn names_once() -> Result {
        let mut listing = Listing::new(0);
        for round in 0..2u32 {
            for i in 0..1000u32 {
                let added = listing.add(&entry(&i.to_ne_bytes()), true, 7)?;
                assert_eq!(added.is_some(), round == 0);
            }
        }
        assert_eq!(listing.entries.len(), 1000);
        assert!(listing.find(&5u32.to_ne_bytes()).is_some());
        assert!(listing.find(b"none").is_none());
        Ok(())
    }
}
