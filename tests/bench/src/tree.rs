// SPDX-License-Identifier: GPL-2.0

//! What the lower layers hold.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{mknodat, setxattr, FileType, Mode, XattrFlags, CWD};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// Names that the layers have together in a merged directory of [`Tree::Standard`] and [`Tree::Pool`].
pub const NAMES: usize = 1000;
/// Paths of merged directories in [`Tree::Standard`].
pub const CHAINS: usize = 8;
/// Symbolic links in [`Tree::Standard`].
pub const LINKS: usize = 200;
/// The extended attribute of the files of [`Tree::Standard`].
pub const XATTR: &str = "user.bench";
/// Bytes of a file whose data is in a data-only layer.
const OBJECT: u64 = 4 * KIB;
/// Files that the layers over an image have together.
const EXTRA: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tree {
    Empty,
    /// In all layers: the directory `d`, in which each has its share of [`NAMES`] files `nN` and [`LINKS`] symbolic
    /// links `lN`, and directories `cN/2/3/.../7`. In the lowest: `d/file` (1 MiB), `d/link`, and a file at the end of
    /// paths of 2, 4 and 8 components.
    Standard,
    /// In all layers: `d` with its share of [`NAMES`] files. In turn in each layer: a file `d/pN` of this size, or with
    /// 8 components `d/cN/3/4/5/6/7/p`, below directories that all layers have.
    Pool {
        size: u64,
        components: usize,
    },
    /// In the lowest layer files `d/oN` of 4 KiB whose data is in the last of so many data-only layers.
    Data {
        layers: usize,
    },
    /// Directories `mN` that all layers have, each with its share of so many names.
    Merged(usize),
    /// The same with 1000 names in each layer.
    Wide,
    /// Directories `lN` of the lowest layer with so many names.
    Plain(usize),
    /// In all layers a directory `d` with so many names of their own; those of the lowest are `lowestN`.
    Each(usize),
    /// So many directories `eN` that all layers have, with so many names of their own in each.
    Directories {
        count: usize,
        names: usize,
    },
    /// Directories `sN` that all layers have, with files `pN` of 4 KiB in turn in each.
    Parallel {
        directories: usize,
    },
    /// The lowest layer is a Debian system, as an erofs image.
    Debian,
    /// The lowest layer is part of the kernel source in a git repository, as an erofs image.
    Source,
}

impl Tree {
    /// The path of file N of a pool.
    pub fn pool_path(components: usize, n: usize) -> String {
        match components {
            2 => format!("d/p{n}"),
            _ => format!("{}/p", pool_dir(components, n)),
        }
    }

    /// How many data-only layers there are.
    pub fn data_layers(self) -> usize {
        match self {
            Tree::Data { layers } => layers,
            _ => 0,
        }
    }

    /// The erofs image that is the lowest layer.
    pub fn image(self) -> Option<&'static str> {
        match self {
            Tree::Debian => Some("debian.erofs"),
            Tree::Source => Some("source.erofs"),
            _ => None,
        }
    }
}

fn below(from: usize, components: usize) -> String {
    let names: Vec<_> = (from..components).map(|i| format!("/{i}")).collect();
    names.concat()
}

fn pool_dir(components: usize, n: usize) -> String {
    format!("d/c{n}{}", below(3, components))
}

/// A path of 2, 4 or 8 components.
pub fn chain_path(components: usize, n: usize) -> String {
    format!("c{}{}/file", n % CHAINS, below(2, components))
}

/// Directories with so many names.
pub fn copies(names: usize) -> usize {
    (4000 / names).clamp(1, 16)
}

/// One layer, the topmost being 0; or all of them in one directory, which is filled from the lowest upwards.
pub struct Layer<'a> {
    pub dir: &'a Path,
    pub index: usize,
    pub count: usize,
    /// Files have their data, wherever that is in the layers.
    pub whole: bool,
}

impl Layer<'_> {
    fn lowest(&self) -> bool {
        self.index + 1 == self.count
    }

    /// Things are dealt to the layers in turn.
    fn has(&self, n: usize) -> bool {
        n % self.count == self.index
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        fs::create_dir_all(self.dir.join(path))
            .with_context(|| format!("making the directory {path}"))
    }

    fn file(&self, path: &str, size: u64) -> Result<()> {
        write(&self.dir.join(path), size)
    }

    fn xattr(&self, path: &str) -> Result<()> {
        setxattr(self.dir.join(path), XATTR, b"value", XattrFlags::empty())
            .with_context(|| format!("an extended attribute of {path}"))
    }

    pub fn fill(&self, tree: Tree, pool: usize) -> Result<()> {
        match tree {
            Tree::Empty => (),
            Tree::Standard => self.standard()?,
            Tree::Pool { size, components } => {
                self.share()?;
                for n in 0..pool {
                    if components > 2 {
                        self.mkdir(&pool_dir(components, n))?;
                    }
                    if self.has(n) {
                        self.file(&Tree::pool_path(components, n), size)?;
                    }
                }
            }
            Tree::Data { .. } => {
                self.mkdir("d")?;
                for n in (0..pool).filter(|_| self.lowest()) {
                    let path = format!("d/o{n}");
                    match self.whole {
                        true => self.file(&path, OBJECT)?,
                        false => self.without_data(&path, &format!("/objects/{n}"))?,
                    }
                }
            }
            Tree::Each(total) => {
                let stem = match self.lowest() {
                    true => "lowest".into(),
                    false => format!("l{}n", self.index),
                };
                names(&self.dir.join("d"), &stem, 0..total)?;
            }
            Tree::Merged(total) => {
                for copy in 0..copies(total) {
                    names(
                        &self.dir.join(format!("m{copy}")),
                        "n",
                        (0..total).filter(|n| self.has(*n)),
                    )?;
                }
            }
            Tree::Wide => names(
                &self.dir.join("m0"),
                "n",
                self.index * 1000..(self.index + 1) * 1000,
            )?,
            Tree::Plain(total) => {
                if self.lowest() {
                    for copy in 0..copies(total) {
                        names(&self.dir.join(format!("l{copy}")), "n", 0..total)?;
                    }
                }
            }
            Tree::Directories {
                count,
                names: total,
            } => {
                for n in 0..count {
                    let dir = self.dir.join(format!("e{n}"));
                    names(&dir, &format!("l{}n", self.index), 0..total)?;
                }
            }
            Tree::Parallel { directories } => {
                for d in 0..directories {
                    self.mkdir(&format!("s{d}"))?;
                    for n in (0..pool).filter(|n| self.has(*n)) {
                        self.file(&format!("s{d}/p{n}"), 4 * KIB)?;
                    }
                }
            }
            Tree::Debian => self.extra("etc")?,
            Tree::Source => self.extra("ext4")?,
        }
        Ok(())
    }

    /// A file whose data is that of a data-only layer at the path `at`.
    fn without_data(&self, path: &str, at: &str) -> Result<()> {
        let path = self.dir.join(path);
        File::create(&path)?.set_len(OBJECT)?;
        for (name, value) in [("metacopy", ""), ("redirect", at)] {
            let name = format!("trusted.overlay.{name}");
            setxattr(&path, name, value.as_bytes(), XattrFlags::empty())?;
        }
        Ok(())
    }

    fn standard(&self) -> Result<()> {
        self.share()?;
        for n in (0..NAMES).filter(|n| self.has(*n)) {
            self.xattr(&format!("d/n{n}"))?;
        }
        for n in (0..LINKS).filter(|n| self.has(*n)) {
            symlink("file", self.dir.join(format!("d/l{n}")))?;
        }
        for n in 0..CHAINS {
            self.mkdir(&format!("c{n}/2/3/4/5/6/7"))?;
        }
        if self.lowest() {
            self.file("d/file", MIB)?;
            self.xattr("d/file")?;
            symlink("file", self.dir.join("d/link"))?;
            for n in 0..CHAINS {
                for components in [2, 4, 8] {
                    self.file(&chain_path(components, n), 0)?;
                }
            }
        }
        Ok(())
    }

    fn share(&self) -> Result<()> {
        self.mkdir("d")?;
        for n in (0..NAMES).filter(|n| self.has(*n)) {
            self.file(&format!("d/n{n}"), 0)?;
        }
        Ok(())
    }

    /// A layer over an image has a few files in one of its directories.
    fn extra(&self, dir: &str) -> Result<()> {
        self.mkdir(dir)?;
        for n in (0..EXTRA).filter(|n| self.has(*n)) {
            self.file(&format!("{dir}/extra{n}"), 4 * KIB)?;
        }
        Ok(())
    }
}

/// Data-only layers for `pool` files of [`Tree::Data`], below `dir`: they are in the last one.
pub fn data_layers(dir: &Path, layers: usize, pool: usize) -> Result<()> {
    for layer in 0..layers {
        fs::create_dir_all(dir.join(format!("data{layer}/objects")))?;
    }
    let last = dir.join(format!("data{}/objects", layers - 1));
    (0..pool).try_for_each(|n| write(&last.join(n.to_string()), OBJECT))
}

/// A new file, without holes.
pub fn write(path: &Path, size: u64) -> Result<()> {
    let content = [b'x'; 64 * KIB as usize];
    let mut left = size as usize;
    let mut file =
        File::create(path).with_context(|| format!("making the file {}", path.display()))?;
    while left > 0 {
        let part = left.min(content.len());
        file.write_all(&content[..part])?;
        left -= part;
    }
    Ok(())
}

/// A directory with empty files, of these numbers behind `stem`.
pub fn names(dir: &Path, stem: &str, numbers: impl Iterator<Item = usize>) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making the directory {}", dir.display()))?;
    for n in numbers {
        let path = dir.join(format!("{stem}{n}"));
        mknodat(
            CWD,
            &path,
            FileType::RegularFile,
            Mode::from_raw_mode(0o644),
            0,
        )
        .with_context(|| format!("making the file {}", path.display()))?;
    }
    Ok(())
}
