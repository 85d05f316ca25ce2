//! What a page's events tell: whether it is loading, what it asked for, what went wrong.

use std::collections::HashMap;

use serde_json::Value;

/// What a page's events came to.
#[derive(Default)]
pub(super) struct Heard {
    /// The page's own frame; others are parts of it.
    pub(super) frame: String,
    /// Whether a navigation has begun and not ended.
    pub(super) loading: bool,
    /// The loader of the document that was loaded last.
    pub(super) loaded: String,
    pub(super) requests: Vec<String>,
    pub(super) problems: Vec<String>,
    /// The URLs by request.
    urls: HashMap<String, String>,
}

impl Heard {
    pub(super) fn take(&mut self, message: &Value) {
        let said = &message["params"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mine = said["frameId"] == self.frame.as_str();
        match message["method"].as_str().unwrap_or_default() {
            "Page.frameRequestedNavigation" if mine && said["disposition"] == "currentTab" => self.loading = true,
            "Page.frameStartedLoading" | "Page.frameScheduledNavigation" if mine => self.loading = true,
            "Page.frameStoppedLoading" | "Page.navigatedWithinDocument" if mine => self.loading = false,
            "Page.lifecycleEvent" if mine && said["name"] == "load" => self.loaded = text(&said["loaderId"]),
            "Network.requestWillBeSent" => self.asked(text(&said["requestId"]), text(&said["request"]["url"])),
            "Network.responseReceived" if said["response"]["status"].as_u64() >= Some(400) => {
                let response = &said["response"];
                self.problems.push(format!("status {}: {}", response["status"], text(&response["url"])));
            }
            "Network.loadingFailed" if said["canceled"] != true => {
                let url = self.urls.get(&text(&said["requestId"])).map_or("", String::as_str);
                self.problems.push(format!("{}: {url}", text(&said["errorText"])));
            }
            "Runtime.consoleAPICalled" if said["type"] == "error" || said["type"] == "assert" => {
                let words = said["args"].as_array().into_iter().flatten().map(shown);
                self.problems.push(format!("console: {}", words.collect::<Vec<_>>().join(" ")));
            }
            "Runtime.exceptionThrown" => self.problems.push(format!("thrown: {}", thrown(&said["exceptionDetails"]))),
            // What it logs of the network was heard above, with its URL.
            "Log.entryAdded" if said["entry"]["level"] == "error" && said["entry"]["source"] != "network" => {
                self.problems.push(format!("{}: {}", text(&said["entry"]["source"]), text(&said["entry"]["text"])));
            }
            _ => {}
        }
    }

    fn asked(&mut self, request: String, url: String) {
        // A URL that is itself the data asks nobody.
        if !url.starts_with("data:") && !url.starts_with("blob:") {
            self.requests.push(url.clone());
        }
        self.urls.insert(request, url);
    }
}

/// A value on the console, as a person would read it.
fn shown(value: &Value) -> String {
    let text = value["description"].as_str().or(value["value"].as_str());
    text.map_or_else(|| value["value"].to_string(), str::to_owned)
}

/// What was thrown, by its first line.
pub(super) fn thrown(details: &Value) -> String {
    let text = if details["exception"].is_null() { details["text"].to_string() } else { shown(&details["exception"]) };
    text.lines().next().unwrap_or_default().to_owned()
}
