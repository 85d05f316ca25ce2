//! Who may see it.

use crate::common::wait_until;
use crate::http::{ask, get};
use crate::{mirrored, serve};

#[test]
fn a_port_alone_is_one_of_the_loopback_interface() {
    let (_registry, ferry) = mirrored();
    let (server, admin) = serve(&ferry);
    assert!(admin.starts_with("127.0.0.1:"), "{admin}");
    assert!(!server.log().contains("no loopback address"));
    assert_eq!(get(&admin, "/healthz").status, 200);
    wait_until("the catalog is known to be sound", || get(&admin, "/readyz").text() == "ready\n");
    let list = get(&admin, "/").text();
    for path in ["/metrics", "/api/status", "/healthz", "/readyz", "/debug/pprof/profile"] {
        assert!(list.contains(path), "{list}");
    }
    assert_eq!(get(&admin, "/debug/pprof/heap").status, 501);
    assert_eq!(get(&admin, "/nothing").status, 404);
}

#[test]
fn what_the_admin_address_shows_is_nowhere_else_and_the_mirror_is_not_there() {
    let (_registry, ferry) = mirrored();
    let (server, admin) = serve(&ferry);
    for path in ["/metrics", "/api/status", "/healthz", "/readyz", "/debug/pprof/profile"] {
        assert_eq!(get(server.address(), path).status, 404, "{path}");
    }
    assert_eq!(get(&admin, "/index/config.json").status, 404);
}

#[test]
fn without_being_asked_for_there_is_no_admin_address() {
    let (_registry, ferry) = mirrored();
    let server = crate::Server::start(&ferry, &[]);
    assert_eq!(crate::admin_of(&server.log()), None);
}

#[test]
fn a_name_that_was_made_to_point_here_is_refused() {
    let (_registry, ferry) = mirrored();
    let (_server, admin) = serve(&ferry);
    let port = admin.rsplit_once(':').unwrap().1;
    let status = |headers: &str| ask(&admin, "GET", "/metrics", headers).status;
    for host in ["localhost", &format!("localhost:{port}"), &admin, "[::1]"] {
        assert_eq!(status(&format!("Host: {host}\r\n")), 200, "{host}");
    }
    for host in ["evil.example", &format!("evil.example:{port}"), "localhost.evil.example", "10.0.0.1", ""] {
        assert_eq!(status(&format!("Host: {host}\r\n")), 421, "{host}");
    }
    assert!([400, 421].contains(&status("Host: localhost\r\nHost: evil.example\r\n")));
    assert!([400, 421].contains(&status("")), "who names no host is not let in either");
}

#[test]
fn everything_can_only_be_read() {
    let (_registry, ferry) = mirrored();
    let (_server, admin) = serve(&ferry);
    for path in ["/", "/metrics", "/api/status", "/healthz", "/readyz", "/debug/pprof/profile?seconds=1"] {
        let host = format!("Host: {admin}\r\nContent-Length: 0\r\n");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            assert_eq!(ask(&admin, method, path, &host).status, 405, "{method} {path}");
        }
        let head = ask(&admin, "HEAD", path, &host);
        assert!(head.status == 200 && head.body.is_empty(), "{path}: {}", head.status);
    }
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_and_a_folder_is_none() {
    let (_registry, ferry) = mirrored();
    let (_server, admin) = serve(&ferry);
    let taken = ["--admin", admin.as_str(), "--listen", "127.0.0.1:0"];
    ferry.run("serve", &taken).expect_error(3, &format!("cannot listen on the admin address {admin}"));
    ferry.run("sync", &["--admin", &admin]).expect_error(3, "admin address");
    ferry.run("serve", &["--admin", "./mirror"]).expect_error(2, "ADDR:PORT");
}
