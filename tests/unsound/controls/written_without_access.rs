// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{
    dirop::{Creating, New},
    Dentry, Mode, Mount,
};
use kernel::prelude::*;

fn control(mnt: &Mount, dir: &Dentry) -> Result {
    let write = mnt.want_write()?;
    Creating::start(write.writing(), dir, b"a")?.create(New::Node(Mode(Mode::REG), 0))?;
    Ok(())
}
