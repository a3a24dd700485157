// SPDX-License-Identifier: GPL-2.0
//! What the subcommands' JSON has in common.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub type Object = serde_json::Map<String, serde_json::Value>;

/// Adds a path, and its bytes in hexadecimal digits where it is no valid UTF-8.
pub fn put_path(object: &mut Object, key: &str, path: &Path) {
    object.insert(key.into(), path.to_string_lossy().into());
    if path.to_str().is_none() {
        let bytes = path.as_os_str().as_bytes();
        let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or_default();
        let hex: String = bytes
            .iter()
            .flat_map(|b| [digit(b >> 4), digit(b & 15)])
            .collect();
        object.insert(format!("{key}_hex"), hex.into());
    }
}

/// Prints an object, for people to read as well.
pub fn print(object: Object) {
    println!("{:#}", serde_json::Value::Object(object));
}
