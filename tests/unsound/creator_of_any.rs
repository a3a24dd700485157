// SPDX-License-Identifier: GPL-2.0

//! A security module is asked about the name of a dentry that somebody renames meanwhile.
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::{cred, Mode, OwnDentry},
};
use kernel::{cred::Credential, prelude::*};

fn misuse(caller: &Credential, dentry: &OwnDentry<Overlay>, owner: cred::Owner) -> Result {
    cred::creator::<Overlay>(caller, dentry, owner, Mode(0o644))?;
    Ok(())
}
