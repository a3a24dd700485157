// SPDX-License-Identifier: GPL-2.0

//! Copy-up: an object of a lower layer gets its copy in upper, whole or not at all; with metacopy a file may get it in two
//! steps, its attributes first and its data later.
//!
//! A pipeline of states that consume each other, so that no step can be left out or done twice: [`Planned`] (what is to be
//! copied, to which place; both settled under the operation lock) `-> ` [`Staged`] (an object whose data nobody sees yet:
//! an empty one that no name leads to, or one of upper that is marked to have none) `-> ` [`Copied`] (with its data, or with
//! none on purpose) `-> ` [`Filled`] (with its attributes) `-> ` published: at its place, or by taking the mark away. What is
//! staged removes itself unless published, or stays as it was. No lock of upper is held and no freeze is held off while
//! data is copied, and files are closed when no lock is held at all.

use super::{
    data::{self, Bare, Copying},
    metadata::{copy_xattrs, set_attributes, set_file_flags},
    source::{Source, Want},
};
use crate::{
    overlay::{
        layer::{
            handle, marks,
            temp::{Parked, Temp},
        },
        mount::options::{Fsync, Verity},
        object::{
            inode::{self, Dir, DirFlag, NameMark},
            lowerdata,
        },
        union::{Dentry, OpenFile, Overlay},
    },
    vfs::{
        self,
        attr::{Iattr, Stat},
        cred,
        dirop::{self, Creating, New, Renaming},
        file::{self, LayerFile},
        log::warn_limited,
        mount::{MountAccess, PathRef, WritePath, Writing},
        sync::Once,
        Mode, NameSnapshot, OpGuard, Ref,
    },
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// Copies `dentry` up, its parents first, so that its attributes can be changed.
pub(crate) fn copy_up(dentry: &Dentry) -> Result {
    copy_up_want(dentry, Want::Attributes)
}

/// As [`copy_up`], so that its data can be changed, too.
pub(crate) fn copy_up_data(dentry: &Dentry) -> Result {
    copy_up_want(dentry, Want::Data)
}

/// Prepares opening a file: where that truncates it is copied up, where it may write it is copied up
/// later, by the first write, if it could be copied up now.
///
/// # Errors
///
/// `EROFS` where upper can't be written, so that nobody learns it only after the work is done.
pub(crate) fn copy_up_for_open(open: OpenFile<'_>) -> Result {
    let (dentry, flags) = (open.dentry(), open.flags());
    if !file::open_writes(flags) || has_data(dentry) {
        return Ok(());
    }
    let fs = dentry.fs();
    if flags & file::flags::O_TRUNC != 0 {
        return copy_up_want(dentry, Want::Nothing);
    }
    // Whether direct I/O is possible is a question to the file that will be written. A driver that opens
    // the file for a file of its own maps it without asking where. What shows another number afterwards, or is in upper
    // under another name alone, must not change so while it is open.
    if fs.copies_up_at_open()
        || flags & file::flags::O_DIRECT != 0
        || file::is_backing(open.file())
        || dentry.is_unhashed()
        || match open.inode().upper_path() {
            Some(_) => !is_done(dentry, Want::Attributes),
            None => !open.inode().keeps_number(),
        }
    {
        return copy_up_data(dentry);
    }
    let _write = fs.work()?.0.want_write()?;
    Ok(())
}

/// Whether nothing is left to do before data is changed: the object is in upper, under this dentry's name too, and has its
/// data.
#[inline]
pub(crate) fn has_data(dentry: &Dentry) -> bool {
    is_done(dentry, Want::Data)
}

/// Whether what is wanted of the object is in upper, under this dentry's name too.
#[inline]
fn is_done(dentry: &Dentry, want: Want) -> bool {
    dentry.own_inode().is_some_and(|inode| {
        let upper = match want {
            Want::Attributes => inode.upper(),
            Want::Data | Want::Nothing => inode.content_in_upper(),
        };
        upper.is_some()
    }) && (dentry.marks().test(NameMark::UpperAlias) || dentry.is_disconnected())
}

fn copy_up_want(dentry: &Dentry, want: Want) -> Result {
    if is_done(dentry, want) {
        return Ok(());
    }
    lowerdata::ensure(dentry)?;
    while !is_done(dentry, want) {
        if dentry.marks().test(NameMark::Removed) {
            // What is still seen under another name is copied up under that.
            if let Some(other) = dentry.hashed_alias() {
                copy_up_hashed(&other, want)?;
            }
        }
        copy_up_hashed(dentry, want)?;
    }
    Ok(())
}

/// Copies up the topmost ancestor that is not in upper yet, and so on, down to `dentry` itself.
fn copy_up_hashed(dentry: &Dentry, want: Want) -> Result {
    while !is_done(dentry, want) {
        let mut next: Ref<'_, Dentry> = dentry.into();
        let mut parent = next.up();
        while parent.own_positive()?.upper().is_none() {
            next = parent;
            parent = next.up();
            if *parent == *next {
                return Err(EROFS);
            }
        }
        let is_last = *next == *dentry;
        let want = if is_last { want } else { Want::Data };
        cred::scope(dentry.fs().creds(), |_| copy_up_one(&parent, &next, want))?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// Where the copy goes.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// To its name in this directory.
    Name(Dir<'a>),
    /// To no name: it was removed while the file was open.
    Nowhere,
    /// To where it is: upper has it under this name.
    There,
}

/// The files that a copy-up opens, which are closed when no lock is held any more: to close a file of a layer may mean to
/// wait for a daemon, and that one for a freeze.
struct Files {
    from: Once<ARef<LayerFile>>,
    to: Once<ARef<LayerFile>>,
}

fn copy_up_one(parent: &Dentry, dentry: &Dentry, want: Want) -> Result {
    let fs = dentry.fs();
    let inode = dentry.own_positive()?;
    let parent = parent.own_positive()?.dir()?;
    let (mnt, work) = fs.work()?;
    let (mut stat, mut parent_stat) = (Stat::zeroed(), Stat::zeroed());
    let source = Source::read(inode, parent, want, (&mut stat, &mut parent_stat))?;
    let files = Files {
        from: Once::new(),
        to: Once::new(),
    };

    // One copy-up of an object at a time; others wait and find it done.
    let held = inode.lock_op_killable()?;
    if is_done(dentry, want) {
        return Ok(());
    }
    let place = if is_done(dentry, Want::Attributes) {
        Place::There
    } else if !dentry.marks().test(NameMark::Removed) {
        if dentry.is_unhashed() {
            // Not the dentry of its name any more.
            return Err(ENOENT);
        }
        Place::Name(parent)
    } else {
        if inode.upper().is_none() && dentry.hashed_alias().is_some() {
            // There is another name since the caller looked.
            return Ok(());
        }
        Place::Nowhere
    };
    let want = match place {
        // What leads from the one name of two to the data below does not from the other.
        Place::Name(_) if want == Want::Attributes && inode.is_bare() => Want::Data,
        _ => want,
    };
    let access = mnt.write_access()?;
    let plan = Planned {
        fs,
        dentry,
        want,
        source: &source,
        files: &files,
        held: &held,
        access: &access,
        work,
        place,
    };
    let staged = match inode.upper_path() {
        Some(upper) => {
            // Two names are one lower file, and this is the second.
            plan.link_up(upper.dentry())?;
            match inode.is_bare() && want != Want::Attributes {
                true => Some(plan.stage_again(upper)?),
                false => None,
            }
        }
        None => Some(plan.stage()?),
    };
    if let Some(staged) = staged {
        let copied = staged.copy_data()?;
        let section = access.start_write();
        copied.fill(section.writing())?.publish()?;
    }
    dentry.marks().set(NameMark::UpperAlias);
    if let Some(upper) = inode.upper() {
        dentry.change_revalidate(0, upper.revalidate_flags());
    }
    Ok(())
}

/// What is to be copied, and where to.
struct Planned<'a> {
    fs: &'a Overlay,
    dentry: &'a Dentry,
    want: Want,
    source: &'a Source<'a>,
    files: &'a Files,
    held: &'a OpGuard<'a, Overlay>,
    access: &'a MountAccess<'a>,
    work: &'a vfs::Dentry,
    place: Place<'a>,
}

/// An object in upper that no name of the union leads to, or whose data is not looked at; what there was not before removes
/// itself when dropped.
enum Unseen<'a, Entry> {
    /// An unnamed file.
    Unnamed(&'a LayerFile),
    /// An entry of the work directory.
    Entry(Entry),
    /// What upper has without data.
    Bare(KBox<Bare<'a>>),
}

/// A copy without data.
struct Staged<'a> {
    plan: &'a Planned<'a>,
    object: Unseen<'a, Parked<'a>>,
}

/// A copy with as much of its data as it gets.
struct Copied<'a>(Staged<'a>);

/// A complete copy.
struct Filled<'a> {
    plan: &'a Planned<'a>,
    writing: Writing<'a>,
    object: Unseen<'a, Temp<'a>>,
}

impl<'a> Planned<'a> {
    fn is_file(&self) -> bool {
        self.source.stat.mode().is_reg()
    }

    /// Whether the copy is left without data.
    fn is_bare(&self) -> bool {
        // Where a digest is required, data without one must not be left.
        let can_be = self.fs.verity() != Verity::Require || self.source.digest.is_some();
        can_be && self.want.leaves_data(self.fs, self.source.stat.mode())
    }

    /// What becomes of the data.
    fn copy(&self) -> inode::Copy {
        match self.is_bare() {
            true => inode::Copy::Bare {
                has_digest: self.source.digest.is_some(),
            },
            false => inode::Copy::Whole,
        }
    }

    /// Whether the copy is synced after `step`, before anybody can see it: the one place that decides it.
    fn is_synced_after(&self, step: Step) -> bool {
        match self.fs.config.fsync.value {
            Fsync::Volatile => false,
            Fsync::Auto => step == Step::Data,
            // Nothing else can be opened without a meaning.
            Fsync::Strict => {
                step == Step::Attributes && (self.is_file() || self.source.stat.mode().is_dir())
            }
        }
    }

    /// Syncs the copy where that is due after `step`.
    fn sync_after(&self, step: Step) -> Result {
        match self.is_synced_after(step) {
            true => file::fsync_all(self.files.to.get().ok_or(EIO)?),
            false => Ok(()),
        }
    }

    /// Creates the empty object.
    fn stage(&'a self) -> Result<Staged<'a>> {
        if let Place::Name(parent) = self.place {
            let section = self.access.start_write();
            parent.set_impure(section.writing())?;
        }
        let object = cred::scope_copy_up(self.dentry, || self.create())?;
        Ok(Staged { plan: self, object })
    }

    /// Takes `upper`, which has no data, for the object that gets it.
    fn stage_again(&'a self, upper: PathRef<'a>) -> Result<Staged<'a>> {
        Ok(Staged {
            plan: self,
            object: Unseen::Bare(KBox::new(Bare::read(upper)?, GFP_KERNEL)?),
        })
    }

    fn create(&self) -> Result<Unseen<'a, Parked<'a>>> {
        let stat = self.source.stat;
        if self.is_file() && self.fs.has_tmpfile() {
            let section = self.access.start_write();
            let file = dirop::tmpfile(section.writing(), self.work, stat.mode())?;
            drop(self.files.to.set(file));
            return Ok(Unseen::Unnamed(self.files.to.get().ok_or(EIO)?));
        }
        let new = match &self.source.link {
            Some(target) => New::Symlink(target.as_cstr()),
            // Permissions come later: the umask would mutilate them here.
            None => New::Node(Mode(stat.mode().file_type()), stat.rdev()),
        };
        let made = Parked::create(self.access, self.work, new)?;
        self.fs.check_folding(made.path()?.dentry())?;
        Ok(Unseen::Entry(made))
    }

    fn copy_file(&self, from: &File, to: &File, len: i64) -> Result {
        match data::copy(from, to, len, self.source.stat.occupied())? {
            Copying::Shared => Ok(()),
            Copying::Written => self.sync_after(Step::Data),
        }
    }

    /// Links `object`, which is in upper, under the dentry's name in `dir`.
    fn link<'w>(
        &self,
        writing: Writing<'w>,
        dir: WritePath<'w>,
        object: &vfs::Dentry,
    ) -> Result<Ref<'w, vfs::Dentry>> {
        let name = NameSnapshot::take(self.dentry);
        let creating = Creating::start(writing, dir.dentry(), name.as_bytes())?;
        if !creating.dentry().is_negative() {
            return Err(EEXIST);
        }
        creating.create(New::Link(object))
    }

    /// Gives what is in upper under another name this one, too.
    fn link_up(&self, upper: &vfs::Dentry) -> Result {
        let Place::Name(parent) = self.place else {
            return Ok(());
        };
        let section = self.access.start_write();
        parent.set_impure(section.writing())?;
        let dir = section.writing().path(parent.expect_upper()?.dentry())?;
        self.link(section.writing(), dir, upper)?;
        self.restore_times(dir);
        Ok(())
    }

    /// Copy-up is no change of the directory that users should see; best effort.
    fn restore_times(&self, dir: WritePath<'_>) {
        if let Some(inode) = dir.dentry().inode() {
            let lock = inode.lock();
            if let Err(e) = Iattr::times(self.source.parent_stat).apply(dir, &lock) {
                warn_limited!(
                    "times of {} not restored ({})\n",
                    dir.dentry(),
                    e.to_errno()
                );
            }
        }
    }
}

/// What a copy can be synced after; once, as a sync costs more than all the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its data, so that a crash leaves no file with its size and without.
    Data,
    /// Its attributes, which come last.
    Attributes,
}

impl<'a> Staged<'a> {
    /// Copies the data. Attributes come after it: writing would strip file capabilities.
    fn copy_data(self) -> Result<Copied<'a>> {
        let plan = self.plan;
        let len = plan.source.stat.size();
        let has_data = plan.is_file() && len != 0 && !plan.is_bare();
        let files = plan.files;
        // What is synced with its attributes is opened while the mounter may still open it.
        let is_used = has_data || plan.is_synced_after(Step::Attributes);
        match &self.object {
            Unseen::Entry(entry) if is_used => {
                drop(files.to.set(file::open_checked(entry.path()?, has_data)?));
            }
            Unseen::Bare(bare) if is_used => {
                drop(files.to.set(file::open_checked(bare.path(), has_data)?));
            }
            _ => {}
        }
        if !has_data {
            return Ok(Copied(self));
        }
        drop(files.from.set(file::open_checked(plan.source.data, false)?));
        let (from, to) = (files.from.get().ok_or(EIO)?, files.to.get().ok_or(EIO)?);
        match plan.copy_file(from, to, len) {
            Ok(()) => Ok(Copied(self)),
            Err(e) => {
                if let Unseen::Bare(bare) = &self.object {
                    // Its data is still below; what was written here needs no room.
                    let _ = file::punch(to, len);
                    let section = plan.access.start_write();
                    let _ = bare.restore(section.writing());
                }
                Err(e)
            }
        }
    }
}

impl<'a> Copied<'a> {
    /// Gives the copy its attributes.
    fn fill<'b>(self, writing: Writing<'b>) -> Result<Filled<'b>>
    where
        'a: 'b,
    {
        let Staged { plan, object } = self.0;
        let object = match object {
            Unseen::Unnamed(file) => Unseen::Unnamed(file),
            Unseen::Entry(entry) => Unseen::Entry(entry.take_up(writing)?),
            Unseen::Bare(bare) => Unseen::Bare(bare),
        };
        let filled = Filled {
            plan,
            writing,
            object,
        };
        match &filled.object {
            Unseen::Bare(bare) if plan.want == Want::Data => bare.restore(writing)?,
            Unseen::Bare(_) => {}
            _ => filled.copy_metadata()?,
        }
        filled.plan.sync_after(Step::Attributes)?;
        Ok(filled)
    }
}

impl Filled<'_> {
    fn path(&self) -> Result<WritePath<'_>> {
        match &self.object {
            Unseen::Unnamed(file) => self.writing.path(PathRef::of_file(file).dentry()),
            Unseen::Entry(temp) => temp.path(),
            Unseen::Bare(bare) => self.writing.path(bare.path().dentry()),
        }
    }

    fn copy_metadata(&self) -> Result {
        let (source, to) = (self.plan.source, self.path()?);
        copy_xattrs(self.plan.fs.namespace(), source.lower, to)?;
        let mode = source.stat.mode();
        if let Some(flags) = &source.flags {
            set_file_flags(source.inode, flags, to)?;
        }
        // The links of a lower file are separate files in upper: they have no common origin.
        if mode.is_dir() || source.stat.nlink() == 1 {
            let value = handle::origin(source.lower.positive()?)?;
            handle::record(self.plan.fs, to, value.as_bytes())?;
        }
        if self.plan.is_bare() {
            marks::set_metacopy(self.plan.fs, to, source.digest.as_deref())?;
        }
        let inode = to.positive()?;
        let lock = inode.lock();
        if mode.is_reg() && inode.size() != source.stat.size() {
            Iattr::size(source.stat.size()).apply(to, &lock)?;
        }
        set_attributes(to, source.stat, &lock)
    }

    /// Puts the copy at its place and makes it the inode's upper object.
    fn publish(self) -> Result {
        let plan = self.plan;
        if let Unseen::Bare(bare) = &self.object {
            bare.complete(self.writing, plan.fs, plan.want == Want::Nothing)?;
            inode::set_whole(plan.held);
            plan.source.inode.refresh();
            return Ok(());
        }
        let copy = plan.copy();
        let Place::Name(parent) = plan.place else {
            // Like any file that is removed while it is open. The work directory's entry removes itself.
            inode::set_upper(plan.held, self.path()?.dentry().get(), copy)?;
            // A name that is the same lower file has not lost it.
            plan.held.unhash();
            return Ok(());
        };
        let dir = self.writing.path(parent.expect_upper()?.dentry())?;
        let upper = match self.object {
            // The linked dentry counts, not that of the unnamed file: it has name and parent.
            Unseen::Unnamed(file) => {
                plan.link(self.writing, dir, PathRef::of_file(file).dentry())?
            }
            Unseen::Entry(temp) => {
                let name = NameSnapshot::take(plan.dentry);
                let renaming = Renaming::start_dentry(
                    self.writing,
                    (plan.work, temp.path()?.dentry()),
                    (dir.dentry(), name.as_bytes()),
                    true,
                    0,
                )
                // Somebody else moved the entry of the work directory.
                .map_err(|e| if e == EINVAL { EIO } else { e })?;
                renaming.rename()?;
                temp.keep()?
            }
            Unseen::Bare(_) => return Err(EIO),
        };
        if let Some(copied) = plan.source.inode.as_dir() {
            copied.flags().set(DirFlag::Whiteouts);
        }
        inode::set_upper(plan.held, upper, copy)?;
        plan.restore_times(dir);
        Ok(())
    }
}
