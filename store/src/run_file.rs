//! What a running sync tells of itself, what a plan came to, and how far a scrub came, in files that others read.
//!
//! Nothing depends on it, so it is not made durable: after a power cut the last run is forgotten. But whoever reads it
//! sees one whole text or another, never half of one.

use std::io;
use std::path::Path;

use crate::layout::Layout;

/// Puts `text` in the place of what the mirror's writer last told. Only the process that holds the writer's lock may.
pub fn write_run_file(layout: &Layout, text: &[u8]) -> io::Result<()> {
    replace(&layout.run_part(), &layout.run(), text)
}

/// The same of what the last plan came to.
pub fn write_plan_file(layout: &Layout, text: &[u8]) -> io::Result<()> {
    replace(&layout.plan_part(), &layout.plan(), text)
}

/// The same of where a scrub goes on.
pub fn write_scrub_file(layout: &Layout, text: &[u8]) -> io::Result<()> {
    replace(&layout.scrub_part(), &layout.scrub(), text)
}

fn replace(part: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    std::fs::write(part, text)?;
    std::fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_one_whole_text_or_another() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir(layout.log()).unwrap();
        let texts = [b'a', b'b'].map(|byte| vec![byte; 10_000]);
        write_run_file(&layout, &texts[0]).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200).for_each(|turn| write_run_file(&layout, &texts[turn % 2]).unwrap()));
            for _ in 0..200 {
                let seen = std::fs::read(layout.run()).unwrap();
                assert!(texts.contains(&seen));
            }
        });
        assert!(!layout.run_part().exists());
    }
}
