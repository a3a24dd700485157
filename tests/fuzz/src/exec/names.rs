// SPDX-License-Identifier: GPL-2.0
//! Names: opening, creating, removing, renaming.

use super::Target;
use crate::case::below;
use crate::op::Op;
use crate::outcome::Outcome;
use crate::side::Side;
use crate::sys::Sys;
use rustix::fd::AsRawFd;
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags, CWD};

/// A FIFO or a device must not make the fuzzer wait, nor become its terminal.
const ALWAYS: OFlags = OFlags::NONBLOCK
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

impl Side {
    pub(super) fn open_close(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open {
                slot,
                path,
                flags,
                mode,
            } => {
                let flags = OFlags::from_bits_retain(*flags) | ALWAYS;
                // The kernel refuses a mode that nothing is created with.
                let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) {
                    *mode
                } else {
                    0
                };
                let fd = rustix::fs::open(&*self.at(path), flags, Mode::from_bits_retain(mode));
                self.put_slot(*slot, fd)
            }
            Op::Reopen { slot, from, flags } => {
                let fd = self.slot(*from).and_then(|fd| {
                    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                    let flags = OFlags::from_bits_retain(*flags) | ALWAYS;
                    rustix::fs::open(path, flags, Mode::empty())
                });
                self.put_slot(*slot, fd)
            }
            Op::Close { slot } => {
                if let Some(place) = self.slots.get_mut(usize::from(*slot)) {
                    *place = None;
                }
                0.into()
            }
            _ => unreachable!(),
        }
    }

    pub(super) fn names(&mut self, op: &Op) -> Sys<Outcome> {
        let mode = |mode: &u32| Mode::from_bits_retain(*mode);
        match op {
            Op::Mkdir { path, mode: m } => rustix::fs::mkdirat(CWD, &*self.at(path), mode(m))?,
            Op::Rmdir { path } => rustix::fs::unlinkat(CWD, &*self.at(path), AtFlags::REMOVEDIR)?,
            Op::Unlink { path } => rustix::fs::unlinkat(CWD, &*self.at(path), AtFlags::empty())?,
            Op::Mknod {
                path,
                mode: m,
                rdev,
            } => {
                let kind = FileType::from_raw_mode(*m);
                rustix::fs::mknodat(CWD, &*self.at(path), kind, mode(&(m & 0o7777)), *rdev)?;
            }
            Op::Symlink { target, path } => {
                rustix::fs::symlinkat(&*below(target, ""), CWD, &*self.at(path))?;
            }
            Op::Link { old, new } => {
                let target = self.target(old)?;
                let follow = !matches!(target, Target::Path { follow: false, .. });
                let flags = if follow {
                    AtFlags::SYMLINK_FOLLOW
                } else {
                    AtFlags::empty()
                };
                rustix::fs::linkat(CWD, &*target.path(), CWD, &*self.at(new), flags)?;
            }
            Op::Rename { old, new, flags } => {
                let flags = RenameFlags::from_bits_retain(*flags);
                rustix::fs::renameat_with(CWD, &*self.at(old), CWD, &*self.at(new), flags)?;
            }
            Op::Access {
                path,
                mode,
                effective,
            } => {
                let flags = if *effective {
                    AtFlags::EACCESS
                } else {
                    AtFlags::empty()
                };
                rustix::fs::accessat(CWD, &*self.at(path), Access::from_bits_retain(*mode), flags)?;
            }
            Op::Readlink { path } => {
                let target = rustix::fs::readlinkat(CWD, &*self.at(path), Vec::new())?;
                return Ok(Outcome::from(0).with_data(target.into_bytes()));
            }
            _ => unreachable!(),
        }
        Ok(0.into())
    }
}
