//! A server beside other work: while another process syncs and publishes, after one was killed, on a folder that must
//! not be written, and with a catalog that is damaged or lost.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;
mod look;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Ferry, Server, chance, copy_folder, flip_bit, wait_until};
use crateferry_test_support::{Fault, Registry, index_path, sha256};
use look::{hasty, verify};
use serde_json::Value;

/// One HTTP/1.1 connection, which asks for one thing after another.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn of(server: &Server) -> Client {
        Client::at(server.address())
    }

    fn at(address: &str) -> Client {
        Client { stream: BufReader::new(TcpStream::connect(address).unwrap()) }
    }

    /// Status and body.
    fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let status = self.line().split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(number) = line.strip_prefix("content-length:") {
                length = number.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, body)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "the connection ended in {line:?}");
        line.trim_end().to_owned()
    }

    /// The rows that are served for a crate; empty if there is no such crate.
    fn rows(&mut self, name: &str) -> Vec<Row> {
        let (status, body) = self.get(&format!("/index/{}", index_path(name)));
        assert!(status == 200 || status == 404, "{name}: {status}");
        let text = if status == 200 { String::from_utf8(body).unwrap() } else { String::new() };
        assert!(text.is_empty() || text.ends_with('\n'), "{name}: {text:?}");
        text.lines().map(Row::read).collect()
    }

    /// Downloads what a row promises.
    #[track_caller]
    fn download(&mut self, row: &Row) {
        let Row { name, version, checksum } = row;
        let (status, body) = self.get(&format!("/crates/{name}/{version}/{checksum}"));
        assert_eq!((status, &sha256(&body)), (200, checksum), "{name} {version}");
    }

    /// Every row of these crates has its bytes; how many there are.
    #[track_caller]
    fn download_all(&mut self, names: &[String]) -> usize {
        let rows: Vec<Row> = names.iter().flat_map(|name| self.rows(name)).collect();
        rows.iter().for_each(|row| self.download(row));
        rows.len()
    }
}

/// One row of an index file.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    version: String,
    checksum: String,
}

impl Row {
    fn read(line: &str) -> Row {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        Row { name: text("name"), version: text("vers"), checksum: text("cksum") }
    }
}

/// So many crates called `p00`, `p01`, ...
fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p{number:02}")).collect()
}

/// A registry that has a first release of each.
fn registry_of(names: &[String]) -> Registry {
    let registry = Registry::new();
    for name in names {
        registry.release(name, "1.0.0");
    }
    registry
}

fn selected(names: &[String]) -> Vec<&str> {
    std::iter::once("--crate").chain(names.iter().map(String::as_str)).collect()
}

mod while_generations_are_published {
    use super::*;

    /// What the loops beside the publications came to.
    #[derive(Default)]
    struct Counts {
        stop: AtomicBool,
        index: AtomicU64,
        crates: AtomicU64,
        cargo: AtomicU64,
    }

    /// Asks for index files and for what their rows promise, until it is told to stop.
    fn ask(server: &Server, names: &[String], counts: &Counts, mut chance: fastrand::Rng) {
        let mut client = Client::of(server);
        while !counts.stop.load(Ordering::Relaxed) {
            let rows = client.rows(chance.choice(names).unwrap());
            counts.index.fetch_add(1, Ordering::Relaxed);
            assert!(!rows.is_empty(), "every crate keeps a release");
            // The newest has just come, the others may be about to go.
            for row in [rows.last().unwrap(), chance.choice(&rows).unwrap()] {
                client.download(row);
                counts.crates.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Resolves and downloads everything with a new cargo each time.
    fn build(server: &Server, names: &[String], folder: &Path, counts: &Counts) {
        let dependencies: String = names.iter().map(|name| format!("{name} = \"1\"\n")).collect();
        let manifest =
            format!("[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n{dependencies}");
        let index = server.url("/index/");
        let config = format!("[source.crates-io]\nreplace-with = \"m\"\n[source.m]\nregistry = \"sparse+{index}\"\n");
        std::fs::create_dir_all(folder.join("src")).unwrap();
        std::fs::write(folder.join("src/lib.rs"), "").unwrap();
        std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        while !counts.stop.load(Ordering::Relaxed) {
            let home = tempfile::tempdir().unwrap();
            std::fs::write(home.path().join("config.toml"), &config).unwrap();
            drop(std::fs::remove_file(folder.join("Cargo.lock")));
            let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
                .arg("fetch")
                .current_dir(folder)
                .env("CARGO_HOME", home.path())
                .env("CARGO_NET_RETRY", "0")
                .env("http_proxy", "http://127.0.0.1:9")
                .env("no_proxy", "127.0.0.1")
                .output()
                .unwrap();
            assert!(output.status.success(), "cargo: {}", String::from_utf8_lossy(&output.stderr));
            counts.cargo.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the registry does between two syncs.
    fn change(registry: &Registry, names: &[String], round: usize) -> String {
        let version = format!("1.{round}.0");
        for name in names.iter().skip(round % 3).step_by(3) {
            registry.release(name, &version);
        }
        if round < 5 {
            registry.yank(&names[round], "1.0.0");
        }
        if round == 5 {
            // More than may go without approval.
            for name in names {
                registry.release(name, &version).delete(name, "1.0.0");
            }
        }
        registry.commit();
        version
    }

    /// Publishes generations while clients ask; gives how long each took to be served.
    fn publish(ferry: &Ferry, registry: &Registry, server: &Server, names: &[String]) -> Vec<Duration> {
        let mut delays = Vec::new();
        for round in 1..=8 {
            let version = change(registry, names, round);
            ferry.sync(&[]).expect(i32::from(round >= 5));
            let published = Instant::now();
            let mut client = Client::of(server);
            wait_until("the new generation is served", || {
                client.rows(&names[round % 3]).iter().any(|row| row.version == version)
            });
            delays.push(published.elapsed());
        }
        ferry.run("approve", &[]).expect(0);
        let mut client = Client::of(server);
        wait_until("the deletions are served", || {
            names.iter().all(|name| client.rows(name).iter().all(|row| row.version != "1.0.0"))
        });
        delays
    }

    fn serve_while_publishing(ferry: &Ferry, registry: &Registry, arguments: &[&str]) {
        let names = names(12);
        ferry.sync(arguments).expect(0);
        let server = Server::start(ferry, &[]);
        let (counts, (seed, mut chance)) = (Counts::default(), chance());
        eprintln!("CRATEFERRY_SEED={seed}");
        let delays = std::thread::scope(|scope| {
            for _ in 0..2 {
                let chance = chance.fork();
                scope.spawn(|| ask(&server, &names, &counts, chance));
            }
            scope.spawn(|| build(&server, &names, &ferry.beside("project"), &counts));
            // Whoever panics must not leave the others asking for ever.
            let stop = Stop(&counts);
            let delays = publish(ferry, registry, &server, &names);
            drop(stop);
            delays
        });
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (index, crates, cargo) = (count(&counts.index), count(&counts.crates), count(&counts.cargo));
        eprintln!("{index} index files, {crates} crate files, {cargo} runs of cargo; served after {delays:?}");
        assert!(index > 100 && cargo > 2, "{index} {cargo}");
        assert!(delays.iter().all(|delay| *delay < Duration::from_secs(10)), "{delays:?}");
        assert_eq!(
            server.log().matches(" WARN ").count() + server.log().matches("ERROR").count(),
            0,
            "{}",
            server.log()
        );
        verify(ferry);
    }

    #[test]
    fn who_read_a_row_can_download_its_crate_file_after_it_was_withdrawn() {
        let names = names(3);
        let registry = registry_of(&names);
        let ferry = Ferry::sparse(&registry);
        registry.release("p00", "1.1.0");
        ferry.sync(&selected(&names)).expect(0);
        let server = Server::start(&ferry, &[]);
        let mut client = Client::of(&server);
        let row = client.rows("p00").remove(0);
        registry.delete("p00", "1.0.0");
        ferry.sync(&[]).expect(0);
        wait_until("the deletion is served", || client.rows("p00").len() == 1);
        client.download(&row);
        for path in ["/crates/p00/p00-1.0.0.crate", "/api/v1/crates/p00/1.0.0/download"] {
            let (status, body) = client.get(path);
            assert_eq!((status, sha256(&body)), (200, row.checksum.clone()), "{path}");
        }
    }

    struct Stop<'a>(&'a Counts);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn no_request_fails_and_every_row_has_its_bytes_with_a_git_index() {
        let registry = registry_of(&names(12));
        serve_while_publishing(&Ferry::git(&registry), &registry, &["--all"]);
    }

    #[test]
    fn no_request_fails_and_every_row_has_its_bytes_with_a_sparse_index() {
        let registry = registry_of(&names(12));
        serve_while_publishing(&Ferry::sparse(&registry), &registry, &selected(&names(12)));
    }
}

mod after_a_writer_was_killed {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KILLS: usize = 15;

    #[test]
    fn a_server_starts_whenever_it_was_also_while_the_next_one_runs() {
        let names = names(20);
        let registry = registry_of(&names);
        let ferry = Ferry::sparse(&registry);
        ferry.sync(&selected(&names)).expect(0);
        let (seed, mut chance) = chance();
        println!("CRATEFERRY_SEED={seed}");
        let started = Instant::now();
        ferry.sync(&[]).expect(0);
        let mut usual = started.elapsed();
        for round in 1..=KILLS {
            let version = format!("1.{round}.0");
            for name in &names {
                registry.release(name, &version);
            }
            let running = ferry.start_sync(&[]);
            std::thread::sleep(usual.mul_f64(chance.f64() * 1.2));
            running.kill();

            let server = Server::start(&ferry, &[]);
            let least = names.len() * round;
            assert!(Client::of(&server).download_all(&names) >= least, "round {round}");

            // The next sync is at work while another server starts; both serve what it publishes.
            let started = Instant::now();
            let running = ferry.start_sync(&[]);
            std::thread::sleep(usual.mul_f64(chance.f64() * 0.5));
            let beside = Server::start(&ferry, &[]);
            assert!(Client::of(&beside).download_all(&names) >= least, "round {round}");
            running.wait().expect(0);
            usual = started.elapsed().min(Duration::from_millis(1500));
            for server in [&server, &beside] {
                let mut client = Client::of(server);
                wait_until("what was published is served", || {
                    names.iter().all(|name| client.rows(name).iter().any(|row| row.version == version))
                });
                assert_eq!(client.download_all(&names), names.len() * (round + 1));
            }
        }
        verify(&ferry);
    }

    /// A mirror of three crates whose catalog needs a repair: its writer was killed while it waited for a crate file.
    fn unclean() -> (Registry, Ferry) {
        let names = names(3);
        let registry = registry_of(&names);
        let ferry = hasty(&registry);
        ferry.sync(&selected(&names)).expect(0);
        registry.release("p00", "2.0.0").fault("p00", "2.0.0", Fault::held());
        let running = ferry.start_sync(&[]);
        registry.wait_for(1, |request| request.crate_file == Some(("p00".into(), "2.0.0".into())));
        running.kill();
        registry.heal();
        (registry, ferry)
    }

    const COPY: &str = "reading a repaired copy of it";

    #[test]
    fn a_copy_is_served_while_the_catalog_cannot_be_repaired_and_then_the_catalog_again() {
        let (_registry, ferry) = unclean();
        let lock = File::options().write(true).open(ferry.file("lock")).unwrap();
        lock.lock().unwrap(); // as a writer does before anything else
        let server = Server::start(&ferry, &[]);
        server.wait_for_log(COPY);
        assert_eq!(Client::of(&server).download_all(&names(3)), 3);
        drop(lock);
        ferry.sync(&[]).expect(0);
        let mut client = Client::of(&server);
        wait_until("the new release is served", || client.rows("p00").len() == 2);
        assert_eq!(client.download_all(&names(3)), 4);
        assert_eq!(server.log().matches(COPY).count(), 1, "{}", server.log());
    }

    #[test]
    fn a_sync_waits_for_the_moment_of_a_repair() {
        let (_registry, ferry) = unclean();
        let lock = File::options().write(true).open(ferry.file("lock")).unwrap();
        lock.lock().unwrap(); // as a server does that starts at the same time
        let running = ferry.start_sync(&[]);
        std::thread::sleep(Duration::from_millis(300));
        drop(lock);
        running.wait().expect(0);
    }

    #[test]
    fn the_catalog_is_repaired_where_nobody_writes() {
        let (_registry, ferry) = unclean();
        let server = Server::start(&ferry, &[]);
        assert!(server.log().contains("is repaired") && !server.log().contains(COPY), "{}", server.log());
        assert_eq!(Client::of(&server).download_all(&names(3)), 3);
        ferry.run("status", &[]).expect(0);
    }

    /// A copy of a mirror that belongs to somebody else, who lets everybody read it; and a server of it that may write
    /// nothing. None if no such process can be made here.
    fn read_only(ferry: &Ferry) -> Option<(tempfile::TempDir, Command)> {
        let allowed = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "true"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no other user can be had here (setpriv)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("mirror");
        copy_folder(&ferry.mirror(), &mirror);
        let binary = folder.path().join("crateferry");
        std::fs::copy(env!("CARGO_BIN_EXE_crateferry"), &binary).unwrap();
        for (path, _) in look::contents(folder.path()) {
            let mode = if path.is_dir() || path == binary { 0o555 } else { 0o444 };
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary);
        command.arg("serve").arg(mirror).args(["--listen", "127.0.0.1:0"]);
        Some((folder, command))
    }

    #[test]
    fn a_folder_that_must_not_be_written_is_served() {
        let registry = registry_of(&names(3));
        let clean = hasty(&registry);
        clean.sync(&selected(&names(3))).expect(0);
        let (_other, unclean) = unclean();
        for (ferry, copied) in [(&clean, false), (&unclean, true)] {
            let Some((folder, command)) = read_only(ferry) else { return };
            let before = look::contents(folder.path());
            let server = Server::ready(ferry.start(command));
            assert_eq!(server.log().contains(COPY), copied, "{}", server.log());
            assert_eq!(Client::of(&server).download_all(&names(3)), 3);
            drop(server);
            assert!(look::contents(folder.path()) == before, "something was written");
        }
    }

    #[test]
    fn a_damaged_catalog_in_a_folder_that_must_not_be_written_is_named() {
        let registry = registry_of(&names(3));
        let ferry = hasty(&registry);
        ferry.sync(&selected(&names(3))).expect(0);
        std::fs::write(ferry.file("catalog.redb"), "no database").unwrap();
        let Some((_folder, command)) = read_only(&ferry) else { return };
        ferry.start(command).wait().expect_error(5, "crateferry rebuild");
    }
}

mod with_a_damaged_catalog {
    use super::*;

    /// A mirror of some crates, in two generations.
    fn mirrored() -> (Registry, Ferry) {
        let names = names(40);
        let registry = registry_of(&names);
        let ferry = Ferry::sparse(&registry);
        ferry.sync(&selected(&names)).expect(0);
        for name in names.iter().step_by(2) {
            registry.release(name, "1.1.0");
        }
        ferry.sync(&[]).expect(0);
        (registry, ferry)
    }

    /// A server starts and serves everything, and the mirror is whole then.
    #[track_caller]
    fn is_served(ferry: &Ferry) -> Server {
        let server = Server::start(ferry, &[]);
        assert_eq!(Client::of(&server).download_all(&names(40)), 60);
        server
    }

    #[test]
    fn one_that_is_lost_cut_or_something_else_is_derived_again() {
        let (_registry, ferry) = mirrored();
        let digest = ferry.digest();
        let catalog = ferry.file("catalog.redb");
        let length = std::fs::metadata(&catalog).unwrap().len();
        let cut = |length: u64| File::options().write(true).open(&catalog).unwrap().set_len(length).unwrap();
        let damages: [(&str, &dyn Fn()); 6] = [
            ("lost", &|| std::fs::remove_file(&catalog).unwrap()),
            ("empty", &|| cut(0)),
            ("cut in its header", &|| cut(100)),
            ("cut in half", &|| cut(length / 2)),
            ("cut by a byte", &|| cut(length - 1)),
            ("another file", &|| std::fs::write(&catalog, "not a database").unwrap()),
        ];
        for (which, damage) in damages {
            damage();
            println!("{which}");
            is_served(&ferry);
            assert_eq!(ferry.digest(), digest);
            verify(&ferry);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_no_answer() {
        let (_registry, ferry) = mirrored();
        let catalog = ferry.file("catalog.redb");
        let sound = std::fs::read(&catalog).unwrap();
        let (seed, mut chance) = chance();
        println!("CRATEFERRY_SEED={seed}");
        let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
        let mut derived = 0;
        for _ in 0..40 {
            std::fs::write(&catalog, &sound).unwrap();
            let bit = *chance.choice(&used).unwrap() as u64 * 8 + chance.u64(..8);
            println!("bit {bit}");
            flip_bit(&catalog, bit);
            derived += usize::from(is_served(&ferry).log().contains("derived again"));
        }
        println!("derived again {derived} times of 40");
    }

    #[test]
    fn flipped_bits_in_the_key_of_a_release_are_noticed() {
        let (_registry, ferry) = mirrored();
        damage_key_of_a_release(&ferry);
        assert!(is_served(&ferry).log().contains("derived again"));
    }

    fn damage_key_of_a_release(ferry: &Ferry) {
        let catalog = ferry.file("catalog.redb");
        let bytes = std::fs::read(&catalog).unwrap();
        let key = b"p07\x001.0.0\0";
        let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(key)).collect();
        assert!(!places.is_empty());
        // Which of them is in use is known to redb alone.
        places.iter().for_each(|at| flip_bit(&catalog, *at as u64 * 8));
    }

    #[test]
    fn deriving_it_waits_for_the_writer_at_work_and_readiness_says_so() {
        let (_registry, ferry) = mirrored();
        std::fs::remove_file(ferry.file("catalog.redb")).unwrap();
        let lock = File::options().write(true).open(ferry.file("lock")).unwrap();
        lock.lock().unwrap();
        let running = Server::begin(&ferry, &["--admin", "127.0.0.1:0"]);
        wait_until("the server waits", || running.stderr().contains(WAITING));
        let log = running.stderr();
        let admin = log.split_once("metrics and status are on http://").unwrap().1.lines().next().unwrap();
        let (status, why) = Client::at(admin).get("/readyz");
        assert!(status == 503 && String::from_utf8_lossy(&why).contains(WAITING), "{status} {why:?}");
        assert_eq!(Client::at(admin).get("/healthz").0, 200);
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!running.stderr().contains("serving on"));
        assert_eq!(running.stderr().matches(WAITING).count(), 1, "{}", running.stderr());
        drop(lock);
        let server = Server::ready(running);
        assert_eq!(Client::of(&server).download_all(&names(40)), 60);
        wait_until("the server is ready", || Client::at(admin).get("/readyz").0 == 200);
        assert_eq!(Client::at(admin).get("/api/status").0, 200);
    }

    #[test]
    fn what_is_found_is_served_and_what_is_not_waits_until_a_damaged_one_is_derived_again() {
        let (_registry, ferry) = mirrored();
        damage_key_of_a_release(&ferry);
        let lock = File::options().write(true).open(ferry.file("lock")).unwrap();
        lock.lock().unwrap();
        let running = Server::begin(&ferry, &["--admin", "127.0.0.1:0"]);
        let server = Server::ready(running);
        server.wait_for_log(WAITING);
        let log = server.log();
        let admin = log.split_once("metrics and status are on http://").unwrap().1.lines().next().unwrap();
        let (status, why) = Client::at(admin).get("/readyz");
        assert!(status == 503 && String::from_utf8_lossy(&why).contains(WAITING), "{status} {why:?}");
        let mut client = Client::of(&server);
        let row = client.rows("p08").remove(0);
        client.download(&row);
        let lost = client.rows("p07").remove(0);
        for path in [&*format!("/crates/p07/1.0.0/{}", lost.checksum), "/index/no/ne/none"] {
            let (status, why) = client.get(path);
            assert_eq!(status, 503, "{path}: {}", String::from_utf8_lossy(&why));
        }
        drop(lock);
        wait_until("the server is ready", || Client::at(admin).get("/readyz").0 == 200);
        assert_eq!(client.download_all(&names(40)), 60);
        assert_eq!(client.get("/index/no/ne/none").0, 404);
        assert_eq!(server.log().matches(WAITING).count(), 1, "{}", server.log());
    }

    const WAITING: &str = "waits for the process that writes the mirror to end";

    #[test]
    fn a_server_that_waits_can_be_stopped() {
        let (_registry, ferry) = mirrored();
        std::fs::remove_file(ferry.file("catalog.redb")).unwrap();
        let lock = File::options().write(true).open(ferry.file("lock")).unwrap();
        lock.lock().unwrap();
        let running = Server::begin(&ferry, &[]);
        wait_until("the server waits", || running.stderr().contains(WAITING));
        let id = nix::unistd::Pid::from_raw(i32::try_from(running.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        running.wait().expect(0);
    }

    #[test]
    fn a_server_that_runs_goes_on_when_its_catalog_is_lost_and_follows_the_next_one() {
        let (registry, ferry) = mirrored();
        let server = is_served(&ferry);
        std::fs::remove_file(ferry.file("catalog.redb")).unwrap();
        server.wait_for_log("the catalog is lost");
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(server.log().matches("the catalog is lost").count(), 1, "{}", server.log());
        assert_eq!(Client::of(&server).download_all(&names(40)), 60);
        registry.release("p00", "3.0.0");
        ferry.sync(&[]).expect(0);
        let mut client = Client::of(&server);
        wait_until("the new generation is served", || client.rows("p00").len() == 3);
        assert_eq!(client.download_all(&names(40)), 61);
    }
}
