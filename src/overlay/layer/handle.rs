// SPDX-License-Identifier: GPL-2.0

//! File handles of objects of layers, with what tells which filesystem they are of.
//!
//! On disk (`overlay.origin`: which lower object an upper one comes from): version, magic, length, flags,
//! handle type, UUID of the filesystem, the handle. An empty value: copied up, from something that has no handle. As
//! the union's own file handles they have three zero bytes in front, so that the handle in them is aligned.

use crate::overlay::{
    layer::{
        marks, whiteout,
        xattr_names::{Mark, Namespace},
    },
    union::{Layers, Overlay},
};
use crate::vfs::{
    self,
    backing::InLayer,
    cred,
    handle::{Aligned, HandleRef, MAX_BYTES},
    log::warn_limited,
    mount::{PathRef, WritePath},
    super_block::HandleKind,
    xattr, Dentry, Inode, Mount, Ref,
};
use kernel::prelude::*;

const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
const FLAG_BIG_ENDIAN: u8 = 1;
const FLAG_ANY_ENDIAN: u8 = 2;
const FLAG_UPPER: u8 = 4;
const FLAG_CPU: u8 = if cfg!(target_endian = "big") {
    FLAG_BIG_ENDIAN
} else {
    0
};
/// Bytes before the handle.
const HEADER: usize = 21;
/// The longest value.
pub(crate) const MAX_VALUE: usize = HEADER + MAX_BYTES;
/// The shortest one.
pub(crate) const MIN_VALUE: usize = HEADER;

/// A parsed value.
#[derive(PartialEq, Eq, Debug)]
struct Origin<'a> {
    /// Of an object in upper.
    upper: bool,
    kind: u8,
    uuid: &'a [u8; 16],
    handle: &'a [u8],
}

/// Why a value names no origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NoOrigin {
    /// It is empty, or of a form that only another kernel reads.
    Unknown,
    /// It is of no form.
    Invalid,
}

fn parse(value: &[u8]) -> Result<Origin<'_>, NoOrigin> {
    if value.is_empty() {
        return Err(NoOrigin::Unknown);
    }
    let (header, _) = value.split_at_checked(HEADER).ok_or(NoOrigin::Invalid)?;
    let (&[version, magic, len, flags, kind], uuid) =
        header.split_first_chunk().ok_or(NoOrigin::Invalid)?;
    if magic != MAGIC {
        return Err(NoOrigin::Invalid);
    }
    let handle = value
        .get(HEADER..usize::from(len))
        .ok_or(NoOrigin::Invalid)?;
    let known = FLAG_BIG_ENDIAN | FLAG_ANY_ENDIAN | FLAG_UPPER;
    if version > VERSION || flags & !known != 0 {
        return Err(NoOrigin::Unknown);
    }
    if flags & FLAG_ANY_ENDIAN == 0 && flags & FLAG_BIG_ENDIAN != FLAG_CPU {
        return Err(NoOrigin::Unknown);
    }
    Ok(Origin {
        upper: flags & FLAG_UPPER != 0,
        kind,
        uuid: uuid.try_into().map_err(|_| NoOrigin::Invalid)?,
        handle,
    })
}

/// Whether `value` is a handle with what belongs to it: `EINVAL` where it is none, `ENODATA` where only another kernel reads it.
pub(crate) fn check(value: &[u8]) -> Result {
    match parse(value) {
        Ok(_) => Ok(()),
        Err(NoOrigin::Unknown) => Err(ENODATA),
        Err(NoOrigin::Invalid) => Err(EINVAL),
    }
}

/// Zero bytes in front of a handle of the union's own.
const PADDING: usize = 3;

/// The longest handle, a header and padding in front of it.
pub(crate) struct Value(Aligned<{ PADDING + MAX_VALUE }>, usize);

impl Value {
    /// The empty value.
    #[inline]
    pub(crate) fn empty() -> Self {
        Self(Aligned([0; PADDING + MAX_VALUE]), PADDING)
    }

    /// The bytes to be stored.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0 .0.get(PADDING..self.1).unwrap_or_default()
    }

    /// Makes the empty value that which names `real`, an object in upper where `upper`.
    ///
    /// # Errors
    ///
    /// `EIO` where the filesystem fails to encode.
    #[inline(never)]
    fn set(&mut self, layers: &Layers, real: &Inode, upper: bool) -> Result {
        let (start, rest) = self.0 .0.split_at_mut(PADDING + HEADER);
        let (kind, len) = vfs::handle::encode(real, rest)?;
        let len = HEADER + len;
        let (_, header) = start.split_at_mut(PADDING);
        let (start, uuid) = header.split_at_mut(5);
        start.copy_from_slice(&[
            VERSION,
            MAGIC,
            u8::try_from(len).map_err(|_| EIO)?,
            FLAG_CPU | if upper { FLAG_UPPER } else { 0 },
            kind,
        ]);
        uuid.copy_from_slice(&layers.uuid_of(real.sb()));
        self.1 = PADDING + len;
        Ok(())
    }

    /// Makes the empty value what is recorded of an object that is copied up from `lower`; that stays empty where its
    /// filesystem has no handles.
    ///
    /// # Errors
    ///
    /// `EIO` where the filesystem fails to encode.
    pub(crate) fn set_origin(&mut self, fs: &Overlay, lower: &Inode) -> Result {
        match lower.sb().handle_kind() {
            // A mount with an index has seen that all layers have some, and cannot do without: a security module may say
            // otherwise now.
            HandleKind::None if fs.index().is_none() => Ok(()),
            _ => self.set(&fs.layers, lower, false),
        }
    }
}

/// A handle of the union's own.
impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0 .0.get(..self.1).unwrap_or_default()
    }
}

/// The value that names `real`, an object in upper where `upper`.
///
/// # Errors
///
/// `EIO` where the filesystem fails to encode.
// In line: it is too large to be moved.
#[inline]
pub(crate) fn encode(layers: &Layers, real: &Inode, upper: bool) -> Result<Value> {
    let mut value = Value::empty();
    value.set(layers, real, upper)?;
    Ok(value)
}

/// Whether the mounter can decode handles of all `layers`.
pub(crate) fn all_decode<'a>(mut layers: impl Iterator<Item = &'a Mount>) -> bool {
    layers.all(|mnt| mnt.sb().handle_kind() != HandleKind::None)
}

/// Records on the upper object `path` where it comes from; where upper has no attributes, or none on
/// objects of its type, nothing is recorded.
pub(crate) fn record(fs: &Overlay, path: WritePath<'_>, value: &[u8]) -> Result {
    match marks::set_own(fs, path, Mark::Origin, value, Ok(())) {
        Err(e) if e == EPERM => Ok(()),
        other => other,
    }
}

/// The handle that `mark` of the upper object `path` holds; `None` where it holds none that can be used.
///
/// # Errors
///
/// `ENOMEM`.
fn stored(own: Namespace, path: PathRef<'_>, mark: Mark) -> Result<Option<KVVec<u8>>> {
    let value = match xattr::get_all(path, own.name(mark)) {
        Err(e) if e == ENODATA || e == EOPNOTSUPP => return Ok(None),
        Err(e) if e == ENOMEM => return Err(e),
        Err(e) => {
            warn_limited!(
                "failed to get origin of {} ({})\n",
                path.dentry(),
                e.to_errno()
            );
            return Ok(None);
        }
        Ok(value) => value,
    };
    match parse(&value) {
        Ok(_) => Ok(Some(value)),
        Err(NoOrigin::Unknown) => Ok(None),
        Err(NoOrigin::Invalid) => {
            warn_limited!("invalid origin on {}\n", path.dentry());
            Ok(None)
        }
    }
}

/// Whether the handle that `mark` of the upper object `path` holds is `value`; `None` where it holds none that can be used.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn holds(
    own: Namespace,
    path: PathRef<'_>,
    mark: Mark,
    value: &[u8],
) -> Result<Option<bool>> {
    let Some(stored) = stored(own, path, mark)? else {
        return Ok(None);
    };
    let len = stored.get(2).map_or(0, |len| usize::from(*len));
    Ok(Some(stored.get(..len) == Some(value)))
}

/// Finds the lower object that the upper non-directory `path` was copied up from.
///
/// # Errors
///
/// `ENOMEM` and what decoding returns; an origin that is unknown, stale or of another type is `None`.
pub(crate) fn find<'a>(
    layers: &'a Layers,
    own: Namespace,
    path: PathRef<'_>,
) -> Result<Option<InLayer<'a>>> {
    match stored(own, path, Mark::Origin)? {
        Some(value) => find_named(layers, own, path, &value),
        None => Ok(None),
    }
}

/// As [`find`], for the origin `value`.
pub(crate) fn find_named<'a>(
    layers: &'a Layers,
    own: Namespace,
    path: PathRef<'_>,
    value: &[u8],
) -> Result<Option<InLayer<'a>>> {
    let Ok(origin) = parse(value) else {
        return Ok(None);
    };
    if !may_decode() {
        return Ok(None);
    }
    let found = in_lower(layers, &origin, HandleRef::decode)?;
    if let Some(found) = &found {
        if !same_type(own, path, found.dentry()) {
            warn_limited!("invalid origin on {}: another type\n", path.dentry());
            return Ok(None);
        }
    }
    Ok(found)
}

/// Whether the current credentials may decode handles of layers.
pub(crate) fn may_decode() -> bool {
    cred::capable(cred::Capability::DAC_READ_SEARCH)
}

/// The object of the first lower layer in which `decode` finds what `origin` names, for who [may](may_decode).
#[inline(always)]
fn in_lower<'a, 'h>(
    layers: &'a Layers,
    origin: &Origin<'h>,
    decode: impl Fn(HandleRef<'h>, &'a Mount) -> Result<Option<Ref<'a, Dentry>>>,
) -> Result<Option<InLayer<'a>>> {
    let Ok(handle) = HandleRef::new(origin.kind, origin.handle) else {
        warn_limited!("invalid file handle of a layer\n");
        return Ok(None);
    };
    for (index, layer) in layers.lower().iter().enumerate() {
        if !layers.has_unique_uuid(layer) || layers.uuid_of(layer.mnt().sb()) != *origin.uuid {
            continue;
        }
        let found = decode(handle, layer.mnt())?;
        if let Some(found) = found.filter(|found| !found.is_weird()) {
            return Ok(Some(InLayer::new(found, u16::try_from(index + 1)?)));
        }
    }
    Ok(None)
}

/// The type of the union's own handles (`OVL_FILEID_V1`).
pub(crate) const KIND: u8 = 0xf8;
/// That of older kernels (`OVL_FILEID_V0`): nothing is in front of the value, and as much behind it.
const KIND_UNPADDED: u8 = 0xfb;

/// A handle to look for an object of a layer by, for who [may](may_decode).
pub(crate) struct Wanted<'a>(Origin<'a>);

impl<'a> Wanted<'a> {
    /// That in one of the union's own, `bytes` of type `kind`, which a client sent; `EINVAL` where they are of no form that is
    /// known here.
    pub(crate) fn by_client(kind: i32, bytes: &'a [u8]) -> Result<Self> {
        let value = match u8::try_from(kind) {
            Ok(KIND) => bytes.get(PADDING..),
            Ok(KIND_UNPADDED) => {
                let len = bytes.len().checked_sub(PADDING);
                len.and_then(|len| bytes.get(..len))
            }
            _ => None,
        };
        let origin = parse(value.ok_or(EINVAL)?);
        origin.map(Self).map_err(|_| EINVAL)
    }

    /// Whether it is that of an object in upper.
    pub(crate) fn is_upper(&self) -> bool {
        self.0.upper
    }

    /// Finds the lower object. It need not have a name, nor be in the layer: all objects of a filesystem have handles.
    pub(crate) fn in_lower<'b>(&self, layers: &'b Layers) -> Result<Option<InLayer<'b>>> {
        in_lower(layers, &self.0, HandleRef::decode)
    }

    /// Finds the lower directory, which is in the layer.
    pub(crate) fn dir_in_lower<'b>(&self, layers: &'b Layers) -> Result<Option<InLayer<'b>>> {
        in_lower(layers, &self.0, HandleRef::decode_dir)
    }

    /// Finds the upper object; a directory is in upper, anything else on its filesystem.
    pub(crate) fn in_upper<'b>(&self, layers: &'b Layers) -> Result<Option<Ref<'b, Dentry>>> {
        let Some(found) = in_upper(layers, &self.0, HandleRef::decode)? else {
            return Ok(None);
        };
        match found.is_dir() {
            true => in_upper(layers, &self.0, HandleRef::decode_dir),
            false => Ok(Some(found)),
        }
    }
}

/// The object that `decode` finds on the filesystem of upper for what `origin` names, for who [may](may_decode).
fn in_upper<'a, 'h>(
    layers: &'a Layers,
    origin: &Origin<'h>,
    decode: impl Fn(HandleRef<'h>, &'a Mount) -> Result<Option<Ref<'a, Dentry>>>,
) -> Result<Option<Ref<'a, Dentry>>> {
    let mnt = layers.upper().ok_or(EACCES)?.mnt();
    if layers.uuid_of(mnt.sb()) != *origin.uuid {
        return Ok(None);
    }
    let Ok(handle) = HandleRef::new(origin.kind, origin.handle) else {
        return Ok(None);
    };
    let found = decode(handle, mnt)?;
    Ok(found.filter(|found| !found.is_weird()))
}

/// What the entry `entry` of the index, a directory, says of the upper directory that it stands for.
pub(crate) enum Indexed<'a> {
    /// Nothing.
    Unsaid,
    /// It is no more.
    Gone,
    /// It is this, on upper's filesystem.
    Is(Ref<'a, Dentry>),
}

/// Finds the upper directory that the entry `entry` of the index stands for; in upper, where it is to be `connected`.
///
/// # Errors
///
/// `EIO` where it is no directory; what decoding returns.
pub(crate) fn indexed_dir<'a>(
    layers: &'a Layers,
    own: Namespace,
    entry: PathRef<'_>,
    connected: bool,
) -> Result<Indexed<'a>> {
    let Some(value) = stored(own, entry, Mark::Upper)? else {
        return Ok(Indexed::Unsaid);
    };
    let origin = parse(&value).map_err(|_| EIO)?;
    if !may_decode() {
        return Ok(Indexed::Gone);
    }
    let decode = if connected {
        HandleRef::decode_dir
    } else {
        HandleRef::decode
    };
    Ok(match in_upper(layers, &origin, decode)? {
        None => Indexed::Gone,
        Some(found) if found.is_dir() => Indexed::Is(found),
        Some(found) => {
            let entry = entry.dentry();
            warn_limited!("invalid index upper ({entry}, upper={})\n", *found);
            return Err(EIO);
        }
    })
}

fn same_type(own: Namespace, path: PathRef<'_>, origin: &Dentry) -> bool {
    match (path.dentry().inode(), origin.inode()) {
        (Some(upper), Some(lower)) => {
            upper.mode().file_type() == lower.mode().file_type()
                || whiteout::is_whiteout(own, path, true)
        }
        _ => false,
    }
}

#[kernel::macros::kunit_tests(rovl_origin)]
mod tests {
    use super::*;

    const GOOD: [u8; 25] = [
        0, 0xfb, 25, FLAG_CPU, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3, 4,
    ];

    #[test]
    fn good() {
        let origin = Origin {
            upper: false,
            kind: 1,
            uuid: &[9; 16],
            handle: &[1, 2, 3, 4],
        };
        assert_eq!(parse(&GOOD), Ok(origin));
    }

    #[test]
    fn bad() {
        let change = |at: usize, to: u8| {
            let mut value = GOOD;
            if let Some(byte) = value.get_mut(at) {
                *byte = to;
            }
            parse(&value).err()
        };
        assert_eq!(parse(&[]).err(), Some(NoOrigin::Unknown));
        assert_eq!(
            parse(GOOD.get(..20).unwrap_or_default()).err(),
            Some(NoOrigin::Invalid)
        );
        assert_eq!(
            parse(GOOD.get(..24).unwrap_or_default()).err(),
            Some(NoOrigin::Invalid)
        );
        assert_eq!(change(0, 1), Some(NoOrigin::Unknown));
        assert_eq!(change(1, 0), Some(NoOrigin::Invalid));
        assert_eq!(change(2, 26), Some(NoOrigin::Invalid));
        assert_eq!(change(2, 20), Some(NoOrigin::Invalid));
        assert_eq!(change(3, 8), Some(NoOrigin::Unknown));
        assert_eq!(
            change(3, FLAG_CPU ^ FLAG_BIG_ENDIAN),
            Some(NoOrigin::Unknown)
        );
        assert_eq!(change(3, FLAG_ANY_ENDIAN), None);
    }
}
