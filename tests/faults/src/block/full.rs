// SPDX-License-Identifier: GPL-2.0
//! An upper filesystem with k free blocks, k = 0, 1, 2, ...

use super::{changes, neither, Change};
use crate::snap::Tree;
use crate::sys::{self, Loop};
use crate::union::{make_lowers, Union};
use crate::{Outcome, Report, Settings};
use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::fs::{self, File};
use std::path::Path;

/// Free blocks at most; all changes here need fewer.
const BLOCKS: u32 = 32;
const BLOCK: u64 = 4096;

/// Leaves `free` blocks of the filesystem of `dir`, as far as that can be said.
fn fill(dir: &Path, free: u32) -> Result<()> {
    let file = File::create(dir.join("filler"))?;
    let mut len = 0;
    for piece in [1 << 24, 1 << 20, 1 << 16, BLOCK] {
        loop {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), len, piece) {
                Ok(()) => len += piece,
                Err(Errno::NOSPC) => break,
                Err(e) => return Err(e).context("filling"),
            }
        }
    }
    // Blocks that were reserved for a file that is gone come back later.
    file.set_len(len.saturating_sub(u64::from(free) * BLOCK))?;
    rustix::fs::syncfs(&file)?;
    Ok(())
}

fn once(
    union: &Union,
    change: &Change,
    base: &Path,
    free: u32,
    trees: &(Tree, Tree),
) -> Result<(bool, Vec<String>)> {
    let mut wrong = Vec::new();
    let (before, after) = trees;
    fs::create_dir(&union.top)?;
    union.make_upper()?;
    union.mount()?;
    fill(base, free)?;
    let made = (change.make)(&union.mnt);
    match made {
        Ok(()) | Err(Errno::NOSPC) => {}
        Err(e) => wrong.push(format!("error {e}")),
    }
    let found = Tree::of(&union.mnt)?;
    wrong.extend(neither(&found, before, after));
    if made.is_ok() && found != *after {
        wrong.push(format!(
            "success without effect:\n{}",
            found.diff(after).join("\n")
        ));
    }
    let left = union.leftovers()?;
    wrong.extend(left.iter().map(|l| format!("left: {l}")));
    fs::remove_file(base.join("filler"))?;
    let root = File::open(&union.mnt)?;
    if let Err(e) = rustix::fs::syncfs(&root) {
        wrong.push(format!("syncfs: {e}"));
    }
    drop(root);
    union.umount()?;
    union.mount()?;
    let next = Tree::of(&union.mnt)?;
    wrong.extend(
        next.diff(&found)
            .iter()
            .map(|l| format!("on the next mount: {l}")),
    );
    union.umount()?;
    fs::remove_dir_all(&union.top)?;
    Ok((made.is_ok(), wrong))
}

fn sweep(
    settings: &Settings,
    change: &Change,
    union: &Union,
    base: &Path,
    out: &mut Outcome,
) -> Result<()> {
    fs::create_dir(&union.top)?;
    union.make_upper()?;
    let trees = change.trees(union)?;
    fs::remove_dir_all(&union.top)?;
    let (mut free, mut tried, mut enough) = (0, 0, 0);
    while free <= BLOCKS {
        let (ok, wrong) = once(union, change, base, free, &trees)?;
        for line in wrong {
            out.wrong(format!("{free} blocks free: {line}"));
        }
        tried += 1;
        enough += usize::from(ok);
        free += if settings.short { 5 } else { 1 };
        // All that is needed is there.
        if enough == 3 {
            break;
        }
    }
    out.figures = format!("{tried} fillings, {enough} with enough room");
    Ok(())
}

/// Runs the tests.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for fstype in settings.filesystems(&["tmpfs", "ext4", "xfs"]) {
        let base = settings.dir(&format!("full-{fstype}"))?;
        let lower = settings.dir(&format!("full-{fstype}-lower"))?;
        let mnt = settings.dir(&format!("full-{fstype}-m"))?;
        make_lowers(&lower)?;
        let image = base.with_extension("img");
        let mut device = None;
        let none = MountFlags::empty();
        if fstype == "tmpfs" {
            sys::mount("full", &base, "tmpfs", none, "size=2m,mode=755")?;
        } else {
            sys::mkfs(&fstype, &image, sys::image_size(&fstype))?;
            let attached = Loop::attach(&image)?;
            sys::mount(&attached.0, &base, &fstype, none, "")?;
            device = Some(attached);
        }
        let union = Union::new(&settings.fstype, &lower, &base.join("top"), &mnt);
        for change in changes(settings) {
            let name = format!("full {fstype}: {}", change.name);
            report.test(&name, |out| {
                let result = sweep(settings, change, &union, &base, out);
                if result.is_err() {
                    if sys::is_mounted(&mnt) {
                        sys::umount(&mnt)?;
                    }
                    let _ = fs::remove_file(base.join("filler"));
                    let _ = fs::remove_dir_all(&union.top);
                }
                result
            });
        }
        sys::umount(&base)?;
        drop(device);
        let _ = fs::remove_file(image);
        fs::remove_dir_all(&lower)?;
    }
    Ok(())
}

/// Opens a directory to sync it.
pub fn open_dir(path: &Path) -> Result<rustix::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
}
