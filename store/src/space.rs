//! How much room there is where a mirror lies.

use std::io;

use crate::layout::Layout;
use crate::os::{self, DiskSpace};

/// The room of the file system that the mirror lies on; none where the operating system is not asked for it.
pub fn disk_space(layout: &Layout) -> io::Result<Option<DiskSpace>> {
    os::disk_space(layout.root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_room_and_a_path_that_is_not_there_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let Some(space) = disk_space(&Layout::new(dir.path())).unwrap() else { return };
        assert!(space.free > 0);
        assert!(disk_space(&Layout::new(dir.path().join("absent"))).is_err());
    }
}
