//! What holds of what several places say: flags before variables before the file before the defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use toml::{Table, Value};

use super::settings::{SETTINGS, Setting};
use super::{Config, file};
use crate::report::usage;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The mirror's `crateferry.toml`.
    File {
        /// From 1.
        line: usize,
    },
    /// The environment.
    Variable {
        /// The variable.
        name: &'static str,
    },
    /// The command line.
    Flag {
        /// The option, with its dashes.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { line } => write!(f, "line {line}"),
            Origin::Variable { name } | Origin::Flag { name } => f.write_str(name),
        }
    }
}

/// A value that one place gives.
#[derive(Clone, Debug)]
pub struct Given {
    /// Of what.
    pub setting: &'static Setting,
    /// Of the setting's kind.
    pub value: Value,
    /// From where.
    pub origin: Origin,
}

impl Given {
    /// What an option on the command line says.
    pub fn by_flag(name: &'static str, section: &str, key: &str, value: impl Into<Value>) -> Given {
        let setting = Setting::find(section, key).expect("options name settings that there are");
        Given { setting, value: value.into(), origin: Origin::Flag { name } }
    }
}

/// What holds: the last word on each setting, and whose it is.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    set: BTreeMap<(&'static str, &'static str), (Value, Vec<Origin>)>,
}

impl Settings {
    /// What the environment says.
    pub fn of_environment() -> anyhow::Result<Settings> {
        Ok(Settings::default().with(variables()?))
    }

    /// What a new replica begins with.
    pub fn replica() -> anyhow::Result<Settings> {
        Ok(Settings::of_environment()?.with(vec![Given::by_flag("bundle apply", "", "role", "replica")]))
    }

    /// What a mirror's file says, and over it the environment.
    pub fn read(text: &str, path: &Path) -> anyhow::Result<Settings> {
        let root = path.parent().unwrap_or(Path::new("."));
        let given = file::read(text, root).map_err(|error| usage(format!("{}, {error}", path.display())))?;
        for key in ["format", "mirror"] {
            if !given.iter().any(|given| given.setting.section.is_empty() && given.setting.key == key) {
                let lost = "it was written when the mirror was made; take it from a copy of the file";
                return Err(usage(format!("{}: the key `{key}` is missing; {lost}", path.display())));
            }
        }
        Ok(Settings::default().with(given).with(variables()?))
    }

    /// What holds if this is said on top.
    pub fn with(mut self, given: Vec<Given>) -> Settings {
        if given.iter().any(|given| given.setting.key == "upstream") {
            // A download URL belongs to the upstream that it was configured with.
            let with_file = |(_, origins): &(Value, Vec<Origin>)| matches!(origins[..], [Origin::File { .. }]);
            if self.set.get(&("", "download-url")).is_some_and(with_file) {
                self.set.remove(&("", "download-url"));
            }
        }
        given.into_iter().for_each(|given| self.add(given));
        self
    }

    fn add(&mut self, Given { setting, value, origin }: Given) {
        let held = self.set.entry((setting.section, setting.key)).or_insert_with(|| (value.clone(), Vec::new()));
        match (&mut held.0, &value) {
            (Value::Array(all), Value::Array(more)) if setting.kind.adds_up() && !held.1.is_empty() => {
                more.iter().for_each(|one| {
                    if !all.contains(one) {
                        all.push(one.clone());
                    }
                });
            }
            (last, _) => {
                *last = value;
                held.1.clear();
            }
        }
        held.1.push(origin);
    }

    /// The value of a setting, if it has one, and where it comes from.
    pub fn get(&self, setting: &Setting) -> (Option<Value>, &[Origin]) {
        match self.set.get(&(setting.section, setting.key)) {
            Some((value, origins)) => (Some(value.clone()), origins),
            None => (setting.default.map(default_value), &[Origin::Default]),
        }
    }

    /// What holds, as a configuration.
    pub fn config(&self) -> anyhow::Result<Config> {
        let mut table = Table::new();
        for ((section, key), (value, _)) in &self.set {
            let place = match *section {
                "" => &mut table,
                section => {
                    let section = table.entry(section).or_insert_with(|| Table::new().into());
                    section.as_table_mut().expect("a section is no key")
                }
            };
            place.insert((*key).to_owned(), value.clone());
        }
        let config = Value::Table(table).try_into::<Config>().context("the configuration cannot be used")?;
        Ok(Config { settings: self.clone(), ..config })
    }
}

fn default_value(text: &str) -> Value {
    let table: Table = format!("it = {text}").parse().expect("defaults are values");
    table["it"].clone()
}

/// What the environment sets. An empty variable sets nothing.
fn variables() -> anyhow::Result<Vec<Given>> {
    let mut given = Vec::new();
    for setting in &SETTINGS {
        let Some(name) = setting.variable else { continue };
        let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else { continue };
        let text = text.into_string().map_err(|_| usage(format!("the variable {name} holds no Unicode text")))?;
        let value = setting.kind.read(&text);
        if !setting.kind.takes(&value) {
            let kind = setting.kind;
            return Err(usage(format!("the variable {name} takes {kind}, not {text:?}")));
        }
        given.push(Given { setting, value, origin: Origin::Variable { name } });
    }
    Ok(given)
}
