//! The file of a new mirror: every setting with what it means, those that were chosen set, all others commented out.

use std::fmt::Write as _;

use anyhow::Context as _;
use crateferry_store::MIRROR_FORMAT;
use toml::Value;

use super::Settings;
use super::kind::Kind;
use super::settings::{SECTIONS, Setting};

/// What `init` keeps of what it is told.
const KEPT: [&str; 5] = ["role", "upstream", "download-url", "contact", "ca-files"];

const HEAD: &str = "\
# The configuration of a crateferry mirror. `crateferry config show MIRROR` prints what holds, and why.
# What the mirror wants is not here but in the mirror: `crateferry sync MIRROR --lockfile ...` adds to it.
";

/// The text of a new mirror's configuration.
pub fn text(id: &str, chosen: &Settings) -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    for (section, about) in SECTIONS {
        if !section.is_empty() {
            writeln!(text, "\n[{section}]\n# {about}")?;
        }
        for setting in Setting::of(section) {
            writeln!(text)?;
            setting.about.lines().try_for_each(|line| writeln!(text, "# {line}"))?;
            match value(setting, id, chosen)? {
                Some(value) => writeln!(text, "{} = {value}", setting.key)?,
                None => writeln!(text, "# {} = {}", setting.key, setting.default.unwrap_or(setting.example))?,
            }
        }
    }
    Ok(text)
}

fn value(setting: &Setting, id: &str, chosen: &Settings) -> anyhow::Result<Option<Value>> {
    let (value, _) = chosen.get(setting);
    let is_default = value == Settings::default().get(setting).0;
    Ok(match (setting.section, setting.key) {
        ("", "format") => Some(Value::Integer(MIRROR_FORMAT.into())),
        ("", "mirror") => Some(Value::String(id.to_owned())),
        ("", "upstream") => value.map(absolute_upstream).transpose()?,
        (_, key) if KEPT.contains(&key) && !is_default => match (setting.kind, value) {
            (Kind::Paths, Some(Value::Array(paths))) => {
                Some(Value::Array(paths.iter().map(absolute).collect::<anyhow::Result<_>>()?))
            }
            (_, value) => value,
        },
        _ => None,
    })
}

/// A folder is kept by its whole path, so that the mirror can be used from anywhere.
fn absolute_upstream(upstream: Value) -> anyhow::Result<Value> {
    match upstream.as_str() {
        Some(name) if name == "crates-io" || name.contains("://") => Ok(upstream),
        _ => absolute(&upstream),
    }
}

fn absolute(path: &Value) -> anyhow::Result<Value> {
    let path = path.as_str().context("a path is a text")?;
    let path = std::path::absolute(path).with_context(|| format!("cannot find {path}"))?;
    Ok(Value::String(path.to_string_lossy().into_owned()))
}
