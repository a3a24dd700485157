// SPDX-License-Identifier: GPL-2.0
//! Attributes: owner, mode, times, extended ones, flags.

use super::Target;
use crate::case::bytes;
use crate::op::{Op, When};
use crate::outcome::Outcome;
use crate::side::Side;
use crate::sys::{self, Sys};
use crate::tree;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, Uid, XattrFlags, CWD,
};
use rustix::io::Errno;

impl Target<'_> {
    fn flags(&self) -> AtFlags {
        match self {
            Self::Path { follow: false, .. } => AtFlags::SYMLINK_NOFOLLOW,
            _ => AtFlags::empty(),
        }
    }

    fn statx(&self) -> Sys<Statx> {
        let want = StatxFlags::BASIC_STATS;
        match self {
            Self::Path { path, .. } => rustix::fs::statx(CWD, &**path, self.flags(), want),
            Self::File(fd) => rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, want),
        }
    }
}

fn time(when: When) -> Timespec {
    match when {
        When::Now => Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        },
        When::Omit => Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        When::At(sec, nsec) => Timespec {
            tv_sec: sec,
            tv_nsec: nsec.into(),
        },
    }
}

/// The flags that the generator sets.
const CHANGED: u32 = 0x4010_00f8;

/// Immutable and append-only. overlayfs forgets them of the root with the mount; rovl does not.
const PROTECTED: u32 = 0x30;

/// Calls `$f`, `$l` or `$p` for a descriptor, a symlink or a path.
macro_rules! each {
    ($target:expr, $f:path, $l:path, $p:path, $($arg:expr),*) => {
        match $target {
            Target::File(fd) => $f(fd, $($arg),*),
            Target::Path { path, follow: false } => $l(&**path, $($arg),*),
            Target::Path { path, .. } => $p(&**path, $($arg),*),
        }
    };
}

impl Side {
    fn is_root(&self, fd: BorrowedFd<'_>) -> Sys<bool> {
        let (this, root) = (rustix::fs::fstat(fd)?, rustix::fs::stat(&*self.mnt)?);
        Ok((this.st_dev, this.st_ino) == (root.st_dev, root.st_ino))
    }

    pub(super) fn attr(&mut self, op: &Op) -> Sys<Outcome> {
        use rustix::fs as r;
        let (Op::Chmod { at, .. }
        | Op::Chown { at, .. }
        | Op::Utimes { at, .. }
        | Op::SetXattr { at, .. }
        | Op::GetXattr { at, .. }
        | Op::ListXattr { at }
        | Op::RemoveXattr { at, .. }
        | Op::SetFlags { at, .. }
        | Op::GetFlags { at }
        | Op::Stat { at }
        | Op::Statfs { at }) = op
        else {
            return Err(Errno::NOSYS);
        };
        let target = self.target(at)?;
        match op {
            Op::Chmod { mode, .. } => match &target {
                Target::File(fd) => r::fchmod(fd, Mode::from_bits_retain(*mode))?,
                // A symlink has no mode; the call is fchmodat2.
                Target::Path { path, .. } => r::chmodat(
                    CWD,
                    &**path,
                    Mode::from_bits_retain(*mode),
                    AtFlags::empty(),
                )?,
            },
            Op::Chown { uid, gid, .. } => {
                let id = |id: &u32| (*id != u32::MAX).then_some(*id);
                let (uid, gid) = (id(uid).map(Uid::from_raw), id(gid).map(Gid::from_raw));
                match &target {
                    Target::File(fd) => r::fchown(fd, uid, gid)?,
                    Target::Path { path, .. } => {
                        r::chownat(CWD, &**path, uid, gid, target.flags())?
                    }
                }
            }
            Op::Utimes { atime, mtime, .. } => {
                let times = Timestamps {
                    last_access: time(*atime),
                    last_modification: time(*mtime),
                };
                match &target {
                    Target::File(fd) => r::futimens(fd, &times)?,
                    Target::Path { path, .. } => {
                        r::utimensat(CWD, &**path, &times, target.flags())?
                    }
                }
            }
            Op::SetXattr {
                name, value, flags, ..
            } => {
                let (name, value) = (bytes(name), bytes(value));
                let flags = XattrFlags::from_bits_retain(*flags);
                each!(
                    &target,
                    r::fsetxattr,
                    r::lsetxattr,
                    r::setxattr,
                    &*name,
                    &value,
                    flags
                )?;
            }
            Op::RemoveXattr { name, .. } => {
                each!(
                    &target,
                    r::fremovexattr,
                    r::lremovexattr,
                    r::removexattr,
                    &*bytes(name)
                )?;
            }
            Op::GetXattr { name, size, .. } => {
                let mut buf = vec![0; *size as usize];
                let name = bytes(name);
                let n = each!(
                    &target,
                    r::fgetxattr,
                    r::lgetxattr,
                    r::getxattr,
                    &*name,
                    &mut buf[..]
                )?;
                buf.truncate(n);
                let own =
                    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
                return Ok(Outcome::from(n as i64).with_data(if own { Vec::new() } else { buf }));
            }
            Op::ListXattr { .. } => {
                let mut buf = vec![0; 4096];
                let n = each!(
                    &target,
                    r::flistxattr,
                    r::llistxattr,
                    r::listxattr,
                    &mut buf[..]
                )?;
                buf.truncate(n);
                let mut names: Vec<_> = buf.split_inclusive(|b| *b == 0).collect();
                names.sort_unstable();
                return Ok(Outcome::from(n as i64).with_data(names.concat()));
            }
            Op::SetFlags { .. } | Op::GetFlags { .. } => {
                let opened;
                let fd = match &target {
                    Target::File(fd) => fd.as_fd(),
                    Target::Path { path, .. } => {
                        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                        opened = r::open(&**path, flags, Mode::empty())?;
                        opened.as_fd()
                    }
                };
                let mut value = 0u32;
                if let Op::SetFlags { flags, .. } = op {
                    // Flags that describe how the filesystem keeps the file stay as they are.
                    let _ = sys::ioctl(fd, sys::GETFLAGS, &mut value);
                    value = value & !CHANGED | *flags;
                    if self.is_root(fd)? {
                        value &= !PROTECTED;
                    }
                    sys::ioctl(fd, sys::SETFLAGS, &mut value)?;
                } else {
                    sys::ioctl(fd, sys::GETFLAGS, &mut value)?;
                    return Ok(Outcome::from(0).with("flags", value.into()));
                }
            }
            Op::Stat { .. } => {
                let stat = target.statx()?;
                self.ids.moment();
                let mut out = Outcome::from(0);
                tree::stat_fields(&stat, &mut self.ids, |name, value| {
                    out.fields.push((name, value))
                });
                return Ok(out);
            }
            Op::Statfs { .. } => {
                let fs = match &target {
                    Target::File(fd) => r::fstatfs(fd)?,
                    Target::Path { path, .. } => r::statfs(&**path)?,
                };
                return Ok(Outcome::from(0)
                    .with("bsize", fs.f_bsize as u64)
                    .with("blocks", fs.f_blocks)
                    .with("namelen", fs.f_namelen as u64)
                    .with("flags", fs.f_flags as u64));
            }
            _ => unreachable!(),
        }
        Ok(0.into())
    }
}
