//! `crateferry serve`: the mirror as a registry for plain cargo, beside whatever process writes it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crateferry_store::{Layout, MirrorReader, OpenError, StoreLimits, open_files_allowed};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use crate::admin::{Admin, Desk, Holdings, Readiness, Shown};
use crate::cli::ServeArgs;
use crate::commands::sync;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::report::{Exit, usage};
use crate::serve::{App, Certificates, Listener, Meter, PublicUrl, ServeLimits, Tokens, Views, router};
use crate::session;
use crate::signals::Signals;

pub fn run(args: &ServeArgs) -> anyhow::Result<Exit> {
    let server = Server::prepare(args)?;
    session::runtime()?.block_on(server.run(args))
}

/// A server that is about to run.
struct Server {
    app: Arc<App>,
    certificates: Option<Arc<Certificates>>,
    limits: ServeLimits,
}

impl Server {
    fn prepare(args: &ServeArgs) -> anyhow::Result<Server> {
        if args.sync_every == Some(Duration::ZERO) {
            return Err(usage("--sync-every: between two syncs there must be some time, like 6h"));
        }
        let certificates = match (&args.tls_cert, &args.tls_key) {
            (Some(chain), Some(key)) => Some(Arc::new(Certificates::read(chain, key)?)),
            _ => None,
        };
        let public_url = match &args.public_url {
            Some(url) => PublicUrl::Fixed(public_url(url)?),
            None => PublicUrl::FromRequest { tls: certificates.is_some() },
        };
        let tokens = args.tokens.as_deref().map(Tokens::read).transpose()?.map(Arc::new);
        let views = Views::new(open(&args.mirror)?)?;
        let app = Arc::new(App { views, public_url, download_by: args.download_by, tokens });
        let defaults = ServeLimits::default();
        let limits = ServeLimits {
            connections: args.max_connections.unwrap_or(defaults.connections),
            connections_per_address: args.max_per_address.unwrap_or(defaults.connections_per_address),
            idle: args.idle_timeout.unwrap_or(defaults.idle),
            stall: args.stall_timeout.unwrap_or(defaults.stall),
            ..defaults
        };
        let limits = limits.within(open_files_allowed());
        Ok(Server { app, certificates, limits })
    }

    async fn run(self, args: &ServeArgs) -> anyhow::Result<Exit> {
        let signals = Signals::listen_as_server().context("cannot listen to signals")?;
        let (meter, readiness) = (Arc::<Meter>::default(), Readiness::until(&signals.stop));
        let _admin = Admin::open(args.admin.as_ref(), || self.desk(args, &meter, &readiness)).await?;
        let tcp = TcpListener::bind(&args.listen).await;
        let tcp = tcp.with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = tcp.local_addr().context("cannot learn where the server listens")?;
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        tracing::info!(generation = self.app.views.now().generation(), "serving on {scheme}://{address}");
        let listener = Listener {
            tcp,
            certificates: self.certificates.clone(),
            router: router(self.app.clone()),
            limits: self.limits.clone(),
            meter,
            stop: signals.stop.clone(),
        };
        readiness.begin();
        tell_system(SystemState::Ready);
        let told = async {
            signals.stop.cancelled().await;
            tell_system(SystemState::Stopping);
            std::future::pending::<()>().await;
        };
        let syncs = args.sync_every.map(|every| tokio::spawn(sync_every(args.mirror.clone(), every, signals.clone())));
        tokio::select! {
            biased; // the service manager is told before all is over
            () = told => {}
            () = listener.serve() => {}
            () = self.follow() => {}
        }
        if let Some(syncs) = syncs {
            // It heard the signal too, and stops as it does when it runs by itself.
            let _in_time = tokio::time::timeout(self.limits.drain, syncs).await;
        }
        Ok(Exit::Complete)
    }

    /// What the admin address shows.
    fn desk(&self, args: &ServeArgs, meter: &Arc<Meter>, readiness: &Readiness) -> anyhow::Result<Desk> {
        let app = self.app.clone();
        let holdings: Holdings = Arc::new(move || Ok(app.views.now().summary.clone()));
        let layout = Layout::new(&args.mirror);
        Ok(Desk {
            metrics: Metrics::new(holdings.clone(), &layout).with_server(meter.clone()),
            holdings,
            config: Config::read(&args.mirror)?,
            run: Shown::Told(layout),
            readiness: readiness.clone(),
        })
    }

    /// Takes up what changes on disk: generations, certificates, tokens. Never ends.
    fn follow(&self) -> impl Future<Output = ()> + use<> {
        let (app, certificates, every) = (self.app.clone(), self.certificates.clone(), self.limits.follow);
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

/// Opens the mirror. A catalog that must be derived again waits for the writer that is at work.
fn open(mirror: &Path) -> anyhow::Result<MirrorReader> {
    let mut told = false;
    loop {
        match MirrorReader::open_checked(mirror, StoreLimits::default()) {
            Err(error @ OpenError::Locked { .. }) => {
                if !told {
                    tracing::warn!("the catalog must be derived again, but {error}; waiting for it to end");
                    told = true;
                }
                tell_system(SystemState::Waiting);
                std::thread::sleep(ServeLimits::default().follow);
            }
            other => return Ok(other?),
        }
    }
}

/// Syncs at once and then every so often, until the server stops. A sync that fails is told and tried again next time.
async fn sync_every(mirror: PathBuf, every: Duration, signals: Signals) {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let (mirror, signals) = (mirror.clone(), signals.clone());
        match tokio::task::spawn_blocking(move || sync::refresh(&mirror, &signals)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the sync failed: {error:#}; the next one tries again"),
            Err(error) => tracing::error!(%error, "the sync failed; the next one tries again"),
        }
    }
}

/// Checks a URL that cargo will be told.
fn public_url(text: &str) -> anyhow::Result<String> {
    let url = reqwest::Url::parse(text).map_err(|error| usage(format!("--public-url {text}: {error}")))?;
    let plain = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if !plain || url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(usage(format!("--public-url {text}: it must look like https://host or https://host/path")));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[derive(Clone, Copy)]
enum SystemState {
    /// For another process; this may take longer than a start usually may.
    Waiting,
    Ready,
    Stopping,
}

/// Tells the service manager, if one waits to hear it (`NOTIFY_SOCKET`, `sd_notify(3)`).
#[cfg(target_os = "linux")]
fn tell_system(state: SystemState) {
    use sd_notify::NotifyState;
    let states = match state {
        SystemState::Waiting => {
            let status =
                NotifyState::Status("the catalog must be derived again; waiting for the mirror's writer to end");
            vec![status, NotifyState::ExtendTimeoutUsec(30_000_000)]
        }
        SystemState::Ready => vec![NotifyState::Ready, NotifyState::Status("serving")],
        SystemState::Stopping => vec![NotifyState::Stopping],
    };
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

#[cfg(not(target_os = "linux"))]
fn tell_system(state: SystemState) {
    match state {
        SystemState::Waiting | SystemState::Ready | SystemState::Stopping => {} // nobody waits
    }
}
