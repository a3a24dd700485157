// SPDX-License-Identifier: GPL-2.0

//! Copy-up: an object of a lower layer gets its copy in upper, whole or not at all.
//!
//! A pipeline of states, one function each: [`Planned`] (what is to be copied, under which name)
//! `-> ` [`Staged`] (an empty object that no name leads to yet) `-> ` [`Filled`] (data, then
//! attributes) `-> ` published under its name. A staged object removes itself unless published. No
//! lock of upper and no write access is held while data is copied.

use crate::overlay::{
    layer::{
        handle,
        temp::Temp,
        xattr_names::{self, Class},
    },
    object::{
        inode::{self, COPIED_FLAGS, REMOVED, UPPER_ALIAS},
        protected,
    },
    union::{Dentry, Inode, OpenFile, Overlay},
};
use crate::vfs::{
    self,
    acl::{Acl, AclType},
    attr::{fl, statx, FileAttr, Iattr, Stat},
    cred,
    dirop::{self, Creating, New, Renaming},
    file::{self, LayerFile},
    inode::InodeGuard,
    log::warn_limited,
    mount::PathRef,
    xattr::{self, SetFlags},
    CBuf, Mode, NameSnapshot,
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// Bytes copied between two looks for a fatal signal.
const CHUNK: i64 = 1 << 20;

/// The longest file whose holes are not looked for where nothing says that it has any.
const SMALL: i64 = 16 << 10;

/// How much of an object is wanted in upper.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// All of it.
    Full,
    /// All but the data: it will be truncated to nothing at once.
    Truncated,
}

/// Copies `dentry` up, its parents first.
pub(crate) fn copy_up(dentry: &Dentry) -> Result {
    copy_up_want(dentry, Want::Full)
}

/// Prepares opening a file: where that truncates it is copied up, where it may write it is copied up
/// later, by the first write, if it could be copied up now.
///
/// # Errors
///
/// `EROFS` where upper can't be written, so that nobody learns it only after the work is done.
pub(crate) fn copy_up_for_open(open: OpenFile<'_>) -> Result {
    let (dentry, flags) = (open.dentry(), open.flags());
    if !file::open_writes(flags) || is_done(dentry) {
        return Ok(());
    }
    let fs = dentry.fs();
    if flags & file::flags::O_TRUNC != 0 {
        return copy_up_want(dentry, Want::Truncated);
    }
    // Whether direct I/O is possible is a question to the file that will be written. A driver that opens
    // the file for a file of its own maps it without asking where.
    if fs.copies_up_at_open()
        || flags & file::flags::O_DIRECT != 0
        || file::is_backing(open.file())
        || dentry.is_unhashed()
        || open.inode().upper().is_some()
    {
        return copy_up(dentry);
    }
    let _write = fs.work()?.0.want_write()?;
    Ok(())
}

/// Whether nothing is left to do: the object is in upper, under this dentry's name too.
#[inline]
pub(crate) fn is_done(dentry: &Dentry) -> bool {
    dentry
        .own_inode()
        .is_some_and(|inode| inode.upper().is_some())
        && (dentry.marks().test(UPPER_ALIAS) || dentry.is_disconnected())
}

fn copy_up_want(dentry: &Dentry, want: Want) -> Result {
    if dentry.marks().test(REMOVED) && !is_done(dentry) {
        // What is still seen under another name is copied up under that.
        if let Some(other) = dentry.hashed_alias() {
            let other = dentry.own(other)?;
            copy_up_hashed(&other, want)?;
        }
    }
    copy_up_hashed(dentry, want)
}

fn copy_up_hashed(dentry: &Dentry, want: Want) -> Result {
    while !is_done(dentry) {
        // The topmost ancestor that is not in upper yet comes first; its parent is in upper.
        let mut next: ARef<Dentry> = dentry.into();
        let mut parent = next.own_parent();
        while parent.own_positive()?.upper().is_none() {
            next = parent;
            parent = next.own_parent();
            if *parent == *next {
                return Err(EROFS);
            }
        }
        let this = if *next == *dentry { want } else { Want::Full };
        cred::scope(dentry.fs().creds(), |_| copy_up_one(&parent, &next, this))?;
    }
    Ok(())
}

/// What is to be copied.
struct Planned<'a> {
    fs: &'a Overlay,
    dentry: &'a Dentry,
    inode: &'a Inode,
    parent: &'a Inode,
    lower: PathRef<'a>,
    /// The name was removed while the file was open: the copy gets none.
    removed: bool,
    stat: &'a Stat,
    /// Times of the parent, which creating an entry in it changes.
    parent_stat: &'a Stat,
    link: Option<CBuf>,
}

/// An object in upper that no name leads to yet.
enum Staged<'a> {
    /// An unnamed file.
    Unnamed(ARef<LayerFile>),
    /// An entry of the work directory.
    Work(Temp<'a>),
}

/// A staged object that is complete.
struct Filled<'a>(Staged<'a>);

impl Staged<'_> {
    fn path(&self) -> PathRef<'_> {
        match self {
            Self::Unnamed(file) => PathRef::of_file(file),
            Self::Work(temp) => temp.path(),
        }
    }
}

fn copy_up_one(parent: &Dentry, dentry: &Dentry, want: Want) -> Result {
    let fs = dentry.fs();
    let inode = dentry.own_positive()?;
    let parent = parent.own_positive()?;
    let lower = inode.lower_path().ok_or(ESTALE)?;
    let upper_mnt = fs.work()?.0;
    let (mut stat, mut parent_stat) = (Stat::zeroed(), Stat::zeroed());
    lower.stat(&mut stat, statx::BASIC)?;
    if !stat.ids_mapped() {
        return Err(EOVERFLOW);
    }
    let parent_path = parent.upper_path().ok_or(EROFS)?;
    match parent_path.dentry.inode() {
        Some(inode) if inode.sb().is_ordinary() => parent_stat.set_times(inode),
        _ => parent_path.stat(&mut parent_stat, statx::TIMES)?,
    }
    if want == Want::Truncated {
        stat.set_size(0);
    }
    let link = if stat.mode().is_lnk() {
        Some(
            lower
                .dentry
                .with_link(|target| CBuf::new(target.to_bytes()))?,
        )
    } else {
        None
    };
    let mut plan = Planned {
        fs,
        dentry,
        inode,
        parent,
        lower,
        removed: false,
        stat: &stat,
        parent_stat: &parent_stat,
        link,
    };

    // One copy-up of an object at a time; others wait and find it done.
    let _lock = inode.op_lock().lock_killable()?;
    if is_done(dentry) {
        return Ok(());
    }
    plan.removed = dentry.marks().test(REMOVED);
    if dentry.is_unhashed() && !plan.removed {
        // Not the dentry of its name any more.
        return Err(ENOENT);
    }
    let _access = upper_mnt.write_access()?;
    match inode.upper() {
        // Two names are one lower file, and this is the second.
        Some(upper) => plan.link_up(upper)?,
        None => {
            let staged = plan.stage()?;
            let filled = plan.fill(staged)?;
            plan.publish(filled)?;
        }
    }
    dentry.marks().set(UPPER_ALIAS);
    if let Some(upper) = inode.upper() {
        dentry.change_revalidate(0, upper.revalidate_flags());
    }
    Ok(())
}

impl<'a> Planned<'a> {
    fn is_file(&self) -> bool {
        self.stat.mode().is_reg()
    }

    /// Creates the empty object.
    fn stage(&self) -> Result<Staged<'a>> {
        let (mnt, work) = self.fs.work()?;
        if !self.removed {
            let _write = mnt.start_write();
            self.parent.set_impure()?;
        }
        cred::scope_copy_up(self.dentry, || {
            let _write = mnt.start_write();
            if self.is_file() && self.fs.has_tmpfile() {
                let dir = PathRef { mnt, dentry: work };
                return Ok(Staged::Unnamed(dirop::tmpfile(dir, self.stat.mode())?));
            }
            let new = match &self.link {
                Some(target) => New::Symlink(target.as_cstr()),
                // Permissions come later: the umask would mutilate them here.
                None => New::Node(Mode(self.stat.mode().file_type()), self.stat.rdev()),
            };
            Ok(Staged::Work(Temp::create(mnt, work, new)?))
        })
    }

    /// Copies the data. Attributes come after it: writing would strip file capabilities.
    fn fill(&self, staged: Staged<'a>) -> Result<Filled<'a>> {
        let mnt = self.fs.work()?.0;
        let copied = if self.is_file() && self.stat.size() > 0 {
            self.copy_data(&staged)
        } else {
            Ok(())
        };
        let _write = mnt.start_write();
        // Dropped before the guard: what is staged is given up with write access held.
        let staged = staged;
        copied?;
        self.copy_metadata(staged.path())?;
        Ok(Filled(staged))
    }

    fn copy_data(&self, staged: &Staged<'_>) -> Result {
        let opened;
        let to: &File = match staged {
            Staged::Unnamed(file) => file,
            Staged::Work(temp) => {
                opened = file::open_checked(temp.path(), true)?;
                &opened
            }
        };
        let from = file::open_checked(self.lower, false)?;
        let len = self.stat.size();
        // Sharing of extents, where the filesystem can; else it fails and data is copied.
        if file::clone_range(&from, to, len) == Ok(len) {
            return Ok(());
        }
        file::verify_area(&from, false, 0, len)?;
        file::verify_area(to, true, 0, len)?;
        let dense = len <= SMALL && self.stat.occupied() >= len;
        let mut seek = !dense && file::can_seek(&from);
        let (mut pos, mut data) = (0, -1);
        while pos < len {
            if file::fatal_signal_pending() {
                return Err(EINTR);
            }
            if seek && data < pos {
                match file::seek_data(&from, pos) {
                    Ok(next) if next > pos => {
                        // A hole stays one: the final size is set with the attributes.
                        (pos, data) = (next, next);
                        continue;
                    }
                    Ok(next) => data = next,
                    Err(e) if file::is_no_data(e) => break,
                    Err(_) => seek = false,
                }
            }
            let part = usize::try_from((len - pos).min(CHUNK))?;
            match file::copy(&from, to, pos, part)? {
                // The lower file was truncated underneath: what is missing stays a hole.
                0 => break,
                copied => pos += i64::try_from(copied)?,
            }
        }
        file::fsync_all(to)
    }

    fn copy_metadata(&self, to: PathRef<'_>) -> Result {
        copy_xattrs(self.lower, to)?;
        let mode = self.stat.mode();
        if self.inode.flags() & COPIED_FLAGS != 0 && (mode.is_reg() || mode.is_dir()) {
            self.copy_file_flags(to)?;
        }
        // The links of a lower file are separate files in upper: they have no common origin.
        if mode.is_dir() || self.stat.nlink() == 1 {
            let value = handle::encode(self.lower.dentry.positive()?)?;
            handle::record(self.fs, to, value.as_bytes())?;
        }
        let inode = to.dentry.positive()?;
        let lock = inode.lock();
        if mode.is_reg() && inode.size() != self.stat.size() {
            Iattr::size(self.stat.size()).apply(to, &lock)?;
        }
        set_attributes(to, self.stat, &lock)
    }

    /// Copies `chattr` flags; append-only and immutable go into an attribute, as they would keep the
    /// staged object from being linked.
    fn copy_file_flags(&self, to: PathRef<'_>) -> Result {
        let unsupported = |e: Error| e == ENOTTY || e == EINVAL;
        let mut old = FileAttr::common();
        match old.read(self.lower) {
            Err(e) if unsupported(e) => return Ok(()),
            other => other?,
        }
        let copied = old.flags() & (fl::SYNC | fl::NOATIME);
        if old.flags() & (fl::APPEND | fl::IMMUTABLE) != 0 {
            match protected::store(self.inode, to, &mut old) {
                Err(e) if e == EPERM => pr_warn!("copying fileattr: no xattr on upper\n"),
                other => other?,
            }
        }
        if copied == 0 {
            return Ok(());
        }
        let mut new = FileAttr::common();
        match new.read(to) {
            Err(e) if unsupported(e) => {
                warn_limited!("copying fileattr: no support on upper\n");
                return Ok(());
            }
            other => other?,
        }
        new.replace(
            fl::SYNC | fl::NOATIME,
            copied,
            fl::X_SYNC | fl::X_NOATIME,
            old.xflags(),
        );
        new.write(to)
    }

    /// Gives the object its name and the inode its upper dentry.
    fn publish(&self, filled: Filled<'a>) -> Result {
        let (mnt, work) = self.fs.work()?;
        let _write = mnt.start_write();
        // Dropped before the write access is.
        let filled = filled;
        if self.removed {
            // Like any file that is removed while it is open. The work directory's entry removes itself.
            self.inode.set_upper(filled.0.path().dentry.get())?;
            // A name that is the same lower file has not lost it.
            self.inode.unhash();
            return Ok(());
        }
        let dir = self.parent.expect_upper()?;
        let upper = match filled.0 {
            // The linked dentry counts, not that of the unnamed file: it has name and parent.
            Staged::Unnamed(file) => self.link(PathRef::of_file(&file).dentry)?,
            Staged::Work(temp) => {
                let name = NameSnapshot::take(self.dentry);
                let renaming = Renaming::start_dentry(
                    mnt,
                    (work, temp.dentry()),
                    (dir, name.as_bytes()),
                    true,
                    0,
                )
                // Somebody else moved the entry of the work directory.
                .map_err(|e| if e == EINVAL { EIO } else { e })?;
                renaming.rename()?;
                temp.publish()
            }
        };
        if self.stat.mode().is_dir() {
            self.inode.data().flags.set(inode::WHITEOUTS);
        }
        self.inode.set_upper(upper)?;
        self.restore_parent_times(dir);
        Ok(())
    }

    /// Links `object`, which is in upper, under the dentry's name.
    fn link(&self, object: &vfs::Dentry) -> Result<ARef<vfs::Dentry>> {
        let (mnt, _) = self.fs.work()?;
        let name = NameSnapshot::take(self.dentry);
        let creating = Creating::start(mnt, self.parent.expect_upper()?, name.as_bytes())?;
        if !creating.dentry().is_negative() {
            return Err(EEXIST);
        }
        creating.create(New::Link(object))
    }

    /// Gives what is in upper under another name this one, too.
    fn link_up(&self, upper: &vfs::Dentry) -> Result {
        if self.removed {
            return Ok(());
        }
        let _write = self.fs.work()?.0.start_write();
        self.parent.set_impure()?;
        self.link(upper)?;
        self.restore_parent_times(self.parent.expect_upper()?);
        Ok(())
    }

    /// Copy-up is no change of the directory that users should see; best effort.
    fn restore_parent_times(&self, dir: &vfs::Dentry) {
        let path = PathRef {
            mnt: match self.fs.work() {
                Ok((mnt, _)) => mnt,
                Err(_) => return,
            },
            dentry: dir,
        };
        if let Some(inode) = dir.inode() {
            let lock = inode.lock();
            if let Err(e) = Iattr::times(self.parent_stat).apply(path, &lock) {
                warn_limited!("times of {dir} not restored ({})\n", e.to_errno());
            }
        }
    }
}

/// Gives an upper object mode, owner and times of `stat`.
pub(crate) fn set_attributes(to: PathRef<'_>, stat: &Stat, lock: &InodeGuard<'_>) -> Result {
    let mut all = Iattr::owner(stat).and(Iattr::times(stat));
    if !stat.mode().is_lnk() {
        all = all.and(Iattr::mode(stat.mode()));
    }
    // A request with a new group lets a mounter without CAP_FSETID keep no set-group-ID bit.
    let sgid = stat.mode().0 & Mode::SGID != 0;
    if !sgid && all.without_known(lock).apply(to, lock).is_ok() {
        return Ok(());
    }
    // One by one: a filesystem that cannot keep these times can still keep the file.
    if !stat.mode().is_lnk() {
        Iattr::mode(stat.mode()).apply(to, lock)?;
    }
    Iattr::owner(stat).apply(to, lock)?;
    if let Err(e) = Iattr::times(stat).apply(to, lock) {
        warn_limited!("times of {} not set ({})\n", to.dentry, e.to_errno());
    }
    Ok(())
}

/// Whether a copy without this attribute would be another file.
fn must_copy(name: &[u8]) -> bool {
    name.starts_with(b"security.")
}

/// Copies the extended attributes of `from` that users see to `to`.
pub(crate) fn copy_xattrs(from: PathRef<'_>, to: PathRef<'_>) -> Result {
    if !from.dentry.positive()?.has_listxattr() || !to.dentry.positive()?.has_listxattr() {
        return Ok(());
    }
    let len = match xattr::list(from.dentry, &mut []) {
        Err(e) if e == EOPNOTSUPP => return Ok(()),
        other => other?,
    };
    if len == 0 {
        return Ok(());
    }
    let mut list: KVVec<u8> = KVVec::from_elem(0, len, GFP_KERNEL)?;
    let len = xattr::list(from.dentry, &mut list)?;
    let list = list.get(..len).ok_or(EIO)?;
    for name in list.split_inclusive(|b| *b == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| EIO)?;
        // Escaped ones are a user's: they are stored on a layer as they are.
        if xattr_names::classify(name.to_bytes()) == Class::Private {
            continue;
        }
        if !xattr::copy_up_wanted(from.dentry, name)? {
            continue;
        }
        copy_xattr(from, to, name)?;
    }
    Ok(())
}

fn copy_xattr(from: PathRef<'_>, to: PathRef<'_>, name: &CStr) -> Result {
    if let Some(kind) = AclType::of_xattr(name) {
        return match Acl::read(from, kind) {
            Err(e) if e == ENODATA || e == EOPNOTSUPP => Ok(()),
            Err(e) => Err(e),
            Ok(None) => Ok(()),
            Ok(Some(acl)) => acl.write(to, kind),
        };
    }
    let value = match xattr::get_all(from, name) {
        // Removed since it was listed.
        Err(e) if e == ENODATA => return Ok(()),
        // An empty value grants nothing and cannot be read.
        Err(e) if name == c"security.capability" && (e == EINVAL || e == EOPNOTSUPP) => {
            return Ok(());
        }
        other => other?,
    };
    match xattr::set(to, name, &value, SetFlags::ANY) {
        Err(e) if e == EOPNOTSUPP && !must_copy(name.to_bytes()) => Ok(()),
        other => other,
    }
}
