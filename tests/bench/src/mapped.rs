// SPDX-License-Identifier: GPL-2.0

//! Mounts that map the owners of files.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use rustix::fs::CWD;
use rustix::mount::{open_tree, OpenTreeFlags};

/// Whose owners are mapped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mapped {
    #[default]
    Nobody,
    /// Those that the union shows; raw is a mapped mount, too.
    Union,
    /// Those of the lower layers.
    Lowers,
}

/// All ids stay, and no mount but a mapped one looks them up: the caller is root here and there.
const MAP: &str = "0 0 65536";

/// A user namespace with that map, the form in which the kernel takes it.
fn namespace() -> Result<OwnedFd> {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped());
    // SAFETY: a system call, which allocates nothing in the child.
    unsafe {
        command.pre_exec(|| match libc::unshare(libc::CLONE_NEWUSER) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let mut child = command.spawn().context("making a user namespace")?;
    let proc = Path::new("/proc").join(child.id().to_string());
    let user = || -> Result<OwnedFd> {
        fs::write(proc.join("uid_map"), MAP)?;
        fs::write(proc.join("gid_map"), MAP)?;
        Ok(fs::File::open(proc.join("ns/user"))?.into())
    };
    let user = user();
    drop(child.stdin.take());
    child.wait()?;
    user
}

/// Maps a mount that is at no place yet.
pub fn map(mount: impl AsFd) -> Result<()> {
    let user = namespace()?;
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(user.as_raw_fd())?,
    };
    // SAFETY: the kernel reads the path and the attributes, which outlive the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    let error = std::io::Error::last_os_error();
    ensure!(ret == 0, "mapping a mount: {error}");
    Ok(())
}

/// A mapped mount of a directory, at no place.
pub fn show(dir: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, dir, flags)?;
    map(&tree)?;
    Ok(tree)
}
