// SPDX-License-Identifier: GPL-2.0

//! Messages of a mount: what they say, and who reads it. All are in the kernel log, reasons of a refusal in the mount
//! context's, too, which `mount(8)` prints.

use super::{
    capability::{Features, Handles, OwnMarks},
    options::Spelled,
};
use crate::vfs::context::FsContext;
use kernel::{
    fmt::{self, Arguments},
    prelude::*,
};

/// How grave a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// There is no mount.
    Error,
    /// The mount is less than it could be.
    Warning,
    /// It is as it should be.
    Info,
}

/// Something that the mounter should know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// `volatile` without upper.
    VolatileWithoutUpper,
    /// `uuid=on` without upper.
    UuidWithoutUpper,
    /// `metacopy` cannot be with this, which was asked for.
    MetacopyDisabled(Spelled),
    /// `nfs_export=on` cannot be with this, which was asked for.
    ExportDisabled(Spelled),
    /// `nfs_export=on` without upper, and redirects.
    ExportWithRedirects,
    /// `nfs_export=on`, and the index cannot be.
    ExportWithoutIndex,
    /// Upper does not list the types of entries.
    NoTypes,
    /// Upper has no unnamed files.
    NoTmpfile,
    /// Upper leaves no whiteouts behind renames.
    NoWhiteouts,
    /// Upper has no extended attributes that can be used.
    NoMarks,
    /// Which turns redirects off.
    RedirectsOff,
    /// As it does metacopy.
    MetacopyOff,
    /// As it does the index.
    IndexOff,
    /// Which means no UUID.
    UuidOff,
    /// Nor numbers that are the same at the next mount.
    XinoOff,
    /// It is the mounter who may not set them.
    NotPermitted,
    /// `index=on` without upper.
    IndexWithoutUpper,
    /// What `index=on` needs, and is not so.
    NoIndex(Handles),
    /// Nor is it so with upper.
    NoIndexInUpper,
    /// What `xino=auto` needs, and is not so.
    NoXino(Handles),
    /// `xino=on`, and all layers are on one filesystem.
    XinoUseless,
    /// So many bits of inode numbers are used.
    Xino(u32),
    /// Upper's UUID is [`Identity::Unreadable`].
    UuidUnreadable(Error),
    /// Upper's UUID is [`Identity::Unwritable`].
    UuidUnwritable(Error),
}

impl Message {
    /// How grave it is.
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::VolatileWithoutUpper
            | Self::UuidWithoutUpper
            | Self::IndexWithoutUpper
            | Self::MetacopyDisabled(_)
            | Self::ExportDisabled(_)
            | Self::ExportWithRedirects
            | Self::XinoUseless
            | Self::Xino(_)
            | Self::NotPermitted => Level::Info,
            _ => Level::Warning,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uuid = |f: &mut fmt::Formatter<'_>, what: &str, e: &Error| {
            let errno = e.to_errno();
            f.write_fmt(fmt!(
                "failed to {what} uuid (err={errno}); falling back to uuid=null."
            ))
        };
        f.write_str(match self {
            Self::VolatileWithoutUpper => {
                "option \"volatile\" is meaningless in a non-upper mount, ignoring it."
            }
            Self::UuidWithoutUpper => {
                "option \"uuid=on\" requires an upper fs, falling back to uuid=null."
            }
            Self::MetacopyDisabled(by) => {
                return f.write_fmt(fmt!("disabling metacopy due to {by}"));
            }
            Self::ExportDisabled(by) => {
                return f.write_fmt(fmt!("disabling nfs_export due to {by}"));
            }
            Self::ExportWithRedirects => {
                "NFS export requires \"redirect_dir=nofollow\" on non-upper mount, falling back to nfs_export=off."
            }
            Self::ExportWithoutIndex => {
                "NFS export requires \"index=on\", falling back to nfs_export=off."
            }
            Self::NoTypes => "upper fs needs to support d_type.",
            Self::NoTmpfile => "upper fs does not support tmpfile.",
            Self::NoWhiteouts => "upper fs does not support RENAME_WHITEOUT.",
            Self::NoMarks => "failed to set xattr on upper",
            Self::RedirectsOff => "...falling back to redirect_dir=nofollow.",
            Self::MetacopyOff => "...falling back to metacopy=off.",
            Self::IndexOff => "...falling back to index=off.",
            Self::IndexWithoutUpper => {
                "option \"index=on\" is useless in a non-upper mount, ignore"
            }
            Self::NoIndex(handles) => {
                return poor_handles(f, *handles, "index=off,nfs_export=off");
            }
            Self::NoIndexInUpper => {
                "upper fs does not support file handles, falling back to index=off."
            }
            Self::NoXino(handles) => return poor_handles(f, *handles, "xino=off"),
            Self::XinoUseless => {
                "\"xino=on\" is useless with all layers on same fs, ignore."
            }
            Self::Xino(bits) => {
                return f.write_fmt(fmt!(
                    "\"xino\" feature enabled using {bits} upper inode bits."
                ));
            }
            Self::UuidOff => "...falling back to uuid=null.",
            Self::XinoOff => "...falling back to xino=off.",
            Self::NotPermitted => {
                "without trusted xattrs, directories of lower layers cannot be removed once they were changed, nor \
                 made anew (EIO); try mounting with 'userxattr' option"
            }
            Self::UuidUnreadable(e) => return uuid(f, "get", e),
            Self::UuidUnwritable(e) => return uuid(f, "set", e),
        })
    }
}

/// Says what handles of lower objects are not good for, and what that leads to.
fn poor_handles(f: &mut fmt::Formatter<'_>, handles: Handles, fallback: &str) -> fmt::Result {
    let (number, what) = match handles {
        Handles::All => return Ok(()),
        Handles::NotOfLower(number) => (number, "does not support file handles"),
        Handles::Nameless(number) => (number, "has a null uuid"),
        Handles::Ambiguous(number) => (number, "has a conflicting uuid"),
    };
    f.write_fmt(fmt!(
        "fs of lower layer {number} {what}, falling back to {fallback}."
    ))
}

/// More than one resolution can have.
const MOST_MESSAGES: usize = 14;

/// Messages, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Messages {
    list: [Option<Message>; MOST_MESSAGES],
    len: u8,
}

impl Messages {
    /// Takes all away.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds one.
    pub(crate) fn push(&mut self, message: Message) {
        if let Some(place) = self.list.get_mut(usize::from(self.len)) {
            *place = Some(message);
            self.len += 1;
        }
    }

    /// The messages.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.list.iter().take(usize::from(self.len)).flatten()
    }
}

/// Why there can be no mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Options that exclude each other.
    Conflict(Spelled, Spelled),
    /// This option is asked for by a mounter who cannot use `trusted.*` attributes.
    NotPermitted(Spelled),
    /// Data-only layers are asked for by one.
    DataNotPermitted,
    /// A remote upper without these.
    RemoteUpper(Features),
}

impl Refusal {
    /// The error to return.
    pub(crate) fn error(&self) -> Error {
        match self {
            Self::NotPermitted(_) | Self::DataNotPermitted => EPERM,
            Self::Conflict(..) | Self::RemoteUpper(_) => EINVAL,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(one, other) => f.write_fmt(fmt!("conflicting options: {one},{other}")),
            Self::NotPermitted(option) => f.write_fmt(fmt!(
                "{option} requires permission to access trusted xattrs"
            )),
            Self::DataNotPermitted => {
                f.write_str("lower data-only dirs require permission to access trusted xattrs")
            }
            Self::RemoteUpper(features) => {
                let (types, whiteouts) = (features.types, features.whiteouts);
                let xattrs = features.marks == OwnMarks::Work;
                f.write_fmt(fmt!(
                    "upper fs missing required features: d_type {types}, RENAME_WHITEOUT \
                     {whiteouts}, xattrs {xattrs}"
                ))
            }
        }
    }
}

/// Says something about a mount that is made, in the kernel log: `mount(8)` prints the context's, and programs that get
/// a mount expect no output of it.
#[cold]
#[inline(never)]
pub(crate) fn say(level: Level, message: Arguments<'_>) {
    match level {
        Level::Error => pr_err!("{message}\n"),
        Level::Warning => pr_warn!("{message}\n"),
        Level::Info => pr_info!("{message}\n"),
    }
}

/// Says why a mount is refused, and returns `error`. Software that compares what `mount(8)` prints must not notice the
/// drop-in: there the kernel log alone has what overlayfs has there alone.
#[inline(never)]
pub(crate) fn refuse<T>(fc: &FsContext, error: Error, message: Arguments<'_>) -> Result<T> {
    say(Level::Error, message);
    if cfg!(not(drop_in)) {
        tell_mounter(fc, message);
    }
    Err(error)
}

/// As [`refuse`] with `EINVAL`, for what overlayfs, too, puts into the context's log.
#[inline(never)]
pub(crate) fn invalid<T>(fc: &FsContext, message: Arguments<'_>) -> Result<T> {
    say(Level::Error, message);
    tell_mounter(fc, message);
    Err(EINVAL)
}

/// Puts an error into the context's log. A context of mount(2) has none of its own: it would be the kernel log again.
fn tell_mounter(fc: &FsContext, message: Arguments<'_>) {
    if !fc.is_old_api() {
        fc.log_error(message);
    }
}
