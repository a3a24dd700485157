// SPDX-License-Identifier: GPL-2.0

//! The control of `inode_of_subtype`.

#[path = "../support/other.rs"]
mod other;

use core::marker::PhantomData;
use other::*;

struct Other<T>(ARef<Credential>, PhantomData<T>);

filesystem!([T: Send + Sync + 'static] Other<T>, Nothing);

type Any = Other<for<'a> fn(&'a u8)>;

fn control(inode: &OwnInode<Any>) -> &OwnInode<Any> {
    inode
}
