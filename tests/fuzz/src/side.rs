// SPDX-License-Identifier: GPL-2.0
//! One of the two sides of a case: its layers, its mount, its open files.

use crate::case::Case;
use crate::sys::{Handle, Sys};
use rustc_hash::FxHashMap;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, CWD};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;

/// How many files a case can hold open.
pub const SLOTS: usize = 6;

/// How many file handles it can keep.
pub const HANDLES: usize = 8;

/// A filesystem type and the options that it gets.
#[derive(Clone)]
pub struct Type {
    pub name: String,
    pub options: String,
}

/// A side.
pub struct Side {
    pub fs: Type,
    /// Folder of upper and work, and of the lower layers unless they are elsewhere.
    pub dir: String,
    pub lower_dir: String,
    /// Where it is mounted.
    pub mnt: String,
    pub lowers: usize,
    /// How many data-only layers there are.
    pub data: usize,
    pub slots: [Option<OwnedFd>; SLOTS],
    pub handles: [Option<Handle>; HANDLES],
    pub ids: Ids,
}

/// Inode and device numbers differ between the sides; the order in which different ones are seen must not.
#[derive(Default)]
pub struct Ids {
    inos: FxHashMap<(u64, u64), u32>,
    devs: FxHashMap<u64, u32>,
    /// Each filesystem has numbers and a device of its own, and those of made inodes do not last.
    pub split: bool,
    /// An inode number may be given to another object once its own is gone.
    pub reused: bool,
}

impl Ids {
    /// The ranks of a device and an inode number among those seen so far.
    pub fn rank(&mut self, dev: u64, ino: u64, is_dir: bool) -> (u32, u32) {
        let n = self.devs.len() as u32;
        let dev = *self.devs.entry(dev).or_insert(n);
        if self.split && is_dir {
            return (dev, 0);
        }
        let key = if self.split { u64::from(dev) } else { 0 };
        let n = self.inos.len() as u32;
        (dev, *self.inos.entry((key, ino)).or_insert(n))
    }

    /// A new mount has new devices.
    pub fn mounted(&mut self) {
        self.devs.clear();
        if self.split {
            self.inos.clear();
        }
    }

    /// Before a group of objects that exist at the same time.
    pub fn moment(&mut self) {
        if self.reused {
            self.inos.clear();
        }
    }
}

impl Side {
    pub fn new(case: &Case, fs: Type, dir: String, lower_dir: String) -> Self {
        Self {
            // Deep enough that ".." does not lead to the other side.
            mnt: format!("{lower_dir}/x/y/m"),
            fs,
            dir,
            lower_dir,
            lowers: case.lowers.len(),
            data: case.data.len(),
            slots: Default::default(),
            handles: Default::default(),
            ids: Ids {
                split: case.split && !case.has_xino(),
                reused: case.upper_fs != "tmpfs",
                ..Ids::default()
            },
        }
    }

    pub fn lower(&self, i: usize) -> String {
        format!("{}/l{i}", self.lower_dir)
    }

    pub fn data_layer(&self, i: usize) -> String {
        format!("{}/d{i}", self.lower_dir)
    }

    pub fn upper(&self) -> String {
        format!("{}/u", self.dir)
    }

    pub fn work(&self) -> String {
        format!("{}/w", self.dir)
    }

    /// The options that name the layers.
    pub fn layers(&self) -> String {
        let lowers: Vec<_> = (0..self.lowers).map(|i| self.lower(i)).collect();
        let merged = lowers.join(":");
        // Each data-only one has two colons before it.
        let data = (0..self.data).map(|i| self.data_layer(i));
        let all: Vec<_> = [merged].into_iter().chain(data).collect();
        format!(
            "lowerdir={},upperdir={},workdir={}",
            all.join("::"),
            self.upper(),
            self.work()
        )
    }

    pub fn mount(&mut self) -> Sys<()> {
        self.mount_as(&self.fs.clone())
    }

    /// Mounts these layers as another type.
    pub fn mount_as(&mut self, fs: &Type) -> Sys<()> {
        let options = format!("{}{}", self.layers(), fs.options);
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(
            "none",
            &*self.mnt,
            &*fs.name,
            MountFlags::empty(),
            &*options,
        )?;
        self.ids.mounted();
        Ok(())
    }

    /// Unmounts it; a volatile mount's mark goes, so that the layers can be mounted again.
    pub fn unmount(&mut self) -> Sys<()> {
        rustix::mount::unmount(&*self.mnt, UnmountFlags::empty())?;
        if self.fs.options.contains(",volatile") {
            let incompat = format!("{}/work/incompat", self.work());
            rustix::fs::unlink(format!("{incompat}/volatile/dirty"))?;
            rustix::fs::rmdir(format!("{incompat}/volatile"))?;
            rustix::fs::rmdir(incompat)?;
        }
        Ok(())
    }

    pub fn remount(&mut self, read_only: bool) -> Sys<()> {
        let flags = if read_only {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        rustix::mount::mount_remount(&*self.mnt, flags, "")
    }

    pub fn close_all(&mut self) {
        self.slots = Default::default();
    }

    pub fn slot(&self, i: u8) -> Sys<&OwnedFd> {
        self.slots
            .get(usize::from(i))
            .and_then(Option::as_ref)
            .ok_or(Errno::BADF)
    }

    /// Makes the folders.
    pub fn make(&self, case: &Case) -> Sys<()> {
        let mkdir = |path: String, mode| {
            rustix::fs::mkdirat(CWD, &*path, Mode::from_bits_retain(mode))?;
            rustix::fs::chmodat(
                CWD,
                &*path,
                Mode::from_bits_retain(mode),
                rustix::fs::AtFlags::empty(),
            )
        };
        mkdir(self.dir.clone(), 0o755)?;
        if self.dir != self.lower_dir {
            mkdir(self.lower_dir.clone(), 0o755)?;
        }
        for dir in ["x", "x/y", "x/y/m"] {
            mkdir(format!("{}/{dir}", self.lower_dir), 0o755)?;
        }
        mkdir(self.upper(), case.root_mode)?;
        mkdir(self.work(), 0o755)?;
        (0..self.data).try_for_each(|i| mkdir(self.data_layer(i), 0o755))?;
        (0..self.lowers).try_for_each(|i| mkdir(self.lower(i), case.root_mode))
    }
}
