// SPDX-License-Identifier: GPL-2.0
//! The tests, a file a topic.

use crate::harness::Test;

mod acl;
mod aio;
mod data;
mod fileattr;
mod locks;
mod mmap;
mod mount;
mod open;
mod names;
mod readdir;
mod rename;
mod rw;
mod stat;
mod userns;

pub const ALL: &[(&str, &[Test])] = &[
    ("mount", mount::TESTS),
    ("open", open::TESTS),
    ("rw", rw::TESTS),
    ("mmap", mmap::TESTS),
    ("data", data::TESTS),
    ("aio", aio::TESTS),
    ("locks", locks::TESTS),
    ("fileattr", fileattr::TESTS),
    ("readdir", readdir::TESTS),
    ("stat", stat::TESTS),
    ("rename", rename::TESTS),
    ("names", names::TESTS),
    ("acl", acl::TESTS),
    ("userns", userns::TESTS),
];
