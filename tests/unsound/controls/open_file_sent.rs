// SPDX-License-Identifier: GPL-2.0

use crate::vfs::file::LayerFile;
use kernel::sync::aref::ARef;

fn send<T: Send>(_: T) {}

fn correct(file: ARef<LayerFile>) {
    send(file);
}
