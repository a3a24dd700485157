// SPDX-License-Identifier: GPL-2.0

//! Copy-up, and an open for writing that may do without.

use anyhow::{ensure, Result};
use rustix::fs::{chmod, open, rename, Mode, OFlags};
use rustix::io::{pread, pwrite};

use super::{look, open_close, RW};
use crate::op::{Object, Op, Site};
use crate::tree::{Tree, KIB, MIB};

const GROUP: &str = "copyup";

/// Once to each of several lower files.
fn op(name: &str, size: u64, components: usize, body: fn(&Object) -> Result<()>) -> Op {
    let (label, objects, repeats, max_layers) = match size {
        0..MIB => (
            format!("{}k", size / KIB),
            if components > 2 { 8 } else { 40 },
            5,
            usize::MAX,
        ),
        MIB => ("1m".into(), 4, 3, usize::MAX),
        _ => (format!("{}m", size / MIB), 1, 3, 30),
    };
    let deep = if components > 2 { "-deep" } else { "" };
    Op::each(
        format!("{name}-{label}{deep}"),
        GROUP,
        objects,
        move |n| Tree::pool_path(components, n),
        move |_, o| body(o),
    )
    .tree(Tree::Pool { size, components })
    .repeats(repeats)
    .max_layers(max_layers)
    .changes()
    .per("file")
    .prepare(look)
}

/// A copy-up of all of a small file, by a change of its mode.
pub fn chmod_op(name: &str) -> Op {
    op(name, 4 * KIB, 2, |o| Ok(chmod(&o.path, Mode::RWXU)?))
}

fn write(o: &Object) -> Result<()> {
    let file = open(&o.path, OFlags::WRONLY, RW)?;
    ensure!(pwrite(file, b"y", 0)? == 1, "nothing written");
    Ok(())
}

fn without_data(site: &mut Site, o: &Object) -> Result<()> {
    look(site, o)?;
    Ok(chmod(&o.path, Mode::RUSR | Mode::WUSR)?)
}

/// With attributes and data copied up at different times.
fn metacopy(size: u64) -> [Op; 3] {
    let op = |name, body| op(name, size, 2, body).options("metacopy=on");
    [
        op("metacopy-chmod", |o| Ok(chmod(&o.path, Mode::RWXU)?)),
        op("metacopy-read", |o| {
            let mut buf = [0; 4096];
            let file = open(&o.path, OFlags::RDONLY, RW)?;
            ensure!(pread(file, &mut buf[..], 0)? == 4096, "nothing read");
            Ok(())
        })
        .prepare(without_data),
        op("metacopy-write", write).prepare(without_data),
    ]
}

pub fn ops() -> Vec<Op> {
    let mut ops = Vec::new();
    for size in [4 * KIB, MIB, 64 * MIB] {
        for components in [2, 8] {
            ops.push(op("copyup-chmod", size, components, |o| {
                Ok(chmod(&o.path, Mode::RWXU)?)
            }));
            ops.push(op("copyup-write", size, components, write));
            ops.push(op("copyup-rename", size, components, |o| {
                Ok(rename(&o.path, &o.other)?)
            }));
        }
        ops.extend(metacopy(size));
        ops.push(op("open-rdonly", size, 2, open_close));
        ops.push(op("open-rdwr", size, 2, |o| {
            Ok(open(&o.path, OFlags::RDWR, RW).map(drop)?)
        }));
    }
    ops
}
