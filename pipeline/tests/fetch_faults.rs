//! What can go wrong with a crate file upstream, and what becomes of its release.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is an answer, and files are made"
)]

mod fetch_rig;

use std::time::{Duration, Instant};

use crateferry_pipeline::failure::Disposition::{Halt, Refuse, RetryLater, RetrySoon, Stopped};
use crateferry_pipeline::net::NetworkConfig;
use crateferry_pipeline::stages::Outage;
use crateferry_test_support::{Fault, Registry, Release};
use fetch_rig::{Rig, expect_failure, expect_success, faulty, hasty};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_denied_crate_file_is_asked_for_once_and_becomes_a_hole() {
    for status in [403, 404, 410, 451, 400, 401] {
        let failure = expect_failure(Fault::status(status), RetryLater, 1).await;
        assert_eq!(failure.attempt.status, Some(status));
        assert!(failure.reason().contains(&status.to_string()), "{}", failure.reason());
        assert_eq!(failure.stage, "fetch");
    }
}

#[tokio::test]
async fn a_busy_or_broken_server_is_asked_again_until_it_answers() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        expect_success(Fault::status(status).times(2), 3).await;
    }
}

#[tokio::test]
async fn a_server_that_stays_busy_is_given_up_until_the_next_sync() {
    let failure = expect_failure(Fault::status(503), RetrySoon, 3).await;
    assert_eq!(failure.attempt.status, Some(503));
}

#[tokio::test]
async fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    for text in ["1", "Sun, 06 Nov 1994 08:49:38 GMT"] {
        let start = Instant::now();
        expect_success(Fault::status(429).retry_after(text).once(), 2).await;
        assert!((950..5000).contains(&start.elapsed().as_millis()), "{text}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn an_absurd_retry_after_is_cut_to_the_cap_and_nonsense_is_ignored() {
    for (text, least, most) in
        [("99999999999999999999", 1950, 9000), ("Fri, 31 Dec 9999 23:59:59 GMT", 1950, 9000), ("soon", 0, 1900)]
    {
        let start = Instant::now();
        expect_success(Fault::status(503).retry_after(text).once(), 2).await;
        assert!((least..most).contains(&start.elapsed().as_millis()), "{text}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_wants_quiet_gets_it_from_everybody() {
    let registry = Registry::new();
    registry.releases(40).fault_crate_files(Fault::status(429).retry_after("1").once());
    let rig = Rig::new(&registry);
    let (name, version) = registry.release_ids()[0].clone();
    let first = rig.bring(&registry, &name, &version);
    let others = async {
        while registry.requests_matching(|request| request.status.is_some()) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let start = Instant::now();
        rig.bring_all(&registry).await;
        start.elapsed()
    };
    let (first, waited) = tokio::join!(first, others);
    first.unwrap();
    assert!(waited >= Duration::from_millis(800), "{waited:?}");
    assert!(rig.fetch.gate.limit() < 48, "and fewer at once from then on");
}

#[tokio::test]
async fn a_broken_connection_is_made_again() {
    expect_success(Fault::reset().once(), 2).await;
    expect_success(Fault::cut_after(100).once(), 2).await;
    expect_success(Fault::drop_connection_after(100).once(), 2).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_given_up_with_the_cause() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let template = "https://127.0.0.1:1/{crate}/{version}";
    let failure = Rig::from_template(template, &hasty(&registry)).bring(&registry, "serde", "1.0.0").await.unwrap_err();
    assert_eq!(failure.disposition, RetrySoon);
    assert_eq!((failure.attempt.status, failure.attempt.retries), (None, 2));
    assert!(failure.reason().to_lowercase().contains("refused"), "{}", failure.reason());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_given_up_with_the_cause() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let template = "https://registry.invalid/{crate}/{version}";
    let failure = Rig::from_template(template, &hasty(&registry)).bring(&registry, "serde", "1.0.0").await.unwrap_err();
    assert_eq!((failure.disposition, failure.attempt.retries), (RetrySoon, 2), "{}", failure.reason());
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_never_accepted() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let config = NetworkConfig { ca_files: Vec::new(), ..hasty(&registry) };
    let failure = Rig::with(&registry, &config).bring(&registry, "serde", "1.0.0").await.unwrap_err();
    assert_eq!(failure.disposition, RetrySoon);
    assert!(failure.reason().contains("certificate"), "{}", failure.reason());
    assert_eq!(registry.requests(), 0);
}

#[tokio::test]
async fn an_upstream_out_of_reach_halts_the_sync_instead_of_using_up_every_release() {
    let registry = Registry::new();
    registry.releases(5).fault_crate_files(Fault::status(503));
    let mut rig = Rig::with(&registry, &NetworkConfig { retries: 0, ..hasty(&registry) });
    rig.fetch.outage = Outage::after(3, Duration::ZERO);
    let mut seen = Vec::new();
    for (name, version) in registry.release_ids() {
        seen.push(rig.bring(&registry, &name, &version).await.unwrap_err());
    }
    assert_eq!(
        seen.iter().map(|failure| failure.disposition).collect::<Vec<_>>(),
        [RetrySoon, RetrySoon, Halt, Halt, Halt]
    );
    assert!(seen[2].reason().contains("out of reach: the server answered 503"), "{}", seen[2].reason());
}

#[tokio::test]
async fn one_sensible_answer_shows_that_the_upstream_is_in_reach() {
    for answer in [200, 404] {
        let registry = Registry::new();
        registry.releases(5).fault_crate_files(Fault::status(503).times(2));
        let (name, version) = registry.release_ids()[2].clone();
        if answer != 200 {
            registry.fault(&name, &version, Fault::status(answer));
        }
        registry.fault_crate_files(Fault::status(500).after(1));
        let mut rig = Rig::with(&registry, &NetworkConfig { retries: 0, ..hasty(&registry) });
        rig.fetch.outage = Outage::after(3, Duration::ZERO);
        for (name, version) in registry.release_ids() {
            let disposition = rig.bring(&registry, &name, &version).await.err().map(|failure| failure.disposition);
            assert_ne!(disposition, Some(Halt));
        }
    }
}

#[tokio::test]
async fn headers_that_never_come_are_given_up_and_the_others_go_on() {
    let registry = faulty(Fault::stall_headers());
    registry.release("libc", "1.0.0");
    let config = NetworkConfig { header_timeout: Duration::from_millis(300), retries: 1, ..hasty(&registry) };
    let rig = Rig::with(&registry, &config);
    rig.bring(&registry, "libc", "1.0.0").await.unwrap();
    let (stalled, other) = tokio::join!(rig.bring(&registry, "serde", "1.0.0"), rig.bring(&registry, "libc", "1.0.0"));
    other.unwrap();
    let failure = stalled.unwrap_err();
    assert_eq!(failure.disposition, RetrySoon);
    assert!(failure.reason().contains("header-timeout"), "{}", failure.reason());
}

#[tokio::test]
async fn a_body_that_stalls_is_asked_for_again() {
    expect_success(Fault::stall_after(100).once(), 2).await;
    let failure = expect_failure(Fault::stall_after(100), RetrySoon, 3).await;
    assert!(failure.reason().contains("min-rate"), "{}", failure.reason());
    assert_eq!(failure.attempt.size, Some(100));
}

#[tokio::test]
async fn a_body_that_trickles_above_the_least_rate_still_has_an_end() {
    let registry = Registry::new();
    registry.release_with("slow", "1.0.0", Release::sized(200_000)).fault("slow", "1.0.0", Fault::trickle(20_000));
    let config = NetworkConfig { total_timeout: Duration::from_millis(700), retries: 0, ..hasty(&registry) };
    let mut rig = Rig::with(&registry, &config);
    rig.fetch.limits.min_rate = 10_000;
    let start = Instant::now();
    let failure = rig.bring(&registry, "slow", "1.0.0").await.unwrap_err();
    assert_eq!(failure.disposition, RetrySoon);
    assert!(failure.reason().contains("total-timeout"), "{}", failure.reason());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_body_below_the_least_rate_is_given_up() {
    let registry = Registry::new();
    registry.release_with("slow", "1.0.0", Release::sized(50_000)).fault("slow", "1.0.0", Fault::trickle(2_000));
    let mut rig = Rig::with(&registry, &NetworkConfig { retries: 0, ..hasty(&registry) });
    rig.fetch.limits.min_rate = 40_000;
    let failure = rig.bring(&registry, "slow", "1.0.0").await.unwrap_err();
    assert!(failure.reason().contains("min-rate"), "{}", failure.reason());
}

#[tokio::test]
async fn a_body_that_is_always_cut_or_has_a_lying_length_becomes_a_hole() {
    for fault in
        [Fault::cut_after(100), Fault::longer_by(10), Fault::claimed_length(1_000_000), Fault::claimed_length(7)]
    {
        expect_failure(fault, RetryLater, 3).await;
    }
}

#[tokio::test]
async fn a_lying_length_over_http1_is_noticed_too() {
    for fault in [Fault::cut_after(100), Fault::claimed_length(1_000_000), Fault::claimed_length(7)] {
        let registry = Registry::builder().http1_only().start();
        registry.release("serde", "1.0.0").fault("serde", "1.0.0", fault);
        let failure = Rig::new(&registry).bring(&registry, "serde", "1.0.0").await.unwrap_err();
        assert_eq!(failure.disposition, RetryLater, "{}", failure.reason());
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_judged_by_its_checksum() {
    expect_success(Fault::no_length(), 1).await;
    for fault in [Fault::shorter_without_length(100), Fault::longer_without_length(10), Fault::wrong_bytes()] {
        let failure = expect_failure(fault, RetryLater, 1).await;
        assert_eq!(failure.stage, "verify");
        assert!(failure.body.is_some(), "the bytes go to the quarantine");
        assert!(failure.reason().contains("promised"), "{}", failure.reason());
    }
}

#[tokio::test]
async fn an_encoding_nobody_asked_for_becomes_a_hole() {
    let failure = expect_failure(Fault::gzip(), RetryLater, 1).await;
    assert!(failure.reason().contains("gzip"), "{}", failure.reason());
}

#[tokio::test]
async fn an_object_above_the_limit_is_refused_before_and_while_it_comes() {
    for fault in
        [Fault::claimed_length(u64::MAX / 2), Fault::claimed_length(20_000), Fault::longer_without_length(50_000)]
    {
        let registry = faulty(fault);
        let mut rig = Rig::new(&registry);
        rig.fetch.limits.object = 15_000;
        let failure = rig.bring(&registry, "serde", "1.0.0").await.unwrap_err();
        assert_eq!(failure.disposition, Refuse, "{}", failure.reason());
        assert!(failure.reason().contains("15000"), "{}", failure.reason());
        assert_eq!(rig.fetch.budget.in_use(), 0);
    }
}

#[tokio::test]
async fn a_redirect_within_the_rules_is_followed() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let elsewhere = registry.crate_url("serde", "1.0.0").replace("127.0.0.1", "localhost");
    registry.fault("serde", "1.0.0", Fault::redirect(&elsewhere).once());
    let config = NetworkConfig { allow_hosts: vec!["localhost".to_owned()], ..hasty(&registry) };
    Rig::with(&registry, &config).bring(&registry, "serde", "1.0.0").await.unwrap();
    assert_eq!(registry.requests_for("serde", "1.0.0"), 2);
}

#[tokio::test]
async fn redirects_to_strangers_private_addresses_files_or_plain_http_are_refused() {
    for (target, expected) in [
        ("https://stranger.example.org/x", "allow-hosts"),
        ("https://10.0.0.1/x", "10.0.0.1"),
        ("https://169.254.169.254/latest", "169.254.169.254"),
        ("https://[::1]/x", "::1"),
        ("https://localhost/x", "localhost"),
        ("file:///etc/passwd", "file"),
        ("http://127.0.0.1/x", "down to http"),
    ] {
        let failure = expect_failure(Fault::redirect(target), Refuse, 1).await;
        assert!(failure.reason().contains(expected), "{target}: {}", failure.reason());
    }
}

#[tokio::test]
async fn a_redirect_loop_ends_after_five_hops() {
    let registry = faulty(Fault::redirect_to_itself());
    let failure = Rig::new(&registry).bring(&registry, "serde", "1.0.0").await.unwrap_err();
    assert_eq!(failure.disposition, Refuse);
    assert!(failure.reason().contains("redirects"), "{}", failure.reason());
    assert_eq!(registry.requests_for("serde", "1.0.0"), 6);
}

#[tokio::test]
async fn an_answer_that_only_fits_a_condition_nobody_made_becomes_a_hole() {
    for status in [304, 204, 206] {
        expect_failure(Fault::status(status), RetryLater, 1).await;
    }
}

/// A large crate file whose first answer is cut far inside, with or without what is needed to go on there.
async fn cut_large_body(fault: Fault) -> Registry {
    let registry = Registry::new();
    registry.release_with("big", "1.0.0", Release::sized(6 * MIB)).fault("big", "1.0.0", fault);
    let verified = Rig::new(&registry).bring(&registry, "big", "1.0.0").await.unwrap();
    assert_eq!(verified.bytes.length(), registry.crate_bytes("big", "1.0.0").len() as u64);
    registry
}

#[tokio::test]
async fn a_large_body_that_was_cut_goes_on_where_it_was_cut() {
    let registry = cut_large_body(Fault::cut_after(3 * MIB).once()).await;
    let log = registry.request_log();
    assert!(log[1].header("range").is_some_and(|range| range.starts_with("bytes=")), "{:?}", log[1]);
    assert!(log[1].header("if-range").is_some());
    assert_eq!(log[1].status, Some(206));
    assert!(log[1].bytes_sent < 4 * MIB as u64, "{} bytes were sent again", log[1].bytes_sent);
}

#[tokio::test]
async fn a_large_body_that_changed_after_it_was_cut_starts_over() {
    let registry = cut_large_body(Fault::cut_after(3 * MIB).header("etag", "\"older\"").once()).await;
    let log = registry.request_log();
    assert_eq!((log.len(), log[1].header("if-range")), (3, Some("\"older\"")));
    assert_eq!(log[2].header("range"), None);
}

#[tokio::test]
async fn a_rest_that_is_not_the_one_asked_for_is_not_taken() {
    let wrong = Fault::status(206).header("content-range", "bytes 0-99/100").once();
    let registry = Registry::new();
    registry.release_with("big", "1.0.0", Release::sized(6 * MIB));
    registry.fault("big", "1.0.0", Fault::cut_after(3 * MIB).once()).fault("big", "1.0.0", wrong);
    Rig::new(&registry).bring(&registry, "big", "1.0.0").await.unwrap();
    let log = registry.request_log();
    assert_eq!(log.len(), 3);
    assert_eq!((log[1].status, log[2].header("range")), (Some(206), None));
}

#[tokio::test]
async fn a_large_body_without_a_strong_etag_starts_over() {
    let registry = cut_large_body(Fault::cut_after(3 * MIB).header("etag", "W/\"a\"").once()).await;
    assert_eq!(registry.request_log()[1].header("range"), None);
}

#[tokio::test]
async fn a_waiting_retry_gives_up_at_once_when_the_sync_stops() {
    let registry = faulty(Fault::status(503).retry_after("60"));
    let config = NetworkConfig { retry_after_cap: Duration::from_secs(60), ..hasty(&registry) };
    let rig = Rig::with(&registry, &config);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        rig.fetch.stop.cancel();
        Instant::now()
    };
    let (failure, stopped) = tokio::join!(rig.bring(&registry, "serde", "1.0.0"), stop);
    assert!(stopped.elapsed() < Duration::from_secs(5));
    let failure = failure.unwrap_err();
    assert_eq!(failure.disposition, Stopped);
    assert!(failure.reason().contains("stopped"), "{}", failure.reason());
}

#[tokio::test]
async fn a_body_under_way_may_end_after_the_sync_stops_but_not_for_ever() {
    let registry = Registry::new();
    registry.release("quick", "1.0.0").fault("quick", "1.0.0", Fault::delay(Duration::from_millis(500)));
    registry.release("slow", "1.0.0").fault("slow", "1.0.0", Fault::stall_after(10));
    let config = NetworkConfig { rate_window: Duration::from_secs(60), ..hasty(&registry) };
    let mut rig = Rig::with(&registry, &config);
    rig.fetch.limits.stop_grace = Duration::from_secs(1);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        rig.fetch.stop.cancel();
    };
    let (quick, slow, ()) =
        tokio::join!(rig.bring(&registry, "quick", "1.0.0"), rig.bring(&registry, "slow", "1.0.0"), stop);
    quick.unwrap();
    assert_eq!(slow.unwrap_err().disposition, Stopped);
}
