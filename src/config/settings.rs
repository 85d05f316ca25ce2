//! Every setting: where it stands in the file, which variable sets it, what it takes, what it means.
//!
//! The file that `init` writes, the checks of what people write, and `config show` are all made of this table.

use super::kind::Kind;

/// A thing that can be set.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The section of the file; empty for keys above all sections.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// The variable of the environment that sets it too.
    pub variable: Option<&'static str>,
    /// What it takes.
    pub kind: Kind,
    /// What holds if nobody says anything, in TOML's words; none if that is no value of its kind.
    pub default: Option<&'static str>,
    /// What one could write, if there is no default.
    pub example: &'static str,
    /// What it means, as the comment in the file.
    pub about: &'static str,
}

impl Setting {
    /// The setting with this key in this section.
    pub fn find(section: &str, key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.section == section && setting.key == key)
    }

    /// All of a section, in their order.
    pub fn of(section: &str) -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(move |setting| setting.section == section)
    }
}

/// The sections of the file, in their order, each with what its comment says.
pub const SECTIONS: [(&str, &str); 4] = [
    ("", ""),
    ("network", "How to reach the network, and how gently. Times are like 500ms, 30s or 2m 30s."),
    ("store", "How the mirror's bytes are kept."),
    ("log", "Where log lines go and how they look."),
];

const TOP: Setting =
    Setting { section: "", key: "", variable: None, kind: Kind::Text, default: None, example: "", about: "" };
const NETWORK: Setting = Setting { section: "network", ..TOP };
const STORE: Setting = Setting { section: "store", ..TOP };
const LOG: Setting = Setting { section: "log", ..TOP };

/// All of them, in the order of the file.
pub static SETTINGS: [Setting; 33] = [
    Setting {
        key: "format",
        kind: Kind::Count { least: 1, most: u32::MAX as u64 },
        about: "The format of this folder. Leave it alone.",
        ..TOP
    },
    Setting { key: "mirror", about: "The mirror's own id. Leave it alone.", ..TOP },
    Setting {
        key: "role",
        kind: Kind::Word(&["origin", "replica"]),
        default: Some("\"origin\""),
        about: "origin: it syncs from an upstream. replica: it takes bundles. Leave it alone.",
        ..TOP
    },
    Setting {
        key: "upstream",
        variable: Some("CRATEFERRY_UPSTREAM"),
        kind: Kind::Url,
        default: Some("\"crates-io\""),
        about: "Where to sync from: crates-io, sparse+https://..., a git URL, or a checked-out index folder.",
        ..TOP
    },
    Setting {
        key: "download-url",
        variable: Some("CRATEFERRY_DOWNLOAD_URL"),
        kind: Kind::Url,
        example: "\"https://host/crates\"",
        about: "Where crate files come from, instead of where the index says. May hold {crate} {version} {prefix}\n\
                {lowerprefix} {sha256-checksum}; without any of them, /{crate}/{version}/download is put behind it.",
        ..TOP
    },
    Setting {
        key: "keep-withdrawn",
        variable: Some("CRATEFERRY_KEEP_WITHDRAWN"),
        kind: Kind::Switch,
        default: Some("false"),
        about: "Go on serving releases that were deleted upstream.",
        ..TOP
    },
    Setting {
        key: "sidecars",
        variable: Some("CRATEFERRY_SIDECARS"),
        kind: Kind::Word(&["manifest", "index", "off"]),
        default: Some("\"manifest\""),
        about: "What sidecars, the documents that describe releases, are made of: manifest (the index and the crate\n\
                file), index (the index alone), off (there are none).",
        ..TOP
    },
    Setting {
        key: "contact",
        variable: Some("CRATEFERRY_CONTACT"),
        example: "\"ops@example.org\"",
        about: "A mail address or URL that the registry's operators can turn to; sent with each request.",
        ..NETWORK
    },
    Setting {
        key: "proxy",
        variable: Some("CRATEFERRY_PROXY"),
        kind: Kind::Url,
        example: "\"http://proxy.example:3128\"",
        about: "The proxy for all requests. Without it, HTTPS_PROXY and its kin count, or the system's setting.",
        ..NETWORK
    },
    Setting {
        key: "ca-files",
        variable: Some("CRATEFERRY_CA_FILE"),
        kind: Kind::Paths,
        default: Some("[]"),
        about: "Files with further CA certificates, PEM, that are trusted beside the platform's.",
        ..NETWORK
    },
    Setting {
        key: "allow-hosts",
        variable: Some("CRATEFERRY_ALLOW_HOSTS"),
        kind: Kind::Names,
        default: Some("[]"),
        about: "Hosts that redirects and downloads may use beside the upstream's; they may be private.",
        ..NETWORK
    },
    Setting {
        key: "concurrency",
        variable: Some("CRATEFERRY_CONCURRENCY"),
        kind: Kind::Concurrency,
        default: Some("\"auto\""),
        about: "Requests at once: a number, or auto, which grows while the throughput does and gives way when the\n\
                server asks for it.",
        ..NETWORK
    },
    Setting {
        key: "connections",
        variable: Some("CRATEFERRY_CONNECTIONS"),
        kind: Kind::Count { least: 1, most: 8 },
        default: Some("4"),
        about: "HTTP/2 connections to one host, at most 8.",
        ..NETWORK
    },
    Setting {
        key: "streams-per-connection",
        variable: Some("CRATEFERRY_STREAMS_PER_CONNECTION"),
        kind: Kind::Count { least: 1, most: 128 },
        default: Some("64"),
        about: "Requests at once on each of them, at most 128.",
        ..NETWORK
    },
    Setting {
        key: "max-conns-per-host",
        variable: Some("CRATEFERRY_MAX_CONNS_PER_HOST"),
        kind: Kind::Count { least: 1, most: 256 },
        default: Some("32"),
        about: "HTTP/1.1 connections to one host, for servers that speak nothing newer, at most 256.",
        ..NETWORK
    },
    Setting {
        key: "max-idle-conns",
        variable: Some("CRATEFERRY_MAX_IDLE_CONNS"),
        kind: Kind::Count { least: 0, most: 256 },
        default: Some("32"),
        about: "Idle HTTP/1.1 connections that are kept for each host.",
        ..NETWORK
    },
    Setting {
        key: "idle-timeout",
        variable: Some("CRATEFERRY_IDLE_TIMEOUT"),
        kind: Kind::Time,
        default: Some("\"1m 30s\""),
        about: "How long an idle connection is kept.",
        ..NETWORK
    },
    Setting {
        key: "retries",
        variable: Some("CRATEFERRY_RETRIES"),
        kind: Kind::Count { least: 0, most: u32::MAX as u64 },
        default: Some("6"),
        about: "How often one object is asked for again within a run.",
        ..NETWORK
    },
    Setting {
        key: "retry-base",
        variable: Some("CRATEFERRY_RETRY_BASE"),
        kind: Kind::Time,
        default: Some("\"500ms\""),
        about: "The longest wait before the first retry; each further one doubles it.",
        ..NETWORK
    },
    Setting {
        key: "retry-max",
        variable: Some("CRATEFERRY_RETRY_MAX"),
        kind: Kind::Time,
        default: Some("\"30s\""),
        about: "The longest wait before any retry that the server did not ask for.",
        ..NETWORK
    },
    Setting {
        key: "retry-after-cap",
        variable: Some("CRATEFERRY_RETRY_AFTER_CAP"),
        kind: Kind::Time,
        default: Some("\"2m\""),
        about: "The longest wait that a server may ask for.",
        ..NETWORK
    },
    Setting {
        key: "connect-timeout",
        variable: Some("CRATEFERRY_CONNECT_TIMEOUT"),
        kind: Kind::Time,
        default: Some("\"10s\""),
        about: "How long a TCP connection may take.",
        ..NETWORK
    },
    Setting {
        key: "tls-timeout",
        variable: Some("CRATEFERRY_TLS_TIMEOUT"),
        kind: Kind::Time,
        default: Some("\"10s\""),
        about: "How long the TLS handshake may take on top.",
        ..NETWORK
    },
    Setting {
        key: "header-timeout",
        variable: Some("CRATEFERRY_HEADER_TIMEOUT"),
        kind: Kind::Time,
        default: Some("\"30s\""),
        about: "How long an answer's headers may take, from the request on.",
        ..NETWORK
    },
    Setting {
        key: "total-timeout",
        variable: Some("CRATEFERRY_TOTAL_TIMEOUT"),
        kind: Kind::Time,
        default: Some("\"10m\""),
        about: "How long one object may take; large ones get more in proportion to their size.",
        ..NETWORK
    },
    Setting {
        key: "min-rate",
        variable: Some("CRATEFERRY_MIN_RATE"),
        kind: Kind::Count { least: 0, most: i64::MAX as u64 },
        default: Some("1024"),
        about: "The least bytes a second that a body must bring.",
        ..NETWORK
    },
    Setting {
        key: "rate-window",
        variable: Some("CRATEFERRY_RATE_WINDOW"),
        kind: Kind::Time,
        default: Some("\"30s\""),
        about: "Over what time min-rate is measured.",
        ..NETWORK
    },
    Setting {
        key: "pack-size",
        variable: Some("CRATEFERRY_PACK_SIZE"),
        kind: Kind::Size,
        default: Some("\"1 GiB\""),
        about: "A pack is sealed at this size.",
        ..STORE
    },
    Setting {
        key: "file",
        variable: Some("CRATEFERRY_LOG_FILE"),
        kind: Kind::Path,
        example: "\"log/crateferry.log\"",
        about: "Append log lines to this file instead of writing them to stderr; below the mirror, unless it is a\n\
                whole path.",
        ..LOG
    },
    Setting {
        key: "format",
        variable: Some("CRATEFERRY_LOG_FORMAT"),
        kind: Kind::Word(&["text", "json"]),
        default: Some("\"text\""),
        about: "How log lines look: text or json.",
        ..LOG
    },
    Setting {
        key: "level",
        variable: Some("CRATEFERRY_LOG_LEVEL"),
        kind: Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        default: Some("\"info\""),
        about: "The least level that is logged: error, warn, info, debug or trace.",
        ..LOG
    },
    Setting {
        key: "rotate",
        variable: Some("CRATEFERRY_LOG_ROTATE"),
        kind: Kind::Rotation,
        default: Some("\"64 MiB\""),
        about: "When the log file gives way to a new one: at a size, daily, at both (\"64 MiB, daily\"), or off.",
        ..LOG
    },
    Setting {
        key: "keep",
        variable: Some("CRATEFERRY_LOG_KEEP"),
        kind: Kind::Count { least: 0, most: 10_000 },
        default: Some("8"),
        about: "How many older log files are kept.",
        ..LOG
    },
];
