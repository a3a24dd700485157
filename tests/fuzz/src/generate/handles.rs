// SPDX-License-Identifier: GPL-2.0
//! File handles that are kept and opened later.

use super::Gen;
use crate::op::{Op, Step};
use crate::side::{HANDLES, SLOTS};
use rand::Rng;

impl Gen {
    /// The steps, with some between them that keep handles and open them.
    pub fn with_handles(&mut self, steps: Vec<Step>) -> Vec<Step> {
        let mut all = Vec::with_capacity(steps.len() * 5 / 4);
        for step in steps {
            while self.chance(20) {
                let op = if self.chance(50) {
                    self.keep_handle()
                } else {
                    self.open_handle()
                };
                let who = if self.chance(95) { 0 } else { 1 };
                all.push(Step { who, op });
            }
            all.push(step);
        }
        all
    }

    fn kept(&mut self) -> u8 {
        self.rng.random_range(0..HANDLES as u8)
    }

    fn keep_handle(&mut self) -> Op {
        Op::Handle {
            at: self.at(None),
            keep: Some(self.kept()),
            fid: self.chance(10),
        }
    }

    fn open_handle(&mut self) -> Op {
        let access = self.pick(&[libc::O_RDONLY, libc::O_RDONLY, libc::O_RDWR, libc::O_PATH]);
        Op::OpenHandle {
            kept: self.kept(),
            slot: self.rng.random_range(0..SLOTS as u8),
            // It may be that of a FIFO.
            flags: (access | libc::O_NONBLOCK) as u32,
        }
    }
}
