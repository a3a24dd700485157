// SPDX-License-Identifier: GPL-2.0
//! Many at once.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;

const THREADS: usize = 6;

/// Runs `f(i)` in many threads that start together.
pub(super) fn together<T: Send + 'static>(
    n: usize,
    f: impl Fn(usize) -> T + Send + Sync + 'static,
) -> Res<Vec<T>> {
    let f = Arc::new(f);
    let start = Arc::new(Barrier::new(n));
    let hands: Vec<_> = (0..n)
        .map(|i| {
            let (f, start) = (f.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                f(i)
            })
        })
        .collect();
    hands
        .into_iter()
        .map(|h| {
            h.join()
                .map_err(|_| Failure::new("a thread died".to_owned()))
        })
        .collect()
}

fn all_ok<T>(r: Vec<Sys<T>>, what: &str) -> Res {
    for x in r {
        works(x, what)?;
    }
    Ok(())
}

fn writers_make_one_copy(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let data = super::rw::pattern(1 << 20);
    for i in 0..8 {
        sys::write(&u.l(&format!("f{i}")), &data)?;
    }
    u.mount()?;
    for i in 0..8 {
        let p = u.m(&format!("f{i}"));
        let r = together(THREADS, move |t| -> Sys<u64> {
            let fd = sys::open(&p, OFlags::RDWR)?;
            rustix::io::pwrite(&fd, &[t as u8; 16], t as u64 * 4096)?;
            Ok(rustix::fs::fstat(&fd)?.st_ino)
        })?;
        let mut inos = Vec::new();
        for x in r {
            inos.push(works(x, "open and write")?);
        }
        inos.dedup();
        same(inos.len(), 1, "inode numbers seen by the writers")?;
        let seen = sys::read(&u.u(&format!("f{i}")))?;
        let mut want = data.clone();
        for t in 0..THREADS {
            want[t * 4096..][..16].fill(t as u8);
        }
        check(seen == want, "a write was lost or the copy is torn")?;
    }
    u.work_is_empty()
}

/// A directory is moved while the one above it is renamed: what says where its lower part is must be whole.
fn redirect_of_what_is_renamed_above(ctx: &Ctx) -> Res {
    const ROUNDS: usize = 80;
    let mut u = Union::new(ctx)?;
    u.options = "redirect_dir=on".to_owned();
    let long = |i| format!("{}{i}", "p".repeat(60));
    for i in 0..ROUNDS {
        std::fs::create_dir_all(u.l(&format!("{}/q/d", long(i))))?;
        sys::write(&u.l(&format!("{}/q/d/f", long(i))), "data")?;
    }
    sys::mkdir(&u.l("out"))?;
    u.mount()?;
    for i in 0..ROUNDS {
        let (old, new) = (u.m(&long(i)), u.m(&format!("o{i}")));
        let q = sys::open(&old.join("q"), OFlags::DIRECTORY)?;
        let out = u.m(&format!("out/d{i}"));
        let r = together(2, move |t| match t {
            0 => sys::rename(&old, &new, RenameFlags::empty()),
            _ => rustix::fs::renameat(&q, "d", rustix::fs::CWD, &out),
        })?;
        all_ok(r, "a rename")?;
        let redirect = sys::getx(&u.u(&format!("out/d{i}")), "trusted.overlay.redirect")?;
        same(
            redirect,
            format!("/{}/q/d", long(i)).into_bytes(),
            "redirect",
        )?;
    }
    u.umount()?;
    u.mount()?;
    for i in 0..ROUNDS {
        let data = sys::read(&u.m(&format!("out/d{i}/f")))?;
        same(data, b"data".to_vec(), "content after a new mount")?;
    }
    Ok(())
}

fn every_kind_of_copy_up_at_once(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("a/b/c"))?;
    for i in 0..10 {
        sys::write(&u.l(&format!("a/b/c/f{i}")), "data")?;
    }
    u.mount()?;
    for i in 0..10 {
        let p = u.m(&format!("a/b/c/f{i}"));
        let r = together(THREADS, move |t| -> Sys<()> {
            match t {
                0 => sys::chmod(&p, 0o600),
                1 => sys::chown(&p, 5, 6),
                2 => sys::setx(&p, "trusted.x", b"1"),
                3 => sys::open(&p, OFlags::RDWR).and_then(|f| {
                    rustix::io::pwrite(&f, b"D", 0)?;
                    Ok(())
                }),
                4 => rustix::fs::linkat(
                    rustix::fs::CWD,
                    &p,
                    rustix::fs::CWD,
                    p.with_extension("link"),
                    rustix::fs::AtFlags::empty(),
                ),
                _ => sys::read(&p).map(|_| ()),
            }
        })?;
        all_ok(r, "one of the changes")?;
        let p = u.u(&format!("a/b/c/f{i}"));
        let s = sys::stx(&p)?;
        same(
            (s.stx_uid, s.stx_gid, s.stx_nlink),
            (5, 6, 2),
            "owner and link count",
        )?;
        same(sys::read(&p)?, b"Data", "content")?;
        same(sys::getx(&p, "trusted.x")?, b"1", "xattr")?;
    }
    u.work_is_empty()
}

fn one_unlink_wins(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for i in 0..20 {
        sys::write(&u.l(&format!("f{i}")), "x")?;
    }
    u.mount()?;
    for i in 0..20 {
        let p = u.m(&format!("f{i}"));
        let r = together(THREADS, move |_| std::fs::remove_file(&p))?;
        let won = r.iter().filter(|x| x.is_ok()).count();
        same(won, 1, "unlinks that succeeded")?;
        for e in r.into_iter().filter_map(Result::err) {
            same(e.errno(), Errno::NOENT, "the others")?;
        }
        check(sys::is_whiteout(&u.u(&format!("f{i}"))), "a whiteout")?;
    }
    u.work_is_empty()
}

fn one_rename_wins(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for i in 0..20 {
        sys::write(&u.l(&format!("f{i}")), "x")?;
    }
    u.mount()?;
    for i in 0..20 {
        let (p, m) = (u.m(&format!("f{i}")), u.mnt.clone());
        let r = together(THREADS, move |t| {
            sys::rename(&p, &m.join(format!("to{i}-{t}")), RenameFlags::empty())
        })?;
        same(
            r.iter().filter(|x| x.is_ok()).count(),
            1,
            "renames that succeeded",
        )?;
        for e in r.into_iter().filter_map(Result::err) {
            same(e, Errno::NOENT, "the others")?;
        }
    }
    same(sys::names(&u.mnt)?.len(), 20, "names afterwards")?;
    u.work_is_empty()
}

fn one_create_wins(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for i in 0..20 {
        sys::write(&u.l(&format!("f{i}")), "x")?;
        sys::whiteout(&u.u(&format!("f{i}")))?;
    }
    u.mount()?;
    for i in 0..20 {
        let p = u.m(&format!("f{i}"));
        let r = together(THREADS, move |t| match t % 2 {
            0 => sys::open(&p, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY).map(|_| ()),
            _ => sys::mkdir(&p),
        })?;
        same(
            r.iter().filter(|x| x.is_ok()).count(),
            1,
            "creates that succeeded",
        )?;
        for e in r.into_iter().filter_map(Result::err) {
            same(e, Errno::EXIST, "the others")?;
        }
    }
    u.work_is_empty()
}

fn parents_are_copied_once(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("a/b/c/d/e"))?;
    sys::chmod(&u.l("a/b"), 0o751)?;
    u.mount()?;
    let m = u.m("a/b/c/d/e");
    let r = together(8, move |t| sys::write(&m.join(format!("new{t}")), "x"))?;
    all_ok(r, "create in a lower directory")?;
    same(sys::names(&u.u("a/b/c/d/e"))?.len(), 8, "new files")?;
    same(sys::mode(&u.u("a/b"))?, 0o751, "mode of a parent")?;
    u.work_is_empty()
}

fn rename_against_unlink(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("a"))?;
    sys::mkdir(&u.l("b"))?;
    u.mount()?;
    let m = u.mnt.clone();
    let r = together(4, move |t| -> Sys<()> {
        for i in 0..60 {
            let (x, y) = (m.join("a/f"), m.join("b/f"));
            let none = RenameFlags::empty();
            let r = match t {
                0 => sys::write(&x, i.to_string()),
                1 => sys::rename(&x, &y, none),
                2 => sys::rename(&y, &x, none),
                _ => std::fs::remove_file(&y).map_err(|e| e.errno()),
            };
            match r {
                Ok(()) | Err(Errno::NOENT | Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    })?;
    all_ok(r, "rename against unlink")?;
    for d in ["a", "b"] {
        for n in sys::names(&u.m(d))? {
            works(sys::read(&u.m(d).join(n)), "what is listed can be read")?;
        }
    }
    u.work_is_empty()
}

fn directories_cross(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    u.mount()?;
    for d in ["a", "b", "a/x", "b/y"] {
        sys::mkdir(&u.m(d))?;
    }
    let m = u.mnt.clone();
    let r = together(2, move |t| -> Sys<()> {
        for _ in 0..100 {
            let (from, to) = match t {
                0 => ("a/x", "b/x"),
                _ => ("b/y", "a/y"),
            };
            sys::rename(&m.join(from), &m.join(to), RenameFlags::empty())?;
            sys::rename(&m.join(to), &m.join(from), RenameFlags::empty())?;
        }
        Ok(())
    })?;
    all_ok(r, "directories moved across each other")?;
    same(sys::names(&u.m("a"))?, ["x"], "a")?;
    same(sys::names(&u.m("b"))?, ["y"], "b")
}

fn readdir_against_unlink(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        sys::mkdir(&u.ln(i, "d"))?;
        for k in 0..60 {
            sys::write(&u.ln(i, &format!("d/f{i}-{k}")), "")?;
        }
        sys::write(&u.ln(i, "d/stays"), "")?;
    }
    u.mount()?;
    let d = u.m("d");
    let r = together(4, move |t| -> Sys<()> {
        let err = |e: std::io::Error| e.errno();
        if t < 2 {
            for k in 0..60 {
                std::fs::remove_file(d.join(format!("f{t}-{k}"))).map_err(err)?;
                sys::write(&d.join(format!("new{t}-{k}")), "")?;
            }
            return Ok(());
        }
        for _ in 0..15 {
            let mut names: Vec<PathBuf> = Vec::new();
            for e in std::fs::read_dir(&d).map_err(err)? {
                names.push(e.map_err(err)?.path());
            }
            let all = names.len();
            names.sort();
            names.dedup();
            // EILSEQ stands for a listing that is wrong.
            if all != names.len() || !names.contains(&d.join("stays")) {
                return Err(Errno::ILSEQ);
            }
        }
        Ok(())
    })?;
    all_ok(r, "readdir against unlink and create")?;
    same(sys::names(&u.m("d"))?.len(), 121, "names afterwards")
}

fn stat_against_unlink(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    std::fs::create_dir_all(u.l("d/e"))?;
    for i in 0..100 {
        sys::write(&u.l(&format!("d/e/f{i}")), "x")?;
    }
    u.mount()?;
    let e = u.m("d/e");
    let r = together(4, move |t| -> Sys<()> {
        for i in 0..100 {
            let p = e.join(format!("f{i}"));
            let r = match t {
                0 => std::fs::remove_file(&p).map_err(|x| x.errno()),
                1 => sys::write(&p, "back"),
                _ => rustix::fs::access(&p, rustix::fs::Access::READ_OK)
                    .and_then(|()| sys::stx(&p).map(|_| ())),
            };
            match r {
                // A create may meet the name that it raced with.
                Ok(()) | Err(Errno::NOENT | Errno::EXIST) => {}
                Err(x) => return Err(x),
            }
        }
        Ok(())
    })?;
    all_ok(r, "stat against unlink")
}

fn reclaim_against_work(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for i in 0..60 {
        sys::write(&u.l(&format!("f{i}")), format!("{i}"))?;
    }
    u.mount()?;
    let (m, tmp) = (u.mnt.clone(), ctx.tmp.clone());
    let r = together(3, move |t| -> Sys<()> {
        if t == 0 {
            for _ in 0..3 {
                sys::drop_caches(&tmp).map_err(|_| Errno::ILSEQ)?;
            }
            return Ok(());
        }
        for i in 0..60 {
            let p = m.join(format!("f{i}"));
            if t == 1 {
                sys::chmod(&p, 0o600)?;
            } else if sys::read(&p)? != i.to_string().as_bytes() {
                return Err(Errno::ILSEQ);
            }
        }
        Ok(())
    })?;
    all_ok(r, "work while caches are dropped")
}

/// Whiteouts are links of one, which has no room for more: one of those who remove uses it up, the others share the next.
fn removals_where_the_whiteout_is_full(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for t in 0..THREADS {
        sys::mkdir(&u.l(&format!("d{t}")))?;
        for name in ["at once", "after"] {
            sys::write(&u.l(&format!("d{t}/{name}")), "x")?;
        }
    }
    sys::write(&u.l("before"), "x")?;
    u.mount()?;
    let remove = |name: &'static str| {
        let mnt = u.mnt.clone();
        let r = together(THREADS, move |t| {
            rustix::fs::unlink(mnt.join(format!("d{t}/{name}")))
        })?;
        all_ok(r, "unlink")?;
        let whiteouts: Vec<_> = (0..THREADS).map(|t| u.u(&format!("d{t}/{name}"))).collect();
        for at in &whiteouts {
            check(sys::is_whiteout(at), "a whiteout in upper")?;
        }
        Ok::<_, Failure>(whiteouts)
    };
    for t in 0..THREADS {
        sys::chmod(&u.m(&format!("d{t}")), 0o700)?;
    }
    std::fs::remove_file(u.m("before"))?;
    let full = u.u("before");
    let work = u.work.join("work");
    let mut count = 0;
    let end = loop {
        if let Err(e) = rustix::fs::link(&full, work.join(format!("{count}"))) {
            break e;
        }
        count += 1;
    };
    same(end, Errno::MLINK, "what ends the making of links")?;
    // All find the full one before the first gets at the work directory, which is locked while it is listed.
    let busy = Arc::new(AtomicBool::new(true));
    let go = busy.clone();
    let list = thread::spawn(move || -> Sys<()> {
        let mut room = vec![MaybeUninit::uninit(); 8 << 20];
        while go.load(Relaxed) {
            let dir = sys::open(&work, OFlags::DIRECTORY)?;
            let mut names = rustix::fs::RawDir::new(dir, &mut room);
            while let Some(name) = names.next() {
                name?;
            }
        }
        Ok(())
    });
    let removed = remove("at once");
    busy.store(false, Relaxed);
    let listed = list.join();
    works(
        listed.map_err(|_| Failure::new("a thread died".to_owned()))?,
        "listing",
    )?;
    removed?;
    let ino = |at: &PathBuf| sys::stx(at).map(|s| s.stx_ino);
    let (full, mut shared) = (ino(&full)?, Vec::new());
    for at in remove("after")? {
        shared.push(ino(&at)?);
    }
    shared.dedup();
    same(shared.len(), 1, "inodes of the whiteouts after that")?;
    check(shared[0] != full, "which are not links of the full one")?;
    u.work_is_empty()
}

fn mount_and_umount_in_parallel(ctx: &Ctx) -> Res {
    let mut all = Vec::new();
    for i in 0..4 {
        let root = ctx.root.join(format!("n{i}"));
        sys::mkdir(&root)?;
        let u = Union::at(&root, 2)?;
        sys::write(&u.l("f"), "x")?;
        all.push(u);
    }
    let all = Arc::new(all);
    let r = together(4, move |t| -> Sys<()> {
        for _ in 0..8 {
            let u = &all[t];
            u.try_mount()?;
            sys::write(&u.m("f"), "y")?;
            rustix::mount::unmount(&u.mnt, rustix::mount::UnmountFlags::empty())?;
        }
        Ok(())
    })?;
    all_ok(r, "mount, write, umount")
}

tests! {
    Tmpfs: writers_make_one_copy, every_kind_of_copy_up_at_once, one_unlink_wins,
        one_rename_wins, one_create_wins, parents_are_copied_once, rename_against_unlink,
        directories_cross, readdir_against_unlink, stat_against_unlink, reclaim_against_work,
        mount_and_umount_in_parallel, redirect_of_what_is_renamed_above;
    Ext4: writers_make_one_copy, every_kind_of_copy_up_at_once, one_create_wins,
        removals_where_the_whiteout_is_full;
    Xfs: writers_make_one_copy;
}
