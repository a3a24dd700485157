// SPDX-License-Identifier: GPL-2.0
//! File handles that are opened: `nfs_export=on`.

use super::handles::*;
use super::stack::types;
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::{is_overlayfs, Union};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{FileType, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;

/// A handle that can be opened.
fn encode(p: &Path) -> Sys<Fid> {
    let (r, _, fid) = handle(p, 0, MAX);
    r.map(|()| fid)
}

/// open_by_handle_at() with a handle that says to have `len` bytes.
fn decode_len(mnt: &Path, fid: &Fid, len: usize, flags: OFlags) -> Sys<OwnedFd> {
    let at = sys::open(mnt, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut buf = [0u8; 8 + MAX];
    buf[..4].copy_from_slice(&(len as u32).to_ne_bytes());
    buf[4..8].copy_from_slice(&fid.kind.to_ne_bytes());
    buf[8..8 + fid.bytes.len()].copy_from_slice(&fid.bytes);
    // SAFETY: the kernel reads the header and as many bytes as it says, which there are.
    sys::ret(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            at.as_raw_fd(),
            buf.as_ptr(),
            (flags | OFlags::CLOEXEC).bits() as i32,
        )
    })
    .map(sys::raw_fd)
}

fn decode(u: &Union, fid: &Fid, flags: OFlags) -> Sys<OwnedFd> {
    decode_len(&u.mnt, fid, fid.bytes.len(), flags)
}

/// What is opened for looking at alone: of any kind, and a symlink itself.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);

fn ino(fd: &OwnedFd) -> Sys<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

/// What a name leads to and what its handle leads to are one object; a directory is found at its name.
fn is_at(u: &Union, fid: &Fid, name: &str, when: &str) -> Res {
    let what = format!("{name:?} {when}");
    let fd = works(decode(u, fid, LOOK), &what)?;
    let (seen, want) = (rustix::fs::fstat(&fd)?, sys::stx(&u.m(name))?);
    same(seen.st_ino, want.stx_ino, &format!("{what}: the number"))?;
    let kind = |mode: u32| mode & libc::S_IFMT;
    same(
        kind(seen.st_mode),
        kind(u32::from(want.stx_mode)),
        &format!("{what}: the type"),
    )?;
    same(
        seen.st_mode & 0o7777,
        u32::from(want.stx_mode) & 0o7777,
        &format!("{what}: the permissions"),
    )?;
    if kind(seen.st_mode) == libc::S_IFDIR {
        let want = u.m(name).display().to_string();
        let want = want.trim_end_matches('/');
        same(
            sys::fd_path(fd.as_fd())?,
            want,
            &format!("{what}: the place"),
        )?;
    }
    Ok(())
}

fn content(u: &Union, fid: &Fid) -> Sys<Vec<u8>> {
    let fd = decode(u, fid, OFlags::RDONLY)?;
    sys::pread(&fd, 4096, 0)
}

fn stale(u: &Union, fid: &Fid, what: &str) -> Res {
    fails(decode(u, fid, LOOK), Errno::STALE, what)
}

/// The handles of `names`, which are those that identify, too.
fn encode_all<'a>(u: &Union, names: &[&'a str]) -> Res<BTreeMap<&'a str, Fid>> {
    let mut all = BTreeMap::new();
    for name in names {
        let handle = works(encode(&u.m(name)), name)?;
        same(
            &fid(&u.m(name))?,
            &handle,
            &format!("{name}: the identifier"),
        )?;
        all.insert(*name, handle);
    }
    Ok(all)
}

/// All are what they were, as they are in the caches, without, and in a new mount.
fn all_at(ctx: &Ctx, u: &Union, handles: &BTreeMap<&str, Fid>, when: &str) -> Res {
    let each = |how: &str| {
        handles
            .iter()
            .try_for_each(|(name, fid)| is_at(u, fid, name, &format!("{when}, {how}")))
    };
    each("in use")?;
    sys::drop_caches(&ctx.tmp)?;
    // Each on its own: what was found for one must not be needed for the next.
    for (name, fid) in handles {
        sys::drop_caches(&ctx.tmp)?;
        is_at(u, fid, name, &format!("{when}, evicted"))?;
    }
    u.again()?;
    each("mounted anew")
}

const WITHOUT_UPPER: &str = "redirect_dir=nofollow,nfs_export=on";

/// Two lower layers and no upper.
fn lower_only(ctx: &Ctx) -> Res<Union> {
    let mut u = Union::layers(ctx, 2)?;
    u.upper = None;
    u.options = WITHOUT_UPPER.to_owned();
    for i in [0, 1] {
        sys::mkdir(&u.ln(i, "both"))?;
        sys::mkdir(&u.ln(i, "both/sub"))?;
        sys::write(&u.ln(i, &format!("both/sub/f{i}")), format!("content {i}"))?;
        sys::mkdir(&u.ln(i, &format!("only{i}")))?;
        sys::mkdir(&u.ln(i, &format!("only{i}/deep")))?;
        sys::mkdir(&u.ln(i, &format!("only{i}/deep/deeper")))?;
        sys::write(&u.ln(i, &format!("only{i}/deep/deeper/f")), "deep")?;
    }
    rustix::fs::symlink("both", u.ln(1, "link"))?;
    sys::mknod(&u.ln(1, "fifo"), FileType::Fifo, 0o640, 0)?;
    sys::mknod(&u.ln(1, "null"), FileType::CharacterDevice, 0o600, 0x103)?;
    sys::write(&u.ln(1, "two"), "names")?;
    std::fs::hard_link(u.ln(1, "two"), u.ln(1, "names"))?;
    Ok(u)
}

const LOWER: [&str; 14] = [
    "both",
    "both/sub",
    "both/sub/f0",
    "both/sub/f1",
    "only0/deep",
    "only0/deep/deeper/f",
    "only1",
    "only1/deep/deeper",
    "only1/deep/deeper/f",
    "link",
    "fifo",
    "null",
    "two",
    "names",
];

fn without_upper(ctx: &Ctx) -> Res {
    let u = lower_only(ctx)?;
    u.mount()?;
    let handles = encode_all(&u, &LOWER)?;
    same(&handles["two"], &handles["names"], "two names of a file")?;
    let plain = wrapped(&u.ln(1, "only1/deep"), false)?;
    let mut seen = encode(&u.m("only1/deep"))?;
    seen.bytes[8..24].fill(0);
    same(seen, plain, "the format")?;
    all_at(ctx, &u, &handles, "a lower object")?;
    for i in [0, 1] {
        let f = &handles[format!("both/sub/f{i}").as_str()];
        same(
            content(&u, f)?,
            format!("content {i}").into_bytes(),
            "content",
        )?;
        fails(decode(&u, f, OFlags::RDWR), Errno::ROFS, "for writing")?;
    }
    // What is found is a directory like any other.
    sys::drop_caches(&ctx.tmp)?;
    let fd = decode(&u, &handles["both/sub"], OFlags::RDONLY)?;
    let names = sys::names(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())))?;
    same(names, ["f0", "f1"], "the entries")
}

/// A layer that is part of a filesystem, and the whole of another one.
fn whole_filesystem(ctx: &Ctx) -> Res {
    let mut u = lower_only(ctx)?;
    let other = ctx.tmp.join("whole");
    sys::mkdir(&other)?;
    sys::mount_tmpfs(&other, "size=10m,mode=755")?;
    sys::mkdir(&other.join("d"))?;
    sys::mkdir(&other.join("d/e"))?;
    sys::write(&other.join("d/e/f"), "whole")?;
    u.lowers.insert(0, other);
    u.mount()?;
    let handles = encode_all(&u, &["d", "d/e", "d/e/f", "both", "only1/deep", "two"])?;
    all_at(ctx, &u, &handles, "a lower object")?;
    same(content(&u, &handles["d/e/f"])?, b"whole", "content")
}

/// What a lower layer has and the union does not show there has no place.
fn hidden(ctx: &Ctx) -> Res {
    let u = lower_only(ctx)?;
    for d in ["gone", "opaque", "opaque/in"] {
        sys::mkdir(&u.ln(1, d))?;
    }
    sys::whiteout(&u.ln(0, "gone"))?;
    sys::mkdir(&u.ln(0, "opaque"))?;
    sys::set_opaque(&u.ln(0, "opaque"))?;
    let outside = ctx.root.join("outside");
    sys::mkdir(&outside)?;
    u.mount()?;
    let uuid = encode(&u.m("both"))?.bytes[8..24].to_vec();
    let of = |real: &Path| -> Res<Fid> {
        let mut fid = wrapped(real, false)?;
        fid.bytes[8..24].copy_from_slice(&uuid);
        Ok(fid)
    };
    same(
        &of(&u.ln(0, "both"))?,
        &encode(&u.m("both"))?,
        "one made so",
    )?;
    for when in ["in use", "evicted"] {
        for (what, real) in [
            ("under a whiteout", u.ln(1, "gone")),
            ("under an opaque directory", u.ln(1, "opaque")),
            ("in one", u.ln(1, "opaque/in")),
            ("outside of the layers", outside.clone()),
            ("a whiteout", u.ln(0, "gone")),
        ] {
            // A whiteout is opened by overlayfs.
            if what == "a whiteout" && is_overlayfs() {
                continue;
            }
            stale(&u, &of(&real)?, &format!("{what}, {when}"))?;
        }
        sys::drop_caches(&ctx.tmp)?;
    }
    // What was removed below the mount is gone, too.
    let handle = encode(&u.m("only1/deep/deeper"))?;
    let file = encode(&u.m("two"))?;
    u.umount()?;
    std::fs::remove_dir_all(u.ln(1, "only1"))?;
    std::fs::remove_file(u.ln(1, "two"))?;
    std::fs::remove_file(u.ln(1, "names"))?;
    u.mount()?;
    stale(&u, &handle, "a directory that was removed")?;
    stale(&u, &file, "a file that was removed")
}

/// Handles that nobody gave out.
fn crafted(ctx: &Ctx) -> Res {
    let u = lower_only(ctx)?;
    u.mount()?;
    for name in ["both/sub", "both/sub/f0"] {
        let good = encode(&u.m(name))?;
        works(decode(&u, &good, LOOK), name)?;
        let bad = |what: &str, at: usize, byte: u8| {
            let mut fid = good.clone();
            fid.bytes[at] = byte;
            stale(&u, &fid, &format!("{name}: {what}"))
        };
        for when in ["in use", "evicted"] {
            bad("a newer version", 3, 1)?;
            bad("another magic", 4, 0xfa)?;
            let len = good.bytes[5];
            bad("a length longer than all", 5, len + 1)?;
            bad("a length of the header", 5, 21)?;
            // Overlayfs passes the negative rest on, of which some filesystems read.
            if !is_overlayfs() {
                bad("a length of less than the header", 5, 20)?;
                bad("a length of nothing", 5, 0)?;
            }
            bad("one word less", 5, len - 4)?;
            bad("unknown flags", 6, 8)?;
            bad("another byte order", 6, 1)?;
            bad("of upper", 6, 4)?;
            // A tmpfs has one type of handles, and does not look at it.
            if ctx.fs != Fs::Tmpfs {
                bad("another type", 7, 0xfe)?;
            }
            bad("another filesystem", 8, good.bytes[8] ^ 1)?;
            let last = good.bytes.len() - 1;
            bad("another object", last, good.bytes[last] ^ 0x55)?;
            for kind in [0, 1, 0x81, 0xf7, 0xf9, 0xff, 0x1f8] {
                let fid = Fid {
                    kind,
                    ..good.clone()
                };
                stale(&u, &fid, &format!("{name}: the type {kind:#x}, {when}"))?;
            }
            for len in [0, 4, 8, 20, 24, good.bytes.len() - 4] {
                let r = decode_len(&u.mnt, &good, len, LOOK);
                // The system call takes none of no length.
                let want = if len == 0 { Errno::INVAL } else { Errno::STALE };
                fails(r, want, &format!("{name}: {len} bytes, {when}"))?;
            }
            sys::drop_caches(&ctx.tmp)?;
        }
        // As older kernels had them, whose handles clients may still hold: nothing is in front.
        let mut old = good.clone();
        old.kind = 0xfb;
        old.bytes.drain(..3);
        old.bytes.resize(good.bytes.len(), 0);
        is_at(&u, &old, name, "of an older kernel")?;
        let mut more = good.clone();
        more.bytes.resize(MAX, 0x5a);
        is_at(&u, &more, name, "with more behind it")?;
    }
    Ok(())
}

/// Handles that tell their directory, too, there are of directories alone.
fn connectable(ctx: &Ctx) -> Res {
    let u = lower_only(ctx)?;
    u.mount()?;
    let (r, ..) = handle(&u.m("two"), AT_HANDLE_CONNECTABLE, MAX);
    fails(r, Errno::OVERFLOW, "a file")?;
    let (r, _, fid) = handle(&u.m("only1/deep"), AT_HANDLE_CONNECTABLE, MAX);
    works(r, "a directory")?;
    is_at(&u, &fid, "only1/deep", "connectable")?;
    // Of a file: the flag alone makes it one.
    let mut file = encode(&u.m("two"))?;
    file.kind |= 0x10000;
    sys::drop_caches(&ctx.tmp)?;
    stale(&u, &file, "a file, evicted")
}

/// Who has no right to pass by directories opens none.
fn unprivileged(ctx: &Ctx) -> Res {
    let u = lower_only(ctx)?;
    u.mount()?;
    let handles = encode_all(&u, &["both", "two"])?;
    sys::as_user(1000, 1000, &[], || {
        for (name, fid) in &handles {
            fails(decode(&u, fid, OFlags::RDONLY), Errno::PERM, name)?;
        }
        Ok(())
    })
}

/// Options that do not go with it.
fn options(ctx: &Ctx) -> Res {
    let mut u = lower_only(ctx)?;
    let shown = |u: &Union| -> Res<bool> {
        u.mount()?;
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let on = mounts
            .lines()
            .filter(|line| line.contains(&u.mnt.display().to_string()))
            .any(|line| line.contains("nfs_export=on"));
        let (r, ..) = handle(&u.m("both"), 0, MAX);
        match on {
            true => works(r, "shown as on")?,
            false => fails(r, Errno::OPNOTSUPP, "shown as off")?,
        }
        u.umount()?;
        Ok(on)
    };
    check(shown(&u)?, "on")?;
    for options in [
        "nfs_export=on,redirect_dir=on",
        "nfs_export=on,redirect_dir=follow",
    ] {
        u.options = options.to_owned();
        check(!shown(&u)?, options)?;
    }
    for options in [
        "nfs_export=off,redirect_dir=nofollow",
        "redirect_dir=nofollow",
    ] {
        u.options = options.to_owned();
        check(!shown(&u)?, options)?;
    }
    for options in ["userxattr", "index=on", "uuid=null", "xino=off"] {
        u.options = format!("{WITHOUT_UPPER},{options}");
        check(shown(&u)?, options)?;
    }
    u.options = format!("{WITHOUT_UPPER},index=off");
    fails(u.try_mount(), Errno::INVAL, "index=off")
}

/// A layer that can be renamed underneath while handles are opened.
fn renamed_below(ctx: &Ctx) -> Res {
    let u = lower_only(ctx)?;
    u.mount()?;
    let handle = encode(&u.m("only1/deep/deeper"))?;
    sys::drop_caches(&ctx.tmp)?;
    sys::rename(
        &u.ln(1, "only1/deep"),
        &u.ln(1, "moved"),
        RenameFlags::empty(),
    )?;
    is_at(&u, &handle, "moved/deeper", "below a renamed directory")
}

/// An upper that was used without handles before, above a lower layer.
fn with_upper(ctx: &Ctx) -> Res<Union> {
    let mut u = Union::new(ctx)?;
    u.options = "nfs_export=on,redirect_dir=on".to_owned();
    for (at, name) in [(u.l(""), "low"), (u.u(""), "up")] {
        for n in [name, "both"] {
            sys::write(&at.join(n), n)?;
            sys::mkdir(&at.join(format!("{n}dir")))?;
            sys::mkdir(&at.join(format!("{n}dir/{name}sub")))?;
            sys::write(&at.join(format!("{n}dir/{name}sub/f")), name)?;
        }
    }
    rustix::fs::symlink("low", u.l("link"))?;
    sys::mknod(&u.l("fifo"), FileType::Fifo, 0o644, 0)?;
    sys::mknod(&u.l("socket"), FileType::Socket, 0o644, 0)?;
    sys::mknod(&u.l("null"), FileType::CharacterDevice, 0o600, 0x103)?;
    sys::write(&u.l("two"), "names")?;
    std::fs::hard_link(u.l("two"), u.l("names"))?;
    Ok(u)
}

const ALL: [&str; 18] = [
    "",
    "low",
    "lowdir",
    "lowdir/lowsub",
    "lowdir/lowsub/f",
    "both",
    "bothdir",
    "bothdir/lowsub",
    "bothdir/lowsub/f",
    "bothdir/upsub/f",
    "up",
    "updir/upsub",
    "link",
    "fifo",
    "socket",
    "null",
    "two",
    "names",
];

/// Handles of the layers' objects, each that of the one which leads to the union's in every mount to come.
fn formats(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    // What was copied up, or merged, before there were handles is not in the index.
    let in_upper: Vec<_> = ALL.into_iter().filter(|n| sys::exists(&u.u(n))).collect();
    u.mount()?;
    let handles = encode_all(&u, &ALL)?;
    for (name, fid) in &handles {
        let upper = in_upper.contains(name);
        let real = if upper { u.u(name) } else { u.l(name) };
        let mut fid = fid.clone();
        fid.bytes[8..24].fill(0);
        same(fid, wrapped(&real, upper)?, &format!("{name:?}"))?;
    }
    all_at(ctx, &u, &handles, "never changed")?;
    same(
        content(&u, &handles["bothdir/lowsub/f"])?,
        b"low",
        "a lower file",
    )?;
    same(
        content(&u, &handles["bothdir/upsub/f"])?,
        b"up",
        "an upper file",
    )
}

/// The entries of the index: how many there are, and how many whiteouts.
fn index(u: &Union) -> Res<(usize, usize)> {
    let dir = u.work.join("index");
    let mut names = sys::names(&dir)?;
    // That which overlayfs links others to.
    names.retain(|n| !n.starts_with('#'));
    let gone = names.iter().filter(|n| sys::is_whiteout(&dir.join(n)));
    Ok((names.len(), gone.count()))
}

/// A copy-up changes no handle, and what handles lead to is the copy.
fn copied_up(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    u.mount()?;
    let names = [
        "low",
        "lowdir",
        "lowdir/lowsub/f",
        "bothdir/lowsub",
        "fifo",
        "socket",
        "null",
        "two",
    ];
    let mut handles = encode_all(&u, &names)?;
    for name in names {
        sys::chmod(&u.m(name), 0o700)?;
    }
    handles.insert("link", encode(&u.m("link"))?);
    sys::chown(&u.m("link"), 1, 1)?;
    for (name, fid) in &handles {
        check(sys::exists(&u.u(name)), &format!("{name} is not copied up"))?;
        same(&encode(&u.m(name))?, fid, &format!("{name} copied up"))?;
    }
    // The directories that were copied up on the way, too.
    same(index(&u)?, (10, 0), "the index")?;
    all_at(ctx, &u, &handles, "copied up")?;
    for (name, fid) in &handles {
        same(&encode(&u.m(name))?, fid, &format!("{name} mounted anew"))?;
    }
    let f = &handles["lowdir/lowsub/f"];
    sys::write(&u.m("lowdir/lowsub/f"), "changed")?;
    same(content(&u, f)?, b"changed", "content")?;
    sys::drop_caches(&ctx.tmp)?;
    same(content(&u, f)?, b"changed", "content, evicted")
}

/// What is neither a directory nor a file with one name, and where it is renamed to.
const SPECIAL: [(&str, &str); 5] = [
    ("link", "bothdir/link"),
    ("fifo", "fifo2"),
    ("socket", "bothdir/socket"),
    ("null", "bothdir/null"),
    ("two", "bothdir/two"),
];

/// Handles lead to where an object was renamed to.
fn renamed(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    u.mount()?;
    let before = encode_all(
        &u,
        &[
            "low",
            "lowdir",
            "lowdir/lowsub",
            "lowdir/lowsub/f",
            "updir",
            "updir/upsub/f",
            "bothdir/lowsub",
            "link",
            "fifo",
            "socket",
            "null",
            "two",
        ],
    )?;
    let mv = |from: &str, to: &str| sys::rename(&u.m(from), &u.m(to), RenameFlags::empty());
    mv("low", "lowdir/low")?;
    mv("lowdir/lowsub", "sub")?;
    mv("lowdir", "updir/lowdir")?;
    mv("updir", "new")?;
    mv("bothdir/lowsub", "bothdir/moved")?;
    for (from, to) in SPECIAL {
        mv(from, to)?;
    }
    let now = |name: &str| match name {
        "low" => "new/lowdir/low",
        "lowdir" => "new/lowdir",
        "lowdir/lowsub" => "sub",
        "lowdir/lowsub/f" => "sub/f",
        "updir" => "new",
        "updir/upsub/f" => "new/upsub/f",
        "bothdir/lowsub" => "bothdir/moved",
        name => SPECIAL
            .iter()
            .find(|(from, _)| *from == name)
            .map_or("", |(_, to)| to),
    };
    let mut handles = BTreeMap::new();
    for (name, fid) in before {
        same(&encode(&u.m(now(name)))?, &fid, &format!("{name} renamed"))?;
        handles.insert(now(name), fid);
    }
    all_at(ctx, &u, &handles, "renamed")?;
    for (name, fid) in &handles {
        same(&encode(&u.m(name))?, fid, &format!("{name} mounted anew"))?;
    }
    Ok(())
}

/// What fanotify says is a handle that leads to the object, and goes on doing so.
fn events_opened(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    u.mount()?;
    let fd = listener()?;
    let mask = MODIFY | ATTRIB | MOVED_TO | CREATE | ONDIR;
    listen(&fd, MARK_FILESYSTEM, mask, &u.mnt)?;
    let heard = |what: u64, name: &str| -> Res<Fid> {
        let all = drain(&fd)?;
        let found = all.into_iter().filter(|(mask, _)| mask & what != 0);
        for (_, fid) in found {
            if is_at(&u, &fid, name, "heard of").is_ok() {
                return Ok(fid);
            }
        }
        Err(Failure::new(format!("no event {what:#x} is of {name}")))
    };
    let mut handles = BTreeMap::new();
    for name in [
        "low",
        "lowdir/lowsub",
        "fifo",
        "socket",
        "null",
        "both",
        "updir",
    ] {
        sys::chmod(&u.m(name), 0o700)?;
        handles.insert(name, heard(ATTRIB, name)?);
    }
    sys::write(&u.m("lowdir/lowsub/f"), "changed")?;
    handles.insert("moved/f", heard(MODIFY, "lowdir/lowsub/f")?);
    sys::write(&u.m("bothdir/lowsub/new"), "new")?;
    handles.insert("bothdir/lowsub", heard(CREATE, "bothdir/lowsub")?);
    sys::rename(&u.m("lowdir/lowsub"), &u.m("moved"), RenameFlags::empty())?;
    handles.insert("", heard(MOVED_TO, "")?);
    let moved = handles.remove("lowdir/lowsub");
    handles.extend(moved.map(|fid| ("moved", fid)));
    drop(fd);
    all_at(ctx, &u, &handles, "heard of")
}

/// What was removed has no handle any more that leads anywhere, and never has one again.
fn removed(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    for d in ["empty", "gone", "over"] {
        sys::mkdir(&u.l(d))?;
    }
    sys::write(&u.l("over/f"), "x")?;
    sys::write(&u.l("target"), "x")?;
    u.mount()?;
    sys::chmod(&u.m("both"), 0o600)?;
    sys::chmod(&u.m("low"), 0o600)?;
    sys::chmod(&u.m("gone"), 0o700)?;
    let names = [
        "low",
        "lowdir",
        "lowdir/lowsub/f",
        "both",
        "up",
        "updir",
        "empty",
        "gone",
        "fifo",
        "link",
        "over",
        "target",
    ];
    let handles = encode_all(&u, &names)?;
    let two = encode(&u.m("two"))?;
    for n in ["low", "both", "up", "fifo", "link", "over/f"] {
        works(std::fs::remove_file(u.m(n)), n)?;
    }
    for n in ["lowdir", "updir"] {
        works(std::fs::remove_dir_all(u.m(n)), n)?;
    }
    for n in ["empty", "gone"] {
        works(std::fs::remove_dir(u.m(n)), n)?;
    }
    sys::mkdir(&u.m("new"))?;
    sys::write(&u.m("newfile"), "new")?;
    sys::rename(&u.m("new"), &u.m("over"), RenameFlags::empty())?;
    sys::rename(&u.m("newfile"), &u.m("target"), RenameFlags::empty())?;
    std::fs::remove_file(u.m("two"))?;
    is_at(&u, &two, "names", "one of two names is left")?;
    let all_stale = |when: &str| {
        handles
            .iter()
            .try_for_each(|(n, fid)| stale(&u, fid, &format!("{n}, {when}")))
    };
    all_stale("removed")?;
    sys::drop_caches(&ctx.tmp)?;
    all_stale("evicted")?;
    is_at(&u, &two, "names", "evicted")?;
    std::fs::remove_file(u.m("names"))?;
    stale(&u, &two, "both names removed")?;
    let before = index(&u)?;
    same(before.0, before.1, "whiteouts alone in the index")?;
    u.again()?;
    all_stale("mounted anew")?;
    stale(&u, &two, "both names removed, mounted anew")?;
    same(index(&u)?, before, "the index of a new mount")?;
    // Others in their places are others.
    sys::write(&u.m("low"), "new")?;
    sys::mkdir(&u.m("lowdir"))?;
    all_stale("made anew")
}

/// A file without a name is written: its copy has none either until somebody looks for one.
fn written_unnamed(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    u.mount()?;
    let f = "lowdir/lowsub/f";
    for (name, fid) in encode_all(&u, &[f, "two"])? {
        sys::drop_caches(&ctx.tmp)?;
        let fd = decode(&u, &fid, OFlags::RDWR)?;
        rustix::io::pwrite(&fd, b"FROM A HANDLE", 0)?;
        rustix::fs::fsync(&fd)?;
        let number = ino(&fd)?;
        drop(fd);
        check(
            !sys::exists(&u.u(name)),
            &format!("{name} has a name in upper"),
        )?;
        check(
            name != f || !sys::exists(&u.u("lowdir")),
            "its directory is copied up",
        )?;
        same(sys::read(&u.m(name))?, b"FROM A HANDLE", "by its name")?;
        same(sys::stx(&u.m(name))?.stx_ino, number, "the number")?;
        let links = if name == f { 1 } else { 2 };
        same(sys::stx(&u.m(name))?.stx_nlink, links, "links")?;
        for how in ["in use", "evicted", "mounted anew"] {
            match how {
                "evicted" => sys::drop_caches(&ctx.tmp)?,
                "mounted anew" => u.again()?,
                _ => {}
            }
            same(content(&u, &fid)?, b"FROM A HANDLE", how)?;
            same(sys::read(&u.m(name))?, b"FROM A HANDLE", how)?;
            same(sys::stx(&u.m(name))?.stx_nlink, links, how)?;
        }
        check(
            !sys::exists(&u.u(name)),
            &format!("{name} was read into upper"),
        )?;
        sys::drop_caches(&ctx.tmp)?;
        // Attributes, of a file that has only that name.
        let fd = decode(&u, &fid, OFlags::RDONLY)?;
        rustix::fs::fchmod(&fd, rustix::fs::Mode::from_bits_retain(0o604))?;
        drop(fd);
        same(sys::mode(&u.m(name))?, 0o604, "permissions")?;
        // The first change by its name gives it one.
        sys::write(&u.m(name), "by name")?;
        check(
            sys::exists(&u.u(name)),
            &format!("{name} has no name in upper"),
        )?;
        same(content(&u, &fid)?, b"by name", "after it")?;
        same(sys::stx(&u.m(name))?.stx_nlink, links, "links after it")?;
        u.again()?;
        same(content(&u, &fid)?, b"by name", "mounted anew after it")?;
        std::fs::remove_dir_all(u.m("lowdir")).or_else(|e| match name {
            "two" => Ok(()),
            _ => Err(e),
        })?;
        if name == f {
            stale(&u, &fid, "removed")?;
        }
    }
    Ok(())
}

/// As before, removed and renamed by its name while upper has it without one, and linked to another.
fn unnamed_changes(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    for n in ["a", "b", "c"] {
        sys::write(&u.l(&format!("lowdir/{n}")), n)?;
    }
    u.mount()?;
    let handles = encode_all(&u, &["lowdir/a", "lowdir/b", "lowdir/c"])?;
    sys::drop_caches(&ctx.tmp)?;
    for fid in handles.values() {
        let fd = decode(&u, fid, OFlags::WRONLY | OFlags::TRUNC)?;
        rustix::io::write(&fd, b"new")?;
    }
    std::fs::remove_file(u.m("lowdir/a"))?;
    sys::rename(&u.m("lowdir/b"), &u.m("moved"), RenameFlags::empty())?;
    std::fs::hard_link(u.m("lowdir/c"), u.m("linked"))?;
    for how in ["in use", "evicted", "mounted anew"] {
        match how {
            "evicted" => sys::drop_caches(&ctx.tmp)?,
            "mounted anew" => u.again()?,
            _ => {}
        }
        stale(&u, &handles["lowdir/a"], how)?;
        is_at(&u, &handles["lowdir/b"], "moved", how)?;
        is_at(&u, &handles["lowdir/c"], "linked", how)?;
        is_at(&u, &handles["lowdir/c"], "lowdir/c", how)?;
        same(sys::stx(&u.m("linked"))?.stx_nlink, 2, how)?;
        same(sys::read(&u.m("moved"))?, b"new", how)?;
    }
    // A file without a name gets one.
    sys::drop_caches(&ctx.tmp)?;
    let fd = decode(&u, &handles["lowdir/b"], OFlags::RDONLY)?;
    let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::linkat(
        rustix::fs::CWD,
        from.as_str(),
        rustix::fs::CWD,
        u.m("by-handle"),
        rustix::fs::AtFlags::SYMLINK_FOLLOW,
    )?;
    drop(fd);
    u.again()?;
    is_at(
        &u,
        &handles["lowdir/b"],
        "by-handle",
        "linked by its handle",
    )?;
    same(sys::stx(&u.m("moved"))?.stx_nlink, 2, "links")
}

/// A directory of a layer below the topmost whose way the index could not tell of is copied up when it gets a handle.
fn connected(ctx: &Ctx) -> Res {
    let mut u = Union::layers(ctx, 2)?;
    u.options = "nfs_export=on,redirect_dir=on".to_owned();
    sys::mkdir(&u.ln(0, "a"))?;
    for d in ["a", "a/b", "a/b/c", "a/b/c/d", "x", "x/y"] {
        sys::mkdir(&u.ln(1, d))?;
    }
    sys::write(&u.ln(1, "a/b/c/d/f"), "f")?;
    u.mount()?;
    let file = encode(&u.m("a/b/c/d/f"))?;
    let plain = encode(&u.m("x/y"))?;
    check(
        !sys::exists(&u.u("x")) && !sys::exists(&u.u("a")),
        "copied up in vain",
    )?;
    let dir = encode(&u.m("a/b/c/d"))?;
    check(sys::exists(&u.u("a/b")), "not copied up")?;
    check(!sys::exists(&u.u("a/b/c")), "too much copied up")?;
    sys::drop_caches(&ctx.tmp)?;
    is_at(&u, &dir, "a/b/c/d", "evicted")?;
    sys::rename(&u.m("a"), &u.m("z"), RenameFlags::empty())?;
    sys::rename(&u.m("x"), &u.m("z/x"), RenameFlags::empty())?;
    let handles = BTreeMap::from([("z/b/c/d", dir), ("z/b/c/d/f", file), ("z/x/y", plain)]);
    all_at(ctx, &u, &handles, "renamed")
}

/// What was changed in upper while it was not mounted.
fn changed_offline(ctx: &Ctx) -> Res {
    let u = with_upper(ctx)?;
    for d in ["a", "a/in", "b", "b/in", "c", "c/in"] {
        sys::mkdir(&u.l(d))?;
    }
    u.mount()?;
    let handles = encode_all(&u, &["a", "b", "c/in", "lowdir"])?;
    for d in ["a", "b", "lowdir"] {
        sys::chmod(&u.m(d), 0o700)?;
    }
    sys::rename(&u.m("b"), &u.m("moved"), RenameFlags::empty())?;
    u.umount()?;
    // Another directory in the place of the one that "a" was copied from.
    sys::rename(&u.l("a"), &u.l("old"), RenameFlags::empty())?;
    sys::mkdir(&u.l("a"))?;
    sys::write(&u.l("a/other"), "")?;
    // The whiteout of "b" is gone.
    std::fs::remove_file(u.u("b"))?;
    // The copy of "lowdir" is gone.
    std::fs::remove_dir(u.u("lowdir"))?;
    u.mount()?;
    same(
        sys::names(&u.m("a"))?,
        [""; 0],
        "not merged with another directory",
    )?;
    fails(sys::stx(&u.m("b")), Errno::IO, "an uncovered directory")?;
    same(
        sys::names(&u.m("moved"))?,
        ["in"],
        "where it was renamed to",
    )?;
    stale(&u, &handles["lowdir"], "a copy that was removed")?;
    fails(sys::stx(&u.m("lowdir")), Errno::IO, "a removed copy")?;
    is_at(&u, &handles["c/in"], "c/in", "unchanged")?;
    is_at(&u, &handles["b"], "moved", "renamed")
}

/// Handles and the index mean the same to both types.
fn both_types(ctx: &Ctx) -> Res {
    let types = types();
    if types.len() < 2 {
        return Err(Failure::skip("only one type is there"));
    }
    let mut u = with_upper(ctx)?;
    let mut handles: Option<BTreeMap<&str, Fid>> = None;
    for fstype in types.iter().cycle().take(3) {
        u.fstype.clone_from(fstype);
        u.mount()?;
        let now = encode_all(&u, &ALL)?;
        if let Some(before) = &handles {
            same(&now, before, &format!("handles of {fstype}"))?;
        }
        all_at(ctx, &u, &now, &format!("handles of {fstype}"))?;
        handles = Some(now);
        u.umount()?;
    }
    let handles = handles.unwrap_or_default();
    // What one of them does to the names of three directories and files.
    for (i, fstype) in types.iter().enumerate() {
        let of = |n: &str| format!("{n}{i}");
        u.fstype.clone_from(fstype);
        for n in ["file", "dir", "gone", "unnamed", "gonedir"] {
            match n.ends_with("dir") {
                true => sys::mkdir(&u.l(&of(n)))?,
                false => sys::write(&u.l(&of(n)), n)?,
            }
        }
        u.mount()?;
        let mut made = BTreeMap::new();
        for n in ["file", "dir", "gone", "unnamed", "gonedir"] {
            made.insert(n, encode(&u.m(&of(n)))?);
        }
        sys::drop_caches(&ctx.tmp)?;
        let fd = decode(&u, &made["unnamed"], OFlags::WRONLY)?;
        rustix::io::write(&fd, b"WRITTEN")?;
        drop(fd);
        sys::rename(&u.m(&of("file")), &u.m(&of("moved")), RenameFlags::empty())?;
        sys::rename(
            &u.m(&of("dir")),
            &u.m(&of("moveddir")),
            RenameFlags::empty(),
        )?;
        std::fs::remove_file(u.m(&of("gone")))?;
        std::fs::remove_dir(u.m(&of("gonedir")))?;
        u.umount()?;
        for fstype in &types {
            u.fstype.clone_from(fstype);
            u.mount()?;
            let how = format!("made by {}, seen by {fstype}", types[i]);
            is_at(&u, &made["file"], &of("moved"), &how)?;
            is_at(&u, &made["dir"], &of("moveddir"), &how)?;
            is_at(&u, &made["unnamed"], &of("unnamed"), &how)?;
            same(sys::read(&u.m(&of("unnamed")))?, b"WRITTEN", &how)?;
            stale(&u, &made["gone"], &how)?;
            stale(&u, &made["gonedir"], &how)?;
            for (n, to) in [
                ("file", "moved"),
                ("dir", "moveddir"),
                ("unnamed", "unnamed"),
            ] {
                same(&encode(&u.m(&of(to)))?, &made[n], &how)?;
            }
            u.umount()?;
        }
    }
    u.mount()?;
    all_at(ctx, &u, &handles, "at the end")
}

/// Options that do not go with it above an upper.
fn upper_options(ctx: &Ctx) -> Res {
    let mut u = with_upper(ctx)?;
    for options in [
        "nfs_export=on,index=off",
        "index=off,nfs_export=on",
        "nfs_export=on,metacopy=on",
    ] {
        u.options = options.to_owned();
        fails(u.try_mount(), Errno::INVAL, options)?;
    }
    for (options, on) in [
        ("nfs_export=on", true),
        ("nfs_export=on,index=on", true),
        ("nfs_export=on,redirect_dir=follow", true),
        ("nfs_export=on,metacopy=off", true),
        ("nfs_export=off,index=on", false),
        ("index=on", false),
        ("metacopy=on", false),
    ] {
        u.options = options.to_owned();
        works(u.mount().map_err(|_| Errno::INVAL), options)?;
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let at = u.mnt.display().to_string();
        let line = mounts
            .lines()
            .find(|line| line.contains(&at))
            .unwrap_or_default();
        same(line.contains("nfs_export=on"), on, line)?;
        if on {
            check(line.contains("index=on"), line)?;
        }
        let (r, ..) = handle(&u.m("low"), 0, MAX);
        same(r.is_ok(), on, options)?;
        u.umount()?;
    }
    Ok(())
}

/// Handles that do not say the UUID of a filesystem, and mounts that want it said.
fn without_uuid(ctx: &Ctx) -> Res {
    let with = |fid: &Fid, uuid: u8| {
        let mut fid = fid.clone();
        fid.bytes[8..24].fill(uuid);
        fid
    };
    let mut u = lower_only(ctx)?;
    u.options = format!("{WITHOUT_UPPER},uuid=off");
    u.mount()?;
    let handles = encode_all(&u, &LOWER)?;
    for (name, fid) in &handles {
        same(fid, &with(fid, 0), name)?;
        stale(&u, &with(fid, 9), name)?;
    }
    all_at(ctx, &u, &handles, "without")?;
    u.umount()?;
    u.options = WITHOUT_UPPER.to_owned();
    u.mount()?;
    for (name, fid) in &handles {
        stale(&u, fid, name)?;
        check(encode(&u.m(name))? != *fid, name)?;
    }
    u.umount()?;

    let both = ctx.root.join("lower-and-upper");
    sys::mkdir(&both)?;
    let mut u = Union::at(&both, 1)?;
    u.options = "nfs_export=on,uuid=off".to_owned();
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/f"), "lower")?;
    sys::write(&u.l("two"), "names")?;
    std::fs::hard_link(u.l("two"), u.l("d/names"))?;
    u.mount()?;
    sys::write(&u.m("new"), "upper")?;
    let handles = encode_all(&u, &["", "d", "d/f", "two", "d/names", "new"])?;
    for (name, fid) in &handles {
        same(fid, &with(fid, 0), name)?;
    }
    for name in ["d/f", "two", "new"] {
        sys::chmod(&u.m(name), 0o600)?;
    }
    sys::chmod(&u.m("d"), 0o700)?;
    all_at(ctx, &u, &handles, "copied up")?;
    sys::rename(&u.m("d/f"), &u.m("moved"), RenameFlags::empty())?;
    is_at(&u, &handles["d/f"], "moved", "renamed")?;
    std::fs::remove_file(u.m("moved"))?;
    sys::drop_caches(&ctx.tmp)?;
    stale(&u, &handles["d/f"], "removed")
}

/// A layer without handles.
fn without_handles(ctx: &Ctx) -> Res {
    let mut u = with_upper(ctx)?;
    let ram = ctx.tmp.join("ram");
    sys::mkdir(&ram)?;
    let flags = rustix::mount::MountFlags::empty();
    match rustix::mount::mount("ram", &ram, "ramfs", flags, None) {
        Err(Errno::NODEV) => return Err(Failure::skip("the kernel has no ramfs")),
        r => r?,
    }
    sys::write(&ram.join("f"), "")?;
    u.lowers.push(ram);
    u.mount()?;
    let (r, ..) = handle(&u.m("low"), 0, MAX);
    fails(r, Errno::OPNOTSUPP, "no handles")?;
    same(sys::read(&u.m("low"))?, b"low", "content")
}

tests! {
    Tmpfs: without_upper, whole_filesystem, hidden, crafted, connectable, unprivileged, options, renamed_below,
        formats, copied_up, renamed, events_opened, removed, written_unnamed, unnamed_changes, connected, changed_offline,
        both_types,
        upper_options, without_uuid, without_handles;
    Ext4: without_upper, hidden, crafted, formats, copied_up, renamed, events_opened, removed, written_unnamed, unnamed_changes, connected,
        changed_offline, both_types, without_uuid;
    Xfs: without_upper, crafted, copied_up, renamed, removed, written_unnamed;
    Btrfs: without_upper, crafted, copied_up, renamed, removed, written_unnamed;
}
