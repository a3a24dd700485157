// SPDX-License-Identifier: GPL-2.0

//! The control of `table_of_other`.

use crate::{
    overlay::Overlay,
    vfs::{
        context::{Context, FsContext, Value},
        dentry::WalkFlags,
        file::{Range, Transfer},
        file_ops::{
            DirectoryOperations, Flush, Generation, Io, Mapping, Moved, OpenFile, Opening,
            RegularOperations, Splice,
        },
        fs::{FileSystem, InodeData, Policy},
        inode_ops::InodeOperations,
        outbuf::OutBuf,
        readdir::DirContext,
        super_block::{NewSuper, Rooted, StatFs},
        xattr::{Handler, SetFlags},
        Dentry, OwnDentry, OwnInode, OwnSuper,
    },
};
use kernel::{cred::Credential, prelude::*, seq_file::SeqFile, sync::aref::ARef};

/// Another filesystem.
struct Other(ARef<Credential>);

struct Nothing;

impl InodeData for Nothing {
    fn empty() -> Self {
        Self
    }
}

#[vtable]
impl InodeOperations<Other> for Nothing {}

impl RegularOperations<Other> for Nothing {
    type Data = ();
    fn open(_: Opening<'_, Other>) -> Result<KBox<()>> {
        Err(EIO)
    }
    fn io<'a>(_: OpenFile<'_, Other>, _: &(), _: Io<'a, Other>, _: bool) -> Result<Moved<'a>> {
        Err(EIO)
    }
    fn splice(_: OpenFile<'_, Other>, _: &(), _: Splice<'_, Other>, _: bool) -> Result<usize> {
        Err(EIO)
    }
    fn is_mappable(_: OpenFile<'_, Other>, _: &(), _: bool) -> Result<bool> {
        Err(EIO)
    }
    fn make_mappable(_: OpenFile<'_, Other>, _: &(), _: bool) {}
    fn mmap(_: OpenFile<'_, Other>, _: &(), _: Mapping<'_, Other>) -> Result {
        Err(EIO)
    }
    fn seek(_: OpenFile<'_, Other>, _: &(), _: i64, _: i32) -> Result<i64> {
        Err(EIO)
    }
    fn generation(_: OpenFile<'_, Other>, _: Generation) -> Result {
        Err(ENOTTY)
    }
    fn fsync(_: OpenFile<'_, Other>, _: &(), _: i64, _: i64, _: bool) -> Result {
        Err(EIO)
    }
    fn fallocate(_: OpenFile<'_, Other>, _: &(), _: i32, _: i64, _: i64) -> Result {
        Err(EIO)
    }
    fn fadvise(_: OpenFile<'_, Other>, _: &(), _: i64, _: i64, _: i32) -> Result {
        Err(EIO)
    }
    fn flush(_: OpenFile<'_, Other>, _: &(), _: Flush<'_>) -> Result {
        Err(EIO)
    }
    fn transfer(
        _: Transfer,
        _: (OpenFile<'_, Other>, &()),
        _: (OpenFile<'_, Other>, &()),
        _: Range,
    ) -> Result<i64> {
        Err(EIO)
    }
}

impl DirectoryOperations<Other> for Nothing {
    type Data = ();
    fn open(_: Opening<'_, Other>) -> Result<Pin<KBox<()>>> {
        Err(EIO)
    }
    fn iterate(_: OpenFile<'_, Other>, _: &(), _: &mut DirContext<'_>) -> Result {
        Err(EIO)
    }
    fn seek(_: OpenFile<'_, Other>, _: &(), _: i64, _: i32) -> Result<i64> {
        Err(EIO)
    }
    fn generation(_: OpenFile<'_, Other>, _: Generation) -> Result {
        Err(ENOTTY)
    }
    fn fsync(_: OpenFile<'_, Other>, _: &(), _: i64, _: i64, _: bool) -> Result {
        Err(EIO)
    }
}

impl Handler<Other> for Nothing {
    const PREFIX: &'static CStr = c"";
    fn get(_: &OwnDentry<Other>, _: &OwnInode<Other>, _: &CStr, _: &mut OutBuf<'_>) -> Result {
        Err(EIO)
    }
    fn set(
        _: &OwnDentry<Other>,
        _: &OwnInode<Other>,
        _: &CStr,
        _: Option<&[u8]>,
        _: SetFlags,
    ) -> Result {
        Err(EIO)
    }
}

impl Context<Other> for Nothing {
    fn new() -> Result<Self> {
        Ok(Self)
    }
    fn parameter(&mut self, _: &FsContext, _: &CStr, _: Value<'_>) -> Result<bool> {
        Ok(false)
    }
    fn repeat(&mut self, _: &FsContext, _: &Other, _: &CStr, _: Value<'_>) -> Result<bool> {
        Ok(false)
    }
    fn reconfigure(&mut self, _: &FsContext, _: &OwnSuper<Other>, _: bool) -> Result {
        Ok(())
    }
    fn split_option(_: &[u8]) -> Option<usize> {
        None
    }
}

impl FileSystem for Other {
    const NAME: &'static CStr = c"other";
    const INODE_CACHE: &'static CStr = c"other_inode";
    const MAGIC: u32 = 0;
    const POLICY: Policy = Overlay::POLICY;
    type Inode = Nothing;
    type NameMarks = u32;
    type Context = Nothing;
    type Regular = Nothing;
    type Directory = Nothing;
    type Symlink = Nothing;
    type Special = Nothing;
    type RegularFile = Nothing;
    type DirectoryFile = Nothing;

    fn creds(&self) -> &Credential {
        &self.0
    }
    fn fill_super<'a>(
        _: NewSuper<'a, Self>,
        _: &FsContext,
        _: &mut Nothing,
    ) -> Result<Rooted<'a, Self>> {
        Err(EIO)
    }
    fn statfs(_: &OwnDentry<Self>) -> Result<StatFs> {
        Err(EIO)
    }
    fn sync(_: &OwnSuper<Self>) -> Result {
        Ok(())
    }
    fn show_options(&self, _: &SeqFile) {}
    fn cached_objects(&self) -> usize {
        0
    }
    fn free_cached_objects(&self, _: usize) -> usize {
        0
    }
    fn revalidate(_: &OwnDentry<Self>, _: WalkFlags, _: bool) -> Result<bool> {
        Ok(true)
    }
    fn real(_: &OwnDentry<Self>, _: bool) -> Option<&Dentry> {
        None
    }
}
