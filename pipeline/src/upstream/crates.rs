//! Where crate files come from.
//!
//! A registry names its downloads with one URL or template, `dl`; the operator may put another in its place.
//! Names and versions are filled in as they are: they hold nothing that could change the URL's structure,
//! except the `+` of build metadata, which download hosts expect as `%2B`.

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use crateferry_store::{Release, ReleaseId, Sha256};
use reqwest::header::{HeaderValue, IF_RANGE, RANGE};
use reqwest::{Method, Request, Url};

use crate::net::{Answerer, Forbidden, Lane, Lanes, Network, NetworkError, Pause};

/// A download URL with places for a release's name, version and checksum.
#[derive(Clone, Debug)]
pub struct DownloadTemplate {
    parts: Vec<Part>,
    example: Url,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Crate,
    Version,
    Prefix,
    LowerPrefix,
    Checksum,
}

/// Text that is not a download URL or template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the download URL {text:?} cannot be used: {why}")]
pub struct TemplateError {
    text: String,
    why: &'static str,
}

impl DownloadTemplate {
    /// Reads a registry's `dl` or an operator's download URL.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let refuse = |why| TemplateError { text: text.to_owned(), why };
        if !begins_with_a_host(text) {
            return Err(refuse("it must begin with https:// or http:// and a host"));
        }
        let mut parts = parts(text).map_err(refuse)?;
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            parts = cargos_default(text);
        }
        let example = |name, version| Url::parse(&fill(&parts, &example(name, version)));
        let (Ok(example), Ok(another)) = (example("example", "1.0.0"), example("other", "2.0.0")) else {
            return Err(refuse("it is not a URL"));
        };
        if example.origin() != another.origin() {
            return Err(refuse("its host must not depend on the release"));
        }
        match unusable(&example) {
            Some(why) => Err(refuse(why)),
            None => Ok(DownloadTemplate { parts, example }),
        }
    }

    /// Where this release's crate file is to be asked for.
    pub fn url(&self, release: &Release) -> Url {
        let text = fill(&self.parts, release);
        Url::parse(&text).expect("an example with the same structure was a URL, and names change no structure")
    }

    /// A URL like all that this template makes: their host and scheme are the same.
    pub fn example(&self) -> &Url {
        &self.example
    }
}

impl FromStr for DownloadTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        DownloadTemplate::parse(text)
    }
}

fn parts(text: &str) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find('{') {
        let end = rest[begin..].find('}').ok_or("a \"{\" is not closed")? + begin;
        parts.push(Part::Text(rest[..begin].into()));
        parts.push(marker(&rest[begin + 1..end])?);
        rest = &rest[end + 1..];
    }
    parts.push(Part::Text(rest.into()));
    Ok(parts)
}

fn marker(name: &str) -> Result<Part, &'static str> {
    match name {
        "crate" => Ok(Part::Crate),
        "version" => Ok(Part::Version),
        "prefix" => Ok(Part::Prefix),
        "lowerprefix" => Ok(Part::LowerPrefix),
        "sha256-checksum" => Ok(Part::Checksum),
        _ => Err("only {crate}, {version}, {prefix}, {lowerprefix} and {sha256-checksum} may stand in it"),
    }
}

/// What cargo asks for when no marker is given.
fn cargos_default(text: &str) -> Vec<Part> {
    let base = format!("{}/", text.trim_end_matches('/'));
    vec![Part::Text(base.into()), Part::Crate, Part::Text("/".into()), Part::Version, Part::Text("/download".into())]
}

fn begins_with_a_host(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '\\', '?', '#']))
}

fn unusable(example: &Url) -> Option<&'static str> {
    if !example.username().is_empty() || example.password().is_some() {
        return Some("it holds a user name or password, which would be written to records");
    }
    example.fragment().map(|_| "it holds a fragment (#), which no server sees")
}

fn fill(parts: &[Part], release: &Release) -> String {
    let mut url = String::with_capacity(160);
    let name = &release.id.name;
    for part in parts {
        match part {
            Part::Text(text) => url.push_str(text),
            Part::Crate => url.push_str(name.as_str()),
            Part::Version => push_version(&mut url, release.id.version.as_str()),
            Part::Prefix => url.push_str(&name.prefix()),
            Part::LowerPrefix => url.push_str(&name.lower().prefix()),
            Part::Checksum => write!(url, "{}", release.checksum).expect("writing to a string cannot fail"),
        }
    }
    url
}

fn push_version(url: &mut String, version: &str) {
    for (n, piece) in version.split('+').enumerate() {
        if n > 0 {
            url.push_str("%2B");
        }
        url.push_str(piece);
    }
}

fn example(name: &str, version: &str) -> Release {
    let name = name.parse().expect("it is a crate's name");
    let version = version.parse().expect("it is a version");
    Release { id: ReleaseId { name, version }, checksum: Sha256([0; 32]) }
}

/// Why a registry's crate files cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum CrateFilesError {
    /// The rules about hosts forbid it.
    #[error("downloads from {0} are not permitted")]
    Forbidden(String, #[source] Forbidden),
    /// No client can be made.
    #[error("downloads cannot begin")]
    Network(#[source] NetworkError),
}

/// The registry's host for crate files.
#[derive(Debug)]
pub struct CrateFiles {
    template: DownloadTemplate,
    lanes: Lanes,
    pause: Arc<Pause>,
}

/// From where on a body that was cut short is asked for.
#[derive(Clone, Debug)]
pub struct Rest {
    /// How many bytes are held.
    pub from: u64,
    /// The strong `ETag` they came with.
    pub etag: HeaderValue,
}

impl CrateFiles {
    /// Prepares downloads, if the template's host may be asked: one that the operator named to the network, or a
    /// public one.
    pub fn new(network: &Network, template: DownloadTemplate) -> Result<Self, CrateFilesError> {
        let host = template.example.host_str().unwrap_or_default().to_owned();
        let pause = network.pause(&host);
        network.permit_registry(&template.example).map_err(|source| CrateFilesError::Forbidden(host, source))?;
        let lanes = network.lanes().map_err(CrateFilesError::Network)?;
        Ok(CrateFiles { template, lanes, pause })
    }

    /// Where this release's crate file is to be asked for.
    pub fn url(&self, release: &Release) -> Url {
        self.template.url(release)
    }

    /// Waits for a place on one of the connections. It is to be kept until the body has come.
    pub async fn enter(&self) -> Lane<'_> {
        self.lanes.enter().await
    }

    /// What is known of the server.
    pub fn answerer(&self) -> Answerer {
        self.lanes.answerer()
    }

    /// What the host asked for with Retry-After.
    pub fn pause(&self) -> &Pause {
        &self.pause
    }
}

/// A request for a crate file, or for the rest of one.
pub fn request(url: Url, rest: Option<&Rest>) -> Request {
    let mut request = Request::new(Method::GET, url);
    if let Some(Rest { from, etag }) = rest {
        let range = HeaderValue::try_from(format!("bytes={from}-")).expect("digits are a header value");
        request.headers_mut().insert(RANGE, range);
        request.headers_mut().insert(IF_RANGE, etag.clone());
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(name: &str, version: &str) -> Release {
        let id = ReleaseId { name: name.parse().unwrap(), version: version.parse().unwrap() };
        Release { id, checksum: Sha256::of(b"abc") }
    }

    fn filled(template: &str, name: &str, version: &str) -> String {
        DownloadTemplate::parse(template).unwrap().url(&release(name, version)).to_string()
    }

    #[test]
    fn a_url_without_markers_gets_cargos_path() {
        let expected = "https://example.org/crates/Inflector/0.11.4/download";
        assert_eq!(filled("https://example.org/crates", "Inflector", "0.11.4"), expected);
        assert_eq!(filled("https://example.org/crates/", "Inflector", "0.11.4"), expected);
    }

    #[test]
    fn every_marker_is_filled_in() {
        let template = "https://example.org/{prefix}/{lowerprefix}/{crate}-{version}.crate?sum={sha256-checksum}";
        let sum = Sha256::of(b"abc");
        assert_eq!(
            filled(template, "Inflector", "0.11.4"),
            format!("https://example.org/In/fl/in/fl/Inflector-0.11.4.crate?sum={sum}")
        );
        assert_eq!(filled("https://example.org/{prefix}/{crate}", "abc", "1.0.0"), "https://example.org/3/a/abc");
    }

    #[test]
    fn the_plus_of_build_metadata_is_sent_escaped() {
        let url = filled("https://example.org/{crate}/{version}", "a", "1.0.0-rc.1+b+c");
        assert_eq!(url, "https://example.org/a/1.0.0-rc.1%2Bb%2Bc");
    }

    #[test]
    fn templates_that_could_lead_anywhere_are_refused() {
        for bad in [
            "",
            "example.org/{crate}",
            "file:///crates/{crate}",
            "ftp://example.org/{crate}",
            "https://{crate}.example.org/",
            "https://example.org:{version}/",
            "https:/{crate}/{version}",
            "https:{crate}",
            "https:///{crate}",
            "https://example.org/{name}",
            "https://example.org/{crate",
            "https://user:secret@example.org/",
            "https://example.org/{crate}#x",
            "https://",
        ] {
            let error = DownloadTemplate::parse(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
