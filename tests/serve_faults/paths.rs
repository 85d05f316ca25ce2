//! No path of a request leads anywhere but to what the mirror serves.

use crate::Mirrored;
use crate::common::Server;
use crate::frames::Http2;
use crate::wire::{Client, connect, request};

const SECRET: &str = "nobody may read this";

/// Two dots, as a server might come to see them.
const DOTS: &[&str] = &[
    "..",
    ".",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "%25252e%25252e",
    "..%00",
    "%00..",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%f0%80%80%ae.",
    "..;",
    "%ef%bc%8e%ef%bc%8e",
    "%u002e%u002e",
    "..%20",
    "..%09",
    "~",
    "%c0%2e%c0%2e",
    "...",
    "....",
    "..%c0%af",
];
/// A slash, likewise.
const SLASHES: &[&str] = &["/", "%2f", "%2F", "%252f", "\\", "%5c", "%255c", "%c0%af", "//", "/./", "%00/"];
/// Where the mirror serves something.
const PREFIXES: &[&str] = &[
    "/",
    "//",
    "/index/",
    "/index/de/mo/",
    "/crates/",
    "/crates/demo/",
    "/crates/demo/1.0.0/",
    "/api/v1/crates/",
    "/api/v1/crates/demo/1.0.0/",
    "/assets/",
    "/docs/",
];

fn hostile_paths(absolute: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (prefix, dots) in PREFIXES.iter().flat_map(|prefix| DOTS.iter().map(move |dots| (prefix, dots))) {
        for slash in SLASHES {
            for target in ["crateferry.toml", "secret", "etc/passwd"] {
                paths.push(format!("{prefix}{dots}{slash}{target}"));
                paths.push(format!("{prefix}{dots}{slash}{dots}{slash}{dots}{slash}{target}"));
            }
            paths.push(format!("{prefix}{dots}{slash}demo{slash}{dots}{slash}secret.crate"));
        }
    }
    for prefix in PREFIXES {
        paths.push(format!("{prefix}{absolute}"));
        paths.push(format!("{prefix}{}", absolute.replace('/', "%2f")));
        paths.push(format!("{prefix}C:%5cWindows%5cwin.ini"));
        paths.push(format!("{prefix}file:{absolute}"));
        paths.push(format!("{prefix}nul"));
        paths.push(format!("{prefix}%00"));
    }
    paths
}

fn mirror_with_secrets() -> (Mirrored, Server, Vec<String>) {
    let mirrored = Mirrored::new();
    for file in [mirrored.ferry.file("secret"), mirrored.ferry.beside("secret")] {
        std::fs::write(file, SECRET).unwrap();
    }
    let server = Server::start(&mirrored.ferry, &[]);
    let paths = hostile_paths(mirrored.ferry.file("secret").to_str().unwrap());
    (mirrored, server, paths)
}

#[test]
fn no_encoding_of_a_path_leads_out_of_what_is_served() {
    let (_mirrored, server, paths) = mirror_with_secrets();
    let mut client = connect(&server);
    for path in &paths {
        refuse(&server, &mut client, &request("GET", path, &[]));
    }
    assert_eq!(client.ask("GET", crate::DEMO, &[]).status, 200);
}

#[test]
fn a_target_in_absolute_form_leads_nowhere_else() {
    let (_mirrored, server, paths) = mirror_with_secrets();
    let mut client = connect(&server);
    for path in paths.iter().step_by(7) {
        refuse(&server, &mut client, &request("GET", &format!("http://a.example{path}"), &[]));
    }
    for target in
        ["file:///etc/passwd", "http://a.example", "a.example:80", "*", "http://", "://", "secret", "../secret"]
    {
        let mut client = connect(&server);
        client.send(request("GET", target, &[]).as_bytes());
        let answer = client.answer("GET").unwrap();
        assert!(!answer.text().contains(SECRET), "{target}");
    }
    let absolute = request("GET", &format!("http://a.example{}", crate::DEMO), &[]);
    let mut client = connect(&server);
    client.send(absolute.as_bytes());
    assert_eq!(client.answer("GET").unwrap().status, 200);
}

#[test]
fn no_path_of_an_http2_request_leads_out_either() {
    let (_mirrored, server, paths) = mirror_with_secrets();
    let mut client = Http2::connect(&server);
    for path in paths.iter().step_by(5) {
        let (status, body) = client.get(path.as_bytes());
        assert!(matches!(status, 400 | 404), "{path}: {status}");
        assert!(!String::from_utf8_lossy(&body).contains(SECRET), "{path}");
    }
    assert_eq!(client.get(crate::DEMO.as_bytes()).0, 200);
}

#[track_caller]
fn refuse(server: &Server, client: &mut Client, request: &str) {
    client.send(request.as_bytes());
    let answer = client.answer("GET").unwrap_or_else(|| panic!("no answer: {request}"));
    assert!(matches!(answer.status, 400 | 404), "{}: {request}", answer.status);
    assert!(!answer.text().contains(SECRET), "{request}");
    if answer.header("connection") == Some("close") {
        *client = connect(server);
    }
}
