// SPDX-License-Identifier: GPL-2.0
//! Paths that are walked from the caches alone (`RESOLVE_CACHED`): as on the filesystem of the layers.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use rustix::fs::{Mode, OFlags, ResolveFlags, CWD};
use rustix::io::Errno;
use std::path::Path;

fn cached(p: &Path) -> Sys<()> {
    let how = ResolveFlags::CACHED;
    rustix::fs::openat2(CWD, p, OFlags::RDONLY, Mode::empty(), how).map(|_| ())
}

/// Files and directories below `at`, and symlinks to them.
fn tree(at: &Path) -> Res {
    std::fs::create_dir_all(at.join("d/e"))?;
    sys::write(&at.join("d/f"), "x")?;
    sys::write(&at.join("d/e/g"), "x")?;
    let long = |to: &str| format!("{}{to}", "./".repeat(200));
    for (target, name) in [
        ("d/f", "to-file"),
        ("d/e", "to-dir"),
        ("to-file", "to-link"),
        ("../d/../to-dir", "d/back"),
        ("none", "dangling"),
        (&long("d/f"), "long"),
        (&long("d"), "long-dir"),
    ] {
        rustix::fs::symlink(target, at.join(name))?;
    }
    Ok(())
}

const NO_LINK: [&str; 4] = ["d/f", "d/e", "d/e/g", "d/../d/e/../f"];
const LINKS: [&str; 8] = [
    "to-file",
    "to-dir",
    "to-dir/g",
    "to-link",
    "d/back",
    "d/back/g",
    "long",
    "long-dir/e/g",
];

/// relatime updates an access time that is not behind the last change: the clock has to have moved on.
fn tick() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}

/// Every path is reached from the caches, once it is in them.
fn all_cached(at: &Path, paths: &[&str], what: &str) -> Res {
    tick();
    for p in paths {
        let p = at.join(p);
        sys::read(&p).map(|_| ()).or_else(|e| match e {
            Errno::ISDIR => Ok(()),
            e => Err(e),
        })?;
        works(cached(&p), &format!("{what}: {}", p.display()))?;
    }
    Ok(())
}

fn everywhere(ctx: &Ctx, paths: &[&str]) -> Res {
    let u = Union::new(ctx)?;
    tree(&u.l(""))?;
    std::fs::create_dir_all(u.u("upper"))?;
    tree(&u.u("upper"))?;
    all_cached(&u.u("upper"), paths, "the layer's filesystem")?;
    u.mount()?;
    all_cached(&u.mnt, paths, "lower")?;
    all_cached(&u.m("upper"), paths, "upper")?;
    for n in ["to-file", "to-dir", "to-link", "d/back", "long", "long-dir"] {
        sys::chown(&u.m(n), 1, 1)?;
    }
    all_cached(&u.mnt, paths, "copied up")?;
    u.again()?;
    all_cached(&u.mnt, paths, "mounted anew")
}

fn without_symlinks(ctx: &Ctx) -> Res {
    everywhere(ctx, &NO_LINK)
}

fn symlinks(ctx: &Ctx) -> Res {
    everywhere(ctx, &LINKS)
}

/// The caches say what is not there, too.
fn nothing(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u.l(""))?;
    u.mount()?;
    for n in ["none", "d/none"] {
        fails(sys::stx(&u.m(n)).map(|_| ()), Errno::NOENT, n)?;
        fails(cached(&u.m(n)), Errno::NOENT, &format!("{n}, cached"))?;
    }
    Ok(())
}

fn dangling(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u.l(""))?;
    u.mount()?;
    let p = u.m("dangling");
    fails(sys::open(&p, OFlags::RDONLY), Errno::NOENT, "followed")?;
    fails(cached(&p), Errno::NOENT, "cached")
}

/// A symlink's new target is seen at once: it is a new object in the place of the old one.
fn replaced(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u.l(""))?;
    u.mount()?;
    let p = u.m("to-file");
    for round in 0..20 {
        same(
            sys::read(&p)?.len(),
            if round % 2 == 0 { 1 } else { 3 },
            "the target",
        )?;
        let new = u.m("new");
        sys::write(&u.m("other"), "yyy")?;
        rustix::fs::symlink(if round % 2 == 0 { "other" } else { "d/f" }, &new)?;
        std::fs::rename(&new, &p)?;
    }
    Ok(())
}

/// The access time of what is in upper is kept; lower layers have none for us. `access` has the access time of `name` changed, which is
/// also in `upper`.
fn access_time_kept(u: &Union, name: &str, access: impl Fn(&Path) -> Res) -> Res {
    let atime = |p: &Path| -> Sys<(i64, u32)> {
        use rustix::fs::{AtFlags, StatxFlags};
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let st = rustix::fs::statx(CWD, p, flags, StatxFlags::ATIME)?;
        Ok((st.stx_atime.tv_sec, st.stx_atime.tv_nsec))
    };
    let in_upper = format!("upper/{name}");
    let (lower, upper) = (atime(&u.l(name))?, atime(&u.u(&in_upper))?);
    tick();
    for p in [name, &in_upper] {
        for _ in 0..3 {
            access(&u.m(p))?;
        }
    }
    same(atime(&u.l(name))?, lower, "in the lower layer")?;
    check(atime(&u.u(&in_upper))? > upper, "in upper: not kept")?;
    sys::chown(&u.m(name), 1, 1)?;
    let copied = atime(&u.m(name))?;
    tick();
    access(&u.m(name))?;
    check(atime(&u.m(name))? > copied, "copied up: not kept")
}

fn access_times(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u.l(""))?;
    std::fs::create_dir_all(u.u("upper"))?;
    tree(&u.u("upper"))?;
    u.mount()?;
    access_time_kept(&u, "to-file", |p| Ok(sys::read(p).map(drop)?))?;
    access_time_kept(&u, "d", |p| sys::names(p).map(drop))
}

tests! {
    Tmpfs: without_symlinks, symlinks, nothing, dangling, replaced, access_times;
    Ext4: without_symlinks, symlinks, access_times;
    Btrfs: symlinks;
}
