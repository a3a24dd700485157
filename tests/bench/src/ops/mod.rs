// SPDX-License-Identifier: GPL-2.0

//! The operations: one entry each.

use anyhow::{bail, Result};
use rustix::fs::{open, stat, Mode, OFlags};
use rustix::io::Errno;

use crate::op::{Object, Op, Site};

mod change;
mod copyup;
mod data;
mod handle;
mod io;
mod lookup;
mod memory;
mod mount;
mod readdir;
mod rights;
mod sync;
mod tree;
mod worst;

pub fn all() -> Vec<Op> {
    let tables = [
        lookup::ops(),
        io::ops(),
        readdir::ops(),
        change::ops(),
        copyup::ops(),
        data::ops(),
        handle::ops(),
        mount::ops(),
        tree::ops(),
        sync::ops(),
        memory::ops(),
        worst::ops(),
        rights::ops(),
    ];
    tables.into_iter().flatten().collect()
}

const RW: Mode = Mode::from_raw_mode(0o644);
const RWX: Mode = Mode::from_raw_mode(0o755);
const CREATE: OFlags = OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY);

/// A call that has to fail.
fn absent<T>(result: Result<T, Errno>) -> Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
        Ok(_) => bail!("it exists"),
    }
}

/// Opens it to read, and closes it.
fn open_close(o: &Object) -> Result<()> {
    Ok(open(&o.path, OFlags::RDONLY, RW).map(drop)?)
}

/// To prepare: the name is known, the rest is left to do.
fn look(_: &mut Site, o: &Object) -> Result<()> {
    Ok(stat(&o.path).map(drop)?)
}
