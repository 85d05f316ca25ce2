//! Ranges, conditions and HEAD: what is sent of what there is.

use crate::common::{Ferry, Server};
use crate::wire::{Answer, connect, get};
use crate::{DEMO, DEMO_INDEX, Mirrored};

const GZIP: (&str, &str) = ("accept-encoding", "deflate, gzip");

fn tag(answer: &Answer) -> String {
    answer.header("etag").expect("there is a tag").to_owned()
}

#[test]
fn one_range_is_sent_as_it_is_asked_for() {
    let mirrored = Mirrored::with(&[("large", 100_000)]);
    let server = Server::start(&mirrored.ferry, &[]);
    let (path, whole) = (mirrored.path_of("large"), mirrored.bytes_of("large"));
    let length = whole.len();
    let ends = [(0, 1), (0, length), (length - 1, length), (40_000, 80_000), (length / 2, length)];
    for (from, to) in ends {
        let answer = get(&server, &path, &[("range", &format!("bytes={from}-{}", to - 1))]);
        assert_eq!(answer.status, 206, "{from}-{to}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes {from}-{}/{length}", to - 1).as_str()));
        assert_eq!(answer.header("content-length"), Some((to - from).to_string().as_str()));
        assert!(answer.body == whole[from..to], "{from}-{to}");
    }
    for (range, from) in [
        ("bytes=-10", length - 10),
        ("bytes=90000-", 90_000),
        ("BYTES=0-18446744073709551615", 0),
        ("bytes=-99999999999999999999", 0),
    ] {
        let answer = get(&server, &path, &[("range", range)]);
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == whole[from..], "{range}");
    }
}

#[test]
fn several_ranges_and_what_is_none_bring_the_whole_file_once() {
    let mirrored = Mirrored::with(&[("large", 100_000)]);
    let server = Server::start(&mirrored.ferry, &[]);
    let many = (0..500).map(|at| format!("{at}-")).collect::<Vec<_>>().join(",");
    for range in [
        "bytes=0-1,3-4",
        "bytes=0-,0-,0-,0-,0-",
        "bytes=0-99999,0-99999",
        &format!("bytes={many}"),
        "bytes=5-4",
        "bytes=-",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=+1-2",
        "bytes=1--2",
        "bytes= ",
        "items=0-1",
        "bytes",
        "0-1",
        "bytes=1-2-3",
    ] {
        let answer = get(&server, &mirrored.path_of("large"), &[("range", range)]);
        assert_eq!((answer.status, answer.header("content-range")), (200, None), "{range}");
        assert!(answer.body == mirrored.bytes_of("large"), "{range}");
    }
    let twice = get(&server, &mirrored.path_of("large"), &[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
    assert_eq!((twice.status, twice.body.len()), (200, mirrored.bytes_of("large").len()));
}

#[test]
fn a_range_of_nothing_is_unsatisfiable_and_says_how_long_the_file_is() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let length = mirrored.bytes_of("demo").len();
    for range in [
        format!("bytes={length}-"),
        format!("bytes={length}-{}", u64::MAX),
        "bytes=-0".into(),
        "bytes=18446744073709551615-".into(),
        "bytes=18446744073709551616-18446744073709551617".into(),
    ] {
        let answer = get(&server, DEMO, &[("range", &range)]);
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes */{length}").as_str()), "{range}");
        assert_ne!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"), "{range}");
    }
}

#[test]
fn a_range_of_another_content_brings_the_whole_file() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let tag = tag(&get(&server, DEMO, &[]));
    for (condition, status) in [
        (tag.as_str(), 206),
        ("\"other\"", 200),
        (&format!("W/{tag}"), 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("*", 200),
        ("", 200),
    ] {
        let answer = get(&server, DEMO, &[("range", "bytes=0-3"), ("if-range", condition)]);
        assert_eq!(answer.status, status, "{condition}");
    }
    let known = get(&server, DEMO, &[("range", "bytes=0-3"), ("if-none-match", &tag)]);
    assert_eq!((known.status, known.header("content-range")), (304, None), "the condition comes first");
}

#[test]
fn what_is_known_is_not_sent_again_whichever_form_of_it_is_known() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let (plain, packed) = (get(&server, DEMO_INDEX, &[]), get(&server, DEMO_INDEX, &[GZIP]));
    assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
    assert_eq!(tag(&packed), format!("{}-gz\"", tag(&plain).trim_end_matches('"')));
    for known in [tag(&plain), tag(&packed)] {
        for list in [
            known.clone(),
            format!("W/{known}"),
            format!("\"x\", {known} ,\"y\""),
            "*".into(),
            format!("\"a,b\", {known}"),
        ] {
            for whole in [&plain, &packed] {
                let encoding = if whole.header("content-encoding").is_some() { "gzip" } else { "identity" };
                is_same_but_empty(
                    &server,
                    DEMO_INDEX,
                    &[("if-none-match", &list), ("accept-encoding", encoding)],
                    whole,
                );
            }
        }
    }
    for list in ["\"\"", "\"abc\"", "abc", ""] {
        assert_eq!(get(&server, DEMO_INDEX, &[("if-none-match", list)]).status, 200, "{list}");
    }
    let demo = get(&server, DEMO, &[]);
    is_same_but_empty(&server, DEMO, &[("if-none-match", &tag(&demo))], &demo);
}

/// A 304 says of what it leaves out what the 200 says of it, and the connection goes on.
#[track_caller]
fn is_same_but_empty(server: &Server, path: &str, headers: &[(&str, &str)], whole: &Answer) {
    let mut client = connect(server);
    for method in ["GET", "HEAD", "GET"] {
        let known = client.ask(method, path, headers);
        assert_eq!(known.status, 304, "{method} {headers:?}");
        for name in ["etag", "cache-control", "vary"] {
            assert_eq!(known.header(name), whole.header(name), "{name} {headers:?}");
        }
        let length = known.header("content-length");
        assert!(length.is_none() || length == whole.header("content-length"), "length of a 304: {length:?}");
    }
}

#[test]
fn head_says_what_get_says() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &["--public-url", "http://a.example"]);
    let range = ("range", "bytes=2-5");
    for (path, headers) in [
        (DEMO, vec![]),
        (&mirrored.path_of("demo"), vec![]),
        ("/api/v1/crates/demo/1.0.0/download", vec![]),
        (DEMO_INDEX, vec![]),
        (DEMO_INDEX, vec![GZIP]),
        ("/index/config.json", vec![]),
        ("/nothing", vec![]),
        (DEMO, vec![range]),
        (DEMO, vec![("range", "bytes=999999-")]),
        ("/api/v1/crates?q=demo", vec![]),
    ] {
        let mut client = connect(&server);
        let (head, get) = (client.ask("HEAD", path, &headers), client.ask("GET", path, &headers));
        let without_date = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            headers.retain(|(name, _)| name != "date");
            headers.sort();
            (answer.status, headers)
        };
        assert_eq!(without_date(&head), without_date(&get), "{path} {headers:?}");
    }
}

#[test]
fn tags_are_the_same_after_a_restart_and_on_another_mirror() {
    let mirrored = Mirrored::new();
    let tags = |ferry: &Ferry| {
        let server = Server::start(ferry, &["--public-url", "http://a.example"]);
        let of = |path: &str| tag(&get(&server, path, &[GZIP]));
        [of(DEMO), of(DEMO_INDEX), of("/index/config.json")]
    };
    let first = tags(&mirrored.ferry);
    assert_eq!(first, tags(&mirrored.ferry), "after a restart");
    let other = Ferry::sparse(&mirrored.registry);
    other.sync(&["--crate", "demo@1.1.0"]).expect(0);
    other.sync(&["--crate", "demo"]).expect(0);
    assert_eq!(first, tags(&other), "on another mirror");
}
