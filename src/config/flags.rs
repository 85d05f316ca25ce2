//! What options on the command line say of the configuration.

use clap::ValueEnum as _;
use jiff::fmt::friendly::SpanPrinter;
use toml::Value;

use super::kind::Kind;
use super::layers::Given;
use crate::cli::{LoggingArgs, NetworkArgs, SidecarsArgs, SyncArgs, UpstreamArgs};

impl UpstreamArgs {
    /// What these options say.
    pub fn given(&self) -> Vec<Given> {
        let text = |name, section, key, value: &Option<String>| {
            value.as_deref().map(|value| Given::by_flag(name, section, key, value))
        };
        let ca_files = Given::by_flag("--ca-file", "network", "ca-files", self.ca_file.clone());
        let given = [
            text("--upstream", "", "upstream", &self.upstream),
            text("--download-url", "", "download-url", &self.download_url),
            text("--contact", "network", "contact", &self.contact),
            Some(ca_files).filter(|_| !self.ca_file.is_empty()),
        ];
        given.into_iter().flatten().collect()
    }
}

impl SyncArgs {
    /// What these options say.
    pub fn given(&self) -> Vec<Given> {
        let word = self.sidecars.and_then(|sidecars| sidecars.to_possible_value());
        let sidecars = word.map(|word| Given::by_flag("--sidecars", "", "sidecars", word.get_name().to_owned()));
        self.upstream.given().into_iter().chain(self.network.given()).chain(sidecars).collect()
    }
}

impl SidecarsArgs {
    /// What these options say.
    pub fn given(&self) -> Vec<Given> {
        let url = self.download_url.as_deref();
        url.map(|url| Given::by_flag("--download-url", "", "download-url", url)).into_iter().collect()
    }
}

impl NetworkArgs {
    /// What these options say.
    pub fn given(&self) -> Vec<Given> {
        let given = |name, key, value: Option<Value>| value.map(|value| Given::by_flag(name, "network", key, value));
        let time = |time| Value::String(SpanPrinter::new().unsigned_duration_to_string(&time));
        let all = [
            given(
                "--concurrency",
                "concurrency",
                self.concurrency.map(|number| Kind::Concurrency.read(&number.to_string())),
            ),
            given("--retries", "retries", self.retries.map(|number| Value::Integer(number.into()))),
            given("--timeout", "total-timeout", self.timeout.map(time)),
        ];
        all.into_iter().flatten().collect()
    }
}

impl LoggingArgs {
    /// What these options say.
    pub fn given(&self) -> Vec<Given> {
        let given = |name, key, value: Option<Value>| value.map(|value| Given::by_flag(name, "log", key, value));
        let text = |text: String| Value::String(text.to_lowercase());
        let all = [
            given("--log-file", "file", self.log_file.clone().map(Value::String)),
            given("--log-format", "format", self.log_format.map(|format| text(format.to_string()))),
            given("--log-level", "level", self.log_level.map(|level| text(level.to_string()))),
            given("--log-rotate", "rotate", self.log_rotate.map(|rotate| Value::String(rotate.to_string()))),
            given("--log-keep", "keep", self.log_keep.map(|keep| Value::Integer(keep.into()))),
        ];
        all.into_iter().flatten().collect()
    }
}
