// SPDX-License-Identifier: GPL-2.0
//! Runs every test in a child process of its own and prints KTAP.

use rustix::io::Errno;
use std::fmt::Debug;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::{images, sys};

/// Why a test did not pass.
#[derive(Debug)]
pub struct Failure {
    pub skip: bool,
    pub msg: String,
}

pub type Res<T = ()> = Result<T, Failure>;

impl Failure {
    #[track_caller]
    pub fn new(msg: String) -> Self {
        let at = Location::caller();
        Failure {
            skip: false,
            msg: format!("{msg} ({}:{})", at.file(), at.line()),
        }
    }

    pub fn skip(reason: &str) -> Self {
        Failure {
            skip: true,
            msg: reason.to_owned(),
        }
    }
}

impl From<Errno> for Failure {
    #[track_caller]
    fn from(e: Errno) -> Self {
        Failure::new(format!("unexpected error {}", errno_name(e)))
    }
}

impl From<std::io::Error> for Failure {
    #[track_caller]
    fn from(e: std::io::Error) -> Self {
        Failure::new(format!("unexpected error {e}"))
    }
}

/// The errno of either error type.
pub trait HasErrno {
    fn errno(&self) -> Errno;
}

impl HasErrno for Errno {
    fn errno(&self) -> Errno {
        *self
    }
}

impl HasErrno for std::io::Error {
    fn errno(&self) -> Errno {
        Errno::from_io_error(self).unwrap_or(Errno::from_raw_os_error(4095))
    }
}

pub fn errno_name(e: Errno) -> String {
    let known = [
        (Errno::ACCESS, "EACCES"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::BADF, "EBADF"),
        (Errno::BUSY, "EBUSY"),
        (Errno::DQUOT, "EDQUOT"),
        (Errno::EXIST, "EEXIST"),
        (Errno::FBIG, "EFBIG"),
        (Errno::INVAL, "EINVAL"),
        (Errno::IO, "EIO"),
        (Errno::ISDIR, "EISDIR"),
        (Errno::LOOP, "ELOOP"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NODATA, "ENODATA"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NOENT, "ENOENT"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::NOTEMPTY, "ENOTEMPTY"),
        (Errno::NOTTY, "ENOTTY"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::OVERFLOW, "EOVERFLOW"),
        (Errno::PERM, "EPERM"),
        (Errno::RANGE, "ERANGE"),
        (Errno::ROFS, "EROFS"),
        (Errno::STALE, "ESTALE"),
        (Errno::TXTBSY, "ETXTBSY"),
        (Errno::XDEV, "EXDEV"),
    ];
    match known.iter().find(|(k, _)| *k == e) {
        Some((_, n)) => (*n).to_owned(),
        None => format!("errno {}", e.raw_os_error()),
    }
}

/// The call must have failed with `want`.
#[track_caller]
pub fn fails<T, E: HasErrno>(r: Result<T, E>, want: Errno, what: &str) -> Res {
    match r {
        Ok(_) => Err(Failure::new(format!(
            "{what}: expected {}, seen success",
            errno_name(want)
        ))),
        Err(e) if e.errno() == want => Ok(()),
        Err(e) => Err(Failure::new(format!(
            "{what}: expected {}, seen {}",
            errno_name(want),
            errno_name(e.errno())
        ))),
    }
}

/// The call must have succeeded.
#[track_caller]
pub fn works<T, E: HasErrno>(r: Result<T, E>, what: &str) -> Res<T> {
    match r {
        Ok(v) => Ok(v),
        Err(e) => Err(Failure::new(format!(
            "{what}: expected success, seen {}",
            errno_name(e.errno())
        ))),
    }
}

#[track_caller]
pub fn same<A: PartialEq<B> + Debug, B: Debug>(seen: A, want: B, what: &str) -> Res {
    if seen == want {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what}: expected {want:?}, seen {seen:?}"
    )))
}

#[track_caller]
pub fn check(cond: bool, what: &str) -> Res {
    if cond {
        return Ok(());
    }
    Err(Failure::new(what.to_owned()))
}

/// The filesystem that holds the layers of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fs {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
}

impl Fs {
    pub fn name(self) -> &'static str {
        match self {
            Fs::Tmpfs => "tmpfs",
            Fs::Ext4 => "ext4",
            Fs::Xfs => "xfs",
            Fs::Btrfs => "btrfs",
        }
    }
}

/// What a test is given.
pub struct Ctx {
    /// An empty folder on the filesystem that the test asked for.
    pub root: PathBuf,
    /// An empty folder on a tmpfs of the test's own (a sibling of the layers
    /// when these are on tmpfs too).
    pub tmp: PathBuf,
    pub fs: Fs,
}

pub struct Test {
    pub name: &'static str,
    pub fs: Fs,
    pub run: fn(&Ctx) -> Res,
}

/// Lists the tests of a module: `tests! { Tmpfs: a, b; Ext4: c }`.
#[macro_export]
macro_rules! tests {
    ($($fs:ident: $($name:ident),+ $(,)?);+ $(;)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[
            $($($crate::harness::Test {
                name: stringify!($name),
                fs: $crate::harness::Fs::$fs,
                run: $name,
            },)+)+
        ];
    };
}

enum Outcome {
    Pass,
    Fail(String),
    Skip(String),
}

static PANIC: Mutex<String> = Mutex::new(String::new());

fn run_in_child(test: &Test, base: &std::path::Path) -> Outcome {
    let run = || -> Res {
        sys::private_mounts()?;
        let tmp = base.join("tmpfs");
        std::fs::create_dir_all(&tmp)?;
        sys::mount_tmpfs(&tmp, "size=400m,mode=755")?;
        let own = tmp.join("own");
        std::fs::create_dir(&own)?;
        let root = match test.fs {
            Fs::Tmpfs => tmp.join("layers"),
            fs => images::mount_point(base, fs).join(test.name),
        };
        std::fs::create_dir(&root)?;
        (test.run)(&Ctx {
            root,
            tmp: own,
            fs: test.fs,
        })
    };
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => Outcome::Pass,
        Ok(Err(f)) if f.skip => Outcome::Skip(f.msg),
        Ok(Err(f)) => Outcome::Fail(f.msg),
        Err(_) => Outcome::Fail(match PANIC.lock() {
            Ok(s) => s.clone(),
            Err(_) => "panic".to_owned(),
        }),
    }
}

fn encode(o: &Outcome) -> String {
    match o {
        Outcome::Pass => "P".to_owned(),
        Outcome::Fail(m) => format!("F{m}"),
        Outcome::Skip(m) => format!("S{m}"),
    }
}

fn decode(s: &str, status: i32) -> Outcome {
    match s.as_bytes().first() {
        Some(b'P') => Outcome::Pass,
        Some(b'F') => Outcome::Fail(s[1..].to_owned()),
        Some(b'S') => Outcome::Skip(s[1..].to_owned()),
        _ => Outcome::Fail(format!(
            "the test died without a result, wait status {status:#x}"
        )),
    }
}

/// Reads until end of file or until the time is up.
fn read_until(fd: &OwnedFd, end: Instant) -> Option<String> {
    let mut buf = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let ts = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&ts)) {
            Ok(0) => return None,
            Err(Errno::INTR) => continue,
            Err(_) => return Some(String::from_utf8_lossy(&buf).into_owned()),
            Ok(_) => {}
        }
        let mut chunk = [0u8; 4096];
        match rustix::io::read(fd, &mut chunk) {
            Ok(0) | Err(_) => return Some(String::from_utf8_lossy(&buf).into_owned()),
            Ok(n) => {
                buf.extend_from_slice(&chunk[..n]);
                // Whoever the test left behind may hold the pipe open.
                if buf.ends_with(b"\0") {
                    buf.pop();
                    return Some(String::from_utf8_lossy(&buf).into_owned());
                }
            }
        }
    }
}

/// Where each thread of `pid` is in the kernel, its io_uring workers among them.
fn blocked_stack(pid: i32) -> String {
    let mut out = String::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let read = |what| std::fs::read_to_string(task.path().join(what)).unwrap_or_default();
        for line in read("status")
            .lines()
            .filter(|l| l.starts_with("State") || l.starts_with("Name"))
            .chain(read("stack").lines())
        {
            out.push_str(&format!("#   {line}\n"));
        }
    }
    out
}

fn run_one(test: &Test, base: &std::path::Path, timeout: Duration) -> Outcome {
    if let Err(e) = images::prepare(base, test.fs) {
        return Outcome::Fail(format!("cannot prepare {}: {}", test.fs.name(), e.msg));
    }
    let (rd, wr) = match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
        Ok(p) => p,
        Err(e) => return Outcome::Fail(format!("pipe: {e}")),
    };
    let pid = match sys::fork() {
        Ok(0) => {
            drop(rd);
            let _ = rustix::process::setsid();
            let mut msg = encode(&run_in_child(test, base)).into_bytes();
            msg.push(0);
            let _ = rustix::io::write(wr.as_fd(), &msg);
            sys::exit_now(0);
        }
        Ok(pid) => pid,
        Err(e) => return Outcome::Fail(format!("fork: {e}")),
    };
    drop(wr);
    let said = read_until(&rd, Instant::now() + timeout);
    if said.is_none() {
        print!("{}", blocked_stack(pid));
    }
    let status = match said {
        Some(_) => sys::wait_for(pid, Duration::from_secs(10)),
        None => None,
    };
    // The test's own children too; it is its own session.
    sys::kill_group(pid);
    let status = status.or_else(|| sys::wait_for(pid, Duration::from_secs(5)));
    match (said, status) {
        (None, _) => Outcome::Fail(format!("no result within {} s", timeout.as_secs())),
        (Some(_), None) => Outcome::Fail("the test does not end".to_owned()),
        (Some(s), Some(st)) => decode(&s, st),
    }
}

fn one_line(s: &str) -> String {
    s.replace('\n', " | ").replace('#', "%")
}

/// Runs the tests that match; true if all passed.
pub fn run(topics: &[(&str, &[Test])], filters: &[String], base: &std::path::Path) -> bool {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut s) = PANIC.lock() {
            *s = format!("panic: {info}");
        }
    }));
    let secs = std::env::var("SYSCALL_TIMEOUT")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(120);
    let timeout = Duration::from_secs(secs);
    let mut chosen = Vec::new();
    for (topic, tests) in topics {
        for t in *tests {
            let name = match t.fs {
                Fs::Tmpfs => format!("{topic}.{}", t.name),
                fs => format!("{topic}.{}@{}", t.name, fs.name()),
            };
            if filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())) {
                chosen.push((name, t));
            }
        }
    }
    println!("KTAP version 1");
    println!("1..{}", chosen.len());
    let (mut failed, mut skipped) = (0, 0);
    for (i, (name, t)) in chosen.iter().enumerate() {
        let start = Instant::now();
        let n = i + 1;
        match run_one(t, base, timeout) {
            Outcome::Pass => println!("ok {n} {name}"),
            Outcome::Skip(m) => {
                skipped += 1;
                println!("ok {n} {name} # SKIP {}", one_line(&m));
            }
            Outcome::Fail(m) => {
                failed += 1;
                println!("not ok {n} {name} # {}", one_line(&m));
            }
        }
        let took = start.elapsed();
        if took > Duration::from_secs(5) {
            println!("# {name} took {:.1} s", took.as_secs_f32());
        }
        let _ = std::io::stdout().flush();
    }
    println!(
        "# Totals: pass:{} fail:{failed} skip:{skipped}",
        chosen.len() - failed - skipped
    );
    failed == 0 && !chosen.is_empty()
}
