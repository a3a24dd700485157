// SPDX-License-Identifier: GPL-2.0
//! Who may do what, and what is cleared when others write.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fs::{Access, AtFlags, OFlags, CWD};
use rustix::io::Errno;
use std::path::Path;

const ME: u32 = 1000;
const OTHER: u32 = 1001;

fn access(p: &Path, a: Access) -> Result<(), Errno> {
    rustix::fs::accessat(CWD, p, a, AtFlags::EACCESS)
}

/// A file of every class of permission, on the lower and on the upper layer.
fn filled(ctx: &Ctx) -> Res<Union> {
    let u = Union::new(ctx)?;
    for (side, dir) in [("l", u.lowers[0].clone()), ("u", u.u(""))] {
        for (n, uid, gid, mode) in [
            ("mine", ME, ME, 0o600),
            ("group", 0, ME, 0o660),
            ("world", 0, 0, 0o666),
            ("readable", 0, 0, 0o644),
            ("closed", 0, 0, 0o600),
            ("ownerless", ME, 0, 0o077),
        ] {
            let p = dir.join(format!("{side}-{n}"));
            sys::write(&p, "data")?;
            sys::chown(&p, uid, gid)?;
            sys::chmod(&p, mode)?;
        }
    }
    u.mount()?;
    Ok(u)
}

fn read_and_write(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    sys::as_user(ME, ME, &[], || {
        for side in ["l", "u"] {
            for (n, r, w) in [
                ("mine", true, true),
                ("group", true, true),
                ("world", true, true),
                ("readable", true, false),
                ("closed", false, false),
                ("ownerless", false, false),
            ] {
                let name = format!("{side}-{n}");
                let p = u.m(&name);
                for (may, flag, acc) in [
                    (r, OFlags::RDONLY, Access::READ_OK),
                    (w, OFlags::WRONLY, Access::WRITE_OK),
                ] {
                    let what = format!("{name} {flag:?}");
                    let (a, o) = (access(&p, acc), sys::open(&p, flag));
                    if may {
                        works(a, &format!("access of {what}"))?;
                        works(o, &format!("open of {what}"))?;
                    } else {
                        fails(a, Errno::ACCESS, &format!("access of {what}"))?;
                        fails(o, Errno::ACCESS, &format!("open of {what}"))?;
                    }
                }
            }
        }
        Ok(())
    })?;
    for n in ["l-readable", "l-closed", "l-ownerless"] {
        check(!sys::exists(&u.u(n)), &format!("{n} was copied up"))?;
    }
    Ok(())
}

fn supplementary_groups(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    sys::as_user(OTHER, OTHER, &[ME], || {
        works(sys::write(&u.m("l-group"), "g"), "by a supplementary group")?;
        fails(sys::read(&u.m("l-mine")), Errno::ACCESS, "another's file")
    })?;
    let s = sys::stx(&u.u("l-group"))?;
    same((s.stx_uid, s.stx_gid), (0, ME), "owner of the copy")
}

fn real_and_effective_ids(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    sys::in_child(|| {
        // SAFETY: no memory is involved.
        sys::ret(i64::from(unsafe { libc::setresuid(ME, 0, 0) }))?;
        let real = rustix::fs::access(u.m("l-closed"), Access::READ_OK);
        fails(real, Errno::ACCESS, "access(2) goes by the real user")?;
        works(
            access(&u.m("l-closed"), Access::READ_OK),
            "AT_EACCESS by the effective one",
        )
    })
}

fn changes_by_strangers(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    sys::as_user(ME, ME, &[], || {
        for n in ["l-world", "u-world"] {
            let p = u.m(n);
            fails(sys::chmod(&p, 0o777), Errno::PERM, "chmod")?;
            fails(sys::chown(&p, ME, ME), Errno::PERM, "chown")?;
            fails(
                sys::setx(&p, "trusted.x", b"1"),
                Errno::PERM,
                "setxattr of trusted.x",
            )?;
            let t = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                },
                last_modification: rustix::fs::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                },
            };
            let r = rustix::fs::utimensat(CWD, &p, &t, AtFlags::empty());
            fails(r, Errno::PERM, "utimensat")?;
        }
        fails(
            std::fs::remove_file(u.m("l-mine")),
            Errno::ACCESS,
            "unlink in root's directory",
        )?;
        fails(
            sys::write(&u.m("new"), ""),
            Errno::ACCESS,
            "create in root's directory",
        )?;
        works(sys::chmod(&u.m("l-mine"), 0o640), "chmod of one's own")?;
        fails(
            sys::chown(&u.m("l-mine"), 0, ME),
            Errno::PERM,
            "giving a file away",
        )
    })?;
    check(
        !sys::exists(&u.u("l-world")),
        "a refused change copied the file up",
    )?;
    same(sys::stx(&u.u("l-mine"))?.stx_uid, ME, "owner of the copy")
}

fn search_permission(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("d/sub"))?;
    sys::write(&u.l("d/sub/f"), "x")?;
    sys::chmod(&u.l("d"), 0o700)?;
    u.mount()?;
    sys::as_user(ME, ME, &[], || {
        fails(
            sys::read(&u.m("d/sub/f")),
            Errno::ACCESS,
            "below a closed directory",
        )?;
        fails(
            sys::stx(&u.m("d/sub")).map(|_| ()),
            Errno::ACCESS,
            "stat below it",
        )
    })?;
    sys::chmod(&u.m("d"), 0o711)?;
    sys::as_user(ME, ME, &[], || {
        works(sys::read(&u.m("d/sub/f")), "below an opened directory")?;
        Ok(())
    })
}

fn sticky_directories(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("t"))?;
    sys::chmod(&u.l("t"), 0o1777)?;
    for (n, uid) in [("mine", ME), ("other", OTHER)] {
        sys::write(&u.l("t").join(n), "x")?;
        sys::chown(&u.l("t").join(n), uid, uid)?;
    }
    sys::mkdir(&u.l("t/otherdir"))?;
    sys::chown(&u.l("t/otherdir"), OTHER, OTHER)?;
    u.mount()?;
    let t = u.m("t");
    sys::as_user(ME, ME, &[], || {
        let none = rustix::fs::RenameFlags::empty();
        fails(
            std::fs::remove_file(t.join("other")),
            Errno::PERM,
            "unlink of another's",
        )?;
        fails(
            std::fs::remove_dir(t.join("otherdir")),
            Errno::PERM,
            "rmdir of another's",
        )?;
        let r = sys::rename(&t.join("other"), &t.join("x"), none);
        fails(r, Errno::PERM, "rename of another's")?;
        let r = sys::rename(&t.join("mine"), &t.join("other"), none);
        fails(r, Errno::PERM, "rename over another's")?;
        works(std::fs::remove_file(t.join("mine")), "unlink of one's own")
    })?;
    same(sys::names(&t)?, ["other", "otherdir"], "what is left")
}

fn root_ignores_modes(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for n in ["l-ownerless", "u-closed", "l-closed"] {
        sys::chmod(&u.m(n), 0)?;
        works(sys::read(&u.m(n)), "read by root")?;
        works(sys::open(&u.m(n), OFlags::RDWR), "open by root")?;
        fails(
            access(&u.m(n), Access::EXEC_OK),
            Errno::ACCESS,
            "exec without any x",
        )?;
    }
    Ok(())
}

fn mounter_without_access(ctx: &Ctx) -> Res {
    // The union is mounted by a root without CAP_DAC_OVERRIDE: what that one
    // may not read on the layer nobody may read through the mount. Without
    // an upper layer, whose work directory has no mode bits.
    let mut u = Union::layers(ctx, 2)?;
    u.upper = None;
    sys::write(&u.l("f"), "secret")?;
    sys::chown(&u.l("f"), ME, ME)?;
    sys::chmod(&u.l("f"), 0o600)?;
    sys::write(&u.l("g"), "open")?;
    sys::in_child(|| {
        use rustix::thread::{capabilities, set_capabilities, CapabilitySet};
        let mut c = capabilities(None)?;
        c.effective
            .remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
        set_capabilities(None, c)?;
        u.mount()?;
        sys::as_user(ME, ME, &[], || {
            fails(sys::read(&u.m("f")), Errno::ACCESS, "read by the owner")?;
            works(sys::read(&u.m("g")), "a file that the mounter may read")?;
            Ok(())
        })
    })
}

fn suid_cleared_by_write(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let names = ["write", "truncate", "chown", "falloc", "mmapless"];
    for n in names {
        sys::write(&u.l(n), "data")?;
        sys::chown(&u.l(n), ME, ME)?;
        sys::chmod(&u.l(n), 0o6777)?;
    }
    u.mount()?;
    sys::as_user(OTHER, OTHER, &[], || {
        let fd = sys::open(&u.m("write"), OFlags::WRONLY)?;
        rustix::io::write(&fd, b"x")?;
        same(sys::mode(&u.m("write"))?, 0o777, "after write")?;
        let fd = sys::open(&u.m("truncate"), OFlags::WRONLY)?;
        rustix::fs::ftruncate(&fd, 1)?;
        same(sys::mode(&u.m("truncate"))?, 0o777, "after ftruncate")?;
        let fd = sys::open(&u.m("falloc"), OFlags::WRONLY)?;
        rustix::fs::fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, 100)?;
        same(sys::mode(&u.m("falloc"))?, 0o777, "after fallocate")?;
        let fd = sys::open(&u.m("mmapless"), OFlags::RDWR)?;
        drop(fd);
        same(
            sys::mode(&u.m("mmapless"))?,
            0o6777,
            "after an open without a write",
        )
    })?;
    sys::chown(&u.m("chown"), OTHER, OTHER)?;
    same(sys::mode(&u.m("chown"))?, 0o777, "after chown")?;
    for n in ["write", "truncate", "chown", "falloc"] {
        same(sys::mode(&u.u(n))?, 0o777, n)?;
        same(sys::mode(&u.l(n))?, 0o6777, n)?;
    }
    Ok(())
}

fn suid_kept_for_root(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "data")?;
    sys::chmod(&u.l("f"), 0o4755)?;
    u.mount()?;
    sys::setx(&u.m("f"), "user.x", b"1").or_else(|e| match e {
        // tmpfs may come without user xattrs; any copy-up will do.
        Errno::OPNOTSUPP => sys::chmod(&u.m("f"), 0o4755),
        e => Err(e),
    })?;
    same(sys::mode(&u.u("f"))?, 0o4755, "copy-up keeps set-uid")?;
    sys::write(&u.m("f"), "changed by root")?;
    same(
        sys::mode(&u.m("f"))?,
        0o4755,
        "a write by root with CAP_FSETID",
    )
}

fn setgid_cleared_by_chmod(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "data")?;
    sys::chown(&u.l("f"), ME, 2000)?;
    u.mount()?;
    sys::as_user(ME, ME, &[], || {
        sys::chmod(&u.m("f"), 0o2755)?;
        same(
            sys::mode(&u.m("f"))?,
            0o755,
            "set-gid for a group one is not in",
        )
    })?;
    sys::as_user(ME, ME, &[2000], || {
        sys::chmod(&u.m("f"), 0o2755)?;
        same(
            sys::mode(&u.m("f"))?,
            0o2755,
            "set-gid for a group one is in",
        )
    })
}

/// Revision 2, effective, CAP_NET_RAW permitted.
fn capability() -> Vec<u8> {
    let mut v = vec![0u8; 20];
    v[0] = 1;
    v[3] = 2;
    v[5] = 1 << 5;
    v
}

const CAPS: &str = "security.capability";

fn file_caps_cleared(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["write", "chown", "keep", "truncate"] {
        sys::write(&u.l(n), "data")?;
        sys::chmod(&u.l(n), 0o777)?;
        sys::setx(&u.l(n), CAPS, &capability())?;
    }
    u.mount()?;
    for n in ["write", "keep"] {
        same(
            sys::getx(&u.m(n), CAPS)?,
            capability(),
            "seen through the mount",
        )?;
    }
    sys::chmod(&u.m("keep"), 0o755)?;
    same(sys::getx(&u.u("keep"), CAPS)?, capability(), "copied up")?;
    sys::as_user(ME, ME, &[], || {
        let fd = sys::open(&u.m("write"), OFlags::WRONLY)?;
        rustix::io::write(&fd, b"x")?;
        let fd = sys::open(&u.m("truncate"), OFlags::WRONLY)?;
        rustix::fs::ftruncate(&fd, 2)?;
        Ok(())
    })?;
    sys::chown(&u.m("chown"), ME, ME)?;
    for n in ["write", "chown", "truncate"] {
        fails(
            sys::getx(&u.m(n), CAPS),
            Errno::NODATA,
            &format!("after {n}"),
        )?;
        fails(
            sys::getx(&u.u(n), CAPS),
            Errno::NODATA,
            &format!("in upper after {n}"),
        )?;
        works(sys::getx(&u.l(n), CAPS), "the lower file keeps it")?;
    }
    Ok(())
}

fn caps_cleared_by_root_write(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "data")?;
    sys::setx(&u.m("f"), CAPS, &capability())?;
    sys::write(&u.m("f"), "changed")?;
    fails(
        sys::getx(&u.m("f"), CAPS),
        Errno::NODATA,
        "after a write by root",
    )
}

fn copy_up_by_another_user(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("a/b"))?;
    sys::chmod(&u.l("a"), 0o711)?;
    sys::write(&u.l("a/b/f"), "data")?;
    sys::chmod(&u.l("a/b/f"), 0o666)?;
    sys::chown(&u.l("a/b/f"), OTHER, 3000)?;
    u.mount()?;
    // The writer owns neither file nor parents.
    sys::as_user(ME, ME, &[], || Ok(sys::write(&u.m("a/b/f"), "by me")?))?;
    let s = sys::stx(&u.u("a/b/f"))?;
    same((s.stx_uid, s.stx_gid), (OTHER, 3000), "owner of the copy")?;
    same(sys::mode(&u.u("a/b/f"))?, 0o666, "mode of the copy")?;
    same(sys::mode(&u.u("a"))?, 0o711, "mode of a parent")?;
    same(sys::stx(&u.u("a"))?.stx_uid, 0, "owner of a parent")
}

fn touch_by_a_writer(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let now = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        },
    };
    let touch = |n: &str| rustix::fs::utimensat(CWD, u.m(n), &now, AtFlags::empty());
    sys::as_user(ME, ME, &[], || {
        works(touch("l-world"), "the current time with write permission")?;
        works(touch("u-world"), "the current time with write permission")?;
        fails(
            touch("l-readable"),
            Errno::ACCESS,
            "the current time without it",
        )?;
        fails(
            touch("u-readable"),
            Errno::ACCESS,
            "the current time without it",
        )
    })?;
    check(
        sys::exists(&u.u("l-world")),
        "a new time did not copy the file up",
    )?;
    check(
        !sys::exists(&u.u("l-readable")),
        "a refused change copied the file up",
    )
}

fn chown_to_own_groups(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    sys::as_user(ME, ME, &[2000], || {
        works(sys::chown(&u.m("l-mine"), ME, 2000), "to a group one is in")?;
        fails(
            sys::chown(&u.m("u-mine"), ME, 3000),
            Errno::PERM,
            "to one one is not in",
        )
    })?;
    same(sys::stx(&u.u("l-mine"))?.stx_gid, 2000, "group of the copy")
}

fn readonly_bind_of_the_mount(ctx: &Ctx) -> Res {
    use rustix::mount::{mount_bind, mount_remount, MountFlags};
    let u = filled(ctx)?;
    let b = ctx.root.join("bind");
    sys::mkdir(&b)?;
    mount_bind(&u.mnt, &b)?;
    mount_remount(&b, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    fails(
        sys::write(&b.join("l-world"), "x"),
        Errno::ROFS,
        "through the read-only bind",
    )?;
    fails(
        rustix::fs::access(b.join("l-world"), Access::WRITE_OK),
        Errno::ROFS,
        "access",
    )?;
    check(
        !sys::exists(&u.u("l-world")),
        "a refused write copied the file up",
    )?;
    works(sys::write(&u.m("l-world"), "x"), "through the mount itself")?;
    same(
        sys::read(&b.join("l-world"))?,
        b"x",
        "seen through the bind",
    )
}

tests! {
    Tmpfs: read_and_write, supplementary_groups, real_and_effective_ids, changes_by_strangers,
        search_permission, sticky_directories, root_ignores_modes, mounter_without_access,
        suid_cleared_by_write, suid_kept_for_root, setgid_cleared_by_chmod, file_caps_cleared,
        caps_cleared_by_root_write, copy_up_by_another_user, touch_by_a_writer,
        chown_to_own_groups, readonly_bind_of_the_mount;
    Ext4: read_and_write, changes_by_strangers, suid_cleared_by_write, file_caps_cleared,
        copy_up_by_another_user, mounter_without_access;
    Xfs: suid_cleared_by_write, file_caps_cleared;
}
