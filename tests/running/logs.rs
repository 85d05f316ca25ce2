//! Log files: where lines go, when a file gives way to a new one, and that the work goes on when it cannot.

use std::path::{Path, PathBuf};

use crateferry_test_support::{Fault, Registry};
use serde_json::Value;

use crate::common::{Ferry, Ran, Server};
use crate::look::hasty;

/// The log file and those that it gave way to, the oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let is_log = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    let mut files: Vec<PathBuf> = entries.filter(is_log).collect();
    files.sort_by_key(|file| (file == path, file.clone()));
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A sync that logs a line for each of so many crate files that are not there.
fn noisy(registry: &Registry, ferry: &Ferry, crates: usize, arguments: &[&str]) -> Ran {
    let names: Vec<String> = (0..crates).map(|number| format!("lost{number}")).collect();
    for name in &names {
        registry.release(name, "1.0.0").fault(name, "1.0.0", Fault::status(404));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ferry.sync(&[&["--crate"], &names[..], arguments].concat())
}

#[test]
fn lines_of_a_sync_go_to_the_file_and_a_full_one_gives_way() {
    let registry = Registry::new();
    let ferry = hasty(&registry);
    let log = ferry.beside("sync.log");
    let path = log.display().to_string();
    let rotate = ["--log-file", &path, "--log-format", "json", "--log-rotate", "1 kB", "--log-keep", "3"];
    let ran = noisy(&registry, &ferry, 40, &rotate).expect(1);
    assert_eq!(ran.stderr, "", "everything is in the file");
    let files = files(&log);
    assert!((2..=4).contains(&files.len()), "{files:?}");
    for file in &files {
        let text = read(file);
        assert!(text.len() <= 1000, "{} has {} bytes", file.display(), text.len());
        text.lines().for_each(|line| assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}"));
    }
    assert_eq!(files.last(), Some(&log));
}

#[test]
fn the_mirrors_file_and_the_environment_say_where_lines_go() {
    let registry = Registry::new();
    let ferry = hasty(&registry);
    ferry.configure("log", "file = \"log/crateferry.log\"\nlevel = \"debug\"");
    assert_eq!(noisy(&registry, &ferry, 1, &[]).expect(1).stderr, "");
    let log = ferry.file("log/crateferry.log");
    assert!(read(&log).contains("not stored"), "{}", read(&log));
    let before = read(&log);
    let mut command = ferry.command("sync", &["--retry-failed"]);
    command.env("CRATEFERRY_LOG_FILE", ferry.beside("other.log"));
    assert_eq!(ferry.start(command).wait().expect(1).stderr, "");
    assert!(read(&ferry.beside("other.log")).contains("not stored"));
    assert_eq!(read(&log), before);
    ferry.run("verify", &[]).expect(0);
}

#[test]
fn a_server_writes_a_new_file_after_another_program_renamed_the_old_one() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let ferry = hasty(&registry);
    ferry.sync(&["--crate", "serde"]).expect(0);
    let (log, moved) = (ferry.beside("serve.log"), ferry.beside("moved"));
    let mut command = ferry.command("serve", &["--listen", "127.0.0.1:0", "--log-level", "debug", "--log-file"]);
    command.arg(&log);
    let running = ferry.start(command);
    let address = || {
        let line = std::fs::read_to_string(&log).ok()?;
        let (_, rest) = line.split_once("serving on http://")?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    crate::common::wait_until("it serves", || address().is_some());
    let address = address().unwrap();
    let get = |path: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    get("/first");
    crate::common::wait_until("the first request is logged", || read(&log).contains("/first"));
    std::fs::rename(&log, &moved).unwrap();
    get("/second");
    crate::common::wait_until("the second request is logged", || log.exists() && read(&log).contains("/second"));
    assert!(!read(&moved).contains("/second"));
    drop(running);
}

#[test]
fn the_oldest_files_go_while_a_server_runs() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let ferry = hasty(&registry);
    ferry.sync(&["--crate", "serde"]).expect(0);
    let log = ferry.beside("serve.log");
    let settings = format!("file = {:?}\nrotate = \"1 kB\"\nkeep = 1", log.display().to_string());
    ferry.configure("log", &settings);
    let running = Server::begin(&ferry, &["--sync-every", "50ms"]);
    crate::common::wait_until("a file gave way", || files(&log).len() == 2);
    let first = files(&log)[0].clone();
    crate::common::wait_until("it is gone, and another one is there", || !first.exists() && files(&log).len() >= 2);
    assert!(files(&log).len() <= 3, "one is kept beside the one that is written, and one may just be leaving");
    drop(running);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_log_disk_is_told_once_and_the_sync_is_complete() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let ferry = hasty(&registry);
    let ran = noisy(&registry, &ferry, 3, &["--crate", "serde", "--log-file", "/dev/full"]).expect(1);
    assert_eq!(ran.stderr.matches("the log file /dev/full fails").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.json()["held"], 1);
}

/// Whoever may only read the mirror can use it, whatever its file says of the log.
#[test]
fn a_configured_log_file_that_cannot_be_opened_is_told_and_the_command_runs() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let ferry = hasty(&registry);
    ferry.sync(&["--crate", "serde"]).expect(0);
    ferry.configure("log", "file = \"none/log\"");
    ferry.run("status", &[]).expect_error(0, "log lines go to stderr");
    let asked = ferry.run("status", &["--log-file", "/dev/null/none"]);
    asked.expect_error(3, "cannot open the log file");
}

#[test]
fn a_file_that_cannot_be_used_is_told_by_commands_that_need_none() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let ferry = hasty(&registry);
    ferry.sync(&["--crate", "serde"]).expect(0);
    ferry.configure("log", "fiel = \"log/x\"");
    ferry.run("verify", &[]).expect_error(0, "its section [log] is not used");
}
