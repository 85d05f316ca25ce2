//! Key lists and whom they let in.

use std::fmt::Debug;

use super::chain::{Chain, LONGEST_CHAIN, LONGEST_SIGNATURE, MOST_SIGNATURES, Signed};
use super::list::{KeyList, KeySet, Moment};
use super::signature_files::{SignatureFile, read_signatures, sign_all};
use super::trust::{Judged, Trust, Untrusted};
use super::{SigningKey, TrustedKey, minisign, openpgp};
use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_store::Layout;

const MIRROR: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "ffffffffffffffffffffffffffffffff";
const MANIFEST: &[u8] = b"{\"what\":\"crosses the gap\"}";

/// Somebody with a key.
struct Officer {
    secret: SigningKey,
    public: String,
}

impl Officer {
    fn new() -> Officer {
        let made = minisign::generate(None).unwrap();
        let secret = SigningKey::Minisign(minisign::Secret::read(made.secret.as_bytes(), None).unwrap());
        Officer { secret, public: made.public }
    }

    fn key(&self) -> TrustedKey {
        TrustedKey::Minisign(minisign::Public::read(self.public.as_bytes()).unwrap())
    }

    fn sign(&self, bytes: &[u8]) -> String {
        self.secret.sign(bytes, "name").unwrap()
    }

    /// A signature file over the manifest.
    fn file(&self) -> SignatureFile {
        SignatureFile { name: "manifest.json.minisig".into(), bytes: self.sign(MANIFEST).into_bytes() }
    }
}

fn officers<const N: usize>() -> [Officer; N] {
    std::array::from_fn(|_| Officer::new())
}

fn at(generation: u64) -> Moment {
    Moment { epoch: 0, generation }
}

fn set(officers: &[&Officer], quorum: usize) -> KeySet {
    KeySet::new(officers.iter().map(|officer| officer.key()).collect(), Some(quorum)).unwrap()
}

/// A list of these keys, one of which must sign, and the signatures of those who signed it.
fn list(number: u64, from: Moment, keys: &[&Officer], signed_by: &[&Officer]) -> Signed {
    list_of(MIRROR, number, from, set(keys, 1), signed_by)
}

fn list_of(mirror: &str, number: u64, from: Moment, set: KeySet, signed_by: &[&Officer]) -> Signed {
    let list = KeyList { mirror: mirror.into(), number, from, set }.text().unwrap();
    let signatures = signed_by.iter().map(|officer| officer.sign(list.as_bytes())).collect();
    Signed { list, signatures }
}

fn file(lists: &[&Signed]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"format": 1, "lists": lists})).unwrap()
}

fn trust(officers: &[&Officer]) -> Trust {
    Trust::default().pin(officers.iter().map(|officer| officer.key()).collect(), None).unwrap()
}

fn judge(trust: &Trust, chain: Option<&[u8]>, by: &[&Officer], to: Moment) -> Result<Judged, Untrusted> {
    let signatures: Vec<_> = by.iter().map(|officer| officer.file()).collect();
    trust.signers(chain, MANIFEST, &signatures)?.suffice(MIRROR, to)
}

#[track_caller]
fn refused<T>(judged: Result<T, Untrusted>, is_why: impl FnOnce(&Untrusted) -> bool) -> String {
    let error = judged.err().expect("it is refused");
    assert!(is_why(&error), "{error:?}");
    error.to_string()
}

/// The same replica after it took up what the judged bundle brought along.
fn kept(trust: &Trust, judged: &Judged) -> Trust {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    trust.keep(&layout).unwrap();
    judged.keep(&layout).unwrap();
    Trust::read(&layout).unwrap()
}

#[test]
fn without_lists_the_pinned_keys_count() {
    let [a, b] = officers();
    let judged = judge(&trust(&[&a]), None, &[&a], at(7)).unwrap();
    assert_eq!((judged.list, judged.signed_by[0].id.clone()), (None, a.secret.id()));
    let said = refused(judge(&trust(&[&a]), None, &[&b], at(7)), |why| matches!(why, Untrusted::NoQuorum(_)));
    assert!(said.contains(&a.secret.id()), "{said}");
    refused(judge(&trust(&[&a]), None, &[], at(7)), |why| matches!(why, Untrusted::Unsigned));
    refused(judge(&trust(&[&a, &b]), None, &[&a], at(7)), |why| matches!(why, Untrusted::NoQuorum(_)));
    judge(&trust(&[&a, &b]), None, &[&b, &a], at(7)).unwrap();
    let other = [SignatureFile { name: "x".into(), bytes: a.sign(b"other bytes").into_bytes() }];
    let said = refused(trust(&[&a]).signers(None, MANIFEST, &other), |why| matches!(why, Untrusted::NoQuorum(_)));
    assert!(said.contains("does not count"), "{said}");
}

#[test]
fn with_nothing_pinned_the_signers_are_named() {
    let a = Officer::new();
    let said = refused(
        judge(&Trust::default(), None, &[&a, &a], at(1)),
        |why| matches!(why, Untrusted::NothingPinned(names) if names.len() == 1),
    );
    assert!(said.contains(&format!("minisign key {}", a.secret.id())) && said.contains("--trust"), "{said}");
    let junk = [SignatureFile { name: "manifest.json.asc".into(), bytes: b"junk".to_vec() }];
    let said = refused(Trust::default().signers(None, MANIFEST, &junk), |_| true);
    assert!(said.contains("nobody that can be read from manifest.json.asc"), "{said}");
}

#[test]
fn a_key_counts_within_its_range_alone() {
    let [a, b] = officers();
    let first = list(1, at(0), &[&a], &[&a]);
    let second = list(2, at(10), &[&b], &[&a, &b]);
    let (short, long) = (file(&[&first]), file(&[&first, &second]));
    let new = trust(&[&a]);
    let out_of_range = |why: &Untrusted| matches!(why, Untrusted::OutOfRange { .. });
    assert_eq!(judge(&new, Some(&long), &[&a], at(9)).unwrap().list, Some(1));
    refused(judge(&new, Some(&long), &[&b], at(9)), out_of_range);
    refused(judge(&new, Some(&long), &[&a], at(10)), out_of_range);
    let judged = judge(&new, Some(&long), &[&b], at(10)).unwrap();
    assert_eq!(judged.list, Some(2));

    // What was learnt stays: an older bundle, or none of its lists, brings the old key back to nothing it has lost.
    let replica = kept(&new, &judged);
    for chain in [None, Some(&short), Some(&long)] {
        let chain = chain.map(Vec::as_slice);
        judge(&replica, chain, &[&a], at(9)).unwrap();
        judge(&replica, chain, &[&b], at(10)).unwrap();
        refused(judge(&replica, chain, &[&a], at(10)), out_of_range);
        refused(judge(&replica, chain, &[&a], Moment { epoch: 1, generation: 1 }), out_of_range);
    }
    let again = judge(&replica, Some(&short), &[&a], at(9)).unwrap();
    assert_eq!(kept(&replica, &again).chain().map(|chain| chain.last().number), None, "nothing new is written");
}

#[test]
fn a_new_epoch_outdoes_any_generation_of_the_one_before() {
    let [stolen, new] = officers();
    let first = list(1, at(0), &[&stolen], &[&stolen]);
    let second = list(2, Moment { epoch: 1, generation: 5 }, &[&new], &[&stolen, &new]);
    let chain = file(&[&first, &second]);
    let replica = trust(&[&stolen]);
    judge(&replica, Some(&chain), &[&stolen], at(u64::MAX)).unwrap();
    judge(&replica, Some(&chain), &[&new], Moment { epoch: 1, generation: 5 }).unwrap();
    refused(judge(&replica, Some(&chain), &[&stolen], Moment { epoch: 1, generation: 6 }), |_| true);
}

#[test]
fn a_quorum_is_of_keys_not_of_signatures() {
    let [a, b, c, d] = officers();
    let chain = file(&[&list_of(MIRROR, 1, at(0), set(&[&a, &b, &c], 2), &[&a, &b])]);
    let replica = trust(&[&a, &b]);
    for enough in [[&a, &b], [&a, &c], [&c, &b]] {
        judge(&replica, Some(&chain), &enough, at(1)).unwrap();
    }
    for too_few in [&[&a][..], &[&a, &a, &a], &[&a, &d], &[&d]] {
        refused(judge(&replica, Some(&chain), too_few, at(1)), |why| matches!(why, Untrusted::NoQuorum(_)));
    }
    // Signed twice by one key, the list itself is none.
    let chain = file(&[&list_of(MIRROR, 1, at(0), set(&[&a, &b], 2), &[&a, &a])]);
    refused(judge(&trust(&[&a]), Some(&chain), &[&a, &b], at(1)), |why| {
        matches!(why, Untrusted::Own { number: 1, .. })
    });
}

#[test]
fn a_list_needs_those_before_it_and_its_own() {
    let [a, b] = officers();
    let first = list(1, at(0), &[&a], &[&a]);
    for signed_by in [&[&a][..], &[&b], &[]] {
        let chain = file(&[&first, &list(2, at(10), &[&b], signed_by)]);
        let is_link = !signed_by.contains(&&a) || signed_by.is_empty();
        refused(judge(&trust(&[&a]), Some(&chain), &[&a], at(5)), |why| match why {
            Untrusted::Link { number: 2, .. } => is_link,
            Untrusted::Own { number: 2, .. } => !is_link,
            _ => false,
        });
    }
}

impl PartialEq for &Officer {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

#[test]
fn whoever_trusts_a_new_key_alone_begins_with_its_list() {
    let [a, b, c] = officers();
    let first = list(1, at(0), &[&a], &[&a]);
    let second = list(2, at(10), &[&b], &[&a, &b]);
    let third = list(3, at(20), &[&c], &[&b, &c]);
    let chain = file(&[&first, &second, &third]);
    let new = trust(&[&b]);
    let judged = judge(&new, Some(&chain), &[&c], at(20)).unwrap();
    refused(judge(&new, Some(&chain), &[&b], at(9)), |why| matches!(why, Untrusted::TooOld { .. }));
    let replica = kept(&new, &judged);
    judge(&replica, Some(&chain), &[&b], at(19)).unwrap();
    judge(&replica, Some(&file(&[&first])), &[&c], at(21)).unwrap();
    let stranger = Officer::new();
    refused(judge(&trust(&[&stranger]), Some(&chain), &[&stranger], at(20)), |why| {
        matches!(why, Untrusted::NoStart(_))
    });
}

#[test]
fn a_forked_chain_and_one_with_a_gap_are_refused() {
    let [a, b, c] = officers();
    let first = list(1, at(0), &[&a], &[&a]);
    let second = list(2, at(10), &[&b], &[&a, &b]);
    let third = list(3, at(20), &[&c], &[&b, &c]);
    let new = trust(&[&a]);
    let replica = kept(&new, &judge(&new, Some(&file(&[&first, &second])), &[&b], at(10)).unwrap());
    let fork = list(2, at(10), &[&c], &[&a, &c]);
    let forked = judge(&replica, Some(&file(&[&first, &fork])), &[&c], at(10));
    refused(forked, |why| matches!(why, Untrusted::Forked(2)));
    let fourth = list(4, at(30), &[&c], &[&c]);
    refused(judge(&replica, Some(&file(&[&fourth])), &[&c], at(30)), |why| {
        matches!(why, Untrusted::Gap { known: 2, found: 4 })
    });
    judge(&replica, Some(&file(&[&third])), &[&c], at(20)).unwrap();
    let swapped = judge(&new, Some(&file(&[&second, &first])), &[&b], at(10));
    refused(swapped, |why| matches!(why, Untrusted::Junk(_)));
}

#[test]
fn another_mirrors_lists_and_bundles_are_refused() {
    let a = Officer::new();
    let other = file(&[&list_of(OTHER, 1, at(0), set(&[&a], 1), &[&a])]);
    let is_other = |why: &Untrusted| matches!(why, Untrusted::OtherMirror { .. });
    refused(judge(&trust(&[&a]), Some(&other), &[&a], at(1)), is_other);
    let chain = file(&[&list(1, at(0), &[&a], &[&a])]);
    let new = trust(&[&a]);
    let replica = kept(&new, &judge(&new, Some(&chain), &[&a], at(1)).unwrap());
    refused(judge(&replica, Some(&other), &[&a], at(1)), is_other);
    let signers = replica.signers(None, MANIFEST, &[a.file()]).unwrap();
    refused(signers.suffice(OTHER, at(1)), is_other);
}

#[test]
fn a_list_that_goes_back_or_is_written_otherwise_is_refused() {
    let [a, b] = officers();
    let first = list(1, at(0), &[&a], &[&a]);
    let second = list(2, at(10), &[&a], &[&a]);
    let back = list(3, at(9), &[&b], &[&a, &b]);
    let is_junk = |why: &Untrusted| matches!(why, Untrusted::Junk(_));
    refused(judge(&trust(&[&a]), Some(&file(&[&first, &second, &back])), &[&a], at(1)), is_junk);
    for (was, now) in [
        ("{\"format\":1,", "{\"format\": 1,"),
        ("{\"format\":1,", "{\"format\":2,"),
        ("{\"format\":1,", "{\"format\":1,\"more\":1,"),
        ("\"quorum\":1", "\"quorum\":0"),
        ("\"quorum\":1", "\"quorum\":2"),
        ("\"epoch\":0,\"generation\":0", "\"epoch\":0,\"generation\":1"),
        (&*a.secret.id(), &*b.secret.id()),
        (MIRROR, "../../etc"),
    ] {
        assert!(first.list.contains(was), "{was}");
        let text = first.list.replacen(was, now, 1);
        let changed = Signed { signatures: vec![a.sign(text.as_bytes())], list: text };
        refused(judge(&trust(&[&a]), Some(&file(&[&changed])), &[&a], at(1)), is_junk);
    }
}

#[test]
fn junk_and_what_is_too_long_are_refused() {
    let a = Officer::new();
    let (new, good) = (trust(&[&a]), list(1, at(0), &[&a], &[&a]));
    let is_junk = |why: &Untrusted| matches!(why, Untrusted::Junk(_));
    for junk in [&b""[..], b"junk", b"[]", b"{}", b"{\"format\":1,\"lists\":[]}", b"{\"format\":9}", &[0xff; 100]] {
        refused(judge(&new, Some(junk), &[&a], at(1)), is_junk);
    }
    let whole = file(&[&good]);
    for length in 0..whole.len() {
        refused(judge(&new, Some(&whole[..length]), &[&a], at(1)), is_junk);
    }
    let mut padded = whole.clone();
    padded.resize(usize::try_from(LONGEST_CHAIN).unwrap(), b' ');
    judge(&new, Some(&padded), &[&a], at(1)).unwrap();
    padded.push(b' ');
    refused(judge(&new, Some(&padded), &[&a], at(1)), is_junk);

    let mut long = a.file();
    long.bytes.resize(usize::try_from(LONGEST_SIGNATURE).unwrap() + 1, b'\n');
    let said = refused(new.signers(None, MANIFEST, &[a.file(), long]), |why| matches!(why, Untrusted::TooLong(_)));
    assert!(said.contains("manifest.json.minisig"), "{said}");
    let many = vec![a.file(); MOST_SIGNATURES + 1];
    refused(new.signers(None, MANIFEST, &many), |why| matches!(why, Untrusted::TooMany));
    let junk = SignatureFile { name: "manifest.json.asc".into(), bytes: vec![0x99; 1000] };
    new.signers(None, MANIFEST, &[junk.clone(), a.file()]).unwrap();
    refused(new.signers(None, MANIFEST, &[junk]), |why| matches!(why, Untrusted::NoQuorum(_)));
}

#[test]
fn no_bit_of_a_chain_can_be_turned() {
    let [a, b] = officers();
    let chain = file(&[&list(1, at(0), &[&a], &[&a]), &list(2, at(10), &[&b], &[&a, &b])]);
    let new = trust(&[&a]);
    let good = judge(&new, Some(&chain), &[&b], at(10)).unwrap();
    let ids = |trust: &Trust| -> Vec<_> {
        let lists = trust.chain().into_iter().flat_map(Chain::lists);
        lists.map(|(list, _)| list.text().unwrap()).collect()
    };
    let taken = ids(&kept(&new, &good));
    for at_byte in (0..chain.len()).step_by(3) {
        let mut flipped = chain.clone();
        flipped[at_byte] ^= 1;
        // A comment in a signature may be another, and a chain may begin later; whatever is taken are the same lists.
        if let Ok(judged) = judge(&new, Some(&flipped), &[&b], at(10)) {
            assert!(taken.ends_with(&ids(&kept(&new, &judged))), "byte {at_byte}");
        }
    }
}

#[test]
fn what_is_pinned_stays_pinned() {
    let [a, b] = officers();
    let pin = |trust: Trust, officer: &Officer| trust.pin(vec![officer.key()], None);
    assert!(Trust::default().is_empty() && !trust(&[&a]).is_empty());
    let said = pin(trust(&[&a]), &b).err().unwrap().to_string();
    assert!(said.contains(&a.secret.id()) && said.contains("keys/"), "{said}");
    assert!(pin(trust(&[&a]), &a).is_ok());
    let refused = |keys: Vec<TrustedKey>, quorum| Trust::default().pin(keys, quorum).err().unwrap().to_string();
    assert!(refused(vec![a.key(), a.key()], None).contains("twice"));
    assert!(refused(vec![a.key()], Some(2)).contains("quorum of 2"));
    assert!(refused(vec![a.key()], Some(0)).contains("quorum of 0"));
    assert!(refused(Vec::new(), None).contains("no key"));
}

/// Reads what a test has just made.
fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    result.unwrap()
}

#[test]
fn signatures_are_named_as_the_programs_of_their_kind_name_them() {
    let [a, b] = officers();
    let made = ok(openpgp::generate("name", None, SystemClock.now()));
    let gpg = openpgp::Secret::read(made.secret.as_bytes(), None, SystemClock.now());
    let gpg = SigningKey::OpenPgp(Box::new(ok(gpg)));
    let (id, other) = (a.secret.id(), b.secret.id());
    let keys = [a.secret, gpg];
    let names = |files: &[SignatureFile]| files.iter().map(|file| file.name.clone()).collect::<Vec<_>>();
    let files = ok(sign_all(&keys, MANIFEST, "manifest.json"));
    assert_eq!(names(&files), ["manifest.json.minisig", "manifest.json.asc"]);
    let folder = ok(tempfile::tempdir());
    for file in &files {
        ok(std::fs::write(folder.path().join(&file.name), &file.bytes));
    }
    for no_signature in ["manifest.json", "manifest.jsonx.asc", "other.asc", "manifest.json.txt"] {
        ok(std::fs::write(folder.path().join(no_signature), "no signature"));
    }
    let read = ok(read_signatures(folder.path(), "manifest.json"));
    assert_eq!(names(&read), ["manifest.json.asc", "manifest.json.minisig"]);
    let certificate = openpgp::Certificate::read(made.public.as_bytes());
    let public = TrustedKey::Minisign(ok(minisign::Public::read(a.public.as_bytes())));
    let pinned = Trust::default().pin(vec![public, TrustedKey::OpenPgp(Box::new(ok(certificate)))], None);
    let judged = ok(ok(ok(pinned).signers(None, MANIFEST, &read)).suffice(MIRROR, at(1)));
    assert_eq!((judged.signed_by.len(), judged.warnings().count()), (2, 0));

    let [first, _] = keys;
    let files = ok(sign_all(&[first, b.secret], MANIFEST, "manifest.json"));
    let expected = [id, other].map(|id| format!("manifest.json.{id}.minisig"));
    assert_eq!(names(&files), expected);
    let long = folder.path().join("manifest.json.minisig");
    ok(std::fs::write(long, vec![b'x'; usize::try_from(LONGEST_SIGNATURE).unwrap() + 1]));
    assert!(read_signatures(folder.path(), "manifest.json").is_err());
}
