// SPDX-License-Identifier: GPL-2.0

//! The options as they were given: `/proc/mounts` shows the names of layers so, and a remount may say all of
//! it again.

use super::{options::Requested, resolve::Effective};
use crate::vfs::CBuf;
use kernel::prelude::*;

/// What was given for a mount.
pub(crate) struct Given {
    /// The value of `lowerdir=`, where that option was used.
    pub(crate) lowerdir: Option<CBuf>,
    /// The lower layers, topmost first.
    pub(crate) lower: KVec<CBuf>,
    pub(crate) upper: Option<CBuf>,
    pub(crate) work: Option<CBuf>,
    pub(crate) requested: Requested,
}

/// How far a remount has got in saying the options again.
#[derive(Default)]
pub(crate) struct Repeated {
    /// How many `lowerdir+` it has said.
    lower: usize,
}

impl Given {
    /// Whether option `key` with `value` says what is so: `mount(8)` hands all options over that
    /// `/proc/self/mountinfo` or `/etc/fstab` has.
    pub(crate) fn is_repeated(
        &self,
        config: &Effective,
        repeated: &mut Repeated,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> bool {
        let same = |name: Option<&CBuf>| value.is_some() && name.map(CBuf::as_bytes) == value;
        match key {
            b"lowerdir" => same(self.lowerdir.as_ref()),
            b"lowerdir+" if self.lowerdir.is_some() => false,
            b"lowerdir+" => {
                let name = self.lower.get(repeated.lower);
                repeated.lower = repeated.lower.saturating_add(1);
                same(name)
            }
            b"upperdir" => same(self.upper.as_ref()),
            b"workdir" => same(self.work.as_ref()),
            _ => {
                let mut again = self.requested;
                again.take(key, value).is_ok()
                    && (again.settings.agrees(&self.requested.settings, key)
                        || again.settings.agrees(config, key))
            }
        }
    }

    /// Whether a remount that said `repeated` left none of the lower layers out that it was about to say.
    pub(crate) fn is_complete(&self, repeated: &Repeated) -> bool {
        repeated.lower == 0 || repeated.lower == self.lower.len()
    }
}
