// SPDX-License-Identifier: GPL-2.0

//! A mount in preparation (`struct fs_context`): parameters, messages, creation, reconfiguration.
//!
//! Contract: `Documentation/filesystems/mount_api.rst`.

use super::{
    callback::{c_table, FromC},
    fs::FileSystem,
    super_ops::Filler,
    OwnSuper,
};
use crate::bindings;
use core::{marker::PhantomData, ptr};
use kernel::{
    ffi::{c_char, c_void},
    fs::File,
    prelude::*,
};

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
    fn reconfigure(&mut self, fc: &FsContext, sb: &OwnSuper<F>, read_only: bool) -> Result;
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
        // SAFETY: the context is valid for `self`.
        unsafe { (*self.0).oldapi() }
    }

    /// Whether the current task's user namespace is the context's, or (without `exact`) inside it.
    pub(crate) fn in_user_ns(&self, exact: bool) -> bool {
        // SAFETY: the context is valid for `self`.
        unsafe { bindings::rovl_in_context_userns(self.0, exact) }
    }
}

/// A context that `init_fs_context` got, to be set up.
pub(super) struct NewContext<'a>(RawContext, PhantomData<&'a mut ()>);

impl NewContext<'_> {
    /// # Safety
    ///
    /// The argument of `init_fs_context`, used during the callback alone.
    pub(super) unsafe fn from_raw(fc: RawContext) -> Self {
        Self(fc, PhantomData)
    }
}

/// Sets a new context up for `F`.
pub(super) fn init<F: FileSystem>(fc: NewContext<'_>) -> Result {
    let context = KBox::into_raw(KBox::new(F::Context::new()?, GFP_KERNEL)?);
    // SAFETY: the context is the callback's for its duration, and nobody else knows it yet.
    unsafe { (*fc.0).fs_private = context.cast() };
    // SAFETY: as for the data, which is of the type that the table's callbacks expect.
    unsafe { (*fc.0).ops = &Table::<F>::OPS };
    Ok(())
}

struct Table<F>(PhantomData<F>);

impl<F: FileSystem> Table<F> {
    c_table! {
        const OPS: bindings::fs_context_operations = {
            free: Some(Self::free),
            parse_monolithic: Some(Self::parse_monolithic),
            get_tree: Some(Self::get_tree),
        };

        fn parse_param(fc: RawContext, param: *mut bindings::fs_parameter) -> i32
            => Self::parse(fc, fc, fc, param);
        fn reconfigure(fc: RawContext) -> i32
            => Self::remount(fc, fc, fc);
    }

    /// # Safety
    ///
    /// `fc` is a context of `F` that nobody uses any more.
    unsafe extern "C" fn free(fc: RawContext) {
        // SAFETY: `init` stored the box; this is the last call.
        let context = unsafe { core::mem::replace(&mut (*fc).fs_private, ptr::null_mut()) };
        if !context.is_null() {
            // SAFETY: the box that `init` stored, which nobody can find any more.
            drop(unsafe { KBox::from_raw(context.cast::<F::Context>()) });
        }
    }

    fn parse(
        fc: FsContext,
        context: Private<'_, F>,
        mounted: Option<Mounted<'_, F>>,
        param: Parameter<'_>,
    ) -> Result<i32> {
        let (context, key, value) = (context.0, param.key, param.value);
        let known = match mounted {
            Some(mounted) => context.repeat(&fc, mounted.sb.fs(), key, value),
            None => context.parameter(&fc, key, value),
        };
        Ok(match known? {
            true => 0,
            false => -(bindings::ROVL_ENOPARAM as i32),
        })
    }

    /// # Safety
    ///
    /// `at` is the cursor into an option string of the caller's own.
    unsafe extern "C" fn next_option(at: *mut *mut c_char) -> *mut c_char {
        // SAFETY: by the contract the cursor is the caller's.
        let start = unsafe { *at };
        if start.is_null() {
            return start;
        }
        // SAFETY: the rest of the string, which ends with a NUL; it is not written to before the result is known.
        let text = unsafe { CStr::from_char_ptr(start) }.to_bytes();
        let next = match F::Context::split_option(text) {
            Some(end) if end < text.len() => {
                // SAFETY: inside the string, which is the caller's own, to be taken apart.
                unsafe { start.add(end).write(0) };
                // SAFETY: inside the string, whose NUL may be there.
                unsafe { start.add(end + 1) }
            }
            _ => ptr::null_mut(),
        };
        // SAFETY: by the contract the cursor is the caller's, to be moved on.
        unsafe { *at = next };
        start
    }

    /// # Safety
    ///
    /// `fc` is a context, `data` null or an option string of its own.
    unsafe extern "C" fn parse_monolithic(fc: RawContext, data: *mut c_void) -> i32 {
        // SAFETY: arguments of the callback, passed on; the cursor is one into `data`.
        unsafe { bindings::vfs_parse_monolithic_sep(fc, data, Some(Self::next_option)) }
    }

    /// # Safety
    ///
    /// `fc` is a context of `F`.
    unsafe extern "C" fn get_tree(fc: RawContext) -> i32 {
        // SAFETY: the context is of `F`, as is the function that fills the super block.
        unsafe { bindings::get_tree_nodev(fc, Some(Filler::<F>::fill_super)) }
    }

    fn remount(fc: FsContext, context: Private<'_, F>, mounted: Option<Mounted<'_, F>>) -> Result {
        let mounted = mounted.ok_or(EINVAL)?;
        let context = context.0;
        context.reconfigure(&fc, mounted.sb, mounted.read_only)
    }
}

type RawContext = *mut bindings::fs_context;

/// What `F` keeps with the context.
pub(super) struct Private<'a, F: FileSystem>(pub(super) &'a mut F::Context);

// SAFETY: the context is locked, or the only task's that knows it, so its box is the callback's alone.
unsafe impl<'a, F: FileSystem> FromC<RawContext> for Private<'a, F> {
    #[inline]
    unsafe fn from_c(fc: RawContext) -> Self {
        // SAFETY: `init` stored a box of the table's context, which `free` has not taken yet.
        Self(unsafe { &mut *(*fc).fs_private.cast() })
    }
}

/// One parameter.
struct Parameter<'a> {
    key: &'a CStr,
    value: Value<'a>,
}

// SAFETY: key and value live until the callback returns.
unsafe impl<'a> FromC<*mut bindings::fs_parameter> for Parameter<'a> {
    unsafe fn from_c(raw: *mut bindings::fs_parameter) -> Self {
        // SAFETY: the parameter is the callback's for its duration.
        let param = unsafe { &*raw };
        let value = match param.type_() {
            bindings::fs_value_is_flag => Value::Flag,
            bindings::fs_value_is_string => {
                // SAFETY: the type says which member of the union is set.
                let string = unsafe { param.__bindgen_anon_1.string };
                if string.is_null() {
                    Value::Other
                } else {
                    // SAFETY: a C string that lives as long as the parameter.
                    Value::Str(unsafe { CStr::from_char_ptr(string) })
                }
            }
            bindings::fs_value_is_file => {
                // SAFETY: the type says which member of the union is set.
                let file = unsafe { param.__bindgen_anon_1.file };
                // SAFETY: charter 1: the parameter holds a reference of its own (`fget_raw()`: perhaps to a file that was
                // opened with `O_PATH`, which has no operations), not a borrowed one.
                Value::File(unsafe { File::from_raw_file(file) })
            }
            _ => Value::Other,
        };
        Self {
            // SAFETY: a C string that lives as long as the parameter.
            key: unsafe { CStr::from_char_ptr(param.key) },
            value,
        }
    }
}

/// The super block that is to be reconfigured, and how.
struct Mounted<'a, F: FileSystem> {
    sb: &'a OwnSuper<F>,
    read_only: bool,
}

// SAFETY: while parameters are parsed a context for reconfiguration, and no other, has a root: that of a mounted super
// block, which it references (charter 1 and 4).
unsafe impl<'a, F: FileSystem> FromC<RawContext> for Option<Mounted<'a, F>> {
    unsafe fn from_c(fc: RawContext) -> Self {
        // SAFETY: the context is the callback's for its duration.
        let root = unsafe { (*fc).root };
        if root.is_null() {
            return None;
        }
        // SAFETY: charter 1: the context references its root, which keeps its super block.
        let sb = unsafe { super::Dentry::from_raw(root) }.sb();
        Some(Mounted {
            // SAFETY: it is one of `F`, as the context's table is, and mounted.
            sb: unsafe { OwnSuper::from_raw(sb.as_ptr()) },
            // SAFETY: the context is the callback's for its duration.
            read_only: unsafe { (*fc).sb_flags } & bindings::ROVL_SB_RDONLY != 0,
        })
    }
}
