// SPDX-License-Identifier: GPL-2.0
//! The system calls whose allocations fail. Paths are relative to the directory that holds the mount
//! point `m`; `union::make_lowers()` and `Union::make_upper()` say what is there.

use super::calls::*;
use super::Arm;
use crate::union::{whiteout, Union, ACL};
use anyhow::Result;
use rustix::fs::{
    self, AtFlags, FallocateFlags, FileType, Gid, IFlags, Mode, OFlags, RenameFlags, Uid,
    XattrFlags, CWD,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::mem::MaybeUninit;

type Call = fn(&Arm) -> Result<String, Errno>;

/// A system call, or a few that belong together.
pub struct Scenario {
    pub name: &'static str,
    /// The union is mounted before.
    pub mounted: bool,
    /// Mount options, each with a comma before it.
    pub options: &'static str,
    /// Further changes of the layers before they are mounted.
    pub prepare: Option<fn(&Union) -> Result<()>>,
    /// Changes of the mounted union before the call.
    pub warm: Option<fn() -> Result<(), Errno>>,
    /// The call; what it gives must not depend on failures that it survives.
    pub call: Call,
    /// The call may do less than it was asked for: its result is not compared.
    pub partial: bool,
    /// The filesystem below is known to leave the call half done.
    pub between: bool,
    /// Errors beside ENOMEM that are right.
    pub errors: &'static [Errno],
}

const fn plain(name: &'static str, call: Call) -> Scenario {
    Scenario {
        name,
        mounted: true,
        options: "",
        prepare: None,
        warm: None,
        call,
        partial: false,
        between: false,
        errors: &[],
    }
}

const fn unmounted(name: &'static str, call: Call) -> Scenario {
    Scenario {
        mounted: false,
        // Of a mount that cannot be cloned for want of memory the kernel says EINVAL.
        errors: &[Errno::INVAL],
        ..plain(name, call)
    }
}

fn umount(arm: &Arm) -> Result<String, Errno> {
    arm.run(|| rustix::mount::unmount("m", UnmountFlags::empty()))
        .map(done)
}

fn layers(union: &Union) -> Result<()> {
    (2..60).try_for_each(|i| Ok(std::fs::create_dir(union.top.join(format!("l{i}")))?))
}

fn many_layers(arm: &Arm) -> Result<String, Errno> {
    let more: Vec<_> = (2..60).map(|i| format!("top/l{i}")).collect();
    let lowers = format!("l1:l0:{}", more.join(":"));
    let usual = "upperdir=top/upper,workdir=top/work";
    mount(arm, &format!("lowerdir={lowers},{usual}"))
}

fn long_ago(union: &Union) -> Result<()> {
    // What an earlier mount left behind is cleaned by this one.
    let work = union.top.join("work/work");
    std::fs::create_dir_all(work.join("#1"))?;
    Ok(std::fs::write(work.join("#1/file"), "left")?)
}

fn flags_below(union: &Union) -> Result<()> {
    let file = std::fs::File::open(union.lowers[0].join("small"))?;
    Ok(fs::ioctl_setflags(&file, IFlags::NOATIME)?)
}

fn default_acl(union: &Union) -> Result<()> {
    let dir = union.upper();
    Ok(fs::setxattr(
        dir,
        "system.posix_acl_default",
        ACL,
        XattrFlags::empty(),
    )?)
}

fn redirected(union: &Union) -> Result<()> {
    let dir = union.upper().join("jump");
    std::fs::create_dir(&dir)?;
    // A lower directory is shown once.
    let old = union.upper().join("dir");
    std::fs::create_dir_all(&old)?;
    whiteout(&old.join("deep"))?;
    let name = "trusted.overlay.redirect";
    Ok(fs::setxattr(dir, name, b"/dir/deep", XattrFlags::empty())?)
}

/// A copy was renamed to `copy`, and the whiteout of its old name was taken away.
fn uncovered(union: &Union) -> Result<()> {
    union.mount()?;
    let moved = std::fs::rename(union.mnt.join("file"), union.mnt.join("copy"));
    union.umount()?;
    moved?;
    Ok(std::fs::remove_file(union.upper().join("file"))?)
}

/// Both names are known, and one inode.
fn known_twice() -> Result<(), Errno> {
    ["m/copy", "m/file"]
        .into_iter()
        .try_for_each(|name| fs::stat(name).map(drop))
}

/// A mount that copies attributes alone.
const fn metacopy(
    name: &'static str,
    warm: Option<fn() -> Result<(), Errno>>,
    call: Call,
) -> Scenario {
    Scenario {
        options: ",metacopy=on",
        warm,
        ..plain(name, call)
    }
}

/// The file is in upper without its data.
const BARE: Option<fn() -> Result<(), Errno>> = Some(|| fs::chmod("m/file", Mode::RUSR));

/// A file without data was renamed to another directory.
fn renamed_bare(union: &Union) -> Result<()> {
    union.mount()?;
    let moved = std::fs::rename(union.mnt.join("file"), union.mnt.join("merged/new"));
    union.umount()?;
    Ok(moved?)
}

/// A mount with an index, which keeps the two names of a lower file one.
const fn index(
    name: &'static str,
    warm: Option<fn() -> Result<(), Errno>>,
    call: Call,
) -> Scenario {
    Scenario {
        options: ",index=on",
        warm,
        ..plain(name, call)
    }
}

/// A mount whose index tells handles of all that was copied up, directories too.
const fn exported(name: &'static str, call: Call) -> Scenario {
    Scenario {
        options: ",index=on,nfs_export=on",
        ..plain(name, call)
    }
}

/// One of the names was copied up.
const INDEXED: Option<fn() -> Result<(), Errno>> = Some(|| fs::chmod("m/twice", Mode::RUSR));

/// A file of a lower layer of its own has its data in a data-only one.
fn data_layer(union: &Union) -> Result<()> {
    let objects = union.top.join("data/objects");
    std::fs::create_dir_all(&objects)?;
    std::fs::write(objects.join("it"), "data")?;
    let lower = union.top.join("lower");
    std::fs::create_dir(&lower)?;
    let bare = lower.join("bare");
    std::fs::File::create(&bare)?.set_len(4)?;
    for (name, value) in [("metacopy", ""), ("redirect", "/objects/it")] {
        let name = format!("trusted.overlay.{name}");
        fs::setxattr(&bare, name, value.as_bytes(), XattrFlags::empty())?;
    }
    Ok(())
}

/// A mount with a data-only layer; the list of lower layers that all get is forgotten.
const fn with_data(name: &'static str, call: Call) -> Scenario {
    Scenario {
        options: ",metacopy=on,verity=on,\
                  lowerdir=,lowerdir+=l1,lowerdir+=l0,lowerdir+=top/lower,datadir+=top/data",
        prepare: Some(data_layer),
        ..plain(name, call)
    }
}

const RW: OFlags = OFlags::RDWR;
const NONE: RenameFlags = RenameFlags::empty();

/// ext4 takes a directory whose blocks it cannot read for one that is not empty.
const EXT4_UNREAD: &[Errno] = &[Errno::NOTEMPTY];

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    plain("stat: a lower file", |a| stat(a, "m/file")),
    plain("stat: three directories down", |a| {
        stat(a, "m/dir/deep/er/file")
    }),
    plain("stat: in a merged directory", |a| stat(a, "m/merged/bb")),
    plain("stat: no such name", |a| missing(a, "m/merged/none")),
    plain("stat: behind a whiteout", |a| missing(a, "m/gone")),
    Scenario {
        options: ",redirect_dir=follow",
        prepare: Some(redirected),
        ..plain("stat: behind a redirect", |a| stat(a, "m/jump/er/file"))
    },
    plain("readlink", |a| {
        let mut buf = [MaybeUninit::<u8>::uninit(); 64];
        let (target, _) = a.run(|| fs::readlinkat_raw(CWD, "m/symlink", &mut buf))?;
        Ok(String::from_utf8_lossy(target).into_owned())
    }),
    plain("listing: merged", |a| list(a, "m/merged", 1)),
    plain("listing: merged, kept", |a| list(a, "m/merged", 3)),
    plain("listing: one layer", |a| list(a, "m/full", 1)),
    plain("listing: the root", |a| list(a, "m", 2)),
    plain("names learnt", |a| {
        // Asking in vain until the directory's names are remembered.
        const NAMES: [&str; 4] = ["m/merged/n0", "m/merged/n1", "m/merged/n2", "m/merged/n3"];
        a.run(|| {
            for name in NAMES.iter().cycle().take(40) {
                match fs::statat(CWD, *name, AtFlags::empty()) {
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                    Ok(_) => return Err(Errno::EXIST),
                }
            }
            fs::statat(CWD, "m/merged/cc", AtFlags::empty())
        })
        .map(done)
    }),
    plain("read: a lower file", |a| read(a, "m/file")),
    plain("read: an upper file", |a| read(a, "m/up")),
    plain("open for writing, nothing written", |a| {
        a.run(|| open("m/file", RW)).map(done)
    }),
    plain("getxattr", |a| {
        let mut value = [0u8; 256];
        a.run(|| fs::getxattr("m/file", "trusted.mark", &mut value))
            .map(|len| len.to_string())
    }),
    plain("listxattr", |a| {
        let mut list = [0u8; 256];
        let len = a.run(|| fs::listxattr("m/file", &mut list))?;
        Ok(String::from_utf8_lossy(&list[..len]).into_owned())
    }),
    plain("reading an ACL", |a| {
        let mut value = [0u8; 256];
        let name = "system.posix_acl_access";
        a.run(|| fs::getxattr("m/acl", name, &mut value))
            .map(|len| len.to_string())
    }),
    plain("statfs", |a| {
        a.run(|| fs::statfs("m")).map(|s| s.f_namelen.to_string())
    }),
    plain("write: a lower file", |a| write(a, "m/file", RW, 100)),
    plain("write: a lower file, data larger than a page", |a| {
        write(a, "m/big", RW, 65_000)
    }),
    plain("write: three directories down", |a| {
        write(a, "m/dir/deep/er/file", RW, 0)
    }),
    plain("write: append to a lower file", |a| {
        write(a, "m/acl", RW | OFlags::APPEND, 0)
    }),
    plain("write: an upper file", |a| write(a, "m/up", RW, 10)),
    Scenario {
        options: ",copy_up=open",
        ..plain("write: copied up at open", |a| write(a, "m/file", RW, 100))
    },
    Scenario {
        // As in overlayfs the copy is made without data; the time comes with the open that may fail.
        between: true,
        ..plain("open with O_TRUNC", |a| {
            a.run(|| open("m/file", RW | OFlags::TRUNC)).map(done)
        })
    },
    Scenario {
        warm: Some(|| open("m/file", RW | OFlags::TRUNC).map(drop)),
        ..plain("write: after O_TRUNC", |a| write(a, "m/file", RW, 0))
    },
    Scenario {
        // ext4 goes on from extent to extent, size and time with them, until one fails.
        between: true,
        ..plain("fallocate", |a| {
            let none = FallocateFlags::empty();
            a.run(|| fs::fallocate(open("m/acl", RW)?, none, 0, 20_000))
                .map(done)
        })
    },
    Scenario {
        // ext4 sets the size before the last thing that may fail.
        between: true,
        ..plain("ftruncate", |a| {
            a.run(|| fs::ftruncate(open("m/file", RW)?, 3)).map(done)
        })
    },
    plain("splice into a lower file", |a| {
        let (from, to) = rustix::pipe::pipe()?;
        rustix::io::write(&to, b"piped")?;
        let file = open("m/acl", RW)?;
        let flags = rustix::pipe::SpliceFlags::empty();
        a.run(|| rustix::pipe::splice(&from, None, &file, None, 5, flags))
            .map(done)
    }),
    plain("copy_file_range into a lower file", |a| {
        let (from, to) = (open("m/up", OFlags::RDONLY)?, open("m/acl", RW)?);
        a.run(|| fs::copy_file_range(&from, None, &to, None, 10))
            .map(|n| n.to_string())
    }),
    plain("mmap: shared, written", |a| mapping(a, "m/file")),
    plain("mmap: shared, an upper file", |a| mapping(a, "m/up")),
    plain("write to a removed lower file", |a| {
        let file = open("m/file", RW)?;
        fs::unlink("m/file")?;
        a.run(|| rustix::io::pwrite(&file, b"gone", 0)).map(done)
    }),
    plain("fsync", |a| sync(a, "m/up", |f| fs::fsync(f))),
    plain("fdatasync: after copy-up", |a| {
        sync(a, "m/file", |f| fs::fdatasync(f))
    }),
    plain("syncfs", |a| sync(a, "m/up", |f| fs::syncfs(f))),
    plain("fsync: a merged directory", |a| {
        let dir = open("m/merged", OFlags::RDONLY)?;
        a.run(|| fs::fsync(&dir)).map(done)
    }),
    plain("chmod: a lower file", |a| chmod(a, "m/file")),
    Scenario {
        // The mode is set before the ACL's entries of it.
        between: true,
        ..plain("chmod: a file with an ACL", |a| chmod(a, "m/acl"))
    },
    plain("chmod: a set-uid file", |a| chmod(a, "m/small")),
    plain("chmod: a hard link", |a| chmod(a, "m/twice")),
    Scenario {
        // The name is linked first, which its link count tells.
        between: true,
        prepare: Some(uncovered),
        warm: Some(known_twice),
        ..plain("chmod: the second name of a copied-up file", |a| {
            chmod(a, "m/file")
        })
    },
    Scenario {
        between: true,
        prepare: Some(uncovered),
        warm: Some(known_twice),
        ..plain("write: the second name of a copied-up file", |a| {
            write(a, "m/file", RW, 0)
        })
    },
    plain("chmod: a lower directory", |a| chmod(a, "m/dir")),
    plain("chmod: a FIFO", |a| chmod(a, "m/fifo")),
    plain("chmod: an upper file", |a| chmod(a, "m/up")),
    Scenario {
        prepare: Some(flags_below),
        ..plain("chmod: a file with flags", |a| chmod(a, "m/small"))
    },
    plain("chown", |a| {
        let (user, group) = (Uid::from_raw(1001), Gid::from_raw(1002));
        a.run(|| fs::chown("m/small", Some(user), Some(group)))
            .map(done)
    }),
    plain("utimensat: a lower file", |a| utimes(a, "m/acl")),
    plain("utimensat: a symlink", |a| utimes(a, "m/symlink")),
    plain("chattr: a lower file", |a| {
        a.run(|| fs::ioctl_setflags(open("m/acl", OFlags::RDONLY)?, IFlags::NOATIME))
            .map(done)
    }),
    plain("setxattr: a lower file", |a| {
        xattr(a, "m/acl", "user.new", b"value")
    }),
    plain("setxattr: an escaped name", |a| {
        xattr(a, "m/up", "trusted.overlay.overlay.x", b"v")
    }),
    plain("removexattr", |a| {
        a.run(|| fs::removexattr("m/file", "user.colour")).map(done)
    }),
    plain("setting an ACL", |a| {
        xattr(a, "m/small", "system.posix_acl_access", ACL)
    }),
    plain("setting a default ACL", |a| {
        xattr(a, "m/merged", "system.posix_acl_default", ACL)
    }),
    plain("create", |a| create(a, "m/new")),
    plain("create: below lower directories", |a| {
        create(a, "m/dir/deep/er/new")
    }),
    plain("create: in a merged directory", |a| {
        create(a, "m/merged/new")
    }),
    plain("create: over a whiteout", |a| create(a, "m/gone")),
    Scenario {
        prepare: Some(default_acl),
        ..plain("create: over a whiteout, with an inherited ACL", |a| {
            create(a, "m/gone")
        })
    },
    plain("mkdir", |a| mkdir(a, "m/new")),
    plain("mkdir: in a lower directory", |a| mkdir(a, "m/only0/new")),
    plain("mkdir: over a whiteout", |a| mkdir(a, "m/gone")),
    plain("mknod: a FIFO", |a| node(a, "m/new", FileType::Fifo)),
    plain("mknod: a device, over a whiteout", |a| {
        node(a, "m/gone", FileType::CharacterDevice)
    }),
    plain("symlink", |a| {
        a.run(|| fs::symlink("target", "m/new")).map(done)
    }),
    plain("symlink: over a whiteout", |a| {
        a.run(|| fs::symlink("target", "m/gone")).map(done)
    }),
    plain("link: an upper file", |a| link(a, "m/up", "m/new")),
    plain("link: a lower file", |a| link(a, "m/file", "m/new")),
    plain("link: across directories, parents copied up", |a| {
        link(a, "m/dir/deep/er/file", "m/only0/new")
    }),
    plain("link: over a whiteout", |a| link(a, "m/file", "m/gone")),
    plain("unnamed file, linked", |a| tmpfile(a, "m", "m/new")),
    plain("unnamed file: in a lower directory", |a| {
        tmpfile(a, "m/only0", "m/only0/new")
    }),
    plain("unlink: an upper file", |a| unlink(a, "m/up")),
    plain("unlink: a lower file", |a| unlink(a, "m/file")),
    plain("unlink: one of two names", |a| unlink(a, "m/twice")),
    plain("unlink: below lower directories", |a| {
        unlink(a, "m/dir/deep/er/file")
    }),
    plain("unlink: an upper name in a merged directory", |a| {
        unlink(a, "m/merged/u")
    }),
    Scenario {
        warm: Some(|| fs::chmod("m/file", Mode::RUSR)),
        ..plain("unlink: a copied-up file", |a| unlink(a, "m/file"))
    },
    Scenario {
        errors: EXT4_UNREAD,
        ..plain("rmdir: an upper directory", |a| rmdir(a, "m/updir/sub"))
    },
    plain("rmdir: a lower directory", |a| rmdir(a, "m/rmdir")),
    plain("rmdir: merged, with whiteouts", |a| rmdir(a, "m/emptied")),
    Scenario {
        warm: Some(|| fs::chmod("m/rmdir", Mode::RWXU)),
        ..plain("rmdir: copied up", |a| rmdir(a, "m/rmdir"))
    },
    Scenario {
        options: ",redirect_dir=on",
        ..plain("rename: a merged directory", |a| {
            rename(a, "m/merged", "m/moved", NONE)
        })
    },
    Scenario {
        options: ",redirect_dir=on",
        ..plain("rename: a lower directory, to another", |a| {
            rename(a, "m/dir/deep", "m/merged/deep", NONE)
        })
    },
    metacopy("metacopy: chmod", None, |a| chmod(a, "m/file")),
    metacopy("metacopy: link", None, |a| link(a, "m/file", "m/new")),
    metacopy("metacopy: rename", None, |a| {
        rename(a, "m/file", "m/new", NONE)
    }),
    metacopy("metacopy: rename, to another directory", BARE, |a| {
        rename(a, "m/file", "m/merged/new", NONE)
    }),
    metacopy("metacopy: chmod again", BARE, |a| chmod(a, "m/file")),
    metacopy("metacopy: read", BARE, |a| read(a, "m/file")),
    metacopy("metacopy: the first write", BARE, |a| {
        write(a, "m/file", RW, 3)
    }),
    Scenario {
        // As of a lower file.
        between: true,
        ..metacopy("metacopy: O_TRUNC", BARE, |a| {
            write(a, "m/file", RW | OFlags::TRUNC, 0)
        })
    },
    Scenario {
        // ext4 sets the size before the last thing that may fail.
        between: true,
        ..metacopy("metacopy: truncate", BARE, |a| {
            a.run(|| fs::ftruncate(open("m/file", RW)?, 3)).map(done)
        })
    },
    Scenario {
        options: ",metacopy=on",
        prepare: Some(renamed_bare),
        ..plain("metacopy: stat behind a redirect", |a| {
            stat(a, "m/merged/new")
        })
    },
    index("index: chmod", None, |a| chmod(a, "m/twice")),
    index("index: write", None, |a| write(a, "m/dir/second", RW, 3)),
    index("index: stat of the other name", INDEXED, |a| {
        stat(a, "m/dir/second")
    }),
    index("index: chmod of the other name", INDEXED, |a| {
        chmod(a, "m/dir/second")
    }),
    index("index: link", INDEXED, |a| link(a, "m/twice", "m/new")),
    index("index: unlink", None, |a| unlink(a, "m/twice")),
    index("index: unlink of a copied-up name", INDEXED, |a| {
        unlink(a, "m/twice")
    }),
    index(
        "index: unlink of the last name",
        Some(|| fs::unlink("m/dir/second")),
        |a| unlink(a, "m/twice"),
    ),
    index("index: rename onto a name", None, |a| {
        rename(a, "m/up", "m/twice", NONE)
    }),
    exported("export: chmod", |a| chmod(a, "m/file")),
    exported("export: chmod of a directory", |a| chmod(a, "m/rmdir")),
    exported("export: unlink", |a| unlink(a, "m/file")),
    exported("export: rmdir", |a| rmdir(a, "m/rmdir")),
    exported("export: rename", |a| rename(a, "m/file", "m/new", NONE)),
    with_data("data layer: stat", |a| stat(a, "m/bare")),
    with_data("data layer: read", |a| read(a, "m/bare")),
    with_data("data layer: chmod", |a| chmod(a, "m/bare")),
    with_data("data layer: the first write", |a| write(a, "m/bare", RW, 3)),
    plain("rename: an upper file", |a| {
        rename(a, "m/up", "m/new", NONE)
    }),
    plain("rename: a lower file", |a| {
        rename(a, "m/file", "m/new", NONE)
    }),
    plain("rename: onto an upper file", |a| {
        rename(a, "m/file", "m/up", NONE)
    }),
    plain("rename: onto a lower file", |a| {
        rename(a, "m/up", "m/file", NONE)
    }),
    plain("rename: lower onto lower", |a| {
        rename(a, "m/file", "m/acl", NONE)
    }),
    plain("rename: over a whiteout", |a| {
        rename(a, "m/up", "m/gone", NONE)
    }),
    plain("rename: a lower file over a whiteout", |a| {
        rename(a, "m/file", "m/gone", NONE)
    }),
    plain("rename: to another directory", |a| {
        rename(a, "m/dir/deep/er/file", "m/merged/new", NONE)
    }),
    plain("rename: a directory", |a| {
        rename(a, "m/updir", "m/new", NONE)
    }),
    plain("rename: a directory over a whiteout", |a| {
        rename(a, "m/updir", "m/gone", NONE)
    }),
    plain("rename: a directory into a merged one", |a| {
        rename(a, "m/updir", "m/merged/new", NONE)
    }),
    Scenario {
        errors: EXT4_UNREAD,
        ..plain("rename: over a merged directory with whiteouts", |a| {
            rename(a, "m/updir", "m/emptied", NONE)
        })
    },
    plain("rename: NOREPLACE", |a| {
        rename(a, "m/file", "m/new", RenameFlags::NOREPLACE)
    }),
    plain("rename: EXCHANGE", |a| {
        rename(a, "m/file", "m/up", RenameFlags::EXCHANGE)
    }),
    plain("rename: EXCHANGE with a directory", |a| {
        rename(a, "m/updir", "m/merged/a", RenameFlags::EXCHANGE)
    }),
    plain("remount: read-only", |a| remount(a, MountFlags::RDONLY)),
    plain("umount", umount),
    Scenario {
        warm: Some(|| {
            fs::unlink("m/file")?;
            fs::chmod("m/acl", Mode::RUSR)
        }),
        ..plain("umount: after changes", umount)
    },
    unmounted("mount", |a| mount_usual(a, "")),
    unmounted("mount: new system calls, descriptors", new_api),
    unmounted("mount: lower layers only", |a| mount(a, "lowerdir=l1:l0")),
    unmounted("mount: an escaped name", |a| {
        mount(a, "lowerdir=l\\1:l\\0,upperdir=top/upper,workdir=top/work")
    }),
    unmounted("mount: an index", |a| mount_usual(a, ",index=on")),
    unmounted("mount: default_permissions", |a| {
        mount_usual(a, ",default_permissions")
    }),
    Scenario {
        prepare: Some(layers),
        ..unmounted("mount: 60 layers", many_layers)
    },
    Scenario {
        prepare: Some(long_ago),
        ..unmounted("mount: a work directory to clean", |a| mount_usual(a, ""))
    },
];

/// The scenarios do not depend on where the program runs.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
