// SPDX-License-Identifier: GPL-2.0
//! open(2): flags, errnos and what an open leaves behind.

use crate::harness::*;
use crate::sys;
use crate::union::Union;
use rustix::fs::{Mode, OFlags, ResolveFlags, CWD};
use rustix::io::Errno;

fn filled(ctx: &Ctx) -> Res<Union> {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "lower data")?;
    sys::write(&u.u("up"), "upper data")?;
    sys::write(&u.l("both"), "lower")?;
    sys::write(&u.u("both"), "upper")?;
    sys::write(&u.l("gone"), "gone")?;
    sys::whiteout(&u.u("gone"))?;
    sys::mkdir(&u.l("d"))?;
    rustix::fs::symlink("low", u.l("link"))?;
    rustix::fs::symlink("none", u.l("dangling"))?;
    u.mount()?;
    Ok(u)
}

fn errnos(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let long = "n".repeat(256);
    let create = OFlags::CREATE | OFlags::WRONLY;
    let cases: &[(&str, OFlags, Errno)] = &[
        ("none", OFlags::RDONLY, Errno::NOENT),
        ("gone", OFlags::RDONLY, Errno::NOENT),
        ("gone", OFlags::WRONLY | OFlags::TRUNC, Errno::NOENT),
        ("dangling", OFlags::RDONLY, Errno::NOENT),
        ("low", create | OFlags::EXCL, Errno::EXIST),
        ("up", create | OFlags::EXCL, Errno::EXIST),
        ("both", create | OFlags::EXCL, Errno::EXIST),
        ("dangling", create | OFlags::EXCL, Errno::EXIST),
        ("d", OFlags::RDWR, Errno::ISDIR),
        ("d", OFlags::RDONLY | OFlags::TRUNC, Errno::ISDIR),
        ("d", create, Errno::ISDIR),
        ("low", OFlags::RDONLY | OFlags::DIRECTORY, Errno::NOTDIR),
        ("low/x", OFlags::RDONLY, Errno::NOTDIR),
        ("gone/x", OFlags::RDONLY, Errno::NOENT),
        ("link", OFlags::RDONLY | OFlags::NOFOLLOW, Errno::LOOP),
        ("low", OFlags::TMPFILE | OFlags::RDWR, Errno::NOTDIR),
        ("d", OFlags::TMPFILE, Errno::INVAL),
        (&long, OFlags::RDONLY, Errno::NAMETOOLONG),
        (&long, create, Errno::NAMETOOLONG),
        ("none/", create, Errno::ISDIR),
        ("none/x", create, Errno::NOENT),
    ];
    for (name, flags, want) in cases {
        let what = format!("open({}, {flags:?})", &name[..name.len().min(20)]);
        fails(sys::open(&u.m(name), *flags), *want, &what)?;
    }
    same(
        sys::names(&u.u(""))?,
        vec!["both", "gone", "up"],
        "upper after refused opens",
    )
}

fn reading_copies_nothing(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for flags in [
        OFlags::RDONLY,
        OFlags::RDONLY | OFlags::APPEND,
        OFlags::RDONLY | OFlags::CREATE,
        OFlags::PATH,
        OFlags::RDONLY | OFlags::NOATIME,
        OFlags::RDONLY | OFlags::NONBLOCK,
        OFlags::RDONLY | OFlags::DSYNC,
    ] {
        works(
            sys::open(&u.m("low"), flags),
            &format!("open of low with {flags:?}"),
        )?;
    }
    sys::open(&u.m("d"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    rustix::fs::access(u.m("low"), rustix::fs::Access::WRITE_OK)?;
    same(
        sys::names(&u.u(""))?,
        vec!["both", "gone", "up"],
        "upper after reading",
    )
}

fn truncating(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for name in ["low", "up", "both"] {
        let fd = sys::open(&u.m(name), OFlags::WRONLY | OFlags::TRUNC)?;
        same(sys::stx(&u.m(name))?.stx_size, 0, name)?;
        same(sys::stx(&u.u(name))?.stx_size, 0, name)?;
        rustix::io::write(&fd, b"now")?;
        same(sys::read(&u.u(name))?, b"now", name)?;
    }
    same(sys::read(&u.l("low"))?, b"lower data", "the lower file")
}

fn readonly_truncating(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let fd = sys::open(&u.m("low"), OFlags::RDONLY | OFlags::TRUNC)?;
    same(sys::pread(&fd, 10, 0)?, b"", "reading after O_TRUNC")?;
    fails(rustix::io::write(&fd, b"x"), Errno::BADF, "write")?;
    same(sys::stx(&u.u("low"))?.stx_size, 0, "size of the copy")
}

fn access_modes(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    for name in ["low", "up"] {
        let r = sys::open(&u.m(name), OFlags::RDONLY)?;
        fails(
            rustix::io::write(&r, b"x"),
            Errno::BADF,
            "write to a read-only descriptor",
        )?;
        fails(
            rustix::fs::ftruncate(&r, 0),
            Errno::INVAL,
            "ftruncate of a read-only descriptor",
        )?;
        let w = sys::open(&u.m(name), OFlags::WRONLY)?;
        fails(
            sys::pread(&w, 1, 0),
            Errno::BADF,
            "read of a write-only descriptor",
        )?;
        let p = sys::open(&u.m(name), OFlags::PATH)?;
        fails(
            sys::pread(&p, 1, 0),
            Errno::BADF,
            "read of an O_PATH descriptor",
        )?;
    }
    Ok(())
}

/// The fourth access mode gives a descriptor for ioctls alone: nothing is copied up for it.
fn mode_for_ioctls(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let f = sys::open(&u.m("low"), OFlags::from_bits_retain(3))?;
    fails(rustix::io::write(&f, b"x"), Errno::BADF, "write")?;
    fails(rustix::io::read(&f, &mut [0u8; 4]), Errno::BADF, "read")?;
    check(!sys::exists(&u.u("low")), "nothing is copied up")
}

fn getfl_and_setfl(ctx: &Ctx) -> Res {
    use rustix::fs::{fcntl_getfl, fcntl_setfl};
    let u = filled(ctx)?;
    for name in ["low", "up"] {
        let fd = sys::open(&u.m(name), OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?;
        let fl = fcntl_getfl(&fd)?;
        same(fl & OFlags::RWMODE, OFlags::RDWR, "access mode in F_GETFL")?;
        let gone = OFlags::CREATE | OFlags::TRUNC | OFlags::EXCL;
        check(!fl.intersects(gone), "F_GETFL shows a creation flag")?;
        rustix::io::write(&fd, b"0123")?;
        fcntl_setfl(&fd, OFlags::APPEND)?;
        rustix::io::pwrite(&fd, b"end", 0)?;
        same(
            sys::read(&u.m(name))?,
            b"0123end",
            "O_APPEND set by F_SETFL",
        )?;
        fcntl_setfl(&fd, OFlags::empty())?;
        rustix::io::pwrite(&fd, b"X", 0)?;
        same(
            sys::read(&u.m(name))?,
            b"X123end",
            "O_APPEND taken away by F_SETFL",
        )?;
    }
    Ok(())
}

fn reopen_through_proc(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let r = sys::open(&u.m("low"), OFlags::PATH)?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&r));
    let w = rustix::fs::open(path.as_str(), OFlags::WRONLY, Mode::empty())?;
    rustix::io::write(&w, b"through")?;
    same(sys::read(&u.u("low"))?, b"throughata", "the copy")?;
    let again = rustix::fs::open(path.as_str(), OFlags::RDONLY, Mode::empty())?;
    same(
        sys::pread(&again, 7, 0)?,
        b"through",
        "reopened for reading",
    )
}

fn fd_path_is_in_the_mount(ctx: &Ctx) -> Res {
    use std::os::fd::AsFd;
    let u = filled(ctx)?;
    for name in ["low", "up", "both", "d"] {
        let fd = sys::open(&u.m(name), OFlags::RDONLY)?;
        same(
            sys::fd_path(fd.as_fd())?,
            u.m(name).display().to_string(),
            name,
        )?;
    }
    let fd = sys::open(&u.m("low"), OFlags::RDWR)?;
    rustix::io::write(&fd, b"x")?;
    same(
        sys::fd_path(fd.as_fd())?,
        u.m("low").display().to_string(),
        "after copy-up",
    )?;
    std::fs::remove_file(u.m("low"))?;
    same(
        sys::fd_path(fd.as_fd())?,
        format!("{} (deleted)", u.m("low").display()),
        "after unlink",
    )
}

fn openat2_resolution(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let dir = sys::open(&u.mnt, OFlags::PATH | OFlags::DIRECTORY)?;
    let open =
        |p: &str, r: ResolveFlags| rustix::fs::openat2(&dir, p, OFlags::RDONLY, Mode::empty(), r);
    works(
        open("low", ResolveFlags::NO_XDEV),
        "a lower file without leaving the mount",
    )?;
    works(
        open("up", ResolveFlags::NO_XDEV),
        "an upper file without leaving the mount",
    )?;
    works(open("link", ResolveFlags::BENEATH), "a link beneath")?;
    fails(
        open("link", ResolveFlags::NO_SYMLINKS),
        Errno::LOOP,
        "a link without links",
    )?;
    fails(
        open("../u", ResolveFlags::BENEATH),
        Errno::XDEV,
        "out of the mount",
    )?;
    fails(
        open("..", ResolveFlags::NO_XDEV),
        Errno::XDEV,
        "up across the mount",
    )
}

fn through_symlink(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    sys::write(&u.m("link"), "via link")?;
    same(sys::read(&u.u("low"))?, b"via link", "the target's copy")?;
    check(!sys::exists(&u.u("link")), "the link itself was copied up")?;
    sys::write(&u.m("dangling"), "made")?;
    same(
        sys::read(&u.u("none"))?,
        b"made",
        "created through a dangling link",
    )?;
    same(
        std::fs::read_link(u.m("link"))?.to_string_lossy().as_ref(),
        "low",
        "readlink",
    )
}

fn over_whiteout(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    let fd = sys::open_mode(&u.m("gone"), flags, 0o640)?;
    rustix::io::write(&fd, b"back")?;
    same(sys::read(&u.u("gone"))?, b"back", "the file in upper")?;
    same(sys::mode(&u.m("gone"))?, 0o640, "its mode")?;
    u.work_is_empty()
}

fn longest_name(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    let low = "l".repeat(255);
    let new = "n".repeat(255);
    sys::write(&u.l(&low), "x")?;
    u.mount()?;
    sys::write(&u.m(&low), "changed")?;
    sys::write(&u.m(&new), "new")?;
    std::fs::rename(u.m(&low), u.m(&"r".repeat(255)))?;
    check(
        sys::is_whiteout(&u.u(&low)),
        "a whiteout with a name of 255 bytes",
    )?;
    std::fs::remove_file(u.m(&new))?;
    u.work_is_empty()
}

fn names_of_any_bytes(ctx: &Ctx) -> Res {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let u = Union::new(ctx)?;
    let mut want = Vec::new();
    for b in (1u8..=255).filter(|b| *b != b'/') {
        let name = [b'x', b, b'y'];
        let p = u.lowers[0].join(OsStr::from_bytes(&name));
        sys::write(&p, [b])?;
        want.push(name.to_vec());
    }
    u.mount()?;
    let mut seen = Vec::new();
    for e in std::fs::read_dir(&u.mnt)? {
        seen.push(e?.file_name().as_bytes().to_vec());
    }
    seen.sort();
    want.sort();
    check(seen == want, "the listing has every name once")?;
    for name in &want {
        let p = u.mnt.join(OsStr::from_bytes(name));
        sys::chmod(&p, 0o600)?;
        same(sys::read(&p)?, vec![name[1]], "content after copy-up")?;
    }
    Ok(())
}

fn noatime_needs_ownership(ctx: &Ctx) -> Res {
    let u = filled(ctx)?;
    sys::as_user(1000, 1000, &[], || {
        for n in ["low", "up"] {
            let r = sys::open(&u.m(n), OFlags::RDONLY | OFlags::NOATIME);
            fails(r, Errno::PERM, "O_NOATIME by another user")?;
        }
        Ok(())
    })
}

fn special_files(ctx: &Ctx) -> Res {
    use rustix::fs::FileType;
    let u = Union::new(ctx)?;
    sys::mknod(&u.l("fifo"), FileType::Fifo, 0o644, 0)?;
    let null = rustix::fs::makedev(1, 3);
    sys::mknod(&u.l("null"), FileType::CharacterDevice, 0o666, null)?;
    u.mount()?;
    let f = sys::open(&u.m("fifo"), OFlags::RDWR | OFlags::NONBLOCK)?;
    rustix::io::write(&f, b"p")?;
    let mut buf = [0u8; 4];
    same(
        rustix::io::read(&f, &mut buf)?,
        1,
        "bytes through a lower fifo",
    )?;
    let n = sys::open(&u.m("null"), OFlags::RDWR)?;
    same(
        rustix::io::write(&n, b"abc")?,
        3,
        "bytes into a lower device",
    )?;
    same(
        sys::names(&u.u(""))?,
        Vec::<String>::new(),
        "nothing was copied up",
    )?;
    sys::chmod(&u.m("fifo"), 0o600)?;
    sys::chmod(&u.m("null"), 0o600)?;
    let st = sys::stx(&u.u("null"))?;
    same(
        (st.stx_rdev_major, st.stx_rdev_minor),
        (1, 3),
        "device number of the copy",
    )?;
    same(sys::mode(&u.u("fifo"))?, 0o600, "mode of the copied fifo")
}

fn unix_sockets(ctx: &Ctx) -> Res {
    use std::os::unix::net::{UnixListener, UnixStream};
    let u = Union::new(ctx)?;
    std::env::set_current_dir(&u.lowers[0])?;
    let low = UnixListener::bind("s")?;
    u.mount()?;
    std::env::set_current_dir(&u.mnt)?;
    // A socket lives by its inode: bound below, it is not the merged one.
    match UnixStream::connect("s") {
        Err(e) => same(
            e.errno(),
            Errno::CONNREFUSED,
            "connect to a socket bound below",
        )?,
        Ok(_) => return Err(Failure::new("connect reached the lower inode".to_owned())),
    }
    drop(low);
    let up = UnixListener::bind("t")?;
    UnixStream::connect("t")?;
    up.accept()?;
    match UnixListener::bind("s") {
        Err(e) => same(e.errno(), Errno::ADDRINUSE, "bind over a lower socket"),
        Ok(_) => Err(Failure::new(
            "bind over a lower socket succeeded".to_owned(),
        )),
    }
}

fn handle_of(p: &std::path::Path, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0u8; 8 + 128];
    buf[0] = 128;
    let mut mount_id = 0i32;
    let path = sys::cstr(p);
    // SAFETY: the buffer and the id outlive the call.
    sys::ret(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            buf.as_mut_ptr(),
            &mut mount_id,
            flags,
        )
    })?;
    Ok(buf)
}

fn file_handles(ctx: &Ctx) -> Res {
    const AT_HANDLE_FID: i32 = 0x200;
    // Without nfs_export a handle can be made to compare files by, but not
    // one that could be opened.
    let u = filled(ctx)?;
    for n in ["low", "up", "d"] {
        fails(
            handle_of(&u.m(n), 0),
            Errno::OPNOTSUPP,
            "name_to_handle_at without nfs_export",
        )?;
        let a = works(handle_of(&u.m(n), AT_HANDLE_FID), "AT_HANDLE_FID")?;
        let b = works(handle_of(&u.m(n), AT_HANDLE_FID), "AT_HANDLE_FID")?;
        same(a, b, "the handle of one file")?;
    }
    let low = handle_of(&u.m("low"), AT_HANDLE_FID)?;
    let up = handle_of(&u.m("up"), AT_HANDLE_FID)?;
    check(low != up, "two files have one handle")
}

fn chdir_and_getcwd(ctx: &Ctx) -> Res {
    let u = Union::layers(ctx, 2)?;
    for i in 0..2 {
        std::fs::create_dir_all(u.ln(i, "a/b"))?;
    }
    u.mount()?;
    std::env::set_current_dir(u.m("a/b"))?;
    same(
        std::env::current_dir()?,
        u.m("a/b"),
        "getcwd in a lower directory",
    )?;
    rustix::fs::openat(CWD, "new", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR)?;
    same(std::env::current_dir()?, u.m("a/b"), "getcwd after copy-up")?;
    check(
        sys::exists(&u.u("a/b/new")),
        "created from the working directory",
    )
}

tests! {
    Tmpfs: errnos, reading_copies_nothing, truncating, readonly_truncating, access_modes, mode_for_ioctls,
        getfl_and_setfl, reopen_through_proc, fd_path_is_in_the_mount, openat2_resolution,
        through_symlink, over_whiteout, longest_name, names_of_any_bytes,
        noatime_needs_ownership, special_files, unix_sockets, file_handles,
        chdir_and_getcwd;
    Ext4: errnos, getfl_and_setfl, longest_name;
}
