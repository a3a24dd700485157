// SPDX-License-Identifier: GPL-2.0
//! Asynchronous I/O: AIO and io_uring, with the descriptor closed at once.

use super::rw::pattern;
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use io_uring::{opcode, squeue, types, IoUring};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fd: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Event {
    data: u64,
    obj: u64,
    pub(super) res: i64,
    res2: i64,
}

const PREAD: u16 = 0;
pub(super) const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;

pub(super) struct Aio(u64);

impl Aio {
    pub(super) fn new() -> Sys<Aio> {
        let mut id = 0u64;
        // SAFETY: `id` outlives the call.
        sys::ret(unsafe { libc::syscall(libc::SYS_io_setup, 64, &mut id) })?;
        Ok(Aio(id))
    }

    pub(super) fn submit(&self, cbs: &mut [Iocb]) -> Sys<i64> {
        let ptrs: Vec<*mut Iocb> = cbs.iter_mut().map(|c| c as *mut Iocb).collect();
        // SAFETY: the kernel copies the blocks; the buffers outlive the wait.
        sys::ret(unsafe { libc::syscall(libc::SYS_io_submit, self.0, ptrs.len(), ptrs.as_ptr()) })
    }

    pub(super) fn collect(&self, n: usize) -> Sys<Vec<Event>> {
        let mut ev = vec![Event::default(); n];
        let none = std::ptr::null::<libc::timespec>();
        // SAFETY: room for `n` events.
        let got = sys::ret(unsafe {
            libc::syscall(libc::SYS_io_getevents, self.0, n, n, ev.as_mut_ptr(), none)
        })?;
        ev.truncate(got as usize);
        ev.sort_by_key(|e| e.data);
        Ok(ev)
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: the context is owned by the value.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

pub(super) fn block(op: u16, fd: &OwnedFd, data: u64, buf: *const u8, len: usize, at: i64) -> Iocb {
    Iocb {
        data,
        opcode: op,
        fd: fd.as_raw_fd() as u32,
        buf: buf as u64,
        nbytes: len as u64,
        offset: at,
        ..Iocb::default()
    }
}

#[repr(align(4096))]
pub(super) struct Page(pub(super) [u8; 4096]);

fn direct(ctx: &Ctx) -> OFlags {
    // tmpfs takes the flag too but completes at once.
    match ctx.fs {
        Fs::Tmpfs => OFlags::empty(),
        _ => OFlags::DIRECT,
    }
}

fn aio_read_and_close(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(64 << 10);
    sys::write(&u.l("f"), &data)?;
    u.mount()?;
    let aio = Aio::new()?;
    let mut pages: Vec<Box<Page>> = (0..16).map(|_| Box::new(Page([0; 4096]))).collect();
    let fd = sys::open(&u.m("f"), OFlags::RDONLY | direct(ctx))?;
    let mut cbs: Vec<Iocb> = pages
        .iter_mut()
        .enumerate()
        .map(|(i, p)| block(PREAD, &fd, i as u64, p.0.as_ptr(), 4096, i as i64 * 4096))
        .collect();
    same(aio.submit(&mut cbs)?, 16, "blocks taken")?;
    drop(fd);
    for (i, e) in aio.collect(16)?.iter().enumerate() {
        same(e.res, 4096, "result of a read")?;
        check(pages[i].0 == data[i * 4096..][..4096], "data of a read")?;
    }
    Ok(())
}

fn aio_write_and_close(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(32 << 10);
    sys::write(&u.l("f"), &data)?;
    u.mount()?;
    let aio = Aio::new()?;
    let mut pages: Vec<Box<Page>> = (0..16u8).map(|i| Box::new(Page([i; 4096]))).collect();
    let fd = sys::open(&u.m("f"), OFlags::RDWR | direct(ctx))?;
    let mut cbs: Vec<Iocb> = pages
        .iter_mut()
        .enumerate()
        .map(|(i, p)| block(PWRITE, &fd, i as u64, p.0.as_ptr(), 4096, i as i64 * 4096))
        .collect();
    same(aio.submit(&mut cbs)?, 16, "blocks taken")?;
    drop(fd);
    for e in aio.collect(16)? {
        same(e.res, 4096, "result of a write")?;
    }
    let seen = sys::read(&u.m("f"))?;
    same(seen.len(), 64 << 10, "size afterwards")?;
    for (i, chunk) in seen.chunks(4096).enumerate() {
        check(
            chunk.iter().all(|b| *b == i as u8),
            &format!("content of page {i}"),
        )?;
    }
    same(sys::stx(&u.m("f"))?.stx_size, 64 << 10, "st_size")?;
    check(sys::read(&u.l("f"))? == data, "the lower file")
}

fn aio_fsync(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, pattern(4096))?;
    let aio = Aio::new()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"x", 0)?;
    let mut cbs = [
        block(FSYNC, &fd, 0, std::ptr::null(), 0, 0),
        block(FDSYNC, &fd, 1, std::ptr::null(), 0, 0),
    ];
    same(aio.submit(&mut cbs)?, 2, "blocks taken")?;
    drop(fd);
    for e in aio.collect(2)? {
        same(e.res, 0, "result of a sync")?;
    }
    Ok(())
}

fn aio_errors(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let aio = Aio::new()?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let page = Page([0; 4096]);
    let mut w = [block(PWRITE, &fd, 0, page.0.as_ptr(), 4096, 0)];
    fails(
        aio.submit(&mut w),
        Errno::BADF,
        "a write to a read-only descriptor",
    )?;
    let mut bad = [block(99, &fd, 0, page.0.as_ptr(), 4096, 0)];
    fails(aio.submit(&mut bad), Errno::INVAL, "an unknown operation")?;
    check(
        !sys::exists(&u.u("f")),
        "a refused write copied the file up",
    )
}

pub(super) fn ring() -> Res<IoUring> {
    IoUring::new(64).map_err(|e| Failure::new(format!("io_uring_setup: {e}")))
}

pub(super) fn push(r: &mut IoUring, e: &squeue::Entry) -> Res {
    // SAFETY: the buffers outlive the wait for their completions.
    unsafe { r.submission().push(e) }.map_err(|_| Failure::new("the ring is full".to_owned()))
}

/// Submits and closes. Without IOSQE_ASYNC, which would make a worker look the
/// descriptor up after that.
fn submit_and_close(r: &IoUring, fd: OwnedFd) -> Res {
    r.submit()?;
    drop(fd);
    Ok(())
}

pub(super) fn results(r: &mut IoUring, n: usize) -> Res<Vec<i32>> {
    r.submit_and_wait(n)?;
    let mut v: Vec<(u64, i32)> = Vec::new();
    while v.len() < n {
        let got: Vec<_> = r
            .completion()
            .map(|c| (c.user_data(), c.result()))
            .collect();
        if got.is_empty() {
            r.submit_and_wait(1)?;
        }
        v.extend(got);
    }
    v.sort_unstable();
    Ok(v.into_iter().map(|(_, res)| res).collect())
}

fn uring_read_and_close(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(64 << 10);
    sys::write(&u.l("f"), &data)?;
    u.mount()?;
    for flags in [OFlags::RDONLY, OFlags::RDONLY | direct(ctx)] {
        let mut r = ring()?;
        let mut pages: Vec<Box<Page>> = (0..16).map(|_| Box::new(Page([0; 4096]))).collect();
        let fd = sys::open(&u.m("f"), flags)?;
        for (i, p) in pages.iter_mut().enumerate() {
            let e = opcode::Read::new(types::Fd(fd.as_raw_fd()), p.0.as_mut_ptr(), 4096)
                .offset(i as u64 * 4096)
                .build()
                .user_data(i as u64);
            push(&mut r, &e)?;
        }
        submit_and_close(&r, fd)?;
        same(results(&mut r, 16)?, vec![4096; 16], "results of the reads")?;
        for (i, p) in pages.iter().enumerate() {
            check(p.0 == data[i * 4096..][..4096], "data of a read")?;
        }
    }
    check(!sys::exists(&u.u("f")), "reading copied the file up")
}

fn uring_write_and_close(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), pattern(32 << 10))?;
    sys::write(&u.l("g"), pattern(32 << 10))?;
    u.mount()?;
    for (name, flags) in [("f", OFlags::RDWR), ("g", OFlags::RDWR | direct(ctx))] {
        let mut r = ring()?;
        let pages: Vec<Box<Page>> = (0..16u8).map(|i| Box::new(Page([i; 4096]))).collect();
        let fd = sys::open(&u.m(name), flags)?;
        for (i, p) in pages.iter().enumerate() {
            let e = opcode::Write::new(types::Fd(fd.as_raw_fd()), p.0.as_ptr(), 4096)
                .offset(i as u64 * 4096)
                .build()
                .user_data(i as u64);
            push(&mut r, &e)?;
        }
        submit_and_close(&r, fd)?;
        same(
            results(&mut r, 16)?,
            vec![4096; 16],
            "results of the writes",
        )?;
        let seen = sys::read(&u.m(name))?;
        same(seen.len(), 64 << 10, "size afterwards")?;
        for (i, chunk) in seen.chunks(4096).enumerate() {
            check(
                chunk.iter().all(|b| *b == i as u8),
                &format!("content of page {i}"),
            )?;
        }
        same(
            sys::read(&u.l(name))?.len(),
            32 << 10,
            "size of the lower file",
        )?;
    }
    Ok(())
}

fn uring_open_write_sync_unlink(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "lower")?;
    let mut r = ring()?;
    let path = sys::cstr(&u.m("f"));
    let at = types::Fd(libc::AT_FDCWD);
    push(
        &mut r,
        &opcode::OpenAt::new(at, path.as_ptr())
            .flags(libc::O_RDWR)
            .build(),
    )?;
    let raw = results(&mut r, 1)?[0];
    check(raw >= 0, &format!("open through the ring: {raw}"))?;
    let fd = sys::raw_fd(i64::from(raw));
    let t = types::Fd(fd.as_raw_fd());
    let link = squeue::Flags::IO_LINK;
    push(
        &mut r,
        &opcode::Write::new(t, b"UPPER".as_ptr(), 5)
            .build()
            .flags(link),
    )?;
    push(
        &mut r,
        &opcode::Fsync::new(t).build().flags(link).user_data(1),
    )?;
    push(&mut r, &opcode::Fallocate::new(t, 100).build().user_data(2))?;
    same(
        results(&mut r, 3)?,
        vec![5, 0, 0],
        "write, fsync, fallocate",
    )?;
    same(&sys::read(&u.u("f"))?[..5], b"UPPER", "the copy")?;
    same(sys::stx(&u.m("f"))?.stx_size, 100, "size after fallocate")?;
    push(&mut r, &opcode::UnlinkAt::new(at, path.as_ptr()).build())?;
    same(results(&mut r, 1)?, vec![0], "unlink")?;
    check(sys::is_whiteout(&u.u("f")), "a whiteout in upper")
}

fn uring_splice(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, pattern(8192))?;
    let (rd, wr) = rustix::pipe::pipe()?;
    let mut r = ring()?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let e = opcode::Splice::new(
        types::Fd(fd.as_raw_fd()),
        100,
        types::Fd(wr.as_raw_fd()),
        -1,
        1000,
    );
    push(&mut r, &e.build())?;
    same(results(&mut r, 1)?, vec![1000], "splice")?;
    let mut buf = vec![0u8; 1000];
    rustix::io::read(&rd, &mut buf)?;
    check(buf == pattern(8192)[100..1100], "content")
}

fn uring_by_worker(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, pattern(64 << 10))?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let t = types::Fd(fd.as_raw_fd());
    let mut r = ring()?;
    let data = [9u8; 4096];
    let mut back = [0u8; 4096];
    let flags = squeue::Flags::ASYNC | squeue::Flags::IO_LINK;
    push(
        &mut r,
        &opcode::Write::new(t, data.as_ptr(), 4096)
            .offset(4096)
            .build()
            .flags(flags),
    )?;
    let read = opcode::Read::new(t, back.as_mut_ptr(), 4096)
        .offset(4096)
        .build();
    push(&mut r, &read.flags(squeue::Flags::ASYNC).user_data(1))?;
    same(results(&mut r, 2)?, vec![4096, 4096], "results")?;
    check(back == data, "what the read saw")
}

fn uring_close_with_umount(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, pattern(4096))?;
    let mut r = ring()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let data = [7u8; 4096];
    let e = opcode::Write::new(types::Fd(fd.as_raw_fd()), data.as_ptr(), 4096).build();
    push(&mut r, &e)?;
    submit_and_close(&r, fd)?;
    rustix::mount::unmount(&u.mnt, rustix::mount::UnmountFlags::DETACH)?;
    same(
        results(&mut r, 1)?,
        vec![4096],
        "a write that outlives descriptor and mount",
    )?;
    check(sys::read(&u.u("f"))? == data, "content of upper")
}

tests! {
    Tmpfs: aio_read_and_close, aio_write_and_close, aio_fsync, aio_errors, uring_read_and_close,
        uring_write_and_close, uring_open_write_sync_unlink, uring_splice, uring_by_worker,
        uring_close_with_umount;
    Ext4: aio_read_and_close, aio_write_and_close, aio_fsync, uring_read_and_close,
        uring_write_and_close, uring_close_with_umount;
    Xfs: aio_write_and_close, uring_write_and_close;
}
