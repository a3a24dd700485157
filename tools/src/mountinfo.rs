// SPDX-License-Identifier: GPL-2.0
//! `/proc/self/mountinfo`.

use crate::options::Pair;
use rustix::fs::{AtFlags, StatxFlags, CWD};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub struct Mount {
    pub id: u64,
    pub device: String,
    /// What of the filesystem is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    /// The flags of this mount.
    pub flags: String,
    pub fstype: String,
    pub source: OsString,
    /// The options of the filesystem, unescaped once.
    pub options: Vec<Pair>,
    /// The same in one piece, as mount(8) reads it: a comma in a name is one between options there.
    pub text: Vec<u8>,
}

impl Mount {
    pub fn is_union(&self) -> bool {
        matches!(&*self.fstype, "rovl" | "overlay")
    }

    pub fn has(&self, key: &str) -> bool {
        self.options.iter().any(|(k, _)| k == key.as_bytes())
    }
}

/// Takes back what the kernel wrote as a backslash and three octal digits.
fn unmangle(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        let octal = behind
            .get(..3)
            .filter(|d| *byte == b'\\' && d.iter().all(|b| (b'0'..b'8').contains(b)));
        match octal {
            Some(d) => {
                let value = d.iter().fold(0, |n, b| n * 8 + u32::from(b - b'0'));
                out.push(value as u8);
                rest = &behind[3..];
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A path as the kernel, or fstab, writes it.
pub fn path(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(unmangle(bytes)).into()
}

/// The entries of an fstab: mount point, type, options; comments are entries of no mount point.
pub fn fstab(text: &[u8]) -> impl Iterator<Item = (PathBuf, &[u8], &[u8])> {
    text.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = line
            .split(u8::is_ascii_whitespace)
            .filter(|f| !f.is_empty());
        let (_, point) = (fields.next()?, fields.next()?);
        let (fstype, options) = (fields.next(), fields.next());
        Some((
            path(point),
            fstype.unwrap_or_default(),
            options.unwrap_or_default(),
        ))
    })
}

fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let behind = fields.iter().position(|f| *f == b"-")? + 1;
    let raw = fields.get(behind + 2)?;
    let options = raw
        .split(|b| *b == b',')
        .map(|o| match o.iter().position(|b| *b == b'=') {
            Some(at) => (unmangle(&o[..at]), Some(unmangle(&o[at + 1..]))),
            None => (unmangle(o), None),
        })
        .collect();
    Some(Mount {
        id: text(fields[0]).parse().ok()?,
        device: text(fields.get(2)?),
        root: path(fields.get(3)?),
        point: path(fields.get(4)?),
        flags: text(fields.get(5)?),
        fstype: text(fields.get(behind)?),
        source: OsString::from_vec(unmangle(fields.get(behind + 1)?)),
        options,
        text: unmangle(raw),
    })
}

pub struct Table(Vec<Mount>);

impl Table {
    pub fn read() -> Result<Table, String> {
        let name = "/proc/self/mountinfo";
        let bytes = std::fs::read(name).map_err(|e| format!("{name}: {e}; is /proc mounted?"))?;
        Ok(Table(
            bytes.split(|b| *b == b'\n').filter_map(parse).collect(),
        ))
    }

    /// The mount that `path` is on; a symlink is not followed.
    pub fn of(&self, path: &Path) -> Result<&Mount, String> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let seen = rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let found = self.0.iter().find(|m| m.id == seen.stx_mnt_id);
        found.ok_or_else(|| {
            format!(
                "{}: its mount is not in /proc/self/mountinfo: it was detached",
                path.display()
            )
        })
    }

    pub fn unions(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(|m| m.is_union())
    }

    /// The union that `path` is in.
    pub fn union_of(&self, path: &Path) -> Result<&Mount, String> {
        let mount = self.of(path)?;
        if mount.is_union() {
            return Ok(mount);
        }
        Err(format!(
            "{} is on a mount of type {}, not rovl or overlay; 'findmnt -t rovl,overlay' lists those",
            path.display(),
            mount.fstype
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let line = br"36 35 0:33 / /m\040x rw,nosuid shared:1 - overlay none rw,lowerdir=/a\134:b:/c\054d,metacopy=on";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.point.to_str()), (36, Some("/m x")));
        assert_eq!(mount.options[1].1.as_deref(), Some(&br"/a\:b:/c,d"[..]));
        assert!(mount.is_union() && mount.has("metacopy") && !mount.has("index"));
    }
}
