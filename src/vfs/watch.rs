// SPDX-License-Identifier: GPL-2.0

//! Watching directories for changes of their entries, whoever makes them.
//!
//! C header: `include/linux/fsnotify_backend.h`. The VFS reports an entry's creation, removal or move
//! before the system call that made it returns, so what was learnt from a directory that has been
//! watched since, and for which nothing was reported, is what it holds.

use super::Inode;
use crate::bindings;
use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        Arc,
    },
    time::{delay::fsleep, Delta},
};

/// Entries created, removed or moved; permissions of the directory itself.
const EVENTS: u32 =
    bindings::FS_CREATE | bindings::FS_DELETE | bindings::FS_MOVE | bindings::FS_ATTRIB;

/// The module's group of marks; null without `CONFIG_FSNOTIFY`.
static GROUP: AtomicPtr<bindings::fsnotify_group> = AtomicPtr::new(ptr::null_mut());

/// How many marks have not been freed: others may hold one, as fanotify does while a program thinks about an event.
static MARKS: AtomicUsize = AtomicUsize::new(0);

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
    // SAFETY: marks of the group are made by `Watch::add` alone; fsnotify keeps the mark for the call.
    unsafe { &(*mark.cast::<Mark>()).changed }.store(true, Release);
    0
}

/// # Safety
///
/// As for [`handle`]; nobody uses the mark any more.
unsafe extern "C" fn free(mark: *mut bindings::fsnotify_mark) {
    // SAFETY: the last reference is gone: the box that `Watch::add` gave away comes back.
    drop(unsafe { KBox::from_raw(mark.cast::<Mark>()) });
    MARKS.fetch_sub(1, Ordering::Release);
}

/// The group of marks is there; it is one a module.
pub(super) struct Watching(());

/// Whether there is one.
static WATCHING: AtomicBool = AtomicBool::new(false);

impl Watching {
    /// Makes the group; its absence is not an error.
    ///
    /// # Errors
    ///
    /// `EBUSY` where it was made before.
    pub(super) fn start() -> Result<Self> {
        if WATCHING.swap(true, Ordering::AcqRel) {
            return Err(EBUSY);
        }
        start();
        Ok(Self(()))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        stop();
        WATCHING.store(false, Ordering::Release);
    }
}

fn start() {
    #[cfg(CONFIG_FSNOTIFY)]
    // SAFETY: the operations are static. Marks may be many on one inode: mounts share layers.
    if let Ok(group) = from_err_ptr(unsafe {
        bindings::fsnotify_alloc_group(&OPERATIONS, bindings::FSNOTIFY_GROUP_DUPS as i32)
    }) {
        GROUP.store(group, Ordering::Release);
    }
}

/// Gives the group up once all watches are dropped, and waits for the last callback.
fn stop() {
    #[cfg(CONFIG_FSNOTIFY)]
    if let Some(group) = NonNull::new(GROUP.swap(ptr::null_mut(), Ordering::AcqRel)) {
        // SAFETY: the group was ours; marks hold references of their own until they are freed.
        unsafe { bindings::fsnotify_put_group(group.as_ptr()) };
        while MARKS.load(Ordering::Acquire) != 0 {
            fsleep(Delta::from_millis(10));
        }
        // SAFETY: no contract; it waits for the work that called `free` last to leave it.
        unsafe { bindings::fsnotify_wait_marks_destroyed() };
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

// SAFETY: marks may be destroyed from any thread.
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
        let group = NonNull::new(GROUP.load(Ordering::Acquire)).ok_or(EOPNOTSUPP)?;
        self.marks.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let mark = KBox::new(
            Mark {
                mark: pin_init::zeroed(),
                changed: self.changed.clone(),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let mark = NonNull::from(KBox::leak(mark)).cast::<bindings::fsnotify_mark>();
        MARKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the group lives while the type is registered. The mark is initialised, then
        // attached; where that fails, the reference taken by the initialisation is given back, which
        // frees the box.
        unsafe {
            bindings::fsnotify_init_mark(mark.as_ptr(), group.as_ptr());
            (*mark.as_ptr()).mask = EVENTS;
            let attached = to_result(bindings::fsnotify_add_mark(
                mark.as_ptr(),
                dir.as_ptr().cast(),
                bindings::FSNOTIFY_OBJ_TYPE_INODE as u32,
                0,
            ));
            if let Err(e) = attached {
                bindings::fsnotify_put_mark(mark.as_ptr());
                return Err(e);
            }
        }
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
            // SAFETY: by the type invariant we own a reference; the group is that of the mark.
            unsafe {
                bindings::fsnotify_destroy_mark(mark, (*mark).group);
                bindings::fsnotify_put_mark(mark);
            }
        }
    }
}
