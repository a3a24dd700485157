// SPDX-License-Identifier: GPL-2.0
//! File identifiers: file handles that are to be compared, not opened.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

pub(super) const AT_HANDLE_FID: i32 = 0x200;
pub(super) const AT_HANDLE_CONNECTABLE: i32 = 2;
/// The longest handle that name_to_handle_at() takes.
pub(super) const MAX: usize = 128;
/// The type of overlayfs's handles.
const OVL_FILEID_V1: i32 = 0xf8;
/// `FILEID_INO64_GEN`: what a filesystem without handles has for an identifier.
const INO64_GEN: i32 = 0x81;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Fid {
    pub kind: i32,
    pub bytes: Vec<u8>,
}

/// name_to_handle_at() with room for `size` bytes: what it returns, the length that it says, the handle.
pub(super) fn handle(p: &Path, flags: i32, size: usize) -> (Sys<()>, usize, Fid) {
    let mut buf = [0u8; 8 + MAX];
    buf[..4].copy_from_slice(&(size as u32).to_ne_bytes());
    let mut mount = 0i32;
    let p = sys::cstr(p);
    // SAFETY: the kernel writes the header and at most `size` bytes, and the mount's id.
    let r = sys::ret(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            p.as_ptr(),
            buf.as_mut_ptr(),
            &raw mut mount,
            flags,
        )
    });
    let word = |i: usize| [buf[i], buf[i + 1], buf[i + 2], buf[i + 3]];
    let len = u32::from_ne_bytes(word(0)) as usize;
    let fid = Fid {
        kind: i32::from_ne_bytes(word(4)),
        bytes: buf[8..8 + len.min(MAX)].to_vec(),
    };
    (r.map(|_| ()), len, fid)
}

pub(super) fn fid(p: &Path) -> Sys<Fid> {
    let (r, _, fid) = handle(p, AT_HANDLE_FID, MAX);
    r.map(|()| fid)
}

/// The handle that overlayfs makes of a layer's object.
pub(super) fn wrapped(real: &Path, upper: bool) -> Res<Fid> {
    let (r, _, real) = handle(real, 0, MAX);
    r?;
    let len = 21 + real.bytes.len();
    let mut bytes = vec![0, 0, 0, 0, 0xfb, len as u8, u8::from(upper) * 4];
    bytes.push(real.kind as u8);
    // The filesystem's UUID; `format` leaves it out of the comparison.
    bytes.extend([0; 16]);
    bytes.extend(&real.bytes);
    Ok(Fid {
        kind: OVL_FILEID_V1,
        bytes,
    })
}

const NAMES: [&str; 9] = [
    "", "low", "lowdir", "both", "bothdir", "up", "updir", "link", "fifo",
];

fn tree(u: &Union) -> Res {
    for (at, name) in [(u.l(""), "low"), (u.u(""), "up")] {
        for n in [name, "both"] {
            sys::write(&at.join(n), n)?;
            sys::mkdir(&at.join(format!("{n}dir")))?;
        }
    }
    rustix::fs::symlink("low", u.l("link"))?;
    sys::mknod(&u.l("fifo"), FileType::Fifo, 0o644, 0)?;
    u.mount()
}

fn fids(u: &Union) -> Res<BTreeMap<&'static str, Fid>> {
    NAMES.iter().map(|n| Ok((*n, fid(&u.m(n))?))).collect()
}

/// The layer's own handle in a header that says which layer it is of.
fn format(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u)?;
    let mut uuids = Vec::new();
    for n in NAMES {
        // A merged directory is its lower one, so that it stays the same when it is copied up; the root never is.
        let upper = sys::exists(&u.u(n)) && n != "bothdir";
        let real = if upper { u.u(n) } else { u.l(n) };
        let mut seen = fid(&u.m(n))?;
        check(seen.bytes.len() > 24, &format!("too short: {seen:x?}"))?;
        uuids.push(seen.bytes[8..24].to_vec());
        seen.bytes[8..24].fill(0);
        same(seen, wrapped(&real, upper)?, &format!("{n:?}"))?;
    }
    check(uuids[0].iter().any(|b| *b != 0), "no UUID")?;
    check(uuids.iter().all(|u| *u == uuids[0]), "different UUIDs")
}

/// As long as an object is the same, so is its identifier: over its copy-up, its eviction and a new mount.
fn same_object(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u)?;
    let before = fids(&u)?;
    let check_all = |when: &str| same(fids(&u)?, before.clone(), when);
    sys::drop_caches(&ctx.tmp)?;
    check_all("evicted")?;
    for n in ["low", "lowdir", "both", "bothdir", "up", "updir", "fifo"] {
        sys::chmod(&u.m(n), 0o700)?;
    }
    sys::chown(&u.m("link"), 1, 1)?;
    check_all("copied up")?;
    sys::write(&u.m("lowdir/f"), "")?;
    sys::drop_caches(&ctx.tmp)?;
    check_all("copied up and evicted")?;
    u.again()?;
    check_all("mounted anew")?;
    sys::rename(&u.m("low"), &u.m("moved"), rustix::fs::RenameFlags::empty())?;
    same(&fid(&u.m("moved"))?, &before["low"], "renamed")?;
    u.again()?;
    same(
        &fid(&u.m("moved"))?,
        &before["low"],
        "renamed, mounted anew",
    )
}

/// Different objects have different ones, also those that have a number in common.
fn different_objects(u: &Union) -> Res {
    tree(u)?;
    for i in 0..60 {
        sys::write(&u.l(&format!("lowdir/f{i}")), "")?;
        sys::write(&u.u(&format!("updir/f{i}")), "")?;
    }
    let mut seen = BTreeMap::new();
    let mut all: Vec<String> = NAMES.iter().map(|n| (*n).to_owned()).collect();
    for i in 0..60 {
        all.push(format!("lowdir/f{i}"));
        all.push(format!("updir/f{i}"));
    }
    for n in &all {
        if let Some(other) = seen.insert(fid(&u.m(n))?, n.clone()) {
            return Err(Failure::new(format!("{n} and {other} share a handle")));
        }
    }
    // A file and its links are one.
    sys::write(&u.m("new"), "")?;
    std::fs::hard_link(u.m("new"), u.m("new2"))?;
    same(fid(&u.m("new"))?, fid(&u.m("new2"))?, "two names of a file")
}

fn of_one_filesystem(ctx: &Ctx) -> Res {
    different_objects(&Union::new(ctx)?)
}

fn of_two_filesystems(ctx: &Ctx) -> Res {
    let u = Union::split(ctx)?;
    different_objects(&u)?;
    let before = fids(&u)?;
    sys::drop_caches(&ctx.tmp)?;
    same(fids(&u)?, before.clone(), "evicted")?;
    u.again()?;
    same(fids(&u)?, before, "mounted anew")
}

fn without_upper(ctx: &Ctx) -> Res {
    let mut u = Union::layers(ctx, 2)?;
    sys::write(&u.ln(1, "f"), "")?;
    sys::mkdir(&u.ln(0, "d"))?;
    sys::mkdir(&u.ln(1, "d"))?;
    u.upper = None;
    u.mount()?;
    for (n, real) in [("f", u.ln(1, "f")), ("d", u.ln(0, "d")), ("", u.ln(0, ""))] {
        let mut seen = fid(&u.m(n))?;
        seen.bytes[8..24].fill(0);
        same(seen, wrapped(&real, false)?, &format!("{n:?}"))?;
    }
    Ok(())
}

/// A buffer that is too short is told how long it has to be.
fn short_buffers(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let len = fid(&u.m("f"))?.bytes.len();
    for size in [0, 4, 12, 24, len - 4, len - 1] {
        let (r, said, _) = handle(&u.m("f"), AT_HANDLE_FID, size);
        fails(r, Errno::OVERFLOW, &format!("{size} bytes"))?;
        same(said, len, &format!("the length said with {size} bytes"))?;
    }
    let (r, said, _) = handle(&u.m("f"), AT_HANDLE_FID, len);
    works(r, "just enough")?;
    same(said, len, "the length")
}

/// Handles that could be opened are not to be had.
fn none_to_open(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    for flags in [0, AT_HANDLE_CONNECTABLE] {
        let (r, ..) = handle(&u.m("f"), flags, MAX);
        fails(r, Errno::OPNOTSUPP, &format!("flags {flags:#x}"))?;
    }
    Ok(())
}

/// A layer without handles: number and generation, as with any filesystem that has none.
fn layer_without_handles(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    let ram = ctx.tmp.join("ram");
    sys::mkdir(&ram)?;
    let flags = rustix::mount::MountFlags::empty();
    match rustix::mount::mount("ram", &ram, "ramfs", flags, None) {
        Err(Errno::NODEV) => return Err(Failure::skip("the kernel has no ramfs")),
        r => r?,
    }
    u.lowers[0] = ram.join("l0");
    sys::mkdir(&u.lowers[0])?;
    sys::write(&u.l("f"), "")?;
    u.mount()?;
    let seen = fid(&u.m("f"))?;
    same(seen.kind, INO64_GEN, "the type")?;
    let ino = sys::stx(&u.m("f"))?.stx_ino.to_ne_bytes();
    same(&seen.bytes[..8], &ino[..], "the number")
}

const FAN_REPORT_FID: u32 = 0x200;
const NONBLOCK: u32 = 2;
const MARK_ADD: u32 = 1;
pub(super) const MARK_FILESYSTEM: u32 = 0x100;
pub(super) const MODIFY: u64 = 2;
pub(super) const ATTRIB: u64 = 4;
pub(super) const MOVED_TO: u64 = 0x80;
pub(super) const CREATE: u64 = 0x100;
const DELETE_SELF: u64 = 0x400;
pub(super) const ONDIR: u64 = 0x4000_0000;

/// Who hears of objects by their identifiers.
pub(super) fn listener() -> Sys<OwnedFd> {
    let flags = libc::O_RDONLY as u32;
    // SAFETY: no memory is involved.
    sys::ret(unsafe { libc::syscall(libc::SYS_fanotify_init, FAN_REPORT_FID | NONBLOCK, flags) })
        .map(sys::raw_fd)
}

/// `listener` is to hear of `mask` at `p`, or with `flags` of more than that.
pub(super) fn listen(listener: &OwnedFd, flags: u32, mask: u64, p: &Path) -> Sys<()> {
    let p = sys::cstr(p);
    // SAFETY: the path outlives the call.
    sys::ret(unsafe {
        libc::syscall(
            libc::SYS_fanotify_mark,
            listener.as_raw_fd(),
            MARK_ADD | flags,
            mask,
            libc::AT_FDCWD,
            p.as_ptr(),
        )
    })
    .map(|_| ())
}

/// The mask and the identifier of every event that waits.
pub(super) fn drain(fd: &OwnedFd) -> Res<Vec<(u64, Fid)>> {
    let mut out = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        let n = match rustix::io::read(fd, &mut buf) {
            Ok(n) => n,
            Err(Errno::AGAIN) => return Ok(out),
            Err(e) => return Err(e.into()),
        };
        let word = |i: usize| u32::from_ne_bytes([buf[i], buf[i + 1], buf[i + 2], buf[i + 3]]);
        let mut at = 0;
        while at + 24 <= n {
            // The event, the header of its information, the filesystem's id; then the handle.
            let to = at + 24 + 4 + 8;
            let len = word(to) as usize;
            let fid = Fid {
                kind: word(to + 4) as i32,
                bytes: buf[to + 8..to + 8 + len].to_vec(),
            };
            out.push((u64::from(word(at + 8)), fid));
            at += word(at) as usize;
        }
    }
}

/// An event names the object as name_to_handle_at() does, also when its last name is gone.
fn events(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u)?;
    let fd = listener()?;
    for n in ["low", "up"] {
        listen(&fd, 0, ATTRIB | DELETE_SELF, &u.m(n))?;
        let want = fid(&u.m(n))?;
        sys::chmod(&u.m(n), 0o600)?;
        let seen = drain(&fd)?;
        check(
            seen.iter().any(|(m, f)| m & ATTRIB != 0 && *f == want),
            &format!("{n}: expected {want:x?}, seen {seen:x?}"),
        )?;
        std::fs::remove_file(u.m(n))?;
        let seen = drain(&fd)?;
        check(
            seen.iter().any(|(m, f)| m & DELETE_SELF != 0 && *f == want),
            &format!("{n} deleted: expected {want:x?}, seen {seen:x?}"),
        )?;
    }
    Ok(())
}

/// What fdinfo says of a watch is made from the inode: a file without a name has one.
fn fdinfo(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    tree(&u)?;
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let mut open = Vec::new();
    let mut want = Vec::new();
    for n in ["low", "both", "up"] {
        inotify::add_watch(&fd, u.m(n), WatchFlags::ATTRIB)?;
        open.push(sys::open(&u.m(n), OFlags::RDONLY)?);
        let fid = fid(&u.m(n))?;
        let hex = fid.bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        want.push(format!(
            "fhandle-bytes:{:x} fhandle-type:{:x} f_handle:{hex}",
            fid.bytes.len(),
            fid.kind
        ));
    }
    for n in ["low", "both", "up"] {
        std::fs::remove_file(u.m(n))?;
    }
    sys::drop_caches(&ctx.tmp)?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    for w in want {
        check(info.contains(&w), &format!("expected {w:?}, seen:\n{info}"))?;
    }
    Ok(())
}

tests! {
    Tmpfs: format, same_object, of_one_filesystem, of_two_filesystems, without_upper, short_buffers,
        none_to_open, layer_without_handles, events, fdinfo;
    Ext4: format, same_object, of_one_filesystem, of_two_filesystems, events, fdinfo;
    Xfs: format, same_object;
    Btrfs: format, same_object;
}
