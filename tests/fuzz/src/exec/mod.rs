// SPDX-License-Identifier: GPL-2.0
//! Does one operation on one side.

mod attr;
mod data;
mod handle;
mod list;
mod names;

pub use list::list_dir;

use crate::case::below;
use crate::op::{At, Op, Step};
use crate::outcome::Outcome;
use crate::side::Side;
use crate::sys::{self, Sys};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CString;

/// What an `At` leads to.
enum Target<'a> {
    Path { path: CString, follow: bool },
    File(&'a OwnedFd),
}

impl Target<'_> {
    /// A path for calls that know no descriptor.
    fn path(&self) -> CString {
        match self {
            Self::Path { path, .. } => path.clone(),
            Self::File(fd) => {
                CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
            }
        }
    }
}

impl Side {
    fn at(&self, path: &str) -> CString {
        below(&self.mnt, path)
    }

    fn target(&self, at: &At) -> Sys<Target<'_>> {
        Ok(match at {
            At::Path(path) => Target::Path {
                path: self.at(path),
                follow: true,
            },
            At::Link(path) => Target::Path {
                path: self.at(path),
                follow: false,
            },
            At::Slot(slot) => Target::File(self.slot(*slot)?),
        })
    }

    fn put_slot(&mut self, slot: u8, fd: Sys<OwnedFd>) -> Outcome {
        match (fd, self.slots.get_mut(usize::from(slot))) {
            (Ok(fd), Some(place)) => {
                *place = Some(fd);
                0.into()
            }
            (Err(e), _) => e.into(),
            (_, None) => Errno::BADF.into(),
        }
    }

    /// Does one operation; the caller has become the user that does it.
    pub fn execute(&mut self, op: &Op) -> Outcome {
        let done: Sys<Outcome> = match op {
            Op::Open { .. } | Op::Close { .. } | Op::Reopen { .. } => Ok(self.open_close(op)),
            Op::Read { .. }
            | Op::Write { .. }
            | Op::Truncate { .. }
            | Op::Fallocate { .. }
            | Op::MmapWrite { .. }
            | Op::MmapRead { .. }
            | Op::Seek { .. }
            | Op::CopyRange { .. }
            | Op::Clone { .. }
            | Op::Dedupe { .. }
            | Op::Sendfile { .. }
            | Op::Splice { .. }
            | Op::Lock { .. }
            | Op::TestLock { .. }
            | Op::Flock { .. }
            | Op::Sync { .. }
            | Op::Advise { .. } => self.data(op),
            Op::List { at, buffer, seek } => self.list(at, *buffer, *seek),
            Op::Mkdir { .. }
            | Op::Rmdir { .. }
            | Op::Unlink { .. }
            | Op::Mknod { .. }
            | Op::Symlink { .. }
            | Op::Link { .. }
            | Op::Rename { .. }
            | Op::Access { .. }
            | Op::Readlink { .. } => self.names(op),
            Op::Handle { .. } | Op::OpenHandle { .. } => self.handle(op),
            Op::Remount { read_only } => Ok(self.remount(*read_only).into()),
            Op::Again { close } => {
                if *close {
                    self.close_all();
                }
                Ok(self.unmount().and_then(|()| self.mount()).into())
            }
            Op::DropCaches => Ok(sys::put("/proc/sys/vm/drop_caches", "2").into()),
            Op::Checkpoint => Ok(0.into()),
            _ => self.attr(op),
        };
        done.unwrap_or_else(Outcome::from)
    }
}

/// Does a step on each of the sides, as its user.
pub fn step(sides: &mut [Side], step: &Step) -> Vec<Outcome> {
    if step.who != 0 {
        let _ = sys::become_user(step.who);
    }
    let outcomes = sides
        .iter_mut()
        .map(|side| side.execute(&step.op))
        .collect();
    if step.who != 0 {
        let _ = sys::become_user(0);
    }
    outcomes
}
