// SPDX-License-Identifier: GPL-2.0
//! A tree as a value: what users see of it, to be compared.

use anyhow::{Context, Result};
use std::collections::hash_map::DefaultHasher;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::hash::Hasher;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Times of everything that a test makes beforehand; whatever is younger was changed by it.
pub const OLD: i64 = 1_000_000_000;
/// Times before this are told exactly.
const RECENT: i64 = 1_600_000_000;

/// An object.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// `f`, `d`, `l`, `c`, `p` or `s`.
    pub kind: char,
    /// Permissions.
    pub mode: u32,
    owner: (u32, u32),
    rdev: u64,
    /// 0 for directories.
    nlink: u64,
    /// 0 for directories.
    pub size: u64,
    /// Seconds; `None` if recent or a directory's.
    mtime: Option<i64>,
    /// Of the content or the link's target.
    pub hash: u64,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{:o} {}:{} dev {} links {} size {} mtime {:?} {:08x}",
            self.kind,
            self.mode,
            self.owner.0,
            self.owner.1,
            self.rdev,
            self.nlink,
            self.size,
            self.mtime,
            self.hash as u32
        )?;
        for (name, value) in &self.xattrs {
            write!(f, " {name}={}", value.escape_ascii())?;
        }
        Ok(())
    }
}

/// A tree, by path.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<String, Node>);

/// The extended attributes of an object, itself not followed.
pub fn xattrs(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut list = vec![0u8; 1024];
    let len = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e).context("llistxattr"),
    };
    for name in list[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0u8; 1024];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).context("lgetxattr")?;
        value.truncate(len);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    Ok(found)
}

fn node(path: &Path) -> Result<Node> {
    let meta = fs::symlink_metadata(path)?;
    let t = meta.file_type();
    let kind = match () {
        () if t.is_file() => 'f',
        () if t.is_dir() => 'd',
        () if t.is_symlink() => 'l',
        () if t.is_char_device() => 'c',
        () if t.is_fifo() => 'p',
        () => 's',
    };
    let mut hasher = DefaultHasher::new();
    match kind {
        'f' => hasher.write(&fs::read(path)?),
        'l' => hasher.write(fs::read_link(path)?.as_os_str().as_encoded_bytes()),
        _ => {}
    }
    let dir = kind == 'd';
    Ok(Node {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        rdev: meta.rdev(),
        nlink: if dir { 0 } else { meta.nlink() },
        size: if dir { 0 } else { meta.size() },
        mtime: (!dir && meta.mtime() < RECENT).then(|| meta.mtime()),
        hash: hasher.finish(),
        xattrs: xattrs(path)?,
    })
}

impl Tree {
    /// Everything below `root`, which is not crossed out of.
    pub fn of(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.add(root, "")?;
        Ok(tree)
    }

    fn add(&mut self, dir: &Path, prefix: &str) -> Result<()> {
        for name in super::sys::names(dir)? {
            let path = dir.join(&name);
            let key = format!("{prefix}{name}");
            let node = node(&path).with_context(|| key.clone())?;
            let is_dir = node.kind == 'd';
            self.0.insert(key.clone(), node);
            if is_dir {
                self.add(&path, &format!("{key}/"))?;
            }
        }
        Ok(())
    }

    /// Without modification times, which do not survive a power cut as they were.
    pub fn timeless(mut self) -> Self {
        for node in self.0.values_mut() {
            node.mtime = None;
        }
        self
    }

    /// What differs from `want`, a line each.
    pub fn diff(&self, want: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, node) in &self.0 {
            match want.0.get(path) {
                None => lines.push(format!("{path}: too much: {node}")),
                Some(other) if other != node => {
                    lines.push(format!("{path}: {node}, wanted {other}"));
                }
                Some(_) => {}
            }
        }
        for path in want.0.keys().filter(|path| !self.0.contains_key(*path)) {
            lines.push(format!("{path}: missing"));
        }
        lines
    }
}
