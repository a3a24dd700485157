// SPDX-License-Identifier: GPL-2.0
//! A case from a seed.

mod data;
mod files;
mod handles;
mod hostile;
mod layers;
mod steps;

use crate::case::{text, Case, Entry, Text, What};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const LONG: &str = "long name longer ";
pub const ACL_NAMES: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];
/// cap_chown+ep, revision 2.
pub const CAPABILITY: &str = "\u{1}\0\0\u{2}\u{1}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// What a run asks for.
pub struct Wish<'a> {
    pub upper_fs: &'a str,
    pub steps: usize,
    /// Layers that no kernel wrote.
    pub hostile: bool,
}

/// The generator's state: the random numbers and a rough idea of the tree.
pub struct Gen {
    rng: ChaCha8Rng,
    /// Paths that exist or existed, and whether they were directories.
    known: Vec<(Text, bool)>,
    /// Which slots have files, and whether they were directories.
    slots: [Option<bool>; crate::side::SLOTS],
    /// Lower layers may have hard links.
    links: bool,
    read_only: bool,
}

/// Makes the case of a seed.
pub fn case(seed: u64, wish: &Wish<'_>) -> Case {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let mut g = Gen {
        rng,
        known: Vec::new(),
        slots: [None; 6],
        links: true,
        read_only: false,
    };
    let split = g.chance(20);
    let copy_up_open = g.chance(50);
    // Where rovl copies up later than overlayfs, a link of a lower file breaks later, too: see differences.
    g.links = copy_up_open;
    let layers = match g.rng.random_range(0..10) {
        0..4 => 1,
        4..9 => g.rng.random_range(2..5),
        _ => g.rng.random_range(5..13),
    };
    let lowers: Vec<_> = (0..layers).map(|_| g.layer(false)).collect();
    let upper = if g.chance(35) {
        g.layer(true)
    } else {
        Vec::new()
    };
    g.known.clear();
    let all: Vec<_> = [&upper].into_iter().chain(&lowers).collect();
    g.know_union(&all);
    let mut case = Case {
        seed,
        upper_fs: wish.upper_fs.to_owned(),
        split,
        copy_up_open,
        root_mode: g.pick(&[0o755, 0o777, 0o777, 0o1777]),
        umask: g.pick(&[0o022, 0o022, 0, 0o077]),
        lowers,
        upper,
        ..Case::default()
    };
    if wish.hostile {
        g.spoil(&mut case);
    }
    case.steps = g.steps(wish.steps);
    // Last, so that the rest of a case is what its seed has always made.
    case.redirects = g.chance(40);
    if !case.redirects && g.chance(25) {
        case.swap_namespace();
    }
    case.volatile = g.chance(20);
    case.metacopy = case.redirects && g.chance(50);
    if g.chance(15) {
        g.take_data_away(&mut case);
    }
    case.verity = (case.metacopy || !case.data.is_empty()) && g.chance(40);
    if case.verity && g.chance(75) {
        g.guard(&mut case);
    }
    if case.hostile && g.chance(50) {
        g.spoil_data(&mut case);
    }
    // With user.* marks overlayfs cannot copy a symlink with several names up.
    case.index = !case.userxattr && g.chance(30);
    if case.hostile && case.index {
        g.spoil_index(&mut case.work);
    }
    // It matters with layers on several filesystems.
    case.xino = g.chance(if case.split { 50 } else { 10 });
    case.xino_auto = case.xino && g.chance(50);
    case.uuid_off = g.chance(15);
    case.nfs_export = case.index && !case.metacopy && g.chance(40);
    if case.nfs_export {
        case.steps = g.with_handles(case.steps);
    }
    case
}

impl Gen {
    /// Knows what a union of the layers shows, about.
    fn know_union(&mut self, layers: &[&Vec<Entry>]) {
        let mut blocked: Vec<&str> = Vec::new();
        let below = |path: &str, of: &str| {
            path == of
                || path
                    .strip_prefix(of)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        for layer in layers {
            let before = blocked.len();
            for e in *layer {
                let is_dir = matches!(e.what, What::Dir);
                if blocked[..before].iter().any(|b| below(&e.path, b)) {
                    continue;
                }
                let merged = self.known.iter().any(|k| k.1 && k.0 == e.path);
                let opaque = e
                    .xattrs
                    .iter()
                    .any(|(n, v)| n == "trusted.overlay.opaque" && v == "y");
                if !is_dir || opaque {
                    blocked.push(&e.path);
                }
                if !matches!(e.what, What::Whiteout | What::XattrWhiteout) && (is_dir || !merged) {
                    self.know(&e.path, is_dir);
                }
            }
        }
    }

    fn forget(&mut self, path: &str) {
        if self.chance(85) {
            self.known.retain(|k| k.0 != path);
        }
    }

    /// True in `percent` of all cases.
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn know(&mut self, path: &str, is_dir: bool) {
        if self.known.len() < 200 && !self.known.iter().any(|k| k.0 == path) {
            self.known.push((path.to_owned(), is_dir));
        }
    }

    fn value(&mut self) -> Text {
        let len = if self.chance(5) {
            300
        } else {
            self.rng.random_range(0..12)
        };
        (0..len)
            .map(|_| char::from(self.rng.random_range(b'a'..=b'z')))
            .collect()
    }

    fn id(&mut self) -> u32 {
        self.pick(&[0, 0, 1001, 1001, 1002, 77])
    }

    fn mode(&mut self) -> u32 {
        self.pick(&[
            0o644, 0o644, 0o666, 0o600, 0o755, 0o777, 0o4755, 0o2755, 0o6777, 0o2644, 0o444, 0,
            0o400, 0o1644,
        ])
    }

    fn dir_mode(&mut self) -> u32 {
        self.pick(&[
            0o755, 0o755, 0o777, 0o777, 0o1777, 0o700, 0o2775, 0o2777, 0o555, 0o711,
        ])
    }

    /// `FS_IOC_SETFLAGS`: immutable, append, nodump, noatime and a few that no filesystem has.
    fn flags(&mut self) -> u32 {
        self.pick(&[
            0x10,
            0x20,
            0x40,
            0x80,
            0x30,
            0x50,
            0xc0,
            0,
            0,
            0x8,
            0x0010_0000,
            0x4000_0000,
        ])
    }

    fn target(&mut self) -> Text {
        if self.chance(70) && !self.known.is_empty() {
            let i = self.rng.random_range(0..self.known.len());
            return self.known[i].0.clone();
        }
        let long = LONG.repeat(40);
        self.pick(&[
            "a", "../b", ".", "..", "nowhere", "a/b", "x y", "./a", &long,
        ])
        .to_owned()
    }

    /// The value of an ACL attribute, well-formed for the most part.
    fn acl(&mut self) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0];
        let mut put = |tag: u16, perm: u16, id: u32| {
            out.extend(tag.to_le_bytes());
            out.extend(perm.to_le_bytes());
            out.extend(id.to_le_bytes());
        };
        let none = u32::MAX;
        put(1, self.rng.random_range(0..8), none);
        let named = self.chance(70);
        if named {
            put(2, self.rng.random_range(0..8), 1001);
        }
        put(4, self.rng.random_range(0..8), none);
        let group = self.chance(30);
        if group {
            put(8, self.rng.random_range(0..8), 1002);
        }
        if named || group {
            put(0x10, self.rng.random_range(0..8), none);
        }
        put(0x20, self.rng.random_range(0..8), none);
        out
    }

    /// One that may be nonsense.
    fn any_acl(&mut self) -> Text {
        let mut acl = self.acl();
        match self.rng.random_range(0..20) {
            0 => acl.truncate(4),
            1 => acl.truncate(9),
            2 => acl[0] = 7,
            3 => acl[4] = 3,
            4 => acl.clear(),
            5 => acl.extend_from_within(4..12),
            _ => {}
        }
        text(&acl)
    }
}
