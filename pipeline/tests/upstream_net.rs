//! Upstreams over the network, against a registry with TLS and an authority that only its CA file vouches for.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is an answer, and files are made"
)]

mod upstream_rig;

use std::sync::Arc;
use std::time::Duration;

use crateferry_pipeline::upstream::{
    Change, Comparison, GitIndex, IndexLimits, Kind, Mark, Means, Problem, Scope, SparseError, SparseIndex, Upstream,
    UpstreamError,
};
use crateferry_test_support::{Etags, Fault, Registry};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use upstream_rig::*;

/// A mirror that follows a registry, now one way and now another.
struct Mirror {
    folder: TempDir,
    limits: IndexLimits,
    ledger: Arc<Ledger>,
    last: Option<Mark>,
}

impl Mirror {
    fn new() -> Self {
        let (folder, ledger) = (TempDir::new().unwrap(), Arc::default());
        Mirror { folder, limits: IndexLimits::default(), ledger, last: None }
    }

    fn means(&self, registry: &Registry, url: &str) -> Means {
        means(&[registry.ca_file()], url, self.folder.path().join("upstream"), self.limits)
    }

    fn sparse_at(&self, registry: &Registry, url: &str) -> Upstream {
        Upstream::Sparse(SparseIndex::new(url.parse().unwrap(), &self.means(registry, url)))
    }

    fn git_at(&self, registry: &Registry, url: &str) -> Upstream {
        Upstream::Git(GitIndex::new(url, &self.means(registry, url)))
    }

    /// Compares these names with the sparse index.
    async fn ask(&mut self, registry: &Registry, names: &[&str]) -> Outcome {
        let upstream = self.sparse_at(registry, &registry.index_url());
        self.compare(&upstream, upstream_rig::names(names)).await
    }

    /// Compares everything with the git index.
    async fn pull(&mut self, registry: &Registry) -> Outcome {
        let upstream = self.git_at(registry, &registry.git_https_url());
        self.compare(&upstream, Scope::All).await
    }

    async fn compare(&mut self, upstream: &Upstream, scope: Scope) -> Outcome {
        let outcome = compare(upstream, scope, &self.ledger, self.last.clone()).await;
        if let Ok(mark) = &outcome.mark {
            self.last = Some(mark.clone());
        }
        outcome
    }
}

fn registry() -> Registry {
    let registry = Registry::new();
    registry.release("a", "1.0.0").release("Serde", "1.0.0").release("syn", "1.0.0");
    registry
}

/// Requests for index files that carried a condition.
fn conditional(registry: &Registry) -> usize {
    registry.requests_matching(|request| {
        request.header("if-none-match").is_some() || request.header("if-modified-since").is_some()
    })
}

fn bodies(registry: &Registry) -> usize {
    registry.requests_matching(|request| request.status == Some(200) && !request.path.ends_with("config.json"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_index_is_cloned_over_https_with_our_own_certificates_and_name() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.pull(&registry).await.expect(&["+a", "+serde", "+syn"]);
    let agents = registry.requests_matching(|request| {
        request.header("user-agent").is_some_and(|agent| agent.starts_with("git/2.0 (crateferry/"))
    });
    assert_eq!(agents, registry.git_requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_index_of_an_unknown_authority_is_refused_with_the_reason() {
    let registry = registry();
    let url = registry.git_https_url();
    let folder = TempDir::new().unwrap();
    let means = means(&[], &url, folder.path().join("upstream"), IndexLimits::default());
    let upstream = Upstream::Git(GitIndex::new(&url, &means));
    let error = compare(&upstream, Scope::All, &Arc::default(), None).await.mark.unwrap_err();
    assert!(crateferry_pipeline::error_chain(&error).contains("certificate"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_costs_one_listing_and_no_pack_over_https() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.pull(&registry).await.mark();
    registry.reset_counters();
    mirror.pull(&registry).await.expect(&[]);
    assert_eq!(registry.git_requests(), 2, "the capabilities and the listing");
    assert!(registry.request_log().iter().all(|request| request.bytes_sent < 2000));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_a_squash_come_over_https() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.pull(&registry).await.mark();
    registry.yank("Serde", "1.0.0").release("tokio", "1.0.0").delete_crate("a").commit();
    mirror.pull(&registry).await.expect(&["+serde", "+tokio", "-a"]);
    registry.squash();
    mirror.pull(&registry).await.expect(&[]);
    registry.release("syn", "2.0.0").commit();
    registry.release("syn", "3.0.0").release("rand", "1.0.0").commit();
    mirror.pull(&registry).await.expect(&["+syn", "+rand"]);
    registry.force_push_older(1);
    mirror.pull(&registry).await.expect(&["+syn", "-rand"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_squash_brings_one_commit_and_no_files_from_a_server_that_keeps_bitmaps() {
    let registry = Registry::new();
    registry.releases(700).commit();
    let mut mirror = Mirror::new();
    mirror.pull(&registry).await.mark();
    registry.git(&["repack", "-adb", "--quiet"]);
    registry.squash().reset_counters();
    mirror.pull(&registry).await.expect(&[]);
    let bytes: u64 = registry.request_log().iter().map(|request| request.bytes_sent).sum();
    assert!(bytes < 2000, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_git_index_is_not_followed() {
    let registry = registry();
    let url = registry.git_https_url();
    registry.fault_path("/git/", Fault::redirect("https://127.0.0.2/git/index/info/refs?service=git-upload-pack"));
    let mirror = Mirror::new();
    let error = compare(&mirror.git_at(&registry, &url), Scope::All, &mirror.ledger, None).await.mark.unwrap_err();
    assert!(crateferry_pipeline::error_chain(&error).contains("redirect"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_leaves_the_clone_as_it_was_and_is_made_up_for() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.pull(&registry).await.mark();
    registry.release("syn", "2.0.0").commit();
    registry.fault_path("/git/index/git-upload-pack", Fault::cut_after(400).after(1).times(6));
    mirror.pull(&registry).await.mark.unwrap_err();
    registry.heal();
    mirror.pull(&registry).await.expect(&["+syn"]);
    assert_eq!(packs(&mirror.folder.path().join("upstream")), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_server_that_is_busy_is_asked_again() {
    let registry = registry();
    registry.git_https_url();
    for fault in [Fault::status(503), Fault::status(429), Fault::reset(), Fault::cut_after(10)] {
        registry.heal().fault_path("/git/", fault.once());
        Mirror::new().pull(&registry).await.expect(&["+a", "+serde", "+syn"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_server_that_says_no_is_asked_once() {
    for status in [401, 403, 404] {
        let registry = registry();
        registry.git_https_url();
        registry.fault_path("/git/", Fault::status(status));
        Mirror::new().pull(&registry).await.mark.unwrap_err();
        assert_eq!(registry.git_requests(), 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_git_server_does_not_hold_up_a_stop() {
    let registry = registry();
    let url = registry.git_https_url();
    registry.fault_path("/git/", Fault::stall_headers());
    let mirror = Mirror::new();
    let (out, _changes) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let comparison = Comparison {
        scope: Scope::All,
        known: mirror.ledger.clone(),
        last: None,
        out,
        progress: Arc::new(()),
        stop: stop.clone(),
    };
    let upstream = mirror.git_at(&registry, &url);
    let stopper = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.cancel();
    };
    let work = tokio::time::timeout(Duration::from_secs(10), upstream.changes(comparison));
    let (result, ()) = tokio::join!(work, stopper);
    assert!(matches!(result.expect("it stops in time"), Err(UpstreamError::Interrupted)));
    registry.let_go();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_index_brings_what_is_named_and_then_only_answers_304() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.ask(&registry, &["a", "Serde", "nosuch"]).await.expect(&["+a", "+serde", "!no/su/nosuch"]);
    assert_eq!(conditional(&registry), 0);
    registry.reset_counters();
    mirror.ask(&registry, &["a", "Serde"]).await.expect(&[]);
    assert_eq!((conditional(&registry), bodies(&registry)), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_index_tells_releases_yanks_and_deletions() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.ask(&registry, &["a", "serde", "syn"]).await.mark();
    registry.yank("Serde", "1.0.0").delete_crate("a");
    mirror.ask(&registry, &["a", "serde", "syn"]).await.expect(&["+serde", "-a"]);
    mirror.ask(&registry, &["serde", "syn"]).await.expect(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etags_dates_are_sent_back() {
    let registry = registry();
    registry.etags(Etags::Absent);
    let mut mirror = Mirror::new();
    mirror.ask(&registry, &["a", "syn"]).await.expect(&["+a", "+syn"]);
    assert!(mirror.ledger.etag("a").unwrap().starts_with("last-modified: "));
    registry.reset_counters();
    mirror.ask(&registry, &["a", "syn"]).await.expect(&[]);
    assert_eq!((conditional(&registry), bodies(&registry)), (2, 0));
    registry.yank("syn", "1.0.0");
    mirror.ask(&registry, &["a", "syn"]).await.expect(&["+syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_that_two_files_share_is_not_believed() {
    let registry = registry();
    registry.lie_about_etags();
    let mut mirror = Mirror::new();
    mirror.ask(&registry, &["a", "syn"]).await.expect(&["+a", "+syn"]);
    registry.yank("syn", "1.0.0");
    mirror.ask(&registry, &["a", "syn"]).await.expect(&["+syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn etags_that_always_change_renew_and_bring_nothing() {
    let registry = registry();
    registry.etags(Etags::Random);
    let mut mirror = Mirror::new();
    mirror.ask(&registry, &["a", "syn"]).await.expect(&["+a", "+syn"]);
    mirror.ask(&registry, &["a", "syn"]).await.expect(&["~a", "~syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_for_what_was_never_sent_is_an_error_of_that_file() {
    let registry = registry();
    registry.fault_index_file("syn", Fault::status(304));
    let mut mirror = Mirror::new();
    let outcome = mirror.ask(&registry, &["a", "syn"]).await;
    outcome.expect(&["+a", "?syn"]);
    assert!(!outcome.mark().complete);
    registry.heal();
    mirror.ask(&registry, &["a", "syn"]).await.expect(&["+syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_304_with_another_etag_is_asked_again_without_a_condition() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.ask(&registry, &["syn"]).await.mark();
    registry.yank("syn", "1.0.0");
    registry.fault_index_file("syn", Fault::status(304).header("etag", "\"other\"").once());
    mirror.ask(&registry, &["syn"]).await.expect(&["+syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_and_sparse_exchange_places_without_a_change() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.pull(&registry).await.expect(&["+a", "+serde", "+syn"]);
    let all = ["a", "serde", "syn"];
    mirror.ask(&registry, &all).await.expect(&["~a", "~serde", "~syn"]);
    assert!(mirror.ledger.etag("a").is_some());
    mirror.ask(&registry, &all).await.expect(&[]);
    mirror.pull(&registry).await.expect(&[]);
    assert!(mirror.ledger.etag("a").is_some());
    let folder = TempDir::new().unwrap();
    registry.write_folder(folder.path());
    let upstream = Upstream::Folder(crateferry_pipeline::upstream::FolderIndex::new(folder.path(), 1 << 20));
    mirror.compare(&upstream, Scope::All).await.expect(&[]);
    assert_eq!(mirror.last.as_ref().unwrap().kind, Kind::Folder);
    registry.reset_counters();
    mirror.ask(&registry, &all).await.expect(&[]);
    assert_eq!(conditional(&registry), 0, "validators go back only where the last ones came from");
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_faults_are_ridden_out() {
    let registry = registry();
    registry.fault_index_file("a", Fault::status(503).retry_after("0").once());
    registry.fault_index_file("syn", Fault::reset().once());
    registry.fault_index_file("serde", Fault::cut_after(20).once());
    let outcome = Mirror::new().ask(&registry, &["a", "serde", "syn"]).await;
    outcome.expect(&["+a", "+serde", "+syn"]);
    assert!(outcome.mark().complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_fails_does_not_stop_the_rest_and_is_asked_again() {
    for (fault, passes) in [
        (Fault::status(500), true),
        (Fault::status(403), false),
        (Fault::status(410), false),
        (Fault::status(451), false),
        (Fault::body("<!doctype html><title>Sign in</title>"), false),
        (Fault::body(""), false),
    ] {
        let registry = registry();
        let mut mirror = Mirror::new();
        mirror.ask(&registry, &["a", "syn"]).await.mark();
        registry.yank("syn", "1.0.0").yank("a", "1.0.0");
        registry.fault_index_file("syn", fault);
        let outcome = mirror.ask(&registry, &["a", "syn"]).await;
        outcome.expect(&["+a", "?syn"]);
        assert!(!outcome.mark().complete);
        let transient = outcome.changes.iter().any(|change| matches!(change, Change::Failed { transient: true, .. }));
        assert_eq!(transient, passes);
        registry.heal();
        mirror.ask(&registry, &["a", "syn"]).await.expect(&["+syn"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_above_the_limit_is_reported_also_when_it_was_packed_small() {
    let registry = registry();
    registry.raw_index_file("3/b/big", "{}\n".repeat(100_000)).gzip_index();
    let mut mirror = Mirror::new();
    mirror.limits.file = 4096;
    let outcome = mirror.ask(&registry, &["a", "big"]).await;
    outcome.expect(&["+a", "!3/b/big"]);
    let problem = outcome.changes.iter().find_map(|change| match change {
        Change::Unusable { problem, .. } => Some(problem.clone()),
        _ => None,
    });
    assert_eq!(problem, Some(Problem::Unbounded { limit: 4096 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_cannot_be_asked_of_a_sparse_index() {
    let registry = registry();
    let mirror = Mirror::new();
    let upstream = mirror.sparse_at(&registry, &registry.index_url());
    let error = compare(&upstream, Scope::All, &mirror.ledger, None).await.mark.unwrap_err();
    assert!(error.to_string().contains("no list of its crates"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registry_deletes_nothing() {
    let registry = registry();
    let mut mirror = Mirror::new();
    mirror.ask(&registry, &["a", "syn"]).await.mark();
    let elsewhere = format!("{}/nowhere/", registry.url());
    let faults: [(&str, Option<Fault>); 3] = [
        (&elsewhere, None),
        (&registry.index_url(), Some(Fault::body("<html>Sign in</html>"))),
        (&registry.index_url(), Some(Fault::status(404))),
    ];
    for (url, fault) in faults {
        fault.into_iter().for_each(|fault| _ = registry.heal().fault_path("/index/", fault));
        let upstream = mirror.sparse_at(&registry, url);
        let outcome = compare(&upstream, names(&["a", "syn"]), &mirror.ledger, mirror.last.clone()).await;
        outcome.expect(&[]);
        let Err(UpstreamError::Sparse { source, .. }) = outcome.mark else { panic!("{url}") };
        assert!(matches!(source, SparseError::NotARegistry(_)), "{source:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_goes_away_in_the_middle_is_given_up() {
    let registry = registry();
    let many: Vec<String> = (0..300).map(|number| format!("crate-{number}")).collect();
    registry.fault_path("/index/cr/", Fault::status(502));
    let mut mirror = Mirror::new();
    mirror.limits.failures = 20;
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outcome = mirror.ask(&registry, &many).await;
    let Err(UpstreamError::Sparse { source: SparseError::GivenUp(20, _), .. }) = outcome.mark else {
        panic!("{:?}", outcome.mark)
    };
    assert!(outcome.changes.len() < 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_bounded() {
    let registry = Registry::new();
    registry.releases(700);
    let names: Vec<String> = (0..100).map(|number| format!("c{number:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut mirror = Mirror::new();
    mirror.limits.requests = 4;
    let outcome = mirror.ask(&registry, &names).await;
    assert_eq!(outcome.words().len(), 100);
    assert_eq!(registry.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_signal_and_a_dropped_receiver_end_a_sparse_comparison() {
    let registry = registry();
    let mirror = Mirror::new();
    let (out, changes) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let comparison = Comparison {
        scope: names(&["a", "syn"]),
        known: mirror.ledger.clone(),
        last: None,
        out,
        progress: Arc::new(()),
        stop: stop.clone(),
    };
    let upstream = mirror.sparse_at(&registry, &registry.index_url());
    drop(changes);
    assert!(matches!(upstream.changes(comparison.clone()).await, Err(UpstreamError::Interrupted)));
    stop.cancel();
    assert!(matches!(upstream.changes(comparison).await, Err(UpstreamError::Interrupted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_asked_for_past_all_caches() {
    let registry = registry();
    let mirror = Mirror::new();
    let config = config_of(&mirror.sparse_at(&registry, &registry.index_url())).await.unwrap().unwrap();
    assert!(config.dl.starts_with(registry.url()));
    let fresh = registry.requests_matching(|request| request.header("cache-control") == Some("no-cache"));
    assert_eq!(fresh, 1);
}
