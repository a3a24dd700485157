/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C shim: kernel inline functions and macros that Rust cannot call. One line each wherever
 * possible; no policy. Called from src/vfs/ only.
 */
#ifndef ROVL_HELPERS_H
#define ROVL_HELPERS_H

#include <linux/fs.h>
#include <linux/cred.h>
#include <linux/mutex.h>
#include <linux/posix_acl.h>
#include <linux/task_work.h>

struct fs_context;
struct seq_file;

struct rovl_times {
	struct timespec64 atime, mtime;
};

/* module parameters */
bool rovl_param_redirect_dir(void);
bool rovl_param_redirect_always_follow(void);
bool rovl_param_metacopy(void);
bool rovl_param_index(void);
bool rovl_param_nfs_export(void);
bool rovl_param_xino_auto(void);
unsigned short rovl_param_redirect_max(void);

/* dentries */
struct dentry *rovl_dget(struct dentry *dentry);
bool rovl_d_in_lookup(struct dentry *dentry);
bool rovl_d_unhashed(struct dentry *dentry);
void rovl_dentry_change_flags(struct dentry *dentry, unsigned int clear, unsigned int set);
void rovl_dput_unused_negative(struct dentry *dentry);
bool rovl_d_negative_acquire(const struct dentry *dentry);
int rovl_permission(struct mnt_idmap *idmap, struct inode *inode, int mask, umode_t mode,
		    const struct inode *behind);
bool rovl_sb_asks_listeners(struct super_block *sb);
bool rovl_has_hashed_alias(struct inode *inode, struct dentry *except);

/* inodes */
bool rovl_inode_is_new(struct inode *inode);
void rovl_inode_set_creating(struct inode *inode);
void rovl_remove_inode_hash(struct inode *inode);
void rovl_inode_rehash(struct inode *inode, struct inode *key);
void rovl_inode_lockdep(struct inode *inode, bool dir, int depth);
bool rovl_inuse_trylock(struct inode *inode);
void rovl_inuse_unlock(struct inode *inode);
bool rovl_is_inuse(struct inode *inode);
bool rovl_is_magic_link(const struct inode *inode);
bool rovl_has_dentry(struct inode *inode);
bool rovl_is_encrypted(struct inode *inode);
loff_t rovl_i_size_read(struct inode *inode);
struct rovl_times rovl_inode_times(struct inode *inode);
bool rovl_tells_changes(const struct inode *inode);
u64 rovl_change_count(const struct inode *inode);
bool rovl_is_dir_end(const struct inode *dir, loff_t pos);
int rovl_getattr(const struct path *path, struct kstat *stat, u32 mask, unsigned int flags);
void rovl_copyattr(struct inode *to, struct inode *from, struct mnt_idmap *idmap);
void rovl_copy_mctime(struct inode *to, struct inode *from);
bool rovl_copy_atime(struct inode *to, struct inode *from);
int rovl_get_write_access(struct inode *inode);
void rovl_put_write_access(struct inode *inode);
bool rovl_is_whiteout(struct inode *inode);

/* the per-inode operation lock, classed by stacking depth */
void rovl_oplock_init(struct mutex *lock);
void rovl_oplock_class(struct mutex *lock, int depth);
void rovl_oplock_lock(struct mutex *lock);
int rovl_oplock_killable(struct mutex *lock);

/* super blocks and mounts */
void rovl_sb_start_write(struct super_block *sb);
void rovl_sb_end_write(struct super_block *sb);
int rovl_sync_upper(struct super_block *sb);
bool rovl_commits_apart(struct super_block *sb);
int rovl_commit(struct super_block *sb);
bool rovl_is_dirty(struct inode *inode);
int rovl_write_back(struct inode *inode, bool wait);
struct inode *rovl_next_inode(struct super_block *sb, struct inode *prev,
			      bool (*wanted)(struct inode *inode));
int rovl_fh_kind(struct super_block *sb);
void rovl_sb_set_uuid(struct super_block *sb, const u8 *uuid);
void rovl_uuid_to_fsid(struct super_block *sb, struct kstatfs *buf);
bool rovl_can_fold_case(struct super_block *sb);
bool rovl_folds_strictly(struct super_block *sb);
bool rovl_folds_alike(struct super_block *sb, struct super_block *other);
void rovl_fold_case_as(struct super_block *sb, struct super_block *layer);
u32 rovl_folded_hash(struct super_block *sb, const void *salt, const char *name, u32 len);
bool rovl_folded_same(struct super_block *sb, const char *a, u32 a_len, const char *b, u32 b_len);
bool rovl_shrink_is_global(struct shrink_control *sc);
void rovl_cond_resched(void);
bool rovl_casefolded(struct dentry *dentry);
bool rovl_is_ordinary(struct super_block *sb);
bool rovl_verity_is_unread(const struct inode *inode);
int rovl_verity_digest(struct inode *inode, u8 *digest, u8 *algorithm);

/* credentials and security */
bool rovl_can_splice(void);
struct rovl_before_return {
	struct callback_head head;
	struct file *file;
	void (*call)(struct rovl_before_return *work);
};
void rovl_leave_text(void);
int rovl_run_before_return(struct rovl_before_return *work, struct file *file);
const struct cred *rovl_override_creds(const struct cred *cred);
const struct cred *rovl_current_real_cred(void);
void rovl_cred_drop_sys_resource(struct cred *cred);
bool rovl_ids_mapped(const struct kstat *stat);
bool rovl_ids_fit(const struct kstat *stat, struct vfsmount *mnt);
bool rovl_in_context_userns(const struct fs_context *fc, bool exact);
int rovl_security_inode_copy_up(struct dentry *src, struct cred **new_cred);
int rovl_security_inode_copy_up_xattr(struct dentry *src, const char *name);
int rovl_security_dentry_create_files_as(struct dentry *dentry, int mode, const struct cred *old,
					 struct cred *new_cred);
int rovl_security_file_ioctl(struct file *file, unsigned int cmd);
bool rovl_capable_sysadmin_noaudit(void);

/* files */
void rovl_init_sync_kiocb(struct kiocb *kiocb, struct file *file);
void rovl_file_set_flags(struct file *file, unsigned int mask, unsigned int flags);
bool rovl_fatal_signal_pending(void);
bool rovl_in_execve(void);
bool rovl_task_has_fs(void);
bool rovl_is_reading_watched(const struct file *file);
bool rovl_is_listing_watched(const struct dentry *dentry, const struct inode *inode);
bool rovl_in_compat_syscall(void);
int rovl_iterate_dir(struct file *file, struct dir_context *ctx);
loff_t rovl_llseek(struct file *file, loff_t offset, int whence);
void rovl_acl_show(struct posix_acl *acl, struct vfsmount *mnt);
void rovl_posix_acl_release(struct posix_acl *acl);

/* logging */
void rovl_logfc(struct fs_context *fc, char level, const void *args);
bool rovl_ratelimit(u32 site);
void rovl_seq_show_option(struct seq_file *m, const char *name, const char *value);

#endif
