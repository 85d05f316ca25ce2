//! Every number of the network in one place, with its default.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most connections to one host, whatever the configuration says.
pub const MAX_CONNECTIONS: usize = 8;
/// The most requests at once on one HTTP/2 connection, whatever the configuration says.
pub const MAX_STREAMS: usize = 128;
/// How long the others wait for the answer to the first request of all, which tells how to ask this server.
pub(crate) const ALONE: Duration = Duration::from_secs(2);

/// What the receive windows of all HTTP/2 connections to one host may hold together, in bytes.
const WINDOW_MEMORY: usize = 16 * 1024 * 1024;

/// How to reach the network, and how gently: the section `[network]` of the configuration.
///
/// Durations are written like `30s`, `500ms` or `10m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkConfig {
    /// A mail address or URL that the registry's operators can turn to; part of the User-Agent.
    pub contact: Option<String>,
    /// The proxy for all requests, `http://...`; without one, the system's setting and the usual variables count.
    pub proxy: Option<String>,
    /// Files with further CA certificates, PEM, that are trusted beside the platform's.
    pub ca_files: Vec<PathBuf>,
    /// Hosts that redirects and downloads may use beside those named by the upstream; they may be private.
    pub allow_hosts: Vec<String>,
    /// How long a TCP connection may take.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long the TLS handshake may take on top.
    #[serde(with = "duration")]
    pub tls_timeout: Duration,
    /// How long an answer's headers may take, from the request on.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// How long one object may take; large ones get more in proportion to their size.
    #[serde(with = "duration")]
    pub total_timeout: Duration,
    /// The least bytes a second that a body must bring, measured over `rate-window`.
    pub min_rate: u64,
    /// Over what time `min-rate` is measured.
    #[serde(with = "duration")]
    pub rate_window: Duration,
    /// How often one object is asked for again within a run.
    pub retries: u32,
    /// The longest wait before the first retry; each further one doubles it.
    #[serde(with = "duration")]
    pub retry_base: Duration,
    /// The longest wait before any retry that the server did not ask for.
    #[serde(with = "duration")]
    pub retry_max: Duration,
    /// The longest wait that a server may ask for.
    #[serde(with = "duration")]
    pub retry_after_cap: Duration,
    /// How many requests may run at once: `auto`, or a fixed number.
    pub concurrency: Concurrency,
    /// HTTP/2 connections to one host, at most 8.
    pub connections: usize,
    /// Requests at once on each of them, at most 128.
    pub streams_per_connection: usize,
    /// HTTP/1.1 connections to one host, for servers that speak nothing newer, at most 256.
    pub max_conns_per_host: usize,
    /// Idle HTTP/1.1 connections that are kept for each host.
    pub max_idle_conns: usize,
    /// How long an idle connection is kept.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig {
            contact: None,
            proxy: None,
            ca_files: Vec::new(),
            allow_hosts: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            tls_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(600),
            min_rate: 1024,
            rate_window: Duration::from_secs(30),
            retries: 6,
            retry_base: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            retry_after_cap: Duration::from_secs(120),
            concurrency: Concurrency::Auto,
            connections: 4,
            streams_per_connection: 64,
            max_conns_per_host: 32,
            max_idle_conns: 32,
            idle_timeout: Duration::from_secs(90),
        }
    }
}

impl NetworkConfig {
    /// The User-Agent: program, version, where it comes from and whom to turn to.
    pub fn user_agent(&self) -> String {
        let program = concat!("crateferry/", env!("CARGO_PKG_VERSION"), " (+", env!("CARGO_PKG_REPOSITORY"));
        match &self.contact {
            Some(contact) => format!("{program}; {contact})"),
            None => format!("{program})"),
        }
    }

    /// HTTP/2 connections to one host, within its bounds.
    pub fn connections(&self) -> usize {
        self.connections.clamp(1, MAX_CONNECTIONS)
    }

    /// Requests at once on one HTTP/2 connection, within its bounds.
    pub fn streams(&self) -> usize {
        self.streams_per_connection.clamp(1, MAX_STREAMS)
    }

    /// The receive window of one HTTP/2 stream.
    ///
    /// All streams' windows together fit the connection's: bodies that wait for room in memory can fill their own
    /// windows, but never keep the bytes of another body away, so waiting for room cannot lock up.
    pub(crate) fn stream_window(&self) -> u32 {
        let window = WINDOW_MEMORY / (self.connections() * self.streams());
        window.clamp(16 * 1024, 1024 * 1024) as u32
    }

    /// The receive window of one HTTP/2 connection.
    pub(crate) fn connection_window(&self) -> u32 {
        // Below the protocol's initial 65,535 bytes a window cannot go.
        (self.stream_window() * self.streams() as u32).max(65_535)
    }
}

/// How many requests may run at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// Found while running: raised while the throughput grows, lowered when the server asks for it.
    #[default]
    Auto,
    /// Always this many.
    Fixed(usize),
}

/// A concurrency that is neither `auto` nor a number from 1 to 1,024.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither \"auto\" nor a number from 1 to 1024")]
pub struct ConcurrencyError(String);

impl std::str::FromStr for Concurrency {
    type Err = ConcurrencyError;

    fn from_str(text: &str) -> Result<Self, ConcurrencyError> {
        if text == "auto" {
            return Ok(Concurrency::Auto);
        }
        match text.parse() {
            Ok(count @ 1..=1024) => Ok(Concurrency::Fixed(count)),
            _ => Err(ConcurrencyError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Concurrency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Concurrency::Auto => f.write_str("auto"),
            Concurrency::Fixed(count) => count.fmt(f),
        }
    }
}

impl Serialize for Concurrency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Concurrency::Auto => serializer.serialize_str("auto"),
            Concurrency::Fixed(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Concurrency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

/// Durations as people write them.
mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};
    use jiff::fmt::friendly::{SpanParser, SpanPrinter};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&SpanPrinter::new().unsigned_duration_to_string(duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        SpanParser::new().parse_unsigned_duration(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_names_the_program_first_and_its_contact_last() {
        let config = NetworkConfig { contact: Some("mirror@example.org".to_owned()), ..NetworkConfig::default() };
        let agent = config.user_agent();
        assert!(agent.starts_with("crateferry/"), "{agent}");
        assert!(agent.contains("(+https://"), "{agent}");
        assert!(agent.ends_with("; mirror@example.org)"), "{agent}");
        assert!(!NetworkConfig::default().user_agent().starts_with("cargo"));
    }

    #[test]
    fn windows_stay_within_their_memory_and_streams_within_their_connection() {
        for connections in 1..=MAX_CONNECTIONS {
            for streams_per_connection in [1, 16, 64, MAX_STREAMS] {
                let config = NetworkConfig { connections, streams_per_connection, ..NetworkConfig::default() };
                let (stream, whole) = (config.stream_window() as usize, config.connection_window() as usize);
                assert!(stream * streams_per_connection <= whole);
                assert!(whole * connections <= WINDOW_MEMORY.max(65_535 * connections));
            }
        }
    }

    #[test]
    fn a_configuration_is_read_as_people_write_it() {
        let config: NetworkConfig = serde_json::from_value(serde_json::json!({
            "contact": "https://example.org/mirror",
            "total-timeout": "2m 30s",
            "retry-base": "250ms",
            "concurrency": 12,
        }))
        .unwrap();
        assert_eq!(config.total_timeout, Duration::from_secs(150));
        assert_eq!(config.retry_base, Duration::from_millis(250));
        assert_eq!(config.concurrency, Concurrency::Fixed(12));
        assert_eq!(config.connections, 4);
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_and_an_impossible_concurrency_are_refused() {
        for wrong in [r#"{"conections": 4}"#, r#"{"concurrency": 0}"#, r#"{"concurrency": "many"}"#] {
            assert!(serde_json::from_str::<NetworkConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
