// SPDX-License-Identifier: GPL-2.0

//! Credentials: copies of the caller's, and running a closure with others.
//!
//! C header: `include/linux/cred.h`; contract: `Documentation/security/credentials.rst`.

use super::{
    calls, file_ops::OpenTmpfile, fs::FileSystem, inode::read_field, to_result, Child, Inode, Mode,
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{cred::Credential, prelude::*, sync::aref::ARef};

/// Runs `f` with `cred` as the task's effective credentials; `f` gets those replaced.
///
/// A closure, not a guard: a forgotten guard would leave the credentials on the task.
///
/// # Examples
///
/// ```ignore
/// // As who mounted it; `original` is the caller.
/// cred::scope(fs.creds(), |original| {
///     let creator = cred::creator(original, NewEntry::Named(child), owner, mode)?;
///     cred::scope(&creator, |_| create(child))
/// })
/// ```
#[inline]
pub(crate) fn scope<R>(cred: &Credential, f: impl FnOnce(&Credential) -> R) -> R {
    // SAFETY: charter 1 and 9: `cred` is referenced until the old value is put back below; the kernel never unwinds.
    let old = unsafe { bindings::rovl_override_creds(cred.as_ptr()) };
    // SAFETY: charter 9: whoever made `old` current keeps its reference until this call has returned.
    let ret = f(unsafe { Credential::from_ptr(old) });
    // SAFETY: charter 9: `old` was current before, and is still referenced.
    unsafe { bindings::rovl_override_creds(old) };
    ret
}

/// Runs `f` with the credentials that the task has apart from any override.
pub(crate) fn scope_real<R>(f: impl FnOnce() -> R) -> R {
    let real = calls::rovl_current_real_cred();
    // SAFETY: only the task itself replaces its real credentials, and not while it is in here.
    let real = unsafe { Credential::from_ptr(real) };
    scope(real, |_| f())
}

/// A capability.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Capability(i32);

impl Capability {
    /// Decoding of file handles.
    pub(crate) const DAC_READ_SEARCH: Self = Self(bindings::CAP_DAC_READ_SEARCH as i32);
}

/// Whether the current credentials have a capability in the initial user namespace (audited).
pub(crate) fn capable(cap: Capability) -> bool {
    calls::capable(cap)
}

/// Whether the current credentials have `CAP_SYS_ADMIN` in the initial user namespace (silent).
pub(crate) fn is_sysadmin() -> bool {
    calls::rovl_capable_sysadmin_noaudit()
}

/// User and group of an inode.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    uid: bindings::kuid_t,
    gid: bindings::kgid_t,
}

impl Owner {
    /// Those of `inode` now.
    pub(crate) fn of(inode: &Inode) -> Self {
        Self {
            uid: read_field!(inode, i_uid),
            gid: read_field!(inode, i_gid),
        }
    }
}

/// A private copy of the current credentials, to be changed before it is used.
///
/// # Invariants
///
/// The pointer owns the only reference to a `struct cred` that nobody else has seen.
pub(crate) struct NewCred(NonNull<bindings::cred>);

impl NewCred {
    /// Copies the current task's effective credentials.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn prepare() -> Result<Self> {
        // INVARIANT: the call makes a copy that nobody else knows.
        NonNull::new(calls::prepare_creds()).map(Self).ok_or(ENOMEM)
    }

    /// As [`prepare`](Self::prepare), without `CAP_SYS_RESOURCE`: no quota override, no reserved
    /// blocks.
    pub(crate) fn prepare_restricted() -> Result<Self> {
        let mut cred = Self::prepare()?;
        calls::rovl_cred_drop_sys_resource(cred.fields());
        Ok(cred)
    }

    /// Sets fsuid and fsgid.
    pub(crate) fn set_fs_ids(&mut self, owner: Owner) {
        let cred = self.fields();
        cred.fsuid = owner.uid;
        cred.fsgid = owner.gid;
    }

    fn fields(&mut self) -> &mut bindings::cred {
        // SAFETY: by the type invariant nobody else uses the credentials.
        unsafe { self.0.as_mut() }
    }

    /// The raw pointer, for the security hooks.
    pub(super) fn as_ptr(&self) -> *mut bindings::cred {
        self.0.as_ptr()
    }

    /// Ends the preparation: from here on the credentials are immutable and shared.
    pub(crate) fn commit(self) -> ARef<Credential> {
        let ptr = core::mem::ManuallyDrop::new(self).0;
        // SAFETY: the reference that `self` owned moves to the `ARef`.
        unsafe { ARef::from_raw(ptr.cast()) }
    }
}

impl Drop for NewCred {
    fn drop(&mut self) {
        // SAFETY: by the type invariant we own the only reference; it is given up here.
        unsafe { bindings::abort_creds(self.0.as_ptr()) }
    }
}

/// Runs `f` with the current task's effective credentials.
#[inline]
pub(super) fn with_current<R>(f: impl FnOnce(&Credential) -> R) -> R {
    // SAFETY: the pointer is the current task's, which replaces its credentials itself.
    let cred = unsafe { (*kernel::task::Task::current_raw()).cred };
    // SAFETY: charter 9: the task references them; whatever replaces them during `f` puts them back.
    f(unsafe { Credential::from_ptr(cred) })
}

/// Runs `f` with the credentials that a security module wants a copy of `source` to be created with;
/// the current ones where it wants none.
///
/// # Errors
///
/// `ESTALE` for a negative dentry; what a security module or `f` returns.
pub(crate) fn scope_copy_up<R>(source: &super::Dentry, f: impl FnOnce() -> Result<R>) -> Result<R> {
    let mut new = core::ptr::null_mut();
    let allowed = calls::rovl_security_inode_copy_up(source.as_positive()?, &mut new);
    let new: Option<ARef<Credential>> = NonNull::new(new).map(|new| {
        // SAFETY: the hook made the credentials for the caller, who owns the only reference; also where a second module failed.
        unsafe { ARef::from_raw(new.cast()) }
    });
    to_result(allowed)?;
    // One call in line, whatever the module wants.
    with_current(|current| scope(new.as_deref().unwrap_or(current), |_| f()))
}

/// An entry of ours that is being created: name and parent of its dentry do not change (charter 5).
pub(crate) enum NewEntry<'a, F: FileSystem> {
    /// One with a name.
    Named(Child<'a, F>),
    /// An unnamed file.
    Unnamed(&'a OpenTmpfile<'a, F>),
}

/// The credentials to create a new object of a layer with, that of `entry`, of type and mode `mode`: the current ones (the
/// mounter's) with fsuid and fsgid of `owner`, and the label that `original`, the caller, would give the entry.
///
/// # Errors
///
/// `ENOMEM`; what a security module returns.
pub(crate) fn creator<F: FileSystem>(
    original: &Credential,
    entry: NewEntry<'_, F>,
    owner: Owner,
    mode: Mode,
) -> Result<ARef<Credential>> {
    let mut new = NewCred::prepare()?;
    new.set_fs_ids(owner);
    let dentry = match &entry {
        NewEntry::Named(child) => child.dentry(),
        NewEntry::Unnamed(file) => file.dentry(),
    };
    // SAFETY: charter 1 and 5: the dentry is referenced, name and parent, which the call reads, are stable, for the first
    // kind by what a `Child` is, for the second since no name leads to it. Of the new credentials we have the only reference.
    to_result(unsafe {
        bindings::rovl_security_dentry_create_files_as(
            dentry.as_ptr(),
            mode.0.into(),
            original.as_ptr(),
            new.as_ptr(),
        )
    })?;
    Ok(new.commit())
}
