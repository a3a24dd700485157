// SPDX-License-Identifier: GPL-2.0

//! Changing directories: creating, linking, removing, unnamed files.

use crate::overlay::{
    change::copy_up,
    file::RegularFile,
    layer::{
        temp::{self, Temp},
        whiteout, LowerStack,
    },
    object::inode::{self, Parameters, UPPER_ALIAS},
    union::{Child, Dentry, Inode, NewInode, Overlay},
};
use crate::vfs::{
    self,
    acl::{Acl, AclType},
    attr::Iattr,
    cred::{self, NewEntry},
    dentry::REVALIDATE,
    dirop::{rename_flags, Creating, New, Renaming},
    file_ops::OpenTmpfile,
    mount::{IdMap, PathRef},
    Mode,
};
use kernel::{prelude::*, sync::aref::ARef};

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
        let creator = cred::creator(original, NewEntry::Named(child), &owner, mode)?;
        cred::scope(&creator, |_| {
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
            new.dir().set_impure()?;
        }
        create_entry(new, Entry::Link(inode))
    })
}

fn create_entry(child: Child<'_>, entry: Entry<'_>) -> Result {
    let fs = child.fs();
    let (mnt, _) = fs.work()?;
    let dir = child.dir().expect_upper()?;
    let upper = if whiteout::is_covered(child.dentry()) {
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
            let _ = whiteout::set_opaque(child.dentry(), path, EIO);
        }
        upper
    };
    let origin = matches!(&entry, Entry::Link(inode) if inode.parts().origin);
    child.dir().entries_changed(origin);
    let made = upper.clone();
    instantiate(child, upper, entry).inspect_err(|_| temp::discard(mnt, dir, &made))
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
    if !whiteout::is_whiteout(path, true) {
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
            if let Some(acl) = acl {
                acl.write(temp.path(), kind)?;
            }
        }
    }
    if is_dir {
        whiteout::set_opaque(child.dentry(), temp.path(), EIO)?;
    }
    renaming.rename()?;
    let upper = temp.publish();
    if is_dir {
        temp::discard(mnt, work, &whiteout);
    }
    Ok(upper)
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
        let creator = cred::creator(original, NewEntry::Unnamed(file), &owner, mode)?;
        cred::scope(&creator, |_| {
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
