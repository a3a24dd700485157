// SPDX-License-Identifier: GPL-2.0

//! Data of a file of the lowest layer, and of a new one in the upper layer.

use std::hint::black_box;
use std::ptr::null_mut;

use anyhow::{ensure, Result};
use rustix::fs::{ftruncate, open, OFlags};
use rustix::io::{pread, pwrite};
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use rustix::pipe::{pipe, splice, SpliceFlags};

use super::RW;
use crate::op::{Object, Op, Site};
use crate::tree::{KIB, MIB};

const GROUP: &str = "io";
const PAGE: usize = 4 * KIB as usize;
/// What a pipe holds.
const PIPE: usize = 64 * KIB as usize;

fn open_lower(s: &mut Site, o: &Object) -> Result<()> {
    s.files.push(open(&o.path, OFlags::RDONLY, RW)?);
    Ok(())
}

fn open_upper(s: &mut Site, o: &Object) -> Result<()> {
    let file = open(&o.path, OFlags::CREATE | OFlags::RDWR, RW)?;
    ftruncate(&file, 0)?;
    pwrite(&file, &s.buffer.borrow(), 0)?;
    s.files.push(file);
    Ok(())
}

fn on_lower(
    name: &str,
    rounds: usize,
    body: impl Fn(&Site, &Object) -> Result<()> + 'static,
) -> Op {
    Op::again(format!("{name}-lower"), GROUP, "d/file", body)
        .rounds(rounds)
        .prepare(open_lower)
}

fn on_upper(
    name: &str,
    rounds: usize,
    body: impl Fn(&Site, &Object) -> Result<()> + 'static,
) -> Op {
    Op::again(format!("{name}-upper"), GROUP, "d/upper", body)
        .rounds(rounds)
        .prepare(open_upper)
        .changes()
}

fn read(s: &Site, size: usize) -> Result<()> {
    let got = pread(s.file()?, &mut s.buffer.borrow_mut()[..size], 0)?;
    ensure!(got == size, "{got} bytes read");
    Ok(())
}

fn write(s: &Site, size: usize) -> Result<()> {
    let put = pwrite(s.file()?, &s.buffer.borrow()[..size], 0)?;
    ensure!(put == size, "{put} bytes written");
    Ok(())
}

/// Maps 1 MiB, reads a byte of each page, unmaps it.
fn fault(s: &Site, _: &Object) -> Result<()> {
    let size = MIB as usize;
    // SAFETY: The kernel chooses a free address, nothing else uses it, and it is only read within the mapping.
    unsafe {
        let map = mmap(
            null_mut(),
            size,
            ProtFlags::READ,
            MapFlags::SHARED,
            s.file()?,
            0,
        )?;
        for at in (0..size).step_by(PAGE) {
            black_box(map.cast::<u8>().add(at).read_volatile());
        }
        munmap(map, size)?;
    }
    Ok(())
}

/// To /dev/null by way of a pipe.
fn splice_out(s: &Site, _: &Object) -> Result<()> {
    let [null, from, to, file] = s.files.as_slice() else {
        unreachable!("what with_pipe() made")
    };
    let mut at = 0;
    let mut left = splice(file, Some(&mut at), to, None, PIPE, SpliceFlags::empty())?;
    ensure!(left == PIPE, "{left} bytes spliced");
    while left > 0 {
        left -= splice(from, None, null, None, left, SpliceFlags::empty())?;
    }
    Ok(())
}

fn with_pipe(
    open_file: fn(&mut Site, &Object) -> Result<()>,
) -> impl Fn(&mut Site, &Object) -> Result<()> {
    move |s, o| {
        let (from, to) = pipe()?;
        s.files
            .extend([open("/dev/null", OFlags::WRONLY, RW)?, from, to]);
        open_file(s, o)
    }
}

pub fn ops() -> Vec<Op> {
    let mut ops = Vec::new();
    for (label, size, rounds) in [("4k", 4 * KIB, 500), ("1m", MIB, 8)] {
        let size = size as usize;
        ops.push(on_lower(&format!("pread-{label}"), rounds, move |s, _| {
            read(s, size)
        }));
        ops.push(on_upper(&format!("pread-{label}"), rounds, move |s, _| {
            read(s, size)
        }));
        ops.push(on_upper(&format!("pwrite-{label}"), rounds, move |s, _| {
            write(s, size)
        }));
    }
    ops.push(on_lower("mmap-fault", 20, fault).per("MiB"));
    ops.push(on_upper("mmap-fault", 20, fault).per("MiB"));
    ops.push(
        on_lower("splice", 100, splice_out)
            .prepare(with_pipe(open_lower))
            .per("64 KiB"),
    );
    ops.push(
        on_upper("splice", 100, splice_out)
            .prepare(with_pipe(open_upper))
            .per("64 KiB"),
    );
    ops
}
