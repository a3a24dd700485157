// SPDX-License-Identifier: GPL-2.0

//! What a second CPU brings. These are times, not instructions: only the ratios within one run mean something.

use std::sync::Barrier;
use std::thread;

use anyhow::{ensure, Context, Result};
use rustix::fs::{chmod, open, stat, Mode, OFlags};

use crate::measure::now;
use crate::op::{Cache, Fs, Metric, Mounting, Object};
use crate::records::{median, Record, Records};
use crate::tree::Tree;
use crate::world::{World, BACKINGS};

pub const GROUP: &str = "scaling";
const LAYERS: usize = 3;
const REPEATS: usize = 9;

pub struct Parallel {
    pub name: &'static str,
    /// Operations of each thread.
    count: usize,
    /// The path of a thread's object with this number.
    path: fn(usize, usize) -> String,
    /// The objects exist and are known.
    known: bool,
    body: fn(&Object) -> Result<()>,
}

fn create(o: &Object) -> Result<()> {
    Ok(open(
        &o.path,
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY,
        Mode::RWXU,
    )
    .map(drop)?)
}

fn copy_up(o: &Object) -> Result<()> {
    Ok(chmod(&o.path, Mode::RWXU)?)
}

fn look(o: &Object) -> Result<()> {
    Ok(stat(&o.path).map(drop)?)
}

const CHANGES: usize = 2000;
const LOOKS: usize = 50_000;

pub const OPS: [Parallel; 7] = [
    Parallel {
        name: "parallel-create-one-directory",
        count: CHANGES,
        path: |t, n| format!("s0/new{t}-{n}"),
        known: false,
        body: create,
    },
    Parallel {
        name: "parallel-create-own-directory",
        count: CHANGES,
        path: |t, n| format!("s{t}/new{n}"),
        known: false,
        body: create,
    },
    Parallel {
        name: "parallel-copyup-one-directory",
        count: CHANGES,
        path: |t, n| format!("s0/p{}", t * CHANGES + n),
        known: true,
        body: copy_up,
    },
    Parallel {
        name: "parallel-copyup-own-directory",
        count: CHANGES,
        path: |t, n| format!("s{t}/p{n}"),
        known: true,
        body: copy_up,
    },
    Parallel {
        name: "parallel-lookup-one-file",
        count: LOOKS,
        path: |_, _| "s0/p0".into(),
        known: true,
        body: look,
    },
    Parallel {
        name: "parallel-lookup-one-directory",
        count: LOOKS,
        path: |t, n| format!("s0/p{}", t * CHANGES + n % CHANGES),
        known: true,
        body: look,
    },
    Parallel {
        name: "parallel-lookup-own-directory",
        count: LOOKS,
        path: |t, n| format!("s{t}/p{}", n % CHANGES),
        known: true,
        body: look,
    },
];

/// How long the threads take, in nanoseconds.
fn run(op: &Parallel, world: &World, fs: Fs, threads: usize) -> Result<f64> {
    let site = world.open(fs, true, None, Mounting::default())?;
    let objects = |thread| {
        (0..op.count)
            .map(|n| Object::new(&(op.path)(thread, n)))
            .collect::<Result<Vec<_>>>()
    };
    let work: Vec<Vec<Object>> = (0..threads).map(objects).collect::<Result<_>>()?;
    let measure = || -> Result<i64> {
        for object in work.iter().flatten().filter(|_| op.known) {
            look(object)?;
        }
        let barrier = Barrier::new(threads);
        let one = |objects: &[Object]| -> Result<(i64, i64)> {
            barrier.wait();
            let start = now();
            objects.iter().try_for_each(op.body)?;
            Ok((start, now()))
        };
        let one = &one;
        let times = thread::scope(|scope| {
            let running: Vec<_> = work
                .iter()
                .map(|objects| scope.spawn(move || one(objects)))
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("a thread"))
                .collect::<Result<Vec<_>>>()
        })?;
        let start = times.iter().map(|time| time.0).min().context("no thread")?;
        let end = times.iter().map(|time| time.1).max().context("no thread")?;
        Ok(end - start)
    };
    let time = measure();
    world.close(site)?;
    Ok(time? as f64)
}

pub fn compare(ops: &[&Parallel], records: &mut Records) -> Result<()> {
    let threads = thread::available_parallelism()?.get();
    ensure!(threads > 1, "this guest has one CPU");
    let world = World::new(
        BACKINGS[0],
        LAYERS,
        Tree::Parallel {
            directories: threads,
        },
        threads * CHANGES,
    )?;
    for op in ops {
        // The filesystems take turns, so that whatever else the machine does meets all.
        let mut times = [(); Fs::ALL.len()].map(|()| (Vec::new(), Vec::new()));
        for _ in 0..REPEATS {
            for (fs, (costs, gains)) in Fs::ALL.into_iter().zip(&mut times) {
                let what = || format!("{} on {}", op.name, fs.name());
                let alone = run(op, &world, fs, 1).with_context(what)?;
                let together = run(op, &world, fs, threads).with_context(what)?;
                costs.push(together / (threads * op.count) as f64);
                gains.push(threads as f64 * alone / together);
            }
        }
        let mut shown = Vec::new();
        for (fs, (costs, gains)) in Fs::ALL.into_iter().zip(&times) {
            for (metric, repeats) in [(Metric::Nanoseconds, costs), (Metric::Speedup, gains)] {
                records.add(&Record {
                    operation: op.name,
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
