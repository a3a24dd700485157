// SPDX-License-Identifier: GPL-2.0

//! Lookup through the layers: one [`Step`] a layer, folded by [`Merge`] into what the union shows.

use super::{
    ask::{ask_found, ask_path, find_name, Answer, How},
    fold::{Merge, Step, Take},
    found::Object,
    inode::{Dir, NameMark},
    lowerdata::DataFound,
};
use crate::{
    overlay::{
        dir::names::Holders,
        layer::{
            handle, index, marks,
            redirect::{self, Redirect},
            whiteout,
            xattr_names::Mark,
            UPPER,
        },
        union::{Child, Dentry, Overlay},
    },
    vfs::{
        self,
        backing::{InLayer, LowerPath, Lowers},
        cred,
        dentry::{WalkFlags, REVALIDATE, STRONG_REVALIDATE},
        inode_ops::LookedUp,
        log::warn_limited,
        mount::PathRef,
        Ref,
    },
};
use kernel::prelude::*;

/// What the layers have under a name.
#[derive(Default)]
struct Found<'a> {
    upper: Option<Ref<'a, vfs::Dentry>>,
    lower: Lowers<'a>,
    /// Upper hides what the lower layers have.
    hides: bool,
    xwhiteouts: bool,
    data: DataFound,
    /// What upper has is an entry of the index, or a directory that one stands for.
    is_indexed: bool,
    /// Upper has it under no name but that.
    by_index: bool,
}

fn refuse_feature(dentry: &Dentry) -> Error {
    warn_limited!("refusing to follow redirect or metacopy origin for ({dentry})\n");
    EPERM
}

/// A lookup under way, from layer to layer.
struct Search<'s, 'a> {
    child: Child<'a>,
    fs: &'a Overlay,
    /// A reference: it is large, and mostly stays empty.
    found: &'s mut Found<'a>,
    merge: Merge,
    /// What the layers below are asked for, where it is not the child's name.
    redirect: Option<Redirect>,
    /// There was a redirect, or a file without data, that is not to be followed. As a symlink into the layers that is
    /// followed without a check of permissions, one of a layer that is not trusted could show what is not to be seen.
    unfollowed: bool,
    /// A layer was to be asked after that.
    refused: bool,
    /// The file without data that was found last says by its path where that is.
    says_path: bool,
}

fn ask_all<'a>(child: Child<'a>, fs: &'a Overlay, found: &mut Found<'a>) -> Result {
    let mut search = Search {
        child,
        fs,
        found,
        merge: Merge::default(),
        redirect: None,
        unfollowed: false,
        refused: false,
        says_path: false,
    };
    let origin = search.ask_upper()?;
    let (mut dir, mut above) = (child.parent_dir()?, UPPER);
    loop {
        if search.redirect.as_ref().is_some_and(Redirect::is_path) {
            dir = child.dentry().own_sb().root()?.own_positive()?.dir()?;
        }
        match search.ask_lower(dir, above)? {
            Some(layer) => above = layer,
            None => break,
        }
    }
    let is_below = search.is_in_data_layer();
    if search.refused || (search.unfollowed && !is_below) {
        return Err(refuse_feature(child.dentry()));
    }
    if is_below {
        search.found.data.in_data_layer = search.redirect.take();
    } else if search.merge.wants_data() {
        warn_limited!(
            "metacopy with no lower data found - abort lookup ({})\n",
            child.dentry()
        );
        return Err(EIO);
    }
    let found = search.found;
    if let Some(origin) = origin {
        found.lower.push(origin, 0)?;
    }
    match search.merge.is_dir() {
        true if fs.has_export() => found.look_for_dir_in_index(fs),
        false if fs.index().is_some() => found.look_in_index(child, fs),
        _ => Ok(()),
    }
}

impl<'a> Found<'a> {
    /// Looks for the directory that was found in the index.
    fn look_for_dir_in_index(&mut self, fs: &Overlay) -> Result {
        let Some(lower) = self
            .lower
            .as_slice()
            .first()
            .filter(|_| fs.index().is_some())
        else {
            return Ok(());
        };
        let (upper, lower) = (self.upper.as_deref(), lower.dentry().positive()?);
        self.is_indexed = index::has_dir(fs, upper, lower)?;
        Ok(())
    }

    /// Looks for what was found, which is no directory, in the index. Where upper does not have it under the name that was
    /// looked up it may have it under another one: it is in upper then.
    fn look_in_index(&mut self, child: Child<'_>, fs: &'a Overlay) -> Result {
        let Some(lower) = self.lower.as_slice().first() else {
            return Ok(());
        };
        let lower = lower.dentry().positive()?;
        let (own, layer) = (fs.namespace(), fs.upper().ok_or(EIO)?);
        if let (Some(upper), true) = (&self.upper, self.data.is_bare) {
            // This one was found by its name.
            let origin = handle::encode(&fs.layers, lower, false)?;
            match handle::holds(own, layer.path(upper)?, Mark::Origin, origin.as_bytes())? {
                Some(true) => {}
                Some(false) => {
                    warn_limited!("failed to verify origin ({})\n", child.dentry());
                    return Err(ESTALE);
                }
                None => return Ok(()),
            }
        }
        let Some(entry) = index::of_lower(fs, self.upper.as_deref(), lower)? else {
            return Ok(());
        };
        self.is_indexed = true;
        if self.upper.is_some() {
            return Ok(());
        }
        let path = layer.path(&entry)?;
        let metacopy = marks::metacopy(own, path)?;
        let is_redirected = redirect::read(own, path)?.is_some();
        if (metacopy.is_some() && !fs.has_metacopy()) || (is_redirected && !fs.follows_redirects())
        {
            return Err(refuse_feature(child.dentry()));
        }
        self.data.is_bare = metacopy.is_some();
        self.data.has_digest = metacopy.is_some_and(|metacopy| metacopy.has_digest);
        self.upper = Some(entry);
        self.by_index = true;
        Ok(())
    }
}

impl<'a> Search<'_, 'a> {
    /// Whether nothing is below layer `layer`, number `index` of `count` lower layers of a directory: a redirect can
    /// lead to any layer below, that of a file to data-only ones.
    fn is_last(&self, layer: u16, index: usize, count: usize) -> bool {
        let has_data_layers = !self.fs.data_layers().is_empty();
        if has_data_layers && !self.merge.is_dir() {
            false
        } else if has_data_layers || self.fs.follows_redirects() {
            usize::from(layer) == self.fs.lower_layers().len()
        } else {
            index == count
        }
    }

    /// Whether a file of a lower layer was found whose data is that of a data-only layer. Such a layer is asked when the data is
    /// wanted, and whatever the options say of redirects and metacopy: it is there for nothing else.
    fn is_in_data_layer(&self) -> bool {
        self.merge.wants_data()
            && self.says_path
            && !self.found.lower.is_empty()
            && !self.fs.data_layers().is_empty()
    }

    /// Whether no further layer counts.
    fn is_done(&self) -> bool {
        self.refused || self.merge.is_done()
    }

    /// Asks upper; returns the origin of a file that is there.
    fn ask_upper(&mut self) -> Result<Option<InLayer<'a>>> {
        let (child, fs) = (self.child, self.fs);
        let dir = child.dir();
        let (Some(base), Some(layer)) = (dir.upper(), fs.upper()) else {
            return Ok(None);
        };
        let Some(found) = find_name(fs, layer, base, child.name(), true)? else {
            return Ok(None);
        };
        let last = self.is_last(UPPER, 0, dir.lowers().len());
        let how = How {
            upper: true,
            last,
            dirs: false,
        };
        let answer = ask_found(fs, layer, base, child.name(), found, how)?;
        let mut origin = None;
        if self.merge.push(answer.step) == Take::Yes {
            if let Some(upper) = answer.dentry {
                if upper.is_union() {
                    return Err(EREMOTE);
                }
                // A file without data is found with its origin.
                if matches!(answer.step, Step::File | Step::Leaf) {
                    origin = handle::find(&fs.layers, fs.namespace(), layer.path(&upper)?)?;
                }
                self.found.upper = Some(upper);
            }
        }
        self.found.data.is_bare = answer.step == Step::Bare;
        self.found.data.has_digest = answer.has_digest;
        self.found.hides = self.merge.is_opaque();
        self.follow(answer.step, answer.redirect);
        // No data-only layer is asked for what upper alone has.
        self.refused = self.unfollowed;
        Ok(origin)
    }

    /// The answer of the next of `lowers` that `holders` gives and that has the name `path`, by its index and layer; how many
    /// before it have not is added to `missed`. On a path each layer answers.
    #[inline(always)]
    fn next_answer(
        &self,
        lowers: &[InLayer<'_>],
        holders: &mut Holders,
        path: &[u8],
        missed: &mut usize,
    ) -> Result<Option<(usize, u16, Answer<'a>)>> {
        let fs = self.fs;
        for index in holders {
            let Some(lower) = lowers.get(index) else {
                break;
            };
            let layer = fs.layer(lower.layer()).ok_or(EIO)?;
            let base = lower.dentry();
            let how = || How {
                upper: false,
                last: self.is_last(lower.layer(), index + 1, lowers.len()),
                dirs: self.merge.is_dir(),
            };
            let answer = if let Some(path) = path.strip_prefix(b"/") {
                // From the layer's root, which `base` is then.
                ask_path(fs, layer, base, path, how())?
            } else if let Some(found) = find_name(fs, layer, base, path, false)? {
                ask_found(fs, layer, base, path, found, how())?
            } else {
                *missed += 1;
                continue;
            };
            return Ok(Some((index, lower.layer(), answer)));
        }
        Ok(None)
    }

    /// Asks the lower layers of `dir` below layer `above`, until none of them counts any more (`None`) or one of them,
    /// which is returned, redirects to another place.
    fn ask_lower(&mut self, dir: Dir<'_>, above: u16) -> Result<Option<u16>> {
        let fs = self.fs;
        let lowers = dir.lowers();
        let is_below = lowers.down_to(above) < lowers.len();
        if self.is_done() || !is_below {
            return Ok(None);
        }
        let redirect = self.redirect.take();
        let (path, first) = match &redirect {
            Some(redirect) => (redirect.as_bytes(), redirect.first_name()?),
            None => (self.child.name(), self.child.name()),
        };
        let mut holders = dir.holders(first);
        if above != UPPER {
            holders.skip_to(lowers.down_to(above));
        }
        let mut missed = 0;
        let mut next = None;
        while !holders.is_empty() {
            let answer = self.next_answer(lowers.as_slice(), &mut holders, path, &mut missed)?;
            let Some((index, layer, answer)) = answer else {
                break;
            };
            self.found.xwhiteouts |= answer.xwhiteouts;
            match self.merge.push(answer.step) {
                Take::No => {}
                // Between that with the attributes and that with the data none counts.
                Take::Yes if answer.step == Step::Bare && !self.found.lower.is_empty() => {}
                Take::Yes => {
                    if let Some(lower) = answer.dentry {
                        if self.found.upper.is_none() && self.found.lower.is_empty() {
                            self.found.data.has_digest = answer.has_digest;
                        }
                        if !self.is_merged_with(&lower)? {
                            break;
                        }
                        let lower = InLayer::new(lower, layer);
                        self.found.lower.push(lower, lowers.len() - index - 1)?;
                    }
                }
            }
            let redirected = answer.redirect.as_ref().map(Redirect::is_path);
            self.follow(answer.step, answer.redirect);
            if self.unfollowed {
                let is_lowest = match redirected {
                    Some(true) => usize::from(layer) == fs.lower_layers().len(),
                    _ => index + 1 == lowers.len(),
                };
                self.refused |= !is_lowest;
            }
            if redirected.is_some() {
                next = Some(layer);
                break;
            }
            if self.is_done() {
                break;
            }
        }
        // A path that ends in the middle says nothing of the names in `dir`.
        if !redirect.as_ref().is_some_and(Redirect::is_path) {
            dir.asked(&holders, missed);
        }
        // What data-only layers are asked for, if none that is merged has it.
        if self.redirect.is_none() {
            self.redirect = redirect;
        }
        Ok(next)
    }

    /// Whether `lower` belongs to what was found: a directory in upper says what it comes from, and where the union has handles
    /// it is merged with nothing else.
    fn is_merged_with(&self, lower: &vfs::Dentry) -> Result<bool> {
        let (child, fs) = (self.child, self.fs);
        let Some(upper) = &self.found.upper else {
            return Ok(true);
        };
        if !self.found.lower.is_empty() || !self.merge.is_dir() {
            return Ok(true);
        }
        let upper = fs.upper().ok_or(EIO)?.path(upper)?;
        record_origin(child, fs, upper, lower)?;
        if !fs.has_export() {
            return Ok(true);
        }
        let value = handle::encode(&fs.layers, lower.positive()?, false)?;
        let known = handle::holds(fs.namespace(), upper, Mark::Origin, value.as_bytes())?;
        if known != Some(true) {
            warn_limited!("failed to verify origin ({lower})\n");
        }
        Ok(known == Some(true))
    }

    /// Asks the layers below after an answer of `step` for `redirect`, where there is one.
    fn follow(&mut self, step: Step, redirect: Option<Redirect>) {
        self.unfollowed |= redirect.is_some() && !self.fs.follows_redirects();
        if step == Step::Bare {
            self.unfollowed |= !self.fs.has_metacopy();
            self.says_path = redirect.as_ref().is_some_and(Redirect::is_path);
        }
        if redirect.is_some() {
            self.redirect = redirect;
        }
    }
}

/// Records the origin of a merged upper directory that has none (it was made offline), so that its
/// inode number stays.
fn record_origin(child: Child<'_>, fs: &Overlay, path: PathRef<'_>, lower: &vfs::Dentry) -> Result {
    if !fs.upper_has_xattrs() || marks::has_origin(fs.namespace(), path) {
        return Ok(());
    }
    let mut value = handle::Value::empty();
    value.set_origin(fs, lower.positive()?)?;
    let write = fs.want_write()?;
    let writing = write.writing();
    handle::record(fs, writing.path(path.dentry())?, value.as_bytes())?;
    child.parent_dir()?.entry_got_origin(writing)
}

/// The `lookup` operation.
pub(crate) fn lookup(child: Child<'_>) -> Result<LookedUp<'_, Overlay>> {
    let sb = child.dentry().own_sb();
    let fs = sb.fs();
    if child.name().len() > fs.name_len() {
        return Err(ENAMETOOLONG);
    }
    let result = cred::scope(fs.creds(), |_| {
        let mut found = Found::default();
        ask_all(child, fs, &mut found)?;
        let marks = child.marks();
        let is_there = found.upper.is_some() || !found.lower.is_empty();
        if found.hides {
            marks.set(if is_there {
                NameMark::Opaque
            } else {
                NameMark::Whiteout
            });
        }
        if found.xwhiteouts {
            marks.set(NameMark::XWhiteouts);
        }
        if found.upper.is_some() && !found.by_index {
            marks.set(NameMark::UpperAlias);
        }
        if !is_there {
            return Ok(None);
        }
        let object = Object {
            upper: found.upper,
            lower: found.lower,
            data: found.data,
            is_indexed: found.is_indexed,
            is_made: false,
        };
        object.inode(sb, None).map(Some)
    })?;
    let flags = match result.as_deref() {
        Some(inode) => inode.revalidate_flags(),
        // Where case is folded it is no name to create something by.
        None if fs.folds => STRONG_REVALIDATE,
        None => 0,
    };
    child.change_revalidate(REVALIDATE, flags);
    Ok(match result {
        Some(inode) => LookedUp::Inode(inode),
        None => LookedUp::Negative,
    })
}

/// Whether a lower layer has something under the name of `child` that removing it from upper alone
/// would uncover.
pub(crate) fn lower_shows(child: Child<'_>) -> bool {
    let fs = child.fs();
    if child.is_negative() {
        return child.marks().test(NameMark::Whiteout);
    }
    if !child.marks().test(NameMark::UpperAlias) {
        return true;
    }
    let Ok(dir) = child.parent_dir() else {
        return true;
    };
    let mut holders = dir.holders(child.name());
    if holders.is_empty() {
        dir.asked(&holders, 0);
        return false;
    }
    cred::scope(fs.creds(), |_| {
        let (mut missed, lowers) = (0, dir.lowers());
        for index in holders.by_ref() {
            let Some(base) = lowers.get(index).map(LowerPath::path) else {
                return true;
            };
            let found = base
                .dentry()
                .lookup_positive(base.mnt(), child.name(), false);
            match found {
                Ok(None) => missed += 1,
                Ok(Some(found)) => {
                    let path = base.mnt().path(&found);
                    return !path
                        .is_ok_and(|path| whiteout::is_whiteout(fs.namespace(), path, true));
                }
                // Something is there, it just cannot be looked at.
                Err(_) => return true,
            }
        }
        dir.asked(&holders, missed);
        false
    })
}

/// Asks the layers of a dentry that revalidate theirs.
pub(crate) fn revalidate(dentry: &Dentry, flags: WalkFlags, weak: bool) -> Result<bool> {
    let inode = dentry.own_inode().ok_or(ESTALE)?;
    let lower = inode.lowers().iter().map(LowerPath::dentry);
    for real in Iterator::chain(inode.upper().into_iter(), lower) {
        if !real.revalidate(flags, weak)? {
            if weak {
                return Ok(false);
            }
            real.invalidate();
            return Err(ESTALE);
        }
    }
    Ok(true)
}
