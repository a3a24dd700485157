// SPDX-License-Identifier: GPL-2.0

//! Changes in a merged directory.

use anyhow::Result;
use rustix::fs::{link, mkdir, open, rename, rmdir, symlink, unlink};

use super::{look, CREATE, RW, RWX};
use crate::op::{Object, Op, Site};
use crate::tree::{Tree, KIB};

const GROUP: &str = "change";
const POOL: Tree = Tree::Pool {
    size: 4 * KIB,
    components: 2,
};

fn create(o: &Object) -> Result<()> {
    Ok(open(&o.path, CREATE, RW).map(drop)?)
}

fn made(_: &mut Site, o: &Object) -> Result<()> {
    create(o)
}

fn gone(_: &mut Site, o: &Object) -> Result<()> {
    Ok(unlink(&o.path)?)
}

fn op(name: &str, path: fn(usize) -> String, body: fn(&Object) -> Result<()>) -> Op {
    Op::each(name, GROUP, 200, path, move |_, o| body(o))
        .tree(POOL)
        .changes()
}

fn new(n: usize) -> String {
    format!("d/new{n}")
}

pub fn create_op(name: &str) -> Op {
    op(name, new, create).per("file")
}

pub fn ops() -> Vec<Op> {
    let lower = |n| Tree::pool_path(2, n);
    vec![
        create_op("create"),
        op("unlink", new, |o| Ok(unlink(&o.path)?)).prepare(made),
        op("link", new, |o| Ok(link(&o.path, &o.other)?)).prepare(made),
        op("rename", new, |o| Ok(rename(&o.path, &o.other)?)).prepare(made),
        op("mkdir", new, |o| Ok(mkdir(&o.path, RWX)?)),
        op("rmdir", new, |o| Ok(rmdir(&o.path)?)).prepare(|_, o| Ok(mkdir(&o.path, RWX)?)),
        op("symlink", new, |o| Ok(symlink(&o.path, &o.path)?)),
        // A file of a lower layer.
        op("whiteout", lower, |o| Ok(unlink(&o.path)?)).prepare(look),
        op("create-over-whiteout", lower, create)
            .prepare(gone)
            .per("file"),
        op("mkdir-over-whiteout", lower, |o| Ok(mkdir(&o.path, RWX)?)).prepare(gone),
    ]
}
