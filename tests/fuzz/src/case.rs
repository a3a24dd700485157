// SPDX-License-Identifier: GPL-2.0
//! A case is data: layers, options and steps. It is generated from a seed, replayed, shrunk, printed
//! as a script and kept as a regression.

use crate::op::{Op, Step};
use serde::{Deserialize, Serialize};
use std::ffi::CString;

/// Bytes as text: each character is one byte (U+0000 to U+00FF), so that a name of any bytes is readable
/// in JSON.
pub type Text = String;

/// The bytes that a text stands for.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

/// The text of some bytes.
pub fn text(bytes: &[u8]) -> Text {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// A path below `root`, for a system call.
pub fn below(root: &str, path: &str) -> CString {
    let mut all = root.as_bytes().to_vec();
    if !path.is_empty() {
        all.push(b'/');
        all.extend(path.chars().map(|c| c as u8));
    }
    all.retain(|b| *b != 0);
    CString::new(all).unwrap_or_default()
}

/// Everything that decides what a run does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Case {
    /// What it was generated from; 0 for one that was written by hand.
    pub seed: u64,
    /// Filesystem of the upper layer.
    pub upper_fs: String,
    /// The lower layers are on another filesystem (tmpfs) than the upper one.
    #[serde(default)]
    pub split: bool,
    /// rovl is mounted with `copy_up=open`.
    #[serde(default)]
    pub copy_up_open: bool,
    /// Mounted with `redirect_dir=on`; with `nofollow` otherwise.
    #[serde(default)]
    pub redirects: bool,
    /// Mounted with `userxattr`.
    #[serde(default)]
    pub userxattr: bool,
    /// Mounted with `metacopy=on`, which needs redirects; with `off` otherwise.
    #[serde(default)]
    pub metacopy: bool,
    /// Mounted with `index=on`; with `off` otherwise.
    #[serde(default)]
    pub index: bool,
    /// Mounted with `nfs_export=on`, which needs an index; with `off` otherwise.
    #[serde(default)]
    pub nfs_export: bool,
    /// Mounted with `xino=on`; with `off` otherwise.
    #[serde(default)]
    pub xino: bool,
    /// Or with `xino=auto`.
    #[serde(default)]
    pub xino_auto: bool,
    /// Mounted with `uuid=off`.
    #[serde(default)]
    pub uuid_off: bool,
    /// Mounted with `verity=on`.
    #[serde(default)]
    pub verity: bool,
    /// Or with `verity=require`.
    #[serde(default)]
    pub verity_required: bool,
    /// Mounted with `volatile`.
    #[serde(default)]
    pub volatile: bool,
    /// Mode of the root of every layer.
    pub root_mode: u32,
    /// The umask of all steps.
    pub umask: u32,
    /// Topmost first.
    pub lowers: Vec<Vec<Entry>>,
    /// Data-only layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<Vec<Entry>>,
    pub upper: Vec<Entry>,
    /// What lies in the work directory before the mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<Entry>,
    /// The layers are not what a kernel writes.
    #[serde(default)]
    pub hostile: bool,
    pub steps: Vec<Step>,
}

impl Case {
    /// The mount options, with a comma before each, but for those that name layers or that one type alone has.
    pub fn options(&self) -> String {
        let redirects = if self.redirects { "on" } else { "nofollow" };
        let switch = |on| if on { "on" } else { "off" };
        let (metacopy, index) = (switch(self.metacopy), switch(self.index));
        let export = switch(self.nfs_export);
        let xino = match (self.xino, self.xino_auto) {
            (false, _) => "off",
            (true, false) => "on",
            (true, true) => "auto",
        };
        let uuid = if self.uuid_off { ",uuid=off" } else { "" };
        let verity = match (self.verity, self.verity_required) {
            (false, _) => "",
            (true, false) => ",verity=on",
            (true, true) => ",verity=require",
        };
        let user = if self.userxattr { ",userxattr" } else { "" };
        let volatile = if self.volatile { ",volatile" } else { "" };
        format!(
            ",redirect_dir={redirects},metacopy={metacopy},index={index},nfs_export={export},xino={xino}{uuid}{verity}{user}{volatile}"
        )
    }

    /// Whether numbers say which filesystem they are of: `auto` does not where handles do not say it, either.
    pub fn has_xino(&self) -> bool {
        self.xino && !(self.xino_auto && self.uuid_off)
    }

    /// Where the union's own attributes are.
    pub fn own_prefix(&self) -> &'static str {
        if self.userxattr {
            "user.overlay."
        } else {
            "trusted.overlay."
        }
    }

    /// Goes from one namespace of the union's own attributes to the other, and with it all that names them.
    pub fn swap_namespace(&mut self) {
        self.userxattr = !self.userxattr;
        let layers = self
            .lowers
            .iter_mut()
            .chain(&mut self.data)
            .chain([&mut self.upper, &mut self.work]);
        let on_layers = layers
            .flatten()
            .flat_map(|e| e.xattrs.iter_mut().map(|(name, _)| name));
        let in_steps = self.steps.iter_mut().filter_map(|step| match &mut step.op {
            Op::SetXattr { name, .. }
            | Op::GetXattr { name, .. }
            | Op::RemoveXattr { name, .. } => Some(name),
            _ => None,
        });
        for name in on_layers.chain(in_steps) {
            let other = match name.strip_prefix("trusted.overlay.") {
                Some(mark) => Some(format!("user.overlay.{mark}")),
                None => name
                    .strip_prefix("user.overlay.")
                    .map(|mark| format!("trusted.overlay.{mark}")),
            };
            *name = other.unwrap_or_else(|| std::mem::take(name));
        }
    }
}

/// An object of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub path: Text,
    #[serde(flatten)]
    pub what: What,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds; always long ago, see `tree::time`.
    pub time: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(Text, Text)>,
    /// `FS_IOC_SETFLAGS`.
    #[serde(default, skip_serializing_if = "none")]
    pub flags: u32,
    /// fs-verity guards its data, where its filesystem can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guarded: bool,
    /// The file whose digest its mark says, if that is guarded: a path from the folder of the lower layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_of: Option<Text>,
}

impl Entry {
    /// One of root, with nothing set.
    pub fn plain(path: impl Into<Text>, what: What, mode: u32) -> Self {
        Self {
            path: path.into(),
            what,
            mode,
            uid: 0,
            gid: 0,
            time: 1,
            xattrs: Vec::new(),
            flags: 0,
            guarded: false,
            digest_of: None,
        }
    }
}

fn none(flags: &u32) -> bool {
    *flags == 0
}

/// What an entry is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    Dir,
    /// Data between holes.
    File {
        size: u64,
        pieces: Vec<(u64, u32, u8)>,
    },
    Symlink {
        target: Text,
    },
    /// A hard link to an earlier entry of the same layer.
    Link {
        to: Text,
    },
    /// A device, FIFO or socket: the type bits of a mode.
    Node {
        kind: u32,
        rdev: u64,
    },
    Whiteout,
    /// An empty file with `overlay.whiteout`, in a directory with `overlay.opaque` = x.
    XattrWhiteout,
}

/// The byte of a file at `at` that was written with `fill`.
pub fn pattern(fill: u8, at: u64) -> u8 {
    fill ^ (at as u8)
}
