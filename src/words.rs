//! Times and spans as people read them. All times are UTC.

use crateferry_pipeline::settle::rfc3339;

/// A point in time on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For `<time datetime>`.
    pub iso: String,
    /// For people: `2026-08-01 12:34 UTC`.
    pub text: String,
    /// How long ago: `3 hours ago`.
    pub age: String,
}

impl Moment {
    /// From seconds since 1970, as seen from `now`.
    pub fn at(seconds: u64, now: u64) -> Moment {
        let iso = rfc3339(seconds);
        let text = match iso.get(..16).filter(|_| iso.contains('T')) {
            Some(minute) => format!("{} UTC", minute.replace('T', " ")),
            None => iso.clone(),
        };
        Moment { iso, text, age: ago(now.saturating_sub(seconds)) }
    }
}

/// The day of a time as index rows write it, if it is one: `2026-08-01T12:34:56Z`.
pub fn day(time: &str) -> Option<&str> {
    let fits = |(found, wanted): (u8, u8)| if wanted == b'0' { found.is_ascii_digit() } else { found == wanted };
    let form = b"0000-00-00T00:00:00Z";
    (time.len() == form.len() && time.bytes().zip(*form).all(fits)).then(|| &time[..10])
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;

fn ago(seconds: u64) -> String {
    match seconds {
        0..MINUTE => "less than a minute ago".to_owned(),
        _ => format!("{} ago", long(seconds)),
    }
}

/// A span of time by its largest unit: `3 hours`.
pub fn long(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..MINUTE => (seconds, "second"),
        MINUTE..HOUR => (seconds / MINUTE, "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        DAY..MONTH => (seconds / DAY, "day"),
        MONTH..YEAR => (seconds / MONTH, "month"),
        _ => (seconds / YEAR, "year"),
    };
    crate::report::count(number, unit)
}

/// A span of time: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{} d {} h", seconds / DAY, seconds % DAY / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_says_when_and_how_long_ago() {
        let moment = Moment::at(1_785_588_000, 1_785_588_000 + 3 * HOUR + 5);
        assert_eq!((moment.iso.as_str(), moment.text.as_str()), ("2026-08-01T12:40:00Z", "2026-08-01 12:40 UTC"));
        assert_eq!(moment.age, "3 hours ago");
        assert_eq!(Moment::at(10, 0).age, "less than a minute ago", "clocks differ");
        let far = Moment::at(u64::MAX, 0);
        assert_eq!(far.text, far.iso, "what is no time is shown as it is");
    }

    #[test]
    fn spans_have_two_parts_at_most() {
        let spans = [0, 59, 60, HOUR - 1, HOUR, DAY - 1, DAY, 49 * HOUR].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 0 h", "2 d 1 h"]);
    }

    #[test]
    fn only_a_time_has_a_day() {
        assert_eq!(day("2026-08-01T12:34:56Z"), Some("2026-08-01"));
        for text in ["", "2026-08-01", "2026-08-01T12:34:56+", "2O26-08-01T12:34:56Z", "ä026-08-01T12:34:56"] {
            assert_eq!(day(text), None, "{text}");
        }
    }
}
