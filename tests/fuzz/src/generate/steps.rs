// SPDX-License-Identifier: GPL-2.0
//! Random operations.

use super::{Gen, ACL_NAMES, CAPABILITY, LONG};
use crate::case::Text;
use crate::op::{At, Op, Step, When};
use crate::side::SLOTS;
use rand::Rng;

/// A checkpoint after so many steps.
const CHECKPOINT: usize = 40;

type Make = fn(&mut Gen) -> Op;

/// How often each operation comes.
#[rustfmt::skip]
const OPS: &[(u32, Make)] = &[
    (90, Gen::open), (14, Gen::close), (6, Gen::reopen), (40, Gen::read), (60, Gen::write), (20, Gen::truncate),
    (15, Gen::fallocate), (16, Gen::map_write), (8, Gen::map_read), (14, Gen::seek), (40, Gen::list),
    (45, Gen::mkdir), (40, Gen::rmdir), (60, Gen::unlink), (16, Gen::mknod), (18, Gen::symlink), (35, Gen::link),
    (85, Gen::rename), (35, Gen::chmod), (25, Gen::chown), (25, Gen::utimes), (50, Gen::set_xattr),
    (16, Gen::get_xattr), (14, Gen::list_xattr), (16, Gen::remove_xattr), (10, Gen::set_flags), (6, Gen::get_flags),
    (60, Gen::stat), (20, Gen::access), (10, Gen::readlink), (3, Gen::statfs), (10, Gen::copy_range), (8, Gen::clone),
    (3, Gen::dedupe), (6, Gen::sendfile), (6, Gen::splice), (8, Gen::lock), (4, Gen::test_lock), (5, Gen::flock),
    (8, Gen::sync), (3, Gen::advise), (2, Gen::handle), (3, Gen::remount), (5, Gen::again), (3, Gen::drop_caches),
];

impl Gen {
    pub fn steps(&mut self, count: usize) -> Vec<Step> {
        let total: u32 = OPS.iter().map(|(weight, _)| weight).sum();
        let mut steps = Vec::with_capacity(count + count / CHECKPOINT);
        for i in 0..count {
            let mut n = self.rng.random_range(0..total);
            let make = OPS.iter().find_map(|(weight, make)| {
                let hit = n < *weight;
                n = n.wrapping_sub(*weight);
                hit.then_some(*make)
            });
            // A filesystem does not stay read-only for long.
            let op = if self.read_only && self.chance(15) {
                self.read_only = false;
                Op::Remount { read_only: false }
            } else {
                make.unwrap_or(Self::stat)(self)
            };
            let root = matches!(op, Op::Remount { .. } | Op::Again { .. } | Op::DropCaches);
            let who = if root || self.chance(72) {
                0
            } else {
                self.pick(&[1, 1, 2])
            };
            steps.push(Step { who, op });
            if i % CHECKPOINT == CHECKPOINT - 1 {
                steps.push(Step {
                    who: 0,
                    op: Op::Checkpoint,
                });
            }
        }
        steps
    }

    pub(super) fn new_name(&mut self) -> Text {
        if self.chance(2) {
            return LONG.repeat(15);
        }
        if self.chance(1) {
            return LONG.repeat(16);
        }
        let odd = "\u{e9}\u{80}\\ *\"";
        self.pick(&[
            "a", "b", "c", "d", "e", "f", "x y", ".h", "n1", "n2", "n3", odd,
        ])
        .to_owned()
    }

    pub(super) fn known(&mut self, dir: Option<bool>) -> Option<Text> {
        let fits: Vec<_> = self
            .known
            .iter()
            .filter(|k| dir.is_none_or(|d| d == k.1))
            .collect();
        if fits.is_empty() {
            return None;
        }
        let i = self.rng.random_range(0..fits.len());
        Some(fits[i].0.clone())
    }

    pub(super) fn dir_path(&mut self) -> Text {
        if self.chance(25) {
            return String::new();
        }
        self.known(Some(true)).unwrap_or_default()
    }

    /// A path that may be free.
    pub(super) fn fresh(&mut self) -> Text {
        let dir = self.dir_path();
        let name = self.new_name();
        if dir.is_empty() {
            name
        } else {
            format!("{dir}/{name}")
        }
    }

    /// A path, of the wanted kind for the most part.
    pub(super) fn path(&mut self, dir: Option<bool>) -> Text {
        match self.rng.random_range(0..100) {
            0..75 => self.known(dir).unwrap_or_else(|| "a".into()),
            75..84 => self.known(None).unwrap_or_default(),
            84..94 => self.fresh(),
            94 => format!("{}/.", self.dir_path()),
            95 => format!("{}/..", self.dir_path()),
            96 => format!("{}/", self.known(None).unwrap_or_default()),
            97 => format!("{}/z", self.known(Some(false)).unwrap_or_default()),
            98 => format!("{}/../a", self.dir_path()),
            _ => String::new(),
        }
    }

    /// The name of something to be made.
    pub(super) fn make_path(&mut self, is_dir: bool) -> Text {
        let path = if self.chance(65) {
            self.fresh()
        } else {
            self.path(None)
        };
        if !path.ends_with(['/', '.']) && !path.is_empty() {
            self.know(&path, is_dir);
        }
        path
    }

    pub(super) fn slot(&mut self, dir: Option<bool>) -> u8 {
        let fits: Vec<u8> = (0..SLOTS as u8)
            .filter(|i| self.slots[usize::from(*i)].is_some_and(|d| dir.is_none_or(|w| w == d)))
            .collect();
        if fits.is_empty() || self.chance(3) {
            return self.rng.random_range(0..SLOTS as u8);
        }
        self.pick(&fits)
    }

    pub(super) fn at(&mut self, dir: Option<bool>) -> At {
        match self.rng.random_range(0..10) {
            0..2 if self.slots.iter().any(Option::is_some) => At::Slot(self.slot(dir)),
            2..4 => At::Link(self.path(dir)),
            _ => At::Path(self.path(dir)),
        }
    }

    pub(super) fn list(&mut self) -> Op {
        let at = if self.chance(25) {
            At::Slot(self.slot(Some(true)))
        } else {
            At::Path(self.path(Some(true)))
        };
        Op::List {
            at,
            buffer: self.pick(&[32768, 280, 600]),
            seek: self.rng.random_range(0..12),
        }
    }

    pub(super) fn mkdir(&mut self) -> Op {
        Op::Mkdir {
            path: self.make_path(true),
            mode: self.dir_mode(),
        }
    }

    pub(super) fn rmdir(&mut self) -> Op {
        let path = self.path(Some(true));
        self.forget(&path);
        Op::Rmdir { path }
    }

    pub(super) fn unlink(&mut self) -> Op {
        let path = self.path(Some(false));
        self.forget(&path);
        Op::Unlink { path }
    }

    pub(super) fn mknod(&mut self) -> Op {
        let (kind, rdev) = self.pick(&[
            (libc::S_IFIFO, 0),
            (libc::S_IFSOCK, 0),
            (libc::S_IFREG, 0),
            (libc::S_IFCHR, 0),
            (libc::S_IFCHR, libc::makedev(1, 3)),
            (libc::S_IFBLK, libc::makedev(250, 1)),
            (libc::S_IFDIR, 0),
        ]);
        Op::Mknod {
            path: self.make_path(false),
            mode: kind | self.mode(),
            rdev,
        }
    }

    pub(super) fn symlink(&mut self) -> Op {
        Op::Symlink {
            target: self.target(),
            path: self.make_path(false),
        }
    }

    pub(super) fn link(&mut self) -> Op {
        Op::Link {
            old: self.at(Some(false)),
            new: self.make_path(false),
        }
    }

    pub(super) fn rename(&mut self) -> Op {
        let dir = self.chance(35);
        let flags = self.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 4, 3]);
        let old = match self.known(Some(dir)) {
            Some(path) if self.chance(85) => path,
            _ => self.path(Some(dir)),
        };
        let free = flags != 2 && self.chance(50);
        let new = if free {
            self.make_path(dir)
        } else {
            self.path(Some(dir))
        };
        if flags != 2 && !dir {
            self.forget(&old);
        }
        Op::Rename { old, new, flags }
    }

    pub(super) fn chmod(&mut self) -> Op {
        Op::Chmod {
            at: self.at(None),
            mode: if self.chance(40) {
                self.dir_mode()
            } else {
                self.mode()
            },
        }
    }

    pub(super) fn chown(&mut self) -> Op {
        let id = |g: &mut Self| if g.chance(25) { u32::MAX } else { g.id() };
        Op::Chown {
            at: self.at(None),
            uid: id(self),
            gid: id(self),
        }
    }

    pub(super) fn when(&mut self) -> When {
        match self.rng.random_range(0..10) {
            0..2 => When::Now,
            2 => When::Omit,
            _ => When::At(
                self.rng.random_range(1..1_000_000_000),
                self.rng.random_range(0..1_000_000_000),
            ),
        }
    }

    pub(super) fn utimes(&mut self) -> Op {
        Op::Utimes {
            at: self.at(None),
            atime: self.when(),
            mtime: self.when(),
        }
    }

    pub(super) fn xattr_name(&mut self) -> Text {
        let long = format!("user.{}", LONG.repeat(15));
        let names = [
            "user.a",
            "user.a",
            "user.b",
            "trusted.t",
            "trusted.u",
            "trusted.overlay.opaque",
            "trusted.overlay.x",
            "trusted.overlay.overlay.opaque",
            "user.overlay.opaque",
            "security.capability",
            "security.x",
            "nonsense.x",
            "user.",
            "",
            ACL_NAMES[0],
            ACL_NAMES[0],
            ACL_NAMES[1],
            &long,
        ];
        self.pick(&names).to_owned()
    }

    pub(super) fn set_xattr(&mut self) -> Op {
        let name = self.xattr_name();
        let value = match &*name {
            n if ACL_NAMES.contains(&n) => self.any_acl(),
            "security.capability" if self.chance(80) => CAPABILITY.to_owned(),
            _ => self.value(),
        };
        let dir = if name == ACL_NAMES[1] {
            Some(true)
        } else {
            None
        };
        Op::SetXattr {
            at: self.at(dir),
            name,
            value,
            flags: self.pick(&[0, 0, 0, 1, 2, 7]),
        }
    }

    pub(super) fn get_xattr(&mut self) -> Op {
        Op::GetXattr {
            at: self.at(None),
            name: self.xattr_name(),
            size: self.pick(&[4096, 4096, 2, 0]),
        }
    }

    pub(super) fn list_xattr(&mut self) -> Op {
        Op::ListXattr { at: self.at(None) }
    }

    pub(super) fn remove_xattr(&mut self) -> Op {
        Op::RemoveXattr {
            at: self.at(None),
            name: self.xattr_name(),
        }
    }

    pub(super) fn set_flags(&mut self) -> Op {
        Op::SetFlags {
            at: self.at(None),
            flags: self.flags(),
        }
    }

    pub(super) fn get_flags(&mut self) -> Op {
        Op::GetFlags { at: self.at(None) }
    }

    pub(super) fn stat(&mut self) -> Op {
        Op::Stat { at: self.at(None) }
    }

    pub(super) fn access(&mut self) -> Op {
        Op::Access {
            path: self.path(None),
            mode: self.rng.random_range(0..8),
            effective: self.chance(80),
        }
    }

    pub(super) fn readlink(&mut self) -> Op {
        Op::Readlink {
            path: self.path(Some(false)),
        }
    }

    pub(super) fn statfs(&mut self) -> Op {
        Op::Statfs { at: self.at(None) }
    }

    pub(super) fn handle(&mut self) -> Op {
        Op::Handle {
            at: self.at(None),
            keep: None,
            fid: false,
        }
    }

    pub(super) fn remount(&mut self) -> Op {
        self.read_only = self.chance(50);
        Op::Remount {
            read_only: self.read_only,
        }
    }

    pub(super) fn again(&mut self) -> Op {
        let close = self.chance(70);
        if close {
            self.slots = [None; SLOTS];
        }
        // A new mount is writable.
        self.read_only = false;
        Op::Again { close }
    }

    pub(super) fn drop_caches(&mut self) -> Op {
        Op::DropCaches
    }
}
