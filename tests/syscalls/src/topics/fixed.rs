// SPDX-License-Identifier: GPL-2.0
//! Mistakes that overlayfs made and mended: the rules of Documentation/security.rst that
//! no other topic is about.

use super::race::together;
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use rustix::fd::AsRawFd;
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

const NONE: RenameFlags = RenameFlags::empty();

/// A name that is missing now and again is no error.
fn maybe<T>(r: Sys<T>) -> Sys<()> {
    match r {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

fn all_ok(r: Vec<Sys<()>>, what: &str) -> Res {
    r.into_iter().try_for_each(|r| works(r, what))
}

/// 2024-56570: a lower root is fine, but a directory in it is an automount point.
fn weird_lower_entry(ctx: &Ctx) -> Res {
    let mut u = Union::layers(ctx, 2)?;
    let auto = ctx.tmp.join("auto");
    sys::mkdir(&auto)?;
    let (_daemon, kernel) = rustix::pipe::pipe()?;
    let group = rustix::process::getpgrp().as_raw_nonzero();
    let fd = kernel.as_raw_fd();
    let data = sys::cs(&format!(
        "fd={fd},pgrp={group},minproto=5,maxproto=5,indirect"
    ));
    match rustix::mount::mount(
        "auto",
        &auto,
        "autofs",
        MountFlags::empty(),
        sys::as_c(&data),
    ) {
        Err(Errno::NODEV) => return Err(Failure::skip("the kernel has no autofs")),
        other => works(other, "mount of an autofs")?,
    }
    sys::mkdir(&auto.join("trap"))?;
    std::fs::create_dir_all(u.ln(1, "trap/below"))?;
    sys::write(&u.ln(1, "plain"), "x")?;
    u.lowers[0] = auto.clone();
    u.mount()?;
    fails(
        sys::stx(&u.m("trap")),
        Errno::REMOTE,
        "stat of an automount point",
    )?;
    fails(
        sys::read(&u.m("trap/below")),
        Errno::REMOTE,
        "what is below it in another layer",
    )?;
    same(sys::read(&u.m("plain"))?, b"x", "other names")?;
    u.umount()?;
    rustix::mount::unmount(&auto, rustix::mount::UnmountFlags::DETACH)?;
    Ok(())
}

/// 2021-20321: the target of a rename is looked at again under the lock, whether the mount knows it
/// as missing, as a whiteout or as a file.
fn rename_over_what_appeared_in_upper(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["a", "b", "c"] {
        sys::write(&u.u(n), n)?;
    }
    sys::write(&u.u("file"), "known")?;
    sys::write(&u.l("gone"), "lower")?;
    sys::whiteout(&u.u("gone"))?;
    u.mount()?;
    for n in ["a", "b", "c", "file"] {
        sys::stx(&u.m(n))?;
    }
    for n in ["new", "gone"] {
        fails(sys::stx(&u.m(n)), Errno::NOENT, n)?;
    }
    std::fs::remove_file(u.u("gone"))?;
    std::fs::rename(u.u("file"), u.u("aside"))?;
    for (from, to) in [("a", "new"), ("b", "gone"), ("c", "file")] {
        sys::write(&u.u(to), "somebody else's")?;
        let r = sys::rename(&u.m(from), &u.m(to), NONE);
        fails(r, Errno::STALE, "rename over what appeared")?;
        same(sys::read(&u.u(to))?, b"somebody else's", to)?;
        same(sys::read(&u.u(from))?, from.as_bytes(), from)?;
    }
    Ok(())
}

/// A directory is listed, with `..`, while it goes from parent to parent and these go away.
fn listed_while_moved(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        std::fs::create_dir_all(u.ln(i, "a"))?;
        std::fs::create_dir_all(u.ln(i, "b"))?;
    }
    u.mount()?;
    std::fs::create_dir_all(u.m("a/d/sub"))?;
    for i in 0..20 {
        sys::write(&u.m(&format!("a/d/f{i}")), "x")?;
    }
    let m = u.mnt.clone();
    let done = Arc::new(AtomicBool::new(false));
    let r = together(4, move |t| -> Sys<()> {
        if t == 0 {
            let r = (0..60).try_for_each(|i| {
                let (from, to) = if i % 2 == 0 { ("a", "b") } else { ("b", "a") };
                let new = m.join(to).join(format!("p{i}"));
                sys::mkdir(&new)?;
                let old = match i {
                    0 => m.join("a/d"),
                    _ => m.join(from).join(format!("p{}/d", i - 1)),
                };
                sys::rename(&old, &new.join("d"), NONE)?;
                match old.parent() {
                    Some(parent) if i > 0 => rustix::fs::rmdir(parent),
                    _ => Ok(()),
                }
            });
            done.store(true, Ordering::Relaxed);
            return r;
        }
        let mut i = 0;
        while !done.load(Ordering::Relaxed) {
            let side = if i % 2 == 0 { "a" } else { "b" };
            i += 1;
            let Ok(parents) = std::fs::read_dir(m.join(side)) else {
                return Err(Errno::ILSEQ);
            };
            for p in parents.flatten() {
                let d = p.path().join("d");
                let Ok(fd) = sys::open(&d, OFlags::RDONLY | OFlags::DIRECTORY) else {
                    continue;
                };
                let mut dir = rustix::fs::Dir::new(fd)?;
                // Twice: the second time the directory is somewhere else.
                for _ in 0..2 {
                    let count = dir.by_ref().filter(Result::is_ok).count();
                    if count != 23 {
                        return Err(Errno::ILSEQ);
                    }
                    dir.rewind();
                }
            }
        }
        Ok(())
    })?;
    all_ok(r, "listing and moving")
}

/// While a lower directory is copied up and its first name removed, the whiteout is never listed and
/// the name does not come back.
fn whiteouts_never_show(ctx: &Ctx) -> Res {
    const DIRS: usize = 25;
    let u = Union::new(ctx)?;
    for i in 0..DIRS {
        let d = u.l(&format!("d{i}"));
        sys::mkdir(&d)?;
        for n in ["gone", "stays"] {
            sys::write(&d.join(n), n)?;
        }
    }
    u.mount()?;
    let m = u.mnt.clone();
    let r = together(4, move |t| -> Sys<()> {
        for i in 0..DIRS {
            let d = m.join(format!("d{i}"));
            if t == 0 {
                rustix::fs::unlink(d.join("gone"))?;
                continue;
            }
            let mut gone = false;
            for _ in 0..6 {
                let fd = sys::open(&d, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let mut seen = false;
                for e in rustix::fs::Dir::new(fd)? {
                    let e = e?;
                    seen |= e.file_name() == c"gone";
                    if e.file_type() == rustix::fs::FileType::CharacterDevice {
                        return Err(Errno::NOTBLK);
                    }
                }
                // EILSEQ stands for a name that came back.
                if gone && seen {
                    return Err(Errno::ILSEQ);
                }
                gone |= !seen;
            }
        }
        Ok(())
    })?;
    all_ok(r, "listing while the first name is removed")?;
    for i in 0..DIRS {
        let d = u.m(&format!("d{i}"));
        same(sys::names(&d)?, ["stays"], "names afterwards")?;
    }
    u.work_is_empty()
}

/// A copy-up publishes under the name that the object has, not under one that changes meanwhile.
fn renamed_while_copied_up(ctx: &Ctx) -> Res {
    const FILES: usize = 40;
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    for i in 0..FILES {
        sys::write(&u.l(&format!("d/f{i}")), format!("content {i}"))?;
    }
    u.mount()?;
    let m = u.mnt.clone();
    let r = together(3, move |t| -> Sys<()> {
        for i in 0..FILES {
            let (old, new) = (m.join(format!("d/f{i}")), m.join(format!("d/moved-{i}")));
            match t {
                0 => sys::rename(&old, &new, NONE)?,
                1 => maybe(sys::chmod(&old, 0o600))?,
                _ => maybe(sys::setx(&old, "trusted.x", b"1"))?,
            }
        }
        Ok(())
    })?;
    all_ok(r, "rename against copy-up")?;
    let check_all = || -> Res {
        let mut want: Vec<_> = (0..FILES).map(|i| format!("moved-{i}")).collect();
        want.sort();
        same(sys::names(&u.m("d"))?, want, "names")?;
        for i in 0..FILES {
            let seen = sys::read(&u.m(&format!("d/moved-{i}")))?;
            same(seen, format!("content {i}").into_bytes(), "content")?;
        }
        Ok(())
    };
    check_all()?;
    u.work_is_empty()?;
    u.again()?;
    check_all()
}

/// What was removed is changed through a descriptor: nothing comes back to upper.
fn removed_is_not_copied_up(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("f"), "x")?;
    u.mount()?;
    let d = sys::open(&u.m("d"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let f = sys::open(&u.m("f"), OFlags::RDONLY)?;
    rustix::fs::rmdir(u.m("d"))?;
    rustix::fs::unlink(u.m("f"))?;
    let mode = rustix::fs::Mode::from_bits_retain(0o700);
    // Whether these are possible is open; what they leave is not.
    for fd in [&d, &f] {
        let _ = rustix::fs::fchmod(fd, mode);
        let _ = rustix::fs::fsetxattr(fd, "trusted.x", b"1", rustix::fs::XattrFlags::empty());
    }
    let at = rustix::fs::openat(&d, "new", OFlags::CREATE | OFlags::WRONLY, mode);
    fails(at, Errno::NOENT, "create in a removed directory")?;
    for n in ["d", "f"] {
        check(sys::is_whiteout(&u.u(n)), "the whiteout stays")?;
        check(!sys::exists(&u.m(n)), "the name came back")?;
    }
    drop((d, f));
    u.work_is_empty()
}

/// Runs `change` on a lower file again and again while many files are copied up.
fn copied_up_against(
    u: &Union,
    files: usize,
    change: impl Fn(&Path, usize) -> Sys<()> + Send + Sync + 'static,
) -> Res {
    let (m, low) = (u.mnt.clone(), u.l(""));
    let at = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let r = together(2, move |t| -> Sys<()> {
        if t == 1 {
            for i in 0..files {
                at.store(i, Ordering::Relaxed);
                // A copy-up may give up what changes under its hands, and leaves nothing then.
                while let Err(e) = sys::chmod(&m.join(format!("f{i}")), 0o600) {
                    if ![Errno::RANGE, Errno::NODATA, Errno::IO].contains(&e) {
                        return Err(e);
                    }
                }
            }
            at.store(files, Ordering::Relaxed);
            return Ok(());
        }
        let mut n = 0;
        loop {
            match at.load(Ordering::Relaxed) {
                i if i == files => return Ok(()),
                i => change(&low.join(format!("f{i}")), n)?,
            }
            n += 1;
        }
    })?;
    all_ok(r, "a copy-up while the lower attributes change")
}

/// An attribute's length changes between the question for it and the answer: the copy has one of the
/// values, whole.
fn xattr_value_that_changes(ctx: &Ctx) -> Res {
    const FILES: usize = 60;
    let u = Union::new(ctx)?;
    for i in 0..FILES {
        sys::write(&u.l(&format!("f{i}")), "x")?;
        sys::setx(&u.l(&format!("f{i}")), "trusted.x", &[b'a'; 10])?;
    }
    u.mount()?;
    copied_up_against(&u, FILES, |f, n| match n % 2 {
        0 => sys::setx(f, "trusted.x", &[b'b'; 200]),
        _ => sys::setx(f, "trusted.x", &[b'a'; 10]),
    })?;
    for i in 0..FILES {
        let x = sys::getx(&u.u(&format!("f{i}")), "trusted.x")?;
        check(x == [b'a'; 10] || x == [b'b'; 200], "a value of the two")?;
    }
    u.work_is_empty()
}

/// Attributes come and go between the list and the look at each: the copy-up goes on.
fn xattr_names_that_change(ctx: &Ctx) -> Res {
    const FILES: usize = 60;
    let u = Union::new(ctx)?;
    for i in 0..FILES {
        sys::write(&u.l(&format!("f{i}")), "x")?;
        sys::setx(&u.l(&format!("f{i}")), "trusted.stays", b"1")?;
    }
    u.mount()?;
    copied_up_against(&u, FILES, |f, n| {
        let name = format!("trusted.name-that-makes-the-list-longer-{}", n / 2 % 3);
        match n % 2 {
            0 => sys::setx(f, &name, b"value"),
            _ => match rustix::fs::lremovexattr(f, name.as_str()) {
                Err(Errno::NODATA) => Ok(()),
                other => other,
            },
        }
    })?;
    for i in 0..FILES {
        let x = sys::getx(&u.u(&format!("f{i}")), "trusted.stays")?;
        same(x, b"1", "the attribute that stayed")?;
    }
    u.work_is_empty()
}

/// An empty `security.capability` can be set but not be read.
fn empty_capability(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    match sys::setx(&u.l("f"), "security.capability", b"") {
        Err(e) => {
            let reason = format!("the layer takes no empty capability: {}", errno_name(e));
            return Err(Failure::skip(&reason));
        }
        Ok(()) => u.mount()?,
    }
    works(sys::chmod(&u.m("f"), 0o600), "a copy-up with it")?;
    same(sys::read(&u.u("f"))?, b"x", "the copy")
}

/// 2018-16597: a lower layer that cannot be written is asked for reading when one of its files is
/// written, and the caller is asked for writing.
fn written_on_a_read_only_lower(ctx: &Ctx) -> Res {
    let mut u = Union::split(ctx)?;
    sys::write(&u.l("f"), "lower")?;
    sys::write(&u.l("all"), "lower")?;
    sys::chmod(&u.l("all"), 0o666)?;
    let low = u.lowers[0].parent().map(Path::to_path_buf);
    let low = low.ok_or_else(|| Failure::new("the layer has no parent".to_owned()))?;
    rustix::mount::mount_remount(&low, MountFlags::RDONLY, "")?;
    u.options = String::new();
    u.mount()?;
    works(
        rustix::fs::access(u.m("f"), rustix::fs::Access::WRITE_OK),
        "access(W_OK)",
    )?;
    works(sys::write(&u.m("f"), "new"), "a write")?;
    sys::as_user(1000, 1000, &[], || {
        works(sys::write(&u.m("all"), "user"), "a write by a user")?;
        let r = sys::open(&u.m("f"), OFlags::WRONLY);
        fails(r, Errno::ACCESS, "a write by one who may not")
    })?;
    same(sys::read(&u.u("all"))?, b"user", "the copy")
}

/// 2026-53174: a listing in which nothing or little is left to show is no error, nested or not.
fn listing_of_hidden_entries(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        for n in ["a", "b", "c"] {
            sys::write(&u.ln(i, &format!("d/{n}")), n)?;
        }
    }
    u.mount()?;
    let outer = ctx.root.join("outer");
    sys::mkdir(&outer)?;
    let mut o = Union::at(&outer, 2)?;
    sys::mkdir(&o.ln(1, "d"))?;
    o.lowers[0] = u.mnt.clone();
    for left in [vec!["b", "c"], vec!["c"], vec![]] {
        let gone = ["a", "b", "c"][2 - left.len()];
        std::fs::remove_file(u.m(&format!("d/{gone}")))?;
        o.mount()?;
        for d in [u.m("d"), o.m("d")] {
            for _ in 0..2 {
                same(sys::names(&d)?, &left[..], "names")?;
            }
        }
        o.umount()?;
    }
    Ok(())
}

tests! {
    Tmpfs: written_on_a_read_only_lower, listing_of_hidden_entries, weird_lower_entry, rename_over_what_appeared_in_upper, listed_while_moved,
        whiteouts_never_show, renamed_while_copied_up, removed_is_not_copied_up,
        xattr_value_that_changes, xattr_names_that_change, empty_capability;
    Ext4: whiteouts_never_show, xattr_value_that_changes, xattr_names_that_change,
        empty_capability;
}
