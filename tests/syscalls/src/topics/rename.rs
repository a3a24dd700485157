// SPDX-License-Identifier: GPL-2.0
//! rename(2) in all its flags.

use crate::harness::*;
use crate::sys::{self, rename};
use crate::union::Union;
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;

const NONE: RenameFlags = RenameFlags::empty();
const EXCHANGE: RenameFlags = RenameFlags::EXCHANGE;
const NOREPLACE: RenameFlags = RenameFlags::NOREPLACE;

/// Files and directories of every origin.
fn filled(ctx: &Ctx) -> Res<Union> {
    let u = Union::new(ctx)?;
    for n in ["low", "low2", "both"] {
        sys::write(&u.l(n), n)?;
    }
    for n in ["up", "up2"] {
        sys::write(&u.u(n), n)?;
    }
    sys::write(&u.u("both"), "upper both")?;
    sys::write(&u.l("white"), "hidden")?;
    sys::whiteout(&u.u("white"))?;
    sys::mkdir(&u.l("lowdir"))?;
    sys::write(&u.l("lowdir/in"), "in")?;
    sys::mkdir(&u.l("merged"))?;
    sys::mkdir(&u.u("merged"))?;
    sys::write(&u.l("merged/in"), "in")?;
    sys::mkdir(&u.u("updir"))?;
    sys::write(&u.u("updir/in"), "in")?;
    sys::mkdir(&u.l("emptylow"))?;
    sys::mkdir(&u.u("emptyup"))?;
    u.mount()?;
    Ok(u)
}

fn gone(u: &Union, n: &str) -> Res {
    check(!sys::exists(&u.m(n)), &format!("{n} is still there"))?;
    let listed = sys::names(&u.mnt)?.iter().any(|x| x == n);
    check(!listed, &format!("{n} is still listed"))
}

fn files(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for (from, to, data) in [
        ("low", "fresh", "low"),
        ("up", "fresh2", "up"),
        ("low2", "up2", "low2"),
        ("both", "white", "upper both"),
    ] {
        rename(&u.m(from), &u.m(to), NONE)?;
        gone(&u, from)?;
        same(sys::read(&u.m(to))?, data.as_bytes(), to)?;
        let lower = sys::exists(&u.l(from));
        same(
            sys::is_whiteout(&u.u(from)),
            lower,
            &format!("a whiteout for {from}"),
        )?;
    }
    u.work_is_empty()?;
    u.again()?;
    same(sys::read(&u.m("fresh"))?, b"low", "after a new mount")?;
    same(
        sys::read(&u.m("white"))?,
        b"upper both",
        "after a new mount",
    )?;
    gone(&u, "low")
}

fn onto_lower(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    rename(&u.m("up"), &u.m("low"), NONE)?;
    same(sys::read(&u.m("low"))?, b"up", "upper over lower")?;
    gone(&u, "up")?;
    check(
        !sys::exists(&u.u("up")),
        "a whiteout where nothing lies below",
    )?;
    rename(&u.m("low2"), &u.m("low"), NONE)?;
    same(sys::read(&u.m("low"))?, b"low2", "lower over upper")?;
    same(sys::read(&u.l("low"))?, b"low", "the lower file")
}

fn noreplace(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for (from, to) in [
        ("low", "up"),
        ("up", "low"),
        ("low", "low2"),
        ("updir", "lowdir"),
    ] {
        let r = rename(&u.m(from), &u.m(to), NOREPLACE);
        fails(r, Errno::EXIST, &format!("{from} to {to}"))?;
    }
    check(
        !sys::exists(&u.u("low")),
        "a refused rename copied its source up",
    )?;
    rename(&u.m("low"), &u.m("white"), NOREPLACE)?;
    same(sys::read(&u.m("white"))?, b"low", "onto a whiteout")?;
    rename(&u.m("up"), &u.m("fresh"), NOREPLACE)?;
    same(sys::read(&u.m("fresh"))?, b"up", "onto nothing")
}

fn exchange_files(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for (a, b) in [
        ("low", "up"),
        ("low2", "both"),
        ("low", "low2"),
        ("up", "up2"),
    ] {
        let (da, db) = (sys::read(&u.m(a))?, sys::read(&u.m(b))?);
        let (ia, ib) = (sys::stx(&u.m(a))?.stx_ino, sys::stx(&u.m(b))?.stx_ino);
        rename(&u.m(a), &u.m(b), EXCHANGE)?;
        same(sys::read(&u.m(a))?, db, a)?;
        same(sys::read(&u.m(b))?, da, b)?;
        same(sys::stx(&u.m(a))?.stx_ino, ib, "its number came along")?;
        same(sys::stx(&u.m(b))?.stx_ino, ia, "its number came along")?;
    }
    u.work_is_empty()
}

fn exchange_errnos(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for (a, b, want) in [
        ("low", "none", Errno::NOENT),
        ("low", "white", Errno::NOENT),
        ("none", "low", Errno::NOENT),
        ("lowdir", "up", Errno::XDEV),
        ("up", "lowdir", Errno::XDEV),
        ("merged", "updir", Errno::XDEV),
        ("updir", "merged", Errno::XDEV),
    ] {
        fails(
            rename(&u.m(a), &u.m(b), EXCHANGE),
            want,
            &format!("{a} with {b}"),
        )?;
    }
    check(
        !sys::exists(&u.u("low")),
        "a refused exchange copied its source up",
    )
}

fn exchange_file_and_directory(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    rename(&u.m("low"), &u.m("updir"), EXCHANGE)?;
    same(
        sys::read(&u.m("updir"))?,
        b"low",
        "a file where the directory was",
    )?;
    same(
        sys::names(&u.m("low"))?,
        ["in"],
        "a directory where the file was",
    )?;
    u.again()?;
    same(sys::read(&u.m("updir"))?, b"low", "after a new mount")?;
    same(sys::names(&u.m("low"))?, ["in"], "after a new mount")
}

fn flags_refused(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let w = RenameFlags::WHITEOUT;
    fails(
        rename(&u.m("up"), &u.m("x"), w),
        Errno::INVAL,
        "RENAME_WHITEOUT by a user",
    )?;
    let both = NOREPLACE | EXCHANGE;
    fails(
        rename(&u.m("up"), &u.m("up2"), both),
        Errno::INVAL,
        "both flags",
    )?;
    let odd = RenameFlags::from_bits_retain(0x100);
    fails(
        rename(&u.m("up"), &u.m("x"), odd),
        Errno::INVAL,
        "an unknown flag",
    )?;
    same(sys::read(&u.m("up"))?, b"up", "afterwards")
}

fn errnos(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for (a, b, want) in [
        ("none", "x", Errno::NOENT),
        ("white", "x", Errno::NOENT),
        ("low", "none/x", Errno::NOENT),
        ("low", "lowdir", Errno::ISDIR),
        ("updir", "low", Errno::NOTDIR),
        ("updir", "lowdir", Errno::NOTEMPTY),
        ("emptyup", "merged", Errno::NOTEMPTY),
        ("updir", "updir/in/x", Errno::NOTDIR),
        ("updir", "updir/x", Errno::INVAL),
        ("low", ".", Errno::BUSY),
        ("low", "low/x", Errno::NOTDIR),
    ] {
        fails(rename(&u.m(a), &u.m(b), NONE), want, &format!("{a} to {b}"))?;
    }
    let out = ctx.root.join("outside");
    fails(
        rename(&u.m("up"), &out, NONE),
        Errno::XDEV,
        "out of the mount",
    )?;
    sys::write(&out, "")?;
    fails(rename(&out, &u.m("x"), NONE), Errno::XDEV, "into the mount")?;
    check(
        !sys::exists(&u.u("low")),
        "a refused rename copied its source up",
    )
}

fn directories(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for n in ["lowdir", "merged", "emptylow"] {
        fails(rename(&u.m(n), &u.m("x"), NONE), Errno::XDEV, n)?;
    }
    rename(&u.m("updir"), &u.m("moved"), NONE)?;
    same(sys::names(&u.m("moved"))?, ["in"], "a pure upper directory")?;
    // Over an empty lower directory: must hide it.
    rename(&u.m("moved"), &u.m("emptylow"), NONE)?;
    same(
        sys::names(&u.m("emptylow"))?,
        ["in"],
        "over an empty lower directory",
    )?;
    // Over a whiteout.
    rename(&u.m("emptyup"), &u.m("white"), NONE)?;
    same(
        sys::names(&u.m("white"))?,
        Vec::<String>::new(),
        "over a whiteout",
    )?;
    u.work_is_empty()?;
    u.again()?;
    same(sys::names(&u.m("emptylow"))?, ["in"], "after a new mount")?;
    same(
        sys::names(&u.m("white"))?,
        Vec::<String>::new(),
        "after a new mount",
    )
}

fn moved_directory_hides_what_lies_below(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("p/x"))?;
    sys::write(&u.l("p/x/old"), "old")?;
    u.mount()?;
    sys::mkdir(&u.m("new"))?;
    sys::write(&u.m("new/own"), "own")?;
    std::fs::remove_file(u.m("p/x/old"))?;
    // p/x is empty now but for a whiteout.
    rename(&u.m("new"), &u.m("p/x"), NONE)?;
    same(sys::names(&u.m("p/x"))?, ["own"], "names")?;
    u.again()?;
    same(sys::names(&u.m("p/x"))?, ["own"], "names after a new mount")?;
    u.work_is_empty()
}

fn over_directory_with_whiteouts_only(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    std::fs::remove_file(u.m("merged/in"))?;
    rename(&u.m("updir"), &u.m("merged"), NONE)?;
    same(sys::names(&u.m("merged"))?, ["in"], "names")?;
    same(sys::read(&u.m("merged/in"))?, b"in", "content")?;
    gone(&u, "updir")?;
    u.again()?;
    same(sys::names(&u.m("merged"))?, ["in"], "after a new mount")
}

fn onto_own_hard_link(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    std::fs::hard_link(u.m("up"), u.m("up-b"))?;
    std::fs::hard_link(u.m("low"), u.m("low-b"))?;
    for (a, b) in [("up", "up-b"), ("low", "low-b")] {
        rename(&u.m(a), &u.m(b), NONE)?;
        check(
            sys::exists(&u.m(a)) && sys::exists(&u.m(b)),
            "both names stay",
        )?;
        same(sys::stx(&u.m(a))?.stx_nlink, 2, "link count")?;
        rename(&u.m(a), &u.m(b), EXCHANGE)?;
        rename(&u.m(a), &u.m(a), NONE)?;
        check(sys::exists(&u.m(a)), "a name moved onto itself")?;
    }
    check(!sys::exists(&u.u("none")), "nothing else")
}

fn onto_lower_hard_link(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("a"), "x")?;
    std::fs::hard_link(u.l("a"), u.l("b"))?;
    u.mount()?;
    // Two names of a lower file are one inode while nothing is copied up.
    rename(&u.m("a"), &u.m("b"), NONE)?;
    same(sys::read(&u.m("b"))?, b"x", "content of the target")?;
    let one = sys::stx(&u.m("a")).map(|s| s.stx_ino);
    if let Ok(i) = one {
        same(
            i,
            sys::stx(&u.m("b"))?.stx_ino,
            "if both stay they are one file",
        )?;
    }
    u.work_is_empty()
}

fn symlinks_and_special(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    rustix::fs::symlink("somewhere", u.l("s"))?;
    sys::mknod(&u.l("p"), rustix::fs::FileType::Fifo, 0o640, 0)?;
    u.mount()?;
    rename(&u.m("s"), &u.m("s2"), NONE)?;
    rename(&u.m("p"), &u.m("p2"), NONE)?;
    same(
        std::fs::read_link(u.m("s2"))?.to_string_lossy().as_ref(),
        "somewhere",
        "link",
    )?;
    same(sys::mode(&u.m("p2"))?, 0o640, "mode of the fifo")?;
    gone(&u, "s")?;
    gone(&u, "p")
}

fn across_directories(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    rename(&u.m("lowdir/in"), &u.m("merged/in2"), NONE)?;
    same(sys::read(&u.m("merged/in2"))?, b"in", "moved")?;
    check(
        sys::is_whiteout(&u.u("lowdir/in")),
        "a whiteout where it was",
    )?;
    same(
        sys::names(&u.m("lowdir"))?,
        Vec::<String>::new(),
        "the old parent",
    )?;
    rename(&u.m("updir"), &u.m("lowdir/sub"), NONE)?;
    same(
        sys::names(&u.m("lowdir/sub"))?,
        ["in"],
        "a directory moved below a lower one",
    )?;
    let parent = sys::stx(&u.m("lowdir"))?.stx_ino;
    same(sys::stx(&u.m("lowdir/sub/.."))?.stx_ino, parent, "its ..")
}

fn open_descriptor_follows(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let r = sys::open(&u.m("low"), OFlags::RDONLY)?;
    rename(&u.m("low"), &u.m("moved"), NONE)?;
    same(
        sys::pread(&r, 9, 0)?,
        b"low",
        "read through an old descriptor",
    )?;
    sys::write(&u.m("moved"), "changed")?;
    same(sys::pread(&r, 9, 0)?, b"changed", "it follows the file")?;
    use std::os::fd::AsFd;
    same(
        sys::fd_path(r.as_fd())?,
        u.m("moved").display().to_string(),
        "its path",
    )
}

fn replaced_file_lives_on(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let r = sys::open(&u.m("low"), OFlags::RDONLY)?;
    let w = sys::open(&u.m("up2"), OFlags::RDWR)?;
    rename(&u.m("up"), &u.m("low"), NONE)?;
    rename(&u.m("low2"), &u.m("up2"), NONE)?;
    same(sys::pread(&r, 9, 0)?, b"low", "a replaced lower file")?;
    rustix::io::pwrite(&w, b"UP", 0)?;
    same(sys::pread(&w, 9, 0)?, b"UP2", "a replaced upper file")?;
    same(rustix::fs::fstat(&w)?.st_nlink, 0, "its link count")
}

fn back_and_forth(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for _ in 0..3 {
        rename(&u.m("low"), &u.m("tmp"), NONE)?;
        rename(&u.m("tmp"), &u.m("low"), NONE)?;
    }
    same(sys::read(&u.m("low"))?, b"low", "content")?;
    gone(&u, "tmp")?;
    check(
        !sys::exists(&u.u("tmp")),
        "a whiteout for a name without a lower",
    )?;
    u.work_is_empty()
}

fn times_and_numbers(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let before = sys::stx(&u.m("low"))?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    rename(&u.m("low"), &u.m("moved"), NONE)?;
    let after = sys::stx(&u.m("moved"))?;
    same(after.stx_ino, before.stx_ino, "st_ino")?;
    same(after.stx_mtime.tv_nsec, before.stx_mtime.tv_nsec, "mtime")?;
    u.again()?;
    same(
        sys::stx(&u.m("moved"))?.stx_ino,
        before.stx_ino,
        "st_ino after a new mount",
    )
}

fn unprivileged(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("open"))?;
    sys::chmod(&u.l("open"), 0o777)?;
    sys::mkdir(&u.l("closed"))?;
    sys::write(&u.l("open/f"), "x")?;
    sys::write(&u.l("closed/g"), "x")?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || {
        rename(&u.m("open/f"), &u.m("open/f2"), NONE)?;
        let r = rename(&u.m("open/f2"), &u.m("closed/f2"), NONE);
        fails(r, Errno::ACCESS, "into a directory without w")?;
        let r = rename(&u.m("closed/g"), &u.m("open/g"), NONE);
        fails(r, Errno::ACCESS, "out of a directory without w")
    })?;
    same(
        sys::stx(&u.m("open/f2"))?.stx_uid,
        0,
        "owner of the moved file",
    )?;
    check(
        !sys::exists(&u.u("closed")),
        "a refused rename copied its parent up",
    )
}

tests! {
    Tmpfs: files, onto_lower, noreplace, exchange_files, exchange_errnos,
        exchange_file_and_directory, flags_refused, errnos, directories,
        moved_directory_hides_what_lies_below, over_directory_with_whiteouts_only,
        onto_own_hard_link, onto_lower_hard_link, symlinks_and_special, across_directories,
        open_descriptor_follows, replaced_file_lives_on, back_and_forth, times_and_numbers,
        unprivileged;
    Ext4: files, exchange_files, directories, over_directory_with_whiteouts_only,
        across_directories, times_and_numbers;
    Xfs: files, exchange_files, directories;
    Btrfs: files, directories;
}
