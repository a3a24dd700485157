// SPDX-License-Identifier: GPL-2.0
//! Random work on a union and the same on a plain folder: every result and
//! both trees must agree. The start of the tree is merged by a model of its
//! own from random layers.

use super::tree::*;
use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::{fstype, is_overlayfs, Union};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, OFlags, RenameFlags, CWD};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

#[derive(Debug)]
enum Op {
    Create(String, Vec<u8>),
    Append(String, Vec<u8>),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Mkdir(String),
    Symlink(String),
    Fifo(String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String, RenameFlags),
    Link(String, String),
    Chmod(String, u32),
    Chown(String, u32),
    Setx(String, &'static str, Vec<u8>),
    Delx(String, &'static str),
    Read(String),
    List(String),
}

fn pick(rng: &mut Rng) -> Op {
    const X: [&str; 2] = ["trusted.mark", "trusted.other"];
    let p = rng.path();
    match rng.next(40) {
        0..=3 => Op::Create(p, rng.data()),
        4 | 5 => Op::Append(p, rng.data()),
        6..=8 => Op::Write(p, rng.next(6000), rng.data()),
        9 => Op::Truncate(p, rng.next(6000)),
        10..=13 => Op::Mkdir(p),
        14 => Op::Symlink(p),
        15 => Op::Fifo(p),
        16..=19 => Op::Unlink(p),
        20 | 21 => Op::Rmdir(p),
        22..=27 => {
            let flags = match rng.next(6) {
                0 | 1 => RenameFlags::EXCHANGE,
                2 => RenameFlags::NOREPLACE,
                _ => RenameFlags::empty(),
            };
            Op::Rename(p, rng.path(), flags)
        }
        28..=30 => Op::Link(p, rng.path()),
        31 | 32 => Op::Chmod(p, 0o700 + rng.next(64) as u32),
        33 => Op::Chown(p, rng.next(3) as u32),
        34 => Op::Setx(p, X[rng.next(2) as usize], rng.data()),
        35 => Op::Delx(p, X[rng.next(2) as usize]),
        36 | 37 => Op::Read(p),
        _ => Op::List(p),
    }
}

/// No blocking on fifos, no way through links out of the tree.
const SAFE: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW);

fn io(e: std::io::Error) -> Errno {
    e.errno()
}

/// The outcome, in which a listing or data is the value.
fn apply(root: &Path, op: &Op) -> Sys<Vec<u8>> {
    let at = |p: &String| root.join(p);
    let none: Sys<Vec<u8>> = Ok(Vec::new());
    match op {
        Op::Create(p, d) => {
            let fd = sys::open(&at(p), OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?;
            rustix::io::write(&fd, d)?;
        }
        Op::Append(p, d) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | SAFE;
            let fd = sys::open(&at(p), flags)?;
            rustix::io::write(&fd, d)?;
        }
        Op::Write(p, off, d) => {
            let fd = sys::open(&at(p), OFlags::RDWR | SAFE)?;
            rustix::io::pwrite(&fd, d, *off)?;
        }
        Op::Truncate(p, len) => {
            let fd = sys::open(&at(p), OFlags::WRONLY | SAFE)?;
            rustix::fs::ftruncate(&fd, *len)?;
        }
        Op::Mkdir(p) => sys::mkdir(&at(p))?,
        Op::Symlink(p) => rustix::fs::symlink("a", at(p))?,
        Op::Fifo(p) => sys::mknod(&at(p), FileType::Fifo, 0o644, 0)?,
        Op::Unlink(p) => rustix::fs::unlink(at(p))?,
        Op::Rmdir(p) => rustix::fs::rmdir(at(p))?,
        Op::Rename(a, b, f) => sys::rename(&at(a), &at(b), *f)?,
        Op::Link(a, b) => rustix::fs::linkat(CWD, at(a), CWD, at(b), AtFlags::empty())?,
        Op::Chmod(p, m) => {
            let kind = u32::from(sys::stx(&at(p))?.stx_mode) & libc::S_IFMT;
            if kind != libc::S_IFLNK {
                sys::chmod(&at(p), *m)?;
            }
        }
        Op::Chown(p, o) => sys::chown(&at(p), *o, *o)?,
        Op::Setx(p, n, v) => sys::setx(&at(p), n, &v[..v.len().min(100)])?,
        Op::Delx(p, n) => rustix::fs::lremovexattr(at(p), *n)?,
        Op::Read(p) => {
            let fd = sys::open(&at(p), OFlags::RDONLY | SAFE)?;
            return sys::pread(&fd, 20_000, 0).or_else(|e| match e {
                Errno::SPIPE => none,
                e => Err(e),
            });
        }
        Op::List(p) => {
            let mut v = Vec::new();
            for e in std::fs::read_dir(at(p)).map_err(io)? {
                v.push(e.map_err(io)?.file_name().to_string_lossy().into_owned());
            }
            v.sort();
            return Ok(v.join(" ").into_bytes());
        }
    }
    none
}

/// One file through two descriptors, one in the union and one beside.
struct Twin {
    name: String,
    real: OwnedFd,
    plain: OwnedFd,
    writes: bool,
}

fn open_twins(rng: &mut Rng, u: &Path, plain: &Path) -> Option<Twin> {
    let name = rng.path();
    let writes = rng.next(2) == 0;
    let flags = SAFE | if writes { OFlags::RDWR } else { OFlags::RDONLY };
    let kind = u32::from(sys::stx(&plain.join(&name)).ok()?.stx_mode) & libc::S_IFMT;
    if kind != libc::S_IFREG {
        return None;
    }
    Some(Twin {
        real: sys::open(&u.join(&name), flags).ok()?,
        plain: sys::open(&plain.join(&name), flags).ok()?,
        name,
        writes,
    })
}

fn use_twins(rng: &mut Rng, t: &Twin) -> Res {
    let what = |s: &str| format!("{s} through a descriptor that was opened as {}", t.name);
    if t.writes {
        match rng.next(4) {
            0 => {
                let (d, off) = (rng.data(), rng.next(6000));
                let a = rustix::io::pwrite(&t.real, &d, off);
                same(a, rustix::io::pwrite(&t.plain, &d, off), &what("pwrite"))?;
            }
            1 => {
                let len = rng.next(6000);
                let a = rustix::fs::ftruncate(&t.real, len);
                same(a, rustix::fs::ftruncate(&t.plain, len), &what("ftruncate"))?;
            }
            _ => {}
        }
    }
    let a = sys::pread(&t.real, 20_000, 0)?;
    check(a == sys::pread(&t.plain, 20_000, 0)?, &what("data"))?;
    let (a, b) = (rustix::fs::fstat(&t.real)?, rustix::fs::fstat(&t.plain)?);
    let pick = |s: &rustix::fs::Stat| (s.st_size, s.st_mode, s.st_uid, s.st_nlink);
    // The link count of a lower file that is gone is not followed by
    // overlayfs, unless a copy was made.
    let gone = b.st_nlink == 0;
    if gone {
        return same(
            (a.st_size, a.st_mode),
            (b.st_size, b.st_mode),
            &what("fstat"),
        );
    }
    same(pick(&a), pick(&b), &what("fstat"))
}

fn run(ctx: &Ctx, seed: u64, layers: usize, steps: u32) -> Res {
    run_switched(ctx, seed, layers, steps, &[fstype()])
}

/// Every new mount is of the next of the types.
fn run_switched(ctx: &Ctx, seed: u64, layers: usize, steps: u32, types: &[String]) -> Res {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut u = Union::layers(ctx, layers)?;
    u.options.clear();
    for i in (0..layers).rev() {
        fill_layer(&mut rng, &u.lowers[i], &u.lowers[i + 1..])?;
    }
    fill_layer(&mut rng, &u.u(""), &u.lowers)?;
    let lower_before: Vec<Tree> = u.lowers.iter().map(|l| walk(l)).collect::<Res<_>>()?;
    let mut dirs = vec![u.u("")];
    dirs.extend(u.lowers.clone());
    let mut want = Tree::new();
    merge(&dirs, "", &mut want)?;
    u.mount()?;
    let plain = ctx.root.join("plain");
    sys::mkdir(&plain)?;
    rebuild(&want, &plain)?;
    compare(&u.mnt, &plain, "at the start")?;
    let mut twins: Vec<Twin> = Vec::new();
    let mut recent: Vec<String> = Vec::new();
    for step in 0..steps {
        let op = pick(&mut rng);
        let seen = apply(&u.mnt, &op);
        if let (Op::Rename(a, b, _), Err(Errno::XDEV)) = (&op, &seen) {
            // As overlayfs does with directories that have lower parts.
            let dirs = is_dir(&u.m(a)) || is_dir(&u.m(b));
            check(
                dirs,
                &format!("step {step}: EXDEV without a directory: {op:?}"),
            )?;
            continue;
        }
        let want = apply(&plain, &op);
        recent.push(format!("{op:?}").chars().take(60).collect());
        let fail = |e: Failure| {
            let last = &recent[recent.len().saturating_sub(6)..];
            Failure {
                skip: false,
                msg: format!(
                    "seed {seed} step {step}: {} after {}",
                    e.msg,
                    last.join("; ")
                ),
            }
        };
        let name = |r: &Sys<Vec<u8>>| match r {
            Ok(v) => format!("{} bytes", v.len()),
            Err(e) => errno_name(*e),
        };
        // rename(2) leaves it to the filesystem which of the two it says.
        let alike = |r: &Sys<Vec<u8>>| match r {
            Err(Errno::NOTEMPTY) => Err(Errno::EXIST),
            r => r.clone(),
        };
        if alike(&seen) != alike(&want) {
            let e = Failure::new(format!("expected {}, seen {}", name(&want), name(&seen)));
            return Err(fail(e));
        }
        if rng.next(6) == 0 && twins.len() < 6 {
            twins.extend(open_twins(&mut rng, &u.mnt, &plain));
        }
        if !twins.is_empty() {
            let i = rng.next(twins.len() as u64) as usize;
            use_twins(&mut rng, &twins[i]).map_err(fail)?;
            if rng.next(8) == 0 {
                twins.swap_remove(i);
            }
        }
        if step % 40 == 39 {
            compare(&u.mnt, &plain, "trees").map_err(fail)?;
        }
        if step % 50 == 49 {
            twins.clear();
            u.umount()?;
            u.fstype = types[(step / 50) as usize % types.len()].clone();
            u.mount()?;
            compare(&u.mnt, &plain, "trees after a new mount").map_err(fail)?;
        }
    }
    twins.clear();
    u.work_is_empty()?;
    for (l, before) in u.lowers.iter().zip(lower_before) {
        check(walk(l)? == before, &format!("{} has changed", l.display()))?;
    }
    let mut disk = Tree::new();
    merge(&dirs, "", &mut disk)?;
    u.umount()?;
    check(
        disk == walk(&plain)?,
        "the layers on disk do not say what was seen",
    )
}

/// Many threads at once: no result can be foretold, but what is seen at the
/// end must be what lies on the layers.
fn many_threads(ctx: &Ctx) -> Res {
    let mut rng = Rng(77);
    let u = Union::layers(ctx, 3)?;
    for i in (0..3).rev() {
        fill_layer(&mut rng, &u.lowers[i], &u.lowers[i + 1..])?;
    }
    let lower_before: Vec<Tree> = u.lowers.iter().map(|l| walk(l)).collect::<Res<_>>()?;
    u.mount()?;
    let hands: Vec<_> = (0..5u64)
        .map(|t| {
            let (m, tmp) = (u.mnt.clone(), ctx.tmp.clone());
            std::thread::spawn(move || -> Res {
                let mut rng = Rng(0x1234_5678_9abc + t * 7919);
                if t == 4 {
                    sys::drop_caches(&tmp)?;
                }
                for _ in 0..400 {
                    let op = pick(&mut rng);
                    let seen = apply(&m, &op);
                    if let Err(e @ (Errno::IO | Errno::BADF | Errno::NOMEM)) = seen {
                        let what = format!("{op:?}: seen {}", errno_name(e));
                        return Err(Failure::new(what.chars().take(120).collect()));
                    }
                }
                Ok(())
            })
        })
        .collect();
    for h in hands {
        match h.join() {
            Ok(r) => r?,
            Err(_) => return Err(Failure::new("a thread died".to_owned())),
        }
    }
    u.work_is_empty()?;
    let seen = walk(&u.mnt)?;
    u.again()?;
    check(walk(&u.mnt)? == seen, "a new mount shows another tree")?;
    let mut dirs = vec![u.u("")];
    dirs.extend(u.lowers.clone());
    let mut disk = Tree::new();
    merge(&dirs, "", &mut disk)?;
    check(disk == seen, "the layers on disk do not say what was seen")?;
    for (l, before) in u.lowers.iter().zip(lower_before) {
        check(walk(l)? == before, &format!("{} has changed", l.display()))?;
    }
    Ok(())
}

fn seed_1(ctx: &Ctx) -> Res {
    run(ctx, 1, 1, 400)
}

fn seed_2(ctx: &Ctx) -> Res {
    run(ctx, 2, 2, 400)
}

fn seed_3(ctx: &Ctx) -> Res {
    run(ctx, 3, 3, 400)
}

fn seed_4(ctx: &Ctx) -> Res {
    run(ctx, 4, 3, 300)
}

/// An upper that two drivers of the format work on in turn.
fn switched(ctx: &Ctx) -> Res {
    if is_overlayfs() {
        return Err(Failure::skip("needs a second type beside overlay"));
    }
    let known = || std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known().lines().any(|l| l.ends_with("\toverlay")) {
        let Some(dir) = std::env::var_os("MODDIR") else {
            return Err(Failure::skip("overlay.ko is not at hand"));
        };
        let ko = PathBuf::from(dir).join("kernel/overlay.ko");
        let done = std::process::Command::new("insmod").arg(&ko).status()?;
        check(done.success(), &format!("insmod {}", ko.display()))?;
    }
    let types = [fstype(), "overlay".to_owned()];
    for seed in 200..202 {
        let root = ctx.root.join(seed.to_string());
        sys::mkdir(&root)?;
        let own = Ctx {
            root,
            tmp: ctx.tmp.clone(),
            fs: ctx.fs,
        };
        run_switched(&own, seed, 2, 300, &types)?;
    }
    Ok(())
}

/// As many seeds as `MODEL_SEEDS` names, for long runs by hand.
fn more_seeds(ctx: &Ctx) -> Res {
    let n: u64 = std::env::var("MODEL_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    for seed in 100..100 + n {
        let root = ctx.root.join(seed.to_string());
        sys::mkdir(&root)?;
        let own = Ctx {
            root,
            tmp: ctx.tmp.clone(),
            fs: ctx.fs,
        };
        run(&own, seed, 1 + (seed % 4) as usize, 400)?;
    }
    Ok(())
}

tests! {
    Tmpfs: seed_1, seed_2, seed_3, more_seeds, many_threads, switched;
    Ext4: seed_4, many_threads, switched;
    Xfs: seed_2;
    Btrfs: seed_4;
}
