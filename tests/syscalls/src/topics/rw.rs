// SPDX-License-Identifier: GPL-2.0
//! Reading and writing: what is seen through which descriptor, before and
//! after a file is copied up.

use crate::harness::*;
use crate::sys;
use crate::union::{is_overlayfs, Union};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::pipe::SpliceFlags;
use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

pub fn pattern(len: usize) -> Vec<u8> {
    let mut x = 0x1234_5678u32;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .collect()
}

fn lower_stays(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "lower data")?;
    let before = sys::stx(&u.l("f"))?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    same(rustix::io::pwrite(&fd, b"UPPER", 0)?, 5, "bytes written")?;
    same(sys::read(&u.m("f"))?, b"UPPER data", "the merged file")?;
    same(sys::read(&u.u("f"))?, b"UPPER data", "the copy")?;
    same(sys::read(&u.l("f"))?, b"lower data", "the lower file")?;
    let after = sys::stx(&u.l("f"))?;
    same(
        after.stx_mtime.tv_sec,
        before.stx_mtime.tv_sec,
        "mtime of the lower file",
    )?;
    same(
        after.stx_ctime.tv_nsec,
        before.stx_ctime.tv_nsec,
        "ctime of the lower file",
    )?;
    u.work_is_empty()
}

fn old_descriptor_reads_new_data(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "old data")?;
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    same(sys::pread(&r, 3, 0)?, b"old", "before the copy-up")?;
    let w = sys::open(&u.m("f"), OFlags::WRONLY)?;
    rustix::io::pwrite(&w, b"NEW", 0)?;
    same(sys::pread(&r, 8, 0)?, b"NEW data", "after the copy-up")?;
    rustix::io::pwrite(&w, b" and longer", 8)?;
    same(
        sys::pread(&r, 32, 0)?,
        b"NEW data and longer",
        "after it grew",
    )?;
    same(
        rustix::fs::fstat(&r)?.st_size,
        19,
        "fstat through the old descriptor",
    )?;
    same(
        rustix::fs::seek(&r, SeekFrom::End(0))?,
        19,
        "SEEK_END of the old descriptor",
    )?;
    rustix::fs::ftruncate(&w, 2)?;
    same(sys::pread(&r, 8, 0)?, b"NE", "after it was cut")
}

fn position_survives_copy_up(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "0123456789")?;
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let mut buf = [0u8; 4];
    rustix::io::read(&r, &mut buf)?;
    let w = sys::open(&u.m("f"), OFlags::WRONLY)?;
    rustix::io::pwrite(&w, b"abcdef", 4)?;
    rustix::io::read(&r, &mut buf)?;
    same(&buf, b"abcd", "the next read")?;
    same(
        rustix::fs::seek(&r, SeekFrom::Current(0))?,
        8,
        "the position",
    )
}

fn append(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "start")?;
    let a = sys::open(&u.m("f"), OFlags::WRONLY | OFlags::APPEND)?;
    let b = sys::open(&u.m("f"), OFlags::WRONLY | OFlags::APPEND)?;
    rustix::io::write(&a, b"-a")?;
    rustix::io::write(&b, b"-b")?;
    rustix::io::pwrite(&a, b"-c", 0)?;
    same(sys::read(&u.m("f"))?, b"start-a-b-c", "appended")?;
    same(
        rustix::fs::seek(&a, SeekFrom::Current(0))?,
        7,
        "the position",
    )
}

fn vectors_and_flags(ctx: &Ctx) -> Res {
    use rustix::io::ReadWriteFlags as F;
    let u = Union::with_file(ctx, "0123456789")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwritev(&fd, &[IoSlice::new(b"AB"), IoSlice::new(b"CD")], 1)?;
    let (mut x, mut y) = ([0u8; 3], [0u8; 9]);
    let n = rustix::io::preadv(
        &fd,
        &mut [IoSliceMut::new(&mut x), IoSliceMut::new(&mut y)],
        0,
    )?;
    same((n, &x, &y[..7]), (10, b"0AB", &b"CD56789"[..]), "preadv")?;
    let tail = [IoSlice::new(b"tail")];
    rustix::io::pwritev2(&fd, &tail, 0, F::APPEND)?;
    rustix::io::pwritev2(&fd, &[IoSlice::new(b"Z")], 0, F::DSYNC)?;
    same(
        sys::read(&u.u("f"))?,
        b"ZABCD56789tail",
        "RWF_APPEND and RWF_DSYNC",
    )
}

fn truncate_calls(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["shorter", "longer", "zero", "same", "fd"] {
        sys::write(&u.l(n), "0123456789")?;
    }
    u.mount()?;
    let cut = |n: &str, len: i64| {
        let p = sys::cstr(&u.m(n));
        // SAFETY: the path outlives the call.
        sys::ret(i64::from(unsafe { libc::truncate(p.as_ptr(), len) }))
    };
    cut("shorter", 4)?;
    cut("longer", 12)?;
    cut("zero", 0)?;
    cut("same", 10)?;
    let fd = sys::open(&u.m("fd"), OFlags::WRONLY)?;
    rustix::fs::ftruncate(&fd, 3)?;
    let want: &[(&str, &[u8])] = &[
        ("shorter", b"0123"),
        ("longer", b"0123456789\0\0"),
        ("zero", b""),
        ("same", b"0123456789"),
        ("fd", b"012"),
    ];
    for (n, data) in want {
        same(sys::read(&u.m(n))?, *data, n)?;
        same(sys::read(&u.u(n))?, *data, n)?;
        same(sys::read(&u.l(n))?, b"0123456789", n)?;
    }
    fails(cut("none", 1), Errno::NOENT, "truncate of a missing name")?;
    fails(cut("zero", -1), Errno::INVAL, "truncate to a negative size")?;
    sys::mkdir(&u.m("dir"))?;
    fails(cut("dir", 0), Errno::ISDIR, "truncate of a directory")?;
    u.work_is_empty()
}

fn big_file_is_copied_whole(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern((5 << 20) + 12_345);
    sys::write(&u.l("f"), &data)?;
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"!", 4 << 20)?;
    let mut want = data.clone();
    want[4 << 20] = b'!';
    check(
        sys::read(&u.u("f"))? == want,
        "the copy differs from the file",
    )?;
    check(sys::read(&u.l("f"))? == data, "the lower file changed")
}

fn holes_are_kept(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    let fd = sys::open(&u.l("f"), OFlags::CREATE | OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"head", 0)?;
    rustix::io::pwrite(&fd, b"middle", 8 << 20)?;
    rustix::fs::ftruncate(&fd, 32 << 20)?;
    drop(fd);
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"HEAD", 0)?;
    drop(fd);
    let st = sys::stx(&u.u("f"))?;
    same(st.stx_size, 32 << 20, "size of the copy")?;
    check(
        st.stx_blocks < (4 << 20) / 512,
        &format!("holes are kept, seen {} blocks of 512", st.stx_blocks),
    )?;
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    same(
        sys::pread(&r, 6, 8 << 20)?,
        b"middle",
        "data between the holes",
    )?;
    same(sys::pread(&r, 4, 0)?, b"HEAD", "data at the start")
}

fn empty_file(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "")?;
    sys::chmod(&u.m("f"), 0o600)?;
    same(sys::stx(&u.u("f"))?.stx_size, 0, "size of the copy")?;
    sys::write(&u.m("f"), "x")?;
    same(sys::read(&u.m("f"))?, b"x", "written")
}

fn unlinked_while_open(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "lower")?;
    sys::write(&u.l("copied"), "copied")?;
    sys::write(&u.u("up"), "upper")?;
    u.mount()?;
    let low = sys::open(&u.m("low"), OFlags::RDONLY)?;
    let copied = sys::open(&u.m("copied"), OFlags::RDWR)?;
    rustix::io::pwrite(&copied, b"C", 0)?;
    let up = sys::open(&u.m("up"), OFlags::RDWR)?;
    for n in ["low", "copied", "up"] {
        std::fs::remove_file(u.m(n))?;
    }
    same(sys::pread(&low, 9, 0)?, b"lower", "an unlinked lower file")?;
    for (fd, want) in [(&copied, b"XY"), (&up, b"XY")] {
        rustix::io::pwrite(fd, b"XY", 0)?;
        same(sys::pread(fd, 2, 0)?, want, "an unlinked file takes writes")?;
        same(
            rustix::fs::fstat(fd)?.st_nlink,
            0,
            "link count of an unlinked file",
        )?;
        rustix::fs::fchmod(fd, rustix::fs::Mode::RUSR)?;
        same(
            rustix::fs::fstat(fd)?.st_mode & 0o777,
            0o400,
            "fchmod of an unlinked file",
        )?;
    }
    Ok(())
}

fn direct_io(ctx: &Ctx) -> Res {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), pattern(8192))?;
    u.mount()?;
    let mut page = Box::new(Page([0; 4096]));
    let r = sys::open(&u.m("f"), OFlags::RDONLY | OFlags::DIRECT)?;
    same(
        rustix::io::pread(&r, &mut page.0[..], 4096)?,
        4096,
        "bytes read from lower",
    )?;
    check(page.0[..] == pattern(8192)[4096..], "data of a direct read")?;
    let w = sys::open(&u.m("f"), OFlags::RDWR | OFlags::DIRECT)?;
    page.0.fill(b'D');
    same(
        rustix::io::pwrite(&w, &page.0[..], 0)?,
        4096,
        "bytes written",
    )?;
    let seen = sys::read(&u.m("f"))?;
    check(
        seen[..4096] == [b'D'; 4096],
        "buffered read of the direct write",
    )?;
    check(
        seen[4096..] == pattern(8192)[4096..],
        "the rest of the file",
    )?;
    page.0.fill(0);
    rustix::io::pread(&r, &mut page.0[..], 0)?;
    check(
        page.0 == [b'D'; 4096],
        "direct read through the old descriptor",
    )?;
    fails(
        rustix::io::pwrite(&w, &page.0[..100], 0),
        Errno::INVAL,
        "an unaligned direct write",
    )
}

fn sync_calls(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    sys::write(&u.m("up"), "x")?;
    for (n, flags) in [
        ("low", OFlags::RDONLY),
        ("up", OFlags::RDWR),
        ("d", OFlags::RDONLY | OFlags::DIRECTORY),
        (".", OFlags::RDONLY | OFlags::DIRECTORY),
    ] {
        let fd = sys::open(&u.m(n), flags)?;
        works(rustix::fs::fsync(&fd), "fsync")?;
        works(rustix::fs::fdatasync(&fd), "fdatasync")?;
        works(rustix::fs::syncfs(&fd), "syncfs")?;
    }
    let old = sys::open(&u.m("low"), OFlags::RDONLY)?;
    sys::write(&u.m("low"), "changed")?;
    works(
        rustix::fs::fsync(&old),
        "fsync of a descriptor from before the copy-up",
    )?;
    check(!sys::exists(&u.u("d")), "fsync copied a directory up")
}

fn one_byte_at_the_end_of_a_page(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, pattern(4095))?;
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    same(sys::pread(&r, 9000, 0)?.len(), 4095, "bytes before")?;
    let w = sys::open(&u.m("f"), OFlags::WRONLY | OFlags::APPEND)?;
    rustix::io::write(&w, b"ab")?;
    let all = sys::pread(&r, 9000, 0)?;
    same(all.len(), 4097, "bytes after")?;
    same(&all[4095..], b"ab", "the appended bytes")
}

fn zero_length_write(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "data")?;
    let fd = sys::open(&u.m("f"), OFlags::WRONLY)?;
    same(rustix::io::write(&fd, b"")?, 0, "bytes written")?;
    same(sys::read(&u.m("f"))?, b"data", "content")
}

fn bad_buffers(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "data")?;
    use std::os::fd::AsRawFd;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let bad = 8 as *mut libc::c_void;
    // SAFETY: the kernel refuses the address.
    let (r, w) = unsafe {
        (
            sys::ret(libc::read(fd.as_raw_fd(), bad, 4) as i64),
            sys::ret(libc::write(fd.as_raw_fd(), bad, 4) as i64),
        )
    };
    fails(r, Errno::FAULT, "read into a bad address")?;
    fails(w, Errno::FAULT, "write from a bad address")?;
    same(sys::read(&u.m("f"))?, b"data", "content")
}

fn deep_parents_are_copied(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let deep = (0..40)
        .map(|i| format!("d{i}"))
        .collect::<Vec<_>>()
        .join("/");
    std::fs::create_dir_all(u.l(&deep))?;
    sys::write(&u.l(&format!("{deep}/f")), "x")?;
    sys::chmod(&u.l("d0/d1"), 0o711)?;
    sys::chown(&u.l("d0/d1/d2"), 1000, 1001)?;
    u.mount()?;
    sys::write(&u.m(&format!("{deep}/f")), "y")?;
    same(sys::mode(&u.u("d0/d1"))?, 0o711, "mode of a copied parent")?;
    let st = sys::stx(&u.u("d0/d1/d2"))?;
    same(
        (st.stx_uid, st.stx_gid),
        (1000, 1001),
        "owner of a copied parent",
    )?;
    let (a, b) = (sys::stx(&u.l("d0/d1/d2"))?, sys::stx(&u.u("d0/d1/d2"))?);
    same(
        a.stx_atime.tv_sec,
        b.stx_atime.tv_sec,
        "atime of a copied parent",
    )?;
    same(
        sys::names(&u.u("d0"))?,
        vec!["d1"],
        "only the path is copied",
    )
}

/// Requests that must not wait get what they get from the layer's filesystem. overlayfs refuses them all.
fn without_waiting(ctx: &Ctx) -> Res {
    let flags = ReadWriteFlags::NOWAIT;
    let read = |fd: &OwnedFd| {
        let mut buf = [0; 4];
        let n = rustix::io::preadv2(fd, &mut [IoSliceMut::new(&mut buf)], 0, flags)?;
        Ok::<_, Errno>(buf[..n].to_vec())
    };
    let write = |fd: &OwnedFd| rustix::io::pwritev2(fd, &[IoSlice::new(b"N")], 0, flags);
    let u = Union::with_file(ctx, "lower")?;
    sys::write(&u.u("raw"), "lower")?;
    let raw = sys::open(&u.u("raw"), OFlags::RDWR)?;
    let served = match read(&raw) {
        Err(Errno::OPNOTSUPP) => false,
        other => !is_overlayfs() && same(works(other, "raw")?, b"lowe", "raw data").is_ok(),
    };
    let refused = |what: Result<Vec<u8>, Errno>| fails(what, Errno::OPNOTSUPP, "a read");
    let old = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    same(sys::pread(&fd, 4, 0)?, b"lowe", "a read that may wait")?;
    if !served {
        refused(read(&fd))?;
        return fails(write(&fd), Errno::OPNOTSUPP, "a write");
    }
    same(works(read(&fd), "a read of lower")?, b"lowe", "lower data")?;
    fails(write(&fd), Errno::AGAIN, "a first write")?;
    check(!sys::exists(&u.u("f")), "nothing is copied up by it")?;
    rustix::io::pwrite(&fd, b"U", 0)?;
    same(works(read(&fd), "a read of upper")?, b"Uowe", "upper data")?;
    fails(
        read(&old),
        Errno::AGAIN,
        "a descriptor that has not followed",
    )?;
    same(sys::pread(&old, 4, 0)?, b"Uowe", "when it may wait")?;
    same(works(read(&old), "a read then")?, b"Uowe", "its data")?;
    // A write whose time stamp is not that of the write before may have to wait for the journal.
    let (mut raw_said, mut again) = (Err(Errno::AGAIN), Err(Errno::AGAIN));
    for _ in 0..50 {
        rustix::io::pwrite(&raw, b"U", 0)?;
        raw_said = raw_said.or(write(&raw));
        rustix::io::pwrite(&fd, b"U", 0)?;
        again = write(&fd);
        if again != Err(Errno::AGAIN) {
            break;
        }
    }
    match again {
        Ok(_) => same(sys::pread(&fd, 4, 0)?, b"Nowe", "what was written"),
        Err(_) => same(again, raw_said, "a write as on the raw filesystem"),
    }
}

/// A request that must not wait leaves a lock that it does not get with who has it.
fn without_waiting_for_a_lock(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "lower")?;
    let fd = &sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(fd, b"U", 0)?;
    let hurried = || rustix::io::pwritev2(fd, &[IoSlice::new(b"N")], 0, ReadWriteFlags::NOWAIT);
    let (rd, wr) = rustix::pipe::pipe()?;
    let (says, said) = std::sync::mpsc::channel();
    let (writes, written) = std::sync::mpsc::channel();
    std::thread::scope(|s| {
        let wr = wr;
        // A splice from an empty pipe waits with the inode locked.
        let splice = s.spawn(move || {
            let _ = says.send(rustix::thread::gettid());
            rustix::pipe::splice(&rd, None, fd, Some(&mut 0), 6, SpliceFlags::empty())
        });
        let tid = said
            .recv()
            .map_err(|_| Failure::new("no thread".to_owned()))?;
        sys::wait_until_asleep(tid)?;
        for _ in 0..3 {
            let refused = matches!(hurried(), Err(Errno::AGAIN | Errno::OPNOTSUPP));
            check(refused, "a write while another has the lock")?;
        }
        let writer = s.spawn(move || {
            let n = rustix::io::pwrite(fd, b"W", 6);
            let _ = writes.send(());
            n
        });
        let early = written.recv_timeout(Duration::from_millis(300)).is_ok();
        works(rustix::io::write(&wr, b"spliced"), "filling the pipe")?;
        let joined = |what: std::thread::Result<_>| what.unwrap_or(Err(Errno::CANCELED));
        same(works(joined(splice.join()), "the splice")?, 6, "its bytes")?;
        same(works(joined(writer.join()), "the write")?, 1, "its bytes")?;
        check(!early, "a write got past the lock")
    })?;
    same(sys::read(&u.m("f"))?, b"spliceW", "content")
}

tests! {
    Tmpfs: lower_stays, old_descriptor_reads_new_data, position_survives_copy_up, append,
        vectors_and_flags, truncate_calls, big_file_is_copied_whole, holes_are_kept, empty_file,
        unlinked_while_open, sync_calls, one_byte_at_the_end_of_a_page, zero_length_write,
        bad_buffers, deep_parents_are_copied, without_waiting, without_waiting_for_a_lock;
    Ext4: old_descriptor_reads_new_data, append, truncate_calls, big_file_is_copied_whole,
        holes_are_kept, unlinked_while_open, direct_io, sync_calls, without_waiting,
        without_waiting_for_a_lock;
    Xfs: lower_stays, big_file_is_copied_whole, holes_are_kept, direct_io, sync_calls,
        without_waiting, without_waiting_for_a_lock;
    Btrfs: lower_stays, big_file_is_copied_whole, holes_are_kept, sync_calls, without_waiting;
}
