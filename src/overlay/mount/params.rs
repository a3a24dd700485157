// SPDX-License-Identifier: GPL-2.0

//! A mount in preparation: layers from strings and file descriptors, escapes, the other options.

use crate::overlay::{
    layer::MAX_LOWER,
    mount::options::{Config, Defaults, Verdict},
    union::Overlay,
};
use crate::vfs::{
    context::{Context, FsContext, Level, Value},
    cred::NewCred,
    log::Text,
    module, CBuf, Path, SuperBlock,
};
use kernel::{cred::Credential, prelude::*, sync::aref::ARef};

/// A directory that the user named, and the name as the user gave it.
pub(crate) struct Named {
    pub(crate) path: Path,
    pub(crate) name: CBuf,
}

/// What the parameters said so far.
pub(crate) struct Params {
    /// Topmost first.
    pub(crate) lower: KVec<Named>,
    /// The value of `lowerdir=`, where that option was used.
    pub(crate) lowerdir: Option<CBuf>,
    pub(crate) upper: Option<Named>,
    pub(crate) work: Option<Named>,
    pub(crate) config: Config,
    /// From `override_creds`: whose credentials the layers are used with.
    pub(crate) creds: Option<ARef<Credential>>,
}

/// The place that a directory is meant for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Lower,
    Upper,
    Work,
}

/// The defaults as the module's parameters are now.
pub(crate) fn defaults() -> Defaults {
    Defaults {
        redirect_dir: module::redirect_dir(),
        redirect_always_follow: module::redirect_always_follow(),
    }
}

/// Why a `lowerdir=` list is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BadList {
    /// It starts with a colon.
    LeadingColon,
    /// It ends with a colon.
    TrailingColon,
    /// Nothing follows the last backslash.
    TrailingBackslash,
    /// `::` separates data-only layers.
    DataLayers,
    /// Three colons or more.
    Colons,
    /// The list of parts could not be made: nothing is wrong with the names.
    NoMemory,
}

impl BadList {
    fn reason(self) -> &'static str {
        match self {
            Self::LeadingColon => "cannot append lower layer (leading ':')",
            Self::TrailingColon => "unescaped trailing colons in lowerdir mount option",
            Self::TrailingBackslash => "trailing backslash in lowerdir mount option",
            Self::DataLayers => "data-only lower layers ('::') are not supported yet",
            Self::Colons => {
                "only single ':' or double '::' sequences of unescaped colons in lowerdir mount \
                 option allowed"
            }
            Self::NoMemory => "out of memory",
        }
    }
}

/// Splits a colon list; backslash escapes. The parts keep their escapes.
fn split_list(list: &[u8]) -> Result<KVec<&[u8]>, BadList> {
    let mut parts = KVec::new();
    let (mut start, mut at) = (0, 0);
    if list.first() == Some(&b':') {
        return Err(BadList::LeadingColon);
    }
    while let Some(byte) = list.get(at) {
        match byte {
            b'\\' if at + 1 == list.len() => return Err(BadList::TrailingBackslash),
            b'\\' => at += 1,
            b':' => {
                let colons = list.iter().skip(at).take_while(|b| **b == b':').count();
                if at + colons == list.len() {
                    return Err(BadList::TrailingColon);
                }
                match colons {
                    1 => {}
                    2 => return Err(BadList::DataLayers),
                    _ => return Err(BadList::Colons),
                }
                if let Some(part) = list.get(start..at) {
                    parts
                        .push(part, GFP_KERNEL)
                        .map_err(|_| BadList::NoMemory)?;
                }
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if let Some(part) = list.get(start..) {
        parts
            .push(part, GFP_KERNEL)
            .map_err(|_| BadList::NoMemory)?;
    }
    Ok(parts)
}

/// Takes the backslashes out.
fn unescape(name: &[u8]) -> Result<CBuf> {
    if !name.contains(&b'\\') {
        return CBuf::new(name);
    }
    let mut out: KVec<u8> = KVec::with_capacity(name.len(), GFP_KERNEL)?;
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' {
            bytes.next().unwrap_or(&0)
        } else {
            byte
        };
        if *byte != 0 {
            out.push(*byte, GFP_KERNEL)?;
        }
    }
    CBuf::new(&out)
}

impl Params {
    /// Checks a directory for `slot`.
    fn check(fc: &FsContext, path: &Path, name: &[u8], slot: Slot) -> Result {
        let at = path.as_ref();
        let name = Text(name);
        if !at.dentry().is_dir() {
            return fc.invalid(fmt!("{name} is not a directory"));
        }
        if at.dentry().is_casefolded() {
            return fc.invalid(fmt!(
                "case-insensitive directory on {name} is not supported yet"
            ));
        }
        if at.dentry().is_weird() {
            return fc.invalid(fmt!("filesystem on {name} not supported"));
        }
        if at.mnt().is_idmapped() {
            return fc.invalid(fmt!("idmapped mount on {name} is not supported yet"));
        }
        if slot != Slot::Lower {
            if at.dentry().is_union() {
                return fc.invalid(fmt!("filesystem on {name} not supported as upperdir"));
            }
            if at.mnt().is_readonly() {
                return fc.invalid(fmt!("filesystem on {name} is read-only"));
            }
        }
        Ok(())
    }

    /// Resolves the name of a layer.
    fn resolve(fc: &FsContext, key: &CStr, name: &CBuf) -> Result<Path> {
        if name.as_bytes().is_empty() {
            return fc.invalid(fmt!("empty {}", Text(key.to_bytes())));
        }
        Path::resolve(name.as_cstr()).inspect_err(|e| {
            fc.log(
                Level::Error,
                fmt!(
                    "{}: cannot resolve '{}': {e:?}",
                    Text(key.to_bytes()),
                    Text(name.as_bytes())
                ),
            )
        })
    }

    fn add(&mut self, fc: &FsContext, key: &CStr, named: Named, slot: Slot) -> Result {
        Self::check(fc, &named.path, named.name.as_bytes(), slot)?;
        let place = match slot {
            Slot::Upper => &mut self.upper,
            Slot::Work => &mut self.work,
            Slot::Lower => {
                if self.lower.len() >= MAX_LOWER {
                    return fc.invalid(fmt!("too many lower directories, limit is {MAX_LOWER}"));
                }
                return Ok(self.lower.push(named, GFP_KERNEL)?);
            }
        };
        if place.is_some() {
            return fc.invalid(fmt!("{} given more than once", Text(key.to_bytes())));
        }
        *place = Some(named);
        Ok(())
    }

    /// `lowerdir=a:b:c` in place of the layers given so far; empty: forget those.
    fn lower_list(&mut self, fc: &FsContext, key: &CStr, list: &CStr) -> Result {
        let list = list.to_bytes();
        if self.lowerdir.is_some() && !list.is_empty() {
            return fc.invalid(fmt!("lowerdir given more than once"));
        }
        self.lower = KVec::new();
        self.lowerdir = None;
        if list.is_empty() {
            return Ok(());
        }
        let parts = match split_list(list) {
            Ok(parts) => parts,
            Err(BadList::NoMemory) => return Err(ENOMEM),
            Err(bad) => return fc.invalid(fmt!("lowerdir: {}", bad.reason())),
        };
        if parts.len() > MAX_LOWER {
            return fc.invalid(fmt!("too many lower directories, limit is {MAX_LOWER}"));
        }
        for part in &parts {
            let path = Self::resolve(fc, key, &unescape(part)?)?;
            let name = CBuf::new(part)?;
            self.add(fc, key, Named { path, name }, Slot::Lower)?;
        }
        self.lowerdir = Some(CBuf::new(list)?);
        Ok(())
    }

    /// `upperdir`, `workdir` (strings with escapes) and `lowerdir+` (without), or descriptors.
    fn single(&mut self, fc: &FsContext, key: &CStr, value: Value<'_>, slot: Slot) -> Result {
        if slot == Slot::Lower && self.lowerdir.is_some() {
            return fc.invalid(fmt!("lowerdir+ and datadir+ cannot follow lowerdir"));
        }
        let named = match value {
            Value::Str(text) => {
                let name = CBuf::new(text.to_bytes())?;
                let path = if slot == Slot::Lower {
                    Self::resolve(fc, key, &name)?
                } else {
                    Self::resolve(fc, key, &unescape(name.as_bytes())?)?
                };
                Named { path, name }
            }
            Value::File(file) => {
                let path = Path::of_file(file);
                let name = path.name()?;
                Named { path, name }
            }
            _ => return fc.invalid(fmt!("Bad value for '{}'", Text(key.to_bytes()))),
        };
        self.add(fc, key, named, slot)
    }

    fn override_creds(&mut self, fc: &FsContext, on: bool) -> Result {
        self.creds = None;
        if on {
            if !fc.in_user_ns(false) {
                return fc.invalid(fmt!("override_creds from outside the user namespace"));
            }
            self.creds = Some(NewCred::prepare_restricted()?.commit());
        }
        Ok(())
    }
}

impl Context<Overlay> for Params {
    fn new() -> Result<Self> {
        Ok(Self {
            lower: KVec::new(),
            lowerdir: None,
            upper: None,
            work: None,
            config: Config::new(defaults()),
            creds: None,
        })
    }

    fn parameter(&mut self, fc: &FsContext, key: &CStr, value: Value<'_>) -> Result<bool> {
        if fc.is_reconfigure() {
            // mount(2) passes all options of the mount again; they cannot be told from changes.
            return if fc.is_old_api() {
                Ok(true)
            } else {
                fc.invalid(fmt!("No changes allowed in reconfigure"))
            };
        }
        let name = Text(key.to_bytes());
        match key.to_bytes() {
            b"lowerdir" => match value {
                Value::Str(list) => self.lower_list(fc, key, list)?,
                _ => return fc.invalid(fmt!("Bad value for '{name}'")),
            },
            b"lowerdir+" => self.single(fc, key, value, Slot::Lower)?,
            b"upperdir" => self.single(fc, key, value, Slot::Upper)?,
            b"workdir" => self.single(fc, key, value, Slot::Work)?,
            b"datadir+" => {
                return fc.invalid(fmt!("option '{name}' is not supported yet"));
            }
            b"override_creds" | b"nooverride_creds" => match value {
                Value::Flag => self.override_creds(fc, key.to_bytes() == b"override_creds")?,
                _ => return fc.invalid(fmt!("Unexpected value for '{name}'")),
            },
            other => {
                let text = match &value {
                    Value::Flag => None,
                    Value::Str(text) => Some(text.to_bytes()),
                    _ => return fc.invalid(fmt!("Bad value for '{name}'")),
                };
                match self.config.option(other, text) {
                    None => return Ok(false),
                    Some(Verdict::Accepted) => {}
                    Some(Verdict::BadValue) => {
                        return fc.invalid(fmt!("Bad value for '{name}'"));
                    }
                    Some(Verdict::UnexpectedValue) => {
                        return fc.invalid(fmt!("Unexpected value for '{name}'"));
                    }
                    Some(Verdict::Unsupported) => {
                        let text = Text(text.unwrap_or_default());
                        return fc.invalid(fmt!("option '{name}={text}' is not supported yet"));
                    }
                }
            }
        }
        Ok(true)
    }

    fn reconfigure(_fc: &FsContext, sb: &SuperBlock, fs: &Overlay, read_only: bool) -> Result {
        if !read_only && fs.is_forced_readonly() {
            return Err(EROFS);
        }
        if read_only && !sb.is_readonly() {
            if let Some(upper) = fs.upper() {
                return upper.mnt().sb().sync();
            }
        }
        Ok(())
    }

    fn split_option(options: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = options.get(at) {
            match byte {
                b'\\' => at += 1,
                b',' => return Some(at),
                _ => {}
            }
            at += 1;
        }
        None
    }
}

#[kernel::macros::kunit_tests(rovl_params)]
mod tests {
    use super::*;

    fn split(list: &[u8]) -> Result<KVec<&[u8]>, BadList> {
        split_list(list)
    }

    #[test]
    fn lists() {
        let parts = |list| split(list).unwrap_or_default();
        assert_eq!(&parts(b"a")[..], &[&b"a"[..]]);
        assert_eq!(&parts(b"a:b:c")[..], &[&b"a"[..], b"b", b"c"]);
        assert_eq!(&parts(b"a\\:b:c")[..], &[&b"a\\:b"[..], b"c"]);
        assert_eq!(&parts(b"a\\\\:b")[..], &[&b"a\\\\"[..], b"b"]);
        assert_eq!(split(b":a").err(), Some(BadList::LeadingColon));
        assert_eq!(split(b"a:").err(), Some(BadList::TrailingColon));
        assert_eq!(split(b"a::").err(), Some(BadList::TrailingColon));
        assert_eq!(split(b"a::b").err(), Some(BadList::DataLayers));
        assert_eq!(split(b"a:::b").err(), Some(BadList::Colons));
        assert_eq!(split(b"a\\").err(), Some(BadList::TrailingBackslash));
    }

    #[test]
    fn escapes() -> Result {
        assert_eq!(unescape(b"a\\:b\\\\c\\,d")?.as_bytes(), b"a:b\\c,d");
        assert_eq!(unescape(b"plain")?.as_bytes(), b"plain");
        assert_eq!(unescape(b"end\\")?.as_bytes(), b"end");
        Ok(())
    }

    #[test]
    fn options() {
        let split = <Params as Context<Overlay>>::split_option;
        assert_eq!(split(b"a=b,c"), Some(3));
        assert_eq!(split(b"a=b\\,c,d"), Some(6));
        assert_eq!(split(b"a=b"), None);
        assert_eq!(split(b"a\\"), None);
    }
}
