// SPDX-License-Identifier: GPL-2.0
//! Runs a case on both sides and compares.

use crate::case::Case;
use crate::differences::{Active, Differences};
use crate::exec;
use crate::layer;
use crate::op::{At, Op};
use crate::outcome::Outcome;
use crate::side::{Side, Type};
use crate::sys::{self, Map, Sys};
use crate::tree::{self, Item, View};
use crate::wrong;
use anyhow::Result;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where and with what cases run.
pub struct Setup {
    /// The types of the two sides.
    pub types: [String; 2],
    /// An empty folder, for a tmpfs.
    pub dir: String,
    /// Mounted filesystems other than tmpfs for upper layers, by type.
    pub images: BTreeMap<String, String>,
    pub differences: Differences,
    /// Seconds that a step may take.
    pub hang: u64,
}

/// What differed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The step after which it was seen.
    pub step: usize,
    /// The operation, or the part of a checkpoint.
    pub place: String,
    pub what: String,
    pub text: String,
}

impl Failure {
    fn new(step: usize, place: &str, what: &str, text: String) -> Self {
        Self {
            step,
            place: place.to_owned(),
            what: what.to_owned(),
            text,
        }
    }

    /// Failures with the same signature are taken for the same.
    pub fn signature(&self) -> (String, String) {
        (self.place.clone(), self.what.clone())
    }
}

/// What a run gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub steps: usize,
    pub checkpoints: usize,
    /// Operations and their outcomes.
    pub pairs: BTreeSet<(String, String)>,
    pub used: BTreeMap<usize, u64>,
    pub failure: Option<Failure>,
    /// Names that a hostile layer has and the mount refused to look up: the kernel's log has to say so.
    pub refused: Vec<String>,
    /// The outcomes, where they were asked for.
    pub log: Vec<String>,
}

/// What the first side and the second side are called.
const NAMES: [&str; 2] = ["a", "b"];

/// The options that make a type do what the other one does.
pub fn type_of(name: &str, case: &Case) -> Type {
    let other = match name {
        "rovl" if case.copy_up_open => ",copy_up=open",
        _ => "",
    };
    Type {
        name: name.to_owned(),
        options: case.options() + other,
    }
}

struct Run<'a> {
    case: &'a Case,
    sides: Vec<Side>,
    active: Active<'a>,
    report: Report,
}

/// Runs a case in this process, whose mount namespace is its own. `progress` is told the number of each step.
pub fn run(case: &Case, setup: &Setup, log: bool, progress: &Map) -> Report {
    let active = setup.differences.active(case);
    let mut run = Run {
        case,
        sides: Vec::new(),
        active,
        report: Report::default(),
    };
    let failure = match run.whole(setup, log, progress) {
        Ok(failure) => failure,
        Err(e) => Some(Failure::new(
            run.report.steps,
            "fuzzer",
            "error",
            format!("{e:#}"),
        )),
    };
    run.report.failure = failure;
    run.report.used = run.active.used;
    run.report
}

impl Run<'_> {
    fn whole(&mut self, setup: &Setup, log: bool, progress: &Map) -> Result<Option<Failure>> {
        let case = self.case;
        // SAFETY: this process has one thread.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
        rustix::mount::mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        let tmpfs = |dir: &str| {
            rustix::mount::mount("none", dir, "tmpfs", MountFlags::empty(), c"mode=755")
        };
        tmpfs(&setup.dir)?;
        // A symlink to / must not lead out of here.
        std::env::set_current_dir(&setup.dir)?;
        for dir in ["proc", "t", "o"] {
            std::fs::create_dir(dir)?;
        }
        rustix::mount::mount_bind("/proc", "proc")?;
        if case.upper_fs != "tmpfs" {
            let Some(image) = setup.images.get(&case.upper_fs) else {
                anyhow::bail!("there is no image of {}", case.upper_fs);
            };
            rustix::mount::mount_bind(&**image, "o")?;
        } else if case.split {
            tmpfs("o")?;
        }
        rustix::process::chroot(".")?;
        let fast = "/t".to_owned();
        let home = if case.split || case.upper_fs != "tmpfs" {
            "/o".to_owned()
        } else {
            fast.clone()
        };
        for (name, fs) in NAMES.iter().zip(&setup.types) {
            let lower = if case.split { &fast } else { &home };
            let side = Side::new(
                case,
                type_of(fs, case),
                format!("{home}/{name}"),
                format!("{lower}/{name}"),
            );
            side.make(case)?;
            // What a digest is of is there before what says it.
            for (i, entries) in case.data.iter().enumerate() {
                layer::build(case, &side.data_layer(i), entries)?;
            }
            for (i, entries) in case.lowers.iter().enumerate() {
                layer::build(case, &side.lower(i), entries)?;
            }
            layer::build(case, &side.upper(), &case.upper)?;
            layer::build(case, &side.work(), &case.work)?;
            self.sides.push(side);
        }
        let before = self.lowers()?;
        rustix::process::umask(rustix::fs::Mode::from_bits_retain(case.umask));
        let mounted: Vec<_> = self.sides.iter_mut().map(Side::mount).collect();
        if mounted[0] != mounted[1] {
            return Ok(Some(Failure::new(
                0,
                "mount",
                "result",
                format!("{:?} {:?}", mounted[0], mounted[1]),
            )));
        }
        if mounted[0].is_err() {
            return Ok(None);
        }
        if case.hostile {
            self.report.refused = wrong::refused(&self.sides[0])?;
            wrong::refused(&self.sides[1])?;
            // Both are looked at, since looking changes times. A redirect that is followed may lead anywhere, as that of data
            // does; to look for it in the layers would follow their symlinks.
            let sides = match case.redirects || !case.data.is_empty() {
                true => &[],
                false => &*self.sides,
            };
            let wrong: Vec<_> = sides.iter().map(wrong::wrong_file).collect();
            let wrong = wrong.into_iter().next();
            if let Some(path) = wrong.transpose()?.flatten() {
                return Ok(Some(Failure::new(0, "mount", "wrong file", path)));
            }
            if let Some(failure) = self.checkpoint(0)? {
                return Ok(Some(failure));
            }
        }
        for (i, step) in case.steps.iter().enumerate() {
            for (at, byte) in (i as u32).to_le_bytes().iter().enumerate() {
                progress.set(at, *byte);
            }
            if matches!(step.op, Op::Checkpoint) {
                if let Some(failure) = self.checkpoint(i)? {
                    return Ok(Some(failure));
                }
                continue;
            }
            let outcomes = exec::step(&mut self.sides, step);
            let kind = step.op.kind();
            self.report.steps += 1;
            self.report
                .pairs
                .insert((kind.to_owned(), outcomes[0].class().to_owned()));
            if log {
                self.report.log.push(format!(
                    "{} = {}",
                    serde_json::to_string(step)?,
                    outcomes[0]
                ));
            }
            if let Some(failure) = self.step_failure(i, &step.op, outcomes) {
                return Ok(Some(failure));
            }
        }
        let last = case.steps.len();
        Ok(match self.checkpoint(last)? {
            None => self.end(setup, last, &before)?,
            found => found,
        })
    }

    fn step_failure(&mut self, i: usize, op: &Op, mut outcomes: Vec<Outcome>) -> Option<Failure> {
        let kind = op.kind();
        loop {
            let what = outcomes[0].differs(&outcomes[1])?;
            let removed = self.removed(op);
            if removed.is_some() && self.active.wanted("removed", &what) {
                // It may have changed on one side only.
                self.close_same(removed);
                return None;
            }
            if !self.active.wanted(kind, &what) {
                let text = format!("{}\n{}", outcomes[0], outcomes[1]);
                return Some(Failure::new(i, kind, &what, text));
            }
            self.heal(op);
            let before = outcomes[0].fields.len();
            for out in &mut outcomes {
                out.fields.retain(|(name, _)| !what.starts_with(name));
            }
            if outcomes[0].fields.len() == before {
                return None;
            }
        }
    }

    /// Puts an open file that a wanted difference left in two states into one; what that fails for differs later.
    fn heal(&mut self, op: &Op) {
        for side in &self.sides {
            let _ = match op {
                Op::Seek { slot, .. } => side
                    .slot(*slot)
                    .and_then(|fd| rustix::fs::seek(fd, SeekFrom::Start(0)).map(drop)),
                Op::CopyRange { range } | Op::Clone { range, .. } => side
                    .slot(range.to)
                    .and_then(|fd| rustix::fs::ftruncate(fd, 0)),
                _ => Ok(()),
            };
        }
    }

    /// The slot of an operation on an open file whose name was removed.
    fn removed(&self, op: &Op) -> Option<u8> {
        let slot = match op {
            Op::Chmod {
                at: At::Slot(slot), ..
            }
            | Op::Chown {
                at: At::Slot(slot), ..
            }
            | Op::Utimes {
                at: At::Slot(slot), ..
            }
            | Op::SetXattr {
                at: At::Slot(slot), ..
            }
            | Op::RemoveXattr {
                at: At::Slot(slot), ..
            }
            | Op::SetFlags {
                at: At::Slot(slot), ..
            }
            | Op::Truncate {
                at: At::Slot(slot), ..
            }
            | Op::Stat { at: At::Slot(slot) }
            | Op::Link {
                old: At::Slot(slot),
                ..
            }
            | Op::Reopen { from: slot, .. } => *slot,
            _ => return None,
        };
        let fd = self.sides[0].slot(slot).ok()?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        // A symlink may have led to the file, a directory may count no links.
        let gone = link.to_string_lossy().ends_with(" (deleted)")
            || rustix::fs::fstat(fd).ok()?.st_nlink == 0;
        gone.then_some(slot)
    }

    /// Closes all files that are the one in a slot.
    fn close_same(&mut self, slot: Option<u8>) {
        let id = |fd: &OwnedFd| sys::identity(fd).ok();
        let this = slot
            .and_then(|slot| self.sides[0].slot(slot).ok())
            .and_then(id);
        for i in 0..crate::side::SLOTS {
            if self.sides[0].slots[i].as_ref().and_then(id) == this {
                for side in &mut self.sides {
                    side.slots[i] = None;
                }
            }
        }
    }

    fn lowers(&self) -> Sys<Vec<Vec<Item>>> {
        let mut all = Vec::new();
        // It is the first side that is tested.
        for side in self.sides.iter().take(1) {
            let data = (0..side.data).map(|i| side.data_layer(i));
            for layer in (0..side.lowers).map(|i| side.lower(i)).chain(data) {
                all.push(tree::read(
                    &layer,
                    View::Lower,
                    &mut crate::side::Ids::default(),
                )?);
            }
        }
        Ok(all)
    }

    fn trees(&mut self, view: View) -> Sys<[Vec<Item>; 2]> {
        let mut read = |i: usize| {
            let side = &mut self.sides[i];
            let root = if view == View::Merged {
                side.mnt.clone()
            } else {
                side.upper()
            };
            tree::read(&root, view, &mut side.ids)
        };
        Ok([read(0)?, read(1)?])
    }

    fn compare(&mut self, step: usize, place: &str, trees: &[Vec<Item>; 2]) -> Option<Failure> {
        let active = &mut self.active;
        let list = tree::compare(&trees[0], &trees[1], |a, b, what| {
            active.wanted_in_tree(place, &trees[0], a, b, what)
        });
        let first = list.first()?;
        let text: Vec<_> = list
            .iter()
            .take(8)
            .map(|d| format!("{}: {}: {}", d.path, d.what, d.text))
            .collect();
        Some(Failure::new(step, place, &first.what, text.join("\n")))
    }

    fn checkpoint(&mut self, step: usize) -> Result<Option<Failure>> {
        self.report.checkpoints += 1;
        let merged = self.trees(View::Merged)?;
        if let Some(failure) = self.compare(step, "merged", &merged) {
            return Ok(Some(failure));
        }
        if self.report.checkpoints % 2 == 0 && step < self.case.steps.len() {
            return Ok(None);
        }
        let upper = self.trees(View::Upper)?;
        Ok(self.compare(step, "upper", &upper))
    }

    /// What is left behind; and what each side shows of the other one's upper.
    fn end(&mut self, setup: &Setup, step: usize, before: &[Vec<Item>]) -> Result<Option<Failure>> {
        for (i, side) in self.sides.iter_mut().enumerate() {
            side.close_all();
            if let Err(e) = side.unmount() {
                return Ok(Some(Failure::new(
                    step,
                    "unmount",
                    NAMES[i],
                    sys::name(e).to_owned(),
                )));
            }
        }
        for (i, (old, new)) in before.iter().zip(self.lowers()?).enumerate() {
            if let Some(d) = tree::compare(old, &new, |_, _, _| false).first() {
                let text = format!("layer {i}: {}: {}: {}", d.path, d.what, d.text);
                return Ok(Some(Failure::new(step, "lower changed", &d.what, text)));
            }
        }
        // overlayfs leaves some.
        if let Some(left) = leftover(&format!("{}/work", self.sides[0].work()))? {
            return Ok(Some(Failure::new(step, "work directory", "leftover", left)));
        }
        let other: Vec<_> = setup
            .types
            .iter()
            .rev()
            .map(|name| type_of(name, self.case))
            .collect();
        for (side, fs) in self.sides.iter_mut().zip(&other) {
            if let Err(e) = side.mount_as(fs) {
                return Ok(Some(Failure::new(
                    step,
                    "other's mount",
                    &fs.name,
                    sys::name(e).to_owned(),
                )));
            }
        }
        let merged = self.trees(View::Merged)?;
        let failure = self.compare(step, "other's upper", &merged);
        for side in &mut self.sides {
            side.unmount()?;
        }
        Ok(failure)
    }
}

/// An entry of the work directory that is no whiteout: those are kept for later.
fn leftover(dir: &str) -> Result<Option<String>> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let meta = entry.metadata()?;
        if !(meta.file_type().is_char_device() && meta.rdev() == 0) {
            return Ok(Some(format!(
                "{:?} {:?}",
                entry.file_name(),
                meta.file_type()
            )));
        }
    }
    Ok(None)
}

/// Removes what a case left on an image.
pub fn clean(case: &Case, setup: &Setup) {
    let Some(home) = setup.images.get(&case.upper_fs) else {
        return;
    };
    for name in NAMES {
        remove(&format!("{home}/{name}"));
    }
}

fn remove(path: &str) {
    if std::fs::remove_dir_all(path).is_ok() || !std::path::Path::new(path).exists() {
        return;
    }
    // Something is immutable.
    let _ = std::process::Command::new("chattr")
        .args(["-R", "-f", "-i", "-a", path])
        .output();
    let _ = std::fs::remove_dir_all(path);
}

/// Runs a case in a process of its own, so that nothing of it is left: a hang and a crash are failures, too.
pub fn isolated(case: &Case, setup: &Setup, log: bool) -> Result<Report> {
    let progress = Map::shared(4096)?;
    let (rd, wr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread.
    let pid = sys::ret(unsafe { libc::fork() }.into())? as i32;
    if pid == 0 {
        drop(rd);
        let report = run(case, setup, log, &progress);
        let text = serde_json::to_vec(&report).unwrap_or_default();
        let mut file = std::fs::File::from(wr);
        let _ = std::io::Write::write_all(&mut file, &text);
        drop(file);
        // SAFETY: no destructor of the parent's is to run.
        unsafe { libc::_exit(0) };
    }
    drop(wr);
    let mut step = u32::MAX;
    let mut said = Vec::new();
    let mut buf = [0u8; 65536];
    let hung = loop {
        let mut fds = [rustix::event::PollFd::new(
            &rd,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::time::Timespec {
            tv_sec: setup.hang as i64,
            tv_nsec: 0,
        };
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(0) => {
                let now = u32::from_le_bytes(std::array::from_fn(|i| progress.get(i)));
                if now == step {
                    break true;
                }
                step = now;
                continue;
            }
            Err(Errno::INTR) => continue,
            _ => {}
        }
        match rustix::io::read(&rd, &mut buf) {
            Ok(0) => break false,
            Ok(n) => said.extend_from_slice(&buf[..n]),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    };
    let at = u32::from_le_bytes(std::array::from_fn(|i| progress.get(i))) as usize;
    let place = case.steps.get(at).map_or("end", |s| s.op.kind());
    let mut status = 0;
    if hung {
        // What is blocked goes into the kernel's log.
        let _ = sys::put("/proc/sysrq-trigger", "w");
        // SAFETY: no memory is involved.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    // SAFETY: `status` outlives the call.
    sys::ret(unsafe { libc::waitpid(pid, &mut status, 0) }.into())?;
    clean(case, setup);
    let failed = |what: &str, text: String| Report {
        failure: Some(Failure::new(at, place, what, text)),
        steps: at,
        ..Report::default()
    };
    if hung {
        return Ok(failed("hang", format!("nothing for {} s", setup.hang)));
    }
    Ok(serde_json::from_slice(&said)
        .unwrap_or_else(|_| failed("died", format!("the process ended with status {status:#x}"))))
}
