// SPDX-License-Identifier: GPL-2.0

//! Raw bindings: `kernel::bindings` plus what the private bindgen generates from
//! `include/rovl_bindings.h`. The generated items shadow the kernel crate's zero-size stubs of the
//! same name. Visible to `vfs` alone.

// Compilers before 1.88 do not know all of them.
#![allow(unknown_lints)]
#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::cast_lossless,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    unused,
    improper_ctypes,
    reason = "generated code"
)]

pub(crate) use kernel::bindings::*;
use kernel::ffi;
use pin_init::MaybeZeroable;

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;
type __kernel_ptrdiff_t = isize;

include!(env!("ROVL_BINDINGS"));
