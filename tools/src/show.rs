// SPDX-License-Identifier: GPL-2.0
//! `rovl show MOUNT`: its layers and the options in effect.

use crate::json;
use crate::layers::{shown, Layers};
use crate::mountinfo::{Mount, Table};
use crate::options::{self, Pair};
use crate::term::{paint, Colour};
use rustix::fs::{major, minor};
use std::fmt;
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

/// What a layer lies on.
struct Below<'a> {
    mount: &'a Mount,
    device: u64,
    inode: u64,
}

/// An option in effect.
struct Effect {
    key: String,
    value: String,
    /// The kernel does not show it.
    is_default: bool,
    /// What fstab has instead, and why it came to this where that is known.
    asked: Option<(String, Option<&'static str>)>,
}

/// What is to be shown of a mount.
struct Shown<'a> {
    mount: &'a Mount,
    /// The topmost first, the work directory below upper.
    layers: Vec<(String, PathBuf, Result<Below<'a>, String>)>,
    options: Vec<Effect>,
}

pub fn run(path: &Path, base: Option<&Path>, fstab: &Path, json: bool) -> Result<(), String> {
    let table = Table::read()?;
    let mount = table.union_of(path)?;
    let layers = Layers::of_mount(mount, base)?;
    let mut places: Vec<_> = layers
        .all
        .iter()
        .map(|l| (l.to_string(), &l.path))
        .collect();
    let work = layers.work.iter().map(|w| ("work".to_owned(), w));
    let at = usize::from(layers.has_upper());
    places.splice(at..at, work);
    let place = |(name, path): (String, &PathBuf)| (name, path.clone(), below(path, mount, &table));
    let shown = Shown {
        mount,
        layers: places.into_iter().map(place).collect(),
        options: effective(mount, asked(fstab, mount).as_deref()),
    };
    if json {
        json::print(shown.json());
    } else {
        shown.print();
    }
    Ok(())
}

impl Shown<'_> {
    fn print(&self) {
        let mount = self.mount;
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
        let width = self.layers.iter().map(|(_, p, _)| shown(p).chars().count());
        let width = width.max().unwrap_or(0);
        for (name, path, below) in &self.layers {
            let said = match below {
                Ok(below) => below.to_string(),
                Err(why) => format!("({why})"),
            };
            println!("  {name:<9} {:<width$}  {said}", shown(path));
        }
        println!("{}", paint(Colour::Bold, "options in effect:"));
        for option in &self.options {
            let default = if option.is_default { " (default)" } else { "" };
            let line = format!("  {:<13} {}{default}", option.key, option.value);
            match &option.asked {
                Some((value, why)) => {
                    let why = why.map_or("; it was mounted otherwise".to_owned(), |w| {
                        format!(": {w}")
                    });
                    let note = format!("fstab asks for {value}{why}");
                    println!("{line}  {}", paint(Colour::Yellow, &note));
                }
                None => println!("{line}"),
            }
        }
    }

    fn json(&self) -> json::Object {
        let mount = self.mount;
        let mut object = json::Object::new();
        json::put_path(&mut object, "mount", &mount.point);
        object.insert("type".into(), (&*mount.fstype).into());
        json::put_path(&mut object, "source", Path::new(&mount.source));
        object.insert("id".into(), mount.id.into());
        object.insert("device".into(), (&*mount.device).into());
        object.insert("flags".into(), mount.flags.split(',').collect());
        json::put_path(&mut object, "root", &mount.root);
        let layer = |(name, path, below): &(String, PathBuf, Result<Below<'_>, String>)| {
            let mut layer = json::Object::new();
            layer.insert("layer".into(), (&**name).into());
            json::put_path(&mut layer, "path", path);
            match below {
                Ok(below) => below.json(&mut layer),
                Err(why) => drop(layer.insert("unknown".into(), (&**why).into())),
            }
            layer
        };
        object.insert("layers".into(), self.layers.iter().map(layer).collect());
        let option = |option: &Effect| {
            let mut value = json::Object::new();
            value.insert("value".into(), (&*option.value).into());
            value.insert("default".into(), option.is_default.into());
            if let Some((asked, why)) = &option.asked {
                value.insert("asked".into(), (&**asked).into());
                value.insert("why".into(), (*why).into());
            }
            (option.key.clone(), value.into())
        };
        let options: json::Object = self.options.iter().map(option).collect();
        object.insert("options".into(), options.into());
        object
    }
}

impl Below<'_> {
    fn is_read_only(&self) -> bool {
        self.mount.flags.split(',').any(|f| f == "ro")
    }

    fn json(&self, layer: &mut json::Object) {
        layer.insert("type".into(), (&*self.mount.fstype).into());
        json::put_path(layer, "source", Path::new(&self.mount.source));
        json::put_path(layer, "mount", &self.mount.point);
        layer.insert("read_only".into(), self.is_read_only().into());
        let device = format!("{}:{}", major(self.device), minor(self.device));
        layer.insert("device".into(), device.into());
        layer.insert("inode".into(), self.inode.into());
    }
}

impl fmt::Display for Below<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} on {}{}, device {}:{}, inode {}",
            self.mount.fstype,
            self.mount.source.to_string_lossy(),
            shown(&self.mount.point),
            if self.is_read_only() {
                ", read-only"
            } else {
                ""
            },
            major(self.device),
            minor(self.device),
            self.inode
        )
    }
}

/// What a layer lies on, or why that is not known.
fn below<'a>(path: &Path, union: &Mount, table: &'a Table) -> Result<Below<'a>, String> {
    if path.is_relative() {
        return Err("a relative name; say where the mount was made with --base DIR".to_owned());
    }
    let stat = rustix::fs::stat(path)
        .map_err(|e| format!("cannot be looked at: {e}; another mount namespace?"))?;
    let mount = table
        .of(&path.canonicalize().unwrap_or_else(|_| path.into()))
        .map_err(|_| "its mount is not seen from here".to_owned())?;
    if mount.id == union.id {
        return Err("hidden: this mount lies over it".to_owned());
    }
    Ok(Below {
        mount,
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

/// The options that the kernel shows, and the defaults of those that it does not; beside them what was asked for.
fn effective(mount: &Mount, asked: Option<&[Pair]>) -> Vec<Effect> {
    let mut all: Vec<Effect> = Vec::new();
    let mut add = |key: String, value: String, is_default| {
        let asked = asked.and_then(|asked| differs(asked, mount, &key, &value));
        all.push(Effect {
            key,
            value,
            is_default,
            asked,
        });
    };
    let mut seen = Vec::new();
    for (key, value) in &mount.options {
        let key = String::from_utf8_lossy(key).into_owned();
        if LAYERS.contains(&&*key) {
            continue;
        }
        let value = value.as_deref().map(String::from_utf8_lossy);
        seen.push(key.clone());
        add(key, value.unwrap_or("on".into()).into_owned(), false);
    }
    for (key, parameter, builtin) in KNOWN {
        let only_rovl = key == "copy_up" && mount.fstype != "rovl";
        if seen.iter().any(|k| k == key) || only_rovl {
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
        add(key.to_owned(), default.to_owned(), true);
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
fn differs(
    asked: &[Pair],
    mount: &Mount,
    key: &str,
    effect: &str,
) -> Option<(String, Option<&'static str>)> {
    let (_, value) = asked.iter().rev().find(|(k, _)| k == key.as_bytes())?;
    let value = value.as_deref().map(String::from_utf8_lossy);
    let value = value.unwrap_or("on".into());
    if value == effect {
        return None;
    }
    let upper = mount.has("upperdir");
    let why = match (key, &*value, effect) {
        ("redirect_dir", "off", "follow" | "nofollow") => return None,
        ("redirect_dir", _, "nofollow") => {
            Some("upper has no extended attributes, or userxattr is given")
        }
        ("metacopy", "on", _) => {
            Some("it needs redirect_dir=on, and an upper with extended attributes")
        }
        ("uuid", _, "null") if !upper => Some("without upper there is no UUID"),
        ("uuid", "auto", "null") => {
            Some("upper was used without a UUID, or has no extended attributes")
        }
        ("uuid", "auto", "on") => return None,
        ("fsync", "volatile", _) if !upper => Some("without upper it has no effect"),
        ("index" | "nfs_export", "on", _) => {
            Some("upper has no extended attributes or file handles")
        }
        ("xino", "on", "off") => Some("all layers are on one filesystem"),
        ("xino", "auto", "off") => Some(
            "upper has no extended attributes, a lower layer no file handles or UUID of its own, or all are on one \
             filesystem",
        ),
        _ => None,
    };
    Some((value.into_owned(), why))
}
