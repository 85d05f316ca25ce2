//! `crateferry serve`: the mirror as a registry for plain cargo, beside whatever process writes it.

use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use crateferry_store::{Layout, MirrorReader, OpenError, Soundness, StoreLimits, open_files_allowed};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Desk, Readiness, Shown};
use crate::cli::ServeArgs;
use crate::commands::bundle;
use crate::commands::sync;
use crate::config::{Config, Role};
use crate::downloads::Downloads;
use crate::holdings::Holdings;
use crate::metrics::Metrics;
use crate::report::{Exit, usage};
use crate::run::Run;
use crate::scrub::{self, Scrubbed};
use crate::serve::{
    AdvisoryShelf, App, Certificates, Listener, Meter, PublicUrl, ServeLimits, Tokens, Views, WishBook,
};
use crate::service_manager::{ServerState, tell};
use crate::session;
use crate::signals::Signals;
use crate::wishes::WishRules;

pub fn run(args: &ServeArgs) -> anyhow::Result<Exit> {
    let server = Server::prepare(args)?;
    session::runtime()?.block_on(server.run(args))
}

/// A server that is about to run.
struct Server {
    /// None while another process keeps it from being opened.
    views: Option<Views>,
    public_url: PublicUrl,
    tokens: Option<Arc<Tokens>>,
    downloads: Option<Downloads>,
    wishes: Option<WishBook>,
    certificates: Option<Arc<Certificates>>,
    limits: ServeLimits,
}

/// What is served, once the mirror is open.
type Opened = Arc<OnceLock<Arc<App>>>;

impl Server {
    fn prepare(args: &ServeArgs) -> anyhow::Result<Server> {
        if let Some(folder) = args.apply_from.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(usage(format!("--apply-from: {} is no folder", folder.display())));
        }
        if args.apply_from.is_some() && Config::read(&args.mirror)?.role != Role::Replica {
            return Err(usage(
                "--apply-from: bundles are for replicas, and this mirror syncs from an upstream of its own",
            ));
        }
        if args.scrub.is_some_and(|rate| rate.as_u64() == 0) {
            return Err(usage("--scrub: nothing is read at no bytes a second; say how many, like 5MB"));
        }
        if args.sync_every == Some(Duration::ZERO) {
            return Err(usage("--sync-every: between two syncs there must be some time, like 6h"));
        }
        let certificates = match (&args.tls_cert, &args.tls_key) {
            (Some(chain), Some(key)) => Some(Arc::new(Certificates::read(chain, key)?)),
            _ => None,
        };
        let public_url = match &args.public_url {
            Some(url) => PublicUrl::Fixed(url.as_str().to_owned()),
            None => PublicUrl::FromRequest { tls: certificates.is_some() },
        };
        let tokens = args.tokens.as_deref().map(Tokens::read).transpose()?.map(Arc::new);
        let defaults = ServeLimits::default();
        let views = open(&args.mirror, &defaults)?;
        let config = Config::read(&args.mirror)?;
        let downloads = config.record_downloads.then(|| Downloads::open(&Layout::new(&args.mirror))).transpose();
        let downloads = downloads.context("cannot write downloads down")?;
        let rules = WishRules::read(&config.wishes)?;
        let wishes = rules.map(|rules| WishBook::new(Layout::new(&args.mirror), rules));
        let limits = ServeLimits {
            connections: args.max_connections.unwrap_or(defaults.connections),
            connections_per_address: args.max_per_address.unwrap_or(defaults.connections_per_address),
            idle: args.idle_timeout.unwrap_or(defaults.idle),
            stall: args.stall_timeout.unwrap_or(defaults.stall),
            ..defaults
        };
        let limits = limits.within(open_files_allowed());
        Ok(Server { views, public_url, tokens, downloads, wishes, certificates, limits })
    }

    async fn run(mut self, args: &ServeArgs) -> anyhow::Result<Exit> {
        let signals = Signals::listen_as_server().context("cannot listen to signals")?;
        let seen = Seen::until(&signals.stop);
        let _admin = Admin::open(args.admin.as_ref(), || seen.desk(args)).await?;
        let app = tokio::select! {
            app = self.app(args, &seen.readiness) => Arc::new(app?),
            () = signals.stop.cancelled() => return Ok(Exit::Complete),
        };
        let app = seen.opened.get_or_init(|| app);
        let tcp = TcpListener::bind(&args.listen).await;
        let tcp = tcp.with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = tcp.local_addr().context("cannot learn where the server listens")?;
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        tracing::info!(generation = app.views.now().generation(), "serving on {scheme}://{address}");
        let listener = Listener {
            tcp,
            certificates: self.certificates.clone(),
            site: Arc::new(app.clone().into()),
            limits: self.limits.clone(),
            meter: seen.meter.clone(),
            stop: signals.stop.clone(),
        };
        if let Some(rate) = args.scrub {
            scrub::begin(&args.mirror, rate.as_u64(), seen.scrubbed.clone())?;
        }
        seen.readiness.begin();
        tell(ServerState::Ready);
        let told = async {
            signals.stop.cancelled().await;
            tell(ServerState::Stopping);
            std::future::pending::<()>().await;
        };
        let syncs =
            args.sync_every.map(|every| sync_every(args.mirror.clone(), every, seen.runs.clone(), signals.clone()));
        let from = args.apply_from.clone();
        let applies = from.map(|from| apply_from(args.mirror.clone(), from, self.limits.follow, signals.stop.clone()));
        let writes = async {
            tokio::join!(self.until_drained(syncs, &signals.stop), self.until_drained(applies, &signals.stop));
        };
        let work = async { tokio::join!(listener.serve(), writes) };
        tokio::select! {
            biased; // the service manager is told before all is over
            () = told => {}
            ((), ()) = work => {}
            () = self.follow(app) => {}
            () = keep_sound(app, &self.limits, &seen.readiness) => {}
            () = keep_wishes(app, &self.limits) => {}
        }
        write_wishes(app).await;
        Ok(Exit::Complete)
    }

    /// Lets what this process writes go on until it ends, which they do as those of other processes when they are told to
    /// stop; waits no longer then than for clients.
    async fn until_drained(&self, syncs: Option<impl Future<Output = ()> + Send + 'static>, stop: &CancellationToken) {
        let Some(syncs) = syncs.map(tokio::spawn) else { return };
        stop.cancelled().await;
        let _in_time = tokio::time::timeout(self.limits.drain, syncs).await;
    }

    /// What is served. Waits until the mirror can be opened.
    async fn app(&mut self, args: &ServeArgs, readiness: &Readiness) -> anyhow::Result<App> {
        let views = match self.views.take() {
            Some(views) => views,
            None => wait(&args.mirror, &self.limits, readiness).await?,
        };
        let (public_url, tokens) = (self.public_url.clone(), self.tokens.clone());
        let (downloads, wishes) = (self.downloads.take(), self.wishes.take());
        let advisories = AdvisoryShelf::default();
        Ok(App { views, public_url, download_by: args.download_by, tokens, advisories, downloads, wishes })
    }

    /// Takes up what changes on disk: generations, certificates, tokens. Never ends.
    fn follow(&self, app: &Arc<App>) -> impl Future<Output = ()> + use<> {
        let (app, certificates, every) = (app.clone(), self.certificates.clone(), self.limits.follow);
        async move {
            let mut told = String::new();
            loop {
                tokio::time::sleep(every).await;
                let (app, certificates) = (app.clone(), certificates.clone());
                let looked = tokio::task::spawn_blocking(move || {
                    certificates.iter().for_each(|certificates| certificates.follow());
                    app.tokens.iter().for_each(|tokens| tokens.follow());
                    app.views.follow()
                });
                match looked.await {
                    Ok(Ok(())) => told.clear(),
                    Ok(Err(error)) => {
                        let problem = format!("{error:#}");
                        if problem != told {
                            tracing::warn!("cannot look at the mirror anew, and go on with what is served: {problem}");
                            told = problem;
                        }
                    }
                    Err(error) => tracing::error!(%error, "looking at the mirror failed"),
                }
            }
        }
    }
}

/// What the admin address sees of a server.
struct Seen {
    opened: Opened,
    meter: Arc<Meter>,
    scrubbed: Arc<Scrubbed>,
    /// The last sync of this process.
    runs: Arc<ArcSwap<Run>>,
    readiness: Readiness,
}

impl Seen {
    /// Nothing yet; the server works until it is stopped.
    fn until(stop: &CancellationToken) -> Seen {
        let readiness = Readiness::until(stop);
        Seen {
            opened: Opened::default(),
            meter: Arc::default(),
            scrubbed: Arc::default(),
            runs: Arc::default(),
            readiness,
        }
    }

    fn desk(&self, args: &ServeArgs) -> anyhow::Result<Desk> {
        let opened = self.opened.clone();
        let holdings: Holdings = Arc::new(move || {
            let app = opened.get().context("the mirror is not open yet")?;
            Ok(app.views.now().summary.clone())
        });
        let layout = Layout::new(&args.mirror);
        let metrics = Metrics::new(holdings.clone(), &layout).with_server(self.meter.clone(), self.scrubbed.clone());
        Ok(Desk {
            metrics: if args.sync_every.is_some() { metrics.with_runs(self.runs.clone()) } else { metrics },
            holdings,
            config: Config::read(&args.mirror)?,
            run: Shown::Told(layout),
            readiness: self.readiness.clone(),
        })
    }
}

const DERIVING: &str = "the catalog is damaged and is derived again";
const STUCK: &str = "the catalog is damaged and cannot be derived again; the log says why";
const WAITING: &str = "the catalog must be derived again, which waits for the process that writes the mirror to end";

/// Opens the mirror. None if its catalog must be derived again while another process is at work.
fn open(mirror: &Path, limits: &ServeLimits) -> anyhow::Result<Option<Views>> {
    let store = StoreLimits::default();
    let serve = |mirror| Views::new(mirror, limits.settle);
    let opened = MirrorReader::open(mirror, store.clone()).and_then(serve).or_else(|problem| {
        if !problem.is_damage() {
            return Err(problem);
        }
        match MirrorReader::mend(mirror, &store, &problem).and_then(serve) {
            Err(OpenError::Io { .. }) => Err(problem), // nothing may be written here
            other => other,
        }
    });
    match opened {
        Err(OpenError::Locked { .. }) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Waits until the mirror can be opened.
async fn wait(mirror: &Path, limits: &ServeLimits, readiness: &Readiness) -> anyhow::Result<Views> {
    tracing::warn!("{WAITING}");
    readiness.wait(WAITING);
    loop {
        tell(ServerState::Waiting(WAITING));
        tokio::time::sleep(limits.follow).await;
        let (mirror, limits) = (mirror.to_owned(), limits.clone());
        if let Some(views) = tokio::task::spawn_blocking(move || open(&mirror, &limits)).await?? {
            return Ok(views);
        }
    }
}

/// Checks the catalog as a whole if nobody did, or if something could not be read since. Never ends.
async fn keep_sound(app: &Arc<App>, limits: &ServeLimits, readiness: &Readiness) {
    loop {
        if let Err(damage) = on_views(app, Views::check).await {
            tracing::error!(error = &damage as &dyn Error, "the catalog is damaged: what is not found in it waits");
            mend(app, damage, limits, readiness).await;
        }
        while app.views.now().mirror.catalog.soundness() != Soundness::Unknown {
            tokio::time::sleep(limits.follow).await;
        }
    }
}

/// Has a damaged catalog derived again. Until that is done, what is found in it is served.
async fn mend(app: &Arc<App>, damage: OpenError, limits: &ServeLimits, readiness: &Readiness) {
    let (damage, mut told) = (Arc::new(damage), "");
    readiness.wait(DERIVING);
    loop {
        let damage = damage.clone();
        let (why, pause) = match on_views(app, move |views| views.mend(&damage)).await {
            Ok(()) => break,
            Err(OpenError::Locked { .. }) => (WAITING, limits.follow),
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "the catalog cannot be derived again");
                (STUCK, limits.mend)
            }
        };
        if why != told {
            tracing::warn!("{why}");
            readiness.wait(why);
            told = why;
        }
        tell(ServerState::Waiting(why));
        tokio::time::sleep(pause).await;
    }
    tracing::info!("the catalog is sound again");
    readiness.begin();
    tell(ServerState::Ready);
}

/// Writes now and then what was asked for in vain. Never ends.
async fn keep_wishes(app: &Arc<App>, limits: &ServeLimits) {
    loop {
        tokio::time::sleep(limits.wishes).await;
        write_wishes(app).await;
    }
}

async fn write_wishes(app: &Arc<App>) {
    let app = app.clone();
    let written = tokio::task::spawn_blocking(move || {
        app.wishes.iter().for_each(|wishes| wishes.write_or_tell(&app.views.now().mirror));
    });
    written.await.expect("nothing panics with it");
}

/// Does what waits for a disk.
async fn on_views<T: Send + 'static>(app: &Arc<App>, work: impl FnOnce(&Views) -> T + Send + 'static) -> T {
    let app = app.clone();
    tokio::task::spawn_blocking(move || work(&app.views)).await.expect("damage makes no panic")
}

/// Syncs at once and then every so often, until the server stops. A sync that fails is told and tried again next time.
async fn sync_every(mirror: PathBuf, every: Duration, runs: Arc<ArcSwap<Run>>, signals: Signals) {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let (mirror, signals, run) = (mirror.clone(), signals.clone(), Arc::<Run>::default());
        runs.store(run.clone());
        match tokio::task::spawn_blocking(move || sync::refresh(&mirror, &signals, run)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the sync failed: {error:#}; the next one tries again"),
            Err(error) => tracing::error!(%error, "the sync failed; the next one tries again"),
        }
    }
}

/// Applies bundles that are laid into a folder, until the server stops.
async fn apply_from(mirror: PathBuf, folder: PathBuf, every: Duration, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let (mirror, folder, stop) = (mirror.clone(), folder.clone(), stop.clone());
        match tokio::task::spawn_blocking(move || bundle::watch::take_all(&mirror, &folder, &stop)).await {
            Ok(Ok(())) => told.clear(),
            Ok(Err(error)) => {
                let problem = format!("{error:#}");
                if problem != told {
                    tracing::error!("bundles are not taken in: {problem}; this is tried again");
                    told = problem;
                }
            }
            Err(error) => tracing::error!(%error, "taking bundles in failed"),
        }
    }
}
