// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{dentry::REVALIDATE, OwnDentry},
};

fn control(dentry: &OwnDentry<Overlay>) {
    dentry.change_revalidate(0, REVALIDATE);
}
