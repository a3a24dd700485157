// SPDX-License-Identifier: GPL-2.0

//! What an operation is: an entry of the tables in `ops/`.

use std::cell::RefCell;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::mapped::Mapped;
use crate::tree::Tree;
use crate::world::{Backing, Store, World};

/// A filesystem under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fs {
    /// The same tree in one directory, without a union.
    Raw,
    /// overlayfs, in C.
    Overlay,
    Rovl,
}

impl Fs {
    pub const ALL: [Fs; 3] = [Fs::Raw, Fs::Overlay, Fs::Rovl];

    pub fn name(self) -> &'static str {
        match self {
            Fs::Raw => "raw",
            Fs::Overlay => "overlay",
            Fs::Rovl => "rovl",
        }
    }
}

/// What the kernel remembers when the operation starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    Hot,
    /// After `echo 2 >/proc/sys/vm/drop_caches`, on every filesystem: no unused dentry and inode is left.
    Cold,
}

/// What the operation is done to. Paths are relative to the root of the filesystem under test.
pub struct Object {
    pub path: CString,
    /// The path with a `+` behind it, for operations with two names.
    pub other: CString,
}

impl Object {
    pub fn new(path: &str) -> Result<Object> {
        Ok(Object {
            path: CString::new(path)?,
            other: CString::new(format!("{path}+"))?,
        })
    }
}

/// The filesystem that the operation is done on; its root is the current directory.
pub struct Site<'a> {
    pub world: &'a World,
    pub fs: Fs,
    pub root: PathBuf,
    /// On the upper layer's filesystem, but in no layer.
    pub scratch: PathBuf,
    /// What `prepare` opened for the operation; closed after each batch.
    pub files: Vec<OwnedFd>,
    /// What the operation leaves open; closed after each batch.
    pub kept: RefCell<Vec<OwnedFd>>,
    /// 1 MiB to read into and write from.
    pub buffer: RefCell<Vec<u8>>,
}

impl Site<'_> {
    /// The file that `prepare` opened last.
    pub fn file(&self) -> Result<&OwnedFd> {
        self.files
            .last()
            .context("the operation opened no file before it started")
    }

    pub fn keep(&self, file: OwnedFd) {
        self.kept.borrow_mut().push(file);
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    Instructions,
    /// Kernel memory that is still in use afterwards, for each of the second half of the objects: the first half fills
    /// what lies about half empty.
    Bytes,
    /// Bytes that the device of the upper layer was given to write.
    Written,
    /// Of an operation, while there is one thread for each CPU.
    Nanoseconds,
    /// How many times faster all threads together are than one alone.
    Speedup,
    /// How often a call had to wait for a lock.
    Contentions,
}

type Prepare = Box<dyn Fn(&mut Site, &Object) -> Result<()>>;
pub type Stage = Box<dyn Fn(&Path) -> Result<()>>;
type Body = Box<dyn Fn(&Site, &Object) -> Result<()>>;

/// How a union is mounted.
#[derive(Clone, Copy, Default)]
pub struct Mounting {
    /// Mount options, a comma between them.
    pub options: &'static str,
    pub mapped: Mapped,
}

pub struct Op {
    pub name: String,
    pub group: &'static str,
    /// What the figure is for one of.
    pub per: String,
    pub metric: Metric,
    /// Done by other programs: their CPU time counts, since they may have to be read from the disk first.
    pub programs: bool,
    pub cache: Cache,
    pub tree: Tree,
    /// It changes the tree: raw works on the upper layer's filesystem, not on the lower layers'.
    pub changes: bool,
    /// Raw can do it.
    pub raw: bool,
    /// A batch is `rounds` times over `objects` objects; a figure is the median of `repeats` batches.
    pub objects: usize,
    pub rounds: usize,
    pub repeats: usize,
    /// So many batches before them warm up.
    pub warmups: usize,
    /// Each batch is done on a mount of its own.
    pub fresh: bool,
    /// Not with more layers: it would take too long to set up.
    pub max_layers: usize,
    pub mounting: Mounting,
    /// The path of the object with this number.
    pub path: Box<dyn Fn(usize) -> String>,
    /// Before the mount: puts something into the upper layer, or into raw.
    pub stage: Option<Stage>,
    /// For each object before and after the batch; not measured.
    pub prepare: Prepare,
    pub finish: Prepare,
    pub body: Body,
}

impl Op {
    fn new(
        name: impl Into<String>,
        group: &'static str,
        path: Box<dyn Fn(usize) -> String>,
        body: impl Fn(&Site, &Object) -> Result<()> + 'static,
    ) -> Op {
        Op {
            name: name.into(),
            group,
            per: "call".into(),
            metric: Metric::Instructions,
            programs: false,
            cache: Cache::Hot,
            tree: Tree::Standard,
            changes: false,
            raw: true,
            objects: 1,
            rounds: 1,
            repeats: 5,
            warmups: 1,
            fresh: false,
            max_layers: usize::MAX,
            mounting: Mounting::default(),
            path,
            stage: None,
            prepare: Box::new(|_, _| Ok(())),
            finish: Box::new(|_, _| Ok(())),
            body: Box::new(body),
        }
    }

    /// The same again and again.
    pub fn again(
        name: impl Into<String>,
        group: &'static str,
        path: impl Into<String>,
        body: impl Fn(&Site, &Object) -> Result<()> + 'static,
    ) -> Op {
        let path = path.into();
        Op {
            rounds: 1000,
            ..Op::new(name, group, Box::new(move |_| path.clone()), body)
        }
    }

    /// Once to each object.
    pub fn each(
        name: impl Into<String>,
        group: &'static str,
        objects: usize,
        path: impl Fn(usize) -> String + 'static,
        body: impl Fn(&Site, &Object) -> Result<()> + 'static,
    ) -> Op {
        Op {
            objects,
            ..Op::new(name, group, Box::new(path), body)
        }
    }

    /// Whether it is done on these layers.
    pub fn fits(&self, backing: Backing, layers: usize) -> bool {
        layers <= self.max_layers
            && (self.metric != Metric::Written || backing.upper == Store::Ext4)
    }

    pub fn tree(self, tree: Tree) -> Op {
        Op { tree, ..self }
    }

    pub fn cold(self) -> Op {
        Op {
            cache: Cache::Cold,
            ..self
        }
    }

    pub fn changes(self) -> Op {
        Op {
            changes: true,
            ..self
        }
    }

    pub fn per(self, per: impl Into<String>) -> Op {
        Op {
            per: per.into(),
            ..self
        }
    }

    pub fn rounds(self, rounds: usize) -> Op {
        Op { rounds, ..self }
    }

    pub fn warmups(self, warmups: usize) -> Op {
        Op { warmups, ..self }
    }

    pub fn repeats(self, repeats: usize) -> Op {
        Op { repeats, ..self }
    }

    pub fn fresh(self) -> Op {
        Op {
            fresh: true,
            ..self
        }
    }

    pub fn no_raw(self) -> Op {
        Op { raw: false, ..self }
    }

    pub fn programs(self) -> Op {
        Op {
            programs: true,
            ..self
        }
    }

    pub fn bytes(self) -> Op {
        Op {
            metric: Metric::Bytes,
            ..self
        }
    }

    pub fn written(self) -> Op {
        Op {
            metric: Metric::Written,
            ..self
        }
    }

    pub fn max_layers(self, max_layers: usize) -> Op {
        Op { max_layers, ..self }
    }

    pub fn options(self, options: &'static str) -> Op {
        let mounting = Mounting {
            options,
            ..self.mounting
        };
        Op { mounting, ..self }
    }

    pub fn mapped(self, mapped: Mapped) -> Op {
        let mounting = Mounting {
            mapped,
            ..self.mounting
        };
        Op { mounting, ..self }
    }

    pub fn stage(self, stage: impl Fn(&Path) -> Result<()> + 'static) -> Op {
        Op {
            stage: Some(Box::new(stage)),
            ..self
        }
    }

    pub fn finish(self, finish: impl Fn(&mut Site, &Object) -> Result<()> + 'static) -> Op {
        Op {
            finish: Box::new(finish),
            ..self
        }
    }

    pub fn prepare(self, prepare: impl Fn(&mut Site, &Object) -> Result<()> + 'static) -> Op {
        Op {
            prepare: Box::new(prepare),
            ..self
        }
    }
}
