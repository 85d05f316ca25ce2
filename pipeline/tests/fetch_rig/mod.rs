//! What the fetch tests share: a fake registry, a network that trusts it, and the stages from wanted to verified.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use crateferry_pipeline::clock::Clock;
use crateferry_pipeline::failure::{Disposition, Failure};
use crateferry_pipeline::flow::Stage;
use crateferry_pipeline::item::{Fetched, Verified, Wanted};
use crateferry_pipeline::net::{Budget, Gate, Network, NetworkConfig, Retry};
use crateferry_pipeline::stages::{Fetch, FetchLimits, Outage, Verify};
use crateferry_pipeline::upstream::crates::{CrateFiles, DownloadTemplate};
use crateferry_store::{Mirror, Release, ReleaseId, StoreLimits};
use crateferry_test_support::{Fault, Registry};
use reqwest::Url;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Sun, 06 Nov 1994 08:49:37 GMT: what the clock says in all these tests.
pub const NOW: u64 = 784_111_777;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> u64 {
        NOW
    }
}

/// Settings under which a test does not wait long.
pub fn hasty(registry: &Registry) -> NetworkConfig {
    NetworkConfig {
        ca_files: vec![registry.ca_file()],
        header_timeout: Duration::from_millis(1500),
        rate_window: Duration::from_millis(300),
        retries: 2,
        retry_base: Duration::from_millis(2),
        retry_max: Duration::from_millis(5),
        retry_after_cap: Duration::from_secs(2),
        ..NetworkConfig::default()
    }
}

/// A fetch stage with the mirror whose spool it uses.
pub struct Rig {
    pub fetch: Fetch,
    _mirror: Mirror,
    _folder: TempDir,
}

impl Rig {
    /// Fetches from this registry, which the operator named.
    pub fn new(registry: &Registry) -> Self {
        Rig::with(registry, &hasty(registry))
    }

    pub fn with(registry: &Registry, config: &NetworkConfig) -> Self {
        Rig::from_template(&template(registry), config)
    }

    pub fn from_template(template: &str, config: &NetworkConfig) -> Self {
        let template: DownloadTemplate = template.parse().unwrap();
        let network = Network::new(config, [template.example()]).unwrap();
        Rig::over(&network, template)
    }

    pub fn over(network: &Network, template: DownloadTemplate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::create(folder.path(), &"0".repeat(32), "format = 1\n", StoreLimits::default()).unwrap();
        let config = network.config();
        let fetch = Fetch {
            files: CrateFiles::new(network, template).unwrap(),
            gate: Arc::new(Gate::new(config)),
            budget: Budget::new(Budget::DEFAULT),
            spool: mirror.spool(),
            retry: Arc::new(Retry::new(config, fastrand::Rng::with_seed(1))),
            clock: Arc::new(Stopped),
            limits: FetchLimits::new(config),
            outage: Outage::default(),
            stop: CancellationToken::new(),
        };
        Rig { fetch, _mirror: mirror, _folder: folder }
    }

    pub async fn fetch(&self, registry: &Registry, name: &str, version: &str) -> Result<Fetched, Failure> {
        self.fetch.run(wanted(registry, name, version)).await
    }

    /// Fetches and verifies.
    pub async fn bring(&self, registry: &Registry, name: &str, version: &str) -> Result<Verified, Failure> {
        Verify.run(self.fetch(registry, name, version).await?).await
    }

    /// Brings all that the registry holds, at once, and lets go of each as soon as it is verified.
    pub async fn bring_all(&self, registry: &Registry) {
        let ids = registry.release_ids();
        let all = ids.iter().map(async |(name, version)| drop(self.bring(registry, name, version).await.unwrap()));
        futures::future::join_all(all).await;
    }
}

/// Where the registry keeps its crate files.
pub fn template(registry: &Registry) -> String {
    format!("{}/crates/{{crate}}/{{crate}}-{{version}}.crate", registry.url())
}

pub fn wanted(registry: &Registry, name: &str, version: &str) -> Wanted {
    let id = ReleaseId { name: name.parse().unwrap(), version: version.parse().unwrap() };
    Wanted { release: Release { id, checksum: registry.checksum(name, version).parse().unwrap() } }
}

/// A registry with one release that is answered with this fault.
pub fn faulty(fault: Fault) -> Registry {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").fault("serde", "1.0.0", fault);
    registry
}

/// Fetches `serde 1.0.0` from a registry that answers with this fault, and expects it to fail in this way after
/// so many requests.
pub async fn expect_failure(fault: Fault, disposition: Disposition, requests: usize) -> Failure {
    let registry = faulty(fault);
    let failure = Rig::new(&registry).bring(&registry, "serde", "1.0.0").await.unwrap_err();
    assert_eq!(failure.disposition, disposition, "{}", failure.reason());
    assert_eq!(registry.requests_for("serde", "1.0.0"), requests, "{}", failure.reason());
    assert_eq!(failure.attempt.retries as usize, requests.max(1) - 1);
    assert_eq!(failure.attempt.started_at, NOW);
    assert!(failure.attempt.url.ends_with("/crates/serde/serde-1.0.0.crate"), "{}", failure.attempt.url);
    failure
}

/// Fetches `serde 1.0.0` from a registry that answers with this fault, and expects it to come after so many
/// requests.
pub async fn expect_success(fault: Fault, requests: usize) -> Verified {
    let registry = faulty(fault);
    let verified = Rig::new(&registry).bring(&registry, "serde", "1.0.0").await.unwrap();
    assert_eq!(registry.requests_for("serde", "1.0.0"), requests);
    assert_eq!(verified.attempt.retries as usize, requests - 1);
    verified
}

/// A URL of the registry at another name.
pub fn url(text: &str) -> Url {
    text.parse().unwrap()
}
