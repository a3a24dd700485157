// SPDX-License-Identifier: GPL-2.0

//! The parameters in `/sys/module/*/parameters` that can be changed while the module is loaded: `module!` has
//! read-only ones alone, so they are defined in C.

use crate::bindings;

/// Whether redirects are made and followed where no mount option says so.
pub(crate) fn redirect_dir() -> bool {
    // SAFETY: no preconditions.
    unsafe { bindings::rovl_param_redirect_dir() }
}

/// Whether redirects are followed where they are not made.
pub(crate) fn redirect_always_follow() -> bool {
    // SAFETY: no preconditions.
    unsafe { bindings::rovl_param_redirect_always_follow() }
}

/// The longest redirect that is a path, in bytes.
pub(crate) fn redirect_max() -> usize {
    // SAFETY: no preconditions.
    usize::from(unsafe { bindings::rovl_param_redirect_max() })
}
