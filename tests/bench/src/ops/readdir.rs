// SPDX-License-Identifier: GPL-2.0

//! Listing directories.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use anyhow::{ensure, Result};
use rustix::fs::{access, open, unlink, Access, OFlags, RawDir};
use rustix::io::Errno;

use super::{CREATE, RW};
use crate::op::{Object, Op, Site};
use crate::tree::{copies, names, Tree};

const GROUP: &str = "readdir";

/// Opens and reads a directory, which has to have this many names at least.
pub fn list(path: &CStr, least: usize) -> Result<OwnedFd> {
    let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY, RW)?;
    let mut buffer = [MaybeUninit::uninit(); 32 << 10];
    let mut reader = RawDir::new(&dir, &mut buffer);
    let mut found = 0;
    while let Some(entry) = reader.next() {
        entry?;
        found += 1;
    }
    ensure!(found >= least, "{found} names, but there are {least}");
    Ok(dir)
}

/// Makes a name in the directory, or removes it.
fn change(_: &mut Site, o: &Object) -> Result<()> {
    let name = format!("{}/change", o.path.to_str()?);
    match access(&name, Access::EXISTS) {
        Ok(()) => Ok(unlink(&name)?),
        Err(Errno::NOENT) => Ok(open(&name, CREATE, RW).map(drop)?),
        Err(e) => Err(e.into()),
    }
}

/// Directories called by this letter and a number.
fn of(letter: char, total: usize, name: &str) -> Op {
    let copies = copies(total);
    let op = Op::each(
        name,
        GROUP,
        copies,
        move |n| format!("{letter}{}", n % copies),
        move |_, o| list(&o.path, total).map(drop),
    );
    let op = op.per("listing");
    match letter {
        _ if total < 10_000 => op,
        'm' => op.repeats(3),
        _ => op.repeats(3).max_layers(10),
    }
}

/// The first listing, and the ones that follow.
fn both(letter: char, total: usize, name: &str) -> [Op; 2] {
    let again = of(letter, total, name);
    let rounds = 100 / again.objects;
    [
        of(letter, total, &format!("{name}-first")).cold(),
        if total > 1000 {
            again
        } else {
            again.rounds(rounds)
        },
    ]
}

pub fn ops() -> Vec<Op> {
    let mut ops = Vec::new();
    for total in [10, 1000, 100_000] {
        ops.extend(
            both('m', total, &format!("readdir-merged-{total}"))
                .map(|op| op.tree(Tree::Merged(total))),
        );
        let changed = of('m', total, &format!("readdir-merged-{total}-changed"));
        ops.push(changed.tree(Tree::Merged(total)).changes().prepare(change));
        ops.extend(
            both('l', total, &format!("readdir-lower-{total}"))
                .map(|op| op.tree(Tree::Plain(total))),
        );
        ops.extend(
            both('u', total, &format!("readdir-upper-{total}")).map(|op| {
                op.tree(Tree::Empty).changes().stage(move |dir| {
                    (0..copies(total))
                        .try_for_each(|copy| names(&dir.join(format!("u{copy}")), "n", 0..total))
                })
            }),
        );
    }
    // Layers on several filesystems have other numbers then.
    for (letter, name, tree) in [
        ('m', "merged", Tree::Merged(1000)),
        ('l', "lower", Tree::Plain(1000)),
    ] {
        let ops_of = both(letter, 1000, &format!("readdir-{name}-1000-xino"));
        ops.extend(ops_of.map(|op| op.tree(tree).options("xino=on")));
    }
    // As many names as there are layers, times a thousand.
    let wide = |name| {
        Op::each(
            name,
            GROUP,
            1,
            |_| "m0".into(),
            |_, o| list(&o.path, 1000).map(drop),
        )
        .tree(Tree::Wide)
        .max_layers(100)
        .per("listing")
    };
    ops.extend([wide("readdir-wide-first").cold(), wide("readdir-wide")]);
    ops
}
