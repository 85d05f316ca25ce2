//! A certificate authority for one run, and the certificate that it gives to the web server.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// The files of a certificate chain, PEM.
pub struct Certificates {
    /// What clients must trust.
    pub authority: PathBuf,
    /// What the server shows.
    pub leaf: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes an authority and a certificate for `localhost`, and writes them to this folder.
    pub fn write(folder: &Path) -> anyhow::Result<Self> {
        let files = Certificates {
            authority: folder.join("ca.pem"),
            leaf: folder.join("leaf.pem"),
            key: folder.join("leaf.key"),
        };
        let (authority_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let authority = authority();
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let leaf_pem = leaf()?.signed_by(&key, &Issuer::new(authority, authority_key))?.pem();
        for (path, text) in
            [(&files.authority, authority_pem), (&files.leaf, leaf_pem), (&files.key, key.serialize_pem())]
        {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(files)
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.distinguished_name.push(DnType::CommonName, "bench registry");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
