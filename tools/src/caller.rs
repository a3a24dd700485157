// SPDX-License-Identifier: GPL-2.0
//! What mount(8) is asked for and neither does with a helper nor tells the helper: a mapping of owners that is left out
//! without a word is worse than a mount that fails.

use crate::mountinfo;
use std::path::Path;

const KEPT_BACK: [&str; 4] = [
    "X-mount.idmap",
    "X-mount.owner",
    "X-mount.group",
    "X-mount.mode",
];

/// The first such option in the command line of the mount(8) that called, or in fstab's entry for `dir`.
pub fn kept_back(dir: &Path) -> Option<&'static str> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let of = |file: &str| std::fs::read(format!("/proc/{parent}/{file}")).unwrap_or_default();
    if of("comm") != b"mount\n" {
        return None;
    }
    let mut text = of("cmdline");
    let fstab = std::fs::read("/etc/fstab").unwrap_or_default();
    for (point, _, options) in mountinfo::fstab(&fstab) {
        if point == dir {
            text.extend(options);
        }
    }
    let is_in = |name: &&str| text.windows(name.len()).any(|w| w == name.as_bytes());
    KEPT_BACK.into_iter().find(is_in)
}
