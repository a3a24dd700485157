// SPDX-License-Identifier: GPL-2.0
//! Moving data within the kernel: splice, sendfile, copies, clones, space.

use super::rw::pattern;
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

fn pair(ctx: &Ctx) -> Res<Union> {
    let u = Union::new(ctx)?;
    sys::write(&u.l("src"), pattern(100_000))?;
    sys::write(&u.l("dst"), "lower destination")?;
    u.mount()?;
    Ok(u)
}

fn splice_both_ways(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let (rd, wr) = rustix::pipe::pipe()?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&u.m("dst"), OFlags::WRONLY)?;
    let (mut from, mut to) = (50_000u64, 4u64);
    let none = SpliceFlags::empty();
    let n = rustix::pipe::splice(&src, Some(&mut from), &wr, None, 8000, none)?;
    same((n, from), (8000, 58_000), "splice out of a lower file")?;
    let n = rustix::pipe::splice(&rd, None, &dst, Some(&mut to), 8000, none)?;
    same((n, to), (8000, 8004), "splice into a file")?;
    let mut want = b"lowe".to_vec();
    want.extend_from_slice(&pattern(100_000)[50_000..58_000]);
    check(sys::read(&u.m("dst"))? == want, "content after splice")?;
    same(
        sys::read(&u.l("dst"))?,
        b"lower destination",
        "the lower file",
    )?;
    check(!sys::exists(&u.u("src")), "splice copied its source up")
}

fn splice_uses_position(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let (rd, wr) = rustix::pipe::pipe()?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&u.m("dst"), OFlags::WRONLY | OFlags::TRUNC)?;
    for i in 1..=3u64 {
        let none = SpliceFlags::empty();
        rustix::pipe::splice(&src, None, &wr, None, 1000, none)?;
        rustix::pipe::splice(&rd, None, &dst, None, 1000, none)?;
        same(
            rustix::fs::seek(&src, SeekFrom::Current(0))?,
            i * 1000,
            "position of source",
        )?;
        same(
            rustix::fs::seek(&dst, SeekFrom::Current(0))?,
            i * 1000,
            "position of target",
        )?;
    }
    check(
        sys::read(&u.m("dst"))? == pattern(100_000)[..3000],
        "content",
    )
}

fn vmsplice_to_file(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let (rd, wr) = rustix::pipe::pipe()?;
    let data = pattern(5000);
    let io = [rustix::pipe::IoSliceRaw::from_slice(&data)];
    // SAFETY: the slice outlives the call and is not changed.
    let n = unsafe { rustix::pipe::vmsplice(&wr, &io, SpliceFlags::empty()) }?;
    same(n, 5000, "vmsplice")?;
    let dst = sys::open(&u.m("dst"), OFlags::WRONLY | OFlags::TRUNC)?;
    rustix::pipe::splice(&rd, None, &dst, None, 5000, SpliceFlags::empty())?;
    check(sys::read(&u.u("dst"))? == data, "content")
}

fn tee_then_splice(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let ((ar, aw), (br, bw)) = (rustix::pipe::pipe()?, rustix::pipe::pipe()?);
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let none = SpliceFlags::empty();
    rustix::pipe::splice(&src, None, &aw, None, 4096, none)?;
    same(rustix::pipe::tee(&ar, &bw, 4096, none)?, 4096, "tee")?;
    for (pipe, name) in [(&ar, "one"), (&br, "two")] {
        let fd = sys::open(&u.m(name), OFlags::CREATE | OFlags::WRONLY)?;
        rustix::pipe::splice(pipe, None, &fd, None, 4096, none)?;
        check(sys::read(&u.m(name))? == pattern(4096), name)?;
    }
    Ok(())
}

fn sendfile(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&u.m("dst"), OFlags::WRONLY | OFlags::TRUNC)?;
    let mut at = 1000u64;
    let mut left = 90_000;
    while left > 0 {
        let n = rustix::fs::sendfile(&dst, &src, Some(&mut at), left)?;
        check(n > 0, "sendfile stopped early")?;
        left -= n;
    }
    same(at, 91_000, "offset after sendfile")?;
    check(
        sys::read(&u.m("dst"))? == pattern(100_000)[1000..91_000],
        "content",
    )?;
    let plain = ctx.root.join("plain");
    let out = sys::open(&plain, OFlags::CREATE | OFlags::RDWR)?;
    rustix::fs::sendfile(&out, &dst_reader(&u)?, None, 500)?;
    check(
        sys::read(&plain)? == pattern(100_000)[1000..1500],
        "out of the mount",
    )
}

fn dst_reader(u: &Union) -> Sys<OwnedFd> {
    sys::open(&u.m("dst"), OFlags::RDONLY)
}

fn copy_range(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&u.m("dst"), OFlags::RDWR)?;
    let (mut from, mut to) = (10u64, 5u64);
    let mut left = 70_000usize;
    while left > 0 {
        let n = rustix::fs::copy_file_range(&src, Some(&mut from), &dst, Some(&mut to), left)?;
        check(n > 0, "copy_file_range stopped early")?;
        left -= n;
    }
    let mut want = b"lower".to_vec();
    want.extend_from_slice(&pattern(100_000)[10..70_010]);
    check(sys::read(&u.m("dst"))? == want, "content")?;
    check(sys::read(&u.u("dst"))? == want, "content in upper")?;
    same(
        sys::read(&u.l("dst"))?,
        b"lower destination",
        "the lower file",
    )
}

fn copy_range_within_a_file(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let fd = sys::open(&u.m("src"), OFlags::RDWR)?;
    let (mut from, mut to) = (0u64, 100_000u64);
    rustix::fs::copy_file_range(&fd, Some(&mut from), &fd, Some(&mut to), 4096)?;
    let all = sys::read(&u.m("src"))?;
    same(all.len(), 104_096, "size")?;
    check(all[100_000..] == all[..4096], "the copied range")?;
    let (mut from, mut to) = (0u64, 100u64);
    fails(
        rustix::fs::copy_file_range(&fd, Some(&mut from), &fd, Some(&mut to), 4096),
        Errno::INVAL,
        "overlapping ranges",
    )
}

fn copy_range_between_unions(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let root = ctx.root.join("second");
    sys::mkdir(&root)?;
    let v = Union::at(&root, 1)?;
    sys::write(&v.l("dst"), "lower destination")?;
    v.mount()?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&v.m("dst"), OFlags::RDWR)?;
    let n = rustix::fs::copy_file_range(&src, None, &dst, None, 5000)?;
    check(n > 0, "copy_file_range between two unions")?;
    check(
        sys::read(&v.m("dst"))?[..n] == pattern(100_000)[..n],
        "content",
    )?;
    same(
        sys::read(&v.l("dst"))?,
        b"lower destination",
        "the lower file",
    )
}

fn copy_range_errnos(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    sys::mkdir(&u.m("dir"))?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&u.m("dst"), OFlags::RDONLY)?;
    let app = sys::open(
        &u.m("new"),
        OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND,
    )?;
    let dir = sys::open(&u.m("dir"), OFlags::RDONLY)?;
    let copy = |a: &OwnedFd, b: &OwnedFd| rustix::fs::copy_file_range(a, None, b, None, 10);
    fails(copy(&src, &dst), Errno::BADF, "onto a read-only descriptor")?;
    fails(
        copy(&src, &app),
        Errno::BADF,
        "onto an appending descriptor",
    )?;
    fails(copy(&dir, &app), Errno::ISDIR, "from a directory")
}

const FICLONE: libc::c_ulong = 0x4004_9409;
const FICLONERANGE: libc::c_ulong = 0x4020_940d;
const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;

pub(super) fn clone(src: &OwnedFd, dst: &OwnedFd) -> Sys<i64> {
    // SAFETY: the ioctl takes a descriptor.
    sys::ret(i64::from(unsafe {
        libc::ioctl(dst.as_raw_fd(), FICLONE, src.as_raw_fd())
    }))
}

fn clone_range(src: &OwnedFd, dst: &OwnedFd, from: u64, len: u64, to: u64) -> Sys<i64> {
    let arg = [src.as_raw_fd() as u64, from, len, to];
    // SAFETY: `arg` has the layout of struct file_clone_range.
    sys::ret(i64::from(unsafe {
        libc::ioctl(dst.as_raw_fd(), FICLONERANGE, &arg)
    }))
}

#[repr(C)]
struct Dedupe {
    src_offset: u64,
    src_length: u64,
    dest_count: u16,
    reserved1: u16,
    reserved2: u32,
    dest_fd: i64,
    dest_offset: u64,
    bytes_deduped: u64,
    status: i32,
    reserved: u32,
}

/// The bytes deduped and the status of the one destination.
pub(super) fn dedupe(src: &OwnedFd, dst: &OwnedFd, len: u64) -> Sys<(u64, i32)> {
    let mut d = Dedupe {
        src_offset: 0,
        src_length: len,
        dest_count: 1,
        reserved1: 0,
        reserved2: 0,
        dest_fd: i64::from(dst.as_raw_fd()),
        dest_offset: 0,
        bytes_deduped: 0,
        status: 0,
        reserved: 0,
    };
    // SAFETY: `d` is struct file_dedupe_range with one destination.
    sys::ret(i64::from(unsafe {
        libc::ioctl(src.as_raw_fd(), FIDEDUPERANGE, &mut d)
    }))?;
    Ok((d.bytes_deduped, d.status))
}

fn cloning(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(64 << 10);
    sys::write(&u.l("src"), &data)?;
    sys::write(&u.l("dst"), "lower")?;
    u.mount()?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&u.m("dst"), OFlags::RDWR)?;
    works(clone(&src, &dst), "FICLONE of a lower file")?;
    check(sys::read(&u.m("dst"))? == data, "content of the clone")?;
    same(
        sys::stx(&u.m("dst"))?.stx_size,
        64 << 10,
        "size of the clone",
    )?;
    same(sys::read(&u.l("dst"))?, b"lower", "the lower file")?;
    check(!sys::exists(&u.u("src")), "FICLONE copied its source up")?;
    let up = sys::open(&u.m("new"), OFlags::CREATE | OFlags::RDWR)?;
    works(
        clone_range(&dst, &up, 4096, 8192, 4096),
        "FICLONERANGE of an upper file",
    )?;
    let seen = sys::read(&u.m("new"))?;
    same(seen.len(), 12_288, "size")?;
    check(seen[4096..] == data[4096..12_288], "content of the range")?;
    fails(
        clone_range(&dst, &up, 1, 100, 3),
        Errno::INVAL,
        "unaligned ranges",
    )
}

fn clone_refused_without_reflink(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let dst = sys::open(&u.m("dst"), OFlags::RDWR)?;
    fails(clone(&src, &dst), Errno::OPNOTSUPP, "FICLONE")?;
    same(sys::read(&u.m("dst"))?, b"lower destination", "content")
}

fn clone_out_of_the_mount(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let src = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let out = sys::open(&ctx.root.join("out"), OFlags::CREATE | OFlags::RDWR)?;
    fails(clone(&src, &out), Errno::XDEV, "FICLONE out of the mount")
}

fn deduping(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(64 << 10);
    for n in ["a", "b"] {
        sys::write(&u.l(n), &data)?;
        sys::write(&u.u(&format!("up-{n}")), &data)?;
    }
    u.mount()?;
    let open = |n: &str| sys::open(&u.m(n), OFlags::RDWR);
    let (a, b) = (open("up-a")?, open("up-b")?);
    same(
        dedupe(&a, &b, 64 << 10)?,
        (64 << 10, 0),
        "two equal upper files",
    )?;
    rustix::io::pwrite(&b, b"other", 0)?;
    same(dedupe(&a, &b, 4096)?, (0, 1), "different data")?;
    check(sys::read(&u.m("up-a"))? == data, "the source is unchanged")?;
    // A lower file is not copied up for this.
    let low = sys::open(&u.m("a"), OFlags::RDONLY)?;
    let r = dedupe(&low, &a, 64 << 10)?;
    same(
        r.1,
        -Errno::PERM.raw_os_error(),
        "status with a lower source",
    )?;
    check(!sys::exists(&u.u("a")), "dedupe copied its source up")
}

fn reflinked_copy_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(24 << 20);
    sys::write(&u.l("f"), &data)?;
    u.mount()?;
    rustix::fs::sync();
    let free = |p: &std::path::Path| -> Res<u64> { Ok(rustix::fs::statvfs(p)?.f_bfree * 4096) };
    let before = free(&ctx.root)?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"x", 0)?;
    rustix::fs::fsync(&fd)?;
    let used = before.saturating_sub(free(&ctx.root)?);
    check(
        used < 8 << 20,
        &format!("copy-up of 24 MiB shares its blocks, seen {used} bytes used"),
    )?;
    check(sys::read(&u.l("f"))? == data, "the lower file")?;
    check(sys::read(&u.m("f"))?[1..] == data[1..], "the copy")
}

fn fallocate_modes(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(64 << 10);
    for n in ["plain", "keep", "punch", "zero"] {
        sys::write(&u.l(n), &data)?;
    }
    u.mount()?;
    let open = |n: &str| sys::open(&u.m(n), OFlags::RDWR);
    let size = |n: &str| -> Res<u64> { Ok(sys::stx(&u.m(n))?.stx_size) };
    rustix::fs::fallocate(open("plain")?, FallocateFlags::empty(), 0, 128 << 10)?;
    same(size("plain")?, 128 << 10, "size after fallocate")?;
    rustix::fs::fallocate(open("keep")?, FallocateFlags::KEEP_SIZE, 0, 128 << 10)?;
    same(size("keep")?, 64 << 10, "size after KEEP_SIZE")?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(open("punch")?, punch, 4096, 8192)?;
    let seen = sys::read(&u.m("punch"))?;
    check(
        seen[4096..12_288].iter().all(|b| *b == 0),
        "zeros in the hole",
    )?;
    check(
        seen[..4096] == data[..4096] && seen[12_288..] == data[12_288..],
        "around the hole",
    )?;
    if ctx.fs != Fs::Tmpfs {
        rustix::fs::fallocate(open("zero")?, FallocateFlags::ZERO_RANGE, 0, 4096)?;
        let seen = sys::read(&u.m("zero"))?;
        check(seen[..4096].iter().all(|b| *b == 0), "zeros in the range")?;
    }
    for n in ["plain", "keep", "punch", "zero"] {
        check(sys::read(&u.l(n))? == data, "a lower file changed")?;
    }
    Ok(())
}

fn fallocate_moves(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = pattern(64 << 10);
    sys::write(&u.l("cut"), &data)?;
    sys::write(&u.l("insert"), &data)?;
    u.mount()?;
    let fd = sys::open(&u.m("cut"), OFlags::RDWR)?;
    rustix::fs::fallocate(&fd, FallocateFlags::COLLAPSE_RANGE, 4096, 8192)?;
    let seen = sys::read(&u.m("cut"))?;
    check(
        seen[..4096] == data[..4096] && seen[4096..] == data[12_288..],
        "after a collapse",
    )?;
    let fd = sys::open(&u.m("insert"), OFlags::RDWR)?;
    rustix::fs::fallocate(&fd, FallocateFlags::INSERT_RANGE, 4096, 8192)?;
    let seen = sys::read(&u.m("insert"))?;
    check(
        seen.len() == (64 << 10) + 8192 && seen[12_288..] == data[4096..],
        "after an insert",
    )
}

fn fallocate_errnos(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let none = FallocateFlags::empty();
    let r = sys::open(&u.m("src"), OFlags::RDONLY)?;
    fails(
        rustix::fs::fallocate(&r, none, 0, 10),
        Errno::BADF,
        "a read-only descriptor",
    )?;
    let w = sys::open(&u.m("dst"), OFlags::RDWR)?;
    fails(
        rustix::fs::fallocate(&w, none, 0, 0),
        Errno::INVAL,
        "no length",
    )?;
    let bad = FallocateFlags::from_bits_retain(0x4000_0000);
    fails(
        rustix::fs::fallocate(&w, bad, 0, 10),
        Errno::OPNOTSUPP,
        "an unknown mode",
    )?;
    let punch = FallocateFlags::PUNCH_HOLE;
    fails(
        rustix::fs::fallocate(&w, punch, 0, 10),
        Errno::OPNOTSUPP,
        "PUNCH without KEEP_SIZE",
    )
}

fn seek_data_and_hole(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let fd = sys::open(&u.l("f"), OFlags::CREATE | OFlags::RDWR)?;
    rustix::io::pwrite(&fd, &pattern(4096), 1 << 20)?;
    rustix::fs::ftruncate(&fd, 2 << 20)?;
    drop(fd);
    u.mount()?;
    let look = |fd: &OwnedFd, what: &str| -> Res {
        use rustix::fs::seek;
        same(
            seek(fd, SeekFrom::Data(0))?,
            1 << 20,
            &format!("{what}: SEEK_DATA"),
        )?;
        same(
            seek(fd, SeekFrom::Current(0))?,
            1 << 20,
            &format!("{what}: position"),
        )?;
        same(
            seek(fd, SeekFrom::Hole(0))?,
            0,
            &format!("{what}: SEEK_HOLE"),
        )?;
        let end = seek(fd, SeekFrom::Hole(1 << 20))?;
        // A copy-up keeps holes in coarse steps only.
        check(
            end > 1 << 20 && end <= 2 << 20,
            &format!("{what}: the hole behind the data"),
        )?;
        fails(seek(fd, SeekFrom::Data(3 << 20)), Errno::NXIO, what)?;
        fails(seek(fd, SeekFrom::Current(-(9 << 20))), Errno::INVAL, what)?;
        Ok(())
    };
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    look(&r, "lower")?;
    let w = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&w, b"X", 1 << 20)?;
    look(&w, "upper")?;
    look(&r, "upper through the old descriptor")
}

const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;

/// The number of extents of a file.
pub fn extents(fd: &OwnedFd) -> Sys<u32> {
    // struct fiemap without room for extents only counts them.
    let mut arg = [0u64; 4];
    arg[1] = u64::MAX;
    arg[2] = 1; // FIEMAP_FLAG_SYNC
                // SAFETY: `arg` is struct fiemap.
    sys::ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &mut arg)
    }))?;
    Ok((arg[2] >> 32) as u32)
}

fn fiemap(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let fd = sys::open(&u.l("f"), OFlags::CREATE | OFlags::RDWR)?;
    for at in [0u64, 1 << 20, 2 << 20] {
        rustix::io::pwrite(&fd, &pattern(4096), at)?;
    }
    rustix::fs::fsync(&fd)?;
    drop(fd);
    u.mount()?;
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    same(extents(&r)?, 3, "extents of the lower file")?;
    let w = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&w, &pattern(4096), 3 << 20)?;
    rustix::fs::fsync(&w)?;
    let real = extents(&sys::open(&u.u("f"), OFlags::RDONLY)?)?;
    same(extents(&w)?, real, "extents of the copy")?;
    same(extents(&r)?, real, "through the old descriptor")?;
    same(
        extents(&sys::open(&u.l("f"), OFlags::RDONLY)?)?,
        3,
        "extents of the lower file",
    )
}

fn fiemap_unsupported(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    let r = sys::open(&u.m("src"), OFlags::RDONLY)?;
    fails(extents(&r), Errno::OPNOTSUPP, "FIEMAP on tmpfs")
}

fn fadvise_and_readahead(ctx: &Ctx) -> Res {
    use rustix::fs::Advice::*;
    let u = pair(ctx)?;
    sys::write(&u.m("up"), pattern(8192))?;
    for n in ["src", "up"] {
        let fd = sys::open(&u.m(n), OFlags::RDONLY)?;
        for a in [Normal, Sequential, Random, WillNeed, DontNeed, NoReuse] {
            works(rustix::fs::fadvise(&fd, 0, None, a), "fadvise")?;
        }
        // SAFETY: no memory is involved.
        let r = unsafe { libc::readahead(fd.as_raw_fd(), 0, 8192) } as i64;
        works(sys::ret(r), "readahead")?;
        check(sys::read(&u.m(n))?.len() > 4096, "content after advice")?;
    }
    // SAFETY: as above.
    let fd = sys::open(&u.m("src"), OFlags::RDONLY)?;
    let bad = unsafe { libc::posix_fadvise(fd.as_raw_fd(), 0, 0, 99) };
    same(bad, Errno::INVAL.raw_os_error(), "an unknown advice")
}

fn unknown_ioctl(ctx: &Ctx) -> Res {
    let u = pair(ctx)?;
    for (n, flags) in [
        ("src", OFlags::RDONLY),
        ("dst", OFlags::RDWR),
        (".", OFlags::RDONLY),
    ] {
        let fd = sys::open(&u.m(n), flags)?;
        // SAFETY: nobody takes this number.
        let r = sys::ret(i64::from(unsafe {
            libc::ioctl(fd.as_raw_fd(), 0x1234_5678 as libc::c_ulong, 0)
        }));
        fails(r, Errno::NOTTY, n)?;
    }
    Ok(())
}

tests! {
    Tmpfs: splice_both_ways, splice_uses_position, vmsplice_to_file, tee_then_splice, sendfile,
        copy_range, copy_range_within_a_file,
        copy_range_between_unions, copy_range_errnos, clone_refused_without_reflink,
        fallocate_modes, fallocate_errnos, seek_data_and_hole, fiemap_unsupported,
        fadvise_and_readahead, unknown_ioctl;
    Ext4: splice_both_ways, copy_range, clone_refused_without_reflink, fallocate_modes,
        fallocate_moves, seek_data_and_hole, fiemap, fadvise_and_readahead;
    Xfs: cloning, clone_out_of_the_mount, deduping, reflinked_copy_up, fallocate_modes,
        seek_data_and_hole, fiemap, copy_range;
    Btrfs: cloning, reflinked_copy_up, copy_range;
}
