// SPDX-License-Identifier: GPL-2.0

//! Rate-limited kernel log lines and the printing of names.

use super::{calls, Dentry};
use crate::bindings;
use core::fmt;
use kernel::prelude::*;

/// What tells a line of code from others.
pub(crate) const fn site(file: &str, line: u32) -> u32 {
    let (mut hash, mut at) = (line, 0);
    // No iterators in a constant.
    while let Some((byte, _)) = file.as_bytes().split_at(at).1.split_first() {
        hash = (hash ^ *byte as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// Logs a warning unless the line of code `site` has logged too many lately.
#[cold]
#[inline(never)]
pub(crate) fn warn_from(site: u32, message: kernel::fmt::Arguments<'_>) {
    if calls::rovl_ratelimit(site) {
        pr_warn!("{message}");
    }
}

/// Logs a warning unless this line of code has logged too many lately.
macro_rules! warn_limited {
    ($($arg:tt)*) => {
        $crate::vfs::log::warn_from(
            const { $crate::vfs::log::site(file!(), line!()) },
            ::kernel::prelude::fmt!($($arg)*),
        )
    };
}
pub(crate) use warn_limited;

/// Writes bytes as text, the unprintable ones escaped.
pub(super) fn fmt_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for b in bytes {
        fmt::Write::write_fmt(f, format_args!("{}", b.escape_ascii()))?;
    }
    Ok(())
}

/// Bytes, printed as text.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl kernel::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_bytes(f, self.0)
    }
}

/// A dentry, printed as `parent/name`. The kernel log formats with interrupts off: nothing may sleep.
impl kernel::fmt::Display for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0u8; 2 * bindings::NAME_MAX as usize + 2];
        // SAFETY: charter 1: the dentry is referenced, which is what `%pd2` wants; it reads names and parent under RCU. The
        // buffer is ours and has the given length.
        let len = unsafe {
            bindings::scnprintf(
                buf.as_mut_ptr().cast(),
                buf.len(),
                c"%pd2".as_char_ptr(),
                self.as_ptr(),
            )
        };
        fmt_bytes(f, buf.get(..len as usize).unwrap_or_default())
    }
}

/// Prints `,key=value` for `/proc/mounts`, both escaped.
pub(crate) fn show_option(out: &kernel::seq_file::SeqFile, key: &CStr, value: &CStr) {
    // SAFETY: charter 1: the VFS passes the file of a call of ours, and we pass it on; both strings are C strings.
    unsafe {
        bindings::rovl_seq_show_option(
            core::ptr::from_ref(out).cast_mut().cast(),
            key.as_char_ptr(),
            value.as_char_ptr(),
        )
    }
}
