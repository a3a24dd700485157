// SPDX-License-Identifier: GPL-2.0
//! `rovl show MOUNT`: its layers and the options in effect.

use crate::layers::{shown, Layers};
use crate::mountinfo::{Mount, Table};
use crate::options::{self, Pair};
use crate::term::{paint, Colour};
use rustix::fs::{major, minor};
use std::path::{Path, PathBuf};

/// An option, the parameter of the module that is its default where there is one, and what it is else.
const KNOWN: [(&str, Option<&str>, &str); 10] = [
    ("redirect_dir", Some("redirect_dir"), "off"),
    ("metacopy", Some("metacopy"), "off"),
    ("index", Some("index"), "off"),
    ("nfs_export", Some("nfs_export"), "off"),
    ("xino", Some("xino_auto"), "off"),
    ("uuid", None, "auto"),
    ("verity", None, "off"),
    ("fsync", None, "auto"),
    ("userxattr", None, "off"),
    ("copy_up", None, "write"),
];

const LAYERS: [&str; 6] = [
    "lowerdir",
    "lowerdir+",
    "datadir+",
    "upperdir",
    "workdir",
    "layers",
];

pub fn run(path: &Path, base: Option<&Path>, fstab: &Path) -> Result<(), String> {
    let table = Table::read()?;
    let mount = table.union_of(path)?;
    let layers = Layers::of_mount(mount, base)?;
    println!(
        "{}: {} '{}', mount {}, device {}, {}",
        paint(Colour::Bold, &shown(&mount.point)),
        mount.fstype,
        mount.source.to_string_lossy(),
        mount.id,
        mount.device,
        mount.flags.replace(',', ", ")
    );
    if mount.root != Path::new("/") {
        println!("  of the union only {} is mounted here", shown(&mount.root));
    }
    println!("{}", paint(Colour::Bold, "layers, the topmost first:"));
    let name = |l: &crate::layers::Layer| (l.to_string(), l.path.clone());
    let mut lines: Vec<(String, PathBuf)> = layers.all.iter().map(name).collect();
    let work = layers.work.iter().map(|w| ("work".to_owned(), w.clone()));
    let at = usize::from(layers.has_upper());
    lines.splice(at..at, work);
    let width = lines.iter().map(|(_, p)| shown(p).chars().count());
    let width = width.max().unwrap_or(0);
    for (name, path) in &lines {
        let said = below(path, mount, &table);
        println!("  {:<9} {:<width$}  {said}", name, shown(path));
    }
    println!("{}", paint(Colour::Bold, "options in effect:"));
    let asked = asked(fstab, mount);
    for (key, text) in effective(mount) {
        let note = asked
            .as_deref()
            .and_then(|a| differs(a, mount, &key, &text));
        let line = format!("  {key:<13} {text}");
        match note {
            Some(note) => println!("{line}  {}", paint(Colour::Yellow, &note)),
            None => println!("{line}"),
        }
    }
    Ok(())
}

/// What a layer lies on.
fn below(path: &Path, union: &Mount, table: &Table) -> String {
    if path.is_relative() {
        return "(a relative name; say where the mount was made with --base DIR)".to_owned();
    }
    let stat = match rustix::fs::stat(path) {
        Ok(stat) => stat,
        Err(e) => return format!("(cannot be looked at: {e}; another mount namespace?)"),
    };
    let Ok(mount) = table.of(&path.canonicalize().unwrap_or_else(|_| path.into())) else {
        return "(its mount is not seen from here)".to_owned();
    };
    if mount.id == union.id {
        return "(hidden: this mount lies over it)".to_owned();
    }
    let read_only = if mount.flags.split(',').any(|f| f == "ro") {
        ", read-only"
    } else {
        ""
    };
    format!(
        "{} {} on {}{read_only}, device {}:{}, inode {}",
        mount.fstype,
        mount.source.to_string_lossy(),
        shown(&mount.point),
        major(stat.st_dev),
        minor(stat.st_dev),
        stat.st_ino
    )
}

/// The options that the kernel shows, and the defaults of those that it does not.
fn effective(mount: &Mount) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (key, value) in &mount.options {
        let key = String::from_utf8_lossy(key).into_owned();
        if LAYERS.contains(&&*key) {
            continue;
        }
        let value = value.as_deref().map(String::from_utf8_lossy);
        all.push((
            key,
            value.map_or_else(|| "on".to_owned(), |v| v.into_owned()),
        ));
    }
    for (key, parameter, builtin) in KNOWN {
        let only_rovl = key == "copy_up" && mount.fstype != "rovl";
        if all.iter().any(|(k, _)| k == key) || only_rovl {
            continue;
        }
        let file = parameter.map(|p| format!("/sys/module/{}/parameters/{p}", mount.fstype));
        let read = file.and_then(|f| std::fs::read_to_string(f).ok());
        let default = match read.as_deref().map(str::trim) {
            Some("Y") if key == "xino" => "auto",
            Some("Y") => "on",
            Some("N") => "off",
            _ => builtin,
        };
        all.push((key.to_owned(), format!("{default} (default)")));
    }
    all
}

/// The options that fstab has for the mount point.
fn asked(fstab: &Path, mount: &Mount) -> Option<Vec<Pair>> {
    let text = std::fs::read(fstab).ok()?;
    let (.., asked) = crate::mountinfo::fstab(&text)
        .find(|(point, fstype, _)| *point == mount.point && *fstype == mount.fstype.as_bytes())?;
    Some(options::split(asked))
}

/// What fstab has instead, and why it came to this where that is known.
fn differs(asked: &[Pair], mount: &Mount, key: &str, effect: &str) -> Option<String> {
    let (_, value) = asked.iter().rev().find(|(k, _)| k == key.as_bytes())?;
    let value = value.as_deref().map(String::from_utf8_lossy);
    let value = value.unwrap_or("on".into());
    let effect = effect.strip_suffix(" (default)").unwrap_or(effect);
    if value == effect {
        return None;
    }
    let upper = mount.has("upperdir");
    let why = match (key, &*value, effect) {
        ("redirect_dir", "off", "follow" | "nofollow") => return None,
        ("redirect_dir", _, "nofollow") => {
            ": upper has no extended attributes, or userxattr is given"
        }
        ("metacopy", "on", _) => {
            ": it needs redirect_dir=on, and an upper with extended attributes"
        }
        ("uuid", _, "null") if !upper => ": without upper there is no UUID",
        ("uuid", "auto", "null") => {
            ": upper was used without a UUID, or has no extended attributes"
        }
        ("uuid", "auto", "on") => return None,
        ("fsync", "volatile", _) if !upper => ": without upper it has no effect",
        ("index" | "nfs_export", "on", _) => ": upper has no extended attributes or file handles",
        ("xino", "on", "off") => ": all layers are on one filesystem",
        ("xino", "auto", "off") => {
            ": upper has no extended attributes, a lower layer no file handles or UUID of its own, or all are on \
             one filesystem"
        }
        _ => "; it was mounted otherwise",
    };
    Some(format!("fstab asks for {value}{why}"))
}
