// SPDX-License-Identifier: GPL-2.0

//! What one layer answers to a lookup.

use super::fold::Step;
use crate::{
    overlay::{
        layer::{
            marks,
            redirect::{self, Redirect, Trail},
            whiteout,
            xattr_names::Mark,
            Layer,
        },
        union::Overlay,
    },
    vfs::{
        self,
        log::{warn_limited, Text},
        Ref,
    },
};
use kernel::prelude::*;

/// One layer's answer.
pub(super) struct Answer<'a> {
    pub(super) step: Step,
    pub(super) dentry: Option<Ref<'a, vfs::Dentry>>,
    /// The directory is marked as one that may hold xattr whiteouts.
    pub(super) xwhiteouts: bool,
    /// What the layers below are asked for instead.
    pub(super) redirect: Option<Redirect>,
    /// The file without data has a digest of that.
    pub(super) has_digest: bool,
}

impl<'a> Answer<'a> {
    fn new(step: Step, dentry: Option<Ref<'a, vfs::Dentry>>) -> Self {
        Self {
            step,
            dentry,
            xwhiteouts: false,
            redirect: None,
            has_digest: false,
        }
    }
}

/// How a layer is asked.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// It is upper.
    pub(super) upper: bool,
    /// There is none below it: what its directories would hide, and where its files would have their data, is not looked
    /// at.
    pub(super) last: bool,
    /// Only directories count.
    pub(super) dirs: bool,
}

/// Asks one layer for `path` from `base`, its root.
#[cold]
pub(super) fn ask_path<'a>(
    fs: &Overlay,
    layer: &'a Layer,
    base: &vfs::Dentry,
    path: &[u8],
    how: How,
) -> Result<Answer<'a>> {
    let mut dir = base.get();
    let mut trail = Trail::default();
    // A directory on the way hides the layers below, but for what an absolute redirect further on names.
    let mut opaque = false;
    let mut names = path.split(|b| *b == b'/').peekable();
    loop {
        let name = names.next().unwrap_or_default();
        let is_end = names.peek().is_none();
        let dirs = how.dirs || !is_end;
        let mut answer = match find_name(fs, layer, &dir, name, how.upper)? {
            Some(found) => ask_found(fs, layer, &dir, name, found, How { dirs, ..how })?,
            None => Answer::new(Step::Miss, None),
        };
        opaque |= answer.step == Step::Opaque;
        opaque &= !answer.redirect.as_ref().is_some_and(Redirect::is_path);
        trail.push(name, answer.redirect.take())?;
        answer.step = match answer.step {
            Step::Dir | Step::Opaque if !is_end => {
                dir = answer.dentry.ok_or(EIO)?;
                continue;
            }
            Step::Dir if opaque => Step::Opaque,
            Step::Miss if opaque => Step::Whiteout,
            Step::Bare | Step::File | Step::Leaf if !is_end => Step::Whiteout,
            step => step,
        };
        for name in names {
            trail.push(name, None)?;
        }
        answer.redirect = trail.redirect()?;
        return Ok(answer);
    }
}

/// Says why `name` in `base` is not looked up; returns the error.
#[cold]
fn refuse(base: &vfs::Dentry, name: &[u8], upper: bool, err: Error, why: &str) -> Error {
    warn_limited!(
        "failed lookup in {} ({base}, name='{}', err={}): {why}\n",
        if upper { "upper" } else { "lower" },
        Text(name),
        err.to_errno()
    );
    err
}

/// What `layer`, which is `upper` or not, has under `name` in `base`.
#[inline]
pub(super) fn find_name<'a>(
    fs: &Overlay,
    layer: &'a Layer,
    base: &vfs::Dentry,
    name: &[u8],
    upper: bool,
) -> Result<Option<Ref<'a, vfs::Dentry>>> {
    if base.is_casefolded() != fs.folds {
        return Err(refuse(base, name, upper, ESTALE, "parent wrong casefold"));
    }
    base.lookup_positive(layer.mnt(), name, upper)
}

/// What `found` says, which `layer` has under `name` in `base`.
pub(super) fn ask_found<'a>(
    fs: &Overlay,
    layer: &'a Layer,
    base: &vfs::Dentry,
    name: &[u8],
    found: Ref<'a, vfs::Dentry>,
    how: How,
) -> Result<Answer<'a>> {
    let refuse = |err: Error, why: &str| Err(refuse(base, name, how.upper, err, why));
    if fs.is_misfolded(&found) {
        return refuse(EREMOTE, "child wrong casefold");
    }
    if found.is_weird() {
        return refuse(EREMOTE, "unsupported object type");
    }
    let is_dir = found.can_lookup();
    if is_dir && fs.is_root(&found) {
        return refuse(ELOOP, "overlapping layers");
    }
    if is_dir && how.last {
        return Ok(Answer::new(Step::Dir, Some(found)));
    }
    let own = fs.namespace();
    let is_file = found.is_reg();
    let marked = (is_dir || is_file) && marks::may_have_own(own, layer, &found);
    let path = layer.path(&found)?;
    if whiteout::is_whiteout(own, path, marked) {
        return Ok(Answer::new(Step::Whiteout, None));
    }
    if is_file {
        let metacopy = match marked && !how.dirs {
            true => marks::metacopy(own, path)?,
            false => None,
        };
        let Some(metacopy) = metacopy else {
            return Ok(Answer::new(Step::File, Some(found)));
        };
        let redirect = match how.last {
            true => None,
            false => redirect::read(own, path)?,
        };
        let mut answer = Answer::new(Step::Bare, Some(found));
        answer.redirect = redirect;
        answer.has_digest = metacopy.has_digest;
        return Ok(answer);
    }
    if !marked {
        let step = if is_dir { Step::Dir } else { Step::Leaf };
        return Ok(Answer::new(step, Some(found)));
    }
    let mark = marks::dir_mark(own, path, Mark::Opaque);
    if mark == Some(b'y') {
        return Ok(Answer::new(Step::Opaque, Some(found)));
    }
    let redirect = redirect::read(own, path)?;
    let xwhiteouts = mark == Some(b'x') && !how.upper;
    if xwhiteouts {
        layer.set_xwhiteouts();
    }
    let mut answer = Answer::new(Step::Dir, Some(found));
    answer.redirect = redirect;
    answer.xwhiteouts = xwhiteouts;
    Ok(answer)
}
