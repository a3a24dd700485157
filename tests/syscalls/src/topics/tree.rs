// SPDX-License-Identifier: GPL-2.0
//! Trees: random ones, what is compared of them, and a model of how layers
//! merge.

use crate::harness::*;
use crate::sys;
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn name(&mut self) -> &'static str {
        ["a", "b", "c", "d", "e"][self.next(5) as usize]
    }

    /// Few names, so that work often meets other work.
    pub fn path(&mut self) -> String {
        let depth = 1 + self.next(3);
        let v: Vec<_> = (0..depth).map(|_| self.name()).collect();
        v.join("/")
    }

    pub fn data(&mut self) -> Vec<u8> {
        let len = [0, 1, 10, 100, 4096, 5000][self.next(6) as usize];
        let b = b'a' + self.next(26) as u8;
        vec![b; len]
    }
}

/// What is compared of an object.
#[derive(PartialEq, Eq, Debug, Clone)]
pub struct Object {
    mode: u32,
    owner: (u32, u32),
    nlink: u32,
    data: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
}

pub type Tree = BTreeMap<String, Object>;

pub fn object(p: &Path) -> Res<Object> {
    let s = sys::stx(p)?;
    let mode = u32::from(s.stx_mode);
    let kind = mode & libc::S_IFMT;
    let data = match kind {
        libc::S_IFREG => {
            let d = sys::read(p)?;
            same(
                d.len() as u64,
                s.stx_size,
                &format!("size of {}", p.display()),
            )?;
            d
        }
        libc::S_IFLNK => std::fs::read_link(p)?
            .to_string_lossy()
            .into_owned()
            .into_bytes(),
        _ => Vec::new(),
    };
    let mut xattrs = Vec::new();
    for n in sys::listx(p)? {
        if !n.starts_with("trusted.overlay.") && !n.starts_with("system.") {
            let v = sys::getx(p, &n)?;
            xattrs.push((n, v));
        }
    }
    Ok(Object {
        mode,
        owner: (s.stx_uid, s.stx_gid),
        nlink: if kind == libc::S_IFDIR {
            0
        } else {
            s.stx_nlink
        },
        data,
        xattrs,
    })
}

/// Everything below a folder. The listing must agree with lookups.
pub fn walk(root: &Path) -> Res<Tree> {
    let mut out = Tree::new();
    let mut todo = vec![String::new()];
    while let Some(dir) = todo.pop() {
        for n in sys::names(&root.join(&dir))? {
            let rel = if dir.is_empty() {
                n
            } else {
                format!("{dir}/{n}")
            };
            let o = object(&root.join(&rel))?;
            if o.mode & libc::S_IFMT == libc::S_IFDIR {
                todo.push(rel.clone());
            }
            let twice = out.insert(rel.clone(), o).is_some();
            check(!twice, &format!("{rel} is listed twice"))?;
        }
    }
    Ok(out)
}

pub fn is_dir(p: &Path) -> bool {
    sys::stx(p).is_ok_and(|s| u32::from(s.stx_mode) & libc::S_IFMT == libc::S_IFDIR)
}

/// Merges real folders, the uppermost first, as the on-disk format says.
pub fn merge(dirs: &[PathBuf], rel: &str, out: &mut Tree) -> Res {
    let mut decided = BTreeSet::new();
    for (i, d) in dirs.iter().enumerate() {
        for n in sys::names(d)? {
            if !decided.insert(n.clone()) || sys::is_whiteout(&d.join(&n)) {
                continue;
            }
            let here = if rel.is_empty() {
                n.clone()
            } else {
                format!("{rel}/{n}")
            };
            out.insert(here.clone(), object(&d.join(&n))?);
            if !is_dir(&d.join(&n)) {
                continue;
            }
            let mut parts = Vec::new();
            for below in &dirs[i..] {
                let p = below.join(&n);
                if !sys::exists(&p) {
                    continue;
                }
                if !is_dir(&p) {
                    break;
                }
                let opaque = sys::getx(&p, "trusted.overlay.opaque").is_ok_and(|v| v == b"y");
                parts.push(p);
                if opaque {
                    break;
                }
            }
            merge(&parts, &here, out)?;
        }
    }
    Ok(())
}

/// Whiteouts lie only where they hide something: elsewhere a listing that is
/// not merged may show them.
pub fn may_hide(layer: &Path, rel: &str, hidden: &Tree) -> bool {
    let mut up = Path::new(rel);
    while let Some(p) = up.parent() {
        if sys::getx(&layer.join(p), "trusted.overlay.opaque").is_ok() {
            return false;
        }
        up = p;
    }
    hidden.contains_key(rel)
}

/// Fills a layer; what fails (a name taken by something else) is left out.
pub fn fill_layer(rng: &mut Rng, layer: &Path, below: &[PathBuf]) -> Res {
    let mut hidden = Tree::new();
    merge(below, "", &mut hidden)?;
    let lowest = below.is_empty();
    for _ in 0..25 {
        let rel = rng.path();
        let p = layer.join(&rel);
        if let Some(up) = p.parent() {
            let _ = std::fs::create_dir_all(up);
        }
        if sys::exists(&p) {
            continue;
        }
        let made = match rng.next(8) {
            0..=2 => sys::write(&p, rng.data()),
            3 | 4 => sys::mkdir(&p),
            5 => rustix::fs::symlink(rng.name(), &p),
            6 if may_hide(layer, &rel, &hidden) => sys::whiteout(&p),
            7 if !lowest => sys::mkdir(&p).and_then(|()| sys::set_opaque(&p)),
            _ => sys::mknod(&p, FileType::Fifo, 0o644, 0),
        };
        if made.is_ok() && rng.next(4) == 0 && !sys::is_whiteout(&p) {
            sys::setx(&p, "trusted.mark", &rng.data()[..0])?;
            let kind = u32::from(sys::stx(&p)?.stx_mode) & libc::S_IFMT;
            if kind != libc::S_IFLNK {
                sys::chmod(&p, 0o700 + rng.next(64) as u32)?;
            }
            sys::chown(&p, rng.next(3) as u32, rng.next(3) as u32)?;
        }
    }
    Ok(())
}

pub fn rebuild(tree: &Tree, at: &Path) -> Res {
    for (rel, o) in tree {
        let p = at.join(rel);
        match o.mode & libc::S_IFMT {
            libc::S_IFDIR => sys::mkdir(&p)?,
            libc::S_IFREG => sys::write(&p, &o.data)?,
            libc::S_IFLNK => {
                rustix::fs::symlink(String::from_utf8_lossy(&o.data).as_ref(), &p)?;
            }
            _ => sys::mknod(&p, FileType::Fifo, 0o644, 0)?,
        }
        sys::chown(&p, o.owner.0, o.owner.1)?;
        if o.mode & libc::S_IFMT != libc::S_IFLNK {
            sys::chmod(&p, o.mode & 0o7777)?;
        }
        for (n, v) in &o.xattrs {
            sys::setx(&p, n, v)?;
        }
    }
    Ok(())
}

pub fn compare(u: &Path, plain: &Path, when: &str) -> Res {
    let (a, b) = (walk(u)?, walk(plain)?);
    if a == b {
        return Ok(());
    }
    let mut diff = Vec::new();
    for k in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        if a.get(k) != b.get(k) {
            let short = |o: Option<&Object>| {
                o.map(|o| (o.mode, o.owner, o.nlink, o.data.len(), o.xattrs.len()))
            };
            diff.push(format!(
                "{k}: expected {:x?}, seen {:x?}",
                short(b.get(k)),
                short(a.get(k))
            ));
        }
    }
    Err(Failure::new(format!("{when}: {}", diff.join(", "))))
}
