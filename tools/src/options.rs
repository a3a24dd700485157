// SPDX-License-Identifier: GPL-2.0
//! The option string of mount(8): split, sorted by what each option is for, the layers' names unescaped.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One option, and its value where it has one.
pub type Pair = (Vec<u8>, Option<Vec<u8>>);

/// What a layer is named as with `fsconfig(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Lower,
    Data,
    Upper,
    Work,
}

impl Role {
    /// The option that takes a descriptor for it.
    pub fn key(self) -> &'static str {
        match self {
            Role::Lower => "lowerdir+",
            Role::Data => "datadir+",
            Role::Upper => "upperdir",
            Role::Work => "workdir",
        }
    }

    pub fn noun(self) -> &'static str {
        match self {
            Role::Lower => "lower directory",
            Role::Data => "data-only directory",
            Role::Upper => "upper directory",
            Role::Work => "work directory",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    pub role: Role,
    pub name: PathBuf,
}

/// Splits at commas, but for those behind a backslash and those in a value that begins with a quotation mark, as the
/// labels of SELinux do.
pub fn split(text: &[u8]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut part = Vec::new();
    let mut quoted = false;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                part.push(byte);
                part.extend(bytes.next());
            }
            b'"' if quoted || part.last() == Some(&b'=') => {
                quoted = !quoted;
                part.push(byte);
            }
            b',' if !quoted => pairs.extend(pair(std::mem::take(&mut part))),
            _ => part.push(byte),
        }
    }
    pairs.extend(pair(part));
    pairs
}

fn pair(part: Vec<u8>) -> Option<Pair> {
    if part.is_empty() {
        return None;
    }
    Some(match part.iter().position(|b| *b == b'=') {
        Some(at) => (part[..at].to_vec(), Some(part[at + 1..].to_vec())),
        None => (part, None),
    })
}

/// Takes the meaning from the byte behind each backslash.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.push(bytes.next().unwrap_or(byte)),
            _ => out.push(byte),
        }
    }
    out
}

/// A value whose bytes are taken as they are, but for `\,`, without which no comma could be in an option.
pub fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, byte) in text.iter().enumerate() {
        if *byte != b'\\' || text.get(i + 1) != Some(&b',') {
            out.push(*byte);
        }
    }
    out
}

/// The layers of `lowerdir=`: names with a colon between, two before each that has data alone.
pub fn lowers(value: &[u8]) -> Result<Vec<Named>, String> {
    let mut layers = Vec::new();
    let mut role = Role::Lower;
    let mut rest = value;
    while !rest.is_empty() {
        let end = end_of_name(rest);
        if end == 0 {
            return Err(colons("it begins with a colon, or has three in a row"));
        }
        layers.push(Named {
            role,
            name: OsString::from_vec(unescape(&rest[..end])).into(),
        });
        rest = &rest[end..];
        if rest.is_empty() {
            break;
        }
        rest = match rest.strip_prefix(b"::") {
            Some(rest) => {
                role = Role::Data;
                rest
            }
            None if role == Role::Data => {
                return Err(colons("behind '::' every layer is a data-only one"))
            }
            None => &rest[1..],
        };
        if rest.is_empty() {
            return Err(colons("it ends with a colon"));
        }
    }
    Ok(layers)
}

fn end_of_name(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() && text[at] != b':' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

fn colons(why: &str) -> String {
    format!("lowerdir= cannot be read: {why}; a colon within a name is written '\\:'")
}

/// The layers of a file, one a line, the topmost first. A line that begins with `::` is a data-only one; empty lines and
/// those that begin with `#` say nothing.
pub fn lines(text: &[u8]) -> Vec<Named> {
    let said = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"#");
    text.split(|b| *b == b'\n')
        .filter(said)
        .map(|line| match line.strip_prefix(b"::") {
            Some(name) => (Role::Data, name),
            None => (Role::Lower, line),
        })
        .map(|(role, name)| Named {
            role,
            name: OsString::from_vec(name.to_vec()).into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[Pair]) -> Vec<String> {
        let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        pairs
            .iter()
            .map(|(k, v)| match v {
                Some(v) => format!("{}={}", show(k), show(v)),
                None => show(k),
            })
            .collect()
    }

    #[test]
    fn splitting() {
        let pairs = split(br#"ro,,lowerdir=/a\,b:/c\\,x=,context="u:r:t:s0,c1",last"#);
        let wanted = [
            "ro",
            r"lowerdir=/a\,b:/c\\",
            "x=",
            r#"context="u:r:t:s0,c1""#,
            "last",
        ];
        assert_eq!(text(&pairs), wanted);
    }

    #[test]
    fn layers() {
        let names = |value: &[u8]| {
            lowers(value).map(|l| {
                l.into_iter()
                    .map(|l| format!("{:?} {}", l.role, l.name.to_string_lossy()))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            names(br"a\:b:c\\:d\,e").unwrap(),
            ["Lower a:b", r"Lower c\", "Lower d,e"]
        );
        assert_eq!(
            names(b"a:b::c::d").unwrap(),
            ["Lower a", "Lower b", "Data c", "Data d"]
        );
        assert!(names(b"").unwrap().is_empty());
        for bad in [&b":a"[..], b"a:", b"a::", b"a:::b", b"a::b:c"] {
            assert!(names(bad).is_err());
        }
    }

    #[test]
    fn plain_values() {
        assert_eq!(plain(br"a\,b\:c\\"), br"a,b\:c\\");
        assert_eq!(unescape(br"a\,b\:c\\\"), br"a,b:c\\");
        assert_eq!(lines(b"/a\n\n# no\n::/d\n./#x").len(), 3);
    }
}
