// SPDX-License-Identifier: GPL-2.0
//! Making and removing names: link, unlink, rmdir, mkdir, mknod, symlink,
//! O_TMPFILE.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fd::AsRawFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;
use std::path::Path;

fn mkdir_mode(p: &Path, mode: u32) -> Result<(), Errno> {
    rustix::fs::mkdir(p, Mode::from_bits_retain(mode))
}

fn unlink_kinds(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    sys::write(&u.l("both"), "x")?;
    sys::write(&u.u("both"), "x")?;
    rustix::fs::symlink("x", u.l("link"))?;
    sys::mknod(&u.l("fifo"), FileType::Fifo, 0o644, 0)?;
    u.mount()?;
    for n in ["low", "up", "both", "link", "fifo"] {
        std::fs::remove_file(u.m(n))?;
        check(!sys::exists(&u.m(n)), n)?;
        let below = sys::exists(&u.l(n));
        same(
            sys::is_whiteout(&u.u(n)),
            below,
            &format!("a whiteout for {n}"),
        )?;
        fails(
            std::fs::remove_file(u.m(n)),
            Errno::NOENT,
            "a second unlink",
        )?;
    }
    same(sys::names(&u.mnt)?, Vec::<String>::new(), "names")?;
    check(sys::exists(&u.l("low")), "the lower file is gone")?;
    u.work_is_empty()?;
    u.again()?;
    same(
        sys::names(&u.mnt)?,
        Vec::<String>::new(),
        "names after a new mount",
    )
}

fn unlink_errnos(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/in"), "x")?;
    u.mount()?;
    let rm = |n: &str| rustix::fs::unlinkat(CWD, u.m(n), AtFlags::empty());
    let rmdir = |n: &str| rustix::fs::unlinkat(CWD, u.m(n), AtFlags::REMOVEDIR);
    fails(rm("none"), Errno::NOENT, "unlink of nothing")?;
    fails(rm("d"), Errno::ISDIR, "unlink of a directory")?;
    fails(rm("f/x"), Errno::NOTDIR, "unlink below a file")?;
    fails(rmdir("f"), Errno::NOTDIR, "rmdir of a file")?;
    fails(rmdir("d"), Errno::NOTEMPTY, "rmdir of a full directory")?;
    fails(rmdir("d/."), Errno::INVAL, "rmdir of .")?;
    fails(rmdir("none"), Errno::NOENT, "rmdir of nothing")?;
    let root = rustix::fs::unlinkat(CWD, &u.mnt, AtFlags::REMOVEDIR);
    fails(root, Errno::BUSY, "rmdir of the mount point")?;
    same(
        sys::names(&u.u(""))?,
        Vec::<String>::new(),
        "upper after refusals",
    )
}

fn rmdir_kinds(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["low", "merged", "whited"] {
        sys::mkdir(&u.l(n))?;
    }
    sys::mkdir(&u.u("merged"))?;
    sys::mkdir(&u.u("up"))?;
    for n in ["a", "b"] {
        sys::write(&u.l("whited").join(n), "x")?;
    }
    u.mount()?;
    fails(
        std::fs::remove_dir(u.m("whited")),
        Errno::NOTEMPTY,
        "before the unlinks",
    )?;
    for n in ["a", "b"] {
        std::fs::remove_file(u.m("whited").join(n))?;
    }
    for n in ["low", "merged", "up", "whited"] {
        std::fs::remove_dir(u.m(n))?;
        check(!sys::exists(&u.m(n)), n)?;
        same(
            sys::is_whiteout(&u.u(n)),
            n != "up",
            &format!("a whiteout for {n}"),
        )?;
    }
    u.work_is_empty()
}

fn rmdir_upper_with_whiteouts(ctx: &Ctx) -> Res {
    // A merged directory whose whiteouts cover nothing any more.
    let u = Union::new(ctx)?;
    sys::mkdir(&u.u("d"))?;
    sys::whiteout(&u.u("d/stale"))?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    same(sys::names(&u.m("d"))?, Vec::<String>::new(), "names")?;
    std::fs::remove_dir(u.m("d"))?;
    check(sys::is_whiteout(&u.u("d")), "a whiteout in upper")?;
    u.work_is_empty()
}

fn create_over_whiteouts(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["file", "dir", "link", "fifo", "hard", "tmp"] {
        std::fs::create_dir_all(u.l(n))?;
        sys::write(&u.l(n).join("below"), "below")?;
        sys::whiteout(&u.u(n))?;
    }
    u.mount()?;
    sys::write(&u.m("file"), "new")?;
    mkdir_mode(&u.m("dir"), 0o750)?;
    rustix::fs::symlink("target", u.m("link"))?;
    sys::mknod(&u.m("fifo"), FileType::Fifo, 0o640, 0)?;
    std::fs::hard_link(u.m("file"), u.m("hard"))?;
    let t = sys::open(&u.mnt, OFlags::TMPFILE | OFlags::RDWR)?;
    link_fd(&t, &u.m("tmp"))?;
    drop(t);
    let look = || -> Res {
        same(sys::read(&u.m("hard"))?, b"new", "file and link")?;
        same(
            sys::names(&u.m("dir"))?,
            Vec::<String>::new(),
            "the new directory",
        )?;
        same(sys::mode(&u.m("dir"))?, 0o750, "its mode")?;
        same(sys::mode(&u.m("fifo"))?, 0o640, "mode of the fifo")?;
        same(
            std::fs::read_link(u.m("link"))?.to_string_lossy().as_ref(),
            "target",
            "link",
        )?;
        same(
            sys::stx(&u.m("tmp"))?.stx_size,
            0,
            "the linked temporary file",
        )
    };
    look()?;
    same(
        sys::getx(&u.u("dir"), "trusted.overlay.opaque")?,
        b"y",
        "overlay.opaque",
    )?;
    u.work_is_empty()?;
    u.again()?;
    look()
}

fn opaque_only_where_needed(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    sys::mkdir(&u.m("fresh"))?;
    sys::mkdir(&u.m("d/fresh"))?;
    std::fs::remove_dir(u.m("d/fresh"))?;
    check(
        !sys::exists(&u.u("d/fresh")),
        "a whiteout where nothing lies below",
    )?;
    sys::write(&u.m("fresh/f"), "x")?;
    std::fs::remove_file(u.m("fresh/f"))?;
    same(
        sys::names(&u.u("fresh"))?,
        Vec::<String>::new(),
        "whiteouts in a pure upper",
    )
}

fn mkdir_and_mknod_errnos(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    for n in ["f", "d", "."] {
        fails(sys::mkdir(&u.m(n)), Errno::EXIST, &format!("mkdir {n}"))?;
        let r = sys::mknod(&u.m(n), FileType::Fifo, 0o644, 0);
        fails(r, Errno::EXIST, &format!("mknod {n}"))?;
        fails(
            rustix::fs::symlink("x", u.m(n)),
            Errno::EXIST,
            &format!("symlink {n}"),
        )?;
    }
    fails(
        sys::mkdir(&u.m("none/x")),
        Errno::NOENT,
        "mkdir below nothing",
    )?;
    fails(sys::mkdir(&u.m("f/x")), Errno::NOTDIR, "mkdir below a file")?;
    let white = sys::mknod(&u.m("white"), FileType::CharacterDevice, 0o644, 0);
    fails(white, Errno::PERM, "mknod of a whiteout")?;
    let null = rustix::fs::makedev(1, 3);
    sys::mknod(&u.m("null"), FileType::CharacterDevice, 0o666, null)?;
    sys::as_user(1000, 1000, &[], || {
        let r = sys::mknod(&u.m("x"), FileType::CharacterDevice, 0o666, null);
        fails(r, Errno::ACCESS, "mknod by another user")
    })?;
    same(sys::names(&u.u(""))?, ["null"], "upper after refusals")
}

fn link_fd(fd: &rustix::fd::OwnedFd, to: &Path) -> Result<(), Errno> {
    let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::linkat(CWD, from.as_str(), CWD, to, AtFlags::SYMLINK_FOLLOW)
}

fn links(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "low")?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    std::fs::hard_link(u.m("low"), u.m("d/b"))?;
    let (a, b) = (sys::stx(&u.m("low"))?, sys::stx(&u.m("d/b"))?);
    same(a.stx_ino, b.stx_ino, "st_ino")?;
    same((a.stx_nlink, b.stx_nlink), (2, 2), "link counts")?;
    sys::write(&u.m("d/b"), "changed")?;
    same(
        sys::read(&u.m("low"))?,
        b"changed",
        "through the other name",
    )?;
    same(sys::read(&u.l("low"))?, b"low", "the lower file")?;
    same(sys::stx(&u.u("low"))?.stx_nlink, 2, "link count in upper")?;
    fails(
        std::fs::hard_link(u.m("low"), u.m("d/b")),
        Errno::EXIST,
        "link onto a name",
    )?;
    fails(
        std::fs::hard_link(u.m("d"), u.m("e")),
        Errno::PERM,
        "link of a directory",
    )?;
    fails(
        std::fs::hard_link(u.m("none"), u.m("e")),
        Errno::NOENT,
        "link of nothing",
    )?;
    let out = ctx.root.join("out");
    fails(
        std::fs::hard_link(u.m("low"), out),
        Errno::XDEV,
        "link out of the mount",
    )?;
    u.again()?;
    same(sys::read(&u.m("d/b"))?, b"changed", "after a new mount")
}

fn link_of_a_symlink(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    rustix::fs::symlink("target", u.l("s"))?;
    u.mount()?;
    rustix::fs::linkat(CWD, u.m("s"), CWD, u.m("s2"), AtFlags::empty())?;
    same(
        std::fs::read_link(u.m("s2"))?.to_string_lossy().as_ref(),
        "target",
        "its target",
    )?;
    same(sys::stx(&u.m("s"))?.stx_nlink, 2, "link count")
}

fn tmpfile(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    let fd = sys::open_mode(&u.m("d"), OFlags::TMPFILE | OFlags::RDWR, 0o640)?;
    rustix::io::write(&fd, b"temporary")?;
    same(sys::pread(&fd, 20, 0)?, b"temporary", "read back")?;
    let st = rustix::fs::fstat(&fd)?;
    same(
        (st.st_nlink, st.st_mode & 0o777),
        (0, 0o640),
        "link count and mode",
    )?;
    same(
        sys::names(&u.m("d"))?,
        Vec::<String>::new(),
        "it has no name",
    )?;
    link_fd(&fd, &u.m("d/named"))?;
    same(
        sys::read(&u.m("d/named"))?,
        b"temporary",
        "content under its name",
    )?;
    same(rustix::fs::fstat(&fd)?.st_nlink, 1, "link count")?;
    same(sys::stx(&u.m("d/named"))?.stx_ino, st.st_ino, "st_ino")?;
    rustix::io::pwrite(&fd, b"T", 0)?;
    same(
        sys::read(&u.u("d/named"))?,
        b"Temporary",
        "written through the descriptor",
    )?;
    let ex = sys::open(&u.m("d"), OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL)?;
    fails(
        link_fd(&ex, &u.m("d/no")),
        Errno::NOENT,
        "linking an O_EXCL temporary file",
    )?;
    fails(link_fd(&fd, &u.m("d/named")), Errno::EXIST, "onto a name")
}

fn symlink_targets(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let long = "t".repeat(4000);
    rustix::fs::symlink(long.as_str(), u.l("low"))?;
    u.mount()?;
    rustix::fs::symlink(long.as_str(), u.m("up"))?;
    for n in ["low", "up"] {
        same(std::fs::read_link(u.m(n))?.as_os_str().len(), 4000, n)?;
        same(sys::stx(&u.m(n))?.stx_size, 4000, n)?;
    }
    fails(
        rustix::fs::symlink("", u.m("empty")),
        Errno::NOENT,
        "an empty target",
    )
}

fn owner_of_new_objects(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::chmod(&u.l("d"), 0o777)?;
    sys::write(&u.l("d/white"), "x")?;
    sys::write(&u.l("d/white2"), "x")?;
    u.mount()?;
    std::fs::remove_file(u.m("d/white"))?;
    std::fs::remove_file(u.m("d/white2"))?;
    sys::as_user(1000, 1001, &[], || {
        sys::write(&u.m("d/file"), "x")?;
        sys::mkdir(&u.m("d/dir"))?;
        rustix::fs::symlink("x", u.m("d/link"))?;
        sys::mknod(&u.m("d/fifo"), FileType::Fifo, 0o644, 0)?;
        sys::write(&u.m("d/white"), "x")?;
        sys::mkdir(&u.m("d/white2"))?;
        let t = sys::open(&u.m("d"), OFlags::TMPFILE | OFlags::RDWR)?;
        same(
            rustix::fs::fstat(&t)?.st_uid,
            1000,
            "owner of a temporary file",
        )
    })?;
    for n in ["file", "dir", "link", "fifo", "white", "white2"] {
        for p in [u.m("d").join(n), u.u("d").join(n)] {
            let s = sys::stx(&p)?;
            same(
                (s.stx_uid, s.stx_gid),
                (1000, 1001),
                &format!("owner of {n}"),
            )?;
        }
    }
    u.work_is_empty()
}

fn modes_and_umask(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["wf", "wd"] {
        sys::write(&u.l(n), "x")?;
        sys::whiteout(&u.u(n))?;
    }
    u.mount()?;
    // SAFETY: no memory is involved.
    unsafe { libc::umask(0o027) };
    for n in ["f", "wf"] {
        sys::open_mode(&u.m(n), OFlags::CREATE | OFlags::WRONLY, 0o6777)?;
        same(sys::mode(&u.m(n))?, 0o6750, n)?;
    }
    for n in ["d", "wd"] {
        mkdir_mode(&u.m(n), 0o1777)?;
        same(sys::mode(&u.m(n))?, 0o1750, n)?;
    }
    sys::mknod(&u.m("p"), FileType::Fifo, 0o666, 0)?;
    same(sys::mode(&u.m("p"))?, 0o640, "a fifo")?;
    let t = sys::open_mode(&u.mnt, OFlags::TMPFILE | OFlags::RDWR, 0o666)?;
    same(
        rustix::fs::fstat(&t)?.st_mode & 0o7777,
        0o640,
        "a temporary file",
    )
}

fn setgid_directories(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::chown(&u.l("d"), 0, 2000)?;
    sys::chmod(&u.l("d"), 0o2777)?;
    for n in ["wf", "wd"] {
        sys::write(&u.l("d").join(n), "x")?;
    }
    u.mount()?;
    for n in ["wf", "wd"] {
        std::fs::remove_file(u.m("d").join(n))?;
    }
    sys::as_user(1000, 1001, &[], || {
        for n in ["f", "wf"] {
            sys::open_mode(&u.m("d").join(n), OFlags::CREATE | OFlags::WRONLY, 0o2775)?;
        }
        for n in ["d", "wd"] {
            sys::mkdir(&u.m("d").join(n))?;
        }
        Ok(())
    })?;
    for n in ["f", "wf", "d", "wd"] {
        same(
            sys::stx(&u.m("d").join(n))?.stx_gid,
            2000,
            &format!("group of {n}"),
        )?;
    }
    for n in ["d", "wd"] {
        same(
            sys::mode(&u.m("d").join(n))?,
            0o2755,
            "set-gid is inherited by directories",
        )?;
    }
    for n in ["f", "wf"] {
        same(
            sys::mode(&u.m("d").join(n))?,
            0o755,
            "set-gid is not given to a stranger",
        )?;
    }
    Ok(())
}

fn many_levels_at_once(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 3)?;
    std::fs::create_dir_all(u.ln(2, "a/b/c/d"))?;
    sys::write(&u.ln(2, "a/b/c/d/f"), "x")?;
    u.mount()?;
    std::fs::remove_dir_all(u.m("a"))?;
    check(sys::is_whiteout(&u.u("a")), "one whiteout for the tree")?;
    std::fs::create_dir_all(u.m("a/b/c"))?;
    same(
        sys::names(&u.m("a/b/c"))?,
        Vec::<String>::new(),
        "the new tree is empty",
    )?;
    u.again()?;
    same(
        sys::names(&u.m("a/b/c"))?,
        Vec::<String>::new(),
        "after a new mount",
    )?;
    u.work_is_empty()
}

fn working_directory_removed(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    std::env::set_current_dir(u.m("d"))?;
    std::fs::remove_dir(u.m("d"))?;
    fails(
        sys::write(Path::new("x"), ""),
        Errno::NOENT,
        "create in a removed directory",
    )?;
    fails(
        sys::mkdir(Path::new("x")),
        Errno::NOENT,
        "mkdir in a removed directory",
    )?;
    fails(std::env::current_dir(), Errno::NOENT, "getcwd")
}

tests! {
    Tmpfs: unlink_kinds, unlink_errnos, rmdir_kinds, rmdir_upper_with_whiteouts,
        create_over_whiteouts, opaque_only_where_needed, mkdir_and_mknod_errnos, links,
        link_of_a_symlink, tmpfile, symlink_targets, owner_of_new_objects, modes_and_umask,
        setgid_directories, many_levels_at_once, working_directory_removed;
    Ext4: unlink_kinds, rmdir_kinds, create_over_whiteouts, links, tmpfile,
        owner_of_new_objects, setgid_directories;
    Xfs: unlink_kinds, create_over_whiteouts, tmpfile;
    Btrfs: unlink_kinds, create_over_whiteouts, tmpfile;
}
