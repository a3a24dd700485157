// SPDX-License-Identifier: GPL-2.0
//! Extended attributes.

use crate::harness::*;
use crate::sys::{self, getx, listx, setx, Sys};
use crate::union::Union;
use rustix::fs::{OFlags, XattrFlags};
use rustix::io::Errno;
use std::path::Path;

fn remove(p: &Path, n: &str) -> Sys<()> {
    rustix::fs::lremovexattr(p, n)
}

fn get_and_set(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    setx(&u.l("low"), "trusted.a", b"lower")?;
    u.mount()?;
    same(getx(&u.m("low"), "trusted.a")?, b"lower", "of a lower file")?;
    for n in ["low", "up"] {
        setx(&u.m(n), "trusted.b", b"new")?;
        setx(&u.m(n), "security.c", b"")?;
        same(getx(&u.m(n), "trusted.b")?, b"new", n)?;
        same(getx(&u.u(n), "trusted.b")?, b"new", n)?;
        same(getx(&u.m(n), "security.c")?, b"", "an empty value")?;
    }
    same(
        getx(&u.u("low"), "trusted.a")?,
        b"lower",
        "came along with the copy",
    )?;
    fails(
        getx(&u.l("low"), "trusted.b"),
        Errno::NODATA,
        "the lower file",
    )?;
    same(
        listx(&u.m("low"))?,
        ["security.c", "trusted.a", "trusted.b"],
        "list",
    )
}

fn user_namespace_of_names(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let f = u.m("f");
    setx(&f, "user.a", b"1")?;
    sys::chmod(&f, 0o666)?;
    sys::as_user(1000, 1000, &[], || {
        setx(&f, "user.b", b"2")?;
        same(listx(&f)?, ["user.a", "user.b"], "list of another user")?;
        fails(
            setx(&f, "security.x", b"1"),
            Errno::PERM,
            "setxattr of security.x",
        )
    })?;
    rustix::fs::symlink("f", u.m("s"))?;
    fails(
        setx(&u.m("s"), "user.a", b"1"),
        Errno::PERM,
        "user.a on a symlink",
    )
}

fn sizes_and_errnos(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("low"), "x")?;
    sys::write(&u.u("up"), "x")?;
    for p in [u.l("low"), u.u("up")] {
        setx(&p, "trusted.ten", b"0123456789")?;
    }
    u.mount()?;
    for n in ["low", "up"] {
        let p = u.m(n);
        let path = sys::cstr(&p);
        let mut buf = [0u8; 128];
        // SAFETY: no length is larger than the buffer.
        let mut get = |len: usize| {
            sys::ret(unsafe {
                libc::lgetxattr(
                    path.as_ptr(),
                    c"trusted.ten".as_ptr(),
                    buf.as_mut_ptr().cast(),
                    len,
                )
            } as i64)
        };
        same(get(0)?, 10, "size 0 asks for the length")?;
        same(get(10)?, 10, "an exact buffer")?;
        same(get(20)?, 10, "a larger buffer")?;
        fails(get(9), Errno::RANGE, "a short buffer")?;
        // SAFETY: as above.
        let mut list = |len: usize| {
            sys::ret(
                unsafe { libc::llistxattr(path.as_ptr(), buf.as_mut_ptr().cast(), len) } as i64,
            )
        };
        check(list(0)? >= 12, "list of size 0 asks for the length")?;
        same(list(100)?, 12, "list")?;
        fails(list(5), Errno::RANGE, "a short list")?;
        fails(
            getx(&p, "trusted.none"),
            Errno::NODATA,
            "getxattr of nothing",
        )?;
        fails(
            remove(&p, "trusted.none"),
            Errno::NODATA,
            "removexattr of nothing",
        )?;
        fails(
            setx(&p, "nosuch.x", b"1"),
            Errno::OPNOTSUPP,
            "an unknown namespace",
        )?;
        let long = format!("trusted.{}", "n".repeat(250));
        fails(setx(&p, &long, b"1"), Errno::RANGE, "a name of 258 bytes")?;
        fails(setx(&p, "", b"1"), Errno::RANGE, "an empty name")?;
        let big = vec![0u8; 65537];
        fails(
            setx(&p, "trusted.big", &big),
            Errno::TOOBIG,
            "a value of 65537 bytes",
        )?;
    }
    fails(
        getx(&u.m("none"), "trusted.x"),
        Errno::NOENT,
        "of a missing name",
    )
}

fn refused_removal_copies_nothing(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    fails(
        remove(&u.m("f"), "trusted.none"),
        Errno::NODATA,
        "removexattr",
    )?;
    check(!sys::exists(&u.u("f")), "it copied the file up")
}

fn create_and_replace(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    for n in ["a", "b"] {
        sys::write(&u.l(n), "x")?;
        setx(&u.l(n), "trusted.has", b"1")?;
    }
    u.mount()?;
    let set = |n: &str, x: &str, f| rustix::fs::setxattr(u.m(n), x, b"2", f);
    fails(
        set("a", "trusted.has", XattrFlags::CREATE),
        Errno::EXIST,
        "CREATE of one that is",
    )?;
    fails(
        set("b", "trusted.no", XattrFlags::REPLACE),
        Errno::NODATA,
        "REPLACE of none",
    )?;
    set("a", "trusted.no", XattrFlags::CREATE)?;
    set("b", "trusted.has", XattrFlags::REPLACE)?;
    same(getx(&u.m("b"), "trusted.has")?, b"2", "replaced")?;
    let odd = XattrFlags::from_bits_retain(8);
    fails(set("a", "trusted.x", odd), Errno::INVAL, "an unknown flag")
}

fn removal(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    for n in ["f", "d"] {
        setx(&u.l(n), "trusted.a", b"1")?;
        setx(&u.l(n), "trusted.b", b"2")?;
    }
    u.mount()?;
    for n in ["f", "d"] {
        remove(&u.m(n), "trusted.a")?;
        same(listx(&u.m(n))?, ["trusted.b"], n)?;
        fails(getx(&u.u(n), "trusted.a"), Errno::NODATA, n)?;
        same(getx(&u.l(n), "trusted.a")?, b"1", "the lower one keeps it")?;
    }
    Ok(())
}

fn own_names_are_hidden(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    u.mount()?;
    sys::chmod(&u.m("f"), 0o600)?;
    sys::chmod(&u.m("d"), 0o700)?;
    works(
        getx(&u.u("f"), "trusted.overlay.origin"),
        "overlay.origin in upper",
    )?;
    for n in ["f", "d", "."] {
        let list = listx(&u.m(n))?;
        check(
            !list.iter().any(|x| x.starts_with("trusted.overlay.")),
            &format!("own names are not listed, seen {list:?}"),
        )?;
    }
    fails(
        getx(&u.m("f"), "trusted.overlay.origin"),
        Errno::NODATA,
        "getxattr",
    )?;
    fails(
        remove(&u.m("f"), "trusted.overlay.origin"),
        Errno::NODATA,
        "removexattr",
    )?;
    works(
        getx(&u.u("f"), "trusted.overlay.origin"),
        "still there in upper",
    )?;
    Ok(())
}

fn own_names_are_escaped(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/f"), "x")?;
    u.mount()?;
    let esc = "trusted.overlay.overlay.opaque";
    for n in ["f", "d"] {
        setx(&u.m(n), "trusted.overlay.opaque", b"y")?;
        same(
            getx(&u.m(n), "trusted.overlay.opaque")?,
            b"y",
            "as the user sees it",
        )?;
        same(getx(&u.u(n), esc)?, b"y", "as it lies in upper")?;
        same(listx(&u.m(n))?, ["trusted.overlay.opaque"], "list")?;
    }
    same(sys::names(&u.m("d"))?, ["f"], "the directory is not opaque")?;
    u.again()?;
    same(
        sys::names(&u.m("d"))?,
        ["f"],
        "not after a new mount either",
    )?;
    same(
        getx(&u.m("d"), "trusted.overlay.opaque")?,
        b"y",
        "still seen by the user",
    )?;
    remove(&u.m("d"), "trusted.overlay.opaque")?;
    fails(getx(&u.u("d"), esc), Errno::NODATA, "removed in upper")?;
    let long = format!("trusted.overlay.{}", "n".repeat(238));
    let r = setx(&u.m("f"), &long, b"1");
    fails(r, Errno::OPNOTSUPP, "a name too long to be escaped")
}

fn escaped_on_lower(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    setx(&u.l("f"), "trusted.overlay.overlay.whatever", b"1")?;
    setx(&u.l("f"), "trusted.overlay.unknown", b"2")?;
    u.mount()?;
    let f = u.m("f");
    same(listx(&f)?, ["trusted.overlay.whatever"], "list")?;
    same(
        getx(&f, "trusted.overlay.whatever")?,
        b"1",
        "one prefix less",
    )?;
    fails(
        getx(&f, "trusted.overlay.unknown"),
        Errno::NODATA,
        "a private one",
    )?;
    sys::chmod(&f, 0o600)?;
    same(
        getx(&u.u("f"), "trusted.overlay.overlay.whatever")?,
        b"1",
        "copied up escaped",
    )?;
    fails(
        getx(&u.u("f"), "trusted.overlay.unknown"),
        Errno::NODATA,
        "private ones stay",
    )
}

fn foreign_user_overlay_names(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    sys::write(&u.l("d/f"), "x")?;
    sys::mkdir(&u.u("d"))?;
    setx(&u.u("d"), "user.overlay.opaque", b"y")?;
    u.mount()?;
    same(
        sys::names(&u.m("d"))?,
        ["f"],
        "user.overlay.opaque says nothing without userxattr",
    )?;
    same(
        listx(&u.m("d"))?,
        ["user.overlay.opaque"],
        "it is an ordinary name",
    )?;
    setx(&u.m("f"), "user.overlay.x", b"1")?;
    same(getx(&u.u("f"), "user.overlay.x")?, b"1", "stored as it is")
}

fn trusted_only_for_the_privileged(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    setx(&u.l("f"), "trusted.secret", b"1")?;
    setx(&u.l("f"), "user.open", b"1")?;
    u.mount()?;
    sys::as_user(1000, 1000, &[], || {
        same(listx(&u.m("f"))?, ["user.open"], "list")?;
        fails(getx(&u.m("f"), "trusted.secret"), Errno::NODATA, "getxattr")?;
        fails(
            setx(&u.m("f"), "trusted.secret", b"2"),
            Errno::PERM,
            "setxattr",
        )
    })?;
    check(
        !sys::exists(&u.u("f")),
        "a refused change copied the file up",
    )
}

fn copied_up_with_every_kind(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    sys::mkdir(&u.l("d"))?;
    rustix::fs::symlink("x", u.l("s"))?;
    let names: Vec<String> = (0..30).map(|i| format!("trusted.n{i:02}")).collect();
    for n in ["f", "d", "s"] {
        for x in &names {
            setx(&u.l(n), x, x.as_bytes())?;
        }
    }
    u.mount()?;
    for n in ["f", "d", "s"] {
        sys::chown(&u.m(n), 1, 1)?;
        same(listx(&u.m(n))?, names.clone(), n)?;
        for x in &names {
            same(getx(&u.u(n), x)?, x.as_bytes(), x)?;
        }
    }
    Ok(())
}

fn large_values(ctx: &Ctx) -> Res {
    let u = Union::new(ctx)?;
    sys::write(&u.l("f"), "x")?;
    let big = super::rw::pattern(60_000);
    setx(&u.l("f"), "trusted.big", &big)?;
    u.mount()?;
    sys::chmod(&u.m("f"), 0o600)?;
    check(
        getx(&u.u("f"), "trusted.big")? == big,
        "a large value in upper",
    )?;
    check(getx(&u.m("f"), "trusted.big")? == big, "a large value")
}

fn by_descriptor(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let fd = sys::open(&u.m("f"), OFlags::RDONLY)?;
    rustix::fs::fsetxattr(&fd, "trusted.a", b"1", XattrFlags::empty())?;
    let mut b = [0u8; 8];
    same(
        rustix::fs::fgetxattr(&fd, "trusted.a", &mut b[..])?,
        1,
        "fgetxattr",
    )?;
    same(getx(&u.u("f"), "trusted.a")?, b"1", "in upper")?;
    rustix::fs::fremovexattr(&fd, "trusted.a")?;
    same(
        listx(&u.m("f"))?,
        Vec::<String>::new(),
        "after fremovexattr",
    )
}

fn changes_ctime_only(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x")?;
    let a = sys::stx(&u.m("f"))?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    setx(&u.m("f"), "trusted.a", b"1")?;
    let b = sys::stx(&u.m("f"))?;
    same(a.stx_mtime.tv_nsec, b.stx_mtime.tv_nsec, "mtime")?;
    check(
        (b.stx_ctime.tv_sec, b.stx_ctime.tv_nsec) > (a.stx_ctime.tv_sec, a.stx_ctime.tv_nsec),
        "ctime moves on",
    )
}

fn crafted_values_on_layers(ctx: &Ctx) -> Res {
    // Nonsense in the union's own attributes: an errno or a plain file, and
    // no harm to the rest.
    let u = Union::new(ctx)?;
    let values: &[&[u8]] = &[b"", b"x", b"y", &[0xff; 200], b"\x00\xfb\x1d\x00", &[0; 3]];
    let mut n = 0;
    for key in [
        "origin", "redirect", "metacopy", "nlink", "uuid", "upper", "opaque", "impure",
    ] {
        for v in values {
            let (f, d) = (u.u(&format!("f{n}")), u.u(&format!("d{n}")));
            sys::write(&u.l(&format!("f{n}")), "lower")?;
            sys::mkdir(&u.l(&format!("d{n}")))?;
            sys::write(&f, "upper")?;
            sys::mkdir(&d)?;
            setx(&f, &format!("trusted.overlay.{key}"), v)?;
            setx(&d, &format!("trusted.overlay.{key}"), v)?;
            n += 1;
        }
    }
    sys::write(&u.l("fine"), "fine")?;
    u.mount()?;
    for i in 0..n {
        match sys::read(&u.m(&format!("f{i}"))) {
            Ok(d) => check(
                d == b"upper" || d.is_empty(),
                &format!("content of f{i}: {d:?}"),
            )?,
            Err(Errno::IO | Errno::STALE | Errno::PERM | Errno::NODATA) => {}
            Err(e) => return Err(Failure::new(format!("read of f{i}: {}", errno_name(e)))),
        }
        let _ = sys::stx(&u.m(&format!("d{i}")));
        let _ = sys::names(&u.m(&format!("d{i}")));
    }
    same(sys::read(&u.m("fine"))?, b"fine", "an unharmed file")?;
    sys::write(&u.m("fine"), "changed")?;
    Ok(())
}

tests! {
    Tmpfs: get_and_set, user_namespace_of_names, sizes_and_errnos,
        refused_removal_copies_nothing, create_and_replace, removal, own_names_are_hidden,
        own_names_are_escaped, escaped_on_lower, foreign_user_overlay_names,
        trusted_only_for_the_privileged, copied_up_with_every_kind, by_descriptor,
        changes_ctime_only, crafted_values_on_layers;
    Ext4: get_and_set, sizes_and_errnos, own_names_are_hidden, own_names_are_escaped,
        trusted_only_for_the_privileged, crafted_values_on_layers;
    Xfs: get_and_set, large_values, own_names_are_escaped, copied_up_with_every_kind;
}
