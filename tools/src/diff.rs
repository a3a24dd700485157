// SPDX-License-Identifier: GPL-2.0
//! `rovl diff`: what an upper layer changes, found by a walk of upper with what the layers below show beside it.

use crate::json;
use crate::layers::{names, shown, xattrs, Layers};
use crate::merge::{Node, Place, Union, What};
use crate::term::{paint, Colour, Progress};
use rustix::fs::FileType;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Added,
    /// Its data is another one.
    Modified,
    /// Its attributes alone are others.
    Attributes,
    Removed,
    /// It is another object, of which nothing is the lower one's.
    Replaced,
    Renamed,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Modified => "modified",
            Kind::Attributes => "attributes",
            Kind::Removed => "removed",
            Kind::Replaced => "replaced",
            Kind::Renamed => "renamed",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Kind::Added => Colour::Green,
            Kind::Removed => Colour::Red,
            Kind::Modified | Kind::Replaced => Colour::Yellow,
            Kind::Attributes => Colour::Cyan,
            Kind::Renamed => Colour::Blue,
        }
    }
}

pub struct Change<'a> {
    pub kind: Kind,
    /// From the union's root.
    pub path: &'a Path,
    pub from: Option<PathBuf>,
    /// Which attributes are others.
    pub attributes: Vec<&'static str>,
    /// What the union shows; empty where it was removed.
    pub now: &'a Node,
    /// What the lower layers have at that path.
    pub before: &'a Node,
}

/// Who is told of what is found.
pub trait Sink {
    fn change(&mut self, union: &Union, change: &Change<'_>) -> Result<(), String>;

    /// A directory is entered that is as it was.
    fn enter(&mut self, _union: &Union, _path: &Path, _now: &Node) -> Result<(), String> {
        Ok(())
    }

    /// A file of upper is as it was; what it shares with other names may be new.
    fn same(&mut self, _union: &Union, _path: &Path, _now: &Node) -> Result<(), String> {
        Ok(())
    }

    /// A directory is left.
    fn leave(&mut self) {}
}

pub struct Walk<'a> {
    pub union: &'a Union,
    pub sink: &'a mut dyn Sink,
    progress: Progress,
}

fn is_type(place: &Place, wanted: FileType) -> bool {
    FileType::from_raw_mode(place.stat.st_mode) == wanted
}

impl<'a> Walk<'a> {
    pub fn new(union: &'a Union, sink: &'a mut dyn Sink) -> Walk<'a> {
        Walk {
            union,
            sink,
            progress: Progress::new(),
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        let root = self.union.root.clone();
        let before = root.lower_part(&self.union.layers);
        if before.top().is_some() {
            let attributes = self.attributes(&root, &before)?;
            if !attributes.is_empty() {
                self.tell(
                    Kind::Attributes,
                    Path::new(""),
                    None,
                    attributes,
                    (&root, &before),
                )?;
            }
        }
        self.directory(Path::new(""), &root)
    }

    fn tell(
        &mut self,
        kind: Kind,
        path: &Path,
        from: Option<PathBuf>,
        attributes: Vec<&'static str>,
        (now, before): (&Node, &Node),
    ) -> Result<(), String> {
        let change = Change {
            kind,
            path,
            from,
            attributes,
            now,
            before,
        };
        self.sink.change(self.union, &change)
    }

    /// What upper has in a directory that it has a part of.
    fn directory(&mut self, path: &Path, dir: &Node) -> Result<(), String> {
        let Some(top) = dir.top() else { return Ok(()) };
        let before = dir.lower_part(&self.union.layers);
        for name in names(&self.union.layers.at(top.layer, &top.rel))? {
            let child = path.join(&name);
            self.progress.step(&shown(&child));
            self.entry(&child, &name, dir, &before)?;
        }
        self.sink.leave();
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        name: &OsString,
        dir: &Node,
        below: &Node,
    ) -> Result<(), String> {
        let now = self.union.lookup(dir, name)?;
        let before = self.union.lookup(below, name)?;
        let (Some(top), old) = (now.top(), before.top()) else {
            return match before.top() {
                Some(_) => self.tell(Kind::Removed, path, None, Vec::new(), (&now, &before)),
                None => Ok(()),
            };
        };
        let lower = now.lower_part(&self.union.layers);
        let moved = |place: &&Place| top.redirect.is_some() && place.rel != path;
        let source = lower.top().filter(moved);
        let both = (&now, &before);
        let mut attributes = Vec::new();
        let kind = match (source, old) {
            (Some(source), _) => {
                attributes = self.attributes(&now, &lower)?;
                let from = Some(source.rel.clone());
                self.tell(Kind::Renamed, path, from, attributes, both)?;
                return self.below(path, &now);
            }
            (None, None) => Some(Kind::Added),
            (None, Some(_)) if top.what == What::Opaque => Some(Kind::Replaced),
            (None, Some(old)) if (top.stat.st_mode ^ old.stat.st_mode) & 0o170_000 != 0 => {
                Some(Kind::Replaced)
            }
            (None, Some(old)) => {
                attributes = self.attributes(&now, &before)?;
                match self.same_data(&now, top, &before, old)? {
                    false => Some(Kind::Modified),
                    true => (!attributes.is_empty()).then_some(Kind::Attributes),
                }
            }
        };
        match kind {
            Some(kind) => self.tell(kind, path, None, attributes, both)?,
            None if now.is_dir() => self.sink.enter(self.union, path, &now)?,
            None => self.sink.same(self.union, path, &now)?,
        }
        self.below(path, &now)
    }

    fn below(&mut self, path: &Path, now: &Node) -> Result<(), String> {
        match now.is_dir() {
            true => self.directory(path, now),
            false => Ok(()),
        }
    }

    /// Whether two objects of one kind have the same contents.
    fn same_data(
        &self,
        now: &Node,
        top: &Place,
        before: &Node,
        old: &Place,
    ) -> Result<bool, String> {
        let layers = &self.union.layers;
        match FileType::from_raw_mode(top.stat.st_mode) {
            FileType::RegularFile if top.what == What::Bare => Ok(true),
            FileType::RegularFile if top.stat.st_size != old.stat.st_size => Ok(false),
            FileType::RegularFile => {
                let (Some(a), Some(b)) = (now.data(), before.data()) else {
                    return Ok(false);
                };
                same_bytes(layers, a, b)
            }
            FileType::Symlink => {
                let of = |p: &Place| {
                    let path = layers.at(p.layer, &p.rel);
                    std::fs::read_link(&path).map_err(|e| format!("{}: {e}", path.display()))
                };
                Ok(of(top)? == of(old)?)
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                Ok(top.stat.st_rdev == old.stat.st_rdev)
            }
            _ => Ok(true),
        }
    }

    /// The attributes in which two objects differ. The times of directories say no more than that entries changed.
    fn attributes(&self, now: &Node, before: &Node) -> Result<Vec<&'static str>, String> {
        let (Some(new), Some(old)) = (now.top(), before.top()) else {
            return Ok(Vec::new());
        };
        let (a, b) = (&new.stat, &old.stat);
        let time = |s: &rustix::fs::Stat| (s.st_mtime, s.st_mtime_nsec);
        let mut differ = Vec::new();
        if a.st_mode != b.st_mode {
            differ.push("mode");
        }
        if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
            differ.push("owner");
        }
        if !is_type(new, FileType::Directory) && time(a) != time(b) {
            differ.push("mtime");
        }
        if users_xattrs(&self.union.layers, new)? != users_xattrs(&self.union.layers, old)? {
            differ.push("xattrs");
        }
        Ok(differ)
    }
}

/// The attributes of an object as the union shows them: without its own, and those that a user of it stored under such
/// names without the escape.
pub fn users_xattrs(layers: &Layers, place: &Place) -> Result<Vec<(OsString, Vec<u8>)>, String> {
    use std::os::unix::ffi::OsStringExt;
    let prefix = layers.prefix();
    let escaped = format!("{prefix}overlay.");
    let all = xattrs(&layers.at(place.layer, &place.rel))?.into_iter();
    let mut users: Vec<_> = all
        .filter(|(name, _)| !layers.is_own(name.as_bytes()))
        .map(
            |(name, value)| match name.as_bytes().strip_prefix(escaped.as_bytes()) {
                Some(rest) => (
                    OsString::from_vec([prefix.as_bytes(), rest].concat()),
                    value,
                ),
                None => (name, value),
            },
        )
        .collect();
    users.sort();
    Ok(users)
}

fn same_bytes(layers: &Layers, a: &Place, b: &Place) -> Result<bool, String> {
    let mut one = layers.open(a.layer, &a.rel)?;
    let mut other = layers.open(b.layer, &b.rel)?;
    let (mut x, mut y) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    let fill = |file: &mut File, buffer: &mut [u8], place: &Place| {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(format!(
                        "{}: {e}",
                        shown(&layers.at(place.layer, &place.rel))
                    ))
                }
            }
        }
        Ok(filled)
    };
    loop {
        let n = fill(&mut one, &mut x, a)?;
        let m = fill(&mut other, &mut y, b)?;
        if x[..n] != y[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// A line a path, for people.
struct Lines<W: Write>(W);

impl<W: Write> Sink for Lines<W> {
    fn change(&mut self, _: &Union, change: &Change<'_>) -> Result<(), String> {
        let kind = paint(change.kind.colour(), &format!("{:<10}", change.kind.name()));
        let mut line = format!("{kind} /{}", shown(change.path));
        if let Some(from) = &change.from {
            line += &format!(" from /{}", shown(from));
        }
        if !change.attributes.is_empty() {
            line += &format!(" ({})", change.attributes.join(", "));
        }
        writeln!(self.0, "{line}").map_err(|e| format!("output: {e}"))
    }
}

/// One object a change, in one array.
struct Json<W: Write>(W, bool);

impl<W: Write> Sink for Json<W> {
    fn change(&mut self, _: &Union, change: &Change<'_>) -> Result<(), String> {
        let root = Path::new("/");
        let mut object = json::Object::new();
        object.insert("change".into(), change.kind.name().into());
        json::put_path(&mut object, "path", &root.join(change.path));
        if let Some(from) = &change.from {
            json::put_path(&mut object, "from", &root.join(from));
        }
        if !change.attributes.is_empty() {
            object.insert("attributes".into(), change.attributes.clone().into());
        }
        let comma = if std::mem::replace(&mut self.1, true) {
            ",\n"
        } else {
            "[\n"
        };
        let text = serde_json::Value::Object(object);
        write!(self.0, "{comma}{text}").map_err(|e| format!("output: {e}"))
    }
}

/// How the changes are written.
pub enum Format {
    Lines,
    Json,
    Tar,
}

pub fn run(layers: Layers, format: Format) -> Result<(), String> {
    if !layers.has_upper() {
        return Err("there is no upper layer: nothing is changed".to_owned());
    }
    let union = Union::new(layers, false)?;
    let failed = |e| format!("output: {e}");
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match format {
        Format::Lines => Walk::new(&union, &mut Lines(&mut out)).run()?,
        Format::Json => {
            let mut json = Json(&mut out, false);
            Walk::new(&union, &mut json).run()?;
            let end = if json.1 { "\n]" } else { "[]" };
            writeln!(out, "{end}").map_err(failed)?;
        }
        Format::Tar => {
            let mut tar = crate::layer_tar::LayerTar::new(&mut out);
            Walk::new(&union, &mut tar).run()?;
            tar.finish()?;
        }
    }
    out.flush().map_err(failed)
}
