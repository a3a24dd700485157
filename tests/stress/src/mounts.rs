// SPDX-License-Identifier: GPL-2.0
//! Mounts and unmounts by many tasks, over one lower layer and uppers of their own.

use crate::world::{names, together, Count, World};
use crate::Args;
use anyhow::{bail, ensure, Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(8);

/// Asks the module to go, which has to be refused while something is mounted.
fn must_stay(module: &str) -> Result<()> {
    let name = std::ffi::CString::new(module)?;
    // SAFETY: the name outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    ensure!(r != 0, "the module {module} was unloaded under its mounts");
    match std::io::Error::last_os_error().raw_os_error() {
        // A kernel without modules says ENOSYS.
        Some(libc::EWOULDBLOCK | libc::ENOSYS) => Ok(()),
        e => bail!("rmmod of {module}: errno {e:?} instead of EWOULDBLOCK"),
    }
}

/// Mounts; what was unmounted with a file open may take a moment to let its layers go.
fn mount(world: &World) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match world.try_mount() {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Err(e) => bail!("mount: {e}"),
        }
    }
}

/// One mount, some work, one unmount. Files named `own*` are kept from mount to mount.
fn cycle(world: &World, turn: u64, rng: &mut ChaCha8Rng) -> Result<()> {
    mount(world)?;
    let path = |name: &str| world.mnt.join(name);
    if turn > 0 {
        let seen = std::fs::read_to_string(path("own")).context("what the last mount wrote")?;
        ensure!(
            seen == (turn - 1).to_string(),
            "the last mount wrote {}, this one reads {seen}",
            turn - 1
        );
    }
    std::fs::write(path("own"), turn.to_string())?;
    let common = format!("f{}", rng.random_range(0..8));
    let seen = std::fs::read(path(&common))?;
    ensure!(seen.starts_with(b"common"), "the lower file says {seen:?}");
    ensure!(names(&world.mnt)?.len() == 10, "ten names");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path(&common))?;
    if turn % 3 == 0 {
        file.write_at(b"COMMON", 0)?;
        file.write_at(b"common", 0)?;
    }
    match rustix::mount::unmount(&world.mnt, UnmountFlags::empty()) {
        Err(Errno::BUSY) => {}
        r => bail!("umount with an open file: {r:?}"),
    }
    if turn % 4 == 1 {
        // Lazily: the mount lives on for the file.
        rustix::mount::unmount(&world.mnt, UnmountFlags::DETACH)?;
        file.write_at(b"common, written later", 0)?;
        let mut seen = [0; 21];
        file.read_exact_at(&mut seen, 0)?;
        ensure!(
            &seen == b"common, written later",
            "a file of a mount that is gone"
        );
        return Ok(());
    }
    drop(file);
    world.umount()
}

/// One round.
pub fn round(args: &Args, dir: &Path, seed: u64, left: Duration, count: &mut Count) -> Result<()> {
    let mut worlds = Vec::new();
    for task in 0..args.tasks {
        worlds.push(World::new(&dir.join(format!("t{task}")), &args.fstype, 2)?);
    }
    let common = dir.join("common");
    std::fs::create_dir_all(common.join("sub"))?;
    for i in 0..8 {
        std::fs::write(common.join(format!("f{i}")), format!("common {i}"))?;
    }
    for world in &mut worlds {
        world.lowers[1] = common.clone();
    }
    let end = Instant::now() + left.min(ROUND).max(Duration::from_secs(1));
    // The first task's mount stays, so that the module is in use all the time.
    let working = AtomicUsize::new(args.tasks - 1);
    mount(&worlds[0])?;
    let counts = together(args.tasks, |task| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(task as u64));
        let mut turn = 0;
        if task == 0 {
            while working.load(Ordering::Relaxed) > 0 {
                must_stay(&args.fstype)?;
                turn += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            return Ok(turn);
        }
        let result = loop {
            if let Err(e) = cycle(&worlds[task], turn, &mut rng) {
                break Err(e.context(format!("task {task}, mount {turn}")));
            }
            turn += 1;
            if Instant::now() >= end {
                break Ok(turn);
            }
        };
        working.fetch_sub(1, Ordering::Relaxed);
        result
    })?;
    count.done += counts.iter().sum::<u64>();
    for world in &worlds {
        world.check_work()?;
        count.checked += 1;
    }
    worlds[0].umount()
}
