// SPDX-License-Identifier: GPL-2.0

//! What another filesystem than the union takes to be one.

pub(crate) use crate::{
    overlay::Overlay,
    vfs::{
        context::{Context, FsContext, Value},
        dentry::WalkFlags,
        file::{Range, Transfer},
        file_ops::{
            DirectoryOperations, Flush, Generation, Io, Listed, Mapping, Moved, OpenFile, Opening,
            RegularOperations, Splice,
        },
        fs::{FileSystem, InodeData, Policy},
        inode_ops::InodeOperations,
        outbuf::OutBuf,
        readdir::DirContext,
        slab::SlabBox,
        super_block::{NewSuper, Rooted, StatFs},
        xattr::{Handler, SetFlags},
        Dentry, OwnDentry, OwnInode, OwnSuper,
    },
};
pub(crate) use kernel::{cred::Credential, prelude::*, seq_file::SeqFile, sync::aref::ARef};

/// All that a filesystem has operations of, and none of them.
pub(crate) struct Nothing;

impl InodeData for Nothing {
    fn empty() -> Self {
        Self
    }
}

#[vtable]
impl<F: FileSystem> InodeOperations<F> for Nothing {}

impl<F: FileSystem> RegularOperations<F> for Nothing {
    type Data = ();
    fn open(_: Opening<'_, F>) -> Result<SlabBox<()>> {
        Err(EIO)
    }
    fn io<'a>(_: OpenFile<'_, F>, _: &(), _: Io<'a, F>, _: bool) -> Result<Moved<'a>> {
        Err(EIO)
    }
    fn splice<'a>(_: OpenFile<'_, F>, _: &(), _: Splice<'a, F>, _: bool) -> Result<Moved<'a>> {
        Err(EIO)
    }
    fn is_mappable(_: OpenFile<'_, F>, _: &(), _: bool) -> Result<bool> {
        Err(EIO)
    }
    fn make_mappable(_: OpenFile<'_, F>, _: &(), _: bool) {}
    fn mmap(_: OpenFile<'_, F>, _: &(), _: Mapping<'_, F>) -> Result {
        Err(EIO)
    }
    fn seek(_: OpenFile<'_, F>, _: &(), _: i64, _: i32) -> Result<i64> {
        Err(EIO)
    }
    fn generation(_: OpenFile<'_, F>, _: Generation<'_>) -> Result {
        Err(ENOTTY)
    }
    fn fsync(_: OpenFile<'_, F>, _: &(), _: i64, _: i64, _: bool) -> Result {
        Err(EIO)
    }
    fn fallocate(_: OpenFile<'_, F>, _: &(), _: i32, _: i64, _: i64) -> Result {
        Err(EIO)
    }
    fn fadvise(_: OpenFile<'_, F>, _: &(), _: i64, _: i64, _: i32) -> Result {
        Err(EIO)
    }
    fn flush(_: OpenFile<'_, F>, _: &(), _: Flush<'_>) -> Result {
        Err(EIO)
    }
    fn transfer(
        _: Transfer,
        _: (OpenFile<'_, F>, &()),
        _: (OpenFile<'_, F>, &()),
        _: Range,
    ) -> Result<i64> {
        Err(EIO)
    }
}

impl<F: FileSystem> DirectoryOperations<F> for Nothing {
    type Data = ();
    fn open(_: Opening<'_, F>) -> Result<SlabBox<()>> {
        Err(EIO)
    }
    fn iterate(_: Listed<'_, F>, _: &(), _: &mut DirContext<'_>) -> Result {
        Err(EIO)
    }
    fn seek(_: OpenFile<'_, F>, _: &(), _: i64, _: i32) -> Result<i64> {
        Err(EIO)
    }
    fn generation(_: OpenFile<'_, F>, _: Generation<'_>) -> Result {
        Err(ENOTTY)
    }
    fn fsync(_: OpenFile<'_, F>, _: &(), _: i64, _: i64, _: bool) -> Result {
        Err(EIO)
    }
}

impl<F: FileSystem> Handler<F> for Nothing {
    const PREFIX: &'static CStr = c"";
    fn get(_: &OwnDentry<F>, _: &OwnInode<F>, _: &CStr, _: &mut OutBuf<'_>) -> Result {
        Err(EIO)
    }
    fn set(_: &OwnDentry<F>, _: &OwnInode<F>, _: &CStr, _: Option<&[u8]>, _: SetFlags) -> Result {
        Err(EIO)
    }
}

impl<F: FileSystem> Context<F> for Nothing {
    fn new() -> Result<Self> {
        Ok(Self)
    }
    fn parameter(&mut self, _: &FsContext, _: &CStr, _: Value<'_>) -> Result<bool> {
        Ok(false)
    }
    fn repeat(&mut self, _: &FsContext, _: &F, _: &CStr, _: Value<'_>) -> Result<bool> {
        Ok(false)
    }
    fn reconfigure(&mut self, _: &FsContext, _: &OwnSuper<F>, _: bool) -> Result {
        Ok(())
    }
    fn split_option(_: &[u8]) -> Option<usize> {
        None
    }
}

/// Another filesystem than the union: `$fs`, generic as in the brackets, whose first field are credentials, with `$regular` for
/// its operations on open regular files.
macro_rules! filesystem {
    ([$($generic:tt)*] $fs:ty, $regular:ty) => {
        impl<$($generic)*> crate::vfs::fs::FileSystem for $fs {
            const NAME: &'static CStr = c"other";
            const INODE_CACHE: &'static CStr = c"other_inode";
            const FILE_CACHE: &'static CStr = c"other_file";
            const DIRECTORY_CACHE: &'static CStr = c"other_dir_file";
            const MAGIC: u32 = 0;
            const POLICY: Policy = Overlay::POLICY;
            type Inode = Nothing;
            type NameMarks = u32;
            type Context = Nothing;
            type Regular = Nothing;
            type Directory = Nothing;
            type Symlink = Nothing;
            type Special = Nothing;
            type RegularFile = $regular;
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
    };
}
pub(crate) use filesystem;
