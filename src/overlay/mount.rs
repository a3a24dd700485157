// SPDX-License-Identifier: GPL-2.0

//! Mounting: the layers opened and checked, the root made; `statfs`, the options shown.

use super::{
    config::{Config, Uuid},
    ino::Layout,
    inode,
    layer::{Layer, LowerPath, UPPER},
    names::own,
    params::{Named, Params},
    workdir::{self, Features},
    xattrs, Dentry, Inode, NewInode,
};
use crate::vfs::{
    self,
    claim::Claim,
    context::{FsContext, Level},
    cred::{self, NewCred},
    dentry::WEAK_REVALIDATE,
    log::Text,
    mount::{PathRef, PrivateMount},
    own::Found,
    super_block::{self, AnonDev, NewSuper, SbFlag, SbId, StatFs},
    xattr, CBuf, Mount, SuperBlock,
};
use kernel::{
    cred::Credential,
    fmt, new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};

/// A distinct filesystem among the layers.
struct LayerFs {
    /// Which super block it is.
    sb: SbId,
    uuid: [u8; 16],
    dev: AnonDev,
    /// Its UUID does not tell it from the others: no handle is decoded on it.
    bad_uuid: bool,
    is_lower: bool,
}

/// The work directory of a mount.
struct Work {
    dir: ARef<vfs::Dentry>,
    features: Features,
}

/// The layers of a mount; they are unmounted together when dropped.
#[derive(Default)]
struct Layers {
    upper: Option<Layer>,
    /// Topmost first.
    lower: KVec<Layer>,
}

impl Drop for Layers {
    fn drop(&mut self) {
        let mut mounts = KVec::new();
        let lower = core::mem::take(&mut self.lower);
        for layer in Iterator::chain(self.upper.take().into_iter(), lower) {
            // Where there is no memory to wait once for all, this mount is waited for.
            let _ = mounts.push(layer.into_mount(), GFP_KERNEL);
        }
        PrivateMount::unmount_all(mounts);
    }
}

/// What a mount keeps: the data of the super block. Dropped in the order of the fields: references
/// into the layers go before the layers do.
#[pin_data]
pub(crate) struct Overlay {
    /// A whiteout in the work directory that others are linked from.
    #[pin]
    pub(crate) whiteout: Mutex<Option<ARef<vfs::Dentry>>>,
    work: Option<Work>,
    /// Inodes that stand in the hash for the roots of all layers: a lookup that reaches one is
    /// refused.
    traps: KVec<ARef<Inode>>,
    in_use: KVec<Claim>,
    layers: Layers,
    filesystems: KVec<LayerFs>,
    layout: Layout,
    creds: ARef<Credential>,
    config: Config,
    shown: Shown,
    name_len: i64,
    upper_xattrs: Atomic<bool>,
    share_whiteouts: Atomic<bool>,
    has_fsid: bool,
    last_ino: Atomic<u64>,
}

/// What `/proc/mounts` shows.
struct Shown {
    lowerdir: Option<CBuf>,
    lower: KVec<CBuf>,
    upper: Option<CBuf>,
    work: Option<CBuf>,
}

impl Overlay {
    /// The upper layer.
    #[inline]
    pub(crate) fn upper(&self) -> Option<&Layer> {
        self.layers.upper.as_ref()
    }

    /// The layer with index `index`: 0 is upper, 1 the topmost lower layer.
    #[inline]
    pub(crate) fn layer(&self, index: u16) -> Option<&Layer> {
        match index {
            UPPER => self.layers.upper.as_ref(),
            _ => self.layers.lower.get(usize::from(index).wrapping_sub(1)),
        }
    }

    /// The lower layers, topmost first.
    pub(crate) fn lower_layers(&self) -> &[Layer] {
        &self.layers.lower
    }

    /// The path that `path` stands for.
    #[inline]
    pub(crate) fn lower_path<'a>(&'a self, path: &'a LowerPath) -> Result<PathRef<'a>> {
        Ok(self.layer(path.layer).ok_or(EIO)?.path(path.dentry()?))
    }

    /// The credentials that layers are used with: the mounter's.
    #[inline]
    pub(crate) fn creds(&self) -> &Credential {
        &self.creds
    }

    /// Whether all layers are on one filesystem.
    #[inline]
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The device number for files of layer `layer`.
    pub(crate) fn layer_dev(&self, layer: u16) -> Result<u32> {
        let fsid = self.layer(layer).map_or(0, |layer| layer.fsid);
        let fs = self.filesystems.get(usize::from(fsid)).ok_or(EIO)?;
        Ok(fs.dev.dev())
    }

    /// Whether file handles can be decoded on `layer`: its UUID is its own.
    pub(crate) fn has_unique_uuid(&self, layer: &Layer) -> bool {
        self.filesystems
            .get(usize::from(layer.fsid))
            .is_some_and(|fs| layer.fsid == 0 || !fs.bad_uuid)
    }

    /// The upper mount and the work directory; `EROFS` where the mount is read-only for good.
    pub(crate) fn work(&self) -> Result<(&Mount, &vfs::Dentry)> {
        match (&self.layers.upper, &self.work) {
            (Some(upper), Some(work)) => Ok((upper.mnt(), &work.dir)),
            _ => Err(EROFS),
        }
    }

    /// Whether the mount cannot be made writable.
    pub(crate) fn is_forced_readonly(&self) -> bool {
        self.work().is_err()
    }

    /// Whether upper has unnamed files.
    pub(crate) fn has_tmpfile(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.features.tmpfile)
    }

    /// Whether our attributes can be set in upper.
    pub(crate) fn upper_has_xattrs(&self) -> bool {
        self.upper_xattrs.load(Relaxed)
    }

    /// Remembers that they cannot.
    pub(crate) fn set_upper_without_xattrs(&self) {
        self.upper_xattrs.store(false, Relaxed);
    }

    /// Whether whiteouts are links of one another.
    pub(crate) fn shares_whiteouts(&self) -> bool {
        self.share_whiteouts.load(Relaxed)
    }

    /// Stops linking whiteouts.
    pub(crate) fn stop_sharing_whiteouts(&self) {
        self.share_whiteouts.store(false, Relaxed);
    }

    /// An inode number that no other inode of the mount has.
    pub(crate) fn next_ino(&self) -> u64 {
        self.last_ino.fetch_add(1u64, Relaxed).wrapping_add(1)
    }

    /// The longest name.
    pub(crate) fn name_len(&self) -> usize {
        usize::try_from(self.name_len).unwrap_or(0)
    }
}

/// Whether `dentry` is the root of a layer, or the upper or work directory, of this mount.
pub(crate) fn is_trap(sb: &SuperBlock, dentry: &vfs::Dentry) -> bool {
    dentry
        .inode()
        .and_then(|key| NewInode::find(sb, key))
        .is_some_and(|inode| {
            inode.is_dead() && inode.upper().is_none() && inode.data().lower.is_empty()
        })
}

/// The state of a mount that is being made.
struct Builder<'a, 'sb> {
    sb: &'a mut NewSuper<'sb, Overlay>,
    fc: &'a FsContext,
    traps: KVec<ARef<Inode>>,
    in_use: KVec<Claim>,
    name_len: i64,
    depth: i32,
}

impl Builder<'_, '_> {
    fn error(&self, message: fmt::Arguments<'_>) {
        self.fc.log(Level::Error, message);
    }

    fn check_name_len(&mut self, path: PathRef<'_>, name: &CBuf) -> Result {
        let stat = StatFs::read(path).inspect_err(|_| {
            self.error(fmt!("statfs failed on '{}'", Text(name.as_bytes())));
        })?;
        self.name_len = self.name_len.max(stat.name_len());
        Ok(())
    }

    fn trap(&mut self, dentry: &vfs::Dentry, what: &str) -> Result {
        match NewInode::get(self.sb.sb(), dentry.positive()?)? {
            Found::New(new) => Ok(self.traps.push(new.into_trap(), GFP_KERNEL)?),
            Found::Old(_) => {
                self.error(fmt!("conflicting {what} path"));
                Err(ELOOP)
            }
        }
    }

    /// Says that another mount uses a directory, and which.
    fn report_in_use(&self, level: Level, dentry: &vfs::Dentry, what: &str) {
        let message = "is in-use as upperdir/workdir of another mount";
        let effect = "accessing files from both mounts will result in undefined behavior";
        match Claim::holder(dentry) {
            Some(dev) => {
                let (major, minor) = (dev >> 20, dev & 0xfffff);
                self.fc
                    .log(level, fmt!("{what} {message} ({major}:{minor}), {effect}"));
                pr_warn!("{what} {message} ({major}:{minor}), {effect}.\n");
            }
            None => {
                self.fc.log(level, fmt!("{what} {message}, {effect}"));
                pr_warn!("{what} {message}, {effect}.\n");
            }
        }
    }

    /// Refuses a directory that another mount uses. The drop-in does as overlayfs does without an
    /// index: container engines that leak mounts rely on a warning being all.
    fn refuse_in_use(&self, dentry: &vfs::Dentry, what: &str) -> Result {
        if cfg!(drop_in) {
            self.report_in_use(Level::Warning, dentry, what);
            return Ok(());
        }
        self.report_in_use(Level::Error, dentry, what);
        Err(EBUSY)
    }

    /// Claims a directory for this mount alone.
    fn claim(&mut self, dentry: &vfs::Dentry, what: &str) -> Result {
        let claim = Claim::new(dentry, self.sb.sb().dev())?;
        if !claim.is_held() {
            self.refuse_in_use(dentry, what)?;
        }
        Ok(self.in_use.push(claim, GFP_KERNEL)?)
    }

    fn clone_mount(&self, path: PathRef<'_>, read_only: bool, what: &str) -> Result<PrivateMount> {
        // The check of CAP_SYS_ADMIN is on whoever makes the mount, not on the stored credentials.
        cred::scope_real(|| Mount::clone_private(path, read_only))
            .inspect_err(|_| self.error(fmt!("failed to clone {what}")))
    }

    fn open_upper(&mut self, upper: &Named) -> Result<Layer> {
        let path = upper.path.as_ref();
        if path.mnt.is_readonly() {
            return self
                .fc
                .invalid(fmt!("upper fs is r/o, try multi-lower layers mount"));
        }
        self.check_name_len(path, &upper.name)?;
        self.trap(path.dentry, "upperdir")?;
        let mnt = self.clone_mount(path, false, "upperpath")?;
        if mnt.sb().is_nosec() {
            self.sb.set_flag(SbFlag::NoSec);
        }
        self.claim(mnt.root(), "upperdir")?;
        self.depth = mnt.sb().stack_depth();
        self.sb.set_time_gran(mnt.sb().time_gran());
        Ok(Layer::new(mnt, 0))
    }

    fn open_work(&mut self, layer: &Layer, upper: &Named, work: &Named) -> Result<Option<Work>> {
        let (base, top) = (work.path.as_ref(), upper.path.as_ref());
        if base.mnt != top.mnt {
            return self.fc.invalid(fmt!(
                "workdir and upperdir must reside under the same mount"
            ));
        }
        if base.dentry.is_subdir_of(top.dentry) || top.dentry.is_subdir_of(base.dentry) {
            return self
                .fc
                .invalid(fmt!("workdir and upperdir must be separate subtrees"));
        }
        self.claim(base.dentry, "workdir")?;
        self.trap(base.dentry, "workdir")?;
        let remote = base.dentry.revalidate_flags() != 0;
        let made = {
            let _write = layer.mnt().want_write()?;
            workdir::prepare(
                self.fc,
                layer.mnt(),
                base.dentry,
                work.name.as_bytes(),
                remote,
            )?
        };
        let Some((dir, features)) = made else {
            return Ok(None);
        };
        self.trap(&dir, "workdir")?;
        Ok(Some(Work { dir, features }))
    }

    /// The number of the filesystem that `sb` is, a new one if need be.
    fn filesystem(&self, all: &mut KVec<LayerFs>, sb: &SuperBlock, has_upper: bool) -> Result<u16> {
        let known = all.iter().position(|fs| fs.sb == sb.id());
        let index = match known {
            Some(index) => index,
            None => {
                // A handle names its filesystem by UUID: one that is null or taken says nothing.
                let uuid = sb.uuid();
                let mut bad_uuid = has_upper && uuid == [0; 16];
                if has_upper {
                    for fs in all.iter_mut().filter(|fs| fs.is_lower) {
                        if fs.uuid == uuid {
                            fs.bad_uuid = true;
                            bad_uuid = true;
                        }
                    }
                }
                all.push(
                    LayerFs {
                        sb: sb.id(),
                        uuid,
                        dev: AnonDev::new()?,
                        bad_uuid,
                        is_lower: true,
                    },
                    GFP_KERNEL,
                )?;
                all.len() - 1
            }
        };
        if let Some(fs) = all.get_mut(index) {
            fs.is_lower = true;
        }
        Ok(u16::try_from(index)?)
    }

    fn open_lower(
        &mut self,
        all: &mut KVec<LayerFs>,
        lower: &Named,
        has_upper: bool,
    ) -> Result<Layer> {
        let path = lower.path.as_ref();
        let fsid = self.filesystem(all, path.mnt.sb(), has_upper)?;
        self.trap(path.dentry, "lowerdir")?;
        if path.dentry.positive()?.is_inuse() {
            self.report_in_use(Level::Warning, path.dentry, "lowerdir");
        }
        let mnt = self.clone_mount(path, true, "lowerpath")?;
        Ok(Layer::new(mnt, fsid))
    }

    /// Refuses a layer below another one of this mount, and reports one below a directory in use.
    fn check_overlap(&self, dentry: &vfs::Dentry, what: &str, is_lower: bool) -> Result {
        let mut at = dentry.get();
        loop {
            let parent = at.parent();
            if *parent == *at {
                return Ok(());
            }
            if is_lower && is_trap(self.sb.sb(), &parent) {
                self.error(fmt!("overlapping {what} path"));
                return Err(ELOOP);
            }
            if parent.positive()?.is_inuse() {
                if is_lower {
                    self.report_in_use(Level::Warning, &parent, what);
                } else {
                    self.refuse_in_use(&parent, what)?;
                }
            }
            at = parent;
        }
    }
}

/// The union's UUID, with `uuid=auto`: the one that upper has, or a new one for a new upper.
fn upper_uuid(path: PathRef<'_>) -> Result<Option<[u8; 16]>> {
    let mut uuid = [0; 16];
    match xattr::get(path, own::UUID, &mut uuid) {
        Ok(16) => return Ok(Some(uuid)),
        Err(e) if e == ENODATA => {}
        Ok(_) => return Err(EINVAL),
        Err(e) => return Err(e),
    }
    // An upper that was used by a union without UUID keeps being one.
    if xattr::len(path, own::IMPURE)?.is_some() {
        return Ok(None);
    }
    let uuid = super_block::random_uuid();
    xattr::set(path, own::UUID, &uuid, xattr::SetFlags::ANY)?;
    Ok(Some(uuid))
}

/// Fills the super block as `params` say.
pub(crate) fn fill_super(
    sb: &mut NewSuper<'_, Overlay>,
    fc: &FsContext,
    params: &mut Params,
) -> Result {
    // The context may have been passed to a task in another user namespace.
    if !fc.in_user_ns(true) {
        return fc.invalid(fmt!("mount context of another user namespace"));
    }
    let creds = match params.creds.take() {
        Some(creds) => creds,
        None => NewCred::prepare_restricted()?.commit(),
    };
    let scoped = creds.clone();
    cred::scope(&scoped, |_| fill_with(sb, fc, params, creds))
}

fn fill_with(
    sb: &mut NewSuper<'_, Overlay>,
    fc: &FsContext,
    params: &mut Params,
    creds: ARef<Credential>,
) -> Result {
    if params.lower.is_empty() {
        return fc.invalid(fmt!("missing 'lowerdir'"));
    }
    // Declared before `build`, so that marks and traps are taken back before the mounts go.
    let mut layers = Layers::default();
    let mut work = None;
    let mut build = Builder {
        sb,
        fc,
        traps: KVec::new(),
        in_use: KVec::new(),
        name_len: 0,
        depth: 0,
    };
    if let Some(named) = &params.upper {
        let Some(base) = &params.work else {
            return fc.invalid(fmt!("missing 'workdir'"));
        };
        let layer = build.open_upper(named)?;
        work = build.open_work(&layer, named, base)?;
        layers.upper = Some(layer);
    } else if params.work.is_some() {
        fc.log(
            Level::Info,
            fmt!("option \"workdir\" is useless in a non-upper mount, ignore"),
        );
    }
    if layers.upper.is_none() && params.lower.len() == 1 {
        return fc.invalid(fmt!(
            "at least 2 lowerdir are needed while upperdir nonexistent"
        ));
    }
    for lower in &params.lower {
        let path = lower.path.as_ref();
        build.check_name_len(path, &lower.name)?;
        build.depth = build.depth.max(path.mnt.sb().stack_depth());
    }
    build.depth += 1;
    if SuperBlock::too_deep(build.depth) {
        return fc.invalid(fmt!("maximum fs stacking depth exceeded"));
    }
    build.sb.set_stack_depth(build.depth);

    let mut filesystems = KVec::new();
    filesystems.push(
        LayerFs {
            sb: layers
                .upper
                .as_ref()
                .map_or(SbId::NONE, |upper| upper.mnt().sb().id()),
            uuid: layers
                .upper
                .as_ref()
                .map_or([0; 16], |upper| upper.mnt().sb().uuid()),
            dev: AnonDev::new()?,
            bad_uuid: false,
            is_lower: false,
        },
        GFP_KERNEL,
    )?;
    layers.lower.reserve(params.lower.len(), GFP_KERNEL)?;
    for named in &params.lower {
        let layer = build.open_lower(&mut filesystems, named, layers.upper.is_some())?;
        layers.lower.push(layer, GFP_KERNEL)?;
    }
    let distinct = filesystems.len() - usize::from(layers.upper.is_none());
    let layout = if distinct == 1 {
        Layout::OneFs
    } else {
        Layout::SeveralFs
    };

    if work.is_none() {
        build.sb.set_flag(SbFlag::ReadOnly);
    }
    let upper_xattrs = work.as_ref().is_some_and(|work| work.features.xattrs);
    let mut has_fsid = false;
    let mut config = params.config;
    if let (Some(layer), Uuid::Auto, true) = (&layers.upper, config.uuid, upper_xattrs) {
        match upper_uuid(layer.path(layer.mnt().root())) {
            Ok(Some(uuid)) => {
                build.sb.set_uuid(&uuid);
                has_fsid = true;
            }
            Ok(None) => config.uuid = Uuid::Null,
            Err(e) => {
                config.uuid = Uuid::Null;
                pr_warn!(
                    "failed to get or set uuid (err={}); falling back to uuid=null.\n",
                    e.to_errno()
                );
            }
        }
    }

    if let (Some(layer), Some(base)) = (&layers.upper, &params.work) {
        build.check_overlap(layer.mnt().root(), "upperdir", false)?;
        build.check_overlap(base.path.as_ref().dentry, "workdir", false)?;
    }
    for layer in &layers.lower {
        build.check_overlap(layer.mnt().root(), "lowerdir", true)?;
    }

    let mut stack = KVec::with_capacity(layers.lower.len(), GFP_KERNEL)?;
    for (index, layer) in layers.lower.iter().enumerate() {
        let index = u16::try_from(index + 1)?;
        stack.push(LowerPath::new(layer.mnt().root().get(), index), GFP_KERNEL)?;
    }
    let mut names = KVec::with_capacity(params.lower.len(), GFP_KERNEL)?;
    for named in core::mem::take(&mut params.lower) {
        names.push(named.name, GFP_KERNEL)?;
    }
    let has_upper = layers.upper.is_some();
    let shown = Shown {
        lowerdir: params.lowerdir.take(),
        lower: names,
        upper: params.upper.take().map(|named| named.name),
        work: params
            .work
            .take()
            .filter(|_| has_upper)
            .map(|named| named.name),
    };
    let Builder {
        sb,
        traps,
        in_use,
        name_len,
        ..
    } = build;
    sb.set_data(try_pin_init!(Overlay {
        whiteout <- new_mutex!(None, "rovl_whiteout"),
        work,
        traps,
        in_use,
        layers,
        filesystems,
        layout,
        creds,
        config,
        shown,
        name_len,
        upper_xattrs: Atomic::new(upper_xattrs),
        share_whiteouts: Atomic::new(true),
        has_fsid,
        last_ino: Atomic::new(1),
    }? Error))?;
    make_root(sb, stack)
}

fn make_root(sb: &mut NewSuper<'_, Overlay>, lower: KVec<LowerPath>) -> Result {
    let fs = sb.data().ok_or(EIO)?;
    let upper = fs.upper().map(|layer| layer.mnt().root().get());
    // The marker is looked for in all layers but the lowest, which hides nothing.
    let mut xwhiteouts = false;
    for path in lower.iter().take(lower.len() - 1) {
        if xattrs::dir_mark(fs.lower_path(path)?, own::OPAQUE) == Some(b'x') {
            if let Some(layer) = fs.layer(path.layer) {
                layer.set_xwhiteouts();
            }
            xwhiteouts = true;
        }
    }
    let has_upper = upper.is_some();
    let root = sb.set_root(inode::root(sb.sb(), fs, upper, lower)?)?;
    if has_upper {
        root.marks().set(super::lookup::UPPER_ALIAS);
    }
    if xwhiteouts {
        root.marks().set(super::lookup::XWHITEOUTS);
    }
    let flags = inode::revalidate_flags(root.own_inode());
    root.change_revalidate(WEAK_REVALIDATE, flags & WEAK_REVALIDATE);
    Ok(())
}

/// Sizes of upper (or the topmost lower layer), magic number of union filesystems.
pub(crate) fn statfs(dentry: &Dentry) -> Result<StatFs> {
    let fs = dentry.fs();
    let root = super_block::root_of::<Overlay>(dentry.sb())?;
    let mut stat = StatFs::read(root.own_positive()?.real_path()?)?;
    stat.set_name_len(fs.name_len);
    stat.set_union_magic();
    if fs.has_fsid {
        stat.set_fsid(dentry.sb());
    }
    Ok(stat)
}

/// Prints the options such that they can be mounted again.
pub(crate) fn show_options(fs: &Overlay, out: &SeqFile) {
    let show = |key: &CStr, value: &CBuf| vfs::log::show_option(out, key, value.as_cstr());
    match &fs.shown.lowerdir {
        Some(list) => show(c"lowerdir", list),
        None => fs
            .shown
            .lower
            .iter()
            .for_each(|name| show(c"lowerdir+", name)),
    }
    if let Some(name) = &fs.shown.upper {
        show(c"upperdir", name);
    }
    if let Some(name) = &fs.shown.work {
        show(c"workdir", name);
    }
    if fs.config.default_permissions {
        kernel::seq_print!(out, ",default_permissions");
    }
    if fs.shown.upper.is_some() && fs.config.uuid != Uuid::Auto && !fs.has_fsid {
        kernel::seq_print!(out, ",uuid=null");
    }
}
