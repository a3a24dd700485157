// SPDX-License-Identifier: GPL-2.0
//! The changes as a layer of an OCI image: a tar archive in which `.wh.NAME` removes a name and `.wh..wh..opq` all that
//! the layers below have in a directory. The same upper gives the same bytes.

use crate::diff::{users_xattrs, Change, Kind, Sink};
use crate::layers::{names, shown};
use crate::merge::{Node, Place, Union};
use rustix::fs::{major, minor, FileType};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

pub struct LayerTar<W: Write> {
    tar: Builder<W>,
    /// Directories that are as they were, written before the first change in them.
    pending: Vec<Option<(PathBuf, Node)>>,
    /// First names of files with several.
    links: HashMap<Inode, PathBuf>,
    /// Names of such files that are as they were: written when another name of theirs is.
    same: HashMap<Inode, Vec<(PathBuf, Node)>>,
    /// In a directory that is written whole: what comes below it is in it.
    whole: Option<PathBuf>,
}

type Inode = (usize, u64, u64);
type Attributes = Vec<(String, Vec<u8>)>;

impl<W: Write> LayerTar<W> {
    pub fn new(out: W) -> LayerTar<W> {
        LayerTar {
            tar: Builder::new(out),
            pending: Vec::new(),
            links: HashMap::new(),
            same: HashMap::new(),
            whole: None,
        }
    }

    pub fn finish(mut self) -> Result<(), String> {
        self.tar.finish().map_err(|e| format!("output: {e}"))
    }

    fn is_in_whole(&self, path: &Path) -> bool {
        self.whole.as_ref().is_some_and(|dir| path.starts_with(dir))
    }

    /// The directories above, which say who owns them.
    fn parents(&mut self, union: &Union) -> Result<(), String> {
        for (path, node) in self
            .pending
            .iter_mut()
            .filter_map(Option::take)
            .collect::<Vec<_>>()
        {
            self.object(union, &path, &node)?;
        }
        Ok(())
    }

    fn marker(&mut self, path: &Path) -> Result<(), String> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(0);
        self.entry(header, path, None, Vec::new(), &mut std::io::empty())
    }

    /// One entry. What has no place in the header goes into records before it.
    fn entry(
        &mut self,
        mut header: Header,
        path: &Path,
        link: Option<&Path>,
        mut records: Attributes,
        data: &mut dyn Read,
    ) -> Result<(), String> {
        let failed = |e| format!("{}: {e}", path.display());
        let mut name = path.as_os_str().as_bytes().to_vec();
        if header.entry_type().is_dir() {
            name.push(b'/');
        }
        if header
            .set_path(PathBuf::from(OsString::from_vec(name.clone())))
            .is_err()
        {
            records.push(("path".to_owned(), name));
            header.set_path("long").map_err(failed)?;
        }
        if let Some(link) = link {
            let target = link.as_os_str().as_bytes();
            if target.len() > 100 || header.set_link_name_literal(target).is_err() {
                records.push(("linkpath".to_owned(), target.to_vec()));
                header.set_link_name_literal("long").map_err(failed)?;
            }
        }
        header
            .set_device_major(header.device_major().ok().flatten().unwrap_or(0))
            .map_err(failed)?;
        header
            .set_device_minor(header.device_minor().ok().flatten().unwrap_or(0))
            .map_err(failed)?;
        header.set_cksum();
        records.sort();
        if !records.is_empty() {
            let records = records.iter().map(|(key, value)| (&**key, &value[..]));
            self.tar.append_pax_extensions(records).map_err(failed)?;
        }
        self.tar.append(&header, data).map_err(failed)
    }

    /// What the union shows at `path`.
    fn object(&mut self, union: &Union, path: &Path, node: &Node) -> Result<(), String> {
        let (Some(top), Some(data)) = (node.top(), node.data()) else {
            return Ok(());
        };
        let (header, records) = describe(union, top)?;
        let at = union.layers.at(top.layer, &top.rel);
        match FileType::from_raw_mode(top.stat.st_mode) {
            FileType::RegularFile => {
                self.file(union, path, (top, data, node.is_broken), header, records)
            }
            FileType::Symlink => {
                let target =
                    std::fs::read_link(&at).map_err(|e| format!("{}: {e}", at.display()))?;
                self.entry(header, path, Some(&target), records, &mut std::io::empty())
            }
            FileType::Socket => {
                eprintln!(
                    "rovl: /{} is a socket: left out, a tar archive cannot have it",
                    shown(path)
                );
                Ok(())
            }
            _ => self.entry(header, path, None, records, &mut std::io::empty()),
        }
    }

    fn file(
        &mut self,
        union: &Union,
        path: &Path,
        (top, data, is_broken): (&Place, &Place, bool),
        mut header: Header,
        records: Attributes,
    ) -> Result<(), String> {
        let inode = several_names(top);
        if let Some(inode) = inode {
            if let Some(first) = self.links.get(&inode).cloned() {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self.entry(header, path, Some(&first), records, &mut std::io::empty());
            }
            self.links.insert(inode, path.to_owned());
        }
        if is_broken {
            return Err(format!(
                "/{}: no layer has its data; are all lower layers named?",
                shown(path)
            ));
        }
        let file = union.layers.open(data.layer, &data.rel)?;
        let size = data.stat.st_size as u64;
        header.set_size(size);
        // A file that is written meanwhile keeps the size that the header says.
        self.entry(
            header,
            path,
            None,
            records,
            &mut file.chain(std::io::repeat(0)).take(size),
        )?;
        for (path, node) in inode.and_then(|i| self.same.remove(&i)).unwrap_or_default() {
            self.object(union, &path, &node)?;
        }
        Ok(())
    }

    /// All that the union shows in a directory.
    fn tree(&mut self, union: &Union, path: &Path, dir: &Node) -> Result<(), String> {
        let mut all = BTreeSet::new();
        for place in dir.seen() {
            all.extend(names(&union.layers.at(place.layer, &place.rel))?);
        }
        for name in all {
            let child = path.join(&name);
            let node = union.lookup(dir, &name)?;
            self.object(union, &child, &node)?;
            if node.is_dir() {
                self.tree(union, &child, &node)?;
            }
        }
        Ok(())
    }
}

/// What a file's other names can be known by.
fn several_names(place: &Place) -> Option<Inode> {
    let stat = &place.stat;
    let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
    (is_file && stat.st_nlink > 1).then_some((place.layer, stat.st_dev, stat.st_ino))
}

/// Header and records of an object.
fn describe(union: &Union, place: &Place) -> Result<(Header, Attributes), String> {
    let stat = &place.stat;
    let mut header = Header::new_ustar();
    header.set_entry_type(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryType::Directory,
        FileType::Symlink => EntryType::Symlink,
        FileType::CharacterDevice => EntryType::Char,
        FileType::BlockDevice => EntryType::Block,
        FileType::Fifo => EntryType::Fifo,
        _ => EntryType::Regular,
    });
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_size(0);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    if header.entry_type() == EntryType::Char || header.entry_type() == EntryType::Block {
        let failed = |e| format!("device number: {e}");
        header
            .set_device_major(major(stat.st_rdev))
            .map_err(failed)?;
        header
            .set_device_minor(minor(stat.st_rdev))
            .map_err(failed)?;
    }
    let mut records = Vec::new();
    if stat.st_mtime_nsec != 0 || stat.st_mtime < 0 {
        records.push((
            "mtime".to_owned(),
            seconds(stat.st_mtime, stat.st_mtime_nsec).into_bytes(),
        ));
    }
    for (name, value) in users_xattrs(&union.layers, place)? {
        records.push((format!("SCHILY.xattr.{}", name.to_string_lossy()), value));
    }
    Ok((header, records))
}

/// A time as records have it; the fraction counts away from zero.
fn seconds(whole: i64, nanoseconds: u64) -> String {
    let text = match (whole < 0, nanoseconds) {
        (_, 0) => return whole.to_string(),
        (true, n) if whole == -1 => format!("-0.{:09}", 1_000_000_000 - n),
        (true, n) => format!("{}.{:09}", whole + 1, 1_000_000_000 - n),
        (false, n) => format!("{whole}.{n:09}"),
    };
    text.trim_end_matches('0').to_owned()
}

impl<W: Write> Sink for LayerTar<W> {
    fn change(&mut self, union: &Union, change: &Change<'_>) -> Result<(), String> {
        let path = change.path;
        if path == Path::new("") {
            return Ok(());
        }
        if change.now.is_dir() {
            // It is written here, below no marker of its place is needed.
            self.pending.push(None);
        }
        if self.is_in_whole(path) {
            return Ok(());
        }
        self.parents(union)?;
        if change.kind == Kind::Removed {
            let mut name = OsString::from(".wh.");
            name.push(path.file_name().unwrap_or_default());
            return self.marker(&path.with_file_name(name));
        }
        self.object(union, path, change.now)?;
        if !change.now.is_dir() {
            return Ok(());
        }
        if change.before.is_dir() && matches!(change.kind, Kind::Replaced | Kind::Renamed) {
            self.marker(&path.join(".wh..wh..opq"))?;
        }
        if change.kind == Kind::Renamed {
            self.tree(union, path, change.now)?;
            self.whole = Some(path.to_owned());
        }
        Ok(())
    }

    fn enter(&mut self, _: &Union, path: &Path, now: &Node) -> Result<(), String> {
        self.pending.push(Some((path.to_owned(), now.clone())));
        Ok(())
    }

    fn same(&mut self, union: &Union, path: &Path, now: &Node) -> Result<(), String> {
        let Some(inode) = now.top().and_then(several_names) else {
            return Ok(());
        };
        if self.is_in_whole(path) {
            return Ok(());
        }
        if self.links.contains_key(&inode) {
            self.parents(union)?;
            return self.object(union, path, now);
        }
        let waiting = self.same.entry(inode).or_default();
        waiting.push((path.to_owned(), now.clone()));
        Ok(())
    }

    fn leave(&mut self) {
        self.pending.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times() {
        assert_eq!(seconds(5, 0), "5");
        assert_eq!(seconds(10, 500_000_000), "10.5");
        assert_eq!(seconds(-1, 500_000_000), "-0.5");
        assert_eq!(seconds(-10, 250_000_000), "-9.75");
        assert_eq!(seconds(-10, 0), "-10");
    }
}
