// SPDX-License-Identifier: GPL-2.0

//! What no type can ask for: misuses that compile, and are refused when they run.
//!
//! KUnit's thread has an empty root directory, so that what needs files of a filesystem is tested by system calls.

use super::{attr::Iattr, dirop, file, mount::Path, registration, CBuf, Mode, PATH_MAX};
use crate::bindings;
use kernel::prelude::*;

#[kernel::macros::kunit_tests(rovl_misuse)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_are_paths() -> Result {
        let of_length = |len| -> Result {
            let bytes: KVec<u8> = KVec::from_elem(b'a', len, GFP_KERNEL)?;
            dirop::is_path(CBuf::new(&bytes)?.as_cstr())
        };
        assert_eq!(of_length(0), Err(ENOENT));
        assert_eq!(of_length(1), Ok(()));
        assert_eq!(of_length(PATH_MAX - 1), Ok(()));
        assert_eq!(of_length(PATH_MAX), Err(ENAMETOOLONG));
        Ok(())
    }

    #[test]
    fn types_stay() -> Result {
        let mut attr = Iattr::mode(Mode(Mode::LNK | 0o4750));
        attr.fit(Mode(Mode::DIR | 0o700))?;
        assert_eq!(attr.0.ia_mode, Mode::DIR | 0o4750);
        Ok(())
    }

    #[test]
    fn sizes_are_of_files() {
        let fits = |kind| Iattr::size(4096).fit(Mode(kind | 0o600));
        assert_eq!(fits(Mode::REG), Ok(()));
        assert_eq!(fits(Mode::DIR), Err(EISDIR));
        assert_eq!(fits(Mode::LNK), Err(EINVAL));
        assert_eq!(fits(Mode::CHR), Err(EINVAL));
    }

    /// A file that is not really opened forgets how it was allocated.
    #[test]
    fn files_are_opened() -> Result {
        let root = Path::resolve(c"/")?;
        let opened = file::open(root.as_ref(), bindings::O_PATH)?;
        assert_eq!(opened.flags() & bindings::O_PATH, 0);
        Ok(())
    }

    #[test]
    fn links_are_symlinks() -> Result {
        let root = Path::resolve(c"/")?;
        let read = root.as_ref().dentry().with_link(|_| Ok(()));
        assert_eq!(read, Err(EINVAL));
        Ok(())
    }

    #[test]
    fn magic_numbers_of_others() {
        assert!(registration::is_believed(bindings::XFS_SUPER_MAGIC));
        assert!(!registration::is_believed(bindings::OVERLAYFS_SUPER_MAGIC));
    }
}
