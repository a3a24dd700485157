// SPDX-License-Identifier: GPL-2.0
//! By the name `mount.TYPE` this is mount(8)'s helper of that type.
#![forbid(unsafe_code)]

mod mount;
mod mountinfo;
mod options;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name);
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    mount::main(name.strip_prefix("mount.").unwrap_or("rovl"), args)
}
