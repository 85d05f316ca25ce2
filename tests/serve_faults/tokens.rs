//! A mirror that wants tokens tells nothing to who has none, and no token to anybody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crateferry_test_support::sha256;

use crate::common::Server;
use crate::frames::Http2;
use crate::wire::{Answer, connect, get};
use crate::{DEMO, DEMO_INDEX, Mirrored};

const TOKEN: &str = "s3cret-t0ken-0123456789abcdef";
const OLDER: &str = "0lder-t0ken-fedcba9876543210";

fn guarded(arguments: &[&str]) -> (Mirrored, Server) {
    let mirrored = Mirrored::new();
    let tokens = mirrored.ferry.beside("tokens");
    let lines = format!("# who may read\n\nann {}\nbob {}\n", sha256(OLDER.as_bytes()), sha256(TOKEN.as_bytes()));
    std::fs::write(&tokens, lines).unwrap();
    let server = Server::start(&mirrored.ferry, &[&["--tokens", tokens.to_str().unwrap()], arguments].concat());
    (mirrored, server)
}

#[track_caller]
fn is_told_nothing(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 401, "{what}");
    assert!(answer.headers.contains(&("www-authenticate".into(), "Cargo".into())), "{what}: {:?}", answer.headers);
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert!(!answer.text().contains("demo"), "{what}");
}

#[test]
fn without_a_token_every_path_answers_alike() {
    let (mirrored, server) = guarded(&[]);
    let mut bodies = Vec::new();
    for path in [
        "/",
        "/index/config.json",
        DEMO_INDEX,
        "/index/no/th/nothing",
        DEMO,
        &mirrored.path_of("demo"),
        "/crates/demo",
        "/api/v1/crates?q=demo",
        "/api/v1/crates/demo/1.0.0/download",
        "/nothing",
        "/assets/style.css",
        "//",
        "/%ff",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
            let answer = connect(&server).ask(method, path, &[]);
            is_told_nothing(&answer, &format!("{method} {path}"));
            if method == "GET" {
                bodies.push(answer.body);
            }
        }
    }
    assert!(bodies.windows(2).all(|two| two[0] == two[1]), "an answer tells whether something is there");
    assert_eq!(Http2::connect(&server).get(DEMO.as_bytes()).0, 401);
}

#[test]
fn who_looks_with_a_browser_is_told_in_words_how_to_show_a_token() {
    let (_mirrored, server) = guarded(&[]);
    for path in ["/", "/crates/demo", DEMO_INDEX, "/nothing"] {
        let answer = get(&server, path, &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")]);
        assert_eq!((answer.status, answer.header("content-type")), (401, Some("text/html; charset=utf-8")), "{path}");
        assert!(answer.text().contains("cargo login") && answer.text().contains("as the password"), "{path}");
        assert!(
            answer.headers.iter().any(|(name, how)| name == "www-authenticate" && how.starts_with("Basic")),
            "{path}"
        );
        assert!(!answer.text().contains("demo"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[test]
fn a_wrong_token_is_no_token() {
    let (_mirrored, server) = guarded(&[]);
    let hash = sha256(TOKEN.as_bytes());
    let almost = &TOKEN[..TOKEN.len() - 1];
    for shown in [
        "",
        " ",
        "Bearer",
        "Bearer ",
        almost,
        &format!("{TOKEN}x"),
        &TOKEN.to_uppercase(),
        &hash,
        &format!("Bearer {hash}"),
        "Basic Og==",
        "bob",
        &format!("bob {hash}"),
        &format!("Digest {TOKEN}"),
        &"x".repeat(8000),
        "\u{e9}",
        &format!("{TOKEN}, {TOKEN}"),
    ] {
        is_told_nothing(&get(&server, DEMO, &[("authorization", shown)]), shown);
    }
    is_told_nothing(&get(&server, &format!("{DEMO}?token={TOKEN}"), &[("cookie", TOKEN)]), "elsewhere");
}

#[test]
fn a_right_token_opens_everything_in_each_form_that_clients_use() {
    let (_mirrored, server) = guarded(&[]);
    for shown in [TOKEN, OLDER, &format!("Bearer {TOKEN}"), &format!("Basic {}", BASE64.encode(format!("x:{TOKEN}")))] {
        let ask = |path| get(&server, path, &[("authorization", shown)]);
        assert_eq!([ask(DEMO).status, ask(DEMO_INDEX).status], [200, 200], "{shown}");
        assert!(ask("/index/config.json").text().contains("\"auth-required\":true"));
    }
}

#[test]
fn no_token_gets_into_the_log() {
    for format in ["text", "json"] {
        let (_mirrored, server) = guarded(&["--log-level", "trace", "--log-format", format]);
        for shown in
            [TOKEN, &format!("Bearer {TOKEN}"), &format!("{TOKEN}-wrong"), &format!("Basic {}", BASE64.encode(TOKEN))]
        {
            get(&server, DEMO, &[("authorization", shown)]);
        }
        connect(&server).send(format!("GET {DEMO} HTTP/1.1\r\nauthorization: {TOKEN}\r\n bad\r\n\r\n").as_bytes());
        get(&server, &format!("{DEMO}?token={TOKEN}"), &[]);
        get(&server, "/last", &[]);
        server.wait_for_log("/last");
        let log = server.log();
        for told in [TOKEN, &sha256(TOKEN.as_bytes()), &BASE64.encode(TOKEN)] {
            assert!(!log.contains(told), "{told} in {log}");
        }
    }
}

#[test]
fn a_token_that_is_taken_back_stops_working_and_a_broken_file_changes_nothing() {
    let (mirrored, server) = guarded(&[]);
    let tokens = mirrored.ferry.beside("tokens");
    let status = |token| get(&server, DEMO, &[("authorization", token)]).status;
    std::fs::write(&tokens, "this is no list of tokens\n").unwrap();
    server.wait_for_log("the old tokens stay valid");
    assert_eq!(status(TOKEN), 200);
    std::fs::write(&tokens, format!("ann {}\n", sha256(OLDER.as_bytes()))).unwrap();
    crate::common::wait_until("the token is taken back", || status(TOKEN) == 401);
    assert_eq!(status(OLDER), 200);
}
