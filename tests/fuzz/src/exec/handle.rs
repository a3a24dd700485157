// SPDX-License-Identifier: GPL-2.0
//! File handles: made, kept, opened.

use super::Target;
use crate::op::Op;
use crate::outcome::Outcome;
use crate::side::Side;
use crate::sys::{self, Sys};
use crate::tree;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, CWD};
use rustix::io::Errno;

/// `AT_HANDLE_FID`.
const FID: i32 = 0x200;

/// `OVL_FILEID_V1`: what a path that leads out of the union gives is another one.
const UNION: i32 = 0xf8;

/// Where a handle that can be opened says of which kind it is, from which layer and of which type the handle below is;
/// what follows names the filesystem and the object, which are others on each side.
const HEAD: std::ops::Range<usize> = 3..8;

impl Side {
    pub(super) fn handle(&mut self, op: &Op) -> Sys<Outcome> {
        match op {
            Op::Handle { at, keep, fid } => {
                let flags = if *fid { FID } else { 0 };
                let handle = match self.target(at)? {
                    Target::Path { path, follow } => {
                        let follow = if follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
                        sys::handle(CWD, &path, flags | follow)
                    }
                    Target::File(fd) => sys::handle(fd.as_fd(), c"", flags | libc::AT_EMPTY_PATH),
                }?;
                let mut outcome = Outcome::from(i64::from(handle.bytes));
                if self.fs.options.contains("nfs_export=on") {
                    outcome = outcome.with("handle type", handle.kind as u64);
                    if handle.kind == UNION {
                        outcome = outcome.with_data(handle.data[HEAD].to_vec());
                    }
                }
                if let Some(place) = keep.and_then(|i| self.handles.get_mut(usize::from(i))) {
                    *place = Some(handle);
                }
                Ok(outcome)
            }
            Op::OpenHandle { kept, slot, flags } => {
                let handle = self.handles.get(usize::from(*kept));
                let handle = handle.and_then(Option::as_ref).ok_or(Errno::BADF)?;
                let mount = rustix::fs::open(&*self.mnt, OFlags::DIRECTORY, Mode::empty())?;
                let fd = sys::open_handle(mount.as_fd(), handle, *flags)?;
                let stat =
                    rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
                let mut fields = Vec::new();
                tree::stat_fields(&stat, &mut self.ids, |name, value| {
                    fields.push((name, value))
                });
                // Which of its names a file has, if any, is for the dentry cache to say.
                let mut path = Vec::new();
                if u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR {
                    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
                    path = rustix::fs::readlink(link, Vec::new())?.into_bytes();
                    path.drain(..path.len().min(self.mnt.len()));
                }
                let mut outcome = self.put_slot(*slot, Ok(fd)).with_data(path);
                outcome.fields = fields;
                Ok(outcome)
            }
            _ => Err(Errno::NOSYS),
        }
    }
}
