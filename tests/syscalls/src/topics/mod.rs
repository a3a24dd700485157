// SPDX-License-Identifier: GPL-2.0
//! The tests, a file a topic.

use crate::harness::Test;

mod acl;
mod aio;
mod cached;
mod data;
mod exec;
mod fileattr;
mod firstfail;
mod firstmap;
mod firstwrite;
mod fixed;
mod handles;
mod idmap;
mod idmapacl;
mod lazy;
mod limits;
mod locks;
mod mmap;
mod model;
mod mount;
mod names;
mod notify;
mod open;
mod opened;
mod perm;
mod race;
mod readdir;
mod refuse;
mod rename;
mod rw;
mod served;
mod stack;
mod stat;
mod tree;
mod userns;
mod xattr;

pub const ALL: &[(&str, &[Test])] = &[
    ("mount", mount::TESTS),
    ("refuse", refuse::TESTS),
    ("open", open::TESTS),
    ("opened", opened::TESTS),
    ("rw", rw::TESTS),
    ("lazy", lazy::TESTS),
    ("firstwrite", firstwrite::TESTS),
    ("firstmap", firstmap::TESTS),
    ("firstfail", firstfail::TESTS),
    ("mmap", mmap::TESTS),
    ("data", data::TESTS),
    ("aio", aio::TESTS),
    ("locks", locks::TESTS),
    ("fileattr", fileattr::TESTS),
    ("readdir", readdir::TESTS),
    ("stat", stat::TESTS),
    ("rename", rename::TESTS),
    ("names", names::TESTS),
    ("perm", perm::TESTS),
    ("xattr", xattr::TESTS),
    ("acl", acl::TESTS),
    ("stack", stack::TESTS),
    ("model", model::TESTS),
    ("race", race::TESTS),
    ("fixed", fixed::TESTS),
    ("served", served::TESTS),
    ("notify", notify::TESTS),
    ("handles", handles::TESTS),
    ("cached", cached::TESTS),
    ("exec", exec::TESTS),
    ("limits", limits::TESTS),
    ("userns", userns::TESTS),
    ("idmap", idmap::TESTS),
    ("idmapacl", idmapacl::TESTS),
];
