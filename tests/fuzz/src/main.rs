// SPDX-License-Identifier: GPL-2.0
//! Random layers and operations on two union filesystems: nothing may differ. See Documentation/testing.rst.

mod case;
mod differences;
mod exec;
mod generate;
mod kmsg;
mod layer;
mod op;
mod outcome;
mod run;
mod script;
mod session;
mod shrink;
mod side;
mod sys;
mod tree;
mod wrong;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::io::BufRead;

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds, after the kept cases.
    Run(session::Options),
    /// Runs kept cases and shows each step's outcome.
    Replay {
        #[command(flatten)]
        place: Place,
        cases: Vec<String>,
    },
    /// Prints a case as a script.
    Script { case: String },
    /// Prints the case of a seed.
    Generate {
        seed: u64,
        #[arg(long, default_value_t = 200)]
        steps: usize,
    },
    /// Does the steps that standard input has, one a line in JSON, in a mounted tree.
    Steps { mnt: String },
}

/// Where and on what cases run.
#[derive(Args, Clone)]
pub struct Place {
    /// Filesystem type of the first side.
    #[arg(long, default_value = "rovl")]
    a: String,
    /// Filesystem type of the second side.
    #[arg(long, default_value = "overlay")]
    b: String,
    /// An empty folder.
    #[arg(long, default_value = "/mnt")]
    dir: String,
    /// Where images of other filesystems are made.
    #[arg(long, default_value = "/images")]
    images: String,
    /// The file of wanted differences.
    #[arg(long)]
    differences: Option<String>,
    /// A regular expression of kernel messages that are failures.
    #[arg(long)]
    trouble: Option<String>,
    /// Seconds that a step may take.
    #[arg(long, default_value_t = 60)]
    hang: u64,
}

/// Does steps from standard input on one tree, for scripts.
fn steps(mnt: String) -> Result<()> {
    let case = case::Case {
        upper_fs: "tmpfs".into(),
        root_mode: 0o755,
        umask: 0o022,
        ..case::Case::default()
    };
    let fs = side::Type {
        name: String::new(),
        options: String::new(),
    };
    let mut side = side::Side::new(&case, fs, String::new(), String::new());
    side.mnt = mnt;
    let mut sides = [side];
    for line in std::io::stdin().lock().lines() {
        let step: op::Step = serde_json::from_str(&line?)?;
        println!("{}", exec::step(&mut sides, &step)[0]);
    }
    Ok(())
}

fn load(path: &str) -> Result<case::Case> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    serde_json::from_str(&text).with_context(|| format!("in {path}"))
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) => std::process::exit(i32::from(!session::run(&options)?)),
        Command::Replay { place, cases } => {
            std::process::exit(i32::from(!session::replay(&place, &cases)?))
        }
        Command::Script { case } => print!("{}", script::script(&load(&case)?)),
        Command::Generate { seed, steps } => {
            let wish = generate::Wish {
                upper_fs: "tmpfs",
                steps,
                hostile: false,
            };
            println!(
                "{}",
                serde_json::to_string_pretty(&generate::case(seed, &wish))?
            );
        }
        Command::Steps { mnt } => steps(mnt)?,
    }
    Ok(())
}
