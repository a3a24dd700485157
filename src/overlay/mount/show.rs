// SPDX-License-Identifier: GPL-2.0

//! What users see of a mount: `statfs(2)`, the options in `/proc/mounts`.

use super::{options::Requested, params};
use crate::{
    overlay::{
        layer::numbering::Numbering,
        union::{Dentry, Overlay},
    },
    vfs::{self, super_block::StatFs, CBuf},
};
use kernel::{prelude::*, seq_file::SeqFile};

/// Sizes of upper (or the topmost lower layer), magic number of union filesystems.
pub(crate) fn statfs(dentry: &Dentry) -> Result<StatFs> {
    let fs = dentry.fs();
    let root = dentry.own_sb().root()?;
    let mut stat = StatFs::read(root.own_positive()?.attributes()?)?;
    stat.set_name_len(fs.name_len);
    stat.set_magic::<Overlay>();
    if fs.config.has_uuid() {
        stat.set_fsid(dentry.sb());
    }
    Ok(stat)
}

/// Prints the options such that they can be mounted again.
pub(crate) fn show_options(fs: &Overlay, out: &SeqFile) {
    let given = &fs.given;
    let show = |key: &CStr, name: &CBuf| vfs::log::show_option(out, key, name.as_cstr());
    match &given.lowerdir {
        Some(list) => show(c"lowerdir", list),
        None => {
            given.lower.iter().for_each(|name| show(c"lowerdir+", name));
            given.data.iter().for_each(|name| show(c"datadir+", name));
        }
    }
    if let Some((upper, work)) = given.upper.as_ref().zip(given.work.as_ref()) {
        show(c"upperdir", upper);
        show(c"workdir", work);
    }
    let mut default = Requested::new(params::parameters()).settings;
    if fs.numbering == Numbering::OneFs {
        // Nothing depends on it.
        default.xino = fs.config.xino;
    }
    for option in fs.config.shown(&default) {
        kernel::seq_print!(out, ",{option}");
    }
}
