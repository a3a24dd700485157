// SPDX-License-Identifier: GPL-2.0
//! Memory mappings of files in the mount.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

/// A mapping that undoes itself.
pub struct Map {
    at: *mut u8,
    len: usize,
}

impl Map {
    pub fn new(fd: &OwnedFd, len: usize, prot: ProtFlags, flags: MapFlags) -> Result<Map, Errno> {
        Map::part(fd, 0, len, prot, flags)
    }

    pub fn part(
        fd: &OwnedFd,
        offset: u64,
        len: usize,
        prot: ProtFlags,
        flags: MapFlags,
    ) -> Result<Map, Errno> {
        // SAFETY: a fresh address; the mapping is owned by the value.
        let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset) }?;
        Ok(Map { at: at.cast(), len })
    }

    pub fn anonymous(len: usize) -> Result<Map, Errno> {
        let none = std::ptr::null_mut();
        // SAFETY: a fresh address; the mapping is owned by the value.
        let at = unsafe { rustix::mm::mmap_anonymous(none, len, RW, MapFlags::PRIVATE) }?;
        Ok(Map { at: at.cast(), len })
    }

    /// Maps `fd` at a fixed place in this mapping.
    pub fn replace(
        &self,
        off: usize,
        len: usize,
        fd: &OwnedFd,
        flags: MapFlags,
    ) -> Result<(), Errno> {
        assert!(off + len <= self.len);
        // SAFETY: inside the mapping, which goes on to be owned by the value.
        unsafe { rustix::mm::mmap(self.at.add(off).cast(), len, RW, flags, fd, 0) }.map(drop)
    }

    pub fn protect(&self, prot: rustix::mm::MprotectFlags) -> Result<(), Errno> {
        // SAFETY: the mapping is alive.
        unsafe { rustix::mm::mprotect(self.at.cast(), self.len, prot) }
    }

    pub fn get(&self, off: usize, len: usize) -> Vec<u8> {
        assert!(off + len <= self.len);
        (off..off + len)
            // SAFETY: inside the mapping, which is readable in every test.
            .map(|i| unsafe { self.at.add(i).read_volatile() })
            .collect()
    }

    pub fn put(&self, off: usize, data: &[u8]) {
        assert!(off + data.len() <= self.len);
        for (i, b) in data.iter().enumerate() {
            // SAFETY: inside the mapping; only writable ones are written.
            unsafe { self.at.add(off + i).write_volatile(*b) };
        }
    }

    pub fn sync(&self) -> Result<(), Errno> {
        // SAFETY: the mapping is alive.
        unsafe { rustix::mm::msync(self.at.cast(), self.len, MsyncFlags::SYNC) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by the value.
        let _ = unsafe { rustix::mm::munmap(self.at.cast(), self.len) };
    }
}

const RW: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

fn read_lower(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "mapped data")?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let m = Map::new(&fd, 4096, ProtFlags::READ, flags)?;
        same(m.get(0, 11), b"mapped data", "the mapped bytes")?;
        same(m.get(11, 4), [0; 4], "zeros past the end")?;
    }
    check(
        !sys::exists(&u.u("f")),
        "mapping for reading copied the file up",
    )
}

fn private_writes_stay_private(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "lower")?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let m = Map::new(&fd, 4096, RW, MapFlags::PRIVATE)?;
    m.put(0, b"MINE!");
    same(m.get(0, 5), b"MINE!", "the private page")?;
    same(sys::read(&u.m("f"))?, b"lower", "the file")?;
    check(
        !sys::exists(&u.u("f")),
        "a private write copied the file up",
    )
}

fn shared_write(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "0123456789")?;
    sys::write(&u.u("up"), "0123456789")?;
    u.mount()?;
    for n in ["low", "up"] {
        let fd = sys::open(&u.m(n), OFlags::RDWR)?;
        let m = Map::new(&fd, 4096, RW, MapFlags::SHARED)?;
        m.put(2, b"SHARED");
        m.sync()?;
        same(sys::read(&u.m(n))?, b"01SHARED89", n)?;
        same(sys::read(&u.u(n))?, b"01SHARED89", n)?;
        rustix::io::pwrite(&fd, b"ab", 0)?;
        same(m.get(0, 4), b"abSH", "a write shows in the mapping")?;
    }
    same(sys::read(&u.l("low"))?, b"0123456789", "the lower file")
}

fn mapping_outlives_descriptor(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "0123456789")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let m = Map::new(&fd, 4096, RW, MapFlags::SHARED)?;
    drop(fd);
    m.put(0, b"AFTER");
    m.sync()?;
    same(
        sys::read(&u.m("f"))?,
        b"AFTER56789",
        "written after the close",
    )?;
    std::fs::remove_file(u.m("f"))?;
    m.put(0, b"GONE!");
    same(m.get(0, 5), b"GONE!", "written after the unlink")
}

/// A mapping made before the copy-up keeps showing the lower file, as
/// overlayfs documents; one made after shows the copy.
fn mapped_before_copy_up(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "old data")?;
    let r = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let old = Map::new(&r, 4096, ProtFlags::READ, MapFlags::SHARED)?;
    same(old.get(0, 3), b"old", "before")?;
    let w = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&w, b"NEW", 0)?;
    let new = Map::new(&w, 4096, ProtFlags::READ, MapFlags::SHARED)?;
    same(new.get(0, 3), b"NEW", "a mapping of the new descriptor")?;
    let again = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let third = Map::new(&again, 4096, ProtFlags::READ, MapFlags::SHARED)?;
    same(third.get(0, 3), b"NEW", "a mapping of a later descriptor")?;
    same(old.get(0, 3), b"old", "the mapping from before the copy-up")
}

fn protection_errnos(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    for n in ["low", "up"] {
        let r = sys::open(&u.m(n), OFlags::RDONLY)?;
        let map = Map::new(&r, 4096, RW, MapFlags::SHARED);
        fails(
            map,
            Errno::ACCESS,
            "a shared writable mapping of a read-only descriptor",
        )?;
        let w = sys::open(&u.m(n), OFlags::WRONLY)?;
        let map = Map::new(&w, 4096, ProtFlags::READ, MapFlags::SHARED);
        fails(map, Errno::ACCESS, "a mapping of a write-only descriptor")?;
        let m = Map::new(&r, 4096, ProtFlags::READ, MapFlags::SHARED)?;
        // SAFETY: the mapping is alive.
        let p = unsafe {
            rustix::mm::mprotect(
                m.at.cast(),
                4096,
                rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
            )
        };
        fails(p, Errno::ACCESS, "mprotect to writable")?;
    }
    let d = sys::open(&u.m("d"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let map = Map::new(&d, 4096, ProtFlags::READ, MapFlags::SHARED);
    fails(map, Errno::NODEV, "a mapping of a directory")
}

fn fork_shares(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "0123456789")?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let m = Map::new(&fd, 4096, RW, MapFlags::SHARED)?;
    sys::in_child(|| {
        m.put(0, b"CHILD");
        Ok(())
    })?;
    same(m.get(0, 5), b"CHILD", "what the child wrote")
}

fn sigbus_past_the_end(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "short")?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let m = Map::new(&fd, 3 * 4096, ProtFlags::READ, MapFlags::SHARED)?;
    let pid = sys::fork()?;
    if pid == 0 {
        m.get(2 * 4096, 1);
        sys::exit_now(0);
    }
    let st = sys::wait(pid)?;
    same(
        libc::WTERMSIG(st),
        libc::SIGBUS,
        "signal of an access past the end",
    )
}

fn truncated_under_mapping(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, super::rw::pattern(3 * 4096))?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"x", 0)?;
    let m = Map::new(&fd, 3 * 4096, RW, MapFlags::SHARED)?;
    same(m.get(8192, 1), &super::rw::pattern(8193)[8192..], "before")?;
    rustix::fs::ftruncate(&fd, 100)?;
    same(m.get(100, 3), [0; 3], "zeros past the new end")?;
    rustix::fs::ftruncate(&fd, 3 * 4096)?;
    same(m.get(8192, 3), [0; 3], "zeros after it grew again")
}

fn maps_show_the_mount(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    u.mount()?;
    for n in ["low", "up"] {
        let fd = sys::open(&u.m(n), OFlags::RDONLY)?;
        let _m = Map::new(&fd, 4096, ProtFlags::READ, MapFlags::SHARED)?;
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let path = u.m(n).display().to_string();
        let line = maps
            .lines()
            .find(|l| l.ends_with(&path))
            .ok_or_else(|| Failure::new(format!("{path} is not in /proc/self/maps")))?;
        let st = sys::stx(&u.m(n))?;
        let f: Vec<_> = line.split_whitespace().collect();
        same(
            f[4],
            st.stx_ino.to_string(),
            "inode number in /proc/self/maps",
        )?;
    }
    Ok(())
}

fn msync_and_fsync_reach_upper(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, super::rw::pattern(8192))?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    let m = Map::new(&fd, 8192, RW, MapFlags::SHARED)?;
    m.put(4096, b"dirty");
    rustix::fs::fsync(&fd)?;
    drop(m);
    drop(fd);
    sys::drop_caches(&ctx.tmp)?;
    u.again()?;
    same(
        &sys::read(&u.m("f"))?[4096..4101],
        b"dirty",
        "after a new mount",
    )
}

fn locked_and_advised(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, super::rw::pattern(8192))?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    let m = Map::new(
        &fd,
        8192,
        ProtFlags::READ,
        MapFlags::SHARED | MapFlags::POPULATE,
    )?;
    let mut vec = [0u8; 2];
    // SAFETY: the mapping is alive and `vec` has a byte a page.
    unsafe {
        use rustix::mm::{madvise, mlock, munlock, Advice};
        mlock(m.at.cast(), 8192)?;
        munlock(m.at.cast(), 8192)?;
        madvise(m.at.cast(), 8192, Advice::WillNeed)?;
        madvise(m.at.cast(), 8192, Advice::LinuxDontNeed)?;
        sys::ret(i64::from(libc::mincore(
            m.at.cast(),
            8192,
            vec.as_mut_ptr(),
        )))?;
    }
    same(
        m.get(0, 8192),
        super::rw::pattern(8192),
        "after MADV_DONTNEED",
    )
}

/// 2019-15794: a mapping that the layer refuses leaves descriptor, file and neighbours as they were.
fn refused_by_the_layer(ctx: &Ctx) -> Res {
    let mut u = Union::layers(ctx, 2)?;
    u.upper = None;
    // The files of sysfs have the operation, and say no.
    u.lowers[0] = "/sys/kernel".into();
    u.mount()?;
    let fd = sys::open(&u.m("uevent_seqnum"), OFlags::RDONLY)?;
    let place = Map::anonymous(3 * 4096)?;
    place.put(0, b"before");
    place.put(2 * 4096, b"behind");
    let count = || -> Res<usize> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        Ok(maps.lines().filter(|l| l.contains("uevent")).count())
    };
    for _ in 0..100 {
        let none = Map::new(&fd, 4096, ProtFlags::READ, MapFlags::PRIVATE);
        fails(none, Errno::NODEV, "a mapping")?;
        let none = Map::new(&fd, 4096, ProtFlags::READ, MapFlags::SHARED);
        fails(none, Errno::NODEV, "a shared mapping")?;
        let none = place.replace(4096, 4096, &fd, MapFlags::PRIVATE | MapFlags::FIXED);
        fails(none, Errno::NODEV, "a mapping in the place of another")?;
    }
    same(count()?, 0, "mappings of the file")?;
    same(place.get(0, 6), b"before", "the page before")?;
    same(place.get(2 * 4096, 6), b"behind", "the page behind")?;
    check(!sys::pread(&fd, 20, 0)?.is_empty(), "the file can be read")?;
    drop(fd);
    u.umount()
}

tests! {
    Tmpfs: refused_by_the_layer, read_lower, private_writes_stay_private, shared_write, mapping_outlives_descriptor,
        mapped_before_copy_up, protection_errnos, fork_shares, sigbus_past_the_end,
        truncated_under_mapping, maps_show_the_mount, locked_and_advised;
    Ext4: shared_write, mapped_before_copy_up, msync_and_fsync_reach_upper,
        truncated_under_mapping;
    Xfs: shared_write;
}
