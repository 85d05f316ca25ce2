//! `crateferry.toml`: written when a mirror is made, then only read. What the environment says goes before it, and what
//! the command line says before both.
//!
//! Each value keeps where it comes from, and nothing that people write is ignored: a key that is none and a value that its
//! key does not take are refused, with the line or the variable.

mod file;
mod flags;
mod kind;
mod layers;
mod settings;
mod template;

use std::path::{Path, PathBuf};

use anyhow::Context;
use crateferry_pipeline::bundle::Memory;
use crateferry_pipeline::index::policy::PolicyConfig;
use crateferry_pipeline::index::select::ChecksumChange;
use crateferry_pipeline::net::NetworkConfig;
use crateferry_store::{Layout, StoreLimits};
use serde::Deserialize;

pub use file::nearest;
pub use kind::Kind;
pub use layers::{Given, Origin, Settings};
pub use settings::{SECTIONS, SETTINGS, Setting};
pub use template::text;

use crate::cli::{LogFormat, Rotation, Sidecars};
use crate::report::usage;

/// A mirror's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The format of the mirror's folder; the store checks it.
    #[serde(rename = "format", default)]
    pub _format: u32,
    /// The mirror's id; the packs have it too.
    #[serde(rename = "mirror", default)]
    pub _mirror: String,
    /// Whether it syncs or takes bundles.
    #[serde(default)]
    pub role: Role,
    /// Where the mirror syncs from.
    #[serde(default = "crates_io")]
    pub upstream: String,
    /// Where crate files come from, instead of where the index says.
    #[serde(default)]
    pub download_url: Option<String>,
    /// Go on serving what was deleted upstream.
    #[serde(default)]
    pub keep_withdrawn: bool,
    /// What becomes of a version that the upstream promises another checksum for.
    #[serde(default)]
    pub checksum_change: ChecksumChange,
    /// Write down who takes which crate file.
    #[serde(default)]
    pub record_downloads: bool,
    /// What sidecars are made of.
    #[serde(default)]
    pub sidecars: Sidecars,
    /// The network.
    #[serde(default)]
    pub network: NetworkConfig,
    /// The packs.
    #[serde(default)]
    pub store: StoreConfig,
    /// What may enter.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Security advisories.
    #[serde(default)]
    pub advisories: AdvisoriesConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
    /// Making bundles, and taking them in.
    #[serde(default)]
    pub bundles: BundlesConfig,
    /// What was asked for in vain.
    #[serde(default)]
    pub wishes: WishesConfig,
    /// What this was made of.
    #[serde(skip)]
    settings: Settings,
}

/// Where a mirror has its content from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// From an upstream: it publishes generations of its own.
    #[default]
    Origin,
    /// From bundles of an origin.
    Replica,
}

impl Role {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Role::Origin => "origin",
            Role::Replica => "replica",
        }
    }
}

fn crates_io() -> String {
    "crates-io".to_owned()
}

/// The section `[store]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StoreConfig {
    /// A pack is sealed at this size.
    pub pack_size: Option<bytesize::ByteSize>,
}

/// The section `[advisories]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AdvisoriesConfig {
    /// The git repository of the database that goes with the mirror.
    pub upstream: Option<String>,
}

/// The section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LogConfig {
    /// Where log lines go instead of stderr.
    pub file: Option<PathBuf>,
    /// How they look.
    pub format: LogFormat,
    /// The least level that is logged.
    pub level: String,
    /// When the file gives way to a new one.
    pub rotate: Rotation,
    /// How many older files are kept.
    pub keep: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            file: None,
            format: LogFormat::Text,
            level: "info".to_owned(),
            rotate: Rotation { size: Some(64 << 20), daily: false },
            keep: 8,
        }
    }
}

/// The section `[bundles]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BundlesConfig {
    /// How much memory it may take.
    pub memory: bytesize::ByteSize,
    /// How much may wait until another bundle is applied.
    pub incoming: bytesize::ByteSize,
}

impl Default for BundlesConfig {
    fn default() -> Self {
        BundlesConfig { memory: bytesize::ByteSize::b(Memory::DEFAULT), incoming: bytesize::ByteSize::gib(16) }
    }
}

impl BundlesConfig {
    /// How much memory it may take to make a bundle or to take one in.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        Memory::new(self.memory.as_u64()).map_err(|error| usage(format!("`memory` of [bundles]: {error}")))
    }
}

/// The section `[wishes]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WishesConfig {
    /// Whether they are noted and taken along.
    pub collect: bool,
    /// The only names that are.
    pub approved: Option<PathBuf>,
    /// How many at most.
    pub most: usize,
    /// Bytes of all together at most.
    pub size: bytesize::ByteSize,
}

impl Default for WishesConfig {
    fn default() -> Self {
        WishesConfig { collect: false, approved: None, most: 1000, size: bytesize::ByteSize::kib(64) }
    }
}

impl Config {
    /// Reads the configuration of a mirror, and over it the environment.
    pub fn read(mirror: &Path) -> anyhow::Result<Config> {
        let path = Layout::new(mirror).config();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Config::parse(&text, &path)
    }

    /// The configuration that a file with this text is, and over it the environment.
    pub fn parse(text: &str, path: &Path) -> anyhow::Result<Config> {
        Settings::read(text, path)?.config()
    }

    /// What holds if this is said on top.
    pub fn with(self, given: Vec<Given>) -> anyhow::Result<Config> {
        self.settings.with(given).config()
    }

    /// Each value and where it comes from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The store's limits.
    pub fn store_limits(&self) -> StoreLimits {
        let defaults = StoreLimits::default();
        let pack_bytes = self.store.pack_size.map_or(defaults.pack_bytes, |size| size.as_u64());
        StoreLimits { pack_bytes, ..defaults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("/srv/mirror/crateferry.toml")).unwrap()
    }

    fn chosen() -> Settings {
        Settings::default().with(vec![
            Given::by_flag("--upstream", "", "upstream", "sparse+https://host/index/"),
            Given::by_flag("--contact", "network", "contact", "a \"quoted\" one"),
            Given::by_flag("--ca-file", "network", "ca-files", vec!["/etc/ca.pem"]),
        ])
    }

    /// The text with all settings, also those that are commented out.
    fn with_all_set(text: &str) -> String {
        let is_commented = |line: &str| {
            let key = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")).map(|(key, _)| key);
            key.is_some_and(|key| SETTINGS.iter().any(|setting| setting.key == key))
        };
        let lines = text.lines().map(|line| if is_commented(line) { &line[2..] } else { line });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_configuration_of_a_new_mirror_can_be_read_with_and_without_its_comments() {
        let text = text("0123", &chosen()).unwrap();
        let config = parse(&text);
        assert_eq!(config.upstream, "sparse+https://host/index/");
        assert_eq!(config.network.contact.as_deref(), Some("a \"quoted\" one"));
        assert_eq!(config.network.ca_files, [Path::new("/etc/ca.pem")]);

        let config = parse(&with_all_set(&text));
        let expected = NetworkConfig {
            contact: config.network.contact.clone(),
            ca_files: config.network.ca_files.clone(),
            proxy: config.network.proxy.clone(),
            ..NetworkConfig::default()
        };
        assert_eq!(config.network, expected, "the comments show the defaults");
        assert_eq!(config.store_limits().pack_bytes, StoreLimits::default().pack_bytes);
        let file = Some(PathBuf::from("/srv/mirror/log/crateferry.log"));
        assert_eq!(config.log, LogConfig { file, ..LogConfig::default() });
        assert!(!config.keep_withdrawn);
        assert_eq!(config.bundles.memory().unwrap(), Memory::default());
        assert_eq!(config.bundles.incoming, BundlesConfig::default().incoming);
        let approved = Some(PathBuf::from("/srv/mirror/approved.txt"));
        assert_eq!(config.wishes, WishesConfig { approved, ..WishesConfig::default() });
    }

    #[test]
    fn the_configuration_of_a_new_mirror_has_every_setting_and_explains_it() {
        let text = text("0123", &Settings::default()).unwrap();
        let all = parse(&with_all_set(&text));
        for setting in &SETTINGS {
            let (_, origins) = all.settings().get(setting);
            assert!(matches!(origins, [Origin::File { .. }]), "{} is not in the file", setting.key);
            assert!(!setting.about.is_empty(), "{} is not explained", setting.key);
            assert!(setting.about.lines().all(|line| text.contains(&format!("# {line}\n"))), "{}", setting.key);
        }
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }

    #[test]
    fn defaults_are_values_of_their_kind() {
        for setting in &SETTINGS {
            let (value, _) = Settings::default().get(setting).to_owned();
            assert!(value.is_none_or(|value| setting.kind.takes(&value)), "{}", setting.key);
        }
    }

    #[test]
    fn what_is_said_on_top_counts_and_lists_add_up() {
        let file = "format = 1\nmirror = \"m\"\n[network]\nretries = 2\nca-files = [\"a.pem\"]\n";
        let config = parse(file).with(vec![
            Given::by_flag("--retries", "network", "retries", 9),
            Given::by_flag("--ca-file", "network", "ca-files", vec!["b.pem"]),
        ]);
        let config = config.unwrap();
        assert_eq!(config.network.retries, 9);
        assert_eq!(config.network.ca_files, [Path::new("/srv/mirror/a.pem"), Path::new("b.pem")]);
        let origins = |key| config.settings().get(Setting::find("network", key).unwrap()).1;
        assert_eq!(origins("retries"), [Origin::Flag { name: "--retries" }]);
        assert_eq!(origins("ca-files"), [Origin::File { line: 5 }, Origin::Flag { name: "--ca-file" }]);
        assert_eq!(origins("proxy"), [Origin::Default]);
    }

    #[test]
    fn another_upstream_takes_no_download_url_along() {
        let file = "format = 1\nmirror = \"m\"\nupstream = \"a\"\ndownload-url = \"https://a/\"\n";
        assert_eq!(parse(file).download_url.as_deref(), Some("https://a/"));
        let elsewhere = || Given::by_flag("--upstream", "", "upstream", "b");
        assert_eq!(parse(file).with(vec![elsewhere()]).unwrap().download_url, None);
        let both = vec![Given::by_flag("--download-url", "", "download-url", "https://b/"), elsewhere()];
        assert_eq!(parse(file).with(both).unwrap().download_url.as_deref(), Some("https://b/"));
    }

    #[test]
    fn a_file_without_the_mirrors_id_is_refused() {
        let error = Config::parse("format = 1\n", Path::new("m/crateferry.toml")).unwrap_err().to_string();
        assert!(error.starts_with("m/crateferry.toml: the key `mirror` is missing"), "{error}");
    }
}
