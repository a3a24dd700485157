// SPDX-License-Identifier: GPL-2.0
//! `rovl status`: the modules that the running kernel has, whose `overlay` is, and whose it will be.

use crate::mountinfo::Table;
use crate::term::{paint, Colour};
use std::path::{Path, PathBuf};

/// Where the drop-in is chosen; the package rovl-tools brings the file.
const CHOICE: &str = "/etc/modprobe.d/rovl.conf";
/// The drop-in's file, whose module is `overlay`: by another name it lies beside the kernel's own.
const DROP_IN: &str = "rovl-overlay";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Overlay {
    DropIn,
    Kernel,
    BuiltIn,
}

impl Overlay {
    /// The one that is loaded. The kernel's own is not "out of tree".
    fn loaded() -> Option<Overlay> {
        let module = Path::new("/sys/module/overlay");
        if !module.exists() {
            return None;
        }
        Some(match std::fs::read_to_string(module.join("taint")) {
            Ok(taint) if taint.contains('O') => Overlay::DropIn,
            Ok(_) => Overlay::Kernel,
            Err(_) => Overlay::BuiltIn,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Overlay::DropIn => "the drop-in",
            Overlay::Kernel => "the kernel's own",
            Overlay::BuiltIn => "built into the kernel: there can be no drop-in",
        }
    }
}

/// Whether the lines of modprobe.d(5) choose the drop-in.
fn chooses_drop_in(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next()) == (Some("install"), Some("overlay"))
            && words.any(|w| w.replace('_', "-") == DROP_IN)
    })
}

/// The file of a module, from the text of modules.dep.
fn file_of<'a>(dep: &'a str, name: &str) -> Option<&'a str> {
    let paths = dep.lines().filter_map(|l| l.split(':').next());
    let mut found = paths.filter(|p| {
        let file = p.rsplit('/').next().unwrap_or_default();
        file.split_once(".ko").is_some_and(|(stem, _)| stem == name)
    });
    found.next()
}

/// Says it, and whether what is loaded is what was chosen.
pub fn run() -> Result<bool, String> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let folder = PathBuf::from("/lib/modules").join(&release);
    let dep = std::fs::read_to_string(folder.join("modules.dep")).unwrap_or_default();
    let text = std::fs::read_to_string(CHOICE).unwrap_or_default();
    let table = Table::read()?;
    let mounts = |fstype: &str| match table.unions().filter(|m| m.fstype == fstype).count() {
        0 => "no mount".to_owned(),
        1 => "1 mount".to_owned(),
        n => format!("{n} mounts"),
    };
    let line = |name: &str, text: String| {
        println!("{} {text}", paint(Colour::Bold, &format!("{name:<9}")));
    };
    line("kernel", release.clone());
    let state = match (
        Path::new("/sys/module/rovl").exists(),
        file_of(&dep, "rovl"),
    ) {
        (true, _) => format!("loaded, {}", mounts("rovl")),
        (false, Some(file)) => format!("not loaded: {}", folder.join(file).display()),
        (false, None) => format!(
            "no module for this kernel: install rovl-modules-{release}, or rovl-dkms where its headers are complete"
        ),
    };
    line("rovl", state);
    let loaded = Overlay::loaded();
    let state = match loaded {
        Some(which) => format!("{}, {}", which.name(), mounts("overlay")),
        None => "not loaded".to_owned(),
    };
    line("overlay", state);
    let chosen = match (chooses_drop_in(&text), file_of(&dep, DROP_IN)) {
        (_, _) if loaded == Some(Overlay::BuiltIn) => return Ok(true),
        (true, Some(_)) => Overlay::DropIn,
        (true, None) => {
            let why = format!("{CHOICE} asks for the drop-in, which this kernel does not have");
            line("chosen", format!("the kernel's own: {why}"));
            return Ok(loaded != Some(Overlay::DropIn));
        }
        (false, _) => Overlay::Kernel,
    };
    let same = loaded.is_none_or(|l| l == chosen);
    let when = match same {
        true => "",
        false => ", from the next boot on",
    };
    line("chosen", format!("{}{when} ({CHOICE})", chosen.name()));
    Ok(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice() {
        let on =
            "# a comment\ninstall overlay /sbin/modprobe -q rovl-overlay $CMDLINE_OPTS || false\n";
        assert!(chooses_drop_in(on));
        assert!(chooses_drop_in(" install  overlay modprobe rovl_overlay"));
        assert!(!chooses_drop_in(&on.replace("install", "#install")));
        assert!(!chooses_drop_in("install overlay /bin/false"));
    }

    #[test]
    fn files() {
        let dep = "kernel/fs/overlayfs/overlay.ko.xz: a.ko\nupdates/rovl-overlay.ko:\nupdates/rovl.ko.zst:\n";
        assert_eq!(file_of(dep, "rovl"), Some("updates/rovl.ko.zst"));
        assert_eq!(file_of(dep, DROP_IN), Some("updates/rovl-overlay.ko"));
        assert_eq!(
            file_of(dep, "overlay"),
            Some("kernel/fs/overlayfs/overlay.ko.xz")
        );
        assert_eq!(file_of("", "rovl"), None);
    }
}
