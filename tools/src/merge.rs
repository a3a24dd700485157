// SPDX-License-Identifier: GPL-2.0
//! What a union shows under a path: its layers are asked from the topmost down until one answer ends it.

use crate::layers::{is_whiteout, lstat, Layers};
use crate::options::Role;
use rustix::fs::{FileType, Stat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What one layer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Whiteout,
    Dir,
    /// A directory that hides what is below.
    Opaque,
    File,
    /// A file without data: that is below.
    Bare,
    /// Neither a directory nor a regular file.
    Other,
}

impl What {
    pub fn is_dir(self) -> bool {
        matches!(self, What::Dir | What::Opaque)
    }

    pub fn is_file(self) -> bool {
        matches!(self, What::File | What::Bare)
    }
}

/// Why what a layer has is not seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hidden {
    /// A whiteout in that layer.
    Whiteout(usize, PathBuf),
    /// A directory in that layer is opaque, perhaps one above.
    Opaque(usize, PathBuf),
    /// Something that is not a directory, or of which this is no part, lies above in that layer.
    Covered(usize),
    /// That layer has a redirect, by which the layers below are asked for something else.
    Redirect(usize, PathBuf),
}

impl Hidden {
    /// What it is, in which layer, and where there.
    pub fn parts(&self) -> (&'static str, usize, Option<&Path>) {
        match self {
            Hidden::Whiteout(layer, at) => ("whiteout", *layer, Some(at)),
            Hidden::Opaque(layer, at) => ("opaque", *layer, Some(at)),
            Hidden::Covered(layer) => ("covered", *layer, None),
            Hidden::Redirect(layer, at) => ("redirect", *layer, Some(at)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Use {
    /// It is a part of what is seen: attributes come from the first one, data of a file from the last.
    Seen,
    Hidden(Hidden),
}

/// What a layer answered.
#[derive(Clone)]
pub struct Place {
    pub layer: usize,
    /// Where in the layer.
    pub rel: PathBuf,
    pub what: What,
    pub stat: Stat,
    pub redirect: Option<Vec<u8>>,
    pub used: Use,
}

impl Place {
    /// What hides it; a whiteout is not hidden by itself.
    pub fn hidden(&self) -> Option<&Hidden> {
        match &self.used {
            Use::Hidden(Hidden::Whiteout(layer, at)) if (*layer, at) == (self.layer, &self.rel) => {
                None
            }
            Use::Hidden(hidden) => Some(hidden),
            Use::Seen => None,
        }
    }
}

/// What a union has under a name; nothing where no place is seen.
#[derive(Clone, Default)]
pub struct Node {
    pub places: Vec<Place>,
    /// A file whose data is nowhere.
    pub is_broken: bool,
}

impl Node {
    pub fn seen(&self) -> impl DoubleEndedIterator<Item = &Place> {
        self.places.iter().filter(|p| p.used == Use::Seen)
    }

    /// The place that the attributes come from.
    pub fn top(&self) -> Option<&Place> {
        self.seen().next()
    }

    /// The place that the data of a file comes from.
    pub fn data(&self) -> Option<&Place> {
        self.seen().next_back()
    }

    /// Whether the attributes come from `place`.
    pub fn has_attributes_of(&self, place: &Place) -> bool {
        self.top().is_some_and(|top| top.layer == place.layer)
    }

    /// Whether the data of a file is to come from `place`.
    pub fn has_data_of(&self, place: &Place) -> bool {
        self.data().is_some_and(|data| data.layer == place.layer)
    }

    pub fn is_dir(&self) -> bool {
        self.top().is_some_and(|p| p.what.is_dir())
    }

    /// What of it the lower layers are.
    pub fn lower_part(&self, layers: &Layers) -> Node {
        let lower = |p: &&Place| layers.all[p.layer].role != Role::Upper;
        Node {
            places: self.seen().filter(lower).cloned().collect(),
            is_broken: false,
        }
    }
}

/// A layer's answer, with what the layers below are to be asked for instead.
struct Answer {
    place: Option<Place>,
    redirect: Option<Vec<u8>>,
    /// A directory on the way hides the layers below.
    opaque: Option<PathBuf>,
    /// Something on the way that is no directory.
    blocked: bool,
}

pub struct Union {
    pub layers: Layers,
    pub root: Node,
    /// What is hidden is looked for, too.
    explain: bool,
}

impl Union {
    pub fn new(layers: Layers, explain: bool) -> Result<Union, String> {
        let mut root = Node::default();
        for (layer, l) in layers.all.iter().enumerate() {
            if l.role == Role::Data {
                continue;
            }
            let stat =
                rustix::fs::stat(&l.path).map_err(|e| format!("{}: {e}", l.path.display()))?;
            root.places.push(Place {
                layer,
                rel: PathBuf::new(),
                what: What::Dir,
                stat,
                redirect: None,
                used: Use::Seen,
            });
        }
        Ok(Union {
            layers,
            root,
            explain,
        })
    }

    /// Asks one layer for a name in a directory of it.
    fn ask_name(&self, layer: usize, dir: &Path, name: &[u8]) -> Result<Option<Place>, String> {
        if matches!(name, b"" | b"." | b"..") {
            return Ok(None);
        }
        let rel = dir.join(OsStr::from_bytes(name));
        let path = self.layers.at(layer, &rel);
        let Some(stat) = lstat(&path)? else {
            return Ok(None);
        };
        let mark = |name| self.layers.mark(&path, name);
        let mut redirect = None;
        let what = match FileType::from_raw_mode(stat.st_mode) {
            _ if is_whiteout(&stat) => What::Whiteout,
            FileType::RegularFile if stat.st_size == 0 && mark("whiteout")?.is_some() => {
                What::Whiteout
            }
            FileType::RegularFile if mark("metacopy")?.is_some() => {
                redirect = mark("redirect")?;
                What::Bare
            }
            FileType::RegularFile => What::File,
            FileType::Directory if mark("opaque")?.as_deref() == Some(b"y") => What::Opaque,
            FileType::Directory => {
                redirect = mark("redirect")?;
                What::Dir
            }
            _ => What::Other,
        };
        if let Some(value) = &mut redirect {
            let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
            value.truncate(end);
        }
        Ok(Some(Place {
            layer,
            rel,
            what,
            stat,
            redirect,
            used: Use::Seen,
        }))
    }

    /// Asks one layer for a name in a directory of it, or for a path from its root.
    fn ask(&self, layer: usize, dir: &Path, want: &[u8]) -> Result<Answer, String> {
        let Some(path) = want.strip_prefix(b"/") else {
            let place = self.ask_name(layer, dir, want)?;
            return Ok(Answer {
                redirect: place.as_ref().and_then(|p| p.redirect.clone()),
                place,
                opaque: None,
                blocked: false,
            });
        };
        let mut answer = Answer {
            place: None,
            redirect: None,
            opaque: None,
            blocked: false,
        };
        let (mut at, mut trail, mut redirected) = (PathBuf::new(), Vec::new(), false);
        let mut names = path.split(|b| *b == b'/').peekable();
        while let Some(name) = names.next() {
            let place = self.ask_name(layer, &at, name)?;
            let said = place.as_ref().and_then(|p| p.redirect.as_deref());
            redirected |= said.is_some();
            match said {
                Some(path) if path.starts_with(b"/") => {
                    trail = path.to_vec();
                    answer.opaque = None;
                }
                said => {
                    trail.push(b'/');
                    trail.extend_from_slice(said.unwrap_or(name));
                }
            }
            let is_end = names.peek().is_none();
            match place {
                Some(place) if place.what.is_dir() && !is_end => {
                    if place.what == What::Opaque {
                        answer.opaque = Some(place.rel.clone());
                    }
                    at = place.rel;
                }
                Some(_) if !is_end => {
                    answer.blocked = true;
                    break;
                }
                None if !is_end => break,
                place => answer.place = place,
            }
        }
        for name in names {
            trail.push(b'/');
            trail.extend_from_slice(name);
        }
        answer.redirect = redirected.then_some(trail);
        Ok(answer)
    }

    /// What the union has under `name` in the directory `parent`.
    pub fn lookup(&self, parent: &Node, name: &OsStr) -> Result<Node, String> {
        let mut search = Search {
            union: self,
            node: Node::default(),
            stop: None,
            wants_data: false,
        };
        let mut dirs: Vec<&Place> = parent.seen().filter(|p| p.what.is_dir()).collect();
        let (mut i, mut want) = (0, name.as_bytes().to_vec());
        let mut followed: Option<&Place> = None;
        while let Some(dir) = dirs.get(i) {
            if search.stop.is_some() && !self.explain {
                break;
            }
            i += 1;
            let answer = self.ask(dir.layer, &dir.rel, &want)?;
            let layer = dir.layer;
            if search.take(layer, &answer) {
                if let Some(next) = answer.redirect {
                    followed = Some(dir);
                    want = next;
                    if want.starts_with(b"/") {
                        dirs = self.root.places.iter().collect();
                        i = dirs.iter().take_while(|d| d.layer <= layer).count();
                    }
                }
            }
        }
        search.ask_data(&want)?;
        search.node.is_broken = search.wants_data;
        if self.explain {
            let redirect = followed.map(|dir| Hidden::Redirect(dir.layer, dir.rel.join(name)));
            search.explain(parent, name, redirect)?;
        }
        search.node.places.sort_by_key(|p| p.layer);
        Ok(search.node)
    }

    /// What the union has under a path from its root.
    pub fn find(&self, path: &Path) -> Result<Node, String> {
        let mut node = self.root.clone();
        for name in path.iter().filter(|n| *n != "/") {
            node = self.lookup(&node, name)?;
        }
        Ok(node)
    }
}

struct Search<'a> {
    union: &'a Union,
    node: Node,
    /// Why the layers below are not a part.
    stop: Option<Hidden>,
    wants_data: bool,
}

impl Search<'_> {
    /// Takes an answer in; whether the layers below are to be asked for what it says.
    fn take(&mut self, layer: usize, answer: &Answer) -> bool {
        if let (Some(place), Some(stop)) = (&answer.place, &self.stop) {
            let mut place = place.clone();
            place.used = Use::Hidden(stop.clone());
            self.node.places.push(place);
        }
        if self.stop.is_some() {
            return false;
        }
        let first = self.node.seen().next().cloned();
        let covered = first.as_ref().map(|p| Hidden::Covered(p.layer));
        if let Some(place) = &answer.place {
            let fits = match &first {
                None => place.what != What::Whiteout,
                Some(_) if self.wants_data => place.what.is_file(),
                Some(_) => place.what.is_dir(),
            };
            let mut place = place.clone();
            if fits {
                self.wants_data = place.what == What::Bare;
                self.stop = match place.what {
                    What::Opaque => Some(Hidden::Opaque(layer, place.rel.clone())),
                    What::Dir | What::Bare => None,
                    _ => Some(covered.clone().unwrap_or(Hidden::Covered(layer))),
                };
            } else {
                self.stop = Some(match (place.what, covered) {
                    (What::Whiteout, _) | (_, None) => Hidden::Whiteout(layer, place.rel.clone()),
                    (_, Some(covered)) => covered,
                });
                // A whiteout is named by what it hides.
                let why = self.stop.clone();
                place.used = why.map_or(Use::Seen, Use::Hidden);
            }
            self.node.places.push(place);
        } else if answer.blocked {
            self.stop = Some(covered.unwrap_or(Hidden::Covered(layer)));
        }
        if let (Some(dir), None, false) = (&answer.opaque, &self.stop, self.wants_data) {
            self.stop = Some(Hidden::Opaque(layer, dir.clone()));
        }
        self.stop.is_none()
    }

    /// The data of a file may be in a layer that has nothing else, by its path.
    fn ask_data(&mut self, want: &[u8]) -> Result<(), String> {
        let Some(path) = want.strip_prefix(b"/").filter(|_| self.wants_data) else {
            return Ok(());
        };
        for (layer, l) in self.union.layers.all.iter().enumerate() {
            if l.role != Role::Data {
                continue;
            }
            let rel = PathBuf::from(OsStr::from_bytes(path));
            let stat = self.union.layers.beneath(layer, &rel)?;
            if let Some(stat) =
                stat.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
            {
                self.wants_data = false;
                self.node.places.push(Place {
                    layer,
                    rel,
                    what: What::File,
                    stat,
                    redirect: None,
                    used: Use::Seen,
                });
                break;
            }
        }
        Ok(())
    }

    /// Adds what directories have that are themselves hidden, and what is under the name where a redirect led elsewhere.
    fn explain(
        &mut self,
        parent: &Node,
        name: &OsStr,
        redirect: Option<Hidden>,
    ) -> Result<(), String> {
        for dir in parent.places.iter().filter(|p| p.what.is_dir()) {
            let why = match (&dir.used, &redirect) {
                (Use::Hidden(why), _) => why.clone(),
                (Use::Seen, Some(redirect)) => redirect.clone(),
                (Use::Seen, None) => continue,
            };
            let known = |p: &Place| p.layer == dir.layer;
            if self.node.places.iter().any(known) {
                continue;
            }
            if let Some(mut place) = self.union.ask_name(dir.layer, &dir.rel, name.as_bytes())? {
                place.used = Use::Hidden(why);
                self.node.places.push(place);
            }
        }
        Ok(())
    }
}
