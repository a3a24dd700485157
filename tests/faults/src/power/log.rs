// SPDX-License-Identifier: GPL-2.0
//! The log of device-mapper's target log-writes: what is on the device after each write.

use anyhow::{ensure, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// A write, a flush or a mark.
pub struct Entry {
    /// Bytes.
    at: u64,
    len: u64,
    flags: u64,
    /// Where the data is in the log.
    data: u64,
    /// A mark's text.
    pub mark: Option<String>,
}

impl Entry {
    /// The step that has ended.
    pub fn step(&self) -> Option<usize> {
        self.mark.as_ref()?.parse().ok()
    }

    /// What was written before is on the device for good.
    pub fn is_barrier(&self) -> bool {
        self.flags & (FLUSH | FUA) != 0
    }

    /// Whether it changes the device.
    pub fn writes(&self) -> bool {
        self.len != 0 && self.flags & MARK == 0
    }
}

/// A log that is complete.
pub struct Log {
    file: File,
    /// In the order in which they reached the device.
    pub entries: Vec<Entry>,
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
    u64::from_le_bytes(word)
}

impl Log {
    /// Reads the log's headers.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut head = [0; 32];
        file.read_exact_at(&mut head, 0)?;
        ensure!(
            word(&head, 0) == MAGIC && word(&head, 1) == 1,
            "not a log of writes"
        );
        let (count, sector) = (word(&head, 2), word(&head, 3) & 0xffff_ffff);
        ensure!((512..=4096).contains(&sector), "sectors of {sector} bytes");
        let mut entries = Vec::new();
        let mut pos = sector;
        for _ in 0..count {
            let mut head = vec![0; usize::try_from(sector)?];
            file.read_exact_at(&mut head, pos)?;
            let [at, sectors, flags, data_len] = [0, 1, 2, 3].map(|i| word(&head, i));
            pos += sector;
            let is_mark = flags & MARK != 0;
            let mark = is_mark.then(|| {
                let end = head.len().min(32 + data_len as usize);
                String::from_utf8_lossy(&head[32..end]).into_owned()
            });
            let len = sectors * sector;
            entries.push(Entry {
                at: at * sector,
                len,
                flags,
                data: pos,
                mark,
            });
            if flags & DISCARD == 0 {
                pos += len;
            }
        }
        Ok(Self { file, entries })
    }

    /// Does what an entry did to the device.
    pub fn apply(&self, entry: &Entry, image: &File) -> Result<()> {
        if !entry.writes() {
            return Ok(());
        }
        let mut data = vec![0; usize::try_from(entry.len)?];
        if entry.flags & DISCARD == 0 {
            self.file.read_exact_at(&mut data, entry.data)?;
        }
        Ok(image.write_all_at(&data, entry.at)?)
    }
}
