// SPDX-License-Identifier: GPL-2.0

//! A mount in preparation (`struct fs_context`): parameters, messages, creation, reconfiguration.
//!
//! Contract: `Documentation/filesystems/mount_api.rst`.

use super::{
    fs::{fill_super, FileSystem},
    SuperBlock,
};
use crate::bindings;
use core::ptr;
use kernel::{error::from_result, fs::File, prelude::*};

/// The value of a mount parameter.
pub(crate) enum Value<'a> {
    /// `key`
    Flag,
    /// `key=string`
    Str(&'a CStr),
    /// A file descriptor.
    File(&'a File),
    /// A blob or a file name relative to a descriptor.
    Other,
}

/// What a filesystem keeps with a mount in preparation.
pub(crate) trait Context<F: FileSystem>: Sized + Send + 'static {
    /// A mount without any parameter yet.
    fn new() -> Result<Self>;
    /// Takes one parameter; `Ok(false)` where the key is unknown.
    fn parameter(&mut self, fc: &FsContext, key: &CStr, value: Value<'_>) -> Result<bool>;
    /// Takes one parameter for a change of the mounted `fs`, as [`parameter`](Self::parameter) does for a mount;
    /// programs say what is so again, beside what they want changed.
    fn repeat(&mut self, fc: &FsContext, fs: &F, key: &CStr, value: Value<'_>) -> Result<bool>;
    /// Reconfigures (`mount -o remount`) the mounted super block after the last parameter; `read_only` is the wanted
    /// state.
    fn reconfigure(&mut self, fc: &FsContext, sb: &SuperBlock, fs: &F, read_only: bool) -> Result;
    /// Splits the next option off the option string of mount(2): its length, or `None` for the rest.
    fn split_option(options: &[u8]) -> Option<usize>;
}

/// A mount in preparation, as the VFS knows it.
pub(crate) struct FsContext(*mut bindings::fs_context);

impl FsContext {
    /// # Safety
    ///
    /// `fc` is valid as long as the value is used.
    pub(super) unsafe fn from_raw(fc: *mut bindings::fs_context) -> Self {
        Self(fc)
    }

    /// Puts an error into the context's log, which `fsconfig(2)` users and `mount(8)` read; with the
    /// old API there is none, and it goes to the kernel log.
    pub(crate) fn log_error(&self, message: kernel::fmt::Arguments<'_>) {
        // SAFETY: the context is valid for `self`; `%pA` takes a pointer to `Arguments`.
        unsafe { bindings::rovl_logfc(self.0, b'e', (&raw const message).cast()) }
    }

    /// Whether it comes from mount(2).
    pub(crate) fn is_old_api(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).oldapi() }
    }

    /// Whether the current task's user namespace is the context's, or (without `exact`) inside it.
    pub(crate) fn in_user_ns(&self, exact: bool) -> bool {
        // SAFETY: as above.
        unsafe { bindings::rovl_in_context_userns(self.0, exact) }
    }
}

/// Sets a new context up for `F`.
///
/// # Safety
///
/// `fc` is the context that `init_fs_context` got.
pub(super) unsafe fn init<F: FileSystem>(fc: *mut bindings::fs_context) -> Result {
    let context = KBox::new(F::Context::new()?, GFP_KERNEL)?;
    // SAFETY: by the contract.
    unsafe {
        (*fc).fs_private = KBox::into_raw(context).cast();
        (*fc).ops = &Table::<F>::OPS;
    }
    Ok(())
}

struct Table<F>(core::marker::PhantomData<F>);

#[allow(
    clippy::missing_safety_doc,
    reason = "called by the VFS alone, through the table, under charter 1 and 4"
)]
impl<F: FileSystem> Table<F> {
    const OPS: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        parse_monolithic: Some(Self::parse_monolithic),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: `init` stored the box; this is the last call.
        unsafe {
            let context = (*fc).fs_private.cast::<F::Context>();
            if !context.is_null() {
                (*fc).fs_private = ptr::null_mut();
                drop(KBox::from_raw(context));
            }
        }
    }

    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> i32 {
        // SAFETY: the VFS passes a valid parameter; its type tells which union member is set, and
        // both live until the call returns. The context is locked, so the box is ours alone.
        let (key, value, context) = unsafe {
            let value = match (*param).type_() {
                bindings::fs_value_is_flag => Value::Flag,
                bindings::fs_value_is_string if !(*param).__bindgen_anon_1.string.is_null() => {
                    Value::Str(CStr::from_char_ptr((*param).__bindgen_anon_1.string))
                }
                bindings::fs_value_is_file => {
                    Value::File(File::from_raw_file((*param).__bindgen_anon_1.file))
                }
                _ => Value::Other,
            };
            (
                CStr::from_char_ptr((*param).key),
                value,
                &mut *(*fc).fs_private.cast::<F::Context>(),
            )
        };
        // SAFETY: a context for a change, and no other, has the root dentry of a mounted super block of `F`, which
        // it keeps active; charter 4.
        let mounted = unsafe {
            let root = (*fc).root;
            (!root.is_null()).then(|| &*(*(*root).d_sb).s_fs_info.cast::<F>())
        };
        let fc = FsContext(fc);
        let known = match mounted {
            Some(fs) => context.repeat(&fc, fs, key, value),
            None => context.parameter(&fc, key, value),
        };
        from_result(|| match known? {
            true => Ok(0),
            false => Ok(-(bindings::ROVL_ENOPARAM as i32)),
        })
    }

    unsafe extern "C" fn next_option(
        at: *mut *mut kernel::ffi::c_char,
    ) -> *mut kernel::ffi::c_char {
        // SAFETY: the VFS passes the cursor into its own, writable copy of the option string.
        unsafe {
            let start = *at;
            if start.is_null() {
                return start;
            }
            let len = CStr::from_char_ptr(start.cast_const()).to_bytes().len();
            let text = core::slice::from_raw_parts(start.cast::<u8>(), len);
            *at = match F::Context::split_option(text) {
                Some(end) if end < len => {
                    start.add(end).write(0);
                    start.add(end + 1)
                }
                _ => ptr::null_mut(),
            };
            start
        }
    }

    unsafe extern "C" fn parse_monolithic(
        fc: *mut bindings::fs_context,
        data: *mut kernel::ffi::c_void,
    ) -> i32 {
        // SAFETY: arguments of the callback, passed on.
        unsafe { bindings::vfs_parse_monolithic_sep(fc, data, Some(Self::next_option)) }
    }

    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> i32 {
        // SAFETY: the context is `F`'s.
        unsafe { bindings::get_tree_nodev(fc, Some(fill_super::<F>)) }
    }

    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> i32 {
        from_result(|| {
            // SAFETY: a context for reconfiguration has the root dentry of a mounted super block.
            unsafe {
                let sb = SuperBlock::from_raw((*(*fc).root).d_sb);
                let fs = &*(*sb.as_ptr()).s_fs_info.cast::<F>();
                let read_only = (*fc).sb_flags & bindings::ROVL_SB_RDONLY != 0;
                let context = &mut *(*fc).fs_private.cast::<F::Context>();
                context.reconfigure(&FsContext(fc), sb, fs, read_only)?;
            }
            Ok(0)
        })
    }
}
