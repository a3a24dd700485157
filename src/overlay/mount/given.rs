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
    /// The lower layers that are merged, topmost first.
    pub(crate) lower: KVec<CBuf>,
    /// The data-only ones, topmost first.
    pub(crate) data: KVec<CBuf>,
    pub(crate) upper: Option<CBuf>,
    pub(crate) work: Option<CBuf>,
    pub(crate) requested: Requested,
}

/// How far a remount has got in saying the options again.
#[derive(Default)]
pub(crate) struct Repeated {
    /// How many `lowerdir+` it has said.
    lower: usize,
    /// How many `datadir+`.
    data: usize,
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
            b"lowerdir+" | b"datadir+" if self.lowerdir.is_some() => false,
            b"lowerdir+" | b"datadir+" => {
                let (names, said) = match key {
                    b"datadir+" => (&self.data, &mut repeated.data),
                    _ => (&self.lower, &mut repeated.lower),
                };
                let name = names.get(*said);
                *said = said.saturating_add(1);
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

    /// The option for lower layers of which a remount that said `repeated` left some out that it was about to say.
    pub(crate) fn is_missing(&self, repeated: &Repeated) -> Option<&'static CStr> {
        if repeated.lower == 0 && repeated.data == 0 {
            return None;
        }
        match (repeated.lower, repeated.data) {
            (lower, _) if lower != self.lower.len() => Some(c"lowerdir+"),
            (_, data) if data != self.data.len() => Some(c"datadir+"),
            _ => None,
        }
    }
}
