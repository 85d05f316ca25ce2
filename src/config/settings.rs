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
pub const SECTIONS: [(&str, &str); 8] = [
    ("", ""),
    ("network", "How to reach the network, and how gently. Times are like 500ms, 30s or 2m 30s."),
    ("store", "How the mirror's bytes are kept."),
    ("policy", "What may enter. Nothing in it keeps nothing out; what is held stays."),
    ("advisories", "The database of security advisories that goes with the mirror."),
    ("bundles", "How bundles are made and taken in."),
    ("log", "Where log lines go and how they look."),
    ("wishes", "What people behind a gap asked for and did not get. It tells the outside what the inside works on."),
];

const TOP: Setting =
    Setting { section: "", key: "", variable: None, kind: Kind::Text, default: None, example: "", about: "" };
const NETWORK: Setting = Setting { section: "network", ..TOP };
const STORE: Setting = Setting { section: "store", ..TOP };
const POLICY: Setting = Setting { section: "policy", ..TOP };
const ADVISORIES: Setting = Setting { section: "advisories", ..TOP };
const BUNDLES: Setting = Setting { section: "bundles", ..TOP };
const LOG: Setting = Setting { section: "log", ..TOP };
const WISHES: Setting = Setting { section: "wishes", ..TOP };

/// All of them, in the order of the file.
pub static SETTINGS: [Setting; 58] = [
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
        key: "record-downloads",
        variable: Some("CRATEFERRY_RECORD_DOWNLOADS"),
        kind: Kind::Switch,
        default: Some("false"),
        about: "Let `serve` write down who takes which crate file, by the name of the token or by address, in log/downloads.log;\n\
                `quarantine` tells it.",
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
        key: "checksum-change",
        variable: Some("CRATEFERRY_CHECKSUM_CHANGE"),
        kind: Kind::Word(&["keep", "switch", "refuse"]),
        default: Some("\"keep\""),
        about: "What becomes of a version that the upstream promises another checksum for than before: keep (what was\n\
                served goes on being served), switch (the new one, once it is held), refuse (neither is given out until\n\
                an operator decides).",
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
        key: "allow",
        variable: Some("CRATEFERRY_POLICY_ALLOW"),
        kind: Kind::Names,
        default: Some("[]"),
        about: "If any are named, only these: NAME or NAME@REQ, where the name may hold *.",
        ..POLICY
    },
    Setting {
        key: "deny",
        variable: Some("CRATEFERRY_POLICY_DENY"),
        kind: Kind::Names,
        default: Some("[]"),
        about: "None of these, written in the same way.",
        ..POLICY
    },
    Setting {
        key: "newest",
        variable: Some("CRATEFERRY_POLICY_NEWEST"),
        kind: Kind::Count { least: 1, most: u32::MAX as u64 },
        example: "3",
        about: "The newest so many releases of each crate, counted among what else may enter.",
        ..POLICY
    },
    Setting {
        key: "newest-per-range",
        variable: Some("CRATEFERRY_POLICY_NEWEST_PER_RANGE"),
        kind: Kind::Count { least: 1, most: u32::MAX as u64 },
        example: "1",
        about: "The newest so many of each range of compatible versions.",
        ..POLICY
    },
    Setting {
        key: "published-after",
        variable: Some("CRATEFERRY_POLICY_PUBLISHED_AFTER"),
        example: "\"2020-01-01\"",
        about: "What was published on this day or later.",
        ..POLICY
    },
    Setting {
        key: "published-before",
        variable: Some("CRATEFERRY_POLICY_PUBLISHED_BEFORE"),
        example: "\"2026-01-01\"",
        about: "What was published before this day.",
        ..POLICY
    },
    Setting {
        key: "cool-down",
        variable: Some("CRATEFERRY_POLICY_COOL_DOWN"),
        kind: Kind::Age,
        example: "\"14d\"",
        about: "What was published at least so long ago; younger releases wait.",
        ..POLICY
    },
    Setting {
        key: "max-size",
        variable: Some("CRATEFERRY_POLICY_MAX_SIZE"),
        kind: Kind::Size,
        example: "\"10 MiB\"",
        about: "Crate files of at most this size. Needs a dump.",
        ..POLICY
    },
    Setting {
        key: "licenses",
        variable: Some("CRATEFERRY_POLICY_LICENSES"),
        kind: Kind::Names,
        default: Some("[]"),
        about: "Accepted licences, as SPDX identifiers; one side of an OR is enough. Needs a dump.",
        ..POLICY
    },
    Setting {
        key: "rust-version",
        variable: Some("CRATEFERRY_POLICY_RUST_VERSION"),
        example: "\"1.85\"",
        about: "What builds with this version of Rust, as far as releases say what they need.",
        ..POLICY
    },
    Setting {
        key: "min-downloads",
        variable: Some("CRATEFERRY_POLICY_MIN_DOWNLOADS"),
        kind: Kind::Count { least: 1, most: u32::MAX as u64 },
        example: "1000",
        about: "Crates that were downloaded at least so often. Needs a dump.",
        ..POLICY
    },
    Setting {
        key: "owners",
        variable: Some("CRATEFERRY_POLICY_OWNERS"),
        kind: Kind::Names,
        default: Some("[]"),
        about: "Crates that one of these owns, by logins as the registry has them. Needs a dump.",
        ..POLICY
    },
    Setting {
        key: "unknown",
        variable: Some("CRATEFERRY_POLICY_UNKNOWN"),
        kind: Kind::Word(&["in", "out"]),
        default: Some("\"in\""),
        about: "What becomes of releases of which a rule cannot know what it looks at: in or out.",
        ..POLICY
    },
    Setting {
        key: "advisories",
        variable: Some("CRATEFERRY_POLICY_ADVISORIES"),
        kind: Kind::Word(&["off", "malware", "vulnerable", "any"]),
        default: Some("\"malware\""),
        about: "Which advisories keep out the releases that they are about: off, malware, vulnerable, any.",
        ..POLICY
    },
    Setting {
        key: "advisory-db",
        variable: Some("CRATEFERRY_POLICY_ADVISORY_DB"),
        kind: Kind::Path,
        example: "\"advisory-db\"",
        about: "A RustSec advisory database: the folder that it is checked out in.",
        ..POLICY
    },
    Setting {
        key: "dump",
        variable: Some("CRATEFERRY_POLICY_DUMP"),
        kind: Kind::Place,
        example: "\"db-dump.tar.gz\"",
        about: "The registry's database dump, a file or a URL: sizes, licences, downloads and owners are taken from it.",
        ..POLICY
    },
    Setting {
        key: "upstream",
        variable: Some("CRATEFERRY_ADVISORIES_UPSTREAM"),
        example: "\"https://github.com/RustSec/advisory-db\"",
        kind: Kind::Url,
        about: "The git repository of a RustSec advisory database. Each sync brings it along, bundles carry it, and `serve`\n\
                has it at /advisory-db.",
        ..ADVISORIES
    },
    Setting {
        key: "memory",
        variable: Some("CRATEFERRY_MEMORY"),
        kind: Kind::Size,
        default: Some("\"512 MiB\""),
        about: "How much memory it may take to make a bundle or to take one in; at least 400 MiB. Bundles do not depend on\n\
                it: with less of it, less is done at once.",
        ..BUNDLES
    },
    Setting {
        key: "incoming",
        variable: Some("CRATEFERRY_INCOMING"),
        kind: Kind::Size,
        default: Some("\"16 GiB\""),
        about: "How many bytes of bundles may wait in incoming/ for others that have to be applied before them.",
        ..BUNDLES
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
    Setting {
        key: "collect",
        variable: Some("CRATEFERRY_WISHES_COLLECT"),
        kind: Kind::Switch,
        default: Some("false"),
        about: "Let `serve` note crates that it was asked for in vain, and lock files that are given to its page /wishes;\n\
                `receipt` takes the names along. Names and versions alone are noted, nothing of who asked.",
        ..WISHES
    },
    Setting {
        key: "approved",
        variable: Some("CRATEFERRY_WISHES_APPROVED"),
        kind: Kind::Path,
        example: "\"approved.txt\"",
        about: "A file with one crate name on each line: no other names are noted or taken along.",
        ..WISHES
    },
    Setting {
        key: "most",
        variable: Some("CRATEFERRY_WISHES_MOST"),
        kind: Kind::Count { least: 1, most: 100_000 },
        default: Some("1000"),
        about: "How many names are noted and taken along.",
        ..WISHES
    },
    Setting {
        key: "size",
        variable: Some("CRATEFERRY_WISHES_SIZE"),
        kind: Kind::Size,
        default: Some("\"64 KiB\""),
        about: "How many bytes they may have together.",
        ..WISHES
    },
];
