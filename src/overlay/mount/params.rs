// SPDX-License-Identifier: GPL-2.0

//! A mount in preparation: layers from strings and file descriptors, escapes, the other options.

use super::{
    given::Repeated,
    layers::{check, check_number, Named, Slot},
    messages::{invalid, refuse},
    options::{BadOption, Parameters, Requested, Switch},
};
use crate::overlay::union::{Overlay, Super};
use crate::vfs::{
    context::{Context, FsContext, Value},
    cred::NewCred,
    log::Text,
    module, CBuf, Path,
};
use kernel::{cred::Credential, prelude::*, sync::aref::ARef};

/// What the parameters said so far.
pub(crate) struct Params {
    /// Topmost first.
    pub(crate) lower: KVec<Named>,
    /// Data-only layers, topmost first.
    pub(crate) data: KVec<Named>,
    /// The value of `lowerdir=`, where that option was used.
    pub(crate) lowerdir: Option<CBuf>,
    pub(crate) upper: Option<Named>,
    pub(crate) work: Option<Named>,
    /// Whether the layers fold case, once one is known.
    pub(crate) folds: Option<bool>,
    pub(crate) requested: Requested,
    /// From `override_creds`: whose credentials the layers are used with.
    pub(crate) creds: Option<ARef<Credential>>,
    /// Of a remount.
    repeated: Repeated,
}

/// The module's parameters as they are now.
pub(crate) fn parameters() -> Parameters {
    Parameters {
        redirect_dir: module::redirect_dir(),
        redirect_always_follow: module::redirect_always_follow(),
        metacopy: module::metacopy(),
        index: module::index(),
        nfs_export: module::nfs_export(),
        xino_auto: module::xino_auto(),
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
    /// A layer that is merged follows one that has data alone.
    MergedBelowData,
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
            Self::MergedBelowData => "regular lower layers cannot follow data lower layers",
            Self::Colons => {
                "only single ':' or double '::' sequences of unescaped colons in lowerdir mount \
                 option allowed"
            }
            Self::NoMemory => "out of memory",
        }
    }
}

/// Splits a colon list; backslash escapes. The parts keep their escapes, and go to the slot that the colons before them say.
fn split_list(list: &[u8]) -> Result<KVec<(&[u8], Slot)>, BadList> {
    let mut parts = KVec::new();
    let (mut start, mut at, mut slot) = (0, 0, Slot::Lower);
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
                let next = match colons {
                    1 if slot == Slot::Data => return Err(BadList::MergedBelowData),
                    1 => Slot::Lower,
                    2 => Slot::Data,
                    _ => return Err(BadList::Colons),
                };
                if let Some(part) = list.get(start..at) {
                    parts
                        .push((part, slot), GFP_KERNEL)
                        .map_err(|_| BadList::NoMemory)?;
                }
                at += colons - 1;
                (start, slot) = (at + 1, next);
            }
            _ => {}
        }
        at += 1;
    }
    if let Some(part) = list.get(start..) {
        parts
            .push((part, slot), GFP_KERNEL)
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

/// Resolves the name of a layer.
fn resolve(fc: &FsContext, key: &CStr, name: &CBuf) -> Result<Path> {
    let key = Text(key.to_bytes());
    if name.as_bytes().is_empty() {
        return refuse(fc, EINVAL, fmt!("empty {key}"));
    }
    Path::resolve(name.as_cstr()).or_else(|e| {
        let name = Text(name.as_bytes());
        refuse(fc, e, fmt!("{key}: cannot resolve '{name}': {e:?}"))
    })
}

impl Params {
    fn add(&mut self, fc: &FsContext, key: &CStr, named: Named, slot: Slot) -> Result {
        check(fc, &named, slot, &mut self.folds)?;
        let place = match slot {
            Slot::Upper => &mut self.upper,
            Slot::Work => &mut self.work,
            Slot::Lower | Slot::Data => {
                check_number(fc, self.lower.len() + self.data.len() + 1)?;
                let all = match slot {
                    Slot::Data => &mut self.data,
                    _ => &mut self.lower,
                };
                if all.is_empty() {
                    // Most mounts have no more.
                    all.reserve(4, GFP_KERNEL)?;
                }
                return Ok(all.push(named, GFP_KERNEL)?);
            }
        };
        if place.is_some() {
            let key = Text(key.to_bytes());
            return refuse(fc, EINVAL, fmt!("{key} given more than once"));
        }
        *place = Some(named);
        Ok(())
    }

    /// `lowerdir=a:b:c` in place of the layers given so far; empty: forget those.
    fn lower_list(&mut self, fc: &FsContext, key: &CStr, list: &CStr) -> Result {
        let list = list.to_bytes();
        if self.lowerdir.is_some() && !list.is_empty() {
            return refuse(fc, EINVAL, fmt!("lowerdir given more than once"));
        }
        (self.lower, self.data) = (KVec::new(), KVec::new());
        self.lowerdir = None;
        if list.is_empty() {
            return Ok(());
        }
        let parts = match split_list(list) {
            Ok(parts) => parts,
            Err(BadList::NoMemory) => return Err(ENOMEM),
            Err(bad) => return refuse(fc, EINVAL, fmt!("lowerdir: {}", bad.reason())),
        };
        check_number(fc, parts.len())?;
        for (part, slot) in &parts {
            let path = resolve(fc, key, &unescape(part)?)?;
            let name = CBuf::new(part)?;
            self.add(fc, key, Named { path, name }, *slot)?;
        }
        self.lowerdir = Some(CBuf::new(list)?);
        Ok(())
    }

    /// `upperdir`, `workdir` (strings with escapes), `lowerdir+` and `datadir+` (without), or descriptors.
    fn single(&mut self, fc: &FsContext, key: &CStr, value: Value<'_>, slot: Slot) -> Result {
        let is_lower = matches!(slot, Slot::Lower | Slot::Data);
        if is_lower && self.lowerdir.is_some() {
            return invalid(fc, fmt!("lowerdir+ and datadir+ cannot follow lowerdir"));
        }
        if slot == Slot::Lower && !self.data.is_empty() {
            return invalid(fc, fmt!("regular lower layers cannot follow data layers"));
        }
        let named = match value {
            Value::Str(text) => {
                let name = CBuf::new(text.to_bytes())?;
                let path = if is_lower {
                    resolve(fc, key, &name)?
                } else {
                    resolve(fc, key, &unescape(name.as_bytes())?)?
                };
                Named { path, name }
            }
            Value::File(file) => {
                let path = Path::of_file(file);
                let name = path.name()?;
                Named { path, name }
            }
            _ => return bad_value(fc, key),
        };
        self.add(fc, key, named, slot)
    }

    /// An option that is no layer.
    fn other(&mut self, fc: &FsContext, key: &CStr, value: Value<'_>) -> Result<bool> {
        let text = match &value {
            Value::Flag => None,
            Value::Str(text) => Some(text.to_bytes()),
            _ => return bad_value(fc, key),
        };
        match self.requested.take(key.to_bytes(), text) {
            Ok(()) => {}
            Err(BadOption::Unknown) => return Ok(false),
            Err(BadOption::Value) => return bad_value(fc, key),
            Err(BadOption::Unexpected) => {
                let key = Text(key.to_bytes());
                return invalid(fc, fmt!("Unexpected value for '{key}'"));
            }
        }
        Ok(true)
    }

    /// Takes the credentials of whoever sets `override_creds`, or none.
    fn override_creds(&mut self, fc: &FsContext) -> Result {
        self.creds = match self.requested.settings.override_creds.value {
            Switch::Off => None,
            Switch::On if !fc.in_user_ns(false) => {
                return refuse(
                    fc,
                    EINVAL,
                    fmt!("override_creds from outside the user namespace"),
                );
            }
            Switch::On => Some(NewCred::prepare_restricted()?.commit()),
        };
        Ok(())
    }
}

fn bad_value<T>(fc: &FsContext, key: &CStr) -> Result<T> {
    let key = Text(key.to_bytes());
    invalid(fc, fmt!("Bad value for '{key}'"))
}

fn no_change<T>(fc: &FsContext, key: &CStr) -> Result<T> {
    let key = Text(key.to_bytes());
    invalid(fc, fmt!("No changes allowed in reconfigure: '{key}'"))
}

impl Context<Overlay> for Params {
    fn new() -> Result<Self> {
        Ok(Self {
            lower: KVec::new(),
            data: KVec::new(),
            lowerdir: None,
            upper: None,
            work: None,
            folds: None,
            requested: Requested::new(parameters()),
            creds: None,
            repeated: Repeated::default(),
        })
    }

    fn parameter(&mut self, fc: &FsContext, key: &CStr, value: Value<'_>) -> Result<bool> {
        match (key.to_bytes(), value) {
            (b"lowerdir", Value::Str(list)) => self.lower_list(fc, key, list)?,
            (b"lowerdir", _) => return bad_value(fc, key),
            (b"lowerdir+", value) => self.single(fc, key, value, Slot::Lower)?,
            (b"upperdir", value) => self.single(fc, key, value, Slot::Upper)?,
            (b"workdir", value) => self.single(fc, key, value, Slot::Work)?,
            (b"datadir+", value) => self.single(fc, key, value, Slot::Data)?,
            (b"override_creds" | b"nooverride_creds", value) => {
                self.other(fc, key, value)?;
                self.override_creds(fc)?;
            }
            (_, value) => return self.other(fc, key, value),
        }
        Ok(true)
    }

    fn repeat(
        &mut self,
        fc: &FsContext,
        fs: &Overlay,
        key: &CStr,
        value: Value<'_>,
    ) -> Result<bool> {
        // Software hands anything over there, and overlayfs never minded.
        if fc.is_old_api() {
            return Ok(true);
        }
        let text = match &value {
            Value::Flag => None,
            Value::Str(text) => Some(text.to_bytes()),
            _ => return no_change(fc, key),
        };
        let repeated = &mut self.repeated;
        match fs
            .given
            .is_repeated(&fs.config, repeated, key.to_bytes(), text)
        {
            true => Ok(true),
            false => no_change(fc, key),
        }
    }

    fn reconfigure(&mut self, fc: &FsContext, sb: &Super, read_only: bool) -> Result {
        let fs = sb.fs();
        let repeated = core::mem::take(&mut self.repeated);
        if let Some(key) = fs.given.is_missing(&repeated) {
            return no_change(fc, key);
        }
        if !read_only && fs.is_forced_readonly() {
            return Err(EROFS);
        }
        if read_only && !sb.is_readonly() {
            if let Some(upper) = fs.upper().filter(|_| !fs.is_volatile()) {
                return fs.written.sync(sb, upper.mnt());
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

    fn split(list: &[u8]) -> Result<KVec<(&[u8], Slot)>, BadList> {
        split_list(list)
    }

    #[test]
    fn lists() {
        use Slot::{Data, Lower};
        let parts = |list| split(list).unwrap_or_default();
        let lower = |name: &'static [u8]| (name, Lower);
        let data = |name: &'static [u8]| (name, Data);
        assert_eq!(&parts(b"a")[..], &[lower(b"a")]);
        assert_eq!(
            &parts(b"a:b:c")[..],
            &[lower(b"a"), lower(b"b"), lower(b"c")]
        );
        assert_eq!(&parts(b"a\\:b:c")[..], &[lower(b"a\\:b"), lower(b"c")]);
        assert_eq!(&parts(b"a\\\\:b")[..], &[lower(b"a\\\\"), lower(b"b")]);
        assert_eq!(&parts(b"a::b")[..], &[lower(b"a"), data(b"b")]);
        assert_eq!(
            &parts(b"a:b::c::d")[..],
            &[lower(b"a"), lower(b"b"), data(b"c"), data(b"d")]
        );
        assert_eq!(split(b"a::b:c").err(), Some(BadList::MergedBelowData));
        assert_eq!(split(b":a").err(), Some(BadList::LeadingColon));
        assert_eq!(split(b"a:").err(), Some(BadList::TrailingColon));
        assert_eq!(split(b"a::").err(), Some(BadList::TrailingColon));
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
