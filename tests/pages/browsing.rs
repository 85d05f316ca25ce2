//! The pages in a real browser: what a reader sees, hears and does.

use crateferry_test_support::browser::{Browser, Page};

use crate::site::{LACKING, PAGES, Site};

const DESKTOP: (u32, u32, bool) = (1280, 900, false);
const PHONE: (u32, u32, bool) = (360, 740, true);

/// What is wrong with a page as it stands there.
fn faults(page: &Page, site: &Site, path: &str) -> Vec<String> {
    let mut faults = page.axe();
    // Without scripts this is how progress moves; it is not there with them.
    faults.retain(|fault| path != "/progress" || !fault.starts_with("meta-refresh "));
    if page.eval("document.documentElement.scrollWidth > document.documentElement.clientWidth") == true {
        faults.push("the page is wider than the window".to_owned());
    }
    let elsewhere = page.requests().into_iter().filter(|url| !url.starts_with(site.server.base()));
    faults.extend(elsewhere.map(|url| format!("asks {url}")));
    let expected = format!("status 404: {}", site.server.url(path));
    faults.extend(page.problems().into_iter().filter(|problem| *problem != expected || !LACKING.contains(&path)));
    faults.iter().map(|fault| format!("{path}: {fault}")).collect()
}

/// Looks at every page of a site in one way.
fn look(site: &Site, (width, height, mobile): (u32, u32, bool), dark: bool, script: bool) {
    let browser = Browser::launch();
    let mut found = Vec::new();
    for path in PAGES.iter().chain(&LACKING) {
        let page = browser.page();
        site.tell(1500);
        page.viewport(width, height, mobile).dark(dark).script(script).open(&site.server.url(path));
        if let Some(folder) = std::env::var_os("CRATEFERRY_SHOTS") {
            let name = path.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
            let name =
                format!("{name}-{width}{}{}.png", if dark { "-dark" } else { "" }, if script { "" } else { "-plain" });
            page.screenshot(std::path::Path::new(&folder).join(name));
        }
        found.extend(faults(&page, site, path));
    }
    assert_eq!(found, [""; 0], "{}", found.join("\n"));
}

#[test]
fn every_page_is_in_order_on_a_desk_and_on_a_phone_by_day_and_by_night() {
    let site = Site::troubled();
    for dark in [false, true] {
        look(&site, DESKTOP, dark, true);
        look(&site, PHONE, dark, true);
    }
}

#[test]
fn every_page_is_in_order_without_scripts() {
    let site = Site::troubled();
    look(&site, DESKTOP, false, false);
    look(&site, PHONE, true, false);
}

#[test]
fn a_copy_button_copies_and_is_not_there_without_scripts() {
    let site = Site::plain();
    let browser = Browser::launch();
    let page = browser.page();
    page.script(false).open(&site.server.url("/"));
    assert_eq!(
        page.eval("[...document.querySelectorAll('.copy')].filter(button => button.checkVisibility()).length"),
        0
    );
    assert_eq!(page.eval("document.querySelectorAll('.copy').length"), 2);

    // With the clipboard of today, and without it, as on a plain address in a network of one's own.
    for prepare in ["1", "delete Navigator.prototype.clipboard"] {
        let page = browser.page();
        page.open(&site.server.url("/crates/serde")).eval(prepare);
        page.eval(
            "document.addEventListener('copy', () => copied = getSelection().toString());
             if (navigator.clipboard) navigator.clipboard.writeText = async text => { copied = text };
             copied = ''",
        );
        page.click("[data-copy=add]").wait_until("copied !== ''");
        assert_eq!(page.eval("copied.trim()"), "cargo add serde@1.0.10", "{prepare}");
        page.wait_until("document.querySelector('[data-copy=add]').textContent.startsWith('Copied')");
        assert_eq!(page.eval("said.textContent"), "Copied", "it is said to who cannot see it");
        page.click("[data-copy=checksum]");
        page.wait_until(&format!("copied.trim() === '{}'", site.registry.checksum("serde", "1.0.10")));
        assert_eq!(page.problems(), [""; 0]);
    }
}

#[test]
fn the_keyboard_reaches_the_content_and_the_search() {
    let site = Site::plain();
    let browser = Browser::launch();
    let page = browser.page();
    page.open(&site.server.url("/holes")).press("Tab");
    assert_eq!(page.eval("document.activeElement.textContent"), "Skip to content");
    assert_eq!(page.eval("document.activeElement.getBoundingClientRect().left >= 0"), true, "it is seen");
    page.press("Enter");
    assert_eq!(page.eval("document.activeElement.id"), "main");

    page.open(&site.server.url("/holes"));
    for _ in 0..20 {
        if page.press("Tab").eval("document.activeElement.id") == "q" {
            break;
        }
        let seen = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        assert_eq!(page.eval(seen), true, "who uses the keyboard sees where it is");
    }
    for key in ["s", "e", "r", "Enter"] {
        page.press(key);
    }
    assert_eq!(page.text("h1"), "Search for ser");
    page.click(".results a");
    assert_eq!(page.text("h1"), "serde 1.0.10");
    assert_eq!(page.problems(), [""; 0]);
}

#[test]
fn progress_moves_by_itself_and_says_when_a_sync_begins_and_ends() {
    let site = Site::plain();
    let browser = Browser::launch();
    let page = browser.page();
    page.open(&site.server.url("/progress"));
    assert_eq!(page.text("#now .lead"), "No sync is running.");
    for stored in [500, 1500] {
        site.tell(stored);
        page.wait_until(&format!("document.querySelector('progress')?.value === {}", stored + 2));
    }
    assert_eq!(page.eval("said.textContent"), "Fetching crate files");
    assert_eq!(page.eval("document.querySelectorAll('meter').length"), 6);
    assert_eq!(page.axe(), [""; 0]);
    std::fs::remove_file(site.ferry.file("log/run.json")).unwrap();
    page.wait_until("said.textContent === 'No sync is running'");
    assert_eq!(page.problems(), [""; 0]);
    let asked = page.requests().iter().filter(|url| url.ends_with("/progress")).count();
    assert_eq!(asked, 1, "the page itself is not asked for again");
}
