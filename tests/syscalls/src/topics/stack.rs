// SPDX-License-Identifier: GPL-2.0
//! Together with others: unions on unions, mounts inside and around a union,
//! very deep trees and very large files.

use crate::harness::*;
use crate::sys;
use crate::union::{fstype, Union};
use rustix::fs::{Mode, OFlags, RenameFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{mount_bind, mount_remount, unmount, MountFlags, UnmountFlags};
use std::path::Path;

/// The type under test and, where it is there, the other one.
pub(super) fn types() -> Vec<String> {
    let all = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let mut v = vec![fstype()];
    for t in ["overlay", "rovl"] {
        if t != fstype() && all.lines().any(|l| l.ends_with(&format!("\t{t}"))) {
            v.push(t.to_owned());
        }
    }
    v
}

fn union_over_union(ctx: &Ctx) -> Res {
    for (i, inner) in types().iter().enumerate() {
        for (k, outer) in types().iter().enumerate() {
            if i > 0 && k > 0 {
                continue;
            }
            let what = format!("{outer} over {inner}");
            let root = ctx.root.join(&what);
            std::fs::create_dir_all(root.join("in"))?;
            let mut a = Union::at(&root.join("in"), 2)?;
            a.fstype.clone_from(inner);
            sys::write(&a.ln(1, "deep"), "deep")?;
            sys::write(&a.ln(0, "gone"), "gone")?;
            sys::mkdir(&a.ln(1, "d"))?;
            sys::write(&a.ln(1, "d/deep"), "deep")?;
            a.mount()?;
            std::fs::remove_file(a.m("gone"))?;
            sys::write(&a.m("d/inner"), "inner")?;
            let mut b = Union::at(&root, 1)?;
            b.fstype.clone_from(outer);
            sys::mkdir(&b.l("d"))?;
            sys::write(&b.l("d/other"), "other")?;
            b.lowers = vec![b.lowers[0].clone(), a.mnt.clone()];
            b.mount()?;
            same(sys::names(&b.mnt)?, ["d", "deep"], &what)?;
            same(sys::names(&b.m("d"))?, ["deep", "inner", "other"], &what)?;
            let before = sys::stx(&b.m("d/deep"))?.stx_ino;
            sys::write(&b.m("d/deep"), "changed")?;
            same(sys::stx(&b.m("d/deep"))?.stx_ino, before, &what)?;
            same(sys::read(&b.m("d/deep"))?, b"changed", &what)?;
            same(sys::read(&a.m("d/deep"))?, b"deep", "the lower union")?;
            sys::rename(&b.m("deep"), &b.m("moved"), RenameFlags::empty())?;
            std::fs::remove_file(b.m("d/inner"))?;
            sys::write(&b.m("gone"), "back")?;
            same(sys::names(&b.mnt)?, ["d", "gone", "moved"], &what)?;
            same(sys::names(&b.m("d"))?, ["deep", "other"], &what)?;
            same(sys::names(&a.mnt)?, ["d", "deep"], "the lower union")?;
            let fd = sys::open(&b.m("moved"), OFlags::RDWR)?;
            rustix::io::pwrite(&fd, b"DEEP", 0)?;
            rustix::fs::fsync(&fd)?;
            drop(fd);
            b.work_is_empty()?;
            b.umount()?;
            a.umount()?;
        }
    }
    Ok(())
}

fn mount_points_inside(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for d in ["d", "d/sub"] {
        sys::mkdir(&u.l(d))?;
    }
    sys::write(&u.l("f"), "x")?;
    u.mount()?;
    sys::mount_tmpfs(&u.m("d/sub"), "size=1m")?;
    sys::write(&u.m("d/sub/on-tmpfs"), "x")?;
    check(
        !sys::exists(&u.u("d")),
        "a mount inside copied its place up",
    )?;
    fails(
        std::fs::remove_dir(u.m("d/sub")),
        Errno::BUSY,
        "rmdir of a mount point",
    )?;
    let r = sys::rename(&u.m("d/sub"), &u.m("x"), RenameFlags::empty());
    fails(r, Errno::BUSY, "rename of a mount point")?;
    mount_bind(u.m("f"), u.m("d/sub/on-tmpfs"))?;
    same(
        sys::read(&u.m("d/sub/on-tmpfs"))?,
        b"x",
        "a file bound elsewhere",
    )?;
    sys::write(&u.m("d/sub/on-tmpfs"), "through the bind")?;
    same(
        sys::read(&u.u("f"))?,
        b"through the bind",
        "copied up through a bind",
    )?;
    unmount(u.m("d/sub/on-tmpfs"), UnmountFlags::empty())?;
    unmount(u.m("d/sub"), UnmountFlags::empty())?;
    works(std::fs::remove_dir(u.m("d/sub")), "rmdir afterwards")
}

fn bind_of_a_directory(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        sys::write(&u.ln(i, &format!("d/f{i}")), "x")?;
    }
    u.mount()?;
    let b = ctx.root.join("bind");
    sys::mkdir(&b)?;
    mount_bind(u.m("d"), &b)?;
    same(sys::names(&b)?, ["f0", "f1"], "names through the bind")?;
    sys::write(&b.join("f1"), "changed")?;
    std::fs::remove_file(b.join("f0"))?;
    same(sys::names(&u.m("d"))?, ["f1"], "names in the mount")?;
    let r = sys::rename(&b.join("f1"), &u.m("d/f2"), RenameFlags::empty());
    fails(r, Errno::XDEV, "rename between a mount and its bind")?;
    u.umount()?;
    same(
        sys::read(&b.join("f1"))?,
        b"changed",
        "when only the bind is left",
    )?;
    sys::write(&b.join("new"), "new")?;
    same(
        sys::read(&u.u("d/new"))?,
        b"new",
        "written through the bind",
    )
}

fn in_another_namespace(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    sys::in_child(|| {
        sys::private_mounts()?;
        sys::write(&u.m("f"), "from there")?;
        u.umount()?;
        check(!sys::exists(&u.m("f")), "it is still mounted there")
    })?;
    same(
        sys::read(&u.m("f"))?,
        b"from there",
        "it is still mounted here",
    )
}

fn mounted_read_only_at_first(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    u.flags = MountFlags::RDONLY;
    u.mount()?;
    fails(sys::write(&u.m("f"), "y"), Errno::ROFS, "a write")?;
    fails(sys::mkdir(&u.m("d")), Errno::ROFS, "mkdir")?;
    fails(
        sys::setx(&u.m("f"), "trusted.x", b""),
        Errno::ROFS,
        "setxattr",
    )?;
    fails(std::fs::remove_file(u.m("f")), Errno::ROFS, "unlink")?;
    same(sys::names(&u.u(""))?, Vec::<String>::new(), "upper")?;
    mount_remount(&u.mnt, MountFlags::empty(), c"")?;
    works(sys::write(&u.m("f"), "y"), "a write after the remount")
}

fn read_only_upper_filesystem_later(ctx: &Ctx) -> Res {
    // The filesystem of upper turns read-only below the mount.
    let u = Union::new(ctx)?;
    let small = ctx.tmp.join("small");
    sys::mkdir(&small)?;
    sys::mount_tmpfs(&small, "size=1m")?;
    let mut u = Union {
        upper: Some(small.join("u")),
        work: small.join("w"),
        ..u
    };
    u.options.clear();
    for p in [u.u(""), u.work.clone()] {
        sys::mkdir(&p)?;
    }
    sys::write(&u.l("f"), "x")?;
    u.mount()?;
    sys::write(&u.m("up"), "x")?;
    // The mount holds it writable, so this must not go through.
    match mount_remount(&small, MountFlags::RDONLY, c"size=1m") {
        Err(e) => same(e, Errno::BUSY, "remount of upper below a mount")?,
        Ok(()) => {
            fails(sys::write(&u.m("new"), ""), Errno::ROFS, "create")?;
            fails(sys::chmod(&u.m("f"), 0o600), Errno::ROFS, "chmod")?;
            fails(std::fs::remove_file(u.m("up")), Errno::ROFS, "unlink")?;
        }
    }
    same(sys::read(&u.m("f"))?, b"x", "reading")
}

fn very_deep_tree(ctx: &Ctx) -> Res {
    const DEPTH: usize = 400;
    let u = Union::new(ctx)?;
    let open_dir = |at: &rustix::fd::OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        rustix::fs::openat(at, "d", flags, Mode::empty())
    };
    let mut at = sys::open(&u.lowers[0], OFlags::RDONLY | OFlags::DIRECTORY)?;
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, "d", Mode::from_bits_retain(0o755))?;
        at = open_dir(&at)?;
    }
    let create = OFlags::CREATE | OFlags::RDWR;
    let f = rustix::fs::openat(&at, "f", create, Mode::from_bits_retain(0o644))?;
    rustix::io::write(&f, b"bottom")?;
    drop(f);
    u.mount()?;
    let mut at = sys::open(&u.mnt, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for _ in 0..DEPTH {
        at = open_dir(&at)?;
    }
    let f = rustix::fs::openat(&at, "f", OFlags::RDWR, Mode::empty())?;
    rustix::io::pwrite(&f, b"B", 0)?;
    same(sys::pread(&f, 9, 0)?, b"Bottom", "the file at the bottom")?;
    let mut at = sys::open(&u.u(""), OFlags::RDONLY | OFlags::DIRECTORY)?;
    for _ in 0..DEPTH {
        at = open_dir(&at)?;
    }
    works(
        rustix::fs::openat(&at, "f", OFlags::RDONLY, Mode::empty()),
        "the copy",
    )?;
    u.work_is_empty()
}

fn larger_than_4_gib(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    let end = (5u64 << 30) + 4096;
    let fd = sys::open(&u.l("f"), OFlags::CREATE | OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"head", 0)?;
    rustix::io::pwrite(&fd, b"tail", end)?;
    drop(fd);
    u.mount()?;
    let fd = sys::open(&u.m("f"), OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"T", end)?;
    same(sys::stx(&u.u("f"))?.stx_size, end + 4, "size of the copy")?;
    same(sys::pread(&fd, 9, end)?, b"Tail", "the end")?;
    same(sys::pread(&fd, 4, 0)?, b"head", "the start")?;
    same(sys::pread(&fd, 4, 4 << 30)?, [0; 4], "the hole")
}

fn symlink_loops(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    rustix::fs::symlink("b", u.l("a"))?;
    rustix::fs::symlink("a", u.u("b"))?;
    u.mount()?;
    fails(sys::read(&u.m("a")), Errno::LOOP, "two links at each other")?;
    fails(
        sys::write(&u.m("a"), ""),
        Errno::LOOP,
        "a create through them",
    )
}

fn loop_device_on_a_file(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let image = u.l("image");
    std::fs::File::create(&image)?.set_len(16 << 20)?;
    let out = std::process::Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&image)
        .output()?;
    check(out.status.success(), "mkfs.ext4")?;
    u.mount()?;
    let at = ctx.root.join("loop");
    sys::mkdir(&at)?;
    sys::mount_image(&u.m("image"), "ext4", &at)?;
    sys::write(&at.join("f"), super::rw::pattern(200_000))?;
    rustix::fs::sync();
    check(
        sys::read(&at.join("f"))? == super::rw::pattern(200_000),
        "content",
    )?;
    unmount(&at, UnmountFlags::empty())?;
    check(sys::exists(&u.u("image")), "the image was not copied up")
}

fn bmap_and_swap_refused(ctx: &Ctx) -> Res {
    use std::os::fd::AsRawFd;
    let u = Union::with_file(ctx, super::rw::pattern(8192))?;
    sys::write(&u.m("up"), super::rw::pattern(8192))?;
    for n in ["f", "up"] {
        let fd = sys::open(&u.m(n), OFlags::RDONLY)?;
        let mut block = 0i32;
        // SAFETY: `block` outlives the call; FIBMAP is 1.
        let r = unsafe { libc::ioctl(fd.as_raw_fd(), 1 as libc::c_ulong, &mut block) };
        fails(sys::ret(i64::from(r)), Errno::INVAL, "FIBMAP")?;
        let p = sys::cstr(&u.m(n));
        // SAFETY: the path outlives the call.
        match sys::ret(i64::from(unsafe { libc::swapon(p.as_ptr(), 0) })) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            r => return Err(Failure::new(format!("swapon: expected EINVAL, seen {r:?}"))),
        }
    }
    Ok(())
}

fn walk_against_rename(ctx: &Ctx) -> Res {
    // Lookups without locks against renames, removals and modes.
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("low/b/c"))?;
    sys::write(&u.l("low/b/c/f"), "x")?;
    u.mount()?;
    std::fs::create_dir_all(u.m("a/b/c"))?;
    sys::write(&u.m("a/b/c/f"), "x")?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let order = std::sync::atomic::Ordering::Relaxed;
    let mut hands = Vec::new();
    for t in 0..3 {
        let (m, stop) = (u.mnt.clone(), stop.clone());
        hands.push(std::thread::spawn(move || -> Result<u32, Errno> {
            let mut found = 0;
            let names = ["a/b/c/f", "z/b/c/f", "low/b/c/f", "low/b/c/gone"];
            while !stop.load(order) {
                for (i, n) in names.iter().enumerate() {
                    match rustix::fs::accessat(
                        CWD,
                        m.join(n),
                        rustix::fs::Access::READ_OK,
                        rustix::fs::AtFlags::empty(),
                    ) {
                        Ok(()) => found += 1,
                        Err(Errno::NOENT) => {}
                        Err(e) => return Err(e),
                    }
                    if t == i {
                        let _ = sys::read(&m.join(n));
                    }
                }
            }
            Ok(found)
        }));
    }
    let none = RenameFlags::empty();
    for i in 0..60 {
        sys::rename(&u.m("a"), &u.m("z"), none)?;
        sys::write(&u.m("low/b/c/gone"), "x")?;
        sys::chmod(&u.m("low/b"), 0o700 + i % 64)?;
        sys::rename(&u.m("z"), &u.m("a"), none)?;
        std::fs::remove_file(u.m("low/b/c/gone"))?;
    }
    stop.store(true, order);
    for h in hands {
        match h.join() {
            Ok(r) => check(r? > 0, "a walker found nothing")?,
            Err(_) => return Err(Failure::new("a thread died".to_owned())),
        }
    }
    same(sys::read(&u.m("a/b/c/f"))?, b"x", "afterwards")
}

fn files_of_proc_as_a_source(ctx: &Ctx) -> Res {
    // A filesystem without sizes as a source of a copy into the union.
    let u = Union::with_file(ctx, "x")?;
    let n = std::fs::copy(Path::new("/proc/self/status"), u.m("f"))?;
    check(n > 100, "bytes copied out of /proc")?;
    same(sys::read(&u.m("f"))?.len() as u64, n, "size")
}

tests! {
    Tmpfs: union_over_union, mount_points_inside, bind_of_a_directory, in_another_namespace,
        mounted_read_only_at_first, read_only_upper_filesystem_later, very_deep_tree,
        larger_than_4_gib, symlink_loops, loop_device_on_a_file, bmap_and_swap_refused,
        walk_against_rename, files_of_proc_as_a_source;
    Ext4: union_over_union, larger_than_4_gib, loop_device_on_a_file, bmap_and_swap_refused;
    Xfs: larger_than_4_gib;
}
