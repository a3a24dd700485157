// SPDX-License-Identifier: GPL-2.0

//! C functions that ask for no more than the types of their arguments say, declared so that they are called without `unsafe`.
//!
//! The signatures are those of the C functions, with references for pointers to what C reads or writes during the call alone,
//! and with our transparent wrappers for C's types.
//!
//! Each takes references, to objects that charter 1 keeps or to values of ours (charter 10), and numbers of any value. What
//! else it needs it checks itself, or it is no matter of memory: a caller that gets something to give back (write access, a
//! reference) makes a guard of it.

use super::{
    attr::Stat, inode::Inode, mount::IdMap, super_block::StatFs, Dentry, Mount, SuperBlock,
};
use crate::bindings;
use kernel::fs::File;

// The generated declarations of the same functions take pointers.
#[allow(
    clashing_extern_declarations,
    improper_ctypes,
    reason = "a reference is passed as a pointer, and the wrappers are transparent over the C types"
)]
unsafe extern "C" {
    // Files: how they were opened and what they are is checked by the calls.
    pub(super) safe fn do_splice_direct(
        from: &File,
        from_pos: &mut i64,
        to: &File,
        to_pos: &mut i64,
        len: usize,
        flags: u32,
    ) -> isize;
    pub(super) safe fn rovl_file_set_flags(file: &File, mask: u32, flags: u32);
    pub(super) safe fn rovl_security_file_ioctl(file: &File, cmd: u32) -> i32;
    pub(super) safe fn rw_verify_area(rw: i32, file: &File, pos: &i64, len: usize) -> i32;
    pub(super) safe fn vfs_clone_file_range(
        from: &File,
        from_pos: i64,
        to: &File,
        to_pos: i64,
        len: i64,
        flags: u32,
    ) -> i64;
    pub(super) safe fn vfs_copy_file_range(
        from: &File,
        from_pos: i64,
        to: &File,
        to_pos: i64,
        len: usize,
        flags: u32,
    ) -> isize;
    pub(super) safe fn vfs_dedupe_file_range_one(
        from: &File,
        from_pos: i64,
        to: &File,
        to_pos: i64,
        len: i64,
        flags: u32,
    ) -> i64;
    pub(super) safe fn vfs_fadvise(file: &File, offset: i64, len: i64, advice: i32) -> i32;
    pub(super) safe fn vfs_fallocate(file: &File, mode: i32, offset: i64, len: i64) -> i32;
    pub(super) safe fn vfs_fsync_range(file: &File, start: i64, end: i64, datasync: i32) -> i32;
    pub(super) safe fn vfs_llseek(file: &File, offset: i64, whence: i32) -> i64;

    // Inodes: fields that may be read at any time, or that the calls lock.
    pub(super) safe fn generic_fill_statx_attr(inode: &Inode, stat: &mut Stat);
    pub(super) safe fn get_inode_acl(inode: &Inode, kind: i32) -> *mut bindings::posix_acl;
    pub(super) safe fn inode_owner_or_capable(idmap: &IdMap, inode: &Inode) -> bool;
    pub(super) safe fn inode_permission(idmap: &IdMap, inode: &Inode, mask: i32) -> i32;
    pub(super) safe fn inode_set_flags(inode: &Inode, flags: u32, mask: u32);
    pub(super) safe fn rovl_get_write_access(inode: &Inode) -> i32;
    pub(super) safe fn rovl_i_size_read(inode: &Inode) -> i64;
    pub(super) safe fn rovl_ids_mapped(stat: &Stat) -> bool;
    pub(super) safe fn rovl_inode_times(inode: &Inode, stat: &mut Stat);
    pub(super) safe fn rovl_is_encrypted(inode: &Inode) -> bool;
    pub(super) safe fn rovl_is_whiteout(inode: &Inode) -> bool;

    // Dentries: of any kind.
    pub(super) safe fn d_drop(dentry: &Dentry);
    pub(super) safe fn d_invalidate(dentry: &Dentry);
    pub(super) safe fn is_subdir(dentry: &Dentry, ancestor: &Dentry) -> bool;
    pub(super) safe fn rovl_d_negative_acquire(dentry: &Dentry) -> bool;
    pub(super) safe fn rovl_d_in_lookup(dentry: &Dentry) -> bool;
    pub(super) safe fn rovl_d_unhashed(dentry: &Dentry) -> bool;

    // Mounts and super blocks.
    pub(super) safe fn __mnt_is_readonly(mnt: &Mount) -> bool;
    pub(super) safe fn get_anon_bdev(dev: &mut u32) -> i32;
    pub(super) safe fn mnt_get_write_access(mnt: &Mount) -> i32;
    pub(super) safe fn mnt_want_write(mnt: &Mount) -> i32;
    pub(super) safe fn rovl_can_fold_case(sb: &SuperBlock) -> bool;
    pub(super) safe fn rovl_fh_kind(sb: &SuperBlock) -> i32;
    pub(super) safe fn rovl_folds_alike(sb: &SuperBlock, other: &SuperBlock) -> bool;
    pub(super) safe fn rovl_folds_strictly(sb: &SuperBlock) -> bool;
    pub(super) safe fn rovl_is_ordinary(sb: &SuperBlock) -> bool;
    pub(super) safe fn rovl_sb_asks_listeners(sb: &SuperBlock) -> bool;
    pub(super) safe fn rovl_sync_upper(sb: &SuperBlock) -> i32;
    pub(super) safe fn rovl_uuid_to_fsid(sb: &SuperBlock, buf: &mut StatFs);
    pub(super) safe fn uuid_gen(uuid: &mut bindings::uuid_t);

    // The current task and the system.
    pub(super) safe fn fsnotify_wait_marks_destroyed();
    pub(super) safe fn get_random_u64() -> u64;
    pub(super) safe fn prepare_creds() -> *mut bindings::cred;
    pub(super) safe fn rovl_can_splice() -> bool;
    pub(super) safe fn rovl_capable_sysadmin_noaudit() -> bool;
    pub(super) safe fn rovl_cond_resched();
    pub(super) safe fn rovl_current_real_cred() -> *const bindings::cred;
    pub(super) safe fn rovl_fatal_signal_pending() -> bool;
    pub(super) safe fn rovl_in_execve() -> bool;
    pub(super) safe fn rovl_ratelimit() -> bool;
}
