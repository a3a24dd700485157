// SPDX-License-Identifier: GPL-2.0

//! C functions that ask for no more than the types of their arguments say, declared so that they are called without `unsafe`.
//!
//! The signatures are those of the C functions, with references for pointers to what C reads or writes during the call alone,
//! and with our transparent wrappers for C's types.
//!
//! Each takes references, to objects that charter 1 keeps or to values of ours (charter 10), and numbers of any value. Where it
//! asks for more of an object that is a type ([`PositiveDentry`], [`LookupDir`], [`PlainLink`], [`PositivePath`]), and where it returns a
//! reference that is the caller's to give back, so is that ([`Ref`], [`FoundDentry`], [`FoundAcl`], [`NewFile`]). What else it
//! needs it checks itself, or it is no matter of memory: a count of links that is wrong, write access that is not given back.

use super::{
    acl::FoundAcl,
    attr::{FileAttr, Iattr, Stat, Times},
    cred::Capability,
    dentry::{FoundDentry, LookupDir, PlainLink, PositiveDentry, QStr},
    dirop::MayStart,
    file::NewFile,
    inode::Inode,
    mount::{IdMap, PositivePath},
    readdir::DirContext,
    refs::Ref,
    super_block::{StatFs, UserNs},
    sync::OpLock,
    Dentry, Mount, SuperBlock,
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    cred::Credential,
    ffi::{c_char, c_void},
    fs::{File, LocalFile},
    prelude::*,
    sync::atomic::Atomic,
};

/// A C string, borrowed for a call.
#[repr(transparent)]
pub(super) struct CArg<'a>(*const c_char, PhantomData<&'a CStr>);

impl<'a> From<&'a CStr> for CArg<'a> {
    #[inline]
    fn from(string: &'a CStr) -> Self {
        Self(string.as_char_ptr(), PhantomData)
    }
}

/// Whether a dentry that a handle leads to is what is looked for.
pub(super) type Acceptable = unsafe extern "C" fn(*mut c_void, *mut bindings::dentry) -> i32;

// The generated declarations of the same functions take pointers.
#[allow(
    clashing_extern_declarations,
    improper_ctypes,
    reason = "a reference is passed as a pointer, and the wrappers are transparent over the C types"
)]
unsafe extern "C" {
    // Files: how they were opened and what they are is checked by the calls.
    pub(super) safe fn backing_file_open(
        user: &LocalFile,
        flags: i32,
        path: &PositivePath<'_>,
        cred: &Credential,
    ) -> NewFile;
    pub(super) safe fn kernel_file_open(
        path: &PositivePath<'_>,
        flags: i32,
        cred: &Credential,
    ) -> NewFile;
    pub(super) safe fn do_splice_direct(
        from: &File,
        from_pos: &mut i64,
        to: &File,
        to_pos: &mut i64,
        len: usize,
        flags: u32,
    ) -> isize;
    pub(super) safe fn mm_get_unmapped_area(
        file: &LocalFile,
        addr: usize,
        len: usize,
        pgoff: usize,
        flags: usize,
    ) -> usize;
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
    pub(super) safe fn rovl_is_reading_watched(file: &LocalFile) -> bool;
    pub(super) safe fn rovl_in_compat_syscall() -> bool;
    pub(super) safe fn rovl_is_listing_watched(dentry: &Dentry, inode: &Inode) -> bool;
    pub(super) safe fn rovl_iterate_dir(dir: &File, ctx: DirContext<'_>) -> i32;
    pub(super) safe fn rovl_llseek(file: &File, offset: i64, whence: i32) -> i64;

    // Inodes: fields that may be read at any time, or that the calls lock.
    pub(super) safe fn clear_nlink(inode: &Inode);
    pub(super) safe fn d_find_alias(inode: &Inode) -> Option<Ref<'_, Dentry>>;
    pub(super) safe fn d_find_any_alias(inode: &Inode) -> Option<Ref<'_, Dentry>>;
    pub(super) safe fn d_obtain_alias(inode: Ref<'_, Inode>) -> FoundDentry<'_>;
    pub(super) safe fn drop_nlink(inode: &Inode);
    pub(super) safe fn generic_fill_statx_attr(inode: &Inode, stat: &mut Stat);
    pub(super) safe fn get_inode_acl(inode: &Inode, kind: i32) -> FoundAcl;
    pub(super) safe fn ihold(inode: &Inode);
    pub(super) safe fn in_group_or_capable(
        idmap: &IdMap,
        inode: &Inode,
        gid: bindings::vfsgid_t,
    ) -> bool;
    pub(super) safe fn inc_nlink(inode: &Inode);
    pub(super) safe fn inode_owner_or_capable(idmap: &IdMap, inode: &Inode) -> bool;
    pub(super) safe fn inode_permission(idmap: &IdMap, inode: &Inode, mask: i32) -> i32;
    pub(super) safe fn inode_set_flags(inode: &Inode, flags: u32, mask: u32);
    pub(super) safe fn rovl_copy_atime(to: &Inode, from: &Inode) -> bool;
    pub(super) safe fn rovl_copy_mctime(to: &Inode, from: &Inode);
    pub(super) safe fn rovl_copyattr(to: &Inode, from: &Inode, idmap: &IdMap);
    pub(super) safe fn rovl_get_write_access(inode: &Inode) -> i32;
    pub(super) safe fn rovl_has_dentry(inode: &Inode) -> bool;
    pub(super) safe fn rovl_has_hashed_alias(inode: &Inode, except: &Dentry) -> bool;
    pub(super) safe fn rovl_i_size_read(inode: &Inode) -> i64;
    pub(super) safe fn rovl_ids_mapped(stat: &Stat) -> bool;
    pub(super) safe fn rovl_inode_is_new(inode: &Inode) -> bool;
    pub(super) safe fn rovl_inode_lockdep(inode: &Inode, dir: bool, depth: i32);
    pub(super) safe fn rovl_inode_set_creating(inode: &Inode);
    pub(super) safe fn rovl_tells_changes(inode: &Inode) -> bool;
    pub(super) safe fn rovl_change_count(inode: &Inode) -> u64;
    pub(super) safe fn rovl_is_dir_end(dir: &Inode, pos: i64) -> bool;
    pub(super) safe fn rovl_inode_times(inode: &Inode) -> Times;
    pub(super) safe fn rovl_inuse_trylock(inode: &Inode) -> bool;
    pub(super) safe fn rovl_inuse_unlock(inode: &Inode);
    pub(super) safe fn rovl_is_encrypted(inode: &Inode) -> bool;
    pub(super) safe fn rovl_is_inuse(inode: &Inode) -> bool;
    pub(super) safe fn rovl_is_dirty(inode: &Inode) -> bool;
    pub(super) safe fn rovl_is_magic_link(inode: &Inode) -> bool;
    pub(super) safe fn rovl_is_whiteout(inode: &Inode) -> bool;
    pub(super) safe fn rovl_remove_inode_hash(inode: &Inode);
    pub(super) safe fn rovl_write_back(inode: &Inode, wait: bool) -> i32;
    pub(super) safe fn rovl_verity_is_unread(inode: &Inode) -> bool;
    pub(super) safe fn rovl_verity_digest(
        inode: &Inode,
        digest: &mut [u8; 64],
        algorithm: &mut u8,
    ) -> i32;
    pub(super) safe fn set_nlink(inode: &Inode, nlink: u32);

    // Dentries: of any kind.
    pub(super) safe fn d_drop(dentry: &Dentry);
    pub(super) safe fn d_invalidate(dentry: &Dentry);
    pub(super) safe fn dget_parent(dentry: &Dentry) -> Ref<'_, Dentry>;
    pub(super) safe fn is_subdir(dentry: &Dentry, ancestor: &Dentry) -> bool;
    pub(super) safe fn rovl_casefolded(dentry: &Dentry) -> bool;
    pub(super) safe fn rovl_d_negative_acquire(dentry: &Dentry) -> bool;
    pub(super) safe fn rovl_d_in_lookup(dentry: &Dentry) -> bool;
    pub(super) safe fn rovl_dget(dentry: &Dentry) -> *mut bindings::dentry;
    pub(super) safe fn rovl_d_unhashed(dentry: &Dentry) -> bool;

    // Dentries that have an inode.
    pub(super) safe fn rovl_security_inode_copy_up(
        source: &PositiveDentry,
        new: &mut *mut bindings::cred,
    ) -> i32;
    pub(super) safe fn rovl_security_inode_copy_up_xattr(
        source: &PositiveDentry,
        name: CArg<'_>,
    ) -> i32;
    pub(super) safe fn setattr_prepare(
        idmap: &IdMap,
        dentry: &PositiveDentry,
        attr: &mut Iattr,
    ) -> i32;
    pub(super) safe fn vfs_fileattr_get(dentry: &PositiveDentry, fa: &mut FileAttr) -> i32;
    pub(super) safe fn vfs_fileattr_set(
        idmap: &IdMap,
        dentry: &PositiveDentry,
        fa: &mut FileAttr,
    ) -> i32;
    pub(super) safe fn vfs_get_acl(
        idmap: &IdMap,
        dentry: &PositiveDentry,
        name: CArg<'_>,
    ) -> FoundAcl;
    pub(super) safe fn vfs_get_link(
        dentry: &PlainLink,
        done: &mut bindings::delayed_call,
    ) -> *const c_char;
    pub(super) safe fn vfs_remove_acl(
        idmap: &IdMap,
        dentry: &PositiveDentry,
        name: CArg<'_>,
    ) -> i32;
    pub(super) safe fn vfs_removexattr(
        idmap: &IdMap,
        dentry: &PositiveDentry,
        name: CArg<'_>,
    ) -> i32;

    // Directories: they are locked by the calls, but for that of `lookup_one()`, whose lock keeps others from the name.
    pub(super) safe fn lookup_one<'a>(
        idmap: &IdMap,
        name: &mut QStr<'_>,
        dir: &'a LookupDir,
    ) -> FoundDentry<'a>;
    pub(super) safe fn lookup_one_positive_killable<'a>(
        idmap: &IdMap,
        name: &mut QStr<'_>,
        dir: &'a LookupDir,
    ) -> FoundDentry<'a>;
    pub(super) safe fn lookup_one_unlocked<'a>(
        idmap: &IdMap,
        name: &mut QStr<'_>,
        dir: &'a LookupDir,
    ) -> FoundDentry<'a>;
    pub(super) safe fn lookup_noperm_unlocked<'a>(
        name: &mut QStr<'_>,
        dir: &'a LookupDir,
    ) -> FoundDentry<'a>;
    pub(super) safe fn start_creating<'a>(
        idmap: &IdMap,
        dir: &'a LookupDir,
        name: &mut QStr<'_>,
    ) -> MayStart<'a>;
    pub(super) safe fn start_removing<'a>(
        idmap: &IdMap,
        dir: &'a LookupDir,
        name: &mut QStr<'_>,
    ) -> MayStart<'a>;
    pub(super) safe fn start_removing_dentry<'a>(
        dir: &'a LookupDir,
        child: &Dentry,
    ) -> MayStart<'a>;

    // Paths whose dentry has an inode.
    pub(super) safe fn rovl_getattr(
        path: &PositivePath<'_>,
        stat: &mut Stat,
        mask: u32,
        flags: u32,
    ) -> i32;
    pub(super) safe fn touch_atime(path: &PositivePath<'_>);
    pub(super) safe fn vfs_statfs(path: &PositivePath<'_>, buf: &mut StatFs) -> i32;

    // Mounts and super blocks.
    pub(super) safe fn errseq_check(seq: &Atomic<u32>, since: u32) -> i32;
    pub(super) safe fn errseq_check_and_advance(seq: &Atomic<u32>, since: &mut u32) -> i32;
    pub(super) safe fn errseq_sample(seq: &Atomic<u32>) -> u32;
    pub(super) safe fn errseq_set(seq: &Atomic<u32>, err: i32) -> u32;
    pub(super) safe fn from_vfsgid(
        idmap: &IdMap,
        ns: &UserNs,
        gid: bindings::vfsgid_t,
    ) -> bindings::kgid_t;
    pub(super) safe fn from_vfsuid(
        idmap: &IdMap,
        ns: &UserNs,
        uid: bindings::vfsuid_t,
    ) -> bindings::kuid_t;
    pub(super) safe fn make_vfsgid(
        idmap: &IdMap,
        ns: &UserNs,
        gid: bindings::kgid_t,
    ) -> bindings::vfsgid_t;
    pub(super) safe fn make_vfsuid(
        idmap: &IdMap,
        ns: &UserNs,
        uid: bindings::kuid_t,
    ) -> bindings::vfsuid_t;
    pub(super) safe fn mntget(mnt: &Mount) -> *mut bindings::vfsmount;
    pub(super) safe fn rovl_ids_fit(stat: &Stat, mnt: &Mount) -> bool;
    pub(super) safe fn rovl_sb_set_uuid(sb: &SuperBlock, uuid: &[u8; 16]);
    pub(super) safe fn rovl_sb_start_write(sb: &SuperBlock);
    pub(super) safe fn rovl_shrink_is_global(control: &bindings::shrink_control) -> bool;
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
    pub(super) safe fn rovl_commits_apart(sb: &SuperBlock) -> bool;
    pub(super) safe fn rovl_commit(sb: &SuperBlock) -> i32;
    pub(super) safe fn rovl_uuid_to_fsid(sb: &SuperBlock, buf: &mut StatFs);
    pub(super) safe fn uuid_gen(uuid: &mut bindings::uuid_t);

    // The current task and the system.
    pub(super) safe fn capable(cap: Capability) -> bool;
    pub(super) safe fn fsnotify_wait_marks_destroyed();
    pub(super) safe fn get_random_u64() -> u64;
    pub(super) safe fn prepare_creds() -> *mut bindings::cred;
    pub(super) safe fn rovl_oplock_class(lock: &OpLock, depth: i32);
    pub(super) safe fn rovl_oplock_killable(lock: &OpLock) -> i32;
    pub(super) safe fn rovl_oplock_lock(lock: &OpLock);
    pub(super) safe fn rovl_can_splice() -> bool;
    pub(super) safe fn rovl_capable_sysadmin_noaudit() -> bool;
    pub(super) safe fn rovl_cond_resched();
    pub(super) safe fn rovl_cred_drop_sys_resource(cred: &mut bindings::cred);
    pub(super) safe fn rovl_current_real_cred() -> *const bindings::cred;
    pub(super) safe fn rovl_fatal_signal_pending() -> bool;
    pub(super) safe fn rovl_leave_text();
    pub(super) safe fn rovl_in_execve() -> bool;
    pub(super) safe fn rovl_ratelimit(site: u32) -> bool;
    pub(super) safe fn rovl_task_has_fs() -> bool;

    // What asks for more than a type says, with what it returns as a type.

    /// # Safety
    ///
    /// `mode` is that of a regular file, and the task has a umask (`task_has_fs()`).
    pub(super) fn backing_tmpfile_open(
        user: &LocalFile,
        flags: i32,
        parent: &PositivePath<'_>,
        mode: u16,
        cred: &Credential,
    ) -> NewFile;

    /// # Safety
    ///
    /// `inode` is being made; the type in `mode` is its own.
    pub(super) fn inode_init_owner(idmap: &IdMap, inode: &Inode, dir: &Inode, mode: u16);

    /// # Safety
    ///
    /// `fid` has `words` words; `acceptable`, if there is one, takes a dentry of `mnt` and the context.
    pub(super) fn exportfs_decode_fh<'a>(
        mnt: &'a Mount,
        fid: *mut bindings::fid,
        words: i32,
        kind: i32,
        acceptable: Option<Acceptable>,
        context: *const c_void,
    ) -> FoundDentry<'a>;

    /// # Safety
    ///
    /// As for [`backing_tmpfile_open`].
    pub(super) fn kernel_tmpfile_open(
        idmap: &IdMap,
        parent: &PositivePath<'_>,
        mode: u16,
        flags: i32,
        cred: &Credential,
    ) -> NewFile;
}
