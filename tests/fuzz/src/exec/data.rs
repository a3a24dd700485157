// SPDX-License-Identifier: GPL-2.0
//! The content of open files: reading, writing, mapping, copying, locking.

use crate::case::pattern;
use crate::op::At;
use crate::op::Op;
use crate::outcome::Outcome;
use crate::side::Side;
use crate::sys::{self, Map, Sys};
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, SeekFrom};
use rustix::io::{Errno, IoSlice, IoSliceMut, ReadWriteFlags};

const PAGE: u64 = 4096;
/// Not in rustix.
const RWF_NOAPPEND: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x20);

fn filled(fill: u8, at: u64, len: u32) -> Vec<u8> {
    (at..at + u64::from(len))
        .map(|i| pattern(fill, i))
        .collect()
}

impl Side {
    pub(super) fn data(&mut self, op: &Op) -> Sys<Outcome> {
        match op {
            Op::Read { slot, at, len } => {
                let mut buf = vec![0; *len as usize];
                let fd = self.slot(*slot)?;
                let n = match at {
                    Some(at) => rustix::io::preadv2(
                        fd,
                        &mut [IoSliceMut::new(&mut buf)],
                        *at,
                        ReadWriteFlags::empty(),
                    )?,
                    None => rustix::io::read(fd, &mut buf[..])?,
                };
                buf.truncate(n);
                Ok(Outcome::from(n as i64).with_data(buf))
            }
            Op::Write {
                slot,
                at,
                len,
                fill,
                rwf,
            } => {
                let data = filled(*fill, at.unwrap_or(0), *len);
                let fd = self.slot(*slot)?;
                Ok(match at {
                    Some(at) => {
                        let mut flags = ReadWriteFlags::from_bits_retain(*rwf);
                        // overlayfs appends all the same: a wanted difference, which the syscall tests know.
                        if rustix::fs::fcntl_getfl(fd)?.contains(OFlags::APPEND) {
                            flags.remove(RWF_NOAPPEND);
                        }
                        rustix::io::pwritev2(fd, &[IoSlice::new(&data)], *at, flags).into()
                    }
                    None => rustix::io::write(fd, &data).into(),
                })
            }
            Op::Truncate { at, size } => Ok(match at {
                At::Slot(slot) => rustix::fs::ftruncate(self.slot(*slot)?, *size).into(),
                At::Path(path) | At::Link(path) => sys::truncate(&self.at(path), *size).into(),
            }),
            Op::Fallocate {
                slot,
                mode,
                at,
                len,
            } => {
                let mode = FallocateFlags::from_bits_retain(*mode);
                Ok(rustix::fs::fallocate(self.slot(*slot)?, mode, *at, *len).into())
            }
            Op::MmapWrite {
                slot,
                at,
                len,
                fill,
                private,
            } => self.map_write(*slot, *at, *len, *fill, *private),
            Op::MmapRead { slot, at, len } => {
                let (start, end) = self.in_file(*slot, *at, *len)?;
                let base = start / PAGE * PAGE;
                let fd = self.slot(*slot)?;
                let map = Map::new(fd, base, (end - base).max(1) as usize, false, false)?;
                let mapped = map.load((start - base) as usize, (end - start) as usize);
                let mut read = vec![0; (end - start) as usize];
                let n = rustix::io::pread(fd, &mut read[..], start)?;
                read.truncate(n);
                Ok(Outcome::from(0).with("mapped as read", (mapped == Ok(read)).into()))
            }
            Op::Seek { slot, at, whence } => {
                let to = match whence {
                    0 => SeekFrom::Start(*at as u64),
                    1 => SeekFrom::Current(*at),
                    2 => SeekFrom::End(*at),
                    3 => SeekFrom::Data(*at as u64),
                    _ => SeekFrom::Hole(*at as u64),
                };
                Ok((rustix::fs::seek(self.slot(*slot)?, to)? as i64).into())
            }
            Op::Splice {
                slot,
                at,
                len,
                fill,
            } => {
                let (rd, wr) = rustix::pipe::pipe()?;
                // More than a pipe holds would wait for ever.
                let data = filled(*fill, *at, (*len).min(32768));
                rustix::io::write(&wr, &data)?;
                let mut to = *at;
                let flags = rustix::pipe::SpliceFlags::empty();
                Ok(rustix::pipe::splice(
                    &rd,
                    None,
                    self.slot(*slot)?,
                    Some(&mut to),
                    data.len(),
                    flags,
                )
                .into())
            }
            Op::CopyRange { .. } | Op::Clone { .. } | Op::Dedupe { .. } | Op::Sendfile { .. } => {
                self.copy(op)
            }
            Op::Lock {
                slot,
                kind,
                start,
                len,
            }
            | Op::TestLock {
                slot,
                kind,
                start,
                len,
            } => Ok(sys::ofd_lock(
                self.slot(*slot)?.as_fd(),
                i16::from(*kind),
                (*start).into(),
                (*len).into(),
                matches!(op, Op::TestLock { .. }),
            )?
            .into()),
            Op::Flock { slot, kind } => {
                let how = match kind {
                    0 => FlockOperation::NonBlockingLockShared,
                    1 => FlockOperation::NonBlockingLockExclusive,
                    _ => FlockOperation::NonBlockingUnlock,
                };
                Ok(rustix::fs::flock(self.slot(*slot)?, how).into())
            }
            Op::Sync { slot, kind } => {
                let fd = self.slot(*slot)?;
                Ok(match kind {
                    0 => rustix::fs::fsync(fd),
                    1 => rustix::fs::fdatasync(fd),
                    2 => rustix::fs::syncfs(fd),
                    // SAFETY: no memory is involved.
                    _ => sys::ret(unsafe { libc::sync_file_range(fd.as_raw_fd(), 0, 0, 7) }.into())
                        .map(drop),
                }
                .into())
            }
            Op::Advise { slot, advice } => {
                let fd = self.slot(*slot)?.as_raw_fd();
                // SAFETY: no memory is involved.
                let r = unsafe { libc::posix_fadvise(fd, 0, 0, *advice as i32) };
                Ok(i64::from(r).into())
            }
            _ => unreachable!(),
        }
    }

    /// The part of a range that lies in the file: beyond its end, a mapping is a SIGBUS.
    fn in_file(&self, slot: u8, at: u64, len: u32) -> Sys<(u64, u64)> {
        let size = rustix::fs::fstat(self.slot(slot)?)?.st_size as u64;
        let start = at.min(size);
        Ok((start, (at + u64::from(len)).min(size)))
    }

    fn map_write(&mut self, slot: u8, at: u64, len: u32, fill: u8, private: bool) -> Sys<Outcome> {
        let (start, end) = self.in_file(slot, at, len)?;
        let base = start / PAGE * PAGE;
        let map = Map::new(
            self.slot(slot)?,
            base,
            (end - base).max(1) as usize,
            true,
            private,
        )?;
        let data = filled(fill, start, (end - start) as u32);
        let n = map.store((start - base) as usize, &data)?;
        if !private {
            map.sync()?;
        }
        Ok(n.into())
    }

    fn copy(&mut self, op: &Op) -> Sys<Outcome> {
        let (Op::CopyRange { range }
        | Op::Clone { range, .. }
        | Op::Dedupe { range }
        | Op::Sendfile { range }) = op
        else {
            return Err(Errno::NOSYS);
        };
        let (from, to) = (self.slot(range.from)?, self.slot(range.to)?);
        let (mut from_at, mut to_at) = (range.from_at, range.to_at);
        Ok(match op {
            Op::CopyRange { .. } => rustix::fs::copy_file_range(
                from,
                Some(&mut from_at),
                to,
                Some(&mut to_at),
                range.len as usize,
            )
            .into(),
            Op::Clone { whole: true, .. } => rustix::fs::ioctl_ficlone(to, from).into(),
            Op::Clone { .. } => {
                let mut arg = sys::CloneRange {
                    fd: from.as_raw_fd().into(),
                    offset: from_at,
                    len: range.len,
                    to: to_at,
                };
                sys::ioctl(to.as_fd(), sys::CLONERANGE, &mut arg)
                    .map(drop)
                    .into()
            }
            Op::Dedupe { .. } => {
                let mut arg = sys::DedupeRange {
                    offset: from_at,
                    len: range.len,
                    count: 1,
                    fd: to.as_raw_fd().into(),
                    to: to_at,
                    ..Default::default()
                };
                sys::ioctl(from.as_fd(), sys::DEDUPERANGE, &mut arg)?;
                Outcome::from(arg.deduped as i64).with("status", arg.status as u64)
            }
            // Pages of the file wait in the pipe while they are written over: what comes out is open.
            _ if sys::identity(from)? == sys::identity(to)? => return Err(Errno::INVAL),
            _ => rustix::fs::sendfile(to, from, Some(&mut from_at), range.len as usize).into(),
        })
    }
}
