//! Published test vectors. The whole program is compared with other implementations in `tests/inventory.rs`.

use super::*;

const FOX: &str = "The quick brown fox jumps over the lazy dog";

#[track_caller]
fn gives(algorithm: Algorithm, vectors: &[(&str, &str)]) {
    for (text, digest) in vectors {
        assert_eq!(algorithm.digest(text.as_bytes()).to_string(), *digest, "{algorithm} of {text:?}");
        assert_eq!(digest.len(), 2 * algorithm.length());
    }
}

/// The pattern of RFC 9861.
fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[test]
fn kangarootwelve_gives_what_rfc_9861_says() {
    let vectors = [
        (0, "1ac2d450fc3b4205d19da7bfca1b37513c0803577ac7167f06fe2ce1f0ef39e5"),
        (1, "2bda92450e8b147f8a7cb629e784a058efca7cf7d8218e02d345dfaa65244a1f"),
        (17, "6bf75fa2239198db4772e36478f8e19b0f371205f6a9a93a273f51df37122888"),
        (17_usize.pow(2), "0c315ebcdedbf61426de7dcf8fb725d1e74675d7f5327a5067f367b108ecb67c"),
        (17_usize.pow(3), "cb552e2ec77d9910701d578b457ddf772c12e322e4ee7fe417f92c758f0d59d0"),
        (17_usize.pow(4), "8701045e22205345ff4dda05555cbb5c3af1a771c2b89baef37db43d9998b9fe"),
        (17_usize.pow(5), "844d610933b1b9963cbdeb5ae3b6b05cc7cbd67ceedf883eb678a0a8e0371682"),
    ];
    for (length, digest) in vectors {
        let computed = Algorithm::KangarooTwelve.digest(&pattern(length));
        assert_eq!(computed.to_string(), digest, "of {length} bytes");
    }
}

#[test]
fn blake3_gives_what_its_authors_say() {
    let vectors = [
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
    ];
    for (length, digest) in vectors {
        let computed = Algorithm::Blake3.digest(&pattern(length));
        assert_eq!(computed.to_string(), digest, "of {length} bytes");
    }
}

#[test]
fn the_sha_family_gives_what_nist_says() {
    let sha256 = [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ];
    gives(Algorithm::Sha256, &sha256);
    let sha512 = [(
        "abc",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    )];
    gives(Algorithm::Sha512, &sha512);
    let sha3 = [
        ("", "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"),
        ("abc", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
    ];
    gives(Algorithm::Sha3, &sha3);
}

#[test]
fn blake2b_gives_what_others_give() {
    let vectors = [
        ("", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"),
        ("abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"),
    ];
    gives(Algorithm::Blake2b, &vectors);
}

#[test]
fn whirlpool_gives_what_the_standard_says() {
    let vectors = [
        (
            "",
            "19fa61d75522a4669b44e39c1d2e1726c530232130d407f89afee0964997f7a7\
             3e83be698b288febcf88e3e03c4f0757ea8964e59b63d93708b138cc42a66eb3",
        ),
        (
            "abc",
            "4e2448a4c6f486bb16b6562c73b4020bf3043e3a731bce721ae1b303d97e6d4c\
             7181eebdb6c57e277d0e34957114cbd6c797fc9d95d8b582d225292076d4eef5",
        ),
    ];
    gives(Algorithm::Whirlpool, &vectors);
}

#[test]
fn ripemd160_gives_what_its_authors_say() {
    let vectors = [
        ("", "9c1185a5c5e9fc54612808977ee8f548b2258d31"),
        ("abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
        ("message digest", "5d0689ef49d2fae572b881b123a85ffa21595f36"),
    ];
    gives(Algorithm::Ripemd160, &vectors);
}

#[test]
fn xxhash_gives_what_its_author_says_and_not_one_and_the_same() {
    gives(Algorithm::Xxh64, &[("", "ef46db3751d8e999"), ("abc", "44bc2cf5ad770999")]);
    gives(Algorithm::Xxh3, &[("", "2d06800538d394c2"), ("abc", "78af5f94892f3950")]);
}

#[test]
fn murmur3_gives_what_others_give() {
    let vectors = [
        ("", "00000000000000000000000000000000"),
        ("hello", "cbd8a7b341bd9b025b1e906a48ae1d19"),
        (FOX, "e34bbc7bbc071b6c7a433ca9c49a9347"),
    ];
    gives(Algorithm::Murmur3, &vectors);
}

#[test]
fn pieces_give_what_the_whole_gives() {
    let bytes = pattern(300_000);
    for algorithm in Algorithm::ALL {
        let mut hasher = algorithm.hasher();
        let mut rest = bytes.as_slice();
        for length in (1..).step_by(97) {
            let (piece, tail) = rest.split_at(rest.len().min(length));
            hasher.update(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(hasher.finish(), algorithm.digest(&bytes), "{algorithm}");
    }
}

#[test]
fn names_and_aliases_are_understood_and_others_are_not() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), algorithm);
        for alias in algorithm.facts().aliases {
            assert_eq!(alias.to_uppercase().parse::<Algorithm>().unwrap(), algorithm);
        }
    }
    let picked: Algorithms = "xxh3, sha256,BLAKE3,sha256".parse().unwrap();
    assert_eq!(picked.as_slice(), [Algorithm::Blake3, Algorithm::Xxh3, Algorithm::Sha256]);
    assert_eq!("all".parse::<Algorithms>().unwrap().as_slice(), Algorithm::ALL);
    let error = "sha256,md5".parse::<Algorithms>().unwrap_err().to_string();
    assert!(error.starts_with("no algorithm is called \"md5\"; there are kangarootwelve, blake3,"), "{error}");
}

#[test]
fn digests_are_read_as_they_are_written() {
    let digest = Algorithm::Sha256.digest(b"abc");
    assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    for text in ["abc", "zz", "+1"] {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
}
