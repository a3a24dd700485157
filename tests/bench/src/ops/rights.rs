// SPDX-License-Identifier: GPL-2.0

//! Mounts that differ in who owns what, where marks are kept, and what is made durable: the same few operations on each, and
//! what is asked to be durable where there is nothing to do.

use std::fs;

use anyhow::Result;
use rustix::fs::{fsync, open, syncfs, OFlags};

use super::{change, copyup, lookup, RW};
use crate::mapped::Mapped;
use crate::op::{Object, Op, Site};

const GROUP: &str = "rights";
/// A file of upper.
const FILE: &str = "file";

/// Each of them on a mount that `on` says.
fn few(kind: &str, on: fn(Op) -> Op) -> [Op; 4] {
    let name = |op: &str| format!("{kind}-{op}");
    [
        lookup::stat_op(&name("stat")),
        lookup::open_op(&name("open-close")),
        change::create_op(&name("create")),
        copyup::chmod_op(&name("copyup-chmod")),
    ]
    .map(on)
}

/// Nothing was written since the last time.
fn idle(kind: &str, options: &'static str) -> [Op; 2] {
    let op = |name: &str, body: fn(&Site, &Object) -> Result<()>| {
        Op::again(format!("{kind}-{name}"), GROUP, FILE, body)
            .options(options)
            .changes()
            .stage(|dir| Ok(fs::write(dir.join(FILE), "upper")?))
            .prepare(|s, o| {
                s.files.push(open(&o.path, OFlags::RDWR, RW)?);
                Ok(())
            })
    };
    [
        op("fsync", |s, _| Ok(fsync(s.file()?)?)),
        op("syncfs", |s, _| Ok(syncfs(s.file()?)?)),
    ]
}

pub fn ops() -> Vec<Op> {
    let mounts = [
        few("idmapped-union", |op| op.mapped(Mapped::Union)),
        few("idmapped-lower", |op| op.mapped(Mapped::Lowers).no_raw()),
        few("userxattr", |op| op.options("userxattr")),
        few("volatile", |op| op.options("volatile")),
    ];
    let syncs = [idle("idle", ""), idle("volatile", "volatile")];
    let ops = mounts.into_iter().flatten();
    ops.chain(syncs.into_iter().flatten())
        .map(|op| Op { group: GROUP, ..op })
        .collect()
}
