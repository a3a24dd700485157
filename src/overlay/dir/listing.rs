// SPDX-License-Identifier: GPL-2.0

//! A listing: the names of a merged directory, each once.

use crate::{
    overlay::layer::{numbering::Numbers, UPPER},
    vfs::{
        self,
        folding::{Folding, NameSalt},
        mount::PathRef,
        readdir::{self, dt},
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Inode number of an entry: not known yet.
pub(super) const UNKNOWN_INO: u64 = 0;

/// Slots of the smallest table.
const LEAST_SLOTS: usize = 64;

/// So many names at most are [expected](Listing::expect).
const MOST_EXPECTED: usize = 1 << 14;

/// One name of a listing.
pub(super) struct Entry {
    /// Where the name is in the listing's bytes.
    pub(super) start: u32,
    /// Of the name.
    pub(super) hash: u32,
    pub(super) len: u16,
    /// `d_type`.
    pub(super) kind: u8,
    /// Which of the directory's layers shows it: [`UPPER`], or its lower ones from 1 on, topmost first.
    pub(super) from: u16,
    pub(super) whiteout: bool,
    /// A regular file that may be an xattr whiteout.
    pub(super) maybe_xwhiteout: bool,
    /// It turned out not to be there.
    pub(super) gone: Atomic<bool>,
    pub(super) real_ino: u64,
    /// `d_ino`, or [`UNKNOWN_INO`].
    pub(super) ino: Atomic<u64>,
}

/// The names of a merged directory, each once; or the names of an impure directory whose inode numbers
/// differ from the real ones.
///
/// An entry's place is the position of a reader. The lowest layer's names come first and upper's own last, so
/// that what is created and removed in a layer moves no name that is in a layer below.
pub(crate) struct Listing {
    /// The directory's version that it shows.
    pub(super) version: u32,
    pub(super) entries: KVVec<Entry>,
    names: KVVec<u8>,
    /// Open-addressing hash table of indexes into `entries`, plus one; a power of two of slots.
    slots: KVVec<u32>,
    /// Keys the hash: names are chosen by users. It is the mount's, for a random number costs as much as ten names.
    salt: NameSalt,
    /// An entry was not found when it was looked up, and is not shown to this reader.
    pub(super) skipped: Atomic<bool>,
}

impl Listing {
    /// No names yet of a directory at `version`; they are hashed with `salt`.
    pub(super) fn new(version: u32, salt: NameSalt) -> Self {
        Self {
            version,
            entries: KVVec::new(),
            names: KVVec::new(),
            slots: KVVec::new(),
            salt,
            skipped: Atomic::new(false),
        }
    }

    /// The directory's version that it shows.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Whether it shows all that could be seen.
    pub(crate) fn is_complete(&self) -> bool {
        !self.skipped.load(Relaxed)
    }

    /// How many names it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        self.names
            .get(start..start + usize::from(entry.len))
            .unwrap_or_default()
    }

    /// The slot of `name`: where its index is, or where it would go.
    #[inline]
    fn slot(&self, name: &[u8], hash: u32, folding: Folding<'_>) -> Option<(usize, Option<usize>)> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            match *self.slots.get(at)? {
                0 => return Some((at, None)),
                index => {
                    let index = index as usize - 1;
                    let same = |e: &Entry| e.hash == hash && folding.is_same(self.name(e), name);
                    if self.entries.get(index).is_some_and(same) {
                        return Some((at, Some(index)));
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// The entry `name`; names were added as `folding` has it.
    pub(super) fn find(&self, name: &[u8], folding: Folding<'_>) -> Option<&Entry> {
        let hash = self.salt.hash(name, folding);
        self.entries.get(self.slot(name, hash, folding)?.1?)
    }

    /// Makes room for about `names` names at once.
    pub(super) fn expect(&mut self, names: usize) -> Result {
        // A layer may tell anything.
        let slots = names.min(MOST_EXPECTED) * 2 + 2;
        self.resize(slots.next_power_of_two().max(LEAST_SLOTS))
    }

    /// Makes room for more names.
    #[cold]
    fn grow(&mut self) -> Result {
        self.resize((self.slots.len() * 4).max(LEAST_SLOTS))
    }

    fn resize(&mut self, size: usize) -> Result {
        let mask = size - 1;
        if self.entries.is_empty() {
            self.entries.reserve(size / 2, GFP_KERNEL_ACCOUNT)?;
            self.names.reserve(size * 8, GFP_KERNEL_ACCOUNT)?;
        }
        self.slots = KVVec::zeroed(size, GFP_KERNEL_ACCOUNT)?;
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

    /// Adds a name, or has a layer show it that is above the one which did.
    #[inline(never)]
    pub(super) fn add(
        &mut self,
        entry: &readdir::Entry<'_>,
        from: u16,
        ino: u64,
        folding: Folding<'_>,
    ) -> Result {
        self.show(entry, from, ino, false, folding)
    }

    /// The same, in the loop over a layer's names.
    #[inline(always)]
    fn show(
        &mut self,
        entry: &readdir::Entry<'_>,
        from: u16,
        ino: u64,
        maybe_xwhiteout: bool,
        folding: Folding<'_>,
    ) -> Result {
        if (self.entries.len() + 1) * 2 > self.slots.len() {
            self.grow()?;
        }
        let hash = self.salt.hash(entry.name, folding);
        let kind = (entry.kind & 0xff) as u8;
        match self.slot(entry.name, hash, folding).ok_or(EIO)? {
            (at, None) => {
                let new = Entry {
                    start: u32::try_from(self.names.len())?,
                    hash,
                    len: u16::try_from(entry.name.len())?,
                    kind,
                    from,
                    whiteout: false,
                    maybe_xwhiteout,
                    gone: Atomic::new(false),
                    real_ino: entry.ino,
                    ino: Atomic::new(ino),
                };
                self.names
                    .extend_from_slice(entry.name, GFP_KERNEL_ACCOUNT)?;
                self.entries.push(new, GFP_KERNEL_ACCOUNT)?;
                if let Some(slot) = self.slots.get_mut(at) {
                    *slot = u32::try_from(self.entries.len())?;
                }
            }
            (_, Some(at)) => {
                if folding.folds() {
                    self.spell(at, entry.name)?;
                }
                let known = self.entries.get_mut(at).ok_or(EIO)?;
                known.kind = kind;
                known.from = from;
                known.maybe_xwhiteout = maybe_xwhiteout;
                known.real_ino = entry.ino;
                known.ino = Atomic::new(ino);
            }
        }
        Ok(())
    }

    /// Spells the entry at `at` as `name`: the topmost layer decides that.
    #[cold]
    fn spell(&mut self, at: usize, name: &[u8]) -> Result {
        let entry = self.entries.get(at).ok_or(EIO)?;
        if self.name(entry) == name {
            return Ok(());
        }
        let start = u32::try_from(self.names.len())?;
        self.names.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
        let entry = self.entries.get_mut(at).ok_or(EIO)?;
        entry.start = start;
        entry.len = u16::try_from(name.len())?;
        Ok(())
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

    /// Looks which of the character devices are whiteouts, each in its layer's directory.
    ///
    /// # Errors
    ///
    /// `EINTR`, and what `directory` returns.
    pub(super) fn find_whiteouts<'a>(
        &mut self,
        directory: impl Fn(u16) -> Result<PathRef<'a>>,
    ) -> Result {
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get(index) else {
                break;
            };
            if u32::from(entry.kind) != dt::CHR {
                continue;
            }
            let path = directory(entry.from)?;
            let whiteout = match path.dentry().lookup_killable(path.mnt(), self.name(entry)) {
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

    /// Adds the names of one layer's directory, and shows those that layers below have as this one does.
    pub(super) fn read_layer(&mut self, path: PathRef<'_>, how: LayerView<'_>) -> Result {
        readdir::read_all(path, |entry| {
            let ino = how.number(&entry);
            let maybe_xwhiteout = how.xwhiteouts && entry.kind & 0xff == dt::REG;
            self.show(&entry, how.from, ino, maybe_xwhiteout, how.folding)
        })
    }
}

/// How the names of one layer are taken.
#[derive(Clone, Copy)]
pub(super) struct LayerView<'a> {
    /// See [`Entry::from`].
    pub(super) from: u16,
    /// What is shown for the numbers of the layer, where that matters.
    pub(super) numbers: Option<Numbers>,
    /// The upper directory may hold copied-up entries.
    pub(super) impure: bool,
    /// Regular files may be whiteouts.
    pub(super) xwhiteouts: bool,
    /// Which names are one.
    pub(super) folding: Folding<'a>,
}

impl LayerView<'_> {
    /// The inode number that the union shows for `entry`.
    fn number(self, entry: &readdir::Entry<'_>) -> u64 {
        match (self.numbers, entry.name) {
            (None, _) => entry.ino,
            (Some(_), b"..") => UNKNOWN_INO,
            (Some(_), name) if self.from == UPPER && (self.impure || name == b".") => UNKNOWN_INO,
            (Some(numbers), _) => numbers.listed(entry.ino),
        }
    }
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
        let mut listing = Listing::new(0, NameSalt::random());
        for from in [3u16, 1, UPPER] {
            for i in 0..1000u32 {
                listing.add(&entry(&i.to_ne_bytes()), from, 7, Folding::NONE)?;
            }
        }
        assert_eq!(listing.entries.len(), 1000);
        assert!(listing.entries.iter().all(|entry| entry.from == UPPER));
        assert!(listing.find(&5u32.to_ne_bytes(), Folding::NONE).is_some());
        assert!(listing.find(b"none", Folding::NONE).is_none());
        Ok(())
    }

    /// What a layer adds comes behind what the layers below have, whichever layer shows that.
    #[test]
    fn places() -> Result {
        let below = |above: &[&[u8]]| -> Result<Listing> {
            let mut listing = Listing::new(0, NameSalt::random());
            for (from, names) in [(2, &[&b"."[..], b"a", b"b"][..]), (UPPER, above)] {
                for name in names {
                    listing.add(&entry(name), from, 7, Folding::NONE)?;
                }
            }
            Ok(listing)
        };
        let (few, many) = (below(&[b"."])?, below(&[b"new", b"b", b".", b"newer"])?);
        for (few, many) in few.entries.iter().zip(&many.entries) {
            assert_eq!(few.start, many.start);
        }
        let b = many.find(b"b", Folding::NONE).ok_or(ENOENT)?;
        assert_eq!((b.from, many.entries.len()), (UPPER, 5));
        Ok(())
    }
}
