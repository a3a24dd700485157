// SPDX-License-Identifier: GPL-2.0
//! A whole tree, as a mount shows it or as it lies on disk, and what two of them differ in.

use crate::exec::list_dir;
use crate::outcome::{field_difference, show};
use crate::side::Ids;
use crate::sys::{self, Sys};
use rustc_hash::FxHasher;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp, CWD};
use std::ffi::CString;
use std::hash::Hasher;

/// Times before this were set on purpose and have to agree; later ones are those of the run.
const RECENT: i64 = 1_500_000_000;

/// Without NOATIME, a look would change what it looks at.
const LOOK: OFlags = OFlags::NOATIME.union(OFlags::CLOEXEC);

/// Which of the union's own attributes a name is, if it is one.
pub fn mark(name: &str) -> Option<&str> {
    name.strip_prefix("trusted.overlay.")
        .or_else(|| name.strip_prefix("user.overlay."))
}

/// Whether it is one of those whose value differs.
fn has_other_value(name: &[u8]) -> bool {
    let mark = std::str::from_utf8(name).ok().and_then(mark);
    matches!(mark, Some("origin" | "uuid"))
}

/// A time that can be compared between the sides: 0 is "of this run".
fn time(t: StatxTimestamp) -> u64 {
    if t.tv_sec >= RECENT {
        0
    } else {
        (t.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(t.tv_nsec.into())
    }
}

/// Which of its views a tree is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The mount.
    Merged,
    /// The upper layer on disk.
    Upper,
    /// A lower layer on disk, to be compared with itself.
    Lower,
}

/// An object of a tree.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    pub path: Vec<u8>,
    /// Type and mode.
    pub mode: u32,
    pub fields: Vec<(&'static str, u64)>,
    pub target: Vec<u8>,
    /// Sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Item {
    pub fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether it has an attribute of the union's own.
    pub fn is_marked(&self, wanted: &str) -> bool {
        self.xattrs
            .iter()
            .any(|(name, _)| std::str::from_utf8(name).ok().and_then(mark) == Some(wanted))
    }

    pub fn xattr(&self, name: &str) -> Option<&[u8]> {
        self.xattrs
            .iter()
            .find(|(n, _)| n == name.as_bytes())
            .map(|(_, v)| &**v)
    }
}

/// What a stat must agree in.
pub fn stat_fields(stat: &Statx, ids: &mut Ids, mut put: impl FnMut(&'static str, u64)) {
    let mode = u32::from(stat.stx_mode);
    let is_dir = mode & libc::S_IFMT == libc::S_IFDIR;
    let dev = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    let (dev, ino) = ids.rank(dev, stat.stx_ino, is_dir);
    put("mode", mode.into());
    put("uid", stat.stx_uid.into());
    put("gid", stat.stx_gid.into());
    put(
        if is_dir { "dir nlink" } else { "nlink" },
        stat.stx_nlink.into(),
    );
    put(if is_dir { "dir size" } else { "size" }, stat.stx_size);
    put(
        "rdev",
        rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
    );
    put("atime", time(stat.stx_atime));
    put("mtime", time(stat.stx_mtime));
    put("dev", dev.into());
    put("ino", ino.into());
    put("blksize", stat.stx_blksize.into());
    let attributes = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND | StatxAttributes::NODUMP;
    put("attributes", (stat.stx_attributes & attributes).bits());
}

/// Reads a tree; its objects are sorted by path.
pub fn read(root: &str, view: View, ids: &mut Ids) -> Sys<Vec<Item>> {
    ids.moment();
    let mut items = Vec::new();
    let mut todo = vec![(Vec::new(), None)];
    while let Some((path, ino)) = todo.pop() {
        let mut full = root.as_bytes().to_vec();
        if !path.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(&path);
        let full = CString::new(full).unwrap_or_default();
        let item = object(&full, path, ino, view, ids, &mut todo);
        items.push(item);
    }
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(items)
}

fn object(
    full: &CString,
    path: Vec<u8>,
    listed_ino: Option<u64>,
    view: View,
    ids: &mut Ids,
    todo: &mut Vec<(Vec<u8>, Option<u64>)>,
) -> Item {
    let mut item = Item {
        path,
        mode: 0,
        fields: Vec::new(),
        target: Vec::new(),
        xattrs: Vec::new(),
    };
    let stat = match rustix::fs::statx(
        CWD,
        &**full,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    ) {
        Ok(stat) => stat,
        Err(e) => {
            item.fields.push(("stat error", e.raw_os_error() as u64));
            return item;
        }
    };
    item.mode = stat.stx_mode.into();
    let kind = item.mode & libc::S_IFMT;
    let rdev = (stat.stx_rdev_major, stat.stx_rdev_minor);
    if view == View::Upper && kind == libc::S_IFCHR && rdev == (0, 0) {
        // A link of one that is shared: nothing but its name counts.
        return item;
    }
    let fields = &mut item.fields;
    match view {
        View::Merged => {
            stat_fields(&stat, ids, |name, value| fields.push((name, value)));
            // With several filesystems they need not be the same, but may be by accident.
            if let Some(ino) = listed_ino.filter(|_| !ids.split) {
                fields.push(("d_ino", (ino == stat.stx_ino).into()));
            }
        }
        View::Upper => stat_fields(&stat, &mut Ids::default(), |name, value| {
            if !matches!(name, "dev" | "ino" | "attributes" | "blksize") {
                fields.push((name, value));
            }
        }),
        View::Lower => {
            stat_fields(&stat, &mut Ids::default(), |name, value| {
                fields.push((name, value))
            });
            fields.push(("inode", stat.stx_ino));
            fields.push((
                "changed",
                stat.stx_ctime.tv_sec as u64 * 1_000_000_000 + u64::from(stat.stx_ctime.tv_nsec),
            ));
        }
    }
    let mut fail = |what, e: rustix::io::Errno| fields.push((what, e.raw_os_error() as u64));
    match kind {
        libc::S_IFDIR => match list(full) {
            Ok(mut entries) => {
                // The order of a listing is free; that of the numbers' ranks is not.
                entries.sort_unstable_by(|a, b| b.1.cmp(&a.1));
                for e in entries {
                    let mut path = item.path.clone();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(&e.1);
                    todo.push((path, Some(e.0)));
                }
            }
            Err(e) => fail("list error", e),
        },
        // The time of the last change says more than the content of a lower file.
        libc::S_IFREG if view != View::Lower => match hash(full) {
            Ok(hash) => fields.push(("content", hash)),
            Err(e) => fail("read error", e),
        },
        libc::S_IFLNK if view != View::Lower => {
            match rustix::fs::readlinkat(CWD, &**full, Vec::new()) {
                Ok(target) => item.target = target.into_bytes(),
                Err(e) => fail("readlink error", e),
            }
        }
        _ => {}
    }
    if view == View::Lower {
        return item;
    }
    match xattrs(full, view) {
        Ok(list) => item.xattrs = list,
        Err(e) => item.fields.push(("xattr error", e.raw_os_error() as u64)),
    }
    item
}

fn list(full: &CString) -> Sys<Vec<(u64, Vec<u8>)>> {
    let fd = rustix::fs::open(&**full, LOOK | OFlags::DIRECTORY, Mode::empty())?;
    let entries = list_dir(fd.as_fd(), 32768)?;
    Ok(entries
        .into_iter()
        .filter(|e| e.name != b"." && e.name != b"..")
        .map(|e| (e.ino, e.name))
        .collect())
}

/// A hash of a file's content.
pub fn hash(full: &CString) -> Sys<u64> {
    let fd = rustix::fs::open(&**full, LOOK, Mode::empty())?;
    let mut hasher = FxHasher::default();
    let mut buf = [0u8; 16384];
    loop {
        let n = rustix::io::read(&fd, &mut buf)?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.write(&buf[..n]);
    }
}

fn xattrs(full: &CString, view: View) -> Sys<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut buf = [0u8; 8192];
    let n = rustix::fs::llistxattr(&**full, &mut buf[..])?;
    let mut list = Vec::new();
    for name in buf[..n].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = [0u8; 4096];
        let value = match rustix::fs::lgetxattr(&**full, name, &mut value[..]) {
            // A file handle, a random number: what is in it is another one on each side.
            Ok(n) if view == View::Upper && has_other_value(name) => {
                format!("{n} bytes").into_bytes()
            }
            Ok(n) => value[..n].to_vec(),
            Err(e) => sys::name(e).as_bytes().to_vec(),
        };
        list.push((name.to_vec(), value));
    }
    list.sort_unstable();
    Ok(list)
}

/// A difference of two trees.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The path, printable.
    pub path: String,
    /// What differs: "missing", a field, an xattr.
    pub what: String,
    pub text: String,
}

/// All that differs between two trees; `ignore` may wave a difference through.
pub fn compare(
    a: &[Item],
    b: &[Item],
    mut ignore: impl FnMut(Option<&Item>, Option<&Item>, &str) -> bool,
) -> Vec<Difference> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let order = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.path.cmp(&y.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        let x = (order.is_le()).then(|| &a[i]);
        let y = (order.is_ge()).then(|| &b[j]);
        i += usize::from(x.is_some());
        j += usize::from(y.is_some());
        if x == y {
            continue;
        }
        let path = show(&x.or(y).map(|e| e.path.clone()).unwrap_or_default());
        let mut found = |what: &str, text: String| {
            if !ignore(x, y, what) {
                out.push(Difference {
                    path: path.clone(),
                    what: what.to_owned(),
                    text,
                });
            }
        };
        let (Some(x), Some(y)) = (x, y) else {
            found(
                "missing",
                format!(
                    "only in the {}",
                    if x.is_some() { "first" } else { "second" }
                ),
            );
            continue;
        };
        if x.mode != y.mode {
            found("mode", format!("{:o} {:o}", x.mode, y.mode));
        }
        for (p, q) in x.fields.iter().zip(&y.fields) {
            if p.0 != q.0 {
                found(p.0, format!("{} {}, {} {}", p.0, p.1, q.0, q.1));
                break;
            }
            if p != q && p.0 != "mode" {
                let root = if x.path.is_empty() && p.0 == "attributes" {
                    "root "
                } else {
                    ""
                };
                found(
                    &format!("{root}{}", field_difference(p.0, p.1, q.1)),
                    format!("{} {}", p.1, q.1),
                );
            }
        }
        if x.target != y.target {
            found("target", format!("{} {}", show(&x.target), show(&y.target)));
        }
        for (name, value) in &x.xattrs {
            let name = String::from_utf8_lossy(name);
            match y.xattr(&name) {
                Some(other) if other == &**value => {}
                Some(other) => found(&name, format!("{} {}", show(value), show(other))),
                None => found(&name, format!("{} only in the first", show(value))),
            }
        }
        for (name, value) in &y.xattrs {
            let name = String::from_utf8_lossy(name);
            if x.xattr(&name).is_none() {
                found(&name, format!("{} only in the second", show(value)));
            }
        }
    }
    out
}
