// SPDX-License-Identifier: GPL-2.0
/*
 * The C shim: kernel inline functions and macros that Rust cannot call (see rovl_helpers.h).
 */

#include <linux/buffer_head.h>
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/exportfs.h>
#include <linux/fs_context.h>
#include <linux/fsnotify.h>
#include <linux/fsverity.h>
#include <linux/iversion.h>
#include <linux/magic.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pipe_fs_i.h>
#include <linux/posix_acl.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/statfs.h>
#include <linux/unicode.h>
#include <linux/user_namespace.h>
#include <linux/uuid.h>

#include "rovl_helpers.h"

/* Where ext4's super block is on the device, where the first two of its words of features are, and a flag in each. */
#define ROVL_EXT4_SUPER		 1024
#define ROVL_EXT4_FEATURES	 0x5c
#define ROVL_EXT4_HAS_JOURNAL	 0x4
#define ROVL_EXT4_NEEDS_RECOVERY 0x4

/*
 * Forced, for LLVM's own judgement compares target features that rustc and clang spell differently
 * (see rust/helpers/helpers.c).
 */
#define rovl_inline __always_inline

#ifdef ROVL_DROP_IN
MODULE_ALIAS_FS("overlay");
#else
MODULE_ALIAS_FS("rovl");
#endif

/* As overlayfs of the same kernel has them, so that what a layer says means the same to both. */
static bool redirect_dir = IS_ENABLED(CONFIG_OVERLAY_FS_REDIRECT_DIR);
module_param(redirect_dir, bool, 0644);
MODULE_PARM_DESC(redirect_dir, "Default of the mount option redirect_dir");

static bool redirect_always_follow = IS_ENABLED(CONFIG_OVERLAY_FS_REDIRECT_ALWAYS_FOLLOW);
module_param(redirect_always_follow, bool, 0644);
MODULE_PARM_DESC(redirect_always_follow, "Follow redirects with redirect_dir=off");

static bool metacopy = IS_ENABLED(CONFIG_OVERLAY_FS_METACOPY);
module_param(metacopy, bool, 0644);
MODULE_PARM_DESC(metacopy, "Default of the mount option metacopy");

static bool index = IS_ENABLED(CONFIG_OVERLAY_FS_INDEX);
module_param(index, bool, 0644);
MODULE_PARM_DESC(index, "Default of the mount option index");

static bool nfs_export = IS_ENABLED(CONFIG_OVERLAY_FS_NFS_EXPORT);
module_param(nfs_export, bool, 0644);
MODULE_PARM_DESC(nfs_export, "Default of the mount option nfs_export");

static bool xino_auto = IS_ENABLED(CONFIG_OVERLAY_FS_XINO_AUTO);
module_param(xino_auto, bool, 0644);
MODULE_PARM_DESC(xino_auto, "Default of the mount option xino: auto or off");

static unsigned short redirect_max = 256;
module_param(redirect_max, ushort, 0644);
MODULE_PARM_DESC(redirect_max, "Longest redirect that is a path, in bytes");

/* A parameter of old that software may still set. */
static int rovl_set_obsolete(const char *value, const struct kernel_param *kp)
{
	pr_warn(__stringify(KBUILD_MODNAME) ": \"%s\" module option is obsolete\n", kp->name);
	return 0;
}

static int rovl_get_obsolete(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "N\n");
}

static const struct kernel_param_ops rovl_obsolete_ops = {
	.set = rovl_set_obsolete,
	.get = rovl_get_obsolete,
};

module_param_cb(check_copy_up, &rovl_obsolete_ops, NULL, 0644);
MODULE_PARM_DESC(check_copy_up, "Obsolete; does nothing");

bool rovl_param_redirect_dir(void)
{
	return READ_ONCE(redirect_dir);
}

bool rovl_param_redirect_always_follow(void)
{
	return READ_ONCE(redirect_always_follow);
}

bool rovl_param_metacopy(void)
{
	return READ_ONCE(metacopy);
}

bool rovl_param_index(void)
{
	return READ_ONCE(index);
}

bool rovl_param_nfs_export(void)
{
	return READ_ONCE(nfs_export);
}

bool rovl_param_xino_auto(void)
{
	return READ_ONCE(xino_auto);
}

unsigned short rovl_param_redirect_max(void)
{
	return READ_ONCE(redirect_max);
}

rovl_inline struct dentry *rovl_dget(struct dentry *dentry)
{
	return dget(dentry);
}

rovl_inline bool rovl_d_in_lookup(struct dentry *dentry)
{
	return d_in_lookup(dentry);
}

rovl_inline bool rovl_d_unhashed(struct dentry *dentry)
{
	return d_unhashed(dentry);
}

rovl_inline void rovl_dentry_change_flags(struct dentry *dentry, unsigned int clear, unsigned int set)
{
	spin_lock(&dentry->d_lock);
	dentry->d_flags = (dentry->d_flags & ~clear) | set;
	spin_unlock(&dentry->d_lock);
}

/* Another task may be making it positive, which stores the inode first and the type of it last. */
rovl_inline bool rovl_d_negative_acquire(const struct dentry *dentry)
{
	return d_flags_negative(smp_load_acquire(&dentry->d_flags));
}

/* A negative dentry that only a union lookup asked for is not worth its place in the dcache. */
void rovl_dput_unused_negative(struct dentry *dentry)
{
	spin_lock(&dentry->d_lock);
	if (dentry->d_lockref.count == 1 && d_is_negative(dentry))
		__d_drop(dentry);
	spin_unlock(&dentry->d_lock);
	dput(dentry);
}

/*
 * generic_permission() of an inode that has the ACLs of 'behind' and had the mode 'mode' before that was found: where all may and there
 * is none, nobody need look for them. (A mode that is read later can be the one that an ACL of another inode came with.)
 */
rovl_inline int rovl_permission(struct mnt_idmap *idmap, struct inode *inode, int mask, umode_t mode,
				const struct inode *behind)
{
#ifdef CONFIG_FS_POSIX_ACL
	if (!((mask & (MAY_READ | MAY_WRITE | MAY_EXEC)) * S_IXUGO & ~mode) &&
	    !READ_ONCE(behind->i_acl))
		return 0;
#endif
	return generic_permission(idmap, inode, mask);
}

rovl_inline bool rovl_sb_asks_listeners(struct super_block *sb)
{
	return fsnotify_sb_has_priority_watchers(sb, FSNOTIFY_PRIO_CONTENT);
}

static bool has_other_hashed_alias(struct inode *inode, struct dentry *except)
{
	struct dentry *alias;
	bool found = false;

	spin_lock(&inode->i_lock);
	for_each_alias(alias, inode) {
		if (alias != except && !d_unhashed(alias)) {
			found = true;
			break;
		}
	}
	spin_unlock(&inode->i_lock);
	return found;
}

rovl_inline bool rovl_has_hashed_alias(struct inode *inode, struct dentry *except)
{
	/* Mostly it is the only one. */
	if (READ_ONCE(inode->i_dentry.first) == &except->d_alias &&
	    !READ_ONCE(except->d_alias.next))
		return false;
	return has_other_hashed_alias(inode, except);
}

rovl_inline bool rovl_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

rovl_inline void rovl_inode_set_creating(struct inode *inode)
{
	spin_lock(&inode->i_lock);
	inode_state_set(inode, I_CREATING);
	spin_unlock(&inode->i_lock);
}

rovl_inline void rovl_remove_inode_hash(struct inode *inode)
{
	remove_inode_hash(inode);
}

void rovl_inode_rehash(struct inode *inode, struct inode *key)
{
	if (inode_unhashed(inode)) {
		inode->i_private = key;
		__insert_inode_hash(inode, (unsigned long)key);
	}
}

void rovl_inode_lockdep(struct inode *inode, bool dir, int depth)
{
#ifdef CONFIG_LOCKDEP
	static struct lock_class_key file_key[FILESYSTEM_MAX_STACK_DEPTH];
	static struct lock_class_key dir_key[FILESYSTEM_MAX_STACK_DEPTH];

	depth = clamp(depth - 1, 0, FILESYSTEM_MAX_STACK_DEPTH - 1);
	if (dir)
		lockdep_set_class(&inode->i_rwsem, &dir_key[depth]);
	else
		lockdep_set_class(&inode->i_rwsem, &file_key[depth]);
#endif
}

bool rovl_inuse_trylock(struct inode *inode)
{
	bool locked;

	spin_lock(&inode->i_lock);
	locked = !(inode_state_read(inode) & I_OVL_INUSE);
	if (locked)
		inode_state_set(inode, I_OVL_INUSE);
	spin_unlock(&inode->i_lock);
	return locked;
}

void rovl_inuse_unlock(struct inode *inode)
{
	spin_lock(&inode->i_lock);
	WARN_ON(!(inode_state_read(inode) & I_OVL_INUSE));
	inode_state_clear(inode, I_OVL_INUSE);
	spin_unlock(&inode->i_lock);
}

bool rovl_is_inuse(struct inode *inode)
{
	bool inuse;

	spin_lock(&inode->i_lock);
	inuse = inode_state_read(inode) & I_OVL_INUSE;
	spin_unlock(&inode->i_lock);
	return inuse;
}

/*
 * Links that tell their target otherwise than by it: those of procfs and AppArmor move the walk that they are met in. AFS
 * has an operation of its own for plain ones.
 */
rovl_inline bool rovl_is_magic_link(const struct inode *inode)
{
	return inode->i_op->readlink && inode->i_sb->s_magic != AFS_FS_MAGIC;
}

rovl_inline bool rovl_has_dentry(struct inode *inode)
{
	return !hlist_empty(&inode->i_dentry);
}

rovl_inline bool rovl_is_encrypted(struct inode *inode)
{
	return IS_ENCRYPTED(inode);
}

rovl_inline struct rovl_times rovl_inode_times(struct inode *inode)
{
	return (struct rovl_times) { inode_get_atime(inode), inode_get_mtime(inode) };
}

/* Whether a change of the inode gives it a change time that nobody has seen, or another i_version; or there is none. */
rovl_inline bool rovl_tells_changes(const struct inode *inode)
{
	return is_mgtime(inode) || sb_rdonly(inode->i_sb);
}

rovl_inline u64 rovl_change_count(const struct inode *inode)
{
	return inode_peek_iversion(inode);
}

/* Whether a directory whose listing stopped at the position ends there: these say nothing of what they can't read. */
rovl_inline bool rovl_is_dir_end(const struct inode *dir, loff_t pos)
{
	switch (dir->i_sb->s_magic) {
	case ISOFS_SUPER_MAGIC:
	case SQUASHFS_MAGIC:
		return pos >= i_size_read(dir);
	default:
		return true;
	}
}

/* vfs_getattr_nosec() on what the caller, a getattr operation, got prepared by just that function. */
rovl_inline int rovl_getattr(const struct path *path, struct kstat *stat, u32 mask,
			     unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);

	if (inode->i_sb->s_flags & SB_NOATIME)
		stat->result_mask &= ~STATX_ATIME;
	if (IS_AUTOMOUNT(inode))
		stat->attributes |= STATX_ATTR_AUTOMOUNT;
	if (IS_DAX(inode))
		stat->attributes |= STATX_ATTR_DAX;
	if (IS_VERITY(inode))
		stat->attributes |= STATX_ATTR_VERITY;
	if (inode->i_op->getattr)
		return inode->i_op->getattr(mnt_idmap(path->mnt), path, stat, mask,
					    flags & AT_STATX_SYNC_TYPE);
	generic_fillattr(mnt_idmap(path->mnt), mask, inode, stat);
	return 0;
}

rovl_inline loff_t rovl_i_size_read(struct inode *inode)
{
	return i_size_read(inode);
}

rovl_inline void rovl_copyattr(struct inode *to, struct inode *from, struct mnt_idmap *idmap)
{
	kuid_t uid = from->i_uid;
	kgid_t gid = from->i_gid;

	if (idmap != &nop_mnt_idmap) {
		uid = vfsuid_into_kuid(i_uid_into_vfsuid(idmap, from));
		gid = vfsgid_into_kgid(i_gid_into_vfsgid(idmap, from));
	}
	spin_lock(&to->i_lock);
	to->i_uid = uid;
	to->i_gid = gid;
	/* The type is what the operations and the unions of the inode are for. */
	to->i_mode = (to->i_mode & S_IFMT) | (from->i_mode & ~S_IFMT);
	inode_set_atime_to_ts(to, inode_get_atime(from));
	inode_set_mtime_to_ts(to, inode_get_mtime(from));
	inode_set_ctime_to_ts(to, inode_get_ctime(from));
	i_size_write(to, i_size_read(from));
	spin_unlock(&to->i_lock);
}

rovl_inline void rovl_copy_mctime(struct inode *to, struct inode *from)
{
	struct timespec64 a = inode_get_mtime(to), b = inode_get_mtime(from);
	struct timespec64 c = inode_get_ctime(to), d = inode_get_ctime(from);

	if (!timespec64_equal(&a, &b) || !timespec64_equal(&c, &d)) {
		inode_set_mtime_to_ts(to, b);
		inode_set_ctime_to_ts(to, d);
	}
}

rovl_inline bool rovl_copy_atime(struct inode *to, struct inode *from)
{
	struct timespec64 old = inode_get_atime(to), new = inode_get_atime(from);

	inode_set_atime_to_ts(to, new);
	return !timespec64_equal(&old, &new);
}

rovl_inline int rovl_get_write_access(struct inode *inode)
{
	return get_write_access(inode);
}

rovl_inline void rovl_put_write_access(struct inode *inode)
{
	put_write_access(inode);
}

rovl_inline bool rovl_is_whiteout(struct inode *inode)
{
	return IS_WHITEOUT(inode);
}

void rovl_oplock_init(struct mutex *lock)
{
	mutex_init(lock);
}

void rovl_oplock_class(struct mutex *lock, int depth)
{
#ifdef CONFIG_LOCKDEP
	static struct lock_class_key key[FILESYSTEM_MAX_STACK_DEPTH];

	lockdep_set_class(lock, &key[clamp(depth - 1, 0, FILESYSTEM_MAX_STACK_DEPTH - 1)]);
#endif
}

/* A macro where locks are checked. */
rovl_inline void rovl_oplock_lock(struct mutex *lock)
{
	mutex_lock(lock);
}

rovl_inline int rovl_oplock_killable(struct mutex *lock)
{
	return mutex_lock_killable(lock);
}

rovl_inline void rovl_sb_start_write(struct super_block *sb)
{
	sb_start_write(sb);
}

rovl_inline void rovl_sb_end_write(struct super_block *sb)
{
	sb_end_write(sb);
}

int rovl_sync_upper(struct super_block *sb)
{
	int err;

	down_read(&sb->s_umount);
	err = sync_filesystem(sb);
	up_read(&sb->s_umount);
	return err;
}

/*
 * Whether data that was written back, and all names and attributes, are durable after ->sync_fs() alone, so that what others
 * have not had written back yet can be left alone. ext4: with a journal, which is what the flag says of a filesystem that is
 * mounted for writing; without one blocks of the device have to be written, too.
 */
bool rovl_commits_apart(struct super_block *sb)
{
	const char *type = sb->s_type->name;
	struct buffer_head *bh;
	const __le32 *features;
	bool has_journal;

	if (!sb->s_op->sync_fs)
		return false;
	if (!strcmp(type, "xfs") || !strcmp(type, "btrfs"))
		return true;
	if (strcmp(type, "ext4") || !sb->s_bdev || sb_rdonly(sb))
		return false;
	bh = sb_bread(sb, ROVL_EXT4_SUPER >> sb->s_blocksize_bits);
	if (!bh)
		return false;
	features = (void *)(bh->b_data + (ROVL_EXT4_SUPER & (sb->s_blocksize - 1)) + ROVL_EXT4_FEATURES);
	has_journal = le32_to_cpu(features[0]) & ROVL_EXT4_HAS_JOURNAL &&
		      le32_to_cpu(features[1]) & ROVL_EXT4_NEEDS_RECOVERY;
	brelse(bh);
	return has_journal;
}

/* Of a filesystem that rovl_commits_apart(). */
int rovl_commit(struct super_block *sb)
{
	int err = 0;

	down_read(&sb->s_umount);
	if (!sb_rdonly(sb) && sb->s_op->sync_fs)
		err = sb->s_op->sync_fs(sb, 1);
	up_read(&sb->s_umount);
	return err;
}

rovl_inline bool rovl_is_dirty(struct inode *inode)
{
	struct address_space *mapping = inode->i_mapping;

	return mapping_tagged(mapping, PAGECACHE_TAG_DIRTY) ||
	       mapping_tagged(mapping, PAGECACHE_TAG_WRITEBACK);
}

/* What the device says of it is kept for fsync(2) and syncfs(2), as of any data: mapping and super block record it. */
int rovl_write_back(struct inode *inode, bool wait)
{
	struct address_space *mapping = inode->i_mapping;
	int err = filemap_fdatawrite(mapping);

	if (wait)
		filemap_fdatawait_keep_errors(mapping);
	return err;
}

/*
 * The next inode of @sb that @wanted says yes of, or some other one on the way, referenced; the reference to @prev is given
 * back. Under the lock no inode of the list is destroyed. One that is being evicted is passed over.
 */
struct inode *rovl_next_inode(struct super_block *sb, struct inode *prev,
			      bool (*wanted)(struct inode *inode))
{
	struct inode *next, *found = NULL;

	spin_lock(&sb->s_inode_list_lock);
	next = prev ?: list_entry(&sb->s_inodes, struct inode, i_sb_list);
	list_for_each_entry_continue(next, &sb->s_inodes, i_sb_list) {
		if (wanted(next) || need_resched()) {
			found = igrab(next);
			if (found)
				break;
		}
	}
	spin_unlock(&sb->s_inode_list_lock);
	iput(prev);
	cond_resched();
	return found;
}

/* 0: no decodable file handles; FILEID_INO32_GEN: the 32 bit default encoding; -1: another one. */
int rovl_fh_kind(struct super_block *sb)
{
	if (!capable(CAP_DAC_READ_SEARCH) || !exportfs_can_decode_fh(sb->s_export_op))
		return 0;
	if (sb->s_export_op->encode_fh == generic_encode_ino32_fh)
		return FILEID_INO32_GEN;
	return -1;
}

void rovl_sb_set_uuid(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
}

void rovl_uuid_to_fsid(struct super_block *sb, struct kstatfs *buf)
{
	buf->f_fsid = uuid_to_fsid(sb->s_uuid.b);
}

bool rovl_shrink_is_global(struct shrink_control *sc)
{
	return mem_cgroup_shrink_is_root(sc);
}

void rovl_cond_resched(void)
{
	cond_resched();
}

rovl_inline bool rovl_can_fold_case(struct super_block *sb)
{
	return sb_has_encoding(sb);
}

rovl_inline bool rovl_casefolded(struct dentry *dentry)
{
	const struct inode *inode = READ_ONCE(dentry->d_inode);

	return sb_has_encoding(dentry->d_sb) && inode && IS_CASEFOLDED(inode);
}

bool rovl_folds_strictly(struct super_block *sb)
{
#if IS_ENABLED(CONFIG_UNICODE)
	return sb_has_encoding(sb) && sb_has_strict_encoding(sb);
#else
	return false;
#endif
}

bool rovl_folds_alike(struct super_block *sb, struct super_block *other)
{
	return sb_same_encoding(sb, other);
}

void rovl_fold_case_as(struct super_block *sb, struct super_block *layer)
{
#if IS_ENABLED(CONFIG_UNICODE)
	sb->s_encoding = layer->s_encoding;
	sb->s_encoding_flags = layer->s_encoding_flags;
#endif
}

/* What is no text is not folded: only the same bytes are the same name. */
u32 rovl_folded_hash(struct super_block *sb, const void *salt, const char *name, u32 len)
{
#if IS_ENABLED(CONFIG_UNICODE)
	struct qstr q = QSTR_INIT(name, len);

	if (!utf8_casefold_hash(sb->s_encoding, salt, &q))
		return q.hash;
#endif
	return full_name_hash(salt, name, len);
}

bool rovl_folded_same(struct super_block *sb, const char *a, u32 a_len, const char *b, u32 b_len)
{
#if IS_ENABLED(CONFIG_UNICODE)
	const struct qstr one = QSTR_INIT(a, a_len), other = QSTR_INIT(b, b_len);

	return utf8_strncasecmp(sb->s_encoding, &one, &other) == 0;
#else
	return false;
#endif
}

/* Whether fs-verity guards the file, and nobody has opened it yet, which reads its digest. */
rovl_inline bool rovl_verity_is_unread(const struct inode *inode)
{
	return IS_VERITY(inode) && !fsverity_get_info(inode);
}

/* The bytes of the digest, 0 where there is none. */
rovl_inline int rovl_verity_digest(struct inode *inode, u8 *digest, u8 *algorithm)
{
	BUILD_BUG_ON(FS_VERITY_MAX_DIGEST_SIZE != 64);
	return fsverity_get_digest(inode, digest, algorithm, NULL);
}

/*
 * A list of what is known to be good: procfs and the like make names up, network filesystems change
 * them without a word, NTFS finds names that it does not list.
 */
bool rovl_is_ordinary(struct super_block *sb)
{
	switch (sb->s_magic) {
	case BTRFS_SUPER_MAGIC:
	case EROFS_SUPER_MAGIC_V1:
	case EXT4_SUPER_MAGIC: /* ext2 and ext3, too */
	case F2FS_SUPER_MAGIC:
	case ISOFS_SUPER_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
	case RAMFS_MAGIC:
	case SQUASHFS_MAGIC:
	case TMPFS_MAGIC:
	case XFS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

/* A signal ends a splice, and sendfile() comes to us with its data in the task's own pipe. */
bool rovl_can_splice(void)
{
	struct pipe_inode_info *pipe = current->splice_pipe;

	return !signal_pending(current) && (!pipe || pipe_is_empty(pipe));
}

#if __has_attribute(musttail)
#define rovl_jump __attribute__((musttail)) return
#else
#define rovl_jump return
#define ROVL_MAY_STAY
#endif

/*
 * The file keeps the module. With the last reference to it gone the module can be unloaded, though this task was
 * preempted before it came out of here: so the file is put by a jump, and nothing of ours runs afterwards.
 */
static void rovl_before_return(struct callback_head *head)
{
	struct rovl_before_return *work = container_of(head, struct rovl_before_return, head);
	struct file *file = work->file;

	work->call(work);
	rovl_jump ((void (*)(struct callback_head *))(void *)fput)((void *)file);
}

/* Waits for those who were preempted on their way out, where the compiler does not promise a jump. */
void rovl_leave_text(void)
{
#ifdef ROVL_MAY_STAY
	synchronize_rcu_tasks();
#endif
}

/*
 * Has work->call called, which frees the work, with a reference to the file in it. Only a task that goes back to user
 * space can restart its system call.
 */
int rovl_run_before_return(struct rovl_before_return *work, struct file *file)
{
	int err;

	if (current->flags & (PF_KTHREAD | PF_USER_WORKER))
		return -EAGAIN;
	work->file = get_file(file);
	init_task_work(&work->head, rovl_before_return);
	err = task_work_add(current, &work->head, TWA_SIGNAL);
	if (err)
		fput(file);
	return err;
}

rovl_inline const struct cred *rovl_override_creds(const struct cred *cred)
{
	return override_creds(cred);
}

rovl_inline const struct cred *rovl_current_real_cred(void)
{
	return current_real_cred();
}

void rovl_cred_drop_sys_resource(struct cred *cred)
{
	cap_lower(cred->cap_effective, CAP_SYS_RESOURCE);
}

rovl_inline bool rovl_ids_mapped(const struct kstat *stat)
{
	struct user_namespace *ns = current_user_ns();

	/* The first one has a place for all. */
	if (ns == &init_user_ns)
		return uid_valid(stat->uid) && gid_valid(stat->gid);
	return kuid_has_mapping(ns, stat->uid) && kgid_has_mapping(ns, stat->gid);
}

rovl_inline bool rovl_ids_fit(const struct kstat *stat, struct vfsmount *mnt)
{
	struct user_namespace *ns = mnt->mnt_sb->s_user_ns;
	struct mnt_idmap *idmap = mnt_idmap(mnt);

	/* It leaves them as they are, whatever the namespace. */
	if (idmap == &nop_mnt_idmap)
		return uid_valid(stat->uid) && gid_valid(stat->gid);
	return vfsuid_has_fsmapping(idmap, ns, VFSUIDT_INIT(stat->uid)) &&
	       vfsgid_has_fsmapping(idmap, ns, VFSGIDT_INIT(stat->gid));
}

bool rovl_in_context_userns(const struct fs_context *fc, bool exact)
{
	return exact ? fc->user_ns == current_user_ns() : current_in_userns(fc->user_ns);
}

int rovl_security_inode_copy_up(struct dentry *src, struct cred **new_cred)
{
	return security_inode_copy_up(src, new_cred);
}

int rovl_security_inode_copy_up_xattr(struct dentry *src, const char *name)
{
	return security_inode_copy_up_xattr(src, name);
}

int rovl_security_dentry_create_files_as(struct dentry *dentry, int mode, const struct cred *old,
					 struct cred *new_cred)
{
	return security_dentry_create_files_as(dentry, mode, &dentry->d_name, old, new_cred);
}

int rovl_security_file_ioctl(struct file *file, unsigned int cmd)
{
	return security_file_ioctl(file, cmd, 0);
}

bool rovl_capable_sysadmin_noaudit(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}

rovl_inline void rovl_init_sync_kiocb(struct kiocb *kiocb, struct file *file)
{
	init_sync_kiocb(kiocb, file);
}

rovl_inline void rovl_file_set_flags(struct file *file, unsigned int mask, unsigned int flags)
{
	spin_lock(&file->f_lock);
	file->f_flags = (file->f_flags & ~mask) | (flags & mask);
	file->f_iocb_flags = iocb_flags(file);
	spin_unlock(&file->f_lock);
}

/*
 * Whether somebody wants to hear that the open file is read and closed, or was to be asked when it was opened. A mark of a mount that
 * wants to hear it does not count: those of layers are in no namespace.
 */
rovl_inline bool rovl_is_reading_watched(const struct file *file)
{
#ifdef CONFIG_FSNOTIFY
	const struct dentry *dentry = file->f_path.dentry;
	u32 wanted = READ_ONCE(file_inode(file)->i_fsnotify_mask) | READ_ONCE(dentry->d_sb->s_fsnotify_mask);

	return (file->f_mode & FMODE_FSNOTIFY_MASK) != FMODE_NONOTIFY_PERM ||
	       wanted & (FS_ACCESS | FS_CLOSE_NOWRITE) ||
	       READ_ONCE(dentry->d_flags) & DCACHE_FSNOTIFY_PARENT_WATCHED;
#else
	return false;
#endif
}

/* Whether somebody wants to hear, or to be asked, that the directory is opened, read or closed. Marks of mounts: as above. */
rovl_inline bool rovl_is_listing_watched(const struct dentry *dentry, const struct inode *inode)
{
#ifdef CONFIG_FSNOTIFY
	u32 wanted = READ_ONCE(inode->i_fsnotify_mask) | READ_ONCE(inode->i_sb->s_fsnotify_mask);

	return wanted & (FS_OPEN | FS_ACCESS | FS_CLOSE_NOWRITE | ALL_FSNOTIFY_PERM_EVENTS) ||
	       READ_ONCE(dentry->d_flags) & DCACHE_FSNOTIFY_PARENT_WATCHED;
#else
	return false;
#endif
}

/* Positions in a directory are shorter for a 32-bit program. */
rovl_inline bool rovl_in_compat_syscall(void)
{
	return in_compat_syscall();
}

/*
 * What a filesystem keeps with an open directory is used by one call at a time: the VFS sees to that by f_pos_lock. Our
 * callers may hold that of a file of the union, which is higher in the stack.
 */
static void rovl_lock_pos(struct file *file)
{
	mutex_lock_nested(&file->f_pos_lock,
			  FILESYSTEM_MAX_STACK_DEPTH - file_inode(file)->i_sb->s_stack_depth);
}

int rovl_iterate_dir(struct file *file, struct dir_context *ctx)
{
	int err;

	/* A pipe has something else where the lock is. */
	if (!S_ISDIR(file_inode(file)->i_mode))
		return -ENOTDIR;
	rovl_lock_pos(file);
	err = iterate_dir(file, ctx);
	mutex_unlock(&file->f_pos_lock);
	return err;
}

loff_t rovl_llseek(struct file *file, loff_t offset, int whence)
{
	loff_t pos;

	if (!S_ISDIR(file_inode(file)->i_mode))
		return vfs_llseek(file, offset, whence);
	rovl_lock_pos(file);
	pos = vfs_llseek(file, offset, whence);
	mutex_unlock(&file->f_pos_lock);
	return pos;
}

rovl_inline bool rovl_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/* The ids of an ACL of the mount's filesystem become those that the mount shows. */
void rovl_acl_show(struct posix_acl *acl, struct vfsmount *mnt)
{
	struct user_namespace *ns = mnt->mnt_sb->s_user_ns;
	struct mnt_idmap *idmap = mnt_idmap(mnt);
	struct posix_acl_entry *entry, *end;

	FOREACH_ACL_ENTRY(entry, acl, end) {
		if (entry->e_tag == ACL_USER)
			entry->e_uid = vfsuid_into_kuid(make_vfsuid(idmap, ns, entry->e_uid));
		else if (entry->e_tag == ACL_GROUP)
			entry->e_gid = vfsgid_into_kgid(make_vfsgid(idmap, ns, entry->e_gid));
	}
}

bool rovl_task_has_fs(void)
{
	return current->fs && current->nsproxy;
}

bool rovl_in_execve(void)
{
	return current->in_execve;
}

rovl_inline void rovl_posix_acl_release(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

void rovl_logfc(struct fs_context *fc, char level, const void *args)
{
	logfc(fc->log.log, fc->log.prefix, level, "%pA", args);
}

/* A limit for each line of code, or for the few that share a place in the table. */
bool rovl_ratelimit(u32 site)
{
	static struct ratelimit_state limits[] = {
		[0 ... 63] = RATELIMIT_STATE_INIT(limits, DEFAULT_RATELIMIT_INTERVAL,
						  DEFAULT_RATELIMIT_BURST),
	};

	return __ratelimit(&limits[site % ARRAY_SIZE(limits)]);
}

void rovl_seq_show_option(struct seq_file *m, const char *name, const char *value)
{
	seq_show_option(m, name, value);
}
