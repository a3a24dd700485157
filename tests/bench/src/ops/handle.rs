// SPDX-License-Identifier: GPL-2.0

//! File handles, and changes of objects that are found by them: each has an entry of the index.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{ensure, Result};
use rustix::fs::{chmod, link, open, unlink, Mode, OFlags};

use super::{copyup, RW};
use crate::op::{Object, Op, Site};
use crate::tree::{Tree, KIB};

const GROUP: &str = "handle";
pub const OPTIONS: &str = "index=on,nfs_export=on";
/// The longest handle, and what is before it: its length, its type.
const MAX: u32 = 128;
const HEADER: usize = 8;

/// Leaves the handle in the buffer of the site.
fn encode(s: &Site, o: &Object) -> Result<()> {
    let mut buffer = s.buffer.borrow_mut();
    ensure!(buffer.len() >= HEADER + MAX as usize, "the buffer is short");
    buffer[..4].copy_from_slice(&MAX.to_ne_bytes());
    let mut mount = 0i32;
    // SAFETY: the kernel writes the header and at most as many bytes as it says, which there are, and the mount's number.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            o.path.as_ptr(),
            buffer.as_mut_ptr(),
            &raw mut mount,
            0,
        )
    };
    ensure!(ret == 0, "no handle: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Opens what the handle in the buffer is of.
fn decode(s: &Site, _: &Object) -> Result<()> {
    let buffer = s.buffer.borrow();
    // SAFETY: the kernel reads the header and as many bytes as it says, which there are.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            s.file()?.as_raw_fd(),
            buffer.as_ptr(),
            libc::O_PATH,
        )
    };
    let fd = i32::try_from(fd)?;
    ensure!(fd >= 0, "not opened: {}", std::io::Error::last_os_error());
    // SAFETY: it is new.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

fn copied_up(_: &mut Site, o: &Object) -> Result<()> {
    Ok(chmod(&o.path, Mode::RWXU)?)
}

fn indexed(name: &str, body: fn(&Object) -> Result<()>) -> Op {
    Op::each(
        name,
        GROUP,
        40,
        |n| Tree::pool_path(2, n),
        move |_, o| body(o),
    )
    .tree(Tree::Pool {
        size: 4 * KIB,
        components: 2,
    })
    .changes()
    .prepare(copied_up)
}

pub fn ops() -> Vec<Op> {
    let ops = [
        Op::again("handle-encode", GROUP, "d/file", encode),
        Op::again("handle-decode", GROUP, "d/file", decode).prepare(|s, o| {
            s.files.push(open(&s.root, OFlags::RDONLY, RW)?);
            encode(s, o)
        }),
        indexed("indexed-link", |o| Ok(link(&o.path, &o.other)?)),
        indexed("indexed-unlink", |o| Ok(unlink(&o.path)?)),
        copyup::chmod_op("indexed-copyup"),
    ];
    ops.into_iter().map(|op| op.options(OPTIONS)).collect()
}
