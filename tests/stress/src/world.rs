// SPDX-License-Identifier: GPL-2.0
//! Layers and a mount of them.

use anyhow::{bail, ensure, Context, Result};
use rustix::fs::{FileType, CWD};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What was done, for the line at the end.
#[derive(Default)]
pub struct Count {
    /// Operations that did something.
    pub done: u64,
    /// Operations that found nothing to do: a name was missing or taken.
    pub missed: u64,
    /// Things looked at afterwards.
    pub checked: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count {
            done,
            missed,
            checked,
        } = self;
        write!(f, "{done} operations, {missed} in vain, {checked} checks")
    }
}

/// Layers below a directory, and where they are mounted.
pub struct World {
    fstype: String,
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub mnt: PathBuf,
}

impl World {
    /// `lowers` lower layers and an upper one in the new directory `base`.
    pub fn new(base: &Path, fstype: &str, lowers: usize) -> Result<Self> {
        std::fs::create_dir_all(base)?;
        let world = World {
            fstype: fstype.to_owned(),
            lowers: (1..=lowers)
                .map(|i| base.join(format!("lower{i}")))
                .collect(),
            upper: base.join("upper"),
            work: base.join("work"),
            mnt: base.join("mnt"),
        };
        for dir in world
            .lowers
            .iter()
            .chain([&world.upper, &world.work, &world.mnt])
        {
            std::fs::create_dir(dir).with_context(|| format!("mkdir {}", dir.display()))?;
        }
        Ok(world)
    }

    pub fn try_mount(&self) -> Result<(), Errno> {
        let lowers: Vec<_> = self
            .lowers
            .iter()
            .map(|p| p.as_os_str().as_bytes())
            .collect();
        let mut data = b"lowerdir=".to_vec();
        data.extend_from_slice(&lowers.join(&b':'));
        for (key, dir) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            data.extend_from_slice(format!(",{key}=").as_bytes());
            data.extend_from_slice(dir.as_os_str().as_bytes());
        }
        let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
        let flags = MountFlags::empty();
        rustix::mount::mount(
            "stress",
            &self.mnt,
            self.fstype.as_str(),
            flags,
            data.as_c_str(),
        )
    }

    pub fn mount(&self) -> Result<()> {
        self.try_mount().context("mount")
    }

    pub fn umount(&self) -> Result<()> {
        rustix::mount::unmount(&self.mnt, UnmountFlags::empty()).context("umount")
    }

    pub fn again(&self) -> Result<()> {
        self.umount()?;
        self.mount()
    }

    /// Nothing is left over in the work directory but the whiteout that others are linked from.
    pub fn check_work(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.work.join("work"))? {
            let entry = entry?;
            if !is_whiteout(&entry.path())? {
                bail!("left in the work directory: {:?}", entry.file_name());
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Only where a check failed: whoever looks next needs the place.
        let _ = rustix::mount::unmount(&self.mnt, UnmountFlags::DETACH);
    }
}

pub fn is_whiteout(path: &Path) -> Result<bool> {
    let stat = rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// The sorted names in a directory, each there once.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let all = names.len();
    names.dedup();
    ensure!(names.len() == all, "{} lists a name twice", dir.display());
    Ok(names)
}

/// Runs `f(task)` in `tasks` threads that start together; the first error of any of them.
pub fn together<T: Send>(tasks: usize, f: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let start = std::sync::Barrier::new(tasks);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..tasks)
            .map(|task| {
                let (f, start) = (&f, &start);
                scope.spawn(move || {
                    start.wait();
                    f(task)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| match t.join() {
                Ok(r) => r,
                Err(_) => bail!("a task died"),
            })
            .collect()
    })
}
