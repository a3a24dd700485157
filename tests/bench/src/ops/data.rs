// SPDX-License-Identifier: GPL-2.0

//! Files whose data is in a data-only layer.

use anyhow::Result;
use rustix::fs::{open, OFlags};

use super::{look, RW};
use crate::op::{Object, Op, Site};
use crate::tree::Tree;

const GROUP: &str = "data";

fn open_close(_: &Site, o: &Object) -> Result<()> {
    Ok(open(&o.path, OFlags::RDONLY, RW).map(drop)?)
}

pub fn ops() -> Vec<Op> {
    let of = |layers| {
        let tree = Tree::Data { layers };
        let each = |name: String| {
            Op::each(name, GROUP, 40, |n| format!("d/o{n}"), open_close)
                .tree(tree)
                .per("file")
                .max_layers(100)
        };
        [
            Op::again(format!("data-open-{layers}"), GROUP, "d/o0", open_close)
                .tree(tree)
                .max_layers(100),
            // Its attributes are known, its data is not.
            each(format!("data-first-open-{layers}")).prepare(look),
            each(format!("data-open-{layers}-cold")).cold(),
        ]
    };
    [1, 3].into_iter().flat_map(of).collect()
}
