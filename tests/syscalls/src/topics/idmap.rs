// SPDX-License-Identifier: GPL-2.0
//! Layers on mounts that map owner ids, and mounts of the union that do.
//!
//! Three kinds of id: those on a layer's filesystem, those of the union (as a layer's mount shows them), and those that
//! a mapped mount of the union shows. In these tests they differ by 100000.

use super::userns::in_range;
use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FileType, OFlags, RenameFlags, CWD};
use rustix::io::Errno;
use rustix::mount::*;
use std::path::{Path, PathBuf};

/// Ids from 0 on are shown as those from 100000 on.
pub const UP: &str = "0 100000 65536";
/// Ids from 100000 on are shown as those from 0 on.
const DOWN: &str = "100000 0 65536";
/// For an upper layer: root stays, 1000 to 1099 are shown as 101000 to 101099.
const SOME: &str = "0 0 1\n1000 101000 100";

/// A user namespace with the id map `map`: as a mount's mapping it shows the second id of a line for the first one.
pub fn namespace(map: &str) -> Res<OwnedFd> {
    let (ready_r, ready_w) = rustix::pipe::pipe()?;
    let child = sys::fork()?;
    if child == 0 {
        // SAFETY: the process is single-threaded.
        let made = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) };
        let _ = rustix::io::write(&ready_w, &[u8::from(made.is_ok())]);
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    }
    let mut made = [0];
    rustix::io::read(&ready_r, &mut made)?;
    let write = |kind| sys::put(&format!("/proc/{child}/{kind}_map"), map);
    let user = write("uid").and_then(|()| write("gid")).and_then(|()| {
        Ok(sys::open(
            Path::new(&format!("/proc/{child}/ns/user")),
            OFlags::RDONLY,
        )?)
    });
    // SAFETY: no memory is involved.
    sys::ret(i64::from(unsafe { libc::kill(child, libc::SIGKILL) }))?;
    sys::wait(child)?;
    user
}

/// Maps a detached mount.
pub fn map(mount: &OwnedFd, user: &OwnedFd) -> sys::Sys<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user.as_raw_fd() as u64,
    };
    // SAFETY: both arguments outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attr,
            size_of::<libc::mount_attr>(),
        )
    };
    sys::ret(done).map(|_| ())
}

/// Shows the directory `dir` at the new place `at` with its ids mapped.
fn show(dir: &Path, at: PathBuf, how: &str) -> Res<PathBuf> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, dir, flags)?;
    map(&tree, &namespace(how)?)?;
    sys::mkdir(&at)?;
    move_mount(&tree, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(at)
}

/// An empty lower layer on a mapped mount; the path of its directory itself comes with it.
pub fn over_mapped_lower(ctx: &Ctx) -> Res<(Union, PathBuf)> {
    let mut u = Union::new(ctx)?;
    let raw = u.lowers[0].clone();
    u.lowers[0] = show(&raw, ctx.root.join("mapped-lower"), UP)?;
    sys::chmod(&ctx.root, 0o755)?;
    Ok((u, raw))
}

/// Upper and work directory on a mapped mount, where only some ids have a place.
pub fn over_mapped_upper(ctx: &Ctx) -> Res<(Union, PathBuf)> {
    let mut u = Union::new(ctx)?;
    let raw = u.u("");
    let at = show(&ctx.root, ctx.tmp.join("mapped-root"), SOME)?;
    u.upper = Some(at.join("u"));
    u.work = at.join("w");
    sys::chmod(&ctx.root, 0o755)?;
    Ok((u, raw))
}

/// The union, mounted, and the path of a mapped mount of it.
pub fn mapped_union(ctx: &Ctx, u: &Union) -> Res<PathBuf> {
    u.mount()?;
    sys::chmod(&ctx.root, 0o755)?;
    show(&u.mnt, ctx.root.join("mapped-union"), DOWN)
}

#[track_caller]
pub fn owned(p: &Path, uid: u32, gid: u32) -> Res {
    let st = sys::stx(p)?;
    let what = format!("the owner of {}", p.display());
    same((st.stx_uid, st.stx_gid), (uid, gid), &what)
}

#[track_caller]
pub fn empty(dir: &Path) -> Res {
    same(sys::names(dir)?, Vec::<String>::new(), "what is in upper")
}

/// One of each kind, owned by `uid` and `gid`.
fn one_of_each(dir: &Path, uid: u32, gid: u32) -> Res {
    sys::write(&dir.join("file"), "data")?;
    sys::mkdir(&dir.join("dir"))?;
    sys::mknod(&dir.join("fifo"), FileType::Fifo, 0o644, 0)?;
    rustix::fs::symlink("file", dir.join("link"))?;
    for name in KINDS {
        sys::chown(&dir.join(name), uid, gid)?;
    }
    Ok(())
}

const KINDS: [&str; 4] = ["file", "dir", "fifo", "link"];

fn lower_owners(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_lower(ctx)?;
    one_of_each(&raw, 7, 8)?;
    u.mount()?;
    for name in KINDS {
        owned(&u.m(name), 100_007, 100_008)?;
        // Without a change of the owner: a copy-up for the group that it has.
        sys::chown(&u.m(name), u32::MAX, 100_008)?;
        owned(&u.m(name), 100_007, 100_008)?;
        owned(&u.u(name), 100_007, 100_008)?;
        owned(&raw.join(name), 7, 8)?;
    }
    u.again()?;
    for name in KINDS {
        owned(&u.m(name), 100_007, 100_008)?;
    }
    Ok(())
}

fn lower_permissions(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_lower(ctx)?;
    sys::mkdir(&raw.join("d"))?;
    sys::write(&raw.join("d/f"), "secret")?;
    sys::chmod(&raw.join("d/f"), 0o600)?;
    sys::chmod(&raw.join("d"), 0o700)?;
    for p in ["d", "d/f"] {
        sys::chown(&raw.join(p), 7, 7)?;
    }
    u.mount()?;
    let f = u.m("d/f");
    for _ in 0..3 {
        sys::as_user(7, 7, &[], || {
            fails(sys::read(&f), Errno::ACCESS, "read by who owns it below")
        })?;
        sys::as_user(100_007, 100_007, &[], || {
            same(sys::read(&f)?, b"secret", "read by the owner")?;
            same(sys::names(&u.m("d"))?, vec!["f"], "listed by the owner")
        })?;
    }
    sys::as_user(7, 7, &[], || {
        fails(
            sys::chmod(&u.m("d"), 0o777),
            Errno::PERM,
            "chmod by who owns it below",
        )
    })?;
    empty(&u.u(""))?;
    sys::as_user(100_007, 100_007, &[], || {
        sys::write(&f, "changed")?;
        Ok(sys::chmod(&f, 0o640)?)
    })?;
    owned(&u.u("d"), 100_007, 100_007)?;
    owned(&u.u("d/f"), 100_007, 100_007)?;
    same(sys::read(&raw.join("d/f"))?, b"secret", "the lower file")
}

/// The mounter of a user namespace, to whom a mapped lower layer gives what is root's.
fn lower_in_userns(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_lower(ctx)?;
    sys::write(&raw.join("roots"), "data")?;
    sys::chmod(&raw.join("roots"), 0o600)?;
    sys::write(&raw.join("others"), "data")?;
    sys::chown(&raw.join("others"), 70_000, 70_000)?;
    sys::chmod(&raw.join("others"), 0o666)?;
    for p in [&u.u(""), &u.work, &u.mnt] {
        sys::chown(p, 100_000, 100_000)?;
    }
    in_range(|| {
        u.mount()?;
        owned(&u.m("roots"), 0, 0)?;
        owned(&u.m("others"), 65534, 65534)?;
        sys::write(&u.m("roots"), "changed")?;
        sys::chown(&u.m("roots"), 5, 6)?;
        fails(
            sys::open(&u.m("others"), OFlags::WRONLY),
            Errno::ACCESS,
            "a write where the owner has no place",
        )?;
        fails(
            sys::rename(&u.m("others"), &u.m("renamed"), RenameFlags::empty()),
            Errno::OVERFLOW,
            "a rename where the owner has no place",
        )?;
        same(sys::names(&u.u(""))?, vec!["roots"], "what was copied up")?;
        u.umount()
    })?;
    owned(&u.u("roots"), 100_005, 100_006)?;
    same(sys::read(&raw.join("roots"))?, b"data", "the lower file")
}

fn upper_owners(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_upper(ctx)?;
    one_of_each(&u.l(""), 101_005, 101_006)?;
    u.mount()?;
    for name in KINDS {
        sys::chown(&u.m(name), u32::MAX, 101_006)?;
        owned(&u.m(name), 101_005, 101_006)?;
        owned(&raw.join(name), 1005, 1006)?;
    }
    sys::chown(&u.m("file"), 101_007, 101_008)?;
    owned(&u.m("file"), 101_007, 101_008)?;
    owned(&raw.join("file"), 1007, 1008)?;
    sys::chmod(&u.mnt, 0o777)?;
    sys::as_user(101_009, 101_010, &[], || {
        sys::write(&u.m("made"), "x")?;
        sys::mkdir(&u.m("made-dir"))?;
        std::fs::remove_file(u.m("file"))?;
        sys::write(&u.m("file"), "over a whiteout")?;
        std::fs::remove_dir(u.m("dir"))?;
        Ok(sys::mkdir(&u.m("dir"))?)
    })?;
    for name in ["made", "made-dir", "file", "dir"] {
        owned(&u.m(name), 101_009, 101_010)?;
        owned(&raw.join(name), 1009, 1010)?;
    }
    u.work_is_empty()
}

/// An owner who has no place in upper: nothing is created.
fn upper_without_a_place(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_upper(ctx)?;
    one_of_each(&u.l(""), 7, 7)?;
    sys::chmod(&u.l("file"), 0o666)?;
    sys::write(&u.l("roots"), "x")?;
    u.mount()?;
    sys::chmod(&u.mnt, 0o777)?;
    for name in KINDS {
        fails(
            sys::chown(&u.m(name), u32::MAX, 7),
            Errno::OVERFLOW,
            "a copy-up of what has no place",
        )?;
        owned(&u.m(name), 7, 7)?;
    }
    let write = sys::open(&u.m("file"), OFlags::WRONLY)
        .and_then(|fd| rustix::io::write(&fd, b"x").map(|_| ()));
    fails(write, Errno::OVERFLOW, "a write to what has no place")?;
    sys::as_user(7, 7, &[], || {
        fails(sys::mkdir(&u.m("made")), Errno::OVERFLOW, "mkdir")?;
        let flags = OFlags::CREATE | OFlags::WRONLY;
        fails(sys::open(&u.m("made"), flags), Errno::OVERFLOW, "open")
    })?;
    fails(sys::chown(&u.m("roots"), 7, 7), Errno::OVERFLOW, "chown")?;
    owned(&u.m("roots"), 0, 0)?;
    check(
        !sys::names(&raw)?.iter().any(|n| n != "roots"),
        "what is in upper",
    )?;
    u.work_is_empty()
}

fn union_owners(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_lower(ctx)?;
    one_of_each(&raw, 7, 8)?;
    let m = mapped_union(ctx, &u)?;
    for name in KINDS {
        owned(&m.join(name), 7, 8)?;
        owned(&u.m(name), 100_007, 100_008)?;
        sys::chown(&m.join(name), 9, 10)?;
        owned(&m.join(name), 9, 10)?;
        owned(&u.m(name), 100_009, 100_010)?;
        owned(&u.u(name), 100_009, 100_010)?;
        owned(&raw.join(name), 7, 8)?;
    }
    // By an open file, too.
    let fd = sys::open(&m.join("file"), OFlags::RDONLY)?;
    rustix::fs::fchown(&fd, Some(rustix::fs::Uid::from_raw(11)), None)?;
    same(
        rustix::fs::fstat(&fd)?.st_uid,
        11,
        "the owner of the open file",
    )?;
    owned(&u.u("file"), 100_011, 100_010)
}

fn union_created(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    one_of_each(&u.l(""), 100_001, 100_001)?;
    sys::mkdir(&u.l("sgid"))?;
    sys::chown(&u.l("sgid"), 100_002, 100_003)?;
    sys::chmod(&u.l("sgid"), 0o2777)?;
    sys::chown(&u.l(""), 100_000, 100_000)?;
    sys::chown(&u.u(""), 100_000, 100_000)?;
    sys::chmod(&u.u(""), 0o777)?;
    let m = mapped_union(ctx, &u)?;
    sys::as_user(5, 6, &[], || {
        for dir in [m.clone(), m.join("sgid")] {
            sys::write(&dir.join("new"), "x")?;
            sys::mkdir(&dir.join("new-dir"))?;
            sys::mknod(&dir.join("new-fifo"), FileType::Fifo, 0o644, 0)?;
            rustix::fs::symlink("new", dir.join("new-link"))?;
            rustix::fs::link(dir.join("new"), dir.join("new-hard"))?;
            // Over a whiteout.
            std::fs::remove_file(dir.join("new"))?;
            sys::write(&dir.join("new"), "x")?;
            let fd = sys::open_mode(&dir, OFlags::TMPFILE | OFlags::RDWR, 0o600)?;
            same(
                rustix::fs::fstat(&fd)?.st_uid,
                5,
                "the owner of an unnamed file",
            )?;
            rustix::fs::linkat(
                CWD,
                format!("/proc/self/fd/{}", fd.as_raw_fd()),
                CWD,
                dir.join("new-tmp"),
                rustix::fs::AtFlags::SYMLINK_FOLLOW,
            )?;
        }
        Ok(())
    })?;
    for name in [
        "new", "new-dir", "new-fifo", "new-link", "new-hard", "new-tmp",
    ] {
        owned(&m.join(name), 5, 6)?;
        owned(&u.m(name), 100_005, 100_006)?;
        owned(&u.u(name), 100_005, 100_006)?;
        owned(&m.join("sgid").join(name), 5, 3)?;
        owned(&u.u("sgid").join(name), 100_005, 100_003)?;
    }
    same(
        sys::mode(&u.u("sgid/new-dir"))? & 0o2000,
        0o2000,
        "the bit that is inherited",
    )?;
    // Whiteouts of the lower layer's names.
    sys::chmod(&u.mnt, 0o777)?;
    sys::as_user(5, 6, &[], || {
        std::fs::remove_file(m.join("file"))?;
        std::fs::remove_dir(m.join("dir"))?;
        sys::write(&m.join("file"), "x")?;
        Ok(sys::mkdir(&m.join("dir"))?)
    })?;
    for name in ["file", "dir"] {
        owned(&m.join(name), 5, 6)?;
        owned(&u.u(name), 100_005, 100_006)?;
    }
    u.work_is_empty()
}

fn union_permissions(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/f"), "secret")?;
    for (p, mode) in [("d/f", 0o600), ("d", 0o700)] {
        sys::chown(&u.l(p), 100_007, 100_007)?;
        sys::chmod(&u.l(p), mode)?;
    }
    let m = mapped_union(ctx, &u)?;
    for _ in 0..3 {
        sys::as_user(100_007, 100_007, &[], || {
            fails(
                sys::read(&m.join("d/f")),
                Errno::ACCESS,
                "read through the mapped mount",
            )?;
            same(
                sys::read(&u.m("d/f"))?,
                b"secret",
                "read through the other one",
            )
        })?;
        sys::as_user(7, 7, &[], || {
            fails(
                sys::read(&u.m("d/f")),
                Errno::ACCESS,
                "read through the unmapped mount",
            )?;
            same(
                sys::read(&m.join("d/f"))?,
                b"secret",
                "read through the mapped mount",
            )?;
            same(
                sys::names(&m.join("d"))?,
                vec!["f"],
                "listed through the mapped mount",
            )
        })?;
    }
    sys::as_user(100_007, 100_007, &[], || {
        fails(
            sys::chmod(&m.join("d"), 0o755),
            Errno::PERM,
            "chmod through the mapped mount",
        )
    })?;
    empty(&u.u(""))?;
    sys::as_user(7, 7, &[], || {
        sys::chmod(&m.join("d"), 0o1777)?;
        fails(
            sys::chown(&m.join("d"), 8, 7),
            Errno::PERM,
            "a file given away",
        )?;
        Ok(sys::write(&m.join("d/f"), "changed")?)
    })?;
    owned(&u.u("d/f"), 100_007, 100_007)?;
    sys::as_user(8, 8, &[], || {
        sys::write(&m.join("d/own"), "x")?;
        fails(
            std::fs::remove_file(m.join("d/f")),
            Errno::PERM,
            "unlink in a sticky directory",
        )?;
        std::fs::remove_file(m.join("d/own"))?;
        Ok(())
    })
}

/// Ids that a mapped mount of the union does not show: 65534 stands for them, and nothing is changed.
fn union_without_a_place(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("roots"), "data")?;
    sys::chmod(&u.l("roots"), 0o666)?;
    sys::mkdir(&u.l("all"))?;
    sys::chown(&u.l("all"), 100_000, 100_000)?;
    sys::chmod(&u.l("all"), 0o777)?;
    let m = mapped_union(ctx, &u)?;
    let f = m.join("roots");
    owned(&f, 65534, 65534)?;
    same(sys::read(&f)?, b"data", "a file without an owner")?;
    fails(sys::open(&f, OFlags::WRONLY), Errno::ACCESS, "write")?;
    fails(sys::chmod(&f, 0o600), Errno::OVERFLOW, "chmod")?;
    fails(sys::setx(&f, "trusted.x", b"1"), Errno::PERM, "setxattr")?;
    fails(
        sys::rename(&f, &m.join("all/roots"), RenameFlags::empty()),
        Errno::OVERFLOW,
        "a rename of what has no owner",
    )?;
    fails(
        sys::chown(&m.join("all"), 70_000, 0),
        Errno::OVERFLOW,
        "chown to who has no place",
    )?;
    sys::as_user(70_000, 70_000, &[], || {
        fails(
            sys::mkdir(&m.join("all/d")),
            Errno::OVERFLOW,
            "mkdir by who has no place",
        )?;
        fails(
            sys::write(&m.join("all/f"), ""),
            Errno::OVERFLOW,
            "a file by who has no place",
        )
    })?;
    empty(&u.u(""))
}

/// Numbers in listings do not depend on who has a place in the mount that they are read through.
fn listings(ctx: &Ctx) -> Res {
    let (u, raw) = over_mapped_lower(ctx)?;
    sys::mkdir(&raw.join("d"))?;
    for i in 0..20 {
        sys::write(&raw.join(format!("d/f{i}")), "x")?;
        sys::chown(&raw.join(format!("d/f{i}")), i, i)?;
    }
    let m = mapped_union(ctx, &u)?;
    for i in 0..10 {
        sys::write(&m.join(format!("d/f{i}")), "copied up")?;
    }
    let mut seen = Vec::new();
    for dir in [u.m("d"), m.join("d")] {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            use std::os::unix::fs::DirEntryExt;
            let entry = entry?;
            same(
                entry.ino(),
                sys::stx(&entry.path())?.stx_ino,
                "the number in the listing",
            )?;
            entries.push((entry.file_name(), entry.ino()));
        }
        entries.sort();
        seen.push(entries);
    }
    same(seen[0].len(), 20, "the entries")?;
    check(seen[0] == seen[1], "both mounts list the same")
}

/// One who is mapped already, and one that somebody sees, are not mapped again.
fn mapped_once(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    u.mount()?;
    let user = namespace(DOWN)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &u.mnt, flags)?;
    map(&tree, &user)?;
    fails(map(&tree, &user), Errno::PERM, "a second mapping")?;
    let seen = open_tree(CWD, &u.mnt, OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    fails(
        map(&seen, &user),
        Errno::INVAL,
        "a mapping of an attached mount",
    )
}

tests! {
    Tmpfs: lower_owners, lower_permissions, lower_in_userns, upper_owners, upper_without_a_place,
        union_owners, union_created, union_permissions, union_without_a_place, listings,
        mapped_once;
    Ext4: lower_owners, upper_owners, upper_without_a_place;
}
