//! A mirror in which everything occurs that a page can show, and a server of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crateferry_store::{Batch, Event, Mirror, Release as Id, ReleaseId, Sha256, StoreLimits, SystemDisk, wait};
use crateferry_test_support::{Dep, Fault, Registry, Release};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::json;

use crate::common::{Ferry, Server};

/// What somebody might write where others will read it.
pub const HOSTILE: &str = "<script>alert(\"1\")</script> & \u{1b}[31m\u{202e}\u{0}";
/// What a page makes of it.
pub const HARMLESS: &str = "&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62; &#38; \\u{1b}[31m\\u{202e}\\u{0}";

/// A mirror and its server.
pub struct Site {
    pub registry: Registry,
    pub ferry: Ferry,
    pub server: Server,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Site {
    /// A mirror in good order.
    pub fn plain() -> Site {
        let registry = crates();
        Site::of(registry, &["serde", "leaf", "plus", "two_words"], 0, &[])
    }

    /// A mirror to which everything happened.
    pub fn troubled() -> Site {
        let registry = crates();
        registry.release("kept", "1.0.0");
        registry.release("broken", "1.0.0").fault("broken", "1.0.0", Fault::status(404));
        let doomed: Vec<String> = (0..12).map(|patch| format!("1.0.{patch}")).collect();
        for version in &doomed {
            registry.release("doomed", version);
        }
        let names = ["serde", "leaf", "plus", "two_words", "broken", "doomed", "kept"];
        let ferry = mirror(&registry, &names, 1);
        registry.republish("leaf", "1.0.0", b"other");
        registry.raw_index_rows("tw/o_/two_words", b"{\"name\":\"<b>\",\"vers\":\"1.0.0\",\"cksum\":\"\"}\n");
        for version in &doomed {
            registry.delete("doomed", version);
        }
        ferry.sync(&[]).expect(1);
        lack(&ferry);
        ferry.sync(&[]).expect(1);
        let server = Server::start(&ferry, &[]);
        Site { registry, ferry, server }
    }

    /// Mirrors crates of a registry and serves them.
    pub fn of(registry: Registry, names: &[&str], code: i32, arguments: &[&str]) -> Site {
        let ferry = mirror(&registry, names, code);
        let server = Server::start(&ferry, arguments);
        Site { registry, ferry, server }
    }

    pub fn sync(&self, code: i32) {
        self.ferry.sync(&[]).expect(code);
    }

    /// Asks for a page as a browser does.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")])
    }

    /// The text of a page that is there.
    #[track_caller]
    pub fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }

    /// Asks whatever a test wants to.
    #[track_caller]
    pub fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let request =
                headers.iter().fold(client.request(method, self.server.url(path)), |request, (name, value)| {
                    request.header(*name, *value)
                });
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Answer { status, headers, text: response.text().await.unwrap() }
        })
    }

    /// Tells of a sync, as one does that runs.
    pub fn tell(&self, stored: u64) {
        let now = now();
        let stage = |name: &str, queued: u64| json!({ "name": name, "in_hand": 3, "at_once": 8, "queued": queued, "queue": 64 });
        let status = json!({
            "pid": 4711, "version": "0.1.0", "started_at": now - 65, "updated_at": now, "phase": "fetch",
            "total": 4000, "processed": stored + 2, "ok": stored, "errors": 2, "retries": 7, "bytes": stored * 30_000,
            "uptime_sec": 65, "rate_per_sec": 61.25, "bytes_per_sec": 1_840_000.0, "left_sec": 125,
            "stages": [stage("fetch", 12), stage("verify", 0), stage("store", 64)],
        });
        self.write_run(&status.to_string());
    }

    /// Writes what a sync would tell.
    pub fn write_run(&self, text: &str) {
        let new = self.ferry.file("log/run.json.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.ferry.file("log/run.json")).unwrap();
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Every page of a site.
pub const PAGES: [&str; 14] = [
    "/",
    "/search",
    "/search?q=serde",
    "/search?q=nothing-like-it",
    "/crates/serde",
    "/crates/serde?version=1.1.0",
    "/holes",
    "/holes?show=deletions",
    "/holes?show=alarms",
    "/holes?show=reports",
    "/generations",
    "/generations/1",
    "/progress",
    "/plan",
];

/// Pages that say that there is nothing.
pub const LACKING: [&str; 4] =
    ["/crates/nothing-like-it", "/crates/serde?version=9.9.9", "/generations/99", "/no/such/page"];

fn mirror(registry: &Registry, names: &[&str], code: i32) -> Ferry {
    let ferry = Ferry::sparse(registry);
    ferry.sync(&[&["--include-yanked", "--crate"], names].concat()).expect(code);
    assert!(matches!(ferry.run("plan", &["--prove"]).code, Some(0 | 1)));
    ferry
}

fn crates() -> Registry {
    let registry = Registry::new();
    let renamed = Dep { name: "renamed".into(), package: Some("two_words".into()), ..Dep::on("", "^0.3") };
    let windows = Dep { target: Some("cfg(windows)".into()), ..Dep::optional("leaf", "^1") };
    let features = [("default", vec!["std"]), ("std", vec![]), ("rc", vec!["std", "leaf/x"])];
    let features: BTreeMap<_, _> =
        features.map(|(name, brings)| (name.into(), brings.into_iter().map(Into::into).collect())).into();
    let rich = Release {
        deps: vec![Dep::on("leaf", "^1.0"), renamed, windows, Dep::build("cc", "^1.0.79"), Dep::dev("trybuild", "^1")],
        features,
        features2: Some([("derive".into(), vec!["dep:leaf".into()])].into()),
        v: Some(2),
        rust_version: Some("1.56".into()),
        pubtime: Some("2026-07-31T23:59:58Z".into()),
        ..Release::default()
    };
    registry
        .release("serde", "1.0.0")
        .release("serde", "1.0.9")
        .release_with("serde", "1.0.10", rich)
        .release_with("serde", "1.1.0", Release { yanked: true, ..Release::default() })
        .release("serde", "2.0.0-rc.1")
        .release("leaf", "1.0.0")
        .release("plus", "1.0.0+build.7")
        .release("two_words", "0.3.0");
    registry
}

/// Lets releases be lacking for reasons that somebody made up.
fn lack(ferry: &Ferry) {
    let mirror = Mirror::open(&ferry.mirror(), StoreLimits::default(), Arc::new(SystemDisk)).unwrap();
    let writer = mirror.writer().unwrap();
    let (at, checksum) = (now(), Sha256::of(b"lacking"));
    let mut batch = Batch::default();
    for (version, number) in (0..250).map(|number| (format!("1.0.{number}"), number)) {
        let id = ReleaseId { name: "lacking".parse().unwrap(), version: version.parse().unwrap() };
        batch.add(Event::Wanted { name: id.name.clone(), releases: vec![(id.version.clone(), checksum)], at });
        let release = Id { id, checksum }.into();
        batch.add(match number {
            0 => Event::Refused { release, reason: HOSTILE.to_owned(), at },
            _ => Event::Tried { release, reason: "status 404".to_owned(), at, due: at + 100_000 },
        });
    }
    wait(writer.submit(batch)).unwrap();
}
