//! What people behind a gap ask for in vain, on its way to the online side and back: noted by a server, taken along by a signed
//! receipt, honoured by a sync and a bundle. And that nothing of it happens where nobody wants it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::gap::Gap;
use common::{Ran, Server, program};
use crateferry_test_support::Registry;
use serde_json::json;

/// A gap with a replica, `far`, that holds what the origin does: three crates of a registry that has more.
struct Wanting {
    gap: Gap,
}

impl Wanting {
    /// The replica's configuration has these lines in its section `[wishes]`.
    fn with(lines: &str) -> Wanting {
        let registry = Registry::new();
        for name in ["held", "dashed-name", "other", "wanted", "wanted-too", "barred"] {
            registry.release(name, "1.0.0").release(name, "1.1.0");
        }
        let gap = Gap::of(registry, &["--crate", "held", "dashed-name", "other@=1.0.0"]);
        let (full, _) = gap.create("full", &["--full"]);
        gap.apply("far", &full).expect(0);
        let wanting = Wanting { gap };
        let path = wanting.far().join("crateferry.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\n[wishes]\n") && text.contains("\n# collect = false\n"));
        fs::write(&path, text.replace("\n[wishes]\n", &format!("\n[wishes]\n{lines}\n"))).unwrap();
        wanting
    }

    fn far(&self) -> PathBuf {
        self.gap.origin.beside("far")
    }

    fn noted(&self) -> Option<String> {
        fs::read_to_string(self.far().join("wishes/wishes.txt")).ok()
    }

    fn serve(&self) -> Server {
        let mut command = program();
        command.arg("serve").arg(self.far()).args(["--listen", "127.0.0.1:0"]);
        Server::ready(self.gap.origin.start(command))
    }

    /// Writes `receipt.txt`.
    fn receipt(&self, arguments: &[&str]) -> (Ran, PathBuf) {
        let path = self.gap.origin.beside("receipt.txt");
        let (far, out) = (self.far(), path.to_str().unwrap().to_owned());
        let ran = self.gap.crateferry(&[&["receipt", far.to_str().unwrap(), "--out", &out], arguments].concat());
        (ran, path)
    }
}

/// Stops a server as a service manager does, so that it has written all.
fn stop(server: Server) -> Ran {
    let told = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
    assert!(told.unwrap().success());
    server.into_running().wait().expect(0)
}

fn ask(server: &Server, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn get(server: &Server, path: &str) -> (u16, String) {
    let host = server.address();
    ask(
        server,
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\nconnection: close\r\n\r\n").as_bytes(),
    )
}

/// Sends a form with a file.
fn give(server: &Server, file: &[u8], headers: &str) -> (u16, String) {
    let head = "--limit\r\ncontent-disposition: form-data; name=\"lock\"; filename=\"Cargo.lock\"\r\n\r\n";
    let form = [head.as_bytes(), file, b"\r\n--limit--\r\n"].concat();
    let (host, length) = (server.address(), form.len());
    let head = format!(
        "POST /wishes HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\naccept: text/html\r\n\
         {headers}content-type: multipart/form-data; boundary=limit\r\n\r\n"
    );
    ask(server, &[head.as_bytes(), &form].concat())
}

fn lock_file(packages: &[(&str, &str, Option<&str>)]) -> String {
    let package = |(name, version, source): &(&str, &str, Option<&str>)| {
        let source = source.map_or_else(String::new, |source| format!("source = \"{source}\"\n"));
        format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}")
    };
    format!("version = 4\n{}", packages.iter().map(package).collect::<String>())
}

const REGISTRY: Option<&str> = Some("registry+https://github.com/rust-lang/crates.io-index");

#[test]
fn what_is_asked_for_in_vain_crosses_the_gap_and_comes_back_as_crates() {
    let wanting = Wanting::with("collect = true");
    let gap = &wanting.gap;
    let server = wanting.serve();
    // A real cargo asks for other spellings too; they are one wish.
    let project = gap.origin.beside("project");
    fs::create_dir_all(project.join("src")).unwrap();
    fs::create_dir_all(project.join(".cargo")).unwrap();
    fs::write(project.join("src/lib.rs"), "").unwrap();
    let manifest =
        "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nwanted-too = \"1\"\n";
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    let config = format!(
        "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \"sparse+{}/index/\"\n",
        server.base()
    );
    fs::write(project.join(".cargo/config.toml"), config).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg("generate-lockfile").current_dir(&project).env("CARGO_HOME", gap.origin.beside("cargo-home"));
    let output = cargo.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("wanted-too"), "{output:?}");
    // What is there, what is nothing, and a spelling of what is there.
    for (path, status) in [
        ("/index/he/ld/held", 200),
        ("/index/da/sh/dashed_name", 404),
        ("/index/wa/nt/Wanted", 404),
        ("/index/wa/nt/..%2f..%2fwanted", 404),
        ("/index/xx/yy/wanted", 404),
        ("/crates/nobody/nobody-1.0.0.crate", 404),
    ] {
        assert_eq!(get(&server, path).0, status, "{path}");
    }
    let lock = lock_file(&[
        ("held", "1.0.0", REGISTRY),
        ("other", "1.1.0", REGISTRY),
        ("mine", "0.1.0", None),
        ("foreign", "1.0.0", Some("registry+https://registry.example/index")),
        ("from-git", "1.0.0", Some("git+https://git.example/x#0123456789012345678901234567890123456789")),
    ]);
    let (status, page) = give(&server, lock.as_bytes(), "");
    assert!(status == 200 && page.contains("Of 2 packages in this lock file, not here: 1."), "{page}");
    let noted = "other 1.1.0\nwanted\nwanted-too\n";
    assert_eq!(wanting.noted().unwrap(), noted, "what was given is kept before it is acknowledged");
    assert_eq!(get(&server, "/index/wa/nt/wants").0, 404);
    stop(server);
    assert_eq!(wanting.noted().unwrap(), format!("{noted}wants\n"), "so is the rest when the server ends");
    // An operator strikes a mistake out.
    fs::write(wanting.far().join("wishes/wishes.txt"), noted).unwrap();

    let (ran, receipt) = wanting.receipt(&["--sign", gap.key.to_str().unwrap()]);
    let said = ran.expect(0).stderr;
    assert!(said.contains("in vain, 3 wishes:\n  other 1.1.0\n  wanted\n  wanted-too\n"), "{said}");
    let text = fs::read_to_string(&receipt).unwrap();
    assert!(text.contains("\nwish other 1.1.0\nwish wanted\nwish wanted-too\nend\nuntrusted comment:"), "{text}");
    assert!(text.len() < 800, "it fits a QR code: {} bytes", text.len());
    let receipt = receipt.to_str().unwrap();
    let arguments = ["--for", receipt, "--receipt-key", &gap.trust()];
    gap.try_create("nothing", &arguments).expect_error(2, "3 wishes of the receipt are not here");
    gap.registry.release("held", "1.2.0").commit();
    gap.origin.sync(&[]).expect(0);
    let create = |out: &str| gap.try_create(out, &arguments).expect(0).json();
    assert_eq!(create("before")["wishes_not_here"], json!(["other 1.1.0", "wanted", "wanted-too"]));
    let planned = gap.origin.run("plan", &["--wishes", receipt, "--json"]).expect(0).json();
    assert_eq!(planned["fetch"], 5, "{planned}");
    gap.origin.sync(&["--wishes", receipt, "--receipt-key", &gap.trust()]).expect(0);
    assert_eq!(create("after")["wishes_not_here"], json!([]));
    gap.apply("far", &gap.origin.beside("after")).expect(0);
    gap.is_the_same("far");
    // What came is no wish any more.
    let (ran, receipt) = wanting.receipt(&[]);
    assert_eq!(ran.expect(0).stderr, "");
    assert!(!fs::read_to_string(receipt).unwrap().contains("wish"));
}

#[test]
fn nothing_is_noted_or_told_where_nobody_wants_it() {
    let wanting = Wanting::with("");
    let server = wanting.serve();
    assert_eq!(get(&server, "/index/wa/nt/wanted").0, 404);
    assert_eq!(get(&server, "/wishes").0, 404);
    assert_eq!(give(&server, lock_file(&[("wanted", "1.0.0", REGISTRY)]).as_bytes(), "").0, 404);
    assert!(!get(&server, "/").1.contains("wishes"));
    stop(server);
    assert_eq!(wanting.noted(), None);
    fs::create_dir(wanting.far().join("wishes")).unwrap();
    fs::write(wanting.far().join("wishes/wishes.txt"), "wanted\n").unwrap();
    let (ran, receipt) = wanting.receipt(&[]);
    assert_eq!(ran.expect(0).stderr, "");
    assert!(!fs::read_to_string(receipt).unwrap().contains("wish"));
}

#[test]
fn only_approved_names_are_noted_and_none_leaves_that_is_approved_no_longer() {
    let wanting = Wanting::with("collect = true\napproved = \"approved.txt\"\nmost = 3\nsize = \"60 B\"");
    let approved = wanting.far().join("approved.txt");
    let mut command = program();
    command.arg("serve").arg(wanting.far());
    wanting.gap.origin.start(command).wait().expect_error(3, "cannot read the approved names of wishes in");
    fs::write(&approved, "# names\nwanted\n../x\n").unwrap();
    wanting.receipt(&[]).0.expect_error(2, "approved.txt, line 3:");
    fs::write(&approved, "# names\nWanted_Too\nwanted\nfurther-1\nzeta\nlong-name-that-has-no-room\n").unwrap();
    let server = wanting.serve();
    let lock = [("barred", "1.0.0"), ("wanted-too", "1.0.0"), ("long-name-that-has-no-room", "1.0.0-and-longer-still")];
    let lock = lock_file(&lock.map(|(name, version)| (name, version, REGISTRY)));
    let (status, page) = give(&server, lock.as_bytes(), "");
    assert!(status == 200 && page.contains("among those that may be asked for: 1."), "{page}");
    for name in ["ba/rr/barred", "wa/nt/wanted", "fu/rt/further-1", "ze/ta/zeta"] {
        assert_eq!(get(&server, &format!("/index/{name}")).0, 404);
    }
    stop(server);
    assert_eq!(wanting.noted().unwrap().lines().count(), 3);
    assert!(!wanting.noted().unwrap().contains("barred"));
    fs::write(&approved, "wanted\n").unwrap();
    let (ran, receipt) = wanting.receipt(&[]);
    assert!(ran.expect(0).stderr.contains("1 wish:\n  wanted\n"));
    let text = fs::read_to_string(receipt).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("wish")).collect::<Vec<_>>(), ["wish wanted"]);
}

#[test]
fn a_receipt_counts_only_if_the_right_key_signed_just_that() {
    let wanting = Wanting::with("collect = true");
    let gap = &wanting.gap;
    let file = |name: &str| gap.origin.beside(name).to_str().unwrap().to_owned();
    for (name, kind) in [("other.key", "minisign"), ("pgp.key", "openpgp")] {
        gap.crateferry(&["keygen", "--out", &file(name), "--kind", kind]).expect(0);
    }
    let create = |out: &str, receipt: &Path, keys: &[&str]| {
        let receipt = ["--for", receipt.to_str().unwrap()];
        gap.try_create(out, &[&receipt[..], keys].concat())
    };
    gap.registry.release("held", "1.2.0").commit();
    gap.origin.sync(&[]).expect(0);
    let (trust, other, pgp) = (gap.trust(), file("other.key.pub"), file("pgp.key.pub"));
    let trusted = ["--receipt-key", trust.as_str()];
    let (ran, receipt) = wanting.receipt(&[]);
    ran.expect(0);
    create("unsigned", &receipt, &[]).expect(0);
    create("refused", &receipt, &trusted).expect_error(3, "is refused");
    let (ran, receipt) = wanting.receipt(&["--sign", &file("other.key"), "--sign", &file("pgp.key")]);
    ran.expect(0);
    create("refused", &receipt, &trusted)
        .expect_error(3, "none of the keys that are named with --receipt-key signed it");
    create("other", &receipt, &["--receipt-key", &other]).expect(0);
    create("pgp", &receipt, &["--receipt-key", &pgp]).expect(0);
    create("one-of-two", &receipt, &["--receipt-key", &trust, "--receipt-key", &pgp]).expect(0);
    // Mail changes the ends of lines; nobody may change what it says.
    let text = fs::read_to_string(&receipt).unwrap();
    fs::write(&receipt, text.replace('\n', "\r\n")).unwrap();
    create("mailed", &receipt, &["--receipt-key", &other]).expect(0);
    create("mailed-pgp", &receipt, &["--receipt-key", &pgp]).expect(0);
    fs::write(&receipt, text.replacen("\nend\n", "\nwish planted\nend\n", 1)).unwrap();
    for key in [&other, &pgp] {
        create("planted", &receipt, &["--receipt-key", key]).expect_error(3, "is refused");
        let mirror = gap.origin.run("plan", &["--wishes", receipt.to_str().unwrap(), "--receipt-key", key]);
        mirror.expect_error(3, "is refused");
    }
    // The real program takes the signature, over the lines before it.
    let (signed, signature) = text.split_once("untrusted comment:").unwrap();
    fs::write(file("signed.txt"), signed).unwrap();
    let lines: Vec<&str> = signature.lines().take(4).collect();
    fs::write(file("signed.txt.minisig"), format!("untrusted comment:{}\n", lines.join("\n"))).unwrap();
    let verified = Command::new("minisign").args(["-V", "-p", &other, "-m", &file("signed.txt")]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn a_page_takes_lock_files_of_its_own_readers_and_bounded_ones_alone() {
    let wanting = Wanting::with("collect = true");
    let server = wanting.serve();
    let lock = lock_file(&[("wanted", "1.0.0", REGISTRY)]);
    assert_eq!(give(&server, lock.as_bytes(), "origin: http://evil.example\r\n").0, 400);
    assert_eq!(give(&server, lock.as_bytes(), "origin: null\r\n").0, 400);
    assert_eq!(give(&server, lock.as_bytes(), "sec-fetch-site: cross-site\r\n").0, 400);
    assert_eq!(give(&server, b"<b>no lock file</b>", "").0, 400);
    assert_eq!(give(&server, b"\xff\xfe", "").0, 400);
    assert_eq!(give(&server, &vec![b'#'; (4 << 20) + 1000], "").0, 400);
    assert_eq!(wanting.noted(), None);
    let many: Vec<String> = (0..3000).map(|number| format!("name-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1.0.0", REGISTRY)).collect();
    assert_eq!(give(&server, lock_file(&many).as_bytes(), "").0, 200);
    assert_eq!(wanting.noted().unwrap().lines().count(), 1000, "as many as there is room for");
    assert_eq!(get(&server, "/index/he/ld/held").0, 200);
}

#[test]
fn a_server_that_may_not_write_serves_and_says_so() {
    let wanting = Wanting::with("collect = true");
    // A file in the place of the folder: not even root can make the folder then.
    fs::write(wanting.far().join("wishes"), "").unwrap();
    let server = wanting.serve();
    assert_eq!(get(&server, "/index/wa/nt/wanted").0, 404);
    assert_eq!(give(&server, lock_file(&[("wanted", "1.0.0", REGISTRY)]).as_bytes(), "").0, 500);
    assert_eq!(get(&server, "/index/he/ld/held").0, 200);
    let said = stop(server).stderr;
    assert!(said.contains("wishes cannot be written"), "{said}");
}

#[test]
fn a_reader_gives_a_lock_file_in_a_real_browser() {
    let wanting = Wanting::with("collect = true");
    let server = wanting.serve();
    let browser = crateferry_test_support::browser::Browser::launch();
    let page = browser.page();
    page.open(&server.url("/")).click("nav a[href$=wishes]");
    assert_eq!(page.text("h1"), "Ask for what is lacking");
    assert_eq!(page.axe(), [""; 0]);
    let lock = json!(lock_file(&[("wanted", "1.0.0", REGISTRY)]));
    let choose = format!(
        "const transfer = new DataTransfer(); transfer.items.add(new File([{lock}], 'Cargo.lock')); lock.files = transfer.files"
    );
    page.eval(&format!("{{ {choose} }}"));
    page.click("form.large button");
    page.wait_for(".inline li");
    assert_eq!(page.text(".inline li"), "wanted 1.0.0");
    assert_eq!(page.axe(), [""; 0]);
    if let Some(folder) = std::env::var_os("CRATEFERRY_SHOTS") {
        page.screenshot(Path::new(&folder).join("wishes.png"));
    }
    assert_eq!(page.problems(), [""; 0]);
    assert_eq!(wanting.noted().unwrap(), "wanted 1.0.0\n");
}
