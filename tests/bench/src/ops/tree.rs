// SPDX-License-Identifier: GPL-2.0

//! Programs at work in whole trees, their own instructions included. Raw is the image that is the lowest layer.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{ensure, Result};
use rustix::fs::syncfs;
use rustix::mount::{unmount, UnmountFlags};

use crate::op::{Fs, Mounting, Object, Op, Site};
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

/// What it is for: files are copied up without their data.
const METACOPY: &str = "metacopy=on";

/// Mounts the union with a new upper layer: what an earlier run has copied up is to be copied up again.
fn start_over(s: &mut Site, _: &Object) -> Result<()> {
    if s.fs == Fs::Raw {
        return Ok(());
    }
    std::env::set_current_dir("/")?;
    unmount(&s.root, UnmountFlags::empty())?;
    for name in ["upper", "work"] {
        let dir = s.scratch.join(name);
        fs::remove_dir_all(&dir)?;
        fs::create_dir(&dir)?;
    }
    let mounting = Mounting {
        options: METACOPY,
        ..Mounting::default()
    };
    s.world.mount(s.fs, &s.scratch, &s.root, mounting)?;
    Ok(std::env::set_current_dir(&s.root)?)
}

fn chown(_: &Site, _: &Object) -> Result<()> {
    run("chown", &["-Rh", "77:77", "."])
}

/// As [`chown`], and made durable, so that all that was copied reached the device.
fn chown_durably(s: &Site, o: &Object) -> Result<()> {
    chown(s, o)?;
    Ok(syncfs(fs::File::open(&s.root)?)?)
}

type Body = fn(&Site, &Object) -> Result<()>;

fn runs(name: &str, tree: Tree, times: usize, body: Body) -> Op {
    Op::each(name, GROUP, times, |_| ".".into(), body)
        .tree(tree)
        .repeats(3)
        .programs()
        .per("run")
}

fn op(name: &str, tree: Tree, body: Body) -> Op {
    runs(name, tree, 1, body)
}

/// A program that has been run often, so that what pays for itself has been learnt.
fn hot(name: &str, tree: Tree, body: Body) -> Op {
    op(name, tree, body).warmups(12)
}

pub fn ops() -> Vec<Op> {
    vec![
        hot("find", Tree::Debian, find),
        // From the first run on a new mount on.
        runs("find-10-times", Tree::Debian, 10, find).fresh(),
        op("find-cold", Tree::Debian, find).cold(),
        hot("tar", Tree::Debian, tar),
        op("tar-cold", Tree::Debian, tar).cold(),
        op("dpkg-unpack", Tree::Debian, unpack).changes(),
        op("chown", Tree::Debian, chown)
            .changes()
            .options(METACOPY)
            .prepare(start_over),
        op("chown-written", Tree::Debian, chown_durably)
            .changes()
            .options(METACOPY)
            .written()
            .prepare(|s, o| {
                start_over(s, o)?;
                Ok(syncfs(fs::File::open(&s.scratch)?)?)
            }),
        hot("git-status", Tree::Source, git_status),
        op("git-status-cold", Tree::Source, git_status).cold(),
    ]
}
