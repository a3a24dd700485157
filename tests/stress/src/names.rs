// SPDX-License-Identifier: GPL-2.0
//! Names come and go in one merged directory, with readers and listers at it.

use crate::record;
use crate::world::{names, together, Count, World};
use crate::Args;
use anyhow::{bail, ensure, Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, CWD};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NAMES: usize = 32;
/// Names that nobody touches: every listing has them.
const ANCHORS: usize = 6;
/// Whole records are renamed into place; nobody else uses these names.
const TEMP: &str = ".t";

/// The longest time that one round goes on; the checks after it want their turn, too.
const ROUND: Duration = Duration::from_secs(8);

fn name(rng: &mut ChaCha8Rng) -> String {
    format!("n{}", rng.random_range(0..NAMES))
}

/// What a race can answer.
fn is_race(e: Errno) -> bool {
    [
        Errno::NOENT,
        Errno::EXIST,
        Errno::ISDIR,
        Errno::NOTDIR,
        Errno::NOTEMPTY,
        Errno::XDEV,
        Errno::LOOP,
    ]
    .contains(&e)
}

struct Task<'a> {
    dir: &'a Path,
    task: usize,
    rng: ChaCha8Rng,
    done: u64,
    missed: u64,
}

impl Task<'_> {
    fn path(&mut self) -> PathBuf {
        self.dir.join(name(&mut self.rng))
    }

    fn note(&mut self, what: &str, r: Result<(), Errno>) -> Result<()> {
        match r {
            Ok(()) => self.done += 1,
            Err(e) if is_race(e) => self.missed += 1,
            // No link of a directory.
            Err(Errno::PERM) if what == "link" => self.missed += 1,
            Err(e) => bail!("task {}: {what}: {e}", self.task),
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), Errno> {
        let temp = self.dir.join(format!("{TEMP}{}", self.task));
        let len = self.rng.random_range(0..9000);
        let data = record::make(self.rng.random(), len);
        std::fs::write(&temp, data).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        let to = self.path();
        rustix::fs::rename(&temp, &to).inspect_err(|_| {
            let _ = std::fs::remove_file(&temp);
        })
    }

    fn change(&mut self) -> Result<()> {
        let (a, b) = (self.path(), self.path());
        let flags = match self.rng.random_range(0..3) {
            0 => RenameFlags::NOREPLACE,
            1 => RenameFlags::EXCHANGE,
            _ => RenameFlags::empty(),
        };
        let mode = Mode::from_bits_retain(0o600 | self.rng.random_range(0..0o100));
        let (what, r) = match self.rng.random_range(0..24) {
            0..9 => ("create", self.create()),
            9..11 => ("unlink", rustix::fs::unlink(&a)),
            11..17 => ("rename", rustix::fs::renameat_with(CWD, &a, CWD, &b, flags)),
            17 => (
                "link",
                rustix::fs::linkat(CWD, &a, CWD, &b, AtFlags::empty()),
            ),
            18 => (
                "mkdir",
                rustix::fs::mkdir(&a, Mode::from_bits_retain(0o755)),
            ),
            19..21 => ("rmdir", rustix::fs::rmdir(&a)),
            21 => ("symlink", rustix::fs::symlink("n0", &a)),
            22 => ("chmod", rustix::fs::chmod(&a, mode)),
            _ => ("setxattr", {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::lsetxattr(&a, "trusted.x", b"1", flags)
            }),
        };
        self.note(what, r)
    }

    fn read(&mut self) -> Result<()> {
        let path = self.path();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(e) => return self.note("open", Err(e)),
        };
        let mut data = Vec::new();
        match File::from(fd).read_to_end(&mut data) {
            Ok(_) => ensure!(
                record::is_whole(&data),
                "{} is no whole record",
                path.display()
            ),
            Err(e) => return self.note("read", Err(Errno::from_io_error(&e).unwrap_or(Errno::IO))),
        }
        self.note("read", Ok(()))
    }

    fn list(&mut self) -> Result<()> {
        let names = names(self.dir)?;
        let anchors = names.iter().filter(|n| n.starts_with('a')).count();
        ensure!(
            anchors == ANCHORS,
            "a listing has {anchors} of the names that always exist"
        );
        for n in &names {
            let known = n.starts_with('a') || n.starts_with('n') || n.starts_with(TEMP);
            ensure!(known, "a listing has '{n}', which nobody made");
        }
        self.note("list", Ok(()))
    }
}

/// Everything that a directory shows: names, types, contents.
fn tree(dir: &Path) -> Result<Vec<(String, String, Vec<u8>)>> {
    let mut out = Vec::new();
    for name in names(dir)? {
        let path = dir.join(&name);
        let meta = std::fs::symlink_metadata(&path).with_context(|| format!("{name} is listed"))?;
        let (kind, data) = if meta.is_dir() {
            (format!("directory of {:?}", names(&path)?), Vec::new())
        } else if meta.is_symlink() {
            ("symlink".to_owned(), Vec::new())
        } else {
            let data = std::fs::read(&path).with_context(|| format!("{name} is listed"))?;
            ensure!(record::is_whole(&data), "{name} is no whole record");
            let mode = std::os::unix::fs::MetadataExt::mode(&meta);
            (format!("file {mode:o}"), data)
        };
        out.push((name, kind, data));
    }
    Ok(out)
}

/// One round.
pub fn round(args: &Args, dir: &Path, seed: u64, left: Duration, count: &mut Count) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(dir, &args.fstype, 3)?;
    let layers: Vec<_> = world
        .lowers
        .iter()
        .chain([&world.upper])
        .map(|l| l.join("d"))
        .collect();
    for layer in &layers {
        std::fs::create_dir(layer)?;
        for i in 0..NAMES {
            let path = layer.join(format!("n{i}"));
            match rng.random_range(0..6) {
                0 | 1 => std::fs::write(path, record::make(rng.random(), i * 50))?,
                2 => std::fs::create_dir(path)?,
                _ => {}
            }
        }
    }
    for i in 0..ANCHORS {
        let layer = &layers[i % layers.len()];
        std::fs::write(layer.join(format!("a{i}")), record::make(i as u64, 100))?;
    }
    let before: Vec<_> = world
        .lowers
        .iter()
        .map(|l| tree(&l.join("d")))
        .collect::<Result<_>>()?;
    world.mount()?;
    let top = world.mnt.join("d");
    let end = Instant::now() + left.min(ROUND).max(Duration::from_secs(1));
    let counts = together(args.tasks, |task| {
        let rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(task as u64));
        let mut t = Task {
            dir: &top,
            task,
            rng,
            done: 0,
            missed: 0,
        };
        while Instant::now() < end {
            match task % 4 {
                0 | 1 => t.change()?,
                2 => t.read()?,
                _ => t.list()?,
            }
        }
        Ok((t.done, t.missed))
    })?;
    for (done, missed) in counts {
        count.done += done;
        count.missed += missed;
    }
    let shown = tree(&top)?;
    count.checked += shown.len() as u64;
    world.check_work()?;
    world.again()?;
    ensure!(tree(&top)? == shown, "a new mount shows another tree");
    for (lower, before) in world.lowers.iter().zip(&before) {
        ensure!(tree(&lower.join("d"))? == *before, "a lower layer changed");
    }
    std::fs::remove_dir_all(&top).context("removing all of it")?;
    ensure!(names(&world.mnt)?.is_empty(), "something is left");
    world.umount()
}
