// SPDX-License-Identifier: GPL-2.0

//! Watching directories for changes of their entries, whoever makes them.
//!
//! C header: `include/linux/fsnotify_backend.h`. The VFS reports an entry's creation, removal or move
//! before the system call that made it returns, so what was learnt from a directory that has been
//! watched since, and for which nothing was reported, is what it holds.

use super::{calls, to_result, Inode};
use crate::bindings;
use core::ptr::{self, NonNull};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        Arc,
    },
    time::{delay::fsleep, Delta},
};

/// Entries created, removed or moved; permissions of the directory itself.
const EVENTS: u32 =
    bindings::FS_CREATE | bindings::FS_DELETE | bindings::FS_MOVE | bindings::FS_ATTRIB;

/// The module's group of marks; null without `CONFIG_FSNOTIFY`.
static GROUP: Atomic<*mut bindings::fsnotify_group> = Atomic::new(ptr::null_mut());

/// How many marks have not been freed: others may hold one, as fanotify does while a program thinks about an event.
static MARKS: Atomic<usize> = Atomic::new(0);

/// One watched directory.
#[repr(C)]
struct Mark {
    mark: bindings::fsnotify_mark,
    changed: Arc<Atomic<bool>>,
}

static OPERATIONS: bindings::fsnotify_ops = bindings::fsnotify_ops {
    handle_inode_event: Some(handle),
    free_mark: Some(free),
    ..pin_init::zeroed()
};

/// # Safety
///
/// `mark` is the first field of a [`Mark`].
unsafe extern "C" fn handle(
    mark: *mut bindings::fsnotify_mark,
    _mask: u32,
    _inode: *mut bindings::inode,
    _dir: *mut bindings::inode,
    _name: *const bindings::qstr,
    _cookie: u32,
) -> kernel::ffi::c_int {
    // SAFETY: by the contract: marks of the group are made by `Watch::add` alone, and fsnotify keeps the mark for the call.
    let changed = unsafe { &(*mark.cast::<Mark>()).changed };
    changed.store(true, Release);
    0
}

/// # Safety
///
/// As for [`handle`]; nobody uses the mark any more.
unsafe extern "C" fn free(mark: *mut bindings::fsnotify_mark) {
    // SAFETY: by the contract the last reference is gone: the box that `Watch::add` gave away comes back.
    drop(unsafe { KBox::from_raw(mark.cast::<Mark>()) });
    MARKS.fetch_sub(1, Release);
}

/// The group of marks is there; it is one a module.
pub(super) struct Watching(());

/// Whether there is one.
static WATCHING: Atomic<bool> = Atomic::new(false);

impl Watching {
    /// Makes the group; its absence is not an error.
    ///
    /// # Errors
    ///
    /// `EBUSY` where it was made before.
    pub(super) fn start() -> Result<Self> {
        if WATCHING.xchg(true, Full) {
            return Err(EBUSY);
        }
        start();
        Ok(Self(()))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        stop();
        WATCHING.store(false, Release);
    }
}

fn start() {
    #[cfg(CONFIG_FSNOTIFY)]
    // SAFETY: the operations are static, and `stop` waits for their last call before they go. Marks may be many on one
    // inode: mounts share layers.
    if let Ok(group) = from_err_ptr(unsafe {
        bindings::fsnotify_alloc_group(&OPERATIONS, bindings::FSNOTIFY_GROUP_DUPS as i32)
    }) {
        GROUP.store(group, Release);
    }
}

/// Gives the group up once all watches are dropped, and waits for the last callback.
fn stop() {
    #[cfg(CONFIG_FSNOTIFY)]
    if let Some(group) = NonNull::new(GROUP.xchg(ptr::null_mut(), Full)) {
        while MARKS.load(Acquire) != 0 {
            fsleep(Delta::from_millis(10));
        }
        calls::fsnotify_wait_marks_destroyed();
        // SAFETY: the reference that `start` got is given up here; no mark is left, nor whoever makes one.
        unsafe { bindings::fsnotify_put_group(group.as_ptr()) };
    }
}

/// Directories that are watched for changes of their entries.
///
/// # Invariants
///
/// Each pointer owns a reference to an attached [`Mark`] whose `changed` is that of the value.
pub(crate) struct Watch {
    changed: Arc<Atomic<bool>>,
    marks: KVec<NonNull<Mark>>,
}

// SAFETY: fsnotify lets marks be destroyed from any thread.
unsafe impl Send for Watch {}
// SAFETY: only the flag is read through a shared reference.
unsafe impl Sync for Watch {}

impl Watch {
    /// Watches `dirs`; may sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the kernel has no fsnotify, `ENOMEM`.
    pub(crate) fn new<'a>(dirs: impl Iterator<Item = Result<&'a Inode>>) -> Result<Self> {
        let mut watch = Self {
            changed: Arc::new(Atomic::new(false), GFP_KERNEL_ACCOUNT)?,
            marks: KVec::new(),
        };
        for dir in dirs {
            watch.add(dir?)?;
        }
        Ok(watch)
    }

    #[cfg(CONFIG_FSNOTIFY)]
    fn add(&mut self, dir: &Inode) -> Result {
        self.marks.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let mark = KBox::new(
            Mark {
                mark: pin_init::zeroed(),
                changed: self.changed.clone(),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        // Counted before the group is looked for: `stop` takes the group away before it waits for the count.
        MARKS.fetch_add(1, Full);
        let Some(group) = NonNull::new(GROUP.load(Acquire)) else {
            MARKS.fetch_sub(1, Release);
            return Err(EOPNOTSUPP);
        };
        let mark = NonNull::from(KBox::leak(mark)).cast::<bindings::fsnotify_mark>();
        // SAFETY: the mark is ours alone; `stop` gives the group up once the mark, which is counted, was freed.
        unsafe { bindings::fsnotify_init_mark(mark.as_ptr(), group.as_ptr()) };
        // SAFETY: the mark is not attached yet, so that nobody else uses it.
        unsafe { (*mark.as_ptr()).mask = EVENTS };
        let dir = dir.as_ptr().cast();
        let kind = bindings::FSNOTIFY_OBJ_TYPE_INODE as u32;
        // SAFETY: charter 1: the inode is referenced, the kind is that of an inode; the mark is initialised.
        let attached = unsafe { bindings::fsnotify_add_mark(mark.as_ptr(), dir, kind, 0) };
        if let Err(e) = to_result(attached) {
            // SAFETY: the reference that the initialisation took is given up, which frees the box by `free`.
            unsafe { bindings::fsnotify_put_mark(mark.as_ptr()) };
            return Err(e);
        }
        // INVARIANT: the mark is attached, has our flag, and its reference is ours.
        Ok(self.marks.push(mark.cast(), GFP_KERNEL_ACCOUNT)?)
    }

    #[cfg(not(CONFIG_FSNOTIFY))]
    fn add(&mut self, _dir: &Inode) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Whether any of the directories has changed since.
    #[inline]
    pub(crate) fn changed(&self) -> bool {
        self.changed.load(Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        #[cfg(CONFIG_FSNOTIFY)]
        for mark in &self.marks {
            let mark = mark.as_ptr().cast::<bindings::fsnotify_mark>();
            // SAFETY: by the type invariant we own a reference; the group of a mark does not change.
            let group = unsafe { (*mark).group };
            // SAFETY: by the type invariant we own a reference; the mark references its group.
            unsafe { bindings::fsnotify_destroy_mark(mark, group) };
            // SAFETY: the reference that we own is given up here.
            unsafe { bindings::fsnotify_put_mark(mark) };
        }
    }
}
