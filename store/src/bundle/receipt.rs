//! A receipt: what the far side says it serves and lacks, as a small text that people can carry, type or scan.

use std::fmt;
use std::str::FromStr;

use crate::id::{CrateName, Release, ReleaseId, Sha256, Version};
use crate::pack::Point;
use crate::wishes::Wish;

/// The first line.
const HEAD: &str = "crateferry receipt 1";

/// The last line; signatures may follow.
const END: &str = "end";

/// What a replica serves and lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The mirror's id.
    pub mirror: String,
    /// What is served; none if nothing is yet.
    pub serves: Option<Point>,
    /// How many releases are held.
    pub held: u64,
    /// Releases that are to be sent again.
    pub lacks: Vec<Release>,
    /// What is held and not given out there: crates, or versions of them.
    pub masked: Vec<(CrateName, Option<Version>)>,
    /// What was asked for in vain there.
    pub wishes: Vec<Wish>,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nmirror {}", self.mirror)?;
        if let Some(Point { epoch, generation, digest }) = &self.serves {
            writeln!(f, "serves {epoch} {generation} {digest}")?;
        }
        writeln!(f, "held {}", self.held)?;
        for Release { id: ReleaseId { name, version }, checksum } in &self.lacks {
            writeln!(f, "lacks {name} {version} {checksum}")?;
        }
        for (name, version) in &self.masked {
            match version {
                Some(version) => writeln!(f, "masked {name} {version}")?,
                None => writeln!(f, "masked {name}")?,
            }
        }
        self.wishes.iter().try_for_each(|wish| writeln!(f, "wish {wish}"))?;
        writeln!(f, "{END}")
    }
}

/// A text that is no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Another kind of text, or of a later version.
    #[error("this is no receipt: its first line should be `{HEAD}`")]
    NoReceipt,
    /// A line is not what it should be.
    #[error("line {0} of the receipt cannot be read")]
    Line(usize),
    /// Its last line is missing.
    #[error("the receipt has no last line `end`: a part of it is missing")]
    Cut,
}

impl Receipt {
    /// The longest that is read.
    pub const LONGEST: u64 = 64 << 20;

    /// What stands behind the last line of a receipt's text: signatures, if there are some.
    pub fn behind(text: &str) -> &str {
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            at += line.len();
            if line.trim() == END {
                return &text[at..];
            }
        }
        ""
    }
}

impl FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lines = text.lines().map(str::trim).enumerate();
        if lines.next().is_none_or(|(_, line)| line != HEAD) {
            return Err(ReceiptError::NoReceipt);
        }
        let (mut mirror, mut held, mut serves, mut lacks) = (None, None, None, Vec::new());
        let (mut masked, mut wishes) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            let unread = || ReceiptError::Line(number + 1);
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["mirror", id] if mirror.is_none() => mirror = Some(id.to_owned()),
                ["held", count] if held.is_none() => held = Some(count.parse().map_err(|_| unread())?),
                ["serves", epoch, generation, digest] if serves.is_none() => {
                    serves = Some(point(epoch, generation, digest).ok_or_else(unread)?);
                }
                ["lacks", name, version, checksum] => lacks.push(release(name, version, checksum).ok_or_else(unread)?),
                ["masked", name] => masked.push((name.parse().map_err(|_| unread())?, None)),
                ["masked", name, version] => {
                    masked.push((name.parse().map_err(|_| unread())?, Some(version.parse().map_err(|_| unread())?)));
                }
                ["wish", ..] => wishes.push(words[1..].join(" ").parse().map_err(|_| unread())?),
                [END] => {
                    let mirror = mirror.ok_or_else(unread)?;
                    return Ok(Receipt { mirror, serves, held: held.ok_or_else(unread)?, lacks, masked, wishes });
                }
                _ => return Err(unread()),
            }
        }
        Err(ReceiptError::Cut)
    }
}

fn point(epoch: &str, generation: &str, digest: &str) -> Option<Point> {
    Some(Point { epoch: epoch.parse().ok()?, generation: generation.parse().ok()?, digest: digest.parse().ok()? })
}

fn release(name: &str, version: &str, checksum: &str) -> Option<Release> {
    let (name, version): (CrateName, Version) = (name.parse().ok()?, version.parse().ok()?);
    let checksum: Sha256 = checksum.parse().ok()?;
    Some(Release { id: ReleaseId { name, version }, checksum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Blake3;

    #[test]
    fn a_receipt_reads_what_it_prints() {
        let lacks = release("serde", "1.0.0+a", &Sha256::of(b"x").to_string()).unwrap();
        let serves = Some(Point { epoch: 1, generation: 42, digest: Blake3::of(b"y") });
        let wishes: Vec<Wish> = ["serde", "a-b 1.0.0"].map(|wish| wish.parse().unwrap()).into();
        let masked = vec![(lacks.id.name.clone(), None), (lacks.id.name.clone(), Some(lacks.id.version.clone()))];
        let some = (serves, vec![lacks.clone(), lacks], masked, wishes);
        for (serves, lacks, masked, wishes) in [(None, vec![], vec![], vec![]), some] {
            let receipt = Receipt { mirror: "0123".into(), serves, held: 7, lacks, masked, wishes };
            let text = receipt.to_string();
            assert_eq!(text.parse(), Ok(receipt.clone()));
            assert_eq!(text.replace('\n', "\r\n").parse(), Ok(receipt.clone()));
            assert_eq!(Receipt::behind(&text), "");
            let signed = format!("{text}a signature\nof two lines\n");
            assert_eq!(Receipt::behind(&signed), "a signature\nof two lines\n");
            assert_eq!(signed.parse(), Ok(receipt.clone()));
            assert_eq!(text.trim_end().strip_suffix("end").unwrap().parse::<Receipt>(), Err(ReceiptError::Cut));
        }
        assert_eq!("crateferry receipt 2\n".parse::<Receipt>(), Err(ReceiptError::NoReceipt));
        let strange = "crateferry receipt 1\nmirror m\nheld 1\nlacks ../x 1.0.0 00\nend\n";
        assert_eq!(strange.parse::<Receipt>(), Err(ReceiptError::Line(4)));
        let strange = "crateferry receipt 1\nmirror m\nheld 1\nwish ../x\nend\n";
        assert_eq!(strange.parse::<Receipt>(), Err(ReceiptError::Line(4)));
    }
}
