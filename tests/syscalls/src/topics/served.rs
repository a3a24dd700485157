// SPDX-License-Identifier: GPL-2.0
//! Lower layers served by a program, which answers a second question otherwise than the first one; and a program
//! that serves a file of the union.

use crate::harness::*;
use crate::sys;
use crate::union::{is_overlayfs, Union};
use fuser::{
    BackingId, Errno as Refused, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request, WriteFlags,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

const SIZE: u64 = 256 << 10;
const NAME: &str = "trusted.x";

/// What is wrong with the file "f" of a layer.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    /// Its attribute is longer when the value is read than when its length is asked for.
    Grows,
    /// Its attribute is listed and has no value.
    Vanishes,
    /// Its second half cannot be read.
    Unreadable,
    /// Its directory lists it with an inode number of all ones.
    Numbered,
}

/// A layer with one file.
struct Layer {
    trouble: Trouble,
    /// A length was asked for.
    asked: AtomicBool,
}

impl Layer {
    /// Runs a test on a union above such a layer.
    fn under(ctx: &Ctx, trouble: Trouble, test: impl FnOnce(&Union) -> Res) -> Res {
        let layer = Layer {
            trouble,
            asked: AtomicBool::new(false),
        };
        let mut u = Union::new(ctx)?;
        u.lowers[0] = ctx.tmp.join("served");
        sys::mkdir(&u.lowers[0])?;
        let served = fuser::spawn_mount(layer, &u.lowers[0], &fuser::Config::default())?;
        u.mount()?;
        test(&u)?;
        u.umount()?;
        Ok(served.umount_and_join()?)
    }

    fn attr(ino: u64) -> FileAttr {
        let kind = match ino {
            1 => FileType::Directory,
            _ => FileType::RegularFile,
        };
        FileAttr {
            ino: INodeNo(ino),
            size: if ino == 1 { 0 } else { SIZE },
            blocks: SIZE / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }

    /// The answer to a question for `value`, with room for `size` bytes.
    fn answer(value: &[u8], size: u32, reply: ReplyXattr) {
        match size {
            0 => reply.size(value.len() as u32),
            n if value.len() > n as usize => reply.error(Refused::ERANGE),
            _ => reply.data(value),
        }
    }
}

const LONG: Duration = Duration::from_secs(3600);

impl Filesystem for Layer {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match (parent, name.to_str()) {
            (INodeNo::ROOT, Some("f")) => reply.entry(&LONG, &Layer::attr(2), Generation(0)),
            _ => reply.error(Refused::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LONG, &Layer::attr(ino.into()));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let end = SIZE.min(offset + u64::from(size));
        if self.trouble == Trouble::Unreadable && end > SIZE / 2 {
            return reply.error(Refused::EIO);
        }
        reply.data(&vec![b'x'; end.saturating_sub(offset) as usize]);
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if offset == 0 {
            let ino = match self.trouble {
                Trouble::Numbered => INodeNo(u64::MAX),
                _ => INodeNo(2),
            };
            let _ = reply.add(ino, 1, FileType::RegularFile, "f");
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if ino == INodeNo::ROOT || name != NAME || self.trouble == Trouble::Vanishes {
            return reply.error(Refused::NO_XATTR);
        }
        // The first question, for the length, is answered too low.
        let first = size == 0 && !self.asked.swap(true, Ordering::Relaxed);
        let len = match self.trouble {
            Trouble::Grows if !first => 200,
            _ => 10,
        };
        Layer::answer(&[b'v'; 200][..len], size, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let list = match ino {
            INodeNo::ROOT => String::new(),
            _ => format!("{NAME}\0"),
        };
        Layer::answer(list.as_bytes(), size, reply);
    }
}

/// Copies the file up. overlayfs may give up when an attribute changes, and leaves nothing then.
fn copied_up(u: &Union) -> Res<bool> {
    match sys::chmod(&u.m("f"), 0o700) {
        Err(Errno::IO | Errno::NODATA) if is_overlayfs() => {
            check(!sys::exists(&u.u("f")), "nothing was copied up")?;
            Ok(false)
        }
        other => works(other, "a copy-up").map(|()| true),
    }
}

/// An attribute's value is longer than its length was: the copy has all of it, not what was in the buffer.
fn xattr_value_that_grows(ctx: &Ctx) -> Res {
    Layer::under(ctx, Trouble::Grows, |u| {
        if copied_up(u)? {
            same(sys::getx(&u.u("f"), NAME)?, [b'v'; 200], "the copy's value")?;
        }
        Ok(())
    })
}

/// An attribute that is listed is gone when it is read: it is left out.
fn xattr_that_vanishes(ctx: &Ctx) -> Res {
    Layer::under(ctx, Trouble::Vanishes, |u| {
        if copied_up(u)? {
            let value = sys::getx(&u.u("f"), NAME);
            fails(value, Errno::NODATA, "the copy's value")?;
        }
        Ok(())
    })
}

/// Half of a file can be copied: nothing of it is left.
fn unreadable_half(ctx: &Ctx) -> Res {
    Layer::under(ctx, Trouble::Unreadable, |u| {
        fails(sys::chmod(&u.m("f"), 0o700), Errno::IO, "a copy-up")?;
        check(!sys::exists(&u.u("f")), "nothing was copied up")?;
        u.work_is_empty()
    })
}

/// No inode number that a server lists hides the name.
fn any_inode_number_is_listed(ctx: &Ctx) -> Res {
    Layer::under(ctx, Trouble::Numbered, |u| {
        same(sys::names(&u.mnt)?, ["f"], "names")?;
        same(sys::names(&u.mnt)?, ["f"], "names, listed again")
    })
}

/// A filesystem whose file "f" is one of a union, which the kernel reads, writes and maps without asking.
struct Passing {
    file: PathBuf,
    /// Lives as long as the file is open.
    backing: OnceLock<BackingId>,
}

impl Filesystem for Passing {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let refused = |_| std::io::Error::other("no passthrough to a union");
        config
            .add_capabilities(InitFlags::FUSE_PASSTHROUGH)
            .map_err(refused)?;
        config
            .set_max_stack_depth(2)
            .map(drop)
            .map_err(|_| refused(InitFlags::empty()))
    }

    fn lookup(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.entry(&LONG, &Layer::attr(2), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LONG, &Layer::attr(ino.into()));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let file = File::options().read(true).write(true).open(&self.file);
        match file.and_then(|file| reply.open_backing(file)) {
            Ok(id) => {
                let id = self.backing.get_or_init(|| id);
                reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), id);
            }
            Err(e) => reply.error(e.into()),
        }
    }
}

/// A shared mapping of a file that FUSE passes on to a file that is in lower.
fn mapped_through_fuse(ctx: &Ctx) -> Res {
    let u = Union::with_file(ctx, "x".repeat(SIZE as usize))?;
    let layer = Passing {
        file: u.m("f"),
        backing: OnceLock::new(),
    };
    let at = ctx.tmp.join("passing");
    sys::mkdir(&at)?;
    let served = fuser::spawn_mount(layer, &at, &fuser::Config::default())?;
    let file = sys::open(&at.join("f"), OFlags::RDWR)?;
    let (prot, none) = (ProtFlags::READ | ProtFlags::WRITE, std::ptr::null_mut());
    // SAFETY: a new mapping, of a file that has the page.
    let map = unsafe { mmap(none, 4096, prot, MapFlags::SHARED, &file, 0) };
    let map = works(map, "a shared mapping")?;
    // SAFETY: just mapped.
    unsafe {
        map.cast::<u8>().write_volatile(b'!');
        munmap(map, 4096)?;
    }
    drop(file);
    served.umount_and_join()?;
    same(
        sys::read(&u.m("f"))?.first(),
        Some(&b'!'),
        "what was written",
    )?;
    same(sys::read(&u.l("f"))?.first(), Some(&b'x'), "the lower file")?;
    u.umount()
}

/// Where a server waits before it answers a write.
#[derive(Default)]
struct Gate {
    /// It is closed, and a write waits.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        self.state.lock().unwrap().0 = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 = state.0;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.0));
    }

    fn is_waited_at(&self) -> bool {
        let state = self.state.lock().unwrap();
        let (state, _) = (self.changed)
            .wait_timeout_while(state, PATIENCE, |state| !state.1)
            .unwrap();
        state.1
    }
}

/// How long to wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A layer with one file, whose data the kernel writes back when it is closed. Reads and writes of it pass a gate each.
struct Behind {
    reads: Arc<Gate>,
    writes: Arc<Gate>,
}

impl Filesystem for Behind {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        config
            .add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE)
            .map_err(|_| std::io::Error::other("no writeback cache"))
    }

    fn lookup(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.entry(&LONG, &Layer::attr(2), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LONG, &Layer::attr(ino.into()));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let gate = self.reads.clone();
        // Other questions are answered meanwhile.
        std::thread::spawn(move || {
            gate.pass();
            reply.data(&vec![b'x'; size as usize]);
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (gate, len) = (self.writes.clone(), data.len() as u32);
        std::thread::spawn(move || {
            gate.pass();
            reply.written(len);
        });
    }
}

/// Opens a file and writes its first byte.
fn write_first(path: &Path) -> Result<(), Errno> {
    let fd = sys::open(path, OFlags::RDWR)?;
    rustix::io::pwrite(&fd, b"!", 0).map(drop)
}

/// Who copies a file up closes that of lower in the end, which may take a server as long as it likes: nobody else who
/// writes waits for that, and upper can be frozen.
fn closing_holds_nobody_up(ctx: &Ctx) -> Res {
    let (reads, writes) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let behind = Behind {
        reads: reads.clone(),
        writes: writes.clone(),
    };
    let mut u = Union::new(ctx)?;
    u.lowers[0] = ctx.tmp.join("behind");
    sys::mkdir(&u.lowers[0])?;
    let config = fuser::Config::default();
    let served = fuser::spawn_mount(behind, &u.lowers[0], &config)?;
    let dirty = sys::open(&u.l("f"), OFlags::RDWR)?;
    u.mount()?;
    reads.set(true);
    let path = u.m("f");
    let first = std::thread::spawn(move || write_first(&path));
    let copying = reads.is_waited_at();
    // Not before the data is copied: asking for the file's flags closes it, too, before anything is locked.
    writes.set(true);
    rustix::io::pwrite(&dirty, &[b'd'; 4096], SIZE - 4096)?;
    reads.set(false);
    let closing = writes.is_waited_at();
    // The kernel may be writing back by itself: the first one needs some time to get there, too.
    std::thread::sleep(Duration::from_millis(500));
    let (path, top) = (u.m("f"), sys::open(&ctx.root, OFlags::RDONLY)?);
    let (tell, told) = channel();
    let second = std::thread::spawn(move || {
        let wrote = write_first(&path);
        let frozen = match sys::freeze(&top) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => other.and_then(|()| sys::thaw(&top)),
        };
        let _ = tell.send((wrote, frozen));
    });
    let seen = told.recv_timeout(PATIENCE);
    writes.set(false);
    works(first.join().unwrap(), "the first write")?;
    second.join().unwrap();
    drop(dirty);
    u.umount()?;
    served.umount_and_join()?;
    check(copying, "nobody copies the lower file")?;
    check(closing, "nobody closed the lower file")?;
    match seen {
        Err(_) => check(false, "a write waits for the closing of a lower file"),
        Ok((wrote, frozen)) => {
            works(wrote, "the second write")?;
            works(frozen, "freezing upper")
        }
    }
}

tests! {
    Tmpfs: xattr_value_that_grows, xattr_that_vanishes, unreadable_half, any_inode_number_is_listed,
        mapped_through_fuse, closing_holds_nobody_up;
    Ext4: unreadable_half, closing_holds_nobody_up;
}
