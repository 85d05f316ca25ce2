//! Which keys of a certificate may sign, and from when to when.
//!
//! A certificate is a primary key with user ids and subkeys. What each of them may do is said by signatures that the primary key made
//! over them; the newest one counts. What was revoked once stays revoked, whatever the reason: a revocation can be dated back.
//! Where implementations differ, the stricter reading is taken, since whoever is refused can make a better key or renew this one.

use std::fmt;

use jiff::Timestamp as Moment;
use pgp::composed::{ArmorOptions, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, Fingerprint, KeyDetails, KeyId, KeyVersion, PublicParams, SignedUser, Tag, Timestamp};

/// How far clocks may differ, in seconds: those of two sides of a gap are set by hand.
const CLOCK_SLACK: u32 = 24 * 60 * 60;

const SMALLEST_RSA: u16 = 2048;

/// A public key with all that belongs to it.
pub struct Certificate(SignedPublicKey);

/// One key of a certificate.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Primary(&'a pgp::packet::PublicKey),
    Subkey(&'a SignedPublicSubKey),
}

/// Why a key may not sign: what can be said behind its name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("was revoked")]
    Revoked,
    #[error("expired at {0}; its owner can renew it and hand out the public key again")]
    Expired(Moment),
    #[error("was made at {0}, which is later than this computer's clock says")]
    NotYet(Moment),
    #[error("is not a key for signing: it has no flag that says so")]
    NoFlag,
    #[error("is of an algorithm, size or version that is not accepted: {0}")]
    Weak(String),
    #[error("is not bound to its certificate by a signature that counts: {0}")]
    Unbound(Unsound),
    #[error("cannot sign, since the primary key {0}")]
    Primary(Box<Unfit>),
}

/// Why a signature does not count, whoever made it: what can be said behind its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    #[error("is missing")]
    Missing,
    #[error("is of a version that is not accepted")]
    Version,
    #[error("uses {0}, which is broken or not accepted")]
    Hash(HashAlgorithm),
    #[error("has a critical part that is not understood")]
    Critical,
    #[error("does not say when it was made")]
    Undated,
    #[error("was made at {0}, which is later than this computer's clock says")]
    NotYet(Moment),
    #[error("expired at {0}")]
    Expired(Moment),
    #[error("is not by the key that it names")]
    Forged,
}

/// What the end of a key's time by the calendar means to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Its signatures are refused.
    Refused,
    /// They are taken; whoever asks says that the time is over.
    Told,
}

/// When a key may sign: from its making to before its end.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    from: Timestamp,
    to: Option<Timestamp>,
}

impl Period {
    /// Whether a moment lies in it.
    pub fn contains(self, moment: Timestamp) -> bool {
        self.has_begun(moment) && self.to.is_none_or(|to| moment < to)
    }

    /// Whether it begins before a moment, or with it.
    pub fn has_begun(self, moment: Timestamp) -> bool {
        self.from <= moment
    }

    /// When it ended, if that was before a moment.
    pub fn ended(self, moment: Timestamp) -> Option<Timestamp> {
        self.to.filter(|to| *to <= moment)
    }

    /// The same, but it ends with the other at the latest.
    fn within(self, other: Period) -> Period {
        let to = [self.to, other.to].into_iter().flatten().min();
        Period { from: self.from, to }
    }
}

impl Part<'_> {
    pub fn is_subkey(self) -> bool {
        matches!(self, Part::Subkey(_))
    }

    fn details(&self) -> &dyn KeyDetails {
        match self {
            Part::Primary(key) => *key,
            Part::Subkey(subkey) => &subkey.key,
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.details().fingerprint()
    }

    pub fn legacy_key_id(&self) -> KeyId {
        self.details().legacy_key_id()
    }

    pub fn created_at(&self) -> Timestamp {
        self.details().created_at()
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_subkey() { "subkey" } else { "key" };
        write!(f, "{what} {:X}", self.fingerprint())
    }
}

impl Certificate {
    pub fn new(key: SignedPublicKey) -> Certificate {
        Certificate(key)
    }

    /// The certificate, armored.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(self.0.to_armored_string(ArmorOptions::default())?)
    }

    /// The fingerprint of the primary key.
    pub fn id(&self) -> String {
        format!("{:X}", self.0.primary_key.fingerprint())
    }

    /// All keys.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let subkeys = self.0.public_subkeys.iter().map(Part::Subkey);
        std::iter::once(Part::Primary(&self.0.primary_key)).chain(subkeys)
    }

    /// When a key may sign, if it may now, or might if its time were not over.
    pub fn judge(&self, part: Part, now: Timestamp, expiry: Expiry) -> Result<Period, Unfit> {
        let (period, signs) = match part {
            Part::Primary(_) => self.judge_primary(now, expiry)?,
            Part::Subkey(subkey) => {
                let primary = self.judge_primary(now, expiry).map_err(|unfit| Unfit::Primary(Box::new(unfit)))?;
                let (period, signs) = self.judge_subkey(subkey, now, expiry)?;
                (period.within(primary.0), signs)
            }
        };
        if signs { Ok(period) } else { Err(Unfit::NoFlag) }
    }

    /// When the primary key is valid, and whether it signs.
    fn judge_primary(&self, now: Timestamp, expiry: Expiry) -> Result<(Period, bool), Unfit> {
        let (key, details) = (&self.0.primary_key, &self.0.details);
        strong(key)?;
        // One by somebody else, whom the key names for it, cannot be verified here: it counts as well.
        let names_revoker = || details.direct_signatures.iter().any(|signature| signature.revocation_key().is_some());
        if details.revocation_signatures.iter().any(|signature| signature.verify_key(key).is_ok() || names_revoker()) {
            return Err(Unfit::Revoked);
        }
        let direct = || newest(&details.direct_signatures, now, |signature| signature.verify_key(key).is_ok());
        let users = || {
            let of_users = details.users.iter().map(|user| self.newest_of(user, now));
            of_users.reduce(younger).unwrap_or(Err(Unsound::Missing))
        };
        // Version 6 says it directly. Before, it was said with a user id, if the key has one.
        let signature = match key.version() {
            KeyVersion::V6 => direct(),
            _ => users().or_else(|unsound| direct().map_err(|_| unsound)),
        };
        granted(key, signature.map_err(Unfit::Unbound)?, now, expiry)
    }

    /// The newest signature over a user id, unless it was revoked after that.
    fn newest_of<'a>(&self, user: &'a SignedUser, now: Timestamp) -> Result<&'a Signature, Unsound> {
        let key = &self.0.primary_key;
        let own = |signature: &Signature| signature.verify_certification(key, Tag::UserId, &user.id).is_ok();
        let is_revocation = |signature: &Signature| signature.typ() == Some(SignatureType::CertRevocation);
        let found = newest(&user.signatures, now, |signature| !is_revocation(signature) && own(signature))?;
        let mut revocations = user.signatures.iter().filter(|signature| is_revocation(signature));
        let is_gone = revocations.any(|revocation| revocation.created() >= found.created() && own(revocation));
        if is_gone { Err(Unsound::Missing) } else { Ok(found) }
    }

    fn judge_subkey(
        &self,
        subkey: &SignedPublicSubKey,
        now: Timestamp,
        expiry: Expiry,
    ) -> Result<(Period, bool), Unfit> {
        let (primary, key) = (&self.0.primary_key, &subkey.key);
        strong(key)?;
        let own = |signature: &Signature| signature.verify_subkey_binding(primary, key).is_ok();
        let is_revocation = |signature: &Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
        if subkey.signatures.iter().any(|signature| is_revocation(signature) && own(signature)) {
            return Err(Unfit::Revoked);
        }
        let binding = newest(&subkey.signatures, now, |signature| !is_revocation(signature) && own(signature));
        let binding = binding.map_err(Unfit::Unbound)?;
        let (period, signs) = granted(key, binding, now, expiry)?;
        if signs {
            // Else anybody could take another's key for a subkey of theirs, and its signatures with it.
            let back = binding.embedded_signature().ok_or(Unfit::Unbound(Unsound::Missing))?;
            sound(back, now).map_err(Unfit::Unbound)?;
            back.verify_primary_key_binding(key, primary).map_err(|_| Unfit::Unbound(Unsound::Forged))?;
        }
        Ok((period, signs))
    }
}

/// The newest of the signatures that count; if there is none, why the last one does not.
fn newest(
    signatures: &[Signature],
    now: Timestamp,
    is_ours: impl Fn(&Signature) -> bool,
) -> Result<&Signature, Unsound> {
    let ours = signatures.iter().filter(|signature| is_ours(signature));
    let judged = ours.map(|signature| sound(signature, now).map(|()| signature));
    judged.reduce(younger).unwrap_or(Err(Unsound::Missing))
}

fn younger<'a>(
    before: Result<&'a Signature, Unsound>,
    after: Result<&'a Signature, Unsound>,
) -> Result<&'a Signature, Unsound> {
    match (before, after) {
        (Ok(before), Ok(after)) if before.created() > after.created() => Ok(before),
        (Ok(before), Err(_)) => Ok(before),
        (Err(before), Err(Unsound::Missing)) => Err(before),
        (_, after) => after,
    }
}

/// Whether a signature counts, as far as it can be said without the key.
pub fn sound(signature: &Signature, now: Timestamp) -> Result<(), Unsound> {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha224, Sha256, Sha384, Sha512};
    let config = signature.config().ok_or(Unsound::Version)?;
    if !matches!(config.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(Unsound::Version);
    }
    if !matches!(config.hash_alg, Sha224 | Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512) {
        return Err(Unsound::Hash(config.hash_alg));
    }
    let unknown = |data: &SubpacketData| {
        matches!(data, SubpacketData::Other(..) | SubpacketData::Experimental(..) | SubpacketData::Notation(_))
    };
    if config.hashed_subpackets().any(|subpacket| subpacket.is_critical && unknown(&subpacket.data)) {
        return Err(Unsound::Critical);
    }
    let created = signature.created().ok_or(Unsound::Undated)?;
    if is_future(created, now) {
        return Err(Unsound::NotYet(moment(created)));
    }
    let seconds = signature.signature_expiration_time().map_or(0, Duration::as_secs);
    match end(created, seconds) {
        Some(end) if end <= now => Err(Unsound::Expired(moment(end))),
        _ => Ok(()),
    }
}

/// What a signature of the primary key grants to a key: until when it is valid, and whether it signs.
fn granted(
    key: &impl KeyDetails,
    signature: &Signature,
    now: Timestamp,
    expiry: Expiry,
) -> Result<(Period, bool), Unfit> {
    let from = key.created_at();
    if is_future(from, now) {
        return Err(Unfit::NotYet(moment(from)));
    }
    let seconds = signature.key_expiration_time().map_or(0, Duration::as_secs);
    let to = end(from, seconds);
    match to {
        Some(end) if end <= now && expiry == Expiry::Refused => Err(Unfit::Expired(moment(end))),
        _ => Ok((Period { from, to }, signature.key_flags().sign())),
    }
}

/// Whether a key is of a kind that nobody can break.
fn strong(key: &impl KeyDetails) -> Result<(), Unfit> {
    let weak = |what: String| Err(Unfit::Weak(what));
    if !matches!(key.version(), KeyVersion::V4 | KeyVersion::V6) {
        return weak(format!("{:?}", key.version()));
    }
    match key.public_params() {
        PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) | PublicParams::Ed448(_) | PublicParams::ECDSA(_) => {
            Ok(())
        }
        PublicParams::RSA(params) => {
            // It begins with the modulus, whose first two bytes are its length in bits.
            let written = params.to_bytes().unwrap_or_default();
            let bits = written.first_chunk().map_or(0, |bits| u16::from_be_bytes(*bits));
            if bits < SMALLEST_RSA { weak(format!("RSA of {bits} bits")) } else { Ok(()) }
        }
        _ => weak(format!("{:?}", key.algorithm())),
    }
}

fn is_future(moment: Timestamp, now: Timestamp) -> bool {
    moment.as_secs() > now.as_secs().saturating_add(CLOCK_SLACK)
}

/// So many seconds after a moment; none is for ever.
fn end(from: Timestamp, seconds: u32) -> Option<Timestamp> {
    (seconds > 0).then(|| Timestamp::from_secs(from.as_secs().saturating_add(seconds)))
}

/// For people.
pub fn moment(timestamp: Timestamp) -> Moment {
    Moment::from_second(timestamp.as_secs().into()).unwrap_or_default()
}

/// OpenPGP's times end in 2106.
pub fn timestamp(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds.try_into().unwrap_or(u32::MAX))
}
