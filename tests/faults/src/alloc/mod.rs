// SPDX-License-Identifier: GPL-2.0
//! Every allocation of a system call fails once: the 1st, the 2nd, ... until it succeeds untouched.
//!
//! The system call runs in a child process, the only task whose allocations fail. Then the tree must be
//! as before or as after, on the live mount and on the next one, and the call must succeed when it is
//! made again.

mod calls;
mod scenarios;

use crate::snap::Tree;
use crate::sys::{self, Scratch};
use crate::union::{make_lowers, Union};
use crate::{Outcome, Report, Settings};
use anyhow::{bail, ensure, Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use scenarios::{Scenario, SCENARIOS};
use std::cell::{Cell, OnceCell};
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// More failures than any call has allocations.
const MANY: u32 = 20_000;
/// A call that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the n-th allocation of this task fail.
pub struct Arm {
    n: u32,
    file: OnceCell<OwnedFd>,
    /// What was left of `n` when disarmed.
    left: Cell<Option<u32>>,
}

impl Arm {
    fn new(n: u32) -> Self {
        let arm = Self {
            n,
            file: OnceCell::new(),
            left: Cell::new(None),
        };
        if let Ok(file) =
            rustix::fs::open("/proc/thread-self/fail-nth", OFlags::RDWR, Mode::empty())
        {
            let _ = arm.file.set(file);
        }
        arm
    }

    fn write(&self, n: u32) {
        // No allocation in here, neither of the program nor of the kernel.
        let (mut digits, mut at, mut n) = ([0u8; 10], 10, n);
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        if let Some(file) = self.file.get() {
            let _ = rustix::io::pwrite(file, &digits[at..], 0);
        }
    }

    /// From here on allocations count. `n` 0 makes none fail.
    pub fn arm(&self) {
        if self.n != 0 {
            self.write(self.n);
        }
    }

    /// Up to here.
    pub fn disarm(&self) {
        if self.n == 0 || self.left.get().is_some() {
            return;
        }
        let mut text = [0u8; 16];
        let len = match self.file.get() {
            Some(file) => rustix::io::pread(file, &mut text, 0).unwrap_or(0),
            None => 0,
        };
        self.write(0);
        let digits = text[..len].iter().take_while(|b| b.is_ascii_digit());
        self.left
            .set(Some(digits.fold(0, |n, b| n * 10 + u32::from(b - b'0'))));
    }

    /// Runs `f` armed.
    pub fn run<T>(&self, f: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        self.arm();
        let result = f();
        self.disarm();
        result
    }
}

/// How a call ended.
struct Ended {
    /// The fault was met.
    injected: bool,
    result: Result<String, Errno>,
}

/// The tree, or `None` where nothing is mounted.
type State = Option<Tree>;

/// The place of one scenario.
struct Bench<'a> {
    scenario: &'a Scenario,
    union: Union,
    /// Upper is on a tmpfs of its own, not on the filesystem of `base`.
    own: bool,
}

/// Memory for the heap that is there and touched: a call that is armed must not ask for any.
fn warm_heap() {
    let blocks: Vec<Vec<u8>> = (0..32).map(|_| vec![1u8; 32 << 10]).collect();
    // What lies above the freed blocks keeps them from being given back.
    let last = vec![1u8; 4096];
    drop(blocks);
    std::mem::forget(last);
}

impl Bench<'_> {
    /// Fresh upper and work directories, mounted.
    fn set_up(&self) -> Result<()> {
        let top = &self.union.top;
        if self.own {
            sys::mount("top", top, "tmpfs", MountFlags::empty(), "mode=755")?;
        } else {
            fs::create_dir(top)?;
        }
        self.union.make_upper()?;
        if let Some(prepare) = self.scenario.prepare {
            prepare(&self.union)?;
        }
        if !self.own {
            sys::drop_caches()?;
        }
        if self.scenario.mounted {
            self.union.mount()?;
        }
        if let Some(warm) = self.scenario.warm {
            warm()?;
        }
        Ok(())
    }

    fn tear_down(&self) -> Result<()> {
        if sys::is_mounted(&self.union.mnt) {
            self.union.umount()?;
        }
        if self.own {
            sys::umount(&self.union.top)?;
        } else {
            fs::remove_dir_all(&self.union.top)?;
        }
        Ok(())
    }

    /// Makes the call in a child process.
    fn call(&self, n: u32) -> Result<Ended> {
        let (reader, writer) = rustix::pipe::pipe()?;
        let pid = sys::fork(|| {
            let arm = Arm::new(n);
            warm_heap();
            let result = (self.scenario.call)(&arm);
            let armed = arm.left.get().is_some() || n == 0;
            arm.disarm();
            let (code, text) = match result {
                Ok(text) => (0, text),
                Err(e) => (e.raw_os_error(), String::new()),
            };
            let left = arm.left.get().unwrap_or(0);
            let armed = i32::from(armed && (n == 0 || arm.file.get().is_some()));
            let said = format!("{armed} {left} {code} {text}");
            i32::from(rustix::io::write(&writer, said.as_bytes()).is_err())
        })?;
        drop(writer);
        let Some(status) = sys::wait(pid, LIMIT) else {
            sys::set("/proc/sysrq-trigger", "w")?;
            sys::kill(pid);
            bail!("hangs; the blocked tasks are in the kernel log");
        };
        let status = ExitStatus::from_raw(status);
        ensure!(status.success(), "ended with {status}");
        let mut said = String::new();
        fs::File::from(reader).read_to_string(&mut said)?;
        let mut words = said.splitn(4, ' ');
        let mut number = || words.next().and_then(|w| w.parse::<i32>().ok());
        let (armed, left, code) = (number(), number(), number());
        let (Some(1), Some(left), Some(code)) = (armed, left, code) else {
            bail!("the call was not armed: '{said}'");
        };
        let result = match code {
            0 => Ok(words.next().unwrap_or_default().to_owned()),
            code => Err(Errno::from_raw_os_error(code)),
        };
        Ok(Ended {
            injected: n != 0 && left == 0,
            result,
        })
    }

    fn state(&self) -> Result<State> {
        if !sys::is_mounted(&self.union.mnt) {
            return Ok(None);
        }
        Tree::of(&self.union.mnt).map(Some)
    }
}

/// What the call does when nothing fails.
struct Reference {
    before: State,
    after: State,
    text: String,
}

fn difference(found: &State, want: &State) -> Vec<String> {
    match (found, want) {
        (Some(found), Some(want)) => found.diff(want),
        (None, Some(_)) => vec!["not mounted".to_owned()],
        (Some(_), None) => vec!["still mounted".to_owned()],
        (None, None) => Vec::new(),
    }
}

/// What is wrong with a failing n-th allocation, and whether it was met.
fn probe(
    bench: &Bench<'_>,
    reference: &Reference,
    n: u32,
    wrong: &mut Vec<String>,
) -> Result<bool> {
    bench.set_up()?;
    let ended = bench.call(n)?;
    let state = bench.state().context("afterwards")?;
    let mut failed_clean = false;
    match &ended.result {
        Ok(text) => {
            // tmpfs says ENOSPC for want of memory, and without a work directory a union is read-only.
            let read_only = bench.own && !bench.scenario.mounted && text == "ro";
            if *text != reference.text && !bench.scenario.partial && !read_only {
                wrong.push(format!("result '{text}', wanted '{}'", reference.text));
            }
            let mut lines = difference(&state, &reference.after);
            // The directory that shows what the mount can do was not to be made.
            lines.retain(|line| !read_only || line != "gone: missing");
            wrong.extend(lines);
        }
        Err(e) => {
            // tmpfs says ENOSPC where it has no memory for an inode.
            let known = [Errno::NOMEM, Errno::NOSPC].contains(e);
            if !known && !bench.scenario.errors.contains(e) {
                wrong.push(format!("error {} ({e})", e.raw_os_error()));
            }
            failed_clean = state == reference.before;
            if !failed_clean && state != reference.after && !bench.scenario.between {
                let before = difference(&state, &reference.before);
                wrong.extend(before.iter().map(|line| format!("between ({e}): {line}")));
            }
            if bench.scenario.mounted {
                let left = bench.union.leftovers()?;
                wrong.extend(left.iter().map(|l| format!("left: {l}")));
            }
        }
    }
    if !ended.injected && ended.result.is_err() {
        wrong.push("failed untouched".to_owned());
    }
    let again = |when: &str, wrong: &mut Vec<String>| -> Result<()> {
        match bench.call(0)?.result {
            Ok(text) if text == reference.text => {}
            Ok(text) => wrong.push(format!(
                "again, {when}: '{text}', wanted '{}'",
                reference.text
            )),
            Err(e) => wrong.push(format!("again, {when}: {e}")),
        }
        let state = bench.state()?;
        let lines = difference(&state, &reference.after);
        wrong.extend(lines.iter().map(|line| format!("again, {when}: {line}")));
        Ok(())
    };
    let live = failed_clean && n % 2 == 0;
    if live {
        again("on the live mount", wrong)?;
    }
    if bench.scenario.mounted {
        let expected = if live { &reference.after } else { &state };
        if sys::is_mounted(&bench.union.mnt) {
            bench.union.umount()?;
        }
        bench.union.mount().context("the next mount")?;
        let next = bench.state()?;
        if expected.is_some() {
            let lines = difference(&next, expected);
            wrong.extend(
                lines
                    .iter()
                    .map(|line| format!("on the next mount: {line}")),
            );
        }
        let left = bench.union.leftovers()?;
        wrong.extend(left.iter().map(|l| format!("left by the next mount: {l}")));
    }
    if failed_clean && !live {
        again("on the next mount", wrong)?;
    }
    bench.tear_down()?;
    Ok(ended.injected)
}

/// All failures of one scenario; how many there were.
fn scenario(settings: &Settings, bench: &Bench<'_>, out: &mut Outcome) -> Result<u32> {
    bench.set_up()?;
    let before = bench.state()?;
    bench.tear_down()?;
    // The reference is made without looking first: a call on cold caches, as the probed ones.
    bench.set_up()?;
    let ended = bench.call(0)?;
    let text = match ended.result {
        Ok(text) => text,
        Err(e) => bail!("without a failure: {e}"),
    };
    let after = bench.state()?;
    bench.tear_down()?;
    let reference = Reference {
        before,
        after,
        text,
    };
    let (mut n, mut count) = (1, 0);
    loop {
        let mut wrong = Vec::new();
        let injected = match probe(bench, &reference, n, &mut wrong) {
            Ok(injected) => injected,
            Err(e) => {
                out.wrong(format!("n={n}: {e:#}"));
                bench.tear_down().context("cleaning up")?;
                true
            }
        };
        for line in wrong {
            out.wrong(format!("n={n}: {line}"));
        }
        count += 1;
        if !injected {
            break;
        }
        ensure!(n < MANY, "no end");
        n += settings.stride(n);
    }
    out.figures = format!("{count} of {n} allocations");
    Ok(count)
}

/// Unloads the module: its slab caches complain about what was not freed.
fn unload(settings: &Settings, out: &mut Outcome) -> Result<()> {
    sys::drop_caches()?;
    // Inodes are freed after an RCU grace period.
    std::thread::sleep(Duration::from_millis(200));
    sys::run("rmmod", &[&settings.fstype])?;
    // Not there without SLUB_DEBUG.
    let slabs = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    for line in slabs
        .lines()
        .filter(|l| l.starts_with("rovl") || l.starts_with("ovl_"))
    {
        if settings.fstype == "rovl" && line.starts_with("rovl") {
            out.wrong(format!("a cache is left: {line}"));
        }
    }
    leaks(out)?;
    sys::run("insmod", &[&settings.module()]).map(drop)
}

/// What the debug kernel's leak detector has found. The first scan only marks.
fn leaks(out: &mut Outcome) -> Result<()> {
    const LEAKS: &str = "/sys/kernel/debug/kmemleak";
    if sys::set(LEAKS, "scan").is_err() {
        return Ok(());
    }
    std::thread::sleep(Duration::from_secs(6));
    sys::set(LEAKS, "scan")?;
    let found = fs::read_to_string(LEAKS)?;
    if !found.is_empty() {
        out.wrong(format!("leaks: {found}"));
    }
    Ok(())
}

/// Which allocations may fail: all.
fn configure() -> Result<()> {
    for (file, value) in [
        ("failslab/ignore-gfp-wait", "N"),
        ("failslab/verbose", "0"),
        ("failslab/probability", "0"),
        ("fail_page_alloc/ignore-gfp-wait", "N"),
        ("fail_page_alloc/ignore-gfp-highmem", "N"),
        ("fail_page_alloc/min-order", "0"),
        ("fail_page_alloc/verbose", "0"),
        ("fail_page_alloc/probability", "0"),
    ] {
        sys::set(&format!("/sys/kernel/debug/{file}"), value)?;
    }
    Ok(())
}

/// Runs the part.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    configure().context("the kernel has no fault injection")?;
    ensure!(
        SCENARIOS.iter().any(|s| settings.wanted(s.name)),
        "no scenario has a name like that"
    );
    let _ = sys::set("/sys/kernel/debug/kmemleak", "clear");
    for fstype in settings.filesystems(&["tmpfs", "ext4"]) {
        let base = settings.dir(&format!("alloc-{fstype}"))?;
        let image = PathBuf::from(format!("/tmp/alloc-{fstype}.img"));
        let mut device = None;
        if fstype == "tmpfs" {
            sys::mount("base", &base, "tmpfs", MountFlags::empty(), "mode=755")?;
        } else {
            sys::mkfs(&fstype, &image, sys::image_size(&fstype))?;
            let attached = sys::Loop::attach(&image)?;
            let none = MountFlags::empty();
            sys::mount(&attached.0, &base, &fstype, none, "")?;
            device = Some(attached);
        }
        make_lowers(&base)?;
        fs::create_dir(base.join("m"))?;
        let own = fstype == "tmpfs";
        if own {
            fs::create_dir(base.join("top"))?;
        }
        std::env::set_current_dir(&base)?;
        let mut failures = 0;
        let lowers = Tree::of(&base.join("l1"))?;
        let wanted = SCENARIOS.iter().filter(|s| settings.wanted(s.name));
        for (index, scenario_) in wanted.enumerate() {
            // A sample; what depends on the filesystem below is the same in many of them.
            let every = if own { 2 } else { 4 };
            if settings.short && (index + settings.seed as usize) % every != 0 {
                continue;
            }
            let ours = scenario_.options.contains("copy_up=");
            if ours && settings.fstype == "overlay" {
                continue;
            }
            let mut union = Union::new(&settings.fstype, &base, &base.join("top"), &base.join("m"));
            if scenario_.mounted {
                union.options = scenario_.options.to_owned();
            }
            let bench = Bench {
                scenario: scenario_,
                union,
                own,
            };
            report.test(&format!("{fstype}: {}", scenario_.name), |out| {
                failures += scenario(settings, &bench, out)?;
                Ok(())
            });
        }
        report.test(&format!("{fstype}: the lower layer is as it was"), |out| {
            let now = Tree::of(&base.join("l1"))?;
            now.diff(&lowers).iter().for_each(|line| out.wrong(line));
            Ok(())
        });
        println!("# total: {failures} calls with a failing allocation on {fstype}");
        std::env::set_current_dir("/")?;
        report.test(
            &format!("{fstype}: nothing keeps the layers mounted"),
            |_| {
                sys::umount(&base)?;
                let _file = Scratch(base.clone());
                if let Some(device) = &device {
                    // Refused while a superblock is left.
                    let flags = OFlags::RDONLY | OFlags::EXCL;
                    rustix::fs::open(device.0.as_str(), flags, Mode::empty())
                        .context(fstype.clone())?;
                }
                Ok(())
            },
        );
        drop(device);
        let _ = fs::remove_file(&image);
    }
    report.test("the module can be unloaded", |out| unload(settings, out));
    Ok(())
}
