// SPDX-License-Identifier: GPL-2.0
//! No space, no quota, no more time: a copy-up that fails leaves nothing.

use super::rw::pattern;
use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::Path;

/// The lower layer on the test's own tmpfs, upper and work on one mounted
/// with `opts`.
pub(super) fn small_upper(ctx: &Ctx, opts: &str) -> Res<Union> {
    let mut u = Union::new(ctx)?;
    let small = ctx.tmp.join("small");
    sys::mkdir(&small)?;
    sys::mount_tmpfs(&small, opts)?;
    u.upper = Some(small.join("u"));
    u.work = small.join("w");
    sys::mkdir(&u.u(""))?;
    sys::mkdir(&u.work)?;
    Ok(u)
}

/// Opens for writing and writes; a copy-up may be due at either.
fn write_first_byte(p: &Path) -> Result<(), Errno> {
    let fd = sys::open(p, OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"X", 0)?;
    Ok(())
}

fn no_space(ctx: &Ctx) -> Res {
    let u = small_upper(ctx, "size=2m")?;
    let data = pattern(6 << 20);
    sys::write(&u.l("big"), &data)?;
    sys::write(&u.l("small"), "small")?;
    sys::write(&u.l("cut"), &data)?;
    u.mount()?;
    for _ in 0..3 {
        fails(
            write_first_byte(&u.m("big")),
            Errno::NOSPC,
            "a copy-up without room",
        )?;
        fails(
            sys::chmod(&u.m("big"), 0o600),
            Errno::NOSPC,
            "chmod without room",
        )?;
        same(
            sys::names(&u.u(""))?,
            Vec::<String>::new(),
            "upper afterwards",
        )?;
        u.work_is_empty()?;
    }
    check(
        sys::read(&u.m("big"))? == data,
        "the file is still readable",
    )?;
    same(sys::mode(&u.m("big"))?, 0o644, "its mode")?;
    works(write_first_byte(&u.m("small")), "a small file still fits")?;
    works(
        sys::write(&u.m("cut"), "cut"),
        "so does one that is truncated",
    )?;
    works(std::fs::remove_file(u.m("big")), "a whiteout fits too")
}

fn no_space_for_data(ctx: &Ctx) -> Res {
    let u = small_upper(ctx, "size=1m")?;
    u.mount()?;
    let fd = sys::open(&u.m("new"), OFlags::CREATE | OFlags::RDWR)?;
    let chunk = pattern(256 << 10);
    let mut at = 0u64;
    let seen = loop {
        match rustix::io::pwrite(&fd, &chunk, at) {
            Ok(n) => at += n as u64,
            Err(e) => break e,
        }
        check(at < 8 << 20, "more was written than there is room")?;
    };
    same(seen, Errno::NOSPC, "a write without room")?;
    let full = rustix::fs::fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, 4 << 20);
    fails(full, Errno::NOSPC, "fallocate without room")?;
    rustix::fs::ftruncate(&fd, 0)?;
    works(rustix::io::pwrite(&fd, b"x", 0), "a write after truncation")?;
    Ok(())
}

fn no_inodes(ctx: &Ctx) -> Res {
    let u = small_upper(ctx, "size=4m,nr_inodes=12")?;
    for i in 0..20 {
        sys::write(&u.l(&format!("f{i}")), "x")?;
    }
    u.mount()?;
    let mut failed = 0;
    for i in 0..20 {
        match write_first_byte(&u.m(&format!("f{i}"))) {
            Ok(()) => {}
            Err(e) => {
                same(e, Errno::NOSPC, "a copy-up without inodes")?;
                check(
                    !sys::exists(&u.u(&format!("f{i}"))),
                    "a failed copy-up left a file",
                )?;
                failed += 1;
            }
        }
    }
    check(failed > 0, "the inodes did not run out")?;
    u.work_is_empty()?;
    fails(
        sys::write(&u.m("new"), ""),
        Errno::NOSPC,
        "create without inodes",
    )?;
    fails(
        sys::mkdir(&u.m("dir")),
        Errno::NOSPC,
        "mkdir without inodes",
    )
}

fn no_quota(ctx: &Ctx) -> Res {
    let opts = "size=20m,usrquota,usrquota_block_hardlimit=1m";
    let small = ctx.tmp.join("small");
    let u = match small_upper(ctx, opts) {
        Ok(u) => u,
        Err(_) if !sys::is_mount_point(&small) => {
            return Err(Failure::skip("this kernel's tmpfs has no quota"))
        }
        Err(e) => return Err(e),
    };
    sys::write(&u.l("big"), pattern(3 << 20))?;
    sys::chown(&u.l("big"), 1000, 1000)?;
    u.mount()?;
    // Even root: the mounter's CAP_SYS_RESOURCE is not used.
    fails(
        write_first_byte(&u.m("big")),
        Errno::DQUOT,
        "a copy-up over quota",
    )?;
    same(
        sys::names(&u.u(""))?,
        Vec::<String>::new(),
        "upper afterwards",
    )?;
    u.work_is_empty()?;
    sys::chmod(&u.mnt, 0o777)?;
    sys::as_user(1000, 1000, &[], || {
        let fd = sys::open(&u.m("new"), OFlags::CREATE | OFlags::RDWR)?;
        let chunk = pattern(512 << 10);
        let mut r = Ok(0);
        for i in 0..4u64 {
            r = rustix::io::pwrite(&fd, &chunk, i * (512 << 10));
            if r.is_err() {
                break;
            }
        }
        fails(r, Errno::DQUOT, "a user's write over quota")
    })
}

fn file_size_limit(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), pattern(10_000))?;
    u.mount()?;
    sys::in_child(|| {
        // SAFETY: the signal is ignored, the limit is the child's own.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let lim = libc::rlimit {
                rlim_cur: 20_000,
                rlim_max: 20_000,
            };
            sys::ret(i64::from(libc::setrlimit(libc::RLIMIT_FSIZE, &lim)))?;
        }
        let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
        same(
            rustix::io::pwrite(&fd, &[1; 4096], 18_000)?,
            2000,
            "a write across the limit",
        )?;
        fails(
            rustix::io::pwrite(&fd, b"x", 20_000),
            Errno::FBIG,
            "a write at the limit",
        )?;
        fails(
            rustix::fs::ftruncate(&fd, 30_000),
            Errno::FBIG,
            "ftruncate over the limit",
        )?;
        let f = rustix::fs::fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, 30_000);
        fails(f, Errno::FBIG, "fallocate over the limit")?;
        rustix::fs::ftruncate(&fd, 100)?;
        same(sys::stx(&u.m("f"))?.stx_size, 100, "size after ftruncate")
    })
}

fn limit_does_not_stop_copy_up(ctx: &Ctx) -> Res {
    // The limit is on what the caller writes, not on what is copied for it.
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), pattern(100_000))?;
    u.mount()?;
    sys::in_child(|| {
        // SAFETY: as above.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let lim = libc::rlimit {
                rlim_cur: 20_000,
                rlim_max: 20_000,
            };
            sys::ret(i64::from(libc::setrlimit(libc::RLIMIT_FSIZE, &lim)))?;
        }
        match sys::chmod(&u.m("f"), 0o600) {
            Ok(()) => check(sys::read(&u.u("f"))? == pattern(100_000), "the whole copy"),
            Err(e) => {
                same(e, Errno::FBIG, "chmod of a file over the limit")?;
                check(!sys::exists(&u.u("f")), "a failed copy-up left a file")
            }
        }
    })?;
    u.work_is_empty()
}

fn too_big(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let r = sys::ret(unsafe {
        use std::os::fd::AsRawFd;
        // SAFETY: one byte is read from a valid buffer.
        libc::pwrite(fd.as_raw_fd(), b"x".as_ptr().cast(), 1, i64::MAX)
    } as i64);
    match r {
        Err(Errno::FBIG | Errno::INVAL) => {}
        r => {
            return Err(Failure::new(format!(
                "a write at the largest offset: seen {r:?}"
            )))
        }
    }
    same(sys::read(&u.m("f"))?, b"x", "content")
}

/// Kills a process in the middle of a large copy-up.
fn killed_in_copy_up(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    let size = 90usize << 20;
    {
        let fd = sys::open(&u.l("big"), OFlags::CREATE | OFlags::RDWR)?;
        let chunk = pattern(1 << 20);
        for i in 0..90u64 {
            rustix::io::pwrite(&fd, &chunk, i << 20)?;
        }
    }
    u.mount()?;
    let mut killed = 0;
    for wait in [0u64, 1, 2, 4, 8, 15, 30] {
        let pid = sys::fork()?;
        if pid == 0 {
            let _ = sys::chmod(&u.m("big"), 0o600);
            sys::exit_now(0);
        }
        std::thread::sleep(std::time::Duration::from_millis(wait));
        // SAFETY: our own child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let st = sys::wait(pid)?;
        if libc::WIFSIGNALED(st) && !sys::exists(&u.u("big")) {
            killed += 1;
            same(
                sys::names(&u.u(""))?,
                Vec::<String>::new(),
                "upper after the kill",
            )?;
            u.work_is_empty()?;
            same(sys::mode(&u.m("big"))?, 0o644, "mode after the kill")?;
        } else {
            break;
        }
    }
    check(killed > 0, "no copy-up was interrupted")?;
    sys::chmod(&u.m("big"), 0o600)?;
    same(
        sys::stx(&u.u("big"))?.stx_size,
        size as u64,
        "size of a later copy",
    )?;
    let fd = sys::open(&u.m("big"), OFlags::RDONLY)?;
    check(
        sys::pread(&fd, 1 << 20, 50 << 20)? == pattern(1 << 20),
        "content of a later copy",
    )?;
    u.work_is_empty()
}

fn copy_up_under_signals(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    let data = pattern(40 << 20);
    sys::write(&u.l("big"), &data)?;
    u.mount()?;
    sys::in_child(|| {
        sys::signal_storm()?;
        match sys::chmod(&u.m("big"), 0o600) {
            Ok(()) => Ok(()),
            Err(e) => {
                same(e, Errno::INTR, "chmod under a storm of signals")?;
                same(
                    sys::names(&u.u(""))?,
                    Vec::<String>::new(),
                    "upper after EINTR",
                )
            }
        }
    })?;
    u.work_is_empty()?;
    sys::chmod(&u.m("big"), 0o600)?;
    check(sys::read(&u.u("big"))? == data, "the copy")?;
    u.work_is_empty()
}

fn frozen_upper_blocks_writers(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    u.mount()?;
    let top = sys::open(&ctx.root, OFlags::RDONLY | OFlags::DIRECTORY)?;
    sys::freeze(&top)?;
    let p = u.m("f");
    let t = std::thread::spawn(move || write_first_byte(&p));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let waited = !t.is_finished();
    let read = sys::read(&u.m("f"));
    sys::thaw(&top)?;
    match t.join() {
        Ok(r) => works(r, "the write after the thaw")?,
        Err(_) => return Err(Failure::new("the writing thread died".to_owned())),
    }
    check(waited, "a write did not wait for a frozen upper filesystem")?;
    same(
        works(read, "reading while it is frozen")?,
        b"x",
        "content while it is frozen",
    )?;
    same(sys::read(&u.m("f"))?, b"X", "content after the thaw")
}

tests! {
    Tmpfs: no_space, no_space_for_data, no_inodes, no_quota, file_size_limit,
        limit_does_not_stop_copy_up, too_big, killed_in_copy_up,
        copy_up_under_signals;
    Ext4: file_size_limit, frozen_upper_blocks_writers;
}
