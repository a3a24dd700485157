// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{cred, Child, Mode},
};
use kernel::{cred::Credential, prelude::*};

fn correct(caller: &Credential, child: Child<'_, Overlay>, owner: cred::Owner) -> Result {
    let entry = cred::NewEntry::Named(child);
    cred::creator(caller, entry, owner, Mode(0o644))?;
    Ok(())
}
