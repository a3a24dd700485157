// SPDX-License-Identifier: GPL-2.0
//! All tasks copy the same files up at once, each by another operation.

use crate::record;
use crate::world::{names, together, Count, World};
use crate::Args;
use anyhow::{ensure, Context, Result};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags, CWD};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const FILES: usize = 24;
/// What one task writes of its own, behind the record.
const SLOT: usize = 16;
const SIZES: &[usize] = &[0, 100, 4080, 4096, 20_000, 70_000, 1 << 20];

struct Subject {
    name: String,
    record: Vec<u8>,
}

/// How a task makes the union copy a file up.
#[derive(Clone, Copy)]
enum Trigger {
    Write,
    MappedWrite,
    Mode,
    Owner,
    Attribute,
    Times,
    Link,
}

const TRIGGERS: &[Trigger] = &[
    Trigger::Write,
    Trigger::MappedWrite,
    Trigger::Mode,
    Trigger::Owner,
    Trigger::Attribute,
    Trigger::Times,
    Trigger::Link,
];

fn write_slot(file: &File, at: usize, task: usize, mapped: bool) -> Result<()> {
    let slot = [task as u8 + 1; SLOT];
    if !mapped {
        file.write_all_at(&slot, at as u64)?;
        return Ok(());
    }
    let len = at + SLOT;
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a fresh mapping of a file that no task shortens; written inside its length only.
    unsafe {
        let map = rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, file, 0)?;
        map.cast::<u8>().add(at).copy_from(slot.as_ptr(), SLOT);
        rustix::mm::msync(map, len, MsyncFlags::SYNC)?;
        rustix::mm::munmap(map, len)?;
    }
    Ok(())
}

/// One task's visit of one file.
fn visit(path: &Path, subject: &Subject, task: usize, trigger: Trigger) -> Result<()> {
    let before = std::fs::symlink_metadata(path)?;
    match trigger {
        Trigger::Write | Trigger::MappedWrite => {}
        Trigger::Mode => rustix::fs::chmod(path, Mode::from_bits_retain(0o640))?,
        Trigger::Owner => std::os::unix::fs::chown(path, Some(7), Some(8))?,
        Trigger::Attribute => {
            let name = format!("trusted.task{task}");
            rustix::fs::lsetxattr(path, &name, &[task as u8], XattrFlags::empty())?;
        }
        Trigger::Times => {
            let file = File::open(path)?;
            file.set_modified(std::time::UNIX_EPOCH)?;
        }
        Trigger::Link => {
            let link = path.with_file_name(format!("{}.link{task}", subject.name));
            rustix::fs::linkat(CWD, path, CWD, link, AtFlags::empty())?;
        }
    }
    // A descriptor of before the copy-up reads what it reads after it.
    let file = File::open(path)?;
    let mut head = vec![0; subject.record.len()];
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let writer = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let at = subject.record.len() + task * SLOT;
    write_slot(&writer, at, task, matches!(trigger, Trigger::MappedWrite))?;
    file.read_exact_at(&mut head, 0)?;
    ensure!(head == subject.record, "the content is torn");
    let mut slot = [0; SLOT];
    file.read_exact_at(&mut slot, at as u64)?;
    ensure!(
        slot == [task as u8 + 1; SLOT],
        "an old descriptor does not see the copy"
    );
    let after = std::fs::symlink_metadata(path)?;
    ensure!(before.ino() == after.ino(), "the inode number changed");
    ensure!(
        writer.metadata()?.ino() == after.ino(),
        "two inodes of one file"
    );
    Ok(())
}

fn check(
    world: &World,
    subjects: &[Subject],
    triggers: &[Vec<Trigger>],
    tasks: usize,
    top: &Path,
) -> Result<()> {
    let mut want = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        let mut content = subject.record.clone();
        let links: Vec<_> = (0..tasks)
            .filter(|t| matches!(triggers[*t][at], Trigger::Link))
            .collect();
        for task in 0..tasks {
            content.extend_from_slice(&[task as u8 + 1; SLOT]);
        }
        want.push(subject.name.clone());
        want.extend(links.iter().map(|t| format!("{}.link{t}", subject.name)));
        let path = top.join(&subject.name);
        let seen = std::fs::read(&path).with_context(|| subject.name.clone())?;
        ensure!(seen == content, "{}: a write was lost", subject.name);
        let meta = std::fs::symlink_metadata(&path)?;
        ensure!(
            meta.nlink() == 1 + links.len() as u64,
            "{}: link count",
            subject.name
        );
        for (task, triggers) in triggers.iter().enumerate() {
            match triggers[at] {
                Trigger::Mode => ensure!(meta.mode() & 0o7777 == 0o640, "{}: mode", subject.name),
                Trigger::Owner => ensure!(
                    (meta.uid(), meta.gid()) == (7, 8),
                    "{}: owner",
                    subject.name
                ),
                Trigger::Attribute => {
                    let mut value = [0; 4];
                    let name = format!("trusted.task{task}");
                    let len = rustix::fs::lgetxattr(&path, &name, &mut value)?;
                    ensure!(value[..len] == [task as u8], "{}: attribute", subject.name);
                }
                _ => {}
            }
        }
    }
    want.sort();
    ensure!(
        names(top)? == want,
        "other names than wanted in {}",
        top.display()
    );
    world.check_work()
}

/// One round: all files, all tasks.
pub fn round(args: &Args, dir: &Path, seed: u64, count: &mut Count) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(dir, &args.fstype, 2)?;
    let subjects: Vec<_> = (0..FILES)
        .map(|i| Subject {
            name: format!("f{i}"),
            record: record::make(rng.random(), *SIZES.choose(&mut rng).unwrap_or(&0)),
        })
        .collect();
    let lower = world.lowers[seed as usize % 2].join("a/b");
    std::fs::create_dir_all(&lower)?;
    let in_lower = |subject: &Subject| {
        let mut data = subject.record.clone();
        data.resize(data.len() + args.tasks * SLOT, 0);
        data
    };
    for subject in &subjects {
        std::fs::write(lower.join(&subject.name), in_lower(subject))?;
    }
    let triggers: Vec<Vec<Trigger>> = (0..args.tasks)
        .map(|_| {
            (0..FILES)
                .filter_map(|_| TRIGGERS.choose(&mut rng).copied())
                .collect()
        })
        .collect();
    world.mount()?;
    let top = world.mnt.join("a/b");
    together(args.tasks, |task| {
        let mut order: Vec<_> = (0..FILES).collect();
        // Pairs of tasks meet at the same file; others come from elsewhere.
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ (task / 2) as u64));
        for at in order {
            let subject = &subjects[at];
            visit(&top.join(&subject.name), subject, task, triggers[task][at])
                .with_context(|| format!("task {task}, {}", subject.name))?;
        }
        Ok(())
    })?;
    count.done += (args.tasks * FILES) as u64;
    let upper = world.upper.join("a/b");
    for place in [&top, &upper] {
        check(&world, &subjects, &triggers, args.tasks, place)?;
    }
    world.again()?;
    check(&world, &subjects, &triggers, args.tasks, &top)?;
    count.checked += 3 * FILES as u64;
    for subject in &subjects {
        let seen = std::fs::read(lower.join(&subject.name))?;
        ensure!(
            seen == in_lower(subject),
            "the lower file {} changed",
            subject.name
        );
    }
    world.umount()
}
