//! Numbers are right, and nobody outside can add to their names.

use crateferry_test_support::Registry;

use crate::common::Ferry;
use crate::http::{ask, get};
use crate::{metrics, mirrored, serve};

#[test]
fn a_server_counts_what_it_answers() {
    let (registry, ferry) = mirrored();
    let (server, admin) = serve(&ferry);
    let (name, version) = registry.release_ids()[0].clone();
    let file = format!("/crates/{name}/{name}-{version}.crate");
    let length = get(server.address(), &file).body.len();
    assert_eq!(get(server.address(), "/index/config.json").status, 200);
    assert_eq!(get(server.address(), "/index/3/n/none").status, 404);
    let told = metrics(&admin);
    let requests = |route, status| {
        told.value("crateferry_http_requests_total", &[("route", route), ("status", status)]).to_string()
    };
    assert_eq!([requests("crate", "2xx"), requests("config", "2xx"), requests("index", "4xx")], ["1", "1", "1"]);
    assert_eq!(told.value("crateferry_http_sent_bytes_total", &[("route", "crate")]).to_string(), length.to_string());
    let took = told.value("crateferry_http_request_duration_seconds_count", &[("route", "crate")]);
    assert_eq!(took.to_string(), "1");
    assert_eq!(told.value("crateferry_connections_accepted_total", &[]).to_string(), "3");
    assert_eq!(told.value("crateferry_mirror_releases", &[("state", "held")]).to_string(), "14");
    assert_eq!(told.value("crateferry_mirror_generation", &[]).to_string(), "1");
    assert!(told.value("crateferry_mirror_published_timestamp_seconds", &[]) > 1e9);
    assert!(told.value("process_start_time_seconds", &[]) > 1e9);
    #[cfg(unix)]
    assert!(told.value("crateferry_disk_free_bytes", &[]) > 0.0);
    #[cfg(target_os = "linux")]
    assert!(told.value("process_open_fds", &[]) > 3.0 && told.value("process_resident_memory_bytes", &[]) > 1e6);
}

#[test]
fn no_request_adds_a_series() {
    let (_registry, ferry) = mirrored();
    let (server, admin) = serve(&ferry);
    let all = |told: &crate::exposition::Exposition| {
        let of = |family: &crate::exposition::Family| family.samples.len();
        (told.series(), told.families.values().map(of).collect::<Vec<_>>())
    };
    let before = metrics(&admin);
    for number in 0..200 {
        let path = [
            format!("/random/{number}"),
            format!("/index/{number}/x"),
            format!("/crates/c{number}/c{number}-1.0.0.crate"),
            format!("/api/v1/crates/c{number}/1.0.0/download"),
            format!("/assets/{number}%22%0a/x.js?q={number}"),
            format!("/crates/c{number}"),
        ][number % 6]
            .clone();
        let method = ["GET", "HEAD", "POST", "BREW"][number % 4];
        ask(server.address(), method, &path, &format!("Host: h{number}.example\r\nContent-Length: 0\r\n"));
    }
    let after = metrics(&admin);
    assert_eq!(all(&before), all(&after));
    let routes = after.label_values("crateferry_http_requests", "route");
    assert_eq!(routes.len(), 8, "{routes:?}");
    let counted = after.families["crateferry_http_requests"].samples.iter().map(|(.., count)| count);
    assert_eq!(counted.sum::<f64>().to_string(), "200");
}

#[test]
fn connections_over_the_cap_of_an_address_are_counted() {
    let (_registry, ferry) = mirrored();
    let server = crate::Server::start(&ferry, &["--admin", "0", "--max-per-address", "2"]);
    let admin = crate::admin_of(&server.log()).unwrap();
    let held: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(server.address()).unwrap()).collect();
    crate::wait_until("three are refused", || {
        let told = metrics(&admin);
        let counts = ["crateferry_connections_refused_total", "crateferry_connections_open"];
        counts.map(|name| told.value(name, &[]).to_string()) == ["3", "2"]
    });
    drop(held);
    crate::wait_until("the others are gone", || {
        metrics(&admin).value("crateferry_connections_open", &[]).to_string() == "0"
    });
}

#[test]
fn what_was_not_stored_is_counted_by_reason() {
    let registry = Registry::new();
    registry.releases(14);
    let (name, version) = registry.release_ids()[0].clone();
    registry.fault(&name, &version, crateferry_test_support::Fault::status(404));
    let held = registry.release_ids()[13].clone();
    registry.fault(&held.0, &held.1, crateferry_test_support::Fault::held());
    let ferry = Ferry::sparse(&registry);
    let running = ferry.start_sync(&["--crate", "c00000", "c00001", "--admin", "0"]);
    crate::wait_until("the sync has an admin address", || crate::admin_of(&running.stderr()).is_some());
    let admin = crate::admin_of(&running.stderr()).unwrap();
    let of = |name: &str, label, value: &str| metrics(&admin).value(name, &[(label, value)]).to_string();
    crate::wait_until("twelve are stored", || of("crateferry_sync_releases_total", "outcome", "stored") == "12");
    assert_eq!(of("crateferry_sync_failures_total", "reason", "absent"), "1");
    assert_eq!(of("crateferry_sync_releases_total", "outcome", "failed"), "1");
    assert_eq!(of("crateferry_sync_index_files_total", "change", "changed"), "2");
    assert_eq!(of("crateferry_sync_phase", "phase", "fetch"), "1");
    registry.heal().let_go();
    running.wait().expect(1);
}
