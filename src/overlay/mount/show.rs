// SPDX-License-Identifier: GPL-2.0

//! What users see of a mount: `statfs(2)`, the options in `/proc/mounts`.

use super::{
    options::{CopyUp, Uuid},
    params,
};
use crate::{
    overlay::union::{Dentry, Overlay},
    vfs::{self, super_block::StatFs, CBuf},
};
use kernel::{prelude::*, seq_file::SeqFile};

/// Sizes of upper (or the topmost lower layer), magic number of union filesystems.
pub(crate) fn statfs(dentry: &Dentry) -> Result<StatFs> {
    let fs = dentry.fs();
    let root = dentry.own_sb().root()?;
    let mut stat = StatFs::read(root.own_positive()?.attributes()?)?;
    stat.set_name_len(fs.name_len);
    stat.set_union_magic();
    if fs.config.uuid == Uuid::Auto {
        stat.set_fsid(dentry.sb());
    }
    Ok(stat)
}

/// Prints the options such that they can be mounted again.
pub(crate) fn show_options(fs: &Overlay, out: &SeqFile) {
    let show = |key: &CStr, value: &CBuf| vfs::log::show_option(out, key, value.as_cstr());
    match &fs.shown.lowerdir {
        Some(list) => show(c"lowerdir", list),
        None => fs
            .shown
            .lower
            .iter()
            .for_each(|name| show(c"lowerdir+", name)),
    }
    if let Some(name) = &fs.shown.upper {
        show(c"upperdir", name);
    }
    if let Some(name) = &fs.shown.work {
        show(c"workdir", name);
    }
    if fs.config.default_permissions {
        kernel::seq_print!(out, ",default_permissions");
    }
    if let Some(value) = fs.config.shown_redirect_dir(params::defaults()) {
        kernel::seq_print!(out, ",redirect_dir={value}");
    }
    if fs.config.copy_up == CopyUp::AtOpen {
        kernel::seq_print!(out, ",copy_up=open");
    }
    if fs.config.uuid == Uuid::Null {
        kernel::seq_print!(out, ",uuid=null");
    }
}
