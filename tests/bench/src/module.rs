// SPDX-License-Identifier: GPL-2.0

//! The memory that the modules themselves take.

use std::env;
use std::fs;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, SectionKind};

use crate::op::{Cache, Fs, Metric};
use crate::records::{Record, Records};
use crate::world::BACKINGS;

pub const GROUP: &str = "memory";
pub const NAME: &str = "memory-module";

/// What the kernel says of a loaded module, and the code in its file.
pub fn sizes(records: &mut Records) -> Result<()> {
    for (fs, module, file) in [
        (
            Fs::Overlay,
            "overlay",
            format!(
                "{}/kernel/overlay.ko",
                env::var("MODDIR").context("MODDIR")?
            ),
        ),
        (Fs::Rovl, "rovl", env::var("ROVL_KO").context("ROVL_KO")?),
    ] {
        let loaded = fs::read_to_string("/proc/modules")?;
        let line = loaded
            .lines()
            .find_map(|line| line.strip_prefix(module)?.strip_prefix(' '));
        let size = line
            .and_then(|rest| rest.split(' ').next())
            .with_context(|| format!("{module} is not loaded"))?;
        let data = fs::read(&file).with_context(|| format!("reading {file}"))?;
        let object = object::File::parse(&*data).with_context(|| format!("parsing {file}"))?;
        let code: u64 = object
            .sections()
            .filter(|section| {
                section.kind() == SectionKind::Text && section.name() != Ok(".init.text")
            })
            .map(|section| section.size())
            .sum();
        for (name, value) in [
            (NAME.to_string(), size.parse()?),
            (format!("{NAME}-code"), code as f64),
        ] {
            println!("{name}: {} {value}", fs.name());
            records.add(&Record {
                operation: &name,
                group: GROUP,
                cache: Cache::Hot,
                per: "module",
                filesystem: fs,
                layers: 0,
                backing: BACKINGS[0],
                metric: Metric::Bytes,
                value,
                repeats: &[value],
            })?;
        }
    }
    Ok(())
}
