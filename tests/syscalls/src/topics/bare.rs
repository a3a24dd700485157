// SPDX-License-Identifier: GPL-2.0
//! Files that upper has without their data (`metacopy=on`): what is asked of the data is answered from
//! below, and what changes it brings it.

use super::data::{clone, dedupe, extents};
use super::mmap::Map;
use super::rw::pattern;
use crate::harness::*;
use crate::sys;
use crate::union::{is_overlayfs, Union};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::pipe::SpliceFlags;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const RW: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A mount whose file `f`, made by `make` in the lower layer, is in upper without data.
fn bare(ctx: &Ctx, make: impl FnOnce(&Path) -> Res) -> Res<Union> {
    let mut u = Union::new(ctx)?;
    make(&u.l("f"))?;
    u.options = "metacopy=on".to_owned();
    u.mount()?;
    sys::chmod(&u.m("f"), 0o640)?;
    is_bare(&u, "after chmod")?;
    Ok(u)
}

fn of_pattern(ctx: &Ctx, len: usize) -> Res<Union> {
    bare(ctx, |f| Ok(sys::write(f, pattern(len))?))
}

#[track_caller]
fn is_bare(u: &Union, what: &str) -> Res {
    let mark = sys::getx(&u.u("f"), "trusted.overlay.metacopy");
    check(mark.is_ok(), &format!("{what}: the mark is not there"))
}

#[track_caller]
fn is_whole(u: &Union, what: &str) -> Res {
    let mark = sys::getx(&u.u("f"), "trusted.overlay.metacopy");
    fails(mark, Errno::NODATA, what)
}

fn mapped_for_reading(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 8192)?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    for flags in [MapFlags::PRIVATE, MapFlags::SHARED] {
        let m = Map::new(&fd, 8192, ProtFlags::READ, flags)?;
        check(m.get(0, 8192) == pattern(8192), "the mapped bytes")?;
    }
    is_bare(&u, "a mapping for reading")
}

fn mapped_for_writing(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 8192)?;
    let before = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let m = Map::new(&fd, 8192, RW, MapFlags::SHARED)?;
    is_whole(&u, "a shared mapping of a writer")?;
    check(m.get(0, 8192) == pattern(8192), "the mapped bytes")?;
    m.put(5000, b"MAPPED");
    same(sys::pread(&before, 6, 5000)?, b"MAPPED", "an old reader")?;
    if !is_overlayfs() {
        // overlayfs maps what was open.
        let mapped = Map::new(&before, 8192, ProtFlags::READ, MapFlags::SHARED)?;
        same(mapped.get(5000, 6), b"MAPPED", "mapped by an old reader")?;
    }
    m.sync()?;
    same(&sys::read(&u.u("f"))?[5000..5006], b"MAPPED", "the copy")?;
    check(sys::read(&u.l("f"))? == pattern(8192), "the lower file")
}

/// Who maps a file that somebody writes sees what is written.
fn mapped_while_a_writer_has_it(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 8192)?;
    let writer = sys::open(&u.m("f"), OFlags::RDWR)?;
    let reader = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let m = Map::new(&reader, 8192, ProtFlags::READ, MapFlags::SHARED)?;
    rustix::io::pwrite(&writer, b"WRITTEN", 100)?;
    same(m.get(100, 7), b"WRITTEN", "the mapped bytes")
}

fn spliced(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 100_000)?;
    let (rd, wr) = rustix::pipe::pipe()?;
    let none = SpliceFlags::empty();
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let mut at = 50_000;
    let n = rustix::pipe::splice(&fd, Some(&mut at), &wr, None, 8000, none)?;
    same((n, at), (8000, 58_000), "splice out of it")?;
    is_bare(&u, "splicing out of it")?;
    let to = sys::open(&u.m("f"), OFlags::WRONLY)?;
    let mut at = 4;
    let n = rustix::pipe::splice(&rd, None, &to, Some(&mut at), 8000, none)?;
    same((n, at), (8000, 8004), "splice into it")?;
    is_whole(&u, "splicing into it")?;
    let mut want = pattern(100_000);
    want.copy_within(50_000..58_000, 4);
    check(sys::read(&u.m("f"))? == want, "content after it")?;
    check(sys::read(&u.u("f"))? == want, "content of the copy")
}

fn space_and_holes(ctx: &Ctx) -> Res {
    let u = bare(ctx, |f| {
        let fd = sys::open(f, OFlags::CREATE | OFlags::RDWR)?;
        rustix::io::pwrite(&fd, &pattern(4096), 1 << 20)?;
        rustix::fs::ftruncate(&fd, 2 << 20)?;
        Ok(rustix::fs::fsync(&fd)?)
    })?;
    let room = |p: &Path| Ok::<_, Failure>((sys::stx(p)?.stx_blocks, sys::stx(p)?.stx_size));
    same(room(&u.m("f"))?, room(&u.l("f"))?, "blocks and size")?;
    let look = |fd: &OwnedFd, what: &str| -> Res {
        same(rustix::fs::seek(fd, SeekFrom::Data(0))?, 1 << 20, what)?;
        same(rustix::fs::seek(fd, SeekFrom::Hole(0))?, 0, what)
    };
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    look(&fd, "holes below")?;
    is_bare(&u, "looking for holes")?;
    let w = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&w, b"X", 1 << 20)?;
    look(&fd, "holes of the copy")?;
    same(
        sys::stx(&u.m("f"))?.stx_blocks,
        sys::stx(&u.u("f"))?.stx_blocks,
        "blocks of the copy",
    )
}

fn fiemap(ctx: &Ctx) -> Res {
    let u = bare(ctx, |f| {
        let fd = sys::open(f, OFlags::CREATE | OFlags::RDWR)?;
        for at in [0u64, 1 << 20, 2 << 20] {
            rustix::io::pwrite(&fd, &pattern(4096), at)?;
        }
        Ok(rustix::fs::fsync(&fd)?)
    })?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    same(extents(&fd)?, 3, "extents of the lower file")?;
    is_bare(&u, "FIEMAP")
}

fn allocated(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 16384)?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&fd, punch, 4096, 4096)?;
    is_whole(&u, "a hole")?;
    let mut want = pattern(16384);
    want[4096..8192].fill(0);
    check(sys::read(&u.m("f"))? == want, "content")
}

fn copied_into(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 100_000)?;
    sys::write(&u.m("from"), "COPIED")?;
    let from = sys::open(&u.m("from"), OFlags::RDONLY)?;
    let to = sys::open(&u.m("f"), OFlags::RDWR)?;
    let (mut a, mut b) = (0, 10);
    same(
        rustix::fs::copy_file_range(&from, Some(&mut a), &to, Some(&mut b), 6)?,
        6,
        "copy_file_range",
    )?;
    is_whole(&u, "a copy into it")?;
    let mut want = pattern(100_000);
    want[10..16].copy_from_slice(b"COPIED");
    check(sys::read(&u.m("f"))? == want, "content")?;
    // And out of another one.
    sys::write(&u.m("to"), "")?;
    let to = sys::open(&u.m("to"), OFlags::RDWR)?;
    let mut at = 0;
    while at < 100_000 {
        let n = rustix::fs::copy_file_range(
            &sys::open(&u.m("f"), OFlags::RDONLY)?,
            Some(&mut at),
            &to,
            None,
            100_000,
        )?;
        check(n > 0, "copy_file_range stopped early")?;
    }
    check(sys::read(&u.m("to"))? == want, "the other file")
}

fn cloned_into(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 64 << 10)?;
    sys::write(&u.m("from"), vec![7; 4096])?;
    let from = sys::open(&u.m("from"), OFlags::RDONLY)?;
    let to = sys::open(&u.m("f"), OFlags::RDWR)?;
    // struct file_clone_range
    let arg = [from.as_raw_fd() as u64, 0, 4096, 8192];
    const FICLONERANGE: libc::c_ulong = 0x4020_940d;
    // SAFETY: `arg` is what the call reads.
    let r = unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE, &arg) };
    works(sys::ret(i64::from(r)), "FICLONERANGE")?;
    is_whole(&u, "a clone into it")?;
    let mut want = pattern(64 << 10);
    want[8192..12288].fill(7);
    check(sys::read(&u.m("f"))? == want, "content")
}

/// Its data is that of a lower file, which is shared as it would be by another name.
fn cloned_out_of(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 64 << 10)?;
    let from = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let to = sys::open(&u.m("to"), OFlags::CREATE | OFlags::RDWR)?;
    works(clone(&from, &to), "FICLONE")?;
    check(sys::read(&u.m("to"))? == pattern(64 << 10), "content")?;
    is_bare(&u, "a clone out of it")
}

/// What upper has without data is found equal to another file where its data is; it is not brought for that, unless it was
/// opened for writing.
fn deduped(ctx: &Ctx) -> Res {
    let (len, u) = (64 << 10, of_pattern(ctx, 64 << 10)?);
    sys::write(&u.m("other"), pattern(len as usize))?;
    let reader = |n: &str| sys::open(&u.m(n), OFlags::RDONLY);
    let other = sys::open(&u.m("other"), OFlags::RDWR)?;
    same(
        dedupe(&reader("f")?, &other, len)?,
        (len, 0),
        "out of the file without data",
    )?;
    is_bare(&u, "a source")?;
    let status = dedupe(&other, &reader("f")?, len)?.1;
    same(
        status,
        -Errno::ROFS.raw_os_error(),
        "into it, opened for reading",
    )?;
    is_bare(&u, "a target that is not written")?;
    let writer = sys::open(&u.m("f"), OFlags::RDWR)?;
    same(
        dedupe(&other, &writer, len)?,
        (len, 0),
        "into it, opened for writing",
    )?;
    is_whole(&u, "a target")?;
    check(sys::read(&u.m("f"))? == pattern(len as usize), "content")
}

/// A filesystem that shares nothing says so, and not the union for it.
fn deduped_without_reflink(ctx: &Ctx) -> Res {
    let u = of_pattern(ctx, 8192)?;
    sys::write(&u.m("other"), pattern(8192))?;
    let from = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let to = sys::open(&u.m("other"), OFlags::RDWR)?;
    let status = dedupe(&from, &to, 8192)?.1;
    same(status, -Errno::INVAL.raw_os_error(), "status")?;
    is_bare(&u, "a source")
}

/// The mode is changed while the data is brought, which puts back what writing takes away.
fn changed_meanwhile(ctx: &Ctx) -> Res {
    let len = 48 << 20;
    let u = bare(ctx, |f| {
        let fd = sys::open(f, OFlags::CREATE | OFlags::RDWR)?;
        let part = vec![1u8; 1 << 20];
        for i in 0..len >> 20 {
            rustix::io::pwrite(&fd, &part, i << 20)?;
        }
        Ok(())
    })?;
    let f = u.m("f");
    let fd = (!is_overlayfs())
        .then(|| sys::open(&f, OFlags::RDWR))
        .transpose()?;
    let writing = AtomicBool::new(false);
    thread::scope(|s| {
        let writer = s.spawn(|| {
            writing.store(true, Ordering::Release);
            let fd = match fd {
                Some(fd) => fd,
                None => sys::open(&f, OFlags::RDWR)?,
            };
            rustix::io::pwrite(&fd, b"x", 0)
        });
        while !writing.load(Ordering::Acquire) {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(3));
        sys::chmod(&f, 0o600)?;
        let written = writer.join().map_err(|_| Failure::new("died".to_owned()))?;
        same(written?, 1, "bytes written")
    })?;
    is_whole(&u, "a write")?;
    same(sys::mode(&f)? & 0o777, 0o600, "the mode")?;
    same(sys::mode(&u.u("f"))? & 0o777, 0o600, "the mode in upper")
}

/// Readers see all of the data at any time.
fn read_meanwhile(ctx: &Ctx) -> Res {
    for _ in 0..20 {
        let u = of_pattern(ctx, 300_000)?;
        let f = u.m("f");
        let want = pattern(300_000);
        let old = sys::open(&f, OFlags::RDONLY)?;
        let done = AtomicBool::new(false);
        thread::scope(|s| -> Res {
            let readers: Vec<_> = (0..2)
                .map(|i| {
                    let (f, want, old, done) = (&f, &want, &old, &done);
                    s.spawn(move || -> Res {
                        loop {
                            let last = done.load(Ordering::Acquire);
                            let seen = match i {
                                0 => sys::read(f)?,
                                _ => sys::pread(old, 300_000, 0)?,
                            };
                            check(seen == *want, "content while it is brought")?;
                            if last {
                                return Ok(());
                            }
                        }
                    })
                })
                .collect();
            let fd = sys::open(&f, OFlags::WRONLY)?;
            rustix::io::pwrite(&fd, &want[..100], 0)?;
            done.store(true, Ordering::Release);
            for reader in readers {
                reader
                    .join()
                    .map_err(|_| Failure::new("died".to_owned()))??;
            }
            Ok(())
        })?;
        is_whole(&u, "a write")?;
        drop(old);
        u.umount()?;
        std::fs::remove_dir_all(&u.mnt)?;
        for dir in [&u.lowers[0], &u.u(""), &u.work] {
            std::fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// A lower file of another filesystem, which a copy shares no data with.
fn on_another_filesystem(ctx: &Ctx) -> Res {
    let mut u = Union::split(ctx)?;
    sys::write(&u.l("f"), pattern(100_000))?;
    u.options = "metacopy=on".to_owned();
    u.mount()?;
    let before = sys::stx(&u.m("f"))?;
    sys::chmod(&u.m("f"), 0o640)?;
    let after = sys::stx(&u.m("f"))?;
    let id = |s: &rustix::fs::Statx| (s.stx_ino, s.stx_dev_major, s.stx_dev_minor, s.stx_blocks);
    same(id(&after), id(&before), "number, device, blocks")?;
    check(sys::read(&u.m("f"))? == pattern(100_000), "content")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"x", 99_999)?;
    is_whole(&u, "a write")?;
    check(
        sys::read(&u.u("f"))?[..99_999] == pattern(100_000)[..99_999],
        "the copy",
    )?;
    drop(fd);
    u.again()?;
    same(
        sys::stx(&u.m("f"))?.stx_ino,
        before.stx_ino,
        "the number after a new mount",
    )
}

tests! {
    Tmpfs: mapped_for_reading, mapped_for_writing, mapped_while_a_writer_has_it, spliced, space_and_holes,
        allocated, copied_into, deduped_without_reflink, changed_meanwhile, read_meanwhile;
    Ext4: mapped_for_writing, space_and_holes, fiemap, allocated, changed_meanwhile, on_another_filesystem;
    Xfs: cloned_into, cloned_out_of, deduped, fiemap;
    Btrfs: cloned_into, cloned_out_of, deduped;
}
