// SPDX-License-Identifier: GPL-2.0
//! What stat, statx and statfs tell; changing owner, mode and times.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, Timespec, Timestamps, CWD};
use rustix::io::Errno;
use std::path::Path;

fn dev(s: &Statx) -> (u32, u32) {
    (s.stx_dev_major, s.stx_dev_minor)
}

fn times(at: i64, mt: i64) -> Timestamps {
    let t = |s| Timespec {
        tv_sec: s,
        tv_nsec: 123_456_789,
    };
    Timestamps {
        last_access: t(at),
        last_modification: t(mt),
    }
}

fn set_times(p: &Path, at: i64, mt: i64) -> Result<(), Errno> {
    rustix::fs::utimensat(CWD, p, &times(at, mt), AtFlags::SYMLINK_NOFOLLOW)
}

fn fields(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for p in [u.l("low"), u.u("up")] {
        sys::write(&p, "0123456789")?;
        sys::chmod(&p, 0o4751)?;
        sys::chown(&p, 12, 34)?;
        sys::chmod(&p, 0o4751)?;
        set_times(&p, 1_000_000, 2_000_000)?;
    }
    u.mount()?;
    for (n, real) in [("low", u.l("low")), ("up", u.u("up"))] {
        let (m, r) = (sys::stx(&u.m(n))?, sys::stx(&real)?);
        same(m.stx_mode, r.stx_mode, "mode")?;
        same((m.stx_uid, m.stx_gid), (12, 34), "owner")?;
        same(
            (m.stx_size, m.stx_blocks),
            (r.stx_size, r.stx_blocks),
            "size",
        )?;
        same(m.stx_nlink, 1, "link count")?;
        same(m.stx_ino, r.stx_ino, "inode number")?;
        same(
            (m.stx_atime.tv_sec, m.stx_atime.tv_nsec),
            (1_000_000, 123_456_789),
            "atime",
        )?;
        same(
            (m.stx_mtime.tv_sec, m.stx_mtime.tv_nsec),
            (2_000_000, 123_456_789),
            "mtime",
        )?;
        same(m.stx_ctime.tv_nsec, r.stx_ctime.tv_nsec, "ctime")?;
        same(m.stx_btime.tv_nsec, r.stx_btime.tv_nsec, "btime")?;
        same(m.stx_blksize, r.stx_blksize, "block size")?;
    }
    Ok(())
}

/// Numbers of every kind of object before and after it is copied up.
fn numbers_stay(ctx: &Ctx, u: &Union, same_fs: bool) -> Res {
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    rustix::fs::symlink("f", u.l("s"))?;
    sys::mknod(&u.l("p"), rustix::fs::FileType::Fifo, 0o644, 0)?;
    u.mount()?;
    let all = ["f", "d", "s", "p"];
    let look = || -> Res<Vec<(u64, (u32, u32))>> {
        let mut v = Vec::new();
        for n in all {
            let s = sys::stx(&u.m(n))?;
            v.push((s.stx_ino, dev(&s)));
        }
        Ok(v)
    };
    let before = look()?;
    let open = sys::open(&u.m("f"), OFlags::RDONLY)?;
    for n in all {
        sys::chown(&u.m(n), 7, 7)?;
        check(sys::exists(&u.u(n)), &format!("{n} was copied up"))?;
    }
    same(look()?, before.clone(), "right after the copy-up")?;
    same(
        rustix::fs::fstat(&open)?.st_ino,
        before[0].0,
        "fstat of an old descriptor",
    )?;
    drop(open);
    sys::drop_caches(&ctx.tmp)?;
    let mut after = look()?;
    if !same_fs {
        // overlayfs documents that directories keep no number here.
        after[1].0 = before[1].0;
    }
    same(after, before, "after the caches were dropped")
}

fn numbers_same_fs(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    numbers_stay(ctx, &u, true)?;
    let root = sys::stx(&u.mnt)?;
    for n in ["f", "d", "s", "p"] {
        let s = sys::stx(&u.m(n))?;
        same(dev(&s), dev(&root), "all on one st_dev")?;
        same(
            s.stx_ino,
            sys::stx(&u.l(n))?.stx_ino,
            "st_ino of the origin",
        )?;
    }
    let before = sys::stx(&u.m("d"))?.stx_ino;
    u.again()?;
    same(sys::stx(&u.m("d"))?.stx_ino, before, "after a new mount")
}

fn numbers_two_fs(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    numbers_stay(ctx, &u, false)?;
    sys::write(&u.m("new"), "")?;
    let (root, d) = (sys::stx(&u.mnt)?, sys::stx(&u.m("d"))?);
    same(
        dev(&d),
        dev(&root),
        "directories have the st_dev of the mount",
    )?;
    let (new, f) = (sys::stx(&u.m("new"))?, sys::stx(&u.m("f"))?);
    check(
        dev(&new) != dev(&f),
        "files of two filesystems have the same st_dev",
    )?;
    check(
        dev(&f) != dev(&sys::stx(&u.l("f"))?),
        "a lower file has the st_dev of its filesystem",
    )?;
    same(
        new.stx_ino,
        sys::stx(&u.u("new"))?.stx_ino,
        "st_ino of an upper file",
    )
}

fn numbers_unique_under_reclaim(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for i in 0..50 {
        sys::write(&u.l(&format!("l{i}")), "")?;
        sys::write(&u.u(&format!("u{i}")), "")?;
    }
    u.mount()?;
    let look = || -> Res<Vec<u64>> {
        let mut v = Vec::new();
        for i in 0..50 {
            v.push(sys::stx(&u.m(&format!("l{i}")))?.stx_ino);
            v.push(sys::stx(&u.m(&format!("u{i}")))?.stx_ino);
        }
        Ok(v)
    };
    let first = look()?;
    let mut sorted = first.clone();
    sorted.sort_unstable();
    sorted.dedup();
    same(sorted.len(), 100, "different files have different numbers")?;
    sys::drop_caches(&ctx.tmp)?;
    same(look()?, first, "after the caches were dropped")
}

fn link_counts(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("one"), "x")?;
    sys::write(&u.l("two"), "x")?;
    std::fs::hard_link(u.l("two"), u.l("two-b"))?;
    u.mount()?;
    let n = |p: &str| -> Res<u32> { Ok(sys::stx(&u.m(p))?.stx_nlink) };
    same(n("two")?, 2, "a lower pair")?;
    same(
        sys::stx(&u.m("two"))?.stx_ino,
        sys::stx(&u.m("two-b"))?.stx_ino,
        "its st_ino",
    )?;
    std::fs::hard_link(u.m("one"), u.m("one-b"))?;
    same((n("one")?, n("one-b")?), (2, 2), "after link")?;
    same(
        sys::stx(&u.m("one"))?.stx_ino,
        sys::stx(&u.m("one-b"))?.stx_ino,
        "st_ino after link",
    )?;
    std::fs::remove_file(u.m("one"))?;
    same(n("one-b")?, 1, "after unlink of the first name")?;
    let fd = sys::open(&u.m("one-b"), OFlags::RDONLY)?;
    std::fs::remove_file(u.m("one-b"))?;
    same(
        rustix::fs::fstat(&fd)?.st_nlink,
        0,
        "after unlink of the last name",
    )?;
    // Copy-up breaks a lower pair, as overlayfs documents without index.
    sys::write(&u.m("two"), "changed")?;
    same(sys::read(&u.m("two-b"))?, b"x", "the other name")?;
    same(n("two")?, 1, "the copied name")
}

fn directory_link_counts(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("merged/a"))?;
    std::fs::create_dir_all(u.l("low/a"))?;
    sys::mkdir(&u.u("merged"))?;
    sys::mkdir(&u.u("up"))?;
    u.mount()?;
    same(sys::stx(&u.m("merged"))?.stx_nlink, 1, "a merged directory")?;
    same(sys::stx(&u.m("low"))?.stx_nlink, 3, "a lower directory")?;
    sys::mkdir(&u.m("up/sub"))?;
    same(sys::stx(&u.m("up"))?.stx_nlink, 3, "an upper directory")
}

fn statfs_of_upper(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    sys::write(&u.l("f"), "x")?;
    u.mount()?;
    let m = rustix::fs::statfs(&u.mnt)?;
    let up = rustix::fs::statfs(u.u(""))?;
    same(m.f_type as u64, 0x794c_7630, "magic number")?;
    same((m.f_blocks, m.f_bsize), (up.f_blocks, up.f_bsize), "size")?;
    same(
        (m.f_files, m.f_namelen),
        (up.f_files, up.f_namelen),
        "inodes and name length",
    )?;
    same(
        rustix::fs::statfs(u.m("f"))?.f_blocks,
        up.f_blocks,
        "statfs of a lower file",
    )
}

fn statfs_without_upper(ctx: &Ctx) -> Res {
    let mut u = Union::layers(ctx, 2)?;
    u.upper = None;
    u.mount()?;
    let (m, l) = (
        rustix::fs::statfs(&u.mnt)?,
        rustix::fs::statfs(&u.lowers[0])?,
    );
    same(m.f_type as u64, 0x794c_7630, "magic number")?;
    same(m.f_blocks, l.f_blocks, "size of the first lower")
}

fn chmod_and_chown(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "data")?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/inside"), "x")?;
    rustix::fs::symlink("f", u.l("s"))?;
    u.mount()?;
    let old = sys::stx(&u.m("f"))?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    sys::chmod(&u.m("f"), 0o640)?;
    let new = sys::stx(&u.m("f"))?;
    same(sys::mode(&u.m("f"))?, 0o640, "mode")?;
    same(new.stx_mtime.tv_nsec, old.stx_mtime.tv_nsec, "mtime stays")?;
    check(
        (new.stx_ctime.tv_sec, new.stx_ctime.tv_nsec)
            > (old.stx_ctime.tv_sec, old.stx_ctime.tv_nsec),
        "ctime moves on",
    )?;
    sys::chown(&u.m("f"), 1000, 2000)?;
    sys::chown(&u.m("s"), 1000, 2000)?;
    sys::chown(&u.m("d"), 1000, 2000)?;
    for n in ["f", "s", "d"] {
        for p in [u.m(n), u.u(n)] {
            let s = sys::stx(&p)?;
            same((s.stx_uid, s.stx_gid), (1000, 2000), n)?;
        }
        same(sys::stx(&u.l(n))?.stx_uid, 0, "owner of the lower one")?;
    }
    same(
        sys::names(&u.m("d"))?,
        ["inside"],
        "a copied directory is merged",
    )?;
    same(sys::read(&u.m("f"))?, b"data", "content")?;
    same(
        std::fs::read_link(u.m("s"))?.to_string_lossy().as_ref(),
        "f",
        "readlink",
    )?;
    fails(
        sys::chmod(&u.m("none"), 0o600),
        Errno::NOENT,
        "chmod of a missing name",
    )
}

fn fchmod_of_lower_descriptor(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    rustix::fs::fchmod(&fd, Mode::from_bits_retain(0o600))?;
    same(rustix::fs::fstat(&fd)?.st_mode & 0o777, 0o600, "fstat")?;
    same(sys::mode(&u.m("f"))?, 0o600, "stat")?;
    same(sys::mode(&u.l("f"))?, 0o644, "the lower file")?;
    let root = Some(rustix::fs::Uid::from_raw(5));
    rustix::fs::fchown(&fd, root, None)?;
    same(sys::stx(&u.u("f"))?.stx_uid, 5, "owner of the copy")
}

fn times_set(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["f", "keep", "now"] {
        sys::write(&u.l(n), "x")?;
        set_times(&u.l(n), 100, 200)?;
    }
    rustix::fs::symlink("f", u.l("s"))?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    for n in ["f", "s", "d"] {
        set_times(&u.m(n), 1_111_111_111, 1_222_222_222)?;
        for p in [u.m(n), u.u(n)] {
            let s = sys::stx(&p)?;
            same(s.stx_mtime.tv_sec, 1_222_222_222, n)?;
            same(s.stx_mtime.tv_nsec, 123_456_789, n)?;
            same(s.stx_atime.tv_sec, 1_111_111_111, n)?;
        }
    }
    // A copy-up keeps the times of the original.
    sys::chmod(&u.m("keep"), 0o600)?;
    let s = sys::stx(&u.m("keep"))?;
    same(
        (s.stx_atime.tv_sec, s.stx_mtime.tv_sec),
        (100, 200),
        "times of a copy",
    )?;
    let mut t = times(0, 0);
    t.last_access.tv_nsec = rustix::fs::UTIME_OMIT;
    t.last_modification.tv_nsec = rustix::fs::UTIME_NOW;
    rustix::fs::utimensat(CWD, u.m("now"), &t, AtFlags::empty())?;
    let s = sys::stx(&u.m("now"))?;
    same(s.stx_atime.tv_sec, 100, "UTIME_OMIT")?;
    check(s.stx_mtime.tv_sec > 1_000_000_000, "UTIME_NOW")
}

fn times_after_writes(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    for n in ["f", "d"] {
        set_times(&u.l(n), 100, 200)?;
    }
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::write(&fd, b"y")?;
    check(
        sys::stx(&u.m("f"))?.stx_mtime.tv_sec > 200,
        "mtime after a write",
    )?;
    let f = rustix::fs::fstat(&fd)?;
    same(
        f.st_mtime,
        sys::stx(&u.u("f"))?.stx_mtime.tv_sec,
        "as upper has it",
    )?;
    sys::write(&u.m("d/new"), "")?;
    let t = sys::stx(&u.m("d"))?.stx_mtime;
    check(t.tv_sec > 200, "mtime of a directory after a create")?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::remove_file(u.m("d/new"))?;
    let t2 = sys::stx(&u.m("d"))?.stx_mtime;
    check(
        (t2.tv_sec, t2.tv_nsec) > (t.tv_sec, t.tv_nsec),
        "mtime after an unlink",
    )
}

fn parent_times_survive_copy_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("a/b"))?;
    sys::write(&u.l("a/b/f"), "x")?;
    for n in ["a/b/f", "a/b", "a"] {
        set_times(&u.l(n), 100, 200)?;
    }
    u.mount()?;
    sys::write(&u.m("a/b/f"), "y")?;
    for n in ["a/b", "a"] {
        same(
            sys::stx(&u.m(n))?.stx_mtime.tv_sec,
            200,
            "mtime of a copied parent",
        )?;
        same(
            sys::stx(&u.u(n))?.stx_mtime.tv_sec,
            200,
            "mtime of its copy",
        )?;
    }
    Ok(())
}

fn atime(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    set_times(&u.l("low"), 100, 200)?;
    set_times(&u.u("up"), 100, 200)?;
    u.mount()?;
    sys::read(&u.m("low"))?;
    same(
        sys::stx(&u.l("low"))?.stx_atime.tv_sec,
        100,
        "atime of a lower file",
    )?;
    let noatime = sys::open(&u.m("up"), OFlags::RDONLY | OFlags::NOATIME)?;
    sys::pread(&noatime, 1, 0)?;
    same(
        sys::stx(&u.m("up"))?.stx_atime.tv_sec,
        100,
        "atime after O_NOATIME",
    )?;
    sys::read(&u.m("up"))?;
    check(
        sys::stx(&u.m("up"))?.stx_atime.tv_sec > 200,
        "relatime of an upper file",
    )?;
    check(
        sys::stx(&u.u("up"))?.stx_atime.tv_sec > 200,
        "as upper has it",
    )
}

fn statx_masks_and_flags(ctx: &Ctx) -> Res {
    use rustix::fs::{statx, StatxAttributes, StatxFlags};
    let u = Union::with_file(ctx, "x")?;
    let root = statx(CWD, &u.mnt, AtFlags::empty(), StatxFlags::MNT_ID)?;
    check(
        root.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        "STATX_ATTR_MOUNT_ROOT",
    )?;
    let f = statx(CWD, u.m("f"), AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID)?;
    check(
        !f.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        "the file is no mount root",
    )?;
    same(f.stx_mnt_id, root.stx_mnt_id, "mount id")?;
    let fd = sys::open(&u.m("f"), OFlags::PATH)?;
    let e = statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    same(
        e.stx_ino,
        sys::stx(&u.m("f"))?.stx_ino,
        "statx of an O_PATH descriptor",
    )
}

tests! {
    Tmpfs: fields, numbers_same_fs, numbers_two_fs, numbers_unique_under_reclaim, link_counts,
        directory_link_counts, statfs_of_upper, statfs_without_upper, chmod_and_chown,
        fchmod_of_lower_descriptor, times_set, times_after_writes,
        parent_times_survive_copy_up, atime, statx_masks_and_flags;
    Ext4: fields, numbers_same_fs, numbers_two_fs, numbers_unique_under_reclaim, link_counts,
        statfs_of_upper, times_set, parent_times_survive_copy_up;
    Xfs: fields, numbers_same_fs, numbers_two_fs, link_counts;
    Btrfs: numbers_same_fs, numbers_two_fs;
}
