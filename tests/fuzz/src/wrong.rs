// SPDX-License-Identifier: GPL-2.0
//! Whether a mount shows another file than the one named.

use crate::case::below;
use crate::outcome::show;
use crate::side::{Ids, Side};
use crate::sys::Sys;
use crate::tree::{self, View};

/// A file of the mount whose content no layer has under its name. No mark of a layer may lead to another one while
/// redirects and metadata copies are off.
pub fn wrong_file(side: &Side) -> Sys<Option<String>> {
    let layers: Vec<_> = [side.upper()]
        .into_iter()
        .chain((0..side.lowers).map(|i| side.lower(i)))
        .collect();
    for item in tree::read(&side.mnt, View::Merged, &mut Ids::default())? {
        let Some((_, content)) = item.fields.iter().find(|(name, _)| *name == "content") else {
            continue;
        };
        let path = crate::case::text(&item.path);
        if !layers
            .iter()
            .any(|layer| tree::hash(&below(layer, &path)) == Ok(*content))
        {
            return Ok(Some(show(&item.path)));
        }
    }
    Ok(None)
}
