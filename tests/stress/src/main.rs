// SPDX-License-Identifier: GPL-2.0
//! Storms on a union mount: many tasks at once, then a look at everything that they left.
//!
//! Each storm goes in rounds: new layers, a mount, the tasks, the checks, an unmount. A run is repeated by
//! its seed as far as the scheduler allows.

mod copyup;
mod mounts;
mod names;
mod pressure;
mod record;
mod world;

use anyhow::{ensure, Result};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, ValueEnum)]
enum Storm {
    /// The same lower files are copied up by all tasks, each by another operation.
    Copyup,
    /// Renames, unlinks and links in one merged directory, with readers and listers.
    Names,
    /// Mounts and unmounts, shared and private layers, while the module is asked to go.
    Mounts,
}

/// Storms on a union mount.
#[derive(Parser)]
pub struct Args {
    storm: Storm,
    /// An empty directory for the layers, on the filesystem that is to hold them.
    #[arg(long)]
    base: PathBuf,
    /// The filesystem type that is mounted.
    #[arg(long, default_value = "rovl")]
    fstype: String,
    /// How many tasks work at once.
    #[arg(long, default_value_t = 8)]
    tasks: usize,
    /// When the last round may start.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A control group whose memory is reclaimed all the time; caches are dropped, too.
    #[arg(long)]
    reclaim: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.tasks >= 2, "a storm takes two tasks or more");
    let pressure = pressure::Pressure::start(args.reclaim.as_deref());
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut rounds = 0;
    let mut count = world::Count::default();
    while rounds == 0 || Instant::now() < end {
        let dir = args.base.join(format!("r{rounds}"));
        let seed = args.seed.wrapping_add(rounds);
        let left = end.saturating_duration_since(Instant::now());
        match args.storm {
            Storm::Copyup => copyup::round(&args, &dir, seed, &mut count),
            Storm::Names => names::round(&args, &dir, seed, left, &mut count),
            Storm::Mounts => mounts::round(&args, &dir, seed, left, &mut count),
        }
        .map_err(|e| e.context(format!("round {rounds}, seed {seed}")))?;
        std::fs::remove_dir_all(&dir)?;
        rounds += 1;
    }
    println!("{rounds} rounds, {count}, {}", pressure.stop()?);
    Ok(())
}
