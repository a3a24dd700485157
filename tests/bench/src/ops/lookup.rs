// SPDX-License-Identifier: GPL-2.0

//! Names and what is known about them.

use anyhow::Result;
use rustix::fs::{
    self, getxattr, listxattr, open, readlinkat_raw, Access, AtFlags, OFlags, StatxFlags, CWD,
};

use super::{absent, open_close, RW};
use crate::op::{Object, Op, Site};
use crate::tree::{chain_path, CHAINS, LINKS, NAMES, XATTR};

const GROUP: &str = "lookup";
/// Names looked at in a batch with cold caches.
const COLD: usize = 200;

type Body = fn(&Site, &Object) -> Result<()>;

/// One path again and again, and different ones with cold caches.
fn both(name: &str, hot: &str, cold: fn(usize) -> String, body: Body) -> [Op; 2] {
    [
        Op::again(name, GROUP, hot, body),
        Op::each(format!("{name}-cold"), GROUP, COLD, cold, body).cold(),
    ]
}

fn path(components: usize) -> [Op; 2] {
    let name = format!("path{components}");
    [
        Op::again(&name, GROUP, chain_path(components, 0), stat),
        Op::each(
            format!("{name}-cold"),
            GROUP,
            CHAINS,
            move |n| chain_path(components, n),
            stat,
        )
        .cold()
        .per("path"),
    ]
}

fn stat(_: &Site, o: &Object) -> Result<()> {
    Ok(fs::stat(&o.path).map(drop)?)
}

fn statx(_: &Site, o: &Object) -> Result<()> {
    Ok(fs::statx(
        CWD,
        &o.path,
        AtFlags::empty(),
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
    .map(drop)?)
}

fn getxattr_(s: &Site, o: &Object) -> Result<()> {
    Ok(getxattr(&o.path, XATTR, s.buffer.borrow_mut().as_mut_slice()).map(drop)?)
}

fn listxattr_(s: &Site, o: &Object) -> Result<()> {
    Ok(listxattr(&o.path, s.buffer.borrow_mut().as_mut_slice()).map(drop)?)
}

fn readlink(s: &Site, o: &Object) -> Result<()> {
    Ok(readlinkat_raw(CWD, &o.path, s.buffer.borrow_mut().as_mut_slice()).map(drop)?)
}

pub fn stat_op(name: &str) -> Op {
    Op::again(name, GROUP, "d/file", stat)
}

pub fn open_op(name: &str) -> Op {
    Op::again(name, GROUP, "d/file", |_, o| open_close(o))
}

pub fn ops() -> Vec<Op> {
    // The same in each batch, from all layers.
    let file = |n| format!("d/n{}", n % COLD * (NAMES / COLD));
    let link = |n| format!("d/l{}", n % LINKS);
    let missing = |n| format!("d/missing{}", n % COLD);
    let mut ops = vec![
        // Names never asked for before, in a directory that has been used.
        Op::each(
            "missing-new",
            GROUP,
            COLD,
            |n| format!("d/new{n}"),
            |_, o| absent(fs::stat(&o.path)),
        )
        .per("name"),
        Op::again("fstat", GROUP, "d/file", |s, _| {
            Ok(fs::fstat(s.file()?).map(drop)?)
        })
        .prepare(|s, o| {
            s.files.push(open(&o.path, OFlags::RDONLY, RW)?);
            Ok(())
        }),
    ];
    // Layers on several filesystems have other numbers then.
    let xino = both("stat-xino", "d/file", file, stat);
    ops.extend(xino.map(|op| op.options("xino=on")));
    ops.extend(
        [
            both("stat", "d/file", file, stat),
            both("missing", "d/missing", missing, |_, o| {
                absent(fs::stat(&o.path))
            }),
            both("access", "d/file", file, |_, o| {
                Ok(fs::access(&o.path, Access::READ_OK)?)
            }),
            both("open-close", "d/file", file, |_, o| open_close(o)),
            both("statx", "d/file", file, statx),
            both("getxattr", "d/file", file, getxattr_),
            both("listxattr", "d/file", file, listxattr_),
            both("readlink", "d/link", link, readlink),
            path(2),
            path(4),
            path(8),
        ]
        .into_iter()
        .flatten(),
    );
    ops
}
