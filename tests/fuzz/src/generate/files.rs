// SPDX-License-Identifier: GPL-2.0
//! Random operations on open files.

use super::Gen;
use crate::op::{At, Op, Range};
use crate::side::SLOTS;
use rand::Rng;

const O_CREAT: u32 = libc::O_CREAT as u32;
const O_TMPFILE: u32 = libc::O_TMPFILE as u32;

impl Gen {
    pub(super) fn offset(&mut self) -> u64 {
        match self.rng.random_range(0..10) {
            0..5 => self.rng.random_range(0..300),
            5..9 => self.rng.random_range(0..20_000),
            _ => self.rng.random_range(0..200_000),
        }
    }

    pub(super) fn len(&mut self) -> u32 {
        match self.rng.random_range(0..10) {
            0 => 0,
            1..7 => self.rng.random_range(1..300),
            _ => self.rng.random_range(1..9000),
        }
    }

    pub(super) fn open(&mut self) -> Op {
        let access = self.pick(&[0, 0, 1, 2, 2]);
        let mut flags: i32 = access;
        let mut path = None;
        match self.rng.random_range(0..20) {
            0..4 => {
                flags = libc::O_RDONLY
                    | if self.chance(70) {
                        libc::O_DIRECTORY
                    } else {
                        0
                    };
                path = Some(self.path(Some(true)));
            }
            4..6 => {
                flags = self.pick(&[1, 2])
                    | libc::O_TMPFILE
                    | if self.chance(20) { libc::O_EXCL } else { 0 };
                path = Some(self.dir_path());
            }
            6..11 => {
                flags |= libc::O_CREAT | if self.chance(30) { libc::O_EXCL } else { 0 };
                path = Some(self.make_path(false));
            }
            11 => flags = libc::O_PATH | if self.chance(50) { libc::O_NOFOLLOW } else { 0 },
            _ => {}
        }
        for (percent, flag) in [
            (15, libc::O_TRUNC),
            (12, libc::O_APPEND),
            (5, libc::O_NOFOLLOW),
            (3, libc::O_SYNC),
            (3, libc::O_DSYNC),
            (4, libc::O_NOATIME),
            (2, libc::O_DIRECT),
        ] {
            if self.chance(percent) {
                flags |= flag;
            }
        }
        let path = path.unwrap_or_else(|| self.path(Some(false)));
        let slot = self.rng.random_range(0..SLOTS as u8);
        self.slots[usize::from(slot)] =
            Some(flags & libc::O_DIRECTORY != 0 && flags as u32 & O_TMPFILE != O_TMPFILE);
        let mode = if flags as u32 & O_CREAT != 0 {
            self.mode()
        } else {
            self.pick(&[0o600, 0o666])
        };
        Op::Open {
            slot,
            path,
            flags: flags as u32,
            mode,
        }
    }

    pub(super) fn close(&mut self) -> Op {
        let slot = self.slot(None);
        self.slots[usize::from(slot)] = None;
        Op::Close { slot }
    }

    pub(super) fn reopen(&mut self) -> Op {
        let (from, slot) = (self.slot(None), self.rng.random_range(0..SLOTS as u8));
        self.slots[usize::from(slot)] = self.slots[usize::from(from)];
        Op::Reopen {
            slot,
            from,
            flags: self.pick(&[0, 1, 2, 0x401, 0x202]),
        }
    }

    pub(super) fn read(&mut self) -> Op {
        let at = if self.chance(60) {
            Some(self.offset())
        } else {
            None
        };
        Op::Read {
            slot: self.slot(Some(false)),
            at,
            len: self.len(),
        }
    }

    pub(super) fn write(&mut self) -> Op {
        let at = if self.chance(60) {
            Some(self.offset())
        } else {
            None
        };
        // RWF_HIPRI, DSYNC, SYNC, APPEND, NOAPPEND; NOWAIT is a wanted difference.
        let rwf = if self.chance(12) {
            self.pick(&[1, 2, 4, 0x10, 0x20])
        } else {
            0
        };
        Op::Write {
            slot: self.slot(Some(false)),
            at,
            len: self.len(),
            fill: self.rng.random(),
            rwf,
        }
    }

    pub(super) fn truncate(&mut self) -> Op {
        let at = if self.chance(50) {
            At::Slot(self.slot(Some(false)))
        } else {
            At::Path(self.path(Some(false)))
        };
        Op::Truncate {
            at,
            size: self.offset(),
        }
    }

    pub(super) fn fallocate(&mut self) -> Op {
        let mode = self.pick(&[0, 0, 1, 3, 3, 0x10, 0x11, 0x8, 0x20, 0x2, 0x40]);
        Op::Fallocate {
            slot: self.slot(Some(false)),
            mode,
            at: self.offset(),
            len: self.len().into(),
        }
    }

    pub(super) fn map_write(&mut self) -> Op {
        let private = self.chance(20);
        Op::MmapWrite {
            slot: self.slot(Some(false)),
            at: self.offset(),
            len: self.len(),
            fill: self.rng.random(),
            private,
        }
    }

    pub(super) fn map_read(&mut self) -> Op {
        Op::MmapRead {
            slot: self.slot(Some(false)),
            at: self.offset(),
            len: self.len(),
        }
    }

    pub(super) fn seek(&mut self) -> Op {
        let whence = self.rng.random_range(0..5);
        let at = if self.chance(8) {
            -5
        } else {
            self.offset() as i64
        };
        Op::Seek {
            slot: self.slot(Some(false)),
            at,
            whence,
        }
    }

    pub(super) fn range(&mut self) -> Range {
        let (from, to) = (self.slot(Some(false)), self.slot(Some(false)));
        // Clones want whole blocks.
        let whole = self.chance(40);
        let at = |g: &mut Self| {
            if whole {
                g.offset() / 4096 * 4096
            } else {
                g.offset()
            }
        };
        let (from_at, to_at, len) = (at(self), at(self), at(self));
        Range {
            from,
            to,
            from_at,
            to_at,
            len,
        }
    }

    pub(super) fn copy_range(&mut self) -> Op {
        Op::CopyRange {
            range: self.range(),
        }
    }

    pub(super) fn clone(&mut self) -> Op {
        Op::Clone {
            range: self.range(),
            whole: self.chance(50),
        }
    }

    pub(super) fn dedupe(&mut self) -> Op {
        Op::Dedupe {
            range: self.range(),
        }
    }

    pub(super) fn sendfile(&mut self) -> Op {
        Op::Sendfile {
            range: self.range(),
        }
    }

    pub(super) fn splice(&mut self) -> Op {
        Op::Splice {
            slot: self.slot(Some(false)),
            at: self.offset(),
            len: self.len(),
            fill: self.rng.random(),
        }
    }

    pub(super) fn lock(&mut self) -> Op {
        let (start, len) = (self.rng.random_range(0..50), self.rng.random_range(0..50));
        Op::Lock {
            slot: self.slot(None),
            kind: self.rng.random_range(0..3),
            start,
            len,
        }
    }

    pub(super) fn test_lock(&mut self) -> Op {
        let (start, len) = (self.rng.random_range(0..50), self.rng.random_range(0..50));
        Op::TestLock {
            slot: self.slot(None),
            kind: self.rng.random_range(0..2),
            start,
            len,
        }
    }

    pub(super) fn flock(&mut self) -> Op {
        Op::Flock {
            slot: self.slot(None),
            kind: self.rng.random_range(0..3),
        }
    }

    pub(super) fn sync(&mut self) -> Op {
        Op::Sync {
            slot: self.slot(None),
            kind: self.pick(&[0, 0, 1, 2, 3]),
        }
    }

    pub(super) fn advise(&mut self) -> Op {
        Op::Advise {
            slot: self.slot(None),
            advice: self.rng.random_range(0..7),
        }
    }
}
