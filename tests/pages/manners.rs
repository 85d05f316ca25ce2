//! How the pages are sent: headers, methods, what is cached, who gets what.

use reqwest::Method;

use crate::common::{Ferry, Server};
use crate::site::{LACKING, PAGES, Site};

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[test]
fn every_page_is_sent_with_care_and_asks_only_this_server() {
    let site = Site::plain();
    for path in PAGES.iter().chain(&LACKING) {
        let answer = site.get(path);
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
        assert_eq!(answer.header("content-security-policy"), POLICY, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cache-control"), if *path == "/" { "no-store" } else { "no-cache" }, "{path}");
        let links =
            answer.text.split(['"', ' ']).filter(|text| text.starts_with("http") && !text.starts_with("http-equiv"));
        assert!(
            links.clone().all(|link| link.starts_with(site.server.base())),
            "{path}: {:?}",
            links.collect::<Vec<_>>()
        );
        let head = site.ask(Method::HEAD, path, &[("accept", "text/html")]);
        assert_eq!((head.status, head.text.as_str()), (answer.status, ""), "{path}");
        assert_eq!(head.header("content-security-policy"), POLICY, "{path}");
    }
    assert_eq!(site.ask(Method::POST, "/", &[]).status, 405);
}

#[test]
fn what_a_page_is_made_of_may_be_kept_for_ever() {
    let site = Site::plain();
    let page = site.page("/crates/serde");
    let assets: Vec<&str> = page.split('"').filter(|text| text.contains("/assets/")).collect();
    assert!(assets.len() >= 3, "{assets:?}");
    for asset in assets {
        let path = asset.strip_prefix("..").expect("links are relative");
        let answer = site.get(path);
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, "public, max-age=31536000, immutable"),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let again = site.ask(Method::GET, path, &[("if-none-match", answer.header("etag"))]);
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
    }
    for path in ["/assets/0000/style.css", "/assets/style.css"] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
}

#[test]
fn who_is_no_browser_gets_json_for_what_is_not_there() {
    let site = Site::plain();
    for accept in ["*/*", "application/json", "application/json, text/html;q=0.9"] {
        let answer = site.ask(Method::GET, "/no/such/page", &[("accept", accept)]);
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/json"), "{accept}");
        assert!(answer.text.starts_with("{\"errors\":[{\"detail\":"), "{}", answer.text);
    }
    let deep = format!("/{}", "/".repeat(5000));
    assert!(site.get(&deep).text.contains("<link rel=\"stylesheet\" href=\"/assets/"));
}

#[test]
fn a_url_that_the_operator_gave_is_shown_and_may_be_cached() {
    let site = Site::plain();
    let server = Server::start(&site.ferry, &["--public-url", "https://mirror.example/crates"]);
    let site = Site { server, ..site };
    let answer = site.ask(Method::GET, "/", &[("host", "evil.example")]);
    assert!(answer.text.contains("sparse+https://mirror.example/crates/index/"), "{}", answer.text);
    assert!(!answer.text.contains("evil"));
    assert_eq!(answer.header("cache-control"), "no-cache");
}

#[test]
fn a_host_that_is_none_is_not_shown() {
    let site = Site::plain();
    let answer = site.ask(Method::GET, "/", &[("host", "a\"><script>")]);
    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("--public-url") && !answer.text.contains("sparse+"), "{}", answer.text);
}

#[test]
fn with_tokens_pages_are_for_those_who_have_one() {
    let site = Site::plain();
    let (server, token) = with_token(&site.ferry);
    let site = Site { server, ..site };
    assert_eq!(site.get("/").status, 401);
    let answer = site.ask(Method::GET, "/", &[("authorization", &token)]);
    assert_eq!(answer.status, 200);
    for words in ["[registries.mirror]", "credential-provider", "cargo login --registry mirror"] {
        assert!(answer.text.contains(words), "{words}: {}", answer.text);
    }
}

/// A server that wants a token, and one that it takes.
pub fn with_token(ferry: &Ferry) -> (Server, String) {
    let file = ferry.beside("tokens").display().to_string();
    let added = crate::common::program().args(["token", "add", &file, "tester"]).output().unwrap();
    let token = String::from_utf8(added.stdout).unwrap().split_whitespace().last().unwrap().to_owned();
    (Server::start(ferry, &["--tokens", &file]), token)
}
