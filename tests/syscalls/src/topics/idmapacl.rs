// SPDX-License-Identifier: GPL-2.0
//! What holds ids beside the owner, or depends on them, with mapped layers and mounts: access control lists, set-id bits,
//! file capabilities. See `idmap`.

use super::acl::{self, build, ACCESS, DEFAULT};
use super::idmap::{empty, mapped_union, over_mapped_lower, over_mapped_upper, owned};
use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fs::OFlags;
use rustix::io::Errno;

fn acl_of_mapped_lower(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_lower(ctx)?;
    sys::mkdir(&raw.join("d"))?;
    sys::chmod(&raw.join("d"), 0o700)?;
    sys::write(&raw.join("d/f"), "data")?;
    for p in ["d", "d/f"] {
        sys::setx(&raw.join(p), ACCESS, &build(0, Some((7, 7))))?;
    }
    acl::set_default(&raw.join("d"), 0, Some((8, 5)))?;
    u.mount()?;
    let f = u.m("d/f");
    same(
        sys::getx(&f, ACCESS)?,
        build(0, Some((100_007, 7))),
        "the list",
    )?;
    same(
        sys::getx(&u.m("d"), DEFAULT)?,
        build(0, Some((100_008, 5))),
        "the default list",
    )?;
    for _ in 0..3 {
        sys::as_user(100_007, 1, &[], || {
            same(sys::read(&f)?, b"data", "read by the user in the list")
        })?;
        sys::as_user(7, 1, &[], || {
            fails(
                sys::read(&f),
                Errno::ACCESS,
                "read by the user of that number",
            )
        })?;
    }
    sys::as_user(100_007, 1, &[], || Ok(sys::write(&f, "changed")?))?;
    for (p, name, id, perm) in [
        ("d/f", ACCESS, 7, 7),
        ("d", ACCESS, 7, 7),
        ("d", DEFAULT, 8, 5),
    ] {
        let up = build(0, Some((100_000 + id, perm)));
        same(
            sys::getx(&u.m(p), name)?,
            up.clone(),
            "the list of the copy",
        )?;
        same(sys::getx(&u.u(p), name)?, up, "the list in upper")?;
        let low = build(0, Some((id, perm)));
        same(sys::getx(&raw.join(p), name)?, low, "the list in lower")?;
    }
    sys::as_user(7, 1, &[], || {
        fails(
            sys::read(&f),
            Errno::ACCESS,
            "read of the copy by the user of that number",
        )
    })
}

fn acl_of_mapped_upper(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_upper(ctx)?;
    sys::write(&u.l("f"), "data")?;
    sys::setx(&u.l("f"), ACCESS, &build(0, Some((101_007, 6))))?;
    sys::mkdir(&u.l("gone"))?;
    u.mount()?;
    sys::chmod(&u.m("f"), 0o670)?;
    same(
        sys::getx(&raw.join("f"), ACCESS)?[12..20].to_vec(),
        build(0, Some((1007, 6)))[12..20].to_vec(),
        "in upper",
    )?;
    same(
        sys::getx(&u.m("f"), ACCESS)?[12..20].to_vec(),
        build(0, Some((101_007, 6)))[12..20].to_vec(),
        "shown",
    )?;
    sys::setx(&u.m("f"), ACCESS, &build(0, Some((101_008, 6))))?;
    same(
        sys::getx(&raw.join("f"), ACCESS)?,
        build(0, Some((1008, 6))),
        "set in upper",
    )?;
    sys::as_user(101_008, 1, &[], || {
        same(
            sys::read(&u.m("f"))?,
            b"data",
            "read by the user in the list",
        )
    })?;
    sys::as_user(1008, 1, &[], || {
        fails(
            sys::read(&u.m("f")),
            Errno::ACCESS,
            "read by the user of that number",
        )
    })?;
    // What inherits a default list, also over a whiteout.
    acl::set_default(&u.mnt, 0, Some((101_009, 5)))?;
    std::fs::remove_dir(u.m("gone"))?;
    for name in ["gone", "new"] {
        sys::mkdir(&u.m(name))?;
        let list = build(0, Some((1009, 5)));
        same(
            sys::getx(&raw.join(name), DEFAULT)?,
            list,
            "the inherited list in upper",
        )?;
        let list = build(0, Some((101_009, 5)));
        same(sys::getx(&u.m(name), DEFAULT)?, list, "the inherited list")?;
    }
    fails(
        sys::setx(&u.m("f"), ACCESS, &build(0, Some((7, 6)))),
        Errno::INVAL,
        "a list of who has no place in upper",
    )?;
    rustix::fs::removexattr(u.m("f"), ACCESS)?;
    fails(
        sys::getx(&u.m("f"), ACCESS),
        Errno::NODATA,
        "a removed list",
    )
}

fn acl_of_mapped_union(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "data")?;
    sys::mkdir(&u.l("gone"))?;
    sys::chown(&u.l("f"), 100_001, 100_001)?;
    sys::chown(&u.l("gone"), 100_000, 100_000)?;
    sys::setx(&u.l("f"), ACCESS, &build(0, Some((100_007, 6))))?;
    sys::chown(&u.u(""), 100_000, 100_000)?;
    let m = mapped_union(ctx, &u)?;
    let f = m.join("f");
    same(sys::getx(&f, ACCESS)?, build(0, Some((7, 6))), "the list")?;
    sys::as_user(7, 9, &[], || {
        same(sys::read(&f)?, b"data", "read by the user in the list")
    })?;
    sys::as_user(100_007, 9, &[], || {
        fails(
            sys::read(&f),
            Errno::ACCESS,
            "read by the user of that number",
        )
    })?;
    sys::as_user(100_001, 100_001, &[], || {
        fails(
            sys::setx(&f, ACCESS, &build(0, Some((8, 6)))),
            Errno::PERM,
            "a list set by who owns it in the union",
        )
    })?;
    empty(&u.u(""))?;
    sys::as_user(1, 1, &[], || {
        Ok(sys::setx(&f, ACCESS, &build(0, Some((8, 6))))?)
    })?;
    same(
        sys::getx(&f, ACCESS)?,
        build(0, Some((8, 6))),
        "the new list",
    )?;
    same(
        sys::getx(&u.u("f"), ACCESS)?,
        build(0, Some((100_008, 6))),
        "in upper",
    )?;
    acl::set_default(&m, 0, Some((9, 5)))?;
    std::fs::remove_dir(m.join("gone"))?;
    for name in ["gone", "new"] {
        sys::mkdir(&m.join(name))?;
        let list = build(0, Some((100_009, 5)));
        same(
            sys::getx(&u.u(name), DEFAULT)?,
            list,
            "the inherited list in upper",
        )?;
        owned(&u.u(name), 100_000, 100_000)?;
    }
    Ok(())
}

fn set_id_bits(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for name in ["written", "chowned", "listed", "kept"] {
        sys::write(&u.l(name), "x")?;
        sys::chown(&u.l(name), 100_007, 100_008)?;
        sys::chmod(&u.l(name), 0o6777)?;
    }
    let m = mapped_union(ctx, &u)?;
    // By who owns it, but is not in its group, as the mount shows them.
    sys::as_user(9, 9, &[], || {
        let fd = sys::open(&m.join("written"), OFlags::WRONLY)?;
        rustix::io::write(&fd, b"y")?;
        Ok(())
    })?;
    same(sys::mode(&m.join("written"))?, 0o777, "after a write")?;
    sys::as_user(7, 9, &[9], || {
        sys::chown(&m.join("chowned"), u32::MAX, 9)?;
        Ok(sys::setx(
            &m.join("listed"),
            ACCESS,
            &build(7, Some((1, 7))),
        )?)
    })?;
    same(sys::mode(&m.join("chowned"))?, 0o777, "after a chown")?;
    owned(&u.u("chowned"), 100_007, 100_009)?;
    same(
        sys::mode(&u.u("listed"))? & 0o6000,
        0o4000,
        "after a list was set",
    )?;
    sys::as_user(7, 8, &[], || {
        Ok(sys::setx(&m.join("kept"), ACCESS, &build(7, Some((1, 7))))?)
    })?;
    same(
        sys::mode(&u.u("kept"))? & 0o6000,
        0o6000,
        "set by one of the group",
    )
}

/// A layer whose owners are mapped keeps no set-id bit that was taken away, whoever writes next.
fn set_id_bits_of_mapped_upper(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_upper(ctx)?;
    u.mount()?;
    sys::write(&u.m("f"), "x")?;
    sys::chown(&u.m("f"), 101_007, 101_008)?;
    sys::chmod(&u.m("f"), 0o6777)?;
    sys::as_user(101_009, 101_009, &[], || {
        let fd = sys::open(&u.m("f"), OFlags::WRONLY)?;
        rustix::io::write(&fd, b"y")?;
        Ok(())
    })?;
    same(sys::mode(&u.m("f"))?, 0o777, "shown")?;
    same(sys::mode(&raw.join("f"))?, 0o777, "in upper")?;
    owned(&u.m("f"), 101_007, 101_008)
}

/// VFS_CAP_REVISION_2, effective, CAP_SETUID.
fn capability() -> Vec<u8> {
    let mut cap = vec![0u8; 20];
    cap[3] = 2;
    cap[0] = 1;
    cap[4] = 1 << 7;
    cap
}

/// The same with the root user of its namespace.
fn capability_of(root: u32) -> Vec<u8> {
    let mut cap = capability();
    cap[3] = 3;
    cap.extend_from_slice(&root.to_le_bytes());
    cap
}

fn capabilities(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_lower(ctx)?;
    let name = "security.capability";
    for f in ["lower", "set"] {
        sys::write(&raw.join(f), "x")?;
    }
    sys::setx(&raw.join("lower"), name, &capability())?;
    let m = mapped_union(ctx, &u)?;
    same(
        sys::getx(&u.m("lower"), name)?,
        capability_of(100_000),
        "of the mapped layer",
    )?;
    same(
        sys::getx(&m.join("lower"), name)?,
        capability(),
        "mapped twice",
    )?;
    sys::chmod(&m.join("lower"), 0o700)?;
    same(
        sys::getx(&u.u("lower"), name)?,
        capability_of(100_000),
        "of the copy",
    )?;
    same(
        sys::getx(&u.m("lower"), name)?,
        capability_of(100_000),
        "of the copy as it is shown",
    )?;
    sys::setx(&m.join("set"), name, &capability())?;
    same(
        sys::getx(&u.u("set"), name)?,
        capability_of(100_000),
        "set through the mapped mount",
    )?;
    same(
        sys::getx(&m.join("set"), name)?,
        capability(),
        "read through the mapped mount",
    )?;
    same(
        sys::getx(&raw.join("lower"), name)?,
        capability(),
        "the lower file's",
    )
}

tests! {
    Tmpfs: acl_of_mapped_lower, acl_of_mapped_upper, acl_of_mapped_union, set_id_bits,
        set_id_bits_of_mapped_upper, capabilities;
    Ext4: acl_of_mapped_lower, acl_of_mapped_upper, capabilities;
}
