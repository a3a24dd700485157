// SPDX-License-Identifier: GPL-2.0
//! Data-only layers: files of lower layers lose their data to them.

use super::Gen;
use crate::case::{Case, Entry, What};
use rand::Rng;

impl Gen {
    /// Gives the case data-only layers, to which some files of lower layers lose their data. Some of them find nothing there, or
    /// no regular file.
    pub fn take_data_away(&mut self, case: &mut Case) {
        let layers = self.rng.random_range(1..4);
        case.data = vec![Vec::new(); layers];
        for layer in &mut case.data {
            layer.push(Entry::plain("objects", What::Dir, 0o755));
        }
        let prefix = case.own_prefix();
        for (n, e) in case.lowers.iter_mut().flatten().enumerate() {
            let What::File { size, .. } = e.what else {
                continue;
            };
            if !self.chance(50) {
                continue;
            }
            let path = format!("objects/{n}");
            let bare = What::File {
                size,
                pieces: Vec::new(),
            };
            let whole = std::mem::replace(&mut e.what, bare);
            let digest = if self.chance(10) {
                "\0\u{24}\0\u{1}0123456789abcdef0123456789abcdef"
            } else {
                ""
            };
            let redirect = if self.chance(90) {
                format!("/{path}")
            } else {
                format!("objects.{n}")
            };
            e.xattrs
                .push((format!("{prefix}metacopy"), digest.to_owned()));
            e.xattrs.push((format!("{prefix}redirect"), redirect));
            let what = match self.rng.random_range(0..20) {
                0 => continue,
                1 => What::Dir,
                2 => What::Symlink {
                    target: "../objects".into(),
                },
                _ => whole,
            };
            let layer = self.rng.random_range(0..layers);
            case.data[layer].push(Entry::plain(&path, what, 0o755));
            // The first of two counts.
            if layer + 1 < layers && self.chance(20) {
                case.data[layers - 1].push(Entry::plain(&path, What::Dir, 0o755));
            }
        }
    }
}
