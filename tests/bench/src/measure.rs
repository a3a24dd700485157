// SPDX-License-Identifier: GPL-2.0

//! Runs an operation and reads the clock, which counts instructions under `-icount shift=0`.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use rustix::time::{clock_gettime, ClockId};

use crate::op::{Cache, Fs, Metric, Object, Op, Site};
use crate::profile;
use crate::world::World;

pub fn now() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Frees the dentries and inodes that nothing uses. Dirty inodes are kept, and what was looked at lately is passed over
/// the first time.
fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    for _ in 0..2 {
        fs::write("/proc/sys/vm/drop_caches", "2").context("dropping the caches")?;
    }
    Ok(())
}

/// Lets the kernel end what it does later, such as freeing memory after a grace period. An idle guest's clock leaps.
fn settle() {
    sleep(Duration::from_millis(50));
}

/// Has the kernel give back the pages of its caches in which nothing is allocated: it keeps some of each.
fn shrink_slabs() -> Result<()> {
    for cache in fs::read_dir("/sys/kernel/slab").context("the kernel's caches")? {
        let cache = cache?;
        // Others are names of a cache that several share.
        if cache.file_type()?.is_dir() {
            fs::write(cache.path().join("shrink"), "1").context("shrinking a cache")?;
        }
    }
    Ok(())
}

/// What the kernel has allocated for itself.
fn kernel_memory() -> Result<i64> {
    // Else the counters of each CPU are left out.
    fs::write("/proc/sys/vm/stat_refresh", "1").context("refreshing the counters")?;
    let text = fs::read_to_string("/proc/meminfo")?;
    let mut total = 0;
    for name in ["Slab", "VmallocUsed", "Percpu", "KernelStack", "PageTables"] {
        let value = text.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .strip_suffix(" kB")
        });
        total += value
            .with_context(|| format!("/proc/meminfo has no {name}"))?
            .trim()
            .parse::<i64>()?;
    }
    Ok(total << 10)
}

/// A control group for this program and those that it runs.
const GROUP: &str = "/sys/fs/cgroup/bench";

/// The time that the CPU spent on this program and on those that it has run.
fn cpu_time() -> Result<i64> {
    let procs = Path::new(GROUP).join("cgroup.procs");
    if !procs.exists() {
        fs::create_dir(GROUP).context("making a control group")?;
        fs::write(procs, "0").context("entering the control group")?;
    }
    let text = fs::read_to_string(Path::new(GROUP).join("cpu.stat"))?;
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    Ok(usage
        .context("cpu.stat has no usage_usec")?
        .parse::<i64>()?
        * 1000)
}

fn read(op: &Op, world: &World) -> Result<i64> {
    match op.metric {
        Metric::Written => world.written(),
        Metric::Instructions if op.programs => cpu_time(),
        Metric::Bytes => {
            settle();
            // What one object takes beside much is less than the page that it would be counted as.
            if op.objects > 1 {
                shrink_slabs()?;
            }
            kernel_memory()
        }
        _ => Ok(now()),
    }
}

/// Which objects, and how often.
#[derive(Clone, Copy)]
struct Batch {
    first: usize,
    objects: usize,
    rounds: usize,
}

impl Batch {
    /// The `repeat`th of an operation's.
    fn of(op: &Op, repeat: usize) -> Self {
        Batch {
            first: repeat * op.objects,
            objects: op.objects,
            rounds: op.rounds,
        }
    }

    /// The cost of one operation.
    fn run(self, op: &Op, site: &mut Site, mark: bool) -> Result<f64> {
        let objects: Vec<Object> = (self.first..self.first + self.objects)
            .map(|n| Object::new(&(op.path)(n)))
            .collect::<Result<_>>()?;
        for object in &objects {
            (op.prepare)(site, object).context("preparing it")?;
        }
        settle();
        if op.cache == Cache::Cold {
            drop_caches()?;
            settle();
        }
        let (first, measured) = objects.split_at(if op.metric == Metric::Bytes {
            objects.len() / 2
        } else {
            0
        });
        for object in first {
            (op.body)(site, object)?;
        }
        if mark {
            profile::start();
        }
        let start = read(op, site.world)?;
        for _ in 0..self.rounds {
            for object in measured {
                (op.body)(site, object)?;
            }
        }
        let end = read(op, site.world)?;
        if mark {
            profile::stop();
        }
        site.kept.borrow_mut().clear();
        for object in &objects {
            (op.finish)(site, object).context("after it")?;
        }
        site.files.clear();
        Ok((end - start) as f64 / (self.rounds * measured.len()) as f64)
    }
}

/// Opens the filesystem for `work`, and closes it, whatever comes of it.
fn on<T>(op: &Op, world: &World, fs: Fs, work: impl FnOnce(&mut Site) -> Result<T>) -> Result<T> {
    let whole = || {
        let mut site = world.open(fs, op.changes, op.stage.as_ref(), op.mounting)?;
        let result = work(&mut site);
        world.close(site)?;
        result
    };
    whole().with_context(|| {
        format!(
            "{} on {} with {} layers on {}",
            op.name,
            fs.name(),
            world.layers,
            world.backing
        )
    })
}

/// The cost of one operation in each batch, after those that warm up.
pub fn repeats(op: &Op, world: &World, fs: Fs) -> Result<Vec<f64>> {
    let batch = |repeat| Batch::of(op, repeat);
    let mut costs = Vec::new();
    if op.fresh && fs != Fs::Raw {
        for repeat in 0..op.warmups + op.repeats {
            costs.push(on(op, world, fs, |site| {
                batch(repeat).run(op, site, false)
            })?);
        }
    } else {
        on(op, world, fs, |site| {
            for repeat in 0..op.warmups + op.repeats {
                costs.push(batch(repeat).run(op, site, false)?);
            }
            Ok(())
        })?;
    }
    Ok(costs.split_off(op.warmups))
}

/// The cost of one of `count` operations, which are done between the marks.
pub fn between_marks(op: &Op, world: &World, fs: Fs, count: usize) -> Result<f64> {
    ensure!(count > 0, "nothing to do");
    on(op, world, fs, |site| {
        for repeat in 0..op.warmups {
            Batch::of(op, repeat).run(op, site, false)?;
        }
        let (mut cost, mut done) = (0.0, 0);
        while done < count {
            let batch = if op.rounds > 1 {
                Batch {
                    first: 0,
                    objects: op.objects,
                    rounds: count.div_ceil(op.objects),
                }
            } else {
                Batch {
                    first: op.warmups * op.objects + done,
                    objects: op.objects.min(count - done),
                    rounds: 1,
                }
            };
            let size = batch.objects * batch.rounds;
            cost += batch.run(op, site, true)? * size as f64;
            done += size;
        }
        profile::end();
        Ok(cost / done as f64)
    })
}
