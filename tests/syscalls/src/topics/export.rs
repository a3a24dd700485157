// SPDX-License-Identifier: GPL-2.0
//! File handles that are opened: `nfs_export=on`.

use super::handles::{fid, handle, wrapped, Fid, AT_HANDLE_CONNECTABLE, MAX};
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
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
            if what == "a whiteout" && crate::union::is_overlayfs() {
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
            bad("a length of less than the header", 5, 20)?;
            bad("a length of nothing", 5, 0)?;
            bad("one word less", 5, len - 4)?;
            bad("unknown flags", 6, 8)?;
            bad("another byte order", 6, 1)?;
            bad("of upper", 6, 4)?;
            bad("another type", 7, 0xfe)?;
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
    for options in ["index=off"] {
        u.options = format!("{WITHOUT_UPPER},{options}");
        fails(u.try_mount(), Errno::INVAL, options)?;
    }
    Ok(())
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

tests! {
    Tmpfs: without_upper, whole_filesystem, hidden, crafted, connectable, unprivileged, options, renamed_below;
    Ext4: without_upper, hidden, crafted;
    Xfs: without_upper, crafted;
    Btrfs: without_upper, crafted;
}
