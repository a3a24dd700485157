// SPDX-License-Identifier: GPL-2.0
//! Faults under a union mount: allocations that fail, devices that fail or fill up, power cuts, fatal
//! signals. Runs in the guest, as root; see Documentation/testing.rst.

mod alloc;
mod block;
mod copy_ups;
mod power;
mod report;
mod signals;
mod snap;
mod sys;
mod union;

use anyhow::Result;
use clap::Parser;
use report::{KernelLog, Outcome, Report};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Faults under a union mount.
#[derive(Parser)]
struct Settings {
    /// What is tested: rovl or overlay.
    #[arg(long, default_value = "rovl")]
    fstype: String,
    /// Parts: alloc, block, power, signals.
    #[arg(
        long,
        value_delimiter = ' ',
        default_value = "alloc block power signals"
    )]
    part: Vec<String>,
    /// Filesystems of the upper layer; each part has its own.
    #[arg(long, value_delimiter = ' ')]
    upperfs: Vec<String>,
    /// Tests whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Decides what is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A sample of everything, in minutes.
    #[arg(long)]
    short: bool,
    /// Points of a power cut for each filesystem, beside flushes; images that are tried.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Seconds for each filesystem of a part; what does not fit is left out.
    #[arg(long, default_value_t = 3600)]
    time: u64,
    /// Lines of the kernel log that are a failure.
    #[arg(long)]
    trouble: String,
    /// Prints the kernel log.
    #[arg(long)]
    verbose: bool,
}

impl Settings {
    /// The filesystems of a part, unless told otherwise.
    fn filesystems(&self, usual: &[&str]) -> Vec<String> {
        let wanted = |fs: &&&str| self.upperfs.is_empty() || self.upperfs.iter().any(|u| u == *fs);
        usual
            .iter()
            .filter(wanted)
            .map(|fs| (*fs).to_owned())
            .collect()
    }

    /// Whether a test is to run.
    fn wanted(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// A directory for a part.
    fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = PathBuf::from("/tmp/faults").join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// The distance to the next of many similar steps: 1, more and more for a sample.
    fn stride(&self, n: u32) -> u32 {
        if !self.short {
            return 1;
        }
        let spread = n / 2;
        1 + (self.seed as u32)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(n)
            % (spread + 1)
    }

    /// When a part's filesystem has had its time.
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.time)
    }

    /// The module under test.
    fn module(&self) -> String {
        let dir = std::env::var("MODDIR").unwrap_or_default();
        match self.fstype.as_str() {
            "rovl" => format!("{dir}/module/rovl.ko"),
            _ => format!("{dir}/kernel/overlay.ko"),
        }
    }
}

fn run(settings: &Settings) -> Result<bool> {
    let parts: Vec<_> = settings.part.iter().map(String::as_str).collect();
    let log = KernelLog::open(&settings.trouble)?;
    let mut report = Report::new(&parts, log, settings.verbose);
    for part in parts {
        report.part(part);
        let result = match part {
            "alloc" => alloc::run(settings, &mut report),
            "block" => block::run(settings, &mut report),
            "signals" => signals::run(settings, &mut report),
            "power" => power::run(settings, &mut report),
            other => Err(anyhow::anyhow!("no part {other}")),
        };
        if let Err(e) = result {
            report.test("set-up", |_| Err(e));
        }
        report.end(part);
    }
    Ok(report.done())
}

fn main() -> ExitCode {
    match run(&Settings::parse()) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::FAILURE,
        Err(e) => {
            println!("#FATAL {e:#}");
            ExitCode::FAILURE
        }
    }
}
