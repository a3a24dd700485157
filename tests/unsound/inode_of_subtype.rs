// SPDX-License-Identifier: GPL-2.0

//! An inode of one filesystem is taken for that of another, whose type differs in lifetimes alone, and its data with it.
// error: E0308

#[path = "support/other.rs"]
mod other;

use core::marker::PhantomData;
use other::*;

struct Other<T>(ARef<Credential>, PhantomData<T>);

filesystem!([T: Send + Sync + 'static] Other<T>, Nothing);

type Any = Other<for<'a> fn(&'a u8)>;
type Static = Other<fn(&'static u8)>;

fn misuse(inode: &OwnInode<Any>) -> &OwnInode<Static> {
    inode
}
