// SPDX-License-Identifier: GPL-2.0
//! A union mount of the type under test.

use crate::harness::{Ctx, Failure, Res};
use crate::sys::{self, Sys};
use rustix::mount::{MountFlags, UnmountFlags};
use std::path::{Path, PathBuf};

/// The filesystem type under test.
pub fn fstype() -> String {
    std::env::var("FSTYPE").unwrap_or_else(|_| "rovl".to_owned())
}

pub fn is_overlayfs() -> bool {
    fstype() == "overlay"
}

pub struct Union {
    /// The uppermost first.
    pub lowers: Vec<PathBuf>,
    pub upper: Option<PathBuf>,
    pub work: PathBuf,
    pub mnt: PathBuf,
    pub options: String,
    /// The type to mount with; the one under test unless a test says so.
    pub fstype: String,
    pub flags: MountFlags,
}

impl Union {
    /// Empty layers below `root`: `count` lower ones and an upper one.
    pub fn at(root: &Path, count: usize) -> Res<Union> {
        let mut lowers = Vec::new();
        for i in 0..count {
            let p = root.join(format!("l{i}"));
            sys::mkdir(&p)?;
            lowers.push(p);
        }
        let u = Union {
            lowers,
            upper: Some(root.join("u")),
            work: root.join("w"),
            mnt: root.join("m"),
            options: String::new(),
            fstype: fstype(),
            flags: MountFlags::empty(),
        };
        for d in ["u", "w", "m"] {
            sys::mkdir(&root.join(d))?;
        }
        Ok(u)
    }

    pub fn new(ctx: &Ctx) -> Res<Union> {
        Union::at(&ctx.root, 1)
    }

    pub fn layers(ctx: &Ctx, count: usize) -> Res<Union> {
        Union::at(&ctx.root, count)
    }

    /// With lower layers on the test's tmpfs and the rest on its filesystem.
    pub fn split(ctx: &Ctx) -> Res<Union> {
        let mut u = Union::at(&ctx.root, 1)?;
        let other = ctx.tmp.join("lower-fs");
        sys::mkdir(&other)?;
        sys::mount_tmpfs(&other, "size=100m,mode=755")?;
        u.lowers[0] = other.join("l0");
        sys::mkdir(&u.lowers[0])?;
        Ok(u)
    }

    pub fn data(&self) -> String {
        let lowers: Vec<_> = self
            .lowers
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        let mut s = format!("lowerdir={}", lowers.join(":"));
        if let Some(up) = &self.upper {
            s += &format!(",upperdir={},workdir={}", up.display(), self.work.display());
        }
        if !self.options.is_empty() {
            s += &format!(",{}", self.options);
        }
        s
    }

    pub fn try_mount(&self) -> Sys<()> {
        let data = sys::cs(&self.data());
        rustix::mount::mount(
            "union",
            &self.mnt,
            self.fstype.as_str(),
            self.flags,
            sys::as_c(&data),
        )
    }

    #[track_caller]
    pub fn mount(&self) -> Res {
        self.try_mount()
            .map_err(|e| Failure::new(format!("mount -t {} -o {}: {e}", fstype(), self.data())))
    }

    #[track_caller]
    pub fn umount(&self) -> Res {
        rustix::mount::unmount(&self.mnt, UnmountFlags::empty())
            .map_err(|e| Failure::new(format!("umount: {e}")))
    }

    #[track_caller]
    pub fn again(&self) -> Res {
        self.umount()?;
        self.mount()
    }

    /// A path in the uppermost lower layer.
    pub fn l(&self, p: &str) -> PathBuf {
        self.lowers[0].join(p)
    }

    pub fn ln(&self, i: usize, p: &str) -> PathBuf {
        self.lowers[i].join(p)
    }

    pub fn u(&self, p: &str) -> PathBuf {
        match &self.upper {
            Some(u) => u.join(p),
            None => PathBuf::from("/nonexistent"),
        }
    }

    pub fn m(&self, p: &str) -> PathBuf {
        self.mnt.join(p)
    }

    /// Nothing is left over in the work directory, but for the whiteout that
    /// overlayfs keeps there to link others to.
    #[track_caller]
    pub fn work_is_empty(&self) -> Res {
        let dir = self.work.join("work");
        let mut left = sys::names(&dir)?;
        left.retain(|n| !sys::is_whiteout(&dir.join(n)));
        if left.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "left in the work directory: {left:?}"
        )))
    }

    /// A mount over one lower file `f` holding `data`.
    #[track_caller]
    pub fn with_file(ctx: &Ctx, data: impl AsRef<[u8]>) -> Res<Union> {
        let u = Union::new(ctx)?;
        sys::write(&u.l("f"), data)?;
        u.mount()?;
        Ok(u)
    }
}
