// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{NewInode, OwnSuper},
};
use kernel::prelude::*;

fn control(sb: &OwnSuper<Overlay>) -> Result<NewInode<'_, Overlay>> {
    NewInode::unhashed(sb)
}
