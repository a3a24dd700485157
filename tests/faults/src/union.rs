// SPDX-License-Identifier: GPL-2.0
//! The layers of a test and the union of them.

use super::snap::OLD;
use super::sys::{self, text};
use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags, CWD};
use rustix::mount::MountFlags;
use std::fs;
use std::os::unix::fs::{symlink, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An ACL that gives user 1001 reading, as the attribute's value.
pub const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe9\x03\0\0\
\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

/// A union: directories and the filesystem type.
#[derive(Clone)]
pub struct Union {
    /// `rovl` or `overlay`.
    pub fstype: String,
    /// The uppermost first.
    pub lowers: Vec<PathBuf>,
    /// A data-only layer below them.
    pub data_only: Option<PathBuf>,
    /// Holds `upper` and `work`.
    pub top: PathBuf,
    /// Where it is mounted.
    pub mnt: PathBuf,
    /// More options, each with a comma before it.
    pub options: String,
}

impl Union {
    /// Two lower layers below `lower`, the upper one below `top`, mounted below `base`.
    pub fn new(fstype: &str, lower: &Path, top: &Path, mnt: &Path) -> Self {
        Self {
            fstype: fstype.to_owned(),
            lowers: vec![lower.join("l1"), lower.join("l0")],
            data_only: None,
            top: top.to_owned(),
            mnt: mnt.to_owned(),
            options: String::new(),
        }
    }

    /// Upper.
    pub fn upper(&self) -> PathBuf {
        self.top.join("upper")
    }

    /// The options for mount(2).
    pub fn data(&self) -> String {
        let lowers: Vec<_> = self.lowers.iter().map(|p| text(p)).collect();
        let mut lowers = lowers.join(":");
        if let Some(data) = &self.data_only {
            lowers += "::";
            lowers += text(data);
        }
        let top = text(&self.top);
        format!(
            "lowerdir={lowers},upperdir={top}/upper,workdir={top}/work{}",
            self.options
        )
    }

    /// Mounts it.
    pub fn mount(&self) -> Result<()> {
        let none = MountFlags::empty();
        sys::mount("union", &self.mnt, &self.fstype, none, &self.data())
    }

    /// Unmounts it.
    pub fn umount(&self) -> Result<()> {
        sys::umount(&self.mnt)
    }

    /// What a failed operation left: names in the work directory, but for the whiteout that is kept to
    /// be linked, and temporary names in upper.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let work = self.top.join("work/work");
        if work.exists() {
            for name in sys::names(&work)? {
                let meta = fs::symlink_metadata(work.join(&name))?;
                if !(meta.file_type().is_char_device() && meta.rdev() == 0) {
                    left.push(format!("work/{name}"));
                }
            }
        }
        temporaries(&self.upper(), &mut left)?;
        Ok(left)
    }

    /// Makes upper and work with what the tests want there.
    pub fn make_upper(&self) -> Result<()> {
        let upper = self.upper();
        for dir in ["", "dir", "updir", "updir/sub", "merged", "emptied"] {
            fs::create_dir_all(upper.join(dir))?;
        }
        fs::create_dir(self.top.join("work"))?;
        put(&upper, "up", &data(3, 5000))?;
        put(&upper, "updir/file", b"in a pure upper directory")?;
        put(&upper, "updir/other", b"beside it")?;
        put(&upper, "merged/u", b"upper's")?;
        for name in ["gone", "emptied/a", "emptied/b"] {
            whiteout(&upper.join(name))?;
        }
        age(&upper)
    }
}

fn temporaries(dir: &Path, left: &mut Vec<String>) -> Result<()> {
    for name in sys::names(dir)? {
        let path = dir.join(&name);
        if name.starts_with('#') {
            left.push(path.display().to_string());
        }
        if fs::symlink_metadata(&path)?.is_dir() {
            temporaries(&path, left)?;
        }
    }
    Ok(())
}

/// `len` bytes that depend on `seed`.
pub fn data(seed: u64, len: usize) -> Vec<u8> {
    use rand::{RngCore, SeedableRng};
    let mut data = vec![0; len];
    rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut data);
    data
}

fn put(dir: &Path, name: &str, data: &[u8]) -> Result<()> {
    fs::write(dir.join(name), data).with_context(|| name.to_owned())
}

pub fn whiteout(path: &Path) -> Result<()> {
    let mode = rustix::fs::Mode::empty();
    let kind = rustix::fs::FileType::CharacterDevice;
    Ok(rustix::fs::mknodat(CWD, path, kind, mode, 0)?)
}

/// Gives everything below `dir` old times.
pub fn age(dir: &Path) -> Result<()> {
    let old = Timespec {
        tv_sec: OLD,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: old,
        last_modification: old,
    };
    for name in sys::names(dir)? {
        let path = dir.join(name);
        if fs::symlink_metadata(&path)?.is_dir() {
            age(&path)?;
        }
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Fills the two lower layers below `lower`.
pub fn make_lowers(lower: &Path) -> Result<()> {
    let (l1, l0) = (lower.join("l1"), lower.join("l0"));
    for dir in ["dir/deep/er", "merged", "emptied", "full", "rmdir"] {
        fs::create_dir_all(l1.join(dir))?;
    }
    for dir in ["merged/sub", "emptied", "only0"] {
        fs::create_dir_all(l0.join(dir))?;
    }
    put(&l1, "file", &data(1, 9000))?;
    put(&l1, "big", &data(2, 70_000))?;
    put(&l1, "small", b"short")?;
    put(&l1, "acl", b"with an ACL")?;
    put(&l1, "gone", b"hidden by upper")?;
    put(&l1, "twice", b"two names")?;
    fs::hard_link(l1.join("twice"), l1.join("dir/second"))?;
    put(&l1, "dir/deep/er/file", b"three directories down")?;
    put(&l1, "full/file", b"so the directory is not empty")?;
    for name in ["a", "b", "c"] {
        put(&l1, &format!("merged/{name}"), name.as_bytes())?;
        put(&l0, &format!("merged/{name}{name}"), name.as_bytes())?;
    }
    put(&l0, "merged/b", b"hidden")?;
    put(&l0, "only0/file", b"of the lowest layer")?;
    put(&l0, "hidden", b"by a whiteout in a lower layer")?;
    for name in ["a", "b"] {
        put(&l0, &format!("emptied/{name}"), b"removed")?;
    }
    whiteout(&l1.join("hidden"))?;
    symlink("file", l1.join("symlink"))?;
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(CWD, l1.join("fifo"), fifo, mode, 0)?;
    fs::set_permissions(l1.join("small"), fs::Permissions::from_mode(0o4755))?;
    let (file, acl) = (l1.join("file"), l1.join("acl"));
    rustix::fs::setxattr(&file, "user.colour", b"blue", XattrFlags::empty())?;
    rustix::fs::setxattr(&file, "trusted.mark", &data(4, 200), XattrFlags::empty())?;
    rustix::fs::setxattr(&acl, "system.posix_acl_access", ACL, XattrFlags::empty())?;
    age(&l1)?;
    age(&l0)
}
