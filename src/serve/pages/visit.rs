//! One request for a page: what it is answered from, and how.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Extension, FromRequestParts};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_store::Summary;
use tokio::sync::Semaphore;

use super::super::answer::Problem;
use super::super::app::App;
use super::super::limits::PageLimits;
use super::super::view::View;
use super::watch::Watch;
use super::{ProblemPage, assets};
use crate::config::Config;
use crate::words::Moment;

/// What all visits share.
pub struct Desk {
    /// What pages may cost.
    pub limits: PageLimits,
    /// Room for lock files on their way.
    pub uploads: Semaphore,
    /// Who looks at a running sync, for all who watch it.
    pub watch: Arc<Watch>,
    seats: Arc<Semaphore>,
}

impl Desk {
    /// Makes room for visits.
    pub fn new(limits: PageLimits) -> Desk {
        let (seats, uploads) = (Arc::new(Semaphore::new(limits.at_once)), Semaphore::new(limits.uploads));
        Desk { seats, uploads, watch: Watch::new(&limits), limits }
    }
}

/// A request for a page.
pub struct Visit {
    /// The one state of the mirror that the whole page shows.
    pub view: Arc<View>,
    /// The server.
    pub app: Arc<App>,
    /// What all visits share.
    pub desk: Arc<Desk>,
    /// Under which URL the visitor knows the server, if that can be told.
    pub server: Option<String>,
    /// Seconds since 1970.
    pub now: u64,
    root: String,
}

impl FromRequestParts<Arc<App>> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Visit, Infallible> {
        let desk: Result<Extension<Arc<Desk>>, _> = Extension::from_request_parts(parts, app).await;
        Ok(Visit {
            view: app.views.checked().await,
            desk: desk.expect("all pages have a desk").0,
            server: app.public_url.of(parts),
            now: SystemClock.now(),
            root: root(parts.uri.path()),
            app: app.clone(),
        })
    }
}

/// No page of ours lies deeper.
const DEEPEST: usize = 4;

/// The way from a page back to the root of all pages, so that links need not know where a proxy has put it.
fn root(path: &str) -> String {
    match path.bytes().filter(|byte| *byte == b'/').count() {
        depth @ 2..=DEEPEST => "../".repeat(depth - 1),
        0 | 1 => "./".to_owned(),
        _ => "/".to_owned(),
    }
}

impl Visit {
    /// Answers with a page that is made where waiting for a disk harms nobody.
    pub async fn answer<T: IntoResponse + Send + 'static>(
        self,
        make: impl FnOnce(&Visit) -> Result<T, Problem> + Send + 'static,
    ) -> Response {
        let visit = Arc::new(self);
        let seat = visit.desk.seats.clone().acquire_owned().await.expect("the semaphore is never closed");
        let made = {
            let visit = visit.clone();
            tokio::task::spawn_blocking(move || {
                let _seat = seat; // even if the visitor leaves meanwhile
                make(&visit)
            })
            .await
        };
        match made.map_err(Problem::from).flatten() {
            Ok(sheet) => sheet.into_response(),
            Err(Problem::Absent) if !visit.view.is_sound() => ProblemPage::response(visit.frame(None), Problem::NotYet),
            Err(problem) => ProblemPage::response(visit.frame(None), problem),
        }
    }

    /// What stands around each page.
    pub fn frame(&self, tab: Option<Tab>) -> Frame {
        Frame {
            root: self.root.clone(),
            tab,
            sought: String::new(),
            mirror: self.view.summary.mirror.clone(),
            generation: self.view.generation(),
            takes_wishes: self.app.wishes.is_some(),
        }
    }

    /// Everything about the mirror that fits on one screen.
    pub fn summary(&self) -> &Summary {
        &self.view.summary
    }

    /// Seconds since 1970, as people read them.
    pub fn moment(&self, seconds: u64) -> Moment {
        Moment::at(seconds, self.now)
    }

    /// Whether deletions wait for the operator; where nothing ever leaves, they do not. Reads a file.
    pub fn deletions_wait(&self) -> bool {
        !self.summary().gone.is_empty()
            && !Config::read(self.view.mirror.layout.root()).is_ok_and(|config| config.keep_withdrawn)
    }
}

/// Where in the navigation a page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// The first page.
    Home,
    /// All crates, or some.
    Crates,
    /// What is lacking.
    Holes,
    /// What was published when.
    Generations,
    /// How far a sync is.
    Progress,
    /// Asking for what is lacking.
    Wishes,
}

/// What stands around each page.
pub struct Frame {
    /// The way back to the root of all pages; ends with a slash.
    pub root: String,
    /// Where the page stands.
    tab: Option<Tab>,
    /// What the search box holds.
    pub sought: String,
    /// The mirror's id.
    pub mirror: String,
    /// What is served.
    pub generation: u64,
    /// Whether it can be asked for what is lacking.
    pub takes_wishes: bool,
}

impl Frame {
    /// Fills the search box.
    pub fn seeking(self, sought: &str) -> Frame {
        Frame { sought: sought.to_owned(), ..self }
    }

    /// The URL of an asset.
    pub fn asset(&self, name: &str) -> String {
        format!("{}{}", self.root, assets::path(name))
    }

    /// The first page, which has a search box of its own.
    pub fn is_home(&self) -> bool {
        self.tab == Some(Tab::Home)
    }

    /// The links to all parts: path, words, and whether the page is there.
    pub fn tabs(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let tab = |path, words, tab| (path, words, self.tab == Some(tab));
        let always = [
            tab("search", "Crates", Tab::Crates),
            tab("generations", "Generations", Tab::Generations),
            tab("holes", "Holes", Tab::Holes),
            tab("progress", "Progress", Tab::Progress),
        ];
        always.into_iter().chain(self.takes_wishes.then(|| tab("wishes", "Wishes", Tab::Wishes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_finds_back_to_the_root_from_wherever_it_lies() {
        assert_eq!(["/", "/holes", "/crates/serde", "/a/b/c"].map(root), ["./", "./", "../", "../../"]);
        assert_eq!(root(&"/".repeat(9000)), "/");
    }
}
