// SPDX-License-Identifier: GPL-2.0
//! Power cuts: upper and work on a device whose writes are logged; the log is replayed to every flush
//! and to many writes between, and what is there is mounted.

mod log;
mod workload;

use crate::snap::Tree;
use crate::sys::{self, text, Loop, Mapped};
use crate::union::Union;
use crate::{Outcome, Report, Settings};
use anyhow::{Context, Result};
use log::Log;
use rand::seq::IteratorRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustix::mount::MountFlags;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;
use workload::{judge, Step, Workload};

/// A run for one filesystem.
struct Run<'a> {
    settings: &'a Settings,
    fstype: &'a str,
    /// Holds images and mount points.
    dir: PathBuf,
    union: Union,
}

impl Run<'_> {
    fn device_dir(&self) -> PathBuf {
        self.dir.join("top")
    }

    fn image(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.img"))
    }

    /// Whether the filesystem commits changes in order.
    fn is_in_order(&self) -> bool {
        self.fstype != "btrfs"
    }

    fn mount_device(&self, device: &str) -> Result<()> {
        let flags = MountFlags::NOATIME;
        let options = if self.is_in_order() { "" } else { "nodiscard" };
        sys::mount(device, &self.device_dir(), self.fstype, flags, options)
    }

    /// Makes the image and puts upper and work on it.
    fn prepare(&self) -> Result<()> {
        let fresh = self.image("fresh");
        sys::mkfs(self.fstype, &fresh, sys::image_size(self.fstype))?;
        let device = Loop::attach(&fresh)?;
        self.mount_device(&device.0)?;
        workload::make_upper(&self.union.upper())?;
        fs::create_dir(self.device_dir().join("work"))?;
        sys::umount(&self.device_dir())?;
        drop(device);
        sys::copy_image(&fresh, &self.image("data"))?;
        Ok(fs::remove_file(&fresh)?)
    }

    /// Makes the steps on a device that logs.
    fn record(&self, count: usize, rng: &mut ChaCha8Rng) -> Result<Vec<Step>> {
        let (data, log) = (self.image("data"), self.image("log"));
        sys::copy_image(&data, &self.image("cut"))?;
        File::create(&log)?.set_len(2 << 30)?;
        let (data, log) = (Loop::attach(&data)?, Loop::attach(&log)?);
        let table = format!("0 {} log-writes {} {}", data.sectors()?, data.0, log.0);
        let device = Mapped::create("faults-log", &table)?;
        self.mount_device(&device.path)?;
        self.union.mount()?;
        let steps = self.steps(&device, count, rng);
        // What failed must not keep the device from the next filesystem.
        let unmounted = self
            .union
            .umount()
            .and_then(|()| sys::umount(&self.device_dir()));
        let steps = steps?;
        unmounted?;
        Ok(steps)
    }

    /// The steps, each with a mark in the log.
    fn steps(&self, device: &Mapped, count: usize, rng: &mut ChaCha8Rng) -> Result<Vec<Step>> {
        let mut workload = Workload::new(rng, &self.union);
        let mut steps = vec![workload.start()?];
        sys::run("sync", &[])?;
        device.message(&["mark", "0"])?;
        for i in 1..=count {
            steps.push(workload.next()?);
            device.message(&["mark", &i.to_string()])?;
        }
        Ok(steps)
    }

    /// Mounts what a cut left with both filesystems and compares it.
    fn check(&self, device: &Loop, steps: &[Step], done: usize, swap: bool) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        self.mount_device(&device.0)
            .context("the filesystem below")?;
        let mut seen: Option<(String, Tree)> = None;
        let mut kinds = ["rovl", "overlay"];
        if swap {
            kinds.reverse();
        }
        for kind in kinds {
            let union = Union {
                fstype: kind.to_owned(),
                ..self.union.clone()
            };
            union.mount()?;
            let tree = Tree::of(&union.mnt).map(Tree::timeless);
            let left = union.leftovers();
            // It can be written again.
            let probe = union.mnt.join("merged/probe");
            let usable = fs::write(&probe, b"after the cut").and_then(|()| fs::remove_file(&probe));
            union.umount()?;
            let tree = tree.with_context(|| format!("under {kind}"))?;
            wrong.extend(left?.iter().map(|l| format!("under {kind}: left: {l}")));
            if let Err(e) = usable {
                wrong.push(format!("under {kind}: cannot be written: {e}"));
            }
            match &seen {
                None => {
                    wrong.extend(judge(&tree, steps, done));
                    seen = Some((kind.to_owned(), tree));
                }
                Some((other, want)) if *want != tree => {
                    let diff = tree.diff(want).join("\n");
                    wrong.push(format!("{kind} shows another tree than {other}:\n{diff}"));
                }
                Some(_) => {}
            }
        }
        Ok(wrong)
    }

    /// Cuts at many points of the log.
    fn replay(&self, steps: &[Step], rng: &mut ChaCha8Rng, out: &mut Outcome) -> Result<()> {
        let log = Log::open(&self.image("log"))?;
        let start = log
            .entries
            .iter()
            .position(|e| e.mark.as_deref() == Some("0"))
            .context("no first mark in the log")?;
        let points = |barrier: bool| {
            let entries = log.entries.iter().enumerate().skip(start);
            entries
                .filter(move |(_, e)| (e.writes() || e.is_barrier()) && e.is_barrier() == barrier)
        };
        // The ends of steps that leave nothing to be synced.
        let synced = || {
            let entries = log.entries.iter().enumerate().skip(start);
            entries.filter(|(_, e)| e.step().is_some_and(|step| steps[step].synced))
        };
        let (barriers, others) = (points(true).count(), points(false).count());
        let ends = synced().count();
        let short = self.settings.short;
        let limit = |all| if short { 14 } else { all };
        let mut chosen = synced().map(|(i, _)| i).choose_multiple(rng, limit(ends));
        if self.is_in_order() {
            chosen.extend(
                points(true)
                    .map(|(i, _)| i)
                    .choose_multiple(rng, limit(barriers)),
            );
            let between = limit(self.settings.count);
            chosen.extend(points(false).map(|(i, _)| i).choose_multiple(rng, between));
        }
        chosen.sort_unstable();
        let cut = self.image("cut");
        let image = fs::OpenOptions::new().write(true).open(&cut)?;
        let scratch = self.image("scratch");
        sys::copy_image(&cut, &scratch)?;
        let device = Loop::attach(&scratch)?;
        let deadline = self.settings.deadline();
        let (mut done, mut at, mut tried) = (0, 0, 0);
        for point in chosen.iter().copied() {
            if Instant::now() > deadline {
                break;
            }
            for entry in &log.entries[at..=point] {
                log.apply(entry, &image)?;
                done = entry.step().unwrap_or(done);
            }
            at = point + 1;
            sys::copy_image(&cut, &scratch)?;
            let checked = self.check(&device, steps, done, point % 2 == 1);
            let wrong = checked.unwrap_or_else(|e| vec![format!("{e:#}")]);
            for line in wrong {
                out.wrong(format!("write {point}, after step {done}: {line}"));
            }
            for dir in [&self.union.mnt, &self.device_dir()] {
                if sys::is_mounted(dir) {
                    sys::umount(dir)?;
                }
            }
            tried += 1;
        }
        out.figures = format!(
            "{tried} of {} cuts ({barriers} flushes, {others} writes between, {ends} steps that sync all), {} steps",
            chosen.len(),
            steps.len() - 1
        );
        println!("# total: {}: {}", self.fstype, out.figures);
        Ok(())
    }
}

fn cuts(run: &Run<'_>, out: &mut Outcome) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(run.settings.seed);
    run.prepare()?;
    let count = if run.settings.short { 40 } else { 150 };
    let steps = run.record(count, &mut rng)?;
    run.replay(&steps, &mut rng, out)
}

fn make_run<'a>(
    settings: &'a Settings,
    fstype: &'a str,
    options: &str,
    (lower, data_only): &(PathBuf, Option<PathBuf>),
) -> Result<Run<'a>> {
    let dir = settings.dir(&format!("power-{fstype}"))?;
    for name in ["top", "m"] {
        fs::create_dir_all(dir.join(name))?;
    }
    let union = Union {
        lowers: vec![lower.clone()],
        data_only: data_only.clone(),
        options: options.to_owned(),
        ..Union::new(&settings.fstype, lower, &dir.join("top"), &dir.join("m"))
    };
    Ok(Run {
        settings,
        fstype,
        dir,
        union,
    })
}

/// A lower layer and a data-only one with its data, which fs-verity guards, on an image that is mounted at `dir`.
fn guarded(dir: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    let image = dir.with_extension("img");
    sys::mkfs("ext4", &image, sys::image_size("ext4"))?;
    sys::run("mount", &["-o", "loop", text(&image), text(dir)])?;
    let (lower, data) = (dir.join("lower"), dir.join("data"));
    workload::make_lower(&lower)?;
    workload::take_data_away(&lower, &data)?;
    Ok((lower, Some(data)))
}

/// Runs the part.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let lower = settings.dir("power-lower")?;
    workload::make_lower(&lower)?;
    let plain = (lower, None);
    let lower = settings.dir("power-linked")?;
    workload::make_lower(&lower)?;
    workload::link_lower(&lower)?;
    let linked = (lower, None);
    let dir = settings.dir("power-guarded")?;
    let guarded = guarded(&dir)?;
    for fstype in settings.filesystems(&["ext4", "xfs", "btrfs"]) {
        for (options, lower) in [
            ("", &plain),
            (",fsync=strict", &plain),
            (",metacopy=on", &plain),
            (",metacopy=on,verity=require", &guarded),
            (",index=on,nfs_export=on", &linked),
        ] {
            let name = format!(
                "{fstype}{options}: cut at flushes and between, seed {}",
                settings.seed
            );
            if !settings.wanted(&name) {
                continue;
            }
            report.test(&name, |out| {
                let run = make_run(settings, &fstype, options, lower)?;
                let result = cuts(&run, out);
                for dir in [&run.union.mnt, &run.device_dir()] {
                    if sys::is_mounted(dir) {
                        sys::umount(dir)?;
                    }
                }
                fs::remove_dir_all(&run.dir).with_context(|| text(&run.dir).to_owned())?;
                result
            });
        }
    }
    sys::umount(&dir)
}
