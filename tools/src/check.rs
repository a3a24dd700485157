// SPDX-License-Identifier: GPL-2.0
//! `rovl check UPPER`: marks that are damaged or lead nowhere, and what is left over.

use crate::layers::{is_same_file, is_whiteout, lstat, names, shown, xattrs, Layers};
use crate::merge::{Node, Union, What};
use crate::mountinfo::Table;
use crate::term::{paint, Colour, Progress};
use rustix::fs::{FileType, XattrFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What can be done about something.
enum Remedy {
    /// Takes the mark away.
    Unmark(String),
    /// Makes the directory opaque and takes its redirect away, so that it shows what it shows now.
    Opaque,
    Remove,
    /// Nothing that loses nothing: what to do is for people.
    None(&'static str),
}

pub struct Check {
    union: Union,
    work: Option<PathBuf>,
    repair: bool,
    progress: Progress,
    /// Found, and mended.
    found: u64,
    mended: u64,
}

impl Check {
    pub fn new(layers: Layers, work: Option<PathBuf>, repair: bool) -> Result<Check, String> {
        let union = Union::new(layers, false)?;
        Ok(Check {
            union,
            work,
            repair,
            progress: Progress::new(),
            found: 0,
            mended: 0,
        })
    }

    /// Whether all is well, or was made so.
    pub fn run(mut self) -> Result<bool, String> {
        if self.repair {
            self.unused()?;
        }
        let root = self.union.root.clone();
        self.object(Path::new(""), true)?;
        self.directory(Path::new(""), &root)?;
        if let Some(work) = self.work.clone() {
            self.work(&work)?;
        }
        let left = self.found - self.mended;
        drop(self.progress);
        match (self.found, self.mended) {
            (0, _) => println!("nothing wrong was found"),
            (found, 0) => println!("{found} found; --repair mends what can be"),
            (found, mended) => println!("{found} found, {mended} mended"),
        }
        Ok(left == 0)
    }

    /// No mount may use what is changed.
    fn unused(&self) -> Result<(), String> {
        let upper = &self.union.layers.all[0].path;
        for mount in Table::read()?.unions() {
            let layers = Layers::of_mount(mount, None)?;
            // Where a relative name starts is not known: one that could be it counts.
            let is_it = |path: &Path| match path.is_relative() {
                true => upper
                    .canonicalize()
                    .is_ok_and(|upper| upper.ends_with(path)),
                false => is_same_file(path, upper),
            };
            if layers.has_upper() && is_it(&layers.all[0].path) {
                return Err(format!(
                    "{} is mounted at {}: unmount that before --repair",
                    upper.display(),
                    mount.point.display()
                ));
            }
        }
        Ok(())
    }

    fn found(&mut self, path: &Path, what: &str, remedy: Remedy) -> Result<(), String> {
        self.found += 1;
        let name = shown(path);
        let problem = paint(Colour::Yellow, what);
        let failed = |e| format!("{name}: {e}");
        if let Remedy::None(advice) = remedy {
            println!("{name}: {problem}; {advice}");
            return Ok(());
        }
        if !self.repair {
            println!("{name}: {problem}");
            return Ok(());
        }
        let own = |mark: &str| self.union.layers.own(mark);
        let done = match &remedy {
            Remedy::Unmark(mark) => {
                rustix::fs::lremovexattr(path, own(mark)).map_err(failed)?;
                "removed"
            }
            Remedy::Opaque => {
                let opaque = own("opaque");
                rustix::fs::lsetxattr(path, opaque, b"y", XattrFlags::empty()).map_err(failed)?;
                rustix::fs::lremovexattr(path, own("redirect")).map_err(failed)?;
                "made opaque"
            }
            _ => {
                let is_dir = lstat(path)?
                    .is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
                let removed = match is_dir {
                    true => std::fs::remove_dir_all(path),
                    false => std::fs::remove_file(path),
                };
                removed.map_err(|e| format!("{name}: {e}"))?;
                "removed"
            }
        };
        println!("{name}: {problem}: {}", paint(Colour::Green, done));
        self.mended += 1;
        Ok(())
    }

    fn directory(&mut self, path: &Path, dir: &Node) -> Result<(), String> {
        let below = dir.lower_part(&self.union.layers);
        let has_lowers = self.union.layers.all.len() > 1;
        for name in names(&self.union.layers.at(0, path))? {
            let child = path.join(&name);
            let at = self.union.layers.at(0, &child);
            self.progress.step(&shown(&child));
            let sound = self.object(&child, false)?;
            if lstat(&at)?.is_none() {
                continue;
            }
            let now = self.union.lookup(dir, &name)?;
            let place = now.places.first().filter(|p| p.layer == 0);
            match place.map(|p| p.what) {
                Some(What::Whiteout) if has_lowers => {
                    if self.union.lookup(&below, &name)?.top().is_none() {
                        self.found(&at, "a whiteout that hides nothing", Remedy::Remove)?;
                    }
                }
                Some(What::Bare) if has_lowers && sound && now.is_broken => {
                    let advice = "it cannot be looked up (EIO); restore the lower layer that has its data, or remove it";
                    self.found(&at, "metacopy without data below", Remedy::None(advice))?;
                }
                Some(What::Dir) if has_lowers && sound => {
                    let redirect = place.and_then(|p| p.redirect.as_ref());
                    if redirect.is_some() && now.lower_part(&self.union.layers).top().is_none() {
                        self.found(&at, "a redirect that leads nowhere", Remedy::Opaque)?;
                    }
                }
                _ => {}
            }
            if now.is_dir() {
                self.directory(&child, &now)?;
            }
        }
        Ok(())
    }

    /// Looks at the marks of one object of upper; whether its redirect and metacopy are sound.
    fn object(&mut self, rel: &Path, is_root: bool) -> Result<bool, String> {
        let at = self.union.layers.at(0, rel);
        let Some(stat) = lstat(&at)? else {
            return Ok(true);
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut sound = true;
        for (name, value) in xattrs(&at)? {
            if !self.union.layers.is_own(name.as_bytes()) {
                continue;
            }
            let mark = &name.as_bytes()[self.union.layers.prefix().len()..];
            let mark = String::from_utf8_lossy(mark).into_owned();
            let Some(why) = damage(&mark, &value, kind, is_root) else {
                continue;
            };
            let is_bare =
                kind == FileType::RegularFile && self.union.layers.mark(&at, "metacopy")?.is_some();
            let remedy = match (&*mark, kind) {
                ("redirect", FileType::Directory) => Remedy::Opaque,
                ("metacopy" | "redirect", FileType::RegularFile) if is_bare => Remedy::None(
                    "nothing says where its data is; restore it from elsewhere, or remove it",
                ),
                _ => Remedy::Unmark(mark.clone()),
            };
            sound &= !matches!(&*mark, "redirect" | "metacopy");
            self.found(&at, &format!("{}: {why}", name.to_string_lossy()), remedy)?;
        }
        Ok(sound)
    }

    /// What a work directory holds while nothing is mounted.
    fn work(&mut self, work: &Path) -> Result<(), String> {
        let inner = work.join("work");
        if lstat(&inner)?.is_none() {
            return Ok(());
        }
        for name in names(&inner)? {
            let at = inner.join(&name);
            let stat = lstat(&at)?;
            // Others are linked from it.
            let is_whiteout = stat.is_some_and(|s| is_whiteout(&s));
            if name == "incompat" {
                for feature in names(&at)? {
                    let (what, advice) = match feature.as_bytes() {
                        b"volatile" => (
                            "upper was mounted volatile: what was not written back may be missing".to_owned(),
                            "where there was no crash, 'sync -f UPPER' and remove it; else begin with a new upper",
                        ),
                        _ => (
                            format!("a feature of another version, {}", feature.to_string_lossy()),
                            "mount with what made it",
                        ),
                    };
                    self.found(&at.join(&feature), &what, Remedy::None(advice))?;
                }
            } else if !is_whiteout {
                self.found(
                    &at,
                    "left over from a mount that did not end well",
                    Remedy::Remove,
                )?;
            }
        }
        Ok(())
    }
}

/// What is wrong with a mark, if anything is.
fn damage(mark: &str, value: &[u8], kind: FileType, is_root: bool) -> Option<&'static str> {
    let is_dir = kind == FileType::Directory;
    let is_file = kind == FileType::RegularFile;
    let (belongs, fits) = match mark {
        "opaque" => (is_dir, matches!(value, b"y" | b"x")),
        "impure" => (is_dir, value == b"y"),
        "redirect" => (is_dir || is_file, is_redirect(value)),
        "metacopy" => (is_file, value.is_empty() || is_metacopy(value)),
        "origin" => (true, value.is_empty() || is_handle(value)),
        "upper" => (true, is_handle(value)),
        "protattr" => (is_dir || is_file, matches!(value, b"a" | b"i" | b"ai")),
        "uuid" => (is_dir && is_root, value.len() == 16),
        "nlink" => (!is_dir, is_nlink(value)),
        "whiteout" => (is_file, true),
        _ => return Some("no mark of that name is known"),
    };
    match (belongs, fits) {
        (false, _) => Some("it does not belong on such an object"),
        (true, false) => Some("the value is damaged"),
        (true, true) => None,
    }
}

fn is_redirect(value: &[u8]) -> bool {
    let text = value.split(|b| *b == 0).next().unwrap_or_default();
    match text.strip_prefix(b"/") {
        Some(rest) => rest.split(|b| *b == b'/').all(|part| !part.is_empty()),
        None => !value.is_empty() && !text.contains(&b'/'),
    }
}

fn is_metacopy(value: &[u8]) -> bool {
    value.len() >= 4 && value[0] == 0 && usize::from(value[1]) == value.len() && value[2] == 0
}

/// A handle of this or a later version; what follows its length counts for nothing.
fn is_handle(value: &[u8]) -> bool {
    value.len() >= 21 && value[1] == 0xfb && (21..=value.len()).contains(&usize::from(value[2]))
}

fn is_nlink(value: &[u8]) -> bool {
    let digits = match value {
        [b'U' | b'L', b'+' | b'-', digits @ ..] => digits,
        _ => return false,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for good in [&b"a"[..], b"/a", b"/a/b c", b"..", b"a\0b/"] {
            assert!(is_redirect(good));
        }
        for bad in [&b""[..], b"/", b"a/b", b"//a", b"/a/", b"/a//b"] {
            assert!(!is_redirect(bad));
        }
        assert!(
            is_metacopy(&[0, 4, 0, 0]) && !is_metacopy(&[0, 5, 0, 0]) && !is_metacopy(&[0, 3, 0])
        );
        let mut handle = [0; 24];
        (handle[1], handle[2]) = (0xfb, 24);
        assert!(is_handle(&handle) && !is_handle(&handle[..23]));
        assert!(is_nlink(b"U+1") && is_nlink(b"L-12") && !is_nlink(b"U1") && !is_nlink(b"U+"));
    }
}
