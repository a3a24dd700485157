// SPDX-License-Identifier: GPL-2.0

//! Layers on their filesystems, and the mounts over them.

use std::cell::RefCell;
use std::env;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};
use clap::ValueEnum;
use rustix::fs::CWD;
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, move_mount, unmount, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags,
    MoveMountFlags, UnmountFlags,
};
use serde::{Serialize, Serializer};

use crate::mapped::{self, Mapped};
use crate::op::{Fs, Mounting, Site, Stage};
use crate::tree::{data_layers, Layer, Tree, MIB};

const BASE: &str = "/mnt/bench";
/// What is under test is mounted here, but for raw as it is.
const MNT: &str = "/mnt/bench/mnt";
/// Three times the largest directory is on it, and more.
const EXT4_INODES: usize = 1 << 20;
/// Where scripts/bench puts what is made on the host.
pub const IMAGES: &str = "/rovl/build/bench/images";

/// A filesystem that layers lie on. The disks of ext4 and erofs are files on tmpfs: no time passes waiting for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Store {
    Tmpfs,
    Ext4,
    Erofs,
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Store::Tmpfs => "tmpfs",
            Store::Ext4 => "ext4",
            Store::Erofs => "erofs",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backing {
    pub lower: Store,
    pub upper: Store,
}

/// What `make bench` uses, the first for all numbers of layers.
pub const BACKINGS: [Backing; 4] = [
    Backing {
        lower: Store::Tmpfs,
        upper: Store::Tmpfs,
    },
    Backing {
        lower: Store::Ext4,
        upper: Store::Ext4,
    },
    Backing {
        lower: Store::Erofs,
        upper: Store::Tmpfs,
    },
    Backing {
        lower: Store::Erofs,
        upper: Store::Ext4,
    },
];

/// Lower layers with a tree in them, and the same tree in one directory beside them.
pub struct World {
    pub backing: Backing,
    pub layers: usize,
    /// The lower layers, the topmost first.
    lowers: Vec<PathBuf>,
    /// Their content in one directory, on the lower layers' filesystem.
    flat: PathBuf,
    /// Where upper layers are made.
    upper: PathBuf,
    tree: Tree,
    pool: usize,
    /// To be unmounted at the end, the last first.
    mounts: Vec<PathBuf>,
}

pub fn run(program: &str, args: &[&str]) -> Result<()> {
    let out = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("running {program}"))?;
    ensure!(
        out.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}

/// Puts a mount at a place.
fn place(mount: &OwnedFd, at: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", CWD, at, flags)?)
}

impl World {
    /// `pool` is how many files a tree that is a pool needs.
    pub fn new(backing: Backing, layers: usize, tree: Tree, pool: usize) -> Result<World> {
        ensure!(layers > 0, "a mount needs a lower layer");
        let base = Path::new(BASE);
        fs::create_dir_all(base)?;
        mount(
            "bench",
            base,
            "tmpfs",
            MountFlags::empty(),
            c"size=100%,nr_inodes=0",
        )
        .context("mounting a tmpfs for the layers")?;
        let mut world = World {
            backing,
            layers,
            lowers: Vec::new(),
            flat: PathBuf::new(),
            upper: PathBuf::new(),
            tree,
            pool,
            mounts: vec![base.into()],
        };
        world
            .make()
            .with_context(|| format!("making {layers} layers with {tree:?} on {backing}"))?;
        Ok(world)
    }

    fn make(&mut self) -> Result<()> {
        let base = Path::new(BASE);
        fs::create_dir(MNT)?;
        if self.uses(Store::Ext4) {
            File::create(base.join("ext4.img"))?.set_len(4096 * MIB)?;
            let inodes = EXT4_INODES.to_string();
            run(
                "mkfs.ext4",
                &["-q", "-N", &inodes, &format!("{BASE}/ext4.img")],
            )?;
            // Nothing in the background.
            self.mount_image("ext4", "noinit_itable")?;
        }
        let place = |store, name| match store {
            Store::Ext4 => base.join("ext4").join(name),
            _ => base.join(name),
        };
        self.upper = place(self.backing.upper, "upper");
        fs::create_dir(&self.upper)?;
        let lower = if let Some(image) = self.tree.image() {
            fs::copy(Path::new(IMAGES).join(image), base.join("image.img"))
                .with_context(|| format!("copying {IMAGES}/{image}"))?;
            self.mount_image("erofs", "ro")?;
            self.flat = base.join("image");
            let lower = place(self.backing.upper, "lower");
            self.fill(&lower, self.layers - 1)?;
            lower
        } else if self.backing.lower == Store::Erofs {
            let stage = base.join("stage");
            self.fill(&stage, self.layers)?;
            self.merge(&stage.join("flat"))?;
            run(
                "mkfs.erofs",
                &[
                    "--quiet",
                    &format!("{BASE}/lower.img"),
                    &stage.to_string_lossy(),
                ],
            )?;
            fs::remove_dir_all(&stage)?;
            self.mount_image("erofs", "ro")?;
            base.join("lower")
        } else {
            let lower = place(self.backing.lower, "lower");
            self.fill(&lower, self.layers)?;
            self.merge(&lower.join("flat"))?;
            lower
        };
        self.lowers = (0..self.layers)
            .map(|layer| lower.join(layer.to_string()))
            .collect();
        if self.tree.image().is_some() {
            self.lowers[self.layers - 1] = self.flat.clone();
        } else {
            self.flat = lower.join("flat");
        }
        Ok(())
    }

    /// Bytes that the device of the upper layer was given to write so far.
    pub fn written(&self) -> Result<i64> {
        let dev = rustix::fs::stat(&self.upper)?.st_dev;
        let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
        let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))
            .context("the upper layer is on no device")?;
        let sectors = stat.split_whitespace().nth(6).context("no counter")?;
        Ok(sectors.parse::<i64>()? * 512)
    }

    fn uses(&self, store: Store) -> bool {
        self.backing.lower == store || self.backing.upper == store
    }

    /// Mounts NAME.img at NAME.
    fn mount_image(&mut self, fstype: &str, options: &str) -> Result<()> {
        let name = match (fstype, self.tree.image()) {
            ("ext4", _) => "ext4",
            (_, Some(_)) => "image",
            (_, None) => "lower",
        };
        let at = Path::new(BASE).join(name);
        fs::create_dir(&at)?;
        let options = format!("loop,{options}");
        run(
            "mount",
            &[
                "-t",
                fstype,
                "-o",
                &options,
                &format!("{BASE}/{name}.img"),
                &at.to_string_lossy(),
            ],
        )?;
        self.mounts.push(at);
        Ok(())
    }

    /// Makes the topmost layers.
    fn fill(&self, dir: &Path, layers: usize) -> Result<()> {
        fs::create_dir(dir)?;
        for index in 0..layers {
            let dir = dir.join(index.to_string());
            fs::create_dir(&dir)?;
            Layer {
                dir: &dir,
                index,
                count: self.layers,
                whole: false,
            }
            .fill(self.tree, self.pool)?;
        }
        match self.tree.data_layers() {
            0 => Ok(()),
            data => data_layers(dir, data, self.pool),
        }
    }

    /// Makes a directory with all that a union of the layers shows.
    fn merge(&self, dir: &Path) -> Result<()> {
        if self.tree.image().is_some() {
            return run(
                "cp",
                &["-a", &self.flat.to_string_lossy(), &dir.to_string_lossy()],
            );
        }
        fs::create_dir(dir)?;
        for index in (0..self.layers).rev() {
            Layer {
                dir,
                index,
                count: self.layers,
                whole: true,
            }
            .fill(self.tree, self.pool)?;
        }
        Ok(())
    }

    /// The filesystem, with nothing in its upper layer but what `stage` puts there. Enters its root. Raw is the lower
    /// layers' content on their filesystem, or with `changes` a copy of it on the upper layer's.
    pub fn open(
        &self,
        fs: Fs,
        changes: bool,
        stage: Option<&Stage>,
        mounting: Mounting,
    ) -> Result<Site<'_>> {
        let scratch = self.upper.join(fs.name());
        if scratch.exists() {
            // An operation failed before.
            fs::remove_dir_all(&scratch)?;
        }
        fs::create_dir(&scratch)?;
        let content = match fs {
            Fs::Raw if changes => scratch.join("flat"),
            Fs::Raw => self.flat.clone(),
            _ => scratch.join("upper"),
        };
        match fs {
            Fs::Raw if changes => self.merge(&content)?,
            Fs::Raw => (),
            _ => {
                fs::create_dir(&content)?;
                fs::create_dir(scratch.join("work"))?;
            }
        }
        if let Some(stage) = stage {
            stage(&content)?;
        }
        let root = match (fs, mounting.mapped) {
            (Fs::Raw, Mapped::Union) => {
                place(&mapped::show(&content)?, Path::new(MNT))?;
                MNT.into()
            }
            (Fs::Raw, _) => content,
            _ => {
                self.mount(fs, &scratch, Path::new(MNT), mounting)?;
                MNT.into()
            }
        };
        env::set_current_dir(&root)?;
        let buffer = RefCell::new(vec![b'x'; MIB as usize]);
        Ok(Site {
            world: self,
            fs,
            root,
            scratch,
            files: Vec::new(),
            kept: RefCell::default(),
            buffer,
        })
    }

    /// Mounts a union with the upper and work directories in `dir`.
    pub fn mount(&self, fs: Fs, dir: &Path, at: &Path, mounting: Mounting) -> Result<()> {
        let context = fsopen(fs.name(), FsOpenFlags::FSOPEN_CLOEXEC)
            .with_context(|| format!("no filesystem {}", fs.name()))?;
        let mount = || -> Result<()> {
            // They are mounts for as long as they are open.
            let mut shown = Vec::new();
            for lower in &self.lowers {
                match mounting.mapped {
                    Mapped::Lowers => {
                        let lower = mapped::show(lower)?;
                        fsconfig_set_fd(&context, "lowerdir+", &lower)?;
                        shown.push(lower);
                    }
                    _ => fsconfig_set_string(&context, "lowerdir+", lower)?,
                }
            }
            for index in 0..self.tree.data_layers() {
                let data = self.lowers[0].with_file_name(format!("data{index}"));
                fsconfig_set_string(&context, "datadir+", data)?;
            }
            fsconfig_set_string(&context, "upperdir", dir.join("upper"))?;
            fsconfig_set_string(&context, "workdir", dir.join("work"))?;
            for option in mounting.options.split(',').filter(|o| !o.is_empty()) {
                match option.split_once('=') {
                    Some((key, value)) => fsconfig_set_string(&context, key, value)?,
                    None => fsconfig_set_flag(&context, option)?,
                }
            }
            fsconfig_create(&context)?;
            let mount = fsmount(
                &context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::empty(),
            )?;
            if mounting.mapped == Mapped::Union {
                mapped::map(&mount)?;
            }
            place(&mount, at)
        };
        mount().with_context(|| format!("mounting {} with {} lower layers", fs.name(), self.layers))
    }

    /// Leaves the filesystem and removes its upper layer.
    pub fn close(&self, site: Site) -> Result<()> {
        let Site {
            fs,
            root,
            scratch,
            files,
            kept,
            ..
        } = site;
        env::set_current_dir("/")?;
        drop((files, kept));
        if root == Path::new(MNT) {
            unmount(&root, UnmountFlags::empty())
                .with_context(|| format!("unmounting {}", fs.name()))?;
        }
        Ok(fs::remove_dir_all(scratch)?)
    }

    pub fn remove(self) -> Result<()> {
        for at in self.mounts.iter().rev() {
            unmount(at, UnmountFlags::empty())
                .with_context(|| format!("unmounting {}", at.display()))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Backing {
    type Err = anyhow::Error;

    /// "LOWER/UPPER".
    fn from_str(text: &str) -> Result<Backing> {
        let store = |name: &str| Store::from_str(name, false).map_err(anyhow::Error::msg);
        let Some((lower, upper)) = text.split_once('/') else {
            bail!("a backing is LOWER/UPPER, as in erofs/tmpfs")
        };
        let backing = Backing {
            lower: store(lower)?,
            upper: store(upper)?,
        };
        ensure!(
            backing.upper != Store::Erofs,
            "erofs can't be an upper layer"
        );
        Ok(backing)
    }
}

impl std::fmt::Display for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.lower.name(), self.upper.name())
    }
}

impl Serialize for Backing {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
