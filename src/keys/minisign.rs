//! Keys and signatures in minisign's formats. The only place that knows the crate for them.

use std::io::{Read, Seek};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox, SignatureBox};

use super::{BadSignature, KeyTexts, PASSWORD_HINT};

/// A secret key, ready for use.
pub struct Secret(SecretKey);

impl Secret {
    /// Reads a key, with its password if it has one.
    pub fn read(bytes: &[u8], password: Option<&str>) -> anyhow::Result<Secret> {
        let text = str::from_utf8(bytes).context("it is neither a key of minisign nor one of OpenPGP")?;
        let boxed = || SecretKeyBox::from_string(text);
        let open = boxed().and_then(SecretKeyBox::into_unencrypted_secret_key);
        let key = match (open.or_else(|error| without_checksum(text).ok_or(error)), password) {
            (Ok(key), _) => key,
            // Only with a password: without one, the library asks at the terminal.
            (Err(_), Some(password)) => boxed()?.into_secret_key(Some(password.to_owned()))?,
            (Err(error), None) => return Err(anyhow::Error::from(error).context(PASSWORD_HINT)),
        };
        Ok(Secret(key))
    }

    /// The id that the public key has, too.
    pub fn id(&self) -> String {
        id(self.0.keynum())
    }

    /// The text of a signature over all bytes.
    pub fn sign(&self, data: impl Read, file_name: &str) -> anyhow::Result<String> {
        let comment = format!("file:{}", one_line(file_name));
        let signature = minisign::sign(None, &self.0, data, Some(&comment), Some("signature by crateferry"));
        Ok(signature?.into_string())
    }
}

/// A key without a password that minisign itself made: it fills the checksum, which tells a right password from a wrong one, with zeros.
fn without_checksum(text: &str) -> Option<SecretKey> {
    let bytes = BASE64.decode(text.lines().nth(1)?).ok()?;
    let checksum = bytes.last_chunk::<32>()?;
    let key = SecretKey::from_bytes(&bytes).ok()?;
    (checksum == &[0; 32] && !key.is_encrypted()).then_some(key)
}

/// A comment is a line.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn id(keynum: &[u8]) -> String {
    let bytes = keynum.first_chunk().copied().unwrap_or_default();
    format!("{:016X}", u64::from_le_bytes(bytes))
}

/// A public key.
pub struct Public(PublicKey);

impl Public {
    /// The key itself, as it stands in the second line of its file.
    pub fn from_line(text: &str) -> Option<Public> {
        PublicKey::from_base64(text).ok().map(Public)
    }

    /// Reads a key's file.
    pub fn read(bytes: &[u8]) -> anyhow::Result<Public> {
        let text = str::from_utf8(bytes).context("it is neither a key of minisign nor one of OpenPGP")?;
        Ok(Public(minisign::PublicKeyBox::from_string(text)?.into_public_key()?))
    }

    /// The key's id.
    pub fn id(&self) -> String {
        id(self.0.keynum())
    }

    /// The key itself, as it stands in the second line of its file.
    pub fn line(&self) -> String {
        self.0.to_base64()
    }

    /// Whether the key's owner signed these bytes.
    pub fn verify(&self, signature: &[u8], data: impl Read + Seek) -> Result<(), BadSignature> {
        let signature = read_signature(signature)?;
        minisign::verify(&self.0, &signature, data, true, false, false).map_err(BadSignature::new)
    }
}

/// The id of the key that a signature says it is by.
pub fn issuer(signature: &[u8]) -> Result<String, BadSignature> {
    Ok(id(read_signature(signature)?.keynum()))
}

fn read_signature(bytes: &[u8]) -> Result<SignatureBox, BadSignature> {
    let text = str::from_utf8(bytes).map_err(|_| BadSignature::new("it is no signature of minisign"))?;
    // The library takes it for granted that the signature over the comment has all of its 64 bytes.
    let over_comment = text.lines().nth(3).and_then(|line| BASE64.decode(line.trim()).ok());
    if over_comment.is_none_or(|signature| signature.len() != 64) {
        return Err(BadSignature::new("it is a part of a signature of minisign, or none"));
    }
    SignatureBox::from_string(text).map_err(BadSignature::new)
}

/// Makes a key pair.
pub fn generate(password: Option<&str>) -> anyhow::Result<KeyTexts> {
    let KeyPair { pk, sk } = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned()))?,
        None => KeyPair::generate_unencrypted_keypair()?,
    };
    let id = id(pk.keynum());
    let secret = sk.to_box(Some(&format!("crateferry secret key {id}")))?.into_string();
    Ok(KeyTexts { id, secret, public: pk.to_box()?.into_string() })
}
