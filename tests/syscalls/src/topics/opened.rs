// SPDX-License-Identifier: GPL-2.0
//! Open files as their file is copied up: numbers that stay, mappings that see writes, flags and
//! ioctls that the layer's filesystem answers.

use super::fileattr;
use super::limits::small_upper;
use super::mmap::Map;
use super::rw::pattern;
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::{is_overlayfs, Union};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{fcntl_setfl, fstat, OFlags};
use rustix::io::{Errno, IoSlice, ReadWriteFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::path::Path;

const PAGE: usize = 4096;
const FIGETBSZ: libc::c_ulong = 2;
const GETVERSION: libc::c_ulong = 0x8008_7601;
const RWF_NOAPPEND: u32 = 0x20;

fn number(fd: &OwnedFd) -> Sys<(u64, u64)> {
    fstat(fd).map(|s| (s.st_dev, s.st_ino))
}

/// Programs compare what `stat` and `fstat` say, to see that nobody took the file away (SQLite).
fn a_link_keeps_its_number(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for flags in [
        OFlags::RDWR,
        OFlags::WRONLY,
        OFlags::WRONLY | OFlags::APPEND,
    ] {
        let (f, other) = (u.l("f"), u.l("other"));
        sys::write(&f, "0123456789")?;
        std::fs::hard_link(&f, &other)?;
        u.mount()?;
        let fd = sys::open(&u.m("f"), flags)?;
        let before = number(&fd)?;
        rustix::io::write(&fd, b"x")?;
        same(number(&fd)?, before, "the number after the first write")?;
        let s = rustix::fs::stat(u.m("f"))?;
        same((s.st_dev, s.st_ino), before, "that of the name")?;
        same(sys::read(&u.m("other"))?, b"0123456789", "the other link")?;
        drop(fd);
        u.umount()?;
        for p in [f, other, u.u("f")] {
            std::fs::remove_file(p)?;
        }
    }
    Ok(())
}

const KINDS: [MapFlags; 2] = [MapFlags::SHARED, MapFlags::PRIVATE];

fn map(fd: &OwnedFd, kind: MapFlags) -> Result<Map, Errno> {
    Map::new(fd, 2 * PAGE, ProtFlags::READ, kind)
}

/// A writer of a file in `u` that has not written, and a reader opened after it.
fn opened(u: &Union, name: &str) -> Res<(OwnedFd, OwnedFd)> {
    let writer = sys::open(&u.m(name), OFlags::RDWR)?;
    let reader = sys::open(&u.m(name), OFlags::RDONLY)?;
    Ok((writer, reader))
}

/// As above, with two pages in the file.
fn written_to(ctx: &Ctx) -> Res<(Union, OwnedFd, OwnedFd)> {
    let u = Union::with_file(ctx, pattern(2 * PAGE))?;
    let (writer, reader) = opened(&u, "f")?;
    Ok((u, writer, reader))
}

/// Does it with a file for each kind of mapping.
fn each_kind(ctx: &Ctx, f: impl Fn(&Union, &str, MapFlags, &str) -> Res) -> Res {
    let u = Union::new(ctx)?;
    for n in ["0", "1"] {
        sys::write(&u.l(n), pattern(2 * PAGE))?;
    }
    u.mount()?;
    for (n, kind) in ["0", "1"].into_iter().zip(KINDS) {
        f(&u, n, kind, &format!("{kind:?}"))?;
    }
    Ok(())
}

fn a_reader_s_mapping_sees_the_first_write(ctx: &Ctx) -> Res {
    each_kind(ctx, |u, n, kind, what| {
        let (writer, reader) = opened(u, n)?;
        let m = map(&reader, kind)?;
        check(m.get(0, PAGE) == pattern(PAGE), "the first page, read")?;
        rustix::io::pwrite(&writer, b"FIRST", 0)?;
        rustix::io::pwrite(&writer, b"SECOND", PAGE as u64)?;
        same(m.get(0, 5), b"FIRST", what)?;
        same(m.get(PAGE, 6), b"SECOND", what)
    })
}

fn the_writer_s_mapping_sees_its_first_write(ctx: &Ctx) -> Res {
    each_kind(ctx, |u, n, kind, what| {
        let (writer, _) = opened(u, n)?;
        let m = map(&writer, kind)?;
        check(m.get(0, PAGE) == pattern(PAGE), "the first page, read")?;
        rustix::io::pwrite(&writer, b"FIRST", 0)?;
        same(m.get(0, 5), b"FIRST", what)
    })
}

fn a_private_page_that_was_written_stays(ctx: &Ctx) -> Res {
    let (_u, writer, _) = written_to(ctx)?;
    let rw = ProtFlags::READ | ProtFlags::WRITE;
    let m = Map::new(&writer, 2 * PAGE, rw, MapFlags::PRIVATE)?;
    m.put(0, b"mine");
    rustix::io::pwrite(&writer, b"FIRST", 0)?;
    rustix::io::pwrite(&writer, b"SECOND", PAGE as u64)?;
    same(m.get(0, 4), b"mine", "the page of one's own")?;
    same(m.get(PAGE, 6), b"SECOND", "the other")
}

fn a_reader_maps_after_the_first_write(ctx: &Ctx) -> Res {
    let (_u, writer, reader) = written_to(ctx)?;
    rustix::io::pwrite(&writer, b"FIRST", 0)?;
    for kind in KINDS {
        same(
            map(&reader, kind)?.get(0, 5),
            b"FIRST",
            &format!("{kind:?}"),
        )?;
    }
    Ok(())
}

/// As overlayfs has it: what is mapped before anybody opens the file for writing is the lower file.
fn a_mapping_from_before_stays(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, pattern(2 * PAGE))?;
    let reader = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let m = map(&reader, MapFlags::SHARED)?;
    let writer = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&writer, b"FIRST", 0)?;
    check(m.get(0, PAGE) == pattern(PAGE), "the lower file")?;
    same(sys::pread(&reader, 5, 0)?, b"FIRST", "what is read")
}

fn a_writer_that_left_copies_nothing_up(ctx: &Ctx) -> Res {
    let (u, writer, reader) = written_to(ctx)?;
    drop(writer);
    for kind in KINDS {
        check(
            map(&reader, kind)?.get(0, PAGE) == pattern(PAGE),
            "the content",
        )?;
    }
    super::lazy::opened_only(&u, "f", "mapped")
}

/// What only reads is not refused for want of room.
fn a_reader_maps_without_room(ctx: &Ctx) -> Res {
    if is_overlayfs() {
        return Err(Failure::skip("the writer could not open the file"));
    }
    let size = 6 << 20;
    let u = small_upper(ctx, "size=2m")?;
    sys::write(&u.l("f"), pattern(size))?;
    u.mount()?;
    let writer = sys::open(&u.m("f"), OFlags::RDWR)?;
    let reader = sys::open(&u.m("f"), OFlags::RDONLY)?;
    for kind in KINDS {
        let m = works(map(&reader, kind), "a reader's mapping")?;
        check(m.get(0, PAGE) == pattern(PAGE), "what it maps")?;
    }
    works(map(&writer, MapFlags::PRIVATE), "the writer's, private")?;
    let shared = map(&writer, MapFlags::SHARED);
    fails(shared, Errno::NOSPC, "the writer's, shared")?;
    u.work_is_empty()
}

/// Appending is a matter of the open file of the mount. overlayfs's real file appends, too, whatever
/// the request says.
fn appending_is_not_the_layer_s(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "0123456789")?;
    sys::write(&u.u("up"), "0123456789")?;
    u.mount()?;
    let here = ReadWriteFlags::from_bits_retain(RWF_NOAPPEND);
    let in_place = |p: &Path| -> Res<Vec<u8>> {
        let fd = sys::open(p, OFlags::RDWR | OFlags::APPEND)?;
        rustix::io::write(&fd, b"end")?;
        rustix::io::pwritev2(&fd, &[IoSlice::new(b"HERE")], 2, here)?;
        rustix::io::pwritev2(&fd, &[IoSlice::new(b"!")], 0, ReadWriteFlags::empty())?;
        fcntl_setfl(&fd, OFlags::empty())?;
        rustix::io::pwrite(&fd, b"A", 0)?;
        fcntl_setfl(&fd, OFlags::APPEND)?;
        rustix::io::pwrite(&fd, b"?", 0)?;
        Ok(sys::read(p)?)
    };
    sys::write(&ctx.root.join("raw"), "0123456789")?;
    let raw = in_place(&ctx.root.join("raw"))?;
    same(&raw, b"A1HERE6789end!?", "on the raw filesystem")?;
    for n in ["low", "up"] {
        let seen = in_place(&u.m(n))?;
        match is_overlayfs() {
            true => same(&seen, b"A123456789endHERE!?", n)?,
            false => same(&seen, &raw, n)?,
        }
    }
    Ok(())
}

/// Nobody but the layer's owner made it append-only: it is opened so that it can be appended to.
fn an_append_only_layer(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.u("f"), "0123456789")?;
    // The other flags stay: without that of extents ext4 would change how the file is stored.
    fileattr::change(&u.u("f"), fileattr::APPEND, 0)?;
    u.mount()?;
    let seen = (|| {
        let fd = works(
            sys::open(&u.m("f"), OFlags::WRONLY | OFlags::APPEND),
            "open for appending",
        )?;
        rustix::io::write(&fd, b"+")?;
        fails(fcntl_setfl(&fd, OFlags::empty()), Errno::PERM, "F_SETFL")?;
        fails(
            sys::open(&u.m("f"), OFlags::WRONLY),
            Errno::PERM,
            "open for writing",
        )?;
        same(sys::read(&u.m("f"))?, b"0123456789+", "the content")
    })();
    fileattr::change(&u.u("f"), 0, fileattr::APPEND)?;
    seen
}

pub(super) fn mount_ramfs(at: &Path) -> Res {
    sys::mkdir(at)?;
    Ok(rustix::mount::mount(
        "ramfs",
        at,
        "ramfs",
        rustix::mount::MountFlags::empty(),
        None,
    )?)
}

/// ramfs has no direct I/O. overlayfs lets F_SETFL pass and fails the reads.
fn direct_io_that_the_layer_lacks(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    mount_ramfs(&ctx.tmp.join("ram"))?;
    u.lowers[0] = ctx.tmp.join("ram/l");
    sys::mkdir(&u.lowers[0])?;
    sys::write(&u.l("f"), pattern(PAGE))?;
    sys::write(&u.u("up"), pattern(PAGE))?;
    u.mount()?;
    fails(
        sys::open(&u.m("f"), OFlags::RDONLY | OFlags::DIRECT),
        Errno::INVAL,
        "open with O_DIRECT",
    )?;
    let reader = sys::open(&u.m("f"), OFlags::RDONLY)?;
    if !is_overlayfs() {
        fails(
            fcntl_setfl(&reader, OFlags::DIRECT),
            Errno::INVAL,
            "F_SETFL",
        )?;
        check(
            sys::pread(&reader, PAGE, 0)? == pattern(PAGE),
            "what is read then",
        )?;
    }
    // Upper's filesystem will have the file by then.
    for n in ["f", "up"] {
        let writer = sys::open(&u.m(n), OFlags::RDWR)?;
        works(fcntl_setfl(&writer, OFlags::DIRECT), n)?;
        let page = super::aio::Page([7; 4096]);
        same(rustix::io::pwrite(&writer, &page.0, 0)?, PAGE, n)?;
    }
    let unnamed = sys::open_mode(&u.m(""), OFlags::RDWR | OFlags::TMPFILE, 0o600)?;
    works(fcntl_setfl(&unnamed, OFlags::DIRECT), "an unnamed file")
}

fn direct_io_that_upper_lacks(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    mount_ramfs(&ctx.tmp.join("ram"))?;
    u.upper = Some(ctx.tmp.join("ram/u"));
    u.work = ctx.tmp.join("ram/w");
    sys::mkdir(&u.u(""))?;
    sys::mkdir(&u.work)?;
    sys::write(&u.l("f"), pattern(PAGE))?;
    u.mount()?;
    let reader = sys::open(&u.m("f"), OFlags::RDONLY)?;
    works(fcntl_setfl(&reader, OFlags::DIRECT), "F_SETFL of a reader")?;
    if is_overlayfs() {
        return Ok(());
    }
    let all = OFlags::RDWR | OFlags::CREATE;
    let files = [
        sys::open(&u.m("f"), OFlags::RDWR)?,
        sys::open_mode(&u.m("new"), all, 0o600)?,
        sys::open_mode(&u.m(""), OFlags::RDWR | OFlags::TMPFILE, 0o600)?,
    ];
    for fd in files {
        fails(
            fcntl_setfl(&fd, OFlags::DIRECT),
            Errno::INVAL,
            "F_SETFL of a writer",
        )?;
        same(rustix::io::pwrite(&fd, b"x", 0)?, 1, "bytes written then")?;
    }
    Ok(())
}

/// What an ioctl stores in an `int`.
fn asked(p: &Path, what: libc::c_ulong) -> Sys<u32> {
    let fd = sys::open(p, OFlags::RDONLY)?;
    let mut v = [0u32; 2];
    // SAFETY: `v` outlives the call and is as large as the command says.
    sys::ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), what, &mut v)
    }))?;
    Ok(v[0])
}

/// overlayfs has no block size.
fn block_size(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    u.mount()?;
    for n in ["low", "up", ""] {
        if is_overlayfs() {
            fails(asked(&u.m(n), FIGETBSZ), Errno::INVAL, n)?;
        } else {
            same(asked(&u.m(n), FIGETBSZ)?, asked(&u.u(""), FIGETBSZ)?, n)?;
        }
    }
    Ok(())
}

/// overlayfs has no such ioctl.
fn generation(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["low", "lowdir/f"] {
        sys::mkdir(&u.l("lowdir")).or_else(|e| match e {
            Errno::EXIST => Ok(()),
            e => Err(e),
        })?;
        sys::write(&u.l(n), "x")?;
    }
    sys::write(&u.u("up"), "x")?;
    sys::mkdir(&u.u("updir"))?;
    u.mount()?;
    for (n, layer) in [
        ("low", u.l("low")),
        ("lowdir", u.l("lowdir")),
        ("up", u.u("up")),
        ("updir", u.u("updir")),
    ] {
        let seen = asked(&u.m(n), GETVERSION);
        match asked(&layer, GETVERSION) {
            Ok(_) if is_overlayfs() => fails(seen, Errno::NOTTY, n)?,
            Ok(of_layer) => same(works(seen, n)?, of_layer, n)?,
            Err(e) => fails(seen, e, n)?,
        }
    }
    if is_overlayfs() || ctx.fs == Fs::Tmpfs {
        return Ok(());
    }
    let fd = sys::open(&u.m("low"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"y", 0)?;
    same(
        asked(&u.m("low"), GETVERSION)?,
        asked(&u.l("low"), GETVERSION)?,
        "that of a copied-up file, with the number it has",
    )
}

tests! {
    Tmpfs: a_link_keeps_its_number, a_reader_s_mapping_sees_the_first_write,
        the_writer_s_mapping_sees_its_first_write, a_private_page_that_was_written_stays,
        a_reader_maps_after_the_first_write, a_mapping_from_before_stays,
        a_writer_that_left_copies_nothing_up, a_reader_maps_without_room,
        appending_is_not_the_layer_s, direct_io_that_the_layer_lacks, direct_io_that_upper_lacks,
        block_size, generation;
    Ext4: a_link_keeps_its_number, a_reader_s_mapping_sees_the_first_write,
        appending_is_not_the_layer_s, an_append_only_layer, direct_io_that_the_layer_lacks,
        block_size, generation;
    Xfs: a_link_keeps_its_number, appending_is_not_the_layer_s, block_size, generation;
    Btrfs: a_link_keeps_its_number, an_append_only_layer, block_size, generation;
}
