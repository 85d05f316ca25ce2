//! TLS: certificates from files, taken up again when they change, without a connection being dropped.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::report::usage;

/// A certificate chain and its key, as the files have them now.
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    seen: Mutex<[Option<SystemTime>; 2]>,
}

impl Certificates {
    /// Reads both files, PEM.
    pub fn read(chain: &Path, key: &Path) -> anyhow::Result<Certificates> {
        let seen = Mutex::new([modified(chain), modified(key)]);
        let config = ArcSwap::from_pointee(config(chain, key)?);
        Ok(Certificates { chain: chain.to_owned(), key: key.to_owned(), config, seen })
    }

    /// What takes the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Reads the files again if they changed. New connections get the new certificate; if it cannot be used, the old one.
    pub fn follow(&self) {
        let now = [modified(&self.chain), modified(&self.key)];
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        drop(seen);
        match config(&self.chain, &self.key) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                tracing::info!(chain = %self.chain.display(), "serving with the new certificate");
            }
            Err(error) => tracing::warn!("{error:#}; the old certificate stays in use"),
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn config(chain: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let unreadable = |path: &Path, what: &str| format!("cannot read {what} of {}", path.display());
    let certificates = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates =
        certificates.map_err(|error| usage(format!("{}: {error}", unreadable(chain, "the certificates"))))?;
    if certificates.is_empty() {
        return Err(usage(format!("{} holds no certificate in PEM form", chain.display())));
    }
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.map_err(|error| usage(format!("{}: {error}", unreadable(key, "the private key"))))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .with_context(|| format!("certificate {} and key {} cannot be used", chain.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
