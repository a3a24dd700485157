// SPDX-License-Identifier: GPL-2.0

//! Mounts of unions with all the layers, each with an upper layer of its own.

use std::fs::create_dir_all;
use std::path::PathBuf;

use anyhow::Result;
use rustix::fs::{chmod, Mode};
use rustix::mount::{unmount, UnmountFlags};

use crate::op::{Mounting, Object, Op, Site};
use crate::tree::Tree;

const GROUP: &str = "mount";

fn dir(s: &Site, o: &Object) -> Result<PathBuf> {
    Ok(s.scratch.join(o.path.to_str()?))
}

pub fn make_dirs(s: &mut Site, o: &Object) -> Result<()> {
    for name in ["upper", "work", "mnt"] {
        create_dir_all(dir(s, o)?.join(name))?;
    }
    Ok(())
}

pub fn mount(s: &Site, o: &Object) -> Result<()> {
    mount_with(s, o, Mounting::default())
}

fn mount_with(s: &Site, o: &Object, mounting: Mounting) -> Result<()> {
    let dir = dir(s, o)?;
    s.world.mount(s.fs, &dir, &dir.join("mnt"), mounting)
}

/// Directories that have an entry of the index.
const INDEXED: usize = 10_000;

fn mount_exported(s: &Site, o: &Object) -> Result<()> {
    let mounting = Mounting {
        options: super::handle::OPTIONS,
        ..Mounting::default()
    };
    mount_with(s, o, mounting)
}

/// Copies all directories up, where they are not yet.
fn fill_index(s: &mut Site, o: &Object) -> Result<()> {
    make_dirs(s, o)?;
    mount_exported(s, o)?;
    let top = dir(s, o)?.join("mnt");
    for n in 0..INDEXED {
        chmod(top.join(format!("e{n}")), Mode::RWXU)?;
    }
    umount(s, o)
}

pub fn umount(s: &Site, o: &Object) -> Result<()> {
    Ok(unmount(dir(s, o)?.join("mnt"), UnmountFlags::empty())?)
}

pub fn op(
    name: &str,
    group: &'static str,
    objects: usize,
    body: fn(&Site, &Object) -> Result<()>,
) -> Op {
    Op::each(
        name,
        group,
        objects,
        move |n| format!("union{}", n % objects),
        body,
    )
    .tree(Tree::Standard)
    .no_raw()
}

pub fn ops() -> Vec<Op> {
    vec![
        op("mount", GROUP, 10, mount)
            .prepare(make_dirs)
            .finish(|s, o| umount(s, o)),
        op("mount-indexed-10000", GROUP, 1, mount_exported)
            .tree(Tree::Directories {
                count: INDEXED,
                names: 0,
            })
            .max_layers(30)
            .prepare(fill_index)
            .finish(|s, o| umount(s, o)),
        op("umount", GROUP, 10, umount).prepare(|s, o| {
            make_dirs(s, o)?;
            mount(s, o)
        }),
    ]
}
