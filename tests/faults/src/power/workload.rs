// SPDX-License-Identifier: GPL-2.0
//! What is done before the power goes, and what each step makes of the tree.
//!
//! ext4 and XFS commit changes of names and attributes in order, so after a cut the tree is that after
//! one of the steps: not before the last one that was made durable, not after the one that was going on. btrfs may
//! have the changes of a file that was synced before earlier ones: there it is cut only where all was synced.

use crate::snap::{Node, Tree};
use crate::sys;
use crate::union::{data, Union};
use anyhow::{Context, Result};
use rand::seq::IndexedRandom;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags, CWD};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A step that was made.
pub struct Step {
    /// What it was.
    pub what: String,
    /// The tree after it.
    pub tree: Tree,
    /// It and all before it are on the device.
    pub durable: bool,
    /// All data is, too.
    pub synced: bool,
    /// A file whose data was on its way during the step.
    pub torn: Option<String>,
    /// A file that has a page written and not synced: the old one and the new one are right, until all is
    /// synced.
    pub unsynced: Option<String>,
}

/// What a step leaves behind beside the tree.
#[derive(Default)]
struct Effect {
    durable: bool,
    synced: bool,
    torn: Option<String>,
    unsynced: Option<String>,
}

const SYNCED: Effect = Effect {
    durable: true,
    synced: true,
    torn: None,
    unsynced: None,
};

/// Directories of the mount: merged, lower, upper, with a name each that may become one.
const DIRS: [&str; 3] = ["merged", "lower", "upper"];
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "sub"];

/// Fills a lower layer.
pub fn make_lower(lower: &Path) -> Result<()> {
    for dir in ["merged/sub", "lower/sub"] {
        std::fs::create_dir_all(lower.join(dir))?;
    }
    for (i, dir) in ["merged", "lower"].into_iter().enumerate() {
        for (j, name) in NAMES[..5].iter().enumerate() {
            let size = 3000 + j * 9000;
            std::fs::write(lower.join(dir).join(name), data((i * 10 + j) as u64, size))?;
        }
        std::fs::write(lower.join(dir).join("sub/file"), b"in a directory below")?;
    }
    Ok(())
}

/// Gives files of a lower layer more names.
pub fn link_lower(lower: &Path) -> Result<()> {
    for (name, other) in [
        ("merged/a", "lower/f"),
        ("merged/b", "merged/sub/twice"),
        ("lower/c", "lower/sub/twice"),
    ] {
        std::fs::hard_link(lower.join(name), lower.join(other))?;
    }
    Ok(())
}

/// Moves the data of the files of `lower` to the data-only layer `data`, guarded by fs-verity.
pub fn take_data_away(lower: &Path, data: &Path) -> Result<()> {
    std::fs::create_dir(data)?;
    let mut dirs = vec![lower.to_owned()];
    let mut count = 0;
    while let Some(dir) = dirs.pop() {
        for name in sys::names(&dir)? {
            let path = dir.join(name);
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            count += 1;
            let object = data.join(count.to_string());
            std::fs::rename(&path, &object)?;
            sys::run("fsverity", &["enable", sys::text(&object)])?;
            std::fs::File::create(&path)?.set_len(object.metadata()?.len())?;
            for (mark, value) in [
                ("metacopy", digest_of(&object)?),
                ("redirect", format!("/{count}").into_bytes()),
            ] {
                let name = format!("trusted.overlay.{mark}");
                fs::setxattr(&path, name, &value, XattrFlags::empty())?;
            }
        }
    }
    Ok(())
}

/// The mark of a file whose data is that of `object`.
fn digest_of(object: &Path) -> Result<Vec<u8>> {
    let said = sys::run("fsverity", &["measure", sys::text(object)])?;
    let digits = said.strip_prefix("sha256:").unwrap_or_default();
    let digits = digits.get(..64).context("no SHA-256")?;
    let mut mark = vec![0, 36, 0, 1];
    for i in (0..64).step_by(2) {
        mark.push(u8::from_str_radix(&digits[i..i + 2], 16)?);
    }
    Ok(mark)
}

/// Fills upper.
pub fn make_upper(upper: &Path) -> Result<()> {
    for dir in ["merged", "upper/sub"] {
        std::fs::create_dir_all(upper.join(dir))?;
    }
    std::fs::write(upper.join("merged/f"), data(30, 6000))?;
    Ok(std::fs::write(upper.join("upper/a"), data(31, 6000))?)
}

/// Makes steps on a mounted union.
pub struct Workload<'a> {
    rng: &'a mut ChaCha8Rng,
    union: &'a Union,
    count: u64,
}

impl<'a> Workload<'a> {
    /// On `union`, which is mounted.
    pub fn new(rng: &'a mut ChaCha8Rng, union: &'a Union) -> Self {
        Self {
            rng,
            union,
            count: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.union.mnt.join(name)
    }

    /// The tree now, as a step.
    pub fn start(&self) -> Result<Step> {
        self.step("start".to_owned(), SYNCED)
    }

    fn step(&self, what: String, effect: Effect) -> Result<Step> {
        Ok(Step {
            what,
            tree: Tree::of(&self.union.mnt)?.timeless(),
            durable: effect.durable,
            synced: effect.synced,
            torn: effect.torn,
            unsynced: effect.unsynced,
        })
    }

    fn pick(&mut self) -> String {
        let dir = DIRS.choose(self.rng).unwrap_or(&DIRS[0]);
        let name = NAMES.choose(self.rng).unwrap_or(&NAMES[0]);
        let below = *name == "sub" && self.rng.random_bool(0.5);
        format!("{dir}/{name}{}", if below { "/file" } else { "" })
    }

    /// Another step; one that the tree does not allow is tried with others.
    pub fn next(&mut self) -> Result<Step> {
        loop {
            let name = self.pick();
            let other = self.pick();
            self.count += 1;
            match self.attempt(&name, &other) {
                Ok((what, effect)) => return self.step(what, effect),
                // It needs something of the tree that is not there.
                Err(
                    Errno::NOENT
                    | Errno::EXIST
                    | Errno::NOTDIR
                    | Errno::ISDIR
                    | Errno::NOTEMPTY
                    | Errno::XDEV
                    | Errno::INVAL,
                ) => {}
                Err(e) => anyhow::bail!("{name}, {other}: {e}"),
            }
        }
    }

    fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mode = Mode::from_raw_mode(0o640);
        fs::open(self.path(name), flags | OFlags::CLOEXEC, mode)
    }

    fn syncfs(&self) -> Result<(), Errno> {
        fs::syncfs(self.open(".", OFlags::RDONLY)?)
    }

    /// Makes what was changed durable, by `file` or by the filesystem, which may have forgotten about it.
    fn make_durable(&mut self, file: OwnedFd) -> Result<(&'static str, Effect), Errno> {
        let how = self.rng.random_range(0..4);
        if how < 2 {
            fs::fsync(&file)?;
            let effect = Effect {
                durable: true,
                ..Effect::default()
            };
            return Ok(("fsync", effect));
        }
        if how == 3 {
            self.syncfs()?;
            return Ok(("syncfs while it is open", SYNCED));
        }
        drop(file);
        std::fs::write("/proc/sys/vm/drop_caches", "2").map_err(|_| Errno::IO)?;
        self.syncfs()?;
        Ok(("caches dropped, syncfs", SYNCED))
    }

    fn attempt(&mut self, name: &str, other: &str) -> Result<(String, Effect), Errno> {
        let (path, to) = (self.path(name), self.path(other));
        let quiet = Effect::default;
        let torn = |effect| Effect {
            torn: Some(name.to_owned()),
            ..effect
        };
        let size = self.rng.random_range(1..30_000);
        let content = data(1000 + self.count, size);
        let sync = self.rng.random_bool(0.3);
        let done = match self.rng.random_range(0..16) {
            0 => {
                // Another mode than it has, so that there is something to commit.
                let mode = fs::statat(CWD, &path, AtFlags::empty())?.st_mode ^ 0o022;
                fs::chmod(&path, Mode::from_raw_mode(mode & 0o777))?;
                let (how, effect) = match sync {
                    true => self.make_durable(self.open(name, OFlags::RDONLY)?)?,
                    false => ("no sync", quiet()),
                };
                (format!("chmod {name}, {how}"), effect)
            }
            1 => {
                let file = self.open(name, OFlags::WRONLY | OFlags::APPEND)?;
                rustix::io::write(&file, &content[..content.len().min(4096)])?;
                let (how, effect) = self.make_durable(file)?;
                (format!("append to {name}, {how}"), torn(effect))
            }
            2 => {
                let file = self.open(name, OFlags::WRONLY)?;
                if fs::fstat(&file)?.st_size < 200 {
                    return Err(Errno::INVAL);
                }
                rustix::io::pwrite(&file, &content[..content.len().min(100)], 50)?;
                let effect = Effect {
                    unsynced: Some(name.to_owned()),
                    ..quiet()
                };
                (format!("write to {name}"), effect)
            }
            3 => {
                let file = self.open(name, OFlags::WRONLY | OFlags::TRUNC)?;
                rustix::io::write(&file, &content)?;
                let (how, effect) = self.make_durable(file)?;
                (format!("write {name} anew, {how}"), torn(effect))
            }
            4 | 5 => {
                fs::renameat_with(CWD, &path, CWD, &to, RenameFlags::empty())?;
                (format!("rename {name} {other}"), quiet())
            }
            6 => {
                fs::renameat_with(CWD, &path, CWD, &to, RenameFlags::EXCHANGE)?;
                (format!("exchange {name} {other}"), quiet())
            }
            7 | 8 => {
                fs::unlink(&path)?;
                let dir = name.rsplit_once('/').map_or(".", |(dir, _)| dir);
                let (how, effect) = match sync {
                    true => self.make_durable(self.open(dir, OFlags::RDONLY)?)?,
                    false => ("no sync", quiet()),
                };
                (format!("unlink {name}, of the directory: {how}"), effect)
            }
            9 => {
                fs::mkdir(&path, Mode::RWXU)?;
                (format!("mkdir {name}"), quiet())
            }
            10 => {
                fs::rmdir(&path)?;
                (format!("rmdir {name}"), quiet())
            }
            11 => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let file = self.open(name, flags)?;
                rustix::io::write(&file, &content)?;
                let (how, effect) = self.make_durable(file)?;
                (format!("create {name}, {how}"), torn(effect))
            }
            12 => {
                let value = self.count.to_string();
                fs::setxattr(&path, "user.step", value.as_bytes(), XattrFlags::empty())?;
                (format!("setxattr {name}"), quiet())
            }
            13 => {
                if FileType::from_raw_mode(fs::statat(CWD, &path, AtFlags::empty())?.st_mode)
                    .is_dir()
                {
                    return Err(Errno::ISDIR);
                }
                fs::linkat(CWD, &path, CWD, &to, AtFlags::empty())?;
                (format!("link {name} {other}"), quiet())
            }
            14 => {
                self.syncfs()?;
                ("syncfs".to_owned(), SYNCED)
            }
            _ => {
                let again = self.union.umount().and_then(|()| self.union.mount());
                again.map_err(|_| Errno::IO)?;
                ("umount, mount".to_owned(), SYNCED)
            }
        };
        Ok(done)
    }
}

/// Whether `found` is `step`'s tree, for the steps' content see [`Step`].
fn fits(found: &Tree, steps: &[Step], index: usize, last: usize) -> bool {
    let want = &steps[index].tree;
    if found.0.len() != want.0.len() {
        return false;
    }
    let content = |node: &Node| (node.size, node.hash);
    let synced = (0..=last)
        .rev()
        .find(|i| *i < last && steps[*i].synced)
        .unwrap_or(0);
    found.0.iter().all(|(path, node)| {
        let Some(wanted) = want.0.get(path) else {
            return false;
        };
        if node == wanted {
            return true;
        }
        let mut like = node.clone();
        (like.size, like.hash) = content(wanted);
        if like != *wanted {
            return false;
        }
        if index == last && steps[last].torn.as_ref() == Some(path) {
            return true;
        }
        // A page that was written and not synced is there or not, whoever has the name now.
        (synced..=last).any(|i| {
            let name = steps[i].unsynced.as_ref();
            let at = |i: usize| name.and_then(|name| steps[i].tree.0.get(name));
            let versions = [at(i.saturating_sub(1)), at(i)];
            versions
                .into_iter()
                .flatten()
                .any(|version| content(version) == content(node))
        })
    })
}

/// What is wrong with the tree after a cut: `done` steps were complete, one more may have been going on.
pub fn judge(found: &Tree, steps: &[Step], done: usize) -> Option<String> {
    let last = (done + 1).min(steps.len() - 1);
    let first = (0..=done).rev().find(|i| steps[*i].durable).unwrap_or(0);
    if (first..=last).any(|i| fits(found, steps, i, last)) {
        return None;
    }
    let closest = (first..=last).min_by_key(|i| found.diff(&steps[*i].tree).len());
    let closest = closest.unwrap_or(last);
    let diff = found.diff(&steps[closest].tree);
    Some(format!(
        "none of the trees after steps {first} to {last}; closest to {closest} ({}):\n{}",
        steps[closest].what,
        diff.join("\n")
    ))
}
