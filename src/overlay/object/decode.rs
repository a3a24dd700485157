// SPDX-License-Identifier: GPL-2.0

//! From a file handle to the object that it names.
//!
//! A handle names an object of a layer. What the union has of that is known, where it is in use; else it is made. A
//! directory is looked up on the way that its names in the layer say, so that it is always connected; anything else gets a
//! dentry without a name.

use super::{found::Object, lowerdata::DataFound};
use crate::{
    overlay::{
        layer::{
            handle::{self, Indexed, Wanted},
            index::{self, Entry},
            marks, redirect, whiteout,
            xattr_names::Mark,
            Layer,
        },
        union::{Dentry, Inode, NewInode, Overlay, Super},
    },
    vfs::{
        self,
        backing::{InLayer, LowerPath, Lowers, UPPER},
        cred,
        dentry::REVALIDATE,
        log::warn_limited,
        NameSnapshot, Ref,
    },
};
use kernel::prelude::*;

/// What is left of an object.
type Found<'a> = Result<Option<Ref<'a, Dentry>>>;

/// The dentry of the object that `handle` of type `kind` names; `None` where there is none, or the caller may not open
/// handles of layers.
///
/// # Errors
///
/// `EINVAL` where it is no handle of a union; what the layers return.
pub(super) fn decode<'a>(sb: &'a Super, kind: i32, handle: &[u8]) -> Found<'a> {
    let fs = sb.fs();
    let handle = Wanted::by_client(kind, handle)?;
    // Whoever opens a handle passes by the directories on the way. The mounter was asked at the mount.
    if !handle::may_decode() {
        return Ok(None);
    }
    cred::scope(fs.creds(), |_| match handle.is_upper() {
        true => match handle.in_upper(&fs.layers)? {
            Some(upper) => of_upper(sb, upper),
            None => Ok(None),
        },
        false => of_lower(sb, &handle),
    })
}

/// That of the upper object `upper`.
fn of_upper<'a>(sb: &'a Super, upper: Ref<'a, vfs::Dentry>) -> Found<'a> {
    if upper.is_dir() {
        return connect(sb, &upper, UPPER);
    }
    if let Some(known) = known(sb, &upper, UPPER)? {
        return Ok(Some(known));
    }
    let fs = sb.fs();
    let path = fs.upper().ok_or(EIO)?.path(&upper)?;
    // As a lookup finds it.
    let lower = handle::find(&fs.layers, fs.namespace(), path)?;
    let is_indexed = match &lower {
        Some(lower) => index::of_lower(fs, Some(&upper), lower.dentry().positive()?)?.is_some(),
        None => false,
    };
    unnamed(sb, Some(upper), lower, is_indexed)
}

/// That of a lower object.
fn of_lower<'a>(sb: &'a Super, handle: &Wanted<'_>) -> Found<'a> {
    let layers = &sb.fs().layers;
    let Some(found) = handle.in_lower(layers)? else {
        return Ok(None);
    };
    let is_dir = found.dentry().is_dir();
    // A directory that nobody has reached by its name is not in use.
    if !is_dir || !found.dentry().is_disconnected() {
        if let Some(known) = known(sb, found.dentry(), found.layer())? {
            return Ok(Some(known));
        }
    }
    let copy = match copy_of(sb, found.dentry())? {
        Copy::None => None,
        Copy::Removed => return Ok(None),
        Copy::Is(copy) => Some(copy),
    };
    match (copy, is_dir) {
        (None, false) => unnamed(sb, None, Some(found), false),
        (Some(copy), false) => unnamed(sb, Some(copy), Some(found), true),
        (Some(copy), true) => connect(sb, &copy, UPPER),
        (None, true) => match handle.dir_in_lower(layers)? {
            Some(found) => connect(sb, found.dentry(), found.layer()),
            None => Ok(None),
        },
    }
}

/// What became of a lower object, as the index tells.
enum Copy<'a> {
    /// Nothing that is told of.
    None,
    /// It was removed.
    Removed,
    /// It was copied up.
    Is(Ref<'a, vfs::Dentry>),
}

/// What became of the lower object `lower`.
///
/// # Errors
///
/// `ESTALE` where the index has the copy of something else; what the layers return.
fn copy_of<'a>(sb: &'a Super, lower: &vfs::Dentry) -> Result<Copy<'a>> {
    let fs = sb.fs();
    let (Some(upper), Some(_)) = (fs.upper(), fs.index()) else {
        return Ok(Copy::None);
    };
    let own = fs.namespace();
    let origin = handle::encode(&fs.layers, lower.positive()?, false)?;
    let entry = match index::find(fs, &index::Name::of_origin(&origin))? {
        Entry::Missing => return Ok(Copy::None),
        Entry::Whiteout => return Ok(Copy::Removed),
        Entry::Object(entry) => entry,
    };
    if entry.is_weird() || entry.is_dir() != lower.is_dir() {
        return Err(EIO);
    }
    let copy = if entry.is_dir() {
        match handle::indexed_dir(&fs.layers, own, upper.path(&entry)?, true)? {
            Indexed::Is(copy) => copy,
            Indexed::Unsaid | Indexed::Gone => return Ok(Copy::Removed),
        }
    } else {
        let said = handle::holds(own, upper.path(&entry)?, Mark::Origin, origin.as_bytes())?;
        if said != Some(true) {
            return Err(ESTALE);
        }
        entry
    };
    Ok(Copy::Is(copy))
}

/// What stands behind `inode` in layer `layer`.
fn real_at(inode: &Inode, layer: u16) -> Option<&vfs::Dentry> {
    match layer {
        UPPER => inode.upper(),
        _ => {
            let lowers = inode.lowers();
            let index = lowers.down_to(layer).checked_sub(1)?;
            let lower = lowers.get(index)?;
            (lower.layer() == layer).then_some(lower.dentry())
        }
    }
}

/// A dentry of the inode that is known by `real`, of layer `layer`.
///
/// # Errors
///
/// `ESTALE` where it is not made of that: the layer was changed underneath.
fn known<'a>(sb: &'a Super, real: &vfs::Dentry, layer: u16) -> Found<'a> {
    let key = real.positive()?;
    let Some(inode) = NewInode::known(sb, key) else {
        return Ok(None);
    };
    let behind = match layer {
        UPPER => inode.upper(),
        _ => inode.lowers().first().map(LowerPath::dentry),
    };
    if behind.and_then(vfs::Dentry::inode) != Some(key) {
        return Err(ESTALE);
    }
    Ok(inode.alias())
}

/// A dentry of a non-directory, which need not have a name.
fn unnamed<'a>(
    sb: &'a Super,
    upper: Option<Ref<'a, vfs::Dentry>>,
    lower: Option<InLayer<'a>>,
    is_indexed: bool,
) -> Found<'a> {
    let fs = sb.fs();
    let lower = lower.map(|lower| in_its_layer(fs, lower)).transpose()?;
    let layer = match (&upper, &lower) {
        (Some(_), _) => fs.upper(),
        (None, Some(lower)) => fs.layer(lower.layer()),
        (None, None) => None,
    };
    let (layer, real) = layer
        .zip(upper.as_deref().or(lower.as_ref().map(InLayer::dentry)))
        .ok_or(EIO)?;
    let data = match data_of(fs, layer, real)? {
        Some(data) => data,
        None => return Ok(None),
    };
    let object = Object {
        upper,
        lower: lower.map_or(Lowers::Empty, Lowers::One),
        data,
        is_indexed,
        is_made: false,
    };
    let inode = object.inode(sb, None)?;
    let flags = inode.revalidate_flags();
    let dentry = inode.obtain_alias()?;
    dentry.change_revalidate(REVALIDATE, flags);
    Ok(Some(dentry))
}

/// `lower` as one of the layer that it is in, if that can be told: several can be on its filesystem, each mount with a mapping
/// of owners of its own.
fn in_its_layer<'a>(fs: &Overlay, lower: InLayer<'a>) -> Result<InLayer<'a>> {
    let dentry = lower.dentry();
    let is_in = |layer: &Layer| {
        let root = layer.mnt().root();
        dentry.sb() == root.mnt().sb() && dentry.is_subdir_of(root.dentry())
    };
    match fs.lower_layers().iter().position(is_in) {
        Some(index) => Ok(lower.seen_in(u16::try_from(index + 1)?)),
        None => Ok(lower),
    }
}

/// Where the data of the non-directory `real` is; `None` where that is no object that the union shows.
fn data_of(fs: &Overlay, layer: &Layer, real: &vfs::Dentry) -> Result<Option<DataFound>> {
    let (own, path) = (fs.namespace(), layer.path(real)?);
    let marked = marks::may_have_own(own, layer, real);
    if whiteout::is_whiteout(own, path, marked) {
        return Ok(None);
    }
    let mut data = DataFound::default();
    let metacopy = match marked && real.is_reg() {
        true => marks::metacopy(own, path)?,
        false => None,
    };
    if let Some(metacopy) = metacopy {
        let redirect = redirect::read(own, path)?.filter(|redirect| redirect.is_path());
        if redirect.is_none() || fs.data_layers().is_empty() {
            warn_limited!("refusing to follow metacopy origin for ({real})\n");
            return Err(EPERM);
        }
        data.has_digest = metacopy.has_digest;
        data.in_data_layer = redirect;
    }
    Ok(Some(data))
}

/// Looked for anew so often where directories on the way are renamed meanwhile.
const ATTEMPTS: usize = 16;

/// The dentry of the directory `real` of layer `layer`: looked up on the way that leads to it from a directory that is in use,
/// or from the root.
///
/// # Errors
///
/// `ESTALE` where it is not what the union shows there, `EXDEV` where it is not in the layer.
fn connect<'a>(sb: &'a Super, real: &vfs::Dentry, layer: u16) -> Found<'a> {
    for _ in 0..ATTEMPTS {
        let mut way = KVec::new();
        let mut at = real.get();
        let start = loop {
            if let Some(dir) = in_use(sb, &at, layer)? {
                break dir;
            }
            let parent = at.up();
            if *parent == *at {
                return Err(EXDEV);
            }
            way.push(at, GFP_KERNEL)?;
            at = parent;
        };
        if let Some(found) = down(start, &way, layer)? {
            return Ok(Some(found));
        }
    }
    Err(ESTALE)
}

/// The directory that `real` of layer `layer` stands behind, where that need not be looked up by its name: it is known, or the
/// index tells of its copy, whose names are those in upper.
fn in_use<'a>(sb: &'a Super, real: &vfs::Dentry, layer: u16) -> Found<'a> {
    let root = sb.root()?;
    if real_at(root.own_positive()?, layer) == Some(real) {
        return Ok(Some(root.into()));
    }
    if let Some(known) = known(sb, real, layer)? {
        return Ok(Some(known));
    }
    if layer == UPPER {
        return Ok(None);
    }
    let found = match copy_of(sb, real)? {
        Copy::None => return Ok(None),
        Copy::Removed => return Err(ESTALE),
        Copy::Is(copy) => connect(sb, &copy, UPPER)?.ok_or(ESTALE)?,
    };
    match found.own_inode().and_then(|inode| real_at(inode, layer)) == Some(real) {
        true => Ok(Some(found)),
        false => Err(EIO),
    }
}

/// Looks the directories of `way`, the last one first, up from `dir`; `None` where one of them was renamed meanwhile.
fn down<'a>(mut dir: Ref<'a, Dentry>, way: &[Ref<'_, vfs::Dentry>], layer: u16) -> Found<'a> {
    for real in way.iter().rev() {
        let name = NameSnapshot::take(real);
        let found = dir.lookup(name.as_bytes());
        let is_it = |found: &Dentry| {
            let inode = found.own_inode();
            inode.and_then(|inode| real_at(inode, layer)) == Some(&**real)
        };
        match found {
            Ok(found) if is_it(&found) => dir = found,
            other => {
                let is_there = real_at(dir.own_positive()?, layer) == Some(&*real.parent())
                    && NameSnapshot::take(real).as_bytes() == name.as_bytes();
                return match (is_there, other) {
                    (false, _) => Ok(None),
                    (true, Err(e)) => Err(e),
                    (true, Ok(_)) => Err(ESTALE),
                };
            }
        }
    }
    Ok(Some(dir))
}
