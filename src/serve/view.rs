//! What is served: the mirror as one commit of its catalog left it.
//!
//! A request takes the view once and answers from it alone, so it sees exactly one generation, whatever is published
//! meanwhile. A new view takes the old one's place within seconds of its commit; the old one goes with its last request.
//!
//! A server begins to answer before its catalog was checked as a whole. What it finds is right, as every row carries its
//! own check; but that something is *not* there is an answer only once the catalog is known to be sound. Until then such
//! a request waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use crateferry_store::{MirrorReader, OpenError, Soundness, Summary};
use tokio::sync::watch;

use super::answer::Problem;
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
    fn new(mirror: MirrorReader, before: Option<&View>) -> Result<View, OpenError> {
        let summary = mirror.catalog.glance()?;
        let same = before.filter(|before| is_searched_alike(&before.summary, &summary));
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

    /// Whether what is not found in it is not there.
    pub fn is_sound(&self) -> bool {
        self.mirror.catalog.soundness() == Soundness::Sound
    }
}

/// Whether a search finds the same: in the same generation, with the same facts.
fn is_searched_alike(before: &Summary, now: &Summary) -> bool {
    before.generation == now.generation && before.last_facts == now.last_facts
}

/// The current view, for any number of readers.
pub struct Views {
    current: ArcSwap<View>,
    /// How long a request waits for the catalog to be known as sound.
    patience: Duration,
    /// Whether the catalog cannot be brought in order for now. Told again whenever more is known of it.
    stuck: watch::Sender<bool>,
}

impl Views {
    /// Begins with a mirror as it is. `patience` is how long a request waits for its catalog to be checked.
    pub fn new(mirror: MirrorReader, patience: Duration) -> Result<Views, OpenError> {
        let current = ArcSwap::from_pointee(View::new(mirror, None)?);
        Ok(Views { current, patience, stuck: watch::Sender::new(false) })
    }

    /// The view of this moment.
    pub fn now(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// The view of this moment, for who shows all that there is: waits a while if it was not checked yet.
    pub async fn checked(&self) -> Arc<View> {
        if self.now().mirror.catalog.soundness() == Soundness::Unknown {
            Box::pin(self.settled()).await;
        }
        self.current.load_full()
    }

    /// What is found in the view of this moment; where nothing is, or it cannot be read, in the next one that is sound.
    pub async fn find<T>(&self, look: impl Fn(&View) -> Result<Option<T>, Problem>) -> Result<Option<T>, Problem> {
        {
            let view = self.now();
            match look(&view) {
                Ok(None) | Err(_) if !view.is_sound() => {}
                answer => return answer,
            }
        }
        if Box::pin(self.settled()).await { look(&self.now()) } else { Err(Problem::NotYet) }
    }

    /// Waits until what is served is sound; says whether it is.
    async fn settled(&self) -> bool {
        let mut stuck = self.stuck.subscribe();
        let sound = async {
            while !self.now().is_sound() {
                if *stuck.borrow_and_update() || stuck.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(self.patience, sound).await.unwrap_or(false)
    }

    /// Takes up what was committed since. Blocks on the disk.
    pub fn follow(&self) -> Result<(), OpenError> {
        let before = self.current.load_full();
        if let Some(mirror) = before.mirror.newer()? {
            self.take_up(&before, View::new(mirror, Some(&before))?);
        }
        Ok(())
    }

    /// Checks the catalog as a whole. Keeps one core half busy for seconds.
    pub fn check(&self) -> Result<(), OpenError> {
        let mut worked = Instant::now();
        let rest = || {
            std::thread::sleep(worked.elapsed());
            worked = Instant::now();
        };
        let checked = self.now().clone().mirror.catalog.check(rest);
        self.stuck.send_replace(false);
        Ok(checked?)
    }

    /// Has a damaged catalog derived again, and serves from that. Takes seconds, and the writer's lock.
    pub fn mend(&self, problem: &OpenError) -> Result<(), OpenError> {
        let mended = self.try_to_mend(problem);
        self.stuck.send_replace(mended.is_err());
        mended
    }

    fn try_to_mend(&self, problem: &OpenError) -> Result<(), OpenError> {
        let before = self.now().clone();
        let mirror = MirrorReader::mend(before.mirror.layout.root(), before.mirror.limits(), problem)?;
        self.take_up(&before, View::new(mirror, None)?);
        Ok(())
    }

    /// Serves what comes after `before`, unless somebody else found that already.
    fn take_up(&self, before: &Arc<View>, view: View) {
        let view = Arc::new(view);
        let was = self.current.compare_and_swap(before, view.clone());
        if Arc::ptr_eq(&was, before) && view.generation() != before.generation() {
            tracing::info!(generation = view.generation(), "serving a new generation");
        }
    }
}
