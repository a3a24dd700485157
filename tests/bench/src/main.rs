// SPDX-License-Identifier: GPL-2.0

//! Measures operations on rovl, on overlayfs and on the raw filesystem, in the guest.

use std::path::PathBuf;

use anyhow::{ensure, Context, Result};
use clap::Parser;

use op::{Fs, Metric, Op};
use parallel::Parallel;
use records::{median, Record, Records};
use tree::Tree;
use world::{Backing, Store, World, BACKINGS};

mod locks;
mod mapped;
mod measure;
mod module;
mod op;
mod ops;
mod parallel;
mod profile;
mod records;
mod scale;
mod tree;
mod world;

const LAYERS: [usize; 6] = [1, 3, 10, 30, 100, 500];
/// For the second and further filesystems.
const FEW_LAYERS: [usize; 2] = [3, 30];

#[derive(Parser)]
#[command(
    about = "Measures operations on rovl, on overlayfs and on the raw filesystem; as root, in the guest"
)]
enum Cli {
    /// All operations, or some.
    Run(Run),
    /// One operation on one filesystem, between the marks of `make profile`.
    Loop(Loop),
    /// What a second CPU brings, on a guest that has one and whose clock tells the time.
    Scale(Parallels),
    /// Which locks the CPUs of a guest wait for, on a kernel with lock statistics.
    Locks(Parallels),
    /// Groups and names of the operations.
    List(Filter),
}

#[derive(Parser)]
struct Filter {
    /// Names or groups of operations, as globs; "stat" is "stat-cold", too
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    filter: Filter,
    /// Numbers of lower layers [default: 1,3,10,30,100,500; 3,30 on filesystems other than tmpfs]
    #[arg(long, value_delimiter = ',')]
    layers: Vec<usize>,
    /// Filesystems of the layers, LOWER/UPPER [default: all below; tmpfs/tmpfs only if operations or layers are given]
    #[arg(long, value_delimiter = ',')]
    backing: Vec<Backing>,
    /// The file that the records go to, a JSON object a line
    #[arg(long)]
    records: PathBuf,
}

#[derive(Parser)]
struct Parallels {
    #[command(flatten)]
    filter: Filter,
    /// The file that the records go to, a JSON object a line
    #[arg(long)]
    records: PathBuf,
}

#[derive(Parser)]
struct Loop {
    #[arg(long)]
    op: String,
    #[arg(long)]
    fs: Fs,
    #[arg(long, default_value_t = 3)]
    layers: usize,
    #[arg(long, default_value_t = 1000)]
    count: usize,
    #[arg(long, default_value = "tmpfs/tmpfs")]
    backing: Backing,
}

/// `*` is any text.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && glob(tail, &rest[at..]))
        }),
    }
}

impl Filter {
    /// Whether an operation is asked for.
    fn wants(&self, group: &str, name: &str) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|pattern| matches(pattern, group, name))
    }

    /// Every pattern has to mean something.
    fn check(&self) -> Result<()> {
        for pattern in &self.only {
            ensure!(
                names()
                    .iter()
                    .any(|(group, name)| matches(pattern, group, name)),
                "no operation and no group is called {pattern}"
            );
        }
        Ok(())
    }

    fn ops(&self) -> Result<Vec<Op>> {
        self.check()?;
        Ok(ops::all()
            .into_iter()
            .filter(|op| self.wants(op.group, &op.name))
            .collect())
    }

    /// Those of a group, which gives them their first name.
    fn parallel(&self, group: &str, name: &str) -> Result<Vec<Parallel>> {
        self.check()?;
        Ok(parallel::all(name)
            .into_iter()
            .filter(|op| self.wants(group, &op.name))
            .collect())
    }
}

fn matches(pattern: &str, group: &str, name: &str) -> bool {
    glob(pattern, group) || glob(pattern, name) || glob(&format!("{pattern}-*"), name)
}

/// Groups and names of all that can be measured.
fn names() -> Vec<(&'static str, String)> {
    let mut names: Vec<_> = ops::all()
        .into_iter()
        .map(|op| (op.group, op.name))
        .collect();
    names.push((module::GROUP, module::NAME.into()));
    for (group, name) in [(scale::GROUP, scale::NAME), (locks::GROUP, locks::GROUP)] {
        names.extend(parallel::all(name).into_iter().map(|op| (group, op.name)));
    }
    names
}

impl Run {
    /// What is mounted one after the other. An image is the lowest layer wherever the other layers lie.
    fn plan(&self, ops: &[Op]) -> Vec<(Backing, usize, Tree)> {
        let everything =
            self.backing.is_empty() && self.layers.is_empty() && self.filter.only.is_empty();
        let backings: &[Backing] = match &*self.backing {
            [] if everything => &BACKINGS,
            // ext4, where the first is no place for any of them.
            [] if !ops.iter().any(|op| op.fits(BACKINGS[0], 1)) => &BACKINGS[1..2],
            [] => &BACKINGS[..1],
            given => given,
        };
        let mut plan = Vec::new();
        for &backing in backings {
            let layers: &[usize] = match &*self.layers {
                [] if backing == BACKINGS[0] => &LAYERS,
                [] => &FEW_LAYERS,
                given => given,
            };
            for &layers in layers {
                for op in ops.iter().filter(|op| op.fits(backing, layers)) {
                    let lower = if op.tree.image().is_some() {
                        Store::Erofs
                    } else {
                        backing.lower
                    };
                    let entry = (Backing { lower, ..backing }, layers, op.tree);
                    if !plan.contains(&entry) {
                        plan.push(entry);
                    }
                }
            }
        }
        plan
    }
}

fn run(args: &Run) -> Result<()> {
    let ops = args.filter.ops()?;
    let mut records = Records::new(&args.records)?;
    if args.filter.wants(module::GROUP, module::NAME) {
        module::sizes(&mut records)?;
    }
    let mut failed = 0;
    for (backing, layers, tree) in args.plan(&ops) {
        let ops: Vec<&Op> = ops
            .iter()
            .filter(|op| op.tree == tree && op.fits(backing, layers))
            .collect();
        let pool = ops
            .iter()
            .map(|op| op.objects * (op.repeats + 1))
            .max()
            .unwrap_or(0);
        let world = World::new(backing, layers, tree, pool)?;
        for op in ops {
            if let Err(e) = compare(op, &world, &mut records) {
                println!("FAILED: {e:#}");
                failed += 1;
            }
        }
        world.remove()?;
    }
    ensure!(failed == 0, "{failed} measurements failed");
    Ok(())
}

/// Measures an operation on each filesystem.
fn compare(op: &Op, world: &World, records: &mut Records) -> Result<()> {
    let mut values = Vec::new();
    for fs in Fs::ALL.into_iter().filter(|fs| op.raw || *fs != Fs::Raw) {
        let repeats = measure::repeats(op, world, fs)?;
        let value = median(&repeats);
        values.push(format!("{} {value:.0}", fs.name()));
        records.add(&Record {
            operation: &op.name,
            group: op.group,
            cache: op.cache,
            per: &op.per,
            filesystem: fs,
            layers: world.layers,
            backing: world.backing,
            metric: op.metric,
            value,
            repeats: &repeats,
        })?;
    }
    println!(
        "{} {} layers: {}: {}",
        world.backing,
        world.layers,
        op.name,
        values.join(", ")
    );
    Ok(())
}

fn run_loop(args: &Loop) -> Result<()> {
    let ops = ops::all();
    let found = ops.iter().find(|op| op.name == args.op);
    let op = found.with_context(|| format!("no operation is called {}", args.op))?;
    ensure!(
        op.raw || args.fs != Fs::Raw,
        "{} can't be done on raw",
        op.name
    );
    ensure!(
        op.metric == Metric::Instructions,
        "{} is not about instructions",
        op.name
    );
    let world = World::new(args.backing, args.layers, op.tree, op.objects + args.count)?;
    let cost = measure::between_marks(op, &world, args.fs, args.count)?;
    println!(
        "{} on {}: {cost:.1} instructions by the clock",
        op.name,
        args.fs.name()
    );
    world.remove()
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Run(args) => run(&args),
        Cli::Loop(args) => run_loop(&args),
        Cli::Scale(args) => scale::compare(
            &args.filter.parallel(scale::GROUP, scale::NAME)?,
            &mut Records::new(&args.records)?,
        ),
        Cli::Locks(args) => locks::count(
            &args.filter.parallel(locks::GROUP, locks::GROUP)?,
            &mut Records::new(&args.records)?,
        ),
        Cli::List(filter) => {
            filter.check()?;
            for (group, name) in names()
                .iter()
                .filter(|(group, name)| filter.wants(group, name))
            {
                println!("{group} {name}");
            }
            Ok(())
        }
    }
}
