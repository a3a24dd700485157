// SPDX-License-Identifier: GPL-2.0
//! Results as KTAP for scripts/report, and the kernel log of each test.

use anyhow::{Context, Result};
use regex_lite::Regex;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::time::Instant;

/// Lines of a failure that are printed; more of the same teach nothing.
const SHOWN: usize = 12;

/// The kernel log from a moment on.
pub struct KernelLog {
    file: File,
    trouble: Regex,
}

impl KernelLog {
    /// From now on; `trouble` matches lines that are a failure of whatever runs.
    pub fn open(trouble: &str) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).context("/dev/kmsg")?;
        rustix::fs::seek(&fd, SeekFrom::End(0))?;
        Ok(Self {
            file: fd.into(),
            trouble: Regex::new(trouble).context("the pattern of trouble")?,
        })
    }

    /// Lines since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buf = [0; 8192];
        loop {
            match self.file.read(&mut buf) {
                Ok(len) => {
                    let record = String::from_utf8_lossy(&buf[..len]).into_owned();
                    let text = record.split_once(';').map_or("", |(_, text)| text);
                    lines.extend(text.lines().take(1).map(str::to_owned));
                }
                // Overwritten records: go on with the next one.
                Err(e) if e.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
                Err(_) => return lines,
            }
        }
    }
}

/// Results of the whole run.
pub struct Report {
    log: KernelLog,
    verbose: bool,
    /// Of the open part.
    count: usize,
    failed: bool,
    start: Instant,
    any_failed: bool,
}

/// What a test ends with.
#[derive(Default)]
pub struct Outcome {
    /// What was wrong.
    pub wrong: Vec<String>,
    /// Figures for the result's line.
    pub figures: String,
    /// Why it could not be run.
    pub skipped: Option<String>,
}

impl Outcome {
    /// Notes something wrong.
    pub fn wrong(&mut self, what: impl Display) {
        self.wrong.push(what.to_string());
    }
}

impl Report {
    /// A run whose parts are `parts`.
    pub fn new(parts: &[&str], log: KernelLog, verbose: bool) -> Self {
        println!("#PLAN {}", parts.join(" "));
        Self {
            log,
            verbose,
            count: 0,
            failed: false,
            start: Instant::now(),
            any_failed: false,
        }
    }

    /// Starts a part.
    pub fn part(&mut self, name: &str) {
        println!("#SUITE {name}\nKTAP version 1");
        (self.count, self.failed, self.start) = (0, false, Instant::now());
        self.log.lines();
    }

    /// Ends it.
    pub fn end(&mut self, name: &str) {
        let status = i32::from(self.failed);
        println!("1..{}", self.count);
        println!("#END {name} {status} {}", self.start.elapsed().as_secs());
        self.any_failed |= self.failed;
    }

    /// Whether a test failed; ends the run.
    pub fn done(self) -> bool {
        println!("#DONE");
        self.any_failed
    }

    /// Runs a test and prints its result. An error of the test's own set-up is a failure.
    pub fn test(&mut self, name: &str, run: impl FnOnce(&mut Outcome) -> Result<()>) {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        if let Err(e) = run(&mut outcome) {
            outcome.wrong(format!("{e:#}"));
        }
        for line in self.log.lines() {
            if self.log.trouble.is_match(&line) {
                outcome.wrong(format!("kernel: {line}"));
            } else if self.verbose {
                println!("# kernel: {line}");
            }
        }
        self.count += 1;
        for line in outcome.wrong.iter().take(SHOWN) {
            println!("# {}", line.replace('\n', "\n# "));
        }
        if outcome.wrong.len() > SHOWN {
            println!("# and {} more", outcome.wrong.len() - SHOWN);
        }
        let seconds = start.elapsed().as_secs_f32();
        println!("# {name}: {} {seconds:.1} s", outcome.figures);
        let not = if outcome.wrong.is_empty() { "" } else { "not " };
        self.failed |= !outcome.wrong.is_empty();
        match outcome.skipped {
            Some(why) => println!("{not}ok {} {name} # SKIP {why}", self.count),
            None => println!("{not}ok {} {name}", self.count),
        }
    }
}
