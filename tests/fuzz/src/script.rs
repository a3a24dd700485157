// SPDX-License-Identifier: GPL-2.0
//! A case as a script for a person: common tools where there are some, `rovl-fuzz steps` for the rest.

use crate::case::{bytes, Case, Entry, What};
use crate::op::{At, Op, Step, When};
use std::fmt::Write;

/// A word of bash.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("$'");
    for b in bytes(text) {
        match b {
            b'\'' | b'\\' => {
                out.push('\\');
                out.push(char::from(b));
            }
            b' '..=b'~' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "\\x{b:02x}");
            }
        }
    }
    out.push('\'');
    out
}

fn hex(value: &str) -> String {
    let mut out = String::from("0x");
    for b in bytes(value) {
        let _ = write!(out, "{b:02x}");
    }
    out
}

fn file(root: &str, path: &str) -> String {
    if path.is_empty() {
        root.to_owned()
    } else {
        word(&format!("{root}/{path}"))
    }
}

fn node(path: &str, mode: u32, rdev: u64) -> String {
    let dev = format!("{} {}", libc::major(rdev), libc::minor(rdev));
    match mode & libc::S_IFMT {
        libc::S_IFIFO => format!("mkfifo {path}"),
        libc::S_IFCHR => format!("mknod {path} c {dev}"),
        libc::S_IFBLK => format!("mknod {path} b {dev}"),
        _ => format!("python3 -c 'import os, sys; os.mknod(sys.argv[1], 0o{mode:o})' {path}"),
    }
}

fn entry(out: &mut String, case: &Case, root: &str, e: &Entry) {
    let path = file(root, &e.path);
    let line = match &e.what {
        What::Dir => format!("mkdir {path}"),
        What::File { size, pieces } => {
            let mut line = format!("truncate -s {size} {path}");
            for (at, len, fill) in pieces {
                // Other bytes than the fuzzer's, as long.
                let _ = write!(
                    line,
                    "; head -c {len} /dev/zero | tr '\\0' '\\{:03o}' | dd of={path} bs=64K oflag=seek_bytes seek={at} conv=notrunc status=none",
                    b'a' + fill % 26
                );
            }
            line
        }
        What::Symlink { target } => format!("ln -s {} {path}", word(target)),
        What::Link { to } => format!("ln {} {path}", file(root, to)),
        What::Node { kind, rdev } => node(&path, *kind, *rdev),
        What::Whiteout => format!("mknod {path} c 0 0"),
        What::XattrWhiteout => {
            let own = case.own_prefix();
            format!(": >{path}; setfattr -n {own}whiteout {path}")
        }
    };
    let _ = writeln!(out, "{line}");
    if matches!(
        e.what,
        What::Whiteout | What::XattrWhiteout | What::Link { .. }
    ) {
        return;
    }
    if (e.uid, e.gid) != (0, 0) {
        let _ = writeln!(out, "chown -h {}:{} {path}", e.uid, e.gid);
    }
    if !matches!(e.what, What::Symlink { .. }) {
        let _ = writeln!(out, "chmod {:o} {path}", e.mode);
    }
    for (name, value) in &e.xattrs {
        let _ = writeln!(
            out,
            "setfattr -h -n {} -v {} {path}",
            word(name),
            hex(value)
        );
    }
    if let Some(of) = &e.digest_of {
        let own = case.own_prefix();
        let _ = writeln!(
            out,
            "m=$(digest {of}) && setfattr -n {own}metacopy -v $m {path}"
        );
    }
    if e.guarded {
        let _ = writeln!(out, "fsverity enable {path}");
    }
}

/// The times and flags of a layer's entries, the last one first: a directory after what is in it.
fn times(out: &mut String, root: &str, entries: &[Entry]) {
    for e in entries.iter().rev() {
        let _ = writeln!(out, "touch -h -d @{} {}", e.time, file(root, &e.path));
        if e.flags != 0 {
            let _ = writeln!(out, "chattr ={} {}", letters(e.flags), file(root, &e.path));
        }
    }
}

fn letters(flags: u32) -> String {
    [
        (0x10, 'i'),
        (0x20, 'a'),
        (0x40, 'd'),
        (0x80, 'A'),
        (0x8, 'S'),
    ]
    .iter()
    .filter(|(bit, _)| flags & bit != 0)
    .map(|(_, letter)| letter)
    .collect()
}

/// A path that tools follow, and an option for one whose symlink they must not.
fn target(at: &At, no_follow: &str) -> Option<String> {
    match at {
        At::Path(path) => Some(file("m", path)),
        At::Link(path) => Some(format!("{no_follow} {}", file("m", path))),
        At::Slot(_) => None,
    }
}

fn when(letter: char, when: When) -> Option<String> {
    match when {
        When::At(sec, nsec) => Some(format!("touch -c -{letter} -d @{sec}.{nsec:09}")),
        When::Now => Some(format!("touch -c -{letter}")),
        When::Omit => None,
    }
}

/// A command of common tools that makes the same system call.
fn command(op: &Op) -> Option<String> {
    let m = |path: &str| file("m", path);
    Some(match op {
        Op::Mkdir { path, mode } => format!("mkdir -m {mode:o} {}", m(path)),
        Op::Rmdir { path } => format!("rmdir {}", m(path)),
        Op::Unlink { path } => format!("unlink {}", m(path)),
        Op::Symlink { target, path } => format!("ln -sT {} {}", word(target), m(path)),
        Op::Link {
            old: At::Path(old),
            new,
        } => format!("ln -LT {} {}", m(old), m(new)),
        Op::Link {
            old: At::Link(old),
            new,
        } => format!("ln -PT {} {}", m(old), m(new)),
        Op::Rename { old, new, flags: 0 } => {
            format!(
                "python3 -c 'import os, sys; os.rename(*sys.argv[1:])' {} {}",
                m(old),
                m(new)
            )
        }
        Op::Rename { old, new, flags: 2 } => format!("mv --exchange -T {} {}", m(old), m(new)),
        Op::Mknod { path, mode, rdev } => node(&m(path), *mode, *rdev),
        Op::Chmod { at, mode } => format!("chmod {mode:o} {}", target(at, "")?),
        Op::Chown { at, uid, gid } => {
            let id = |id: &u32| {
                if *id == u32::MAX {
                    String::new()
                } else {
                    id.to_string()
                }
            };
            format!("chown {}:{} {}", id(uid), id(gid), target(at, "-h")?)
        }
        Op::Utimes { at, atime, mtime } => {
            // Two calls for one, where both times are set.
            let parts: Vec<_> = [when('a', *atime), when('m', *mtime)]
                .into_iter()
                .flatten()
                .collect();
            let path = target(at, "-h")?;
            parts
                .iter()
                .map(|part| format!("{part} {path}"))
                .collect::<Vec<_>>()
                .join("; ")
        }
        Op::Truncate {
            at: At::Path(path),
            size,
        } => format!("truncate -s {size} {}", m(path)),
        Op::SetXattr {
            at,
            name,
            value,
            flags: 0,
        } if !name.is_empty() => {
            format!(
                "setfattr -n {} -v {} {}",
                word(name),
                hex(value),
                target(at, "-h")?
            )
        }
        Op::GetXattr { at, name, .. } => {
            format!("getfattr -n {} {}", word(name), target(at, "-h")?)
        }
        Op::RemoveXattr { at, name } => format!("setfattr -x {} {}", word(name), target(at, "-h")?),
        Op::ListXattr { at } => format!("getfattr -d -m - {}", target(at, "-h")?),
        Op::SetFlags {
            at: At::Path(path),
            flags,
        } => format!("chattr ={} {}", letters(*flags), m(path)),
        Op::GetFlags { at: At::Path(path) } => format!("lsattr -d {}", m(path)),
        Op::Stat { at: At::Path(path) } => format!("stat -L {}", m(path)),
        Op::Stat { at: At::Link(path) } => format!("stat {}", m(path)),
        Op::Readlink { path } => format!("readlink {}", m(path)),
        Op::List {
            at: At::Path(path), ..
        } => format!("ls -A {}", m(path)),
        Op::Remount { read_only } => format!(
            "mount -o remount,{} m",
            if *read_only { "ro" } else { "rw" }
        ),
        Op::Again { close: true } => "umount m && mnt".to_owned(),
        Op::DropCaches => "echo 2 >/proc/sys/vm/drop_caches".to_owned(),
        Op::Checkpoint => "ls -lAR m u".to_owned(),
        _ => return None,
    })
}

fn slots(op: &Op) -> bool {
    matches!(op, Op::Again { close: true }) || command(op).is_none()
}

fn step(out: &mut String, step: &Step, helper: bool) {
    let json = serde_json::to_string(step).unwrap_or_default();
    match command(&step.op) {
        // The helper has to close its files before.
        Some(command) if !(helper && matches!(step.op, Op::Again { .. })) => {
            let user = match step.who {
                0 => String::new(),
                who => format!("as {} ", 1000 + u32::from(who)),
            };
            let _ = writeln!(out, "{user}{command}");
        }
        Some(command) => {
            let _ = writeln!(out, "restart; {command}; restart");
        }
        None => {
            let _ = writeln!(out, "step {}", word(&json));
        }
    }
}

/// The script of a case.
pub fn script(case: &Case) -> String {
    let mut out = String::from(
        "#!/bin/bash\n# Usage: as root, in an empty folder: SCRIPT [rovl|overlay]; compare what the two show.\n",
    );
    let helper = case.steps.iter().any(|s| slots(&s.op));
    if helper {
        out.push_str("# FUZZ is the program rovl-fuzz (build/cargo/x86_64-unknown-linux-gnu/release/rovl-fuzz).\n");
    }
    let _ = writeln!(out, "# Seed {}, upper on {}.", case.seed, case.upper_fs);
    out.push_str("\nfs=${1:-rovl}\n");
    let lowers: Vec<_> = (0..case.lowers.len()).map(|i| format!("l{i}")).collect();
    let data: Vec<_> = (0..case.data.len()).map(|i| format!("d{i}")).collect();
    let _ = writeln!(
        out,
        "mkdir {} {} u w m\nchmod {:o} {} u",
        lowers.join(" "),
        data.join(" "),
        case.root_mode,
        lowers.join(" ")
    );
    let option = if case.copy_up_open {
        "; [ $fs = overlay ] || o+=,copy_up=open"
    } else {
        ""
    };
    let merged = lowers.join(":");
    let all: Vec<_> = [merged].into_iter().chain(data.iter().cloned()).collect();
    let _ = writeln!(
        out,
        "o=lowerdir={},upperdir=u,workdir=w{}{option}",
        all.join("::"),
        case.options()
    );
    out.push_str("mnt() { rm -rf w/work/incompat/volatile; mount -t $fs -o $o none m; }\n");
    out.push_str("as() { setpriv --reuid $1 --regid $1 --clear-groups -- \"${@:2}\"; }\n");
    if helper {
        out.push_str("restart() { eval \"exec ${F[1]}>&-\"; wait; coproc F { \"$FUZZ\" steps \"$PWD/m\"; }; }\n");
        out.push_str("step() { echo \"$1\" >&${F[1]}; read -r r <&${F[0]}; echo \"$1 = $r\"; }\n");
    }
    if case.lowers.iter().flatten().any(|e| e.digest_of.is_some()) {
        out.push_str("digest() { fsverity measure $1 | sed 's/^sha256:/0x00240001/; s/ .*//'; }\n");
    }
    for (name, entries) in data
        .iter()
        .map(|n| &**n)
        .zip(&case.data)
        .chain(lowers.iter().map(|n| &**n).zip(&case.lowers))
        .chain([("u", &case.upper)])
    {
        for e in entries {
            entry(&mut out, case, name, e);
        }
        times(&mut out, name, entries);
    }
    if case.split {
        out.push_str("# The lower layers have to be on another filesystem than u and w.\n");
    }
    let _ = writeln!(out, "mnt\numask {:03o}", case.umask);
    if helper {
        out.push_str("coproc F { \"$FUZZ\" steps \"$PWD/m\"; }\n");
    }
    for s in &case.steps {
        step(&mut out, s, helper);
    }
    out
}
