// SPDX-License-Identifier: GPL-2.0
//! Thin helpers over system calls.

use crate::harness::{Failure, Res};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, Statx, StatxFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub type Sys<T> = Result<T, Errno>;

pub fn fork() -> Sys<i32> {
    // SAFETY: the harness forks single-threaded; a test that has threads of
    // its own joins them before.
    ret(i64::from(unsafe { libc::fork() })).map(|p| p as i32)
}

pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process, no destructor is to run in a forked child.
    unsafe { libc::_exit(code) }
}

pub fn ret(r: i64) -> Sys<i64> {
    if r < 0 {
        Err(last())
    } else {
        Ok(r)
    }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

pub fn cstr(p: &Path) -> CString {
    CString::new(p.as_os_str().as_bytes()).unwrap_or_default()
}

pub fn wait_for(pid: i32, max: Duration) -> Option<i32> {
    let end = Instant::now() + max;
    loop {
        let mut st = 0;
        // SAFETY: `st` outlives the call.
        let r = unsafe { libc::waitpid(pid, &mut st, libc::WNOHANG) };
        if r == pid {
            return Some(st);
        }
        if r < 0 || Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until thread `tid` of this process sleeps.
pub fn wait_until_asleep(tid: rustix::thread::Pid) -> Sys<()> {
    let stat = format!("/proc/self/task/{}/stat", tid.as_raw_nonzero());
    for _ in 0..5000 {
        let stat = std::fs::read_to_string(&stat).unwrap_or_default();
        if stat.rsplit(')').next().is_some_and(|s| s.starts_with(" S")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(Errno::TIMEDOUT)
}

pub fn kill_group(pid: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

pub fn private_mounts() -> Sys<()> {
    // SAFETY: single-threaded here, so nobody shares the namespace.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
}

pub fn mount_tmpfs(dir: &Path, opts: &str) -> Sys<()> {
    let opts = CString::new(opts).unwrap_or_default();
    rustix::mount::mount("tmpfs", dir, "tmpfs", MountFlags::empty(), opts.as_c_str())
}

pub fn is_mount_point(dir: &Path) -> bool {
    let flag = rustix::fs::StatxAttributes::MOUNT_ROOT;
    rustix::fs::statx(
        CWD,
        dir,
        rustix::fs::AtFlags::empty(),
        StatxFlags::BASIC_STATS,
    )
    .is_ok_and(|s| s.stx_attributes.contains(flag))
}

const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config`, of which only these parts are used.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: [u64; 29],
    reserved: [u64; 8],
}

/// Mounts an image on a loop device that goes away with the mount.
pub fn mount_image(image: &Path, fstype: &str, dir: &Path) -> Res {
    let file = rustix::fs::open(image, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for _ in 0..20 {
        let ctl = rustix::fs::open("/dev/loop-control", OFlags::RDWR, Mode::empty())?;
        // SAFETY: the ioctl takes no argument.
        let n = ret(i64::from(unsafe {
            libc::ioctl(ctl.as_raw_fd(), LOOP_CTL_GET_FREE)
        }))?;
        let dev = format!("/dev/loop{n}");
        if !Path::new(&dev).exists() {
            rustix::fs::mknodat(
                CWD,
                &dev,
                rustix::fs::FileType::BlockDevice,
                Mode::from_bits_retain(0o600),
                rustix::fs::makedev(7, n as u32),
            )?;
        }
        let lo = rustix::fs::open(&dev, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let mut conf = LoopConfig {
            fd: file.as_raw_fd() as u32,
            block_size: 0,
            info: [0; 29],
            reserved: [0; 8],
        };
        // loop_info64.lo_flags lies 52 bytes in.
        conf.info[6] = u64::from(LO_FLAGS_AUTOCLEAR) << 32;
        // SAFETY: `conf` has the size of the kernel's structure.
        let r = ret(i64::from(unsafe {
            libc::ioctl(lo.as_raw_fd(), LOOP_CONFIGURE, &conf)
        }));
        match r {
            Ok(_) => {
                // A kernel may refuse to mount a device that is open for
                // writing; without any descriptor it would be cleared.
                let _keep = rustix::fs::open(&dev, OFlags::RDONLY, Mode::empty())?;
                drop(lo);
                rustix::mount::mount(dev.as_str(), dir, fstype, MountFlags::empty(), None)
                    .map_err(|e| Failure::new(format!("mount of {fstype}: {e}")))?;
                return Ok(());
            }
            Err(Errno::BUSY) => continue,
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failure::new("no free loop device".to_owned()))
}

/// Runs `f` in a child process and hands its failure back.
pub fn in_child(f: impl FnOnce() -> Res) -> Res {
    let (rd, wr) = rustix::pipe::pipe()?;
    let pid = fork()?;
    if pid == 0 {
        drop(rd);
        let msg = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
            Ok(Ok(())) => "P".to_owned(),
            Ok(Err(e)) => format!("{}{}", if e.skip { 'S' } else { 'F' }, e.msg),
            Err(_) => "Fpanic in a child process".to_owned(),
        };
        let _ = rustix::io::write(&wr, msg.as_bytes());
        exit_now(0);
    }
    drop(wr);
    let mut said = Vec::new();
    let mut buf = [0u8; 1024];
    loop {
        match rustix::io::read(&rd, &mut buf) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&buf[..n]),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let st = wait(pid)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    match said.as_bytes().first() {
        Some(b'P') => Ok(()),
        Some(b'S') => Err(Failure::skip(&said[1..])),
        Some(_) => Err(Failure {
            skip: false,
            msg: said[1..].to_owned(),
        }),
        None => Err(Failure::new(format!(
            "a child process died, wait status {st:#x}"
        ))),
    }
}

/// Leaves `signal` pending.
pub fn block_signal(signal: i32) -> Sys<()> {
    // SAFETY: the set is initialised and outlives the call.
    ret(i64::from(unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
    }))
    .map(drop)
}

/// From now on a signal interrupts this process every other millisecond.
pub fn signal_storm() -> Sys<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing; without SA_RESTART it interrupts every
    // call that can be interrupted.
    unsafe {
        let mut act: libc::sigaction = std::mem::zeroed();
        act.sa_sigaction = nothing as *const () as usize;
        let none = std::ptr::null_mut();
        ret(i64::from(libc::sigaction(libc::SIGALRM, &act, none)))?;
        let often = libc::timeval {
            tv_sec: 0,
            tv_usec: 2000,
        };
        let timer = libc::itimerval {
            it_interval: often,
            it_value: often,
        };
        let none = std::ptr::null_mut();
        ret(i64::from(libc::setitimer(libc::ITIMER_REAL, &timer, none)))?;
    }
    Ok(())
}

/// Waits for a child; its wait status.
pub fn wait(pid: i32) -> Sys<i32> {
    let mut st = 0;
    loop {
        // SAFETY: `st` outlives the call.
        match ret(i64::from(unsafe { libc::waitpid(pid, &mut st, 0) })) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
            Ok(_) => return Ok(st),
        }
    }
}

/// Runs `f` as another user, without capabilities.
pub fn as_user(uid: u32, gid: u32, groups: &[u32], f: impl FnOnce() -> Res) -> Res {
    in_child(|| {
        // SAFETY: the slice outlives the call; the process is single-threaded.
        unsafe {
            ret(i64::from(libc::setgroups(groups.len(), groups.as_ptr())))?;
            ret(i64::from(libc::setresgid(gid, gid, gid)))?;
            ret(i64::from(libc::setresuid(uid, uid, uid)))?;
        }
        f()
    })
}

/// Writes the whole of `text` to an existing file such as one of /proc.
pub fn put(path: &str, text: &str) -> Res {
    let fd = rustix::fs::open(path, OFlags::WRONLY, Mode::empty())?;
    rustix::io::write(&fd, text.as_bytes())?;
    Ok(())
}

pub fn open(p: &Path, flags: OFlags) -> Sys<OwnedFd> {
    rustix::fs::open(p, flags | OFlags::CLOEXEC, Mode::from_bits_retain(0o644))
}

pub fn open_mode(p: &Path, flags: OFlags, mode: u32) -> Sys<OwnedFd> {
    rustix::fs::open(p, flags | OFlags::CLOEXEC, Mode::from_bits_retain(mode))
}

pub fn stx(p: &Path) -> Sys<Statx> {
    rustix::fs::statx(
        CWD,
        p,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
}

pub fn exists(p: &Path) -> bool {
    stx(p).is_ok()
}

pub fn mode(p: &Path) -> Sys<u32> {
    Ok(u32::from(stx(p)?.stx_mode) & 0o7777)
}

pub fn chmod(p: &Path, mode: u32) -> Sys<()> {
    rustix::fs::chmod(p, Mode::from_bits_retain(mode))
}

pub fn chown(p: &Path, uid: u32, gid: u32) -> Sys<()> {
    rustix::fs::chownat(
        CWD,
        p,
        Some(rustix::fs::Uid::from_raw(uid)),
        Some(rustix::fs::Gid::from_raw(gid)),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
}

pub fn write(p: &Path, data: impl AsRef<[u8]>) -> Sys<()> {
    std::fs::write(p, data).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

pub fn read(p: &Path) -> Sys<Vec<u8>> {
    std::fs::read(p).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

pub fn pread(fd: &OwnedFd, len: usize, at: u64) -> Sys<Vec<u8>> {
    let mut buf = vec![0u8; len];
    let n = rustix::io::pread(fd, &mut buf, at)?;
    buf.truncate(n);
    Ok(buf)
}

/// Freezes the filesystem that `fd` is on.
pub fn freeze(fd: &OwnedFd) -> Sys<()> {
    const FIFREEZE: libc::c_ulong = 0xc004_5877;
    // SAFETY: the ioctl takes no memory.
    ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), FIFREEZE, 0)
    }))
    .map(drop)
}

/// Ends what [`freeze`] did.
pub fn thaw(fd: &OwnedFd) -> Sys<()> {
    const FITHAW: libc::c_ulong = 0xc004_5878;
    // SAFETY: the ioctl takes no memory.
    ret(i64::from(unsafe { libc::ioctl(fd.as_raw_fd(), FITHAW, 0) })).map(drop)
}

pub fn mkdir(p: &Path) -> Sys<()> {
    rustix::fs::mkdir(p, Mode::from_bits_retain(0o755))
}

pub fn rename(a: &Path, b: &Path, flags: rustix::fs::RenameFlags) -> Sys<()> {
    rustix::fs::renameat_with(CWD, a, CWD, b, flags)
}

pub fn mknod(p: &Path, kind: rustix::fs::FileType, mode: u32, dev: u64) -> Sys<()> {
    rustix::fs::mknodat(CWD, p, kind, Mode::from_bits_retain(mode), dev)
}

/// Makes a whiteout on a layer.
pub fn whiteout(p: &Path) -> Sys<()> {
    mknod(p, rustix::fs::FileType::CharacterDevice, 0, 0)
}

pub fn is_whiteout(p: &Path) -> bool {
    stx(p).is_ok_and(|s| {
        u32::from(s.stx_mode) & libc::S_IFMT == libc::S_IFCHR
            && s.stx_rdev_major == 0
            && s.stx_rdev_minor == 0
    })
}

pub fn setx(p: &Path, name: &str, value: &[u8]) -> Sys<()> {
    rustix::fs::lsetxattr(p, name, value, rustix::fs::XattrFlags::empty())
}

pub fn getx(p: &Path, name: &str) -> Sys<Vec<u8>> {
    let mut buf = vec![0u8; 65536];
    let n = rustix::fs::lgetxattr(p, name, &mut buf[..])?;
    buf.truncate(n);
    Ok(buf)
}

/// The names of all xattrs, sorted.
pub fn listx(p: &Path) -> Sys<Vec<String>> {
    let mut buf = vec![0u8; 65536];
    let n = rustix::fs::llistxattr(p, &mut buf[..])?;
    let mut names: Vec<String> = buf[..n]
        .split(|b| *b == 0)
        .filter(|s| !s.is_empty())
        .map(|s| String::from_utf8_lossy(s).into_owned())
        .collect();
    names.sort();
    Ok(names)
}

pub fn set_opaque(dir: &Path) -> Sys<()> {
    setx(dir, "trusted.overlay.opaque", b"y")
}

/// Makes the kernel give up what it caches; `dir` is an empty folder.
pub fn drop_caches(dir: &Path) -> Res {
    rustix::fs::sync();
    let file = "/proc/sys/vm/drop_caches";
    if Path::new(file).exists() {
        return put(file, "3");
    }
    // A kernel without sysctls: reclaim through the root control group.
    let at = dir.join("cgroup");
    mkdir(&at)?;
    rustix::mount::mount("cgroup2", &at, "cgroup2", MountFlags::empty(), None)?;
    let fd = open(&at.join("memory.reclaim"), OFlags::WRONLY)?;
    match rustix::io::write(&fd, b"512M") {
        // It could not find that much.
        Ok(_) | Err(Errno::AGAIN) => {}
        Err(e) => return Err(e.into()),
    }
    drop(fd);
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH)?;
    Ok(std::fs::remove_dir(&at)?)
}

/// Reads an O_PATH-safe link such as /proc/self/fd/N.
pub fn fd_path(fd: BorrowedFd<'_>) -> Res<String> {
    let p = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(p.to_string_lossy().into_owned())
}

/// The sorted names of a folder, without `.` and `..`.
pub fn names(p: &Path) -> Res<Vec<String>> {
    let mut v = Vec::new();
    for e in std::fs::read_dir(p)? {
        v.push(e?.file_name().to_string_lossy().into_owned());
    }
    v.sort();
    Ok(v)
}

pub fn raw_fd(fd: i64) -> OwnedFd {
    // SAFETY: the caller has it from a system call that made it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// What has been said in the log of a mount context.
pub fn context_log(fs: &OwnedFd) -> String {
    let mut out = String::new();
    let mut buf = [0u8; 4096];
    while let Ok(n) = rustix::io::read(fs, &mut buf) {
        if n == 0 {
            break;
        }
        out.push_str(&String::from_utf8_lossy(&buf[..n]));
        out.push('\n');
    }
    out
}

pub fn cs(s: &str) -> CString {
    CString::new(s).unwrap_or_default()
}

pub fn as_c(s: &CString) -> &CStr {
    s.as_c_str()
}
