//! What a `Cargo.toml` says of its package.
//!
//! Since 2014 manifests had all kinds of forms. So each field is taken if it has the form that cargo knows, and left out
//! if not; one odd field does not cost the others.

use std::collections::BTreeSet;

use crateferry_store::Manifest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::archive::Contents;

#[derive(Deserialize)]
struct Document {
    package: Option<Package>,
    /// What `package` was called once.
    project: Option<Package>,
    lib: Option<Lenient<Library>>,
    bin: Option<Lenient<Vec<Binary>>>,
}

type Text = Option<Lenient<String>>;
type Texts = Option<Lenient<Vec<String>>>;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Package {
    name: Text,
    license: Text,
    license_file: Text,
    description: Text,
    homepage: Text,
    documentation: Text,
    repository: Text,
    keywords: Texts,
    categories: Texts,
    authors: Texts,
    edition: Text,
    rust_version: Text,
    links: Text,
    build: Option<toml::Value>,
    autobins: Option<Lenient<bool>>,
}

#[derive(Deserialize)]
struct Library {
    #[serde(alias = "proc_macro", rename = "proc-macro")]
    proc_macro: Option<Lenient<bool>>,
    #[serde(alias = "crate_type", rename = "crate-type")]
    crate_type: Texts,
}

#[derive(Deserialize)]
struct Binary {
    name: Text,
}

/// A value of the form that is known, or of another.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Is(T),
    Other(IgnoredAny),
}

fn known<T>(value: Option<Lenient<T>>) -> Option<T> {
    match value {
        Some(Lenient::Is(value)) => Some(value),
        Some(Lenient::Other(IgnoredAny)) | None => None,
    }
}

/// Reads a manifest; what it leaves to the names of files is taken from `contents`.
pub(super) fn read(text: &[u8], contents: &Contents) -> Result<Manifest, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document: Document = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let package = document.package.or(document.project).ok_or("it has no [package]")?;
    let library = known(document.lib);
    let listed: Vec<String> =
        known(document.bin).unwrap_or_default().into_iter().filter_map(|binary| known(binary.name)).collect();
    let edition = known(package.edition);
    Ok(Manifest {
        build_script: build_script(package.build.as_ref(), contents),
        binaries: binaries(listed, known(package.autobins), edition.as_deref(), known(package.name), contents),
        license: known(package.license),
        license_file: known(package.license_file),
        description: known(package.description),
        homepage: known(package.homepage),
        documentation: known(package.documentation),
        repository: known(package.repository),
        keywords: known(package.keywords).unwrap_or_default(),
        categories: known(package.categories).unwrap_or_default(),
        authors: known(package.authors).unwrap_or_default(),
        edition,
        rust_version: known(package.rust_version),
        links: known(package.links),
        proc_macro: library.is_some_and(is_proc_macro),
    })
}

fn is_proc_macro(library: Library) -> bool {
    known(library.proc_macro).unwrap_or_default()
        || known(library.crate_type).unwrap_or_default().iter().any(|kind| kind == "proc-macro")
}

/// A manifest that does not name its build script has one if there is a `build.rs`.
fn build_script(build: Option<&toml::Value>, contents: &Contents) -> Option<bool> {
    match build {
        Some(toml::Value::String(_)) => Some(true),
        Some(toml::Value::Boolean(false)) => Some(false),
        _ if contents.has_build_rs => Some(true),
        _ => contents.is_whole().then_some(false),
    }
}

/// The programs that the manifest lists, and those that cargo finds by the names of files unless it is told not to. In
/// the edition of 2015 a list of programs says so too.
fn binaries(
    listed: Vec<String>,
    autobins: Option<bool>,
    edition: Option<&str>,
    package: Option<String>,
    contents: &Contents,
) -> Option<Vec<String>> {
    let finds = autobins.unwrap_or_else(|| listed.is_empty() || edition.is_some_and(|edition| edition != "2015"));
    let mut binaries: BTreeSet<String> = listed.into_iter().collect();
    if finds {
        if !contents.is_whole() {
            return None;
        }
        binaries.extend(contents.binaries.iter().cloned());
        binaries.extend(package.filter(|_| contents.has_main));
    }
    Some(binaries.into_iter().collect())
}
