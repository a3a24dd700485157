// SPDX-License-Identifier: GPL-2.0

//! The index at mount: the directory made, upper and the lower layer compared with those that it was made for, what is left of
//! other mounts cleaned.

use super::{
    layers::Named,
    messages::{refuse, say, Level},
    workdir,
};
use crate::{
    overlay::{
        layer::{
            handle::{self, Indexed},
            index, temp, whiteout,
            xattr_names::{Mark, Namespace},
        },
        union::Layers,
    },
    vfs::{
        context::FsContext,
        dirop::Creating,
        log::{warn_limited, Text},
        mount::{Path, PathRef, Writing},
        xattr::{self, SetFlags},
        Dentry, Inode,
    },
};
use kernel::prelude::*;

/// Name of the directory below `workdir=`.
const INDEX: &[u8] = b"index";

const ADVICE: &str =
    "try deleting index dir or mounting with '-o index=off' to disable inodes index.";

/// The directories as the mounter named them.
pub(super) struct Names<'a> {
    pub(super) lower: &'a Named,
    pub(super) upper: &'a Named,
    pub(super) work: &'a Named,
}

/// An index that is being opened.
pub(super) struct Opening<'a> {
    pub(super) fc: &'a FsContext,
    pub(super) own: Namespace,
    /// The mount has handles that can be opened.
    pub(super) has_export: bool,
    pub(super) layers: &'a Layers,
    pub(super) writing: Writing<'a>,
    pub(super) names: Names<'a>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It stays.
    Keep,
    /// It is of another object than it says, or of one that is no more.
    Stale,
    /// No name is left of its object.
    Orphan,
}

impl Opening<'_> {
    /// Opens the index, which is made where it is not there. `None`, with a message, where it cannot be made: the mount is
    /// read-only then.
    ///
    /// # Errors
    ///
    /// `ESTALE` where upper or the index was used with other directories; `EINVAL` and `ENODATA` where the index has entries
    /// that are none; what the filesystem returns.
    pub(super) fn open(&self) -> Result<Option<Path>> {
        self.check_lower()?;
        let base = self.names.work.path.as_ref();
        let made = match self.make(base.dentry()) {
            Ok(made) => made,
            Err(e) if e == ENOMEM => return Err(e),
            Err(e) => {
                let (name, errno) = (
                    Text(self.names.work.name.as_bytes()),
                    e.to_errno().wrapping_neg(),
                );
                say(
                    Level::Warning,
                    fmt!("failed to create directory {name}/index (errno: {errno}); mounting read-only"),
                );
                say(Level::Warning, fmt!("{ADVICE}"));
                return Ok(None);
            }
        };
        let path = made.as_ref();
        if !path.dentry().can_lookup() {
            return self.refuse_index(ENOTDIR, "is no directory");
        }
        self.check_upper(path)?;
        self.clean(path)?;
        Ok(Some(made))
    }

    fn upper_root(&self) -> Result<PathRef<'_>> {
        Ok(self.layers.upper().ok_or(EIO)?.mnt().root())
    }

    fn refuse_index<T>(&self, e: Error, why: &str) -> Result<T> {
        let name = Text(self.names.work.name.as_bytes());
        refuse(
            self.fc,
            e,
            fmt!("index of workdir '{name}' {why}; {ADVICE}"),
        )
    }

    /// Whether `mark` of `path` holds `value`; set where it holds none.
    fn verify(&self, path: PathRef<'_>, mark: Mark, value: &[u8]) -> Result<bool> {
        if let Some(same) = handle::holds(self.own, path, mark, value)? {
            return Ok(same);
        }
        let to = self.writing.path(path.dentry())?;
        xattr::set(to, self.own.name(mark), value, SetFlags::ANY)?;
        Ok(true)
    }

    /// Checks that upper is used with the topmost lower layer that it was first used with.
    fn check_lower(&self) -> Result {
        let (lower, upper) = (
            Text(self.names.lower.name.as_bytes()),
            Text(self.names.upper.name.as_bytes()),
        );
        let root = self.layers.lower().first().ok_or(EIO)?.mnt().root();
        let value = handle::encode(self.layers, root.dentry().positive()?, false)?;
        match self.verify(self.upper_root()?, Mark::Origin, value.as_bytes()) {
            Ok(true) => Ok(()),
            Ok(false) => refuse(
                self.fc,
                ESTALE,
                fmt!(
                    "lowerdir '{lower}' is not what upperdir '{upper}' was first mounted over; {ADVICE}"
                ),
            ),
            Err(e) => refuse(
                self.fc,
                e,
                fmt!("failed to verify upper root origin (err={})", e.to_errno()),
            ),
        }
    }

    /// The directory, made without inherited mode bits or ACLs unless it is there.
    fn make(&self, base: &Dentry) -> Result<Path> {
        let creating = Creating::start(self.writing, base, INDEX)?;
        match creating.dentry().is_negative() {
            true => workdir::make_in(self.writing, creating),
            false => Path::new(self.writing.mnt(), creating.keep()),
        }
    }

    /// Checks that the index is used with the upper layer that it was made for.
    fn check_upper(&self, index: PathRef<'_>) -> Result {
        let root = self.upper_root()?;
        let value = handle::encode(self.layers, root.dentry().positive()?, true)?;
        match self.verify(index, Mark::Upper, value.as_bytes())? {
            true => Ok(()),
            false => {
                let name = Text(self.names.upper.name.as_bytes());
                let work = Text(self.names.work.name.as_bytes());
                refuse(
                    self.fc,
                    ESTALE,
                    fmt!("upperdir '{name}' is not what the index of workdir '{work}' was made for; {ADVICE}"),
                )
            }
        }
    }

    /// Removes entries that are of no use, and what was left by a mount that ended suddenly.
    fn clean(&self, index: PathRef<'_>) -> Result {
        for name in &workdir::names(index)? {
            let (name, dir) = (name.as_bytes(), index.dentry());
            let Some(found) = dir.lookup_positive(self.writing.mnt(), name, false)? else {
                continue;
            };
            if name.first() == Some(&b'#') {
                workdir::clean(self.fc, self.writing, dir, &found, 1)?;
                continue;
            }
            let entry = index.mnt().path(&found)?;
            match self.judge(entry, name) {
                Ok(Verdict::Keep) => {}
                Ok(verdict) => {
                    let (name, nlink) = (Text(name), found.inode().map_or(0, Inode::nlink));
                    warn_limited!("{verdict:?} index entry ({name}, nlink={nlink})\n");
                    self.drop_entry(dir, &found, verdict)?;
                }
                Err(e) => {
                    // What it is for is not known, so nor is whether it can go.
                    let (name, errno) = (Text(name), e.to_errno());
                    return refuse(
                        self.fc,
                        e,
                        fmt!("failed to verify index ({name}, err={errno}); {ADVICE}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// Removes the entry `entry` in `dir`. Who has a handle of an object without names is told by a whiteout.
    fn drop_entry(&self, dir: &Dentry, entry: &Dentry, verdict: Verdict) -> Result {
        match (&self.layers.work, verdict) {
            (Some(work), Verdict::Orphan) if self.has_export => {
                let work = work.dir.as_ref().dentry();
                whiteout::cover_unshared(self.writing, work, dir, entry)
            }
            _ => temp::remove(self.writing, dir, entry),
        }
    }

    /// [`judge`](Self::judge), of the entry of a directory. It is there for handles alone, and looked at by a mount that has
    /// some.
    fn judge_dir(&self, entry: PathRef<'_>, origin: &[u8]) -> Result<Verdict> {
        if !self.has_export {
            return Ok(Verdict::Keep);
        }
        match handle::indexed_dir(self.layers, self.own, entry, false)? {
            Indexed::Unsaid => Ok(Verdict::Stale),
            Indexed::Gone => Ok(Verdict::Orphan),
            Indexed::Is(upper) => {
                let upper = self.writing.mnt().path(&upper)?;
                match handle::holds(self.own, upper, Mark::Origin, origin)? {
                    Some(true) => Ok(Verdict::Keep),
                    Some(false) => Ok(Verdict::Stale),
                    None => Err(ENODATA),
                }
            }
        }
    }

    /// What becomes of the entry `entry` with the name `name`.
    ///
    /// # Errors
    ///
    /// `EINVAL` where it is no entry, `ENODATA` where it is one that only another kernel reads, or no copy; `ENOMEM`.
    fn judge(&self, entry: PathRef<'_>, name: &[u8]) -> Result<Verdict> {
        let origin = index::origin_of(name)?;
        let object = entry.dentry().positive()?;
        if object.is_whiteout_device() {
            return Ok(Verdict::Keep);
        }
        if object.mode().is_dir() {
            return self.judge_dir(entry, &origin);
        }
        match handle::holds(self.own, entry, Mark::Origin, &origin)? {
            Some(true) => {}
            Some(false) => return Ok(Verdict::Stale),
            None => return Err(ENODATA),
        }
        if object.nlink() != 1 {
            return Ok(Verdict::Keep);
        }
        // No name in upper: all depends on those that lower layers have.
        let Some(lower) = handle::find_named(self.layers, self.own, entry, &origin)? else {
            return Ok(Verdict::Stale);
        };
        match index::names(self.own, entry, lower.dentry().positive()?)? {
            Some(_) => Ok(Verdict::Keep),
            None => Ok(Verdict::Orphan),
        }
    }
}
