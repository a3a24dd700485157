// SPDX-License-Identifier: GPL-2.0

//! Mounting: the layers opened, the options settled, the root made.

use super::{
    capability::{Capabilities, Identity, OwnMarks, Upper},
    given::Given,
    index::Names,
    layers::{Named, Opening},
    messages::{refuse, say, Level, Message, Messages},
    options::{Requested, Uuid},
    params::Params,
    resolve::{resolve, Effective},
    workdir,
};
use crate::overlay::{
    dir::cache::DirCaches,
    layer::{
        handle, marks,
        xattr_names::{Mark, Namespace},
        UPPER,
    },
    object::{
        export,
        found::Object,
        inode::{revalidate_flags, NameMark},
        lowerdata::DataFound,
    },
    union::{LastIno, Layers, Overlay},
    written::Written,
    xattr::{OtherHandler, OwnHandler},
};
use crate::vfs::{
    backing::{InLayer, Lowers},
    context::FsContext,
    cred::{self, NewCred},
    dentry::WEAK_REVALIDATE,
    mount::PathRef,
    published::Published,
    super_block::{self, FilledSuper, KnownErrors, NewSuper, Rooted, SbFlag},
    xattr,
};
use kernel::{
    cred::Credential,
    prelude::*,
    sync::{aref::ARef, atomic::Atomic},
};

/// Fills the super block as `params` say: what is refused whatever the layers are, is, before one is opened; the
/// layers are opened and compared; the options are settled with what the layers can do; the root is made.
///
/// # Errors
///
/// The reason is in the kernel log, and mostly in the context's; what was opened is closed again.
pub(crate) fn fill_super<'a>(
    sb: NewSuper<'a, Overlay>,
    fc: &FsContext,
    params: &mut Params,
) -> Result<Rooted<'a, Overlay>> {
    // The context may have been passed to a task in another user namespace.
    if !fc.in_user_ns(true) {
        return refuse(fc, EINVAL, fmt!("mount context of another user namespace"));
    }
    let creds = match params.creds.take() {
        Some(creds) => creds,
        None => NewCred::prepare_restricted()?.commit(),
    };
    cred::scope(&creds.clone(), |_| mount(sb, fc, params, creds))
}

/// [`fill_super`], with the credentials that the layers are used with.
fn mount<'a>(
    mut sb: NewSuper<'a, Overlay>,
    fc: &FsContext,
    params: &mut Params,
    creds: ARef<Credential>,
) -> Result<Rooted<'a, Overlay>> {
    let mut can = Capabilities::best(cred::is_sysadmin(), params.upper.is_some());
    // Said when all is known.
    let mut messages = Messages::default();
    let most = settle(fc, params, &can, &mut messages)?;
    check_directories(fc, params)?;
    let mut opening = Opening::new(fc, sb.sb().dev(), sb.claims());
    let below = params.lower.len() + params.data.len();
    opening.expect(&most);
    opening.reserve(params.upper.is_some(), below)?;
    can.upper = open_upper(&mut opening, params)?;
    let most = settle(fc, params, &can, &mut messages)?;
    opening.expect(&most);
    let lower = Iterator::chain(params.lower.iter(), &params.data);
    opening.check_depth(Iterator::chain(params.upper.iter(), lower))?;
    opening.open_lower(&params.lower, &params.data)?;
    if params.folds == Some(true) {
        opening.check_folding()?;
    }
    opening.check_overlap(params.work.as_ref().filter(|_| can.upper.is_some()))?;
    if most.has_uuid() {
        identify(&mut sb, opening.layers(), &mut can, &most);
    }
    (can.handles, can.filesystems) = (opening.handles()?, opening.filesystems());
    let mut config = settle(fc, params, &can, &mut messages)?;
    for message in messages.iter() {
        say(message.level(), fmt!("{message}"));
    }
    opening.judge_uuids(&config);
    if config.has_index() && !open_index(&mut opening, params, &config)? {
        // As where the work directory cannot be made.
        can.upper = can.upper.map(|upper| Upper {
            features: None,
            ..upper
        });
        let has_export = config.has_export();
        config = settle(fc, params, &can, &mut messages)?;
        if has_export {
            let message = Message::ExportWithoutIndex;
            say(message.level(), fmt!("{message}"));
        }
    }
    let known_errors = known_errors(fc, opening.layers(), &config)?;
    set_attributes(&mut sb, opening.layers(), &config);
    match config.namespace() {
        Namespace::Trusted => sb.set_xattrs::<(OwnHandler<false>, OtherHandler)>(),
        Namespace::User => sb.set_xattrs::<(OwnHandler<true>, OtherHandler)>(),
    }
    let given = given(params)?;
    if config.is_volatile() {
        // Last of all that can be refused: a mount that does not come to be leaves no mark.
        mark_volatile(fc, opening.layers())?;
    }
    let folds = opening.folds();
    let mut sb = set_data(sb, opening, creds, config, given, known_errors, &can)?;
    if folds {
        let top = if sb.sb().fs().upper().is_some() {
            UPPER
        } else {
            UPPER + 1
        };
        sb.fold_case_as(top)?;
    }
    make_root(sb)
}

/// [`resolve`], a refusal said.
fn settle(
    fc: &FsContext,
    params: &Params,
    can: &Capabilities,
    messages: &mut Messages,
) -> Result<Effective> {
    let requested = Requested {
        data_layers: !params.data.is_empty(),
        ..params.requested
    };
    resolve(&requested, can, messages)
        .or_else(|refusal| refuse(fc, refusal.error(), fmt!("{refusal}")))
}

/// Checks that no directory is missing.
fn check_directories(fc: &FsContext, params: &Params) -> Result {
    let number = params.lower.len() + params.data.len();
    if number == 0 {
        return refuse(fc, EINVAL, fmt!("missing 'lowerdir'"));
    }
    match (&params.upper, &params.work) {
        (Some(_), Some(_)) => {}
        (Some(_), None) => return refuse(fc, EINVAL, fmt!("missing 'workdir'")),
        (None, work) => {
            if number == 1 {
                return refuse(
                    fc,
                    EINVAL,
                    fmt!("at least 2 lowerdir are needed while upperdir nonexistent"),
                );
            }
            if work.is_some() {
                say(
                    Level::Info,
                    fmt!("option \"workdir\" is useless in a non-upper mount, ignore"),
                );
            }
        }
    }
    if params.lower.is_empty() {
        return refuse(
            fc,
            EINVAL,
            fmt!("at least one non-data lowerdir is required"),
        );
    }
    Ok(())
}

/// Opens upper and its work directory.
fn open_upper(opening: &mut Opening<'_>, params: &Params) -> Result<Option<Upper>> {
    let Some((upper, work)) = params.upper.as_ref().zip(params.work.as_ref()) else {
        return Ok(None);
    };
    opening.open_upper(upper)?;
    Ok(Some(Upper {
        features: opening.open_work(params.requested.settings.namespace(), upper, work)?,
        identity: Identity::Known,
        handles: opening.upper_has_handles(),
    }))
}

/// Opens the index; `false` where it cannot be made.
fn open_index(opening: &mut Opening<'_>, params: &Params, config: &Effective) -> Result<bool> {
    let (upper, work) = params.upper.as_ref().zip(params.work.as_ref()).ok_or(EIO)?;
    let lower = params.lower.first().ok_or(EIO)?;
    let names = Names { lower, upper, work };
    opening.open_index(config, names)
}

/// Gives the union the UUID that upper has or gets.
fn identify(
    sb: &mut NewSuper<'_, Overlay>,
    layers: &Layers,
    can: &mut Capabilities,
    most: &Effective,
) {
    if let Some((upper, layer)) = can.upper.as_mut().zip(layers.upper()) {
        let mut uuid = [0; 16];
        let root = layer.mnt().root();
        upper.identity = upper_uuid(most.namespace(), root, most.uuid.value, &mut uuid);
        if matches!(upper.identity, Identity::Known | Identity::Made) {
            sb.set_uuid(&uuid);
        }
    }
}

/// Reads the UUID that upper has. A new upper is given one; so is, with `uuid=on`, any.
fn upper_uuid(own: Namespace, path: PathRef<'_>, how: Uuid, uuid: &mut [u8; 16]) -> Identity {
    let name = own.name(Mark::Uuid);
    match xattr::get(path, name, uuid) {
        Ok(16) => return Identity::Known,
        Ok(_) => return Identity::Unreadable(EINVAL),
        Err(e) if e == ENODATA => {}
        Err(e) => return Identity::Unreadable(e),
    }
    if how == Uuid::Auto {
        match xattr::len(path, own.name(Mark::Impure)) {
            Ok(None) => {}
            Ok(Some(_)) => return Identity::Without,
            Err(e) => return Identity::Unreadable(e),
        }
    }
    *uuid = super_block::random_uuid();
    let write = path.mnt().want_write().and_then(|write| {
        let path = write.writing().path(path.dentry())?;
        xattr::set(path, name, uuid, xattr::SetFlags::ANY)
    });
    match write {
        Ok(()) => Identity::Made,
        Err(e) => Identity::Unwritable(e),
    }
}

/// The writeback errors of upper from before the mount.
///
/// # Errors
///
/// `EIO` for a volatile mount where nobody was told of the last one yet, which would be taken for one of the mount.
fn known_errors(
    fc: &FsContext,
    layers: &Layers,
    config: &Effective,
) -> Result<Option<KnownErrors>> {
    let Some(upper) = layers.upper().map(|upper| upper.mnt().sb()) else {
        return Ok(None);
    };
    let known = upper.known_errors();
    if config.is_volatile() && upper.no_error_since(&known).is_err() {
        return refuse(
            fc,
            EIO,
            fmt!(
                "Cannot mount volatile when upperdir has an unseen error. Sync upperdir fs to clear state."
            ),
        );
    }
    Ok(Some(known))
}

/// Leaves the mark of a volatile mount, where anything can be written.
fn mark_volatile(fc: &FsContext, layers: &Layers) -> Result {
    let Some((upper, work)) = layers.upper().zip(layers.work.as_ref()) else {
        return Ok(());
    };
    let write = upper.mnt().want_write()?;
    workdir::mark_volatile(write.writing(), work.dir.as_ref().dentry())
        .or_else(|e| refuse(fc, e, fmt!("Failed to create volatile/dirty file.")))
}

/// Sets what the super block takes from the layers.
fn set_attributes(sb: &mut NewSuper<'_, Overlay>, layers: &Layers, config: &Effective) {
    if let Some(upper) = layers.upper() {
        let of_upper = upper.mnt().sb();
        if of_upper.is_nosec() {
            sb.set_flag(SbFlag::NoSec);
        }
        sb.set_time_gran(of_upper.time_gran());
    }
    if let Some(top) = layers.upper().or(layers.lower().first()) {
        sb.set_block_size_of(top.mnt().sb());
    }
    if layers.work.is_none() {
        sb.set_flag(SbFlag::ReadOnly);
    }
    if config.has_export() {
        sb.set_export(export::HANDLES);
    } else if handle::all_decode(layers.mounts()) {
        sb.set_export(export::IDENTIFIERS);
    }
}

/// What was given, taken out of `params`.
fn given(params: &mut Params) -> Result<Given> {
    let names = |all: &mut KVec<Named>| {
        let mut names = KVec::with_capacity(all.len(), GFP_KERNEL)?;
        for named in core::mem::take(all) {
            names.push(named.name, GFP_KERNEL)?;
        }
        Ok::<_, Error>(names)
    };
    Ok(Given {
        lowerdir: params.lowerdir.take(),
        lower: names(&mut params.lower)?,
        data: names(&mut params.data)?,
        upper: params.upper.take().map(|named| named.name),
        work: params.work.take().map(|named| named.name),
        requested: params.requested,
    })
}

/// Installs what the mount keeps.
fn set_data<'sb>(
    sb: NewSuper<'sb, Overlay>,
    opening: Opening<'_>,
    creds: ARef<Credential>,
    config: Effective,
    given: Given,
    known_errors: Option<KnownErrors>,
    can: &Capabilities,
) -> Result<FilledSuper<'sb, Overlay>> {
    let (numbering, folds) = (config.numbering(can.filesystems), opening.folds());
    let (layers, mounts, name_len) = opening.finish();
    let features = can.upper.and_then(|upper| upper.features);
    let upper_xattrs = features.is_some_and(|features| features.marks == OwnMarks::Work);
    let dir_caches = DirCaches::new()?;
    let is_apart = !config.is_volatile()
        && layers
            .upper()
            .is_some_and(|upper| upper.mnt().sb().commits_apart());
    let data = pin_init!(Overlay {
        last_ino: LastIno(Atomic::new(1)),
        layers,
        numbering,
        creds,
        folds,
        config,
        given,
        name_len,
        upper_xattrs: Atomic::new(upper_xattrs),
        share_whiteouts: Atomic::new(true),
        whiteout: Published::new(),
        said_overflow: Atomic::new(false),
        known_errors,
        dir_caches,
        written <- Written::new(is_apart),
    });
    Ok(sb.set_data(data, mounts, is_apart))
}

/// Makes the root directory of upper's root and those of all lower layers.
fn make_root(sb: FilledSuper<'_, Overlay>) -> Result<Rooted<'_, Overlay>> {
    let fs = sb.sb().fs();
    let upper = fs.upper().map(|layer| layer.mnt().root().dentry().get());
    let mut lower = Lowers::default();
    for (index, layer) in fs.lower_layers().iter().enumerate() {
        let number = u16::try_from(index + 1)?;
        let root = layer.mnt().root().dentry().get();
        let more = fs.lower_layers().len() - index - 1;
        lower.push(InLayer::new(root, number), more)?;
    }
    // The marker is looked for in all layers but the lowest, which hides nothing.
    let mut xwhiteouts = false;
    if let Some((_, hiding)) = fs.lower_layers().split_last() {
        for layer in hiding {
            if marks::dir_mark(fs.namespace(), layer.mnt().root(), Mark::Opaque) == Some(b'x') {
                layer.set_xwhiteouts();
                xwhiteouts = true;
            }
        }
    }
    let has_upper = upper.is_some();
    let object = Object {
        upper,
        lower,
        data: DataFound::default(),
        is_indexed: false,
        is_made: false,
    };
    let inode = object.root(sb.sb())?;
    let rooted = sb.set_root(inode)?;
    let root = rooted.root();
    if has_upper {
        root.marks().set(NameMark::UpperAlias);
    }
    if xwhiteouts {
        root.marks().set(NameMark::XWhiteouts);
    }
    root.change_revalidate(WEAK_REVALIDATE, revalidate_flags(root) & WEAK_REVALIDATE);
    Ok(rooted)
}
