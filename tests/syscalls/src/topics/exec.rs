// SPDX-License-Identifier: GPL-2.0
//! Programs that live in the mount.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// This very program serves as the one to be run: it is static.
fn install(to: &Path) -> Res {
    std::fs::copy("/proc/self/exe", to)?;
    Ok(sys::chmod(to, 0o755)?)
}

fn runs(p: &Path) -> Res {
    // Not /dev/null, which a chroot lacks.
    let out = Command::new(p)
        .arg("--list")
        .stdin(Stdio::piped())
        .output()?;
    check(
        out.status.success(),
        &format!("it ends with {}", out.status),
    )?;
    check(!out.stdout.is_empty(), "it prints nothing")
}

/// A program that waits on its standard input.
fn waiting(p: &Path) -> Res<Child> {
    let mut c = Command::new(p)
        .arg("--wait")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // The start of it returns before the program is mapped.
    let mut word = [0u8; 5];
    if let Some(out) = &mut c.stdout {
        out.read_exact(&mut word)?;
    }
    same(&word, b"ready", "what the program says first")?;
    Ok(c)
}

fn stop(mut c: Child) -> Res {
    c.kill()?;
    c.wait()?;
    Ok(())
}

fn from_each_layer(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.l("low"))?;
    install(&u.u("up"))?;
    install(&u.l("copied"))?;
    u.mount()?;
    sys::chmod(&u.m("copied"), 0o700)?;
    install(&u.m("new"))?;
    for n in ["low", "up", "copied", "new"] {
        runs(&u.m(n))?;
    }
    check(!sys::exists(&u.u("low")), "running a file copied it up")
}

fn proc_shows_the_mount(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.l("low"))?;
    u.mount()?;
    let c = waiting(&u.m("low"))?;
    let want = u.m("low").display().to_string();
    let exe = std::fs::read_link(format!("/proc/{}/exe", c.id()))?;
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", c.id()))?;
    stop(c)?;
    same(exe.display().to_string(), want.clone(), "/proc/PID/exe")?;
    check(
        maps.lines().any(|l| l.ends_with(&want)),
        "/proc/PID/maps names the program",
    )
}

fn text_busy(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.u("up"))?;
    u.mount()?;
    let c = waiting(&u.m("up"))?;
    let r = sys::open(&u.m("up"), OFlags::WRONLY).map(|_| ());
    let t = {
        let p = sys::cstr(&u.m("up"));
        // SAFETY: the path outlives the call.
        sys::ret(i64::from(unsafe { libc::truncate(p.as_ptr(), 10) }))
    };
    stop(c)?;
    fails(r, Errno::TXTBSY, "open for writing of a running program")?;
    fails(t, Errno::TXTBSY, "truncate of a running program")?;
    works(
        sys::open(&u.m("up"), OFlags::WRONLY),
        "open when it has ended",
    )?;
    Ok(())
}

fn running_an_open_file(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.l("low"))?;
    u.mount()?;
    let w = sys::open(&u.m("low"), OFlags::RDWR)?;
    rustix::io::pwrite(&w, b"\x7f", 0)?;
    match Command::new(u.m("low")).arg("--list").output() {
        Err(e) => same(
            e.errno(),
            Errno::TXTBSY,
            "running a file that is open for writing",
        )?,
        Ok(_) => return Err(Failure::new("a file open for writing was run".to_owned())),
    }
    drop(w);
    runs(&u.m("low"))
}

fn replaced_while_running(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.l("prog"))?;
    u.mount()?;
    let c = waiting(&u.m("prog"))?;
    std::fs::remove_file(u.m("prog"))?;
    install(&u.m("prog"))?;
    runs(&u.m("prog"))?;
    let exe = std::fs::read_link(format!("/proc/{}/exe", c.id()))?;
    stop(c)?;
    same(
        exe.display().to_string(),
        format!("{} (deleted)", u.m("prog").display()),
        "/proc/PID/exe of the old program",
    )
}

fn mode_decides(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.l("prog"))?;
    sys::chmod(&u.l("prog"), 0o644)?;
    u.mount()?;
    let r = Command::new(u.m("prog")).output().map(|_| ());
    fails(r, Errno::ACCESS, "running a file without x")?;
    sys::chmod(&u.m("prog"), 0o755)?;
    runs(&u.m("prog"))
}

fn noexec(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    install(&u.l("prog"))?;
    u.flags = MountFlags::NOEXEC;
    u.mount()?;
    let r = Command::new(u.m("prog")).output().map(|_| ());
    fails(r, Errno::ACCESS, "on a noexec mount")
}

/// The effective user of a set-uid program run by another user.
fn euid_of(p: &Path) -> Res<String> {
    let mut c = Command::new(p);
    let out = c.arg("--euid").uid(1000).gid(1000).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn set_uid(ctx: &Ctx) -> Res {
    let mut u = Union::new(ctx)?;
    install(&u.l("low"))?;
    install(&u.u("up"))?;
    for p in [u.l("low"), u.u("up")] {
        sys::chown(&p, 1234, 1234)?;
        sys::chmod(&p, 0o4755)?;
    }
    u.mount()?;
    for n in ["low", "up"] {
        same(euid_of(&u.m(n))?.as_str(), "1234", &format!("set-uid {n}"))?;
    }
    u.umount()?;
    u.flags = MountFlags::NOSUID;
    u.mount()?;
    same(euid_of(&u.m("low"))?.as_str(), "1000", "on a nosuid mount")
}

fn script(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.l("prog"))?;
    u.mount()?;
    sys::write(
        &u.m("script"),
        format!("#!{} --list\n", u.m("prog").display()),
    )?;
    sys::chmod(&u.m("script"), 0o755)?;
    runs(&u.m("script"))
}

fn execveat_of_a_descriptor(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    install(&u.l("prog"))?;
    u.mount()?;
    let fd = sys::open(&u.m("prog"), OFlags::PATH)?;
    let pid = sys::fork()?;
    if pid == 0 {
        use std::os::fd::AsRawFd;
        let null = rustix::fs::open("/dev/null", OFlags::WRONLY, rustix::fs::Mode::empty());
        if let Ok(n) = null {
            // SAFETY: standard output of a child that is about to exec.
            unsafe { libc::dup2(n.as_raw_fd(), 1) };
        }
        let argv = [c"prog".as_ptr(), c"--list".as_ptr(), std::ptr::null()];
        let envp = [std::ptr::null::<libc::c_char>()];
        // SAFETY: all strings outlive the call.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                fd.as_raw_fd(),
                c"".as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        sys::exit_now(99);
    }
    same(sys::wait(pid)?, 0, "wait status")
}

fn chroot_into_the_mount(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("bin"))?;
    install(&u.l("bin/prog"))?;
    u.mount()?;
    sys::in_child(|| {
        rustix::process::chroot(&u.mnt)?;
        std::env::set_current_dir("/")?;
        runs(Path::new("/bin/prog"))?;
        sys::write(Path::new("/made"), "inside")?;
        same(std::env::current_dir()?, Path::new("/"), "getcwd")
    })?;
    same(
        sys::read(&u.u("made"))?,
        b"inside",
        "made inside the chroot",
    )
}

fn pivot_root_into_the_mount(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::mkdir(&u.l("old"))?;
    install(&u.l("prog"))?;
    u.mount()?;
    sys::in_child(|| {
        sys::private_mounts()?;
        rustix::process::pivot_root(&u.mnt, u.m("old"))?;
        std::env::set_current_dir("/")?;
        runs(Path::new("/prog"))?;
        sys::write(Path::new("/made"), "inside")?;
        rustix::mount::unmount("/old", rustix::mount::UnmountFlags::DETACH)?;
        same(
            sys::names(Path::new("/"))?,
            ["made", "old", "prog"],
            "names in the new root",
        )
    })
}

tests! {
    Tmpfs: from_each_layer, proc_shows_the_mount, text_busy, running_an_open_file,
        replaced_while_running, mode_decides, noexec, set_uid, script, execveat_of_a_descriptor,
        chroot_into_the_mount, pivot_root_into_the_mount;
    Ext4: from_each_layer, text_busy, replaced_while_running;
    Btrfs: from_each_layer;
}
