//! The browser that tests of web pages use: what it sees of good and bad pages, what it can do to them, how it ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use crateferry_test_support::browser::{Browser, Page};
use serde_json::json;

/// A page as it should be, under a policy that allows nothing but what it has.
const GOOD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Good</title>
<link rel="stylesheet" href="/style.css"><link rel="icon" href="data:,">
<script src="/script.js" defer></script>
<header><nav aria-label="Pages"><a id="first" href="/good">Home</a> <a id="next" href="/other">Other</a></nav></header>
<main>
<h1>Good</h1>
<noscript><p id="without">No scripts here</p></noscript>
<p id="with"></p>
<form action="/other"><label>Name <input name="q"></label>
<label>Order <select name="order"><option value="up">Up</option><option value="down">Down</option></select></label>
<button>Search</button></form>
</main>
"#;

const STYLE: &str = "
    :root { color-scheme: light dark; background: white; color: black }
    h1 { width: max-content }
    @media (prefers-color-scheme: dark) { :root { background: black; color: white } a { color: #9cf } }
    @media (max-width: 600px) { h1 { width: 100% } }";

const SCRIPT: &str = "document.getElementById('with').textContent = 'Scripts run';";

/// Another page, to go to.
const OTHER: &str = r#"<!doctype html><html lang="en"><title>Other</title><link rel="icon" href="data:,">
<main><h1>Other</h1><p id="asked"></p></main>
<script>document.getElementById('asked').textContent = location.search</script>"#;

/// A page with one mistake of each kind.
const BAD: &str = r#"<!doctype html>
<html lang="en"><title>Bad</title><link rel="icon" href="data:,">
<style>p { margin: 1em }</style>
<main><h1>Bad</h1><p id="faint" style="color: #ddd; background: #fff">Hardly to be read</p>
<input id="nameless"><img src="/gone.png" alt="Gone"><img src="http://elsewhere.test/a.png" alt="Elsewhere"></main>
<script src="/bad.js"></script>"#;

const BAD_SCRIPT: &str = "console.error('this is', 'bad', { code: 7 }); nothing.at.all();";

const STRICT: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'";
const NO_INLINE_STYLE: &str = "style-src-elem 'self'";

/// Serves the pages above on a loopback port; gives the base of their URLs.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || answer(&client));
        }
    });
    base
}

fn answer(mut client: &TcpStream) {
    let head: Vec<String> =
        BufReader::new(client).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(path) = head.first().and_then(|line| line.split([' ', '?']).nth(1)) else { return };
    let (status, kind, policy, body) = match path {
        "/good" => ("200 OK", "text/html", STRICT, GOOD),
        "/style.css" => ("200 OK", "text/css", "", STYLE),
        "/script.js" => ("200 OK", "text/javascript", "", SCRIPT),
        "/other" => ("200 OK", "text/html", "", OTHER),
        "/bad" => ("200 OK", "text/html", NO_INLINE_STYLE, BAD),
        "/bad.js" => ("200 OK", "text/javascript", "", BAD_SCRIPT),
        _ => ("404 Not Found", "text/plain", "", "not here"),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    let policy = if policy.is_empty() { String::new() } else { format!("Content-Security-Policy: {policy}\r\n") };
    drop(client.write_all(format!("{head}{policy}\r\n{body}").as_bytes()));
}

#[track_caller]
fn assert_one(lines: &[String], words: &[&str]) {
    let fits = lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(fits, 1, "lines with {words:?} among {lines:#?}");
}

/// The id of the element that has the focus.
fn focus(page: &Page) -> String {
    page.eval("document.activeElement.id").as_str().unwrap().to_owned()
}

#[test]
fn a_good_page_has_no_problem_and_asks_for_its_own_assets_alone() {
    let (base, browser) = (serve(), Browser::launch());
    let page = browser.page();
    page.open(&format!("{base}/good"));
    assert_eq!(page.text("h1"), "Good");
    assert_eq!(page.text("#with"), "Scripts run");
    assert_eq!(page.axe(), [""; 0]);
    assert_eq!(page.problems(), [""; 0]);
    assert_eq!(page.requests(), ["/good", "/style.css", "/script.js"].map(|path| format!("{base}{path}")));
}

#[test]
fn all_that_is_wrong_with_a_bad_page_is_reported() {
    let (base, browser) = (serve(), Browser::launch());
    let page = browser.page();
    page.open(&format!("{base}/bad"));
    let problems = page.problems();
    assert_one(&problems, &["console: this is bad Object"]);
    assert_one(&problems, &["thrown: ReferenceError: nothing is not defined"]);
    assert_one(&problems, &[&format!("status 404: {base}/gone.png")]);
    assert_one(&problems, &["net::ERR_NAME_NOT_RESOLVED: http://elsewhere.test/a.png"]);
    assert_one(&problems, &["Content Security Policy", NO_INLINE_STYLE]);
    assert_eq!(problems.len(), 5, "{problems:#?}");
    let axe = page.axe();
    assert_one(&axe, &["color-contrast (serious) at #faint", "1.35"]);
    assert_one(&axe, &["label (critical) at #nameless"]);
    assert_eq!(axe.len(), 2, "{axe:#?}");
    assert_eq!(page.problems(), problems, "axe adds nothing");
}

#[test]
fn forms_and_links_are_used_with_mouse_and_keyboard() {
    let (base, browser) = (serve(), Browser::launch());
    let page = browser.page();
    page.open(&format!("{base}/good")).click("#next");
    assert_eq!(page.text("h1"), "Other");
    page.open(&format!("{base}/good")).fill("input", "wrong").fill("input", "serde & co").fill("select", "down");
    page.click("button");
    assert_eq!(page.text("#asked"), "?q=serde+%26+co&order=down");
    page.open(&format!("{base}/good"))
        .fill("input", "a")
        .press("b")
        .press(".")
        .press("/")
        .press("Space")
        .press("Enter");
    assert_eq!(page.text("#asked"), "?q=ab.%2F+&order=up");
    page.open(&format!("{base}/good")).press("Tab").press("Tab");
    assert_eq!(focus(&page), "next");
    assert_eq!(page.eval("document.activeElement.matches(':focus-visible')"), true);
    page.press("Shift+Tab");
    assert_eq!(focus(&page), "first");
    page.press("Tab").press("Enter");
    assert_eq!(page.text("h1"), "Other");
    assert_eq!(page.problems(), [""; 0]);
}

#[test]
fn a_click_that_something_else_would_get_panics() {
    let (base, browser) = (serve(), Browser::launch());
    let page = browser.page();
    page.open(&format!("{base}/other"));
    page.eval("document.body.insertAdjacentHTML('beforeend', '<p id=lid style=\"position:fixed;inset:0\">Lid</p>')");
    let clicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(page.click("h1").text("h1"))));
    let said = *clicked.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("h1 cannot be clicked") && said.contains("id=\\\"lid"), "{said}");
}

#[test]
fn a_page_is_seen_in_the_dark_on_a_telephone_and_without_scripts() {
    let (base, browser) = (serve(), Browser::launch());
    let page = browser.page();
    let background = "getComputedStyle(document.documentElement).backgroundColor";
    page.open(&format!("{base}/good"));
    assert_eq!(page.eval(background), "rgb(255, 255, 255)");
    page.dark(true).viewport(375, 667, true);
    assert_eq!(page.eval(background), "rgb(0, 0, 0)");
    page.wait_until("innerWidth === 375 && document.querySelector('h1').offsetWidth > 300");
    assert_eq!(
        page.eval("[navigator.maxTouchPoints > 0, matchMedia('(pointer: coarse)').matches]"),
        json!([true, true])
    );
    page.script(false).open(&format!("{base}/good"));
    assert_eq!(page.text("#without"), "No scripts here");
    assert_eq!(page.text("#with"), "");
    assert_eq!(page.axe(), [""; 0]);
    page.click("#next");
    assert_eq!(page.text("h1"), "Other");
    page.script(true).dark(false).open(&format!("{base}/good"));
    assert_eq!(page.text("#with"), "Scripts run");
    assert_eq!(page.eval(background), "rgb(255, 255, 255)");
    assert_eq!(page.problems(), [""; 0]);
}

#[test]
fn expressions_are_awaited_and_what_they_throw_is_told() {
    let browser = Browser::launch();
    let page = browser.page();
    assert_eq!(
        page.eval("new Promise(done => setTimeout(() => done({ a: [1, null] }), 20))"),
        json!({ "a": [1, null] })
    );
    let thrown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| page.eval("no.thing")));
    let said = *thrown.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(said, "ReferenceError: no is not defined");
}

#[test]
fn a_picture_shows_the_whole_page() {
    let browser = Browser::launch();
    let page = browser.page();
    let file = tempfile::tempdir().unwrap();
    let file = file.path().join("page.png");
    page.viewport(400, 300, false).eval("document.body.innerHTML = '<div style=height:2000px>Long</div>'");
    page.screenshot(&file);
    let png = std::fs::read(file).unwrap();
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert!(png.starts_with(b"\x89PNG") && size(16) == 400 && size(20) >= 2000, "{} x {}", size(16), size(20));
}

#[test]
fn pages_share_nothing() {
    let (base, browser) = (serve(), Browser::launch());
    let (one, other) = (browser.page(), browser.page());
    one.open(&format!("{base}/good")).eval("localStorage.setItem('key', 'mine')");
    other.open(&format!("{base}/good"));
    assert_eq!(other.eval("localStorage.getItem('key')"), json!(null));
    assert_eq!(one.eval("[localStorage.getItem('key'), document.hasFocus()]"), json!(["mine", true]));
    drop(one);
    assert_eq!(other.text("h1"), "Good");
}

#[cfg(target_os = "linux")]
#[test]
fn a_dropped_browser_leaves_no_process_and_no_file() {
    let browser = Browser::launch();
    let page = browser.page();
    let profile = lines_of_processes().into_iter().find_map(|line| profile(&line, browser.id())).unwrap();
    assert!(lines_of_processes().iter().filter(|(_, line)| line.contains(&profile)).count() > 1);
    drop(browser);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while lines_of_processes().iter().any(|(_, line)| line.contains(&profile)) {
        assert!(std::time::Instant::now() < end, "{:#?}", lines_of_processes());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!std::path::Path::new(&profile).exists());
    drop(page);
}

/// The profile's folder, if this is the browser's process.
#[cfg(target_os = "linux")]
fn profile((id, line): &(u32, String), browser: u32) -> Option<String> {
    let (_, rest) = line.split_once("--user-data-dir=")?;
    (*id == browser).then(|| rest.split('\0').next().unwrap().to_owned())
}

/// All processes that have not ended, with their command lines.
#[cfg(target_os = "linux")]
fn lines_of_processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        Some((id, String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).into_owned()))
    };
    entries.filter_map(line).collect()
}
