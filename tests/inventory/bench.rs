//! What these tests share: a place with a folder in it, the program, and other programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Ran, program};

/// A place with a folder `files`, where the program is run.
pub struct Place(TempDir);

impl Place {
    /// The folder has files of these names and contents.
    pub fn with(files: &[(&[u8], &[u8])]) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("files")).unwrap();
        for (name, content) in files {
            let path = place.files().join(OsStr::from_bytes(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        place
    }

    /// Three small files in two folders.
    pub fn small() -> Place {
        Place::with(&[(b"a", b"one"), (b"in/b", b"two"), (b"in/c", b"")])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn files(&self) -> PathBuf {
        self.path("files")
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The program with these arguments; not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.current_dir(self.0.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// An inventory of the folder.
    pub fn inventory(&self, options: &[&str]) -> Ran {
        self.run(&[&["inventory", "files"], options].concat())
    }

    /// The folder against its document.
    pub fn check(&self, options: &[&str]) -> Ran {
        self.run(&[&["inventory", "--check", "files.yaml"], options].concat())
    }

    /// What parsers of others find in the documents: `yaml`, `toml`, and the archive's `member`.
    pub fn documents(&self) -> Value {
        let (yaml, tar) = (self.path("files.yaml"), self.path("files.tar"));
        let text = reader(&["documents".as_ref(), yaml.as_ref(), tar.as_ref()]);
        serde_json::from_str(&text).unwrap()
    }
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), signal: None, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What a program says on stdout.
#[track_caller]
pub fn said(program: &str, package: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {package}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `tests/inventory/reader.py` says, run by a Python that has a YAML parser.
#[track_caller]
pub fn reader(arguments: &[&OsStr]) -> String {
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inventory/reader.py"));
    let has_yaml = |python: &&str| {
        let tried = Command::new(python).args(["-c", "import tomllib, yaml"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_yaml);
    let python = python.expect("no Python from 3.11 on has a YAML parser; apt-get install python3 python3-yaml");
    said(python, "python3", &[&[script.as_os_str()], arguments].concat())
}
