// SPDX-License-Identifier: GPL-2.0

//! What no type can ask for: the misuses of `tests/unsound` that compile, and are refused when they run.

use super::{
    attr::Iattr,
    dirop::{Creating, New, Removing, Renaming},
    file,
    mount::{Path, Writing},
    registration::is_believed,
    CBuf, Dentry, Mode, Mount, Ref, PATH_MAX,
};
use crate::bindings;
use kernel::{error::code::ELOOP, prelude::*};

#[kernel::macros::kunit_tests(rovl_vfs)]
mod tests {
    use super::*;

    /// Runs `f` in a directory that can be written to.
    fn in_tmp(f: impl FnOnce(Writing<'_>, &Dentry) -> Result) -> Result {
        let tmp = Path::resolve(c"/tmp")?;
        let mnt = Mount::clone_private(tmp.as_ref(), false)?;
        let write = mnt.want_write()?;
        f(write.writing(), mnt.root().dentry())
    }

    fn make<'a>(
        writing: Writing<'a>,
        dir: &'a Dentry,
        name: &[u8],
        new: New<'_>,
    ) -> Result<Ref<'a, Dentry>> {
        Creating::start(writing, dir, name)?.create(new)
    }

    fn remove(writing: Writing<'_>, dir: &Dentry, made: &Dentry) -> Result {
        Removing::start_dentry(writing, dir, made)?.remove()
    }

    /// Filesystems that hold a symlink in a page copy what they are given.
    #[test]
    fn symlinks_are_paths() -> Result {
        in_tmp(|writing, dir| {
            let long: KVec<u8> = KVec::from_elem(b'a', PATH_MAX, GFP_KERNEL)?;
            let long = CBuf::new(&long)?;
            let link = |to| make(writing, dir, b"rovl-link", New::Symlink(to)).map(drop);
            assert_eq!(link(long.as_cstr()), Err(ENAMETOOLONG));
            assert_eq!(link(c""), Err(ENOENT));
            let made = make(writing, dir, b"rovl-link", New::Symlink(c"target"))?;
            made.with_link(|to| {
                assert_eq!(to, c"target");
                Ok(())
            })?;
            remove(writing, dir, &made)
        })
    }

    /// An inode keeps its type, whatever mode it is given; only a regular file has a size that can be set.
    #[test]
    fn attributes_of_the_type() -> Result {
        in_tmp(|writing, dir| {
            let node = New::Node(Mode(Mode::DIR | 0o700), 0);
            let made = make(writing, dir, b"rovl-dir", node)?;
            let lock = made.positive()?.lock();
            let path = writing.path(&made)?;
            Iattr::mode(Mode(Mode::LNK | 0o750)).apply(path, &lock)?;
            assert_eq!(made.positive()?.mode().0, Mode::DIR | 0o750);
            assert_eq!(Iattr::size(4096).apply(path, &lock), Err(EISDIR));
            drop(lock);
            remove(writing, dir, &made)
        })
    }

    /// A file that is not really opened is not of the kind that it was allocated as.
    #[test]
    fn files_are_opened() -> Result {
        let root = Path::resolve(c"/")?;
        let opened = file::open(root.as_ref(), bindings::O_PATH)?;
        assert_eq!(opened.flags() & bindings::O_PATH, 0);
        Ok(())
    }

    /// A walk begins in a directory.
    #[test]
    fn walks_have_a_root() -> Result {
        let root = Path::resolve(c"/")?;
        let mnt = root.as_ref().mnt();
        let missing = root.as_ref().dentry().lookup(mnt, b"rovl-no-such-name")?;
        let path = mnt.path(&missing)?;
        assert_eq!(Path::resolve_beneath(path, c"").err(), Some(ENOTDIR));
        Ok(())
    }

    /// There is no walk that the link could move.
    #[test]
    fn links_are_plain() -> Result {
        let proc = Path::resolve(c"/proc/1")?;
        let link = proc.as_ref().dentry().lookup(proc.as_ref().mnt(), b"cwd")?;
        assert_eq!(link.with_link(|_| Ok(())), Err(ELOOP));
        assert_eq!(proc.as_ref().dentry().with_link(|_| Ok(())), Err(EINVAL));
        Ok(())
    }

    /// Filesystems count on those flags that system calls pass on.
    #[test]
    fn known_flags_of_a_rename() -> Result {
        in_tmp(|writing, dir| {
            let renaming = Renaming::start(writing, (dir, b"rovl-a"), (dir, b"rovl-b"), 1 << 7);
            assert_eq!(renaming.err(), Some(EINVAL));
            Ok(())
        })
    }

    /// The kernel takes a super block with one of these for its own.
    #[test]
    fn magic_numbers_of_others() {
        assert!(is_believed(bindings::XFS_SUPER_MAGIC));
        assert!(!is_believed(bindings::OVERLAYFS_SUPER_MAGIC));
    }
}
