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

/// Names that can't be looked up because of what a layer says about them.
pub fn refused(side: &Side) -> Sys<Vec<String>> {
    let mut names = Vec::new();
    for item in tree::read(&side.mnt, View::Merged, &mut Ids::default())? {
        let error = item.fields.iter().find(|(name, _)| *name == "stat error");
        let name = item.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        // The log has other names in an escaped form.
        if error.is_some_and(|e| e.1 != libc::ENOENT as u64)
            && name.iter().all(u8::is_ascii_alphanumeric)
        {
            names.push(crate::case::text(name));
        }
    }
    Ok(names)
}
