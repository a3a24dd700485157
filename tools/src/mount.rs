// SPDX-License-Identifier: GPL-2.0
//! `mount.rovl`, the helper that mount(8) calls for the type. Layers go to the kernel as descriptors.

use crate::mountinfo::Table;
use crate::options::{self, Named, Pair, Role};
use clap::{ArgAction, Parser};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountFlags, MountPropagationFlags,
    MoveMountFlags,
};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Mounts a union of directories: what mount(8) calls for the filesystem type.
///
/// It is not usually called by hand, but by 'mount -t rovl', 'mount DIR' and 'mount -a'.
#[derive(Parser, Debug)]
#[command(name = "mount.rovl", version, after_help = HELP)]
struct Args {
    /// A name for the mount; no device is used
    source: OsString,
    /// Where it is mounted
    dir: PathBuf,
    /// Leave options out that the kernel does not know
    #[arg(short)]
    sloppy: bool,
    /// Look at everything, but do not mount
    #[arg(short)]
    fake: bool,
    /// No effect: there is no /etc/mtab
    #[arg(short)]
    no_mtab: bool,
    /// Say what is done
    #[arg(short)]
    verbose: bool,
    /// The mount namespace to mount in: a process, or a file of /proc/PID/ns
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<OsString>,
    /// Another type that has these options: overlay
    #[arg(short = 't', value_name = "TYPE")]
    fstype: Option<String>,
    /// Options, with commas between
    #[arg(short = 'o', value_name = "OPTIONS", action = ArgAction::Append)]
    options: Vec<OsString>,
}

const HELP: &str = "\
Layers:
  lowerdir=DIR[:DIR]...[::DATA]...  lower layers, the topmost first; then data-only ones
  lowerdir+=DIR, datadir+=DIR       one more, below those before
  layers=FILE                       lower layers from a file, one a line
  upperdir=DIR, workdir=DIR         what is written to; without them the mount is read-only

In lowerdir=, upperdir= and workdir= a backslash takes the meaning from the next byte: '\\:' is
a colon within a name, '\\,' a comma. Neither the number of layers nor their names are limited
by what fits into a page.

Other options are those of the filesystem, and those of every mount: ro, nosuid, nodev, noexec,
noatime, remount and so on. See rovl's Documentation/mount-options.rst.

Exit codes are those of mount(8): 1 arguments, 2 system, 32 the mount failed.";

/// What mount(8) is told by the exit code.
struct Failure(u8, String);

const USAGE: u8 = 1;
const SYSTEM: u8 = 2;
const REFUSED: u8 = 32;

fn usage(text: impl Into<String>) -> Failure {
    Failure(USAGE, text.into())
}

/// The options, sorted by who they are for.
#[derive(Default)]
struct Asked {
    layers: Vec<Named>,
    /// For the filesystem.
    own: Vec<Pair>,
    /// Of the superblock, as `fsconfig(2)` names them.
    superblock: Vec<&'static str>,
    /// Flags of the mount: to be set, or not.
    flags: Vec<(MountFlags, bool)>,
    propagation: Vec<(MountPropagationFlags, bool)>,
    remount: bool,
    bind: bool,
}

const SUPERBLOCK: [&str; 9] = [
    "ro",
    "rw",
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
];

const ATIME: MountFlags = MountFlags::NOATIME
    .union(MountFlags::RELATIME)
    .union(MountFlags::STRICTATIME);

/// The flags of the mount that an option stands for, and whether it sets them.
fn mount_flag(key: &str) -> Option<(MountFlags, bool)> {
    Some(match key {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "nosymfollow" => (NOSYMFOLLOW, true),
        "symfollow" => (NOSYMFOLLOW, false),
        "noatime" => (MountFlags::NOATIME, true),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (MountFlags::RELATIME, true),
        _ => return None,
    })
}

/// `MS_NOSYMFOLLOW`, which rustix has no name for.
const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);

fn propagation(key: &str) -> Option<(MountPropagationFlags, bool)> {
    let (kind, recursive) = match key.strip_prefix('r') {
        Some(kind) => (kind, true),
        None => (key, false),
    };
    let flag = match kind {
        "shared" => MountPropagationFlags::SHARED,
        "private" => MountPropagationFlags::PRIVATE,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some((flag, recursive))
}

/// What is for mount(8) and those who call it.
fn is_for_others(key: &str) -> bool {
    let names = [
        "defaults", "auto", "noauto", "nouser", "nousers", "nogroup", "noowner", "nofail",
        "_netdev", "_rnetdev", "comment", "helper", "uhelper", "silent", "loud",
    ];
    names.contains(&key) || key.starts_with("x-") || key.starts_with("X-")
}

impl Asked {
    fn read(text: &[u8]) -> Result<Asked, Failure> {
        let mut asked = Asked::default();
        for (key, value) in options::split(text) {
            asked.take(key, value)?;
        }
        Ok(asked)
    }

    fn take(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), Failure> {
        let name = String::from_utf8_lossy(&key).into_owned();
        if let Some(value) = &value {
            if self.take_layer(&name, value)? {
                return Ok(());
            }
        } else if self.take_flag(&name)? {
            return Ok(());
        }
        if is_for_others(&name) {
            return Ok(());
        }
        self.own.push((key, value));
        Ok(())
    }

    fn take_layer(&mut self, key: &str, value: &[u8]) -> Result<bool, Failure> {
        let one = |role, name| Named {
            role,
            name: OsString::from_vec(name).into(),
        };
        let lower = |l: &Named| matches!(l.role, Role::Lower | Role::Data);
        match key {
            "lowerdir" => {
                self.layers.retain(|l| !lower(l));
                self.layers.extend(options::lowers(value).map_err(usage)?);
            }
            "lowerdir+" => self.layers.push(one(Role::Lower, options::plain(value))),
            "datadir+" => self.layers.push(one(Role::Data, options::plain(value))),
            "upperdir" | "workdir" => {
                let role = if key == "workdir" {
                    Role::Work
                } else {
                    Role::Upper
                };
                if self.layers.iter().any(|l| l.role == role) {
                    return Err(usage(format!("option '{key}=' is given twice")));
                }
                self.layers.push(one(role, options::unescape(value)));
            }
            "layers" => {
                let file = PathBuf::from(OsString::from_vec(options::plain(value)));
                let text = std::fs::read(&file)
                    .map_err(|e| usage(format!("layers={}: {e}", file.display())))?;
                let layers = options::lines(&text);
                if layers.is_empty() {
                    let why = "it names no directory; one a line is wanted";
                    return Err(usage(format!("layers={}: {why}", file.display())));
                }
                self.layers.extend(layers);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_flag(&mut self, key: &str) -> Result<bool, Failure> {
        let known = SUPERBLOCK.into_iter().find(|s| *s == key);
        self.superblock.extend(known);
        let flag = mount_flag(key);
        self.flags.extend(flag);
        let moved = propagation(key);
        self.propagation.extend(moved);
        match key {
            "remount" => self.remount = true,
            "bind" => self.bind = true,
            "rbind" | "move" => {
                let why = "is for mount(8) without a type, not for this filesystem";
                return Err(usage(format!("option '{key}' {why}")));
            }
            // What whoever is not root may mount is not to give them more than they have.
            "user" | "users" => {
                self.flags.push((MountFlags::NOEXEC, true));
                self.flags
                    .push((MountFlags::NOSUID | MountFlags::NODEV, true));
            }
            "owner" | "group" => {
                self.flags
                    .push((MountFlags::NOSUID | MountFlags::NODEV, true));
            }
            _ => return Ok(known.is_some() || flag.is_some() || moved.is_some()),
        }
        Ok(true)
    }

    /// The flags of the mount, from those that it has.
    fn flags_from(&self, mut flags: MountFlags) -> MountFlags {
        for (flag, set) in &self.flags {
            if flag.intersects(ATIME) {
                flags.remove(ATIME);
            }
            flags.set(*flag, *set);
        }
        flags
    }
}

fn attributes(flags: MountFlags) -> MountAttrFlags {
    let pairs = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (
            MountFlags::STRICTATIME,
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        ),
        (
            MountFlags::NODIRATIME,
            MountAttrFlags::MOUNT_ATTR_NODIRATIME,
        ),
        (NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let set = pairs.into_iter().filter(|(flag, _)| flags.contains(*flag));
    set.fold(MountAttrFlags::empty(), |all, (_, one)| all | one)
}

/// A mount context, and what is said with it.
struct Context {
    fd: OwnedFd,
    verbose: bool,
}

impl Context {
    /// The messages that wait in its log: severity and text.
    fn log(&self) -> Vec<(u8, String)> {
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = rustix::io::read(&self.fd, &mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..n]);
            let text = text.trim_end();
            let (severity, message) = text.split_at_checked(2).unwrap_or(("e ", text));
            messages.push((severity.as_bytes()[0], message.to_owned()));
        }
        messages
    }

    /// Why `what` was refused: the log, or else the errno.
    fn refusal(&self, what: &str, errno: Errno) -> Failure {
        let log = self.log();
        if log.is_empty() {
            let hint = "'dmesg | tail' may say why";
            return Failure(REFUSED, format!("{what}: {errno}; {hint}"));
        }
        let log: Vec<_> = log.into_iter().map(|(_, text)| text).collect();
        Failure(REFUSED, log.join("\n"))
    }

    fn set_flag(&self, name: &[u8]) -> rustix::io::Result<()> {
        self.say(name, None);
        rustix::mount::fsconfig_set_flag(&self.fd, name)
    }

    fn say(&self, name: &[u8], value: Option<&[u8]>) {
        if self.verbose {
            let value = value.map(|v| format!("={}", String::from_utf8_lossy(v)));
            println!(
                "mount.rovl: {}{}",
                String::from_utf8_lossy(name),
                value.unwrap_or_default()
            );
        }
    }

    /// Sets options of the filesystem; with `sloppy` those that it does not know are left out.
    fn set(&self, options: &[Pair], sloppy: bool) -> Result<(), Failure> {
        for (key, value) in options {
            let done = match value {
                Some(value) => {
                    let value = value
                        .strip_prefix(b"\"")
                        .and_then(|v| v.strip_suffix(b"\""))
                        .unwrap_or(value);
                    self.say(key, Some(value));
                    rustix::mount::fsconfig_set_string(&self.fd, &key[..], value)
                }
                None => self.set_flag(key),
            };
            match done {
                Err(Errno::INVAL) if sloppy => drop(self.log()),
                Err(e) => {
                    let what = format!("option '{}'", String::from_utf8_lossy(key));
                    return Err(self.refusal(&what, e));
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn set_layers(&self, layers: &[Named]) -> Result<(), Failure> {
        for layer in layers {
            let fd = open(layer)?;
            self.say(
                layer.role.key().as_bytes(),
                Some(layer.name.as_os_str().as_bytes()),
            );
            rustix::mount::fsconfig_set_fd(&self.fd, layer.role.key(), fd).map_err(|e| {
                let what = format!("{} {}", layer.role.noun(), layer.name.display());
                self.refusal(&what, e)
            })?;
        }
        Ok(())
    }
}

fn open(layer: &Named) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, &layer.name, flags, Mode::empty()).map_err(|e| {
        let text = format!("{} {}: {e}", layer.role.noun(), layer.name.display());
        Failure(REFUSED, text)
    })
}

fn create(args: &Args, fstype: &str, asked: &Asked) -> Result<(), Failure> {
    if args.fake {
        return asked.layers.iter().try_for_each(|l| open(l).map(drop));
    }
    let fd = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| {
        let text = match e {
            Errno::NODEV => format!(
                "this kernel has no filesystem type {fstype}: is the module installed for {}? 'modprobe {fstype}' says what is wrong",
                rustix::system::uname().release().to_string_lossy()
            ),
            Errno::PERM => "only root can mount (or whoever made the user namespace)".to_owned(),
            e => format!("fsopen: {e}"),
        };
        Failure(if e == Errno::PERM { USAGE } else { REFUSED }, text)
    })?;
    let context = Context {
        fd,
        verbose: args.verbose,
    };
    rustix::mount::fsconfig_set_string(&context.fd, "source", &*args.source)
        .map_err(|e| context.refusal("the name of the mount", e))?;
    set_superblock(&context, asked)?;
    context.set(&asked.own, args.sloppy)?;
    context.set_layers(&asked.layers)?;
    let whole = format!("the {fstype} mount");
    rustix::mount::fsconfig_create(&context.fd).map_err(|e| context.refusal(&whole, e))?;
    let flags = attributes(asked.flags_from(MountFlags::empty()));
    let mount = rustix::mount::fsmount(&context.fd, FsMountFlags::FSMOUNT_CLOEXEC, flags)
        .map_err(|e| context.refusal(&whole, e))?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, &args.dir, empty)
        .map_err(|e| Failure(REFUSED, format!("mount point: {e}")))?;
    warn(&args.dir, &context);
    Ok(())
}

fn set_superblock(context: &Context, asked: &Asked) -> Result<(), Failure> {
    for flag in &asked.superblock {
        context
            .set_flag(flag.as_bytes())
            .map_err(|e| context.refusal(&format!("option '{flag}'"), e))?;
    }
    Ok(())
}

fn warn(dir: &Path, context: &Context) {
    for (severity, text) in context.log() {
        if severity == b'w' {
            eprintln!("mount.rovl: {}: warning: {text}", dir.display());
        }
    }
}

/// `-o remount`: the superblock's flags, then the mount's. mount(8) hands over what the mount was made with; what is so
/// already is not said again, and layers are compared here, since they cannot be changed.
fn remount(args: &Args, asked: &Asked) -> Result<(), Failure> {
    let table = Table::read().map_err(|e| Failure(SYSTEM, e))?;
    let mount = table.union_of(&args.dir).map_err(usage)?;
    let real = args.dir.canonicalize();
    if real.ok().as_deref() != Some(&mount.point) {
        return Err(usage("it is not a mount point"));
    }
    // What mount(8) hands over of a mount that fstab does not have.
    let handed = Asked::read(&mount.text).unwrap_or_default();
    if asked.layers != handed.layers {
        same_layers(mount, &asked.layers)?;
    }
    if args.fake {
        return Ok(());
    }
    if !asked.bind {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT;
        let fd = rustix::mount::fspick(CWD, &args.dir, flags)
            .map_err(|e| Failure(REFUSED, format!("fspick: {e}")))?;
        let context = Context {
            fd,
            verbose: args.verbose,
        };
        set_superblock(&context, asked)?;
        let is_so = |o: &&Pair| mount.options.contains(o) || handed.own.contains(o);
        let new = asked.own.iter().filter(|o| !is_so(o));
        context.set(&new.cloned().collect::<Vec<_>>(), args.sloppy)?;
        rustix::mount::fsconfig_reconfigure(&context.fd)
            .map_err(|e| context.refusal("remount", e))?;
        warn(&args.dir, &context);
    }
    let current = mount.flags.split(',').filter_map(mount_flag);
    let current = current.filter(|(_, set)| *set);
    let current = current.fold(MountFlags::empty(), |all, (one, _)| all | one);
    let flags = asked.flags_from(current) | MountFlags::BIND;
    rustix::mount::mount_remount(&args.dir, flags, c"")
        .map_err(|e| Failure(REFUSED, format!("remount: {e}")))
}

/// The layers that are named are those that the mount has, in its order, whatever their names.
fn same_layers(mount: &crate::mountinfo::Mount, asked: &[Named]) -> Result<(), Failure> {
    let have = shown_layers(mount)?;
    for roles in [
        &[Role::Lower, Role::Data][..],
        &[Role::Upper],
        &[Role::Work],
    ] {
        let of = |layers: &[Named]| {
            let some = layers.iter().filter(|l| roles.contains(&l.role));
            some.cloned().collect::<Vec<_>>()
        };
        let (asked, have) = (of(asked), of(&have));
        let same = |(a, b): (&Named, &Named)| {
            a == b || (a.role == b.role && crate::layers::is_same_file(&a.name, &b.name))
        };
        if asked.is_empty() || (asked.len() == have.len() && asked.iter().zip(&have).all(same)) {
            continue;
        }
        return Err(usage(format!(
            "{}: the layers of a mount cannot be changed; unmount it and mount it anew",
            roles[0].noun()
        )));
    }
    Ok(())
}

fn shown_layers(mount: &crate::mountinfo::Mount) -> Result<Vec<Named>, Failure> {
    let mut shown = Asked::default();
    for (key, value) in &mount.options {
        if let Some(value) = value {
            shown.take_layer(&String::from_utf8_lossy(key), value)?;
        }
    }
    Ok(shown.layers)
}

fn enter(namespace: &OsStr) -> Result<(), Failure> {
    let is_number = namespace.as_bytes().iter().all(u8::is_ascii_digit);
    let file = match is_number {
        true => Path::new("/proc").join(namespace).join("ns/mnt"),
        false => PathBuf::from(namespace),
    };
    let kind = Some(rustix::thread::LinkNameSpaceType::Mount);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(&file, flags, Mode::empty())
        .and_then(|fd| {
            rustix::thread::move_into_link_name_space(rustix::fd::AsFd::as_fd(&fd), kind)
        })
        .map_err(|e| Failure(SYSTEM, format!("mount namespace {}: {e}", file.display())))
}

fn run(args: &Args, own_type: &str) -> Result<(), Failure> {
    if let Some(namespace) = &args.namespace {
        enter(namespace)?;
    }
    let text: Vec<_> = args.options.iter().map(|o| o.as_bytes()).collect();
    let asked = Asked::read(&text.join(&b','))?;
    // A subtype, "rovl.name", is the user's.
    let fstype = args.fstype.as_deref().unwrap_or(own_type);
    let fstype = fstype.split('.').next().unwrap_or(fstype);
    if asked.remount {
        remount(args, &asked)?;
    } else if asked.bind {
        return Err(usage("option 'bind' is for mount(8) without a type"));
    } else if let Some(name) = crate::caller::kept_back(&args.dir) {
        let why = "mount(8) does not do it where a helper mounts; 'mount -i' does without";
        return Err(usage(format!("option '{name}': {why}")));
    } else {
        create(args, fstype, &asked)?;
    }
    for (kind, recursive) in asked.propagation.iter().filter(|_| !args.fake) {
        let mut flags = *kind;
        flags.set(MountPropagationFlags::REC, *recursive);
        rustix::mount::mount_change(&args.dir, flags)
            .map_err(|e| Failure(REFUSED, format!("propagation: {e}")))?;
    }
    Ok(())
}

#[cfg(feature = "pages")]
pub fn command() -> clap::Command {
    use clap::CommandFactory;
    Args::command()
}

/// The helper of `fstype`, with its arguments.
pub fn main(fstype: &str, args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            let code = if e.use_stderr() { USAGE } else { 0 };
            // Nothing can be done where not even this can be printed.
            let _ = e.print();
            return code.into();
        }
    };
    match run(&args, fstype) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, text)) => {
            for line in text.lines() {
                eprintln!("mount.{fstype}: {}: {line}", args.dir.display());
            }
            code.into()
        }
    }
}
