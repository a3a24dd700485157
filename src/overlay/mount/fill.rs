// SPDX-License-Identifier: GPL-2.0

//! Mounting: the layers opened and checked, the root made.

use crate::overlay::{
    dir::cache::DirCaches,
    layer::{handle, marks, xattr_names::own, Layer, Layout},
    mount::{
        options::{RedirectDir, Uuid},
        params::{Named, Params},
        workdir,
    },
    object::{
        export,
        inode::{revalidate_flags, NameMark, Object},
    },
    union::{LayerFs, Layers, Overlay, Roots, Shown, Work},
};
use crate::vfs::{
    self,
    backing::{LowerPath, Lowers},
    claim::Claim,
    context::{FsContext, Level},
    cred::{self, NewCred},
    dentry::WEAK_REVALIDATE,
    log::Text,
    mount::{PathRef, PrivateMount},
    super_block::{self, AnonDev, FilledSuper, NewSuper, SbFlag, SbId, StatFs},
    xattr, CBuf, Mount, SuperBlock,
};
use kernel::{
    cred::Credential,
    fmt, new_mutex,
    prelude::*,
    sync::{aref::ARef, atomic::Atomic},
};

/// The state of a mount that is being made.
struct Builder<'a, 'sb> {
    sb: &'a mut NewSuper<'sb, Overlay>,
    fc: &'a FsContext,
    roots: Roots,
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

    fn add_root(&mut self, dentry: &vfs::Dentry, what: &str) -> Result {
        if self.roots.add(dentry.positive()?)? {
            return Ok(());
        }
        self.error(fmt!("conflicting {what} path"));
        Err(ELOOP)
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
    fn claim(&mut self, path: PathRef<'_>, what: &str) -> Result {
        let claim = Claim::new(path, self.sb.sb().dev())?;
        if !claim.is_held() {
            self.refuse_in_use(path.dentry(), what)?;
        }
        Ok(self.in_use.push(claim, GFP_KERNEL)?)
    }

    fn clone_mount(&self, path: PathRef<'_>, read_only: bool, what: &str) -> Result<PrivateMount> {
        // The check of CAP_SYS_ADMIN is on whoever makes the mount, not on the stored credentials.
        let mnt = cred::scope_real(|| Mount::clone_private(path, read_only))
            .inspect_err(|_| self.error(fmt!("failed to clone {what}")))?;
        // A detached mount may have been mapped since it was given; this one can't be any more.
        if mnt.is_idmapped() {
            return self
                .fc
                .invalid(fmt!("idmapped mount of {what} is not supported yet"));
        }
        Ok(mnt)
    }

    fn open_upper(&mut self, upper: &Named) -> Result<Layer> {
        let path = upper.path.as_ref();
        if path.mnt().is_readonly() {
            return self
                .fc
                .invalid(fmt!("upper fs is r/o, try multi-lower layers mount"));
        }
        self.check_name_len(path, &upper.name)?;
        self.add_root(path.dentry(), "upperdir")?;
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
        if base.mnt() != top.mnt() {
            return self.fc.invalid(fmt!(
                "workdir and upperdir must reside under the same mount"
            ));
        }
        if base.dentry().is_subdir_of(top.dentry()) || top.dentry().is_subdir_of(base.dentry()) {
            return self
                .fc
                .invalid(fmt!("workdir and upperdir must be separate subtrees"));
        }
        self.claim(base, "workdir")?;
        self.add_root(base.dentry(), "workdir")?;
        let remote = base.dentry().revalidate_flags() != 0;
        let made = {
            let write = layer.mnt().want_write()?;
            workdir::prepare(
                self.fc,
                write.writing(),
                base.dentry(),
                work.name.as_bytes(),
                remote,
            )?
        };
        let Some((dir, features)) = made else {
            return Ok(None);
        };
        self.add_root(dir.as_ref().dentry(), "workdir")?;
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
        let fsid = self.filesystem(all, path.mnt().sb(), has_upper)?;
        self.add_root(path.dentry(), "lowerdir")?;
        if path.dentry().positive()?.is_inuse() {
            self.report_in_use(Level::Warning, path.dentry(), "lowerdir");
        }
        let mnt = self.clone_mount(path, true, "lowerpath")?;
        Ok(Layer::new(mnt, fsid))
    }

    /// Refuses a layer below another one of this mount, and reports one below a directory in use.
    fn check_overlap(&self, dentry: &vfs::Dentry, what: &str, is_lower: bool) -> Result {
        let mut at = dentry.get();
        loop {
            let parent = at.up();
            if *parent == *at {
                return Ok(());
            }
            if is_lower && self.roots.contains(parent.positive()?) {
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
pub(crate) fn fill_super(sb: NewSuper<'_, Overlay>, fc: &FsContext, params: &mut Params) -> Result {
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
    sb: NewSuper<'_, Overlay>,
    fc: &FsContext,
    params: &mut Params,
    creds: ARef<Credential>,
) -> Result {
    if params.config.wants_redirects && !cred::is_sysadmin() {
        fc.log(
            Level::Error,
            fmt!("redirect_dir requires permission to access trusted xattrs"),
        );
        return Err(EPERM);
    }
    if params.lower.is_empty() {
        return fc.invalid(fmt!("missing 'lowerdir'"));
    }
    // Declared before `build`, so that claims are taken back before the mounts go.
    let mut layers = Layers::default();
    let mut work = None;
    let mut sb = sb;
    let mut build = Builder {
        sb: &mut sb,
        fc,
        roots: Roots::default(),
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
        build.depth = build.depth.max(path.mnt().sb().stack_depth());
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
    if handle::all_decode(Iterator::chain(layers.upper.iter(), &layers.lower)) {
        build.sb.set_export(export::IDENTIFIERS);
    }
    let upper_xattrs = work.as_ref().is_some_and(|work| work.features.xattrs);
    let mut config = params.config;
    if layers.upper.is_none() && config.redirect_dir == RedirectDir::Follow {
        // Nothing is renamed, and this is what overlayfs shows then.
        config.redirect_dir = RedirectDir::On;
    }
    if work.is_some() && !upper_xattrs {
        config.uuid = Uuid::Null;
        if config.redirect_dir != RedirectDir::NoFollow {
            config.redirect_dir = RedirectDir::NoFollow;
            pr_warn!("upper has no trusted xattrs, falling back to redirect_dir=nofollow.\n");
        }
    }
    if let (Some(layer), Uuid::Auto) = (&layers.upper, config.uuid) {
        match upper_uuid(layer.mnt().root()) {
            Ok(Some(uuid)) => build.sb.set_uuid(&uuid),
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
        build.check_overlap(layer.mnt().root().dentry(), "upperdir", false)?;
        build.check_overlap(base.path.as_ref().dentry(), "workdir", false)?;
    }
    for layer in &layers.lower {
        build.check_overlap(layer.mnt().root().dentry(), "lowerdir", true)?;
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
        roots,
        in_use,
        name_len,
        ..
    } = build;
    let passed_errors = layers
        .upper
        .as_ref()
        .map(|layer| layer.mnt().sb().passed_errors());
    let sb = sb.set_data(try_pin_init!(Overlay {
        whiteout <- new_mutex!(None, "rovl_whiteout"),
        work,
        roots,
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
        last_ino: Atomic::new(1),
        passed_errors,
        dir_caches: DirCaches::new()?,
    }? Error))?;
    make_root(sb, stack)
}

fn make_root(sb: FilledSuper<'_, Overlay>, lower: KVec<LowerPath>) -> Result {
    let fs = sb.sb().fs();
    let upper = fs.upper().map(|layer| layer.mnt().root().get());
    // The marker is looked for in all layers but the lowest, which hides nothing.
    let mut xwhiteouts = false;
    let hiding = lower.len().saturating_sub(1);
    for path in lower.iter().take(hiding) {
        if marks::dir_mark(path.path(), own::OPAQUE) == Some(b'x') {
            if let Some(layer) = fs.layer(path.layer()) {
                layer.set_xwhiteouts();
            }
            xwhiteouts = true;
        }
    }
    let has_upper = upper.is_some();
    let object = Object {
        upper,
        lower: Lowers::from_vec(lower)?,
    };
    let inode = object.root(sb.sb())?;
    let root = sb.set_root(inode)?;
    if has_upper {
        root.marks().set(NameMark::UpperAlias);
    }
    if xwhiteouts {
        root.marks().set(NameMark::XWhiteouts);
    }
    root.change_revalidate(WEAK_REVALIDATE, revalidate_flags(root) & WEAK_REVALIDATE);
    Ok(())
}
