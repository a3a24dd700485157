// SPDX-License-Identifier: GPL-2.0

//! Writing back what was written to the objects behind the inodes of a stacked filesystem, and nothing else.
//!
//! Nobody takes notes of writes: the page cache knows which files have data to be written back, whoever wrote it, by a
//! request, through a mapping or by a copy. The inodes of ours that are in memory lead to those files; an inode that is
//! dropped while its file has such data leaves the file in [`Left`].
//!
//! C headers: `include/linux/fs.h`, `include/linux/pagemap.h`.

use super::{
    callback::RawInode, calls, fs::FileSystem, inode::InodeId, own::InodeBox, super_ops::SuperBox,
    to_result, Inode, OwnSuper, Ref,
};
use crate::bindings;
use core::ptr;
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::{
        atomic::{Atomic, Full, Relaxed},
        SpinLock,
    },
};

impl Inode {
    /// Whether it has data that is to be written back, or is being.
    #[inline]
    fn is_dirty(&self) -> bool {
        calls::rovl_is_dirty(self)
    }

    /// As [`is_dirty`](Self::is_dirty), of a file that has a name: without one it would not outlive a crash.
    #[inline]
    fn needs_writeback(&self) -> bool {
        self.nlink() > 0 && self.is_dirty()
    }

    /// Has dirty data written back, and waits for it if `wait`.
    fn write_back(&self, wait: bool) -> Result {
        if !self.needs_writeback() {
            return Ok(());
        }
        to_result(calls::rovl_write_back(self, wait))
    }
}

/// Inodes in the layer that can be written that had dirty data when the inode of ours was dropped that led there. Who writes
/// to one again does so by another inode of ours.
#[pin_data]
pub(super) struct Left {
    #[pin]
    inodes: SpinLock<RBTree<InodeId, Ref<'static, Inode>>>,
    /// How many.
    len: Atomic<usize>,
    /// Memory failed for one.
    is_lost: Atomic<bool>,
    /// Anything is kept.
    is_used: bool,
}

impl Left {
    /// Nothing yet.
    pub(super) fn new(is_used: bool) -> impl PinInit<Self> {
        pin_init!(Self {
            inodes <- new_spinlock!(RBTree::new(), "rovl_left"),
            len: Atomic::new(0),
            is_lost: Atomic::new(false),
            is_used,
        })
    }

    /// Keeps `inode`. Called under a spinlock.
    ///
    /// # Safety
    ///
    /// The super block of `inode` lives until [`clear`](Self::clear) was called for the last time.
    unsafe fn keep(&self, inode: &Inode) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&inode.id()).is_some() {
            return;
        }
        let Ok(room) = RBTreeNodeReservation::new(GFP_NOWAIT | __GFP_NOWARN) else {
            self.is_lost.store(true, Relaxed);
            return;
        };
        // SAFETY: by the contract.
        let kept = unsafe { Ref::from(inode).kept_for() };
        inodes.insert(room.into_node(inode.id(), kept));
        self.len.fetch_add(1usize, Relaxed);
    }

    /// Forgets `inode` if it is clean or removed; returns whether it was there. May sleep.
    #[inline]
    fn settle(&self, inode: &Inode) -> bool {
        self.len.load(Relaxed) != 0 && self.settle_kept(inode)
    }

    fn settle_kept(&self, inode: &Inode) -> bool {
        let mut inodes = self.inodes.lock();
        // Under the lock: who has made it dirty since leaves it here after.
        if inode.needs_writeback() {
            return false;
        }
        let Some(gone) = inodes.remove_node(&inode.id()) else {
            return false;
        };
        self.len.fetch_sub(1usize, Relaxed);
        drop(inodes);
        drop(gone);
        true
    }

    /// Calls `f` for each, up to `most`, and then forgets what is clean or removed; returns how many that were. May sleep.
    fn settle_each(&self, most: usize, mut f: impl FnMut(&Inode)) -> usize {
        let (mut at, mut settled) = (InodeId::default(), 0);
        for _ in 0..most {
            let Some(inode) = self.at_or_after(at) else {
                break;
            };
            f(&inode);
            settled += usize::from(self.settle(&inode));
            at = inode.id().next();
            calls::rovl_cond_resched();
        }
        settled
    }

    fn at_or_after(&self, at: InodeId) -> Option<Ref<'static, Inode>> {
        if self.len.load(Relaxed) == 0 {
            return None;
        }
        let inodes = self.inodes.lock();
        let cursor = inodes.cursor_lower_bound(&at)?;
        Some(cursor.current().1.clone())
    }

    /// How many objects there are for the shrinker.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Looks at up to `wanted` for those that were written back meanwhile; returns how many were forgotten.
    pub(super) fn shrink(&self, wanted: usize) -> usize {
        self.settle_each(wanted, |_| {})
    }

    /// Forgets all; may sleep.
    pub(super) fn clear(&self) {
        let all = core::mem::replace(&mut *self.inodes.lock(), RBTree::new());
        // Without the lock.
        drop(all);
        self.len.store(0, Relaxed);
    }
}

/// The last reference to `inode` was given back: it is about to be evicted. Does not sleep.
///
/// # Safety
///
/// Charter 3: an inode of `F`, whose `i_lock` is held, and whose super block has data.
pub(super) unsafe fn dropped<F: FileSystem>(inode: RawInode) {
    // SAFETY: charter 3: it is not destroyed yet.
    let Some(upper) = (unsafe { InodeBox::<F>::upper_inode(inode) }) else {
        return;
    };
    // SAFETY: charter 3 and 4: by the contract.
    let left = unsafe { SuperBox::<F>::left_of((*inode).i_sb) };
    if left.is_used && upper.needs_writeback() {
        // SAFETY: charter 4: the mounts, which keep the super block of what is behind inodes, go after what was left.
        unsafe { left.keep(upper) }
    }
}

/// `inode`, which was [`dropped`], is about to be destroyed: the last one that had removed its file, maybe.
///
/// # Safety
///
/// Charter 3: an inode of `F`, whose super block has data.
pub(super) unsafe fn destroyed<F: FileSystem>(inode: RawInode) {
    // SAFETY: charter 3: it is not destroyed yet.
    let Some(upper) = (unsafe { InodeBox::<F>::upper_inode(inode) }) else {
        return;
    };
    // SAFETY: charter 3 and 4: by the contract.
    unsafe { SuperBox::<F>::left_of((*inode).i_sb) }.settle(upper);
}

/// Whether the object behind `inode` is one that is written back, or may be written to at any time.
///
/// # Safety
///
/// Charter 3: an inode of `F` that is not destroyed during the call.
unsafe extern "C" fn is_wanted<F: FileSystem>(inode: RawInode) -> bool {
    // SAFETY: by the contract.
    let upper = unsafe { InodeBox::<F>::upper_inode(inode) };
    upper.is_some_and(|upper| upper.is_open_for_write() || upper.is_dirty())
}

impl<F: FileSystem> OwnSuper<F> {
    /// Calls `visit` for each inode in the layer that can be written that is behind one of ours and [wanted](is_wanted), and
    /// may be for others.
    fn visit(&self, mut visit: impl FnMut(&Inode)) {
        let mut at = ptr::null_mut();
        loop {
            let wanted: Option<unsafe extern "C" fn(_) -> bool> = Some(is_wanted::<F>);
            // SAFETY: charter 1 and 3: all inodes of the super block are of `F`, and not destroyed before they are off the
            // list, which is locked meanwhile. The reference to the last one is passed on.
            at = unsafe { bindings::rovl_next_inode(self.as_ptr(), at, wanted) };
            if at.is_null() {
                break;
            }
            // SAFETY: charter 3: it is referenced until it is passed on.
            if let Some(upper) = unsafe { InodeBox::<F>::upper_inode(at) } {
                visit(upper);
            }
        }
    }

    /// Makes durable what was changed through the mount before: the data of each file, and by one commit all the rest. The
    /// layer's filesystem [commits apart](super::SuperBlock::commits_apart). Returns whether more may be written without anybody being
    /// asked, for a file is open for writing or mapped so.
    ///
    /// # Errors
    ///
    /// Those of starting to write back and of the commit. What fails later is in the layer's counter of writeback errors.
    pub(crate) fn sync_layer(&self) -> Result<bool> {
        let upper = self.mounts().upper().ok_or(EROFS)?;
        let left = self.left();
        let (mut is_open, mut result) = (false, Ok(()));
        // All is started before any of it is waited for. What cannot be started may be given up, and clean from then on.
        let mut start = |inode: &Inode| result = result.and(inode.write_back(false));
        self.visit(&mut start);
        left.settle_each(usize::MAX, &mut start);
        self.visit(|inode| {
            is_open |= inode.is_open_for_write();
            result = result.and(inode.write_back(true));
        });
        // Last: what an inode leaves is there before the inode is gone.
        left.settle_each(usize::MAX, |inode| {
            result = result.and(inode.write_back(true));
        });
        let committed = match left.is_lost.xchg(false, Full) {
            false => upper.commit(),
            // It may be any file.
            true => {
                is_open = true;
                upper
                    .sync()
                    .inspect_err(|_| left.is_lost.store(true, Relaxed))
            }
        };
        result.and(committed)?;
        Ok(is_open)
    }
}
