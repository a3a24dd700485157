// SPDX-License-Identifier: GPL-2.0

//! What is in effect, of what is asked for and what the mounter and the layers can do. Pure.

use super::{
    capability::{Capabilities, Features, Identity, OwnMarks},
    messages::{Message, Messages, Refusal},
    options::{Fsync, RedirectDir, Requested, Settings, Switch, Uuid, Verity},
};
use crate::overlay::layer::xattr_names::Namespace;
use core::ops::Deref;

mod tests;

/// The options in effect: none of those that do not exist yet. Only [`resolve`] makes one, and nothing changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Effective(Settings);

impl Deref for Effective {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl Effective {
    /// Whether the union's UUID is upper's own.
    pub(crate) fn has_uuid(&self) -> bool {
        matches!(self.uuid.value, Uuid::Auto | Uuid::On)
    }

    /// Whether nothing is written back for the mount.
    #[inline]
    pub(crate) fn is_volatile(&self) -> bool {
        self.fsync.value == Fsync::Volatile
    }

    /// Whether an object that was copied up is bound to the lower object that it comes from: the lower layers
    /// may not be changed or replaced while they are not mounted then.
    pub(crate) fn needs_origins(&self) -> bool {
        self.redirect_dir.value == RedirectDir::On
    }

    /// Whether attributes are copied up without data, and files without data are looked for below.
    pub(crate) fn has_metacopy(&self) -> bool {
        self.metacopy.value == Switch::On
    }
}

/// What becomes of `requested` with `can`.
///
/// The order is that of overlayfs: what has no meaning without upper, options that depend on one another, what the
/// mounter may not, what upper cannot do; the options of features to come have their lines there.
///
/// # Errors
///
/// The reason to refuse the mount.
pub(crate) fn resolve(
    requested: &Requested,
    can: &Capabilities,
) -> Result<(Effective, Messages), Refusal> {
    if let Some(option) = requested.settings.not_yet() {
        return Err(Refusal::NotYet(option));
    }
    let mut settings = requested.settings;
    let mut messages = Messages::default();
    if can.upper.is_none() {
        without_upper(&mut settings, &mut messages);
    }
    metacopy(&mut settings, &mut messages)?;
    match settings.namespace() {
        Namespace::User => user_marks(&mut settings)?,
        Namespace::Trusted if !can.sysadmin => mounter(requested, &settings)?,
        Namespace::Trusted => {}
    }
    if let Some(upper) = can.upper {
        if let Some(features) = upper.features {
            upper_features(&mut settings, &features, &mut messages)?;
        }
        upper_uuid(&mut settings, upper.identity, &mut messages);
    }
    Ok((Effective(settings), messages))
}

/// What has no meaning, or another one, where nothing is written.
fn without_upper(settings: &mut Settings, messages: &mut Messages) {
    if settings.fsync.value == Fsync::Volatile {
        settings.fsync.value = Fsync::Auto;
        messages.push(Message::VolatileWithoutUpper);
    }
    if settings.uuid.value == Uuid::On {
        settings.uuid.value = Uuid::Null;
        messages.push(Message::UuidWithoutUpper);
    }
    if settings.redirect_dir.value == RedirectDir::Follow {
        // Nothing is renamed, and this is what overlayfs shows then.
        settings.redirect_dir.value = RedirectDir::On;
    }
}

/// What was copied without its data may be renamed, so a redirect says where that is.
fn metacopy(settings: &mut Settings, messages: &mut Messages) -> Result<(), Refusal> {
    let redirects = settings.redirect_dir;
    if settings.metacopy.value == Switch::Off || redirects.value == RedirectDir::On {
        return Ok(());
    }
    match (settings.metacopy.is_asked_for(), redirects.is_asked_for()) {
        (true, true) => {
            return Err(Refusal::Conflict(
                settings.spelled("metacopy"),
                settings.spelled("redirect_dir"),
            ))
        }
        (false, true) => {
            settings.metacopy.value = Switch::Off;
            messages.push(Message::MetacopyDisabled(redirects.value));
        }
        (_, false) => settings.redirect_dir.value = RedirectDir::On,
    }
    Ok(())
}

/// Whoever may write to an object of a layer sets `user.*` marks: one that leads elsewhere is neither made nor followed.
fn user_marks(settings: &mut Settings) -> Result<(), Refusal> {
    let redirects = &mut settings.redirect_dir;
    if redirects.is_asked_for() && redirects.value != RedirectDir::NoFollow {
        return Err(Refusal::Conflict(
            settings.spelled("userxattr"),
            settings.spelled("redirect_dir"),
        ));
    }
    redirects.value = RedirectDir::NoFollow;
    if settings.metacopy.is_asked_for() && settings.metacopy.value == Switch::On {
        return Err(Refusal::Conflict(
            settings.spelled("userxattr"),
            settings.spelled("metacopy"),
        ));
    }
    settings.metacopy.value = Switch::Off;
    Ok(())
}

/// What a mounter without `CAP_SYS_ADMIN` may not, where it is asked for; a default that cannot be kept falls back later.
fn mounter(requested: &Requested, settings: &Settings) -> Result<(), Refusal> {
    let redirects = &settings.redirect_dir;
    if redirects.is_asked_for() && redirects.value != RedirectDir::NoFollow {
        return Err(Refusal::NotPermitted(settings.spelled("redirect_dir")));
    }
    let metacopy = &settings.metacopy;
    if metacopy.is_asked_for() && metacopy.value == Switch::On {
        return Err(Refusal::NotPermitted(settings.spelled("metacopy")));
    }
    if settings.verity.value != Verity::Off {
        return Err(Refusal::NotPermitted(settings.spelled("verity")));
    }
    if requested.data_layers {
        return Err(Refusal::DataNotPermitted);
    }
    Ok(())
}

/// What the filesystem of upper lacks.
fn upper_features(
    settings: &mut Settings,
    features: &Features,
    messages: &mut Messages,
) -> Result<(), Refusal> {
    if !features.types {
        messages.push(Message::NoTypes);
    }
    if !features.tmpfile {
        messages.push(Message::NoTmpfile);
    }
    if !features.whiteouts {
        messages.push(Message::NoWhiteouts);
    }
    if features.marks != OwnMarks::Work {
        messages.push(Message::NoMarks);
        if settings.redirect_dir.value != RedirectDir::NoFollow {
            settings.redirect_dir.value = RedirectDir::NoFollow;
            messages.push(Message::RedirectsOff);
        }
        if settings.metacopy.value == Switch::On {
            settings.metacopy.value = Switch::Off;
            messages.push(Message::MetacopyOff);
        }
        if settings.uuid.value != Uuid::Null {
            settings.uuid.value = Uuid::Null;
            messages.push(Message::UuidOff);
        }
        let trusted = settings.namespace() == Namespace::Trusted;
        if trusted && features.marks == OwnMarks::NotPermitted {
            messages.push(Message::NotPermitted);
        }
    }
    if features.remote
        && !(features.types && features.whiteouts && features.marks == OwnMarks::Work)
    {
        return Err(Refusal::RemoteUpper(*features));
    }
    Ok(())
}

/// A new upper has got a UUID, an old one without stays so.
fn upper_uuid(settings: &mut Settings, identity: Identity, messages: &mut Messages) {
    let uuid = &mut settings.uuid.value;
    if *uuid == Uuid::Null {
        return;
    }
    match identity {
        Identity::Known => {}
        Identity::Made => *uuid = Uuid::On,
        Identity::Without => *uuid = Uuid::Null,
        Identity::Unreadable(e) => {
            *uuid = Uuid::Null;
            messages.push(Message::UuidUnreadable(e));
        }
        Identity::Unwritable(e) => {
            *uuid = Uuid::Null;
            messages.push(Message::UuidUnwritable(e));
        }
    }
}
