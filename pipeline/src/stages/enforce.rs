//! Does the index promise what an operator's own list of checksums says?

use std::collections::HashMap;

use crateferry_store::{Release, Sha256};
use serde::Deserialize;

use crate::failure::{Disposition, Failure};
use crate::flow::Stage;
use crate::item::{Attempt, Wanted};
use crate::upstream::crates::DownloadTemplate;

/// Checksums by URL, to be enforced on top of those of the index.
#[derive(Clone, Debug, Default)]
pub struct Checksums {
    by_url: HashMap<String, Sha256>,
}

/// A list of checksums that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is not {{\"url\": ..., \"sha256\": ...}}: {source}")]
pub struct ChecksumsError {
    line: usize,
    source: serde_json::Error,
}

impl Checksums {
    /// Reads JSON Lines of `{"url": "...", "sha256": "..."}`; other keys are ignored.
    pub fn parse(text: &str) -> Result<Checksums, ChecksumsError> {
        #[derive(Deserialize)]
        struct Line {
            url: String,
            sha256: Sha256,
        }
        let mut by_url = HashMap::new();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(|source| ChecksumsError { line: number, source })?;
            by_url.insert(line.url, line.sha256);
        }
        Ok(Checksums { by_url })
    }
}

/// Lets a release pass only if the list of checksums agrees with the index or does not know it.
#[derive(Clone, Debug)]
pub struct Enforce {
    /// The list.
    pub checksums: Checksums,
    /// How a release's URL is made.
    pub template: DownloadTemplate,
}

/// The list and the index disagree.
#[derive(Debug, thiserror::Error)]
#[error("the list of checksums says {listed} for {url}, the index says {promised}")]
struct Disagreement {
    url: String,
    listed: Sha256,
    promised: Sha256,
}

impl Enforce {
    fn check(&self, release: &Release) -> Result<(), Disagreement> {
        if self.checksums.by_url.is_empty() {
            return Ok(());
        }
        let url = self.template.url(release).to_string();
        match self.checksums.by_url.get(&url) {
            Some(&listed) if listed != release.checksum => {
                Err(Disagreement { url, listed, promised: release.checksum })
            }
            _ => Ok(()),
        }
    }
}

impl Stage for Enforce {
    type In = Wanted;
    type Out = Wanted;
    const NAME: &'static str = "enforce";

    async fn run(&self, wanted: Wanted) -> Result<Wanted, Failure> {
        match self.check(&wanted.release) {
            Ok(()) => Ok(wanted),
            Err(disagreement) => Err(Failure {
                release: wanted.release,
                stage: Self::NAME,
                disposition: Disposition::Refuse,
                attempt: Attempt { url: disagreement.url.clone(), ..Attempt::default() },
                body: None,
                source: Box::new(disagreement),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crateferry_store::ReleaseId;

    #[tokio::test]
    async fn a_listed_checksum_must_be_the_indexs() {
        let id = ReleaseId { name: "serde".parse().unwrap(), version: "1.0.0".parse().unwrap() };
        let wanted = |content: &[u8]| Wanted { release: Release { id: id.clone(), checksum: Sha256::of(content) } };
        let list = format!("{{\"url\":\"https://h/serde-1.0.0.crate\",\"sha256\":\"{}\"}}\n", Sha256::of(b"a"));
        let template = DownloadTemplate::parse("https://h/{crate}-{version}.crate").unwrap();
        let enforce = Enforce { checksums: Checksums::parse(&list).unwrap(), template };
        assert!(enforce.run(wanted(b"a")).await.is_ok());
        let failure = enforce.run(wanted(b"b")).await.unwrap_err();
        assert_eq!(failure.disposition, Disposition::Refuse);
        assert!(failure.reason().contains("serde-1.0.0.crate"));
        assert!(Checksums::parse("{}").unwrap_err().to_string().contains("line 1"));
    }
}
