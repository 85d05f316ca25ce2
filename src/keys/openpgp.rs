//! Keys and signatures of OpenPGP (RFC 4880, RFC 9580), as GnuPG and others take them. The only place that knows rPGP.
//!
//! rPGP verifies the mathematics of a signature. Whether a key may sign, is still in force and was in force then, and whether a hash
//! is any good, is judged here: [`Certificate`] says which of its keys may sign, and why the others may not.

mod certificate;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context as _, bail};
use jiff::Timestamp as Moment;
use pgp::composed::{
    ArmorOptions, Deserializable as _, DetachedSignature, KeyType, PublicOrSecret, SecretKeyParamsBuilder,
    SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails as _, Password, S2kParams, SecretParams, SigningKey, StringToKey, Timestamp};
use rand_core::OsRng;

pub use certificate::Certificate;

use self::certificate::{Expiry, Part, Period, Unfit, moment, timestamp};
use super::{BadSignature, KeyTexts, PASSWORD_HINT};

/// How many signatures one file may have: each costs a reading of all that was signed.
const MOST_SIGNATURES: usize = 16;

/// A secret key that may sign, without its password.
pub struct Secret {
    id: String,
    key: Signer,
}

/// The part of a key that signs.
enum Signer {
    Primary(pgp::packet::SecretKey),
    Subkey(pgp::packet::SecretSubkey),
}

impl Secret {
    /// Reads a key, with its password if it has one. As GnuPG does, the youngest subkey that may sign is preferred to the primary key.
    pub fn read(bytes: &[u8], password: Option<&str>, now: u64) -> anyhow::Result<Secret> {
        let key = match only(bytes)? {
            PublicOrSecret::Secret(key) => key,
            PublicOrSecret::Public(_) => bail!("it is a public key"),
        };
        let certificate = Certificate::new(key.to_public_key());
        let id = certificate.id();
        let part = signing_part(&key, &certificate, timestamp(now))?;
        Ok(Secret { id, key: unlock(key, &part, password)? })
    }

    /// The fingerprint of the primary key.
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// An armored signature over all bytes.
    pub fn sign(&self, data: impl Read) -> anyhow::Result<String> {
        match &self.key {
            Signer::Primary(key) => sign(key, data),
            Signer::Subkey(key) => sign(key, data),
        }
    }
}

fn sign(key: &impl SigningKey, data: impl Read) -> anyhow::Result<String> {
    let none = Password::empty();
    let signature = DetachedSignature::sign_binary_data(OsRng, key, &none, key.hash_alg(), data)?;
    Ok(signature.to_armored_string(ArmorOptions::default())?)
}

/// The one key that a file has.
fn only(bytes: &[u8]) -> anyhow::Result<PublicOrSecret> {
    let (mut keys, _) = PublicOrSecret::from_reader_many_buf(bytes)?;
    let key = keys.next().context("it has no key")??;
    if keys.next().is_some() {
        bail!("it has more than one key; export one alone");
    }
    Ok(key)
}

/// Which part of a key is to sign, by its fingerprint.
fn signing_part(key: &SignedSecretKey, certificate: &Certificate, now: Timestamp) -> anyhow::Result<Vec<u8>> {
    let mut fit = Vec::new();
    let mut problem = None;
    for part in certificate.parts() {
        match certificate.judge(part, now, Expiry::Refused) {
            Ok(_) if holds(key, &part) => fit.push(part),
            Ok(_) => drop(problem.get_or_insert_with(|| anyhow::anyhow!("it lacks the secret of {part}"))),
            // That the primary key leaves the signing to a subkey is no problem by itself.
            Err(Unfit::NoFlag) => {}
            Err(unfit) => drop(problem.get_or_insert_with(|| anyhow::anyhow!("{part} {unfit}"))),
        }
    }
    let youngest = fit.into_iter().max_by_key(|part| (part.is_subkey(), part.created_at()));
    match youngest {
        Some(part) => Ok(part.fingerprint().as_bytes().to_vec()),
        None => Err(problem.unwrap_or_else(|| anyhow::anyhow!("none of its keys may sign"))),
    }
}

/// Whether the secret of a part is there. GnuPG writes a stub where it is on a card or was left out.
fn holds(key: &SignedSecretKey, part: &Part) -> bool {
    let params = match part {
        Part::Primary(_) => Some(key.primary_key.secret_params()),
        Part::Subkey(subkey) => {
            let mut subkeys = key.secret_subkeys.iter();
            let found = subkeys.find(|secret| secret.key.fingerprint() == subkey.key.fingerprint());
            found.map(|secret| secret.key.secret_params())
        }
    };
    params.is_some_and(|params| match params {
        SecretParams::Plain(_) => true,
        SecretParams::Encrypted(params) => match params.string_to_key_params() {
            S2kParams::Cfb { s2k, .. } | S2kParams::MalleableCfb { s2k, .. } | S2kParams::Aead { s2k, .. } => {
                !matches!(s2k, StringToKey::Private { .. })
            }
            S2kParams::Unprotected | S2kParams::LegacyCfb { .. } => true,
        },
    })
}

/// Takes the part that signs out of a key, and its password off.
fn unlock(key: SignedSecretKey, fingerprint: &[u8], password: Option<&str>) -> anyhow::Result<Signer> {
    let SignedSecretKey { primary_key, secret_subkeys, .. } = key;
    let given = Password::from(password.unwrap_or_default());
    let mut signer = if primary_key.fingerprint().as_bytes() == fingerprint {
        Signer::Primary(primary_key)
    } else {
        let mut subkeys = secret_subkeys.into_iter().map(|subkey| subkey.key);
        let subkey = subkeys.find(|subkey| subkey.fingerprint().as_bytes() == fingerprint);
        Signer::Subkey(subkey.context("its subkey is not there")?)
    };
    let unlocked = match &mut signer {
        Signer::Primary(key) => key.remove_password(&given),
        Signer::Subkey(key) => key.remove_password(&given),
    };
    match (unlocked, password) {
        (Ok(()), _) => Ok(signer),
        (Err(error), None) => Err(anyhow::Error::from(error).context(PASSWORD_HINT)),
        (Err(error), Some(_)) => Err(anyhow::Error::from(error).context("wrong password, or a damaged key")),
    }
}

impl Certificate {
    /// Reads a public key, armored or not.
    pub fn read(bytes: &[u8]) -> anyhow::Result<Certificate> {
        match only(bytes)? {
            PublicOrSecret::Public(key) => Ok(Certificate::new(key)),
            PublicOrSecret::Secret(_) => bail!("it is a secret key; those who check need the public one alone"),
        }
    }

    /// Whether a key of this certificate made one of these signatures over exactly these bytes, and was allowed to.
    pub fn verify(&self, signatures: &[u8], data: impl Read + Seek, now: u64) -> Result<(), BadSignature> {
        self.verify_if(signatures, data, now, Expiry::Refused).map(drop)
    }

    /// The same, but a signature counts also if the key's time is over; returns since when it is.
    pub fn verify_whenever(
        &self,
        signatures: &[u8],
        data: impl Read + Seek,
        now: u64,
    ) -> Result<Option<Moment>, BadSignature> {
        let ended = self.verify_if(signatures, data, now, Expiry::Told)?.ended(timestamp(now));
        Ok(ended.map(moment))
    }

    fn verify_if(
        &self,
        signatures: &[u8],
        mut data: impl Read + Seek,
        now: u64,
        expiry: Expiry,
    ) -> Result<Period, BadSignature> {
        let signatures = read_signatures(signatures)?;
        let mut problem = None;
        for signature in &signatures {
            let Some(part) = self.issuer(signature) else { continue };
            match self.verify_one(signature, part, &mut data, timestamp(now), expiry) {
                Ok(period) => return Ok(period),
                Err(bad) => drop(problem.get_or_insert(bad)),
            }
        }
        Err(problem.unwrap_or_else(|| match signatures.first() {
            Some(signature) => BadSignature(format!("it is by {}, not by key {}", issuer_name(signature), self.id())),
            None => BadSignature::new("it has no signature that can be read"),
        }))
    }

    /// Whether one of these signatures says that it is by a key of this certificate.
    pub fn is_named_by(&self, signatures: &[u8]) -> bool {
        read_signatures(signatures).is_ok_and(|signatures| signatures.iter().any(|one| self.issuer(one).is_some()))
    }

    /// The key that a signature says it is by.
    fn issuer(&self, signature: &Signature) -> Option<Part<'_>> {
        let (fingerprints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
        self.parts().find(|part| {
            let fingerprint = part.fingerprint();
            let is_id = || fingerprints.is_empty() && ids.contains(&&part.legacy_key_id());
            fingerprints.contains(&&fingerprint) || is_id()
        })
    }

    fn verify_one(
        &self,
        signature: &Signature,
        part: Part,
        data: &mut (impl Read + Seek),
        now: Timestamp,
        expiry: Expiry,
    ) -> Result<Period, BadSignature> {
        if signature.typ() != Some(SignatureType::Binary) {
            return Err(BadSignature::new("it is not over exact bytes, but over a text or something else"));
        }
        certificate::sound(signature, now).map_err(|unsound| BadSignature(format!("it {unsound}")))?;
        let period = self.judge(part, now, expiry).map_err(|unfit| BadSignature(format!("{part} {unfit}")))?;
        let made = signature.created().unwrap_or_default();
        let is_within = match expiry {
            Expiry::Refused => period.contains(made),
            Expiry::Told => period.has_begun(made),
        };
        if !is_within {
            return Err(BadSignature(format!("it was made at {}, when {part} was not valid", moment(made))));
        }
        data.seek(SeekFrom::Start(0)).map_err(BadSignature::new)?;
        let verified = match part {
            Part::Primary(key) => signature.verify(key, data),
            Part::Subkey(subkey) => signature.verify(&subkey.key, data),
        };
        verified.map_err(|error| BadSignature(format!("it does not fit what it is to be over: {error}")))?;
        Ok(period)
    }
}

fn read_signatures(bytes: &[u8]) -> Result<Vec<Signature>, BadSignature> {
    let is_packet = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let read = if is_packet {
        DetachedSignature::from_bytes_many(bytes)
    } else {
        DetachedSignature::from_armor_many_buf(bytes).map(|(signatures, _)| signatures)
    };
    let bad = |error| BadSignature(format!("it is no detached signature of OpenPGP: {error}"));
    let signatures = read.map_err(bad)?.take(MOST_SIGNATURES);
    signatures.map(|read| read.map(|detached| detached.signature).map_err(bad)).collect()
}

/// The keys that signatures say they are by.
pub fn issuers(signatures: &[u8]) -> Result<Vec<String>, BadSignature> {
    Ok(read_signatures(signatures)?.iter().map(issuer_name).collect())
}

/// Signatures as texts, one each.
pub fn armored(signatures: &[u8]) -> Result<Vec<String>, BadSignature> {
    let armored = |signature| DetachedSignature::new(signature).to_armored_string(ArmorOptions::default());
    let texts: Result<_, _> = read_signatures(signatures)?.into_iter().map(armored).collect();
    texts.map_err(BadSignature::new)
}

fn issuer_name(signature: &Signature) -> String {
    match (signature.issuer_fingerprint().first(), signature.issuer_key_id().first()) {
        (Some(fingerprint), _) => format!("key {fingerprint:X}"),
        (None, Some(id)) => format!("key {}", id.to_string().to_uppercase()),
        (None, None) => "a key that it does not name".to_owned(),
    }
}

/// Makes a key pair: one Ed25519 key that certifies and signs, in the form that all versions of GnuPG since 2.1 know.
pub fn generate(name: &str, password: Option<&str>, now: u64) -> anyhow::Result<KeyTexts> {
    let user_id: String = name.chars().filter(|character| !character.is_control()).collect();
    let mut params = SecretKeyParamsBuilder::default();
    params
        .key_type(KeyType::Ed25519Legacy)
        .created_at(timestamp(now))
        .can_certify(true)
        .can_sign(true)
        .preferred_hash_algorithms(vec![HashAlgorithm::Sha512, HashAlgorithm::Sha256].into())
        .passphrase(password.map(str::to_owned))
        .primary_user_id(format!("{user_id} (crateferry)"));
    let key = params.build()?.generate(OsRng)?;
    let public = key.to_public_key();
    Ok(KeyTexts {
        id: format!("{:X}", public.fingerprint()),
        secret: key.to_armored_string(ArmorOptions::default())?,
        public: public.to_armored_string(ArmorOptions::default())?,
    })
}
