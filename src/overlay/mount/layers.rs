// SPDX-License-Identifier: GPL-2.0

//! Layers: directories that can be ones, opened and claimed for a mount, compared with one another.

use super::{
    capability::{Features, Filesystems, Handles},
    index,
    messages::{invalid, refuse, say, Level},
    resolve::Effective,
    workdir,
};
use crate::{
    overlay::{
        layer::{numbering, xattr_names::Namespace, Layer, MAX_LOWER},
        union::{LayerFs, Layers, Work},
    },
    vfs::{
        self,
        backing::LayerMounts,
        claim::Claims,
        context::FsContext,
        cred,
        log::Text,
        mount::{PathRef, PrivateMount},
        super_block::{AnonDev, HandleKind, SbId, StatFs},
        CBuf, Mount, Path, SuperBlock,
    },
};
use kernel::{fmt, prelude::*, sync::aref::ARef};

/// A directory that the user named, and the name as the user gave it.
pub(crate) struct Named {
    pub(crate) path: Path,
    pub(crate) name: CBuf,
}

/// The place that a directory is meant for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    Lower,
    /// A layer that is not merged: it has data that files of others name.
    Data,
    Upper,
    Work,
}

/// Refuses one lower layer more than can be.
pub(crate) fn check_number(fc: &FsContext, number: usize) -> Result {
    if number > MAX_LOWER {
        return invalid(fc, fmt!("too many lower directories, limit is {MAX_LOWER}"));
    }
    Ok(())
}

/// Checks that a directory can be in `slot`, as soon as it is named. What can change until it is mounted is
/// checked again there. Whether it folds case has to be as `folds` has it, which the first one that is named decides.
pub(crate) fn check(fc: &FsContext, named: &Named, slot: Slot, folds: &mut Option<bool>) -> Result {
    let at = named.path.as_ref();
    let name = Text(named.name.as_bytes());
    if !at.dentry().is_dir() {
        return invalid(fc, fmt!("{name} is not a directory"));
    }
    let is_folded = at.dentry().is_casefolded();
    if *folds.get_or_insert(is_folded) != is_folded {
        let kind = if is_folded {
            "insensitive"
        } else {
            "sensitive"
        };
        return invalid(fc, fmt!("case-{kind} directory on {name} is inconsistent"));
    }
    if at.dentry().is_weird() {
        return invalid(fc, fmt!("filesystem on {name} not supported"));
    }
    if matches!(slot, Slot::Upper | Slot::Work) {
        if at.dentry().is_union() {
            return invalid(fc, fmt!("filesystem on {name} not supported as upperdir"));
        }
        if at.mnt().is_readonly() {
            return invalid(fc, fmt!("filesystem on {name} is read-only"));
        }
    }
    Ok(())
}

/// Layers that are being opened.
pub(crate) struct Opening<'a> {
    fc: &'a FsContext,
    /// The device number of the mount, which its claims are known by.
    dev: u32,
    /// Which directories the mounts of the type use.
    claims: &'a Claims,
    layers: Layers,
    /// Their mounts; after what was opened in them.
    mounts: LayerMounts,
    /// The longest name of all layers.
    name_len: i64,
    /// They fold case, all alike.
    folds: bool,
    /// No other mount may write to them: there will be an index, which must know of all changes.
    exclusive: bool,
}

impl<'a> Opening<'a> {
    /// No layer yet, of the mount with device number `dev`; `claims` are those of its type.
    pub(crate) fn new(fc: &'a FsContext, dev: u32, claims: &'a Claims) -> Self {
        Self {
            fc,
            dev,
            claims,
            layers: Layers::default(),
            mounts: LayerMounts::default(),
            name_len: 0,
            folds: false,
            exclusive: false,
        }
    }

    /// Takes from `config`, as it is so far, whether a layer that another mount writes to is refused, and what handles say.
    pub(crate) fn expect(&mut self, config: &Effective) {
        self.exclusive = config.has_index();
        self.layers.names_filesystems = config.names_filesystems();
    }

    /// Makes room for upper with its work directory, if there is to be one, and for `lower` layers below; `ENOMEM`.
    pub(crate) fn reserve(&mut self, upper: bool, lower: usize) -> Result {
        let (mounts, roots, claims) = if upper { (1, 3, 2) } else { (0, 0, 0) };
        self.mounts.reserve(lower + mounts)?;
        self.layers.roots.reserve(lower + roots)?;
        Ok(self.layers.claims.reserve(claims, GFP_KERNEL)?)
    }

    /// The layers opened so far.
    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The layers, their mounts, and the longest name of all.
    pub(crate) fn finish(self) -> (Layers, LayerMounts, i64) {
        (self.layers, self.mounts, self.name_len)
    }

    fn check_name_len(&mut self, named: &Named) -> Result {
        let stat = match StatFs::read(named.path.as_ref()) {
            Ok(stat) => stat,
            Err(e) => {
                let name = Text(named.name.as_bytes());
                return refuse(self.fc, e, fmt!("statfs failed on '{name}'"));
            }
        };
        self.name_len = self.name_len.max(stat.name_len());
        Ok(())
    }

    fn add_root(&mut self, dentry: &vfs::Dentry, what: &str) -> Result {
        match self.layers.roots.add(dentry.positive()?)? {
            true => Ok(()),
            false => refuse(self.fc, ELOOP, fmt!("conflicting {what} path")),
        }
    }

    /// Claims a directory for this mount alone.
    fn claim(&mut self, path: PathRef<'_>, what: &str) -> Result {
        let claim = self.claims.claim(path, self.dev)?;
        if !claim.is_held() {
            self.refuse_in_use(path.dentry(), what)?;
        }
        Ok(self.layers.claims.push(claim, GFP_KERNEL)?)
    }

    /// A private mount of `named`.
    fn clone_mount(&self, named: &Named, read_only: bool, what: &str) -> Result<PrivateMount> {
        // The check of CAP_SYS_ADMIN is on whoever makes the mount, not on the stored credentials.
        match cred::scope_real(|| Mount::clone_private(named.path.as_ref(), read_only)) {
            Ok(mnt) => Ok(mnt),
            Err(e) => refuse(self.fc, e, fmt!("failed to clone {what}")),
        }
    }

    /// Opens the upper layer.
    pub(crate) fn open_upper(&mut self, upper: &Named) -> Result {
        let path = upper.path.as_ref();
        if path.mnt().is_readonly() {
            return refuse(
                self.fc,
                EINVAL,
                fmt!("upper fs is r/o, try multi-lower layers mount"),
            );
        }
        self.check_name_len(upper)?;
        self.add_root(path.dentry(), "upperdir")?;
        let mnt = self.clone_mount(upper, false, "upperpath")?;
        let layer = Layer::new(self.mounts.push_upper(mnt)?, 0);
        let root = layer.mnt().root().get();
        self.layers.upper = Some(layer);
        self.claim(root.as_ref(), "upperdir")
    }

    /// Opens the work directory, with what its filesystem can do; `None` where it cannot be made: the mount is
    /// read-only then.
    pub(crate) fn open_work(
        &mut self,
        own: Namespace,
        upper: &Named,
        work: &Named,
    ) -> Result<Option<Features>> {
        let (base, top) = (work.path.as_ref(), upper.path.as_ref());
        if base.mnt() != top.mnt() {
            return refuse(
                self.fc,
                EINVAL,
                fmt!("workdir and upperdir must reside under the same mount"),
            );
        }
        if base.dentry().is_subdir_of(top.dentry()) || top.dentry().is_subdir_of(base.dentry()) {
            return refuse(
                self.fc,
                EINVAL,
                fmt!("workdir and upperdir must be separate subtrees"),
            );
        }
        self.claim(base, "workdir")?;
        self.add_root(base.dentry(), "workdir")?;
        let mnt = self.layers.upper().ok_or(EIO)?.mnt();
        let prepared = {
            let write = mnt.want_write()?;
            workdir::prepare(self.fc, own, write.writing(), base, work.name.as_bytes())?
        };
        let Some((dir, features)) = prepared else {
            return Ok(None);
        };
        self.add_root(dir.as_ref().dentry(), "workdir")?;
        self.layers.work = Some(Work {
            dir,
            index: None,
            tmpfile: features.tmpfile,
            direct_io: features.direct_io,
        });
        Ok(Some(features))
    }

    /// Opens the index for what `names` say; `false` where it cannot be made: the mount is read-only then.
    pub(super) fn open_index(
        &mut self,
        config: &Effective,
        names: index::Names<'_>,
    ) -> Result<bool> {
        let opened = {
            let write = self.layers.upper().ok_or(EIO)?.mnt().want_write()?;
            let opening = index::Opening {
                fc: self.fc,
                own: config.namespace(),
                has_export: config.has_export(),
                layers: &self.layers,
                writing: write.writing(),
                names,
            };
            opening.open()?
        };
        let Some(dir) = opened else {
            self.layers.work = None;
            return Ok(false);
        };
        self.add_root(dir.as_ref().dentry(), "indexdir")?;
        if let Some(work) = &mut self.layers.work {
            work.index = Some(dir);
        }
        Ok(true)
    }

    /// Refuses a mount of the layers of `all` with `EINVAL` where its stacking depth is more than the kernel allows.
    pub(crate) fn check_depth<'b>(&self, all: impl Iterator<Item = &'b Named>) -> Result {
        let depths = all.map(|named| named.path.as_ref().mnt().sb().stack_depth());
        let depth = depths.max().unwrap_or(0) + 1;
        if SuperBlock::too_deep(depth) {
            return refuse(self.fc, EINVAL, fmt!("maximum fs stacking depth exceeded"));
        }
        Ok(())
    }

    /// Opens the lower layers, topmost first: those that are merged, and those that have `data` alone.
    pub(crate) fn open_lower(&mut self, lower: &[Named], data: &[Named]) -> Result {
        for named in Iterator::chain(lower.iter(), data) {
            self.check_name_len(named)?;
        }
        let upper = self.layers.upper().map(|upper| upper.mnt().sb());
        let filesystem = LayerFs {
            sb: upper.map_or(SbId::NONE, SuperBlock::id),
            uuid: upper.map_or([0; 16], |sb| self.layers.uuid_of(sb)),
            dev: AnonDev::new()?,
            bad_uuid: false,
            is_lower: false,
        };
        self.layers.filesystems.push(filesystem, GFP_KERNEL)?;
        self.layers.lower.reserve(lower.len(), GFP_KERNEL)?;
        for named in lower {
            let fsid = self.filesystem(named.path.as_ref().mnt().sb())?;
            let layer = Layer::new(self.mount_lower(named)?, fsid);
            self.layers.lower.push(layer, GFP_KERNEL)?;
        }
        for named in data {
            let mnt = ARef::from(self.mount_lower(named)?);
            self.layers.data.push(mnt, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The private mount of a lower layer.
    fn mount_lower(&mut self, named: &Named) -> Result<&Mount> {
        let dentry = named.path.as_ref().dentry();
        self.add_root(dentry, "lowerdir")?;
        if dentry.positive()?.is_inuse() {
            self.lower_in_use(dentry, "lowerdir")?;
        }
        let mnt = self.clone_mount(named, true, "lowerpath")?;
        self.mounts.push_lower(mnt)
    }

    /// The number of the lower filesystem that `sb` is, a new one if need be.
    fn filesystem(&mut self, sb: &SuperBlock) -> Result<u16> {
        let uuid = self.layers.uuid_of(sb);
        let all = &mut self.layers.filesystems;
        let index = match all.iter().position(|fs| fs.sb == sb.id()) {
            Some(index) => index,
            None => {
                let filesystem = LayerFs {
                    sb: sb.id(),
                    uuid,
                    dev: AnonDev::new()?,
                    bad_uuid: false,
                    is_lower: true,
                };
                all.push(filesystem, GFP_KERNEL)?;
                all.len() - 1
            }
        };
        if let Some(fs) = all.get_mut(index) {
            fs.is_lower = true;
        }
        Ok(u16::try_from(index)?)
    }

    /// Refuses layers that overlap, and an upper or work directory below one that is in use.
    ///
    /// # Errors
    ///
    /// `ELOOP`, `EBUSY`.
    pub(crate) fn check_overlap(&self, work: Option<&Named>) -> Result {
        if let Some(upper) = self.layers.upper() {
            self.check_parents(upper.mnt().root().dentry(), "upperdir", false)?;
        }
        if let Some(work) = work {
            self.check_parents(work.path.as_ref().dentry(), "workdir", false)?;
        }
        for mnt in self.layers.all_lower() {
            self.check_parents(mnt.root().dentry(), "lowerdir", true)?;
        }
        Ok(())
    }

    fn check_parents(&self, dentry: &vfs::Dentry, what: &str, is_lower: bool) -> Result {
        let mut at = dentry.get();
        loop {
            let parent = at.up();
            if *parent == *at {
                return Ok(());
            }
            if is_lower && self.layers.roots.contains(parent.positive()?) {
                return refuse(self.fc, ELOOP, fmt!("overlapping {what} path"));
            }
            if parent.positive()?.is_inuse() {
                if is_lower {
                    self.lower_in_use(&parent, what)?;
                } else {
                    self.refuse_in_use(&parent, what)?;
                }
            }
            at = parent;
        }
    }

    /// Checks that the layers, which fold case, do so alike.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub(crate) fn check_folding(&mut self) -> Result {
        let mut all = self.layers.mounts().map(Mount::sb);
        let first = all.next().ok_or(EINVAL)?;
        if first.folds_strictly() {
            return refuse(self.fc, EINVAL, fmt!("strict encoding not supported"));
        }
        if !all.all(|sb| sb.folds_alike(first)) {
            return refuse(
                self.fc,
                EINVAL,
                fmt!("all layers must have the same encoding"),
            );
        }
        self.folds = true;
        Ok(())
    }

    /// Whether the layers fold case.
    pub(crate) fn folds(&self) -> bool {
        self.folds
    }

    /// Which filesystems the layers are on.
    pub(crate) fn filesystems(&self) -> Filesystems {
        let all = self.layers.filesystems.len();
        let last = all.saturating_sub(1);
        if all - usize::from(self.layers.upper().is_none()) == 1 {
            return Filesystems::One;
        }
        let mut kinds = self.layers.mounts().map(|mnt| mnt.sb().handle_kind());
        // They say that numbers have 32 bits.
        Filesystems::Several(match kinds.all(|kind| kind == HandleKind::Ino32) {
            true => 32,
            false => numbering::bits_up_to(last),
        })
    }

    /// Whether objects of upper have file handles.
    pub(crate) fn upper_has_handles(&self) -> bool {
        let upper = self.layers.upper();
        upper.is_some_and(|upper| upper.mnt().sb().handle_kind() != HandleKind::None)
    }

    /// What file handles of lower objects are good for.
    pub(crate) fn handles(&self) -> Result<Handles> {
        let none = |mnt: &Mount| mnt.sb().handle_kind() == HandleKind::None;
        if let Some(index) = self.layers.all_lower().position(none) {
            return Ok(Handles::NotOfLower(u16::try_from(index + 1)?));
        }
        let first_not_told = |null_tells| {
            // Upper's is known without.
            let is_told = |fsid| self.is_told(usize::from(fsid), null_tells || fsid == 0);
            let mut lower = self.layers.lower().iter();
            lower.position(|layer| !is_told(layer.fsid))
        };
        Ok(match (first_not_told(true), first_not_told(false)) {
            (Some(index), _) => Handles::Ambiguous(u16::try_from(index + 1)?),
            (None, Some(index)) => Handles::Nameless(u16::try_from(index + 1)?),
            (None, None) => Handles::All,
        })
    }

    /// Whether its UUID [tells](tells) filesystem number `index` from the others.
    fn is_told(&self, index: usize, null_tells: bool) -> bool {
        let all = &self.layers.filesystems;
        let others = all.iter().enumerate();
        let others = others.filter(|(other, fs)| *other != index && fs.is_lower);
        let others = others.map(|(_, fs)| fs.uuid);
        all.get(index)
            .is_some_and(|fs| tells(fs.uuid, others, null_tells))
    }

    /// Decides on which lower filesystems handles are decoded, which name their filesystem by UUID.
    pub(crate) fn judge_uuids(&mut self, config: &Effective) {
        for index in 0..self.layers.filesystems.len() {
            let is_told = self.is_told(index, config.needs_origins());
            if let Some(fs) = self.layers.filesystems.get_mut(index) {
                fs.bad_uuid = !is_told;
            }
        }
    }
}

/// Whether a UUID tells its filesystem from the lower ones with the UUIDs `others`. A null one, of which there may be
/// one, does where `null_tells`: without, lower layers may be exchanged for others, which have a null UUID as well.
fn tells(uuid: [u8; 16], mut others: impl Iterator<Item = [u8; 16]>, null_tells: bool) -> bool {
    (null_tells || uuid != [0; 16]) && !others.any(|other| other == uuid)
}

const IN_USE: &str = "is in-use as upperdir/workdir of another mount";
const EFFECT: &str = "accessing files from both mounts will result in undefined behavior";

/// The mount that a directory is in use by, if it is one of ours, to be printed.
struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(dev) => f.write_fmt(fmt!(" ({}:{})", dev >> 20, dev & 0xfffff)),
            None => Ok(()),
        }
    }
}

impl Opening<'_> {
    /// Says that another mount uses a directory, and which.
    fn report_in_use(&self, dentry: &vfs::Dentry, what: &str) {
        let holder = Holder(self.claims.holder(dentry));
        say(Level::Warning, fmt!("{what} {IN_USE}{holder}, {EFFECT}."));
    }

    /// Says so of a lower layer, or of a directory above it, which is refused where there will be an index.
    fn lower_in_use(&self, dentry: &vfs::Dentry, what: &str) -> Result {
        match self.exclusive {
            true => self.refuse_in_use(dentry, what),
            false => {
                self.report_in_use(dentry, what);
                Ok(())
            }
        }
    }

    /// Refuses a directory that another mount uses. The drop-in does as overlayfs does without an
    /// index: container engines that leak mounts rely on a warning being all.
    fn refuse_in_use(&self, dentry: &vfs::Dentry, what: &str) -> Result {
        if cfg!(drop_in) && !self.exclusive {
            self.report_in_use(dentry, what);
            return Ok(());
        }
        let holder = Holder(self.claims.holder(dentry));
        refuse(self.fc, EBUSY, fmt!("{what} {IN_USE}{holder}, {EFFECT}"))
    }
}

#[kernel::macros::kunit_tests(rovl_layers)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        const NULL: [u8; 16] = [0; 16];
        const A: [u8; 16] = [1; 16];
        const B: [u8; 16] = [2; 16];
        let tells = |uuid, others: &[[u8; 16]], null| tells(uuid, others.iter().copied(), null);
        for null in [false, true] {
            assert!(tells(A, &[], null));
            assert!(tells(A, &[B, NULL], null));
            assert!(!tells(A, &[B, A], null));
            assert_eq!(tells(NULL, &[], null), null);
            assert_eq!(tells(NULL, &[A], null), null);
            assert!(!tells(NULL, &[A, NULL], null));
        }
    }
}
