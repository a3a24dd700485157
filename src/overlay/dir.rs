// SPDX-License-Identifier: GPL-2.0

//! Changing directories: creating, linking, removing, unnamed files.

use super::{
    copy_up,
    file::RegularFile,
    inode::{self, Parameters, WHITEOUTS},
    layer::LowerStack,
    lookup::{self, OPAQUE, REMOVED, UPPER_ALIAS},
    names::own,
    readdir,
    workdir::{self, Temp},
    xattrs, Child, Dentry, Inode, NewInode, Overlay,
};
use crate::vfs::{
    self,
    acl::{Acl, AclType},
    attr::{statx, Iattr, Stat},
    cred,
    dentry::REVALIDATE,
    dirop::{rename_flags, Creating, New, Removing, Renaming},
    file_ops::OpenTmpfile,
    mount::{IdMap, PathRef},
    CBuf, Mode,
};
use kernel::{prelude::*, sync::aref::ARef};

/// Whether a negative dentry stands for a whiteout in upper.
pub(crate) fn is_whiteout(dentry: &Dentry) -> bool {
    dentry.is_negative() && dentry.marks().test(OPAQUE)
}

/// Whether nothing but upper makes a directory up, whiteouts included.
pub(crate) fn is_pure_upper(inode: &Inode) -> bool {
    inode.data().lower.is_empty() && !inode.data().flags.test(WHITEOUTS)
}

/// Whether an upper dentry is that of `inode`.
pub(crate) fn is_upper_of(inode: &Inode, upper: &vfs::Dentry) -> bool {
    match (inode.upper().and_then(vfs::Dentry::inode), upper.inode()) {
        (Some(known), Some(found)) => known == found,
        _ => false,
    }
}

/// Marks an upper directory (and its dentry) as one that hides the lower layers; `missing` where
/// upper has no attributes.
pub(crate) fn set_opaque(dentry: &Dentry, upper: PathRef<'_>, missing: Error) -> Result {
    xattrs::set_own(dentry.fs(), upper, own::OPAQUE, b"y", Err(missing))?;
    dentry.marks().set(OPAQUE);
    Ok(())
}

/// Takes a name off an inode's link count, as far as the names in the dcache allow: the count of a
/// layer that was changed underneath may be too low.
pub(crate) fn drop_link(dentry: &Dentry, inode: &Inode) {
    if inode.nlink() > u32::from(dentry.has_hashed_alias()) {
        inode.drop_nlink();
    }
}

/// What a new name gets.
enum Entry<'a> {
    /// A new object and the inode prepared for it.
    Object(NewInode, New<'a>),
    /// A further link of this inode.
    Link(&'a Inode),
}

/// Creates a regular file, directory, device, FIFO or socket.
pub(crate) fn create(idmap: &IdMap, child: Child<'_>, mode: Mode, rdev: u32) -> Result {
    create_object(idmap, child, mode, rdev, None)
}

/// Creates a symlink.
pub(crate) fn symlink(idmap: &IdMap, child: Child<'_>, target: &CStr) -> Result {
    create_object(idmap, child, Mode(Mode::LNK), 0, Some(target))
}

/// An inode for a new entry of `dir`.
fn prepare(idmap: &IdMap, dentry: &Dentry, dir: &Inode, mode: Mode, rdev: u32) -> Result<NewInode> {
    let mut new = NewInode::unhashed(dentry.sb())?;
    new.set_kind(mode, rdev);
    new.init_owner(idmap, dir, mode);
    Ok(new)
}

fn create_object(
    idmap: &IdMap,
    child: Child<'_>,
    mode: Mode,
    rdev: u32,
    target: Option<&CStr>,
) -> Result {
    let fs = child.fs();
    copy_up::copy_up(child.parent())?;
    let _write = fs.work()?.0.want_write()?;
    let mut new = prepare(idmap, child.dentry(), child.dir(), mode, rdev)?;
    new.set_creating();
    let mode = new.inode().mode();
    let owner = new.inode().get();
    cred::scope(fs.creds(), |original| {
        cred::scope_creator(original, child.dentry(), &owner, mode, || {
            let what = match target {
                Some(target) => New::Symlink(target),
                None => New::Node(mode, rdev),
            };
            create_entry(child, Entry::Object(new, what))
        })
    })
}

/// Creates a hard link.
pub(crate) fn link(old: &Dentry, new: Child<'_>) -> Result {
    let fs = new.fs();
    copy_up::copy_up(old)?;
    copy_up::copy_up(new.parent())?;
    let inode = old.own_positive()?;
    let _lock = inode.op_lock().lock_killable()?;
    let _write = fs.work()?.0.want_write()?;
    cred::scope(fs.creds(), |_| {
        if inode.parts().origin {
            xattrs::set_impure(new.dir())?;
        }
        create_entry(new, Entry::Link(inode))
    })
}

fn create_entry(child: Child<'_>, entry: Entry<'_>) -> Result {
    let fs = child.fs();
    let (mnt, _) = fs.work()?;
    let dir = child.dir().expect_upper()?;
    let upper = if is_whiteout(child.dentry()) {
        create_over_whiteout(child, &entry)?
    } else {
        let new = match &entry {
            Entry::Object(_, new) => *new,
            Entry::Link(inode) => New::Link(inode.expect_upper()?),
        };
        let upper = Creating::start(mnt, dir, child.name())?.create(new)?;
        // Where redirects are made the layers below grow no names while they are not mounted.
        if upper.is_dir() && child.dir().parts().merged && fs.makes_redirects() {
            let path = PathRef {
                mnt,
                dentry: &upper,
            };
            // It spares later lookups the lower layers, no more: it may fail.
            let _ = set_opaque(child.dentry(), path, EIO);
        }
        upper
    };
    let origin = matches!(&entry, Entry::Link(inode) if inode.parts().origin);
    child.dir().entries_changed(origin);
    let made = upper.clone();
    instantiate(child, upper, entry).inspect_err(|_| workdir::discard(mnt, dir, &made))
}

/// Makes a negative dentry positive.
fn instantiate(child: Child<'_>, upper: ARef<vfs::Dentry>, entry: Entry<'_>) -> Result {
    child.marks().set(UPPER_ALIAS);
    match entry {
        Entry::Object(new, _) => {
            let parameters = Parameters {
                upper: Some(upper),
                lower: LowerStack::Empty,
                prepared: Some(new),
            };
            child.instantiate(parameters.inode(child.sb(), child.fs())?);
        }
        Entry::Link(inode) => {
            inode.inc_nlink();
            child.instantiate(inode.into());
            // A later lookup finds the lower object of the new name, if there is one.
            child.unhash();
        }
    }
    let flags = inode::revalidate_flags(child.own_inode());
    child.change_revalidate(REVALIDATE, flags);
    Ok(())
}

/// Creates an entry in the work directory and moves it over the whiteout.
fn create_over_whiteout(child: Child<'_>, entry: &Entry<'_>) -> Result<ARef<vfs::Dentry>> {
    let fs = child.fs();
    let (mnt, work) = fs.work()?;
    let dir = child.dir().expect_upper()?;
    let whiteout = dir.lookup(mnt, child.name())?;
    let path = PathRef {
        mnt,
        dentry: &whiteout,
    };
    if !xattrs::is_whiteout(path, true) {
        return Err(ESTALE);
    }
    // The ACLs are those of the union's directory: the work directory has none.
    let (new, inherited) = match entry {
        Entry::Link(inode) => (New::Link(inode.expect_upper()?), None),
        Entry::Object(_, New::Node(mode, rdev)) => {
            let (mode, default, access) = Acl::inherit(child.dir(), *mode)?;
            (New::Node(mode, *rdev), Some((mode, default, access)))
        }
        Entry::Object(_, new) => (*new, None),
    };
    let is_dir = matches!(new, New::Node(mode, _) if mode.is_dir());
    let temp = Temp::create(mnt, work, new)?;
    let flags = if is_dir { rename_flags::EXCHANGE } else { 0 };
    let renaming = Renaming::start_two(mnt, (work, temp.dentry()), (dir, &whiteout), flags)?;
    if let Some((mode, default, access)) = inherited {
        let upper = temp.dentry().positive()?;
        if upper.mode() != mode {
            let lock = upper.lock();
            Iattr::mode(mode).apply(temp.path(), &lock)?;
        }
        for (acl, kind) in [(access, AclType::Access), (default, AclType::Default)] {
            if let Some(mut acl) = acl {
                acl.write(temp.path(), kind)?;
            }
        }
    }
    if is_dir {
        set_opaque(child.dentry(), temp.path(), EIO)?;
    }
    renaming.rename()?;
    let upper = temp.publish();
    if is_dir {
        workdir::discard(mnt, work, &whiteout);
    }
    Ok(upper)
}

/// Removes a name.
pub(crate) fn remove(child: Child<'_>, is_dir: bool) -> Result {
    let fs = child.fs();
    let inode = child.dentry().own_positive()?;
    let lower = lookup::lower_shows(child);
    let whiteouts = if is_dir && (lower || !is_pure_upper(inode)) {
        readdir::check_empty(child.dentry())?
    } else {
        KVec::new()
    };
    copy_up::copy_up(child.parent())?;
    {
        let _lock = inode.op_lock().lock_killable()?;
        let _write = fs.work()?.0.want_write()?;
        cred::scope(fs.creds(), |_| {
            remove_from_upper(child, inode, lower, &whiteouts)
        })?;
        if is_dir {
            inode.clear_nlink();
        } else {
            child.marks().set(REMOVED);
            drop_link(child.dentry(), inode);
        }
    }
    if inode.upper().is_some() {
        inode.refresh();
    }
    Ok(())
}

/// Removes the name's entry in upper; where `lower` has one too, a whiteout takes its place.
fn remove_from_upper(child: Child<'_>, inode: &Inode, lower: bool, whiteouts: &[CBuf]) -> Result {
    let fs = child.fs();
    let (mnt, _) = fs.work()?;
    let dir = child.dir().expect_upper()?;
    let replaced = if whiteouts.is_empty() {
        None
    } else {
        Some(clear_empty(child, whiteouts)?)
    };
    // What is there must be what the dentry stands for: others may have changed upper.
    let expected = |found: &vfs::Dentry| match &replaced {
        Some(replaced) => *found == **replaced,
        None => is_upper_of(inode, found),
    };
    if lower {
        let found = dir.lookup(mnt, child.name())?;
        if (replaced.is_some() || child.marks().test(UPPER_ALIAS)) && !expected(&found) {
            return Err(ESTALE);
        }
        let covered = workdir::cover(fs, dir, &found);
        if covered.is_ok() {
            child.dir().entries_changed(true);
            child.unhash();
        }
        return covered;
    }
    let removing = Removing::start(mnt, dir, child.name())?;
    if !expected(removing.dentry()) {
        return Err(ESTALE);
    }
    let removed = removing.remove();
    child.dir().entries_changed(inode.parts().origin);
    if removed.is_ok() {
        child.unhash();
    }
    removed
}

/// Exchanges an upper directory that holds whiteouts alone for an empty, opaque one, so that it can
/// be removed or replaced in one step. Returns the new upper directory.
pub(crate) fn clear_empty(child: Child<'_>, whiteouts: &[CBuf]) -> Result<ARef<vfs::Dentry>> {
    let fs = child.fs();
    let (mnt, work) = fs.work()?;
    let dir = child.dir().expect_upper()?;
    let inode = child.dentry().own_positive()?;
    let upper = inode.upper_path().ok_or(ESTALE)?;
    let mut stat = Stat::zeroed();
    upper.stat(&mut stat, statx::BASIC)?;
    if !stat.mode().is_dir() {
        return Err(ESTALE);
    }
    let temp = Temp::create(mnt, work, New::Node(stat.mode(), 0))?;
    let renaming = Renaming::start_two(
        mnt,
        (work, temp.dentry()),
        (dir, upper.dentry),
        rename_flags::EXCHANGE,
    )?;
    copy_up::copy_xattrs(upper, temp.path())?;
    set_opaque(child.dentry(), temp.path(), EIO)?;
    {
        let lock = temp.dentry().positive()?.lock();
        copy_up::set_attributes(temp.path(), &stat, &lock)?;
    }
    renaming.rename()?;
    let empty = temp.publish();
    for name in whiteouts {
        // Past the point of no return: what cannot be removed is left to the next mount.
        if let Ok(Some(whiteout)) = upper.dentry.lookup_positive(mnt, name.as_bytes(), false) {
            workdir::discard(mnt, upper.dentry, &whiteout);
        }
    }
    workdir::discard(mnt, work, upper.dentry);
    // The inode's upper directory is another one now.
    child.unhash();
    Ok(empty)
}

/// Opens an unnamed file.
pub(crate) fn tmpfile(
    idmap: &IdMap,
    dir: &Inode,
    file: &mut OpenTmpfile<'_, Overlay>,
    mode: Mode,
) -> Result {
    let fs = dir.fs();
    let dentry = file.open().dentry();
    if !fs.has_tmpfile() {
        return Err(EOPNOTSUPP);
    }
    copy_up::copy_up(&dentry.own_parent())?;
    let _write = fs.work()?.0.want_write()?;
    let new = prepare(idmap, dentry, dir, mode, 0)?;
    let mode = new.inode().mode();
    let owner = new.inode().get();
    cred::scope(fs.creds(), |original| {
        cred::scope_creator(original, dentry, &owner, mode, || {
            let parent = dir.upper_path().ok_or(EROFS)?;
            let (data, upper) = RegularFile::open_unnamed(file.open(), parent, mode)?;
            dentry.marks().set(UPPER_ALIAS);
            let parameters = Parameters {
                upper: Some(upper),
                lower: LowerStack::Empty,
                prepared: Some(new),
            };
            let inode = parameters.inode(dentry.sb(), fs)?;
            let flags = inode::revalidate_flags(Some(&inode));
            file.instantiate::<RegularFile>(inode, data);
            dentry.change_revalidate(REVALIDATE, flags);
            Ok(())
        })
    })
}
