// SPDX-License-Identifier: GPL-2.0
//! `rovl which PATH`: where what a union shows comes from, and what hides the rest.

use crate::json;
use crate::layers::{shown, Layers};
use crate::merge::{Hidden, Node, Place, Union, Use, What};
use crate::mountinfo::Table;
use crate::term::{paint, Colour};
use rustix::fs::FileType;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
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
pub fn run(path: &Path, base: Option<&Path>, json: bool) -> Result<bool, String> {
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
    if json {
        json::print(described(&union.layers, path, &node));
    } else {
        print(&union.layers, path, &node);
    }
    Ok(node.top().is_some())
}

fn print(layers: &Layers, path: &Path, node: &Node) {
    println!("{}: {}", paint(Colour::Bold, &shown(path)), head(node));
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

fn head(node: &Node) -> &'static str {
    match (node.top(), node.places.first()) {
        (Some(place), _) => kind(place),
        (None, Some(_)) => "removed",
        (None, None) => "no layer has it",
    }
}

/// The same as JSON: what each layer has, with what is used of it and what hides it.
fn described(layers: &Layers, path: &Path, node: &Node) -> json::Object {
    let describe = |place: &Place| {
        let mut object = json::Object::new();
        object.insert("layer".into(), layers.all[place.layer].to_string().into());
        json::put_path(&mut object, "path", &layers.at(place.layer, &place.rel));
        let kind = match place.what {
            What::Whiteout => "whiteout",
            _ => kind(place),
        };
        object.insert("type".into(), kind.into());
        object.insert("opaque".into(), (place.what == What::Opaque).into());
        if let Some(redirect) = &place.redirect {
            json::put_path(
                &mut object,
                "redirect",
                Path::new(OsStr::from_bytes(redirect)),
            );
        }
        let is_seen = place.used == Use::Seen;
        let is_file = !place.what.is_dir();
        let attributes = is_seen && node.has_attributes_of(place);
        let data = is_seen && is_file && node.has_data_of(place) && !node.is_broken;
        object.insert("attributes".into(), attributes.into());
        object.insert("data".into(), data.into());
        object.insert("entries".into(), (is_seen && !is_file).into());
        if let Some(hidden) = place.hidden() {
            let (by, layer, at) = hidden.parts();
            let mut by_what = json::Object::new();
            by_what.insert("by".into(), by.into());
            by_what.insert("layer".into(), layers.all[layer].to_string().into());
            if let Some(at) = at {
                json::put_path(&mut by_what, "path", &Path::new("/").join(at));
            }
            object.insert("hidden".into(), by_what.into());
        }
        object
    };
    let mut object = json::Object::new();
    json::put_path(&mut object, "path", path);
    let kind = node.top().map(kind);
    object.insert("type".into(), kind.into());
    object.insert("broken".into(), node.is_broken.into());
    object.insert("layers".into(), node.places.iter().map(describe).collect());
    object
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
    let why = match place.hidden() {
        None if place.what == What::Whiteout => {
            let text = "whiteout: hides the name in the layers below";
            return (Colour::Red, text.to_owned());
        }
        None => return seen(node, place),
        Some(Hidden::Whiteout(layer, at)) => {
            format!("the whiteout {} in {}", rel(at), layers.all[*layer])
        }
        Some(Hidden::Opaque(layer, at)) => {
            format!("the opaque directory {} in {}", rel(at), layers.all[*layer])
        }
        Some(Hidden::Covered(layer)) => format!("what {} has", layers.all[*layer]),
        Some(Hidden::Redirect(layer, at)) => {
            format!("the redirect of {} in {}", rel(at), layers.all[*layer])
        }
    };
    (Colour::Dim, format!("hidden by {why}"))
}

fn seen(node: &Node, place: &Place) -> (Colour, String) {
    let is_first = node.has_attributes_of(place);
    let is_last = node.has_data_of(place);
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
