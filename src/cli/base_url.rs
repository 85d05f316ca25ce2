//! URLs under which other things lie.

use std::str::FromStr;

/// A URL that cargo is told, under which other things lie.
#[derive(Clone, Debug)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
        let plain = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
        if !plain || url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
            return Err("it must look like https://host or https://host/path".to_owned());
        }
        Ok(BaseUrl(url.as_str().trim_end_matches('/').to_owned()))
    }
}
