//! What is served: the mirror as one commit of its catalog left it.
//!
//! A request takes the view once and answers from it alone, so it sees exactly one generation, whatever is published
//! meanwhile. A new view takes the old one's place within seconds of its commit; the old one goes with its last request.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use crateferry_store::{MirrorReader, OpenError, Summary};

use super::search::Names;

/// One generation of a mirror, open for reading.
pub struct View {
    /// Catalog and packs.
    pub mirror: MirrorReader,
    /// What fits on one screen.
    pub summary: Arc<Summary>,
    /// The names to search through.
    pub names: Arc<Names>,
}

impl View {
    /// Looks at a mirror; `before` is what was seen of it last.
    fn new(mirror: MirrorReader, before: Option<&View>) -> anyhow::Result<View> {
        let summary = mirror.catalog.summary()?;
        let summary = summary.ok_or_else(|| anyhow::anyhow!("the catalog is empty; run a sync"))?;
        let same = before.filter(|before| before.summary.generation == summary.generation);
        let names = match same {
            Some(before) => before.names.clone(),
            None => Arc::new(Names::read(&mirror.catalog)?),
        };
        Ok(View { mirror, summary: Arc::new(summary), names })
    }

    /// The number of the generation; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.summary.generation.as_ref().map_or(0, |generation| generation.number)
    }
}

/// The current view, for any number of readers.
pub struct Views {
    current: ArcSwap<View>,
}

impl Views {
    /// Begins with a mirror as it is.
    pub fn new(mirror: MirrorReader) -> anyhow::Result<Views> {
        Ok(Views { current: ArcSwap::from_pointee(View::new(mirror, None)?) })
    }

    /// The view of this moment.
    pub fn now(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// Takes up what was committed since. Blocks on the disk.
    pub fn follow(&self) -> anyhow::Result<()> {
        let before = self.current.load_full();
        let newer: Result<Option<MirrorReader>, OpenError> = before.mirror.newer();
        if let Some(mirror) = newer? {
            let view = View::new(mirror, Some(&before))?;
            if view.generation() != before.generation() {
                tracing::info!(generation = view.generation(), "serving a new generation");
            }
            self.current.store(Arc::new(view));
        }
        Ok(())
    }
}
