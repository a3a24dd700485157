// SPDX-License-Identifier: GPL-2.0
//! chattr and lsattr: FS_IOC_GETFLAGS and its relations.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::{is_overlayfs, Union};
use rustix::fd::AsRawFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::Path;

const GETFLAGS: libc::c_ulong = 0x8008_6601;
const SETFLAGS: libc::c_ulong = 0x4008_6602;
const FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FSSETXATTR: libc::c_ulong = 0x401c_5820;

const SYNC: u32 = 0x8;
const IMMUTABLE: u32 = 0x10;
pub(super) const APPEND: u32 = 0x20;
const NODUMP: u32 = 0x40;
const NOATIME: u32 = 0x80;
const PROT: u32 = IMMUTABLE | APPEND;

fn get(p: &Path) -> Sys<u32> {
    let fd = sys::open(p, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let mut v: libc::c_long = 0;
    // SAFETY: `v` outlives the call.
    sys::ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), GETFLAGS, &mut v)
    }))?;
    Ok(v as u32)
}

fn set(p: &Path, flags: u32) -> Sys<()> {
    let fd = sys::open(p, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let v = libc::c_long::from(flags as i32);
    // SAFETY: `v` outlives the call.
    sys::ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), SETFLAGS, &v)
    }))?;
    Ok(())
}

/// Adds and takes away flags, as chattr does.
pub(super) fn change(p: &Path, add: u32, del: u32) -> Sys<()> {
    set(p, (get(p)? | add) & !del)
}

fn xget(p: &Path) -> Sys<[u32; 7]> {
    let fd = sys::open(p, OFlags::RDONLY)?;
    let mut v = [0u32; 7];
    // SAFETY: `v` is struct fsxattr.
    sys::ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), FSGETXATTR, &mut v)
    }))?;
    Ok(v)
}

fn xset(p: &Path, v: [u32; 7]) -> Sys<()> {
    let fd = sys::open(p, OFlags::RDONLY)?;
    // SAFETY: `v` is struct fsxattr.
    sys::ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), FSSETXATTR, &v)
    }))?;
    Ok(())
}

/// Flags are set on upper, so it is upper that is asked whether it has them. overlayfs asks the layer
/// that has the file.
fn set_on_a_layer_without(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    super::opened::mount_ramfs(&ctx.tmp.join("ram"))?;
    u.lowers[0] = ctx.tmp.join("ram/l");
    sys::mkdir(&u.lowers[0])?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    for n in ["f", "d"] {
        if is_overlayfs() {
            fails(get(&u.m(n)), Errno::NOTTY, n)?;
            continue;
        }
        same(works(get(&u.m(n)), n)?, 0, "none yet")?;
        check(!sys::exists(&u.u(n)), "reading copied up")?;
        works(change(&u.m(n), IMMUTABLE, 0), n)?;
        same(get(&u.m(n))? & PROT, IMMUTABLE, n)?;
        works(change(&u.m(n), 0, IMMUTABLE), n)?;
    }
    Ok(())
}

fn get_on_both_layers(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    change(&u.l("low"), NODUMP, 0)?;
    change(&u.u("up"), NOATIME, 0)?;
    u.mount()?;
    same(
        get(&u.m("low"))? & (NODUMP | NOATIME),
        NODUMP,
        "flags of the lower file",
    )?;
    same(
        get(&u.m("up"))? & (NODUMP | NOATIME),
        NOATIME,
        "flags of the upper file",
    )?;
    same(
        get(&u.m("low"))?,
        get(&u.l("low"))?,
        "all flags of the lower file",
    )?;
    check(
        !sys::exists(&u.u("low")),
        "reading flags copied the file up",
    )
}

fn set_copies_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    for n in ["f", "d"] {
        change(&u.m(n), NODUMP, 0)?;
        same(get(&u.m(n))? & NODUMP, NODUMP, n)?;
        same(get(&u.u(n))? & NODUMP, NODUMP, n)?;
        same(get(&u.l(n))? & NODUMP, 0, n)?;
        change(&u.m(n), 0, NODUMP)?;
        same(get(&u.m(n))? & NODUMP, 0, n)?;
    }
    same(sys::read(&u.m("f"))?, b"x", "content")
}

fn flags_survive_copy_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    change(&u.l("f"), NODUMP | NOATIME | SYNC, 0)?;
    u.mount()?;
    let want = get(&u.m("f"))? & (NOATIME | SYNC);
    same(want, NOATIME | SYNC, "flags before")?;
    sys::write(&u.m("f"), "y")?;
    same(
        get(&u.m("f"))? & (NOATIME | SYNC),
        want,
        "flags after the copy-up",
    )
}

fn immutable(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    u.mount()?;
    let f = u.m("f");
    change(&f, IMMUTABLE, 0)?;
    same(get(&f)? & PROT, IMMUTABLE, "flags")?;
    fails(
        sys::open(&f, OFlags::WRONLY),
        Errno::PERM,
        "open for writing",
    )?;
    fails(sys::chmod(&f, 0o600), Errno::PERM, "chmod")?;
    fails(std::fs::remove_file(&f), Errno::PERM, "unlink")?;
    fails(std::fs::rename(&f, u.m("g")), Errno::PERM, "rename")?;
    fails(std::fs::hard_link(&f, u.m("g")), Errno::PERM, "link")?;
    fails(sys::setx(&f, "user.x", b"1"), Errno::PERM, "setxattr")?;
    same(sys::read(&f)?, b"x", "reading")?;
    // The real file stays free, the flag lies in an xattr.
    same(get(&u.u("f"))? & PROT, 0, "flags of the real file")?;
    same(
        sys::getx(&u.u("f"), "trusted.overlay.protattr")?,
        b"i",
        "overlay.protattr",
    )?;
    u.again()?;
    same(get(&f)? & PROT, IMMUTABLE, "flags after a new mount")?;
    fails(
        sys::open(&f, OFlags::WRONLY),
        Errno::PERM,
        "open after a new mount",
    )?;
    change(&f, 0, IMMUTABLE)?;
    fails(
        sys::getx(&u.u("f"), "trusted.overlay.protattr"),
        Errno::NODATA,
        "overlay.protattr",
    )?;
    sys::write(&f, "free")?;
    Ok(())
}

fn append_only(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    u.mount()?;
    let f = u.m("f");
    change(&f, APPEND, 0)?;
    same(
        sys::getx(&u.u("f"), "trusted.overlay.protattr")?,
        b"a",
        "overlay.protattr",
    )?;
    fails(
        sys::open(&f, OFlags::WRONLY),
        Errno::PERM,
        "open without O_APPEND",
    )?;
    let t = OFlags::WRONLY | OFlags::APPEND | OFlags::TRUNC;
    fails(sys::open(&f, t), Errno::PERM, "open with O_TRUNC")?;
    let fd = sys::open(&f, OFlags::WRONLY | OFlags::APPEND)?;
    rustix::io::write(&fd, b"more")?;
    let off = rustix::fs::fcntl_setfl(&fd, OFlags::empty());
    fails(off, Errno::PERM, "taking O_APPEND away")?;
    fails(std::fs::remove_file(&f), Errno::PERM, "unlink")?;
    same(sys::read(&f)?, b"xmore", "content")?;
    change(&f, IMMUTABLE, 0)?;
    let mut both = sys::getx(&u.u("f"), "trusted.overlay.protattr")?;
    both.sort_unstable();
    same(both, b"ai", "overlay.protattr with both flags")?;
    change(&f, 0, PROT)?;
    Ok(())
}

fn lower_flags_over_copy_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["imm", "app"] {
        sys::write(&u.l(n), "x")?;
    }
    change(&u.l("imm"), IMMUTABLE, 0)?;
    change(&u.l("app"), APPEND, 0)?;
    u.mount()?;
    let r = (|| -> Res {
        same(
            get(&u.m("imm"))? & PROT,
            IMMUTABLE,
            "immutable seen through the mount",
        )?;
        fails(
            sys::open(&u.m("imm"), OFlags::WRONLY),
            Errno::PERM,
            "open of an immutable lower",
        )?;
        fails(
            std::fs::remove_file(u.m("imm")),
            Errno::PERM,
            "unlink of an immutable lower",
        )?;
        let fd = sys::open(&u.m("app"), OFlags::WRONLY | OFlags::APPEND)?;
        rustix::io::write(&fd, b"more")?;
        same(
            sys::read(&u.m("app"))?,
            b"xmore",
            "appended to an append-only lower",
        )?;
        same(
            get(&u.m("app"))? & PROT,
            APPEND,
            "append-only after the copy-up",
        )?;
        same(get(&u.u("app"))? & PROT, 0, "flags of the copy itself")?;
        let p = sys::getx(&u.u("app"), "trusted.overlay.protattr")?;
        same(p, b"a", "overlay.protattr of the copy")?;
        fails(
            std::fs::remove_file(u.m("app")),
            Errno::PERM,
            "unlink of an append-only copy",
        )?;
        change(&u.m("app"), 0, APPEND)?;
        sys::write(&u.m("app"), "free")?;
        Ok(())
    })();
    for n in ["imm", "app"] {
        change(&u.l(n), 0, PROT)?;
    }
    r
}

fn protattr_is_hidden(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.u("f"), "x")?;
    sys::setx(&u.u("f"), "trusted.overlay.protattr", b"i")?;
    u.mount()?;
    same(
        sys::listx(&u.m("f"))?,
        Vec::<String>::new(),
        "the list of xattrs",
    )?;
    same(get(&u.m("f"))? & PROT, IMMUTABLE, "flags")?;
    let st = sys::stx(&u.m("f"))?;
    let imm = rustix::fs::StatxAttributes::IMMUTABLE;
    check(st.stx_attributes.contains(imm), "STATX_ATTR_IMMUTABLE")?;
    let f = u.m("f");
    fails(
        sys::open(&f, OFlags::WRONLY),
        Errno::PERM,
        "open for writing",
    )
}

fn immutable_directory(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/f"), "x")?;
    u.mount()?;
    change(&u.m("d"), IMMUTABLE, 0)?;
    fails(sys::write(&u.m("d/new"), "x"), Errno::PERM, "create inside")?;
    fails(
        std::fs::remove_file(u.m("d/f")),
        Errno::PERM,
        "unlink inside",
    )?;
    fails(std::fs::remove_dir(u.m("d")), Errno::PERM, "rmdir")?;
    // What lies inside can still be copied up.
    sys::write(&u.m("d/f"), "changed")?;
    same(sys::read(&u.u("d/f"))?, b"changed", "the copy inside")?;
    change(&u.m("d"), 0, IMMUTABLE)?;
    sys::write(&u.m("d/new"), "x")?;
    Ok(())
}

fn fsxattr(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let f = u.m("f");
    let v = xget(&f)?;
    same(v[0], xget(&u.l("f"))?[0], "flags of the lower file")?;
    let mut n = v;
    n[0] |= 0x80; // FS_XFLAG_NODUMP
    xset(&f, n)?;
    same(xget(&f)?[0] & 0x80, 0x80, "FS_XFLAG_NODUMP")?;
    same(get(&f)? & NODUMP, NODUMP, "as FS_NODUMP_FL")?;
    let mut n = xget(&f)?;
    n[0] |= 0x08; // FS_XFLAG_IMMUTABLE
    xset(&f, n)?;
    same(get(&f)? & PROT, IMMUTABLE, "as FS_IMMUTABLE_FL")?;
    same(
        sys::getx(&u.u("f"), "trusted.overlay.protattr")?,
        b"i",
        "overlay.protattr",
    )?;
    n[0] &= !0x08;
    xset(&f, n)?;
    same(get(&f)? & PROT, 0, "afterwards")
}

fn needs_owner_and_capability(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("mine"), "x")?;
    sys::write(&u.l("other"), "x")?;
    sys::chown(&u.l("mine"), 1000, 1000)?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || {
        fails(
            change(&u.m("other"), NODUMP, 0),
            Errno::PERM,
            "a flag of another's file",
        )?;
        fails(
            change(&u.m("mine"), IMMUTABLE, 0),
            Errno::PERM,
            "immutable without capability",
        )?;
        works(change(&u.m("mine"), NODUMP, 0), "a flag of one's own file")
    })?;
    check(
        !sys::exists(&u.u("other")),
        "a refused change copied the file up",
    )
}

fn no_flags_on_special(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mknod(&u.l("p"), rustix::fs::FileType::Fifo, 0o644, 0)?;
    u.mount()?;
    fails(get(&u.m("p")), Errno::NOTTY, "FS_IOC_GETFLAGS on a fifo")
}

tests! {
    Ext4: get_on_both_layers, set_copies_up, flags_survive_copy_up, immutable, append_only,
        lower_flags_over_copy_up, protattr_is_hidden, immutable_directory, fsxattr,
        needs_owner_and_capability, no_flags_on_special;
    Tmpfs: get_on_both_layers, set_on_a_layer_without, immutable, fsxattr;
    Xfs: set_copies_up, immutable, append_only, lower_flags_over_copy_up, fsxattr;
}
