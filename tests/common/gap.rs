//! Two sides of a gap, and what is carried between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crateferry_test_support::Registry;
use serde_json::Value;

use super::{Ferry, Ran, Server, program};

/// An origin with a registry, a key, and a folder for the far side.
pub struct Gap {
    pub registry: Registry,
    pub origin: Ferry,
    pub key: PathBuf,
}

impl Gap {
    pub fn new() -> Gap {
        let registry = Registry::new();
        registry.releases(60);
        Gap::of(registry, &["--all"])
    }

    /// A gap whose origin holds what is selected of a registry.
    pub fn of(registry: Registry, selection: &[&str]) -> Gap {
        let origin = Ferry::git(&registry);
        origin.sync(selection).expect(0);
        let key = origin.beside("officer.key");
        let gap = Gap { registry, origin, key };
        gap.crateferry(&["keygen", "--out", gap.key.to_str().unwrap()]).expect(0);
        gap
    }

    pub fn crateferry(&self, arguments: &[&str]) -> Ran {
        let mut command = program();
        command.args(arguments);
        self.origin.start(command).wait()
    }

    pub fn trust(&self) -> String {
        format!("{}.pub", self.key.display())
    }

    pub fn try_create(&self, out: &str, arguments: &[&str]) -> Ran {
        let (mirror, out, key) = (self.origin.mirror(), self.origin.beside(out), self.key.to_str().unwrap().to_owned());
        let (mirror, out) = (mirror.to_str().unwrap(), out.to_str().unwrap());
        self.crateferry(&[&["bundle", "create", mirror, "--out", out, "--sign", &key, "--json"], arguments].concat())
    }

    /// Makes a bundle and says where it lies and what it is.
    pub fn create(&self, out: &str, arguments: &[&str]) -> (PathBuf, Value) {
        let made = self.try_create(out, arguments).expect(0).json();
        (self.origin.beside(out), made)
    }

    pub fn apply(&self, far: &str, bundle: &Path) -> Ran {
        let far = self.origin.beside(far);
        let (far, bundle) = (far.to_str().unwrap(), bundle.to_str().unwrap());
        self.crateferry(&["bundle", "apply", far, bundle, "--trust", &self.trust(), "--json"])
    }

    pub fn far(&self, far: &str, verb: &str) -> Ran {
        let far = self.origin.beside(far);
        self.crateferry(&[verb, far.to_str().unwrap(), "--json"])
    }

    /// A server of the far side, which answers.
    #[track_caller]
    pub fn serve(&self, far: &str) -> Server {
        let mut command = program();
        command.arg("serve").arg(self.origin.beside(far)).args(["--listen", "127.0.0.1:0"]);
        Server::ready(self.origin.start(command))
    }

    /// What the far side serves is what the origin serves, to the bit, and it holds together.
    #[track_caller]
    pub fn is_the_same(&self, far: &str) {
        let mine = self.origin.status();
        let status = self.serves_the_same(far, &mine);
        assert_eq!(status["releases"], mine["releases"]);
    }

    /// The same for a replica that began later, and knows nothing of what was withdrawn before.
    #[track_caller]
    pub fn serves_the_same(&self, far: &str, mine: &Value) -> Value {
        let status = self.far(far, "status").expect(0).json();
        assert_eq!(status["role"], "replica");
        for key in ["mirror_id", "epoch", "generation", "generation_digest", "crates", "rows", "hole_count"] {
            assert_eq!(status[key], mine[key], "{key}");
        }
        assert_eq!(status["releases"]["held"], mine["releases"]["held"]);
        self.far(far, "verify").expect(0);
        status
    }

    /// One more generation, with something of everything.
    pub fn change(&self, round: usize) {
        let ids = self.registry.release_ids();
        let (name, _) = ids[round * 3 % ids.len()].clone();
        self.registry.release(&name, &format!("9.{round}.0")).release(&name, &format!("9.{round}.1"));
        self.registry.release(&format!("fresh-{round}"), "0.1.0");
        let (name, version) = ids[(round * 7 + 1) % ids.len()].clone();
        self.registry.yank(&name, &version);
        let (name, version) = ids[(round * 11 + 2) % ids.len()].clone();
        self.registry.delete(&name, &version);
        self.registry.commit();
        self.origin.sync(&[]).expect(0);
    }
}

pub fn generation(made: &Value) -> String {
    made["to"]["generation"].to_string()
}

/// The volumes of a bundle, in order.
pub fn volumes(bundle: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(bundle).unwrap().map(|entry| entry.unwrap().path());
    let mut volumes: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "tar")).collect();
    volumes.sort();
    volumes
}

/// All files below a folder.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

/// A medium with the manifest, its signature, and some of the volumes.
pub fn medium(gap: &Gap, name: &str, bundle: &Path, some: &[PathBuf]) -> PathBuf {
    let medium = gap.origin.beside(name);
    fs::create_dir_all(&medium).unwrap();
    for name in ["manifest.json", "manifest.json.minisig"] {
        fs::copy(bundle.join(name), medium.join(name)).unwrap();
    }
    for volume in some {
        fs::copy(volume, medium.join(volume.file_name().unwrap())).unwrap();
    }
    medium
}

/// Changes the manifest of a bundle, as somebody could who has the key, and signs it with the real minisign.
pub fn resigned(gap: &Gap, bundle: &Path, change: impl FnOnce(&mut Value)) {
    let path = bundle.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, format!("{manifest}\n")).unwrap();
    sign(&gap.key, &path);
}

/// Signs a file with the real minisign.
pub fn sign(key: &Path, path: &Path) {
    let output = Command::new("minisign").args(["-S", "-W", "-s"]).arg(key).arg("-m").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
