// SPDX-License-Identifier: GPL-2.0
//! Mounts made inside a user namespace.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::path::Path;

/// Enters a user and a mount namespace in which `outside` is root.
pub fn enter_single(outside: u32) -> Res {
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    // SAFETY: the process is single-threaded.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    sys::put("/proc/self/setgroups", "deny")?;
    sys::put("/proc/self/uid_map", &format!("0 {outside} 1"))?;
    sys::put("/proc/self/gid_map", &format!("0 {outside} 1"))?;
    Ok(())
}

/// Runs `f` as root of a user namespace whose ids are those from 100000 on
/// outside, with id 0 to 65535 inside.
pub fn in_range(f: impl FnOnce() -> Res) -> Res {
    let (ask_r, ask_w) = rustix::pipe::pipe()?;
    let (go_r, go_w) = rustix::pipe::pipe()?;
    let helper = sys::fork()?;
    if helper == 0 {
        drop(ask_w);
        drop(go_r);
        let mut pid = [0u8; 4];
        let n = rustix::io::read(&ask_r, &mut pid).unwrap_or(0);
        let pid = i32::from_ne_bytes(pid);
        let map = "0 100000 65536";
        let done = n == 4
            && sys::put(&format!("/proc/{pid}/uid_map"), map).is_ok()
            && sys::put(&format!("/proc/{pid}/gid_map"), map).is_ok();
        let _ = rustix::io::write(&go_w, &[u8::from(done)]);
        sys::exit_now(0);
    }
    drop(ask_r);
    drop(go_w);
    let r = sys::in_child(|| {
        let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
        // SAFETY: the process is single-threaded.
        unsafe { rustix::thread::unshare_unsafe(flags) }?;
        let me = std::process::id() as i32;
        rustix::io::write(&ask_w, &me.to_ne_bytes())?;
        let mut ok = [0u8];
        rustix::io::read(&go_r, &mut ok)?;
        same(ok[0], 1, "the id maps are written")?;
        // SAFETY: no memory is involved.
        unsafe {
            sys::ret(i64::from(libc::setresgid(0, 0, 0)))?;
            sys::ret(i64::from(libc::setresuid(0, 0, 0)))?;
        }
        f()
    });
    sys::wait(helper)?;
    r
}

/// Layers owned by root of the namespace, one of them with a root file.
fn layers(ctx: &Ctx) -> Res<Union> {
    let u = Union::new(ctx)?;
    sys::write(&u.l("mine"), "mine")?;
    sys::write(&u.l("roots"), "secret")?;
    sys::chmod(&u.l("roots"), 0o600)?;
    for p in [&u.lowers[0], &u.u(""), &u.work, &u.mnt, &u.l("mine")] {
        sys::chown(p, 100_000, 100_000)?;
    }
    sys::chmod(&ctx.root, 0o755)?;
    Ok(u)
}

/// A private tmpfs as the upper, as a rootless container engine has it.
fn mount_with_own_upper(u: &mut Union, at: &Path) -> Res {
    sys::mount_tmpfs(at, "size=20m")?;
    u.upper = Some(at.join("u"));
    u.work = at.join("w");
    sys::mkdir(&u.u(""))?;
    sys::mkdir(&u.work)?;
    u.mount()
}

fn mount_allowed(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    in_range(|| {
        u.mount()?;
        same(sys::read(&u.m("mine"))?, b"mine", "own lower file")?;
        sys::write(&u.m("mine"), "changed")?;
        sys::write(&u.m("new"), "new")?;
        std::fs::remove_file(u.m("new"))?;
        u.umount()
    })?;
    same(sys::read(&u.u("mine"))?, b"changed", "the copy in upper")?;
    same(
        sys::stx(&u.u("mine"))?.stx_uid,
        100_000,
        "its owner outside",
    )?;
    same(sys::read(&u.l("mine"))?, b"mine", "the lower file")
}

fn own_tmpfs_upper(ctx: &Ctx) -> Res {
    let mut u = layers(ctx)?;
    let at = ctx.tmp.join("tmp-in-ns");
    sys::mkdir(&at)?;
    sys::chown(&at, 100_000, 100_000)?;
    in_range(|| {
        mount_with_own_upper(&mut u, &at)?;
        sys::write(&u.m("mine"), "changed")?;
        same(sys::read(&u.u("mine"))?, b"changed", "the copy in upper")?;
        u.umount()
    })
}

fn nothing_privileged(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    in_range(|| {
        u.mount()?;
        let f = u.m("roots");
        fails(
            sys::read(&f),
            Errno::ACCESS,
            "read of a file of the outer root",
        )?;
        fails(sys::open(&f, OFlags::WRONLY), Errno::ACCESS, "write")?;
        fails(sys::chmod(&f, 0o666), Errno::PERM, "chmod")?;
        fails(sys::chown(&f, 0, 0), Errno::PERM, "chown")?;
        same(sys::stx(&f)?.stx_uid, 65534, "its owner is not mapped")?;
        same(
            sys::names(&u.u(""))?,
            Vec::<String>::new(),
            "nothing was copied up",
        )
    })?;
    same(sys::mode(&u.l("roots"))?, 0o600, "mode of the lower file")
}

fn unmapped_owner_is_not_copied_up(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    sys::chmod(&u.l("roots"), 0o666)?;
    in_range(|| {
        u.mount()?;
        let f = u.m("roots");
        same(
            sys::read(&f)?,
            b"secret",
            "a readable file of an unmapped owner",
        )?;
        let r = sys::open(&f, OFlags::WRONLY).and_then(|fd| rustix::io::write(&fd, b"x"));
        check(
            r.is_err(),
            "a write to a file of an unmapped owner succeeded",
        )?;
        same(
            sys::names(&u.u(""))?,
            Vec::<String>::new(),
            "nothing was copied up",
        )
    })?;
    same(sys::read(&u.l("roots"))?, b"secret", "the lower file")
}

fn no_trusted_xattrs(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    sys::setx(&u.l("mine"), "trusted.secret", b"1")?;
    in_range(|| {
        u.mount()?;
        let f = u.m("mine");
        fails(
            sys::setx(&f, "trusted.x", b"1"),
            Errno::PERM,
            "setxattr of trusted.x",
        )?;
        fails(
            sys::getx(&f, "trusted.secret"),
            Errno::NODATA,
            "getxattr of trusted.secret",
        )?;
        same(sys::listx(&f)?, Vec::<String>::new(), "the list of xattrs")
    })
}

fn whiteouts_without_trusted_xattrs(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::chown(&u.l("d"), 100_000, 100_000)?;
    in_range(|| {
        u.mount()?;
        std::fs::remove_file(u.m("mine"))?;
        std::fs::remove_dir(u.m("d"))?;
        same(sys::names(&u.mnt)?, vec!["roots"], "what is left")?;
        // A directory over a whiteout cannot be marked opaque here.
        fails(
            sys::mkdir(&u.m("d")),
            Errno::IO,
            "mkdir over a whiteout without xattrs",
        )?;
        check(!sys::exists(&u.m("d")), "a failed mkdir left a directory")?;
        u.umount()
    })?;
    check(sys::is_whiteout(&u.u("mine")), "a whiteout in upper")?;
    check(
        sys::is_whiteout(&u.u("d")),
        "a whiteout in upper for the directory",
    )
}

fn file_caps_worthless_outside(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    in_range(|| {
        u.mount()?;
        let f = u.m("mine");
        // VFS_CAP_REVISION_2, effective, CAP_SETUID.
        let mut cap = vec![0u8; 20];
        cap[3] = 2;
        cap[0] = 1;
        cap[4] = 1 << 7;
        sys::setx(&f, "security.capability", &cap)?;
        u.umount()
    })?;
    let real = sys::getx(&u.u("mine"), "security.capability")?;
    // Revision 3 names the user namespace's root.
    same(real.len(), 24, "size of the capability as seen outside")?;
    same(real[3], 3, "its revision")?;
    same(&real[20..24], &100_000u32.to_le_bytes()[..], "its root id")
}

fn redirect_needs_privilege(ctx: &Ctx) -> Res {
    let mut u = layers(ctx)?;
    u.options = "redirect_dir=on".to_owned();
    in_range(|| match u.try_mount() {
        Err(Errno::PERM) => Ok(()),
        r => Err(Failure::new(format!(
            "redirect_dir=on: expected EPERM, seen {r:?}"
        ))),
    })
}

fn locked_mount_inside_lower(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    let sub = u.l("sub");
    sys::mkdir(&sub)?;
    sys::write(&sub.join("below"), "hidden by a mount")?;
    sys::mount_tmpfs(&sub, "size=1m")?;
    in_range(|| match u.try_mount() {
        // Cloning the layer would reveal what the locked mount covers.
        Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(e) => Err(Failure::new(format!("seen {e}"))),
        Ok(()) => check(
            !sys::exists(&u.m("sub/below")),
            "what a locked mount hides is visible",
        ),
    })
}

fn owner_and_sticky_inside(ctx: &Ctx) -> Res {
    let u = layers(ctx)?;
    in_range(|| {
        u.mount()?;
        let d = u.m("d");
        sys::mkdir(&d)?;
        sys::chmod(&d, 0o1777)?;
        sys::as_user(1000, 1000, &[], || Ok(sys::write(&d.join("a"), "a")?))?;
        sys::as_user(1001, 1001, &[], || {
            fails(
                std::fs::remove_file(d.join("a")),
                Errno::PERM,
                "unlink in a sticky directory",
            )
        })?;
        same(sys::stx(&d.join("a"))?.stx_uid, 1000, "owner inside")
    })?;
    same(sys::stx(&u.u("d/a"))?.stx_uid, 101_000, "owner outside")
}

tests! {
    Tmpfs: mount_allowed, own_tmpfs_upper, nothing_privileged, unmapped_owner_is_not_copied_up,
        no_trusted_xattrs, whiteouts_without_trusted_xattrs, file_caps_worthless_outside,
        redirect_needs_privilege, locked_mount_inside_lower, owner_and_sticky_inside;
}
