// SPDX-License-Identifier: GPL-2.0
//! `rovl` shows what a union mount consists of; by the name `mount.TYPE` it is mount(8)'s helper of that type.
#![forbid(unsafe_code)]

mod caller;
mod layers;
mod merge;
mod mount;
mod mountinfo;
mod options;
mod show;
mod term;
mod which;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a union mount (rovl or overlayfs) consists of.
#[derive(Parser)]
#[command(name = "rovl", version, after_help = HELP)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Layers written by overlayfs are read as well as those written by rovl, and no module has to be
loaded for it. Most of this wants root, as the attributes trusted.overlay.* do.";

#[derive(Subcommand)]
enum Command {
    /// The layers of a mount, the filesystems that they are on, the options in effect
    Show {
        /// The mount point, or anything in it
        mount: PathBuf,
        /// Where relative names of layers start
        #[arg(long, value_name = "DIR")]
        base: Option<PathBuf>,
        /// Where options that were asked for are looked up
        #[arg(long, value_name = "FILE", default_value = "/etc/fstab")]
        fstab: PathBuf,
    },
    /// Which layers the attributes and the data of a file come from, and what hides the rest
    ///
    /// Exits with 1 where the union shows nothing of that name.
    Which {
        /// A path in a union mount, even of something that was removed; a symlink is not followed
        path: PathBuf,
        /// Where relative names of layers start
        #[arg(long, value_name = "DIR")]
        base: Option<PathBuf>,
    },
}

fn run(command: Command) -> Result<bool, String> {
    match command {
        Command::Show { mount, base, fstab } => {
            show::run(&mount, base.as_deref(), &fstab).map(|()| true)
        }
        Command::Which { path, base } => which::run(&path, base.as_deref()),
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name);
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    if let Some(fstype) = name.strip_prefix("mount.") {
        return mount::main(fstype, args);
    }
    match run(Args::parse_from(args).command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(text) => {
            eprintln!("rovl: {text}");
            ExitCode::from(2)
        }
    }
}
