// SPDX-License-Identifier: GPL-2.0
//! A lower layer with read errors: nothing of it is taken for another state of the tree.

use crate::copy_ups::{self, open, Call};
use crate::snap::Tree;
use crate::sys::{self, Loop, Mapped};
use crate::union::{data, Union};
use crate::{Outcome, Report, Settings};
use anyhow::{bail, Context, Result};
use rustix::fs::{self as rfs, Mode};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The file with a block that cannot be read.
const SIZE: usize = 1 << 20;
/// Its bad block.
const BAD: usize = 100;
const BLOCK: usize = 4096;

/// The device's block that holds the `index`-th one of a file.
fn block_of(file: &File, index: usize) -> Result<u64> {
    const FIBMAP: libc::c_ulong = 1;
    let mut block = libc::c_int::try_from(index)?;
    // SAFETY: the request reads and writes one int, which outlives it.
    if unsafe { libc::ioctl(file.as_raw_fd(), FIBMAP as _, &mut block) } < 0 {
        return Err(std::io::Error::last_os_error()).context("FIBMAP");
    }
    match u64::try_from(block)? {
        0 => bail!("the file has a hole"),
        block => Ok(block),
    }
}

/// The lower filesystem on a device, with a union over it whose upper is on tmpfs.
struct Place {
    union: Union,
    lower: PathBuf,
    /// Tables: all well, one bad block in the file, nothing to be read.
    well: String,
    bad: String,
    dead: String,
}

fn cold(place: &Place) -> Result<()> {
    rfs::syncfs(File::open(&place.lower)?)?;
    sys::drop_caches()
}

fn copy_up(place: &Place, device: &Mapped, make: Call, out: &mut Outcome) -> Result<()> {
    fs::create_dir(&place.union.top)?;
    fs::create_dir(place.union.upper())?;
    fs::create_dir(place.union.top.join("work"))?;
    place.union.mount()?;
    let before = Tree::of(&place.union.mnt)?;
    cold(place)?;
    device.reload(&place.bad)?;
    let made = make(&place.union.mnt);
    if made != Err(Errno::IO) {
        out.wrong(format!("{made:?}, wanted EIO"));
    }
    let left = place.union.leftovers()?;
    left.iter().for_each(|l| out.wrong(format!("left: {l}")));
    for name in ["dir/file", "moved", "other"] {
        if place.union.upper().join(name).symlink_metadata().is_ok() {
            out.wrong(format!("{name} is in upper"));
        }
    }
    // What can be read is read, the rest is an error and no zeros.
    let file = open(&place.union.mnt)?;
    let mut page = [0; BLOCK];
    match rustix::io::pread(&file, &mut page, (BAD * BLOCK) as u64) {
        Err(Errno::IO) => {}
        other => out.wrong(format!("reading the bad block: {other:?}")),
    }
    drop(file);
    device.reload(&place.well)?;
    let now = Tree::of(&place.union.mnt)?;
    now.diff(&before).iter().for_each(|line| out.wrong(line));
    if let Err(e) = make(&place.union.mnt) {
        out.wrong(format!("once it can be read again: {e}"));
    }
    place.union.umount()?;
    Ok(fs::remove_dir_all(&place.union.top)?)
}

/// Names and listings while nothing of the layer can be read, and afterwards.
fn names(place: &Place, device: &Mapped, out: &mut Outcome) -> Result<()> {
    fs::create_dir(&place.union.top)?;
    // A directory in upper makes a merged one.
    fs::create_dir_all(place.union.upper().join("dir"))?;
    fs::create_dir(place.union.top.join("work"))?;
    place.union.mount()?;
    let before = Tree::of(&place.union.mnt)?;
    cold(place)?;
    device.reload(&place.dead)?;
    let dir = place.union.mnt.join("dir");
    for i in 0..20 {
        match rfs::stat(dir.join("file")) {
            Err(Errno::IO) => {}
            other => out.wrong(format!("stat: {:?}, wanted EIO", other.map(|s| s.st_size))),
        }
        match rfs::stat(dir.join(format!("none{i}"))) {
            Err(Errno::IO) => {}
            other => out.wrong(format!(
                "stat of no name: {:?}, wanted EIO",
                other.map(|s| s.st_size)
            )),
        }
        match sys::names(&dir) {
            Err(e) if format!("{e:#}").contains("error 5") => {}
            Err(e) => out.wrong(format!("listing: {e:#}")),
            Ok(names) => out.wrong(format!("listing: {names:?}, wanted EIO")),
        }
    }
    match rfs::mkdir(dir.join("file"), Mode::RWXU) {
        Err(Errno::IO) => {}
        other => out.wrong(format!(
            "mkdir of a name that cannot be looked up: {other:?}"
        )),
    }
    match rfs::unlink(dir.join("file")) {
        Err(Errno::IO) => {}
        other => out.wrong(format!("unlink of what cannot be looked up: {other:?}")),
    }
    device.reload(&place.well)?;
    let now = Tree::of(&place.union.mnt)?;
    now.diff(&before).iter().for_each(|line| out.wrong(line));
    let left = place.union.leftovers()?;
    left.iter().for_each(|l| out.wrong(format!("left: {l}")));
    place.union.umount()?;
    Ok(fs::remove_dir_all(&place.union.top)?)
}

fn prepare(settings: &Settings, fstype: &str, dir: &Path) -> Result<(Place, Loop, Mapped)> {
    for name in ["l", "m"] {
        fs::create_dir_all(dir.join(name))?;
    }
    let (image, lower) = (dir.join("lower.img"), dir.join("l"));
    sys::mkfs(fstype, &image, sys::image_size(fstype))?;
    let device = Loop::attach(&image)?;
    sys::mount(&device.0, &lower, fstype, MountFlags::empty(), "")?;
    fs::create_dir(lower.join("dir"))?;
    fs::write(lower.join("dir/file"), data(5, SIZE))?;
    for i in 0..200 {
        fs::write(lower.join(format!("dir/{i}")), b"one of many")?;
    }
    let file = File::open(lower.join("dir/file"))?;
    rfs::fsync(&file)?;
    let bad = block_of(&file, BAD)? * 8;
    drop(file);
    sys::umount(&lower)?;
    let (all, node) = (device.sectors()?, &device.0);
    let after = bad + 8;
    let place = Place {
        union: Union {
            lowers: vec![lower.clone()],
            ..Union::new(&settings.fstype, &lower, &dir.join("top"), &dir.join("m"))
        },
        lower: lower.clone(),
        well: format!("0 {all} linear {node} 0"),
        bad: format!(
            "0 {bad} linear {node} 0\n{bad} 8 error\n{after} {} linear {node} {after}",
            all - after
        ),
        dead: format!("0 {all} error"),
    };
    let mapped = Mapped::create("faults-lower", &place.well)?;
    sys::mount(&mapped.path, &lower, fstype, MountFlags::RDONLY, "")?;
    Ok((place, device, mapped))
}

fn clear(place: &Place, device: &Mapped) -> Result<()> {
    device.reload(&place.well)?;
    if sys::is_mounted(&place.union.mnt) {
        place.union.umount()?;
    }
    if place.union.top.exists() {
        fs::remove_dir_all(&place.union.top)?;
    }
    Ok(())
}

/// Runs the tests.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for fstype in settings.filesystems(&["ext4", "xfs"]) {
        let dir = settings.dir(&format!("lower-{fstype}"))?;
        let (place, device, mapped) = prepare(settings, &fstype, &dir)?;
        for (name, make) in copy_ups::ALL
            .iter()
            .filter(|(name, _)| settings.wanted(name))
        {
            report.test(&format!("lower {fstype}: a bad block: {name}"), |out| {
                let result = copy_up(&place, &mapped, *make, out);
                clear(&place, &mapped)?;
                result
            });
        }
        report.test(
            &format!("lower {fstype}: no name is absent that cannot be read"),
            |out| {
                let result = names(&place, &mapped, out);
                clear(&place, &mapped)?;
                result
            },
        );
        sys::umount(&place.lower)?;
        drop(mapped);
        drop(device);
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
