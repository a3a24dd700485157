// SPDX-License-Identifier: GPL-2.0
//! A fatal signal during a copy-up, at many moments: nothing is left behind.

use crate::copy_ups::{self, Call};
use crate::snap::Tree;
use crate::sys::{self, Loop};
use crate::union::{data, Union};
use crate::{Outcome, Report, Settings};
use anyhow::{bail, ensure, Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{self as rfs, Mode};
use rustix::mount::MountFlags;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A killed process that is not gone by then hangs, and blocks that are not free by then are lost.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts a call in a process of its own and returns once it is about to be made.
fn start(mnt: &Path, call: Call) -> Result<i32> {
    let (reader, writer) = rustix::pipe::pipe()?;
    let pid = sys::fork(|| {
        let _ = rustix::io::write(&writer, b"!");
        match call(mnt) {
            Ok(()) => 0,
            Err(e) => e.raw_os_error().min(255),
        }
    })?;
    drop(writer);
    let mut byte = [0];
    ensure!(
        rustix::io::read(&reader, &mut byte)? == 1,
        "the process did not start"
    );
    Ok(pid)
}

/// The directories of a test.
struct Place {
    union: Union,
    /// The filesystem of upper.
    base: std::path::PathBuf,
}

impl Place {
    fn set_up(&self) -> Result<()> {
        fs::create_dir_all(self.union.upper())?;
        fs::create_dir(self.union.top.join("work"))?;
        self.union.mount()
    }

    fn tear_down(&self) -> Result<()> {
        if sys::is_mounted(&self.union.mnt) {
            self.union.umount()?;
        }
        if self.union.top.exists() {
            fs::remove_dir_all(&self.union.top)?;
        }
        Ok(())
    }

    /// Free blocks, once those of unnamed files came back.
    fn free(&self) -> Result<u64> {
        rfs::syncfs(fs::File::open(&self.base)?)?;
        Ok(rfs::statvfs(&self.base)?.f_bfree)
    }

    /// How many blocks do not become free again, but for a few of directories. XFS frees those of an unnamed
    /// file in the background.
    fn missing(&self, free: u64) -> Result<u64> {
        let end = Instant::now() + LIMIT;
        loop {
            let missing = free.saturating_sub(self.free()? + 8);
            if missing == 0 || Instant::now() > end {
                return Ok(missing);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the call after `delay`; whether it was still going on.
    fn kill(
        &self,
        call: Call,
        delay: Duration,
        trees: &(Tree, Tree),
        wrong: &mut Vec<String>,
    ) -> Result<bool> {
        self.set_up()?;
        let free = self.free()?;
        let pid = start(&self.union.mnt, call)?;
        std::thread::sleep(delay);
        sys::kill(pid);
        let Some(status) = sys::wait(pid, LIMIT) else {
            sys::set("/proc/sysrq-trigger", "w")?;
            bail!("not gone after {LIMIT:?}; the blocked tasks are in the kernel log");
        };
        let killed = libc::WIFSIGNALED(status);
        if !killed && libc::WEXITSTATUS(status) != 0 {
            wrong.push(format!("error {}", libc::WEXITSTATUS(status)));
        }
        let found = Tree::of(&self.union.mnt)?;
        if found != trees.1 && (found != trees.0 || !killed) {
            wrong.extend(found.diff(&trees.0));
        }
        let left = self.union.leftovers()?;
        wrong.extend(left.iter().map(|l| format!("left: {l}")));
        let upper = self.union.upper();
        let copied = ["dir/file", "moved", "other"]
            .iter()
            .any(|n| upper.join(n).exists());
        let missing = if copied { 0 } else { self.missing(free)? };
        if missing != 0 {
            wrong.push(format!("{missing} blocks are not free again"));
        }
        self.union.umount()?;
        self.union.mount()?;
        let next = Tree::of(&self.union.mnt)?;
        let diff = next.diff(&found);
        wrong.extend(diff.iter().map(|line| format!("on the next mount: {line}")));
        self.tear_down()?;
        Ok(killed)
    }
}

fn sweep(settings: &Settings, place: &Place, call: Call, out: &mut Outcome) -> Result<()> {
    place.set_up()?;
    let before = Tree::of(&place.union.mnt)?;
    let begin = Instant::now();
    let pid = start(&place.union.mnt, call)?;
    let status = sys::wait(pid, LIMIT);
    let whole = begin.elapsed();
    ensure!(status == Some(0), "without a signal: status {status:?}");
    let trees = (before, Tree::of(&place.union.mnt)?);
    place.tear_down()?;
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let times: u32 = if settings.short { 6 } else { 40 };
    let mut killed = 0;
    for i in 0..times {
        let delay = (whole * i + whole.mul_f64(rng.random())) / times;
        let mut wrong = Vec::new();
        let result = place.kill(call, delay, &trees, &mut wrong);
        if let Err(e) = result.as_ref() {
            wrong.push(format!("{e:#}"));
            place.tear_down()?;
        }
        killed += u32::from(result.is_ok_and(|killed| killed));
        for line in wrong {
            out.wrong(format!("killed after {delay:?} of {whole:?}: {line}"));
        }
    }
    if killed == 0 {
        out.wrong("no signal came in time");
    }
    out.figures = format!("{killed} of {times} killed within {whole:?}");
    Ok(())
}

/// One process copies up, others wait for it: they can be killed meanwhile.
fn waiters(place: &Place, out: &mut Outcome) -> Result<()> {
    place.set_up()?;
    let call: Call = |m| rfs::chmod(m.join("dir/file"), Mode::RUSR | Mode::WUSR);
    let first = start(&place.union.mnt, call)?;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(start(&place.union.mnt, call)?);
    }
    let mut gone = 0;
    for pid in &waiting {
        sys::kill(*pid);
        let status = sys::wait(*pid, LIMIT).context("a waiting process cannot be killed")?;
        gone += u32::from(libc::WIFSIGNALED(status));
    }
    let working = sys::wait(first, Duration::ZERO).is_none();
    if working {
        let status = sys::wait(first, LIMIT);
        if status != Some(0) {
            out.wrong(format!("the working process: {status:?}"));
        }
    }
    if gone == 0 {
        out.wrong("no process was killed while it waited");
    }
    out.figures = format!("{gone} of 3 killed, the copy-up went on: {working}");
    let left = place.union.leftovers()?;
    left.iter().for_each(|l| out.wrong(format!("left: {l}")));
    place.tear_down()
}

/// Runs the part.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let lower = settings.dir("signals-lower")?;
    fs::create_dir_all(lower.join("dir"))?;
    let size = if settings.short { 16 << 20 } else { 64 << 20 };
    fs::write(lower.join("dir/file"), data(6, size))?;
    let mnt = settings.dir("signals-m")?;
    for fstype in settings.filesystems(&["tmpfs", "ext4", "xfs"]) {
        let base = settings.dir(&format!("signals-{fstype}"))?;
        let image = base.with_extension("img");
        let mut device = None;
        let none = MountFlags::empty();
        if fstype == "tmpfs" {
            sys::mount("signals", &base, "tmpfs", none, "size=200m")?;
        } else {
            sys::mkfs(&fstype, &image, 400 << 20)?;
            let attached = Loop::attach(&image)?;
            sys::mount(&attached.0, &base, &fstype, none, "")?;
            device = Some(attached);
        }
        let place = Place {
            union: Union {
                lowers: vec![lower.clone()],
                ..Union::new(&settings.fstype, &lower, &base.join("top"), &mnt)
            },
            base: base.clone(),
        };
        for (name, call) in copy_ups::ALL
            .iter()
            .filter(|(name, _)| settings.wanted(name))
        {
            report.test(&format!("{fstype}: killed in {name}"), |out| {
                let result = sweep(settings, &place, *call, out);
                place.tear_down()?;
                result
            });
        }
        report.test(
            &format!("{fstype}: killed while another copies up"),
            |out| {
                let result = waiters(&place, out);
                place.tear_down()?;
                result
            },
        );
        sys::umount(&base)?;
        drop(device);
        let _ = fs::remove_file(image);
    }
    fs::remove_dir_all(&lower)?;
    Ok(())
}
