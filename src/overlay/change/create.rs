// SPDX-License-Identifier: GPL-2.0

//! Changing directories: creating, linking, removing, unnamed files.

use crate::overlay::{
    change::{copy_up, links},
    file::RegularFile,
    layer::{
        redirect::{self, How},
        temp::{self, Temp},
        whiteout,
    },
    object::{
        found::Object,
        inode::{self, NameMark},
    },
    union::{Child, Dentry, Inode, NewInode, Overlay},
};
use crate::vfs::{
    self,
    acl::{Acl, AclType},
    attr::Iattr,
    cred::{self, NewEntry},
    dentry::REVALIDATE,
    dirop::{rename_flags, Creating, New, Renaming},
    file_ops::{Instantiated, OpenTmpfile},
    mount::{IdMap, Writing},
    Mode, OpGuard, Ref,
};
use kernel::prelude::*;

/// What a new name gets.
enum Entry<'a> {
    /// A new object and the inode prepared for it.
    Object(NewInode<'a>, New<'a>),
    /// A further link of this inode, whose operation lock is held.
    Link(&'a OpGuard<'a, Overlay>),
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
fn prepare<'a>(
    idmap: &IdMap,
    dentry: &'a Dentry,
    dir: &Inode,
    mode: Mode,
    rdev: u32,
) -> Result<NewInode<'a>> {
    let mut new = NewInode::unhashed(dentry.own_sb())?;
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
    let write = fs.want_write()?;
    let mut new = prepare(idmap, child.dentry(), child.dir(), mode, rdev)?;
    new.set_creating();
    let (mode, owner) = (new.mode(), new.owner());
    let was_covered = whiteout::is_covered(child.dentry());
    cred::scope(fs.creds(), |original| {
        let creator = cred::creator(original, NewEntry::Named(child), owner, mode)?;
        cred::scope(&creator, |_| {
            let what = match target {
                Some(target) => New::Symlink(target),
                None => New::Node(mode, rdev),
            };
            create_entry(write.writing(), child, Entry::Object(new, what))
        })
    })?;
    // Lower directories are not read with write access to upper.
    drop(write);
    if let (Ok(dir), false) = (child.parent_dir(), was_covered) {
        dir.created();
    }
    Ok(())
}

/// Creates a hard link.
pub(crate) fn link(old: &Dentry, new: Child<'_>) -> Result {
    let fs = new.fs();
    copy_up::copy_up(old)?;
    copy_up::copy_up(new.parent())?;
    let inode = old.own_positive()?;
    let held = inode.lock_op_killable()?;
    let write = fs.want_write()?;
    cred::scope(fs.creds(), |_| {
        if inode.has_origin() {
            new.parent_dir()?.set_impure(write.writing())?;
        }
        if inode.is_bare() {
            let upper = write.writing().path(inode.expect_upper()?.dentry())?;
            redirect::record(old, upper, How::Path)?;
        }
        links::record(&held, write.writing())?;
        create_entry(write.writing(), new, Entry::Link(&held))
    })
}

fn create_entry(writing: Writing<'_>, child: Child<'_>, entry: Entry<'_>) -> Result {
    let parent = child.parent_dir()?;
    let dir = parent.expect_upper()?.dentry();
    let upper = if whiteout::is_covered(child.dentry()) {
        create_over_whiteout(writing, child, &entry)?
    } else {
        let new = match &entry {
            Entry::Object(_, new) => *new,
            Entry::Link(held) => New::Link(held.inode().expect_upper()?.dentry()),
        };
        let upper = Creating::start(writing, dir, child.name())?.create(new)?;
        let checked = child.fs().check_folding(&upper);
        checked.inspect_err(|_| temp::discard(writing, dir, &upper))?;
        let path = writing.path(&upper)?;
        // Bound to their origins, the layers below grow no names while they are not mounted.
        if path.dentry().is_dir() && parent.reals().is_merged() && child.fs().config.needs_origins()
        {
            // It spares later lookups the lower layers, no more: it may fail.
            let _ = whiteout::set_opaque(child.dentry(), path, EIO);
        }
        upper
    };
    let origin = match &entry {
        Entry::Link(held) => held.inode().has_origin(),
        Entry::Object(..) => false,
    };
    parent.entries_changed(origin);
    let made = upper.clone();
    instantiate(child, upper, entry).inspect_err(|_| temp::discard(writing, dir, &made))
}

/// Makes a negative dentry positive.
fn instantiate(child: Child<'_>, upper: Ref<'_, vfs::Dentry>, entry: Entry<'_>) -> Result {
    let marks = child.marks();
    marks.set(NameMark::UpperAlias);
    if marks.test(NameMark::Whiteout) {
        marks.clear(NameMark::Whiteout);
    }
    match entry {
        Entry::Object(new, _) => {
            let sb = child.dentry().own_sb();
            child.instantiate(Object::made(upper).inode(sb, Some(new))?);
        }
        Entry::Link(held) => {
            held.inc_nlink();
            child.instantiate(held.inode().into());
            // A later lookup finds the lower object of the new name, if there is one.
            child.unhash();
        }
    }
    child.change_revalidate(REVALIDATE, inode::revalidate_flags(child.dentry()));
    Ok(())
}

/// Creates an entry in the work directory and moves it over the whiteout.
fn create_over_whiteout<'a>(
    writing: Writing<'a>,
    child: Child<'a>,
    entry: &Entry<'_>,
) -> Result<Ref<'a, vfs::Dentry>> {
    let (mnt, work) = child.dentry().fs().work()?;
    let dir = child.dir().expect_upper()?.dentry();
    let whiteout = dir.lookup(mnt, child.name())?;
    if !whiteout::is_whiteout(child.fs().namespace(), mnt.path(&whiteout)?, true) {
        return Err(ESTALE);
    }
    // The ACLs are those of the union's directory: the work directory has none.
    let (new, inherited) = match entry {
        Entry::Link(held) => (New::Link(held.inode().expect_upper()?.dentry()), None),
        Entry::Object(_, New::Node(mode, rdev)) => {
            let (mode, default, access) = Acl::inherit(child.dir(), *mode)?;
            (New::Node(mode, *rdev), Some((mode, default, access)))
        }
        Entry::Object(_, new) => (*new, None),
    };
    let is_dir = matches!(new, New::Node(mode, _) if mode.is_dir());
    let temp = Temp::create(writing, work, new)?;
    let made = temp.path()?;
    child.fs().check_folding(made.dentry())?;
    let flags = if is_dir { rename_flags::EXCHANGE } else { 0 };
    let renaming = Renaming::start_two(writing, (work, made.dentry()), (dir, &whiteout), flags)?;
    if let Some((mode, default, access)) = inherited {
        let upper = made.positive()?;
        if upper.mode() != mode {
            let lock = upper.lock();
            Iattr::mode(mode).apply(made, &lock)?;
        }
        for (acl, kind) in [(access, AclType::Access), (default, AclType::Default)] {
            if let Some(acl) = acl {
                acl.write(made, kind)?;
            }
        }
    }
    if is_dir {
        whiteout::set_opaque(child.dentry(), made, EIO)?;
    }
    renaming.rename()?;
    let upper = temp.keep()?;
    if is_dir {
        temp::discard(writing, work, &whiteout);
    }
    Ok(upper)
}

/// Opens an unnamed file.
pub(crate) fn tmpfile<'a>(
    idmap: &IdMap,
    dir: &Inode,
    mut file: OpenTmpfile<'a, Overlay>,
    mode: Mode,
) -> Result<Instantiated<'a, Overlay>> {
    let fs = dir.fs();
    let dentry = file.dentry();
    if !fs.has_tmpfile() {
        return Err(EOPNOTSUPP);
    }
    copy_up::copy_up(&dentry.own_parent())?;
    let write = fs.want_write()?;
    let new = prepare(idmap, dentry, dir, mode, 0)?;
    let (mode, owner) = (new.mode(), new.owner());
    cred::scope(fs.creds(), |original| {
        let creator = cred::creator(original, NewEntry::Unnamed(&file), owner, mode)?;
        cred::scope(&creator, |_| {
            let parent = write.writing().path(dir.upper().ok_or(EROFS)?)?;
            let (data, upper) = RegularFile::open_unnamed(&mut file, parent, mode)?;
            dentry.marks().set(NameMark::UpperAlias);
            let inode =
                Object::made(upper.as_ref().dentry().get()).inode(dentry.own_sb(), Some(new))?;
            let flags = inode.revalidate_flags();
            let instantiated = file.instantiate(inode, data)?;
            dentry.change_revalidate(REVALIDATE, flags);
            Ok(instantiated)
        })
    })
}
