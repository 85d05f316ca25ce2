//! What the pages say.

use crateferry_test_support::{Fault, Registry, Release};

use crate::common::wait_until;
use crate::site::{HARMLESS, PAGES, Site};

/// The text of a page without its tags and with single spaces.
fn words(page: &str) -> String {
    let (_, main) = page.split_once("<main").unwrap();
    let (main, _) = main.split_once("</main>").unwrap();
    let text =
        main.split('<').map(|part| part.split_once('>').map_or("", |(_, text)| text)).collect::<Vec<_>>().join(" ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(page: &str, what: &[&str]) {
    let words = words(page);
    for what in what {
        assert!(words.contains(what), "{what:?} is not said: {words}");
    }
}

#[track_caller]
fn says_not(page: &str, what: &[&str]) {
    let words = words(page);
    for what in what {
        assert!(!words.contains(what), "{what:?} is said: {words}");
    }
}

/// The places in a text at which these stand, which must be in this order.
#[track_caller]
fn in_order(page: &str, parts: &[&str]) {
    let mut rest = page;
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { panic!("{part:?} does not follow in {page}") };
        rest = behind;
    }
}

#[test]
fn the_first_page_says_what_is_served_and_how_it_is() {
    let site = Site::plain();
    let page = site.page("/");
    let digest = site.ferry.digest();
    says(
        &page,
        &["4 crates", "8 releases", "kB of crate files", "Generation 1", "Epoch 0", "Nothing is lacking", &digest],
    );
    says(
        &page,
        &[
            "replace-with = \"mirror\"",
            &format!("[registries.mirror] index = \"sparse+{}/index/\"", site.server.base()),
        ],
    );
    says_not(&page, &["credential-provider", "cargo login", "A sync is running"]);
}

#[test]
fn the_first_page_of_a_troubled_mirror_says_what_to_look_at() {
    let site = Site::troubled();
    let page = site.page("/");
    says(
        &page,
        &[
            "251 releases are wanted and lacking",
            "12 deletions wait for the operator",
            "1 release changed its checksum",
        ],
    );
    says(&page, &["1 part of the upstream’s index cannot be used"]);
    says_not(&page, &["Nothing is lacking"]);
    site.tell(10);
    says(&site.page("/"), &["A sync is running"]);
}

#[test]
fn a_mirror_without_a_generation_says_what_fills_it() {
    let registry = Registry::new();
    let ferry = crate::common::Ferry::sparse(&registry);
    ferry.init();
    let server = crate::common::Server::start(&ferry, &[]);
    let site = Site { registry, ferry, server };
    says(&site.page("/"), &["Nothing is published here yet", "crateferry sync MIRROR"]);
    for path in ["/search", "/holes", "/generations", "/progress"] {
        site.page(path);
    }
}

#[test]
fn the_last_plan_is_a_page_that_the_progress_leads_to() {
    let registry = Registry::new();
    let dated = |month: &str| Release { pubtime: Some(format!("{month}-03T00:00:00Z")), ..Release::default() };
    registry.release_with("json", "1.0.0", dated("2025-11")).release_with("json", "1.0.1", dated("2026-01"));
    let needy = Release { deps: vec![crateferry_test_support::Dep::on("absent", "^1")], ..dated("2026-01") };
    registry.release_with("json", "1.0.2", needy);
    let ferry = crate::common::Ferry::sparse(&registry);
    ferry.sync(&["--crate", "json"]).expect(0);
    let server = crate::common::Server::start(&ferry, &[]);
    let site = Site { registry, ferry, server };
    assert!(!site.page("/progress").contains("The last plan"));
    assert_eq!(site.get("/plan").status, 404);
    site.registry.release_with("json", "1.1.0", dated("2026-02"));
    site.ferry.run("plan", &["--prove"]).expect(1);
    says(&site.page("/progress"), &["The last plan was made less than a minute ago"]);
    let page = site.page("/plan");
    in_order(&page, &["1 release: 1 new, 0 waiting", "download", "are free", "not proven", "1 of 4 releases"]);
    in_order(&page, &["json 1.0.2 needs absent ^1", "2026-02", "2026-01", "value=\"2\"", "2025-11"]);
}

#[test]
fn a_search_shows_the_exact_name_first_and_the_newest_version() {
    let registry = Registry::new();
    registry.release("json", "2.0.0").release("my-json", "1.0.0").release("json_more", "0.1.0");
    registry.release_with("json", "2.0.1", Release { yanked: true, ..Release::default() });
    let site = Site::of(registry, &["json", "my-json", "json_more"], 0, &[]);
    let page = site.page("/search?q=JSON");
    in_order(&page, &[">json</a>", "2.0.0", "2 releases", ">json_more</a>", ">my-json</a>", "1.0.0"]);
    says(&page, &["3 crates"]);
    assert!(site.page("/search?q=json-more").contains("crates/json_more\""));
    says(&site.page("/search?q=toml"), &["No crate of this mirror fits", "crateferry sync MIRROR --crate NAME"]);
    let hostile = site.page("/search?q=%3Cscript%3E%22%00");
    assert!(hostile.contains("value=\"&#60;script&#62;&#34;\\u{0}\""), "{hostile}");
}

#[test]
fn a_long_search_comes_in_pages() {
    let registry = Registry::new();
    registry.releases(7 * 45);
    let ferry = crate::common::Ferry::git(&registry);
    ferry.sync(&["--all"]).expect(0);
    let server = crate::common::Server::start(&ferry, &[]);
    let site = Site { registry, ferry, server };
    let first = site.page("/search?q=c000");
    says(&first, &["45 crates", "1 to 20 of 45"]);
    assert!(first.contains("href=\"./search?q=c000&amp;page=2\"") && !first.contains("rel=\"prev\""), "{first}");
    let last = site.page("/search?q=c000&page=3");
    in_order(&last, &[">c00040</a>", ">c00044</a>", "page=2", "41 to 45 of 45"]);
    assert!(!last.contains("rel=\"next\""));
    assert_eq!(site.get("/search?q=c000&page=4").status, 404);
    assert_eq!(site.get("/search?q=c000&page=x").status, 400);
    assert_eq!(site.get(&format!("/search?page={}", usize::MAX)).status, 404);
}

#[test]
fn a_crate_page_shows_its_versions_as_versions() {
    let site = Site::plain();
    let page = site.page("/crates/Serde");
    says(
        &page,
        &["serde 1.0.10", "cargo add serde@1.0.10", "5 versions", "Needs Rust 1.56 or newer", "Published 2026-07-31"],
    );
    let (_, versions) = page.split_once("id=\"versions\"").unwrap();
    in_order(versions, &[">2.0.0-rc.1<", ">1.1.0<", "yanked", ">1.0.10<", "2026-07-31", ">1.0.9<", ">1.0.0<"]);
    let checksum = site.registry.checksum("serde", "1.0.10");
    assert!(page.contains(&format!("title=\"{checksum}\"")), "{page}");
    assert!(page.contains("href=\"../crates/serde/serde-1.0.10.crate\" download"));
    let size = site.registry.crate_bytes("serde", "1.0.10").len();
    says(&page, &[&format!("Download · {size} B")]);
}

#[test]
fn a_version_page_shows_what_it_needs_and_offers() {
    let site = Site::plain();
    let page = site.page("/crates/serde?version=1.0.10");
    in_order(
        &page,
        &["Dependencies", ">leaf</a>", "^1.0", ">two_words</a>", "as <code>renamed</code>", "optional", "cfg(windows)"],
    );
    in_order(
        &page,
        &["Build dependencies", "class=\"lacking\" href=\"../crates/cc\"", "^1.0.79", "not in this mirror"],
    );
    in_order(&page, &["Dev dependencies", "trybuild", "not in this mirror"]);
    in_order(&page, &[">default</code>", ">std</code>", ">derive</code>", "dep:leaf", ">rc</code>", "leaf/x"]);
    let old = site.page("/crates/serde?version=1.0.0");
    says(&old, &["Dependencies None.", "go to the newest"]);
    says_not(&old, &["Features", "Needs Rust"]);
    let yanked = site.page("/crates/serde?version=1.1.0");
    says(&yanked, &["yanked", "Its author took this version back"]);
    says_not(&yanked, &["cargo add"]);
    let plus = site.page("/crates/plus");
    says(&plus, &["cargo add plus@1.0.0 Copy"]);
    let file = "crates/plus/plus-1.0.0%2Bbuild.7.crate";
    assert!(plus.contains(&format!("href=\"../{file}\"")) && plus.contains("?version=1.0.0%2Bbuild.7"), "{plus}");
    assert_eq!(site.get(&format!("/{file}")).status, 200);
    site.page("/crates/plus?version=1.0.0%2Bbuild.7");
}

#[test]
fn what_is_not_here_is_said_with_what_it_means() {
    let site = Site::troubled();
    let answer = site.get("/crates/two-words");
    assert_eq!(answer.status, 404);
    says(
        &answer.text,
        &["two-words is not in this mirror", "crateferry sync MIRROR --crate two-words", "Similar names"],
    );
    assert!(answer.text.contains("href=\"../crates/two_words\""), "{}", answer.text);
    let broken = site.get("/crates/broken");
    assert_eq!(broken.status, 404);
    says(&broken.text, &["It is wanted here", "1.0.0", "404"]);
    let version = site.get("/crates/serde?version=9.9.9");
    assert_eq!(version.status, 404);
    says(&version.text, &["serde 9.9.9 is not in this mirror", "serde 1.0.10, the newest here"]);
    for path in ["/crates/no$name", "/crates/nul", "/crates/%ff", "/generations/99", "/generations/x", "/no/such/page"]
    {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
}

#[test]
fn holes_are_listed_with_their_reasons_in_pages() {
    let site = Site::troubled();
    let first = site.page("/holes");
    says(
        &first,
        &["Lacking 251", "Deletions held back 12", "Changed checksums 1", "Index reports 1", "1 to 200 of 251"],
    );
    says(&first, &["broken 1.0.0 missing", "refused"]);
    let second = site.page("/holes?show=holes&page=2");
    says(&second, &["201 to 251 of 251"]);
    assert!(!second.contains("rel=\"next\"") && second.contains("href=\"./holes?show=holes&amp;page=1\""));
    assert_eq!(site.get("/holes?page=3").status, 404);
    assert_eq!(site.get("/holes?show=nothing").status, 400);

    let deletions = site.page("/holes?show=deletions");
    says(&deletions, &["doomed 1.0.11", "Deletion seen", "crateferry approve MIRROR"]);
    assert!(deletions.contains("href=\"./crates/doomed?version=1.0.11\""), "{deletions}");
    let alarms = site.page("/holes?show=alarms");
    let checksum = site.registry.checksum("leaf", "1.0.0");
    in_order(&alarms, &[">leaf</a> 1.0.0", &checksum]);
    says(&site.page("/crates/leaf"), &["Upstream promises another checksum"]);
    says(&site.page("/holes?show=reports"), &["tw/o_/two_words"]);
}

#[test]
fn where_nothing_ever_leaves_no_deletion_waits() {
    let site = Site::troubled();
    let path = site.ferry.file("crateferry.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("keep-withdrawn = true\n{text}")).unwrap();
    says(&site.page("/holes?show=deletions"), &["Deletions held back 0", "There are none"]);
    says_not(&site.page("/"), &["deletions wait"]);
}

#[test]
fn what_others_wrote_is_shown_and_never_obeyed() {
    let site = Site::troubled();
    let holes = site.page("/holes?page=1") + &site.page("/holes?page=2");
    assert!(holes.contains(HARMLESS), "{holes}");
    let lacking = site.get("/crates/lacking").text;
    assert!(lacking.contains(HARMLESS), "{lacking}");
    assert!(site.page("/holes?show=reports").contains("&#60;b&#62;"));
    site.write_run(&format!(
        "{{\"pid\":1,\"version\":\"<b>\",\"started_at\":0,\"updated_at\":{},\"phase\":\"<i>\\r\\nevent: x\\n\\n\",\"total\":0,\
         \"processed\":0,\"ok\":0,\"errors\":0,\"retries\":0,\"bytes\":0,\"uptime_sec\":0,\"rate_per_sec\":-1e300,\
         \"bytes_per_sec\":1e300,\"left_sec\":null,\"stages\":[{{\"name\":\"<u>\",\"in_hand\":9,\"at_once\":0,\"queued\":5,\
         \"queue\":0}}]}}",
        crate::site::now()
    ));
    says(&site.page("/progress"), &["A sync is running", "&#60;i&#62;\\u{d}", "&#60;u&#62;", "&#60;b&#62;"]);
    for path in PAGES {
        let page = site.page(path);
        let scripts = page.matches("<script").count();
        assert_eq!((scripts, page.contains("<b>"), page.contains("<i>")), (1, false, false), "{path}: {page}");
        let unseen = |letter: char| letter.is_control() && letter != '\n';
        assert!(!page.contains(unseen), "{path}");
    }
}

#[test]
fn rows_of_unknown_form_are_counted_on_the_crate_page() {
    let registry = Registry::new();
    registry.release("odd", "1.0.0").release("odd", "1.1.0").release("odd", "1.2.0");
    let unknown = registry.row("odd", "1.1.0").replace("\"yanked\":false", "\"yanked\":false,\"rust_version\":[1]");
    let deps = registry.row("odd", "1.2.0").replace("\"deps\":[]", "\"deps\":{}");
    let rows = registry.row("odd", "1.0.0") + &unknown + &deps;
    registry.raw_index_file("3/o/odd", rows);
    let site = Site::of(registry, &["odd"], 0, &[]);
    let page = site.page("/crates/odd");
    says(&page, &["odd 1.2.0", "2 versions", "1 release more cannot be shown"]);
    says(&page, &["dependencies and features are not shown"]);
}

#[test]
fn a_crate_with_thousands_of_versions_is_shown_a_page_at_a_time() {
    let registry = Registry::new();
    let deps: Vec<_> = (0..60).map(|number| (format!("dep-{number}"), "^1")).collect();
    let deps: Vec<_> = deps.iter().map(|(name, req)| (name.as_str(), *req)).collect();
    for patch in 0..1500 {
        registry.release_with("many", &format!("1.0.{patch}"), Release::depending_on(&deps));
    }
    let site = Site::of(registry, &["many"], 0, &[]);
    let page = site.page("/crates/many");
    says(&page, &["many 1.0.1499", "1,500 versions", "1 to 100 of 1,500"]);
    assert!(page.len() < 150_000, "{} bytes", page.len());
    let old = site.page("/crates/many?version=1.0.7");
    says(&old, &["many 1.0.7", "1,401 to 1,500 of 1,500"]);
    assert!(old.contains("aria-current=\"true\">1.0.7<"), "the page of versions is the one that holds it");
    assert_eq!(site.get("/crates/many?page=16").status, 404);
}

#[test]
fn generations_are_listed_with_what_each_changed() {
    let site = Site::plain();
    site.registry.release("serde", "1.0.11").yank("plus", "1.0.0+build.7");
    site.sync(0);
    site.server.wait_for_log("generation=2");
    let list = site.page("/generations");
    in_order(&list, &["generations/2\"", "±0", "+1", "generations/1\""]);
    let second = site.page("/generations/2");
    says(&second, &["Generation 2", "served now", "9 +1", "plus", "serde", &site.ferry.digest()]);
    says_not(&second, &["leaf", "two_words"]);
    let first = site.page("/generations/1");
    says(&first, &["leaf", "plus", "serde", "two_words"]);
    says_not(&first, &["served now", "Digest before"]);
    says(&site.page("/generations?before=2"), &["1", "Newest"]);
    says(&site.page("/generations/1?after=plus"), &["serde", "First"]);
    says_not(&site.page("/generations/1?after=plus"), &["leaf"]);
    assert_eq!(site.get("/generations?before=x").status, 400);
    assert_eq!(site.get("/generations/1?after=%00").status, 400);
}

#[test]
fn progress_says_how_the_last_sync_ended() {
    let site = Site::plain();
    let page = site.page("/progress");
    says(&page, &["No sync is running", "The last sync ended", "stored 8 releases", "generation 1"]);
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\""), "{page}");
    site.tell(1998);
    let page = site.page("/progress");
    says(
        &page,
        &["Fetching crate files", "2,000 of 4,000 releases", "Stored 1,998", "Not stored 2", "Repeated requests 7"],
    );
    says(&page, &["Bytes stored 59.9 MB", "Releases a second 61.2", "Time left 2 min", "fetch 12 of 64 3 of 8"]);
    assert!(page.contains("max=\"4000\" value=\"2000\"") && page.contains("max=\"64\" value=\"12\""), "{page}");
    let told = std::fs::read_to_string(site.ferry.file("log/run.json")).unwrap();
    let mut silent: serde_json::Value = serde_json::from_str(&told).unwrap();
    silent["updated_at"] = (crate::site::now() - 11).into();
    site.write_run(&silent.to_string());
    says(&site.page("/progress"), &["No sync is running", "ended without a word"]);
}

#[test]
fn a_sync_that_runs_is_seen_by_a_server_beside_it() {
    let site = Site::plain();
    site.registry.release("serde", "1.0.11").fault("serde", "1.0.11", Fault::held());
    let running = site.ferry.start_sync(&[]);
    wait_until("the sync is seen", || site.page("/progress").contains("Fetching crate files"));
    says(&site.page("/"), &["A sync is running", "Watch it"]);
    site.registry.let_go();
    running.wait().expect(0);
    says(&site.page("/progress"), &["No sync is running", "stored 1 release"]);
}
