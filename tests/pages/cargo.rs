//! What the first page tells people to do makes the real cargo use the mirror.

use std::path::Path;
use std::process::Command;

use reqwest::Method;

use crate::manners::with_token;
use crate::site::Site;

/// The text of an element, as it would be copied.
fn text_of(page: &str, id: &str) -> String {
    let (_, rest) = page.split_once(&format!("id=\"{id}\">")).unwrap();
    let (text, _) = rest.split_once('<').unwrap();
    text.replace("&#34;", "\"").replace("&#38;", "&")
}

/// Fetches and searches for `leaf` with a cargo that is configured like this and has no other way out.
#[track_caller]
fn fetch(folder: &Path, config: &str, token: Option<&str>) {
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::create_dir_all(folder.join("home")).unwrap();
    std::fs::write(folder.join("home/config.toml"), config).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "").unwrap();
    let package =
        "[package]\nname = \"reader\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nleaf = \"1\"\n";
    std::fs::write(folder.join("Cargo.toml"), package).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(arguments).current_dir(folder).env("CARGO_HOME", folder.join("home"));
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(proxy, "http://127.0.0.1:9");
        }
        command.envs([("no_proxy", "127.0.0.1"), ("NO_PROXY", "127.0.0.1"), ("CARGO_NET_RETRY", "0")]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    if let Some(token) = token {
        run(&["login", "--registry", "mirror", token]);
    }
    run(&["fetch"]);
    run(&["search", "--registry", "mirror", "leaf"]);
    let lock = std::fs::read_to_string(folder.join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"leaf\""), "{lock}");
}

#[test]
fn the_configuration_of_the_first_page_works() {
    let site = Site::plain();
    fetch(&site.ferry.beside("reader"), &text_of(&site.page("/"), "config"), None);
}

#[test]
fn the_configuration_with_a_token_works() {
    let site = Site::plain();
    let (server, token) = with_token(&site.ferry);
    let site = Site { server, ..site };
    let page = site.ask(Method::GET, "/", &[("authorization", &token)]).text;
    assert_eq!(text_of(&page, "login").trim(), "cargo login --registry mirror");
    fetch(&site.ferry.beside("reader"), &text_of(&page, "config"), Some(&token));
}
