// SPDX-License-Identifier: GPL-2.0
//! Whose credentials the layers are used with: of who creates the mount, or of who said `override_creds`.

use super::mount::{attach, fs_open};
use super::userns::in_range;
use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, FileType, CWD};
use rustix::io::Errno;
use rustix::mount::*;
use rustix::thread::{capabilities, set_capabilities, CapabilitySet};

type Sys<T> = Result<T, Errno>;

const OWN: &str = "override_creds";
const NOT_OWN: &str = "nooverride_creds";

/// Gives capabilities up.
fn drop_caps(caps: CapabilitySet) -> Res {
    let mut sets = capabilities(None)?;
    sets.effective &= !caps;
    sets.permitted &= !caps;
    set_capabilities(None, sets)?;
    Ok(())
}

/// Layers with files of several owners.
fn layers(ctx: &Ctx) -> Res<Union> {
    let u = Union::layers(ctx, 2)?;
    for (name, owner, mode) in [
        ("roots", 0, 0o600),
        ("his", 1000, 0o600),
        ("all", 1000, 0o666),
        ("gone", 0, 0o644),
    ] {
        sys::write(&u.l(name), name)?;
        sys::chmod(&u.l(name), mode)?;
        sys::chown(&u.l(name), owner, owner)?;
    }
    sys::chmod(&ctx.root, 0o755)?;
    Ok(u)
}

/// A context that knows the layers.
fn context(u: &Union) -> Res<OwnedFd> {
    let fs = fs_open()?;
    for lower in &u.lowers {
        fsconfig_set_string(&fs, "lowerdir+", lower)?;
    }
    if let Some(upper) = &u.upper {
        fsconfig_set_string(&fs, "upperdir", upper)?;
        fsconfig_set_string(&fs, "workdir", &u.work)?;
    }
    Ok(fs)
}

/// Has a process without `caps` say `option` to the context.
fn said_without(fs: &OwnedFd, caps: CapabilitySet, option: &str) -> Res {
    sys::in_child(|| {
        drop_caps(caps)?;
        works(fsconfig_set_flag(fs, option), option)
    })
}

/// A mount for which processes without some capabilities, which are gone by now, said this and that.
fn mounted(u: &Union, said: &[(CapabilitySet, &str)]) -> Res {
    let fs = context(u)?;
    for (caps, option) in said {
        said_without(&fs, *caps, option)?;
    }
    attach(&fs, &u.mnt)
}

/// A mount with the credentials of a process without `caps`.
fn mounted_without(u: &Union, caps: CapabilitySet) -> Res {
    mounted(u, &[(caps, OWN)])
}

fn device(u: &Union, name: &str) -> Sys<()> {
    let null = rustix::fs::makedev(1, 3);
    sys::mknod(&u.m(name), FileType::CharacterDevice, 0o644, null)
}

fn of_who_creates(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    attach(&context(&u)?, &u.mnt)?;
    works(device(&u, "null"), "mknod")?;
    same(sys::read(&u.m("his"))?, b"his", "a private file")?;
    works(sys::chown(&u.m("all"), 5, 5), "chown")?;
    u.umount()
}

fn without_mknod(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    mounted_without(&u, CapabilitySet::MKNOD)?;
    fails(device(&u, "null"), Errno::PERM, "mknod by who may")?;
    fails(sys::stx(&u.u("null")), Errno::NOENT, "the device in upper")?;
    works(sys::mknod(&u.m("fifo"), FileType::Fifo, 0o644, 0), "a FIFO")?;
    works(std::fs::remove_file(u.m("gone")), "removing")?;
    check(sys::is_whiteout(&u.u("gone")), "which needs a whiteout")?;
    works(sys::write(&u.m("gone"), "new"), "a file over it")?;
    works(std::fs::rename(u.m("all"), u.m("moved")), "renaming")?;
    check(sys::is_whiteout(&u.u("all")), "leaves a whiteout")?;
    u.umount()
}

fn without_dac(ctx: &Ctx) -> Res {
    let mut u = layers(ctx)?;
    sys::mkdir(&u.l("dir"))?;
    sys::write(&u.l("dir/in"), "x")?;
    sys::chown(&u.l("dir"), 1000, 1000)?;
    sys::chmod(&u.l("dir"), 0o700)?;
    let dac = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let fs = context(&u)?;
    said_without(&fs, dac, OWN)?;
    fails(
        fsconfig_create(&fs),
        Errno::ACCESS,
        "an upper, whose work directory nobody may write to otherwise",
    )?;
    drop(fs);
    u.upper = None;
    mounted_without(&u, dac)?;
    same(sys::read(&u.m("roots"))?, b"roots", "its own file")?;
    fails(
        sys::read(&u.m("his")),
        Errno::ACCESS,
        "a private file of another",
    )?;
    fails(
        rustix::fs::accessat(CWD, u.m("his"), Access::READ_OK, AtFlags::empty()),
        Errno::ACCESS,
        "access(2), too",
    )?;
    fails(std::fs::read_dir(u.m("dir")), Errno::ACCESS, "a directory")?;
    fails(sys::read(&u.m("dir/in")), Errno::ACCESS, "a file in it")?;
    same(sys::read(&u.m("all"))?, b"all", "what all may read")?;
    // A user of the union may no more than before, and not what the mounter may.
    sys::as_user(1000, 1000, &[], || {
        fails(
            sys::read(&u.m("roots")),
            Errno::ACCESS,
            "the mounter's file",
        )?;
        fails(
            sys::read(&u.m("his")),
            Errno::ACCESS,
            "his own, which the mounter may not read",
        )
    })?;
    u.umount()
}

fn without_chown(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    sys::chmod(&u.u(""), 0o777)?;
    mounted_without(&u, CapabilitySet::CHOWN)?;
    fails(sys::chown(&u.m("roots"), 5, 5), Errno::PERM, "chown")?;
    fails(
        sys::chmod(&u.m("all"), 0o600),
        Errno::PERM,
        "a copy of what belongs to another",
    )?;
    fails(sys::stx(&u.u("all")), Errno::NOENT, "it in upper")?;
    works(sys::chmod(&u.m("roots"), 0o640), "a copy of its own")?;
    sys::as_user(1000, 1000, &[], || {
        works(sys::write(&u.m("new"), "x"), "a new file of a user")
    })?;
    same(sys::stx(&u.u("new"))?.stx_uid, 1000, "who owns it")?;
    u.work_is_empty()?;
    u.umount()
}

fn without_fowner(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    sys::write(&u.u("in-upper"), "x")?;
    sys::chown(&u.u("in-upper"), 1000, 1000)?;
    mounted_without(&u, CapabilitySet::FOWNER)?;
    fails(
        sys::chmod(&u.m("in-upper"), 0o600),
        Errno::PERM,
        "chmod of what belongs to another",
    )?;
    sys::as_user(1000, 1000, &[], || {
        fails(
            sys::chmod(&u.m("in-upper"), 0o600),
            Errno::PERM,
            "by its owner, too",
        )
    })?;
    works(sys::chmod(&u.m("roots"), 0o640), "its own")?;
    u.umount()
}

/// Without it `trusted.*` cannot be set. The mount itself is a matter of who creates it.
fn without_admin(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    sys::mkdir(&u.l("dir"))?;
    mounted_without(&u, CapabilitySet::SYS_ADMIN)?;
    works(sys::write(&u.m("roots"), "changed"), "a copy-up")?;
    same(sys::listx(&u.u("roots"))?.len(), 0, "its attributes")?;
    works(std::fs::remove_dir(u.m("dir")), "rmdir")?;
    fails(
        std::fs::create_dir(u.m("dir")),
        Errno::IO,
        "mkdir over a whiteout, which has to be opaque",
    )?;
    u.umount()?;
    let fs = context(&u)?;
    said_without(&fs, CapabilitySet::SYS_ADMIN, OWN)?;
    fsconfig_set_string(&fs, "redirect_dir", "on")?;
    fails(
        fsconfig_create(&fs),
        Errno::PERM,
        "redirects, which are a matter of the credentials",
    )
}

fn without_admin_userxattr(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    sys::mkdir(&u.l("dir"))?;
    let fs = context(&u)?;
    fsconfig_set_flag(&fs, "userxattr")?;
    said_without(&fs, CapabilitySet::SYS_ADMIN | CapabilitySet::MKNOD, OWN)?;
    attach(&fs, &u.mnt)?;
    fails(device(&u, "null"), Errno::PERM, "mknod")?;
    works(std::fs::remove_dir(u.m("dir")), "rmdir")?;
    works(sys::mkdir(&u.m("dir")), "mkdir over a whiteout")?;
    same(
        sys::getx(&u.u("dir"), "user.overlay.opaque")?,
        b"y",
        "its mark",
    )?;
    u.umount()
}

/// What was said last counts: as the kernel's own test has it, but for `metacopy`.
fn the_last_one_counts(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    let (none, mknod) = (CapabilitySet::empty(), CapabilitySet::MKNOD);
    mounted(&u, &[(mknod, OWN), (none, OWN)])?;
    works(device(&u, "null"), "mknod with the second's")?;
    u.umount()?;
    mounted(&u, &[(mknod, OWN), (mknod, NOT_OWN)])?;
    works(device(&u, "null2"), "mknod with those of who creates")?;
    u.umount()?;
    mounted(&u, &[(none, NOT_OWN), (mknod, OWN)])?;
    fails(device(&u, "null3"), Errno::PERM, "mknod with the last's")?;
    u.umount()
}

/// Without the option they are of who creates the mount, with it they are not.
fn creator_without_mknod(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    let create = |fs: OwnedFd| {
        sys::in_child(|| {
            drop_caps(CapabilitySet::MKNOD)?;
            attach(&fs, &u.mnt)
        })
    };
    let fs = context(&u)?;
    fsconfig_set_flag(&fs, OWN)?;
    create(fs)?;
    works(device(&u, "null"), "those of who said so")?;
    u.umount()?;
    create(context(&u)?)?;
    fails(device(&u, "null2"), Errno::PERM, "those of who creates")?;
    u.umount()
}

fn a_value(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    let fs = context(&u)?;
    for option in [OWN, NOT_OWN] {
        fails(
            fsconfig_set_string(&fs, option, "on"),
            Errno::INVAL,
            "with a value",
        )?;
    }
    attach(&fs, &u.mnt)?;
    u.umount()
}

/// A namespace inside that of the context is good enough; what its root may is little.
fn from_a_namespace_inside(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    let fs = context(&u)?;
    in_range(|| works(fsconfig_set_flag(&fs, OWN), OWN))?;
    for dir in [u.u(""), u.work.clone()] {
        sys::chown(&dir, 100_000, 100_000)?;
    }
    attach(&fs, &u.mnt)?;
    same(sys::read(&u.m("all"))?, b"all", "what all may read")?;
    fails(sys::read(&u.m("roots")), Errno::ACCESS, "a file of root")?;
    fails(sys::read(&u.m("his")), Errno::ACCESS, "one of a user")?;
    fails(device(&u, "null"), Errno::PERM, "mknod")?;
    fails(
        sys::write(&u.m("all"), "changed"),
        Errno::OVERFLOW,
        "a copy of what belongs to nobody there",
    )?;
    same(
        sys::names(&u.u(""))?,
        Vec::<String>::new(),
        "nothing was copied",
    )?;
    u.umount()
}

/// The context of a namespace takes no credentials from outside of it, neither from around it nor from beside.
fn from_a_namespace_outside(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    for p in [&u.lowers[0], &u.u(""), &u.work, &u.mnt] {
        sys::chown(p, 100_000, 100_000)?;
    }
    let (ask_r, ask_w) = rustix::pipe::pipe()?;
    let (go_r, go_w) = rustix::pipe::pipe()?;
    let inside = sys::fork()?;
    if inside == 0 {
        let r = in_range(|| {
            let fs = context(&u)?;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&fs);
            let me = std::process::id() as i32;
            rustix::io::write(&ask_w, &[me.to_ne_bytes(), fd.to_ne_bytes()].concat())?;
            rustix::io::read(&go_r, &mut [0u8])?;
            // The context is good all the same.
            attach(&fs, &u.mnt)?;
            same(sys::read(&u.m("all"))?, b"all", "a file of the mount")?;
            works(sys::write(&u.m("new"), "new"), "a new one")
        });
        if let Err(e) = &r {
            eprintln!("# inside: {}", e.msg);
        }
        sys::exit_now(i32::from(r.is_err()));
    }
    drop((ask_w, go_r));
    let mut said = [0u8; 8];
    same(rustix::io::read(&ask_r, &mut said)?, 8, "who has what")?;
    let word = |at: usize| i32::from_ne_bytes([said[at], said[at + 1], said[at + 2], said[at + 3]]);
    // SAFETY: no memory is involved.
    let pidfd = sys::ret(unsafe { libc::syscall(libc::SYS_pidfd_open, word(0), 0) })?;
    let pidfd = sys::raw_fd(pidfd);
    // SAFETY: no memory is involved.
    let fs = sys::ret(unsafe {
        libc::syscall(
            libc::SYS_pidfd_getfd,
            std::os::fd::AsRawFd::as_raw_fd(&pidfd),
            word(4),
            0,
        )
    })?;
    let fs = sys::raw_fd(fs);
    fails(
        fsconfig_set_flag(&fs, OWN),
        Errno::INVAL,
        "from around the namespace",
    )?;
    in_range(|| {
        fails(
            fsconfig_set_flag(&fs, OWN),
            Errno::INVAL,
            "from one beside it",
        )
    })?;
    works(fsconfig_set_flag(&fs, NOT_OWN), "to have none")?;
    drop(fs);
    rustix::io::write(&go_w, b"g")?;
    same(sys::wait(inside)?, 0, "the process inside")?;
    same(
        sys::stx(&u.u("new"))?.stx_uid,
        100_000,
        "who owns the new file",
    )
}

tests! {
    Tmpfs: of_who_creates, without_mknod, without_dac, without_chown, without_fowner, without_admin,
        without_admin_userxattr, the_last_one_counts, creator_without_mknod, a_value,
        from_a_namespace_inside, from_a_namespace_outside;
}
