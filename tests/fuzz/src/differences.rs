// SPDX-License-Identifier: GPL-2.0
//! Wanted differences: a file of rules, each with its reason.

use crate::case::Case;
use crate::tree::{mark, Item};
use anyhow::{bail, Context, Result};
use std::collections::BTreeMap;

/// A line of the file.
struct Rule {
    /// All of these have to hold: `lazy`, `split`, `hostile`, `metacopy`, `index`, `xino`, the name of upper's filesystem.
    when: Vec<String>,
    /// An operation, `merged` or `upper`; `*` is any.
    place: String,
    /// What differs.
    what: String,
    line: String,
}

/// All rules.
#[derive(Default)]
pub struct Differences(Vec<Rule>);

/// The rules that a case can use.
pub struct Active<'a> {
    rules: Vec<(usize, &'a Rule)>,
    /// How often each rule, by its number, waved something through.
    pub used: BTreeMap<usize, u64>,
}

impl Differences {
    pub fn parse(file: &str) -> Result<Self> {
        let mut rules = Vec::new();
        for line in file
            .lines()
            .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
        {
            let parts: Vec<_> = line.split('|').map(str::trim).collect();
            let [when, place, what, reason] = parts[..] else {
                bail!("not 'when | where | what | reason': {line}");
            };
            if reason.is_empty() {
                bail!("no reason: {line}");
            }
            rules.push(Rule {
                when: when.split_whitespace().map(str::to_owned).collect(),
                place: place.to_owned(),
                what: what.to_owned(),
                line: line.to_owned(),
            });
        }
        Ok(Self(rules))
    }

    pub fn load(path: &str) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?)
    }

    /// The text of a rule.
    pub fn line(&self, number: usize) -> &str {
        self.0.get(number).map_or("", |rule| &rule.line)
    }

    pub fn active(&self, case: &Case) -> Active<'_> {
        let holds = |condition: &String| match &**condition {
            "always" => true,
            "lazy" => !case.copy_up_open,
            "split" => case.split,
            "hostile" => case.hostile,
            "metacopy" => case.metacopy,
            "index" => case.index,
            "xino" => case.xino,
            fs => case.upper_fs == fs,
        };
        let rules = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.when.iter().all(holds))
            .collect();
        Active {
            rules,
            used: BTreeMap::new(),
        }
    }
}

/// A `*` at the beginning or the end stands for anything.
fn fits(pattern: &str, what: &str) -> bool {
    if let Some(start) = pattern.strip_suffix('*') {
        return what.starts_with(start);
    }
    pattern == what
        || pattern
            .strip_prefix('*')
            .is_some_and(|end| what.ends_with(end))
}

impl Active<'_> {
    /// Whether a difference in `what` is wanted at `place`.
    pub fn wanted(&mut self, place: &str, what: &str) -> bool {
        let hit = self
            .rules
            .iter()
            .find(|(_, r)| (r.place == "*" || r.place == place) && fits(&r.what, what));
        if let Some((number, _)) = hit {
            *self.used.entry(*number).or_default() += 1;
        }
        hit.is_some()
    }

    /// The same for objects of trees. `copied up` stands for what only the second tree has, as a copy of a lower
    /// object, and for marks of a directory that has such copies; `stray impure` for a mark that only the second
    /// tree has, on a directory without copies in the first one (`first`); `listed whiteout` for a name that is
    /// listed and cannot be looked up.
    pub fn wanted_in_tree(
        &mut self,
        place: &str,
        first: &[Item],
        a: Option<&Item>,
        b: Option<&Item>,
        what: &str,
    ) -> bool {
        if self.wanted(place, what) {
            return true;
        }
        let copy = match (a, b) {
            (None, Some(b)) => b.is_marked("origin"),
            (Some(_), Some(b)) => mark(what) == Some("impure") && b.is_dir(),
            _ => false,
        };
        let stray = mark(what) == Some("impure")
            && a.is_some_and(|a| a.xattr(what).is_none() && !has_copies(first, &a.path));
        if stray && self.wanted(place, "stray impure") {
            return true;
        }
        let hidden = match (a, b) {
            (Some(only), None) | (None, Some(only)) => only.mode == 0,
            _ => false,
        };
        copy && self.wanted(place, "copied up") || hidden && self.wanted(place, "listed whiteout")
    }
}

/// Whether an entry of a directory records an origin.
fn has_copies(tree: &[Item], dir: &[u8]) -> bool {
    tree.iter().any(|item| {
        let slash = item.path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        !item.path.is_empty() && item.path[..slash] == *dir && item.is_marked("origin")
    })
}
