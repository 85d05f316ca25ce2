//! The download URL of a registry, written and read.
//!
//! An index's `dl` may hold markers (`{crate}`, `{version}`, ...), and a mirror must fill in every one of them,
//! so tests set all kinds. The server therefore does not have a route for crate files: it reads each path
//! backwards through the very template that clients were given.

use crate::release::index_folder;

const MARKERS: [&str; 5] = ["{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}"];

/// The path part of a `dl` template.
#[derive(Debug, Clone)]
pub(crate) struct Template(String);

/// What a path said about the crate file it asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) checksum: Option<String>,
}

impl Template {
    /// The path that a client makes of this `dl`: without any marker it appends its own.
    pub(crate) fn new(dl_path: &str) -> Self {
        if MARKERS.iter().any(|marker| dl_path.contains(marker)) {
            Template(dl_path.to_owned())
        } else {
            Template(format!("{dl_path}/{{crate}}/{{version}}/download"))
        }
    }

    /// The path of one crate file.
    pub(crate) fn path(&self, name: &str, version: &str, checksum: &str) -> String {
        self.0
            .replace("{crate}", name)
            .replace("{version}", version)
            .replace("{prefix}", &index_folder(name))
            .replace("{lowerprefix}", &index_folder(&name.to_lowercase()))
            .replace("{sha256-checksum}", checksum)
    }

    /// Reads a path. Where it can be cut in several ways (`a-1-2.crate`), `known` decides; if nothing is
    /// known, the first way is the answer, so that requests for what is not there can be counted too.
    pub(crate) fn read(&self, path: &str, known: &dyn Fn(&Asked) -> bool) -> Option<Asked> {
        let mut ways = Vec::new();
        cut(&self.0, path, &Asked::default(), &mut ways);
        ways.iter().find(|asked| known(asked)).or(ways.first()).cloned()
    }
}

/// Adds every way in which `path` can be an instance of `template`.
fn cut(template: &str, path: &str, so_far: &Asked, ways: &mut Vec<Asked>) {
    let Some(start) = template.find('{') else {
        if template == path {
            ways.push(so_far.clone());
        }
        return;
    };
    let Some(path) = path.strip_prefix(&template[..start]) else { return };
    let Some(marker) = MARKERS.iter().find(|marker| template[start..].starts_with(**marker)) else { return };
    let rest = &template[start + marker.len()..];
    for end in ends(path, marker) {
        if let Some(asked) = so_far.with(marker, &path[..end]) {
            cut(rest, &path[end..], &asked, ways);
        }
    }
}

/// Where a marker's text may end: prefixes alone may hold slashes.
fn ends(path: &str, marker: &str) -> Vec<usize> {
    let reach = if marker.ends_with("prefix}") { path.len() } else { path.find('/').unwrap_or(path.len()) };
    (1..=reach).filter(|end| path.is_char_boundary(*end)).collect()
}

impl Asked {
    /// The same with one more marker read, unless that contradicts what was read before.
    fn with(&self, marker: &str, text: &str) -> Option<Asked> {
        let mut asked = self.clone();
        let slot = match marker {
            "{crate}" => &mut asked.name,
            "{version}" => &mut asked.version,
            "{sha256-checksum}" => &mut asked.checksum,
            _ => return Some(asked),
        };
        let agrees = slot.get_or_insert_with(|| text.to_owned()) == text;
        agrees.then_some(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(template: &str, path: &str, known: (&str, &str)) -> Option<(String, String)> {
        let fits = |asked: &Asked| (asked.name.as_deref(), asked.version.as_deref()) == (Some(known.0), Some(known.1));
        let asked = Template::new(template).read(path, &fits)?;
        Some((asked.name?, asked.version?))
    }

    #[test]
    fn a_path_is_read_back_through_any_template() {
        let serde = Some(("serde-json".to_owned(), "1.0.0-rc-1".to_owned()));
        for template in
            ["/c/{crate}/{crate}-{version}.crate", "/c/{prefix}/{crate}/{version}/x", "/c", "/{crate}-{version}"]
        {
            let path = Template::new(template).path("serde-json", "1.0.0-rc-1", "00");
            assert_eq!(read(template, &path, ("serde-json", "1.0.0-rc-1")), serde, "{template}");
        }
    }

    #[test]
    fn a_path_of_another_shape_is_not_a_crate_file() {
        assert_eq!(read("/crates/{crate}/{crate}-{version}.crate", "/crates/serde/other-1.0.0.crate", ("", "")), None);
    }
}
