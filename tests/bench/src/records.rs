// SPDX-License-Identifier: GPL-2.0

//! What was measured, as JSON, a line each.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::op::{Cache, Fs, Metric};
use crate::world::Backing;

#[derive(Serialize)]
pub struct Record<'a> {
    pub operation: &'a str,
    pub group: &'a str,
    pub cache: Cache,
    pub per: &'a str,
    pub filesystem: Fs,
    pub layers: usize,
    pub backing: Backing,
    pub metric: Metric,
    /// The median of `repeats`.
    pub value: f64,
    pub repeats: &'a [f64],
}

pub struct Records(File);

impl Records {
    pub fn new(path: &Path) -> Result<Records> {
        Ok(Records(
            File::create(path).with_context(|| format!("making {}", path.display()))?,
        ))
    }

    pub fn add(&mut self, record: &impl Serialize) -> Result<()> {
        Ok(writeln!(self.0, "{}", serde_json::to_string(record)?)?)
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}
