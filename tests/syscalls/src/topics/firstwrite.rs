// SPDX-License-Identifier: GPL-2.0
//! A lower file is opened for writing, then something happens, then the first
//! write comes. Whether the copy is made at the open or at the write, the
//! result is the same.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, OFlags, RenameFlags};
use rustix::io::Errno;

const NONE: RenameFlags = RenameFlags::empty();

fn opened(ctx: &Ctx) -> Res<(Union, OwnedFd)> {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("d"))?;
    sys::write(&u.l("d/f"), "lower data")?;
    u.mount()?;
    let fd = sys::open(&u.m("d/f"), OFlags::RDWR)?;
    same(
        sys::pread(&fd, 5, 0)?,
        b"lower",
        "reading before the first write",
    )?;
    Ok((u, fd))
}

fn wrote(u: &Union, fd: &OwnedFd) -> Res {
    same(rustix::io::pwrite(fd, b"FIRST", 0)?, 5, "bytes written")?;
    same(sys::pread(fd, 20, 0)?, b"FIRST data", "read back")?;
    same(sys::read(&u.l("d/f"))?, b"lower data", "the lower file")
}

fn after_nothing(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    wrote(&u, &fd)?;
    same(sys::read(&u.u("d/f"))?, b"FIRST data", "the copy")
}

fn after_unlink(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    std::fs::remove_file(u.m("d/f"))?;
    wrote(&u, &fd)?;
    check(!sys::exists(&u.m("d/f")), "the name came back")?;
    check(sys::is_whiteout(&u.u("d/f")), "the whiteout stays")?;
    drop(fd);
    u.work_is_empty()
}

fn after_removal_of_the_parent(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    std::fs::remove_dir_all(u.m("d"))?;
    wrote(&u, &fd)?;
    check(!sys::exists(&u.m("d")), "the parent came back")?;
    check(sys::is_whiteout(&u.u("d")), "the whiteout stays")?;
    drop(fd);
    u.work_is_empty()
}

fn after_a_new_file_took_the_name(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    std::fs::remove_file(u.m("d/f"))?;
    sys::write(&u.m("d/f"), "another")?;
    wrote(&u, &fd)?;
    same(sys::read(&u.m("d/f"))?, b"another", "the new file")
}

fn after_rename(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    sys::rename(&u.m("d/f"), &u.m("moved"), NONE)?;
    wrote(&u, &fd)?;
    same(
        sys::read(&u.m("moved"))?,
        b"FIRST data",
        "under the new name",
    )?;
    check(!sys::exists(&u.m("d/f")), "the old name came back")
}

fn after_being_replaced(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    sys::write(&u.m("other"), "other")?;
    sys::rename(&u.m("other"), &u.m("d/f"), NONE)?;
    wrote(&u, &fd)?;
    same(
        sys::read(&u.m("d/f"))?,
        b"other",
        "the file that took its place",
    )
}

fn after_another_wrote(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    let b = sys::open(&u.m("d/f"), OFlags::RDWR)?;
    rustix::io::pwrite(&b, b"DATA", 6)?;
    same(
        sys::pread(&fd, 20, 0)?,
        b"lower DATA",
        "what the other wrote",
    )?;
    rustix::io::pwrite(&fd, b"FIRST", 0)?;
    same(sys::pread(&b, 20, 0)?, b"FIRST DATA", "seen by the other")
}

fn after_truncation_by_path(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    sys::write(&u.m("d/f"), "new")?;
    same(sys::pread(&fd, 20, 0)?, b"new", "what the other wrote")?;
    rustix::io::pwrite(&fd, b"FIRST", 5)?;
    same(sys::read(&u.m("d/f"))?, b"new\0\0FIRST", "content")
}

fn after_mode_was_closed(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "lower data")?;
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    sys::chmod(&u.m("f"), 0)?;
    sys::as_user(1000, 1000, &[], || {
        rustix::io::pwrite(&fd, b"again", 0)?;
        Ok(())
    })?;
    same(
        sys::read(&u.m("f"))?,
        b"again data",
        "written through a passed descriptor",
    )
}

fn by_another_user(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    sys::chmod(&u.m("d"), 0o700)?;
    sys::as_user(1000, 1000, &[], || wrote(&u, &fd))?;
    let s = sys::stx(&u.u("d/f"))?;
    same((s.stx_uid, s.stx_gid), (0, 0), "owner of the copy")?;
    same(sys::mode(&u.u("d/f"))?, 0o644, "mode of the copy")
}

fn after_lazy_umount(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    rustix::mount::unmount(&u.mnt, rustix::mount::UnmountFlags::DETACH)?;
    wrote(&u, &fd)?;
    same(sys::read(&u.u("d/f"))?, b"FIRST data", "the copy")
}

fn after_reclaim(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    sys::drop_caches(&ctx.tmp)?;
    wrote(&u, &fd)?;
    same(sys::read(&u.m("d/f"))?, b"FIRST data", "content")
}

fn remount_ro_is_refused(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    let ro = || rustix::mount::mount_remount(&u.mnt, rustix::mount::MountFlags::RDONLY, c"");
    fails(ro(), Errno::BUSY, "remount read-only below a writer")?;
    wrote(&u, &fd)?;
    drop(fd);
    works(ro(), "remount read-only")
}

fn by_every_call(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let names = [
        "pwritev", "falloc", "trunc", "copy", "splice", "send", "append", "fchmod",
    ];
    for n in names {
        sys::write(&u.l(n), "lower data")?;
    }
    u.mount()?;
    sys::write(&u.m("src"), "SOURCE")?;
    let src = || sys::open(&u.m("src"), OFlags::RDONLY);
    let open = |n: &str| sys::open(&u.m(n), OFlags::RDWR);
    let fd = open("pwritev")?;
    rustix::io::pwritev(&fd, &[std::io::IoSlice::new(b"PW")], 0)?;
    rustix::fs::fallocate(open("falloc")?, FallocateFlags::empty(), 0, 12)?;
    rustix::fs::ftruncate(open("trunc")?, 3)?;
    rustix::fs::copy_file_range(src()?, None, open("copy")?, None, 6)?;
    let (rd, wr) = rustix::pipe::pipe()?;
    rustix::io::write(&wr, b"SPLICE")?;
    let none = rustix::pipe::SpliceFlags::empty();
    rustix::pipe::splice(&rd, None, open("splice")?, None, 6, none)?;
    rustix::fs::sendfile(open("send")?, src()?, None, 6)?;
    let fd = sys::open(&u.m("append"), OFlags::WRONLY | OFlags::APPEND)?;
    rustix::io::write(&fd, b"+")?;
    rustix::fs::fchmod(open("fchmod")?, rustix::fs::Mode::RUSR)?;
    let want: &[(&str, &[u8])] = &[
        ("pwritev", b"PWwer data"),
        ("falloc", b"lower data\0\0"),
        ("trunc", b"low"),
        ("copy", b"SOURCEdata"),
        ("splice", b"SPLICEdata"),
        ("send", b"SOURCEdata"),
        ("append", b"lower data+"),
        ("fchmod", b"lower data"),
    ];
    for (n, data) in want {
        same(sys::read(&u.m(n))?, *data, n)?;
        same(sys::read(&u.u(n))?, *data, &format!("the copy of {n}"))?;
        same(
            sys::read(&u.l(n))?,
            b"lower data",
            &format!("the lower {n}"),
        )?;
    }
    u.work_is_empty()
}

fn sync_before_it(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx)?;
    works(rustix::fs::fsync(&fd), "fsync before the first write")?;
    works(
        rustix::fs::fdatasync(&fd),
        "fdatasync before the first write",
    )?;
    wrote(&u, &fd)?;
    works(rustix::fs::fsync(&fd), "fsync after it")
}

fn running_it_is_refused(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::copy("/proc/self/exe", u.l("prog"))?;
    sys::chmod(&u.l("prog"), 0o755)?;
    u.mount()?;
    let fd = sys::open(&u.m("prog"), OFlags::RDWR)?;
    match std::process::Command::new(u.m("prog"))
        .arg("--list")
        .output()
    {
        Err(e) => same(
            e.errno(),
            Errno::TXTBSY,
            "running a file that is open for writing",
        )?,
        Ok(_) => return Err(Failure::new("a file open for writing was run".to_owned())),
    }
    drop(fd);
    let out = std::process::Command::new(u.m("prog"))
        .arg("--list")
        .output()?;
    check(out.status.success(), "it runs once it is closed")
}

fn two_first_writes(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = super::rw::pattern(3 << 20);
    sys::write(&u.l("f"), &data)?;
    u.mount()?;
    let mut hands = Vec::new();
    for t in 0..4u8 {
        let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
        hands.push(std::thread::spawn(move || {
            rustix::io::pwrite(&fd, &[t; 100], u64::from(t) * 700_000)
        }));
    }
    let mut want = data;
    for (t, h) in hands.into_iter().enumerate() {
        match h.join() {
            Ok(r) => same(r?, 100, "bytes written")?,
            Err(_) => return Err(Failure::new("a thread died".to_owned())),
        }
        want[t * 700_000..][..100].fill(t as u8);
    }
    check(sys::read(&u.m("f"))? == want, "a write was lost")?;
    check(sys::read(&u.u("f"))? == want, "a write was lost in upper")
}

tests! {
    Tmpfs: after_nothing, after_unlink, after_removal_of_the_parent,
        after_a_new_file_took_the_name, after_rename, after_being_replaced, after_another_wrote,
        after_truncation_by_path, after_mode_was_closed, by_another_user, after_lazy_umount,
        after_reclaim, remount_ro_is_refused, by_every_call, sync_before_it,
        running_it_is_refused, two_first_writes;
    Ext4: after_unlink, after_removal_of_the_parent, after_rename, after_being_replaced,
        by_every_call, two_first_writes;
    Xfs: after_unlink, by_every_call, two_first_writes;
}
