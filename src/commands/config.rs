//! `crateferry config show`: what holds, and whose word it is.

use std::collections::BTreeSet;
use std::fmt;

use crateferry_store::{Layout, Mirror};
use serde::Serialize;
use toml::Value;

use crate::cli::{ConfigAction, ConfigArgs, ConfigShowArgs, LoggingArgs, option_variables};
use crate::config::{Config, Kind, Origin, SECTIONS, SETTINGS, nearest};
use crate::dump;
use crate::report::{self, Exit};

pub fn run(args: &ConfigArgs, logging: &LoggingArgs) -> anyhow::Result<Exit> {
    let ConfigAction::Show(args) = &args.action;
    report::print(args.json, &Shown::new(args, logging)?)?;
    Ok(Exit::Complete)
}

/// A longer line does not move the column of origins.
const WIDE: usize = 60;

/// All settings of a mirror.
#[derive(Serialize)]
struct Shown {
    file: String,
    settings: Vec<Set>,
    variables: Vec<Variable>,
}

#[derive(Serialize)]
struct Set {
    section: &'static str,
    key: &'static str,
    /// None if nothing is set and there is no default.
    value: Option<Value>,
    origins: Vec<Origin>,
}

/// A variable that looks as if it were meant for this program and sets none of the settings.
#[derive(Serialize)]
struct Variable {
    name: String,
    /// None if it is a secret.
    value: Option<String>,
    /// The option that it stands for, if it stands for any.
    option: Option<String>,
    /// The name that may be meant.
    nearest: Option<String>,
}

impl Shown {
    fn new(args: &ConfigShowArgs, logging: &LoggingArgs) -> anyhow::Result<Shown> {
        Mirror::check_there(&args.mirror)?;
        let given = [args.upstream.given(), args.network.given(), logging.given()].concat();
        let config = Config::read(&args.mirror)?.with(given)?;
        let settings = SETTINGS.iter().map(|setting| {
            let (value, origins) = config.settings().get(setting);
            let value = value.map(|value| masked(setting.kind, value));
            Set { section: setting.section, key: setting.key, value, origins: origins.to_vec() }
        });
        let file = Layout::new(&args.mirror).config().display().to_string();
        Ok(Shown { file, settings: settings.collect(), variables: variables() })
    }
}

/// The variables of the environment that begin with our name, but those that set something.
fn variables() -> Vec<Variable> {
    let set: BTreeSet<&str> = SETTINGS.iter().filter_map(|setting| setting.variable).collect();
    let options = option_variables();
    let mut names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    names.retain(|name| name.starts_with("CRATEFERRY_") && !set.contains(name.as_str()));
    names.sort();
    let told = names.into_iter().map(|name| {
        let option = options.iter().find(|option| option.name == name);
        let value = std::env::var_os(&name).map(|value| masked_url(&value.to_string_lossy()));
        Variable {
            value: value.filter(|_| option.is_some_and(|option| !option.secret)),
            nearest: if option.is_some() { None } else { nearest(&name, set.iter().copied()).map(str::to_owned) },
            option: option.map(|option| option.option.clone()),
            name,
        }
    });
    told.collect()
}

/// The value without what is nobody's business.
fn masked(kind: Kind, value: Value) -> Value {
    match (kind, value) {
        (Kind::Url, Value::String(url)) => Value::String(masked_url(&url)),
        (Kind::Place, Value::String(place)) if dump::url(&place).is_some() => Value::String(masked_url(&place)),
        (_, value) => value,
    }
}

/// A URL without user, password and query. What is none stays as it is.
fn masked_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
    let (host, path) = rest.split_at(rest.find(['/', '#']).unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host.to_owned(), |(_, host)| format!("***@{host}"));
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{host}{path}{query}")
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# what holds for {}, and where each value comes from", self.file)?;
        let width = self.settings.iter().filter_map(Set::line).map(|line| line.chars().count());
        let width = width.filter(|width| *width <= WIDE).max().unwrap_or(0);
        for (section, _) in SECTIONS {
            if !section.is_empty() {
                writeln!(f, "\n[{section}]")?;
            }
            for set in self.settings.iter().filter(|set| set.section == section) {
                let origins: Vec<String> = set.origins.iter().map(ToString::to_string).collect();
                match set.line() {
                    Some(line) => writeln!(f, "{line:width$}  # {}", origins.join(" and "))?,
                    None => writeln!(f, "# {} is not set", set.key)?,
                }
            }
        }
        if !self.variables.is_empty() {
            writeln!(f)?;
        }
        self.variables.iter().try_for_each(|variable| writeln!(f, "# {variable}"))
    }
}

impl Set {
    /// As the file would have it.
    fn line(&self) -> Option<String> {
        self.value.as_ref().map(|value| format!("{} = {value}", self.key))
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.option, &self.value, &self.nearest) {
            (Some(option), Some(value), _) => write!(f, "{name} = {value:?} stands for {option}"),
            (Some(option), None, _) => write!(f, "{name} is set, and stands for {option}; its value is not shown"),
            (None, _, Some(near)) => write!(f, "{name} is set, and nothing reads it; did you mean {near}?"),
            (None, ..) => write!(f, "{name} is set, and nothing reads it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_not_shown() {
        for (url, shown) in [
            ("crates-io", "crates-io"),
            ("/srv/a@b/index", "/srv/a@b/index"),
            ("sparse+https://user:pass@host:80/index/", "sparse+https://***@host:80/index/"),
            ("http://token@proxy:3128", "http://***@proxy:3128"),
            ("user:p@ss@proxy:3128", "***@proxy:3128"),
            ("https://host/{crate}?sig=secret#x", "https://host/{crate}?***"),
            ("https://host", "https://host"),
        ] {
            assert_eq!(masked_url(url), shown);
        }
    }
}
