// SPDX-License-Identifier: GPL-2.0

//! Names of extended attributes: the union's own ones on layers, their escaping and hiding. Pure.
//!
//! `trusted.overlay.*` of a layer is never shown; what a user stores under that name is kept as
//! `trusted.overlay.overlay.*`, so that a union can be a layer of another. With `userxattr` the same holds of
//! `user.overlay.*`, and `trusted.overlay.*` is a name like others.

use kernel::prelude::*;

/// What is inserted after the prefix of the union's own attributes to escape a user's attribute.
const ESCAPE: &[u8] = b"overlay.";
const TRUSTED: &[u8] = b"trusted.";

/// Where a mount keeps its own attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Namespace {
    /// `trusted.overlay.*`, which only system administrators read and write.
    Trusted,
    /// `user.overlay.*`, of who may read and write the object.
    User,
}

macro_rules! marks {
    ($($(#[$doc:meta])* $mark:ident = $trusted:literal, $user:literal;)+) => {
        /// One of the union's own attributes on layers.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Mark {
            $($(#[$doc])* $mark,)+
        }

        impl Namespace {
            /// The name of `mark`.
            pub(crate) const fn name(self, mark: Mark) -> &'static CStr {
                match self {
                    Self::Trusted => match mark { $(Mark::$mark => $trusted,)+ },
                    Self::User => match mark { $(Mark::$mark => $user,)+ },
                }
            }

            /// All names.
            #[cfg(CONFIG_KUNIT = "y")]
            const MARKS: &'static [Mark] = &[$(Mark::$mark,)+];
        }
    };
}

marks! {
    /// `y`: lower layers are not seen through this directory; `x`: it may hold xattr whiteouts.
    Opaque = c"trusted.overlay.opaque", c"user.overlay.opaque";
    /// Where the lower part of a renamed directory is.
    Redirect = c"trusted.overlay.redirect", c"user.overlay.redirect";
    /// File handle of the lower object that was copied up; empty: unknown.
    Origin = c"trusted.overlay.origin", c"user.overlay.origin";
    /// `y`: the directory may hold copied-up entries.
    Impure = c"trusted.overlay.impure", c"user.overlay.impure";
    /// How many names a file with an index entry has in the union, relative to its links in a layer.
    Nlink = c"trusted.overlay.nlink", c"user.overlay.nlink";
    /// File handle of an upper directory: of that which an index entry stands for, or of the one that the index is for.
    Upper = c"trusted.overlay.upper", c"user.overlay.upper";
    /// The union's UUID, on the upper root.
    Uuid = c"trusted.overlay.uuid", c"user.overlay.uuid";
    /// The data is still in a lower layer.
    Metacopy = c"trusted.overlay.metacopy", c"user.overlay.metacopy";
    /// `chattr` flags that cannot be set on upper itself.
    Protattr = c"trusted.overlay.protattr", c"user.overlay.protattr";
    /// An empty regular file that is a whiteout.
    Whiteout = c"trusted.overlay.whiteout", c"user.overlay.whiteout";
}

/// What a name on a layer is to users of the union.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// The union's own: hidden.
    Private,
    /// An escaped one: shown with [`ESCAPE`] taken out, to those who would see what that gives.
    Escaped,
    /// Any other `trusted.*`: shown to system administrators.
    Trusted,
    /// Shown as it is.
    Plain,
}

impl Namespace {
    /// The prefix of the union's own attributes.
    pub(crate) const fn prefix(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.",
            Self::User => c"user.overlay.",
        }
    }

    /// Classifies a name.
    pub(crate) fn classify(self, name: &[u8]) -> Class {
        match name.strip_prefix(self.prefix().to_bytes()) {
            Some(rest) if rest.starts_with(ESCAPE) => Class::Escaped,
            Some(_) => Class::Private,
            None if name.starts_with(TRUSTED) => Class::Trusted,
            None => Class::Plain,
        }
    }

    /// The name under which a user's attribute with `suffix` after the prefix is stored.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where it gets too long, `ENOMEM`.
    pub(crate) fn escape(self, suffix: &[u8]) -> Result<crate::vfs::CBuf> {
        let mut name: KVec<u8> = KVec::new();
        for part in [self.prefix().to_bytes(), ESCAPE, suffix] {
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
    pub(crate) fn filter_list(self, list: &mut [u8], sysadmin: impl Fn() -> bool) -> Result<usize> {
        let (mut read, mut write) = (0, 0);
        while let Some(rest) = list.get(read..).filter(|rest| !rest.is_empty()) {
            let len = rest.iter().position(|b| *b == 0).ok_or(EIO)? + 1;
            let name = rest.get(..len - 1).ok_or(EIO)?;
            let end = read + len;
            let class = self.classify(name);
            let shown = match class {
                Class::Private => false,
                Class::Escaped | Class::Trusted => !name.starts_with(TRUSTED) || sysadmin(),
                Class::Plain => true,
            };
            if shown {
                let mut from = read;
                if class == Class::Escaped {
                    let prefix = self.prefix().to_bytes().len();
                    list.copy_within(read..read + prefix, write);
                    write += prefix;
                    from += prefix + ESCAPE.len();
                }
                list.copy_within(from..end, write);
                write += end - from;
            }
            read = end;
        }
        Ok(write)
    }
}

#[kernel::macros::kunit_tests(rovl_names)]
mod tests {
    use super::{
        Namespace::{Trusted, User},
        *,
    };

    #[test]
    fn classes() {
        // With the marks in `trusted.*`, and with `userxattr`.
        let cases: [(&[u8], Class, Class); 9] = [
            (b"user.a", Class::Plain, Class::Plain),
            (b"trusted.a", Class::Trusted, Class::Trusted),
            (b"trusted.overlay.", Class::Private, Class::Trusted),
            (b"trusted.overlay.opaque", Class::Private, Class::Trusted),
            (b"trusted.overlay.overlay.x", Class::Escaped, Class::Trusted),
            (b"trusted.overlayfoo", Class::Trusted, Class::Trusted),
            (b"user.overlay.opaque", Class::Plain, Class::Private),
            (b"user.overlay.overlay.opaque", Class::Plain, Class::Escaped),
            (b"user.overlayfoo", Class::Plain, Class::Plain),
        ];
        for (name, trusted, user) in cases {
            assert_eq!(Trusted.classify(name), trusted);
            assert_eq!(User.classify(name), user);
        }
    }

    #[test]
    fn marks() {
        for namespace in [Trusted, User] {
            for mark in Namespace::MARKS {
                let name = namespace.name(*mark).to_bytes();
                assert_eq!(namespace.classify(name), Class::Private);
            }
        }
        for mark in Namespace::MARKS {
            let suffix = |namespace: Namespace| {
                let name = namespace.name(*mark).to_bytes();
                name.strip_prefix(namespace.prefix().to_bytes())
            };
            assert_eq!(suffix(Trusted), suffix(User));
        }
    }

    #[test]
    fn escaping() -> Result {
        assert_eq!(
            Trusted.escape(b"x")?.as_bytes(),
            b"trusted.overlay.overlay.x"
        );
        assert_eq!(User.escape(b"x")?.as_bytes(), b"user.overlay.overlay.x");
        assert!(Trusted.escape(&[b'a'; 240]).is_err());
        assert!(User.escape(&[b'a'; 234]).is_ok());
        assert!(User.escape(&[b'a'; 235]).is_err());
        Ok(())
    }

    #[test]
    fn lists() -> Result {
        let list = *b"user.a\0trusted.overlay.opaque\0trusted.overlay.overlay.x\0trusted.t\0\
            user.overlay.opaque\0user.overlay.overlay.y\0";
        let cases: [(Namespace, bool, &[u8]); 4] = [
            (
                Trusted,
                false,
                b"user.a\0user.overlay.opaque\0user.overlay.overlay.y\0",
            ),
            (
                Trusted,
                true,
                b"user.a\0trusted.overlay.x\0trusted.t\0user.overlay.opaque\0user.overlay.overlay.y\0",
            ),
            (User, false, b"user.a\0user.overlay.y\0"),
            (
                User,
                true,
                b"user.a\0trusted.overlay.opaque\0trusted.overlay.overlay.x\0trusted.t\0user.overlay.y\0",
            ),
        ];
        for (namespace, sysadmin, shown) in cases {
            let mut seen = list;
            let len = namespace.filter_list(&mut seen, || sysadmin)?;
            assert_eq!(seen.get(..len), Some(shown));
        }
        let mut list = *b"trusted.t\0";
        assert_eq!(Trusted.filter_list(&mut list, || true)?, 10);
        let mut list = *b"user.a";
        assert!(Trusted.filter_list(&mut list, || true).is_err());
        Ok(())
    }
}
