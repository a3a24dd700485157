// SPDX-License-Identifier: GPL-2.0
//! Random layers.

use super::{Gen, ACL_NAMES, LONG};
use crate::case::{text, Entry, What};
use rand::Rng;

/// Names of layers' objects: few, so that layers meet.
const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "x y", ".h", "\u{ff}\u{1}'$\n"];

impl Gen {
    /// The entries of a layer, parents first. `known` collects what the union may show.
    pub fn layer(&mut self, is_upper: bool) -> Vec<Entry> {
        let mut out = Vec::new();
        let limit = self.rng.random_range(1..16);
        self.fill(&mut out, "", 0, limit, is_upper);
        out
    }

    fn fill(&mut self, out: &mut Vec<Entry>, dir: &str, depth: u32, limit: usize, is_upper: bool) {
        let marked = !dir.is_empty() && self.chance(4);
        if marked {
            if let Some(parent) = out.iter_mut().rfind(|e| e.path == dir) {
                parent.xattrs.retain(|(n, _)| n != "trusted.overlay.opaque");
                parent
                    .xattrs
                    .push(("trusted.overlay.opaque".into(), "x".into()));
            }
        }
        for name in NAMES {
            if out.len() >= limit || !self.chance(45) {
                continue;
            }
            let name = if self.chance(1) {
                LONG.repeat(15)
            } else {
                name.to_owned()
            };
            let path = if dir.is_empty() {
                name
            } else {
                format!("{dir}/{name}")
            };
            if out.iter().any(|e| e.path == path) {
                continue;
            }
            let what = self.what(out, depth, marked);
            let is_dir = matches!(what, What::Dir);
            self.know(&path, is_dir);
            let entry = self.entry(path.clone(), what, is_upper);
            out.push(entry);
            if is_dir {
                self.fill(out, &path, depth + 1, limit, is_upper);
            }
        }
    }

    fn what(&mut self, out: &[Entry], depth: u32, marked: bool) -> What {
        if marked && self.chance(30) {
            return What::XattrWhiteout;
        }
        match self.rng.random_range(0..100) {
            0..40 if depth < 3 => What::Dir,
            0..65 => self.file(),
            65..73 => What::Symlink {
                target: self.target(),
            },
            73..79 if self.links => {
                let files: Vec<_> = out
                    .iter()
                    .filter(|e| {
                        matches!(
                            e.what,
                            What::File { .. } | What::Symlink { .. } | What::Node { .. }
                        )
                    })
                    .map(|e| e.path.clone())
                    .collect();
                if files.is_empty() {
                    return self.file();
                }
                What::Link {
                    to: files[self.rng.random_range(0..files.len())].clone(),
                }
            }
            79..83 => What::Node {
                kind: libc::S_IFIFO,
                rdev: 0,
            },
            83..85 => What::Node {
                kind: libc::S_IFSOCK,
                rdev: 0,
            },
            85..87 => What::Node {
                kind: libc::S_IFCHR,
                rdev: libc::makedev(1, 3),
            },
            87..88 => What::Node {
                kind: libc::S_IFBLK,
                rdev: libc::makedev(250, 7),
            },
            88..97 => What::Whiteout,
            _ => self.file(),
        }
    }

    fn file(&mut self) -> What {
        let mut pieces = Vec::new();
        let mut size = 0u64;
        for _ in 0..self.rng.random_range(0..3u32) {
            let hole = if self.chance(20) {
                self.rng.random_range(0..70_000)
            } else {
                0
            };
            let len = if self.chance(80) {
                self.rng.random_range(1..200)
            } else {
                self.rng.random_range(1..20_000)
            };
            pieces.push((size + hole, len, self.rng.random()));
            size += hole + u64::from(len);
        }
        if self.chance(8) {
            size += self.rng.random_range(0..200_000);
        }
        What::File { size, pieces }
    }

    fn entry(&mut self, path: String, what: What, is_upper: bool) -> Entry {
        let mut xattrs = Vec::new();
        let special = matches!(
            what,
            What::Whiteout | What::XattrWhiteout | What::Link { .. }
        );
        let plain = matches!(what, What::Dir | What::File { .. });
        if plain && self.chance(25) {
            xattrs.push(("user.a".into(), self.value()));
        }
        if !special && self.chance(12) {
            xattrs.push(("trusted.t".into(), self.value()));
        }
        if plain && self.chance(10) {
            xattrs.push((ACL_NAMES[0].into(), text(&self.acl())));
        }
        if matches!(what, What::Dir) {
            if self.chance(8) {
                xattrs.push((ACL_NAMES[1].into(), text(&self.acl())));
            }
            if self.chance(12) {
                xattrs.push(("trusted.overlay.opaque".into(), "y".into()));
            }
        }
        if matches!(what, What::File { .. }) && self.chance(4) {
            xattrs.push(("security.capability".into(), super::CAPABILITY.into()));
        }
        if plain && self.chance(3) {
            // Escaped once: a nested union's own.
            xattrs.push(("trusted.overlay.overlay.opaque".into(), "y".into()));
        }
        let mode = if matches!(what, What::Dir) {
            self.dir_mode()
        } else {
            self.mode()
        };
        let flags = if !is_upper && plain && self.chance(3) {
            self.flags()
        } else {
            0
        };
        let (uid, gid) = (self.id(), self.id());
        Entry {
            uid,
            gid,
            time: self.rng.random_range(1..1_000_000_000),
            xattrs,
            flags,
            ..Entry::plain(path, what, mode)
        }
    }
}
