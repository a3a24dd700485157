// SPDX-License-Identifier: GPL-2.0

//! Programs at work in whole trees, their own instructions included. Raw is the image that is the lowest layer.

use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{ensure, Result};

use crate::op::{Object, Op, Site};
use crate::tree::Tree;
use crate::world::IMAGES;

const GROUP: &str = "tree";

fn run(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}

fn find(_: &Site, _: &Object) -> Result<()> {
    run("find", &[".", "-xdev"])
}

/// tar would not read the files if its output were /dev/null.
fn tar(s: &Site, _: &Object) -> Result<()> {
    let mut tar = Command::new("tar")
        .args(["-c", "--one-file-system", "."])
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(out) = &mut tar.stdout {
        while out.read(&mut s.buffer.borrow_mut())? > 0 {}
    }
    let status = tar.wait()?;
    ensure!(status.success(), "tar: {status}");
    Ok(())
}

fn git_status(_: &Site, _: &Object) -> Result<()> {
    run(
        "git",
        &[
            "--no-optional-locks",
            "-c",
            "safe.directory=*",
            "status",
            "--porcelain",
        ],
    )
}

fn unpack(_: &Site, _: &Object) -> Result<()> {
    run(
        "dpkg",
        &["--root=.", "--unpack", &format!("{IMAGES}/install.deb")],
    )
}

fn chown(_: &Site, _: &Object) -> Result<()> {
    run("chown", &["-Rh", "77:77", "."])
}

fn op(name: &str, tree: Tree, body: fn(&Site, &Object) -> Result<()>) -> Op {
    Op::each(name, GROUP, 1, |_| ".".into(), body)
        .tree(tree)
        .repeats(3)
        .programs()
        .per("run")
}

pub fn ops() -> Vec<Op> {
    vec![
        op("find", Tree::Debian, find),
        op("find-cold", Tree::Debian, find).cold(),
        op("tar", Tree::Debian, tar),
        op("tar-cold", Tree::Debian, tar).cold(),
        op("dpkg-unpack", Tree::Debian, unpack).changes(),
        op("chown", Tree::Debian, chown)
            .changes()
            .options("metacopy=on"),
        op("git-status", Tree::Source, git_status),
        op("git-status-cold", Tree::Source, git_status).cold(),
    ]
}
