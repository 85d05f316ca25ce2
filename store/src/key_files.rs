//! The files that say whose signatures count: small, and made durable before anything relies on them.

use std::path::Path;

use crate::layout::Layout;
use crate::mirror::{remove_if_there, write_durably};
use crate::open_error::OpenError;

/// Puts these bytes in the place of a file in the mirror's folder of keys: whole or not at all.
pub fn write_key_file(layout: &Layout, path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let folder = layout.keys();
    if !folder.is_dir() {
        std::fs::create_dir_all(&folder).map_err(OpenError::io("make", &folder))?;
        crate::os::sync_folder(layout.root()).map_err(OpenError::io("sync", layout.root()))?;
    }
    write_durably(path, bytes)
}

/// Removes a file from the mirror's folder of keys, if it is there.
pub fn remove_key_file(path: &Path) -> Result<(), OpenError> {
    remove_if_there(path)
}
