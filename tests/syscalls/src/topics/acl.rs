// SPDX-License-Identifier: GPL-2.0
//! POSIX access control lists, written as the xattrs that they are.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::{is_overlayfs, Union};
use rustix::fs::{Access, OFlags};
use rustix::io::Errno;
use std::path::Path;

pub const ACCESS: &str = "system.posix_acl_access";
pub const DEFAULT: &str = "system.posix_acl_default";

/// user::rwx, perhaps user:ID:perm, group::r-x, mask, other.
pub fn build(other: u16, user: Option<(u32, u16)>) -> Vec<u8> {
    let mut v = 2u32.to_le_bytes().to_vec();
    let mut entry = |tag: u16, perm: u16, id: u32| {
        v.extend_from_slice(&tag.to_le_bytes());
        v.extend_from_slice(&perm.to_le_bytes());
        v.extend_from_slice(&id.to_le_bytes());
    };
    let none = u32::MAX;
    entry(0x01, 7, none);
    if let Some((id, perm)) = user {
        entry(0x02, perm, id);
    }
    entry(0x04, 5, none);
    if user.is_some() {
        entry(0x10, 7, none);
    }
    entry(0x20, other, none);
    v
}

pub fn set_default(p: &Path, other: u16, user: Option<(u32, u16)>) -> Sys<()> {
    sys::setx(p, DEFAULT, &build(other, user))
}

fn set_access(p: &Path, other: u16, user: Option<(u32, u16)>) -> Sys<()> {
    sys::setx(p, ACCESS, &build(other, user))
}

fn access_on_lower_honoured(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    set_access(&u.l("f"), 0, Some((1000, 6)))?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || {
        works(sys::read(&u.m("f")), "read by the user in the list")?;
        works(
            rustix::fs::access(u.m("f"), Access::WRITE_OK),
            "access by the user in the list",
        )
    })?;
    sys::as_user(1001, 1001, &[], || {
        fails(sys::read(&u.m("f")), Errno::ACCESS, "read by another user")
    })
}

/// A list takes away what the mode alone would give, in each layer, from the caches as well as without; and no longer once it is gone.
fn denied_by_the_list_alone(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for dir in [u.l("low"), u.u("up")] {
        sys::mkdir(&dir)?;
        sys::write(&dir.join("f"), "x")?;
        set_access(&dir, 7, Some((1000, 0)))?;
        set_access(&dir.join("f"), 7, Some((1000, 0)))?;
    }
    u.mount()?;
    let denied = |dir: &Path, what: &str| {
        sys::as_user(1000, 1000, &[], || {
            fails(sys::stx(&dir.join("f")), Errno::ACCESS, what)?;
            fails(sys::open(dir, OFlags::RDONLY), Errno::ACCESS, what)
        })
    };
    for dir in ["low", "up"] {
        let dir = u.m(dir);
        for round in ["first", "cached"] {
            denied(&dir, round)?;
            sys::as_user(1001, 1001, &[], || {
                works(sys::read(&dir.join("f")), round).map(drop)
            })?;
        }
        sys::chown(&dir, 0, 1)?;
        denied(&dir, "in upper")?;
        rustix::fs::removexattr(&dir, ACCESS)?;
        sys::chmod(&dir, 0o755)?;
        sys::as_user(1000, 1000, &[], || {
            works(sys::stx(&dir.join("f")), "the directory's list is gone")?;
            fails(
                sys::read(&dir.join("f")),
                Errno::ACCESS,
                "the file's is not",
            )
        })?;
    }
    Ok(())
}

fn copied_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    set_access(&u.l("f"), 4, Some((1000, 6)))?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || Ok(sys::write(&u.m("f"), "written")?))?;
    same(
        sys::getx(&u.u("f"), ACCESS)?,
        sys::getx(&u.l("f"), ACCESS)?,
        "the list of the copy",
    )?;
    same(
        sys::mode(&u.u("f"))?,
        sys::mode(&u.l("f"))?,
        "mode of the copy",
    )
}

fn directory_lists_copied_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/f"), "x")?;
    set_default(&u.l("d"), 0, Some((1000, 7)))?;
    set_access(&u.l("d"), 5, Some((1000, 7)))?;
    u.mount()?;
    sys::write(&u.m("d/f"), "y")?;
    for n in [ACCESS, DEFAULT] {
        same(sys::getx(&u.u("d"), n)?, sys::getx(&u.l("d"), n)?, n)?;
    }
    // The copied file does not inherit the parent's default list.
    fails(
        sys::getx(&u.m("d/f"), ACCESS),
        Errno::NODATA,
        "list of a copied file",
    )?;
    same(sys::mode(&u.m("d/f"))?, 0o644, "mode of a copied file")
}

/// What a create leaves must be what it leaves on a plain folder.
fn default_inherited(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::mkdir(&u.l("gone"))?;
    set_default(&u.l("d"), 0, Some((1000, 7)))?;
    let plain = ctx.root.join("plain");
    sys::mkdir(&plain)?;
    set_default(&plain, 0, Some((1000, 7)))?;
    u.mount()?;
    // Over a whiteout too.
    sys::write(&u.m("d/white"), "")?;
    let d = u.m("d");
    let make = |dir: &Path| -> Res {
        sys::open_mode(&dir.join("f"), OFlags::CREATE | OFlags::WRONLY, 0o666)?;
        rustix::fs::mkdir(dir.join("sub"), rustix::fs::Mode::from_bits_retain(0o777))?;
        let fifo = rustix::fs::FileType::Fifo;
        sys::mknod(&dir.join("p"), fifo, 0o666, 0)?;
        Ok(())
    };
    make(&d)?;
    make(&plain)?;
    for n in ["f", "sub", "p"] {
        let (a, b) = (d.join(n), plain.join(n));
        same(sys::mode(&a)?, sys::mode(&b)?, n)?;
        same(sys::getx(&a, ACCESS)?, sys::getx(&b, ACCESS)?, n)?;
    }
    same(
        sys::getx(&d.join("sub"), DEFAULT)?,
        sys::getx(&plain, DEFAULT)?,
        "default list of a new directory",
    )
}

fn default_inherited_over_whiteout(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/f"), "x")?;
    sys::mkdir(&u.l("d/sub"))?;
    set_default(&u.l("d"), 0, Some((1000, 6)))?;
    let plain = ctx.root.join("plain");
    sys::mkdir(&plain)?;
    set_default(&plain, 0, Some((1000, 6)))?;
    u.mount()?;
    std::fs::remove_file(u.m("d/f"))?;
    std::fs::remove_dir(u.m("d/sub"))?;
    for dir in [&u.m("d"), &plain] {
        sys::open_mode(&dir.join("f"), OFlags::CREATE | OFlags::WRONLY, 0o666)?;
        rustix::fs::mkdir(dir.join("sub"), rustix::fs::Mode::from_bits_retain(0o777))?;
    }
    for n in ["f", "sub"] {
        let (a, b) = (u.m("d").join(n), plain.join(n));
        same(sys::mode(&a)?, sys::mode(&b)?, n)?;
        same(sys::getx(&a, ACCESS)?, sys::getx(&b, ACCESS)?, n)?;
    }
    same(
        sys::getx(&u.m("d/sub"), DEFAULT)?,
        sys::getx(&plain, DEFAULT)?,
        "default list of a directory over a whiteout",
    )
}

fn set_and_remove_on_lower(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    set_access(&u.m("f"), 4, Some((1000, 4)))?;
    same(sys::mode(&u.m("f"))?, 0o774, "mode follows the mask")?;
    fails(
        sys::getx(&u.l("f"), ACCESS),
        Errno::NODATA,
        "list of the lower file",
    )?;
    works(sys::getx(&u.u("f"), ACCESS), "list of the copy")?;
    rustix::fs::removexattr(u.m("f"), ACCESS)?;
    fails(
        sys::getx(&u.m("f"), ACCESS),
        Errno::NODATA,
        "list after removal",
    )
}

fn only_the_owner_sets(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    sys::chmod(&ctx.root, 0o755)?;
    sys::as_user(1000, 1000, &[], || {
        let r = set_access(&u.m("f"), 4, Some((1000, 7)));
        fails(r, Errno::PERM, "setxattr of an access list")
    })?;
    check(!sys::exists(&u.u("f")), "a refused change was copied up")
}

fn default_on_a_file_refused(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    fails(
        set_default(&u.m("f"), 4, Some((1000, 7))),
        Errno::ACCESS,
        "default list on a file",
    )?;
    check(!sys::exists(&u.u("f")), "a refused change was copied up")
}

fn malformed_refused(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let f = u.m("f");
    fails(
        sys::setx(&f, ACCESS, &build(4, None)[..7]),
        Errno::INVAL,
        "a short list",
    )?;
    let mut v = build(4, None);
    v[0] = 9;
    fails(
        sys::setx(&f, ACCESS, &v),
        Errno::OPNOTSUPP,
        "an unknown version",
    )?;
    check(!sys::exists(&u.u("f")), "a refused change was copied up")
}

fn chmod_changes_mask(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    set_access(&u.l("f"), 0, Some((1000, 6)))?;
    u.mount()?;
    sys::chmod(&u.m("f"), 0o600)?;
    sys::as_user(1000, 1000, &[], || {
        fails(
            sys::read(&u.m("f")),
            Errno::ACCESS,
            "read with an empty mask",
        )
    })?;
    sys::chmod(&u.m("f"), 0o660)?;
    sys::as_user(1000, 1000, &[], || {
        works(sys::read(&u.m("f")), "read with the mask back")?;
        Ok(())
    })
}

/// A list is set on upper, so it is upper that is asked whether it has lists. overlayfs asks the layer that has the
/// file.
fn set_on_a_layer_without(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    super::opened::mount_ramfs(&ctx.tmp.join("ram"))?;
    u.lowers[0] = ctx.tmp.join("ram/l");
    sys::mkdir(&u.lowers[0])?;
    for n in ["set", "kept"] {
        sys::write(&u.l(n), "x")?;
        sys::mkdir(&u.l(&format!("{n}dir")))?;
    }
    u.mount()?;
    for n in ["kept", "keptdir"] {
        fails(sys::getx(&u.m(n), ACCESS), Errno::NODATA, "none yet")?;
        let seen = rustix::fs::removexattr(u.m(n), ACCESS);
        if !is_overlayfs() {
            fails(seen, Errno::NODATA, "removing what is not there")?;
        }
        check(!sys::exists(&u.u(n)), "that copied up")?;
    }
    for n in ["set", "setdir"] {
        let seen = set_access(&u.m(n), 0, Some((1000, 6)));
        if is_overlayfs() {
            fails(seen, Errno::OPNOTSUPP, n)?;
            continue;
        }
        works(seen, n)?;
        same(
            sys::getx(&u.m(n), ACCESS)?,
            sys::getx(&u.u(n), ACCESS)?,
            "the list",
        )?;
    }
    Ok(())
}

fn tmpfile_inherits(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    set_default(&u.l("d"), 0, Some((1000, 6)))?;
    u.mount()?;
    let fd = sys::open_mode(&u.m("d"), OFlags::TMPFILE | OFlags::RDWR, 0o666)?;
    let st = rustix::fs::fstat(&fd)?;
    same(
        st.st_mode & 0o777,
        0o660,
        "mode of an O_TMPFILE under a default list",
    )
}

tests! {
    Tmpfs: access_on_lower_honoured, copied_up, directory_lists_copied_up, default_inherited,
        default_inherited_over_whiteout, set_and_remove_on_lower, only_the_owner_sets,
        default_on_a_file_refused, malformed_refused, chmod_changes_mask, set_on_a_layer_without,
        tmpfile_inherits, denied_by_the_list_alone;
    Ext4: copied_up, default_inherited, default_inherited_over_whiteout,
        denied_by_the_list_alone;
}
