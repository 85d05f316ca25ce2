//! What a mirror holds, for who asks now and then.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use crateferry_store::{MirrorReader, StoreLimits, Summary};

/// Says what is known of the mirror as of its last publication. May wait for the disk.
pub type Holdings = Arc<dyn Fn() -> anyhow::Result<Arc<Summary>> + Send + Sync>;

/// Follows a mirror beside the process that writes it, which may be this one.
pub fn follow(mirror: &Path) -> anyhow::Result<Holdings> {
    let seen = Mutex::new(Seen::of(MirrorReader::open(mirror, StoreLimits::default())?)?);
    Ok(Arc::new(move || {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = seen.mirror.newer()? {
            *seen = Seen::of(newer)?;
        }
        Ok(seen.summary.clone())
    }))
}

struct Seen {
    mirror: MirrorReader,
    summary: Arc<Summary>,
}

impl Seen {
    fn of(mirror: MirrorReader) -> anyhow::Result<Seen> {
        let summary = mirror.catalog.summary()?.context("the catalog is empty")?;
        Ok(Seen { mirror: mirror.without_bytes(), summary: Arc::new(summary) })
    }
}
