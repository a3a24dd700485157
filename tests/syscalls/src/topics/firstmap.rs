// SPDX-License-Identifier: GPL-2.0
//! A shared mapping through a descriptor that can write counts as a write,
//! whatever its protection is at first.

use super::lazy::opened_only;
use super::mmap::Map;
use super::rw::pattern;
use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const RW: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
const PAGE: usize = 4096;

fn opened(ctx: &Ctx, data: impl AsRef<[u8]>) -> Res<(Union, OwnedFd)> {
    let u = Union::with_file(ctx, data)?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    opened_only(&u, "f", "opened")?;
    Ok((u, fd))
}

fn protected_at_first(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, "0123456789")?;
    let m = Map::new(&fd, PAGE, ProtFlags::READ, MapFlags::SHARED)?;
    same(m.get(0, 10), b"0123456789", "the mapped bytes")?;
    check(sys::exists(&u.u("f")), "a shared mapping copies up")?;
    m.protect(MprotectFlags::READ | MprotectFlags::WRITE)?;
    m.put(2, b"WRITTEN");
    m.sync()?;
    same(sys::read(&u.m("f"))?, b"01WRITTEN9", "the file")?;
    same(sys::read(&u.u("f"))?, b"01WRITTEN9", "the copy")?;
    same(sys::read(&u.l("f"))?, b"0123456789", "the lower file")?;
    u.work_is_empty()
}

fn validated(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, "0123456789")?;
    let m = Map::new(&fd, PAGE, RW, MapFlags::SHARED_VALIDATE)?;
    m.put(0, b"VALID");
    same(sys::read(&u.u("f"))?, b"VALID56789", "the copy")
}

fn populated_and_locked(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, pattern(5 * PAGE))?;
    let flags = MapFlags::SHARED | MapFlags::POPULATE | MapFlags::LOCKED;
    let m = Map::new(&fd, 5 * PAGE, RW, flags)?;
    check(m.get(0, 5 * PAGE) == pattern(5 * PAGE), "the mapped bytes")?;
    m.put(PAGE, b"page");
    same(&sys::read(&u.u("f"))?[PAGE..PAGE + 4], b"page", "the copy")
}

fn fixed_over_another(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, pattern(PAGE))?;
    let old = Map::anonymous(3 * PAGE)?;
    old.put(0, &[1; 3 * PAGE]);
    old.replace(PAGE, PAGE, &fd, MapFlags::SHARED | MapFlags::FIXED)?;
    check(old.get(0, PAGE) == [1; PAGE], "the page before")?;
    check(old.get(2 * PAGE, PAGE) == [1; PAGE], "the page after")?;
    check(old.get(PAGE, PAGE) == pattern(PAGE), "the page of the file")?;
    old.put(PAGE, b"through");
    same(&sys::read(&u.u("f"))?[..7], b"through", "the copy")?;
    let over = old.replace(0, PAGE, &fd, MapFlags::SHARED | MapFlags::FIXED_NOREPLACE);
    fails(over, Errno::EXIST, "MAP_FIXED_NOREPLACE")
}

fn no_replace_is_refused_at_first(ctx: &Ctx) -> Res {
    let (_u, fd) = opened(ctx, pattern(PAGE))?;
    let old = Map::anonymous(PAGE)?;
    old.put(0, &[1; PAGE]);
    let over = old.replace(0, PAGE, &fd, MapFlags::SHARED | MapFlags::FIXED_NOREPLACE);
    fails(over, Errno::EXIST, "MAP_FIXED_NOREPLACE")?;
    check(old.get(0, PAGE) == [1; PAGE], "the old mapping")
}

fn part_of_the_file(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, pattern(3 * PAGE))?;
    let m = Map::part(&fd, PAGE as u64, PAGE, RW, MapFlags::SHARED)?;
    check(
        m.get(0, PAGE) == pattern(3 * PAGE)[PAGE..2 * PAGE],
        "the second page",
    )?;
    m.put(0, b"second");
    let seen = sys::read(&u.u("f"))?;
    same(&seen[PAGE..PAGE + 6], b"second", "the copy")?;
    check(
        seen[2 * PAGE..] == pattern(3 * PAGE)[2 * PAGE..],
        "the rest of the copy",
    )
}

fn empty_file(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, "")?;
    let m = Map::new(&fd, PAGE, RW, MapFlags::SHARED)?;
    rustix::fs::ftruncate(&fd, 100)?;
    m.put(50, b"inside");
    let seen = sys::read(&u.u("f"))?;
    same(seen.len(), 100, "size of the copy")?;
    same(&seen[50..56], b"inside", "the copy")
}

fn writes_and_mapping_are_one(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "0123456789")?;
    let before = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let other = sys::open(&u.m("f"), OFlags::RDWR)?;
    let m = Map::new(&fd, PAGE, RW, MapFlags::SHARED)?;
    rustix::io::pwrite(&fd, b"a", 0)?;
    rustix::io::pwrite(&other, b"b", 1)?;
    std::fs::OpenOptions::new()
        .write(true)
        .open(u.m("f"))
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"A"))?;
    same(m.get(0, 4), b"Ab23", "writes in the mapping")?;
    m.put(4, b"MAP");
    for (d, what) in [
        (&before, "a reader from before"),
        (&fd, "the mapped descriptor"),
        (&other, "another"),
    ] {
        same(sys::pread(d, 20, 0)?, b"Ab23MAP789", what)?;
    }
    let n = Map::new(&other, PAGE, RW, MapFlags::SHARED)?;
    n.put(8, b"!");
    same(m.get(0, 10), b"Ab23MAP7!9", "another mapping")
}

/// overlayfs opens the copy; so the lower file must not be what is mapped, once
/// there is a copy.
fn private_mapping_after_anothers_write(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, "0123456789")?;
    let other = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&other, b"NEW", 0)?;
    let m = Map::new(&fd, PAGE, RW, MapFlags::PRIVATE)?;
    same(m.get(0, 10), b"NEW3456789", "a private mapping of a writer")?;
    let s = Map::new(&fd, PAGE, ProtFlags::READ, MapFlags::SHARED)?;
    same(s.get(0, 10), b"NEW3456789", "a shared one")
}

fn private_mapping_after_its_own_write(ctx: &Ctx) -> Res {
    let (_u, fd) = opened(ctx, "0123456789")?;
    rustix::io::pwrite(&fd, b"OWN", 0)?;
    let m = Map::new(&fd, PAGE, ProtFlags::READ, MapFlags::PRIVATE)?;
    same(m.get(0, 10), b"OWN3456789", "a private mapping")
}

fn refused_mappings(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "0123456789")?;
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let w = sys::open(&u.m("f"), OFlags::WRONLY)?;
    let rw = sys::open(&u.m("f"), OFlags::RDWR)?;
    let map = |fd, len, prot, flags| Map::new(fd, len, prot, flags).map(|_| ());
    fails(
        map(&r, PAGE, RW, MapFlags::SHARED),
        Errno::ACCESS,
        "writable, of a reader",
    )?;
    fails(
        map(&w, PAGE, RW, MapFlags::SHARED),
        Errno::ACCESS,
        "of a write-only descriptor",
    )?;
    fails(
        map(&w, PAGE, ProtFlags::READ, MapFlags::PRIVATE),
        Errno::ACCESS,
        "private, of it",
    )?;
    fails(
        map(&rw, 0, RW, MapFlags::SHARED),
        Errno::INVAL,
        "of nothing",
    )?;
    fails(
        map(&rw, PAGE, RW, MapFlags::empty()),
        Errno::INVAL,
        "neither shared nor private",
    )?;
    let unknown = MapFlags::SHARED_VALIDATE | MapFlags::from_bits_retain(1 << 24);
    fails(
        map(&rw, PAGE, RW, unknown),
        Errno::OPNOTSUPP,
        "an unknown flag, validated",
    )?;
    works(map(&rw, PAGE, RW, MapFlags::SHARED), "afterwards")
}

fn removed_file(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, "0123456789")?;
    let reader = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let ino = rustix::fs::fstat(&fd)?.st_ino;
    std::fs::remove_file(u.m("f"))?;
    let m = Map::new(&fd, PAGE, RW, MapFlags::SHARED)?;
    m.put(0, b"GONE");
    same(
        sys::pread(&fd, 20, 0)?,
        b"GONE456789",
        "read through the descriptor",
    )?;
    same(
        sys::pread(&reader, 20, 0)?,
        b"GONE456789",
        "through another",
    )?;
    let s = rustix::fs::fstat(&fd)?;
    same((s.st_nlink, s.st_ino), (0, ino), "links and inode number")?;
    same(sys::names(&u.u(""))?, ["f"], "names in upper")?;
    check(sys::is_whiteout(&u.u("f")), "a whiteout")?;
    drop(fd);
    m.put(4, b"!");
    drop((m, reader));
    u.work_is_empty()?;
    same(sys::read(&u.l("f"))?, b"0123456789", "the lower file")
}

fn moved_file(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, "0123456789")?;
    sys::rename(&u.m("f"), &u.m("g"), RenameFlags::empty())?;
    let m = Map::new(&fd, PAGE, RW, MapFlags::SHARED)?;
    m.put(0, b"MOVED");
    same(sys::read(&u.m("g"))?, b"MOVED56789", "under the new name")?;
    same(sys::read(&u.u("g"))?, b"MOVED56789", "in upper")
}

fn inherited_descriptor(ctx: &Ctx) -> Res {
    let (u, fd) = opened(ctx, "0123456789")?;
    sys::in_child(|| {
        let m = Map::new(&fd, PAGE, RW, MapFlags::SHARED)?;
        m.put(0, b"CHILD");
        Ok(())
    })?;
    let m = Map::new(&fd, PAGE, RW, MapFlags::SHARED)?;
    same(m.get(0, 10), b"CHILD56789", "the parent's mapping")?;
    same(sys::read(&u.u("f"))?, b"CHILD56789", "the copy")
}

/// Each thread does `f` with its descriptor and marks a place of its own.
fn many_at_once(u: &Union, fds: Vec<Arc<OwnedFd>>, size: usize) -> Res {
    let n = fds.len();
    let start = Arc::new(Barrier::new(n));
    let hands: Vec<_> = fds
        .into_iter()
        .enumerate()
        .map(|(i, fd)| {
            let start = start.clone();
            std::thread::spawn(move || -> Res {
                start.wait();
                if i % 3 == 2 {
                    rustix::io::pwrite(&*fd, &[i as u8; 10], (i * PAGE) as u64)?;
                    return Ok(());
                }
                let m = Map::new(&fd, size, RW, MapFlags::SHARED)?;
                m.put(i * PAGE, &[i as u8; 10]);
                Ok(())
            })
        })
        .collect();
    for h in hands {
        h.join()
            .map_err(|_| Failure::new("a thread died".to_owned()))??;
    }
    let mut want = pattern(size);
    for i in 0..n {
        want[i * PAGE..][..10].fill(i as u8);
    }
    check(sys::read(&u.m("f"))? == want, "a change was lost")?;
    check(sys::read(&u.u("f"))? == want, "a change was lost in upper")?;
    u.work_is_empty()
}

fn many_descriptors_at_once(ctx: &Ctx) -> Res {
    const SIZE: usize = 2 << 20;
    let u = Union::with_file(ctx, pattern(SIZE))?;
    let mut fds = Vec::new();
    for _ in 0..6 {
        fds.push(Arc::new(sys::open(&u.m("f"), OFlags::RDWR)?));
    }
    many_at_once(&u, fds, SIZE)
}

fn one_descriptor_at_once(ctx: &Ctx) -> Res {
    const SIZE: usize = 2 << 20;
    let (u, fd) = opened(ctx, pattern(SIZE))?;
    let fd = Arc::new(fd);
    many_at_once(&u, vec![fd; 6], SIZE)
}

/// A large lower file on a filesystem of its own, so that the copy takes a while.
fn large(ctx: &Ctx, size: usize) -> Res<(Union, OwnedFd)> {
    let u = Union::split(ctx)?;
    sys::write(&u.l("f"), pattern(size))?;
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    Ok((u, fd))
}

fn under_signals(ctx: &Ctx) -> Res {
    const SIZE: usize = 40 << 20;
    let (u, fd) = large(ctx, SIZE)?;
    sys::in_child(|| {
        sys::signal_storm()?;
        let m = works(
            Map::new(&fd, SIZE, RW, MapFlags::SHARED),
            "mmap under signals",
        )?;
        m.put(0, b"mapped");
        Ok(())
    })?;
    let mut want = pattern(SIZE);
    want[..6].copy_from_slice(b"mapped");
    check(sys::read(&u.u("f"))? == want, "the copy")?;
    u.work_is_empty()
}

fn killed(ctx: &Ctx) -> Res {
    const SIZE: usize = 60 << 20;
    let (u, fd) = large(ctx, SIZE)?;
    if sys::exists(&u.u("f")) {
        return Err(Failure::skip("it was copied up when it was opened"));
    }
    let mut interrupted = 0;
    for wait in [1u64, 2, 4, 8, 15, 30] {
        let pid = sys::fork()?;
        if pid == 0 {
            let done = Map::new(&fd, SIZE, RW, MapFlags::SHARED).is_ok();
            sys::exit_now(i32::from(!done));
        }
        std::thread::sleep(Duration::from_millis(wait));
        // SAFETY: our own child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let status = sys::wait_for(pid, Duration::from_secs(30));
        check(status.is_some(), "a killed task goes on with its mapping")?;
        if sys::exists(&u.u("f")) {
            break;
        }
        interrupted += 1;
        u.work_is_empty()?;
    }
    check(interrupted > 0, "no copy-up was interrupted")?;
    let m = Map::new(&fd, SIZE, RW, MapFlags::SHARED)?;
    m.put(0, b"later");
    same(&sys::pread(&fd, 5, 0)?, b"later", "mapped afterwards")?;
    u.work_is_empty()
}

tests! {
    Tmpfs: protected_at_first, validated, populated_and_locked, fixed_over_another,
        no_replace_is_refused_at_first, part_of_the_file, empty_file, writes_and_mapping_are_one,
        private_mapping_after_anothers_write, private_mapping_after_its_own_write,
        refused_mappings, removed_file, moved_file, inherited_descriptor,
        many_descriptors_at_once, one_descriptor_at_once, under_signals, killed;
    Ext4: protected_at_first, writes_and_mapping_are_one, removed_file,
        many_descriptors_at_once, one_descriptor_at_once;
    Btrfs: protected_at_first, many_descriptors_at_once;
}
