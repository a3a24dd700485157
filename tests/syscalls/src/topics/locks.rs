// SPDX-License-Identifier: GPL-2.0
//! Locks and leases: they live on the merged inode, not on a layer's.

use crate::harness::*;
use crate::sys::{self, Sys};
use crate::union::Union;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

fn filled(ctx: &Ctx) -> Res<Union> {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "0123456789")?;
    sys::write(&u.u("up"), "0123456789")?;
    u.mount()?;
    Ok(u)
}

pub(super) fn posix(fd: &OwnedFd, cmd: i32, kind: i32, start: i64, len: i64) -> Sys<libc::flock> {
    let mut l = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: `l` outlives the call.
    sys::ret(i64::from(unsafe {
        libc::fcntl(fd.as_raw_fd(), cmd, &mut l)
    }))?;
    Ok(l)
}

fn flock_excludes(ctx: &Ctx) -> Res {
    use FlockOperation::*;
    let u = filled(ctx)?;
    for n in ["low", "up"] {
        let a = sys::open(&u.m(n), OFlags::RDONLY)?;
        let b = sys::open(&u.m(n), OFlags::RDWR)?;
        rustix::fs::flock(&a, LockShared)?;
        rustix::fs::flock(&b, NonBlockingLockShared)?;
        fails(
            rustix::fs::flock(&a, NonBlockingLockExclusive),
            Errno::AGAIN,
            "upgrade",
        )?;
        rustix::fs::flock(&b, Unlock)?;
        rustix::fs::flock(&a, NonBlockingLockExclusive)?;
        fails(
            rustix::fs::flock(&b, NonBlockingLockShared),
            Errno::AGAIN,
            "a second lock",
        )?;
        drop(a);
        rustix::fs::flock(&b, NonBlockingLockShared)?;
    }
    Ok(())
}

fn flock_over_copy_up(ctx: &Ctx) -> Res {
    use FlockOperation::*;
    let u = filled(ctx)?;
    let a = sys::open(&u.m("low"), OFlags::RDONLY)?;
    rustix::fs::flock(&a, LockExclusive)?;
    let w = sys::open(&u.m("low"), OFlags::RDWR)?;
    rustix::io::pwrite(&w, b"x", 0)?;
    fails(
        rustix::fs::flock(&w, NonBlockingLockExclusive),
        Errno::AGAIN,
        "after the copy-up",
    )?;
    let l = sys::open(&u.l("low"), OFlags::RDONLY)?;
    works(
        rustix::fs::flock(&l, NonBlockingLockExclusive),
        "the lower inode is another one",
    )?;
    let up = sys::open(&u.u("low"), OFlags::RDONLY)?;
    works(
        rustix::fs::flock(&up, NonBlockingLockExclusive),
        "the upper inode is another one",
    )?;
    Ok(())
}

fn posix_ranges(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for n in ["low", "up"] {
        let a = sys::open(&u.m(n), OFlags::RDWR)?;
        posix(&a, libc::F_SETLK, libc::F_WRLCK, 2, 4)?;
        sys::in_child(|| {
            let b = sys::open(&u.m(n), OFlags::RDWR)?;
            posix(&b, libc::F_SETLK, libc::F_WRLCK, 0, 2)?;
            posix(&b, libc::F_SETLK, libc::F_WRLCK, 6, 0)?;
            let r = posix(&b, libc::F_SETLK, libc::F_RDLCK, 5, 1).map(|_| ());
            fails(r, Errno::AGAIN, "an overlapping lock")?;
            let l = posix(&b, libc::F_GETLK, libc::F_RDLCK, 0, 0)?;
            same((l.l_start, l.l_len), (2, 4), "the range in the way")?;
            same(
                l.l_pid,
                rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get()),
                "its owner",
            )
        })?;
        drop(sys::open(&u.m(n), OFlags::RDONLY)?);
        sys::in_child(|| {
            let b = sys::open(&u.m(n), OFlags::RDWR)?;
            works(
                posix(&b, libc::F_SETLK, libc::F_WRLCK, 0, 0),
                "closing any descriptor unlocks",
            )?;
            Ok(())
        })?;
    }
    Ok(())
}

fn posix_needs_access_mode(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let r = sys::open(&u.m("low"), OFlags::RDONLY)?;
    let e = posix(&r, libc::F_SETLK, libc::F_WRLCK, 0, 0).map(|_| ());
    fails(e, Errno::BADF, "a write lock on a read-only descriptor")?;
    let w = sys::open(&u.m("low"), OFlags::WRONLY)?;
    let e = posix(&w, libc::F_SETLK, libc::F_RDLCK, 0, 0).map(|_| ());
    fails(e, Errno::BADF, "a read lock on a write-only descriptor")
}

fn posix_over_copy_up(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let r = sys::open(&u.m("low"), OFlags::RDONLY)?;
    posix(&r, libc::F_SETLK, libc::F_RDLCK, 0, 0)?;
    sys::in_child(|| {
        let b = sys::open(&u.m("low"), OFlags::RDWR)?;
        rustix::io::pwrite(&b, b"x", 0)?;
        let e = posix(&b, libc::F_SETLK, libc::F_WRLCK, 0, 0).map(|_| ());
        fails(e, Errno::AGAIN, "the lock from before the copy-up")
    })
}

fn ofd_locks(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for n in ["low", "up"] {
        let a = sys::open(&u.m(n), OFlags::RDWR)?;
        let b = sys::open(&u.m(n), OFlags::RDWR)?;
        posix(&a, libc::F_OFD_SETLK, libc::F_WRLCK, 0, 5)?;
        let r = posix(&b, libc::F_OFD_SETLK, libc::F_WRLCK, 4, 5).map(|_| ());
        fails(
            r,
            Errno::AGAIN,
            "an overlapping lock of another description",
        )?;
        let l = posix(&b, libc::F_OFD_GETLK, libc::F_WRLCK, 0, 0)?;
        same(
            (l.l_start, l.l_len, l.l_pid),
            (0, 5, -1),
            "what F_OFD_GETLK tells",
        )?;
        let dup = rustix::io::dup(&a)?;
        drop(a);
        let r = posix(&b, libc::F_OFD_SETLK, libc::F_WRLCK, 0, 1).map(|_| ());
        fails(r, Errno::AGAIN, "held by the duplicate")?;
        drop(dup);
        posix(&b, libc::F_OFD_SETLK, libc::F_WRLCK, 0, 1)?;
    }
    Ok(())
}

fn blocking_lock_is_handed_over(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let a = sys::open(&u.m("low"), OFlags::RDWR)?;
    posix(&a, libc::F_OFD_SETLK, libc::F_WRLCK, 0, 0)?;
    let path = u.m("low");
    let t = std::thread::spawn(move || -> Sys<()> {
        let b = sys::open(&path, OFlags::RDWR)?;
        posix(&b, libc::F_OFD_SETLKW, libc::F_WRLCK, 0, 0).map(|_| ())
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    check(!t.is_finished(), "the second lock did not wait")?;
    posix(&a, libc::F_OFD_SETLK, libc::F_UNLCK, 0, 0)?;
    match t.join() {
        Ok(r) => Ok(r?),
        Err(_) => Err(Failure::new("the waiting thread died".to_owned())),
    }
}

fn shown_in_proc_locks(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let a = sys::open(&u.m("low"), OFlags::RDWR)?;
    rustix::fs::flock(&a, FlockOperation::LockExclusive)?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", a.as_raw_fd()))?;
    check(
        info.lines()
            .any(|l| l.starts_with("lock:") && l.contains("FLOCK")),
        &format!("fdinfo shows the lock, seen {info}"),
    )
}

pub(super) fn lease(fd: &OwnedFd, kind: i32) -> Sys<i64> {
    // SAFETY: no memory is involved.
    sys::ret(i64::from(unsafe {
        libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind)
    }))
}

fn get_lease(fd: &OwnedFd) -> Sys<i64> {
    // SAFETY: no memory is involved.
    sys::ret(i64::from(unsafe {
        libc::fcntl(fd.as_raw_fd(), libc::F_GETLEASE)
    }))
}

fn leases(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for n in ["low", "up"] {
        let r = sys::open(&u.m(n), OFlags::RDONLY)?;
        works(lease(&r, libc::F_RDLCK), &format!("a read lease on {n}"))?;
        same(get_lease(&r)?, i64::from(libc::F_RDLCK), "F_GETLEASE")?;
        works(lease(&r, libc::F_UNLCK), "giving it back")?;
        same(get_lease(&r)?, i64::from(libc::F_UNLCK), "F_GETLEASE")?;
        let w = sys::open(&u.m(n), OFlags::RDWR)?;
        fails(
            lease(&r, libc::F_RDLCK),
            Errno::AGAIN,
            "a read lease beside a writer",
        )?;
        drop(w);
    }
    Ok(())
}

fn lease_is_broken_by_open(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for n in ["low", "up"] {
        let r = sys::open(&u.m(n), OFlags::RDONLY)?;
        sys::block_signal(libc::SIGIO)?;
        lease(&r, libc::F_RDLCK)?;
        let e = sys::open(&u.m(n), OFlags::WRONLY | OFlags::NONBLOCK).map(|_| ());
        fails(
            e,
            Errno::AGAIN,
            &format!("opening {n} for writing under a read lease"),
        )?;
        // SAFETY: the signal is blocked.
        let sig = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGIO);
            let ts = libc::timespec {
                tv_sec: 5,
                tv_nsec: 0,
            };
            libc::sigtimedwait(&set, std::ptr::null_mut(), &ts)
        };
        same(sig, libc::SIGIO, "the holder is told")?;
        lease(&r, libc::F_UNLCK)?;
        works(
            sys::open(&u.m(n), OFlags::WRONLY | OFlags::NONBLOCK),
            "open afterwards",
        )?;
    }
    Ok(())
}

tests! {
    Tmpfs: flock_excludes, flock_over_copy_up, posix_ranges, posix_needs_access_mode,
        posix_over_copy_up, ofd_locks, blocking_lock_is_handed_over, shown_in_proc_locks, leases,
        lease_is_broken_by_open;
}
