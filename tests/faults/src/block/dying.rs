// SPDX-License-Identifier: GPL-2.0
//! The device of upper fails: from a step on, or after k more pages were written.

use super::full::open_dir;
use super::{changes, neither, Change};
use crate::snap::Tree;
use crate::sys::{self, Loop, Mapped};
use crate::union::{make_lowers, Union};
use crate::{Outcome, Report, Settings};
use anyhow::{ensure, Context, Result};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Pages that the device still takes, at most.
const PAGES: u64 = 64;

/// When the device fails.
#[derive(Clone, Copy, PartialEq)]
enum Dies {
    Before,
    After,
}

/// How it fails.
#[derive(Clone, Copy)]
enum How {
    /// All I/O.
    Error,
    /// Writes only.
    Writes,
}

/// A device that can be made to fail.
struct Failing {
    mapped: Mapped,
    works: String,
    fails: String,
    /// What it is mapped to.
    _device: Loop,
}

impl Failing {
    fn new(image: &Path, how: How) -> Result<Self> {
        let device = Loop::attach(image)?;
        let sectors = device.sectors()?;
        let works = format!("0 {sectors} linear {} 0", device.0);
        let fails = match how {
            How::Error => format!("0 {sectors} error"),
            How::Writes => format!("0 {sectors} flakey {} 0 0 3600 1 error_writes", device.0),
        };
        Ok(Self {
            mapped: Mapped::create("faults-dying", &works)?,
            works,
            fails,
            _device: device,
        })
    }

    fn fail(&self) -> Result<()> {
        self.mapped.reload(&self.fails)
    }
}

/// Whether an error is one of a device, or of a filesystem that has given up.
fn fits(e: Errno) -> bool {
    matches!(e, Errno::IO | Errno::ROFS | Errno::UCLEAN)
}

/// Images and mount points for one filesystem.
struct Place<'a> {
    fstype: &'a str,
    /// An image with upper and work.
    ready: PathBuf,
    /// What is mounted; on a tmpfs of its own, whose size is the device's thin provision.
    thin: PathBuf,
    device_dir: PathBuf,
    union: Union,
}

impl Place<'_> {
    fn image(&self) -> PathBuf {
        self.thin.join("device.img")
    }

    fn mount_device(&self, device: &str) -> Result<()> {
        let none = MountFlags::empty();
        sys::mount(device, &self.device_dir, self.fstype, none, "")
    }

    /// Mounts what is there once the device works again, and judges it.
    fn recovered(&self, device: &str, trees: &(Tree, Tree), synced: bool) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        self.mount_device(device).context("recovered")?;
        self.union.mount().context("recovered")?;
        let found = Tree::of(&self.union.mnt).map(Tree::timeless)?;
        wrong.extend(neither(&found, &trees.0, &trees.1).map(|l| format!("recovered: {l}")));
        if synced && found != trees.1 {
            let diff = found.diff(&trees.1).join("\n");
            wrong.push(format!("recovered: what was synced is not there:\n{diff}"));
        }
        let left = self.union.leftovers()?;
        wrong.extend(left.iter().map(|l| format!("recovered: left: {l}")));
        self.union.umount()?;
        sys::umount(&self.device_dir)?;
        Ok(wrong)
    }

    /// Unmounts whatever is mounted, the union first.
    fn clear(&self) -> Result<()> {
        for dir in [&self.union.mnt, &self.device_dir] {
            if sys::is_mounted(dir) {
                sys::umount(dir)?;
            }
        }
        Ok(())
    }

    fn trees(&self, change: &Change) -> Result<(Tree, Tree)> {
        sys::copy_image(&self.ready, &self.image())?;
        let device = Loop::attach(&self.image())?;
        self.mount_device(&device.0)?;
        let (before, after) = change.trees(&self.union)?;
        sys::umount(&self.device_dir)?;
        Ok((before.timeless(), after.timeless()))
    }

    /// A new copy of the image on a device that can fail, mounted, with the union over it.
    fn mounted(&self, how: How) -> Result<Failing> {
        sys::copy_image(&self.ready, &self.image())?;
        self.over(how)
    }

    /// The same on ext4 that does not give up: it has no journal.
    fn tolerant(&self) -> Result<Failing> {
        sys::copy_image(&self.ready, &self.image())?;
        sys::run("tune2fs", &["-O", "^has_journal", sys::text(&self.image())])?;
        self.over(How::Writes)
    }

    fn over(&self, how: How) -> Result<Failing> {
        let device = Failing::new(&self.image(), how)?;
        self.mount_device(&device.mapped.path)?;
        self.union.mount()?;
        Ok(device)
    }

    /// A file that was open before its copy-up is told of the copy's errors, whoever was told before.
    fn told_late(&self, out: &mut Outcome) -> Result<()> {
        let device = self.tolerant()?;
        let path = self.union.mnt.join("small");
        let early = File::open(&path)?;
        let writer = File::options().write(true).open(&path)?;
        rustix::io::pwrite(&writer, &[b'x'; 1 << 16], 0)?;
        device.fail()?;
        match rustix::fs::fsync(&writer) {
            Err(e) if fits(e) => {}
            other => out.wrong(format!("fsync of who wrote: {other:?}")),
        }
        device.mapped.reload(&device.works)?;
        match rustix::fs::fsync(&early) {
            Err(e) if fits(e) => {}
            // overlayfs opens the copy when it is too late to hear of the error.
            Ok(()) if self.union.fstype == "overlay" => {}
            other => out.wrong(format!("fsync of who had opened it before: {other:?}")),
        }
        drop((early, writer));
        self.clear()
    }

    /// A change whose device dies.
    fn dies(
        &self,
        change: &Change,
        trees: &(Tree, Tree),
        dies: Dies,
        how: How,
    ) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let device = self.mounted(how)?;
        // Open before the error: that is what syncfs reports to.
        let root = File::open(&self.union.mnt)?;
        rustix::fs::syncfs(&root)?;
        if dies == Dies::Before {
            device.fail()?;
        }
        let made = (change.make)(&self.union.mnt);
        if dies == Dies::After {
            made.context("on a device that works")?;
            device.fail()?;
        }
        if let Err(e) = made {
            if !fits(e) {
                wrong.push(format!("error {e}"));
            }
        }
        let changed = made.is_ok();
        let synced =
            open_dir(&self.union.mnt.join(change.sync)).and_then(|f| rustix::fs::fsync(&f));
        let all = rustix::fs::syncfs(&root);
        for (what, result) in [("fsync", synced), ("syncfs", all)] {
            match result {
                Ok(()) if changed => {
                    wrong.push(format!("{what} says that a dead device has the change"))
                }
                Err(e) if !fits(e) => wrong.push(format!("{what}: {e}")),
                _ => {}
            }
        }
        drop(root);
        self.union.umount()?;
        sys::umount(&self.device_dir)?;
        device.mapped.reload(&device.works)?;
        wrong.extend(self.recovered(&device.mapped.path, trees, false)?);
        Ok(wrong)
    }

    /// A change whose device takes `pages` more pages. Returns whether that was enough.
    fn fills(
        &self,
        change: &Change,
        trees: &(Tree, Tree),
        pages: u64,
    ) -> Result<(bool, Vec<String>)> {
        sys::copy_image(&self.ready, &self.image())?;
        let device = Loop::attach(&self.image())?;
        // The loop device takes a write that was cut short for one that was done: a page at a time.
        device.limit_requests(4)?;
        self.mount_device(&device.0)?;
        self.union.mount()?;
        let root = File::open(&self.union.mnt)?;
        let below = File::open(&self.device_dir)?;
        rustix::fs::syncfs(&root)?;
        let thin = rustix::fs::statvfs(&self.thin)?;
        self.provide((thin.f_blocks - thin.f_bfree + pages) * thin.f_frsize)?;
        let made = (change.make)(&self.union.mnt);
        let synced =
            open_dir(&self.union.mnt.join(change.sync)).and_then(|f| rustix::fs::fsync(&f));
        let all = rustix::fs::syncfs(&root);
        let raw = rustix::fs::syncfs(&below);
        let enough = made.is_ok() && synced.is_ok() && all.is_ok();
        let mut wrong = Vec::new();
        // What the journal has is durable, though the device may have no room to write it to its place as well.
        if synced.is_err() && all.is_ok() && raw.is_err() {
            wrong.push(format!("syncfs reports nothing, below it {raw:?}"));
        }
        drop(below);
        drop(root);
        self.union.umount()?;
        sys::umount(&self.device_dir)?;
        self.provide(2 << 30)?;
        let durable = made.is_ok() && synced.is_ok();
        wrong.extend(self.recovered(&device.0, trees, durable)?);
        Ok((enough, wrong))
    }

    fn provide(&self, bytes: u64) -> Result<()> {
        let options = format!("size={bytes}");
        let none = MountFlags::empty();
        rustix::mount::mount_remount(&self.thin, none, options.as_str())
            .with_context(|| format!("the device's size: {bytes}"))
    }
}

fn sweep(settings: &Settings, place: &Place<'_>, change: &Change, out: &mut Outcome) -> Result<()> {
    let trees = place.trees(change)?;
    let (mut pages, mut tried, mut enough) = (0, 0, 0);
    while pages <= PAGES && enough < 2 {
        let (ok, wrong) = place.fills(change, &trees, pages)?;
        for line in wrong {
            out.wrong(format!("{pages} pages left: {line}"));
        }
        tried += 1;
        enough += u32::from(ok);
        pages += if settings.short { 12 } else { 1 + pages / 8 };
    }
    out.figures = format!("{tried} sizes, {enough} large enough");
    Ok(())
}

fn prepare(place: &Place<'_>, fstype: &str, dir: &Path) -> Result<()> {
    let fresh = dir.join("fresh.img");
    sys::mkfs(fstype, &fresh, sys::image_size(fstype))?;
    let device = Loop::attach(&fresh)?;
    place.mount_device(&device.0)?;
    place.union.make_upper()?;
    sys::umount(&place.device_dir)?;
    drop(device);
    sys::copy_image(&fresh, &place.ready)?;
    Ok(fs::remove_file(&fresh)?)
}

/// Runs the tests.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for fstype in settings.filesystems(&["ext4", "xfs"]) {
        let dir = settings.dir(&format!("dying-{fstype}"))?;
        for name in ["lower", "thin", "top", "m"] {
            fs::create_dir_all(dir.join(name))?;
        }
        make_lowers(&dir.join("lower"))?;
        let place = Place {
            fstype: &fstype,
            ready: dir.join("ready.img"),
            thin: dir.join("thin"),
            device_dir: dir.join("top"),
            union: Union::new(
                &settings.fstype,
                &dir.join("lower"),
                &dir.join("top"),
                &dir.join("m"),
            ),
        };
        let none = MountFlags::empty();
        sys::mount("thin", &place.thin, "tmpfs", none, "size=2g")?;
        prepare(&place, &fstype, &dir)?;
        // XFS shuts down at such errors and tells everybody, as ext4 with a journal does.
        let told = "an early file is told of errors";
        if fstype == "ext4" && settings.wanted(told) {
            report.test(&format!("device {fstype}: {told}"), |out| {
                let result = place.told_late(out);
                place.clear()?;
                result
            });
        }
        for change in changes(settings) {
            let ways = [
                (Dies::Before, How::Error, "dead"),
                (
                    Dies::After,
                    How::Writes,
                    "refuses writes before it is synced",
                ),
                (Dies::Before, How::Writes, "refuses writes"),
                (Dies::After, How::Error, "dead before it is synced"),
            ];
            let count = if settings.short { 2 } else { ways.len() };
            for (dies, how, what) in ways.into_iter().take(count) {
                report.test(
                    &format!("device {fstype}, {what}: {}", change.name),
                    |out| {
                        let trees = place.trees(change)?;
                        let wrong = place.dies(change, &trees, dies, how);
                        place.clear()?;
                        wrong?.iter().for_each(|line| out.wrong(line));
                        Ok(())
                    },
                );
            }
            report.test(
                &format!("device {fstype}, runs full: {}", change.name),
                |out| {
                    let result = sweep(settings, &place, change, out);
                    if result.is_err() {
                        place.provide(2 << 30)?;
                        place.clear()?;
                    }
                    result
                },
            );
        }
        ensure!(!sys::is_mounted(&place.device_dir), "still mounted");
        sys::umount(&place.thin)?;
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
