// SPDX-License-Identifier: GPL-2.0
//! System calls with armed allocations. Paths are relative to the directory that holds the mount point
//! `m`.

use super::Arm;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    self, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, Timespec, Timestamps, XattrFlags,
    CWD,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags};
use std::ffi::CString;
use std::mem::MaybeUninit;

pub fn done(_: impl Sized) -> String {
    String::new()
}

pub fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))
}

/// The names in a directory, sorted; read armed, `times` times from the start.
pub fn list(arm: &Arm, path: &str, times: usize) -> Result<String, Errno> {
    let mut names = Vec::with_capacity(256);
    let mut buf = [MaybeUninit::<u8>::uninit(); 4096];
    // The program's own memory must be there before.
    let mut store = String::with_capacity(4096);
    arm.run(|| {
        for _ in 0..times {
            store.clear();
            names.clear();
            let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let mut entries = RawDir::new(dir, &mut buf);
            while let Some(entry) = entries.next() {
                let entry = entry?;
                let start = store.len();
                store.push_str(entry.file_name().to_str().unwrap_or("?"));
                names.push(start..store.len());
            }
        }
        Ok(())
    })?;
    let mut found: Vec<_> = names.iter().map(|range| &store[range.clone()]).collect();
    found.sort_unstable();
    Ok(found.join(" "))
}

/// Reads a page, armed from the opening on.
pub fn read(arm: &Arm, path: &str) -> Result<String, Errno> {
    let mut buf = [0u8; 4096];
    let len = arm.run(|| rustix::io::pread(open(path, OFlags::RDONLY)?, &mut buf, 0))?;
    Ok(format!("{len} {:?}", &buf[..len.min(8)]))
}

/// Opens with `flags` and writes a few bytes at `at`.
pub fn write(arm: &Arm, path: &str, flags: OFlags, at: u64) -> Result<String, Errno> {
    let written = arm.run(|| rustix::io::pwrite(open(path, flags)?, b"changed", at))?;
    Ok(written.to_string())
}

pub fn stat(arm: &Arm, path: &str) -> Result<String, Errno> {
    let stat = arm.run(|| fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW))?;
    Ok(format!(
        "{:o} {} {}",
        stat.st_mode, stat.st_size, stat.st_nlink
    ))
}

/// A path that does not exist, and must not seem to for want of memory.
pub fn missing(arm: &Arm, path: &str) -> Result<String, Errno> {
    match arm.run(|| fs::statat(CWD, path, AtFlags::empty())) {
        Err(Errno::NOENT) => Ok("none".to_owned()),
        Err(e) => Err(e),
        Ok(_) => Ok("found".to_owned()),
    }
}

pub fn chmod(arm: &Arm, path: &str) -> Result<String, Errno> {
    arm.run(|| fs::chmod(path, Mode::from_raw_mode(0o640)))
        .map(done)
}

pub fn rename(arm: &Arm, old: &str, new: &str, flags: RenameFlags) -> Result<String, Errno> {
    arm.run(|| fs::renameat_with(CWD, old, CWD, new, flags))
        .map(done)
}

pub fn mkdir(arm: &Arm, path: &str) -> Result<String, Errno> {
    arm.run(|| fs::mkdir(path, Mode::RWXU)).map(done)
}

pub fn node(arm: &Arm, path: &str, kind: FileType) -> Result<String, Errno> {
    arm.run(|| fs::mknodat(CWD, path, kind, Mode::RUSR, fs::makedev(1, 3)))
        .map(done)
}

pub fn link(arm: &Arm, old: &str, new: &str) -> Result<String, Errno> {
    arm.run(|| fs::linkat(CWD, old, CWD, new, AtFlags::empty()))
        .map(done)
}

pub fn unlink(arm: &Arm, path: &str) -> Result<String, Errno> {
    arm.run(|| fs::unlink(path)).map(done)
}

pub fn rmdir(arm: &Arm, path: &str) -> Result<String, Errno> {
    arm.run(|| fs::rmdir(path)).map(done)
}

pub fn create(arm: &Arm, path: &str) -> Result<String, Errno> {
    arm.run(|| open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY))
        .map(done)
}

pub fn xattr(arm: &Arm, path: &str, name: &str, value: &[u8]) -> Result<String, Errno> {
    arm.run(|| fs::setxattr(path, name, value, XattrFlags::empty()))
        .map(done)
}

pub fn utimes(arm: &Arm, path: &str) -> Result<String, Errno> {
    let time = Timespec {
        tv_sec: 1_100_000_000,
        tv_nsec: 5,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    arm.run(|| fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW))
        .map(done)
}

pub fn sync(
    arm: &Arm,
    path: &str,
    sync: fn(&OwnedFd) -> Result<(), Errno>,
) -> Result<String, Errno> {
    let file = open(path, OFlags::WRONLY)?;
    rustix::io::pwrite(&file, b"changed", 0)?;
    arm.run(|| sync(&file)).map(done)
}

/// An unnamed file gets a name.
pub fn tmpfile(arm: &Arm, dir: &str, name: &str) -> Result<String, Errno> {
    arm.run(|| {
        let file = open(dir, OFlags::TMPFILE | OFlags::WRONLY)?;
        rustix::io::pwrite(&file, b"unnamed", 0)?;
        fs::linkat(&file, "", CWD, name, AtFlags::EMPTY_PATH)
    })
    .map(done)
}

/// A shared mapping: made, then written.
pub fn mapping(arm: &Arm, path: &str) -> Result<String, Errno> {
    let file = open(path, OFlags::RDWR)?;
    let (prot, none) = (ProtFlags::READ | ProtFlags::WRITE, std::ptr::null_mut());
    arm.run(|| {
        // SAFETY: a new mapping, of a file that has the page.
        let at = unsafe { rustix::mm::mmap(none, 4096, prot, MapFlags::SHARED, &file, 0) }?;
        // SAFETY: just mapped.
        unsafe { at.cast::<u8>().write_volatile(b'!') };
        Ok(())
    })
    .map(done)
}

pub fn remount(arm: &Arm, flags: MountFlags) -> Result<String, Errno> {
    arm.run(|| rustix::mount::mount_remount("m", flags, ""))
        .map(done)
}

/// What the mounted union can do: a failure that the mount survived must not cost a feature.
fn mounted() -> Result<String, Errno> {
    if fs::statvfs("m")?
        .f_flag
        .contains(fs::StatVfsMountFlags::RDONLY)
    {
        return Ok("ro".to_owned());
    }
    let unnamed = open("m", OFlags::TMPFILE | OFlags::WRONLY).map(drop);
    // Over a whiteout: the directory needs an attribute.
    let opaque = fs::mkdir("m/gone", Mode::RWXU);
    Ok(format!(
        "rw, unnamed file {unnamed:?}, directory over a whiteout {opaque:?}"
    ))
}

pub fn fstype() -> &'static str {
    // The child cannot be told otherwise: the call has no argument but the fault.
    match std::env::args().any(|a| a == "--fstype=overlay") {
        true => "overlay",
        false => "rovl",
    }
}

/// mount(2) with `options`.
pub fn mount(arm: &Arm, options: &str) -> Result<String, Errno> {
    let data = CString::new(options).unwrap_or_default();
    let none = MountFlags::empty();
    arm.run(|| rustix::mount::mount("union", "m", fstype(), none, data.as_c_str()))?;
    mounted()
}

pub const USUAL: &str = "lowerdir=l1:l0,upperdir=top/upper,workdir=top/work";

pub fn mount_usual(arm: &Arm, options: &str) -> Result<String, Errno> {
    mount(arm, &format!("{USUAL}{options}"))
}

/// The layers by the new system calls, one by one and as descriptors.
pub fn new_api(arm: &Arm) -> Result<String, Errno> {
    let path = OFlags::PATH | OFlags::DIRECTORY;
    let [l1, l0, upper, work] = ["l1", "l0", "top/upper", "top/work"].map(|dir| open(dir, path));
    let (l1, l0, upper, work) = (l1?, l0?, upper?, work?);
    let kind = fstype();
    arm.run(|| {
        use rustix::mount as m;
        let fs = m::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        m::fsconfig_set_fd(fs.as_fd(), "lowerdir+", &l1)?;
        m::fsconfig_set_fd(fs.as_fd(), "lowerdir+", &l0)?;
        m::fsconfig_set_fd(fs.as_fd(), "upperdir", &upper)?;
        m::fsconfig_set_fd(fs.as_fd(), "workdir", &work)?;
        m::fsconfig_create(fs.as_fd())?;
        let (flags, attributes) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
        let mount = m::fsmount(fs.as_fd(), flags, attributes)?;
        let from = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        m::move_mount(mount.as_fd(), "", CWD, "m", from)
    })?;
    mounted()
}
