//! The feeds of generations: what they tell, and that others can read them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crateferry_test_support::Registry;
use reqwest::Method;
use serde_json::Value;

use crate::common::Server;
use crate::common::gap::Gap;
use crate::site::Site;

/// Reads an Atom feed with Python's XML parser, and says what it found as JSON.
const READ_ATOM: &str = r#"
import json, sys, xml.etree.ElementTree as tree
a = "{http://www.w3.org/2005/Atom}"
feed = tree.fromstring(sys.stdin.buffer.read())
assert feed.tag == a + "feed", feed.tag
text = lambda of, what: of.find(a + what).text
links = lambda of: {link.get("rel"): link.get("href") for link in of.findall(a + "link")}
entries = [{"id": text(e, "id"), "title": text(e, "title"), "date_published": text(e, "published"),
            "updated": text(e, "updated"), "url": links(e)["alternate"], "content_html": text(e, "content")}
           for e in feed.findall(a + "entry")]
print(json.dumps({"id": text(feed, "id"), "title": text(feed, "title"), "updated": text(feed, "updated"),
                  "author": feed.find(a + "author").find(a + "name").text, "links": links(feed), "items": entries}))
"#;

#[track_caller]
fn atom(text: &str) -> Value {
    let mut python =
        Command::new("python3").args(["-c", READ_ATOM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Both feeds of a site, which must tell the same.
#[track_caller]
fn both(site: &Site) -> Value {
    let json: Value = serde_json::from_str(&site.page("/feed.json")).unwrap();
    let atom = atom(&site.page("/feed.xml"));
    assert_eq!((&json["version"], &json["title"]), (&"https://jsonfeed.org/version/1.1".into(), &atom["title"]));
    let (items, entries) = (json["items"].as_array().unwrap(), atom["items"].as_array().unwrap());
    assert_eq!(items.len(), entries.len());
    for (item, entry) in items.iter().zip(entries) {
        for field in ["id", "title", "url", "date_published", "content_html"] {
            assert_eq!(item[field].as_str().map(str::trim), entry[field].as_str().map(str::trim), "{field}");
        }
        assert_eq!(entry["updated"], entry["date_published"]);
    }
    json
}

fn titles(feed: &Value) -> Vec<&str> {
    feed["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap()).collect()
}

#[test]
fn each_generation_tells_what_it_brought() {
    let site = Site::plain();
    let (registry, mirror) = (&site.registry, site.ferry.status()["mirror_id"].as_str().unwrap().to_owned());
    registry.yank("serde", "1.0.9").unyank("serde", "1.1.0").release("leaf", "1.0.1").release("leaf", "1.1.0");
    site.sync(0);
    registry.delete("serde", "1.0.0");
    site.sync(0);
    site.server.wait_for_log("generation=3");
    let feed = both(&site);
    assert_eq!(
        titles(&feed),
        [
            "Generation 3: 1 withdrawn",
            "Generation 2: 2 new releases, 1 yanked, 1 no longer yanked",
            "Generation 1: 8 new releases",
        ]
    );
    let second = &feed["items"][1];
    assert_eq!(second["id"], format!("crateferry:{mirror}:0:2"));
    assert_eq!(second["url"], site.server.url("/generations/2"));
    let html = second["content_html"].as_str().unwrap();
    for told in ["New: 2", "<li>leaf 1.0.1, 1.1.0</li>", "Yanked: 1", "<li>serde 1.0.9</li>", "<li>serde 1.1.0</li>"] {
        assert!(html.contains(told), "{told:?} is not in {html}");
    }
    assert!(feed["items"][0]["content_html"].as_str().unwrap().contains(&site.ferry.digest()));
    let page = site.page("/crates/serde");
    assert!(page.contains("type=\"application/atom+xml\"") && page.contains("href=\"../feed.json\""), "{page}");

    // A catalog that is derived again tells the same of all of them.
    std::fs::remove_file(site.ferry.file("catalog.redb")).unwrap();
    site.ferry.run("rebuild", &[]).expect(0);
    let again = Server::start(&site.ferry, &[]);
    let again = Site { server: again, ..site };
    assert_eq!(titles(&both(&again)), titles(&feed));
}

#[test]
fn a_feed_that_did_not_change_is_not_sent_again() {
    let site = Site::plain();
    for (path, kind) in [("/feed.json", "application/feed+json"), ("/feed.xml", "application/atom+xml")] {
        let first = site.get(path);
        assert_eq!((first.status, first.header("content-type"), first.header("vary")), (200, kind, ""));
        assert_eq!(first.header("cache-control"), "private, no-cache", "its links have the name that was asked for");
        let tag = first.header("etag").to_owned();
        let again = site.ask(Method::GET, path, &[("if-none-match", &tag)]);
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", &*tag));
        let head = site.ask(Method::HEAD, path, &[]);
        assert_eq!((head.status, head.header("etag"), head.text.as_str()), (200, &*tag, ""));
        site.registry.release("leaf", if kind.contains("json") { "3.0.0" } else { "3.0.1" });
        site.sync(0);
        crate::common::wait_until("the next generation is told of", || site.get(path).header("etag") != tag);
        assert_eq!(site.ask(Method::GET, path, &[("if-none-match", &tag)]).status, 200);
    }
}

#[test]
fn long_lists_are_cut_and_counted() {
    let registry = Registry::new();
    for patch in 0..140 {
        registry.release("many", &format!("1.0.{patch}"));
    }
    let site = Site::of(registry, &["many"], 0, &["--public-url", "https://mirror.example/x"]);
    for round in 0..51 {
        site.registry.release("many", &format!("2.0.{round}"));
        site.sync(0);
    }
    site.server.wait_for_log("generation=52");
    let feed = both(&site);
    assert_eq!(feed["items"].as_array().unwrap().len(), 50, "the last 50 of 52");
    assert_eq!(feed["items"][0]["url"], "https://mirror.example/x/generations/52");
    assert_eq!(feed["items"][49]["title"], "Generation 3: 1 new release");
    assert_eq!(site.get("/feed.xml").header("cache-control"), "public, no-cache");

    let registry = Registry::new();
    for patch in 0..140 {
        registry.release("many", &format!("1.0.{patch}"));
    }
    let site = Site::of(registry, &["many"], 0, &[]);
    let html = both(&site)["items"][0]["content_html"].to_string();
    assert!(html.contains("New: 140") && html.contains("and 40 more"), "{html}");
}

#[test]
fn a_replica_tells_the_same_under_the_same_ids() {
    let gap = Gap::new();
    let (bundle, _) = gap.create("first", &["--full"]);
    gap.apply("far", &bundle).expect(0);
    let ids = |feed: &str| {
        let feed: Value = serde_json::from_str(feed).unwrap();
        feed["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
    };
    let mine = Server::start(&gap.origin, &[]);
    let far = gap.serve("far");
    let (mine, theirs) = (fetch(&mine, "/feed.json"), fetch(&far, "/feed.json"));
    assert_eq!(ids(&mine), ids(&theirs));
    atom(&fetch(&far, "/feed.xml"));
}

fn fetch(server: &Server, path: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(server.url(path)).send().await.unwrap().text().await.unwrap()
    })
}
