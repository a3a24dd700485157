// SPDX-License-Identifier: GPL-2.0
//! Layers that no kernel wrote: the union's own attributes with any value, types in wrong places.

use super::{Gen, LONG};
use crate::case::{text, Case, Entry, Text, What};
use rand::Rng;
use std::fmt::Write as _;

const OWN: [&str; 10] = [
    "origin", "upper", "redirect", "metacopy", "nlink", "uuid", "opaque", "whiteout", "impure",
    "protattr",
];

impl Gen {
    /// Spoils a case: every layer, the roots, the work directory.
    pub fn spoil(&mut self, case: &mut Case) {
        case.hostile = true;
        let mut lowers = std::mem::take(&mut case.lowers);
        for layer in lowers.iter_mut().chain([&mut case.upper]) {
            self.spoil_layer(layer);
        }
        case.lowers = lowers;
        case.work = self.work();
    }

    /// Puts entries into the index that are none, or are of nothing.
    pub fn spoil_index(&mut self, work: &mut Vec<Entry>) {
        if !work.iter().any(|e| e.path == "index") {
            work.push(Entry::plain("index", What::Dir, 0));
        }
        let is_dir = |e: &Entry| e.path == "index" && matches!(e.what, What::Dir);
        if !work.iter().any(is_dir) {
            return;
        }
        for number in 0..self.rng.random_range(0..4) {
            let origin = self.origin();
            let mut name = origin.iter().fold(String::new(), |mut name, byte| {
                let _ = write!(name, "{byte:02x}");
                name
            });
            if self.chance(10) {
                name.truncate(self.rng.random_range(0..name.len()) & !1);
            }
            if self.chance(30) || name.is_empty() {
                name = format!("#{number}");
            }
            let what = match self.rng.random_range(0..6) {
                0 => What::Dir,
                1 => What::Whiteout,
                2 => What::Symlink { target: "a".into() },
                _ => What::File {
                    size: 5,
                    pieces: Vec::new(),
                },
            };
            let mut entry = Entry::plain(format!("index/{name}"), what, 0o644);
            if matches!(entry.what, What::File { .. }) && self.chance(85) {
                let other = self.origin();
                let value = if self.chance(80) { origin } else { other };
                let mark = |name: &str, value| (format!("trusted.overlay.{name}"), value);
                entry.xattrs.push(mark("origin", text(&value)));
                entry.xattrs.push(mark("nlink", self.own_value("nlink")));
            }
            if !work.iter().any(|e| e.path == entry.path) {
                work.push(entry);
            }
        }
    }

    fn spoil_layer(&mut self, layer: &mut Vec<Entry>) {
        for e in layer.iter_mut() {
            if self.chance(45)
                && !matches!(
                    e.what,
                    What::Whiteout | What::XattrWhiteout | What::Link { .. }
                )
            {
                for _ in 0..self.rng.random_range(1..3) {
                    let name = self.pick(&OWN);
                    let value = self.own_value(name);
                    e.xattrs.push((format!("trusted.overlay.{name}"), value));
                }
            }
        }
        let whiteout = layer
            .iter()
            .find(|e| matches!(e.what, What::Whiteout))
            .map(|e| e.path.clone());
        if let Some(to) = whiteout.filter(|_| self.chance(50)) {
            // A whiteout with several links.
            let path = format!("w{}", self.rng.random_range(0..4));
            self.know(&path, false);
            layer.push(Entry::plain(path, What::Link { to }, 0));
        }
        if self.chance(40) {
            // The root of the layer, but for its protected flags: overlayfs does not read them.
            let name = self.pick(&OWN[..OWN.len() - 1]);
            let xattrs = vec![(format!("trusted.overlay.{name}"), self.own_value(name))];
            layer.push(Entry {
                xattrs,
                ..Entry::plain("", What::Dir, 0o755)
            });
        }
    }

    fn own_value(&mut self, name: &str) -> Text {
        if self.chance(15) {
            let len = self.pick(&[0, 1, 2, 19, 20, 21, 128, 255, 256, 300, 4000]);
            return (0..len)
                .map(|_| char::from(self.rng.random::<u8>()))
                .collect();
        }
        let long = LONG.repeat(20);
        let deep = "x/".repeat(120);
        match name {
            "origin" | "upper" => text(&self.origin()),
            "redirect" => {
                let known = self.known.first().map_or("a", |k| &*k.0).to_owned();
                let absolute = format!("/{known}");
                let list = [
                    "a", "/a", "/a/b", "a/b", "../a", "/..", "/a/..", "//a", "/a//b", "/", "", ".",
                    "..", &long, &deep, &known, &absolute, "a\0b", "/a/",
                ];
                self.pick(&list).to_owned()
            }
            "metacopy" => {
                let mut value = vec![
                    0,
                    self.rng.random_range(0..80),
                    self.rng.random(),
                    self.rng.random(),
                ];
                value.extend((0..self.rng.random_range(0..70)).map(|_| self.rng.random::<u8>()));
                text(&value)
            }
            "nlink" => self
                .pick(&[
                    "L+1",
                    "U+0",
                    "U-1",
                    "L+99999999999",
                    "L-99999999999",
                    "X+1",
                    "L",
                    "L+",
                    "+1",
                    "",
                ])
                .to_owned(),
            "uuid" => self
                .pick(&["0123456789abcdef", "short", "longer than sixteen bytes"])
                .to_owned(),
            "protattr" => self
                .pick(&["i", "a", "ia", "i,a", "zzzz,,,", "", &long])
                .to_owned(),
            _ => self.pick(&["y", "x", "n", "yy", "", "1", "y\0"]).to_owned(),
        }
    }

    /// A file handle as origins have it, with something wrong.
    fn origin(&mut self) -> Vec<u8> {
        let mut value = vec![0, 0xfb, 0, 0, 0x81];
        value.extend([0; 16]);
        let length = self.pick(&[0, 4, 8, 12, 20, 100]);
        value.extend((0..length).map(|_| self.rng.random::<u8>()));
        value[2] = value.len() as u8;
        if self.chance(70) {
            let at = self.rng.random_range(0..6).min(value.len() - 1);
            value[at] = self.rng.random();
        }
        if self.chance(20) {
            value.truncate(self.rng.random_range(0..value.len()));
        }
        value
    }

    /// What lies in the work directory before the mount.
    fn work(&mut self) -> Vec<Entry> {
        let mut out: Vec<Entry> = Vec::new();
        for name in [
            "work",
            "index",
            "incompat",
            "work/incompat",
            "work/incompat/volatile",
            "work/#1",
            "work/a",
            "work/a/b",
        ] {
            // Not through a symlink.
            let parent = name.rsplit_once('/').map(|(parent, _)| parent);
            let inside = |out: &[Entry]| {
                out.iter()
                    .any(|e| Some(&*e.path) == parent && matches!(e.what, What::Dir))
            };
            if !self.chance(30) || (parent.is_some() && !inside(&out)) {
                continue;
            }
            let what = match self.rng.random_range(0..8) {
                0..4 => What::Dir,
                4 => What::File {
                    size: 5,
                    pieces: Vec::new(),
                },
                5 => What::Symlink {
                    target: "../l0".into(),
                },
                6 => What::Whiteout,
                _ => What::Node {
                    kind: libc::S_IFIFO,
                    rdev: 0,
                },
            };
            out.push(Entry::plain(name, what, 0o755));
        }
        out
    }
}
