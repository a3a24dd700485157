// SPDX-License-Identifier: GPL-2.0

//! What a second CPU brings. These are times, not instructions: only the ratios within one run mean something.

use std::thread;

use anyhow::{ensure, Context, Result};

use crate::op::{Cache, Fs, Metric};
use crate::parallel::{world, Parallel, LAYERS};
use crate::records::{median, Record, Records};

pub const GROUP: &str = "scaling";
/// What its operations begin with.
pub const NAME: &str = "parallel";
const REPEATS: usize = 9;
/// Of each thread.
const FILES: usize = 2000;

pub fn compare(ops: &[Parallel], records: &mut Records) -> Result<()> {
    let threads = thread::available_parallelism()?.get();
    ensure!(threads > 1, "this guest has one CPU");
    let world = world(threads, FILES)?;
    for op in ops {
        // The filesystems take turns, so that whatever else the machine does meets all.
        let mut times = [(); Fs::ALL.len()].map(|()| (Vec::new(), Vec::new()));
        for _ in 0..REPEATS {
            for (fs, (costs, gains)) in Fs::ALL.into_iter().zip(&mut times) {
                let time = |threads| {
                    op.run(&world, fs, (threads, FILES), |all| Ok(all()? as f64))
                        .with_context(|| format!("{} on {}", op.name, fs.name()))
                };
                let (alone, together) = (time(1)?, time(threads)?);
                costs.push(together / (threads * op.count(FILES)) as f64);
                gains.push(threads as f64 * alone / together);
            }
        }
        let mut shown = Vec::new();
        for (fs, (costs, gains)) in Fs::ALL.into_iter().zip(&times) {
            for (metric, repeats) in [(Metric::Nanoseconds, costs), (Metric::Speedup, gains)] {
                records.add(&Record {
                    operation: &op.name,
                    group: GROUP,
                    cache: Cache::Hot,
                    per: "call",
                    filesystem: fs,
                    layers: LAYERS,
                    backing: world.backing,
                    metric,
                    value: median(repeats),
                    repeats,
                })?;
            }
            shown.push(format!("{} {:.2}", fs.name(), median(gains)));
        }
        println!(
            "{threads} threads: {}: faster than one by {}",
            op.name,
            shown.join(", ")
        );
    }
    world.remove()
}
