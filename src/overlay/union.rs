// SPDX-License-Identifier: GPL-2.0

//! What a mount keeps: layers, work directory, credentials; `statfs`, the options shown.

use super::{
    config::{Config, CopyUp, RedirectDir, Uuid},
    ino::Layout,
    layer::{Layer, LowerPath, UPPER},
    memory::Memories,
    params,
    workdir::Features,
    Dentry,
};
use crate::vfs::{
    self,
    claim::Claim,
    inode::InodeId,
    mount::{PathRef, PrivateMount},
    super_block::{self, AnonDev, PassedErrors, SbId, StatFs},
    CBuf, Mount,
};
use kernel::{
    cred::Credential,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};

/// A distinct filesystem among the layers.
pub(super) struct LayerFs {
    /// Which super block it is.
    pub(super) sb: SbId,
    pub(super) uuid: [u8; 16],
    pub(super) dev: AnonDev,
    /// Its UUID does not tell it from the others: no handle is decoded on it.
    pub(super) bad_uuid: bool,
    pub(super) is_lower: bool,
}

/// The work directory of a mount.
pub(super) struct Work {
    pub(super) dir: ARef<vfs::Dentry>,
    pub(super) features: Features,
}

/// The layers of a mount; they are unmounted together when dropped.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) upper: Option<Layer>,
    /// Topmost first.
    pub(super) lower: KVec<Layer>,
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

/// The roots of all layers, and the upper and work directories. A lookup that reaches one is refused:
/// layers overlap.
#[derive(Default)]
pub(super) struct Roots(KVec<InodeId>);

impl Roots {
    /// Whether `inode` is one of them.
    pub(super) fn contains(&self, inode: &vfs::Inode) -> bool {
        self.0.binary_search(&inode.id()).is_ok()
    }

    /// Adds `inode`, which somebody keeps referenced; `false` where it is there.
    pub(super) fn add(&mut self, inode: &vfs::Inode) -> Result<bool> {
        let Err(at) = self.0.binary_search(&inode.id()) else {
            return Ok(false);
        };
        self.0.reserve(1, GFP_KERNEL)?;
        self.0
            .insert_within_capacity(at, inode.id())
            .map_err(|_| ENOMEM)?;
        Ok(true)
    }
}

/// What a mount keeps: the data of the super block. Dropped in the order of the fields: references
/// into the layers go before the layers do.
#[pin_data]
pub(crate) struct Overlay {
    /// A whiteout in the work directory that others are linked from.
    #[pin]
    pub(crate) whiteout: Mutex<Option<ARef<vfs::Dentry>>>,
    pub(super) work: Option<Work>,
    pub(super) roots: Roots,
    pub(super) in_use: KVec<Claim>,
    pub(super) layers: Layers,
    pub(super) filesystems: KVec<LayerFs>,
    pub(super) layout: Layout,
    pub(super) creds: ARef<Credential>,
    pub(super) config: Config,
    pub(super) shown: Shown,
    pub(super) name_len: i64,
    pub(super) upper_xattrs: Atomic<bool>,
    pub(super) share_whiteouts: Atomic<bool>,
    pub(super) last_ino: Atomic<u64>,
    /// Upper's writeback errors that `syncfs(2)` knows of.
    pub(super) passed_errors: Option<PassedErrors>,
    pub(super) memories: Arc<Memories>,
}

/// What `/proc/mounts` shows.
pub(super) struct Shown {
    pub(super) lowerdir: Option<CBuf>,
    pub(super) lower: KVec<CBuf>,
    pub(super) upper: Option<CBuf>,
    pub(super) work: Option<CBuf>,
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

    /// Whether `dentry` is the root of a layer, or the upper or work directory.
    pub(crate) fn is_root(&self, dentry: &vfs::Dentry) -> bool {
        dentry
            .inode()
            .is_some_and(|inode| self.roots.contains(inode))
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

    /// Whether opening a file for writing copies it up.
    pub(crate) fn copies_up_at_open(&self) -> bool {
        self.config.copy_up == CopyUp::AtOpen
    }

    /// Whether a redirect says where the lower part of a directory is.
    pub(crate) fn follows_redirects(&self) -> bool {
        self.config.redirect_dir != RedirectDir::NoFollow
    }

    /// Whether a directory with a lower part is renamed with a redirect.
    pub(crate) fn makes_redirects(&self) -> bool {
        self.config.redirect_dir == RedirectDir::On
    }

    /// What its directories remember.
    pub(crate) fn memories(&self) -> &Arc<Memories> {
        &self.memories
    }

    /// The longest name.
    pub(crate) fn name_len(&self) -> usize {
        usize::try_from(self.name_len).unwrap_or(0)
    }
}

/// Sizes of upper (or the topmost lower layer), magic number of union filesystems.
pub(crate) fn statfs(dentry: &Dentry) -> Result<StatFs> {
    let fs = dentry.fs();
    let root = super_block::root_of::<Overlay>(dentry.sb())?;
    let mut stat = StatFs::read(root.own_positive()?.real_path()?)?;
    stat.set_name_len(fs.name_len);
    stat.set_union_magic();
    if fs.config.uuid == Uuid::Auto {
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
    if let Some(value) = fs.config.shown_redirect_dir(params::defaults()) {
        kernel::seq_print!(out, ",redirect_dir={value}");
    }
    if fs.config.copy_up == CopyUp::AtOpen {
        kernel::seq_print!(out, ",copy_up=open");
    }
    if fs.config.uuid == Uuid::Null {
        kernel::seq_print!(out, ",uuid=null");
    }
}
