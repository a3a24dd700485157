// SPDX-License-Identifier: GPL-2.0
//! The layers of a union, and what one object of a layer says: its kind and the union's own attributes on it.

use crate::mountinfo::{Mount, Table};
use crate::options::{self, Role};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, CWD};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub struct Layer {
    pub role: Role,
    /// From 1, the topmost first.
    number: usize,
    pub path: PathBuf,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Upper => f.write_str("upper"),
            Role::Work => f.write_str("work"),
            Role::Lower => write!(f, "lower {}", self.number),
            Role::Data => write!(f, "data {}", self.number),
        }
    }
}

/// The layers, the topmost first; those that have data alone last.
pub struct Layers {
    pub all: Vec<Layer>,
    pub work: Option<PathBuf>,
    /// The attributes are `user.overlay.*`.
    pub userxattr: bool,
}

impl Layers {
    /// Those of directories.
    pub fn of_dirs(
        upper: Option<PathBuf>,
        lowers: Vec<PathBuf>,
        data: Vec<PathBuf>,
        userxattr: bool,
    ) -> Layers {
        let upper = upper.into_iter().map(|path| (Role::Upper, path));
        let lowers = lowers.into_iter().map(|path| (Role::Lower, path));
        let data = data.into_iter().map(|path| (Role::Data, path));
        Layers::new(upper.chain(lowers).chain(data), userxattr)
    }

    fn new(named: impl Iterator<Item = (Role, PathBuf)>, userxattr: bool) -> Layers {
        let (mut all, mut work): (Vec<Layer>, _) = (Vec::new(), None);
        for (role, path) in named {
            if role == Role::Work {
                work = Some(path);
                continue;
            }
            let number = 1 + all.iter().filter(|l| l.role == role).count();
            all.push(Layer { role, number, path });
        }
        let order = [Role::Upper, Role::Lower, Role::Data];
        all.sort_by_key(|l| order.iter().position(|r| *r == l.role));
        Layers {
            all,
            work,
            userxattr,
        }
    }

    /// Those that the kernel shows for a mount. Names that were given as relative ones start at `base`.
    pub fn of_mount(mount: &Mount, base: Option<&Path>) -> Result<Layers, String> {
        let mut named = Vec::new();
        for (key, value) in &mount.options {
            let Some(value) = value else { continue };
            // A descriptor's path is shown as it is, a name that was given as it was given, with its backslashes.
            let either = |value: &[u8]| {
                let raw = PathBuf::from(OsStr::from_bytes(value));
                match raw.symlink_metadata() {
                    Ok(_) => raw,
                    Err(_) => OsString::from_vec(options::unescape(value)).into(),
                }
            };
            let raw = || PathBuf::from(OsStr::from_bytes(value));
            match &key[..] {
                b"lowerdir" => {
                    let lowers = options::lowers(value)?;
                    named.extend(lowers.into_iter().map(|l| (l.role, l.name)));
                }
                b"lowerdir+" => named.push((Role::Lower, raw())),
                b"datadir+" => named.push((Role::Data, raw())),
                b"upperdir" => named.push((Role::Upper, either(value))),
                b"workdir" => named.push((Role::Work, either(value))),
                _ => {}
            }
        }
        if let Some(base) = base {
            named
                .iter_mut()
                .for_each(|(_, path)| *path = base.join(&*path));
        }
        Ok(Layers::new(named.into_iter(), mount.has("userxattr")))
    }

    /// Whether they can be read as they are: found, not hidden, and with their attributes.
    pub fn readable(self, mount: Option<(&Mount, &Table)>) -> Result<Layers, String> {
        for layer in &self.all {
            let name = layer.path.display();
            if mount.is_some() && layer.path.is_relative() {
                return Err(format!(
                    "the mount names {layer} as '{name}', relative to where it was made; say where that was with --base DIR"
                ));
            }
            let stat = rustix::fs::stat(&layer.path).map_err(|e| format!("{layer} {name}: {e}"))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(format!("{layer} {name} is not a directory"));
            }
            if let Some((mount, table)) = mount {
                if table.of(&layer.path).is_ok_and(|m| m.id == mount.id) {
                    return Err(format!(
                        "{layer} {name} cannot be read: the mount lies over it; name the layers from elsewhere with --upper and --lower"
                    ));
                }
            }
        }
        if !self.userxattr && !sees_trusted() {
            return Err("the layers' attributes (trusted.overlay.*) can be read by root alone: use sudo, or --userxattr where they are user.overlay.*".to_owned());
        }
        Ok(self)
    }

    /// The name of one of the union's own attributes.
    pub fn own(&self, mark: &str) -> String {
        format!("{}{mark}", self.prefix())
    }

    pub fn prefix(&self) -> &'static str {
        match self.userxattr {
            true => "user.overlay.",
            false => "trusted.overlay.",
        }
    }

    pub fn has_upper(&self) -> bool {
        self.all.first().is_some_and(|l| l.role == Role::Upper)
    }

    /// Where `rel` is in a layer.
    pub fn at(&self, layer: usize, rel: &Path) -> PathBuf {
        self.all[layer].path.join(rel)
    }

    /// Opens a file of a layer to read it. Whoever may write to the layer cannot lead elsewhere by a symlink.
    pub fn open(&self, layer: usize, rel: &Path) -> Result<File, String> {
        let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        self.open_beneath(layer, rel, file, ResolveFlags::empty())
            .map(File::from)
            .map_err(|e| format!("{}: {e}", self.at(layer, rel).display()))
    }

    /// What is at `rel`, which the layer itself does not say, as the kernel looks for data there: no symlink is followed, `..`
    /// leads up within the layer, nothing leads to another filesystem.
    pub fn beneath(&self, layer: usize, rel: &Path) -> Result<Option<Stat>, String> {
        let found = self.open_beneath(layer, rel, OFlags::PATH, ResolveFlags::NO_XDEV);
        match found.and_then(rustix::fs::fstat) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(e) => Err(format!("{}: {e}", self.at(layer, rel).display())),
        }
    }

    fn open_beneath(
        &self,
        layer: usize,
        rel: &Path,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.all[layer].path, dir, Mode::empty())?;
        let resolve = resolve | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(root, rel, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// The value of an attribute of the union's own.
    pub fn mark(&self, path: &Path, mark: &str) -> Result<Option<Vec<u8>>, String> {
        xattr(path, OsStr::new(&self.own(mark)))
    }

    /// Whether a name is one of the union's own; those that a user of it stored have the prefix twice.
    pub fn is_own(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.prefix().as_bytes())
            .is_some_and(|rest| !rest.starts_with(b"overlay."))
    }
}

/// Whether this process sees `trusted.*`: it has the capability in the first user namespace.
fn sees_trusted() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let first = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let capable = rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::SYS_ADMIN)
    });
    first && capable
}

pub fn lstat(path: &Path) -> Result<Option<Stat>, String> {
    match rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// Whether both are there, and are one.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    let id = |name| rustix::fs::stat(name).map(|s| (s.st_dev, s.st_ino));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

/// Whether it is a device that hides a name.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// One attribute; `None` where there is none.
pub fn xattr(path: &Path, name: &OsStr) -> Result<Option<Vec<u8>>, String> {
    let mut value = vec![0; 65536];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(n) => {
            value.truncate(n);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(None),
        Err(e) => Err(format!(
            "{}: attribute {}: {e}",
            path.display(),
            name.to_string_lossy()
        )),
    }
}

/// All attributes, by name.
pub fn xattrs(path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, String> {
    let mut names = vec![0; 65536];
    let len = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(format!("{}: attributes: {e}", path.display())),
    };
    let mut all = Vec::new();
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let name = OsStr::from_bytes(name);
        if let Some(value) = xattr(path, name)? {
            all.push((name.to_owned(), value));
        }
    }
    all.sort();
    Ok(all)
}

/// The names in a directory, in the order of their bytes.
pub fn names(dir: &Path) -> Result<Vec<OsString>, String> {
    let failed = |e| format!("{}: {e}", dir.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// A path for people: what is not printable, or a backslash, is a backslash and three octal digits.
pub fn shown(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\134"),
                c if c.is_control() => {
                    let mut bytes = [0; 4];
                    let bytes = c.encode_utf8(&mut bytes).bytes();
                    bytes.for_each(|b| out.push_str(&format!("\\{b:03o}")));
                }
                c => out.push(c),
            }
        }
        let invalid = chunk.invalid().iter();
        invalid.for_each(|b| out.push_str(&format!("\\{b:03o}")));
    }
    out
}
