// SPDX-License-Identifier: GPL-2.0

//! Files whose data is in a data-only layer.

use super::{look, open_close};
use crate::op::{Object, Op, Site};
use crate::tree::Tree;

const GROUP: &str = "data";

pub fn ops() -> Vec<Op> {
    let of = |layers| {
        let body = |_: &Site, o: &Object| open_close(o);
        let each = |name| Op::each(name, GROUP, 40, |n| format!("d/o{n}"), body).per("file");
        let ops = [
            Op::again(format!("data-open-{layers}"), GROUP, "d/o0", body),
            // Its attributes are known, its data is not.
            each(format!("data-first-open-{layers}")).prepare(look),
            each(format!("data-open-{layers}-cold")).cold(),
        ];
        ops.map(|op| op.tree(Tree::Data { layers }).max_layers(100))
    };
    [1, 3].into_iter().flat_map(of).collect()
}
