//! Conditional requests and ranges: pure functions from headers to what is to be sent (RFC 9110, sections 12 to 14).

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, IF_NONE_MATCH, IF_RANGE, RANGE};

/// Whether the client has this content already. `tag` is the strong tag of the identity bytes, without quotes; the tag
/// of the gzipped form ends with `-gz`, and either matches.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|known| {
            let known = known.strip_prefix("W/").unwrap_or(known);
            known == "*" || unquoted(known).is_some_and(|known| known.strip_suffix("-gz").unwrap_or(known) == tag)
        })
    })
}

fn unquoted(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

/// Whether the client takes gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let (mut named, mut any) = (None, None);
    for coding in lists.flat_map(|list| list.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let wanted = !is_zero(parameters);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => named = Some(wanted),
            "*" => any = Some(wanted),
            _ => {}
        }
    }
    named.or(any).unwrap_or(false)
}

/// Whether parameters say `q=0`.
fn is_zero(parameters: &str) -> bool {
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    weight.is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0))
}

/// Which bytes a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    Whole,
    /// From the first position up to, but without, the second.
    Bytes(u64, u64),
    /// None that there are.
    Unsatisfiable,
}

/// Reads `Range`. Several ranges and what is not understood count as no range at all; so does a range of something that
/// changed since, as `If-Range` says.
pub fn part(headers: &HeaderMap, length: u64, tag: &str) -> Part {
    let mut ranges = headers.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    if headers.get(IF_RANGE).is_some_and(|known| known.to_str().ok().and_then(unquoted) != Some(tag)) {
        return Part::Whole;
    }
    range.to_str().ok().and_then(|range| parse_range(range, length)).unwrap_or(Part::Whole)
}

fn parse_range(range: &str, length: u64) -> Option<Part> {
    let (unit, range) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if !first.bytes().chain(last.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(match (position(first), position(last)) {
        (None, None) => return None,
        (None, Some(0)) => Part::Unsatisfiable,
        (None, Some(_)) if length == 0 => Part::Unsatisfiable,
        (None, Some(count)) => Part::Bytes(length.saturating_sub(count), length),
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), _) if first >= length => Part::Unsatisfiable,
        (Some(first), last) => Part::Bytes(first, last.map_or(length, |last| last.saturating_add(1).min(length))),
    })
}

/// A position, or none where nothing stands. What is too large to be a number lies behind every end.
fn position(digits: &str) -> Option<u64> {
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn either_form_of_a_tag_is_known_in_any_list() {
        for list in ["\"abc\"", "\"abc-gz\"", "\"x\", W/\"abc\"", "*", "\"x\" , \"abc-gz\""] {
            assert!(is_known(&headers(&[(IF_NONE_MATCH, list)]), "abc"), "{list}");
        }
        for list in ["abc", "\"abcd\"", "\"\"", "\"abc", "\"abc-gz-gz\""] {
            assert!(!is_known(&headers(&[(IF_NONE_MATCH, list)]), "abc"), "{list}");
        }
        assert!(!is_known(&HeaderMap::new(), "abc"));
    }

    #[test]
    fn gzip_is_sent_only_to_who_takes_it() {
        for (list, takes) in [
            ("deflate, gzip", true),
            ("GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("gzip; q=0.0", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&headers(&[(ACCEPT_ENCODING, list)])), takes, "{list}");
        }
    }

    #[test]
    fn one_range_is_cut_to_what_there_is() {
        let part = |range: &str| part(&headers(&[(RANGE, range)]), 100, "t");
        assert_eq!(part("bytes=0-0"), Part::Bytes(0, 1));
        assert_eq!(part("bytes=90-"), Part::Bytes(90, 100));
        assert_eq!(part("bytes=-10"), Part::Bytes(90, 100));
        assert_eq!(part("bytes=-1000"), Part::Bytes(0, 100));
        assert_eq!(part("bytes=5-18446744073709551615"), Part::Bytes(5, 100));
        assert_eq!(part("bytes=5-99999999999999999999999"), Part::Bytes(5, 100));
        for range in ["bytes=100-", "bytes=-0", "bytes=18446744073709551616-"] {
            assert_eq!(part(range), Part::Unsatisfiable, "{range}");
        }
        for range in ["bytes=0-1,3-4", "bytes=9-3", "bytes=-", "bytes=a-b", "lines=1-2", "bytes", "bytes=+1-2"] {
            assert_eq!(part(range), Part::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_something_else_is_no_range() {
        let part = |tag| part(&headers(&[(RANGE, "bytes=1-2"), (IF_RANGE, tag)]), 100, "t");
        assert_eq!(part("\"t\""), Part::Bytes(1, 3));
        assert_eq!(part("\"other\""), Part::Whole);
        assert_eq!(part("W/\"t\""), Part::Whole);
    }
}
