// SPDX-License-Identifier: GPL-2.0
//! Writes a layer.

use crate::case::{below, bytes, pattern, Case, Entry, What};
use crate::sys::{self, Sys};
use rustix::fd::AsFd;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, CWD,
};
use rustix::io::Errno;

/// Makes the entries below `root`, in their order. What a filesystem does not have (xattrs, flags, devices) is
/// left out: it is missing on both sides.
/// So is what can't be made, in a hostile layer.
pub fn build(case: &Case, root: &str, entries: &[Entry]) -> Sys<()> {
    let hostile = case.hostile;
    for e in entries {
        match make(case, root, e) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOTTY) => {}
            Err(_) if hostile => {}
            Err(e) => return Err(e),
        }
    }
    // The times of a directory change while entries are made in it, and flags may forbid that.
    for e in entries.iter().rev() {
        let path = below(root, &e.path);
        let at = Timespec {
            tv_sec: e.time,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: at,
            last_modification: at,
        };
        match rustix::fs::utimensat(CWD, &*path, &times, AtFlags::SYMLINK_NOFOLLOW) {
            Err(e) if !hostile => return Err(e),
            _ => {}
        }
        if e.flags != 0 && matches!(e.what, What::Dir | What::File { .. }) {
            let fd = rustix::fs::open(&*path, OFlags::RDONLY, Mode::empty())?;
            let mut flags = e.flags;
            let _ = sys::ioctl(fd.as_fd(), sys::SETFLAGS, &mut flags);
        }
    }
    Ok(())
}

fn make(case: &Case, root: &str, e: &Entry) -> Sys<()> {
    let path = below(root, &e.path);
    let path = &*path;
    match &e.what {
        // The root of the layer.
        What::Dir if e.path.is_empty() => {}
        What::Dir => rustix::fs::mkdirat(CWD, path, Mode::from_bits_retain(0o700))?,
        What::File { size, pieces } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let fd = rustix::fs::open(path, flags, Mode::from_bits_retain(0o600))?;
            for (at, len, fill) in pieces {
                let data: Vec<u8> = (*at..*at + u64::from(*len))
                    .map(|i| pattern(*fill, i))
                    .collect();
                rustix::io::pwrite(&fd, &data, *at)?;
            }
            rustix::fs::ftruncate(&fd, *size)?;
        }
        What::Symlink { target } => {
            let target = below(target, "");
            rustix::fs::symlinkat(&*target, CWD, path)?;
        }
        What::Link { to } => {
            return rustix::fs::linkat(CWD, &*below(root, to), CWD, path, AtFlags::empty());
        }
        What::Node { kind, rdev } => {
            let kind = FileType::from_raw_mode(*kind);
            rustix::fs::mknodat(CWD, path, kind, Mode::from_bits_retain(0o600), *rdev)?;
        }
        What::Whiteout => {
            rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)?;
            return Ok(());
        }
        What::XattrWhiteout => {
            rustix::fs::open(
                path,
                OFlags::WRONLY | OFlags::CREATE,
                Mode::from_bits_retain(0o600),
            )?;
            return rustix::fs::lsetxattr(
                path,
                format!("{}whiteout", case.own_prefix()),
                b"",
                XattrFlags::empty(),
            );
        }
    }
    let (uid, gid) = (Uid::from_raw(e.uid), Gid::from_raw(e.gid));
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(e.what, What::Symlink { .. }) {
        rustix::fs::chmodat(CWD, path, Mode::from_bits_retain(e.mode), AtFlags::empty())?;
    }
    for (name, value) in &e.xattrs {
        match rustix::fs::lsetxattr(path, &*bytes(name), &bytes(value), XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            // A value that this filesystem does not take.
            Err(Errno::INVAL | Errno::RANGE | Errno::NOSPC) => {}
            Err(e) => return Err(e),
        }
    }
    if let Some(of) = &e.digest_of {
        let of = below(root, &format!("../{of}"));
        let mark = rustix::fs::open(&*of, OFlags::RDONLY, Mode::empty())
            .and_then(|of| sys::digest_mark(of.as_fd()));
        if let Ok(mark) = mark {
            let name = format!("{}metacopy", case.own_prefix());
            let _ = rustix::fs::lsetxattr(path, name, &mark, XattrFlags::empty());
        }
    }
    if e.guarded {
        let file = rustix::fs::open(path, OFlags::RDONLY, Mode::empty())?;
        let _ = sys::guard(file.as_fd());
    }
    Ok(())
}
