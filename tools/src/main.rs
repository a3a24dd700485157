// SPDX-License-Identifier: GPL-2.0
//! `rovl` shows what a union mount consists of; by the name `mount.TYPE` it is mount(8)'s helper of that type.
#![forbid(unsafe_code)]

mod caller;
mod check;
mod diff;
mod json;
mod layer_tar;
mod layers;
mod merge;
mod mount;
mod mountinfo;
mod options;
mod show;
mod status;
mod term;
mod which;

use crate::check::Check;
use crate::diff::Format;
use crate::layers::Layers;
use crate::mountinfo::Table;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::ffi::OsString;
use std::io::IsTerminal;
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
        /// One object
        #[arg(long)]
        json: bool,
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
        /// One object
        #[arg(long)]
        json: bool,
    },
    /// What the upper layer changes: a line a path, JSON, or a layer of an OCI image
    #[command(after_help = DIFF)]
    Diff(Diff),
    /// Damaged marks in an upper layer, marks that lead nowhere, and what is left over
    ///
    /// Without --lower, what depends on lower layers is not looked at. Exits with 1 where something is left wrong.
    Check(CheckArgs),
    /// Which modules the kernel has, and whether overlay is its own or rovl's drop-in
    ///
    /// Exits with 1 where what is loaded is not what /etc/modprobe.d/rovl.conf chooses: it will be from the next boot on.
    Status,
}

#[derive(ClapArgs)]
struct CheckArgs {
    /// The upper layer
    upper: PathBuf,
    /// Its work directory
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// All lower layers of it, the topmost first
    #[arg(long, value_name = "DIR", num_args = 1..)]
    lower: Vec<PathBuf>,
    /// A layer that has data alone; one or more
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "lower")]
    data: Vec<PathBuf>,
    /// It was mounted with the option userxattr
    #[arg(long)]
    userxattr: bool,
    /// Mend what can be without loss; the layers may not be mounted
    #[arg(long)]
    repair: bool,
}

const DIFF: &str = "\
A line says what became of a path: added, modified (other data), attributes (no other data),
removed, replaced (by an object of which nothing is the lower one's), renamed (with where the
lower layers have it). Files are compared byte by byte; one that is as it was is left out.

A layer for a container engine: rovl diff --tar MOUNT >layer.tar";

#[derive(ClapArgs)]
struct Diff {
    /// A union mount
    #[arg(required_unless_present = "upper", conflicts_with_all = ["upper", "lower", "data", "userxattr"])]
    mount: Option<PathBuf>,
    /// An upper layer that need not be mounted
    #[arg(long, value_name = "DIR", requires = "lower")]
    upper: Option<PathBuf>,
    /// A lower layer of it, the topmost first; one or more
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "upper")]
    lower: Vec<PathBuf>,
    /// A layer that has data alone; one or more
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "upper")]
    data: Vec<PathBuf>,
    /// The layers were mounted with the option userxattr
    #[arg(long)]
    userxattr: bool,
    /// Where relative names of a mount's layers start
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// An array with one object a change
    #[arg(long)]
    json: bool,
    /// A tar archive, as the layers of OCI images are, on standard output
    #[arg(long, conflicts_with = "json")]
    tar: bool,
}

impl Diff {
    fn run(self) -> Result<(), String> {
        let layers = match self.mount {
            Some(mount) => {
                let table = Table::read()?;
                let mount = table.union_of(&mount)?;
                Layers::of_mount(mount, self.base.as_deref())?.readable(Some((mount, &table)))?
            }
            None => {
                Layers::of_dirs(self.upper, self.lower, self.data, self.userxattr).readable(None)?
            }
        };
        let format = match (self.json, self.tar) {
            (true, _) => Format::Json,
            (_, true) if std::io::stdout().is_terminal() => {
                return Err("an archive is not for a terminal: add '>layer.tar'".to_owned());
            }
            (_, true) => Format::Tar,
            _ => Format::Lines,
        };
        diff::run(layers, format)
    }
}

fn run(command: Command) -> Result<bool, String> {
    match command {
        Command::Show {
            mount,
            base,
            fstab,
            json,
        } => show::run(&mount, base.as_deref(), &fstab, json).map(|()| true),
        Command::Which { path, base, json } => which::run(&path, base.as_deref(), json),
        Command::Diff(diff) => diff.run().map(|()| true),
        Command::Check(args) => {
            let layers = Layers::of_dirs(Some(args.upper), args.lower, args.data, args.userxattr);
            Check::new(layers.readable(None)?, args.work, args.repair)?.run()
        }
        Command::Status => status::run(),
    }
}

/// Writes manual pages and completion for bash.
#[cfg(feature = "pages")]
fn pages(dir: &Path) -> std::io::Result<()> {
    use clap::CommandFactory;
    std::fs::create_dir_all(dir)?;
    let mut own = Args::command();
    clap_complete::generate_to(clap_complete::Shell::Bash, &mut own, "rovl", dir)?;
    own.build();
    let mut page = std::fs::File::create(dir.join("rovl.1"))?;
    clap_mangen::Man::new(own.clone()).render(&mut page)?;
    for command in own
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help")
    {
        let name = format!("rovl-{}", command.get_name());
        let mut page = std::fs::File::create(dir.join(format!("{name}.1")))?;
        clap_mangen::Man::new(command.clone().name(name)).render(&mut page)?;
    }
    let mut page = std::fs::File::create(dir.join("mount.rovl.8"))?;
    clap_mangen::Man::new(mount::command())
        .section("8")
        .render(&mut page)
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name);
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    if let Some(fstype) = name.strip_prefix("mount.") {
        return mount::main(fstype, args);
    }
    #[cfg(feature = "pages")]
    if let Some(dir) = std::env::var_os("ROVL_PAGES") {
        return match pages(Path::new(&dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
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
