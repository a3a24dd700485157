// SPDX-License-Identifier: GPL-2.0

//! The steps of a copy-up: states that consume each other, so that no step can be left out or done twice.
//!
//! [`Planned`] (what is to be copied, to which place; both settled under the operation lock) `-> ` [`Staged`] (an object whose
//! data nobody sees yet: an empty one that no name leads to, or one of upper that is marked to have none) `-> ` [`Copied`] (with
//! its data, or with none on purpose) `-> ` [`Filled`] (with its attributes) `-> ` published: at its place, or by taking the mark
//! away. What is staged removes itself unless published, or stays as it was. No lock of upper is held and no freeze is held off
//! while data is copied, and files are closed when no lock is held at all.

use super::{
    data::{self, Bare, Copying},
    links,
    metadata::{copy_xattrs, set_attributes, set_file_flags},
    source::{Source, Want},
};
use crate::{
    overlay::{
        layer::{
            handle::{self, Value},
            index, marks,
            temp::{Parked, Temp},
            xattr_names::Mark,
        },
        mount::options::Fsync,
        object::inode::{self, Dir, DirFlag, NameMark},
        union::{Dentry, Overlay},
    },
    vfs::{
        self,
        attr::Iattr,
        cred,
        dirop::{self, Creating, New, Renaming},
        file::{self, LayerFile},
        inode::InodeGuard,
        log::warn_limited,
        mount::{MountAccess, PathRef, WritePath, Writing},
        sync::Once,
        Mode, OpGuard, Ref,
    },
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// Where the copy goes.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// To its name in this directory.
    Name(Dir<'a>),
    /// To the index alone: it was found by a handle, and gets a name when somebody looks that up.
    Index,
    /// To no name: it was removed while the file was open.
    Nowhere,
    /// To where it is: upper has it under this name.
    There,
}

/// The files that a copy-up opens, which are closed when no lock is held any more: to close a file of a layer may mean to
/// wait for a daemon, and that one for a freeze.
pub(super) struct Files<'a> {
    /// What was open before.
    pub(super) opened: Option<&'a File>,
    pub(super) from: Once<ARef<LayerFile>>,
    pub(super) to: Once<ARef<LayerFile>>,
}

impl Files<'_> {
    /// The file at `path` for reading.
    fn from(&self, path: PathRef<'_>) -> Result<&File> {
        let inode = path.positive()?;
        if let Some(opened) = self.opened {
            if file::inode_of(opened) == inode && file::is_plain(opened) {
                return Ok(opened);
            }
        }
        drop(self.from.set(file::open_checked(path, false)?));
        Ok(self.from.get().ok_or(EIO)?)
    }
}

/// What is to be copied, and where to.
pub(super) struct Planned<'a> {
    pub(super) fs: &'a Overlay,
    pub(super) dentry: &'a Dentry,
    pub(super) want: Want,
    /// The copy is left without data.
    pub(super) is_bare: bool,
    pub(super) source: &'a Source<'a>,
    pub(super) files: &'a Files<'a>,
    pub(super) held: &'a OpGuard<'a, Overlay>,
    pub(super) access: &'a MountAccess<'a>,
    pub(super) work: &'a vfs::Dentry,
    pub(super) place: Place<'a>,
    /// Where anything but a directory goes before it gets its name, to be found by the others that the lower object has, and by
    /// handles; a directory is at its name before handles lead there.
    pub(super) index: Option<KBox<Index<'a>>>,
}

/// A place in the index.
pub(super) struct Index<'a> {
    dir: &'a vfs::Dentry,
    origin: Value,
    name: index::Name,
}

impl<'a> Index<'a> {
    /// That of the lower object `lower`.
    ///
    /// # Errors
    ///
    /// `EIO` where its filesystem fails to encode.
    pub(super) fn of(fs: &Overlay, dir: &'a vfs::Dentry, lower: PathRef<'_>) -> Result<Self> {
        let origin = handle::encode(&fs.layers, lower.positive()?, false)?;
        Ok(Self {
            dir,
            name: index::Name::of_origin(&origin),
            origin,
        })
    }
}

/// An object in upper that no name of the union leads to, or whose data is not looked at; what there was not before removes
/// itself when dropped.
enum Unseen<'a, Entry> {
    /// An unnamed file.
    Unnamed(&'a LayerFile),
    /// An entry of the work directory.
    Entry(Entry),
    /// What upper has without data.
    Bare(&'a Bare<'a>),
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
    /// Does all that is wanted.
    pub(super) fn run(&self) -> Result {
        let inode = self.source.inode;
        let bare;
        let staged = match inode.upper_path() {
            Some(upper) => {
                let Some(found) = self.go_on(upper)? else {
                    return Ok(());
                };
                bare = found;
                Staged {
                    plan: self,
                    object: Unseen::Bare(&bare),
                }
            }
            None => self.stage()?,
        };
        let copied = staged.copy_data()?;
        {
            let section = self.access.start_write();
            let filled = copied.fill(section.writing())?;
            filled.publish()?;
        }
        if self.index.is_none() {
            return Ok(());
        }
        let upper = inode.expect_upper()?.dentry();
        match inode.mode().is_dir() {
            true => self.index_dir(upper),
            false => self.link_up(upper, true),
        }
    }

    /// Does what is left to do where upper has the object, as `upper`, but for its data: that which is without is returned.
    fn go_on<'b>(&self, upper: PathRef<'b>) -> Result<Option<Bare<'b>>> {
        let inode = self.source.inode;
        if inode.mode().is_dir() {
            // An earlier try failed after it had its name.
            self.index_dir(upper.dentry())?;
            return Ok(None);
        }
        // Two names are one lower file, and this is the second.
        self.link_up(upper.dentry(), false)?;
        match inode.is_bare() && self.want != Want::Attributes {
            true => Bare::read(upper).map(Some),
            false => Ok(None),
        }
    }

    /// Gives the directory `upper` its entry of the index.
    fn index_dir(&self, upper: &vfs::Dentry) -> Result {
        if let Some(index) = &self.index {
            let section = self.access.start_write();
            index::add_dir(self.fs, section.writing(), &index.name, upper)?;
            inode::set_indexed(self.held);
        }
        Ok(())
    }

    fn is_file(&self) -> bool {
        self.source.stat.mode().is_reg()
    }

    /// The place in the index where the object itself goes.
    fn place_in_index(&self) -> Option<&Index<'a>> {
        self.index
            .as_deref()
            .filter(|_| !self.source.stat.mode().is_dir())
    }

    /// What becomes of the data.
    fn copy(&self) -> inode::Copy {
        match self.is_bare {
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
        if !self.is_synced_after(step) {
            return Ok(());
        }
        let to = self.files.to.get().ok_or(EIO)?;
        self.fs.written.fsync(to, 0, i64::MAX, false)
    }

    /// Creates the empty object.
    fn stage(&self) -> Result<Staged<'_>> {
        if let (Place::Name(parent), None) = (self.place, self.place_in_index()) {
            if !parent.is_impure() {
                let section = self.access.start_write();
                parent.set_impure(section.writing())?;
            }
        }
        let object = cred::scope_copy_up(self.dentry, || self.create())?;
        Ok(Staged { plan: self, object })
    }

    fn create(&self) -> Result<Unseen<'_, Parked<'_>>> {
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

    /// Gives what is in upper under another name, or in the index, this one, too. What says how many names it has `is_stable`
    /// where it was just made.
    fn link_up(&self, upper: &vfs::Dentry, is_stable: bool) -> Result {
        if matches!(self.place, Place::Nowhere | Place::There) {
            return Ok(());
        }
        let section = self.access.start_write();
        let writing = section.writing();
        let Place::Name(parent) = self.place else {
            return links::record(self.held, writing);
        };
        parent.set_impure(writing)?;
        let is_indexed = self.source.inode.is_indexed();
        if is_indexed && !is_stable {
            links::record_stable(self.held, writing.path(upper)?)?;
        }
        let dir = writing.path(parent.expect_upper()?.dentry())?;
        let restore = |lock: &InodeGuard<'_>| self.restore_times(dir, lock);
        self.dentry
            .with_name(|name| link(writing, dir.dentry(), name, upper, restore).map(drop))?;
        // Whatever fails from here on, the name is there; what was recorded is right until it is recorded anew.
        self.dentry.marks().set(NameMark::UpperAlias);
        links::record(self.held, writing)
    }

    /// Copy-up is no change of the directory that users should see; best effort.
    fn restore_times(&self, dir: WritePath<'_>, lock: &InodeGuard<'_>) {
        if let Err(e) = Iattr::times(self.source.parent_times).apply(dir, lock) {
            warn_limited!(
                "times of {} not restored ({})\n",
                dir.dentry(),
                e.to_errno()
            );
        }
    }
}

/// Links `object`, which is in upper, to `name` in `dir`; `then` is called with the lock of `dir`.
fn link<'w>(
    writing: Writing<'w>,
    dir: &'w vfs::Dentry,
    name: &[u8],
    object: &vfs::Dentry,
    then: impl FnOnce(&InodeGuard<'_>),
) -> Result<Ref<'w, vfs::Dentry>> {
    let creating = Creating::start(writing, dir, name)?;
    if !creating.dentry().is_negative() {
        return Err(EEXIST);
    }
    creating.create_then(New::Link(object), then)
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
        let has_data = plan.is_file() && len != 0 && !plan.is_bare;
        let files = plan.files;
        let path = match &self.object {
            Unseen::Unnamed(_) => None,
            Unseen::Entry(entry) => Some(entry.path()?),
            Unseen::Bare(bare) => Some(bare.path()),
        };
        // What is synced with its attributes is opened while the mounter may still open it.
        if let Some(path) = path.filter(|_| has_data || plan.is_synced_after(Step::Attributes)) {
            drop(files.to.set(file::open_checked(path, has_data)?));
        }
        if !has_data {
            return Ok(Copied(self));
        }
        let (from, to) = (files.from(plan.source.data()?)?, files.to.get().ok_or(EIO)?);
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

impl<'a> Filled<'a> {
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
        if let Some(index) = self.plan.place_in_index() {
            let value = index.origin.as_bytes();
            marks::set_own(self.plan.fs, to, Mark::Origin, value, Err(EOPNOTSUPP))?;
            links::record_stable(self.plan.held, to)?;
        } else if mode.is_dir() || source.stat.nlink() == 1 {
            // Without an index the links of a lower file are separate files in upper: they have no common origin.
            let mut value = Value::empty();
            value.set_origin(self.plan.fs, source.lower.positive()?)?;
            handle::record(self.plan.fs, to, value.as_bytes())?;
        }
        if self.plan.is_bare {
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
        let index = plan.place_in_index();
        let parent = match (index, &plan.place) {
            (Some(index), _) => index.dir,
            (None, Place::Name(parent)) => parent.expect_upper()?.dentry(),
            (None, _) => {
                // Like any file that is removed while it is open. The work directory's entry removes itself.
                let upper = self.path()?.dentry().get();
                inode::set_upper(plan.held, upper, plan.copy())?;
                // A name that is the same lower file has not lost it.
                plan.held.unhash();
                return Ok(());
            }
        };
        let upper = plan.dentry.with_name(|name| match index {
            Some(index) => self.put(parent, index.name.as_bytes()),
            None => self.put(parent, name),
        })?;
        if let Some(copied) = plan.source.inode.as_dir() {
            copied.flags().set(DirFlag::Whiteouts);
        }
        if index.is_some() {
            inode::set_indexed(plan.held);
        }
        inode::set_upper(plan.held, upper, plan.copy())
    }

    /// Gives the copy the name `name` in `dir`, whose times stay unless it is the index.
    fn put(self, dir: &'a vfs::Dentry, name: &[u8]) -> Result<Ref<'a, vfs::Dentry>> {
        let (plan, to) = (self.plan, self.writing.path(dir)?);
        let restore = |lock: &InodeGuard<'_>| {
            if plan.place_in_index().is_none() {
                plan.restore_times(to, lock);
            }
        };
        match self.object {
            // The linked dentry counts, not that of the unnamed file: it has name and parent.
            Unseen::Unnamed(file) => {
                let file = PathRef::of_file(file).dentry();
                link(self.writing, dir, name, file, restore)
            }
            Unseen::Entry(temp) => {
                let renaming = Renaming::start_dentry(
                    self.writing,
                    (plan.work, temp.path()?.dentry()),
                    (dir, name),
                    true,
                    0,
                )
                // Somebody else moved the entry of the work directory.
                .map_err(|e| if e == EINVAL { EIO } else { e })?;
                renaming.rename()?;
                let upper = temp.keep()?;
                restore(&to.positive()?.lock());
                Ok(upper)
            }
            Unseen::Bare(_) => Err(EIO),
        }
    }
}
