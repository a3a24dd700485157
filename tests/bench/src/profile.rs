// SPDX-License-Identifier: GPL-2.0

//! Marks for `make profile`: long NOPs that tests/bench/plugin.c, in QEMU, looks for.

use std::arch::asm;

/// What follows is the operation.
pub fn start() {
    // SAFETY: A NOP.
    unsafe {
        asm!(
            "nop dword ptr [rax + 0x6c766f72]",
            options(nostack, preserves_flags)
        )
    };
}

/// The operation is over, until the next [`start`].
pub fn stop() {
    // SAFETY: A NOP.
    unsafe {
        asm!(
            "nop dword ptr [rax + 0x6d766f72]",
            options(nostack, preserves_flags)
        )
    };
}

/// The profile is complete.
pub fn end() {
    // SAFETY: A NOP.
    unsafe {
        asm!(
            "nop dword ptr [rax + 0x6e766f72]",
            options(nostack, preserves_flags)
        )
    };
}
