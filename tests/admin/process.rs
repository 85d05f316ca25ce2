//! What becomes of the process: where it spends its time, and how it ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crateferry_test_support::{Registry, Release};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Ferry, wait_until};
use crate::http::get;
#[cfg(feature = "profiling")]
use crate::mirrored;
use crate::serve;

#[test]
fn a_server_that_drains_is_not_ready_any_more_and_its_admin_address_still_says_so() {
    let registry = Registry::new();
    registry.release_with("large", "1.0.0", Release::sized(48 << 20));
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "large"]).expect(0);
    let (server, admin) = serve(&ferry);
    let mut slow = TcpStream::connect(server.address()).unwrap();
    let ask = "GET /crates/large/large-1.0.0.crate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    slow.write_all(ask.as_bytes()).unwrap();
    let mut head = [0; 1000];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(get(&admin, "/readyz").status, 200);

    kill(Pid::from_raw(i32::try_from(server.id()).unwrap()), Signal::SIGTERM).unwrap();
    wait_until("the server is not ready", || get(&admin, "/readyz").status == 503);
    let not_ready = get(&admin, "/readyz");
    assert!(not_ready.text().contains("stopping"), "{}", not_ready.text());
    assert_eq!(get(&admin, "/healthz").status, 200, "it lives");
    assert_eq!(crate::metrics(&admin).value("crateferry_http_in_hand", &[]).to_string(), "1");

    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 47 << 20, "the download came to its end: {}", rest.len());
    server.into_running().wait().expect(0);
}

/// Asks a server for the same thing on four connections for as long as `meanwhile` takes.
#[cfg(feature = "profiling")]
fn under_load<T>(address: &str, meanwhile: impl FnOnce() -> T) -> T {
    use std::sync::atomic::{AtomicBool, Ordering};

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    get(address, "/api/v1/crates?q=c");
                }
            });
        }
        let result = meanwhile();
        over.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
#[cfg(feature = "profiling")]
fn a_profile_names_the_functions_that_were_at_work() {
    use pprof::protos::{Message as _, Profile};

    let (_registry, ferry) = mirrored();
    let (server, admin) = serve(&ferry);
    let reply = under_load(server.address(), || get(&admin, "/debug/pprof/profile?seconds=2"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&reply.body[..]).read_to_end(&mut bytes).unwrap();
    let profile = Profile::decode(&bytes[..]).unwrap();
    let text = |number: i64| profile.string_table[usize::try_from(number).unwrap()].as_str();
    assert_eq!(profile.string_table[0], "");
    let kinds: Vec<_> = profile.sample_type.iter().map(|kind| (text(kind.ty), text(kind.unit))).collect();
    assert_eq!(kinds, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert!(profile.sample.len() > 5, "{} samples", profile.sample.len());
    let names: Vec<&str> = profile.function.iter().map(|function| text(function.name)).collect();
    assert!(names.iter().any(|name| name.contains("crateferry::serve")), "{names:?}");
    assert_eq!(get(server.address(), "/index/config.json").status, 200, "the server is as it was");
}

#[test]
#[cfg(feature = "profiling")]
fn one_profile_is_taken_at_a_time_and_each_has_its_limits() {
    let (_registry, ferry) = mirrored();
    let (_server, admin) = serve(&ferry);
    for asked in ["?seconds=0", "?seconds=61", "?seconds=-1", "?seconds=x"] {
        assert_eq!(get(&admin, &format!("/debug/pprof/profile{asked}")).status, 400, "{asked}");
    }
    let path = "/debug/pprof/profile?seconds=3";
    let replies = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| get(&admin, path).status)).collect();
        asking.into_iter().map(|reply| reply.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(replies.iter().filter(|&&status| status == 200).count(), 1, "{replies:?}");
    assert_eq!(replies.iter().filter(|&&status| status == 409).count(), 2, "{replies:?}");
    assert_eq!(get(&admin, "/debug/pprof/profile?seconds=1").status, 200, "the next one can be taken");
}
