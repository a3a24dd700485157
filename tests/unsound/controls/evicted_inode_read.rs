// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::rcu::{RcuError, RcuInode},
};

fn control(inode: RcuInode<'_, Overlay>) -> Result<bool, RcuError> {
    let real = inode.lower().ok_or(RcuError::WouldBlock)?.inode()?;
    Ok(real.mode().is_dir())
}
