// SPDX-License-Identifier: GPL-2.0
//! Many cases: kept ones first, then seeds; failures are shrunk and kept, and all is counted.

use crate::case::Case;
use crate::differences::Differences;
use crate::generate::{self, Wish};
use crate::kmsg::Kmsg;
use crate::run::{isolated, Failure, Report, Setup};
use crate::{load, script, shrink, Place};
use anyhow::{bail, Context, Result};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Operations of each seed.
    #[arg(long, default_value_t = 200)]
    steps: usize,
    /// Layers that no kernel wrote.
    #[arg(long)]
    hostile: bool,
    /// Seconds after which no new seed is begun.
    #[arg(long)]
    time: Option<u64>,
    /// Filesystems of upper layers, in turn.
    #[arg(long, value_delimiter = ' ', default_value = "tmpfs")]
    upperfs: Vec<String>,
    /// A folder with kept cases, which run first.
    #[arg(long)]
    kept: Option<String>,
    /// Where failures are put.
    #[arg(long)]
    out: String,
    /// Seconds to shrink one failure.
    #[arg(long, default_value_t = 60)]
    shrink: u64,
    /// Different failures after which a run ends.
    #[arg(long, default_value_t = 20)]
    failures: usize,
}

/// Formats an image and mounts it.
fn image(place: &Place, fs: &str) -> Result<String> {
    let file = format!("{}/fuzz-{fs}.img", place.images);
    let dir = format!("{}/fuzz-{fs}", place.images);
    std::fs::File::create(&file)?.set_len(512 << 20)?;
    std::fs::create_dir_all(&dir)?;
    let mkfs = format!("/usr/sbin/mkfs.{fs}");
    let make: &[&str] = match fs {
        "ext4" => &[&mkfs, "-q", "-F", "-b", "4096", "-O", "verity", &file],
        _ => &[&mkfs, "-q", "-f", &file],
    };
    for command in [make, &["mount", "-o", "loop", &file, &dir]] {
        let out = Command::new(command[0])
            .args(&command[1..])
            .output()
            .with_context(|| command[0].to_owned())?;
        if !out.status.success() {
            bail!(
                "{}: {}",
                command.join(" "),
                String::from_utf8_lossy(&out.stderr)
            );
        }
    }
    Ok(dir)
}

fn setup(place: &Place, filesystems: &BTreeSet<String>) -> Result<Setup> {
    let differences = place
        .differences
        .as_deref()
        .map(Differences::load)
        .transpose()?
        .unwrap_or_default();
    let mut images = BTreeMap::new();
    for fs in filesystems.iter().filter(|fs| *fs != "tmpfs") {
        images.insert(fs.clone(), image(place, fs)?);
    }
    let types = [place.a.clone(), place.b.clone()];
    Ok(Setup {
        types,
        dir: place.dir.clone(),
        images,
        differences,
        hang: place.hang,
    })
}

/// Everything that a run counts.
#[derive(Default)]
struct Totals {
    cases: u64,
    steps: u64,
    checkpoints: u64,
    failed: u64,
    /// Cases whose refusals were looked for in the kernel's log.
    refusals: u64,
    pairs: BTreeSet<(String, String)>,
    used: BTreeMap<usize, u64>,
    seen: BTreeMap<(String, String), u64>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.cases += 1;
        self.steps += report.steps as u64;
        self.checkpoints += report.checkpoints as u64;
        self.pairs.extend(report.pairs.iter().cloned());
        for (rule, n) in &report.used {
            *self.used.entry(*rule).or_default() += n;
        }
    }
}

struct Session<'a> {
    setup: Setup,
    kmsg: Kmsg,
    totals: Totals,
    out: &'a str,
    shrink: Duration,
}

/// Lines that rovl logs in five seconds, at most.
const LOG_BURST: usize = 10;

impl Session<'_> {
    /// Runs a case; a new failure is shown.
    fn case(&mut self, case: &Case, name: &str) -> Result<()> {
        // The log is limited, so it is looked at now and then, and not where the case alone filled it.
        let look = case.hostile && self.totals.cases % 50 == 1;
        if look {
            std::thread::sleep(Duration::from_secs(6));
        }
        let mut report = isolated(case, &self.setup, false)?;
        let mut trouble = self.kmsg.lines()?;
        if look && self.setup.types[0] == "rovl" {
            let lines = || trouble.iter().filter(|line| line.starts_with("rovl"));
            let said = |name: &&String| lines().any(|line| line.contains(*name));
            let full = lines().count() >= LOG_BURST;
            let first = report.refused.first();
            if let Some(name) = first.filter(|name| !full && !said(name)) {
                let text = trouble.join("\n");
                let what = "says nothing of a refusal".to_owned();
                let text = format!("nothing about {name:?}, but:\n{text}");
                report.failure = Some(Failure {
                    step: 0,
                    place: "kernel log".into(),
                    what,
                    text,
                });
            }
            self.totals.refusals += u64::from(first.is_some_and(|name| !full || said(&name)));
        }
        self.kmsg.keep_trouble(&mut trouble);
        if let Some(first) = trouble.first() {
            let text = trouble.join("\n");
            report.failure = Some(Failure {
                step: 0,
                place: "kernel".into(),
                what: first.clone(),
                text,
            });
        }
        self.totals.add(&report);
        if let Some(failure) = report.failure {
            self.totals.failed += 1;
            let seen = self.totals.seen.entry(failure.signature()).or_default();
            *seen += 1;
            if *seen == 1 {
                self.show(case, &failure, name)?;
            }
        }
        Ok(())
    }

    fn show(&mut self, case: &Case, failure: &Failure, name: &str) -> Result<()> {
        println!(
            "FAIL {name}: {} {}: step {}",
            failure.place, failure.what, failure.step
        );
        for line in failure.text.lines() {
            println!("    {line}");
        }
        let mut short = (case.clone(), failure.clone(), 0);
        if !failure.place.starts_with("kernel") {
            short = shrink::shrink(case, failure, &self.setup, self.shrink)?;
        }
        let words = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let what: String = failure.what.chars().take(40).map(words).collect();
        let file = format!(
            "{}/{}-{what}-{name}",
            self.out,
            failure.place.replace([' ', '\''], "-")
        );
        std::fs::write(
            format!("{file}.json"),
            serde_json::to_string_pretty(&short.0)?,
        )?;
        let text = script::script(&short.0);
        std::fs::write(format!("{file}.sh"), &text)?;
        println!("shrunk in {} runs: {}.json, {}.sh", short.2, file, file);
        for line in text.lines().skip_while(|l| !l.is_empty()) {
            println!("    {line}");
        }
        for line in short.1.text.lines() {
            println!("    # {line}");
        }
        // What the shrinking made the kernel say is no news.
        self.kmsg.lines()?;
        Ok(())
    }
}

/// Runs kept cases and seeds; false if something differed.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let filesystems = options.upperfs.iter().cloned().collect();
    std::fs::create_dir_all(&options.out)?;
    let mut s = Session {
        setup: setup(&options.place, &filesystems)?,
        kmsg: Kmsg::new(options.place.trouble.as_deref())?,
        totals: Totals::default(),
        out: &options.out,
        shrink: Duration::from_secs(options.shrink),
    };
    let mut skipped = 0;
    for file in kept(options.kept.as_deref())? {
        let case = load(&file)?;
        if !filesystems.contains(&case.upper_fs) {
            println!("skipped {file}: its upper is on {}", case.upper_fs);
            skipped += 1;
            continue;
        }
        let name = Path::new(&file)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        s.case(&case, &name)?;
    }
    println!(
        "kept cases: {} ran, {} failed, {skipped} skipped",
        s.totals.cases, s.totals.failed
    );
    let kept = s.totals.cases;
    let mut shown = Instant::now();
    for seed in options.seed..options.seed.saturating_add(options.count) {
        let late = options
            .time
            .is_some_and(|limit| start.elapsed().as_secs() >= limit);
        if late || s.totals.seen.len() >= options.failures {
            println!("ended before seed {seed}");
            break;
        }
        let upper_fs = &options.upperfs[(seed % options.upperfs.len() as u64) as usize];
        let case = generate::case(
            seed,
            &Wish {
                upper_fs,
                steps: options.steps,
                hostile: options.hostile,
            },
        );
        s.case(&case, &format!("seed-{seed}"))?;
        if shown.elapsed().as_secs() >= 30 {
            shown = Instant::now();
            let t = &s.totals;
            println!(
                "seed {seed}: {} operations, {} failed, {} s",
                t.steps,
                t.failed,
                start.elapsed().as_secs()
            );
        }
    }
    close(&s, kept, skipped, start)
}

fn close(s: &Session<'_>, kept: u64, skipped: u64, start: Instant) -> Result<bool> {
    let t = &s.totals;
    for (rule, n) in &t.used {
        println!(
            "wanted difference, {n} times: {}",
            s.setup.differences.line(*rule)
        );
    }
    for ((place, what), n) in &t.seen {
        println!("failed {n} times: {place}: {what}");
    }
    let mut outcomes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (kind, class) in &t.pairs {
        outcomes.entry(kind).or_default().push(class);
    }
    for (kind, classes) in outcomes {
        println!("outcomes of {kind}: {}", classes.join(" "));
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} sequences, {} operations, {} checkpoints, {} distinct pairs of operation and outcome, {seconds:.0} s, {:.0} operations/s",
        t.cases - kept,
        t.steps,
        t.checkpoints,
        t.pairs.len(),
        t.steps as f64 / seconds,
    );
    println!(
        "{} passed, {} failed, {skipped} skipped",
        t.cases - t.failed,
        t.failed
    );
    Ok(t.failed == 0)
}

fn kept(dir: Option<&str>) -> Result<Vec<String>> {
    let mut files = Vec::new();
    if let Some(dir) = dir.filter(|dir| Path::new(dir).exists()) {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json") {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Runs cases and shows all outcomes; false if something differed.
pub fn replay(place: &Place, cases: &[String]) -> Result<bool> {
    let mut passed = true;
    let mut kmsg = Kmsg::new(place.trouble.as_deref())?;
    for file in cases {
        let case = load(file)?;
        let setup = setup(place, &BTreeSet::from([case.upper_fs.clone()]))?;
        let report = isolated(&case, &setup, true)?;
        println!("{file}:");
        for line in report.log {
            println!("    {line}");
        }
        if let Some(failure) = report.failure {
            passed = false;
            println!(
                "FAIL {} {}: step {}\n{}",
                failure.place, failure.what, failure.step, failure.text
            );
        }
        for line in kmsg.lines()? {
            println!("kernel: {line}");
        }
    }
    Ok(passed)
}
