// SPDX-License-Identifier: GPL-2.0
//! Mounting: mount(2), the new mount API, what they refuse and what they say.

use super::idmap;
use crate::harness::*;
use crate::sys;
use crate::union::{fstype, Union};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::*;
use std::path::Path;

pub fn fs_open() -> Res<OwnedFd> {
    Ok(fsopen(fstype().as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?)
}

/// Creates, makes a mount of and attaches what a context describes.
pub fn attach(fs: &OwnedFd, at: &Path) -> Res {
    if let Err(e) = fsconfig_create(fs) {
        let log = sys::context_log(fs);
        return Err(Failure::new(format!("create: {e}, log: {log}")));
    }
    let m = fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&m, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

fn path_fd(p: &Path) -> Res<OwnedFd> {
    Ok(sys::open(p, OFlags::PATH | OFlags::DIRECTORY)?)
}

/// Every layer is there and the mount takes a change.
pub fn usable(u: &Union, lowers: usize) -> Res {
    for i in 0..lowers {
        same(sys::read(&u.m(&format!("in{i}")))?, b"x", "a lower file")?;
    }
    sys::write(&u.m("new"), "new")?;
    same(sys::read(&u.u("new"))?, b"new", "the new file in upper")
}

pub fn filled(ctx: &Ctx, n: usize) -> Res<Union> {
    let u = Union::layers(ctx, n)?;
    for i in 0..n {
        sys::write(&u.ln(i, &format!("in{i}")), "x")?;
        sys::write(&u.ln(i, "same"), i.to_string())?;
    }
    Ok(u)
}

fn strings(ctx: &Ctx) -> Res {
    let u = filled(ctx, 3)?;
    let fs = fs_open()?;
    for l in &u.lowers {
        fsconfig_set_string(&fs, "lowerdir+", l)?;
    }
    fsconfig_set_string(&fs, "upperdir", u.u(""))?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    attach(&fs, &u.mnt)?;
    same(
        sys::read(&u.m("same"))?,
        b"0",
        "the first lowerdir+ is on top",
    )?;
    usable(&u, 3)
}

fn lowerdir_string(ctx: &Ctx) -> Res {
    let u = filled(ctx, 3)?;
    let fs = fs_open()?;
    let list: Vec<_> = u.lowers.iter().map(|p| p.display().to_string()).collect();
    fsconfig_set_string(&fs, "upperdir", u.u(""))?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    fsconfig_set_string(&fs, "lowerdir", list.join(":").as_str())?;
    attach(&fs, &u.mnt)?;
    same(
        sys::read(&u.m("same"))?,
        b"0",
        "the first of the list is on top",
    )?;
    usable(&u, 3)
}

fn path_fds(ctx: &Ctx) -> Res {
    let u = filled(ctx, 2)?;
    let fs = fs_open()?;
    fsconfig_set_fd(&fs, "workdir", path_fd(&u.work)?)?;
    fsconfig_set_fd(&fs, "lowerdir+", path_fd(&u.lowers[0])?)?;
    fsconfig_set_fd(&fs, "upperdir", path_fd(&u.u(""))?)?;
    fsconfig_set_fd(&fs, "lowerdir+", path_fd(&u.lowers[1])?)?;
    attach(&fs, &u.mnt)?;
    usable(&u, 2)
}

fn open_fds(ctx: &Ctx) -> Res {
    let u = filled(ctx, 2)?;
    let fs = fs_open()?;
    let dir = |p: &Path| sys::open(p, OFlags::RDONLY | OFlags::DIRECTORY);
    fsconfig_set_fd(&fs, "lowerdir+", dir(&u.lowers[0])?)?;
    fsconfig_set_fd(&fs, "lowerdir+", dir(&u.lowers[1])?)?;
    fsconfig_set_fd(&fs, "upperdir", dir(&u.u(""))?)?;
    fsconfig_set_fd(&fs, "workdir", dir(&u.work)?)?;
    attach(&fs, &u.mnt)?;
    usable(&u, 2)
}

fn fds_and_strings_mixed(ctx: &Ctx) -> Res {
    let u = filled(ctx, 3)?;
    let fs = fs_open()?;
    fsconfig_set_string(&fs, "lowerdir+", &u.lowers[0])?;
    fsconfig_set_fd(&fs, "lowerdir+", path_fd(&u.lowers[1])?)?;
    fsconfig_set_string(&fs, "lowerdir+", &u.lowers[2])?;
    fsconfig_set_fd(&fs, "upperdir", path_fd(&u.u(""))?)?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    attach(&fs, &u.mnt)?;
    usable(&u, 3)
}

fn detached_layers(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    let tmp = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&tmp)?;
    let m = fsmount(&tmp, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    for d in ["up", "wk"] {
        rustix::fs::mkdirat(&m, d, rustix::fs::Mode::RWXU)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let sub = |n: &str| rustix::fs::openat(&m, n, flags, rustix::fs::Mode::empty());
    let fs = fs_open()?;
    fsconfig_set_fd(&fs, "lowerdir+", path_fd(&u.lowers[0])?)?;
    fsconfig_set_fd(&fs, "upperdir", sub("up")?)?;
    fsconfig_set_fd(&fs, "workdir", sub("wk")?)?;
    attach(&fs, &u.mnt)?;
    same(sys::read(&u.m("in0"))?, b"x", "the lower file")?;
    sys::write(&u.m("new"), "new")?;
    let flags = OFlags::RDONLY;
    works(
        rustix::fs::openat(&m, "up/new", flags, rustix::fs::Mode::empty()),
        "the new file in the detached upper",
    )?;
    Ok(())
}

fn fd_survives_rename_of_layer(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    let fd = path_fd(&u.lowers[0])?;
    let moved = ctx.root.join("moved");
    std::fs::rename(&u.lowers[0], &moved)?;
    let fs = fs_open()?;
    fsconfig_set_fd(&fs, "lowerdir+", &fd)?;
    fsconfig_set_string(&fs, "upperdir", u.u(""))?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    attach(&fs, &u.mnt)?;
    usable(&u, 1)?;
    let info = std::fs::read_to_string("/proc/self/mountinfo")?;
    let want = format!("lowerdir+={}", moved.display());
    check(
        info.contains(&want),
        "mountinfo shows the path that the descriptor had at the mount",
    )
}

fn relative_paths(ctx: &Ctx) -> Res {
    let u = filled(ctx, 2)?;
    std::env::set_current_dir(&ctx.root)?;
    let data = c"lowerdir=l0:l1,upperdir=u,workdir=w";
    mount(
        "union",
        &u.mnt,
        fstype().as_str(),
        MountFlags::empty(),
        data,
    )?;
    usable(&u, 2)
}

fn escaped_names(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let odd = ctx.root.join("a:b");
    let comma = ctx.root.join("c,d\\e");
    for (p, n) in [(&odd, "odd"), (&comma, "comma")] {
        sys::mkdir(p)?;
        sys::write(&p.join(n), n)?;
    }
    let root = ctx.root.display();
    let data = sys::cs(&format!(
        "lowerdir={root}/a\\:b:{root}/c\\,d\\\\e,upperdir={},workdir={}",
        u.u("").display(),
        u.work.display()
    ));
    mount(
        "union",
        &u.mnt,
        fstype().as_str(),
        MountFlags::empty(),
        sys::as_c(&data),
    )?;
    same(sys::names(&u.mnt)?, vec!["comma", "odd"], "both layers")
}

fn lower_plus_is_not_unescaped(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 1)?;
    let odd = ctx.root.join("a:b\\c");
    sys::mkdir(&odd)?;
    sys::write(&odd.join("odd"), "odd")?;
    let fs = fs_open()?;
    fsconfig_set_string(&fs, "lowerdir+", &odd)?;
    fsconfig_set_string(&fs, "lowerdir+", &u.lowers[0])?;
    attach(&fs, &u.mnt)?;
    same(sys::names(&u.mnt)?, vec!["odd"], "the layer with odd bytes")
}

fn no_upper_is_readonly(ctx: &Ctx) -> Res {
    let mut u = filled(ctx, 2)?;
    u.upper = None;
    u.mount()?;
    fails(sys::write(&u.m("new"), "x"), Errno::ROFS, "create")?;
    fails(
        sys::open(&u.m("in0"), OFlags::RDWR),
        Errno::ROFS,
        "open for writing",
    )?;
    fails(sys::chmod(&u.m("in0"), 0o600), Errno::ROFS, "chmod")?;
    fails(std::fs::remove_file(u.m("in1")), Errno::ROFS, "unlink")?;
    let none = MountFlags::empty();
    fails(mount_remount(&u.mnt, none, c""), Errno::ROFS, "remount rw")
}

fn five_hundred_lowers(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 500)?;
    sys::write(&u.ln(499, "deepest"), "d")?;
    sys::write(&u.ln(499, "same"), "499")?;
    sys::write(&u.ln(0, "same"), "0")?;
    let fs = fs_open()?;
    for l in &u.lowers {
        fsconfig_set_string(&fs, "lowerdir+", l)?;
    }
    attach(&fs, &u.mnt)?;
    same(
        sys::read(&u.m("deepest"))?,
        b"d",
        "a file of the last layer",
    )?;
    same(sys::read(&u.m("same"))?, b"0", "a file of the first layer")
}

fn move_mount_elsewhere(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    let other = ctx.root.join("other");
    sys::mkdir(&other)?;
    mount_move(&u.mnt, &other)?;
    same(sys::read(&other.join("in0"))?, b"x", "the moved mount")?;
    check(
        !sys::is_mount_point(&u.mnt),
        "the old place is still a mount point",
    )
}

fn open_tree_clone(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    let t = open_tree(
        CWD,
        &u.mnt,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    u.umount()?;
    let other = ctx.root.join("other");
    sys::mkdir(&other)?;
    move_mount(&t, "", CWD, &other, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    sys::write(&other.join("in0"), "changed")?;
    same(
        sys::read(&u.u("in0"))?,
        b"changed",
        "written through the clone",
    )?;
    same(sys::read(&u.l("in0"))?, b"x", "the lower file")
}

fn reconfigure_ro_rw(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    let fs = fspick(CWD, &u.mnt, FsPickFlags::FSPICK_CLOEXEC)?;
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_reconfigure(&fs)?;
    fails(
        sys::write(&u.m("new"), "x"),
        Errno::ROFS,
        "create on a read-only mount",
    )?;
    fails(
        sys::chmod(&u.m("in0"), 0o600),
        Errno::ROFS,
        "chmod on a read-only mount",
    )?;
    let fs = fspick(CWD, &u.mnt, FsPickFlags::FSPICK_CLOEXEC)?;
    fsconfig_set_flag(&fs, "rw")?;
    fsconfig_reconfigure(&fs)?;
    usable(&u, 1)
}

fn reconfigure_option_refused(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    let fs = fspick(CWD, &u.mnt, FsPickFlags::FSPICK_CLOEXEC)?;
    fails(
        fsconfig_set_string(&fs, "lowerdir+", &u.lowers[0]),
        Errno::INVAL,
        "an option on reconfigure",
    )?;
    let log = sys::context_log(&fs);
    check(
        log.contains("No changes allowed in reconfigure"),
        &format!("the log says why, seen {log:?}"),
    )
}

fn old_remount_ignores_options(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    mount_remount(
        &u.mnt,
        MountFlags::RDONLY,
        c"lowerdir=/nonexistent,upperdir=/x",
    )?;
    fails(sys::write(&u.m("new"), "x"), Errno::ROFS, "create")?;
    mount_remount(&u.mnt, MountFlags::empty(), c"")?;
    usable(&u, 1)
}

fn remount_ro_with_writer(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    let fd = sys::open(&u.m("new"), OFlags::CREATE | OFlags::RDWR)?;
    fails(
        mount_remount(&u.mnt, MountFlags::RDONLY, c""),
        Errno::BUSY,
        "remount read-only below an open writer",
    )?;
    drop(fd);
    mount_remount(&u.mnt, MountFlags::RDONLY, c"")?;
    Ok(())
}

fn umount_busy(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    let fd = sys::open(&u.m("in0"), OFlags::RDONLY)?;
    let none = UnmountFlags::empty();
    fails(
        unmount(&u.mnt, none),
        Errno::BUSY,
        "umount below an open file",
    )?;
    unmount(&u.mnt, UnmountFlags::DETACH)?;
    same(sys::pread(&fd, 4, 0)?, b"x", "reading after a lazy umount")
}

fn lower_pinned_after_umount(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    sys::write(&u.l("in0"), "x")?;
    u.mount()?;
    let lower_fs = ctx.tmp.join("lower-fs");
    let none = UnmountFlags::empty();
    unmount(&lower_fs, UnmountFlags::DETACH)?;
    same(
        sys::read(&u.m("in0"))?,
        b"x",
        "a lower whose own mount is gone",
    )?;
    unmount(&u.mnt, none)?;
    Ok(())
}

fn work_dir_cleaned(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    // As deep as a directory that was being cleared of its whiteouts.
    let left = u.work.join("work/#42");
    std::fs::create_dir_all(&left)?;
    sys::whiteout(&left.join("white"))?;
    sys::write(&u.work.join("work/#43"), "x")?;
    u.mount()?;
    u.work_is_empty()?;
    same(
        sys::mode(&u.work.join("work"))?,
        0,
        "mode of the work directory",
    )
}

fn work_dir_without_acl(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    super::acl::set_default(&u.work, 0o7, Some((1000, 7)))?;
    u.mount()?;
    let w = u.work.join("work");
    for n in ["system.posix_acl_default", "system.posix_acl_access"] {
        fails(sys::getx(&w, n), Errno::NODATA, n)?;
    }
    Ok(())
}

fn mountinfo_can_be_mounted_again(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 1)?;
    let odd = ctx.root.join("sp ace,a:b");
    sys::mkdir(&odd)?;
    sys::write(&odd.join("odd"), "odd")?;
    let list = format!(
        "{}:{}",
        u.lowers[0].display(),
        odd.display().to_string().replace(':', "\\:")
    );
    let fs = fs_open()?;
    fsconfig_set_string(&fs, "lowerdir", list.as_str())?;
    fsconfig_set_string(&fs, "upperdir", u.u(""))?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    attach(&fs, &u.mnt)?;
    let info = std::fs::read_to_string("/proc/self/mountinfo")?;
    let line = info
        .lines()
        .find(|l| l.contains(&format!(" {} ", u.mnt.display())))
        .ok_or_else(|| Failure::new("not in mountinfo".to_owned()))?;
    let shown = line
        .split(",lowerdir=")
        .nth(1)
        .or_else(|| line.split(" lowerdir=").nth(1))
        .and_then(|s| s.split(',').next())
        .ok_or_else(|| Failure::new(format!("no lowerdir= in {line}")))?;
    let plain = shown
        .replace("\\040", " ")
        .replace("\\054", ",")
        .replace("\\134", "\\");
    same(plain.as_str(), list.as_str(), "lowerdir in mountinfo")
}

/// A detached mount is given as a layer and mapped then.
fn mapped_after_it_was_given(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let layer = open_tree(CWD, &u.lowers[0], flags)?;
    let fs = fs_open()?;
    fsconfig_set_fd(&fs, "lowerdir+", &layer)?;
    fsconfig_set_string(&fs, "upperdir", u.u(""))?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    idmap::map(&layer, &idmap::namespace(idmap::UP)?)?;
    attach(&fs, &u.mnt)?;
    same(sys::stx(&u.m("in0"))?.stx_uid, 100_000, "the owner")
}

tests! {
    Tmpfs: strings, lowerdir_string, path_fds, open_fds, fds_and_strings_mixed, detached_layers,
        fd_survives_rename_of_layer, relative_paths, escaped_names, lower_plus_is_not_unescaped,
        no_upper_is_readonly, five_hundred_lowers, move_mount_elsewhere, open_tree_clone,
        reconfigure_ro_rw, reconfigure_option_refused, old_remount_ignores_options,
        remount_ro_with_writer, umount_busy, lower_pinned_after_umount, work_dir_cleaned,
        work_dir_without_acl, mountinfo_can_be_mounted_again, mapped_after_it_was_given;
    Ext4: strings, work_dir_cleaned, work_dir_without_acl;
}
