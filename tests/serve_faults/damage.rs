//! Disks that lie: what comes out of a damaged pack is never taken for what was put in.

use std::fs::OpenOptions;

use crate::common::{Ferry, Server, flip_bit};
use crate::frames::Http2;
use crate::wire::{Answer, Client, connect, get, request};
use crate::{DEMO, DEMO_INDEX, Mirrored};

const IDENTITY: (&str, &str) = ("accept-encoding", "identity");
const GZIP: (&str, &str) = ("accept-encoding", "gzip");

/// Turns one bit around in the middle of these bytes, wherever in the packs they lie.
#[track_caller]
fn damage(ferry: &Ferry, bytes: &[u8]) {
    for (pack, _) in ferry.packs() {
        let path = ferry.file(&format!("packs/{pack}"));
        let all = std::fs::read(&path).unwrap();
        if let Some(at) = all.windows(bytes.len()).position(|window| window == bytes) {
            return flip_bit(&path, 8 * (at + bytes.len() / 2) as u64 + 3);
        }
    }
    panic!("no pack holds these bytes");
}

#[track_caller]
fn is_refused(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 500, "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(answer.header("etag"), None, "{what}");
}

#[test]
fn a_flipped_bit_in_a_crate_file_is_never_handed_on() {
    let mirrored = Mirrored::with(&[("sound", 1000), ("large", 3 << 20)]);
    for name in ["demo", "large"] {
        let damaged = mirrored.ferry.copy();
        damage(&damaged, &mirrored.bytes_of(name));
        let server = Server::start(&damaged, &[]);
        let file = format!("/crates/{name}/{name}-1.0.0.crate");
        for path in [&file, &mirrored.path_of(name), &format!("/api/v1/crates/{name}/1.0.0/download")] {
            for headers in [&[][..], &[("range", "bytes=0-0")], &[("range", "bytes=-1")]] {
                is_refused(&get(&server, path, headers), path);
                assert_eq!(connect(&server).ask("HEAD", path, headers).status, 500);
            }
            assert_eq!(Http2::connect(&server).get(path.as_bytes()).0, 500);
        }
        let log = server.log();
        assert!(log.contains(&format!("{name} 1.0.0")) && log.contains("is damaged"), "{log}");
        assert!(log.contains(&mirrored.registry.checksum(name, "1.0.0")), "{log}");
        assert_eq!(get(&server, &mirrored.path_of("sound"), &[]).body, mirrored.bytes_of("sound"));
        assert_eq!(get(&server, DEMO_INDEX, &[]).status, 200);
    }
}

#[test]
fn a_flipped_bit_in_an_index_file_is_never_handed_on_packed_or_unpacked() {
    let mirrored = Mirrored::with(&[("sound", 1000)]);
    let packed = get(&Server::start(&mirrored.ferry, &[]), DEMO_INDEX, &[GZIP]).body;
    for encoding in [GZIP, IDENTITY] {
        let damaged = mirrored.ferry.copy();
        damage(&damaged, &packed);
        let server = Server::start(&damaged, &[]);
        for _ in 0..2 {
            is_refused(&get(&server, DEMO_INDEX, &[encoding]), encoding.1);
        }
        let log = server.log();
        assert!(log.contains("index file of crate demo") && log.contains("is damaged"), "{log}");
        assert_eq!(get(&server, "/index/so/un/sound", &[encoding]).status, 200);
        assert_eq!(get(&server, DEMO, &[encoding]).body, mirrored.bytes_of("demo"));
        let search = get(&server, "/api/v1/crates?q=demo", &[]);
        assert!(search.status == 500 || search.text().contains("\"demo\""), "{search:?}");
    }
}

/// A mirror whose crates lie in packs of their own, and the pack of each.
fn apart() -> (Mirrored, Vec<String>) {
    let mirrored = Mirrored::new();
    let registry = &mirrored.registry;
    registry.release_with("large", "1.0.0", crateferry_test_support::Release::sized(3 << 20));
    let ferry = Ferry::sparse(registry);
    ferry.init().configure("store", "pack-size = \"1 MB\"");
    ferry.sync(&["--crate", "large"]).expect(0);
    ferry.sync(&["--crate", "demo"]).expect(0);
    let packs: Vec<String> = ferry.packs().into_iter().map(|(name, _)| name).collect();
    assert!(packs.len() >= 2, "{packs:?}");
    (Mirrored { ferry, registry: mirrored.registry }, packs)
}

#[test]
fn a_pack_that_is_gone_takes_down_only_what_lay_in_it() {
    let (mirrored, packs) = apart();
    std::fs::remove_file(mirrored.ferry.file(&format!("packs/{}", packs[0]))).unwrap();
    let server = Server::start(&mirrored.ferry, &[]);
    for _ in 0..3 {
        is_refused(&get(&server, &mirrored.path_of("large"), &[]), "large");
    }
    assert!(server.log().contains("large 1.0.0") && server.log().contains(&packs[0]), "{}", server.log());
    assert_eq!(get(&server, DEMO, &[]).body, mirrored.bytes_of("demo"));
}

#[test]
fn a_pack_that_is_cut_under_a_download_ends_it_short_and_is_logged() {
    let (mirrored, packs) = apart();
    let server = Server::start(&mirrored.ferry, &[]);
    let path = mirrored.path_of("large");
    assert_eq!(get(&server, &path, &[]).status, 200);
    let pack = mirrored.ferry.file(&format!("packs/{}", packs[0]));
    let mut permissions = std::fs::metadata(&pack).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&pack, permissions).unwrap();
    OpenOptions::new().write(true).open(&pack).unwrap().set_len(1 << 20).unwrap();
    let taken = answered_bytes(connect(&server), &path);
    assert!(taken < mirrored.bytes_of("large").len(), "{taken}");
    let (status, body) = Http2::connect(&server).get(path.as_bytes());
    assert!(status == 0 && body.len() < mirrored.bytes_of("large").len(), "{status}, {}", body.len());
    server.wait_for_log("ERROR");
    assert!(server.log().contains(&packs[0]), "{}", server.log());
    assert_eq!(get(&server, DEMO, &[]).body, mirrored.bytes_of("demo"));
}

/// How many bytes come of an answer that may end short.
fn answered_bytes(mut client: Client, path: &str) -> usize {
    client.send(request("GET", path, &[]).as_bytes());
    let all = client.rest();
    all.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |end| all.len() - end - 4)
}
