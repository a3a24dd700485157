// SPDX-License-Identifier: GPL-2.0
//! The first write to a lower file that is open: when it fails, when it is
//! interrupted, and when others change the tree at the same moment.

use super::aio;
use super::lazy::opened_only;
use super::limits::small_upper;
use super::locks::{lease, posix};
use super::mmap::Map;
use super::rw::pattern;
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::{is_overlayfs, Union};
use io_uring::{opcode, types};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::mount::{mount_remount, MountFlags};
use std::path::Path;
use std::sync::{Arc, Barrier};

const RW: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
const NONE: RenameFlags = RenameFlags::empty();
const SIZE: usize = 6 << 20;

/// Nothing is left of what was tried.
#[track_caller]
fn untouched(u: &Union, fd: &OwnedFd) -> Res {
    same(sys::names(&u.u(""))?, Vec::<String>::new(), "upper")?;
    u.work_is_empty()?;
    check(
        sys::pread(fd, SIZE, 0)? == pattern(SIZE),
        "read through the descriptor",
    )?;
    check(sys::read(&u.m("f"))? == pattern(SIZE), "read by name")
}

fn room(u: &Union, opts: &std::ffi::CStr) -> Res {
    let small = u.work.parent().unwrap_or(Path::new("/"));
    Ok(mount_remount(small, MountFlags::empty(), opts)?)
}

/// A large lower file that is open, above an upper without the room for it. `None`
/// where opening it has failed for that reason.
fn without_room(ctx: &Ctx) -> Res<Option<(Union, OwnedFd)>> {
    without_room_but(ctx, "")
}

/// The same with mount options.
fn without_room_but(ctx: &Ctx, options: &str) -> Res<Option<(Union, OwnedFd)>> {
    let mut u = small_upper(ctx, "size=2m")?;
    u.options = options.to_owned();
    sys::write(&u.l("f"), pattern(SIZE))?;
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR);
    if is_overlayfs() {
        fails(fd, Errno::NOSPC, "open without room")?;
        return Ok(None);
    }
    Ok(Some((u, works(fd, "open")?)))
}

/// A whiteout finds no room: the name stays, and what is open can be written once there is some.
fn unlink_without_room(ctx: &Ctx) -> Res {
    let u = small_upper(ctx, "nr_inodes=40")?;
    sys::write(&u.l("f"), pattern(100))?;
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let mut full = Vec::new();
    while let Ok(()) = sys::write(&u.u(&format!("filler{}", full.len())), "") {
        full.push(u.u(&format!("filler{}", full.len())));
    }
    fails(rustix::fs::unlink(u.m("f")), Errno::NOSPC, "unlink")?;
    for path in full {
        rustix::fs::unlink(path)?;
    }
    same(
        works(rustix::io::pwrite(&fd, b"X", 0), "write")?,
        1,
        "bytes",
    )?;
    check(
        sys::read(&u.m("f"))?.starts_with(b"X"),
        "the file by its name",
    )
}

fn no_space(ctx: &Ctx) -> Res {
    let Some((u, fd)) = without_room(ctx)? else {
        return Ok(());
    };
    let plain = FallocateFlags::empty();
    for _ in 0..2 {
        fails(rustix::io::pwrite(&fd, b"X", 0), Errno::NOSPC, "pwrite")?;
        untouched(&u, &fd)?;
        fails(
            rustix::fs::fallocate(&fd, plain, 0, 1),
            Errno::NOSPC,
            "fallocate",
        )?;
        fails(
            rustix::fs::ftruncate(&fd, SIZE as u64 - 1),
            Errno::NOSPC,
            "ftruncate",
        )?;
        let (rd, wr) = rustix::pipe::pipe()?;
        rustix::io::write(&wr, b"X")?;
        let flags = rustix::pipe::SpliceFlags::empty();
        let n = rustix::pipe::splice(&rd, None, &fd, None, 1, flags);
        fails(n, Errno::NOSPC, "splice")?;
        untouched(&u, &fd)?;
    }
    let async_error = -Errno::NOSPC.raw_os_error();
    let context = aio::Aio::new()?;
    let mut blocks = [aio::block(aio::PWRITE, &fd, 0, b"X".as_ptr(), 1, 0)];
    same(context.submit(&mut blocks)?, 1, "blocks taken")?;
    same(context.collect(1)?[0].res, i64::from(async_error), "AIO")?;
    let mut r = aio::ring()?;
    let write = opcode::Write::new(types::Fd(fd.as_raw_fd()), b"X".as_ptr(), 1);
    aio::push(&mut r, &write.offset(0).build())?;
    same(aio::results(&mut r, 1)?, [async_error], "io_uring")?;
    untouched(&u, &fd)?;
    room(&u, c"size=20m")?;
    works(rustix::io::pwrite(&fd, b"X", 0), "pwrite with room")?;
    let mut want = pattern(SIZE);
    want[0] = b'X';
    check(sys::read(&u.u("f"))? == want, "the copy")?;
    u.work_is_empty()
}

fn no_space_for_a_mapping(ctx: &Ctx) -> Res {
    let Some((u, fd)) = without_room(ctx)? else {
        return Ok(());
    };
    let old = Map::anonymous(3 * 4096)?;
    old.put(0, &[1; 3 * 4096]);
    for prot in [RW, ProtFlags::READ] {
        let m = Map::new(&fd, 4096, prot, MapFlags::SHARED).map(drop);
        fails(m, Errno::NOSPC, "mmap")?;
        let over = old.replace(4096, 4096, &fd, MapFlags::SHARED | MapFlags::FIXED);
        fails(over, Errno::NOSPC, "mmap over another mapping")?;
        check(old.get(0, 3 * 4096) == [1; 3 * 4096], "the other mapping")?;
        untouched(&u, &fd)?;
    }
    let m = Map::new(&fd, 4096, RW, MapFlags::PRIVATE)?;
    check(m.get(0, 4096) == pattern(4096), "a private mapping")?;
    room(&u, c"size=20m")?;
    let m = works(Map::new(&fd, 4096, RW, MapFlags::SHARED), "mmap with room")?;
    m.put(0, b"X");
    same(&sys::pread(&fd, 1, 0)?, b"X", "read through the descriptor")?;
    same(&sys::read(&u.u("f"))?[..1], b"X", "the copy")?;
    u.work_is_empty()
}

/// The same of a file that upper has without its data, and that is open there.
fn no_space_for_a_mapping_of_a_bare_file(ctx: &Ctx) -> Res {
    let Some((u, fd)) = without_room_but(ctx, "metacopy=on")? else {
        return Ok(());
    };
    rustix::fs::chmod(u.m("f"), Mode::RUSR | Mode::WUSR)?;
    rustix::fs::fsync(&fd)?;
    for _ in 0..2 {
        let m = Map::new(&fd, 4096, RW, MapFlags::SHARED).map(drop);
        fails(m, Errno::NOSPC, "mmap")?;
        let m = Map::new(&fd, 4096, RW, MapFlags::PRIVATE)?;
        check(m.get(0, 4096) == pattern(4096), "a private mapping")?;
    }
    room(&u, c"size=20m")?;
    let m = works(Map::new(&fd, 4096, RW, MapFlags::SHARED), "mmap with room")?;
    m.put(0, b"X");
    same(&sys::read(&u.u("f"))?[..1], b"X", "the copy")
}

/// What one thread's mapping meets is no concern of another's.
fn no_space_for_many_mappings(ctx: &Ctx) -> Res {
    let Some((u, fd)) = without_room(ctx)? else {
        return Ok(());
    };
    let fd = Arc::new(fd);
    let start = Arc::new(Barrier::new(4));
    let mut hands = Vec::new();
    for i in 0..4 {
        let (fd, start) = (fd.clone(), start.clone());
        hands.push(std::thread::spawn(move || -> Res {
            start.wait();
            for _ in 0..3 {
                let m = Map::new(&fd, 4096, RW, MapFlags::SHARED).map(drop);
                fails(m, Errno::NOSPC, "a shared mapping")?;
            }
            for _ in 0..i * 100 {
                let m = Map::new(&fd, 4096, RW, MapFlags::PRIVATE).map(drop);
                works(m, "a private mapping")?;
            }
            Ok(())
        }));
    }
    for h in hands {
        h.join()
            .map_err(|_| Failure::new("a thread died".to_owned()))??;
    }
    untouched(&u, &fd)?;
    room(&u, c"size=20m")?;
    works(Map::new(&fd, 4096, RW, MapFlags::SHARED), "mmap with room").map(drop)
}

fn read_only_upper(ctx: &Ctx) -> Res {
    let u = small_upper(ctx, "size=20m")?;
    sys::write(&u.l("f"), pattern(SIZE))?;
    u.mount()?;
    let small = ctx.tmp.join("small");
    works(
        mount_remount(&small, MountFlags::RDONLY, c""),
        "upper read-only",
    )?;
    for flags in [OFlags::RDWR, OFlags::WRONLY, OFlags::WRONLY | OFlags::TRUNC] {
        let what = format!("open with {flags:?}");
        fails(sys::open(&u.m("f"), flags), Errno::ROFS, &what)?;
    }
    let r = works(sys::open(&u.m("f"), OFlags::RDONLY), "open for reading")?;
    untouched(&u, &r)?;
    mount_remount(&small, MountFlags::empty(), c"")?;
    let fd = works(sys::open(&u.m("f"), OFlags::RDWR), "open, writable again")?;
    works(rustix::io::pwrite(&fd, b"X", 0), "write")?;
    same(&sys::read(&u.u("f"))?[..1], b"X", "the copy")
}

fn running_program(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::copy("/proc/self/exe", u.l("prog"))?;
    sys::chmod(&u.l("prog"), 0o755)?;
    u.mount()?;
    let mut c = std::process::Command::new(u.m("prog"))
        .arg("--wait")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut word = [0u8; 5];
    if let Some(out) = &mut c.stdout {
        std::io::Read::read_exact(out, &mut word)?;
    }
    let opens = [OFlags::RDWR, OFlags::WRONLY, OFlags::WRONLY | OFlags::TRUNC]
        .map(|flags| sys::open(&u.m("prog"), flags).map(drop));
    let copied = sys::exists(&u.u("prog"));
    c.kill()?;
    c.wait()?;
    for open in opens {
        fails(open, Errno::TXTBSY, "open for writing of a running program")?;
    }
    check(!copied, "a refused open copied the program up")?;
    let fd = works(sys::open(&u.m("prog"), OFlags::RDWR), "open afterwards")?;
    opened_only(&u, "prog", "opened afterwards")?;
    works(rustix::io::pwrite(&fd, b"\x7f", 0), "write").map(drop)
}

fn locks_stay(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "0123456789")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let ofd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::fs::flock(&fd, FlockOperation::LockExclusive)?;
    posix(&fd, libc::F_SETLK, libc::F_WRLCK, 0, 5)?;
    posix(&ofd, libc::F_OFD_SETLK, libc::F_WRLCK, 5, 5)?;
    let path = u.m("f");
    let all_held = || {
        sys::in_child(|| {
            let other = sys::open(&path, OFlags::RDWR)?;
            let lock = rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared);
            fails(lock, Errno::AGAIN, "flock")?;
            let lock = |start| posix(&other, libc::F_SETLK, libc::F_RDLCK, start, 1).map(drop);
            fails(lock(0), Errno::AGAIN, "the POSIX lock")?;
            fails(lock(5), Errno::AGAIN, "the OFD lock")
        })
    };
    all_held()?;
    opened_only(&u, "f", "locked")?;
    rustix::io::pwrite(&fd, b"X", 0)?;
    check(sys::exists(&u.u("f")), "the first write copies up")?;
    all_held()?;
    rustix::io::pwrite(&ofd, b"Y", 1)?;
    all_held()?;
    rustix::fs::flock(&fd, FlockOperation::Unlock)?;
    let other = sys::open(&path, OFlags::RDONLY)?;
    let lock = rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared);
    works(lock, "flock once it is given back")
}

fn lease_of_the_writer(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "0123456789")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    works(
        lease(&fd, libc::F_WRLCK),
        "a write lease of the only opener",
    )?;
    // Writing with it is what it is for.
    sys::block_signal(libc::SIGIO)?;
    rustix::io::pwrite(&fd, b"X", 0)?;
    same(
        lease(&fd, libc::F_WRLCK)?,
        0,
        "the lease after the first write",
    )?;
    let open = sys::open(&u.m("f"), OFlags::RDONLY | OFlags::NONBLOCK);
    fails(open, Errno::AGAIN, "opening a leased file")?;
    lease(&fd, libc::F_UNLCK)?;
    same(sys::read(&u.m("f"))?, b"X123456789", "content")
}

// ---- the tree changes between open and first write --------------------------

/// What holds for a file without a name: it can be used, and nothing shows it.
#[track_caller]
fn used_without_a_name(u: &Union, fd: &OwnedFd, ino: u64) -> Res {
    let stat = || -> Res<_> {
        let s = rustix::fs::fstat(fd)?;
        Ok((s.st_nlink, s.st_ino))
    };
    same(stat()?, (0, ino), "links and inode number before the write")?;
    same(rustix::io::pwrite(fd, b"FIRST", 0)?, 5, "bytes written")?;
    same(stat()?, (0, ino), "links and inode number after it")?;
    same(sys::pread(fd, 20, 0)?, b"FIRST data", "read back")?;
    rustix::fs::ftruncate(fd, 7)?;
    rustix::fs::fchmod(fd, rustix::fs::Mode::RUSR)?;
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(fd, "trusted.x", b"y", none)?;
    same(rustix::fs::fstat(fd)?.st_size, 7, "size")?;
    same(rustix::fs::fstat(fd)?.st_mode & 0o7777, 0o400, "mode")?;
    works(rustix::fs::fsync(fd), "fsync")?;
    u.work_is_empty()
}

fn removed(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "lower data")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let ino = rustix::fs::fstat(&fd)?.st_ino;
    std::fs::remove_file(u.m("f"))?;
    used_without_a_name(&u, &fd, ino)?;
    same(
        sys::names(&u.m(""))?,
        Vec::<String>::new(),
        "names in the mount",
    )?;
    same(sys::names(&u.u(""))?, ["f"], "names in upper")?;
    check(sys::is_whiteout(&u.u("f")), "a whiteout")?;
    drop(fd);
    u.work_is_empty()?;
    same(sys::read(&u.l("f"))?, b"lower data", "the lower file")
}

fn replaced(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "lower data")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let ino = rustix::fs::fstat(&fd)?.st_ino;
    sys::write(&u.m("new"), "new")?;
    sys::rename(&u.m("new"), &u.m("f"), NONE)?;
    used_without_a_name(&u, &fd, ino)?;
    same(sys::names(&u.m(""))?, ["f"], "names in the mount")?;
    same(sys::names(&u.u(""))?, ["f"], "names in upper")?;
    same(sys::read(&u.m("f"))?, b"new", "what took its place")?;
    drop(fd);
    u.work_is_empty()
}

fn linked_below(ctx: &Ctx) -> Res<(Union, OwnedFd)> {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "lower data")?;
    std::fs::hard_link(u.l("f"), u.l("g"))?;
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    Ok((u, fd))
}

#[track_caller]
fn other_link_is_as_it_was(u: &Union) -> Res {
    same(sys::read(&u.m("g"))?, b"lower data", "the other link")?;
    check(!sys::exists(&u.u("g")), "the other link was copied up")
}

fn linked_and_removed(ctx: &Ctx) -> Res {
    let (u, fd) = linked_below(ctx)?;
    std::fs::remove_file(u.m("f"))?;
    let ino = rustix::fs::fstat(&fd)?.st_ino;
    // overlayfs has broken the link when it was opened.
    if is_overlayfs() {
        same(rustix::fs::fstat(&fd)?.st_nlink, 0, "links")?;
    }
    rustix::io::pwrite(&fd, b"FIRST", 0)?;
    same(
        rustix::fs::fstat(&fd)?.st_nlink,
        0,
        "links after the first write",
    )?;
    if is_overlayfs() {
        same(rustix::fs::fstat(&fd)?.st_ino, ino, "inode number")?;
    }
    same(sys::pread(&fd, 20, 0)?, b"FIRST data", "read back")?;
    let m = Map::new(&fd, 4096, RW, MapFlags::SHARED)?;
    m.put(6, b"DATA");
    same(sys::pread(&fd, 20, 0)?, b"FIRST DATA", "mapped")?;
    same(sys::names(&u.u(""))?, ["f"], "names in upper")?;
    check(sys::is_whiteout(&u.u("f")), "a whiteout")?;
    other_link_is_as_it_was(&u)?;
    drop((m, fd));
    u.work_is_empty()
}

fn linked_and_renamed(ctx: &Ctx) -> Res {
    let (u, fd) = linked_below(ctx)?;
    sys::rename(&u.m("f"), &u.m("h"), NONE)?;
    rustix::io::pwrite(&fd, b"FIRST", 0)?;
    same(sys::read(&u.m("h"))?, b"FIRST data", "the renamed one")?;
    same(sys::names(&u.m(""))?, ["g", "h"], "names")?;
    other_link_is_as_it_was(&u)?;
    u.work_is_empty()
}

fn linked_and_replaced(ctx: &Ctx) -> Res {
    let (u, fd) = linked_below(ctx)?;
    sys::write(&u.m("new"), "new")?;
    sys::rename(&u.m("new"), &u.m("f"), NONE)?;
    rustix::io::pwrite(&fd, b"FIRST", 0)?;
    same(sys::pread(&fd, 20, 0)?, b"FIRST data", "read back")?;
    same(sys::read(&u.m("f"))?, b"new", "what took its place")?;
    other_link_is_as_it_was(&u)?;
    drop(fd);
    u.work_is_empty()
}

fn linked_in_the_union(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "lower data")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    std::fs::hard_link(u.m("f"), u.m("g"))?;
    std::fs::remove_file(u.m("f"))?;
    rustix::io::pwrite(&fd, b"FIRST", 0)?;
    same(sys::read(&u.m("g"))?, b"FIRST data", "the link")?;
    same(rustix::fs::fstat(&fd)?.st_nlink, 1, "links")?;
    same(sys::names(&u.m(""))?, ["g"], "names")
}

fn moved_with_its_directory(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("d"))?;
    sys::write(&u.l("d/f"), "lower data")?;
    u.mount()?;
    let fd = sys::open(&u.m("d/f"), OFlags::RDWR)?;
    // A lower directory can't be renamed.
    fails(
        sys::rename(&u.m("d"), &u.m("e"), NONE),
        Errno::XDEV,
        "a lower directory",
    )?;
    sys::mkdir(&u.m("new"))?;
    sys::rename(&u.m("d/f"), &u.m("new/f"), NONE)?;
    sys::rename(&u.m("new"), &u.m("newer"), NONE)?;
    rustix::io::pwrite(&fd, b"FIRST", 0)?;
    same(
        sys::read(&u.m("newer/f"))?,
        b"FIRST data",
        "where it is now",
    )?;
    same(sys::names(&u.m(""))?, ["d", "newer"], "names")?;
    same(
        sys::names(&u.m("d"))?,
        Vec::<String>::new(),
        "names where it was",
    )?;
    u.work_is_empty()
}

fn exchanged(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "lower data")?;
    sys::write(&u.l("g"), "other data")?;
    u.mount()?;
    let f = sys::open(&u.m("f"), OFlags::RDWR)?;
    let g = sys::open(&u.m("g"), OFlags::RDWR)?;
    sys::rename(&u.m("f"), &u.m("g"), RenameFlags::EXCHANGE)?;
    rustix::io::pwrite(&f, b"F", 0)?;
    rustix::io::pwrite(&g, b"G", 0)?;
    same(
        sys::read(&u.m("g"))?,
        b"Fower data",
        "the first under its new name",
    )?;
    same(sys::read(&u.m("f"))?, b"Gther data", "the second")
}

// ---- and at the same moment -------------------------------------------------

/// Runs `change` on each of many open lower files at the moment of its first write.
fn at_once(
    ctx: &Ctx,
    map: bool,
    change: fn(&Union, &str) -> Sys<()>,
) -> Res<(Union, Vec<OwnedFd>)> {
    const N: usize = 40;
    let u = Union::new(ctx)?;
    for i in 0..N {
        sys::write(&u.l(&format!("f{i}")), pattern(20_000))?;
    }
    u.mount()?;
    let u = Arc::new(u);
    let mut fds = Vec::new();
    for i in 0..N {
        let name = format!("f{i}");
        let fd = Arc::new(sys::open(&u.m(&name), OFlags::RDWR)?);
        let start = Arc::new(Barrier::new(2));
        let (fd2, u2, start2) = (fd.clone(), u.clone(), start.clone());
        let writer = std::thread::spawn(move || -> Sys<()> {
            start2.wait();
            if map {
                Map::new(&fd2, 4096, RW, MapFlags::SHARED)?.put(0, b"WRITTEN");
            } else {
                rustix::io::pwrite(&*fd2, b"WRITTEN", 0)?;
            }
            drop(u2);
            Ok(())
        });
        start.wait();
        let changed = change(&u, &name);
        let wrote = writer
            .join()
            .map_err(|_| Failure::new("a thread died".to_owned()))?;
        works(wrote, "the first write")?;
        works(changed, "the change")?;
        let mut want = pattern(20_000);
        want[..7].copy_from_slice(b"WRITTEN");
        check(sys::pread(&fd, 30_000, 0)? == want, "content")?;
        fds.push(Arc::into_inner(fd).ok_or_else(|| Failure::new("still shared".to_owned()))?);
    }
    let u = Arc::into_inner(u).ok_or_else(|| Failure::new("still shared".to_owned()))?;
    Ok((u, fds))
}

fn nothing_but_whiteouts(u: Union, fds: Vec<OwnedFd>) -> Res {
    same(
        sys::names(&u.m(""))?,
        Vec::<String>::new(),
        "names in the mount",
    )?;
    for i in 0..fds.len() {
        check(sys::is_whiteout(&u.u(&format!("f{i}"))), "a whiteout")?;
    }
    drop(fds);
    u.work_is_empty()?;
    u.again()?;
    same(
        sys::names(&u.m(""))?,
        Vec::<String>::new(),
        "after a new mount",
    )
}

fn write_against_unlink(ctx: &Ctx) -> Res {
    let unlink = |u: &Union, n: &str| std::fs::remove_file(u.m(n)).map_err(|e| e.errno());
    let (u, fds) = at_once(ctx, false, unlink)?;
    nothing_but_whiteouts(u, fds)
}

fn mmap_against_unlink(ctx: &Ctx) -> Res {
    let unlink = |u: &Union, n: &str| std::fs::remove_file(u.m(n)).map_err(|e| e.errno());
    let (u, fds) = at_once(ctx, true, unlink)?;
    nothing_but_whiteouts(u, fds)
}

fn write_against_rename(ctx: &Ctx) -> Res {
    let rename = |u: &Union, n: &str| sys::rename(&u.m(n), &u.m(&format!("to-{n}")), NONE);
    let (u, fds) = at_once(ctx, false, rename)?;
    for i in 0..fds.len() {
        same(
            &sys::read(&u.m(&format!("to-f{i}")))?[..7],
            b"WRITTEN",
            "under the new name",
        )?;
        check(sys::is_whiteout(&u.u(&format!("f{i}"))), "a whiteout")?;
    }
    drop(fds);
    u.work_is_empty()
}

fn write_against_replacement(ctx: &Ctx) -> Res {
    let replace = |u: &Union, n: &str| {
        sys::write(&u.m("other"), "other")?;
        sys::rename(&u.m("other"), &u.m(n), NONE)
    };
    let (u, fds) = at_once(ctx, false, replace)?;
    for i in 0..fds.len() {
        same(
            sys::read(&u.m(&format!("f{i}")))?,
            b"other",
            "what took its place",
        )?;
    }
    drop(fds);
    u.work_is_empty()
}

fn write_against_chmod(ctx: &Ctx) -> Res {
    let (u, fds) = at_once(ctx, false, |u, n| sys::chmod(&u.m(n), 0o600))?;
    for i in 0..fds.len() {
        same(
            sys::mode(&u.u(&format!("f{i}")))?,
            0o600,
            "mode of the copy",
        )?;
    }
    drop(fds);
    u.work_is_empty()
}

/// A write to a regular file isn't interrupted by a signal, whoever else copies
/// the file up meanwhile.
fn writers_under_signals(ctx: &Ctx) -> Res {
    const SIZE: usize = 40 << 20;
    let u = Union::split(ctx)?;
    sys::write(&u.l("f"), pattern(SIZE))?;
    u.mount()?;
    let fds = [
        sys::open(&u.m("f"), OFlags::RDWR)?,
        sys::open(&u.m("f"), OFlags::RDWR)?,
    ];
    let mut pids = Vec::new();
    for (i, fd) in fds.iter().enumerate() {
        let pid = sys::fork()?;
        if pid == 0 {
            let write = || rustix::io::pwrite(fd, b"X", i as u64);
            let wrote = sys::signal_storm().and_then(|()| write());
            let code = match wrote {
                Ok(_) => 0,
                Err(e) => e.raw_os_error(),
            };
            sys::exit_now(code);
        }
        pids.push(pid);
    }
    for pid in pids {
        let status = sys::wait(pid)?;
        check(libc::WIFEXITED(status), "a writer died")?;
        same(libc::WEXITSTATUS(status), 0, "errno of a writer")?;
    }
    same(&sys::read(&u.m("f"))?[..2], b"XX", "content")
}

tests! {
    Tmpfs: unlink_without_room, no_space, no_space_for_a_mapping, no_space_for_a_mapping_of_a_bare_file,
        no_space_for_many_mappings, read_only_upper,
        running_program, locks_stay, lease_of_the_writer, removed, replaced, linked_and_removed,
        linked_and_renamed, linked_and_replaced, linked_in_the_union, moved_with_its_directory,
        exchanged, write_against_unlink, mmap_against_unlink, write_against_rename,
        write_against_replacement, write_against_chmod, writers_under_signals;
    Ext4: removed, replaced, linked_and_removed, linked_and_replaced, moved_with_its_directory,
        write_against_unlink, mmap_against_unlink, write_against_rename;
    Xfs: removed, write_against_unlink;
    Btrfs: removed, linked_and_removed, write_against_replacement;
}
