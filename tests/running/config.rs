//! `crateferry.toml`, the environment and the command line: who has the last word, and what is refused.

use std::collections::BTreeMap;

use crateferry_test_support::Registry;
use serde_json::{Value, json};

use crate::common::{Ferry, Ran};

/// A mirror that is made and empty.
fn made(registry: &Registry) -> Ferry {
    let ferry = Ferry::sparse(registry);
    ferry.init();
    ferry
}

/// `crateferry VERB MIRROR ARGUMENTS` with these variables.
fn run_with(ferry: &Ferry, variables: &[(&str, &str)], verb: &str, arguments: &[&str]) -> Ran {
    let mut command = ferry.command(verb, arguments);
    command.envs(variables.iter().copied());
    ferry.start(command).wait()
}

/// `crateferry config show MIRROR ARGUMENTS` with these variables.
fn show(ferry: &Ferry, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = crate::common::program();
    command.args(["config", "show"]).arg(ferry.mirror()).args(arguments).envs(variables.iter().copied());
    ferry.start(command).wait()
}

/// What is shown, by section and key.
fn settings(ran: &Ran) -> BTreeMap<(String, String), Value> {
    let shown = ran.json();
    let text = |setting: &Value, key| setting[key].as_str().unwrap().to_owned();
    let all = shown["settings"].as_array().unwrap().iter();
    all.map(|setting| ((text(setting, "section"), text(setting, "key")), setting.clone())).collect()
}

fn of(settings: &BTreeMap<(String, String), Value>, section: &str, key: &str) -> (Value, Value) {
    let setting = &settings[&(section.to_owned(), key.to_owned())];
    (setting["value"].clone(), setting["origins"].clone())
}

/// The line of the mirror's file that begins with this, from 1.
fn line_of(ferry: &Ferry, begins: &str) -> usize {
    let text = std::fs::read_to_string(ferry.file("crateferry.toml")).unwrap();
    text.lines().position(|line| line.starts_with(begins)).unwrap() + 1
}

#[test]
fn flags_go_before_variables_before_the_file_before_the_defaults_and_each_value_tells_its_origin() {
    let registry = Registry::new();
    let ferry = made(&registry);
    ferry.configure("network", "retries = 2\nretry-max = \"2s\"\nconcurrency = 3");
    let variables = [("CRATEFERRY_RETRIES", "7"), ("CRATEFERRY_CONCURRENCY", "5"), ("CRATEFERRY_PACK_SIZE", "2 MB")];
    let shown = settings(&show(&ferry, &variables, &["--concurrency", "8", "--log-level", "warn", "--json"]).expect(0));
    let file = |line: usize| json!([{ "from": "file", "line": line }]);
    let variable = |name| json!([{ "from": "variable", "name": name }]);
    let flag = |name| json!([{ "from": "flag", "name": name }]);
    let default = || json!([{ "from": "default" }]);
    assert_eq!(of(&shown, "network", "concurrency"), (json!(8), flag("--concurrency")));
    assert_eq!(of(&shown, "network", "retries"), (json!(7), variable("CRATEFERRY_RETRIES")));
    assert_eq!(of(&shown, "network", "retry-max"), (json!("2s"), file(line_of(&ferry, "retry-max"))));
    assert_eq!(of(&shown, "network", "retry-base"), (json!("500ms"), default()));
    assert_eq!(of(&shown, "network", "proxy"), (Value::Null, default()));
    assert_eq!(of(&shown, "store", "pack-size"), (json!("2 MB"), variable("CRATEFERRY_PACK_SIZE")));
    assert_eq!(of(&shown, "log", "level"), (json!("warn"), flag("--log-level")));
    assert_eq!(of(&shown, "", "upstream"), (json!(registry.sparse_url()), file(line_of(&ferry, "upstream"))));
}

#[test]
fn what_is_shown_is_a_configuration_that_means_the_same() {
    let registry = Registry::new();
    let ferry = made(&registry);
    ferry.configure("network", "allow-hosts = [\"a.example\", \"b.example\"]\nretries = 3");
    let shown = show(&ferry, &[("CRATEFERRY_RETRY_MAX", "4s")], &[]).expect(0).stdout;
    assert!(shown.contains("# CRATEFERRY_RETRY_MAX") && shown.contains("# default"), "{shown}");
    let values = |ran: &Ran| {
        let values = settings(ran).into_iter().map(|(place, setting)| (place, setting["value"].clone()));
        values.collect::<BTreeMap<_, _>>()
    };
    let before = values(&show(&ferry, &[("CRATEFERRY_RETRY_MAX", "4s")], &["--json"]).expect(0));
    std::fs::write(ferry.file("crateferry.toml"), shown).unwrap();
    assert_eq!(values(&show(&ferry, &[], &["--json"]).expect(0)), before);
}

#[test]
fn every_setting_can_be_written_into_the_file_and_has_the_variable_that_the_manual_names() {
    let registry = Registry::new();
    let ferry = made(&registry);
    let manual = std::fs::read_to_string("docs/operating.md").unwrap();
    for (section, key) in settings(&show(&ferry, &[], &["--json"]).expect(0)).into_keys() {
        let explains = |row: &str| {
            row.starts_with("| `") && row.split('|').nth(1).is_some_and(|keys| keys.contains(&format!("`{key}`")))
        };
        assert!(manual.lines().any(explains), "the manual does not explain `{key}` of [{section}]");
        if matches!(key.as_str(), "format" | "mirror" | "role") && section.is_empty() {
            continue;
        }
        let name = match (section.as_str(), key.as_str()) {
            ("advisories" | "log" | "policy" | "wishes", key) => format!("{section}-{key}"),
            (_, "ca-files") => "ca-file".to_owned(),
            (_, key) => key.to_owned(),
        };
        let name = format!("CRATEFERRY_{}", name.to_uppercase().replace('-', "_"));
        let value = match key.as_str() {
            "keep-withdrawn" | "record-downloads" | "collect" => "true",
            "sidecars" => "index",
            "checksum-change" => "switch",
            "concurrency"
            | "connections"
            | "streams-per-connection"
            | "max-conns-per-host"
            | "max-idle-conns"
            | "retries"
            | "min-rate"
            | "keep"
            | "most"
            | "newest"
            | "newest-per-range"
            | "min-downloads" => "3",
            "format" => "json",
            "level" => "debug",
            "pack-size" | "rotate" | "size" | "incoming" => "3 MB",
            "memory" | "max-size" => "3 GB",
            "allow" | "deny" => "three,four@<2",
            "published-after" | "published-before" => "2026-03-03",
            "cool-down" => "3d",
            "licenses" => "MIT,ISC",
            "rust-version" => "1.60",
            "unknown" => "out",
            "advisories" => "any",
            key if key.contains("time") || key.contains("retry") || key.contains("window") => "3s",
            _ => "/tmp/three",
        };
        let shown = settings(&show(&ferry, &[(&name, value)], &["--json"]).expect(0));
        let (_, origins) = of(&shown, &section, &key);
        let last = origins.as_array().unwrap().last().unwrap().clone();
        assert_eq!(last, json!({ "from": "variable", "name": name }), "{section} {key}");
    }
}

#[test]
fn a_variable_counts_in_every_command() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").release("syn", "1.0.0");
    let ferry = made(&registry);
    ferry.sync(&["--crate", "serde", "syn"]).expect(0);
    // What the file says of the upstream does not count.
    let elsewhere = run_with(&ferry, &[("CRATEFERRY_UPSTREAM", "sparse+http://127.0.0.1:1/")], "status", &["--json"]);
    assert_eq!(elsewhere.expect(0).json()["upstream"]["name"], "sparse+http://127.0.0.1:1/");
    let none = [("CRATEFERRY_UPSTREAM", ""), ("CRATEFERRY_RETRIES", "")];
    let status = run_with(&ferry, &none, "status", &["--json"]).expect(0).json();
    assert_eq!(status["upstream"]["name"], registry.sparse_url(), "an empty variable is none");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_line_or_its_variable() {
    let registry = Registry::new();
    let ferry = made(&registry);
    for (name, value, said) in [
        ("CRATEFERRY_RETRIES", "often", "a whole number"),
        ("CRATEFERRY_CONNECTIONS", "9", "from 1 to 8"),
        ("CRATEFERRY_RETRY_MAX", "30", "a time like"),
        ("CRATEFERRY_PACK_SIZE", "big", "a size like"),
        ("CRATEFERRY_KEEP_WITHDRAWN", "yes", "true or false"),
        ("CRATEFERRY_LOG_LEVEL", "loud", "\"warn\""),
        ("CRATEFERRY_LOG_ROTATE", "weekly", "daily"),
    ] {
        let ran =
            run_with(&ferry, &[(name, value)], "status", &[]).expect_error(2, &format!("the variable {name} takes"));
        assert!(ran.stderr.contains(said) && ran.stderr.contains(value), "{}", ran.stderr);
    }
    // Those that only stand for an option are named too.
    run_with(&ferry, &[("CRATEFERRY_ADMIN", "../x")], "serve", &[])
        .expect_error(2, "from the variable CRATEFERRY_ADMIN");
    ferry.configure("network", "retires = 3");
    let line = format!("crateferry.toml, line {}: there is no key `retires`", line_of(&ferry, "retires"));
    for verb in ["status", "sync", "approve"] {
        ferry.run(verb, &[]).expect_error(2, &line).expect_error(2, "did you mean `retries`?");
    }
    show(&ferry, &[], &[]).expect_error(2, &line);
}

#[test]
fn secrets_are_not_shown_and_variables_that_nothing_reads_are_told() {
    let registry = Registry::new();
    let ferry = made(&registry);
    ferry.configure("network", "proxy = \"http://user:hunter2@proxy.example:3128\"");
    let variables = [
        ("CRATEFERRY_UPSTREAM", "sparse+https://user:hunter2@registry.example/index/"),
        ("CRATEFERRY_DOWNLOAD_URL", "https://host/{crate}?sig=hunter2"),
        ("CRATEFERRY_KEY_PASSWORD", "hunter2"),
        ("CRATEFERRY_RETIRES", "hunter2"),
        ("CRATEFERRY_LISTEN", "127.0.0.1:8081"),
    ];
    for format in [&[][..], &["--json"]] {
        let ran = show(&ferry, &variables, format).expect(0);
        assert!(!ran.stdout.contains("hunter2"), "{}", ran.stdout);
        for said in ["***@proxy.example:3128", "CRATEFERRY_RETRIES", "CRATEFERRY_KEY_PASSWORD", "127.0.0.1:8081"] {
            assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
        }
    }
}

#[test]
fn where_there_is_no_mirror_that_is_said() {
    let registry = Registry::new();
    let ferry = Ferry::sparse(&registry);
    show(&ferry, &[], &[]).expect_error(2, "there is no mirror in");
    assert!(!ferry.mirror().exists());
}

#[test]
fn a_mirror_is_made_with_the_flags_upstream_where_a_variable_names_another() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    let mut command = ferry.command("sync", &["--crate", "serde", "--upstream", &registry.sparse_url()]);
    command.env("CRATEFERRY_UPSTREAM", "sparse+http://127.0.0.1:1/").env("CRATEFERRY_CA_FILE", registry.ca_file());
    ferry.start(command).wait().expect(0);
    let text = std::fs::read_to_string(ferry.file("crateferry.toml")).unwrap();
    assert!(text.contains(&registry.sparse_url()) && !text.contains("127.0.0.1:1/"), "{text}");
}

/// Every answer comes on a connection of its own where none may be kept idle, and one after another if one may be open.
#[test]
fn connections_to_a_server_of_http_1_are_as_many_as_is_set() {
    let connections = |settings: &str| {
        let registry = Registry::builder().http1_only().start();
        registry.releases(12);
        let ferry = made(&registry);
        ferry.configure("network", settings);
        ferry.sync(&["--crate", "c00000", "c00001"]).expect(0);
        (registry.connections(), registry.max_in_flight())
    };
    let (kept, _) = connections("max-conns-per-host = 1");
    let (unkept, at_once) = connections("max-conns-per-host = 1\nmax-idle-conns = 0");
    assert_eq!(at_once, 1);
    assert!(unkept >= 12 && unkept > kept, "{unkept} connections, {kept} if one is kept");
    let (expired, _) = connections("max-conns-per-host = 1\nidle-timeout = \"0s\"");
    assert!(expired > kept, "{expired} connections that may not lie idle at all, {kept} if they may");
}

/// A server that takes connections and never speaks is given up after the two times together.
#[test]
fn a_server_that_never_ends_its_handshake_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = Registry::new();
    let ferry = made(&registry);
    ferry.configure("network", "retries = 0\nconnect-timeout = \"200ms\"\ntls-timeout = \"300ms\"");
    let url = format!("sparse+https://{}/index/", silent.local_addr().unwrap());
    let begun = std::time::Instant::now();
    ferry.run("sync", &["--crate", "serde", "--upstream", &url]).expect_error(3, "because");
    assert!(begun.elapsed().as_secs() < 10, "the defaults would have waited for 20 s");
}
