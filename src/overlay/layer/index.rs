// SPDX-License-Identifier: GPL-2.0

//! The index: a directory beside the work directory that tells of lower objects which object in upper is their copy.
//!
//! The name of an entry is its origin: the [handle](super::handle) of the lower object, in hexadecimal digits. The entry of
//! anything but a directory is a further link of the copy. It has no name in the union, so an attribute of the copy
//! (`overlay.nlink`) says how many names that has there, relative to the links of the copy, or of the lower object. That of a
//! directory, which only handles that can be opened have a use for, is an empty one that has the handle of the copy
//! (`overlay.upper`). A whiteout says that the object was removed.

use super::{
    handle::{self, Value, MAX_VALUE, MIN_VALUE},
    marks,
    temp::{self, Temp},
    whiteout,
    xattr_names::{Mark, Namespace},
};
use crate::{
    overlay::union::Overlay,
    vfs::{
        dirop::{New, Renaming},
        log::{warn_limited, Text},
        mount::{PathRef, WritePath, Writing},
        xattr, Dentry, Inode, Mode, Ref,
    },
};
use kernel::prelude::*;

/// The name of an entry.
pub(crate) struct Name([u8; 2 * MAX_VALUE], usize);

impl Name {
    /// That of the entry of the lower object `lower`.
    ///
    /// # Errors
    ///
    /// `EIO` where its filesystem fails to encode.
    pub(crate) fn of(fs: &Overlay, lower: &Inode) -> Result<Self> {
        let origin = handle::encode(&fs.layers, lower, false)?;
        Ok(Self::of_origin(&origin))
    }

    /// That of the entry of the origin `origin`.
    pub(crate) fn of_origin(origin: &Value) -> Self {
        let mut name = [0; 2 * MAX_VALUE];
        let bytes = origin.as_bytes();
        for (digits, byte) in name.chunks_exact_mut(2).zip(bytes) {
            digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(name, 2 * bytes.len())
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

fn digit(value: u8) -> u8 {
    match value {
        ..10 => b'0' + value,
        _ => b'a' - 10 + value,
    }
}

/// The origin that an entry with the name `name` stands for.
///
/// # Errors
///
/// `EINVAL` where it is no name of an entry, `ENODATA` where only another kernel reads it; `ENOMEM`.
pub(crate) fn origin_of(name: &[u8]) -> Result<KVec<u8>> {
    if name.len() < 2 * MIN_VALUE {
        return Err(EINVAL);
    }
    let value = |digit: u8| char::from(digit).to_digit(16).ok_or(EINVAL);
    let mut origin = KVec::with_capacity(name.len() / 2, GFP_KERNEL)?;
    for digits in name.chunks_exact(2) {
        let [high, low] = *digits else {
            return Err(EINVAL);
        };
        let byte = value(high)? << 4 | value(low)?;
        origin.push(u8::try_from(byte)?, GFP_KERNEL)?;
    }
    handle::check(&origin)?;
    Ok(origin)
}

/// What the index has for an origin.
pub(crate) enum Entry<'a> {
    /// Nothing: no name of the lower object was copied up, or none of those that were is indexed.
    Missing,
    /// A whiteout: all names were removed.
    Whiteout,
    /// An object.
    Object(Ref<'a, Dentry>),
}

/// Looks the entry with the name `name` up; `Missing` where there is no index.
///
/// # Errors
///
/// What the lookup returns.
pub(crate) fn find<'a>(fs: &'a Overlay, name: &Name) -> Result<Entry<'a>> {
    let (Some(index), Some(upper)) = (fs.index(), fs.upper()) else {
        return Ok(Entry::Missing);
    };
    let found = index
        .lookup_positive(upper.mnt(), name.as_bytes(), true)
        .inspect_err(|e| {
            let errno = e.to_errno();
            let name = Text(name.as_bytes());
            warn_limited!("failed inode index lookup (key={name}, err={errno})\n");
        })?;
    Ok(match found {
        None => Entry::Missing,
        Some(found) if found.inode().is_some_and(Inode::is_whiteout_device) => Entry::Whiteout,
        Some(found) => Entry::Object(found),
    })
}

/// The entry of the lower object `lower`, which is no directory and has a name in the union; of one whose name is in upper, as
/// `upper`, only if that is it.
///
/// # Errors
///
/// `EIO` where the entry is no copy of such an object; what the lookup returns.
pub(crate) fn of_lower<'a>(
    fs: &'a Overlay,
    upper: Option<&Dentry>,
    lower: &Inode,
) -> Result<Option<Ref<'a, Dentry>>> {
    let name = Name::of(fs, lower)?;
    let found = match find(fs, &name)? {
        Entry::Missing => return Ok(None),
        // All names of the object were removed, and here is one.
        Entry::Whiteout => None,
        Entry::Object(found) => Some(found).filter(|found| {
            let same_type = |inode: &Inode| inode.mode().file_type() == lower.mode().file_type();
            !found.is_weird() && found.inode().is_some_and(same_type)
        }),
    };
    let Some(found) = found else {
        let name = Text(name.as_bytes());
        warn_limited!("bad index found ({name})\n");
        return Err(EIO);
    };
    let is_it = upper.is_none_or(|upper| upper.inode() == found.inode());
    Ok(Some(found).filter(|_| is_it))
}

/// Whether the entry of the lower directory `lower`, which has a name in the union, stands for `upper`, which is in upper under
/// that name; `false` where there is none.
///
/// # Errors
///
/// `EIO` where there is one that does not: `lower` was renamed; what the lookup returns.
pub(crate) fn has_dir(fs: &Overlay, upper: Option<&Dentry>, lower: &Inode) -> Result<bool> {
    let name = Name::of(fs, lower)?;
    let entry = match find(fs, &name)? {
        Entry::Missing => return Ok(false),
        Entry::Object(entry) if entry.can_lookup() => Some(entry),
        Entry::Whiteout | Entry::Object(_) => None,
    };
    let name = Text(name.as_bytes());
    let Some(entry) = entry else {
        warn_limited!("bad index found ({name})\n");
        return Err(EIO);
    };
    let Some(upper) = upper else {
        warn_limited!("suspected uncovered redirected dir found ({name})\n");
        return Err(EIO);
    };
    let entry = fs.upper().ok_or(EIO)?.path(&entry)?;
    let value = handle::encode(&fs.layers, upper.positive()?, true)?;
    match handle::holds(fs.namespace(), entry, Mark::Upper, value.as_bytes())? {
        Some(true) => Ok(true),
        _ => {
            warn_limited!("suspected multiply redirected dir found ({upper}, {name})\n");
            Err(EIO)
        }
    }
}

/// Adds an entry with the name `name` for the upper directory `upper`.
///
/// # Errors
///
/// `EEXIST` where there is one; what the filesystem returns.
pub(crate) fn add_dir(fs: &Overlay, writing: Writing<'_>, name: &Name, upper: &Dentry) -> Result {
    let ((_, work), index) = (fs.work()?, fs.index().ok_or(EIO)?);
    let entry = Temp::create(writing, work, New::Node(Mode(Mode::DIR), 0))?;
    let value = handle::encode(&fs.layers, upper.positive()?, true)?;
    let to = entry.path()?;
    marks::set_own(fs, to, Mark::Upper, value.as_bytes(), Err(EOPNOTSUPP))?;
    let place = (index, name.as_bytes());
    Renaming::start_dentry(writing, (work, to.dentry()), place, true, 0)?.rename()?;
    entry.keep().map(drop)
}

/// Removes the entry of the lower object `lower`, whose copy `upper` has no name in the union any more; nothing where the entry
/// is of another object. Where there are handles of it, a whiteout says that it is gone.
///
/// # Errors
///
/// What the filesystem returns.
pub(crate) fn remove(fs: &Overlay, writing: Writing<'_>, lower: &Inode, upper: &Dentry) -> Result {
    let Some(index) = fs.index() else {
        return Ok(());
    };
    let name = Name::of(fs, lower)?;
    if fs.has_export() {
        let found = index.lookup(writing.mnt(), name.as_bytes())?;
        return whiteout::cover(fs, writing, index, &found);
    }
    match find(fs, &name)? {
        Entry::Object(found) if found.inode() == upper.inode() => {
            temp::remove(writing, index, &found)
        }
        _ => Ok(()),
    }
}

/// Which object a number of names is relative to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The copy: it changes with its links.
    Upper,
    /// The lower object: it stays as it is while the copy gets its names.
    Lower,
}

/// How many names more than links there are: a value of `overlay.nlink`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Relative {
    side: Side,
    more: i32,
}

impl Relative {
    fn parse(value: &[u8]) -> Option<Self> {
        let side = match value.first()? {
            b'U' => Side::Upper,
            b'L' => Side::Lower,
            _ => return None,
        };
        let number = value.get(1..)?;
        // The sign is not optional.
        let text = match number.first()? {
            b'+' | b'-' => core::str::from_utf8(number).ok()?,
            _ => return None,
        };
        let more = text.parse().ok()?;
        Some(Self { side, more })
    }

    /// The number of names, of which there is one at least.
    fn names(self, links: u32) -> Option<u32> {
        links
            .checked_add_signed(self.more)
            .filter(|names| *names > 0)
    }
}

/// The longest value, with room for a sign and a number.
const MAX_RELATIVE: usize = 12;

/// A value of `overlay.nlink`, at the end of the room for it; and where that begins.
struct Digits([u8; MAX_RELATIVE], usize);

impl Digits {
    // By hand: formatting costs as much as the rest of the record.
    fn of(side: Side, more: i64) -> Self {
        let mut value = Self([0; MAX_RELATIVE], MAX_RELATIVE);
        let mut left = more.unsigned_abs();
        loop {
            value.put_before(b'0' + (left % 10) as u8);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        value.put_before(if more < 0 { b'-' } else { b'+' });
        value.put_before(match side {
            Side::Upper => b'U',
            Side::Lower => b'L',
        });
        value
    }

    fn put_before(&mut self, byte: u8) {
        self.1 = self.1.saturating_sub(1);
        if let Some(to) = self.0.get_mut(self.1) {
            *to = byte;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.get(self.1..).unwrap_or_default()
    }
}

/// Records on the copy `upper` that it has `names` names in the union; `links` is the link count of the object on `side`.
///
/// # Errors
///
/// `EOPNOTSUPP` where upper has no attributes; what the filesystem returns.
pub(crate) fn record_names(
    fs: &Overlay,
    upper: WritePath<'_>,
    names: u32,
    (side, links): (Side, u32),
) -> Result {
    let value = Digits::of(side, i64::from(names) - i64::from(links));
    marks::set_own(fs, upper, Mark::Nlink, value.as_bytes(), Err(EOPNOTSUPP))
}

/// How many names the copy `upper` of `lower` has in the union; `None`, with a message, where it does not say so in a way that
/// can be.
///
/// # Errors
///
/// What reading that returns, which says nothing of it.
pub(crate) fn names(own: Namespace, upper: PathRef<'_>, lower: &Inode) -> Result<Option<u32>> {
    let mut value = [0; MAX_RELATIVE];
    let found = match xattr::get(upper, own.name(Mark::Nlink), &mut value) {
        Err(e) if e == ENODATA || e == ERANGE || e == EOPNOTSUPP => None,
        other => Some(other?),
    };
    let known = found.and_then(|len| {
        let relative = Relative::parse(value.get(..len)?)?;
        relative.names(match relative.side {
            Side::Upper => upper.dentry().inode()?.nlink(),
            Side::Lower => lower.nlink(),
        })
    });
    if known.is_none() {
        warn_limited!("failed to get index nlink ({})\n", upper.dentry());
    }
    Ok(known)
}

#[kernel::macros::kunit_tests(rovl_index)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        for value in 0..16u8 {
            let back = char::from(digit(value)).to_digit(16);
            assert_eq!(back, Some(u32::from(value)));
        }
    }

    #[test]
    fn made_and_read() {
        for side in [Side::Upper, Side::Lower] {
            for more in [0, 1, -1, 10, -10, i32::MAX, i32::MIN] {
                let value = Digits::of(side, more.into());
                let read = Relative::parse(value.as_bytes());
                assert_eq!(read, Some(Relative { side, more }));
            }
        }
        let most = i64::from(u32::MAX);
        assert_eq!(Digits::of(Side::Upper, -most).as_bytes(), b"U-4294967295");
        assert_eq!(Digits::of(Side::Lower, 0).as_bytes(), b"L+0");
    }

    #[test]
    fn names_and_links() {
        use Side::{Lower, Upper};
        // The value, the side, names where that has 3 links.
        let cases: [(&[u8], Side, Option<u32>); 9] = [
            (b"U+0", Upper, Some(3)),
            (b"U-1", Upper, Some(2)),
            (b"L+2", Lower, Some(5)),
            (b"L-2", Lower, Some(1)),
            (b"L-3", Lower, None),
            (b"U-4", Upper, None),
            (b"U+2147483647", Upper, Some(2147483650)),
            (b"L-2147483648", Lower, None),
            (b"U-0", Upper, Some(3)),
        ];
        for (value, side, names) in cases {
            let relative = Relative::parse(value);
            assert_eq!(relative.map(|relative| relative.side), Some(side));
            assert_eq!(relative.and_then(|relative| relative.names(3)), names);
        }
        let bad: [&[u8]; 9] = [
            b"",
            b"U",
            b"U+",
            b"U1",
            b"X+1",
            b"u+1",
            b"U+1x",
            b"L+99999999999",
            b"U++1",
        ];
        for value in bad {
            assert_eq!(Relative::parse(value), None);
        }
    }
}
