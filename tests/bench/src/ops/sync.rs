// SPDX-License-Identifier: GPL-2.0

//! What the device is given to write when files are made durable while the same filesystem has dirty data of others.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;

use anyhow::Result;
use rustix::fs::{fsync, open, syncfs, OFlags};
use rustix::mount::{unmount, UnmountFlags};

use super::RW;
use crate::op::{Fs, Mounting, Object, Op, Site};
use crate::tree::MIB;
use crate::world::run;

const GROUP: &str = "sync";
/// New files, of so many bytes each.
const FILES: usize = 16;
const SIZE: usize = 64 << 10;

/// Nothing is written back but what is asked for.
fn stop_flusher() -> Result<()> {
    for (name, value) in [
        ("dirty_writeback_centisecs", "0"),
        ("dirty_ratio", "90"),
        ("dirty_background_ratio", "80"),
    ] {
        fs::write(format!("/proc/sys/vm/{name}"), value)?;
    }
    Ok(())
}

fn own(n: usize) -> String {
    format!("own{n}")
}

/// Writes the files, and `foreign` MiB beside the layers.
fn prepare(s: &mut Site, foreign: u64) -> Result<()> {
    stop_flusher()?;
    let top: OwnedFd = File::open(&s.scratch)?.into();
    syncfs(&top)?;
    // The image lies in memory, and keeps the blocks of what was removed.
    run("fstrim", &[&s.scratch.to_string_lossy()])?;
    let block = vec![b'x'; MIB as usize];
    let mut file = File::create(s.scratch.join("foreign"))?;
    for _ in 0..foreign {
        file.write_all(&block)?;
    }
    for n in 0..FILES {
        fs::write(own(n), &block[..SIZE])?;
    }
    Ok(())
}

fn finish(s: &mut Site) -> Result<()> {
    fs::remove_file(s.scratch.join("foreign"))?;
    for n in 0..FILES {
        fs::remove_file(own(n))?;
    }
    Ok(())
}

/// Raw: each of the files, and the directory.
fn fsync_all() -> Result<()> {
    for n in 0..FILES {
        fsync(open(own(n), OFlags::RDONLY, RW)?)?;
    }
    Ok(fsync(open(".", OFlags::RDONLY, RW)?)?)
}

fn sync(s: &Site, _: &Object) -> Result<()> {
    match s.fs {
        Fs::Raw => fsync_all(),
        _ => Ok(syncfs(open(".", OFlags::RDONLY, RW)?)?),
    }
}

fn umount(s: &Site, _: &Object) -> Result<()> {
    if s.fs == Fs::Raw {
        return fsync_all();
    }
    std::env::set_current_dir("/")?;
    Ok(unmount(&s.root, UnmountFlags::empty())?)
}

pub fn ops() -> Vec<Op> {
    let one = |name: String, body: fn(&Site, &Object) -> Result<()>, foreign| {
        Op::each(name, GROUP, 1, |_| ".".into(), body)
            .changes()
            .written()
            .repeats(3)
            .max_layers(3)
            .per("call")
            .prepare(move |s, _| prepare(s, foreign))
    };
    let mut ops = Vec::new();
    for foreign in [0, 64, 512] {
        ops.push(one(format!("syncfs-{foreign}m"), sync, foreign).finish(|s, _| finish(s)));
        ops.push(
            one(format!("umount-{foreign}m"), umount, foreign).finish(|s, _| {
                if s.fs != Fs::Raw {
                    s.world
                        .mount(s.fs, &s.scratch, &s.root, Mounting::default())?;
                    std::env::set_current_dir(&s.root)?;
                }
                finish(s)
            }),
        );
    }
    ops
}
