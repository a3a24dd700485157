// SPDX-License-Identifier: GPL-2.0
//! Devices that fail or fill up below the layers.

mod dying;
mod full;
mod lower;

use crate::snap::Tree;
use crate::union::Union;
use crate::{Report, Settings};
use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, XattrFlags, CWD};
use rustix::io::Errno;
use std::path::Path;

/// A change of the tree.
pub struct Change {
    pub name: &'static str,
    /// Makes it; the path is the mount point's.
    make: fn(&Path) -> Result<(), Errno>,
    /// What is synced afterwards, below the mount point.
    sync: &'static str,
    /// It stays in a short run.
    short: bool,
}

const fn change(
    name: &'static str,
    sync: &'static str,
    short: bool,
    make: fn(&Path) -> Result<(), Errno>,
) -> Change {
    Change {
        name,
        make,
        sync,
        short,
    }
}

fn rename(mnt: &Path, old: &str, new: &str) -> Result<(), Errno> {
    fs::renameat_with(CWD, mnt.join(old), CWD, mnt.join(new), RenameFlags::empty())
}

/// Every step that a union takes on upper, in a change of its own.
pub const CHANGES: &[Change] = &[
    change("copy-up by chmod", "big", true, |m| {
        fs::chmod(m.join("big"), Mode::from_raw_mode(0o640))
    }),
    change("copy-up by write", "big", false, |m| {
        let file = fs::open(m.join("big"), OFlags::RDWR, Mode::empty())?;
        rustix::io::pwrite(&file, b"changed", 100).map(drop)
    }),
    change("copy-up of directories", "dir/deep/er/file", false, |m| {
        let value = b"value";
        fs::setxattr(
            m.join("dir/deep/er/file"),
            "user.new",
            value,
            XattrFlags::empty(),
        )
    }),
    change("rename of a lower file", ".", true, |m| {
        rename(m, "big", "new")
    }),
    change("rename over a whiteout", ".", false, |m| {
        rename(m, "up", "gone")
    }),
    change("rename over a merged directory", ".", false, |m| {
        rename(m, "updir", "emptied")
    }),
    change("whiteout", ".", true, |m| fs::unlink(m.join("file"))),
    change("whiteout in a lower directory", "only0", false, |m| {
        fs::unlink(m.join("only0/file"))
    }),
    change("rmdir of a merged directory", ".", false, |m| {
        fs::rmdir(m.join("emptied"))
    }),
    change("mkdir over a whiteout", ".", true, |m| {
        fs::mkdir(m.join("gone"), Mode::RWXU)
    }),
    change("create over a whiteout", "gone", false, |m| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        fs::open(m.join("gone"), flags, Mode::RUSR | Mode::WUSR).map(drop)
    }),
    change("link of a lower file", ".", false, |m| {
        fs::linkat(CWD, m.join("small"), CWD, m.join("new"), AtFlags::empty())
    }),
];

impl Change {
    /// The trees before and after, on a mount of `union` that nothing is wrong with.
    fn trees(&self, union: &Union) -> Result<(Tree, Tree)> {
        union.mount()?;
        let before = Tree::of(&union.mnt)?;
        (self.make)(&union.mnt).with_context(|| self.name)?;
        let after = Tree::of(&union.mnt)?;
        union.umount()?;
        Ok((before, after))
    }
}

/// The changes of this run.
fn changes(settings: &Settings) -> impl Iterator<Item = &'static Change> + '_ {
    CHANGES
        .iter()
        .filter(|c| (c.short || !settings.short) && settings.wanted(c.name))
}

/// Says where a tree is neither of two.
fn neither(found: &Tree, before: &Tree, after: &Tree) -> Option<String> {
    if found == before || found == after {
        return None;
    }
    let diff = [found.diff(before), found.diff(after)];
    let smaller = usize::from(diff[1].len() < diff[0].len());
    let name = ["before", "after"][smaller];
    Some(format!(
        "the tree is between; not as {name}:\n{}",
        diff[smaller].join("\n")
    ))
}

/// Runs the part.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    full::run(settings, report)?;
    lower::run(settings, report)?;
    dying::run(settings, report)
}
