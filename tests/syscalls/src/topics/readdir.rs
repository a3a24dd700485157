// SPDX-License-Identifier: GPL-2.0
//! Listing directories.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::{is_overlayfs, Union};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    ino: u64,
    next: i64,
    kind: u8,
    name: String,
}

fn open_dir(p: &Path) -> Sys<OwnedFd> {
    sys::open(p, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// One getdents64 call with a buffer of `size` bytes.
fn some(fd: &OwnedFd, size: usize) -> Sys<Vec<Entry>> {
    let mut buf = vec![0u64; size / 8];
    // SAFETY: `size` bytes can be written.
    let n = sys::ret(unsafe {
        libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buf.as_mut_ptr(), size)
    })? as usize;
    let bytes: Vec<u8> = buf.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let mut out = Vec::new();
    let mut at = 0;
    let num = |i: usize, n: usize| -> u64 {
        let mut b = [0u8; 8];
        b[..n].copy_from_slice(&bytes[i..i + n]);
        u64::from_ne_bytes(b)
    };
    while at < n {
        let len = num(at + 16, 2) as usize;
        let name = &bytes[at + 19..at + len];
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        out.push(Entry {
            ino: num(at, 8),
            next: num(at + 8, 8) as i64,
            kind: bytes[at + 18],
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
        });
        at += len;
    }
    Ok(out)
}

fn rest(fd: &OwnedFd, size: usize) -> Sys<Vec<Entry>> {
    let mut all = Vec::new();
    loop {
        let v = some(fd, size)?;
        if v.is_empty() {
            return Ok(all);
        }
        all.extend(v);
    }
}

fn list(p: &Path) -> Sys<Vec<Entry>> {
    rest(&open_dir(p)?, 32768)
}

fn plain_names(v: &[Entry]) -> Vec<String> {
    let mut n: Vec<String> = v
        .iter()
        .map(|e| e.name.clone())
        .filter(|n| n != "." && n != "..")
        .collect();
    n.sort();
    n
}

/// Every name once, `.` and `..` included, and each as stat says.
fn consistent(dir: &Path, v: &[Entry]) -> Res {
    let mut seen = BTreeSet::new();
    for e in v {
        check(
            seen.insert(e.name.clone()),
            &format!("{} is listed twice", e.name),
        )?;
        if e.name == ".." {
            continue;
        }
        let st = sys::stx(&dir.join(&e.name))?;
        same(e.ino, st.stx_ino, &format!("d_ino of {}", e.name))?;
        let kind = (u32::from(st.stx_mode) & libc::S_IFMT) >> 12;
        same(u32::from(e.kind), kind, &format!("d_type of {}", e.name))?;
    }
    check(
        seen.contains(".") && seen.contains(".."),
        ". and .. are listed",
    )
}

fn three_layers(ctx: &Ctx) -> Res<Union> {
    let u = Union::layers(ctx, 3)?;
    for (i, n) in ["a", "b", "c"].iter().enumerate() {
        let d = u.ln(i, "d");
        sys::mkdir(&d)?;
        sys::write(&d.join(n), n)?;
        sys::write(&d.join("same"), n)?;
        sys::mkdir(&d.join("sub"))?;
        sys::write(&d.join(format!("hidden{i}")), n)?;
    }
    rustix::fs::symlink("a", u.ln(2, "d/link"))?;
    sys::mknod(&u.ln(1, "d/fifo"), rustix::fs::FileType::Fifo, 0o644, 0)?;
    sys::whiteout(&u.ln(0, "d/hidden1"))?;
    sys::whiteout(&u.ln(1, "d/hidden2"))?;
    sys::mkdir(&u.u("d"))?;
    sys::whiteout(&u.u("d/hidden0"))?;
    sys::write(&u.u("d/up"), "up")?;
    u.mount()?;
    Ok(u)
}

fn merged(ctx: &Ctx) -> Res {
    let u = three_layers(ctx)?;
    let v = list(&u.m("d"))?;
    let want = ["a", "b", "c", "fifo", "link", "same", "sub", "up"];
    same(plain_names(&v), want, "names")?;
    consistent(&u.m("d"), &v)?;
    let root = list(&u.mnt)?;
    same(plain_names(&root), ["d"], "names in the root")?;
    consistent(&u.mnt, &root)
}

/// `..` has the number that the union shows, however little is read at a time, and wherever a reader comes from.
fn parent_read_again(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
    }
    sys::mkdir(&u.ln(1, "d/plain"))?;
    for n in 0..100 {
        sys::write(&u.ln(1, &format!("d/plain/n{n}")), "")?;
    }
    u.mount()?;
    let parent = sys::stx(&u.m("d"))?.stx_ino;
    let fd = open_dir(&u.m("d/plain"))?;
    let (mut at, mut before) = (0, None);
    while let Some(entry) = some(&fd, 32)?.pop() {
        if entry.name == ".." {
            same(entry.ino, parent, "d_ino of ..")?;
            before = Some(at);
        }
        at = entry.next;
    }
    let before = before.ok_or(Errno::NOENT)?;
    rustix::fs::seek(&fd, SeekFrom::Start(before as u64))?;
    let all = rest(&fd, 32)?;
    let again = all.iter().find(|entry| entry.name == "..");
    same(again.map(|entry| entry.ino), Some(parent), "read again")?;
    consistent(&u.m("d/plain"), &list(&u.m("d/plain"))?)
}

fn inodes_over_copy_up(ctx: &Ctx) -> Res {
    let u = three_layers(ctx)?;
    let before: BTreeMap<_, _> = list(&u.m("d"))?
        .into_iter()
        .map(|e| (e.name, e.ino))
        .collect();
    for n in ["a", "b", "c", "same"] {
        sys::write(&u.m("d").join(n), "changed")?;
    }
    sys::chmod(&u.m("d/sub"), 0o700)?;
    for round in ["at once", "after a new mount"] {
        let v = list(&u.m("d"))?;
        consistent(&u.m("d"), &v)?;
        for e in v.iter().filter(|e| e.name != "..") {
            same(
                Some(&e.ino),
                before.get(&e.name),
                &format!("d_ino of {} {round}", e.name),
            )?;
        }
        u.again()?;
    }
    Ok(())
}

fn pure_upper_and_pure_lower(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for d in [u.l("low"), u.u("up")] {
        sys::mkdir(&d)?;
        for i in 0..20 {
            sys::write(&d.join(format!("f{i}")), "")?;
        }
    }
    u.mount()?;
    for d in ["low", "up"] {
        let v = list(&u.m(d))?;
        same(v.len(), 22, d)?;
        consistent(&u.m(d), &v)?;
    }
    Ok(())
}

fn moved_in_origin(ctx: &Ctx) -> Res {
    // A copied-up file in an upper directory: the directory is "impure".
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.u("pure"))?;
    u.mount()?;
    let ino = sys::stx(&u.m("f"))?.stx_ino;
    std::fs::rename(u.m("f"), u.m("pure/f"))?;
    same(
        sys::stx(&u.m("pure/f"))?.stx_ino,
        ino,
        "st_ino after the move",
    )?;
    consistent(&u.m("pure"), &list(&u.m("pure"))?)?;
    same(
        sys::getx(&u.u("pure"), "trusted.overlay.impure")?,
        b"y",
        "overlay.impure",
    )?;
    u.again()?;
    consistent(&u.m("pure"), &list(&u.m("pure"))?)
}

fn opaque_directory(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        sys::write(&u.ln(i, &format!("d/l{i}")), "")?;
    }
    sys::mkdir(&u.u("d"))?;
    sys::write(&u.u("d/up"), "")?;
    sys::set_opaque(&u.ln(0, "d"))?;
    u.mount()?;
    let v = list(&u.m("d"))?;
    same(plain_names(&v), ["l0", "up"], "an opaque lower directory")?;
    consistent(&u.m("d"), &v)?;
    u.umount()?;
    sys::set_opaque(&u.u("d"))?;
    u.mount()?;
    same(
        plain_names(&list(&u.m("d"))?),
        ["up"],
        "an opaque upper directory",
    )
}

fn xattr_whiteouts(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        sys::write(&u.ln(i, "d/a"), if i == 0 { "" } else { "below" })?;
    }
    sys::write(&u.ln(1, "d/b"), "below")?;
    sys::setx(&u.ln(0, "d/a"), "trusted.overlay.whiteout", b"y")?;
    for d in ["", "d"] {
        sys::setx(&u.ln(0, d), "trusted.overlay.opaque", b"x")?;
    }
    u.mount()?;
    same(plain_names(&list(&u.m("d"))?), ["b"], "names")?;
    let r = sys::stx(&u.m("d/a")).map(|_| ());
    fails(r, Errno::NOENT, "the hidden file")?;
    sys::write(&u.m("d/a"), "new")?;
    let names = plain_names(&list(&u.m("d"))?);
    same(names, ["a", "b"], "names after a create")?;
    std::fs::remove_file(u.m("d/b"))?;
    same(
        plain_names(&list(&u.m("d"))?),
        ["a"],
        "names after an unlink",
    )
}

fn file_over_directory(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 3)?;
    sys::mkdir(&u.ln(2, "x"))?;
    sys::write(&u.ln(2, "x/deep"), "")?;
    sys::write(&u.ln(1, "x"), "a file between")?;
    sys::mkdir(&u.ln(0, "x"))?;
    sys::write(&u.ln(0, "x/top"), "")?;
    u.mount()?;
    same(
        plain_names(&list(&u.m("x"))?),
        ["top"],
        "a file ends the merge",
    )
}

fn small_buffers(ctx: &Ctx) -> Res {
    let u = three_layers(ctx)?;
    let all = plain_names(&list(&u.m("d"))?);
    for size in [32usize, 64, 128, 256] {
        let fd = open_dir(&u.m("d"))?;
        same(
            plain_names(&rest(&fd, size)?),
            all.clone(),
            &format!("buffers of {size} bytes"),
        )?;
    }
    fails(
        some(&open_dir(&u.m("d"))?, 16),
        Errno::INVAL,
        "a buffer that holds no entry",
    )
}

fn seeking(ctx: &Ctx) -> Res {
    let u = three_layers(ctx)?;
    sys::mkdir(&u.m("plain"))?;
    for i in 0..10 {
        sys::write(&u.m(&format!("plain/f{i}")), "")?;
    }
    for d in ["d", "plain"] {
        let fd = open_dir(&u.m(d))?;
        let all = rest(&fd, 4096)?;
        for i in 0..all.len() - 1 {
            rustix::fs::seek(&fd, SeekFrom::Start(all[i].next as u64))?;
            let names: Vec<_> = rest(&fd, 4096)?.into_iter().map(|e| e.name).collect();
            let want: Vec<_> = all[i + 1..].iter().map(|e| e.name.clone()).collect();
            same(names, want, &format!("{d}: the entries after a seek"))?;
        }
        rustix::fs::seek(&fd, SeekFrom::Start(0))?;
        same(rest(&fd, 4096)?.len(), all.len(), "after a rewind")?;
        check(rest(&fd, 4096)?.is_empty(), "at the end")?;
    }
    Ok(())
}

/// The names behind position `at`, for a reader that opens the directory for that alone.
fn names_behind(d: &Path, at: i64) -> Res<Vec<String>> {
    let fd = open_dir(d)?;
    rustix::fs::seek(&fd, SeekFrom::Start(at as u64))?;
    Ok(rest(&fd, 4096)?.into_iter().map(|e| e.name).collect())
}

/// A position leads a reader that opens anew to the same name: `.` and `..`, directories that are merged, impure or
/// of one layer.
fn seeking_anew(ctx: &Ctx) -> Res {
    let u = three_layers(ctx)?;
    sys::mkdir(&u.m("plain"))?;
    sys::mkdir(&u.m("impure"))?;
    for d in ["plain", "impure"] {
        for i in 0..10 {
            sys::write(&u.m(&format!("{d}/f{i}")), "")?;
        }
    }
    for n in ["a", "b"] {
        std::fs::rename(u.m("d").join(n), u.m("impure").join(n))?;
    }
    for d in ["", "d", "d/sub", "plain", "impure"] {
        let all = list(&u.m(d))?;
        for (i, e) in all.iter().enumerate() {
            let want: Vec<_> = all[i + 1..].iter().map(|e| e.name.clone()).collect();
            same(
                names_behind(&u.m(d), e.next)?,
                want,
                &format!("{d:?}: behind {}", e.name),
            )?;
        }
        consistent(&u.m(d), &all)?;
    }
    Ok(())
}

/// What is created, removed and copied up moves no name of the layers below upper: nfsd opens a directory anew for
/// each piece of a listing.
fn positions_outlive_changes(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    // overlayfs has upper's names before those of layers between it and the lowest.
    let steady: &[usize] = if is_overlayfs() { &[1] } else { &[0, 1] };
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        for k in 0..30 {
            sys::write(&u.ln(i, &format!("d/layer{i}-{k}")), "x")?;
        }
    }
    sys::mkdir(&u.u("d"))?;
    for k in 0..5 {
        sys::write(&u.u(&format!("d/up{k}")), "")?;
    }
    u.mount()?;
    let d = u.m("d");
    let stays = |n: &String| {
        let of = |i: &usize| n.starts_with(&format!("layer{i}-"));
        steady.iter().any(of) && !n.ends_with("-7")
    };
    let all = list(&d)?;
    let check_all = |when: &str| -> Res {
        for (i, e) in all.iter().enumerate().filter(|(_, e)| stays(&e.name)) {
            let want = all[i + 1..].iter().map(|e| e.name.clone());
            let want: Vec<_> = want.filter(stays).collect();
            let seen: Vec<_> = names_behind(&d, e.next)?
                .into_iter()
                .filter(stays)
                .collect();
            same(seen, want, &format!("behind {}, {when}", e.name))?;
        }
        Ok(())
    };
    check_all("nothing changed")?;
    for k in 0..10 {
        sys::write(&d.join(format!("new{k}")), "")?;
    }
    check_all("names were created")?;
    std::fs::remove_file(d.join("up2"))?;
    std::fs::remove_file(d.join("new3"))?;
    check_all("names of upper were removed")?;
    for i in 0..2 {
        std::fs::remove_file(d.join(format!("layer{i}-7")))?;
    }
    check_all("names of lower layers were removed")?;
    for i in 0..2 {
        sys::chmod(&d.join(format!("layer{i}-3")), 0o600)?;
    }
    check_all("files were copied up")?;
    u.again()?;
    check_all("mounted anew")
}

fn rewind_sees_changes(ctx: &Ctx) -> Res {
    let u = three_layers(ctx)?;
    let fd = open_dir(&u.m("d"))?;
    rest(&fd, 4096)?;
    sys::write(&u.m("d/fresh"), "")?;
    std::fs::remove_file(u.m("d/a"))?;
    rustix::fs::seek(&fd, SeekFrom::Start(0))?;
    let n = plain_names(&rest(&fd, 4096)?);
    check(
        n.contains(&"fresh".to_owned()),
        "a new name after rewinding",
    )?;
    check(
        !n.contains(&"a".to_owned()),
        "a removed name after rewinding",
    )?;
    let again = plain_names(&list(&u.m("d"))?);
    same(again, n, "a new descriptor sees the same")
}

/// `..` of a merged directory that is moved while a descriptor has its listing.
fn rewind_after_a_move(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    u.options = "redirect_dir=on".to_owned();
    for at in [u.l("from/d"), u.l("to"), u.u("from/d")] {
        std::fs::create_dir_all(at)?;
    }
    u.mount()?;
    let fd = open_dir(&u.m("from/d"))?;
    let parent = |fd: &OwnedFd| -> Res<Option<u64>> {
        rustix::fs::seek(fd, SeekFrom::Start(0))?;
        let all = rest(fd, 4096)?;
        Ok(all.iter().find(|e| e.name == "..").map(|e| e.ino))
    };
    let ino = |n: &str| -> Res<Option<u64>> { Ok(Some(sys::stx(&u.m(n))?.stx_ino)) };
    same(parent(&fd)?, ino("from")?, "before")?;
    sys::rename(&u.m("from/d"), &u.m("to/d"), RenameFlags::empty())?;
    same(parent(&fd)?, ino("to")?, "after rewinding")?;
    same(
        parent(&open_dir(&u.m("to/d"))?)?,
        ino("to")?,
        "opened again",
    )
}

fn changes_while_reading(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        for k in 0..50 {
            sys::write(&u.ln(i, &format!("d/f{i}-{k:02}")), "")?;
        }
    }
    u.mount()?;
    let fd = open_dir(&u.m("d"))?;
    let mut seen = BTreeSet::new();
    let mut gone = BTreeSet::new();
    loop {
        let v = some(&fd, 400)?;
        if v.is_empty() {
            break;
        }
        for e in v.iter().filter(|e| e.name.starts_with('f')) {
            check(
                seen.insert(e.name.clone()),
                &format!("{} is listed twice", e.name),
            )?;
        }
        // One that was already read and a new one.
        if let Some(n) = seen.iter().find(|n| !gone.contains(*n)).cloned() {
            std::fs::remove_file(u.m("d").join(&n))?;
            gone.insert(n);
        }
        sys::write(&u.m(&format!("d/new{}", gone.len())), "")?;
    }
    same(
        seen.len(),
        100,
        "every name that was there all the time is listed",
    )?;
    let now = plain_names(&list(&u.m("d"))?);
    same(now.len(), 100, "names afterwards")?;
    check(
        now.iter().all(|n| !gone.contains(n)),
        "a removed name is still listed",
    )
}

fn unlink_all_while_reading(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        for k in 0..100 {
            sys::write(&u.ln(i, &format!("d/f{i}-{k}")), "")?;
        }
    }
    u.mount()?;
    for k in 0..100 {
        sys::write(&u.m(&format!("d/u{k}")), "")?;
    }
    // As rm -r does it.
    let fd = open_dir(&u.m("d"))?;
    loop {
        let v = some(&fd, 1024)?;
        if v.is_empty() {
            break;
        }
        for e in v.iter().filter(|e| !e.name.starts_with('.')) {
            std::fs::remove_file(u.m("d").join(&e.name))?;
        }
    }
    same(
        plain_names(&list(&u.m("d"))?),
        Vec::<String>::new(),
        "what is left",
    )?;
    std::fs::remove_dir(u.m("d"))?;
    check(sys::is_whiteout(&u.u("d")), "a whiteout in upper")
}

fn many_entries(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 3)?;
    let mut want = BTreeSet::new();
    for i in 0..3 {
        sys::mkdir(&u.ln(i, "d"))?;
        for k in 0..800 {
            // A third of the names lie in the next layer too.
            let n = format!("name-{:05}", i * 533 + k);
            sys::write(&u.ln(i, "d").join(&n), "")?;
            want.insert(n);
        }
    }
    sys::mkdir(&u.u("d"))?;
    for k in (0..1800).step_by(7) {
        let n = format!("name-{k:05}");
        if want.remove(&n) {
            sys::whiteout(&u.u("d").join(&n))?;
        }
    }
    u.mount()?;
    for _ in 0..2 {
        let v = list(&u.m("d"))?;
        let names = plain_names(&v);
        same(names.len(), want.len(), "how many names")?;
        check(
            names.iter().all(|n| want.contains(n)),
            "a name that should be hidden",
        )?;
    }
    consistent(&u.m("d"), &list(&u.m("d"))?)
}

fn directory_copied_up_while_open(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    for k in 0..30 {
        sys::write(&u.l(&format!("d/f{k}")), "")?;
    }
    u.mount()?;
    let fd = open_dir(&u.m("d"))?;
    let first = some(&fd, 200)?;
    check(!first.is_empty(), "the first entries")?;
    sys::write(&u.m("d/new"), "")?;
    rustix::fs::fsync(&fd)?;
    rustix::fs::seek(&fd, SeekFrom::Start(0))?;
    let n = plain_names(&rest(&fd, 4096)?);
    same(n.len(), 31, "names after rewinding the old descriptor")
}

fn removed_while_open(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::mkdir(&u.u("e"))?;
    u.mount()?;
    for n in ["d", "e"] {
        let fd = open_dir(&u.m(n))?;
        std::fs::remove_dir(u.m(n))?;
        fails(
            some(&fd, 4096),
            Errno::NOENT,
            "getdents64 of a removed directory",
        )?;
    }
    Ok(())
}

fn parent_of_a_bind_mount(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        std::fs::create_dir_all(u.ln(i, "a/b"))?;
        sys::write(&u.ln(i, &format!("a/b/f{i}")), "")?;
    }
    u.mount()?;
    let v = list(&u.m("a/b"))?;
    let up = v
        .iter()
        .find(|e| e.name == "..")
        .ok_or_else(|| Failure::new("no .. entry".to_owned()))?;
    same(up.ino, sys::stx(&u.m("a"))?.stx_ino, "d_ino of ..")
}

/// Directories of one layer, below a merged one, each of `count` names: of a lower layer, of upper, and of upper with a copied-up entry.
fn of_one_layer(ctx: &Ctx, count: usize) -> Res<(Union, [&'static str; 3])> {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
    }
    sys::mkdir(&u.u("d"))?;
    let dirs = ["d/low", "d/up", "d/impure"];
    for dir in [u.ln(1, dirs[0]), u.u(dirs[1]), u.u(dirs[2])] {
        sys::mkdir(&dir)?;
        for n in 0..count {
            sys::write(&dir.join(format!("a file called {n}")), "")?;
        }
    }
    sys::write(&u.ln(1, "d/moved"), "")?;
    u.mount()?;
    std::fs::rename(u.m("d/moved"), u.m("d/impure/moved"))?;
    for dir in dirs {
        listed_often(&u.m(dir))?;
    }
    Ok((u, dirs))
}

/// Lists a directory so often that what its layer lists is noted down, and pays for others.
fn listed_often(dir: &Path) -> Res {
    for _ in 0..40 {
        list(dir)?;
    }
    Ok(())
}

/// The same entries, positions and all; says which is the first that differs.
fn same_entries(seen: &[Entry], want: &[Entry], what: &str) -> Res {
    for (seen, want) in seen.iter().zip(want) {
        same(seen, want, what)?;
    }
    same(seen.len(), want.len(), what)
}

/// A directory of one layer says the same each time, positions and all, wherever a reader begins and however much it takes.
fn listed_again_and_again(ctx: &Ctx) -> Res {
    let (u, dirs) = of_one_layer(ctx, 60)?;
    for dir in dirs {
        let path = u.m(dir);
        let first = list(&path)?;
        consistent(&path, &first)?;
        let up = first.iter().find(|e| e.name == "..").map(|e| e.ino);
        same(up, Some(sys::stx(&u.m("d"))?.stx_ino), "d_ino of ..")?;
        for size in [32768, 32768, 320, 64, 32768] {
            same_entries(&rest(&open_dir(&path)?, size)?, &first, dir)?;
        }
        let held = open_dir(&path)?;
        for (at, entry) in first.iter().enumerate().step_by(11) {
            let want = &first[at + 1..];
            for fd in [&open_dir(&path)?, &held] {
                rustix::fs::seek(fd, SeekFrom::Start(entry.next as u64))?;
                same_entries(&rest(fd, 320)?, want, &format!("{dir} from {at}"))?;
                rustix::fs::seek(fd, SeekFrom::Start(0))?;
                let some = some(fd, 320)?;
                let told = rustix::fs::seek(fd, SeekFrom::Current(0))?;
                same(Some(told as i64), some.last().map(|e| e.next), "position")?;
                same_entries(&rest(fd, 32768)?, &first[some.len()..], "the rest")?;
                check(rest(fd, 320)?.is_empty(), "at the end")?;
            }
        }
        consistent(&path, &list(&path)?)?;
        // A position that nobody was told of is the filesystem's affair.
        let fd = open_dir(&path)?;
        rustix::fs::seek(&fd, SeekFrom::Start(1))?;
        rest(&fd, 32768)?;
    }
    Ok(())
}

/// A reader that is half through a directory of one layer, which was listed before, ends well whatever becomes of it.
fn changed_while_read_again(ctx: &Ctx) -> Res {
    let (u, dirs) = of_one_layer(ctx, 60)?;
    for dir in dirs {
        let path = u.m(dir);
        listed_often(&path)?;
        let fd = open_dir(&path)?;
        let mut seen = some(&fd, 1024)?;
        // Copied up where it was not; it has names of its own then.
        sys::write(&path.join("new"), "")?;
        std::fs::remove_file(path.join("a file called 7"))?;
        seen.extend(rest(&fd, 1024)?);
        let mut names = plain_names(&seen);
        names.dedup();
        same(names.len(), plain_names(&seen).len(), "no name twice")?;
        for n in (0..60).filter(|n| *n != 7) {
            let name = format!("a file called {n}");
            check(names.contains(&name), &format!("{dir}: {name}"))?;
        }
        rustix::fs::seek(&fd, SeekFrom::Start(0))?;
        for v in [rest(&fd, 1024)?, list(&path)?] {
            let names = plain_names(&v);
            same(names.len(), if dir == "d/impure" { 61 } else { 60 }, dir)?;
            check(names.contains(&"new".to_owned()), "the new name")?;
            consistent(&path, &v)?;
        }
    }
    Ok(())
}

/// What is changed below a directory of one layer within a moment, looked at with `stat` in between, is seen in its listings.
fn changed_in_the_layer_at_once(ctx: &Ctx) -> Res {
    let (u, _) = of_one_layer(ctx, 3)?;
    for (dir, below) in [("d/low", u.ln(1, "d/low")), ("d/up", u.u("d/up"))] {
        let (path, new, other) = (u.m(dir), below.join("new"), below.join("other"));
        let has = |name: &str| -> Res<bool> { Ok(sys::names(&path)?.iter().any(|n| n == name)) };
        let shows = |name: &str, want: bool, what: &str| -> Res {
            sys::stx(&below)?;
            for _ in 0..2 {
                same(has(name)?, want, &format!("{dir}: {what}"))?;
            }
            Ok(())
        };
        for _ in 0..40 {
            sys::write(&new, "")?;
            shows("new", true, "created")?;
            std::fs::hard_link(&new, &other)?;
            shows("other", true, "linked")?;
            std::fs::remove_file(&new)?;
            shows("new", false, "removed")?;
            std::fs::rename(&other, &new)?;
            shows("new", true, "renamed")?;
            sys::write(&other, "")?;
            shows("other", true, "created anew")?;
            std::fs::rename(&new, &other)?;
            shows("new", false, "renamed over another")?;
            std::fs::remove_file(&other)?;
            sys::mkdir(&new)?;
            shows("new", true, "a directory")?;
            std::fs::remove_dir(&new)?;
            shows("new", false, "no directory")?;
        }
    }
    Ok(())
}

/// Whoever opened a directory before it changed, or changes it while reading it, leaves others with what there is now.
fn read_by_who_came_early(ctx: &Ctx) -> Res {
    let (u, dirs) = of_one_layer(ctx, 40)?;
    // Opened before anything was known of it.
    let path = u.m("d/early");
    sys::mkdir(&path)?;
    for n in 0..40 {
        sys::write(&path.join(format!("a file called {n}")), "")?;
    }
    let early = open_dir(&path)?;
    sys::write(&path.join("new"), "")?;
    list(&path)?;
    rest(&early, 32768)?;
    for _ in 0..3 {
        let names = plain_names(&list(&path)?);
        check(names.contains(&"new".to_owned()), "what came after it")?;
    }
    // A copied-up directory is a merged one, but upper's stay what they are.
    for dir in &dirs[1..] {
        let path = u.m(dir);
        for round in 0..20 {
            sys::write(&path.join("seen"), "")?;
            let fd = open_dir(&path)?;
            list(&path)?;
            let mut seen = some(&fd, 512)?;
            std::fs::remove_file(path.join("seen"))?;
            seen.extend(rest(&fd, 512)?);
            sys::stx(&path)?;
            for _ in 0..3 {
                let names = plain_names(&list(&path)?);
                let there = names.contains(&"seen".to_owned());
                check(!there, &format!("{dir}: removed in round {round}"))?;
            }
        }
    }
    Ok(())
}

/// The parent of a directory that was listed before becomes a merged one, and gets another number by that, or none.
fn parent_copied_up_between(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("d/plain"))?;
    sys::write(&u.l("d/plain/f"), "")?;
    u.mount()?;
    let number = || -> Res<u64> {
        let v = list(&u.m("d/plain"))?;
        let up = v.iter().find(|e| e.name == "..").ok_or(Errno::NOENT)?;
        Ok(up.ino)
    };
    listed_often(&u.m("d/plain"))?;
    sys::write(&u.m("d/new"), "")?;
    for _ in 0..4 {
        same(number()?, sys::stx(&u.m("d"))?.stx_ino, "d_ino of ..")?;
    }
    Ok(())
}

fn listing_needs_permission(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("d"))?;
    sys::chmod(&u.l("d"), 0o711)?;
    sys::write(&u.l("d/f"), "x")?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || {
        fails(
            open_dir(&u.m("d")),
            Errno::ACCESS,
            "open of a directory without r",
        )?;
        same(sys::read(&u.m("d/f"))?, b"x", "a known name inside")
    })
}

fn not_a_directory(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    fails(some(&fd, 4096), Errno::NOTDIR, "getdents64 of a file")?;
    let d = open_dir(&u.mnt)?;
    let mut b = [0u8; 8];
    fails(
        rustix::io::read(&d, &mut b),
        Errno::ISDIR,
        "read of a directory",
    )
}

tests! {
    Tmpfs: merged, parent_read_again, inodes_over_copy_up, pure_upper_and_pure_lower, moved_in_origin,
        opaque_directory, xattr_whiteouts, file_over_directory, small_buffers, seeking, seeking_anew,
        positions_outlive_changes, rewind_sees_changes,
        rewind_after_a_move, changes_while_reading, unlink_all_while_reading, many_entries,
        directory_copied_up_while_open, removed_while_open, parent_of_a_bind_mount,
        listed_again_and_again, changed_while_read_again, changed_in_the_layer_at_once, read_by_who_came_early,
        parent_copied_up_between, listing_needs_permission, not_a_directory;
    Ext4: merged, parent_read_again, inodes_over_copy_up, moved_in_origin, seeking, seeking_anew, positions_outlive_changes,
        listed_again_and_again, changed_while_read_again, changed_in_the_layer_at_once,
        read_by_who_came_early, unlink_all_while_reading;
    Xfs: merged, inodes_over_copy_up, seeking, listed_again_and_again, changed_while_read_again, changed_in_the_layer_at_once,
        read_by_who_came_early;
    Btrfs: merged, seeking, listed_again_and_again, changed_while_read_again, changed_in_the_layer_at_once, read_by_who_came_early;
}
