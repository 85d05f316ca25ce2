//! When to ask again.
//!
//! Exponential back-off with full jitter, so that many requests that failed together do not come back
//! together. A server may ask for more time with Retry-After, up to a cap; it cannot ask for less.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::{DateTime, date};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;

use super::NetworkConfig;

/// How often and how late to ask again. Pure: the chance comes as an argument.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// How often to ask again.
    pub retries: u32,
    /// The longest wait before the first retry.
    pub base: Duration,
    /// The longest wait before any retry.
    pub max: Duration,
    /// The longest wait that a server may ask for.
    pub retry_after_cap: Duration,
}

impl RetryPolicy {
    /// The policy that a configuration describes.
    pub fn new(config: &NetworkConfig) -> Self {
        RetryPolicy {
            retries: config.retries,
            base: config.retry_base,
            max: config.retry_max,
            retry_after_cap: config.retry_after_cap,
        }
    }

    /// How long to wait before retry number `retry` (from 0), or `None` if there is none left.
    ///
    /// `chance` lies between 0 and 1; `asked` is what the server asked for.
    pub fn delay(&self, retry: u32, chance: f64, asked: Option<Duration>) -> Option<Duration> {
        if retry >= self.retries {
            return None;
        }
        let longest = self.base.saturating_mul(2u32.saturating_pow(retry)).min(self.max);
        let jittered = longest.mul_f64(chance.clamp(0.0, 1.0));
        Some(asked.map_or(jittered, |asked| jittered.max(self.capped(asked))))
    }

    /// What a server asked for, within the cap.
    pub fn capped(&self, asked: Duration) -> Duration {
        asked.min(self.retry_after_cap)
    }
}

/// A policy with its source of chance, shared by all requests.
#[derive(Debug)]
pub struct Retry {
    policy: RetryPolicy,
    random: Mutex<fastrand::Rng>,
}

impl Retry {
    /// Retries as `config` says, with chance from `random`.
    pub fn new(config: &NetworkConfig, random: fastrand::Rng) -> Self {
        Retry { policy: RetryPolicy::new(config), random: Mutex::new(random) }
    }

    /// The policy.
    pub fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// How long to wait before retry number `retry` (from 0), or `None` if there is none left.
    pub fn delay(&self, retry: u32, asked: Option<Duration>) -> Option<Duration> {
        let chance = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        self.policy.delay(retry, chance, asked)
    }
}

/// Whether a server that answered `status` may answer otherwise in a while.
pub fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

/// What a Retry-After header asks for: seconds, or the time until a date. `now` is in seconds since 1970.
///
/// A number that is too long for any clock still means "very late", and so becomes the cap; what is neither a
/// number nor a date says nothing.
pub fn retry_after(value: &HeaderValue, now: u64) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let end = DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    let until = end.duration_since(date(1970, 1, 1).at(0, 0, 0, 0)).as_secs();
    Some(Duration::from_secs(u64::try_from(until).unwrap_or(0).saturating_sub(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy::new(&NetworkConfig::default())
    }

    #[test]
    fn waits_double_up_to_their_bound_and_end() {
        let longest: Vec<u128> = (0..6).map(|n| policy().delay(n, 1.0, None).unwrap().as_millis()).collect();
        assert_eq!(longest, [500, 1000, 2000, 4000, 8000, 16_000]);
        assert_eq!(policy().delay(6, 1.0, None), None);
        let patient = RetryPolicy { retries: 100, ..policy() };
        assert_eq!(patient.delay(99, 1.0, None), Some(Duration::from_secs(30)));
    }

    #[test]
    fn jitter_spreads_a_wait_over_its_whole_length() {
        assert_eq!(policy().delay(2, 0.0, None), Some(Duration::ZERO));
        assert_eq!(policy().delay(2, 0.5, None), Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_same_seed_waits_the_same_times() {
        let waits = |seed| {
            let retry = Retry::new(&NetworkConfig::default(), fastrand::Rng::with_seed(seed));
            (0..6).map(|n| retry.delay(n, None)).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn a_server_may_ask_for_more_time_up_to_the_cap_but_not_for_less() {
        let asked = |seconds| policy().delay(0, 1.0, Some(Duration::from_secs(seconds))).unwrap();
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(0), Duration::from_millis(500));
        assert_eq!(asked(u64::MAX), Duration::from_secs(120));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        let read = |text| retry_after(&HeaderValue::from_static(text), now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:57 GMT"), Some(Duration::from_secs(20)));
        assert_eq!(read("Sat, 06 Nov 1993 08:49:57 GMT"), Some(Duration::ZERO));
        assert_eq!(read("99999999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert!(read("Fri, 31 Dec 9999 23:59:59 GMT") > Some(Duration::from_secs(1 << 32)));
        for silent in ["", "-5", "soon", "1.5", "Sun, 99 Nov 1994"] {
            assert_eq!(read(silent), None, "{silent}");
        }
    }

    #[test]
    fn busy_and_broken_servers_are_asked_again_and_plain_answers_are_not() {
        for status in [408, 425, 429, 500, 502, 503, 504, 520] {
            assert!(is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [200, 304, 400, 401, 403, 404, 410, 416, 451] {
            assert!(!is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
