// SPDX-License-Identifier: GPL-2.0
//! Mounts that are refused, and what the mount context's log says then.

use super::mount::{attach, filled, fs_open, usable};
use crate::harness::*;
use crate::sys;
use crate::union::{is_overlayfs, Union};
use rustix::fs::{OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::*;
use std::path::Path;

struct Refusal {
    name: &'static str,
    options: &'static [(&'static str, &'static str)],
    errno: Errno,
    /// What the log of the mount context says; where overlayfs only writes
    /// to the kernel log this holds for the others alone.
    log: &'static str,
    overlayfs_says: bool,
}

macro_rules! refusal {
    ($name:literal, $opts:expr, $errno:ident, $log:literal, $says:expr) => {
        Refusal {
            name: $name,
            options: $opts,
            errno: Errno::$errno,
            log: $log,
            overlayfs_says: $says,
        }
    };
}

const REFUSALS: &[Refusal] = &[
    refusal!(
        "unknown option",
        &[("lowerdir", "l0"), ("nosuch", "1")],
        INVAL,
        "nosuch",
        true
    ),
    refusal!(
        "no lowerdir",
        &[("upperdir", "u"), ("workdir", "w")],
        INVAL,
        "lowerdir",
        false
    ),
    refusal!(
        "no workdir",
        &[("lowerdir", "l0"), ("upperdir", "u")],
        INVAL,
        "workdir",
        false
    ),
    refusal!(
        "single lower without upper",
        &[("lowerdir", "l0")],
        INVAL,
        "lowerdir",
        false
    ),
    refusal!(
        "lowerdir is a file",
        &[("lowerdir", "file")],
        INVAL,
        "not a directory",
        true
    ),
    refusal!(
        "lowerdir+ is a file",
        &[("lowerdir+", "file")],
        INVAL,
        "not a directory",
        true
    ),
    refusal!(
        "upperdir is a file",
        &[("upperdir", "file")],
        INVAL,
        "not a directory",
        true
    ),
    refusal!(
        "workdir is a file",
        &[("workdir", "file")],
        INVAL,
        "not a directory",
        true
    ),
    refusal!(
        "lowerdir is missing",
        &[("lowerdir", "l0:none")],
        NOENT,
        "lowerdir",
        false
    ),
    refusal!(
        "upperdir is missing",
        &[("upperdir", "none")],
        NOENT,
        "upperdir",
        false
    ),
    refusal!(
        "workdir is missing",
        &[("workdir", "none")],
        NOENT,
        "workdir",
        false
    ),
    refusal!(
        "upperdir on a read-only mount",
        &[("upperdir", "ro/u")],
        INVAL,
        "read-only",
        true
    ),
    refusal!(
        "workdir on a read-only mount",
        &[("workdir", "ro/w")],
        INVAL,
        "read-only",
        true
    ),
    refusal!(
        "empty lowerdir+",
        &[("lowerdir+", "")],
        INVAL,
        "lowerdir+",
        false
    ),
    refusal!(
        "empty upperdir",
        &[("upperdir", "")],
        INVAL,
        "upperdir",
        false
    ),
    refusal!("empty workdir", &[("workdir", "")], INVAL, "workdir", false),
    refusal!(
        "leading colon",
        &[("lowerdir", ":l0")],
        INVAL,
        "lowerdir",
        false
    ),
    refusal!(
        "trailing colon",
        &[("lowerdir", "l0:")],
        INVAL,
        "lowerdir",
        false
    ),
    refusal!(
        "three colons",
        &[("lowerdir", "l0:::l1")],
        INVAL,
        "lowerdir",
        false
    ),
    refusal!(
        "lowerdir+ after lowerdir",
        &[("lowerdir", "l0"), ("lowerdir+", "l1")],
        INVAL,
        "cannot follow lowerdir",
        true
    ),
    refusal!(
        "workdir on another filesystem",
        &[
            ("lowerdir", "l0"),
            ("upperdir", "u"),
            ("workdir", "other/w")
        ],
        INVAL,
        "workdir",
        false
    ),
    refusal!(
        "workdir inside upperdir",
        &[("lowerdir", "l0"), ("upperdir", "u"), ("workdir", "u/in")],
        INVAL,
        "workdir",
        false
    ),
    refusal!(
        "upperdir inside workdir",
        &[("lowerdir", "l0"), ("upperdir", "w/in"), ("workdir", "w")],
        INVAL,
        "workdir",
        false
    ),
    refusal!(
        "upperdir is workdir",
        &[("lowerdir", "l0"), ("upperdir", "u"), ("workdir", "u")],
        INVAL,
        "workdir",
        false
    ),
    refusal!(
        "the same lower twice",
        &[("lowerdir", "l0:l0"), ("upperdir", "u"), ("workdir", "w")],
        LOOP,
        "lowerdir",
        false
    ),
    refusal!(
        "a lower inside another",
        &[
            ("lowerdir", "l0:l0/in"),
            ("upperdir", "u"),
            ("workdir", "w")
        ],
        LOOP,
        "lowerdir",
        false
    ),
    refusal!(
        "lower is upper",
        &[("lowerdir", "u"), ("upperdir", "u"), ("workdir", "w")],
        LOOP,
        "lowerdir",
        false
    ),
    refusal!(
        "lower inside upper",
        &[("lowerdir", "u/in"), ("upperdir", "u"), ("workdir", "w")],
        LOOP,
        "lowerdir",
        false
    ),
];

fn refusals(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    std::env::set_current_dir(&ctx.root)?;
    for d in ["u/in", "w/in", "l0/in", "ro", "other"] {
        sys::mkdir(Path::new(d))?;
    }
    sys::write(Path::new("file"), "")?;
    sys::mount_tmpfs(Path::new("other"), "size=1m")?;
    sys::mount_tmpfs(Path::new("ro"), "size=1m")?;
    for d in ["other/w", "ro/u", "ro/w"] {
        sys::mkdir(Path::new(d))?;
    }
    mount_remount("ro", MountFlags::RDONLY | MountFlags::BIND, c"")?;
    let mut wrong = Vec::new();
    for r in REFUSALS {
        let fs = fs_open()?;
        let done = r
            .options
            .iter()
            .try_for_each(|(k, v)| fsconfig_set_string(&fs, *k, *v))
            .and_then(|()| fsconfig_create(&fs));
        match done {
            Err(e) if e == r.errno => {}
            Err(e) => wrong.push(format!(
                "{}: expected {}, seen {}",
                r.name,
                errno_name(r.errno),
                errno_name(e)
            )),
            Ok(()) => wrong.push(format!(
                "{}: expected {}, seen success",
                r.name,
                errno_name(r.errno)
            )),
        }
        let log = sys::context_log(&fs);
        if !log.contains(r.log) && (r.overlayfs_says || !is_overlayfs()) {
            wrong.push(format!(
                "{}: expected {:?} in the log, seen {log:?}",
                r.name, r.log
            ));
        }
    }
    check(wrong.is_empty(), &wrong.join("; "))?;
    // A refused mount leaves the layers free for the next.
    u.mount()
}

fn doubled_directories(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    let other = ctx.root.join("other-upper");
    sys::mkdir(&other)?;
    let fs = fs_open()?;
    fsconfig_set_string(&fs, "lowerdir+", &u.lowers[0])?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    fsconfig_set_string(&fs, "upperdir", &other)?;
    // overlayfs lets the last one win; a refusal has to say so.
    match fsconfig_set_string(&fs, "upperdir", u.u("")) {
        Ok(()) => {
            check(is_overlayfs(), "rovl refuses a doubled upperdir")?;
            attach(&fs, &u.mnt)?;
            usable(&u, 1)
        }
        Err(e) => {
            same(e, Errno::INVAL, "a doubled upperdir")?;
            check(!is_overlayfs(), "overlayfs takes the last upperdir")?;
            let log = sys::context_log(&fs);
            check(
                log.contains("upperdir"),
                &format!("the log names it, seen {log:?}"),
            )
        }
    }
}

fn option_without_value(_: &Ctx) -> Res {
    for key in ["lowerdir+", "upperdir", "workdir"] {
        let fs = fs_open()?;
        fails(fsconfig_set_flag(&fs, key), Errno::INVAL, key)?;
        let log = sys::context_log(&fs);
        check(
            log.contains(key),
            &format!("the log names {key}, seen {log:?}"),
        )?;
    }
    Ok(())
}

fn binary_and_path_types_refused(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let fs = fs_open()?;
    fails(
        fsconfig_set_binary(&fs, "upperdir", b"/tmp"),
        Errno::INVAL,
        "a binary value",
    )?;
    fails(
        fsconfig_set_path(&fs, "upperdir", u.u(""), CWD),
        Errno::INVAL,
        "a path value",
    )
}

fn fd_of_a_file_refused(ctx: &Ctx) -> Res {
    let f = ctx.root.join("file");
    sys::write(&f, "")?;
    for key in ["lowerdir+", "upperdir", "workdir"] {
        let fs = fs_open()?;
        let fd = sys::open(&f, OFlags::PATH)?;
        fails(fsconfig_set_fd(&fs, key, fd), Errno::INVAL, key)?;
        let log = sys::context_log(&fs);
        check(
            log.contains("not a directory"),
            &format!("the log says why {key} is refused, seen {log:?}"),
        )?;
    }
    Ok(())
}

fn limit_of_500(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 501)?;
    let fs = fs_open()?;
    for l in &u.lowers[..500] {
        fsconfig_set_string(&fs, "lowerdir+", l)?;
    }
    // "up to 500 lower layers and more where memory allows"
    match fsconfig_set_string(&fs, "lowerdir+", &u.lowers[500]) {
        Ok(()) => {
            check(!is_overlayfs(), "overlayfs takes 500 layers at most")?;
            attach(&fs, &u.mnt)
        }
        Err(e) => {
            same(e, Errno::INVAL, "the 501st layer")?;
            let log = sys::context_log(&fs);
            check(
                log.contains("too many lower directories"),
                &format!("the log says why, seen {log:?}"),
            )
        }
    }
}

fn stacking_depth(ctx: &Ctx) -> Res {
    let mut last = ctx.root.join("base");
    sys::mkdir(&last)?;
    sys::write(&last.join("f"), "x")?;
    for depth in 1..=3 {
        let root = ctx.root.join(format!("d{depth}"));
        sys::mkdir(&root)?;
        let mut u = Union::at(&root, 1)?;
        u.lowers = vec![last.clone()];
        if depth == 3 {
            return fails(
                u.try_mount(),
                Errno::INVAL,
                "a union over a union over a union",
            );
        }
        u.mount()?;
        same(sys::read(&u.m("f"))?, b"x", "the file at the bottom")?;
        let own = u.m(&format!("of{depth}"));
        sys::write(&own, "own")?;
        same(sys::read(&own)?, b"own", "a file of this union")?;
        last = u.mnt.clone();
    }
    Ok(())
}

fn upper_must_not_be_a_union(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    for d in ["u2", "w2"] {
        sys::mkdir(&u.m(d))?;
    }
    let root = ctx.root.join("second");
    sys::mkdir(&root)?;
    let mut v = Union::at(&root, 1)?;
    v.upper = Some(u.m("u2"));
    v.work = u.m("w2");
    fails(v.try_mount(), Errno::INVAL, "an upper on a union mount")
}

fn foreign_context_refused(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    let fs = fs_open()?;
    fsconfig_set_string(&fs, "lowerdir+", &u.lowers[0])?;
    fsconfig_set_string(&fs, "upperdir", u.u(""))?;
    fsconfig_set_string(&fs, "workdir", &u.work)?;
    sys::in_child(|| {
        super::userns::enter_single(0)?;
        match fsconfig_create(&fs) {
            Err(Errno::INVAL | Errno::PERM) => Ok(()),
            r => Err(Failure::new(format!(
                "create from another user namespace: expected EINVAL or EPERM, seen {r:?}"
            ))),
        }
    })
}

fn layers_in_use(ctx: &Ctx) -> Res {
    let u = filled(ctx, 1)?;
    u.mount()?;
    let root = ctx.root.join("second");
    sys::mkdir(&root)?;
    let mut v = Union::at(&root, 1)?;
    v.upper = u.upper.clone();
    // Without index overlayfs only warns.
    match v.try_mount() {
        Ok(()) => {}
        Err(e) => {
            check(!is_overlayfs(), "overlayfs takes an upper in use")?;
            same(e, Errno::BUSY, "an upper in use")?;
        }
    }
    usable(&u, 1)
}

tests! {
    Tmpfs: refusals, doubled_directories, option_without_value, binary_and_path_types_refused,
        fd_of_a_file_refused, limit_of_500, layers_in_use, stacking_depth, upper_must_not_be_a_union,
        foreign_context_refused;
}
