// SPDX-License-Identifier: GPL-2.0
//! The kernel's log: a warning during a case is a failure of it.

use crate::sys::Sys;
use anyhow::Result;
use regex::Regex;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// A reader of what the kernel says from now on.
pub struct Kmsg {
    fd: OwnedFd,
    trouble: Option<Regex>,
}

impl Kmsg {
    pub fn new(trouble: Option<&str>) -> Result<Self> {
        let fd = rustix::fs::open(
            "/dev/kmsg",
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::fs::seek(&fd, SeekFrom::End(0))?;
        Ok(Self {
            fd,
            trouble: trouble.map(Regex::new).transpose()?,
        })
    }

    /// The messages since the last call.
    pub fn lines(&mut self) -> Sys<Vec<String>> {
        let mut lines = Vec::new();
        let mut buf = [0u8; 8192];
        loop {
            match rustix::io::read(&self.fd, &mut buf) {
                Ok(n) => {
                    let text = String::from_utf8_lossy(&buf[..n]).into_owned();
                    let text = text.split_once(';').map_or(&*text, |(_, text)| text);
                    lines.push(text.lines().next().unwrap_or_default().to_owned());
                }
                Err(Errno::AGAIN) => return Ok(lines),
                // Older messages were overwritten.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes out the messages that are no failures.
    pub fn keep_trouble(&self, lines: &mut Vec<String>) {
        lines.retain(|line| self.trouble.as_ref().is_some_and(|t| t.is_match(line)));
    }
}
