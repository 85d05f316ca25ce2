//! What commands that write a mirror have in common: opening or making it, and the way to its upstream.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use crateferry_pipeline::advisories::{Advisories, Files};
use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_pipeline::cpu::Cpu;
use crateferry_pipeline::index::policy::{Policy, PolicyError};
use crateferry_pipeline::index::select::Choice;
use crateferry_pipeline::limits::Limits;
use crateferry_pipeline::net::{Network, Retry};
use crateferry_pipeline::upstream::crates::{CrateFiles, DownloadTemplate};
use crateferry_pipeline::upstream::{GitIndex, Means, RegistryConfig, Scope, Upstream, UpstreamError, UpstreamSpec};
use crateferry_store::{Layout, Mirror, OpenError, Selection, StoreLimits, SystemDisk};
use tokio_util::sync::CancellationToken;

use crate::cli::UpstreamArgs;
use crate::config::{self, Config, Role, Settings};
use crate::dump;
use crate::report::usage;

/// Opens the mirror for writing.
pub fn open(path: &Path) -> anyhow::Result<(Mirror, Config)> {
    // A configuration that cannot be read may be a newer one: let the store say so first.
    let limits = Config::read(path).map(|config| config.store_limits()).unwrap_or_default();
    let mirror = Mirror::open(path, limits, Arc::new(SystemDisk))?;
    Ok((mirror, Config::read(path)?))
}

/// The same for what only an origin does: a replica publishes nothing of its own.
pub fn open_origin(path: &Path) -> anyhow::Result<(Mirror, Config)> {
    let (mirror, config) = open(path)?;
    if config.role == Role::Replica {
        let problem = "is a replica: what it serves comes in bundles; do this on the online side";
        return Err(usage(format!("{} {problem}", path.display())));
    }
    Ok((mirror, config))
}

/// Makes an empty mirror, if a sync with this scope could use it: what cannot be followed leaves no folder behind.
pub fn create(path: &Path, args: &UpstreamArgs, scope: &Scope) -> anyhow::Result<(Mirror, Config)> {
    let chosen = Settings::of_environment()?.with(args.given());
    spec(&chosen.config()?.upstream)?;
    let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let (text, layout) = (config::text(&id, &chosen)?, Layout::new(path));
    // With what it is told again, since the environment goes before the file.
    let config = Config::parse(&text, &layout.config())?.with(args.given())?;
    Session::new(config, &layout, scope)?;
    let mirror = Mirror::create(path, &id, &text, StoreLimits::default())?;
    let config = Config::read(path)?;
    Ok((mirror, config))
}

/// Opens the mirror, or makes it if there is none.
pub fn open_or_create(path: &Path, args: &UpstreamArgs, scope: &Scope) -> anyhow::Result<(Mirror, Config)> {
    match open_origin(path) {
        Err(error) if is_missing(&error) => create(path, args, scope),
        other => other,
    }
}

/// Whether an error says that there is no mirror.
pub fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(OpenError::Missing(_))))
}

/// Reads what an upstream is called.
pub fn spec(text: &str) -> anyhow::Result<UpstreamSpec> {
    text.parse().map_err(|error| usage(crateferry_pipeline::error_chain(&error)))
}

/// A selection within the policy of a configuration. Reads the dump and the advisories that it names by paths.
pub fn choice(selection: Selection, config: &Config) -> anyhow::Result<Choice> {
    let policy = Policy::new(config.policy.clone()).map_err(|error| usage(error.to_string()))?;
    policy.prepare()?;
    if let Some(name) = config.policy.dump.as_deref().filter(|name| dump::url(name).is_none()) {
        policy.read_dump(name.as_ref())?;
    }
    let checksum_change = config.checksum_change;
    Ok(Choice { selection: Arc::new(selection), policy: Arc::new(policy), checksum_change })
}

/// Lets a policy heed the advisories that the mirror has, if it is to heed some and no others are named.
pub fn heed_own(choice: &Choice, mirror: &Mirror) -> anyhow::Result<()> {
    if choice.policy.lacks_advisories() {
        choice.policy.heed(advisories(mirror)?.ok_or_else(no_advisories)?);
    } else if choice.policy.awaits_advisories()
        && let Some(files) = advisory_files(mirror)?
    {
        choice.policy.heed(Advisories::readable(&files).0);
    }
    Ok(())
}

/// Advisories are to be heeded, and there are none.
pub fn no_advisories() -> anyhow::Error {
    usage(PolicyError::NoAdvisories.to_string())
}

/// The advisories that go with the next generation of a mirror, if it has some.
pub fn advisories(mirror: &Mirror) -> anyhow::Result<Option<Advisories>> {
    Ok(advisory_files(mirror)?.map(|files| Advisories::of(&files)).transpose()?)
}

/// The files of the advisory database that goes with the next generation of a mirror, if it has one.
pub fn advisory_files(mirror: &Mirror) -> anyhow::Result<Option<Files>> {
    let ledger = mirror.ledger().reader()?;
    let Some(database) = ledger.next_advisories()? else { return Ok(None) };
    let Some(place) = ledger.advisories(&database.sha256)? else { return Ok(None) };
    let archive = mirror.packs().advisories(place, database.sha256)?;
    Ok(Some(Files::unpack(&archive)?))
}

/// The way to an upstream: what a run needs beside the mirror.
pub struct Session {
    pub config: Config,
    pub limits: Limits,
    pub network: Arc<Network>,
    pub upstream: Upstream,
    /// The repository of the advisory database, if there is to be one.
    pub advisories: Option<GitIndex>,
    pub retry: Arc<Retry>,
    pub clock: Arc<dyn Clock>,
    pub cpu: Cpu,
}

impl Session {
    /// Prepares the way; asks nobody yet.
    pub fn new(config: Config, layout: &Layout, scope: &Scope) -> anyhow::Result<Session> {
        let limits = Limits::default();
        let spec = spec(&config.upstream)?;
        let mut named: Vec<reqwest::Url> = spec.url(scope).into_iter().collect();
        if let Some(template) = download_template(config.download_url.as_deref())? {
            named.push(template.example().clone());
        }
        named.extend(config.policy.dump.as_deref().and_then(dump::url));
        let of_advisories = config.advisories.upstream.as_deref().map(git_url).transpose()?;
        named.extend(of_advisories.clone());
        let network = Network::new(&config.network, &named).context("cannot prepare the network")?;
        let network = Arc::new(network);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let retry = Arc::new(Retry::new(&config.network, fastrand::Rng::new()));
        let means = Means {
            network: network.clone(),
            retry: retry.clone(),
            clock: clock.clone(),
            clone: layout.upstream(),
            limits: limits.index,
        };
        let beside = Means { clone: layout.advisories(), ..means.clone() };
        let advisories = of_advisories.map(|url| GitIndex::new(url, &beside));
        let upstream = spec.open(scope, &means);
        if let (Upstream::Sparse(index), Scope::All) = (&upstream, scope) {
            // Known before anything is stored: a mirror must not be left wanting what no sync can list.
            return Err(UpstreamError::NoList { place: index.url().to_string() }.into());
        }
        let cpu = Cpu::new(0).context("cannot start the CPU pool")?;
        Ok(Session { config, limits, network, upstream, advisories, retry, clock, cpu })
    }

    /// Reads the dump that the policy names by a URL, after it was fetched, if it has changed.
    pub async fn dump(&self, choice: &Choice, layout: &Layout, stop: &CancellationToken) -> anyhow::Result<()> {
        let Some(url) = self.config.policy.dump.as_deref().and_then(dump::url) else { return Ok(()) };
        let path = dump::fetch(&self.network, &self.retry, &url, &layout.dump(), stop).await?;
        let policy = choice.policy.clone();
        Ok(self.cpu.run(move || policy.read_dump(&path)).await?)
    }

    /// Where crate files come from: the configured URL, or what the index says. None if the signal to stop came first.
    pub async fn crate_files(
        &self,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<(CrateFiles, DownloadTemplate)>> {
        let template = match download_template(self.config.download_url.as_deref())? {
            Some(template) => template,
            None => match self.upstream.config(stop).await {
                Err(UpstreamError::Interrupted) => return Ok(None),
                config => registrys_template(config.context("cannot learn where crate files come from")?)?,
            },
        };
        let files = CrateFiles::new(&self.network, template.clone()).context("cannot download crate files")?;
        Ok(Some((files, template)))
    }
}

fn git_url(text: &str) -> anyhow::Result<reqwest::Url> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http" | "file"));
    url.ok_or_else(|| {
        usage(format!("upstream of [advisories]: {text:?} is no URL of a git repository (https, http or file)"))
    })
}

fn registrys_template(config: Option<RegistryConfig>) -> anyhow::Result<DownloadTemplate> {
    let Some(RegistryConfig { dl, .. }) = config else {
        let lacking =
            "the upstream has no config.json that says where crate files come from; name it with --download-url";
        return Err(usage(lacking));
    };
    DownloadTemplate::parse(&dl).with_context(|| format!("the upstream's config.json names {dl:?} for downloads"))
}

fn download_template(text: Option<&str>) -> anyhow::Result<Option<DownloadTemplate>> {
    let Some(text) = text else { return Ok(None) };
    let template = DownloadTemplate::parse(text)
        .map_err(|error| usage(format!("--download-url: {}", crateferry_pipeline::error_chain(&error))))?;
    Ok(Some(template))
}

/// The runtime that a command moves things on.
pub struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// Runs a command to its end. A thread that still hangs in a call then, to a silent git server for one, is left
    /// behind: it has nothing to say any more, and the end of the process must not wait for it.
    pub fn block_on<T>(self, command: impl Future<Output = T>) -> T {
        let ended = self.0.block_on(command);
        self.0.shutdown_background();
        ended
    }
}

/// Starts a runtime.
pub fn runtime() -> anyhow::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(Runtime(runtime.context("cannot start the async runtime")?))
}
