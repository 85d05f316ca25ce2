//! What options on the command line say of the configuration.

use clap::ValueEnum as _;
use jiff::fmt::friendly::SpanPrinter;
use toml::Value;

use super::kind::Kind;
use super::layers::Given;
use crate::cli::{LoggingArgs, NetworkArgs, PlanArgs, PolicyArgs, SidecarsArgs, SyncArgs, UpstreamArgs};

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
        let given = self.upstream.given().into_iter().chain(self.network.given());
        given.chain(self.policy.given()).chain(sidecars).collect()
    }
}

impl PlanArgs {
    /// What these options say.
    pub fn given(&self) -> Vec<Given> {
        self.upstream.given().into_iter().chain(self.policy.given()).collect()
    }
}

impl PolicyArgs {
    /// What these options say.
    pub fn given(&self) -> Vec<Given> {
        let list = |name, key, values: &[String]| (name, key, (!values.is_empty()).then(|| values.to_vec().into()));
        let text = |name, key, value: &Option<String>| (name, key, value.clone().map(Value::String));
        let number = |name, key, value: Option<i64>| (name, key, value.map(Value::Integer));
        let all = [
            list("--allow", "allow", &self.allow),
            list("--deny", "deny", &self.deny),
            number("--newest", "newest", self.newest.map(i64::from)),
            number("--newest-per-range", "newest-per-range", self.newest_per_range.map(i64::from)),
            text("--published-after", "published-after", &self.published_after),
            text("--published-before", "published-before", &self.published_before),
            text("--cool-down", "cool-down", &self.cool_down),
            text("--max-size", "max-size", &self.max_size.map(|size| format!("{} B", size.as_u64()))),
            list("--licenses", "licenses", &self.licenses),
            text("--rust-version", "rust-version", &self.rust_version),
            number("--min-downloads", "min-downloads", self.min_downloads.and_then(|count| count.try_into().ok())),
            list("--owners", "owners", &self.owners),
            text("--advisories", "advisories", &self.advisories),
            text("--advisory-db", "advisory-db", &self.advisory_db),
            text("--dump", "dump", &self.dump),
        ];
        let given = all.into_iter().filter_map(|(name, key, value): (_, _, Option<Value>)| Some((name, key, value?)));
        given.map(|(name, key, value)| Given::by_flag(name, "policy", key, value)).collect()
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
