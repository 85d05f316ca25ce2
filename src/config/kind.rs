//! What a setting takes, and whether a value is that.

use std::fmt;

use crateferry_pipeline::net::Concurrency;
use jiff::fmt::friendly::SpanParser;
use toml::Value;

use crate::cli::Rotation;

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A text that may be a URL, and then may hold a password.
    Url,
    /// A file's path.
    Path,
    /// A file: its path, or a URL.
    Place,
    /// Several paths; those of all layers add up.
    Paths,
    /// Several names; those of all layers add up.
    Names,
    /// Yes or no.
    Switch,
    /// A whole number within these bounds.
    Count {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A length of time.
    Time,
    /// An age: a length of time, in which a day has 24 hours.
    Age,
    /// A number of bytes.
    Size,
    /// A number of requests, or `auto`.
    Concurrency,
    /// When a log file ends.
    Rotation,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Kind {
    /// Whether a value, as TOML has it, is of this kind.
    pub fn takes(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Kind::Text | Kind::Url => text.is_some(),
            Kind::Path | Kind::Place => text.is_some_and(|text| !text.is_empty()),
            Kind::Paths | Kind::Names => value.as_array().is_some_and(|all| all.iter().all(Value::is_str)),
            Kind::Switch => value.is_bool(),
            Kind::Count { least, most } => {
                let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
                number.is_some_and(|number| (least..=most).contains(&number))
            }
            Kind::Time => text.is_some_and(|text| SpanParser::new().parse_unsigned_duration(text).is_ok()),
            Kind::Age => text.is_some_and(|text| crateferry_pipeline::index::policy::age(text).is_ok()),
            Kind::Size => {
                text.is_some_and(|text| text.parse::<bytesize::ByteSize>().is_ok_and(|size| size.as_u64() > 0))
            }
            Kind::Concurrency => match value {
                Value::Integer(number) => number.to_string().parse::<Concurrency>().is_ok(),
                other => other.as_str().is_some_and(|text| text.parse::<Concurrency>().is_ok()),
            },
            Kind::Rotation => text.is_some_and(|text| text.parse::<Rotation>().is_ok()),
            Kind::Word(words) => text.is_some_and(|text| words.contains(&text)),
        }
    }

    /// The value that a variable of the environment holds. It need not be of this kind.
    pub fn read(self, text: &str) -> Value {
        let texts = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
        match self {
            Kind::Paths => {
                let paths = std::env::split_paths(text).map(|path| path.to_string_lossy().into_owned());
                texts(paths.filter(|path| !path.is_empty()).collect())
            }
            Kind::Names => texts(text.split(',').map(|name| name.trim().to_owned()).collect()),
            Kind::Switch => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Boolean),
            Kind::Count { .. } | Kind::Concurrency => {
                text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer)
            }
            _ => Value::String(text.to_owned()),
        }
    }

    /// Whether the values of all layers add up, where otherwise the last one counts.
    pub fn adds_up(self) -> bool {
        matches!(self, Kind::Paths | Kind::Names)
    }
}

/// What is taken, as in "it takes ...".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("a text"),
            Kind::Url => f.write_str("a text"),
            Kind::Path => f.write_str("a path"),
            Kind::Place => f.write_str("a path or a URL"),
            Kind::Paths => f.write_str("a list of paths"),
            Kind::Names => f.write_str("a list of names"),
            Kind::Switch => f.write_str("true or false"),
            Kind::Count { least: 0, most } if *most >= u64::from(u32::MAX) => f.write_str("a whole number"),
            Kind::Count { least, most } if *most >= u64::from(u32::MAX) => {
                write!(f, "a whole number that is at least {least}")
            }
            Kind::Count { least, most } => write!(f, "a whole number from {least} to {most}"),
            Kind::Time => f.write_str("a time like \"500ms\", \"30s\" or \"2m 30s\""),
            Kind::Age => f.write_str("a time like \"36h\", \"14d\" or \"2w\""),
            Kind::Size => f.write_str("a size like \"500 MB\" or \"1 GiB\""),
            Kind::Concurrency => f.write_str("\"auto\" or a whole number from 1 to 1024"),
            Kind::Rotation => f.write_str("a size like \"64 MiB\", \"daily\", both with a comma between, or \"off\""),
            Kind::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                write!(f, "one of {}", quoted.join(", "))
            }
        }
    }
}
