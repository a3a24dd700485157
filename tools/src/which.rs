// SPDX-License-Identifier: GPL-2.0
//! `rovl which PATH`: where what a union shows comes from, and what hides the rest.

use crate::layers::{shown, Layers};
use crate::merge::{Hidden, Node, Place, Union, Use, What};
use crate::mountinfo::Table;
use crate::term::{paint, Colour};
use rustix::fs::FileType;
use std::path::{Path, PathBuf};

/// The path of a name whose last component may be a symlink, or absent.
fn real(path: &Path) -> Result<PathBuf, String> {
    let failed = |e| format!("{}: {e}", path.display());
    let Some(name) = path.file_name() else {
        return path.canonicalize().map_err(failed);
    };
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Ok(parent.canonicalize().map_err(failed)?.join(name))
}

/// Whether something is shown there.
pub fn run(path: &Path, base: Option<&Path>) -> Result<bool, String> {
    let table = Table::read()?;
    let real = real(path)?;
    let mount = match crate::layers::lstat(&real) {
        Ok(None) => table.union_of(real.parent().unwrap_or(&real))?,
        // It may be there and the union refuse it: its mount is its directory's.
        Err(_) => table.union_of(real.parent().unwrap_or(&real))?,
        Ok(Some(_)) => table.union_of(&real)?,
    };
    let below = real
        .strip_prefix(&mount.point)
        .map_err(|_| format!("{} is not below {}", real.display(), mount.point.display()))?;
    let root = mount.root.strip_prefix("/").unwrap_or(&mount.root);
    let rel = root.join(below);
    let layers = Layers::of_mount(mount, base)?.readable(Some((mount, &table)))?;
    let union = Union::new(layers, true)?;
    let node = union.find(&rel)?;
    print(&union.layers, path, &node);
    Ok(node.top().is_some())
}

fn print(layers: &Layers, path: &Path, node: &Node) {
    let head = match node.top() {
        Some(place) => kind(place),
        None => match node.places.first() {
            Some(_) => "removed",
            None => "no layer has it",
        },
    };
    println!("{}: {head}", paint(Colour::Bold, &shown(path)));
    let wide = |p: &Place| shown(&layers.at(p.layer, &p.rel)).chars().count();
    let width = node.places.iter().map(wide).max().unwrap_or(0);
    for place in &node.places {
        let name = layers.all[place.layer].to_string();
        let at = shown(&layers.at(place.layer, &place.rel));
        let (colour, role) = role(layers, node, place);
        println!("  {name:<9} {at:<width$}  {}", paint(colour, &role));
    }
    if node.is_broken {
        println!("  no layer below has the data: reading fails (EIO)");
    }
}

fn kind(place: &Place) -> &'static str {
    match FileType::from_raw_mode(place.stat.st_mode) {
        FileType::Directory => "directory",
        FileType::RegularFile => "regular file",
        FileType::Symlink => "symbolic link",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::Unknown => "unknown",
    }
}

fn role(layers: &Layers, node: &Node, place: &Place) -> (Colour, String) {
    let rel = |p: &Path| format!("/{}", shown(p));
    let why = match &place.used {
        Use::Seen => return seen(node, place),
        Use::Hidden(Hidden::Whiteout(layer, at)) if (*layer, at) == (place.layer, &place.rel) => {
            return (
                Colour::Red,
                "whiteout: hides the name in the layers below".to_owned(),
            );
        }
        Use::Hidden(Hidden::Whiteout(layer, at)) => {
            format!("the whiteout {} in {}", rel(at), layers.all[*layer])
        }
        Use::Hidden(Hidden::Opaque(layer, at)) => {
            format!("the opaque directory {} in {}", rel(at), layers.all[*layer])
        }
        Use::Hidden(Hidden::Covered(layer)) => format!("what {} has", layers.all[*layer]),
        Use::Hidden(Hidden::Redirect(layer, at)) => {
            format!("the redirect of {} in {}", rel(at), layers.all[*layer])
        }
    };
    (Colour::Dim, format!("hidden by {why}"))
}

fn seen(node: &Node, place: &Place) -> (Colour, String) {
    let is = |other: Option<&Place>| other.is_some_and(|o| o.layer == place.layer);
    let is_first = is(node.top());
    let is_last = is(node.data());
    let mut text = match (place.what, is_first, is_last) {
        (What::Dir | What::Opaque, true, _) => "attributes, entries",
        (What::Dir | What::Opaque, false, _) => "entries (merged)",
        (_, true, true) if !node.is_broken => "attributes and data",
        (_, true, _) => "attributes (metacopy: the data is below)",
        (What::Bare, ..) => "neither (metacopy, too: the data is below)",
        _ => "data",
    }
    .to_owned();
    if place.what == What::Opaque {
        text += "; opaque: hides the layers below";
    }
    if let Some(redirect) = &place.redirect {
        let redirect = String::from_utf8_lossy(redirect);
        text += &format!("; redirect: the layers below have it as '{redirect}'");
    }
    (
        if is_first {
            Colour::Green
        } else {
            Colour::Cyan
        },
        text,
    )
}
