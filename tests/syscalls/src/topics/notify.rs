// SPDX-License-Identifier: GPL-2.0
//! inotify and fanotify on the merged mount.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;
use std::path::Path;

type Seen = Vec<(u32, String)>;

fn watch(p: &Path, what: WatchFlags) -> Res<OwnedFd> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, p, what)?;
    Ok(fd)
}

/// The masks and names that are waiting.
fn drain(fd: &OwnedFd) -> Res<Seen> {
    let mut out = Vec::new();
    let mut buf = [0u8; 8192];
    loop {
        let n = match rustix::io::read(fd, &mut buf) {
            Ok(n) => n,
            Err(Errno::AGAIN) => return Ok(out),
            Err(e) => return Err(e.into()),
        };
        let num = |i: usize| u32::from_ne_bytes([buf[i], buf[i + 1], buf[i + 2], buf[i + 3]]);
        let mut at = 0;
        while at + 16 <= n {
            let len = num(at + 12) as usize;
            let name = &buf[at + 16..at + 16 + len];
            let end = name.iter().position(|b| *b == 0).unwrap_or(len);
            let text = String::from_utf8_lossy(&name[..end]).into_owned();
            out.push((num(at + 4), text));
            at += 16 + len;
        }
    }
}

fn has(v: &Seen, mask: WatchFlags, name: &str) -> Res {
    check(
        v.iter().any(|(m, n)| m & mask.bits() != 0 && n == name),
        &format!("expected {mask:?} for {name:?}, seen {v:x?}"),
    )
}

fn directory_events(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/low"), "x")?;
    sys::write(&u.l("d/gone"), "x")?;
    u.mount()?;
    let fd = watch(&u.m("d"), WatchFlags::ALL_EVENTS)?;
    sys::write(&u.m("d/new"), "x")?;
    let v = drain(&fd)?;
    has(&v, WatchFlags::CREATE, "new")?;
    has(&v, WatchFlags::OPEN, "new")?;
    has(&v, WatchFlags::MODIFY, "new")?;
    has(&v, WatchFlags::CLOSE_WRITE, "new")?;
    sys::write(&u.m("d/low"), "copied up")?;
    let v = drain(&fd)?;
    has(&v, WatchFlags::MODIFY, "low")?;
    has(&v, WatchFlags::CLOSE_WRITE, "low")?;
    let made = v.iter().any(|(m, _)| m & WatchFlags::CREATE.bits() != 0);
    check(!made, &format!("a copy-up is no create, seen {v:x?}"))?;
    sys::chmod(&u.m("d/low"), 0o600)?;
    has(&drain(&fd)?, WatchFlags::ATTRIB, "low")?;
    sys::read(&u.m("d/gone"))?;
    has(&drain(&fd)?, WatchFlags::ACCESS, "gone")?;
    std::fs::remove_file(u.m("d/gone"))?;
    has(&drain(&fd)?, WatchFlags::DELETE, "gone")?;
    sys::rename(&u.m("d/low"), &u.m("d/moved"), RenameFlags::empty())?;
    let v = drain(&fd)?;
    has(&v, WatchFlags::MOVED_FROM, "low")?;
    has(&v, WatchFlags::MOVED_TO, "moved")?;
    std::fs::remove_file(u.m("d/moved"))?;
    std::fs::remove_file(u.m("d/new"))?;
    drain(&fd)?;
    std::fs::remove_dir(u.m("d"))?;
    has(&drain(&fd)?, WatchFlags::DELETE_SELF, "")
}

fn watch_survives_copy_up(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let fd = watch(&u.m("f"), WatchFlags::ALL_EVENTS)?;
    sys::write(&u.m("f"), "copied up")?;
    has(&drain(&fd)?, WatchFlags::MODIFY, "")?;
    sys::write(&u.m("f"), "again")?;
    has(&drain(&fd)?, WatchFlags::MODIFY, "")?;
    std::fs::remove_file(u.m("f"))?;
    let v = drain(&fd)?;
    has(&v, WatchFlags::DELETE_SELF, "")
}

fn watch_survives_reclaim(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    let fd = watch(&u.m("d"), WatchFlags::CREATE)?;
    sys::drop_caches(&ctx.tmp)?;
    sys::write(&u.m("d/new"), "x")?;
    has(&drain(&fd)?, WatchFlags::CREATE, "new")
}

fn fdinfo_of_a_deleted_file(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["low", "low2"] {
        sys::write(&u.l(n), "x")?;
    }
    sys::write(&u.u("up"), "x")?;
    u.mount()?;
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let mut open = Vec::new();
    for n in ["low", "low2", "up"] {
        inotify::add_watch(&fd, u.m(n), WatchFlags::ATTRIB)?;
        open.push(sys::open(&u.m(n), OFlags::RDONLY)?);
    }
    sys::chmod(&u.m("low2"), 0o600)?;
    for n in ["low", "low2", "up"] {
        std::fs::remove_file(u.m(n))?;
    }
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let lines = info
        .lines()
        .filter(|l| l.starts_with("inotify wd:"))
        .count();
    same(lines, 3, "watches in fdinfo")?;
    drop(open);
    Ok(())
}

const CLASS_NOTIF: u32 = 0;
const NONBLOCK: u32 = 2;
const CLASS_CONTENT: u32 = 4;
const MARK_ADD: u32 = 1;
const MARK_MOUNT: u32 = 0x10;
const MARK_FILESYSTEM: u32 = 0x100;
const OPEN: u64 = 0x20;
const MODIFY: u64 = 0x2;
const OPEN_PERM: u64 = 0x1_0000;
const ACCESS_PERM: u64 = 0x2_0000;
const ONDIR: u64 = 0x4000_0000;

fn fan(class: u32) -> Sys<OwnedFd> {
    let flags = libc::O_RDONLY as u32;
    // SAFETY: no memory is involved.
    sys::ret(unsafe { libc::syscall(libc::SYS_fanotify_init, class, flags) }).map(sys::raw_fd)
}

fn mark(fd: &OwnedFd, flags: u32, mask: u64, p: &Path) -> Sys<()> {
    let p = sys::cstr(p);
    // SAFETY: the path outlives the call.
    sys::ret(unsafe {
        libc::syscall(
            libc::SYS_fanotify_mark,
            fd.as_raw_fd(),
            flags,
            mask,
            libc::AT_FDCWD,
            p.as_ptr(),
        )
    })
    .map(|_| ())
}

/// [`mark`] for events that are asked about; skips the test where the kernel has none.
fn mark_asking(fd: &OwnedFd, flags: u32, mask: u64, p: &Path) -> Res {
    match mark(fd, flags, mask, p) {
        Err(Errno::INVAL) => Err(Failure::skip(
            "this kernel has no fanotify permission events",
        )),
        r => Ok(r?),
    }
}

/// The mask and the path of every event that waits.
fn fan_drain(fd: &OwnedFd, answer: Option<u32>) -> Res<Vec<(u64, String)>> {
    use std::os::fd::AsFd;
    let mut out = Vec::new();
    let mut buf = [0u64; 512];
    loop {
        // SAFETY: the kernel writes at most the size of the buffer.
        let n = match sys::ret(
            unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), 4096) } as i64,
        ) {
            Ok(n) => n as usize,
            Err(Errno::AGAIN) => return Ok(out),
            Err(e) => return Err(e.into()),
        };
        let bytes: Vec<u8> = buf.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut at = 0;
        while at + 24 <= n {
            let word =
                |i: usize| u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
            let mask = u64::from(word(at + 8)) | (u64::from(word(at + 12)) << 32);
            let file = sys::raw_fd(i64::from(word(at + 16) as i32));
            out.push((mask, sys::fd_path(file.as_fd())?));
            if let Some(a) = answer {
                let mut r = (file.as_raw_fd() as u32).to_ne_bytes().to_vec();
                r.extend_from_slice(&a.to_ne_bytes());
                rustix::io::write(fd, &r)?;
                return Ok(out);
            }
            at += word(at) as usize;
        }
    }
}

fn fanotify_mount_and_filesystem(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    u.mount()?;
    for how in [MARK_MOUNT, MARK_FILESYSTEM] {
        let fd = fan(CLASS_NOTIF | NONBLOCK)?;
        mark(&fd, MARK_ADD | how, OPEN | MODIFY, &u.mnt)?;
        for n in ["low", "up"] {
            sys::write(&u.m(n), "changed")?;
            let want = u.m(n).display().to_string();
            let v = fan_drain(&fd, None)?;
            for m in [OPEN, MODIFY] {
                check(
                    v.iter().any(|(mask, p)| mask & m != 0 && *p == want),
                    &format!("expected {m:#x} for {want}, seen {v:x?}"),
                )?;
            }
        }
    }
    Ok(())
}

fn fanotify_permission(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let fd = fan(CLASS_CONTENT)?;
    mark_asking(&fd, MARK_ADD, OPEN_PERM, &u.m("f"))?;
    for (answer, want) in [(1u32, Ok(())), (2, Err(Errno::PERM))] {
        let p = u.m("f");
        let t = std::thread::spawn(move || sys::open(&p, OFlags::RDONLY).map(|_| ()));
        let v = fan_drain(&fd, Some(answer))?;
        same(
            v[0].1.as_str(),
            u.m("f").display().to_string(),
            "the path that is asked about",
        )?;
        match t.join() {
            Ok(r) => same(r, want, "the answer decides")?,
            Err(_) => return Err(Failure::new("the opening thread died".to_owned())),
        }
    }
    Ok(())
}

/// Who watches a layer's directory, or the one that it is in, sees that the union lists it; whatever the union watches itself.
fn listing_is_seen_in_the_layer(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for dir in ["d", "d/sub", "merged"] {
        sys::mkdir(&u.l(dir))?;
    }
    sys::mkdir(&u.u("merged"))?;
    sys::write(&u.l("merged/low"), "x")?;
    u.mount()?;
    // Read twice, a merged directory is watched, and what another one lists is known.
    for _ in 0..20 {
        same(sys::names(&u.m("merged"))?.len(), 1, "names")?;
        for dir in ["d", "d/sub"] {
            sys::names(&u.m(dir))?;
        }
    }
    let reading = WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::CLOSE_NOWRITE;
    for (watched, name) in [("d", ""), ("d", "sub")] {
        let fd = watch(&u.l(watched), reading)?;
        sys::names(&u.m("d").join(name))?;
        let seen = drain(&fd)?;
        for what in [
            WatchFlags::OPEN,
            WatchFlags::ACCESS,
            WatchFlags::CLOSE_NOWRITE,
        ] {
            has(&seen, what, name)?;
        }
    }
    Ok(())
}

/// A directory without `chattr` flags is copied up by what its inode and its attributes say: nobody opens it.
fn directory_copied_up_unopened(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    let fd = watch(&u.l("d"), WatchFlags::OPEN)?;
    sys::mkdir(&u.m("d/new"))?;
    same(drain(&fd)?, Vec::new(), "opens of the lower directory")
}

/// Who is asked before a layer's directory is read is asked when the union lists it.
fn listing_asks_listeners(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    let dir = u.m("d");
    // Often enough to be known without the layer.
    for _ in 0..20 {
        sys::names(&dir)?;
    }
    let fd = fan(CLASS_CONTENT)?;
    mark_asking(&fd, MARK_ADD, ACCESS_PERM | ONDIR, &u.l("d"))?;
    let listing = std::thread::spawn(move || sys::names(&dir).is_ok());
    same(fan_drain(&fd, Some(2))?.len(), 1, "questions")?;
    drop(fd);
    same(listing.join().ok(), Some(false), "what was refused")
}

/// A program that is asked before directories of a layer are opened may look names up itself: nothing that a lookup
/// does waits for its answer.
fn lookups_ask_nobody(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 3)?;
    for i in 0..3 {
        sys::mkdir(&u.ln(i, "d"))?;
    }
    u.mount()?;
    let fd = fan(CLASS_CONTENT | NONBLOCK)?;
    mark_asking(&fd, MARK_ADD | MARK_FILESYSTEM, OPEN_PERM | ONDIR, &u.l(""))?;
    let dir = u.m("d");
    let lookups =
        std::thread::spawn(move || (0..2000).all(|i| !sys::exists(&dir.join(format!("no{i}")))));
    let mut asked = 0;
    while !lookups.is_finished() {
        // Answered, so that the thread goes on.
        asked += fan_drain(&fd, Some(1))?.len();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    same(lookups.join().ok(), Some(true), "names that are not there")?;
    same(asked, 0, "opens that were asked for")
}

fn fanotify_ignores_the_layers(ctx: &Ctx) -> Res {
    // Work on the union is no event on the filesystem of its layers.
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    u.mount()?;
    let fd = fan(CLASS_NOTIF | NONBLOCK)?;
    mark(&fd, MARK_ADD | MARK_MOUNT, OPEN | MODIFY, &u.u(""))?;
    sys::read(&u.m("low"))?;
    sys::write(&u.m("up"), "changed")?;
    same(
        fan_drain(&fd, None)?,
        Vec::new(),
        "events on the mount of the layers",
    )
}

tests! {
    Tmpfs: directory_events, watch_survives_copy_up, watch_survives_reclaim,
        fdinfo_of_a_deleted_file, fanotify_mount_and_filesystem, fanotify_permission,
        fanotify_ignores_the_layers, lookups_ask_nobody, listing_is_seen_in_the_layer,
        listing_asks_listeners, directory_copied_up_unopened;
    Ext4: directory_events, fdinfo_of_a_deleted_file;
}
