//! A real browser for tests of web pages: headless Chromium, which does what a person would.
//!
//! It is told what to do in its own protocol (the Chrome `DevTools` Protocol), as JSON messages through a pipe, so that
//! neither a driver nor a web socket comes between. All that goes wrong in a page is kept: errors on its console, what
//! was thrown, requests that failed, what its Content-Security-Policy forbade.
//!
//! ```no_run
//! use crateferry_test_support::browser::Browser;
//!
//! let browser = Browser::launch();
//! let page = browser.page();
//! page.open("http://127.0.0.1:8080/").fill("input[type=search]", "serde").press("Enter").wait_for("main li");
//! assert_eq!(page.text("h1"), "serde");
//! assert_eq!(page.problems(), [""; 0]);
//! assert_eq!(page.axe(), [""; 0]);
//! ```
//!
//! It reaches the loopback interface alone and leaves nothing behind: its profile is a temporary folder, its processes
//! are one group, and both go when the [`Browser`] is dropped.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

mod heard;
mod keys;
mod session;

use heard::Heard;
use session::{Listeners, Session, pass_on, sure};

/// How long the browser may take to answer, a page to load, a condition to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// The names that distributions give to the program.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// It has no sandbox, since it may run as root in a container, no names but `localhost`, and calls nobody by itself.
const FLAGS: [&str; 16] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--password-store=basic",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

/// The pipe is file descriptors 3 and 4 to Chromium; a shell puts there what is its standard input and output.
const SHELL: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >&2"#;

/// Where `tests/axe/fetch` puts axe-core.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/axe/axe.min.js");

/// Runs axe-core and makes a line of each place that breaks a rule. It may not fetch style sheets for a closer look.
const RUN_AXE: &str = "axe.run(document, { preload: false, resultTypes: ['violations'] }).then(({ violations }) =>
    violations.flatMap(({ id, impact, help, nodes }) => nodes.map(({ target, any, all, none }) =>
        `${id} (${impact}) at ${target}: ${help}: ${[...any, ...all, ...none].map(check => check.message).join('; ')}`)))";

/// Gives the middle of an element, and what lies over it there.
const MIDDLE: &str = "element => {
    element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
    const box = element.getClientRects()[0];
    if (!box) return { over: 'nothing, for it is not shown' };
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const top = document.elementFromPoint(x, y);
    return { x, y, over: element.contains(top) ? null : (top?.outerHTML ?? 'nothing').slice(0, 200) };
}";

/// Readies a field for typing over what is in it; a list has its entry chosen at once.
const TAKE: &str = "element => {
    element.focus();
    if (element.select) return element.select();
    element.value = TEXT;
    ['input', 'change'].forEach(name => element.dispatchEvent(new Event(name, { bubbles: true })));
}";

/// A running browser. It is killed with all its processes when this is dropped.
pub struct Browser {
    process: Child,
    folder: TempDir,
    listeners: Listeners,
    control: Mutex<Session>,
}

impl Browser {
    /// Starts a browser with a profile of its own; panics where there is none.
    #[track_caller]
    pub fn launch() -> Browser {
        let Some(program) = PROGRAMS.iter().find_map(|name| in_path(name)) else {
            panic!("there is no Chromium in PATH; on Debian: apt-get install chromium")
        };
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("sh")
            .args(["-c", SHELL, "sh"])
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .envs(["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| (name, folder.path())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let (pipe, messages) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let listeners = Listeners::default();
        let control = Session::new("", Arc::new(Mutex::new(pipe)), &listeners);
        let passed_on = listeners.clone();
        std::thread::spawn(move || pass_on(messages, &passed_on));
        let browser = Browser { process, folder, listeners, control: Mutex::new(control) };
        if let Err(error) = browser.control.lock().unwrap().call("Browser.getVersion", &json!({})) {
            let said = std::fs::read_to_string(browser.folder.path().join("stderr"));
            panic!("Chromium does not work: {error}\n{}", said.unwrap_or_default());
        }
        browser
    }

    /// The process id of the browser, which is also that of its process group.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A new empty page, that shares nothing with others: it has cookies, storage and a cache of its own.
    #[track_caller]
    pub fn page(&self) -> Page {
        let control = self.control.lock().unwrap();
        let context = control.sure("Target.createBrowserContext", &json!({}))["browserContextId"].take();
        let asked = json!({ "url": "about:blank", "browserContextId": context, "newWindow": true });
        let target = control.sure("Target.createTarget", &asked)["targetId"].take();
        let asked = json!({ "targetId": target, "flatten": true });
        let id = control.sure("Target.attachToTarget", &asked)["sessionId"].take();
        let session = Session::new(id.as_str().unwrap(), control.pipe.clone(), &self.listeners);
        // The frame that a page is has the name of its target.
        target.as_str().unwrap().clone_into(&mut session.heard.borrow_mut().frame);
        let page = Page { session, script: Cell::new(true) };
        for method in ["Page.enable", "Runtime.enable", "Network.enable", "Log.enable"] {
            page.tell(method, &json!({}));
        }
        page.tell("Page.setLifecycleEventsEnabled", &json!({ "enabled": true }));
        // Each page thinks that it is the one that is looked at, or only one at a time would show its focus.
        page.tell("Emulation.setFocusEmulationEnabled", &json!({ "enabled": true }));
        page.viewport(1280, 800, false);
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        drop(self.process.wait());
        // What was killed with it may take a moment longer to end, and write meanwhile.
        let end = Instant::now() + Duration::from_secs(2);
        while std::fs::remove_dir_all(self.folder.path()).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A page of a [`Browser`]. What is done to it waits for its effect, as far as the browser can tell; what does not work
/// out panics. Selectors are CSS selectors and mean the first element that fits.
pub struct Page {
    session: Session,
    /// Whether its scripts run.
    script: Cell<bool>,
}

impl Page {
    /// Goes to a URL and waits until all is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) -> &Self {
        let gone = self.session.sure("Page.navigate", &json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url} cannot be opened: {}", gone["errorText"]);
        // There is no loader if only the fragment is another one.
        if let Some(loader) = gone["loaderId"].as_str() {
            self.hear(&format!("{url} is loaded"), |heard| heard.loaded == loader);
        }
        self.settle()
    }

    /// What a JavaScript expression comes to; promises are awaited. Panics with what it throws.
    #[track_caller]
    pub fn eval(&self, js: &str) -> Value {
        sure(self.session.eval(js, &json!({})))
    }

    /// Clicks into the middle of an element, waits for it before and for the next page, if there is one, after. Panics
    /// if something else would get the click.
    #[track_caller]
    pub fn click(&self, selector: &str) -> &Self {
        let at = self.of(selector, MIDDLE);
        assert!(at["over"].is_null(), "{selector} cannot be clicked; at its middle is {}", at["over"]);
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let mouse = json!({ "type": kind, "x": at["x"], "y": at["y"], "button": button, "clickCount": 1 });
            self.tell("Input.dispatchMouseEvent", &mouse);
        }
        self.settle()
    }

    /// Types a text over what is in a field, or chooses a list's entry by its value.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) -> &Self {
        self.of(selector, &TAKE.replace("TEXT", &json!(text).to_string()));
        if self.of(selector, "element => 'select' in element") == json!(false) {
            return self;
        }
        if text.is_empty() { self.press("Backspace") } else { self.tell("Input.insertText", &json!({ "text": text })) }
    }

    /// Presses a key: `"Tab"`, `"Enter"`, `"Escape"`, `"ArrowDown"`, `"/"`, `"Shift+Tab"`, ... Waits for the next page,
    /// if there is one.
    #[track_caller]
    pub fn press(&self, key: &str) -> &Self {
        let mut key = keys::key(key);
        let kinds = if key["text"].is_null() { ["rawKeyDown", "keyUp"] } else { ["keyDown", "keyUp"] };
        for kind in kinds {
            key["type"] = kind.into();
            self.tell("Input.dispatchKeyEvent", &key);
        }
        self.settle()
    }

    /// The text of an element as it is shown; waits for the element.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.of(selector, "element => element.innerText.trim()").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until there is such an element.
    #[track_caller]
    pub fn wait_for(&self, selector: &str) -> &Self {
        self.wait_until(&format!("document.querySelector({}) !== null", json!(selector)))
    }

    /// Waits until a JavaScript expression is true.
    #[track_caller]
    pub fn wait_until(&self, js: &str) -> &Self {
        let end = Instant::now() + PATIENCE;
        loop {
            // An error may mean that the page is just being replaced.
            let is = self.session.eval(&format!("!!({js})"), &json!({}));
            if is == Ok(json!(true)) {
                return self;
            }
            assert!(Instant::now() < end, "it does not come to this: {js}: {is:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes the window as large as this, in CSS pixels; a mobile one is touched and heeds `<meta name="viewport">`.
    #[track_caller]
    pub fn viewport(&self, width: u32, height: u32, mobile: bool) -> &Self {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.tell("Emulation.setDeviceMetricsOverride", &size);
        self.tell("Emulation.setTouchEmulationEnabled", &json!({ "enabled": mobile }))
    }

    /// Whether the page's reader prefers dark colours.
    #[track_caller]
    pub fn dark(&self, dark: bool) -> &Self {
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.tell("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }))
    }

    /// Whether scripts run in the pages that are opened from now on. [`eval`](Page::eval) works in any case, but without
    /// timers.
    #[track_caller]
    pub fn script(&self, run: bool) -> &Self {
        self.script.set(run);
        self.tell("Emulation.setScriptExecutionDisabled", &json!({ "value": !run }))
    }

    /// Writes a picture of the whole page as a PNG file, however long the page is.
    #[track_caller]
    pub fn screenshot(&self, path: impl AsRef<Path>) -> &Self {
        let mut clip = self.session.sure("Page.getLayoutMetrics", &json!({}))["cssContentSize"].take();
        clip["scale"] = 1.into();
        let asked = json!({ "clip": clip, "captureBeyondViewport": true });
        let shot = self.session.sure("Page.captureScreenshot", &asked);
        std::fs::write(path, BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
        self
    }

    /// All that went wrong in the page since it was made, in order: a line each.
    #[track_caller]
    pub fn problems(&self) -> Vec<String> {
        self.settle().session.heard.borrow().problems.clone()
    }

    /// The URLs that the page asked for since it was made, in order. A page that names no icon asks for `/favicon.ico`, which
    /// may come after all else is loaded.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        self.settle().session.heard.borrow().requests.clone()
    }

    /// What axe-core finds wrong with the page as it is now: a line for each place, with the rule, how bad it is, the
    /// selector of the element and what is asked for. Works in any page, whatever its Content-Security-Policy, and in one
    /// without scripts.
    #[track_caller]
    pub fn axe(&self) -> Vec<String> {
        let Ok(axe) = std::fs::read_to_string(AXE) else { panic!("axe-core is not here; get it with tests/axe/fetch") };
        // In a world of its own it meets neither the page's scripts nor what the page forbids.
        let frame = self.session.heard.borrow().frame.clone();
        let world = self.session.sure("Page.createIsolatedWorld", &json!({ "frameId": frame }));
        let world = json!({ "contextId": world["executionContextId"] });
        // It wants timers, and a page that was made without scripts does not make up for them when they are let in.
        let script = self.script.get();
        self.script(true);
        let found = sure(self.session.eval(&format!("{axe};{RUN_AXE}"), &world));
        self.script(script);
        serde_json::from_value(found).unwrap()
    }

    /// What a function comes to for an element; waits for the element.
    #[track_caller]
    fn of(&self, selector: &str, function: &str) -> Value {
        self.wait_for(selector).eval(&format!("({function})(document.querySelector({}))", json!(selector)))
    }

    #[track_caller]
    fn tell(&self, method: &str, params: &Value) -> &Self {
        self.session.sure(method, params);
        self
    }

    /// Waits until what was done has taken effect: the page's own word comes after the events that it caused, and if
    /// they begin a navigation, its end is waited for.
    #[track_caller]
    fn settle(&self) -> &Self {
        for _ in 0..2 {
            drop(self.session.eval("0", &json!({})));
            self.hear("the next page is loaded", |heard| !heard.loading);
        }
        self
    }

    #[track_caller]
    fn hear(&self, what: &str, is_so: impl Fn(&Heard) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(&self.session.heard.borrow()) {
            if let Err(error) = self.session.next(end) {
                panic!("it does not come to this: {what}: {error}");
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.session.send("Page.close", &json!({}));
    }
}

/// The path of a program that PATH leads to.
fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
