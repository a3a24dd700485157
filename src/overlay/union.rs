// SPDX-License-Identifier: GPL-2.0

//! What a mount keeps: layers, work directory, credentials; `statfs`, the options shown.

use crate::overlay::{
    dir::cache::DirCaches,
    layer::{
        marks,
        numbering::{Numbering, Numbers},
        xattr_names::Namespace,
        Layer, UPPER,
    },
    mount::{
        given::Given,
        options::{CopyUp, RedirectDir, Verity, Xino},
        resolve::Effective,
    },
    written::{Changing, Written},
};
use crate::vfs::{
    self,
    claim::Claim,
    inode::InodeId,
    log::warn_limited,
    mount::{MountAccess, Path, WriteGuard},
    published::Published,
    super_block::{AnonDev, KnownErrors, SbId},
    Mount, SuperBlock,
};
use kernel::{
    cred::Credential,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// An inode of a mount.
pub(crate) type Inode = vfs::OwnInode<Overlay>;
/// A dentry of a mount.
pub(crate) type Dentry = vfs::OwnDentry<Overlay>;
/// A dentry of a mount whose name and parent are stable.
pub(crate) type Child<'a> = vfs::Child<'a, Overlay>;
/// An inode of a mount that is being made.
pub(crate) type NewInode<'a> = vfs::NewInode<'a, Overlay>;
/// The super block of a mount.
pub(crate) type Super = vfs::OwnSuper<Overlay>;
/// An open directory of a mount that is being listed.
pub(crate) type Listed<'a> = vfs::file_ops::Listed<'a, Overlay>;
/// An open file of a mount.
pub(crate) type OpenFile<'a> = vfs::file_ops::OpenFile<'a, Overlay>;

/// A distinct filesystem among the layers.
pub(crate) struct LayerFs {
    /// Which super block it is.
    pub(crate) sb: SbId,
    /// What handles [say](Layers::uuid_of) of it.
    pub(crate) uuid: [u8; 16],
    pub(crate) dev: AnonDev,
    /// Its UUID does not tell it from the others: no handle is decoded on it.
    pub(crate) bad_uuid: bool,
    pub(crate) is_lower: bool,
}

/// The work directory of a mount.
pub(crate) struct Work {
    pub(crate) dir: Path,
    /// The [index](crate::overlay::layer::index), with `index=on`.
    pub(crate) index: Option<Path>,
    /// Its filesystem has unnamed files.
    pub(crate) tmpfile: bool,
    /// Its filesystem has direct I/O.
    pub(crate) direct_io: bool,
}

/// The layers of a mount and what it holds of them.
#[derive(Default)]
pub(crate) struct Layers {
    /// None where the mount is read-only for good.
    pub(crate) work: Option<Work>,
    /// Directories that no other mount may write to.
    pub(crate) claims: KVec<Claim>,
    pub(crate) roots: Roots,
    pub(crate) upper: Option<Layer>,
    /// Those that are merged, topmost first.
    pub(crate) lower: KVec<Layer>,
    /// The data-only ones, topmost first: files of others name what is in them, nothing else does.
    pub(crate) data: KVec<ARef<Mount>>,
    /// The distinct filesystems: upper's, or none, and those of the lower layers.
    pub(crate) filesystems: KVec<LayerFs>,
    /// Handles say the UUID of the filesystem that they are of.
    pub(crate) names_filesystems: bool,
}

impl Layers {
    /// The upper layer.
    #[inline]
    pub(crate) fn upper(&self) -> Option<&Layer> {
        self.upper.as_ref()
    }

    /// The lower layers that are merged, topmost first.
    pub(crate) fn lower(&self) -> &[Layer] {
        &self.lower
    }

    /// The mounts of all layers, topmost first.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = &Mount> {
        let upper = self.upper.as_ref().map(Layer::mnt);
        Iterator::chain(upper.into_iter(), self.all_lower())
    }

    /// What a handle says of the filesystem `sb` that it is of.
    pub(crate) fn uuid_of(&self, sb: &SuperBlock) -> [u8; 16] {
        match self.names_filesystems {
            true => sb.uuid(),
            false => [0; 16],
        }
    }

    /// Whether file handles can be decoded on `layer`: its UUID is its own.
    pub(crate) fn has_unique_uuid(&self, layer: &Layer) -> bool {
        self.filesystems
            .get(usize::from(layer.fsid))
            .is_some_and(|fs| layer.fsid == 0 || !fs.bad_uuid)
    }

    /// The mounts of all lower layers, topmost first.
    pub(crate) fn all_lower(&self) -> impl Iterator<Item = &Mount> {
        let data = self.data.iter().map(|mnt| &**mnt);
        Iterator::chain(self.lower.iter().map(Layer::mnt), data)
    }
}

/// The roots of all layers, and the upper and work directories. A lookup that reaches one is refused:
/// layers overlap.
#[derive(Default)]
pub(crate) struct Roots {
    sorted: KVec<InodeId>,
    /// The [bits](InodeId::bit) of all: of most directories they say at once that none is it.
    bits: u64,
}

impl Roots {
    /// Whether `inode` is one of them.
    #[inline]
    pub(crate) fn contains(&self, inode: &vfs::Inode) -> bool {
        self.bits & inode.id().bit() != 0 && self.sorted.binary_search(&inode.id()).is_ok()
    }

    /// Makes room for `more`; `ENOMEM`.
    pub(crate) fn reserve(&mut self, more: usize) -> Result {
        Ok(self.sorted.reserve(more, GFP_KERNEL)?)
    }

    /// Adds `inode`, which somebody keeps referenced; `false` where it is there.
    pub(crate) fn add(&mut self, inode: &vfs::Inode) -> Result<bool> {
        let Err(at) = self.sorted.binary_search(&inode.id()) else {
            return Ok(false);
        };
        self.reserve(1)?;
        self.sorted
            .insert_within_capacity(at, inode.id())
            .map_err(|_| ENOMEM)?;
        self.bits |= inode.id().bit();
        Ok(true)
    }
}

/// The last number that was made up. Operations on any CPU change it, so it has a cache line to itself: what all of them
/// read stays in all caches.
#[repr(align(64))]
pub(crate) struct LastIno(pub(crate) Atomic<u64>);

/// What a mount keeps: the data of the super block.
#[pin_data]
pub(crate) struct Overlay {
    pub(crate) last_ino: LastIno,
    pub(crate) layers: Layers,
    pub(crate) numbering: Numbering,
    pub(crate) creds: ARef<Credential>,
    /// Its directories, and those of all layers, fold case.
    pub(crate) folds: bool,
    pub(crate) config: Effective,
    pub(crate) given: Given,
    pub(crate) name_len: i64,
    pub(crate) upper_xattrs: Atomic<bool>,
    pub(crate) share_whiteouts: Atomic<bool>,
    /// A whiteout in the work directory that others are linked from.
    pub(crate) whiteout: Published<Path>,
    /// It was said that a number has no room for the tag of its filesystem.
    pub(crate) said_overflow: Atomic<bool>,
    /// Upper's writeback errors that `syncfs(2)` has passed on; of a volatile mount, those from before it.
    pub(crate) known_errors: Option<KnownErrors>,
    pub(crate) dir_caches: Arc<DirCaches>,
    #[pin]
    pub(crate) written: Written,
}

impl Overlay {
    /// The upper layer.
    #[inline]
    pub(crate) fn upper(&self) -> Option<&Layer> {
        self.layers.upper()
    }

    /// The layer with index `index`: 0 is upper, 1 the topmost lower layer.
    #[inline]
    pub(crate) fn layer(&self, index: u16) -> Option<&Layer> {
        match index {
            UPPER => self.layers.upper(),
            _ => self.layers.lower().get(usize::from(index).wrapping_sub(1)),
        }
    }

    /// The lower layers that are merged, topmost first.
    pub(crate) fn lower_layers(&self) -> &[Layer] {
        self.layers.lower()
    }

    /// The mounts of the data-only layers, topmost first.
    #[inline]
    pub(crate) fn data_layers(&self) -> &[ARef<Mount>] {
        &self.layers.data
    }

    /// The credentials that layers are used with: the mounter's.
    #[inline]
    pub(crate) fn creds(&self) -> &Credential {
        &self.creds
    }

    /// Whether `dentry`, of a layer, is a directory that folds case and should not, or the other way round: somebody changed
    /// it underneath.
    #[inline]
    pub(crate) fn is_misfolded(&self, dentry: &vfs::Dentry) -> bool {
        dentry.is_dir() && dentry.is_casefolded() != self.folds
    }

    /// That a new object in upper is not [misfolded](Self::is_misfolded): directories are made as those that they are made in
    /// are.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub(crate) fn check_folding(&self, made: &vfs::Dentry) -> Result {
        if self.is_misfolded(made) {
            warn_limited!("wrong inherited casefold ({made})\n");
            return Err(EINVAL);
        }
        Ok(())
    }

    /// The number of the filesystem of layer `layer`.
    fn fsid(&self, layer: u16) -> u16 {
        self.layer(layer).map_or(0, |layer| layer.fsid)
    }

    /// What is shown for the numbers of objects of layer `layer`.
    #[inline]
    pub(crate) fn numbers(&self, layer: u16) -> Numbers {
        self.numbering.of(|| self.fsid(layer))
    }

    /// The device number for files of layer `layer`.
    pub(crate) fn layer_dev(&self, layer: u16) -> Result<u32> {
        let fsid = usize::from(self.fsid(layer));
        let fs = self.layers.filesystems.get(fsid).ok_or(EIO)?;
        Ok(fs.dev.dev())
    }

    /// An inode number that no other inode of the mount has, for a directory whose real one cannot be shown.
    pub(crate) fn make_ino(&self) -> u64 {
        let count = self.last_ino.0.fetch_add(1u64, Relaxed).wrapping_add(1);
        self.numbering.made(count)
    }

    /// Says, once and where `xino=on` promised otherwise, that `real`, a number of the layers, cannot be shown as all others
    /// are.
    #[cold]
    pub(crate) fn say_overflow(&self, real: u64) {
        if self.config.xino.value == Xino::On && !self.said_overflow.xchg(true, Relaxed) {
            let numbering = self.numbering;
            warn_limited!("inode number too big for xino (ino={real}, {numbering:?})\n");
        }
    }

    /// The upper mount and the work directory; `EROFS` where the mount is read-only for good.
    pub(crate) fn work(&self) -> Result<(&Mount, &vfs::Dentry)> {
        match (self.layers.upper(), &self.layers.work) {
            (Some(upper), Some(work)) => Ok((upper.mnt(), work.dir.as_ref().dentry())),
            _ => Err(EROFS),
        }
    }

    /// Write access to upper for a change; `EROFS`.
    #[inline]
    pub(crate) fn want_write(&self) -> Result<Changing<'_, WriteGuard<'_>>> {
        Ok(Changing::new(self.work()?.0.want_write()?, &self.written))
    }

    /// As [`want_write`](Self::want_write), but does not hold off a freeze.
    #[inline]
    pub(crate) fn write_access(&self) -> Result<Changing<'_, MountAccess<'_>>> {
        Ok(Changing::new(self.work()?.0.write_access()?, &self.written))
    }

    /// The index, where there is one.
    #[inline]
    pub(crate) fn index(&self) -> Option<&vfs::Dentry> {
        let index = self.layers.work.as_ref()?.index.as_ref()?;
        Some(index.as_ref().dentry())
    }

    /// Whether the lower object `lower` gets an entry of the index when it is copied up: what has several names, which stay
    /// links of one file; with handles that can be opened all, for the handle of the lower object leads to its copy.
    pub(crate) fn indexes(&self, lower: &vfs::Inode) -> bool {
        let mode = lower.mode();
        self.index().is_some()
            && (self.has_export() || (lower.nlink() > 1 && !mode.is_dir()))
            && marks::can_be_on(self.namespace(), mode)
    }

    /// Whether file handles can be opened.
    #[inline]
    pub(crate) fn has_export(&self) -> bool {
        self.config.has_export()
    }

    /// Whether `dentry` is the root of a layer, or the upper or work directory.
    pub(crate) fn is_root(&self, dentry: &vfs::Dentry) -> bool {
        dentry
            .inode()
            .is_some_and(|inode| self.layers.roots.contains(inode))
    }

    /// Whether the mount cannot be made writable.
    pub(crate) fn is_forced_readonly(&self) -> bool {
        self.work().is_err()
    }

    /// Whether upper has unnamed files.
    pub(crate) fn has_tmpfile(&self) -> bool {
        self.layers.work.as_ref().is_some_and(|work| work.tmpfile)
    }

    /// Whether direct I/O is possible on files of upper.
    pub(crate) fn upper_has_direct_io(&self) -> bool {
        self.layers.work.as_ref().is_some_and(|work| work.direct_io)
    }

    /// Whether upper's filesystem has what `has` asks one of its inodes for.
    pub(crate) fn upper_can(&self, has: fn(&vfs::Inode) -> bool) -> bool {
        self.work()
            .is_ok_and(|(_, work)| work.inode().is_some_and(has))
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

    /// Where its own attributes are on layers.
    #[inline]
    pub(crate) fn namespace(&self) -> Namespace {
        self.config.namespace()
    }

    /// Whether opening a file for writing copies it up.
    pub(crate) fn copies_up_at_open(&self) -> bool {
        self.config.copy_up.value == CopyUp::AtOpen
    }

    /// Whether a redirect says where the lower part of a directory is.
    pub(crate) fn follows_redirects(&self) -> bool {
        self.config.redirect_dir.value != RedirectDir::NoFollow
    }

    /// Whether a directory with a lower part is renamed with a redirect.
    pub(crate) fn makes_redirects(&self) -> bool {
        self.config.redirect_dir.value == RedirectDir::On
    }

    /// Whether attributes are copied up without data, and files without data are looked for below.
    pub(crate) fn has_metacopy(&self) -> bool {
        self.config.has_metacopy()
    }

    /// What digests of data are for.
    #[inline]
    pub(crate) fn verity(&self) -> Verity {
        self.config.verity.value
    }

    /// Whether nothing is written back for the mount.
    #[inline]
    pub(crate) fn is_volatile(&self) -> bool {
        self.config.is_volatile()
    }

    /// What a request to write something back comes to where nothing is: `None` where it is.
    ///
    /// An error that upper had since the mount is returned for ever. Which files it hit nobody can tell.
    #[inline]
    pub(crate) fn instead_of_sync(&self) -> Option<Result> {
        self.is_volatile().then(|| {
            let known = self.upper().zip(self.known_errors.as_ref());
            known.map_or(Ok(()), |(upper, known)| {
                upper.mnt().sb().no_error_since(known)
            })
        })
    }

    /// What its directories remember.
    pub(crate) fn dir_caches(&self) -> &Arc<DirCaches> {
        &self.dir_caches
    }

    /// The longest name.
    pub(crate) fn name_len(&self) -> usize {
        usize::try_from(self.name_len).unwrap_or(0)
    }
}
