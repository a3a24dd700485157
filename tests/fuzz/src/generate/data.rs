// SPDX-License-Identifier: GPL-2.0
//! Data-only layers: files of lower layers lose their data to them.

use super::Gen;
use crate::case::{text, Case, Entry, What};
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

    /// Has fs-verity guard files of the lower layers, and marks say the digest of the data that is elsewhere; some that of
    /// another file's.
    pub fn guard(&mut self, case: &mut Case) {
        case.verity_required = self.chance(30);
        // Without, most that has its data elsewhere is refused before its digest is asked for.
        if !case.userxattr {
            (case.redirects, case.metacopy) = (true, true);
        }
        for e in case.lowers.iter_mut().chain(&mut case.data).flatten() {
            e.guarded = matches!(e.what, What::File { .. }) && self.chance(80);
        }
        let objects: Vec<_> = objects(case).collect();
        let files = case.lowers.iter_mut().flatten();
        for e in files.filter(|e| matches!(e.what, What::File { .. })) {
            let at = e
                .xattrs
                .iter()
                .find(|(name, _)| name.ends_with(".redirect"));
            let Some((_, at)) = at.filter(|_| self.chance(80)) else {
                continue;
            };
            let own = objects.iter().find(|(path, _)| path == at);
            e.digest_of = match own {
                Some((_, own)) if self.chance(85) => Some(own.clone()),
                _ if objects.is_empty() => None,
                _ => Some(self.one_of(&objects).1.clone()),
            };
        }
    }

    fn one_of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.rng.random_range(0..from.len())]
    }

    /// Marks of files without data that are well formed, with a digest of nothing or of another file's data, and redirects
    /// into data-only layers that no kernel writes.
    pub fn spoil_data(&mut self, case: &mut Case) {
        let prefix = case.own_prefix();
        let objects: Vec<_> = objects(case).collect();
        let files = case.lowers.iter_mut().chain([&mut case.upper]).flatten();
        for e in files.filter(|e| matches!(e.what, What::File { .. })) {
            if !self.chance(30) {
                continue;
            }
            let (algorithm, len) =
                self.pick(&[(1, 32), (2, 64), (1, 31), (1, 33), (3, 32), (0, 32)]);
            let mut mark = vec![0, 4 + len, 0, algorithm];
            mark.extend((0..len).map(|_| self.rng.random::<u8>()));
            e.xattrs.push((format!("{prefix}metacopy"), text(&mark)));
            if objects.is_empty() {
                continue;
            }
            let (path, at) = self.one_of(&objects).clone();
            if self.chance(40) {
                e.digest_of = Some(at);
            }
            let name = path.trim_start_matches("/objects/");
            let redirect = match self.rng.random_range(0..8) {
                0 => format!("{path}/"),
                1 => format!("//objects/{name}"),
                2 => format!("/objects/../objects/{name}"),
                3 => format!("/./objects/{name}"),
                4 => format!("/../objects/{name}"),
                5 => "/objects".to_owned(),
                _ => path,
            };
            e.xattrs.push((format!("{prefix}redirect"), redirect));
        }
    }
}

/// The files of data-only layers: the path by which a redirect finds each, and where it is, from the folder of the lower
/// layers.
fn objects(case: &Case) -> impl Iterator<Item = (String, String)> + '_ {
    let layers = case.data.iter().enumerate();
    layers.flat_map(|(i, layer)| {
        let files = layer.iter().filter(|e| matches!(e.what, What::File { .. }));
        files.map(move |e| (format!("/{}", e.path), format!("d{i}/{}", e.path)))
    })
}
