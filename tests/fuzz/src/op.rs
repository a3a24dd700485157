// SPDX-License-Identifier: GPL-2.0
//! The operations: plain data, the same for both sides.

use crate::case::Text;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// One operation by one user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// 0 is root, 1 and 2 are users.
    #[serde(default, skip_serializing_if = "is_root")]
    pub who: u8,
    #[serde(flatten)]
    pub op: Op,
}

fn is_root(who: &u8) -> bool {
    *who == 0
}

/// What an operation is done to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    Path(Text),
    /// A path whose last symlink is not followed.
    Link(Text),
    /// An open file.
    Slot(u8),
}

/// A time of `utimensat`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Now,
    Omit,
    At(i64, u32),
}

/// The two files and the ranges of a copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Range {
    pub from: u8,
    pub to: u8,
    pub from_at: u64,
    pub to_at: u64,
    pub len: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "op", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[rustfmt::skip]
pub enum Op {
    Open { slot: u8, path: Text, flags: u32, mode: u32 },
    Close { slot: u8 },
    /// Opens what a slot has once more, by way of /proc/self/fd.
    Reopen { slot: u8, from: u8, flags: u32 },
    Read { slot: u8, at: Option<u64>, len: u32 },
    Write { slot: u8, at: Option<u64>, len: u32, fill: u8, rwf: u32 },
    Truncate { at: At, size: u64 },
    Fallocate { slot: u8, mode: u32, at: u64, len: u64 },
    MmapWrite { slot: u8, at: u64, len: u32, fill: u8, private: bool },
    MmapRead { slot: u8, at: u64, len: u32 },
    Seek { slot: u8, at: i64, whence: u32 },
    /// Lists a directory; then goes back to the `seek`th entry and lists the rest.
    List { at: At, buffer: u32, seek: u8 },
    Mkdir { path: Text, mode: u32 },
    Rmdir { path: Text },
    Unlink { path: Text },
    Mknod { path: Text, mode: u32, rdev: u64 },
    Symlink { target: Text, path: Text },
    Link { old: At, new: Text },
    Rename { old: Text, new: Text, flags: u32 },
    Chmod { at: At, mode: u32 },
    Chown { at: At, uid: u32, gid: u32 },
    Utimes { at: At, atime: When, mtime: When },
    SetXattr { at: At, name: Text, value: Text, flags: u32 },
    GetXattr { at: At, name: Text, size: u32 },
    ListXattr { at: At },
    RemoveXattr { at: At, name: Text },
    SetFlags { at: At, flags: u32 },
    GetFlags { at: At },
    Stat { at: At },
    Access { path: Text, mode: u32, effective: bool },
    Readlink { path: Text },
    Statfs { at: At },
    CopyRange { range: Range },
    Clone { range: Range, whole: bool },
    Dedupe { range: Range },
    Sendfile { range: Range },
    Splice { slot: u8, at: u64, len: u32, fill: u8 },
    /// A lock of the open file description: 0 read, 1 write, 2 unlock.
    Lock { slot: u8, kind: u8, start: u32, len: u32 },
    TestLock { slot: u8, kind: u8, start: u32, len: u32 },
    /// 0 shared, 1 exclusive, 2 unlock.
    Flock { slot: u8, kind: u8 },
    /// 0 fsync, 1 fdatasync, 2 syncfs, 3 sync_file_range.
    Sync { slot: u8, kind: u8 },
    Advise { slot: u8, advice: u32 },
    /// The file handle, which may be kept; `fid` for one that need not be decodable.
    Handle { at: At, #[serde(default)] keep: Option<u8>, #[serde(default)] fid: bool },
    /// Opens what a kept handle is of.
    OpenHandle { kept: u8, slot: u8, flags: u32 },
    Remount { read_only: bool },
    /// Unmounts and mounts again; with files held open, the unmount is refused.
    Again { close: bool },
    DropCaches,
    /// Compares everything.
    Checkpoint,
}

impl Op {
    /// The name of the operation.
    pub fn kind(&self) -> &'static str {
        self.into()
    }
}
