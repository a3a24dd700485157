// SPDX-License-Identifier: GPL-2.0
//! Thin helpers: processes, mounts, loop devices, device-mapper tables.

use anyhow::{bail, Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs a program; its standard output, or an error with what it said.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .output()
        .with_context(|| program.to_owned())?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{program} {}: {}", args.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The path as text; all paths here are made by this program.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Mounts; `data` are the filesystem's options.
pub fn mount(source: &str, dir: &Path, fstype: &str, flags: MountFlags, data: &str) -> Result<()> {
    try_mount(source, dir, fstype, flags, data)
        .with_context(|| format!("mount -t {fstype} -o {data} {source} {}", dir.display()))
}

/// As [`mount`], with the bare error.
pub fn try_mount(
    source: &str,
    dir: &Path,
    fstype: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), Errno> {
    let data = CString::new(data).unwrap_or_default();
    rustix::mount::mount(source, dir, fstype, flags, data.as_c_str())
}

/// Unmounts.
pub fn umount(dir: &Path) -> Result<()> {
    rustix::mount::unmount(dir, UnmountFlags::empty())
        .with_context(|| format!("umount {}", dir.display()))
}

/// Whether something is mounted at `dir` itself.
pub fn is_mounted(dir: &Path) -> bool {
    let flag = rustix::fs::StatxAttributes::MOUNT_ROOT;
    rustix::fs::statx(
        rustix::fs::CWD,
        dir,
        rustix::fs::AtFlags::empty(),
        rustix::fs::StatxFlags::empty(),
    )
    .is_ok_and(|s| s.stx_attributes.contains(flag))
}

/// Writes a file of proc, sysfs or debugfs.
pub fn set(path: &str, value: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut f| f.write_all(value.as_bytes()))
        .with_context(|| format!("{value} to {path}"))
}

/// Drops dentries, inodes and clean pages.
pub fn drop_caches() -> Result<()> {
    set("/proc/sys/vm/drop_caches", "3")
}

/// A child process that runs `body` and ends with the status it returns.
pub fn fork(body: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: this program has one thread whenever it forks.
    match unsafe { libc::fork() } {
        -1 => bail!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let status = body();
            // SAFETY: ends the process; destructors belong to the parent.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

/// Kills a child.
pub fn kill(pid: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Waits for a child; `None` where it does not end in time.
pub fn wait(pid: i32, limit: Duration) -> Option<i32> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(50);
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let found = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        if found == pid {
            return Some(status);
        }
        if found < 0 || Instant::now() > end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// A loop device, detached when dropped.
pub struct Loop(pub String);

impl Loop {
    /// Attaches `file`.
    pub fn attach(file: &Path) -> Result<Self> {
        Ok(Self(run("losetup", &["-f", "--show", text(file)])?))
    }

    /// Limits requests to some KiB.
    pub fn limit_requests(&self, kib: u32) -> Result<()> {
        let name = self.0.rsplit('/').next().unwrap_or_default();
        let file = format!("/sys/block/{name}/queue/max_sectors_kb");
        set(&file, &kib.to_string())
    }

    /// 512-byte sectors.
    pub fn sectors(&self) -> Result<u64> {
        Ok(run("blockdev", &["--getsz", &self.0])?.parse()?)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run("losetup", &["-d", &self.0]);
    }
}

/// A device-mapper device, removed when dropped.
pub struct Mapped {
    name: String,
    /// The node, which devtmpfs makes: no udev is there to give it a better name.
    pub path: String,
}

impl Mapped {
    /// Creates it with a table.
    pub fn create(name: &str, table: &str) -> Result<Self> {
        let quiet = ["--noudevsync", "--noudevrules"];
        run(
            "dmsetup",
            &[&["create"], &quiet[..], &[name, "--table", table]].concat(),
        )?;
        let minor = run(
            "dmsetup",
            &["info", "-c", "--noheadings", "-o", "minor", name],
        )?;
        Ok(Self {
            name: name.to_owned(),
            path: format!("/dev/dm-{minor}"),
        })
    }

    /// Another table, without a flush or freeze: what is on its way meets it.
    pub fn reload(&self, table: &str) -> Result<()> {
        run(
            "dmsetup",
            &["suspend", "--noflush", "--nolockfs", &self.name],
        )?;
        let loaded = run("dmsetup", &["load", &self.name, "--table", table]);
        run("dmsetup", &["resume", "--noudevsync", &self.name])?;
        loaded.map(drop)
    }

    /// A message to the target.
    pub fn message(&self, message: &[&str]) -> Result<()> {
        run(
            "dmsetup",
            &[&["message", &self.name, "0"], message].concat(),
        )
        .map(drop)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = run(
            "dmsetup",
            &["remove", "--noudevsync", "--retry", &self.name],
        );
    }
}

/// Makes a filesystem in a new, sparse image.
pub fn mkfs(fstype: &str, image: &Path, size: u64) -> Result<()> {
    File::create(image)?.set_len(size)?;
    let image = text(image);
    match fstype {
        "ext4" => run(
            "mkfs.ext4",
            &[
                "-q",
                "-F",
                "-b",
                "4096",
                "-m",
                "0",
                "-E",
                "nodiscard",
                "-O",
                "verity",
                image,
            ],
        ),
        "xfs" => run("mkfs.xfs", &["-q", "-f", "-K", image]),
        "btrfs" => run("mkfs.btrfs", &["-q", "-f", "-K", image]),
        other => bail!("no image of a {other}"),
    }
    .map(drop)
}

/// The smallest size of an image that mkfs accepts, with some room.
pub fn image_size(fstype: &str) -> u64 {
    match fstype {
        "xfs" => 304 << 20,
        "btrfs" => 128 << 20,
        _ => 48 << 20,
    }
}

/// Makes `to` a copy of `from`, with a hole wherever there are zeros; an attached loop device keeps its
/// file.
pub fn copy_image(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{seek, SeekFrom};
    const PIECE: usize = 4096;
    let source = File::open(from)?;
    let target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(to)?;
    let len = source.metadata()?.len();
    target.set_len(0)?;
    target.set_len(len)?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while let Ok(start) = seek(&source, SeekFrom::Data(at)) {
        let end = seek(&source, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let want = buf.len().min(usize::try_from(end - at)?);
            source.read_exact_at(&mut buf[..want], at)?;
            for (i, piece) in buf[..want].chunks(PIECE).enumerate() {
                if piece.iter().any(|b| *b != 0) {
                    target.write_all_at(piece, at + (i * PIECE) as u64)?;
                }
            }
            at += want as u64;
        }
    }
    Ok(())
}

/// Directory names, sorted.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A folder that is removed with all it holds.
pub struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
