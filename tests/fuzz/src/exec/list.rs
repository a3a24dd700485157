// SPDX-License-Identifier: GPL-2.0
//! Listing directories, with seeks.

use super::Target;
use crate::op::At;
use crate::outcome::Outcome;
use crate::side::Side;
use crate::sys::{ret, Sys};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom};

/// An entry: position of the next one, inode number, type, name.
pub struct Entry {
    pub next: i64,
    pub ino: u64,
    pub kind: u8,
    pub name: Vec<u8>,
}

/// Reads a directory to its end, with a buffer of `size` bytes; fails where reading it again does not help.
pub fn list_dir(fd: BorrowedFd<'_>, size: usize) -> Sys<Vec<Entry>> {
    let mut buf = vec![0u8; size];
    let mut entries = Vec::new();
    let mut failures = 0;
    loop {
        // SAFETY: the buffer outlives the call and has the length that is given.
        let n = ret(unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                fd.as_raw_fd(),
                buf.as_mut_ptr(),
                buf.len(),
            )
        });
        // A union says that an entry cannot be looked up where it is the first one of a buffer, and goes on.
        let n = match n {
            Err(_) if failures < 100 => {
                failures += 1;
                continue;
            }
            other => other?,
        };
        if n == 0 {
            return Ok(entries);
        }
        let mut rest = &buf[..n as usize];
        while rest.len() > 19 {
            let number =
                |at: usize| u64::from_ne_bytes(rest[at..at + 8].try_into().unwrap_or_default());
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = rest[19..len]
                .split(|b| *b == 0)
                .next()
                .unwrap_or_default()
                .to_vec();
            entries.push(Entry {
                next: number(8) as i64,
                ino: number(0),
                kind: rest[18],
                name,
            });
            rest = &rest[len..];
        }
    }
}

/// How often a third of the listings are made again: so often that what a layer lists is noted down.
const OFTEN: usize = 12;

impl Side {
    /// The sorted names and types; how many devices are listed that cannot be looked up, as whiteouts can be in a
    /// directory of one layer; whether the listing from the `seek`th entry on is the one that was seen.
    pub(super) fn list(&mut self, at: &At, size: u32, seek: u8) -> Sys<Outcome> {
        let opened;
        let fd = match self.target(at)? {
            Target::File(fd) => {
                rustix::fs::seek(fd, SeekFrom::Start(0))?;
                fd.as_fd()
            }
            Target::Path { path, .. } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                opened = rustix::fs::open(&*path, flags, Mode::empty())?;
                opened.as_fd()
            }
        };
        let entries = list_dir(fd, size as usize)?;
        let names = |list: &[Entry]| list.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        let mut same = true;
        // What is listed often is kept.
        for _ in 0..if seek % 3 == 0 { OFTEN } else { 0 } {
            rustix::fs::seek(fd, SeekFrom::Start(0))?;
            same &= names(&list_dir(fd, size as usize)?) == names(&entries);
        }
        if let Some(entry) = entries.get(usize::from(seek)) {
            rustix::fs::seek(fd, SeekFrom::Start(entry.next as u64))?;
            let rest = list_dir(fd, size as usize)?;
            same &= names(&rest) == names(&entries[usize::from(seek) + 1..]);
        }
        let (hidden, shown): (Vec<_>, Vec<_>) = entries.iter().partition(|e| {
            e.kind == libc::DT_CHR
                && rustix::fs::statat(fd, &*e.name, AtFlags::SYMLINK_NOFOLLOW).is_err()
        });
        let mut names: Vec<_> = shown
            .iter()
            .map(|e| [&[b'0' + e.kind, b':'], &*e.name, b"\0"].concat())
            .collect();
        names.sort_unstable();
        Ok(Outcome::from(shown.len() as i64)
            .with("seek", same.into())
            .with("hidden", hidden.len() as u64)
            .with_data(names.concat()))
    }
}
