//! What GnuPG makes nobody: keys and signatures that break a rule.

use std::io::Cursor;
use std::sync::LazyLock;

use pgp::composed::{EncryptionCaps, SignedPublicKey, SubkeyParamsBuilder, SubpacketConfig};
use pgp::packet::{Notation, Subpacket, SubpacketData};
use pgp::types::Duration;

use super::*;

const HOUR: u32 = 3600;

/// Where a short packet has the number of its hash algorithm.
const HASH_ALGORITHM: usize = 5;

const DATA: &[u8] = b"some bytes";

/// Keys' own signatures are made by a clock that cannot be set. All of a test is made and verified at one moment.
static NOW: LazyLock<u32> = LazyLock::new(|| Timestamp::now().as_secs());

fn key(adapt: impl FnOnce(&mut SecretKeyParamsBuilder)) -> SignedSecretKey {
    let mut params = SecretKeyParamsBuilder::default();
    params.key_type(KeyType::Ed25519Legacy).created_at(Timestamp::from_secs(*NOW - HOUR));
    params.can_certify(true).can_sign(true).primary_user_id("made up".into());
    adapt(&mut params);
    params.build().unwrap().generate(OsRng).unwrap()
}

/// A signature over [`DATA`] that says what it is told to say.
fn signature(key: &impl SigningKey, hash: HashAlgorithm, mut says: Vec<SubpacketData>) -> Vec<u8> {
    says.push(SubpacketData::IssuerFingerprint(key.fingerprint()));
    let hashed = says.into_iter().map(|data| Subpacket::critical(data).unwrap()).collect();
    let subpackets = SubpacketConfig::UserDefined { hashed, unhashed: Vec::new() };
    let none = Password::empty();
    let made = DetachedSignature::sign_binary_data_with_subpackets(OsRng, key, &none, hash, DATA, subpackets);
    pgp::ser::Serialize::to_bytes(&made.unwrap()).unwrap()
}

fn at(seconds: u32) -> Vec<SubpacketData> {
    vec![SubpacketData::SignatureCreationTime(Timestamp::from_secs(seconds))]
}

fn verify(key: &SignedPublicKey, signature: &[u8]) -> Result<(), BadSignature> {
    Certificate::new(key.clone()).verify(signature, Cursor::new(DATA), (*NOW).into())
}

#[track_caller]
fn refused(key: &SignedPublicKey, signature: &[u8], why: &str) {
    let problem = verify(key, signature).unwrap_err().to_string();
    assert!(problem.contains(why), "{problem}");
}

#[test]
fn a_signature_from_before_its_key_or_from_the_future_is_refused() {
    let key = key(|_| {});
    let public = key.to_public_key();
    let signed = |seconds| signature(&key.primary_key, HashAlgorithm::Sha256, at(seconds));
    verify(&public, &signed(*NOW)).unwrap();
    verify(&public, &signed(*NOW - HOUR)).unwrap();
    refused(&public, &signed(*NOW - HOUR - 1), "was not valid");
    // As far as the clocks on both sides of a gap may differ.
    verify(&public, &signed(*NOW + 23 * HOUR)).unwrap();
    refused(&public, &signed(*NOW + 25 * HOUR), "later than this computer's clock");
    refused(&public, &signature(&key.primary_key, HashAlgorithm::Sha256, Vec::new()), "does not say when");
}

#[test]
fn a_signature_from_after_the_end_of_its_key_is_refused() {
    let mut key = key(|_| {});
    let mut says = at(*NOW - HOUR);
    says.push(SubpacketData::KeyExpirationTime(Duration::from_secs(2 * HOUR)));
    let mut flags = pgp::packet::KeyFlags::default();
    flags.set_sign(true);
    says.push(SubpacketData::KeyFlags(flags));
    key.details.users[0].signatures = vec![certification(&key, says)];
    let public = key.to_public_key();
    let signed = |seconds| signature(&key.primary_key, HashAlgorithm::Sha256, at(seconds));
    verify(&public, &signed(*NOW)).unwrap();
    refused(&public, &signed(*NOW + HOUR), "was not valid");
}

#[test]
fn by_the_rule_of_bundles_a_key_counts_when_its_time_is_over_and_says_so() {
    let mut key = key(|_| {});
    let mut says = at(*NOW - HOUR);
    says.push(SubpacketData::KeyExpirationTime(Duration::from_secs(HOUR / 2)));
    let mut flags = pgp::packet::KeyFlags::default();
    flags.set_sign(true);
    says.push(SubpacketData::KeyFlags(flags));
    key.details.users[0].signatures = vec![certification(&key, says)];
    let public = key.to_public_key();
    let whenever = |signature: &[u8]| {
        Certificate::new(public.clone()).verify_whenever(signature, Cursor::new(DATA), (*NOW).into())
    };
    for made in [*NOW - HOUR / 2 - 1, *NOW] {
        let signed = signature(&key.primary_key, HashAlgorithm::Sha256, at(made));
        refused(&public, &signed, "expired at");
        assert_eq!(whenever(&signed).unwrap(), Some(moment(Timestamp::from_secs(*NOW - HOUR / 2))));
    }
    for made in [*NOW - HOUR - 1, *NOW + 25 * HOUR] {
        whenever(&signature(&key.primary_key, HashAlgorithm::Sha256, at(made))).unwrap_err();
    }
    let mut says = at(*NOW - HOUR);
    says.push(SubpacketData::SignatureExpirationTime(Duration::from_secs(60)));
    let bad = whenever(&signature(&key.primary_key, HashAlgorithm::Sha256, says)).unwrap_err();
    assert!(bad.to_string().contains("it expired at"), "{bad}");
}

/// A signature of the key over its own user id.
fn certification(key: &SignedSecretKey, says: Vec<SubpacketData>) -> Signature {
    let algorithm = key.primary_key.algorithm();
    let mut config = pgp::packet::SignatureConfig::v4(SignatureType::CertPositive, algorithm, HashAlgorithm::Sha256);
    config.hashed_subpackets = says.into_iter().map(|data| Subpacket::regular(data).unwrap()).collect();
    config.unhashed_subpackets =
        vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.primary_key.legacy_key_id())).unwrap()];
    let (secret, public) = (&key.primary_key, key.primary_key.public_key());
    let id = &key.details.users[0].id;
    config.sign_certification(secret, public, &Password::empty(), pgp::types::Tag::UserId, id).unwrap()
}

#[test]
fn the_flag_for_signing_is_needed_whatever_the_key_can_do() {
    let key = key(|params| {
        params.can_sign(false);
    });
    let signed = signature(&key.primary_key, HashAlgorithm::Sha256, at(*NOW));
    refused(&key.to_public_key(), &signed, "is not a key for signing");
}

#[test]
fn a_key_without_a_signature_over_a_user_id_is_refused() {
    let key = key(|_| {});
    let mut public = key.to_public_key();
    public.details.users[0].signatures.clear();
    let signed = signature(&key.primary_key, HashAlgorithm::Sha256, at(*NOW));
    refused(&public, &signed, "is not bound to its certificate");
    // One by another key is as good as none.
    public.details.users[0].signatures = self::key(|_| {}).details.users[0].signatures.clone();
    refused(&public, &signed, "is not bound to its certificate");
}

#[test]
fn weak_hashes_and_unknown_critical_parts_are_refused() {
    let key = key(|_| {});
    let public = key.to_public_key();
    let mut signed = signature(&key.primary_key, HashAlgorithm::Sha256, at(*NOW));
    for (number, name) in [(1, "MD5"), (2, "SHA1"), (3, "RIPEMD160")] {
        signed[HASH_ALGORITHM] = number;
        refused(&public, &signed, &format!("uses {name}"));
    }
    let mut says = at(*NOW);
    let (name, value) = ("rule@example.org".into(), "x".into());
    says.push(SubpacketData::Notation(Notation { readable: true, name, value }));
    refused(&public, &signature(&key.primary_key, HashAlgorithm::Sha256, says), "critical part");
}

fn with_subkey(can_sign: bool) -> SignedSecretKey {
    let mut subkey = SubkeyParamsBuilder::default();
    subkey.key_type(KeyType::Ed25519Legacy).created_at(Timestamp::from_secs(*NOW - HOUR));
    let subkey = subkey.can_sign(can_sign).can_encrypt(EncryptionCaps::None).build().unwrap();
    key(|params| {
        params.subkey(subkey);
    })
}

#[test]
fn a_subkey_needs_the_flag_and_the_binding_of_both_sides() {
    let key = with_subkey(true);
    let mut public = key.to_public_key();
    let signed = signature(&key.secret_subkeys[0].key, HashAlgorithm::Sha256, at(*NOW));
    verify(&public, &signed).unwrap();
    // Somebody else's subkey, taken over.
    let theirs = with_subkey(true).to_public_key();
    let mut stolen = theirs.clone();
    stolen.public_subkeys[0].key = public.public_subkeys[0].key.clone();
    refused(&stolen, &signed, "is not bound to its certificate");
    public.public_subkeys[0].signatures = theirs.public_subkeys[0].signatures.clone();
    refused(&public, &signed, "is not bound to its certificate");
    let key = with_subkey(false);
    let signed = signature(&key.secret_subkeys[0].key, HashAlgorithm::Sha256, at(*NOW));
    refused(&key.to_public_key(), &signed, "is not a key for signing");
}

#[test]
fn a_key_of_version_6_is_as_good() {
    let key = key(|params| {
        params.version(pgp::types::KeyVersion::V6).key_type(KeyType::Ed25519);
    });
    let text = key.to_armored_string(ArmorOptions::default()).unwrap();
    let secret = Secret::read(text.as_bytes(), None, (*NOW).into()).unwrap();
    let signed = secret.sign(DATA).unwrap();
    let certificate = Certificate::new(key.to_public_key());
    assert_eq!(certificate.id(), secret.id());
    certificate.verify(signed.as_bytes(), Cursor::new(DATA), (*NOW).into()).unwrap();
}

#[test]
fn garbage_is_refused_and_does_no_harm() {
    let key = key(|_| {});
    let public = key.to_public_key();
    let signed = signature(&key.primary_key, HashAlgorithm::Sha256, at(*NOW));
    for length in 0..signed.len() {
        verify(&public, &signed[..length]).unwrap_err();
    }
    // What the signature is over, the signature's own fields among it, ends with the issuer. Behind it a number has several forms.
    let fingerprint = public.primary_key.fingerprint();
    let issuer = memchr::memmem::find(&signed, fingerprint.as_bytes()).unwrap();
    let end_of_fields = issuer + fingerprint.as_bytes().len();
    for at in 0..signed.len() * 8 {
        let mut flipped = signed.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let verified = verify(&public, &flipped);
        assert!(verified.is_err() || at / 8 >= end_of_fields, "bit {at}");
    }
}
