// SPDX-License-Identifier: GPL-2.0

//! Kernel memory that is in use for what is cached, open or mounted.

use anyhow::Result;
use rustix::fs::{open, stat, OFlags};
use rustix::process::{setrlimit, Resource, Rlimit};

use super::mount::{make_dirs, mount, op as mount_op, umount};
use super::readdir::list;
use super::RW;
use crate::op::{Object, Op, Site};
use crate::tree::Tree;

const GROUP: &str = "memory";
/// Directories of which each is looked at once.
const DIRECTORIES: usize = 2000;
const FILES: usize = 6000;
const OPEN: usize = 4000;
const LISTED: usize = 100_000;

fn look(_: &Site, o: &Object) -> Result<()> {
    Ok(stat(&o.path).map(drop)?)
}

fn open_(s: &Site, o: &Object) -> Result<()> {
    s.keep(open(&o.path, OFlags::RDONLY, RW)?);
    Ok(())
}

fn allow_open_files() -> Result<()> {
    let limit = Some(2 * OPEN as u64);
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?)
}

pub fn ops() -> Vec<Op> {
    let file = |n| format!("m0/n{}", n % FILES);
    let ops = [
        Op::each("memory-file", GROUP, FILES, file, look)
            .cold()
            .tree(Tree::Merged(FILES))
            .per("file"),
        // The file's inode not included.
        Op::each("memory-open-file", GROUP, OPEN, file, open_)
            .tree(Tree::Merged(FILES))
            .prepare(|s, o| {
                allow_open_files()?;
                super::look(s, o)
            })
            .per("file"),
        Op::each(
            "memory-directory",
            GROUP,
            DIRECTORIES,
            |n| format!("e{}", n % DIRECTORIES),
            look,
        )
        .cold()
        .tree(Tree::Directories {
            count: DIRECTORIES,
            names: 0,
        })
        .per("directory"),
        Op::each(
            "memory-listing-open",
            GROUP,
            1,
            |_| "m0".into(),
            |s, o| {
                s.keep(list(&o.path, LISTED)?);
                Ok(())
            },
        )
        .cold()
        .tree(Tree::Merged(LISTED))
        .per("directory"),
        // After it has been listed twice and closed.
        Op::each(
            "memory-listing",
            GROUP,
            1,
            |_| "m0".into(),
            |_, o| {
                list(&o.path, LISTED)?;
                list(&o.path, LISTED).map(drop)
            },
        )
        .cold()
        .tree(Tree::Merged(LISTED))
        .per("directory"),
        mount_op("memory-mount", GROUP, 200, mount)
            .prepare(make_dirs)
            .finish(|s, o| umount(s, o))
            .per("mount"),
    ];
    ops.map(|op| op.bytes().repeats(3)).into()
}
