// SPDX-License-Identifier: GPL-2.0
//! Reclaim all the time: of a control group, and of the caches of all.

use anyhow::Result;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that reclaims memory until it is stopped.
pub struct Pressure(Option<(Arc<AtomicBool>, JoinHandle<u64>)>);

impl Pressure {
    /// Starts reclaiming the memory of `group`, a control group; without one, nothing.
    pub fn start(group: Option<&Path>) -> Self {
        let Some(file) = group.map(|group| group.join("memory.reclaim")) else {
            return Pressure(None);
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut turns = 0;
            while !stopped.load(Ordering::Relaxed) {
                // It says EAGAIN where there was less to be had.
                let _ = std::fs::write(&file, "4M");
                if turns % 4 == 0 {
                    // Dentries and inodes, or pages too.
                    let what = if turns % 8 == 0 { "2" } else { "3" };
                    let _ = std::fs::write("/proc/sys/vm/drop_caches", what);
                }
                turns += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            turns
        });
        Pressure(Some((stop, thread)))
    }

    /// Ends it and says how often it reclaimed.
    pub fn stop(self) -> Result<String> {
        let Some((stop, thread)) = self.0 else {
            return Ok("no reclaim".to_owned());
        };
        stop.store(true, Ordering::Relaxed);
        let turns = thread.join().map_err(|_| anyhow::anyhow!("reclaim died"))?;
        Ok(format!("{turns} times reclaimed"))
    }
}
