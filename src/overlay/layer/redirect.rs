// SPDX-License-Identifier: GPL-2.0

//! Redirects: where the lower part of a renamed directory is, or the data of a renamed file that was copied up without.
//!
//! On disk (`overlay.redirect`): a name, for what stayed in its directory, or a path from the roots of the layers.

use crate::overlay::{
    layer::{
        marks,
        xattr_names::{Mark, Namespace},
    },
    union::Dentry,
};
use crate::vfs::{
    log::warn_limited,
    module,
    mount::{PathRef, WritePath},
    xattr, CBuf, NameSnapshot, Ref,
};
use kernel::{alloc::allocator::KVmalloc, prelude::*};

/// A name, or a path from the roots of the layers.
#[derive(PartialEq, Debug)]
pub(crate) struct Redirect(CBuf<KVmalloc>);

impl Redirect {
    /// Whether it is a path.
    pub(crate) fn is_path(&self) -> bool {
        self.as_bytes().first() == Some(&b'/')
    }

    /// What `bytes` say; `ENOMEM`.
    fn new(bytes: KVVec<u8>) -> Result<Self> {
        // What is behind a zero does not count.
        CBuf::until_nul(bytes).map(Self)
    }

    /// Its bytes; a path starts with a slash.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// It for C.
    pub(crate) fn as_cstr(&self) -> &CStr {
        self.0.as_cstr()
    }

    /// The name, or the first one of the path.
    ///
    /// # Errors
    ///
    /// `EACCES` where no directory has such a name, as of a lookup.
    pub(crate) fn first_name(&self) -> Result<&[u8]> {
        let bytes = self.as_bytes();
        let path = bytes.strip_prefix(b"/").unwrap_or(bytes);
        match path.split(|b| *b == b'/').next().unwrap_or_default() {
            b"" | b"." | b".." => Err(EACCES),
            name => Ok(name),
        }
    }
}

/// What a value says; `None` where it is none. A name that no directory holds is one: no layer finds it.
///
/// # Errors
///
/// `ENOMEM`.
fn parse(value: KVVec<u8>) -> Result<Option<Redirect>> {
    if value.is_empty() {
        return Ok(None);
    }
    let said = Redirect::new(value)?;
    let text = said.as_bytes();
    let valid = match text.strip_prefix(b"/") {
        Some(rest) => rest.split(|b| *b == b'/').all(|part| !part.is_empty()),
        None => !text.contains(&b'/'),
    };
    Ok(valid.then_some(said))
}

/// The redirect of an object of a layer.
///
/// # Errors
///
/// `EINVAL` where the value is none; `ENOMEM` and what reading it returns.
pub(crate) fn read(own: Namespace, path: PathRef<'_>) -> Result<Option<Redirect>> {
    let value = match xattr::get_all(path, own.name(Mark::Redirect)) {
        Err(e) if e == ENODATA || e == EOPNOTSUPP => return Ok(None),
        other => other?,
    };
    match parse(value)? {
        None => {
            warn_limited!("invalid redirect on {}\n", path.dentry());
            Err(EINVAL)
        }
        said => Ok(said),
    }
}

/// The path that the layers below are asked for, put together while a path is walked in one layer.
#[derive(Default)]
pub(crate) struct Trail {
    path: KVVec<u8>,
    redirected: bool,
}

impl Trail {
    /// Adds a step: `name`, or what the directory there says instead.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn push(&mut self, name: &[u8], redirect: Option<Redirect>) -> Result {
        self.redirected |= redirect.is_some();
        let step = match &redirect {
            Some(redirect) if redirect.is_path() => {
                self.path.clear();
                redirect.as_bytes()
            }
            other => {
                self.path.push(b'/', GFP_KERNEL)?;
                other.as_ref().map_or(name, Redirect::as_bytes)
            }
        };
        Ok(self.path.extend_from_slice(step, GFP_KERNEL)?)
    }

    /// The path, where a redirect changed it.
    pub(crate) fn redirect(self) -> Result<Option<Redirect>> {
        match self.redirected {
            true => Redirect::new(self.path).map(Some),
            false => Ok(None),
        }
    }
}

/// How a redirect says where something is.
#[derive(Clone, Copy)]
pub(crate) enum How<'a> {
    /// By this name, which it has: it stays in its directory.
    Name(&'a [u8]),
    /// By its path.
    Path,
}

/// Records on `upper`, the object in upper of `dentry`, where its lower part is, before it gets another name.
///
/// # Errors
///
/// `EXDEV` where it can't be recorded: the object is to be copied by the user; `ENOMEM`.
pub(crate) fn record(dentry: &Dentry, upper: WritePath<'_>, how: How<'_>) -> Result {
    let fs = dentry.fs();
    let set = |value: &[u8]| marks::set_own(fs, upper, Mark::Redirect, value, Err(EXDEV));
    let record = || match (read(fs.namespace(), *upper)?, how) {
        (Some(known), How::Path) if !known.is_path() => set(Backwards::path_of(dentry)?.as_bytes()),
        (Some(_), _) => Ok(()),
        (None, How::Name(name)) => set(name),
        (None, How::Path) => set(Backwards::path_of(dentry)?.as_bytes()),
    };
    record().map_err(|e| {
        if e == ENOMEM || e == EXDEV {
            return e;
        }
        warn_limited!("failed to set redirect ({})\n", e.to_errno());
        EXDEV
    })
}

/// A path that is put together from its end.
struct Backwards {
    buf: KVec<u8>,
    start: usize,
}

impl Backwards {
    fn new(max: usize) -> Result<Self> {
        Ok(Self {
            buf: KVec::zeroed(max, GFP_KERNEL)?,
            start: max,
        })
    }

    /// Adds what comes before; `EXDEV` where there is no room.
    fn push(&mut self, part: &[u8]) -> Result {
        let start = self.start.checked_sub(part.len()).ok_or(EXDEV)?;
        let room = self.buf.get_mut(start..self.start).ok_or(EXDEV)?;
        room.copy_from_slice(part);
        self.start = start;
        Ok(())
    }

    fn as_bytes(&self) -> &[u8] {
        self.buf.get(self.start..).unwrap_or_default()
    }

    /// The path of the lower part of what is under `dentry`.
    fn path_of(dentry: &Dentry) -> Result<Self> {
        let own = dentry.fs().namespace();
        let mut path = Self::new(usize::from(module::redirect_max()))?;
        let mut at: Ref<'_, Dentry> = dentry.into();
        while !at.is_root() {
            let parent = at.up();
            // In this order: what is renamed meanwhile has its redirect before its new name.
            let name = NameSnapshot::take(&at);
            let upper = at.own_positive()?.upper_path();
            let redirect = upper.map(|upper| read(own, upper)).transpose()?.flatten();
            if *at.up() != *parent {
                // The name may be one of the other directory.
                continue;
            }
            match &redirect {
                Some(redirect) => path.push(redirect.as_bytes())?,
                None => path.push(name.as_bytes())?,
            }
            if redirect.as_ref().is_some_and(Redirect::is_path) {
                break;
            }
            path.push(b"/")?;
            at = parent;
        }
        Ok(path)
    }
}

#[kernel::macros::kunit_tests(rovl_redirect)]
mod tests {
    use super::*;

    fn bytes(text: &[u8]) -> Result<KVVec<u8>> {
        let mut bytes = KVVec::new();
        bytes.extend_from_slice(text, GFP_KERNEL)?;
        Ok(bytes)
    }

    fn redirect(text: &[u8]) -> Result<Redirect> {
        Redirect::new(bytes(text)?)
    }

    #[test]
    fn values() -> Result {
        for good in [
            &b"a"[..],
            b"a b",
            b"..",
            b"\0",
            b"/a",
            b"/a/b c/d",
            b"/a/..",
            b"a\0b/",
            b"\xff",
        ] {
            assert!(parse(bytes(good)?)?.is_some());
        }
        for bad in [
            &b""[..],
            b"/",
            b"a/",
            b"a/b",
            b"//a",
            b"/a/",
            b"/a//b",
            b"/\0a",
        ] {
            assert!(parse(bytes(bad)?)?.is_none());
        }
        let said = parse(bytes(b"a\0b")?)?;
        assert_eq!(said.as_ref().map(Redirect::as_bytes), Some(&b"a"[..]));
        assert_eq!(redirect(b"a")?.first_name(), Ok(&b"a"[..]));
        assert_eq!(redirect(b"/a/b")?.first_name(), Ok(&b"a"[..]));
        assert_eq!(redirect(b"..")?.first_name(), Err(EACCES));
        Ok(())
    }

    #[test]
    fn trails() -> Result {
        type Steps<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];
        let cases: [(Steps<'_>, Option<&[u8]>); 5] = [
            (&[(b"a", None), (b"b", None)], None),
            (&[(b"a", Some(b"x")), (b"b", None)], Some(b"/x/b")),
            (&[(b"a", None), (b"b", Some(b"x"))], Some(b"/a/x")),
            (
                &[(b"a", Some(b"x")), (b"b", Some(b"/y/z")), (b"c", None)],
                Some(b"/y/z/c"),
            ),
            (&[(b"a", Some(b"/y")), (b"b", Some(b"z"))], Some(b"/y/z")),
        ];
        for (steps, wanted) in cases {
            let mut trail = Trail::default();
            for (name, said) in steps {
                trail.push(name, said.map(redirect).transpose()?)?;
            }
            let made = trail.redirect()?;
            assert_eq!(made.as_ref().map(Redirect::as_bytes), wanted);
        }
        Ok(())
    }

    #[test]
    fn backwards() -> Result {
        let mut path = Backwards::new(6)?;
        path.push(b"bc")?;
        path.push(b"/")?;
        assert_eq!(path.push(b"four"), Err(EXDEV));
        path.push(b"a/x")?;
        assert_eq!(path.as_bytes(), b"a/x/bc");
        assert_eq!(path.push(b"/"), Err(EXDEV));
        Ok(())
    }
}
