// SPDX-License-Identifier: GPL-2.0

//! What is in effect, of what is asked for and what the mounter and the layers can do. Pure.

use super::{
    capability::{Capabilities, Features, Filesystems, Handles, Identity, OwnMarks, Upper},
    messages::{Message, Messages, Refusal},
    options::{By, Fsync, RedirectDir, Requested, Settings, Switch, Uuid, Verity, Xino},
};
use crate::overlay::layer::{numbering::Numbering, xattr_names::Namespace};
use core::ops::Deref;

mod tests;

/// The options in effect. Only [`resolve`] makes one, and nothing changes it.
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
        has_uuid(self)
    }

    /// Whether handles say the UUID of the filesystem that they are of.
    pub(crate) fn names_filesystems(&self) -> bool {
        self.uuid.value != Uuid::Off
    }

    /// Where inode numbers come from, with layers on `filesystems`.
    pub(crate) fn numbering(&self, filesystems: Filesystems) -> Numbering {
        match (filesystems, self.xino.value) {
            (Filesystems::One, _) => Numbering::OneFs,
            (Filesystems::Several(_), Xino::Off) => Numbering::Apart,
            (Filesystems::Several(bits), Xino::Auto | Xino::On) => Numbering::Tagged(bits),
        }
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
            || self.has_index()
            || self.has_export()
            || self.xino.value == Xino::On
    }

    /// Whether file handles can be opened.
    pub(crate) fn has_export(&self) -> bool {
        self.nfs_export.value == Switch::On
    }

    /// Whether the links of a lower file stay links of one file when it is copied up.
    pub(crate) fn has_index(&self) -> bool {
        self.index.value == Switch::On
    }

    /// Whether attributes are copied up without data, and files without data are looked for below.
    pub(crate) fn has_metacopy(&self) -> bool {
        self.metacopy.value == Switch::On
    }
}

/// Whether the union's UUID is, or is to be, upper's own.
fn has_uuid(settings: &Settings) -> bool {
    matches!(settings.uuid.value, Uuid::Auto | Uuid::On)
}

/// What becomes of `requested` with `can`; in `messages` is what there is to say of it.
///
/// The order is that of overlayfs: what has no meaning without upper, options that depend on one another, what the
/// mounter may not, what upper and the other layers cannot do.
///
/// # Errors
///
/// The reason to refuse the mount.
pub(crate) fn resolve(
    requested: &Requested,
    can: &Capabilities,
    messages: &mut Messages,
) -> Result<Effective, Refusal> {
    let mut settings = requested.settings;
    messages.clear();
    if can.upper.is_none() {
        without_upper(&mut settings, messages);
    }
    metacopy(&mut settings, messages)?;
    nfs_export(&mut settings, can.upper.is_some(), messages)?;
    match settings.namespace() {
        Namespace::User => user_marks(&mut settings)?,
        Namespace::Trusted if !can.sysadmin => mounter(requested, &settings)?,
        Namespace::Trusted => {}
    }
    if let Some(upper) = can.upper {
        if let Some(features) = upper.features {
            upper_features(&mut settings, &features, messages)?;
        }
        index(&mut settings, &upper, can.handles, messages);
        upper_uuid(&mut settings, upper.identity, messages);
    }
    opened_handles(&mut settings, can, messages);
    xino(&mut settings, can, messages);
    Ok(Effective(settings))
}

/// What has no meaning, or another one, where nothing is written.
fn without_upper(settings: &mut Settings, messages: &mut Messages) {
    if settings.index.value == Switch::On {
        if settings.index.is_asked_for() {
            messages.push(Message::IndexWithoutUpper);
            // It is not as if it had been asked to be off.
            settings.index.by = By::Default;
        }
        settings.index.value = Switch::Off;
    }
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
            messages.push(Message::MetacopyDisabled(settings.spelled("redirect_dir")));
        }
        (_, false) => settings.redirect_dir.value = RedirectDir::On,
    }
    Ok(())
}

/// A handle of a lower object leads to its copy by the index; where nothing is copied, to where its name is, if that is the
/// same in all layers. None leads to data that is elsewhere.
fn nfs_export(
    settings: &mut Settings,
    has_upper: bool,
    messages: &mut Messages,
) -> Result<(), Refusal> {
    let (export, index, metacopy) = (settings.nfs_export, settings.index, settings.metacopy);
    if export.value == Switch::Off {
        return Ok(());
    }
    if index.value == Switch::Off {
        if !has_upper && settings.redirect_dir.value != RedirectDir::NoFollow {
            settings.nfs_export.value = Switch::Off;
            messages.push(Message::ExportWithRedirects);
            return Ok(());
        }
        match (export.is_asked_for(), index.is_asked_for()) {
            (true, true) => {
                return Err(Refusal::Conflict(
                    settings.spelled("nfs_export"),
                    settings.spelled("index"),
                ))
            }
            (false, true) => {
                settings.nfs_export.value = Switch::Off;
                messages.push(Message::ExportDisabled(settings.spelled("index")));
                return Ok(());
            }
            (_, false) if has_upper => settings.index.value = Switch::On,
            (_, false) => {}
        }
    }
    if metacopy.value == Switch::Off {
        return Ok(());
    }
    let why = match (metacopy.is_asked_for(), settings.verity.value) {
        (true, _) if export.is_asked_for() => {
            return Err(Refusal::Conflict(
                settings.spelled("nfs_export"),
                settings.spelled("metacopy"),
            ))
        }
        (true, _) => "metacopy",
        (false, Verity::On | Verity::Require) => "verity",
        (false, Verity::Off) => {
            settings.metacopy.value = Switch::Off;
            messages.push(Message::MetacopyDisabled(settings.spelled("nfs_export")));
            return Ok(());
        }
    };
    settings.nfs_export.value = Switch::Off;
    messages.push(Message::ExportDisabled(settings.spelled(why)));
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
        if settings.index.value == Switch::On {
            settings.index.value = Switch::Off;
            messages.push(Message::IndexOff);
        }
        if has_uuid(settings) {
            settings.uuid.value = Uuid::Null;
            messages.push(Message::UuidOff);
        }
        if settings.xino.value == Xino::Auto {
            settings.xino.value = Xino::Off;
            messages.push(Message::XinoOff);
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

/// An index names lower objects by their handles, and is written as upper is.
fn index(settings: &mut Settings, upper: &Upper, handles: Handles, messages: &mut Messages) {
    if settings.index.value == Switch::Off {
        return;
    }
    let reason = match handles {
        _ if !upper.handles => Some(Message::NoIndexInUpper),
        Handles::All | Handles::Nameless(_) => None,
        Handles::NotOfLower(_) | Handles::Ambiguous(_) => Some(Message::NoIndex(handles)),
    };
    if let Some(message) = reason {
        messages.push(message);
    }
    if reason.is_some() || upper.features.is_none() {
        settings.index.value = Switch::Off;
    }
}

/// What handles can be opened with.
fn opened_handles(settings: &mut Settings, can: &Capabilities, messages: &mut Messages) {
    if settings.nfs_export.value == Switch::Off {
        return;
    }
    let reason = match &can.upper {
        None if matches!(can.handles, Handles::All | Handles::Nameless(_)) => return,
        None => Message::NoIndex(can.handles),
        Some(_) if settings.index.value == Switch::On => return,
        Some(_) => Message::ExportWithoutIndex,
    };
    settings.nfs_export.value = Switch::Off;
    messages.push(reason);
}

/// Numbers that tell their filesystem are to be those of the next mount, too, unless they are asked for whatever they are:
/// what was copied up then finds by its handle what it comes from.
fn xino(settings: &mut Settings, can: &Capabilities, messages: &mut Messages) {
    let xino = settings.xino.value;
    let Filesystems::Several(bits) = can.filesystems else {
        if xino == Xino::On {
            messages.push(Message::XinoUseless);
        }
        return;
    };
    let copies_up = can.upper.is_some() || settings.nfs_export.value == Switch::On;
    let lasts = match can.handles {
        Handles::All => true,
        Handles::Nameless(_) => Effective(*settings).needs_origins(),
        Handles::NotOfLower(_) | Handles::Ambiguous(_) => false,
    };
    match xino {
        Xino::Off => {}
        Xino::Auto if copies_up && !lasts => {
            settings.xino.value = Xino::Off;
            messages.push(Message::NoXino(can.handles));
        }
        Xino::Auto | Xino::On => messages.push(Message::Xino(bits)),
    }
}

/// A new upper has got a UUID, an old one without stays so.
fn upper_uuid(settings: &mut Settings, identity: Identity, messages: &mut Messages) {
    if !has_uuid(settings) {
        return;
    }
    let uuid = &mut settings.uuid.value;
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
