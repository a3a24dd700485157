// SPDX-License-Identifier: GPL-2.0
//! Colours, where the output is a terminal, and progress, where the errors are one.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Cyan = 36,
}

pub fn paint(colour: Colour, text: &str) -> String {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    match wanted && std::io::stdout().is_terminal() {
        true => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
        false => text.to_owned(),
    }
}

/// A line that counts, for what takes longer than a moment.
pub struct Progress {
    last: Instant,
    count: u64,
    shown: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress {
            last: Instant::now(),
            count: 0,
            shown: false,
        }
    }

    pub fn step(&mut self, what: &str) {
        self.count += 1;
        if self.last.elapsed() < Duration::from_millis(500) || !std::io::stderr().is_terminal() {
            return;
        }
        self.last = Instant::now();
        self.shown = true;
        eprint!("\r\x1b[K{} {what}", self.count);
        // It is no more than a hint.
        let _ = std::io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
