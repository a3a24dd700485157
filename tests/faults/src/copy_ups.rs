// SPDX-License-Identifier: GPL-2.0
//! The calls that copy `dir/file` of a mount up.

use rustix::fd::OwnedFd;
use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, CWD};
use rustix::io::Errno;
use std::path::Path;

pub type Call = fn(&Path) -> Result<(), Errno>;

/// The file, opened for writing.
pub fn open(mnt: &Path) -> Result<OwnedFd, Errno> {
    rfs::open(mnt.join("dir/file"), OFlags::RDWR, Mode::empty())
}

/// Each with its name; the file has more than 100,000 bytes.
pub const ALL: &[(&str, Call)] = &[
    ("chmod", |m| rfs::chmod(m.join("dir/file"), Mode::RUSR)),
    ("write", |m| {
        rustix::io::pwrite(open(m)?, b"changed", 0).map(drop)
    }),
    ("mmap", |m| {
        use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
        const PAGE: usize = 4096;
        let (prot, none) = (ProtFlags::READ | ProtFlags::WRITE, std::ptr::null_mut());
        // SAFETY: a new mapping, unmapped at once.
        unsafe { munmap(mmap(none, PAGE, prot, MapFlags::SHARED, open(m)?, 0)?, PAGE) }
    }),
    ("rename", |m| {
        rfs::rename(m.join("dir/file"), m.join("moved"))
    }),
    ("link", |m| {
        rfs::linkat(
            CWD,
            m.join("dir/file"),
            CWD,
            m.join("other"),
            AtFlags::empty(),
        )
    }),
    ("ftruncate", |m| rfs::ftruncate(open(m)?, 100_000)),
];
