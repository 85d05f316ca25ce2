//! When a log file gives way to a new one.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::Deserialize;

/// A size, a day, both or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rotation {
    /// It ends before it has more bytes than that.
    pub size: Option<u64>,
    /// It ends with the day, in UTC.
    pub daily: bool,
}

/// A text that tells no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be a size like \"64 MiB\", \"daily\", both with a comma between, or \"off\"")]
pub struct NoRotation;

impl FromStr for Rotation {
    type Err = NoRotation;

    fn from_str(text: &str) -> Result<Self, NoRotation> {
        let mut rotation = Rotation { size: None, daily: false };
        if text == "off" {
            return Ok(rotation);
        }
        for part in text.split(',').map(str::trim) {
            match part.parse::<ByteSize>() {
                _ if part == "daily" && !rotation.daily => rotation.daily = true,
                Ok(size) if size.as_u64() > 0 && rotation.size.is_none() => rotation.size = Some(size.as_u64()),
                _ => return Err(NoRotation),
            }
        }
        Ok(rotation)
    }
}

impl TryFrom<String> for Rotation {
    type Error = NoRotation;

    fn try_from(text: String) -> Result<Self, NoRotation> {
        text.parse()
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.size, self.daily) {
            (None, false) => f.write_str("off"),
            (None, true) => f.write_str("daily"),
            (Some(size), false) => write!(f, "{size} B"),
            (Some(size), true) => write!(f, "{size} B, daily"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_read_as_people_write_it() {
        for (text, size, daily) in [
            ("64 MiB", Some(64 << 20), false),
            ("1000", Some(1000), false),
            ("daily", None, true),
            ("1 kB, daily", Some(1000), true),
            ("daily,1kB", Some(1000), true),
            ("off", None, false),
        ] {
            let rotation: Rotation = text.parse().unwrap();
            assert_eq!(rotation, Rotation { size, daily }, "{text}");
            assert_eq!(rotation.to_string().parse(), Ok(rotation), "{text}");
        }
        for text in ["", "weekly", "0", "daily, daily", "1 kB, 2 kB", "off, daily", "64 MiB,"] {
            assert_eq!(text.parse::<Rotation>(), Err(NoRotation), "{text}");
        }
    }
}
