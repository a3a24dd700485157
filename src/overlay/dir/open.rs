// SPDX-License-Identifier: GPL-2.0

//! Open directories: merged ones list through a listing of their own, the others pass through to their layer.

use super::{
    listing::{Listing, UNKNOWN_INO},
    merge::{impure_listing, read_merged, resolve},
};
use crate::{
    overlay::{
        attr,
        layer::{
            opened::{self, Opened},
            UPPER,
        },
        object::{
            inode::{Dir, DirFlag},
            number,
        },
        union::{Dentry, Listed, OpenFile, Overlay},
    },
    vfs::{
        self,
        backing::LowerPath,
        cred,
        file::{self, whence},
        file_ops::{DirectoryOperations, Generation, Opening},
        folding::Folding,
        readdir::DirContext,
        slab::SlabBox,
    },
};
use kernel::{
    fs::File,
    new_spinlock,
    prelude::*,
    sync::{atomic::Relaxed, Arc, SpinLock},
};

/// An open directory.
#[pin_data]
pub(crate) struct OpenDir {
    files: Opened,
    #[pin]
    state: SpinLock<State>,
}

/// How the directory is being listed.
struct State {
    /// Names are merged (or whiteouts hidden), not passed through.
    merged: bool,
    listing: Option<Arc<Listing>>,
    /// What is passed through has come past `..`.
    is_past_parent: bool,
}

impl OpenDir {
    /// The open file of the upper directory, where there is one.
    fn upper_file(&self, open: OpenFile<'_>) -> Result<Option<&File>> {
        let Some(path) = open.inode().upper_path() else {
            return Ok(None);
        };
        let fs = open.inode().fs();
        self.files
            .follow(path.positive()?, || opened::for_reading(fs, path))
            .map(Some)
    }

    /// Starts over: forgets a listing that is out of date, sees whether names are merged now; returns that.
    #[inline]
    fn restart(&self, dir: Dir<'_>) -> bool {
        let merged = dir.lists_merged();
        let old = {
            let mut state = self.state.lock();
            state.merged = merged;
            state.is_past_parent = false;
            match &state.listing {
                Some(listing) if listing.version != dir.version() => state.listing.take(),
                _ => None,
            }
        };
        drop(old);
        merged
    }

    /// The listing that this file goes through.
    fn listing(&self, dentry: &Dentry, dir: Dir<'_>) -> Result<Arc<Listing>> {
        if let Some(listing) = &self.state.lock().listing {
            return Ok(listing.clone());
        }
        let listing = dir.listing(|| read_merged(dentry, dir, true))?;
        let old = self.state.lock().listing.replace(listing.clone());
        drop(old);
        Ok(listing)
    }
}

impl OpenDir {
    #[inline(never)]
    fn iterate_merged(&self, open: Listed<'_>, ctx: &mut DirContext<'_>) -> Result {
        let dentry = open.dentry();
        let listing = self.listing(dentry, open.inode().dir()?)?;
        let start = usize::try_from(ctx.pos()).map_err(|_| EINVAL)?;
        for entry in listing.entries.iter().skip(start) {
            if !entry.whiteout && !entry.gone.load(Relaxed) {
                let known = entry.ino.load(Relaxed);
                let ino = if known == UNKNOWN_INO || entry.maybe_xwhiteout {
                    resolve(open, &listing, entry)?
                } else {
                    Some(known)
                };
                let emit = |ino| ctx.emit(listing.name(entry), ino, u32::from(entry.kind));
                if !ino.is_none_or(emit) {
                    break;
                }
            }
            ctx.advance();
        }
        Ok(())
    }

    fn iterate_real(&self, open: Listed<'_>, ctx: &mut DirContext<'_>) -> Result {
        let (dentry, inode) = (open.dentry(), open.inode());
        let dir = inode.dir()?;
        let fs = inode.fs();
        if !fs.numbering.has_one_device() {
            return ctx.pass_through(self.files.first());
        }
        let listed = file::inode_of(self.files.first());
        let in_upper = inode.upper().and_then(vfs::Dentry::inode) == Some(listed);
        let impure = if in_upper && dir.flags().test(DirFlag::Impure) {
            impure_listing(open, dir)?
        } else {
            None
        };
        let lower = inode.lowers().first().filter(|_| !in_upper);
        let numbers = fs.numbers(lower.map_or(UPPER, LowerPath::layer));
        let others_real = impure.is_none() && numbers.lists_real();
        if others_real && self.state.lock().is_past_parent {
            return ctx.pass_through(self.files.first());
        }
        let parent = dentry.own_parent();
        let parent = parent.own_positive()?;
        let parent_ino = match parent.reals().is_merged() {
            true => Some(number::of(parent)?),
            false => None,
        };
        if others_real && parent_ino.is_none() {
            return ctx.pass_through(self.files.first());
        }
        // That `..` was shown is known when the next entry comes.
        let (mut seen_parent, mut is_past_parent) = (false, false);
        let result = ctx.pass_mapped(self.files.first(), |entry| {
            is_past_parent = seen_parent;
            match (entry.name, parent_ino, &impure) {
                (b"..", Some(ino), _) => {
                    seen_parent = true;
                    Some(ino)
                }
                _ if others_real && is_past_parent => None,
                (name, _, Some(listing)) => listing
                    .find(name, Folding::NONE)
                    .map_or(Some(entry.ino), |known| Some(known.ino.load(Relaxed))),
                _ => Some(numbers.listed(entry.ino)),
            }
        });
        if is_past_parent {
            self.state.lock().is_past_parent = true;
        }
        result
    }
}

impl DirectoryOperations<Overlay> for OpenDir {
    type Data = Self;

    fn open(open: Opening<'_, Overlay>) -> Result<SlabBox<Self>> {
        let inode = open.inode();
        let path = inode.content()?.path;
        let merged = inode.dir()?.lists_merged();
        let real = opened::for_reading(inode.fs(), path)?;
        let init = pin_init!(Self {
            files: Opened::new(real),
            state <- new_spinlock!(
                State {
                    merged,
                    listing: None,
                    is_past_parent: false,
                },
                "rovl_open_dir"
            ),
        });
        open.dentry().own_sb().directories().make(init)
    }

    fn iterate(open: Listed<'_>, data: &Self, ctx: &mut DirContext<'_>) -> Result {
        let inode = open.inode();
        let merged = match ctx.pos() {
            0 => data.restart(inode.dir()?),
            _ => data.state.lock().merged,
        };
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
            data.restart(inode.dir()?);
        }
        let merged = {
            let mut state = data.state.lock();
            state.is_past_parent = false;
            state.merged
        };
        if !merged {
            let pos = file::seek(data.files.first(), offset, how)?;
            open.set_pos(file::pos(data.files.first()))?;
            return Ok(pos);
        }
        let to = match how {
            whence::SET => offset,
            whence::CUR => pos.checked_add(offset).ok_or(EOVERFLOW)?,
            _ => return Err(EINVAL),
        };
        open.set_pos(to)?;
        Ok(to)
    }

    fn generation(open: OpenFile<'_>, asked: Generation<'_>) -> Result {
        attr::generation(open.inode(), asked)
    }

    fn fsync(open: OpenFile<'_>, data: &Self, start: i64, end: i64, datasync: bool) -> Result {
        let fs = open.inode().fs();
        if let Some(result) = fs.instead_of_sync() {
            return result;
        }
        // Lower layers have nothing to be written back.
        match data.upper_file(open)? {
            Some(upper) => fs.written.fsync(upper, start, end, datasync),
            None => Ok(()),
        }
    }
}
