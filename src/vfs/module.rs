// SPDX-License-Identifier: GPL-2.0

//! The module's own parameters, in `/sys/module/*/parameters`, that can be changed while it is loaded: `module!` has
//! read-only ones alone, so they are defined in C. They are no part of an abstraction of the VFS; they are here as all that
//! calls C is.

use crate::bindings;

/// Functions that read a parameter as it is now.
macro_rules! parameters {
    ($($(#[$meta:meta])* fn $name:ident() -> $type:ty = $read:ident;)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name() -> $type {
            // SAFETY: the function reads a variable of the module, which may change meanwhile, at once.
            unsafe { bindings::$read() }
        }
    )*};
}

parameters! {
    /// Whether redirects are made and followed where no mount option says so.
    fn redirect_dir() -> bool = rovl_param_redirect_dir;
    /// Whether redirects are followed where they are not made.
    fn redirect_always_follow() -> bool = rovl_param_redirect_always_follow;
    /// Whether attributes are copied up without data where no mount option says so.
    fn metacopy() -> bool = rovl_param_metacopy;
    /// Whether the links of a lower file stay links of one file where no mount option says so.
    fn index() -> bool = rovl_param_index;
    /// Whether file handles can be opened where no mount option says so.
    fn nfs_export() -> bool = rovl_param_nfs_export;
    /// Whether inode numbers tell which filesystem they are of where no mount option says so.
    fn xino_auto() -> bool = rovl_param_xino_auto;
    /// The longest redirect that is a path, in bytes.
    fn redirect_max() -> u16 = rovl_param_redirect_max;
}
