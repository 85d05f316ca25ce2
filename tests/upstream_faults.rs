//! What can go wrong upstream, seen from the command line: exit code, holes, what is served, what is asked again.
//!
//! The whole program runs against a registry with real TLS and HTTP/2 that misbehaves as told. `bystander 1.0.0` is on
//! every shelf and never at fault: whatever happens to the others, it is served.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;
mod look;

use std::ops::RangeInclusive;

use common::{Ferry, wait_until};
use crateferry_test_support::{Etags, Fault, Registry, Release};
use look::{HASTY, hasty, held_bytes, holes, quarantine, reports, rows, served, served_bytes, verify};
use serde_json::{Value, json};

/// When a release that did not come is asked for again.
#[derive(Clone, Copy, PartialEq)]
enum Again {
    /// By the next sync, then less and less often: upstream denied it.
    NextSyncThenLater,
    /// By every sync: something passing.
    EverySync,
    /// Only when told to: a rule keeps it out.
    WhenTold,
}

/// What is to become of a release at fault.
struct Fate {
    /// Part of the reason.
    reason: &'static str,
    /// Requests for it in one sync.
    requests: RangeInclusive<usize>,
    /// When it is asked for again.
    again: Again,
    /// Files in the quarantine.
    quarantined: usize,
}

const DENIED: Fate = Fate { reason: "", requests: 1..=1, again: Again::NextSyncThenLater, quarantined: 0 };
const PASSING: Fate = Fate { reason: "", requests: 3..=3, again: Again::EverySync, quarantined: 0 };
const FORBIDDEN: Fate = Fate { reason: "", requests: 1..=1, again: Again::WhenTold, quarantined: 0 };

/// `wanted 1.0.0` and `1.0.1` with a bystander.
fn shelf() -> Registry {
    let registry = Registry::new();
    registry.release("bystander", "1.0.0").release("wanted", "1.0.0").release("wanted", "1.0.1");
    registry
}

const BOTH: [&str; 4] = ["--crate", "bystander", "--crate", "wanted"];

/// `wanted 1.0.0` is answered with this fault: it becomes a hole, everything else is served, it is asked for again as
/// it should be, and once the registry is well it is served too.
#[track_caller]
fn becomes_a_hole(fault: Fault, fate: &Fate) {
    let registry = shelf();
    registry.fault("wanted", "1.0.0", fault);
    let ferry = hasty(&registry);
    let said = ferry.sync(&BOTH).expect(1).json();
    assert_eq!(said["releases"]["stored"], 2, "{said}");
    expect_hole(&registry, &ferry, fate);
    expect_to_be_asked_again(&registry, &ferry, fate);
    expect_to_heal(&registry, &ferry);
}

#[track_caller]
fn expect_hole(registry: &Registry, ferry: &Ferry, fate: &Fate) {
    let listed = holes(ferry);
    let status = ferry.run("status", &["--json"]).expect(1).json();
    assert_eq!(status["holes"].as_array(), Some(&listed));
    let [hole] = listed.as_slice() else { panic!("one hole: {listed:?}") };
    let refused = fate.again == Again::WhenTold;
    assert_eq!((&hole["crate"], &hole["version"]), (&json!("wanted"), &json!("1.0.0")));
    assert_eq!(hole["refused"], refused, "{hole}");
    assert_eq!(hole["tries"], i32::from(!refused), "{hole}");
    assert!(hole["reason"].as_str().unwrap().contains(fate.reason), "{hole}");
    let (first, last) = (hole["first"].as_u64().unwrap(), hole["last"].as_u64().unwrap());
    assert!(first > 1_700_000_000 && last >= first, "{hole}");
    assert_eq!(status["releases"]["held"], 2);
    let asked = registry.requests_for("wanted", "1.0.0");
    assert!(fate.requests.contains(&asked), "asked {asked} times");
    assert_eq!(quarantine(ferry).len(), fate.quarantined);
    assert_eq!(served(ferry, "wanted"), registry.row("wanted", "1.0.1"));
    assert_eq!(served(ferry, "bystander"), registry.row("bystander", "1.0.0"));
    verify(ferry);
}

#[track_caller]
fn expect_to_be_asked_again(registry: &Registry, ferry: &Ferry, fate: &Fate) {
    let asked_by = |arguments: &[&str]| {
        registry.reset_counters();
        ferry.sync(arguments).expect(1);
        assert_eq!(registry.requests_for("wanted", "1.0.1") + registry.requests_for("bystander", "1.0.0"), 0);
        let asked = registry.requests_for("wanted", "1.0.0");
        assert!(asked == 0 || fate.requests.contains(&asked), "asked {asked} times");
        usize::from(asked > 0)
    };
    let asked = [asked_by(&[]), asked_by(&[]), asked_by(&["--retry-failed"])];
    let (expected, tries) = match fate.again {
        Again::NextSyncThenLater => ([1, 0, 1], 3),
        Again::EverySync => ([1, 1, 1], 4),
        Again::WhenTold => ([0, 0, 1], 0),
    };
    assert_eq!(asked, expected);
    assert_eq!(holes(ferry)[0]["tries"], tries);
}

#[track_caller]
fn expect_to_heal(registry: &Registry, ferry: &Ferry) {
    registry.heal();
    ferry.sync(&["--retry-failed"]).expect(0);
    assert_eq!(served(ferry, "wanted"), rows(registry, "wanted", &["1.0.0", "1.0.1"]));
    assert!(holes(ferry).is_empty());
    verify(ferry);
}

/// `wanted 1.0.0` is answered with this fault and comes nevertheless, after so many requests. What the sync said.
#[track_caller]
fn comes_nevertheless(fault: Fault, requests: usize) -> Value {
    let registry = shelf();
    registry.fault("wanted", "1.0.0", fault);
    let ferry = hasty(&registry);
    let said = ferry.sync(&BOTH).expect(0).json();
    assert_eq!(registry.requests_for("wanted", "1.0.0"), requests);
    assert_eq!(said["releases"]["retries"], requests - 1, "{said}");
    assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    assert!(quarantine(&ferry).is_empty());
    verify(&ferry);
    said
}

fn lies_in_a_pack(ferry: &Ferry, bytes: &[u8]) -> bool {
    let packs = ferry.packs().into_iter().map(|(name, _)| std::fs::read(ferry.file("packs").join(name)).unwrap());
    packs.into_iter().any(|pack| pack.windows(bytes.len()).any(|part| part == bytes))
}

mod u1_denied {
    use super::*;

    #[test]
    fn a_crate_file_that_is_not_found_becomes_a_hole() {
        becomes_a_hole(Fault::status(404), &Fate { reason: "404", ..DENIED });
    }

    #[test]
    fn a_crate_file_that_is_forbidden_becomes_a_hole() {
        becomes_a_hole(Fault::status(403), &Fate { reason: "403", ..DENIED });
    }

    #[test]
    fn a_crate_file_that_is_gone_becomes_a_hole() {
        becomes_a_hole(Fault::status(410), &Fate { reason: "410", ..DENIED });
    }

    #[test]
    fn a_crate_file_that_the_law_withholds_becomes_a_hole() {
        becomes_a_hole(Fault::status(451), &Fate { reason: "451", ..DENIED });
    }

    #[test]
    fn a_crate_whose_every_release_is_denied_is_not_served_at_all() {
        let registry = shelf();
        registry.fault_path("/crates/wanted/", Fault::status(404));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(1);
        assert_eq!(served_bytes(&ferry, "wanted"), None);
        assert_eq!(holes(&ferry).len(), 2);
        assert_eq!(ferry.status()["crates"], 1);
    }
}

mod u2_busy {
    use super::*;

    /// A wait that the server asked for is kept: not shorter, and never beyond the cap of one second.
    #[track_caller]
    fn is_waited_for(status: u16, retry_after: &str) {
        let said = comes_nevertheless(Fault::status(status).retry_after(retry_after).once(), 2);
        let seconds = said["seconds"].as_f64().unwrap();
        assert!((1.0..30.0).contains(&seconds), "{said}");
    }

    #[test]
    fn a_wait_in_seconds_is_kept() {
        is_waited_for(429, "1");
    }

    #[test]
    fn an_absurd_wait_is_cut_to_the_cap() {
        is_waited_for(503, "99999999999999999999");
    }

    #[test]
    fn a_wait_until_a_date_is_kept_up_to_the_cap() {
        is_waited_for(429, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn a_date_that_is_over_and_nonsense_are_no_reason_to_wait() {
        comes_nevertheless(Fault::status(503).retry_after("Sun, 06 Nov 1994 08:49:37 GMT").once(), 2);
        comes_nevertheless(Fault::status(429).retry_after("soon").once(), 2);
    }

    #[test]
    fn a_server_that_is_busy_for_good_ends_in_holes_that_every_sync_asks_for() {
        becomes_a_hole(Fault::status(429).retry_after("0"), &Fate { reason: "429", ..PASSING });
        becomes_a_hole(Fault::status(503), &Fate { reason: "503", ..PASSING });
    }

    #[test]
    fn a_wait_that_one_answer_asks_for_holds_back_all_requests() {
        let registry = Registry::new();
        registry.releases(40).fault_crate_files(Fault::status(429).retry_after("1").after(10).once());
        let ferry = hasty(&registry);
        let said =
            ferry.sync(&["--crate", "c00000", "c00001", "c00002", "c00003", "c00004", "c00005"]).expect(0).json();
        assert_eq!(said["releases"]["stored"], 40);
        assert_eq!(registry.crate_file_requests(), 41);
        assert!(said["seconds"].as_f64().unwrap() >= 1.0, "{said}");
    }
}

mod u3_broken {
    use super::*;

    #[test]
    fn server_errors_are_asked_again_a_few_times_and_by_every_sync() {
        becomes_a_hole(Fault::status(500), &Fate { reason: "500", ..PASSING });
        becomes_a_hole(Fault::status(502), &Fate { reason: "502", ..PASSING });
    }

    #[test]
    fn a_connection_that_breaks_for_good_is_a_hole_for_every_sync_to_ask_for() {
        // The one before may take the connection away from a request that is just being sent.
        becomes_a_hole(Fault::reset(), &Fate { reason: "the request failed", requests: 2..=3, ..PASSING });
    }

    #[test]
    fn one_server_error_or_one_broken_connection_goes_unnoticed() {
        comes_nevertheless(Fault::status(500).once(), 2);
        comes_nevertheless(Fault::reset().once(), 2);
        comes_nevertheless(Fault::goaway().once(), 1);
    }

    /// Crate files come from this URL: both fail, the sync ends, and the next one from the registry brings them.
    #[track_caller]
    fn nothing_comes_from(template: &dyn Fn(&Registry) -> String) {
        let registry = shelf();
        let ferry = hasty(&registry);
        let download_url = template(&registry);
        let said = ferry.sync(&["--crate", "wanted", "--download-url", &download_url]).expect(1).json();
        assert_eq!(said["hole_count"], 2, "{said}");
        assert_eq!(registry.crate_file_requests(), 0);
        assert!(holes(&ferry).iter().all(|hole| hole["tries"] == 1 && hole["refused"] == false));
        assert_eq!(served_bytes(&ferry, "wanted"), None);
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }

    #[test]
    fn a_download_host_that_does_not_resolve_leaves_holes_until_it_does() {
        nothing_comes_from(&|_| "https://no-such-host.invalid/{crate}-{version}.crate".into());
    }

    #[test]
    fn a_download_host_that_does_not_speak_tls_leaves_holes_until_it_does() {
        let plain_port = |registry: &Registry| registry.plain_url().replace("http:", "https:");
        nothing_comes_from(&|registry| {
            format!("{}/crates/{{crate}}/{{crate}}-{{version}}.crate", plain_port(registry))
        });
    }

    #[test]
    fn a_certificate_that_nobody_vouches_for_stops_the_sync() {
        let registry = shelf();
        let ferry = Ferry::sparse(&registry);
        let url = registry.sparse_url();
        let ran = ferry.run("sync", &["--crate", "wanted", "--upstream", &url, "--retries", "0"]);
        let ran = ran.expect_error(3, &registry.index_url());
        assert!(ran.stderr.to_lowercase().contains("certificate"), "{}", ran.stderr);
        assert_eq!(registry.requests(), 0);
    }

    #[test]
    fn an_index_file_that_cannot_be_read_this_time_is_named_and_read_next_time() {
        let registry = shelf();
        registry.fault_index_file("wanted", Fault::status(500));
        let ferry = hasty(&registry);
        let said = ferry.sync(&BOTH).expect(1).json();
        assert_eq!(said["index"]["failed"][0][0], "wanted", "{said}");
        assert_eq!(registry.index_requests("wa/nt/wanted"), 3);
        assert_eq!(served(&ferry, "bystander"), registry.row("bystander", "1.0.0"));
        registry.heal();
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }
}

mod u4_slow {
    use super::*;

    #[test]
    fn an_answer_that_never_comes_ends_at_the_header_timeout_and_the_others_go_on() {
        becomes_a_hole(Fault::stall_headers(), &Fate { reason: "header-timeout", ..PASSING });
    }

    /// The first request of all stands still for as long as the header timeout permits: all others are stored meanwhile.
    #[track_caller]
    fn a_first_request_holds_up_nobody(registry: &Registry) {
        registry.releases(70).fault_crate_files(Fault::held().once());
        let ferry = Ferry::sparse(registry);
        ferry.init().configure("network", "header-timeout = \"10m\"");
        let crates: Vec<String> = (0..10).map(|number| format!("c{number:05}")).collect();
        let running =
            ferry.start_sync(&[&["--crate"], &*crates.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        registry.wait_for(69, |request| request.crate_file.is_some() && request.finished);
        let first = registry.request_log().into_iter().find(|request| request.crate_file.is_some()).unwrap();
        assert!(!first.finished, "the first one is still held");
        let others = registry.release_ids().into_iter().filter(|id| Some(id) != first.crate_file.as_ref());
        for (name, version) in others {
            let bytes = registry.crate_bytes(&name, &version);
            wait_until("the others are stored", || lies_in_a_pack(&ferry, &bytes));
        }
        registry.let_go();
        assert_eq!(running.wait().expect(0).json()["releases"]["stored"], 70);
        assert_eq!(registry.crate_file_requests(), 70);
    }

    #[test]
    fn a_first_request_that_stands_still_over_http2_holds_up_nobody() {
        let registry = Registry::new();
        a_first_request_holds_up_nobody(&registry);
        let connections = registry.connections();
        assert!(connections <= 6, "{connections} connections: the index, the first request, four lanes");
    }

    #[test]
    fn a_first_request_that_stands_still_over_http1_holds_up_nobody() {
        a_first_request_holds_up_nobody(&Registry::builder().http1_only().start());
    }

    #[test]
    fn a_body_that_stands_still_ends_at_the_minimum_rate_and_the_others_go_on() {
        becomes_a_hole(Fault::stall_after(10), &Fate { reason: "min-rate", ..PASSING });
    }

    #[test]
    fn a_body_that_drips_ends_at_the_minimum_rate() {
        becomes_a_hole(Fault::trickle(50), &Fate { reason: "min-rate", ..PASSING });
    }

    #[test]
    fn a_body_that_stands_still_once_comes_with_the_next_request() {
        comes_nevertheless(Fault::stall_after(10).once(), 2);
    }

    #[test]
    fn a_body_that_is_just_fast_enough_ends_at_the_total_timeout() {
        let registry = Registry::new();
        registry.release("bystander", "1.0.0").release_with("wanted", "1.0.0", Release::sized(60_000));
        registry.fault("wanted", "1.0.0", Fault::trickle(4_000));
        let ferry = hasty(&registry);
        let limits = ["--timeout", "1s", "--retries", "0"];
        ferry.sync(&[&BOTH[..], &limits].concat()).expect(1);
        assert!(holes(&ferry)[0]["reason"].as_str().unwrap().contains("total-timeout"));
        assert_eq!(registry.requests_for("wanted", "1.0.0"), 1);
        assert_eq!(served(&ferry, "bystander"), registry.row("bystander", "1.0.0"));
    }
}

mod u5_wrong_bytes {
    use super::*;

    #[test]
    fn other_bytes_of_the_same_length_go_to_the_quarantine() {
        becomes_a_hole(Fault::wrong_bytes(), &Fate { reason: "checksum mismatch", quarantined: 1, ..DENIED });
    }

    #[test]
    fn another_file_goes_to_the_quarantine() {
        becomes_a_hole(Fault::body("<html>"), &Fate { reason: "checksum mismatch", quarantined: 1, ..DENIED });
    }

    #[test]
    fn a_body_that_ends_early_without_a_length_is_told_by_its_checksum() {
        let fate = Fate { reason: "checksum mismatch", quarantined: 1, ..DENIED };
        becomes_a_hole(Fault::shorter_without_length(20), &fate);
    }

    #[test]
    fn a_body_that_goes_on_without_a_length_is_told_by_its_checksum() {
        let fate = Fate { reason: "checksum mismatch", quarantined: 1, ..DENIED };
        becomes_a_hole(Fault::longer_without_length(20), &fate);
    }

    #[test]
    fn an_empty_body_is_told_by_its_checksum() {
        becomes_a_hole(Fault::body(""), &Fate { reason: "checksum mismatch", quarantined: 1, ..DENIED });
    }

    #[test]
    fn a_body_that_is_cut_short_each_time_is_a_hole_and_nothing_of_it_is_kept() {
        becomes_a_hole(Fault::cut_after(20), &Fate { reason: "after 20 bytes of", requests: 3..=3, ..DENIED });
    }

    #[test]
    fn a_body_longer_than_announced_is_a_hole_and_nothing_of_it_is_kept() {
        becomes_a_hole(Fault::longer_by(20), &Fate { reason: "", requests: 3..=3, ..DENIED });
    }

    #[test]
    fn an_encoding_that_was_not_asked_for_is_a_hole() {
        becomes_a_hole(Fault::gzip(), &Fate { reason: "encoded as \"gzip\"", ..DENIED });
    }

    #[test]
    fn a_body_that_is_cut_once_or_has_no_length_comes() {
        comes_nevertheless(Fault::cut_after(20).once(), 2);
        comes_nevertheless(Fault::no_length(), 1);
    }

    #[test]
    fn a_file_that_claims_to_be_enormous_is_not_begun() {
        let fault = Fault::claimed_length(1 << 40);
        becomes_a_hole(fault, &Fate { reason: "limit: object size", ..FORBIDDEN });
    }

    #[test]
    fn the_quarantine_holds_what_came() {
        let registry = shelf();
        registry.fault("wanted", "1.0.0", Fault::body("not a crate"));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(1);
        assert_eq!(quarantine(&ferry), [b"not a crate".to_vec()]);
    }
}

mod u6_redirects {
    use super::*;

    #[test]
    fn a_redirect_to_itself_ends_after_five_hops() {
        becomes_a_hole(
            Fault::redirect_to_itself(),
            &Fate { reason: "more than 5 redirects", requests: 6..=6, ..FORBIDDEN },
        );
    }

    #[test]
    fn a_redirect_to_a_host_that_nobody_named_is_refused_with_the_key_that_permits_it() {
        let fate = Fate { reason: "allow-hosts", ..FORBIDDEN };
        becomes_a_hole(Fault::redirect("https://stranger.invalid/wanted-1.0.0.crate"), &fate);
    }

    #[test]
    fn redirects_into_the_operators_network_are_refused() {
        let registry = shelf();
        let private = ["https://169.254.169.254/latest", "https://10.0.0.1/", "https://[::1]/", "https://localhost/"];
        for (number, url) in private.iter().enumerate() {
            let version = format!("2.0.{number}");
            registry.release("wanted", &version).fault("wanted", &version, Fault::redirect(url));
        }
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(1);
        let listed = holes(&ferry);
        assert_eq!(listed.len(), private.len());
        let is_refused = |hole: &Value| hole["refused"] == true && hole["reason"].to_string().contains("allow-hosts");
        assert!(listed.iter().all(is_refused), "{listed:?}");
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }

    #[test]
    fn a_redirect_to_a_file_is_refused() {
        becomes_a_hole(Fault::redirect("file:///etc/passwd"), &Fate { reason: "file:", ..FORBIDDEN });
    }

    #[test]
    fn a_redirect_from_https_down_to_http_is_refused() {
        let registry = shelf();
        let plain = registry.crate_url("wanted", "1.0.0").replace(registry.url(), registry.plain_url());
        registry.fault("wanted", "1.0.0", Fault::redirect(&plain));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(1);
        expect_hole(&registry, &ferry, &Fate { reason: "from https down to http", ..FORBIDDEN });
    }

    #[test]
    fn a_redirect_to_a_permitted_host_is_followed() {
        let registry = shelf();
        let elsewhere = registry.crate_url("wanted", "1.0.0").replace(registry.url(), &registry.localhost_url());
        registry.fault("wanted", "1.0.0", Fault::redirect(&elsewhere).once());
        let ferry = hasty(&registry);
        ferry.configure("network", "allow-hosts = [\"localhost\"]");
        ferry.sync(&BOTH).expect(0);
        assert_eq!(registry.requests_for("wanted", "1.0.0"), 2);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }

    #[test]
    fn a_registry_that_names_a_private_download_host_stops_the_sync_before_anything_is_asked_of_it() {
        let registry = shelf();
        registry.set_download_url("https://10.0.0.1/{crate}-{version}.crate");
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect_error(3, "allow-hosts");
        assert_eq!(registry.crate_file_requests(), 0);
    }
}

mod u7_bombs {
    use super::*;

    #[test]
    fn a_crate_file_that_unpacks_to_much_is_kept_as_it_is() {
        let registry = shelf();
        let bomb = gzip(&vec![0; 64 << 20]);
        registry.release_with("wanted", "2.0.0", Release::of_bytes(bomb.clone()));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        let checksum = registry.checksum("wanted", "2.0.0");
        assert_eq!(held_bytes(&ferry, "wanted", "2.0.0", &checksum), Some(bomb));
        verify(&ferry);
    }

    /// An index file of 65 MiB, one above the limit: reported, not read, and the other crates are served.
    #[track_caller]
    fn is_reported(registry: &Registry, ferry: &Ferry) {
        let said = ferry.sync(&BOTH).expect(1).json();
        assert_eq!(said["releases"]["stored"], 1, "{said}");
        let [(path, 0, problem)] = &reports(ferry)[..] else { panic!("one report: {:?}", reports(ferry)) };
        assert_eq!(path, "wa/nt/wanted");
        assert!(problem.contains("67108864") && problem.contains("limit: index file"), "{problem}");
        assert_eq!(served(ferry, "bystander"), registry.row("bystander", "1.0.0"));
    }

    #[test]
    fn an_index_file_that_unpacks_to_much_is_reported_and_the_rest_goes_on() {
        let registry = shelf();
        registry.gzip_index().raw_index_file("wa/nt/wanted", vec![b' '; 65 << 20]);
        let ferry = hasty(&registry);
        is_reported(&registry, &ferry);
    }

    #[test]
    fn an_index_file_of_a_folder_that_is_too_large_is_reported_and_the_rest_goes_on() {
        let registry = shelf();
        registry.raw_index_file("wa/nt/wanted", vec![b' '; 65 << 20]);
        let ferry = of_folder(&registry);
        is_reported(&registry, &ferry);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }
}

/// A mirror of the registry's index as a folder of files; the folder is `index` beside the mirror.
fn of_folder(registry: &Registry) -> Ferry {
    let mut ferry = Ferry::sparse(registry);
    let index = ferry.beside("index");
    registry.write_folder(&index);
    ferry.switch_to(&index.display().to_string());
    ferry.init().configure("network", &format!("{HASTY}\nallow-hosts = [\"127.0.0.1\"]"));
    ferry
}

/// A mirror of the registry's git index.
fn of_git(registry: &Registry) -> Ferry {
    let ferry = Ferry::of(registry, &registry.git_https_url());
    ferry.init().configure("network", HASTY);
    ferry
}

mod u8_malformed_rows {
    use super::*;

    const PATH: &str = "wa/nt/wanted";

    /// Rows that are odd and good: unknown fields, a version of the row format yet to come, a kind of null, CRLF, spaces.
    fn good_rows(registry: &Registry) -> Vec<String> {
        let row = |version: &str| {
            registry.release("wanted", version);
            registry.row("wanted", version).trim_end().to_owned()
        };
        let dep = r#"{"name":"x","req":"^1","features":[],"optional":false,"default_features":true,"target":null,"kind":null}"#;
        vec![
            row("1.0.0"),
            row("1.0.1").replace("\"yanked\":false", "\"yanked\":null,\"v\":99,\"later\":[{\"a\":1e400}],\"ü\":\"é\""),
            row("1.0.2").replace("\"deps\":[]", &format!("\"deps\":[{dep}]")),
            row("1.0.3") + "\r",
            format!("  {}  ", row("1.0.4")),
            row("1.0.5").replace("\"name\":\"wanted\"", "\"name\":\"\\u0077anted\""),
        ]
    }

    /// Rows that cannot be used, and what is said of each.
    fn bad_rows(registry: &Registry) -> Vec<(Vec<u8>, &'static str)> {
        let row = registry.row("wanted", "1.0.0").trim_end().replace("1.0.0", "2.0.0");
        let with = |from: &str, to: &str| row.replacen(from, to, 1).into_bytes();
        let named = |name: &str| with("\"name\":\"wanted\"", &format!("\"name\":\"{name}\""));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let name = "not a valid crate name";
        vec![
            (b"not json".to_vec(), "not an index row"),
            ([b"\xef\xbb\xbf", row.as_bytes()].concat(), "not an index row"),
            (b"{\"name\":\"wanted\"}".to_vec(), "missing field"),
            (row.as_bytes()[..row.len() / 2].to_vec(), "not an index row"),
            (with("\"vers\"", "\"vers\":\"3.0.0\",\"vers\""), "duplicate field"),
            (b"\xff\xfe\x00".to_vec(), "not an index row"),
            (named("wanted\0"), "not an index row"),
            (b"null".to_vec(), "not an index row"),
            (b"[1]".to_vec(), "not an index row"),
            (deep.into_bytes(), "not an index row"),
            (vec![b'x'; 64 << 10], "not an index row"),
            (with("\"cksum\":\"", "\"cksum\":\"zz"), "not a valid"),
            (with("\"yanked\":false", "\"yanked\":\"no\""), "not an index row"),
            (named("../x"), name),
            (named("/etc/passwd"), name),
            (named(""), name),
            (named(&"a".repeat(65)), name),
            (named("nul"), name),
            (named("wanted."), name),
            (named("%2e%2e"), name),
            (named("wänted"), name),
            (named("wanted\\u0000"), name),
            (named("bystander"), "a row of crate bystander"),
            (with("2.0.0", "../x"), "not a valid version"),
            (with("2.0.0", ""), "not a valid version"),
            (with("2.0.0", "2.0.0/.."), "not a valid version"),
            (with("2.0.0", "2.0.0\\u0000"), "not a valid version"),
            (with("2.0.0", "2.0.0\\u001b[31m"), "not a valid version"),
        ]
    }

    /// Good and bad rows in one file: the good ones are served byte for byte, the bad ones reported by their lines.
    #[track_caller]
    fn good_rows_survive_bad_ones(upstream: fn(&Registry) -> Ferry) {
        let registry = shelf();
        let (good, bad) = (good_rows(&registry), bad_rows(&registry));
        let mut lines: Vec<Vec<u8>> = bad.iter().map(|(line, _)| line.clone()).collect();
        for (at, row) in good.iter().enumerate() {
            lines.insert(at * 2, row.clone().into_bytes());
        }
        registry.raw_index_file(PATH, lines.join(&b'\n'));
        let ferry = upstream(&registry);
        let around = look::neighbours(&ferry);
        ferry.sync(&BOTH).expect(0);

        let expected: String = good.iter().map(|row| format!("{row}\n")).collect();
        assert_eq!(served(&ferry, "wanted"), expected);
        let told = reports(&ferry);
        assert_eq!(told.len(), bad.len(), "{told:?}");
        for ((path, line, problem), (text, said)) in told.iter().zip(&bad) {
            assert_eq!(path, PATH);
            assert_eq!(&lines[usize::try_from(*line).unwrap() - 1], text, "line {line}");
            assert!(
                problem.contains(said),
                "{problem:?} for {:?}",
                String::from_utf8_lossy(&text[..text.len().min(200)])
            );
        }
        assert_eq!(look::neighbours(&ferry), around, "nothing is written beside the mirror");
        assert_eq!(served(&ferry, "bystander"), registry.row("bystander", "1.0.0"));
        verify(&ferry);
        expect_printable(&ferry.run("status", &[]).expect(0).stdout);
        expect_printable(&ferry.run("sync", &["--offline-index"]).expect(0).stdout);
    }

    #[track_caller]
    fn expect_printable(text: &str) {
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
    }

    #[test]
    fn good_rows_of_a_sparse_index_survive_bad_ones() {
        good_rows_survive_bad_ones(hasty);
    }

    #[test]
    fn good_rows_of_a_git_index_survive_bad_ones() {
        good_rows_survive_bad_ones(of_git);
    }

    #[test]
    fn good_rows_of_an_index_folder_survive_bad_ones() {
        good_rows_survive_bad_ones(of_folder);
    }

    /// A file without a bad row: every byte of it is served.
    #[track_caller]
    fn is_served_byte_for_byte(text: impl FnOnce(&Registry) -> Vec<u8>) {
        let registry = shelf();
        let text = text(&registry);
        registry.raw_index_file(PATH, text.clone());
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        assert!(served_bytes(&ferry, "wanted") == Some(text), "other bytes are served");
        assert_eq!(reports(&ferry), []);
        verify(&ferry);
    }

    #[test]
    fn a_file_of_odd_but_good_rows_is_served_byte_for_byte() {
        is_served_byte_for_byte(|registry| good_rows(registry).join("\n").into_bytes());
    }

    #[test]
    fn a_file_with_empty_lines_and_no_final_newline_is_served_byte_for_byte() {
        is_served_byte_for_byte(|registry| {
            format!("\r\n\n{}\n\n", registry.row("wanted", "1.0.0").trim_end()).into_bytes()
        });
        is_served_byte_for_byte(|registry| registry.row("wanted", "1.0.0").trim_end().into());
    }

    #[test]
    fn a_good_row_of_16_mib_is_served_byte_for_byte() {
        is_served_byte_for_byte(|registry| {
            let long = format!("\"yanked\":false,\"long\":\"{}\"", "x".repeat(16 << 20));
            registry.row("wanted", "1.0.0").replace("\"yanked\":false", &long).into_bytes()
        });
    }

    /// Bad lines before and behind a good row: so many reports, and the mirror opens again.
    #[track_caller]
    fn bad_lines_are_reported(line: &str, count: usize) {
        let registry = shelf();
        let row = registry.row("wanted", "1.0.0");
        registry.raw_index_file(PATH, line.repeat(count / 2) + &row + &line.repeat(count - count / 2));
        let ferry = hasty(&registry);
        let said = ferry.sync(&BOTH).expect(0).json();
        assert_eq!(said["reports"].as_array().map(Vec::len), Some(count));
        ferry.run("rebuild", &[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), row);
        assert!(!reports(&ferry).is_empty());
    }

    #[test]
    fn a_bad_line_of_16_mib_is_reported() {
        bad_lines_are_reported(&format!("{}\n", "x".repeat(16 << 20)), 1);
    }

    #[test]
    fn a_hundred_thousand_bad_lines_are_reported_and_kept() {
        bad_lines_are_reported("x\n", 100_000);
    }

    #[test]
    fn a_hundred_thousand_rows_are_read() {
        let registry = shelf();
        let row = registry.row("wanted", "1.0.0");
        let others = (0..100_000).map(|number| row.replace("\"1.0.0\"", &format!("\"0.0.{number}\"")));
        registry.raw_index_file(PATH, others.chain([row.clone()]).collect::<String>());
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "wanted@=1.0.0"]).expect(0);
        assert_eq!(served(&ferry, "wanted"), row);
        assert_eq!(registry.crate_file_requests(), 1);
    }

    #[test]
    fn reports_go_when_the_rows_are_mended() {
        let registry = shelf();
        registry.raw_index_file(PATH, format!("junk\n{}", rows(&registry, "wanted", &["1.0.0", "1.0.1"])));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        assert_eq!(reports(&ferry).len(), 1);
        registry.raw_index_file(PATH, rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
        ferry.sync(&[]).expect(0);
        assert_eq!(reports(&ferry), []);
        assert_eq!(registry.crate_file_requests(), 3);
    }

    #[test]
    fn a_file_of_bad_rows_alone_is_named_and_takes_nothing_away() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        registry.raw_index_file(PATH, "<html>maintenance</html>");
        ferry.sync(&[]).expect(1);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }
}

mod u9_hostile_names {
    use super::*;

    /// Paths that no crate's index file has.
    const PATHS: [&str; 9] = [
        "3/n/nul",
        "wa/nt/wanted.",
        "%2/e%/%2e%2e",
        "wä/nt/wänted",
        "wa/nt/wanted space",
        "aa/aa/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "xx/xx/wanted",
        "WA/NT/WANTED",
        "wanted",
    ];

    /// All of an index is wanted, and these files lie in it too: each is reported, none is followed, all else is served.
    #[track_caller]
    fn are_reported_and_never_followed(upstream: fn(&Registry) -> Ferry) {
        let registry = shelf();
        let row = registry.row("wanted", "1.0.0");
        for path in PATHS {
            registry.raw_index_file(path, row.clone());
        }
        let ferry = upstream(&registry);
        let around = look::neighbours(&ferry);
        ferry.sync(&["--all"]).expect(0);
        let told: Vec<String> = reports(&ferry).into_iter().map(|(path, ..)| path).collect();
        let mut expected = PATHS.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(told, expected);
        assert_eq!(look::neighbours(&ferry), around, "nothing is written beside the mirror");
        assert_eq!(registry.crate_file_requests(), 3);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
        verify(&ferry);
    }

    #[test]
    fn hostile_paths_of_a_git_index_are_reported_and_never_followed() {
        are_reported_and_never_followed(of_git);
    }

    #[test]
    fn hostile_paths_of_an_index_folder_are_reported_and_never_followed() {
        are_reported_and_never_followed(of_folder);
    }

    #[test]
    fn a_selected_crate_that_upstream_does_not_have_is_lacking() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "bystander", "--crate", "no-such-crate"]).expect(1);
        assert_eq!(reports(&ferry)[0].0, "no/-s/no-such-crate");
        ferry.run("status", &[]).expect(1);
        registry.release("no-such-crate", "1.0.0");
        ferry.sync(&[]).expect(0);
        assert_eq!(reports(&ferry), []);
    }
}

mod u10_odd_versions {
    use super::*;

    #[test]
    fn of_two_rows_with_one_version_and_one_checksum_the_first_is_served() {
        let registry = shelf();
        registry.raw_index_rows("wa/nt/wanted", registry.row("wanted", "1.0.0").replace("false", "true").as_bytes());
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
        let [(_, 3, problem)] = &reports(&ferry)[..] else { panic!("one report: {:?}", reports(&ferry)) };
        assert!(problem.contains("stands in line 1 already"), "{problem}");
        assert_eq!(registry.requests_for("wanted", "1.0.0"), 1);
    }

    #[test]
    fn of_two_rows_with_one_version_and_two_checksums_the_first_is_served_with_an_alarm() {
        let registry = shelf();
        registry.set_download_url("{base}/crates/{crate}/{version}/{sha256-checksum}");
        let first = registry.row("wanted", "1.0.0");
        registry.duplicate("wanted", "1.0.0", b"other");
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        assert_eq!(served(&ferry, "wanted"), first + &registry.row("wanted", "1.0.1"));
        let [(_, 3, problem)] = &reports(&ferry)[..] else { panic!("one report: {:?}", reports(&ferry)) };
        assert!(problem.contains("with another checksum; the first row counts"), "{problem}");
        verify(&ferry);
    }

    #[test]
    fn builds_of_one_version_are_two_releases() {
        let registry = shelf();
        registry.release("wanted", "2.0.0+a").release_with("wanted", "2.0.0+b", Release::sized(3000));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        let all = ["1.0.0", "1.0.1", "2.0.0+a", "2.0.0+b"];
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &all));
    }

    #[test]
    fn a_version_that_is_not_semver_is_kept_as_text() {
        let registry = shelf();
        registry.release("wanted", "2018.alpha").release("wanted", "1.0");
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1", "2018.alpha", "1.0"]));
        assert_eq!(reports(&ferry), []);
    }
}

mod u11_republished {
    use super::*;

    /// `wanted 1.0.0` comes back with other bytes: the old row is served on, both objects are held.
    fn republished() -> (Registry, Ferry, String, String) {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        let (old_row, old) = (registry.row("wanted", "1.0.0"), registry.checksum("wanted", "1.0.0"));
        registry.republish("wanted", "1.0.0", b"other");
        let said = ferry.sync(&[]).expect(0).json();
        assert_eq!(said["index"]["alarms"], 1, "{said}");
        (registry, ferry, old_row, old)
    }

    #[test]
    fn the_old_row_is_served_on_and_both_objects_are_held_with_an_alarm() {
        let (registry, ferry, old_row, old) = republished();
        let new = registry.checksum("wanted", "1.0.0");
        assert_eq!(served(&ferry, "wanted"), old_row + &registry.row("wanted", "1.0.1"));
        let new_bytes = registry.crate_bytes("wanted", "1.0.0").to_vec();
        assert!(lies_in_a_pack(&ferry, &new_bytes));
        assert!(held_bytes(&ferry, "wanted", "1.0.0", &old).is_some_and(|bytes| bytes != new_bytes));
        let status = ferry.run("status", &["--json"]).expect(0).json();
        let alarm = &status["alarms"][0];
        assert_eq!((&alarm["crate"], &alarm["version"]), (&json!("wanted"), &json!("1.0.0")));
        assert_eq!((&alarm["was"], &alarm["now"]), (&json!(old), &json!(new)));
        assert_eq!(status["releases"]["held"], 4);
        verify(&ferry);
    }

    #[test]
    fn only_yanked_follows_upstream() {
        let (registry, ferry, old_row, _) = republished();
        registry.yank("wanted", "1.0.0");
        ferry.sync(&[]).expect(0);
        let yanked = old_row.replace("\"yanked\":false", "\"yanked\":true");
        assert_eq!(served(&ferry, "wanted"), yanked + &registry.row("wanted", "1.0.1"));
    }

    #[test]
    fn the_next_sync_neither_asks_nor_publishes() {
        let (registry, ferry, ..) = republished();
        let digest = ferry.digest();
        registry.reset_counters();
        ferry.sync(&[]).expect(0);
        assert_eq!((registry.crate_file_requests(), ferry.digest()), (0, digest));
    }

    #[test]
    fn after_its_deletion_the_new_row_is_served() {
        let (registry, ferry, ..) = republished();
        let new = registry.checksum("wanted", "1.0.0");
        registry.delete("wanted", "1.0.0");
        ferry.sync(&["--accept-shrink"]).expect(0);
        assert_eq!(served(&ferry, "wanted"), registry.row("wanted", "1.0.1"));
        registry.republish("wanted", "1.0.0", b"other").reset_counters();
        ferry.sync(&[]).expect(0);
        assert_eq!(registry.checksum("wanted", "1.0.0"), new);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.1", "1.0.0"]));
        assert_eq!(registry.crate_file_requests(), 0, "its bytes are held");
        verify(&ferry);
    }

    #[test]
    fn an_export_writes_the_bytes_that_are_served_each_time() {
        let (registry, ferry, _, old) = republished();
        registry.yank("wanted", "1.0.0");
        ferry.sync(&[]).expect(0);
        let out = ferry.beside("out").display().to_string();
        let export = || ferry.run("export", &["--to", &out, "--layout", "cargo", "--json"]).expect(0).json();
        assert_eq!(export()["written"], 3);
        assert_eq!(
            crateferry_test_support::sha256(&std::fs::read(ferry.beside("out/wanted-1.0.0.crate")).unwrap()),
            old
        );
        assert_eq!(export()["written"], 0);
    }
}

mod u12_yanked {
    use super::*;

    #[test]
    fn a_yank_and_its_end_update_the_row_and_ask_for_no_crate_file() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        for yank in [Registry::yank, Registry::unyank] {
            yank(&registry, "wanted", "1.0.0").reset_counters();
            ferry.sync(&[]).expect(0);
            assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
            assert_eq!(registry.crate_file_requests(), 0);
        }
        assert_eq!(ferry.status()["generation"], 3);
        verify(&ferry);
    }

    #[test]
    fn a_release_that_is_yanked_before_it_came_is_left_out_and_wanted_again_when_that_ends() {
        let registry = shelf();
        registry.fault("wanted", "1.0.0", Fault::status(404));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(1);
        registry.yank("wanted", "1.0.0");
        ferry.sync(&[]).expect(0);
        assert_eq!(ferry.status()["releases"]["excluded"], 1);
        registry.heal().unyank("wanted", "1.0.0");
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }
}

/// Puts `keep-withdrawn = true` into the mirror's configuration.
fn keep_withdrawn(ferry: &Ferry) {
    let path = ferry.file("crateferry.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("# keep-withdrawn = false", "keep-withdrawn = true")).unwrap();
}

mod u13_deleted {
    use super::*;

    #[test]
    fn a_deleted_release_leaves_the_index_at_once_and_its_bytes_stay() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        let (checksum, bytes) = (registry.checksum("wanted", "1.0.0"), registry.crate_bytes("wanted", "1.0.0"));
        registry.delete("wanted", "1.0.0").reset_counters();
        let said = ferry.sync(&[]).expect(0).json();
        assert_eq!(said["withdrawn_now"], 1, "{said}");
        assert_eq!(served(&ferry, "wanted"), registry.row("wanted", "1.0.1"));
        let status = ferry.run("status", &["--json"]).expect(0).json();
        assert_eq!((&status["releases"]["held"], &status["releases"]["withdrawn"]), (&json!(2), &json!(1)));
        assert_eq!(held_bytes(&ferry, "wanted", "1.0.0", &checksum), Some(bytes.to_vec()));
        assert_eq!(registry.crate_file_requests(), 0);
        verify(&ferry);
    }

    #[test]
    fn a_deleted_crate_leaves_the_index_for_good_and_later_syncs_are_complete() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        registry.delete_crate("wanted");
        ferry.sync(&[]).expect(0);
        assert_eq!(served_bytes(&ferry, "wanted"), None);
        ferry.sync(&[]).expect(0);
        assert_eq!(ferry.status()["releases"]["withdrawn"], 2);
    }

    #[test]
    fn a_release_that_comes_back_is_served_again_without_being_asked_for() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        registry.delete("wanted", "1.0.1");
        ferry.sync(&[]).expect(0);
        registry.release("wanted", "1.0.1").reset_counters();
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
        assert_eq!(registry.crate_file_requests(), 0);
        assert_eq!(ferry.status()["releases"]["withdrawn"], 0);
    }

    #[test]
    fn a_hole_whose_release_is_deleted_is_a_hole_no_more() {
        let registry = shelf();
        registry.fault("wanted", "1.0.0", Fault::status(404));
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(1);
        registry.delete("wanted", "1.0.0");
        ferry.sync(&[]).expect(0);
        assert!(holes(&ferry).is_empty());
    }

    #[test]
    fn keep_withdrawn_goes_on_serving_what_was_deleted() {
        let registry = shelf();
        let ferry = hasty(&registry);
        keep_withdrawn(&ferry);
        ferry.sync(&BOTH).expect(0);
        let all = rows(&registry, "wanted", &["1.0.1", "1.0.0"]);
        registry.delete("wanted", "1.0.0");
        ferry.sync(&[]).expect(0);
        ferry.sync(&[]).expect(0);
        ferry.run("status", &[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), all);
    }
}

mod u14_rewritten_history {
    use super::*;

    #[test]
    fn a_squashed_history_brings_nothing_and_fetches_nothing() {
        let registry = shelf();
        registry.commit().release("wanted", "1.0.2").commit();
        let ferry = of_git(&registry);
        ferry.sync(&["--all"]).expect(0);
        let digest = ferry.digest();
        registry.squash().reset_counters();
        let said = ferry.sync(&[]).expect(0).json();
        assert_eq!((&said["index"]["changed"], &said["published"]), (&json!(0), &json!(false)), "{said}");
        assert_eq!((registry.crate_file_requests(), ferry.digest()), (0, digest));
    }

    #[test]
    fn what_is_new_behind_a_squash_is_all_that_is_fetched() {
        let registry = shelf();
        let ferry = of_git(&registry);
        ferry.sync(&["--all"]).expect(0);
        registry.squash().release("wanted", "1.0.2").commit().reset_counters();
        ferry.sync(&[]).expect(0);
        assert_eq!((registry.crate_file_requests(), registry.requests_for("wanted", "1.0.2")), (1, 1));
    }

    #[test]
    fn a_rewrite_of_every_row_fetches_nothing() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        registry.rewrite_rows().reset_counters();
        ferry.sync(&[]).expect(0);
        assert_eq!(registry.crate_file_requests(), 0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }
}

mod u15_shrunk {
    use super::*;

    /// Six crates of seven releases each, mirrored whole from the git index; then the upstream shrinks like this.
    fn shrunk(shrink: impl FnOnce(&Registry)) -> (Registry, Ferry) {
        let registry = Registry::new();
        registry.releases(28).commit().releases(42).commit();
        let ferry = of_git(&registry);
        ferry.sync(&["--all"]).expect(0);
        shrink(&registry);
        registry.reset_counters();
        (registry, ferry)
    }

    fn to_half(registry: &Registry) {
        registry.delete_crate("c00000").delete_crate("c00002").delete_crate("c00004").commit();
    }

    fn delete_first(registry: &Registry, name: &str, count: usize) {
        for number in 0..count {
            registry.delete(name, &format!("1.0.{number}"));
        }
    }

    fn to_nothing(registry: &Registry) {
        for number in 0..6 {
            registry.delete_crate(&format!("c{number:05}"));
        }
        registry.commit();
    }

    /// So many deletions are held, listed and served on, however often the sync is repeated, and nothing is fetched.
    #[track_caller]
    fn is_held(shrink: impl FnOnce(&Registry), gone: usize) -> (Registry, Ferry) {
        let (registry, ferry) = shrunk(shrink);
        let before = all_rows(&ferry);
        for _ in 0..2 {
            let said = ferry.sync(&[]).expect(1).json();
            assert_eq!(said["held_for_approval"].as_array().map(Vec::len), Some(gone), "{said}");
        }
        let status = ferry.run("status", &["--json"]).expect(1).json();
        assert_eq!(status["held_for_approval"].as_array().map(Vec::len), Some(gone));
        assert_eq!((&status["rows"], all_rows(&ferry)), (&json!(42), before));
        assert_eq!(registry.crate_file_requests(), 0);
        (registry, ferry)
    }

    /// Every row that is served, sorted: a row whose deletion is held stands behind the others of its crate.
    fn all_rows(ferry: &Ferry) -> Vec<String> {
        let texts = (0..6).map(|number| served(ferry, &format!("c{number:05}")));
        let mut rows: Vec<String> =
            texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        rows.sort();
        rows
    }

    #[track_caller]
    fn expect_withdrawn(ferry: &Ferry, withdrawn: usize) {
        let status = ferry.run("status", &["--json"]).expect(0).json();
        assert_eq!((&status["rows"], &status["releases"]["withdrawn"]), (&json!(42 - withdrawn), &json!(withdrawn)));
        assert_eq!(status["held_for_approval"], json!([]));
        assert_eq!(served_bytes(ferry, "c00004"), None);
        ferry.sync(&[]).expect(0);
        verify(ferry);
    }

    #[test]
    fn an_older_index_is_held() {
        is_held(
            |registry| {
                registry.force_push_older(1);
            },
            14,
        );
    }

    #[test]
    fn half_an_index_is_held_and_approving_publishes_it() {
        let (_registry, ferry) = is_held(to_half, 21);
        assert_eq!(ferry.run("approve", &["--json"]).expect(0).json()["withdrawn"], 21);
        expect_withdrawn(&ferry, 21);
    }

    #[test]
    fn half_an_index_is_held_and_accepting_the_shrinkage_publishes_it() {
        let (_registry, ferry) = is_held(to_half, 21);
        assert_eq!(ferry.sync(&["--accept-shrink"]).expect(0).json()["withdrawn_now"], 21);
        expect_withdrawn(&ferry, 21);
    }

    #[test]
    fn an_empty_index_is_held_until_it_is_approved() {
        let (_registry, ferry) = is_held(to_nothing, 42);
        ferry.run("approve", &[]).expect(0);
        expect_withdrawn(&ferry, 42);
    }

    #[test]
    fn the_only_release_of_a_mirror_is_never_withdrawn_unasked() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "bystander"]).expect(0);
        let row = registry.row("bystander", "1.0.0");
        registry.delete("bystander", "1.0.0");
        ferry.sync(&[]).expect(1);
        assert_eq!(served(&ferry, "bystander"), row);
    }

    #[test]
    fn deletions_within_the_limit_are_published_at_once() {
        let delete = |registry: &Registry| {
            delete_first(registry, "c00000", 5);
            delete_first(registry, "c00001", 5);
            registry.commit();
        };
        let (_registry, ferry) = shrunk(delete);
        assert_eq!(ferry.sync(&[]).expect(0).json()["withdrawn_now"], 10);
        assert_eq!(ferry.status()["rows"], 32);
    }

    #[test]
    fn one_more_than_the_limit_is_held() {
        let delete = |registry: &Registry| {
            delete_first(registry, "c00000", 7);
            delete_first(registry, "c00001", 4);
            registry.commit();
        };
        is_held(delete, 11);
    }

    #[test]
    fn additions_are_published_while_deletions_are_held() {
        let (registry, ferry) = shrunk(|registry| {
            to_half(registry);
            registry.release("c00001", "2.0.0").commit();
        });
        ferry.sync(&[]).expect(1);
        assert!(served(&ferry, "c00001").ends_with(&registry.row("c00001", "2.0.0")));
        assert_eq!(ferry.status()["rows"], 43);
        assert_eq!(registry.crate_file_requests(), 1);
    }

    #[test]
    fn an_index_that_is_whole_again_clears_what_was_held() {
        let (registry, ferry) = is_held(to_half, 21);
        registry.releases(42).commit().reset_counters();
        ferry.sync(&[]).expect(0);
        let status = ferry.run("status", &["--json"]).expect(0).json();
        assert_eq!((&status["rows"], &status["held_for_approval"]), (&json!(42), &json!([])));
        assert_eq!(registry.crate_file_requests(), 0);
    }

    #[test]
    fn keep_withdrawn_goes_on_serving_all_of_it_and_is_complete() {
        let (registry, ferry) = shrunk(to_half);
        keep_withdrawn(&ferry);
        ferry.sync(&[]).expect(0);
        ferry.sync(&[]).expect(0);
        let status = ferry.run("status", &["--json"]).expect(0).json();
        assert_eq!((&status["rows"], &status["held_for_approval"]), (&json!(42), &json!([])));
        assert_eq!(registry.crate_file_requests(), 0);
    }

    #[test]
    fn a_registry_that_is_not_there_is_no_deletion() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        registry.fault_path("/", Fault::status(404));
        ferry.sync(&[]).expect_error(3, "no registry");
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
        assert_eq!(ferry.status()["held_for_approval"], json!([]));
    }
}

mod u16_lying_validators {
    use super::*;

    /// With such validators a new release is seen all the same, and what did not change is not published again.
    #[track_caller]
    fn content_decides(etags: Etags) {
        let registry = shelf();
        registry.etags(etags);
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(0);
        let said = ferry.sync(&[]).expect(0).json();
        assert_eq!((&said["index"]["changed"], &said["published"]), (&json!(0), &json!(false)), "{said}");
        registry.release("wanted", "1.0.2").reset_counters();
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1", "1.0.2"]));
        assert_eq!(registry.crate_file_requests(), 1);
    }

    #[test]
    fn honest_validators_cost_one_question_a_crate() {
        content_decides(Etags::Honest);
    }

    #[test]
    fn without_validators_content_decides() {
        content_decides(Etags::Absent);
    }

    #[test]
    fn where_all_files_share_one_validator_content_decides() {
        content_decides(Etags::Constant);
    }

    #[test]
    fn where_validators_change_without_a_reason_content_decides() {
        content_decides(Etags::Random);
    }

    #[test]
    fn a_304_for_what_was_never_sent_is_named_and_nothing_is_lost() {
        let registry = shelf();
        registry.fault_index_file("wanted", Fault::status(304));
        let ferry = hasty(&registry);
        let said = ferry.sync(&BOTH).expect(1).json();
        assert!(said["index"]["failed"][0][1].as_str().unwrap().contains("304"), "{said}");
        registry.heal();
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "wanted"), rows(&registry, "wanted", &["1.0.0", "1.0.1"]));
    }

    #[test]
    fn an_index_that_answers_304_to_everything_stops_the_sync() {
        let registry = shelf();
        registry.etags(Etags::AlwaysUnchanged);
        let ferry = hasty(&registry);
        ferry.sync(&BOTH).expect(3);
        assert_eq!(registry.crate_file_requests(), 0);
    }
}
