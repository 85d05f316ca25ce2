//! `crateferry.toml`: written when a mirror is made, then only read. Environment and flags count for one run.

use std::path::Path;

use anyhow::Context;
use crateferry_pipeline::net::NetworkConfig;
use crateferry_store::{Layout, MIRROR_FORMAT, StoreLimits};
use serde::Deserialize;

use crate::cli::UpstreamArgs;
use crate::report::usage;

/// A mirror's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The format of the mirror's folder; the store checks it.
    #[serde(rename = "format")]
    pub _format: u32,
    /// The mirror's id; the packs have it too.
    #[serde(rename = "mirror")]
    pub _mirror: String,
    /// Where the mirror syncs from.
    pub upstream: String,
    /// Where crate files come from, instead of where the index says.
    #[serde(default)]
    pub download_url: Option<String>,
    /// Go on serving what was deleted upstream.
    #[serde(default)]
    pub keep_withdrawn: bool,
    /// The network.
    #[serde(default)]
    pub network: NetworkConfig,
    /// The packs.
    #[serde(default)]
    pub store: StoreConfig,
}

/// The section `[store]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StoreConfig {
    /// A pack is sealed at this size.
    pub pack_size: Option<bytesize::ByteSize>,
}

impl Config {
    /// Reads the configuration of a mirror.
    pub fn read(mirror: &Path) -> anyhow::Result<Config> {
        let path = Layout::new(mirror).config();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        parse(&text).map_err(|error| usage(format!("{}: {error}", path.display())))
    }

    /// Takes over what the command line says.
    pub fn with(mut self, args: &UpstreamArgs) -> Config {
        if let Some(upstream) = &args.upstream {
            self.upstream.clone_from(upstream);
            // A download URL belongs to the upstream that it was configured with.
            self.download_url = None;
        }
        if args.download_url.is_some() {
            self.download_url.clone_from(&args.download_url);
        }
        if args.contact.is_some() {
            self.network.contact.clone_from(&args.contact);
        }
        self.network.ca_files.extend(args.ca_file.iter().cloned());
        self
    }

    /// The store's limits.
    pub fn store_limits(&self) -> StoreLimits {
        let defaults = StoreLimits::default();
        let pack_bytes = self.store.pack_size.map_or(defaults.pack_bytes, |size| size.as_u64());
        StoreLimits { pack_bytes, ..defaults }
    }
}

/// Reads the text of a configuration.
pub fn parse(text: &str) -> Result<Config, toml::de::Error> {
    toml::from_str(text)
}

/// The text of a new mirror's configuration.
pub fn text(id: &str, args: &UpstreamArgs) -> anyhow::Result<String> {
    let quoted = |value: &str| toml::Value::String(value.to_owned()).to_string();
    let line = |key: &str, value: Option<&str>, example: &str| match value {
        Some(value) => format!("{key} = {}", quoted(value)),
        None => format!("# {key} = {}", quoted(example)),
    };
    let mut files = Vec::new();
    for file in &args.ca_file {
        let path = std::path::absolute(file).with_context(|| format!("cannot find {}", file.display()))?;
        files.push(quoted(&path.to_string_lossy()));
    }
    let ca_files =
        if files.is_empty() { "# ca-files = []".into() } else { format!("ca-files = [{}]", files.join(", ")) };
    let upstream = absolute_upstream(args.upstream.as_deref().unwrap_or("crates-io"))?;
    let download_url = line("download-url", args.download_url.as_deref(), "https://host/crates");
    let contact = line("contact", args.contact.as_deref(), "ops@example.org");
    let upstream = quoted(&upstream);
    Ok(format!(
        r#"# The configuration of a crateferry mirror. What the mirror wants is not here but in the mirror:
# `crateferry sync MIRROR --lockfile ...` adds to it.

# The format of this folder and the mirror's own id. Leave both alone.
format = {MIRROR_FORMAT}
mirror = "{id}"

# Where to sync from: crates-io, sparse+https://..., a git URL, or a checked-out index folder.
upstream = {upstream}

# Where crate files come from, instead of where the index says.
{download_url}

# Go on serving releases that were deleted upstream.
# keep-withdrawn = false

[network]
# A mail address or URL that the registry's operators can turn to.
{contact}
# Further CA certificates, PEM files.
{ca_files}
# Hosts that redirects and downloads may use beside the upstream's; they may be private.
# allow-hosts = []
# proxy = "http://proxy.example:3128"
# concurrency = "auto"
# connections = 4
# streams-per-connection = 64
# retries = 6
# retry-base = "500ms"
# retry-max = "30s"
# retry-after-cap = "2m"
# connect-timeout = "10s"
# tls-timeout = "10s"
# header-timeout = "30s"
# total-timeout = "10m"
# min-rate = 1024
# rate-window = "30s"
# max-conns-per-host = 32
# max-idle-conns = 32
# idle-timeout = "1m 30s"

[store]
# A pack is sealed at this size.
# pack-size = "1 GiB"
"#
    ))
}

/// A folder is kept by its whole path, so that the mirror can be used from anywhere.
fn absolute_upstream(upstream: &str) -> anyhow::Result<String> {
    if upstream == "crates-io" || upstream.contains("://") {
        return Ok(upstream.to_owned());
    }
    let path = std::path::absolute(upstream).with_context(|| format!("cannot find {upstream}"))?;
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_new_mirror_can_be_read_with_and_without_its_comments() {
        let args = UpstreamArgs {
            upstream: Some("sparse+https://host/index/".into()),
            contact: Some("a \"quoted\" one".into()),
            ca_file: vec!["/etc/ca.pem".into()],
            ..UpstreamArgs::default()
        };
        let text = text("0123", &args).unwrap();
        let config = parse(&text).unwrap();
        assert_eq!(config.upstream, "sparse+https://host/index/");
        assert_eq!(config.network.contact.as_deref(), Some("a \"quoted\" one"));

        let settings = |line: &str| line.starts_with("# ") && line.contains(" = ");
        let all: Vec<&str> = text.lines().map(|line| if settings(line) { &line[2..] } else { line }).collect();
        let config = parse(&all.join("\n")).unwrap();
        let expected = NetworkConfig {
            contact: config.network.contact.clone(),
            ca_files: config.network.ca_files.clone(),
            proxy: config.network.proxy.clone(),
            ..NetworkConfig::default()
        };
        assert_eq!(config.network, expected, "the comments show the defaults");
    }
}
