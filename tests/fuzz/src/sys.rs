// SPDX-License-Identifier: GPL-2.0
//! System calls that rustix lacks, and small helpers over the others.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CStr;

pub type Sys<T> = Result<T, Errno>;

/// The result of a libc call.
pub fn ret(r: i64) -> Sys<i64> {
    if r < 0 {
        let e = std::io::Error::last_os_error();
        Err(Errno::from_io_error(&e).unwrap_or(Errno::IO))
    } else {
        Ok(r)
    }
}

/// An errno by its name.
pub fn name(e: Errno) -> &'static str {
    macro_rules! names {
        ($($n:ident $s:literal)*) => { match e { $(Errno::$n => $s,)* _ => "E?" } };
    }
    names! { PERM "EPERM" NOENT "ENOENT" INTR "EINTR" IO "EIO" NXIO "ENXIO" BADF "EBADF" AGAIN "EAGAIN"
    NOMEM "ENOMEM" ACCESS "EACCES" FAULT "EFAULT" NOTBLK "ENOTBLK" BUSY "EBUSY" EXIST "EEXIST"
    XDEV "EXDEV" NODEV "ENODEV" NOTDIR "ENOTDIR" ISDIR "EISDIR" INVAL "EINVAL" MFILE "EMFILE"
    NOTTY "ENOTTY" TXTBSY "ETXTBSY" FBIG "EFBIG" NOSPC "ENOSPC" SPIPE "ESPIPE" ROFS "EROFS"
    MLINK "EMLINK" PIPE "EPIPE" RANGE "ERANGE" NAMETOOLONG "ENAMETOOLONG" NOSYS "ENOSYS"
    NOTEMPTY "ENOTEMPTY" LOOP "ELOOP" NODATA "ENODATA" OVERFLOW "EOVERFLOW" OPNOTSUPP "EOPNOTSUPP"
    STALE "ESTALE" DQUOT "EDQUOT" REMOTE "EREMOTE" TIMEDOUT "ETIMEDOUT" CONNREFUSED "ECONNREFUSED"
    UCLEAN "EUCLEAN" NOTCONN "ENOTCONN" }
}

pub fn truncate(path: &CStr, size: u64) -> Sys<()> {
    // SAFETY: the string outlives the call.
    ret(i64::from(unsafe {
        libc::truncate(path.as_ptr(), size as i64)
    }))
    .map(drop)
}

/// An ioctl on an integer or a structure.
pub fn ioctl<T>(fd: BorrowedFd<'_>, request: u64, arg: &mut T) -> Sys<i64> {
    // SAFETY: the callers give each request the structure that it wants.
    ret(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(arg))
    }))
}

pub const GETFLAGS: u64 = 0x8008_6601;
pub const SETFLAGS: u64 = 0x4008_6602;
/// `FICLONERANGE`, `FIDEDUPERANGE`.
pub const CLONERANGE: u64 = 0x4020_940d;
pub const DEDUPERANGE: u64 = 0xc018_9436;

#[repr(C)]
pub struct CloneRange {
    pub fd: i64,
    pub offset: u64,
    pub len: u64,
    pub to: u64,
}

/// `struct file_dedupe_range` with one destination.
#[repr(C)]
#[derive(Default)]
pub struct DedupeRange {
    pub offset: u64,
    pub len: u64,
    pub count: u16,
    pub reserved1: u16,
    pub reserved2: u32,
    pub fd: i64,
    pub to: u64,
    pub deduped: u64,
    pub status: i32,
    pub reserved: u32,
}

/// `FS_IOC_ENABLE_VERITY`, `FS_IOC_MEASURE_VERITY`.
const ENABLE_VERITY: u64 = 0x4080_6685;
const MEASURE_VERITY: u64 = 0xc004_6686;

/// Has fs-verity guard the data of a file, with SHA-256.
pub fn guard(file: BorrowedFd<'_>) -> Sys<()> {
    // struct fsverity_enable_arg: version, algorithm, size of a block; no salt, no signature.
    let mut arg = [0u32; 32];
    arg[..3].copy_from_slice(&[1, 1, 4096]);
    ioctl(file, ENABLE_VERITY, &mut arg).map(drop)
}

/// The mark of a file whose data is that of `file`, which is guarded.
pub fn digest_mark(file: BorrowedFd<'_>) -> Sys<Vec<u8>> {
    // struct fsverity_digest: algorithm, room for the digest, the digest.
    let mut digest = [0u16; 34];
    digest[1] = 64;
    ioctl(file, MEASURE_VERITY, &mut digest)?;
    let len = usize::from(digest[1]);
    let mut mark = vec![0, 4 + digest[1] as u8, 0, digest[0] as u8];
    mark.extend(
        digest[2..]
            .iter()
            .flat_map(|two| two.to_ne_bytes())
            .take(len),
    );
    Ok(mark)
}

/// A lock of the open file description. `test` only asks: the kind of a lock in the way.
pub fn ofd_lock(fd: BorrowedFd<'_>, kind: i16, start: i64, len: i64, test: bool) -> Sys<i64> {
    // SAFETY: all zeros is a value of the structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_start, lock.l_len) = (kind, 0, start, len);
    let command = if test {
        libc::F_OFD_GETLK
    } else {
        libc::F_OFD_SETLK
    };
    // SAFETY: the structure outlives the call.
    ret(i64::from(unsafe {
        libc::fcntl(fd.as_raw_fd(), command, &mut lock)
    }))?;
    Ok(if test { i64::from(lock.l_type) } else { 0 })
}

/// Writes the whole of `text` to an existing file such as one of /proc.
pub fn put(path: &str, text: &str) -> Sys<()> {
    let fd = rustix::fs::open(path, rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())?;
    rustix::io::write(&fd, text.as_bytes()).map(drop)
}

/// `struct file_handle` with room for the largest.
#[repr(C)]
pub struct Handle {
    pub bytes: u32,
    pub kind: i32,
    pub data: [u8; libc::MAX_HANDLE_SZ as usize],
}

/// `name_to_handle_at`.
pub fn handle(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Sys<Handle> {
    let mut handle = Handle {
        bytes: libc::MAX_HANDLE_SZ as u32,
        kind: 0,
        data: [0; libc::MAX_HANDLE_SZ as usize],
    };
    let mut mount = 0i32;
    // SAFETY: the buffers outlive the call and have the size that `bytes` says.
    ret(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            path.as_ptr(),
            &mut handle,
            &mut mount,
            flags,
        )
    })?;
    Ok(handle)
}

/// `open_by_handle_at`, for a file of the filesystem that `mount` is of.
pub fn open_handle(mount: BorrowedFd<'_>, handle: &Handle, flags: u32) -> Sys<OwnedFd> {
    // SAFETY: the handle outlives the call and has the size that `bytes` says.
    let fd = ret(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            std::ptr::from_ref(handle),
            flags,
        )
    })?;
    // SAFETY: the call made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Becomes another user for the following system calls, or root again.
pub fn become_user(who: u8) -> Sys<()> {
    let id = if who == 0 { 0 } else { 1000 + u32::from(who) };
    let keep = u32::MAX;
    // SAFETY: no memory is involved; the raw calls change this thread alone.
    unsafe {
        if who == 0 {
            ret(libc::syscall(libc::SYS_setresuid, keep, 0, keep))?;
            ret(libc::syscall(libc::SYS_setresgid, keep, 0, keep))?;
        } else {
            ret(libc::syscall(libc::SYS_setresgid, keep, id, keep))?;
            ret(libc::syscall(libc::SYS_setresuid, keep, id, keep))?;
        }
    }
    Ok(())
}

/// What a pipe holds.
const PIPE: usize = 65536;

/// A mapping of `len` bytes of a file, unmapped when dropped.
pub struct Map {
    at: *mut u8,
    len: usize,
}

impl Map {
    pub fn new(fd: &OwnedFd, offset: u64, len: usize, write: bool, private: bool) -> Sys<Self> {
        use rustix::mm::{mmap, MapFlags, ProtFlags};
        let prot = if write {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        let flags = if private {
            MapFlags::PRIVATE
        } else {
            MapFlags::SHARED
        };
        // SAFETY: the kernel chooses the place.
        let at = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, fd, offset) }?;
        Ok(Self { at: at.cast(), len })
    }

    /// Memory that is shared with children.
    pub fn shared(len: usize) -> Sys<Self> {
        use rustix::mm::{mmap_anonymous, MapFlags, ProtFlags};
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::SHARED) }?;
        Ok(Self { at: at.cast(), len })
    }

    pub fn set(&self, i: usize, byte: u8) {
        assert!(i < self.len);
        // SAFETY: inside the mapping.
        unsafe { self.at.add(i).write_volatile(byte) };
    }

    pub fn get(&self, i: usize) -> u8 {
        assert!(i < self.len);
        // SAFETY: inside the mapping.
        unsafe { self.at.add(i).read_volatile() }
    }

    /// Reads by way of a pipe: beyond the end of the file that is an error and no SIGBUS.
    pub fn load(&self, start: usize, len: usize) -> Sys<Vec<u8>> {
        assert!(start + len <= self.len && len <= PIPE);
        let (rd, wr) = rustix::pipe::pipe()?;
        // SAFETY: inside the mapping.
        let n = ret(unsafe { libc::write(wr.as_raw_fd(), self.at.add(start).cast(), len) } as i64)?;
        let mut data = vec![0; n as usize];
        rustix::io::read(&rd, &mut data[..])?;
        Ok(data)
    }

    /// Writes in the same way; how much could be written.
    pub fn store(&self, start: usize, data: &[u8]) -> Sys<i64> {
        assert!(start + data.len() <= self.len && data.len() <= PIPE);
        let (rd, wr) = rustix::pipe::pipe()?;
        rustix::io::write(&wr, data)?;
        // SAFETY: inside the mapping.
        ret(unsafe { libc::read(rd.as_raw_fd(), self.at.add(start).cast(), data.len()) } as i64)
    }

    pub fn sync(&self) -> Sys<()> {
        // SAFETY: the whole mapping.
        unsafe { rustix::mm::msync(self.at.cast(), self.len, rustix::mm::MsyncFlags::SYNC) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no reference to it is left.
        let _ = unsafe { rustix::mm::munmap(self.at.cast(), self.len) };
    }
}

/// Device and inode number of an open file.
pub fn identity(fd: impl AsFd) -> Sys<(u64, u64)> {
    rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}
