// SPDX-License-Identifier: GPL-2.0
//! What copies a lower file up that is open for writing, and what does not.
//! rovl does it at the first change, overlayfs and copy_up=open when the file is
//! opened: all else is the same.

use super::aio;
use super::mmap::Map;
use super::rw::pattern;
use crate::harness::*;
use crate::sys;
use crate::union::{is_overlayfs, Union};
use io_uring::{opcode, types};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, OFlags, SeekFrom, CWD};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::pipe::SpliceFlags;
use std::path::Path;

const RW: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
const LOWER: &[u8] = b"lower data";

/// Opening `name` alone did what it should: nothing, or all of the copy.
#[track_caller]
pub fn opened_only(u: &Union, name: &str, what: &str) -> Res {
    let waits = !is_overlayfs() && u.options != "copy_up=open";
    match (waits, sys::exists(&u.u(name))) {
        (true, true) => Err(Failure::new(format!("{what}: copied up"))),
        (false, false) => Err(Failure::new(format!("{what}: not copied up"))),
        _ => Ok(()),
    }
}

/// The copy is there and holds `data`; the lower file is as it was.
#[track_caller]
fn copied(u: &Union, name: &str, data: &[u8]) -> Res {
    same(
        sys::read(&u.m(name))?,
        data,
        &format!("{name} in the mount"),
    )?;
    same(sys::read(&u.u(name))?, data, &format!("{name} in upper"))?;
    same(sys::read(&u.l(name))?, LOWER, &format!("{name} in lower"))
}

type Step = fn(&OwnedFd, &Union) -> Res;

const CHANGES: &[(&str, &[u8], Step)] = &[
    ("write", b"WRITE data", |fd, _| {
        same(rustix::io::write(fd, b"WRITE")?, 5, "bytes written")
    }),
    ("pwrite", b"lower DATA", |fd, _| {
        same(rustix::io::pwrite(fd, b"DATA", 6)?, 4, "bytes written")
    }),
    ("writev", b"VECTORdata", |fd, _| {
        let parts = [IoSlice::new(b"VEC"), IoSlice::new(b"TOR")];
        same(rustix::io::writev(fd, &parts)?, 6, "bytes written")
    }),
    ("pwritev2-append", b"lower data+", |fd, _| {
        let flags = rustix::io::ReadWriteFlags::APPEND;
        same(
            rustix::io::pwritev2(fd, &[IoSlice::new(b"+")], 0, flags)?,
            1,
            "bytes written",
        )
    }),
    ("splice", b"SPLICEdata", |fd, _| {
        let (rd, wr) = rustix::pipe::pipe()?;
        rustix::io::write(&wr, b"SPLICE")?;
        let n = rustix::pipe::splice(&rd, None, fd, None, 6, SpliceFlags::empty())?;
        same(n, 6, "bytes spliced")
    }),
    ("sendfile", b"SOURCEdata", |fd, u| {
        let src = sys::open(&u.m("source"), OFlags::RDONLY)?;
        same(rustix::fs::sendfile(fd, src, None, 6)?, 6, "bytes sent")
    }),
    ("copy_file_range", b"SOURCEdata", |fd, u| {
        let src = sys::open(&u.m("source"), OFlags::RDONLY)?;
        let n = rustix::fs::copy_file_range(src, None, fd, None, 6)?;
        same(n, 6, "bytes copied")
    }),
    ("copy_file_range-within", b"lower lowe", |fd, _| {
        let (mut from, mut to) = (0, 6);
        let n = rustix::fs::copy_file_range(fd, Some(&mut from), fd, Some(&mut to), 4)?;
        same(n, 4, "bytes copied")
    }),
    ("fallocate", b"lower data\0\0", |fd, _| {
        Ok(rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, 12)?)
    }),
    ("punch", b"\0\0\0\0\0 data", |fd, _| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(fd, flags, 0, 5)?)
    }),
    ("ftruncate", b"low", |fd, _| {
        Ok(rustix::fs::ftruncate(fd, 3)?)
    }),
    ("ftruncate-same", LOWER, |fd, _| {
        Ok(rustix::fs::ftruncate(fd, LOWER.len() as u64)?)
    }),
    ("mmap", b"MAPPEDdata", |fd, _| {
        Map::new(fd, 4096, RW, MapFlags::SHARED)?.put(0, b"MAPPED");
        Ok(())
    }),
    ("aio", b"A IO! data", |fd, _| {
        let aio = aio::Aio::new()?;
        let data = b"A IO!";
        let mut blocks = [aio::block(aio::PWRITE, fd, 0, data.as_ptr(), 5, 0)];
        same(aio.submit(&mut blocks)?, 1, "blocks taken")?;
        same(aio.collect(1)?[0].res, 5, "bytes written")
    }),
    ("io_uring", b"U RNG data", |fd, _| {
        let mut r = aio::ring()?;
        let write = opcode::Write::new(types::Fd(fd.as_raw_fd()), b"U RNG".as_ptr(), 5);
        aio::push(&mut r, &write.offset(0).build())?;
        same(aio::results(&mut r, 1)?, [5], "bytes written")
    }),
    ("fchmod", LOWER, |fd, _| {
        Ok(rustix::fs::fchmod(fd, rustix::fs::Mode::RUSR)?)
    }),
    ("fchown", LOWER, |fd, _| {
        let id = rustix::fs::Uid::from_raw(7);
        Ok(rustix::fs::fchown(fd, Some(id), None)?)
    }),
    ("futimens", LOWER, |fd, _| {
        let t = rustix::fs::Timespec {
            tv_sec: 1_000_000,
            tv_nsec: 5,
        };
        let times = rustix::fs::Timestamps {
            last_access: t,
            last_modification: t,
        };
        Ok(rustix::fs::futimens(fd, &times)?)
    }),
    ("fsetxattr", LOWER, |fd, _| {
        let none = rustix::fs::XattrFlags::empty();
        Ok(rustix::fs::fsetxattr(fd, "trusted.x", b"y", none)?)
    }),
    ("linkat", LOWER, |fd, u| {
        let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let to = u.m("linked");
        Ok(rustix::fs::linkat(
            CWD,
            from,
            CWD,
            to,
            AtFlags::SYMLINK_FOLLOW,
        )?)
    }),
    ("private mapping", LOWER, |fd, _| {
        let m = Map::new(fd, 4096, RW, MapFlags::PRIVATE)?;
        same(m.get(0, 10), LOWER, "mapped")?;
        m.put(0, b"MINE");
        same(m.get(0, 10), b"MINEr data", "written")
    }),
    ("reader's mapping", LOWER, |fd, _| {
        let same_file = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let fd = sys::open(Path::new(&same_file), OFlags::RDONLY)?;
        let m = Map::new(&fd, 4096, ProtFlags::READ, MapFlags::SHARED)?;
        same(m.get(0, 10), LOWER, "mapped")
    }),
];

fn by_each_change(ctx: &Ctx, options: &str) -> Res {
    let mut u = Union::new(ctx)?;
    u.options = options.to_owned();
    for (name, _, _) in CHANGES {
        sys::write(&u.l(name), LOWER)?;
    }
    u.mount()?;
    sys::write(&u.m("source"), "SOURCE")?;
    for (name, data, change) in CHANGES {
        let fd = sys::open(&u.m(name), OFlags::RDWR)?;
        opened_only(&u, name, &format!("opened for {name}"))?;
        let named = |f: Failure| Failure {
            msg: format!("{name}: {}", f.msg),
            ..f
        };
        change(&fd, &u).map_err(named)?;
        copied(&u, name, data)?;
    }
    u.work_is_empty()
}

fn each_change(ctx: &Ctx) -> Res {
    by_each_change(ctx, "")
}

fn each_change_after_copy_up_at_open(ctx: &Ctx) -> Res {
    if is_overlayfs() {
        return Err(Failure::skip("overlayfs has no option copy_up"));
    }
    by_each_change(ctx, "copy_up=open")
}

fn clone_into(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, LOWER)?;
    sys::write(&u.m("source"), "a longer source")?;
    let fd = sys::open(&u.m("f"), OFlags::WRONLY)?;
    opened_only(&u, "f", "opened")?;
    let src = sys::open(&u.m("source"), OFlags::RDONLY)?;
    works(super::data::clone(&src, &fd), "FICLONE")?;
    copied(&u, "f", b"a longer source")
}

/// The data waits in a pipe of the task's own while the file is copied up.
fn much_by_sendfile(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), pattern(300_000))?;
    u.mount()?;
    let data: Vec<u8> = pattern(1 << 20).into_iter().rev().collect();
    sys::write(&u.m("source"), &data)?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::fs::seek(&fd, SeekFrom::Start(1000))?;
    let src = sys::open(&u.m("source"), OFlags::RDONLY)?;
    let mut sent = 0;
    while sent < data.len() {
        let n = rustix::fs::sendfile(&fd, &src, None, data.len() - sent)?;
        check(n > 0, "sendfile sends nothing")?;
        sent += n;
    }
    let mut want = pattern(1000);
    want.extend_from_slice(&data);
    check(sys::read(&u.m("f"))? == want, "content")?;
    check(sys::read(&u.u("f"))? == want, "content of the copy")?;
    check(sys::read(&u.l("f"))? == pattern(300_000), "the lower file")
}

const NO_CHANGES: &[(&str, Step)] = &[
    ("read", |fd, _| same(sys::pread(fd, 20, 0)?, LOWER, "read")),
    ("lseek", |fd, _| {
        same(rustix::fs::seek(fd, SeekFrom::End(0))?, 10, "the end")?;
        same(rustix::fs::seek(fd, SeekFrom::Data(2))?, 2, "the data")?;
        same(rustix::fs::seek(fd, SeekFrom::Hole(2))?, 10, "the hole")
    }),
    ("fstat", |fd, _| {
        same(rustix::fs::fstat(fd)?.st_size, 10, "size")
    }),
    ("fsync", |fd, _| {
        rustix::fs::fsync(fd)?;
        Ok(rustix::fs::fdatasync(fd)?)
    }),
    ("fadvise", |fd, _| {
        Ok(rustix::fs::fadvise(
            fd,
            0,
            None,
            rustix::fs::Advice::WillNeed,
        )?)
    }),
    ("flock", |fd, _| {
        Ok(rustix::fs::flock(
            fd,
            rustix::fs::FlockOperation::NonBlockingLockExclusive,
        )?)
    }),
    ("flags", |fd, _| {
        rustix::fs::fcntl_setfl(fd, OFlags::APPEND | OFlags::NONBLOCK)?;
        Ok(rustix::fs::fcntl_setfl(fd, OFlags::empty())?)
    }),
    ("fgetxattr", |fd, _| {
        let mut buf = [0u8; 8];
        let n = rustix::fs::fgetxattr(fd, "trusted.lower", &mut buf[..])?;
        same(&buf[..n], b"y", "the xattr")
    }),
    ("fremovexattr", |fd, _| {
        let none = rustix::fs::fremovexattr(fd, "trusted.none");
        fails(none, Errno::NODATA, "removing what is not there")
    }),
    ("write of nothing", |fd, _| {
        same(rustix::io::write(fd, b"")?, 0, "bytes written")
    }),
    ("out of it", |fd, u| {
        let (_rd, wr) = rustix::pipe::pipe()?;
        let mut at = 0;
        let n = rustix::pipe::splice(fd, Some(&mut at), &wr, None, 5, SpliceFlags::empty())?;
        same(n, 5, "bytes spliced")?;
        let to = sys::open(&u.m("source"), OFlags::WRONLY)?;
        let mut at = 0;
        let n = rustix::fs::copy_file_range(fd, Some(&mut at), to, None, 5)?;
        same(n, 5, "bytes copied")
    }),
    ("read-only descriptor", |_, u| {
        let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
        fails(rustix::io::write(&fd, b"x"), Errno::BADF, "write")
    }),
    ("RWF_NOWAIT", |fd, u| {
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        let lower = sys::open(&u.l("f"), OFlags::RDONLY)?;
        let raw = rustix::io::preadv2(&lower, &mut [IoSliceMut::new(&mut [0])], 0, flags);
        // A file of overlayfs never says that it can do without waiting.
        let want = match raw {
            Err(Errno::OPNOTSUPP) => Errno::OPNOTSUPP,
            _ if is_overlayfs() => Errno::OPNOTSUPP,
            _ => Errno::AGAIN,
        };
        let w = rustix::io::pwritev2(fd, &[IoSlice::new(b"x")], 0, flags);
        fails(w, want, "a write that may not wait")
    }),
    ("a second open", |_, u| {
        sys::open(&u.m("f"), OFlags::WRONLY)?;
        sys::open(&u.m("f"), OFlags::RDWR | OFlags::APPEND)?;
        Ok(())
    }),
];

fn each_other_use(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), LOWER)?;
    sys::setx(&u.l("f"), "trusted.lower", b"y")?;
    u.mount()?;
    sys::write(&u.m("source"), "SOURCE")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    for (what, step) in NO_CHANGES {
        let named = |f: Failure| Failure {
            msg: format!("{what}: {}", f.msg),
            ..f
        };
        step(&fd, &u).map_err(named)?;
        opened_only(&u, "f", what)?;
    }
    drop(fd);
    opened_only(&u, "f", "closed")
}

fn each_way_to_open(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let waiting = [
        OFlags::RDWR,
        OFlags::WRONLY,
        OFlags::WRONLY | OFlags::APPEND,
        OFlags::RDWR | OFlags::CREATE,
        OFlags::RDWR | OFlags::NOATIME,
        OFlags::WRONLY | OFlags::DSYNC | OFlags::NONBLOCK,
    ];
    let at_once = [
        OFlags::RDWR | OFlags::TRUNC,
        OFlags::RDONLY | OFlags::TRUNC,
        OFlags::WRONLY | OFlags::DIRECT,
    ];
    for i in 0..waiting.len() {
        sys::write(&u.l(&format!("w{i}")), LOWER)?;
    }
    for i in 0..at_once.len() {
        sys::write(&u.l(&format!("o{i}")), LOWER)?;
    }
    u.mount()?;
    for (i, flags) in waiting.iter().enumerate() {
        let name = format!("w{i}");
        let fd = sys::open(&u.m(&name), *flags)?;
        opened_only(&u, &name, &format!("{flags:?}"))?;
        same(rustix::io::write(&fd, b"+")?, 1, "bytes written")?;
        match flags.contains(OFlags::APPEND) {
            true => copied(&u, &name, b"lower data+")?,
            false => copied(&u, &name, b"+ower data")?,
        }
    }
    for (i, flags) in at_once.iter().enumerate() {
        let name = format!("o{i}");
        sys::open(&u.m(&name), *flags)?;
        match flags.contains(OFlags::TRUNC) {
            true => copied(&u, &name, b"")?,
            false => copied(&u, &name, LOWER)?,
        }
    }
    u.work_is_empty()
}

fn seen_by_all_descriptors(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, LOWER)?;
    let before = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let a = sys::open(&u.m("f"), OFlags::RDWR)?;
    let b = sys::open(&u.m("f"), OFlags::WRONLY | OFlags::APPEND)?;
    let between = sys::open(&u.m("f"), OFlags::RDONLY)?;
    opened_only(&u, "f", "opened")?;
    rustix::io::pwrite(&a, b"FIRST", 0)?;
    rustix::io::write(&b, b" more")?;
    rustix::io::pwrite(&a, b"DATA", 6)?;
    for (fd, what) in [(&before, "before"), (&a, "the writer"), (&between, "after")] {
        same(sys::pread(fd, 30, 0)?, b"FIRST DATA more", what)?;
        same(rustix::fs::fstat(fd)?.st_size, 15, what)?;
        same(rustix::fs::seek(fd, SeekFrom::End(0))?, 15, what)?;
    }
    copied(&u, "f", b"FIRST DATA more")
}

fn stat_stays(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), pattern(5000))?;
    sys::chown(&u.l("f"), 11, 12)?;
    sys::chmod(&u.l("f"), 0o640)?;
    u.mount()?;
    let by_name = sys::stx(&u.m("f"))?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let stat = || -> Res<_> {
        let s = rustix::fs::fstat(&fd)?;
        Ok((
            s.st_dev, s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_size,
        ))
    };
    let before = stat()?;
    same(
        before.1,
        by_name.stx_ino,
        "inode number by descriptor and by name",
    )?;
    let modified = rustix::fs::fstat(&fd)?.st_mtime;
    same(
        modified,
        by_name.stx_mtime.tv_sec,
        "time of the last change",
    )?;
    rustix::io::pwrite(&fd, b"x", 0)?;
    same(stat()?, before, "stat after the first write")?;
    same(
        sys::stx(&u.m("f"))?.stx_ino,
        before.1,
        "inode number by name",
    )?;
    sys::drop_caches(&ctx.tmp)?;
    drop(fd);
    u.again()?;
    same(sys::stx(&u.m("f"))?.stx_ino, before.1, "after a new mount")
}

/// What the copy is made of, when other things were changed in the meantime.
fn attributes_of_the_copy(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), LOWER)?;
    sys::chown(&u.l("f"), 11, 12)?;
    sys::chmod(&u.l("f"), 0o4751)?;
    sys::setx(&u.l("f"), "trusted.x", b"y")?;
    u.mount()?;
    let before = sys::stx(&u.m("f"))?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    // By root, which keeps the set-user-ID bit.
    rustix::io::pwrite(&fd, b"FIRST", 0)?;
    let s = sys::stx(&u.u("f"))?;
    same((s.stx_uid, s.stx_gid), (11, 12), "owner of the copy")?;
    same(s.stx_mode, before.stx_mode, "mode of the copy")?;
    same(s.stx_atime.tv_sec, before.stx_atime.tv_sec, "access time")?;
    check(
        s.stx_mtime.tv_sec >= before.stx_mtime.tv_sec,
        "the time of the write",
    )?;
    same(sys::getx(&u.u("f"), "trusted.x")?, b"y", "an xattr")?;
    // By another, which loses it.
    sys::write(&u.m("g"), "")?;
    sys::chmod(&u.m("f"), 0o4777)?;
    sys::as_user(1000, 1000, &[], || {
        let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
        rustix::io::pwrite(&fd, b"x", 0)?;
        Ok(())
    })?;
    same(sys::mode(&u.m("f"))?, 0o777, "mode after another's write")
}

fn set_uid_is_lost_by_the_first_write(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), LOWER)?;
    sys::chmod(&u.l("f"), 0o6777)?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || {
        let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
        same(sys::mode(&u.m("f"))?, 0o6777, "mode after opening")?;
        rustix::io::pwrite(&fd, b"x", 0)?;
        Ok(())
    })?;
    same(sys::mode(&u.m("f"))?, 0o777, "mode in the mount")?;
    same(sys::mode(&u.u("f"))?, 0o777, "mode in upper")?;
    same(sys::mode(&u.l("f"))?, 0o6777, "mode in lower")
}

fn direct_io_switched_on(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, pattern(8192))?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::fs::fcntl_setfl(&fd, OFlags::DIRECT)?;
    opened_only(&u, "f", "F_SETFL")?;
    let page = aio::Page([7; 4096]);
    same(
        rustix::io::pwrite(&fd, &page.0, 4096)?,
        4096,
        "bytes written",
    )?;
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    check(flags.contains(OFlags::DIRECT), "F_GETFL shows O_DIRECT")?;
    rustix::fs::fcntl_setfl(&fd, OFlags::empty())?;
    let mut want = pattern(8192);
    want[4096..].fill(7);
    check(sys::pread(&fd, 10000, 0)? == want, "content by descriptor")?;
    check(sys::read(&u.u("f"))? == want, "content of the copy")
}

fn refused_at_open(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let files = [
        ("mine", 0o400, 1000),
        ("group", 0o640, 0),
        ("other", 0o604, 0),
        ("none", 0, 0),
        ("open", 0o666, 0),
    ];
    for (n, mode, uid) in files {
        sys::write(&u.l(n), LOWER)?;
        sys::chown(&u.l(n), uid, 1000)?;
        sys::chmod(&u.l(n), mode)?;
    }
    sys::mkdir(&u.l("closed"))?;
    sys::write(&u.l("closed/f"), LOWER)?;
    sys::chmod(&u.l("closed/f"), 0o666)?;
    sys::chmod(&u.l("closed"), 0o700)?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || {
        for n in ["mine", "group", "other", "none", "closed/f"] {
            for flags in [
                OFlags::RDWR,
                OFlags::WRONLY,
                OFlags::WRONLY | OFlags::APPEND,
            ] {
                fails(
                    sys::open(&u.m(n), flags),
                    Errno::ACCESS,
                    &format!("{n} {flags:?}"),
                )?;
            }
        }
        let of_root = sys::open(&u.m("open"), OFlags::RDWR | OFlags::NOATIME);
        fails(of_root, Errno::PERM, "O_NOATIME on another's file")
    })?;
    same(sys::names(&u.u(""))?, Vec::<String>::new(), "upper")?;
    sys::as_user(1000, 1000, &[], || {
        let fd = works(sys::open(&u.m("open"), OFlags::RDWR), "open of 0666")?;
        opened_only(&u, "open", "opened by another user")?;
        same(rustix::io::write(&fd, b"THEIR")?, 5, "bytes written")
    })?;
    copied(&u, "open", b"THEIR data")
}

/// Reads `p` and hands back the text of what mounting there would show.
fn options_of(mnt: &Path) -> Res<String> {
    let all = std::fs::read_to_string("/proc/self/mounts")?;
    let at = format!(" {} ", mnt.display());
    let line = all.lines().find(|l| l.contains(&at));
    line.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{at} is not in /proc/self/mounts")))
}

fn option_is_shown(ctx: &Ctx) -> Res {
    if is_overlayfs() {
        return Err(Failure::skip("overlayfs has no option copy_up"));
    }
    let mut u = Union::new(ctx)?;
    for (option, shown) in [
        ("copy_up=open", true),
        ("copy_up=write", false),
        ("", false),
    ] {
        u.options = option.to_owned();
        u.mount()?;
        let seen = options_of(&u.mnt)?;
        same(
            seen.contains(",copy_up=open"),
            shown,
            &format!("'{option}', seen {seen}"),
        )?;
        check(!seen.contains("copy_up=write"), "the default is not shown")?;
        u.umount()?;
    }
    Ok(())
}

tests! {
    Tmpfs: each_change, each_change_after_copy_up_at_open, much_by_sendfile, each_other_use,
        each_way_to_open, seen_by_all_descriptors, stat_stays, attributes_of_the_copy,
        set_uid_is_lost_by_the_first_write, direct_io_switched_on, refused_at_open,
        option_is_shown;
    Ext4: each_change, much_by_sendfile, each_other_use, each_way_to_open, stat_stays, direct_io_switched_on;
    Xfs: each_change, each_way_to_open, clone_into, direct_io_switched_on;
    Btrfs: each_change, each_other_use, clone_into, stat_stays;
}
