// SPDX-License-Identifier: GPL-2.0
//! What an operation gave: comparable between the sides, and printable.

use crate::case::text;
use crate::sys::{self, Sys};
use rustix::io::Errno;
use std::fmt::Write;

/// What an operation gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub result: Result<i64, Errno>,
    /// Named numbers: what a stat saw, for example.
    pub fields: Vec<(&'static str, u64)>,
    /// Bytes that were read; lists have zeros between their entries.
    pub data: Vec<u8>,
}

impl From<Errno> for Outcome {
    fn from(e: Errno) -> Self {
        Self {
            result: Err(e),
            fields: Vec::new(),
            data: Vec::new(),
        }
    }
}

impl From<i64> for Outcome {
    fn from(n: i64) -> Self {
        Self {
            result: Ok(n),
            fields: Vec::new(),
            data: Vec::new(),
        }
    }
}

impl From<Sys<()>> for Outcome {
    fn from(r: Sys<()>) -> Self {
        r.map_or_else(Self::from, |()| Self::from(0))
    }
}

impl From<Sys<usize>> for Outcome {
    fn from(r: Sys<usize>) -> Self {
        r.map_or_else(Self::from, |n| Self::from(n as i64))
    }
}

impl Outcome {
    pub fn with_data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    pub fn with(mut self, name: &'static str, value: u64) -> Self {
        self.fields.push((name, value));
        self
    }

    /// "ok" or the errno.
    pub fn class(&self) -> &'static str {
        match self.result {
            Ok(_) => "ok",
            Err(e) => sys::name(e),
        }
    }

    /// What differs from another outcome, by name; `None` if nothing does.
    pub fn differs(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        if self.result != other.result {
            return Some(match (self.result, other.result) {
                (Ok(_), Ok(_)) => "value".to_owned(),
                _ => format!("{} for {}", self.class(), other.class()),
            });
        }
        let field = self.fields.iter().zip(&other.fields).find(|(a, b)| a != b);
        Some(field.map_or("data".to_owned(), |(a, b)| field_difference(a.0, a.1, b.1)))
    }
}

/// The name of a difference in a field: with the values where these say which side is right.
pub fn field_difference(name: &str, a: u64, b: u64) -> String {
    match name {
        "nlink" | "d_ino" | "mapped as read" | "attributes" | "status" => {
            format!("{name} {} for {}", a as i64, b as i64)
        }
        _ => name.to_owned(),
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.result {
            Ok(n) => write!(f, "{n}")?,
            Err(e) => write!(f, "{}", sys::name(e))?,
        }
        for (name, value) in &self.fields {
            match *name {
                "mode" => write!(f, " {name}={value:o}")?,
                _ => write!(f, " {name}={value}")?,
            }
        }
        if !self.data.is_empty() {
            write!(f, " {}", show(&self.data))?;
        }
        Ok(())
    }
}

/// Bytes for a person: runs of a pattern are long, so only their beginning.
pub fn show(data: &[u8]) -> String {
    let mut out = String::from("\"");
    for c in text(&data[..data.len().min(300)]).chars() {
        match c {
            '\0' => out.push_str("\\0"),
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ => {
                let _ = write!(out, "\\x{:02x}", c as u8);
            }
        }
    }
    out.push('"');
    if data.len() > 300 {
        let _ = write!(out, "... ({} bytes)", data.len());
    }
    out
}
