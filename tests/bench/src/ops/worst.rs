// SPDX-License-Identifier: GPL-2.0

//! What a union that learns fears: directories, cold, on a new mount, that are used for one pass, of any length, and never again. Each
//! figure is for one name of the whole pass, so that whatever was paid on the way to be quick later is in it.

use anyhow::Result;
use rustix::fs::{chmod, open, stat, unlink, Mode};

use super::{absent, readdir::list, CREATE, RW};
use crate::op::{Object, Op, Site};
use crate::tree::{copies, Tree};

const GROUP: &str = "worst";

/// Names of each layer, and how long the passes are: what is learnt pays off, or not, somewhere between them.
const DIRECTORIES: [(usize, &[usize]); 3] = [
    (10, &[10, 20, 26, 28, 30, 32, 34, 36, 40, 80, 160, 320]),
    (
        1000,
        &[20, 80, 160, 320, 640, 1280, 1400, 1500, 1700, 1800, 2560],
    ),
    (10_000, &[80, 640, 1280, 2560, 5120, 10_240]),
];
const MAX_LAYERS: usize = 30;

/// So many directories with so many names of each layer, and a pass over each that is just long enough for names to be learnt, of few
/// or of many layers.
const MANY: [(usize, usize, usize); 3] = [(640, 10, 28), (640, 10, 34), (80, 100, 150)];

/// How often a directory of one layer is listed.
const LISTED: [usize; 8] = [1, 2, 3, 4, 8, 12, 16, 32];

fn create(_: &Site, o: &Object) -> Result<()> {
    Ok(open(&o.path, CREATE, RW).map(drop)?)
}

fn missing(_: &Site, o: &Object) -> Result<()> {
    absent(stat(&o.path))
}

fn over(
    tree: Tree,
    name: String,
    names: usize,
    path: impl Fn(usize) -> String + 'static,
    body: impl Fn(&Site, &Object) -> Result<()> + 'static,
) -> Op {
    Op::each(name, GROUP, names, path, body)
        .tree(tree)
        .max_layers(MAX_LAYERS)
        .repeats(3)
        .cold()
        .per("name")
}

fn pass(
    name: &str,
    (names, length): (usize, usize),
    path: impl Fn(usize) -> String + 'static,
    body: impl Fn(&Site, &Object) -> Result<()> + 'static,
) -> Op {
    let name = format!("{name}-{length}-of-{names}");
    over(Tree::Each(names), name, length, path, body).fresh()
}

pub fn ops() -> Vec<Op> {
    let mut ops = Vec::new();
    for (names, lengths) in DIRECTORIES {
        for &length in lengths {
            let this = (names, length);
            // No layer has it.
            ops.push(pass(
                "pass-missing",
                this,
                |n| format!("d/missing{n}"),
                missing,
            ));
            ops.push(
                pass("pass-create", this, |n| format!("d/new{n}"), create)
                    .changes()
                    .finish(|_, o| Ok(unlink(&o.path)?)),
            );
            // The lowest has it.
            if length <= names {
                let lowest = move |n| format!("d/lowest{}", n % length);
                ops.push(pass("pass-stat", this, lowest, |_, o| {
                    Ok(stat(&o.path).map(drop)?)
                }));
            }
            if length * 4 <= names {
                let next = |n| format!("d/lowest{n}");
                ops.push(
                    pass("pass-chmod", this, next, |_, o| {
                        Ok(chmod(&o.path, Mode::RWXU)?)
                    })
                    .changes(),
                );
            }
        }
    }
    for names in [10, 1000] {
        let count = copies(names);
        for times in LISTED {
            let name = format!("pass-list-{times}-times-of-{names}");
            let path = move |n| format!("l{}", n % count);
            ops.push(
                over(
                    Tree::Plain(names),
                    name,
                    count * times,
                    path,
                    move |_, o| list(&o.path, names).map(drop),
                )
                .fresh()
                .max_layers(3)
                .per("listing"),
            );
        }
    }
    for (count, names, length) in MANY {
        ops.push(over(
            Tree::Directories { count, names },
            format!("passes-missing-{length}-of-{names}-in-{count}"),
            count * length,
            move |n| format!("e{}/missing{n}", n / length % count),
            missing,
        ));
    }
    ops
}
