// SPDX-License-Identifier: GPL-2.0
//! System call tests of a union filesystem type, `$FSTYPE`, on layers below
//! `$SCRATCH` and on loop images below `$IMAGES`.
//!
//! `rovl-syscalls [--list] [--topic TOPIC]... [PART-OF-A-NAME]...`

#[macro_use]
mod harness;
mod images;
mod sys;
mod topics;
mod union;

use std::path::{Path, PathBuf};

fn usage(why: &str) -> ! {
    eprintln!("rovl-syscalls: {why}");
    std::process::exit(2)
}

fn prepare(scratch: &Path) -> harness::Res {
    sys::private_mounts()?;
    std::fs::create_dir_all(scratch)?;
    Ok(())
}

fn main() {
    let mut wanted: Vec<String> = Vec::new();
    let mut filters = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        match a.as_str() {
            "--list" => {
                for (topic, tests) in topics::ALL {
                    println!("{topic} {}", tests.len());
                }
                return;
            }
            // What the tests of exec run.
            "--wait" => {
                println!("ready");
                let _ = std::io::stdin().read_line(&mut String::new());
                return;
            }
            "--euid" => {
                println!("{}", rustix::process::geteuid().as_raw());
                return;
            }
            "--topic" => match args.next() {
                Some(t) if topics::ALL.iter().any(|(n, _)| *n == t) => wanted.push(t),
                _ => usage("--topic needs the name of a topic, see --list"),
            },
            f if f.starts_with('-') => usage("unknown option"),
            _ => filters.push(a),
        }
    }
    let chosen: Vec<_> = topics::ALL
        .iter()
        .filter(|(n, _)| wanted.is_empty() || wanted.iter().any(|w| w == n))
        .copied()
        .collect();
    let Some(scratch) = std::env::var_os("SCRATCH").map(PathBuf::from) else {
        usage("SCRATCH must name an empty folder")
    };
    let base = scratch.join(format!("syscalls-{}", std::process::id()));
    if let Err(e) = prepare(&base) {
        usage(&e.msg);
    }
    // SAFETY: no memory is involved.
    unsafe { libc::umask(0o022) };
    let ok = harness::run(&chosen, &filters, &base);
    std::process::exit(if ok { 0 } else { 1 })
}
