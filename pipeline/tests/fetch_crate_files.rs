//! Crate files come whole, over few connections, in bounded memory.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is an answer, and files are made"
)]

mod fetch_rig;

use std::time::Duration;

use crateferry_pipeline::net::{Answerer, Budget, Network, NetworkConfig};
use crateferry_pipeline::upstream::crates::{CrateFiles, CrateFilesError, DownloadTemplate};
use crateferry_test_support::{Fault, Registry, Release};
use fetch_rig::{NOW, Rig, hasty, template};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_crate_file_comes_whole_with_the_story_of_its_fetch() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let verified = Rig::new(&registry).bring(&registry, "serde", "1.0.0").await.unwrap();
    let attempt = verified.attempt;
    assert_eq!(attempt.url, registry.crate_url("serde", "1.0.0"));
    assert_eq!((attempt.status, attempt.retries, attempt.started_at), (Some(200), 0, NOW));
    assert_eq!(attempt.size, Some(registry.crate_bytes("serde", "1.0.0").len() as u64));
    assert_eq!(verified.bytes.length(), attempt.size.unwrap());
}

#[tokio::test]
async fn requests_say_who_asks_and_take_no_encoding() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let config = NetworkConfig { contact: Some("mirror@example.org".to_owned()), ..hasty(&registry) };
    Rig::with(&registry, &config).bring(&registry, "serde", "1.0.0").await.unwrap();
    let request = &registry.request_log()[0];
    assert_eq!(request.header("user-agent"), Some(config.user_agent().as_str()));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("referer"), None);
}

#[tokio::test]
async fn build_metadata_is_asked_for_escaped() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0+a");
    Rig::new(&registry).bring(&registry, "serde", "1.0.0+a").await.unwrap();
    assert!(registry.request_log()[0].path.ends_with("serde-1.0.0%2Ba.crate"));
}

#[tokio::test]
async fn many_crate_files_share_one_connection_for_each_lane() {
    let registry = Registry::new();
    registry.releases(400);
    let rig = Rig::new(&registry);
    rig.bring_all(&registry).await;
    assert_eq!(registry.crate_file_requests(), 400);
    assert_eq!(rig.fetch.files.answerer(), Answerer::Http2);
    assert!(registry.connections() <= 5, "{} connections for four lanes and the first request", registry.connections());
}

#[tokio::test]
async fn a_server_without_http2_gets_no_more_connections_than_allowed() {
    let registry = Registry::builder().http1_only().start();
    registry.releases(60).fault_crate_files(Fault::delay(Duration::from_millis(20)));
    let config = NetworkConfig { max_conns_per_host: 6, ..hasty(&registry) };
    let rig = Rig::with(&registry, &config);
    rig.bring_all(&registry).await;
    assert_eq!(rig.fetch.files.answerer(), Answerer::Http1);
    assert!(registry.max_in_flight() <= 6, "{} at once", registry.max_in_flight());
}

#[tokio::test]
async fn plain_http_works_where_the_operator_names_it() {
    let registry = Registry::builder().plain_http().start();
    registry.releases(20);
    Rig::new(&registry).bring_all(&registry).await;
}

#[tokio::test]
async fn a_large_body_goes_to_the_spool_and_takes_little_of_the_budget() {
    let registry = Registry::new();
    registry.release_with("big", "1.0.0", Release::sized(6 * MIB));
    let rig = Rig::new(&registry);
    let fetched = rig.fetch(&registry, "big", "1.0.0").await.unwrap();
    assert!(fetched.body.length() > 4 * MIB as u64);
    assert_eq!(rig.fetch.budget.in_use(), 320 * 1024);
    drop(fetched);
    assert_eq!(rig.fetch.budget.in_use(), 0);
}

#[tokio::test]
async fn a_body_holds_its_share_of_memory_until_it_is_dropped() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").release("libc", "1.0.0").fault("libc", "1.0.0", Fault::no_length());
    let rig = Rig::new(&registry);
    for name in ["serde", "libc"] {
        let fetched = rig.fetch(&registry, name, "1.0.0").await.unwrap();
        assert_eq!(rig.fetch.budget.in_use(), fetched.body.length().div_ceil(1024) * 1024);
    }
    assert_eq!(rig.fetch.budget.in_use(), 0);
}

#[tokio::test]
async fn a_large_body_of_unknown_length_is_asked_for_again_into_the_spool() {
    let registry = Registry::new();
    registry.release_with("big", "1.0.0", Release::sized(6 * MIB)).fault("big", "1.0.0", Fault::no_length());
    let rig = Rig::new(&registry);
    let verified = rig.bring(&registry, "big", "1.0.0").await.unwrap();
    assert_eq!(verified.attempt.retries, 0, "nothing failed");
    assert_eq!(registry.requests_for("big", "1.0.0"), 2);
    assert_eq!(rig.fetch.budget.in_use(), 320 * 1024);
}

/// Bodies wait for room while others on the same connections still come in: if a waiting body could use up the
/// connection's window, this would never end.
#[tokio::test]
async fn bodies_that_wait_for_room_do_not_keep_others_from_coming() {
    let registry = Registry::new();
    for n in 0..200 {
        registry.release_with(&format!("crate-{n}"), "1.0.0", Release::sized(200_000));
    }
    let mut rig = Rig::with(&registry, &NetworkConfig { connections: 1, retries: 0, ..hasty(&registry) });
    rig.fetch.budget = Budget::new(300 * 1024);
    rig.fetch.limits.rate_window = Duration::from_secs(20);
    rig.fetch.limits.header_timeout = Duration::from_secs(60);
    let all = tokio::time::timeout(Duration::from_secs(60), rig.bring_all(&registry)).await;
    all.expect("no body waits for ever");
}

#[tokio::test]
async fn goaway_loses_nothing_and_costs_one_connection() {
    let registry = Registry::new();
    registry.releases(300).fault_crate_files(Fault::goaway().after(20).times(3));
    Rig::new(&registry).bring_all(&registry).await;
    assert!(registry.connections() <= 5 + 3, "{} connections", registry.connections());
}

#[tokio::test]
async fn every_marker_of_a_template_reaches_the_server() {
    let registry = Registry::builder()
        .download_url("{base}/dl/{prefix}/{lowerprefix}/{crate}/{version}/{sha256-checksum}")
        .start();
    registry.release("Inflector", "0.11.4");
    let template =
        format!("{}/dl/{{prefix}}/{{lowerprefix}}/{{crate}}/{{version}}/{{sha256-checksum}}", registry.url());
    let rig = Rig::from_template(&template, &hasty(&registry));
    let verified = rig.bring(&registry, "Inflector", "0.11.4").await.unwrap();
    assert_eq!(verified.attempt.url, registry.crate_url("Inflector", "0.11.4"));
}

#[tokio::test]
async fn a_registry_may_not_name_a_private_download_host_unless_the_operator_permits_it() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let template: DownloadTemplate = template(&registry).parse().unwrap();
    let network = Network::new(&hasty(&registry), []).unwrap();
    let error = CrateFiles::new(&network, template.clone()).unwrap_err();
    assert!(matches!(error, CrateFilesError::Forbidden(..)));
    let text = crateferry_pipeline::error_chain(&error);
    assert!(text.contains("127.0.0.1") && text.contains("`[network] allow-hosts`"), "{text}");
    let config = NetworkConfig { allow_hosts: vec!["127.0.0.1".to_owned()], ..hasty(&registry) };
    let network = Network::new(&config, []).unwrap();
    Rig::over(&network, template).bring(&registry, "serde", "1.0.0").await.unwrap();
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused_unless_the_operator_named_it() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let template: DownloadTemplate = template(&registry).replace("127.0.0.1", "localhost").parse().unwrap();
    let network = Network::new(&hasty(&registry), []).unwrap();
    let failure = Rig::over(&network, template.clone()).bring(&registry, "serde", "1.0.0").await.unwrap_err();
    assert_eq!(failure.disposition, crateferry_pipeline::failure::Disposition::Refuse, "{}", failure.reason());
    assert!(failure.reason().contains("localhost is at "), "{}", failure.reason());
    assert_eq!(registry.requests(), 0);
    let network = Network::new(&hasty(&registry), [template.example()]).unwrap();
    Rig::over(&network, template).bring(&registry, "serde", "1.0.0").await.unwrap();
}
