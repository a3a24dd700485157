// SPDX-License-Identifier: GPL-2.0
//! Filesystems on loop devices, made once a run when first asked for.

use crate::harness::{Failure, Fs, Res};
use crate::sys;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn mount_point(base: &Path, fs: Fs) -> PathBuf {
    base.join(fs.name())
}

fn image_dir(base: &Path) -> PathBuf {
    std::env::var_os("IMAGES").map_or_else(|| base.join("images"), PathBuf::from)
}

fn mkfs(fs: Fs, image: &Path) -> Res {
    // The smallest sizes that the tools accept, with some room.
    let (size, tool, args): (u64, &str, &[&str]) = match fs {
        Fs::Tmpfs => return Ok(()),
        Fs::Ext4 => (128 << 20, "mkfs.ext4", &["-q", "-F", "-b", "4096"]),
        Fs::Xfs => (320 << 20, "mkfs.xfs", &["-q", "-f"]),
        Fs::Btrfs => (160 << 20, "mkfs.btrfs", &["-q", "-f"]),
    };
    std::fs::File::create(image)?.set_len(size)?;
    let out = Command::new(tool)
        .args(args)
        .arg(image)
        .output()
        .map_err(|e| Failure::new(format!("{tool}: {e}")))?;
    if !out.status.success() {
        return Err(Failure::new(format!(
            "{tool}: {} {}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        )));
    }
    Ok(())
}

/// Mounts the filesystem below `base` unless that is done already.
pub fn prepare(base: &Path, fs: Fs) -> Res {
    if fs == Fs::Tmpfs {
        return Ok(());
    }
    let dir = mount_point(base, fs);
    if dir.exists() {
        return match sys::is_mount_point(&dir) {
            true => Ok(()),
            false => Err(Failure::new("it failed before".to_owned())),
        };
    }
    let images = image_dir(base);
    std::fs::create_dir_all(&images)?;
    std::fs::create_dir(&dir)?;
    let image = images.join(format!("syscalls-{}-{}.img", fs.name(), std::process::id()));
    let made = mkfs(fs, &image).and_then(|()| sys::mount_image(&image, fs.name(), &dir));
    // The loop device keeps it.
    let _ = std::fs::remove_file(&image);
    made
}
