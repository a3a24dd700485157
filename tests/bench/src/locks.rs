// SPDX-License-Identifier: GPL-2.0

//! Which locks CPUs wait for, as a kernel with lock statistics counts it (`tests/kernel/locks.config`).

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use anyhow::{ensure, Context, Result};
use serde::Serialize;

use crate::op::{Fs, Metric};
use crate::parallel::{world, Parallel, LAYERS};
use crate::records::{median, Records};
use crate::world::Backing;

pub const GROUP: &str = "locks";
const REPEATS: usize = 3;
/// Of each thread.
const FILES: usize = 250;

const STATISTICS: &str = "/proc/lock_stat";
const SWITCH: &str = "/proc/sys/kernel/lock_stat";

/// A class of locks; those who share it and those who exclude others are apart.
#[derive(Serialize, Default)]
struct Class {
    lock: String,
    /// How often somebody had to wait, and how long in all, in microseconds.
    contentions: u64,
    wait: f64,
    acquisitions: u64,
    /// How long it was held in all, in microseconds.
    hold: f64,
}

/// What an operation of `calls` calls in all did to locks.
#[derive(Serialize)]
struct Record<'a> {
    operation: &'a str,
    group: &'a str,
    filesystem: Fs,
    layers: usize,
    backing: Backing,
    metric: Metric,
    threads: usize,
    /// All contentions of a call; the median of `repeats`.
    value: f64,
    repeats: &'a [f64],
    /// The sums of all repeats, and of how many calls they are.
    calls: usize,
    classes: &'a [Class],
}

/// The module that an address lies in, or the kernel's symbol.
struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    fn new() -> Result<Symbols> {
        let text = fs::read_to_string("/proc/kallsyms")?;
        let symbols = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let (_, name) = (words.next()?, words.next()?);
            let module = words.next().map(|m| m.trim_matches(['[', ']']));
            Some((address, module.unwrap_or(name).to_string()))
        });
        Ok(Symbols(symbols.collect()))
    }

    fn of(&self, address: u64) -> Option<&str> {
        let (_, name) = self.0.range(..=address).next_back()?;
        Some(name)
    }
}

/// As `/proc/lock_stat` has the name of a class: cut, with what tells classes of one name apart.
fn cut(name: &str) -> String {
    let (rest, subclass) = match name.rsplit_once('/') {
        Some((rest, digits)) if digits.parse::<u8>().is_ok() => (rest, Some(digits)),
        _ => (name, None),
    };
    let (base, version) = match rest.rsplit_once('#') {
        Some((base, digits)) if digits.parse::<u8>().is_ok() => (base, Some(digits)),
        _ => (rest, None),
    };
    let room = 37 - 2 * usize::from(version.is_some()) - 2 * usize::from(subclass.is_some());
    let mut cut: String = base.chars().take(room).collect();
    for (mark, digits) in [('#', version), ('/', subclass)] {
        if let Some(digits) = digits {
            cut.push(mark);
            cut.push_str(&digits[..1]);
        }
    }
    cut
}

/// Where the classes' keys lie: in which module, or in what of the kernel. That tells the inodes of filesystems apart.
fn places() -> Result<BTreeMap<String, String>> {
    let symbols = Symbols::new()?;
    let text = fs::read_to_string("/proc/lockdep").context("the kernel has no lockdep")?;
    let places = text.lines().filter_map(|line| {
        let (key, name) = line.split_once(": ")?;
        let key = u64::from_str_radix(key.split_whitespace().next()?, 16).ok()?;
        Some((cut(name), symbols.of(key)?.to_string()))
    });
    Ok(places.collect())
}

/// Reads the statistics.
fn classes() -> Result<Vec<Class>> {
    let places = places()?;
    let text = fs::read_to_string(STATISTICS)?;
    let class = |line: &str| -> Option<Class> {
        let (name, figures) = line.rsplit_once(':')?;
        let figures: Vec<f64> = figures
            .split_whitespace()
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        let [_, contentions, _, _, wait, _, _, acquisitions, _, _, hold, _] = *figures else {
            return None;
        };
        let name = name.trim();
        let (name, kind) = match name.strip_suffix("-R") {
            Some(name) => (name, ", shared"),
            None => (name.strip_suffix("-W").unwrap_or(name), ""),
        };
        let lock = match places.get(name) {
            Some(place) => format!("{name} ({place}){kind}"),
            None => format!("{name}{kind}"),
        };
        Some(Class {
            lock,
            contentions: contentions as u64,
            wait,
            acquisitions: acquisitions as u64,
            hold,
        })
    };
    let classes: Vec<Class> = text.lines().filter_map(class).collect();
    ensure!(!classes.is_empty(), "{STATISTICS} has nothing");
    Ok(classes)
}

/// The statistics of what the threads do.
fn counted(all: &dyn Fn() -> Result<i64>) -> Result<Vec<Class>> {
    fs::write(STATISTICS, "0")?;
    fs::write(SWITCH, "1")?;
    let done = all();
    fs::write(SWITCH, "0")?;
    done?;
    classes()
}

pub fn count(ops: &[Parallel], records: &mut Records) -> Result<()> {
    ensure!(
        fs::exists(STATISTICS)?,
        "this kernel has no lock statistics: it is not the variant \"locks\""
    );
    let threads = thread::available_parallelism()?.get();
    let world = world(threads, FILES)?;
    for op in ops {
        let calls = threads * op.count(FILES);
        let mut shown = Vec::new();
        for fs in Fs::ALL {
            let (mut sums, mut repeats) = (BTreeMap::<String, Class>::new(), Vec::new());
            for _ in 0..REPEATS {
                let classes = op
                    .run(&world, fs, (threads, FILES), counted)
                    .with_context(|| format!("{} on {}", op.name, fs.name()))?;
                let contentions: u64 = classes.iter().map(|class| class.contentions).sum();
                repeats.push(contentions as f64 / calls as f64);
                for class in classes {
                    let sum = sums.entry(class.lock.clone()).or_default();
                    sum.contentions += class.contentions;
                    sum.wait += class.wait;
                    sum.acquisitions += class.acquisitions;
                    sum.hold += class.hold;
                    sum.lock = class.lock;
                }
            }
            let classes: Vec<_> = sums.into_values().collect();
            records.add(&Record {
                operation: &op.name,
                group: GROUP,
                filesystem: fs,
                layers: LAYERS,
                backing: world.backing,
                metric: Metric::Contentions,
                threads,
                value: median(&repeats),
                repeats: &repeats,
                calls: calls * REPEATS,
                classes: &classes,
            })?;
            shown.push(format!("{} {:.3}", fs.name(), median(&repeats)));
        }
        println!(
            "{threads} threads: {}: contended acquisitions a call: {}",
            op.name,
            shown.join(", ")
        );
    }
    world.remove()
}
