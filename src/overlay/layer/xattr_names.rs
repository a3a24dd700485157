// SPDX-License-Identifier: GPL-2.0

//! Names of extended attributes: our own ones on layers, their escaping and hiding. Pure.
//!
//! `trusted.overlay.*` of a layer is never shown; what a user stores under that name is kept as
//! `trusted.overlay.overlay.*`, so that a union can be a layer of another.

use kernel::prelude::*;

/// Prefix of the attributes that belong to the union itself.
pub(crate) const OWN_PREFIX: &CStr = c"trusted.overlay.";
/// What is inserted after [`OWN_PREFIX`] to escape a user's attribute.
const ESCAPE: &[u8] = b"overlay.";
const TRUSTED: &[u8] = b"trusted.";

/// Our attributes on layers.
pub(crate) mod own {
    use kernel::prelude::*;
    /// `y`: lower layers are not seen through this directory; `x`: it may hold xattr whiteouts.
    pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";
    /// Where the lower part of a renamed directory is.
    pub(crate) const REDIRECT: &CStr = c"trusted.overlay.redirect";
    /// File handle of the lower object that was copied up; empty: unknown.
    pub(crate) const ORIGIN: &CStr = c"trusted.overlay.origin";
    /// `y`: the directory may hold copied-up entries.
    pub(crate) const IMPURE: &CStr = c"trusted.overlay.impure";
    /// The union's UUID, on the upper root.
    pub(crate) const UUID: &CStr = c"trusted.overlay.uuid";
    /// The data is still in a lower layer.
    pub(crate) const METACOPY: &CStr = c"trusted.overlay.metacopy";
    /// `chattr` flags that cannot be set on upper itself.
    pub(crate) const PROTATTR: &CStr = c"trusted.overlay.protattr";
    /// An empty regular file that is a whiteout.
    pub(crate) const WHITEOUT: &CStr = c"trusted.overlay.whiteout";
}

/// What a name on a layer is to users of the union.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// The union's own: hidden.
    Private,
    /// An escaped one: shown to system administrators with [`ESCAPE`] taken out.
    Escaped,
    /// Any other `trusted.*`: shown to system administrators.
    Trusted,
    /// Shown as it is.
    Plain,
}

/// Classifies a name.
pub(crate) fn classify(name: &[u8]) -> Class {
    match name.strip_prefix(OWN_PREFIX.to_bytes()) {
        Some(rest) if rest.starts_with(ESCAPE) => Class::Escaped,
        Some(_) => Class::Private,
        None if name.starts_with(TRUSTED) => Class::Trusted,
        None => Class::Plain,
    }
}

/// The name under which a user's `OWN_PREFIX + suffix` is stored.
///
/// # Errors
///
/// `EOPNOTSUPP` where it gets too long, `ENOMEM`.
pub(crate) fn escape(suffix: &[u8]) -> Result<crate::vfs::CBuf> {
    let mut name: KVec<u8> = KVec::new();
    for part in [OWN_PREFIX.to_bytes(), ESCAPE, suffix] {
        name.extend_from_slice(part, GFP_KERNEL)?;
    }
    if name.len() > crate::vfs::xattr::NAME_MAX {
        return Err(EOPNOTSUPP);
    }
    crate::vfs::CBuf::new(&name)
}

/// Filters and unescapes a list of NUL-terminated names in place; returns its new length.
///
/// # Errors
///
/// `EIO` where the last name has no end.
pub(crate) fn filter_list(list: &mut [u8], sysadmin: impl Fn() -> bool) -> Result<usize> {
    let (mut read, mut write) = (0, 0);
    while let Some(rest) = list.get(read..).filter(|rest| !rest.is_empty()) {
        let len = rest.iter().position(|b| *b == 0).ok_or(EIO)? + 1;
        let name = rest.get(..len - 1).ok_or(EIO)?;
        let end = read + len;
        match classify(name) {
            Class::Private => {}
            Class::Trusted | Class::Escaped if !sysadmin() => {}
            Class::Escaped => {
                let prefix = OWN_PREFIX.to_bytes().len();
                list.copy_within(read..read + prefix, write);
                list.copy_within(read + prefix + ESCAPE.len()..end, write + prefix);
                write += len - ESCAPE.len();
            }
            Class::Trusted | Class::Plain => {
                list.copy_within(read..end, write);
                write += len;
            }
        }
        read = end;
    }
    Ok(write)
}

#[kernel::macros::kunit_tests(rovl_names)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        assert_eq!(classify(b"user.a"), Class::Plain);
        assert_eq!(classify(b"trusted.a"), Class::Trusted);
        assert_eq!(classify(b"trusted.overlay."), Class::Private);
        assert_eq!(classify(b"trusted.overlay.opaque"), Class::Private);
        assert_eq!(classify(b"trusted.overlay.overlay.opaque"), Class::Escaped);
        assert_eq!(classify(b"trusted.overlayfoo"), Class::Trusted);
        assert_eq!(classify(b"user.overlay.opaque"), Class::Plain);
    }

    #[test]
    fn escaping() -> Result {
        assert_eq!(escape(b"x")?.as_bytes(), b"trusted.overlay.overlay.x");
        assert!(escape(&[b'a'; 240]).is_err());
        Ok(())
    }

    #[test]
    fn lists() -> Result {
        let mut list = *b"user.a\0trusted.overlay.opaque\0trusted.overlay.overlay.x\0trusted.t\0";
        let mut user = list;
        let len = filter_list(&mut user, || false)?;
        assert_eq!(user.get(..len), Some(&b"user.a\0"[..]));
        let len = filter_list(&mut list, || true)?;
        assert_eq!(
            list.get(..len),
            Some(&b"user.a\0trusted.overlay.x\0trusted.t\0"[..])
        );
        let mut list = *b"trusted.t\0";
        assert_eq!(filter_list(&mut list, || true)?, 10);
        let mut list = *b"user.a";
        assert!(filter_list(&mut list, || true).is_err());
        Ok(())
    }
}
