// SPDX-License-Identifier: GPL-2.0

//! Attributes, permission, times, ACLs and `chattr` flags, for all kinds of inode.

use crate::{
    overlay::{
        change::copy_up,
        layer::{numbering::Dev, opened},
        object::{
            inode::NameMark,
            number,
            protected::{self, COPIED_FLAGS, PROTECTED_FLAGS},
            reals::{DataAt, Real},
        },
        union::{Dentry, Inode, Overlay},
    },
    vfs::{
        self,
        attr::{fl, statx, FileAttr, Iattr, Stat},
        cred,
        file::may,
        file_ops::Generation,
        inode_ops::FiemapRequest,
        mount::{IdMap, PathRef, WritePath},
        rcu::{RcuError, RcuInode, RcuLayerInode},
        Mode,
    },
};
use kernel::prelude::*;

/// Access to a file of type `mode` in a layer: writing to a lower one means reading it, for copy-up.
fn layer_mask(mask: u32, mode: Mode, upper: bool) -> u32 {
    if mask & may::WRITE == 0 || upper || mode.is_special() {
        mask
    } else {
        (mask & !(may::WRITE | may::APPEND)) | may::READ
    }
}

/// The two-step check: the caller on the overlay inode, then the mounter on the real one.
pub(crate) fn permission(idmap: &IdMap, inode: &Inode, mask: u32) -> Result {
    let mode = inode.mode();
    // One look at upper: a copy-up may set it meanwhile.
    let behind = inode.reals().attributes()?;
    let real = behind.path.positive()?;
    inode.generic_permission(idmap, mask, mode, real)?;
    let mask = layer_mask(mask, real.mode(), behind.is_upper());
    cred::scope(inode.fs().creds(), |_| {
        real.permission(behind.path.idmap(), mask)
    })
}

/// [`permission`] in RCU-walk.
pub(crate) fn permission_rcu(
    idmap: &IdMap,
    inode: RcuInode<'_, Overlay>,
    mask: u32,
) -> Result<(), RcuError> {
    let mode = inode.mode();
    // One look at upper: a copy-up may set it meanwhile.
    let upper = inode.upper();
    let path = upper
        .or_else(|| inode.lower())
        .ok_or(RcuError::WouldBlock)?;
    let real = path.inode()?;
    inode.generic_permission(idmap, mask, mode, real)?;
    let mask = layer_mask(mask, real.mode(), upper.is_some());
    cred::scope(inode.creds()?, |_| real.permission(path.idmap(), mask))
}

/// The layer's symlink that has the target, in RCU-walk. With the mounter's credentials.
pub(crate) fn link_source_rcu(inode: RcuInode<'_, Overlay>) -> Result<RcuLayerInode<'_>, RcuError> {
    let path = inode.upper().or_else(|| inode.lower());
    let path = path.ok_or(RcuError::WouldBlock)?;
    let real = path.inode()?;
    // Security modules judge the reading of a symlink by its dentry, which RCU-walk does not have; what they say of
    // its inode is as strict, and whoever is refused is asked again with references.
    real.permission(path.idmap(), may::READ)
        .map_err(|_| RcuError::WouldBlock)?;
    Ok(real)
}

/// `stat(2)`.
pub(crate) fn getattr(
    idmap: &IdMap,
    dentry: &Dentry,
    stat: &mut Stat,
    mask: u32,
    flags: u32,
) -> Result {
    let inode = dentry.own_positive()?;
    let reals = inode.reals();
    let real = reals.attributes()?;
    if !reals.are_one() {
        return getattr_of_several(idmap, dentry, stat, mask, flags);
    }
    show_real(idmap, dentry, stat, real, (mask, flags))?;
    show_number(dentry, stat, real.layer)
}

/// The same of what more than one real object answer for.
#[inline(never)]
fn getattr_of_several(
    idmap: &IdMap,
    dentry: &Dentry,
    stat: &mut Stat,
    mask: u32,
    flags: u32,
) -> Result {
    let inode = dentry.own_positive()?;
    let fs = dentry.fs();
    let is_dir = inode.mode().is_dir();
    let reals = inode.reals();
    let real = reals.attributes()?;
    show_real(idmap, dentry, stat, real, (mask, flags))?;
    let mut layer = real.layer;
    if let Some(origin) = reals.origin() {
        if !is_dir {
            // Who asked before the copy-up has that of the lower file, and would take an equal one for "not changed": IMA
            // when a file that was copied up by a write is closed.
            stat.forget_change_cookie();
            if inode.is_indexed() {
                stat.set_nlink(inode.nlink());
            }
        }
        if !is_dir || fs.numbering.has_one_device() {
            if let Some(ino) = number::of_origin(inode, origin.path, flags)? {
                stat.set_ino(ino);
                layer = origin.layer;
            }
        }
    }
    match reals.data() {
        DataAt::Here => {}
        DataAt::There(data) => {
            let mut of_data = Stat::zeroed();
            cred::scope(fs.creds(), |_| {
                data.path.stat_into(&mut of_data, statx::BLOCKS, flags)
            })?;
            stat.set_occupied_as(&of_data);
        }
        // Not worth a lookup.
        DataAt::NotLookedUp(_) => stat.guess_occupied(),
    }
    if reals.is_merged() {
        // Counting the subdirectories of all layers is not worth it; 1 means "not counted".
        stat.set_nlink(1);
    }
    show_number(dentry, stat, layer)
}

/// Has `stat` show what `real` has of the attributes `(mask, flags)`.
#[inline(always)]
fn show_real(
    idmap: &IdMap,
    dentry: &Dentry,
    stat: &mut Stat,
    real: Real<'_>,
    (mask, flags): (u32, u32),
) -> Result {
    let inode = dentry.own_positive()?;
    cred::scope(dentry.fs().creds(), |_| {
        real.path.stat_into(stat, mask, flags)
    })?;
    stat.fill_attributes(inode);
    stat.map_owner(idmap, inode);
    if !real.is_upper() && dentry.marks().test(NameMark::Removed) {
        // Removed while it was open; the layer's object has its name still.
        stat.set_nlink(0);
    }
    Ok(())
}

/// Has `stat`, whose number is that of an object in layer `layer`, show that as the union does.
#[inline(always)]
fn show_number(dentry: &Dentry, stat: &mut Stat, layer: u16) -> Result {
    let (fs, inode) = (dentry.fs(), dentry.own_positive()?);
    let made = inode.mode().is_dir().then(|| inode.ino());
    let (dev, ino) = fs.numbers(layer).stat(stat.ino(), made);
    stat.set_ino(ino);
    stat.set_dev(match dev {
        Dev::Union => dentry.sb().dev(),
        Dev::Layer => fs.layer_dev(layer)?,
    });
    Ok(())
}

/// Changes attributes in upper, where the object is copied up to: `change` is called with the mounter's credentials and
/// write access. The overlay inode is up to date afterwards.
pub(crate) fn modify(dentry: &Dentry, change: impl FnOnce(WritePath<'_>) -> Result) -> Result {
    copy_up::copy_up(dentry)?;
    modify_upper(dentry, change)
}

/// As [`modify`], of extended attributes: whatever name they are changed by, the copy that the index has is found by all.
pub(crate) fn modify_xattrs(
    dentry: &Dentry,
    change: impl FnOnce(WritePath<'_>) -> Result,
) -> Result {
    let inode = dentry.own_positive()?;
    if inode.upper().is_none() || !inode.is_indexed() {
        copy_up::copy_up(dentry)?;
    }
    modify_upper(dentry, change)
}

fn modify_upper(dentry: &Dentry, change: impl FnOnce(WritePath<'_>) -> Result) -> Result {
    let inode = dentry.own_positive()?;
    let upper = inode.expect_upper()?;
    // Who brings the data puts back what writing it takes away: it must not undo a change.
    let _held = match inode.is_bare() {
        true => Some(inode.lock_op_killable()?),
        false => None,
    };
    let write = inode.fs().want_write()?;
    let upper = write.writing().path(upper.dentry())?;
    let result = cred::scope(dentry.fs().creds(), |_| change(upper));
    inode.refresh();
    result
}

/// Before an attribute is removed that `read` reads: nothing is copied up to remove what is not there.
///
/// # Errors
///
/// Those of `read`.
pub(crate) fn must_have<T>(inode: &Inode, read: impl FnOnce(PathRef<'_>) -> Result<T>) -> Result {
    let real = inode.reals().attributes()?;
    if real.is_upper() {
        return Ok(());
    }
    cred::scope(inode.fs().creds(), |_| read(real.path)).map(drop)
}

/// `chmod`, `chown`, `truncate`, `utimes`; the caller is checked on the overlay inode, then upper is
/// changed with the mounter's credentials.
pub(crate) fn setattr(idmap: &IdMap, dentry: &Dentry, attr: &mut Iattr) -> Result {
    attr.prepare(idmap, dentry)?;
    attr.rebase(idmap, dentry.own_positive()?);
    if attr.changes_size() {
        copy_up::copy_up_data(dentry)?;
    }
    modify(dentry, |upper| {
        let inode = upper.positive()?;
        let _access = match attr.changes_size() {
            true => Some(inode.write_access()?),
            false => None,
        };
        attr.apply(upper, &inode.lock())
    })
}

/// The access time is upper's; lower layers keep none for us.
pub(crate) fn update_atime(inode: &Inode, nowait: bool) -> Result {
    if let Some(upper) = inode.upper_path() {
        if nowait {
            return Err(EAGAIN);
        }
        upper.touch_atime();
        if inode.copy_atime(upper.dentry().positive()?) {
            inode.fs().written.note();
        }
    }
    Ok(())
}

/// Extents of the real file that has the data.
pub(crate) fn fiemap(inode: &Inode, request: FiemapRequest<'_>) -> Result {
    let real = inode.content()?.path.positive()?;
    cred::scope(inode.fs().creds(), |_| request.pass(real))
}

/// Reads the `chattr` flags.
pub(crate) fn fileattr_get(dentry: &Dentry, fa: &mut FileAttr) -> Result {
    let inode = dentry.own_positive()?;
    let real = inode.reals().attributes()?;
    let result = match cred::scope(dentry.fs().creds(), |_| fa.read(real.path)) {
        // None are set, but they can be: in upper.
        Err(e)
            if e == ENOTTY
                && !real.is_upper()
                && dentry.fs().upper_can(vfs::Inode::has_set_fileattr) =>
        {
            Ok(())
        }
        result => result,
    };
    for (bit, flag, xflag) in [
        (protected::flags::APPEND, fl::APPEND, fl::X_APPEND),
        (protected::flags::IMMUTABLE, fl::IMMUTABLE, fl::X_IMMUTABLE),
    ] {
        if inode.flags() & bit != 0 {
            fa.replace(flag, flag, xflag, xflag);
        }
    }
    result
}

/// Changes the `chattr` flags. Append-only and immutable are kept in an attribute: set on the upper
/// inode they would stop our own later changes.
pub(crate) fn fileattr_set(dentry: &Dentry, fa: &mut FileAttr) -> Result {
    let inode = dentry.own_positive()?;
    modify(dentry, |upper| {
        let stored = protected::store(inode, upper, fa).and_then(|()| {
            protected::take_out(fa);
            fa.write(upper)
        });
        let kept = inode.flags() & PROTECTED_FLAGS;
        inode.set_flags(upper.positive()?.flags() | kept, COPIED_FLAGS);
        stored
    })
}

/// Tells the generation of the object whose number is shown, as its filesystem does.
pub(crate) fn generation(inode: &Inode, asked: Generation<'_>) -> Result {
    let real = inode.reals().number()?;
    let file = opened::for_reading(inode.fs(), real.path)?;
    cred::scope(inode.fs().creds(), |_| asked.pass(&file))
}
